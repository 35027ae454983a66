package zkimport

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"coord/tree"
	"coord/tree/znode"
)

// Options say what Read reads.
type Options struct {
	Dir    string // ZooKeeper's dataDir, or the version-2 in it
	LogDir string // dataLogDir; "": Dir
	// Progress is called now and then with the number of bytes read; its error ends the reading.
	Progress func(done, total int64) error
}

// Import is the contents of ZooKeeper's folder.
type Import struct {
	Tree *tree.Tree // with the sessions and their ephemerals; its last zxid is ZooKeeper's
	// Renamed are the sessions whose id in the tree differs from ZooKeeper's: id in the tree → ZooKeeper's.
	Renamed map[int64]int64

	Snapshot     string // file name; "": there is none, and the log begins with the first txn
	SnapshotZxid znode.Zxid
	Logs         []string // file names, oldest first
	Txns         int      // read after the snapshot
	Found        int      // how many of their changes the snapshot had already
	Digest       string   // the result of the comparison with ZooKeeper's own digest

	Epoch  int64 // the last one that ZooKeeper mentions
	Member bool  // of an ensemble: other members may know more
	TimeMS int64 // of the last change

	Notices []string // what was passed over or cut, and what the operator should know
}

// Read reads a folder. Nothing may write to it meanwhile; Read returns an error if it notices that
// something does. The errors are this package's types, or those of the file system.
func Read(ctx context.Context, o Options) (*Import, error) {
	if err := running(o.Dir); err != nil {
		return nil, err
	}
	f, err := list(o.Dir, o.LogDir)
	if err != nil {
		return nil, err
	}
	r := &reader{folder: f, ticker: ticker{ctx: ctx, progress: o.Progress}}
	if err := r.snapshot(); err != nil {
		return nil, err
	}
	if err := r.replay(); err != nil {
		return nil, err
	}
	if err := f.same(); err != nil {
		return nil, err
	}
	return r.finish()
}

// reader is one call of Read.
type reader struct {
	*folder
	ticker
	out   Import
	state *state

	begin  uint64       // the first zxid that was replayed
	end    uint64       // the last zxid in the logs
	cut    *DamageError // the end of the previous log, if it was cut: see tear
	fuzzy  uint64       // below this zxid digests cannot be compared
	sum    *digest
	equal  uint64 // the last zxid at which the digest was equal
	differ uint64 // the first zxid after that at which it was not
}

func (r *reader) notice(format string, a ...any) {
	r.out.Notices = append(r.out.Notices, fmt.Sprintf(format, a...))
}

// snapshot reads the newest good snapshot.
func (r *reader) snapshot() error {
	var first error
	for i := range r.snapshots {
		f := &r.snapshots[i]
		r.total = f.size
		for _, l := range needed(r.logs, f.zxid) {
			r.total += l.size
		}
		r.done, r.next = 0, 0
		s, sum, err := load(&r.ticker, f)
		if damage, ok := errors.AsType[*DamageError](err); ok {
			r.notice("skipped: %v", damage)
			if first == nil {
				first = err
			}
			continue
		} else if err != nil {
			return err
		}
		r.state, r.sum = s, sum
		r.out.Snapshot, r.out.SnapshotZxid = filepath.Base(f.path), znode.Zxid(f.zxid)
		r.fuzzy = s.seen
		if sum != nil {
			r.fuzzy = max(r.fuzzy, sum.zxid)
			if sum.zxid == f.zxid {
				r.compare(sum)
			}
		}
		return nil
	}
	switch {
	case first != nil:
		return fmt.Errorf("no good snapshot in %s: %w", r.dir, first)
	case len(r.logs) == 0:
		return &ForeignError{r.dir, "it has no snapshot and no log"}
	}
	r.state = fresh()
	r.notice("there is no snapshot: the log is read from its first txn")
	return nil
}

// replay reads the log after the snapshot.
func (r *reader) replay() error {
	s := r.state
	base := s.last
	logs := needed(r.logs, base)
	if len(logs) == 0 {
		return &DamageError{r.logDir, -1, "holds no log: nothing was ever written, or the logs are elsewhere (dataLogDir in zoo.cfg, --log-dir here)"}
	}
	for i := range logs {
		if err := r.log(&logs[i], i == len(logs)-1); err != nil {
			return err
		}
	}
	missing := func(format string, a ...any) error {
		return &DamageError{r.logDir, -1, fmt.Sprintf("the log ends with zxid %#x, but ", s.last) + fmt.Sprintf(format, a...) + ": a log is missing"}
	}
	switch {
	// A member of a 3.4 ensemble has no snapshot at first. The root's first child, which is counted
	// as such, shows that its log begins with the first txn.
	case r.out.Snapshot == "" && r.begin>>32 > 0 && !s.began:
		return &DamageError{r.logDir, -1, fmt.Sprintf("there is no snapshot, and the log, which begins with zxid %#x, does not have the first znode: a log or a snapshot is missing", r.begin)}
	case s.seen > s.last:
		return missing("%s shows a change of zxid %#x", r.out.Snapshot, s.seen)
	case r.sum != nil && r.sum.zxid > s.last:
		return missing("%s was finished at zxid %#x", r.out.Snapshot, r.sum.zxid)
	case r.snapshots != nil && r.snapshots[0].zxid > s.last && uint32(r.snapshots[0].zxid) != 0:
		return missing("there is a damaged snapshot of zxid %#x", r.snapshots[0].zxid)
	case r.end < base && uint32(base) != 0:
		r.notice("the log ends with zxid %#x, before the snapshot of zxid %#x: either the snapshot came from another member and nothing was written since, or the log is elsewhere (dataLogDir in zoo.cfg, --log-dir here)",
			r.end, base)
	}
	return nil
}

