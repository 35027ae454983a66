package compare_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"coord/cmd"
	"coord/testscripts/compare"
)

var (
	sequences = flag.Int("sequences", 300, "how many sequences are compared")
	ops       = flag.Int("ops", 50, "operations of a sequence")
	seed      = flag.Uint64("seed", 0, "compare the one sequence of this seed")
	first     = flag.Uint64("first", 1, "the seed of the first sequence")
	workers   = flag.Int("workers", 64, "sequences at once")
	real      = flag.String("real", "", "address of a running ZooKeeper in place of one that the test starts")
	other     = flag.String("other", "", "address of a running server in place of coord; \"zookeeper\" starts a second one")
	most      = flag.Int("most", 10, "differences that are enough")
	steps     = flag.Bool("steps", false, "print what the real server says to each step of -seed")
)

// run compares sequences and returns the differences. It shrinks the first ones.
func run(t *testing.T, pair *compare.Pair, seeds []uint64, most int) (compare.Counts, map[uint64]*compare.Difference) {
	t.Helper()
	// One alone first: it creates what all sequences share.
	controls, err := pair.Controls()
	if err != nil {
		t.Fatal(err)
	}
	controls.Close()
	counts, found := compare.Counts{}, map[uint64]*compare.Difference{}
	var mu sync.Mutex
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(*workers, len(seeds)) {
		wg.Go(func() {
			controls, err := pair.Controls()
			if err != nil {
				t.Error(err)
				return
			}
			defer controls.Close()
			for {
				i := int(next.Add(1)) - 1
				mu.Lock()
				enough := len(found) >= most || t.Failed()
				mu.Unlock()
				if i >= len(seeds) || enough {
					return
				}
				d, c, err := pair.Play(controls, compare.Generate(seeds[i], *ops))
				mu.Lock()
				counts.Merge(c)
				if err != nil {
					t.Errorf("seed %d: %v", seeds[i], err)
				}
				if d != nil {
					found[seeds[i]] = d
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return counts, found
}

// shrinkTime is the time for one difference.
const shrinkTime = 4 * time.Minute

// shrink reports differences in sequences that are as short as possible.
func shrink(t *testing.T, pair *compare.Pair, found map[uint64]*compare.Difference) {
	t.Helper()
	said := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for s, d := range found {
		wg.Go(func() {
			controls, err := pair.Controls()
			if err != nil {
				t.Error(err)
				return
			}
			defer controls.Close()
			short, again, err := pair.Shrink(controls, d, shrinkTime)
			if err != nil {
				t.Error(err)
			}
			text := short.String()
			mu.Lock()
			defer mu.Unlock()
			if said[text] {
				return
			}
			said[text] = true
			how := "shrunk"
			if !again {
				how = "which did not come again"
			}
			t.Errorf("seed %d, %s (go test ./testscripts/compare -run TestCompare -seed %d -ops %d replays it):\n%s", s, how, s, *ops, text)
		})
	}
	wg.Wait()
}

// TestCompare is the comparison: see docs/compatibility.md.
func TestCompare(t *testing.T) {
	t.Parallel()
	pair := &compare.Pair{Real: *real, Other: *other}
	if pair.Real == "" {
		pair.Real = startZooKeeper(t)
	}
	switch pair.Other {
	case "":
		pair.Other = startCoord(t)
	case "zookeeper":
		pair.Other = startZooKeeper(t)
	}
	seeds := seedsFrom(*first, *sequences)
	if *seed != 0 {
		seeds = []uint64{*seed}
		if *steps {
			pair.Log = func(s string) { t.Log(s) }
		}
	}
	begin := time.Now()
	counts, found := run(t, pair, seeds, *most)
	t.Logf("%d sequences of %d operations in %v\n%s", len(seeds), *ops, time.Since(begin).Round(time.Second), table(counts))
	shrink(t, pair, found)
	if len(seeds) >= 5000 && len(found) == 0 {
		for _, kind := range slices.Sorted(maps.Keys(expected)) {
			for _, key := range expected[kind] {
				if n := counts[kind][key]; n < 100 {
					t.Errorf("%s %s: %d times only", kind, key, n)
				}
			}
		}
	}
}

func seedsFrom(first uint64, n int) []uint64 {
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = first + uint64(i)
	}
	return seeds
}

// expected is what must occur a hundred times in 5,000 sequences. A client of a
// standalone ZooKeeper never gets other error codes, or not reliably: the
// connection may be closed before -112, the code of an expired session, arrives.
var expected = map[string][]string{
	"op": {
		"connect", "create", "delete", "exists", "getData", "setData", "getACL", "setACL", "getChildren", "sync", "ping", "getChildren2",
		"check", "multi", "create2", "reconfig", "checkWatches", "removeWatches", "createContainer", "createTTL", "multiRead", "auth",
		"setWatches", "sasl", "getEphemerals", "getAllChildrenNumber", "setWatches2", "addWatch", "whoAmI", "closeSession", "deleteContainer",
		"notification", "error", "op 10", "op 99", "op 108",
	},
	"part": {
		"multi create", "multi create2", "multi createContainer", "multi createTTL", "multi delete", "multi setData", "multi check",
		"multi setACL", "multi exists", "multi sync", "multi getData", "multiRead getData", "multiRead getChildren", "multiRead exists",
	},
	"error":      {"0", "-5", "-6", "-8", "-101", "-102", "-103", "-108", "-110", "-111", "-114", "-115", "-121", "-123", "-125"},
	"part error": {"0", "-2", "-8", "-101", "-102", "-103", "-108", "-110", "-111", "-114"},
	"event":      {"created", "deleted", "changed", "children"},
	"connect":    {"new session", "attached", "refused", "closed", "expired"},
}

// TestSame: two equal servers do not differ.
func TestSame(t *testing.T) {
	t.Parallel()
	pair := &compare.Pair{Real: startCoord(t), Other: startCoord(t)}
	_, found := run(t, pair, seedsFrom(*first, min(*sequences, 100)), *most)
	shrink(t, pair, found)
}

func table(c compare.Counts) string {
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(c)) {
		for _, key := range slices.Sorted(maps.Keys(c[kind])) {
			fmt.Fprintf(&b, "%-12s %-28s %8d\n", kind, key, c[kind][key])
		}
	}
	return b.String()
}

// TestMain lets the test binary be coord.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"coord": func() { os.Exit(cmd.Run()) }})
}
