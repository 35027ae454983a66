package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"coord/server/text"
	"coord/tree/znode"
)

// Holder keeps a session alive until Close, across lost connections and restarts of the server. Its
// own goroutine pings and reconnects.
//
// Its promise is Until: up to that time nobody else can own what the session owns. Until grows with
// each answered sign of life. A caller that must not go on without the session compares Until with
// the monotonic clock, and does not wait for a notification.
//
// A sign of life is a SYNC: its answer proves that the leader has heard of the session since it was
// sent. A PING would not: a node that is cut off from the others answers it while the leader counts
// down the session's time. The server is asked for a TTL half as long again as the promised one:
// the clocks of two hosts drift apart, and the promise must expire before the leader can decide,
// while a sign of life is on its way, to end the session.
type Holder struct {
	dial    func(context.Context) (*Conn, error)
	ttl     time.Duration  // the promised one
	session SessionOptions // as requested from the server
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // of its goroutine's life
	ended   chan struct{}
	lost    chan struct{} // closed when the server says that the session has ended
	changed chan struct{} // receives a token when Until or the connection has changed

	mu struct {
		sync.Mutex
		conn    *Conn  // nil while there is none
		server  string // of the last connection
		is      Session
		sent    time.Time     // when the last answered sign of life was sent
		waiting bool          // a LOCK waits; later answers come after its own
		up      chan struct{} // closed when there is a connection
		err     error         // why lost is closed
	}
}

// Hold connects with dial, now and whenever the connection is lost, and creates a session, or takes
// over the one in resume. It needs a TTL of at least 1 ms. The session pings, and outlives its
// connection for the same time unless Hold says longer. If a node dies together with its
// connection, or this process is stopped, the session may take half as long again to end.
func Hold(ctx context.Context, dial func(context.Context) (*Conn, error), so SessionOptions, resume *Session) (*Holder, error) {
	ttl := so.TTL
	if ttl < time.Millisecond { // a session's TTL cannot be less
		return nil, fmt.Errorf("%w: invalid session ttl %v", znode.ErrBadArguments, ttl)
	}
	so.Ping, so.Hold = true, max(so.Hold, ttl)
	if so.TTL = min(ttl+ttl/2, text.MaxWaitMS*time.Millisecond); so.TTL < ttl+ttl/2 {
		ttl = so.TTL - so.TTL/3
	}
	h := &Holder{
		dial: dial, ttl: ttl, session: so,
		ended: make(chan struct{}), lost: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	h.mu.up = make(chan struct{})
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	var s Session
	if resume == nil {
		s, err = c.NewSession(ctx, so)
	} else {
		s, err = c.ResumeSession(ctx, *resume, so)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	h.connected(c, s, sent)
	h.ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	go h.run()
	return h, nil
}

// Session returns the session that is held.
func (h *Holder) Session() Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.is
}

// Until returns the time up to which the session is certain to live, whatever happens.
func (h *Holder) Until() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.sent.Add(h.ttl)
}

// Lost returns a channel that is closed when the server says that the session has ended; Err says
// why.
func (h *Holder) Lost() <-chan struct{} { return h.lost }

// Changed returns a channel that receives when Until has grown, or the connection was lost or made
// again.
func (h *Holder) Changed() <-chan struct{} { return h.changed }

// Err returns why the session is lost, or nil.
func (h *Holder) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.err
}

