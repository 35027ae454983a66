package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"coord/server/replica"
	"coord/server/session"
	"coord/server/watch"
	"coord/tree"
	"coord/wal"
)

// simNode is one machine: its disk, and while it is up, a replica on it.
type simNode struct {
	*sim
	id       uint64
	log      *memLog
	snaps    *simSnaps
	r        *replica.Replica // nil: down
	turns    []func() (bool, error)
	planned  [4]bool // turns that are planned
	asleep   int     // ticks that the loop has not made up for yet
	life     int
	boot     uint64        // the number of its starts, as its disk says
	joining  bool          // not a member yet, and without a replica: see sim_links_join_test.go
	gone     bool          // out of the cluster for good
	replaces []uint64      // the nodes that it is to replace
	paused   time.Duration // it takes no turn before then
	slow     time.Duration // the log writer takes no turn before then
	txns     int           // between snapshots
	wall     time.Duration // how wrong its clock was set
	keeper   *session.Keeper
	inbox    []func() // what it has not taken yet while paused: see receive

	lastWritten, unwritten uint64 // for mutants: the first entry of the last write, and the first that was not written

	reign  reign         // as its loop last reported
	steady time.Duration // since when it has been up with that reign
	leads  time.Duration // when its current or last leadership began
}

type reign struct{ term, leader uint64 }

// The parts of a replica, as Turns has them.
const (
	loopPart = iota
	logPart
	applierPart
	snapshotPart
)

// addNode makes a machine of the initial cluster or, without voters, a blank one.
func (s *sim) addNode(voters []uint64) *simNode {
	n := &simNode{sim: s, id: uint64(len(s.nodes) + 1), txns: 20 + s.rnd.IntN(150)}
	n.log, n.snaps = &memLog{faults: map[string]fault{}}, &simSnaps{s: s}
	if voters != nil {
		n.log = newMemLog()
		n.snaps.saved = []savedState{{at: replica.Point{Index: 1, Term: 1, Voters: slices.Clone(voters)}, f: tree.New().Freeze()}}
	} else {
		n.snaps.saved = []savedState{{f: tree.New().Freeze()}}
	}
	n.log.lies = s.mutant.is(noFsync)
	s.nodes = append(s.nodes, n)
	return n
}

// start runs a replica on what the disk has.
func (n *simNode) start() {
	if n.r != nil || n.gone || n.joining {
		return
	}
	n.life++
	n.boot++
	n.planned, n.asleep = [4]bool{}, 0
	n.snaps.adopt(n.log.seen.base)
	newest := n.snaps.saved[len(n.snaps.saved)-1]
	hard := n.log.seen.recovered()
	if n.mutant.is(forgetVote) && n.life > 1 {
		hard.Vote = 0
	}
	if n.mutant.is(applyAll) {
		hard.Commit = n.log.seen.last()
	}
	var log replica.Log = n.log
	if n.mutant != nil {
		log = &brokenLog{n.log, n}
	}
	life := n.life
	r, err := replica.New(replica.Config{
		NodeID: n.id, Tree: rebuild(n.T, newest.f), Start: newest.at, HardState: hard, Log: log, Snapshots: n.snaps,
		SnapshotTxns: n.txns, SnapshotBytes: 1 << 30, Settings: tree.DefaultSettings, Logger: zerolog.Nop(),
		Now:   n.wallClock,
		Peers: &simPeers{n, life}, Received: n.snaps, SyncTicks: 60, Changed: func() { n.net.changed(n) },
		Replaced: func(t *tree.Tree, table *watch.Table) {
			n.seen["snapshots installed"]++
			n.note("%d has installed a snapshot", n.id)
			n.clients.replaced(n, t, table)
		},
	})
	if err != nil {
		n.fail("node %d does not start: %v", n.id, err)
		return
	}
	n.r, n.turns = r, replica.Turns(r)
	turnLoop := n.turns[loopPart]
	n.turns[loopPart] = func() (bool, error) {
		replica.Pass(r, n.asleep)
		n.asleep = 0
		return turnLoop()
	}
	n.reign, n.steady, n.inbox = reign{}, n.now, nil
	n.keeper = session.New(session.Config{Replica: keeping{n}, Ensemble: &simPeers{n, life}, ContainerInterval: n.containerInterval(),
		Logger: zerolog.Nop(), Now: n.monotonicClock})
	n.keepLater(life)
	n.check.started(n)
	n.note("%d starts on snapshot %d, last entry %d, %+v", n.id, newest.at.Index, n.log.seen.last(), hard)
	n.tickLater(life)
	for part := range n.turns {
		n.plan(part)
	}
	n.net.started(n)
}

