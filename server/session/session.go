// Package session decides what has lasted long enough. It proposes to close sessions whose clients
// are gone, and to delete containers that stay empty and TTL znodes that nobody touches. It changes
// nothing itself: the tree judges each proposal again.
//
// The connections of this node report which sessions they serve (Attach, Touch, Detach). Any
// goroutine may call these, with the state lock held or not.
//
// # Several nodes
//
// Only the leader proposes, by its own monotonic clock. A new leader begins when it is ready: from
// then on each container and TTL znode has its whole time again, and no session ends before its own
// time has passed (its TimeoutMS, until its node has reported its time).
//
// The node to which a session is or was last attached hears the session's client, and so judges the
// client's silence: a kept session lives as long as its connection, a pinged one for its ttl after
// each Touch, a detached one for its hold. The leader judges that node's silence. For each session
// the node reports the attachment, the session's time (ttl or hold), and how long the session lives
// if nothing else is reported: its ttl, or 2 s (leastPromise) if the ttl is less; the rest of its
// hold; nothing, once its client has been silent for too long. The node repeats this, changed or
// not, within a third of that time at the latest. So
//
//   - a silent session ends a round or two after its time, as on the leader itself;
//   - the loss of one report ends no session whose client is heard, while its node has a link; the next report makes any loss good;
//   - a session whose node is gone ends its ttl after that node's last report.
//
// News is reported at the end of the round (expireEvery), and again after one, two, four … rounds: a
// session that is attached or detached, one whose time is over or no longer over, and all sessions when
// another node leads, because a new leader knows no more about them than the TimeoutMS in the tree.
//
// Reports are not acknowledged: until the next one, this node may have heard a client without the leader knowing
// it. A caller that must be sure that the leader knows (a SYNC) lets the keeper Vouch for a session and then asks
// the leader something. What is sent over one link arrives in order, or is lost with everything after it. So the
// answer proves that the leader has received the report, if no link and no leader has changed since.
//
// A session that has moved to another node has a higher attachment number in the tree. The old node
// drops the session when it has applied that change, and its reports until then do not count: the
// leader accepts a report only for the attachment that it knows itself, and gives a newly attached
// session its TimeoutMS to begin with. A session is closed only while it has the attachment whose
// silence was judged: a client that attaches it again before the close is applied keeps it.
//
// A report consists of entries of 20 bytes, big-endian, at most 2,048 of them:
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
	Ensemble Ensemble // nil: there are no other nodes
	// ContainerInterval is how long a container stays after its last child is gone.
	ContainerInterval time.Duration
	Logger            zerolog.Logger
	// Now is a clock that nobody sets; nil: time.Now, with its monotonic reading.
	Now func() time.Time
}

// Limits of one round.
const (
	// scanEvery is how often everything is looked at, whether something is due or not. With a ContainerInterval
	// of less than four seconds, containers and TTL znodes are looked at more often (Keeper.every).
	scanEvery = time.Second
	// scanRests lengthens the pause between two looks at all containers and TTL znodes to so many
	// times the duration of the last one, if that is more than Keeper.every: a million of them would
	// keep a processor busy. They are then deleted later by that much.
	scanRests = 20
	// expireEvery bounds how late a session is closed or reported. Rounds end at multiples of it, like the other
	// periodic tasks of an idle node, so that the node wakes up once for all of them.
	expireEvery = 250 * time.Millisecond
	// scanStep is how many znodes or sessions one View looks at.
	scanStep = 500
	// maxReaps is how many deletions one round proposes, and maxClosings how many closings of
	// sessions. The next ones are proposed only when all of these are answered.
	maxReaps    = 1000
	maxClosings = 10_000
)

// Keeper owns the deadlines: its Run goroutine alone those of znodes; any goroutine, under mu, a
// leaf lock, those of sessions.
type Keeper struct {
	cfg        Config
	least      time.Duration           // the least time that a session of another node lives
	sooner     chan struct{}           // holds one: due has become earlier
	every      time.Duration           // how often containers and TTL znodes are looked at
	scanned    time.Time               // Run's: when containers and TTL znodes were last looked at
	rests      time.Duration           // Run's: how long until the next such look, if more than every
	first      map[candidate]time.Time // when each candidate was first seen
	unanswered atomic.Int64            // deletions; the replica's answers count it down
	closings   atomic.Int64            // the same for closings of sessions
	telling    sync.Mutex              // makes reports leave in the order of what they say; taken before mu

	mu struct {
		sync.Mutex
		sessions map[int64]*deadline
		round    uint64    // number of the look at all sessions that is under way, or was the last
		lead     lead      // as of the last look; only Run writes it
		since    time.Time // since when lead is as it is
		due      time.Time // when the next look is needed, if before the next look at everything
	}
}

