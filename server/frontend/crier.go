package frontend

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"coord/server/text"
	"coord/tree/znode"
)

// crier sends the outboxes that hold only events. It serves the fresh connections first, in
// parallel on all processors: their clients have waited for an event. The bulk connections, which
// are behind or were served a moment ago, come last, one after another. While clients write, the
// crier rests after each slice of bulk work for several times as long as that slice took. So the
// clients that wait for answers keep most of the processor time, however many clients follow them,
// and the events that arrive meanwhile are sent together.
type crier struct {
	mu          sync.Mutex // a leaf lock
	fresh, bulk []*conn
	awake       bool
}

const (
	crierMoment = 10 * time.Millisecond  // since a client was last served, or since the last write
	crierWorks  = 100 * time.Microsecond // of bulk work, before it checks whether to rest
	crierRests  = 9                      // multiple of the time that it has worked
	tellAtOnce  = 16                     // clients that a goroutine takes from the list at a time
)

// tellLater leaves the outbox to the crier, if it holds events only, and says whether it has. The
// caller must then wake the crier. It takes mu.
func (c *conn) tellLater() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.raw == nil || c.mu.events != len(c.mu.out) || !c.mustSend() {
		return false
	}
	c.askCrier()
	return true
}

// askCrier puts the connection on the crier's list, unless it is there. mu is held.
func (c *conn) askCrier() {
	if c.mu.cried {
		return
	}
	c.mu.cried = true
	x := &c.s.crier
	bulk := c.mu.isBehind || c.age(time.Now()) < c.mu.toldAt+crierMoment
	x.mu.Lock()
	defer x.mu.Unlock()
	if bulk {
		x.bulk = append(x.bulk, c)
	} else {
		x.fresh = append(x.fresh, c)
	}
}

// wakeCrier starts the crier if its list is not empty.
func (s *Server) wakeCrier() {
	x := &s.crier
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.awake && len(x.fresh)+len(x.bulk) > 0 {
		x.awake = true
		go s.cry()
	}
}

// cry works until the crier's list is empty.
func (s *Server) cry() {
	runtime.Gosched() // the goroutines that send answers go first
	writes, wrote := s.stats.writes.Load(), time.Time{}
	var bulk []*conn
	for {
		fresh, more := s.crier.next(len(bulk) == 0)
		bulk = append(bulk, more...)
		if len(fresh)+len(bulk) == 0 {
			return
		}
		tellAll(fresh)
		start := time.Now()
		var worked time.Duration
		for ; len(bulk) > 0 && worked < crierWorks; worked = time.Since(start) {
			bulk[0].tell()
			bulk = bulk[1:]
		}
		if n := s.stats.writes.Load(); n != writes {
			writes, wrote = n, start
		}
		if worked > 0 && start.Sub(wrote) < crierMoment {
			time.Sleep(crierRests * worked)
		}
	}
}

// tellAll serves connections that have waited for an event. There may be many, so it uses as many
// goroutines as can run: the kernel's share of sending is most of the work.
func tellAll(conns []*conn) {
	var next atomic.Int64
	work := func() {
		for {
			to := int(next.Add(tellAtOnce))
			from := to - tellAtOnce
			if from >= len(conns) {
				return
			}
			for _, c := range conns[from:min(to, len(conns))] {
				c.tell()
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(conns)/tellAtOnce) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}

// next takes the list. If the list is empty and done says that nothing is left from before, the
// crier may sleep.
func (x *crier) next(done bool) (fresh, bulk []*conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	fresh, bulk = x.fresh, x.bulk
	x.fresh, x.bulk = nil, nil
	x.awake = !done || len(fresh)+len(bulk) > 0
	return fresh, bulk
}

// tell sends the outbox as far as the kernel takes it at once. If the client does not read, a
// goroutine that may block sends the rest. It takes mu.
func (c *conn) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.cried, c.mu.toldAt = false, c.age(time.Now())
	if !c.mustSend() {
		return
	}
	c.mu.flushing = true
	if len(c.mu.out) == 0 {
		c.mu.Unlock()
		c.s.cfg.Backend.View(c.pull)
		c.mu.Lock()
	}
	if !c.offer() {
		c.endTurn()
	}
}

// offer sends the contents of the outbox as far as the kernel takes them at once. If it returns
// true, tellRest sends the rest and ends the turn. The caller has set flushing; offer releases mu
// while it sends.
func (c *conn) offer() (left bool) {
	if len(c.mu.out) == 0 {
		return false
	}
	out := c.takeOut()
	c.mu.Unlock()
	n, err := c.sendNow(out)
	c.mu.Lock()
	if n < len(out) && err == nil {
		go c.tellRest(slices.Clone(out[n:]))
		giveBack(out)
		return true
	}
	c.sent(out, err)
	return false
}

// tellRest waits until the client takes the rest of what offer has begun to send. It takes mu.
func (c *conn) tellRest(rest []byte) {
	err := c.send(rest)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent(rest, err)
	c.endTurn()
}

// endTurn ends the sender's turn. If more has arrived meanwhile, the connection goes back on the
// crier's list.
func (c *conn) endTurn() {
	c.flushed()
	if c.mustSend() {
		c.askCrier()
		c.s.wakeCrier()
	}
}

// sendNow writes to the socket what the kernel takes at once. mu is not held.
func (c *conn) sendNow(b []byte) (n int, err error) {
	if e := c.raw.Control(func(fd uintptr) {
		for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
			n, err = syscall.Write(int(fd), b)
		}
	}); e != nil {
		return 0, e
	}
	if errors.Is(err, syscall.EAGAIN) {
		err = nil
	}
	return max(n, 0), err
}

// echo is the event that was encoded last, with its form and bytes. The next watcher that gets the
// same event in the same form reuses the bytes.
type echo struct {
	event   znode.Event
	form    eventForm
	written []byte
}

// eventForm is what the encoding of an event depends on, apart from the event.
type eventForm struct {
	id     int64
	data   bool
	format text.Format
	crlf   bool
}

// maxEcho is the longest encoding that is kept.
const maxEcho = 4 << 10

func (x *echo) is(e *znode.Event, f eventForm) bool {
	is := &x.event
	return x.form == f && is.Zxid == e.Zxid && is.Type == e.Type && is.Version == e.Version && is.Path == e.Path && is.Data == e.Data && x.written != nil
}

func (x *echo) keep(e *znode.Event, f eventForm, written []byte) {
	if len(written) > maxEcho {
		*x = echo{}
		return
	}
	x.event, x.form, x.written = *e, f, append(x.written[:0], written...)
}
