package watch

import "fmt"

// DropBatch is how many watches Drop removes under one hold of the lock.
const DropBatch = dropBatch

// CheckLinks returns which of the table's internal invariants is broken, or nil.
func CheckLinks(t *Table) error {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	for _, s := range []*side{&m.data, &m.child} {
		if err := s.check(m.owners); err != nil {
			return fmt.Errorf("table %d: %w", s.index, err)
		}
	}
	for _, o := range m.owners {
		bytes := o.bytes
		for _, e := range o.first {
			for ; e != nil; e = e.older {
				bytes -= int64(len(e.path))
			}
		}
		if bytes != 0 {
			return fmt.Errorf("owner %d: counts %d bytes of paths too many", o.arrival, bytes)
		}
	}
	return nil
}

// Crowds is the number of paths with an index of their watchers.
func Crowds(t *Table) int { return len(t.mu.data.crowds) + len(t.mu.child.crowds) }

func (s *side) check(owners map[Watcher]*owner) error {
	entries, inBands, bytes := 0, 0, int64(0)
	for path, head := range s.heads {
		crowd, crowded := s.crowds[path]
		prev, n := head.prev, 0
		for e := head; e != nil; prev, e = e, e.next {
			bytes += int64(len(path))
			switch n++; {
			case e.prev != prev:
				return fmt.Errorf("%s: entry %d has another one before it", path, n)
			case e.path != path:
				return fmt.Errorf("%s: entry %d is of %s", path, n, e.path)
			case e.modes == 0 || s.index == 1 && e.modes&recursive != 0:
				return fmt.Errorf("%s: entry %d has modes %b", path, n, e.modes)
			case owners[e.owner.watcher] != e.owner:
				return fmt.Errorf("%s: entry %d has an unknown owner", path, n)
			case crowded && crowd[e.owner] != e:
				return fmt.Errorf("%s: entry %d is not in the crowd", path, n)
			case e.modes&recursive != 0:
				inBands++
				if b, there := s.bands.Get(path); !there || b.list[e.place] != e {
					return fmt.Errorf("%s: entry %d is not in the band", path, n)
				}
			}
		}
		if prev != head.prev {
			return fmt.Errorf("%s: the first does not know the last", path)
		}
		if crowded && len(crowd) != n {
			return fmt.Errorf("%s: crowd of %d, list of %d", path, len(crowd), n)
		}
		entries += n
	}
	for path := range s.crowds {
		if s.heads[path] == nil {
			return fmt.Errorf("%s: a crowd of nobody", path)
		}
	}
	for path, b := range s.bands.All() {
		live := 0
		for _, e := range b.list {
			if e != nil {
				live++
			}
		}
		if inBands -= live; live == 0 || len(b.list)-live != b.holes || 2*b.holes > len(b.list) {
			return fmt.Errorf("%s: band of %d with %d live and %d holes", path, len(b.list), live, b.holes)
		}
	}
	if inBands != 0 {
		return fmt.Errorf("%d more recursive entries than in bands", inBands)
	}
	watchers, owned := 0, 0
	for _, o := range owners {
		n := 0
		var newer *entry
		for e := o.first[s.index]; e != nil; newer, e = e, e.older {
			if n++; e.newer != newer || e.owner != o {
				return fmt.Errorf("owner %d: entry %d is linked wrongly", o.arrival, n)
			}
		}
		if n != int(o.count[s.index]) {
			return fmt.Errorf("owner %d: counts %d, has %d", o.arrival, o.count[s.index], n)
		}
		if owned += n; n > 0 {
			watchers++
		}
	}
	if bytes != s.bytes {
		return fmt.Errorf("%d bytes of paths, %d counted", bytes, s.bytes)
	}
	if entries != owned || int64(entries) != s.watches.Load() || watchers != s.watchers {
		return fmt.Errorf("%d entries, %d owned, %d counted; %d watchers, %d counted",
			entries, owned, s.watches.Load(), watchers, s.watchers)
	}
	return nil
}

// Owners is the number of watchers in the table.
func Owners(t *Table) int { return len(t.mu.owners) }
