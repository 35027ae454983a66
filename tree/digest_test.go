package tree_test

import (
	"fmt"
	"reflect"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// storied is a small tree with everything in it that a state can have.
func storied(t *testing.T) *bench {
	b := newBench(t)
	b.term = 3
	b.session(0x100000000000001)
	b.as = 0x100000000000001
	b.ids = []znode.Identity{user1}
	null := create("/a/null")
	null.Data = nil
	for _, op := range []tree.Op{
		create("/a"), createData("/a/b", "hello"), null, createACL("/a/mine", entry(znode.All, "auth", ""), entry(znode.Read, "ip", "10.0.0.0/8")),
		createMode("/a/e-", znode.EphemeralSequential), createMode("/c", znode.Container), createMode("/t", znode.PersistentTTL),
		set("/a/b", "world", 0), setACL("/a/b", 0, znode.ReadACL...), create("/a/gone"), remove("/a/gone", -1),
		flagged(createData("/zookeeper/quota/a/zookeeper_limits", "count=9,bytes=-1"), tree.Parents), createData("/zookeeper/quota/a/zookeeper_stats", ""),
		create("/caf\u00e9"),
	} {
		b.must(op)
	}
	b.settings(tree.Settings{EnforceQuota: true, SkipACL: true})
	return b
}

// TestGoldenDigest: digests are stored in snapshots, and compared with those of nodes of other
// architectures and later versions. If this test fails, the format has changed.
func TestGoldenDigest(t *testing.T) {
	t.Parallel()
	if got, want := tree.New().Digest().String(), "182b3d9fd9ed3c183058f5c80b821fd4"; got != want {
		t.Errorf("fresh: %s, want %s", got, want)
	}
	if got, want := storied(t).tree.Digest().String(), "33a9d7024471d64bae3f5906f3697d3f"; got != want {
		t.Errorf("storied: %s, want %s", got, want)
	}
}

// TestDigestSeesEverything: each difference, however small, gives another digest; no difference gives the same.
func TestDigestSeesEverything(t *testing.T) {
	t.Parallel()
	base := func() ([]tree.Node, []tree.Session, tree.Counters) {
		nodes := worn()
		for i := range nodes {
			if nodes[i].Path == "/last" {
				nodes[i].Data = []byte("data")
				nodes[i].Owner = 5
			}
		}
		return nodes, []tree.Session{{ID: 5, TimeoutMS: 1}}, tree.Counters{Zxid: 9, TimeMS: 9}
	}
	digest := func(change func(last *tree.Node, s *tree.Session, c *tree.Counters)) tree.Digest {
		nodes, sessions, c := base()
		for i := range nodes {
			if nodes[i].Path == "/last" {
				change(&nodes[i], &sessions[0], &c)
			}
		}
		b := tree.NewBuilder()
		for i := range nodes {
			if err := b.Add(&nodes[i]); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range append(sessions, tree.Session{ID: 6}, tree.Session{ID: 7}) {
			if err := b.AddSession(s); err != nil {
				t.Fatal(err)
			}
		}
		tr, err := b.Tree(c)
		if err != nil {
			t.Fatal(err)
		}
		return tr.Digest()
	}
	type n = *tree.Node
	type s = *tree.Session
	type c = *tree.Counters
	seen := map[tree.Digest]string{digest(func(n, s, c) {}): "nothing"}
	for _, d := range []struct {
		name   string
		change func(n, s, c)
	}{
		{"path", func(n n, _ s, _ c) { n.Path = "/lasu" }},
		{"data", func(n n, _ s, _ c) { n.Data = []byte("Data") }},
		{"empty", func(n n, _ s, _ c) { n.Data = []byte{} }},
		{"null", func(n n, _ s, _ c) { n.Data = nil }},
		{"perms", func(n n, _ s, _ c) { n.ACL = znode.ReadACL }},
		{"scheme", func(n n, _ s, _ c) { n.ACL = znode.ACL{entry(31, "worl", "danyone")} }},
		{"two entries", func(n n, _ s, _ c) { n.ACL = znode.ACL{entry(31, "ip", "::1"), entry(1, "ip", "::2")} }},
		{"two entries, the other way", func(n n, _ s, _ c) { n.ACL = znode.ACL{entry(1, "ip", "::2"), entry(31, "ip", "::1")} }},
		{"czxid", func(n n, _ s, _ c) { n.Czxid = 1 }},
		{"mzxid", func(n n, _ s, _ c) { n.Mzxid = 1 }},
		{"pzxid", func(n n, _ s, _ c) { n.Pzxid = 1 }},
		{"ctime", func(n n, _ s, _ c) { n.CtimeMS = 1 }},
		{"mtime", func(n n, _ s, _ c) { n.MtimeMS = 1 }},
		{"version", func(n n, _ s, _ c) { n.Version = 1 }},
		{"aversion", func(n n, _ s, _ c) { n.Aversion = 1 }},
		{"created", func(n n, _ s, _ c) { n.Created = 1 }},
		{"owner", func(n n, _ s, _ c) { n.Owner = 6 }},
		{"container", func(n n, _ s, _ c) { n.Owner = -1 << 63 }},
		{"session id", func(n n, s s, _ c) { s.ID = 8; n.Owner = 0 }},
		{"no owner", func(n n, _ s, _ c) { n.Owner = 0 }},
		{"session timeout", func(_ n, s s, _ c) { s.TimeoutMS = -1 }},
		{"session password", func(_ n, s s, _ c) { s.Password[15] = 1 }},
		{"epoch offset", func(_ n, _ s, c c) { c.EpochOffset = 1 }},
		{"settings", func(_ n, _ s, c c) { c.Settings.ExtendedTypes = true }},
	} {
		got := digest(d.change)
		if other, taken := seen[got]; taken {
			t.Errorf("%s: same digest as %s", d.name, other)
		}
		seen[got] = d.name
	}
	// Digests are compared at equal zxid, so they contain neither zxid nor stamp.
	if other := digest(func(_ n, _ s, c c) { c.Zxid, c.TimeMS = 1, 1 }); seen[other] != "nothing" {
		t.Error("the zxid or the stamp is in the digest")
	}
}

// TestDigestComesBack: a change and its reversal leave the digest as it was, except for the
// counters that they moved.
func TestDigestComesBack(t *testing.T) {
	t.Parallel()
	b := storied(t)
	was := b.tree.Digest()
	b.multi(create("/x"), set("/a", "x", -1), remove("/nowhere", -1))
	b.refused(create("/a"), znode.ErrNodeExists)
	b.session(9)
	if b.tree.Digest() == was {
		t.Error("a session changes the digest")
	}
	b.close(9)
	if b.tree.Digest() != was {
		t.Error("with the session gone the digest is another")
	}
}

// TestSameLogSameTree: trees whose maps hash and iterate differently agree in results, in events
// and their order, and in the digest.
func TestSameLogSameTree(t *testing.T) {
	t.Parallel()
	const trees = 4
	var all [trees]*tree.Tree
	for i := range all {
		all[i] = buildOf(worn(), tree.Counters{}, []uint64{^uint64(0), ^uint64(0), 0, 15}[i])
	}
	apply := func(x tree.Txn) {
		t.Helper()
		want, wantEvents := all[0].Apply(1, &x)
		for i, other := range all[1:] {
			got, events := other.Apply(1, &x)
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(events, wantEvents) {
				t.Fatalf("tree %d, %s\n got %+v %v\nwant %+v %v", i+1, txnText(&x), got, eventTexts(events), want, eventTexts(wantEvents))
			}
			if other.Digest() != all[0].Digest() {
				t.Fatalf("tree %d, %s: digest %v, want %v", i+1, txnText(&x), other.Digest(), all[0].Digest())
			}
		}
	}
	for s := range int64(3) {
		apply(openTxn(s + 1))
	}
	for i := range 400 {
		e := createMode(fmt.Sprintf("/e%d", i*7919%400), znode.Ephemeral)
		if i%5 == 0 {
			apply(tree.Txn{Op: create(fmt.Sprintf("/d%d", i))})
			e.Path = fmt.Sprintf("/d%d/e", i)
		}
		apply(tree.Txn{Op: e, Session: int64(i%3 + 1)})
	}
	if all[0].Collisions() != 0 || all[2].Collisions() == 0 || all[3].Collisions() == 0 {
		t.Errorf("collisions: %d, %d, %d", all[0].Collisions(), all[2].Collisions(), all[3].Collisions())
	}
	apply(tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Ops: []tree.Op{removeAll("/d0", 9), removeAll("/d5", 9), check("/", 7)}})
	for s := range int64(3) {
		apply(tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: s + 1})
	}
	if c := all[0].Counts(); c.Ephemerals != 0 || c.Sessions != 0 {
		t.Errorf("%+v", c)
	}
	for _, tr := range all {
		checkDigest(t, tr)
	}
}
