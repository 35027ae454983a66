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

// A connection that takes its events more slowly than they come falls behind: its
// watches leave the table, so that an event costs nothing for it any more, and what
// has come since it is read from the table's history, a page at a time, as the
// client takes it. When it has come to the end its watches return into the table, in
// the same View: no gap, and nothing twice. So a thousand clients that do not read
// are no burden for those that do. Who is so far behind that the history has
// forgotten what comes next is cut off.
//
// A connection falls behind only between two txns, and only while nothing else is
// under way: no answer of its own waits for its turn. Until it has caught up its
// reader begins nothing, so that no answer shows a change before its event.
//
// Invariant: who is behind has somebody who sends (flushing), or is on the crier's
// list, or dirty.

const (
	lagWatches = 16      // with more of them it does not: reading the past costs a look for each
	pageLooks  = 4 << 10 // events that are looked at for a page
)

// pace says how soon a connection falls behind.
type pace struct {
	waiting int // bytes of events that wait, then it does
	page    int // bytes of a page
}

var usualPace = pace{waiting: 4 << 10, page: 16 << 10}

// behind is a connection's place in the history. The connection's lock guards it.
type behind struct {
	isBehind bool
	outside  bool       // its watches are not in the table
	idle     bool       // its reader waits for the client
	read     znode.Zxid // until then the history is read
	told     znode.Zxid // the last txn that it was told of
}

// fallsBehind says whether an event is not for now, as the connection is behind, or
// begins to be.
func (c *conn) fallsBehind(zxid znode.Zxid) bool {
	o := &c.mu.outbox
	if !o.isBehind && o.idle && o.events >= c.s.pace.waiting && o.told != zxid && !c.waiting() && len(o.watches) <= lagWatches && !o.ending && !o.broken {
		c.lag(zxid-1, zxid-1)
		c.soil()
	}
	o.told = zxid
	return o.isBehind
}

// lag makes the connection one that is behind, from a place in the history on. Its
// watches have seen what came until another one.
func (c *conn) lag(from, seen znode.Zxid) {
	c.mu.isBehind, c.mu.read = true, from
	for _, w := range c.mu.watches {
		w.seen = seen
	}
}

// stepOutside takes the watches of a connection that is behind out of the table.
// The state lock is held.
func (c *conn) stepOutside(table *watch.Table) {
	if !c.mu.isBehind || c.mu.outside {
		return
	}
	c.mu.outside = true
	for _, w := range c.mu.watches {
		table.Drop(w)
	}
}

// pull puts the next page into the outbox of a connection that is behind. It takes
// mu; the state lock is held.
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
		if more = e.Zxid != o.read && (looks >= pageLooks || len(o.out)-before >= c.s.pace.page); more { // a txn is told as one
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

// stepInside returns the watches into the table: the connection has caught up.
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

// isPulling says whether there is something to read from the history.
func (c *conn) isPulling() bool { return c.mu.isBehind && !c.mu.broken && !c.mu.ending }

// begin waits, before the reader handles what it has received, until the connection
// has caught up. It takes mu.
func (c *conn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.idle = false
	c.await(func() bool { return !c.mu.isBehind || c.isOver() })
}
