package frontend_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/tree"
	"coord/tree/znode"
)

func newDoorman() *frontend.Doorman {
	return &frontend.Doorman{
		Waiting: func() string { return "two of three nodes are missing" }, FourLetter: []string{"*"},
		Version: "0.1", Built: "02/01/2026 03:04 GMT",
	}
}

// TestDoorman: every client gets an answer, and the reason why it gets no more.
func TestDoorman(t *testing.T) {
	t.Parallel()
	const sentence = "This ZooKeeper instance is not currently serving requests"
	const no = "ERR NOLEADER - the node is not serving yet: two of three nodes are missing\n"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := newDoorman().Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	for in, want := range map[string]string{
		"ruok": "imok", "ruok\n": "imok", "isro": "null", "gtmk": "0", "stmk": "0", "hash": sentence,
		"srvr": sentence + "\n", "mntr\r\n": sentence + "\n", "envi": sentence + "\n", "dump": sentence + "\n",
		zkBytes(t): "", zkBytes(t, "create /a x", "ping"): "", "\x16\x03\x01": "", "": "", "ru": "",
		"ruok" + strings.Repeat("x", 100_000): "imok", zkBytes(t) + strings.Repeat("x", 100_000): "",
		"HELLO\n":                           no,
		"HELLO\r\n":                         no[:len(no)-1] + "\r\n",
		"@1 GET /a\nPING\n":                 "@1 " + no + "OK pong\n",
		"SET /a :3\nabc\n":                  no,
		"@x SET /a :5\nabcde\nQUIT\nPING\n": "@x " + no + "OK bye\n",
		"SET /a " + strings.Repeat("v", 5000) + "\nPING\n":              no + "OK pong\n",
		"SET /a :2000000\n" + strings.Repeat("v", 2000000) + "\nPING\n": no + "OK pong\n",
		"TXN 2\nSET /a 1\nSET /b :3\nabc\nPING\n":                       no + "OK pong\n",
		"TXN 900\n" + strings.Repeat("SET /a 1\n", 900) + "PING\n":      no + "OK pong\n",
		"CAT /a\nPING\n":         "",
		"FROB\n@2 GET\n":         "ERR UNKNOWN\n@2 ERR SYNTAX\n",
		"GET / HTTP/1.1\nPING\n": "ERR PROTOCOL\n",
		"FORMAT json\nPING\n":    no + "OK pong\n",
		"@i INFO\n": "@i LIST 2\nITEM version value=\"3.9.3-coord-0.1, built on 02/01/2026 03:04 GMT\"\n" +
			"ITEM coord_waiting value=\"two of three nodes are missing\"\n",
	} {
		got := ask(t, l.Addr().String(), in)
		if strings.Contains(want, "UNKNOWN") || strings.Contains(want, "PROTOCOL") {
			got = plain(got)
		}
		if got != want {
			t.Errorf("%.60q: got %q, want %q", in, got, want)
		}
	}
	if got := ask(t, l.Addr().String(), "HELP PING\n"); !strings.HasPrefix(got, "LIST ") || !strings.Contains(got, "PING") {
		t.Errorf("HELP: %q", got)
	}
	client := dial(t, l.Addr().String()) // its sending side stays open
	client.send(zkBytes(t))
	if got := client.rest(); got != "" {
		t.Errorf("ZooKeeper's connect: %q", got)
	}
	cancel()
	serving.Wait()
	unheard := &frontend.Doorman{Waiting: func() string { return "" }, FourLetter: []string{"ruok"}}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	serving.Go(func() { _ = unheard.Serve(ctx, l) })
	if got := ask(t, l.Addr().String(), "srvr"); got != "srvr is not executed because it is not in the whitelist.\n" {
		t.Errorf("a word that is not listed: %q", got)
	}
	if got := ask(t, l.Addr().String(), "ruok"); got != "imok" {
		t.Errorf("a word that is listed: %q", got)
	}
	cancel()
	serving.Wait()
}

// door is a listener without a network whose Accept can be interrupted.
type door struct {
	*pipes
	mu   sync.Mutex
	past chan struct{} // closed when the deadline has passed
}

func newDoor() *door {
	return &door{pipes: &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}, past: make(chan struct{})}
}

func (d *door) SetDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.IsZero() {
		d.past = make(chan struct{})
	} else {
		close(d.past)
	}
	return nil
}

