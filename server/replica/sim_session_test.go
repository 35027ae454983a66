package replica_test

import (
	"fmt"
	"slices"
	"time"

	"coord/server/session"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// owner is a client with a session. It has one connection at a time, pings over it, and moves to
// another node when the connection ends, or before. What it has not received when a connection
// ends, it never receives from that one.
type owner struct {
	*sim
	number   int
	id       int64 // of the session; 0: none
	password []byte
	ttl      time.Duration
	kept     bool // the session lives as long as its connection
	conn     *simConn
	hears    *simConn // the connection that it listens to: the last one
	coming   bool
	quiet    bool // it sends nothing
	since    time.Duration
	zxid     znode.Zxid // the newest it has seen, in an answer or an event
	answered znode.Zxid // the newest it has seen in an answer
	watches  []*simWatch
}

const (
	forwardSessions byte = 16 // as in package server
	keeperRound          = 250 * time.Millisecond
	// leaderlessAfter is how long a node without a leader keeps its clients.
	leaderlessAfter = 3 * time.Second
	// ephemeralNames is the number of names that all owners share.
	ephemeralNames = 6
)

func (c *clients) addOwner() {
	s := c.s
	o := &owner{sim: s, number: len(c.owners) + 1, ttl: s.between(2500*time.Millisecond, 5*time.Second).Round(time.Millisecond), kept: s.chance(20)}
	c.owners = append(c.owners, o)
	o.comeLater()
	o.fateLater()
}

func (o *owner) String() string { return fmt.Sprintf("client %d with session %#x", o.number, o.id) }

// comeLater finds, after a while, a node that takes clients.
func (o *owner) comeLater() {
	if o.coming {
		return
	}
	o.coming = true
	o.after(o.between(10*time.Millisecond, 300*time.Millisecond), func() {
		o.coming = false
		if o.conn != nil || o.quiet {
			return
		}
		n := o.nodes[o.rnd.IntN(len(o.nodes))]
		if n.r == nil || n.gone || !isReady(n) || n.r.Status().Leader == 0 {
			o.comeLater()
			return
		}
		c := o.clients.connect(n)
		c.owner, o.conn, o.hears = o, c, c
		if o.id == 0 {
			c.openSession()
		} else {
			c.resume()
		}
		n.wake()
	})
}

// fateLater makes something happen to the client, again and again.
func (o *owner) fateLater() {
	o.after(o.between(time.Second, 6*time.Second), func() {
		if o.now > simStorm+3*time.Second {
			return
		}
		if o.conn != nil && o.conn.session != 0 && !o.quiet {
			o.fate()
		}
		o.fateLater()
	})
}

func (o *owner) fate() {
	c := o.conn
	switch p := o.rnd.IntN(100); {
	case p < 35:
		c.endOnce()
	case p < 65: // the old connection lives on for a while, and goes on writing
		o.conn = nil
		o.after(o.between(0, 3*time.Second), c.endOnce)
		o.comeLater()
	case p < 85:
		o.note("%v is silent", o)
		o.quiet, o.since = true, o.now
		if o.kept || o.chance(50) {
			c.endOnce()
		}
		if back := o.ttl + o.between(0, 10*time.Second); o.now+back < simStorm {
			o.after(back, func() {
				o.quiet = false
				if o.conn == nil {
					o.comeLater()
				}
			})
		}
	default:
		c.closeSession()
	}
}

// forget makes it a client without a session.
func (o *owner) forget() {
	o.id, o.password, o.watches, o.zxid, o.answered, o.hears = 0, nil, nil, 0, 0, nil
}

// expired reports that its session has ended.
func (o *owner) expired(id int64) {
	if o.id != id {
		return
	}
	if rec := o.check.sessions[id]; rec == nil || !rec.ended {
		o.fail("%v is told that it has ended, and it lives", o)
	}
	o.note("%v has ended", o)
	o.forget()
}

// openSession asks for a new session.
func (c *simConn) openSession() {
	o := c.owner
	x := c.call(simInput{})
	x.op.Input = nil
	txn := &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, TimeoutMS: int32(o.ttl.Milliseconds())}
	c.node.r.Submit(txn, func(r tree.Result, t *tree.Tree, table *watchTable) {
		heard := c.answered(x)
		switch {
		case r.Code != znode.OK:
			c.notAttached(r.Code)
		case !heard:
			c.node.keeper.Detach(txn.Target, r.Attachment, o.ttl)
		default:
			c.seen["sessions opened"]++
			s, ok := t.Session(txn.Target)
			if !ok || len(txn.Password) != 16 || s.Password != [16]byte(txn.Password) {
				c.fail("session %#x with password %x is in the tree: %t, with %x", txn.Target, txn.Password, ok, s.Password)
			}
			o.id, o.password = txn.Target, txn.Password
			c.adopt(r.Attachment, table)
		}
	})
}

