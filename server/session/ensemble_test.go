package session_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/session"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// cluster is some nodes with a log that is committed at once, and the keepers of those that are up.
// The test decides which node leads.
type cluster struct {
	*testing.T
	nodes []*node // node 1 is nodes[0]

	mu      sync.Mutex
	log     []entry
	leader  *node // nil for none; it is ready
	term    uint64
	ready   time.Time // since when it is
	refused int       // closes that the tree refused

	// Called with mu held:
	lose   func(from uint64, b []byte) bool // whether a report is lost
	delay  func() time.Duration             // how long a report takes
	before func(x *tree.Txn)                // called with each proposal of a keeper
	closed func(id int64)                   // called with each session that a keeper has closed
}

type entry struct {
	txn    tree.Txn
	origin *node
	life   int // the origin's, when it submitted this
	done   func(tree.Result)
}

// node is one of the nodes. The cluster's mu guards all of it.
type node struct {
	c        *cluster
	id       uint64
	life     int // how often it has been started
	keeper   *session.Keeper
	stop     func()
	tree     *tree.Tree
	applied  int
	lag      time.Duration // how late it applies what others have committed
	leader   uint64        // as far as it knows
	term     uint64
	leads    bool
	links    uint64    // how often a link has come or gone
	arrives  time.Time // when the last report that it has sent arrives
	proposed int
	looks    int
	told     []told
}

type told struct {
	at time.Time
	to uint64
	b  []byte
}

// ensemble runs a test with n nodes, of which the first leads.
func ensemble(t *testing.T, n int, test func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{T: t,
			lose:   func(uint64, []byte) bool { return false },
			delay:  func() time.Duration { return time.Millisecond },
			before: func(*tree.Txn) {},
			closed: func(int64) {},
		}
		for i := range n {
			c.nodes = append(c.nodes, &node{c: c, id: uint64(i + 1), tree: tree.New(), lag: time.Millisecond})
		}
		for _, n := range c.nodes {
			n.start()
		}
		c.elect(1)
		test(c)
		for _, n := range c.nodes {
			if n.keeper != nil {
				n.stop()
			}
		}
	})
}

// locked runs f with mu held.
func (c *cluster) locked(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (n *node) start() {
	ctx, cancel := context.WithCancel(n.c.Context())
	ended := make(chan error, 1)
	n.c.mu.Lock()
	n.life++
	k := session.New(session.Config{Replica: n, Ensemble: n, ContainerInterval: time.Minute})
	n.keeper = k
	n.c.mu.Unlock()
	go func() { ended <- k.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			n.c.Errorf("Run: %v", err)
		}
	}
}

// crash ends a node; start starts it again.
func (n *node) crash() {
	n.stop()
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.keeper, n.life = nil, n.life+1
	n.leader, n.leads = 0, false
	if n.c.leader == n {
		n.c.leader = nil
	}
}

// elect makes a node the leader, and all nodes know it. 0: there is no leader.
func (c *cluster) elect(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = nil
	if id != 0 {
		c.appoint(c.nodes[id-1])
	}
	for _, n := range c.nodes {
		n.learn(id, id != 0 && n.id == id)
	}
}

// appoint makes a node the leader. The others do not know that yet. mu is held.
func (c *cluster) appoint(n *node) {
	c.term++
	n.catchUp(len(c.log))
	c.leader, c.ready = n, time.Now()
	n.learn(n.id, true)
}

// learn tells a node who leads in this term. mu is held.
func (n *node) learn(leader uint64, leads bool) {
	if n.keeper != nil {
		n.leader, n.term, n.leads = leader, n.c.term, leads
		n.keeper.Look()
	}
}

func (n *node) Leader() (id, term uint64, self bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.leader, n.term, n.leads
}

func (n *node) Links() uint64 {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.links
}

func (n *node) Tell(to uint64, b []byte) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.told = append(n.told, told{time.Now(), to, b})
	if n.c.lose(n.id, b) {
		return
	}
	at := time.Now().Add(n.c.delay())
	if at.Before(n.arrives) {
		at = n.arrives.Add(time.Microsecond)
	}
	n.arrives = at
	time.AfterFunc(time.Until(at), func() {
		n.c.mu.Lock()
		k := n.c.nodes[to-1].keeper
		n.c.mu.Unlock()
		if k != nil {
			k.Told(n.id, b)
		}
	})
}

