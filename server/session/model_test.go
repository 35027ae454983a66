package session_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"coord/server/session"
	"coord/tree"
	"coord/tree/znode"
)

// model is what the clients know about their sessions, and so what may happen to those.
type model struct {
	*cluster
	rand    *rand.Rand
	clients []*client
	elected time.Time // when all nodes know the last leader
	lost    map[int64]bool
	seen    map[string]int // what has happened: the test is worthless if something never does
	syncs   sync.WaitGroup // SYNCs under way
}

// client is the client of one session. The cluster's mu guards it.
type client struct {
	id       int64
	node     *node
	presence string        // "attaching", "kept", "pinged", "held"
	ttl      time.Duration // or hold
	timeout  time.Duration // in the tree
	heard    time.Time     // when the client was last heard; for a held session, when the hold began
	attached time.Time
	next     time.Time // when the client is heard next
	silent   bool      // the client will not be heard again
	crashed  time.Time // when its node crashed, or zero
	proven   time.Time // when the newest answered SYNC was sent, or zero
	ended    bool
}

func promise(ttl time.Duration) time.Duration { return max(ttl, leastPromise) }

// earliest is the earliest moment at which a session may end. What the answer to a SYNC has promised its
// client counts whatever happens to the node.
func (m *model) earliest(s *client) time.Time {
	at := m.unproven(s)
	if s.proven.IsZero() {
		return at
	}
	return latest(at, s.proven.Add(min(s.ttl, s.timeout)))
}

// unproven is earliest without any SYNC. A time far away means never.
func (m *model) unproven(s *client) time.Time {
	forEver := time.Now().Add(1000 * time.Hour)
	at := latest(s.heard, m.ready).Add(s.ttl)
	switch s.presence {
	case "attaching":
		at = latest(s.heard, m.ready).Add(promise(s.timeout))
	case "kept":
		at = forEver
	}
	if s.crashed.IsZero() {
		return at
	}
	// The node's last report counts, if it has made any: of the last two one may be lost. If it has
	// not reported the hold, its last report was made before the hold.
	reported := latest(m.ready, s.crashed.Add(promise(s.ttl)/3-expireEvery))
	if s.presence == "held" {
		if reported = forEver; s.crashed.Sub(s.heard) < 1500*time.Millisecond {
			reported = s.crashed
		}
	}
	return earlier(at, earlier(reported, latest(s.attached, m.ready).Add(promise(s.timeout))))
}

// latestEnd is when the session must have ended.
func (m *model) latestEnd(s *client) (at time.Time, must bool) {
	const slack = 3 * time.Second
	from := latest(s.heard, m.elected)
	switch {
	case m.leader == nil:
		return at, false
	case !s.crashed.IsZero(): // its earlier presence counts, if nothing else was reported
		return latest(from, s.crashed).Add(longest + slack), true
	case s.presence == "attaching" || s.presence == "kept":
		return at, false
	}
	return from.Add(s.ttl + slack), true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// drop loses one report in four, but never two of one session in a row.
func (m *model) drop(from uint64, b []byte) bool {
	var ids []int64
	for entry := range slices.Chunk(b, 20) {
		ids = append(ids, int64(binary.BigEndian.Uint64(entry)))
	}
	lose := m.rand.IntN(4) == 0 && !slices.ContainsFunc(ids, func(id int64) bool { return m.lost[id] })
	for _, id := range ids {
		m.lost[id] = lose
	}
	if lose {
		m.seen["a report is lost"]++
		m.nodes[from-1].links++ // the report is lost with its link, which is made anew
	}
	return lose
}

// end is called with each session that a keeper has ended.
func (m *model) end(id int64) {
	s := m.clients[id-1]
	s.ended = true
	m.seen["a session that was "+s.presence+" ends"]++
	if early := time.Until(m.earliest(s)); early > 0 {
		m.Errorf("session %d of node %d, %s for %v (timeout %v), heard %v ago, crashed %v, ends %v too early, %v after the election",
			s.id, s.node.id, s.presence, s.ttl, s.timeout, time.Since(s.heard), !s.crashed.IsZero(), early, time.Since(m.ready))
	}
}

// longest is the longest time that a session gets.
const longest = 10 * time.Second

func (m *model) span() time.Duration {
	return []time.Duration{400 * time.Millisecond, time.Second, 3 * time.Second, longest}[m.rand.IntN(4)]
}

// running picks one of the nodes that are up.
func (m *model) running() *node {
	for {
		if n := m.nodes[m.rand.IntN(len(m.nodes))]; n.keeper != nil {
			return n
		}
	}
}

// open begins a session.
func (m *model) open() {
	s := &client{id: int64(len(m.clients) + 1)}
	m.clients = append(m.clients, s)
	s.timeout = m.span()
	m.attach(s, tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: s.id, TimeoutMS: int32(s.timeout.Milliseconds()), Password: make([]byte, 16)})
}

