package zkimport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

const golden = "testdata/zookeeper-3.8.0"

// seen is a znode as a client of the real ZooKeeper saw it. TestImportGolden in testscripts wrote the folder.
type seen struct {
	Path string
	Data []byte
	Null bool
	ACL  string
	Stat struct {
		Czxid, Mzxid, Ctime, Mtime  int64
		Version, Cversion, Aversion int32
		EphemeralOwner              int64
		DataLength, NumChildren     int32
		Pzxid                       int64
	}
}

// TestGolden: the folder of a killed ZooKeeper 3.8.0 holds what its clients saw last.
func TestGolden(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(golden, "seen.json"))
	must(t, err)
	var all []seen
	must(t, json.Unmarshal(b, &all))
	z := mustRead(t, golden)
	if z.Snapshot != "snapshot.4" || !slices.Equal(z.Logs, []string{"log.1", "log.5"}) || !strings.Contains(z.Digest, "equal") || z.Member {
		t.Errorf("%+v", z)
	}
	if n := z.Tree.Counts(); n.Znodes != len(all) || n.Sessions != 3 || n.Ephemerals != 2 || n.Reapable != 5 {
		t.Errorf("%+v of %d", n, len(all))
	}
	for _, s := range all {
		got, code := z.Tree.Get(s.Path, nil, 0)
		want := znode.Stat{
			Czxid: znode.Zxid(s.Stat.Czxid), Mzxid: znode.Zxid(s.Stat.Mzxid), Pzxid: znode.Zxid(s.Stat.Pzxid), CtimeMS: s.Stat.Ctime, MtimeMS: s.Stat.Mtime,
			Version: s.Stat.Version, Cversion: s.Stat.Cversion, Aversion: s.Stat.Aversion, EphemeralOwner: s.Stat.EphemeralOwner,
			DataLength: s.Stat.DataLength, NumChildren: s.Stat.NumChildren,
		}
		if code != znode.OK || got.Stat != want || got.Data != string(s.Data) || got.Null != s.Null || got.ACL.String() != s.ACL {
			t.Errorf("%s is %+v, want %+v %+v", s.Path, got, s, want)
		}
	}
	for path, want := range map[string]znode.Owner{
		"/containers/used": {Container: true}, "/ttl/hour-": {TTLMS: 3600_000}, "/ttl/hour-0000000001": {TTLMS: 3600_000}, "/app": {},
	} {
		if got, _ := z.Tree.Get(path, nil, 0); got.Owner != want {
			t.Errorf("%s has the owner %+v", path, got.Owner)
		}
	}
}

// copied is a writable copy of the golden folder.
func copied(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(golden)))
	return dir
}

// prefixes are the states of the golden folder after each txn, by digest.
func prefixes(t testing.TB) map[tree.Digest][]znode.Zxid {
	t.Helper()
	all := map[tree.Digest][]znode.Zxid{}
	s := fresh()
	for _, name := range []string{"log.1", "log.5"} {
		b, err := os.ReadFile(filepath.Join(golden, "version-2", name))
		must(t, err)
		l := newLogReader(&ticker{ctx: t.Context()}, &file{path: name, size: int64(len(b))}, bytes.NewReader(b))
		if _, err := l.header(); err != nil {
			t.Fatal(err)
		}
		for {
			rec, err := l.next()
			if errors.Is(err, errEnd) {
				break
			}
			must(t, err)
			_, err = s.apply(rec)
			must(t, err)
			again := *s // quotas are counted only in a copy
			d := treeOf(t, &again).tree.Digest()
			all[d] = append(all[d], znode.Zxid(s.last)) // a txn that failed changes nothing
		}
	}
	return all
}

// TestCutAnywhere: a folder with one file cut at any place is refused, or gives a state that
// ZooKeeper had; the report says which one.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	damaged(t, func(b []byte, i int) []byte { return b[:i] })
}

// TestFlipAnywhere: the same for a changed byte.
func TestFlipAnywhere(t *testing.T) {
	t.Parallel()
	damaged(t, func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 0x41
		return b
	})
}

func damaged(t *testing.T, harm func(b []byte, i int) []byte) {
	states := prefixes(t)
	whole := mustRead(t, golden)
	for _, name := range []string{"snapshot.0", "snapshot.4", "log.1", "log.5"} {
		dir := copied(t)
		path := filepath.Join(dir, "version-2", name)
		good, err := os.ReadFile(path)
		must(t, err)
		good = good[:min(len(good), len(bytes.TrimRight(good, "\x00"))+40)] // a few of the zeros are enough
		taken, refused := 0, 0
		for i := range good {
			must(t, os.WriteFile(path, harm(good, i), 0o600))
			z, err := read(dir)
			var damage *DamageError
			switch {
			case err != nil && !errors.As(err, &damage):
				t.Fatalf("%s harmed at %d: %v", name, i, err)
			case err != nil:
				refused++
				continue
			}
			taken++
			if last := z.Tree.Counters().Zxid; !slices.Contains(states[z.Tree.Digest()], last) {
				t.Fatalf("%s harmed at %d: a state that never was at %v", name, i, last)
			}
			if z.Tree.Digest() != whole.Tree.Digest() && name != "log.5" {
				t.Fatalf("%s harmed at %d: txns are missing", name, i)
			}
			if z.Tree.Digest() != whole.Tree.Digest() && !strings.Contains(fmt.Sprint(z.Notices), name) && !bytes.Equal(harm(good, i), atRecord(good, i)) {
				t.Fatalf("%s harmed at %d: nothing is said", name, i)
			}
			if strings.Contains(z.Digest, "differs") {
				t.Fatalf("%s harmed at %d: %s", name, i, z.Digest)
			}
		}
		t.Logf("%s: %d taken, %d refused", name, taken, refused)
	}
}

// atRecord returns the log cut at i if a complete record ends there, where nobody can notice the cut; otherwise nil.
func atRecord(b []byte, i int) []byte {
	l := newLogReader(&ticker{ctx: context.Background()}, &file{size: int64(i)}, bytes.NewReader(b[:i]))
	if blank, err := l.header(); blank || err != nil {
		return nil
	}
	for {
		if _, err := l.next(); errors.Is(err, errEnd) {
			return b[:i]
		} else if err != nil {
			return nil
		}
	}
}

// TestFallback: if the newest snapshot is missing or damaged, the previous one and its log give the same state.
func TestFallback(t *testing.T) {
	whole := mustRead(t, golden)
	dir := copied(t)
	newest := filepath.Join(dir, "version-2", "snapshot.4")
	must(t, os.WriteFile(newest, []byte("ZKSN"), 0o600))
	z := mustRead(t, dir)
	if z.Tree.Digest() != whole.Tree.Digest() || z.Snapshot != "snapshot.0" || !strings.Contains(fmt.Sprint(z.Notices), "skipped") {
		t.Errorf("%+v", z)
	}
	must(t, os.Remove(newest))
	must(t, os.Remove(filepath.Join(dir, "version-2", "snapshot.0")))
	z = mustRead(t, dir)
	if z.Tree.Digest() != whole.Tree.Digest() || z.Snapshot != "" || !strings.Contains(fmt.Sprint(z.Notices), "no snapshot") {
		t.Errorf("without any: %+v", z)
	}
	must(t, os.Remove(filepath.Join(dir, "version-2", "log.1")))
	if _, err := read(dir); err == nil || !strings.Contains(err.Error(), "comes after 0x0") {
		t.Errorf("without the beginning: %v", err)
	}
}
