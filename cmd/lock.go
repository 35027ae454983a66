package cmd

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

const (
	defaultLockTTL = 15 * time.Second
	defaultGrace   = 5 * time.Second
	leastTTL       = time.Second
	leaveWithin    = 2 * time.Second // for telling the server that a session ends
)

func lockFlags() []cli.Flag {
	return []cli.Flag{
		boolFlag("try", "do not wait: exit 1 if somebody else has it"),
		&cli.DurationFlag{Name: "wait", Usage: "wait at most `TIME`, then exit 124", DefaultText: "as long as it takes"},
		boolFlag("shared", "hold it together with other shared holders"),
		&cli.IntFlag{Name: "slots", Usage: "hold it together with `N`-1 others", DefaultText: "alone"},
	}
}

func holderFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "ttl", Usage: "how long the session outlives the last sign of life: `TIME`", Value: defaultLockTTL},
		&cli.DurationFlag{Name: "grace", Usage: "without an answer, the command is told to end this `TIME` before --ttl is over", Value: defaultGrace, DefaultText: "5s, or a third of --ttl if that is less than 10s"},
	}
}

func lockCommand() *command {
	return &command{
		name: "lock", args: "PATH -- COMMAND [ARGUMENT…]", does: "run a command while holding a lock", min: 1, max: -1, connects: true,
		details: `The lock is fair: clients get it in the order in which they asked. COMMAND runs directly, without a shell, in a process
group of its own, with COORD_LOCK_PATH, COORD_FENCE (a token that grows with every holder) and COORD_SESSION in its
environment. TERM, INT, HUP, QUIT, USR1 and USR2 are passed on to it. When it ends, coord ends what is left of its group,
gives the lock back, and exits with COMMAND's exit code. While coord waits for the lock, TERM, INT, HUP and QUIT end it and
give its place in the queue back.

coord renews the session every third of --ttl. Without an answer for --ttl less --grace the group gets TERM, and KILL before
--ttl is over: COMMAND is dead before anyone else can have the lock, and coord exits with 123. The server may restart
meanwhile. No lock can help if coord itself is stopped or starved: let the resource refuse an older COORD_FENCE (coord fence).

Exit codes: COMMAND's own, or 1 not acquired (--try), 123 lost while running, 124 not acquired in time, 125 coord failed
before the start, 126 not executable, 127 not found.`,
		examples: []string{
			"coord lock /locks/backup -- ./backup.sh", "coord lock --try /locks/cron -- ./clean.sh -v",
			"coord lock --wait 60s --slots 3 /locks/uploads -- ./upload.sh", "coord lock --on-lost 'logger lost' /locks/db -- ./migrate.sh",
		},
		flags: append(append(lockFlags(), holderFlags()...),
			&cli.StringFlag{Name: "on-lost", Usage: "run `LINE` with sh once the lock is lost and the command is dead"}),
		asks: neverAsks,
		run:  runLock,
	}
}

func runLock(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	if r.literal != 1 || len(r.args) == 1 {
		return &usageError{msg: "the command to run must stand after --", hint: "coord lock " + path + " -- COMMAND"}
	}
	o, err := r.lockOptions()
	if err != nil {
		return err
	}
	begun := time.Now()
	ctx, stop := untilTold(ctx)
	defer stop()
	g, err := r.hold(ctx, "coord "+r.args[1], nil)
	if err != nil {
		return notBegun(told(ctx, err))
	}
	if o.Timeout > 0 {
		o.Timeout = max(o.Timeout-time.Since(begun), time.Millisecond) // 0 would mean --try
	}
	if err := g.acquire(ctx, path, o); err != nil {
		g.leave()
		return notBegun(err)
	}
	if r.explainer != nil {
		g.leave()
		return nil
	}
	return r.guarded(ctx, g, r.args[1:])
}

