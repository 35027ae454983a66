package bench

import (
	"context"
	"errors"
	"math/bits"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// client sends the requests of the load on a session of its own. Its reader
// goroutine runs it; the pacer (in the open loop) and the supervisor access it
// under mu.
type client struct {
	*session
	run       *asking
	id        int
	raw       syscall.RawConn
	writeOnce func(fd uintptr) bool // for raw.Write: writes pending once
	templates [numOps]template
	need      int          // size of the frame that is not complete yet, in bytes
	answers   atomic.Int64 // copy of answered that is read without mu

	mu       sync.Mutex // guards all fields below
	pending  []byte     // still to be sent
	spare    []byte     // an empty buffer
	written  int        // bytes of pending that writeOnce has written
	writeErr error
	sending  bool      // another goroutine is writing
	under    []request // unanswered requests; request n is at n&mask
	mask     uint64
	sent     uint64 // requests so far, and so the next one's number
	answered uint64
	pings    int   // unanswered
	lastSent int64 // ns
	full     bool  // the most requests allowed are in flight
	stopped  bool  // nothing more is sent
	err      error // why it stopped, unless its time was over
	left     int   // measured requests that may still be sent, if Requests limits them
	due      int64 // ns: when the next request is due, with a rate
	unsent   int64 // requests that were due and never sent
	created  uint32
	deleted  uint32
	random   *rand.PCG
	figures  *figures
}

// request is a request in flight.
type request struct {
	at int64 // ns: when it was sent, or was due
	op op
}

// figures are the measurements of one client, and then of all together.
type figures struct {
	latency [numOps]*histogram // nil: the operation is not in the mix
	codes   [numOps]map[znode.Code]int64
	late    histogram // how late the pacer sent requests that it could have sent when they were due
	last    int64     // ns: when the last answer came
}

func newFigures(m Mix) *figures {
	f := &figures{}
	for o := range numOps {
		if m[o] > 0 || o == opCreate && m[opDelete] > 0 {
			f.latency[o] = &histogram{}
		}
	}
	return f
}

func (f *figures) add(o *figures) {
	for i := range numOps {
		if f.latency[i] != nil {
			f.latency[i].add(o.latency[i])
		}
		for code, n := range o.codes[i] {
			f.refused(i, code, n)
		}
	}
	f.late.add(&o.late)
	f.last = max(f.last, o.last)
}

func (f *figures) refused(o op, code znode.Code, n int64) {
	if f.codes[o] == nil {
		f.codes[o] = map[znode.Code]int64{}
	}
	f.codes[o][code] += n
}

// bufferBytes is the size of a client's receive buffer.
const bufferBytes = 64 << 10

func newClient(s *session, run *asking, id int) (*client, error) {
	conn, ok := s.nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("bench: the connection has no socket")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	window := uint64(1) << bits.Len(uint(run.load.Outstanding-1))
	c := &client{
		session: s, run: run, id: id, raw: raw, templates: run.load.templates(id), under: make([]request, window), mask: window - 1,
		random: newRandom(id), figures: newFigures(run.load.Mix),
		left: -1, due: run.interval * int64(id) / int64(run.load.Clients),
	}
	if n := run.load.Requests; n > 0 {
		c.left = n / run.load.Clients
		if id < n%run.load.Clients {
			c.left++
		}
	}
	s.in = append(make([]byte, 0, bufferBytes), s.in...)[:bufferBytes]
	c.writeOnce = func(fd uintptr) bool {
		c.written, c.writeErr = syscall.Write(int(fd), c.pending)
		return true
	}
	return c, nil
}

// ask reads replies and sends requests until the client has stopped and all its
// requests are answered.
func (c *client) ask(ctx context.Context) error {
	_ = c.send(true)
	for !c.over() {
		err := c.receive(c.need)
		now := c.run.now()
		c.mu.Lock()
		if err == nil {
			err = c.take(now)
		}
		switch {
		case c.err != nil: // the real reason
			err = c.err
		case c.stopped && c.sent == c.answered && errors.Is(err, os.ErrDeadlineExceeded): // end has woken the reader
			err = nil
		}
		if err == nil && !c.stopped && (c.run.interval > 0 || c.sent-c.answered <= c.run.refillAt) {
			c.refill(now, false)
			err = c.flush()
		}
		c.mu.Unlock()
		if err != nil {
			if c.run.interrupted.Load() {
				return nil // the rest was not answered in time
			}
			return c.lost(ctx, err)
		}
	}
	return nil
}

func (c *client) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped && c.sent == c.answered
}

