package znode_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"coord/tree/znode"
)

// TestTops compares Above with a walk from parent to parent, in random sets of paths, shallow and
// deep.
func TestTops(t *testing.T) {
	t.Run("", testTops)
	t.Run("all collide", func(t *testing.T) {
		znode.Collide(t)
		testTops(t)
	})
}

func testTops(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	path := func() string {
		p := ""
		if r.IntN(2) == 0 {
			p = strings.Repeat("/a", r.IntN(30))
		}
		for range r.IntN(5) {
			p += "/" + []string{"a", "b", "ab", "\u4e2d"}[r.IntN(4)]
		}
		return max(p, znode.Root)
	}
	var tops znode.Tops[int]
	want := map[string]int{}
	for i := range 20_000 {
		switch p := path(); r.IntN(3) {
		case 0:
			tops.Put(p, i)
			want[p] = i
		case 1:
			tops.Delete(p)
			delete(want, p)
		default:
			var got, expected []string
			for top, v := range tops.Above(p) {
				got = append(got, fmt.Sprint(top, v))
			}
			for above := p; above != ""; above, _ = znode.Split(above) {
				v, there := want[above]
				if there {
					expected = append(expected, fmt.Sprint(above, v))
				}
				if have, is := tops.Get(above); is != there || have != v {
					t.Fatalf("%s is %d, %v; want %d, %v", above, have, is, v, there)
				}
			}
			if !slices.Equal(got, expected) || znode.Len(&tops) != len(want) {
				t.Fatalf("above %s: %q, want %q; %d paths, want %d", p, got, expected, znode.Len(&tops), len(want))
			}
		}
		if n := 0; i%100 == 0 {
			for p, v := range tops.All() {
				if n++; want[p] != v {
					t.Fatalf("%s is %d, want %d", p, v, want[p])
				}
			}
			if n != len(want) {
				t.Fatalf("%d of %d paths", n, len(want))
			}
		}
	}
	for p := range want {
		tops.Delete(p)
	}
	if n := znode.Sums(&tops); n != 0 {
		t.Errorf("%d hashes of no path", n)
	}
}

// BenchmarkAbove looks for one of 20 paths above another.
func BenchmarkAbove(b *testing.B) {
	var tops znode.Tops[int]
	for i := range 20 {
		tops.Put(fmt.Sprint("/app", i), i)
	}
	for name, path := range map[string]string{
		"usual": "/app/config/servers/web-0000000012", "under one": "/app7/config/servers/web-0000000012",
		"long": "/" + strings.Repeat("n", znode.MaxPathBytes-1), "deep": strings.Repeat("/n", znode.MaxPathBytes/2),
	} {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				for range tops.Above(path) {
					n++
				}
			}
		})
		b.Run(name+", parent by parent", func(b *testing.B) {
			n := 0
			for b.Loop() {
				for p := path; p != ""; p, _ = znode.Split(p) {
					if _, there := tops.Get(p); there {
						n++
					}
				}
			}
		})
	}
}
