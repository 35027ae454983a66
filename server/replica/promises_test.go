package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"coord/server/replica"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// H18 (etcd#14370): a sole voter acknowledged before its own fsync.
func TestNothingIsAnsweredBeforeItsFsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		before := n.digest()
		n.log.hold()
		a := n.submit(create("/a"))
		synctest.Wait()
		if _, _, held := n.log.stats(); held != 1 {
			t.Fatalf("%d fsyncs under way, want 1", held)
		}
		if a.times() != 0 || n.digest() != before || n.has("/a") {
			t.Fatal("the write shows before its fsync has returned")
		}
		n.log.pass()
		synctest.Wait()
		if a.times() != 1 || a.code() != znode.OK || !n.has("/a") {
			t.Fatal("the write does not show after its fsync has returned")
		}
		n.log.open()
		n.stop()
	})
}

func TestReadyOnlyBehindAnEntryOfTheOwnTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		n := m.ready()
		for i := range 5 {
			n.must(create("/" + strconv.Itoa(i)))
		}
		n.stop()
		// Nothing records any more that the entries are committed.
		m.log.seen.hard.Commit, m.log.seen.hint = 1, 1
		m.log.hold()
		n = m.start()
		for _, what := range []string{"its vote", "its entry"} {
			synctest.Wait()
			select {
			case <-n.Ready():
				t.Fatalf("ready before %s is on the disk", what)
			default:
			}
			if a := n.submit(create("/b")); true {
				synctest.Wait()
				if a.code() != znode.ErrNoLeader {
					t.Fatalf("a write before %s is on the disk: %d answers, %v", what, a.times(), a.code())
				}
			}
			if code := n.barrier(); code != znode.ErrNoLeader {
				t.Fatalf("a barrier before %s is on the disk: %v", what, code)
			}
			if n.has("/0") {
				t.Fatalf("applied before %s is on the disk, and nobody knows that it is committed", what)
			}
			m.log.pass()
			if synctest.Wait(); what == "its vote" && (m.log.synced.hard.Term != 3 || m.log.synced.hard.Vote != self) {
				t.Fatalf("elected, and the disk has %+v", m.log.synced.hard)
			}
		}
		<-n.Ready()
		for i := range 5 {
			if !n.has("/" + strconv.Itoa(i)) {
				t.Fatalf("an answered write is missing: %d", i)
			}
		}
		if st := n.Status(); st.Role != "leader" || st.Leader != self || len(st.Members.Voters) != 1 || st.Term != 3 {
			t.Fatalf("status %+v", st)
		}
		m.log.open()
		n.stop()
	})
}

// A failed write ends Run with its error. The in-memory log panics if any writing call follows.
func TestAFailedWriteIsFinal(t *testing.T) {
	for _, step := range []string{"write", "sync", "mark", "compact"} {
		for _, nth := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", step, nth), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					broken := errors.New("input/output error")
					m := newMachine(t)
					if step == "mark" || step == "compact" {
						m.config.SnapshotTxns = 1
					}
					n := m.ready()
					n.log.failAt(step, nth, broken)
					var answered, submitted []*answer
					for i := range 10 {
						a := n.submit(create("/" + strconv.Itoa(i)))
						submitted = append(submitted, a)
						synctest.Wait()
						if a.times() > 0 {
							answered = append(answered, a)
						}
					}
					if err := <-n.ended; !errors.Is(err, broken) {
						t.Fatalf("Run: %v", err)
					}
					// What is applied is exactly what was answered.
					for i := range 10 {
						if n.has("/"+strconv.Itoa(i)) != (i < len(answered)) || submitted[i].times() > 1 {
							t.Errorf("write %d: answered %d times, there: %t", i, submitted[i].times(), n.has("/"+strconv.Itoa(i)))
						}
					}
					if (step == "write" || step == "sync") && len(answered) != nth-1 {
						t.Errorf("%d writes answered, want %d", len(answered), nth-1)
					}
				})
			})
		}
	}
}

// A log that shows damage when it is read again also ends Run, with the log's own error.
func TestAFailedReadIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		n := m.ready()
		n.must(create("/a"))
		n.stop()
		m.log.failAt("read", 0, &wal.DamageError{File: "0001", Offset: 4, Reason: "bad"})
		n = m.start()
		var damage *wal.DamageError
		if err := <-n.ended; !errors.As(err, &damage) || damage.Offset != 4 {
			t.Fatalf("Run: %v", err)
		}
	})
}