// attach brings a session to some node, by a txn. mu is held.
func (m *model) attach(s *client, x tree.Txn) {
	n, ttl, kept := m.running(), m.span(), m.rand.IntN(2) == 0
	*s = client{id: s.id, node: n, presence: "attaching", ttl: s.timeout, timeout: s.timeout, heard: time.Now(), attached: time.Now()}
	m.commit(x, n, func(r tree.Result) {
		if r.Code != znode.OK || s.ended {
			return
		}
		s.presence, s.ttl, s.heard = "pinged", ttl, time.Now()
		if kept {
			s.presence = "kept"
		}
		m.schedule(s)
		n.keeper.Attach(s.id, r.Attachment, ttl, kept)
	})
}

// schedule decides when a session's client is heard next.
func (m *model) schedule(s *client) {
	s.next = s.heard.Add(time.Duration(m.rand.Int64N(int64(s.ttl * 3 / 4))))
}

// step is what happens at one moment: after it comes a pause, and perhaps a failure.
func (m *model) step() (pause time.Duration, fails bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, s := range m.clients {
		if s.ended {
			continue
		}
		if at, must := m.latestEnd(s); must && now.After(at) {
			m.Errorf("session %d of node %d, %s for %v (timeout %v), heard %v ago, crashed %v: still there, %v after the election",
				s.id, s.node.id, s.presence, s.ttl, s.timeout, now.Sub(s.heard), !s.crashed.IsZero(), now.Sub(m.elected))
			s.ended = true
		}
		if s.crashed.IsZero() && !s.silent && s.presence == "pinged" && !now.Before(s.next) {
			if now.Sub(s.heard) >= s.ttl {
				m.Fatalf("the test is too slow for a ttl of %v", s.ttl)
			}
			s.heard = now
			m.schedule(s)
			s.node.keeper.Touch(s.id)
			if m.rand.IntN(4) == 0 {
				id, n, k, attached := s.id, s.node, s.node.keeper, s.attached
				m.syncs.Go(func() { m.sync(id, n, k, attached) })
			}
		}
	}
	s := m.clients[m.rand.IntN(len(m.clients))]
	switch p := m.rand.IntN(1000); {
	case m.leader == nil || s.presence == "attaching" && !s.ended && s.crashed.IsZero():
	case s.ended:
		if p < 100 && len(m.clients) < 100 {
			m.open()
		}
	case p < 40:
		m.seen["a session moves"]++
		m.attach(s, tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: s.id, Password: make([]byte, 16)})
	case !s.crashed.IsZero():
	case p < 60 && s.presence == "pinged":
		s.silent = true
		m.seen["a client falls silent"]++
	case p < 70 && s.presence != "held" && !s.silent:
		at, _ := s.node.tree.Session(s.id)
		s.presence, s.ttl, s.heard, s.proven = "held", m.span(), now, time.Time{}
		s.node.keeper.Detach(s.id, at.Attachment, s.ttl)
	}
	return m.upTo(40 * time.Millisecond), m.rand.IntN(250) == 0
}

