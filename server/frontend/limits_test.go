package frontend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// TestRequestLimits checks the limits of a request, and the errors of requests that exceed them.
func TestRequestLimits(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct{ name, in, want string }{
		{"a line", "PING\nCREATE /a " + long(16<<10-len("CREATE /a ")) + "\nPING\n", "OK pong\nOK path=/a v=0 zxid=0x100000001\nOK pong\n"},
		{"a longer line", "PING\nCREATE /a " + long(16<<10-len("CREATE /a ")+1) + "\nPING\n", "OK pong\nERR TOOBIG\nOK pong\n"},
		{"a value", "CREATE /a :1048576\n" + long(1<<20) + "\nPING\n", "OK path=/a v=0 zxid=0x100000001\nOK pong\n"},
		{"a longer value", "@b CREATE /a :1048577\n" + long(1<<20+1) + "\nPING\n", "@b ERR TOOBIG\nOK pong\n"},
		{"a value past skipping", "CREATE /a :16777217\nxx", "ERR TOOBIG\n"},
		{"a TXN of 1,000", "TXN 1000\n" + strings.Repeat("SET / x\n", 1000) + "PING\n", "LIST 1000 zxid=0x100000001\n…OK pong\n"},
		{"a TXN of more", "TXN 1001\n" + strings.Repeat("SET / x\n", 1001) + "PING\n", "ERR LIMIT\n"},
		{"a TXN of too many bytes", "PING\nTXN 2\nSET / :700000\n" + long(700000) + "\nSET / :700000\n" + long(700000) + "\nPING\n", "OK pong\nERR TOOBIG op=1\nOK pong\n"},
		{"a tag", "@" + long(64) + " PING\n@" + long(65) + " PING\n", "@" + long(64) + " OK pong\nERR SYNTAX\n"},
		{"a path", "CREATE /" + long(znode.MaxPathBytes-1) + " v\nPING\n", "OK path=/" + long(znode.MaxPathBytes-1) + " v=0 zxid=0x100000001\nOK pong\n"},
		{"a path in quotes", "PING\nCREATE \"/" + strings.Repeat(`\"`, znode.MaxPathBytes-1) + "\" v\n", "OK pong\nOK path=\"/" + strings.Repeat(`\"`, znode.MaxPathBytes-1) + "\" v=0 zxid=0x100000001\n"},
		{"a longer path", "EXISTS /" + long(znode.MaxPathBytes) + "\nPING\n", "ERR SYNTAX\nOK pong\n"},
		{"a first line", "CREATE /a " + long(frontend.FirstLineBytes-1-len("CREATE /a ")) + "\nPING\n", "OK path=/a v=0 zxid=0x100000001\nOK pong\n"},
		{"a longer first line", "CREATE /a " + long(frontend.FirstLineBytes-len("CREATE /a ")) + "\nPING\n", "ERR TOOBIG\n"},
		{"a first line without an end", long(1 << 20), "ERR TOOBIG\n"},
		{"users", users(1, frontend.MaxIdentities) + users(1, 3) + users(frontend.MaxIdentities+1, frontend.MaxIdentities+1) + "PING\n",
			okUsers(1, frontend.MaxIdentities) + okUsers(1, 3) + "ERR LIMIT\nOK pong\n"},
		{"a user", "PING\nAUTH digest " + long(frontend.MaxUserBytes-29) + " :2\npw\n", "OK pong\nOK user=" + long(frontend.MaxUserBytes-29) + "\n"},
		{"a longer user", "PING\nAUTH digest " + long(frontend.MaxUserBytes-28) + " :2\npw\nPING\n", "OK pong\nERR LIMIT\nOK pong\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, step := range []int{1 << 30, 4000, 997} {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, direct)
					c := w.pipes().open(home)
					for in := tt.in; len(in) > 0; {
						n := min(step, len(in))
						c.say(in[:n])
						in = in[n:]
					}
					_ = c.CloseWrite()
					<-c.done
					got := plain(c.got.String())
					if head, tail, ok := strings.Cut(tt.want, "…"); ok {
						if !strings.HasPrefix(got, head) || !strings.HasSuffix(got, tail) {
							t.Errorf("got %.100q", got)
						}
						return
					}
					same(t, got, tt.want)
				})
			}
		})
	}
}

func users(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "AUTH digest u%d :2\npw\n", i)
	}
	return b.String()
}

func okUsers(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "OK user=u%d\n", i)
	}
	return b.String()
}

