package snapshot

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

func writeFile(tb testing.TB, b []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "x.coord")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestInspectAndVerify(t *testing.T) {
	t.Parallel()
	file := encode(t, testMeta(), million(t, 5_000))
	path := writeFile(t, file)
	_, m, s, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Info{path, m, s}
	if got, err := Inspect(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("inspect: %+v, %v\nwant %+v", got, err, want)
	}
	for l := Header; l <= Restore; l++ {
		got, err := Verify(path, l)
		if l == Checksum {
			got.Meta.Conf = m.Conf // Conf is not read here
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %+v, %v\nwant %+v", l, got, err, want)
		}
		if back, err := ParseLevel(l.String()); back != l || err != nil {
			t.Error(l, back, err)
		}
	}
	if _, err := ParseLevel("deep"); err == nil {
		t.Error("there is no level deep")
	}
	c := &countingReader{ReaderAt: bytes.NewReader(file)}
	sk := newSeeker(c, int64(len(file)))
	if err := sk.open(); err != nil || c.n > 1024 {
		t.Errorf("inspecting reads %d bytes, %v", c.n, err)
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	id := NewID()
	if back, err := ParseID(id.String()); back != id || err != nil || id == NewID() {
		t.Error(id, back, err)
	}
	for _, s := range []string{"", id.String()[1:], id.String() + "00", strings.Repeat("x", 32)} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q is an id", s)
		}
	}
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	const session = 0x77
	f := freeze(t, []tree.Node{
		{Path: "/app", Data: []byte("12345")},
		{Path: "/app/locks"},
		{Path: "/app/locks/a", Owner: session},
		{Path: "/app/locks/b", Owner: session, Data: make([]byte, 1000)},
		{Path: "/app-two", Data: make([]byte, 5000)},
		{Path: "/app-two/x", Data: make([]byte, 300)},
		{Path: "/z", Owner: znode.ContainerOwner},
	}, tree.Session{ID: session, TimeoutMS: 10}, tree.Session{ID: 5, TimeoutMS: 20})
	path := writeFile(t, encode(t, testMeta(), f))
	s, err := TakeSurvey(path, SurveyOptions{Depth: 1, Top: 2})
	if err != nil {
		t.Fatal(err)
	}
	size := func(n int64, paths ...string) int64 { return n + int64(len(strings.Join(paths, ""))) }
	wantPrefixes := []PrefixUse{
		{"/app-two", 2, 0, size(5300, "/app-two", "/app-two/x")},
		{"/app", 4, 2, size(1005, "/app", "/app/locks", "/app/locks/a", "/app/locks/b")},
	}
	if !reflect.DeepEqual(s.Prefixes, wantPrefixes) {
		t.Errorf("prefixes %+v\nwant %+v", s.Prefixes, wantPrefixes)
	}
	if s.Others.Znodes != 5 || s.Others.Ephemerals != 0 { // the root, three of the system's, and /z
		t.Errorf("others %+v", s.Others)
	}
	if want := []ZnodeUse{{"/app-two", 5000}, {"/app/locks/b", 1000}}; !reflect.DeepEqual(s.Biggest, want) {
		t.Errorf("biggest %+v", s.Biggest)
	}
	if want := []SessionUse{{5, 20, 0}, {session, 10, 2}}; !reflect.DeepEqual(s.Sessions, want) {
		t.Errorf("sessions %+v", s.Sessions)
	}
	var all int64
	for _, depth := range []int{0, 1, 2, 3, 9} {
		s, err := TakeSurvey(path, SurveyOptions{Depth: depth, Top: 100})
		if err != nil || s.Others.Znodes != 0 {
			t.Fatal(err, s.Others)
		}
		var n, bytes int64
		for _, p := range s.Prefixes {
			n += p.Znodes
			bytes += p.Bytes
		}
		if all == 0 {
			all = bytes
		}
		if n != s.Summary.Znodes || bytes != all {
			t.Errorf("depth %d: %d znodes of %d bytes in %+v", depth, n, bytes, s.Prefixes)
		}
	}
}
