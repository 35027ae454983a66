package watch_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"coord/server/watch"
	"coord/tree/znode"
)

// waiter is a connection that writes its notifications into a log that it shares with others.
type waiter struct {
	name   string
	ids    []znode.Identity
	closed atomic.Bool
	log    *[]string
}

func (w *waiter) Notify(e znode.Event) {
	*w.log = append(*w.log, fmt.Sprintf("%s %s %s", w.name, e.Type, e.Path))
}
func (w *waiter) Identities() []znode.Identity { return w.ids }
func (w *waiter) Closed() bool                 { return w.closed.Load() }

// scene is a table with watchers named by single letters.
type scene struct {
	t   *testing.T
	tab *watch.Table
	who map[string]*waiter
	log []string
}

func newScene(t *testing.T) *scene {
	return &scene{t: t, tab: watch.New(watch.DefaultConfig(), 0), who: map[string]*waiter{}}
}

func (s *scene) waiter(name string) *waiter {
	w := s.who[name]
	if w == nil {
		w = &waiter{name: name, log: &s.log}
		s.who[name] = w
	}
	return w
}

var kinds = map[string]watch.Kind{
	"data": watch.Data, "exist": watch.Exist, "children": watch.Children,
	"persistent": watch.Persistent, "recursive": watch.PersistentRecursive,
}

// watch adds watches, given as "A data /a, B children /b".
func (s *scene) watch(list string) {
	s.t.Helper()
	for part := range strings.SplitSeq(list, ", ") {
		f := strings.Fields(part)
		if len(f) != 3 || kinds[f[1]] == 0 {
			s.t.Fatalf("no watch: %q", part)
		}
		if err := s.tab.Add(s.waiter(f[0]), f[2], kinds[f[1]]); err != nil {
			s.t.Fatal(err)
		}
	}
	s.sound()
}

// do triggers the events of an operation, "create /a", "delete /a" or "set /a", and returns what
// was delivered.
func (s *scene) do(op string) string {
	s.t.Helper()
	verb, path, _ := strings.Cut(op, " ")
	parent, _ := znode.Split(path)
	s.log = nil
	switch verb {
	case "create":
		s.tab.Trigger(znode.Event{Type: znode.NodeCreated, Path: path})
		s.tab.Trigger(znode.Event{Type: znode.NodeChildrenChanged, Path: parent})
	case "delete":
		s.tab.Trigger(znode.Event{Type: znode.NodeDeleted, Path: path})
		s.tab.Trigger(znode.Event{Type: znode.NodeChildrenChanged, Path: parent})
	case "set":
		s.tab.Trigger(znode.Event{Type: znode.NodeDataChanged, Path: path})
	default:
		s.t.Fatalf("no operation: %q", op)
	}
	s.sound()
	return strings.Join(s.log, ", ")
}

func (s *scene) sound() {
	s.t.Helper()
	if err := watch.CheckLinks(s.tab); err != nil {
		s.t.Fatal(err)
	}
}

