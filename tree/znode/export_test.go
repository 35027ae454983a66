package znode

import "testing"

// Collide makes all paths have the same hash, until the test ends.
func Collide(t *testing.T) {
	prime := sumPrime
	sumPrime = 0
	t.Cleanup(func() { sumPrime = prime })
}

// Len is the number of paths in a Tops.
func Len[V any](t *Tops[V]) int { return len(t.byPath) }

// Sums is the number of hashes that a Tops holds.
func Sums[V any](t *Tops[V]) int { return len(t.sums) }
