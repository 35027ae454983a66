package cmd

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

// electPause is the pause between two candidacies.
const electPause = time.Second

func electCommand() *command {
	return &command{
		name: "elect", args: "PATH [-- COMMAND [ARGUMENT…]]", does: "run as a candidate, and run a command while being the leader", min: 1, max: -1, connects: true,
		details: `One of the candidates of a path is the leader, in the order in which they came. While this candidate leads, COMMAND runs,
guarded as by coord lock (same environment, signals, --ttl and --grace). Without COMMAND coord prints a line (leader and the
token, or lost and why) and goes on until INT, TERM, HUP or QUIT. A candidate that loses the leadership becomes a candidate
again, unless --once is given.

--who prints what the leader calls itself, without becoming a candidate.

Exit codes: COMMAND's own; 123 lost (--once), 125 coord failed before the start; --who: 1 if there is no leader.`,
		examples: []string{
			"coord elect /svc/db -- ./primary.sh", "coord elect --id $HOSTNAME --on-lead ./up.sh --on-lose ./down.sh /svc/db", "coord elect --who /svc/db",
		},
		flags: append(holderFlags(),
			&cli.StringFlag{Name: "id", Usage: "what the candidate calls itself: `NAME`", DefaultText: "the host's name and the process id"},
			&cli.StringFlag{Name: "on-lead", Usage: "run `LINE` with sh when this candidate becomes the leader"},
			&cli.StringFlag{Name: "on-lose", Usage: "run `LINE` with sh when the leadership ends, for whatever reason"},
			boolFlag("once", "end when the leadership is lost"),
			boolFlag("who", "print the leader's name")),
		asks: neverAsks,
		run:  runElect,
	}
}

func runElect(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	if r.flags.Bool("who") {
		return r.who(ctx, path)
	}
	argv := r.args[1:]
	if r.literal != 1 && len(argv) > 0 {
		return &usageError{msg: "the command to run must stand after --", hint: "coord elect " + path + " -- COMMAND"}
	}
	id := r.flags.String("id")
	if id == "" {
		id = processName()
	}
	said := ""
	for first := true; ; first = false {
		err := r.lead(ctx, path, id, argv)
		lost, isLost := errors.AsType[*codeError](err)
		switch {
		case isLost && lost.code == exitLost && !r.flags.Bool("once"):
			said = ""
		case ctx.Err() != nil && err == nil:
			return nil // it led until the signal came
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil || isLost && lost.code != exitNotBegun || is[*usageError](err) || is[*signalError](err) || first && !errors.Is(err, znode.ErrSessionExpired):
			return err
		default: // no server, or the session expired while waiting
			if why := oneLine(err.Error()); why != said { // once, not every second
				r.note("coord: %s: %s", path, why)
				said = why
			}
		}
		if err := rest(ctx, electPause); err != nil {
			return err
		}
	}
}

// rest waits for d, or until a signal comes.
func rest(ctx context.Context, d time.Duration) error {
	ctx, stop := untilTold(ctx)
	defer stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// processName identifies this process.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + ":" + strconv.Itoa(os.Getpid())
}

// jsonLead is a change of the leadership.
type jsonLead struct {
	V     int    `json:"v"`
	Event string `json:"event"` // leader, lost
	Path  string `json:"path"`
	ID    string `json:"id"`
	Token string `json:"token,omitempty"`
	Why   string `json:"why,omitempty"`
}

// lead is one candidacy, from joining the queue to the end of the leadership.
func (r *run) lead(ctx context.Context, path, id string, argv []string) error {
	ctx, stopWaiting := untilTold(ctx)
	defer stopWaiting()
	g, err := r.hold(ctx, id, nil)
	if err != nil {
		return notBegun(told(ctx, err))
	}
	if err := g.acquire(ctx, path, client.LockOptions{Timeout: -1}); err != nil {
		g.leave()
		return notBegun(err)
	}
	if r.explainer != nil {
		g.leave()
		return nil
	}
	r.tellLead(jsonLead{V: schema, Event: "leader", Path: path, ID: id, Token: g.lock.Token.String()}, g)
	signals, stop := forwarded() // from here on, signals end the leadership, not the process
	defer stop()
	why := ""
	if line := r.flags.String("on-lead"); line != "" && ctx.Err() == nil {
		why = r.onLead(g, line, signals)
	}
	defer func() {
		if line := r.flags.String("on-lose"); line != "" {
			if err := r.shell(context.WithoutCancel(ctx), line, g.env()); err != nil {
				r.note("coord: --on-lose: %v", err)
			}
		}
	}()
	switch isOver := why != "" || g.told != 0 || ctx.Err() != nil; {
	case !isOver && len(argv) > 0:
		return r.guarded(ctx, g, argv)
	case !isOver:
		why = g.wait(nil, signals)
	}
	g.leave()
	switch {
	case why != "":
		r.tellLead(jsonLead{V: schema, Event: "lost", Path: path, ID: id, Why: why}, g)
		return &codeError{exitLost, nil}
	case len(argv) > 0 && g.told != 0: // there was no command yet to pass the signal to
		return &signalError{sig: g.told}
	case len(argv) > 0:
		return context.Cause(ctx)
	}
	return nil
}

// onLead runs the line of --on-lead while the leadership lasts. If the leadership is
// lost meanwhile, it returns why.
func (r *run) onLead(g *guard, line string, signals <-chan os.Signal) (why string) {
	noTerminal := &run{console: &console{}}
	ch, err := noTerminal.startChild([]string{"sh", "-c", line}, g.env(), nil)
	if err == nil {
		if why = g.wait(ch, signals); why != "" {
			return why
		}
		err = ch.err
	}
	if err != nil {
		r.note("coord: --on-lead: %v", err)
	}
	return ""
}

// tellLead prints a change of the leadership at once.
func (r *run) tellLead(l jsonLead, g *guard) {
	switch {
	case r.json:
		r.object(l)
	case l.Event == "lost":
		r.printf("lost %s\n", l.Why)
	default:
		r.printf("leader %s\n", g.lock.Token)
	}
	_ = r.flush() // the error stays in the writer
}

// who prints the leader's name.
func (r *run) who(ctx context.Context, path string) error {
	return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		all, err := lockQueue(ctx, c, path)
		switch {
		case err != nil && !errors.Is(err, znode.ErrNoNode):
			return err
		case len(all) == 0:
			return &falseError{path + ": there is no leader"}
		case r.json:
			r.object(jsonLead{V: schema, Event: "leader", Path: path, ID: all[0].holder, Token: all[0].item.Stat.Czxid.String()})
		default:
			r.printf("%s\n", all[0].holder)
		}
		return nil
	})
}