func (n *node) View(read func(*tree.Tree, *watch.Table)) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.looks++
	read(n.tree, nil)
}

// Decide takes the keeper's proposal; the node must lead as far as its keeper can know.
func (n *node) Decide(x *tree.Txn, done func(tree.Result, *tree.Tree, *watch.Table)) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.proposed++
	if !n.leads {
		n.c.Errorf("node %d proposes and does not lead", n.id)
	}
	if n.c.leader != n {
		done(tree.Result{Code: znode.ErrUncertain}, n.tree, nil)
		return
	}
	n.c.before(x)
	n.c.commit(*x, n, func(r tree.Result) {
		switch {
		case x.Kind != tree.KindClose:
		case r.Code == znode.OK:
			n.c.closed(x.Target)
		default:
			n.c.refused++
		}
		done(r, n.tree, nil)
	})
}

// commit puts a txn into the log. The leader applies it at once.
func (c *cluster) commit(x tree.Txn, origin *node, done func(tree.Result)) {
	x.TimeMS = time.Now().UnixMilli()
	c.log = append(c.log, entry{x, origin, origin.life, done})
	end := len(c.log)
	c.leader.catchUp(end)
	for _, n := range c.nodes {
		if n != c.leader {
			time.AfterFunc(n.lag, func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				n.catchUp(end)
			})
		}
	}
}

// catchUp applies the log up to end.
func (n *node) catchUp(end int) {
	for n.applied < end {
		e := n.c.log[n.applied]
		n.applied++
		r, _ := n.tree.Apply(1, &e.txn)
		if e.origin == n && e.life == n.life && e.done != nil {
			e.done(r)
		}
	}
}

// must commits a txn that comes through a node, and waits until all nodes have applied it.
func (c *cluster) must(through uint64, x tree.Txn) (r tree.Result) {
	c.Helper()
	c.mu.Lock()
	came := false
	c.commit(x, c.nodes[through-1], func(got tree.Result) { r, came = got, true })
	var longest time.Duration
	for _, n := range c.nodes {
		longest = max(longest, n.lag)
	}
	c.mu.Unlock()
	time.Sleep(longest)
	synctest.Wait()
	if !came || r.Code != znode.OK {
		c.Fatalf("%v: answered %v with %v", x.Kind, came, r.Code)
	}
	return r
}

// open creates a session through a node, without attaching it to a keeper.
func (c *cluster) open(through uint64, id int64, timeout time.Duration) {
	c.Helper()
	c.must(through, tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id, TimeoutMS: int32(timeout.Milliseconds()), Password: make([]byte, 16)})
}

// move gives a session to a connection through a node.
func (c *cluster) move(through uint64, id int64) (attachment uint32) {
	c.Helper()
	return c.must(through, tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: id, Password: make([]byte, 16)}).Attachment
}

func (c *cluster) keeper(id uint64) *session.Keeper { return c.nodes[id-1].keeper }

// alive lets time pass and then demands that exactly these sessions exist.
func (c *cluster) alive(after time.Duration, want ...int64) {
	c.Helper()
	time.Sleep(after)
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.leader
	if n == nil {
		n = c.nodes[0]
	}
	var have []int64
	n.tree.Sessions(-1<<63, func(s tree.Session, _ int) bool {
		have = append(have, s.ID)
		return true
	})
	if !slices.Equal(have, want) {
		c.Errorf("%v on: sessions %v, want %v", time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), have, want)
	}
}

// proposals is how many proposals each node has made since the last call.
func (c *cluster) proposals() (ns []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		ns = append(ns, n.proposed)
		n.proposed = 0
	}
	return ns
}

// reported returns the reports that a node has sent since the last call.
func (c *cluster) reported(by uint64) (all []told) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, c.nodes[by-1].told = c.nodes[by-1].told, nil
	return all
}

