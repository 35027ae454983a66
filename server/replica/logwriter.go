package replica

import (
	"context"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"coord/wal"
)

// recheckFull is how often the log writer checks the disk again while it is too full.
const recheckFull = 200 * time.Millisecond

// logWriter is the log writer's own state.
type logWriter struct {
	hard     wal.HardState // the newest that raft has sent
	unsynced bool          // something is written and not fsynced; nothing relies on it yet
	msgs     []*raftpb.Message
	marks    []func() error
}

// runLogWriter owns the log's writing side.
func (r *Replica) runLogWriter(ctx context.Context) error {
	for {
		switch worked, err := r.turnLogWriter(); {
		case err != nil:
			return err
		case worked:
			continue
		}
		var again <-chan time.Time
		if r.full.Load() {
			again = time.After(recheckFull)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.appends.wake:
		case <-again:
			r.checkFull()
		}
	}
}

// turnLogWriter writes all waiting appends as one and, if any of them has a response to deliver,
// with one fsync. Its error is final: nothing that relied on the write is answered.
func (r *Replica) turnLogWriter() (worked bool, err error) {
	w := &r.logWriter
	w.msgs = r.appends.take(w.msgs)
	if len(w.msgs) > 0 {
		if err := r.append(w, w.msgs); err != nil {
			return false, err
		}
	}
	w.marks = r.marks.take(w.marks)
	for _, mark := range w.marks {
		if err := mark(); err != nil {
			return false, err
		}
	}
	if worked = len(w.msgs) > 0 || len(w.marks) > 0; worked {
		r.checkFull()
	}
	return worked, nil
}

func (r *Replica) checkFull() {
	if r.cfg.Full == nil {
		return
	}
	full := r.cfg.Full()
	if r.full.Swap(full) == full {
		return
	}
	if full {
		r.log.Error().Msg("the disk is nearly full: writes are refused")
		r.tasks.push(r.hasFilled)
	} else {
		r.log.Info().Msg("the disk has room again: writes are accepted")
	}
}

// append writes what several MsgStorageAppend ask for, as one write and one fsync, and delivers
// their responses. A snapshot among them splits the write.
func (r *Replica) append(w *logWriter, msgs []*raftpb.Message) error {
	batches := make([]wal.Batch, 0, len(msgs)+1)
	var responses []*raftpb.Message
	appends := 0
	for _, m := range msgs {
		before := w.hard
		if m.Term != nil { // raft sets all three if one has changed, and sends each change only once
			w.hard = wal.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
		}
		if s := m.GetSnapshot(); !raft.IsEmptySnap(s) {
			if err := r.appendBatches(batches); err != nil {
				return err
			}
			batches = batches[:0]
			if err := r.install(w, PointOf(s)); err != nil {
				return err
			}
		}
		// A commit index that moves alone is not worth a write. Nothing relies on it but changes of members
		// (handOut): the next batch carries it, and with it the commit hints of its entries.
		if len(m.GetEntries()) > 0 || w.hard.Term != before.Term || w.hard.Vote != before.Vote {
			batches = append(batches, wal.Batch{Entries: m.GetEntries(), HardState: w.hard})
			w.unsynced = true
		}
		if len(m.GetEntries()) > 0 {
			appends++
		}
		responses = append(responses, m.GetResponses()...)
	}
	if w.unsynced && len(responses) > 0 {
		batches = append(batches, wal.Batch{Sync: true})
		w.unsynced = false
	}
	if err := r.appendBatches(batches); err != nil {
		return err
	}
	if len(responses) > 0 || appends > 0 {
		r.events.add(func() {
			r.core.appending -= appends
			r.step(responses)
		})
		r.drive()
		switch {
		case r.appends.isEmpty():
			r.serve()
		case !r.tasks.isEmpty():
			r.tasks.wake.up() // the applier's goroutine takes them, so that the disk does not idle meanwhile
		}
	}
	return nil
}

// commit makes it durable that the entries up to index are committed.
func (w *logWriter) commit(log Log, index uint64) error {
	w.hard.Commit = max(w.hard.Commit, index)
	w.unsynced = false
	return log.Append(wal.Batch{HardState: w.hard, Sync: true})
}

func (r *Replica) appendBatches(batches []wal.Batch) error {
	if len(batches) == 0 {
		return nil
	}
	return r.cfg.Log.Append(batches...)
}

// install makes a snapshot of another node this node's own: the file, then the log, then the file's
// name, then the state. Whatever follows the snapshot in the log is acknowledged after that.
func (r *Replica) install(w *logWriter, at Point) error {
	t, err := r.cfg.Received.Install(at)
	if err != nil {
		return err
	}
	if err := r.cfg.Log.Reset(at.position(), w.hard); err != nil {
		return err
	}
	if err := r.cfg.Received.Installed(at); err != nil {
		return err
	}
	w.unsynced = false
	r.tasks.push(func() { r.replace(t, at) })
	r.events.push(func() { r.core.saved = at })
	return nil
}
