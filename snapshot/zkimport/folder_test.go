package zkimport

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	snappyjava "github.com/klauspost/compress/snappy/xerial"

	"coord/tree/znode"
)

// three is a log of three txns, zxids 1 to 3.
var three = []change{create("/a", "a", 1), create("/a/b", "b", 1), setData("/a", "2", 1)}

// in is the zxid of a counter in an epoch.
func in(epoch, counter uint64) uint64 { return epoch<<32 | counter }

// TestLogs: what may be wrong with logs, and what only seems wrong.
func TestLogs(t *testing.T) {
	empty := snapshotOf(fresh())
	log1 := logOf(1, three...)
	after := func(s *state, zxid uint64) []byte { s.last = zxid; return snapshotOf(s) }
	flipped := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
	cut := func(b []byte, n int) []byte { return b[:len(b)-n] }
	for _, c := range []struct {
		name  string
		files map[string][]byte
		last  uint64 // 0: the folder is refused
		says  string // part of the error, or of a notice
	}{
		{"whole", map[string][]byte{"snapshot.0": empty, "log.1": log1}, 3, ""},
		{"zeros behind", map[string][]byte{"snapshot.0": empty, "log.1": padded(log1)}, 3, ""},
		{"a few zeros behind", map[string][]byte{"snapshot.0": empty, "log.1": append(bytes.Clone(log1), 0, 0, 0)}, 3, ""},
		{"in pieces", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, three[0]), "log.2": padded(logOf(2, three[1:]...))}, 3, ""},
		{"no snapshot", map[string][]byte{"log.1": log1}, 3, "no snapshot"},
		{"no snapshot, not the beginning", map[string][]byte{"log.2": logOf(2, three[1:]...)}, 0, "zxid 0x2 comes after 0x0"},
		{"no snapshot, of an ensemble", map[string][]byte{"log.100000001": logOf(in(1, 1), three...)}, in(1, 3), "no snapshot"},
		{"no snapshot, of an ensemble and two epochs", map[string][]byte{"log.100000001": logOf(in(1, 1), three[:2]...), "log.300000001": logOf(in(3, 1), three[2])}, in(3, 1), "no snapshot"},
		{"no snapshot, of an ensemble, a later epoch", map[string][]byte{"log.300000001": logOf(in(3, 1), createSession(5), create("/b", "b", 2))}, 0,
			"begins with zxid 0x300000001, does not have the first znode"},
		{"no snapshot, of an ensemble, not the beginning", map[string][]byte{"log.100000002": logOf(in(1, 2), three[1:]...)}, 0, "zxid 0x100000002 comes after 0x0"},
		{"a first epoch", map[string][]byte{"snapshot.0": empty, "log.100000001": logOf(in(1, 1), three...)}, in(1, 3), ""},
		{"a next epoch", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, three[:2]...), "log.300000001": logOf(in(3, 1), three[2])}, in(3, 1), ""},
		{"a next epoch, not its beginning", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, three[:2]...), "log.300000002": logOf(in(3, 2), three[2])}, 0,
			"log.300000002: at offset 16: zxid 0x300000002 comes after 0x2"},
		{"a leader's first snapshot", map[string][]byte{"snapshot.100000000": after(played(t, three[:2]...), in(1, 0)),
			"log.1": logOf(1, three[:2]...), "log.100000001": logOf(in(1, 1), three[2])}, in(1, 1), ""},
		{"no log", map[string][]byte{"snapshot.3": snapshotOf(played(t, three...))}, 0, "holds no log"},
		{"no log and nothing else", map[string][]byte{}, 0, "no snapshot and no log"},
		{"a gap", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, three[0]), "log.3": logOf(3, three[2])}, 0, "log.3: at offset 16: zxid 0x3 comes after 0x1"},
		{"a gap within a log", map[string][]byte{"snapshot.0": empty, "log.1": append(logOf(1, three[0]), logOf(3, three[2])[16:]...)}, 0, "zxid 0x3 comes after 0x1"},
		{"a gap that the snapshot covers", map[string][]byte{"snapshot.2": snapshotOf(played(t, three[:2]...)), "log.1": logOf(1, three[0]), "log.3": logOf(3, three[2])}, 3, ""},
		{"old logs only", map[string][]byte{"snapshot.3": snapshotOf(played(t, three...)), "log.1": logOf(1, three[:2]...)}, 3, "before the snapshot of zxid 0x3"},
		{"txns a second time", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, three[:2]...), "log.2": logOf(2, three[1:]...)}, 3, ""},
		{"less than the snapshot shows", map[string][]byte{"snapshot.0": snapshotOf(played(t, three...)), "log.1": logOf(1, three[:2]...)}, 0, "shows a change of zxid 0x3"},
		{"less than the snapshot's digest", map[string][]byte{"snapshot.0": (&enc{snapshotOf(played(t, three[:2]...))}).i64(3).i32(2).i64(1).seal().b,
			"log.1": logOf(1, three[:2]...)}, 0, "was finished at zxid 0x3"},
		{"less than a damaged snapshot", map[string][]byte{"snapshot.0": empty, "snapshot.9": []byte("ZKSN"), "log.1": log1}, 0, "a damaged snapshot of zxid 0x9"},
		{"a last record that is cut", map[string][]byte{"snapshot.0": empty, "log.1": padded(cut(log1, 7))}, 2, "unfinished write"},
		{"a last record without its end", map[string][]byte{"snapshot.0": empty, "log.1": cut(log1, 1)}, 2, "unfinished write"},
		{"a last record that is wrong", map[string][]byte{"snapshot.0": empty, "log.1": padded(flipped(log1, -9))}, 2, "the checksum of a record is wrong"},
		{"a head of a record", map[string][]byte{"snapshot.0": empty, "log.1": append(bytes.Clone(log1), record(three[0].at(4))[:12]...)}, 3, "12 bytes"},
		{"a page that did not arrive", map[string][]byte{"snapshot.0": empty, "log.1": append(padded(log1), "garbage"...)}, 3, "an empty record"},
		{"a record in the middle that is wrong", map[string][]byte{"snapshot.0": empty, "log.1": flipped(log1, 16+12+40)}, 0, "log.1: at offset 16: the checksum of a record is wrong, but complete ones follow it"},
		{"a length in the middle that is wrong", map[string][]byte{"snapshot.0": empty, "log.1": flipped(log1, 16+8)}, 0, "but complete ones follow it"},
		{"a record behind zeros", map[string][]byte{"snapshot.0": empty, "log.1": append(padded(log1), record(three[0].at(4))...)}, 0, "but complete ones follow it"},
		{"an older log that is cut, its zxid given again", map[string][]byte{"snapshot.0": empty, "log.1": cut(logOf(1, three[:2]...), 5), "log.2": logOf(2, three[1:]...)}, 3, "unfinished write"},
		{"an older log that is cut, and a new epoch", map[string][]byte{"snapshot.0": empty, "log.1": cut(logOf(1, three[:2]...), 5), "log.100000001": logOf(in(1, 1), three[1])}, 0,
			"log.1: at offset"},
		{"an older log that is cut, and a gap", map[string][]byte{"snapshot.0": empty, "log.1": cut(logOf(1, three[:2]...), 5), "log.3": logOf(3, three[2])}, 0, "log.1: at offset"},
		{"an older log that is cut before the snapshot", map[string][]byte{"snapshot.2": snapshotOf(played(t, three[:2]...)), "log.1": cut(logOf(1, three[:2]...), 5),
			"log.3": logOf(3, three[2])}, 3, "unfinished write"},
		{"a last log of nothing", map[string][]byte{"snapshot.0": empty, "log.1": log1, "log.4": {}}, 3, "log.4 is empty"},
		{"a last log of zeros", map[string][]byte{"snapshot.0": empty, "log.1": log1, "log.4": make([]byte, 100)}, 3, "log.4 is empty"},
		{"a last log of its head", map[string][]byte{"snapshot.0": empty, "log.1": log1, "log.4": padded(logOf(4))}, 3, ""},
		{"no log at all", map[string][]byte{"snapshot.0": empty, "log.1": []byte("this is something else")}, 0, `begins with "this"`},
		{"another format", map[string][]byte{"snapshot.0": empty, "log.1": flipped(log1, 7)}, 0, "has format 3"},
		{"an unknown txn", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, change{kind: 99})}, 0, "unknown txn type 99"},
		{"an unknown part", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, multi(change{kind: opCreateSession}))}, 0, "unknown txn type -10"},
		{"a txn with more in it", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, change{kind: opDelete, body: append((&enc{}).str("/a").b, 1)})}, 0, "1 bytes too many"},
		{"a txn with less in it", map[string][]byte{"snapshot.0": empty, "log.1": logOf(1, change{kind: opSetData, body: (&enc{}).str("/a").b})}, 0, "in the middle of a record"},
		{"files of other names", map[string][]byte{"snapshot.0": empty, "log.1": log1, "log.x": nil, "log.": nil, "snapshot.9.tmp": nil, "snapshot.-1": nil, "log.9.gz": nil}, 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			z, err := read(files(t, c.files))
			if c.last == 0 {
				var damage *DamageError
				var foreign *ForeignError
				if err == nil || !errors.As(err, &damage) && !errors.As(err, &foreign) || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("%v", err)
				}
				return
			}
			must(t, err)
			if got := z.Tree.Counters().Zxid; got != znode.Zxid(c.last) {
				t.Errorf("it ends with %v: %q", got, z.Notices)
			}
			if said := strings.Join(z.Notices, "\n"); !strings.Contains(said, c.says) || c.says == "" && said != "" {
				t.Errorf("it says %q", said)
			}
			if z.TimeMS != timeOf(c.last) {
				t.Errorf("the time is %d", z.TimeMS-timeOf(0))
			}
		})
	}
}

