package frontend

import (
	"errors"
	"os"
	"time"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// outbox holds a connection's requests that wait for their turn, and the answers that wait for the
// client. The connection's lock guards it.
type outbox struct {
	queue    []*item // requests in order, from head on; the first is an unanswered write or barrier
	head     int
	barriers int    // requests in queue after which no write is begun
	waits    int    // of these, WAITs and LOCKs
	due      bool   // one of them is ready, and the queue has not advanced since
	inFlight int    // bytes of the requests in queue
	out      []byte // answers to send
	answered int64  // answers put into out since it was last sent
	sending  int    // bytes being sent
	flushing bool   // some goroutine is sending
	ending   bool   // the last answer is in out; nothing after it is answered
	retired  bool   // the server stops; nothing more is read
	keeps    bool   // the node ends the connection, which ends no session
	zk       bool   // the client speaks ZooKeeper's protocol
	shut     bool   // watchPeer has seen the client close its side
	broken   bool   // nothing can be sent any more
	resting  bool   // the reader must give its stack back

	until   time.Time // when the client must have sent something; zero for no limit
	traffic traffic

	session    int64         // the id of the reader's sess, for other goroutines
	sessionTTL time.Duration // the same
	attachment uint32        // the same

	watches    map[int64]*eventWatch // by id
	lastWatch  int64
	events     int           // bytes of events in out
	sentEvents int           // bytes of events in what is being sent
	cried      bool          // it is on the crier's list
	toldAt     time.Duration // when the crier last sent something, since the server's start
	behind
	lookout lookout
}

// item is a request that waits for its turn to be answered: a write, a read, or an answer that does
// not depend on state.
type item struct {
	c       *conn
	size    int
	since   time.Duration // from the server's start to the burst that brought it
	op      string        // its name in cons; "" if it is no operation
	cxid    int64         // its xid, or noCxid
	ready   bool          // the outcome of the write, or of the barrier before the read, is known
	barrier bool          // no write after it is begun
	last    bool          // nothing after it is answered
	code    znode.Code    // of that outcome
	turn    turn
	write   *write // nil if it is not one
	wait    *wait  // the same
}

// turn appends the answer to a request when its turn has come. The state lock and the connection's
// lock are held. The tree is nil if the state is not known.
type turn interface {
	appendAnswer(b []byte, t *tree.Tree, table *watch.Table) []byte
}

// said is an answer that does not depend on state.
type said []byte

func (s said) appendAnswer(b []byte, _ *tree.Tree, _ *watch.Table) []byte { return append(b, s...) }

// write is an item with the txn that it proposes.
type write struct {
	item
	txn    tree.Txn
	result tree.Result
}

func (c *conn) newItem() item {
	return item{c: c, size: c.size, since: c.age(c.now), op: c.op, cxid: c.cxid}
}

// goesOn says whether a further request may be executed. mu is held, here and below where nothing
// is said.
func (c *conn) goesOn() bool {
	c.leaving = c.leaving || c.isOver()
	return !c.leaving
}

// isOver says whether the conversation has ended, except for requests that were taken and are not
// answered.
func (c *conn) isOver() bool { return c.mu.broken || c.mu.ending || c.mu.retired }

// answered notes that the reader has put an answer into the outbox.
func (c *conn) answered() {
	c.mu.answered++
	c.noteAnswer()
	c.crowded = c.crowded || len(c.mu.out) >= flushAt
}

// waiting says whether the queue holds a request before the one in hand.
func (c *conn) waiting() bool { return c.mu.head < len(c.mu.queue) }

// enqueue appends a request to the queue. Only the reader calls it.
func (c *conn) enqueue(it *item) {
	o := &c.mu.outbox
	switch {
	case o.head == len(o.queue):
		if cap(o.queue) > keepQueue {
			o.queue = nil
		}
		o.queue, o.head = o.queue[:0], 0
	case o.head >= MaxPipelined: // the front is empty
		n := copy(o.queue, o.queue[o.head:])
		clear(o.queue[n:])
		o.queue, o.head = o.queue[:n], 0
	}
	o.queue = append(o.queue, it)
	o.inFlight += it.size
	c.crowded = c.crowded || c.isCrowded()
}

func (c *conn) isCrowded() bool {
	o := &c.mu.outbox
	return len(o.queue)-o.head >= MaxPipelined || o.inFlight >= MaxInFlightBytes || len(o.out) >= flushAt
}

// submit proposes a write, once no earlier read waits for a barrier, because that read must not see
// the write. If an earlier write is lost, this one must not succeed: so no done may end the
// conversation between the check that it goes on and the submission. It takes mu.
func (c *conn) submit(w *write) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.await(func() bool { return c.mu.barriers == 0 || c.isOver() })
	if c.goesOn() {
		c.enqueue(&w.item)
		c.s.cfg.Backend.Submit(&w.txn, w.done)
	}
}

