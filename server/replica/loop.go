package replica

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"coord/tree"
	"coord/tree/znode"
)

// core is the loop's own state.
type core struct {
	rn        *raft.RawNode
	appending int   // appends of entries on their way to the disk
	stamp     int64 // the last time stamp given, ms
	seq       uint64
	enc       tree.Encoder
	batch     []submission // in the encoder
	subs      []submission // taken from the queue, proposed up to next
	next      int
	reads     []Done // waiting for the next ReadIndex
	asked     []Done // waiting for the one under way
	readSeq   uint64
	session   int64 // the last session id given
	isReady   bool
}

// runLoop owns the RawNode.
func (r *Replica) runLoop(ctx context.Context) (err error) {
	defer recovered(&err)
	c := &r.core
	var events []func()
	if v := r.cfg.Start.Voters; len(v) == 1 && v[0] == r.cfg.NodeID {
		// Nobody else can vote or lead: campaign at once, and never tick.
		if err := c.rn.Campaign(); err != nil {
			return fmt.Errorf("replica: campaign: %w", err)
		}
	}
	for {
		r.handleReady()
		if !c.busy() {
			r.propose()
		}
		r.readIndex()
		r.handleReady()
		submitted := r.submitted.wake
		if c.busy() {
			submitted = nil // they wait, and so need wake nobody
		}
		select {
		case <-ctx.Done():
			return nil
		case <-submitted:
		case <-r.barriers.wake:
		case <-r.events.wake:
		}
		events = r.events.take(events)
		for _, event := range events {
			event()
		}
		clear(events) // they hold entries
	}
}

// busy says whether submissions must wait for the disk. Those that will be
// refused need not.
func (c *core) busy() bool { return c.isReady && c.appending >= maxAppends }

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
	s := &Status{Role: "follower", Term: st.GetTerm(), Leader: st.Lead, Voters: len(r.cfg.Start.Voters)}
	switch st.RaftState {
	case raft.StateLeader:
		s.Role = "leader"
	case raft.StateCandidate, raft.StatePreCandidate:
		s.Role = "candidate"
	}
	if old := r.status.Swap(s); old != nil && (old.Role != s.Role || old.Term != s.Term) {
		level := zerolog.InfoLevel
		if s.Role == "candidate" {
			level = zerolog.DebugLevel
		}
		r.log.WithLevel(level).Str("role", s.Role).Uint64("term", s.Term).Msg("role changed")
	}
}

// propose puts the submissions that wait into entries, in their order.
func (r *Replica) propose() {
	c := &r.core
	if c.next == len(c.subs) {
		c.subs, c.next = r.submitted.take(c.subs), 0
	}
	may := c.rn.BasicStatus().RaftState == raft.StateLeader && c.isReady
	room := int64(maxAppendBytes)
	for ; c.next < len(c.subs) && room > 0; c.next++ {
		s := c.subs[c.next]
		c.subs[c.next] = submission{}
		switch {
		case !may:
			r.refuse(s, znode.ErrNoLeader)
			continue
		case r.full.Load() && grows(&s.txn.Op, s.txn.Ops):
			r.refuse(s, znode.ErrNoSpace)
			continue
		case len(c.batch) > 0 && int64(c.enc.Len())+s.size > MaxBatchBytes:
			r.proposeBatch()
		}
		if s.txn.Kind == tree.KindSession {
			c.stampSession(s.txn)
		}
		c.seq++
		s.txn.Origin, s.txn.Seq = r.cfg.NodeID, c.seq
		c.enc.Add(s.txn)
		c.batch = append(c.batch, s)
		room -= s.size
	}
	r.proposeBatch()
}

// firstSession finds the id behind which those of new sessions begin. It is as
// ZooKeeper makes it (SessionTrackerImpl.initializeNextSessionId): the node's
// byte, 40 bits of the time in ms, and a counter of 16 bits below; so no id comes
// twice, unless a node makes more than 65,536 sessions a ms. The clock may have
// been set back since the last start: the ids of sessions that live are passed over.
func (r *Replica) firstSession() {
	c := &r.core
	c.stamp = max(c.stamp, time.Now().UnixMilli())
	const nodeShift = 56
	c.session = int64(r.cfg.NodeID&0x7f)<<nodeShift | c.stamp<<24>>8&(1<<nodeShift-1)
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

// grows says whether a txn is refused while the disk is nearly full. Deletes and
// the end of sessions are not: they are the way out.
func grows(op *tree.Op, ops []tree.Op) bool {
	switch op.Kind {
	case tree.KindDelete, tree.KindReap, tree.KindCheck, tree.KindClose, tree.KindSettings:
		return false
	case tree.KindMulti:
		return slices.ContainsFunc(ops, func(op tree.Op) bool { return grows(&op, nil) })
	}
	return true
}

// proposeBatch proposes what is in the encoder.
func (r *Replica) proposeBatch() {
	c := &r.core
	if len(c.batch) == 0 {
		return
	}
	subs, term := slices.Clone(c.batch), c.rn.BasicStatus().GetTerm()
	clear(c.batch)
	c.batch = c.batch[:0]
	c.stamp = max(c.stamp, time.Now().UnixMilli())
	if err := c.rn.Propose(c.enc.Batch(c.stamp)); err != nil {
		for _, s := range subs {
			r.refuse(s, znode.ErrThrottledOp) // too much is uncommitted: raft took nothing
		}
		return
	}
	r.batches.Add(1)
	r.tasks.push(func() { r.applier.waiting = append(r.applier.waiting, proposed{term, subs}) })
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
	for _, m := range responses {
		if err := r.core.rn.Step(m); err != nil {
			panic(fmt.Sprintf("replica: step %s: %v", m.GetType(), err))
		}
	}
}

// applied hears that entries up to one of a term are applied, and what the
// state's counters are behind them.
func (r *Replica) applied(responses []*raftpb.Message, term uint64, now tree.Counters) {
	r.step(responses)
	if r.core.isReady {
		return
	}
	if st := r.core.rn.BasicStatus(); st.RaftState == raft.StateLeader && st.GetTerm() == term {
		r.lead(now)
	}
}

// lead begins a leadership: an entry of the own term is applied, hence every
// entry that was ever acknowledged. Nobody is let in before the settings are
// this node's.
func (r *Replica) lead(now tree.Counters) {
	c := &r.core
	c.isReady = true
	c.stamp = max(c.stamp, now.TimeMS)
	r.firstSession()
	if now.Settings == r.cfg.Settings {
		close(r.ready)
		return
	}
	r.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindSettings}, Settings: r.cfg.Settings},
		func(tree.Result, *tree.Tree, *watchTable) { close(r.ready) })
}
