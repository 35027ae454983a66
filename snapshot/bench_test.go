package snapshot

import (
	"bytes"
	"io"
	"testing"
	"time"

	"coord/tree"
	"coord/tree/znode"
)

const benchNodes = 100_000

// rawTree is the size by which throughput is measured: paths and data, as the tree counts them.
func rawTree(f *tree.Frozen) int64 { return f.DataBytes() }

func BenchmarkWrite(b *testing.B) {
	f := million(b, benchNodes)
	for _, c := range []struct {
		name  string
		codec Codec
	}{{"plain", Plain}, {"zstd", Zstd}} {
		b.Run(c.name, func(b *testing.B) {
			m := testMeta()
			m.Codec = c.codec
			b.SetBytes(rawTree(f))
			b.ReportAllocs()
			var s Summary
			for b.Loop() {
				var err error
				if s, err = Write(io.Discard, m, f, Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(s.FileBytes)/float64(s.Znodes), "fileB/znode")
		})
	}
}

// BenchmarkNodes measures how long the tree itself takes to yield its znodes: the lower bound for BenchmarkWrite.
func BenchmarkNodes(b *testing.B) {
	f := million(b, benchNodes)
	b.SetBytes(rawTree(f))
	for b.Loop() {
		f.Nodes(znode.Root, func(*tree.Node) bool { return true })
	}
}

func BenchmarkRead(b *testing.B) {
	f := million(b, benchNodes)
	for _, c := range []struct {
		name  string
		codec Codec
		level Level
	}{
		{"checksum", Plain, Checksum},
		{"decode", Plain, Decode}, {"decode-zstd", Zstd, Decode},
		{"restore", Plain, Restore}, {"restore-zstd", Zstd, Restore},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := testMeta()
			m.Codec = c.codec
			file := encode(b, m, f)
			b.SetBytes(rawTree(f))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifyReader(bytes.NewReader(file), "", c.level); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBuilder measures how long building the tree itself takes: the lower bound for BenchmarkRead/restore.
func BenchmarkBuilder(b *testing.B) {
	f := million(b, benchNodes)
	b.SetBytes(rawTree(f))
	for b.Loop() {
		t := tree.NewBuilder()
		f.Nodes(znode.Root, func(n *tree.Node) bool {
			if err := t.Add(n); err != nil {
				b.Fatal(err)
			}
			return true
		})
	}
}

// BenchmarkStep measures the longest time between two Steps while a million znodes are written: how
// long others may have to wait for this goroutine.
func BenchmarkStep(b *testing.B) {
	f := million(b, benchNodes)
	var longest time.Duration
	for b.Loop() {
		last := time.Now()
		if _, err := Write(io.Discard, testMeta(), f, Options{Step: func(Progress) error {
			longest = max(longest, time.Since(last))
			last = time.Now()
			return nil
		}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(longest.Microseconds()), "µs-longest")
}
