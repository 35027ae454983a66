package replica

import (
	"crypto/rand"
	"slices"

	"coord/tree"
	"coord/tree/znode"
)

// propose puts the waiting submissions into entries, or into the stream to the leader, in their
// order.
func (r *Replica) propose() bool {
	c := &r.core
	if c.next == len(c.subs) {
		c.subs, c.next = r.submitted.take(c.subs), 0
	}
	lead := c.reign.lead
	switch {
	case c.next == len(c.subs) && len(c.inbox) == 0:
		return false
	case c.isReady && c.handOver.under():
		if len(c.inbox) == 0 {
			return false
		}
		r.proposeForwarded(maxAppendBytes)
		r.proposeBatch()
	case c.isReady:
		room := int64(maxAppendBytes)
		if len(c.inbox) > 0 {
			room /= 2
		}
		r.proposeOwn(room)
		r.proposeForwarded(room)
		r.proposeBatch()
	case c.next == len(c.subs):
		return false
	case lead != 0 && lead != r.cfg.NodeID && c.up[lead] && !c.held():
		r.forward(lead)
	case c.idle >= r.cfg.SyncTicks:
		r.mend(0, znode.ErrNoLeader, true)
	default:
		return false
	}
	return true
}

func (r *Replica) proposeOwn(room int64) {
	c := &r.core
	for ; c.next < len(c.subs) && room > 0; c.next++ {
		s, ok := r.nextSubmission()
		if !ok {
			continue
		}
		if c.enc.Count() > 0 && int64(c.enc.Len())+s.size > MaxBatchBytes {
			r.proposeBatch()
		}
		if s.txn.Kind == tree.KindSession {
			c.stampSession(s.txn)
		}
		c.add(s, r.cfg.NodeID)
		room -= s.size
	}
}

// nextSubmission takes the submission at next. ok is false if it is refused here already.
func (r *Replica) nextSubmission() (s submission, ok bool) {
	c := &r.core
	s, c.subs[c.next] = c.subs[c.next], submission{}
	switch {
	case s.lead && c.reign != reign{s.term, r.cfg.NodeID}:
		r.refuse(s, znode.ErrNoLeader)
	case r.full.Load() && grows(&s.txn.Op, s.txn.Ops):
		r.refuse(s, znode.ErrNoSpace)
	default:
		return s, true
	}
	return s, false
}

// add numbers a txn of this node and puts it into the encoder.
func (c *core) add(s submission, self uint64) {
	c.seq++
	s.txn.Origin, s.txn.Seq = self, c.seq
	c.enc.Add(s.txn)
	c.batch = append(c.batch, s)
}

// takeBatch returns the submissions in the encoder.
func (c *core) takeBatch() []submission {
	subs := slices.Clone(c.batch)
	clear(c.batch)
	c.batch = c.batch[:0]
	return subs
}

// firstSession finds the id after which those of new sessions begin. It is built like ZooKeeper's
// (SessionTrackerImpl.initializeNextSessionId): the node's byte, 40 bits of the time in ms, and a
// counter of 16 bits below. The time is later than that of every txn in the log, whatever the clock
// says, so no id is used twice. The exception is a leader that makes more than 65,536 sessions
// while its clock stands still or after it was set back: then the ids of live sessions are skipped.
func (r *Replica) firstSession() {
	c := &r.core
	c.stamp = max(c.stamp, r.cfg.Now().UnixMilli())
	const nodeShift = 56
	c.session = max(c.session, int64(r.cfg.NodeID&0x7f)<<nodeShift|c.stamp<<24>>8&(1<<nodeShift-1))
	r.View(func(t *tree.Tree, _ *watchTable) {
		t.Sessions(c.session, func(s tree.Session, _ int) bool {
			ours := s.ID>>nodeShift == c.session>>nodeShift
			if ours {
				c.session = s.ID
			}
			return ours
		})
	})
}

// stampSession gives a new session its id and password.
func (c *core) stampSession(x *tree.Txn) {
	c.session++
	x.Target, x.Password = c.session, make([]byte, 16)
	_, _ = rand.Read(x.Password) // never fails
}

// grows says whether a txn is refused while the disk is nearly full. Deletes and the end of
// sessions are not refused: they free space. Nor is the move of a session to another connection;
// otherwise the session would end with all that it owns.
func grows(op *tree.Op, ops []tree.Op) bool {
	switch op.Kind {
	case tree.KindDelete, tree.KindReap, tree.KindCheck, tree.KindClose, tree.KindAttach, tree.KindSettings:
		return false
	case tree.KindMulti:
		return slices.ContainsFunc(ops, func(op tree.Op) bool { return grows(&op, nil) })
	}
	return true
}

// proposeBatch proposes the txns in the encoder.
func (r *Replica) proposeBatch() {
	c := &r.core
	if c.enc.Count() == 0 {
		return
	}
	subs, guests := c.takeBatch(), c.guests
	c.guests = c.guests[:0]
	c.stamp = max(c.stamp, r.cfg.Now().UnixMilli())
	floors := r.newFloors()
	c.proposal = c.enc.AppendBatch(c.proposal[:0], c.stamp, floors...)
	err := c.rn.Propose(c.proposal) // raft keeps a copy
	if cap(c.proposal) > 2*MaxBatchBytes {
		c.proposal = nil
	}
	if err != nil {
		for _, s := range subs {
			r.refuse(s, znode.ErrThrottledOp) // too much is uncommitted: raft took nothing
		}
		for _, g := range guests {
			r.refuseStream(g.from, g.in, g.first, znode.ErrThrottledOp)
		}
		return
	}
	r.batches.Add(1)
	r.floorsTold(floors)
	r.awaitAnswers(subs)
}

// awaitAnswers registers with the applier the submissions that are proposed or forwarded, so that
// it answers them.
func (r *Replica) awaitAnswers(subs []submission) {
	if len(subs) == 0 {
		return
	}
	r.core.sent = true
	term := r.core.reign.term
	r.tasks.add(func() { r.applier.waiting = append(r.applier.waiting, proposed{term, subs}) })
}
