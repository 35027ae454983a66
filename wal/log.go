package wal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	tidwall "github.com/tidwall/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// Meta says which node the log belongs to. It is written once and never changes.
type Meta struct {
	ClusterID [16]byte
	NodeID    uint64 // not 0
}

// HardState is raft's hard state.
type HardState struct{ Term, Vote, Commit uint64 }

// know raises the term to one that was seen in the log; this node has not voted in that term.
func (s *HardState) know(term uint64) {
	if term > s.Term {
		s.Term, s.Vote = term, 0
	}
}

// Mark says that a snapshot was made here: the last entry it holds, and that entry's last zxid.
type Mark struct{ Index, Term, Zxid uint64 }

// Options of Open.
type Options struct {
	// Meta is written into a new log; an existing log must have the same. It may be zero if the log must exist.
	Meta Meta
	// MustExist: the node is a member, so a missing or empty log is damage and not a first start.
	MustExist bool
	// MustReach is the index of the newest snapshot this node made itself: the log must have had that entry. A snapshot
	// from elsewhere may lie beyond the log (a crash before Reset) and does not count.
	MustReach uint64
	// ReadOnly: nothing in the folder is changed, a torn tail is reported and left, and every writing call returns an
	// error.
	ReadOnly bool
	// SegmentBytes: a segment is closed once it is at least this long. 0 is 4 MiB, at most 64 MiB.
	SegmentBytes int
	// RecentBytes: how many bytes of the newest entries are kept in memory. 0 is 8 MiB.
	RecentBytes int
	// OnSync, if set, is called by the appending goroutine with the duration of each fsync that a batch
	// asked for.
	OnSync func(took time.Duration)
}

const (
	defaultSegmentBytes = 4 << 20
	defaultRecentBytes  = 8 << 20
	// roomBytes of zeros are written ahead of the records whenever the records have used them up: an fsync that
	// changes neither the size of the file nor its blocks gives the file system's journal no work. Batches of more
	// than half of it get no room: for them the number of bytes written matters.
	roomBytes = 256 << 10
	// keptBufferBytes: buffers that a large batch made longer than this are not kept.
	keptBufferBytes = 1 << 20
	// mostHandedOn: a segment's buffer is handed on unless it is longer than this many full
	// segments.
	mostHandedOn = 2
)

// Recovered is what Open or Scan found.
type Recovered struct {
	New       bool // Open made the log
	Meta      Meta
	HardState HardState // Commit is the highest that any record proves
	Mark      Mark      // the latest one in the log; zero if none
	// Base is the entry before First: a compacted one, or that of an installed snapshot. The log is useless without
	// a snapshot of that entry or a later one; the caller must check that.
	Base     Position
	First    uint64 // index of the first entry; Last+1 if there is none
	Last     uint64
	Records  uint64 // records read
	Segments int
	Bytes    int64 // of the segments
	Repair   Repair
}

// Repair says what was cut off the end as a torn write (from Scan and with Options.ReadOnly: what Open would cut).
// The zero value means nothing was.
type Repair struct {
	File     string
	Offset   int64
	Bytes    int64
	Sequence uint64 // of the first record that was cut
	Reason   string
}

// Batch is what one raft append message asks to write.
type Batch struct {
	// Entries in raft's order, each following the one before or overriding the log from its index on. The log keeps
	// the pointers; nobody may change the entries afterwards.
	Entries []*raftpb.Entry
	// HardState after the entries; the zero value means unchanged. The commit index never falls.
	HardState HardState
	// Sync: somebody waits for this batch and relies on its being on disk.
	Sync bool
}

// Stats are counts since Open.
type Stats struct {
	Batches       uint64 // calls that wrote something
	Records       uint64
	Bytes         uint64
	LastRecords   int // in the last of these calls
	MaxRecords    int
	Syncs         uint64        // fsyncs, including those of full segments
	SyncTime      time.Duration // of the fsyncs that a batch asked for, like the next two fields
	LastSync      time.Duration
	MaxSync       time.Duration
	Segments      int
	Entries       int // in the log
	RecentEntries int // of these, the number in memory
	RecentBytes   int64
}

