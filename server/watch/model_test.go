package watch_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coord/server/watch"
	"coord/tree/znode"
)

// mode is a registration in the model: the name of a kind that is registered and removed
// separately.
type mode string

// spot is one watcher at one path in one table of the model.
type spot struct {
	w     *waiter
	path  string
	child bool
}

// registered is what the model records about a spot.
type registered struct {
	came  int          // when the spot was first registered
	modes map[mode]int // when each mode was registered
}

// model is the table as the reference describes it, without regard to cost.
type model struct {
	spots map[spot]*registered
	clock int
	first map[*waiter]int
	log   []string
}

func (m *model) add(w *waiter, path string, kind watch.Kind) {
	put := func(child bool, md mode) {
		m.clock++
		at := spot{w, path, child}
		if m.spots[at] == nil {
			m.spots[at] = &registered{m.clock, map[mode]int{}}
			if m.first[w] == 0 {
				m.first[w] = m.clock
			}
		}
		if m.spots[at].modes[md] == 0 {
			m.spots[at].modes[md] = m.clock
		}
	}
	switch kind {
	case watch.Data, watch.Exist:
		put(false, "standard")
	case watch.Children:
		put(true, "standard")
	case watch.Persistent:
		put(false, "persistent")
		put(true, "persistent")
	case watch.PersistentRecursive:
		put(false, "recursive")
	}
}

// matching yields the modes that a type matches, by table (false: data).
func matching(typ watch.Type) map[bool][]mode {
	all := []mode{"standard", "persistent", "recursive"}
	return map[watch.Type]map[bool][]mode{
		1: {true: all[:1]},
		2: {false: all[:1]},
		3: {false: all, true: all},
		4: {false: all[1:2], true: all[1:2]},
		5: {false: all[2:]},
	}[typ]
}

func (m *model) has(w *waiter, path string, typ watch.Type, remove bool) bool {
	found := false
	for child, modes := range matching(typ) {
		at := spot{w, path, child}
		r := m.spots[at]
		if r == nil {
			continue
		}
		for _, md := range modes {
			if r.modes[md] == 0 {
				continue
			}
			found = true
			if remove {
				delete(r.modes, md)
			}
		}
		if len(r.modes) == 0 {
			delete(m.spots, at)
		}
	}
	return found
}

func (m *model) drop(w *waiter) {
	for at := range m.spots {
		if at.w == w {
			delete(m.spots, at)
		}
	}
	delete(m.first, w)
}

// inOrder lists the spots that pass, ordered by when.
func (m *model) inOrder(pass func(spot, *registered) bool, when func(*registered) int) []spot {
	var list []spot
	for at, r := range m.spots {
		if pass(at, r) {
			list = append(list, at)
		}
	}
	slices.SortFunc(list, func(a, b spot) int { return cmp.Compare(when(m.spots[a]), when(m.spots[b])) })
	return list
}

func (m *model) trigger(e znode.Event) {
	reached := map[*waiter]bool{}
	tell := func(at spot) {
		if reached[at.w] {
			return
		}
		reached[at.w] = true
		if e.ACL.Allows(at.w.ids, znode.Read) {
			m.log = append(m.log, fmt.Sprintf("%s %s %s", at.w.name, e.Type, e.Path))
		}
	}
	consume := func(child bool) {
		for _, at := range m.inOrder(
			func(at spot, _ *registered) bool { return at.path == e.Path && at.child == child },
			func(r *registered) int { return r.came }) {
			tell(at)
			if delete(m.spots[at].modes, "standard"); len(m.spots[at].modes) == 0 {
				delete(m.spots, at)
			}
		}
	}
	if e.Type != znode.NodeChildrenChanged {
		consume(false)
		for i := len(e.Path) - 1; i >= 0 && e.Path != "/"; i-- {
			if e.Path[i] != '/' {
				continue
			}
			above := e.Path[:max(i, 1)]
			for _, at := range m.inOrder(
				func(at spot, r *registered) bool { return at.path == above && r.modes["recursive"] > 0 },
				func(r *registered) int { return r.modes["recursive"] }) {
				tell(at)
			}
		}
	}
	if e.Type == znode.NodeDeleted || e.Type == znode.NodeChildrenChanged {
		consume(true)
	}
}

func (m *model) report() string {
	var lines []string
	paths, watchers, data := map[string]bool{}, map[*waiter]bool{}, 0
	for at := range m.spots {
		if !at.child {
			data++
			paths[at.path], watchers[at.w] = true, true
		}
	}
	lines = append(lines, fmt.Sprint(len(m.spots), watch.Summary{Watchers: len(watchers), Paths: len(paths), Watches: data}))
	for path := range paths {
		line := path
		for _, at := range m.inOrder(
			func(at spot, _ *registered) bool { return at.path == path && !at.child },
			func(r *registered) int { return r.came }) {
			line += " " + at.w.name
		}
		lines = append(lines, line)
	}
	slices.Sort(lines[1:])
	order := slices.SortedFunc(func(yield func(*waiter) bool) {
		for w := range watchers {
			if !yield(w) {
				return
			}
		}
	}, func(a, b *waiter) int { return cmp.Compare(m.first[a], m.first[b]) })
	for _, w := range order {
		var of []string
		for at := range m.spots {
			if at.w == w && !at.child {
				of = append(of, at.path)
			}
		}
		slices.Sort(of)
		lines = append(lines, w.name+" "+strings.Join(of, " "))
	}
	return strings.Join(lines, "\n")
}

