package frontend_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/server/text"
	"coord/tree"
	"coord/tree/znode"
)

// tokens are the parts of the random input, so that some of it is meaningful.
var tokens = []string{
	"GET", "SET", "TXN", "CREATE", "RM", "AUTH", "SNAPSHOT", "HELLO", "FORMAT", "CAT", "QUIT", "TREE", "CHECK", "ruok", "mntr", "stat", "@x", "@",
	"/a", "/", "/a/b", "//", "/\xff", "v=1", "v=-1", "v=99999999999", "limit=0", "limit=2147483647", "after=", "depth=1", "acl=", "acl=auth::r",
	"json", "b64", "digest", ":3", ":0", ":-1", ":99999999999999999999", ":16777217", `"`, `"x"`, `\`, `"\x`, "\n", "\n", "\n", "\r\n", "\r\x00", "\x00",
	"\xff\xf4", "\xff\xfa", "\xff\xf0", "\xff\xff", "HTTP/1.1", "Host:", "POST", " ", " ", " ", "3", "1000", "0", "\t", "\x16", "data", "stat", "lin",
}

var answerForm = regexp.MustCompile(`^(@\S* )?(OK|DATA|LIST|ITEM|ERR|DATA64|\{)`)

// TestRandomBytes: whatever the input, the server answers in its protocol, ends the connection when
// it must, and works normally afterwards.
func TestRandomBytes(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 300 {
		var in strings.Builder
		for range r.IntN(80) {
			if r.IntN(20) == 0 {
				in.WriteByte(byte(r.Uint32()))
			} else {
				in.WriteString(tokens[r.IntN(len(tokens))])
				if r.IntN(3) > 0 {
					in.WriteByte(" \n"[r.IntN(2)])
				}
			}
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.pipes()
			c := p.open(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)})
			go func() {
				c.say(in.String())
				_ = c.CloseWrite()
			}()
			<-c.done
			if got := c.got.String(); got != "" && !answerForm.MatchString(got) && !strings.HasPrefix(got, "imok") &&
				!strings.Contains(got, "whitelist") && !strings.HasPrefix(got, "zk_") {
				t.Errorf("seed %d: %q gets %q", seed, in.String(), got)
			}
			other := p.open(home)
			other.say("PING\n")
			synctest.Wait()
			if other.got.String() != "OK pong\n" {
				t.Errorf("seed %d: behind %q", seed, in.String())
			}
		})
	}
}

// TestSilentConnections: a thousand connections that never send cost little and are gone after ten
// seconds.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, direct)
		p := w.pipes()
		var all []*duplex
		for i := range 1000 {
			all = append(all, p.dial(&net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i))}))
		}
		c := p.open(home)
		c.say("PING\n")
		synctest.Wait()
		if c.got.String() != "OK pong\n" {
			t.Errorf("got %q", c.got.String())
		}
		time.Sleep(frontend.FirstLineTime)
		synctest.Wait()
		for _, d := range all {
			if n, err := d.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Fatalf("%d, %v", n, err)
			}
		}
		c.say("INFO\n")
		synctest.Wait()
		if !strings.Contains(c.got.String(), "num_alive_connections value=1\n") {
			t.Error(c.got.String())
		}
	})
}

// TestCutConnections: wherever a connection breaks, half a request is never executed, and the
// goroutines end.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	const in = "CREATE /a :10\n0123456789\nTXN 2\nCREATE /b :3\nabc\nCREATE /c x\nSET /a y\nGET /a\nSNAPSHOT\nCREATE /d x\n"
	whole := map[int]string{ // at these lengths one more request is complete
		strings.Index(in, "TXN"): "/a", strings.Index(in, "SET"): "/b", len(in): "/d",
	}
	for cut := range len(in) + 1 {
		for _, half := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.node.snapshot = func(_ context.Context, out io.Writer) error {
					for range 10 {
						if _, err := out.Write(make([]byte, 100_000)); err != nil {
							return err
						}
					}
					return nil
				}
				p := w.pipes()
				c := p.open(home)
				w.hold()
				go func() {
					c.say(in[:cut])
					if half {
						_ = c.CloseWrite()
					} else {
						_ = c.Close()
					}
				}()
				synctest.Wait()
				w.release()
				<-c.done
				synctest.Wait()
				other := p.open(home)
				other.say("TREE / depth=1\nINFO\n")
				synctest.Wait()
				got := other.got.String()
				for at, path := range whole {
					has := strings.Contains(got, "ITEM "+path+"\n")
					if cut < at && has || half && cut >= at && !has {
						t.Errorf("cut at %d: %s is there: %v", cut, path, has)
					}
				}
				if !strings.Contains(got, "num_alive_connections value=1\n") || !strings.Contains(got, "outstanding_requests value=0\n") {
					t.Errorf("cut at %d: %s", cut, got)
				}
			})
		}
	}
}