// TestSnapshots: what may be wrong with a snapshot.
func TestSnapshots(t *testing.T) {
	s := played(t, create("/a", "a", 1), createACL("/a/b", aclA, 1))
	good := snapshotOf(s)
	sealed := func(e *enc) []byte { return e.seal().b }
	root := func(w *writing) *writing { w.node(s.root, ""); return w }
	plain := &node{data: []byte{}, acl: znode.OpenACL}
	for _, c := range []struct {
		name string
		b    []byte
		says string // part of the error; "": the snapshot is good
	}{
		{"good", good, ""},
		{"3.6", sealed((&enc{bytes.Clone(good)}).i64(2).i32(2).i64(int64(s.sums[0]))), ""},
		{"3.9", sealed((&enc{sealed((&enc{bytes.Clone(good)}).i64(2).i32(2).i64(int64(s.sums[0])))}).i64(2)), ""},
		{"3.9 without digest", sealed((&enc{bytes.Clone(good)}).i64(2)), ""},
		{"no digest yet", sealed((&enc{bytes.Clone(good)}).i64(0).i32(2).i64(0)), ""},
		{"last zxid of before", sealed((&enc{bytes.Clone(good)}).i64(1)), "ends with zxid 0x1"},
		{"digest with a wrong seal", append(sealed((&enc{bytes.Clone(good)}).i64(2).i32(2).i64(1)), 0)[1:], "begins with"},
		{"something behind", append(bytes.Clone(good), 1), "unknown bytes"},
		{"much behind", append(bytes.Clone(good), make([]byte, 1000)...), "unknown bytes"},
		{"nothing", nil, "in the middle"},
		{"another magic", append([]byte("ZKLG"), good[4:]...), `begins with "ZKLG"`},
		{"seal with another end", (&enc{bytes.Clone(good[:len(good)-1])}).b0([]byte("x")), "after its checksum"},
		{"no root", sealed(begin(s).str("/")), "access list"},
		{"a child first", func() []byte { w := begin(s); w.node(plain, "/a"); return sealed(w.str("/")) }(), "not with the root"},
		{"a parent that is missing", func() []byte { w := root(begin(s)); w.node(plain, "/x/y"); return sealed(w.str("/")) }(), "without its parent"},
		{"no name", func() []byte { w := root(begin(s)); w.node(plain, "/"+"x/"); return sealed(w.str("/")) }(), "without its parent"},
		{"twice", func() []byte {
			w := root(begin(s))
			w.node(plain, "/x")
			w.node(plain, "/x")
			return sealed(w.str("/"))
		}(), "twice"},
		{"a negative count", sealed((&enc{}).head("ZKSN").i32(-2)), "-2 elements"},
		{"two milliards of sessions", (&enc{}).head("ZKSN").i32(math.MaxInt32).b, "in the middle"},
		{"two milliards of lists", (&enc{}).head("ZKSN").i32(0, math.MaxInt32).b, "in the middle"},
		{"two milliards of entries", (&enc{}).head("ZKSN").i32(0, 1).i64(1).i32(math.MaxInt32).b, "in the middle"},
		{"a path of 2 GiB", (&enc{}).head("ZKSN").i32(0, 0, math.MaxInt32).b, "has a value of 2147483647 bytes"},
		{"a path of 32 MiB", (&enc{}).head("ZKSN").i32(0, 0, maxBytes).b, "in the middle"},
		{"a negative length", (&enc{}).head("ZKSN").i32(0, 0, -2).b, "has a value of -2 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			z, err := read(files(t, map[string][]byte{"snapshot.2": c.b, "log.2": logOf(2, createACL("/a/b", aclA, 1))}))
			var damage *DamageError
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says == "":
				compare(t, z, played(t, create("/a", "a", 1), createACL("/a/b", aclA, 1)))
			case !errors.As(err, &damage) || !strings.Contains(err.Error(), c.says):
				t.Errorf("%v", err)
			}
		})
	}
}

