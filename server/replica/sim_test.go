package replica_test

import (
	"container/heap"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"coord/server/replica"
)

var fromFlag = flag.Uint64("from", 1, "the first seed of the simulation; 0: by the clock")

var seedsFlag = flag.Int("seeds", 0, "how many seeds the simulations of whole clusters run; of ten or more they want to have seen every fault; 0: 10, and 3 over the real links")

// TestSimulation runs clusters in one goroutine: real replicas, whose turns, messages, clocks,
// disks and clients are events at virtual times. The seed decides them all, so that a seed is one
// history. The files sim_*_test.go have the nodes and their disks, the network between them,
// clients, their sessions and watches, faults, checkers, and the mutants that show that the
// checkers can fail.
func TestSimulation(t *testing.T) {
	runSeeds(t, 10, simulate, covered)
}

// runSeeds simulates one seed after another.
func runSeeds(t *testing.T, count int, simulate func(*testing.T, uint64, *mutant) *sim, covered []string) {
	first := firstSeed()
	if *seedsFlag != 0 {
		count = *seedsFlag
	}
	if *seedFlag != 0 {
		first, count = *seedFlag, 1
	}
	total := coverage{}
	began := time.Now()
	seed := first
	for ; seed < first+uint64(count) || count >= 10 && seed < first+uint64(count)+30 && total.lacks(covered) != ""; seed++ {
		s := simulate(t, seed, nil)
		total.add(s.seen)
		if s.failure != "" {
			t.Fatalf("%s\n%s\nagain: go test ./server/replica -run '^%s$' -seed %d", s.story(), s.failure, t.Name(), seed)
		}
	}
	t.Logf("%d seeds in %v: %s", seed-first, time.Since(began).Round(time.Millisecond), total)
	if what := total.lacks(covered); what != "" && count >= 10 {
		t.Errorf("no seed had any of: %s", what)
	}
}

func firstSeed() uint64 {
	if *fromFlag != 0 {
		return *fromFlag
	}
	return uint64(time.Now().UnixNano())
}

// TestASeedIsOneHistory: a failure can be reproduced.
func TestASeedIsOneHistory(t *testing.T) {
	for name, simulate := range map[string]func(*testing.T, uint64, *mutant) *sim{"plain": simulate, "over links": simulateOverLinks} {
		t.Run(name, func(t *testing.T) {
			seed := firstSeed()
			a, b := simulate(t, seed, nil), simulate(t, seed, nil)
			if a.trace.sum == b.trace.sum {
				return
			}
			for i := range min(len(a.trace.lines), len(b.trace.lines)) {
				if a.trace.lines[i] != b.trace.lines[i] {
					t.Errorf("%s\n%s", a.trace.lines[i], b.trace.lines[i])
					break
				}
			}
			t.Errorf("seed %d: traces %x and %x", seed, a.trace.sum, b.trace.sum)
		})
	}
}

// sim is the world of one seed.
type sim struct {
	*testing.T
	seed    uint64
	rnd     *rand.Rand
	mutant  *mutant // nil: none
	now     time.Duration
	events  timeline
	nodes   []*simNode // by id-1; includes removed ones
	net     network
	clients clients
	check   checker
	seen    coverage
	trace   trace
	failure string // the first one
	calm    bool   // no more faults
	// contested is the voter that restarts after each of its votes.
	contested *simNode
}

// A run has faults for this long, then calm until everything has settled.
const (
	simStorm = 60 * time.Second
	simCalm  = 20 * time.Second
)

var simEpoch = time.Unix(1_700_000_000, 0)

func simulate(t *testing.T, seed uint64, m *mutant) *sim {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	s := newSim(t, seed, m)
	s.net.init(s, newPlain(s))
	s.play()
	return s
}

func newSim(t *testing.T, seed uint64, m *mutant) *sim {
	return &sim{T: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), mutant: m, seen: coverage{}}
}

