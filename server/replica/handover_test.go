package replica_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// slow is a Peers on which everything takes a millisecond.
type slow struct {
	replica.Peers
	mail chan letter
}

type letter struct {
	due   time.Time
	carry func()
}

// slowly makes a node's Peers slow until ctx ends.
func slowly(ctx context.Context) func(*replica.Config) {
	return func(cfg *replica.Config) {
		s := &slow{cfg.Peers, make(chan letter, 1<<16)}
		cfg.Peers = s
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case l := <-s.mail:
					select {
					case <-ctx.Done():
						return
					case <-time.After(time.Until(l.due)):
						l.carry()
					}
				}
			}
		}()
	}
}

func (s *slow) later(carry func()) { s.mail <- letter{time.Now().Add(time.Millisecond), carry} }

func (s *slow) Raft(msgs []*raftpb.Message) { s.later(func() { s.Peers.Raft(msgs) }) }

func (s *slow) Forward(to uint64, kind byte, b []byte) {
	s.later(func() { s.Peers.Forward(to, kind, b) })
}

// leader returns the node that leads the crowd.
func (c *crowd) leader() *node { return c.at(c.at(1).Status().Leader) }

func (c *crowd) stop() {
	for _, n := range c.nodes {
		n.stop()
	}
}

// outcomes are the results of many writes.
type outcomes struct {
	sync.Mutex
	codes   map[znode.Code]int
	longest time.Duration // until an answer
}

// write keeps a number of writes under way on each node until stop is called.
func (c *crowd) write(each int) (stop func() *outcomes) {
	ended := make(chan struct{})
	var all sync.WaitGroup
	o := &outcomes{codes: map[znode.Code]int{}}
	for id, n := range c.nodes {
		for w := range each {
			path := fmt.Sprintf("/%d-%d", id, w)
			n.do(create(path)) // an earlier write may have made it
			all.Go(func() {
				for {
					select {
					case <-ended:
						return
					default:
					}
					began := time.Now()
					code := n.do(set(path, "x")).Code
					took := time.Since(began)
					o.Lock()
					o.codes[code]++
					o.longest = max(o.longest, took)
					o.Unlock()
				}
			})
		}
	}
	return func() *outcomes {
		close(ended)
		all.Wait()
		return o
	}
}

// The leadership passes from node to node under load, and every write succeeds.
func TestAHandOverLosesNoWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := join(t, slowly(ctx))
		stop := c.write(4)
		for i := range 6 {
			time.Sleep(300 * time.Millisecond)
			was := c.leader()
			term := was.Status().Term
			if err := was.HandOver(ctx); err != nil {
				t.Fatal(err)
			}
			if st := was.Status(); st.Role == "leader" || st.Leader == 0 || st.Term <= term {
				t.Errorf("hand-over %d: returned with %+v", i, st)
			}
			if err := was.HandOver(ctx); err != nil { // it no longer leads
				t.Error(err)
			}
			began := time.Now()
			if code := was.barrier(); code != znode.OK || time.Since(began) > 100*time.Millisecond {
				t.Errorf("a barrier behind hand-over %d: %v after %v", i, code, time.Since(began))
			}
		}
		o := stop()
		if len(o.codes) != 1 || o.codes[znode.OK] < 1000 || o.longest > 100*time.Millisecond {
			t.Errorf("answers: %v, the longest after %v", o.codes, o.longest)
		}
		t.Logf("%v, the longest after %v", o.codes, o.longest)
		c.stop()
		cancel()
		synctest.Wait()
	})
}

// A transfer to a particular voter is a hand-over too.
func TestATransferLosesNoWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := join(t, slowly(ctx))
		stop := c.write(4)
		for to := range uint64(3) {
			time.Sleep(300 * time.Millisecond)
			c.leader().Transfer(to + 1)
			time.Sleep(300 * time.Millisecond)
			if st := c.at(to + 1).Status(); st.Role != "leader" {
				t.Errorf("%d is to lead: %+v", to+1, st)
			}
		}
		if o := stop(); len(o.codes) != 1 || o.codes[znode.OK] < 500 {
			t.Errorf("answers: %v", o.codes)
		}
		c.stop()
		cancel()
		synctest.Wait()
	})
}

