package replica

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"coord/wal"
)

// storage is the log as raft reads it.
type storage struct {
	Log
	r     *Replica
	start Point
	hard  wal.HardState
}

func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return &raftpb.HardState{Term: &s.hard.Term, Vote: &s.hard.Vote, Commit: &s.hard.Commit}, s.start.confState(), nil
}

// Snapshot describes the newest snapshot of this node. Raft on a member that was added after that
// snapshot would ignore it: then Snapshot has a new one made, and raft asks again.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	c := &s.r.core
	if members := c.members.Index; c.saved.Index < members {
		s.r.tasks.push(func() { s.r.saveFor(members) })
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return c.saved.descriptor(), nil
}

// fits says what is wrong with the log for a state as of p.
func (s *storage) fits(p Point) error {
	first, err := s.FirstIndex()
	if err != nil {
		return fmt.Errorf("replica: first index: %w", err)
	}
	last, err := s.LastIndex()
	switch {
	case err != nil:
		return fmt.Errorf("replica: last index: %w", err)
	case first > p.Index+1:
		return fmt.Errorf("replica: the log begins at index %d, after the snapshot's index %d", first, p.Index)
	case last < p.Index:
		return fmt.Errorf("replica: the log ends at index %d, before the snapshot's index %d", last, p.Index)
	case last < s.hard.Commit:
		return fmt.Errorf("replica: the log ends at index %d, before the committed index %d", last, s.hard.Commit)
	}
	if term, err := s.Term(p.Index); err != nil || term != p.Term {
		return errors.Join(fmt.Errorf("replica: entry %d has term %d in the log, but term %d in the snapshot", p.Index, term, p.Term), err)
	}
	return nil
}

func (c *core) init(r *Replica) (err error) {
	defer recovered(&err)
	if r.cfg.NodeID == 0 || r.cfg.NodeID >= math.MaxUint64-1 {
		return errors.New("replica: invalid node id: it is 0 or reserved by raft")
	}
	st := &storage{Log: r.cfg.Log, r: r, start: r.cfg.Start, hard: r.cfg.HardState}
	st.hard.Commit = max(st.hard.Commit, r.cfg.Start.Index)
	if st.hard.Term < r.cfg.Start.Term {
		st.hard.Term, st.hard.Vote = r.cfg.Start.Term, 0
	}
	if err := st.fits(r.cfg.Start); err != nil {
		return err
	}
	r.cfg.HardState = st.hard
	r.committed.Store(st.hard.Commit)
	c.members, c.saved = r.cfg.Start.clone(), r.cfg.Start.clone()
	c.in, c.up, c.heard = map[uint64]*inflow{}, map[uint64]bool{}, map[uint64]uint64{}
	c.acked, c.late = map[uint64]acknowledged{}, map[uint64]*raftpb.Message{}
	if r.cfg.Peers != nil {
		// What an earlier life has sent may still arrive somewhere, so this life's numbers must
		// differ. 48 bits, because the log holds them with every txn.
		c.seq = random() >> 16
		c.readSeq = random() >> 16
	}
	c.rn, err = raft.NewRawNode(&raft.Config{
		ID: r.cfg.NodeID, ElectionTick: r.cfg.ElectionTick, HeartbeatTick: r.cfg.HeartbeatTick, Storage: st, Applied: r.cfg.Start.Index,
		AsyncStorageWrites: true, MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: 4 << 20,
		MaxUncommittedEntriesSize: 2 * MaxPendingBytes, MaxInflightMsgs: 128, MaxInflightBytes: 8 << 20,
		CheckQuorum: true, PreVote: true, ReadOnlyOption: raft.ReadOnlySafe, DisableProposalForwarding: true,
		StepDownOnRemoval: true, Logger: raftLogger{r.log},
	})
	if err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	return nil
}

func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}