// Log is an open log. See the package comment for who may call what.
type Log struct {
	dir  string
	opts Options
	meta Meta
	salt uint32

	// The owner's fields. Only the owner changes what mu guards, so it may read that without the
	// lock.
	file     *tidwall.Log
	tail     *os.File // the last segment, opened for makeRoom
	room     int      // where its zeros end; up to size it holds records
	err      error    // why nothing can be written any more
	next     uint64   // sequence of the next record
	previous uint32   // checksum of the last one
	synced   uint64   // last sequence known to be fsynced
	state    HardState
	mark     Mark
	size     int    // of the last segment, including what is staged
	record   []byte // scratch
	batch    tidwall.Batch
	records  int // in batch
	bytes    int // in batch, including their frames
	staged   []staged

	mu struct {
		sync.Mutex
		table
		recent   recent
		stats    Stats
		obsolete []segment // dropped by CompactTo and not yet removed by Sweep
	}
}

// staged is a step in the batch that readers must learn of once it is written.
type staged struct {
	entry *raftpb.Entry // nil: a new segment
	place place
	first uint64 // the new segment's, as in segment
	chain uint32
	size  int // of the segment before
}

// Open opens or makes the log in dir. The package comment has the rules that distinguish a torn write from damage.
func Open(dir string, opts Options) (*Log, *Recovered, error) {
	if opts.SegmentBytes == 0 {
		opts.SegmentBytes = defaultSegmentBytes
	}
	if opts.RecentBytes == 0 {
		opts.RecentBytes = defaultRecentBytes
	}
	if opts.SegmentBytes < 0 || opts.SegmentBytes > maxSegmentOption || opts.RecentBytes < 0 {
		return nil, nil, fmt.Errorf("wal: %s: a size option is out of range", dir)
	}
	if !opts.ReadOnly {
		if err := prepare(dir); err != nil {
			return nil, nil, err
		}
	}
	s, err := scan(dir, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := s.check(opts); err != nil {
		return nil, nil, err
	}
	l := &Log{dir: dir, opts: opts, meta: s.meta, salt: s.salt, next: s.next, previous: s.previous,
		synced: s.next - 1, state: s.state, mark: s.mark}
	l.mu.recent.limit = int64(opts.RecentBytes)
	found := s.recovered()
	if opts.ReadOnly {
		l.mu.table, l.err = s.table, ErrReadOnly
		return l, found, nil
	}
	if err := s.repairFiles(int64(opts.SegmentBytes)); err != nil {
		return nil, nil, err
	}
	if len(s.segments) == 0 {
		s.addSegment(1, 0) // tidwall makes it
	}
	l.mu.table, l.size = s.table, int(s.tail().size)
	if err := l.openFile(); err != nil {
		return nil, nil, err
	}
	if s.blank() {
		if err := l.begin(opts.Meta); err != nil {
			_ = l.file.Close() // the error that counts is err
			return nil, nil, err
		}
		found.New, found.Meta, found.Segments, found.Bytes = true, l.meta, 1, l.Size()
	}
	return l, found, nil
}

// prepare makes the folder, and makes sure that the last segment will be read from the disk.
func prepare(dir string) error {
	fail := func(op string, err error) error { return &WriteError{op, dir, err} }
	if _, err := os.Stat(dir); err != nil {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return fail("make the folder", err)
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return fail("fsync the parent folder", err)
		}
	}
	files, err := listSegments(dir)
	if err != nil || len(files) == 0 {
		return err
	}
	if err := settle(segmentPath(dir, files[len(files)-1])); err != nil {
		return fail("fsync the last segment", err)
	}
	return nil
}

