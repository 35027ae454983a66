package frontend

import (
	"strconv"
	"sync/atomic"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// Masks of the event types that a watch delivers.
const (
	dataEvents  = 1 << znode.NodeDataChanged
	childEvents = 1 << znode.NodeChildrenChanged
	lifeEvents  = 1<<znode.NodeCreated | 1<<znode.NodeDeleted
)

var everybody = []znode.Identity{znode.Super}

// eventWatch is one watch of a client, identified by its id. Each is a watch.Watcher of its own, so
// that it is notified and removed independently.
type eventWatch struct {
	c         *textConn
	id        int64
	path      string
	ids       []znode.Identity
	mask      uint8 // of event types
	once      bool
	recursive bool
	data      bool       // events carry the value
	seen      znode.Zxid // for a lagging connection: events up to here were delivered, or must not be
	ended     atomic.Bool
}

// Identities see everything: Notify checks the ACL itself.
func (w *eventWatch) Identities() []znode.Identity { return everybody }
func (w *eventWatch) Closed() bool                 { return w.ended.Load() }

// Notify puts the event into the outbox. The state lock is held.
func (w *eventWatch) Notify(e znode.Event) {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.ended.Load() || w.mask&(1<<e.Type) == 0 || c.fallsBehind(e.Zxid) {
		return
	}
	if c.isSlow(w.data && len(e.Data) > smallBuffer) {
		c.cutOff()
	}
	w.tell(&e, &c.s.echo)
	c.soil()
}

// tell delivers an event that concerns the watch, unless the client may not know of it. The
// connection's lock is held.
func (w *eventWatch) tell(e *znode.Event, last *echo) {
	if w.ended.Load() {
		return
	}
	if w.once { // consumed, delivered or not
		w.ended.Store(true)
		delete(w.c.mu.watches, w.id)
	}
	if w.mayKnow(e) {
		w.c.appendEvent(w, e, last)
	}
}

func (w *eventWatch) mayKnow(e *znode.Event) bool { return e.ACL.Allows(w.ids, znode.Read) }

// concerns says whether the watch is for an event of the history.
func (w *eventWatch) concerns(e *znode.Event) bool {
	return w.mask&(1<<e.Type) != 0 && w.kind().Concerns(w.path, e.Type, e.Path)
}

// kind is the watch's kind in the watch table.
func (w *eventWatch) kind() watch.Kind {
	switch {
	case w.recursive:
		return watch.PersistentRecursive
	case !w.once:
		return watch.Persistent
	case w.mask&childEvents != 0:
		return watch.Children
	}
	return watch.Data
}

// soil marks a connection as dirty: it has something to send. Only the goroutine that runs dones
// and Notify calls it.
func (c *conn) soil() {
	if !c.dirty {
		c.dirty = true
		c.s.dirty = append(c.s.dirty, c)
	}
}

// isSlow says whether so many events wait, for this client or for all clients, that it must be cut
// off instead of getting another event. large says whether that event is a large one. mu is held.
func (c *conn) isSlow(large bool) bool {
	o := &c.mu.outbox
	return !o.broken && !o.ending && (o.events >= MaxEventBytes ||
		c.s.eventBytes.Load() >= MaxAllEventBytes && (o.events > 0 || large))
}

// cutOff ends the connection of a client that does not take its events.
func (c *conn) cutOff() {
	c.s.stats.slow.Add(1)
	c.end(&text.Reply{Kind: text.KindErr, Code: znode.ErrSlowClient, Message: "too many events are waiting for the client to read them"})
}

// appendEvent appends an event to the outbox. last is the event that was encoded last, or nil.
func (c *textConn) appendEvent(w *eventWatch, e *znode.Event, last *echo) {
	o := &c.mu.outbox
	if o.broken || o.ending {
		return
	}
	before := len(o.out)
	form := eventForm{w.id, w.data, c.events.format, c.events.crlf}
	switch {
	case last == nil:
		o.out = writeEvent(c.outbox(), e, form)
	case last.is(e, form):
		o.out = append(c.outbox(), last.written...)
	default:
		o.out = writeEvent(c.outbox(), e, form)
		last.keep(e, form, o.out[before:])
	}
	o.events += len(o.out) - before
	c.s.eventBytes.Add(int64(len(o.out) - before))
}

// writeEvent appends the encoding of an event.
func writeEvent(b []byte, e *znode.Event, f eventForm) []byte {
	fields := borrowFields()
	defer fields.giveBack()
	r := text.Reply{Kind: text.KindEvent, Arg: e.Type.String(), Fields: append(fields[:0], text.Str(text.KeyPath, e.Path), text.Zxid(text.KeyZxid, e.Zxid))}
	if e.Type == znode.NodeCreated || e.Type == znode.NodeDataChanged {
		r.Fields = append(r.Fields, text.Int(text.KeyVersion, int64(e.Version)))
		if f.data {
			if r.Data = bytesOf(e.Data); r.Data == nil {
				r.Data = []byte{}
			}
		}
	}
	r.Fields = append(r.Fields, text.Int(text.KeyID, f.id))
	return r.Append(grow(b, len(r.Data)), f.format, f.crlf)
}

// end makes r the last line of the connection. mu is held.
func (c *conn) end(r *text.Reply) {
	o := &c.mu.outbox
	if o.broken || o.ending {
		return
	}
	o.out = c.talk.appendLast(c.outbox(), r)
	c.endHere()
}

// newWatch creates the watch of a request, with an id. It is not armed yet. newWatch returns nil if
// the connection has too many watches. mu is held.
func (c *textConn) newWatch(req *text.Request, ids []znode.Identity) *eventWatch {
	o := &c.mu.outbox
	if len(o.watches) >= MaxWatches {
		c.s.stats.limitsReached.Add(1)
		return nil
	}
	o.lastWatch++
	w := &eventWatch{c: c, id: o.lastWatch, path: req.Path, ids: ids, once: true}
	switch req.Verb {
	case text.VerbFollow:
		w.once, w.recursive, w.data = false, req.Recursive, req.Data
		if w.mask = lifeEvents | dataEvents; !w.recursive {
			w.mask |= childEvents
		}
	case text.VerbWatch:
		w.once, w.recursive = !req.Persistent, req.Recursive
		w.mask = lifeEvents | dataEvents
		if req.Kind == text.WatchChildren {
			w.mask = childEvents | 1<<znode.NodeDeleted
		}
	case text.VerbLs:
		w.mask = childEvents | 1<<znode.NodeDeleted
	default:
		w.mask = lifeEvents | dataEvents
	}
	return w
}

func tooManyWatches(r *text.Reply) {
	r.Kind, r.Code, r.Message, r.Data, r.Items = text.KindErr, znode.ErrLimit, "a connection may have at most "+strconv.Itoa(MaxWatches)+" watches", nil, nil
}

// arm registers a watch. The state lock and mu are held.
func (c *textConn) arm(w *eventWatch, table *watch.Table) error {
	if err := table.Add(w, w.path, w.kind()); err != nil {
		c.s.stats.limitsReached.Add(1)
		return err
	}
	c.keep(w)
	return nil
}

func (c *textConn) keep(w *eventWatch) {
	if c.mu.watches == nil {
		c.mu.watches = map[int64]*eventWatch{}
	}
	c.mu.watches[w.id] = w
}

// watchFor arms the watch that a request asks for and adds its id to the answer, or turns the
// answer into the error. The state lock and mu are held.
func (c *textConn) watchFor(r *text.Reply, req *text.Request, ids []znode.Identity, table *watch.Table) {
	w := c.newWatch(req, ids)
	if w == nil {
		tooManyWatches(r)
		return
	}
	if err := c.arm(w, table); err != nil {
		r.Kind, r.Code, r.Message, r.Data, r.Items = text.KindErr, znode.ErrLimit, err.Error(), nil, nil
		return
	}
	r.Fields = append(r.Fields, text.Int(text.KeyID, w.id))
}

// watchable says why a WATCH or FOLLOW is refused; OK if it is not.
func watchable(req *text.Request, ids []znode.Identity, t *tree.Tree) znode.Code {
	_, code := t.Get(req.Path, ids, znode.Read)
	if code == znode.ErrNoNode && (req.Verb == text.VerbFollow || req.Kind == text.WatchExists || req.Persistent) {
		return znode.OK
	}
	return code
}

// catchUp answers a WATCH or FOLLOW with since. If the history has events for it since then, the
// connection is behind and gets them from there.
func (c *textConn) catchUp(req *text.Request) {
	if !c.isAlone() {
		return
	}
	c.s.cfg.Backend.View(func(t *tree.Tree, table *watch.Table) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.goesOn() {
			return
		}
		w, missed, whole := c.replay(req, t, table)
		c.answered()
		now := t.Counters().Zxid
		switch {
		case w == nil || !whole && c.compareStat(w, req.Zxid, t):
			return
		case missed:
			c.keep(w)
			c.lag(req.Zxid, now)
			w.seen = req.Zxid
			c.stepOutside(table)
		default:
			if err := c.arm(w, table); err != nil {
				c.end(&text.Reply{Kind: text.KindErr, Code: znode.ErrLimit, Message: err.Error()})
			}
		}
	})
	c.begin()
}

