package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/tree"
	"coord/tree/znode"
)

func TestMain(m *testing.M) {
	if os.Getenv("COORD_RESTORE_CHILD") != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// A backup restored where nothing was: the content is the backup's, the node is another one of a
// new cluster of the same lineage, and a start succeeds.
func TestRestoreIntoNothing(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	dir := filepath.Join(base, "new")
	r := run1(t, Options{File: s.backup, DataDir: dir, Writer: "coord test"})
	if r.State != Done || r.Kept != "" || r.Inside || r.Replaced != nil {
		t.Errorf("report %+v", r)
	}
	onlyData(t, base, "new")
	n := start(t, dir)
	if got := content(n.tree); got != s.content {
		t.Errorf("content\n%s\nwant\n%s", got, s.content)
	}
	if n.identity.Cluster == s.identity.Cluster || n.identity.Node == s.identity.Node ||
		n.identity.Lineage != s.identity.Lineage || n.identity.Generation != s.identity.Generation+1 {
		t.Errorf("identity %+v after %+v", n.identity, s.identity)
	}
	if r.Digest.Before != s.digest.String() || r.Digest.After != n.tree.Digest().String() {
		t.Errorf("digest %+v, want %v and %v", r.Digest, s.digest, n.tree.Digest())
	}
	if got := n.ok(create("/first", "")).Zxid; got.Epoch() <= s.tree.Counters().Zxid.Epoch()+EpochAdvance {
		t.Errorf("the first zxid is %v after %v", got, s.tree.Counters().Zxid)
	}
	if r := n.ok(createAs(znode.PersistentSequential, 0, "/locks/l-")); r.Path != "/locks/l-0001000004" {
		t.Errorf("the next sequential name is %s", r.Path)
	}
	if st, _ := stat(t, n.tree, "/a"); st.Version != 1+VersionAdvance || st.Aversion != VersionAdvance {
		t.Errorf("/a has version %d, ACL version %d", st.Version, st.Aversion)
	}
	n.stop()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}))
}

// The report in the folder is the one that Run returned. It names what was dropped, and contains no value.
func TestReport(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	dir := filepath.Join(base, "new")
	r := run1(t, Options{File: s.backup, DataDir: dir})
	b := got(os.ReadFile(r.File))(t)
	var stored Report
	must(t, json.Unmarshal(b, &stored))
	if stored.V != 1 || stored.State != Done || stored.ID != r.ID || len(stored.Took) == 0 || len(stored.Checks) != len(r.Checks) {
		t.Errorf("stored report %s", b)
	}
	want := Dropped{
		Sessions:   []DroppedSession{{znode.Hex(session1), 30_000, 2}, {znode.Hex(session2), 30_000, 0}},
		Ephemerals: []DroppedEphemeral{{"/a/eph", znode.Hex(session1)}, {"/locks/e-0000000003", znode.Hex(session1)}},
	}
	if !slices.Equal(stored.Dropped.Sessions, want.Sessions) || !slices.Equal(stored.Dropped.Ephemerals, want.Ephemerals) {
		t.Errorf("dropped %+v, want %+v", stored.Dropped, want)
	}
	for _, secret := range []string{"one", "two", "ünï"} {
		if bytes.Contains(b, []byte("\""+secret)) || bytes.Contains(b, []byte(secret+" more")) {
			t.Errorf("the report holds the value %q", secret)
		}
	}
	n := start(t, dir)
	defer n.stop()
	if c := n.tree.Counts(); c.Sessions != 0 || c.Ephemerals != 0 {
		t.Errorf("counts %+v", c)
	}
}