// notAttached does what a connection does without a session.
func (c *simConn) notAttached(code znode.Code) {
	switch code {
	case znode.ErrUncertain, znode.ErrNoLeader, znode.ErrThrottledOp, znode.ErrSessionExpired:
		c.endOnce()
	default:
		c.fail("session of connection %d: %v", c.id, code)
	}
}

// resume takes over the client's session, as frontend.takeOver does.
func (c *simConn) resume() {
	switch code := c.mayTake(); code {
	case znode.OK:
		c.attach()
	case znode.ErrTimeout:
		c.seen["nodes behind a client"]++
		c.endOnce()
	default: // the node may not have the session yet
		id := c.owner.id
		x := c.call(simInput{})
		x.op.Input = nil
		c.node.r.Barrier(func(r tree.Result, _ *tree.Tree, _ *watchTable) {
			if !c.answered(x) {
				return
			}
			c.after(0, func() {
				switch {
				case c.ended:
				case c.owner.id != id: // the client has learned of its end over another connection
					c.endOnce()
				case r.Code == znode.OK && c.mayTake() == znode.OK:
					c.attach()
				case r.Code == znode.OK:
					c.owner.expired(id)
					c.endOnce()
				default:
					c.notAttached(r.Code)
				}
			})
		})
	}
}

// mayTake says why the session cannot be taken over, as far as the node knows.
func (c *simConn) mayTake() (code znode.Code) {
	if c.isBehind() && !c.mutant.is(olderNode) {
		return znode.ErrTimeout
	}
	c.node.r.View(func(t *tree.Tree, _ *watchTable) {
		if _, there := t.Session(c.owner.id); !there {
			code = znode.ErrSessionExpired
		}
	})
	return code
}

// isBehind says whether the client has seen more than the node.
func (c *simConn) isBehind() (is bool) {
	c.node.r.View(func(t *tree.Tree, _ *watchTable) { is = c.owner.zxid > t.Counters().Zxid })
	return is
}

// anotherTTL is the TTL that a client asks for when it comes back: its present one, or half or
// twice that.
func (o *owner) anotherTTL() time.Duration {
	switch {
	case !o.chance(30):
		return o.ttl
	case o.ttl >= 5*time.Second:
		return o.ttl / 2
	}
	return 2 * o.ttl
}

func (c *simConn) attach() {
	o := c.owner
	x := c.call(simInput{})
	x.op.Input = nil
	id := o.id
	ttl := o.anotherTTL()
	txn := &tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: id, Password: slices.Clone(o.password), TimeoutMS: int32(ttl.Milliseconds())}
	c.node.r.Submit(txn, func(r tree.Result, _ *tree.Tree, table *watchTable) {
		heard := c.answered(x)
		switch {
		case !heard && r.Code == znode.OK:
			c.node.keeper.Detach(id, r.Attachment, ttl)
		case !heard:
		case r.Code != znode.OK:
			if r.Code == znode.ErrSessionExpired {
				c.after(0, func() { o.expired(id) })
			}
			c.notAttached(r.Code)
		default:
			c.seen["sessions moved"]++
			o.ttl = ttl
			c.adopt(r.Attachment, table)
			c.after(c.between(0, 2*time.Millisecond), c.setWatches)
		}
	})
	if c.mutant.is(olderNode) && c.isBehind() {
		c.read()
	}
	c.node.wake()
}

