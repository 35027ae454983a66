package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"coord/tree"
	"coord/tree/znode"
)

// list is a state as slices, for comparison.
type list struct {
	Nodes    []tree.Node
	Sessions []tree.Session
	Counters tree.Counters
}

func listOf(f *tree.Frozen) list {
	l := list{Counters: f.Counters()}
	f.Nodes(znode.Root, func(n *tree.Node) bool {
		c := *n
		c.Path, c.Data, c.ACL = strings.Clone(n.Path), bytes.Clone(n.Data), slices.Clone(n.ACL)
		l.Nodes = append(l.Nodes, c)
		return true
	})
	f.Sessions(func(s *tree.Session) bool {
		l.Sessions = append(l.Sessions, *s)
		return true
	})
	return l
}

func read(tb tester, file []byte) (*tree.Tree, Meta, Summary) {
	tb.Helper()
	t, m, s, err := Read(bytes.NewReader(file))
	if err != nil {
		tb.Fatal(err)
	}
	return t, m, s
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(i * i >> 5)
	}
	deep := []tree.Node{}
	for p := ""; len(p) < znode.MaxPathBytes-1; {
		p += "/d"
		deep = append(deep, tree.Node{Path: p})
	}
	wide := []tree.Node{{Path: "/w", Created: 5000}}
	for i := range 5000 {
		wide = append(wide, tree.Node{Path: fmt.Sprintf("/w/child-%010d", i), Data: []byte{byte(i)}})
	}
	var acls []tree.Node // more lists than fit into one frame, each used twice
	for i := range 12000 {
		a := znode.ACL{{Perms: znode.Read, Identity: znode.Identity{Scheme: znode.SchemeDigest, ID: fmt.Sprintf("user-with-a-long-name-%d:aGFzaGhhc2hoYXNoaGFzaA==", i/2)}}}
		acls = append(acls, tree.Node{Path: fmt.Sprintf("/z%05d", i), ACL: a})
	}
	giant := znode.ACL{}
	for i := range 10000 {
		giant = append(giant, znode.ACLEntry{Perms: znode.Read, Identity: znode.Identity{Scheme: znode.SchemeDigest, ID: fmt.Sprintf("user%d:aGFzaGhhc2hoYXNoaGFzaA==", i)}})
	}
	var sessions []tree.Session
	for i := range 20000 {
		sessions = append(sessions, tree.Session{ID: int64(i+1) << 40, TimeoutMS: int32(i), Password: [16]byte{byte(i), byte(i >> 8), 5}})
	}
	states := map[string]*tree.Frozen{
		"new tree":        tree.New().Freeze(),
		"small":           smallState(t),
		"1 MiB znode":     freeze(t, []tree.Node{{Path: "/a", Data: []byte("x")}, {Path: "/big", Data: big}, {Path: "/c"}}),
		"two big znodes":  freeze(t, []tree.Node{{Path: "/big", Data: big}, {Path: "/big2", Data: big[:300<<10]}}),
		"5000 children":   freeze(t, wide),
		"deep":            freeze(t, deep),
		"many lists":      freeze(t, acls),
		"one giant list":  freeze(t, []tree.Node{{Path: "/a"}, {Path: "/b", ACL: giant}, {Path: "/c", ACL: giant[:9999]}, {Path: "/d", ACL: giant}}),
		"many sessions":   freeze(t, nil, sessions...),
		"unicode":         freeze(t, []tree.Node{{Path: "/日本"}, {Path: "/日本/語"}, {Path: "/日本/誠"}, {Path: "/é"}, {Path: "/ê"}, {Path: "/e\u0301"}, {Path: "/...", Data: []byte("..")}, {Path: "/a b"}, {Path: "/a!"}, {Path: "/a!/b"}, {Path: "/a"}, {Path: "/a/b"}, {Path: "/a-b"}}),
		"extreme numbers": freeze(t, []tree.Node{{Path: "/x", Czxid: math.MaxUint64, Mzxid: 1, Pzxid: 1 << 63, CtimeMS: math.MinInt64, MtimeMS: math.MaxInt64, Version: math.MinInt32, Aversion: math.MaxInt32, Created: math.MaxInt32, Owner: -1 << 63}, {Path: "/y", Czxid: 1, CtimeMS: math.MaxInt64}}),
	}
	for name, f := range states {
		for _, codec := range []Codec{Plain, Zstd} {
			t.Run(fmt.Sprint(name, " codec ", codec), func(t *testing.T) {
				t.Parallel()
				m := testMeta()
				m.Codec = codec
				var file bytes.Buffer
				written, err := Write(&file, m, f, Options{})
				if err != nil {
					t.Fatal(err)
				}
				// Short reads reveal code that relies on how a reader splits the bytes.
				got, gotMeta, s, err := Read(iotest.HalfReader(bytes.NewReader(file.Bytes())))
				if err != nil {
					t.Fatal(err)
				}
				if want, have := listOf(f), listOf(got.Freeze()); !reflect.DeepEqual(want, have) {
					t.Errorf("read %+v\nwant %+v", have, want)
				}
				if got.Digest() != f.Digest() || s.Digest != f.Digest() {
					t.Errorf("digest %v, in the file %v, want %v", got.Digest(), s.Digest, f.Digest())
				}
				if s != written || s.FileBytes != int64(file.Len()) || s.Znodes != int64(f.Len()) {
					t.Errorf("summary read %+v\nwritten %+v", s, written)
				}
				m.ofState(f)
				if !reflect.DeepEqual(gotMeta, m) {
					t.Errorf("meta %+v\nwant %+v", gotMeta, m)
				}
				if again := encode(t, m, got.Freeze()); !bytes.Equal(again, file.Bytes()) {
					t.Error("a second writing gives other bytes")
				}
				for _, l := range []Level{Checksum, Decode} {
					if info, err := verifyReader(bytes.NewReader(file.Bytes()), "", l); err != nil || info.Summary != s {
						t.Errorf("%v: %+v, %v", l, info.Summary, err)
					}
				}
			})
		}
	}
}

