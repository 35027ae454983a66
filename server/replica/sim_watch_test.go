package replica_test

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// simWatch is a watch as the client sees it: from the answer to the read that armed it until its
// event.
type simWatch struct {
	path string
	kind watch.Kind
	next int // position among the history's events at the path: the first that may concern the watch
}

// happened is an event of the history.
type happened struct {
	typ  znode.EventType
	path string
	zxid znode.Zxid
}

const anyEvent = 1<<znode.NodeCreated | 1<<znode.NodeDeleted | 1<<znode.NodeDataChanged | 1<<znode.NodeChildrenChanged

func (w *simWatch) mask() int {
	switch w.kind {
	case watch.Children:
		return 1<<znode.NodeChildrenChanged | 1<<znode.NodeDeleted
	case watch.Persistent:
		return anyEvent
	}
	return anyEvent &^ (1 << znode.NodeChildrenChanged)
}

func (w *simWatch) isPersistent() bool {
	return w.kind == watch.Persistent || w.kind == watch.PersistentRecursive
}

// wants says whether an event is for this watch.
func (w *simWatch) wants(e happened) bool {
	at := e.path == w.path || w.kind == watch.PersistentRecursive && strings.HasPrefix(e.path, w.path+"/")
	return at && w.mask()>>e.typ&1 != 0
}

func (w *simWatch) String() string { return fmt.Sprintf("watch of kind %d at %s", w.kind, w.path) }

// delivery is something that a connection brings to its client; what belongs to one txn arrives
// together or not at all.
type delivery struct {
	zxid znode.Zxid
	take func()
}

// push puts a delivery into the outbox.
func (c *simConn) push(zxid znode.Zxid, take func()) {
	if c.owner == nil || c.ended {
		return
	}
	c.outbox = append(c.outbox, delivery{zxid, take})
	if len(c.outbox) == 1 {
		c.after(c.between(0, 20*time.Millisecond), c.flush)
	}
}

// flush delivers everything in the outbox. A client no longer listens to a connection once it has a
// newer one.
func (c *simConn) flush() {
	all := c.outbox
	c.outbox = nil
	for _, d := range all {
		if c.owner.hears == c {
			d.take()
		}
	}
}

// cutOutbox drops the end of the outbox.
func (c *simConn) cutOutbox() {
	if len(c.outbox) < 2 || c.chance(50) {
		return
	}
	keep := 1 + c.rnd.IntN(len(c.outbox)-1)
	for keep > 1 && c.outbox[keep].zxid == c.outbox[keep-1].zxid {
		keep--
	}
	if keep > 1 || c.outbox[0].zxid != c.outbox[1].zxid {
		c.seen["outboxes cut"]++
		c.outbox = c.outbox[:keep]
	}
}

// A connection is the watch.Watcher of all its watches, as with ZooKeeper's protocol.
func (c *simConn) Identities() []znode.Identity { return nil }
func (c *simConn) Closed() bool                 { return c.ended }

// Notify puts an event into the outbox. The state lock is held.
func (c *simConn) Notify(e znode.Event) {
	at := happened{e.Type, e.Path, e.Zxid}
	c.push(e.Zxid, func() { c.owner.event(at) })
	if c.mutant.is(eventTwice) && c.chance(2) {
		c.push(e.Zxid, func() { c.owner.event(at) })
	}
}

// watch reads a znode and sets a watch on it.
func (c *simConn) watch() {
	path := fmt.Sprintf("/k%d", c.rnd.IntN(simKeys))
	kind := watch.Data
	switch c.rnd.IntN(8) {
	case 0:
		path, kind = "/e", watch.Children
	case 1, 2:
		path = fmt.Sprintf("/e/x%d", c.rnd.IntN(ephemeralNames))
	case 3:
		path = groupPath(c.rnd.IntN(simGroups), 0)
	case 4:
		path, kind = fmt.Sprintf("/c%d", c.rnd.IntN(simContainers)), watch.Children
	}
	switch p := c.rnd.IntN(100); {
	case p < 15:
		kind = watch.Persistent
	case p < 25 && c.owner.recursive() < 2:
		tops := []string{"/e", simSequences, "/g0", "/c0", "/t0", "/c1", "/t1"}
		path, kind = tops[c.rnd.IntN(len(tops))], watch.PersistentRecursive
	}
	c.node.r.View(func(t *tree.Tree, table *watchTable) {
		zxid := t.Counters().Zxid
		switch _, code := t.Get(path, nil, 0); {
		case code == znode.OK:
		case kind == watch.Data:
			kind = watch.Exist
		case kind == watch.Children:
			return
		}
		if !c.mutant.is(watchForgotten) || !c.chance(10) {
			c.arm(path, kind, table)
		}
		c.zxid = max(c.zxid, zxid)
		c.push(zxid, func() { c.owner.armed(path, kind, zxid) })
	})
}

