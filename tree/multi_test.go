package tree_test

import (
	"fmt"
	"slices"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// TestFailedMulti: nothing changes but the zxid, there are no events, and the result names the op that failed.
func TestFailedMulti(t *testing.T) {
	t.Parallel()
	fail := remove("/nowhere", -1)
	ttl, container := createMode("/t", znode.PersistentTTL), createMode("/c", znode.Container)
	for _, c := range []struct {
		name   string
		ops    []tree.Op
		failed int
		want   znode.Code
	}{
		{"the first op", []tree.Op{fail, create("/x")}, 0, znode.ErrNoNode},
		{"the last op", []tree.Op{create("/x"), create("/y"), create("/n")}, 2, znode.ErrNodeExists},
		{"created", []tree.Op{create("/x"), create("/x/y"), fail}, 2, znode.ErrNoNode},
		{"created in a leaf that never had children", []tree.Op{create("/n/leaf/x"), fail}, 1, znode.ErrNoNode},
		{"deleted", []tree.Op{remove("/n/leaf", -1), remove("/n", -1), fail}, 2, znode.ErrNoNode},
		{"deleted and created", []tree.Op{remove("/n/leaf", -1), create("/n/leaf"), create("/n/leaf/x"), fail}, 3, znode.ErrNoNode},
		{"created and deleted", []tree.Op{create("/x"), remove("/x", -1), fail}, 2, znode.ErrNoNode},
		{"many come and go", []tree.Op{
			remove("/n/leaf", -1), create("/a"), create("/b"), remove("/a", -1), create("/c"), remove("/n", -1), create("/d"), set("/d", "x", 0),
			remove("/d", 1), remove("/b", -1), create("/n"), fail}, 11, znode.ErrNoNode},
		{"set", []tree.Op{set("/n", "1", 0), set("/n", "22", 1), set("/n", "3", 0)}, 2, znode.ErrBadVersion},
		{"ACL changed", []tree.Op{setACL("/n", 0, znode.ReadACL...), set("/n", "x", -1)}, 1, znode.ErrNoAuth},
		{"ACL of the parent changed", []tree.Op{setACL("/n", 0, znode.ReadACL...), remove("/n/leaf", -1)}, 1, znode.ErrNoAuth},
		{"check", []tree.Op{create("/x"), check("/x", 0), check("/n", 3)}, 2, znode.ErrBadVersion},
		{"sequence", []tree.Op{createMode("/n/s", znode.PersistentSequential), fail}, 1, znode.ErrNoNode},
		{"ephemerals", []tree.Op{createMode("/x", znode.Ephemeral), remove("/e", -1), createMode("/y", znode.EphemeralSequential), fail}, 3, znode.ErrNoNode},
		{"the only ephemeral", []tree.Op{remove("/e", -1), fail}, 1, znode.ErrNoNode},
		{"container and TTL", []tree.Op{container, ttl, remove("/c", -1), create("/t/x"), fail}, 4, znode.ErrNoNode},
		{"flags", []tree.Op{flagged(create("/x/y/z"), tree.Parents), removeAll("/n", 9), flagged(set("/w", "w", -1), tree.OrCreate), fail}, 3, znode.ErrNoNode},
		{"session op", []tree.Op{create("/x"), {Kind: tree.KindSession}}, 1, znode.ErrUnimplemented},
		{"multi in a multi", []tree.Op{create("/x"), {Kind: tree.KindMulti}}, 1, znode.ErrUnimplemented},
		{"unknown kind", []tree.Op{create("/x"), {Kind: 99}}, 1, znode.ErrUnimplemented},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.session(5)
			b.as = 5
			b.must(create("/n"))
			b.must(create("/n/leaf"))
			b.must(createMode("/e", znode.Ephemeral))
			counts, frozen := b.tree.Counts(), b.tree.Freeze()
			r, events := b.multi(c.ops...)
			if r.Code != c.want || r.Op != c.failed || r.Ops != nil || len(events) != 0 {
				t.Errorf("%+v, %d events, want %v of op %d", r, len(events), c.want, c.failed)
			}
			after := b.tree.Freeze()
			if withoutCounters(dump(after)) != withoutCounters(dump(frozen)) {
				t.Errorf("changed from\n%s\nto\n%s", dump(frozen), dump(after))
			}
			if after.Digest() != frozen.Digest() || b.tree.Counts() != counts {
				t.Errorf("digest %v was %v; counts %+v were %+v", after.Digest(), frozen.Digest(), b.tree.Counts(), counts)
			}
			if z := b.tree.Counters().Zxid; z != frozen.Counters().Zxid+1 || r.Zxid != z {
				t.Errorf("zxid %v after %v", z, frozen.Counters().Zxid)
			}
			// The state is still sound: the same changes again, this time to the end.
			if r, _ := b.multi(create("/n/x"), remove("/n/x", -1), remove("/n/leaf", -1), remove("/n", -1), remove("/e", -1)); r.Code != znode.OK {
				t.Errorf("afterwards op %d: %v", r.Op, r.Code)
			}
		})
	}
}

