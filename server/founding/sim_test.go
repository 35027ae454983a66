package founding

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run the founding's simulation with this seed only")
	runsFlag = flag.Uint64("founding.runs", 200, "how many seeds the founding's simulation tries a case")
)

// host has an address and a disk; the process on it may be down.
type host struct {
	cfg  Config
	disk Record
	m    *Machine // nil while down
	join ID
	boot int // number of the process; answers to an earlier process are dropped
}

// packet is a request or an answer under way.
type packet struct {
	bytes  []byte
	asker  int
	boot   int
	to     Node
	answer bool
	at     int // when it arrives
}

// world is a few hosts, a network that loses, delays, duplicates and partitions, and everything
// that was ever written.
type world struct {
	*testing.T
	rnd     *rand.Rand
	hosts   []*host
	flight  []packet
	now     int
	nextID  uint64
	plans   map[ID]*Plan
	born    map[ID]map[uint64]bool // by plan: the nodes that ever became members
	apart   []int                  // by host: its side
	blind   bool                   // gossip shows any part of the truth
	loss    float64
	delay   int
	crashes float64 // at a write
	wipes   func(w *world, h int, wrote Record) bool
}

func newWorld(t *testing.T, seed uint64, cfgs []Config) *world {
	w := &world{T: t, rnd: rand.New(rand.NewPCG(seed, 7)), plans: map[ID]*Plan{}, born: map[ID]map[uint64]bool{}, apart: make([]int, len(cfgs)), delay: 1}
	for i := range cfgs {
		w.hosts = append(w.hosts, &host{cfg: cfgs[i]})
		w.wipe(i)
	}
	return w
}

// wipe puts a new disk into a host, on which a new node starts.
func (w *world) wipe(h int) {
	x := w.hosts[h]
	w.nextID++
	x.cfg.Self.ID = w.nextID<<32 | uint64(w.rnd.Uint32())
	if w.rnd.IntN(2) == 0 { // lower than earlier ids, or higher
		x.cfg.Self.ID = uint64(w.rnd.Uint32())<<8 | w.nextID
	}
	x.cfg.NewID = func() (id ID) {
		for i := range id {
			id[i] = byte(w.rnd.Uint32())
		}
		return id
	}
	x.disk = Record{}
	w.start(h)
}

func (w *world) start(h int) {
	x := w.hosts[h]
	x.boot++
	x.join = ID{}
	x.m = New(x.cfg, x.disk)
}

func (w *world) at(addr string) int {
	for i, x := range w.hosts {
		if x.cfg.Self.Addr == addr {
			return i
		}
	}
	return -1
}

// do carries out effects in their order, unless a fault intervenes.
func (w *world) do(h int, effects []Effect, request *packet) {
	x := w.hosts[h]
	for _, e := range effects {
		switch e := e.(type) {
		case Write:
			if w.rnd.Float64() < w.crashes/2 {
				x.m = nil
				return
			}
			x.disk = e.Record
			if e.Record.Plan != nil {
				w.plans[e.Record.Plan.Cluster] = e.Record.Plan
			}
			if e.Born != nil {
				w.bear(x, e.Born)
			}
			w.check()
			if w.wipes != nil && w.wipes(w, h, e.Record) {
				w.wipes = nil
				w.wipe(h)
				return
			}
			if w.rnd.Float64() < w.crashes {
				x.m = nil
				return
			}
		case Send:
			w.send(packet{bytes: e.Message.Append(nil), asker: h, boot: x.boot, to: e.To})
		case Reply:
			w.send(packet{bytes: e.Message.Append(nil), asker: request.asker, boot: request.boot, to: request.to, answer: true})
		case Join:
			x.join = e.Cluster
		}
	}
}

func (w *world) bear(x *host, plan *Plan) {
	if w.born[plan.Cluster] == nil {
		if plan.Proposer() != x.cfg.Self.ID {
			w.Fatalf("%s is a member and nobody has decided", x.cfg.Self.Name)
		}
		w.born[plan.Cluster] = map[uint64]bool{}
	}
	w.born[plan.Cluster][x.cfg.Self.ID] = true
}

// check verifies that no two ensembles ever had a majority each.
func (w *world) check() {
	whole := 0
	for id, members := range w.born {
		if len(members) > len(w.plans[id].Members)/2 {
			whole++
		}
	}
	if whole > 1 {
		w.Fatalf("%d ensembles", whole)
	}
}

func (w *world) send(p packet) {
	for w.rnd.Float64() >= w.loss {
		p.at = w.now + 1 + w.rnd.IntN(w.delay)
		w.flight = append(w.flight, p)
		if w.rnd.Float64() >= w.loss/2 { // otherwise it arrives twice
			return
		}
	}
}

