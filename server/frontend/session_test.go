package frontend_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/tree"
	"coord/tree/znode"
)

// The session that is the first change of all, as its client gets it.
const (
	firstID  = "0x3e9"
	password = "01010101010101010101010101010101"
	resume   = "SESSION RESUME " + firstID + ` :32\n` + password
)

func TestSession(t *testing.T) {
	playAll(t, []play{
		{"none", `
			A> SESSION INFO\nSESSION DETACH\nSESSION CLOSE\nSESSIONS
			A< ERR EXPIRED *
			A< ERR EXPIRED *
			A< ERR EXPIRED *
			A< LIST 0
			`, ""},
		{"an ephemeral makes one, which goes with QUIT", `
			A> CREATE /e EPHEMERAL x\nSESSION INFO\nSESSIONS
			A< OK path=/e v=0 zxid=0x100000002
			A< OK id=0x3e9 ttl=10s hold=0s live=tcp ephemerals=1 zxid=0x100000002
			A< LIST 1
			A< ITEM 0x3e9 ttl=10s ephemerals=1 addr=127.0.0.1:50000
			A> TXN 1\nCREATE /f EPHEMERAL x
			A< LIST 1 zxid=*
			A< OK path=/f *
			sleep 1h
			A> QUIT
			A< OK bye
			A.
			`, ""},
		{"with the end of the stream", `
			A> CREATE /e EPHEMERAL x
			A< OK *
			A|
			A.
			`, ""},
		{"with a broken connection", `
			A> CREATE /e EPHEMERAL x
			A< OK *
			A!
			`, ""},
		{"a hold outlives the connection, for so long", `
			A> SESSION NEW ttl=2s hold=5s
			A< OK id=0x3e9 ttl=2s hold=5s live=tcp password=` + password + ` zxid=0x100000001
			A> CREATE /e EPHEMERAL x
			A< OK *
			A> QUIT
			A< OK bye
			sleep 4s
			B> EXISTS /e
			B< OK * eph=0x3e9 *
			sleep 1999ms
			`, ""},
		{"and may be resumed", `
			A> SESSION NEW ttl=2s hold=5s\nCREATE /e EPHEMERAL x
			A< OK *
			A< OK *
			A!
			sleep 4s
			B> SESSION RESUME 0x3e8 :32\n` + password + `
			B< ERR EXPIRED - *
			B> SESSION RESUME 0x3e9 :32\n` + strings.Repeat("0", 32) + `
			B< ERR AUTHFAILED - *
			B> SESSION RESUME 0x3e9 :3\n010
			B< ERR AUTHFAILED - *
			B> SESSION RESUME 0x3e9 zxid=0x100000009 :32\n` + password + `
			B< ERR TIMEOUT - *
			B> SESSION RESUME 0x3e9 ttl=3s hold=4s live=ping :32\n` + password + `
			B< OK id=0x3e9 ttl=3s hold=4s live=ping password=` + password + ` zxid=0x100000003
			B> ` + resume + `
			B< OK id=0x3e9 ttl=10s hold=0s live=tcp password=` + password + ` zxid=0x100000004
			sleep 1h
			B> SESSION INFO
			B< OK id=0x3e9 * ephemerals=1 zxid=*
			B> ` + resume + `
			B< OK id=0x3e9 *
			B|
			B.
			`, ""},
		{"its time in the log is the one given last, once", `
			A> SESSION NEW ttl=2s hold=5s\nSESSION DETACH hold=5s\nSESSIONS
			A< OK * zxid=0x100000001
			A< OK id=0x3e9 hold=5s
			A< LIST 1
			A< ITEM 0x3e9 ttl=5s ephemerals=0
			A> ` + resume + `
			A< OK * zxid=0x100000002
			A> SESSIONS\nSESSION DETACH hold=1h\nSESSIONS
			A< LIST 1
			A< ITEM 0x3e9 ttl=10s ephemerals=0 addr=*
			A< OK id=0x3e9 hold=3600s
			A< LIST 1
			A< ITEM 0x3e9 ttl=3600s ephemerals=0
			B> SESSION RESUME 0x3e9 ttl=20s :32\n` + password + `\nSESSION RESUME 0x3e9 ttl=20s :32\n` + password + `
			B< OK id=0x3e9 ttl=20s hold=0s live=tcp * zxid=0x100000004
			B< OK id=0x3e9 ttl=20s hold=0s live=tcp * zxid=0x100000004
			B> SESSION RESUME 0x3e9 ttl=30s hold=10s :32\n` + password + `
			B< OK id=0x3e9 ttl=30s hold=10s live=tcp * zxid=0x100000005
			B> SESSIONS\nSESSION DETACH hold=0s
			B< LIST 1
			B< ITEM 0x3e9 ttl=30s ephemerals=0 addr=*
			B< OK id=0x3e9 hold=0s
			`, ""},
		{"detached", `
			A> CREATE /e EPHEMERAL x\nSESSION DETACH hold=3s\nSESSION INFO\nPING
			A< OK *
			A< OK id=0x3e9 hold=3s
			A< ERR EXPIRED *
			A< OK pong
			sleep 2s
			A> ` + resume + `
			A< OK *
			sleep 10s
			A> SESSION DETACH hold=3s
			A< OK *
			A!
			sleep 2999ms
			B> EXISTS /e
			B< OK *
			sleep 1s
			`, ""},
		{"closed", `
			A> CREATE /e EPHEMERAL x\nSESSION CLOSE\nPING\nSESSION INFO
			A< OK *
			A< OK zxid=0x100000003
			A< OK pong
			A< ERR EXPIRED *
			A> CREATE /f EPHEMERAL x\nSESSION INFO
			A< OK *
			A< OK id=0x3ec *
			`, "/f"},
		{"closed by an operator", `
			a> CREATE /e EPHEMERAL x
			a< OK *
			b> CREATE /f EPHEMERAL x
			b< OK *
			b> SESSION CLOSE 0x3e9\nSESSIONS
			b< ERR NOAUTH *
			b< ERR NOAUTH *
			A> SESSION CLOSE 0x3e9
			a< EVENT expired session=0x3e9
			A< OK zxid=*
			a.
			A> SESSION CLOSE 0x3e9\nSESSION CLOSE 0x3eb\nPING
			b< EVENT expired session=0x3eb
			A< ERR EXPIRED *
			A< OK *
			A< OK pong
			b.
			`, ""},
		{"ping: any line is one", `
			A> SESSION NEW ttl=4s live=ping
			A< OK *
			A> CREATE /e EPHEMERAL x
			A< OK *
			sleep 3900ms
			A> @
			A< ERR SYNTAX *
			sleep 3900ms
			A>
			sleep 3900ms
			A> PING
			A< OK pong
			sleep 3999ms
			sleep 1s
			A< EVENT expired session=0x3e9
			A.
			`, ""},
		{"moved", `
			A> SESSION NEW\nCREATE /e EPHEMERAL x
			A< OK id=0x3e9 *
			A< OK *
			A> SET /e y\nFORMAT json
			A< OK *
			A< {"t":"OK","format":"json"}
			b> ` + resume + `
			A< {"t":"EVENT",*"moved"*"session":*}
			b< OK id=0x3e9 *
			A.
			sleep 1h
			b> GET /e
			b< DATA *
			b< y
			c> ` + resume + `
			b< EVENT moved session=0x3e9
			c< OK *
			sleep 1h
			b.
			c> SESSION INFO
			c< OK id=0x3e9 * ephemerals=1 *
			`, "/e"},
		{"one instead of another", `
			A> SESSION NEW hold=3s\nCREATE /e EPHEMERAL x\nSESSION NEW\nCREATE /f EPHEMERAL x\nSESSIONS
			A< OK id=0x3e9 *
			A< OK *
			A< OK id=0x3eb *
			A< OK *
			A< LIST 2
			A< ITEM 0x3e9 ttl=10s ephemerals=1
			A< ITEM 0x3eb ttl=10s ephemerals=1 addr=*
			A> ` + resume + `
			A< OK id=0x3e9 *
			`, "/e"},
		{"pages", `
			A> SESSION NEW hold=9s\nSESSION NEW hold=9s\nSESSION NEW\nSESSIONS limit=2\nSESSIONS after=0x3ea limit=1\nSESSIONS after=0x3eb
			A< OK *
			A< OK *
			A< OK *
			A< LIST 2 more=1
			A< ITEM 0x3e9 *
			A< ITEM 0x3ea *
			A< LIST 1
			A< ITEM 0x3eb *
			A< LIST 0
			`, ""},
	})
}

