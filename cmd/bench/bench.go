// Package bench is a load generator for servers of ZooKeeper's protocol: coord and
// ZooKeeper itself. It may share the processors with the server that it measures,
// so it must cost far less than that server:
//
//   - Requests are copied from templates; xid, key and name are patched in.
//   - All that a client may send at one moment leaves in one write. Replies are cut out
//     of what one read returned; only their xid, zxid and code are examined, not their
//     bodies.
//   - A request allocates nothing, and recording a latency is one increment.
//
// A client is a session on a connection of its own. One goroutine per client reads
// replies and, in the closed loop, sends the requests that the replies have made
// room for: no other goroutine needs to be woken. With a rate (the open loop), one
// more goroutine, the pacer, sends what is due for all clients, and a latency
// counts from the moment the request was due, so the time that a request waits
// because the server is slow is included.
//
// The replies are checked: every reply must answer the oldest unanswered request,
// no zxid may be smaller than an earlier one in the session, and a malformed frame
// ends the run.
//
// The package dials through a function that the caller supplies and prints nothing.
// Any goroutine may call it.
package bench

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// Load describes what is done to a server. There are three kinds: requests of
// clients; with Watchers, sets of a znode that this many sessions watch; with
// Sessions, this many sessions opened and closed.
type Load struct {
	Name        string
	Clients     int // sessions, each on a connection of its own; with Sessions or Watchers: how many are opened at a time
	Outstanding int // the most requests that a client has in flight
	Batch       int // requests sent together, once this many were answered; 0: half of Outstanding; ignored with a Rate
	Mix         Mix // of operations
	Size        int // of a value, in bytes
	Keys        int // znodes that are created first, to be read and set
	Multi       int // sets in a multi
	Rate        int // requests per second, of all clients; 0: the next one when one is answered
	Sequential  bool
	Ephemeral   bool // of creates, like Sequential

	Watchers int
	Sessions int
	Hold     time.Duration // how long Sessions are kept

	Warmup   time.Duration // before the measured time
	Duration time.Duration // the measured time
	Requests int           // of all clients (or sets of the watched znode), instead of Duration; 0: Duration counts

	Path string // the root of all znodes of the run; must not exist; empty: a random one
	Keep bool   // keep the znodes of the run
}

// Limits of a Load.
const (
	MaxClients     = 20_000 // also the limit of Watchers and Sessions
	MaxOutstanding = 1 << 16
	MaxKeys        = keysADir * 100_000
	MaxSize        = 64 << 20
	MaxMulti       = 1000
)

// keysADir is how many keys have the same parent, and so the number of names in the
// reply to getChildren.
const keysADir = 100

// Validate says what in a load makes no sense.
func (l *Load) Validate() error {
	for _, n := range []struct {
		name           string
		n, least, most int
	}{
		{"clients", l.Clients, 1, MaxClients}, {"outstanding", l.Outstanding, 1, MaxOutstanding}, {"batch", l.Batch, 0, l.Outstanding}, {"keys", l.Keys, 1, MaxKeys},
		{"size", l.Size, 0, MaxSize}, {"multi", l.Multi, 1, MaxMulti}, {"rate", l.Rate, 0, 1e9}, {"requests", l.Requests, 0, math.MaxInt32},
		{"watchers", l.Watchers, 0, MaxClients}, {"sessions", l.Sessions, 0, MaxClients},
	} {
		if n.n < n.least || n.n > n.most {
			return fmt.Errorf("%s: expected %d to %d", n.name, n.least, n.most)
		}
	}
	switch {
	case l.Watchers > 0 && l.Sessions > 0:
		return errors.New("watchers and sessions exclude each other")
	case l.Duration <= 0 && l.Requests == 0 && l.Sessions == 0:
		return errors.New("duration: expected more than 0")
	case l.Warmup < 0 || l.Hold < 0:
		return errors.New("warmup and hold must not be negative")
	case l.Requests > 0 && l.Rate > 0:
		return errors.New("rate and requests exclude each other: use duration with rate")
	case l.Path != "" && (znode.CheckPath(l.Path) != nil || l.Path == znode.Root):
		return fmt.Errorf("%q is not a valid path of a new znode", l.Path)
	}
	return l.Mix.validate()
}

// BatchOr is Batch, or its default, half of Outstanding, if it is 0.
func (l *Load) BatchOr() int { return cmp.Or(l.Batch, (l.Outstanding+1)/2) }

// Server is the target of a load.
type Server struct {
	Dial    func(ctx context.Context) (net.Conn, error)
	Auth    []byte        // user:password for the scheme digest; nil: none
	Within  time.Duration // the longest wait for a reply; 0: no limit
	PID     int           // of the server, if it is on this machine; 0: unknown
	Several bool          // Dial reaches several nodes in turn: each client waits until its node has the znodes of the run
	Working func(format string, a ...any)
}

// Errors of a run. A refusal of the server is a RefusedError or a znode.Code.
type (
	// LostError says that no reply came: the connection is gone, or was silent for
	// too long.
	LostError struct{ Err error }
	// WrongError is a reply that no server may give.
	WrongError struct{ Msg string }
	// RefusedError counts the requests that were answered with errors.
	RefusedError struct {
		Of    string // the operation
		Code  znode.Code
		Count int64 // with this code
		All   int64
	}
	// LeftError says that znodes of the run could not be removed.
	LeftError struct {
		Path string
		Err  error
	}
)

