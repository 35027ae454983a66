package zkimport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"hash/adler32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"coord/tree/znode"
)

// tb is a *testing.T or a *rapid.T.
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

// enc writes ZooKeeper's records.
type enc struct{ b []byte }

func (e *enc) i32(xs ...int32) *enc {
	for _, x := range xs {
		e.b = binary.BigEndian.AppendUint32(e.b, uint32(x))
	}
	return e
}

func (e *enc) i64(xs ...int64) *enc {
	for _, x := range xs {
		e.b = binary.BigEndian.AppendUint64(e.b, uint64(x))
	}
	return e
}

func (e *enc) bool(x bool) *enc {
	if x {
		e.b = append(e.b, 1)
	} else {
		e.b = append(e.b, 0)
	}
	return e
}

func (e *enc) bytes(b []byte) *enc {
	if b == nil {
		return e.i32(-1)
	}
	e.i32(int32(len(b)))
	e.b = append(e.b, b...)
	return e
}

func (e *enc) str(s string) *enc { return e.bytes([]byte(s)) }

func (e *enc) acl(a znode.ACL) *enc {
	e.i32(int32(len(a)))
	for _, x := range a {
		e.i32(int32(x.Perms)).str(x.Scheme).str(x.ID)
	}
	return e
}

func (e *enc) head(magic string) *enc {
	e.b = append(e.b, magic...)
	return e.i32(2).i64(-1)
}

func (e *enc) seal() *enc { return e.i64(int64(adler32.Checksum(e.b))).str("/") }

// The txns, as the newest versions write them.

type change struct {
	session int64
	kind    int32
	body    []byte
}

func (c change) at(zxid uint64) []byte {
	return (&enc{}).i64(c.session).i32(7).i64(int64(zxid), timeOf(zxid)).i32(c.kind).b0(c.body)
}

func (e *enc) b0(b []byte) []byte { return append(e.b, b...) }

// timeOf is the time of the txn with a zxid.
func timeOf(zxid uint64) int64 { return 1_700_000_000_000 + int64(zxid)*1000 }

func create(path, data string, cversion int32) change {
	return change{kind: opCreate, body: (&enc{}).str(path).str(data).acl(znode.OpenACL).bool(false).i32(cversion).b}
}

func createACL(path string, acl znode.ACL, cversion int32) change {
	return change{kind: opCreate2, body: (&enc{}).str(path).bytes(nil).acl(acl).bool(false).i32(cversion).b}
}

func createEphemeral(session int64, path string, cversion int32) change {
	return change{session, opCreate2, (&enc{}).str(path).str("e").acl(znode.OpenACL).bool(true).i32(cversion).b}
}

func createContainer(path string, cversion int32) change {
	return change{kind: opCreateContainer, body: (&enc{}).str(path).str("c").acl(znode.OpenACL).i32(cversion).b}
}

func createTTL(path string, cversion int32, ttl int64) change {
	return change{kind: opCreateTTL, body: (&enc{}).str(path).str("t").acl(znode.OpenACL).i32(cversion).i64(ttl).b}
}

func remove(path string) change { return change{kind: opDelete, body: (&enc{}).str(path).b} }

func setData(path, data string, version int32) change {
	return change{kind: opSetData, body: (&enc{}).str(path).str(data).i32(version).b}
}

func setACL(path string, acl znode.ACL, version int32) change {
	return change{kind: opSetACL, body: (&enc{}).str(path).acl(acl).i32(version).b}
}

func createSession(id int64) change {
	return change{id, opCreateSession, (&enc{}).i32(30000).b}
}

func closeSession(id int64, paths ...string) change {
	e := (&enc{}).i32(int32(len(paths)))
	for _, p := range paths {
		e.str(p)
	}
	return change{id, opCloseSession, e.b}
}

// closeSession35 is the txn that 3.4 and 3.5 write.
func closeSession35(id int64) change { return change{id, opCloseSession, nil} }

