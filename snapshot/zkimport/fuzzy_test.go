package zkimport

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coord/tree/znode"
)

var (
	aclA = znode.ACL{{Perms: znode.All, Identity: znode.Identity{Scheme: "digest", ID: "a:x"}}}
	aclB = znode.ACL{{Perms: znode.Read, Identity: znode.Identity{Scheme: "world", ID: "anyone"}}}
)

// fuzzy writes a snapshot as ZooKeeper does while changes go on: each node as it is when its turn comes,
// its children as they were listed with it. Before each node it calls before, which makes changes.
func fuzzy(s *state, before func(path string)) []byte {
	w := begin(s)
	var walk func(path string)
	walk = func(path string) {
		before(path)
		n := s.find(path)
		if n == nil {
			return
		}
		names := slices.Sorted(maps.Keys(n.children))
		w.node(n, path)
		for _, name := range names {
			walk(path + "/" + name)
		}
	}
	walk("")
	return w.str("/").seal().b
}

// TestFuzzy has a case for each thing that a snapshot may know before the log says it. What happens
// while the snapshot is written is done just before the named node is written; the import must end
// as if the snapshot were exact.
func TestFuzzy(t *testing.T) {
	both := []change{create("/a", "a", 1), create("/b", "b", 2)}
	for _, c := range []struct {
		name   string
		before []change
		at     string   // the node before which the changes happen
		meant  []change // the changes while the snapshot is written
		after  []change
	}{
		{"create", both, "/b", []change{create("/b/c", "c", 1), create("/b/d", "d", 2)}, nil},
		{"create in a parent that is written", both, "/b", []change{create("/c", "c", 3), create("/a/c", "c", 1)}, nil},
		{"create2 with an ACL that the table lacks", both, "/b", []change{createACL("/b/c", aclA, 1)}, nil},
		{"container", both, "/b", []change{createContainer("/b/c", 1), create("/b/c/d", "", 1), remove("/b/c/d")}, nil},
		{"TTL", both, "/b", []change{createTTL("/b/c", 1, 1000)}, nil},
		{"delete", append(both, create("/b/c", "", 1)), "/b", []change{remove("/b/c")}, nil},
		{"delete of a child that is not written yet", append(both, create("/b/c", "", 1)), "/b/c", []change{remove("/b/c")}, nil},
		{"delete of a parent that is not written yet", append(both, create("/b/c", "", 1)), "/b", []change{remove("/b/c"), remove("/b")}, nil},
		{"create and delete", both, "/b", []change{create("/b/c", "", 1), remove("/b/c")}, nil},
		{"create and delete with the parent", both, "/b", []change{create("/b/c", "", 1), remove("/b/c"), remove("/b")}, nil},
		{"deleted, made anew with children", both, "/b",
			[]change{remove("/b"), create("/b", "2", 3), createACL("/b/c", aclA, 1), create("/b/d", "", 2)}, nil},
		{"made, deleted, made anew with children", both, "/a",
			[]change{create("/a/x", "", 1), remove("/a/x"), create("/a/x", "2", 2), create("/a/x/y", "", 1)}, nil},
		{"counter that would go back", both, "/b",
			[]change{create("/b/c", "", 1), create("/b/d", "", 2), remove("/b/c"), remove("/b/d")}, []change{create("/b/e", "", 3)}},
		{"set", both, "/b", []change{setData("/b", "1", 1), setData("/b", "2", 2)}, nil},
		{"set before and after", both, "/b", []change{setData("/a", "1", 1), setData("/b", "1", 1)}, []change{setData("/b", "2", 2)}},
		{"set of what is deleted then", both, "/b", []change{setData("/b", "1", 1), remove("/b")}, nil},
		{"ACL", both, "/b", []change{setACL("/b", aclA, 1), setACL("/a", aclB, 1)}, nil},
		{"ACL twice", append(both, setACL("/b", aclB, 1)), "/b", []change{setACL("/b", aclA, 2), setACL("/b", aclB, 3)}, nil},
		{"ACL of a node made with another", both, "/b", []change{createACL("/b/c", aclA, 1), setACL("/b/c", aclB, 1)}, nil},
		{"session", both, "/b", []change{createSession(7), createEphemeral(7, "/b/e", 1)}, nil},
		{"session that ends", append(both, createSession(7), createEphemeral(7, "/b/e", 1)), "/b", []change{closeSession(7, "/b/e")}, nil},
		{"session that ends after its parent was written", append(both, createSession(7), createEphemeral(7, "/b/e", 1)), "/b/e",
			[]change{closeSession(7, "/b/e")}, nil},
		{"session that ends, without its list", append(both, createSession(7), createEphemeral(7, "/b/e", 1)), "/b", []change{closeSession35(7)}, nil},
		{"ephemeral that another session takes over", append(both, createSession(7), createSession(8), createEphemeral(7, "/b/e", 1)), "/b/e",
			[]change{closeSession(7, "/b/e"), createEphemeral(8, "/b/e", 2)}, nil},
		{"the same without the list", append(both, createSession(7), createSession(8), createEphemeral(7, "/b/e", 1)), "/b/e",
			[]change{closeSession35(7), createEphemeral(8, "/b/e", 2)}, nil},
		{"multi", append(both, create("/b/c", "", 1)), "/b",
			[]change{multi(create("/b/d", "d", 2), setData("/b/c", "1", 1), remove("/a"), change{kind: opCheck, body: (&enc{}).str("/b").i32(0).b})}, nil},
		{"multi that failed", both, "/b", []change{multi(create("/b/d", "d", 1), failed()), failed()}, nil},
		{"delete of a container by the server", append(both, createContainer("/b/c", 1)), "/b", []change{{kind: opDeleteContainer, body: (&enc{}).str("/b/c").b}}, nil},
		{"configuration", both, "/b", []change{{kind: opReconfig, body: (&enc{}).str(znode.ConfigPath).str("server.1=x").i32(-1).b}}, nil},
		{"quota", append(both, create("/zookeeper/quota/b", "", 1)), "/b",
			[]change{create("/zookeeper/quota/b/zookeeper_limits", "count=1", 1), create("/zookeeper/quota/b/zookeeper_stats", "", 2), create("/b/c", "123", 1)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := played(t, c.before...)
			zxid := s.last
			done := false
			b := fuzzy(s, func(path string) {
				if path != c.at || done {
					return
				}
				done = true
				for _, x := range c.meant {
					_, err := s.apply(x.at(s.last + 1))
					must(t, err)
				}
			})
			if !done {
				t.Fatalf("%s is not written", c.at)
			}
			b = (&enc{b}).i64(int64(s.last)).i32(digestVersion).i64(int64(s.sums[inUTF8])).seal().b
			for _, x := range c.after {
				_, err := s.apply(x.at(s.last + 1))
				must(t, err)
			}
			z := mustRead(t, files(t, map[string][]byte{
				"snapshot." + hex(zxid): b, "log.1": padded(logOf(1, slices.Concat(c.before, c.meant, c.after)...)),
			}))
			compare(t, z, s)
			if !strings.Contains(z.Digest, "equal") {
				t.Errorf("digest: %s", z.Digest)
			}
		})
	}
}