// TestMulti: one zxid and one stamp, a result for each op, and later ops see earlier ones.
func TestMulti(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.session(5)
	b.as = 5
	b.must(create("/old"))
	r, events := b.multi(
		create("/a"), create("/a/b"), set("/a", "2", 0), check("/a", 1), createMode("/a/s", znode.EphemeralSequential),
		setACL("/a/b", 0, znode.ReadACL...), remove("/old", 0), create("/old"), remove("/a/b", 0),
	)
	if r.Code != znode.OK || len(r.Ops) != 9 {
		t.Fatalf("%+v", r)
	}
	if z := b.tree.Counters().Zxid; r.Zxid != z || r.Zxid != znode.MakeZxid(1, 3) {
		t.Errorf("zxid %v", r.Zxid)
	}
	var paths []string
	for _, o := range r.Ops {
		paths = append(paths, o.Path)
		if o.Zxid != r.Zxid || o.Code != znode.OK {
			t.Errorf("%+v", o)
		}
	}
	if want := []string{"/a", "/a/b", "/a", "", "/a/s0000000001", "/a/b", "", "/old", ""}; !slices.Equal(paths, want) {
		t.Errorf("paths %q", paths)
	}
	if s := r.Ops[2].Stat; s.Version != 1 || s.NumChildren != 1 || s.DataLength != 1 {
		t.Errorf("the set in the middle saw %+v", s)
	}
	want := znode.Stat{Czxid: r.Zxid, Mzxid: r.Zxid, Pzxid: r.Zxid, CtimeMS: b.now, MtimeMS: b.now, Version: 1, Cversion: 3, DataLength: 1, NumChildren: 1}
	if s := b.stat("/a"); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	wantEvents := []string{
		"created /a", "children /", "created /a/b", "children /a", "changed /a", "created /a/s0000000001", "children /a",
		"deleted /old", "children /", "created /old", "children /", "deleted /a/b", "children /a",
	}
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%v %s", e.Type, e.Path))
	}
	if !slices.Equal(got, wantEvents) {
		t.Errorf("events\n got %q\nwant %q", got, wantEvents)
	}
}

func TestEmptyMulti(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, session := range []int64{0, 77} { // no op, so nothing that could be refused for a closed session
		r, events := b.apply(tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Session: session})
		if r.Code != znode.OK || r.Ops == nil || len(r.Ops) != 0 || len(events) != 0 || r.Zxid != b.tree.Counters().Zxid {
			t.Errorf("%+v", r)
		}
	}
	if z := b.tree.Counters().Zxid; z != znode.MakeZxid(1, 2) {
		t.Errorf("zxid %v", z)
	}
}

// TestMultiOfClosedSession: even that is reported as the first op's result.
func TestMultiOfClosedSession(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.as = 9
	if r, _ := b.multi(check("/", -1), create("/a")); r.Code != znode.ErrSessionExpired || r.Op != 0 {
		t.Errorf("%+v", r)
	}
	b.gone("/a")
}
