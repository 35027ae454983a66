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
	since     uint64 // the tick at which the reign began
	isReady   bool   // this node leads, and an entry of its term is applied
	appending int    // appends of entries on their way to the disk
	stamp     int64  // the last time stamp given, ms
	seq       uint64
	enc       tree.Encoder
	proposal  []byte       // scratch
	batch     []submission // the submissions in the encoder
	guests    []piece      // the forwarded txns in the encoder
	subs      []submission // taken from the queue; those before next are proposed or forwarded
	next      int
	session   int64 // the last session id given

	ticks      uint64
	lastTick   time.Time // when the last tick was; zero: time stands still
	wakeAt     time.Time // when the loop's goroutine wakes for the next tick; zero: it does not
	ticked     bool      // whether a tick has passed since the last turn
	heardFrom  uint64    // messages that came before this tick may be from before the process was suspended
	idle       int       // ticks without a leader that can be reached
	campaignIn int       // ticks until this node campaigns; 0: it is not asked to

	reads []Done   // barriers waiting for the next ReadIndex
	asked question // the ReadIndex under way
	// readSeq numbers the ReadIndex requests. Each life of a node begins at a random number.
	readSeq    uint64
	lettingIn  bool // the barrier of a follower that is to become ready is among them
	transferTo uint64
	handOver   handOver
	heldUntil  uint64 // the tick up to which the leader's request to forward nothing counts

	// Forwarding: see the package comment.
	stream     uint64             // Seq of the first txn of the stream to the leader; 0: none
	sent       bool               // txns sent in this reign may still wait for their answers in the applier
	mending    int                // mends under way
	in         map[uint64]*inflow // the streams to this node as leader, by origin
	inbox      []forwarded        // forwarded txns taken and not proposed yet
	inboxBytes int64
	up         map[uint64]bool   // whether there is a link to the node
	heard      map[uint64]uint64 // the tick of the node's last message
	acked      map[uint64]acknowledged
	late       map[uint64]*raftpb.Message // messages that may be sent later

	told     []tree.Floor // the floors that this leader or an earlier one has told
	tellFrom uint64       // the tick from which the leader may tell floors again

	undelivered []undelivered // entries held back since a change of members waits for the disk

	members  Point  // in force, as of the entry that made them so
	restored uint64 // index of the last snapshot installed
	saved    Point  // the newest snapshot on this node's disk
	change   *change
}

// runLoop owns the RawNode, together with the goroutines that drive the loop in its place.
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

// turnLoop handles what waits for the loop. worked is false if there was nothing.
func (r *Replica) turnLoop() (worked bool, err error) {
	defer recovered(&err)
	c := &r.core
	c.events = r.events.take(c.events)
	news := c.ticked || !c.begun || len(c.events) > 0 // otherwise raft has nothing new to say
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

// busy says whether submissions must wait: for the disk, for a transfer of the leadership, or until
// lost txns are answered. Submissions that will be refused need not wait.
func (c *core) busy() bool {
	return c.mending > 0 || c.isReady && (c.appending >= maxAppends || c.transferTo != 0)
}

// held says whether the leader has asked this node to forward nothing.
func (c *core) held() bool { return c.ticks < c.heldUntil }

// handleReady passes on the work that raft's Ready asks for.
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
					r.mendSent() // this node's txns in the snapshot are never applied one by one
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

// send sends messages to peers and skips those for local threads and this node.
func (r *Replica) send(msgs []*raftpb.Message) {
	var out []*raftpb.Message
	for _, m := range msgs {
		switch {
		case raft.IsLocalMsgTarget(m.GetTo()) || m.GetTo() == r.cfg.NodeID:
		case r.cfg.Peers == nil:
			panic("replica: message to a peer, but the node has no peers")
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

// isRepeated says whether a message acknowledges only what an earlier one on this link has
// acknowledged already, as the answer to a new commit index does. Such a message says only that
// this node is alive. Half of what a write costs each node is waking up for messages, so this one
// waits for the next tick, or until a newer one replaces it.
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

// acknowledged is how far this node has told a leader that it has the leader's log.
type acknowledged struct{ term, index uint64 }

// sendLate sends the messages that could wait.
func (r *Replica) sendLate() {
	late := r.core.late
	for _, to := range slices.Sorted(maps.Keys(late)) {
		r.cfg.Peers.Raft([]*raftpb.Message{late[to]})
	}
	clear(late)
}

// step delivers the responses of the local threads: those for this node to raft, and those for
// peers, which waited for the disk, to the peers.
func (r *Replica) step(responses []*raftpb.Message) {
	r.send(responses)
	for _, m := range responses {
		if m.GetTo() != r.cfg.NodeID {
			continue
		}
		// A leader that is no longer a member does not count its own acknowledgements.
		if err := r.core.rn.Step(m); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) {
			panic(fmt.Sprintf("replica: step %s: %v", m.GetType(), err))
		}
	}
}

// applied reports to the loop which entries are applied: up to one of this term, with these changes
// of members among them. now holds the state's counters after them.
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
