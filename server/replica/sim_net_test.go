package replica_test

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
)

// network is what lies between the nodes: partitions and a carrier. In the plain simulation the
// carrier is the simulation's own; in the other one it is package peer: see sim_links_test.go.
type network struct {
	carrier
	s       *sim
	blocked map[arrow]int            // partitions that stop what goes from one to the other
	lossy   int                      // percent of raft's messages
	small   map[uint64]time.Duration // until then only messages without entries reach this node
}

// carrier brings to nodes what others send.
type carrier interface {
	started(n *simNode)
	crashed(n *simNode)
	// join makes a blank node one that can become a member, and says whether the node asks for that
	// itself.
	join(n *simNode) (asks bool)
	// left reports that a node was removed from the cluster.
	left(n *simNode)
	// changed reports that a node's role, leader or members have changed.
	changed(n *simNode)
	// isOlder reports that a leader has told a node that its disk is an older copy.
	isOlder(n *simNode, err error)
	// isBehind says whether a disk is an older copy that is not brought up to date yet.
	isBehind(n *simNode) bool
	// wrote reports that a node has written its log.
	wrote(n *simNode)
	// separated reports that nothing passes from one node to the other any more.
	separated(a arrow)
	// sever breaks the links between two nodes.
	sever(a, b uint64, certain bool)
	// freeSince returns since when nothing has been in the way from one node to the other.
	freeSince(a arrow) (since time.Duration, is bool)

	raft(p *simPeers, m *raftpb.Message)
	forward(p *simPeers, to uint64, kind byte, b []byte)
	snapshot(p *simPeers, m *raftpb.Message)

	// await lets time pass, and says whether something happened meanwhile.
	await(until time.Duration) bool
	// settle waits for the consequences of an event.
	settle()
}

type (
	arrow struct{ from, to uint64 }
	pair  struct{ low, high uint64 }
)

func (w *network) init(s *sim, c carrier) {
	*w = network{carrier: c, s: s, blocked: map[arrow]int{}, small: map[uint64]time.Duration{}, lossy: s.rnd.IntN(8)}
}

// block and unblock begin and end a partition in one direction.
func (w *network) block(arrows []arrow) {
	for _, a := range arrows {
		w.blocked[a]++
		w.separated(a)
	}
}

func (w *network) unblock(arrows []arrow) {
	for _, a := range arrows {
		w.blocked[a]--
	}
}

func (s *sim) node(id uint64) *simNode { return s.nodes[id-1] }

// plain is a carrier over simulated links. Raft's messages are lost, duplicated, delayed and
// reordered. Forward uses a link: it breaks with everything in it, both ends learn of that, and
// only then can there be another.
type plain struct {
	*sim
	links map[pair]*link
}

// link is one connection between two nodes, or its absence.
type link struct {
	up    bool
	since time.Duration // when the last one began
	told  int           // ends that have not learned of its end yet
	epoch int
	last  [2]time.Duration // arrival of the last message, to the lower and the higher id
}

func newPlain(s *sim) *plain { return &plain{s, map[pair]*link{}} }

func pairOf(a, b uint64) pair { return pair{min(a, b), max(a, b)} }

func (w *plain) await(time.Duration) bool { return false }
func (w *plain) settle()                  {}
func (w *plain) wrote(*simNode)           {}
func (w *plain) changed(*simNode)         {}
func (w *plain) isBehind(*simNode) bool   { return false }

func (w *plain) isOlder(n *simNode, err error) { w.fail("node %d: %v", n.id, err) }

func (w *plain) join(n *simNode) bool {
	n.start()
	return false
}

func (w *plain) left(n *simNode) {
	w.after(w.between(0, 2*time.Second), n.end)
}

func (w *plain) link(a, b uint64) *link {
	l := w.links[pairOf(a, b)]
	if l == nil {
		l = &link{}
		w.links[pairOf(a, b)] = l
	}
	return l
}

func (w *plain) freeSince(a arrow) (time.Duration, bool) {
	l := w.link(a.from, a.to)
	return l.since, l.up
}

// started connects a node with all nodes that are up.
func (w *plain) started(n *simNode) {
	for _, o := range w.nodes {
		if o != n {
			w.connectLater(n.id, o.id)
		}
	}
}

// connectLater dials until there is a link.
func (w *plain) connectLater(a, b uint64) {
	w.after(w.between(time.Millisecond, 60*time.Millisecond), func() {
		x, y, l := w.node(a), w.node(b), w.link(a, b)
		switch {
		case x.r == nil || y.r == nil || l.up: // a node that starts will dial
		case l.told > 0 || w.net.blocked[arrow{a, b}] > 0 || w.net.blocked[arrow{b, a}] > 0:
			w.connectLater(a, b)
		default:
			l.up, l.since, l.last = true, w.now, [2]time.Duration{}
			x.r.PeerUp(b)
			y.r.PeerUp(a)
			x.wake()
			y.wake()
		}
	})
}

func (w *plain) separated(a arrow) { w.sever(a.from, a.to, false) }

