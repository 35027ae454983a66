package restore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/adler32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coord/snapshot/zkimport"
	"coord/tree"
	"coord/tree/znode"
)

// zooKeeper is a copy of the folder that a real ZooKeeper wrote.
func zooKeeper(t testing.TB, dir string) string {
	t.Helper()
	must(t, os.CopyFS(dir, os.DirFS("../zkimport/testdata/zookeeper-3.8.0")))
	return dir
}

// zkTxn is a txn as ZooKeeper's log has it, without the zxid.
type zkTxn struct {
	session int64
	kind    int32
	body    []byte
}

func zkString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// goOn adds a log of a new epoch to the folder.
func goOn(t testing.TB, dir string, epoch uint32, txns ...zkTxn) {
	t.Helper()
	log := append([]byte("ZKLG\x00\x00\x00\x02"), make([]byte, 8)...)
	for i, x := range txns {
		b := binary.BigEndian.AppendUint64(nil, uint64(x.session))
		b = binary.BigEndian.AppendUint32(b, 1)
		b = binary.BigEndian.AppendUint64(b, uint64(znode.MakeZxid(epoch, uint32(i+1))))
		b = binary.BigEndian.AppendUint64(b, uint64(T0))
		b = append(binary.BigEndian.AppendUint32(b, uint32(x.kind)), x.body...)
		log = binary.BigEndian.AppendUint64(log, uint64(adler32.Checksum(b)))
		log = append(zkString(log, string(b)), 'B')
	}
	must(t, os.WriteFile(filepath.Join(dir, "version-2", fmt.Sprintf("log.%x", uint64(znode.MakeZxid(epoch, 1)))), log, 0o600))
}

// An import keeps versions, counters and zxids, drops sessions, and makes a new cluster in the next epoch.
func TestImport(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	from := zooKeeper(t, filepath.Join(base, "zk"))
	before := hashFolder(t, from)
	was := got(zkimport.Read(t.Context(), zkimport.Options{Dir: from}))(t)
	dir := filepath.Join(base, "new")

	dry := run1(t, Options{ZooKeeper: from, DataDir: dir, DryRun: true})
	if dry.State != Planned || dry.Epoch.After != "1" || exists(dir) {
		t.Errorf("dry run: %+v", dry)
	}
	r := run1(t, Options{ZooKeeper: from, DataDir: dir, Writer: "coord test"})
	if r.State != Done || r.Backup != nil || r.ZooKeeper.Snapshot != "snapshot.4" || r.ZooKeeper.Ephemerals != 2 || !strings.Contains(r.ZooKeeper.Digest, "equal") {
		t.Errorf("report %+v %+v", r, r.ZooKeeper)
	}
	if len(r.Dropped.Sessions) != 3 || len(r.Dropped.Ephemerals) != 2 || r.Dropped.Ephemerals[1].Path != "/members/m-0000000001" {
		t.Errorf("dropped %+v", r.Dropped)
	}
	if n := r.Advanced; !n.Exact || n.Versions+n.ACLVersions+n.Counters+n.Unknown != 0 || n.EpochAdvance != 0 {
		t.Errorf("clocks %+v", n)
	}
	var kept Report
	must(t, json.Unmarshal(got(os.ReadFile(r.File))(t), &kept))
	if kept.State != Done || kept.ZooKeeper == nil || kept.Backup != nil || len(kept.Dropped.Sessions) != 3 {
		t.Errorf("the report in the folder: %+v", kept)
	}
	if hashFolder(t, from) != before {
		t.Error("ZooKeeper's folder is another one")
	}

	n := start(t, dir)
	if id := n.identity; id.Lineage != id.Cluster || id.Generation != 0 {
		t.Errorf("identity %+v", id)
	}
	was.Tree.Walk("/", "", -1, []znode.Identity{znode.Super}, func(path string, z func() tree.Znode) bool {
		want := z()
		is, code := n.tree.Get(path, nil, 0)
		switch {
		case want.Owner.Session != 0 && code == znode.ErrNoNode:
			return true
		case path == "/members":
			want.Stat.NumChildren, want.Stat.Cversion = 0, want.Stat.Cversion+2
			want.Stat.Pzxid = is.Stat.Pzxid
			if is.Stat.Pzxid.Epoch() != 1 {
				t.Errorf("pzxid of /members: %v", is.Stat.Pzxid)
			}
		}
		if fmt.Sprint(is) != fmt.Sprint(want) {
			t.Errorf("%s is %+v, was %+v", path, is, want)
		}
		return true
	})
	for parent, next := range map[string]string{"/queue": "/queue/n-0000000006", "/members": "/members/n-0000000004", "/app": "/app/n-0000000004", "/": "/n-0000000008"} {
		x := createAs(znode.PersistentSequential, 0, znode.Join(parent, "n-"))
		if r := n.ok(x); r.Path != next || r.Zxid.Epoch() <= 0 {
			t.Errorf("the next name is %s, want %s", r.Path, next)
		}
	}
	n.stop()
}

