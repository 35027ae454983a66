// Package session decides what has lasted long enough: sessions whose clients are
// gone are proposed to be closed, containers that stay empty and TTL znodes that
// nobody touches to be deleted. It changes nothing itself: the tree judges each
// proposal again.
//
// The connections of this node tell it who is there (Attach, Touch, Detach); any
// goroutine may, with the state lock held or not.
//
// # Several nodes
//
// The leader alone proposes, on its own monotonic clock. A node that comes to lead
// begins when it is ready: from then on each container and TTL znode has its whole
// time again, and no session ends before its own has passed (its TimeoutMS, until
// its node has said what its time is).
//
// The node to which a session is attached, or was last, hears its client, and so
// judges that client's silence: a kept session lives as long as its connection, a pinged
// one for its ttl after each Touch, a detached one for its hold. The leader judges
// that node's silence. The node reports, for each session, through which attachment
// it has it, what its time is (ttl or hold), and how long it lives unless something
// else is said: its ttl or, if that is less, 2 s (leastPromise); what is left of its
// hold; nothing, once its client was silent for too long. Each third of that time at
// the latest it says so again, changed or not. So
//
//   - a silent session ends a round or two after its time, as on the leader itself;
//   - one lost report ends no session of a client that is heard, while its node has a link, and any lost report is made good by the next;
//   - a session whose node is gone ends its ttl after that node's last report.
//
// What is news is said at the end of the round (expireEvery), and again after one, two,
// four … rounds: a session that is attached or detached, one whose time is over or
// is not over any more, and all of them when another node leads. For of these the
// leader knows no more than what the tree says, which is the TimeoutMS.
//
// Reports are not acknowledged: up to the next a client may be heard here, and the leader not know it.
// Who must know that it knows (a SYNC) has the keeper Vouch for a session, and asks the leader something
// behind that. What is told and asked over one link arrives in that order, or is lost
// with all behind it; so the answer proves that the leader has heard, if no link and no leader has changed since.
//
// A session that has moved to another node has a higher attachment number in the tree.
// The old node drops it when it has applied that, and what it says until then does
// not count: the leader takes a report only for the attachment that it knows itself,
// and gives a session that was attached anew its TimeoutMS to begin with. A session
// is closed only while it has the attachment whose silence was judged: who takes it
// over before the close is applied keeps it.
//
// A report is entries of 20 bytes, big-endian, at most 2,048:
//
//	| 0: session u64 | 8: attachment u32 | 12: its time, ms u32 | 16: it lives for, ms u32 |
package session

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// Replica is what the keeper needs of the replica.
type Replica interface {
	Decide(x *tree.Txn, done func(tree.Result, *tree.Tree, *watch.Table))
	View(read func(*tree.Tree, *watch.Table))
}

// Config of a Keeper.
type Config struct {
	Replica  Replica
	Ensemble Ensemble // nil: there is no other node
	// ContainerInterval is how long a container stays after its last child went.
	ContainerInterval time.Duration
	Logger            zerolog.Logger
	// Now is a clock that nobody sets; nil: time.Now, with its monotonic part.
	Now func() time.Time
}

// Limits of one round.
const (
	// scanEvery is how often there is a look at everything, whether something is due or not.
	scanEvery = time.Second
	// scanRests is how many times as long as the last look at all containers and TTL
	// znodes has taken goes by until the next, if that is more: a million would keep a
	// processor busy. They go later by that.
	scanRests = 20
	// expireEvery bounds how late a session is closed, and reported. Rounds end at multiples of it, together with
	// what else an idle node does now and then: it wakes up once for all of that.
	expireEvery = 250 * time.Millisecond
	// scanStep is how many znodes or sessions one View looks at.
	scanStep = 500
	// maxReaps is how many deletions one round proposes, and maxClosings the same of
	// sessions. The next round begins when all of them are answered.
	maxReaps    = 1000
	maxClosings = 10_000
)

