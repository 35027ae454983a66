// Package admission decides which nodes this node links with and which may link with it, what a
// refusal means for the refused node, which nodes are taken in, and which get a vote. It combines what
// the links know about a dialer (package peer) with what the log knows about it (package replica), and
// keeps no state. The server uses it, and so do the simulated clusters in package replica's tests.
//
// An older copy of a node's disk lacks entries that the node has acknowledged. Three places notice
// it: the links, which have seen a later boot of the node; the log, in which leaders have recorded
// what the node has acknowledged (peer.Config.Floor, which is Replica.Floor); and here the leader
// itself, for what was acknowledged to it and is not recorded yet.
package admission

import (
	"context"
	"fmt"
	"slices"
	"time"

	"coord/server/peer"
	"coord/server/replica"
)

// loopTime is how long Admit waits for the replica's loop to say what a peer has acknowledged.
const loopTime = 200 * time.Millisecond

// Admit refuses an id that was a member once, and a node whose log is shorter than what it has
// acknowledged to this leader: an older copy of its disk. Acknowledgements to earlier leaders are
// known to Replica.Floor, except for the last ones. r is nil while this node starts. isHeard says
// whether there is a link on which a node can send to this one. Admit waits, at most for loopTime,
// and is meant for peer.Config.Admit.
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
			return &peer.Refusal{Code: peer.CodeBehind, Text: fmt.Sprintf("the log of node %016x ends at entry %d of term %d, but the node has acknowledged entry %d of term %d",
				theirs.Node, theirs.Index, theirs.Term, p.Match, p.Term)}
		}
	case <-late.C:
	case <-ctx.Done():
	}
	return nil
}

// isBehind says whether a dialer's log lacks what the dialer has acknowledged to the leader of a
// term. The dialer's last link has ended, and with it the last acknowledgement that it has sent, so
// the log that its proof describes must have all of them. The exception is a dialer in a later
// term, whose leader may have cut what was not committed.
func isBehind(p replica.Progress, term uint64, theirs peer.Hello) bool {
	return theirs.Term <= term && theirs.Lacks(p.Match, p.Term)
}

// Fate is what a refusal means for the node that was refused.
type Fate int

// The values of Fate.
const (
	None    Fate = iota // nothing permanent: the node dials again
	Removed             // it is no longer a member, and never will be again
	Lost                // it has lost what it had acknowledged, and must come back as another node
)

// FateOf says what a refusal means for this node, which is a member of cluster.
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
