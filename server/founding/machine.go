package founding

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
)

// How is how a Blank node is to begin.
type How byte

// The ways.
const (
	Alone   How = iota // found an ensemble of one
	Seeded             // --join: never found
	Initial            // --initial: found with the nodes of a list
	Expect             // --expect: found with the N blank nodes that are seen
)

// Config of a Machine.
type Config struct {
	Self  Node
	Label string
	How   How
	// Peers are those of --initial, including this node, or the seeds of --join, whose IDs and
	// perhaps Names are not known.
	Peers []Node
	N     int // of --expect
	// Quiet is how many ticks a node that founds alone listens first: members of an ensemble that
	// its lost disk belonged to may call (Contact). It is 0 for a node that cannot be called.
	Quiet int
	NewID func() ID // random
}

// Validate says what is wrong with a Config.
func (c *Config) Validate() error {
	names, addrs := map[string]bool{}, map[string]bool{}
	for _, p := range c.Peers {
		if len(p.Name) > MaxText || len(p.Addr) > MaxText || p.Addr == "" {
			return fmt.Errorf("%q at %q: the name is too long, or the address is missing or too long", p.Name, p.Addr)
		}
		if addrs[p.Addr] || p.Name != "" && names[p.Name] {
			return fmt.Errorf("%q at %q: the name or the address is listed twice", p.Name, p.Addr)
		}
		names[p.Name], addrs[p.Addr] = true, true
	}
	if len(c.Self.Name) > MaxText || len(c.Self.Addr) > MaxText || len(c.Label) > MaxText {
		return fmt.Errorf("a name or an address is longer than %d bytes", MaxText)
	}
	switch c.How {
	case Seeded:
		if len(c.Peers) == 0 {
			return errors.New("no node to join")
		}
	case Initial:
		if len(c.Peers) < 2 || len(c.Peers) > MaxMembers {
			return fmt.Errorf("the list has %d nodes, expected 2 to %d", len(c.Peers), MaxMembers)
		}
		if !names[c.Self.Name] || names[""] {
			return fmt.Errorf("%q is not in the list", c.Self.Name)
		}
	case Expect:
		if c.N < 2 || c.N > MaxMembers {
			return fmt.Errorf("got %d nodes, expected 2 to %d", c.N, MaxMembers)
		}
	}
	return nil
}

// Candidate is a node that gossip reports.
type Candidate struct {
	Node
	State   State
	Cluster ID
	N       int    // its --expect
	View    uint64 // its Machine.View
}

// Machine is one node's part in the founding. Whatever it sends is covered by what it has written;
// everything except its record is lost in a crash, which costs only time.
type Machine struct {
	cfg Config
	r   Record

	// While Blank.
	heard  map[string]*Message // by address: the last answer to a Hello
	seen   []Candidate
	quiet  int             // ticks so far
	caller ID              // an ensemble whose members expect another node at this address
	misses uint64          // the node that they expect
	target ID              // an ensemble that exists, which this node is to join
	doors  map[string]bool // addresses of its members

	// While Promised.
	yes     map[uint64]bool   // the proposer's: members that are bound
	against map[uint64]bool   // members that have given the plan up, or will never be bound
	instead map[uint64]uint64 // by member: the node that answers at its address

	out []Effect
}

// New returns a machine that continues from a record.
func New(cfg Config, r Record) *Machine {
	m := &Machine{cfg: cfg, r: r}
	m.forget()
	return m
}

// Record returns what is durable once the effects are carried out.
func (m *Machine) Record() Record { return m.r }

// forget drops the data that belongs to the previous state.
func (m *Machine) forget() {
	m.heard = map[string]*Message{}
	m.yes, m.against, m.instead = map[uint64]bool{}, map[uint64]bool{}, map[uint64]uint64{}
	m.target, m.doors = ID{}, map[string]bool{}
}

func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }

func (m *Machine) effects() []Effect {
	out := m.out
	m.out = nil
	return out
}

func (m *Machine) write(r Record, born *Plan) {
	m.r = r
	m.forget()
	m.emit(Write{r, born})
}

// Tick repeats the questions that are not answered yet: call it a few times a second.
func (m *Machine) Tick() []Effect {
	switch m.r.State {
	case Blank:
		m.look()
	case Promised:
		if m.maybeRelease(); m.r.State == Promised {
			m.pursue()
		}
	}
	return m.effects()
}

// look finds out which other nodes there are.
func (m *Machine) look() {
	switch m.cfg.How {
	case Alone:
		if m.quiet++; m.quiet > m.cfg.Quiet && m.caller == (ID{}) {
			plan := &Plan{m.cfg.NewID(), []Node{m.cfg.Self}}
			m.write(Record{State: Member, Cluster: plan.Cluster}, plan)
		}
	case Seeded, Initial:
		for _, p := range m.asked() {
			if !m.isSelf(p) {
				m.emit(Send{p, m.message(Hello, ID{})})
			}
		}
	}
	m.maybePropose()
}