// submitBarrier makes a read wait until everything committed before it is applied here. passed
// receives the outcome. It takes mu.
func (c *conn) submitBarrier(it *item, passed Done) {
	it.barrier = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goesOn() {
		c.mu.barriers++
		c.enqueue(it)
		c.s.cfg.Backend.Barrier(passed)
	}
}

// done receives the outcome of a write. The state lock is held; mu is not.
func (w *write) done(r tree.Result, t *tree.Tree, table *watch.Table) {
	now := time.Now()
	w.c.s.stats.wrote(w.c.age(now) - w.since)
	w.result = r
	w.settle(r.Code, t, table, now)
}

// passed receives the outcome of a barrier. The state lock is held; mu is not.
func (it *item) passed(r tree.Result, t *tree.Tree, table *watch.Table) {
	it.settle(r.Code, t, table, time.Now())
}

func (it *item) settle(code znode.Code, t *tree.Tree, table *watch.Table, now time.Time) {
	c := it.c
	c.mu.Lock()
	it.code, it.ready = code, true
	c.advance(t, table, now)
	c.mu.Unlock()
	c.soil()
}

// advance answers the requests at the front of the queue whose turn has come. The state lock is
// held.
func (c *conn) advance(t *tree.Tree, table *watch.Table, now time.Time) {
	o := &c.mu.outbox
	for o.head < len(o.queue) {
		it := o.queue[o.head]
		if it.wait != nil && !it.ready && !it.wait.begun {
			it.wait.begin(t, table)
		}
		if !it.ready {
			return
		}
		o.queue[o.head] = nil
		o.head++
		o.inFlight -= it.size
		if it.barrier {
			o.barriers--
		}
		if it.wait != nil {
			o.waits--
			it.wait.finish(table)
		}
		if o.broken || o.ending {
			if it.wait != nil {
				go it.wait.withdraw() // if it is a lock, its client cannot learn of it
			}
			continue
		}
		o.out = it.turn.appendAnswer(c.outbox(), t, table)
		o.answered++
		c.noteTurn(it, t, now)
		if it.last || c.talk.isFatal(it.code) {
			c.endHere()
		}
	}
}

// dismiss ends the connection without a word, for a reason of the node's. The session stays, so
// that the client can go on elsewhere.
func (c *conn) dismiss() {
	c.mu.keeps = true
	c.endHere()
}

// endHere ends the connection after what is in the outbox.
func (c *conn) endHere() {
	o := &c.mu.outbox
	if o.broken || o.ending {
		return
	}
	o.ending = true
	c.changed.Broadcast()
	if !o.flushing {
		c.interrupt()
	}
}

// outbox returns the buffer to which the caller appends an answer.
func (c *conn) outbox() []byte {
	o := &c.mu.outbox
	switch {
	case o.out == nil:
		o.out = borrowSmall()
	case len(o.out) > smallBuffer/2 && cap(o.out) < bigBuffer: // a burst
		small := o.out
		o.out = append(borrow(), small...)
		giveBack(small)
	}
	return o.out
}

