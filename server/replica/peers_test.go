package replica_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
)

// post is a Peers that keeps what it was given.
type post struct {
	sync.Mutex
	refusals  []refusal
	raft      []*raftpb.Message
	snapshots []*raftpb.Message
}

// refusal is the refusal of a stream.
type refusal struct {
	to, stream, first uint64
	code              znode.Code
}

func (p *post) Raft(msgs []*raftpb.Message) {
	p.Lock()
	defer p.Unlock()
	p.raft = append(p.raft, msgs...)
}

func (p *post) Forward(to uint64, kind byte, b []byte) {
	p.Lock()
	defer p.Unlock()
	if kind == 2 {
		p.refusals = append(p.refusals, refusal{to, binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]),
			znode.Code(int32(binary.LittleEndian.Uint32(b[16:])))})
	}
}

func (p *post) Snapshot(m *raftpb.Message) {
	p.Lock()
	defer p.Unlock()
	p.snapshots = append(p.snapshots, m)
}

func (p *post) take() []refusal {
	p.Lock()
	defer p.Unlock()
	all := p.refusals
	p.refusals = nil
	return all
}

// part returns a message of a stream from node 9.
func part(term, stream, first uint64, txns ...*tree.Txn) []byte {
	var e tree.Encoder
	for i, x := range txns {
		if x.Origin == 0 {
			x.Origin = 9
		}
		x.Seq = first + uint64(i)
		e.Add(x)
	}
	var b []byte
	for _, n := range []uint64{term, stream, first, uint64(len(txns))} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return e.AppendBatch(b, 0)
}

const txnsKind = 1

// leads runs the sole voter of a cluster that other nodes may talk to.
func leads(t *testing.T, config func(*replica.Config)) (*node, *post) {
	m, p := newMachine(t), &post{}
	m.config.Peers = p
	if config != nil {
		config(&m.config)
	}
	return m.ready(), p
}

// forwarded delivers a part of a stream from node 9, and returns what is refused of it.
func (n *node) forwarded(p *post, b []byte) []refusal {
	n.StepForward(9, txnsKind, b)
	synctest.Wait()
	return p.take()
}

func TestAStreamHasOneTermAndNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leads(t, nil)
		term := n.Status().Term
		send := func(b []byte) []refusal { return n.forwarded(p, b) }
		want := func(what string, got []refusal, want ...refusal) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("%s: refused %v, want %v", what, got, want)
			}
		}
		want("a stream begins", send(part(term, 100, 100, create("/a"), create("/b"))))
		want("it goes on", send(part(term, 100, 102, create("/c"))))
		want("another term", send(part(term-1, 100, 103, create("/old"))), refusal{9, 100, 103, znode.ErrNoLeader})
		want("the rest of a refused stream", send(part(term, 100, 103, create("/rest"))))
		want("a new one", send(part(term, 200, 200, create("/d"))))
		want("a gap", send(part(term, 200, 202, create("/gap"))), refusal{9, 200, 202, znode.ErrNoLeader})
		want("behind the gap", send(part(term, 200, 201, create("/behind"))))
		want("not from the beginning", send(part(term, 300, 301, create("/middle"))), refusal{9, 300, 301, znode.ErrNoLeader})
		other := create("/other")
		other.Origin = 8
		want("in the name of another", send(part(term, 400, 400, create("/e"), other, create("/after"))), refusal{9, 400, 401, znode.ErrInternal})
		want("no batch", send(append(part(term, 500, 500), 0xff)), refusal{9, 500, 500, znode.ErrInternal})
		want("no header", send([]byte{1, 2, 3}))
		n.PeerDown(9, false)
		n.PeerUp(9)
		synctest.Wait()
		want("what may be lost with the old link", p.take(), refusal{9, 500, 500, znode.ErrInternal})
		want("over a new link", send(part(term, 600, 600, create("/f"))))
		for path, there := range map[string]bool{"/a": true, "/b": true, "/c": true, "/d": true, "/e": true, "/f": true,
			"/old": false, "/rest": false, "/gap": false, "/behind": false, "/middle": false, "/other": false, "/after": false} {
			if n.has(path) != there {
				t.Errorf("%s is there: %t", path, !there)
			}
		}
		n.stop()
	})
}