// check compares what was found with what the caller knows.
func (s *scanner) check(opts Options) error {
	if s.blank() {
		if opts.MustExist || opts.MustReach > 0 || opts.ReadOnly {
			return s.missing()
		}
		if opts.Meta.NodeID == 0 {
			return fmt.Errorf("wal: %s: a new log needs a node id", s.dir)
		}
		return nil
	}
	if opts.Meta != (Meta{}) && opts.Meta != s.meta {
		return fmt.Errorf("wal: %s: found cluster %x node %x: %w", s.dir, s.meta.ClusterID, s.meta.NodeID, ErrForeign)
	}
	if s.last() < opts.MustReach {
		return &DamageError{segmentPath(s.dir, s.tail().first), s.tail().size,
			fmt.Sprintf("the log ends with entry %d, but a snapshot made here holds entry %d", s.last(), opts.MustReach)}
	}
	return nil
}

// repairFiles makes the folder match the log that the scan found: it cuts the torn tail and the room after it, finishes
// a compaction, and gives a full segment the successor that a crash prevented.
func (s *scanner) repairFiles(segmentBytes int64) error {
	if s.repair != (Repair{}) || s.room > 0 {
		if err := cutFile(segmentPath(s.dir, s.tail().first), s.tail().size); err != nil {
			return &WriteError{"truncate the last segment", s.dir, err}
		}
	}
	for _, first := range s.files {
		if first < s.head {
			if err := os.Remove(segmentPath(s.dir, first)); err != nil {
				return &WriteError{"remove a compacted segment", s.dir, err}
			}
		}
	}
	if len(s.segments) > 0 && s.tail().size >= segmentBytes {
		if err := os.WriteFile(segmentPath(s.dir, s.next), nil, fileMode); err != nil {
			return &WriteError{"create a segment", s.dir, err}
		}
		s.addSegment(s.next, s.previous)
	}
	return nil
}

// openFile opens the folder with tidwall and checks that tidwall sees the same log.
func (l *Log) openFile() error {
	file, err := tidwall.Open(l.dir, &tidwall.Options{NoSync: true, SegmentSize: l.opts.SegmentBytes,
		SegmentCacheSize: 1, AllowEmpty: true, DirPerms: dirMode, FilePerms: fileMode})
	if err != nil {
		return &WriteError{"open the segments", l.dir, err}
	}
	last, err := file.LastIndex()
	if err == nil && last != l.next-1 {
		err = fmt.Errorf("the last record is %d instead of %d", last, l.next-1)
	}
	if err == nil {
		err = syncDir(l.dir)
	}
	if err == nil {
		l.room = l.size
		l.tail, err = openTail(l.dir, l.mu.tail().first)
	}
	if err != nil {
		_ = file.Close() // the error that counts is err
		return &WriteError{"open the segments", l.dir, err}
	}
	l.file = file
	return nil
}

// openTail opens the last segment a second time, to write its room.
func openTail(dir string, first uint64) (*os.File, error) {
	return os.OpenFile(segmentPath(dir, first), os.O_WRONLY, fileMode)
}

// makeRoom writes zeros after what was just written, if that went beyond the earlier zeros; they are fsynced with
// it. A log without room works, only slower: if the disk is too full for the zeros, the error comes when records do
// not fit. The first record gets no room: so a longer file of nothing but zeros must be a log that has lost its
// records.
func (l *Log) makeRoom() {
	if l.size <= l.room || l.synced == 0 {
		return
	}
	l.room = l.size
	if l.bytes > roomBytes/2 {
		return
	}
	end := min(l.size+roomBytes, l.opts.SegmentBytes) // a full segment has no room left
	if n, err := l.tail.WriteAt(zeros[:end-l.size], int64(l.size)); err == nil {
		l.room += n
	} else {
		l.room = l.opts.SegmentBytes
	}
}

var zeros [roomBytes]byte

// closeFile truncates the last segment after its last record, fsyncs and closes it.
func (l *Log) closeFile() error {
	return errors.Join(l.tail.Truncate(int64(l.size)), l.file.Close(), l.tail.Close())
}

// begin writes record 1.
func (l *Log) begin(meta Meta) error {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	l.meta, l.salt = meta, binary.LittleEndian.Uint32(salt[:])
	l.stage(&Record{Type: TypeMeta, Meta: meta, Head: 1}, nil)
	return l.write(true)
}

