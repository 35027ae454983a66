package replica_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"coord/tree"
	"coord/tree/znode"
)

const simKeys = 8

// clients are sequences of requests over connections to one node at a time, as a
// frontend would hold them: what comes to an uncertain or no end ends the
// connection, and nothing is submitted over it any more.
type clients struct {
	s       *sim
	conns   []*simConn // by id; those that have ended too
	moment  int64      // numbers calls and returns
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
	applied int // the number of the last one in the log
	zxid    znode.Zxid
	open    []*call
}

// call is a request without its answer.
type call struct {
	op    porcupine.Operation
	write bool
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
}

// connectLater finds a node that takes clients, sooner or later.
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
		conn := &simConn{sim: s, id: len(c.conns), node: n, life: n.life}
		c.conns = append(c.conns, conn)
		conn.later()
	})
}

func isReady(n *simNode) bool {
	select {
	case <-n.r.Ready():
		return true
	default:
		return false
	}
}

// crashed ends the connections to a node that is no more.
func (c *clients) crashed(n *simNode) {
	for _, conn := range c.conns {
		if conn.node == n && conn.life == n.life && !conn.ended {
			conn.end()
		}
	}
}

// end leaves what has no answer open.
func (c *simConn) end() {
	c.ended = true
	for _, x := range c.open {
		c.maybeDone(x)
	}
	c.open = nil
	c.clients.connectLater()
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
			switch p := c.rnd.IntN(100); {
			case p < 60:
				c.set()
			case p < 80:
				c.linRead()
			case p < 95:
				c.read()
			default:
				c.session()
			}
		}
		c.node.wake()
		c.later()
	})
}

func (c *simConn) call(in simInput) *call {
	c.clients.moment++
	x := &call{write: in.write, zxid: c.check.tree.Counters().Zxid, op: porcupine.Operation{ClientId: c.id, Input: in, Call: c.clients.moment}}
	c.open = append(c.open, x)
	return x
}

// answered takes a call off the list; over a connection that has ended nobody hears it.
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

// sees judges the place of an answer in the one history, and remembers it: it is
// not before anything that was applied anywhere before the call.
func (c *simConn) sees(x *call, zxid znode.Zxid) {
	if zxid < x.zxid || x.write && zxid == x.zxid {
		c.fail("connection %d, %+v: answered at %v, and %v was applied before it was called", c.id, x.op.Input, zxid, x.zxid)
	}
	c.zxid = max(c.zxid, zxid)
}

func (c *simConn) set() {
	c.writes++
	tag := fmt.Sprintf("%d.%d", c.id, c.writes)
	key := fmt.Sprintf("/k%d", c.rnd.IntN(simKeys))
	x := c.call(simInput{key, tag, true})
	x.tag = tag
	txn := set(key, tag)
	txn.Flags = tree.OrCreate
	c.seen["writes"]++
	if st := c.node.r.Status(); st.Leader != 0 && st.Leader != c.node.id {
		c.seen["forwarded writes"]++
	}
	done := func(r tree.Result, _ *tree.Tree, _ *watchTable) { c.setDone(x, r) }
	c.node.r.Submit(txn, done)
	if c.mutant.is(earlyAck) && c.chance(2) {
		done(tree.Result{}, nil, nil)
	}
}

func (c *simConn) setDone(x *call, r tree.Result) {
	if r.Code == znode.ErrNoLeader || r.Code == znode.ErrThrottledOp {
		c.check.refused(x.tag) // whoever hears it or not
	}
	if !c.answered(x) {
		return
	}
	switch r.Code {
	case znode.OK:
		c.check.answered[x.tag] = true
		if !c.mutant.is(earlyAck) {
			c.check.acks = append(c.check.acks, ack{x.tag, r.Zxid})
			c.sees(x, r.Zxid)
		}
		x.op.Output = simOutput{}
		c.clients.history = append(c.clients.history, x.op)
	case znode.ErrUncertain:
		c.seen["uncertain"]++
		c.maybeDone(x)
		c.endOnce()
	case znode.ErrNoLeader:
		c.seen["no leader"]++
		c.endOnce()
	case znode.ErrThrottledOp:
		c.seen["throttled"]++
		c.endOnce()
	default:
		c.fail("write %s: %v", x.tag, r.Code)
	}
}

func (c *simConn) endOnce() {
	if !c.ended {
		c.note("connection %d to %d ends", c.id, c.node.id)
		c.end()
	}
}

func (c *simConn) linRead() {
	key := fmt.Sprintf("/k%d", c.rnd.IntN(simKeys))
	x := c.call(simInput{key, "", false})
	c.node.r.Barrier(func(r tree.Result, t *tree.Tree, _ *watchTable) {
		if !c.answered(x) {
			return
		}
		if r.Code == znode.OK {
			c.sees(x, t.Counters().Zxid)
			z, _ := t.Get(key, nil, 0)
			x.op.Output = simOutput{z.Data}
			c.clients.history = append(c.clients.history, x.op)
			c.seen["lin reads"]++
		} else if r.Code != znode.ErrNoLeader {
			c.fail("lin read: %v", r.Code)
		}
	})
}

// read sees no older state than this connection has seen.
func (c *simConn) read() {
	c.seen["reads"]++
	c.node.r.View(func(t *tree.Tree, _ *watchTable) {
		zxid := t.Counters().Zxid
		if zxid < c.zxid {
			c.fail("connection %d has seen %v and reads at %v", c.id, c.zxid, zxid)
		}
		c.zxid = zxid
	})
}

// session makes a session: its id and password are the leader's.
func (c *simConn) session() {
	x := c.call(simInput{})
	x.op.Input = nil
	txn := &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, TimeoutMS: 10_000}
	c.node.r.Submit(txn, func(r tree.Result, t *tree.Tree, _ *watchTable) {
		if !c.answered(x) {
			return
		}
		switch r.Code {
		case znode.OK:
			c.seen["sessions"]++
			s, ok := t.Session(txn.Target)
			if !ok || len(txn.Password) != 16 || !bytes.Equal(s.Password[:], txn.Password) {
				c.fail("session %#x with password %x is in the tree: %t, with %x", txn.Target, txn.Password, ok, s.Password)
			}
		case znode.ErrUncertain, znode.ErrNoLeader, znode.ErrThrottledOp:
			c.endOnce()
		default:
			c.fail("session: %v", r.Code)
		}
	})
}
