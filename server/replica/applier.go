package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

type watchTable = watch.Table

// applier is the applier's own state.
type applier struct {
	index   uint64     // the last entry applied
	point   Point      // the same, with the members in force
	waiting []proposed // in the order of the log
	reads   []read     // in the order of their indices
	txns    int        // since the last snapshot
	bytes   int64      // of entries since the last snapshot
	saving  bool
	err     error
}

// proposed is a batch that was proposed in a term: its submissions that are not
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

// save is a snapshot to be made.
type save struct {
	frozen *tree.Frozen
	at     Point
}

// claim takes the submission that a txn of the log answers, if it came from here
// since the start.
func (a *applier) claim(x *tree.Txn, self uint64) (s submission, ok bool) {
	if x.Origin != self || len(a.waiting) == 0 || a.waiting[0].subs[0].txn.Seq != x.Seq {
		return submission{}, false
	}
	b := &a.waiting[0]
	s, b.subs = b.subs[0], b.subs[1:]
	if len(b.subs) == 0 {
		a.waiting = slices.Delete(a.waiting, 0, 1)
	}
	return s, true
}

// runApplier runs what must run between two txns.
func (r *Replica) runApplier(ctx context.Context) error {
	var tasks []func()
	for {
		tasks = r.tasks.take(tasks)
		for _, task := range tasks {
			task()
			if r.applier.err != nil {
				return r.applier.err
			}
			if r.cfg.Burst != nil {
				r.cfg.Burst()
			}
		}
		if len(tasks) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.tasks.wake:
		}
	}
}

// applyEntries applies committed entries and tells the loop.
func (r *Replica) applyEntries(m *raftpb.Message) {
	a := &r.applier
	for _, e := range m.GetEntries() {
		if e.GetIndex() != a.index+1 {
			panic(fmt.Sprintf("replica: entry %d is to be applied after %d", e.GetIndex(), a.index))
		}
		r.dropOlder(e.GetTerm())
		switch {
		case e.GetType() != raftpb.EntryNormal:
			panic("replica: a membership change, and there is one member")
		case len(e.GetData()) > 0:
			if a.err = r.applyBatch(e.GetTerm(), e.GetData()); a.err != nil {
				return
			}
		}
		a.index = e.GetIndex()
		a.point.Index, a.point.Term = a.index, e.GetTerm()
		a.bytes += int64(len(e.GetData()))
	}
	term, now := a.point.Term, r.mu.tree.Counters()
	r.events.push(func() { r.applied(m.GetResponses(), term, now) })
	r.finishReads()
	r.maybeSave()
}

// applyBatch applies the txns of one entry. The lock is given up now and then so
// that readers get a turn; no reader can see half a txn.
func (r *Replica) applyBatch(term uint64, data []byte) error {
	a := &r.applier
	n := 0
	r.mu.Lock()
	err := tree.Decode(data, func(x *tree.Txn) {
		if n > 0 && n%applyChunk == 0 {
			r.mu.Unlock()
			r.mu.Lock()
		}
		n++
		result, events := r.mu.tree.Apply(term, x)
		for _, e := range events {
			r.mu.watches.Trigger(e)
		}
		if s, ok := a.claim(x, r.cfg.NodeID); ok {
			r.pending.Add(-s.size)
			s.done(result, r.mu.tree, r.mu.watches)
		}
	})
	r.mu.Unlock()
	r.txns.Add(uint64(n))
	a.txns += n
	if err != nil {
		return fmt.Errorf("replica: entry %d: %w", a.index+1, err)
	}
	return nil
}

// dropOlder answers the submissions that were proposed in a term before term:
// none of them can be committed any more, but their clients must not guess.
func (r *Replica) dropOlder(term uint64) {
	a := &r.applier
	for len(a.waiting) > 0 && a.waiting[0].term < term {
		for _, s := range a.waiting[0].subs {
			r.answer(s, tree.Result{Code: znode.ErrUncertain})
		}
		a.waiting = slices.Delete(a.waiting, 0, 1)
	}
}

// whenApplied runs barriers once an index is applied.
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

// maybeSave freezes the state for the snapshotter if it is time.
func (r *Replica) maybeSave() {
	a := &r.applier
	if a.saving || a.txns < r.cfg.SnapshotTxns && a.bytes < r.cfg.SnapshotBytes {
		return
	}
	f, at := r.freeze()
	a.saving, a.txns, a.bytes = true, 0, 0
	r.saves <- save{f, at} // has room: one is under way at a time
}

// runSnapshotter makes snapshots. One that fails costs a warning and is tried
// again after as many txns: the log still holds everything.
func (r *Replica) runSnapshotter(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-r.saves:
			start := time.Now()
			zxid := s.frozen.Counters().Zxid
			keepFrom, err := r.cfg.Snapshots.Save(ctx, s.at, s.frozen)
			switch {
			case err != nil && ctx.Err() != nil:
				return nil // the end of Run cut it short
			case err != nil:
				r.log.Error().Err(err).Str("zxid", zxid.String()).Msg("snapshot failed; the log still holds everything")
			default:
				r.snapshots.Add(1)
				r.lastSaved.Store(uint64(zxid))
				r.log.Info().Str("zxid", zxid.String()).Int("znodes", s.frozen.Len()).Dur("took", time.Since(start)).Msg("snapshot made")
				compacted := make(chan struct{})
				r.marks.push(func() error {
					if err := r.cfg.Log.Mark(wal.Mark{Index: s.at.Index, Term: s.at.Term, Zxid: uint64(zxid)}); err != nil {
						return err
					}
					if err := r.cfg.Log.CompactTo(keepFrom); err != nil {
						return err
					}
					close(compacted)
					return nil
				})
				select {
				case <-ctx.Done():
					return nil
				case <-compacted:
				}
				if err := r.cfg.Log.Sweep(ctx); err != nil && ctx.Err() == nil {
					return err
				}
			}
			r.tasks.push(func() {
				r.applier.saving = false
				r.maybeSave()
			})
		}
	}
}
