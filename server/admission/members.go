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

// changeTime is how long a change of members may take.
const changeTime = 8 * time.Second

// TakeIn makes a node a learner, if it is no member yet, and says whether it did: the
// leader's part of joining. Whoever has had no answer may ask again.
func TakeIn(ctx context.Context, r *replica.Replica, node uint64) (taken bool, code znode.Code) {
	m := r.Status().Members
	if slices.Contains(m.Voters, node) || slices.Contains(m.Others, node) || slices.Contains(m.Outgoing, node) {
		return false, znode.OK
	}
	code = Change(ctx, r, replica.Change{Node: node, To: replica.Learner})
	return code == znode.OK, code
}

// Change proposes a change of members and waits for what comes of it.
func Change(ctx context.Context, r *replica.Replica, changes ...replica.Change) znode.Code {
	done := make(chan znode.Code, 1)
	r.Change(changes, func(result tree.Result, _ *tree.Tree, _ *watch.Table) { done <- result.Code })
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	select {
	case code := <-done:
		return code
	case <-ctx.Done():
		return znode.ErrUncertain
	}
}

// Applicant is a learner that wants to vote.
type Applicant struct {
	Node     uint64
	Replaces []uint64 // the members in whose place
}

// mostVoters is how many votes are given without being asked for by an operator.
const mostVoters = 5

// Grant says who gets a vote, of learners that want one and have kept up, in the
// order of their ids: who comes in another's place in its place; else so that the
// number of voters is odd, for a fourth voter only makes a quorum larger. Of several
// in whose place a learner comes the learners go first: they have lost their disks
// before they had the vote.
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