// TestStopEndsNoSession: clients that were connected when the server stopped can resume their
// sessions at its next start.
func TestStopEndsNoSession(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act(`
			A> CREATE /e EPHEMERAL x
			A< OK *
			B> SESSION NEW hold=1s\nLOCK /l
			B< OK *
			B< OK *
			C> WAIT /x EXISTS timeout=1h
			D> LOCK /l timeout=1h\nPING
			stop
			C< ERR SHUTDOWN path=/x *
			D< ERR SHUTDOWN path=/l *
			D< OK pong
			A.
			B.
			C.
			D.
			`)
		x.have("/e", "/l", "/l/lock-0000000000")
	})
}

// TestSessionThatCannotBeMade: the client gets the reason; if it is unknown whether the session
// exists, it gets nothing else after that.
func TestSessionThatCannotBeMade(t *testing.T) {
	t.Parallel()
	for code, want := range map[znode.Code]string{
		znode.ErrNoSpace:   "ERR NOSPACE - *|OK pong",
		znode.ErrUncertain: "ERR UNCERTAIN - *",
	} {
		for _, line := range []string{"SESSION NEW", "CREATE /e EPHEMERAL x", "LOCK /l"} {
			stage(t, func(x *theatre) {
				x.hold()
				x.act("A> " + line + `\nPING`)
				x.refuse(0, code)
				x.release()
				synctest.Wait()
				for w := range strings.SplitSeq(want, "|") {
					x.expect("A", w)
				}
				x.have()
			})
		}
	}
}