// TestTriggers has a case for each row of the reference's 6.2 to 6.4.
func TestTriggers(t *testing.T) {
	type step struct{ op, want string }
	tests := []struct {
		name    string
		watches string
		steps   []step
	}{
		// 6.3: which operation fires which watches
		{"create fires exists", "A exist /a", []step{
			{"create /a", "A created /a"},
			{"set /a", ""}, {"delete /a", ""}}},
		{"create fires the parent's child table", "A children /p", []step{
			{"create /p/n", "A children /p"},
			{"create /p/m", ""}}},
		{"create fires the root's child table", "A children /", []step{
			{"create /n", "A children /"}}},
		{"create leaves the parent's data table", "A data /p", []step{
			{"create /p/n", ""},
			{"set /p", "A changed /p"}}},
		{"create leaves the child table at the znode", "A children /n", []step{
			{"create /n", ""},
			{"create /n/m", "A children /n"}}},
		{"create reaches data before child", "B children /p, A exist /p/n", []step{
			{"create /p/n", "A created /p/n, B children /p"}}},
		{"delete fires the data table", "A data /a", []step{
			{"delete /a", "A deleted /a"},
			{"create /a", ""}}},
		{"delete fires the child table", "A children /a", []step{
			{"delete /a", "A deleted /a"},
			{"create /a", ""}}},
		{"delete fires the parent's child table", "A children /p", []step{
			{"delete /p/n", "A children /p"},
			{"delete /p/m", ""}}},
		{"delete of both is one notification and consumes both", "A children /a, A data /a", []step{
			{"delete /a", "A deleted /a"},
			{"create /a", ""}, {"create /a/b", ""}, {"delete /a", ""}}},
		{"delete reaches data, child, parent in this order", "C children /, B children /a, A data /a, B children /", []step{
			{"delete /a", "A deleted /a, B deleted /a, C children /, B children /"}}},
		{"delete serves in the child table those whom the data table has not", "A children /a, B children /a, B data /a, C data /a", []step{
			{"delete /a", "B deleted /a, C deleted /a, A deleted /a"}}},
		{"set fires the data table", "A data /a", []step{
			{"set /a", "A changed /a"},
			{"set /a", ""}}},
		{"set fires exists", "A exist /a", []step{
			{"set /a", "A changed /a"}}},
		{"set leaves the child tables", "A children /p, A children /p/n", []step{
			{"set /p/n", ""},
			{"create /p/n/m", "A children /p/n"}, {"delete /p/n", "A children /p"}}},

		// 6.2: a table is a set
		{"registering twice is once", "A data /a, A data /a, A children /, A children /", []step{
			{"delete /a", "A deleted /a, A children /"},
			{"create /a", ""}}},
		{"getData and exists are the same entry", "A data /a, A exist /a", []step{
			{"set /a", "A changed /a"},
			{"set /a", ""}}},

		// 6.4: one-shot, persistent, recursive
		{"one-shot leaves the other table's", "A data /a, A children /a", []step{
			{"set /a", "A changed /a"},
			{"create /a/b", "A children /a"},
			{"set /a", ""}, {"create /a/c", ""}}},
		{"persistent stays and gets all four", "A persistent /a", []step{
			{"create /a", "A created /a"},
			{"set /a", "A changed /a"}, {"set /a", "A changed /a"},
			{"create /a/b", "A children /a"}, {"delete /a/b", "A children /a"},
			{"delete /a", "A deleted /a"},
			{"create /a", "A created /a"}}},
		{"persistent is of its znode alone", "A persistent /a", []step{
			{"create /a/b/c", ""}, {"set /a/b", ""}, {"set /", ""}, {"create /b", ""}}},
		{"recursive gets the real path of all below", "A recursive /a", []step{
			{"create /a", "A created /a"},
			{"create /a/b", "A created /a/b"},
			{"set /a/b/c", "A changed /a/b/c"},
			{"set /a", "A changed /a"},
			{"delete /a/b/c", "A deleted /a/b/c"},
			{"delete /a", "A deleted /a"},
			{"create /a", "A created /a"}}},
		{"recursive is of whole components", "A recursive /a", []step{
			{"set /ab", ""}, {"set /b/a", ""}, {"set /", ""}}},
		{"recursive at the root", "A recursive /", []step{
			{"set /", "A changed /"},
			{"create /a", "A created /a"},
			{"set /a/b/c/d", "A changed /a/b/c/d"}}},
		{"recursive never gets children changed", "A recursive /a, A recursive /", []step{
			{"create /a/b/c", "A created /a/b/c"},
			{"delete /a/b/c", "A deleted /a/b/c"}}},
		{"recursive and one-shot at one path are one notification", "A recursive /a, A data /a", []step{
			{"set /a", "A changed /a"},
			{"set /a", "A changed /a"}}},
		{"recursive above and one-shot below are one notification", "A recursive /a, A data /a/b, A recursive /", []step{
			{"set /a/b", "A changed /a/b"},
			{"set /a/b", "A changed /a/b"}}},
		{"recursive above counts as served by the data table", "A recursive /a, A children /a/b", []step{
			{"delete /a/b", "A deleted /a/b"},
			{"create /a/b/c", "A created /a/b/c"}}},
		{"persistent and recursive below each other", "A persistent /a, A recursive /", []step{
			{"create /a/b", "A created /a/b, A children /a"},
			{"delete /a", "A deleted /a"}}},
		{"kinds coexist: a one-shot does not end a persistent", "A persistent /a, A data /a, A children /a", []step{
			{"set /a", "A changed /a"}, {"set /a", "A changed /a"},
			{"create /a/b", "A children /a"}, {"create /a/c", "A children /a"},
			{"delete /a", "A deleted /a"}, {"create /a", "A created /a"}}},
		{"kinds coexist: all of them", "A data /a, A persistent /a, A recursive /a, A children /a", []step{
			{"set /a", "A changed /a"},
			{"create /a/b", "A created /a/b, A children /a"},
			{"delete /a", "A deleted /a"},
			{"set /a/b", "A changed /a/b"}}},

		// the order of the watchers
		{"registration order", "B data /a, C persistent /a, A exist /a, D recursive /a", []step{
			{"set /a", "B changed /a, C changed /a, A changed /a, D changed /a"},
			{"set /a", "C changed /a, D changed /a"}}},
		{"asking again keeps the place", "A persistent /a, B persistent /a, A data /a, A persistent /a", []step{
			{"set /a", "A changed /a, B changed /a"}}},
		{"the znode's own, then its ancestors' upwards", "A recursive /, B recursive /a, C recursive /a/b, D data /a/b, E recursive /a", []step{
			{"set /a/b", "C changed /a/b, D changed /a/b, B changed /a/b, E changed /a/b, A changed /a/b"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			s.watch(test.watches)
			for i, step := range test.steps {
				if got := s.do(step.op); got != step.want {
					t.Fatalf("step %d, %s:\ngot  %q\nwant %q", i, step.op, got, step.want)
				}
			}
		})
	}
}

func TestOneShotComesBackAtTheEnd(t *testing.T) {
	s := newScene(t)
	s.watch("A data /a, B persistent /a")
	s.do("set /a")
	s.watch("A data /a")
	if got, want := s.do("set /a"), "B changed /a, A changed /a"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNoEventOfAnotherType(t *testing.T) {
	for _, typ := range []znode.EventType{-3, 0, 5} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("type %d: no panic", typ)
				}
			}()
			newScene(t).tab.Trigger(znode.Event{Type: typ, Path: "/a"})
		}()
	}
}