func (e *LostError) Error() string  { return "connection lost: " + e.Err.Error() }
func (e *LostError) Unwrap() error  { return e.Err }
func (e *WrongError) Error() string { return "the server sent an invalid reply: " + e.Msg }
func (e *WrongError) Unwrap() error { return znode.ErrProtocol }
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%d of %d answers to %s: %v", e.Count, e.All, e.Of, e.Code)
}
func (e *RefusedError) Unwrap() error { return e.Code }
func (e *LeftError) Error() string    { return e.Path + " could not be removed: " + e.Err.Error() }
func (e *LeftError) Unwrap() error    { return e.Err }

func wrong(format string, a ...any) error { return &WrongError{fmt.Sprintf(format, a...)} }

// Run applies a load to a server, once. It may return a result together with an
// error; the result is nil if nothing was measured. When ctx ends, Run sends no new
// requests and still removes its znodes.
func Run(ctx context.Context, s Server, l Load) (*Result, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	if l.Path == "" {
		var random [4]byte
		_, _ = rand.Read(random[:]) // never fails
		l.Path = "/bench-" + hex.EncodeToString(random[:])
	}
	if s.Working == nil {
		s.Working = func(string, ...any) {}
	}
	switch {
	case l.Sessions > 0:
		return openSessions(ctx, &s, &l)
	case l.Watchers > 0:
		return fanOut(ctx, &s, &l)
	}
	return ask(ctx, &s, &l)
}

// furnish creates the root and the n znodes of part below it, parents first. It
// calls f, which uses them and returns the znodes that it has created itself. Then
// it removes all of them, even after an error, unless the load keeps them.
func furnish(ctx context.Context, s *Server, l *Load, n int, part func(i int) zkproto.Part, f func() (*Result, []made, error)) (*Result, error) {
	admin, err := open(ctx, s)
	if err != nil {
		return nil, err
	}
	_, err = admin.do(ctx, &zkproto.Request{Part: zkproto.Part{Op: zkproto.OpCreate, Path: l.Path, ACL: znode.OpenACL}})
	if err != nil {
		_ = admin.close(ctx)
		return nil, fmt.Errorf("%s: %w", l.Path, err)
	}
	begun, err := admin.bulk(ctx, n, part, znode.OK, s.Working, "creating %d znodes")
	if closed := admin.close(ctx); err == nil {
		err = closed
	}
	var res *Result
	more := []made{}
	if err == nil {
		res, more, err = f()
	}
	if l.Keep {
		return res, err
	}
	// Newest first: children are removed before their parents.
	more = append([]made{{begun, func(i int) string { return part(i).Path }}}, more...)
	if left := remove(context.WithoutCancel(ctx), s, l.Path, more); left != nil {
		err = errors.Join(err, &LeftError{l.Path, left})
	}
	return res, err
}

// made describes znodes that a run has created, or may have created.
type made struct {
	n    int
	path func(i int) string
}

// otherNodes is how many more nodes remove tries if the first is gone.
const otherNodes = 6

// remove removes the znodes that a run has created, and root.
func remove(ctx context.Context, s *Server, root string, all []made) error {
	admin, err := open(ctx, s)
	for try := 0; err != nil && s.Several && try < otherNodes; try++ {
		admin, err = open(ctx, s)
	}
	if err != nil {
		return err
	}
	for i := len(all) - 1; i >= 0 && err == nil; i-- {
		n, path := all[i].n, all[i].path
		_, err = admin.bulk(ctx, n, func(i int) zkproto.Part {
			return zkproto.Part{Op: zkproto.OpDelete, Path: path(n - 1 - i), Version: zkproto.AnyVersion}
		}, znode.ErrNoNode, s.Working, "removing %d znodes")
	}
	if err == nil {
		_, err = admin.do(ctx, &zkproto.Request{Part: zkproto.Part{Op: zkproto.OpDelete, Path: root, Version: zkproto.AnyVersion}})
	}
	return errors.Join(err, admin.close(ctx))
}

// String describes a load in words.
func (l *Load) String() string {
	var b strings.Builder
	switch {
	case l.Sessions > 0:
		fmt.Fprintf(&b, "%d sessions, opened by %d at a time", l.Sessions, min(l.Clients, l.Sessions))
		return b.String()
	case l.Watchers > 0:
		fmt.Fprintf(&b, "sets of %d B, watched by %d sessions", l.Size, l.Watchers)
	default:
		fmt.Fprintf(&b, "%d clients x %d under way, %v", l.Clients, l.Outstanding, l.Mix)
		fmt.Fprintf(&b, ", %d B, %d keys", l.Size, l.Keys)
		if l.Rate > 0 {
			fmt.Fprintf(&b, ", %d/s", l.Rate)
		}
	}
	if l.Requests > 0 {
		fmt.Fprintf(&b, ", %d requests", l.Requests)
	} else {
		fmt.Fprintf(&b, ", %v", l.Duration)
	}
	return b.String()
}
