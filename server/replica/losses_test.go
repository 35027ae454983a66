package replica_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// Here are the faults by which other systems have lost data, one test each: H and a number are the
// line of docs/guarantees.md ("Where others have lost data"). Most tests take the turns of one node
// of three themselves (stage_test.go), and play its leader and its peers.

// H1 (ZOOKEEPER-3911, 4646): a follower acknowledged what was not on its disk. H2 (ZOOKEEPER-4643):
// the new epoch was on the disk before the changes under it. Here the order is entries, then term
// and vote, then the fsync, then the acknowledgement.
func TestAFollowerSaysWhatIsOnItsDisk(t *testing.T) {
	s := newStage(t)
	s.begin()
	step := func(m *raftpb.Message, written, said string) {
		t.Helper()
		s.r.StepRaft(m.GetFrom(), []*raftpb.Message{m})
		for _, x := range []struct {
			part int
			want string
		}{{loopPart, ""}, {logPart, written}, {loopPart, said}} {
			if err := s.turn(x.part); err != nil {
				t.Fatal(err)
			}
			if got := s.wrote(); got != x.want {
				t.Errorf("part %d does %q, want %q", x.part, got, x.want)
			}
		}
	}
	step(appendOf(1, 2, 1, 1, 1, written(2, 2, "/a"), written(3, 2, "/b")), "entry 2, entry 3, term 2 vote 0, fsync", "has 3")
	step(appendOf(2, 5, 3, 2, 1, written(4, 5, "/c")), "entry 4, term 5 vote 0, fsync", "has 4")
	vote := message(raftpb.MsgVote, 1, 6)
	vote.Index, vote.LogTerm, vote.Context = new(uint64(9)), new(uint64(5)), []byte("CampaignTransfer")
	step(vote, "term 6 vote 1, fsync", "votes for 1")
}

// H3 (ZOOKEEPER-4785, 4685): a second thread was still writing what the first one had acknowledged.
// Here one goroutine writes, and waits for each fsync.
func TestOneGoroutineWritesTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		log := &oneWriter{memLog: m.log}
		m.config.Log, m.config.HardState, m.config.SnapshotTxns = log, m.log.seen.recovered(), 2
		m.snaps.gate = make(chan struct{})
		n := m.ready()
		n.must(create("/a"))
		n.must(create("/b")) // a snapshot is under way
		m.log.hold()
		first := n.submit(create("/c"))
		synctest.Wait()
		m.snaps.gate <- struct{}{} // the snapshot ends during an fsync, and must then be marked in the log
		later := n.submit(create("/d"))
		synctest.Wait()
		if first.times()+later.times() != 0 || len(m.log.calls) != 0 {
			t.Errorf("%d and %d answers and %v in the midst of an fsync", first.times(), later.times(), m.log.calls)
		}
		m.log.open()
		synctest.Wait()
		if first.code() != znode.OK || later.times() != 1 || len(m.log.calls) == 0 {
			t.Errorf("behind the fsync: %d and %d answers, %v", first.times(), later.times(), m.log.calls)
		}
		if n := log.overlaps.Load(); n != 0 {
			t.Errorf("%d calls while another was writing", n)
		}
		close(m.snaps.gate)
		n.stop()
	})
}

// oneWriter counts the calls that overlap another call's write.
type oneWriter struct {
	*memLog
	writing, overlaps atomic.Int32
}

func (l *oneWriter) alone(write func() error) error {
	if l.writing.Add(1) > 1 {
		l.overlaps.Add(1)
	}
	defer l.writing.Add(-1)
	return write()
}

func (l *oneWriter) Append(b ...wal.Batch) error {
	return l.alone(func() error { return l.memLog.Append(b...) })
}
func (l *oneWriter) Mark(m wal.Mark) error { return l.alone(func() error { return l.memLog.Mark(m) }) }
func (l *oneWriter) CompactTo(i uint64) error {
	return l.alone(func() error { return l.memLog.CompactTo(i) })
}

