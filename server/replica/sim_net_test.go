package replica_test

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
)

// network carries between nodes. Raft's messages are lost, come twice, late and in
// any order. A link is what Forward needs: it breaks with everything in it, both
// ends hear so, and only then is there another.
type network struct {
	s       *sim
	links   map[pair]*link
	blocked map[arrow]int            // partitions that stop what goes from one to the other
	lossy   int                      // percent of raft's messages
	small   map[uint64]time.Duration // until then no entries reach this node, but what is small does
}

type (
	arrow struct{ from, to uint64 }
	pair  struct{ low, high uint64 }
)

// link is one connection between two nodes, or the want of it.
type link struct {
	up    bool
	since time.Duration // of the last one
	told  int           // ends that have yet to hear of its end
	epoch int
	last  [2]time.Duration // arrival of the last message, to low and to high
}

func (w *network) init(s *sim) {
	*w = network{s: s, links: map[pair]*link{}, blocked: map[arrow]int{}, small: map[uint64]time.Duration{}, lossy: s.rnd.IntN(8)}
}

func pairOf(a, b uint64) pair { return pair{min(a, b), max(a, b)} }

func (w *network) node(id uint64) *simNode { return w.s.nodes[id-1] }

func (w *network) link(a, b uint64) *link {
	l := w.links[pairOf(a, b)]
	if l == nil {
		l = &link{}
		w.links[pairOf(a, b)] = l
	}
	return l
}

// started connects a node with all who are up.
func (w *network) started(n *simNode) {
	for _, o := range w.s.nodes {
		if o != n {
			w.connectLater(n.id, o.id)
		}
	}
}

// connectLater dials until there is a link.
func (w *network) connectLater(a, b uint64) {
	w.s.after(w.s.between(time.Millisecond, 60*time.Millisecond), func() {
		x, y, l := w.node(a), w.node(b), w.link(a, b)
		switch {
		case x.r == nil || y.r == nil || l.up: // whoever starts will dial
		case l.told > 0 || w.blocked[arrow{a, b}] > 0 || w.blocked[arrow{b, a}] > 0:
			w.connectLater(a, b)
		default:
			l.up, l.since, l.last = true, w.s.now, [2]time.Duration{}
			x.r.PeerUp(b)
			y.r.PeerUp(a)
			x.wake()
			y.wake()
		}
	})
}

// sever breaks the link; the ends hear it each at its time, and dial again.
func (w *network) sever(a, b uint64, certain bool) {
	l := w.link(a, b)
	if !l.up {
		return
	}
	l.up = false
	l.epoch++
	w.s.seen["broken links"]++
	for _, x := range []arrow{{a, b}, {b, a}} {
		n := w.node(x.from)
		if n.r == nil {
			continue
		}
		l.told++
		life := n.life
		w.s.after(w.s.between(0, 300*time.Millisecond), func() {
			l.told--
			if n.r != nil && n.life == life {
				n.r.PeerDown(x.to, certain)
				n.wake()
			}
		})
	}
	w.connectLater(a, b)
}

// crashed breaks all links of a node that is no more.
func (w *network) crashed(n *simNode) {
	for _, o := range w.s.nodes {
		if o != n {
			w.sever(o.id, n.id, w.s.chance(70))
		}
	}
}

// block and unblock begin and end a partition in one direction.
func (w *network) block(arrows []arrow) {
	for _, a := range arrows {
		w.blocked[a]++
		w.sever(a.from, a.to, false)
	}
}

func (w *network) unblock(arrows []arrow) {
	for _, a := range arrows {
		w.blocked[a]--
	}
}

// simPeers is a node's way to the others in one of its lives.
type simPeers struct {
	*simNode
	life int
}

func (p *simPeers) Raft(msgs []*raftpb.Message) {
	w := &p.net
	for _, m := range msgs {
		to := m.GetTo()
		if p.simNode == p.contested && m.GetType() == raftpb.MsgVoteResp && !m.GetReject() {
			p.after(p.between(0, time.Millisecond), func() { p.crashFor(p.simNode, p.between(0, time.Millisecond)) })
		}
		copies := 1
		switch {
		case len(m.GetEntries()) > 0 && w.small[to] > p.now:
			copies = 0
		case p.chance(w.lossy) && !p.calm:
			copies = 0
			p.seen["messages lost"]++
		case p.chance(3):
			copies = 2
			p.seen["messages twice"]++
		}
		for range copies {
			delay := p.between(100*time.Microsecond, 3*time.Millisecond)
			if p.chance(2) || m.GetType() == raftpb.MsgVote && p.chance(30) {
				delay = p.between(0, 200*time.Millisecond)
			}
			p.carry(to, delay, func(n *simNode) { n.r.StepRaft(p.id, []*raftpb.Message{m}) }, nil)
		}
	}
}

// carry delivers to whatever life the receiver has then.
func (p *simPeers) carry(to uint64, delay time.Duration, deliver func(*simNode), lost func()) {
	p.after(delay, func() {
		n := p.net.node(to)
		if n.r == nil || p.net.blocked[arrow{p.id, to}] > 0 {
			if lost != nil {
				lost()
			}
			return
		}
		deliver(n)
		n.wake()
	})
}

func (p *simPeers) Forward(to uint64, kind byte, b []byte) {
	l := p.net.link(p.id, to)
	if !l.up {
		return // this end will hear of it
	}
	side := 0
	if to > p.id {
		side = 1
	}
	switch kind {
	case 1:
		p.seen["forwarded batches"]++
		if p.mutant.is(gapInStream) && p.chance(10) {
			return
		}
	case 2:
		p.seen["streams refused"]++
	}
	l.last[side] = max(l.last[side], p.now+p.between(100*time.Microsecond, 5*time.Millisecond))
	epoch := l.epoch
	b = slices.Clone(b)
	p.after(l.last[side]-p.now, func() {
		n := p.net.node(to)
		if l.epoch != epoch || n.r == nil {
			return
		}
		if kind == 1 && p.mutant.is(gapInStream) {
			replica.AcceptGap(n.r, p.id, b)
		}
		if kind == forwardSessions {
			n.receive(n.life, func() {
				n.check.took(n, b)
				n.keeper.Told(p.id, b)
			})
			return
		}
		n.r.StepForward(p.id, kind, b)
		n.wake()
	})
}

func (p *simPeers) Snapshot(m *raftpb.Message) {
	at := replica.PointOf(m.GetSnapshot())
	x, found := find(p.snaps.saved, at.Index, at.Term)
	to, life := m.GetTo(), p.life
	report := func(ok bool) {
		if p.simNode.life == life && p.r != nil {
			p.r.ReportSnapshot(to, ok)
			p.wake()
		}
	}
	p.note("%d sends snapshot %d to %d", p.id, at.Index, to)
	delay := p.between(10*time.Millisecond, 300*time.Millisecond)
	if !found || p.chance(10) {
		p.after(delay, func() { report(false) })
		return
	}
	p.carry(to, delay, func(n *simNode) {
		n.snaps.received = append(n.snaps.received, x)
		n.r.StepRaft(p.id, []*raftpb.Message{m})
		ok := p.chance(90)
		p.after(p.between(0, 500*time.Millisecond), func() { report(ok) })
	}, func() { report(false) })
}
