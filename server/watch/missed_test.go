package watch_test

import (
	"testing"

	"coord/server/watch"
	"coord/tree/znode"
)

var allKinds = []watch.Kind{watch.Data, watch.Exist, watch.Children, watch.Persistent, watch.PersistentRecursive}

// TestConcernsIsWhatTheTableTells: a client that reads the history by Concerns gets the events that
// the table would have delivered.
func TestConcernsIsWhatTheTableTells(t *testing.T) {
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/ab"}
	for _, kind := range allKinds {
		for _, path := range paths {
			for typ := znode.NodeCreated; typ <= znode.NodeChildrenChanged; typ++ {
				for _, at := range paths {
					tab, w := watch.New(watch.DefaultConfig(), 0), &receiver{}
					if err := tab.Add(w, path, kind); err != nil {
						t.Fatal(err)
					}
					tab.Trigger(znode.Event{Type: typ, Path: at, Zxid: 1})
					if told, does := len(w.events) > 0, kind.Concerns(path, typ, at); told != does {
						t.Errorf("kind %d at %s, %s at %s: told %t, Concerns %t", kind, path, typ, at, told, does)
					}
				}
			}
		}
	}
}

func TestMissed(t *testing.T) {
	const since, negative = 5, ^znode.Zxid(0)
	old, changed, child := znode.Stat{Mzxid: 5, Pzxid: 5}, znode.Stat{Mzxid: 6, Pzxid: 5}, znode.Stat{Mzxid: 5, Pzxid: 6}
	for _, test := range []struct {
		name  string
		since znode.Zxid
		there bool
		stat  znode.Stat
		want  map[watch.Kind]znode.EventType
	}{
		{"not there", since, false, znode.Stat{}, map[watch.Kind]znode.EventType{watch.Data: znode.NodeDeleted, watch.Children: znode.NodeDeleted}},
		{"as it was", since, true, old, map[watch.Kind]znode.EventType{watch.Exist: znode.NodeCreated}},
		{"set since", since, true, changed, map[watch.Kind]znode.EventType{watch.Exist: znode.NodeCreated, watch.Data: znode.NodeDataChanged}},
		{"another child since", since, true, child, map[watch.Kind]znode.EventType{watch.Exist: znode.NodeCreated, watch.Children: znode.NodeChildrenChanged}},
		{"a negative zxid is behind all", negative, true, old, map[watch.Kind]znode.EventType{
			watch.Exist: znode.NodeCreated, watch.Data: znode.NodeDataChanged, watch.Children: znode.NodeChildrenChanged}},
	} {
		for _, kind := range allKinds {
			if got := kind.Missed(test.since, test.there, &test.stat); got != test.want[kind] {
				t.Errorf("%s, kind %d: %v, want %v", test.name, kind, got, test.want[kind])
			}
		}
	}
}