// A sole member has no node to hand over to. Without a voter that has caught up the call waits, and
// writes do not.
func TestAHandOverWaitsForSomebody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		if err := n.HandOver(t.Context()); err != nil {
			t.Error(err)
		}
		n.must(create("/a"))
		n.stop()

		c := join(t)
		lead := c.leader()
		rest := slices.DeleteFunc([]uint64{1, 2, 3}, func(id uint64) bool { return c.at(id) == lead })
		for _, id := range rest { // they follow, and there is no link to them
			lead.PeerDown(id, false)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		over := make(chan error, 1)
		go func() { over <- lead.HandOver(ctx) }()
		for range 4 {
			time.Sleep(500 * time.Millisecond)
			lead.must(set("/", "x"))
		}
		if err := <-over; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("handed over to nobody: %v", err)
		}
		if st := lead.Status(); st.Role != "leader" {
			t.Errorf("%+v", st)
		}
		lead.PeerUp(rest[0])
		if err := lead.HandOver(t.Context()); err != nil || c.at(rest[0]).Status().Role != "leader" {
			t.Errorf("%v, %+v", err, c.at(rest[0]).Status())
		}
		c.stop()
	})
}

// A follower that does not answer delays a hand-over by half an election timeout at most, and a
// leader that falls silent delays its followers by two at most.
func TestAHoldHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		lead := c.leader()
		var mute uint64
		for id := range c.nodes {
			if c.at(id) != lead {
				mute = id
			}
		}
		n := c.at(mute)
		n.log.hold() // what it has forwarded gets no answer here
		waits := n.submit(create("/a"))
		synctest.Wait()
		began := time.Now()
		if err := lead.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 600*time.Millisecond {
			t.Errorf("handed over after %v", took)
		}
		n.log.open()
		synctest.Wait()
		if waits.times() != 1 {
			t.Errorf("%d answers", waits.times())
		}

		// As if sent by the leader, which then sends nothing more.
		lead = c.leader()
		for id := range c.nodes {
			if c.at(id) != lead {
				n = c.at(id)
			}
		}
		n.StepForward(n.Status().Leader, holdKind, holdOf(n.Status().Term, 1))
		began = time.Now()
		n.must(create("/b"))
		if took := time.Since(began); took < 500*time.Millisecond || took > 1200*time.Millisecond {
			t.Errorf("held for %v", took)
		}
		// A hold of another term, or from another node than the leader, is ignored; and the leader
		// can revoke it.
		n.StepForward(n.Status().Leader, holdKind, holdOf(n.Status().Term-1, 1))
		n.StepForward(99, holdKind, holdOf(n.Status().Term, 1))
		n.StepForward(n.Status().Leader, holdKind, []byte{1, 2, 3})
		n.StepForward(n.Status().Leader, holdKind, holdOf(n.Status().Term, 1))
		n.StepForward(n.Status().Leader, holdKind, holdOf(n.Status().Term, 0))
		began = time.Now()
		n.must(create("/c"))
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("held for %v", took)
		}
		c.stop()
	})
}

const holdKind = 3

func holdOf(term uint64, on byte) []byte {
	return []byte{byte(term), byte(term >> 8), 0, 0, 0, 0, 0, 0, on}
}

// BenchmarkHandOver measures the longest wait of a write while the leadership passes from node to
// node, with files and fsyncs, and how long the calls take.
func BenchmarkHandOver(b *testing.B) {
	c := join(b, func(cfg *replica.Config) {
		log, found := openWAL(b, filepath.Join(b.TempDir(), "wal"), wal.Options{})
		cfg.Log, cfg.HardState = log, found.HardState
	})
	var all, calls []time.Duration
	for b.Loop() {
		stop := c.write(8)
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		if err := c.leader().HandOver(b.Context()); err != nil {
			b.Fatal(err)
		}
		calls = append(calls, time.Since(began))
		time.Sleep(100 * time.Millisecond)
		o := stop()
		if len(o.codes) != 1 {
			b.Errorf("answers: %v", o.codes)
		}
		all = append(all, o.longest)
	}
	slices.Sort(all)
	slices.Sort(calls)
	for name, d := range map[string]time.Duration{"ms-median-gap": all[len(all)/2], "ms-longest-gap": all[len(all)-1],
		"ms-median-call": calls[len(calls)/2], "ms-longest-call": calls[len(calls)-1]} {
		b.ReportMetric(float64(d.Microseconds())/1000, name)
	}
	c.stop()
}