// replay answers a request with since. It returns the watch, or nil; whether it has missed an
// event; and whether the history since then is whole. The state lock and mu are held.
func (c *textConn) replay(req *text.Request, t *tree.Tree, table *watch.Table) (w *eventWatch, missed, whole bool) {
	fields := borrowFields()
	defer fields.giveBack()
	r := text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: fields[:0]}
	w = c.newWatch(req, c.ids)
	_, there := t.Get(req.Path, nil, 0)
	refused := func(code znode.Code) {
		r.Kind, r.Code, r.Message, w = text.KindErr, code, code.Error(), nil
		r.Fields = append(r.Fields, text.Str(text.KeyPath, req.Path))
	}
	whole = table.Since(req.Zxid, func(e *znode.Event) bool {
		missed = w != nil && w.concerns(e) && w.mayKnow(e)
		return !missed
	})
	switch code := watchable(req, c.ids, t); {
	case w == nil:
		tooManyWatches(&r)
	case req.Zxid > t.Counters().Zxid:
		r.Message = "this node is at zxid " + t.Counters().Zxid.String() + ", before the requested one"
		r.Kind, r.Code, w = text.KindErr, znode.ErrTimeout, nil
	case code != znode.OK && (code != znode.ErrNoNode || !missed): // the znode has been deleted since
		refused(code)
	case !whole && (!w.once || there == znode.ErrNoNode):
		refused(znode.ErrCompacted)
	default:
		r.Fields = append(r.Fields, text.Int(text.KeyID, w.id), seen(t))
	}
	c.mu.out = r.Append(c.outbox(), c.format, req.CRLF)
	return w, missed, whole
}

