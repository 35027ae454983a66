package frontend

import (
	"sync/atomic"
	"time"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// wait is a request that is answered when an event or a timeout decides it: a WAIT or a LOCK. It
// stands in the queue as a barrier: later requests wait for it, and no write after it is begun.
type wait struct {
	item
	script
	req   text.Request
	value string // for VALUE=
	ids   []znode.Identity
	begun bool // of a WAIT: it has checked its condition
	timer *time.Timer
	ended atomic.Bool

	// The following belongs to a LOCK.
	session    int64
	attachment uint32
	holder     string
	again      bool       // its folder was gone, and this is the second attempt
	folder     znode.Code // why there is no folder
	child      string     // path of its znode; "" until it is created
	token      znode.Zxid
	ahead      int  // weight of the znodes before it that are in its way
	allowed    int  // largest weight at which it gets the lock
	leaving    bool // the znode is being deleted; guarded by locks
}

func (w *wait) Closed() bool { return w.ended.Load() }

// Identities of a LOCK see everything: a znode that the client may not read is in the way all the
// same.
func (w *wait) Identities() []znode.Identity {
	if w.req.Verb == text.VerbLock {
		return everybody
	}
	return w.ids
}

// Notify checks whether the event decides the wait. The state lock is held.
func (w *wait) Notify(e znode.Event) {
	if w.ended.Load() {
		return
	}
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.ready {
		return
	}
	if w.req.Verb == text.VerbLock {
		w.lockEvent(&e)
	} else {
		w.ready = w.fulfils(&e)
	}
	if w.ready {
		c.mu.due = true
		c.soil()
	}
}

// fulfils says whether an event fulfils the condition of a WAIT.
func (w *wait) fulfils(e *znode.Event) bool {
	switch w.req.Condition {
	case text.UntilExists:
		return e.Type == znode.NodeCreated
	case text.UntilGone:
		return e.Type == znode.NodeDeleted
	case text.UntilValue:
		return (e.Type == znode.NodeCreated || e.Type == znode.NodeDataChanged) && e.Data == w.value
	}
	return e.Zxid > w.req.Zxid
}

// waitFor executes a WAIT: it puts it into the queue, where its turn comes.
func (c *textConn) waitFor(req *text.Request) {
	w := c.newWait(req)
	w.value = string(req.Value)
	if !c.enterWait(w) {
		return
	}
	c.s.cfg.Backend.View(c.advanceView)
}

func (c *textConn) newWait(req *text.Request) *wait {
	w := &wait{item: c.newItem(), script: c.script(req), req: *req, ids: c.ids, begun: req.Verb == text.VerbLock}
	w.req.Value, w.req.Ops = nil, nil
	w.wait, w.turn, w.barrier = w, w, true
	return w
}

// enterWait queues w once no earlier request is a barrier. It takes mu.
func (c *conn) enterWait(w *wait) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.await(func() bool { return c.mu.barriers == 0 || c.isOver() })
	if !c.goesOn() {
		return false
	}
	c.mu.barriers++
	c.mu.waits++
	c.enqueue(&w.item)
	return true
}

// begin starts a WAIT when its turn has come. The state lock and mu are held.
func (w *wait) begin(t *tree.Tree, table *watch.Table) {
	w.begun = true
	z, code := t.Get(w.req.Path, w.ids, znode.Read)
	switch {
	case code == znode.ErrNoAuth:
		w.code, w.ready = code, true
		return
	case w.req.Condition == text.UntilChange && w.req.HasZxid:
		var whole bool
		if w.ready, whole = w.changedSince(table); !whole {
			w.ready = max(z.Stat.Mzxid, z.Stat.Pzxid) > w.req.Zxid
			if code == znode.ErrNoNode {
				w.code, w.ready = znode.ErrCompacted, true
			}
		}
	case w.req.Condition == text.UntilExists:
		w.ready = code == znode.OK
	case w.req.Condition == text.UntilGone:
		w.ready = code == znode.ErrNoNode
	case w.req.Condition == text.UntilValue:
		w.ready = code == znode.OK && z.Data == w.value
	}
	if !w.ready {
		w.code = w.register(watch.Persistent, table)
		w.ready = w.code != znode.OK
	}
}

func (w *wait) changedSince(table *watch.Table) (changed, whole bool) {
	whole = table.Since(w.req.Zxid, func(e *znode.Event) bool {
		changed = e.Path == w.req.Path && e.ACL.Allows(w.ids, znode.Read)
		return !changed
	})
	return changed, whole
}

// register starts to watch the path and starts the timer of the timeout, unless the connection has
// ended. The state lock and mu are held.
func (w *wait) register(kind watch.Kind, table *watch.Table) znode.Code {
	if w.ended.Load() {
		return znode.OK
	}
	if err := table.Add(w, w.req.Path, kind); err != nil {
		w.c.s.stats.limitsReached.Add(1)
		return znode.ErrLimit
	}
	w.timer = time.AfterFunc(ms(w.req.TimeoutMS), func() { w.giveUp(znode.ErrTimeout) })
	return znode.OK
}

// giveUp answers with a code, unless the outcome is known. A LOCK deletes its znode first. No lock
// is held.
func (w *wait) giveUp(code znode.Code) {
	c := w.c
	c.mu.Lock()
	given := !w.ready && w.code == znode.OK
	if given {
		w.code = code
		w.ready = w.req.Verb == text.VerbWait
	}
	c.mu.Unlock()
	switch {
	case !given:
	case w.req.Verb == text.VerbLock:
		w.withdraw()
	default:
		c.wake()
	}
}

// wake answers requests that have become ready outside a done. No lock is held.
func (c *conn) wake() {
	c.s.cfg.Backend.View(c.advanceView)
	c.kick(false)
}

func (c *conn) advanceView(t *tree.Tree, w *watch.Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.due = false
	c.stepOutside(w)
	c.advance(t, w, time.Now())
}

// finish forgets a wait that is answered, or whose connection has ended. mu is held.
func (w *wait) finish(table *watch.Table) {
	w.ended.Store(true)
	if w.timer != nil {
		w.timer.Stop()
	}
	table.Drop(w)
}

func (w *wait) appendAnswer(b []byte, t *tree.Tree, _ *watch.Table) []byte {
	fields := borrowFields()
	defer fields.giveBack()
	r := text.Reply{Kind: text.KindOK, Tag: w.tag, Fields: fields[:0]}
	switch {
	case w.code != znode.OK:
		r.Kind, r.Code, r.Message = text.KindErr, w.code, w.code.Error()
		r.Fields = append(r.Fields, text.Str(text.KeyPath, w.req.Path))
	case w.req.Verb == text.VerbLock:
		w.c.s.locks.release(w)
		r.Fields = append(r.Fields, text.Zxid(text.KeyToken, w.token), text.Str(text.KeyPath, w.child), seen(t))
	default:
		r.Fields = append(r.Fields, seen(t))
	}
	return r.Append(b, w.format, w.crlf)
}
