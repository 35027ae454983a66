package replica_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"coord/server/admission"
	"coord/server/peer"
	"coord/server/replica"
	"coord/snapshot"
)

// station is a node's links in one of its lives, and their handler: it takes the place of package
// server's ensemble and steward. As there, package admission decides who may link with it, and what
// it makes of refusals.
type station struct {
	w        *linked
	n        *simNode
	ghost    bool // not a life of the node, but an old copy of it
	links    *peer.Links
	listener *listener
	replica  atomic.Pointer[replica.Replica] // nil while the node joins
	ctx      context.Context
	cancel   func()
	ran      chan struct{} // closed when Run has returned
	up       map[uint64]time.Duration
	// Until lateUntil it dials other nodes later than they dial it.
	lateUntil time.Duration

	// See sim_links_join_test.go.
	named   map[uint64]bool          // peers named to the links
	told    []uint64                 // members at some time, as others have said
	lastAsk time.Duration            // the last question of a member that wants a vote, or is lost
	led     time.Duration            // when it last had a leader
	caught  map[uint64]time.Duration // learners that have caught up, with the time since when

	// Under linked.mu.
	dead       bool
	index      uint64 // of the log's last entry
	arriving   map[uint64]*arrival
	knew       map[uint64]known // what was known of each node when it last dialled
	applicants map[uint64]applicant
}

// known is what a node knew of another one when that one dialled.
type known struct {
	floor, term uint64
	removed     bool
}

// arrival is a snapshot that is arriving.
type arrival struct {
	bytes   int64
	resumed bool
}

const simSecret = "the secret of a simulated cluster"

var simCluster = [16]byte{1}

func addressOf(id uint64) string { return fmt.Sprintf("n%d:2888", id) }

func idOf(address string) (id uint64) {
	if _, err := fmt.Sscanf(address, "n%d:2888", &id); err != nil {
		panic(err)
	}
	return id
}

// newStation makes links and runs them.
func (w *linked) newStation(n *simNode, boot uint64, ghost bool) *station {
	st := &station{w: w, n: n, ghost: ghost, ran: make(chan struct{}), up: map[uint64]time.Duration{}, arriving: map[uint64]*arrival{},
		named: map[uint64]bool{}, caught: map[uint64]time.Duration{}, knew: map[uint64]known{}, applicants: map[uint64]applicant{}}
	st.ctx, st.cancel = context.WithCancel(context.Background())
	st.see()
	cfg := peer.Config{
		Self:        peer.Identity{Node: n.id, Boot: boot, Name: fmt.Sprintf("n%d", n.id)},
		ClusterName: "simulated", Secret: peer.Secret(simSecret), Handler: st, Position: st.position, Floor: st.floor, Admit: st.admit,
		Dial: st.dial, Logger: zerolog.Nop(),
	}
	if w.letsOlderIn() && !ghost {
		cfg.Self.Boot = uint64(n.life)
	}
	if n.r != nil {
		st.replica.Store(n.r)
		cfg.Self.Cluster = simCluster
	}
	if !ghost {
		st.listener = newListener(addressOf(n.id))
		cfg.Listen = st.listener
	}
	if w.chance(30) {
		cfg.SnapshotRate = 1 << 20
	}
	var err error
	if st.links, err = peer.New(cfg); err != nil {
		w.Fatal(err)
	}
	st.name()
	go func() {
		defer close(st.ran)
		_ = st.links.Run(st.ctx) // the listener fails only at the end
	}()
	synctest.Wait()
	return st
}

// makeRoom makes room for the station of a node.
func (w *linked) makeRoom(id uint64) {
	for len(w.stations) < int(id) {
		w.stations, w.dark = append(w.stations, nil), append(w.dark, false)
	}
}

// open begins a life of a node's station.
func (w *linked) open(n *simNode) *station {
	w.makeRoom(n.id)
	w.dark[n.id-1] = false
	st := w.newStation(n, n.boot, false)
	w.stations[n.id-1] = st
	return st
}

func (w *linked) started(n *simNode) {
	w.makeRoom(n.id)
	st := w.stations[n.id-1]
	if st != nil && !st.isDead() { // it has joined just now
		st.see()
		st.replica.Store(n.r)
		st.links.SetCluster(simCluster)
		st.look()
	} else {
		st = w.open(n)
	}
	st.lookLater()
}

func (w *linked) wrote(n *simNode) { w.stations[n.id-1].see() }

// crashed ends a life: the process has ended, or the machine has lost power.
func (w *linked) crashed(n *simNode) {
	st := w.stations[n.id-1]
	st.stop()
	power := w.chance(30)
	w.dark[n.id-1] = power
	for _, c := range w.live() {
		for side, s := range c.ends {
			if s.st == st {
				c.died(side, power)
			}
		}
	}
}

