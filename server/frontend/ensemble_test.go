package frontend_test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// away installs a snapshot of another node, with some txns whose events nobody here has seen. The
// applier does it, in its turn.
func (b *backend) away(txns ...*tree.Txn) {
	b.Barrier(func(tree.Result, *tree.Tree, *watch.Table) {
		for _, x := range txns {
			b.stamp++
			x.TimeMS = b.stamp
			b.tree.Apply(1, x)
		}
		b.watches = watch.New(watch.DefaultConfig(), b.tree.Counters().Zxid)
		b.front.Replaced(b.tree, b.watches)
	})
}

// firstSession is a txn for the session that is the first change of all, as another node submits
// it.
func firstSession(kind tree.Kind) *tree.Txn {
	return &tree.Txn{Op: tree.Op{Kind: kind}, Target: 0x3e9, Password: bytes.Repeat([]byte{1}, 16)}
}

// losing is a backend that loses the first txn after it is armed, like a replica that has forwarded
// the txn to a leader that has died. The loss happens at the moment when the next txn is being
// submitted or the next View begins. Txns submitted after the lost one are refused until the
// connection has been notified; later ones are accepted.
type losing struct {
	*backend
	atView bool
	told   chan struct{} // closed when the loss is complete

	mu struct {
		sync.Mutex
		armed, begun, open bool
		lost               frontend.Done
		behind             []frontend.Done
	}
}

func (l *losing) View(read func(*tree.Tree, *watch.Table)) {
	if l.atView {
		l.begin()
	}
	l.backend.View(read)
}

// begin starts the loss, if there is a txn to lose and the loss has not started. It gives the loss
// time to complete, unless another goroutine must release a lock first.
func (l *losing) begin() {
	const moment = 50 * time.Millisecond
	l.mu.Lock()
	begins := l.mu.lost != nil && !l.mu.begun
	l.mu.begun = l.mu.begun || begins
	l.mu.Unlock()
	if begins {
		l.Barrier(l.lose)
		select {
		case <-l.told:
		case <-time.After(moment):
		}
	}
}

func (l *losing) Submit(x *tree.Txn, done frontend.Done) {
	if !l.atView {
		l.begin()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.mu.armed || l.mu.open:
		l.backend.Submit(x, done)
	case l.mu.lost == nil:
		l.mu.lost = done
	default:
		l.mu.behind = append(l.mu.behind, done)
	}
}

// lose does what replica.mend does, on the applier.
func (l *losing) lose(_ tree.Result, t *tree.Tree, table *watch.Table) {
	l.mu.lost(tree.Result{Code: znode.ErrUncertain}, t, table)
	for open := false; !open; {
		l.mu.Lock()
		behind := l.mu.behind
		l.mu.behind, l.mu.open = nil, len(behind) == 0
		open = l.mu.open
		l.mu.Unlock()
		for _, done := range behind {
			done(tree.Result{Code: znode.ErrNoLeader}, t, table)
		}
	}
	close(l.told)
}

// TestNothingSucceedsBehindALostWrite: what a connection submits while one of its writes is being
// lost is refused too. The test lets the loss happen between the decision to submit and the
// submission.
func TestNothingSucceedsBehindALostWrite(t *testing.T) {
	t.Parallel()
	session := "SESSION NEW hold=1h\n"
	for name, tt := range map[string]struct{ first, in, want string }{
		"a write":                   {"PING\n", "SET /a lost\nSET /b create x\n", "ERR UNCERTAIN path=/a\n"},
		"a lock":                    {session, "SET /a lost\nLOCK /b\n", "ERR UNCERTAIN path=/a\n"},
		"a lock that has its place": {session, "SET /a lost\nLOCK /b\n", "ERR UNCERTAIN path=/a\n"},
		"ZooKeeper's":               {zkBytes(t), zkBytes(t, "create /a lost", "create /b x")[len(zkBytes(t)):], ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l *losing
			w := newWorld(t, func(cfg *frontend.Config, b *backend) {
				l = &losing{backend: b, atView: strings.Contains(name, "place"), told: make(chan struct{})}
				cfg.Backend = l
			})
			c := w.pipes().open(home)
			c.say(tt.first)
			eventually(t, func() bool { return c.got.String() != "" })
			before := len(c.got.String())
			l.mu.Lock()
			l.mu.armed = true
			l.mu.Unlock()
			c.say(tt.in)
			<-c.done
			if got := plain(c.got.String()[before:]); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			settled := make(chan struct{})
			w.Barrier(func(tree.Result, *tree.Tree, *watch.Table) { close(settled) })
			<-settled
			w.View(func(tr *tree.Tree, _ *watch.Table) {
				if _, code := tr.Get("/b", nil, 0); code != znode.ErrNoNode {
					t.Error("what was behind it has been done")
				}
				sessions := tr.Counts().Sessions
				if tt.first[0] != 'P' && sessions != 1 {
					t.Errorf("%d sessions", sessions)
				}
			})
		})
	}
}

