package replica_test

import (
	"slices"
	"time"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
)

// planFaults plans one fault after another.
func (s *sim) planFaults() {
	s.after(s.between(500*time.Millisecond, 3*time.Second), func() {
		if s.calm {
			return
		}
		s.fault()
		s.planFaults()
	})
}

// anyone returns a node that is up.
func (s *sim) anyone() *simNode {
	up := slices.DeleteFunc(slices.Clone(s.nodes), func(n *simNode) bool { return n.r == nil })
	if len(up) == 0 {
		return s.nodes[0]
	}
	return up[s.rnd.IntN(len(up))]
}

func (s *sim) fault() {
	s.seen["faults"]++
	n := s.anyone()
	if l := s.leader(); l != nil && s.chance(30) {
		n = l
	}
	switch p := s.rnd.IntN(100); {
	case p < 22:
		d := s.between(50*time.Millisecond, 5*time.Second)
		if s.chance(40) {
			d = s.between(time.Millisecond, 30*time.Millisecond) // messages that it has sent are still under way
		}
		s.crashFor(n, d)
	case p < 25: // all of them
		for _, n := range s.nodes {
			s.crashFor(n, s.between(50*time.Millisecond, 2*time.Second))
		}
	case p < 27:
		s.contest()
	case p < 29: // no node leads, and voters come back in the midst of the election
		if l := s.leader(); l != nil {
			s.seen["restless elections"]++
			s.crashFor(l, s.between(time.Second, 3*time.Second))
			for _, o := range s.nodes {
				for range 3 {
					s.after(s.between(500*time.Millisecond, 1500*time.Millisecond), func() {
						s.crashFor(o, s.between(time.Millisecond, 20*time.Millisecond))
					})
				}
			}
		}
	case p < 37:
		s.seen["partitions"]++
		side := s.rnd.Uint64()
		var cut []arrow
		for _, a := range s.nodes {
			for _, b := range s.nodes {
				if side>>a.id&1 != side>>b.id&1 {
					cut = append(cut, arrow{a.id, b.id})
				}
			}
		}
		s.partition(cut)
	case p < 47:
		s.seen["one-way partitions"]++
		var cut []arrow
		out := s.chance(50)
		for _, o := range s.nodes {
			if o != n && s.chance(80) {
				if out {
					cut = append(cut, arrow{n.id, o.id})
				} else {
					cut = append(cut, arrow{o.id, n.id})
				}
			}
		}
		s.partition(cut)
	case p < 52:
		s.seen["large messages lost"]++
		s.net.small[n.id] = s.now + s.between(time.Second, 4*time.Second)
		s.note("nothing large reaches %d until %v", n.id, s.net.small[n.id])
	case p < 57:
		if o := s.anyone(); o != n {
			s.net.sever(n.id, o.id, s.chance(20))
		}
	case p < 64:
		s.seen["pauses"]++
		n.paused = s.now + s.between(200*time.Millisecond, 3*time.Second)
		s.note("%d rests until %v", n.id, n.paused)
	case p < 71:
		s.seen["slow disks"]++
		n.slow = s.now + s.between(200*time.Millisecond, 3*time.Second)
		s.note("the disk of %d is slow until %v", n.id, n.slow)
	case p < 76:
		s.transfer()
	case p < 80:
		s.handOver()
	case p < 83:
		s.seen["clock steps"]++
		n.wall += s.between(-time.Hour, time.Hour)
		s.note("the clock of %d is set, %v wrong now", n.id, n.wall)
	default:
		s.changeMembers()
	}
}

// contest makes two voters campaign in one term without a connection between them. The third voter,
// the leader so far, restarts each time it has voted, before the candidate that it voted for can
// tell it anything.
func (s *sim) contest() {
	l := s.leader()
	if l == nil {
		return
	}
	ids := slices.DeleteFunc(slices.Clone(l.r.Status().Members.Voters), func(id uint64) bool {
		return id == l.id || s.nodes[id-1].r == nil
	})
	if len(ids) < 2 {
		return
	}
	s.seen["contested elections"]++
	s.rnd.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	a, b := s.nodes[ids[0]-1], s.nodes[ids[1]-1]
	s.note("%d and %d stand for election, %d restarts", a.id, b.id, l.id)
	cut := []arrow{{a.id, b.id}, {b.id, a.id}}
	s.net.block(cut)
	s.contested, s.net.small[l.id] = l, s.now+300*time.Millisecond
	s.after(300*time.Millisecond, func() {
		s.net.unblock(cut)
		s.contested = nil
	})
	s.crashFor(l, s.between(time.Millisecond, 5*time.Millisecond))
	for _, n := range []*simNode{a, b} {
		s.after(s.between(20*time.Millisecond, 25*time.Millisecond), func() {
			if n.r != nil {
				replica.Campaign(n.r)
				n.wake()
			}
		})
	}
}

