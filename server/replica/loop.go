package replica

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"coord/tree"
	"coord/tree/znode"
)

// core is the loop's own state.
type core struct {
	rn        *raft.RawNode
	appending int   // batches of entries on their way to the disk
	stamp     int64 // the last time stamp given, ms
	seq       uint64
	enc       tree.Encoder
	subs      []submission // being proposed; spare of the queue
	reads     []Done       // waiting for the next ReadIndex
	asked     []Done       // waiting for the one under way
	readSeq   uint64
	spareEvs  []func()
	isReady   bool
	settled   uint64 // the term in which this node, as leader, has looked at the settings
}

// runLoop owns the RawNode.
func (r *Replica) runLoop(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if why, ok := p.(raftPanic); ok {
				err = fmt.Errorf("replica: raft: %s", string(why))
				return
			}
			panic(p)
		}
	}()
	c := &r.core
	if v := r.cfg.Start.Voters; len(v) == 1 && v[0] == r.cfg.NodeID {
		// Nobody else can vote or lead: campaign at once, and never tick.
		if err := c.rn.Campaign(); err != nil {
			return fmt.Errorf("replica: campaign: %w", err)
		}
	}
	for {
		r.handleReady()
		if c.appending < maxAppends {
			r.propose()
			r.readIndex()
			r.handleReady()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.submitted.wake:
		case <-r.barriers.wake:
		case <-r.events.wake:
		}
		c.spareEvs = r.events.take(c.spareEvs)
		for _, event := range c.spareEvs {
			event()
		}
	}
}

// handleReady hands on what raft wants done.
func (r *Replica) handleReady() {
	c := &r.core
	for c.rn.HasReady() {
		rd := c.rn.Ready()
		if rd.SoftState != nil {
			r.publish()
		}
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				if len(m.GetEntries()) > 0 {
					c.appending++
				}
				r.appends.push(m)
			case raft.LocalApplyThread:
				r.tasks.push(func() { r.applyEntries(m) })
			default:
				panic("replica: a message to a peer, and there is none")
			}
		}
		for _, rs := range rd.ReadStates {
			dones, index := c.asked, rs.Index
			c.asked = nil
			r.tasks.push(func() { r.whenApplied(index, dones) })
		}
	}
}

// publish makes the status visible.
func (r *Replica) publish() {
	st := r.core.rn.BasicStatus()
	s := &Status{Role: "follower", Term: st.GetTerm(), Leader: st.Lead, Voters: len(r.applier.point.Voters)}
	switch st.RaftState {
	case raft.StateLeader:
		s.Role = "leader"
	case raft.StateCandidate, raft.StatePreCandidate:
		s.Role = "candidate"
	}
	if old := r.status.Swap(s); old != nil && (old.Role != s.Role || old.Term != s.Term) {
		r.log.Info().Str("role", s.Role).Uint64("term", s.Term).Msg("role changed")
	}
}

// propose puts all waiting submissions into entries.
func (r *Replica) propose() {
	c := &r.core
	c.subs = r.submitted.take(c.subs)
	if len(c.subs) == 0 {
		return
	}
	if c.rn.BasicStatus().RaftState != raft.StateLeader || !c.isReady {
		for _, s := range c.subs {
			r.refuse(s, znode.ErrNoLeader)
		}
		return
	}
	first := 0
	for i, s := range c.subs {
		if r.full.Load() && grows(s.txn) {
			r.proposeBatch(c.subs[first:i])
			first = i + 1
			r.refuse(s, znode.ErrNoSpace)
			continue
		}
		c.seq++
		s.txn.Origin, s.txn.Seq = r.cfg.NodeID, c.seq
		c.enc.Add(s.txn)
		if c.enc.Len() >= MaxBatchBytes {
			r.proposeBatch(c.subs[first : i+1])
			first = i + 1
		}
	}
	r.proposeBatch(c.subs[first:])
}

// grows says whether a txn is refused while the disk is nearly full. Deletes and
// the end of sessions are not: they are the way out.
func grows(x *tree.Txn) bool {
	switch x.Kind {
	case tree.KindDelete, tree.KindReap, tree.KindClose:
		return false
	}
	return true
}

// proposeBatch proposes what is in the encoder: the txns of subs.
func (r *Replica) proposeBatch(subs []submission) {
	c := &r.core
	if len(subs) == 0 {
		return
	}
	c.stamp = max(c.stamp, time.Now().UnixMilli())
	waiting := slices.Clone(subs)
	term := c.rn.BasicStatus().GetTerm()
	if err := c.rn.Propose(c.enc.Batch(c.stamp)); err != nil {
		for _, s := range waiting {
			r.refuse(s, znode.ErrThrottledOp) // too much is uncommitted: raft took nothing
		}
		return
	}
	r.batches.Add(1)
	r.tasks.push(func() { r.applier.await(waiting, term) })
}

// readIndex asks for the index up to which a read must wait, one question at a
// time for all who wait.
func (r *Replica) readIndex() {
	c := &r.core
	c.reads = append(c.reads, r.barriers.take(nil)...)
	if len(c.reads) == 0 || len(c.asked) > 0 {
		return
	}
	reads := c.reads
	c.reads = nil
	// Before an entry of the leader's own term is applied, ReadIndex of a sole
	// voter may answer with an index that is too old (reference: raft PR 105).
	if c.rn.BasicStatus().RaftState != raft.StateLeader || !c.isReady {
		r.tasks.push(func() {
			for _, done := range reads {
				r.answer(submission{done: done}, tree.Result{Code: znode.ErrNoLeader})
			}
		})
		return
	}
	c.asked = reads
	c.readSeq++
	c.rn.ReadIndex(binary.LittleEndian.AppendUint64(nil, c.readSeq))
}

// step delivers responses of the local threads.
func (r *Replica) step(responses []*raftpb.Message) {
	c := &r.core
	for _, m := range responses {
		if err := c.rn.Step(m); err != nil {
			panic(fmt.Sprintf("replica: step %s: %v", m.GetType(), err))
		}
		if n := len(m.GetEntries()); m.GetType() == raftpb.MsgStorageApplyResp && n > 0 && !c.isReady {
			st := c.rn.BasicStatus()
			if st.RaftState == raft.StateLeader && m.GetEntries()[n-1].GetTerm() == st.GetTerm() {
				r.lead()
			}
		}
	}
}

// lead begins a leadership: an entry of the own term is applied, hence every
// entry that was ever acknowledged.
func (r *Replica) lead() {
	r.core.isReady = true
	close(r.ready)
	var have tree.Settings
	r.View(func(t *tree.Tree, _ *watchTable) { have = t.Counters().Settings })
	if have != r.cfg.Settings {
		r.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindSettings}, Settings: r.cfg.Settings},
			func(tree.Result, *tree.Tree, *watchTable) {})
	}
}