// TestLockWhoseFolderIsUncertain: a refusal of the LOCK's own txn does not mean that nothing was
// changed.
func TestLockWhoseFolderIsUncertain(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act("A> SESSION NEW\nA< OK *")
		x.hold()
		x.act("A> LOCK /l")
		x.refuse(0, znode.ErrUncertain)
		x.refuse(1, znode.ErrNoLeader)
		x.release()
		x.act("A< ERR UNCERTAIN path=/l - *\nA.")
	})
}

// TestZooKeeperNoLeader: for a client of ZooKeeper's protocol, NOLEADER is a connection loss,
// whatever it has requested; no later request is answered or proposed, and the session stays.
func TestZooKeeperNoLeader(t *testing.T) {
	t.Parallel()
	for _, request := range []string{"setData /a y", "multi setData /a y", "sync /a", "closeSession"} {
		stage(t, func(x *theatre) {
			x.act("z1> create /a x\nz1< 1 #2 ok /a")
			x.hold()
			x.act("z1> " + request + " ; getData /a ; ping ; create /late x")
			for i := range x.waiting() {
				x.refuse(i, znode.ErrNoLeader)
			}
			x.release()
			x.act("z1.\nz1> create /late x")
			x.have("/a")
			x.act("z2> " + zkResume + "\nz2< session 0x3e9 *")
		})
	}
	stage(t, func(x *theatre) {
		x.hold()
		x.act("z1> connect ; create /late x")
		x.refuse(0, znode.ErrNoLeader)
		x.release()
		x.act("z1.")
		x.have()
	})
}

// TestSessionThatIsYoung: a node that does not know a session yet does not say that it does not
// exist before it has caught up with the others.
func TestSessionThatIsYoung(t *testing.T) {
	t.Parallel()
	for _, who := range []struct{ asks, gets, hearsNothing string }{
		{"z1> " + zkResume, "z1< session 0x3e9 *", "z1."},
		{"A> " + resume, "A< OK id=0x3e9 *", "A< ERR NOLEADER - *\nA> PING\nA< OK pong"},
	} {
		for _, answered := range []bool{true, false} {
			stage(t, func(x *theatre) {
				x.hold()
				x.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindSession}, TimeoutMS: 10_000}, nobody)
				x.act(who.asks)
				if !answered {
					x.refuse(1, znode.ErrNoLeader)
					x.release()
					x.act(who.hearsNothing)
					return
				}
				x.release()
				x.act(who.gets)
			})
		}
	}
}

// TestLockThatMovesToAnotherNode: the place in the line moves with the session, and the node that
// the client has left does not delete it.
func TestLockThatMovesToAnotherNode(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		stage(t, func(x *theatre) {
			x.act("B> SESSION NEW hold=30s\nB< OK id=0x3e9 *\nA> LOCK /l\nA< OK *\nB> LOCK /l timeout=5s")
			if fails { // the LOCK is given up, and its znode could not be deleted
				x.hold()
				x.act("sleep 5s")
				x.refuse(0, znode.ErrNoLeader)
				x.allow(1)
				x.act("B< ERR TIMEOUT path=/l - *")
				x.release()
			}
			x.Submit(firstSession(tree.KindAttach), nobody)
			x.act("B< EVENT moved session=0x3e9\nB.\nsleep 3s")
			x.have("/l", "/l/lock-0000000000", "/l/lock-0000000001")
		})
	}
}

