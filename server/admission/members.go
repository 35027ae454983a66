package admission

import (
	"context"
	"slices"
	"time"

	"coord/server/replica"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// Everyone returns the ids of all members, ascending.
func Everyone(m *replica.Point) []uint64 {
	all := slices.Concat(m.Voters, m.Others, m.Outgoing)
	slices.Sort(all)
	return slices.Compact(all)
}

// Peers are the nodes that a node links with, ascending: the members that it knows of, and the leader that
// it follows. A node that knows no members, or that has been without a leader for a while (lost), also
// links with all nodes of its cluster that it has seen: the members may have changed while it was away, and
// the leader may be a new one.
func Peers(st *replica.Status, lost bool, seen []uint64) []uint64 {
	all := Everyone(&st.Members)
	if len(all) == 0 || lost {
		for _, id := range seen {
			if !slices.Contains(st.Members.Removed, id) {
				all = append(all, id)
			}
		}
	}
	if st.Leader != 0 {
		all = append(all, st.Leader)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ChangeTime is how long a change of members may take.
const ChangeTime = 8 * time.Second

// TakeIn makes a node a learner, if it is no member yet, and says whether it did: the leader's part
// of joining. A node that got no answer may ask again.
func TakeIn(ctx context.Context, r *replica.Replica, node uint64) (taken bool, code znode.Code) {
	m := r.Status().Members
	if slices.Contains(Everyone(&m), node) {
		return false, znode.OK
	}
	code = Change(ctx, r, replica.Change{Node: node, To: replica.Learner})
	return code == znode.OK, code
}

// Change proposes a change of members and waits for its result.
func Change(ctx context.Context, r *replica.Replica, changes ...replica.Change) znode.Code {
	done := make(chan znode.Code, 1)
	r.Change(changes, func(result tree.Result, _ *tree.Tree, _ *watch.Table) { done <- result.Code })
	ctx, cancel := context.WithTimeout(ctx, ChangeTime)
	defer cancel()
	select {
	case code := <-done:
		return code
	case <-ctx.Done():
		return znode.ErrUncertain
	}
}

// Applicant is a learner that wants a vote.
type Applicant struct {
	Node     uint64
	Replaces []uint64 // the members whose place it takes
}

// mostVoters is the most voters that there can be without an operator's request.
const mostVoters = 5

// Grant says which of the learners that want a vote and have kept up get one, in the order of their ids.
// A learner that replaces a member takes that member's place. Otherwise votes are given so that the
// number of voters is odd, because a fourth voter only makes a quorum larger. Of several members that a
// learner replaces, the learners are removed first: they lost their disks before they had a vote.
func Grant(members *replica.Point, ready []Applicant) []replica.Change {
	if len(members.Outgoing) > 0 {
		return nil // a change is under way
	}
	for _, a := range ready {
		for _, old := range a.Replaces {
			if slices.Contains(members.Others, old) {
				return []replica.Change{{Node: old, To: replica.Gone}}
			}
		}
		for _, old := range a.Replaces {
			if slices.Contains(members.Voters, old) {
				return []replica.Change{{Node: a.Node, To: replica.Voter}, {Node: old, To: replica.Gone}}
			}
		}
	}
	need := 1 + len(members.Voters)%2
	if len(ready) < need || len(members.Voters)+need > mostVoters {
		return nil
	}
	var changes []replica.Change
	for _, a := range ready[:need] {
		changes = append(changes, replica.Change{Node: a.Node, To: replica.Voter})
	}
	return changes
}
