package replica_test

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"coord/server/peer"
	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
)

// removal returns an entry that removes a member, and makes others learners with it.
func removal(t testing.TB, index, term, node uint64, learners ...uint64) *raftpb.Entry {
	t.Helper()
	x := &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: &node}}}
	for _, id := range learners {
		x.Changes = append(x.Changes, &raftpb.ConfChangeSingle{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: &id})
	}
	cc, err := proto.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryConfChangeV2.Enum(), Data: cc}
}

// turns makes parts do what waits for them, in this order.
func (s *stage) turns(parts ...int) {
	s.Helper()
	for _, part := range parts {
		if err := s.turn(part); err != nil {
			s.Fatal(err)
		}
	}
}

// TestAChangeIsInForceWhenTheDiskKnows: a change of members that others can hear of is not undone by a crash.
// Entries after it wait too, and are not left out.
func TestAChangeIsInForceWhenTheDiskKnows(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin()
	s.hears(appendOf(1, 2, 1, 1, 1, removal(t, 2, 2, 2), written(3, 2, "/a")))
	s.r.StepRaft(1, []*raftpb.Message{appendOf(1, 2, 3, 2, 3)})
	s.turns(loopPart, applierPart, loopPart)
	if m := s.r.Status().Members; len(m.Removed) > 0 || s.has("/a") {
		t.Fatalf("%+v, /a is there: %t, and the disk does not know that they are committed", m, s.has("/a"))
	}
	s.settle()
	if m := s.r.Status().Members; !slices.Equal(m.Removed, []uint64{2}) || !s.has("/a") {
		t.Fatalf("%+v, /a is there: %t", m, s.has("/a"))
	}
	s.crash(0)
	s.begin()
	if m := s.r.Status().Members; !slices.Equal(m.Removed, []uint64{2}) {
		t.Fatalf("behind a crash %+v", m)
	}
}

// TestAChangeIsLeftToASnapshot: a change waits for the disk, and a snapshot that holds it arrives meanwhile:
// then the snapshot brings it.
func TestAChangeIsLeftToASnapshot(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin()
	s.hears(appendOf(1, 2, 1, 1, 1, removal(t, 2, 2, 2), written(3, 2, "/a")))
	s.received[10] = tree.New()
	s.r.StepRaft(1, []*raftpb.Message{appendOf(1, 2, 3, 2, 3)})
	s.turns(loopPart)
	s.r.StepRaft(1, []*raftpb.Message{snapOf(1, 2, 10)})
	s.turns(loopPart, logPart, loopPart, applierPart)
	s.settle()
	s.hears(appendOf(1, 2, 10, 2, 11, written(11, 2, "/b")))
	if st := s.r.Status(); st.Applied != 11 || !s.has("/b") || s.has("/a") || st.Members.Index != 10 {
		t.Fatalf("%+v", st)
	}
}

// TestALeaderIsRemovedBeforeItsDiskHasAnswered: a change that removes a node, in two steps, is in its log when it is
// elected, and the second step is applied while an entry of its own is on its way to the disk.
func TestALeaderIsRemovedBeforeItsDiskHasAnswered(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin()
	s.hears(appendOf(1, 2, 1, 1, 1, removal(t, 2, 2, self, 9)))
	s.elect()
	s.have(s.r.Status().Last, 1, 2)
	if st := s.r.Status(); st.Role != "leader" || !st.Ready || !slices.Contains(st.Members.Outgoing, self) {
		t.Fatalf("%+v", st)
	}
	for _, from := range []uint64{1, 2} {
		has := message(raftpb.MsgAppResp, from, s.r.Status().Term)
		has.Index = new(s.r.Status().Last)
		s.r.StepRaft(from, []*raftpb.Message{has})
	}
	s.turns(loopPart, logPart)
	var code []znode.Code
	s.r.Submit(create("/a"), func(r tree.Result, _ *tree.Tree, _ *watchTable) { code = append(code, r.Code) })
	s.turns(loopPart, applierPart, loopPart)
	if st := s.r.Status(); st.Role == "leader" || !slices.Equal(st.Members.Voters, []uint64{1, 2}) {
		t.Fatalf("%+v", st)
	}
	before := s.entries()
	s.settle()
	if s.entries() == before || len(code) > 0 && code[0] == znode.OK {
		t.Fatalf("before %s, then %s; answered %v", before, s.entries(), code)
	}
}