// TestFuzzyUnnamed: if a session ended without a list of its ephemerals, a fuzzy snapshot loses the
// pzxid of the parent and nothing else; the digest shows it.
func TestFuzzyUnnamed(t *testing.T) {
	before := []change{create("/b", "b", 1), createSession(7), createEphemeral(7, "/b/e", 1)}
	s := played(t, before...)
	zxid, pzxid, end := s.last, s.find("/b").pzxid, closeSession35(7)
	b := fuzzy(s, func(path string) {
		if path == "/b/e" {
			_, err := s.apply(end.at(s.last + 1))
			must(t, err)
		}
	})
	b = (&enc{b}).i64(int64(s.last)).i32(digestVersion).i64(int64(s.sums[inUTF8])).seal().b
	z := mustRead(t, files(t, map[string][]byte{"snapshot." + hex(zxid): b, "log.1": padded(logOf(1, append(before, end)...))}))
	if want := fmt.Sprintf("differs from zxid %#x on", s.last); z.Digest != want {
		t.Errorf("digest: %s, want %s", z.Digest, want)
	}
	s.find("/b").pzxid = pzxid
	compare(t, z, s)
}

// compare compares an import with the state that ZooKeeper had.
func compare(t tb, z *Import, s *state) {
	t.Helper()
	want := treeOf(t, s)
	if z.Tree.Counters() != want.tree.Counters() {
		t.Errorf("the counters are %+v, want %+v", z.Tree.Counters(), want.tree.Counters())
	}
	if z.Tree.Digest() == want.tree.Digest() {
		return
	}
	s.each(func(n *node, path string) {
		if path == "" {
			path = "/"
		}
		got, _ := z.Tree.Get(path, nil, 0)
		is, _ := want.tree.Get(path, nil, 0)
		if fmt.Sprint(got) != fmt.Sprint(is) {
			t.Errorf("%s is %+v, want %+v", path, got, is)
		}
	})
	t.Fatalf("the tree is another one: %+v, want %+v", z.Tree.Counts(), want.tree.Counts())
}