// pass lets one tick pass: packets that are due arrive, in any order, and all machines tick.
func (w *world) pass() {
	w.now++
	w.rnd.Shuffle(len(w.flight), func(i, j int) { w.flight[i], w.flight[j] = w.flight[j], w.flight[i] })
	var due []packet
	rest := w.flight[:0]
	for _, p := range w.flight {
		if p.at <= w.now {
			due = append(due, p)
		} else {
			rest = append(rest, p)
		}
	}
	w.flight = rest
	for _, p := range due {
		h := w.at(p.to.Addr)
		if h < 0 || w.apart[h] != w.apart[p.asker] {
			continue
		}
		if p.answer {
			h = p.asker
		}
		m, err := Decode(p.bytes)
		if err != nil {
			w.Fatal(err)
		}
		switch x := w.hosts[h]; {
		case x.m == nil:
		case !p.answer:
			w.do(h, x.m.Request(m), &p)
		case x.boot == p.boot:
			w.do(h, x.m.Answer(p.to, m), nil)
		}
	}
	for h, x := range w.hosts {
		if x.m == nil {
			if w.rnd.IntN(4) == 0 {
				w.start(h)
			}
			continue
		}
		if x.cfg.How == Expect && w.rnd.IntN(2) == 0 {
			w.do(h, x.m.Seen(w.gossip(h)), nil)
		}
		if x.m != nil {
			w.do(h, x.m.Tick(), nil)
		}
		// A leader takes in every node that asks, while a majority runs.
		if x.m != nil && x.join != (ID{}) && w.runs(x.join) {
			w.do(h, x.m.Joined(x.join), nil)
		}
	}
}

// gossip returns what a host sees of the others on its side.
func (w *world) gossip(h int) (all []Candidate) {
	for i, x := range w.hosts {
		if i != h && x.m != nil && w.apart[i] == w.apart[h] && (!w.blind || w.rnd.IntN(3) != 0) {
			all = append(all, Candidate{Node: x.cfg.Self, State: x.disk.State, Cluster: x.disk.Cluster, N: x.cfg.N, View: x.m.View()})
		}
	}
	return all
}

// runs says whether a majority of an ensemble's first members is up.
func (w *world) runs(id ID) bool {
	n := 0
	for _, x := range w.hosts {
		if x.disk.State == Member && x.disk.Cluster == id && w.plans[id].has(x.cfg.Self.ID) {
			n++
		}
	}
	return n > len(w.plans[id].Members)/2
}

// heal ends all faults, and says whether all nodes become members of one ensemble.
func (w *world) heal() bool {
	w.loss, w.crashes, w.delay, w.blind = 0, 0, 1, false
	clear(w.apart)
	for range 200 {
		w.pass()
		if w.one() {
			return true
		}
	}
	return false
}

func (w *world) one() bool {
	for _, x := range w.hosts {
		if x.m == nil || x.disk.State != Member || x.disk.Cluster != w.hosts[0].disk.Cluster || x.m.Waiting() != "" {
			return false
		}
	}
	return true
}

// lost says whether an ensemble was decided and has lost its majority: then waiting is right.
func (w *world) lost() bool {
	for id := range w.born {
		left := 0
		for _, p := range w.plans[id].Members {
			if h := w.at(p.Addr); h >= 0 && w.hosts[h].cfg.Self.ID == p.ID {
				left++
			}
		}
		if left <= len(w.plans[id].Members)/2 {
			return true
		}
	}
	return false
}

func (w *world) words() string {
	var b strings.Builder
	for _, x := range w.hosts {
		if x.m != nil {
			fmt.Fprintf(&b, "\n%s %016x: %v %v: %s", x.cfg.Self.Name, x.cfg.Self.ID, x.disk.State, x.disk.Cluster, x.m.Waiting())
		}
	}
	return b.String()
}

// group returns n hosts with the same flags.
func group(how How, n int) (cfgs []Config) {
	var list []Node
	for i := range n {
		list = append(list, Node{Name: fmt.Sprintf("n%d", i+1), Addr: fmt.Sprintf("h%d:2888", i+1)})
	}
	for _, self := range list {
		cfg := Config{Self: self, Label: "edge", How: how}
		if how == Initial {
			cfg.Peers = list
		} else {
			cfg.N = n
		}
		cfgs = append(cfgs, cfg)
	}
	return cfgs
}

// each runs a case for both ways of founding, N from 2 to 5, and many seeds.
func each(t *testing.T, f func(t *testing.T, seed uint64, cfgs []Config)) {
	t.Parallel()
	for _, how := range []How{Initial, Expect} {
		for n := 2; n <= 5; n++ {
			t.Run(fmt.Sprintf("%s/%d", map[How]string{Initial: "initial", Expect: "expect"}[how], n), func(t *testing.T) {
				for seed := uint64(1); seed <= *runsFlag/8; seed++ {
					if *seedFlag != 0 {
						seed = *seedFlag
					}
					f(t, seed, group(how, n))
					if t.Failed() || *seedFlag != 0 {
						t.Fatalf("seed %d", seed)
					}
				}
			})
		}
	}
}

