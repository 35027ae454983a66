package replica_test

import (
	"fmt"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"coord/server/replica"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// received returns a tree, and records when.
type received struct {
	steps *[]string
	tree  *tree.Tree
}

func (r received) Install(at replica.Point) (*tree.Tree, error) {
	*r.steps = append(*r.steps, fmt.Sprintf("file %d", at.Index))
	return r.tree, nil
}

func (r received) Installed(at replica.Point) error {
	*r.steps = append(*r.steps, fmt.Sprintf("name %d", at.Index))
	return nil
}

func (r received) Unwanted(index uint64) {
	*r.steps = append(*r.steps, fmt.Sprintf("unwanted %d", index))
}

// told is a log and a Peers that record their calls.
type told struct {
	*memLog
	*post
	steps *[]string
}

func (l told) Reset(p wal.Position, h wal.HardState) error {
	*l.steps = append(*l.steps, fmt.Sprintf("log %d", p.Index))
	return l.memLog.Reset(p, h)
}

func (l told) Raft(msgs []*raftpb.Message) {
	for _, m := range msgs {
		if m.GetType() == raftpb.MsgAppResp {
			*l.steps = append(*l.steps, fmt.Sprintf("answer %d", m.GetIndex()))
		}
	}
}

// byHand returns follower 7 of leader 1, whose turns the test takes.
func byHand(t *testing.T, tr *tree.Tree) (r *replica.Replica, turn func(part int), steps *[]string) {
	steps = new([]string)
	m := newMachine(t)
	cfg := m.config
	cfg.Tree, cfg.Start = tree.New(), replica.Point{Index: 1, Term: 1, Voters: []uint64{1, 2, self}}
	log := told{m.log, &post{}, steps}
	cfg.Log, cfg.HardState, cfg.Snapshots, cfg.Peers, cfg.Received = log, m.log.seen.recovered(), m.snaps, log, received{steps, tr}
	cfg.Replaced = func(*tree.Tree, *watch.Table) { *steps = append(*steps, "state") }
	r, err := replica.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	turns := replica.Turns(r)
	return r, func(part int) {
		t.Helper()
		if _, err := turns[part](); err != nil {
			t.Fatal(err)
		}
	}, steps
}

// fromLeader returns a message of leader 1 in term 2.
func fromLeader(typ raftpb.MessageType, index, term, commit uint64, entries ...*raftpb.Entry) []*raftpb.Message {
	return []*raftpb.Message{{Type: typ.Enum(), From: new(uint64(1)), To: new(uint64(self)), Term: new(uint64(2)),
		Index: &index, LogTerm: &term, Commit: &commit, Entries: entries}}
}

func snapshotOf(index uint64, voters ...uint64) []*raftpb.Message {
	m := fromLeader(raftpb.MsgSnap, 0, 0, 0)
	m[0].Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: new(uint64(2)),
		ConfState: &raftpb.ConfState{Voters: voters, AutoLeave: new(false)}}}
	return m
}

// A snapshot of another node is this node's durable file before its log begins after the snapshot,
// and nothing is acknowledged before that (H6). A second snapshot is installed after the first
// (H21); one that is too old never is.
func TestASnapshotIsDurableBeforeItIsAcknowledged(t *testing.T) {
	tr := tree.New()
	tr.Apply(2, create("/from/afar"))
	tr.Apply(2, create("/afar"))
	r, turn, steps := byHand(t, tr)
	for range 2 {
		r.StepRaft(1, snapshotOf(10, 1, 2, self))
	}
	turn(loopPart)
	if len(*steps) > 0 {
		t.Fatalf("before anything is written: %v", *steps)
	}
	turn(logPart)
	turn(loopPart)
	turn(applierPart)
	r.StepRaft(1, snapshotOf(5, 1, 2, self))
	r.StepRaft(1, snapshotOf(20, 1, 2, self))
	for _, part := range []int{loopPart, logPart, loopPart, applierPart, loopPart} {
		turn(part)
	}
	want := "[file 10 log 10 name 10 answer 10 state unwanted 5 file 20 log 20 name 20 answer 20 state]"
	if fmt.Sprint(*steps) != want {
		t.Errorf("%v, want %s", *steps, want)
	}
	r.View(func(t2 *tree.Tree, _ *watchTable) {
		if _, code := t2.Get("/afar", nil, 0); code != znode.OK {
			t.Error("the state is not the snapshot's")
		}
	})
	if st := r.Status(); st.Applied != 20 || st.Last != 20 || st.Committed != 20 {
		t.Errorf("%+v", st)
	}
}

