package replica

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

type watchTable = watch.Table

// applier is the applier's own state.
type applier struct {
	index   uint64     // the last entry applied
	point   Point      // the place of that entry, with the members in force
	waiting []proposed // unanswered submissions, in the order of the log
	idle    []func()   // to run once nothing waits for an answer
	reads   []read     // barriers, in the order of their indices
	txns    int        // since the last snapshot
	bytes   int64      // of entries since the last snapshot
	err     error
	tasks   []func() // taken from the queue

	// Snapshots. saving: one is under way. savingAt: the entry at which the last one was begun; 0
	// if that one failed or was given up. giveUp cancels it. due: another one is to be made,
	// however little has been applied since.
	saving   bool
	savingAt uint64
	giveUp   context.CancelFunc
	due      bool
	tight    bool // the last one was begun while the disk was nearly full
}

// proposed is a batch that was proposed in a term, with those of its submissions that are not
// answered yet.
type proposed struct {
	term uint64
	subs []submission
}

// read is a barrier that waits for an index to be applied.
type read struct {
	index uint64
	done  Done
}

// claim takes the submission that a txn of the log answers, if the txn was submitted on this node
// since its start and is not answered yet.
func (a *applier) claim(term uint64, x *tree.Txn, self uint64) (s submission, ok bool) {
	if x.Origin != self || len(a.waiting) == 0 {
		return submission{}, false
	}
	b := &a.waiting[0]
	if b.term != term || b.subs[0].txn.Seq != x.Seq {
		return submission{}, false
	}
	s, b.subs = b.subs[0], b.subs[1:]
	if len(b.subs) == 0 {
		a.waiting = slices.Delete(a.waiting, 0, 1)
	}
	return s, true
}

// runApplier runs what must run between two txns, together with the goroutines that serve in its
// place.
func (r *Replica) runApplier(ctx context.Context) error {
	r.applying.Unlock()
	defer r.applying.Lock()
	return takeTurns(ctx, r.tasks.wake, func() (worked bool, err error) { return r.applying.await(r.turnApplier) })
}

func (r *Replica) turnApplier() (worked bool, err error) {
	a := &r.applier
	a.tasks = r.tasks.take(a.tasks)
	for _, task := range a.tasks {
		task()
		if a.err != nil {
			return false, a.err
		}
		if r.cfg.Burst != nil {
			r.cfg.Burst()
		}
	}
	return len(a.tasks) > 0, nil
}

// applyEntries applies committed entries, whose data is size bytes, and tells the loop. With
// awaited the loop is waiting for them, to begin leading or to answer a change of members.
func (r *Replica) applyEntries(m *raftpb.Message, size int64, awaited bool) {
	a := &r.applier
	var changes []memberChange
	for _, e := range m.GetEntries() {
		if e.GetIndex() != a.index+1 {
			panic(fmt.Sprintf("replica: cannot apply entry %d after entry %d", e.GetIndex(), a.index))
		}
		r.dropOlder(e.GetTerm())
		switch {
		case e.GetType() != raftpb.EntryNormal:
			var cc *raftpb.ConfChangeV2
			if cc, a.err = decodeChange(e); a.err == nil {
				a.point, a.err = a.point.changed(cc)
			}
			if a.err != nil {
				a.err = fmt.Errorf("replica: entry %d: %w", e.GetIndex(), a.err)
				return
			}
			r.publishFloors() // a removed member has no floor
			at := a.point.clone()
			at.Index, at.Term = e.GetIndex(), e.GetTerm()
			changes = append(changes, memberChange{cc, at})
			r.passed(e.GetIndex())
		case len(e.GetData()) > 0:
			if a.err = r.applyBatch(e.GetTerm(), e.GetData()); a.err != nil {
				return
			}
		default:
			r.passed(e.GetIndex())
		}
		a.index = e.GetIndex()
		a.point.Index, a.point.Term = a.index, e.GetTerm()
		a.bytes += int64(len(e.GetData()))
		if a.index%digestEvery == 0 {
			r.digests.note(DigestAt{a.index, r.mu.tree.Digest()})
		}
	}
	r.appliedTo.Store(a.index)
	term, now := a.point.Term, r.mu.tree.Counters()
	r.events.add(func() { r.applied(m.GetResponses(), term, changes, now) })
	// Otherwise raft goes on without learning of this yet. It waits for changes of members, and for
	// space in the limit of entries handed out, of which a few bytes in the last message take next
	// to nothing.
	if left := r.toApply.Add(-size); awaited || left > 0 || size >= serveBytes || len(changes) > 0 {
		r.events.wake.up()
	}
	r.finishReads()
	r.finishAnswers()
	r.maybeSave()
}