// send sends what may be sent now, and returns when to call it again. timely is set
// by the pacer: if it sends a request late, the delay is its own fault.
func (c *client) send(timely bool) (next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return never
	}
	now := c.run.now()
	c.refill(now, timely)
	if err := c.flush(); err != nil {
		c.end(err)
	} else if c.stopped {
		c.end(nil)
	}
	if c.full { // the next answer makes room
		return now + c.run.interval
	}
	return min(c.due, c.run.until)
}

// end stops the client, because of err or because its time is over (nil), and wakes
// its reader if no reply will. mu is held.
func (c *client) end(err error) {
	c.stopped = true
	if c.err == nil {
		c.err = err
	}
	switch {
	case c.err != nil:
		_ = c.nc.SetDeadline(past)
	case c.sent == c.answered:
		_ = c.nc.SetReadDeadline(past)
	}
}

// refill encodes the requests that may be sent now. mu is held.
func (c *client) refill(now int64, timely bool) {
	r := c.run
	window := uint64(r.load.Outstanding)
	for {
		if c.sent-c.answered >= window {
			c.full = true
			return
		}
		at := now
		if r.interval > 0 {
			if at = c.due; at > now && now < r.until {
				c.full = false
				return
			}
			c.due += r.interval
		}
		switch {
		case at >= r.until || at >= r.from && c.left == 0:
			c.stopped = true
			return
		case now >= r.cut:
			c.unsent = (r.until-at-1)/r.interval + 1
			c.stopped = true
			return
		case at >= r.from:
			c.left--
		}
		if timely && !c.full && r.interval > 0 && at >= r.from {
			c.figures.late.record(now - at)
		}
		o := r.choices[below(c.random.Uint64(), uint64(len(r.choices)))]
		if o == opDelete && c.deleted == c.created {
			o = opCreate
		}
		c.under[c.sent&c.mask] = request{at, o}
		c.encode(o)
		c.lastSent = now
	}
}

func newRandom(id int) *rand.PCG { return rand.NewPCG(uint64(id), 1) }

// below maps random bits to a number below n.
func below(random, n uint64) uint64 {
	hi, _ := bits.Mul64(random, n)
	return hi
}

// xidOf is the xid of request n, at least 1: the xids of pings, events and so on are below that.
func xidOf(n uint64) int32 { return int32(n&0x3fffffff) + 1 }

// encode appends the next request. mu is held.
func (c *client) encode(o op) {
	t := &c.templates[o]
	start := len(c.pending)
	c.pending = append(c.pending, t.frame...)
	frame := c.pending[start:]
	putXid(frame, xidOf(c.sent))
	c.sent++
	switch o {
	case opCreate:
		if !c.run.load.Sequential {
			putDigits(frame[t.at[0]:t.at[0]+8], c.created)
		}
		c.created++
	case opDelete:
		digits := 8
		if c.run.load.Sequential {
			digits = 10
		}
		putDigits(frame[t.at[0]:t.at[0]+digits], c.deleted)
		c.deleted++
	default:
		for _, at := range t.at {
			putKey(frame[at:], uint32(below(c.random.Uint64(), uint64(c.run.load.Keys))), o == opChildren)
		}
	}
}

