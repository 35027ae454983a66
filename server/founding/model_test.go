package founding

import (
	"flag"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"
)

var deep = flag.Bool("founding.deep", false, "check the larger models of the founding")

// A model is a few nodes, the lists that may be proposed, and everything that can happen to them.
// All messages ever sent lie in one set and may be delivered at any time, repeatedly, in any order,
// or never. The last node may answer at the address of another node, as a new disk does. The old
// node may go on all the same; it may also stop at any moment, which covers that it is dead.
//
// Every machine that runs is the real one. These reductions of the number of states hide nothing
// that could be wrong:
//   - A request that changes nothing durable is answered at once, and an answer that changes
//     nothing durable is learned at once: having an answer, or knowing more, forces no node to act
//     on it. So a crash, in which a node forgets what is not durable, leads to a state that is
//     checked in any case.
//   - The fields of a message that no machine looks at are not kept.
//   - A message that can no longer change anything is not kept.
type model struct {
	name   string
	ids    []uint64 // of the nodes; the last node is the one that takes an address
	lists  [][]int  // which nodes might found together
	plans  int      // how many plans may be proposed
	mutant mutant
}

// A mutant breaks a rule of the real machine by what it changes in it before a message is
// delivered.
type mutant struct {
	name    string
	again   bool // a plan may be promised again
	propose func(m *Machine)
	request func(m *Machine, q *Message)
	answer  func(m *Machine, a *Message)
}

const maxNodes, maxMessages = 4, 512

// state is a state of the model: nodes and messages are numbers in the tables.
type state struct {
	nodes    [maxNodes]uint16
	taken    int8 // the node at whose address the last node may answer
	plans    uint8
	messages [maxMessages / 64]uint64
}

type envelope struct {
	m     *Message
	asker int  // the node whose question it is, or that gets the answer
	to    Node // the node that was asked
	slot  int  // the same node, by its place
}

// step is what one event does to one node.
type step struct {
	node     uint16
	messages []uint16
}

type event struct {
	node uint16
	slot int8
	what int16 // a message; negative numbers stand for a list each, from which the node proposes a plan
	plan uint8
}

const propose = -1

type checker struct {
	model
	tables struct {
		nodes    []*Machine
		records  []uint16 // by node: the first node with the same record
		index    map[string]uint16
		messages []envelope
		known    map[string]uint16
		plans    map[ID]*Plan
		steps    [][]*step // by node and message
		founded  map[event]*step
	}
	seen   map[state]struct{}
	pushed map[state]struct{} // states to push before the rest of what happens at once
	queue  []state
	ran    int // how often a real machine was run
}

func (c *checker) self(slot int) Node {
	name := string(rune('a' + slot))
	return Node{c.ids[slot], name, name + ":1"}
}

func (c *checker) slot(id uint64) int { return slices.Index(c.ids, id) }

// intern gives a machine its number: two machines that will behave alike have the same number.
func (c *checker) intern(m *Machine) uint16 {
	var b strings.Builder
	r := m.r
	fmt.Fprint(&b, m.cfg.Self.ID, r.State, r.Cluster, r.Voted, r.Released)
	if r.Plan != nil {
		fmt.Fprint(&b, r.Plan.Cluster)
	}
	record := b.String()
	fmt.Fprint(&b, slices.Sorted(maps.Keys(m.yes)), slices.Sorted(maps.Keys(m.against)))
	if n, ok := c.tables.index[b.String()]; ok {
		return n
	}
	n := uint16(len(c.tables.nodes))
	c.tables.nodes, c.tables.records = append(c.tables.nodes, m), append(c.tables.records, n)
	if of, ok := c.tables.index[record]; ok {
		c.tables.records[n] = of
	} else {
		c.tables.index[record] = n
	}
	c.tables.index[b.String()] = n
	return n
}

// reduce keeps the fields of a message that matter: those that learn, count and settle use.
func (c *checker) reduce(e *envelope) {
	m := *e.m
	m.View, m.Want, m.Cluster, m.Label = 0, 0, ID{}, ""
	proposer := c.tables.plans[m.About].Proposer()
	if m.Kind == Answer && m.From.ID != e.to.ID {
		m.Stand = Open
	}
	if m.Stand != Open || m.From.ID != e.to.ID || c.ids[e.asker] != proposer {
		m.State, m.By = 0, 0
	}
	e.m = &m
}

