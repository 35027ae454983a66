package watch

import (
	"cmp"
	"slices"
)

// Len is the number of watches in both tables: mntr's watch_count. It takes no
// lock.
func (t *Table) Len() int {
	return int(t.mu.data.watches.Load() + t.mu.child.watches.Load())
}

// Summary is what wchs shows. As in ZooKeeper, it covers the data table only.
type Summary struct {
	Watchers int // with any watch
	Paths    int // with any watch
	Watches  int // pairs of watcher and path, whatever the kinds
}

// Summary counts the data table.
func (t *Table) Summary() Summary {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	return Summary{m.data.watchers, len(m.data.heads), int(m.data.watches.Load())}
}

// AtPath is one path with its watchers.
type AtPath struct {
	Path     string
	Watchers []Watcher // in the order in which they came
}

// ByPath lists the data table by path, in byte order, for wchp. The list is a copy and may be
// large: it is for an operator's question, not for polling.
func (t *Table) ByPath() []AtPath {
	list := t.copyPaths()
	slices.SortFunc(list, func(a, b AtPath) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

func (t *Table) copyPaths() []AtPath {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	list := make([]AtPath, 0, len(m.data.heads))
	all := make([]Watcher, 0, m.data.watches.Load())
	for path, head := range m.data.heads {
		from := len(all)
		for e := head; e != nil; e = e.next {
			all = append(all, e.owner.watcher)
		}
		list = append(list, AtPath{path, all[from:len(all):len(all)]})
	}
	return list
}

// OfWatcher is one watcher with its paths.
type OfWatcher struct {
	Watcher Watcher
	Paths   []string // in byte order
}

// ByWatcher lists the data table by watcher, in the order of their first Add, for wchc. The list is
// a copy and may be large, as with ByPath.
func (t *Table) ByWatcher() []OfWatcher {
	list, arrivals := t.copyWatchers()
	slices.SortFunc(list, func(a, b OfWatcher) int {
		return cmp.Compare(arrivals[a.Watcher], arrivals[b.Watcher])
	})
	for i := range list {
		slices.Sort(list[i].Paths)
	}
	return list
}

func (t *Table) copyWatchers() ([]OfWatcher, map[Watcher]uint64) {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	list := make([]OfWatcher, 0, m.data.watchers)
	arrivals := make(map[Watcher]uint64, m.data.watchers)
	all := make([]string, 0, m.data.watches.Load())
	for w, o := range m.owners {
		if o.count[m.data.index] == 0 {
			continue
		}
		from := len(all)
		for e := o.first[m.data.index]; e != nil; e = e.older {
			all = append(all, e.path)
		}
		list = append(list, OfWatcher{w, all[from:len(all):len(all)]})
		arrivals[w] = o.arrival
	}
	return list, arrivals
}
