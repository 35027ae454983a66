package cmd

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
)

// anyVersion is the expected version that matches every version.
const anyVersion = client.AnyVersion

// clientName is the name that the commands give to the server.
const clientName = "coord"

const defaultTimeout = 10 * time.Second

// connectFlags are the flags of every command that talks to a server.
func connectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server", Usage: "`HOST:PORT` or unix:PATH, several separated by commas: the first that answers and knows a leader", EnvVars: []string{"COORD_SERVER"}, DefaultText: client.DefaultServer},
		&cli.DurationFlag{Name: "timeout", Usage: "the longest `TIME` in all, such as 500ms or 1m; 0: no limit", EnvVars: []string{"COORD_TIMEOUT"}, DefaultText: defaultTimeout.String()},
		&cli.StringFlag{Name: "auth-file", Usage: "a `FILE` with user:password, or set COORD_AUTH to it: never an argument", EnvVars: []string{"COORD_AUTH_FILE"}},
		boolFlag("explain", "print the lines of the text protocol that would be sent, and change nothing"),
	}
}

// timeout is the time limit of the command, 0 for none; given says that the user chose it.
func (r *run) timeout() (d time.Duration, given bool) {
	if r.given("timeout") || os.Getenv("COORD_TIMEOUT") != "" {
		return r.flags.Duration("timeout"), true
	}
	return defaultTimeout, false
}

// limit makes a context with the command's time limit.
func (r *run) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if d, _ := r.timeout(); d > 0 {
		return context.WithTimeout(ctx, d)
	}
	return context.WithCancel(ctx)
}

// stepWithin is the longest wait for each reply of work that needs many.
const stepWithin = 10 * time.Second

// long makes a context for work that needs many replies (lists, trees, snapshots).
// The command's time limit applies only if the user chose it; then step is 0.
// Otherwise each reply must come within step.
func (r *run) long(ctx context.Context) (_ context.Context, step time.Duration, _ context.CancelFunc) {
	if _, given := r.timeout(); given {
		ctx, cancel := r.limit(ctx)
		return ctx, 0, cancel
	}
	return ctx, stepWithin, func() {}
}

// connect is reach within the command's time limit.
func (r *run) connect(ctx context.Context) (*client.Conn, error) {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	return r.reach(ctx)
}

// reach returns the connection of the shell that runs the command, or else a new
// one. Return either with leave.
func (r *run) reach(ctx context.Context) (*client.Conn, error) {
	if r.link == nil || r.explainer != nil {
		return r.dial(ctx)
	}
	servers, o, err := r.target("")
	if err != nil {
		return nil, err
	}
	return r.link.to(ctx, servers, o)
}

// leave gives back a connection that reach returned.
func (r *run) leave(c *client.Conn) {
	if r.link == nil || r.link.conn != c {
		_ = c.Close()
	}
}

// link is the connection that the commands of a shell share, one after the other.
// The zero value has none. It belongs to one goroutine at a time.
type link struct {
	conn    *client.Conn
	servers []string
	as      client.Options
}

// to returns a connection to these servers, with this identity. It reuses the last
// one unless servers or identity differ, the connection has ended, or a command has
// left unanswered requests on it.
func (l *link) to(ctx context.Context, servers []string, as client.Options) (*client.Conn, error) {
	if l.conn != nil && l.conn.Idle() && slices.Equal(l.servers, servers) && l.as.User == as.User && bytes.Equal(l.as.Password, as.Password) {
		return l.conn, nil
	}
	l.close()
	c, err := client.Dial(ctx, servers, as)
	if err != nil {
		return nil, err
	}
	l.conn, l.servers, l.as = c, servers, as
	return c, nil
}

func (l *link) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// dial makes a connection that only this command uses.
func (r *run) dial(ctx context.Context) (*client.Conn, error) { return r.inTurn("", nil)(ctx) }

// inTurn returns a dial function for a client.Holder. name is the name that the client
// gives to the server, "" for coord; events may be nil. Each call starts with the
// server after the one that it reached last: if a session has lost a server, that
// server is gone, hangs, or is partitioned from the others, and may still accept
// connections.
func (r *run) inTurn(name string, events func(client.Event)) func(context.Context) (*client.Conn, error) {
	last := ""
	return func(ctx context.Context) (*client.Conn, error) {
		servers, o, err := r.target(name)
		if err != nil {
			return nil, err
		}
		o.Events = events
		if r.explainer != nil {
			return r.explainer.dial(ctx, r, servers, o)
		}
		at := slices.Index(servers, last) + 1
		c, err := client.Dial(ctx, slices.Concat(servers[at:], servers[:at]), o)
		if err == nil {
			last = c.Server()
		}
		return c, err
	}
}

