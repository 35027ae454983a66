package tree_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// T0 is the stamp from which the tests count.
const T0 = int64(1_700_000_000_000)

// bench is a tree with a clock: each txn comes a second after the previous one.
type bench struct {
	*testing.T
	tree *tree.Tree
	term uint64
	now  int64
	ids  []znode.Identity // the caller's
	as   int64            // the caller's session
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{T: t, tree: tree.New(), term: 1, now: T0}
}

// apply applies a txn and checks that the digest is still that of the state.
func (b *bench) apply(x tree.Txn) (tree.Result, []znode.Event) {
	b.Helper()
	b.now += 1000
	if x.TimeMS == 0 {
		x.TimeMS = b.now
	}
	if x.IDs == nil {
		x.IDs = b.ids
	}
	if x.Session == 0 {
		x.Session = b.as
	}
	r, events := b.tree.Apply(b.term, &x)
	checkDigest(b, b.tree)
	return r, slices.Clone(events)
}

func (b *bench) do(op tree.Op) tree.Result {
	b.Helper()
	r, _ := b.apply(tree.Txn{Op: op})
	return r
}

// must applies an op that must succeed.
func (b *bench) must(op tree.Op) tree.Result {
	b.Helper()
	r := b.do(op)
	if r.Code != znode.OK {
		b.Fatalf("%s: %v", opText(op), r.Code)
	}
	return r
}

// refused applies an op that must fail with want.
func (b *bench) refused(op tree.Op, want znode.Code) tree.Result {
	b.Helper()
	r := b.do(op)
	if r.Code != want {
		b.Errorf("%s: code %d, want %d", opText(op), r.Code, want)
	}
	return r
}

func (b *bench) multi(ops ...tree.Op) (tree.Result, []znode.Event) {
	b.Helper()
	return b.apply(tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Ops: ops})
}

// session creates a session.
func (b *bench) session(id int64) {
	b.Helper()
	if r, _ := b.apply(openTxn(id)); r.Code != znode.OK {
		b.Fatalf("session %d: %v", id, r.Code)
	}
}

func (b *bench) close(id int64) (tree.Result, []znode.Event) {
	b.Helper()
	return b.apply(tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id})
}

func (b *bench) reap(path string, seen znode.Zxid) tree.Result {
	b.Helper()
	r, _ := b.apply(tree.Txn{Op: tree.Op{Kind: tree.KindReap, Path: path}, Target: int64(seen)})
	return r
}

func (b *bench) settings(s tree.Settings) {
	b.Helper()
	b.apply(tree.Txn{Op: tree.Op{Kind: tree.KindSettings}, Settings: s})
}

// get reads a znode that must exist, ignoring ACLs.
func (b *bench) get(path string) tree.Znode {
	b.Helper()
	z, code := b.tree.Get(path, nil, 0)
	if code != znode.OK {
		b.Fatalf("get %s: %v", path, code)
	}
	return z
}

func (b *bench) stat(path string) znode.Stat {
	b.Helper()
	return b.get(path).Stat
}

func (b *bench) gone(paths ...string) {
	b.Helper()
	for _, p := range paths {
		if _, code := b.tree.Get(p, nil, 0); code != znode.ErrNoNode {
			b.Errorf("%s: %v, want that it is gone", p, code)
		}
	}
}

// Short forms of the ops.

func create(path string) tree.Op { return createMode(path, znode.Persistent) }

func createMode(path string, m znode.Mode) tree.Op {
	op := tree.Op{Kind: tree.KindCreate, Path: path, Mode: m, Data: []byte("d"), ACL: znode.OpenACL}
	if m.TTL() {
		op.TTLMS = 5000
	}
	return op
}

func createACL(path string, a ...znode.ACLEntry) tree.Op {
	op := create(path)
	op.ACL = a
	return op
}

func createData(path, data string) tree.Op {
	op := create(path)
	op.Data = []byte(data)
	return op
}

func remove(path string, version int32) tree.Op {
	return tree.Op{Kind: tree.KindDelete, Path: path, Version: version}
}

func removeAll(path string, limit int32) tree.Op {
	return tree.Op{Kind: tree.KindDelete, Path: path, Version: -1, Flags: tree.Recursive, Limit: limit}
}

func set(path, data string, version int32) tree.Op {
	return tree.Op{Kind: tree.KindSetData, Path: path, Data: []byte(data), Version: version}
}

func setACL(path string, version int32, a ...znode.ACLEntry) tree.Op {
	return tree.Op{Kind: tree.KindSetACL, Path: path, ACL: a, Version: version}
}

func check(path string, version int32) tree.Op {
	return tree.Op{Kind: tree.KindCheck, Path: path, Version: version}
}

func flagged(op tree.Op, f tree.Flags) tree.Op {
	op.Flags |= f
	return op
}

func openTxn(id int64) tree.Txn {
	return tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id, TimeoutMS: 4000, Password: []byte("0123456789abcdef")}
}

