package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// tb is a *testing.T, *testing.B or *rapid.T.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func got[T any](x T, err error) func(t tb) T {
	return func(t tb) T { t.Helper(); must(t, err); return x }
}

// T0 is the stamp of the first txn.
const T0 = int64(1_700_000_000_000)

// node does to a data folder what a server does, without a server.
type node struct {
	tb
	dir      string
	identity datadir.Identity
	lock     *datadir.Dir
	log      *wal.Log
	tree     *tree.Tree
	at       wal.Position
	now      int64
	others   []uint64 // other nodes that also vote
}

// form does a first start.
func form(t tb, dir string) *node {
	t.Helper()
	n := &node{tb: t, dir: dir, identity: datadir.NewIdentity(time.UnixMilli(T0)), now: T0}
	n.lock = got(datadir.Open(dir, true))(t)
	must(t, n.lock.WriteIdentity(n.identity))
	n.tree, n.at = tree.New(), wal.Position{Index: 1, Term: 1}
	n.save()
	l, _, err := wal.Open(n.lock.WAL(), wal.Options{Meta: n.logMeta()})
	must(t, err)
	must(t, l.Reset(n.at, wal.HardState{Term: 1, Commit: 1}))
	must(t, l.Close())
	n.identity.State = datadir.Member
	must(t, n.lock.WriteIdentity(n.identity))
	must(t, n.lock.Close())
	return start(t, dir)
}

// start opens a folder as a server's start does, and becomes leader.
func start(t tb, dir string) *node {
	t.Helper()
	if done, err := Recover(dir); err != nil || done != "" {
		t.Fatalf("recover before a start: %q %v", done, err)
	}
	n := &node{tb: t, dir: dir, now: T0}
	var ok bool
	var err error
	n.lock = got(datadir.Open(dir, true))(t)
	if n.identity, ok, err = n.lock.Identity(); err != nil || !ok || n.identity.State != datadir.Member {
		t.Fatalf("identity %+v %v %v", n.identity, ok, err)
	}
	var info snapshot.Info
	store := got(snapshot.OpenStore(n.lock.Snapshots(), snapshot.Pace{}))(t)
	var bad []snapshot.Entry
	n.tree, info, bad, err = store.Load()
	must(t, err)
	if len(bad) > 0 || info.Meta.ClusterID != n.identity.Cluster || !slices.Equal(info.Meta.Conf.Voters, []uint64{n.identity.Node}) {
		t.Fatalf("snapshot of %v, members %x, bad %v; identity %+v", info.Meta.ClusterID, info.Meta.Conf.Voters, bad, n.identity)
	}
	var found *wal.Recovered
	n.log, found, err = wal.Open(n.lock.WAL(), wal.Options{Meta: n.logMeta(), MustExist: true, MustReach: info.Meta.RaftIndex})
	must(t, err)
	if found.First > info.Meta.RaftIndex+1 {
		t.Fatalf("the log begins with %d, the snapshot ends with %d", found.First, info.Meta.RaftIndex)
	}
	entries := got(n.log.Entries(info.Meta.RaftIndex+1, found.Last+1, 1<<40))(t)
	for _, e := range entries {
		if len(e.GetData()) > 0 {
			must(t, tree.Decode(e.GetData(), func(x *tree.Txn) { n.tree.Apply(e.GetTerm(), x) }))
		}
	}
	n.now = max(n.now, n.tree.Counters().TimeMS)
	n.at = wal.Position{Index: found.Last, Term: found.HardState.Term + 1}
	must(t, n.log.Append(wal.Batch{HardState: wal.HardState{Term: n.at.Term, Vote: n.identity.Node}, Sync: true}))
	n.entry(nil) // the leader's first entry
	return n
}

func (n *node) logMeta() wal.Meta {
	return wal.Meta{ClusterID: n.identity.Cluster, NodeID: n.identity.Node}
}

func (n *node) entry(data []byte) {
	n.Helper()
	n.at.Index++
	index, term := n.at.Index, n.at.Term
	must(n, n.log.Append(wal.Batch{Entries: []*raftpb.Entry{{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: data}}, Sync: true}))
}

