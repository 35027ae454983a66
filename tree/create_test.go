package tree_test

import (
	"math"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

func TestSequentialNames(t *testing.T) {
	t.Parallel()
	seq := func(path string) tree.Op { return createMode(path, znode.PersistentSequential) }
	for _, c := range []struct {
		name  string
		steps []tree.Op // the path of the last one is checked
		want  string
	}{
		{"first", []tree.Op{seq("/p/n-")}, "/p/n-0000000000"},
		{"second", []tree.Op{seq("/p/n-"), seq("/p/n-")}, "/p/n-0000000001"},
		{"shared by all prefixes", []tree.Op{seq("/p/a"), seq("/p/b"), seq("/p/a")}, "/p/a0000000002"},
		{"plain creates count", []tree.Op{create("/p/x"), create("/p/y"), seq("/p/n-")}, "/p/n-0000000002"},
		{"refused creates do not", []tree.Op{create("/p/x"), create("/p/x"), seq("/p/n-")}, "/p/n-0000000001"},
		{"deletes do not decrease", []tree.Op{create("/p/x"), remove("/p/x", -1), seq("/p/n-")}, "/p/n-0000000001"},
		{"grandchildren do not count", []tree.Op{create("/p/x"), create("/p/x/y"), create("/p/x/z"), seq("/p/n-")}, "/p/n-0000000001"},
		{"digits only", []tree.Op{seq("/p/")}, "/p/0000000000"},
		{"digits only at the root", []tree.Op{seq("/")}, "/0000000001"},
		{"dots become a name", []tree.Op{seq("/p/..")}, "/p/..0000000000"},
		{"name that looks like a number", []tree.Op{seq("/p/7")}, "/p/70000000000"},
		{"ephemeral", []tree.Op{seq("/p/a"), createMode("/p/e", znode.EphemeralSequential)}, "/p/e0000000001"},
		{"TTL", []tree.Op{seq("/p/a"), createMode("/p/t", znode.PersistentSequentialTTL)}, "/p/t0000000001"},
		{"a new life starts at 0", []tree.Op{seq("/p/a"), remove("/p/a0000000000", -1), remove("/p", -1), create("/p"), seq("/p/a")}, "/p/a0000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.session(5)
			b.as = 5
			b.must(create("/p"))
			var r tree.Result
			for _, op := range c.steps {
				r = b.do(op)
			}
			if r.Code != znode.OK || r.Path != c.want {
				t.Errorf("%s %v, want %s", r.Path, r.Code, c.want)
			}
			b.get(c.want)
		})
	}
}

// TestSequenceEnds: at 2147483647 the counter stays, and the name exists already.
func TestSequenceEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.tree = buildOf(worn(), tree.Counters{Settings: tree.DefaultSettings}, ^uint64(0))
	seq := createMode("/last/n", znode.PersistentSequential)
	for _, want := range []string{"/last/n2147483645", "/last/n2147483646", "/last/n2147483647"} {
		if r := b.must(seq); r.Path != want {
			t.Errorf("%s, want %s", r.Path, want)
		}
	}
	b.refused(seq, znode.ErrNodeExists)
	b.must(createMode("/last/other", znode.PersistentSequential))
	b.must(create("/last/plain"))
	stat, created := b.stat("/last"), int32(math.MaxInt32)
	if want := 2*created - 5; stat.NumChildren != 5 || stat.Cversion != want {
		t.Errorf("%+v, want 5 children and cversion %d", stat, want)
	}
	b.must(remove("/last/n2147483647", -1))
	if r := b.must(seq); r.Path != "/last/n2147483647" {
		t.Errorf("with the name free again: %s", r.Path)
	}
}

// TestSequenceBelowZero: a data folder of ZooKeeper 3.4 may hold a negative counter.
func TestSequenceBelowZero(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	nodes := worn()
	b.tree = buildOf(nodes, tree.Counters{Settings: tree.DefaultSettings}, ^uint64(0))
	for _, want := range []string{"/minus/n-000000002", "/minus/n-000000001", "/minus/n0000000000"} {
		if r := b.must(createMode("/minus/n", znode.PersistentSequential)); r.Path != want {
			t.Errorf("%s, want %s", r.Path, want)
		}
	}
}