// TestEveryFieldIsStored fails if a type gains a field that the format does not have yet.
func TestEveryFieldIsStored(t *testing.T) {
	t.Parallel()
	for typ, want := range map[reflect.Type]int{
		reflect.TypeFor[tree.Node]():      12, // path, ACL by number; the record has two fields for the path
		reflect.TypeFor[tree.Session]():   sessionFields,
		reflect.TypeFor[tree.Counters]():  4,
		reflect.TypeFor[tree.Settings]():  3,
		reflect.TypeFor[znode.ACLEntry](): 2,
		reflect.TypeFor[znode.Identity](): 2,
		reflect.TypeFor[ConfState]():      metaFields,
		reflect.TypeFor[tree.Floor]():     floorFields,
	} {
		if typ.NumField() != want {
			t.Errorf("%v has %d fields, the format stores %d", typ, typ.NumField(), want)
		}
	}
}

func TestRandomStates(t *testing.T) {
	t.Parallel()
	names := rapid.SampledFrom([]string{"a", "b", "ab", "a-", "é", "è", "日本", "0000000001", "lock-", "...", "a b"})
	small := rapid.OneOf(rapid.Int64Range(-3, 300), rapid.Int64())
	lists := rapid.SampledFrom([]znode.ACL{znode.OpenACL, znode.ReadACL, {{Perms: 3, Identity: znode.Identity{Scheme: "digest", ID: "u:x"}}, {Perms: 1, Identity: znode.Identity{Scheme: "ip", ID: "::1"}}}})
	rapid.Check(t, func(rt *rapid.T) {
		sessions := []tree.Session{}
		for _, id := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 1<<50), 0, 4, rapid.ID).Draw(rt, "sessions") {
			sessions = append(sessions, tree.Session{ID: id, TimeoutMS: int32(id), Attachment: uint32(id >> 8)})
		}
		paths, taken := []string{""}, map[string]bool{}
		var nodes []tree.Node
		for range rapid.IntRange(0, 60).Draw(rt, "znodes") {
			p := rapid.SampledFrom(paths).Draw(rt, "parent") + "/" + names.Draw(rt, "name")
			if taken[p] || len(p) > 900 {
				continue
			}
			taken[p] = true
			n := tree.Node{
				Path: p, ACL: lists.Draw(rt, "acl"), Czxid: znode.Zxid(small.Draw(rt, "czxid")), Mzxid: znode.Zxid(small.Draw(rt, "mzxid")),
				Pzxid: znode.Zxid(small.Draw(rt, "pzxid")), CtimeMS: small.Draw(rt, "ctime"), MtimeMS: small.Draw(rt, "mtime"),
				Version: rapid.Int32().Draw(rt, "version"), Aversion: rapid.Int32().Draw(rt, "aversion"), Created: rapid.Int32Min(0).Draw(rt, "created"),
			}
			if rapid.Bool().Draw(rt, "has data") {
				n.Data = rapid.SliceOfN(rapid.Byte(), 0, rapid.SampledFrom([]int{0, 10, 100, 70000}).Draw(rt, "most")).Draw(rt, "data")
			}
			if len(sessions) > 0 && rapid.Bool().Draw(rt, "ephemeral") {
				n.Owner = sessions[0].ID
			} else {
				paths = append(paths, p)
			}
			nodes = append(nodes, n)
		}
		f := freeze(rt, nodes, sessions...)
		m := testMeta()
		m.Codec = rapid.SampledFrom([]Codec{Plain, Zstd}).Draw(rt, "codec")
		file := encode(rt, m, f)
		back, _, _ := read(rt, file)
		if back.Digest() != f.Digest() || !reflect.DeepEqual(listOf(back.Freeze()), listOf(f)) {
			rt.Fatalf("read %+v\nwant %+v", listOf(back.Freeze()), listOf(f))
		}
		if !bytes.Equal(file, encode(rt, m, back.Freeze())) {
			rt.Fatal("equal states, other bytes")
		}
		top := rapid.SampledFrom(listOf(f).Nodes).Draw(rt, "top").Path
		checkSubtree(rt, file, f, top)
	})
}