// where gives a session each kind of presence that there is.
var where = map[string]func(k *session.Keeper, attachment uint32, ttl time.Duration){
	"attached": func(k *session.Keeper, a uint32, ttl time.Duration) { k.Attach(1, a, ttl, false) },
	"detached": func(k *session.Keeper, a uint32, ttl time.Duration) { k.Detach(1, a, ttl) },
	"left": func(k *session.Keeper, a uint32, ttl time.Duration) {
		k.Attach(1, a, time.Hour, true)
		time.Sleep(time.Minute)
		k.Detach(1, a, ttl)
	},
	"replaced": func(k *session.Keeper, a uint32, ttl time.Duration) {
		k.Attach(1, a, time.Hour, true)
		time.Sleep(time.Minute)
		k.Attach(1, a, ttl, false)
	},
}

// TestASilentSessionOfAFollowerEnds: never before its time, which may be more or less than the tree
// says, and soon after it; only the leader proposes the close.
func TestASilentSessionOfAFollowerEnds(t *testing.T) {
	for name, begins := range where {
		for _, timeout := range []time.Duration{time.Millisecond, 10 * time.Second, time.Hour} {
			for _, ttl := range []time.Duration{time.Millisecond, 700 * time.Millisecond, 5 * time.Second, 2 * time.Minute} {
				t.Run(name+" "+timeout.String()+" "+ttl.String(), func(t *testing.T) {
					ensemble(t, 3, func(c *cluster) {
						c.open(2, 1, timeout)
						begins(c.keeper(2), 0, ttl)
						if name == "attached" || name == "replaced" {
							for range 5 {
								c.alive(ttl-time.Millisecond/2, 1)
								c.keeper(2).Touch(1)
							}
						}
						c.alive(ttl-time.Millisecond/2, 1)
						c.alive(late)
						if got := c.proposals(); !slices.Equal(got, []int{1, 0, 0}) {
							t.Errorf("proposals %v", got)
						}
						time.Sleep(late)
						for _, n := range c.nodes {
							if known := session.Known(n.keeper); known != 0 {
								t.Errorf("node %d remembers %d sessions", n.id, known)
							}
						}
					})
				})
			}
		}
	}
}

// TestAKeptSessionOfAFollowerLives as long as its connection, even if every second report of it is lost.
func TestAKeptSessionOfAFollowerLives(t *testing.T) {
	for _, ttl := range []time.Duration{time.Millisecond, time.Second, 5 * time.Second, time.Minute} {
		t.Run(ttl.String(), func(t *testing.T) {
			ensemble(t, 2, func(c *cluster) {
				n := 0
				c.locked(func() { c.lose = func(uint64, []byte) bool { n++; return n%2 == 1 } })
				c.open(2, 1, time.Millisecond)
				c.keeper(2).Attach(1, 0, ttl, true)
				c.alive(10*time.Minute, 1)
				c.keeper(2).Detach(1, 0, time.Millisecond)
				c.alive(late + late/2)
			})
		})
	}
}

// TestAnElectionGivesEachSessionItsTimeAgain, from the moment at which the new leader is ready,
// even if it led before; and nothing is proposed until the time is over.
func TestAnElectionGivesEachSessionItsTimeAgain(t *testing.T) {
	for name, begins := range map[string]func(c *cluster){
		"attached nowhere":   func(*cluster) {},
		"of the old leader":  func(c *cluster) { c.keeper(1).Attach(1, 0, 10*time.Second, false) },
		"of the new leader":  func(c *cluster) { c.keeper(2).Attach(1, 0, 10*time.Second, false) },
		"held by the old":    func(c *cluster) { c.keeper(1).Detach(1, 0, 10*time.Second) },
		"held by the new":    func(c *cluster) { c.keeper(2).Detach(1, 0, 10*time.Second) },
		"held by another":    func(c *cluster) { c.keeper(3).Detach(1, 0, 10*time.Second) },
		"of another":         func(c *cluster) { c.keeper(3).Attach(1, 0, 10*time.Second, false) },
		"of one that is now": func(c *cluster) { c.keeper(3).Attach(1, 0, 10*time.Second, false); c.nodes[2].crash() },
	} {
		t.Run(name, func(t *testing.T) {
			ensemble(t, 3, func(c *cluster) {
				c.open(1, 1, 10*time.Second)
				c.alive(late, 1)
				begins(c)
				c.alive(8*time.Second, 1)
				for _, next := range []uint64{2, 1, 2, 1} {
					c.elect(0)
					c.alive(time.Minute, 1) // its time is over, and no node may propose the close
					c.elect(next)
					c.alive(10*time.Second-time.Millisecond, 1)
				}
				if got := c.proposals(); !slices.Equal(got, []int{0, 0, 0}) {
					t.Errorf("proposals %v", got)
				}
				c.alive(late)
			})
		})
	}
}

