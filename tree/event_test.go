package tree_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// TestEvents is section 6.3: which events each op causes, for which paths, in which order, and the
// ACL by which watches decide who may see them.
func TestEvents(t *testing.T) {
	t.Parallel()
	seen := func(b *bench) int64 { return int64(b.stat("/p/t").Mzxid) }
	op := func(op tree.Op) func(*bench) tree.Txn { return func(*bench) tree.Txn { return tree.Txn{Op: op} } }
	const parent, node = "ip:10.0.0.0/8:cdrwa", "digest:u1:hash1=:cdrwa"
	for _, c := range []struct {
		name string
		txn  func(*bench) tree.Txn
		want []string
	}{
		{"create", op(createACL("/p/new", entry(znode.Read, "world", "anyone"))), []string{`created /p/new v0 "d" world:anyone:r`, "children /p " + parent}},
		{"create below the root", op(create("/new")), []string{`created /new v0 "d" world:anyone:cdrwa`, "children / world:anyone:cdrwa"}},
		{"sequential", op(createMode("/p/s", znode.PersistentSequential)), []string{`created /p/s0000000002 v0 "d" world:anyone:cdrwa`, "children /p " + parent}},
		{"delete", op(remove("/p/n", -1)), []string{"deleted /p/n " + node, "children /p " + parent}},
		{"set", op(set("/p/n", "x", -1)), []string{`changed /p/n v1 "x" ` + node}},
		{"set of the same bytes", op(set("/p/n", "d", -1)), []string{`changed /p/n v1 "d" ` + node}},
		{"set ACL", op(setACL("/p/n", -1, znode.OpenACL...)), nil},
		{"check", op(check("/p/n", -1)), nil},
		{"refused", op(create("/p/n")), nil},
		{"settings", op(tree.Op{Kind: tree.KindSettings}), nil},
		{"create with parents", op(flagged(create("/p/x/y"), tree.Parents)), []string{
			`created /p/x v0 "" ` + parent, "children /p " + parent, `created /p/x/y v0 "d" world:anyone:cdrwa`, "children /p/x " + parent}},
		{"set that creates", op(flagged(set("/p/x", "x", -1), tree.OrCreate)), []string{`created /p/x v0 "x" world:anyone:cdrwa`, "children /p " + parent}},
		{"set that could have created", op(flagged(set("/p/n", "x", -1), tree.OrCreate)), []string{`changed /p/n v1 "x" ` + node}},
		{"recursive delete", op(removeAll("/p", 9)), []string{
			"deleted /p/t world:anyone:cdrwa", "children /p " + parent, "deleted /p/n " + node, "children /p " + parent,
			"deleted /p " + parent, "children / world:anyone:cdrwa"}},
		{"reap", func(b *bench) tree.Txn {
			return tree.Txn{Op: tree.Op{Kind: tree.KindReap, Path: "/p/t"}, Target: seen(b)}
		}, []string{"deleted /p/t world:anyone:cdrwa", "children /p " + parent}},
		{"new session", func(*bench) tree.Txn { return openTxn(9) }, nil},
		{"end of a session without ephemerals", func(*bench) tree.Txn { return tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: 6} }, []string{"expired 0x6"}},
		{"end of a session", func(*bench) tree.Txn { return tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: 5} }, []string{
			"deleted /e " + node, "children / world:anyone:cdrwa", "expired 0x5"}},
		{"multi", func(*bench) tree.Txn {
			return tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Ops: []tree.Op{
				setACL("/p/n", -1, znode.ReadACL...), check("/p", -1), remove("/p/n", 0), create("/p/n"), set("/p/n", "x", 0)}}
		}, []string{"deleted /p/n world:anyone:r", "children /p " + parent, `created /p/n v0 "d" world:anyone:cdrwa`, "children /p " + parent,
			`changed /p/n v1 "x" world:anyone:cdrwa`}},
		{"failed multi", func(*bench) tree.Txn {
			return tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Ops: []tree.Op{create("/p/x"), set("/p/x", "x", 7)}}
		}, nil},
		{"failed op of several changes", op(flagged(createMode("/p/x/y", znode.Ephemeral), tree.Parents)), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.session(5)
			b.session(6)
			b.ids = []znode.Identity{address, user1}
			b.must(createACL("/p", entry(znode.All, "ip", "10.0.0.0/8")))
			b.must(createACL("/p/n", entry(znode.All, "auth", "")))
			b.must(createMode("/p/t", znode.PersistentTTL))
			e := createACL("/e", entry(znode.All, "auth", ""))
			e.Mode = znode.Ephemeral
			b.apply(tree.Txn{Op: e, Session: 5})
			r, events := b.apply(c.txn(b))
			if got := eventTexts(events); !slices.Equal(got, c.want) {
				t.Errorf("%v\n got %q\nwant %q", r.Code, got, c.want)
			}
			for _, e := range events {
				if e.Zxid != r.Zxid {
					t.Errorf("%+v of txn %v", e, r.Zxid)
				}
			}
		})
	}
}

// TestNothingIsKeptOfEvents: a txn with very many events, or with large values, leaves no memory in use. A
// txn that cannot fail half-way writes no undo.
func TestNothingIsKeptOfEvents(t *testing.T) {
	t.Parallel()
	const many = 5000
	for name, end := range map[string]func(b *bench, ops []tree.Op) tree.Txn{
		"recursive delete": func(*bench, []tree.Op) tree.Txn { return tree.Txn{Op: removeAll("/p", many+1)} },
		"end of a session": func(*bench, []tree.Op) tree.Txn { return tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: 5} },
		"multi":            func(_ *bench, ops []tree.Op) tree.Txn { return tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Ops: ops} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.session(5)
			b.must(create("/p"))
			ops := make([]tree.Op, many)
			for i := range ops {
				op := createMode(fmt.Sprintf("/p/n%d", i), znode.Ephemeral)
				if r, _ := b.tree.Apply(1, &tree.Txn{TimeMS: T0, Session: 5, Op: op}); r.Code != znode.OK {
					t.Fatal(r.Code)
				}
				ops[i] = remove(op.Path, -1)
			}
			x := end(b, ops)
			if r, events := b.tree.Apply(1, &x); r.Code != znode.OK || len(events) < 2*many {
				t.Fatalf("%v, %d events", r.Code, len(events))
			}
			if _, undo, _ := b.tree.Kept(); undo > many {
				t.Errorf("room for %d to be undone", undo)
			}
			b.must(create("/x"))
			b.multi(set("/x", "", -1), set("/x", strings.Repeat("x", 1000), -1))
			b.must(set("/x", "", -1))
			if events, undo, data := b.tree.Kept(); events >= many || undo >= many || data != 0 {
				t.Errorf("behind it there is room for %d events and %d to be undone, and %d bytes of data", events, undo, data)
			}
		})
	}
}
