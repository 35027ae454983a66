package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"coord/server/text"
	"coord/tree/znode"
)

const (
	readBytes = 16 << 10        // initial size of the buffer; it grows with the replies
	keepBytes = 256 << 10       // a buffer larger than this is released once it is empty
	lastWords = 1 * time.Second // after a failed write: how long the server may take to say why
)

// Conn is a connection to a server. Its reader goroutine delivers the replies to the oldest pending
// calls, in order; it ends with the connection.
type Conn struct {
	nc     net.Conn
	server string // as dialled
	hello  Hello
	events func(Event) // see Options.Events

	wr struct { // taken before mu
		sync.Mutex
		spare []byte // the next buffer of requests
	}
	mu struct {
		sync.Mutex
		out     []byte  // requests not yet sent
		queued  int64   // bytes of requests since the connection was made
		handed  int64   // of these, passed to the network, whether it took them or not
		pending []*Call // sent or in out, oldest first, from head on
		head    int
		err     error // why the connection ended
	}
	done chan struct{} // closed by the reader when it ends
}

// Call is a request that was sent and its answer.
type Call struct {
	c     *Conn
	verb  text.Verb
	path  string
	write bool
	start int64 // where the request begins in the stream
	sink  func(*text.Reply) (more bool)
	reply text.Reply
	err   error
	ready chan struct{} // closed once reply and err are set
}

// NewConn makes a Conn from a connection that the caller has dialled. It sends nothing to the
// server: see Conn.Greet.
func NewConn(nc net.Conn) *Conn { return newConn(nc, nc.RemoteAddr().String(), nil) }

func newConn(nc net.Conn, server string, events func(Event)) *Conn {
	c := &Conn{nc: nc, server: server, events: events, done: make(chan struct{})}
	go c.read()
	return c
}

// Server returns the address that was dialled.
func (c *Conn) Server() string { return c.server }

// Done returns a channel that is closed when the connection has ended; Err says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection has ended, or nil.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err
}

// Idle says whether the connection is open and no request waits for its answer.
func (c *Conn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err == nil && c.mu.head == len(c.mu.pending)
}

// Close ends the connection. Unanswered requests fail.
func (c *Conn) Close() error {
	c.fail(errClosed)
	<-c.done
	return nil
}

// Send puts a request into the connection's buffer. It never blocks: the buffer is sent once a
// goroutine waits for a Call that is not answered yet. So a caller that sends a burst, then waits
// for the oldest Call, then sends again, keeps the pipeline full. A server accepts 1,000 requests
// or 1 MiB of them at a time; sending more ahead only makes the buffer longer. Tags are not needed.
func (c *Conn) Send(r *text.Request) (*Call, error) {
	return c.send(r, nil)
}

func (c *Conn) send(r *text.Request, sink func(*text.Reply) bool) (*Call, error) {
	call := &Call{c: c, verb: r.Verb, path: r.Path, write: r.Writes(), sink: sink, ready: make(chan struct{})}
	c.mu.Lock()
	if err := c.mu.err; err != nil {
		c.mu.Unlock()
		return nil, c.lost(call, err, false)
	}
	before := len(c.mu.out)
	c.mu.out = text.AppendRequest(c.mu.out, r)
	call.start = c.mu.queued
	c.mu.queued += int64(len(c.mu.out) - before)
	if c.mu.head > len(c.mu.pending)/2 { // reuse the room of answered calls
		n := copy(c.mu.pending, c.mu.pending[c.mu.head:])
		clear(c.mu.pending[n:])
		c.mu.pending, c.mu.head = c.mu.pending[:n], 0
	}
	c.mu.pending = append(c.mu.pending, call)
	c.mu.Unlock()
	return call, nil
}

// flush sends what Send has put into the buffer. If that fails, the goroutines that wait for their
// Calls get the error.
func (c *Conn) flush() {
	c.wr.Lock()
	defer c.wr.Unlock()
	c.mu.Lock()
	out := c.mu.out
	if len(out) == 0 || c.mu.err != nil {
		c.mu.Unlock()
		return
	}
	c.mu.out = c.wr.spare[:0]
	c.mu.handed += int64(len(out))
	c.mu.Unlock()
	_, err := c.nc.Write(out)
	c.wr.spare = nil
	if cap(out) <= keepBytes {
		c.wr.spare = out
	}
	if err != nil {
		// The server may have said why it does not listen: the reader reports it.
		_ = c.nc.SetReadDeadline(time.Now().Add(lastWords))
	}
}

