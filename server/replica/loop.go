package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"coord/tree"
)

// core is the loop's own state.
type core struct {
	rn        *raft.RawNode
	begun     bool
	events    []func() // taken from the queue
	reign     reign
	since     uint64 // the tick at which it began
	isReady   bool   // this node leads, and an entry of its term is applied
	appending int    // appends of entries on their way to the disk
	stamp     int64  // the last time stamp given, ms
	seq       uint64
	enc       tree.Encoder
	proposal  []byte       // scratch
	batch     []submission // in the encoder
	guests    []piece      // the same of forwarded ones
	subs      []submission // taken from the queue, proposed or forwarded up to next
	next      int
	session   int64 // the last session id given

	ticks      uint64
	lastTick   time.Time // when it was; zero: time stands still
	wakeAt     time.Time // when the loop's goroutine wakes for the next; zero: it does not
	ticked     bool      // since the last turn
	heardFrom  uint64    // what was heard before this tick may be from before the process stood still
	idle       int       // ticks without a leader to turn to
	campaignIn int       // ticks; 0: not asked to

	reads []Done   // waiting for the next ReadIndex
	asked question // the one under way
	// readSeq numbers the questions, over several lives too.
	readSeq    uint64
	lettingIn  bool // a follower's first question is among them
	transferTo uint64
	handOver   handOver
	heldUntil  uint64 // the tick up to which the leader's wish to forward nothing counts

	// Forwarding: see the package comment.
	stream     uint64             // Seq of the first txn of the stream to the leader; 0: none
	sent       bool               // txns of this reign may wait for their answers in the applier
	mending    int                // mends under way
	in         map[uint64]*inflow // the streams to this leader
	inbox      []forwarded        // taken, not proposed yet
	inboxBytes int64
	up         map[uint64]bool   // there is a link
	heard      map[uint64]uint64 // the tick of the last message
	acked      map[uint64]acknowledged
	late       map[uint64]*raftpb.Message // may be sent later

	told     []tree.Floor // by this leader or before it
	tellFrom uint64       // the tick from which on it may again

	undelivered []undelivered // since a change of members waits for the disk

	members  Point  // in force, as of the entry that made them so
	restored uint64 // index of the last snapshot installed
	saved    Point  // the newest snapshot on this node's disk
	change   *change
}

// runLoop owns the RawNode, together with whoever drives in its place.
func (r *Replica) runLoop(ctx context.Context) error {
	clock := time.NewTimer(r.cfg.Tick)
	defer clock.Stop()
	r.loop.Unlock()
	defer r.loop.Lock()
	var set, wakeAt time.Time
	turn := func() (worked bool, err error) {
		r.passTime()
		worked, err = r.turnLoop()
		wakeAt = r.nextTick()
		r.core.wakeAt = wakeAt
		return worked, err
	}
	for {
		if _, err := r.loop.await(turn); err != nil {
			return err
		}
		r.serve()
		var tick <-chan time.Time
		if !wakeAt.IsZero() {
			tick = clock.C
			if set != wakeAt {
				set = wakeAt
				clock.Reset(time.Until(wakeAt))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.submitted.wake:
		case <-tick:
			set = time.Time{}
		}
	}
}

// turnLoop takes what waits for the loop; not worked: there was nothing.
func (r *Replica) turnLoop() (worked bool, err error) {
	defer recovered(&err)
	c := &r.core
	c.events = r.events.take(c.events)
	news := c.ticked || !c.begun || len(c.events) > 0 // else raft has nothing new to say
	c.ticked = false
	if !c.begun {
		c.begun = true
		r.campaignAlone()
	}
	for _, event := range c.events {
		event()
	}
	clear(c.events) // they hold entries
	if news {
		r.lookWhoReigns()
		r.stepHandOver()
		r.handleReady()
	}
	busy := c.busy()
	r.busy.Store(busy)
	asked := !busy && r.propose()
	if r.readIndex() || asked {
		asked = true
		r.handleReady()
	}
	r.busy.Store(c.busy())
	return news || asked, nil
}

// busy says whether submissions must wait: for the disk, for a transfer of the
// leadership, for what is lost to be answered. Those that will be refused need not.
func (c *core) busy() bool {
	return c.mending > 0 || c.isReady && (c.appending >= maxAppends || c.transferTo != 0)
}

// held says whether the leader wants nothing forwarded.
func (c *core) held() bool { return c.ticks < c.heldUntil }

// handleReady hands on what raft wants done.
func (r *Replica) handleReady() {
	c := &r.core
	for c.rn.HasReady() {
		rd := c.rn.Ready()
		if rd.SoftState != nil {
			r.publish()
		}
		if rd.HardState != nil {
			r.committed.Store(rd.GetCommit())
		}
		r.send(rd.Messages)
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				if len(m.GetEntries()) > 0 {
					c.appending++
					c.confirms(m.GetEntries())
				}
				if s := m.GetSnapshot(); !raft.IsEmptySnap(s) {
					c.members = PointOf(s)
					c.restored = c.members.Index
					c.stream = 0
					r.dropUndelivered()
					r.mendSent() // what it holds of this node's txns is never applied one by one
					r.publish()
				}
				r.appends.push(m)
			case raft.LocalApplyThread:
				r.handOut(m)
			}
		}
		for _, rs := range rd.ReadStates {
			r.answered(rs)
		}
	}
}

