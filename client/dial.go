package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"coord/server/text"
	"coord/tree/znode"
)

// DefaultServer is the address of a server with default settings.
const DefaultServer = "127.0.0.1:2181"

// defaultPort is added to a host without a port.
const defaultPort = "2181"

// Options of Dial. The zero value is valid.
type Options struct {
	Name string // of this client, for the server's log
	// User and Password authenticate the connection (scheme digest), unless User is empty.
	User     string
	Password []byte
	// Events is called for each event of the connection's watches, in order with the replies. The
	// connection's reader calls it: until it returns no reply is read, so it must not wait for a
	// reply or Close the connection.
	Events func(Event)
}

// findLeader is how long Dial looks for another server after one without a leader has answered.
const findLeader = time.Second

// Dial connects to the first of the servers that answers. If that server has no leader, and so
// takes no writes, Dial tries the others for a short time and prefers one that has a leader. A
// server is HOST:PORT, HOST (port 2181) or unix:PATH. Unless it is the last, a server gets only its
// share of the time left in ctx.
func Dial(ctx context.Context, servers []string, o Options) (*Conn, error) {
	if len(servers) == 0 {
		servers = []string{DefaultServer}
	}
	c, others, err := dialFirst(ctx, servers, o)
	if err != nil || c.hello.Role != roleCandidate {
		return c, err
	}
	soon, cancel := context.WithTimeout(ctx, findLeader)
	defer cancel()
	for len(others) > 0 {
		var next *Conn
		if next, others, err = dialFirst(soon, others, o); err != nil {
			break
		}
		if next.hello.Role != roleCandidate {
			_ = c.Close()
			return next, nil
		}
		_ = next.Close()
	}
	return c, nil
}

// dialFirst connects to the first of the servers that answers. others are the servers after it.
func dialFirst(ctx context.Context, servers []string, o Options) (c *Conn, others []string, err error) {
	var errs []error
	for i, server := range servers {
		c, err := dialOne(ctx, server, len(servers)-i, o)
		if err == nil {
			return c, servers[i+1:], nil
		}
		var refused *Error
		if ctx.Err() != nil && context.Cause(ctx) != context.DeadlineExceeded { //nolint:errorlint // the context's own
			return nil, nil, context.Cause(ctx)
		}
		if errors.As(err, &refused) && refused.Code == znode.ErrAuthFailed {
			return nil, nil, err // the next server would refuse it too
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return nil, nil, errs[0]
	}
	return nil, nil, &UnreachableError{Server: strings.Join(servers, ","), Err: errors.Join(errs...)}
}

// dialOne connects to one server. It divides the time left in ctx by shares and may use one share.
func dialOne(ctx context.Context, server string, shares int, o Options) (*Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && shares > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(shares))
		defer cancel()
	}
	network, addr, err := SplitServer(server)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, &UnreachableError{Server: server, Err: shorten(ctx, err)}
	}
	c := newConn(nc, server, o.Events)
	if err := c.introduce(ctx, o); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// shorten removes the address from a dialler's error, since the UnreachableError names it.
func shorten(ctx context.Context, err error) error {
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &op):
		return op.Err
	}
	return err
}

// introduce checks that a server of this protocol answers, before anything is sent that could
// change state.
func (c *Conn) introduce(ctx context.Context, o Options) error {
	var err error
	if c.hello, err = c.Greet(ctx, o.Name); err != nil {
		if noReply, ok := errors.AsType[*text.Error](err); ok {
			return fmt.Errorf("%s: not a coord server, or not its client port: %w", c.server, noReply)
		}
		return err
	}
	if o.User == "" {
		return nil
	}
	return c.Auth(ctx, o.User, o.Password)
}

// SplitServer splits a server's address into the arguments of net.Dial.
func SplitServer(server string) (network, addr string, err error) {
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		if path == "" {
			return "", "", fmt.Errorf("%w: server %q: expected unix:PATH", znode.ErrBadArguments, server)
		}
		return "unix", path, nil
	}
	if strings.Contains(server, "://") || strings.ContainsAny(server, " \t/") || server == "" {
		return "", "", fmt.Errorf("%w: server %q is not HOST:PORT or unix:PATH", znode.ErrBadArguments, server)
	}
	if _, _, err := net.SplitHostPort(server); err == nil {
		return "tcp", server, nil
	}
	host := strings.TrimSuffix(strings.TrimPrefix(server, "["), "]")
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		return "", "", fmt.Errorf("%w: server %q is not HOST:PORT or unix:PATH", znode.ErrBadArguments, server)
	}
	return "tcp", net.JoinHostPort(host, defaultPort), nil
}