// TestWithoutFaults: all nodes become members of the same ensemble, and soon.
func TestWithoutFaults(t *testing.T) {
	each(t, func(t *testing.T, seed uint64, cfgs []Config) {
		w := newWorld(t, seed, cfgs)
		if !w.heal() || len(w.born) != 1 || w.now > 20 {
			t.Errorf("after %d: %d ensembles%s", w.now, len(w.born), w.words())
		}
	})
}

// TestFaults: loss, delay, duplicates, partitions, and crashes before or after a write. When the
// faults end, all nodes become members of the same ensemble.
func TestFaults(t *testing.T) {
	each(t, func(t *testing.T, seed uint64, cfgs []Config) {
		w := newWorld(t, seed, cfgs)
		w.loss, w.delay, w.crashes, w.blind = w.rnd.Float64()/2, 1+w.rnd.IntN(20), w.rnd.Float64()/2, true
		for range 100 {
			w.pass()
			if w.rnd.IntN(10) == 0 {
				w.apart[w.rnd.IntN(len(cfgs))] = w.rnd.IntN(2)
			}
		}
		if !w.heal() {
			t.Errorf("no ensemble%s", w.words())
		}
	})
}

// TestHalves: while not all nodes are there, no ensemble is founded, and the nodes say whom they
// wait for.
func TestHalves(t *testing.T) {
	each(t, func(t *testing.T, seed uint64, cfgs []Config) {
		w := newWorld(t, seed, cfgs)
		w.apart[w.rnd.IntN(len(cfgs))] = 1
		for range 50 {
			w.pass()
		}
		for _, x := range w.hosts {
			if words := x.m.Waiting(); x.disk.State == Member || !strings.Contains(words, "the first start needs all nodes") {
				t.Errorf("%s is %v: %s", x.cfg.Self.Name, x.disk.State, words)
			}
		}
		if !w.heal() {
			t.Errorf("no ensemble%s", w.words())
		}
	})
}

// TestAWipedDisk: at any write of any node, before the decision or after it, its disk is lost and
// replaced by a new one, with other faults besides.
func TestAWipedDisk(t *testing.T) {
	each(t, func(t *testing.T, seed uint64, cfgs []Config) {
		w := newWorld(t, seed, cfgs)
		after := w.rnd.IntN(2*len(cfgs) + 1)
		w.wipes = func(*world, int, Record) bool { after--; return after < 0 }
		if seed%2 == 0 {
			w.loss, w.delay, w.crashes = w.rnd.Float64()/3, 1+w.rnd.IntN(10), w.rnd.Float64()/4
		}
		for range 60 {
			w.pass()
		}
		if !w.heal() && !w.lost() {
			t.Errorf("no ensemble%s", w.words())
		}
	})
}

// TestTheFoundersDiskIsLost: right after the proposer's promise, and right after its decision. The
// others give the plan up, or go on if one of them knows of the decision.
func TestTheFoundersDiskIsLost(t *testing.T) {
	each(t, func(t *testing.T, seed uint64, cfgs []Config) {
		w := newWorld(t, seed, cfgs)
		state := Promised + State(seed%2)
		w.wipes = func(w *world, h int, wrote Record) bool {
			id := w.hosts[h].cfg.Self.ID
			return wrote.State == state && (state == Member && len(w.born) == 1 || state == Promised && wrote.Plan.Proposer() == id)
		}
		if !w.heal() || w.wipes != nil {
			t.Errorf("no ensemble%s", w.words())
		}
		for _, x := range w.hosts {
			if plan := w.plans[x.disk.Cluster]; !plan.has(x.cfg.Self.ID) {
				t.Errorf("%s is no member of %v", x.cfg.Self.Name, plan)
			}
		}
	})
}

// TestListsThatOverlap: no ensemble is founded from lists that differ, and all nodes say so; once
// the lists are corrected, one is founded.
func TestListsThatOverlap(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= *runsFlag/8; seed++ {
		right := group(Initial, 4)
		wrong := group(Initial, 4)
		for i := range wrong { // each list leaves out one other node
			list := append([]Node{}, wrong[i].Peers...)
			out := (i + 1 + int(seed)%3) % 4
			wrong[i].Peers = append(list[:out], list[out+1:]...)
		}
		w := newWorld(t, seed, wrong)
		for range 50 {
			w.pass()
		}
		for h, x := range w.hosts {
			if x.disk.State == Member || !strings.Contains(x.m.Waiting(), "different list") {
				t.Fatalf("seed %d: %s is %v: %s", seed, x.cfg.Self.Name, x.disk.State, x.m.Waiting())
			}
			id, fresh := x.cfg.Self.ID, x.cfg.NewID
			x.cfg = right[h]
			x.cfg.Self.ID, x.cfg.NewID = id, fresh
			w.start(h)
		}
		if !w.heal() {
			t.Fatalf("seed %d: no ensemble%s", seed, w.words())
		}
	}
}

