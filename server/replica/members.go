package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// MaxRemoved is how many removed members are remembered, the most recent ones: each snapshot sent to a peer has all
// of them in its descriptor, whose size is limited.
const MaxRemoved = 4096

// maxBehind is how many entries a learner may lack and still become a voter.
const maxBehind = 200

// Role of a member.
type Role byte

// The roles that a Change gives.
const (
	Learner Role = iota + 1
	Voter        // only a voter, or a learner that has caught up
	Gone         // for good
)

// Change gives a node a role.
type Change struct {
	Node  uint64
	To    Role
	Force bool // even if too few of the future voters may be up
}

// change is the change of members that this leader has proposed.
type change struct {
	id   uint64 // in the entry's Context
	done Done
	seen bool // applied, although a joint configuration may still have to be left
	// asked: an entry after the change is proposed; confirmed: the index up to which that reaches.
	// See confirm.
	asked     bool
	confirmed uint64
}

// Change proposes that nodes change their roles together: if there are several, none of the changes
// is seen without the others. Only the leader can do it; done receives:
//
//   - ErrNoLeader on other nodes.
//   - ErrBadArguments if the change is impossible in this configuration: the leader itself would
//     leave, no voter would be left, the node was removed earlier, or a node that is not a member
//     would vote or be removed.
//   - ErrThrottledOp if it is impossible now: another change or a hand-over is under way, or a
//     learner has not caught up.
//   - ErrNewConfigNoQuorum if too few of the future voters are up, and no Change is forced.
//   - OK when the change is in force, and a quorum of the new voters is known to have recorded that
//     on disk: a node that has left may be destroyed.
func (r *Replica) Change(changes []Change, done Done) {
	r.events.push(func() {
		if code := r.change(changes, done); code != znode.OK {
			r.refuse(submission{done: done}, code)
		}
	})
}

func (r *Replica) change(changes []Change, done Done) znode.Code {
	c := &r.core
	if !c.isReady {
		return znode.ErrNoLeader
	}
	if c.change != nil || len(c.members.Outgoing) > 0 || c.handOver.under() {
		return znode.ErrThrottledOp
	}
	cc := &raftpb.ConfChangeV2{}
	for _, x := range changes {
		typ := raftpb.ConfChangeAddLearnerNode
		known := c.members.has(x.Node)
		switch {
		case x.Node == 0, x.Node == r.cfg.NodeID, slices.Contains(c.members.Removed, x.Node):
			return znode.ErrBadArguments
		case x.To == Voter && known:
			typ = raftpb.ConfChangeAddNode
		case x.To == Gone && known:
			typ = raftpb.ConfChangeRemoveNode
		case x.To != Learner:
			return znode.ErrBadArguments
		}
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: typ.Enum(), NodeId: new(x.Node)})
	}
	next, err := c.members.changed(cc)
	if err != nil || len(changes) == 0 {
		return znode.ErrBadArguments
	}
	caught, up := r.carries(next)
	switch {
	case !caught:
		return znode.ErrThrottledOp
	case !up && !slices.ContainsFunc(changes, func(x Change) bool { return x.Force }):
		return znode.ErrNewConfigNoQuorum
	}
	c.seq++
	cc.Context = binary.LittleEndian.AppendUint64(nil, c.seq)
	if err := c.rn.ProposeConfChange(cc); err != nil {
		return znode.ErrThrottledOp
	}
	c.change = &change{id: c.seq, done: done}
	return znode.OK
}

// carries says whether the nodes that gain a vote in next have caught up, and whether a quorum of
// its voters was heard from lately and has a link.
func (r *Replica) carries(next Point) (caught, up bool) {
	heard := 0
	if slices.Contains(next.Voters, r.cfg.NodeID) {
		heard++
	}
	known := map[uint64]Progress{}
	for _, p := range r.progress() {
		known[p.Node] = p
	}
	for _, id := range next.Voters {
		p, ok := known[id]
		if !slices.Contains(r.core.members.Voters, id) && !p.Caught {
			return false, false
		}
		if ok && p.Heard <= r.lately() && r.core.up[id] {
			heard++
		}
	}
	return true, heard > len(next.Voters)/2
}