func (c *checker) internMessage(e envelope) uint16 {
	c.reduce(&e)
	key := fmt.Sprintf("%d %d %s", e.asker, e.slot, e.m.Append(nil))
	if n, ok := c.tables.known[key]; ok {
		return n
	}
	n := uint16(len(c.tables.messages))
	if n == maxMessages {
		panic("the model has too many messages")
	}
	c.tables.messages = append(c.tables.messages, e)
	c.tables.known[key] = n
	return n
}

func (m *Machine) clone() *Machine {
	x := *m
	x.yes, x.against, x.instead, x.heard = maps.Clone(m.yes), maps.Clone(m.against), maps.Clone(m.instead), maps.Clone(m.heard)
	x.r.Released = slices.Clone(m.r.Released)
	return &x
}

// run applies an event to a node, and lets the node ask what it then wants to ask.
func (c *checker) run(e event) *step {
	for len(c.tables.steps) < len(c.tables.nodes) {
		c.tables.steps = append(c.tables.steps, make([]*step, maxMessages))
	}
	if e.what <= propose {
		s := c.tables.founded[e]
		if s == nil {
			s = c.first(e)
			c.tables.founded[e] = s
		}
		return s
	}
	s := c.tables.steps[e.node][e.what]
	if s == nil {
		s = c.first(e)
		c.tables.steps[e.node][e.what] = s
	}
	return s
}

// first runs an event that is in no table yet.
func (c *checker) first(e event) *step {
	c.ran++
	m := c.tables.nodes[e.node].clone()
	self := int(e.slot)
	var out []Effect
	asker, to, asked := -1, Node{}, -1
	switch {
	case e.what <= propose:
		list := int(propose - e.what)
		var others []Candidate
		for _, slot := range c.lists[list] {
			if slot != self {
				others = append(others, Candidate{Node: c.self(slot), N: len(c.lists[list])})
			}
		}
		m.cfg.N = len(c.lists[list])
		m.cfg.NewID = func() ID { return ID{e.plan + 1, byte(list)} }
		m.seen = others
		for i := range others {
			others[i].View = m.View()
		}
		out = m.Seen(others)
		m.seen = nil
		if m.r.State == Promised {
			c.tables.plans[m.r.Plan.Cluster] = m.r.Plan
			if c.mutant.propose != nil {
				c.mutant.propose(m)
				out = append(out, m.effects()...)
			}
		}
	default:
		in := c.tables.messages[e.what]
		if in.m.Kind == Answer {
			if c.mutant.answer != nil {
				c.mutant.answer(m, in.m)
			}
			out = m.Answer(in.to, in.m)
			break
		}
		if in.m.Plan != nil {
			m.cfg.N = len(in.m.Plan.Members) // the flags may have changed in between
		}
		if c.mutant.request != nil {
			c.mutant.request(m, in.m)
		}
		asker, to, asked = in.asker, in.to, in.slot
		out = m.Request(in.m)
	}
	out = append(out, m.Tick()...)
	var s step
	for _, x := range out {
		switch x := x.(type) {
		case Send:
			s.messages = append(s.messages, c.internMessage(envelope{x.Message, self, x.To, c.slot(x.To.ID)}))
		case Reply:
			s.messages = append(s.messages, c.internMessage(envelope{x.Message, asker, to, asked}))
		}
	}
	s.node = c.intern(m)
	return &s
}

func (s *state) add(messages []uint16) (grown bool) {
	for _, n := range messages {
		if s.messages[n/64]>>(n%64)&1 == 0 {
			s.messages[n/64] |= 1 << (n % 64)
			grown = true
		}
	}
	return grown
}

