// Package admission decides with whom this node links and who may link with it, what
// being refused means for the one that is, who is taken in, and who gets a vote. It joins what the
// links know of a dialer (package peer) with what the log knows of it (package
// replica), and keeps nothing itself. The server is wired with it, and so are the
// simulated clusters of package replica's tests.
//
// An older copy of a node's disk has lost what the node has acknowledged. Three
// things know it: the links, that a later boot of the node was seen; the log, what
// leaders have told of the node (peer.Config.Floor, which is Replica.Floor); and here
// the leader itself, of what was acknowledged to it and not told yet.
package admission

import (
	"context"
	"fmt"
	"slices"
	"time"

	"coord/server/peer"
	"coord/server/replica"
)

// loopTime is how long the replica's loop may take to say what a peer has.
const loopTime = 200 * time.Millisecond

// Admit refuses an id that was a member once, and one whose log is shorter than what it
// has acknowledged to this leader: an older copy of its disk. What it has acknowledged to
// earlier ones Replica.Floor knows, but for the last. r is nil while this node starts;
// isHeard says whether there is a link on which a node can send to this one. It waits,
// shortly, and is for peer.Config.Admit.
func Admit(ctx context.Context, r *replica.Replica, isHeard func(node uint64) bool, theirs peer.Hello) *peer.Refusal {
	if r == nil {
		return &peer.Refusal{Code: peer.CodeBusy, Text: "this node is starting"}
	}
	st := r.Status()
	if slices.Contains(st.Members.Removed, theirs.Node) {
		return &peer.Refusal{Code: peer.CodeRemoved, Text: fmt.Sprintf("node %016x was removed from the cluster", theirs.Node)}
	}
	if st.Role != "leader" || isHeard(theirs.Node) {
		return nil
	}
	progress := make(chan replica.Progress, 1)
	r.Progress(func(all []replica.Progress) {
		i := slices.IndexFunc(all, func(p replica.Progress) bool { return p.Node == theirs.Node })
		if i < 0 {
			progress <- replica.Progress{}
			return
		}
		progress <- all[i]
	})
	late := time.NewTimer(loopTime)
	defer late.Stop()
	select {
	case p := <-progress:
		if isBehind(p, st.Term, theirs) {
			return &peer.Refusal{Code: peer.CodeBehind, Text: fmt.Sprintf("the log of node %016x ends at %d in term %d, and it has acknowledged %d of term %d",
				theirs.Node, theirs.Index, theirs.Term, p.Match, p.Term)}
		}
	case <-late.C:
	case <-ctx.Done():
	}
	return nil
}

// isBehind says whether the log of a dialer lacks what it has acknowledged to the leader of a
// term. Its last link has ended, and with it the last acknowledgement that it has sent: the
// log that its proof speaks of must have all of them, unless it is in a later term, whose
// leader may have cut what was not committed.
func isBehind(p replica.Progress, term uint64, theirs peer.Hello) bool {
	return theirs.Term <= term && theirs.Lacks(p.Match, p.Term)
}

// Fate is what a refusal means for the node that was refused.
type Fate int

// The fates.
const (
	None    Fate = iota // nothing for ever: it dials again
	Removed             // it is no member any more, for ever
	Lost                // it has lost what it had acknowledged, and must come back as another node
)

// FateOf says what a refusal means for this node, which is a member of a cluster.
func FateOf(r *peer.Refusal, cluster [16]byte) Fate {
	switch {
	case r.Ours || !r.Proven || r.Theirs.Cluster != cluster:
		return None
	case r.Code == peer.CodeRemoved:
		return Removed
	case r.Code == peer.CodeBoot, r.Code == peer.CodeBehind:
		return Lost
	}
	return None
}