// TestPacked: gzip and snappy-java's framing, and what may be wrong with them.
func TestPacked(t *testing.T) {
	s := played(t, three...)
	var big []change
	for i := range 3000 {
		big = append(big, create(fmt.Sprintf("/n%d", i), strings.Repeat("x", 30), int32(i+1)))
	}
	for name, s := range map[string]*state{"small": s, "large": played(t, big...)} {
		good := snapshotOf(s)
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		_, _ = w.Write(good)
		must(t, w.Close())
		snapped := snappyjava.Encode(nil, good)
		for ext, b := range map[string][]byte{".gz": zipped.Bytes(), ".snappy": snapped} {
			log := logOf(s.last, failed())
			z := mustRead(t, files(t, map[string][]byte{"snapshot." + hex(s.last) + ext: b, "log." + hex(s.last): log}))
			compare(t, z, s)
			for i := 0; i < len(b); i += 1 + len(b)/300 {
				if _, err := read(files(t, map[string][]byte{"snapshot." + hex(s.last) + ext: b[:i], "log." + hex(s.last): log})); err == nil || !strings.Contains(err.Error(), "in the middle of a record") {
					t.Fatalf("%s%s cut at %d: %v", name, ext, i, err)
				}
			}
		}
	}
	block := func(n uint32, b []byte) []byte {
		return append(binary.BigEndian.AppendUint32(append([]byte(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1), n), b...)
	}
	for says, b := range map[string][]byte{
		"not a snappy-java file":         []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x02"),
		"a block of 4294967295 bytes":    block(math.MaxUint32, nil),
		"unpacks to 1048577 bytes":       block(6, append(binary.AppendUvarint(nil, maxBlock+1), 1, 2, 3)),
		"corrupt":                        block(4, []byte{40, 255, 255, 255}),
		"ends in the middle of a record": block(10, snappy.Encode(nil, []byte("ZKSN"))),
	} {
		if _, err := read(files(t, map[string][]byte{"snapshot.3.snappy": b, "log.1": logOf(1, three...)})); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	if _, err := newXerial(io.LimitReader(strings.NewReader(xerialMagic), 8)); err == nil {
		t.Error("a head that is cut")
	}
}

// TestOwners: which znodes are ephemeral, are containers, or have a TTL, whatever version wrote them.
func TestOwners(t *testing.T) {
	const time40 = 0x8c12345678 // 40 bits with the time of day, as in session ids
	for _, c := range []struct {
		name    string
		owner   int64
		session bool // the owner is in the table of sessions
		want    znode.Owner
		dropped int64 // the session's id in the report, if it differs
	}{
		{"nobody", 0, false, znode.Owner{}, 0},
		{"session", 0x1000012345678, true, znode.Owner{Session: 0x1000012345678}, 0},
		{"dead session", 0x1000012345678, false, znode.Owner{Session: 0x1000012345678}, 0},
		{"container", math.MinInt64, false, znode.Owner{Container: true}, 0},
		{"TTL", znode.TTLOwner(5000), false, znode.Owner{TTLMS: 5000}, 0},
		{"longest TTL", znode.TTLOwner(znode.MaxTTLMS), false, znode.Owner{TTLMS: znode.MaxTTLMS}, 0},
		{"TTL of 3.5.3", math.MinInt64 | 5000, false, znode.Owner{TTLMS: 5000}, 0},
		{"session of server 128", math.MinInt64 | time40<<16, true, znode.Owner{Session: math.MinInt64 | time40<<16}, 0},
		{"dead session of server 128", math.MinInt64 | time40<<16, false, znode.Owner{Session: math.MinInt64 | time40<<16}, 0},
		{"session of server 128 in an odd hour", math.MinInt64 | 0x345678<<16, true, znode.Owner{Session: math.MinInt64 | 0x345678<<16}, 0},
		{"session of server 200", -56<<56 | time40<<16, false, znode.Owner{Session: -56<<56 | time40<<16}, 0},
		{"session of server 255", -1<<56 | time40<<16, true, znode.Owner{Session: -2<<56 | time40<<16}, -1<<56 | time40<<16},
		{"dead session of server 255", -1<<56 | time40<<16, false, znode.Owner{Session: -2<<56 | time40<<16}, -1<<56 | time40<<16},
		{"session of server 255 in an odd hour", -1<<56 | 0x345678<<16, true, znode.Owner{Session: -2<<56 | 0x345678<<16}, -1<<56 | 0x345678<<16},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := played(t, create("/a", "", 1))
			s.find("/a").owner = c.owner
			if c.session {
				s.sessions[c.owner] = 4000
			}
			z := mustRead(t, files(t, map[string][]byte{"snapshot.1": snapshotOf(s), "log.1": logOf(1, create("/a", "", 1))}))
			got, _ := z.Tree.Get("/a", nil, 0)
			if got.Owner != c.want {
				t.Errorf("%#x is %+v", uint64(c.owner), got.Owner)
			}
			if c.want.Session != 0 {
				if kept, ok := z.Tree.Session(c.want.Session); !ok || c.session != (kept.TimeoutMS == 4000) {
					t.Errorf("the session is %+v %v", kept, ok)
				}
			}
			if z.Renamed[c.want.Session] != c.dropped {
				t.Errorf("renamed: %x", z.Renamed)
			}
		})
	}
	z := mustRead(t, files(t, map[string][]byte{"log.1": logOf(1, createTTL("/a", 1, 1<<50))}))
	if got, _ := z.Tree.Get("/a", nil, 0); got.Owner.TTLMS != znode.MaxTTLMS {
		t.Errorf("a TTL beyond the longest: %+v", got.Owner)
	}
	if _, err := read(files(t, map[string][]byte{"log.1": logOf(1, createTTL("/a", 1, 0))})); err == nil {
		t.Error("a TTL of 0")
	}
}