func TestNoOtherKind(t *testing.T) {
	for _, kind := range []watch.Kind{0, 6} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("kind %d: no panic", kind)
				}
			}()
			_ = newScene(t).tab.Add(&waiter{}, "/a", kind)
		}()
	}
}

// TestTypes checks the whole matrix of 6.8: which type finds which kind, and what remains after a
// removal.
func TestTypes(t *testing.T) {
	finds := map[string][]watch.Type{
		"data":       {watch.OfData, watch.OfAny},
		"exist":      {watch.OfData, watch.OfAny},
		"children":   {watch.OfChildren, watch.OfAny},
		"persistent": {watch.OfPersistent, watch.OfAny},
		"recursive":  {watch.OfPersistentRecursive, watch.OfAny},
	}
	for kind, types := range finds {
		for typ := watch.Type(-1); typ <= 7; typ++ {
			t.Run(fmt.Sprintf("%s by type %d", kind, typ), func(t *testing.T) {
				s := newScene(t)
				s.watch("A " + kind + " /a, B " + kind + " /a")
				a, want := s.waiter("A"), slices.Contains(types, typ)
				if got := s.tab.Has(a, "/a", typ); got != want {
					t.Errorf("Has: %t", got)
				}
				for _, path := range []string{"/", "/a/b", "/b"} {
					if s.tab.Has(a, path, typ) || s.tab.Remove(a, path, typ) {
						t.Errorf("found at %s", path)
					}
				}
				if s.tab.Has(s.waiter("C"), "/a", typ) || s.tab.Remove(s.waiter("C"), "/a", typ) {
					t.Error("found for another watcher")
				}
				if got := s.tab.Remove(a, "/a", typ); got != want {
					t.Errorf("Remove: %t", got)
				}
				s.sound()
				if s.tab.Has(a, "/a", watch.OfAny) == want {
					t.Errorf("after Remove: %t", want)
				}
				if s.tab.Remove(a, "/a", typ) {
					t.Error("removed twice")
				}
				if !s.tab.Has(s.waiter("B"), "/a", types[0]) {
					t.Error("removed another watcher's")
				}
				if len(s.log) > 0 {
					t.Errorf("notified: %q", s.log)
				}
			})
		}
	}
}

