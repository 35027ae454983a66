package session

import (
	"time"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// candidate is a znode as it was when its time began: a change makes it another candidate.
type candidate struct {
	path string
	seen znode.Zxid
}

// scan proposes to delete what has been a candidate for its whole time.
func (k *Keeper) scan(now time.Time) {
	var found []tree.Reapable
	for from, more := uint32(0), true; more; more = from != 0 { // in steps: a View holds up writes
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
		first, known := k.first[c]
		if !known {
			first = now
		}
		next[c] = first
		wait := k.cfg.ContainerInterval
		if r.TTLMS > 0 {
			wait = time.Duration(min(r.TTLMS, int64(1<<62/time.Millisecond))) * time.Millisecond
		}
		if now.Sub(first) >= wait && room > 0 && k.leads() {
			room--
			k.unanswered.Add(1)
			k.cfg.Replica.Decide(&tree.Txn{Op: tree.Op{Kind: tree.KindReap, Path: r.Path}, Target: int64(r.Seen)},
				func(tree.Result, *tree.Tree, *watch.Table) { k.unanswered.Add(-1) }) // refused if the znode has changed: then its time begins anew
		}
	}
	k.first = next
}
