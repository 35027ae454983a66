package tree_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// TestFrozenStays the same while the tree changes and other goroutines read it. H12
// (ZOOKEEPER-3144, 3145, 3306): a snapshot changed while it was written.
func TestFrozenStays(t *testing.T) {
	t.Parallel()
	live := tree.New()
	apply := func(x tree.Txn) { live.Apply(1, &x) }
	var readers sync.WaitGroup
	for round := range 12 {
		for i := range 40 {
			n := round*40 + i
			apply(openTxn(int64(n + 1)))
			dir := fmt.Sprintf("/d%d", n%7)
			apply(tree.Txn{Op: create(dir)})
			e := createMode(dir+"/e", znode.EphemeralSequential)
			apply(tree.Txn{Session: int64(n + 1), Op: e})
			apply(tree.Txn{Op: createACL(fmt.Sprintf("%s/n%d", dir, n), entry(znode.Perms(n%31+1), "world", "anyone"))})
			apply(tree.Txn{Op: set(dir, strings.Repeat("x", n), -1)})
			if i%4 == 0 {
				apply(tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: int64(n/2 + 1)})
				apply(tree.Txn{Op: removeAll(fmt.Sprintf("/d%d", (n+3)%7), 1000)})
			}
		}
		f := live.Freeze()
		was, counters, digest, size := dump(f), f.Counters(), f.Digest(), f.Len()
		for range 2 {
			readers.Go(func() {
				for range 3 {
					if dump(f) != was || f.Counters() != counters || f.Digest() != digest || f.Len() != size {
						t.Errorf("the freeze of round %d changed", round)
					}
				}
			})
		}
		if n := len(nodesOf(f)); n != size || n != live.Counts().Znodes || f.DataBytes() != live.Counts().DataBytes {
			t.Errorf("%d znodes yielded, %d told, %d in the tree", n, size, live.Counts().Znodes)
		}
	}
	readers.Wait()
	checkDigest(t, live)
}

// TestFrozenSubtree: Nodes from any znode down.
func TestFrozenSubtree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, path := range []string{"/a", "/a/b", "/a/b/c", "/a/b-", "/ab"} {
		b.must(create(path))
	}
	f := b.tree.Freeze()
	for top, want := range map[string]string{
		"/": "/ /a /a/b /a/b/c /a/b- /ab /zookeeper /zookeeper/config /zookeeper/quota", "/a": "/a /a/b /a/b/c /a/b-", "/a/b": "/a/b /a/b/c",
		"/a/b/c": "/a/b/c", "/zookeeper": "/zookeeper /zookeeper/config /zookeeper/quota",
		"": "", "a": "", "/b": "", "/a/b/c/d": "", "/a/": "", "//a": "", "/a//b": "", "/x/y": "",
	} {
		var got []string
		f.Nodes(top, func(n *tree.Node) bool { got = append(got, n.Path); return true })
		if s := strings.Join(got, " "); s != want {
			t.Errorf("below %q: %s, want %s", top, s, want)
		}
	}
	for most := 1; most < f.Len(); most++ {
		n := 0
		f.Nodes("/", func(*tree.Node) bool { n++; return n < most })
		if n != most {
			t.Errorf("told to stop at %d, stopped at %d", most, n)
		}
	}
	b.session(1)
	b.session(2)
	n := 0
	b.tree.Freeze().Sessions(func(*tree.Session) bool { n++; return false })
	if n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// TestNodes: a freeze has everything about a znode.
