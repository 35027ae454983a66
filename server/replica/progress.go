package replica

import (
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// Never is the Heard of a member from which no message has come since this node started.
const Never = time.Duration(math.MaxInt64)

// Progress is how far another member has come, as the leader sees it.
type Progress struct {
	Node     uint64
	Match    uint64        // the last entry that it is known to have
	Term     uint64        // of that entry; 0 if the leader's log no longer has it
	Behind   uint64        // entries that it is not known to have
	Heard    time.Duration // since its last message, in whole ticks; Never also if that message may be from before this node was suspended
	Snapshot bool          // a snapshot is being sent to it
	Caught   bool          // it follows entry by entry, and lacks few
}

// Progress runs done on the loop, soon, unless Run ends first: with one entry for each other
// member, sorted by node id, if this node leads, otherwise with nil. done must be brief.
func (r *Replica) Progress(done func([]Progress)) {
	r.events.push(func() { done(r.progress()) })
}

// Without runs done on the loop, soon, unless Run ends first: with whether a quorum of the other voters is
// up, by the rule for a change of members. This check is separate because a leader cannot remove itself
// with Change. up is also true if there is no other voter, or this node does not lead. done must be brief.
func (r *Replica) Without(done func(up bool)) {
	r.events.push(func() {
		others := Point{Voters: slices.DeleteFunc(slices.Clone(r.core.members.Voters), func(id uint64) bool { return id == r.cfg.NodeID })}
		_, up := r.carries(others)
		done(up || len(others.Voters) == 0 || r.core.rn.BasicStatus().RaftState != raft.StateLeader)
	})
}

func (r *Replica) progress() (all []Progress) {
	c := &r.core
	if c.rn.BasicStatus().RaftState != raft.StateLeader {
		return nil
	}
	last, _ := r.cfg.Log.LastIndex()
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id == r.cfg.NodeID {
			return
		}
		p := Progress{Node: id, Match: pr.Match, Term: r.termAt(pr.Match), Behind: last - min(pr.Match, last), Heard: Never, Snapshot: pr.State == tracker.StateSnapshot}
		if at, ok := c.heard[id]; ok && at >= c.heardFrom {
			p.Heard = time.Duration(c.ticks-at) * r.cfg.Tick
		}
		p.Caught = pr.State == tracker.StateReplicate && p.Behind <= maxBehind
		all = append(all, p)
	})
	return all
}

// lately is how long ago a member may have been heard from and still count as up.
func (r *Replica) lately() time.Duration {
	return time.Duration(2*r.cfg.ElectionTick) * r.cfg.Tick
}
