package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing/synctest"
	"time"
)

// connection behaves like a TCP connection: what one end writes is cut into segments, which arrive
// in order, late, or never. An end that goes away says so, if it can.
type connection struct {
	w       *linked
	number  int
	purpose byte          // from the hello; 0: nothing has been sent yet
	ends    [2]*socket    // the dialer's, the acceptor's
	mute    bool          // nothing passes any more, and neither end learns of it
	stalled time.Duration // nothing passes until then
}

// Purposes of a connection.
const (
	linkConn     = 1
	snapshotConn = 2
	requestConn  = 3
)

// socket is one end of a connection.
type socket struct {
	c             *connection
	st            *station
	local, remote address
	flight        []segment     // under way to the other end
	last          time.Duration // when the last of flight arrives
	owed          int           // bytes that have arrived and are not acknowledged yet
	flip          bool          // a bit of the next write changes under way
	vanished      bool          // lost with its machine, which no longer knows of the connection

	// Under linked.mu.
	in       []byte
	inErr    error // returned after in
	closed   bool
	dead     bool // its process has ended
	window   int  // bytes that may be unacknowledged
	unacked  int
	waits    bool // a writer waits
	deadline time.Time
	changed  chan struct{} // closed when one of these fields changes
}

// segment is some bytes, and perhaps the end of the stream after them.
type segment struct {
	at    time.Duration
	b     []byte
	whole bool  // what is written next is a separate write
	err   error // io.EOF, or a reset, after which unread bytes cannot be read
}

type address string

func (a address) Network() string { return "simulated" }
func (a address) String() string  { return string(a) }

func (s *socket) LocalAddr() net.Addr              { return s.local }
func (s *socket) RemoteAddr() net.Addr             { return s.remote }
func (s *socket) SetWriteDeadline(time.Time) error { return nil } // no peer is that slow before the first answer
func (s *socket) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *socket) SetReadDeadline(t time.Time) error {
	s.c.w.mu.Lock()
	defer s.c.w.mu.Unlock()
	s.deadline = t
	return nil
}

// broadcast wakes the waiting goroutines. The caller holds linked.mu.
func (s *socket) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// tardy is how late a deadline takes effect: timers of other goroutines that are set to the same moment come
// first.
const tardy = 10 * time.Microsecond

