package snapshot

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// checkSubtree compares what ReadSubtree yields with the state's own znodes.
func checkSubtree(t tester, file []byte, f *tree.Frozen, top string) {
	t.Helper()
	var want, got []tree.Node
	keep := func(to *[]tree.Node) func(*tree.Node) bool {
		return func(n *tree.Node) bool {
			c := *n
			c.Path, c.Data, c.ACL = strings.Clone(n.Path), bytes.Clone(n.Data), slices.Clone(n.ACL)
			*to = append(*to, c)
			return true
		}
	}
	f.Nodes(top, keep(&want))
	take := keep(&got)
	_, err := ReadSubtree(bytes.NewReader(file), int64(len(file)), top, func(n *tree.Node) error {
		take(n)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: read %+v\nwant %+v", top, got, want)
	}
}

// countingReader counts the bytes read.
type countingReader struct {
	io.ReaderAt
	n int64
}

func (c *countingReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(b, off)
	c.n += int64(n)
	return n, err
}

func TestReadSubtree(t *testing.T) {
	t.Parallel()
	f := million(t, 30_000)
	for _, codec := range []Codec{Plain, Zstd} {
		m := testMeta()
		m.Codec = codec
		file := encode(t, m, f)
		for _, top := range []string{"/", "/zookeeper", "/d0000000", "/d0000017", "/d0000029", "/d0000012/n0000999"} {
			checkSubtree(t, file, f, top)
		}
		c := &countingReader{ReaderAt: bytes.NewReader(file)}
		n := 0
		if _, err := ReadSubtree(c, int64(len(file)), "/d0000017", func(*tree.Node) error { n++; return nil }); err != nil || n != 1001 {
			t.Fatal(n, err)
		}
		if c.n > 3*(FrameBytes+1024) {
			t.Errorf("read %d bytes of %d for %d znodes", c.n, len(file), n)
		}
		stop := errors.New("enough")
		if _, err := ReadSubtree(bytes.NewReader(file), int64(len(file)), "/d0000017", func(*tree.Node) error { return stop }); !errors.Is(err, stop) {
			t.Error(err)
		}
		for _, top := range []string{"/d", "/d0000017/x", "/d00000170", "/zzz"} {
			if _, err := ReadSubtree(bytes.NewReader(file), int64(len(file)), top, nil); !errors.Is(err, znode.ErrNoNode) {
				t.Error(top, err)
			}
		}
		if _, err := ReadSubtree(bytes.NewReader(file), int64(len(file)), "no/path", nil); !errors.Is(err, znode.ErrBadArguments) {
			t.Error(err)
		}
	}
}

func TestComparePaths(t *testing.T) {
	t.Parallel()
	sorted := []string{"/", "/a", "/a/b", "/a/b/c", "/a/b-", "/a/bb", "/a\x20", "/a!", "/a!/a", "/a-b", "/aa", "/b", "/é"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := ComparePaths(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("ComparePaths(%q, %q) = %d", a, b, got)
			}
		}
	}
}
