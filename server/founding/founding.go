// Package founding is how an ensemble is founded: once, by a durable and unanimous act of its first
// members. It is a state machine and nothing else: no clock, no I/O, no goroutine. The owner of a
// Machine brings it what happens (Tick, Request, Answer, Seen, Contact, Joined) and carries out the
// effects that it returns, in their order: a Write must be durable before any effect after it is
// carried out.
//
//	         propose, promise                  decided
//	Blank ─────────────────────▸ Promised(P) ───────────▸ Member(P)
//	  ▴                               │
//	  └─ aborted by the proposer, or ─┘
//	     given up by all others when the proposer's disk is dead
//
// A plan P is the list of the N members and the id of the ensemble to be founded. Its proposer, the
// member with the lowest node id, promises the plan and then asks the others to promise it. With
// the promises of all it writes Member(P): that is the decision. The others learn of it from any
// node that is Member(P). Four rules carry the proof, which the model in model_test.go checks
// exhaustively; without any one of them two ensembles can come into being:
//
//   - A node is bound to one plan at most.
//   - The proposer needs the promises of all.
//   - A node never promises a plan that it was released from or has refused for good.
//   - A node that has given a plan up because its proposer's disk seems dead does not
//     believe the proposer any more. It still becomes a member on another member's
//     word, for that member never gave the plan up. It is released when all have given
//     the plan up.
//
// That the disk is dead is a guess: another node answers at the proposer's
// address. A wrong guess costs a founding and nothing else: the proposer alone is no
// majority.
package founding

import (
	"fmt"
	"slices"
)

// ID names a plan and the ensemble it founds.
type ID [16]byte

func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

// Node is a node as others know it. Name and address are only labels.
type Node struct {
	ID         uint64
	Name, Addr string
}

// Plan is an ensemble that is to be founded. It never changes.
type Plan struct {
	Cluster ID
	Members []Node // sorted by id, all different; the first one proposes
}

// Limits of a plan and a message.
const (
	MaxMembers = 32
	MaxText    = 255 // bytes of a name, an address, a label
	// MaxReleased is many times what a founding needs; a node that is released more often is part
	// of an error that keeps recurring.
	MaxReleased = 256
)

// Proposer is the only node that may decide.
func (p *Plan) Proposer() uint64 { return p.Members[0].ID }

func (p *Plan) has(node uint64) bool {
	return slices.ContainsFunc(p.Members, func(m Node) bool { return m.ID == node })
}

func (p *Plan) valid() bool {
	for i, m := range p.Members {
		if m.ID == 0 || i > 0 && m.ID <= p.Members[i-1].ID {
			return false
		}
	}
	return p.Cluster != ID{} && len(p.Members) > 0 && len(p.Members) <= MaxMembers
}

// State is how far a node has come.
type State byte

// The states.
const (
	Blank State = iota
	Promised
	Member
	Removed
	Faulty
)

var stateNames = [...]string{"blank", "promised", "member", "removed", "faulty"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", byte(s))
}

// Record is what a node keeps across restarts.
type Record struct {
	State    State
	Cluster  ID    // of the ensemble of a node that is or was a Member
	Plan     *Plan // of a node that is Promised
	Voted    bool  // the plan is given up, because its proposer's disk seems dead
	Released []ID  // plans never to be promised; a Member no longer needs them
	Reason   string
}

// Stand is how a node stands to one plan. Never and Belongs are final. A node that has Voted can
// only come to Belong, or be released, which is Never.
type Stand byte

// The stands.
const (
	Open    Stand = iota // neither bound to it nor against it
	Bound                // promised
	Voted                // promised, and given up
	Never                // it will never be a member by this plan
	Belongs              // it is a member by this plan
)

// Kind is what a message asks.
type Kind byte

// The kinds.
const (
	Hello   Kind = 1 + iota // who are you?
	Propose                 // promise this plan
	Poll                    // this is how I stand to a plan; how do you?
	Answer                  // to any of these
)

// Message is a question or an answer.
type Message struct {
	Kind    Kind
	Label   string // name of the cluster, the same for all
	From    Node
	State   State
	Cluster ID     // the one the sender is a member of, or promised to
	By      uint64 // proposer of the plan that the sender is promised to
	Want    uint8  // how many members the sender's flags ask for
	View    uint64 // a hash of those members, as far as the flags name them
	About   ID     // id of a plan; zero in Hello
	Stand   Stand  // the sender's to that plan
	Plan    *Plan  // in a Propose
}

// Effect is something the owner of a Machine must do.
type Effect interface{ effect() }

// Write makes a record durable. With Born the record says Member: then the log and the first
// snapshot, which has the plan's members as voters, must be made first.
type Write struct {
	Record Record
	Born   *Plan
}

// Send asks a node, at its address or at a newer address that gossip knows for its id; the id is 0
// if it is not known yet. The answer goes to Machine.Answer; if none comes, the next Tick asks
// again.
type Send struct {
	To      Node
	Message *Message
}

// Reply answers the current request.
type Reply struct{ Message *Message }

// Join says that the ensemble exists and has a member at the address. The owner asks that member to
// take this node in, until Machine.Joined. Each address comes once.
type Join struct {
	Cluster ID
	Addr    string
}

func (Write) effect() {}
func (Send) effect()  {}
func (Reply) effect() {}
func (Join) effect()  {}