// target returns the servers to connect to and the client's options. name as in inTurn.
func (r *run) target(name string) (servers []string, o client.Options, err error) {
	if d := r.flags.Duration("timeout"); d < 0 {
		return nil, o, usagef("--timeout %v: the time must not be negative", d)
	}
	o.Name = cmp.Or(name, clientName)
	if o.User, o.Password, err = r.credential(); err != nil {
		return nil, o, err
	}
	servers = strings.FieldsFunc(r.flags.String("server"), func(c rune) bool { return c == ',' })
	for _, s := range servers {
		if _, _, err := client.SplitServer(s); err != nil {
			return nil, o, usagef("--server: %q is not HOST:PORT or unix:PATH", s)
		}
	}
	return servers, o, nil
}

// walk calls f with a znode and all its descendants, each znode before its children.
func (r *run) walk(ctx context.Context, path string, o client.ListOptions, f func(client.Item) error) error {
	c, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer r.leave(c)
	return r.walkOn(ctx, c, path, o, f)
}

func (r *run) walkOn(ctx context.Context, c *client.Conn, path string, o client.ListOptions, f func(client.Item) error) error {
	ctx, step, cancel := r.long(ctx)
	defer cancel()
	defer r.progressEnd()
	o.Within = step
	for it, err := range c.Tree(ctx, path, o) {
		if err == nil {
			err = f(it)
		}
		if err == nil {
			err = r.ended()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeWindow is the number of writes in flight.
const writeWindow = 500

// pipeline sends n requests, at most window of them in flight, and calls take with
// each reply, or the error in its place, in order. An error of take ends it.
func (r *run) pipeline(ctx context.Context, c *client.Conn, n, window int, request func(i int) *text.Request, take func(i int, reply *text.Reply, err error) error) error {
	ctx, step, cancel := r.long(ctx)
	defer cancel()
	defer r.progressEnd()
	calls := make([]*client.Call, window) // request i is calls[i%window]
	var failed error                      // the error of sending
	for sent, taken := 0, 0; taken < n; taken++ {
		for sent < n && sent-taken < window && failed == nil {
			if calls[sent%window], failed = c.Send(request(sent)); failed == nil {
				sent++
			}
		}
		if taken == sent {
			return take(taken, nil, failed)
		}
		reply, err := waitStep(ctx, step, calls[taken%window])
		calls[taken%window] = nil
		if err := take(taken, reply, err); err != nil {
			return err
		}
	}
	return nil
}

// waitStep waits for one reply of many, at most step; 0: no limit of its own.
func waitStep(ctx context.Context, step time.Duration, call *client.Call) (*text.Reply, error) {
	if step > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, step)
		defer cancel()
	}
	return call.Wait(ctx)
}

// with connects, runs f within the command's time limit, and disconnects.
func (r *run) with(ctx context.Context, f func(ctx context.Context, c *client.Conn) error) error {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	c, err := r.reach(ctx)
	if err != nil {
		return err
	}
	defer r.leave(c)
	return f(ctx, c)
}

// alone is with on a connection of its own, for sessions, which are bound to their
// connection.
func (r *run) alone(ctx context.Context, f func(ctx context.Context, c *client.Conn) error) error {
	own := *r
	own.link = nil
	return own.with(ctx, f)
}

// credential returns the user and password of --auth-file or COORD_AUTH, if one of them is set.
func (r *run) credential() (user string, password []byte, err error) {
	from, secret := "COORD_AUTH", []byte(os.Getenv("COORD_AUTH"))
	if file := r.flags.String("auth-file"); file != "" {
		from = file
		if secret, err = os.ReadFile(file); err != nil {
			err = bare(err)
			return "", nil, usagef("--auth-file %s: %v", file, err)
		}
		secret = bytes.TrimRight(secret, "\r\n")
	}
	if len(secret) == 0 && from == "COORD_AUTH" {
		return "", nil, nil
	}
	name, password, ok := bytes.Cut(secret, []byte{':'})
	if !ok || len(name) == 0 || len(bytes.TrimSpace(name)) != len(name) {
		return "", nil, usagef("%s does not contain user:password", from) // the message does not show the content
	}
	return string(name), password, nil
}
