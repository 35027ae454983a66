package frontend_test

import (
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"coord/server/frontend"
	"coord/server/session"
	"coord/server/text"
	"coord/tree"
	"coord/tree/znode"
)

func TestPeerState(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is not asked here")
	}
	for _, network := range []string{"tcp", "unix"} {
		for end, want := range map[string]string{"": "there", "unread": "there", "shut": "shut", "unread, shut": "shut", "close": "gone", "reset": "gone"} {
			if network == "tcp" && end == "close" {
				want = "shut" // until something is sent to it
			}
			if network == "unix" && end == "reset" {
				continue
			}
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = t.TempDir() + "/s"
			}
			l, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if end == "unread" || end == "unread, shut" {
				_, _ = io.WriteString(c, "x")
			}
			switch end {
			case "shut", "unread, shut":
				_ = c.(interface{ CloseWrite() error }).CloseWrite()
			case "reset":
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			case "close":
				_ = c.Close()
			}
			got := ""
			for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				if got = frontend.PeerState(s); got == want || time.Now().After(until) {
					break
				}
			}
			if got != want {
				t.Errorf("%s, %q: %s, want %s", network, end, got, want)
			}
			_, _, _ = c.Close(), s.Close(), l.Close()
		}
	}
}

// TestAResetEndsAWaitAtOnce checks that a reset also ends the session.
func TestAResetEndsAWaitAtOnce(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is not asked here")
	}
	w := newWorld(t)
	addr := w.tcp()
	took := frontend.PeerTime
	for tries := 0; tries < 20 && took >= frontend.PeerTime-time.Second; tries++ { // again, if the machine was stalled
		c := dial(t, addr)
		c.send("CREATE /e EPHEMERAL x\nWAIT /x EXISTS timeout=1h\n")
		c.reply()
		_ = c.Conn.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
		start := time.Now()
		eventually(t, func() (gone bool) {
			w.View(func(t *tree.Tree, _ *watchTable) {
				_, code := t.Get("/e", nil, 0)
				gone = code != znode.OK
			})
			return gone
		})
		took = time.Since(start)
	}
	if took >= frontend.PeerTime-time.Second {
		t.Errorf("its ephemeral was there for %s", took)
	}
}

// TestDeadPeersAreNoticed: dead clients are noticed while the server does not read from them
// because an earlier request of theirs waits.
func TestDeadPeersAreNoticed(t *testing.T) {
	t.Parallel()
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("takes PeerTime")
	}
	w := newWorld(t)
	addr := w.tcp()
	holder := dial(t, addr)
	holder.send("LOCK /l\n")
	holder.reply()
	for _, in := range []string{
		"WAIT /x EXISTS timeout=1h\n", "WAIT /x EXISTS timeout=1h\nSET / 1\n", "WAIT /x EXISTS timeout=1h\nWAIT /y EXISTS\n",
		"LOCK /l timeout=1h\nSET / 1\n", "WAIT /x EXISTS timeout=1h\nSESSION INFO\n", "WAIT /x EXISTS timeout=1h\nQUIT\n",
	} {
		c := dial(t, addr)
		if r := c.ask("CREATE /e- EPHEMERAL SEQ x\n"); r.Code != znode.OK {
			t.Fatalf("%+v", r)
		}
		c.send(in)
		time.Sleep(20 * time.Millisecond)
		_ = c.Conn.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	killed := dial(t, addr) // it has nothing unread, so the kernel sends a FIN
	killed.send("CREATE /e- EPHEMERAL SEQ x\n")
	killed.reply()
	killed.send("WAIT /x EXISTS timeout=1h\nQUIT\n")
	time.Sleep(20 * time.Millisecond)
	_ = killed.Close()
	shut := dial(t, addr)
	shut.send("LOCK /l timeout=1h\nSET / 2\nPING\n")
	shut.shut()
	left := func() (n int) {
		w.View(func(t *tree.Tree, _ *watchTable) {
			t.Walk(znode.Root, "", 1, []znode.Identity{znode.Super}, func(string, func() tree.Znode) bool { n++; return true })
		})
		return n
	}
	const own = 3 // /, /l, /zookeeper
	for end := time.Now().Add(6 * frontend.PeerTime); left() > own && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := left(); n != own {
		t.Errorf("%d znodes are left", n)
	}
	if r := shut.reply(); r.Code != znode.ErrTimeout {
		t.Errorf("who has closed its side got %+v", r)
	}
	shut.reply()
	shut.reply()
}