// counter is a watcher that counts events.
type counter struct{ events atomic.Int32 }

func (c *counter) Notify(znode.Event)           { c.events.Add(1) }
func (c *counter) Identities() []znode.Identity { return nil }
func (c *counter) Closed() bool                 { return false }

// Under the state lock a reader sees a change, its event and its answer, or none of them, and
// nothing of the next txn.
func TestApplyTriggerAndDoneAreOneStep(t *testing.T) {
	n := newMachine(t).ready()
	defer n.stop()
	n.must(create("/a"))
	var told counter
	var answered atomic.Int32
	n.View(func(_ *tree.Tree, w *watchTable) {
		if err := w.Add(&told, "/a", watch.Persistent); err != nil {
			t.Error(err)
		}
	})
	check := func(who string, tr *tree.Tree, answered int32) {
		if z, _ := tr.Get("/a", nil, 0); z.Stat.Version != told.events.Load() || z.Stat.Version != answered {
			t.Errorf("%s sees version %d, %d events and %d answers", who, z.Stat.Version, told.events.Load(), answered)
		}
	}
	const writers, each = 4, 500
	var all, readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				n.View(func(tr *tree.Tree, _ *watchTable) { check("a reader", tr, answered.Load()) })
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range writers {
		all.Go(func() {
			for i := range each {
				all.Add(1)
				n.Submit(set("/a", strconv.Itoa(i)), func(r tree.Result, tr *tree.Tree, w *watchTable) {
					defer all.Done()
					check("done", tr, answered.Add(1))
					if z, _ := tr.Get("/a", nil, 0); z.Stat != r.Stat || z.Data != strconv.Itoa(i) || tr.Counters().Zxid != r.Zxid {
						t.Errorf("done of %d reads %q, %+v; the result has %+v", i, z.Data, z.Stat, r.Stat)
					}
					if !w.Has(&told, "/a", watch.OfAny) {
						t.Error("done has another watch table")
					}
				})
			}
		})
	}
	all.Wait()
	close(stop)
	readers.Wait()
	if told.events.Load() != writers*each {
		t.Errorf("%d events of %d writes", told.events.Load(), writers*each)
	}
}

func TestSubmissionsOfOneGoroutineStayInOrder(t *testing.T) {
	n := newMachine(t).ready()
	defer n.stop()
	const writers, each = 4, 500
	var all sync.WaitGroup
	for w := range writers {
		path := "/" + strconv.Itoa(w)
		n.must(create(path))
		all.Go(func() {
			next := 0 // only dones use it
			for i := range each {
				all.Add(1)
				n.Submit(set(path, strconv.Itoa(i)), func(r tree.Result, _ *tree.Tree, _ *watchTable) {
					defer all.Done()
					if i != next || r.Stat.Version != int32(i+1) {
						t.Errorf("write %d of %s is answered as number %d, version %d", i, path, next, r.Stat.Version)
					}
					next++
				})
			}
		})
	}
	all.Wait()
}

// The state is made of what is in the log, entry by entry.
func TestAnIndexIsAppliedOnceAndNoneLeftOut(t *testing.T) {
	n := newMachine(t).ready()
	n.must(create("/a"))
	const writers, each = 8, 200
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for i := range each {
				n.do(set("/a", strconv.Itoa(i)))
			}
		})
	}
	all.Wait()
	f, at := n.freeze()
	n.stop()
	h := replay(t, n.log.all())
	switch last := h.entries[len(h.entries)-1]; {
	case f.Digest() != h.tree.Digest():
		t.Errorf("digest %v, of a fresh replay %v", f.Digest(), h.tree.Digest())
	case at.Index != last.GetIndex() || at.Term != last.GetTerm():
		t.Errorf("applied up to %d of term %d, the log ends at %d of %d", at.Index, at.Term, last.GetIndex(), last.GetTerm())
	case len(h.txns) != writers*each+1 || n.Stats().Txns != uint64(len(h.txns)):
		t.Errorf("%d txns in the log, %d counted", len(h.txns), n.Stats().Txns)
	}
}