// Keeper owns the deadlines: of znodes its Run goroutine alone, of sessions
// under mu, a leaf lock.
type Keeper struct {
	cfg        Config
	least      time.Duration           // what a session of another node lives for at least
	sooner     chan struct{}           // of one: due is
	scanned    time.Time               // Run's: when it has looked at containers and TTL znodes last
	rests      time.Duration           // Run's: until it does again, if that is more than scanEvery
	first      map[candidate]time.Time // when each candidate was first seen
	unanswered atomic.Int64            // deletions; the replica counts down
	closings   atomic.Int64            // the same of sessions
	telling    sync.Mutex              // so that what is known later is told later; before mu

	mu struct {
		sync.Mutex
		sessions map[int64]*deadline
		round    uint64    // of the look at all sessions that is under way, or was the last
		lead     lead      // as of the last look; Run alone writes it
		since    time.Time // since when that is so
		due      time.Time // when the next look is needed, if it is not the one at everything
	}
}

// presence is what this node has to do with a session.
type presence uint8

const (
	elsewhere presence = iota // nothing: only the leader counts its time
	detached                  // the session's last connection was here
	pinged                    // its connection is here, and so is a kept one's
	kept
)

// deadline is when a session ends unless something is heard.
type deadline struct {
	attachment uint32 // to which all this belongs
	presence   presence
	ttl        time.Duration // what is given each time
	end        time.Time     // not of a kept one
	round      uint64        // in which it was seen last
	report     report        // how the leader learns of it, if that is another node
}

// isOver says whether nothing was heard for too long, as far as is known here.
func (d *deadline) isOver(now time.Time) bool { return d.presence != kept && !now.Before(d.end) }

// New makes a keeper.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg, least: leastPromise}
	if cfg.Ensemble == nil {
		k.cfg.Ensemble, k.least = alone{}, 0
	}
	if cfg.Now == nil {
		k.cfg.Now = time.Now
	}
	k.mu.sessions = map[int64]*deadline{}
	k.sooner, k.scanned = make(chan struct{}, 1), k.cfg.Now()
	return k
}

// Attach says that a session has a connection here, through that attachment (see
// tree.Session). If it is kept it lives as long as that, else each Touch gives it ttl.
func (k *Keeper) Attach(id int64, attachment uint32, ttl time.Duration, isKept bool) {
	p := pinged
	if isKept {
		p = kept
	}
	k.set(id, attachment, p, ttl)
}

// Detach says that a session has no connection here any more. It lives for hold.
func (k *Keeper) Detach(id int64, attachment uint32, hold time.Duration) {
	k.set(id, attachment, detached, hold)
}

func (k *Keeper) set(id int64, attachment uint32, p presence, ttl time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.cfg.Now()
	d := &deadline{attachment: attachment, presence: p, ttl: ttl, end: now.Add(ttl), round: k.mu.round}
	k.mu.sessions[id] = d
	k.plan(k.needed(d, now))
}

// Touch says that the client of a session that is attached here was heard.
func (k *Keeper) Touch(id int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := k.mu.sessions[id]; d != nil && d.presence >= pinged {
		k.touch(d, k.cfg.Now())
	}
}

// touch gives a session that is attached here its time. mu is held.
func (k *Keeper) touch(d *deadline, now time.Time) {
	d.end = now.Add(d.ttl)
	if d.report.over {
		k.plan(now)
	}
}

// Look says that another node may lead. Any goroutine may, with any lock held.
func (k *Keeper) Look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.plan(k.cfg.Now())
}

// plan has Run look at a time, if it would not by then. mu is held.
func (k *Keeper) plan(at time.Time) {
	if !at.Before(k.mu.due) {
		return
	}
	k.mu.due = at
	select {
	case k.sooner <- struct{}{}:
	default:
	}
}

// needed is when the next look at a session is, if it is not the one at everything. mu is held.
func (k *Keeper) needed(d *deadline, now time.Time) time.Time {
	at := now.Add(scanEvery)
	if !k.mu.lead.self && d.report.next.Before(at) {
		at = d.report.next
	}
	if end := k.end(d); d.presence != kept && !d.report.over && end.Before(at) {
		at = end
	}
	return at
}

// Deadline is when a session ends if nothing is heard of its client from now on, as
// far as this node knows: the leader of all sessions, another one of those that are
// attached to it or were last. Not ok: nobody counts here, or has not begun.
func (k *Keeper) Deadline(id int64) (at time.Time, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.mu.sessions[id]
	switch {
	case d == nil:
		return time.Time{}, false
	case d.presence == kept:
		return k.cfg.Now().Add(d.ttl), true
	}
	return k.end(d), true
}

