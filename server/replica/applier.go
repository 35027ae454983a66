package replica

import (
	"context"
	"fmt"
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
	index   uint64 // the last entry applied
	point   Point  // the same, with the members in force
	waiting []await
	head    int // of waiting
	reads   []read
	txns    int   // since the last snapshot
	bytes   int64 // of entries since the last snapshot
	saving  bool
	err     error
}

// await is a submission that was proposed in a term and is not answered.
type await struct {
	submission
	term uint64
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

func (a *applier) await(subs []submission, term uint64) {
	if a.head == len(a.waiting) {
		clear(a.waiting)
		a.waiting, a.head = a.waiting[:0], 0
	}
	for _, s := range subs {
		a.waiting = append(a.waiting, await{s, term})
	}
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
	r.events.push(func() { r.step(m.GetResponses()) })
	r.finishReads()
	if !a.saving && (a.txns >= r.cfg.SnapshotTxns || a.bytes >= r.cfg.SnapshotBytes) {
		r.startSave()
	}
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
		if x.Origin != r.cfg.NodeID || a.head == len(a.waiting) || a.waiting[a.head].txn.Seq != x.Seq {
			return // another node's, or from before the start
		}
		s := &a.waiting[a.head]
		a.head++
		r.pending.Add(-s.size)
		s.done(result, r.mu.tree, r.mu.watches)
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
	for a.head < len(a.waiting) && a.waiting[a.head].term < term {
		s := a.waiting[a.head].submission
		a.head++
		r.answer(s, tree.Result{Code: znode.ErrUncertain})
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
	for len(a.reads) > 0 && a.reads[0].index <= a.index {
		done := a.reads[0].done
		a.reads = a.reads[1:]
		r.answer(submission{done: done}, tree.Result{})
	}
}

// startSave freezes the state for the snapshotter.
func (r *Replica) startSave() {
	a := &r.applier
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
			if err != nil {
				r.log.Error().Err(err).Str("zxid", zxid.String()).Msg("snapshot failed; the log still holds everything")
			} else {
				r.snapshots.Add(1)
				r.lastSaved.Store(uint64(zxid))
				r.log.Info().Str("zxid", zxid.String()).Int("znodes", s.frozen.Len()).Dur("took", time.Since(start)).Msg("snapshot made")
				r.marks.push(func() error {
					if err := r.cfg.Log.Mark(wal.Mark{Index: s.at.Index, Term: s.at.Term, Zxid: uint64(zxid)}); err != nil {
						return err
					}
					return r.cfg.Log.CompactTo(keepFrom)
				})
			}
			r.tasks.push(func() { r.applier.saving = false })
		}
	}
}
