package compare_test

import (
	"flag"
	"fmt"
	"os"
	"sort"
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
	sequences = flag.Int("sequences", 120, "how many sequences are compared")
	ops       = flag.Int("ops", 50, "operations of a sequence")
	seed      = flag.Uint64("seed", 0, "compare the one sequence of this seed")
	first     = flag.Uint64("first", 1, "the seed of the first sequence")
	workers   = flag.Int("workers", 64, "sequences at once")
	real      = flag.String("real", "", "address of a running ZooKeeper in place of one that the test starts")
	other     = flag.String("other", "", "address of a running server in place of coord; \"zookeeper\" starts a second one")
	most      = flag.Int("most", 10, "differences that are enough")
	verbose   = flag.Bool("steps", false, "print the steps of -seed")
)

// run compares sequences and returns the differences, the first of them shrunk.
func run(t *testing.T, pair *compare.Pair, seeds []uint64, most int) (compare.Counts, map[uint64]*compare.Difference) {
	t.Helper()
	// One alone first: it makes what all share.
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

// shrink reports differences, each as short as it becomes in a minute.
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
			short, again, err := pair.Shrink(controls, d, time.Minute)
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

// TestCompare is the comparison.
func TestCompare(t *testing.T) {
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
	var seeds []uint64
	for i := range *sequences {
		seeds = append(seeds, *first+uint64(i))
	}
	if *seed != 0 {
		seeds = []uint64{*seed}
		if *verbose {
			pair.Log = func(s string) { t.Log(s) }
		}
	}
	begin := time.Now()
	counts, found := run(t, pair, seeds, *most)
	t.Logf("%d sequences in %v\n%s", len(seeds), time.Since(begin), table(counts))
	shrink(t, pair, found)
}

func table(c compare.Counts) string {
	var b strings.Builder
	kinds := make([]string, 0, len(c))
	for kind := range c {
		kinds = append(kinds, kind)
	}
	sort.Strings(kinds)
	for _, kind := range kinds {
		keys := make([]string, 0, len(c[kind]))
		for key := range c[kind] {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			fmt.Fprintf(&b, "%-12s %-32s %8d\n", kind, key, c[kind][key])
		}
	}
	return b.String()
}

// TestMain lets the test binary be coord.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"coord": func() { os.Exit(cmd.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }})
}
