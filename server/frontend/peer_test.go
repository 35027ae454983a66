package frontend_test

import (
	"io"
	"net"
	"runtime"
	"strings"
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
				want = "shut" // until something is sent there
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
			for range 100 {
				if got = frontend.PeerState(s); got == want && end != "" {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if got != want {
				t.Errorf("%s, %q: %s, want %s", network, end, got, want)
			}
			_, _, _ = c.Close(), s.Close(), l.Close()
		}
	}
}

// TestAResetEndsAWaitAtOnce, and the session with it.
func TestAResetEndsAWaitAtOnce(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is not asked here")
	}
	w := newWorld(t)
	c := dial(t, w.tcp())
	c.send("CREATE /e EPHEMERAL x\nWAIT /x EXISTS timeout=1h\n")
	c.reply()
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	there := true
	for end := time.Now().Add(frontend.PeerTime - time.Second); there && time.Now().Before(end); time.Sleep(time.Millisecond) {
		w.View(func(t *tree.Tree, _ *watchTable) {
			_, code := t.Get("/e", nil, 0)
			there = code == znode.OK
		})
	}
	if there {
		t.Error("its ephemeral is there")
	}
}

// TestDeadPeersAreNoticed while they are not read from, because something they
// wait for stands before what they have sent.
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
		c.send("CREATE /e- EPHEMERAL SEQ x\n")
		c.reply()
		c.send(in)
		time.Sleep(20 * time.Millisecond)
		_ = c.Conn.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	killed := dial(t, addr) // it has nothing unread: a FIN
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
	if n := left(); n == own {
		t.Errorf("%d znodes before", n)
	}
	time.Sleep(frontend.PeerTime)
	for end := time.Now().Add(frontend.PeerTime); left() > own && time.Now().Before(end); {
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

// TestPingsBehindALongAnswerCount: a client that takes its time for an answer and
// sends pings meanwhile keeps its session, and one that sends none does not.
func TestPingsBehindALongAnswerCount(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is not asked here")
	}
	const ttl = 1500 * time.Millisecond
	var keeper *session.Keeper
	w := newWorld(t, func(cfg *frontend.Config, b *backend) {
		keeper = session.New(session.Config{Replica: b, ContainerInterval: time.Minute})
		cfg.Sessions, cfg.MinSession, cfg.MaxSession = keeper, ttl, ttl
	})
	go func() { _ = keeper.Run(w.ctx) }()
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/long", Data: make([]byte, 16<<20), ACL: znode.OpenACL})
	sessions := func() (n int) {
		w.View(func(t *tree.Tree, _ *watchTable) { n = t.Counts().Sessions })
		return n
	}
	addr := w.tcp()
	alive, z := zkDial(t, addr)
	silent, _ := zkDial(t, addr)
	in := z.frames(t, "getData /long ; getData /long")
	for _, c := range []net.Conn{alive, silent} { // and they read nothing
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		_, _ = c.Write(in)
	}
	for start := time.Now(); time.Since(start) < 2*ttl+ttl/2; time.Sleep(ttl / 15) {
		_, _ = alive.Write(z.frames(t, "ping"))
	}
	if n := sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// TestPingsBehindAWaitCount although nobody reads them yet.
func TestPingsBehindAWaitCount(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the kernel is not asked here")
	}
	var keeper *session.Keeper
	w := newWorld(t, func(cfg *frontend.Config, b *backend) {
		keeper = session.New(session.Config{Replica: b, ContainerInterval: time.Minute})
		cfg.Sessions = keeper
	})
	go func() { _ = keeper.Run(w.ctx) }()
	c := dial(t, w.tcp())
	const ttl = 900 * time.Millisecond
	c.ask("SESSION NEW ttl=900ms live=ping\n")
	c.send("WAIT /x EXISTS timeout=1h\nSET / 1\n") // behind the SET nothing is read
	for start := time.Now(); time.Since(start) < 3*ttl; time.Sleep(ttl / 9) {
		c.send("PING\n")
	}
	w.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: "/x", ACL: znode.OpenACL}}, nobody)
	if r := c.reply(); r.Kind != text.KindOK || r.Code != znode.OK {
		t.Errorf("WAIT got %+v", r)
	}
	if got := c.rest(); !strings.HasPrefix(got, "OK v=1 ") || !strings.Contains(got, "OK pong") || !strings.HasSuffix(got, "\n") || !strings.Contains(got, "EVENT expired session=") {
		t.Errorf("then it got %q", got)
	}
}
