package frontend

import (
	"sync"
	"time"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// A lock is a folder of ephemeral sequential znodes, as in ZooKeeper's recipes; their sequence is
// the order of the line. A LOCK creates its znode, counts the znodes before it that are in its way,
// and subtracts those that are deleted. So a release costs every waiter one subtraction, and only
// the LOCK whose turn it is gets its answer. A new LOCK's znode is never in the way of an earlier
// one. But a client may create a znode with any name, and that may be in the way, so creations are
// counted too.

// The prefixes of the children's names, before the sequence number. Children of other names,
// created by other clients, count as exclusive.
const (
	lockPrefix   = "lock-"
	sharedPrefix = "read-"
	slotPrefix   = "slot-"
)

func lockPrefixOf(req *text.Request) string {
	switch {
	case req.Shared:
		return sharedPrefix
	case req.Slots > 0:
		return slotPrefix
	}
	return lockPrefix
}

// sequenceDigits is the number of digits at the end of a sequential znode's name.
const sequenceDigits = 10

// splitSequence splits the sequence number off a sequential znode's name.
func splitSequence(name string) (prefix, number string, ok bool) {
	at := len(name) - sequenceDigits
	if at < 0 {
		return "", "", false
	}
	for i := at; i < len(name); i++ {
		if name[i] < '0' || name[i] > '9' {
			return "", "", false
		}
	}
	return name[:at], name[at:], true
}

// locks records the znodes of the LOCKs that are not answered yet, and of those that are being
// deleted. If a session moves to another connection and asks for the lock again there, the new LOCK
// takes over the znode with its place in the line. The first LOCK must not delete the znode then.
type locks struct {
	mu      sync.Mutex       // a leaf lock
	waiting map[string]*wait // by the znode's path
}

// take makes w the LOCK to which a znode belongs, and returns true, unless the znode is being
// deleted.
func (l *locks) take(path string, w *wait) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if is := l.waiting[path]; is != nil && is.leaving {
		return false
	}
	l.waiting[path] = w
	return true
}

func (l *locks) isLeaving(path string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	is := l.waiting[path]
	return is != nil && is.leaving
}

// giveUp says whether w must delete its znode. It returns true at most once.
func (l *locks) giveUp(w *wait) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[w.child] != w || w.leaving {
		return false
	}
	w.leaving = true
	return true
}

// release forgets w, which holds its lock now or has no znode any more.
func (l *locks) release(w *wait) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[w.child] == w {
		delete(l.waiting, w.child)
	}
}

// weigh says how much a znode, by its name, is in this lock's way.
func (w *wait) weigh(name string) int {
	_, own := znode.Split(w.child)
	_, mine, _ := splitSequence(own)
	prefix, other, ok := splitSequence(name)
	switch {
	case !ok || other >= mine, w.req.Shared && prefix == sharedPrefix:
		return 0
	case w.req.Slots > 0 && prefix == slotPrefix:
		return 1
	}
	return w.allowed + 1
}

// lock executes a LOCK.
func (c *textConn) lock(req *text.Request) {
	if !c.needSession(req) {
		return
	}
	w := c.newWait(req)
	w.session, w.attachment = c.sess.id, c.sess.attachment
	w.allowed, w.holder = int(max(req.Slots, 1))-1, c.name
	if w.holder == "" {
		w.holder = c.nc.RemoteAddr().String()
	}
	if !c.enterWait(w) {
		return
	}
	c.s.cfg.Backend.View(func(t *tree.Tree, table *watch.Table) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if w.resume(t, table) {
			c.advance(t, table, time.Now())
			return
		}
		_, code := t.Get(req.Path, nil, 0)
		w.create(code == znode.OK)
	})
}

// resume looks for a znode that the session already has in the line, and takes it over. It says
// whether the LOCK is settled: a znode was taken over, or the session has one of another kind
// there, which is an error. The state lock and mu are held.
func (w *wait) resume(t *tree.Tree, table *watch.Table) bool {
	other := false
	for _, path := range t.Ephemerals(w.session) {
		parent, name := znode.Split(path)
		prefix, _, ok := splitSequence(name)
		switch {
		case parent != w.req.Path || !ok || w.c.s.locks.isLeaving(path):
		case prefix != lockPrefixOf(&w.req):
			other = true
		case w.c.s.locks.take(path, w):
			z, _ := t.Get(path, nil, 0)
			w.child, w.token = path, z.Stat.Czxid
			w.count(t, table)
			return true
		}
	}
	if other {
		w.code, w.ready = znode.ErrNodeExists, true
	}
	return other
}

// create adds the lock's znode to the line, after creating the folder if it does not exist. It
// creates nothing if the connection has ended, because a write before the LOCK may be lost. The
// state lock and mu are held.
func (w *wait) create(folder bool) {
	if w.c.mu.broken || w.c.mu.ending {
		return
	}
	submit := w.c.s.cfg.Backend.Submit
	if !folder {
		submit(&tree.Txn{IDs: w.ids, Session: w.session, Attachment: w.attachment, Op: tree.Op{
			Kind: tree.KindCreate, Mode: znode.Container, Path: w.req.Path, Data: []byte{}, ACL: znode.OpenACL, Flags: tree.Parents,
		}}, func(r tree.Result, _ *tree.Tree, _ *watch.Table) {
			w.c.mu.Lock()
			defer w.c.mu.Unlock()
			if w.folder = r.Code; r.Code == znode.ErrNodeExists {
				w.folder = znode.OK
			}
		})
	}
	submit(&tree.Txn{IDs: w.ids, Session: w.session, Attachment: w.attachment, Op: tree.Op{
		Kind: tree.KindCreate, Mode: znode.EphemeralSequential, Path: znode.Join(w.req.Path, lockPrefixOf(&w.req)), Data: []byte(w.holder), ACL: znode.OpenACL,
	}}, w.created)
}

