package replica

import (
	"context"
	"encoding/binary"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"coord/tree"
)

// ProposeInTerm adds a submission to those that were proposed in a term and are not in the log yet.
func ProposeInTerm(r *Replica, term uint64, done Done) {
	s := submission{txn: &tree.Txn{}, done: done, size: 100}
	r.pending.Add(s.size)
	r.tasks.push(func() { r.applier.waiting = append(r.applier.waiting, proposed{term, []submission{s}}) })
}

// Retained is how many items of past work the queues and tables of an idle replica hold on to, plus
// how far their capacities exceed what may be kept.
func Retained(r *Replica) (n int) {
	n += len(r.applier.waiting) + len(r.applier.reads) + len(r.core.batch) + len(r.core.reads) + len(r.core.asked.dones)
	for _, s := range r.core.subs {
		if s.txn != nil {
			n++
		}
	}
	for _, used := range []int{cap(r.submitted.mu.items), cap(r.barriers.mu.items), cap(r.tasks.mu.items), cap(r.events.mu.items)} {
		n += max(0, used-2*4096)
	}
	return n
}

// Turns returns the turns of the replica's goroutines, for a test that drives the replica in their
// place.
func Turns(r *Replica) []func() (worked bool, err error) {
	return []func() (bool, error){
		r.turnLoop, r.turnLogWriter, r.turnApplier,
		func() (bool, error) { return r.turnSnapshotter(context.Background()) },
	}
}

// Waits says for each part whether something waits.
func Waits(r *Replica) [4]bool {
	return [4]bool{r.submitted.waits() || r.barriers.waits() || r.events.waits(), r.appends.waits() || r.marks.waits(), r.tasks.waits(), r.chores.waits()}
}

func (q *queue[T]) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.mu.items) > 0
}

// Tick is one tick of the clock that the loop would have.
func Tick(r *Replica) {
	r.events.push(func() {
		if r.ticks() {
			r.tick()
		}
	})
}

// Rest returns how many ticks may pass before the loop looks, and Pass makes up for n ticks before its next
// turn.
func Rest(r *Replica) int { return r.rest() }

func Pass(r *Replica, n int) {
	if r.ticks() {
		r.pass(n)
	}
}

// Campaign makes a node campaign, as it may at any time.
func Campaign(r *Replica) { r.events.push(r.campaign) }

// Commit gives entries to the applier as raft would.
func Commit(r *Replica, entries ...*raftpb.Entry) {
	r.tasks.push(func() { r.applyEntries(&raftpb.Message{Entries: entries}, 0, true) })
}

// OnLoop runs f on the loop.
func OnLoop(r *Replica, f func()) { r.events.push(f) }

// HandOver is Replica.HandOver for a test that drives the replica.
func HandOver(r *Replica, done func()) { r.askHandOver(&leaver{done: done}) }

// The mutants of the simulation that need access to this package.

// AcceptGap makes the leader take the txns of b, even if earlier ones of its stream are missing.
func AcceptGap(r *Replica, from uint64, b []byte) {
	r.events.push(func() {
		if in := r.core.in[from]; in != nil && in.stream == binary.LittleEndian.Uint64(b[8:]) {
			in.next, in.refused = binary.LittleEndian.Uint64(b[16:]), false
		} else {
			stream := binary.LittleEndian.Uint64(b[8:])
			r.core.in[from] = &inflow{stream: stream, next: binary.LittleEndian.Uint64(b[16:])}
		}
	})
}

// ApplyAgain applies the last entry a second time.
func ApplyAgain(r *Replica) {
	if es, err := r.cfg.Log.Entries(r.applier.index, r.applier.index+1, 1); err == nil && len(es[0].GetData()) > 0 && es[0].GetType() == 0 {
		_ = r.applyBatch(es[0].GetTerm(), es[0].GetData())
	}
}

// ApplyOwn applies a txn that is in no log.
func ApplyOwn(r *Replica, timeMS int64) {
	r.mu.tree.Apply(r.applier.point.Term, &tree.Txn{Op: tree.Op{Kind: tree.KindSettings}, TimeMS: timeMS, Settings: r.cfg.Settings})
}

// TellSent makes a leader tell, as the floor of each member, what it has sent to the member.
func TellSent(r *Replica) {
	r.events.push(func() {
		c := &r.core
		if !c.isReady {
			return
		}
		var floors []tree.Floor
		c.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
			if index := pr.Next - 1; index > floorOf(*r.floors.Load(), id) {
				floors = append(floors, tree.Floor{Node: id, Index: index})
			}
		})
		if len(floors) > 0 {
			_ = c.rn.Propose(new(tree.Encoder).AppendBatch(nil, c.stamp, floors...))
		}
	})
}

// Descriptor returns what raft sends of a snapshot.
func Descriptor(p Point) *raftpb.Snapshot { return p.descriptor() }

// Changed returns the place after a change of members.
func Changed(p Point, cc *raftpb.ConfChangeV2) (Point, error) { return p.changed(cc) }