// presence is how a session relates to this node.
type presence uint8

const (
	elsewhere presence = iota // not at all: only the leader counts its time
	detached                  // the session's last connection was here
	pinged                    // its connection is here, and pings keep it alive
	kept                      // its connection is here, and keeps it alive
)

// deadline says when a session ends unless its client is heard.
type deadline struct {
	attachment uint32 // the attachment that all this is about
	presence   presence
	ttl        time.Duration // the time given from each beginning: ttl, hold or TimeoutMS
	end        time.Time     // not used for a kept one
	round      uint64        // the look at which the tree last had the session
	report     report        // how the leader learns of it, if another node leads
}

// isOver says whether the client has been silent for too long, as far as this node knows.
func (d *deadline) isOver(now time.Time) bool { return d.presence != kept && !now.Before(d.end) }

// New makes a keeper.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg, least: leastPromise, every: min(scanEvery, max(expireEvery, cfg.ContainerInterval/4))}
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

// Attach says that a session has a connection here, through that attachment (see tree.Session). A
// kept session lives as long as the connection; any other gets ttl with each Touch.
func (k *Keeper) Attach(id int64, attachment uint32, ttl time.Duration, isKept bool) {
	p := pinged
	if isKept {
		p = kept
	}
	k.set(id, attachment, p, ttl)
}

// Detach says that a session has no connection here any more. It lives for hold from now on.
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

// Touch says that the client of a session that is attached here has been heard.
func (k *Keeper) Touch(id int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := k.mu.sessions[id]; d != nil && d.presence >= pinged {
		k.touch(d, k.cfg.Now())
	}
}

// touch renews the time of a session that is attached here. mu is held.
func (k *Keeper) touch(d *deadline, now time.Time) {
	d.end = now.Add(d.ttl)
	if d.report.over {
		k.plan(now)
	}
}

// Look says that the leader may have changed. Any goroutine may call it, with any lock held.
func (k *Keeper) Look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.plan(k.cfg.Now())
}

// plan makes Run look at a time, if it would not look by then. mu is held.
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

// needed is when a session must be looked at next, at the latest at the next look at everything. mu is held.
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

// Deadline is when a session ends if its client is not heard from now on, as far as this node
// knows: the leader knows it of all sessions, another node of those that are or were last attached
// to it. ok is false if this node does not count the session's time, or has not begun to.
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

// untilDue is the time until the end of the first round in which something is due.
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
	if all := now.Truncate(k.every).Add(k.every); all.Before(end) {
		end = all
	}
	return end.Sub(now) // the difference is taken on one clock, because another one may be set meanwhile
}

// Turn is one turn of Run. A caller that drives the keeper without Run calls it once a round.
func (k *Keeper) Turn() {
	if now := k.cfg.Now(); now.Sub(k.scanned) > max(k.every, k.rests)-expireEvery/2 && k.follow() {
		k.scanned = now
		k.scan(now)
		k.rests = scanRests * k.cfg.Now().Sub(now)
	}
	k.expire()
}

// expire looks at all sessions. If another node leads, it reports to that leader; if this node
// leads, it proposes to close the sessions whose time is over.
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
		// The close is in the session's own name, so that it is refused if the session has moved.
		k.cfg.Replica.Decide(&tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id, Session: id, Attachment: attachment},
			func(tree.Result, *tree.Tree, *watch.Table) { k.closings.Add(-1) })
	}
}

// lookAtAll compares the deadlines with the tree, and returns the sessions that are due.
func (k *Keeper) lookAtAll() (due []int64) {
	k.mu.Lock()
	k.mu.round++
	k.mu.Unlock()
	for after, more := int64(math.MinInt64), true; more; { // in steps: a View holds up writes
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

// look says whether a session's time is over. For a session that is not known, or was attached
// elsewhere since, a deadline begins if this node leads; otherwise sweep drops the old one. mu is held.
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

// due says whether a session's time is still over, and through which attachment.
func (k *Keeper) due(id int64) (attachment uint32, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.mu.sessions[id]
	if d == nil || !k.isDue(d, k.cfg.Now()) {
		return 0, false
	}
	return d.attachment, true
}