// TestDetachThatFails: a refused DETACH leaves the session attached; one whose outcome is unknown
// ends the connection, not the session.
func TestDetachThatFails(t *testing.T) {
	t.Parallel()
	for code, want := range map[znode.Code]string{
		znode.ErrNoLeader:  "A< ERR NOLEADER - *\nA< OK id=0x3e9 ttl=2s *",
		znode.ErrUncertain: "A< ERR UNCERTAIN - *\nA.",
	} {
		stage(t, func(x *theatre) {
			x.act("A> SESSION NEW ttl=2s\nA< OK *\nA> CREATE /e EPHEMERAL x\nA< OK *")
			x.hold()
			x.act(`A> SESSION DETACH hold=1h\nSESSION INFO`)
			x.refuse(0, code)
			x.release()
			x.act(want + "\nsleep 30s")
			x.have("/e")
			if code == znode.ErrUncertain {
				x.act("sleep 2h")
				x.have()
			}
		})
	}
}

// TestSessionOfWhoLeavesMeanwhile: at whatever moment the connection breaks, its session ends, at
// once or when its time is over, and everything it owns is deleted.
func TestSessionOfWhoLeavesMeanwhile(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"CREATE /e EPHEMERAL x\n", "LOCK /l\n", "SESSION NEW hold=2s\nLOCK /l timeout=1h\n", "SESSION NEW\nSESSION CLOSE\n", "SESSION NEW\nSESSION DETACH\n"} {
		for done := range 6 {
			for _, foreign := range []bool{false, true} {
				stage(t, func(x *theatre) {
					if foreign {
						x.act("Z> LOCK /l\nZ< OK *") // two lines
					}
					x.hold()
					c := x.open(home)
					c.say(in)
					synctest.Wait()
					for range done {
						x.allow(1)
						synctest.Wait()
					}
					_ = c.Close()
					synctest.Wait()
					x.release()
					time.Sleep(70 * time.Second) // longer than any timeout
					synctest.Wait()
					left := x.paths()
					if want := map[bool]int{false: 1, true: 2}[foreign]; len(left) > want || len(left) == 2 && left[1] != "/l/lock-0000000000" {
						t.Errorf("%q, %d applied: %q are left", in, done, left)
					}
				})
			}
		}
	}
}