// The link on which the origin of a stream sends is not the one on which the leader answers: that
// one may break alone, and lose the message that the stream is refused. If the leader forgot the
// refusal then, a write would never be answered, and the next write of its connection would be
// done.
func TestAStreamOutlivesTheLeadersOwnLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leads(t, nil)
		term := n.Status().Term
		send := func(b []byte) []refusal { return n.forwarded(p, b) }
		relink := func() []refusal {
			n.PeerDown(9, false)
			n.PeerUp(9)
			synctest.Wait()
			return p.take()
		}
		if got := slices.Concat(send(part(term, 100, 100, create("/a"))), relink(), send(part(term, 100, 101, create("/b")))); len(got) > 0 {
			t.Errorf("a stream without a gap: refused %v", got)
		}
		want := []refusal{{9, 100, 103, znode.ErrNoLeader}}
		if got := send(part(term, 100, 103, create("/gap"))); !slices.Equal(got, want) {
			t.Errorf("a gap: refused %v, want %v", got, want)
		}
		if got := relink(); !slices.Equal(got, want) {
			t.Errorf("over the next link: said %v, want %v", got, want)
		}
		if got := send(part(term, 100, 102, create("/behind"))); len(got) > 0 {
			t.Errorf("what it was told already: refused %v", got)
		}
		for path, there := range map[string]bool{"/a": true, "/b": true, "/gap": false, "/behind": false} {
			if n.has(path) != there {
				t.Errorf("%s is there: %t", path, !there)
			}
		}
		n.stop()
	})
}

func TestWhatOthersForwardHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leads(t, nil)
		n.log.hold()
		n.submit(create("/a"))
		synctest.Wait()
		large := part(n.Status().Term, 100, 100, createData("/b", strings.Repeat("x", 3<<20)))
		sent := 0
		for ; len(p.take()) == 0 && sent < 100; sent++ {
			binary.LittleEndian.PutUint64(large[16:], uint64(100+sent))
			n.StepForward(9, txnsKind, slices.Clone(large))
			synctest.Wait()
		}
		if sent != 22 {
			t.Errorf("the part number %d of 3 MiB is refused", sent)
		}
		n.log.open()
		n.stop()
	})
}

func TestAFullLeaderRefusesStreamsThatGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		n, p := leads(t, func(c *replica.Config) { c.Full = full.Load })
		n.must(create("/a"))
		synctest.Wait() // the log writer checks the disk after each write
		full.Store(true)
		n.must(create("/b"))
		synctest.Wait()
		term := n.Status().Term
		n.StepForward(9, txnsKind, part(term, 1, 1, remove("/a"), create("/c"), remove("/b")))
		synctest.Wait()
		if got := p.take(); !slices.Equal(got, []refusal{{9, 1, 2, znode.ErrNoSpace}}) || n.has("/a") || n.has("/c") || !n.has("/b") {
			t.Errorf("refused %v", got)
		}
		n.stop()
	})
}

func TestChangesOfMembersAreJudgedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leads(t, nil)
		change := func(changes ...replica.Change) znode.Code {
			got := make(chan znode.Code, 1)
			n.Change(changes, func(r tree.Result, _ *tree.Tree, _ *watchTable) { got <- r.Code })
			return <-got
		}
		for name, changes := range map[string][]replica.Change{
			"none":                   nil,
			"no node":                {{Node: 0, To: replica.Learner}},
			"no role":                {{Node: 9}},
			"the leader":             {{Node: self, To: replica.Gone}},
			"the leader's vote":      {{Node: self, To: replica.Learner}},
			"a stranger's vote":      {{Node: 9, To: replica.Voter}},
			"a stranger leaves":      {{Node: 9, To: replica.Gone}},
			"a learner and the last": {{Node: 9, To: replica.Learner}, {Node: self, To: replica.Gone}},
		} {
			if code := change(changes...); code != znode.ErrBadArguments {
				t.Errorf("%s: %v", name, code)
			}
		}
		if code := change(replica.Change{Node: 9, To: replica.Learner}, replica.Change{Node: 10, To: replica.Learner}); code != znode.OK {
			t.Fatal(code)
		}
		if m := n.Status().Members; len(m.Voters) != 1 || len(m.Others) != 2 {
			t.Errorf("%+v", m)
		}
		if code := change(replica.Change{Node: 9, To: replica.Voter}); code != znode.ErrThrottledOp {
			t.Errorf("a vote for a learner that nobody has heard of: %v", code)
		}
		if code := change(replica.Change{Node: 9, To: replica.Gone}); code != znode.OK {
			t.Fatal(code)
		}
		if code := change(replica.Change{Node: 9, To: replica.Learner}); code != znode.ErrBadArguments {
			t.Errorf("a removed id comes back: %v", code)
		}
		if _, at := n.freeze(); fmt.Sprint(at.Voters, at.Others, at.Removed) != "[7] [10] [9]" {
			t.Errorf("%+v", at)
		}
		// A removed node is ignored.
		term := n.Status().Term
		vote := &raftpb.Message{Type: raftpb.MsgVote.Enum(), From: new(uint64(9)), To: new(uint64(self)), Term: new(term + 5), LogTerm: new(term + 5), Index: new(uint64(1000)),
			Context: []byte("CampaignTransfer")}
		n.StepRaft(9, []*raftpb.Message{vote})
		synctest.Wait()
		if st := n.Status(); st.Term != term || st.Role != "leader" {
			t.Errorf("%+v after a message of a removed member", st)
		}
		p.take()
		n.stop()
	})
}

// Raft on a member that was added after the newest snapshot would ignore that snapshot, so another
// one is made for it.
func TestAJoinerIsSentASnapshotThatKnowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := leads(t, nil)
		n.must(create("/a"))
		last := n.join(9)
		for range 3 {
			n.lacksAll(9, last-1) // raft begins at its last entry
			time.Sleep(time.Second)
		}
		synctest.Wait()
		p.Lock()
		defer p.Unlock()
		if len(p.snapshots) != 1 || replica.PointOf(p.snapshots[0].GetSnapshot()).Index < last {
			t.Errorf("sent %v, the member is in entry %d", p.snapshots, last)
		}
		n.stop()
	})
}

// An older snapshot that is under way and takes its time is not waited for; and one new snapshot is
// enough.
func TestAJoinerWaitsForNoOlderSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, p := newMachine(t), &post{}
		m.config.Peers = p
		m.config.SnapshotTxns = 2
		m.snaps.gate = make(chan struct{})
		n := m.ready()
		n.must(create("/a"))
		n.must(create("/b"))
		if got := n.tries(m); got != 1 {
			t.Fatalf("%d snapshots begun", got)
		}
		last := n.join(9)
		for range 3 {
			n.lacksAll(9, last-1)
			time.Sleep(time.Second)
		}
		if got := n.tries(m); got != 2 {
			t.Fatalf("%d snapshots begun for a member that joins while one is being made", got)
		}
		if at := m.snaps.tries[1]; at.Index < last {
			t.Fatalf("the second one is of entry %d, the member in entry %d", at.Index, last)
		}
		m.snaps.gate <- struct{}{}
		time.Sleep(time.Second)
		n.lacksAll(9, last-1)
		if got := n.tries(m); got != 2 {
			t.Errorf("%d snapshots begun", got)
		}
		p.Lock()
		defer p.Unlock()
		if len(p.snapshots) != 1 {
			t.Errorf("sent %v", p.snapshots)
		}
		n.stop()
	})
}

// join makes a node a member and returns the index of the entry that did.
func (n *node) join(id uint64) (last uint64) {
	n.t.Helper()
	joined := make(chan znode.Code, 1)
	n.Change([]replica.Change{{Node: id, To: replica.Learner}}, func(r tree.Result, _ *tree.Tree, _ *watchTable) { joined <- r.Code })
	if code := <-joined; code != znode.OK {
		n.t.Fatal(code)
	}
	return n.Status().Members.Index
}

