package tree_test

import (
	"fmt"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// changes says how a stat changed: "+1" for a number, "now" for a zxid or time of the txn.
func changes(before, after znode.Stat, zxid znode.Zxid, now int64) string {
	var out []string
	note := func(name string, a, b, current int64) {
		switch {
		case a == b:
		case b == current:
			out = append(out, name+" now")
		default:
			out = append(out, fmt.Sprintf("%s%+d", name, b-a))
		}
	}
	const never = -1 << 60
	note("czxid", int64(before.Czxid), int64(after.Czxid), int64(zxid))
	note("mzxid", int64(before.Mzxid), int64(after.Mzxid), int64(zxid))
	note("pzxid", int64(before.Pzxid), int64(after.Pzxid), int64(zxid))
	note("ctime", before.CtimeMS, after.CtimeMS, now)
	note("mtime", before.MtimeMS, after.MtimeMS, now)
	note("version", int64(before.Version), int64(after.Version), never)
	note("cversion", int64(before.Cversion), int64(after.Cversion), never)
	note("aversion", int64(before.Aversion), int64(after.Aversion), never)
	note("owner", before.EphemeralOwner, after.EphemeralOwner, never)
	note("length", int64(before.DataLength), int64(after.DataLength), never)
	note("children", int64(before.NumChildren), int64(after.NumChildren), never)
	return strings.Join(out, " ")
}

// TestStatChanges is section 4.2 of the reference: which op changes which field.
func TestStatChanges(t *testing.T) {
	t.Parallel()
	const nothing = ""
	for _, c := range []struct {
		name         string
		op           tree.Op
		node, parent string // the changes of /p/n and of /p
	}{
		{"create of a child", create("/p/n/new"), "pzxid now cversion+1 children+1", nothing},
		{"create of a sibling", create("/p/new"), nothing, "pzxid now cversion+1 children+1"},
		{"create of an ephemeral child", createMode("/p/n/new", znode.Ephemeral), "pzxid now cversion+1 children+1", nothing},
		{"create of a sequential child", createMode("/p/n/new", znode.PersistentSequential), "pzxid now cversion+1 children+1", nothing},
		{"create of a grandchild", create("/p/n/child/new"), nothing, nothing},
		{"delete of a child", remove("/p/n/leaf", -1), "pzxid now cversion+1 children-1", nothing},
		{"delete of a grandchild", remove("/p/n/child/leaf", -1), nothing, nothing},
		{"set", set("/p/n", "longer", -1), "mzxid now mtime now version+1 length+4", nothing},
		{"set of the same bytes", set("/p/n", "nn", 0), "mzxid now mtime now version+1", nothing},
		{"set of null", tree.Op{Kind: tree.KindSetData, Path: "/p/n", Version: -1}, "mzxid now mtime now version+1 length-2", nothing},
		{"set of a child", set("/p/n/child", "longer", -1), nothing, nothing},
		{"set ACL", setACL("/p/n", -1, znode.ReadACL...), "aversion+1", nothing},
		{"set the same ACL", setACL("/p/n", 0, znode.OpenACL...), "aversion+1", nothing},
		{"set ACL of a child", setACL("/p/n/child", -1, znode.ReadACL...), nothing, nothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.session(5)
			b.as = 5
			for _, op := range []tree.Op{create("/p"), createData("/p/n", "nn"), create("/p/n/child"), create("/p/n/child/leaf"), create("/p/n/leaf")} {
				b.must(op)
			}
			node, parent := b.stat("/p/n"), b.stat("/p")
			r := b.must(c.op)
			if got := changes(node, b.stat("/p/n"), r.Zxid, b.now); got != c.node {
				t.Errorf("the znode: %q, want %q", got, c.node)
			}
			if got := changes(parent, b.stat("/p"), r.Zxid, b.now); got != c.parent {
				t.Errorf("its parent: %q, want %q", got, c.parent)
			}
			if c.op.Kind != tree.KindDelete && r.Stat != b.stat(r.Path) {
				t.Errorf("result %+v, then read %+v", r.Stat, b.stat(r.Path))
			}
		})
	}
}

func TestStatOfNewZnodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		mode  znode.Mode
		owner int64 // as clients see it
	}{
		{"persistent", znode.Persistent, 0},
		{"ephemeral", znode.Ephemeral, 5},
		{"persistent sequential", znode.PersistentSequential, 0},
		{"ephemeral sequential", znode.EphemeralSequential, 5},
		{"container", znode.Container, 0},
		{"TTL", znode.PersistentTTL, 0},
		{"sequential TTL", znode.PersistentSequentialTTL, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.session(5)
			b.as = 5
			r := b.must(createMode("/n", c.mode))
			want := znode.Stat{Czxid: r.Zxid, Mzxid: r.Zxid, Pzxid: r.Zxid, CtimeMS: b.now, MtimeMS: b.now, EphemeralOwner: c.owner, DataLength: 1}
			if r.Stat != want || b.stat(r.Path) != want {
				t.Errorf("%+v, read %+v, want %+v", r.Stat, b.stat(r.Path), want)
			}
		})
	}
}

// TestFreshStats pins the stats on a new server.
func TestFreshStats(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for path, want := range map[string]znode.Stat{
		"/":                 {Cversion: -1, NumChildren: 1},
		"/zookeeper":        {Cversion: -2, NumChildren: 2},
		"/zookeeper/quota":  {},
		"/zookeeper/config": {Aversion: -1},
	} {
		z := b.get(path)
		if z.Stat != want || z.Null || z.Data != "" {
			t.Errorf("%s: %+v, want %+v and empty data", path, z, want)
		}
		if wantACL := map[bool]znode.ACL{true: znode.ReadACL, false: znode.OpenACL}[path == znode.ConfigPath]; !z.ACL.Equal(wantACL) {
			t.Errorf("%s: ACL %v", path, z.ACL)
		}
	}
	if b.tree.Counts() != (tree.Counts{Znodes: 4, DataBytes: int64(len("//zookeeper/zookeeper/quota/zookeeper/config"))}) {
		t.Errorf("counts %+v", b.tree.Counts())
	}
	if b.tree.Counters() != (tree.Counters{Settings: tree.DefaultSettings}) {
		t.Errorf("counters %+v", b.tree.Counters())
	}
}

// TestTwoCversions: clients see one that changes with creates and deletes; the stored one, which
// names sequential znodes, changes with creates only.
func TestTwoCversions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.must(create("/p"))
	for i, step := range []struct {
		op       tree.Op
		cversion int32
	}{
		{create("/p/a"), 1}, {create("/p/b"), 2}, {remove("/p/a", -1), 3}, {remove("/p/b", -1), 4}, {create("/p/a"), 5},
	} {
		b.must(step.op)
		if got := b.stat("/p").Cversion; got != step.cversion {
			t.Errorf("step %d: cversion %d, want %d", i, got, step.cversion)
		}
	}
	if r := b.must(createMode("/p/s", znode.PersistentSequential)); r.Path != "/p/s0000000003" {
		t.Errorf("the fourth child is %s", r.Path)
	}
}

