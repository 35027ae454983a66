package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"coord/server/replica"
	"coord/tree"
)

// leading makes the stage's node the leader of five voters, 1 to 4 and itself, and of learners.
func leading(t *testing.T, learners ...uint64) *stage {
	s := newStage(t)
	s.snaps.saved[0].at.Voters, s.snaps.saved[0].at.Others = []uint64{1, 2, 3, 4, self}, learners
	s.begin()
	s.elect()
	return s
}

// elect makes 1 and 2 vote for the node.
func (s *stage) elect() {
	s.Helper()
	term := s.r.Status().Term + 1
	replica.Campaign(s.r)
	s.settle()
	for _, typ := range []raftpb.MessageType{raftpb.MsgPreVoteResp, raftpb.MsgVoteResp} {
		for from := range uint64(2) {
			s.hears(message(typ, from+1, term))
		}
	}
	if st := s.r.Status(); st.Role != "leader" || st.Term != term {
		s.Fatalf("%+v", st)
	}
}

// have makes members acknowledge the log up to an index.
func (s *stage) have(index uint64, members ...uint64) {
	s.Helper()
	for _, id := range members {
		m := message(raftpb.MsgAppResp, id, s.r.Status().Term)
		m.Index = &index
		s.hears(m)
	}
}

// wait lets a second pass, during which 1 and 2 send messages.
func (s *stage) wait() {
	s.Helper()
	for range 10 {
		replica.Tick(s.r)
		s.settle()
		for from := range uint64(2) {
			s.hears(message(raftpb.MsgHeartbeatResp, from+1, s.r.Status().Term))
		}
	}
}

// write proposes a txn, and returns the floors that its entry tells.
func (s *stage) write() string {
	s.Helper()
	last := s.r.Status().Last
	s.r.Submit(create(fmt.Sprintf("/n%d", last)), func(tree.Result, *tree.Tree, *watchTable) {})
	s.settle()
	if now := s.r.Status().Last; now != last+1 {
		s.Fatalf("the log ends at %d, before the write at %d", now, last)
	}
	return s.told(last + 1)
}

// told returns the floors that an entry tells.
func (s *stage) told(index uint64) string {
	s.Helper()
	entries, err := s.log.Entries(index, index+1, 1<<20)
	if err != nil {
		s.Fatal(err)
	}
	floors, err := tree.DecodeFloors(entries[0].GetData())
	if err != nil {
		s.Fatal(err)
	}
	return fmt.Sprint(floors)
}

// known returns the floors of all nodes that the node knows of.
func (s *stage) known() string {
	var floors []tree.Floor
	for _, id := range []uint64{1, 2, 3, 4, self} {
		if index, _ := s.r.Floor(id); index > 0 {
			floors = append(floors, tree.Floor{Node: id, Index: index})
		}
	}
	return fmt.Sprint(floors)
}

// A leader tells what each member has on its disk: only what is committed, only what has moved,
// once a second, and never without a write.
func TestALeaderTellsFloors(t *testing.T) {
	t.Parallel()
	s := leading(t)
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	s.have(2, 1, 2)
	want("the first write", s.write(), "[{1 2} {2 2} {7 2}]") // entry 3
	want("before it is committed", s.known(), "[]")
	s.have(3, 1, 2)
	want("behind it", s.known(), "[{1 2} {2 2} {7 2}]")
	want("at once again", s.write(), "[]") // 4
	s.have(4, 1, 2)
	s.wait()
	want("without a write", fmt.Sprint(s.r.Status().Last), "4")
	want("a second later", s.write(), "[{1 4} {2 4} {7 4}]") // 5

	// 1 has acknowledged entries that are not committed, and 3 has joined in.
	s.have(4, 3)
	s.have(5, 1)
	s.wait()
	want("what is not committed", s.write(), "[{3 4}]") // 6
	want("not committed either", s.known(), "[{1 2} {2 2} {7 2}]")
	s.have(6, 1, 3)
	want("committed", s.known(), "[{1 4} {2 4} {3 4} {7 4}]")
	s.wait()
	want("2 is behind", s.write(), "[{1 6} {3 6} {7 6}]") // 7
	s.have(7, 1, 3)

	// The node leads again, and begins anew with the floors already told.
	s.hears(message(raftpb.MsgHeartbeat, 4, s.r.Status().Term+1))
	s.elect() // 8 is of the new term
	s.have(8, 1, 3)
	want("the first write again", s.write(), "[{1 8} {3 8} {7 8}]") // 9
	s.have(9, 1, 3)
	want("the highest of each", s.known(), "[{1 8} {2 4} {3 8} {7 8}]")

	// The floors are in the log, and in a frozen state.
	known := s.known()
	s.r.Freeze(func(_ *tree.Frozen, at replica.Point) {
		want("of the state", fmt.Sprint(at.Floors), known)
	})
	s.settle()
	if got := s.r.Status().Members.Floors; got != nil {
		t.Error("the members' floors:", got)
	}
	s.crash(everything)
	s.begin()
	term := s.r.Status().Term
	s.hears(appendOf(1, term+1, 9, term, 9))
	want("after a start", s.known(), known)
}