// log replays one log; newest says that it is the last one.
func (r *reader) log(f *file, newest bool) error {
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	r.out.Logs = append(r.out.Logs, filepath.Base(f.path))
	return r.records(newLogReader(&r.ticker, f, in), newest)
}

func (r *reader) records(l *logReader, newest bool) error {
	if blank, err := l.header(); blank {
		r.notice("%s is empty", l.path)
		return nil
	} else if err != nil {
		return cmp.Or(r.err, err)
	}
	for {
		at := l.off
		b, err := l.next()
		if r.err != nil {
			return r.err
		}
		if damage, ok := errors.AsType[*DamageError](err); ok {
			return r.tear(l, damage, newest)
		} else if errors.Is(err, errEnd) {
			return nil
		} else if err != nil {
			return err
		}
		if err := r.txn(b, l, at); err != nil {
			return err
		}
	}
}

// txn applies one record of a log.
func (r *reader) txn(b []byte, l *logReader, at int64) error {
	s := r.state
	zxid := binary.BigEndian.Uint64(b[12:])
	r.end = max(r.end, zxid)
	if zxid <= s.last { // the snapshot has it, or the log has it twice
		s.newest(zxid, int64(binary.BigEndian.Uint64(b[20:])))
		return nil
	}
	// A leader begins with counter 1, and so does the very first txn.
	first := uint32(zxid) == 1 && zxid>>32 > s.last>>32
	r.begin = cmp.Or(r.begin, zxid)
	switch cut := r.cut; {
	case zxid == s.last+1:
	case cut != nil:
		return cut
	case !first:
		return &DamageError{l.path, at, fmt.Sprintf("zxid %#x comes after %#x: a log or a snapshot is missing", zxid, s.last)}
	}
	r.cut = nil
	sum, err := s.apply(b)
	if err != nil {
		return &DamageError{l.path, at, err.Error()}
	}
	r.out.Txns++
	r.compare(sum)
	if r.sum != nil && r.sum.zxid == zxid {
		r.compare(r.sum)
	}
	return nil
}

// tear decides about a record that cannot be read. The end of a log may be a write that was never completed.
// If another log follows, its first txn must have the zxid of the record that was cut; otherwise it is damage.
func (r *reader) tear(l *logReader, damage *DamageError, newest bool) error {
	length, torn, err := l.torn(max(r.end, r.state.last))
	switch {
	case err != nil:
		return err
	case !torn:
		damage.Reason += ", but complete ones follow it"
		return damage
	case !newest && r.end >= r.state.last:
		r.cut = damage
	}
	r.notice("%s ends in an unfinished write: %d bytes at offset %d are skipped (%s)", l.path, length, l.off, damage.Reason)
	return nil
}

// compare compares the state's digest with one that ZooKeeper has recorded.
func (r *reader) compare(sum *digest) {
	if sum == nil || sum.version != digestVersion || sum.zxid < r.fuzzy {
		return
	}
	for _, have := range r.state.sums {
		if have == sum.sum {
			r.equal, r.differ = sum.zxid, 0
			return
		}
	}
	if r.differ == 0 {
		r.differ = sum.zxid
	}
}

// finish makes the tree.
func (r *reader) finish() (*Import, error) {
	s, out := r.state, &r.out
	s.system()
	s.quotas()
	built, err := s.build()
	var unfit *UnfitError
	switch {
	case errors.As(err, &unfit):
		return nil, err
	case err != nil:
		return nil, &DamageError{r.dir, -1, err.Error()}
	}
	out.Tree, out.Renamed, out.Found = built.tree, built.renamed, s.found
	out.TimeMS = s.at.timeMS
	out.Member, out.Epoch = r.member, max(r.epoch, int64(znode.Zxid(s.last).Epoch()))
	switch {
	case r.differ != 0:
		out.Digest = fmt.Sprintf("differs from zxid %#x on", r.differ)
		r.notice("ZooKeeper's own digest of the data differs from what was read, from zxid %#x on: compare with what its clients see before you rely on the import", r.differ)
	case r.equal != 0:
		out.Digest = fmt.Sprintf("equal to ZooKeeper's own at zxid %#x", r.equal)
	default:
		out.Digest = "ZooKeeper recorded none"
	}
	if len(built.schemes) > 0 {
		r.notice("there are ACLs of schemes that coord cannot authenticate (%s): they are kept, and only the operator passes them", strings.Join(built.schemes, ", "))
	}
	if built.large > 0 {
		r.notice("%d znodes have more than 1 MiB: clients need a server with a larger --max-frame", built.large)
	}
	if built.hard > 0 {
		r.notice("%d quotas have hard limits: coord enforces them, ZooKeeper does only with enforceQuota=true", built.hard)
	}
	return out, nil
}

// ticker counts what is read, and says when to stop.
type ticker struct {
	ctx         context.Context
	progress    func(done, total int64) error
	done, total int64
	next        int64
	err         error // why it stopped
}

// tickBytes is how many bytes are read between two reports.
const tickBytes = 1 << 20

func (t *ticker) watch(r io.Reader) io.Reader { return &watched{r, t} }

type watched struct {
	r io.Reader
	t *ticker
}

func (w *watched) Read(b []byte) (int, error) {
	t := w.t
	if t.done >= t.next {
		t.next = t.done + tickBytes
		t.err = context.Cause(t.ctx)
		if t.err == nil && t.progress != nil {
			t.err = t.progress(t.done, t.total)
		}
	}
	if t.err != nil {
		return 0, t.err
	}
	n, err := w.r.Read(b)
	t.done += int64(n)
	return n, err
}