// lockOptions are the options that lockFlags set.
func (r *run) lockOptions() (o client.LockOptions, err error) {
	o = client.LockOptions{Shared: r.flags.Bool("shared"), Slots: r.flags.Int("slots"), Timeout: -1}
	wait := r.flags.Duration("wait")
	switch {
	case r.flags.IsSet("slots") && (o.Slots < 1 || o.Shared):
		return o, usagef("--slots: expected 1 or more, and no --shared")
	case r.flags.IsSet("wait") && (wait < 0 || r.flags.Bool("try")):
		return o, usagef("--wait: expected a time that is not negative, and no --try")
	case r.flags.Bool("try"):
		o.Timeout = 0
	case r.flags.IsSet("wait"):
		o.Timeout = wait
	}
	return o, nil
}

// guard holds a lock for a command.
type guard struct {
	*client.Holder
	r      *run
	grace  time.Duration
	path   string
	lock   client.Lock
	broken chan struct{} // receives when the lock's znode is gone
	znode  atomic.Pointer[string]
	told   syscall.Signal // in wait: the last signal that is meant to end the command; 0: none

	watching sync.Mutex
	seen     *client.Conn // the connection that watches the znode; guarded by watching
}

// hold opens a session for a lock, or resumes one.
func (r *run) hold(ctx context.Context, name string, resume *client.Session) (*guard, error) {
	ttl, grace := r.flags.Duration("ttl"), r.flags.Duration("grace")
	switch {
	case ttl < leastTTL || ttl > text.MaxWaitMS*time.Millisecond:
		return nil, usagef("--ttl %v: expected %v to 24h", ttl, leastTTL)
	case grace <= 0 || grace > ttl/2:
		if r.flags.IsSet("grace") {
			return nil, usagef("--grace %v: expected more than 0 and at most half of --ttl", grace)
		}
		grace = ttl / 3
	}
	g := &guard{r: r, grace: grace, broken: make(chan struct{}, 1)}
	dial := r.inTurn(name, func(e client.Event) {
		if gone := g.znode.Load(); gone != nil && e.Type == "deleted" && e.Path == *gone {
			g.breakOff()
		}
	})
	ctx, cancel := r.limitWait(ctx)
	defer cancel()
	var err error
	g.Holder, err = client.Hold(ctx, dial, client.SessionOptions{TTL: ttl}, resume)
	return g, err
}

// limitWait is limit, and also obeys --wait: it is for reaching a server on which
// the command will wait.
func (r *run) limitWait(ctx context.Context) (context.Context, context.CancelFunc) {
	if wait := r.flags.Duration("wait"); wait > 0 {
		if d, _ := r.timeout(); d == 0 || wait < d {
			return context.WithTimeout(ctx, wait)
		}
	}
	return r.limit(ctx)
}

func (g *guard) breakOff() {
	select {
	case g.broken <- struct{}{}:
	default:
	}
}

// acquire takes the lock. A negative timeout means no limit.
func (g *guard) acquire(ctx context.Context, path string, o client.LockOptions) error {
	try, forever := o.Timeout == 0, o.Timeout < 0
	if forever {
		o.Timeout = text.MaxWaitMS * time.Millisecond
	}
	for {
		l, err := g.Lock(ctx, path, o)
		switch {
		case err == nil:
			g.lock, g.path = l, path
			g.znode.Store(&l.Child)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, znode.ErrTimeout):
			return err
		case try:
			return &falseError{path + ": another client holds the lock"}
		case !forever:
			return &codeError{exitNotInTime, errors.New(path + ": not acquired in time")}
		}
	}
}

// leave ends the session. If the server cannot be told, it expires the session after its TTL.
func (g *guard) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
	defer cancel()
	if err := g.Close(ctx); err != nil && g.Err() == nil && g.path != "" {
		g.r.note("coord: %s could not be released, and becomes free when its session expires: %v", g.path, oneLine(err.Error()))
	}
}

func (g *guard) env() []string {
	return []string{
		"COORD_LOCK_PATH=" + g.path, "COORD_FENCE=" + g.lock.Token.String(), "COORD_SESSION=" + znode.Hex(uint64(g.Session().ID)),
	}
}