func entry(p znode.Perms, scheme, id string) znode.ACLEntry {
	return znode.ACLEntry{Perms: p, Identity: znode.Identity{Scheme: scheme, ID: id}}
}

var kindNames = map[tree.Kind]string{
	tree.KindCreate: "create", tree.KindDelete: "delete", tree.KindSetData: "set", tree.KindSetACL: "setACL", tree.KindCheck: "check",
	tree.KindMulti: "multi", tree.KindReap: "reap", tree.KindSession: "session", tree.KindClose: "close", tree.KindSettings: "settings",
}

func opText(op tree.Op) string {
	return fmt.Sprintf("%s %q mode %d flags %d version %d data %q acl %v ttl %d limit %d",
		kindNames[op.Kind], op.Path, op.Mode, op.Flags, op.Version, op.Data, op.ACL, op.TTLMS, op.Limit)
}

func eventTexts(events []znode.Event) []string {
	out := make([]string, len(events))
	for i, e := range events {
		switch e.Type {
		case znode.SessionEnded:
			out[i] = fmt.Sprintf("%v %#x", e.Type, e.Session)
		case znode.NodeCreated, znode.NodeDataChanged:
			out[i] = fmt.Sprintf("%v %s v%d %q %v", e.Type, e.Path, e.Version, e.Data, e.ACL)
		default:
			out[i] = fmt.Sprintf("%v %s %v", e.Type, e.Path, e.ACL)
		}
	}
	return out
}

// nodeText is everything about a znode on one line.
func nodeText(n *tree.Node) string {
	null := ""
	if n.Data == nil {
		null = " null"
	}
	return fmt.Sprintf("%q %q%s %v c%v m%v p%v ct%d mt%d v%d a%d n%d o%x", n.Path, n.Data, null, n.ACL,
		n.Czxid, n.Mzxid, n.Pzxid, n.CtimeMS, n.MtimeMS, n.Version, n.Aversion, n.Created, uint64(n.Owner))
}

// dump prints a frozen state, with one line for each znode, session and counter.
func dump(f *tree.Frozen) string {
	var b strings.Builder
	for n := range seq(f.Nodes, "/") {
		b.WriteString(nodeText(n) + "\n")
	}
	f.Sessions(func(s *tree.Session) bool {
		fmt.Fprintf(&b, "session %v\n", *s)
		return true
	})
	fmt.Fprintf(&b, "%+v\n", f.Counters())
	return b.String()
}

func (m *model) dump() string {
	var b strings.Builder
	for _, p := range m.paths() {
		n := m.nodes[p]
		b.WriteString(nodeText(&n) + "\n")
	}
	for _, id := range sortedKeys(m.sessions) {
		fmt.Fprintf(&b, "session %v\n", m.sessions[id])
	}
	fmt.Fprintf(&b, "%+v\n", m.counters)
	return b.String()
}

func sortedKeys[V any](m map[int64]V) []int64 {
	var keys []int64
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// seq makes Frozen.Nodes usable in a range loop.
func seq(walk func(string, func(*tree.Node) bool), top string) func(func(*tree.Node) bool) {
	return func(yield func(*tree.Node) bool) { walk(top, yield) }
}

// nodesOf copies the znodes of a frozen state.
func nodesOf(f *tree.Frozen) []tree.Node {
	var out []tree.Node
	for n := range seq(f.Nodes, "/") {
		c := *n
		c.Data = slices.Clone(n.Data)
		out = append(out, c)
	}
	return out
}

// rebuild makes a new tree from a frozen one, as reading a snapshot does.
func rebuild(f *tree.Frozen, mask uint64) (*tree.Tree, error) {
	b := tree.NewBuilder()
	b.HashMask(mask)
	var err error
	f.Nodes("/", func(n *tree.Node) bool {
		err = b.Add(n)
		return err == nil
	})
	f.Sessions(func(s *tree.Session) bool {
		if err == nil {
			err = b.AddSession(*s)
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return b.Tree(f.Counters())
}

// failer is what testing.TB and rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// checkDigest compares the digest that the tree has kept with the digest of its content.
func checkDigest(t failer, live *tree.Tree) {
	t.Helper()
	f := live.Freeze()
	if f.Digest() != live.Digest() {
		t.Fatalf("the digest of a freeze is %v, of the tree %v", f.Digest(), live.Digest())
	}
	again, err := rebuild(f, ^uint64(0))
	if err != nil {
		t.Fatalf("rebuild: %v", err)
	}
	if again.Digest() != live.Digest() {
		t.Fatalf("digest %v, recomputed %v; state:\n%s", live.Digest(), again.Digest(), dump(f))
	}
	if again.Counts() != live.Counts() {
		t.Fatalf("counts %+v, recomputed %+v", live.Counts(), again.Counts())
	}
}

// reapables returns all candidates, reading a few at a time.
func reapables(t *tree.Tree) (all []tree.Reapable) {
	for from, first := uint32(0), true; first || from != 0; first = false {
		var some []tree.Reapable
		some, from = t.Reapables(from, 2)
		all = append(all, some...)
	}
	return all
}
