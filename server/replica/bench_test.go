package replica_test

import (
	"context"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"coord/server/replica"
	"coord/tree"
	"coord/wal"
)

// discard makes no snapshots, but keeps the log short.
type discard struct{}

func (discard) Save(_ context.Context, at replica.Point, _ *tree.Frozen) (uint64, error) {
	return at.Index + 1, nil
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// load runs b.N writes from submitters that each keep a number of them unanswered: sets of 100
// bytes on 1,000 znodes.
func load(b *testing.B, r *replica.Replica, submitters, outstanding int) {
	var all sync.WaitGroup
	for i := range 1000 {
		all.Add(1)
		r.Submit(createData("/node-"+strconv.Itoa(i), ""), func(tree.Result, *tree.Tree, *watchTable) { all.Done() })
	}
	all.Wait()
	data := string(make([]byte, 100))
	before, used := r.Stats(), cpu()
	b.ReportAllocs()
	b.ResetTimer()
	for s := range submitters {
		all.Go(func() {
			free := make(chan struct{}, outstanding)
			done := func(tree.Result, *tree.Tree, *watchTable) { <-free }
			xs := make([]tree.Txn, b.N/submitters+1)
			for i := range xs {
				xs[i] = *set("/node-"+strconv.Itoa((i*submitters+s)%1000), data)
			}
			for i := range xs {
				free <- struct{}{}
				r.Submit(&xs[i], done)
			}
			for range outstanding {
				free <- struct{}{}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	after := r.Stats()
	n := float64(after.Txns - before.Txns)
	b.ReportMetric(n/b.Elapsed().Seconds(), "txns/s")
	b.ReportMetric(float64(cpu()-used)/n, "cpu-ns/txn")
	b.ReportMetric(n/float64(after.Batches-before.Batches), "txns/batch")
}

var loads = []struct{ submitters, outstanding int }{{1, 1}, {16, 1}, {16, 64}}

// BenchmarkSubmit measures writes through the replica with a log in memory.
func BenchmarkSubmit(b *testing.B) {
	for _, l := range loads {
		b.Run(strconv.Itoa(l.submitters)+"x"+strconv.Itoa(l.outstanding), func(b *testing.B) {
			m := newMachine(b)
			m.config.Snapshots = discard{}
			n := m.ready()
			load(b, n.Replica, l.submitters, l.outstanding)
			n.stop()
		})
	}
}

// BenchmarkSubmitDisk is the same with files and fsyncs.
func BenchmarkSubmitDisk(b *testing.B) {
	for _, l := range loads {
		b.Run(strconv.Itoa(l.submitters)+"x"+strconv.Itoa(l.outstanding), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "wal")
			log, found := openWAL(b, dir, wal.Options{})
			m := newMachine(b)
			m.config.Log, m.config.HardState, m.config.Snapshots = log, found.HardState, discard{}
			n := m.ready()
			before := log.Stats()
			load(b, n.Replica, l.submitters, l.outstanding)
			after := log.Stats()
			syncs := after.Syncs - before.Syncs
			b.ReportMetric(float64(b.N)/float64(syncs), "txns/fsync")
			b.ReportMetric(float64(after.SyncTime-before.SyncTime)/float64(syncs), "ns/fsync")
			n.stop()
			if err := log.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkView measures the overhead of a read.
func BenchmarkView(b *testing.B) {
	n := newMachine(b).ready()
	defer n.stop()
	n.must(create("/a"))
	b.ReportAllocs()
	for b.Loop() {
		n.View(func(t *tree.Tree, _ *watchTable) {})
	}
}
