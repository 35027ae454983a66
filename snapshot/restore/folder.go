package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// ErrNothing means that a data folder has no state yet: no server has completed its first start in it.
var ErrNothing = errors.New("the folder has no data yet")

// OfflineOptions say what Snapshot reads.
type OfflineOptions struct {
	DataDir string
	Writer  string // the version of coord that makes the backup, for Meta
	Codec   snapshot.Codec
	// Progress is as in Options, with the stages Read and Replay.
	Progress func(Progress) error
}

// Offline is the state of a stopped data folder.
type Offline struct {
	Frozen  *tree.Frozen
	Meta    snapshot.Meta // for snapshot.Write
	Notices []string      // about damaged snapshots passed over, a torn write at the log's end, a node that must not start
}

// Snapshot reads the state in the data folder of a node that does not run: the newest good snapshot
// and the log after it, as a start would. The entries that count are those that a start would
// commit: if the node is the sole voter every intact one, otherwise those known to be committed.
// Nothing is changed except the lock file, and nothing at all where that cannot be written. If a
// server is running, the error is a *datadir.InUseError.
func Snapshot(ctx context.Context, o OfflineOptions) (*Offline, error) {
	d, err := datadir.Open(o.DataDir, false)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) {
		d, err = datadir.Lock(o.DataDir)
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	t := ticker{ctx: ctx, progress: o.Progress}
	f, err := readFolder(&t, d.Path(), onlyCommitted)
	if err != nil {
		return nil, err
	}
	m := f.meta // its Conf is as of the snapshot that was read
	m.BackupID, m.Writer, m.Codec = snapshot.NewID(), o.Writer, o.Codec
	return &Offline{f.tree.Freeze(), m, f.notices}, nil
}

// extent says which entries of a log count.
type extent int

const (
	// onlyCommitted: entries known to be committed, and every intact entry if the node is the sole voter.
	onlyCommitted extent = iota
	// everyEntry: every intact entry, committed or not.
	everyEntry
)

// folder is the contents of a stopped data folder.
type folder struct {
	identity  datadir.Identity
	tree      *tree.Tree
	meta      snapshot.Meta    // of the state: index and term at its end, members as of the snapshot
	changed   bool             // whether members have changed after the snapshot
	term      uint64           // the highest that the node has seen
	committed uint64           // the last entry that the node knew to be committed
	beyond    int              // how many txns in the state come after that
	passed    []snapshot.Entry // snapshots passed over
	notices   []string
}

// sole says whether only this folder's node can have committed anything.
func (f *folder) sole() bool {
	c := &f.meta.Conf
	return !f.changed && len(c.Voters) == 1 && c.Voters[0] == f.identity.Node && len(c.VotersOutgoing) == 0
}

// epoch is the highest that the node's clients can have seen.
func (f *folder) epoch() int64 {
	c := f.tree.Counters()
	return max(int64(c.Zxid.Epoch()), addTerm(c.EpochOffset, f.term))
}

// readFolder reads a folder that nothing else uses, and changes nothing in it.
func readFolder(t *ticker, dir string, what extent) (*folder, error) {
	id, ok, err := datadir.ReadIdentity(dir)
	switch {
	case err != nil:
		return nil, err
	case !ok || id.State == datadir.Blank || id.State == datadir.Promised:
		return nil, fmt.Errorf("%s: %w", dir, ErrNothing)
	}
	f := &folder{identity: id}
	switch id.State { // what a start refuses can still be read, by an operator who knows what it is
	case datadir.Removed:
		f.notices = append(f.notices, fmt.Sprintf("the node was removed from its cluster (%s), which may have continued without it", id.Reason))
	case datadir.Faulty:
		f.notices = append(f.notices, fmt.Sprintf("the node must not start again, and what is read here may not be what the others have: %s", id.Reason))
	}
	if err := f.load(t, filepath.Join(dir, datadir.SnapshotName)); err != nil {
		return nil, err
	}
	return f, explain(filepath.Join(dir, datadir.WALName), f.replay(t, filepath.Join(dir, datadir.WALName), what))
}