// asked returns the nodes to ask: those that were named and, with --join, the members that gossip
// shows if it shows one ensemble. Only gossip knows the peer port of a node that was named by its
// gossip port. If gossip shows two ensembles, only the named nodes tell which is meant.
func (m *Machine) asked() []Node {
	nodes := slices.Clone(m.cfg.Peers)
	if m.cfg.How != Seeded || len(m.clusters()) != 1 {
		return nodes
	}
	for _, c := range m.seen {
		if c.State == Member && !slices.ContainsFunc(nodes, func(n Node) bool { return n.Addr == c.Addr }) {
			nodes = append(nodes, c.Node)
		}
	}
	return nodes
}

func (m *Machine) isSelf(p Node) bool {
	if m.cfg.How == Initial {
		return p.Name == m.cfg.Self.Name
	}
	return p.Addr == m.cfg.Self.Addr
}

// maybePropose proposes a plan if all members are known and agree on who they are, and this node
// has the lowest id.
func (m *Machine) maybePropose() {
	members := m.members()
	if m.r.State != Blank || m.target != (ID{}) || members == nil || len(m.r.Released) >= MaxReleased {
		return
	}
	plan := &Plan{Members: members}
	if plan.Proposer() != m.cfg.Self.ID {
		return
	}
	plan.Cluster = m.cfg.NewID()
	m.write(Record{State: Promised, Plan: plan, Released: m.r.Released}, nil)
	m.pursue()
}