// sever breaks the link; each end learns of it in its own time, and dials again.
func (w *plain) sever(a, b uint64, certain bool) {
	l := w.link(a, b)
	if !l.up {
		return
	}
	l.up = false
	l.epoch++
	w.seen["broken links"]++
	for _, x := range []arrow{{a, b}, {b, a}} {
		n := w.node(x.from)
		if n.r == nil {
			continue
		}
		l.told++
		life := n.life
		w.after(w.between(0, 300*time.Millisecond), func() {
			l.told--
			if n.r != nil && n.life == life {
				n.r.PeerDown(x.to, certain)
				n.wake()
			}
		})
	}
	w.connectLater(a, b)
}

// crashed breaks all links of a node that has crashed.
func (w *plain) crashed(n *simNode) {
	for _, o := range w.nodes {
		if o != n {
			w.sever(o.id, n.id, w.chance(70))
		}
	}
}

// simPeers is a node's Peers in one of its lives.
type simPeers struct {
	*simNode
	life int
}

// Raft sends raft's messages, or some of them.
func (p *simPeers) Raft(msgs []*raftpb.Message) {
	for _, m := range msgs {
		if p.simNode == p.contested && m.GetType() == raftpb.MsgVoteResp && !m.GetReject() {
			p.after(p.between(0, time.Millisecond), func() { p.crashFor(p.simNode, p.between(0, time.Millisecond)) })
		}
		if len(m.GetEntries()) > 0 && p.net.small[m.GetTo()] > p.now {
			continue
		}
		p.net.raft(p, m)
	}
}

// Forward sends a message of the replica's own, or of the keeper's.
func (p *simPeers) Forward(to uint64, kind byte, b []byte) {
	switch kind {
	case 1:
		p.seen["forwarded batches"]++
	case 2:
		p.seen["streams refused"]++
	}
	p.net.forward(p, to, kind, b)
}

// Snapshot sends a snapshot.
func (p *simPeers) Snapshot(m *raftpb.Message) {
	p.note("%d sends snapshot %d to %d", p.id, replica.PointOf(m.GetSnapshot()).Index, m.GetTo())
	p.net.snapshot(p, m)
}

// reportSnapshot reports to a node how sending a snapshot ended, if the life that sent it still runs.
func (p *simPeers) reportSnapshot(to uint64, ok bool) {
	if p.simNode.life == p.life && p.r != nil {
		p.r.ReportSnapshot(to, ok)
		p.wake()
	}
}

// takeForward gives a node what another one has forwarded.
func (n *simNode) takeForward(from uint64, kind byte, b []byte) {
	if kind == forwardSessions {
		n.receive(n.life, func() {
			n.check.took(n, b)
			n.keeper.Told(from, b)
		})
		return
	}
	n.r.StepForward(from, kind, b)
	n.wake()
}

func (w *plain) raft(p *simPeers, m *raftpb.Message) {
	copies := 1
	switch {
	case w.chance(w.net.lossy) && !w.calm:
		copies = 0
		w.seen["messages lost"]++
	case w.chance(3):
		copies = 2
		w.seen["messages twice"]++
	}
	for range copies {
		delay := w.between(100*time.Microsecond, 3*time.Millisecond)
		if w.chance(2) || m.GetType() == raftpb.MsgVote && w.chance(30) {
			delay = w.between(0, 200*time.Millisecond)
		}
		w.carry(p.id, m.GetTo(), delay, func(n *simNode) { n.r.StepRaft(p.id, []*raftpb.Message{m}) }, nil)
	}
}

// carry delivers to whichever life the receiver has then.
func (w *plain) carry(from, to uint64, delay time.Duration, deliver func(*simNode), lost func()) {
	w.after(delay, func() {
		n := w.node(to)
		if n.r == nil || w.net.blocked[arrow{from, to}] > 0 {
			if lost != nil {
				lost()
			}
			return
		}
		deliver(n)
		n.wake()
	})
}

func (w *plain) forward(p *simPeers, to uint64, kind byte, b []byte) {
	l := w.link(p.id, to)
	if !l.up {
		return // this end will learn of it
	}
	gap := kind == 1 && w.mutant.is(gapInStream)
	if gap && w.chance(10) {
		return
	}
	side := 0
	if to > p.id {
		side = 1
	}
	l.last[side] = max(l.last[side], w.now+w.between(100*time.Microsecond, 5*time.Millisecond))
	epoch := l.epoch
	b = slices.Clone(b)
	w.after(l.last[side]-w.now, func() {
		n := w.node(to)
		if l.epoch != epoch || n.r == nil {
			return
		}
		if gap {
			replica.AcceptGap(n.r, p.id, b)
		}
		n.takeForward(p.id, kind, b)
	})
}

func (w *plain) snapshot(p *simPeers, m *raftpb.Message) {
	at := replica.PointOf(m.GetSnapshot())
	x, found := find(p.snaps.saved, at.Index, at.Term)
	to := m.GetTo()
	delay := w.between(10*time.Millisecond, 300*time.Millisecond)
	if !found || w.chance(10) {
		w.after(delay, func() { p.reportSnapshot(to, false) })
		return
	}
	w.carry(p.id, to, delay, func(n *simNode) {
		n.snaps.received = append(n.snaps.received, x)
		n.r.StepRaft(p.id, []*raftpb.Message{m})
		ok := w.chance(90)
		w.after(w.between(0, 500*time.Millisecond), func() { p.reportSnapshot(to, ok) })
	}, func() { p.reportSnapshot(to, false) })
}