// Append writes the batches, in order, as one write, and with one fsync if any of them asks for it. When it returns nil
// and a Sync was asked for, everything that was ever appended is on disk.
//
// A hole, an entry that overrides a committed one, and a commit index beyond the last entry are bugs of the caller and
// panic. ErrTooLarge leaves the log as it was; any other error is final.
func (l *Log) Append(batches ...Batch) error {
	if l.err != nil {
		return l.err
	}
	for i := range batches {
		for _, e := range batches[i].Entries {
			if len(e.GetData()) > MaxEntryBytes {
				return fmt.Errorf("wal: entry %d of %d bytes: %w", e.GetIndex(), len(e.GetData()), ErrTooLarge)
			}
		}
	}
	sync := false
	// last and term describe the log with the batches; the table changes only once all is written.
	last, term := l.mu.last(), l.mu.lastTerm()
	before := l.state
	r := Record{Type: TypeEntry}
	for i := range batches {
		b := &batches[i]
		sync = sync || b.Sync
		commit := max(l.state.Commit, b.HardState.Commit)
		for _, e := range b.Entries {
			r.Index, r.Term, r.EntryType, r.Data = e.GetIndex(), e.GetTerm(), e.GetType(), e.GetData()
			if r.Index != last+1 {
				term = l.mustOverride(r.Index, last)
			}
			if r.Term < term {
				panic(fmt.Sprintf("wal: entry %d of term %d follows one of term %d", r.Index, r.Term, term))
			}
			r.Commit = min(commit, r.Index-1)
			l.stage(&r, e)
			last, term = r.Index, r.Term
		}
		if b.HardState != (HardState{}) {
			if commit > last {
				panic(fmt.Sprintf("wal: entry %d is committed, the last one is %d", commit, last))
			}
			l.state = HardState{b.HardState.Term, b.HardState.Vote, commit}
		}
	}
	if l.state != before {
		l.stageState()
	}
	return l.write(sync)
}

// mustOverride panics unless an entry with this index may override an entry of the log, which with all that is
// staged ends at last. It returns the term of the entry before index.
func (l *Log) mustOverride(index, last uint64) uint64 {
	if index <= l.mu.base.Index || index > last {
		panic(fmt.Sprintf("wal: entry %d does not follow entries %d to %d", index, l.mu.first(), last))
	}
	if index <= l.state.Commit {
		panic(fmt.Sprintf("wal: entry %d overrides a committed one, %d is committed", index, l.state.Commit))
	}
	for _, v := range slices.Backward(l.staged) {
		if e := v.entry; e != nil && e.GetIndex() == index-1 {
			return e.GetTerm()
		}
	}
	return l.mu.term(index - 1)
}

// Mark records that a snapshot was made here. It is not fsynced; the snapshot's file is
// authoritative.
func (l *Log) Mark(m Mark) error {
	if l.err != nil {
		return l.err
	}
	if m.Index > l.mu.last() {
		panic(fmt.Sprintf("wal: a snapshot of entry %d, the last one is %d", m.Index, l.mu.last()))
	}
	l.mark, l.state.Commit = m, max(l.state.Commit, m.Index)
	l.stage(&Record{Type: TypeSnapshot, Index: m.Index, Term: m.Term, Zxid: m.Zxid}, nil)
	return l.write(false)
}

// Reset drops every entry: a snapshot from elsewhere, which holds the entry at p and is durable already, is being
// installed. The hard state is written with the reset (the zero value means unchanged except for the commit index), and
// fsynced. The old segments go with the next CompactTo.
func (l *Log) Reset(p Position, state HardState) error {
	if l.err != nil {
		return l.err
	}
	if p.Index < l.state.Commit {
		panic(fmt.Sprintf("wal: reset to entry %d, but %d was committed", p.Index, l.state.Commit))
	}
	if state != (HardState{}) {
		l.state = state
	}
	l.state.Commit = p.Index
	l.state.know(p.Term)
	l.stage(&Record{Type: TypeReset, Index: p.Index, Term: p.Term}, nil)
	l.stageState()
	if err := l.write(true); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.reset(p)
	l.mu.recent.trim(0)
	return nil
}