func (c *simConn) arm(path string, kind watch.Kind, table *watchTable) {
	if kind == watch.PersistentRecursive && c.mutant.is(shallowWatch) {
		kind = watch.Persistent
	}
	if err := table.Add(c, path, kind); err != nil {
		c.fail("watch %s: %v", path, err)
	}
}

// armed handles the answer to a read that has set a watch.
func (o *owner) armed(path string, kind watch.Kind, zxid znode.Zxid) {
	o.answer(zxid)
	if slices.ContainsFunc(o.watches, func(w *simWatch) bool { return w.path == path && w.kind == kind }) {
		return
	}
	o.seen["watches armed"]++
	w := &simWatch{path: path, kind: kind}
	w.next = o.check.eventsUpTo(w, zxid)
	o.watches = append(o.watches, w)
	if kind == watch.PersistentRecursive {
		o.seen["recursive watches armed"]++
	}
}

// recursive returns the number of recursive watches.
func (o *owner) recursive() (n int) {
	for _, w := range o.watches {
		if w.kind == watch.PersistentRecursive {
			n++
		}
	}
	return n
}

// answer handles an answer that shows the state at zxid: all earlier events must have arrived.
func (o *owner) answer(zxid znode.Zxid) {
	if zxid < o.zxid {
		o.fail("%v has seen %v, and is shown %v", o, o.zxid, zxid)
	}
	o.zxid, o.answered = zxid, zxid
	for _, w := range o.watches {
		if _, e, ok := o.check.next(w); ok && e.zxid <= zxid {
			o.fail("%v is shown the state at %v, and its %v has not had event %d of %v", o, zxid, w, e.typ, e.zxid)
		}
	}
}

// event handles an event: it must be the next one of a watch, and newer than everything shown so
// far.
func (o *owner) event(e happened) {
	if e.zxid <= o.answered || e.zxid < o.zxid {
		o.fail("%v has seen %v, and is told of an event at %v", o, o.zxid, e.zxid)
	}
	o.zxid = e.zxid
	o.seen["watches fired"]++
	wanted := false
	o.watches = slices.DeleteFunc(o.watches, func(w *simWatch) bool {
		if !w.wants(e) {
			return false
		}
		wanted = true
		i, want, ok := o.check.next(w)
		if !ok || want != e {
			o.fail("%v: its %v has event %+v; the next there is %+v, %t", o, w, e, want, ok)
		}
		w.next = i + 1
		if e.path != w.path {
			o.seen["events below a recursive watch"]++
		}
		return !w.isPersistent()
	})
	if !wanted {
		o.fail("%v has event %+v, and waits for none", o, e)
	}
}

// setWatches arms the client's watches on the node that it has come to, by frontend's rules. For a
// one-shot watch there is an event if the znode has changed since the state that the client has
// seen; otherwise the watch is armed again. For a persistent watch, as in coord's own protocol, the
// missed events come from the table's history.
func (c *simConn) setWatches() {
	o := c.owner
	if c.ended || o.hears != c { // also while it is leaving: the answers to its writes still arrive here
		return
	}
	c.node.r.View(func(t *tree.Tree, table *watchTable) {
		zxid, since := t.Counters().Zxid, o.zxid
		switch {
		case c.mutant.is(rearmedLate):
			since = zxid
		case c.mutant.is(toldAgain):
			since = max(1, since) - 1
		}
		c.zxid = max(c.zxid, zxid)
		var told []func()
		for _, w := range o.watches {
			c.seen["watches re-armed after a move"]++
			if w.isPersistent() {
				missed, whole := missedEvents(w, since, table)
				told = append(told, func() { o.caughtUp(w, missed, whole, zxid) })
				if whole {
					c.arm(w.path, w.kind, table)
				}
				continue
			}
			typ := missedEvent(w, since, t)
			told = append(told, func() { o.rearmed(w, typ, zxid) })
			if typ == 0 {
				c.arm(w.path, w.kind, table)
			}
		}
		c.push(zxid, func() {
			for _, tell := range told {
				tell()
			}
			o.answer(zxid)
		})
	})
}

