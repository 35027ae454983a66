package replica_test

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"coord/tree"
	"coord/tree/znode"
)

const simKeys = 8

// clients are sequences of requests over connections to one node at a time, as a frontend would
// hold them: a request that ends uncertain, or not at all, ends the connection, and nothing more is
// submitted over it.
type clients struct {
	s       *sim
	conns   []*simConn // by id; includes those that have ended
	owners  []*owner   // see sim_session_test.go
	moment  int64      // counts calls and returns
	history []porcupine.Operation
	stopped bool
}

// simConn is one connection.
type simConn struct {
	*sim
	id      int
	node    *simNode
	life    int
	ended   bool
	writes  int // submitted
	applied int // the number of the last write in the log
	zxid    znode.Zxid
	open    []*call

	// For a client with a session; owner is nil if it has none.
	owner      *owner
	session    int64 // 0: not attached yet
	attachment uint32
	ttl        time.Duration
	table      *watchTable // the table that has its session and watches
	outbox     []delivery
}

// call is a request that has no answer yet.
type call struct {
	op    porcupine.Operation
	write bool
	multi bool
	tag   string
	zxid  znode.Zxid // the newest state shown before the call
}

type (
	simInput struct {
		key, value string
		write      bool
	}
	simOutput struct{ value string }
)

func (c *clients) init(s *sim) {
	c.s = s
	for range 3 + s.rnd.IntN(3) {
		c.connectLater()
	}
	for range 2 + s.rnd.IntN(3) {
		c.addOwner()
	}
}

// connectLater finds, after a while, a node that takes clients.
func (c *clients) connectLater() {
	s := c.s
	s.after(s.between(10*time.Millisecond, 300*time.Millisecond), func() {
		if c.stopped {
			return
		}
		n := s.nodes[s.rnd.IntN(len(s.nodes))]
		if n.r == nil || n.gone || !isReady(n) {
			c.connectLater()
			return
		}
		c.connect(n).later()
	})
}

func (c *clients) connect(n *simNode) *simConn {
	conn := &simConn{sim: c.s, id: len(c.conns), node: n, life: n.life}
	c.conns = append(c.conns, conn)
	return conn
}

func isReady(n *simNode) bool {
	select {
	case <-n.r.Ready():
		return true
	default:
		return false
	}
}

// crashed ends the connections to a node that has crashed.
func (c *clients) crashed(n *simNode) {
	for _, conn := range c.conns {
		if conn.node == n && conn.life == n.life && !conn.ended {
			conn.end()
		}
	}
}

// end leaves the unanswered requests open.
func (c *simConn) end() {
	c.ended = true
	for _, x := range c.open {
		c.maybeDone(x)
	}
	c.open = nil
	o := c.owner
	if o == nil {
		c.clients.connectLater()
		return
	}
	c.cutOutbox()
	c.after(c.between(0, 2*time.Millisecond), c.leave)
	if o.conn == c {
		o.conn = nil
		o.comeLater()
	}
}

// maybeDone records a write that may take effect at any later time, or never.
func (c *simConn) maybeDone(x *call) {
	if x.write && x.op.Input != nil {
		x.op.Return = math.MaxInt64
		c.clients.history = append(c.clients.history, x.op)
	}
}

func (c *simConn) later() {
	c.after(c.between(50*time.Millisecond, 350*time.Millisecond), func() {
		if c.ended || c.clients.stopped {
			return
		}
		for n := 1 + c.rnd.IntN(4); n > 0 && !c.ended && len(c.open) < 6; n-- {
			if c.owner != nil {
				c.ownersOp()
			} else {
				c.op()
			}
		}
		c.node.wake()
		c.later()
	})
}

func (c *simConn) op() {
	switch p := c.rnd.IntN(100); {
	case p < 37:
		c.set()
	case p < 57:
		c.linRead()
	case p < 80:
		c.read()
	case p < 89:
		c.multi()
	case p < 93:
		c.sequence()
	default:
		c.last()
	}
}

func (c *simConn) ownersOp() {
	if c.owner.quiet {
		return
	}
	switch p := c.rnd.IntN(100); {
	case p < 20:
		c.set()
	case p < 30:
		c.linRead()
	case p < 47:
		c.read()
	case p < 58:
		c.createEphemeral()
	case p < 62:
		c.removeEphemeral()
	case p < 81:
		c.watch()
	case p < 88:
		c.multi()
	case p < 92:
		c.sequence()
	default:
		c.last()
	}
}

func (c *simConn) call(in simInput) *call {
	c.clients.moment++
	x := &call{write: in.write, zxid: c.check.tree.Counters().Zxid, op: porcupine.Operation{ClientId: c.id, Input: in, Call: c.clients.moment}}
	c.open = append(c.open, x)
	return x
}

// answered removes a call from the list; if the connection has ended, the client does not learn of
// the answer.
func (c *simConn) answered(x *call) bool {
	i := slices.Index(c.open, x)
	if i < 0 {
		return false
	}
	c.open = slices.Delete(c.open, i, i+1)
	c.clients.moment++
	x.op.Return = c.clients.moment
	return true
}

// sees checks an answer's place in the history and remembers it: the answer must not be older than
// anything that was applied anywhere before the call.
func (c *simConn) sees(x *call, zxid znode.Zxid) {
	if zxid < x.zxid || x.write && zxid == x.zxid {
		c.fail("connection %d, %+v: answered at %v, and %v was applied before it was called", c.id, x.op.Input, zxid, x.zxid)
	}
	c.zxid = max(c.zxid, zxid)
	c.push(zxid, func() { c.owner.answer(zxid) })
}