// TestTakeovers has many connections resume one session at once, while it is in use. Exactly one
// must have it in the end, and none that has lost it may end it.
func TestTakeovers(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.loose = true
		x.act(`A> CREATE /e EPHEMERAL x`)
		var all []*caller
		for i := range 50 {
			c := x.open(&net.TCPAddr{IP: net.IPv4(10, 0, 1, byte(i))})
			all = append(all, c)
			go c.say(strings.ReplaceAll(resume, `\n`, "\n") + "\nSET /e y\nGET /e\n")
			if i%7 == 0 {
				go func() { _ = c.CloseWrite() }()
			}
		}
		synctest.Wait()
		last := x.open(home)
		last.say(strings.ReplaceAll(resume, `\n`, "\n") + "\nSESSION INFO\n")
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := last.got.String(); !strings.Contains(got, "ERR EXPIRED") { // a client that has left had the session last
			for _, c := range all {
				if !c.ended() {
					t.Errorf("a second one is there: %q", c.got.String())
				}
			}
			if !strings.HasSuffix(got, "ephemerals=1 zxid="+strings.TrimSpace(got[strings.LastIndex(got, "=")+1:])+"\n") || last.ended() {
				t.Errorf("got %q", got)
			}
			x.have("/e")
		} else {
			x.have()
		}
		for _, c := range append(all, last) {
			_ = c.Close()
		}
	})
}

// TestNoPasswordIsTold: only the replies to NEW and RESUME contain the password.
func TestNoPasswordIsTold(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.loose = true
		x.act("A> SESSION NEW hold=1m")
		x.clients["A"].seen = len(x.clients["A"].got.String())
		for _, in := range []string{
			"SESSION RESUME 0x3e9 " + password, "SESSION RESUME " + password, "SESSION " + password, `SESSION RESUME 0x3e9 "` + password + `"`,
			"SESSION RESUME 0x1 :32\\n" + password, "SESSION RESUME 0x3e9 :31\\n" + password[1:], "SESSION INFO", "SESSIONS", "SESSION CLOSE :32\\n" + password,
		} {
			x.act("A> " + in)
		}
		if got := x.clients["A"].got.String()[x.clients["A"].seen:]; strings.Contains(got, password[1:]) {
			t.Errorf("got %q", got)
		}
		if strings.Contains(x.log.String(), password[1:]) {
			t.Errorf("logged %q", x.log.String())
		}
	})
}

// TestManySessions: the sessions of many clients that break off at once all end.
func TestManySessions(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		var all []*caller
		for i := range 300 {
			c := x.open(&net.TCPAddr{IP: net.IPv4(10, 0, 2, byte(i))})
			all = append(all, c)
			go c.say(fmt.Sprintf("SESSION NEW hold=%ds\nCREATE /e-%d EPHEMERAL x\n", i%3, i))
		}
		synctest.Wait()
		if n := len(x.paths()); n != 300 {
			t.Fatalf("%d znodes", n)
		}
		for _, c := range all {
			_ = c.Close()
		}
		for _, want := range []int{200, 100, 0} {
			synctest.Wait()
			if n := len(x.paths()); n != want {
				t.Errorf("%d znodes, want %d", n, want)
			}
			time.Sleep(1250 * time.Millisecond)
		}
	}, func(cfg *frontend.Config, _ *backend) { cfg.MaxClientConns = 0 })
}

