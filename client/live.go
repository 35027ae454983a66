package client

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"coord/server/text"
	"coord/tree/znode"
)

// Event is one change that a watch reports.
type Event struct {
	Type    string // created, changed, deleted, children
	Path    string
	Zxid    znode.Zxid
	Version int32  // created, changed
	Data    []byte // the same, if the watch requested it
	HasData bool
	ID      int64 // of the watch
}

// event delivers an event, or returns the error that ends a connection that has lost its session.
func (c *Conn) event(r *text.Reply) error {
	switch r.Arg {
	case "expired":
		return &Error{Code: znode.ErrSessionExpired, Op: -1}
	case "moved":
		return &Error{Code: znode.ErrSessionMoved, Op: -1}
	}
	if c.events == nil {
		return nil
	}
	r.Detach()
	c.events(Event{
		Type: r.Arg, Path: r.Str(text.KeyPath), Zxid: r.Zxid(text.KeyZxid), Version: int32(r.Int(text.KeyVersion)),
		Data: r.Data, HasData: r.Data != nil, ID: r.Int(text.KeyID),
	})
	return nil
}

// Session is what a client needs to keep or resume a session.
type Session struct {
	ID       int64
	Password string // 32 hex digits: a secret
	TTL      time.Duration
	Hold     time.Duration
}

// SessionOptions select how a session is kept alive.
type SessionOptions struct {
	TTL  time.Duration
	Hold time.Duration // how long it outlives its connection, for a Resume
	Ping bool          // it needs a line from the client every TTL; otherwise an open connection is enough
}

func (o SessionOptions) request(action text.Action) *text.Request {
	r := &text.Request{Op: text.Op{Verb: text.VerbSession, TTLMS: o.TTL.Milliseconds()}, Action: action, HasHold: true, HoldMS: o.Hold.Milliseconds()}
	if o.Ping {
		r.Live, r.HasLive = text.LivePing, true
	}
	return r
}

// NewSession creates a session and attaches it to the connection.
func (c *Conn) NewSession(ctx context.Context, o SessionOptions) (Session, error) {
	return c.session(ctx, o.request(text.NewSession))
}

// ResumeSession attaches an existing session to the connection, wherever it was attached before.
func (c *Conn) ResumeSession(ctx context.Context, s Session, o SessionOptions) (Session, error) {
	r := o.request(text.ResumeSession)
	r.Session, r.Value = s.ID, []byte(s.Password)
	return c.session(ctx, r)
}

func (c *Conn) session(ctx context.Context, req *text.Request) (Session, error) {
	r, err := c.Do(ctx, req)
	if err != nil {
		return Session{}, err
	}
	return Session{
		ID: r.Int(text.KeyID), Password: r.Str(text.KeyPassword),
		TTL: time.Duration(r.Duration(text.KeyTTL)) * time.Millisecond, Hold: time.Duration(r.Duration(text.KeyHold)) * time.Millisecond,
	}, nil
}

// DetachSession leaves the session without a connection, for hold.
func (c *Conn) DetachSession(ctx context.Context, hold time.Duration) error {
	_, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbSession}, Action: text.DetachSession, HasHold: true, HoldMS: hold.Milliseconds()})
	return err
}

// CloseSession ends a session and deletes everything it owns: the connection's session (id 0) or,
// for an operator, any.
func (c *Conn) CloseSession(ctx context.Context, id int64) error {
	_, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbSession}, Action: text.CloseSession, Session: id})
	return err
}

// SessionInfo is a session in a list.
type SessionInfo struct {
	ID         int64
	TTL        time.Duration
	Ephemerals int
	Addr       string // of its client; empty if it has no connection
}

// Sessions lists the sessions. It needs operator rights.
func (c *Conn) Sessions(ctx context.Context) (all []SessionInfo, err error) {
	after := int64(0)
	for {
		r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbSessions}, Session: after})
		if err != nil {
			return nil, err
		}
		for i := range r.Items {
			item := &r.Items[i]
			id, err := strconv.ParseUint(item.Arg, 0, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: invalid session id %q in the reply", c.server, item.Arg)
			}
			after = int64(id)
			all = append(all, SessionInfo{after, time.Duration(item.Duration(text.KeyTTL)) * time.Millisecond, int(item.Int(text.KeyEphemerals)), item.Str(text.KeyAddr)})
		}
		if r.Int(text.KeyMore) == 0 {
			return all, nil
		}
	}
}

// FollowOptions select which changes are reported.
type FollowOptions struct {
	Recursive bool       // those of all descendants too
	Data      bool       // with the values
	Since     znode.Zxid // report those after it first
	HasSince  bool
}

// Follow reports the changes of a znode to Options.Events until the connection ends or Unwatch.
// Unless Since is given, at is the zxid of the state after which changes are reported.
func (c *Conn) Follow(ctx context.Context, path string, o FollowOptions) (id int64, at znode.Zxid, err error) {
	r, err := c.Do(ctx, &text.Request{
		Op: text.Op{Verb: text.VerbFollow, Path: path, Recursive: o.Recursive}, Data: o.Data, Zxid: o.Since, HasZxid: o.HasSince,
	})
	if err != nil {
		return 0, 0, err
	}
	return r.Int(text.KeyID), r.Zxid(text.KeyZxid), nil
}

// Unwatch ends a watch.
func (c *Conn) Unwatch(ctx context.Context, id int64) error {
	_, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbUnwatch}, ID: id})
	return err
}

// WaitFor waits until a znode exists, is gone, changes, or has a value.
func (c *Conn) WaitFor(ctx context.Context, path string, until text.Condition, value []byte, timeout time.Duration) (znode.Zxid, error) {
	r, err := c.Do(ctx, &text.Request{
		Op: text.Op{Verb: text.VerbWait, Path: path, Value: value}, Condition: until, HasTimeout: true, TimeoutMS: timeout.Milliseconds(),
	})
	if err != nil {
		return 0, err
	}
	return r.Zxid(text.KeyZxid), nil
}

// LockOptions select the kind of lock, and how long to wait for it.
type LockOptions struct {
	Timeout time.Duration // 0: do not wait
	Shared  bool
	Slots   int
}

// Lock is a lock that is held.
type Lock struct {
	Path  string     // the path that was locked
	Child string     // its znode
	Token znode.Zxid // grows with each lock of the path
}

// Lock acquires a lock for the connection's session. znode.ErrTimeout means that it was not free in
// time.
func (c *Conn) Lock(ctx context.Context, path string, o LockOptions) (Lock, error) {
	r, err := c.Do(ctx, &text.Request{
		Op: text.Op{Verb: text.VerbLock, Path: path}, HasTimeout: true, TimeoutMS: o.Timeout.Milliseconds(), Shared: o.Shared, Slots: int32(o.Slots),
	})
	if err != nil {
		return Lock{}, err
	}
	return Lock{Path: path, Child: r.Str(text.KeyPath), Token: r.Zxid(text.KeyToken)}, nil
}

// Unlock releases a lock.
func (c *Conn) Unlock(ctx context.Context, path string) error {
	_, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbUnlock, Path: path}})
	return err
}