// stop ends the links at once: nothing that they still do has any effect.
func (st *station) stop() {
	if st == nil || st.isDead() {
		return
	}
	stats := st.links.Stats()
	seen := st.w.seen
	seen["messages lost"] += int(stats.Dropped)
	seen["links replaced"] += int(stats.Replaced)
	seen["damage found"] += int(stats.Damaged)
	seen["queues overflowed"] += min(1, int(stats.Unforwarded))
	st.w.mu.Lock()
	st.dead = true
	for _, c := range st.w.conns {
		for _, s := range c.ends {
			if s.st == st {
				s.dead = true
				s.broadcast()
			}
		}
	}
	st.w.mu.Unlock()
	st.cancel()
	<-st.ran
	synctest.Wait()
}

func (st *station) isDead() bool {
	st.w.mu.Lock()
	defer st.w.mu.Unlock()
	return st.dead
}

// see records where the node's log ends.
func (st *station) see() {
	last := st.n.log.seen.last()
	st.w.mu.Lock()
	defer st.w.mu.Unlock()
	st.index = last
}

func (st *station) position() (index, term uint64) {
	st.w.mu.Lock()
	index = st.index
	st.w.mu.Unlock()
	if r := st.replica.Load(); r != nil {
		term = r.Status().Term
	}
	return index, term
}

// floor is peer.Config.Floor, which is called before anything else.
func (st *station) floor(node uint64) (index, term uint64) {
	r := st.replica.Load()
	if r == nil {
		return 0, 0
	}
	index, term = r.Floor(node)
	st.w.mu.Lock()
	st.knew[node] = known{floor: index, term: term}
	st.w.mu.Unlock()
	if st.w.letsOlderIn() {
		return 0, 0
	}
	return index, term
}

func (st *station) admit(theirs peer.Hello) *peer.Refusal {
	st.put(theirs.Node, deedAdmit, func() {}) // it may have asked the loop something
	r := st.replica.Load()
	if r != nil && slices.Contains(r.Status().Members.Removed, theirs.Node) {
		st.w.mu.Lock()
		k := st.knew[theirs.Node]
		k.removed = true
		st.knew[theirs.Node] = k
		st.w.mu.Unlock()
	}
	if st.w.letsOlderIn() || st.w.mutant.is(removedAdmitted) {
		return nil
	}
	return admission.Admit(st.ctx, r, st.isHeard, theirs)
}

// letsOlderIn says whether a mutant makes this node ignore how old a disk is.
func (w *linked) letsOlderIn() bool { return w.mutant.is(olderAdmitted) || w.mutant.is(olderVotes) }

func (st *station) isHeard(node uint64) bool {
	return slices.ContainsFunc(st.links.Stats().Peers, func(p peer.PeerStats) bool { return p.Node == node && p.Inbound })
}

// put records a deed of this node that concerns another one.
func (st *station) put(from uint64, kind int, do func()) {
	st.w.put(st, deed{st.n.id, from, kind, 0, func() {
		if !st.isDead() && !st.ghost && st.n.r != nil {
			do()
			st.n.wake()
		}
	}})
}

// Raft and the methods below are peer.Handler.
func (st *station) Raft(from uint64, msgs []*raftpb.Message) {
	st.put(from, deedMessage, func() {
		for _, m := range msgs {
			st.w.come(st, from, item{m: m})
		}
	})
}

func (st *station) Forward(from uint64, kind byte, b []byte) {
	st.put(from, deedMessage, func() { st.w.come(st, from, item{kind: kind, b: b}) })
}

func (st *station) Up(node uint64, theirs peer.Hello) {
	st.put(node, deedUpDown, func() {
		st.n.note("%d can reach %d in its boot %d", st.n.id, node, theirs.Boot)
		st.wasAdmitted(node)
		st.up[node] = st.n.now
		st.w.flow(st.n.id, node).begin()
		st.n.r.PeerUp(node)
	})
}

func (st *station) Down(node uint64, certain bool) {
	st.put(node, deedUpDown, func() {
		st.n.note("%d has lost %d, certain %t", st.n.id, node, certain)
		st.n.seen["broken links"]++
		if certain {
			st.n.seen["certain losses"]++
		}
		delete(st.up, node)
		st.w.flow(st.n.id, node).up = false
		st.n.r.PeerDown(node, certain)
	})
}

// Refused reports refusals by this node and by others.
func (st *station) Refused(r *peer.Refusal) {
	w, n, said := st.w, st.n, *r
	w.put(st, deed{n.id, said.Theirs.Node, deedRefused, 0, func() {
		switch {
		case st.isDead() || st.ghost || st.replica.Load() == nil:
		case said.Ours:
			w.note("%d refuses %d: %v", n.id, said.Theirs.Node, said.Code)
			w.seen["refused: "+said.Code.String()]++
			switch d := w.disks[said.Theirs.Node]; {
			case said.Code == peer.CodeBoot:
				w.seen["old boots refused"]++
			case said.Code == peer.CodeBehind && (d == nil || d.put == 0) && said.Theirs.Boot == w.node(said.Theirs.Node).boot:
				w.fail("%d takes %d for an older copy: %s", n.id, said.Theirs.Node, said.Text)
			}
		default:
			w.wasRefused(n, &said)
		}
	}})
}