// TestOlder: what 3.4 writes.
func TestOlder(t *testing.T) {
	s := newState()
	s.root = &node{data: []byte{}, acl: znode.OpenACL}
	for _, path := range []string{"/zookeeper", "/zookeeper/quota"} {
		parent, name := znode.Split(path)
		s.link(&node{parent: s.find(parent), name: name, data: []byte{}, acl: znode.OpenACL})
	}
	v0 := func(path string) change {
		return change{kind: opCreate, body: (&enc{}).str(path).str("d").acl(znode.OpenACL).bool(false).b}
	}
	eph := change{session: 5, kind: opCreate, body: (&enc{}).str("/a/e").str("e").acl(znode.OpenACL).bool(true).i32(2).b}
	z := mustRead(t, files(t, map[string][]byte{"snapshot.0": snapshotOf(s),
		"log.1": logOf(1, createSession(5), v0("/a"), v0("/a/b"), eph, closeSession35(5), remove("/a/b"))}))
	if got, code := z.Tree.Get("/zookeeper/config", nil, 0); code != 0 || !got.ACL.Equal(znode.ReadACL) || got.Stat.Aversion != -1 {
		t.Errorf("config: %+v", got)
	}
	if got, _ := z.Tree.Get("/a", nil, 0); got.Stat.Cversion != 4 || got.Stat.NumChildren != 0 || got.Stat.Pzxid != 6 {
		t.Errorf("%+v", got)
	}
	if z.Digest != "ZooKeeper recorded none" {
		t.Error(z.Digest)
	}
}

