package restore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/wal"
)

func offline(dir string) (*Offline, error) {
	return Snapshot(context.Background(), OfflineOptions{DataDir: dir, Writer: "coord test"})
}

// The state of a stopped folder is the snapshot and the whole log after it, and a backup of it can be restored.
func TestSnapshotOffline(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	before := hashFolder(t, s.dir, "lock")
	got1, err := offline(s.dir)
	must(t, err)
	if hashFolder(t, s.dir, "lock") != before {
		t.Error("the folder was changed")
	}
	if got1.Frozen.Digest() != s.tree.Digest() || got1.Meta.RaftIndex != s.at.Index || got1.Meta.RaftTerm != s.at.Term ||
		got1.Meta.ClusterID != s.identity.Cluster || got1.Meta.LineageID != s.identity.Lineage || len(got1.Meta.Conf.Voters) != 1 {
		t.Errorf("state %v of %+v, want %v at %+v", got1.Frozen.Digest(), got1.Meta, s.tree.Digest(), s.at)
	}
	var b bytes.Buffer
	_, err = snapshot.Write(&b, got1.Meta, got1.Frozen, snapshot.Options{})
	must(t, err)
	dir := filepath.Join(base, "new")
	run1(t, Options{File: "-", In: &b, DataDir: dir})
	n := start(t, dir)
	defer n.stop()
	if content(n.tree) != content(s.tree) {
		t.Error("the content differs")
	}
}