// A batch that fills an entry tells no floors; nor does a sole member, or a node that does not
// lead.
func TestWhoTellsNoFloors(t *testing.T) {
	t.Parallel()
	s := leading(t, 8, 9)
	s.have(2, 1, 2, 3, 4, 8, 9)
	const path = "/large"
	most := replica.MaxTxnBytes - 171 - len(path) // by sizeOf: there is room for six floors as well
	s.r.Submit(createData(path, string(make([]byte, most))), func(tree.Result, *tree.Tree, *watchTable) {})
	s.settle()
	if got := s.told(3); got != "[]" {
		t.Errorf("a large batch tells %s", got)
	}
	s.have(3, 1, 2)
	if got := s.write(); got != "[{1 3} {2 3} {3 2} {4 2} {7 3} {8 2} {9 2}]" {
		t.Errorf("the one behind it tells %s", got)
	}
	n, _ := leads(t, nil)
	n.must(create("/a"))
	n.must(create("/b"))
	// A leader ignores floors in a follower's txns.
	var e tree.Encoder
	x := create("/c")
	x.Origin, x.Seq = 9, 1
	e.Add(x)
	batch := e.AppendBatch(nil, 0, tree.Floor{Node: self, Index: 1 << 40})
	n.StepForward(9, txnsKind, append(part(n.Status().Term, 1, 1)[:24], append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, batch...)...))
	for i := 0; !n.has("/c"); i++ {
		if n.must(set("/a", "x")); i == 1000 {
			t.Fatal("what was forwarded does not come")
		}
	}
	last := n.Status().Last
	n.stop()
	entries, err := n.log.Entries(2, last+1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if len(e.GetData()) == 0 {
			continue
		}
		if floors, err := tree.DecodeFloors(e.GetData()); len(floors) > 0 || err != nil {
			t.Errorf("entry %d tells %v, %v", e.GetIndex(), floors, err)
		}
	}
	if got, _ := n.Floor(self); got != 0 {
		t.Error("a floor of its own:", got)
	}
}

// floorsEntry returns a leader's batch that tells floors.
func floorsEntry(index uint64, floors ...tree.Floor) *raftpb.Entry {
	var e tree.Encoder
	e.Add(create(fmt.Sprintf("/n%d", index)))
	return newEntry(index, 2, e.AppendBatch(nil, 0, floors...))
}

// A follower keeps the highest floor of each member, and no other floors; a snapshot brings those of its
// state.
func TestAFollowerKnowsFloors(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.begin()
	want := func(what, want string) {
		t.Helper()
		if got := s.known(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	gone := &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(2))}}}
	data, err := proto.Marshal(gone)
	if err != nil {
		t.Fatal(err)
	}
	leaves := newEntry(5, 2, data)
	leaves.Type = raftpb.EntryConfChangeV2.Enum()
	entries := []*raftpb.Entry{
		floorsEntry(2, tree.Floor{Node: self, Index: 1}, tree.Floor{Node: 1, Index: 1}, tree.Floor{Node: 3, Index: 1}),
		floorsEntry(3, tree.Floor{Node: 2, Index: 2}, tree.Floor{Node: 1, Index: 2}),
		floorsEntry(4, tree.Floor{Node: 1, Index: 1}),
		leaves,
		floorsEntry(6, tree.Floor{Node: 2, Index: 4}, tree.Floor{Node: 1, Index: 4}),
	}
	s.hears(appendOf(1, 2, 1, 1, 1, entries...))
	want("nothing is committed", "[]")
	s.hears(appendOf(1, 2, 6, 2, 2))
	want("of members", "[{1 1} {7 1}]")
	s.hears(appendOf(1, 2, 6, 2, 4))
	want("the highest", "[{1 2} {2 2} {7 1}]")
	s.hears(appendOf(1, 2, 6, 2, 5))
	want("2 is gone", "[{1 2} {7 1}]")
	s.hears(appendOf(1, 2, 6, 2, 6))
	want("for ever", "[{1 4} {7 1}]")

	m := snapOf(1, 2, 50)
	at := replica.PointOf(m.GetSnapshot())
	at.Voters, at.Removed = []uint64{1, self}, []uint64{2}
	at.Floors = []tree.Floor{{Node: 1, Index: 49}, {Node: self, Index: 6}}
	m.Snapshot = replica.Descriptor(at)
	s.received[50] = tree.New()
	s.hears(m)
	want("with a snapshot", "[{1 49} {7 6}]")
	if st := s.r.Status(); st.Applied != 50 || !slices.Equal(st.Members.Removed, []uint64{2}) {
		t.Errorf("%+v", st)
	}
}

