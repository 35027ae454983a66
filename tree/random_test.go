package tree_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coord/tree"
	"coord/tree/znode"
)

// TestRandom applies random txns to the tree and to the model and compares everything that can be
// observed: results, events, state, reads. It also checks that a replay of the log gives the same,
// that a freeze does not change, and that a tree rebuilt from a freeze behaves the same from there on.
func TestRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { runRandom(t, math.MaxUint64) })
}

// TestRandomWithCollisions does the same while most paths share a hash.
func TestRandomWithCollisions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { runRandom(t, 3) })
}

// worn is the state with which the random txns begin: znodes whose counters are near their limits, and a quota.
func worn() []tree.Node {
	n := func(path string) tree.Node { return tree.Node{Path: path, Data: []byte{}, ACL: znode.OpenACL} }
	c := n(znode.ConfigPath)
	c.ACL, c.Aversion = znode.ReadACL, -1
	last := n("/last")
	last.Created, last.Version, last.Aversion = math.MaxInt32-2, math.MaxInt32-1, -2
	below := n("/minus")
	below.Created, below.Version = -2, -2
	limits, stats := n("/zookeeper/quota/a/zookeeper_limits"), n("/zookeeper/quota/a/zookeeper_stats")
	limits.Data = []byte("count=-1,bytes=-1=;byteHardLimit=30;countHardLimit=5")
	stats.Data = []byte("count=1,bytes=0")
	return []tree.Node{
		n("/"), n("/a"), last, below, n(znode.SystemPath), c, n(znode.QuotaPath), n("/zookeeper/quota/a"), limits, stats,
	}
}

func buildOf(nodes []tree.Node, c tree.Counters, mask uint64) *tree.Tree {
	b := tree.NewBuilder()
	b.HashMask(mask)
	for i := range nodes {
		if err := b.Add(&nodes[i]); err != nil {
			panic(err)
		}
	}
	t, err := b.Tree(c)
	if err != nil {
		panic(err)
	}
	return t
}

// outcome is the outcome of a txn.
type outcome struct {
	result tree.Result
	events []znode.Event
	digest tree.Digest
}

// kept is a freeze with what it contained when it was made, and what another goroutine read from it
// while the tree changed.
type kept struct {
	frozen *tree.Frozen
	was    string
	seen   chan string
}

type random struct {
	*rapid.T
	live    *tree.Tree
	model   *model
	mask    uint64
	term    uint64
	now     int64
	encoder tree.Encoder
	batches [][]byte
	terms   []uint64
	history []outcome
	kept    []kept
}

func runRandom(t *rapid.T, mask uint64) {
	start := tree.Counters{Settings: tree.DefaultSettings}
	if rapid.Bool().Draw(t, "near the counter's end") {
		start.Zxid = znode.MakeZxid(1, math.MaxUint32-uint32(rapid.IntRange(0, 30).Draw(t, "left")))
	}
	r := &random{T: t, live: buildOf(worn(), start, mask), model: load(worn(), nil, start), mask: mask, term: 1, now: T0}
	t.Repeat(map[string]func(*rapid.T){
		"burst":   r.on(r.burst),
		"burst2":  r.on(r.burst),
		"burst3":  r.on(r.burst),
		"freeze":  r.on(r.freeze),
		"rebuild": r.on(r.rebuild),
		"read":    r.on(r.read),
		"":        func(t *rapid.T) { r.T = t; r.compare() },
	})
	r.T = t
	for i, k := range r.kept {
		if now := dump(k.frozen); now != k.was {
			t.Fatalf("freeze %d changed:\n%s\nwas:\n%s", i, now, k.was)
		}
		if seen := <-k.seen; seen != k.was {
			t.Fatalf("another goroutine saw in freeze %d:\n%s\nwas:\n%s", i, seen, k.was)
		}
	}
	r.replay(start)
}

func (r *random) on(action func()) func(*rapid.T) {
	return func(t *rapid.T) {
		r.T = t
		action()
	}
}