// deliveries yields all events that deliver a message of the set to a node.
func (c *checker) deliveries(s *state, yield func(slot int, e event)) {
	for w, word := range s.messages {
		for ; word != 0; word &= word - 1 {
			n := w*64 + bits.TrailingZeros64(word)
			in := &c.tables.messages[n]
			bring := func(slot int) {
				yield(slot, event{node: s.nodes[slot], slot: int8(slot), what: int16(n)})
			}
			if in.m.Kind == Answer {
				bring(in.asker)
				continue
			}
			bring(in.slot)
			if last := len(c.ids) - 1; int(s.taken) == in.slot && in.asker != last {
				bring(last)
			}
		}
	}
}

// durable says whether two numbers stand for machines with the same record.
func (c *checker) durable(a, b uint16) bool { return c.tables.records[a] == c.tables.records[b] }

// push adds a state if it is new.
func (c *checker) push(s state) {
	if _, ok := c.pushed[s]; ok {
		return
	}
	c.pushed[s] = struct{}{}
	for grown := true; grown; {
		grown = false
		c.deliveries(&s, func(slot int, e event) {
			e.node = s.nodes[slot]
			x := c.run(e)
			if !c.durable(x.node, e.node) {
				return
			}
			if s.add(x.messages) || x.node != e.node {
				grown = true
			}
			s.nodes[slot] = x.node
		})
	}
	c.forget(&s)
	if _, ok := c.seen[s]; !ok {
		c.seen[s] = struct{}{}
		c.queue = append(c.queue, s)
	}
}

// forget drops the messages that can no longer change anything.
func (c *checker) forget(s *state) {
	for n := range c.tables.messages {
		if s.messages[n/64]>>(n%64)&1 == 0 {
			continue
		}
		in := &c.tables.messages[n]
		over := func(slot int) bool {
			m := c.tables.nodes[s.nodes[slot]]
			if c.mutant.again {
				return m.r.State == Member
			}
			stand := m.stand(in.m.About)
			return stand == Never || stand == Belongs
		}
		if in.m.Kind == Answer && over(in.asker) || in.m.Kind != Answer && over(in.slot) && (int(s.taken) != in.slot || over(len(c.ids)-1)) {
			s.messages[n/64] &^= 1 << (n % 64)
		}
	}
}

// check visits every reachable state, nearest first, until one is wrong, and returns what is wrong.
func (c *checker) check() error {
	c.tables.index, c.tables.known = map[string]uint16{}, map[string]uint16{}
	c.tables.plans, c.tables.founded = map[ID]*Plan{}, map[event]*step{}
	c.seen, c.pushed = map[state]struct{}{}, map[state]struct{}{}
	for taken := range len(c.ids) - 1 {
		start := state{taken: int8(taken)}
		for slot := range c.ids {
			start.nodes[slot] = c.intern(New(Config{Self: c.self(slot), How: Expect}, Record{}))
		}
		c.push(start)
	}
	for len(c.queue) > 0 {
		s := c.queue[0]
		c.queue = c.queue[1:]
		if err := c.wrong(&s); err != nil {
			return err
		}
		change := func(slot int, e event) {
			x := c.run(e)
			if c.durable(x.node, e.node) {
				return
			}
			next := s
			next.nodes[slot] = x.node
			if e.what <= propose {
				next.plans++
			}
			next.add(x.messages)
			c.push(next)
		}
		c.deliveries(&s, change)
		for list, members := range c.lists {
			first := slices.MinFunc(members, func(a, b int) int { return int(c.ids[a]) - int(c.ids[b]) })
			if int(s.plans) < c.plans && c.tables.nodes[s.nodes[first]].r.State == Blank {
				change(first, event{s.nodes[first], int8(first), int16(propose - list), s.plans})
			}
		}
	}
	return nil
}

// wrong reports what must never be: two ensembles that each have a majority of their members, or a
// member without a decision.
func (c *checker) wrong(s *state) error {
	members := map[ID]int{}
	for slot := range c.ids {
		r := c.tables.nodes[s.nodes[slot]].r
		if r.State != Member {
			continue
		}
		members[r.Cluster]++
		plan := c.tables.plans[r.Cluster]
		if p := c.tables.nodes[s.nodes[c.slot(plan.Proposer())]].r; p.State != Member || p.Cluster != r.Cluster {
			return fmt.Errorf("%c is a member of %v, and its proposer has not decided", 'a'+slot, plan)
		}
	}
	var whole []string
	for id, n := range members {
		if plan := c.tables.plans[id]; n > len(plan.Members)/2 {
			whole = append(whole, fmt.Sprint(plan))
		}
	}
	if len(whole) > 1 {
		return fmt.Errorf("two ensembles: %s", strings.Join(whole, " and "))
	}
	return nil
}