// The folder of an ensemble's member: others may have gone further, and what names the old servers
// is removed. Session ids that coord cannot have are reported as they were.
func TestImportMember(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	from := zooKeeper(t, filepath.Join(base, "zk"))
	session := int64(-1<<56 | 0x1234567890<<16) // of server 255
	acl := zkString(zkString([]byte{0, 0, 0, 1, 0, 0, 0, 31}, "world"), "anyone")
	create := append(zkString(zkString(nil, "/mine"), "e"), acl...)
	goOn(t, from, 3,
		zkTxn{0, 16, append(zkString(zkString(nil, "/zookeeper/config"), "server.1=10.0.0.1:2888:3888"), 255, 255, 255, 255)},
		zkTxn{session, -10, []byte{0, 0, 100, 0}}, zkTxn{session, 15, append(create, 1, 0, 0, 0, 99)})
	must(t, os.WriteFile(filepath.Join(from, "version-2", "acceptedEpoch"), []byte("7"), 0o600))
	r := run1(t, Options{ZooKeeper: from, DataDir: filepath.Join(base, "new")})
	if r.Epoch != (Change{"7", fmt.Sprint(7 + EpochAdvance + 1)}) || r.Zxid.Before != "0x300000003" || r.Advanced.EpochAdvance != EpochAdvance {
		t.Errorf("epoch %+v, zxid %+v", r.Epoch, r.Zxid)
	}
	notices := strings.Join(r.Notices, "\n")
	if !strings.Contains(notices, "one of several servers") || !strings.Contains(notices, "/zookeeper/config listed the servers") {
		t.Errorf("notices %s", notices)
	}
	if e := r.Dropped.Ephemerals; len(e) != 3 || e[2] != (DroppedEphemeral{"/mine", znode.Hex(uint64(session))}) {
		t.Errorf("dropped %+v", r.Dropped)
	}
	n := start(t, filepath.Join(base, "new"))
	if z, _ := n.tree.Get(znode.ConfigPath, nil, 0); z.Data != "" || z.Stat.Mzxid.Epoch() != 7+EpochAdvance+1 || !z.ACL.Equal(znode.ReadACL) {
		t.Errorf("%s: %+v", znode.ConfigPath, z)
	}
	if st, _ := stat(t, n.tree, "/"); (st.Cversion+st.NumChildren)/2 != 99 {
		t.Errorf("/: %+v", st)
	}
	n.stop()
}

// Over a node's data: only with Replace, and above its epoch too.
func TestImportReplace(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	from := zooKeeper(t, filepath.Join(base, "zk"))
	_, err := Run(t.Context(), Options{ZooKeeper: from, DataDir: s.dir})
	if !errors.As(err, new(*NotEmptyError)) {
		t.Fatal(err)
	}
	n := start(t, s.dir)
	seen := n.ok(create("/seen", "")).Zxid
	n.stop()
	r := run1(t, Options{ZooKeeper: from, DataDir: s.dir, Replace: true})
	if r.Kept == "" || r.Replaced == nil || r.Replaced.Known || r.Replaced.Why == "" {
		t.Errorf("report %+v %+v", r, r.Replaced)
	}
	n = start(t, s.dir)
	if is := n.ok(create("/first", "")).Zxid; is <= seen {
		t.Errorf("zxid %v after %v", is, seen)
	}
	if st, _ := stat(t, n.tree, "/app"); st.Version != 2 {
		t.Errorf("/app: %+v", st)
	}
	n.stop()
}

// A folder that cannot be imported changes nothing.
func TestImportRefused(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	from := zooKeeper(t, filepath.Join(base, "zk"))
	before := hashFolder(t, base)
	if _, err := Run(t.Context(), Options{ZooKeeper: from, DataDir: from}); !errors.As(err, new(*RefusedError)) {
		t.Errorf("onto itself: %v", err)
	}
	if _, err := Run(t.Context(), Options{ZooKeeper: from, File: "x", DataDir: filepath.Join(base, "new")}); err == nil {
		t.Error("two sources")
	}
	stop := errors.New("stop")
	if _, err := Run(t.Context(), Options{ZooKeeper: from, DataDir: filepath.Join(base, "new"), Progress: func(p Progress) error {
		if p.Stage == Write {
			return stop
		}
		return nil
	}}); !errors.Is(err, stop) {
		t.Errorf("stopped: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{ZooKeeper: from, DataDir: filepath.Join(base, "new")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	log, err := os.OpenFile(filepath.Join(from, "version-2", "log.1"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	if _, err := Run(t.Context(), Options{ZooKeeper: from, DataDir: filepath.Join(base, "new")}); !errors.As(err, new(*zkimport.InUseError)) {
		t.Errorf("while ZooKeeper has its log open: %v", err)
	}
	must(t, log.Close())
	if hashFolder(t, base) != before {
		t.Error("something was changed")
	}
	must(t, os.Remove(filepath.Join(from, "version-2", "log.5")))
	must(t, os.Remove(filepath.Join(from, "version-2", "log.1")))
	if _, err := Run(t.Context(), Options{ZooKeeper: from, DataDir: filepath.Join(base, "new")}); !errors.As(err, new(*zkimport.DamageError)) || exists(filepath.Join(base, "new")) {
		t.Errorf("without logs: %v", err)
	}
}
