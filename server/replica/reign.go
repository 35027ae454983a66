package replica

import (
	"fmt"
	"slices"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3"

	"coord/tree"
	"coord/tree/znode"
)

// reign is the leader of a term; lead is 0 while no leader is known.
type reign struct{ term, lead uint64 }

// lookWhoReigns does what a new term or leader requires. No entry of a new term is on its way to
// the applier yet.
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

// hasLeader says whether there is a leader, ready or about to be, that submissions can reach.
func (r *Replica) hasLeader() bool {
	lead := r.core.reign.lead
	return lead == r.cfg.NodeID || lead != 0 && r.core.up[lead]
}

func (r *Replica) forgetLeader() {
	if err := r.core.rn.ForgetLeader(); err != nil {
		panic(fmt.Sprintf("replica: forget the leader: %v", err))
	}
}

// campaignAlone campaigns at once if no other node can vote or lead.
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

// lead begins a leadership: an entry of the leader's own term is applied, hence every entry that
// was ever acknowledged. Clients are let in only when the state has this node's settings.
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
			r.events.push(func() { // try again, if this node still leads
				if r.core.isReady {
					r.proposeSettings()
				}
			})
		})
}

// publish makes the status visible.
func (r *Replica) publish() {
	c := &r.core
	st := c.rn.BasicStatus()
	s := &Status{Role: "follower", Term: st.GetTerm(), Leader: st.Lead, Members: c.members.clone()}
	s.Members.Floors = nil // they belong to the applier
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

// changed reports that the status has changed.
func (r *Replica) changed() {
	if r.cfg.Changed != nil {
		r.cfg.Changed()
	}
}