// TestErrorFlood: a client whose requests are all invalid gets all the errors, and the server's
// memory does not grow with them.
func TestErrorFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, direct)
	const n = 50_000
	got := ask(t, w.tcp(), "PING\n"+strings.Repeat("X\n", n)) // without a valid line it would have to be over within FirstLineTime
	if lines := strings.Count(got, "ERR UNKNOWN"); lines != n {
		t.Errorf("%d answers", lines)
	}
}

// TestClientsThatDoNotRead: clients that do not read do not disturb the others.
func TestClientsThatDoNotRead(t *testing.T) { // not parallel: it measures the memory in use
	w := newWorld(t)
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/big", Data: make([]byte, 1<<20), ACL: znode.OpenACL})
	addr := w.tcp()
	for i := range 20 {
		deaf := dial(t, addr)
		_ = deaf.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = io.WriteString(deaf, strings.Repeat([]string{"GET /big\n", "SET / x\nGET /big\n", "TREE / data\n"}[i%3], 2000))
	}
	c := dial(t, addr)
	for i := range 200 {
		r := c.ask(fmt.Sprintf("SET / %d\n", i))
		if g := c.ask("GET /\n"); r.Kind.String() != "OK" || string(g.Data) != fmt.Sprint(i) && string(g.Data) != "x" {
			t.Fatalf("%v %q", r, g.Data)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapInuse > 1<<30 {
		t.Errorf("%d MB in use", m.HeapInuse>>20)
	}
}

// TestTheLastAnswerArrives: the server ends the connection while the client still sends; the client
// gets the last answer and an orderly end of the stream.
func TestTheLastAnswerArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := w.tcp()
	for _, tt := range []struct{ in, want string }{
		{"POST / HTTP/1.1\r\n", "ERR PROTOCOL\r\n"},
		{"QUIT\n", "OK bye\n"},
		{"CREATE /a :3\nabcd\n", "ERR PROTOCOL\n"},
		{"ruok", "imok"},
	} {
		for tries := 1; ; tries++ {
			c := dial(t, addr)
			stop, stopped := make(chan struct{}), make(chan error)
			start := time.Now()
			c.send(tt.in)
			go func() {
				for {
					select {
					case <-stop:
						stopped <- nil
						return
					default:
					}
					if _, err := c.Write(make([]byte, 10_000)); err != nil {
						stopped <- err
						return
					}
				}
			}()
			got, err := io.ReadAll(c)
			close(stop)
			stalled := time.Since(start) > frontend.LingerTime // the server need not read for longer
			sending := <-stopped
			_ = c.Close()
			if stalled && tries < 20 {
				continue
			}
			if err != nil || plain(string(got)) != tt.want {
				t.Errorf("%q: got %q, %v", tt.in, got, err)
			}
			if sending != nil {
				t.Errorf("%q: %v while sending", tt.in, sending)
			}
			break
		}
	}
}

// TestAllAtOnce is for the race detector: many connections use everything while the tree changes,
// and the server stops in the middle.
func TestAllAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t, func(cfg *frontend.Config, b *backend) {
		cfg.FourLetter = []string{"*"}
		b.burst = func() int { return 1 + rand.IntN(50) }
	})
	w.node.snapshot = func(ctx context.Context, out io.Writer) error {
		for range 5 {
			if _, err := out.Write(make([]byte, 1000)); err != nil || ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	}
	addrs := []string{w.tcp(), w.tcp()}
	var clients sync.WaitGroup
	var answered sync.WaitGroup
	const n = 24
	answered.Add(n)
	for i := range n {
		clients.Go(func() {
			said := false
			defer func() {
				if !said {
					answered.Done()
				}
			}()
			for round := range 100 {
				c, err := net.Dial("tcp", addrs[i%2])
				if err != nil {
					return
				}
				in := []string{
					fmt.Sprintf("CREATE /k%d x\nSET /k%d y\nGET /k%d\nLS /\nTREE / data stat\nQUIT\n", i, i, i),
					"FORMAT json\nSET / create x\nGET / lin\nINFO\nTXN 2\nSET / z\nCHECK /\nQUIT\n",
					"mntr", "SNAPSHOT\nSYNC /\nHELLO zxid=0x100000001\nQUIT\n",
					"CREATE /e x\nRM /e\nCAT /\n", "AUTH digest a :1\nb\nCREATE /s" + fmt.Sprint(i) + " acl=auth::r x\nSETACL / world:anyone:cdrwa\nFROB\nCAT /\n",
					"SET / :5\nab",
				}[(i+round)%7]
				_, _ = io.WriteString(c, in)
				if (i+round)%7 == 6 {
					_ = c.Close()
					continue
				}
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_, err = io.Copy(io.Discard, c)
				_ = c.Close()
				if !said {
					said = true
					answered.Done()
				}
				if err != nil {
					return
				}
			}
		})
	}
	answered.Wait()
	w.stop()
	w.served.Wait()
	clients.Wait()
	w.end()
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 })
}

