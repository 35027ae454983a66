package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

func watchCommand() *command {
	return &command{
		name: "watch", args: "PATH [-- COMMAND [ARGUMENT…]]", does: "print the changes of a znode, or run a command for each",
		min: 1, max: -1, connects: true, asks: neverAsks,
		details: `Without COMMAND each change is a line on stdout: EVENT ZXID VERSION PATH; VERSION is - if there is none. EVENT is created,
changed, deleted, or children (a child was created or deleted). With -r each znode below has its own events, and there is no
children. With --initial the first events are initial for each existing znode, or missing. --json has the values too.

COMMAND runs directly, without a shell, once for each change, and at the start only with --initial. It gets COORD_EVENT,
COORD_PATH, COORD_ZXID, COORD_VERSION, and the value on stdin and in COORD_VALUE; a value over 32 KiB or with a NUL byte is
in the file COORD_VALUE_FILE instead, which is removed afterwards. It need not read stdin. Runs never overlap: a change
that comes meanwhile waits (--queue), is left out (--drop), or ends the run (--restart: TERM, KILL after 5 s, and then a
run for the newest change). Changes are combined only by --debounce or --batch. A run that fails is reported, and the
next change runs it again. TERM, INT, HUP, QUIT, USR1 and USR2 are passed on to its process group.

--since last records the change delivered last in a file, so that a watch that starts again reports what it missed and
repeats nothing. The record advances when a change is printed, or COMMAND has succeeded. If the server has forgotten the
changes since then, the exit code is 16; with --initial the watch reports the present state of everything instead.

The server may restart: the watch connects again and continues where it was. --timeout is how long the server may be away
(exit code 7); with --until or --once it covers everything (8).

Exit codes: 0 for --until and --once; 7, 8 and 16 as above; with --once and COMMAND its own code, or 124 no change in time,
125 coord failed before the start; 126 COMMAND is not executable, 127 not found.`,
		examples: []string{
			"coord watch /app/url", "coord watch -r --json /app | jq .path", "coord watch --initial /app/url -- sh -c 'echo now $COORD_VALUE'",
			"coord watch -r --since last --debounce 200ms --batch /app -- ./reload.sh", "coord watch --restart --initial /app/conf --exec './serve --port 80'",
			"coord watch --until VALUE=ready --timeout 1m /app/state",
		},
		flags: []cli.Flag{
			boolFlag("recursive", "all znodes below too", "r"),
			boolFlag("initial", "first report the present state"),
			&cli.StringFlag{Name: "since", Usage: "begin after `ZXID`; last: after the change delivered last, see --state"},
			&cli.StringFlag{Name: "state", Usage: "the `FILE` of --since last", DefaultText: "named after server and path, in ~/.local/state/coord"},
			&cli.DurationFlag{Name: "debounce", Usage: "wait until nothing has changed for `TIME`, at most ten times that, and report the newest change of each znode", DefaultText: "report each at once"},
			boolFlag("batch", "one run for all waiting changes, each a line of JSON on stdin"),
			&cli.StringFlag{Name: "exec", Usage: "a `COMMAND` as one argument, split at spaces and quotes; otherwise the same as after --"},
			boolFlag("once", "end after the first change"),
			&cli.StringFlag{Name: "until", Usage: "end once this condition holds: `VALUE=x`, exists or gone"},
			boolFlag("queue", "changes during a run wait for its end: the default"),
			boolFlag("drop", "changes during a run are left out"),
			boolFlag("restart", "a change ends the run, and begins another"),
		},
		run: runWatch,
	}
}

// Types of changes that a watch reports in addition to the server's events.
const (
	eventInitial = "initial" // the current state of a znode
	eventMissing = "missing" // PATH does not exist
	eventMark    = ""        // reported to nobody: only the position moves
)

// busyPolicy says what happens to a change that arrives while the command runs.
type busyPolicy uint8

const (
	busyQueue busyPolicy = iota
	busyDrop
	busyRestart
)

// maxEnvValue is the longest value that goes into the environment, whose total size
// the kernel limits.
const maxEnvValue = 32 << 10

// debounceMost limits how long a change waits while changes keep coming: this many
// times --debounce.
const debounceMost = 10

