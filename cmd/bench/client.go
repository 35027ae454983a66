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

// client asks, as the load says, on a session of its own. Its reader goroutine
// runs it; the pacer (in the open loop) and the supervisor reach it by mu.
type client struct {
	*session
	run       *asking
	id        int
	raw       syscall.RawConn
	writeOnce func(fd uintptr) bool // for raw: writes pending
	templates [numOps]template
	need      int          // bytes of the frame that has not come whole
	answers   atomic.Int64 // for the supervisor and who looks on

	mu       sync.Mutex // of all below
	pending  []byte     // to be sent
	spare    []byte     // an empty one
	written  int        // of pending, by writeOnce
	writeErr error
	sending  bool      // a goroutine of its own writes
	under    []request // unanswered, number n at n&mask
	mask     uint64
	sent     uint64 // requests so far; the next one's number
	answered uint64
	pings    int   // unanswered
	lastSent int64 // ns
	full     bool  // as many are under way as may be
	stopped  bool  // nothing is sent any more
	err      error // why, if not because it was time
	left     int   // measured requests that may still be sent, if they are counted
	due      int64 // ns: when the next one is due, with a rate
	unsent   int64 // were due, and never sent
	created  uint32
	deleted  uint32
	random   *rand.PCG
	figures  *figures
}

// request is one that is under way.
type request struct {
	at int64 // ns: when it was sent, or was due
	op op
}

// figures is what was measured: of a client, and then of all.
type figures struct {
	latency [numOps]*histogram // nil if it is not asked
	codes   [numOps]map[znode.Code]int64
	late    histogram // how long after it was due a request was sent that could have been sent then
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

// bufferBytes is how much a client receives at a time.
const bufferBytes = 64 << 10

func newClient(s *session, run *asking, id int) (*client, error) {
	conn, ok := s.nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("bench: a connection without a socket")
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

// ask reads replies, and sends, until all is over.
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
		case c.err != nil: // somebody knows better
			err = c.err
		case c.stopped && c.sent == c.answered && errors.Is(err, os.ErrDeadlineExceeded): // it was woken
			err = nil
		}
		if err == nil && !c.stopped && (c.run.interval > 0 || c.sent-c.answered <= c.run.refillAt) {
			c.refill(now, false)
			err = c.flush()
		}
		c.mu.Unlock()
		if err != nil {
			if c.run.interrupted.Load() {
				return nil // and not answered in time
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

// send sends what may be sent now, and says when that is to be done again. timely
// says that this is the pacer: what it finds due late is its own fault.
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

// end stops the client, because of err or because it is time, and wakes its
// reader if no answer will. mu is held.
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

// refill makes the requests that may be sent now. mu is held.
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

// below makes a number below n of random bits.
func below(random, n uint64) uint64 {
	hi, _ := bits.Mul64(random, n)
	return hi
}

// xidOf is the number of a request on the wire: below it are those of other kinds.
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

// flush sends what is pending. What the socket does not take at once is sent by a
// goroutine of its own: who reads the replies must not wait for a server that
// waits for its replies to be read. mu is held.
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

// take takes the replies that have come. mu is held.
func (c *client) take(now int64) error {
	for {
		frame, n, err := zkproto.CutFrame(c.in[c.r:c.w], maxReply)
		if err != nil {
			return wrong("a frame of a length that none has")
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
			return wrong("an answer to request %d, when all were answered", h.Xid)
		default:
			return wrong("an answer to request %d, when %d was to be answered", h.Xid, xidOf(c.answered))
		}
		u := c.under[c.answered&c.mask]
		c.answered++
		if u.op == opMulti && h.Code == znode.OK {
			h.Code = codeOfMulti(body)
		}
		if u.at < c.run.from {
			continue // it was to warm up
		}
		c.figures.latency[u.op].record(now - u.at)
		c.figures.last = now
		if h.Code != znode.OK {
			c.figures.refused(u.op, h.Code, 1)
		}
	}
}

// codeOfMulti is why a multi failed: its reply says that all is well.
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

// tend is what the supervisor does from time to time: it keeps a session alive
// that says nothing, and ends one that is not answered.
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

// leave ends the session. The reader has ended.
func (c *client) leave(ctx context.Context) error {
	c.run.senders.Wait()
	_ = c.nc.SetDeadline(time.Time{})
	c.xid = xidOf(1<<30 - 1) // is none of another request under way
	return c.close(ctx)
}

// stop ends what the client sends.
func (c *client) stop(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err)
}