// adopt begins to serve the session. The state lock is held.
func (c *simConn) adopt(attachment uint32, table *watchTable) {
	o := c.owner
	c.note("%v comes to %d, attachment %d", o, c.node.id, attachment)
	c.session, c.attachment, c.ttl, c.table = o.id, attachment, o.ttl, table
	table.Attach(sessionEnd{c}, c.session)
	c.node.keeper.Attach(c.session, attachment, c.ttl, o.kept)
	c.check.signs[c.session] = signs{node: c.node, life: c.life, attachment: attachment, since: c.now, at: c.now, ttl: c.ttl, kept: o.kept}
	c.pingLater()
	c.later()
}

// leave does what the node does when the connection has ended.
func (c *simConn) leave() {
	if c.table == nil || c.node.r == nil || c.node.life != c.life {
		return
	}
	c.table.Drop(c)
	if c.table.Attached(c.session) != (sessionEnd{c}) {
		return // the session has ended, or moved
	}
	c.table.Detach(sessionEnd{c}, c.session)
	c.node.keeper.Detach(c.session, c.attachment, c.ttl)
	if s := c.check.signs[c.session]; s.attachment == c.attachment {
		s.at, s.kept = c.now, false
		c.check.signs[c.session] = s
	}
}

// pingLater sends the client's signs of life, three times in the session's TTL.
func (c *simConn) pingLater() {
	c.after(c.between(c.ttl/4, c.ttl/3), func() {
		if c.ended {
			return
		}
		if !c.owner.quiet {
			c.after(c.between(0, 10*time.Millisecond), func() { c.node.receive(c.life, c.ping) })
		}
		c.pingLater()
	})
}

func (c *simConn) ping() {
	if c.ended {
		return
	}
	c.node.keeper.Touch(c.session)
	if s := c.check.signs[c.session]; s.attachment == c.attachment {
		s.at = c.now
		c.check.signs[c.session] = s
	}
}

// closeSession ends the session, and the connection with it.
func (c *simConn) closeSession() {
	o, id := c.owner, c.session
	o.note("%v is to be closed", o)
	c.leave()
	x := &tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id, Session: id, Attachment: c.attachment}
	c.node.r.Submit(x, func(r tree.Result, _ *tree.Tree, _ *watchTable) {
		if r.Code == znode.OK {
			c.seen["sessions closed"]++
		}
	})
	c.node.wake()
	o.forget()
	c.endOnce()
}

// createEphemeral makes a znode that ends with the session; another client may have it already.
func (c *simConn) createEphemeral() {
	txn := createData(fmt.Sprintf("/e/x%d", c.rnd.IntN(ephemeralNames)), "")
	txn.Mode, txn.Flags = znode.Ephemeral, tree.Parents
	if c.mutant.is(ephemeralStays) {
		txn.Mode = znode.Persistent
	}
	c.write(txn, simInput{})
}

func (c *simConn) removeEphemeral() {
	c.write(remove(fmt.Sprintf("/e/x%d", c.rnd.IntN(ephemeralNames))), simInput{})
}

// sessionEnd is the watch.Watcher that waits for the end of a connection's session.
type sessionEnd struct{ c *simConn }

func (sessionEnd) Identities() []znode.Identity { return nil }
func (sessionEnd) Closed() bool                 { return false }

// Notify ends the connection. The state lock is held.
func (e sessionEnd) Notify(ev znode.Event) { e.c.lose(ev.Type) }

func (c *simConn) lose(why znode.EventType) {
	if o := c.owner; why == znode.SessionEnded {
		id := c.session
		c.after(0, func() { o.expired(id) })
	} else {
		c.seen["old connections ended"]++
	}
	c.endOnce()
}