// sync is a SYNC of a session's client. It is answered only if the session's node knows the present leader.
func (m *model) sync(id int64, n *node, k *session.Keeper, attached time.Time) {
	sent := time.Now()
	heard := k.Vouch(id)
	n.ask()
	isHeard := heard()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.clients[id-1]
	if isHeard && m.leader != nil && n.keeper == k && n.leader == m.leader.id && s.attached.Equal(attached) && s.presence == "pinged" && !s.ended {
		s.proven = sent
		m.seen["a SYNC is answered"]++
	}
}

// fail changes the leader, or crashes or starts a node.
func (m *model) fail() {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch n := m.nodes[m.rand.IntN(len(m.nodes))]; {
	case n.keeper == nil:
		m.mu.Unlock()
		n.start()
		m.mu.Lock()
		m.seen["a node starts again"]++
		if m.leader != nil {
			n.learn(m.leader.id, false)
		}
	case m.leader != nil && m.rand.IntN(2) == 0:
		if slices.ContainsFunc(m.nodes, func(n *node) bool { return n.keeper == nil }) && n == m.leader {
			return // one node must be left
		}
		m.mu.Unlock()
		n.crash()
		m.mu.Lock()
		m.seen["a node crashes"]++
		for _, s := range m.clients {
			if s.node == n && s.crashed.IsZero() {
				s.crashed = time.Now()
			}
		}
	default:
		m.leader = nil // and the old leader does not know it yet
	}
	if m.leader != nil {
		return
	}
	// The others, and the old leader, learn of the new one sooner or later.
	m.seen["another node leads"]++
	time.AfterFunc(m.upTo(3*time.Second), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.leader != nil {
			return
		}
		l := m.running()
		m.appoint(l)
		m.elected = m.ready.Add(500 * time.Millisecond)
		for _, n := range m.nodes {
			if n != l {
				time.AfterFunc(m.upTo(500*time.Millisecond), func() {
					m.mu.Lock()
					defer m.mu.Unlock()
					if m.leader == l {
						n.learn(l.id, false)
					}
				})
			}
		}
	})
}

// upTo is a random time at which no round begins.
func (m *model) upTo(d time.Duration) time.Duration {
	return time.Duration(1 + m.rand.Int64N(int64(d)))
}

// TestSessionsLiveAndEndAsTheirClientsDo, whatever the clients do, with nodes that crash, leaders
// that change, and reports that are late or lost. No session ends whose client was heard within its
// time (or whose node was, before it crashed), and every other session ends soon after that time,
// or after the last election.
func TestSessionsLiveAndEndAsTheirClientsDo(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(60) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			ensemble(t, 3, func(c *cluster) {
				m := &model{cluster: c, rand: rand.New(rand.NewPCG(seed, 0)), lost: map[int64]bool{}, seen: seen}
				c.mu.Lock()
				c.lose, c.closed = m.drop, m.end
				c.delay = func() time.Duration { return m.upTo(50 * time.Millisecond) }
				for _, n := range c.nodes {
					n.lag = m.upTo(200 * time.Millisecond)
				}
				for range 8 {
					m.open()
				}
				c.mu.Unlock()
				for begin := time.Now(); time.Since(begin) < 2*time.Minute && !t.Failed(); {
					pause, fails := m.step()
					if fails {
						m.fail()
					}
					time.Sleep(pause)
				}
				m.syncs.Wait()
			})
		})
	}
	if t.Failed() {
		return
	}
	for _, what := range []string{
		"a report is lost", "a session moves", "a client falls silent", "a node crashes", "a node starts again", "another node leads", "a SYNC is answered",
		"a session that was kept ends", "a session that was pinged ends", "a session that was held ends",
	} {
		if seen[what] < 50 {
			t.Errorf("%s: %d times", what, seen[what])
		}
	}
}