// If the replaced folder is complete and the backup's own, clocks move only where content differs, and never back.
func TestReplaceKnown(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	before := hashFolder(t, s.dir)
	r := run1(t, Options{File: s.backup, DataDir: s.dir, Replace: true})
	if !r.Replaced.Known || r.Advanced.EpochAdvance != 0 || r.Inside {
		t.Errorf("report %+v of %+v", r, r.Replaced)
	}
	if got := hashFolder(t, r.Kept); got != before {
		t.Error("the old folder was changed")
	}
	onlyData(t, base, filepath.Base(r.Kept))
	n := start(t, s.dir)
	defer n.stop()
	if content(n.tree) != s.content {
		t.Error("the content differs")
	}
	was := s.tree.Counters().Zxid
	if got := n.tree.Counters().Zxid; got.Epoch() != was.Epoch()+1 {
		t.Errorf("zxid %v after %v", got, was)
	}
	a, _ := stat(t, n.tree, "/a")
	if a.Version != 4 || a.Mzxid <= was { // 1 in the backup, 3 in the folder
		t.Errorf("/a: %+v", a)
	}
	if box, _ := stat(t, n.tree, "/box"); box.Version != 0 || box.Mzxid > was || box.Pzxid > was {
		t.Errorf("/box has not changed, but: %+v", box)
	}
	if b, _ := stat(t, n.tree, "/a/b"); b.Version != VersionAdvance {
		t.Errorf("/a/b was deleted since, nobody knows at which version: %+v", b)
	}
	if r := n.ok(createAs(znode.PersistentSequential, 0, "/locks/l-")); r.Path <= "/locks/l-0000000004" {
		t.Errorf("the next sequential name is %s", r.Path)
	}
	live, _ := stat(t, s.tree, "/a")
	if a.Cversion <= live.Cversion {
		t.Errorf("cversion %d after %d", a.Cversion, live.Cversion)
	}
}

func TestExact(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	dir := filepath.Join(base, "copy")
	r := run1(t, Options{File: s.backup, DataDir: dir, Exact: true})
	n := start(t, dir)
	defer n.stop()
	a, _ := stat(t, n.tree, "/a")
	_, created := stat(t, n.tree, "/locks")
	if a.Version != 1 || created != 4 || r.Advanced.Versions != 0 || r.Advanced.EpochAdvance != 0 {
		t.Errorf("/a %+v, created %d, %+v", a, created, r.Advanced)
	}
	if n.tree.Counters().Zxid.Epoch() <= 2 {
		t.Errorf("zxid %v", n.tree.Counters().Zxid)
	}
}

// F9, F11: a backup of another cluster than the folder's, and one backup restored twice.
func TestOtherClusters(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	other := form(t, filepath.Join(base, "other"))
	for range 20 { // the folder has seen epochs that the backup has not
		other.stop()
		other = start(t, other.dir)
	}
	other.ok(create("/a", "the other's"))
	for range 7 {
		other.do(slices.Repeat([]*tree.Txn{set("/a", "again")}, 2000)...)
	}
	other.stop()
	r := run1(t, Options{File: s.backup, DataDir: other.dir, Replace: true})
	if r.Replaced.Known || !strings.Contains(r.Replaced.Why, "belongs to cluster") {
		t.Errorf("replaced %+v", r.Replaced)
	}
	n := start(t, other.dir)
	defer n.stop()
	if a, _ := stat(t, n.tree, "/a"); a.Version != 14001 {
		t.Errorf("/a: %+v", a)
	}
	if n.tree.Counters().Zxid <= other.tree.Counters().Zxid {
		t.Error("the zxid went back")
	}
	second := run1(t, Options{File: s.backup, DataDir: filepath.Join(base, "second")})
	if second.Identity.Cluster == r.Identity.Cluster || second.Identity.Node == r.Identity.Node ||
		second.Identity.Lineage != r.Identity.Lineage {
		t.Errorf("identities %+v and %+v", r.Identity, second.Identity)
	}
}

// A folder that cannot be read, or not to its end, is replaced all the same, and counts as unknown.
func TestReplaceDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, s *sample){
		"identity": func(t *testing.T, s *sample) { flip(t, filepath.Join(s.dir, "identity"), 40) },
		"no identity": func(t *testing.T, s *sample) {
			must(t, os.Remove(filepath.Join(s.dir, "identity")))
		},
		"log":     func(t *testing.T, s *sample) { flip(t, glob1(t, s.dir, "wal/*"), 1000) },
		"no log":  func(t *testing.T, s *sample) { must(t, os.RemoveAll(filepath.Join(s.dir, "wal"))) },
		"no data": func(t *testing.T, s *sample) { must(t, os.RemoveAll(filepath.Join(s.dir, "snapshot"))) },
		"snapshot": func(t *testing.T, s *sample) {
			flip(t, glob1(t, s.dir, "snapshot/*"), 500)
		},
		"older": func(t *testing.T, s *sample) {
			must(t, os.RemoveAll(s.dir))
			n := form(t, s.dir)
			n.identity.Cluster = s.identity.Cluster // a copy from before the backup
			must(t, os.RemoveAll(n.lock.WAL()))
			must(t, os.RemoveAll(n.lock.Snapshots()))
			n.tree = tree.New()
			n.at.Index, n.at.Term = 1, 1
			n.save()
			must(t, n.lock.WriteIdentity(n.identity))
			must(t, n.lock.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			s := newSample(t, base)
			damage(t, s)
			before := hashFolder(t, s.dir)
			r := run1(t, Options{File: s.backup, DataDir: s.dir, Replace: true})
			if r.Replaced.Known || r.Replaced.Why == "" || r.Advanced.EpochAdvance != EpochAdvance {
				t.Errorf("replaced %+v, %+v", r.Replaced, r.Advanced)
			}
			if hashFolder(t, r.Kept) != before {
				t.Error("the old folder was changed")
			}
			n := start(t, s.dir)
			defer n.stop()
			if content(n.tree) != s.content || n.tree.Counters().Zxid <= s.tree.Counters().Zxid {
				t.Error("the content or the zxid is wrong")
			}
			if a, _ := stat(t, n.tree, "/a"); a.Version < VersionAdvance {
				t.Errorf("/a: %+v", a)
			}
		})
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b := got(os.ReadFile(path))(t)
	b[min(at, int64(len(b)/2))] ^= 1
	must(t, os.WriteFile(path, b, 0o600))
}