// TestANewLeaderIsToldAnew of every session, at once: it knows only their TimeoutMS.
func TestANewLeaderIsToldAnew(t *testing.T) {
	ensemble(t, 3, func(c *cluster) {
		c.open(1, 1, time.Millisecond)
		c.keeper(1).Attach(1, 0, time.Hour, true)
		c.open(3, 2, time.Millisecond)
		c.keeper(3).Attach(2, 0, time.Hour, true)
		c.open(3, 3, time.Hour)
		c.keeper(3).Attach(3, 0, time.Second, true)
		c.alive(time.Minute, 1, 2, 3)
		for _, next := range []uint64{2, 1, 3, 2} {
			c.elect(next)
			c.alive(time.Minute, 1, 2, 3)
		}
		c.nodes[2].crash()
		c.alive(leastPromise+late, 1, 2)
		c.alive(time.Hour, 1)
	})
}

// TestALeaderReapsAfterItsElection what has been due for its whole time since.
func TestALeaderReapsAfterItsElection(t *testing.T) {
	ensemble(t, 3, func(c *cluster) {
		c.must(1, tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: "/c", Mode: znode.Container, Data: []byte{}, ACL: znode.OpenACL}})
		c.must(1, tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: "/c/a", Mode: znode.Persistent, Data: []byte{}, ACL: znode.OpenACL}})
		c.must(1, tree.Txn{Op: tree.Op{Kind: tree.KindDelete, Path: "/c/a", Version: tree.AnyVersion}})
		c.must(1, tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: "/t", Mode: znode.PersistentTTL, TTLMS: 60_000, Data: []byte{}, ACL: znode.OpenACL}})
		for _, next := range []uint64{2, 1, 2} {
			time.Sleep(58 * time.Second)
			c.elect(0)
			time.Sleep(10 * time.Minute)
			c.elect(next)
		}
		time.Sleep(time.Minute - time.Millisecond)
		if got := c.proposals(); !slices.Equal(got, []int{0, 0, 0}) {
			t.Errorf("proposals %v too early", got)
		}
		time.Sleep(slack)
		if got := c.proposals(); !slices.Equal(got, []int{0, 2, 0}) {
			t.Errorf("proposals %v, want two of the leader", got)
		}
	})
}

// leastPromise is how long a node may at least be silent.
const leastPromise = 2 * time.Second

// TestTheSessionsOfADeadNodeEnd: their ttl after the node's last report; a held session when its
// hold ends. A session that is attached elsewhere by then lives on.
func TestTheSessionsOfADeadNodeEnd(t *testing.T) {
	for name, c := range map[string]struct {
		begins func(k *session.Keeper, id int64)
		lives  time.Duration // since the last report, which is that of the next round
	}{
		"kept":          {func(k *session.Keeper, id int64) { k.Attach(id, 0, 5*time.Second, true) }, 5 * time.Second},
		"kept briefly":  {func(k *session.Keeper, id int64) { k.Attach(id, 0, time.Millisecond, true) }, leastPromise},
		"pinged":        {func(k *session.Keeper, id int64) { k.Attach(id, 0, 2*time.Minute, false) }, 2 * time.Minute},
		"pinged often":  {func(k *session.Keeper, id int64) { k.Attach(id, 0, expireEvery+1, false) }, leastPromise},
		"held":          {func(k *session.Keeper, id int64) { k.Detach(id, 0, 10*time.Second+expireEvery) }, 10 * time.Second},
		"hardly held":   {func(k *session.Keeper, id int64) { k.Detach(id, 0, expireEvery+time.Second) }, time.Second},
		"never told of": {func(*session.Keeper, int64) {}, time.Minute - expireEvery},
	} {
		t.Run(name, func(t *testing.T) {
			ensemble(t, 3, func(cl *cluster) {
				cl.open(2, 1, time.Minute)
				cl.open(2, 2, time.Minute)
				time.Sleep(expireEvery - time.Millisecond) // past the first round
				c.begins(cl.keeper(2), 1)
				c.begins(cl.keeper(2), 2)
				time.Sleep(expireEvery)
				cl.alive(2*time.Millisecond, 1, 2)
				cl.nodes[2-1].crash()
				cl.alive(c.lives-10*time.Millisecond, 1, 2)
				attachment := cl.move(3, 2)
				cl.keeper(3).Attach(2, attachment, time.Hour, true)
				cl.alive(late, 2)
				cl.alive(10*time.Minute, 2)
			})
		})
	}
}

