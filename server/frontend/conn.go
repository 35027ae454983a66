package frontend

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// conn is one client's connection. Its reader goroutine owns everything above
// mu; dirty belongs to the goroutine that runs dones.
type conn struct {
	s        *Server
	nc       net.Conn
	addr     netip.Addr       // invalid for unix sockets
	ids      []znode.Identity // replaced by AUTH, never changed in place
	operator bool             // by address or user; the super identity is one too
	private  bool             // nobody can listen in
	parser   *text.Parser
	format   text.Format
	in       []byte // received; in[:used] is consumed
	used     int
	heard    bool          // the first line has come
	leaving  bool          // QUIT, or an error after which the stream cannot be trusted
	now      time.Time     // when the burst in hand was read
	req      *text.Request // the read that view answers
	view     func(*tree.Tree, *watch.Table)

	dirty bool

	mu struct {
		sync.Mutex
		queue    []*item // requests in order, from head on; the first is an unanswered write
		head     int
		inFlight int    // bytes of the requests in queue
		out      []byte // answers to send
		sending  int    // bytes being sent
		spare    []byte
		flushing bool
		ending   bool // close once all is answered and sent
		broken   bool // nothing can be sent any more
	}
	changed sync.Cond // the queue or the outbox got shorter, or the connection broke; on mu
}

// item is a request that waits for its turn to be answered.
type item struct {
	c      *conn
	txn    tree.Txn     // of a write
	req    text.Request // of a read
	tag    string
	format text.Format
	crlf   bool
	write  bool
	ready  bool // the outcome of a write, or of the barrier before a read, is there
	verb   text.Verb
	ids    []znode.Identity
	size   int
	since  time.Time
	result tree.Result
	fixed  *text.Reply // an answer that depends on no state
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, parser: text.NewParser(s.limits)}
	c.changed.L = &c.mu
	c.ids, c.addr, c.operator, c.private = s.identify(nc)
	c.view = func(t *tree.Tree, w *watch.Table) {
		r := c.req
		c.mu.Lock()
		c.mu.out = c.appendRead(c.mu.out, r, c.ids, r.Tag, c.format, r.CRLF, t)
		c.mu.Unlock()
	}
	return c
}

// stop ends the connection from outside.
func (c *conn) stop() { _ = c.nc.Close() }

// serve reads requests until the client leaves or is told to.
func (c *conn) serve(ctx context.Context) {
	defer c.stop()
	_ = c.nc.SetReadDeadline(time.Now().Add(FirstLineTime))
	c.in = make([]byte, 0, 1<<10)
	if !c.sniff() {
		return
	}
	for !c.leaving {
		c.now = time.Now()
		c.handleAll(ctx)
		if c.leaving || !c.flushOwn() || !c.fill() {
			break
		}
	}
	c.drain()
}

// fill reads more bytes behind those that are not consumed.
func (c *conn) fill() bool {
	rest := copy(c.in[:cap(c.in)], c.in[c.used:])
	c.in, c.used = c.in[:rest], 0
	switch {
	case rest == 0 && cap(c.in) > 64<<10:
		c.in = make([]byte, 0, 4<<10)
	case cap(c.in)-rest < cap(c.in)/2:
		bigger := make([]byte, rest, max(2*cap(c.in), 4<<10))
		copy(bigger, c.in)
		c.in = bigger
	}
	n, err := c.nc.Read(c.in[rest:cap(c.in)])
	c.in = c.in[:rest+n]
	return n > 0 || err == nil
}

// handleAll takes every whole request from the bytes received.
func (c *conn) handleAll(ctx context.Context) {
	for !c.leaving {
		req, n, err := c.parser.Next(c.in[c.used:])
		c.used += n
		switch {
		case err != nil:
			c.refuse(err.(*text.Error)) //nolint:errorlint // Next returns nothing else
		case req != nil:
			c.hear()
			c.handle(ctx, req)
		default:
			if !c.heard {
				c.judgeFirstLine()
			}
			return
		}
		if !c.roomy() {
			c.leaving = true
		}
	}
}