// Raft hands out a change of members, a snapshot arrives meanwhile, and then the applier reports
// the change: the members are the snapshot's (etcd 11510).
func TestALateChangeOfMembersIsPassedOver(t *testing.T) {
	r, turn, _ := byHand(t, tree.New())
	cc, err := proto.Marshal(&raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{
		{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(4))}}})
	if err != nil {
		t.Fatal(err)
	}
	change := &raftpb.Entry{Index: new(uint64(2)), Term: new(uint64(2)), Type: raftpb.EntryConfChangeV2.Enum(), Data: cc}
	r.StepRaft(1, fromLeader(raftpb.MsgApp, 1, 1, 2, change))
	for _, part := range []int{loopPart, logPart, loopPart} { // it is handed out
		turn(part)
	}
	r.StepRaft(1, snapshotOf(10, 1, 2, self)) // node 4 has left again
	turn(loopPart)
	turn(applierPart) // the change
	turn(loopPart)
	if st := r.Status(); len(st.Members.Voters) != 3 {
		t.Errorf("behind the late change: %+v", st)
	}
	for _, part := range []int{logPart, loopPart, applierPart, loopPart} {
		turn(part)
	}
	r.StepRaft(1, fromLeader(raftpb.MsgApp, 10, 2, 11, newEntry(11, 2, nil)))
	for _, part := range []int{loopPart, logPart, loopPart, applierPart, loopPart} {
		turn(part)
	}
	if st := r.Status(); len(st.Members.Voters) != 3 || st.Applied != 11 {
		t.Errorf("at the end: %+v", st)
	}
}

// A node that has no vote does not follow a silent leader for ever: what it has forwarded is
// answered.
func TestALearnerForgetsASilentLeader(t *testing.T) {
	r, turn, _ := byHand(t, tree.New())
	all := func() {
		for range 3 {
			for part := range 4 {
				turn(part)
			}
		}
	}
	r.PeerUp(1)
	r.StepRaft(1, snapshotOf(10, 1, 2))
	s := snapshotOf(10, 1, 2)
	s[0].Snapshot.Metadata.ConfState.Learners = []uint64{self}
	r.StepRaft(1, s)
	all()
	var code znode.Code
	r.Submit(create("/a"), func(x tree.Result, _ *tree.Tree, _ *watchTable) { code = x.Code })
	all()
	if st := r.Status(); st.Role != "learner" || st.Leader != 1 || code != znode.OK {
		t.Fatalf("%+v, %v", st, code)
	}
	for range 25 {
		replica.Tick(r)
		all()
	}
	if st := r.Status(); st.Leader != raft.None || code != znode.ErrUncertain {
		t.Errorf("%+v, %v", st, code)
	}
}

// A response that acknowledges nothing new waits for the next tick, or for a newer one. It does not
// wait on a new link, because the leader there may not know of it.
func TestARepeatedAnswerCanWait(t *testing.T) {
	r, turn, steps := byHand(t, tree.New())
	entry := func(index uint64) *raftpb.Entry {
		return &raftpb.Entry{Term: new(uint64(2)), Index: &index, Type: raftpb.EntryNormal.Enum()}
	}
	settle := func() {
		for range 3 {
			for _, part := range []int{loopPart, logPart, applierPart} {
				turn(part)
			}
		}
	}
	said := func(when, want string) {
		t.Helper()
		settle()
		if got := fmt.Sprint(*steps); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
		*steps = nil
	}
	said("at first", "[]")
	r.StepRaft(1, fromLeader(raftpb.MsgApp, 1, 1, 1, entry(2)))
	said("an entry", "[answer 2]")
	r.StepRaft(1, fromLeader(raftpb.MsgApp, 2, 2, 2))
	said("its commit", "[]")
	replica.Tick(r)
	said("a tick", "[answer 2]")
	replica.Tick(r)
	said("another", "[]")
	r.StepRaft(1, fromLeader(raftpb.MsgApp, 2, 2, 2))
	r.StepRaft(1, fromLeader(raftpb.MsgApp, 2, 2, 2, entry(3)))
	said("the next entry behind a commit", "[answer 3]")
	replica.Tick(r)
	said("then a tick", "[]")
	r.PeerDown(1, false)
	r.PeerUp(1)
	r.StepRaft(1, fromLeader(raftpb.MsgApp, 3, 2, 3))
	said("on a new link", "[answer 3]")
}
