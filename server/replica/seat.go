package replica

import "sync"

// seat is where a part of the replica is driven from: its own goroutine, or one that
// brings it something while nobody drives it. That spares waking the first, which
// costs more than most turns.
type seat struct {
	sync.Mutex       // held by who drives, and while the replica does not run
	err        error // of a turn on another goroutine; it ends Run
}

// await takes a turn when nobody else is at it: the part's own goroutine does. Behind an
// error there are no turns any more.
func (s *seat) await(turn func() (worked bool, err error)) (worked bool, err error) {
	s.Lock()
	defer s.Unlock()
	if s.err == nil {
		worked, s.err = turn()
	}
	return worked, s.err
}

// take takes a turn here and now. It says no if somebody else is at it: then the
// part's own goroutine must be woken, and so it must after an error.
func (s *seat) take(turn func() (worked bool, err error)) bool {
	if !s.TryLock() {
		return false
	}
	defer s.Unlock()
	if s.err == nil {
		_, s.err = turn()
	}
	return s.err == nil
}

// drive has the loop take its turn, here if nobody is at it. But while submissions wait
// their senders are many, and more are about to come: on its own goroutine the
// loop takes them all at once. The caller holds no lock that the loop might want.
func (r *Replica) drive() {
	turn := func() (bool, error) {
		r.passTime()
		worked, err := r.turnLoop()
		if at, planned := r.nextTick(), r.core.wakeAt; !at.IsZero() && (planned.IsZero() || at.Before(planned)) {
			r.events.wake.up() // it sleeps for too long
		}
		return worked, err
	}
	if !r.submitted.isEmpty() || !r.loop.take(turn) {
		r.events.wake.up()
	}
}

// serveBytes of entries are applied by whoever has them committed; more are for the
// applier's own goroutine.
const serveBytes = 1 << 10

// serve has done what the loop has left for the applier: here if it is little and
// nobody is at it. The caller holds no lock that a done might want.
func (r *Replica) serve() {
	if r.tasks.isEmpty() {
		return
	}
	if r.toApply.Load() >= serveBytes || !r.applying.take(r.turnApplier) {
		r.tasks.wake.up()
	}
}
