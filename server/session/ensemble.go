package session

import (
	"encoding/binary"
	"math"
	"time"
)

// Ensemble is how the keepers of several nodes reach the leader's. Its methods do
// not wait; any goroutine calls them, with any lock held.
type Ensemble interface {
	// Leader tells who leads in which term; id 0: nobody. self: it is this node, and it
	// is ready to propose.
	Leader() (id, term uint64, self bool)
	// Tell carries b, which nobody changes any more, to that node's Told, or to nobody:
	// it may lose it, and does if that is this node (it leads and is not ready). What
	// arrives from one node arrives in the order in which it was told, and is lost only with the link.
	Tell(to uint64, b []byte)
	// Links is another number whenever a link to another node has come or gone since.
	Links() uint64
}

// alone is the Ensemble of a node without others.
type alone struct{}

func (alone) Leader() (id, term uint64, self bool) { return 0, 0, true }
func (alone) Tell(uint64, []byte)                  {}
func (alone) Links() uint64                        { return 0 }

// What one node says to the leader.
const (
	entryBytes = 20
	maxEntries = 2048 // of one report
	// maxReports is how many one round sends: 640 KiB every 250 ms. What has no room
	// waits for the next.
	maxReports = 16
	// leastPromise is how long the leader waits at least for a node to report a
	// session again: for its own next round, a report that is lost, a link that is
	// made anew.
	leastPromise = 2 * time.Second
)

// lead is who leads, as Ensemble tells it.
type lead struct {
	id, term uint64
	self     bool
}

func (k *Keeper) ask() (l lead) {
	l.id, l.term, l.self = k.cfg.Ensemble.Leader()
	return l
}

// follow asks who leads, and says whether it is this node. When it is another than
// before, everything begins anew: nothing is known of sessions elsewhere nor of
// containers and TTL znodes, and the leader knows nothing of the sessions here.
// Run's goroutine calls it.
func (k *Keeper) follow() (leads bool) {
	l := k.ask()
	k.mu.Lock()
	defer k.mu.Unlock()
	if l == k.mu.lead {
		return l.self
	}
	k.mu.lead, k.mu.since, k.first = l, k.cfg.Now(), nil
	for id, d := range k.mu.sessions {
		if d.presence == elsewhere {
			delete(k.mu.sessions, id)
		}
		d.report = report{}
	}
	return l.self
}

// leads says whether this node leads still, and has done so since the last look:
// what it has decided meanwhile may be proposed. Run's goroutine calls it.
func (k *Keeper) leads() bool {
	l := k.ask()
	k.mu.Lock()
	defer k.mu.Unlock()
	return l.self && l == k.mu.lead
}

// report is how the leader learns of a session.
type report struct {
	next time.Time     // when it is told again
	wait time.Duration // from the last time to the next
	over bool          // it was told that the session's time is over
}

// made says that the leader is told now of what d is.
func (r *report) made(d *deadline, now time.Time) {
	if over := d.isOver(now); over != r.over {
		r.over, r.wait = over, 0
	}
	// A round more goes by at the most until it is told again.
	most := max(max(d.ttl, leastPromise)/3-expireEvery, expireEvery)
	r.wait = min(max(2*r.wait, expireEvery), most)
	r.next = now.Add(r.wait)
}

// isNeeded says whether the leader is to be told in this round.
func (r *report) isNeeded(d *deadline, now time.Time) bool {
	return !now.Before(r.next) || d.isOver(now) != r.over
}

// promise is how long a session lives unless something else is said.
func (d *deadline) promise(now time.Time) time.Duration {
	switch {
	case d.isOver(now):
		return 0
	case d.presence == detached:
		return d.end.Sub(now)
	}
	return max(d.ttl, leastPromise)
}

