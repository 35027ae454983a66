package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/wal"
)

// apply writes the new state: steps 9 to 15.
func (r *run) apply() (err error) {
	t, rep := r.target, &r.report
	if err := r.step(Write, "make the plan file"); err != nil {
		return err
	}
	in := intent{V: 1, ID: rep.ID, Node: rep.Identity.Node, Inside: t.inside, Target: t.kind.String()}
	if t.inside {
		in.Old = t.old()
	}
	p, err := beginPlan(t.places, in)
	if err != nil {
		return err
	}
	if t.info != nil {
		_ = chownLike(t.plan(), t.dir) // if this fails, only root can complete what root began
	}
	p.exchange = r.o.exchange
	p.told = func(what string) { _ = r.step(Swap, what) } // nothing can stop it any more
	err = r.build()
	if err == nil {
		err = r.step(Swap, "begin the exchange")
	}
	if err == nil {
		err = p.commit()
	}
	if err != nil {
		return errors.Join(err, p.undo())
	}
	if _, err := p.swap(); err != nil {
		if p.untouched() {
			return errors.Join(fmt.Errorf("exchange the folders: %w", err), p.undo())
		}
		_ = p.release()
		return &PartialError{t.dir, t.plan(), err}
	}
	rep.Kept = ""
	if exists(t.kept()) {
		rep.Kept = t.kept()
	}
	err = r.finish()
	_ = r.step(Swap, "remove the plan file")
	// A plan that stays does no harm: nothing in it is left to do.
	if left := p.remove(); err == nil && left != nil {
		rep.notice("the plan file was not removed: %v", left)
	}
	return err
}

// build makes the new folder and reads it back.
func (r *run) build() (err error) {
	t, rep, dir := r.target, &r.report, r.target.build()
	if err := r.step(Write, "look at the target again"); err != nil {
		return err
	}
	if err := t.again(); err != nil {
		return err
	}
	if err := r.step(Write, "make the folder"); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	// Held until the process ends or Run returns: the new folder is already locked when it gets its name.
	d, err := datadir.Open(dir, false)
	if err != nil {
		return err
	}
	r.built = d
	if err := r.step(Write, "make the snapshot folder"); err != nil {
		return err
	}
	store, err := snapshot.OpenStore(d.Snapshots(), snapshot.Pace{})
	if err != nil {
		return err
	}
	// tell ends the writing when the context ends, and knows the cause.
	info, err := store.Save(context.WithoutCancel(r.ctx), r.snapshotMeta(), r.state.Freeze(), snapshot.Options{Step: func(s snapshot.Progress) error {
		return r.tell(Progress{Stage: Write, Step: "write a frame of the snapshot", Done: s.Znodes, Total: s.OfZnodes})
	}})
	if err != nil {
		return err
	}
	rep.check("new snapshot", "%d bytes, read back", info.Summary.FileBytes)
	if err := r.writeLog(d.WAL()); err != nil {
		return err
	}
	if err := r.step(Write, "write the report"); err != nil {
		return err
	}
	rep.State, rep.File = Built, filepath.Join(t.dir, reportName(rep.ID))
	if err := rep.write(dir); err != nil {
		return err
	}
	if err := r.step(Write, "write the identity"); err != nil {
		return err
	}
	if err := d.WriteIdentity(r.identity); err != nil {
		return err
	}
	if t.info != nil {
		if err := chownLike(dir, t.dir); err != nil {
			return err
		}
		if uid, gid, ok := ownerOf(t.dir); ok && os.Geteuid() == 0 && (uid != 0 || gid != 0) {
			rep.notice("the restored files belong to user %d and group %d, as the folder did", uid, gid)
		}
	}
	if err := r.step(Write, "fsync the folders"); err != nil {
		return err
	}
	if err := errors.Join(snapshot.SyncDir(dir), snapshot.SyncDir(t.around())); err != nil {
		return err
	}
	if err := r.step(Verify, "read the new folder back"); err != nil {
		return err
	}
	return r.verify(dir)
}

// writeLog makes the empty log that follows the snapshot.
func (r *run) writeLog(dir string) error {
	if err := r.step(Write, "make the log"); err != nil {
		return err
	}
	l, _, err := wal.Open(dir, wal.Options{Meta: r.logMeta()})
	if err != nil {
		return err
	}
	if err = r.step(Write, "reset the log"); err == nil {
		err = l.Reset(wal.Position{Index: startIndex, Term: startTerm}, wal.HardState{Term: startTerm, Commit: startIndex})
	}
	return errors.Join(err, l.Close())
}

func (r *run) logMeta() wal.Meta {
	return wal.Meta{ClusterID: r.identity.Cluster, NodeID: r.identity.Node}
}

// verify reads a folder as a start would, and compares the result with what was written.
func (r *run) verify(dir string) error {
	r.reads = Verify
	got, err := readFolder(&r.ticker, dir, onlyCommitted)
	if err != nil {
		return fmt.Errorf("the new folder cannot be read back: %w", err)
	}
	switch {
	case !got.identity.Equal(r.identity):
		err = fmt.Errorf("the identity in %s is %+v, not %+v", dir, got.identity, r.identity)
	case got.tree.Digest() != r.state.Digest() || got.tree.Counters() != r.state.Counters():
		err = fmt.Errorf("the state in %s has the digest %v, not %v", dir, got.tree.Digest(), r.state.Digest())
	case got.meta.RaftIndex != startIndex || got.meta.RaftTerm != startTerm || !got.sole():
		err = fmt.Errorf("the log in %s is at index %d, term %d", dir, got.meta.RaftIndex, got.meta.RaftTerm)
	default:
		r.report.check("new folder", "read as at a server start: digest %v", got.tree.Digest())
	}
	return err
}

// finish checks the folder in its place and completes the report. The contents were read before the
// exchange, which moved only names.
func (r *run) finish() error {
	t, rep := r.target, &r.report
	_ = r.step(Swap, "open the folder in its place")
	id, ok, err := datadir.ReadIdentity(t.dir)
	if err == nil && (!ok || !id.Equal(r.identity)) {
		err = errors.New("it is not the restored one")
	}
	if err == nil {
		var list []snapshot.Entry
		list, err = snapshots(filepath.Join(t.dir, datadir.SnapshotName))
		if err == nil && (len(list) != 1 || list[0].Err != nil || list[0].Summary.Digest != r.state.Digest()) {
			err = errors.New("it does not hold the restored snapshot")
		}
	}
	if err == nil {
		var l *wal.Log
		l, _, err = wal.Open(filepath.Join(t.dir, datadir.WALName),
			wal.Options{Meta: r.logMeta(), ReadOnly: true, MustExist: true, MustReach: startIndex})
		if err == nil {
			err = l.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("%s after the exchange: %w (the old data: %s)", t.dir, err, t.kept())
	}
	rep.check("data folder", "in its place")
	rep.State = Done
	_ = r.step(Swap, "complete the report")
	r.watch.enter("")
	rep.Took = r.watch.took
	if err := rep.write(t.dir); err != nil {
		rep.notice("the report in the folder is from before the exchange: %v", err)
	}
	if uid, gid, ok := ownerOf(t.dir); ok && os.Geteuid() == 0 {
		_ = os.Lchown(filepath.Join(t.dir, reportName(rep.ID)), uid, gid)
	}
	return nil
}