func glob1(t *testing.T, dir, pattern string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	return all[0]
}

// A damaged newest snapshot is passed over if the log reaches back.
func TestReplaceFallsBack(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	n := start(t, s.dir)
	info := n.save()
	n.ok(set("/a", "last"))
	n.stop()
	flip(t, info.Path, 1000)
	r := run1(t, Options{File: s.backup, DataDir: s.dir, Replace: true})
	if !r.Replaced.Known || !slices.ContainsFunc(r.Notices, func(n string) bool { return strings.Contains(n, "skipped") }) {
		t.Errorf("replaced %+v, notices %q", r.Replaced, r.Notices)
	}
	n = start(t, s.dir)
	defer n.stop()
	if a, _ := stat(t, n.tree, "/a"); a.Version != 5 {
		t.Errorf("/a: %+v", a)
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	b := got(os.ReadFile(s.backup))(t)
	dir := filepath.Join(base, "new")
	_, err := Run(context.Background(), Options{File: "-", In: bytes.NewReader(b[:len(b)-1]), DataDir: dir})
	if e := wantAs[*snapshot.DamageError](t, err); !strings.Contains(e.Error(), "standard input") {
		t.Errorf("error %v", e)
	}
	onlyData(t, base)
	run1(t, Options{File: "-", In: bytes.NewReader(b), DataDir: dir})
	onlyData(t, base, "new")
	n := start(t, dir)
	defer n.stop()
	if content(n.tree) != s.content {
		t.Error("the content differs")
	}
}

// A dry run finds out everything and changes nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	must(t, os.WriteFile(filepath.Join(s.dir, "lock"), []byte("12345\n"), 0o600))
	before := hashFolder(t, base)
	for _, dir := range []string{s.dir, filepath.Join(base, "new")} {
		r := run1(t, Options{File: s.backup, DataDir: dir, Replace: true, DryRun: true})
		if r.State != Planned || !r.DryRun || len(r.Dropped.Ephemerals) != 2 || r.Digest.Before != s.digest.String() || r.Space.Need == 0 {
			t.Errorf("report %+v", r)
		}
		if r.Replaced != nil && !r.Replaced.Known {
			t.Errorf("replaced %+v", r.Replaced)
		}
	}
	if hashFolder(t, base) != before {
		t.Error("something was changed")
	}
}

