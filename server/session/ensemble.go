package session

import (
	"encoding/binary"
	"math"
	"time"
)

// Ensemble is how the keepers of several nodes reach the leader's keeper. Its methods do not wait.
// Any goroutine calls them, with any lock held.
type Ensemble interface {
	// Leader returns the leader and its term; id 0: there is none. self: this node is the leader
	// and is ready to propose.
	Leader() (id, term uint64, self bool)
	// Tell sends b, which nobody changes any more, to that node's Told. It may lose b, and does so if
	// the node is this one (which leads and is not ready). Messages from one node arrive in the order
	// in which they were sent, and are lost only with the link.
	Tell(to uint64, b []byte)
	// Links returns a different number after any link to another node has come or gone.
	Links() uint64
}

// alone is the Ensemble of a node without others.
type alone struct{}

func (alone) Leader() (id, term uint64, self bool) { return 0, 0, true }
func (alone) Tell(uint64, []byte)                  {}
func (alone) Links() uint64                        { return 0 }

// Limits of what one node reports to the leader.
const (
	entryBytes = 20
	maxEntries = 2048 // in one report
	// maxReports is how many reports one round sends: 640 KiB every 250 ms. What does not fit waits
	// for the next round.
	maxReports = 16
	// leastPromise is the least time that the leader waits for a node to report a session again: it
	// covers the leader's own next round, a lost report, and a link that is made anew.
	leastPromise = 2 * time.Second
)

// lead says who leads, as Ensemble.Leader returns it.
type lead struct {
	id, term uint64
	self     bool
}

func (k *Keeper) ask() (l lead) {
	l.id, l.term, l.self = k.cfg.Ensemble.Leader()
	return l
}

// follow asks who leads, and says whether it is this node. If that has changed, everything begins
// anew: this node knows nothing about sessions elsewhere or about containers and TTL znodes, and
// the leader knows nothing about the sessions here. Run's goroutine calls it.
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

// leads says whether this node still leads and has done so since the last look, so that what it has
// decided meanwhile may be proposed. Run's goroutine calls it.
func (k *Keeper) leads() bool {
	l := k.ask()
	k.mu.Lock()
	defer k.mu.Unlock()
	return l.self && l == k.mu.lead
}

// report says how the leader learns of a session.
type report struct {
	next time.Time     // when it is reported again
	wait time.Duration // between the last report and the next
	over bool          // whether the last report said that the session's time is over
}

// made notes that d is being reported to the leader now.
func (r *report) made(d *deadline, now time.Time) {
	if over := d.isOver(now); over != r.over {
		r.over, r.wait = over, 0
	}
	// Up to one more round passes before the next report.
	most := max(max(d.ttl, leastPromise)/3-expireEvery, expireEvery)
	r.wait = min(max(2*r.wait, expireEvery), most)
	r.next = now.Add(r.wait)
}

// isNeeded says whether d must be reported in this round.
func (r *report) isNeeded(d *deadline, now time.Time) bool {
	return !now.Before(r.next) || d.isOver(now) != r.over
}

// promise is how long a session lives unless something else is reported.
func (d *deadline) promise(now time.Time) time.Duration {
	switch {
	case d.isOver(now):
		return 0
	case d.presence == detached:
		return d.end.Sub(now)
	}
	return max(d.ttl, leastPromise)
}

// sweep drops the deadlines of sessions that have ended. From the others it makes the reports to
// the leader, if that is another node, and finds when the next look is needed.
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

// report tells the leader what it must know, if that is another node.
func (k *Keeper) report() {
	k.telling.Lock()
	defer k.telling.Unlock()
	to, reports := k.sweep()
	for _, b := range reports {
		k.cfg.Ensemble.Tell(to, b)
	}
}

// Vouch says that the client of a session that is attached here has been heard, as Touch does, and
// reports it to the leader at once. If the caller then asks the leader something over the same
// links (Replica.Barrier), and heard returns true after the answer, the leader has received the
// report. If heard returns false, the report may have been lost: the caller must repeat both.
func (k *Keeper) Vouch(id int64) (heard func() bool) {
	k.telling.Lock()
	defer k.telling.Unlock()
	links, l := k.cfg.Ensemble.Links(), k.ask()
	if b := k.vouch(id, l); b != nil {
		k.cfg.Ensemble.Tell(l.id, b)
	}
	return func() bool { return k.ask() == l && k.cfg.Ensemble.Links() == links }
}

// vouch is the report to the leader about a session whose client was heard, or nil if none is needed.
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

// millis rounds up, so that nothing ends early.
func millis(d time.Duration) uint32 {
	return uint32(min(max(0, (d+time.Millisecond-1)/time.Millisecond), math.MaxUint32))
}

func duration(millis uint32) time.Duration { return time.Duration(millis) * time.Millisecond }

// Told takes another node's report, and keeps no reference to b. It ignores what is not a report,
// and all reports while this node does not lead. Any goroutine may call it.
func (k *Keeper) Told(from uint64, b []byte) {
	if len(b) == 0 || len(b)%entryBytes != 0 || len(b) > maxEntries*entryBytes {
		k.cfg.Logger.Debug().Hex("peer", binary.BigEndian.AppendUint64(nil, from)).Int("bytes", len(b)).Msg("malformed session report")
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for now := k.cfg.Now(); len(b) > 0; b = b[entryBytes:] {
		d := k.mu.sessions[int64(binary.BigEndian.Uint64(b))]
		if d == nil || d.presence != elsewhere || d.attachment != binary.BigEndian.Uint32(b[8:]) {
			// The session has ended, has moved, is attached here, or has not been seen here yet; in the
			// last case its node reports it again. A node that does not lead knows no session elsewhere.
			k.plan(now)
			continue
		}
		d.ttl = duration(binary.BigEndian.Uint32(b[12:]))
		d.end = now.Add(duration(binary.BigEndian.Uint32(b[16:])))
		k.plan(k.needed(d, now))
	}
}