// replaced ends the connections whose session and watches are in a table that has been replaced, as
// frontend.Replaced does. The state lock is held.
func (c *clients) replaced(n *simNode, t *tree.Tree, table *watchTable) {
	for _, conn := range c.open(n) {
		if conn.session == 0 {
			continue
		}
		conn.table = table
		switch s, there := t.Session(conn.session); {
		case !there:
			conn.lose(znode.SessionEnded)
		case s.Attachment != conn.attachment:
			conn.lose(znode.SessionMoved)
		default:
			table.Attach(sessionEnd{conn}, conn.session)
			conn.endOnce()
		}
	}
}

// dismiss sends the clients of a node without a leader elsewhere.
func (c *clients) dismiss(n *simNode) {
	for _, conn := range c.open(n) {
		if conn.owner != nil {
			conn.endOnce()
		}
	}
}

func (c *clients) open(n *simNode) (all []*simConn) {
	for _, conn := range c.conns {
		if conn.node == n && conn.life == n.life && !conn.ended {
			all = append(all, conn)
		}
	}
	return all
}

// A node's keeper, and how it reaches the others.

// keepLater is the keeper's clock.
func (n *simNode) keepLater(life int) {
	n.after(n.between(keeperRound-5*time.Millisecond, keeperRound+5*time.Millisecond), func() { n.receive(life, func() { n.keep(life) }) })
}

func (n *simNode) keep(life int) {
	if !n.mutant.is(noExpiry) {
		n.keeper.Turn()
	}
	n.reapWrongly()
	if n.r.Status().Leader == 0 && n.now-n.steady > leaderlessAfter {
		n.clients.dismiss(n)
	}
	n.wake()
	n.keepLater(life)
}

// receive makes a node do something in one of its lives, once it is not paused, and after what has
// arrived before.
func (n *simNode) receive(life int, do func()) {
	if n.r == nil || n.life != life {
		return
	}
	if n.inbox = append(n.inbox, do); len(n.inbox) == 1 {
		n.takeLater(life)
	}
}

func (n *simNode) takeLater(life int) {
	n.after(max(0, n.paused-n.now), func() {
		if n.r == nil || n.life != life {
			return
		}
		if n.paused > n.now {
			n.takeLater(life)
			return
		}
		all := n.inbox
		n.inbox = nil
		for _, do := range all {
			do()
		}
		n.wake()
	})
}

// keeping is a node's replica as its keeper sees it.
type keeping struct{ *simNode }

func (k keeping) View(read func(*tree.Tree, *watch.Table)) { k.r.View(read) }

func (k keeping) Decide(x *tree.Txn, done func(tree.Result, *tree.Tree, *watch.Table)) {
	switch x.Kind {
	case tree.KindClose:
		k.check.expires(k.simNode, x)
	case tree.KindReap:
		k.check.reaps(k.simNode, x)
		if k.reapsOtherwise(x, done) {
			return
		}
	}
	k.r.Decide(x, func(r tree.Result, t *tree.Tree, w *watchTable) {
		if r.Code == znode.OK && x.Kind == tree.KindClose {
			k.seen["sessions expired"]++
		}
		done(r, t, w)
	})
}

// Leader and Tell implement session.Ensemble, as in package server.
func (p *simPeers) Leader() (id, term uint64, self bool) {
	st := p.r.Status()
	return st.Leader, st.Term, st.Leader == p.id && st.Ready
}

func (p *simPeers) Tell(to uint64, b []byte) {
	if to == p.id {
		return
	}
	p.check.told(p.simNode, b)
	p.seen["reports of sessions"]++
	if !p.mutant.is(noReports) {
		p.Forward(to, forwardSessions, b)
	}
}

// Links is used by Vouch, which no client of the simulation needs.
func (*simPeers) Links() uint64 { return 0 }

var _ session.Ensemble = (*simPeers)(nil)