// created receives the outcome of the creation of the lock's znode. The state lock is held; mu is
// not.
func (w *wait) created(r tree.Result, t *tree.Tree, table *watch.Table) {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	isOver := c.mu.broken || w.ended.Load() || w.code != znode.OK
	switch {
	case r.Code == znode.ErrNoNode && w.folder == znode.OK && !w.again && !isOver: // an empty folder was deleted a moment ago
		w.again = true
		w.create(false)
		return
	case r.Code != znode.OK:
		if r.Code == znode.ErrNoNode && w.folder != znode.OK || w.folder == znode.ErrUncertain {
			r.Code = w.folder
		}
		if w.code == znode.OK || r.Code == znode.ErrUncertain {
			w.code = r.Code
		}
		w.ready = true
	default:
		w.child, w.token = r.Path, r.Zxid
		c.s.locks.take(w.child, w)
		if isOver {
			go w.withdraw()
		} else {
			w.count(t, table)
		}
	}
	c.advance(t, table, time.Now())
	c.soil()
}

// count counts the znodes before this lock. The state lock and mu are held.
func (w *wait) count(t *tree.Tree, table *watch.Table) {
	t.Children(w.req.Path, "", func(name string, _ func() tree.Znode) bool {
		w.ahead += w.weigh(name)
		return true
	})
	switch {
	case w.ahead <= w.allowed:
		w.ready = true
		return
	case w.req.TimeoutMS == 0:
		w.code = znode.ErrTimeout
	default:
		w.code = w.register(watch.PersistentRecursive, table)
	}
	if w.code != znode.OK {
		go w.withdraw()
	}
}

// lockEvent adds znodes that come into the way and subtracts those that go. mu is held.
func (w *wait) lockEvent(e *znode.Event) {
	if e.Type != znode.NodeCreated && e.Type != znode.NodeDeleted || w.code != znode.OK {
		return
	}
	if e.Path == w.child {
		w.code, w.ready = znode.ErrNoNode, true // it was deleted, and not by this LOCK
		w.c.s.locks.release(w)
		return
	}
	parent, name := znode.Split(e.Path)
	switch {
	case parent != w.req.Path:
	case e.Type == znode.NodeCreated:
		w.ahead += w.weigh(name)
	default:
		w.ahead -= w.weigh(name)
		w.ready = w.ahead <= w.allowed
	}
}

// withdraw deletes the lock's znode, if it still belongs to this LOCK, and answers. No lock is
// held.
func (w *wait) withdraw() {
	c := w.c
	c.mu.Lock()
	there := w.child != "" // otherwise created calls withdraw later
	c.mu.Unlock()
	if there && c.s.locks.giveUp(w) {
		w.remove()
	}
}

// remove deletes the znode, and retries until it is gone: as long as its session lives, the znode
// would be in the way of all other waiters. If the session has moved to another node, the znode is
// no longer this node's: it may be the client's lock there by now. So the deletion goes through the
// attachment that this node knows. No lock is held.
func (w *wait) remove() {
	c := w.c
	x := &tree.Txn{IDs: everybody, Session: w.session, Attachment: w.attachment, Op: tree.Op{
		Kind: tree.KindDelete, Path: w.child, Version: tree.AnyVersion,
	}}
	c.s.cfg.Backend.View(func(t *tree.Tree, table *watch.Table) {
		if table.Attached(w.session) != nil { // to a connection of this node
			s, _ := t.Session(w.session)
			x.Attachment = s.Attachment
		}
	})
	c.s.cfg.Backend.Submit(x, func(r tree.Result, t *tree.Tree, table *watch.Table) {
		switch {
		case r.Code == znode.ErrSessionMoved && table.Attached(w.session) != nil: // to this node, meanwhile
			go w.remove()
		case r.Code == znode.OK, r.Code == znode.ErrNoNode, r.Code == znode.ErrSessionMoved, r.Code == znode.ErrSessionExpired:
			c.s.locks.release(w)
		default:
			time.AfterFunc(WithdrawTime, w.remove)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		w.ready = true
		c.advance(t, table, time.Now())
		c.soil()
	})
}

// unlock executes an UNLOCK.
func (c *textConn) unlock(req *text.Request) {
	if !c.isNext() {
		return
	}
	var child string
	if c.sess.id != 0 {
		c.s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) {
			for _, path := range t.Ephemerals(c.sess.id) {
				parent, name := znode.Split(path)
				prefix, _, ok := splitSequence(name)
				ours := prefix == lockPrefix || prefix == sharedPrefix || prefix == slotPrefix
				if ok && ours && parent == req.Path && !c.s.locks.isLeaving(path) {
					child = path
					return
				}
			}
		})
	}
	if child == "" {
		c.replyError(req, znode.ErrNoNode, "this connection's session holds no lock at that path")
		return
	}
	w := c.newWrite(req)
	w.txn = c.txn(tree.Op{Kind: tree.KindDelete, Path: child, Version: tree.AnyVersion})
	c.submit(&w.write)
}