// missedEvent is the event that a one-shot watch gets at once.
func missedEvent(w *simWatch, since znode.Zxid, t *tree.Tree) znode.EventType {
	z, code := t.Get(w.path, nil, 0)
	return w.kind.Missed(since, code == znode.OK, &z.Stat)
}

// missedEvents are the watch's missed events in the table's history.
func missedEvents(w *simWatch, since znode.Zxid, table *watchTable) (missed []happened, whole bool) {
	whole = table.Since(since, func(e *znode.Event) bool {
		if w.kind.Concerns(w.path, e.Type, e.Path) {
			missed = append(missed, happened{e.Type, e.Path, e.Zxid})
		}
		return true
	})
	return missed, whole
}

// rearmed checks what became of a one-shot watch, as of a state.
func (o *owner) rearmed(w *simWatch, typ znode.EventType, zxid znode.Zxid) {
	changed, there := false, w.kind != watch.Exist
	all := o.check.eventsOf(w)
	until := o.check.eventsUpTo(w, zxid)
	for _, e := range all[w.next:until] {
		changed = changed || w.wants(e)
		switch e.typ {
		case znode.NodeCreated:
			there = true
		case znode.NodeDeleted:
			there = false
		}
	}
	want := znode.EventType(0)
	switch {
	case w.kind == watch.Exist && there:
		want = znode.NodeCreated
	case w.kind == watch.Exist || !changed:
	case !there:
		want = znode.NodeDeleted
	case w.kind == watch.Data:
		want = znode.NodeDataChanged
	default:
		want = znode.NodeChildrenChanged
	}
	if typ != want {
		o.fail("%v, seen %v, arms its %v at %v: told of %d, it should be %d; since then %v", o, o.zxid, w, zxid, typ, want, all[w.next:until])
	}
	w.next = until
	if typ != 0 {
		o.seen["watches fired after a move"]++
		o.watches = slices.DeleteFunc(o.watches, func(x *simWatch) bool { return x == w })
	}
}

// caughtUp checks what a persistent watch has missed.
func (o *owner) caughtUp(w *simWatch, missed []happened, whole bool, zxid znode.Zxid) {
	if !whole {
		o.seen["watches whose past is forgotten"]++
		o.watches = slices.DeleteFunc(o.watches, func(x *simWatch) bool { return x == w })
		return
	}
	var want []happened
	until := o.check.eventsUpTo(w, zxid)
	for _, e := range o.check.eventsOf(w)[w.next:until] {
		if w.wants(e) {
			want = append(want, e)
		}
	}
	if !slices.Equal(missed, want) {
		o.fail("%v, seen %v, arms its %v at %v: told of %v, it should be %v", o, o.zxid, w, zxid, missed, want)
	}
	o.seen["events caught up after a move"] += len(want)
	if w.kind == watch.PersistentRecursive {
		o.seen["events of recursive watches caught up"] += len(want)
	}
	w.next = until
}

// What the checker knows of events.

// happened records the events of a txn.
func (k *checker) happened(events []znode.Event) {
	for _, ev := range events {
		if ev.Path == "" {
			continue
		}
		e := happened{ev.Type, ev.Path, ev.Zxid}
		k.events[ev.Path] = append(k.events[ev.Path], e)
		if ev.Type != znode.NodeChildrenChanged {
			first, _, _ := strings.Cut(ev.Path[1:], "/")
			k.below["/"+first] = append(k.below["/"+first], e)
		}
	}
}

// eventsOf returns the events among which are those of a watch.
func (k *checker) eventsOf(w *simWatch) []happened {
	if w.kind == watch.PersistentRecursive {
		return k.below[w.path]
	}
	return k.events[w.path]
}

// eventsUpTo returns how many of these events there were up to a zxid.
func (k *checker) eventsUpTo(w *simWatch, zxid znode.Zxid) int {
	all := k.eventsOf(w)
	return sort.Search(len(all), func(i int) bool { return all[i].zxid > zxid })
}

// next returns the next event of a watch.
func (k *checker) next(w *simWatch) (i int, e happened, ok bool) {
	for all := k.eventsOf(w); w.next < len(all); w.next++ {
		if w.wants(all[w.next]) {
			return w.next, all[w.next], true
		}
	}
	return 0, happened{}, false
}

// endOfWatches: a connected client has had every event.
func (k *checker) endOfWatches(o *owner) {
	if o.conn == nil {
		return
	}
	for _, w := range o.watches {
		if _, e, ok := k.next(w); ok {
			k.s.fail("%v: its %v has not had event %+v at the end", o, w, e)
		}
	}
}
