package watch

import (
	"sync/atomic"

	"coord/tree/znode"
)

// entry is one watcher at one path in one table.
type entry struct {
	path         string // shares its bytes with the key in heads
	owner        *owner
	prev, next   *entry // at the same path, oldest first; the first one's prev is the last, the last one's next nil
	newer, older *entry // of the same owner in the same table
	place        uint32 // index in the path's band, if recursive is set
	modes        modes  // never 0 between calls
}

// owner is a watcher with its entries; arrays are indexed by side.index.
type owner struct {
	watcher Watcher
	arrival uint64    // orders owners by their first Add
	round   uint64    // the last Table.mu.round that reached it, so that an event notifies it once
	first   [2]*entry // its newest entry
	count   [2]int32  // its entries
	bytes   int64     // of their paths
}

// side is one of the two tables. The table's lock guards it.
type side struct {
	index    int          // 0 data, 1 child
	watches  atomic.Int64 // entries
	bytes    int64        // of their paths
	watchers int          // owners with an entry here
	heads    map[string]*entry
	peak     int // the largest number of paths in heads since it was made

	// crowds finds an owner's entry at a path with many entries. It is made when a search for an
	// owner that has many entries of its own first needs it.
	crowds map[string]map[*owner]*entry
	// bands are the recursive entries at each path, so that an event below the path need not look
	// at its other entries.
	bands znode.Tops[*band]
}

const (
	crowdFrom  = 16   // entries that find looks at before it makes a crowd
	crowdUntil = 8    // a crowd with fewer entries is dissolved
	keepPaths  = 1024 // an emptied map that has held more is replaced, because maps never shrink
)

func newSide(index int) side {
	return side{
		index:  index,
		heads:  make(map[string]*entry),
		crowds: make(map[string]map[*owner]*entry),
	}
}

// find returns the owner's entry at the path, or nil. It walks the path's list and the owner's list
// in parallel, because one of them is nearly always short.
func (s *side) find(path string, o *owner) *entry {
	if o == nil || o.first[s.index] == nil {
		return nil
	}
	head := s.heads[path]
	if head == nil {
		return nil
	}
	if len(s.crowds) > 0 {
		if c, ok := s.crowds[path]; ok {
			return c[o]
		}
	}
	n := 0
	for p, own := head, o.first[s.index]; p != nil && own != nil; p, own = p.next, own.older {
		if p.owner == o {
			return p
		}
		if own.path == path {
			return own
		}
		if n++; n == crowdFrom {
			c := make(map[*owner]*entry)
			for p := head; p != nil; p = p.next {
				c[p.owner] = p
			}
			s.crowds[path] = c
			return c[o]
		}
	}
	return nil
}

// has says whether the owner has any of the modes at the path.
func (s *side) has(path string, o *owner, m modes) bool {
	if m == 0 {
		return false
	}
	e := s.find(path, o)
	return e != nil && e.modes&m != 0
}

// add appends an entry without modes. The owner must not have one at the path yet.
func (s *side) add(path string, o *owner) *entry {
	e := &entry{path: path, owner: o, older: o.first[s.index]}
	if e.older != nil {
		e.older.newer = e
	}
	o.first[s.index] = e
	if o.count[s.index]++; o.count[s.index] == 1 {
		s.watchers++
	}
	s.watches.Add(1)
	s.bytes += int64(len(path))
	o.bytes += int64(len(path))

	head := s.heads[path]
	if head == nil {
		e.prev = e
		s.heads[path] = e
		s.peak = max(s.peak, len(s.heads))
		return e
	}
	e.prev = head.prev
	head.prev.next = e
	head.prev = e
	if len(s.crowds) > 0 {
		if c, ok := s.crowds[path]; ok {
			c[o] = e
		}
	}
	return e
}

// set adds modes to an entry.
func (s *side) set(e *entry, m modes) {
	if m&^e.modes&recursive != 0 {
		b, there := s.bands.Get(e.path)
		if !there {
			b = &band{}
			s.bands.Put(e.path, b)
		}
		b.add(e)
	}
	e.modes |= m
}