// TestLeaderless: ZooKeeper's clients must go to another server, in whatever state they are, and
// keep their sessions; clients of the text protocol can still read.
func TestLeaderless(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act(`
			z1> create /e x flags=1
			z1< 1 #2 ok /e
			z2> connect
			z2< session *
			A> FOLLOW /e
			A< OK id=1 zxid=*
			`)
		unknown := x.client("b") // has sent nothing yet
		x.hold()
		x.act("z2> setData /e y ; getData /e\nz3> connect\nz4> raw 0000")
		x.front.SetLeaderless(true)
		x.act("z1.\nz2.\nz3.\nz4.")
		x.release()
		x.act("A< EVENT changed path=/e *\nA> EXISTS /e\nA< OK *\nz5> connect\nz5.")
		unknown.say(string((&zkClient{}).frames(t, "connect")))
		x.act("b.")
		const sentence = "This ZooKeeper instance is not currently serving requests"
		for word := range strings.FieldsSeq(allWords) {
			want := sentence + "\n"
			switch word {
			case "ruok", "gtmk", "stmk":
				want = answers[word]
			case "envi":
				want = answers[word]
			case "isro":
				want = "null"
			case "hash":
				want = sentence
			}
			if got := x.word(x.pipes, word); got != want {
				t.Errorf("%s: %q, want %q", word, got, want)
			}
		}
		x.front.SetLeaderless(false)
		if got := x.word(x.pipes, "isro"); got != "rw" {
			t.Errorf("isro: %q", got)
		}
		x.act("z6> " + zkResume + "\nz6< session 0x3e9 *")
		x.have("/e")
	}, allowAll)
}

// TestLeaderlessLetsNobodySlip: at whatever moment a client of ZooKeeper's protocol connects, it
// does not stay connected without a leader.
func TestLeaderlessLetsNobodySlip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.pipes()
		connect := zkBytes(t)
		for round := range 100 {
			var all [8]*caller
			var coming sync.WaitGroup
			for i := range all {
				coming.Go(func() {
					all[i] = p.open(&net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(i))})
					go all[i].say(connect)
				})
			}
			w.front.SetLeaderless(true)
			coming.Wait()
			synctest.Wait()
			for i, c := range all {
				if !c.ended() {
					t.Fatalf("round %d: client %d is connected: %q", round, i, c.got.String())
				}
				_ = c.Close()
			}
			w.front.SetLeaderless(false)
		}
		w.end()
	})
}

// TestReplaced: only clients that have missed events are disconnected, and no session ends because
// of that, not even one that would end with its connection.
func TestReplaced(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act(`
			F> SESSION NEW
			F< OK id=0x3e9 ttl=10s hold=0s *
			F> LOCK /l
			F< OK *
			E> SESSION NEW hold=30s
			E< OK *
			E> LOCK /l timeout=1h
			A> PING
			A< OK pong
			B> EXISTS / watch
			B< OK * id=1
			C> FOLLOW / recursive
			C< OK id=1 *
			D> WAIT /d EXISTS timeout=1h
			z1> exists /a watch
			z1< 1 * -101
			`)
		x.away(&tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL}})
		x.act("B.\nC.\nD.\nE.\nF.\nz1.\nA> EXISTS /a\nA< OK *\nsleep 9900ms")
		x.have("/a", "/l", "/l/lock-0000000000")
		x.act("G> " + resume + "\nG< OK id=0x3e9 *\nsleep 1m")
		x.have("/a", "/l", "/l/lock-0000000000")
		x.View(func(t *tree.Tree, _ *watch.Table) {
			if n := t.Counts().Sessions; n != 1 { // those of E and z1 have not come back
				x.t.Errorf("%d sessions", n)
			}
		})
		x.act("G> UNLOCK /l\nG< OK *")
		x.have("/a", "/l")
	})
}