// TestFuzzyAnything: whatever happens while a snapshot is written, the import is the state that
// ZooKeeper had in the end. Also with a digest, and from a log in several files.
func TestFuzzyAnything(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		s := fresh()
		var all []change
		step := func() {
			c := anything(t, s)
			_, err := s.apply(c.at(s.last + 1))
			must(t, err)
			all = append(all, c)
		}
		for range rapid.IntRange(0, 30).Draw(t, "before") {
			step()
		}
		zxid := s.last
		fuzz := rapid.IntRange(0, 25).Draw(t, "meanwhile")
		b := fuzzy(s, func(string) {
			for fuzz > 0 && rapid.IntRange(0, 2).Draw(t, "now") == 0 {
				step()
				fuzz--
			}
		})
		e := enc{b}
		if rapid.Bool().Draw(t, "digest") {
			e.i64(int64(s.last)).i32(digestVersion).i64(int64(s.sums[inUTF8])).seal()
		}
		if rapid.Bool().Draw(t, "last zxid") {
			e.i64(int64(zxid)).seal()
		}
		for range rapid.IntRange(0, 10).Draw(t, "after") {
			step()
		}
		if len(all) == 0 {
			step()
		}
		runs++
		dir := fmt.Sprintf("%s/%d", base, runs)
		defer os.RemoveAll(dir)
		content := map[string][]byte{"snapshot." + hex(zxid): e.b}
		for at := 0; at < len(all); {
			n := rapid.IntRange(1, len(all)-at).Draw(t, "log")
			content["log."+hex(uint64(at+1))] = padded(logOf(uint64(at+1), all[at:at+n]...))
			at += n
		}
		fill(t, dir, content)
		z := mustRead(t, dir)
		compare(t, z, s)
		if strings.Contains(z.Digest, "differs") {
			t.Fatalf("%s", z.Digest)
		}
	})
}

// anything draws a change that ZooKeeper could make now.
func anything(t *rapid.T, s *state) change {
	var paths []string
	s.each(func(n *node, path string) {
		if !strings.HasPrefix(path, znode.SystemPath) {
			paths = append(paths, path)
		}
	})
	path := rapid.SampledFrom(paths).Draw(t, "path")
	n := s.find(path)
	session := int64(rapid.IntRange(1, 3).Draw(t, "session"))
	switch kind := rapid.IntRange(0, 11).Draw(t, "kind"); {
	case kind == 0 && n.parent != nil:
		return setData(path, rapid.SampledFrom([]string{"", "x", "yy"}).Draw(t, "data"), n.version+1)
	case kind == 1 && n.parent != nil:
		return setACL(path, rapid.SampledFrom([]znode.ACL{aclA, aclB, znode.OpenACL}).Draw(t, "acl"), n.aversion+1)
	case kind <= 4 && n.parent != nil && len(n.children) == 0:
		return remove(path)
	case kind == 5 && s.sessions[session] == 0:
		return createSession(session)
	case kind == 6 && s.sessions[session] != 0:
		var own []string
		for n := range s.owners[session] {
			own = append(own, n.path())
		}
		slices.Sort(own)
		return closeSession(session, own...)
	case kind == 7:
		return failed()
	}
	name := rapid.SampledFrom([]string{"a", "b", "c", "\u00e9"}).Draw(t, "name")
	if n.children[name] != nil || n.owner == session && n.owner != 0 || n.owner > 0 {
		return failed()
	}
	child, cversion := path+"/"+name, n.cversion+1
	switch rapid.IntRange(0, 5).Draw(t, "create") {
	case 0:
		if s.sessions[session] != 0 {
			return createEphemeral(session, child, cversion)
		}
	case 1:
		return createACL(child, rapid.SampledFrom([]znode.ACL{aclA, aclB}).Draw(t, "acl"), cversion)
	case 2:
		return createContainer(child, cversion)
	case 3:
		return createTTL(child, cversion, 5000)
	case 4:
		return multi(create(child, "m", cversion), create(child+"/n", "n", 1), setData(child, "set", 1))
	}
	return create(child, "d", cversion)
}