// H4 (ZOOKEEPER-4925): one of two ways of applying changes left some out, and the hole spread to
// other nodes. Here there is one way, and a node that finds a hole stops: the follower refuses
// entries that do not follow its last one, and the applier refuses those that do not follow the
// last one applied.
func TestAHoleIsRefusedEverywhere(t *testing.T) {
	s := newStage(t)
	s.begin()
	s.hears(appendOf(1, 2, 1, 1, 2, written(2, 2, "/a")))
	s.wrote()
	s.hears(appendOf(1, 2, 3, 2, 4, written(4, 2, "/behind"))) // entry 3 is missing
	if got := s.wrote(); got != "no" || s.entries() != "2/2" {
		t.Errorf("behind a hole: %s, the log has %s", got, s.entries())
	}
	for name, e := range map[string]*raftpb.Entry{"one left out": written(4, 2, "/c"), "one again": written(2, 2, "/c")} {
		replica.Commit(s.r, e)
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, "after entry 2") {
					t.Errorf("%s: %s", name, p)
				}
			}()
			t.Errorf("%s: applied, %v", name, s.turn(applierPart))
		}()
	}
	if s.has("/behind") || s.has("/c") || !s.has("/a") {
		t.Error("the state has what is behind a hole")
	}
}

// H5 (ZOOKEEPER-4882): after a disk error the memory went on ahead of the disk, and a hole showed
// at the next restart. Here the node ends, says nothing about what was not written, and asks for it
// when it starts again.
func TestAFollowerWhoseDiskFailsSaysNothing(t *testing.T) {
	for _, step := range []string{"write", "sync"} {
		t.Run(step, func(t *testing.T) {
			s := newStage(t)
			s.begin()
			s.hears(appendOf(1, 2, 1, 1, 2, written(2, 2, "/a")))
			s.wrote()
			broken := errors.New("input/output error")
			s.log.failAt(step, 1, broken)
			s.r.StepRaft(1, []*raftpb.Message{appendOf(1, 2, 2, 2, 3, written(3, 2, "/b"))})
			if err := errors.Join(s.turn(loopPart), s.turn(logPart)); !errors.Is(err, broken) {
				t.Fatalf("the log writer goes on: %v", err)
			}
			if err := errors.Join(s.turn(loopPart), s.turn(applierPart)); err != nil {
				t.Fatal(err)
			}
			if got := s.wrote(); strings.Contains(got, "has 3") || s.has("/b") {
				t.Errorf("it says %q, and has /b: %t", got, s.has("/b"))
			}
			s.crash(0)
			s.begin()
			s.hears(appendOf(1, 2, 3, 2, 3, written(4, 2, "/c")))
			if got := s.wrote(); got != "no" || s.entries() != "2/2" {
				t.Errorf("started again with %s it says %q", s.entries(), got)
			}
			s.hears(appendOf(1, 2, 2, 2, 4, written(3, 2, "/b"), written(4, 2, "/c")))
			if !s.has("/b") || !s.has("/c") {
				t.Error("it has not caught up")
			}
		})
	}
}

// H8 (ZOOKEEPER-2832): entries that had never been committed survived an election, because the node
// was told that it had nothing to do. Here an entry is not applied before it is committed, not by a
// restart either, is in no snapshot, and gives way to the new leader's entries.
func TestWhatWasNeverCommittedGivesWay(t *testing.T) {
	s := newStage(t)
	s.config.SnapshotTxns = 1
	s.begin()
	s.hears(appendOf(1, 2, 1, 1, 2, written(2, 2, "/kept"), written(3, 2, "/lost")))
	check := func(when, last string, applied uint64, won bool) {
		t.Helper()
		if !s.has("/kept") || s.has("/lost") || s.has("/won") != won || s.r.Status().Applied != applied || !strings.HasSuffix(s.entries(), last) {
			t.Errorf("%s: %+v, the log has %s", when, s.r.Status(), s.entries())
		}
		for _, x := range s.snaps.saved {
			if x.at.Index > applied {
				t.Errorf("%s: a snapshot of entry %d, %d are applied", when, x.at.Index, applied)
			}
		}
	}
	check("before the election", "3/2", 2, false)
	s.crash(everything)
	s.begin()
	check("started again", "3/2", 2, false)
	s.hears(message(raftpb.MsgHeartbeat, 2, 3)) // it commits nothing
	check("behind the election", "3/2", 2, false)
	s.hears(appendOf(2, 3, 2, 2, 3, written(3, 3, "/won")))
	check("behind the new leader's", "3/3", 3, true)
	s.crash(everything)
	s.begin()
	check("started again behind it", "3/3", 3, true)
}