func TestSnapshotOfflineRefused(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	must(t, os.Mkdir(filepath.Join(base, "s"), 0o700))
	_, err := offline(filepath.Join(base, "none"))
	if !errors.Is(err, datadir.ErrNoFolder) {
		t.Errorf("no folder: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(base, "empty"), 0o700))
	if _, err = offline(filepath.Join(base, "empty")); !errors.Is(err, ErrNothing) {
		t.Errorf("empty folder: %v", err)
	}
	n := form(t, filepath.Join(base, "blank")).stop()
	n.identity.State = datadir.Blank
	must(t, datadir.WriteIdentity(n.dir, n.identity))
	if _, err = offline(n.dir); !errors.Is(err, ErrNothing) {
		t.Errorf("blank folder: %v", err)
	}
	n.identity.State = datadir.Member
	must(t, datadir.WriteIdentity(n.dir, n.identity))
	must(t, os.WriteFile(n.dir+".restore-plan", nil, 0o600))
	if _, err = offline(n.dir); !errors.Is(err, datadir.ErrUnfinished) {
		t.Errorf("unfinished restore: %v", err)
	}
	must(t, os.Remove(n.dir+".restore-plan"))

	// An older snapshot, the newest one damaged, and a log that does not reach back.
	n = start(t, n.dir)
	n.ok(create("/a", ""))
	info := n.save()
	must(t, n.log.Reset(n.at, wal.HardState{Term: n.at.Term}))
	n.ok(create("/b", ""))
	n.stop()
	flip(t, info.Path, 300)
	if _, err = offline(n.dir); !strings.Contains(wantAs[*datadir.DamageError](t, err).Reason, "the log begins at") {
		t.Errorf("a hole: %v", err)
	}

	s := newSample(t, filepath.Join(base, "s"))
	segment := glob1(t, s.dir, "wal/*")
	flip(t, segment, 400)
	_, err = offline(s.dir)
	if e := wantAs[*datadir.DamageError](t, err); e.File != segment || !strings.Contains(e.Reason, "offset") {
		t.Errorf("a damaged log: %v", err)
	}
	must(t, os.RemoveAll(filepath.Dir(segment)))
	must(t, os.Rename(filepath.Join(n.dir, "wal"), filepath.Dir(segment)))
	_, err = offline(s.dir)
	if e := wantAs[*datadir.DamageError](t, err); !strings.Contains(e.Reason, "another cluster") {
		t.Errorf("another's log: %v", err)
	}
}

// If others vote on a log, only what is known to be committed counts: from the snapshot on, or from
// a change of members on.
func TestSnapshotOfSeveralMembers(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	n := form(t, filepath.Join(base, "data"))
	n.ok(create("/a", ""))
	n.others = []uint64{7}
	n.save()
	was, at := n.tree.Digest(), n.at
	n.ok(create("/b", "not known to be committed"))
	n.stop()
	got1, err := offline(n.dir)
	must(t, err)
	if got1.Frozen.Digest() != was || got1.Meta.RaftIndex != at.Index {
		t.Errorf("state %v at %d, want %v at %d", got1.Frozen.Digest(), got1.Meta.RaftIndex, was, at.Index)
	}
	r := run1(t, Options{File: n.backup(filepath.Join(base, "backup.coord")), DataDir: n.dir, Replace: true})
	if r.Replaced.Known || !strings.Contains(r.Replaced.Why, "older than") && !strings.Contains(r.Replaced.Why, "several members") {
		t.Errorf("replaced %+v", r.Replaced)
	}

	n = start(t, n.dir)
	n.ok(create("/c", "of a sole voter"))
	n.changeMembers()
	was, at = n.tree.Digest(), n.at
	n.ok(create("/d", "not known to be committed"))
	n.stop()
	got1, err = offline(n.dir)
	must(t, err)
	if got1.Frozen.Digest() != was || got1.Meta.RaftIndex != at.Index {
		t.Errorf("after a change of members: state %v at %d, want %v at %d", got1.Frozen.Digest(), got1.Meta.RaftIndex, was, at.Index)
	}
}

// A snapshot that cannot be opened, or whose header is damaged, is named; the log shows whether it
// is needed. If it is needed, the first case is not reported as damage.
func TestSnapshotOfUnreadable(t *testing.T) {
	t.Parallel()
	n := form(t, filepath.Join(t.TempDir(), "data"))
	n.ok(create("/a", ""))
	newest := n.save().Path
	passedOver := func(how string) {
		t.Helper()
		if read := got(offline(n.dir))(t); len(read.Notices) != 1 || !strings.Contains(read.Notices[0], filepath.Base(newest)) || read.Frozen.Digest() != n.tree.Digest() {
			t.Errorf("%s: %q", how, read.Notices)
		}
	}
	must(t, n.lock.Close())
	must(t, os.Truncate(newest, 0))
	passedOver("a damaged header")
	must(t, os.Remove(newest))
	must(t, os.Symlink(newest, newest))
	passedOver("one that cannot be opened")
	must(t, n.log.Reset(n.at, wal.HardState{Term: n.at.Term, Commit: n.at.Index}))
	must(t, n.log.Close())
	if _, err := offline(n.dir); !errors.Is(err, unix.ELOOP) {
		t.Errorf("one that cannot be opened, and the log begins behind it: %v", err)
	}
}

// A backup of a folder from which its node must not start says so.
func TestSnapshotOfOneThatMustNotStart(t *testing.T) {
	t.Parallel()
	n := form(t, filepath.Join(t.TempDir(), "data")).stop()
	for _, state := range []datadir.State{datadir.Faulty, datadir.Removed} {
		n.identity.State, n.identity.Reason = state, "its state differs"
		must(t, datadir.WriteIdentity(n.dir, n.identity))
		if read := got(offline(n.dir))(t); len(read.Notices) != 1 || !strings.Contains(read.Notices[0], "its state differs") {
			t.Errorf("%s: %q", state, read.Notices)
		}
	}
}

// A node that was killed after its log was reset to another node's snapshot has the state of that
// snapshot; one that was killed before the reset has its own state.
func TestSnapshotOfOneThatWaits(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	n := form(t, filepath.Join(base, "data"))
	n.others = []uint64{7, 8}
	n.ok(create("/a", "old"))
	n.save()
	other := form(t, filepath.Join(base, "other"))
	other.ok(create("/a", "new"))
	m := n.meta()
	m.RaftIndex, m.RaftTerm = m.RaftIndex+100, m.RaftTerm+1
	writeBackup(t, filepath.Join(base, "sent"), m, other.tree)
	sent := got(os.ReadFile(filepath.Join(base, "sent")))(t)
	store := got(snapshot.OpenStore(n.lock.Snapshots(), snapshot.Pace{}))(t)
	waits := got(store.Receive(t.Context(), bytes.NewReader(sent), int64(len(sent))))(t)
	must(t, waits.Keep())
	if read := got(offline(n.stop().dir))(t); read.Frozen.Digest() != n.tree.Digest() {
		t.Error("before the log is reset: not the node's own state")
	}
	log, _, err := wal.Open(filepath.Join(n.dir, datadir.WALName), wal.Options{Meta: n.logMeta()})
	must(t, err)
	must(t, log.Reset(wal.Position{Index: m.RaftIndex, Term: m.RaftTerm}, wal.HardState{}))
	must(t, log.Close())
	before := hashFolder(t, n.dir)
	read := got(offline(n.dir))(t)
	if read.Meta.RaftIndex != m.RaftIndex || len(read.Notices) > 0 || read.Frozen.Digest() != other.tree.Digest() {
		t.Errorf("behind it: index %d of %d, %v", read.Meta.RaftIndex, m.RaftIndex, read.Notices)
	}
	if hashFolder(t, n.dir) != before {
		t.Error("the folder has changed")
	}
	flip(t, glob1(t, n.dir, "snapshot/*.received"), 400)
	if _, err := offline(n.dir); err == nil {
		t.Error("a damaged one was read")
	}
	other.stop()
}

// A folder can be read even where nothing can be written.
func TestSnapshotOfReadOnly(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	disk := mount(t, base, "disk", 8<<20)
	dir := filepath.Join(disk, "data")
	must(t, os.CopyFS(dir, os.DirFS(s.dir)))
	must(t, unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	got1, err := offline(dir)
	must(t, err)
	if got1.Frozen.Digest() != s.tree.Digest() {
		t.Error("the state differs")
	}
	if _, err = Run(context.Background(), Options{File: s.backup, DataDir: dir, Replace: true}); !errors.Is(err, unix.EROFS) {
		t.Errorf("restore: %v", err)
	}
	if _, err = Run(context.Background(), Options{File: s.backup, DataDir: filepath.Join(disk, "new")}); !errors.Is(err, unix.EROFS) {
		t.Errorf("restore beside it: %v", err)
	}
}

// Progress counts up to its total, and its error stops the reading.
func TestProgress(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	stages := map[Stage]int{}
	stop := errors.New("stop")
	_, err := Run(context.Background(), Options{File: s.backup, DataDir: s.dir, Replace: true, Progress: func(p Progress) error {
		stages[p.Stage]++
		if p.Total > 0 && p.Done > p.Total {
			t.Errorf("%+v", p)
		}
		return nil
	}})
	must(t, err)
	for _, want := range []Stage{Read, Replay, Write, Verify, Swap} {
		if stages[want] == 0 {
			t.Errorf("nothing of stage %s: %v", want, stages)
		}
	}
	for _, at := range []Stage{Read, Replay} {
		_, err = Snapshot(context.Background(), OfflineOptions{DataDir: s.in(t, base, filepath.Join(t.TempDir(), "x")).dir, Progress: func(p Progress) error {
			if p.Stage == at {
				return stop
			}
			return nil
		}})
		if at == Read && !errors.Is(err, stop) {
			t.Errorf("stage %s: %v", at, err)
		}
	}
}