func TestStreaming(t *testing.T) {
	t.Parallel()
	f := million(t, 20_000)
	var largest, writes, steps int
	var last Progress
	w := writerFunc(func(b []byte) (int, error) {
		if writes == 0 && len(b) != headerBytes {
			t.Errorf("the first write has %d bytes: the header comes at once", len(b))
		}
		writes++
		largest = max(largest, len(b))
		return len(b), nil
	})
	s, err := Write(w, testMeta(), f, Options{Step: func(p Progress) error {
		steps++
		if p.Znodes < last.Znodes || p.FileBytes <= last.FileBytes || p.OfZnodes != int64(f.Len()) {
			t.Errorf("progress from %+v to %+v", last, p)
		}
		last = p
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if largest > FrameBytes+frameHeadBytes || steps != int(s.Frames) || last.Znodes != s.Znodes {
		t.Errorf("largest write %d, %d steps, %d frames, last step %+v", largest, steps, s.Frames, last)
	}
	stop := errors.New("enough")
	if _, err := Write(io.Discard, testMeta(), f, Options{Step: func(p Progress) error {
		if p.Znodes > 5000 {
			return stop
		}
		return nil
	}}); !errors.Is(err, stop) {
		t.Errorf("stopped with %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

// TestFailingWriter makes each write fail in turn, with an error and with a short write.
func TestFailingWriter(t *testing.T) {
	t.Parallel()
	f := smallState(t)
	broken := errors.New("broken")
	for _, short := range []bool{false, true} {
		for fail, done := 0, false; !done; fail++ {
			n := 0
			_, err := Write(writerFunc(func(b []byte) (int, error) {
				n++
				switch {
				case n-1 < fail:
					return len(b), nil
				case n-1 > fail:
					t.Error("a write after the failed one")
				case short:
					return len(b) - 1, nil
				}
				return 0, broken
			}), testMeta(), f, Options{})
			if done = n <= fail; done {
				if err != nil {
					t.Errorf("nothing failed: %v", err)
				}
			} else if want := map[bool]error{false: broken, true: io.ErrShortWrite}[short]; !errors.Is(err, want) {
				t.Errorf("write %d: %v, want %v", fail, err, want)
			}
		}
	}
}

func TestFailingReader(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	file := encode(t, testMeta(), smallState(t))
	for n := range len(file) {
		_, _, _, err := Read(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	// Bytes that a failing disk cannot return are damage: an older snapshot may be good.
	_, _, _, err := Read(io.MultiReader(bytes.NewReader(file[:300]), iotest.ErrReader(syscall.EIO)))
	wantDamage(t, "a disk that cannot read", err)
	if !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := verifyReader(Pace{}.reader(ctx, bytes.NewReader(file)), "", Decode); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTooBig writes a record over the limit.
func TestTooBig(t *testing.T) {
	t.Parallel()
	p := newPage()
	w := writer{w: io.Discard, main: p, acls: newPage(), table: newACLTable()}
	if w.node(&tree.Node{Path: "/big", Data: make([]byte, MaxRecordBytes)}) || !errors.Is(w.err, znode.ErrTooBig) {
		t.Error(w.err)
	}
}