// wallClock is the time that the node's host shows.
func (n *simNode) wallClock() time.Time {
	return simEpoch.Add(n.now + n.wall + time.Duration(n.id)*300*time.Millisecond)
}

// monotonicClock begins elsewhere on each node, and is never set.
func (n *simNode) monotonicClock() time.Time {
	if n.mutant.is(wallExpiry) {
		return n.wallClock()
	}
	return simEpoch.Add(n.now + time.Duration(n.id)*time.Hour)
}

// tickLater is the node's clock. It runs a little fast or slow, and the node's loop sleeps over ticks as
// Run's does.
func (n *simNode) tickLater(life int) {
	n.after(n.between(48*time.Millisecond, 52*time.Millisecond), func() {
		if n.r == nil || n.life != life {
			return
		}
		if n.asleep++; n.now >= n.paused && n.asleep >= replica.Rest(n.r) {
			n.plan(loopPart)
		}
		n.tickLater(life)
	})
}

// wake plans a turn for each part that has something to do.
func (n *simNode) wake() {
	if n.r == nil {
		return
	}
	for part, waits := range replica.Waits(n.r) {
		if waits {
			n.plan(part)
		}
	}
}

func (n *simNode) plan(part int) {
	if n.r == nil || n.planned[part] {
		return
	}
	n.planned[part] = true
	delay := n.between(0, 500*time.Microsecond)
	switch {
	case part == logPart:
		delay = n.between(0, 4*time.Millisecond)
		if n.slow > n.now {
			delay += n.between(0, n.slow-n.now)
		}
	case part == snapshotPart:
		delay = n.between(0, 50*time.Millisecond)
	case n.rnd.IntN(50) == 0:
		delay = n.between(0, 20*time.Millisecond)
	}
	delay = max(delay, n.paused-n.now)
	life := n.life
	n.after(delay, func() {
		if n.life != life || n.r == nil {
			return
		}
		n.planned[part] = false
		n.turn(part)
	})
}

func (n *simNode) turn(part int) {
	if n.paused > n.now {
		n.plan(part)
		return
	}
	worked, err := n.guard(n.turns[part])
	if errors.Is(err, errCrashed) {
		n.crashFor(n, n.between(time.Millisecond, time.Second))
		return
	}
	if errors.Is(err, replica.ErrOlder) {
		n.net.isOlder(n, err)
		return
	}
	if err != nil {
		n.fail("node %d, part %d: %v", n.id, part, err)
		return
	}
	if n.failure != "" {
		return
	}
	if worked && part == applierPart && n.chance(1) {
		switch n.mutant {
		case applyTwice:
			replica.ApplyAgain(n.r)
		case ownClock:
			replica.ApplyOwn(n.r, n.now.Milliseconds())
		}
	}
	if n.mutant.is(toldSent) && worked && part == loopPart && !n.calm && n.chance(20) {
		replica.TellSent(n.r)
	}
	if part == logPart {
		n.net.wrote(n)
	}
	n.check.turned(n, part)
	if worked {
		n.wake()
	}
}

// guard turns a panic into a finding.
func (n *simNode) guard(turn func() (bool, error)) (worked bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return turn()
}