// lacksAll is the answer of a node that has nothing to a leader that asks for the entries after
// one.
func (n *node) lacksAll(id, probed uint64) {
	term := n.Status().Term
	n.StepRaft(id, []*raftpb.Message{{Type: raftpb.MsgAppResp.Enum(), From: &id, To: new(uint64(self)), Term: &term, Index: &probed, Reject: new(true), RejectHint: new(uint64(0))}})
	n.StepRaft(id, []*raftpb.Message{{Type: raftpb.MsgHeartbeatResp.Enum(), From: &id, To: new(uint64(self)), Term: &term}})
}

// crowd carries messages between replicas of one process, at once.
type crowd struct {
	sync.Mutex
	nodes map[uint64]*node
}

type member struct {
	*crowd
	id uint64
}

func (c *crowd) at(id uint64) *node {
	c.Lock()
	defer c.Unlock()
	return c.nodes[id]
}

func (m member) Raft(msgs []*raftpb.Message) {
	for _, x := range msgs {
		if n := m.at(x.GetTo()); n != nil {
			n.StepRaft(m.id, []*raftpb.Message{x})
		}
	}
}

func (m member) Forward(to uint64, kind byte, b []byte) {
	if n := m.at(to); n != nil {
		n.StepForward(m.id, kind, b)
	}
}

func (m member) Snapshot(*raftpb.Message) {}

// trio returns three machines whose replicas are to be one cluster.
func trio(t testing.TB, config ...func(*replica.Config)) (c *crowd, machines []*machine) {
	c = &crowd{nodes: map[uint64]*node{}}
	for id := range uint64(3) {
		m := newMachine(t)
		m.snaps.saved[0].at.Voters = []uint64{1, 2, 3}
		m.config.NodeID, m.config.Peers, m.config.SyncTicks = id+1, member{c, id + 1}, 60
		for _, change := range config {
			change(&m.config)
		}
		machines = append(machines, m)
	}
	return c, machines
}

// join starts three replicas with goroutines and clocks of their own, and waits until they let
// clients in.
func join(t testing.TB, config ...func(*replica.Config)) *crowd {
	c, machines := trio(t, config...)
	c.gather(machines)
	return c
}

func (c *crowd) gather(machines []*machine) {
	for _, m := range machines {
		n := m.start()
		c.Lock()
		c.nodes[m.config.NodeID] = n
		c.Unlock()
	}
	for a, n := range c.nodes {
		for b := range c.nodes {
			if a != b {
				n.PeerUp(b)
			}
		}
	}
	for _, n := range c.nodes {
		<-n.Ready()
	}
}

func (c *crowd) leave(id uint64, certain bool) {
	n := c.at(id)
	c.Lock()
	delete(c.nodes, id)
	rest := c.nodes
	c.Unlock()
	n.stop()
	for _, o := range rest {
		o.PeerDown(id, certain)
	}
}

// Followers take writes, answer them from the log, and elect a leader when theirs is gone: at once
// if that is certain.
func TestThreeNodes(t *testing.T) {
	for _, certain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := join(t)
			var all sync.WaitGroup
			for id, n := range c.nodes {
				n.must(create(fmt.Sprintf("/%d", id)))
				for range 4 {
					all.Go(func() {
						for i := range 50 {
							n.must(set(fmt.Sprintf("/%d", id), fmt.Sprint(i)))
						}
					})
				}
				if id := n.newSession(); id == 0 {
					t.Error("a session without an id")
				}
			}
			all.Wait()
			lead := c.at(1).Status().Leader
			c.leave(lead, certain)
			began := time.Now()
			for id, n := range c.nodes {
				if code := n.barrier(); code != znode.OK {
					t.Errorf("a barrier without the leader: %v", code)
				}
				n.must(set(fmt.Sprintf("/%d", id), "after"))
				if !n.has(fmt.Sprintf("/%d", lead)) {
					t.Error("what the old leader has answered is lost")
				}
			}
			took := time.Since(began)
			t.Logf("certain: %t, a new leader and all served after %v", certain, took)
			if limit := map[bool]time.Duration{true: 700 * time.Millisecond, false: 3 * time.Second}[certain]; took > limit {
				t.Errorf("certain: %t: took %v", certain, took)
			}
			c.stop()
		})
	}
}