func TestNodes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.session(5)
	b.as = 5
	b.ids = []znode.Identity{user1}
	b.must(createACL("/n", entry(znode.All, "auth", "")))
	b.must(createMode("/n/s", znode.PersistentSequentialTTL))
	b.must(createMode("/n/e", znode.Ephemeral))
	b.must(createMode("/n/c", znode.Container))
	b.must(remove("/n/e", -1))
	b.must(set("/n", "data", 0))
	b.must(setACL("/n", 0, entry(znode.All, "digest", user1.ID), entry(znode.Read, "world", "anyone")))
	null := create("/n/null")
	null.Data = nil
	b.must(null)
	var got []string
	b.tree.Freeze().Nodes("/n", func(n *tree.Node) bool { got = append(got, nodeText(n)); return true })
	z, ms := func(n int) znode.Zxid { return znode.MakeZxid(1, uint32(n)) }, func(n int) int64 { return T0 + int64(n)*1000 }
	want := []string{
		nodeText(&tree.Node{Path: "/n", Data: []byte("data"), ACL: znode.ACL{entry(31, "digest", user1.ID), entry(1, "world", "anyone")},
			Czxid: z(2), Mzxid: z(7), Pzxid: z(9), CtimeMS: ms(2), MtimeMS: ms(7), Version: 1, Aversion: 1, Created: 4}),
		nodeText(&tree.Node{Path: "/n/c", Data: []byte("d"), ACL: znode.OpenACL, Czxid: z(5), Mzxid: z(5), Pzxid: z(5), CtimeMS: ms(5), MtimeMS: ms(5), Owner: math.MinInt64}),
		nodeText(&tree.Node{Path: "/n/null", ACL: znode.OpenACL, Czxid: z(9), Mzxid: z(9), Pzxid: z(9), CtimeMS: ms(9), MtimeMS: ms(9)}),
		nodeText(&tree.Node{Path: "/n/s0000000000", Data: []byte("d"), ACL: znode.OpenACL, Czxid: z(3), Mzxid: z(3), Pzxid: z(3), CtimeMS: ms(3), MtimeMS: ms(3), Owner: -1<<56 | 5000}),
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// TestBuilderRefuses each impossible record.
func TestBuilderRefuses(t *testing.T) {
	t.Parallel()
	node := func(path string) tree.Node { return tree.Node{Path: path, Data: []byte{}, ACL: znode.OpenACL} }
	owned := func(path string, owner int64) tree.Node {
		n := node(path)
		n.Owner = owner
		return n
	}
	for _, c := range []struct {
		name  string
		nodes []tree.Node // the last one is refused
		want  string      // in the error
	}{
		{"no root first", []tree.Node{node("/a")}, "/a is out of order or its parent is missing"},
		{"two roots", []tree.Node{node("/"), node("/")}, "duplicate root"},
		{"a late root", []tree.Node{node("/"), node("/a"), node("/")}, "duplicate root"},
		{"missing parent", []tree.Node{node("/"), node("/a/b")}, "/a/b is out of order or its parent is missing"},
		{"missing parent below another", []tree.Node{node("/"), node("/a"), node("/a/b/c")}, "its parent is missing"},
		{"parent left behind", []tree.Node{node("/"), node("/a"), node("/a/b"), node("/c"), node("/a/d")}, "/a/d is out of order"},
		{"twice", []tree.Node{node("/"), node("/a"), node("/a")}, `/a is a duplicate or out of order: it follows its sibling "a"`},
		{"twice with children between", []tree.Node{node("/"), node("/a"), node("/a/b"), node("/a")}, `/a is a duplicate or out of order: it follows its sibling "a"`},
		{"siblings out of order", []tree.Node{node("/"), node("/b"), node("/a")}, `/a is a duplicate or out of order: it follows its sibling "b"`},
		{"inner siblings out of order", []tree.Node{node("/"), node("/x"), node("/x/b"), node("/x/b/c"), node("/x/a")}, `/x/a is a duplicate or out of order: it follows its sibling "b"`},
		{"ephemeral parent", []tree.Node{node("/"), owned("/e", 5), node("/e/c")}, "/e/c has the ephemeral parent /e"},
		{"no ACL", []tree.Node{node("/"), {Path: "/a"}}, "/a has no ACL"},
		{"empty path", []tree.Node{node("")}, "is empty"},
		{"relative path", []tree.Node{node("/"), node("a")}, "does not start with /"},
		{"slash at the end", []tree.Node{node("/"), node("/a/")}, "ends with /"},
		{"dots", []tree.Node{node("/"), node("/..")}, "has the component .."},
		{"control character", []tree.Node{node("/"), node("/\x01")}, "has a control character"},
		{"too long", []tree.Node{node("/"), node("/" + strings.Repeat("n", 4096))}, "is longer than 4096 bytes"},
		{"TTL of 0", []tree.Node{node("/"), owned("/t", -1<<56)}, "has the invalid owner 0xff00000000000000"},
		{"owned root", []tree.Node{owned("/", math.MinInt64)}, "has the invalid owner 0x8000000000000000"},
		{"owned system znode", []tree.Node{node("/"), owned("/zookeeper", 5)}, "/zookeeper has the invalid owner 0x5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := tree.NewBuilder()
			for i := range c.nodes {
				err := b.Add(&c.nodes[i])
				if i < len(c.nodes)-1 {
					if err != nil {
						t.Fatal(err)
					}
				} else if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "tree: ") {
					t.Errorf("%v, want %s", err, c.want)
				}
			}
		})
	}
}

