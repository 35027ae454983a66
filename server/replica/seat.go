package replica

import "sync"

// seat is the right to drive a part of the replica. The part's own goroutine drives it, or one that
// brings it something while nobody drives it. That spares waking the part's goroutine, which costs
// more than most turns.
type seat struct {
	sync.Mutex       // held by the goroutine that drives, and while the replica does not run
	err        error // of a turn on another goroutine; it ends Run
}

// await takes a turn once nobody else drives; the part's own goroutine calls it. After an error
// there are no more turns.
func (s *seat) await(turn func() (worked bool, err error)) (worked bool, err error) {
	s.Lock()
	defer s.Unlock()
	if s.err == nil {
		worked, s.err = turn()
	}
	return worked, s.err
}

// take takes a turn here and now. It returns false if another goroutine drives, and after an error:
// then the caller must wake the part's own goroutine.
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

// drive makes the loop take a turn, here if nobody drives it. But while submissions wait there are
// many senders, and more submissions are about to come: on its own goroutine the loop takes them
// all at once. The caller holds no lock that the loop might want.
func (r *Replica) drive() {
	turn := func() (bool, error) {
		r.passTime()
		worked, err := r.turnLoop()
		if at, planned := r.nextTick(), r.core.wakeAt; !at.IsZero() && (planned.IsZero() || at.Before(planned)) {
			r.events.wake.up() // it would sleep too long
		}
		return worked, err
	}
	if !r.submitted.isEmpty() || !r.loop.take(turn) {
		r.events.wake.up()
	}
}

// serveBytes is the limit below which committed entries are applied by the goroutine that brings
// them; more are left to the applier's own goroutine.
const serveBytes = 1 << 10

// serve makes the applier do what the loop has left for it: here if it is little and nobody drives
// the applier. The caller holds no lock that a done might want.
func (r *Replica) serve() {
	if r.tasks.isEmpty() {
		return
	}
	if r.toApply.Load() >= serveBytes || !r.applying.take(r.turnApplier) {
		r.tasks.wake.up()
	}
}
