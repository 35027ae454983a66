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

// conn is one client's connection. Its reader goroutine owns the fields above dirty. dirty belongs
// to the goroutine that runs dones.
type conn struct {
	s        *Server
	nc       net.Conn
	addr     netip.Addr       // invalid for unix sockets
	ids      []znode.Identity // replaced by AUTH, never changed in place
	users    int              // number of ids added by AUTH
	operator bool             // by address or user; such a user also has the super identity
	private  bool             // nobody can eavesdrop
	raw      syscall.RawConn  // of nc; nil if it has none
	tryRead  func(fd uintptr) bool
	got      int // bytes that readNow has read; gotErr says why there are none
	gotErr   error
	in       []byte // received; in[:used] is consumed
	used     int
	eager    bool         // the last read filled the buffer: there is more
	heard    bool         // the first line has arrived
	leaving  bool         // QUIT, or an error after which the stream cannot be trusted
	crowded  bool         // the reader waits before the next request: see roomy
	size     int          // bytes of the request in hand
	received int64        // requests not in the stats yet
	bytes    int64        // of these requests
	fresh    int64        // reads answered whose latency is not in the stats yet
	op       string       // name of the request in hand in cons; "" if it is no operation
	cxid     int64        // its xid, or noCxid
	est      time.Time    // when the client connected
	total    atomic.Int64 // requests since then, or since the last crst
	now      time.Time    // when the burst in hand was read
	sess     clientSession
	rush     rush
	talk     dialect // nil until the first bytes have selected it

	dirty bool

	mu struct {
		sync.Mutex
		outbox
	}
	changed sync.Cond // on mu; the queue or the outbox got shorter, or the connection ends
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
	return c
}

// dialect is the protocol that a client speaks. Only the reader calls its methods, except
// appendLast and isFatal.
type dialect interface {
	// handleAll takes every whole request from the bytes received.
	handleAll(ctx context.Context)
	// rest gives back what the connection does not need while nothing is received.
	rest()
	// drop removes the client's watches.
	drop(table *watch.Table)
	// appendLast appends the last message to a client whose connection ends, if the protocol has
	// one. The connection's lock is held.
	appendLast(b []byte, r *text.Reply) []byte
	// isFatal says whether an outcome ends the connection, so that no later request is answered.
	// The connection's lock is held.
	isFatal(code znode.Code) bool
}

// serve talks to the client until either side ends the conversation. It is the reader.
func (c *conn) serve(ctx context.Context) {
	c.readUntil(time.Now().Add(FirstLineTime))
	if c.sniff() {
		c.goOn(ctx)
		return
	}
	c.finish()
}

// goOn is the reader after the first bytes. When its stack has grown and is to be given back,
// another goroutine takes its place, because so small a stack does not shrink.
func (c *conn) goOn(ctx context.Context) {
	if c.converse(ctx) {
		go c.goOn(ctx)
		return
	}
	c.finish()
}

// finish ends the conversation.
func (c *conn) finish() {
	defer c.s.leave(c)
	defer c.close()
	c.endRush()
	c.leaveIfShut()
	drained := c.drain()
	c.endLive()
	if drained && c.leaving {
		c.linger()
	}
}

// leaveIfShut leaves the session if the client closes its side, or is killed, while a WAIT is
// unanswered: after a QUIT the reader reads nothing, so it would not see the FIN.
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