// TestALostLinkIsNoticedBetweenTwoElections: the link to the leader is lost while this node campaigns, and in the same
// turn of the loop it hears from the same leader again. What it has sent is lost all the same.
func TestALostLinkIsNoticedBetweenTwoElections(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin()
	s.r.PeerUp(1)
	s.hears(appendOf(1, 2, 1, 1, 2, newEntry(2, 2, nil)))
	var code []znode.Code
	s.r.Submit(create("/a"), func(r tree.Result, _ *tree.Tree, _ *watchTable) { code = append(code, r.Code) })
	s.settle()
	if len(code) > 0 {
		t.Fatalf("answered %v, and nobody has said what has become of it", code)
	}
	replica.Campaign(s.r)
	s.r.PeerDown(1, false)
	s.r.StepRaft(1, []*raftpb.Message{message(raftpb.MsgHeartbeat, 1, 2)})
	s.r.PeerUp(1)
	s.settle()
	if st := s.r.Status(); st.Leader != 1 || st.Term != 2 {
		t.Fatalf("%+v", st)
	}
	if !slices.Equal(code, []znode.Code{znode.ErrUncertain}) {
		t.Fatalf("answered %v", code)
	}
}

// A txn that only the leader decides is refused on other nodes, and not forwarded.
func TestTheLeaderAloneDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		lead := c.at(1).Status().Leader
		for id, n := range c.nodes {
			got := make(chan znode.Code, 1)
			n.Decide(create(fmt.Sprintf("/decided%d", id)), func(r tree.Result, _ *tree.Tree, _ *watchTable) { got <- r.Code })
			want := znode.ErrNoLeader
			if id == lead {
				want = znode.OK
			}
			if code := <-got; code != want {
				t.Errorf("node %d, of which %d leads: %v", id, lead, code)
			}
			n.must(create(fmt.Sprintf("/behind%d", id))) // nothing else is delayed by it
		}
		for id := range c.nodes {
			if there := c.at(lead).has(fmt.Sprintf("/decided%d", id)); there != (id == lead) {
				t.Errorf("what node %d decided is there: %t", id, there)
			}
		}
		c.stop()
	})
}

// TestADecisionEndsWithItsTerm: if a leader has decided something and not proposed it when another node led, it
// does not propose it when it leads again, because it judged by what it had heard before.
func TestADecisionEndsWithItsTerm(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin()
	term := s.leads()
	s.r.StepForward(1, txnsKind, part(term, 100, 100, createFrom(1, "/a")))
	s.turns(loopPart) // it is on its way to the disk: what arrives now waits
	var code []znode.Code
	s.r.Decide(create("/decided"), func(r tree.Result, _ *tree.Tree, _ *watchTable) { code = append(code, r.Code) })
	s.turns(loopPart)
	s.hears(message(raftpb.MsgHeartbeat, 2, term+1))
	if st := s.r.Status(); st.Leader != 2 || len(code) > 0 {
		t.Fatalf("%+v, answered %v", st, code)
	}
	replica.Campaign(s.r)
	s.settle()
	s.hears(message(raftpb.MsgPreVoteResp, 1, term+2))
	s.hears(message(raftpb.MsgVoteResp, 1, term+2))
	s.follow(1)
	s.follow(1)
	if st := s.r.Status(); st.Leader != self || st.Term != term+2 || !st.Ready {
		t.Fatalf("%+v", st)
	}
	if !slices.Equal(code, []znode.Code{znode.ErrNoLeader}) || s.has("/decided") {
		t.Fatalf("answered %v, done: %t", code, s.has("/decided"))
	}
}

func createFrom(origin uint64, path string) *tree.Txn {
	x := create(path)
	x.Origin = origin
	return x
}