// States at the limits of what is possible.
func TestStates(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(n *node){
		"empty": func(*node) {},
		"large": func(n *node) { n.ok(create("/big", strings.Repeat("x", 1<<20))) },
		"names": func(n *node) {
			n.ok(create("/…", "ellipsis"))
			n.ok(create("/…/漢字 and blanks", "\x00\xff"))
			n.ok(create("/"+strings.Repeat("n", 1023), ""))
			n.ok(createAs(znode.PersistentTTL, 0, "/ttl"))
		},
		"end of the counters": func(n *node) {
			n.ok(create("/a", ""))
			n.do(set("/a", "1"))
		},
		"quota": func(n *node) {
			n.ok(create("/q", ""))
			n.ok(create("/zookeeper/quota/q", ""))
			n.ok(create("/zookeeper/quota/q/zookeeper_limits", "count=9,bytes=-1"))
			n.ok(create("/zookeeper/quota/q/zookeeper_stats", ""))
			n.ok(openSession(session1))
			n.ok(createAs(znode.Ephemeral, session1, "/q/e"))
			n.ok(create("/q/p", "xx"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			n := form(t, filepath.Join(base, "data"))
			fill(n)
			file := n.backup(filepath.Join(base, "backup.coord"))
			n.stop()
			dir := filepath.Join(base, "new")
			run1(t, Options{File: file, DataDir: dir})
			m := start(t, dir)
			defer m.stop()
			if name == "quota" {
				usage, _ := m.tree.Get("/zookeeper/quota/q/zookeeper_stats", nil, 0)
				if !strings.HasPrefix(usage.Data, "count=2,bytes=2") {
					t.Errorf("usage %q after the ephemeral went", usage.Data)
				}
				return
			}
			if content(m.tree) != content(n.tree) {
				t.Error("the content differs")
			}
		})
	}
}

// Clocks at their end stay there, and the report says so.
func TestClocksAtTheEnd(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	b := tree.NewBuilder()
	tree.New().Freeze().Nodes("/", func(n *tree.Node) bool {
		if n.Path == "/" {
			n.Created, n.Version = 1<<31-5, 1<<31-5
		}
		must(t, b.Add(n))
		return true
	})
	tr := got(b.Tree(tree.Counters{Zxid: znode.MakeZxid(7, 1)}))(t)
	file := filepath.Join(base, "backup.coord")
	writeBackup(t, file, snapshot.Meta{ClusterID: snapshot.NewID(), RaftTerm: 3}, tr)
	dir := filepath.Join(base, "new")
	r := run1(t, Options{File: file, DataDir: dir})
	if r.Advanced.AtTheEnd != 2 || r.Identity.Lineage != r.Identity.Cluster {
		t.Errorf("report %+v", r)
	}
	n := start(t, dir)
	defer n.stop()
	if st, created := stat(t, n.tree, "/"); st.Version != 1<<31-1 || created != 1<<31-1 {
		t.Errorf("the root is %+v, created %d", st, created)
	}

	// So do epochs: the file is refused before it can do harm.
	tr = got(rebuilt(t, tree.Counters{Zxid: znode.MakeZxid(1<<31-2, 1)}))(t)
	writeBackup(t, file, snapshot.Meta{ClusterID: snapshot.NewID()}, tr)
	if _, err := Run(context.Background(), Options{File: file, DataDir: filepath.Join(base, "never")}); err == nil {
		t.Error("a state without epochs was restored")
	}
}

func rebuilt(t *testing.T, c tree.Counters) (*tree.Tree, error) {
	b := tree.NewBuilder()
	tree.New().Freeze().Nodes("/", func(n *tree.Node) bool { must(t, b.Add(n)); return true })
	return b.Tree(c)
}

// Confirm gets the whole plan, and can refuse it.
func TestConfirm(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	before := hashFolder(t, base)
	asked := false
	_, err := Run(context.Background(), Options{File: s.backup, DataDir: s.dir, Replace: true, Confirm: func(r *Report) error {
		asked = r.Kept != "" && r.Zxid.After != "" && len(r.Dropped.Sessions) == 2
		return context.Canceled
	}})
	if !errors.Is(err, context.Canceled) || !asked || hashFolder(t, base) != before {
		t.Errorf("error %v, asked %v", err, asked)
	}
}

// Two backups of two moments, restored one after the other: each replaces the previous one, and clocks continue.
func TestRestoreAgain(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	var last znode.Zxid
	var versions []int32
	for range 4 {
		r := run1(t, Options{File: s.backup, DataDir: s.dir, Replace: true})
		n := start(t, s.dir)
		if z := n.ok(set("/a", "once more")).Zxid; z <= last {
			t.Errorf("zxid %v after %v", z, last)
		} else {
			last = z
		}
		a, _ := stat(t, n.tree, "/a")
		versions = append(versions, a.Version)
		n.stop()
		must(t, os.RemoveAll(r.Kept))
	}
	if !slices.IsSorted(versions) || len(slices.Compact(slices.Clone(versions))) != 4 || versions[3] > 3*VersionAdvance {
		t.Errorf("versions %v", versions)
	}
	if id, _, _ := datadir.ReadIdentity(s.dir); id.Generation != 1 {
		t.Errorf("generation %d: each was the backup's first", id.Generation)
	}
}