func report(tab *watch.Table) string {
	lines := []string{fmt.Sprint(tab.Len(), tab.Summary())}
	for _, p := range tab.ByPath() {
		line := p.Path
		for _, w := range p.Watchers {
			line += " " + w.(*waiter).name
		}
		lines = append(lines, line)
	}
	for _, w := range tab.ByWatcher() {
		lines = append(lines, w.Watcher.(*waiter).name+" "+strings.Join(w.Paths, " "))
	}
	return strings.Join(lines, "\n")
}

// TestAgainstModel applies random operations to a table and to the model, and expects the same
// answers, notifications in the same order, and counts.
func TestAgainstModel(t *testing.T) {
	few := []string{"/", "/a", "/a/b", "/a/b/c", "/a/bb", "/b"}
	t.Run("few", func(t *testing.T) { rapid.Check(t, func(rt *rapid.T) { compare(rt, 4, few) }) })

	var many []string
	for i := range 24 {
		many = append(many, fmt.Sprintf("/%d", i), fmt.Sprintf("/%d/x", i%3))
	}
	t.Run("many", func(t *testing.T) { rapid.Check(t, func(rt *rapid.T) { compare(rt, 24, many) }) })
}

func compare(rt *rapid.T, watchers int, paths []string) {
	reader := znode.Identity{Scheme: znode.SchemeDigest, ID: "r:x"}
	acls := []znode.ACL{nil, znode.OpenACL, {{Perms: znode.Read, Identity: reader}}, {{Perms: znode.Write, Identity: reader}}}
	tab := watch.New(watch.DefaultConfig(), 0)
	m := &model{spots: map[spot]*registered{}, first: map[*waiter]int{}}
	var log []string
	var who []*waiter
	made := 0
	connect := func() *waiter {
		w := &waiter{name: fmt.Sprintf("w%d", made), log: &log}
		if made++; made%2 == 0 {
			w.ids = []znode.Identity{reader}
		}
		return w
	}
	for range watchers {
		who = append(who, connect())
	}
	aWatcher := rapid.IntRange(0, watchers-1)
	aPath := rapid.SampledFrom(paths)
	aKind := rapid.SampledFrom([]watch.Kind{watch.Data, watch.Exist, watch.Children, watch.Persistent, watch.PersistentRecursive})
	aType := rapid.SampledFrom([]watch.Type{0, 1, 2, 3, 4, 5, 6})
	anEvent := rapid.SampledFrom([]znode.EventType{znode.NodeCreated, znode.NodeDeleted, znode.NodeDataChanged, znode.NodeChildrenChanged})
	anACL := rapid.SampledFrom(acls)

	add := func(w *waiter, path string, kind watch.Kind) {
		if err := tab.Add(w, path, kind); err != nil {
			rt.Fatal(err)
		}
		m.add(w, path, kind)
	}
	rt.Repeat(map[string]func(*rapid.T){
		"add": func(rt *rapid.T) {
			add(who[aWatcher.Draw(rt, "watcher")], aPath.Draw(rt, "path"), aKind.Draw(rt, "kind"))
		},
		"add everywhere": func(rt *rapid.T) {
			w, kind := who[aWatcher.Draw(rt, "watcher")], aKind.Draw(rt, "kind")
			for _, path := range paths {
				add(w, path, kind)
			}
		},
		"add all": func(rt *rapid.T) {
			path, kind := aPath.Draw(rt, "path"), aKind.Draw(rt, "kind")
			for _, w := range who {
				add(w, path, kind)
			}
		},
		"has": func(rt *rapid.T) {
			w, path, typ := who[aWatcher.Draw(rt, "watcher")], aPath.Draw(rt, "path"), aType.Draw(rt, "type")
			if got, want := tab.Has(w, path, typ), m.has(w, path, typ, false); got != want {
				rt.Fatalf("Has is %t", got)
			}
		},
		"remove": func(rt *rapid.T) {
			w, path, typ := who[aWatcher.Draw(rt, "watcher")], aPath.Draw(rt, "path"), aType.Draw(rt, "type")
			if got, want := tab.Remove(w, path, typ), m.has(w, path, typ, true); got != want {
				rt.Fatalf("Remove is %t", got)
			}
		},
		"drop": func(rt *rapid.T) {
			i := aWatcher.Draw(rt, "watcher")
			gone := who[i]
			gone.closed.Store(true)
			tab.Drop(gone)
			m.drop(gone)
			if err := tab.Add(gone, aPath.Draw(rt, "path"), watch.Persistent); err != nil {
				rt.Fatal(err)
			}
			who[i] = connect()
		},
		"trigger": func(rt *rapid.T) {
			e := znode.Event{Type: anEvent.Draw(rt, "event"), Path: aPath.Draw(rt, "path"), ACL: anACL.Draw(rt, "acl")}
			log, m.log = nil, nil
			tab.Trigger(e)
			m.trigger(e)
			if !slices.Equal(log, m.log) {
				rt.Fatalf("%s %s:\ntold  %q\nmodel %q", e.Type, e.Path, log, m.log)
			}
		},
		"": func(rt *rapid.T) {
			if err := watch.CheckLinks(tab); err != nil {
				rt.Fatal(err)
			}
			if got, want := report(tab), m.report(); got != want {
				rt.Fatalf("counts:\n%s\nmodel:\n%s", got, want)
			}
		},
	})
}