// do logs and applies txns, all in one entry.
func (n *node) do(txns ...*tree.Txn) []tree.Result {
	n.Helper()
	var enc tree.Encoder
	for _, x := range txns {
		x.Origin, x.IDs = n.identity.Node, []znode.Identity{znode.Super}
		enc.Add(x)
	}
	n.now += 1000
	batch := enc.AppendBatch(nil, n.now)
	n.entry(batch)
	var results []tree.Result
	must(n, tree.Decode(batch, func(x *tree.Txn) {
		r, _ := n.tree.Apply(n.at.Term, x)
		results = append(results, r)
	}))
	return results
}

// ok is do for a txn that must succeed.
func (n *node) ok(x *tree.Txn) tree.Result {
	n.Helper()
	r := n.do(x)[0]
	if r.Code != znode.OK {
		n.Fatalf("%v %s: %v", x.Kind, x.Path, r.Code)
	}
	return r
}

func create(path, data string) *tree.Txn {
	return &tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: path, Data: []byte(data), ACL: znode.OpenACL}}
}

func createAs(mode znode.Mode, session int64, path string) *tree.Txn {
	x := create(path, "")
	x.Mode, x.Session = mode, session
	if mode.TTL() {
		x.TTLMS = 60_000
	}
	return x
}

func set(path, data string) *tree.Txn {
	return &tree.Txn{Op: tree.Op{Kind: tree.KindSetData, Path: path, Data: []byte(data), Version: -1}}
}

func remove(path string) *tree.Txn {
	return &tree.Txn{Op: tree.Op{Kind: tree.KindDelete, Path: path, Version: -1}}
}

func openSession(id int64) *tree.Txn {
	return &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id, TimeoutMS: 30_000, Password: make([]byte, 16)}
}

func (n *node) meta() snapshot.Meta {
	return snapshot.Meta{BackupID: snapshot.NewID(), ClusterID: n.identity.Cluster, LineageID: n.identity.Lineage, Generation: n.identity.Generation,
		RaftIndex: n.at.Index, RaftTerm: n.at.Term, Conf: snapshot.ConfState{Voters: append([]uint64{n.identity.Node}, n.others...)}, Writer: "coord test"}
}

// save makes a snapshot in the folder.
func (n *node) save() snapshot.Info { n.Helper(); return n.saveAs(n.meta()) }

func (n *node) saveAs(m snapshot.Meta) snapshot.Info {
	n.Helper()
	store := got(snapshot.OpenStore(n.lock.Snapshots(), snapshot.Pace{}))(n)
	return got(store.Save(context.Background(), m, n.tree.Freeze(), snapshot.Options{}))(n)
}

// backup writes a backup file.
func (n *node) backup(path string) string {
	n.Helper()
	m := n.meta()
	m.Codec = snapshot.Zstd
	writeBackup(n, path, m, n.tree)
	return path
}

func writeBackup(t tb, path string, m snapshot.Meta, of *tree.Tree) {
	t.Helper()
	var b bytes.Buffer
	_, err := snapshot.Write(&b, m, of.Freeze(), snapshot.Options{})
	must(t, err)
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
}

func (n *node) stop() *node {
	n.Helper()
	must(n, n.log.Close())
	must(n, n.lock.Close())
	return n
}

// stat is the stat of a znode, with its counter of created children.
func stat(t tb, tr *tree.Tree, path string) (znode.Stat, int32) {
	t.Helper()
	z, code := tr.Get(path, nil, 0)
	if code != znode.OK {
		t.Fatalf("%s: %v", path, code)
	}
	return z.Stat, createdOf(&z.Stat)
}

// content is everything in a state that no restore may change, as text: paths, data, ACLs, creation.
func content(tr *tree.Tree) string {
	var b strings.Builder
	tr.Freeze().Nodes(znode.Root, func(n *tree.Node) bool {
		if znode.ExplainOwner(n.Owner).Session == 0 {
			fmt.Fprintf(&b, "%q %q %v %v %v %d %d %d\n", n.Path, n.Data, n.Data == nil, n.ACL, n.Czxid, n.CtimeMS, n.MtimeMS, n.Owner)
		}
		return true
	})
	return b.String()
}

// hashFolder is the digest of names, modes, links and bytes below dir. It leaves out what the names
// in except refer to.
func hashFolder(t tb, dir string, except ...string) string {
	t.Helper()
	h := sha256.New()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(except, d.Name()) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintf(h, "%q %v\n", name, info.Mode())
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			fmt.Fprintf(h, "%q\n", to)
		case !d.IsDir():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%d %x\n", len(b), sha256.Sum256(b))
		}
		return nil
	}))
	return hex.EncodeToString(h.Sum(nil))
}