// burst applies some txns with one stamp, as a batch of the log.
func (r *random) burst() {
	if rapid.IntRange(0, 20).Draw(r.T, "new term") == 0 {
		r.term++
	}
	r.now += int64(rapid.IntRange(-2, 1000).Draw(r.T, "time passes"))
	for range rapid.IntRange(1, 8).Draw(r.T, "txns") {
		x := r.txn()
		x.TimeMS = r.now
		x.Seq = uint64(len(r.history))
		r.encoder.Add(x)
		got, events := r.live.Apply(r.term, x)
		want, wantEvents := r.model.apply(r.term, x)
		if !reflect.DeepEqual(got, want) {
			r.Fatalf("%s\n got %+v\nwant %+v", txnText(x), got, want)
		}
		if g, w := eventTexts(events), eventTexts(wantEvents); !slices.Equal(g, w) {
			r.Fatalf("%s: events\n got %v\nwant %v", txnText(x), g, w)
		}
		for _, e := range events {
			if e.Zxid != got.Zxid {
				r.Fatalf("%s: event %+v of the txn %v", txnText(x), e, got.Zxid)
			}
		}
		r.history = append(r.history, outcome{got, append([]znode.Event{}, events...), r.live.Digest()})
	}
	r.batches = append(r.batches, r.encoder.AppendBatch(nil, r.now))
	r.terms = append(r.terms, r.term)
}

func (r *random) freeze() {
	k := kept{frozen: r.live.Freeze(), seen: make(chan string, 1)}
	k.was = dump(k.frozen)
	go func() { k.seen <- dump(k.frozen) }()
	r.kept = append(r.kept, k)
}

func (r *random) rebuild() {
	again, err := rebuild(r.live.Freeze(), r.mask)
	if err != nil {
		r.Fatalf("rebuild: %v", err)
	}
	if again.Digest() != r.live.Digest() {
		r.Fatalf("digest %v, rebuilt %v", r.live.Digest(), again.Digest())
	}
	r.live = again
}

// replay applies the log from the start, to a tree with another hash.
func (r *random) replay(start tree.Counters) {
	again := buildOf(worn(), start, 0xff)
	n := 0
	for i, batch := range r.batches {
		if err := tree.Decode(batch, func(x *tree.Txn) {
			got, events := again.Apply(r.terms[i], x)
			if have := (outcome{got, append([]znode.Event{}, events...), again.Digest()}); !reflect.DeepEqual(have, r.history[n]) {
				r.Fatalf("replay of %s\n got %+v\nfirst %+v", txnText(x), have, r.history[n])
			}
			n++
		}); err != nil {
			r.Fatalf("batch %d: %v", i, err)
		}
	}
	if n != len(r.history) || dump(again.Freeze()) != dump(r.live.Freeze()) {
		r.Fatalf("replay of %d of %d txns came to another state", n, len(r.history))
	}
}

// compare compares the whole state.
func (r *random) compare() {
	checkDigest(r, r.live)
	if got, want := dump(r.live.Freeze()), r.model.dump(); got != want {
		r.Fatalf("state\n%s\nwant\n%s", got, want)
	}
	want := tree.Counts{Znodes: len(r.model.nodes), Sessions: len(r.model.sessions)}
	reapable, acls := map[string]tree.Reapable{}, map[string]bool{}
	for p, n := range r.model.nodes {
		want.DataBytes += int64(len(p) + len(n.Data))
		if sessionOf(n) != 0 {
			want.Ephemerals++
		}
		if isContainer(n) || ttlOf(n) > 0 {
			want.Reapable++
		}
		if childless := len(r.model.children(p)) == 0; childless && isContainer(n) && n.Created > 0 {
			reapable[p] = tree.Reapable{Path: p, Seen: n.Pzxid}
		} else if childless && ttlOf(n) > 0 {
			reapable[p] = tree.Reapable{Path: p, Seen: n.Mzxid, TTLMS: ttlOf(n)}
		}
		if !n.ACL.Equal(znode.OpenACL) {
			acls[fmt.Sprintf("%q", n.ACL)] = true
		}
	}
	if got := r.live.Counts(); got != want {
		r.Fatalf("counts %+v, want %+v", got, want)
	}
	got := map[string]tree.Reapable{}
	for _, x := range reapables(r.live) {
		got[x.Path] = x
	}
	if !maps.Equal(got, reapable) {
		r.Fatalf("reapable %v, want %v", got, reapable)
	}
	if r.live.ACLs() != len(acls) {
		r.Fatalf("%d ACLs kept, %d in use", r.live.ACLs(), len(acls))
	}
}