// TestAMovedSessionIsItsNewNodes: the old node, which learns of the move late, neither prolongs nor
// ends the session, and forgets it when it does learn.
func TestAMovedSessionIsItsNewNodes(t *testing.T) {
	for name, was := range map[string]func(k *session.Keeper){
		"kept":        func(k *session.Keeper) { k.Attach(1, 0, time.Hour, true) },
		"pinged":      func(k *session.Keeper) { k.Attach(1, 0, time.Hour, false) },
		"short":       func(k *session.Keeper) { k.Attach(1, 0, time.Millisecond, false) },
		"held":        func(k *session.Keeper) { k.Detach(1, 0, time.Hour) },
		"hardly held": func(k *session.Keeper) { k.Detach(1, 0, 3*time.Second) },
	} {
		for from := uint64(1); from <= 3; from++ {
			for to := uint64(1); to <= 3; to++ {
				if from == to {
					continue
				}
				t.Run(name, func(t *testing.T) {
					ensemble(t, 3, func(c *cluster) {
						c.open(from, 1, 5*time.Second)
						was(c.keeper(from))
						c.mu.Lock()
						old := c.nodes[from-1]
						if from != 1 {
							old.lag = 20 * time.Second
						}
						var attachment uint32
						c.commit(tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: 1, Password: make([]byte, 16)}, c.nodes[to-1],
							func(r tree.Result) { attachment = r.Attachment })
						c.mu.Unlock()
						c.alive(c.nodes[to-1].lag, 1)
						c.keeper(to).Attach(1, attachment, 10*time.Second, true)
						c.alive(15*time.Second, 1)
						c.keeper(to).Attach(1, attachment, 10*time.Second, false)
						c.alive(10*time.Second-time.Millisecond, 1)
						if n := session.Known(old.keeper); n != 0 && from != 1 {
							t.Errorf("%d sessions are remembered", n)
						}
						c.alive(late)
					})
				})
			}
		}
	}
}

// TestWhoIsAttachedBeforeTheCloseKeepsTheSession, even if the leader has already decided to close it.
func TestWhoIsAttachedBeforeTheCloseKeepsTheSession(t *testing.T) {
	ensemble(t, 2, func(c *cluster) {
		c.open(2, 1, 3*time.Second)
		c.keeper(2).Detach(1, 0, 3*time.Second)
		c.locked(func() {
			c.before = func(*tree.Txn) {
				c.commit(tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: 1, Password: make([]byte, 16)}, c.nodes[1], func(r tree.Result) {
					c.nodes[1].keeper.Attach(1, r.Attachment, time.Minute, true)
				})
			}
		})
		c.alive(time.Hour, 1)
		c.locked(func() {
			if c.refused != 1 {
				t.Errorf("%d closes were refused, want 1", c.refused)
			}
		})
	})
}

