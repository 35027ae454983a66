package replica

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Peers carries messages to the other nodes. Its methods do not wait, and are
// called by the loop alone; what cannot be carried is lost.
type Peers interface {
	// Raft carries raft's messages, in order per node.
	Raft(msgs []*raftpb.Message)
	// Forward carries one message of the replica's own. They arrive in order, each
	// once, and are lost only with the link from here to there: then this end hears
	// PeerDown, and nothing of the old link arrives behind anything of the next one.
	// The link from there to here is another one, which may live on.
	Forward(to uint64, kind byte, b []byte)
	// Snapshot carries raft's message together with the content of the snapshot of
	// this node that it names. When the content is whole at the other end, verified
	// and loaded, the message goes to StepRaft there, and Received.Install will ask
	// for it, unless raft finds it too old. However it went, ReportSnapshot tells here:
	// raft sends that node nothing else until then or until it hears from it.
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
		// Before an entry of the own term is applied a sole voter would answer with an
		// index that is too old (reference: raft PR 105); with others raft keeps the
		// question until then. Who asks will ask again.
		if c.rn.BasicStatus().RaftState != raft.StateLeader || !c.isReady && c.members.sole(r.cfg.NodeID) {
			return
		}
	}
	if err := c.rn.Step(m); err != nil {
		r.log.Debug().Err(err).Str("peer", nodeString(from)).Stringer("type", m.GetType()).Msg("raft does not take a message")
	}
	if m.GetType() == raftpb.MsgSnap {
		r.handleReady() // before anything else: it may have changed the members
	}
}

// ErrOlder is Run's when a leader says that this node has acknowledged what its log has not:
// the disk is an older copy, or has lost some.
var ErrOlder = errors.New("the log lacks what this node has acknowledged")

// vouch has a heartbeat tell the term of the entry up to which it tells another node to commit. Raft takes
// that from what the node has acknowledged to this leader, and so for certain; but the node may have lost it since. If the
// log does not know the term, for it has cut the entry off or has not got it yet, the heartbeat tells of none.
func (r *Replica) vouch(m *raftpb.Message) {
	term := r.termAt(m.GetCommit())
	if term == 0 {
		m.Commit, m.LogTerm = nil, nil
		return
	}
	m.LogTerm = &term
}

// mustHave ends Run if a leader that this node would follow tells it to commit what its log has
// not: a heartbeat tells of nothing but what its receiver has acknowledged. The links refuse a node with an older
// copy of its disk when it dials, but the leader may dial it first; and a copy may be as long, with entries that
// were cut off since, which raft would commit. One that does not say the term of what it tells to commit tells of nothing.
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
		panic(fmt.Errorf("%w: it ends at %d, and node %016x knows of %d", ErrOlder, last, m.GetFrom(), commit))
	}
	if term := r.termAt(commit); term != 0 && term != m.GetLogTerm() { // 0: it is in a snapshot, and committed
		panic(fmt.Errorf("%w: its entry %d is of term %d, and node %016x knows of one of term %d", ErrOlder, commit, term, m.GetFrom(), m.GetLogTerm()))
	}
}

// StepForward delivers a message of another replica's Forward.
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

// PeerUp says that there is a link to a node.
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

// PeerDown says that there is none any more. If that node is gone for certain and
// was the leader, this one does not wait for the silence to be long enough.
func (r *Replica) PeerDown(id uint64, certain bool) {
	r.events.push(func() {
		c := &r.core
		c.up[id] = false
		delete(c.late, id)
		delete(c.handOver.missing, id)
		c.rn.ReportUnreachable(id)
		// The leader to whom it was sent: raft may have turned away from it in this turn, and turn to it again.
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

// turnToCampaign is in how many ticks this node stands for the place of a leader that
// is gone: the voters do so one after the other, by their ids, so that no two of them
// part the votes between them. 0: it has no vote.
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

// ReportSnapshot tells how it went with the content of a snapshot for a node.
func (r *Replica) ReportSnapshot(to uint64, ok bool) {
	status := raft.SnapshotFinish
	if !ok {
		status = raft.SnapshotFailure
	}
	r.events.push(func() { r.core.rn.ReportSnapshot(to, status) })
}
