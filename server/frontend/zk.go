package frontend

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"coord/server/text"
	"coord/server/watch"
	"coord/server/zkproto"
	"coord/tree"
	"coord/tree/znode"
)

// zkConn is a connection that speaks ZooKeeper's protocol. It is a watch.Watcher, because in that
// protocol a watch belongs to the connection and has no id.
type zkConn struct {
	*conn
	req       *zkproto.Request // nil while nothing is received
	ask       zkAsk            // the read that view answers
	view      func(*tree.Tree, *watch.Table)
	connected bool // the connect request has been answered
	tokens    int  // of a login with SASL
	ended     atomic.Bool
}

func newZKConn(conn *conn) *zkConn {
	c := &zkConn{conn: conn}
	c.view = func(t *tree.Tree, table *watch.Table) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.goesOn() {
			c.mu.out = c.appendRead(c.outbox(), &c.ask, c.ids, t, table)
			c.noteZxid(t)
			c.answered()
		}
	}
	return c
}

var zkRequests = sync.Pool{New: func() any { return new(zkproto.Request) }}

// zkOpCodes are the names of the operations in cons. An operation without a name is not counted as
// one there.
var zkOpCodes = map[zkproto.Op]string{
	zkproto.OpCreate: "CREA", zkproto.OpDelete: "DELE", zkproto.OpExists: "EXIS", zkproto.OpGetData: "GETD", zkproto.OpSetData: "SETD",
	zkproto.OpGetACL: "GETA", zkproto.OpSetACL: "SETA", zkproto.OpGetChildren: "GETC", zkproto.OpSync: "SYNC", zkproto.OpPing: "PING",
	zkproto.OpGetChildren2: "GETC", zkproto.OpMulti: "MULT", zkproto.OpCreate2: "CREA", zkproto.OpReconfig: "RECO",
	zkproto.OpCheckWatches: "CHKW", zkproto.OpRemoveWatches: "REMW", zkproto.OpCreateContainer: "CREA", zkproto.OpCreateTTL: "CREA",
	zkproto.OpMultiRead: "MLTR", zkproto.OpSetWatches: "SETW", zkproto.OpSetWatches2: "STW2", zkproto.OpGetEphemerals: "GETE",
	zkproto.OpGetAllChildrenNumber: "GETACN", zkproto.OpAddWatch: "ADDW", zkproto.OpWhoAmI: "HOMI", zkproto.OpCloseSession: "CLOS",
}

// handleAll takes every whole frame from the bytes received.
func (c *zkConn) handleAll(context.Context) {
	defer c.count()
	if c.req == nil {
		c.req = zkRequests.Get().(*zkproto.Request)
	}
	for !c.leaving {
		limit := c.s.maxFrame
		if !c.connected {
			limit = FirstLineBytes - 4
		}
		frame, n, err := zkproto.CutFrame(c.in[c.used:], limit)
		switch {
		case err != nil:
			c.s.stats.limitsReached.Add(1)
			c.leaving = true
			return
		case frame == nil:
			return
		}
		c.used += n
		c.bytes += int64(n)
		c.size = n
		c.received++
		if !c.connected {
			c.connect(frame)
		} else {
			c.take(frame)
		}
		if c.crowded && !c.roomy() {
			c.leaving = true
		}
	}
}

func (c *zkConn) rest() {
	if c.req != nil {
		zkRequests.Put(c.req)
		c.req = nil
	}
}

// drop removes the client's watches.
func (c *zkConn) drop(table *watch.Table) {
	c.ended.Store(true)
	table.Drop(c)
}

// appendLast appends nothing: ZooKeeper closes the connection without a message.
func (c *zkConn) appendLast(b []byte, _ *text.Reply) []byte { return b }

func (c *zkConn) isFatal(code znode.Code) bool { return isLoss(code) }

// isLoss says whether ZooKeeper's clients see an outcome as a connection loss, without a reply.
// Either the fate of a write is unknown, or there is no leader and the client must look for a
// server that has one.
func isLoss(code znode.Code) bool { return code == znode.ErrUncertain || code == znode.ErrNoLeader }