// H9 (ZOOKEEPER-1154, 1156, 1489): a log was cut at the wrong place, or was useless afterwards.
// Here the leader's entries differ from each index on in turn, in a log of several files.
func TestTheLogIsCutWhereTheLeadersDiffers(t *testing.T) {
	const last = 13
	for from := uint64(2); from <= last+1; from++ {
		s := newStage(t)
		dir := filepath.Join(t.TempDir(), "wal")
		open := func() *wal.Log {
			log, found := openWAL(t, dir, wal.Options{SegmentBytes: 300, RecentBytes: 1})
			s.disk, s.hard = log, found.HardState
			s.begin()
			return log
		}
		log := open()
		var want []string
		for i := uint64(2); i <= last; i++ {
			s.hears(appendOf(1, 2, i-1, min(i-1, 2), 1, written(i, 2, fmt.Sprintf("/%d", i))))
			if i < from {
				want = append(want, fmt.Sprintf("%d/2", i))
			}
		}
		logTerm := uint64(2)
		if from == 2 {
			logTerm = 1
		}
		s.hears(appendOf(2, 3, from-1, logTerm, from+1, written(from, 3, "/x"), written(from+1, 3, "/y")))
		want = append(want, fmt.Sprintf("%d/3", from), fmt.Sprintf("%d/3", from+1))
		for _, when := range []string{"at once", "started again"} {
			if s.entries() != strings.Join(want, " ") || !s.has("/y") || s.has(fmt.Sprintf("/%d", from)) || from > 2 && !s.has(fmt.Sprintf("/%d", from-1)) {
				t.Errorf("cut from %d on, %s: %s", from, when, s.entries())
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			log = open()
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// H14 (ZOOKEEPER-4203, 4712): an essential thread died, and the rest went on. Here the end of any
// part is the end of Run. For log writer, loop and applier see also TestAFailedWriteIsFinal,
// TestAFailedReadIsFinal and TestAnEntryOfANewerCoordEndsRun.
func TestTheEndOfTheSnapshotterEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		broken := errors.New("no such device")
		m.config.Log, m.config.HardState, m.config.SnapshotTxns = unswept{m.log, broken}, m.log.seen.recovered(), 1
		n := m.ready()
		n.must(create("/a"))
		if err := <-n.ended; !errors.Is(err, broken) {
			t.Errorf("Run: %v", err)
		}
	})
}

// unswept is a log whose old segments cannot be removed.
type unswept struct {
	*memLog
	err error
}

func (l unswept) Sweep(context.Context) error { return l.err }

// H14 too: of the panics on the loop, those of raft and of the log end Run with an error, and a bug
// of ours ends the process.
func TestAPanicOfOursIsNotCaught(t *testing.T) {
	var none []int
	for name, c := range map[string]struct {
		does   func()
		caught bool
	}{
		"raft cannot read the log": {func() { panic(fmt.Errorf("read: %w", errCrashed)) }, true},
		"a broken invariant":       {func() { panic("replica: that cannot be") }, false},
		"an index out of range":    {func() { none[0] = 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.begin()
			replica.OnLoop(s.r, c.does)
			defer func() {
				if p := recover(); (p == nil) != c.caught {
					t.Errorf("it panics with %v", p)
				}
			}()
			if err := s.turn(loopPart); !errors.Is(err, errCrashed) {
				t.Errorf("the loop goes on: %v", err)
			}
		})
	}
}

// H15 (linkedin/zookeeper#140): each election waited for a snapshot of the whole state. Here an
// election causes no snapshot, and one that never ends delays nothing.
func TestAnElectionWaitsForNoSnapshot(t *testing.T) {
	for name, c := range map[string]struct {
		txns  int
		ends  bool
		begun int32 // before the election
	}{"none is due": {1000, true, 0}, "all are in the midst of one": {3, false, 3}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := &slowDisk{ends: c.ends}
				nodes := join(t, func(cfg *replica.Config) { cfg.Snapshots, cfg.SnapshotTxns = disk, c.txns })
				for i := range 10 {
					nodes.at(1).must(create(fmt.Sprintf("/%d", i)))
				}
				synctest.Wait()
				if n := disk.begun.Load(); n != c.begun {
					t.Fatalf("%d snapshots were begun", n)
				}
				nodes.leave(nodes.at(1).Status().Leader, true)
				began := time.Now()
				for id, n := range nodes.nodes {
					n.must(create(fmt.Sprintf("/by%d", id)))
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("a new leader after %v", took)
				}
				synctest.Wait()
				if n := disk.begun.Load(); n != c.begun {
					t.Errorf("%d snapshots were begun behind the election", n)
				}
				nodes.stop()
			})
		})
	}
}

