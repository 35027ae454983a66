// Package session decides on the leader's monotonic clock what has lasted long
// enough: sessions whose clients are gone are proposed to be closed, containers
// that stay empty and TTL znodes that nobody touches to be deleted, which the tree
// judges again. It changes nothing itself, and after a start or an election every
// deadline begins anew: for a session with its TimeoutMS.
//
// The connections tell it who is there (Attach, Touch, Detach); any goroutine may,
// with the state lock held or not.
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
	Submit(x *tree.Txn, done func(tree.Result, *tree.Tree, *watch.Table))
	View(read func(*tree.Tree, *watch.Table))
}

// Config of a Keeper.
type Config struct {
	Replica Replica
	// ContainerInterval is how long a container stays after its last child went.
	ContainerInterval time.Duration
	Logger            zerolog.Logger
}

// Limits of one round.
const (
	scanEvery = time.Second
	// expireEvery bounds how late a session is closed.
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
	since      map[candidate]time.Time // when each candidate was first seen
	unanswered atomic.Int64            // deletions; the replica counts down
	closings   atomic.Int64            // the same of sessions

	mu struct {
		sync.Mutex
		sessions map[int64]*deadline
		round    uint64 // of the look at all sessions that is under way, or was the last
	}
}

// deadline is when a session ends unless something is heard.
type deadline struct {
	ttl   time.Duration // what is given each time
	kept  bool          // there is none: its client is there
	at    time.Time
	round uint64 // in which it was seen last
}

func (d *deadline) isDue() bool { return !d.kept && !time.Now().Before(d.at) }

// candidate is a znode as it was when its time began: a change makes it another.
type candidate struct {
	path string
	seen znode.Zxid
}

// New makes a keeper.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg, since: map[candidate]time.Time{}}
	k.mu.sessions = map[int64]*deadline{}
	return k
}

// Attach says that a session has a connection. If it is kept it lives as long as
// that, else each Touch gives it ttl.
func (k *Keeper) Attach(id int64, ttl time.Duration, kept bool) { k.set(id, ttl, kept) }

// Detach says that a session has no connection any more. It lives for hold.
func (k *Keeper) Detach(id int64, hold time.Duration) { k.set(id, hold, false) }

func (k *Keeper) set(id int64, ttl time.Duration, kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.sessions[id] = &deadline{ttl: ttl, kept: kept, at: time.Now().Add(ttl), round: k.mu.round}
}

// Deadline is when a session ends if nothing is heard of its client from now on;
// not ok: nobody has begun to count.
func (k *Keeper) Deadline(id int64) (at time.Time, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.mu.sessions[id]
	switch {
	case d == nil:
		return time.Time{}, false
	case d.kept:
		return time.Now().Add(d.ttl), true
	}
	return d.at, true
}

// Touch says that a session's client was heard.
func (k *Keeper) Touch(id int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := k.mu.sessions[id]; d != nil {
		d.at = time.Now().Add(d.ttl)
	}
}

// Run looks for what is due until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	scan, expire := time.NewTicker(scanEvery), time.NewTicker(expireEvery)
	defer scan.Stop()
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-scan.C:
			k.scan(now)
		case <-expire.C:
			k.expire()
		}
	}
}

// expire proposes to close the sessions whose time is over.
func (k *Keeper) expire() {
	k.mu.Lock()
	k.mu.round++
	k.mu.Unlock()
	var due []int64
	for after, more := int64(math.MinInt64), true; more; { // in steps: a View holds writes up
		more = false
		k.cfg.Replica.View(func(t *tree.Tree, _ *watch.Table) {
			k.mu.Lock()
			defer k.mu.Unlock()
			n := 0
			t.Sessions(after, func(s tree.Session, _ int) bool {
				if n++; n > scanStep {
					more = true
					return false
				}
				after = s.ID
				if k.look(&s) {
					due = append(due, s.ID)
				}
				return true
			})
		})
	}
	k.forget()
	if k.closings.Load() > 0 {
		return
	}
	for _, id := range due[:min(len(due), maxClosings)] {
		if !k.isDue(id) { // any more
			continue
		}
		k.closings.Add(1)
		k.cfg.Logger.Info().Str("session", znode.Hex(uint64(id))).Msg("session expired")
		k.cfg.Replica.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id},
			func(tree.Result, *tree.Tree, *watch.Table) { k.closings.Add(-1) })
	}
}

// look says whether a session's time is over. One that is not known begins. mu is
// held.
func (k *Keeper) look(s *tree.Session) bool {
	d := k.mu.sessions[s.ID]
	if d == nil {
		ttl := time.Duration(s.TimeoutMS) * time.Millisecond
		d = &deadline{ttl: ttl, at: time.Now().Add(ttl)}
		k.mu.sessions[s.ID] = d
	}
	d.round = k.mu.round
	return d.isDue()
}

func (k *Keeper) isDue(id int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.mu.sessions[id]
	return d != nil && d.isDue()
}

// forget drops the deadlines of sessions that are no more.
func (k *Keeper) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, d := range k.mu.sessions {
		if d.round != k.mu.round {
			delete(k.mu.sessions, id)
		}
	}
}

// scan proposes the deletion of what has been a candidate for its whole time.
func (k *Keeper) scan(now time.Time) {
	var found []tree.Reapable
	for from, more := uint32(0), true; more; more = from != 0 { // in steps: a View holds writes up
		k.cfg.Replica.View(func(t *tree.Tree, _ *watch.Table) {
			var some []tree.Reapable
			some, from = t.Reapables(from, scanStep)
			found = append(found, some...)
		})
	}
	next := make(map[candidate]time.Time, len(found))
	room := maxReaps
	if k.unanswered.Load() > 0 {
		room = 0
	}
	for _, r := range found {
		c := candidate{r.Path, r.Seen}
		first, known := k.since[c]
		if !known {
			first = now
		}
		next[c] = first
		wait := k.cfg.ContainerInterval
		if r.TTLMS > 0 {
			wait = time.Duration(min(r.TTLMS, int64(1<<62/time.Millisecond))) * time.Millisecond
		}
		if now.Sub(first) >= wait && room > 0 {
			room--
			k.unanswered.Add(1)
			k.cfg.Replica.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindReap, Path: r.Path}, Target: int64(r.Seen)},
				func(tree.Result, *tree.Tree, *watch.Table) { k.unanswered.Add(-1) }) // refused if it changed: then its time begins anew
		}
	}
	k.since = next
}