func (c *simConn) set() {
	key := fmt.Sprintf("/k%d", c.rnd.IntN(simKeys))
	txn := set(key, "")
	txn.Flags = tree.OrCreate
	c.write(txn, simInput{key: key, write: true})
}

// write submits a txn. Its data, if it has any, identifies the write.
func (c *simConn) write(txn *tree.Txn, in simInput) {
	tag := ""
	if txn.Kind != tree.KindDelete {
		c.writes++
		tag = fmt.Sprintf("%d.%d", c.id, c.writes)
		txn.Data = []byte(tag)
		for i := range txn.Ops {
			txn.Ops[i].Data = txn.Data
		}
	}
	in.value = tag
	x := c.call(in)
	if !in.write {
		x.op.Input = nil
	}
	x.write, x.multi, x.tag = true, txn.Kind == tree.KindMulti, tag
	if !in.write || !c.mutant.is(anyAttachment) {
		txn.Session, txn.Attachment = c.session, c.attachment
	}
	c.seen["writes"]++
	if st := c.node.r.Status(); st.Leader != 0 && st.Leader != c.node.id {
		c.seen["forwarded writes"]++
	}
	done := func(r tree.Result, _ *tree.Tree, _ *watchTable) { c.writeDone(x, r) }
	c.node.r.Submit(txn, done)
	if c.mutant.is(earlyAck) && in.write && c.chance(2) {
		done(tree.Result{}, nil, nil)
	}
}

func (c *simConn) writeDone(x *call, r tree.Result) {
	if x.tag != "" && (r.Code == znode.ErrNoLeader || r.Code == znode.ErrThrottledOp) {
		c.check.refused(x.tag) // whether or not the client learns of it
	}
	if !c.answered(x) {
		return
	}
	register := x.op.Input != nil
	switch code := r.Code; {
	case code == znode.OK:
		if x.tag != "" {
			c.check.answered[x.tag] = true
		}
		if !c.mutant.is(earlyAck) {
			c.check.acks = append(c.check.acks, ack{x.tag, outcome{r.Zxid, r.Code, r.Path}})
			c.sees(x, r.Zxid)
		}
		if register {
			x.op.Output = simOutput{}
			c.clients.history = append(c.clients.history, x.op)
		}
	case code == znode.ErrUncertain:
		c.seen["uncertain"]++
		c.maybeDone(x)
		c.endOnce()
	case code == znode.ErrNoLeader:
		c.seen["no leader"]++
		c.endOnce()
	case code == znode.ErrThrottledOp:
		c.seen["throttled"]++
		c.endOnce()
	case (!register || x.multi) && isRefusal(code):
		c.check.acks = append(c.check.acks, ack{x.tag, outcome{r.Zxid, r.Code, r.Path}})
		c.sees(x, r.Zxid)
	case c.session != 0 && (code == znode.ErrSessionMoved || code == znode.ErrSessionExpired):
		c.endOnce()
	default:
		c.fail("write %s: %v", x.tag, r.Code)
	}
}

// isRefusal says whether the code means that the state was not what the client assumed.
func isRefusal(code znode.Code) bool {
	return code == znode.ErrNodeExists || code == znode.ErrNoNode || code == znode.ErrNotEmpty || code == znode.ErrBadVersion
}

func (c *simConn) endOnce() {
	if !c.ended {
		c.note("connection %d to %d ends", c.id, c.node.id)
		c.end()
	}
}

func (c *simConn) linRead() {
	i := c.rnd.IntN(simKeys + simGroups)
	key := fmt.Sprintf("/k%d", i)
	if i >= simKeys {
		key = fmt.Sprintf("/g%d", i-simKeys)
	}
	x := c.call(simInput{key, "", false})
	done := func(r tree.Result, t *tree.Tree, _ *watchTable) {
		if !c.answered(x) {
			return
		}
		if r.Code == znode.OK {
			c.sees(x, t.Counters().Zxid)
			if i >= simKeys {
				x.op.Output = simOutput{c.one(i-simKeys, group(t, i-simKeys), t.Counters().Zxid)}
			} else {
				z, _ := t.Get(key, nil, 0)
				x.op.Output = simOutput{z.Data}
			}
			c.clients.history = append(c.clients.history, x.op)
			c.seen["lin reads"]++
		} else if r.Code != znode.ErrNoLeader {
			c.fail("lin read: %v", r.Code)
		}
	}
	if st := c.node.r.Status(); c.mutant.is(leaseRead) && st.Role == "leader" && st.Ready {
		c.node.r.View(func(t *tree.Tree, w *watchTable) { done(tree.Result{}, t, w) })
		return
	}
	c.node.r.Barrier(done)
}

// read checks that the state shown is not older than what this connection has seen.
func (c *simConn) read() {
	c.seen["reads"]++
	c.node.r.View(func(t *tree.Tree, _ *watchTable) {
		zxid := t.Counters().Zxid
		if zxid < c.zxid {
			c.fail("connection %d has seen %v and reads at %v", c.id, c.zxid, zxid)
		}
		c.zxid = zxid
		c.readGroup(t)
		c.push(zxid, func() { c.owner.answer(zxid) })
	})
}
