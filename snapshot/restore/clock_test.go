package restore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"coord/tree"
	"coord/tree/znode"
)

// incarnation is a znode from its creation to its deletion.
type incarnation struct {
	path  string
	czxid znode.Zxid
}

// seen is everything that clients can have seen of the znodes in a history.
type seen struct {
	version, aversion, cversion map[incarnation]int32
	created                     map[incarnation]int32
	data, acl                   map[incarnation]map[int32]string // by version
	names                       map[incarnation]map[string]bool  // sequential names handed out below
	zxid                        znode.Zxid
}

func newSeen() *seen {
	return &seen{map[incarnation]int32{}, map[incarnation]int32{}, map[incarnation]int32{}, map[incarnation]int32{},
		map[incarnation]map[int32]string{}, map[incarnation]map[int32]string{}, map[incarnation]map[string]bool{}, 0}
}

func put[K, L comparable, V any](m map[K]map[L]V, k K, l L, v V) {
	if m[k] == nil {
		m[k] = map[L]V{}
	}
	m[k][l] = v
}

func rise[K comparable](m map[K]int32, k K, v int32) {
	if was, ok := m[k]; !ok || was < v {
		m[k] = v
	}
}

// look adds a state to what was seen.
func (s *seen) look(tr *tree.Tree) {
	tr.Freeze().Nodes(znode.Root, func(n *tree.Node) bool {
		i := incarnation{n.Path, n.Czxid}
		z, _ := tr.Get(n.Path, nil, 0)
		rise(s.version, i, n.Version)
		rise(s.aversion, i, n.Aversion)
		rise(s.cversion, i, z.Stat.Cversion)
		rise(s.created, i, n.Created)
		put(s.data, i, n.Version, string(n.Data))
		put(s.acl, i, n.Aversion, n.ACL.String())
		return true
	})
	s.zxid = max(s.zxid, tr.Counters().Zxid)
}

var historyACLs = []znode.ACL{znode.OpenACL, {{Perms: znode.All, Identity: znode.Identity{Scheme: "world", ID: "anyone"}}, {Perms: znode.Read, Identity: znode.Identity{Scheme: "ip", ID: "10.0.0.1"}}}}

// history applies random txns, and records in s what every client could see.
func history(t *rapid.T, tr *tree.Tree, s *seen, term *uint64, label string) {
	paths := []string{"/a", "/b", "/a/x", "/a/y", "/b/z"}
	for i := range rapid.IntRange(0, 25).Draw(t, label) {
		if rapid.IntRange(0, 9).Draw(t, "election") == 0 {
			*term++
		}
		path := rapid.SampledFrom(paths).Draw(t, "path")
		x := &tree.Txn{TimeMS: T0 + int64(i), IDs: []znode.Identity{znode.Super}}
		switch rapid.IntRange(0, 8).Draw(t, "op") {
		case 0, 1:
			x.Op = create(path, fmt.Sprint("new ", i, label)).Op
		case 2, 3:
			x.Op = set(path, fmt.Sprint("set ", i, label)).Op
		case 4:
			x.Op = remove(path).Op
			x.Flags, x.Limit = tree.Recursive, 1000
		case 5:
			x.Op = tree.Op{Kind: tree.KindSetACL, Path: path, Version: -1, ACL: rapid.SampledFrom(historyACLs).Draw(t, "acl")}
		case 6, 7:
			x.Op = createAs(znode.PersistentSequential, 0, path+"/s-").Op
		case 8:
			x.Op = createAs(znode.EphemeralSequential, 0, path+"/s-").Op
			x.Session = session1
		}
		r, _ := tr.Apply(*term, x)
		if r.Code == znode.OK && x.Mode.Sequential() {
			parent, _ := znode.Split(r.Path)
			st, _ := stat(t, tr, parent)
			put(s.names, incarnation{parent, st.Czxid}, r.Path, true)
		}
		s.look(tr)
	}
}

