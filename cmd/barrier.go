package cmd

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

func barrierCommand() *command {
	return &command{
		name: "barrier", args: "PATH [-- COMMAND [ARGUMENT…]]", does: "wait for a number of participants", min: 1, max: -1, connects: true,
		details: `Each participant is an ephemeral child of PATH; coord goes on when -n of them have been present at the same time. All of them
see that moment, even if some have gone again. One that dies before does not count. Then COMMAND runs, if it is given, and its
exit code is coord's.

Exit codes: 0, or COMMAND's own; 8 too few came in time (--wait; 124 with a COMMAND), 125 to 127 as with coord lock.`,
		examples: []string{"coord barrier -n 3 /deploy/step1", "coord barrier -n 3 --wait 60s /deploy/step1 -- ./go.sh"},
		flags: append(holderFlags(),
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "the number of participants: `N`", DefaultText: "required"},
			&cli.DurationFlag{Name: "wait", Usage: "wait at most `TIME`", DefaultText: "as long as it takes"}),
		asks: neverAsks,
		run:  runBarrier,
	}
}

func runBarrier(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	argv, n, wait := r.args[1:], r.flags.Int("count"), r.flags.Duration("wait")
	switch {
	case r.literal != 1 && len(argv) > 0:
		return &usageError{msg: "the command to run must stand after --", hint: "coord barrier -n N " + path + " -- COMMAND"}
	case n < 1:
		return usagef("-n: expected the number of participants, 1 or more")
	case r.flags.IsSet("wait") && wait < 0:
		return usagef("--wait %v: the time must not be negative", wait)
	}
	ctx, stopWaiting := untilTold(ctx)
	defer stopWaiting()
	waiting := ctx
	if r.flags.IsSet("wait") {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	err = r.meet(waiting, path, n)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case waiting.Err() != nil && len(argv) > 0:
		return &codeError{exitNotInTime, errors.New(path + ": not enough participants came in time")}
	case waiting.Err() != nil:
		return &codeError{exitTimeout, errors.New(path + ": not enough participants came in time")}
	case err != nil && len(argv) > 0:
		return notBegun(err)
	case err != nil || len(argv) == 0 || r.explainer != nil:
		return err
	}
	signals, stop := forwarded()
	defer stop()
	if ctx.Err() != nil { // the signal came before there was a command to pass it to
		return context.Cause(ctx)
	}
	ch, err := r.startChild(argv, nil, r.in)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ch.done:
			return ch.result()
		case s := <-signals:
			ch.forward(s)
		}
	}
}

// meeting keeps track of who is at a barrier by the events, in their order.
type meeting struct {
	path   string
	there  map[string]bool
	n      int
	last   znode.Zxid
	full   chan struct{}
	isFull bool
	events chan client.Event
}

func (m *meeting) set(path string, there bool) {
	if parent, _ := znode.Split(path); parent != m.path {
		return
	}
	if there {
		m.there[path] = true
	} else {
		delete(m.there, path)
	}
	if len(m.there) >= m.n && !m.isFull {
		m.isFull = true
		close(m.full)
	}
}

// meetingEvents is how many events are buffered before the connection is no longer
// read.
const meetingEvents = 1024

// meet joins the barrier and stays until n participants are there.
func (r *run) meet(ctx context.Context, path string, n int) error {
	ttl := r.flags.Duration("ttl")
	if ttl < leastTTL || ttl > text.MaxWaitMS*time.Millisecond {
		return usagef("--ttl %v: expected %v to 24h", ttl, leastTTL)
	}
	m := &meeting{path: path, there: map[string]bool{}, n: n, full: make(chan struct{}), events: make(chan client.Event, meetingEvents)}
	over := make(chan struct{})
	defer close(over)
	dial := r.inTurn("", func(e client.Event) {
		select {
		case m.events <- e:
		case <-over:
		}
	})
	dialing, cancel := r.limit(ctx)
	defer cancel()
	h, err := client.Hold(dialing, dial, client.SessionOptions{TTL: ttl}, nil)
	if err != nil {
		return err
	}
	defer func() {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
		defer cancel()
		_ = h.Close(leaving) // if this fails, the session expires
	}()
	c, err := h.Conn(ctx)
	if err != nil {
		return err
	}
	if err := m.enter(ctx, c); err != nil || r.explainer != nil {
		return err
	}
	return m.wait(ctx, h, c)
}

// enter watches, lists who is there, and then joins: from the watch on, events
// report everyone who comes or goes, including this process.
func (m *meeting) enter(ctx context.Context, c *client.Conn) error {
	_, at, err := c.Follow(ctx, m.path, client.FollowOptions{Recursive: true})
	if err != nil {
		return err
	}
	m.last = at
	for item, err := range c.Ls(ctx, m.path, client.ListOptions{}) {
		if err != nil && !errors.Is(err, znode.ErrNoNode) {
			return err
		}
		if err == nil {
			m.set(item.Path, true)
		}
	}
	_, err = c.Do(ctx, &text.Request{Op: text.Op{
		Verb: text.VerbCreate, Path: znode.Join(m.path, "enter-"), Mode: znode.EphemeralSequential, Parents: true, Value: []byte(processName()),
	}})
	return err
}

// wait handles the events, across lost connections, until the barrier is full.
func (m *meeting) wait(ctx context.Context, h *client.Holder, c *client.Conn) error {
	for {
		select {
		case e := <-m.events:
			m.last = max(m.last, e.Zxid)
			m.set(e.Path, e.Type == "created")
		case <-m.full:
			return nil
		case <-h.Lost():
			return h.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-h.Changed():
			now, err := h.Conn(ctx)
			if err != nil {
				return err
			}
			if now == c {
				continue
			}
			c = now
			// All events of a transaction have one zxid, and the connection may have ended between two
			// of them.
			since := max(m.last-1, 1)
			if _, _, err := c.Follow(ctx, m.path, client.FollowOptions{Recursive: true, Since: since, HasSince: true}); errors.Is(err, znode.ErrCompacted) {
				return err
			}
		}
	}
}