// hearing is a keeper of sessions with a clock that the test advances. It counts the signs of life
// of each session.
type hearing struct {
	*session.Keeper
	mu    sync.Mutex
	now   time.Time
	first int64 // the first session it has seen
	heard map[int64]int
}

func newHearing(b *backend) *hearing {
	h := &hearing{now: time.Now(), heard: map[int64]int{}}
	h.Keeper = session.New(session.Config{Replica: b, ContainerInterval: time.Minute, Now: func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.now
	}})
	h.pass(0) // it leads from now on
	return h
}

func (h *hearing) Attach(id int64, attachment uint32, ttl time.Duration, kept bool) {
	h.mu.Lock()
	if h.first == 0 {
		h.first = id
	}
	h.mu.Unlock()
	h.Keeper.Attach(id, attachment, ttl, kept)
}

func (h *hearing) Touch(id int64) {
	h.Keeper.Touch(id)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard[id]++
}

// times returns how many signs of life the first session has had.
func (h *hearing) times() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard[h.first]
}

// pass advances the clock.
func (h *hearing) pass(d time.Duration) {
	h.mu.Lock()
	h.now = h.now.Add(d)
	h.mu.Unlock()
	h.Turn()
}

// TestPingsBehindALongAnswerCount: a client that takes an answer slowly and sends pings meanwhile
// keeps its session; one that sends none does not.
func TestPingsBehindALongAnswerCount(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is not asked here")
	}
	const ttl = 1500 * time.Millisecond
	var keeper *hearing
	w := newWorld(t, func(cfg *frontend.Config, b *backend) {
		keeper = newHearing(b)
		cfg.Sessions, cfg.MinSession, cfg.MaxSession = keeper, ttl, ttl
	})
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/long", Data: make([]byte, 16<<20), ACL: znode.OpenACL})
	sessions := func() (n int) {
		w.View(func(t *tree.Tree, _ *watchTable) { n = t.Counts().Sessions })
		return n
	}
	addr := w.tcp()
	alive, z := zkDial(t, addr)
	silent, _ := zkDial(t, addr)
	for _, c := range []net.Conn{alive, silent} {
		_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	}
	in := z.frames(t, "getData /long ; getData /long")
	for _, c := range []net.Conn{alive, silent} { // they read nothing
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		_, _ = c.Write(in)
	}
	for round := 0; round < 10 || round < 100 && sessions() > 1; round++ { // the requests of the silent one may be handled late
		before := keeper.times()
		_, _ = alive.Write(z.frames(t, "ping"))
		eventually(t, func() bool { return keeper.times() > before })
		keeper.pass(ttl / 3)
	}
	if n := sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// TestPingsBehindAWaitCount: pings after a WAIT count although the server does not read them yet.
func TestPingsBehindAWaitCount(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is not asked here")
	}
	var keeper *hearing
	w := newWorld(t, func(cfg *frontend.Config, b *backend) {
		keeper = newHearing(b)
		cfg.Sessions = keeper
	})
	c := dial(t, w.tcp())
	const ttl = 900 * time.Millisecond
	c.ask("SESSION NEW ttl=900ms live=ping\n")
	c.send("WAIT /x EXISTS timeout=1h\nSET / 1\n") // the server reads nothing after the SET
	const pings = 9
	for range pings {
		before := keeper.times()
		c.send("PING\n")
		eventually(t, func() bool { return keeper.times() > before })
		keeper.pass(ttl / 3)
	}
	w.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: "/x", ACL: znode.OpenACL}}, nobody)
	if r := c.reply(); r.Kind != text.KindOK || r.Code != znode.OK {
		t.Errorf("WAIT got %+v", r)
	}
	if r := c.reply(); r.Int("v") != 1 || r.Code != znode.OK {
		t.Errorf("SET got %+v", r)
	}
	for range pings {
		if r := c.reply(); r.Arg != "pong" {
			t.Errorf("PING got %+v", r)
		}
	}
	var passing sync.WaitGroup
	defer passing.Wait()
	ended := make(chan struct{})
	defer close(ended)
	passing.Go(func() { // until no more signs of life are seen
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Millisecond):
				keeper.pass(ttl / 3)
			}
		}
	})
	if got := c.rest(); !strings.HasPrefix(got, "EVENT expired session=") || !strings.HasSuffix(got, "\n") {
		t.Errorf("then it got %q", got)
	}
}