// TestWhoLeadsNoMoreProposesNoMore, even in the middle of a round.
func TestWhoLeadsNoMoreProposesNoMore(t *testing.T) {
	ensemble(t, 2, func(c *cluster) {
		for id := range int64(3) {
			c.open(1, id+1, 3*time.Second)
		}
		for _, path := range []string{"/a", "/b", "/c"} {
			c.must(1, tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: path, Mode: znode.PersistentTTL, TTLMS: 30_000, Data: []byte{}, ACL: znode.OpenACL}})
		}
		c.locked(func() { c.before = func(*tree.Txn) { c.nodes[0].learn(0, false) } })
		time.Sleep(10 * time.Second)
		if got := c.proposals(); !slices.Equal(got, []int{1, 0}) {
			t.Errorf("proposals %v, want one", got)
		}
		c.locked(func() { c.before = func(*tree.Txn) {} })
		c.elect(1)
		c.alive(10 * time.Second)
		c.proposals()
		c.locked(func() { c.before = func(*tree.Txn) { c.nodes[0].learn(0, false) } })
		time.Sleep(time.Minute)
		if got := c.proposals(); !slices.Equal(got, []int{1, 0}) {
			t.Errorf("proposals %v, want one", got)
		}
	})
}

// TestNewsIsReportedAtOnce, again after two, four … rounds, and then every third of the session's
// time. A follower sends nothing else, and nobody proposes anything.
func TestNewsIsReportedAtOnce(t *testing.T) {
	ensemble(t, 2, func(c *cluster) {
		for id := range int64(10) {
			c.open(2, id+1, 30*time.Second)
			c.keeper(2).Attach(id+1, 0, 30*time.Second, true)
		}
		demand := func(name string, span time.Duration, want ...time.Duration) {
			t.Helper()
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + time.Millisecond))) // align with the rounds
			c.reported(2)
			start := time.Now().Add(-time.Millisecond)
			switch name {
			case "detached":
				c.keeper(2).Detach(1, 0, 30*time.Second)
			case "attached":
				c.keeper(2).Attach(1, 0, 30*time.Second, true)
			case "elected":
				c.elect(1)
			}
			time.Sleep(span)
			var at []time.Duration
			for _, r := range c.reported(2) {
				if bytes.HasPrefix(r.b, []byte{0, 0, 0, 0, 0, 0, 0, 1}) && len(r.b) == 20 || name == "elected" {
					at = append(at, r.at.Sub(start))
				}
			}
			if !slices.Equal(at, want) {
				t.Errorf("%s: reported after %v, want %v", name, at, want)
			}
		}
		quarters := func(ns ...int) (ds []time.Duration) {
			for _, n := range ns {
				ds = append(ds, time.Duration(n)*expireEvery)
			}
			return ds
		}
		demand("elected", 29*time.Second, quarters(1, 2, 4, 8, 16, 32, 64, 103)...)
		demand("detached", 9*time.Second, quarters(1, 2, 4, 8, 16, 32)...)
		demand("attached", 9*time.Second, quarters(1, 2, 4, 8, 16, 32)...)
		c.reported(2)
		c.alive(time.Hour, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		sent := 0
		for _, r := range c.reported(2) {
			sent += len(r.b)
		}
		if most := int(time.Hour/(30*time.Second/3-expireEvery)+1) * 20 * 10; sent > most {
			t.Errorf("%d bytes in an hour, want %d at most", sent, most)
		}
		if got := c.proposals(); !slices.Equal(got, []int{0, 0}) {
			t.Errorf("proposals %v", got)
		}
	})
}

// TestAKeeperSleepsWhileNothingIsDue: an idle node pays for each wake-up.
func TestAKeeperSleepsWhileNothingIsDue(t *testing.T) {
	ensemble(t, 2, func(c *cluster) {
		for id := range int64(10) {
			c.open(1+uint64(id%2), id+1, 30*time.Second)
			c.keeper(1+uint64(id%2)).Attach(id+1, 0, 30*time.Second, true)
		}
		time.Sleep(time.Minute)
		for _, n := range c.nodes {
			c.locked(func() { n.looks = 0 })
		}
		time.Sleep(time.Minute)
		for i, n := range c.nodes {
			// One look each second and one for each report; on the leader also one at the znodes.
			c.locked(func() {
				if most := 60*(2-i) + 10; n.looks > most {
					t.Errorf("node %d has looked %d times in a minute, want %d at most", n.id, n.looks, most)
				}
			})
		}
	})
}

const expireEvery = 250 * time.Millisecond