// slowDisk counts snapshots, which may never end.
type slowDisk struct {
	begun atomic.Int32
	ends  bool
}

func (s *slowDisk) Save(ctx context.Context, _ replica.Point, _ *tree.Frozen) (uint64, error) {
	s.begun.Add(1)
	if !s.ends {
		<-ctx.Done()
	}
	return 1, ctx.Err()
}

// H16 (ZOOKEEPER-1277): at the end of the zxid's counter, after four thousand million changes, the
// ensemble had to elect anew. Here the epoch advances in the state, and the leader, its term and
// the sessions stay.
func TestTheEndOfTheCounterEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		const session = 77
		b := tree.NewBuilder()
		tree.New().Freeze().Nodes(znode.Root, func(z *tree.Node) bool {
			if err := b.Add(z); err != nil {
				t.Fatal(err)
			}
			return true
		})
		if err := b.AddSession(tree.Session{ID: session, TimeoutMS: 10_000, Password: [16]byte{1}}); err != nil {
			t.Fatal(err)
		}
		near, err := b.Tree(tree.Counters{Zxid: znode.MakeZxid(2, znode.MaxCounter-1), Settings: tree.DefaultSettings}) // 2^32-2, in the coming term
		if err != nil {
			t.Fatal(err)
		}
		m.snaps.saved[0].f = near.Freeze()
		n := m.ready()
		before := n.Status()
		last := znode.MakeZxid(2, znode.MaxCounter-1)
		for i, want := range []znode.Zxid{znode.MakeZxid(2, znode.MaxCounter), znode.MakeZxid(3, 1), znode.MakeZxid(3, 2)} {
			x := create(fmt.Sprintf("/%d", i))
			x.Mode, x.Session = znode.Ephemeral, session
			r := n.must(x)
			if r.Zxid != want || r.Zxid <= last || r.Stat.Czxid != want {
				t.Errorf("write %d has zxid %v, want %v", i, r.Zxid, want)
			}
			last = r.Zxid
		}
		if after := n.Status(); after.Term != before.Term || after.Role != "leader" || after.Applied != before.Applied+3 {
			t.Errorf("from %+v to %+v", before, after)
		}
		digest := n.digest()
		n.stop()
		n = m.ready()
		if n.digest() != digest || !n.has("/0") || !n.has("/2") {
			t.Error("a restart makes another state of it")
		}
		x := create("/more")
		x.Mode, x.Session = znode.Ephemeral, session
		if r := n.must(x); r.Zxid != znode.MakeZxid(4, 1) {
			t.Errorf("in the next term %v", r.Zxid)
		}
		n.stop()
	})
}

