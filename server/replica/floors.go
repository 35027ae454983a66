package replica

import (
	"cmp"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"coord/tree"
)

// floorEvery is how often a leader tells floors, if there are writes that can carry them.
const floorEvery = time.Second

// Floor is an index up to which the log of a node has committed entries on its disk for
// certain: a log of that node that ends before it is an older copy, or has lost some. It
// is what leaders have told of it, up to what is applied here, whoever leads now; 0 if
// nothing. Term is that of the entry there, which such a disk has been in, or 0 if this node's log
// has cut it off. Any goroutine may call it.
func (r *Replica) Floor(node uint64) (index, term uint64) {
	index = floorOf(*r.floors.Load(), node)
	return index, r.termAt(index)
}

// termAt is the term of an entry, or 0 if the log has not got it, or not any more.
func (r *Replica) termAt(index uint64) uint64 {
	term, err := r.cfg.Log.Term(index)
	if err != nil {
		return 0
	}
	return term
}

// newFloors are the floors that the next batch is to tell, if any.
func (r *Replica) newFloors() []tree.Floor {
	if r.core.ticks < r.core.tellFrom || !r.ticks() { // who is alone has nobody to tell
		return nil
	}
	return r.movedFloors()
}

// movedFloors is of each member what it has acknowledged, as far as that is committed, if
// it is more than this leader has told already. What is not committed may be cut off by
// another leader.
func (r *Replica) movedFloors() (floors []tree.Floor) {
	c := &r.core
	commit := c.rn.BasicStatus().GetCommit()
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if index := min(pr.Match, commit); index > floorOf(c.told, id) {
			floors = append(floors, tree.Floor{Node: id, Index: index})
		}
	})
	if c.enc.Len()+len(floors)*tree.FloorBytes > MaxTxnBytes {
		return nil // beside the largest txn there is no room
	}
	return floors
}

// floorsTold notes that they are proposed. If that is lost, so is this leadership.
func (r *Replica) floorsTold(floors []tree.Floor) {
	c := &r.core
	if len(floors) > 0 {
		c.told, c.tellFrom = raised(c.told, floors), c.ticks+max(1, uint64(floorEvery/r.cfg.Tick))
	}
}

// takeFloors is the applier's: it keeps the highest that an entry tells of each member.
func (r *Replica) takeFloors(told []tree.Floor) {
	if len(told) == 0 {
		return
	}
	a := &r.applier
	told = slices.DeleteFunc(told, func(f tree.Floor) bool { return !a.point.has(f.Node) })
	a.point.Floors = raised(a.point.Floors, told)
	r.publishFloors()
}

// publishFloors makes those of the applier's point visible.
func (r *Replica) publishFloors() {
	floors := r.applier.point.Floors
	r.floors.Store(&floors)
}

// floorOf is the floor of a node, 0 if there is none.
func floorOf(floors []tree.Floor, node uint64) uint64 {
	i, ok := slices.BinarySearchFunc(floors, node, floorNode)
	if !ok {
		return 0
	}
	return floors[i].Index
}

// raised are the floors, by node, the higher one of each. What is given stays as it is.
func raised(floors, by []tree.Floor) []tree.Floor {
	if len(by) == 0 {
		return floors
	}
	floors = slices.Clone(floors)
	for _, f := range by {
		i, ok := slices.BinarySearchFunc(floors, f.Node, floorNode)
		if !ok {
			floors = slices.Insert(floors, i, tree.Floor{Node: f.Node})
		}
		floors[i].Index = max(floors[i].Index, f.Index)
	}
	return floors
}

func floorNode(f tree.Floor, node uint64) int { return cmp.Compare(f.Node, node) }
