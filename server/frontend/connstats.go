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

// traffic is what cons and stat show of a connection. The connection's lock
// guards it: it is held anyway where an answer is made, so that counting costs a
// few additions and no lock, clock or allocation of its own.
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

	mark  int   // bytes in the outbox behind the answer before
	sizes sizes // of answers that are not in the server's stats yet
}

// noZxid and noCxid are how ZooKeeper says that there was none: -1.
const (
	noZxid = ^znode.Zxid(0)
	noCxid = -1
)

// sizes are those of some answers.
type sizes struct{ last, least, most int64 } // 0 for none: no answer is empty

// reset is what crst does.
func (x *traffic) reset() {
	*x = traffic{cxid: noCxid, zxid: noZxid, mark: x.mark, sizes: x.sizes}
}

// did notes what was answered. A negative xid is that of no request: the one before
// it stands.
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

// average is a mean latency.
func (x *traffic) average() time.Duration { return x.sum / time.Duration(max(x.n, 1)) }

// measure takes the size of the answer that has made the outbox so long.
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

// opCodes are ZooKeeper's names of what a request does, as cons shows them. What
// has none (AUTH, HELP …) is no operation: it has no latency.
var opCodes = [...]string{
	text.VerbGet: "GETD", text.VerbSet: "SETD", text.VerbExists: "EXIS", text.VerbLs: "GETC", text.VerbTree: "GETC",
	text.VerbCreate: "CREA", text.VerbRm: "DELE", text.VerbTxn: "MULT", text.VerbCheck: "CHEC", text.VerbSync: "SYNC",
	text.VerbCat: "GETD", text.VerbGetACL: "GETA", text.VerbSetACL: "SETA", text.VerbPing: "PING",
	text.VerbWatch: "ADDW", text.VerbFollow: "ADDW", text.VerbUnwatch: "REMW", text.VerbSession: "SESS",
	// What waits for something has no latency that says anything of the server.
	text.VerbWait: "", text.VerbLock: "", text.VerbAdmin: "", text.VerbUnlock: "DELE",
}

// sessionOf is the connection's session, 0 if it has none, and its timeout. It
// takes mu.
func (c *conn) sessionOf() (id int64, timeout time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.session, c.mu.sessionTTL
}

// Session names the session of a watch.Watcher that is a connection or belongs
// to one; 0 is none.
func (c *conn) Session() int64 {
	id, _ := c.sessionOf()
	return id
}

// Client is the connection's other end, as the four-letter words name it.
func (c *conn) Client() string { return clientName(c.nc) }

// A watch of a connection, and a WAIT or LOCK, are shown as the connection.
func (w *eventWatch) Session() int64 { return w.c.Session() }
func (w *eventWatch) Client() string { return w.c.Client() }
func (w *wait) Session() int64       { return w.c.Session() }
func (w *wait) Client() string       { return w.c.Client() }

// age is the server's at some time: a third of the size of a time, in what
// waits for its turn.
func (c *conn) age(at time.Time) time.Duration { return at.Sub(c.s.started) }

// noteAnswer counts an answer that the reader has put into the outbox. Its
// latency is known when the burst ends: see settleReads. mu is held.
func (c *conn) noteAnswer() {
	c.mu.traffic.measure(len(c.mu.out))
	if c.op != "" {
		c.mu.traffic.did(c.op, c.cxid)
		c.fresh++
	}
}

// noteZxid remembers what the last answer shows. mu is held.
func (c *conn) noteZxid(t *tree.Tree) { c.mu.traffic.zxid = t.Counters().Zxid }

// settleReads notes the latency of the reads answered since it was called last:
// for all of them the time from the burst that brought them to now, when they are
// sent. So a burst costs one look at the clock. It is the reader's; mu is held.
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

// noteSilence counts a client that has come and said nothing. It takes mu.
func (c *conn) noteSilence(err error) {
	if c.heard || !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isOver() { // else the server has ended the waiting
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

// sharedSizes are those of all connections.
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

// raise sets a to x if x is more.
func raise(a *atomic.Int64, x int64) {
	for have := a.Load(); x > have && !a.CompareAndSwap(have, x); have = a.Load() {
	}
}

// lower sets a to x if x is less; 0 is nothing yet.
func lower(a *atomic.Int64, x int64) {
	for have := a.Load(); (have == 0 || x < have) && !a.CompareAndSwap(have, x); have = a.Load() {
	}
}
