// Package bench is a load generator for servers of ZooKeeper's protocol: coord
// and ZooKeeper itself. It must cost far less than what it measures, with which
// it may share its processors:
//
//   - requests are copied from templates, and number, key and name are patched in;
//   - all that a client may send at a moment leaves in one write, and replies are
//     cut out of what one read brought: their number, zxid and code are looked at,
//     their bodies are not;
//   - nothing is allocated for a request, and a latency is one increment.
//
// A client is a session on a connection of its own. One goroutine a client reads
// and, in the closed loop, sends what the replies have made room for: no other
// need be woken. With a rate (the open loop) one more goroutine, the pacer, sends
// for all clients what is due, and a latency counts from the moment the request
// was due: what waits because the server is slow is not left out.
//
// What a server answers is checked: every reply is that to the oldest unanswered
// request, no zxid is smaller than one before it in the session, and a frame that
// makes no sense ends the run.
//
// The package dials through a function that it is given, prints nothing, and may
// be called by any goroutine.
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

// Load says what is done to a server. It is one of three kinds: requests of
// clients; with Watchers, sets of a znode that so many watch; with Sessions, so
// many opened and closed.
type Load struct {
	Name        string
	Clients     int // sessions, each on a connection of its own; of Sessions and Watchers: how many open them
	Outstanding int // requests that a client has under way, at most
	Batch       int // of Outstanding: so many are sent together, when as many were answered; 0: half; at a Rate it means nothing
	Mix         Mix // what they ask
	Size        int // of a value, in bytes
	Keys        int // znodes that are made before, to be read and set
	Multi       int // sets in a multi
	Rate        int // requests a second, of all clients; 0: a new one when one is answered
	Sequential  bool
	Ephemeral   bool // of creates, as Sequential

	Watchers int
	Sessions int
	Hold     time.Duration // how long Sessions are kept

	Warmup   time.Duration // before the measured time
	Duration time.Duration // the measured time
	Requests int           // of all clients (or sets of what is watched), in the place of Duration; 0: Duration counts

	Path string // below which all is made; must not exist; empty: one that does not
	Keep bool   // what was made
}

// Limits of a Load.
const (
	MaxClients     = 20_000 // also of watchers and sessions
	MaxOutstanding = 1 << 16
	MaxKeys        = keysADir * 100_000
	MaxSize        = 64 << 20
	MaxMulti       = 1000
)

// keysADir is how many keys have one parent: so many names has the answer to a
// children.
const keysADir = 100

// Validate says what of a load makes no sense.
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
			return fmt.Errorf("%s: from %d to %d", n.name, n.least, n.most)
		}
	}
	switch {
	case l.Watchers > 0 && l.Sessions > 0:
		return errors.New("watchers and sessions are loads of their own")
	case l.Duration <= 0 && l.Requests == 0 && l.Sessions == 0:
		return errors.New("duration: more than 0")
	case l.Warmup < 0 || l.Hold < 0:
		return errors.New("a time is not negative")
	case l.Requests > 0 && l.Rate > 0:
		return errors.New("a rate and a number of requests: a duration is meant")
	case l.Path != "" && (znode.CheckPath(l.Path) != nil || l.Path == znode.Root):
		return fmt.Errorf("%q is not the path of a znode that can be made", l.Path)
	}
	return l.Mix.validate()
}

// BatchOr is Batch, or what counts if it is 0: half of Outstanding.
func (l *Load) BatchOr() int { return cmp.Or(l.Batch, (l.Outstanding+1)/2) }

// Server is what a load is done to.
type Server struct {
	Dial    func(ctx context.Context) (net.Conn, error)
	Auth    []byte        // user:password for the scheme digest; nil: none
	Within  time.Duration // the longest wait for an answer; 0: no end
	PID     int           // of the server, if it is on this machine; 0: not known
	Several bool          // Dial reaches several nodes in turn: each client waits until its node has what was made
	Working func(format string, a ...any)
}

// Errors of a run. A refusal of the server is a RefusedError or a znode.Code.
type (
	// LostError says that no answer came: the connection is gone, or nothing
	// was said for too long.
	LostError struct{ Err error }
	// WrongError is an answer that no server may give.
	WrongError struct{ Msg string }
	// RefusedError counts the requests that were answered with errors.
	RefusedError struct {
		Of    string // what was asked
		Code  znode.Code
		Count int64 // with this code
		All   int64
	}
	// LeftError says that what was made could not be removed.
	LeftError struct {
		Path string
		Err  error
	}
)

func (e *LostError) Error() string  { return "the connection is lost: " + e.Err.Error() }
func (e *LostError) Unwrap() error  { return e.Err }
func (e *WrongError) Error() string { return "the server is wrong: " + e.Msg }
func (e *WrongError) Unwrap() error { return znode.ErrProtocol }
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%d of %d answers to %s: %v", e.Count, e.All, e.Of, e.Code)
}
func (e *RefusedError) Unwrap() error { return e.Code }
func (e *LeftError) Error() string    { return e.Path + " is left behind: " + e.Err.Error() }
func (e *LeftError) Unwrap() error    { return e.Err }

func wrong(format string, a ...any) error { return &WrongError{fmt.Sprintf(format, a...)} }

// Run does a load to a server, once. What was measured is returned also with an
// error, if there is something; nil if not. When ctx ends, nothing new is sent,
// and what was made is removed all the same.
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

// furnish makes znodes, has f use them, and removes them, whatever comes of it:
// the first of the list is their root, and the others are below it, parents first.
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
	begun, err := admin.bulk(ctx, n, part, znode.OK, s.Working, "making %d znodes")
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
	// Newest first: a child goes before its parent.
	more = append([]made{{begun, func(i int) string { return part(i).Path }}}, more...)
	if left := remove(context.WithoutCancel(ctx), s, l.Path, more); left != nil {
		err = errors.Join(err, &LeftError{l.Path, left})
	}
	return res, err
}

// made is a number of znodes that a run has made, or may have made.
type made struct {
	n    int
	path func(i int) string
}

// otherNodes is how many nodes are tried behind the first, if that is gone.
const otherNodes = 6

// remove takes away what a run has made, with root.
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

// String is a load in words.
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
