package replica_test

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	mathrand "math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

// TestSimulationOverLinks runs the clusters, clients, faults and checkers of TestSimulation, but
// what nodes send to each other goes through package peer, as bytes. Its goroutines live in a
// bubble of virtual time, which is the simulation's time too. After each event that may wake some
// of them the simulation waits until all are idle again. What they did meanwhile (writes, dials,
// calls of their handler) is put into an order that does not depend on the scheduler, and only then
// takes effect: so a seed is one history here as well. sim_links_node_test.go has the nodes' side,
// sim_links_conn_test.go the connections, sim_links_fault_test.go the faults,
// sim_links_check_test.go the promises of the links.
func TestSimulationOverLinks(t *testing.T) {
	runSeeds(t, 3, simulateOverLinks, coveredOverLinks)
}

func simulateOverLinks(t *testing.T, seed uint64, m *mutant) (s *sim) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s = newSim(t, seed, m)
		w := newLinked(s)
		cryptotest.SetGlobalRandom(t, seed) // and restores what is set next
		rand.Reader = &w.random
		defer w.end()
		s.net.init(s, w)
		w.planFaults()
		w.planDisks()
		s.play()
		w.rested()
	})
	return s
}

// linked is the carrier that uses the links of package peer.
type linked struct {
	*sim
	began      time.Time
	clock      *time.Timer
	random     eventRandom
	stations   []*station // by id-1: of the node's current or last life
	ghosts     []*station // see sim_links_fault_test.go
	dark       []bool     // by id-1: the machine has no power, so that nothing answers at its address
	conns      []*connection
	dialled    int                     // connections made
	flows      map[arrow]*flow         // see sim_links_check_test.go
	hindered   map[arrow]time.Duration // until when something was in the way
	held       map[arrow]*item         // a mutant's
	asked      int                     // questions asked
	inquiries  map[uint64]*inquiry     // under mu, like the next field
	lastAnswer []byte                  // a mutant's
	voted      map[uint64]uint64       // nodes that ever had a vote, with the index of the members that gave it
	removed    map[uint64]bool         // by a change of members
	disks      map[uint64]*disks       // see sim_links_older_test.go

	stir chan struct{} // holds a token while there are deeds
	mu   sync.Mutex    // guards deeds, and the fields of sockets and stations that goroutines change
	did  []deed
}

// deed is something that a goroutine of a node's links did and that has no effect yet.
type deed struct {
	node, peer uint64
	kind       int
	conn       int
	do         func()
}

// Kinds of deeds. Deeds of one kind, node, peer and connection come from one goroutine, in its order.
const (
	deedUpDown = iota
	deedMessage
	deedSnapshot
	deedRefused
	deedAdmit
	deedRequest
	deedAnswer
	deedWrite
	deedClose
	deedDial
)

func newLinked(s *sim) *linked {
	w := &linked{sim: s, began: time.Now(), clock: time.NewTimer(time.Hour), flows: map[arrow]*flow{}, hindered: map[arrow]time.Duration{},
		held: map[arrow]*item{}, removed: map[uint64]bool{}, voted: map[uint64]uint64{}, inquiries: map[uint64]*inquiry{}, disks: map[uint64]*disks{}, stir: make(chan struct{}, 1)}
	w.random.seed, w.random.asked = s.seed, map[string]*mathrand.ChaCha8{}
	return w
}

// put records a deed of some links; those of a dead station do nothing. Any goroutine may call it.
func (w *linked) put(st *station, d deed) {
	w.mu.Lock()
	if !st.dead {
		w.did = append(w.did, d)
	}
	w.mu.Unlock()
	select {
	case w.stir <- struct{}{}:
	default:
	}
}

// await lets time pass until a goroutine does something of its own accord.
func (w *linked) await(until time.Duration) bool {
	w.random.next()
	if d := until - time.Since(w.began); d > 0 {
		w.clock.Reset(d)
		select {
		case <-w.clock.C:
		case <-w.stir:
		}
		synctest.Wait()
		w.now = time.Since(w.began)
	}
	return w.takeEffect()
}

// settle makes the deeds that an event has caused take effect. A turn may wake goroutines, by
// answering what a request waits for.
func (w *linked) settle() {
	synctest.Wait()
	w.takeEffect()
}

// takeEffect says whether there was any deed. A deed that wakes goroutines waits for them.
func (w *linked) takeEffect() (any bool) {
	for {
		w.mu.Lock()
		did := w.did
		w.did = nil
		w.mu.Unlock()
		if len(did) == 0 {
			return any
		}
		select {
		case <-w.stir:
		default:
		}
		slices.SortStableFunc(did, func(a, b deed) int {
			return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.peer, b.peer), cmp.Compare(a.kind, b.kind), cmp.Compare(a.conn, b.conn))
		})
		for _, d := range did {
			d.do()
		}
		any = true
	}
}

// end stops everything that runs.
func (w *linked) end() {
	for _, st := range slices.Concat(w.stations, w.ghosts) {
		st.stop()
	}
	w.clock.Stop()
}

// eventRandom is the source of random bytes. They differ from event to event, and are the same for
// each goroutine that asks because of one event, so that nothing depends on which asks first.
type eventRandom struct {
	mu    sync.Mutex
	seed  uint64
	event uint64
	asked map[string]*mathrand.ChaCha8 // by goroutine
}

func (r *eventRandom) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event++
	clear(r.asked)
}

func (r *eventRandom) Read(b []byte) (int, error) {
	stack := make([]byte, 32)
	who := string(bytes.Fields(stack[:runtime.Stack(stack, false)])[1]) // goroutine N [running]
	r.mu.Lock()
	defer r.mu.Unlock()
	bytes := r.asked[who]
	if bytes == nil {
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], r.seed)
		binary.LittleEndian.PutUint64(seed[8:], r.event)
		bytes = mathrand.NewChaCha8(seed)
		r.asked[who] = bytes
	}
	return bytes.Read(b)
}
