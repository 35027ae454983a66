package watch_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"coord/server/watch"
	"coord/tree/znode"
)

// deaf is a watcher with the lowest possible costs of its own.
type deaf struct{ got int }

func (w *deaf) Notify(znode.Event)           { w.got++ }
func (w *deaf) Identities() []znode.Identity { return nil }
func (w *deaf) Closed() bool                 { return false }

func mustAdd(b testing.TB, tab *watch.Table, w watch.Watcher, path string, kind watch.Kind) {
	if err := tab.Add(w, path, kind); err != nil {
		b.Fatal(err)
	}
}

func deafs(n int) []watch.Watcher {
	all := make([]deaf, n)
	who := make([]watch.Watcher, n)
	for i := range who {
		who[i] = &all[i]
	}
	return who
}

var changed = znode.Event{Type: znode.NodeDataChanged, Path: "/services/web/instances/0000000042", ACL: znode.OpenACL}

func BenchmarkTriggerNobody(b *testing.B) {
	tab := watch.New(watch.DefaultConfig(), 0)
	b.ReportAllocs()
	for b.Loop() {
		tab.Trigger(changed)
	}
}

func BenchmarkTriggerElsewhere(b *testing.B) {
	tab := watch.New(watch.DefaultConfig(), 0)
	w := &deaf{}
	for i := range 100_000 {
		mustAdd(b, tab, w, fmt.Sprintf("/elsewhere/%010d", i), watch.Data)
	}
	b.ReportAllocs()
	for b.Loop() {
		tab.Trigger(changed)
	}
}

func BenchmarkTriggerPersistent(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tab := watch.New(watch.DefaultConfig(), 0)
			for _, w := range deafs(n) {
				mustAdd(b, tab, w, changed.Path, watch.Persistent)
			}
			b.ReportAllocs()
			for b.Loop() {
				tab.Trigger(changed)
			}
		})
	}
}

// BenchmarkAddTrigger is the life of one-shot watches: n watchers add one, one event consumes them.
func BenchmarkAddTrigger(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tab := watch.New(watch.DefaultConfig(), 0)
			who := deafs(n)
			b.ReportAllocs()
			for b.Loop() {
				for _, w := range who {
					mustAdd(b, tab, w, changed.Path, watch.Data)
				}
				tab.Trigger(changed)
			}
		})
	}
}

// BenchmarkTriggerOneShot times the event alone.
func BenchmarkTriggerOneShot(b *testing.B) {
	const n = 10_000
	for _, paths := range []int{1, 40} { // with 40 paths each, there is an index
		b.Run(fmt.Sprintf("%d/of %d paths", n, paths), func(b *testing.B) {
			tab := watch.New(watch.DefaultConfig(), 0)
			who := deafs(n)
			for p := range paths {
				for _, w := range who {
					mustAdd(b, tab, w, fmt.Sprintf("/p%d", p), watch.Data)
				}
			}
			e := znode.Event{Type: znode.NodeDataChanged, Path: "/p0", ACL: znode.OpenACL}
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for _, w := range who {
					mustAdd(b, tab, w, e.Path, watch.Data)
				}
				b.StartTimer()
				tab.Trigger(e)
			}
		})
	}
}

func BenchmarkTriggerDeep(b *testing.B) {
	e := znode.Event{Type: znode.NodeDataChanged, Path: strings.Repeat("/component", 10), ACL: znode.OpenACL}
	for _, test := range []struct {
		name, path string
		kind       watch.Kind
	}{
		{"no recursive", "/other", watch.Data},
		{"recursive elsewhere", "/other", watch.PersistentRecursive},
		{"recursive at the root", "/", watch.PersistentRecursive},
	} {
		b.Run(test.name, func(b *testing.B) {
			tab := watch.New(watch.DefaultConfig(), 0)
			mustAdd(b, tab, &deaf{}, test.path, test.kind)
			b.ReportAllocs()
			for b.Loop() {
				tab.Trigger(e)
			}
		})
	}
	b.Run("recursive at 1000 others", func(b *testing.B) {
		tab := watch.New(watch.DefaultConfig(), 0)
		for i := range 1000 {
			mustAdd(b, tab, &deaf{}, fmt.Sprintf("/other/%d", i), watch.PersistentRecursive)
		}
		for b.Loop() {
			tab.Trigger(e)
		}
	})
}

// BenchmarkDrop is one of 10,000 watchers of the same path that comes and goes.
func BenchmarkDrop(b *testing.B) {
	for _, kind := range []watch.Kind{watch.Data, watch.PersistentRecursive} {
		b.Run(map[watch.Kind]string{watch.Data: "data", watch.PersistentRecursive: "recursive"}[kind], func(b *testing.B) {
			tab := watch.New(watch.DefaultConfig(), 0)
			who := deafs(10_000)
			for _, w := range who {
				mustAdd(b, tab, w, "/a", kind)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				w := who[i*7919%len(who)]
				i++
				tab.Drop(w)
				mustAdd(b, tab, w, "/a", kind)
			}
		})
	}
}

// BenchmarkAddAgain adds watches that exist, with 1,000 watchers at 1,000 paths.
func BenchmarkAddAgain(b *testing.B) {
	tab := watch.New(watch.DefaultConfig(), 0)
	who := deafs(1000)
	paths := make([]string, 1000)
	for p := range paths {
		paths[p] = fmt.Sprintf("/config/%d", p)
		for _, w := range who {
			mustAdd(b, tab, w, paths[p], watch.Data)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		mustAdd(b, tab, who[i*7919%1000], paths[i%1000], watch.Data)
		i++
	}
}

// BenchmarkMemory reports the bytes of heap per watch, including path and watcher.
func BenchmarkMemory(b *testing.B) {
	const n = 100_000
	distinct := make([]string, n)
	for i := range distinct {
		distinct[i] = fmt.Sprintf("/services/web/instances/%010d", i) // 34 bytes
	}
	for _, test := range []struct {
		name     string
		watchers int
		path     func(i int) int // of the i-th watch
	}{
		{"1 watcher, 100000 paths", 1, func(i int) int { return i }},
		{"1000 watchers, 100 paths each, no two the same", 1000, func(i int) int { return i }},
		{"100000 watchers, 1 path", n, func(int) int { return 0 }},
		{"1000 watchers, the same 100 paths", 1000, func(i int) int { return i / 1000 }},
	} {
		b.Run(test.name, func(b *testing.B) {
			who := deafs(test.watchers)
			for b.Loop() {
				before := heap()
				tab := watch.New(watch.DefaultConfig(), 0)
				for i := range n {
					mustAdd(b, tab, who[i%test.watchers], distinct[test.path(i)], watch.Data)
				}
				if tab.Len() != n {
					b.Fatal(tab.Len())
				}
				b.ReportMetric(float64(heap()-before)/n, "B/watch")
				runtime.KeepAlive(tab)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