// TestCompareAndSet: the meaning of an expected version, for each op that has one.
func TestCompareAndSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prepare []tree.Op
		op      func(version int32) tree.Op
	}{
		{"set", []tree.Op{set("/n", "1", -1), set("/n", "2", -1)}, func(v int32) tree.Op { return set("/n", "x", v) }},
		{"delete", []tree.Op{set("/n", "1", -1), set("/n", "2", -1)}, func(v int32) tree.Op { return remove("/n", v) }},
		{"check", []tree.Op{set("/n", "1", -1), set("/n", "2", -1)}, func(v int32) tree.Op { return check("/n", v) }},
		{"set ACL", []tree.Op{setACL("/n", -1, znode.OpenACL...), setACL("/n", -1, znode.OpenACL...)}, func(v int32) tree.Op { return setACL("/n", v, znode.OpenACL...) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, v := range []struct {
				version int32
				good    bool
			}{{2, true}, {-1, true}, {0, false}, {1, false}, {3, false}, {-2, false}, {-1 << 31, false}} {
				b := newBench(t)
				b.must(create("/n"))
				for _, op := range c.prepare {
					b.must(op)
				}
				before := b.get("/n")
				if v.good {
					b.must(c.op(v.version))
					continue
				}
				if r := b.refused(c.op(v.version), znode.ErrBadVersion); r.Have != 2 {
					t.Errorf("version %d: refused, but says there is version %d", v.version, r.Have)
				}
				if after := b.get("/n"); after.Stat != before.Stat || after.Data != before.Data {
					t.Errorf("version %d: refused, but %+v became %+v", v.version, before, after)
				}
			}
		})
	}
}

// TestVersionsWrap: a version goes from the largest int32 to the smallest.
func TestVersionsWrap(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	nodes := worn()
	for i := range nodes {
		if nodes[i].Path == "/last" {
			nodes[i].Aversion = 1<<31 - 2
		}
	}
	b.tree = buildOf(nodes, tree.Counters{Settings: tree.DefaultSettings}, ^uint64(0))
	for _, want := range []int32{1<<31 - 1, -1 << 31} {
		if s := b.must(set("/last", "x", b.stat("/last").Version)).Stat; s.Version != want {
			t.Errorf("version %d, want %d", s.Version, want)
		}
		if s := b.must(setACL("/last", b.stat("/last").Aversion, znode.OpenACL...)).Stat; s.Aversion != want {
			t.Errorf("aversion %d, want %d", s.Aversion, want)
		}
	}
	b.must(set("/minus", "x", -2))
	if v := b.stat("/minus").Version; v != -1 {
		t.Fatalf("version %d", v)
	}
	b.refused(set("/minus", "x", 0), znode.ErrBadVersion)
	b.must(set("/minus", "x", -1))
	b.must(remove("/minus", 0))
}

func TestNullAndEmptyData(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, c := range []struct {
		data []byte
		null bool
	}{{nil, true}, {[]byte{}, false}, {nil, true}, {[]byte("x"), false}} {
		op := create("/n")
		op.Data = c.data
		b.must(op)
		if z := b.get("/n"); z.Null != c.null || z.Data != string(c.data) || int(z.Stat.DataLength) != len(c.data) {
			t.Errorf("created with %#v: %+v", c.data, z)
		}
		b.must(tree.Op{Kind: tree.KindSetData, Path: "/n", Data: c.data, Version: -1})
		if z := b.get("/n"); z.Null != c.null || z.Data != string(c.data) {
			t.Errorf("set to %#v: %+v", c.data, z)
		}
		b.must(remove("/n", -1))
	}
}

// TestLargeData: data larger than the buffer that Apply keeps, and small data again.
func TestLargeData(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, n := range []int{1 << 20, 3, 64 << 10, 64<<10 + 1, 0} {
		data := strings.Repeat("x", n)
		b.must(flagged(set("/n", data, -1), tree.OrCreate))
		b.must(createMode("/s", znode.PersistentSequential))
		if z := b.get("/n"); z.Data != data || int(z.Stat.DataLength) != n {
			t.Errorf("%d bytes became %d", n, len(z.Data))
		}
	}
}

// TestApplyCopies: the caller may change its memory afterwards.
func TestApplyCopies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	op := create("/n")
	op.Data = []byte("data")
	op.ACL = znode.ACL{entry(znode.All, "ip", "10.0.0.0/8"), entry(znode.Read, "world", "anyone")}
	b.must(op)
	copy(op.Data, "xxxx")
	op.ACL[0].Perms, op.ACL[1].ID = 0, "nobody"
	if z := b.get("/n"); z.Data != "data" || z.ACL.String() != "ip:10.0.0.0/8:cdrwa,world:anyone:r" {
		t.Errorf("%+v", z)
	}
}
