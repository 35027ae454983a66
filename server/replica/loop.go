package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
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

// reign is who leads in which term; lead is 0 while nobody is known to.
type reign struct{ term, lead uint64 }

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

// ticks says whether time matters: a sole member waits for nobody.
func (r *Replica) ticks() bool {
	m := &r.core.members
	return r.cfg.Peers != nil && (len(m.Others) > 0 || !m.sole(r.cfg.NodeID))
}

// passTime makes up for the ticks since the last turn.
func (r *Replica) passTime() {
	c := &r.core
	if c.lastTick.IsZero() {
		return
	}
	n := time.Since(c.lastTick) / r.cfg.Tick
	c.lastTick = c.lastTick.Add(n * r.cfg.Tick)
	r.pass(int(n))
}

// pass ticks n times, but no oftener than the loop meant to sleep through: when it is that late the whole
// process has stood still, and what the others said meanwhile is yet to be read.
func (r *Replica) pass(n int) {
	rest := r.rest()
	if c := &r.core; n > rest+r.cfg.ElectionTick { // it reads what is old for a tick
		c.heardFrom = c.ticks + uint64(rest) + 2
	}
	for range min(n, rest) {
		r.tick()
	}
}

// nextTick is when the loop is to look at the latest; zero: time stands still.
func (r *Replica) nextTick() time.Time {
	c := &r.core
	switch {
	case !r.ticks():
		c.lastTick = time.Time{}
		return c.lastTick
	case c.lastTick.IsZero():
		c.lastTick = time.Now()
	}
	return c.lastTick.Add(time.Duration(r.rest()) * r.cfg.Tick)
}

// rest is how many ticks may go by before the loop looks at them. An idle node pays for each time
// that it wakes up, and at most ticks there is nothing to do: a leader is to be heard of every few, and
// for a follower the silence of its leader is long enough after several. Whatever else waits for a tick waits
// for the next one.
func (r *Replica) rest() int {
	c := &r.core
	switch lead := c.reign.lead; {
	case !r.hasLeader() || c.campaignIn > 0 || len(c.late) > 0 || c.held(),
		len(c.reads) > 0 || len(c.asked.dones) > 0 || c.handOver.under() || len(c.handOver.callers) > 0:
		return 1
	case lead == r.cfg.NodeID:
		return r.cfg.HeartbeatTick - int(c.ticks-c.since)%r.cfg.HeartbeatTick
	default:
		silent := int(c.ticks - c.heard[lead])
		return max(1, r.cfg.ElectionTick-1-silent)
	}
}

// tick is one unit of raft's time.
func (r *Replica) tick() {
	c := &r.core
	c.ticks++
	c.ticked = true
	r.sendLate()
	r.confirm()
	c.rn.Tick()
	if c.idle++; r.hasLeader() {
		c.idle = 0
	}
	// Who has no vote, or none any more, does not campaign, and would follow a silent
	// leader for ever.
	if lead := c.reign.lead; lead != 0 && lead != r.cfg.NodeID && c.ticks-c.heard[lead] > 2*uint64(r.cfg.ElectionTick) {
		r.forgetLeader()
	}
	if c.campaignIn > 0 {
		if c.campaignIn--; c.campaignIn == 0 && c.rn.BasicStatus().Lead == 0 {
			r.campaign()
		}
	}
}

func (r *Replica) forgetLeader() {
	if err := r.core.rn.ForgetLeader(); err != nil {
		panic(fmt.Sprintf("replica: forget the leader: %v", err))
	}
}

// hasLeader says whether there is one, ready or about to be, that submissions can reach.
func (r *Replica) hasLeader() bool {
	lead := r.core.reign.lead
	return lead == r.cfg.NodeID || lead != 0 && r.core.up[lead]
}

// campaignAlone campaigns at once if nobody else can vote or lead.
func (r *Replica) campaignAlone() {
	if r.core.members.sole(r.cfg.NodeID) && r.core.rn.BasicStatus().Lead == 0 {
		r.campaign()
	}
}

func (r *Replica) campaign() {
	if err := r.core.rn.Campaign(); err != nil {
		panic(fmt.Sprintf("replica: campaign: %v", err))
	}
}

// busy says whether submissions must wait: for the disk, for a transfer of the
// leadership, for what is lost to be answered. Those that will be refused need not.
func (c *core) busy() bool {
	return c.mending > 0 || c.isReady && (c.appending >= maxAppends || c.transferTo != 0)
}

// held says whether the leader wants nothing forwarded.
func (c *core) held() bool { return c.ticks < c.heldUntil }