// A submission whose term is over may or may not be in some node's log: it is answered as
// uncertain, before anything newer.
func TestWhatAnOldTermLeftUnansweredIsUncertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		var codes []znode.Code // only dones use it
		done := func(r tree.Result, _ *tree.Tree, _ *watchTable) { codes = append(codes, r.Code) }
		replica.ProposeInTerm(n.Replica, n.Status().Term-1, done)
		replica.ProposeInTerm(n.Replica, n.Status().Term-1, done)
		synctest.Wait()
		n.Submit(create("/a"), done)
		synctest.Wait()
		if want := []znode.Code{znode.ErrUncertain, znode.ErrUncertain, znode.OK}; !slices.Equal(codes, want) {
			t.Errorf("answers %v, want %v", codes, want)
		}
		if p := n.Stats().PendingBytes; p != 0 {
			t.Errorf("%d bytes pending when all is answered", p)
		}
		n.stop()
	})
}

func TestWhatWaitsForAnFsyncSharesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		_, before, _ := n.log.stats()
		n.log.hold()
		first := n.submit(create("/first"))
		synctest.Wait()
		var others []*answer
		for i := range 1000 {
			others = append(others, n.submit(create("/"+strconv.Itoa(i))))
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		n.log.pass()
		synctest.Wait()
		if first.times() != 1 || others[0].times() != 0 {
			t.Fatal("the fsync has answered others than its own")
		}
		n.log.pass()
		synctest.Wait()
		for i, a := range others {
			if a.times() != 1 || a.code() != znode.OK {
				t.Fatalf("write %d: %d answers, %v", i, a.times(), a.code())
			}
		}
		_, after, held := n.log.stats()
		if after-before != 2 || held != 0 || n.Stats().Batches != 2 {
			t.Errorf("%d fsyncs and %d batches, want 2", after-before, n.Stats().Batches)
		}
		n.log.open()
		n.stop()
	})
}

// Successive writes cost one fsync each: the commit index that follows a write does not cost
// another one. Still the log knows what was committed.
func TestTheCommitIndexCostsNoFsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		writes, syncs, _ := n.log.stats()
		const count = 20
		for i := range count {
			n.must(create("/" + strconv.Itoa(i)))
		}
		synctest.Wait()
		writes2, syncs2, _ := n.log.stats()
		if writes2-writes != count || syncs2-syncs != count {
			t.Errorf("%d writes to the log and %d fsyncs for %d txns", writes2-writes, syncs2-syncs, count)
		}
		last, _ := n.log.LastIndex()
		if commit := n.log.synced.recovered().Commit; commit+1 < last {
			t.Errorf("the log knows that %d is committed, the entry before the last one is %d", commit, last-1)
		}
		n.stop()
	})
}

func TestBarrierSeesWhatWasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		for i := range 20 {
			path := "/" + strconv.Itoa(i)
			n.must(create(path))
			saw := make(chan bool, 1)
			n.Barrier(func(r tree.Result, tr *tree.Tree, _ *watchTable) {
				_, code := tr.Get(path, nil, 0)
				saw <- r.Code == znode.OK && code == znode.OK
			})
			if !<-saw {
				t.Fatalf("the barrier behind %s does not see it", path)
			}
		}
		// A commit index waits for no fsync that it does not need.
		n.log.hold()
		a := n.submit(create("/slow"))
		synctest.Wait()
		if code := n.barrier(); code != znode.OK || a.times() != 0 {
			t.Fatalf("a barrier while an fsync is under way: %v", code)
		}
		n.log.open()
		n.stop()
	})
}

// A barrier waits for what is committed and not applied yet, even if it is more than raft hands out
// at a time.
func TestBarrierWaitsForWhatIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		goOn := make(chan struct{})
		var order []string                  // only dones use it
		large := strings.Repeat("a", 2<<10) // applied by the applier's own goroutine; a small one might block the log writer
		n.Submit(createData("/a", large), func(tree.Result, *tree.Tree, *watchTable) { <-goOn })
		synctest.Wait() // the applier is busy with /a
		for range 10 {
			n.submit(set("/a", strings.Repeat("x", 1<<20)))
		}
		n.Submit(create("/b"), func(tree.Result, *tree.Tree, *watchTable) { order = append(order, "b") })
		synctest.Wait() // /b is committed
		n.Barrier(func(r tree.Result, _ *tree.Tree, _ *watchTable) { order = append(order, "barrier") })
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("%v while the applier is busy", order)
		}
		close(goOn)
		synctest.Wait()
		if fmt.Sprint(order) != "[b barrier]" {
			t.Fatalf("order %v", order)
		}
		n.stop()
	})
}

