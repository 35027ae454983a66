package replica_test

import (
	"slices"
	"time"
)

// disks are the copies that were made of a node's data folder: its log, its snapshots, and the
// number of its starts.
type disks struct {
	copies []diskCopy
	put    int    // copies that have replaced the disk
	had    uint64 // where the last disk that was replaced ended
}

type diskCopy struct {
	log     journal
	saved   []savedState
	waiting []savedState
	boot    uint64
	voters  []uint64
}

// planDisks makes copies of disks, and sometimes replaces a disk by a copy.
func (w *linked) planDisks() {
	w.again(500*time.Millisecond, 3*time.Second, func() { w.copyDisk(w.anyone()) })
	w.again(3*time.Second, 12*time.Second, w.revert)
}

// again does something repeatedly, while there are faults.
func (w *linked) again(least, most time.Duration, do func()) {
	w.after(w.between(least, most), func() {
		if !w.calm {
			do()
			w.again(least, most, do)
		}
	})
}

// copyDisk copies what is durable on a disk.
func (w *linked) copyDisk(n *simNode) {
	if n.r == nil {
		return
	}
	d := w.disks[n.id]
	if d == nil {
		d = &disks{}
		w.disks[n.id] = d
	}
	c := diskCopy{log: n.log.synced, saved: slices.Clone(n.snaps.saved), waiting: slices.Clone(n.snaps.waiting), boot: n.boot,
		voters: slices.Sorted(slices.Values(n.r.Status().Members.Voters))}
	c.log.entries = slices.Clone(c.log.entries)
	d.copies = append(d.copies, c)
	d.copies = d.copies[max(0, len(d.copies)-4):]
}

// mostNodes is how many nodes a run may have: each older copy that is detected adds a node.
const mostNodes = 14

// revert makes a node go down and come back with an older copy of its disk.
func (w *linked) revert() {
	n := w.anyone()
	d := w.disks[n.id]
	if n.r == nil || d == nil || w.removed[n.id] || len(w.nodes) >= mostNodes {
		return
	}
	voters := slices.Sorted(slices.Values(n.r.Status().Members.Voters))
	copies := slices.DeleteFunc(slices.Clone(d.copies), func(c diskCopy) bool {
		return c.log.last() >= n.log.synced.last() || !slices.Equal(c.voters, voters)
	})
	if len(copies) == 0 {
		return
	}
	c := copies[w.rnd.IntN(len(copies))]
	n.crash()
	w.after(w.between(0, 2*time.Second), func() {
		reverted := false
		switch {
		case n.r != nil || n.gone:
			return
		case w.calm || !w.isSafe(n, &c) && !w.mutant.is(olderVotes):
			w.seen["disks left as they are"]++
		default:
			reverted = true
			w.seen["disks reverted"]++
			w.note("%d gets an older copy of its disk, up to %d of %d, boot %d of %d", n.id, c.log.last(), n.log.synced.last(), c.boot, n.boot)
			d.put++
			d.had = max(d.had, n.log.synced.last())
			log := c.log
			log.entries = slices.Clone(log.entries)
			n.log = &memLog{seen: log, synced: log, faults: map[string]fault{}, lies: w.mutant.is(noFsync)}
			n.snaps.saved, n.snaps.waiting = slices.Clone(c.saved), slices.Clone(c.waiting)
			n.boot = c.boot
		}
		n.start()
		if reverted && w.chance(40) { // then the leader may dial it first
			w.stations[n.id-1].lateUntil = w.now + time.Second
		}
	})
}

// isSafe says whether a majority of the voters, not counting this node, has everything that the
// node's disk has and the copy lacks: its entries, the term, and its vote. Other acknowledged data
// could be lost with the copy, and nothing promises that it is not.
func (w *linked) isSafe(n *simNode, c *diskCopy) bool {
	l := w.leader()
	if l == nil {
		return false
	}
	m := l.r.Status().Members
	voters := slices.Sorted(slices.Values(m.Voters))
	if len(m.Outgoing) > 0 || !slices.Equal(voters, c.voters) || c.log.last() >= n.log.synced.last() {
		return false
	}
	had := &n.log.synced
	hard := had.recovered()
	term, err := had.term(had.last())
	if err != nil {
		return false
	}
	others := 0
	for _, id := range voters {
		o := &w.node(id).log.synced
		state := o.recovered()
		same, err := o.term(had.last())
		has := o.base.Index >= had.last() || err == nil && same == term
		if id != n.id && has && (state.Term > hard.Term || state.Term == hard.Term && (hard.Vote == 0 || state.Vote == hard.Vote)) {
			others++
		}
	}
	return others > len(voters)/2
}

// isBehind says whether the disk of a node is an older copy that has not been brought up to date.
func (w *linked) isBehind(n *simNode) bool {
	d := w.disks[n.id]
	return d != nil && n.log.synced.last() < d.had
}
