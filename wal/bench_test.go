package wal_test

import (
	"fmt"
	"testing"

	"coord/wal"

	"go.etcd.io/raft/v3/raftpb"
)

// BenchmarkAppend writes batches of 150-byte entries. One operation is a batch; ns/entry is the figure that matters.
// The variant without fsync writes to memory and shows the CPU cost; most of its allocations are the positions of
// records in tidwall.
func BenchmarkAppend(b *testing.B) {
	for _, sync := range []bool{true, false} {
		for _, n := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("fsync=%v/batch=%d", sync, n), func(b *testing.B) { benchmarkAppend(b, n, sync) })
		}
	}
}

func benchmarkAppend(b *testing.B, n int, sync bool) {
	dir := b.TempDir()
	if !sync {
		dir = ramDir(b)
	}
	l, _ := open(b, dir, wal.Options{})
	data := make([]byte, 150)
	var row []*raftpb.Entry // made outside the measured time, as raft makes them
	next := uint64(1)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if len(row) == 0 {
			b.StopTimer()
			must(b, l.Append(wal.Batch{HardState: wal.HardState{Term: 1, Commit: next - 1}}))
			must(b, l.CompactTo(next))
			must(b, l.Sweep(b.Context()))
			row = benchEntries(next, 64*1000, data)
			b.StartTimer()
		}
		must(b, l.Append(wal.Batch{Entries: row[:n], HardState: wal.HardState{Term: 1, Commit: next - 1}, Sync: sync}))
		row, next = row[n:], next+uint64(n)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
	must(b, l.Close())
}

func benchEntries(first uint64, n int, data []byte) []*raftpb.Entry {
	term, kind := uint64(1), raftpb.EntryNormal
	slab, indices := make([]raftpb.Entry, n), make([]uint64, n)
	out := make([]*raftpb.Entry, n)
	for i := range slab {
		indices[i] = first + uint64(i)
		slab[i].Index, slab[i].Term, slab[i].Type, slab[i].Data = &indices[i], &term, &kind, data
		out[i] = &slab[i]
	}
	return out
}

// BenchmarkEntries reads runs of a hundred entries, from memory and from disk.
func BenchmarkEntries(b *testing.B) {
	for name, recent := range map[string]int{"memory": 0, "disk": 1} {
		b.Run(name, func(b *testing.B) {
			l, _ := open(b, b.TempDir(), wal.Options{RecentBytes: recent})
			must(b, l.Append(wal.Batch{Entries: benchEntries(1, 10000, make([]byte, 150))}))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				lo := uint64(1 + i*100%9900)
				if _, err := l.Entries(lo, lo+100, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100), "ns/entry")
			must(b, l.Close())
		})
	}
}

// BenchmarkOpen reads, checks and opens a log of 64 MiB.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	l, _ := open(b, dir, wal.Options{})
	data := make([]byte, 1000)
	for next := uint64(1); l.Size() < 64<<20; next += 1000 {
		must(b, l.Append(wal.Batch{Entries: benchEntries(next, 1000, data)}))
	}
	must(b, l.Close())
	b.SetBytes(64 << 20)
	b.ResetTimer()
	for range b.N {
		l, _ := open(b, dir, wal.Options{})
		must(b, l.Close())
	}
}