func TestRemoveLeavesOtherKinds(t *testing.T) {
	const all = "A data /a, A children /a, A persistent /a, A recursive /a"
	every := []watch.Type{watch.OfChildren, watch.OfData, watch.OfPersistent, watch.OfPersistentRecursive}
	for _, typ := range every {
		s := newScene(t)
		s.watch(all)
		if !s.tab.Remove(s.waiter("A"), "/a", typ) {
			t.Errorf("type %d: nothing removed", typ)
		}
		s.sound()
		for _, other := range every {
			if got := s.tab.Has(s.waiter("A"), "/a", other); got != (other != typ) {
				t.Errorf("removed type %d: type %d is %t", typ, other, got)
			}
		}
	}
	s := newScene(t)
	s.watch(all)
	if !s.tab.Remove(s.waiter("A"), "/a", watch.OfAny) || s.tab.Len() != 0 {
		t.Errorf("%d watches left by Any", s.tab.Len())
	}
}

func TestTypeValid(t *testing.T) {
	for typ := watch.Type(-2); typ < 9; typ++ {
		if got, want := typ.Valid(), typ >= 1 && typ <= 5; got != want {
			t.Errorf("type %d: %t", typ, got)
		}
	}
}

// TestACL: a watcher without READ is not notified, and its one-shot watches are consumed.
func TestACL(t *testing.T) {
	alice := znode.Identity{Scheme: znode.SchemeDigest, ID: "alice:x"}
	bob := znode.Identity{Scheme: znode.SchemeDigest, ID: "bob:x"}
	tests := []struct {
		name string
		acl  znode.ACL
		want string
	}{
		{"none", nil, "A N S B"},
		{"open", znode.OpenACL, "A N S B"},
		{"alice reads", znode.ACL{{Perms: znode.Read, Identity: alice}}, "A S"},
		{"alice does all but read", znode.ACL{{Perms: znode.All &^ znode.Read, Identity: alice}}, "S"},
		{"all write, bob reads", znode.ACL{{Perms: znode.Write, Identity: znode.OpenACL[0].Identity}, {Perms: znode.All, Identity: bob}}, "S B"},
	}
	events := []struct {
		typ  znode.EventType
		kind string
	}{
		{znode.NodeCreated, "exist"}, {znode.NodeDataChanged, "data"},
		{znode.NodeDeleted, "data"}, {znode.NodeDeleted, "children"}, {znode.NodeChildrenChanged, "children"},
	}
	for _, test := range tests {
		for _, event := range events {
			t.Run(fmt.Sprintf("%s, %s by %s", test.name, event.typ, event.kind), func(t *testing.T) {
				s := newScene(t)
				s.waiter("A").ids = []znode.Identity{alice}
				s.waiter("B").ids = []znode.Identity{{Scheme: znode.SchemeIP, ID: "127.0.0.1"}, bob}
				s.waiter("S").ids = []znode.Identity{znode.Super}
				for _, name := range []string{"A", "N", "S", "B"} {
					s.watch(name + " " + event.kind + " /a")
				}
				e := znode.Event{Type: event.typ, Path: "/a", ACL: test.acl}
				s.tab.Trigger(e)
				var told []string
				for _, line := range s.log {
					told = append(told, line[:1])
				}
				if got := strings.Join(told, " "); got != test.want {
					t.Errorf("told %q, want %q", got, test.want)
				}
				s.sound()
				if s.tab.Len() != 0 {
					t.Errorf("%d watches left", s.tab.Len())
				}
			})
		}
	}

	t.Run("suppressed in the data table, suppressed in the child table", func(t *testing.T) {
		s := newScene(t)
		s.watch("A data /a, A children /a")
		s.tab.Trigger(znode.Event{Type: znode.NodeDeleted, Path: "/a", ACL: tests[2].acl})
		if len(s.log) != 0 || s.tab.Len() != 0 {
			t.Errorf("told %q, %d watches left", s.log, s.tab.Len())
		}
	})
	t.Run("recursive", func(t *testing.T) {
		s := newScene(t)
		s.watch("A recursive /")
		s.tab.Trigger(znode.Event{Type: znode.NodeDataChanged, Path: "/a", ACL: tests[2].acl})
		s.tab.Trigger(znode.Event{Type: znode.NodeDataChanged, Path: "/b", ACL: znode.OpenACL})
		if got := strings.Join(s.log, ", "); got != "A changed /b" {
			t.Errorf("told %q", got)
		}
	})
}

