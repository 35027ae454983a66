package replica_test

import (
	"fmt"
	"slices"
	"time"

	"coord/server/admission"
	"coord/server/peer"
)

// What becomes of nodes that were removed, or whose disk is an older copy. Every node that knows of
// it refuses them, no other node does, and they react as in package server.

func (w *linked) left(*simNode) {} // changed learns of it, even if nobody was answered

// wasRemoved lets a removed member live on, and perhaps restart, until it learns of its removal.
func (w *linked) wasRemoved(n *simNode) {
	if w.removed[n.id] {
		return
	}
	w.removed[n.id] = true
	if n.r == nil {
		return
	}
	w.after(w.between(0, 3*time.Millisecond), func() {
		if n.r != nil && w.chance(70) {
			w.seen["removed members that come back"]++
			w.crashFor(n, w.between(0, 3*time.Second))
		}
	})
}

// wasAdmitted checks that the node that let this one in did not know better.
func (st *station) wasAdmitted(by uint64) {
	w, n := st.w, st.n
	o := w.stations[by-1]
	w.mu.Lock()
	knew := o.knew[n.id]
	w.mu.Unlock()
	term := n.log.seen.recovered().Term
	if n.r != nil {
		term = max(term, n.r.Status().Term) // the log may not have it yet
	}
	switch last := n.log.seen.last(); {
	case knew.removed:
		w.fail("%d was removed, %d knows it, and has let it in", n.id, by)
	case knew.floor > last && !w.mutant.is(olderVotes):
		w.fail("the disk of %d ends at %d, %d knows that it has had %d, and has let it in", n.id, last, by, knew.floor)
	case knew.term > term && !w.mutant.is(olderVotes):
		w.fail("%d has been in term %d, %d knows that it has had entry %d of term %d, and has let it in", n.id, term, by, knew.floor, knew.term)
	}
}

// wasRefused is a node's reaction to being refused.
func (w *linked) wasRefused(n *simNode, r *peer.Refusal) {
	switch admission.FateOf(r, simCluster) {
	case admission.Removed:
		if !w.removed[n.id] {
			w.fail("%d is told by %d that it was removed: %s", n.id, r.Theirs.Node, r.Text)
		}
		w.note("%d hears from %d that it was removed", n.id, r.Theirs.Node)
		w.seen["removed members told so"]++
		n.end()
	case admission.Lost:
		w.seen["older disks known by "+r.Code.String()]++
		w.lost(n, fmt.Sprintf("%d says: %s", r.Theirs.Node, r.Text))
	case admission.None:
	}
}

func (w *linked) isOlder(n *simNode, err error) {
	w.seen["older disks known by a heartbeat"]++
	w.lost(n, err.Error())
}

// lost: the disk is an older copy, and its node comes back as a new one.
func (w *linked) lost(n *simNode, why string) {
	w.note("the disk of %d is an older copy: %s", n.id, why)
	if w.disks[n.id] == nil || w.disks[n.id].put == 0 {
		w.fail("%d is taken for an older copy: %s", n.id, why)
		return
	}
	n.end()
	m := w.addNode(nil)
	m.replaces, m.joining = append([]uint64{n.id}, n.replaces...), true
	w.after(w.between(10*time.Millisecond, 500*time.Millisecond), func() { w.join(m) })
}

// rested checks the nodes when the cluster has come to rest.
func (w *linked) rested() {
	if w.failure != "" {
		return
	}
	for _, n := range w.nodes {
		switch {
		case n.joining:
			w.fail("%d was not taken in", n.id)
		case n.r != nil && w.removed[n.id] && w.canHear(n):
			w.fail("%d was removed, and does not know it", n.id)
		}
	}
}

// canHear says whether n knows of a node that is up and a member.
func (w *linked) canHear(n *simNode) bool {
	return slices.ContainsFunc(w.nodes, func(o *simNode) bool {
		return w.stations[n.id-1].named[o.id] && o.r != nil && !w.removed[o.id]
	})
}
