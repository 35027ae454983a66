package tree_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// TestGetOfOddPaths: reads check no path; a bad path is simply not found.
func TestGetOfOddPaths(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.must(create("/a"))
	b.must(create("/a/b"))
	root, _ := b.tree.Get("/", nil, 0)
	if z, code := b.tree.Get("", nil, znode.Read); code != znode.OK || z.Stat != root.Stat {
		t.Errorf("the empty path is the root's too: %v", code)
	}
	for _, path := range []string{"a", "/a/", "//a", "/a//b", "a/b", "/b", "/a/b/c", "/a\x00", "\xff", "/A", "//", "/a/b/"} {
		if _, code := b.tree.Get(path, []znode.Identity{znode.Super}, znode.Read); code != znode.ErrNoNode {
			t.Errorf("%q: %v", path, code)
		}
		for name := range pairs(func(yield func(string, func() tree.Znode) bool) { b.tree.Children(path, "", yield) }) {
			if path != "/a/b/c" {
				t.Errorf("%q has the child %q", path, name)
			}
		}
		for p := range pairs(func(yield func(string, func() tree.Znode) bool) { b.tree.Walk(path, "", -1, nil, yield) }) {
			t.Errorf("a walk of %q came to %q", path, p)
		}
	}
}

// TestManyChildren: more than fit into one piece of the list, created and deleted in any order, and
// always listed in byte order, page by page, and frozen.
func TestManyChildren(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		order func(i, n int) int
	}{
		{"upwards", func(i, n int) int { return i }},
		{"downwards", func(i, n int) int { return n - 1 - i }},
		{"scattered", func(i, n int) int { return i * 7919 % n }},
		{"from the middle", func(i, n int) int { return (n + i/2*(1-i%2*2) - i%2 + n/2) % n }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const n = 4*tree.PieceMax + 77
			live := tree.New()
			apply := func(op tree.Op) {
				if r, _ := live.Apply(1, &tree.Txn{Op: op}); r.Code != znode.OK {
					t.Fatalf("%s: %v", opText(op), r.Code)
				}
			}
			apply(create("/p"))
			name := func(i int) string { return fmt.Sprintf("n%05d", i) }
			want := map[string]bool{}
			verify := func() {
				t.Helper()
				names := make([]string, 0, len(want))
				for k := range want {
					names = append(names, k)
				}
				slices.Sort(names)
				for _, page := range []int{1 << 20, 100, tree.PieceMax} {
					var got []string
					for after := ""; ; after = got[len(got)-1] {
						took := 0
						live.Children("/p", after, func(child string, _ func() tree.Znode) bool {
							got = append(got, child)
							took++
							return took < page
						})
						if took < page {
							break
						}
					}
					if !slices.Equal(got, names) {
						t.Fatalf("pages of %d: %d names, want %d; sorted %v", page, len(got), len(names), slices.IsSorted(got))
					}
				}
				if z, _ := live.Get("/p", nil, 0); int(z.Stat.NumChildren) != len(names) {
					t.Errorf("%d children counted, %d listed", z.Stat.NumChildren, len(names))
				}
			}
			var kept []*tree.Frozen
			var was []string
			freeze := func() {
				f := live.Freeze()
				kept, was = append(kept, f), append(was, dump(f))
			}
			for i := range n {
				apply(create("/p/" + name(c.order(i, n))))
				want[name(c.order(i, n))] = true
				if i%300 == 0 {
					freeze()
				}
			}
			if len(want) != n {
				t.Fatalf("the order visits %d of %d", len(want), n)
			}
			verify()
			for i := range n {
				if i%3 != 0 {
					apply(remove("/p/"+name(c.order(i, n)), -1))
					delete(want, name(c.order(i, n)))
				}
				if i%300 == 0 {
					freeze()
				}
			}
			verify()
			for i := range n {
				if i%3 == 0 {
					apply(remove("/p/"+name(c.order(i, n)), -1))
				}
			}
			clear(want)
			verify()
			apply(create("/p/again"))
			for i, f := range kept {
				if now := dump(f); now != was[i] {
					t.Errorf("freeze %d changed", i)
				}
			}
			checkDigest(t, live)
		})
	}
}

// TestChildrenOrder is by bytes, and after need not exist.
func TestChildrenOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{"b", "a", "B", "ab", "a-", "a.b", "\u00e9", "10", "9", " "} {
		b.must(create("/" + name))
	}
	list := func(after string) (names []string) {
		b.tree.Children("/", after, func(name string, _ func() tree.Znode) bool {
			names = append(names, name)
			return true
		})
		return names
	}
	all := []string{" ", "10", "9", "B", "a", "a-", "a.b", "ab", "b", "zookeeper", "\u00e9"}
	if got := list(""); !slices.Equal(got, all) {
		t.Errorf("%q", got)
	}
	for i, name := range all {
		if got := list(name); !slices.Equal(got, all[i+1:]) {
			t.Errorf("behind %q: %q", name, got)
		}
		if got := list(name + "\x00"); !slices.Equal(got, all[i+1:]) {
			t.Errorf("just behind %q: %q", name, got)
		}
	}
	if got := list("\xff"); got != nil {
		t.Errorf("behind everything: %q", got)
	}
}