// TestARoundReportsOnlySoMuch, and the rest is reported later.
func TestARoundReportsOnlySoMuch(t *testing.T) {
	ensemble(t, 1, func(c *cluster) {
		const count = 2 * 16 * 2048
		c.lose = func(uint64, []byte) bool { return true }
		c.mu.Lock()
		n := c.nodes[0]
		n.learn(2, false)
		for id := int64(1); id <= count; id++ { // applied directly: the log would be long
			n.tree.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id, TimeoutMS: 3_600_000, Password: make([]byte, 16)})
			n.keeper.Attach(id, 0, time.Hour, true)
		}
		c.mu.Unlock()
		heard := map[string]bool{}
		for round, isFull := 0, true; isFull; round++ {
			time.Sleep(expireEvery)
			synctest.Wait()
			all := c.reported(1)
			if isFull = len(all) >= 16; len(all) > 16 || round > 20 {
				t.Fatalf("%d reports in round %d", len(all), round)
			}
			for i, r := range all {
				if len(r.b) > 2048*20 || round == 0 && len(r.b) != 2048*20 {
					t.Fatalf("report %d of round %d has %d bytes", i, round, len(r.b))
				}
				for entry := range slices.Chunk(r.b, 20) {
					heard[string(entry[:8])] = true
				}
			}
		}
		if len(heard) != count {
			t.Errorf("%d sessions were reported, want %d", len(heard), count)
		}
	})
}

// TestTheBytesOfAReport are those of docs/sync-protocol.md.
func TestTheBytesOfAReport(t *testing.T) {
	for name, c := range map[string]struct {
		begins func(k *session.Keeper)
		want   string
	}{
		"kept":          {func(k *session.Keeper) { k.Attach(-1<<60, 7, 10*time.Second, true) }, "f000000000000000 00000007 00002710 00002710"},
		"pinged":        {func(k *session.Keeper) { k.Attach(-1<<60, 7, 400*time.Millisecond, false) }, "f000000000000000 00000007 00000190 000007d0"},
		"held":          {func(k *session.Keeper) { k.Detach(-1<<60, 7, time.Second) }, "f000000000000000 00000007 000003e8 000002ee"},
		"over":          {func(k *session.Keeper) { k.Detach(-1<<60, 7, time.Millisecond) }, "f000000000000000 00000007 00000001 00000000"},
		"rounded up":    {func(k *session.Keeper) { k.Detach(-1<<60, 7, time.Second-time.Nanosecond) }, "f000000000000000 00000007 000003e8 000002ee"},
		"more than fit": {func(k *session.Keeper) { k.Attach(-1<<60, 7, 1<<62, true) }, "f000000000000000 00000007 ffffffff ffffffff"},
		"without time":  {func(k *session.Keeper) { k.Detach(-1<<60, 7, -time.Hour) }, "f000000000000000 00000007 00000000 00000000"},
	} {
		t.Run(name, func(t *testing.T) {
			ensemble(t, 2, func(cl *cluster) {
				cl.open(2, -1<<60, time.Millisecond)
				for range 7 {
					cl.move(2, -1<<60)
				}
				time.Sleep(time.Until(time.Now().Truncate(expireEvery).Add(expireEvery))) // wait for the end of a round
				synctest.Wait()
				c.begins(cl.keeper(2))
				time.Sleep(expireEvery)
				synctest.Wait()
				all := cl.reported(2)
				if len(all) != 1 || all[0].to != 1 {
					t.Fatalf("reported %v", all)
				}
				want, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(c.want), []byte(" "), nil)))
				if err != nil {
					t.Fatal(err)
				}
				if got := all[0].b; !bytes.Equal(got, want) {
					t.Errorf("got %x, want %x", got, want)
				}
			})
		})
	}
}

