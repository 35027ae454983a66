// Package founding is how an ensemble is born: once, by a durable and unanimous
// act of its first members. It is a state machine and nothing else: no clock, no
// I/O, no goroutine. Its owner brings what happens (Tick, Request, Answer, Seen,
// Contact, Joined) and does what it is told in return, the effects, in their
// order: a Write is durable before anything behind it is done.
//
//	         propose, promise                  decided
//	Blank ─────────────────────▸ Promised(P) ───────────▸ Member(P)
//	  ▴                               │
//	  └─ aborted by the proposer, or ─┘
//	     given up by all others when the proposer's disk is dead
//
// A plan P is the list of the N members and the id of the ensemble to be. Its
// proposer, the member with the lowest node id, promises it and then asks the
// others to. With the promises of all it writes Member(P): that is the decision.
// The others learn of it from anyone who is Member(P). Four rules carry the
// proof, which the model in model_test.go checks by exhaustion; without any one
// of them two ensembles can come to life:
//
//   - A node is bound to one plan at most.
//   - The proposer needs the promises of all.
//   - A node never promises a plan it was released from or has refused for ever.
//   - Who has given a plan up because its proposer's disk seems dead does not
//     believe the proposer any more; by another member's word it becomes a member
//     still, for that one never gave it up. It is released when all have.
//
// That the disk is dead is a guess: another node answers at the proposer's
// address. A wrong guess costs a founding and no more: the proposer alone is no
// majority.
package founding

import (
	"fmt"
	"slices"
)

// ID names a plan and the ensemble it founds.
type ID [16]byte

func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

// Node is a node as others know it: name and address are labels.
type Node struct {
	ID         uint64
	Name, Addr string
}

// Plan is an ensemble that is to be born. It is never changed.
type Plan struct {
	Cluster ID
	Members []Node // in the order of their ids, all different: the first proposes
}

// Limits of a plan and a message.
const (
	MaxMembers = 32
	MaxText    = 255 // bytes of a name, an address, a label
	// MaxReleased is many times what a founding needs; a node that is released more
	// often is part of a mistake that goes on.
	MaxReleased = 256
)

// Proposer is who alone may decide.
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

// State says how far a node has come.
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

// Record is what a node knows over restarts.
type Record struct {
	State    State
	Cluster  ID    // of the ensemble of a node that is or was a Member
	Plan     *Plan // of a node that is Promised
	Voted    bool  // the plan is given up, for its proposer seems dead
	Released []ID  // plans never to be promised; a Member needs them no more
	Reason   string
}

// Stand is how a node stands to one plan. Voted, Never and Belongs are for ever,
// but that who has voted may come to Belong.
type Stand byte

// The stands.
const (
	Open    Stand = iota // neither bound to it nor against it
	Bound                // promised
	Voted                // promised, and given up
	Never                // it will not be a member by this plan
	Belongs              // it is a member by this plan
)

// Kind is what a message asks for.
type Kind byte

// The kinds.
const (
	Hello   Kind = 1 + iota // who are you?
	Propose                 // promise this plan
	Poll                    // this is how I stand to a plan, how do you?
	Answer                  // to any of them
)

// Message is a question or its answer.
type Message struct {
	Kind    Kind
	Label   string // name of the cluster, the same for all
	From    Node
	State   State
	Cluster ID     // which the sender is a member of, or promised to
	By      uint64 // proposer of what it is promised to
	Want    uint8  // how many members the sender's flags ask for
	View    uint64 // a hash of who these are, as far as the flags name them
	About   ID     // plan: zero in Hello
	Stand   Stand  // the sender's to it
	Plan    *Plan  // of a Propose
}

// Effect is something the owner of a Machine must do.
type Effect interface{ effect() }

// Write makes a record durable. With Born the record says Member: the log and
// the first snapshot, which has the plan's members as voters, come before it.
type Write struct {
	Record Record
	Born   *Plan
}

// Send asks a node, at its address or at a newer one that gossip knows for its
// id, which is 0 if it is not known yet. What comes back goes to Machine.Answer;
// if nothing does, the next Tick asks again.
type Send struct {
	To      Node
	Message *Message
}

// Reply answers the request at hand.
type Reply struct{ Message *Message }

// Join says that the ensemble exists and that a member of it is at the address:
// to be asked to take this node in, until Machine.Joined. Each address comes once.
type Join struct {
	Cluster ID
	Addr    string
}

func (Write) effect() {}
func (Send) effect()  {}
func (Reply) effect() {}
func (Join) effect()  {}
