package wal

import (
	"slices"
	"sort"
)

// Position is a place in raft's log.
type Position struct{ Index, Term uint64 }

// table knows where each live entry lies: those from base.Index+1 to last(). An overridden entry is not live.
type table struct {
	base     Position
	places   []place   // of entry base.Index+1+i
	terms    []termRun // ascending; empty if there are no entries
	segments []segment // ascending, never empty once a log is open; the last one is written to
}

// place is where an entry lies in its segment: the eight bytes that the log keeps in memory for each
// entry.
type place struct {
	offset uint32 // of its frame
	data   uint32 // length of its data
}

// termRun says that the entries from index on have this term.
type termRun struct{ index, term uint64 }

// segment is one file. Live entries lie in the order of their indices, so a segment's entries are those from its
// firstIndex up to the next segment's.
type segment struct {
	first      uint64 // sequence of its first record, and its name
	chain      uint32 // checksum of the record before first
	firstIndex uint64 // of its first live entry; if it has none, the next segment's firstIndex, or last()+1
	size       int64
}

func (t *table) first() uint64 { return t.base.Index + 1 }
func (t *table) last() uint64  { return t.base.Index + uint64(len(t.places)) }

func (t *table) lastTerm() uint64 {
	if len(t.terms) == 0 {
		return t.base.Term
	}
	return t.terms[len(t.terms)-1].term
}

// term is the term of an entry from base.Index to last().
func (t *table) term(index uint64) uint64 {
	for _, v := range slices.Backward(t.terms) {
		if v.index <= index {
			return v.term
		}
	}
	return t.base.Term
}

func (t *table) place(index uint64) place { return t.places[index-t.first()] }

// put adds an entry that lies in the last segment. Its index is from first() to last()+1; entries from that index
// on are no longer live.
func (t *table) put(index, term uint64, p place) {
	t.cut(index)
	t.places = append(t.places, p)
	if term != t.lastTerm() || len(t.terms) == 0 {
		t.terms = append(t.terms, termRun{index, term})
	}
}

// cut drops the entries from index on.
func (t *table) cut(index uint64) {
	if index > t.last() {
		return
	}
	t.places = t.places[:index-t.first()]
	for i := len(t.terms) - 1; i >= 0 && t.terms[i].index >= index; i-- {
		t.terms = t.terms[:i]
	}
	for i := len(t.segments) - 1; i >= 0 && t.segments[i].firstIndex > index; i-- {
		t.segments[i].firstIndex = index
	}
}

// addSegment begins a new last segment.
func (t *table) addSegment(first uint64, chain uint32) {
	t.segments = append(t.segments, segment{first: first, chain: chain, firstIndex: t.last() + 1})
}

// tail is the segment that is written to.
func (t *table) tail() *segment { return &t.segments[len(t.segments)-1] }

// segmentOf is the position in segments of the one that holds the entry; for last()+1, that of the
// last one.
func (t *table) segmentOf(index uint64) int {
	return sort.Search(len(t.segments), func(i int) bool { return t.segments[i].firstIndex > index }) - 1
}

// reset drops every entry; the next entry follows base.
func (t *table) reset(base Position) {
	t.base, t.places, t.terms = base, nil, nil
	for i := range t.segments {
		t.segments[i].firstIndex = base.Index + 1
	}
}

// rebase drops the entries up to base.Index, which is at most last(). It makes the slices anew, so that the memory
// of a large front is freed.
func (t *table) rebase(base Position) {
	var terms []termRun
	for i, run := range t.terms {
		next := t.last() + 1
		if i+1 < len(t.terms) {
			next = t.terms[i+1].index
		}
		if next > base.Index+1 {
			terms = append(terms, termRun{max(run.index, base.Index+1), run.term})
		}
	}
	places := append([]place(nil), t.places[base.Index-t.base.Index:]...)
	t.base, t.places, t.terms = base, places, terms
	for i := range t.segments {
		t.segments[i].firstIndex = max(t.segments[i].firstIndex, base.Index+1)
	}
}

// dropSegments drops the first n segments, which hold no live entry.
func (t *table) dropSegments(n int) {
	t.segments = append([]segment(nil), t.segments[n:]...)
}

func (t *table) bytes() int64 {
	var n int64
	for _, s := range t.segments {
		n += s.size
	}
	return n
}