// CompactTo allows the log to drop the entries before index; it keeps the whole segment that holds index. It does
// nothing unless a whole segment can go. Only entries that a snapshot holds may be dropped. Sweep removes the files.
func (l *Log) CompactTo(index uint64) error {
	if l.err != nil {
		return l.err
	}
	if index > l.state.Commit+1 {
		panic(fmt.Sprintf("wal: compact to entry %d, but only %d is committed", index, l.state.Commit))
	}
	keep := l.mu.segmentOf(max(index, l.mu.first()))
	if keep <= 0 {
		return nil
	}
	head := l.mu.segments[keep]
	base := Position{Index: head.firstIndex - 1}
	base.Term = l.mu.term(base.Index)
	if l.mark != (Mark{}) {
		l.stage(&Record{Type: TypeSnapshot, Index: l.mark.Index, Term: l.mark.Term, Zxid: l.mark.Zxid}, nil)
	}
	l.stageState()
	// The M comes last: it must not be on disk without the records that replace the dropped ones.
	l.stage(&Record{Type: TypeMeta, Meta: l.meta, Head: head.first, Chain: head.chain,
		Index: base.Index, Term: base.Term}, nil)
	if err := l.write(true); err != nil {
		return err
	}

	l.mu.Lock()
	l.mu.obsolete = append(l.mu.obsolete, l.mu.segments[:keep]...)
	l.mu.rebase(base)
	l.mu.dropSegments(keep)
	l.mu.recent.trim(len(l.mu.places))
	l.mu.Unlock()
	// Reopen, so that tidwall does not remember removed segments for ever. tidwall never reads what it keeps of
	// them: its Open, like its writes, looks at the last segment only.
	if err := l.closeFile(); err != nil {
		return l.fail("close the segments", err)
	}
	before := bufferOf(l.file, 0)
	if err := l.openFile(); err != nil {
		l.err = err
		return err
	}
	handOn(before, bufferOf(l.file, 0), mostHandedOn*l.opts.SegmentBytes)
	return nil
}

// sweepRate is how many bytes Sweep frees per second at most: freeing space keeps the disk busy, and fsyncs wait for
// that.
const sweepRate = 200 << 20

// Sweep removes the segments that CompactTo has dropped. It takes its time, and ends with ctx; what it leaves is
// removed when the log is next opened. Any goroutine may call it, one at a time, also while the log is written and
// read, but not during CompactTo or Close. It returns the context's error or a *WriteError; the log stays usable after
// either.
func (l *Log) Sweep(ctx context.Context) error {
	for {
		l.mu.Lock()
		obsolete := l.mu.obsolete
		l.mu.Unlock()
		if len(obsolete) == 0 {
			return nil
		}
		// The oldest first, so that the segments that a crash leaves have no gap before the head of
		// the log.
		if err := os.Remove(segmentPath(l.dir, obsolete[0].first)); err != nil {
			return &WriteError{"remove a compacted segment", l.dir, err}
		}
		l.mu.Lock()
		l.mu.obsolete = l.mu.obsolete[1:]
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(obsolete[0].size) * time.Second / sweepRate):
		}
	}
}

// Close fsyncs and closes the log. Readers may go on. After a final error it does not touch the
// file.
func (l *Log) Close() error {
	switch {
	case errors.Is(l.err, ErrReadOnly), errors.Is(l.err, ErrClosed):
		return nil
	case l.err != nil:
		return l.err
	}
	if err := l.closeFile(); err != nil {
		return l.fail("close", err)
	}
	l.err = ErrClosed
	return nil
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.mu.stats
	s.Segments, s.Entries = len(l.mu.segments), len(l.mu.places)
	s.RecentEntries, s.RecentBytes = len(l.mu.recent.entries), l.mu.recent.bytes
	return s
}

// Size is the length of all segments in bytes.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.bytes()
}

func (l *Log) stageState() {
	l.stage(&Record{Type: TypeHardState, Term: l.state.Term, Vote: l.state.Vote, Commit: l.state.Commit}, nil)
}