// hear notes that the client speaks the protocol: the time limit of the first
// line ends.
func (c *conn) hear() {
	if !c.heard {
		c.heard = true
		_ = c.nc.SetReadDeadline(time.Time{})
	}
	c.s.stats.received.Add(1)
}

// judgeFirstLine looks at an unfinished first request: its line must end soon;
// a payload behind it may be long and take its time.
func (c *conn) judgeFirstLine() {
	rest := c.in[c.used:]
	for _, b := range rest {
		if b == '\n' || b == '\r' {
			c.heard = true
			_ = c.nc.SetReadDeadline(time.Time{})
			return
		}
	}
	if len(rest) >= FirstLineBytes {
		c.refuse(&text.Error{Code: znode.ErrTooBig, Msg: "the first line does not end", Op: -1, Close: true})
	}
}

// refuse answers a request that the parser did not take.
func (c *conn) refuse(e *text.Error) {
	switch e.Code {
	case znode.ErrProtocol:
		c.s.stats.protocolErrors.Add(1)
	case znode.ErrTooBig, znode.ErrLimit:
		c.s.stats.limitsReached.Add(1)
	}
	reply := e.Reply()
	c.reply(e.Tag, e.CRLF, &reply)
	c.leaving = c.leaving || e.Close
}

// reply answers the request in hand with something that depends on no state.
func (c *conn) reply(tag string, crlf bool, r *text.Reply) {
	r.Tag = tag
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting() {
		c.enqueue(&item{c: c, tag: tag, format: c.format, crlf: crlf, ready: true, fixed: r})
		return
	}
	c.mu.out = r.Append(c.mu.out, c.format, crlf)
}

// waiting says whether an unanswered write is before the request in hand.
func (c *conn) waiting() bool { return c.mu.head < len(c.mu.queue) }

func (c *conn) enqueue(it *item) {
	if c.mu.head == len(c.mu.queue) {
		clear(c.mu.queue)
		c.mu.queue, c.mu.head = c.mu.queue[:0], 0
	}
	c.mu.queue = append(c.mu.queue, it)
	c.mu.inFlight += it.size
	c.s.stats.outstanding.Add(1)
}

// read answers a read now, or in its turn.
func (c *conn) read(req *text.Request) {
	c.mu.Lock()
	if c.waiting() {
		it := &item{c: c, req: *req, tag: req.Tag, format: c.format, crlf: req.CRLF, verb: req.Verb, ids: c.ids, ready: true}
		it.req.Value, it.req.Ops = nil, nil
		c.enqueue(it)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.req = req
	c.s.cfg.Backend.View(c.view)
}

// readBehind answers a read once everything committed before it is applied here.
func (c *conn) readBehind(req *text.Request) {
	it := &item{c: c, req: *req, tag: req.Tag, format: c.format, crlf: req.CRLF, verb: req.Verb, ids: c.ids}
	it.req.Value, it.req.Ops = nil, nil
	c.mu.Lock()
	c.enqueue(it)
	c.mu.Unlock()
	c.s.cfg.Backend.Barrier(it.done)
}

// submit proposes a write.
func (c *conn) submit(it *item) {
	it.c, it.format, it.ids, it.write, it.since = c, c.format, c.ids, true, c.now
	it.txn.IDs = c.ids
	c.mu.Lock()
	c.enqueue(it)
	c.mu.Unlock()
	c.s.cfg.Backend.Submit(&it.txn, it.done)
}

// done is told the outcome of a write or barrier. The state lock is held.
func (it *item) done(r tree.Result, t *tree.Tree, _ *watch.Table) {
	c := it.c
	it.result, it.ready = r, true
	if it.write {
		c.s.stats.wrote(it.since)
	}
	c.mu.Lock()
	c.advance(t)
	c.mu.Unlock()
	if !c.dirty {
		c.dirty = true
		c.s.dirty = append(c.s.dirty, c)
	}
}

// advance answers the requests at the front of the queue whose turn has come.
func (c *conn) advance(t *tree.Tree) {
	for c.mu.head < len(c.mu.queue) && c.mu.queue[c.mu.head].ready {
		it := c.mu.queue[c.mu.head]
		c.mu.queue[c.mu.head] = nil
		c.mu.head++
		c.mu.inFlight -= it.size
		c.s.stats.outstanding.Add(-1)
		if c.mu.broken {
			continue
		}
		c.mu.out = c.appendAnswer(c.mu.out, it, t)
		if it.result.Code == znode.ErrUncertain {
			c.mu.ending = true // what is behind it must not succeed
		}
		if len(c.mu.out)+c.mu.sending > MaxOutboxBytes {
			c.s.stats.slow.Add(1)
			c.s.log.Warn().Stringer("addr", c.nc.RemoteAddr()).Int("bytes", len(c.mu.out)).Msg("client does not read its answers: closed")
			c.breakOff()
		}
	}
}

// breakOff gives the connection up. mu is held.
func (c *conn) breakOff() {
	c.mu.broken, c.mu.out = true, nil
	c.stop()
	c.changed.Broadcast()
}

// kick sends the outbox in the background, unless somebody does already.
func (c *conn) kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
	if !c.mu.flushing && len(c.mu.out) > 0 && !c.mu.broken {
		c.mu.flushing = true
		go c.flush()
	}
}