// remove removes modes from the owner's entry at the path, and removes the entry with its last
// mode. It says whether any of the modes was set.
func (s *side) remove(path string, o *owner, m modes) bool {
	if m == 0 {
		return false
	}
	e := s.find(path, o)
	switch {
	case e == nil || e.modes&m == 0:
		return false
	case e.modes&^m == 0:
		s.unlink(e)
		return true
	}
	if e.modes&m&recursive != 0 {
		s.leaveBand(e)
	}
	e.modes &^= m
	return true
}

// unlink removes an entry.
func (s *side) unlink(e *entry) {
	if e.modes&recursive != 0 {
		s.leaveBand(e)
	}
	s.disown(e)
	if len(s.crowds) > 0 {
		if c, ok := s.crowds[e.path]; ok {
			delete(c, e.owner)
			if len(c) < crowdUntil {
				delete(s.crowds, e.path)
			}
		}
	}
	switch first := e.prev.next == nil; { // only the last entry has no next
	case first && e.next == nil:
		s.removePath(e.path)
	case first:
		e.next.prev = e.prev
		s.heads[e.path] = e.next
	case e.next == nil:
		e.prev.next = nil
		s.heads[e.path].prev = e.prev
	default:
		e.prev.next = e.next
		e.next.prev = e.prev
	}
}

// disown removes an entry from its owner's list and from the counts.
func (s *side) disown(e *entry) {
	o := e.owner
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		o.first[s.index] = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	}
	if o.count[s.index]--; o.count[s.index] == 0 {
		s.watchers--
	}
	s.watches.Add(-1)
	s.bytes -= int64(len(e.path))
	o.bytes -= int64(len(e.path))
}

// removePath forgets a path without entries.
func (s *side) removePath(path string) {
	delete(s.heads, path)
	delete(s.crowds, path)
	if len(s.heads) == 0 && s.peak > keepPaths {
		s.heads, s.peak = make(map[string]*entry), 0
	}
}

// leaveBand removes an entry from the band of its path.
func (s *side) leaveBand(e *entry) {
	b, _ := s.bands.Get(e.path)
	if b.remove(e); len(b.list) == 0 {
		s.bands.Delete(e.path)
	}
}

// fire appends the watchers at the path that were not reached in this round, and consumes all
// one-shot watches there.
func (s *side) fire(path string, round uint64, to []Watcher) []Watcher {
	head := s.heads[path]
	if head == nil {
		return to
	}
	var next, first, last *entry // first and last of the entries that stay
	consumed := false
	for e := head; e != nil; e = next {
		next = e.next
		to = e.owner.reach(round, to)
		if e.modes &^= oneShot; e.modes == 0 {
			s.disown(e)
			consumed = true
			continue
		}
		if first == nil {
			first = e
		} else {
			last.next, e.prev = e, last
		}
		last = e
	}
	if first == nil {
		s.removePath(path)
		return to
	}
	first.prev, last.next = last, nil
	if first != head {
		s.heads[path] = first
	}
	if consumed {
		delete(s.crowds, path) // making it again when it is needed is cheaper than removing single entries
	}
	return to
}

// fireAbove appends the watchers with a recursive watch above the path that were not reached in
// this round.
func (s *side) fireAbove(path string, round uint64, to []Watcher) []Watcher {
	parent, _ := znode.Split(path)
	for _, b := range s.bands.Above(parent) {
		for _, e := range b.list {
			if e != nil {
				to = e.owner.reach(round, to)
			}
		}
	}
	return to
}

// reach appends the watcher, unless it was reached in this round.
func (o *owner) reach(round uint64, to []Watcher) []Watcher {
	if o.round == round {
		return to
	}
	o.round = round
	return append(to, o.watcher)
}

// band holds the recursive entries at one path, oldest first, with nil in place of removed ones, so
// that removing one costs the same among a few and among thousands.
type band struct {
	list  []*entry
	holes int // never more than half of the list
}

func (b *band) add(e *entry) {
	e.place = uint32(len(b.list))
	b.list = append(b.list, e)
}

func (b *band) remove(e *entry) {
	b.list[e.place] = nil
	if b.holes++; 2*b.holes <= len(b.list) {
		return
	}
	n := 0
	for _, e := range b.list {
		if e != nil {
			b.list[n], e.place = e, uint32(n)
			n++
		}
	}
	clear(b.list[n:])
	b.list, b.holes = b.list[:n], 0
}