// Progress returns what the leader knows of the other members.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		of := func(n *node) []replica.Progress {
			got := make(chan []replica.Progress, 1)
			n.Progress(func(all []replica.Progress) { got <- all })
			return <-got
		}
		lead := c.leader()
		lead.must(create("/a"))
		synctest.Wait()
		last := lead.Status().Last
		var others []uint64
		for _, p := range of(lead) {
			if p.Match != last || p.Behind != 0 || p.Heard > 150*time.Millisecond || p.Snapshot || !p.Caught {
				t.Errorf("%+v, the last entry is %d", p, last)
			}
			others = append(others, p.Node)
		}
		if len(others) != 2 || !slices.IsSorted(others) || slices.Contains(others, lead.Status().Leader) {
			t.Errorf("of %v", others)
		}
		for _, id := range others {
			if got := of(c.at(id)); got != nil {
				t.Errorf("a follower says %v", got)
			}
		}
		c.leave(others[0], false)
		for range 201 {
			lead.must(set("/a", "x"))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, p := range of(lead) {
			gone := p.Node == others[0]
			if gone != (p.Behind == 201) || gone == p.Caught || gone != (p.Heard >= 900*time.Millisecond) || gone && p.Match != last {
				t.Errorf("%+v", p)
			}
		}
		joined := make(chan znode.Code, 1)
		lead.Change([]replica.Change{{Node: 9, To: replica.Learner}}, func(r tree.Result, _ *tree.Tree, _ *watchTable) { joined <- r.Code })
		if code := <-joined; code != znode.OK {
			t.Fatal(code)
		}
		if all := of(lead); len(all) != 3 || all[2].Node != 9 || all[2].Heard != replica.Never || all[2].Caught {
			t.Errorf("%+v", all)
		}
		lead.stop()
		c.leave(others[1], true)
	})
}

// If a leader leaves, the remaining voters must have a quorum among themselves: of two, both.
func TestWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := func(n *node) bool {
			up := make(chan bool, 1)
			n.Without(func(is bool) { up <- is })
			return <-up
		}
		alone, _ := leads(t, nil)
		if !goOn(alone) {
			t.Error("of who is alone there are no others that are down")
		}
		alone.stop()
		c := join(t)
		lead := c.leader()
		var others []uint64
		for id, n := range c.nodes {
			if !goOn(n) {
				t.Errorf("all are up, says node %d", id)
			}
			if n != lead {
				others = append(others, id)
			}
		}
		c.leave(others[0], false)
		synctest.Wait()
		if goOn(lead) {
			t.Error("one of two others is up")
		}
		if !goOn(c.at(others[1])) {
			t.Error("who does not lead cannot tell")
		}
		lead.stop()
		c.leave(others[1], true)
	})
}

// A program that reads the status whenever Changed is called misses no change.
func TestChangedTellsOfTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var signals []chan struct{} // of nodes 1 to 3
		c := join(t, func(cfg *replica.Config) {
			told := make(chan struct{}, 1)
			signals = append(signals, told)
			cfg.Changed = func() {
				select {
				case told <- struct{}{}:
				default:
				}
			}
		})
		until := func(id uint64, what string, is func(replica.Status) bool) {
			t.Helper()
			for began := time.Now(); !is(c.at(id).Status()); {
				select {
				case <-signals[id-1]:
				case <-time.After(20 * time.Second):
					t.Fatalf("node %d, %s: %+v since %v", id, what, c.at(id).Status(), time.Since(began))
				}
			}
		}
		for id := range uint64(3) {
			until(id+1, "ready", func(st replica.Status) bool { return st.Ready && st.Leader != 0 })
		}
		was := c.leader().Status()
		c.leader().Change([]replica.Change{{Node: 9, To: replica.Learner}}, func(tree.Result, *tree.Tree, *watchTable) {})
		for id := range uint64(3) {
			until(id+1, "members", func(st replica.Status) bool { return slices.Equal(st.Members.Others, []uint64{9}) })
		}
		c.leave(was.Leader, true)
		for id := range c.nodes {
			until(id, "another leader", func(st replica.Status) bool { return st.Term > was.Term && st.Leader != 0 })
		}
		c.stop()
	})
}