// vouching is a Sessions whose leader does not hear the first reports.
type vouching struct {
	fakeSessions
	mu    sync.Mutex
	deaf  int
	heard []string
}

func (v *vouching) note(what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.heard = append(v.heard, what)
}

func (v *vouching) Vouch(id int64) func() bool {
	v.note("vouch " + znode.Hex(uint64(id)))
	return func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.deaf--
		return v.deaf < 0
	}
}

// asked also records barriers.
type asked struct {
	*backend
	v *vouching
}

func (a asked) Barrier(done frontend.Done) {
	a.v.note("barrier")
	a.backend.Barrier(done)
}

// TestSyncOfASession: the session is reported to the leader before the barrier is requested, and again
// as long as the leader may not have heard the report. Without a session a SYNC is only a barrier.
func TestSyncOfASession(t *testing.T) {
	t.Parallel()
	v := &vouching{deaf: 2}
	w := newWorld(t, func(cfg *frontend.Config, b *backend) { cfg.Backend, cfg.Sessions = asked{b, v}, v })
	c := w.pipes().open(home)
	c.say("SYNC /\nSESSION NEW live=ping\nSYNC /\nSESSION CLOSE\n@last SYNC /\nQUIT\n")
	<-c.done
	if got, want := strings.Count(c.got.String(), "OK zxid="), 4; got != want || strings.Contains(c.got.String(), "ERR") {
		t.Errorf("got %q", c.got.String())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	want := []string{"barrier", "vouch 0x3e9", "barrier", "vouch 0x3e9", "barrier", "vouch 0x3e9", "barrier", "barrier"}
	if !slices.Equal(v.heard, want) {
		t.Errorf("heard %q, want %q", v.heard, want)
	}
}

// TestSyncWithoutALeader: such a SYNC is refused and not repeated.
func TestSyncWithoutALeader(t *testing.T) {
	t.Parallel()
	v := &vouching{deaf: 1}
	w := newWorld(t, func(cfg *frontend.Config, b *backend) { cfg.Backend, cfg.Sessions = refusing{asked{b, v}}, v })
	c := w.pipes().open(home)
	c.say("SESSION NEW live=ping\nSYNC /\nQUIT\n")
	<-c.done
	if got := plain(c.got.String()); !strings.Contains(got, "\nERR NOLEADER\nOK bye\n") {
		t.Errorf("got %q", got)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if got, want := v.heard, []string{"vouch 0x3e9", "barrier"}; !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// refusing has no leader for barriers.
type refusing struct{ asked }

func (r refusing) Barrier(done frontend.Done) {
	r.asked.Barrier(func(_ tree.Result, t *tree.Tree, table *watchTable) {
		done(tree.Result{Code: znode.ErrNoLeader}, t, table)
	})
}

// TestSessionsOfAnImport: session ids from ZooKeeper servers with ids from 128 on are negative, and are
// listed too.
func TestSessionsOfAnImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, allowAll)
	for _, id := range []int64{-0x7000000000000000, -0x6000000000000000, 5} {
		w.away(&tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id, TimeoutMS: 1000, Password: make([]byte, 16)})
	}
	c := w.pipes().open(home)
	c.say("SESSIONS limit=1\nSESSIONS after=0x9000000000000000\nQUIT\n")
	<-c.done
	const want = "LIST 1 more=1\nITEM 0x9000000000000000 ttl=1s ephemerals=0\n" +
		"LIST 2\nITEM 0xa000000000000000 ttl=1s ephemerals=0\nITEM 0x5 ttl=1s ephemerals=0\nOK bye\n"
	if got := plain(c.got.String()); got != want {
		t.Errorf("got %q", got)
	}
}
