package znode

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Tops is a map of paths that finds all of them above a path, even a deep one, in one pass over its
// bytes. To look each ancestor up in a map costs a hash of each: with the 2,048 components of the
// deepest path these have two million bytes. The zero value is empty and ready to use.
type Tops[V any] struct {
	byPath map[string]V
	sums   map[uint64]int32 // hash of a path, as Above computes it → how many paths have it
}

// The hash is FNV-1a, because each prefix of a path has a hash on the way to that of the whole.
// Paths made to collide cost a lookup more each.
const sumBegin = 14695981039346656037

var sumPrime uint64 = 1099511628211 // 0 in the test of collisions

func sumOf(path string) uint64 {
	sum := uint64(sumBegin)
	for i := range len(path) {
		sum = (sum ^ uint64(path[i])) * sumPrime
	}
	return sum
}

// Get returns the value of a path.
func (t *Tops[V]) Get(path string) (V, bool) {
	v, there := t.byPath[path]
	return v, there
}

// Put sets the value of a valid path.
func (t *Tops[V]) Put(path string, v V) {
	if t.byPath == nil {
		t.byPath, t.sums = map[string]V{}, map[uint64]int32{}
	}
	if _, there := t.byPath[path]; !there {
		t.sums[sumOf(path)]++
	}
	t.byPath[path] = v
}

// Delete removes a path, if it is there.
func (t *Tops[V]) Delete(path string) {
	if _, there := t.byPath[path]; !there {
		return
	}
	delete(t.byPath, path)
	if sum := sumOf(path); t.sums[sum] > 1 {
		t.sums[sum]--
	} else {
		delete(t.sums, sum)
	}
}

// shallow is the most components of a path for which a lookup of each ancestor costs less.
const shallow = 16

// Above yields the paths at or above path, the deepest first, with their values. Above
// what is no path it may miss some.
func (t *Tops[V]) Above(path string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if len(t.byPath) == 0 {
			return
		}
		if strings.Count(path, "/") <= shallow {
			for top := path; top != ""; top, _ = Split(top) {
				if v, there := t.byPath[top]; there && !yield(top, v) {
					return
				}
			}
			return
		}
		var few [32]int
		ends := few[:0] // of the prefixes of path that may be there
		sum := uint64(sumBegin)
		for i := range len(path) {
			if i > 0 && path[i] == '/' && t.sums[sum] > 0 {
				ends = append(ends, i)
			}
			sum = (sum ^ uint64(path[i])) * sumPrime
		}
		for _, end := range slices.Backward(append(ends, len(path))) {
			if v, there := t.byPath[path[:end]]; there && !yield(path[:end], v) {
				return
			}
		}
		if v, there := t.byPath[Root]; there {
			yield(Root, v)
		}
	}
}

// Nearest returns the deepest path at or above path, with its value.
func (t *Tops[V]) Nearest(path string) (top string, v V, ok bool) {
	for top, v := range t.Above(path) {
		return top, v, true
	}
	return "", v, false
}

// All yields the paths in any order.
func (t *Tops[V]) All() iter.Seq2[string, V] { return maps.All(t.byPath) }