// TestReplacedWithoutTheSession: a client whose session has ended or moved meanwhile is told so.
func TestReplacedWithoutTheSession(t *testing.T) {
	t.Parallel()
	for kind, why := range map[tree.Kind]string{tree.KindClose: "expired", tree.KindAttach: "moved"} {
		stage(t, func(x *theatre) {
			x.act("A> SESSION NEW\nA< OK *")
			x.away(firstSession(kind))
			x.act("A< EVENT " + why + " session=0x3e9\nA.")
			x.View(func(t *tree.Tree, _ *watch.Table) {
				if _, there := t.Session(0x3e9); there != (kind == tree.KindAttach) {
					x.t.Errorf("%s: there is a session: %v", why, there)
				}
			})
		})
	}
}

// TestReplacedMeanwhile: a session is created in a table that is replaced before its connection
// learns of the session. It ends like any other.
func TestReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, hello := range []string{"A> SESSION NEW", "A> LOCK /l", "z1> connect"} {
		stage(t, func(x *theatre) {
			name, _, _ := strings.Cut(hello, ">")
			x.hold()
			x.act(hello)
			x.away()
			x.release()
			x.act(name + ".\nsleep 9900ms")
			sessions := func() (n int) {
				x.View(func(t *tree.Tree, _ *watch.Table) { n = t.Counts().Sessions })
				return n
			}
			if n := sessions(); n != 1 {
				t.Errorf("%s: %d sessions", hello, n)
			}
			if x.act("sleep 600ms"); sessions() != 0 {
				t.Errorf("%s: the session does not end", hello)
			}
		})
	}
}

// TestModes checks the roles in ZooKeeper's words.
func TestModes(t *testing.T) {
	t.Parallel()
	for role, want := range map[string]struct{ mode, state string }{
		"standalone": {"standalone", ""},
		"leader":     {"leader", "leading - broadcast"},
		"follower":   {"follower", "following - broadcast"},
		"candidate":  {"follower", "looking"},
		"standby":    {"observer", "observing - broadcast"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, allowAll, func(cfg *frontend.Config, _ *backend) {
				cfg.SessionDeadline = func(int64) (time.Time, bool) { return time.Now(), true }
			})
			defer w.end()
			w.node.role, w.node.looking = role, role == "candidate"
			p := w.pipes()
			counts := role == "leader" || role == "standalone"
			if got := w.word(p, "dump"); strings.Contains(got, "dump:\nGlobal Sessions(0):\nephemeral") == counts {
				t.Errorf("dump of a %s without sessions: %q", role, got)
			}
			w.state.Lock()
			w.tree.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: 7, TimeoutMS: 4000, Password: make([]byte, 16)})
			w.state.Unlock()
			for _, word := range []string{"srvr", "stat"} {
				ends := "Mode: " + want.mode + "\nNode count: 4\n"
				if role == "leader" {
					ends += "Proposal sizes last/min/max: -1/-1/-1\n"
				}
				if got := w.word(p, word); !strings.HasSuffix(got, ends) {
					t.Errorf("%s of a %s: %q", word, role, got)
				}
			}
			mntr := strings.Split(w.word(p, "mntr"), "\n")
			begins := []string{"zk_server_state\t" + want.mode}
			if want.state != "" {
				begins = append(begins, "zk_peer_state\t"+want.state)
			}
			if got := mntr[1 : 1+len(begins)]; !slices.Equal(got, begins) || want.state == "" && slices.ContainsFunc(mntr, func(s string) bool { return strings.Contains(s, "peer_state") }) {
				t.Errorf("mntr of a %s: %q", role, mntr)
			}
			if got := w.word(p, "isro"); got != "rw" {
				t.Errorf("isro of a %s: %q", role, got)
			}
			if got := w.word(p, "dump"); strings.Contains(got, "Global Sessions(1):\n0x7\t4000ms\n") == counts {
				t.Errorf("dump of a %s: %q", role, got)
			}
			c := p.open(home)
			c.say("HELLO\nQUIT\n")
			<-c.done
			if !strings.Contains(c.got.String(), fmt.Sprintf(" role=%s ", role)) {
				t.Errorf("HELLO of a %s: %q", role, c.got.String())
			}
		})
	}
}