// members returns all first members, sorted; nil until they are known to agree.
func (m *Machine) members() []Node {
	list := []Node{m.cfg.Self}
	switch m.cfg.How {
	case Initial:
		for _, p := range m.cfg.Peers {
			if m.isSelf(p) {
				list[0].Addr = p.Addr
				continue
			}
			a := m.heard[p.Addr]
			if a == nil || a.State != Blank || m.disagrees(p, a) != "" {
				return nil
			}
			list = append(list, Node{a.From.ID, p.Name, p.Addr})
		}
	case Expect:
		blank := m.blank()
		if len(blank) != m.cfg.N-1 {
			return nil
		}
		for _, c := range blank {
			if c.View != m.View() {
				return nil
			}
			list = append(list, c.Node)
		}
	default:
		return nil
	}
	slices.SortFunc(list, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	if !(&Plan{ID{1}, list}).valid() {
		return nil // one node answers at two addresses
	}
	return list
}

// disagrees says why the node that answers at the address of a member is not the one that is meant.
func (m *Machine) disagrees(p Node, a *Message) string {
	switch {
	case a.Label != m.cfg.Label:
		return fmt.Sprintf("%s belongs to a cluster named %q", p.Addr, a.Label)
	case a.From.Name != p.Name:
		return fmt.Sprintf("the node at %s is %s, not %s", p.Addr, a.From.Name, p.Name)
	case int(a.Want) != len(m.cfg.Peers) || a.View != m.View():
		return p.Name + " was started with a different list of nodes"
	}
	return ""
}

// blank returns the other nodes that could found an ensemble with this one.
func (m *Machine) blank() (list []Candidate) {
	for _, c := range m.seen {
		if c.State == Blank && c.N == m.cfg.N && c.ID != m.cfg.Self.ID && c.ID != 0 {
			list = append(list, c)
		}
	}
	return list
}

// View is a hash of the nodes with which this node would found an ensemble: the list of --initial,
// or the ids of the blank nodes it sees. All members must have the same.
func (m *Machine) View() uint64 {
	var parts []string
	switch m.cfg.How {
	case Initial:
		for _, p := range m.cfg.Peers {
			parts = append(parts, fmt.Sprintf("%q=%q", p.Name, p.Addr))
		}
	case Expect:
		parts = append(parts, fmt.Sprintf("%016x", m.cfg.Self.ID))
		for _, c := range m.blank() {
			parts = append(parts, fmt.Sprintf("%016x", c.ID))
		}
	default:
		return 0
	}
	slices.Sort(parts)
	h := fnv.New64a()
	for _, p := range slices.Compact(parts) {
		_, _ = h.Write([]byte(p + "\n"))
	}
	return h.Sum64()
}

// pursue asks the other members of the plan: the proposer asks for their promises, the others ask
// what has become of the plan.
func (m *Machine) pursue() {
	kind := Poll
	if m.proposes() {
		kind = Propose
	}
	for _, p := range m.r.Plan.Members {
		if p.ID == m.cfg.Self.ID || kind == Propose && m.yes[p.ID] {
			continue
		}
		q := m.message(kind, m.r.Plan.Cluster)
		if kind == Propose {
			q.Plan = m.r.Plan
		}
		m.emit(Send{p, q})
	}
}

func (m *Machine) proposes() bool { return m.r.Plan.Proposer() == m.cfg.Self.ID }

// tell tells the other members of a plan how this node stands to it now.
func (m *Machine) tell(plan *Plan) {
	for _, p := range plan.Members {
		if p.ID != m.cfg.Self.ID {
			m.emit(Send{p, m.message(Poll, plan.Cluster)})
		}
	}
}

// message returns a message about a plan, with what this node says of itself.
func (m *Machine) message(kind Kind, about ID) *Message {
	q := &Message{Kind: kind, Label: m.cfg.Label, From: m.cfg.Self, State: m.r.State, Cluster: m.r.Cluster, About: about, Stand: m.stand(about)}
	if about == (ID{}) {
		q.View = m.View()
		switch m.cfg.How {
		case Initial:
			q.Want = uint8(len(m.cfg.Peers))
		case Expect:
			q.Want = uint8(m.cfg.N)
		}
	}
	if m.r.State == Promised {
		q.Cluster, q.By = m.r.Plan.Cluster, m.r.Plan.Proposer()
	}
	return q
}

func (m *Machine) stand(plan ID) Stand {
	switch {
	case plan == ID{}:
		return Open
	case m.r.Cluster == plan:
		return Belongs
	case m.r.Cluster != ID{} || slices.Contains(m.r.Released, plan):
		return Never
	case m.r.State != Promised || m.r.Plan.Cluster != plan:
		return Open
	case m.r.Voted:
		return Voted
	}
	return Bound
}

// Request handles a question of another node; one of the effects is the Reply.
func (m *Machine) Request(q *Message) []Effect {
	if q.Label == m.cfg.Label {
		switch q.Kind {
		case Propose:
			m.proposed(q)
		case Poll:
			if m.r.State == Promised && m.r.Plan.Cluster == q.About {
				m.learn(q)
			} else if q.Stand == Voted {
				m.refuse(q.About)
			}
		}
	}
	m.emit(Reply{m.message(Answer, q.About)})
	return m.effects()
}

// proposed binds this node to a plan if nothing forbids it.
func (m *Machine) proposed(q *Message) {
	plan := q.Plan
	if plan == nil || plan.Cluster != q.About || q.From.ID != plan.Proposer() || q.From.ID == m.cfg.Self.ID {
		return
	}
	if m.r.State != Blank || m.stand(plan.Cluster) != Open || !m.agrees(plan) || len(m.r.Released) >= MaxReleased {
		return
	}
	m.write(Record{State: Promised, Plan: plan, Released: m.r.Released}, nil)
}

// agrees says whether a plan is what this node was started for.
func (m *Machine) agrees(plan *Plan) bool {
	if !plan.has(m.cfg.Self.ID) {
		return false
	}
	switch m.cfg.How {
	case Initial:
		for _, p := range m.cfg.Peers {
			if !slices.ContainsFunc(plan.Members, func(x Node) bool { return x.Name == p.Name && x.Addr == p.Addr }) {
				return false
			}
		}
		return len(plan.Members) == len(m.cfg.Peers)
	case Expect:
		return len(plan.Members) == m.cfg.N
	}
	return false
}

// refuse rules a plan out for good, so that the nodes that gave it up can be released.
func (m *Machine) refuse(plan ID) {
	// Keep one place for the plan that this node is promised to.
	if plan == (ID{}) || m.stand(plan) != Open || m.r.State > Promised || len(m.r.Released) >= MaxReleased-1 {
		return
	}
	m.r.Released = append(slices.Clip(m.r.Released), plan)
	m.emit(Write{m.r, nil})
}

// Answer handles the answer to a Send to a node.
func (m *Machine) Answer(to Node, a *Message) []Effect {
	switch {
	case a.Kind != Answer:
	case m.r.State == Blank && a.About == (ID{}):
		m.heard[to.Addr] = a
		if a.State == Member && a.Label == m.cfg.Label {
			m.exists(a.Cluster, to.Addr)
		}
		m.maybePropose()
	case m.r.State == Promised && a.Label == m.cfg.Label:
		m.settle(to, a)
	}
	return m.effects()
}

// exists notes that an ensemble exists already: the first one that is found.
func (m *Machine) exists(cluster ID, addr string) {
	if m.cfg.How == Alone || m.doors[addr] || m.target != (ID{}) && m.target != cluster {
		return
	}
	m.target, m.doors[addr] = cluster, true
	m.emit(Join{cluster, addr})
}

// settle handles an answer while this node is promised.
func (m *Machine) settle(to Node, a *Message) {
	if !m.r.Plan.has(to.ID) || to.ID == m.cfg.Self.ID {
		return // an answer to a Hello
	}
	switch {
	case a.From.ID == to.ID && a.About == m.r.Plan.Cluster:
		delete(m.instead, to.ID)
		m.learn(a)
	case a.From.ID == to.ID:
	case m.proposes():
		m.abort() // that member will never promise
	default:
		m.instead[to.ID] = a.From.ID
		if to.ID == m.r.Plan.Proposer() && !m.r.Voted {
			m.vote()
		}
	}
}

// learn handles another node's stand to the plan that this node is promised to.
func (m *Machine) learn(a *Message) {
	plan, who := m.r.Plan, a.From.ID
	if !plan.has(who) || who == m.cfg.Self.ID {
		return
	}
	proposer := who == plan.Proposer()
	switch {
	case a.Stand == Belongs:
		if !proposer || !m.r.Voted {
			m.become(plan)
		}
	case m.proposes():
		m.count(a)
	case proposer:
		if a.Stand == Never {
			m.release()
		}
	case a.Stand == Never || a.Stand == Voted:
		m.against[who] = true
		m.maybeRelease()
	}
}

// count handles a promise, or an answer that makes the proposer's plan impossible.
func (m *Machine) count(a *Message) {
	switch {
	case a.Stand == Bound:
		m.yes[a.From.ID] = true
		if len(m.yes) == len(m.r.Plan.Members)-1 {
			m.become(m.r.Plan)
		}
	case a.Stand == Open && a.State == Promised && a.By > m.cfg.Self.ID:
		// Of two proposers that wait for each other the one with the higher id gives in.
	default:
		m.abort()
	}
}

// become makes this node a member. If it is the proposer, this is the decision.
func (m *Machine) become(plan *Plan) {
	decides := m.proposes()
	m.write(Record{State: Member, Cluster: plan.Cluster}, plan)
	if decides {
		m.tell(plan)
	}
}

// abort gives up the proposer's own plan, before any other node is released.
func (m *Machine) abort() {
	plan := m.r.Plan
	m.release()
	m.tell(plan)
}

// release frees this node for other plans.
func (m *Machine) release() {
	m.write(Record{State: Blank, Released: append(slices.Clip(m.r.Released), m.r.Plan.Cluster)}, nil)
}

// vote gives the plan up, because its proposer's disk seems dead.
func (m *Machine) vote() {
	m.r.Voted = true
	m.emit(Write{m.r, nil})
	plan := m.r.Plan
	m.maybeRelease()
	m.tell(plan)
}

// maybeRelease releases this node from a plan by which only its proposer can still be a member.
func (m *Machine) maybeRelease() {
	if m.r.Voted && len(m.against) == len(m.r.Plan.Members)-2 {
		m.release()
	}
}

// Seen handles the list of all nodes that gossip shows.
func (m *Machine) Seen(all []Candidate) []Effect {
	m.seen = slices.Clone(all)
	slices.SortFunc(m.seen, func(a, b Candidate) int { return cmp.Compare(a.ID, b.ID) })
	if m.r.State == Blank && m.cfg.How == Expect {
		if clusters := m.clusters(); len(clusters) == 1 { // of two ensembles, neither can be assumed
			for _, c := range m.seen {
				if c.State == Member {
					m.exists(c.Cluster, c.Addr)
				}
			}
		}
		m.maybePropose()
	}
	return m.effects()
}

// clusters returns the ensembles that gossip shows.
func (m *Machine) clusters() map[ID]bool {
	ids := map[ID]bool{}
	for _, c := range m.seen {
		if c.State == Member {
			ids[c.Cluster] = true
		}
	}
	return ids
}

// Contact reports a call by a member of an ensemble that expects another node at this address: a
// disk was lost, and founding alone would show clients an empty tree.
func (m *Machine) Contact(cluster ID, expects uint64) {
	if m.r.State == Blank {
		m.caller, m.misses = cluster, expects
	}
}

// Invited reports that a member, at an operator's request, offers to have its ensemble take this
// node in. A node that founds alone ignores it.
func (m *Machine) Invited(cluster ID, addr string) []Effect {
	if m.r.State == Blank {
		m.exists(cluster, addr)
	}
	return m.effects()
}

// Joined reports that the ensemble lets this node become a member.
func (m *Machine) Joined(cluster ID) []Effect {
	if m.r.State == Blank {
		m.write(Record{State: Member, Cluster: cluster}, nil)
	}
	return m.effects()
}