// TestWhatIsNoReportCounts for nothing. Nor does a report that reaches a node that does not lead,
// or one about an unknown session or another attachment.
func TestWhatIsNoReportCounts(t *testing.T) {
	entry := func(id int64, attachment, ttl, left uint32) []byte {
		b := binary.BigEndian.AppendUint64(nil, uint64(id))
		for _, n := range []uint32{attachment, ttl, left} {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		return b
	}
	good := entry(1, 0, 3_600_000, 3_600_000)
	for name, c := range map[string]struct {
		to    uint64
		b     []byte
		count bool
	}{
		"good":                {1, good, true},
		"twice":               {1, slices.Concat(good, good), true},
		"behind others":       {1, append(bytes.Repeat(entry(9, 0, 1, 1), 2047), good...), true},
		"to another":          {2, good, false},
		"nothing":             {1, nil, false},
		"too short":           {1, good[:19], false},
		"too long":            {1, append(slices.Clone(good), 0), false},
		"too many":            {1, bytes.Repeat(good, 2049), false},
		"another's":           {1, entry(2, 0, 3_600_000, 3_600_000), false},
		"a later attachment":  {1, entry(1, 1, 3_600_000, 3_600_000), false},
		"another attachment":  {1, entry(1, 1<<31, 3_600_000, 3_600_000), false},
		"of one that is here": {1, entry(3, 0, 0, 0), false},
	} {
		t.Run(name, func(t *testing.T) {
			ensemble(t, 2, func(cl *cluster) {
				cl.open(1, 1, 10*time.Second)
				cl.open(1, 3, 10*time.Second)
				cl.keeper(1).Attach(3, 0, time.Minute, false)
				cl.alive(time.Second, 1, 3)
				cl.keeper(c.to).Told(2, c.b)
				if n := session.Known(cl.keeper(c.to)); n > 2 {
					t.Errorf("%d sessions are known", n)
				}
				want := []int64{3}
				if c.count {
					want = []int64{1, 3}
				}
				cl.alive(10*time.Second, want...)
			})
		})
	}
}

// TestADeadlineIsKnownWhereItIsCounted: on the leader and on the session's own node.
func TestADeadlineIsKnownWhereItIsCounted(t *testing.T) {
	ensemble(t, 3, func(c *cluster) {
		c.open(2, 1, 10*time.Second)
		c.keeper(2).Attach(1, 0, 20*time.Second, false)
		c.open(3, 2, 10*time.Second)
		c.keeper(3).Detach(2, 0, time.Minute)
		demand := func(node uint64, id int64, from, to time.Duration) {
			t.Helper()
			at, ok := c.keeper(node).Deadline(id)
			if got := time.Until(at); ok != (to > 0) || ok && (got < from || got > to) {
				t.Errorf("node %d, session %d: %v %v, want %v to %v", node, id, got, ok, from, to)
			}
		}
		time.Sleep(5 * time.Second)
		demand(1, 1, 15*time.Second, 20*time.Second) // its node will know when it falls silent
		demand(2, 1, 15*time.Second-10*time.Millisecond, 15*time.Second)
		demand(3, 1, 0, 0)
		demand(1, 2, 55*time.Second-10*time.Millisecond, 55*time.Second+260*time.Millisecond) // last reported perhaps a round ago
		demand(2, 2, 0, 0)
		demand(3, 2, 55*time.Second-10*time.Millisecond, 55*time.Second+10*time.Millisecond)
		c.elect(3)
		time.Sleep(late)
		demand(1, 1, 0, 0)
		demand(2, 1, 13*time.Second, 14*time.Second)
		demand(3, 1, 19*time.Second, 20*time.Second)
		demand(3, 2, 59*time.Second, 60*time.Second) // its whole time again
		c.keeper(2).Attach(1, 0, time.Minute, true)
		demand(2, 1, time.Minute, time.Minute)
	})
}

// FuzzTold: whatever a report contains, only the times of sessions that the leader knows are taken from it.
func FuzzTold(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 0, 2}, make([]byte, 12)...), uint64(2))
	f.Add(bytes.Repeat([]byte{255}, 60), uint64(3))
	f.Fuzz(func(t *testing.T, b []byte, from uint64) {
		r := &bench{T: t, tree: tree.New()}
		k := session.New(session.Config{Replica: r})
		for id := int64(1); id <= 2; id++ {
			r.open(id, time.Hour)
		}
		k.Attach(1, 0, time.Hour, true)
		session.Round(k) // it leads, and knows both
		k.Told(from, b)
		if n := session.Known(k); n != 2 {
			t.Errorf("%d sessions are known", n)
		}
		if at, ok := k.Deadline(1); !ok || time.Until(at) < time.Hour-time.Minute {
			t.Errorf("the leader's own session ends in %v", time.Until(at))
		}
	})
}