// Conn returns the session's connection. While there is none, it waits for the next.
func (h *Holder) Conn(ctx context.Context) (*Conn, error) {
	for {
		h.mu.Lock()
		c, up := h.mu.conn, h.mu.up
		h.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-up:
		case <-h.lost:
			return nil, h.Err()
		case <-h.ctx.Done():
			return nil, errClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Lock acquires a lock for the session. It keeps waiting if the connection is lost, or if its
// server hangs or has no leader; its place in the queue may then be a new one. Call it only once at
// a time: while a LOCK waits, no later request on the session's connection is answered. The timeout
// counts from the call. If it ends while no server can be reached, or none answers, the error says
// so; that error is not znode.ErrTimeout.
func (h *Holder) Lock(ctx context.Context, path string, o LockOptions) (Lock, error) {
	until := time.Now().Add(o.Timeout)
	for {
		l, err := h.lock(ctx, path, o, until)
		own := errors.Is(err, znode.ErrSessionMoved) && h.Err() == nil // another connection of this Holder has taken the session over
		late := errors.Is(err, errLate)                                // the lock is held, but the sign of life came too late
		if err == nil || !isConnection(err) && !own || ctx.Err() != nil || h.ctx.Err() != nil || !late && !time.Now().Before(until) {
			return l, err
		}
		select {
		case <-time.After(connectPause):
		case <-ctx.Done():
		}
		o.Timeout = max(time.Until(until), 0)
	}
}

// lock tries once. After until it waits a third of the TTL longer for the answer.
func (h *Holder) lock(ctx context.Context, path string, o LockOptions, until time.Time) (Lock, error) {
	h.mu.Lock()
	away := &UnreachableError{Server: h.mu.server, Err: context.DeadlineExceeded}
	h.mu.Unlock()
	ctx, cancel := context.WithDeadlineCause(ctx, until.Add(h.every()), away)
	defer cancel()
	c, err := h.Conn(ctx)
	if err != nil {
		return Lock{}, err
	}
	h.setWaiting(true)
	l, err := c.Lock(ctx, path, o)
	h.setWaiting(false)
	if err == nil {
		return l, h.confirm(ctx, c)
	}
	if isConnection(err) {
		h.dropped(c) // if the server has sent a refusal, the connection is still open but useless
	}
	return Lock{}, err
}

// isConnection says whether an error is about the connection, not about the request.
func isConnection(err error) bool {
	_, unreachable := errors.AsType[*UnreachableError](err)
	return unreachable || errors.Is(err, znode.ErrUncertain) || errors.Is(err, znode.ErrShutdown) || errors.Is(err, znode.ErrNoLeader) ||
		errors.Is(err, znode.ErrSlowClient) || errors.Is(err, errClosed)
}

// Close ends the session and deletes everything it owns, if it can reach the server. Otherwise the
// session ends when its time is over.
func (h *Holder) Close(ctx context.Context) error {
	return h.leave(ctx, func(c *Conn) error { return c.CloseSession(ctx, 0) })
}

// Detach leaves the session without a connection; it can be resumed within hold.
func (h *Holder) Detach(ctx context.Context, hold time.Duration) error {
	return h.leave(ctx, func(c *Conn) error { return c.DetachSession(ctx, hold) })
}

func (h *Holder) leave(ctx context.Context, how func(*Conn) error) error {
	h.stop()
	<-h.ended
	h.mu.Lock()
	c, lost, waiting := h.mu.conn, h.mu.err, h.mu.waiting
	h.mu.Unlock()
	if lost != nil {
		return lost
	}
	if c != nil && waiting { // no answer comes before that of the LOCK
		_ = c.Close()
	}
	if c == nil || c.Err() != nil { // usually closed by a context that has ended
		var err error
		if c, err = h.dial(ctx); err != nil {
			return err
		}
		if _, err = c.ResumeSession(ctx, h.Session(), h.session); err != nil {
			_ = c.Close()
			return err
		}
	}
	defer c.Close()
	return how(c)
}

func (h *Holder) setWaiting(w bool) {
	h.mu.Lock()
	h.mu.waiting = w
	h.mu.Unlock()
}

func (h *Holder) connected(c *Conn, s Session, sent time.Time) {
	h.mu.Lock()
	h.mu.conn, h.mu.server, h.mu.is, h.mu.sent = c, c.Server(), s, sent
	close(h.mu.up)
	h.mu.Unlock()
	h.tell()
}

// dropped notes that a connection cannot be used any more.
func (h *Holder) dropped(c *Conn) {
	h.forget(c)
	_ = c.Close()
	h.tell()
}

func (h *Holder) forget(c *Conn) {
	h.mu.Lock()
	if h.mu.conn == c {
		h.mu.conn, h.mu.up = nil, make(chan struct{})
	}
	h.mu.Unlock()
}

func (h *Holder) tell() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// errLate means that a sign of life was answered after the session's time was over: the leader may have
// decided to end the session. That decision has no effect on a client that resumes the session over another
// connection.
var errLate = errors.New("the answer arrived after the session's ttl was over")

// confirm sends a sign of life and records when it was sent.
func (h *Holder) confirm(ctx context.Context, c *Conn) error {
	sent := time.Now()
	if _, err := c.Sync(ctx, znode.Root); err != nil {
		return err
	}
	h.mu.Lock()
	server, late := h.mu.server, !time.Now().Before(h.mu.sent.Add(h.session.TTL))
	if h.mu.conn == c && !late && sent.After(h.mu.sent) {
		h.mu.sent = sent
	}
	h.mu.Unlock()
	if late {
		h.dropped(c)
		return &UnreachableError{Server: server, Err: errLate}
	}
	h.tell()
	return nil
}

// The signs of life in a TTL, and the pause between two attempts to connect.
const (
	signsPerTTL  = 3
	connectPause = 100 * time.Millisecond
)

// every is the interval between signs of life.
func (h *Holder) every() time.Duration { return h.ttl / signsPerTTL }

// patience is how long to wait for an answer before trying another connection. It leaves time for
// that, and is long enough for an election.
func (h *Holder) patience() time.Duration {
	return max(h.every()/2, min(h.every(), time.Second))
}

func (h *Holder) run() {
	defer close(h.ended)
	tick := time.NewTicker(h.every())
	defer tick.Stop()
	for {
		h.mu.Lock()
		c := h.mu.conn
		h.mu.Unlock()
		if c == nil {
			if !h.reconnect() {
				return
			}
			continue
		}
		select {
		case <-h.ctx.Done():
			return
		case <-c.Done():
			if h.isLost(c.Err()) {
				return
			}
			h.dropped(c)
			continue
		case <-tick.C:
		}
		h.mu.Lock()
		waiting := h.mu.waiting
		h.mu.Unlock()
		if waiting {
			c.poke()
			if h.answers(c) {
				continue
			}
			h.forget(c)
			goesOn := h.reconnect() // first, because the LOCK's place in the queue moves with the session
			_ = c.Close()
			if !goesOn {
				return
			}
			continue
		}
		ctx, cancel := context.WithTimeout(h.ctx, h.patience())
		err := h.confirm(ctx, c)
		cancel()
		switch {
		case h.ctx.Err() != nil:
			return
		case err != nil && h.isLost(err):
			return
		case err != nil:
			h.dropped(c)
		}
	}
}

// answers says whether the server of a connection on which a LOCK waits still answers and has a
// leader. That connection answers nothing before the LOCK, so answers probes the server over
// another connection. A refused probe does not count against the server.
func (h *Holder) answers(c *Conn) bool {
	ctx, cancel := context.WithTimeout(h.ctx, h.every())
	defer cancel()
	var d net.Dialer
	at := c.nc.RemoteAddr()
	nc, err := d.DialContext(ctx, at.Network(), at.String())
	if err == nil {
		aside := NewConn(nc)
		_, err = aside.Sync(ctx, znode.Root)
		_ = aside.Close()
	}
	return h.ctx.Err() != nil || ctx.Err() == nil && !errors.Is(err, znode.ErrNoLeader)
}

// isLost says whether an error means that the session is lost, and records it if so.
func (h *Holder) isLost(err error) bool {
	if !errors.Is(err, znode.ErrSessionExpired) && !errors.Is(err, znode.ErrSessionMoved) && !errors.Is(err, znode.ErrAuthFailed) {
		return false
	}
	h.mu.Lock()
	h.mu.err = err
	h.mu.Unlock()
	close(h.lost)
	h.tell()
	return true
}

// reconnect tries once, and says whether to go on.
func (h *Holder) reconnect() bool {
	ctx, cancel := context.WithTimeout(h.ctx, max(h.patience(), time.Second))
	defer cancel()
	c, err := h.dial(ctx)
	if err == nil {
		sent := time.Now()
		var s Session
		if s, err = c.ResumeSession(ctx, h.Session(), h.session); err == nil {
			h.connected(c, s, sent)
			return true
		}
		_ = c.Close()
		if h.isLost(err) {
			return false
		}
	}
	select {
	case <-h.ctx.Done():
		return false
	case <-time.After(connectPause):
		return true
	}
}
