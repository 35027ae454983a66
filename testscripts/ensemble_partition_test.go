package testscripts

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// A partition of TestEnsembleLong is either short, so that it is over before any node
// notices, or long: the other nodes notice, and the sync limit passes.
const (
	shortPartition = 150 * time.Millisecond
	longPartition  = 4 * time.Second
)

// partitions are harms that need a network of the test's own.
var partitions = map[string]func(x *traffic, n *node){
	"cut off":         cutFor(longPartition, bothWays, everyOther),
	"unheard":         cutFor(longPartition, fromIt, everyOther),
	"deaf":            cutFor(longPartition, toIt, everyOther),
	"a link cut":      cutFor(longPartition, bothWays, oneOther),
	"a link one-way":  cutFor(longPartition, fromIt, oneOther),
	"cut off briefly": cutFor(shortPartition, bothWays, everyOther),
	"unheard briefly": cutFor(shortPartition, fromIt, everyOther),
	"deaf briefly":    cutFor(shortPartition, toIt, everyOther),
	"cut off repeatedly": func(x *traffic, n *node) {
		for range 10 {
			cutFor(shortPartition, bothWays, everyOther)(x, n)
		}
	},
}

func bothWays(t *testing.T, n, o *node) { apart(t, n, o); apart(t, o, n) }
func fromIt(t *testing.T, n, o *node)   { apart(t, n, o) }
func toIt(t *testing.T, n, o *node)     { apart(t, o, n) }

func everyOther(n *node) []*node { return n.others() }
func oneOther(n *node) []*node   { return n.others()[:1] }

// cutFor cuts links of a node. Whichever links are cut, the last of the three nodes is in
// the majority and confirms writes; a node that is cut off from both others confirms none.
func cutFor(d time.Duration, cut func(t *testing.T, n, o *node), which func(n *node) []*node) func(x *traffic, n *node) {
	return func(x *traffic, n *node) {
		x.t.Helper()
		from, majority := which(n), n.others()[1]
		for _, o := range from {
			cut(x.t, n, o)
		}
		over := time.After(d)
		if d == longPartition {
			majority.takes(20)
			if len(from) == 2 {
				x.c.eventually(n.name+" refuses writes", func() bool {
					got, err := askAt(n.host+":2181", "SET /probe create x")
					return err == nil && strings.HasPrefix(got, "ERR NOLEADER")
				})
			}
		}
		<-over
		heal(x.t)
		for _, n := range x.c.nodes {
			n.takes(5)
		}
	}
}

// longHarms are the harms of TestEnsembleLong, by name.
func longHarms(t *testing.T, ownNetwork bool) (names []string, by map[string]func(x *traffic, n *node)) {
	t.Helper()
	by = maps.Clone(harms)
	const leftOut = "LEFT OUT: partitions. A network namespace needs rights that this user does not have"
	switch {
	case ownNetwork:
		maps.Copy(by, partitions)
	case os.Getenv("COORD_TEST_ALL") != "":
		t.Fatal(leftOut)
	default:
		t.Log(leftOut)
	}
	return slices.Sorted(maps.Keys(by)), by
}