// watcher is one coord watch. Its feed talks to the server, its state is the file;
// the goroutine of the command delivers the changes that the feed pushes.
type watcher struct {
	r     *run
	path  string
	argv  []string // the command; nil: print
	once  bool
	batch bool
	busy  busyPolicy
	wait  time.Duration // --debounce
	until *goal
	limit time.Duration // --timeout; 0: not given

	queue *backlog
	feed  *feed
	state *watchState // nil: no position is kept

	// Owned by the goroutine that delivers.
	due       []change        // to be delivered next, in this order
	pending   []change        // held back by --debounce, --batch or --restart
	held      map[heldKey]int // with --debounce: indexes into pending
	heldBytes int
	firstAt   time.Time // when the first change of pending came
	quiet     *time.Timer
	run       *watchRun // the current run; nil: none
	failed    bool      // the newest run failed: the position stays before its changes
	missing   bool      // after the delivered changes, PATH does not exist
	met       bool      // the condition of --until holds; the current run may still finish
}

// goal is the condition of --until.
type goal struct {
	word  string // exists, gone, or VALUE
	value string
}

func parseUntil(s string) (*goal, error) {
	word, value, is := strings.Cut(s, "=")
	switch {
	case is && strings.EqualFold(word, "value"):
		return &goal{"VALUE", value}, nil
	case !is && (strings.EqualFold(s, "exists") || strings.EqualFold(s, "gone")):
		return &goal{word: strings.ToLower(s)}, nil
	}
	return nil, &usageError{msg: "--until " + s + ": expected VALUE=x, exists or gone", hint: "coord help watch"}
}

// met says whether a change, or the current state of a znode, fulfils the condition.
func (u *goal) met(typ string, data []byte) bool {
	switch typ {
	case "created", "changed", eventInitial:
		return u.word == "exists" || u.word == "VALUE" && string(data) == u.value
	case "deleted", eventMissing:
		return u.word == "gone"
	}
	return false
}

func (u *goal) String() string {
	if u.word == "VALUE" {
		return "does not have the value " + quote(u.value)
	}
	return map[string]string{"exists": "does not exist", "gone": "still exists"}[u.word]
}

// command is the command to run: the arguments after --, or the words of --exec.
func (r *run) command() (argv []string, err error) {
	behind, exec := r.args[min(r.literal, len(r.args)):], r.flags.String("exec")
	switch {
	case r.literal == 0 && len(r.args) > 0:
		return nil, &usageError{msg: "PATH must stand before --", hint: "coord watch PATH -- COMMAND"}
	case r.literal > 1:
		return nil, &usageError{msg: "unexpected argument " + quote(r.args[1]), hint: "the command to run must stand after --: coord watch " + r.args[0] + " -- COMMAND ARGUMENTS"}
	case !r.flags.IsSet("exec"):
		return behind, nil
	case len(behind) > 0:
		return nil, usagef("--exec and a command after -- exclude each other")
	}
	words, err := splitWords(exec)
	switch {
	case err != nil:
		return nil, usagef("--exec %s: %v", exec, err)
	case len(words) == 0:
		return nil, usagef("--exec: the command is empty")
	}
	for _, w := range words {
		argv = append(argv, w.text)
	}
	return argv, nil
}

func (r *run) newWatcher() (w *watcher, since string, err error) {
	w = &watcher{r: r, once: r.flags.Bool("once"), batch: r.flags.Bool("batch"), wait: r.flags.Duration("debounce")}
	if w.argv, err = r.command(); err != nil {
		return nil, "", err
	}
	if w.path, err = r.path(znode.Persistent); err != nil {
		return nil, "", err
	}
	policies := 0
	for p, name := range []string{busyQueue: "queue", busyDrop: "drop", busyRestart: "restart"} {
		if r.flags.Bool(name) {
			w.busy = busyPolicy(p)
			policies++
		}
	}
	since = r.flags.String("since")
	switch {
	case policies > 1:
		return nil, "", usagef("--queue, --drop and --restart exclude each other")
	case len(w.argv) == 0 && (policies > 0 || w.batch):
		return nil, "", &usageError{msg: "--batch, --queue, --drop and --restart need a command", hint: "coord watch " + w.path + " -- COMMAND"}
	case r.flags.IsSet("debounce") && w.wait <= 0:
		return nil, "", usagef("--debounce %v: expected more than 0", w.wait)
	case r.flags.IsSet("since") && since == "":
		return nil, "", usagef("--since: expected a zxid or last")
	case r.flags.IsSet("state") && (since != "" && since != "last" || r.flags.String("state") == ""):
		return nil, "", usagef("--state needs a FILE, and --since last or no --since")
	case r.flags.IsSet("state"):
		since = "last"
	}
	if r.flags.IsSet("until") {
		if w.until, err = parseUntil(r.flags.String("until")); err != nil {
			return nil, "", err
		}
	}
	if d, given := r.timeout(); given {
		w.limit = d
	}
	w.quiet = time.NewTimer(0)
	<-w.quiet.C
	return w, since, nil
}