// Freeze never sees half a multi, and what it sees is the log up to its point: so a snapshot is of
// one moment (H12: ZOOKEEPER-3144, 3145, 3306), and says of which (H17: etcd#13766).
func TestFreezeIsExactBetweenTxns(t *testing.T) {
	n := newMachine(t).ready()
	n.must(multi(createOp("/x", ""), createOp("/y", "")))
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for i := range 200 {
				n.do(multi(setOp("/x", strconv.Itoa(i)), setOp("/y", strconv.Itoa(i))))
			}
		})
	}
	type frozen struct {
		f  *tree.Frozen
		at uint64
	}
	var all []frozen
	for range 30 {
		f, at := n.freeze()
		data := map[string]string{}
		f.Nodes(znode.Root, func(z *tree.Node) bool {
			data[z.Path] = string(z.Data)
			return true
		})
		if data["/x"] != data["/y"] {
			t.Errorf("frozen inside a multi: %q and %q", data["/x"], data["/y"])
		}
		all = append(all, frozen{f, at.Index})
	}
	writers.Wait()
	n.stop()
	entries := n.log.all()
	for _, f := range all {
		rebuild(t, f.f) // it compares the digest
		if want := replay(t, entries[:f.at-1]).tree.Digest(); f.f.Digest() != want {
			t.Errorf("digest %v at entry %d, of a replay up to it %v", f.f.Digest(), f.at, want)
		}
	}
}

func TestSettingsAreProposedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		count := func() (n int) {
			for _, x := range replay(t, m.log.all()).txns {
				if x.kind == tree.KindSettings {
					n++
				}
			}
			return n
		}
		m.ready().stop()
		if count() != 0 {
			t.Fatal("proposed although the state has them")
		}
		m.config.Settings = tree.Settings{SkipACL: true}
		for i := range 3 {
			m.log.hold()
			n := m.start()
			for step := 2; step > 0 || i == 0 && step == 0; step-- { // the vote, the entry, the settings
				synctest.Wait()
				select {
				case <-n.Ready():
					t.Errorf("start %d: ready too early", i)
				default:
				}
				n.log.pass()
			}
			<-n.Ready()
			n.log.open()
			n.View(func(tr *tree.Tree, _ *watchTable) {
				if tr.Counters().Settings != m.config.Settings {
					t.Error("ready before the settings are in force")
				}
			})
			n.stop()
		}
		if count() != 1 {
			t.Fatalf("proposed %d times", count())
		}
		m.config.Settings = tree.DefaultSettings
		m.config.Full = func() bool { return true } // this does not prevent new settings
		m.ready().stop()
		if count() != 2 {
			t.Fatalf("proposed %d times", count())
		}
	})
}

// The bubble's clock begins in the year 2000; the log has later stamps. A new leader's stamps are
// later still.
func TestStampsNeverGoBack(t *testing.T) {
	for _, where := range []string{"log", "snapshot"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const later = int64(4_000_000_000_000)
				m := newMachine(t)
				x := create("/later")
				if where == "log" {
					var e tree.Encoder
					e.Add(x)
					m.log.write(record{entry: newEntry(2, 1, e.AppendBatch(nil, later))})
				} else {
					tr := tree.New()
					x.TimeMS = later
					tr.Apply(1, x)
					m.snaps.saved[0].f = tr.Freeze()
				}
				n := m.ready()
				if r := n.must(create("/a")); r.Stat.CtimeMS != later+1 {
					t.Errorf("stamped %d, want %d", r.Stat.CtimeMS, later+1)
				}
				n.stop()
				txns := replay(t, m.log.all()).txns
				if stamp := txns[len(txns)-1].timeMS; stamp != later+1 {
					t.Errorf("stamped %d in the log, want %d", stamp, later+1)
				}
			})
		})
	}
}