// Without a quorum every submission is answered that there is no leader, and not before the limit.
func TestSubmissionsWaitForALeaderSoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := join(t)
		c.leave(1, true)
		c.leave(2, true)
		n := c.at(3)
		time.Sleep(5 * time.Second) // the leader notices that no node follows
		began := time.Now()
		if code := n.barrier(); code != znode.ErrNoLeader {
			t.Errorf("barrier: %v", code)
		}
		if r := n.do(create("/a")); r.Code != znode.ErrNoLeader {
			t.Errorf("write: %v", r.Code)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("refused after %v", took)
		}
		n.stop()
	})
}

// TestAnIdleLoopSleepsOverTicks: the loop sleeps only over ticks at which nothing is due, and does everything at the
// same tick as a loop that is woken at each.
func TestAnIdleLoopSleepsOverTicks(t *testing.T) {
	const beat, election = replica.DefaultHeartbeatTick, replica.DefaultElectionTick
	begun := func(t *testing.T) *stage {
		s := newStage(t)
		s.begin()
		return s
	}
	rests := func(s *stage, want int, when string) {
		s.Helper()
		if got := replica.Rest(s.r); got != want {
			s.Errorf("%s it sleeps over %d ticks, want %d", when, got, want)
		}
	}
	pass := func(s *stage, n int) {
		s.Helper()
		replica.Pass(s.r, n)
		s.settle()
	}
	follows := func(t *testing.T) *stage {
		s := begun(t)
		s.r.PeerUp(1)
		s.hears(appendOf(1, 2, 1, 1, 2, newEntry(2, 2, nil)))
		rests(s, 1, "while it waits to be let in")
		m := message(raftpb.MsgReadIndexResp, 1, 2)
		m.Index, m.Entries = new(uint64(2)), s.last(raftpb.MsgReadIndex, 1).GetEntries()
		s.hears(m)
		return s
	}
	t.Run("follower", func(t *testing.T) {
		s := follows(t)
		rests(s, election-1, "when the leader was heard")
		pass(s, 2)
		rests(s, election-3, "two ticks later")
		s.hears(message(raftpb.MsgHeartbeat, 1, 2))
		rests(s, election-1, "when the leader was heard again")
		pass(s, 1000) // the process was suspended
		rests(s, 1, "when the leader is silent")
		if got := s.r.Status(); got.Leader != 1 {
			t.Errorf("it has turned away from a leader whose messages it has not read: %+v", got)
		}
		s.hears(message(raftpb.MsgHeartbeat, 1, 2))
		s.said = nil
		ticks := 0
		for asks := false; !asks; asks = slices.ContainsFunc(s.said, func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgPreVote }) {
			n := replica.Rest(s.r)
			if ticks += n; ticks > 2*election {
				t.Fatalf("it does not stand after %d ticks of silence", ticks)
			}
			pass(s, n)
		}
		if ticks < election {
			t.Errorf("it stands after %d ticks", ticks)
		}
		rests(s, 1, "while it stands for election")
	})
	t.Run("link lost", func(t *testing.T) {
		s := follows(t)
		s.r.PeerDown(1, false)
		s.settle()
		rests(s, 1, "without a link to the leader")
	})
	t.Run("late word", func(t *testing.T) {
		s := follows(t)
		s.hears(appendOf(1, 2, 2, 2, 2)) // it has acknowledged all of this already
		rests(s, 1, "while an answer waits for the next tick")
		pass(s, 1)
		rests(s, election-2, "when that is said")
	})
	t.Run("leader", func(t *testing.T) {
		s := begun(t)
		s.leads()
		for range 3 {
			s.said = nil
			rests(s, beat, "behind a heartbeat")
			pass(s, 1)
			rests(s, beat-1, "a tick later")
			if len(s.said) > 0 {
				t.Errorf("it says %v", s.said)
			}
			pass(s, beat-1)
			s.hears(s.beats(1))
		}
		s.r.Barrier(func(tree.Result, *tree.Tree, *watchTable) {})
		s.settle()
		rests(s, 1, "while it asks who follows it")
	})
}