// flush sends the outbox until it is empty. The caller has set flushing.
func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.mu.out) > 0 && !c.mu.broken {
		out := c.mu.out
		c.mu.out, c.mu.spare, c.mu.sending = c.mu.spare[:0], nil, len(out)
		c.mu.Unlock()
		_ = c.nc.SetWriteDeadline(time.Now().Add(WriteTime))
		_, err := c.nc.Write(out)
		c.mu.Lock()
		c.mu.sending = 0
		if cap(out) <= flushAt {
			c.mu.spare = out[:0]
		}
		if err != nil {
			c.breakOff()
		}
	}
	c.mu.flushing = false
	if c.mu.ending && c.mu.head == len(c.mu.queue) {
		c.stop() // wakes the reader
	}
	c.changed.Broadcast()
}

// flushOwn sends the outbox on the reader's own goroutine: a client that does
// not take its answers is not read from.
func (c *conn) flushOwn() bool {
	c.mu.Lock()
	if c.mu.flushing || len(c.mu.out) == 0 {
		ok := !c.mu.broken
		c.mu.Unlock()
		return ok
	}
	c.mu.flushing = true
	c.mu.Unlock()
	c.flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.mu.broken
}

// roomy waits while too much is under way or too many answers are not taken.
// It says whether the connection still stands.
func (c *conn) roomy() bool {
	c.mu.Lock()
	for !c.mu.broken {
		switch {
		case len(c.mu.queue)-c.mu.head >= MaxPipelined || c.mu.inFlight >= MaxInFlightBytes:
			c.changed.Wait()
		case len(c.mu.out) < flushAt:
			c.mu.Unlock()
			return true
		case c.mu.flushing:
			c.changed.Wait()
		default:
			c.mu.flushing = true
			c.mu.Unlock()
			c.flush()
			c.mu.Lock()
		}
	}
	c.mu.Unlock()
	return false
}

// drain waits until everything is answered and sent.
func (c *conn) drain() bool {
	c.flushOwn()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.mu.broken && (c.waiting() || c.mu.flushing) {
		c.changed.Wait()
	}
	return !c.mu.broken
}

func (s *stats) wrote(since time.Time) {
	us := time.Since(since).Microseconds()
	s.writes.Add(1)
	s.latencySum.Add(us)
	for old := s.latencyMax.Load(); us > old && !s.latencyMax.CompareAndSwap(old, us); old = s.latencyMax.Load() {
	}
	for old := s.latencyMin.Load(); (old == 0 || us+1 < old) && !s.latencyMin.CompareAndSwap(old, us+1); old = s.latencyMin.Load() {
	}
}