// watch makes the server report the deletion of the lock's znode, on each new
// connection. It waits for replies, which guard.wait must not do. A call that
// comes while another one is running does nothing: the next ping repeats it.
func (g *guard) watch() {
	if !g.watching.TryLock() {
		return
	}
	defer g.watching.Unlock()
	ctx, cancel := context.WithDeadline(context.Background(), g.Until())
	defer cancel()
	c, err := g.Conn(ctx)
	if err != nil || c == g.seen {
		return
	}
	if _, _, err := c.Follow(ctx, g.lock.Child, client.FollowOptions{}); err != nil {
		return // if the connection failed, the next one tries again
	}
	if _, there, err := c.Exists(ctx, g.lock.Child); err == nil && !there {
		g.breakOff()
	}
	g.seen = c
}

// guarded runs a command while the lock is held.
func (r *run) guarded(ctx context.Context, g *guard, argv []string) error {
	signals, stop := forwarded()
	defer stop()
	if ctx.Err() != nil { // the signal came before there was a command to pass it to
		g.leave()
		return context.Cause(ctx)
	}
	ch, err := r.startChild(argv, g.env(), r.in)
	if err != nil {
		g.leave()
		return err
	}
	why := g.wait(ch, signals)
	if why == "" {
		ch.end(time.Now().Add(g.grace)) // the processes that it has left behind
		g.leave()
		return ch.result()
	}
	g.leave()
	r.note("coord: %s: the lock is lost: %s", g.path, why)
	if line := r.flags.String("on-lost"); line != "" {
		if err := r.shell(context.Background(), line, g.env()); err != nil {
			r.note("coord: --on-lost: %v", err)
		}
	}
	return &codeError{exitLost, nil}
}

// wait waits for the end of the command, or ends the command if the lock may be
// lost; then it says why. Without a command (nil) it waits for a signal that would
// end one.
func (g *guard) wait(ch *child, signals <-chan os.Signal) (why string) {
	go g.watch()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var done chan struct{}
	if ch != nil {
		done = ch.done
	}
	for {
		until := g.Until()
		timer.Reset(time.Until(until.Add(-g.grace)))
		select {
		case <-done:
			return ""
		case s := <-signals:
			if sig, ok := s.(syscall.Signal); ok && sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2 {
				g.told = sig
			}
			if ch != nil {
				ch.forward(s)
			} else if g.told != 0 {
				return ""
			}
		case <-g.Changed():
			go g.watch()
		case <-timer.C:
			if !g.Until().After(until) {
				// A little earlier, so that KILL has done its work by then.
				ch.end(until.Add(-g.grace / 10))
				return "no answer from the server"
			}
		case <-g.Lost():
			ch.end(time.Now())
			return g.Err().Error()
		case <-g.broken:
			ch.end(time.Now().Add(g.grace / 2))
			return "its znode was deleted"
		}
	}
}

func lockAcquireCommand() *command {
	return &command{
		name: "lock acquire", args: "PATH", does: "take a lock for the session in a file", min: 1, max: 1, connects: true,
		details: `For locks that are held across scripts. The session in the file (coord session new) owns the lock and must be kept alive:
each command that uses the file gives it its whole time again. The command prints the lock's token.

Exit codes: 0, or 1 not acquired (--try), 124 not acquired in time, 9 the session has expired.`,
		examples: []string{"coord session new --ttl 10m --file s", "coord lock acquire --session s /locks/deploy", "coord lock release --session s /locks/deploy"},
		flags:    append(lockFlags(), sessionFlag()),
		asks:     neverAsks,
		run: func(ctx context.Context, r *run) error {
			path, err := r.path(znode.Persistent)
			if err != nil {
				return err
			}
			o, err := r.lockOptions()
			if err != nil {
				return err
			}
			return r.inSession(ctx, func(ctx context.Context, c *client.Conn, h *client.Holder) error {
				g := &guard{Holder: h, r: r}
				if err := g.acquire(ctx, path, o); err != nil {
					return err
				}
				if r.json {
					r.object(jsonLock{V: schema, Path: path, Znode: g.lock.Child, Token: g.lock.Token.String()})
				} else {
					r.printf("%s\n", g.lock.Token)
				}
				return nil
			})
		},
	}
}

