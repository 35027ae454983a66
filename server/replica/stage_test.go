package replica_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// stage is node 7 of three, the others being 1 and 2.
type stage struct {
	*machine
	disk     replica.Log
	hard     wal.HardState
	r        *replica.Replica
	steps    []string // what it has written and sent, in that order
	said     []*raftpb.Message
	received map[uint64]*tree.Tree // snapshots of the leader, by index
}

func newStage(t testing.TB) *stage {
	s := &stage{machine: newMachine(t), received: map[uint64]*tree.Tree{}}
	s.snaps.saved[0].at.Voters = []uint64{1, 2, self}
	s.config.SyncTicks = 60
	return s
}

// begin starts the node with what is on its disk.
func (s *stage) begin() {
	s.Helper()
	cfg := s.config
	cfg.Tree, cfg.Start = s.snaps.load(s)
	cfg.Log, cfg.HardState, cfg.Snapshots, cfg.Peers, cfg.Received = (*diary)(s), s.hard, s.snaps, (*diary)(s), s
	if s.disk == nil {
		cfg.HardState = s.log.seen.recovered()
	}
	var err error
	if s.r, err = replica.New(cfg); err != nil {
		s.Fatal(err)
	}
	s.settle()
	s.steps, s.said = nil, nil
}

// turn makes one part do what waits for it.
func (s *stage) turn(part int) error {
	_, err := replica.Turns(s.r)[part]()
	return err
}

// settle makes all parts do what they can.
func (s *stage) settle() {
	s.Helper()
	for range 4 {
		for part := range 4 {
			if err := s.turn(part); err != nil {
				s.Fatal(err)
			}
		}
	}
}

// hears delivers a message to the node, and lets it work.
func (s *stage) hears(m *raftpb.Message) {
	s.Helper()
	s.r.StepRaft(m.GetFrom(), []*raftpb.Message{m})
	s.settle()
}

// crash ends the machine's memory. n says how many unsynced records stay on the disk.
func (s *stage) crash(n int) {
	next := s.log.synced
	for _, r := range s.log.tail[:min(n, len(s.log.tail))] {
		next.put(r)
	}
	next.entries = slices.Clone(next.entries)
	s.log = &memLog{seen: next, synced: next, faults: map[string]fault{}}
}

const everything = 1 << 30

// wrote returns the steps since the last call.
func (s *stage) wrote() string {
	steps := s.steps
	s.steps = nil
	return strings.Join(steps, ", ")
}

// entries returns the entries in the log from the second one on, as index/term.
func (s *stage) entries() string {
	first, _ := (*diary)(s).FirstIndex()
	last, _ := (*diary)(s).LastIndex()
	var all []string
	for i := first; i <= last; i++ {
		term, err := (*diary)(s).Term(i)
		if err != nil {
			s.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d/%d", i, term))
	}
	return strings.Join(all, " ")
}

func (s *stage) has(path string) (there bool) {
	s.r.View(func(t *tree.Tree, _ *watchTable) {
		_, code := t.Get(path, nil, 0)
		there = code == znode.OK
	})
	return there
}

func (s *stage) Install(at replica.Point) (*tree.Tree, error) {
	s.steps = append(s.steps, fmt.Sprintf("file %d", at.Index))
	return s.received[at.Index], nil
}

func (s *stage) Installed(at replica.Point) error {
	s.steps = append(s.steps, fmt.Sprintf("name %d", at.Index))
	return nil
}

func (*stage) Unwanted(uint64) {}

// diary is the stage as the node's log and Peers: it records the calls.
type diary stage

func (d *diary) log() replica.Log {
	if d.disk != nil {
		return d.disk
	}
	return d.machine.log
}

func (d *diary) note(format string, args ...any) {
	d.steps = append(d.steps, fmt.Sprintf(format, args...))
}

func (d *diary) Append(batches ...wal.Batch) error {
	for _, b := range batches {
		for _, e := range b.Entries {
			d.note("entry %d", e.GetIndex())
		}
		if h := b.HardState; h != (wal.HardState{}) {
			d.note("term %d vote %d", h.Term, h.Vote)
		}
		if b.Sync {
			d.note("fsync")
		}
	}
	return d.log().Append(batches...)
}

func (d *diary) Reset(p wal.Position, h wal.HardState) error {
	d.note("log %d", p.Index)
	return d.log().Reset(p, h)
}

func (d *diary) Mark(m wal.Mark) error             { return d.log().Mark(m) }
func (d *diary) CompactTo(index uint64) error      { return d.log().CompactTo(index) }
func (d *diary) Sweep(ctx context.Context) error   { return d.log().Sweep(ctx) }
func (d *diary) FirstIndex() (uint64, error)       { return d.log().FirstIndex() }
func (d *diary) LastIndex() (uint64, error)        { return d.log().LastIndex() }
func (d *diary) Term(index uint64) (uint64, error) { return d.log().Term(index) }
func (d *diary) Forward(uint64, byte, []byte)      {}
func (d *diary) Snapshot(*raftpb.Message)          {}
func (d *diary) Entries(lo, hi, most uint64) ([]*raftpb.Entry, error) {
	return d.log().Entries(lo, hi, most)
}

func (d *diary) Raft(msgs []*raftpb.Message) {
	for _, m := range msgs {
		switch {
		case m.GetReject():
			d.note("no")
		case m.GetType() == raftpb.MsgAppResp:
			d.note("has %d", m.GetIndex())
		case m.GetType() == raftpb.MsgVoteResp:
			d.note("votes for %d", m.GetTo())
		}
	}
	d.said = append(d.said, msgs...)
}

// last returns the last message of a type that the node has sent to a peer.
func (s *stage) last(typ raftpb.MessageType, to uint64) *raftpb.Message {
	s.Helper()
	for _, m := range slices.Backward(s.said) {
		if m.GetType() == typ && m.GetTo() == to {
			return m
		}
	}
	s.Fatalf("no %v to %d was sent", typ, to)
	return nil
}

// The messages of the other nodes.

func message(typ raftpb.MessageType, from, term uint64) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), From: &from, To: new(uint64(self)), Term: &term}
}

// appendOf returns a leader's message: entries that follow the one with this index and term.
func appendOf(from, term, index, logTerm, commit uint64, entries ...*raftpb.Entry) *raftpb.Message {
	m := message(raftpb.MsgApp, from, term)
	m.Index, m.LogTerm, m.Commit, m.Entries = &index, &logTerm, &commit, entries
	return m
}

func snapOf(from, term, index uint64) *raftpb.Message {
	m := message(raftpb.MsgSnap, from, term)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term,
		ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, self}, AutoLeave: new(false)}}}
	return m
}

// written returns an entry that creates a znode.
func written(index, term uint64, path string) *raftpb.Entry {
	var e tree.Encoder
	e.Add(create(path))
	return newEntry(index, term, e.AppendBatch(nil, 0))
}