// passed records that an entry without txns is in the tree.
func (r *Replica) passed(index uint64) {
	r.mu.Lock()
	r.mu.index = index
	r.mu.Unlock()
}

// applyBatch applies the txns of one entry. It releases the lock now and then so that readers get a
// turn; no reader can see half a txn.
func (r *Replica) applyBatch(term uint64, data []byte) error {
	a := &r.applier
	floors, err := tree.DecodeFloors(data)
	if err != nil {
		return fmt.Errorf("replica: entry %d: %w", a.index+1, err)
	}
	r.takeFloors(floors)
	n := 0
	r.mu.Lock()
	r.mu.index = 0
	err = tree.Decode(data, func(x *tree.Txn) {
		if n > 0 && n%applyChunk == 0 {
			r.mu.Unlock()
			r.mu.Lock()
		}
		n++
		result, events := r.mu.tree.Apply(term, x)
		for _, e := range events {
			r.mu.watches.Trigger(e)
		}
		if s, ok := a.claim(term, x, r.cfg.NodeID); ok {
			if x.Kind == tree.KindSession { // the leader has made the id and the password
				s.txn.Target, s.txn.Password = x.Target, slices.Clone(x.Password)
			}
			r.pending.Add(-s.size)
			s.done(result, r.mu.tree, r.mu.watches)
		}
	})
	r.mu.index = a.index + 1
	r.mu.Unlock()
	r.txns.Add(uint64(n))
	a.txns += n
	if err != nil {
		return fmt.Errorf("replica: entry %d: %w", a.index+1, err)
	}
	return nil
}

// dropOlder answers the submissions that were proposed in a term before term: none of them can be
// committed any more, but their clients must not guess.
func (r *Replica) dropOlder(term uint64) {
	a := &r.applier
	for len(a.waiting) > 0 && a.waiting[0].term < term {
		for _, s := range a.waiting[0].subs {
			r.answer(s, tree.Result{Code: znode.ErrUncertain})
		}
		a.waiting = slices.Delete(a.waiting, 0, 1)
	}
}

// lose answers with code the waiting submissions that are numbered from first on: they are known
// not to be in the log, or this node cannot know whether they are or will be. some says whether
// there were any.
func (r *Replica) lose(first uint64, code znode.Code) (some bool) {
	a := &r.applier
	kept := a.waiting[:0]
	for _, b := range a.waiting {
		n := 0
		for n < len(b.subs) && b.subs[n].txn.Seq < first {
			n++
		}
		for _, s := range b.subs[n:] {
			some = true
			r.answer(s, tree.Result{Code: code})
		}
		if n > 0 {
			kept = append(kept, proposed{b.term, b.subs[:n]})
		}
	}
	clear(a.waiting[len(kept):])
	a.waiting = kept
	r.finishAnswers()
	return some
}

// whenAnswered runs f on the applier once everything that was proposed or forwarded before is
// answered.
func (r *Replica) whenAnswered(f func()) {
	r.tasks.push(func() {
		r.applier.idle = append(r.applier.idle, f)
		r.finishAnswers()
	})
}

func (r *Replica) finishAnswers() {
	a := &r.applier
	if len(a.waiting) > 0 {
		return
	}
	for _, f := range a.idle {
		f()
	}
	a.idle = nil
}

// replace replaces the state by a snapshot of another node. The submissions of this node that the
// snapshot may hold were answered before; barriers wait for it as they do for entries.
func (r *Replica) replace(t *tree.Tree, at Point) {
	a := &r.applier
	if at.Index <= a.index {
		panic(fmt.Sprintf("replica: a snapshot of entry %d cannot replace the state at entry %d", at.Index, a.index))
	}
	r.mu.Lock()
	r.mu.tree, r.mu.watches = t, watch.New(watch.DefaultConfig(), t.Counters().Zxid)
	r.mu.index = at.Index
	if r.cfg.Replaced != nil {
		r.cfg.Replaced(r.mu.tree, r.mu.watches)
	}
	r.mu.Unlock()
	a.index, a.point = at.Index, at.clone()
	r.publishFloors()
	a.txns, a.bytes = 0, 0
	r.appliedTo.Store(a.index)
	r.finishReads()
}

// whenApplied runs the barriers once the entry at index is applied.
func (r *Replica) whenApplied(index uint64, dones []Done) {
	for _, done := range dones {
		r.applier.reads = append(r.applier.reads, read{index, done})
	}
	r.finishReads()
}

func (r *Replica) finishReads() {
	a := &r.applier
	n := 0
	for ; n < len(a.reads) && a.reads[n].index <= a.index; n++ {
		r.answer(submission{done: a.reads[n].done}, tree.Result{})
	}
	a.reads = slices.Delete(a.reads, 0, n)
}