func (s *socket) Read(b []byte) (int, error) {
	mu := &s.c.w.mu
	for {
		mu.Lock()
		n, err := copy(b, s.in), s.inErr
		s.in = s.in[n:]
		over, deadline, changed := s.closed || s.dead, s.deadline, s.changed
		mu.Unlock()
		switch {
		case over:
			return 0, net.ErrClosed
		case n > 0:
			return n, nil
		case err != nil:
			return 0, err
		case deadline.IsZero():
			<-changed
			continue
		}
		wait := time.NewTimer(time.Until(deadline) + tardy)
		select {
		case <-changed:
			wait.Stop()
		case <-wait.C:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (s *socket) Write(b []byte) (int, error) {
	w := s.c.w
	done := 0
	for {
		w.mu.Lock()
		var err error
		switch {
		case s.closed || s.dead:
			err = net.ErrClosed
		case errors.Is(s.inErr, syscall.ECONNRESET):
			err = s.inErr
		}
		n := min(len(b)-done, s.window-s.unacked)
		if n < min(len(b)-done, s.window/2) || err != nil {
			n = 0 // too little room: wait for more
		}
		s.unacked += n
		s.waits = err == nil && done+n < len(b)
		changed := s.changed
		w.mu.Unlock()
		if err != nil {
			return done, err
		}
		if n > 0 {
			piece := slices.Clone(b[done : done+n])
			done += n
			whole := done == len(b)
			s.put(deedWrite, func() { s.c.send(s.side(), piece, whole) })
		}
		if done == len(b) {
			return done, nil
		}
		<-changed
	}
}

func (s *socket) Close() error {
	w := s.c.w
	w.mu.Lock()
	if s.closed || s.dead {
		w.mu.Unlock()
		return nil
	}
	s.closed = true
	end := io.EOF
	switch {
	case errors.Is(s.inErr, syscall.ECONNRESET):
		end = nil // the other end no longer knows the connection
	case len(s.in) > 0:
		end = syscall.ECONNRESET // as on Linux: unread data is lost
	}
	s.broadcast()
	w.mu.Unlock()
	if end != nil {
		s.put(deedClose, func() { s.c.sendEnd(s.side(), end) })
	}
	return nil
}

func (s *socket) put(kind int, do func()) {
	s.c.w.put(s.st, deed{s.node(), s.other().node(), kind, s.c.number, do})
}

func (s *socket) node() uint64 { return s.st.n.id }
func (s *socket) side() int {
	if s.c.ends[0] == s {
		return 0
	}
	return 1
}
func (s *socket) other() *socket { return s.c.ends[1-s.side()] }

// isOver says whether this end is closed, dead or gone.
func (s *socket) isOver() bool {
	s.c.w.mu.Lock()
	defer s.c.w.mu.Unlock()
	return s.closed || s.dead
}

// live returns the connections on which something may still arrive.
func (w *linked) live() []*connection {
	w.conns = slices.DeleteFunc(w.conns, func(c *connection) bool { return c.ends[0].isOver() && c.ends[1].isOver() })
	return w.conns
}

func (c *connection) isBetween(a, b uint64) bool {
	x, y := c.ends[0].node(), c.ends[1].node()
	return x == a && y == b || x == b && y == a
}

// latency is how long a segment is under way.
func (w *linked) latency() time.Duration {
	if w.chance(1) && !w.calm {
		return w.between(0, 200*time.Millisecond)
	}
	return w.between(100*time.Microsecond, 3*time.Millisecond)
}

// send dispatches what one side has written.
func (c *connection) send(side int, b []byte, whole bool) {
	w, s := c.w, c.ends[side]
	if side == 0 && c.purpose == 0 {
		c.hello(b)
	}
	if s.flip {
		s.flip = false
		w.flipBit(c, b)
	}
	for len(b) > 0 {
		n := len(b)
		if w.chance(10) {
			n = 1 + w.rnd.IntN(n)
		}
		c.dispatch(side, segment{b: b[:n], whole: whole && n == len(b)})
		b = b[n:]
	}
}

// hello reads the purpose of a connection.
func (c *connection) hello(b []byte) {
	if len(b) < 12 {
		c.purpose = linkConn // such a short write is never a whole hello
		return
	}
	c.purpose = b[11]
	w, to := c.w, c.ends[1]
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chance(20) { // later writes are then sent together
		c.ends[0].window = 200 + w.rnd.IntN(2000)
	}
	if c.purpose != snapshotConn {
		return
	}
	c.ends[0].window *= 20
	if a := to.st.arriving[c.ends[0].node()]; a != nil && a.bytes > 0 {
		a.resumed = true
	}
}

// dispatch queues a segment after those under way. A paused node sends nothing.
func (c *connection) dispatch(side int, x segment) {
	w, s := c.w, c.ends[side]
	x.at = max(s.last, max(w.now, s.st.n.paused)+w.latency())
	s.last = x.at
	s.flight = append(s.flight, x)
	w.after(x.at-w.now, func() { c.arrive(side) })
}

// sendEnd ends the stream of one side.
func (c *connection) sendEnd(side int, why error) { c.dispatch(side, segment{err: why}) }

// arrive delivers the segments that are due.
func (c *connection) arrive(side int) {
	w, s, to := c.w, c.ends[side], c.ends[1-side]
	for len(s.flight) > 0 && s.flight[0].at <= w.now {
		if c.mute {
			s.flight = nil
			return
		}
		if wait := c.hindrance(s, to); wait > 0 {
			s.flight[0].at = w.now + wait
			s.last = max(s.last, s.flight[0].at)
			w.hinder(s, to, wait)
			w.after(wait, func() { c.arrive(side) })
			return
		}
		x := s.flight[0]
		s.flight = s.flight[1:]
		c.deliver(s, to, x)
	}
}

// hindrance is how long a segment that is due must wait before it is tried again.
func (c *connection) hindrance(s, to *socket) time.Duration {
	w := c.w
	switch {
	case w.net.blocked[arrow{s.node(), to.node()}] > 0:
		return w.between(20*time.Millisecond, 400*time.Millisecond)
	case c.stalled > w.now && !w.calm:
		return c.stalled - w.now
	case to.st.n.paused > w.now && !to.isOver():
		return to.st.n.paused - w.now
	}
	return 0
}

func (w *linked) hinder(s, to *socket, wait time.Duration) {
	a := arrow{s.node(), to.node()}
	w.hindered[a] = max(w.hindered[a], w.now+wait)
}

// deliver puts a segment into the receiver's socket.
func (c *connection) deliver(s, to *socket, x segment) {
	w := c.w
	switch {
	case to.vanished && w.dark[to.node()-1]:
		return
	case to.vanished || to.isOver():
		if len(x.b) > 0 {
			w.after(w.latency(), func() { c.reset(s) })
		}
		return
	}
	w.mu.Lock()
	to.in = append(to.in, x.b...)
	switch {
	case x.err == nil:
	case to.inErr == nil:
		to.inErr = x.err
		if errors.Is(x.err, syscall.ECONNRESET) {
			to.in = nil
		}
	}
	to.broadcast()
	w.mu.Unlock()
	synctest.Wait()
	s.owed += len(x.b)
	c.acknowledge(s)
}

// acknowledge gives the writer room for more.
func (c *connection) acknowledge(s *socket) {
	w, to := c.w, s.other()
	if s.owed == 0 || c.mute {
		return
	}
	if w.net.blocked[arrow{to.node(), s.node()}] > 0 {
		w.hinder(s, to, 400*time.Millisecond)
		w.after(w.between(20*time.Millisecond, 400*time.Millisecond), func() { c.acknowledge(s) })
		return
	}
	w.mu.Lock()
	s.unacked -= s.owed
	waits := s.waits
	if waits {
		s.broadcast()
	}
	w.mu.Unlock()
	s.owed = 0
	if waits {
		synctest.Wait()
	}
}

// reset tells one end that the other no longer knows the connection, if that gets through.
func (c *connection) reset(s *socket) {
	if c.mute || s.isOver() || c.w.net.blocked[arrow{s.other().node(), s.node()}] > 0 {
		return
	}
	c.w.mu.Lock()
	if s.inErr == nil {
		s.in, s.inErr = nil, syscall.ECONNRESET
	}
	s.broadcast()
	c.w.mu.Unlock()
	synctest.Wait()
}

// cut drops what is under way from a random place on, within a frame or not.
func (c *connection) cut(side int) {
	w, s := c.w, c.ends[side]
	if len(s.flight) == 0 {
		return
	}
	i := w.rnd.IntN(len(s.flight) + 1)
	if i == len(s.flight) {
		return
	}
	x := &s.flight[i]
	n := w.rnd.IntN(len(x.b) + 1)
	if n > 0 && (n < len(x.b) || !x.whole) {
		w.seen["cuts within a frame"]++
	}
	x.b, x.err = x.b[:n], nil
	s.flight = s.flight[:i+1]
}

// died ends a side whose process has ended, or whose machine has lost power.
func (c *connection) died(side int, power bool) {
	w, s := c.w, c.ends[side]
	switch {
	case power:
		s.vanished = true
		c.cut(side)
	case w.chance(50):
		c.sendEnd(side, io.EOF)
	default:
		c.cut(side)
		c.sendEnd(side, syscall.ECONNRESET)
	}
}

// listener accepts the connections to a node.
type listener struct {
	at     address
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newListener(at string) *listener {
	return &listener{at: address(at), conns: make(chan net.Conn, 1000), closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return l.at }

// dialling is one attempt to connect.
type dialling struct {
	st     *station
	to     uint64
	answer chan dialAnswer // has room for one
	over   bool            // under linked.mu: the dialer has given up
}

type dialAnswer struct {
	nc  net.Conn
	err error
}

func (st *station) dial(ctx context.Context, addr string) (net.Conn, error) {
	d := &dialling{st: st, to: idOf(addr), answer: make(chan dialAnswer, 1)}
	st.w.put(st, deed{st.n.id, d.to, deedDial, 0, d.begin})
	select {
	case x := <-d.answer:
		return x.nc, x.err
	case <-ctx.Done():
		st.w.mu.Lock()
		defer st.w.mu.Unlock()
		d.over = true
		return nil, ctx.Err()
	}
}

func (d *dialling) isOver() bool {
	w := d.st.w
	w.mu.Lock()
	defer w.mu.Unlock()
	return d.over || d.st.dead
}

// say delivers the answer after a while.
func (d *dialling) say(x dialAnswer) {
	w := d.st.w
	w.after(max(0, d.st.n.paused-w.now)+w.latency(), func() {
		if d.isOver() {
			return
		}
		d.answer <- x
		synctest.Wait()
	})
}

// begin sends the first segment, which may find no listener.
func (d *dialling) begin() {
	w, from := d.st.w, d.st.n
	late := max(0, from.paused-w.now)
	if w.now < d.st.lateUntil {
		late += w.between(0, 400*time.Millisecond)
	}
	w.after(late+w.latency(), func() {
		if d.isOver() {
			return
		}
		w.makeRoom(d.to)
		to := w.stations[d.to-1]
		switch {
		case w.net.blocked[arrow{from.id, d.to}]+w.net.blocked[arrow{d.to, from.id}] > 0 || w.dark[d.to-1]:
			if w.chance(30) {
				d.say(dialAnswer{err: syscall.EHOSTUNREACH})
				return
			}
			w.seen["dials without an answer"]++
		case to == nil || to.isDead():
			w.seen["dials refused"]++
			d.say(dialAnswer{err: syscall.ECONNREFUSED})
		default:
			d.connect(to)
		}
	})
}

// connect makes a connection: the kernel of the other side does so even while its process is
// paused.
func (d *dialling) connect(to *station) {
	w := d.st.w
	w.dialled++
	c := &connection{w: w, number: w.dialled}
	here, there := address(fmt.Sprintf("n%d:1", d.st.n.id)), address(addressOf(d.to))
	const window = 64 << 10
	c.ends[0] = &socket{c: c, st: d.st, local: here, remote: there, window: window, changed: make(chan struct{})}
	c.ends[1] = &socket{c: c, st: to, local: there, remote: here, window: window, changed: make(chan struct{})}
	w.conns = append(w.conns, c)
	w.after(max(0, to.n.paused-w.now)+w.latency(), func() {
		if to.isDead() {
			return // died has handled it
		}
		to.listener.conns <- c.ends[1]
		synctest.Wait()
	})
	w.after(max(0, d.st.n.paused-w.now)+w.latency(), func() {
		if d.isOver() {
			_ = c.ends[0].Close()
			return
		}
		d.answer <- dialAnswer{nc: c.ends[0]}
		synctest.Wait()
	})
}