func lockReleaseCommand() *command {
	return &command{
		name: "lock release", args: "PATH", does: "give back a lock of the session in a file", min: 1, max: 1, connects: true,
		examples: []string{"coord lock release --session s /locks/deploy"},
		flags:    []cli.Flag{sessionFlag()},
		asks:     neverAsks,
		run: func(ctx context.Context, r *run) error {
			path, err := r.path(znode.Persistent)
			if err != nil {
				return err
			}
			return r.inSession(ctx, func(ctx context.Context, c *client.Conn, _ *client.Holder) error {
				return c.Unlock(ctx, path)
			})
		},
	}
}

// jsonLock is a lock that is held or waited for.
type jsonLock struct {
	V       int    `json:"v"`
	Path    string `json:"path"`
	Znode   string `json:"znode"`
	Token   string `json:"token"`
	Session string `json:"session,omitempty"`
	Holder  string `json:"holder,omitempty"`
	Place   *int   `json:"place,omitempty"` // 0 is the first
}

func lockLsCommand() *command {
	return &command{
		name: "lock ls", args: "PATH", does: "list the holders of a lock and the clients that wait for it, in their order", min: 1, max: 1, connects: true,
		details:  "One line each: place (0 is first), kind (lock, read, slot), token, session, and what the client calls itself.",
		examples: []string{"coord lock ls /locks/backup"},
		run: func(ctx context.Context, r *run) error {
			path, err := r.path(znode.Persistent)
			if err != nil {
				return err
			}
			return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
				all, err := lockQueue(ctx, c, path)
				for i, e := range all {
					if r.json {
						r.object(jsonLock{schema, path, e.item.Path, e.item.Stat.Czxid.String(), znode.Hex(uint64(e.item.Stat.EphemeralOwner)), e.holder, &i})
						continue
					}
					_, name := znode.Split(e.item.Path)
					kind, _, _ := strings.Cut(name, "-")
					r.printf("%d %s %s %s %s\n", i, kind, e.item.Stat.Czxid, znode.Hex(uint64(e.item.Stat.EphemeralOwner)), e.holder)
				}
				return err
			})
		},
	}
}

func lockBreakCommand() *command {
	return &command{
		name: "lock break", args: "PATH", does: "take a lock away from its holder", min: 1, max: 1, connects: true,
		details: `Deletes the first znode of the queue. A coord lock that had it ends its command and exits with 123; others may not notice,
and the next one has the lock at once: only fencing tokens keep the two apart then. It asks on a terminal, else it needs -y.`,
		examples: []string{"coord lock break -y /locks/backup"},
		flags:    []cli.Flag{boolFlag("yes", "do not ask", "y")},
		asks:     func(*run) bool { return true },
		run: func(ctx context.Context, r *run) error {
			path, err := r.path(znode.Persistent)
			if err != nil {
				return err
			}
			return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
				all, err := lockQueue(ctx, c, path)
				if err != nil {
					return err
				}
				if len(all) == 0 {
					return &client.Error{Code: znode.ErrNoNode, Path: path, Op: -1, Message: "nobody holds the lock"}
				}
				if err := r.confirm(ctx, r.flags.Bool("yes"), "Take "+path+" away from "+all[0].holder+"?"); err != nil {
					return err
				}
				call, err := c.Send(&text.Request{Op: text.Op{Verb: text.VerbRm, Path: all[0].item.Path, Version: anyVersion}})
				if err == nil {
					_, err = call.Wait(ctx)
				}
				if err == nil {
					r.note("coord: %s was taken away from %s", path, all[0].holder)
				}
				return err
			})
		},
	}
}

// queued is one place in a lock's queue.
type queued struct {
	item   client.Item
	holder string
	order  string
}

// lockQueue reads a lock's znodes, ordered by their sequence numbers.
func lockQueue(ctx context.Context, c *client.Conn, path string) (all []queued, err error) {
	for item, err := range c.Tree(ctx, path, client.ListOptions{Stat: true, Data: true, Depth: 1}) {
		if err != nil {
			return nil, err
		}
		if item.Path == path || item.Stat.EphemeralOwner == 0 || len(item.Path) < 10 {
			continue
		}
		all = append(all, queued{item, oneLine(string(item.Data)), item.Path[len(item.Path)-10:]})
	}
	slices.SortFunc(all, func(a, b queued) int { return cmp.Compare(a.order, b.order) })
	return all, nil
}