// sweep drops the deadlines of sessions that are no more. Of the others it returns
// what is to be told to the leader, if that is another node, and finds when the next look
// is needed.
func (k *Keeper) sweep() (to uint64, reports [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.mu.lead.self {
		to = k.mu.lead.id
	}
	now, room := k.cfg.Now(), 0
	k.mu.due = now.Add(scanEvery)
	for id, d := range k.mu.sessions {
		switch {
		case d.round != k.mu.round:
			delete(k.mu.sessions, id)
			continue
		case to == 0 || !d.report.isNeeded(d, now):
		case room == 0 && len(reports) == maxReports:
		default:
			if room == 0 {
				room = maxEntries
				reports = append(reports, make([]byte, 0, entryBytes*min(maxEntries, len(k.mu.sessions))))
			}
			room--
			last := &reports[len(reports)-1]
			*last = appendEntry(*last, id, d, now)
			d.report.made(d, now)
		}
		if at := k.needed(d, now); at.Before(k.mu.due) {
			k.mu.due = at
		}
	}
	return to, reports
}

// report tells the leader what it is to know, if that is another node.
func (k *Keeper) report() {
	k.telling.Lock()
	defer k.telling.Unlock()
	to, reports := k.sweep()
	for _, b := range reports {
		k.cfg.Ensemble.Tell(to, b)
	}
}

// Vouch says that the client of a session that is attached here was heard, as Touch does, and
// tells the leader at once. A question to the leader that is asked behind it, by the same links
// (Replica.Barrier), proves by its answer that the leader has heard that; if heard says
// so, behind the answer. If not, something may have been lost: both are to be repeated.
func (k *Keeper) Vouch(id int64) (heard func() bool) {
	k.telling.Lock()
	defer k.telling.Unlock()
	links, l := k.cfg.Ensemble.Links(), k.ask()
	if b := k.vouch(id, l); b != nil {
		k.cfg.Ensemble.Tell(l.id, b)
	}
	return func() bool { return k.ask() == l && k.cfg.Ensemble.Links() == links }
}

// vouch is what the leader is to be told of a session that was heard, or nil.
func (k *Keeper) vouch(id int64, l lead) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, now := k.mu.sessions[id], k.cfg.Now()
	if d == nil || d.presence < pinged {
		return nil
	}
	k.touch(d, now)
	if l.self || l.id == 0 {
		return nil
	}
	return appendEntry(make([]byte, 0, entryBytes), id, d, now)
}

func appendEntry(b []byte, id int64, d *deadline, now time.Time) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	b = binary.BigEndian.AppendUint32(b, d.attachment)
	b = binary.BigEndian.AppendUint32(b, millis(d.ttl))
	return binary.BigEndian.AppendUint32(b, millis(d.promise(now)))
}

// millis rounds up: nothing ends early.
func millis(d time.Duration) uint32 {
	return uint32(min(max(0, (d+time.Millisecond-1)/time.Millisecond), math.MaxUint32))
}

func duration(millis uint32) time.Duration { return time.Duration(millis) * time.Millisecond }

// Told takes another node's report, and keeps nothing of b. What is not one is left
// out, and so is what comes to a node that does not lead. Any goroutine may call it.
func (k *Keeper) Told(from uint64, b []byte) {
	if len(b) == 0 || len(b)%entryBytes != 0 || len(b) > maxEntries*entryBytes {
		k.cfg.Logger.Debug().Hex("peer", binary.BigEndian.AppendUint64(nil, from)).Int("bytes", len(b)).Msg("not a report of sessions")
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for now := k.cfg.Now(); len(b) > 0; b = b[entryBytes:] {
		d := k.mu.sessions[int64(binary.BigEndian.Uint64(b))]
		if d == nil || d.presence != elsewhere || d.attachment != binary.BigEndian.Uint32(b[8:]) {
			// It has ended, has moved, is here, or is yet to be seen here: then it is told
			// again. Who does not lead knows no session elsewhere.
			k.plan(now)
			continue
		}
		d.ttl = duration(binary.BigEndian.Uint32(b[12:]))
		d.end = now.Add(duration(binary.BigEndian.Uint32(b[16:])))
		k.plan(k.needed(d, now))
	}
}