func (d *door) Accept() (net.Conn, error) {
	d.mu.Lock()
	past := d.past
	d.mu.Unlock()
	select {
	case c := <-d.conns:
		return c, nil
	case <-past:
		return nil, os.ErrDeadlineExceeded
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// TestDoormanTimes: a client has a time limit for each request, and another one when the doorman
// stops, which itself waits for no client.
func TestDoormanTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := newDoorman().Serve(ctx, d); err != nil {
				t.Error(err)
			}
		})
		silent, slow, idle := d.open(home), d.open(home), d.open(home)
		slow.say("PI")
		idle.say("PING\n")
		time.Sleep(frontend.FirstLineTime / 2)
		slow.say("N")
		idle.say("PING\n")
		time.Sleep(frontend.FirstLineTime/2 - 1)
		synctest.Wait()
		if silent.ended() || slow.ended() {
			t.Error("closed before the time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !silent.ended() || !slow.ended() || idle.ended() {
			t.Errorf("at the time: silent %v, slow %v, idle %v", silent.ended(), slow.ended(), idle.ended())
		}
		late := d.open(home)
		synctest.Wait()
		start := time.Now()
		cancel()
		serving.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("it goes after %s", took)
		}
		time.Sleep(frontend.StopTime - 1)
		late.say("HELLO\n")
		synctest.Wait()
		if got := plain(late.got.String()); got != "ERR NOLEADER\n" || !late.ended() || idle.ended() {
			t.Errorf("late: %q, ended %v; idle ended %v", got, late.ended(), idle.ended())
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := idle.got.String(); got != "OK pong\nOK pong\n" || !idle.ended() {
			t.Errorf("idle: %q, ended %v", got, idle.ended())
		}
		for _, c := range []*caller{silent, slow, idle, late} {
			_ = c.Close()
		}
	})
}

// TestMaxGuests: a client beyond the limit is closed, and one that leaves makes room.
func TestMaxGuests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() { _ = newDoorman().Serve(ctx, d) })
		var all []*caller
		for range frontend.MaxGuests {
			all = append(all, d.open(home))
		}
		more := d.open(home)
		synctest.Wait()
		if !more.ended() || all[0].ended() {
			t.Errorf("one more ended %v, the first %v", more.ended(), all[0].ended())
		}
		_ = all[0].Close()
		synctest.Wait()
		again := d.open(home)
		again.say("ruok")
		synctest.Wait()
		if got := again.got.String(); got != "imok" {
			t.Errorf("got %q", got)
		}
		cancel()
		serving.Wait()
		for _, c := range append(all, more, again) {
			_ = c.Close()
		}
	})
}

// TestHandOver: clients keep coming while the doorman stops and the server starts on the same
// ports. Every client is answered by one of the two: none hangs and none is reset.
func TestHandOver(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "s")
			}
			l, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			addr = l.Addr().String()
			w := newWorld(t)
			w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			gone := make(chan error, 1)
			go func() { gone <- newDoorman().Serve(ctx, l) }()

			var refused, served atomic.Int64
			var leaves, left atomic.Pointer[time.Time]
			tooSlow := func(began time.Time) bool { // for the doorman, which has stopped after that time
				from, to := leaves.Load(), left.Load()
				return from != nil && time.Since(*from) > frontend.StopTime && (to == nil || began.Before(*to))
			}
			var clients sync.WaitGroup
			const clientsOfAKind, visits = 4, 100
			visit := func(in string, isServed func(got string) bool) {
				for range clientsOfAKind {
					clients.Go(func() {
						for n := 0; n < visits || served.Load() < 3*visits; n++ {
							began := time.Now()
							got, err := visitOnce(network, addr, in)
							switch {
							case tooSlow(began):
							case err != nil:
								t.Errorf("%.10q: %v", in, err)
								return
							case isServed(got):
								served.Add(1)
							default:
								refused.Add(1)
							}
						}
					})
				}
			}
			visit("ruok", func(got string) bool {
				if got != "imok" {
					t.Errorf("ruok: %q", got)
				}
				return false
			})
			const get = "GET /a\nQUIT\n"
			gets := func(got string) bool {
				if got = plain(got); got != "ERR NOLEADER\nOK bye\n" && (!strings.HasPrefix(got, "DATA 0 v=0 ") || !strings.HasSuffix(got, "OK bye\n")) {
					t.Errorf("GET: %q", got)
				}
				return strings.HasPrefix(got, "DATA")
			}
			visit(get, gets)
			visit(zkBytes(t, "closeSession"), func(got string) bool { return got != "" })

			came, silent := time.Now(), dial(t, addr)
			eventually(t, func() bool { return refused.Load() > visits })
			now := time.Now()
			leaves.Store(&now)
			cancel()
			if err := <-gone; err != nil {
				t.Fatal(err)
			}
			then := time.Now()
			left.Store(&then)
			w.serve(l)
			if got, err := sayAll(silent, get); !tooSlow(came) {
				if gets(got); err != nil {
					t.Errorf("who was silent: %v", err)
				}
			}
			clients.Wait()
		})
	}
}

// visitOnce connects, sends in, and returns everything that arrives until the end of the stream.
func visitOnce(network, addr, in string) (string, error) {
	c, err := net.Dial(network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return sayAll(c, in)
}

func sayAll(c net.Conn, in string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(c, in); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}
