package tree_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"coord/tree"
	"coord/tree/znode"
)

// fill makes n znodes of 100 bytes with 8-byte names, 1,000 in each folder: the shape behind the
// figures in docs/benchmarks.md.
func fill(t *tree.Tree, n int) {
	data := []byte(strings.Repeat("x", 100))
	dir := ""
	for i := range n {
		if i%1000 == 0 {
			dir = fmt.Sprintf("/dir%05d", i/1000)
			t.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: dir, Data: []byte{}, ACL: znode.OpenACL}})
		}
		t.Apply(1, &tree.Txn{TimeMS: int64(1.7e12) + int64(i), Op: tree.Op{
			Kind: tree.KindCreate, Path: fmt.Sprintf("%s/n%07d", dir, i), Data: data, ACL: znode.OpenACL}})
	}
}

func BenchmarkApplyCreate(b *testing.B) {
	t := tree.New()
	paths := make([]string, b.N)
	for i := range paths {
		paths[i] = fmt.Sprintf("/d%05d/n%07d", i/1000, i)
		if i%1000 == 0 {
			t.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: paths[i][:7], ACL: znode.OpenACL}})
		}
	}
	data := make([]byte, 100)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if r, _ := t.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindCreate, Path: paths[i], Data: data, ACL: znode.OpenACL}}); r.Code != 0 {
			b.Fatal(r.Code, paths[i])
		}
	}
}

func BenchmarkApplySet(b *testing.B) {
	t := tree.New()
	fill(t, 100_000)
	paths := make([]string, 100_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("/dir%05d/n%07d", i/1000, i)
	}
	x := &tree.Txn{Op: tree.Op{Kind: tree.KindSetData, Data: make([]byte, 100), Version: -1}}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		x.Path = paths[i*7919%len(paths)]
		if r, _ := t.Apply(1, x); r.Code != 0 {
			b.Fatal(r.Code)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	t := tree.New()
	fill(t, 100_000)
	paths := make([]string, 100_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("/dir%05d/n%07d", i/1000, i)
	}
	ids := []znode.Identity{{Scheme: "ip", ID: "127.0.0.1"}}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, code := t.Get(paths[i*7919%len(paths)], ids, znode.Read); code != 0 {
			b.Fatal(code)
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	ids := []znode.Identity{{Scheme: "ip", ID: "127.0.0.1"}}
	x := &tree.Txn{Origin: 77, Seq: 1234567, IDs: ids, Op: tree.Op{
		Kind: tree.KindSetData, Path: "/dir00001/n0000001", Data: make([]byte, 100), Version: -1}}
	var e tree.Encoder
	b.ReportAllocs()
	for range b.N / 100 {
		for range 100 {
			e.Add(x)
		}
		if err := tree.Decode(e.AppendBatch(nil, 1.7e12), func(*tree.Txn) {}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCodecOfMany encodes a batch with many different identities.
func BenchmarkCodecOfMany(b *testing.B) {
	all := make([]tree.Txn, 7000)
	for i := range all {
		all[i] = tree.Txn{IDs: []znode.Identity{{Scheme: "digest", ID: fmt.Sprintf("user%d:hash", i)}}, Op: set("/a", "", -1)}
	}
	var e tree.Encoder
	var batch []byte
	for b.Loop() {
		for i := range all {
			e.Add(&all[i])
		}
		batch = e.AppendBatch(batch[:0], 1.7e12)
	}
}

// BenchmarkMemory reports the bytes of live heap for each znode and the time of a freeze, for
// COORD_ZNODES znodes (a million by default).
func BenchmarkMemory(b *testing.B) {
	n, _ := strconv.Atoi(os.Getenv("COORD_ZNODES"))
	if n == 0 {
		n = 1_000_000
	}
	for range b.N {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		t := tree.New()
		fill(t, n)
		runtime.GC()
		start := time.Now()
		runtime.GC()
		gc := time.Since(start)
		runtime.ReadMemStats(&after)
		start = time.Now()
		f := t.Freeze()
		took := time.Since(start)
		start = time.Now()
		count := 0
		f.Nodes("/", func(*tree.Node) bool { count++; return true })
		walk := time.Since(start)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/znode")
		b.ReportMetric(float64(took.Microseconds()), "freeze-µs")
		b.ReportMetric(gc.Seconds()*1000, "gc-ms")
		b.ReportMetric(walk.Seconds()*1000, "walk-ms")
		runtime.KeepAlive(t)
	}
}
