package wal

import (
	"bytes"
	"fmt"
)

// Scan reads the log in dir without changing anything and checks all that Open checks. Unless visit is nil, it calls
// visit for every intact record in the order written, including overridden entries and those in segments that an
// unfinished compaction left. The visitor must not keep the record or its data. A torn tail is reported, not cut. Scan
// is for offline tools; the log must not be written meanwhile.
func Scan(dir string, visit func(*Record) error) (*Recovered, error) {
	r, err := scan(dir, visit)
	if err != nil {
		return nil, err
	}
	if r.blank() {
		return nil, r.missing()
	}
	return r.recovered(), nil
}

// scanner walks the segments and replays their records. When it is done, its table is that of the
// log.
type scanner struct {
	table
	dir   string
	files []uint64 // every segment found, by first sequence
	visit func(*Record) error

	// The walk. A run is a sequence of segments without a gap. What was found before a gap is forgotten; at the end it
	// must turn out that the last M does not need it.
	run      uint64       // sequence with which the run begins
	gap      *DamageError // why the run does not begin with record 1; nil if it does
	next     uint64       // the sequence expected next
	previous uint32       // checksum of the record before next
	synced   uint64       // highest sequence that any record says was synced
	salt     uint32       // of the log
	salted   bool         // whether salt is known: a record was read
	records  uint64       // in this run

	// What the records say.
	state HardState // its commit is the highest that any record proves
	mark  Mark
	meta  Meta
	metas int    // M records in this run
	head  uint64 // of the last M
	chain uint32 // of the last M
	based bool   // whether base is known: from an R, or from an M whose head is in this run; until then it is a guess

	repair Repair
	room   int64 // bytes of zeros after the last record that belong to no record
}

func scan(dir string, visit func(*Record) error) (*scanner, error) {
	files, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	s := &scanner{dir: dir, files: files, visit: visit, run: 1, next: 1}
	var buf []byte
	for i, first := range files {
		if err := s.enter(i); err != nil {
			return nil, err
		}
		if buf, err = readSegment(segmentPath(dir, first), buf); err != nil {
			return nil, err
		}
		if err := s.walk(buf, i == len(files)-1); err != nil {
			return nil, err
		}
	}
	if s.blank() {
		return s, nil
	}
	return s, s.finish()
}

// enter checks the name of the i-th segment against what came before.
func (s *scanner) enter(i int) error {
	first := s.files[i]
	switch {
	case first < s.next:
		return &DamageError{File: segmentPath(s.dir, first),
			Reason: fmt.Sprintf("the previous segment already reaches sequence %d", s.next-1)}
	case first > s.next && i == 0:
		s.gap = &DamageError{File: segmentPath(s.dir, 1),
			Reason: fmt.Sprintf("the file is missing, like all segments before sequence %d", first)}
	case first > s.next:
		before := s.tail()
		s.gap = &DamageError{File: segmentPath(s.dir, before.first), Offset: before.size,
			Reason: fmt.Sprintf("it ends with sequence %d, the next segment begins with %d", s.next-1, first)}
	}
	if first > s.next {
		s.table, s.state, s.mark, s.metas, s.based = table{}, HardState{}, Mark{}, 0, false
		s.run, s.next, s.previous, s.records = first, first, 0, 0
	}
	s.addSegment(first, s.previous)
	return nil
}

// walk reads one segment's records.
func (s *scanner) walk(buf []byte, last bool) error {
	tail := s.tail()
	var r Record
	r.File = segmentPath(s.dir, tail.first)
	for at := 0; at < len(buf); {
		r.Offset = int64(at)
		n, f := readFrame(buf[at:], &r)
		if f != nil {
			if f.newer {
				return fmt.Errorf("wal: %s at offset %d: %s: %w", r.File, at, f.reason, ErrNewerFormat)
			}
			if f.meant {
				return &DamageError{r.File, r.Offset, f.reason}
			}
			return s.judge(buf, at, last, f)
		}
		if why := s.misplaced(&r); why != "" {
			return &DamageError{r.File, r.Offset, why}
		}
		if s.records == 0 {
			tail.chain = r.Previous
		}
		s.next, s.previous = s.next+1, r.Checksum
		s.salt, s.salted = r.Salt, true
		s.synced = max(s.synced, r.Synced)
		s.records++
		if why := s.replay(&r, place{uint32(at), uint32(len(r.Data))}); why != "" {
			return &DamageError{r.File, r.Offset, why}
		}
		if s.visit != nil {
			if err := s.visit(&r); err != nil {
				return err
			}
		}
		at += n
		tail.size = int64(at)
	}
	return nil
}

