package replica

import (
	"context"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/wal"
)

// recheckFull is how often the disk is asked again while it is too full.
const recheckFull = 200 * time.Millisecond

// runLogWriter owns the log's writing side. All appends that wait become one
// write and, if any of them has a response to deliver, one fsync. Its error is
// final: nothing that relied on the write is answered.
func (r *Replica) runLogWriter(ctx context.Context) error {
	var msgs []*raftpb.Message
	var marks []func() error
	var hard wal.HardState // the newest
	for {
		msgs = r.appends.take(msgs)
		if len(msgs) > 0 {
			if err := r.append(msgs, &hard); err != nil {
				return err
			}
		}
		marks = r.marks.take(marks)
		for _, mark := range marks {
			if err := mark(); err != nil {
				return err
			}
		}
		if len(msgs) > 0 || len(marks) > 0 {
			r.checkFull()
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
		case <-r.marks.wake:
		case <-again:
			r.checkFull()
		}
	}
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
	} else {
		r.log.Info().Msg("the disk has room again: writes are taken")
	}
}

// append writes what several MsgStorageAppend ask for, as one write and one
// fsync, and delivers their responses.
func (r *Replica) append(msgs []*raftpb.Message, hard *wal.HardState) error {
	batches := make([]wal.Batch, 0, len(msgs))
	var responses []*raftpb.Message
	appends := 0
	for _, m := range msgs {
		b := wal.Batch{Entries: m.GetEntries(), Sync: len(m.GetResponses()) > 0}
		if m.Term != nil { // raft sets all three or none
			b.HardState = wal.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
		}
		responses = append(responses, m.GetResponses()...)
		// A commit index that moves alone is not worth a write: each entry carries
		// what was committed before it, and the next batch the index itself.
		moved := b.HardState.Term != hard.Term || b.HardState.Vote != hard.Vote
		if len(b.Entries) > 0 || m.Term != nil && moved || b.Sync {
			batches = append(batches, b)
		}
		if len(b.Entries) > 0 {
			appends++
		}
		if m.Term != nil {
			*hard = b.HardState
		}
	}
	if len(batches) > 0 {
		if err := r.cfg.Log.Append(batches...); err != nil {
			return err
		}
	}
	if len(responses) > 0 || appends > 0 {
		r.events.push(func() {
			r.core.appending -= appends
			r.step(responses)
		})
	}
	return nil
}