// names lists a folder.
func names(t tb, dir string) []string {
	t.Helper()
	var out []string
	for _, e := range got(os.ReadDir(dir))(t) {
		out = append(out, e.Name())
	}
	return out
}

// sample is a stopped node with a history, a backup from the middle of that history, and the state at that time.
type sample struct {
	*node
	backup  string
	content string
	digest  tree.Digest
}

const session1, session2 = 0x1000001, 0x1000002

func newSample(t tb, base string) *sample {
	t.Helper()
	n := form(t, filepath.Join(base, "data"))
	n.ok(create("/a", "one"))
	n.ok(create("/a/b", "two"))
	n.ok(create("/é", "ünï"))
	n.ok(create("/locks", ""))
	for range 3 {
		n.ok(createAs(znode.PersistentSequential, 0, "/locks/l-"))
	}
	n.ok(createAs(znode.Container, 0, "/box"))
	n.ok(openSession(session1))
	n.ok(openSession(session2))
	n.ok(createAs(znode.Ephemeral, session1, "/a/eph"))
	n.ok(createAs(znode.EphemeralSequential, session1, "/locks/e-"))
	n.ok(set("/a", "one more"))
	s := &sample{node: n, backup: n.backup(filepath.Join(base, "backup.coord")), content: content(n.tree), digest: n.tree.Digest()}
	n.ok(set("/a", "after the backup"))
	n.ok(set("/a", "long after the backup"))
	n.ok(create("/later", "x"))
	n.ok(createAs(znode.PersistentSequential, 0, "/locks/l-"))
	n.ok(remove("/a/b"))
	n.stop()
	return s
}

// newMember is a stopped node that is one of three. After its snapshot the log has an entry known to be
// committed, a change of members, and two entries of which nothing is known. content includes all of them.
func newMember(t tb, base string) *sample {
	t.Helper()
	n := form(t, filepath.Join(base, "data"))
	n.ok(create("/a", "one"))
	n.ok(create("/locks", ""))
	n.ok(createAs(znode.PersistentSequential, 0, "/locks/l-"))
	n.ok(openSession(session1))
	n.ok(createAs(znode.Ephemeral, session1, "/a/eph"))
	n.others = []uint64{7, 8}
	n.save()
	n.ok(set("/a", "committed"))
	must(t, n.log.Append(wal.Batch{HardState: wal.HardState{Term: n.at.Term, Vote: n.identity.Node, Commit: n.at.Index}, Sync: true}))
	n.changeMembers()
	n.ok(set("/a", "known to nobody"))
	n.ok(create("/tail", "too"))
	return &sample{node: n.stop(), content: content(n.tree), digest: n.tree.Digest()}
}

// changeMembers logs a change of members; its content matters only to raft.
func (n *node) changeMembers() {
	n.Helper()
	n.at.Index++
	index, term := n.at.Index, n.at.Term
	must(n, n.log.Append(wal.Batch{Entries: []*raftpb.Entry{{Index: &index, Term: &term, Type: raftpb.EntryConfChangeV2.Enum()}}, Sync: true}))
}

func run1(t tb, o Options) *Report {
	t.Helper()
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	return r
}

// onlyData checks that nothing but the data folder and the other names is left in base.
func onlyData(t tb, base string, also ...string) {
	t.Helper()
	for _, name := range names(t, base) {
		if name != "data" && name != "backup.coord" && !slices.Contains(also, name) {
			t.Errorf("%s is left in %v", name, names(t, base))
		}
	}
}

func wantAs[E error](t testing.TB, err error) (e E) {
	t.Helper()
	if !errors.As(err, &e) {
		t.Fatalf("error %T (%v), want %T", err, err, e)
	}
	return e
}

// ramDir is for tests that restore a hundred times: in memory if the machine has such a folder.
func ramDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "coord-restore-") //nolint:usetesting // t.TempDir is on the disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// skip skips a test because a program or a permission is missing, visibly; where every test must run, it fails.
func skip(t testing.TB, format string, a ...any) {
	t.Helper()
	if os.Getenv("COORD_TEST_ALL") != "" {
		t.Fatalf("COORD_TEST_ALL wants every test to run: "+format, a...)
	}
	t.Skipf("SKIPPED: "+format, a...)
}
