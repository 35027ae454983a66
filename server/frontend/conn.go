package frontend

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// conn is one client's connection. Its reader goroutine owns everything above
// dirty, which belongs to the goroutine that runs dones.
type conn struct {
	s         *Server
	nc        net.Conn
	addr      netip.Addr       // invalid for unix sockets
	ids       []znode.Identity // replaced by AUTH, never changed in place
	users     int              // of these, added by AUTH
	operator  bool             // by address or user; the super identity is one too
	private   bool             // nobody can listen in
	raw       syscall.RawConn  // of nc; nil if it has none
	tryRead   func(fd uintptr) bool
	got       int // what it has read, or why not
	gotErr    error
	parser    *text.Parser // nil while nothing is received
	format    text.Format
	in        []byte // received; in[:used] is consumed
	used      int
	eager     bool          // the last read filled in: more is there
	heard     bool          // the first line has come
	leaving   bool          // QUIT, or an error after which the stream cannot be trusted
	crowded   bool          // wait before the next request: see roomy
	size      int           // bytes of the request in hand
	received  int64         // requests not in the stats yet
	bytes     int64         // of these
	fresh     int64         // reads answered whose latency is not in the stats yet
	verb      text.Verb     // of the request in hand; 0 if it has none
	est       time.Time     // when the client came
	total     atomic.Int64  // requests since then, or since crst
	now       time.Time     // when the burst in hand was read
	req       *text.Request // the read that view answers
	view      func(*tree.Tree, *watch.Table)
	sess      clientSession
	name      string // as HELLO gave it
	eventCRLF bool   // what mu.eventCRLF is

	dirty bool

	mu struct {
		sync.Mutex
		outbox
	}
	changed sync.Cond // the queue or the outbox got shorter, or the connection ends; on mu
}

func newConn(s *Server, nc net.Conn, who guest) *conn {
	c := &conn{s: s, nc: nc, ids: who.ids, addr: who.addr, operator: who.operator, private: who.private, est: time.Now()}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.tryRead = raw, c.readNow
		}
	}
	c.mu.traffic.reset()
	c.changed.L = &c.mu
	c.view = func(t *tree.Tree, table *watch.Table) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.goesOn() {
			c.mu.out = c.appendRead(c.outbox(), c.req, c.ids, c.format, t, table)
			c.noteZxid(t)
			c.answered()
			c.mu.ending = c.req.Verb == text.VerbCat
		}
	}
	return c
}

// serve talks to the client until one side has enough.
func (c *conn) serve(ctx context.Context) {
	defer c.close()
	c.readUntil(time.Now().Add(FirstLineTime))
	if c.sniff() {
		c.converse(ctx)
	}
	c.leaveIfShut()
	drained := c.drain()
	c.endLive()
	if drained && c.leaving {
		c.linger()
	}
}

// leaveIfShut leaves the session if the client closes its side, or is killed, while
// a WAIT goes on: behind its QUIT nothing is read, and no FIN is seen otherwise.
func (c *conn) leaveIfShut() {
	if c.sess.id == 0 {
		return
	}
	c.mu.Lock()
	c.await(func() bool { return c.mu.waits == 0 || c.mu.shut || c.isOver() })
	shut := c.mu.shut
	c.mu.Unlock()
	if shut {
		c.leaveSession()
	}
}

// abandonLocks gives up the LOCKs that wait: their client has closed its side,
// and could not use them.
func (c *conn) abandonLocks() {
	for _, w := range c.waits() {
		if w.verb == text.VerbLock {
			w.giveUp(znode.ErrTimeout)
		}
	}
}

// waits lists the WAITs and LOCKs that are not answered.
func (c *conn) waits() (all []*wait) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range c.mu.queue[c.mu.head:] {
		if it.wait != nil {
			all = append(all, it.wait)
		}
	}
	return all
}

// endLive ends what lives with the connection: its session, unless that has a
// hold, its watches, and what it waits for.
func (c *conn) endLive() {
	c.leaveSession()
	waits := c.waits()
	c.mu.Lock()
	watches := c.mu.watches
	c.mu.watches = nil
	c.mu.Unlock()
	if len(watches)+len(waits) == 0 {
		return
	}
	c.s.cfg.Backend.View(func(_ *tree.Tree, table *watch.Table) {
		for _, w := range watches {
			w.ended.Store(true)
			table.Drop(w)
		}
		for _, w := range waits {
			c.mu.Lock()
			w.finish(table)
			c.mu.Unlock()
		}
	})
	for _, w := range waits {
		w.withdraw()
	}
}

