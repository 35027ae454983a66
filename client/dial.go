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

// DefaultServer is where a server listens unless told otherwise.
const DefaultServer = "127.0.0.1:2181"

// defaultPort is added to a host without one.
const defaultPort = "2181"

// Options of Dial. The zero value is fine.
type Options struct {
	Name string // of this client, for the server's log
	// User and Password authenticate the connection (scheme digest), unless User is empty.
	User     string
	Password []byte
	// Events is told each event of the connection's watches, in order with the
	// replies, by its reader: while it does not return no reply is read, so it must
	// not wait for one, nor Close the connection.
	Events func(Event)
}

// Dial connects to the first of the servers that answers. A server is HOST:PORT,
// HOST (port 2181) or unix:PATH. While others are left, none may take more than
// its share of the time that ctx gives.
func Dial(ctx context.Context, servers []string, o Options) (*Conn, error) {
	if len(servers) == 0 {
		servers = []string{DefaultServer}
	}
	var errs []error
	for i, server := range servers {
		c, err := dialOne(ctx, server, len(servers)-i, o)
		if err == nil {
			return c, nil
		}
		var refused *Error
		if ctx.Err() != nil && context.Cause(ctx) != context.DeadlineExceeded { //nolint:errorlint // the context's own
			return nil, context.Cause(ctx)
		}
		if errors.As(err, &refused) && refused.Code == znode.ErrAuthFailed {
			return nil, err // the next one would say the same
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, &UnreachableError{Server: strings.Join(servers, ","), Err: errors.Join(errs...)}
}

// dialOne connects to one server, with one share of the time that is left.
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

// shorten leaves out of a dialler's error the address, which we name ourselves.
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

// introduce sees that a server of this protocol is there, before anything that
// could change something is sent.
func (c *Conn) introduce(ctx context.Context, o Options) error {
	var err error
	if c.hello, err = c.Greet(ctx, o.Name); err != nil {
		if noReply, ok := errors.AsType[*text.Error](err); ok {
			return fmt.Errorf("%s: this is no coord server, or not its client port: %w", c.server, noReply)
		}
		return err
	}
	if o.User == "" {
		return nil
	}
	return c.Auth(ctx, o.User, o.Password)
}

// SplitServer takes a server's address apart as net.Dial wants it.
func SplitServer(server string) (network, addr string, err error) {
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		if path == "" {
			return "", "", fmt.Errorf("%w: server %q: unix:PATH is meant", znode.ErrBadArguments, server)
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