// TestPipelineLimits: when more requests, or more bytes of them, are in flight than allowed, the
// server stops reading until some are answered.
func TestPipelineLimits(t *testing.T) {
	t.Parallel()
	payload := "SET / :102400\n" + strings.Repeat("x", 100<<10) + "\n"
	txn := "TXN 500\n" + strings.Repeat("RM /none\n", 500)
	for _, tt := range []struct {
		name, request string
		n, taken      int
	}{
		{"requests", "SET / x\n", 2500, frontend.MaxPipelined},
		{"bytes", payload, 30, 11},
		{"one large request", "SET / :1048576\n" + strings.Repeat("x", 1<<20) + "\n", 3, 1},
		{"ops", txn, 60, frontend.MaxInFlightBytes/(500*(128+9)) + 1},
		{"barriers", "SYNC /\n", 2500, frontend.MaxPipelined},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c := w.pipes().open(home)
				w.hold()
				go func() {
					c.say(strings.Repeat(tt.request, tt.n))
					_ = c.CloseWrite()
				}()
				synctest.Wait()
				if got := w.waiting(); got != tt.taken {
					t.Errorf("%d are taken, want %d", got, tt.taken)
				}
				w.allow(1)
				synctest.Wait()
				if got := w.waiting(); got != tt.taken {
					t.Errorf("%d are taken when one is answered, want %d", got, tt.taken)
				}
				w.release()
				<-c.done
				if got := strings.Count(c.got.String(), "\n"); got != tt.n {
					t.Errorf("%d answers, want %d", got, tt.n)
				}
			})
		})
	}
}

// TestQueuedAnswersAreBounded: reads and fixed answers after a pending write count too.
func TestQueuedAnswersAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.pipes().open(home)
		w.hold()
		const n = 5000
		go func() {
			c.say("SET / x\n" + strings.Repeat("HELP\n", n))
			_ = c.CloseWrite()
		}()
		synctest.Wait()
		other := w.pipes().open(home)
		other.say("srvr")
		<-other.done
		var outstanding int
		_, rest, _ := strings.Cut(other.got.String(), "Outstanding: ")
		if _, err := fmt.Sscan(rest, &outstanding); err != nil || outstanding < 2 || outstanding > frontend.MaxPipelined {
			t.Errorf("outstanding: %d, %v", outstanding, err)
		}
		w.release()
		<-c.done
		if got := strings.Count(c.got.String(), "LIST "); got != n {
			t.Errorf("%d answers", got)
		}
	})
}

// TestOutboxLimit: reads after a write are refused while too much waits for the client; it loses
// nothing else, and may go on.
func TestOutboxLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		value := strings.Repeat("v", 1<<20)
		w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", Data: []byte(value), ACL: znode.OpenACL})
		d := w.pipes().dial(home) // the client reads nothing
		w.hold()
		go func() {
			_, _ = io.WriteString(d, "SET / x\n"+strings.Repeat("@g GET /a\n", 20)+"@l LS /\n@s SET / y\n@c GET / lin\n")
		}()
		synctest.Wait()
		w.release()
		synctest.Wait()
		c := newCaller(d)
		synctest.Wait()
		answer := "@g DATA 1048576 v=0 zxid=0x100000002\n" + value + "\n"
		const refused = " ERR THROTTLED - too many replies are waiting for the client to read them\n"
		same(t, c.got.String(), "OK v=1 zxid=0x100000002\n"+strings.Repeat(answer, 4)+strings.Repeat("@g"+refused, 16)+
			"@l"+refused+"@s OK v=2 zxid=0x100000003\n@c"+refused)
		before := len(c.got.String())
		c.say("GET /a\nCAT /a\n")
		<-c.done
		if got := len(c.got.String()) - before; got < 2<<20 {
			t.Errorf("got %d bytes more", got)
		}
	})
}