// leads makes the node the leader, and returns the term.
func (s *stage) leads() (term uint64) {
	s.Helper()
	replica.Campaign(s.r)
	s.settle()
	term = s.last(raftpb.MsgPreVote, 1).GetTerm()
	s.hears(message(raftpb.MsgPreVoteResp, 1, term))
	s.hears(message(raftpb.MsgVoteResp, 1, term))
	s.follow(1)
	if st := s.r.Status(); st.Role != "leader" || st.Term != term || st.Committed != st.Last {
		s.Fatalf("%+v", st)
	}
	return term
}

// follow makes a peer acknowledge all that the node has.
func (s *stage) follow(from uint64) {
	s.Helper()
	m := message(raftpb.MsgAppResp, from, s.r.Status().Term)
	m.Index = new(s.r.Status().Last)
	s.hears(m)
}

// beats returns a peer's answer to the last heartbeat that it was sent.
func (s *stage) beats(from uint64) *raftpb.Message {
	s.Helper()
	m := message(raftpb.MsgHeartbeatResp, from, s.r.Status().Term)
	m.Context = s.last(raftpb.MsgHeartbeat, from).GetContext()
	return m
}

// H19 (etcd#20418): a leader that had been suspended for a while answered reads from old knowledge.
// Here each answer needs the confirmation of a majority, given after the question, and a node that
// no longer leads asks the one that does.
func TestAReadIsConfirmedBehindItsQuestion(t *testing.T) {
	s := newStage(t)
	s.begin()
	s.r.PeerUp(1)
	s.r.PeerUp(2)
	term := s.leads()
	ask := func() (answer *string) {
		answer = new(string)
		s.r.Barrier(func(r tree.Result, t *tree.Tree, _ *watchTable) {
			_, code := t.Get("/new", nil, 0)
			*answer = fmt.Sprintf("%v, there: %t", r.Code, code == znode.OK)
		})
		s.settle()
		return answer
	}
	first := ask()
	old := s.beats(1)
	if *first != "" {
		t.Errorf("answered without a word of the others: %s", *first)
	}
	s.hears(old)
	if *first == "" {
		t.Error("not answered behind the word of one of two others")
	}
	// The node is suspended; meanwhile the others elect 2, which takes a write. Then the node wakes
	// up and is asked; the first messages to arrive are from before.
	second := ask()
	s.hears(old)
	s.hears(old)
	if *second != "" {
		t.Errorf("answered by an old word: %s", *second)
	}
	last := s.r.Status().Last
	s.hears(appendOf(2, term+1, last, term, last, written(last+1, term+1, "/new")))
	for range 5 {
		replica.Tick(s.r)
		s.settle()
	}
	if *second != "" {
		t.Errorf("answered by who leads no more: %s", *second)
	}
	asked := s.last(raftpb.MsgReadIndex, 2)
	m := message(raftpb.MsgReadIndexResp, 2, term+1)
	m.Index, m.Entries = new(last+1), asked.GetEntries()
	s.hears(m)
	if *second != "" {
		t.Errorf("answered before the write is applied: %s", *second)
	}
	s.hears(appendOf(2, term+1, last+1, term+1, last+1))
	if *second != fmt.Sprintf("%v, there: true", znode.OK) {
		t.Errorf("answered %q", *second)
	}
}

// H19 too: the answer to an abandoned question is older than the next question.
func TestALateAnswerIsNoAnswerToTheNextQuestion(t *testing.T) {
	s := newStage(t)
	s.begin()
	s.r.PeerUp(1)
	s.hears(appendOf(1, 2, 1, 1, 2, newEntry(2, 2, nil)))
	answer := func() *raftpb.Message {
		m := message(raftpb.MsgReadIndexResp, 1, 2)
		m.Index, m.Entries = new(uint64(2)), s.last(raftpb.MsgReadIndex, 1).GetEntries()
		return m
	}
	s.hears(answer()) // to its own question, by which it becomes ready
	ask := func() (*znode.Code, *raftpb.Message) {
		code := new(znode.Code(-1))
		s.r.Barrier(func(r tree.Result, _ *tree.Tree, _ *watchTable) { *code = r.Code })
		s.settle()
		return code, answer()
	}
	first, late := ask()
	for range 70 {
		s.hears(message(raftpb.MsgHeartbeat, 1, 2))
		replica.Tick(s.r)
		s.settle()
	}
	if *first != znode.ErrNoLeader {
		t.Fatalf("never answered: %v", *first)
	}
	second, inTime := ask()
	if s.hears(late); *second != -1 {
		t.Errorf("answered by what was said before: %v", *second)
	}
	if s.hears(inTime); *second != znode.OK {
		t.Errorf("not answered: %v", *second)
	}
}