// deliver gives committed entries to the applier.
func (r *Replica) deliver(m *raftpb.Message) {
	size := int64(0)
	for _, e := range m.GetEntries() {
		size += int64(len(e.GetData()))
	}
	r.toApply.Add(size)
	c := &r.core
	awaited := c.change != nil || !c.isReady && c.rn.BasicStatus().RaftState == raft.StateLeader
	r.tasks.add(func() { r.applyEntries(m, size, awaited) })
}

// send carries messages to peers, and leaves others.
func (r *Replica) send(msgs []*raftpb.Message) {
	var out []*raftpb.Message
	for _, m := range msgs {
		switch {
		case raft.IsLocalMsgTarget(m.GetTo()) || m.GetTo() == r.cfg.NodeID:
		case r.cfg.Peers == nil:
			panic("replica: a message to a peer, and there is none")
		case m.GetType() == raftpb.MsgSnap:
			r.cfg.Peers.Snapshot(m)
		case r.isRepeated(m):
			r.core.late[m.GetTo()] = m
		default:
			if m.GetType() == raftpb.MsgHeartbeat {
				r.vouch(m)
			}
			out = append(out, m)
		}
	}
	if len(out) > 0 {
		r.cfg.Peers.Raft(out)
	}
}

// isRepeated says whether a message acknowledges what one on this link has acknowledged
// already, as the answer to news of a commit does. It says nothing but that this node
// is there, and half of what a write costs each node is to wake up for messages: so it
// waits for the next tick, or until there is a better one.
func (r *Replica) isRepeated(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgAppResp || m.GetReject() {
		return false
	}
	c, to := &r.core, m.GetTo()
	ack := acknowledged{m.GetTerm(), m.GetIndex()}
	repeated := c.acked[to] == ack
	c.acked[to] = ack
	delete(c.late, to)
	return repeated
}

// acknowledged is up to where a leader was told that this node has its log.
type acknowledged struct{ term, index uint64 }

// sendLate sends what could wait.
func (r *Replica) sendLate() {
	late := r.core.late
	for _, to := range slices.Sorted(maps.Keys(late)) {
		r.cfg.Peers.Raft([]*raftpb.Message{late[to]})
	}
	clear(late)
}

// step delivers responses of the local threads: to raft, and those that waited for
// the disk to peers.
func (r *Replica) step(responses []*raftpb.Message) {
	r.send(responses)
	for _, m := range responses {
		if m.GetTo() != r.cfg.NodeID {
			continue
		}
		// A leader that is a member no more does not count what it has itself.
		if err := r.core.rn.Step(m); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) {
			panic(fmt.Sprintf("replica: step %s: %v", m.GetType(), err))
		}
	}
}

// applied hears that entries up to one of a term are applied, which changes of
// members were among them, and what the state's counters are behind them.
func (r *Replica) applied(responses []*raftpb.Message, term uint64, changes []memberChange, now tree.Counters) {
	for _, m := range changes {
		r.inForce(m)
	}
	r.step(responses)
	r.confirm()
	r.answerChange()
	if len(changes) > 0 {
		r.campaignAlone()
	}
	if r.core.isReady {
		return
	}
	if st := r.core.rn.BasicStatus(); st.RaftState == raft.StateLeader && st.GetTerm() == term {
		r.lead(now)
	}
}