// breakOff breaks the connection: nothing more is sent.
func (c *conn) breakOff() {
	if !c.mu.broken {
		c.mu.broken, c.mu.out = true, nil
		c.s.eventBytes.Add(-int64(c.mu.events + c.mu.sentEvents))
		c.mu.events, c.mu.sentEvents = 0, 0
		_ = c.nc.Close()
		c.changed.Broadcast()
	}
}

// kick wakes the reader and sends the outbox in the background, unless some goroutine is sending
// already. With atOnce, which is for a caller with no other connection to serve, kick first sends
// here what the kernel takes at once; that can spare a goroutine. It takes mu.
func (c *conn) kick(atOnce bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
	if !c.mustSend() {
		return
	}
	c.mu.flushing = true
	if atOnce && c.raw != nil {
		switch left := c.offer(); {
		case left:
			return
		case c.isEmpty() || c.mu.broken:
			c.flushed()
			return
		}
	}
	go func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flush()
	}()
}

// mustSend says whether there is something to send and nobody is sending.
func (c *conn) mustSend() bool { return !c.mu.flushing && !c.isEmpty() && !c.mu.broken }

// isEmpty says whether everything is sent.
func (c *conn) isEmpty() bool { return len(c.mu.out) == 0 && !c.isPulling() }

// flush sends the outbox until it is empty. The caller has set flushing. flush releases mu while
// the bytes are being sent.
func (c *conn) flush() {
	for !c.isEmpty() && !c.mu.broken {
		if len(c.mu.out) == 0 {
			c.mu.Unlock()
			c.s.cfg.Backend.View(c.pull)
			c.mu.Lock()
			continue
		}
		out := c.takeOut()
		c.mu.Unlock()
		err := c.send(out)
		c.mu.Lock()
		c.sent(out, err)
	}
	c.flushed()
}

// takeOut takes the contents of the outbox for sending.
func (c *conn) takeOut() []byte {
	o := &c.mu.outbox
	out := o.out
	c.noteSent(len(out))
	o.out, o.sending, o.answered = nil, len(out), 0
	o.sentEvents, o.events = o.events, 0
	c.changed.Broadcast()
	return out
}

// sent records the outcome of sending out.
func (c *conn) sent(out []byte, err error) {
	o := &c.mu.outbox
	o.sending = 0
	c.s.eventBytes.Add(-int64(o.sentEvents))
	o.sentEvents = 0
	giveBack(out)
	if err != nil {
		c.breakOff()
	}
}

// flushed notes that nobody is sending any more.
func (c *conn) flushed() {
	c.mu.flushing = false
	if c.mu.ending {
		c.interrupt()
	}
	c.changed.Broadcast()
}

// send writes to the socket. Each time the client takes some bytes, it gets the full WriteTime
// again for the rest. mu is not held.
func (c *conn) send(b []byte) error {
	for {
		_ = c.nc.SetWriteDeadline(time.Now().Add(WriteTime))
		n, err := c.nc.Write(b)
		if b = b[n:]; !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if n == 0 {
			c.s.stats.slow.Add(1)
			c.s.log.Warn().Stringer("addr", c.nc.RemoteAddr()).Int("bytes", len(b)).Msg("connection closed: client does not read its replies")
			return err
		}
	}
}

// flushOwn sends the outbox on the reader's own goroutine, so that the server does not read from a
// client that does not take its answers. It takes mu, and says whether the conversation goes on.
func (c *conn) flushOwn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleReads()
	c.mu.idle = true // set now, because events that come while it sends may be too many
	if c.mustSend() {
		c.mu.flushing = true
		c.lookOut()
		c.flush()
		c.mu.lookout.stop()
	}
	return !c.isOver()
}