// inForce makes raft follow a change that the applier has passed. A change that a snapshot has
// already brought is not made again (etcd 11510).
func (r *Replica) inForce(m memberChange) {
	c := &r.core
	if m.at.Index <= c.restored {
		return
	}
	if err := c.rn.ApplyConfChange(m.cc).Equivalent(m.at.confState()); err != nil {
		panic(fmt.Sprintf("replica: raft and the applier have different members at entry %d: %v", m.at.Index, err))
	}
	c.members = m.at
	r.publish()
	r.log.Info().Strs("voters", nodeStrings(c.members.Voters)).Strs("learners", nodeStrings(c.members.Others)).Msg("members changed")
	x := c.change
	if ctx := m.cc.GetContext(); x != nil && len(ctx) == 8 && binary.LittleEndian.Uint64(ctx) == x.id {
		x.seen = true
	}
}

// confirm proposes an entry after a change that is in force. A node that acknowledges this entry
// has recorded on its disk that the change is committed, because the entry comes with the commit
// index. Without that, after a crash of all nodes, it would ask the members from before the change
// for their votes, and those may no longer be a quorum.
func (r *Replica) confirm() {
	c := &r.core
	x := c.change
	if x == nil || !x.seen || x.asked || len(c.members.Outgoing) > 0 {
		return
	}
	x.asked = c.rn.Propose(nil) == nil // otherwise raft has no room: try again when something is applied, or at the next tick
}

// confirms notes the index of the entry that confirm has proposed, when it goes to the disk.
func (c *core) confirms(entries []*raftpb.Entry) {
	if x := c.change; x != nil && x.asked && x.confirmed == 0 {
		x.confirmed = entries[len(entries)-1].GetIndex()
	}
}

// answerChange answers the change once the entry that confirm has proposed is applied.
func (r *Replica) answerChange() {
	if x := r.core.change; x != nil && x.confirmed != 0 && x.confirmed <= r.appliedTo.Load() {
		r.core.change = nil
		r.tasks.push(func() { r.answer(submission{done: x.done}, tree.Result{}) })
	}
}

// memberChange is a change that is applied, with the members after it.
type memberChange struct {
	cc *raftpb.ConfChangeV2
	at Point
}

// undelivered are committed entries that the applier has not been given yet.
type undelivered struct {
	m      *raftpb.Message
	waitTo uint64 // the disk must have recorded that the entries up to here are committed; 0: wait only for those before
}

// handOut gives committed entries to the applier, in their order. A change of members, and
// everything after it, waits until the disk has recorded that the change is committed: see Changes
// of members in the package comment.
func (r *Replica) handOut(m *raftpb.Message) {
	c, entries := &r.core, m.GetEntries()
	u := undelivered{m: m}
	if slices.ContainsFunc(entries, func(e *raftpb.Entry) bool { return e.GetType() != raftpb.EntryNormal }) {
		u.waitTo = entries[len(entries)-1].GetIndex()
		r.marks.push(func() error {
			if err := r.logWriter.commit(r.cfg.Log, u.waitTo); err != nil {
				return err
			}
			r.events.push(func() { r.handOutTo(u.waitTo) })
			return nil
		})
	}
	if u.waitTo == 0 && len(c.undelivered) == 0 {
		r.deliver(m)
		return
	}
	c.undelivered = append(c.undelivered, u)
}

// handOutTo reports that the disk has recorded that the entries up to index are committed.
func (r *Replica) handOutTo(index uint64) {
	c := &r.core
	for len(c.undelivered) > 0 && c.undelivered[0].waitTo <= index {
		r.deliver(c.undelivered[0].m)
		c.undelivered = slices.Delete(c.undelivered, 0, 1)
	}
}

// dropUndelivered drops the entries that the applier was not given: a snapshot holds them all.
func (r *Replica) dropUndelivered() {
	for _, u := range r.core.undelivered {
		r.events.push(func() { r.step(u.m.GetResponses()) })
	}
	r.core.undelivered = nil
}

// decodeChange reads an entry that changes members.
func decodeChange(e *raftpb.Entry) (*raftpb.ConfChangeV2, error) {
	if e.GetType() == raftpb.EntryConfChange {
		cc := &raftpb.ConfChange{}
		err := proto.Unmarshal(e.GetData(), cc)
		return cc.AsV2(), err
	}
	cc := &raftpb.ConfChangeV2{}
	return cc, proto.Unmarshal(e.GetData(), cc)
}