// lookWhoReigns does what a new term or leader asks for. No entry of a new term is
// on its way to the applier yet.
func (r *Replica) lookWhoReigns() {
	c := &r.core
	st := c.rn.BasicStatus()
	c.transferTo = st.LeadTransferee
	now := reign{st.GetTerm(), st.Lead}
	if now == c.reign {
		return
	}
	c.reign, c.since, c.isReady = now, c.ticks, false
	c.stream, c.heldUntil = 0, 0
	r.refuseInbox()
	r.mendSent()
	c.asked.again = true
	if x := c.change; x != nil {
		c.change = nil
		r.refuse(submission{done: x.done}, znode.ErrUncertain)
	}
	r.publish()
}

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
	awaited := !c.isReady && c.rn.BasicStatus().RaftState == raft.StateLeader
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

// publish makes the status visible.
func (r *Replica) publish() {
	c := &r.core
	st := c.rn.BasicStatus()
	s := &Status{Role: "follower", Term: st.GetTerm(), Leader: st.Lead, Members: c.members.clone()}
	s.Members.Floors = nil // those are the applier's
	switch {
	case st.RaftState == raft.StateLeader:
		s.Role = "leader"
	case st.RaftState != raft.StateFollower:
		s.Role = "candidate"
	case slices.Contains(c.members.Others, r.cfg.NodeID):
		s.Role = "learner"
	}
	old := r.status.Swap(s)
	if old == nil {
		return
	}
	if old.Role != s.Role || old.Term != s.Term {
		level := zerolog.InfoLevel
		if s.Role == "candidate" {
			level = zerolog.DebugLevel
		}
		r.log.WithLevel(level).Str("role", s.Role).Uint64("term", s.Term).Msg("role changed")
	}
	if old.Role != s.Role || old.Term != s.Term || old.Leader != s.Leader || old.Members.Index != s.Members.Index {
		r.changed()
	}
}

// changed says that the status is another one.
func (r *Replica) changed() {
	if r.cfg.Changed != nil {
		r.cfg.Changed()
	}
}

// propose puts the submissions that wait into entries or into the stream to the
// leader, in their order.
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

// nextSubmission takes the one at next, unless it is refused here already.
func (r *Replica) nextSubmission() (s submission, ok bool) {
	c := &r.core
	s, c.subs[c.next] = c.subs[c.next], submission{}
	if r.full.Load() && grows(&s.txn.Op, s.txn.Ops) {
		r.refuse(s, znode.ErrNoSpace)
		return s, false
	}
	return s, true
}

// add numbers a txn of this node and puts it into the encoder.
func (c *core) add(s submission, self uint64) {
	c.seq++
	s.txn.Origin, s.txn.Seq = self, c.seq
	c.enc.Add(s.txn)
	c.batch = append(c.batch, s)
}

// takeBatch gives the submissions in the encoder.
func (c *core) takeBatch() []submission {
	subs := slices.Clone(c.batch)
	clear(c.batch)
	c.batch = c.batch[:0]
	return subs
}

// firstSession finds the id behind which those of new sessions begin. It is as
// ZooKeeper makes it (SessionTrackerImpl.initializeNextSessionId): the node's
// byte, 40 bits of the time in ms, and a counter of 16 bits below. The time is behind
// that of every txn in the log, whatever the clock says, so no id comes twice, unless
// a leader makes more than 65,536 sessions and its clock stands still or was set back:
// then the ids of sessions that live are passed over.
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
	if c.enc.Count() == 0 {
		return
	}
	subs, guests := c.takeBatch(), c.guests
	c.guests = c.guests[:0]
	c.stamp = max(c.stamp, r.cfg.Now().UnixMilli())
	floors := r.newFloors()
	c.proposal = c.enc.AppendBatch(c.proposal[:0], c.stamp, floors...)
	err := c.rn.Propose(c.proposal) // it keeps a copy
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

// awaitAnswers lets the applier answer what is proposed or forwarded.
func (r *Replica) awaitAnswers(subs []submission) {
	if len(subs) == 0 {
		return
	}
	r.core.sent = true
	term := r.core.reign.term
	r.tasks.add(func() { r.applier.waiting = append(r.applier.waiting, proposed{term, subs}) })
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

// lead begins a leadership: an entry of the own term is applied, hence every
// entry that was ever acknowledged. Nobody is let in before the settings are
// this node's.
func (r *Replica) lead(now tree.Counters) {
	c := &r.core
	r.lookWhoReigns()
	c.isReady = true
	c.stamp = max(c.stamp, now.TimeMS+1)
	c.told, c.tellFrom = *r.floors.Load(), c.ticks
	r.firstSession()
	if now.Settings == r.cfg.Settings {
		r.letIn()
		return
	}
	r.proposeSettings()
}

func (r *Replica) proposeSettings() {
	r.Decide(&tree.Txn{Op: tree.Op{Kind: tree.KindSettings}, Settings: r.cfg.Settings},
		func(result tree.Result, _ *tree.Tree, _ *watchTable) {
			if result.Code == znode.OK {
				r.letIn()
				return
			}
			r.events.push(func() { // again, if it is still for this node to say
				if r.core.isReady {
					r.proposeSettings()
				}
			})
		})
}