// flush sends what is pending. If the socket does not take all of it at once,
// another goroutine sends the rest: the reader of the replies must not wait for a
// server that itself waits for its replies to be read. mu is held.
func (c *client) flush() error {
	if len(c.pending) == 0 || c.sending {
		return nil
	}
	if err := c.raw.Write(c.writeOnce); err != nil {
		return err
	}
	n := max(c.written, 0)
	switch {
	case c.writeErr != nil && !errors.Is(c.writeErr, syscall.EAGAIN) && !errors.Is(c.writeErr, syscall.EINTR):
		return c.writeErr
	case n == len(c.pending):
		c.pending = c.pending[:0]
		return nil
	}
	c.sending = true
	rest := c.pending
	c.pending, c.spare = c.spare[:0], nil
	c.run.senders.Go(func() { c.sendRest(rest, n) })
	return nil
}

func (c *client) sendRest(b []byte, n int) {
	for {
		_, err := c.nc.Write(b[n:])
		c.mu.Lock()
		if err != nil {
			c.sending = false
			c.end(err)
			c.mu.Unlock()
			return
		}
		b, c.pending, n = c.pending, b[:0], 0
		if len(b) == 0 {
			c.sending, c.spare = false, b
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

// take handles the replies that have arrived. mu is held.
func (c *client) take(now int64) error {
	for {
		frame, n, err := zkproto.CutFrame(c.in[c.r:c.w], maxReply)
		if err != nil {
			return wrong("invalid frame length")
		}
		if frame == nil {
			c.answers.Store(int64(c.answered))
			c.need = n
			return nil
		}
		c.r += n
		h, body, err := c.header(frame)
		if err != nil {
			return err
		}
		switch {
		case c.answered < c.sent && h.Xid == xidOf(c.answered):
		case h.Xid == zkproto.XidPing && c.pings > 0:
			c.pings--
			continue
		case c.answered == c.sent:
			return wrong("answer to request %d, but no request was outstanding", h.Xid)
		default:
			return wrong("answer to request %d, expected %d", h.Xid, xidOf(c.answered))
		}
		u := c.under[c.answered&c.mask]
		c.answered++
		if u.op == opMulti && h.Code == znode.OK {
			h.Code = codeOfMulti(body)
		}
		if u.at < c.run.from {
			continue // a request of the warm-up
		}
		c.figures.latency[u.op].record(now - u.at)
		c.figures.last = now
		if h.Code != znode.OK {
			c.figures.refused(u.op, h.Code, 1)
		}
	}
}

// codeOfMulti is the error of a failed multi; its reply header always says OK.
func codeOfMulti(body zkproto.Body) znode.Code {
	first := body // a copy
	if zkproto.Op(first.Int()) != zkproto.OpError {
		return znode.OK
	}
	for _, r := range body.Results() {
		if r.Code != znode.OK {
			return r.Code
		}
	}
	return znode.OK
}

// tend is called by the supervisor at each tick: it keeps a silent session alive
// with pings, and ends a client whose server does not answer.
func (c *client) tend(now int64, seen *int64, since *int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch answered := int64(c.answered); {
	case c.sent == c.answered && c.pings == 0 || answered != *seen:
		*seen, *since = answered, now
	case c.within > 0 && now-*since > int64(c.within):
		c.end(os.ErrDeadlineExceeded)
		return
	}
	if !c.stopped && now-c.lastSent > int64(c.timeout/3) {
		c.pending = zkproto.AppendRequest(c.pending, &zkproto.Request{Xid: zkproto.XidPing, Part: zkproto.Part{Op: zkproto.OpPing}})
		c.pings++
		c.lastSent = now
		if err := c.flush(); err != nil {
			c.end(err)
		}
	}
}

// leave closes the session. The reader goroutine must have ended.
func (c *client) leave(ctx context.Context) error {
	c.run.senders.Wait()
	_ = c.nc.SetDeadline(time.Time{})
	c.xid = xidOf(1<<30 - 1) // no request in flight has this xid
	return c.close(ctx)
}

// stop makes the client send no more requests.
func (c *client) stop(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err)
}
