package frontend

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"coord/server/text"
	"coord/tree"
	"coord/tree/znode"
)

// traffic holds the figures of a connection that cons and stat show. The connection's lock guards
// it: that lock is held anyway where an answer is made, so counting costs a few additions and no
// lock, clock or allocation of its own.
type traffic struct {
	sent  int64
	op    string     // of the last answer; "" for none
	cxid  int64      // of the last request that had one; noCxid for none
	zxid  znode.Zxid // that the last answer shows; noZxid for none
	at    time.Time  // of the last answer
	n     int64      // answers with a latency
	last  time.Duration
	least time.Duration
	most  time.Duration
	sum   time.Duration

	mark  int   // bytes in the outbox after the previous answer
	sizes sizes // of answers that are not in the server's stats yet
}

// noZxid and noCxid mean that there was none. Both are ZooKeeper's -1.
const (
	noZxid = ^znode.Zxid(0)
	noCxid = -1
)

// sizes are the sizes of a group of answers, in bytes.
type sizes struct{ last, least, most int64 } // 0 for none: no answer is empty

// reset forgets what crst resets.
func (x *traffic) reset() {
	*x = traffic{cxid: noCxid, zxid: noZxid, mark: x.mark, sizes: x.sizes}
}

// did notes which request was answered. A negative cxid means that the request has none: the
// previous one stands.
func (x *traffic) did(op string, cxid int64) {
	x.op = op
	if cxid >= 0 {
		x.cxid = cxid
	}
}

// took notes the time that n answers took.
func (x *traffic) took(n int64, d time.Duration, now time.Time) {
	if x.n == 0 || d < x.least {
		x.least = d
	}
	x.most = max(x.most, d)
	x.n, x.sum = x.n+n, x.sum+time.Duration(n)*d
	x.last, x.at = d, now
}

// average is the mean latency.
func (x *traffic) average() time.Duration { return x.sum / time.Duration(max(x.n, 1)) }

// measure notes the size of the answer that has extended the outbox to out bytes.
func (x *traffic) measure(out int) {
	n := int64(out - x.mark)
	x.mark = out
	if n <= 0 {
		return
	}
	if x.sizes.least == 0 || n < x.sizes.least {
		x.sizes.least = n
	}
	x.sizes.last, x.sizes.most = n, max(x.sizes.most, n)
}

// opCodes are ZooKeeper's names of the operations, as cons shows them. A verb without a name (AUTH,
// HELP …) is no operation and has no latency.
var opCodes = [...]string{
	text.VerbGet: "GETD", text.VerbSet: "SETD", text.VerbExists: "EXIS", text.VerbLs: "GETC", text.VerbTree: "GETC",
	text.VerbCreate: "CREA", text.VerbRm: "DELE", text.VerbTxn: "MULT", text.VerbCheck: "CHEC", text.VerbSync: "SYNC",
	text.VerbCat: "GETD", text.VerbGetACL: "GETA", text.VerbSetACL: "SETA", text.VerbPing: "PING",
	text.VerbWatch: "ADDW", text.VerbFollow: "ADDW", text.VerbUnwatch: "REMW", text.VerbSession: "SESS",
	// The latency of a request that waits for something says nothing about the server.
	text.VerbWait: "", text.VerbLock: "", text.VerbAdmin: "", text.VerbUnlock: "DELE",
}

// sessionOf returns the connection's session, 0 if it has none, and its timeout. It takes mu.
func (c *conn) sessionOf() (id int64, timeout time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.session, c.mu.sessionTTL
}

// Session returns the session of a watch.Watcher that is a connection or belongs to one; 0 means
// none.
func (c *conn) Session() int64 {
	id, _ := c.sessionOf()
	return id
}

// Client returns the connection's remote end, as the four-letter words name it.
func (c *conn) Client() string { return clientName(c.nc) }

// A watch, a WAIT or a LOCK is shown as its connection.
func (w *eventWatch) Session() int64 { return w.c.Session() }
func (w *eventWatch) Client() string { return w.c.Client() }
func (w *wait) Session() int64       { return w.c.Session() }
func (w *wait) Client() string       { return w.c.Client() }

// age is the time from the server's start to at. In items that wait for their turn it is stored
// instead of a time.Time, which is three times as large.
func (c *conn) age(at time.Time) time.Duration { return at.Sub(c.s.started) }

// noteAnswer counts an answer that the reader has put into the outbox. Its latency is known when
// the burst ends: see settleReads. mu is held.
func (c *conn) noteAnswer() {
	c.mu.traffic.measure(len(c.mu.out))
	if c.op != "" {
		c.mu.traffic.did(c.op, c.cxid)
		c.fresh++
	}
}

// noteZxid records the state that the last answer shows. mu is held.
func (c *conn) noteZxid(t *tree.Tree) { c.mu.traffic.zxid = t.Counters().Zxid }

// settleReads notes the latency of the reads answered since its last call. It takes the same
// latency for all of them: from the burst that brought them until now, when they are sent. So a
// burst costs one look at the clock. Only the reader calls it; mu is held.
func (c *conn) settleReads() {
	if c.fresh == 0 {
		return
	}
	now := time.Now()
	d := now.Sub(c.now)
	c.mu.traffic.took(c.fresh, d, now)
	c.s.stats.reads.add(c.fresh, d)
	c.fresh = 0
}

// noteTurn counts an answer whose turn has come. The state lock and mu are held.
func (c *conn) noteTurn(it *item, t *tree.Tree, now time.Time) {
	x := &c.mu.traffic
	x.measure(len(c.mu.out))
	if it.op == "" {
		return
	}
	d := c.age(now) - it.since
	x.did(it.op, it.cxid)
	x.took(1, d, now)
	switch {
	case it.write != nil && it.write.result.Zxid != 0:
		x.zxid = it.write.result.Zxid
	case t != nil:
		x.zxid = t.Counters().Zxid
	}
	if it.write == nil {
		c.s.stats.reads.add(1, d)
	}
}

// noteSilence counts a client that has connected and sent nothing in time. It takes mu.
func (c *conn) noteSilence(err error) {
	if c.heard || !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isOver() { // otherwise the server itself has ended the wait
		c.s.stats.unheard.Add(1)
	}
}

// noteSent counts what goes from the outbox to the client. mu is held.
func (c *conn) noteSent(bytes int) {
	o, s := &c.mu.outbox, &c.s.stats
	s.sent.Add(o.answered)
	s.bytesSent.Add(int64(bytes))
	o.traffic.sent += o.answered
	s.sizes.fold(o.traffic.sizes)
	o.traffic.mark, o.traffic.sizes = 0, sizes{}
}

// sharedSizes are the sizes over all connections.
type sharedSizes struct{ last, least, most atomic.Int64 }

func (s *sharedSizes) fold(x sizes) {
	if x.last == 0 {
		return
	}
	s.last.Store(x.last)
	lower(&s.least, x.least)
	raise(&s.most, x.most)
}

func (s *sharedSizes) reset() {
	s.last.Store(0)
	s.least.Store(0)
	s.most.Store(0)
}

// raise sets a to x if x is larger.
func raise(a *atomic.Int64, x int64) {
	for have := a.Load(); x > have && !a.CompareAndSwap(have, x); have = a.Load() {
	}
}

// lower sets a to x if x is smaller; 0 means that nothing is stored yet.
func lower(a *atomic.Int64, x int64) {
	for have := a.Load(); (have == 0 || x < have) && !a.CompareAndSwap(have, x); have = a.Load() {
	}
}
