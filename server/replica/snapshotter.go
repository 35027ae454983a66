package replica

import (
	"context"

	"coord/tree"
	"coord/wal"
)

// runSnapshotter makes snapshots, and removes what they make superfluous.
func (r *Replica) runSnapshotter(ctx context.Context) error {
	err := takeTurns(ctx, r.chores.wake, func() (bool, error) { return r.turnSnapshotter(ctx) })
	if ctx.Err() != nil {
		return nil //nolint:nilerror // what was under way is cut short
	}
	return err
}

func (r *Replica) turnSnapshotter(ctx context.Context) (worked bool, err error) {
	chores := r.chores.take(nil)
	for _, chore := range chores {
		if err := chore(ctx); err != nil {
			return false, err
		}
	}
	return len(chores) > 0, nil
}

// hasFilled makes a snapshot because the disk is nearly full: the log before it can be removed, and
// older snapshots. If the last one was made for that reason, the next one waits for more entries.
func (r *Replica) hasFilled() {
	a := &r.applier
	a.due = a.due || !a.tight
	r.maybeSave()
}

// maybeSave freezes the state for the snapshotter if it is time. Only one snapshot is under way at
// a time, and none is made in the midst of a change of several members.
func (r *Replica) maybeSave() {
	a := &r.applier
	full, bytes := r.full.Load(), r.cfg.SnapshotBytes
	if full {
		bytes = min(bytes, r.cfg.FullBytes)
	}
	if a.saving || len(a.point.Outgoing) > 0 || !a.due && a.txns < r.cfg.SnapshotTxns && a.bytes < bytes {
		return
	}
	a.tight = full
	f, at := r.freeze()
	ctx, giveUp := context.WithCancel(context.Background())
	a.saving, a.due, a.txns, a.bytes = true, false, 0, 0
	a.savingAt, a.giveUp = at.Index, giveUp
	r.chores.push(func(run context.Context) error {
		defer giveUp()
		defer context.AfterFunc(run, giveUp)()
		r.save(ctx, f, at)
		return nil
	})
}

// saveFor makes a snapshot that has the members as of the index members, unless the last one has. A
// snapshot under way that is too old for that is given up, so that it does not delay the new one.
func (r *Replica) saveFor(members uint64) {
	a := &r.applier
	if a.savingAt >= members {
		return
	}
	if a.saving {
		a.giveUp()
	}
	a.due = true
	r.maybeSave()
}

// save makes a snapshot. If it fails, save logs an error, and the next one is made after the usual
// number of txns: the log still holds everything.
func (r *Replica) save(ctx context.Context, f *tree.Frozen, at Point) {
	start := r.cfg.Now()
	zxid := f.Counters().Zxid
	keepFrom, err := r.cfg.Snapshots.Save(ctx, at, f)
	if err != nil {
		if ctx.Err() != nil {
			r.log.Debug().Str("zxid", zxid.String()).Msg("snapshot canceled")
		} else {
			r.log.Error().Err(err).Str("zxid", zxid.String()).Msg("snapshot failed; the log still holds everything")
		}
		r.tasks.push(func() { r.applier.savingAt = 0 })
		r.saved()
		return
	}
	r.snapshots.Add(1)
	r.lastSaved.Store(uint64(zxid))
	r.log.Info().Str("zxid", zxid.String()).Int("znodes", f.Len()).Dur("took", r.cfg.Now().Sub(start)).Msg("snapshot made")
	r.events.push(func() {
		if c := &r.core; at.Index > c.saved.Index {
			c.saved = at
		}
	})
	r.marks.push(func() error {
		if err := r.cfg.Log.Mark(wal.Mark{Index: at.Index, Term: at.Term, Zxid: uint64(zxid)}); err != nil {
			return err
		}
		if err := r.cfg.Log.CompactTo(keepFrom); err != nil {
			return err
		}
		r.chores.push(func(ctx context.Context) error {
			if err := r.cfg.Log.Sweep(ctx); err != nil {
				return err
			}
			r.saved()
			return nil
		})
		return nil
	})
}

// saved allows the next snapshot to begin.
func (r *Replica) saved() {
	r.tasks.push(func() {
		r.applier.saving = false
		r.maybeSave()
	})
}