func TestSequentialPathLength(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	longest := "/" + strings.Repeat("n", 4085)
	if r := b.must(createMode(longest, znode.PersistentSequential)); len(r.Path) != 4096 {
		t.Errorf("%d bytes", len(r.Path))
	}
	b.refused(createMode(longest+"n", znode.PersistentSequential), znode.ErrBadArguments)
	b.must(create(longest + "0123456789"))
	b.refused(create(longest+"0123456789x"), znode.ErrBadArguments)
}

// TestSequenceInMulti: each op sees the counter as the ops before it left it, and a failed multi does not change it.
func TestSequenceInMulti(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.must(create("/p"))
	seq := createMode("/p/n", znode.PersistentSequential)
	if r, _ := b.multi(seq, seq, remove("/nowhere", -1)); r.Code != znode.ErrNoNode || r.Op != 2 {
		t.Fatalf("%+v", r)
	}
	r, _ := b.multi(seq, create("/p/plain"), seq)
	if r.Code != znode.OK || r.Ops[0].Path != "/p/n0000000000" || r.Ops[2].Path != "/p/n0000000002" {
		t.Errorf("%+v", r)
	}
	if s := b.stat("/p"); s.Cversion != 3 || s.NumChildren != 3 {
		t.Errorf("%+v", s)
	}
}

func TestEphemerals(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.session(5)
	b.refused(createMode("/e", znode.Ephemeral), znode.ErrSessionExpired) // no session
	b.as = 6
	b.refused(createMode("/e", znode.Ephemeral), znode.ErrSessionExpired) // unknown session
	b.as = 5
	b.must(createMode("/e", znode.Ephemeral))
	for _, m := range []znode.Mode{znode.Persistent, znode.Ephemeral, znode.PersistentSequential, znode.Container, znode.PersistentTTL} {
		b.refused(createMode("/e/child", m), znode.ErrNoChildrenForEphemerals)
	}
	b.refused(flagged(create("/e/x/y"), tree.Parents), znode.ErrNoChildrenForEphemerals)
	if s := b.stat("/e"); s.Cversion != 0 || s.NumChildren != 0 {
		t.Errorf("the refusals left %+v", s)
	}
	b.must(createMode("/c", znode.Container))
	b.must(createMode("/c/e", znode.Ephemeral))
	b.must(createMode("/t", znode.PersistentTTL))
	b.must(createMode("/t/e", znode.Ephemeral))
	if c := b.tree.Counts(); c.Ephemerals != 3 || c.Reapable != 2 {
		t.Errorf("%+v", c)
	}
	b.must(remove("/e", 0))
	b.must(create("/e"))
	b.must(create("/e/child"))
	if r, _ := b.close(5); r.Code != znode.OK {
		t.Error(r.Code)
	}
	b.gone("/c/e", "/t/e")
	b.get("/e/child")
	b.get("/c")
	b.get("/t")
}

// TestTTLRange: 1 to 40 bits of milliseconds, if TTLs are allowed at all.
func TestTTLRange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		mode znode.Mode
		ttl  int64
		want znode.Code
	}{
		{"shortest", znode.PersistentTTL, 1, znode.OK},
		{"longest", znode.PersistentSequentialTTL, 1099511627775, znode.OK},
		{"none", znode.PersistentTTL, 0, znode.ErrBadArguments},
		{"negative", znode.PersistentTTL, -1, znode.ErrBadArguments},
		{"too long", znode.PersistentTTL, 1099511627776, znode.ErrBadArguments},
		{"far too long", znode.PersistentSequentialTTL, math.MaxInt64, znode.ErrBadArguments},
		{"ignored without a TTL mode", znode.Persistent, -7, znode.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			op := createMode("/n", c.mode)
			op.TTLMS = c.ttl
			r := b.do(op)
			if r.Code != c.want {
				t.Fatalf("%v, want %v", r.Code, c.want)
			}
			if r.Code == znode.OK && c.mode.TTL() && b.get(r.Path).Owner != (znode.Owner{TTLMS: c.ttl}) {
				t.Errorf("%+v", b.get(r.Path).Owner)
			}
		})
	}
	t.Run("switched off", func(t *testing.T) {
		b := newBench(t)
		b.settings(tree.Settings{})
		b.refused(createMode("/n", znode.PersistentTTL), znode.ErrUnimplemented)
		b.refused(createMode("/n", znode.PersistentSequentialTTL), znode.ErrUnimplemented)
		b.must(createMode("/n", znode.Container))
	})
}

