package replica

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Peers sends messages to the other nodes. Only the loop calls its methods, and they do not wait; a
// message that cannot be sent is lost.
type Peers interface {
	// Raft sends raft's messages, in order per node.
	Raft(msgs []*raftpb.Message)
	// Forward sends one message of the replica's own. The messages arrive in order, each at most
	// once. They are lost only with the link from this node to the other: then this end gets
	// PeerDown, and nothing from the old link arrives after anything from the next one. The link in
	// the other direction is separate and may stay up.
	Forward(to uint64, kind byte, b []byte)
	// Snapshot sends raft's message together with the content of this node's snapshot that the
	// message names. When the other end has the complete content, verified and loaded, it delivers
	// the message to its StepRaft, and its log writer fetches the content with Received.Install,
	// unless raft finds the snapshot too old. ReportSnapshot reports the outcome on this node:
	// until then, or until raft hears from that node, raft sends it nothing else.
	Snapshot(m *raftpb.Message)
}

// StepRaft delivers raft's messages from another node.
func (r *Replica) StepRaft(from uint64, msgs []*raftpb.Message) {
	r.events.add(func() {
		for _, m := range msgs {
			r.receive(from, m)
			if s := m.GetSnapshot(); !raft.IsEmptySnap(s) && s.GetMetadata().GetIndex() != r.core.restored {
				r.cfg.Received.Unwanted(s.GetMetadata().GetIndex())
			}
		}
	})
	r.drive()
	r.serve()
}

func (r *Replica) receive(from uint64, m *raftpb.Message) {
	c := &r.core
	if m.GetFrom() != from || m.GetTo() != r.cfg.NodeID || slices.Contains(c.members.Removed, from) {
		return
	}
	c.heard[from] = c.ticks
	switch m.GetType() {
	case raftpb.MsgHeartbeat:
		r.mustHave(m)
	case raftpb.MsgProp:
		return
	case raftpb.MsgReadIndex:
		// Before an entry of its own term is applied, a sole voter would answer with an index that
		// is too old (reference: raft PR 105); with other voters raft keeps the question until
		// then. The asking node will ask again.
		if c.rn.BasicStatus().RaftState != raft.StateLeader || !c.isReady && c.members.sole(r.cfg.NodeID) {
			return
		}
	}
	if err := c.rn.Step(m); err != nil {
		r.log.Debug().Err(err).Str("peer", nodeString(from)).Stringer("type", m.GetType()).Msg("raft rejected a message")
	}
	if m.GetType() == raftpb.MsgSnap {
		r.handleReady() // before anything else: the snapshot may have changed the members
	}
}

// ErrOlder is Run's error when a leader says that this node has acknowledged entries that its log
// does not have: the disk is an older copy, or has lost entries.
var ErrOlder = errors.New("the log lacks entries that this node has acknowledged")

// vouch adds to a heartbeat the term of the entry up to which the heartbeat tells another node to commit. Raft takes
// that index from what the node has acknowledged to this leader, so the node certainly had the entry; but it may have
// lost it since. If the log does not know the term, because it has compacted the entry away or does not have it yet,
// the heartbeat carries no commit index.
func (r *Replica) vouch(m *raftpb.Message) {
	term := r.termAt(m.GetCommit())
	if term == 0 {
		m.Commit, m.LogTerm = nil, nil
		return
	}
	m.LogTerm = &term
}

// mustHave ends Run if a leader that this node would follow tells it to commit an entry that its log does not have: a
// heartbeat tells its receiver to commit only what the receiver has acknowledged. The links refuse a node with an older
// copy of its disk when it dials, but the leader may dial it first. And an older copy may be just as long, with entries
// that were cut off since, which raft would commit. The commit index of a heartbeat that does not carry the term of its
// entry is ignored.
func (r *Replica) mustHave(m *raftpb.Message) {
	if m.GetLogTerm() == 0 {
		m.Commit = nil
	}
	commit := m.GetCommit()
	if commit == 0 || m.GetTerm() < r.core.rn.BasicStatus().GetTerm() {
		return
	}
	last, err := r.cfg.Log.LastIndex()
	if err == nil && commit > last {
		panic(fmt.Errorf("%w: it ends at entry %d, but node %016x knows entry %d", ErrOlder, last, m.GetFrom(), commit))
	}
	if term := r.termAt(commit); term != 0 && term != m.GetLogTerm() { // 0: the entry is in a snapshot, and committed
		panic(fmt.Errorf("%w: its entry %d has term %d, but node %016x knows it with term %d", ErrOlder, commit, term, m.GetFrom(), m.GetLogTerm()))
	}
}

// StepForward delivers a message that another replica's Forward has sent.
func (r *Replica) StepForward(from uint64, kind byte, b []byte) {
	r.events.add(func() {
		switch kind {
		case kindTxns:
			r.takeForward(from, b)
		case kindRefused:
			r.streamRefused(from, b)
		case kindHold:
			r.takeHold(from, b)
		case kindHeld:
			r.takeHeld(from, b)
		}
	})
	r.drive()
	r.serve()
}

// PeerUp reports that there is a link to a node.
func (r *Replica) PeerUp(id uint64) {
	r.events.push(func() {
		c := &r.core
		c.up[id] = true
		delete(c.acked, id)
		if in := c.in[id]; in != nil && in.refused {
			r.sayRefused(id, in)
		}
	})
}

// PeerDown reports that there is no link to a node any more. If certain, the node is gone; if it
// was the leader, this node does not wait for the election timeout.
func (r *Replica) PeerDown(id uint64, certain bool) {
	r.events.push(func() {
		c := &r.core
		c.up[id] = false
		delete(c.late, id)
		delete(c.handOver.missing, id)
		c.rn.ReportUnreachable(id)
		// The node is the leader that the txns were sent to. Raft may have turned away from it in this turn,
		// and may turn to it again.
		if id == c.reign.lead {
			c.stream = 0
			r.mendSent()
		}
		if certain && id == c.rn.BasicStatus().Lead {
			r.forgetLeader()
			c.campaignIn = r.turnToCampaign(id)
		}
	})
}

// turnToCampaign returns after how many ticks this node campaigns for the place of a leader that is
// gone: the voters do so one after another, in the order of their ids, so that no two of them split
// the votes. 0: this node has no vote.
func (r *Replica) turnToCampaign(gone uint64) int {
	turn, voter := 1, false
	for _, id := range r.core.members.Voters {
		voter = voter || id == r.cfg.NodeID
		if id < r.cfg.NodeID && id != gone {
			turn += 2
		}
	}
	if !voter {
		return 0
	}
	return turn
}

// ReportSnapshot reports whether the content of a snapshot has reached a node.
func (r *Replica) ReportSnapshot(to uint64, ok bool) {
	status := raft.SnapshotFinish
	if !ok {
		status = raft.SnapshotFailure
	}
	r.events.push(func() { r.core.rn.ReportSnapshot(to, status) })
}