// TestFirstLineTime: the client has ten seconds to send its first valid line, whatever it sends;
// after that there is no time limit.
func TestFirstLineTime(t *testing.T) {
	t.Parallel()
	never := time.Hour
	for _, tt := range []struct {
		name   string
		pieces []string // sent one per second
		closes time.Duration
		got    string
	}{
		{"nothing", nil, frontend.FirstLineTime, ""},
		{"a piece", []string{"PI"}, frontend.FirstLineTime, ""},
		{"byte by byte", strings.Split("CREATE /some/long/path x", ""), frontend.FirstLineTime, ""},
		{"blank lines", []string{"\n", "\n", "\n"}, frontend.FirstLineTime, ""},
		{"nonsense", []string{"FROB\n", "FROB\n"}, frontend.FirstLineTime, "ERR UNKNOWN\nERR UNKNOWN\n"},
		{"three letters", []string{"r", "u", "o"}, frontend.FirstLineTime, ""},
		{"a four-letter word in pieces", []string{"r", "u", "o", "k"}, 3 * time.Second, "imok"},
		{"a line", []string{"P", "ING\n"}, never, "OK pong\n"},
		{"a line and a piece", []string{"PING\nP"}, never, "OK pong\n"},
		{"a payload takes its time", []string{"SET / :10\n", "x"}, never, ""},
		{"a TXN takes its time", []string{"TXN 2\n", "SET / x\n"}, never, ""},
		{"a ZooKeeper frame, byte by byte", strings.Split("\x00\x00\x00,\x00\x00\x00\x00", ""), frontend.FirstLineTime, ""},
		{"too long a ZooKeeper frame", []string{"\x00\x00", "\x1f\xfd"}, time.Second, ""},
		{"TLS", []string{"\x16\x03\x01"}, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, direct)
				c := w.pipes().open(home)
				start := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for i, p := range tt.pieces {
						if i > 0 {
							time.Sleep(time.Second)
						}
						c.say(p)
					}
				}()
				select {
				case <-c.done:
					if after := time.Since(start); after != tt.closes {
						t.Errorf("closed after %s, want %s", after, tt.closes)
					}
				case <-time.After(never - time.Second):
					if tt.closes != never {
						t.Error("not closed")
					}
				}
				<-sent
				if got := plain(c.got.String()); got != tt.got {
					t.Errorf("got %q", got)
				}
			})
		})
	}
}

// TestWriteTime: a client that takes nothing is closed, and counted, whichever goroutine sends to
// it; no other client waits for it.
func TestWriteTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in string }{
		{"reads", strings.Repeat("GET /\n", 100)},
		{"writes", strings.Repeat("SET / x\n", 100)},
		{"a snapshot", "SNAPSHOT\n"},
		{"a word", "mntr"},
		{"quit", "QUIT\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.node.snapshot = func(_ context.Context, out io.Writer) error { _, err := io.WriteString(out, "abc"); return err }
				p := w.pipes()
				d := p.dial(home)
				start := time.Now()
				go func() { _, _ = io.WriteString(d, tt.in) }()
				synctest.Wait()
				other := p.open(home)
				other.say("SET / y\nGET /\n")
				synctest.Wait()
				if got := other.got.String(); !strings.HasSuffix(got, "\ny\n") {
					t.Errorf("another client got %q", got)
				}
				time.Sleep(frontend.WriteTime - time.Millisecond)
				if strings.Contains(w.log.String(), "does not read") {
					t.Error("closed too early")
				}
				time.Sleep(time.Second)
				b, err := io.ReadAll(d)
				if len(b) != 0 || err != nil || time.Since(start) > frontend.WriteTime+2*time.Second {
					t.Errorf("%d bytes, %v, after %s", len(b), err, time.Since(start))
				}
				other.say("INFO\n")
				synctest.Wait()
				if got := other.got.String(); !strings.Contains(got, "coord_slow_clients value=1\n") || !strings.Contains(got, "num_alive_connections value=1\n") {
					t.Errorf("INFO: %s", got)
				}
				if n := strings.Count(w.log.String(), "does not read"); n != 1 {
					t.Errorf("%d lines in the log", n)
				}
			})
		})
	}
}

// TestSlowLine: a client that takes what it is sent, but slowly, is not closed, however long it
// needs for all of it.
func TestSlowLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		value := strings.Repeat("v", 1<<20)
		w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", Data: []byte(value), ACL: znode.OpenACL})
		d := w.pipes().dial(home)
		go func() { _, _ = io.WriteString(d, "GET /a\nQUIT\n") }()
		var got []byte
		for piece := make([]byte, 100_000); ; {
			time.Sleep(frontend.WriteTime / 3)
			n, err := d.Read(piece)
			if got = append(got, piece[:n]...); err != nil {
				break
			}
		}
		same(t, string(got), "DATA 1048576 v=0 zxid=0x100000001\n"+value+"\nOK bye\n")
		time.Sleep(time.Second)
		if strings.Contains(w.log.String(), "does not read") {
			t.Error("it is said not to read")
		}
	})
}