// stage puts a record into the batch; e is its entry, or nil. An error stays in l.err, and write returns it.
func (l *Log) stage(r *Record, e *raftpb.Entry) {
	if l.err != nil {
		return
	}
	r.Salt, r.Previous, r.Sequence, r.Synced = l.salt, l.previous, l.next, l.synced
	l.record = appendRecord(l.record[:0], r)
	l.batch.Write(l.next, l.record)
	if e != nil {
		l.staged = append(l.staged, staged{entry: e, place: place{uint32(l.size), uint32(len(r.Data))}})
	}
	l.next, l.previous = l.next+1, r.Checksum
	n := frameBytes(len(l.record))
	l.size, l.bytes, l.records = l.size+n, l.bytes+n, l.records+1
	if l.size >= l.opts.SegmentBytes {
		l.cross()
	}
}

// cross writes the batch, whose last record makes the segment full, and follows tidwall into the next segment. tidwall
// has then fsynced the old segment and made the new one; cross makes the name of the new one durable before anything
// more is written, so that no later segment can survive a crash without it.
func (l *Log) cross() {
	if err := l.file.WriteBatch(&l.batch); err != nil {
		_ = l.fail("write", err) // the log keeps the error
		return
	}
	tail, err := openTail(l.dir, l.next)
	if err != nil {
		_ = l.fail("find the new segment", err) // the log keeps the error
		return
	}
	_ = l.tail.Close() // its room is full of records that tidwall has fsynced
	l.tail, l.room = tail, 0
	if err := syncDir(l.dir); err != nil {
		_ = l.fail("fsync the folder", err) // the log keeps the error
		return
	}
	handOn(bufferOf(l.file, 1), bufferOf(l.file, 0), mostHandedOn*l.opts.SegmentBytes)
	if err := l.file.ClearCache(); err != nil { // of the old segment: the log never reads through tidwall
		_ = l.fail("clear the cache", err)
		return
	}
	l.staged = append(l.staged, staged{first: l.next, chain: l.previous, size: l.size})
	l.synced, l.size = l.next-1, 0
}

// write writes what is staged, fsyncs if asked and needed, and then makes it visible to readers.
func (l *Log) write(sync bool) error {
	if l.err != nil {
		return l.err
	}
	if err := l.file.WriteBatch(&l.batch); err != nil {
		return l.fail("write", err)
	}
	var took time.Duration
	if sync = sync && l.synced < l.next-1; sync {
		l.makeRoom()
		start := time.Now()
		if err := l.file.Sync(); err != nil {
			return l.fail("fsync", err)
		}
		took = time.Since(start)
		if l.opts.OnSync != nil {
			l.opts.OnSync(took)
		}
		l.synced = l.next - 1
	}
	l.publish(sync, took)
	return nil
}

func (l *Log) publish(synced bool, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.staged {
		s := &l.staged[i]
		if s.entry == nil {
			l.mu.tail().size = int64(s.size)
			l.mu.addSegment(s.first, s.chain)
			l.mu.stats.Syncs++
			continue
		}
		l.mu.put(s.entry.GetIndex(), s.entry.GetTerm(), s.place)
		l.mu.recent.put(s.entry)
	}
	l.mu.tail().size = int64(l.size)
	st := &l.mu.stats
	if l.records > 0 {
		st.Batches++
		st.Records += uint64(l.records)
		st.Bytes += uint64(l.bytes)
		st.LastRecords, st.MaxRecords = l.records, max(st.MaxRecords, l.records)
	}
	if synced {
		st.Syncs++
		st.SyncTime += took
		st.LastSync, st.MaxSync = took, max(st.MaxSync, took)
	}
	if l.bytes > keptBufferBytes {
		l.batch, l.record, l.staged = tidwall.Batch{}, nil, nil
	}
	clear(l.staged)
	l.staged, l.records, l.bytes = l.staged[:0], 0, 0
}

// fail makes err the result of every later writing call.
func (l *Log) fail(op string, err error) error {
	l.err = &WriteError{op, l.dir, err}
	return l.err
}