// converse handles requests until the client leaves, or is to.
func (c *conn) converse(ctx context.Context) {
	for {
		c.now = time.Now()
		c.handleAll(ctx)
		if c.leaving || !c.flushOwn() {
			return
		}
		heard := c.fill()
		c.begin()
		if !heard {
			if c.flushOwn() { // it is the client's side that has ended
				c.abandonLocks()
				c.leaveSession() // not only behind a WAIT, which goes on: nc -N closes its side, too
			}
			return
		}
		if c.sess.id != 0 && c.sess.live == text.LivePing {
			c.s.cfg.Sessions.Touch(c.sess.id)
		}
	}
}

// handleAll takes every whole request from the bytes received.
func (c *conn) handleAll(ctx context.Context) {
	if c.parser == nil {
		c.parser = c.s.parsers.Get().(*text.Parser)
	}
	for !c.leaving {
		req, n, err := c.parser.Next(c.in[c.used:])
		c.used += n
		c.bytes += int64(n)
		c.size = n
		switch {
		case err != nil:
			c.received++
			c.verb = 0
			c.refuse(err.(*text.Error)) //nolint:errorlint // Next returns nothing else
		case req != nil:
			c.received++
			c.hear()
			c.handle(ctx, req)
		default:
			c.judgeFirstLine()
			c.count()
			return
		}
		if c.crowded && !c.roomy() {
			c.leaving = true
		}
	}
	c.count()
}

// count puts what the burst brought into the stats.
func (c *conn) count() {
	c.s.stats.received.Add(c.received)
	c.s.stats.bytesReceived.Add(c.bytes)
	c.total.Add(c.received)
	c.received, c.bytes = 0, 0
}

// hear notes that the client speaks the protocol: the time limit of the first
// line ends.
func (c *conn) hear() {
	if !c.heard {
		c.heard = true
		c.readUntil(time.Time{})
	}
}

// judgeFirstLine looks at an unfinished first request: its line must end soon;
// a payload behind it may be long and take its time.
func (c *conn) judgeFirstLine() {
	if c.heard {
		return
	}
	rest := c.in[c.used:]
	for _, b := range rest {
		if b == '\n' || b == '\r' {
			c.hear()
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
	reply.Tag = e.Tag
	c.reply(&reply, e.CRLF)
	c.leaving = c.leaving || e.Close
}

// sniff reads the first bytes and tells the protocols apart. It answers
// four-letter words itself and says whether the text protocol is spoken.
func (c *conn) sniff() bool {
	for {
		if len(c.in) > 0 {
			switch first := c.in[0]; {
			case first == 0x00, first == 0x16: // a ZooKeeper frame, TLS: not spoken by this version
				c.s.stats.protocolErrors.Add(1)
				return false
			case first < 'a' || first > 'z':
				return true
			case len(c.in) >= 4:
				word := string(c.in[:4])
				if fourLetterWords[word] == nil {
					return true
				}
				c.fourLetter(word)
				return false
			case strings.ContainsAny(string(c.in), "\r\n "):
				return true
			}
		}
		if !c.fill() {
			return false
		}
	}
}

// readUntil sets the time by which the client must send, unless the server has
// no time any more. It takes mu.
func (c *conn) readUntil(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.until = t
	return !c.mu.retired && c.nc.SetReadDeadline(t) == nil
}

// interrupt ends the reader's waiting for the client, now or when it begins.
func (c *conn) interrupt() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// linger closes the sending side and throws away what the client still sends,
// for a while: closed with bytes unread, the connection would be reset, and the
// client might lose the last answer, the one that says why.
func (c *conn) linger() {
	w, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil || !c.readUntil(time.Now().Add(LingerTime)) {
		return
	}
	buf := make([]byte, smallBuffer)
	for {
		if _, err := c.nc.Read(buf); err != nil {
			return
		}
	}
}

// retire ends the connection from outside, gently: nothing more is read, and
// what has been taken is answered.
func (c *conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.retired = true
	c.interrupt()
	c.changed.Broadcast()
}

// cut ends the connection from outside, at once.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakOff()
}

// close is the end. Dones that still come find the connection broken.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakOff()
	for c.mu.flushing {
		c.changed.Wait()
	}
	giveBack(c.in)
	c.in = nil
}