// H21 (etcd#18055): a second snapshot arrived while the first was being installed, and the node
// crashed. Here they are installed one after the other, each once.
func TestTwoSnapshotsInARow(t *testing.T) {
	for name, order := range map[string][]uint64{"rising": {10, 20}, "falling": {20, 10}, "twice": {10, 10, 20, 20, 10}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			for _, index := range []uint64{10, 20} {
				s.received[index] = tree.New()
				for i := range index {
					s.received[index].Apply(2, create(fmt.Sprintf("/%d", i+1)))
				}
			}
			s.begin()
			for _, index := range order {
				s.r.StepRaft(1, []*raftpb.Message{snapOf(1, 2, index)})
			}
			for range 2 { // nothing is applied before both are in the log
				if err := errors.Join(s.turn(loopPart), s.turn(logPart)); err != nil {
					t.Fatal(err)
				}
			}
			s.settle()
			got := s.wrote()
			if n := strings.Count(got, "file 10"); n > 1 || strings.Count(got, "file 20") != 1 || strings.Index(got, "has 20") < strings.Index(got, "name 20") {
				t.Error(got)
			}
			if st := s.r.Status(); st.Applied != 20 || st.Last != 20 || !s.has("/20") {
				t.Errorf("%+v", st)
			}
			s.hears(appendOf(1, 2, 20, 2, 21, written(21, 2, "/more")))
			if !s.has("/more") {
				t.Error("it does not go on behind them")
			}
		})
	}
}

// H24 (NATS 2.12.1): one node lost what it knew of the data, and the cluster deleted the data. Here
// a leader whose state is empty changes nothing that the others have: they judge its proposals by
// their own state, and its digest differs from theirs.
func TestALeaderThatLostItsStateDeletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := tree.New()
		state.Apply(1, create("/data"))
		container := create("/container")
		container.Mode = znode.Container
		state.Apply(1, container)
		state.Apply(1, create("/container/child"))
		seen := state.Counters().Zxid
		c, machines := trio(t)
		for i, m := range machines {
			m.snaps.saved[0].f = state.Freeze()
			if i == 0 {
				m.snaps.saved[0].f = tree.New().Freeze()
			}
		}
		c.gather(machines)
		bad := c.at(1)
		for st := bad.Status(); st.Role != "leader"; st = bad.Status() {
			c.at(st.Leader).Transfer(1)
			time.Sleep(time.Second)
		}
		// What it takes for an empty container, and a session that it does not know.
		for _, x := range []*tree.Txn{
			{Op: tree.Op{Kind: tree.KindReap, Path: "/container"}, Target: int64(seen)},
			{Op: tree.Op{Kind: tree.KindClose}, Target: 1, Session: 1},
		} {
			got := make(chan znode.Code, 1)
			bad.Decide(x, func(r tree.Result, _ *tree.Tree, _ *watchTable) { got <- r.Code })
			if code := <-got; code == znode.OK {
				t.Errorf("%+v: done", x)
			}
		}
		bad.do(create("/after"))
		synctest.Wait()
		for id := uint64(2); id <= 3; id++ {
			n := c.at(id)
			if !n.has("/data") || !n.has("/container/child") || !n.has("/after") {
				t.Errorf("node %d has lost data", id)
			}
			if _, _, differs := replica.Differs(bad.Digests(), n.Digests()); !differs {
				t.Errorf("node %d does not see that the leader's state is another one", id)
			}
		}
		if _, _, differs := replica.Differs(c.at(2).Digests(), c.at(3).Digests()); differs {
			t.Error("two good nodes differ")
		}
		c.stop()
	})
}