// The fourth node has the lowest id or the highest. The lists overlap in every way.
func models(deep bool) []model {
	lowest, highest := []uint64{20, 30, 40, 10}, []uint64{20, 30, 40, 50}
	list := []model{
		{name: "two lists", ids: lowest, plans: 2, lists: [][]int{{0, 1, 2}, {2, 3}}},
		{name: "two plans, new disk is lowest", ids: lowest, plans: 2, lists: [][]int{{0, 1, 2}, {1, 2, 3}, {2, 3}}},
		{name: "two plans, new disk is highest", ids: highest, plans: 2, lists: [][]int{{0, 1, 2}, {1, 2, 3}, {2, 3}}},
		{name: "two plans, the wider lists", ids: lowest, plans: 2, lists: [][]int{{0, 1, 2}, {0, 2, 3}, {0, 1, 2, 3}, {0, 3}}},
	}
	if deep {
		list = append(list,
			model{name: "three plans, new disk is lowest", ids: lowest, plans: 3, lists: [][]int{{0, 1, 2}, {1, 2, 3}, {2, 3}}},
			model{name: "three plans, new disk is highest", ids: highest, plans: 3, lists: [][]int{{0, 1, 2}, {1, 2, 3}, {2, 3}}})
	}
	return list
}

func TestModel(t *testing.T) {
	t.Parallel()
	for _, m := range models(*deep) {
		t.Run(m.name, func(t *testing.T) {
			start := time.Now()
			c := checker{model: m}
			if err := c.check(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states, %d messages, %d states of a node, %d runs of a machine, in %v",
				len(c.seen), len(c.tables.messages), len(c.tables.nodes), c.ran, time.Since(start).Round(time.Millisecond))
		})
	}
}

// enough makes the proposer decide as if all members had promised.
func enough(m *Machine) {
	for _, p := range m.r.Plan.Members[1:] {
		m.yes[p.ID] = true
	}
}

func proposing(m *Machine) bool { return m.r.State == Promised && m.proposes() }

// TestModelFindsMutants: without any one of the rules, the model finds an error.
func TestModelFindsMutants(t *testing.T) {
	t.Parallel()
	for _, x := range []mutant{
		{name: "a node is bound to one plan", request: func(m *Machine, q *Message) {
			if q.Kind == Propose && m.r.State == Promised && q.About != m.r.Plan.Cluster {
				m.r = Record{Released: m.r.Released}
				m.forget()
			}
		}},
		{name: "the proposer needs anyone's promise", propose: func(m *Machine) { m.become(m.r.Plan) }},
		{name: "the proposer needs more than a majority", answer: func(m *Machine, a *Message) {
			if proposing(m) && a.Stand == Bound && a.About == m.r.Plan.Cluster {
				if promised := len(m.yes) + 1; m.yes[a.From.ID] || promised+1 > len(m.r.Plan.Members)/2 {
					enough(m)
				}
			}
		}},
		{name: "never promise what one was released from", again: true, request: func(m *Machine, q *Message) {
			if q.Kind == Propose {
				m.r.Released = nil
			}
		}},
		{name: "who has given up does not believe the proposer", answer: func(m *Machine, a *Message) {
			if m.r.State == Promised && a.Stand == Belongs {
				m.r.Voted = false
			}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			start, states := time.Now(), 0
			for _, m := range models(*deep) {
				m.mutant = x
				c := checker{model: m}
				err := c.check()
				states += len(c.seen)
				if err != nil {
					t.Logf("found after %d states and %v: %v", states, time.Since(start).Round(time.Millisecond), err)
					return
				}
			}
			t.Errorf("not found in %d states", states)
		})
	}
}
