package restore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// A restore of a million znodes of 100 bytes, 1,000 in each folder, into nothing and over a folder
// with the same state. COORD_BENCH_ZNODES sets another number.
func BenchmarkRestore(b *testing.B) {
	n := 100_000
	if s := os.Getenv("COORD_BENCH_ZNODES"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	base := b.TempDir()
	node := form(b, filepath.Join(base, "data"))
	node.tree = filled(b, n)
	node.save()
	file := node.backup(filepath.Join(base, "backup.coord"))
	node.stop()
	node = nil
	for _, c := range []struct {
		name string
		o    Options
	}{{"IntoNothing", Options{}}, {"Exact", Options{Exact: true}}, {"Replace", Options{Replace: true}}} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				c.o.File, c.o.DataDir = file, filepath.Join(base, "new")
				if c.o.Replace {
					c.o.DataDir = filepath.Join(base, "data")
				}
				runtime.GC()
				r, err := Run(context.Background(), c.o)
				must(b, err)
				for _, took := range r.Took {
					b.ReportMetric(float64(took.MS), string(took.Stage)+"-ms")
				}
				if c.o.Replace {
					must(b, os.RemoveAll(r.Target))
					must(b, os.Rename(r.Kept, r.Target))
				} else {
					must(b, os.RemoveAll(r.Target))
				}
			}
		})
	}
}

// filled is a state of n znodes.
func filled(t tb, n int) *tree.Tree {
	b := tree.NewBuilder()
	add := func(path string, data []byte, created int32) {
		z := znode.MakeZxid(1, uint32(len(path)))
		must(t, b.Add(&tree.Node{Path: path, Data: data, ACL: znode.OpenACL, Czxid: z, Mzxid: z, Pzxid: z, CtimeMS: T0, MtimeMS: T0, Created: created}))
	}
	data := []byte(strings.Repeat("0123456789", 10))
	add("/", nil, int32(n/1000))
	for f := range n / 1000 {
		dir := fmt.Sprintf("/f%07d", f)
		add(dir, nil, 1000)
		for i := range 1000 {
			add(fmt.Sprintf("%s/n%07d", dir, i), data, 0)
		}
	}
	for _, path := range []string{znode.SystemPath, znode.ConfigPath, znode.QuotaPath} {
		add(path, nil, 0)
	}
	return got(b.Tree(tree.Counters{Zxid: znode.MakeZxid(2, 1), TimeMS: T0, Settings: tree.DefaultSettings}))(t)
}

// How much more memory a restored state takes than the same state before: the price of advancing clocks everywhere.
func BenchmarkRestoredMemory(b *testing.B) {
	const n = 100_000
	for range b.N {
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		base := heap()
		before := filled(b, n)
		was := heap() - base
		c := clock{by: By{VersionAdvance, SequenceAdvance}, epoch: 100_003}
		after, _, _, err := c.rebuild(&ticker{ctx: context.Background()}, before)
		must(b, err)
		is := heap() - base - was
		b.ReportMetric(float64(was)/n, "before-B/znode")
		b.ReportMetric(float64(is)/n, "after-B/znode")
		runtime.KeepAlive(before)
		runtime.KeepAlive(after)
	}
}