func TestWalk(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, path := range []string{"/w", "/w/a", "/w/a/1", "/w/a/2", "/w/a-", "/w/a-/1", "/w/b", "/w/closed", "/w/closed/in", "/w/closed/in/side", "/w/z", "/wide"} {
		b.must(create(path))
	}
	b.must(setACL("/w/closed", -1, entry(znode.All, "digest", user1.ID)))
	everything := []string{"/w", "/w/a", "/w/a/1", "/w/a/2", "/w/a-", "/w/a-/1", "/w/b", "/w/closed", "/w/closed/in", "/w/closed/in/side", "/w/z"}
	open := slices.DeleteFunc(slices.Clone(everything), func(p string) bool { return strings.HasPrefix(p, "/w/closed/") })
	for _, c := range []struct {
		name, top, after string
		depth            int
		ids              []znode.Identity
		want             []string
	}{
		{"all", "/w", "", -1, []znode.Identity{user1}, everything},
		{"as super", "/w", "", -1, []znode.Identity{znode.Super}, everything},
		{"what may be seen", "/w", "", -1, nil, open},
		{"the top alone", "/w", "", 0, nil, []string{"/w"}},
		{"one level", "/w", "", 1, nil, []string{"/w", "/w/a", "/w/a-", "/w/b", "/w/closed", "/w/z"}},
		{"two levels", "/w", "", 2, []znode.Identity{user1}, slices.DeleteFunc(slices.Clone(everything), func(p string) bool { return p == "/w/closed/in/side" })},
		{"a leaf", "/w/b", "", -1, nil, []string{"/w/b"}},
		{"a closed top", "/w/closed", "", -1, nil, []string{"/w/closed"}},
		{"missing", "/x", "", -1, nil, nil},
		{"behind the top", "/w", "/w", -1, nil, open[1:]},
		{"behind a leaf", "/w", "/w/a/1", -1, nil, open[3:]},
		{"behind an inner one", "/w", "/w/a", -1, nil, open[2:]},
		{"components before bytes", "/w", "/w/a/2", -1, nil, open[4:]},
		{"behind one that is gone", "/w", "/w/a/11", -1, nil, open[3:]},
		{"behind a subtree that is gone", "/w", "/w/a0/x/y", -1, nil, open[6:]},
		{"behind one below the depth", "/w", "/w/a/1", 1, nil, []string{"/w/a-", "/w/b", "/w/closed", "/w/z"}},
		{"behind one that may not be seen", "/w", "/w/closed/in", -1, nil, []string{"/w/z"}},
		{"behind the last", "/w", "/w/z", -1, nil, nil},
		{"behind everything below", "/w", "/w/zz", -1, nil, nil},
		{"behind a later subtree", "/w", "/wide", -1, nil, nil},
		{"behind an earlier subtree", "/w", "/v/x", -1, nil, open},
		{"behind the top's own parent", "/w/a", "/w", -1, nil, []string{"/w/a", "/w/a/1", "/w/a/2"}},
		{"behind an earlier subtree that is later in bytes", "/w/a-", "/w/a/1", -1, nil, []string{"/w/a-", "/w/a-/1"}},
		{"behind a later subtree that is earlier in bytes", "/w/a", "/w/a-/1", -1, nil, nil},
		{"behind the root", "/w/a", "/", -1, nil, []string{"/w/a", "/w/a/1", "/w/a/2"}},
		{"the root", "/", "/zookeeper/config", -1, nil, []string{"/zookeeper/quota"}},
		{"the root by its other name", "", "/wide", 1, nil, []string{"/zookeeper"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			b.tree.Walk(c.top, c.after, c.depth, c.ids, func(path string, z func() tree.Znode) bool {
				got = append(got, path)
				if z().Stat != b.stat(path) {
					t.Errorf("%s: %+v", path, z().Stat)
				}
				return true
			})
			if !slices.Equal(got, c.want) {
				t.Errorf(" got %q\nwant %q", got, c.want)
			}
		})
	}
	t.Run("stops when told", func(t *testing.T) {
		for most := 1; most <= len(everything); most++ {
			n := 0
			b.tree.Walk("/w", "", -1, []znode.Identity{user1}, func(string, func() tree.Znode) bool {
				n++
				return n < most
			})
			if n != most {
				t.Errorf("%d paths, want %d", n, most)
			}
		}
	})
	t.Run("with ACLs off", func(t *testing.T) {
		b := newBench(t)
		b.must(createACL("/s", entry(znode.Write|znode.Create, "world", "anyone")))
		b.must(create("/s/in"))
		b.settings(tree.Settings{SkipACL: true})
		n := 0
		b.tree.Walk("/s", "", -1, nil, func(string, func() tree.Znode) bool { n++; return true })
		if n != 2 {
			t.Errorf("%d paths", n)
		}
	})
}