// abandonLocks gives up the unanswered LOCKs: their client has closed its side and could not use
// them.
func (c *conn) abandonLocks() {
	for _, w := range c.waits() {
		if w.req.Verb == text.VerbLock {
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

// endLive ends what lives with the connection: its session, unless that has a hold, its watches,
// and its waits.
func (c *conn) endLive() {
	if c.talk == nil {
		return
	}
	c.leaveSession()
	waits := c.waits()
	c.s.cfg.Backend.View(func(_ *tree.Tree, table *watch.Table) {
		c.talk.drop(table)
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

// converse handles requests until the client leaves or must leave. If it returns true, the reader
// rests and another goroutine must go on.
func (c *conn) converse(ctx context.Context) (rests bool) {
	for {
		c.now = time.Now()
		c.talk.handleAll(ctx)
		if c.leaving || !c.flushOwn() {
			return false
		}
		c.giveWay()
		heard := c.fill()
		c.begin()
		if !heard {
			if c.isResting() {
				return true
			}
			if c.flushOwn() { // the client has closed its side
				c.abandonLocks()
				c.leaveSession() // whether or not a WAIT is unanswered; the WAIT goes on, because nc -N closes its side too
			}
			return false
		}
		if c.sess.isPinged() {
			c.s.cfg.Sessions.Touch(c.sess.id)
		}
	}
}

// count adds the requests of the burst to the stats.
func (c *conn) count() {
	c.s.stats.received.Add(c.received)
	c.s.stats.bytesReceived.Add(c.bytes)
	c.total.Add(c.received)
	c.rush.requests += int(c.received)
	c.rush.own += c.received
	c.received, c.bytes = 0, 0
}

// hear notes that the client speaks the protocol, which ends the time limit of the first line.
func (c *conn) hear() {
	if !c.heard {
		c.heard = true
		c.readUntil(time.Time{})
	}
}

// sniff reads the first bytes and detects the protocol. It answers four-letter words itself, and
// says whether there is a conversation to begin.
func (c *conn) sniff() bool {
	for {
		switch protocolOf(c.in) {
		case protocolTLS:
			c.s.stats.protocolErrors.Add(1)
			return false
		case protocolZooKeeper:
			return c.letIn()
		case protocolWord:
			c.fourLetter(string(c.in[:wordBytes]))
			return false
		case protocolText:
			c.talk = newTextConn(c)
			return true
		}
		if !c.fill() {
			return false
		}
	}
}

// protocol is what a client speaks.
type protocol uint8

const (
	protocolUnknown   protocol = iota // more bytes are needed
	protocolTLS                       // not spoken by this version
	protocolZooKeeper                 // ZooKeeper's frames
	protocolWord                      // a four-letter word
	protocolText                      // anything else
)

// wordBytes is the length of a four-letter word.
const wordBytes = 4

// protocolOf detects the protocol from the first bytes.
func protocolOf(in []byte) protocol {
	if len(in) == 0 {
		return protocolUnknown
	}
	switch first := in[0]; {
	case first == 0x16:
		return protocolTLS
	case first == 0x00:
		return protocolZooKeeper
	case len(in) >= wordBytes && fourLetterWords[string(in[:wordBytes])] != nil:
		return protocolWord
	case first < 'a' || first > 'z' || len(in) >= wordBytes || strings.ContainsAny(string(in), "\r\n "):
		return protocolText
	}
	return protocolUnknown
}

// letIn lets a client of ZooKeeper's protocol in, unless there is no leader: then the client must
// look for another server. It takes mu.
func (c *conn) letIn() bool {
	c.talk = newZKConn(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.zk = true
	if c.s.leaderless.Load() {
		c.dismiss()
	}
	return c.goesOn()
}

// readUntil sets the time by which the client must send something, unless the server is stopping.
// It says whether the reader may go on. It takes mu.
func (c *conn) readUntil(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.until = t
	return !c.mu.retired && c.nc.SetReadDeadline(t) == nil
}

// relax interrupts a reader that waits for its client with nothing to do. It takes mu.
func (c *conn) relax() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.idle && !c.mu.resting && c.mu.until.IsZero() && !c.isOver() {
		c.mu.resting = true
		c.interrupt()
	}
}

// isResting says, once, whether relax has ended the reader's wait. It takes mu.
func (c *conn) isResting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	rests := c.mu.resting && !c.isOver() && c.nc.SetReadDeadline(c.mu.until) == nil
	c.mu.resting = false
	return rests
}

// interrupt ends the reader's wait for the client, whether it has begun or not.
func (c *conn) interrupt() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// linger closes the sending side and discards what the client still sends, for up to LingerTime. If
// the socket were closed with bytes unread, the kernel would reset the connection, and the client
// might lose the last answer, which says why.
func (c *conn) linger() {
	if closeSending(c.nc) && c.readUntil(time.Now().Add(LingerTime)) {
		discard(c.nc)
	}
}

func closeSending(nc net.Conn) bool {
	w, ok := nc.(interface{ CloseWrite() error })
	return ok && w.CloseWrite() == nil
}

// discard throws away received bytes until the end of the stream or the deadline.
func discard(nc net.Conn) {
	buf := make([]byte, smallBuffer)
	for {
		if _, err := nc.Read(buf); err != nil {
			return
		}
	}
}

// retire ends the connection from outside, gracefully: nothing more is read, and the requests that
// were taken are answered.
func (c *conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.retired, c.mu.keeps = true, true
	c.interrupt()
	c.changed.Broadcast()
}

// cut ends the connection from outside, at once.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakOff()
}

// close ends the connection for good. Dones that still come find it broken.
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