// TestEventArrivesWhole: Notify gets the event that Trigger got.
func TestEventArrivesWhole(t *testing.T) {
	var got znode.Event
	tab := watch.New(watch.DefaultConfig(), 0)
	if err := tab.Add(taker{&got}, "/a", watch.Data); err != nil {
		t.Fatal(err)
	}
	want := znode.Event{Type: znode.NodeDataChanged, Path: "/a", Zxid: 7, ACL: znode.OpenACL}
	tab.Trigger(want)
	if got.Type != want.Type || got.Path != want.Path || got.Zxid != want.Zxid || !got.ACL.Equal(want.ACL) {
		t.Errorf("got %+v", got)
	}
}

type taker struct{ e *znode.Event }

func (w taker) Notify(e znode.Event)         { *w.e = e }
func (w taker) Identities() []znode.Identity { return nil }
func (w taker) Closed() bool                 { return false }

func TestDrop(t *testing.T) {
	s := newScene(t)
	s.watch("A data /a, B data /a, A children /a, A persistent /b, A recursive /, B recursive /, C persistent /a")
	s.waiter("A").closed.Store(true)
	s.tab.Drop(s.waiter("A"))
	s.sound()
	if got, want := s.do("delete /a"), "B deleted /a, C deleted /a"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if s.tab.Has(s.waiter("A"), "/b", watch.OfAny) {
		t.Error("still there")
	}
	s.tab.Drop(s.waiter("A")) // a second time
	s.tab.Drop(s.waiter("D")) // never there
	s.sound()
}

func TestDropOfMany(t *testing.T) {
	s := newScene(t)
	const n = 3*watch.DropBatch + 1
	for i := range n {
		path := fmt.Sprintf("/%d", i)
		for _, kind := range []watch.Kind{watch.Data, watch.Children} {
			mustAdd(t, s.tab, s.waiter("A"), path, kind)
		}
		if i%1000 == 0 {
			mustAdd(t, s.tab, s.waiter("B"), path, watch.Data)
		}
	}
	s.waiter("A").closed.Store(true)
	s.tab.Drop(s.waiter("A"))
	s.sound()
	if got := s.tab.Len(); got != (n+999)/1000 {
		t.Errorf("%d watches left", got)
	}
}

// TestAddAfterDrop: a connection that ends while it executes a read leaves no watch behind
// (ZOOKEEPER-1382).
func TestAddAfterDrop(t *testing.T) {
	s := newScene(t)
	s.waiter("A").closed.Store(true)
	s.tab.Drop(s.waiter("A"))
	s.watch("A data /a, A persistent /b")
	if s.tab.Len() != 0 || len(s.tab.ByWatcher()) != 0 {
		t.Errorf("%d watches", s.tab.Len())
	}
}

