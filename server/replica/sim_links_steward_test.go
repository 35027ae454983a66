package replica_test

import (
	"slices"
	"testing/synctest"
	"time"

	"coord/server/admission"
	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
)

// What package server's steward does from time to time: it names the members to the links, asks for
// what this node wants, and gives votes if this node leads.

const (
	askEvery      = 2 * time.Second
	applicantTime = 5 * time.Second
	settleTime    = time.Second
	lostTime      = 2 * time.Second
)

func (w *linked) changed(n *simNode) {
	if n.r == nil || len(w.stations) < int(n.id) {
		return // it is starting
	}
	m := n.r.Status().Members
	for _, id := range m.Removed {
		w.wasRemoved(w.node(id))
	}
	w.noDemotion(&m)
	st := w.stations[n.id-1]
	w.after(w.between(0, 5*time.Millisecond), func() {
		if st == w.stations[n.id-1] {
			st.look()
		}
	})
}

func (st *station) lookLater() {
	st.w.after(st.w.between(900*time.Millisecond, 1100*time.Millisecond), func() {
		if !st.isDead() {
			st.look()
			st.lookLater()
		}
	})
}

func (st *station) look() {
	w, n := st.w, st.n
	if st.isDead() || n.r == nil || n.paused > w.now {
		return
	}
	st.name()
	s := n.r.Status()
	id := n.id
	switch m := &s.Members; {
	case s.Role == "leader" && s.Ready:
		n.r.Progress(st.promote)
		n.wake()
	case len(m.Voters) == 0:
		st.wish(w.door(n))
	case st.lost():
		st.seek(m)
	case slices.Contains(m.Voters, id) || w.removed[id]:
	case len(n.replaces) > 0 && s.Leader != 0:
		st.wish(s.Leader)
	}
}

// name names the members to the links.
func (st *station) name() {
	r := st.replica.Load()
	if r == nil {
		return
	}
	s := r.Status()
	if s.Leader != 0 {
		st.led = st.w.now
	}
	seen := st.told
	if st.lost() {
		seen = append(st.w.gossip(st.n), seen...)
	}
	all := admission.Peers(&s, st.lost(), seen)
	if st.w.mutant.is(removedAdmitted) {
		all = nil
		for _, o := range st.w.nodes {
			all = append(all, o.id)
		}
	}
	for _, id := range all {
		if id != st.n.id && !st.named[id] {
			st.named[id] = true
			st.links.SetPeer(id, []string{addressOf(id)})
			synctest.Wait()
		}
	}
	for _, o := range st.w.nodes {
		if st.named[o.id] && !slices.Contains(all, o.id) {
			delete(st.named, o.id)
			st.links.RemovePeer(o.id)
			synctest.Wait()
		}
	}
}

func (st *station) lost() bool { return st.w.now-st.led >= lostTime }

// seek asks all nodes that it knows of who the members are.
func (st *station) seek(m *replica.Point) {
	w := st.w
	if w.now < st.lastAsk+askEvery {
		return
	}
	st.lastAsk = w.now
	known := append(admission.Everyone(m), st.told...)
	slices.Sort(known)
	for _, to := range slices.Compact(known) {
		if to == st.n.id {
			continue
		}
		w.ask(st, to, askMembers, func(b []byte, err error) {
			if err != nil {
				return
			}
			for _, id := range ids(b[1:]) {
				if !slices.Contains(known, id) && !slices.Contains(st.told, id) {
					w.seen["strangers that others told of"]++
					st.told = append(st.told, id)
				}
			}
			st.look()
		})
	}
}

// gossip returns the other nodes of the cluster that are up. In every other history it finds none.
func (w *linked) gossip(n *simNode) (seen []uint64) {
	if w.seed%2 == 0 {
		return nil
	}
	for _, o := range w.nodes {
		if o != n && o.r != nil {
			seen = append(seen, o.id)
		}
	}
	return seen
}

// wish tells the leader, through some node, that this node is a member, or that it wants a vote.
func (st *station) wish(to uint64) {
	if w := st.w; st.lastAsk == 0 || w.now >= st.lastAsk+askEvery {
		st.lastAsk = w.now
		st.askLeader(to, 0)
	}
}

func (st *station) askLeader(to uint64, hops int) {
	st.w.ask(st, to, askIn, func(b []byte, err error) {
		switch {
		case err != nil:
		case b[0] == answerTaken:
			st.told = ids(b[1:])
			st.look()
		case hops < maxHops:
			st.askLeader(ids(b[1:])[0], hops+1)
		}
	})
}

// promote gives votes to learners that replace another node and have kept up. It runs on the replica's loop.
func (st *station) promote(all []replica.Progress) {
	w, n := st.w, st.n
	members := n.r.Status().Members
	var ready []admission.Applicant
	w.mu.Lock()
	for _, p := range all {
		if !p.Caught || p.Heard > time.Second {
			delete(st.caught, p.Node)
			continue
		}
		if st.caught[p.Node] == 0 {
			st.caught[p.Node] = w.now
		}
		a, asks := st.applicants[p.Node]
		if asks && len(a.replaces) > 0 && w.now < a.at+applicantTime && slices.Contains(members.Others, p.Node) && w.now >= st.caught[p.Node]+settleTime {
			ready = append(ready, admission.Applicant{Node: p.Node, Replaces: a.replaces})
		}
	}
	w.mu.Unlock()
	changes := admission.Grant(&members, ready)
	if len(changes) == 0 {
		return
	}
	w.note("%d is to make %v", n.id, changes)
	n.r.Change(changes, func(r tree.Result, _ *tree.Tree, _ *watchTable) {
		w.note("%v: %v", changes, r.Code)
		if r.Code != znode.OK {
			return
		}
		w.seen["replacements"]++
	})
}

// noDemotion checks that no voter becomes a learner, because no one asks for that.
func (w *linked) noDemotion(m *replica.Point) {
	for _, id := range m.Voters {
		w.voted[id] = max(w.voted[id], m.Index)
	}
	for _, id := range m.Others {
		if at := w.voted[id]; at != 0 && at < m.Index {
			w.fail("%d was a voter, and is a learner", id)
		}
	}
}