// TestConnectionsOfAnAddress: the limit applies to each address separately, not to unix sockets,
// and a client that leaves makes room.
func TestConnectionsOfAnAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, direct, func(cfg *frontend.Config, _ *backend) { cfg.MaxClientConns = 3 })
		p := w.pipes()
		from := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1000} }
		talks := func(c *caller) bool {
			c.got.b.Reset()
			c.say("PING\n")
			synctest.Wait()
			return c.got.String() == "OK pong\n"
		}
		var first []*caller
		for _, addr := range []net.Addr{from("10.0.0.1"), from("::1"), from("fe80::1"), home} {
			for i := range 3 {
				c := p.open(addr)
				if !talks(c) {
					t.Errorf("connection %d of %s is refused", i, addr)
				}
				first = append(first, c)
			}
			c := p.open(addr)
			if talks(c) || !c.ended() || c.got.String() != "" {
				t.Errorf("one too many of %s is taken, or told %q", addr, c.got.String())
			}
		}
		if c := p.open(&net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.1")}); talks(c) {
			t.Error("an IPv4 address counts twice")
		}
		for range 10 {
			if c := p.open(&net.UnixAddr{Name: "@", Net: "unix"}); !talks(c) {
				t.Error("a unix socket is refused")
			}
		}
		_ = first[0].Close()
		synctest.Wait()
		if c := p.open(from("10.0.0.1")); !talks(c) {
			t.Error("no room though one has left")
		}
		if c := p.open(from("10.0.0.1")); talks(c) {
			t.Error("too much room")
		}
		first[3].say("INFO\n")
		synctest.Wait()
		if got := first[3].got.String(); !strings.Contains(got, "connection_rejected value=6\n") {
			t.Error(got)
		}
	})
}

// TestChunkLimit: a snapshot is sent in chunks of bounded size, however much is written at once.
func TestChunkLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, direct)
		w.node.snapshot = func(_ context.Context, out io.Writer) error {
			for _, n := range []int{10, 200_000, 0} {
				if m, err := out.Write(make([]byte, n)); m != n || err != nil {
					t.Errorf("%d, %v", m, err)
				}
			}
			return nil
		}
		c := w.pipes().open(home)
		c.say("SNAPSHOT\nQUIT\n")
		<-c.done
		var sizes []string
		for line := range strings.SplitSeq(strings.ReplaceAll(c.got.String(), "\x00", ""), "\n") {
			if n, ok := strings.CutPrefix(line, "CHUNK "); ok {
				sizes = append(sizes, n)
			}
		}
		if got := strings.Join(sizes, " "); got != "10 65536 65536 65536 3392" || !strings.HasSuffix(c.got.String(), " bytes=200010\nOK bye\n") {
			t.Errorf("chunks of %s", got)
		}
	})
}

// TestAcceptGoesOn: when it is out of descriptors, the server retries at a bounded rate; a broken
// listener ends the server and all connections.
func TestAcceptGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, direct)
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), errs: make(chan error)}
		ended := make(chan error, 1)
		go func() { ended <- w.front.Serve(w.ctx, p) }()
		start := time.Now()
		for i, number := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOMEM, syscall.EMFILE, syscall.EMFILE,
			syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE} {
			p.errs <- &net.OpError{Op: "accept", Err: number}
			if i == 10 && time.Since(start) < 2*time.Second {
				t.Errorf("eleven attempts in %s", time.Since(start))
			}
		}
		c := p.open(home)
		c.say("PING\n")
		synctest.Wait()
		if c.got.String() != "OK pong\n" {
			t.Fatalf("got %q", c.got.String())
		}
		p.errs <- &net.OpError{Op: "accept", Err: syscall.EINVAL}
		if err := <-ended; !errors.Is(err, syscall.EINVAL) {
			t.Errorf("ended with %v", err)
		}
		<-c.done
	})
}

// TestIdleConnectionsHoldLittle: the memory that a burst needed is released after it.
func TestIdleConnectionsHoldLittle(t *testing.T) {
	w := newWorld(t, direct, func(_ *frontend.Config, b *backend) {
		b.watches = watch.New(watch.Config{MaxWatches: 1, MaxWatchesPerWatcher: 1}, 0) // no history
	})
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL})
	p := w.pipes()
	const conns = 20
	value := strings.Repeat("v", 1<<20)
	heap := func() uint64 {
		for range 3 { // sync.Pool needs two
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := heap()
	var open []*duplex
	for i := range conns {
		d := p.dial(&net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(i))})
		open = append(open, d)
		for _, in := range []string{"SET /a :1048576\n" + value + "\n", "GET /a\n", strings.Repeat("PING\n", 5000), "SET /a x\n"} {
			go func() { _, _ = io.WriteString(d, in) }()
			lines := max(strings.Count(in, "PING"), 1)
			if in[0] == 'G' {
				lines = 2
			}
			buf := make([]byte, 8<<10)
			for lines > 0 {
				n, err := d.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				lines -= strings.Count(string(buf[:n]), "\n")
			}
		}
	}
	each := int64(0)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // the last answer may arrive before its buffers are given back
		if each = (int64(heap()) - int64(before)) / conns; each <= 32<<10 || time.Now().After(end) {
			break
		}
	}
	if each > 32<<10 {
		t.Errorf("an idle connection holds %d bytes", each)
	} else {
		t.Logf("an idle connection holds %d bytes", each)
	}
	runtime.KeepAlive(value) // it was allocated before
	for _, d := range open {
		_ = d.Close()
	}
}