// TestPathIsCopied: the caller may reuse the bytes of the path.
func TestPathIsCopied(t *testing.T) {
	s := newScene(t)
	buf := []byte("/abc")
	path := unsafe.String(&buf[0], len(buf))
	for _, kind := range []watch.Kind{watch.Data, watch.Children, watch.PersistentRecursive} {
		if err := s.tab.Add(s.waiter("A"), path, kind); err != nil {
			t.Fatal(err)
		}
	}
	copy(buf, "/xyz")
	s.sound()
	if got := s.tab.ByPath()[0].Path; got != "/abc" {
		t.Errorf("path is %s", got)
	}
	if got, want := s.do("create /abc/d"), "A created /abc/d, A children /abc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCounts(t *testing.T) {
	s := newScene(t)
	expect := func(length int, sum watch.Summary, byPath, byWatcher string) {
		t.Helper()
		if got := s.tab.Len(); got != length {
			t.Errorf("Len %d, want %d", got, length)
		}
		if got := s.tab.Summary(); got != sum {
			t.Errorf("Summary %v, want %v", got, sum)
		}
		var paths, watchers []string
		for _, p := range s.tab.ByPath() {
			line := p.Path
			for _, w := range p.Watchers {
				line += " " + w.(*waiter).name
			}
			paths = append(paths, line)
		}
		for _, w := range s.tab.ByWatcher() {
			watchers = append(watchers, w.Watcher.(*waiter).name+" "+strings.Join(w.Paths, " "))
		}
		if got := strings.Join(paths, ", "); got != byPath {
			t.Errorf("by path %q, want %q", got, byPath)
		}
		if got := strings.Join(watchers, ", "); got != byWatcher {
			t.Errorf("by watcher %q, want %q", got, byWatcher)
		}
	}
	expect(0, watch.Summary{}, "", "")
	s.watch("B data /b, B data /a, A exist /b, C children /c")
	expect(4, watch.Summary{Watchers: 2, Paths: 2, Watches: 3}, "/a B, /b B A", "B /a /b, A /b")
	s.watch("C persistent /c, A recursive /b, A persistent /b")
	expect(6, watch.Summary{Watchers: 3, Paths: 3, Watches: 4}, "/a B, /b B A, /c C", "B /a /b, A /b, C /c")
	s.do("set /b")
	expect(5, watch.Summary{Watchers: 3, Paths: 3, Watches: 3}, "/a B, /b A, /c C", "B /a, A /b, C /c")
	s.do("set /a")
	expect(4, watch.Summary{Watchers: 2, Paths: 2, Watches: 2}, "/b A, /c C", "A /b, C /c")
	s.watch("B data /z")
	expect(5, watch.Summary{Watchers: 3, Paths: 3, Watches: 3}, "/b A, /c C, /z B", "B /z, A /b, C /c")
	s.tab.Drop(s.waiter("A"))
	expect(3, watch.Summary{Watchers: 2, Paths: 2, Watches: 2}, "/c C, /z B", "B /z, C /c")
}

