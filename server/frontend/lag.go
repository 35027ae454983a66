package frontend

import (
	"cmp"
	"maps"
	"slices"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// A connection that takes its events more slowly than they come falls behind. Its watches leave the
// table, so that events cost nothing for it any more, and the events that it has missed are read
// from the table's history, one page at a time, as the client takes them. When it has reached the
// end of the history, its watches return to the table in the same View, so that no event is missed
// or told twice. So a thousand clients that do not read are no burden for those that do. A client
// that is so far behind that the history no longer has its next event is cut off.
//
// A connection falls behind only between two txns, and only while none of its own answers waits for
// its turn. Until it has caught up, its reader begins no request, so that no answer shows a change
// before its event.
//
// Invariant: a connection that is behind is being sent (flushing), is on the crier's list, or is
// dirty.

const (
	lagWatches = 16      // a connection with more watches does not fall behind: reading the history costs a check of each
	pageLooks  = 4 << 10 // events that are examined for one page
)

// pace says how soon a connection falls behind.
type pace struct {
	waiting int // bytes of waiting events at which it falls behind
	page    int // bytes of a page
}

var usualPace = pace{waiting: 4 << 10, page: 16 << 10}

// behind is a connection's place in the history. The connection's lock guards it.
type behind struct {
	isBehind bool
	outside  bool       // its watches are not in the table
	idle     bool       // its reader waits for the client
	read     znode.Zxid // the history has been read up to here
	told     znode.Zxid // the last txn that one of its watches was notified of
}

// fallsBehind says whether the connection is behind, or falls behind now, so that the event is left
// to the history. mu is held.
func (c *conn) fallsBehind(zxid znode.Zxid) bool {
	o := &c.mu.outbox
	if !o.isBehind && o.idle && o.events >= c.s.pace.waiting && o.told != zxid && !c.waiting() && len(o.watches) <= lagWatches && !o.ending && !o.broken {
		c.lag(zxid-1, zxid-1)
		c.soil()
	}
	o.told = zxid
	return o.isBehind
}

// lag makes the connection one that is behind. Its history begins after from; its watches have seen
// the events up to seen. mu is held.
func (c *conn) lag(from, seen znode.Zxid) {
	c.mu.isBehind, c.mu.read = true, from
	for _, w := range c.mu.watches {
		w.seen = seen
	}
}

// stepOutside removes the watches of a connection that is behind from the table. The state lock and
// mu are held.
func (c *conn) stepOutside(table *watch.Table) {
	if !c.mu.isBehind || c.mu.outside {
		return
	}
	c.mu.outside = true
	for _, w := range c.mu.watches {
		table.Drop(w)
	}
}

// pull puts the next page into the outbox of a connection that is behind. It takes mu; the state
// lock is held.
func (c *conn) pull(_ *tree.Tree, table *watch.Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.mu.outbox
	if !c.isPulling() {
		return
	}
	watches := slices.SortedFunc(maps.Values(o.watches), func(a, b *eventWatch) int { return cmp.Compare(a.id, b.id) })
	before, looks, more := len(o.out), 0, false
	whole := table.Since(o.read, func(e *znode.Event) bool {
		if more = e.Zxid != o.read && (looks >= pageLooks || len(o.out)-before >= c.s.pace.page); more { // keep the events of a txn together
			return false
		}
		looks++
		o.read = e.Zxid
		for _, w := range watches {
			if e.Zxid > w.seen && w.concerns(e) {
				w.tell(e, nil)
			}
		}
		return true
	})
	switch {
	case !whole:
		c.cutOff()
	case !more:
		c.stepInside(watches, table)
	}
}

// stepInside returns the watches to the table, because the connection has caught up. The state lock
// and mu are held.
func (c *conn) stepInside(watches []*eventWatch, table *watch.Table) {
	c.mu.isBehind, c.mu.outside = false, false
	c.changed.Broadcast()
	for _, w := range watches {
		if err := table.Add(w, w.path, w.kind()); err != nil {
			c.s.stats.limitsReached.Add(1)
			c.end(&text.Reply{Kind: text.KindErr, Code: znode.ErrLimit, Message: err.Error()})
			return
		}
	}
}

// isPulling says whether events are to be read from the history. mu is held.
func (c *conn) isPulling() bool { return c.mu.isBehind && !c.mu.broken && !c.mu.ending }

// begin waits until the connection has caught up, before the reader handles what it has received.
// It takes mu.
func (c *conn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.idle = false
	c.await(func() bool { return !c.mu.isBehind || c.isOver() })
}