// No clock that a client can have seen goes back, however the state that the clients saw relates to
// the backup and to what is left of it.
func TestClocksNeverFall(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSeen()
		tr := tree.New()
		term := uint64(2)
		tr.Apply(term, openSession(session1))
		history(t, tr, s, &term, "before the backup")
		f := tr.Freeze()
		backup := thaw(t, f)
		backupTerm := term
		history(t, tr, s, &term, "after it")
		left := thaw(t, tr.Freeze())

		c := clock{by: By{VersionAdvance, SequenceAdvance}}
		ofBackup, ofLive := addTerm(0, backupTerm), int64(0)
		switch rapid.SampledFrom([]string{"known", "unknown", "in part", "another's"}).Draw(t, "live") {
		case "known":
			c.live, c.whole, c.same = left, true, true
			ofLive = addTerm(0, term)
		case "in part": // the end of what the clients saw is missing
			c.live = left
			ofLive = addTerm(0, term)
			history(t, tr, s, &term, "in the part that is lost")
		case "another's": // both clusters have clients: what those of the backup's saw is unknown
			c.live, c.whole = left, true
			ofLive = addTerm(0, term)
		}
		var err error
		c.epoch, _, err = c.epochAfter(ofBackup, ofLive)
		must(t, err)
		state, _, _, err := c.rebuild(&ticker{ctx: context.Background()}, backup)
		must(t, err)

		if got, want := content(state), content(backup); got != want {
			t.Errorf("content %s, want %s", got, want)
		}
		state.Freeze().Nodes(znode.Root, func(n *tree.Node) bool {
			i := incarnation{n.Path, n.Czxid}
			z, _ := state.Get(n.Path, nil, 0)
			fell := func(seen map[incarnation]int32, is int32) bool { was, ok := seen[i]; return ok && is < was }
			if fell(s.version, n.Version) || fell(s.aversion, n.Aversion) || fell(s.created, n.Created) || fell(s.cversion, z.Stat.Cversion) {
				t.Errorf("%s: %+v, cversion %d; seen: version %d, ACL version %d, created %d, cversion %d",
					n.Path, n, z.Stat.Cversion, s.version[i], s.aversion[i], s.created[i], s.cversion[i])
			}
			if was, ok := s.data[i][n.Version]; ok && was != string(n.Data) {
				t.Errorf("%s: version %d was %q and is %q", n.Path, n.Version, was, n.Data)
			}
			if was, ok := s.acl[i][n.Aversion]; ok && was != n.ACL.String() {
				t.Errorf("%s: ACL version %d was %s and is %s", n.Path, n.Aversion, was, n.ACL)
			}
			return true
		})
		for i, names := range s.names {
			x := createAs(znode.PersistentSequential, 0, i.path+"/s-")
			x.IDs = []znode.Identity{znode.Super}
			if st, _ := state.Get(i.path, nil, 0); st.Stat.Czxid != i.czxid {
				continue // another znode has the name, or none
			}
			r, _ := state.Apply(startTerm+1, x)
			if r.Code != znode.OK || names[r.Path] || r.Zxid <= s.zxid {
				t.Errorf("%s: next is %s (%v) of zxid %v; the last seen was %v", i.path, r.Path, r.Code, r.Zxid, s.zxid)
			}
		}
	})
}

// thaw makes a separate tree from a frozen one.
func thaw(t tb, f *tree.Frozen) *tree.Tree {
	b := tree.NewBuilder()
	f.Sessions(func(s *tree.Session) bool { must(t, b.AddSession(*s)); return true })
	f.Nodes(znode.Root, func(n *tree.Node) bool { must(t, b.Add(n)); return true })
	return got(b.Tree(f.Counters()))(t)
}

func TestEpochAfter(t *testing.T) {
	t.Parallel()
	known, whole, part, exact := clock{whole: true, same: true}, clock{whole: true}, clock{}, clock{exact: true}
	for _, c := range []struct {
		clock
		backup, live, epoch, advance int64
	}{
		{known, 3, 5, 6, 0},
		{whole, 3, 5, 4 + EpochAdvance, EpochAdvance - 2},
		{whole, 3, 5 + EpochAdvance, 6 + EpochAdvance, 0}, // the same backup was restored before: no need to go further
		{part, 3, 5, 6 + EpochAdvance, EpochAdvance},
		{part, 3, 0, 4 + EpochAdvance, EpochAdvance},
		{exact, 3, 0, 4, 0},
		{exact, 3, 5, 6, 0},
		{part, maxEpoch - 3, 0, maxEpoch - 1, 1},
		{part, maxEpoch - 2, 0, maxEpoch - 1, 0},
		{known, 1, maxEpoch - 2, maxEpoch - 1, 0},
	} {
		epoch, advance, err := c.epochAfter(c.backup, c.live)
		if epoch != c.epoch || advance != c.advance || err != nil {
			t.Errorf("%+v: %d %d %v", c, epoch, advance, err)
		}
	}
	for _, seen := range []int64{maxEpoch - 1, math.MaxUint32, addTerm(math.MaxInt64, math.MaxUint64)} {
		if _, _, err := known.epochAfter(seen, 0); !errors.Is(err, ErrEpochs) {
			t.Errorf("an epoch after %d: %v", seen, err)
		}
	}
	if addTerm(-5, 7) != 7 {
		t.Error("an offset is never negative")
	}
}

// The counter of created children can be computed from the public stat, even if the cversion has wrapped around.
func TestCreatedOf(t *testing.T) {
	t.Parallel()
	for _, created := range []int32{0, 1, 7, 1 << 30, 1<<30 + 1, math.MaxInt32} {
		for _, count := range []int32{0, 1, 5} {
			if got := createdOf(&znode.Stat{Cversion: 2*created - count, NumChildren: count}); got != created {
				t.Errorf("%d of %d: %d", count, created, got)
			}
		}
	}
}