// changed returns p with the members changed, by raft's own rules.
func (p Point) changed(cc *raftpb.ConfChangeV2) (Point, error) {
	chg := confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0), LastIndex: 1}
	var err error
	if chg.Tracker.Config, chg.Tracker.Progress, err = confchange.Restore(chg, p.confState()); err != nil {
		return Point{}, err
	}
	if cc.LeaveJoint() {
		chg.Tracker.Config, chg.Tracker.Progress, err = chg.LeaveJoint()
	} else if auto, joint := cc.EnterJoint(); joint {
		chg.Tracker.Config, chg.Tracker.Progress, err = chg.EnterJoint(auto, cc.GetChanges()...)
	} else {
		chg.Tracker.Config, chg.Tracker.Progress, err = chg.Simple(cc.GetChanges()...)
	}
	if err != nil {
		return Point{}, err
	}
	cs := chg.Tracker.ConfState()
	next := Point{Index: p.Index, Term: p.Term, Voters: cs.GetVoters(), Others: cs.GetLearners(),
		Outgoing: cs.GetVotersOutgoing(), Next: cs.GetLearnersNext(), Removed: slices.Clone(p.Removed)}
	next.Floors = slices.DeleteFunc(slices.Clone(p.Floors), func(f tree.Floor) bool { return !next.has(f.Node) })
	for _, ids := range [][]uint64{p.Voters, p.Others, p.Outgoing} {
		for _, id := range ids {
			if !next.has(id) && !slices.Contains(next.Removed, id) {
				next.Removed = append(next.Removed, id)
			}
		}
	}
	next.Removed = slices.Delete(next.Removed, 0, max(len(next.Removed)-MaxRemoved, 0))
	return next, nil
}

func (p Point) has(id uint64) bool {
	return slices.Contains(p.Voters, id) || slices.Contains(p.Others, id) || slices.Contains(p.Outgoing, id)
}

// sole says whether id is the only voter.
func (p Point) sole(id uint64) bool {
	return len(p.Voters) == 1 && p.Voters[0] == id && len(p.Outgoing) == 0
}

func (p Point) clone() Point {
	for _, ids := range []*[]uint64{&p.Voters, &p.Others, &p.Outgoing, &p.Next, &p.Removed} {
		*ids = slices.Clone(*ids)
	}
	return p
}

func (p Point) position() wal.Position { return wal.Position{Index: p.Index, Term: p.Term} }

func (p Point) confState() *raftpb.ConfState {
	return &raftpb.ConfState{Voters: p.Voters, Learners: p.Others, VotersOutgoing: p.Outgoing, LearnersNext: p.Next,
		AutoLeave: new(len(p.Outgoing) > 0)}
}

// descriptor is what raft sends of a snapshot; PointOf reads it. Its data, in numbers of 8 bytes:
// how many removed members, their ids, then node and index of each floor.
func (p Point) descriptor() *raftpb.Snapshot {
	numbers := append([]uint64{uint64(len(p.Removed))}, p.Removed...)
	for _, f := range p.Floors {
		numbers = append(numbers, f.Node, f.Index)
	}
	s := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(p.Index), Term: new(p.Term), ConfState: p.confState()}}
	for _, n := range numbers {
		s.Data = binary.LittleEndian.AppendUint64(s.Data, n)
	}
	return s
}

// PointOf returns the place of the snapshot that a message of raft describes.
func PointOf(s *raftpb.Snapshot) Point {
	cs := s.GetMetadata().GetConfState()
	p := Point{Index: s.GetMetadata().GetIndex(), Term: s.GetMetadata().GetTerm(), Voters: cs.GetVoters(), Others: cs.GetLearners(),
		Outgoing: cs.GetVotersOutgoing(), Next: cs.GetLearnersNext()}
	var numbers []uint64
	for b := s.GetData(); len(b) >= 8; b = b[8:] {
		numbers = append(numbers, binary.LittleEndian.Uint64(b))
	}
	if len(numbers) == 0 {
		return p.clone()
	}
	removed := 1 + int(min(numbers[0], uint64(len(numbers)-1)))
	p.Removed = append(p.Removed, numbers[1:removed]...)
	for told := numbers[removed:]; len(told) >= 2; told = told[2:] {
		p.Floors = append(p.Floors, tree.Floor{Node: told[0], Index: told[1]})
	}
	return p.clone()
}

// nodeString is a node's id as it appears in logs.
func nodeString(node uint64) string { return fmt.Sprintf("%016x", node) }

func nodeStrings(nodes []uint64) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, nodeString(n))
	}
	return all
}