// TestAChangeIsAnsweredWhenAQuorumKnows: the caller that asked for the change may destroy the
// removed node.
func TestAChangeIsAnsweredWhenAQuorumKnows(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin()
	s.elect()
	s.have(s.r.Status().Last, 1)
	var code []znode.Code
	s.r.Change([]replica.Change{{Node: 2, To: replica.Gone, Force: true}}, func(r tree.Result, _ *tree.Tree, _ *watchTable) { code = append(code, r.Code) })
	s.settle()
	at := s.r.Status().Last
	s.have(at, 1)
	if m := s.r.Status().Members; m.Index != at || len(m.Voters) != 2 || len(code) > 0 {
		t.Fatalf("the change is entry %d, %+v, answered %v", at, m, code)
	}
	if m := s.last(raftpb.MsgApp, 1); s.r.Status().Last != at+1 || len(m.GetEntries()) == 0 || m.GetCommit() < at {
		t.Fatalf("behind entry %d the other voter is sent %v", at, m)
	}
	s.have(at+1, 1)
	if !slices.Equal(code, []znode.Code{znode.OK}) {
		t.Fatalf("answered %v", code)
	}
}

// TestTheLastOtherMemberGoes: the remaining node is alone then, and its loop sleeps when idle; it still answers
// the change.
func TestTheLastOtherMemberGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := leads(t, nil)
		for _, to := range []replica.Role{replica.Learner, replica.Gone} {
			got := make(chan znode.Code, 1)
			n.Change([]replica.Change{{Node: 9, To: to}}, func(r tree.Result, _ *tree.Tree, _ *watchTable) { got <- r.Code })
			select {
			case code := <-got:
				if code != znode.OK {
					t.Errorf("role %d: %v", to, code)
				}
			case <-time.After(time.Minute):
				t.Errorf("role %d: no answer", to)
			}
		}
		n.stop()
	})
}

// TestWhoStoodStillKnowsNobody: a leader that was suspended judges no change of members by messages
// from before, nor by those that were sent meanwhile and that it reads only then.
func TestWhoStoodStillKnowsNobody(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin()
	s.r.PeerUp(1)
	s.elect()
	has := func() { s.have(s.r.Status().Last, 1) }
	has()
	replica.Pass(s.r, 100)
	var code []znode.Code
	ask := func() {
		s.r.Change([]replica.Change{{Node: 2, To: replica.Gone}}, func(r tree.Result, _ *tree.Tree, _ *watchTable) { code = append(code, r.Code) })
		s.settle()
	}
	ask()
	has() // sent long ago
	ask()
	if want := []znode.Code{znode.ErrNewConfigNoQuorum, znode.ErrNewConfigNoQuorum}; !slices.Equal(code, want) {
		t.Fatalf("answered %v, want %v", code, want)
	}
	for range 2 {
		replica.Tick(s.r)
		has()
	}
	ask()
	has()
	if m := s.r.Status().Members; !slices.Equal(m.Removed, []uint64{2}) {
		t.Fatalf("%+v, answered %v", m, code)
	}
}

// MaxRemoved is such that what raft sends of a snapshot, with all remembered removed members and a hundred
// members, fits into a peer's descriptor.
func TestTheRemovedThatAreRemembered(t *testing.T) {
	t.Parallel()
	const most = math.MaxUint64
	p := replica.Point{Index: most, Term: most}
	for id := uint64(most - 100); id < most; id++ {
		p.Voters = append(p.Voters, id)
		p.Floors = append(p.Floors, tree.Floor{Node: id, Index: most})
	}
	const removed = replica.MaxRemoved + 3
	for id := uint64(1); id < replica.MaxRemoved; id++ {
		p.Removed = append(p.Removed, id)
	}
	for id := uint64(replica.MaxRemoved); id <= removed; id++ {
		p.Others = []uint64{id}
		cc := &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: &id}}}
		next, err := replica.Changed(p, cc)
		if err != nil {
			t.Fatal(err)
		}
		p.Removed = next.Removed
	}
	if n := len(p.Removed); n != replica.MaxRemoved || p.Removed[0] != removed-replica.MaxRemoved+1 || p.Removed[n-1] != removed {
		t.Errorf("%d are remembered, from %d to %d", n, p.Removed[0], p.Removed[n-1])
	}
	m := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), Snapshot: replica.Descriptor(p), To: proto.Uint64(most), From: proto.Uint64(most), Term: proto.Uint64(most)}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if id := 16; id+len(b) > peer.MaxDescriptorBytes { // the file's id and the descriptor
		t.Errorf("a descriptor of %d bytes, of at most %d", id+len(b), peer.MaxDescriptorBytes)
	}
}