func (w *linked) raft(p *simPeers, m *raftpb.Message) {
	if w.chance(w.net.lossy) && !w.calm {
		w.seen["messages lost"]++ // as if the queue were full
		return
	}
	st := w.stations[p.id-1]
	w.flow(p.id, m.GetTo()).add(item{m: m})
	st.links.Raft([]*raftpb.Message{m})
	synctest.Wait() // each message goes alone, unless an earlier one is in the way
}

func (w *linked) forward(p *simPeers, to uint64, kind byte, b []byte) {
	st := w.stations[p.id-1]
	b = slices.Clone(b)
	w.flow(p.id, to).add(item{kind: kind, b: b})
	st.links.Forward(to, kind, b)
	synctest.Wait()
}

// snapshot sends a snapshot as the file that it would be, after some bytes that make it larger. The
// descriptor has their number and raft's message.
func (w *linked) snapshot(p *simPeers, m *raftpb.Message) {
	at := replica.PointOf(m.GetSnapshot())
	to := m.GetTo()
	x, found := find(p.snaps.saved, at.Index, at.Term)
	if !found {
		w.after(w.between(0, 10*time.Millisecond), func() { p.reportSnapshot(to, false) })
		return
	}
	padding := 0
	if w.chance(50) {
		padding = w.rnd.IntN(1 << 20)
	}
	file := bytes.NewBuffer(make([]byte, padding))
	if _, err := snapshot.Write(file, snapshot.Meta{RaftIndex: at.Index, RaftTerm: at.Term, Codec: snapshot.Plain}, x.f, snapshot.Options{}); err != nil {
		w.Fatal(err)
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		w.Fatal(err)
	}
	h := peer.SnapshotHeader{Index: at.Index, Term: at.Term, Size: int64(file.Len()), Descriptor: append(binary.BigEndian.AppendUint32(nil, uint32(padding)), body...)}
	st := w.stations[p.id-1]
	go func() { // ends with the station
		err := st.links.SendSnapshot(st.ctx, to, h, bytes.NewReader(file.Bytes()))
		st.put(to, deedSnapshot, func() {
			w.note("%d has sent snapshot %d to %d: %t", p.id, at.Index, to, err == nil)
			p.reportSnapshot(to, err == nil)
		})
	}()
	synctest.Wait()
}

// Snapshot takes a snapshot: raft gets its message when the snapshot is complete, verified and
// loaded.
func (st *station) Snapshot(ctx context.Context, from uint64, h peer.SnapshotHeader, r io.Reader) error {
	if st.ghost || len(h.Descriptor) < 4 {
		return errors.New("not here")
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(h.Descriptor[4:], m); err != nil {
		return err
	}
	a := &arrival{}
	st.w.mu.Lock()
	st.arriving[from] = a
	st.w.mu.Unlock()
	r = io.TeeReader(r, &arrivalCounter{st, a})
	padding := make([]byte, binary.BigEndian.Uint32(h.Descriptor))
	if _, err := io.ReadFull(r, padding); err != nil {
		return err
	}
	if slices.ContainsFunc(padding, func(b byte) bool { return b != 0 }) {
		return errors.New("padded with something else")
	}
	t, meta, _, err := snapshot.Read(r)
	switch {
	case err != nil:
		return err
	case meta.RaftIndex != h.Index || meta.RaftTerm != h.Term:
		return errors.New("another snapshot")
	}
	taken := make(chan struct{})
	st.put(from, deedSnapshot, func() {
		if a.resumed {
			st.n.seen["snapshots resumed"]++
		}
		st.n.snaps.received = append(st.n.snaps.received, savedState{at: replica.PointOf(m.GetSnapshot()), f: t.Freeze()})
		st.n.r.StepRaft(from, []*raftpb.Message{m})
		close(taken)
		synctest.Wait()
	})
	select {
	case <-taken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// arrivalCounter counts the bytes of a snapshot that have arrived.
type arrivalCounter struct {
	st *station
	a  *arrival
}

func (c *arrivalCounter) Write(b []byte) (int, error) {
	c.st.w.mu.Lock()
	defer c.st.w.mu.Unlock()
	c.a.bytes += int64(len(b))
	return len(b), nil
}

// freeSince returns since when nothing has been in the way from one node to the other.
func (w *linked) freeSince(a arrow) (time.Duration, bool) {
	since, up := w.stations[a.from-1].up[a.to]
	back := arrow{a.to, a.from}
	if !up || w.net.blocked[a] > 0 || w.net.blocked[back] > 0 {
		return 0, false
	}
	for _, c := range w.live() {
		if c.isBetween(a.from, a.to) && c.mute {
			return 0, false
		}
	}
	return max(since, w.hindered[a], w.hindered[back]), true
}

func (*linked) separated(arrow) {} // no node learns of it