// TestSnapshotSum: the checksum at the end is that of the bytes of all chunks.
func TestSnapshotSum(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	w.node.zxid = 9
	w.node.snapshot = func(_ context.Context, out io.Writer) error {
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(90_000))
			if _, err := out.Write(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	}
	c := dial(t, w.tcp())
	var r text.Reply
	if r = c.ask("@s SNAPSHOT min=0x9\n"); r.Tag != "s" || r.Zxid("zxid") != 9 {
		t.Errorf("%+v", r)
	}
	var got []byte
	for r = c.reply(); r.Kind.String() == "CHUNK"; r = c.reply() {
		got = append(got, r.Data...)
	}
	if r.Tag != "s" || r.Kind.String() != "END" || r.Str("sha256") != fmt.Sprintf("%x", sha256.Sum256(data)) || string(got) != string(data) {
		t.Errorf("%+v, %d bytes", r, len(got))
	}
	if r = c.ask("SNAPSHOT min=0xa\n"); r.Code != znode.ErrTimeout {
		t.Errorf("%+v", r)
	}
	w.node.err = znode.ErrShutdown
	if r = c.ask("SNAPSHOT\n"); r.Code != znode.ErrShutdown {
		t.Errorf("%+v", r)
	}
	w.node.err = nil
	w.node.snapshot = func(_ context.Context, out io.Writer) error {
		_, _ = io.WriteString(out, "part")
		return fmt.Errorf("the disk is gone")
	}
	c.send("SNAPSHOT\nPING\n")
	if got := plain(c.rest()); got != "OK zxid=0x9\nCHUNK 4\npart\nERR INTERNAL\n" {
		t.Errorf("a stream that fails: %q", got)
	}
}

// TestMaxSnapshots: streams beyond the limit are refused, and there is room again when one has
// ended.
func TestMaxSnapshots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	w.node.snapshot = func(_ context.Context, out io.Writer) error {
		<-release
		_, err := out.Write([]byte("x"))
		return err
	}
	addr := w.tcp()
	for range frontend.MaxSnapshots {
		if r := dial(t, addr).ask("SNAPSHOT\n"); r.Code != znode.OK {
			t.Fatalf("%+v", r)
		}
	}
	last := dial(t, addr)
	if r := last.ask("SNAPSHOT\n"); r.Code != znode.ErrLimit {
		t.Errorf("%+v", r)
	}
	close(release)
	for last.ask("SNAPSHOT\n").Code == znode.ErrLimit { // until one of the others has ended
		time.Sleep(time.Millisecond)
	}
}