func (s *sim) crashFor(n *simNode, d time.Duration) {
	if n.r == nil {
		return
	}
	n.crash()
	s.after(d, func() {
		if n.r == nil && !n.gone {
			s.seen["restarts"]++
			n.start()
		}
	})
}

func (s *sim) partition(cut []arrow) {
	s.note("nothing passes %v", cut)
	s.net.block(cut)
	s.after(s.between(300*time.Millisecond, 5*time.Second), func() {
		s.note("everything passes %v", cut)
		s.net.unblock(cut)
	})
}

func (s *sim) transfer() {
	if l, to := s.leader(), s.anyone(); l != nil && l != to {
		s.seen["transfers"]++
		s.note("%d is to give its place to %d", l.id, to.id)
		l.r.Transfer(to.id)
		l.wake()
	}
}

// handOver makes the leader look for a node that takes over.
func (s *sim) handOver() {
	if l := s.leader(); l != nil {
		s.note("%d is to hand over", l.id)
		life := l.life
		replica.HandOver(l.r, func() {
			s.seen["hand-overs"]++
			if st := l.r.Status(); l.life == life && st.Role == "leader" && len(st.Members.Voters) > 1 {
				s.fail("%d has handed over, and leads: %+v", l.id, st)
			}
		})
		l.wake()
	}
}

// changeMembers asks the leader for a possible change of members.
func (s *sim) changeMembers() {
	l := s.leader()
	if l == nil {
		return
	}
	l.r.Freeze(func(_ *tree.Frozen, at replica.Point) {
		others := slices.DeleteFunc(slices.Clone(at.Voters), func(id uint64) bool { return id == l.id })
		// Package admission handles nodes that replace others, in the simulation over links. And a cluster of two
		// voters does not survive the loss of one: the only voter must not share its vote with a node that has
		// just lost its disk.
		learners := slices.DeleteFunc(slices.Clone(at.Others), func(id uint64) bool {
			n := s.node(id)
			return len(n.replaces) > 0 || n.gone && len(at.Voters) == 1
		})
		what := ""
		var changes []replica.Change
		switch {
		case s.chance(10):
			what = "changes that cannot be"
			changes = []replica.Change{{Node: 99, To: []replica.Role{replica.Voter, replica.Gone}[s.rnd.IntN(2)]}}
			if s.chance(50) {
				changes = []replica.Change{{Node: l.id, To: replica.Gone}}
			}
		case len(learners) > 0 && len(at.Voters) > 2 && s.chance(50):
			what = "joint changes"
			changes = []replica.Change{{Node: learners[0], To: replica.Voter}, {Node: others[s.rnd.IntN(len(others))], To: replica.Gone}}
		case len(learners) > 0:
			what = "promotions"
			changes = []replica.Change{{Node: learners[0], To: replica.Voter}}
		case len(at.Voters) > 3 && s.chance(50):
			what = "removals"
			changes = []replica.Change{{Node: others[s.rnd.IntN(len(others))], To: replica.Gone}}
		case len(s.nodes) < 9:
			what = "learners"
			n := s.addNode(nil)
			if s.net.join(n) {
				return
			}
			changes = []replica.Change{{Node: n.id, To: replica.Learner}}
		default:
			return
		}
		s.note("%d is asked for %v", l.id, changes)
		l.r.Change(changes, func(r tree.Result, _ *tree.Tree, _ *watchTable) {
			s.note("%v: %v", changes, r.Code)
			if r.Code != znode.OK {
				s.seen["changes refused"]++
				return
			}
			s.seen[what]++
			for _, c := range changes {
				if c.To == replica.Gone {
					s.net.left(s.node(c.Node))
				}
			}
		})
		l.wake()
	})
	l.wake()
}

// heal ends all faults. Some seconds later the clients stop, and every member must make a last
// write.
func (s *sim) heal() {
	if s.failure != "" {
		return
	}
	s.note("no faults any more")
	s.calm = true
	for _, n := range s.nodes {
		n.steady = max(n.steady, n.paused) // messages that it has not taken wait until then
		n.paused, n.slow = 0, 0
	}
	clear(s.net.blocked)
	clear(s.net.small)
	for _, n := range s.nodes {
		n.start()
	}
	s.after(10*time.Second, func() { s.clients.stopped = true })
	s.after(12*time.Second, func() { s.check.probe() })
}