// compareStat is used when the history does not reach back to since. It delivers the change that
// the znode's stat shows, as ZooKeeper's setWatches does, and says whether there is one. The state
// lock and mu are held.
func (c *textConn) compareStat(w *eventWatch, since znode.Zxid, t *tree.Tree) bool {
	z, code := t.Get(w.path, w.ids, znode.Read)
	e := znode.Event{Path: w.path, Zxid: z.Stat.Mzxid, Type: znode.NodeDataChanged, Version: z.Stat.Version, Data: z.Data}
	if w.mask&childEvents != 0 {
		e.Type, e.Zxid = znode.NodeChildrenChanged, z.Stat.Pzxid
	}
	if code != znode.OK || e.Zxid <= since {
		return false
	}
	c.appendEvent(w, &e, nil)
	return true
}

// unwatch executes an UNWATCH.
func (c *textConn) unwatch(req *text.Request) {
	if !c.isNext() {
		return
	}
	c.mu.Lock()
	w := c.mu.watches[req.ID]
	if w != nil {
		w.ended.Store(true)
		delete(c.mu.watches, req.ID)
	}
	c.mu.Unlock()
	if w == nil {
		c.replyError(req, znode.ErrNoWatcher, znode.ErrNoWatcher.Error())
		return
	}
	c.s.cfg.Backend.View(func(_ *tree.Tree, table *watch.Table) { table.Drop(w) })
	c.reply(&text.Reply{Kind: text.KindOK, Tag: req.Tag}, req.CRLF)
}