// explain maps the log's errors to the data folder's, so that callers need not know the log.
func explain(dir string, err error) error {
	if damage, ok := errors.AsType[*wal.DamageError](err); ok {
		return &datadir.DamageError{File: damage.File, Reason: fmt.Sprintf("damaged at offset %d: %s", damage.Offset, damage.Reason)}
	}
	switch {
	case errors.Is(err, wal.ErrNewerFormat), errors.Is(err, tree.ErrNewerBatch):
		return fmt.Errorf("%w: %w", datadir.ErrNewer, err)
	case errors.Is(err, wal.ErrForeign):
		return &datadir.DamageError{File: dir, Reason: err.Error()}
	}
	return err
}

// snapshots lists a folder's snapshots by their headers, the newest first. It is Store.List without
// the changes that opening a Store makes. Files that need a newer coord or cannot be read come
// first, those with a damaged header last.
func snapshots(dir string) ([]snapshot.Entry, error) { return listed(dir, isSnapshot) }

// listed is snapshots for the names that fit.
func listed(dir string, fits func(name string) bool) ([]snapshot.Entry, error) {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var paths []string
	for _, file := range files {
		if name := file.Name(); fits(name) && !file.IsDir() {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return snapshot.Look(paths), nil
}

func isSnapshot(name string) bool {
	return strings.HasPrefix(name, "snapshot-") && strings.HasSuffix(name, ".coord")
}

// isWaiting recognises a snapshot of another node that was not this node's yet: see snapshot.Received.
func isWaiting(name string) bool {
	return strings.HasPrefix(name, "snapshot-") && strings.HasSuffix(name, ".received")
}

// adopt reads the waiting snapshot that ends where the log begins, as a start would: the log had
// already been reset to it when the node ended.
func (f *folder) adopt(t *ticker, dir string, base wal.Position) error {
	list, err := listed(dir, isWaiting)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Err != nil || e.Meta.RaftIndex != base.Index || e.Meta.RaftTerm != base.Term || e.Meta.ClusterID != f.identity.Cluster {
			continue
		}
		waiting, meta, _, err := readFile(t, e.Path, nil)
		if _, bad := errors.AsType[*snapshot.DamageError](err); bad {
			f.notices = append(f.notices, fmt.Sprintf("skipped: %v", err))
			continue
		}
		if err != nil {
			return err
		}
		f.tree, f.meta = waiting, meta
	}
	return nil
}

// load reads the newest good snapshot.
func (f *folder) load(t *ticker, dir string) error {
	list, err := snapshots(dir)
	if err != nil {
		return err
	}
	var first error
	for _, e := range list {
		if f.tree != nil && !e.HeaderDamaged() { // a snapshot with a damaged header may be newer, so it is noted
			continue
		}
		if err = e.Err; err == nil {
			f.tree, f.meta, _, err = readFile(t, e.Path, nil)
		}
		if err == nil {
			continue
		}
		e.Err = err
		if !snapshot.IsBad(err) && !e.NotOpened() {
			return err // not passed over: it may hold what the others lack
		}
		f.passed = append(f.passed, e)
		f.notices = append(f.notices, fmt.Sprintf("skipped: %v", err))
		first = cmp.Or(first, err)
	}
	if err := snapshot.NotOpened(f.passed); f.tree == nil && err != nil {
		return err
	}
	switch {
	case len(list) == 0:
		return &datadir.DamageError{File: dir, Reason: "contains no snapshot, although the data folder belongs to a node"}
	case f.tree == nil:
		return fmt.Errorf("no good snapshot in %s: %w", dir, first)
	case f.meta.ClusterID != f.identity.Cluster:
		return &datadir.DamageError{File: dir, Reason: fmt.Sprintf(
			"the snapshot is of cluster %s, the folder of %s", f.meta.ClusterID, f.identity.Cluster)}
	}
	f.term = f.meta.RaftTerm
	return nil
}

// replayBytes is how many bytes of the log are read at a time.
const replayBytes = 4 << 20

// replay applies the log after the snapshot.
func (f *folder) replay(t *ticker, dir string, what extent) error {
	l, found, err := wal.Open(dir, wal.Options{
		Meta:     wal.Meta{ClusterID: f.identity.Cluster, NodeID: f.identity.Node},
		ReadOnly: true, MustExist: true, MustReach: f.meta.RaftIndex,
	})
	if err != nil {
		return err
	}
	defer l.Close()
	damage := func(format string, a ...any) error {
		return &datadir.DamageError{File: dir, Reason: fmt.Sprintf(format, a...)}
	}
	if found.Base.Index > f.meta.RaftIndex {
		if err := f.adopt(t, filepath.Join(filepath.Dir(dir), datadir.SnapshotName), found.Base); err != nil {
			return err
		}
	}
	next := f.meta.RaftIndex + 1
	if found.First > next {
		if err := snapshot.NotOpened(f.passed); err != nil {
			return err
		}
		return damage("the newest good snapshot ends at index %d, but the log begins at %d: the entries in between were lost with the damaged snapshots",
			f.meta.RaftIndex, found.First)
	}
	if term, err := l.Term(f.meta.RaftIndex); err == nil && term != f.meta.RaftTerm {
		return damage("entry %d has term %d, but term %d in the snapshot", f.meta.RaftIndex, term, f.meta.RaftTerm)
	}
	if r := found.Repair; r.Bytes > 0 {
		f.notices = append(f.notices, fmt.Sprintf("the log ends in a torn write that was never acknowledged: %d bytes at offset %d of %s (%s)",
			r.Bytes, r.Offset, r.File, r.Reason))
	}
	f.term = max(f.term, f.meta.RaftTerm, found.HardState.Term)
	f.committed = max(found.HardState.Commit, f.meta.RaftIndex)
	last := f.committed
	if what == everyEntry || f.sole() {
		last = found.Last
	}
	total := int64(last + 1 - next)
	for next <= last {
		if err := t.tell(Progress{Stage: Replay, Done: total - int64(last+1-next), Total: total}); err != nil {
			return err
		}
		entries, err := l.Entries(next, last+1, replayBytes)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.GetIndex() > last {
				break
			}
			f.meta.RaftIndex, f.meta.RaftTerm = e.GetIndex(), e.GetTerm()
			f.term = max(f.term, e.GetTerm())
			if e.GetType() != 0 { // not EntryNormal: others may vote from here on
				if f.changed = true; what == onlyCommitted {
					last = max(f.committed, e.GetIndex())
				}
				continue
			}
			c := f.tree.Counters()
			if len(e.GetData()) > 0 && addTerm(c.EpochOffset, e.GetTerm()) < int64(c.Zxid.Epoch()) {
				return damage("entry %d of term %d comes after zxid %v", e.GetIndex(), e.GetTerm(), c.Zxid)
			}
			if len(e.GetData()) > 0 {
				if err := tree.Decode(e.GetData(), func(x *tree.Txn) {
					f.tree.Apply(e.GetTerm(), x)
					if e.GetIndex() > f.committed {
						f.beyond++
					}
				}); err != nil {
					return fmt.Errorf("%s: entry %d: %w", dir, e.GetIndex(), err)
				}
			}
		}
		next += uint64(len(entries))
	}
	f.meta.ClusterID, f.meta.LineageID, f.meta.Generation = f.identity.Cluster, f.identity.Lineage, f.identity.Generation
	return nil
}

// glimpse is the highest epoch that anything readable in a damaged folder mentions.
func glimpse(dir string) int64 {
	var epoch, offset int64
	var term uint64
	list, _ := snapshots(filepath.Join(dir, datadir.SnapshotName))
	for _, e := range list {
		if e.Meta.Major != 0 { // the header's checksum is right
			epoch = max(epoch, int64(e.Meta.EndZxid.Epoch()))
			offset = max(offset, e.Meta.EpochOffset)
			term = max(term, e.Meta.RaftTerm)
		}
	}
	// The log may be damaged; the records before the damage count.
	_, _ = wal.Scan(filepath.Join(dir, datadir.WALName), func(r *wal.Record) error {
		switch r.Type {
		case wal.TypeEntry, wal.TypeHardState, wal.TypeReset:
			term = max(term, r.Term)
		case wal.TypeSnapshot:
			epoch = max(epoch, int64(znode.Zxid(r.Zxid).Epoch()))
		}
		return nil
	})
	return max(epoch, addTerm(offset, term))
}

// addTerm is offset plus term as an epoch, bounded whatever a file claims.
func addTerm(offset int64, term uint64) int64 {
	const most = 1 << 40 // far above any epoch
	return min(max(offset, 0), most) + int64(min(term, most))
}