// misplaced says why an intact record cannot stand here; "" if it can.
func (s *scanner) misplaced(r *Record) string {
	switch {
	case r.Sequence != s.next:
		return fmt.Sprintf("found sequence %d, expected %d", r.Sequence, s.next)
	case r.Synced >= r.Sequence:
		return "the record says that it was synced before it was written"
	case s.salted && r.Salt != s.salt:
		return "the record belongs to another log"
	case r.Previous != s.previous && (s.records > 0 || s.next == 1):
		return "the record is not chained to the one before it"
	}
	return ""
}

// judge decides what bytes that are no record are: room for records, a torn tail to be cut, or damage.
func (s *scanner) judge(buf []byte, at int, last bool, f *flaw) error {
	tail := s.tail()
	damage := func(proof string) error {
		return &DamageError{segmentPath(s.dir, tail.first), int64(at), f.reason + "; " + proof}
	}
	if !last {
		return damage("the segment was complete, since there is a later one")
	}
	if s.next > 1 && len(bytes.Trim(buf[at:], "\x00")) == 0 {
		s.room = int64(len(buf) - at)
		return nil
	}
	if s.next == 1 && len(buf) > frameBytes(envelopeBytes+metaBytes) {
		return damage("the first record was written alone, but more follows")
	}
	synced, intact := s.synced, -1
	for p := at + 1; p < len(buf); {
		n, said := s.laterRecord(buf[p:])
		if n == 0 {
			p++
			continue
		}
		if intact < 0 {
			intact = p
		}
		synced = max(synced, said)
		p += n
	}
	switch {
	case synced >= s.next:
		return damage(fmt.Sprintf("another record says that sequence %d was synced", synced))
	case intact >= 0 && !lostSector(buf[:intact], at):
		return damage(fmt.Sprintf("an intact record follows at offset %d", intact))
	}
	s.repair = Repair{File: segmentPath(s.dir, tail.first), Offset: int64(at), Bytes: int64(len(buf) - at),
		Sequence: s.next, Reason: f.reason}
	return nil
}

// laterRecord recognizes, at the start of b, a record of this log whose sequence is the expected one or later. It
// returns the length of the frame, or 0, and the sequence that the record says was synced. The salt keeps data that
// only look like a record from being taken for one, and saves computing most of their checksums.
func (s *scanner) laterRecord(b []byte) (n int, synced uint64) {
	body, n, f := cutFrame(b)
	if f != nil || !Type(body[0]).known() {
		return 0, 0
	}
	if s.salted && recordSalt(body) != s.salt {
		return 0, 0
	}
	var r Record
	if readRecord(body, &r) != nil || r.Sequence < s.next || r.Synced >= r.Sequence {
		return 0, 0
	}
	return n, r.Synced
}

// lostSector reports whether buf, from at on, has a disk sector that was never written: a whole sector, all zero,
// except that the first sector may begin with bytes that were on disk before.
func lostSector(buf []byte, at int) bool {
	const sector = 512
	for at < len(buf) {
		end := at - at%sector + sector
		if end > len(buf) {
			return false
		}
		if len(bytes.Trim(buf[at:end], "\x00")) == 0 {
			return true
		}
		at = end
	}
	return false
}