// TestNotices: what an import reports besides its result.
func TestNotices(t *testing.T) {
	sasl := znode.ACL{{Perms: znode.All, Identity: znode.Identity{Scheme: "sasl", ID: "ann@REALM"}}}
	wrong := change{kind: opDelete, body: (&enc{}).str("/a").i32(2).i64(12345).b}
	z := mustRead(t, files(t, map[string][]byte{"snapshot.0": snapshotOf(fresh()), "log.1": logOf(1,
		create("/a", "", 1), createACL("/s", sasl, 2), create("/big", strings.Repeat("x", usualBytes+1), 3),
		create("/zookeeper/quota/b", "", 1), create("/zookeeper/quota/b/zookeeper_limits", "count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=-1", 1), wrong)}))
	all := strings.Join(z.Notices, "\n")
	for _, want := range []string{"digest of the data differs from what was read, from zxid 0x6", "(sasl)", "1 znodes have more than 1 MiB", "1 quotas have hard limits"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing of %q in %s", want, all)
		}
	}
	if got, _ := z.Tree.Get("/s", nil, 0); !got.ACL.Equal(sasl) {
		t.Errorf("%v", got.ACL)
	}
}

// TestDigestCharset: a Java with charset ASCII computes the digest of other paths with ?.
func TestDigestCharset(t *testing.T) {
	s := played(t, create("/caf\u00e9", "", 1))
	if s.sums[inUTF8] == s.sums[inASCII] {
		t.Fatal("both are the same")
	}
	for _, sum := range s.sums {
		c := create("/caf\u00e9", "", 1)
		c.body = append(c.body, (&enc{}).i32(2).i64(int64(sum)).b...)
		if z := mustRead(t, files(t, map[string][]byte{"log.1": logOf(1, c)})); !strings.Contains(z.Digest, "equal") {
			t.Error(z.Digest)
		}
	}
}