// await sends what there is to send and waits until enough returns true or nothing can be sent any
// more; it returns true in the first case. Nothing is read meanwhile, so if the wait may be long,
// await checks now and then whether the client is still there.
func (c *conn) await(enough func() bool) bool {
	var stop chan struct{}
	defer c.mu.lookout.stop()
	for !c.mu.broken && !enough() {
		c.lookOut()
		switch {
		case c.mustSend():
			c.mu.flushing = true
			c.flush()
			continue
		case c.mu.waits > 0 && stop == nil:
			stop = make(chan struct{})
			defer close(stop)
			go c.watchPeer(stop)
		}
		c.endRush()
		c.changed.Wait()
	}
	return !c.mu.broken
}

// isNext waits until all requests before the one in hand are answered. It takes mu, and says
// whether the conversation goes on.
func (c *conn) isNext() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.await(func() bool { return !c.waiting() || c.isOver() })
	return c.goesOn()
}

// isAlone is isNext, and also waits until everything is sent.
func (c *conn) isAlone() bool {
	if !c.drain() {
		c.leaving = true
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goesOn()
}

// roomy waits while too many requests are in flight or too many answers are not taken. It takes mu,
// and says whether the conversation goes on.
func (c *conn) roomy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleReads()
	c.await(func() bool { return !c.isCrowded() || c.isOver() })
	c.crowded = false
	return !c.isOver()
}

// drain waits until everything is answered and sent. It takes mu, and says whether it has
// succeeded. When the server stops, drain gives up the waits.
func (c *conn) drain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleReads()
	o := &c.mu.outbox
	over := func() bool { return c.isEmpty() && !o.flushing && (!c.waiting() || o.ending) }
	drained := c.await(func() bool { return over() || o.retired && o.waits > 0 })
	if drained && !over() {
		c.mu.Unlock()
		for _, w := range c.waits() {
			w.giveUp(znode.ErrShutdown)
		}
		c.mu.Lock()
		drained = c.await(over)
	}
	c.leaving = c.leaving || o.ending
	return drained
}

// watchPeer checks the client of a reader that waits, until stop is closed. It cuts the connection
// if the client is gone, and gives up its LOCKs if the client has closed its side.
func (c *conn) watchPeer(stop <-chan struct{}) {
	if peerState(c.nc) == peerGone {
		c.cut()
		return
	}
	tick := time.NewTicker(PeerTime)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			switch peerState(c.nc) {
			case peerGone:
				c.cut()
				return
			case peerShut:
				c.abandonLocks()
				c.mu.Lock()
				c.mu.shut = true
				c.changed.Broadcast()
				c.mu.Unlock()
			}
		}
	}
}

// lookout looks for signs of life of a session's client while the connection's reader sends or
// waits: bytes that arrive meanwhile are such a sign, though nobody reads them yet. The
// connection's lock guards it.
type lookout struct {
	timer *time.Timer // of the next look; made when first needed
	is    bool        // the reader is busy
	had   int         // bytes that were unread at the last look
}

// lookOut starts the lookout, unless it has started or the session does not depend on pings.
func (c *conn) lookOut() {
	o := &c.mu.lookout
	switch {
	case o.is || !c.sess.isPinged():
		return
	case o.timer == nil:
		o.timer = time.AfterFunc(c.lookEvery(), c.look)
	default:
		o.timer.Reset(c.lookEvery())
	}
	o.is, o.had = true, 0
}

func (o *lookout) stop() {
	if o.is {
		o.is = false
		o.timer.Stop()
	}
}

func (c *conn) lookEvery() time.Duration { return max(c.mu.sessionTTL/3, time.Millisecond) }

func (c *conn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.mu.lookout
	if !o.is || c.isOver() {
		return
	}
	if has := unread(c.nc); has > o.had {
		o.had = has
		c.s.cfg.Sessions.Touch(c.mu.session)
	}
	o.timer.Reset(c.lookEvery())
}
