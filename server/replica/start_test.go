package replica_test

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// A log that does not fit is refused, with the reason. H10: changes between the snapshot and the
// log were silently skipped.
func TestALogThatDoesNotFitIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		log  journal
		hard wal.HardState
		at   replica.Point
		want string
	}{
		"hole":             {log: journal{base: wal.Position{Index: 9, Term: 2}}, at: replica.Point{Index: 5, Term: 1}, want: "the log begins at index 10, after the snapshot's index 5"},
		"log too short":    {log: journal{base: wal.Position{Index: 3, Term: 1}}, at: replica.Point{Index: 5, Term: 1}, want: "the log ends at index 3, before the snapshot's index 5"},
		"commit too large": {log: journal{base: wal.Position{Index: 5, Term: 1}}, hard: wal.HardState{Term: 1, Commit: 6}, at: replica.Point{Index: 5, Term: 1}, want: "the log ends at index 5, before the committed index 6"},
		"other history":    {log: journal{base: wal.Position{Index: 5, Term: 2}}, at: replica.Point{Index: 5, Term: 1}, want: "entry 5 has term 2 in the log, but term 1 in the snapshot"},
		"no node id":       {log: journal{base: wal.Position{Index: 5, Term: 1}}, at: replica.Point{Index: 5, Term: 1, Voters: []uint64{0}}, want: "invalid node id"},
		"raft's node id":   {log: journal{base: wal.Position{Index: 5, Term: 1}}, at: replica.Point{Index: 5, Term: 1, Voters: []uint64{math.MaxUint64}}, want: "invalid node id"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := replica.Config{NodeID: self, Tree: tree.New(), Start: c.at, HardState: c.hard, Log: &memLog{seen: c.log}, Logger: zerolog.Nop()}
			if c.at.Voters != nil {
				cfg.NodeID = c.at.Voters[0]
			}
			if _, err := replica.New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New: %v", err)
			}
		})
	}
}

// The log may still hold entries from before the snapshot, and its commit index may lie before the
// snapshot, at it or after it. H17 (etcd#13766): what the snapshot holds is not applied again.
func TestAStartAppliesWhatIsBehindTheSnapshot(t *testing.T) {
	for _, commit := range []uint64{1, 5, 11, 12, 15, 21} {
		t.Run(strconv.FormatUint(commit, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				n := m.ready()
				for i := range 10 {
					n.must(create("/" + strconv.Itoa(i)))
				}
				f, at := n.freeze()
				for i := range 10 {
					n.must(create("/" + strconv.Itoa(10+i)))
				}
				want := n.digest()
				n.stop()
				if at.Index != 12 {
					t.Fatalf("frozen at entry %d, the numbers above are made for 12", at.Index)
				}
				m.snaps.saved = append(m.snaps.saved, savedState{at: at, f: f})
				m.log.seen.hard.Commit, m.log.seen.hint = commit, 0
				n = m.ready()
				if got := n.digest(); got != want {
					t.Errorf("digest %v, before the restart %v", got, want)
				}
				if n.Stats().Txns != 10 {
					t.Errorf("%d txns applied, want the 10 behind the snapshot", n.Stats().Txns)
				}
				n.stop()
			})
		})
	}
}

// An entry that cannot be applied ends Run: a newer coord has written it.
func TestAnEntryOfANewerCoordEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		var e tree.Encoder
		e.Add(create("/a"))
		data := e.AppendBatch(nil, 0)
		data[0]++
		m.log.write(record{entry: newEntry(2, 1, data)})
		n := m.start()
		if err := <-n.ended; !errors.Is(err, tree.ErrNewerBatch) || !strings.Contains(err.Error(), "entry 2") {
			t.Errorf("Run: %v", err)
		}
		select {
		case <-n.Ready():
			t.Error("ready")
		default:
		}
	})
}

// A start and a stop change only the term.
func TestRestartIsIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		n := m.ready()
		n.must(create("/a"))
		want := n.digest()
		n.stop()
		for i := range 5 {
			n = m.ready()
			if got := n.digest(); got != want || n.Status().Term != uint64(3+i) {
				t.Fatalf("start %d: digest %v in term %d, want %v", i, got, n.Status().Term, want)
			}
			n.stop()
		}
		if last, _ := m.log.LastIndex(); last != 8 {
			t.Errorf("the last entry is %d, want one for each start and one txn", last)
		}
	})
}

// Run ends with its context whatever is under way; the bubble fails if Run leaves a goroutine
// behind.
func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		cfg := m.config
		cfg.Log, cfg.HardState, cfg.Snapshots = m.log, m.log.seen.recovered(), m.snaps
		cfg.Tree, cfg.Start = m.snaps.load(t)
		r, err := replica.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run with an ended context: %v", err)
		}

		n := m.ready()
		n.must(create("/a"))
		began := time.Now()
		late := make(chan znode.Code, 1)
		n.cancel()
		if err := <-n.ended; err != nil || time.Since(began) > 0 {
			t.Errorf("Run took %v to end with %v", time.Since(began), err)
		}
		// Nothing that is submitted later blocks the caller, is answered, or is done.
		n.Submit(create("/b"), func(r tree.Result, _ *tree.Tree, _ *watchTable) { late <- r.Code })
		n.Barrier(func(r tree.Result, _ *tree.Tree, _ *watchTable) { late <- r.Code })
		synctest.Wait()
		if len(late) > 0 || n.has("/b") || !n.has("/a") {
			t.Error("something is done after the end")
		}
	})
}

// The applier calls Burst after each burst, without the lock.
func TestBurstComesBehindTheAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		var running atomic.Pointer[node]
		answered, told := 0, 0
		m.config.Burst = func() {
			if n := running.Load(); n != nil {
				n.View(func(*tree.Tree, *watchTable) { told = answered })
			}
		}
		n := m.ready()
		running.Store(n)
		for range 10 {
			n.Submit(create("/a"), func(tree.Result, *tree.Tree, *watchTable) { answered++ })
		}
		synctest.Wait()
		if answered != 10 || told != 10 {
			t.Errorf("%d answered, the last burst saw %d", answered, told)
		}
		n.stop()
	})
}