// TestTooManyAreExpected: of five blank nodes that expect three, none becomes a member while all
// five are seen. When only some are seen, two ensembles never come into being.
func TestTooManyAreExpected(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= *runsFlag; seed++ {
		cfgs := group(Expect, 5)
		for i := range cfgs {
			cfgs[i].N = 3
		}
		w := newWorld(t, seed, cfgs)
		if seed%2 == 0 {
			for range 50 {
				w.pass()
			}
			for _, x := range w.hosts {
				// In practice the first nodes to start see three for a moment; here none does.
				if x.disk.State == Member || !strings.Contains(x.m.Waiting(), "extra nodes") {
					t.Fatalf("seed %d: %s", seed, x.m.Waiting())
				}
			}
		}
		w.blind, w.loss, w.crashes = true, 0.2, 0.2
		for range 100 {
			for h := range w.apart {
				if w.rnd.IntN(10) == 0 {
					w.apart[h] = w.rnd.IntN(2)
				}
			}
			w.pass()
		}
	}
}

// TestJoin: a node that is started with --join never founds, and asks at each member once.
func TestJoin(t *testing.T) {
	t.Parallel()
	cfg := Config{Self: Node{1, "n1", "h1:2888"}, Label: "edge", How: Seeded, Peers: []Node{{Addr: "h2:2888"}, {Addr: "h3:2888"}}}
	m := New(cfg, Record{})
	for range 20 {
		got := m.Tick()
		if len(got) != 2 || got[0].(Send).Message.Kind != Hello || !strings.Contains(m.Waiting(), "h2:2888, h3:2888") {
			t.Fatalf("%v %s", got, m.Waiting())
		}
	}
	member := &Message{Kind: Answer, Label: "edge", From: Node{2, "n2", "h2:2888"}, State: Member, Cluster: ID{5}}
	other := *member
	other.Label = "another"
	if got := m.Answer(cfg.Peers[0], &other); len(got) != 0 {
		t.Errorf("%v", got)
	}
	for i, want := range []int{1, 1, 0} {
		got := m.Answer(cfg.Peers[i%2], member)
		if len(got) != want || want == 1 && got[0] != (Join{ID{5}, cfg.Peers[i%2].Addr}) {
			t.Errorf("%v", got)
		}
	}
	if !strings.Contains(m.Waiting(), "added to ensemble 05") {
		t.Error(m.Waiting())
	}
	if got := m.Request(&Message{Kind: Propose, Label: "edge", From: Node{ID: 1}, About: ID{7}, Plan: &Plan{ID{7}, []Node{{ID: 1}}}}); len(got) != 1 {
		t.Errorf("%v", got)
	}
	got := m.Joined(ID{5})
	if w, ok := got[0].(Write); !ok || w.Record.State != Member || w.Record.Cluster != (ID{5}) || w.Born != nil || m.Waiting() != "" {
		t.Errorf("%v %s", got, m.Waiting())
	}
	if m.Joined(ID{6}) != nil {
		t.Error("joined another")
	}
}

// TestJoinByGossip: the node that was named has another port than this one guesses, and gossip
// knows the port. If gossip shows two ensembles, neither is asked.
func TestJoinByGossip(t *testing.T) {
	t.Parallel()
	guess := Node{Addr: "h2:2888"}
	m := New(Config{Self: Node{1, "n1", "h1:2888"}, Label: "edge", How: Seeded, Peers: []Node{guess}}, Record{})
	self := Candidate{Node: Node{1, "n1", "h1:2888"}}
	member := Candidate{Node: Node{2, "n2", "h2:7101"}, State: Member, Cluster: ID{5}}
	for _, c := range []struct {
		name string
		seen []Candidate
		want []Node
	}{
		{"a member", []Candidate{self, member}, []Node{guess, member.Node}},
		{"the port that was guessed", []Candidate{self, {Node: Node{2, "n2", guess.Addr}, State: Member, Cluster: ID{5}}}, []Node{guess}},
		{"a node that waits too", []Candidate{self, {Node: Node{3, "n3", "h3:7101"}}}, []Node{guess}},
		{"two ensembles", []Candidate{self, member, {Node: Node{4, "n4", "h4:7101"}, State: Member, Cluster: ID{6}}}, []Node{guess}},
	} {
		m.Seen(c.seen)
		var asked []Node
		for _, e := range m.Tick() {
			asked = append(asked, e.(Send).To)
		}
		if !slices.Equal(asked, c.want) {
			t.Errorf("%s: asked %v, want %v", c.name, asked, c.want)
		}
	}
}