func runWatch(ctx context.Context, r *run) error {
	w, since, err := r.newWatcher()
	if err != nil {
		return err
	}
	if len(w.argv) > 0 {
		if err := lookUpCommand(w.argv[0]); err != nil {
			return err
		}
	}
	err = w.watch(ctx, since)
	if w.once && len(w.argv) > 0 {
		if errors.Is(err, znode.ErrTimeout) {
			return &codeError{exitNotInTime, err}
		}
		return notBegun(err)
	}
	return err
}

// lookUpCommand reports a command that cannot be run before the watch begins.
func lookUpCommand(name string) error {
	_, err := exec.LookPath(name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return &codeError{exitNoCommand, fmt.Errorf("%s: there is no such command", name)}
	}
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	return &codeError{exitNotStarted, fmt.Errorf("%s cannot be executed: %w", name, err)}
}

// explain sends the request on which a watch is based, and nothing else.
func (w *watcher) explain(ctx context.Context) error {
	return w.r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		_, _, err := c.Follow(ctx, w.path, client.FollowOptions{Recursive: w.r.flags.Bool("recursive"), Data: w.r.json || len(w.argv) > 0})
		return err
	})
}

// watch sets up the feed and the state, and delivers until the end.
func (w *watcher) watch(ctx context.Context, since string) (err error) {
	r := w.r
	servers, o, err := r.target("coord watch")
	if err != nil {
		return err
	}
	if r.explainer != nil {
		return w.explain(ctx)
	}
	w.queue = newBacklog()
	w.feed = &feed{
		r: r, path: w.path, recursive: r.flags.Bool("recursive"), initial: r.flags.Bool("initial"),
		data:    r.json || len(w.argv) > 0 || w.until != nil && w.until.word == "VALUE",
		current: w.until != nil,
		servers: servers, options: o, queue: w.queue,
	}
	if !w.once && w.until == nil {
		w.feed.away = w.limit
	}
	switch {
	case since == "last":
		if w.state, err = openWatchState(r, w.path, w.feed.recursive); err != nil {
			return err
		}
		defer func() {
			if saveErr := w.state.close(); err == nil {
				err = saveErr
			}
		}()
		w.feed.resume, w.feed.missing = w.state.at, w.state.missing
		w.feed.stateFile, w.missing = w.state.file, w.state.missing
	case since != "":
		zxid, err := strconv.ParseUint(since, 0, 64)
		if err != nil {
			return &usageError{msg: "--since " + since + ": expected a zxid such as 0x100000005, or last"}
		}
		w.feed.resume = &position{zxid: znode.Zxid(zxid)}
	}

	var end <-chan time.Time
	if w.limit > 0 && (w.once || w.until != nil) {
		t := time.NewTimer(w.limit)
		defer t.Stop()
		end = t.C
	}
	feedCtx, stop := context.WithCancel(ctx)
	w.feed.ended = make(chan struct{})
	go func() {
		defer close(w.feed.ended)
		w.feed.err = w.feed.run(feedCtx)
	}()
	defer func() {
		stop()
		w.queue.close()
		<-w.feed.ended
	}()
	return w.deliver(ctx, end)
}

// jsonEvent is a change as --json prints it and --batch passes it to the command.
type jsonEvent struct {
	V       int    `json:"v"`
	Event   string `json:"event"`
	Path    string `json:"path"`
	Zxid    string `json:"zxid"`
	Version *int32 `json:"version,omitempty"`
	jsonData
}

func eventOf(e *client.Event) jsonEvent {
	out := jsonEvent{V: schema, Event: e.Type, Path: e.Path, Zxid: e.Zxid.String()}
	if hasVersion(e) {
		out.Version = &e.Version
	}
	if e.HasData {
		out.jsonData = dataOf(e.Data)
	}
	return out
}

func hasVersion(e *client.Event) bool {
	return e.Type == "created" || e.Type == "changed" || e.Type == eventInitial
}

// print writes a change to stdout at once.
func (w *watcher) print(e *client.Event) error {
	if w.r.json {
		w.r.object(eventOf(e))
	} else {
		version := "-"
		if hasVersion(e) {
			version = strconv.Itoa(int(e.Version))
		}
		w.r.printf("%s %s %s %s\n", e.Type, e.Zxid, version, e.Path)
	}
	return w.r.flush()
}