// TestReap: the leader saw a container or TTL znode that was due; it is deleted only if it still is.
func TestReap(t *testing.T) {
	t.Parallel()
	container, ttl := createMode("/n", znode.Container), createMode("/n", znode.PersistentTTL)
	child := func(b *bench) { b.must(create("/n/c")) }
	emptied := func(b *bench) { child(b); b.must(remove("/n/c", -1)) }
	for _, c := range []struct {
		name   string
		create tree.Op
		before func(*bench) // when the leader looks
		after  func(*bench) // when the reap is applied
		want   znode.Code
	}{
		{"used container", container, emptied, nil, znode.OK},
		{"never used container", container, nil, nil, znode.ErrBadVersion},
		{"container with a child", container, child, nil, znode.ErrNotEmpty},
		{"container that got a child", container, emptied, child, znode.ErrNotEmpty},
		{"container used again meanwhile", container, emptied, emptied, znode.ErrBadVersion},
		{"container set meanwhile", container, emptied, func(b *bench) { b.must(set("/n", "x", -1)) }, znode.OK},
		{"container made anew meanwhile", container, emptied, func(b *bench) { b.must(remove("/n", -1)); b.must(container) }, znode.ErrBadVersion},
		{"container deleted meanwhile", container, emptied, func(b *bench) { b.must(remove("/n", -1)) }, znode.ErrNoNode},
		{"container that became persistent", container, emptied, func(b *bench) { b.must(remove("/n", -1)); b.must(create("/n")) }, znode.ErrBadVersion},
		{"TTL, never used", ttl, nil, nil, znode.OK},
		{"TTL, emptied", ttl, emptied, nil, znode.OK},
		{"TTL with a child", ttl, nil, child, znode.ErrNotEmpty},
		{"TTL set meanwhile", ttl, nil, func(b *bench) { b.must(set("/n", "d", -1)) }, znode.ErrBadVersion},
		{"TTL with a child that came and went", ttl, nil, emptied, znode.OK},
		{"TTL with another ACL meanwhile", ttl, nil, func(b *bench) { b.must(setACL("/n", -1, znode.ReadACL...)) }, znode.OK},
		{"persistent", create("/n"), emptied, nil, znode.ErrBadVersion},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.must(c.create)
			if c.before != nil {
				c.before(b)
			}
			seen := b.stat("/n").Mzxid
			if b.get("/n").Owner.Container {
				seen = b.stat("/n").Pzxid
			}
			due := 0
			for _, r := range reapables(b.tree) {
				due++
				if want := (tree.Reapable{Path: "/n", Seen: seen, TTLMS: c.create.TTLMS}); r != want {
					t.Errorf("candidate %+v, want %+v", r, want)
				}
			}
			if c.after != nil {
				c.after(b)
			}
			if r := b.reap("/n", seen); r.Code != c.want {
				t.Errorf("%v, want %v", r.Code, c.want)
			}
			if c.want == znode.OK {
				b.gone("/n")
				if due != 1 {
					t.Errorf("reaped, but a candidate %d times", due)
				}
			}
		})
	}
	t.Run("needs no permission", func(t *testing.T) {
		b := newBench(t)
		op := ttl
		op.ACL = znode.ReadACL
		seen := b.must(op).Zxid
		b.must(setACL("/", -1, znode.ReadACL...))
		if r := b.reap("/n", seen); r.Code != znode.OK {
			t.Error(r.Code)
		}
	})
	t.Run("stops when told", func(t *testing.T) {
		b := newBench(t)
		b.must(createMode("/a", znode.PersistentTTL))
		b.must(createMode("/b", znode.PersistentTTL))
		n := 0
		for range reapables(b.tree) {
			n++
			break
		}
		if n != 1 {
			t.Errorf("%d candidates", n)
		}
	})
}