// play is a run from beginning to end.
func (s *sim) play() {
	s.Helper()
	s.check.init(s)
	voters := []uint64{1, 2, 3, 4, 5}
	switch s.rnd.IntN(6) {
	case 0:
		voters = voters[:1] // the cluster is to grow
	case 1, 2, 3:
		voters = voters[:3]
	}
	for range voters {
		s.addNode(voters)
	}
	for _, n := range s.nodes {
		n.start()
	}
	s.clients.init(s)
	s.planFaults()
	s.run(simStorm)
	s.heal()
	s.run(simStorm + simCalm)
	s.check.end()
}

// run processes events until a time, or a failure.
func (s *sim) run(until time.Duration) {
	for s.failure == "" {
		next := until
		if len(s.events) > 0 {
			next = min(next, s.events[0].at)
		}
		if s.net.await(next) {
			continue // what happened comes first
		}
		if len(s.events) == 0 || s.events[0].at > until {
			break
		}
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
		s.net.settle()
	}
	s.now = until
}

// after makes something happen later.
func (s *sim) after(d time.Duration, do func()) {
	s.trace.events++
	heap.Push(&s.events, event{s.now + d, s.trace.events, do})
}

// between returns a random duration.
func (s *sim) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rnd.Int64N(int64(most-least)+1))
}

func (s *sim) chance(percent int) bool { return s.rnd.IntN(100) < percent }

func (s *sim) fail(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf("seed %d at %v: ", s.seed, s.now) + fmt.Sprintf(format, args...)
	}
}

// note adds a line to the trace.
func (s *sim) note(format string, args ...any) {
	s.trace.add(fmt.Sprintf("%12v ", s.now) + fmt.Sprintf(format, args...))
}

// story returns the end of the trace.
func (s *sim) story() string {
	lines := s.trace.lines
	if len(lines) > 300 {
		lines = lines[len(lines)-300:]
	}
	return strings.Join(lines, "\n")
}

// timeline orders events by time, and those at the same time by when they were planned.
type timeline []event

type event struct {
	at     time.Duration
	number int
	do     func()
}

func (t timeline) Len() int { return len(t) }
func (t timeline) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].number < t[j].number
}
func (t timeline) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timeline) Push(x any)   { *t = append(*t, x.(event)) }
func (t *timeline) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last] = event{}
	*t = (*t)[:last]
	return x
}

// trace records what happened, with a hash of it.
type trace struct {
	lines  []string
	sum    uint64
	events int
}

func (t *trace) add(line string) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%x %d %s", t.sum, t.events, line)
	t.sum = h.Sum64()
	t.lines = append(t.lines, line)
}

// coverage counts what happened.
type coverage map[string]int

var covered = []string{"elections", "floors told", "crashes", "restarts", "restless elections", "contested elections", "partitions", "one-way partitions", "broken links", "pauses", "slow disks",
	"transfers", "hand-overs", "learners", "promotions", "joint changes", "removals", "changes refused", "snapshots", "snapshots installed",
	"installations cut short", "installations ended by a start", "clock steps",
	"sessions opened", "sessions moved", "sessions expired", "sessions closed", "reports of sessions", "old connections ended", "writes of old attachments refused",
	"nodes behind a client", "ephemerals", "ephemerals removed with their session",
	"watches armed", "watches fired", "watches re-armed after a move", "watches fired after a move", "events caught up after a move", "watches whose past is forgotten", "outboxes cut",
	"writes", "forwarded writes", "lin reads", "reads", "uncertain", "no leader", "streams refused", "messages lost", "large messages lost", "messages twice",
	"transactions", "transactions refused", "groups read", "sequential znodes",
	"containers", "containers deleted", "TTL znodes deleted", "TTL znodes that a child kept",
	"recursive watches armed", "events below a recursive watch", "events of recursive watches caught up"}

func (c coverage) add(other coverage) {
	for what, n := range other {
		c[what] += n
	}
}

// lacks returns something that has not happened.
func (c coverage) lacks(covered []string) string {
	for _, what := range covered {
		if c[what] == 0 {
			return what
		}
	}
	return ""
}

func (c coverage) String() string {
	var parts []string
	for what := range c {
		parts = append(parts, what)
	}
	slices.Sort(parts)
	for i, what := range parts {
		parts[i] = fmt.Sprintf("%d %s", c[what], what)
	}
	return strings.Join(parts, ", ")
}

var _ replica.Peers = (*simPeers)(nil)