// TestUnfit: a znode that coord cannot hold is refused by name, unless it was deleted again.
func TestUnfit(t *testing.T) {
	long := "/" + strings.Repeat("n", znode.MaxPathBytes)
	_, err := read(files(t, map[string][]byte{"log.1": logOf(1, create(long, "", 1), create(long+"2", "", 2))}))
	if !errors.Is(err, znode.ErrLimit) || !strings.Contains(err.Error(), "longer than 4096 bytes, and 1 more") {
		t.Error(err)
	}
	mustRead(t, files(t, map[string][]byte{"log.1": logOf(1, create(long, "", 1), remove(long))}))

	s := played(t, create("/a", "", 1))
	w := begin(s)
	s.find("/a").acl = aclA // and the table lacks it
	s.each(w.node)
	_, err = read(files(t, map[string][]byte{"snapshot.1": w.str("/").seal().b, "log.1": logOf(1, create("/a", "", 1))}))
	if err == nil || !strings.Contains(err.Error(), `the access list of "/a"`) {
		t.Error(err)
	}
}

// TestQuotas: usage is recomputed, as ZooKeeper does at a start.
func TestQuotas(t *testing.T) {
	z := mustRead(t, files(t, map[string][]byte{"log.1": logOf(1, create("/a", "12", 1), create("/a/b", "345", 1), create("/zookeeper/quota/a", "", 1),
		create("/zookeeper/quota/a/zookeeper_limits", "count=5,bytes=-1", 1), create("/zookeeper/quota/a/zookeeper_stats", "count=9,bytes=9", 2),
		create("/zookeeper/quota/none", "", 2), create("/zookeeper/quota/none/zookeeper_limits", "count=5,bytes=-1", 1), create("/zookeeper/quota/none/zookeeper_stats", "", 2))}))
	for path, want := range map[string]string{"/zookeeper/quota/a/zookeeper_stats": "count=2,bytes=5", "/zookeeper/quota/none/zookeeper_stats": "count=0,bytes=0"} {
		if got, _ := z.Tree.Get(path, nil, 0); got.Data != want {
			t.Errorf("%s is %s", path, got.Data)
		}
	}
}