func TestBuilderRefusesSessions(t *testing.T) {
	t.Parallel()
	b := tree.NewBuilder()
	for _, id := range []int64{5, 3, 9, -2 << 56} {
		if err := b.AddSession(tree.Session{ID: id}); err != nil {
			t.Errorf("%d: %v", id, err)
		}
	}
	for _, id := range []int64{5, 0, math.MinInt64, -1} {
		if err := b.AddSession(tree.Session{ID: id}); err == nil {
			t.Errorf("session %d was taken", id)
		}
	}
}

// TestBuilderRefusesWholes: faults that only Tree can notice.
func TestBuilderRefusesWholes(t *testing.T) {
	t.Parallel()
	build := func(session int64, skip ...string) (*tree.Tree, error) {
		b := tree.NewBuilder()
		for _, n := range worn() {
			if slices.Contains(skip, n.Path) || slices.Contains(skip, parentOf(n.Path)) && n.Path != "/" {
				continue
			}
			if n.Path == "/last" {
				n.Owner = 77
			}
			if err := b.Add(&n); err != nil {
				t.Fatal(err)
			}
			if n.Path == "/minus" && session != 0 {
				if err := b.AddSession(tree.Session{ID: session}); err != nil {
					t.Fatal(err)
				}
			}
		}
		return b.Tree(tree.Counters{})
	}
	for _, c := range []struct {
		name    string
		session int64
		skip    []string
		want    string
	}{
		{"whole", 77, nil, ""},
		{"no session", 0, nil, "/last belongs to session 0x4d, which is missing"},
		{"another session", 78, nil, "/last belongs to session 0x4d, which is missing"},
		{"no config", 77, []string{"/zookeeper/config"}, "the znode /zookeeper/config is missing"},
		{"no quota", 77, []string{"/zookeeper/quota", "/zookeeper/quota/a"}, "the znode /zookeeper/quota is missing"},
		{"no zookeeper", 77, []string{"/zookeeper", "/zookeeper/quota", "/zookeeper/quota/a"}, "the znode /zookeeper is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, err := build(c.session, c.skip...)
			switch {
			case c.want == "" && (err != nil || tr.Counts().Ephemerals != 1):
				t.Errorf("%v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	if _, err := tree.NewBuilder().Tree(tree.Counters{}); err == nil || !strings.Contains(err.Error(), "the znode / is missing") {
		t.Errorf("nothing at all: %v", err)
	}
}

// TestBuilderCopies what it keeps, because the reader of a snapshot reuses its memory.
func TestBuilderCopies(t *testing.T) {
	t.Parallel()
	b := tree.NewBuilder()
	b.Expect(100) // more znodes than will come
	var n tree.Node
	data, acl := []byte("data"), znode.ACL{entry(znode.Read, "ip", "10.0.0.1")}
	for _, w := range worn() {
		n = w
		if n.Path == "/last" {
			n.Data, n.ACL = data, acl
		}
		if err := b.Add(&n); err != nil {
			t.Fatal(err)
		}
	}
	copy(data, "xxxx")
	acl[0] = entry(znode.All, "world", "anyone")
	tr, err := b.Tree(tree.Counters{})
	if err != nil {
		t.Fatal(err)
	}
	if z, _ := tr.Get("/last", nil, 0); z.Data != "data" || z.ACL.String() != "ip:10.0.0.1:r" {
		t.Errorf("%q %v", z.Data, z.ACL)
	}
	checkDigest(t, tr)
}
