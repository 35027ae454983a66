package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// FirstIndex is the index of the first entry that Entries can return; LastIndex+1 if there is none. The error
// result, here and below, exists for raft.Storage.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.first(), nil
}

// LastIndex is the index of the last entry written, whether fsynced or not; without entries, that of the entry
// before FirstIndex.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.last(), nil
}

// Term is the term of the entry at index, from FirstIndex-1 to LastIndex; raft.ErrCompacted below,
// raft.ErrUnavailable above.
func (l *Log) Term(index uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case index < l.mu.base.Index:
		return 0, raft.ErrCompacted
	case index > l.mu.last():
		return 0, raft.ErrUnavailable
	}
	return l.mu.term(index), nil
}

// Entries returns the entries from lo up to, but not including, hi: as many as fit into maxSize bytes of raft's
// encoding, but at least one. raft.ErrCompacted if lo is below FirstIndex, raft.ErrUnavailable if hi-1 is above
// LastIndex. The caller owns the slice but must not change the entries. Recent entries come from memory; others are
// read from disk and verified again; a damaged one is a *DamageError.
func (l *Log) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	for {
		entries, stretches, err := l.plan(lo, hi, maxSize)
		if err != nil {
			return nil, err
		}
		n := 0
		for _, s := range stretches {
			if err = s.read(l.dir, entries[n:n+len(s.places)]); err != nil {
				break
			}
			n += len(s.places)
		}
		// The owner may have compacted the log meanwhile: then plan returns ErrCompacted.
		if first, _ := l.FirstIndex(); errors.Is(err, fs.ErrNotExist) && first > lo {
			continue
		}
		if err != nil {
			return nil, err
		}
		return entries, nil
	}
}

// stretch is a run of entries that lie in one segment.
type stretch struct {
	segment uint64 // its first sequence
	first   uint64 // index of the first entry
	places  []place
}

// plan chooses how many entries to return, and fills in those that are in memory. The remaining ones
// are the first.
func (l *Log) plan(lo, hi, maxSize uint64) (entries []*raftpb.Entry, disk []stretch, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case lo < l.mu.first():
		return nil, nil, raft.ErrCompacted
	case hi > l.mu.last()+1:
		return nil, nil, raft.ErrUnavailable
	case lo >= hi:
		return nil, nil, nil
	}
	recent := l.mu.recent.entries
	recentFirst := l.mu.last() + 1 - uint64(len(recent))
	end, size := lo, uint64(0)
	for ; end < hi; end++ {
		if end < recentFirst {
			size += uint64(raftSize(end, l.mu.term(end), int(l.mu.place(end).data)))
		} else {
			e := recent[end-recentFirst]
			size += uint64(raftSize(end, e.GetTerm(), len(e.GetData())))
		}
		if size > maxSize && end > lo {
			break
		}
	}
	entries = make([]*raftpb.Entry, end-lo)
	if end > recentFirst {
		from := max(lo, recentFirst)
		copy(entries[from-lo:], recent[from-recentFirst:end-recentFirst])
	}
	for from, stop := lo, min(end, recentFirst); from < stop; {
		i := l.mu.segmentOf(from)
		to := stop
		if i+1 < len(l.mu.segments) {
			to = min(to, l.mu.segments[i+1].firstIndex)
		}
		places := l.mu.places[from-l.mu.first() : to-l.mu.first()]
		disk = append(disk, stretch{l.mu.segments[i].first, from, append([]place(nil), places...)})
		from = to
	}
	return entries, disk, nil
}

// raftSize is the size of an entry in raft's own encoding, which raft's limits count: a tag before each field, and
// the type in one byte.
func raftSize(index, term uint64, data int) int {
	n := 2 + 1 + uvarintBytes(term) + 1 + uvarintBytes(index)
	if data > 0 {
		n += 1 + uvarintBytes(uint64(data)) + data
	}
	return n
}

// loaded is an entry with the values that it points to, so that one allocation holds a whole run of
// entries.
type loaded struct {
	entry       raftpb.Entry
	index, term uint64
	kind        raftpb.EntryType
}

// read reads the stretch into entries. Between its entries there may be other records, overridden entries for
// example; so it goes by places, in reads of some 256 KiB.
func (s *stretch) read(dir string, entries []*raftpb.Entry) (err error) {
	const readBytes = 256 << 10
	path := segmentPath(dir, s.segment)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	row := make([]loaded, len(s.places))
	for i := 0; i < len(s.places); {
		start := s.places[i].offset
		n := i + 1
		for n < len(s.places) && s.places[n].end()-start <= readBytes {
			n++
		}
		buf := make([]byte, s.places[n-1].end()-start)
		if _, err := f.ReadAt(buf, int64(start)); err != nil {
			return fmt.Errorf("wal: %s at offset %d: %w", path, start, err)
		}
		for ; i < n; i++ {
			at := s.places[i].offset
			var r Record
			_, f := readFrame(buf[at-start:s.places[i].end()-start], &r)
			switch {
			case f != nil:
				return &DamageError{path, int64(at), f.reason}
			case r.Type != TypeEntry || r.Index != s.first+uint64(i):
				return &DamageError{path, int64(at), fmt.Sprintf("expected entry %d, found another record", s.first+uint64(i))}
			}
			e := &row[i]
			e.index, e.term, e.kind = r.Index, r.Term, r.EntryType
			e.entry.Index, e.entry.Term, e.entry.Type, e.entry.Data = &e.index, &e.term, &e.kind, r.Data
			entries[i] = &e.entry
		}
	}
	return nil
}

// end is the offset after the entry's frame.
func (p place) end() uint32 { return p.offset + uint32(entryFrameBytes(int(p.data))) }

// recent holds the newest entries, without a hole, up to the last of the log.
type recent struct {
	entries []*raftpb.Entry
	bytes   int64
	limit   int64
}

// put adds the entry, replacing those from its index on.
func (c *recent) put(e *raftpb.Entry) {
	if len(c.entries) > 0 {
		keep := 0
		if first := c.entries[0].GetIndex(); e.GetIndex() > first {
			keep = int(e.GetIndex() - first)
		}
		for i := keep; i < len(c.entries); i++ {
			c.bytes -= recentBytes(c.entries[i])
			c.entries[i] = nil
		}
		c.entries = c.entries[:keep]
	}
	c.entries = append(c.entries, e)
	c.bytes += recentBytes(e)
	for c.bytes > c.limit {
		c.trim(len(c.entries) - 1)
	}
}

// trim drops all but the newest n.
func (c *recent) trim(n int) {
	for len(c.entries) > n {
		c.bytes -= recentBytes(c.entries[0])
		c.entries[0] = nil
		c.entries = c.entries[1:]
	}
	if len(c.entries) == 0 {
		c.entries = nil
	}
}

// recentBytes is roughly what an entry costs in memory: its data and its own structure.
func recentBytes(e *raftpb.Entry) int64 { return int64(len(e.GetData())) + 128 }
