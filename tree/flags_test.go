package tree_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

func TestParents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ids = []znode.Identity{user1}
	mine := entry(znode.All, "digest", user1.ID)
	b.must(createACL("/p", mine))
	op := flagged(createData("/p/a/b/c", "data"), tree.Parents)
	r, events := b.apply(tree.Txn{Op: op})
	if r.Code != znode.OK || r.Path != "/p/a/b/c" {
		t.Fatalf("%+v", r)
	}
	for _, path := range []string{"/p/a", "/p/a/b"} {
		z := b.get(path)
		want := znode.Stat{Czxid: r.Zxid, Mzxid: r.Zxid, Pzxid: r.Zxid, CtimeMS: b.now, MtimeMS: b.now, Cversion: 1, NumChildren: 1}
		if z.Stat != want || z.Null || z.Data != "" || !z.ACL.Equal(znode.ACL{mine}) || z.Owner != (znode.Owner{}) {
			t.Errorf("%s: %+v", path, z)
		}
	}
	if z := b.get("/p/a/b/c"); !z.ACL.Equal(znode.OpenACL) || z.Data != "data" {
		t.Errorf("the znode itself: %+v", z)
	}
	if got, want := eventPaths(events), "created /p/a, children /p, created /p/a/b, children /p/a, created /p/a/b/c, children /p/a/b"; got != want {
		t.Errorf("events %s", got)
	}
	b.refused(op, znode.ErrNodeExists)
	b.must(flagged(create("/p/a/b/d"), tree.Parents)) // no parent is missing
	for _, c := range []struct {
		name string
		op   tree.Op
		ids  []znode.Identity
		want znode.Code
	}{
		{"no CREATE on the last that is there", create("/p/x/y"), []znode.Identity{user2}, znode.ErrNoAuth},
		{"bad name at the end", create("/p/x/\x01"), nil, znode.ErrBadArguments},
		{"bad name on the way", create("/p/x//y"), nil, znode.ErrBadArguments},
		{"slash at the end", create("/p/x/y/"), nil, znode.ErrBadArguments},
		{"too long", create("/p/x/" + strings.Repeat("n", 4092)), nil, znode.ErrBadArguments},
		{"too long with its number", createMode("/p/x/"+strings.Repeat("n", 4082), znode.PersistentSequential), nil, znode.ErrBadArguments},
		{"bad ACL", createACL("/p/x/y"), nil, znode.ErrInvalidACL},
		{"as nobody", create("/p/x/y"), []znode.Identity{}, znode.ErrNoAuth},
		{"as nobody, far down", create("/p/x/y/z/w"), []znode.Identity{}, znode.ErrNoAuth},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := dump(b.tree.Freeze())
			ids := c.ids
			if ids == nil {
				ids = b.ids
			}
			if r, events := b.apply(tree.Txn{Op: flagged(c.op, tree.Parents), IDs: ids}); r.Code != c.want || len(events) != 0 {
				t.Errorf("%v, want %v; %d events", r.Code, c.want, len(events))
			}
			if after := dump(b.tree.Freeze()); withoutCounters(after) != withoutCounters(before) {
				t.Errorf("changed to\n%s", after)
			}
		})
	}
	if r := b.must(flagged(createMode("/p/s/", znode.PersistentSequential), tree.Parents)); r.Path != "/p/s/0000000000" {
		t.Errorf("sequential: %s", r.Path)
	}
	if b.must(flagged(createMode("/p/t/t", znode.PersistentTTL), tree.Parents)); b.get("/p/t").Owner != (znode.Owner{}) {
		t.Errorf("a parent made on the way is %+v", b.get("/p/t").Owner)
	}
	deep := strings.Repeat("/d", znode.MaxPathBytes/2)
	b.must(flagged(create(deep), tree.Parents))
	b.must(removeAll("/d", znode.MaxPathBytes/2))
}

func eventPaths(events []znode.Event) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%v %s", e.Type, e.Path))
	}
	return strings.Join(out, ", ")
}

func TestOrCreate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	both := tree.OrCreate | tree.Parents
	if r := b.must(flagged(set("/n", "one", -1), tree.OrCreate)); r.Path != "/n" || r.Stat.Version != 0 || r.Stat.Czxid != r.Zxid {
		t.Errorf("created: %+v", r)
	}
	if z := b.get("/n"); z.Data != "one" || !z.ACL.Equal(znode.OpenACL) || z.Owner != (znode.Owner{}) {
		t.Errorf("%+v", z)
	}
	if r := b.must(flagged(set("/n", "two", -1), tree.OrCreate)); r.Stat.Version != 1 {
		t.Errorf("set: %+v", r)
	}
	b.refused(flagged(set("/missing", "x", 0), tree.OrCreate), znode.ErrNoNode) // a version expects an existing znode
	b.refused(flagged(set("/x/y", "x", -1), tree.OrCreate), znode.ErrNoNode)
	b.refused(flagged(set("/x/y", "x", -1), tree.Parents), znode.ErrNoNode)
	b.refused(flagged(set("/x/", "x", -1), both), znode.ErrBadArguments)
	b.must(flagged(set("/x/y/z", "x", -1), both))
	b.get("/x/y")
	if r := b.must(flagged(tree.Op{Kind: tree.KindSetData, Path: "/null", Version: -1}, tree.OrCreate)); !b.get(r.Path).Null {
		t.Error("null data became empty")
	}
}