// replay applies what an intact record says, or returns why the record is impossible.
func (s *scanner) replay(r *Record, p place) string {
	known := s.based || len(s.places) > 0 // whether last() is known
	switch r.Type {
	case TypeEntry:
		if !s.based && (!known || r.Index < s.first()) && r.Index > 0 {
			s.reset(Position{Index: r.Index - 1})
		}
		if why := s.admits(r.Index, r.Term, s.state.Commit); why != "" {
			return why
		}
		if r.Commit >= r.Index {
			return fmt.Sprintf("entry %d says that %d is committed", r.Index, r.Commit)
		}
		s.put(r.Index, r.Term, p)
		s.state.Commit = max(s.state.Commit, r.Commit)
	case TypeHardState, TypeSnapshot:
		commit := r.Commit
		if r.Type == TypeSnapshot {
			commit = r.Index
			s.mark = Mark{r.Index, r.Term, r.Zxid}
		} else {
			s.state.Term, s.state.Vote = r.Term, r.Vote
		}
		if known && commit > s.last() {
			return fmt.Sprintf("entry %d is recorded as committed, but the last entry is %d", commit, s.last())
		}
		s.state.Commit = max(s.state.Commit, commit)
	case TypeReset:
		if r.Index < s.state.Commit {
			return fmt.Sprintf("a reset to entry %d, but %d was committed", r.Index, s.state.Commit)
		}
		s.reset(Position{r.Index, r.Term})
		s.based, s.state.Commit = true, r.Index
	case TypeMeta:
		if s.meta != (Meta{}) && s.meta != r.Meta {
			return "the meta record belongs to another cluster or node"
		}
		switch {
		case !s.based && r.Head < s.run:
			// An older M, whose first segments are gone: a later M must say where the log begins
			// now.
		case !known:
			s.reset(Position{r.Index, r.Term})
		case r.Index < s.base.Index || r.Index > s.last():
			return fmt.Sprintf("the entries begin after %d, but those found are %d to %d", r.Index, s.first(), s.last())
		case s.term(r.Index) != r.Term && (s.based || r.Index > s.base.Index):
			return fmt.Sprintf("entry %d has term %d, but the log has term %d", r.Index, r.Term, s.term(r.Index))
		default:
			s.rebase(Position{r.Index, r.Term})
		}
		s.based = s.based || r.Head >= s.run
		s.meta, s.head, s.chain = r.Meta, r.Head, r.Chain
		s.metas++
		s.state.Commit = max(s.state.Commit, r.Index)
	}
	if r.Sequence == 1 && (r.Type != TypeMeta || r.Head != 1) {
		return "the first record is not one that can begin a log"
	}
	return ""
}

// admits says why raft's log cannot take this entry next; "" if it can.
func (t *table) admits(index, term, commit uint64) string {
	switch {
	case index < t.first() || index > t.last()+1:
		return fmt.Sprintf("entry %d does not follow entries %d to %d", index, t.first(), t.last())
	case index <= commit:
		return fmt.Sprintf("entry %d overrides a committed one, %d is committed", index, commit)
	case term < t.term(index-1):
		return fmt.Sprintf("entry %d of term %d follows one of term %d", index, term, t.term(index-1))
	}
	return ""
}

// finish checks what can be checked only when all records are known, and leaves in the table only what belongs to
// the log.
func (s *scanner) finish() error {
	damage := func(format string, args ...any) error {
		if s.gap != nil && s.metas == 0 {
			return s.gap
		}
		return &DamageError{segmentPath(s.dir, s.tail().first), s.tail().size, fmt.Sprintf(format, args...)}
	}
	switch {
	case s.metas == 0:
		return damage("no meta record")
	case s.head < s.run && s.run == s.files[0]:
		return &DamageError{File: segmentPath(s.dir, s.head),
			Reason: fmt.Sprintf("the log begins with this segment, but the first segment found begins with sequence %d", s.run)}
	case s.head < s.run:
		return s.gap
	}
	n := 0
	for n < len(s.segments) && s.segments[n].first != s.head {
		n++
	}
	switch {
	case n == len(s.segments):
		return damage("the log should begin with sequence %d, but no segment does", s.head)
	case s.segments[n].chain != s.chain:
		return damage("the record at sequence %d is not chained to the expected one", s.head)
	case s.segments[n].firstIndex != s.first():
		return damage("entry %d lies before the log's first record", s.first())
	case s.state.Commit > s.last():
		return damage("entry %d is recorded as committed, but the last entry is %d", s.state.Commit, s.last())
	}
	s.dropSegments(n)
	// A batch torn between entries and hard state leaves entries of a term that the hard state does not have. No vote
	// of that term can have left this node, because none was durable.
	s.state.know(s.lastTerm())
	return nil
}

// blank says whether there is no log, or one that never got its first record.
func (s *scanner) blank() bool {
	return len(s.files) == 0 || len(s.files) == 1 && s.files[0] == 1 && s.records == 0
}

// missing is the error for a log that should be there.
func (s *scanner) missing() error {
	return &DamageError{File: s.dir, Reason: "the log is missing or empty"}
}

func (s *scanner) recovered() *Recovered {
	return &Recovered{
		Meta: s.meta, HardState: s.state, Mark: s.mark, Base: s.base, First: s.first(), Last: s.last(),
		Records: s.records, Segments: len(s.segments), Bytes: s.bytes(), Repair: s.repair,
	}
}