// Wait waits for the answer. A refusal is an *Error. If ctx ends first, Wait closes the connection.
func (call *Call) Wait(ctx context.Context) (*text.Reply, error) {
	select {
	case <-call.ready: // the answer came with an earlier one
		return call.result()
	default:
	}
	c := call.c
	if ctx.Done() != nil {
		failed := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			c.fail(context.Cause(ctx))
			close(failed)
		})
		defer func() { // once the AfterFunc has begun, Err must return its error after Wait, even if the answer came
			if !stop() {
				<-failed
			}
		}()
	}
	c.flush()
	<-call.ready
	return call.result()
}

func (call *Call) result() (*text.Reply, error) {
	if call.err != nil {
		return nil, call.err
	}
	return &call.reply, nil
}

// Do sends a request and waits for its answer.
func (c *Conn) Do(ctx context.Context, r *text.Request) (*text.Reply, error) {
	call, err := c.Send(r)
	if err != nil {
		return nil, err
	}
	return call.Wait(ctx)
}

// read is the reader goroutine.
func (c *Conn) read() {
	defer close(c.done)
	rd := text.NewReader(text.DefaultReplyLimits())
	buf := make([]byte, 0, readBytes)
	for {
		used := 0
		for {
			reply, n, err := rd.Next(buf[used:])
			if err != nil {
				c.fail(err)
				return
			}
			if n == 0 {
				break
			}
			used += n
			if err := c.deliver(&reply); err != nil {
				c.fail(err)
				return
			}
		}
		rest := copy(buf[:cap(buf)], buf[used:])
		switch {
		case rest == 0 && cap(buf) > keepBytes:
			buf = make([]byte, 0, readBytes)
		case rest > cap(buf)/2:
			bigger := make([]byte, rest, 2*cap(buf))
			copy(bigger, buf[:rest])
			buf = bigger
		}
		n, err := c.nc.Read(buf[rest:cap(buf)])
		buf = buf[:rest+n]
		if n == 0 && err != nil {
			c.fail(err)
			return
		}
	}
}

// deliver passes a reply to the oldest call.
func (c *Conn) deliver(reply *text.Reply) error {
	if reply.Kind == text.KindEvent {
		return c.event(reply)
	}
	c.mu.Lock()
	if c.mu.err != nil {
		c.mu.Unlock()
		return errClosed
	}
	if c.mu.head == len(c.mu.pending) {
		c.mu.Unlock()
		if reply.Kind == text.KindErr { // the server's reason for closing the connection
			return refusal(reply, "")
		}
		return errUnasked
	}
	call := c.mu.pending[c.mu.head]
	c.mu.Unlock()
	if call.sink != nil && call.sink(reply) {
		return nil
	}
	c.mu.Lock()
	if c.mu.err != nil { // fail has already completed the call
		c.mu.Unlock()
		return errClosed
	}
	c.mu.pending[c.mu.head] = nil
	c.mu.head++
	c.mu.Unlock()
	if reply.Kind == text.KindErr {
		call.err = refusal(reply, call.path)
	} else {
		reply.Detach()
		call.reply = *reply
	}
	close(call.ready)
	return nil
}

// fail ends the connection and fails every pending call. The first error is kept.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.mu.err != nil {
		c.mu.Unlock()
		return
	}
	c.mu.err = err
	pending := c.mu.pending[c.mu.head:]
	handed := c.mu.handed
	c.mu.pending, c.mu.head, c.mu.out = nil, 0, nil
	c.mu.Unlock()
	_ = c.nc.Close()
	for _, call := range pending {
		call.err = c.lost(call, err, call.start < handed)
		close(call.ready)
	}
}

// lost returns the error of a call that will not be answered; sent says whether any part of the
// request was passed to the network.
func (c *Conn) lost(call *Call, cause error, sent bool) error {
	if call.write && sent {
		return &Error{Code: znode.ErrUncertain, Path: call.path, Op: -1, Err: cause}
	}
	if errors.Is(cause, io.EOF) {
		cause = errHungUp
	}
	var refused *Error
	if errors.As(cause, &refused) || errors.Is(cause, context.Canceled) {
		return cause
	}
	return &UnreachableError{Server: c.server, Err: cause}
}

// poke sends a PING whose answer nobody waits for.
func (c *Conn) poke() {
	if _, err := c.Send(&text.Request{Op: text.Op{Verb: text.VerbPing}}); err == nil {
		c.flush()
	}
}