// connect answers the first frame with a session or a refusal, or closes the connection.
func (c *zkConn) connect(frame []byte) {
	r, err := zkproto.ReadConnect(frame)
	if err != nil {
		c.s.stats.protocolErrors.Add(1)
		c.leaving = true
		return
	}
	c.op, c.cxid = "SESS", noCxid
	ttl := min(max(ms(int64(r.TimeoutMS)), c.s.cfg.MinSession), c.s.cfg.MaxSession)
	s := clientSession{id: r.Session, ttl: ttl, hold: ttl, live: text.LivePing}
	seen := znode.Zxid(max(int64(r.LastZxid), 0)) // ZooKeeper takes a negative zxid as older than all others
	var code znode.Code
	var ok bool
	switch {
	case c.isAhead(seen): // a client must not see time go back: it must look for another server
		c.leaving = true
		return
	case r.Session == 0:
		code, ok = c.openSession(s.ttl, s.hold, s.live)
	default:
		n := copy(s.password[:], r.Password)
		code, ok = c.takeOver(s, n == len(s.password) && n == len(r.Password), seen)
	}
	answer := zkproto.Connected{HasReadOnly: r.HasReadOnly}
	switch {
	case !ok:
		return
	case code == znode.OK:
		answer.TimeoutMS, answer.Session, answer.Password = int32(ttl.Milliseconds()), c.sess.id, c.sess.password
		c.connected = true
		c.hear()
	case code == znode.ErrSessionExpired || code == znode.ErrAuthFailed: // refused
		c.leaving = true
	default: // whether the session exists is not known, or there is no leader
		c.leaving = true
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isOver() {
		c.mu.out = zkproto.AppendConnected(c.outbox(), &answer)
		c.answered()
	}
}

// maxOps is the largest number of operations in a multi.
const maxOps = 1000

// take handles one frame after the first.
func (c *zkConn) take(frame []byte) {
	r := c.req
	err := (&zkproto.Decoder{MaxOps: maxOps}).Decode(frame, r)
	c.op, c.cxid = zkOpCodes[r.Op], int64(r.Xid)
	if err == nil {
		c.handle(r)
		return
	}
	var e *zkproto.Error
	errors.As(err, &e)
	if e.Code == znode.ErrTooBig {
		c.s.stats.limitsReached.Add(1)
	} else {
		c.s.stats.protocolErrors.Add(1)
	}
	if e.Code != znode.OK {
		c.refuse(r, e.Code)
	}
	c.leaving = c.leaving || e.Close
}

// refuse answers a request that is not executed.
func (c *zkConn) refuse(r *zkproto.Request, code znode.Code) {
	c.read(zkAsk{xid: r.Xid, op: r.Op, code: code})
}

// handle executes one request.
func (c *zkConn) handle(r *zkproto.Request) {
	ask := zkAsk{xid: r.Xid, op: r.Op, kind: r.Kind, watch: r.Watch, path: r.Path}
	switch r.Op {
	case zkproto.OpCreate, zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL, zkproto.OpDelete,
		zkproto.OpSetData, zkproto.OpSetACL, zkproto.OpCheck, zkproto.OpMulti:
		c.write(r)
	case zkproto.OpSASL:
		// There is no SASL login. A client that does not understand this from the answer, such as kazoo, sends
		// tokens as long as they are answered. In ZooKeeper its session expires meanwhile, because
		// tokens do not keep it alive.
		if c.tokens++; c.tokens > MaxTokens {
			c.s.stats.limitsReached.Add(1)
			c.leaving = true
			return
		}
		if r.Data == nil { // ZooKeeper fails on it
			c.leaving = true
			return
		}
		c.read(ask)
	case zkproto.OpDeleteContainer: // clients may not: ZooKeeper reads no path in it
		c.refuse(r, znode.ErrBadArguments)
	case zkproto.OpSync:
		c.sync(ask)
	case zkproto.OpAuth:
		c.auth(r)
	case zkproto.OpCloseSession:
		c.closeSession(r)
	case zkproto.OpMultiRead:
		ask.parts = slices.Clone(r.Ops)
		c.read(ask)
	case zkproto.OpGetAllChildrenNumber:
		if c.isNext() {
			ask.below = c.countBelow(r.Path)
			c.read(ask)
		}
	case zkproto.OpGetEphemerals:
		ask.owner = c.sess.id
		c.read(ask)
	case zkproto.OpSetWatches, zkproto.OpSetWatches2:
		ask.seen, ask.lists = r.Zxid, &r.Watches
		c.read(ask)
	default:
		c.read(ask)
	}
}

// auth adds the identity that the client proves. If the proof fails, the connection is closed.
func (c *zkConn) auth(r *zkproto.Request) {
	ask := zkAsk{xid: r.Xid, op: r.Op}
	switch r.Scheme {
	case znode.SchemeIP: // every connection from the network has it
	case znode.SchemeDigest:
		id := znode.DigestOf(zkproto.FromJava(string(r.Data)))
		clear(r.Data) // so that the password does not stay in the buffer
		if r.Data == nil || !c.addUser(id) {
			ask.code = znode.ErrAuthFailed
		}
	default:
		ask.code = znode.ErrAuthFailed
	}
	if ask.code != znode.OK {
		c.s.stats.authFailed.Add(1)
	}
	c.read(ask)
	c.leaving = c.leaving || ask.code != znode.OK
}

// read answers a request that changes nothing, at once or in its turn. It takes mu.
func (c *zkConn) read(ask zkAsk) {
	c.mu.Lock()
	if c.waiting() {
		r := c.newRead(ask)
		r.ready = true
		c.enqueue(&r.item)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.ask = ask
	c.s.cfg.Backend.View(c.view)
	c.ask = zkAsk{}
}

// sync answers when everything committed before is applied here. It takes mu.
func (c *zkConn) sync(ask zkAsk) {
	r := c.newRead(ask)
	c.submitBarrier(&r.item, r.passed)
}

// zkRead is a read that waits for its turn.
type zkRead struct {
	item
	ask zkAsk
	by  *zkConn
	ids []znode.Identity
}

func (c *zkConn) newRead(ask zkAsk) *zkRead {
	if ask.lists != nil { // they belong to the request
		lists := *ask.lists
		ask.lists = &lists
	}
	r := &zkRead{item: c.newItem(), ask: ask, by: c, ids: c.ids}
	r.turn = r
	r.size += opBytes * len(ask.parts)
	return r
}

func (r *zkRead) appendAnswer(b []byte, t *tree.Tree, table *watch.Table) []byte {
	c := r.by
	switch {
	case r.code != znode.OK:
		r.ask.code = r.code
	case r.ask.isRead() && len(b)+c.mu.sending >= MaxOutboxBytes:
		c.s.stats.limitsReached.Add(1)
		r.ask.code = znode.ErrThrottledOp
	}
	return c.appendRead(b, &r.ask, r.ids, t, table)
}

// zkWrite is a write with what its answer needs.
type zkWrite struct {
	write
	xid int32
	op  zkproto.Op
}

func (c *zkConn) newWrite(r *zkproto.Request) *zkWrite {
	w := &zkWrite{write: write{item: c.newItem()}, xid: r.Xid, op: r.Op}
	w.write.write, w.turn = &w.write, w
	w.txn = c.txn(tree.Op{})
	return w
}

// write turns a request into a txn. Values are copied: the request lives in the
// receive buffer.
func (c *zkConn) write(r *zkproto.Request) {
	w := c.newWrite(r)
	if r.Op != zkproto.OpMulti {
		if code := zkOp(&w.txn.Op, &r.Part); code != znode.OK {
			c.refuse(r, code)
			return
		}
		c.submit(&w.write)
		return
	}
	w.txn.Kind = tree.KindMulti
	w.txn.Ops = make([]tree.Op, len(r.Ops))
	w.size += opBytes * len(r.Ops)
	for i := range r.Ops {
		p := &r.Ops[i]
		// In a multi the flags alone determine what a create makes.
		switch ttl := znode.Mode(p.Flags).TTL(); {
		case (p.Op == zkproto.OpCreateTTL || p.Op == zkproto.OpCreateContainer) && !ttl:
			p.Op = zkproto.OpCreate
		case ttl && (p.Op == zkproto.OpCreate || p.Op == zkproto.OpCreate2 || p.Op == zkproto.OpCreateContainer):
			p.Op, p.TTLMS = zkproto.OpCreateTTL, noTTL
		}
		// The tree checks the mode when it comes to the operation: an earlier one may fail first.
		_ = zkOp(&w.txn.Ops[i], p)
	}
	c.submit(&w.write)
}

// noMode is a mode that no create can have. noTTL stands for the TTL of a create whose flags ask
// for one but which carries none.
const (
	noMode = znode.Mode(0xff)
	noTTL  = math.MinInt64
)

// zkOp converts a part to an op. The code says whether its flags are wrong.
func zkOp(out *tree.Op, p *zkproto.Part) znode.Code {
	out.Path, out.Version = p.Path, p.Version
	switch p.Op {
	case zkproto.OpDelete:
		out.Kind = tree.KindDelete
	case zkproto.OpSetData:
		out.Kind, out.Data = tree.KindSetData, cloneData(p.Data)
	case zkproto.OpSetACL:
		out.Kind, out.ACL = tree.KindSetACL, mapIDs(p.ACL, zkproto.FromJava)
	case zkproto.OpCheck:
		out.Kind = tree.KindCheck
	default:
		mode, err := p.Mode()
		out.Kind, out.Data, out.ACL, out.Mode, out.TTLMS = tree.KindCreate, cloneData(p.Data), mapIDs(p.ACL, zkproto.FromJava), mode, p.TTLMS
		if err != nil {
			out.Mode = noMode
			return znode.ErrBadArguments
		}
	}
	return znode.OK
}

// mapIDs applies f to the ids of an access list: it converts them to Java's strings or back.
func mapIDs(acl znode.ACL, f func(string) string) znode.ACL {
	out := acl
	for i := range acl {
		id := acl[i].ID
		if id == znode.Null || f(id) == id {
			continue
		}
		if &out[0] == &acl[0] {
			out = slices.Clone(acl)
		}
		out[i].ID = f(id)
	}
	return out
}

// cloneData copies data: null stays null, and empty stays empty.
func cloneData(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

// closeSession ends the session, and then the connection.
func (c *zkConn) closeSession(r *zkproto.Request) {
	w := c.newWrite(r)
	w.txn = tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: c.sess.id, Session: c.sess.id, Attachment: c.sess.attachment}
	w.last = true
	if c.leave(c.sess.ttl) { // from here on its end is an answer, not an event
		c.submit(&w.write)
	}
	c.leaving = true
}

// Identities is called when an event's ACL does not let everyone read. It takes mu.
func (c *zkConn) Identities() []znode.Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids
}

// Closed says whether the connection has ended.
func (c *zkConn) Closed() bool { return c.ended.Load() }

// Notify puts the event into the outbox. The state lock is held.
func (c *zkConn) Notify(e znode.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isSlow(false) {
		c.cutOff()
	}
	c.appendEvent(e.Type, e.Path, e.Zxid)
	c.soil()
}

// appendEvent appends an event to the outbox. mu is held.
func (c *zkConn) appendEvent(typ znode.EventType, path string, zxid znode.Zxid) {
	o := &c.mu.outbox
	if o.broken || o.ending {
		return
	}
	before := len(o.out)
	o.out = zkproto.AppendEvent(c.outbox(), typ, path, zxid)
	o.events += len(o.out) - before
	c.s.eventBytes.Add(int64(len(o.out) - before))
}