func TestRecursiveDelete(t *testing.T) {
	t.Parallel()
	plant := func(t *testing.T) *bench {
		b := newBench(t)
		b.session(5)
		b.as = 5
		for _, path := range []string{"/r", "/r/a", "/r/a/1", "/r/a/2", "/r/b", "/r/c", "/r/c/1", "/r/c/1/x", "/rest"} {
			b.must(create(path))
		}
		b.must(createMode("/r/e", znode.Ephemeral))
		b.must(createMode("/r/k", znode.Container))
		return b // /r and nine below it
	}
	t.Run("whole", func(t *testing.T) {
		b := plant(t)
		r, events := b.apply(tree.Txn{Op: removeAll("/r", 10)})
		if r.Code != znode.OK {
			t.Fatal(r.Code)
		}
		if c := b.tree.Counts(); c.Znodes != 5 || c.Ephemerals != 0 || c.Reapable != 0 {
			t.Errorf("left: %+v", c)
		}
		deleted := map[string]bool{}
		for i := 0; i < len(events); i += 2 {
			path := events[i].Path
			if events[i].Type != znode.NodeDeleted || events[i+1].Type != znode.NodeChildrenChanged || events[i+1].Path != parentOf(path) {
				t.Errorf("events %v", events[i:i+2])
			}
			if deleted[parentOf(path)] {
				t.Errorf("%s went after its parent", path)
			}
			deleted[path] = true
		}
		if len(deleted) != 10 || events[len(events)-2].Path != "/r" {
			t.Errorf("events %s", eventPaths(events))
		}
		if s := b.stat("/"); s.Pzxid != r.Zxid || s.NumChildren != 2 || s.Cversion != 2 {
			t.Errorf("the parent: %+v", s)
		}
	})
	for _, c := range []struct {
		name    string
		prepare []tree.Op
		op      tree.Op
		want    znode.Code
	}{
		{"one more than the limit", nil, removeAll("/r", 9), znode.ErrLimit},
		{"no limit given", nil, removeAll("/r", 0), znode.ErrLimit},
		{"negative limit", nil, removeAll("/r", -1), znode.ErrLimit},
		{"without the flag", nil, remove("/r", -1), znode.ErrNotEmpty},
		{"another version", nil, tree.Op{Kind: tree.KindDelete, Path: "/r", Version: 1, Flags: tree.Recursive, Limit: 99}, znode.ErrBadVersion},
		{"no DELETE at the top", []tree.Op{setACL("/r", -1, entry(znode.All&^znode.Delete, "world", "anyone"))}, removeAll("/r", 99), znode.ErrNoAuth},
		{"no DELETE deep inside", []tree.Op{setACL("/r/c/1", -1, znode.ReadACL...)}, removeAll("/r", 99), znode.ErrNoAuth},
		{"no DELETE on the parent", []tree.Op{setACL("/", -1, znode.ReadACL...)}, removeAll("/r", 99), znode.ErrNoAuth},
		{"the root", nil, removeAll("/", 99), znode.ErrBadArguments},
		{"zookeeper", nil, removeAll("/zookeeper", 99), znode.ErrBadArguments},
		{"quota", nil, removeAll("/zookeeper/quota", 99), znode.ErrBadArguments},
		{"config", nil, removeAll("/zookeeper/config", 99), znode.ErrBadArguments},
		{"missing", nil, removeAll("/r/missing", 99), znode.ErrNoNode},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := plant(t)
			for _, op := range c.prepare {
				b.must(op)
			}
			before := dump(b.tree.Freeze())
			if r, events := b.apply(tree.Txn{Op: c.op}); r.Code != c.want || len(events) != 0 {
				t.Errorf("%v, want %v; %d events", r.Code, c.want, len(events))
			}
			if after := dump(b.tree.Freeze()); withoutCounters(after) != withoutCounters(before) {
				t.Errorf("changed to\n%s", after)
			}
		})
	}
	t.Run("no DELETE on a leaf is no matter", func(t *testing.T) {
		b := plant(t)
		b.must(setACL("/r/b", -1, znode.ReadACL...))
		b.must(removeAll("/r", 10))
	})
	t.Run("a leaf", func(t *testing.T) {
		b := plant(t)
		b.must(removeAll("/r/b", 1))
		b.gone("/r/b")
	})
	t.Run("below the system's znodes", func(t *testing.T) {
		b := plant(t)
		b.must(create("/zookeeper/quota/a"))
		b.must(create("/zookeeper/quota/a/b"))
		b.must(removeAll("/zookeeper/quota/a", 2))
		b.gone("/zookeeper/quota/a")
	})
	t.Run("many", func(t *testing.T) {
		b := newBench(t)
		b.must(create("/m"))
		var ops []tree.Op
		for i := range 3 * tree.PieceMax {
			ops = append(ops, create(fmt.Sprintf("/m/%04d", i)))
		}
		b.multi(ops...)
		b.must(removeAll("/m", int32(len(ops)+1)))
		if c := b.tree.Counts(); c.Znodes != 4 {
			t.Errorf("%+v", c)
		}
	})
}

// TestRecursiveDeleteInMulti: a recursive delete is undone too.
func TestRecursiveDeleteInMulti(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var paths []string
	for i := range 40 {
		path := fmt.Sprintf("/r%d", i)
		if i > 0 {
			path = paths[i/3] + path
		}
		paths = append(paths, path)
		b.must(create(path))
	}
	before := dump(b.tree.Freeze())
	if r, _ := b.multi(removeAll("/r0", 99), create("/r0"), create("/r0/new"), remove("/r0", 7)); r.Op != 3 || r.Code != znode.ErrBadVersion {
		t.Errorf("%+v", r)
	}
	if after := dump(b.tree.Freeze()); withoutCounters(after) != withoutCounters(before) {
		t.Errorf("changed to\n%s", after)
	}
	slices.Sort(paths)
	for _, path := range paths {
		b.must(set(path, "still there", 0))
	}
}