// end is when a session that is not kept ends. mu is held.
func (k *Keeper) end(d *deadline) time.Time {
	if whole := k.mu.since.Add(d.ttl); k.mu.lead.self && whole.After(d.end) {
		return whole
	}
	return d.end
}

// Run looks for what is due until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	k.follow()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.sooner:
		case <-time.After(k.untilDue()):
			k.Turn()
		}
	}
}

// untilDue is how long it is to the end of the first round in which something is due.
func (k *Keeper) untilDue() time.Duration {
	k.mu.Lock()
	wait := k.mu.due.Sub(k.cfg.Now())
	k.mu.Unlock()
	now := time.Now()
	at := now.Add(max(wait, 1))
	end := at.Truncate(expireEvery)
	if end.Before(at) {
		end = end.Add(expireEvery)
	}
	if all := now.Truncate(scanEvery).Add(scanEvery); all.Before(end) {
		end = all
	}
	return end.Sub(now) // by the same clock: another may be set meanwhile
}

// Turn is one of Run's, as often as once a round, for whoever drives the keeper in its place.
func (k *Keeper) Turn() {
	if now := k.cfg.Now(); now.Sub(k.scanned) > max(scanEvery, k.rests)-expireEvery/2 && k.follow() {
		k.scanned = now
		k.scan(now)
		k.rests = scanRests * k.cfg.Now().Sub(now)
	}
	k.expire()
}

// expire looks at all sessions, reports to the leader if that is another node, and
// proposes to close those whose time is over if this one leads.
func (k *Keeper) expire() {
	k.follow()
	due := k.lookAtAll()
	k.report()
	if k.closings.Load() > 0 {
		return
	}
	for _, id := range due[:min(len(due), maxClosings)] {
		attachment, ok := k.due(id)
		if !ok {
			continue
		}
		if !k.leads() {
			return
		}
		k.closings.Add(1)
		k.cfg.Logger.Info().Str("session", znode.Hex(uint64(id))).Msg("session expired")
		// In the session's own name: refused if it has moved.
		k.cfg.Replica.Decide(&tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id, Session: id, Attachment: attachment},
			func(tree.Result, *tree.Tree, *watch.Table) { k.closings.Add(-1) })
	}
}

// lookAtAll compares what is known with the tree, and returns who is due.
func (k *Keeper) lookAtAll() (due []int64) {
	k.mu.Lock()
	k.mu.round++
	k.mu.Unlock()
	for after, more := int64(math.MinInt64), true; more; { // in steps: a View holds writes up
		more = false
		k.cfg.Replica.View(func(t *tree.Tree, _ *watch.Table) {
			k.mu.Lock()
			defer k.mu.Unlock()
			now, n := k.cfg.Now(), 0
			t.Sessions(after, func(s tree.Session, _ int) bool {
				if n++; n > scanStep {
					more = true
					return false
				}
				after = s.ID
				if k.look(&s, now) {
					due = append(due, s.ID)
				}
				return true
			})
		})
	}
	return due
}

// look says whether a session's time is over. One that is not known, or was
// attached elsewhere since, begins if this node leads; if not, sweep will drop it.
// mu is held.
func (k *Keeper) look(s *tree.Session, now time.Time) (isDue bool) {
	d := k.mu.sessions[s.ID]
	if d == nil || d.attachment != s.Attachment {
		if !k.mu.lead.self {
			return false
		}
		ttl := max(time.Duration(s.TimeoutMS)*time.Millisecond, k.least)
		d = &deadline{attachment: s.Attachment, ttl: ttl, end: now.Add(ttl)}
		k.mu.sessions[s.ID] = d
	}
	d.round = k.mu.round
	return k.isDue(d, now)
}

// isDue says whether a session's time is over. mu is held.
func (k *Keeper) isDue(d *deadline, now time.Time) bool {
	return d.presence != kept && !now.Before(k.end(d))
}

// due says whether a session's time is over still, and through which attachment.
func (k *Keeper) due(id int64) (attachment uint32, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.mu.sessions[id]
	if d == nil || !k.isDue(d, k.cfg.Now()) {
		return 0, false
	}
	return d.attachment, true
}