func failed() change { return change{kind: opError, body: (&enc{}).i32(-101).b} }

func multi(parts ...change) change {
	e := (&enc{}).i32(int32(len(parts)))
	for _, p := range parts {
		e.i32(p.kind).bytes(p.body)
	}
	return change{kind: opMulti, body: e.b}
}

// record is a txn as it is in a log.
func record(txn []byte) []byte {
	e := (&enc{}).i64(int64(adler32.Checksum(txn))).bytes(txn)
	return append(e.b, 'B')
}

// logOf makes a log of txns that begins with a zxid.
func logOf(first uint64, changes ...change) []byte {
	e := (&enc{}).head("ZKLG")
	for i, c := range changes {
		e.b = append(e.b, record(c.at(first+uint64(i)))...)
	}
	return e.b
}

// writing is a snapshot that is being written.
type writing struct {
	enc
	acls map[string]int64
}

func key(a znode.ACL) string { return a.String() }

// begin writes what comes before the znodes.
func begin(s *state) *writing {
	w := &writing{acls: map[string]int64{key(znode.OpenACL): -1}}
	w.head("ZKSN").i32(int32(len(s.sessions)))
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		w.i64(id).i32(s.sessions[id])
	}
	lists := map[string]znode.ACL{}
	s.each(func(n *node, _ string) { lists[key(n.acl)] = n.acl })
	delete(lists, key(znode.OpenACL))
	w.i32(int32(len(lists)))
	for i, k := range slices.Sorted(maps.Keys(lists)) {
		w.acls[k] = int64(i + 1)
		w.i64(int64(i + 1)).acl(lists[k])
	}
	return w
}

// node writes one znode as it is now.
func (w *writing) node(n *node, path string) {
	number, ok := w.acls[key(n.acl)]
	if !ok {
		number = 999 // a list made after the table had been written
	}
	w.str(path).bytes(n.data).i64(number, int64(n.czxid), int64(n.mzxid), n.ctime, n.mtime).
		i32(n.version, n.cversion, n.aversion).i64(n.owner, int64(n.pzxid))
}

// each visits the nodes in the order of a snapshot.
func (s *state) each(f func(n *node, path string)) {
	var walk func(n *node, path string)
	walk = func(n *node, path string) {
		f(n, path)
		for _, name := range slices.Sorted(maps.Keys(n.children)) {
			walk(n.children[name], path+"/"+name)
		}
	}
	walk(s.root, "")
}

// snapshotOf is an exact snapshot.
func snapshotOf(s *state) []byte {
	w := begin(s)
	s.each(w.node)
	return w.str("/").seal().b
}

// played is the state of a fresh ZooKeeper after some txns, from zxid 0x1 on.
func played(t tb, changes ...change) *state {
	t.Helper()
	s := fresh()
	for _, c := range changes {
		_, err := s.apply(c.at(s.last + 1))
		must(t, err)
	}
	return s
}

// files makes a folder; the names are without version-2/.
func files(t testing.TB, all map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	fill(t, dir, all)
	return dir
}

func fill(t tb, dir string, all map[string][]byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "version-2"), 0o700))
	for name, b := range all {
		must(t, os.WriteFile(filepath.Join(dir, "version-2", name), b, 0o600))
	}
}

func hex(zxid uint64) string { return strconv.FormatUint(zxid, 16) }

func read(dir string) (*Import, error) {
	return Read(context.Background(), Options{Dir: dir})
}

func mustRead(t tb, dir string) *Import {
	t.Helper()
	z, err := read(dir)
	must(t, err)
	return z
}

// treeOf is the tree that an import of exactly this state gives.
func treeOf(t tb, s *state) *built {
	t.Helper()
	s.system()
	s.quotas()
	b, err := s.build()
	must(t, err)
	return b
}

// padded appends the zeros of preallocation.
func padded(b []byte) []byte { return append(bytes.Clone(b), make([]byte, 300)...) }

func newReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }
