// Package session decides on the leader's monotonic clock what has lasted long
// enough: containers that stay empty and TTL znodes that nobody touches are
// proposed for deletion, which the tree judges again. It changes nothing itself,
// and after an election every deadline begins anew.
//
// Sessions of clients and their deadlines belong here too; the protocols that
// have sessions come with them.
package session

import (
	"context"
	"sync/atomic"
	"time"

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
}

// Limits of one round.
const (
	scanEvery = time.Second
	// scanStep is how many znodes one View looks at.
	scanStep = 500
	// maxReaps is how many deletions one round proposes. The next round begins
	// when all of them are answered.
	maxReaps = 1000
)

// Keeper owns the deadlines. Only its Run goroutine touches them.
type Keeper struct {
	cfg        Config
	since      map[candidate]time.Time // when each candidate was first seen
	unanswered atomic.Int64            // deletions; the replica counts down
}

// candidate is a znode as it was when its time began: a change makes it another.
type candidate struct {
	path string
	seen znode.Zxid
}

// New makes a keeper.
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, since: map[candidate]time.Time{}}
}

// Run looks for what is due until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(scanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			k.scan(now)
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