func TestLimits(t *testing.T) {
	limited := func(max, each int) *scene {
		s := newScene(t)
		s.tab = watch.New(watch.Config{MaxWatches: max, MaxWatchesPerWatcher: each}, 0)
		return s
	}
	refused := func(s *scene, name, path string, kind watch.Kind) {
		t.Helper()
		before := s.tab.Len()
		if err := s.tab.Add(s.waiter(name), path, kind); !errors.Is(err, znode.ErrLimit) {
			t.Errorf("%s at %s: %v", name, path, err)
		}
		s.sound()
		if s.tab.Len() != before || s.tab.Has(s.waiter(name), path, watch.OfAny) {
			t.Errorf("%s at %s: something was added", name, path)
		}
	}

	t.Run("of a watcher", func(t *testing.T) {
		s := limited(100, 3)
		s.watch("A data /a, A children /a, B data /b")
		refused(s, "A", "/b", watch.Persistent) // needs two
		s.watch("A recursive /c")
		refused(s, "A", "/b", watch.Data)
		s.watch("A data /a, A persistent /a, A persistent /a, B data /c")
		s.tab.Remove(s.waiter("A"), "/c", watch.OfAny)
		s.watch("A data /b")
	})
	t.Run("of the table", func(t *testing.T) {
		s := limited(3, 3)
		s.watch("A data /a, B data /a")
		refused(s, "C", "/c", watch.Persistent)
		s.watch("C data /a")
		refused(s, "D", "/a", watch.Data)
		refused(s, "A", "/b", watch.Children)
		s.watch("A recursive /a") // another kind at an existing entry takes no room
		s.do("set /a")
		s.watch("D persistent /b")
	})
	long := func(name string, size int) string { return "/" + strings.Repeat(name, size-1) }
	t.Run("of the paths of a watcher", func(t *testing.T) {
		s := limited(100, 3)
		s.watch("A data " + long("a", 2*watch.MeanPathBytes) + ", A children " + long("b", watch.MeanPathBytes-2))
		refused(s, "A", "/ab", watch.Data)
		refused(s, "A", "/", watch.Persistent) // needs two
		s.watch("A data /a, B persistent " + long("a", watch.MeanPathBytes))
		s.tab.Remove(s.waiter("A"), "/a", watch.OfAny)
		refused(s, "A", "/ab", watch.Data)
		s.do("set " + long("a", 2*watch.MeanPathBytes))
		s.watch("A data /ab")
	})
	t.Run("of all paths", func(t *testing.T) {
		s := limited(3, 3)
		s.watch("A data " + long("a", 2*watch.MeanPathBytes) + ", B data " + long("a", watch.MeanPathBytes))
		refused(s, "C", "/", watch.Data)
		s.tab.Drop(s.waiter("A"))
		s.watch("C data " + long("a", 2*watch.MeanPathBytes))
		refused(s, "A", "/", watch.Data)
	})
	t.Run("a watcher over its limit at once", func(t *testing.T) {
		s := limited(3, 1)
		refused(s, "A", "/a", watch.Persistent)
		s.watch("A data /a")
	})
}