// A leader's heartbeat tells a node to commit no more than the node has acknowledged: a node whose log ends before
// that, or has another entry there, is on an older copy of its disk. The links refuse such a node when it dials, but
// the leader may dial it first.
func TestAHeartbeatTellsAnOlderLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		term, commit, entry uint64 // the leader's term, the index it tells to commit, and the term of that entry
		applied             uint64
		older               bool
	}{
		"all that it has":             {2, 3, 2, 3, false},
		"less":                        {2, 2, 2, 2, false},
		"what it has applied":         {2, 1, 1, 1, false},
		"more":                        {2, 4, 2, 1, true},
		"more, in a later term":       {3, 4, 3, 1, true},
		"more, of one that led":       {1, 4, 1, 1, false},
		"another entry":               {3, 3, 3, 1, true},
		"another one, of before":      {3, 2, 1, 1, true},
		"another one, of who led":     {1, 3, 1, 1, false},
		"the same, of a later leader": {3, 3, 2, 3, false},
		"one of nobody knows when":    {2, 3, 0, 1, false},
		"nothing, in a later one":     {3, 0, 0, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.begin()
			s.hears(appendOf(1, 2, 1, 1, 1, floorsEntry(2), floorsEntry(3)))
			m := message(raftpb.MsgHeartbeat, 2, c.term)
			m.Commit, m.LogTerm = &c.commit, &c.entry
			s.r.StepRaft(2, []*raftpb.Message{m})
			if err := s.turn(0); errors.Is(err, replica.ErrOlder) != c.older || err != nil != c.older {
				t.Error(err)
			}
			if c.older {
				return
			}
			s.settle()
			if st := s.r.Status(); st.Applied != c.applied {
				t.Errorf("%d is applied, not %d", st.Applied, c.applied)
			}
		})
	}
}

// A descriptor holds everything that a Point says of a snapshot.
func TestADescriptorIsAPoint(t *testing.T) {
	t.Parallel()
	for _, p := range []replica.Point{
		{Index: 5, Term: 2, Voters: []uint64{1, 2}},
		{Index: 5, Term: 2, Voters: []uint64{1}, Others: []uint64{3}, Removed: []uint64{4, 1 << 63}},
		{Index: 5, Term: 2, Voters: []uint64{1}, Floors: []tree.Floor{{Node: 1, Index: 4}, {Node: 3, Index: 1 << 63}}},
		{Index: 5, Term: 2, Voters: []uint64{1}, Removed: []uint64{9}, Floors: []tree.Floor{{Node: 1, Index: 4}}},
	} {
		s := replica.Descriptor(p)
		if got := replica.PointOf(s); fmt.Sprint(got) != fmt.Sprint(p) {
			t.Errorf("%+v, want %+v", got, p)
		}
		for n := range s.GetData() { // bytes that are no descriptor do no harm
			s.Data = s.Data[:len(s.GetData())-1]
			if got := replica.PointOf(s); got.Index != 5 || len(got.Removed)+len(got.Floors) > len(p.Removed)+len(p.Floors) {
				t.Errorf("%d bytes less: %+v", n+1, got)
			}
		}
	}
	s := replica.Descriptor(replica.Point{Removed: []uint64{1}})
	s.Data[7] = 0xff
	if got := replica.PointOf(s); len(got.Removed) != 1 || len(got.Floors) != 0 {
		t.Errorf("%+v", got)
	}
}