// crash ends a life, sometimes while the log writer is at work.
func (n *simNode) crash() {
	if n.r == nil {
		return
	}
	if !n.snaps.cut && n.chance(50) {
		n.log.failAt("sync", 1, errCrashed)
		_, _ = n.guard(n.turns[logPart])
	}
	n.log = n.log.crash(n.rnd)
	n.loseMore()
	n.log.lies = n.mutant.is(noFsync)
	n.snaps.received, n.snaps.cut = nil, false
	n.r, n.turns, n.keeper, n.inbox = nil, nil, nil, nil
	n.seen["crashes"]++
	n.note("%d crashes, keeps entries up to %d, %+v", n.id, n.log.seen.last(), n.log.seen.recovered())
	n.net.crashed(n)
	n.clients.crashed(n)
}

// end ends a node for good.
func (n *simNode) end() {
	n.gone = true
	n.crash()
}

// simSnaps is a node's folder of snapshots: its contents are durable.
type simSnaps struct {
	s        *sim
	saved    []savedState
	waiting  []savedState // durable; one becomes this node's if the log begins there
	received []savedState // loaded, not durable yet
	before   *tree.Frozen // for a mutant: the state frozen for the snapshot before
	cut      bool         // the machine crashes in the midst of an installation
}

func (d *simSnaps) Save(_ context.Context, at replica.Point, f *tree.Frozen) (uint64, error) {
	if len(at.Outgoing)+len(at.Next) > 0 {
		d.s.fail("a snapshot in the midst of a change of members: %+v", at)
	}
	d.s.seen["snapshots"]++
	x := savedState{at: at, f: f}
	switch d.s.mutant {
	case mixedSnapshot:
		if d.before != nil {
			x.f = d.before
		}
		d.before = f
	case indexBehind:
		x.at.Index--
	}
	d.keep(x)
	return d.saved[0].at.Index + 1, nil
}

func (d *simSnaps) keep(x savedState) {
	d.saved = append(slices.Clone(d.saved), x)
	slices.SortStableFunc(d.saved, func(a, b savedState) int { return int(int64(a.at.Index) - int64(b.at.Index)) })
	d.saved = d.saved[max(0, len(d.saved)-2):]
}

func (d *simSnaps) Install(at replica.Point) (*tree.Tree, error) {
	x, ok := find(d.received, at.Index, at.Term)
	if !ok {
		return nil, fmt.Errorf("nothing was received for %+v", at)
	}
	if d.s.mutant.is(firstReceived) {
		x.f = d.received[0].f
	}
	if !d.s.mutant.is(lateSnapshot) {
		d.waiting = append(d.waiting, x)
	}
	return rebuild(d.s.T, x.f), d.mayGoDown()
}

func (d *simSnaps) Installed(at replica.Point) error {
	if err := d.mayGoDown(); err != nil {
		return err
	}
	if x, ok := find(d.waiting, at.Index, at.Term); ok {
		d.keep(x)
	}
	d.waiting = nil
	return nil
}

func (*simSnaps) Unwanted(uint64) {}

// mayGoDown sometimes ends a life between two steps of an installation.
func (d *simSnaps) mayGoDown() error {
	if d.cut = !d.s.calm && d.s.chance(15); d.cut {
		d.s.seen["installations cut short"]++
		return errCrashed
	}
	return nil
}

// adopt does what a start does with waiting snapshots.
func (d *simSnaps) adopt(base wal.Position) {
	if x, ok := find(d.waiting, base.Index, base.Term); ok && base.Index > d.saved[len(d.saved)-1].at.Index {
		d.s.seen["installations ended by a start"]++
		d.keep(x)
	}
	d.waiting = nil
}

func find(all []savedState, index, term uint64) (savedState, bool) {
	for _, x := range all {
		if x.at.Index == index && x.at.Term == term {
			return x, true
		}
	}
	return savedState{}, false
}
