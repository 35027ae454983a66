package replica

import (
	"cmp"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"coord/tree"
)

// floorEvery is how often a leader tells floors, if there are writes to carry them.
const floorEvery = time.Second

// Floor returns an index up to which the node certainly has had the committed entries on its disk:
// a log of that node that ends before it is an older copy, or has lost entries. It is the highest
// that leaders have told of the node in the entries applied here, whoever leads now; 0 if none.
// term is the term of the entry at index, which the node has been in; it is 0 if this node's log no
// longer holds that entry. Any goroutine may call it.
func (r *Replica) Floor(node uint64) (index, term uint64) {
	index = floorOf(*r.floors.Load(), node)
	return index, r.termAt(index)
}

// termAt returns the term of an entry, or 0 if the log does not hold it.
func (r *Replica) termAt(index uint64) uint64 {
	term, err := r.cfg.Log.Term(index)
	if err != nil {
		return 0
	}
	return term
}

// newFloors returns the floors that the next batch is to tell, if any.
func (r *Replica) newFloors() []tree.Floor {
	if r.core.ticks < r.core.tellFrom || !r.ticks() { // a sole member has nobody to tell
		return nil
	}
	return r.movedFloors()
}

// movedFloors returns, for each member, what it has acknowledged of the committed entries, if that
// is more than the leader has told already. Entries that are not committed may be cut off by
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

// floorsTold notes that floors are proposed. If the batch is lost, so is this leadership.
func (r *Replica) floorsTold(floors []tree.Floor) {
	c := &r.core
	if len(floors) > 0 {
		c.told, c.tellFrom = raised(c.told, floors), c.ticks+max(1, uint64(floorEvery/r.cfg.Tick))
	}
}

// takeFloors keeps the highest floor that an entry tells of each member. The applier calls it.
func (r *Replica) takeFloors(told []tree.Floor) {
	if len(told) == 0 {
		return
	}
	a := &r.applier
	told = slices.DeleteFunc(told, func(f tree.Floor) bool { return !a.point.has(f.Node) })
	a.point.Floors = raised(a.point.Floors, told)
	r.publishFloors()
}

// publishFloors makes the floors of the applier's point visible.
func (r *Replica) publishFloors() {
	floors := r.applier.point.Floors
	r.floors.Store(&floors)
}

// floorOf returns the floor of a node, 0 if there is none.
func floorOf(floors []tree.Floor, node uint64) uint64 {
	i, ok := slices.BinarySearchFunc(floors, node, floorNode)
	if !ok {
		return 0
	}
	return floors[i].Index
}

// raised returns floors, sorted by node, with each raised to the one in by if that is higher. The
// arguments are not changed.
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