func TestConfig(t *testing.T) {
	if err := watch.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []watch.Config{{}, {MaxWatches: 1}, {MaxWatchesPerWatcher: 1}, {MaxWatches: 5, MaxWatchesPerWatcher: 6},
		{MaxWatches: -1, MaxWatchesPerWatcher: -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// TestCrowd: many watchers with many watches each, found by an index that is made and dissolved.
func TestCrowd(t *testing.T) {
	s := newScene(t)
	const n = 60
	name := func(i int) string { return fmt.Sprintf("w%02d", i) }
	path := func(i int) string { return fmt.Sprintf("/p%02d", i) }
	all := func(kind watch.Kind) {
		for w := range n {
			for p := range n {
				mustAdd(t, s.tab, s.waiter(name(w)), path(p), kind)
			}
		}
	}
	all(watch.Data)
	if s.tab.Len() != n*n || watch.Crowds(s.tab) == 0 {
		t.Fatalf("%d watches, %d crowds", s.tab.Len(), watch.Crowds(s.tab))
	}
	all(watch.Exist) // all exist already
	if s.tab.Len() != n*n {
		t.Fatalf("%d watches", s.tab.Len())
	}
	var want []string
	for w := range n {
		want = append(want, name(w)+" changed "+path(7))
	}
	if got := s.do("set " + path(7)); got != strings.Join(want, ", ") {
		t.Errorf("got %q", got)
	}
	if s.tab.Len() != n*(n-1) {
		t.Errorf("%d watches", s.tab.Len())
	}
	for w := range n - 5 {
		s.who[name(w)].closed.Store(true)
		s.tab.Drop(s.who[name(w)])
		s.sound()
	}
	if s.tab.Len() != 5*(n-1) || watch.Crowds(s.tab) != 0 {
		t.Errorf("%d watches, %d crowds", s.tab.Len(), watch.Crowds(s.tab))
	}
}

// lockedWaiter counts its events under its own lock, as a connection's outbox would.
type lockedWaiter struct {
	closed atomic.Bool
	mu     sync.Mutex
	got    int
}

func (w *lockedWaiter) Notify(znode.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got++
}

func (w *lockedWaiter) Identities() []znode.Identity {
	w.mu.Lock()
	defer w.mu.Unlock()
	return nil
}
func (w *lockedWaiter) Closed() bool { return w.closed.Load() }

// TestTogether runs Views, Triggers, endings and counts concurrently, with a state lock like the
// replica's, and expects that nothing is left behind.
func TestTogether(t *testing.T) {
	tab := watch.New(watch.DefaultConfig(), 0)
	var state sync.RWMutex
	secret := znode.ACL{{Perms: znode.Read, Identity: znode.Identity{Scheme: znode.SchemeDigest, ID: "x:y"}}}
	var readers, others sync.WaitGroup
	stop := make(chan struct{})
	for r := range 4 {
		readers.Go(func() {
			for i := range 300 {
				w := &lockedWaiter{}
				var ending sync.WaitGroup
				ending.Go(func() { // the connection breaks at any moment
					if i%3 == 0 {
						w.closed.Store(true)
						tab.Drop(w)
					}
				})
				for k := range 20 {
					state.RLock()
					path := fmt.Sprintf("/p%d/q%d", k%3, (r+i+k)%5)
					kind := []watch.Kind{watch.Data, watch.Children, watch.Persistent, watch.PersistentRecursive}[(i+k)%4]
					if err := tab.Add(w, path, kind); err != nil {
						t.Error(err)
					}
					if k%5 == 0 {
						tab.Remove(w, path, watch.OfAny)
					}
					state.RUnlock()
				}
				ending.Wait()
				w.closed.Store(true)
				tab.Drop(w)
			}
		})
	}
	others.Go(func() {
		types := []znode.EventType{znode.NodeCreated, znode.NodeDeleted, znode.NodeDataChanged, znode.NodeChildrenChanged}
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			e := znode.Event{Type: types[i%4], Path: fmt.Sprintf("/p%d/q%d", i%3, i%5)}
			if i%2 == 0 {
				e.ACL = secret
			}
			state.Lock()
			tab.Trigger(e)
			state.Unlock()
		}
	})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			tab.Len()
			tab.Summary()
			tab.ByPath()
			tab.ByWatcher()
			if err := watch.CheckLinks(tab); err != nil {
				t.Error(err)
				return
			}
		}
	})
	readers.Wait()
	close(stop)
	others.Wait()
	if err := watch.CheckLinks(tab); err != nil {
		t.Error(err)
	}
	if tab.Len() != 0 || tab.Summary() != (watch.Summary{}) {
		t.Errorf("%d watches left: %+v", tab.Len(), tab.Summary())
	}
}

// passing is a watcher that ends with its first event.
type passing struct{ ended atomic.Bool }

func (w *passing) Notify(znode.Event)           { w.ended.Store(true) }
func (w *passing) Identities() []znode.Identity { return nil }
func (w *passing) Closed() bool                 { return w.ended.Load() }

// TestWhoEndsWithItsLastEventIsForgotten: nothing remains of many watchers that come and go.
func TestWhoEndsWithItsLastEventIsForgotten(t *testing.T) {
	tab := watch.New(watch.DefaultConfig(), 0)
	for _, kind := range []watch.Kind{watch.Data, watch.Children} {
		for range 20 {
			mustAdd(t, tab, &passing{}, "/a", kind)
		}
	}
	tab.Trigger(znode.Event{Type: znode.NodeDataChanged, Path: "/b"})
	if watch.Owners(tab) != 40 {
		t.Errorf("%d watchers", watch.Owners(tab))
	}
	more := &passing{}
	mustAdd(t, tab, more, "/a", watch.Data)
	mustAdd(t, tab, more, "/b", watch.Data)
	tab.Trigger(znode.Event{Type: znode.NodeDeleted, Path: "/a"})
	if tab.Len() != 1 || watch.Owners(tab) != 1 {
		t.Errorf("%d watches, %d watchers", tab.Len(), watch.Owners(tab))
	}
	tab.Drop(more)
	if tab.Len() != 0 || watch.Owners(tab) != 0 {
		t.Errorf("%d watches, %d watchers", tab.Len(), watch.Owners(tab))
	}
	if err := watch.CheckLinks(tab); err != nil {
		t.Error(err)
	}
}