// read compares reads of all znodes and of some that do not exist.
func (r *random) read() {
	ids := rapid.SampledFrom(callers).Draw(r.T, "reader")
	need := rapid.SampledFrom([]znode.Perms{0, znode.Read, znode.Read | znode.Admin, znode.Write}).Draw(r.T, "need")
	for _, p := range append(r.model.paths(), "/nowhere", "/a/", "a", "//", "/a/nowhere/b") {
		n, there := r.model.nodes[p]
		z, code := r.live.Get(p, ids, need)
		var want tree.Znode
		wantCode := znode.ErrNoNode
		switch {
		case !there:
		case need != 0 && !r.model.allows(n, ids, need):
			wantCode = znode.ErrNoAuth
		default:
			wantCode = znode.OK
			want = r.model.znode(n)
		}
		if code != wantCode || !reflect.DeepEqual(z, want) {
			r.Fatalf("get %q: %v %+v, want %v %+v", p, code, z, wantCode, want)
		}
		after := rapid.SampledFrom([]string{"", "a", "b0", "zz", "/", "a0000000001"}).Draw(r.T, "after")
		var names, wantNames []string
		for name, child := range pairs(func(yield func(string, func() tree.Znode) bool) { r.live.Children(p, after, yield) }) {
			names = append(names, name)
			if got, want := child(), r.model.znode(r.model.nodes[strings.TrimSuffix(p, "/")+"/"+name]); !reflect.DeepEqual(got, want) {
				r.Fatalf("child %q of %q: %+v, want %+v", name, p, got, want)
			}
		}
		for _, name := range r.model.children(p) {
			if name > after {
				wantNames = append(wantNames, name)
			}
		}
		if !slices.Equal(names, wantNames) {
			r.Fatalf("children of %q behind %q: %q, want %q", p, after, names, wantNames)
		}
	}
	top, after := r.path(), ""
	if !pathIsGood(top) {
		top = "/"
	}
	if rapid.Bool().Draw(r.T, "from a place") {
		if after = r.path(); !pathIsGood(after) {
			after = "/nowhere"
		}
	}
	depth := rapid.IntRange(-1, 3).Draw(r.T, "depth")
	var got []string
	for p, z := range pairs(func(yield func(string, func() tree.Znode) bool) { r.live.Walk(top, after, depth, ids, yield) }) {
		got = append(got, p)
		if have, want := z(), r.model.znode(r.model.nodes[p]); !reflect.DeepEqual(have, want) {
			r.Fatalf("walk: %q: %+v, want %+v", p, have, want)
		}
	}
	if want := r.model.walk(top, after, depth, ids); !slices.Equal(got, want) {
		r.Fatalf("walk %q after %q depth %d:\n got %q\nwant %q", top, after, depth, got, want)
	}
}

func pairs(f func(func(string, func() tree.Znode) bool)) func(func(string, func() tree.Znode) bool) {
	return f
}

func (m *model) znode(n tree.Node) tree.Znode {
	return tree.Znode{Stat: m.stat(n), Data: string(n.Data), Null: n.Data == nil, ACL: n.ACL,
		Owner: znode.Owner{Session: sessionOf(n), Container: isContainer(n), TTLMS: ttlOf(n)}}
}

func (m *model) walk(top, after string, depth int, ids []znode.Identity) []string {
	if _, there := m.nodes[top]; !there {
		return nil
	}
	var out []string
paths:
	for _, p := range m.paths() {
		if !isBelow(p, top) || after != "" && byComponents(p, after) <= 0 ||
			depth >= 0 && len(components(p))-len(components(top)) > depth {
			continue
		}
		for q := p; q != top; {
			q = parentOf(q)
			if !m.allows(m.nodes[q], ids, znode.Read) {
				continue paths
			}
		}
		out = append(out, p)
	}
	return out
}