// TestFolders: which folder is meant, and whether a process uses it.
func TestFolders(t *testing.T) {
	dir := files(t, map[string][]byte{"snapshot.0": snapshotOf(fresh()), "log.1": logOf(1, three...), "currentEpoch": []byte("4"), "acceptedEpoch": []byte("5\n")})
	for _, d := range []string{dir, filepath.Join(dir, "version-2")} {
		if z := mustRead(t, d); z.Epoch != 5 || !z.Member {
			t.Errorf("%s: epoch %d", d, z.Epoch)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "version-2", "currentEpoch"), []byte("x"), 0o600))
	var damage *DamageError
	if _, err := read(dir); !errors.As(err, &damage) {
		t.Error(err)
	}
	must(t, os.Remove(filepath.Join(dir, "version-2", "currentEpoch")))
	must(t, os.Remove(filepath.Join(dir, "version-2", "log.1")))
	other := files(t, map[string][]byte{"log.1": logOf(1, three...)})
	z, err := Read(context.Background(), Options{Dir: dir, LogDir: other})
	if err != nil || z.Tree.Counters().Zxid != 3 {
		t.Errorf("with a dataLogDir: %v", err)
	}
	var foreign *ForeignError
	if _, err := read(t.TempDir()); !errors.As(err, &foreign) {
		t.Error(err)
	}
	if _, err := read(filepath.Join(other, "version-2", "log.1")); !errors.As(err, &foreign) {
		t.Error(err)
	}
	if _, err := read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}

	// A process with zookeeper on its command line, which has left its process id. The test waits
	// for its output, because a process that is just being created has no command line yet.
	p := exec.Command("sh", "-c", "echo; read x # org.apache.zookeeper")
	in, err := p.StdinPipe()
	must(t, err)
	out, err := p.StdoutPipe()
	must(t, err)
	must(t, p.Start())
	_, err = out.Read(make([]byte, 1))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other, "zookeeper_server.pid"), fmt.Append(nil, p.Process.Pid), 0o600))
	var inUse *InUseError
	if _, err := read(other); !errors.As(err, &inUse) || inUse.PID != p.Process.Pid {
		t.Error(err)
	}
	must(t, in.Close())
	_ = p.Wait()
	mustRead(t, other)

	// A log that is open for writing; one that is only being read is not in use.
	log := filepath.Join(other, "version-2", "log.1")
	reads, err := os.Open(log)
	must(t, err)
	defer reads.Close()
	must(t, Idle(Options{Dir: other}))
	writes, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	if err := Idle(Options{Dir: other}); !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Error(err)
	}
	must(t, writes.Close())
	must(t, Idle(Options{Dir: other}))

	// Files that change during the reading.
	_, err = Read(context.Background(), Options{Dir: other, Progress: func(int64, int64) error {
		return os.WriteFile(filepath.Join(other, "version-2", "log.4"), logOf(4), 0o600)
	}})
	if !errors.As(err, &inUse) || inUse.PID != 0 {
		t.Error(err)
	}
	stop := errors.New("stop")
	if _, err := Read(context.Background(), Options{Dir: other, Progress: func(int64, int64) error { return stop }}); !errors.Is(err, stop) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(stop)
	if _, err := Read(ctx, Options{Dir: dir, LogDir: other}); !errors.Is(err, stop) {
		t.Error(err)
	}
}

// FuzzSnapshot: no bytes make the reader of snapshots or the building of the tree panic; the
// checksum is not checked.
func FuzzSnapshot(f *testing.F) {
	f.Add(snapshotOf(fresh()))
	s := fresh()
	for _, c := range append(three, createACL("/a/c", aclA, 2), createSession(7), createEphemeral(7, "/a/e", 3), createTTL("/a/t", 4, 9)) {
		_, _ = s.apply(c.at(s.last + 1))
	}
	f.Add(snapshotOf(s))
	f.Add((&enc{snapshotOf(s)}).i64(7).i32(2).i64(1).seal().b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newState()
		d := newDecoder(newReader(b))
		s.read(d)
		s.tail(d)
		s.system()
		s.quotas()
		_, _ = s.build()
	})
}

// FuzzLog: the same for logs: their records and, with all checksums corrected, the txns in them.
func FuzzLog(f *testing.F) {
	f.Add(logOf(1, three...), false)
	f.Add(padded(logOf(1, createSession(7), createEphemeral(7, "/e", 1), multi(three...), closeSession(7, "/e"), closeSession35(7))), true)
	f.Add(logOf(1, createTTL("/t", 1, 5), createContainer("/c", 2), setACL("/t", aclA, 1), failed(), remove("/c")), true)
	f.Fuzz(func(t *testing.T, b []byte, repair bool) {
		if repair {
			b = bytes.Clone(b)
			for at := logHeadBytes; at+recordHeadBytes < len(b); {
				n := int(binary.BigEndian.Uint32(b[at+8:]))
				if n < 0 || n >= len(b)-at-recordHeadBytes {
					break
				}
				rec := record(b[at+recordHeadBytes : at+recordHeadBytes+n])
				at += copy(b[at:], rec)
			}
		}
		r := &reader{folder: &folder{}, state: fresh(), ticker: ticker{ctx: context.Background()}}
		r.out.Snapshot = "snapshot.0"
		if err := r.records(newLogReader(&r.ticker, &file{path: "log.1", size: int64(len(b))}, bytes.NewReader(b)), true); err == nil {
			_, _ = r.finish()
		}
	})
}
