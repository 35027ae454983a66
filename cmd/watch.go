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
		name: "watch", args: "PATH [-- COMMAND [ARGUMENT…]]", does: "tell the changes of a znode, or run a command for each",
		min: 1, max: -1, connects: true, asks: neverAsks,
		details: `Without COMMAND each change is a line on stdout: EVENT ZXID VERSION PATH, VERSION - if there is none. EVENT is created,
changed, deleted, or children (a child was created or deleted); with -r it tells of all znodes below, each by itself, and
there is no children. --initial adds, at first, initial for each znode that is there, or missing. --json has the values too.

COMMAND runs directly, without a shell, once for each change; not at the start, but for --initial. It gets COORD_EVENT,
COORD_PATH, COORD_ZXID, COORD_VERSION, and the value on stdin and in COORD_VALUE; a value over 32 KiB or with a NUL byte is
in the file COORD_VALUE_FILE instead, which is removed afterwards. It need not read stdin. Runs never overlap: a change
that comes meanwhile waits (--queue), is left out (--drop), or ends the run (--restart: TERM, KILL after 5 s, and then a
run for the newest change). Nothing is put together, unless by --debounce or --batch. A run that fails is reported, and the
next change runs it again. TERM, INT, HUP, QUIT, USR1 and USR2 are handed on to its process group.

--since last keeps in a file which change was delivered last, so that a watch that begins again tells what it missed and
repeats nothing. The file moves on when a change is printed, or COMMAND has succeeded. When the server has forgotten what
came since, that is exit code 16; with --initial all is told as it is now instead.

The server may restart: the watch connects again and goes on where it was. --timeout is how long it may be away (exit
code 7); with --until or --once it is the time for all (8).

Exit codes: 0 for --until and --once; 7, 8 and 16 as above; with --once and COMMAND its own code, or 124 no change in time,
125 coord failed before the start; 126 COMMAND is not executable, 127 not found.`,
		examples: []string{
			"coord watch /app/url", "coord watch -r --json /app | jq .path", "coord watch --initial /app/url -- sh -c 'echo now $COORD_VALUE'",
			"coord watch -r --since last --debounce 200ms --batch /app -- ./reload.sh", "coord watch --restart --initial /app/conf --exec './serve --port 80'",
			"coord watch --until VALUE=ready --timeout 1m /app/state",
		},
		flags: []cli.Flag{
			boolFlag("recursive", "all znodes below too", "r"),
			boolFlag("initial", "first tell how it is now"),
			&cli.StringFlag{Name: "since", Usage: "begin behind `ZXID`; last: behind what was delivered last, see --state"},
			&cli.StringFlag{Name: "state", Usage: "the `FILE` of --since last", DefaultText: "named after server and path, in ~/.local/state/coord"},
			&cli.DurationFlag{Name: "debounce", Usage: "wait until nothing has changed for `TIME`, at most ten times that, and tell the newest change of each znode", DefaultText: "tell each at once"},
			boolFlag("batch", "one run for all changes that wait, each a line of JSON on stdin"),
			&cli.StringFlag{Name: "exec", Usage: "a `COMMAND` as one word, taken apart at spaces and quotes; the same as behind --"},
			boolFlag("once", "end after the first change"),
			&cli.StringFlag{Name: "until", Usage: "end once this is so: `VALUE=x`, exists or gone"},
			boolFlag("queue", "changes during a run wait for its end: the default"),
			boolFlag("drop", "changes during a run are left out"),
			boolFlag("restart", "a change ends the run, and begins another"),
		},
		run: runWatch,
	}
}

// What a watch tells beside the server's events.
const (
	eventInitial = "initial" // how a znode is
	eventMissing = "missing" // PATH is not there
	eventMark    = ""        // nobody is told: only the position moves
)

// The policies for a change that comes while the command runs.
type busyPolicy uint8

const (
	busyQueue busyPolicy = iota
	busyDrop
	busyRestart
)

// maxEnvValue is the longest value that goes into the environment: all of it
// must fit into what the kernel passes on.
const maxEnvValue = 32 << 10

// debounceMost is how many times --debounce a change waits at most, when there
// is no end of changes.
const debounceMost = 10

// watcher is one coord watch. Its feed knows the server, its state the file;
// what was fed is delivered by the goroutine of the command.
type watcher struct {
	r     *run
	path  string
	argv  []string // the command; none: print
	once  bool
	batch bool
	busy  busyPolicy
	wait  time.Duration // --debounce
	until *goal
	limit time.Duration // --timeout, 0: none was given

	queue *backlog
	feed  *feed
	state *watchState // nil: none is kept

	// Of the goroutine that delivers.
	due       []change        // to be delivered next, in this order
	pending   []change        // what --debounce holds back
	held      map[heldKey]int // with --debounce: where in pending
	heldBytes int
	firstAt   time.Time // when the first of pending came
	quiet     *time.Timer
	run       *watchRun // nil: none
	failed    bool      // the newest run failed: the position stays before it
	missing   bool      // PATH was not there, by what was delivered
	met       bool      // what --until waits for has come; what is under way is ended
}

// goal is what --until waits for.
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
	return nil, &usageError{msg: "--until " + s + ": VALUE=x, exists or gone is meant", hint: "coord help watch"}
}

// met says whether a change, or how a znode is, is what is waited for.
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
		return "has not had the value " + quote(u.value)
	}
	return map[string]string{"exists": "is not there", "gone": "is still there"}[u.word]
}

// command is what is to be run: behind --, or the words of --exec.
func (r *run) command() (argv []string, err error) {
	behind, exec := r.args[min(r.literal, len(r.args)):], r.flags.String("exec")
	switch {
	case r.literal == 0 && len(r.args) > 0:
		return nil, &usageError{msg: "PATH stands before --", hint: "coord watch PATH -- COMMAND"}
	case r.literal > 1:
		return nil, &usageError{msg: "unexpected argument " + quote(r.args[1]), hint: "the command to run stands behind --: coord watch " + r.args[0] + " -- COMMAND ARGUMENTS"}
	case !r.flags.IsSet("exec"):
		return behind, nil
	case len(behind) > 0:
		return nil, usagef("--exec and a command behind -- exclude each other")
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
		return nil, "", &usageError{msg: "--batch, --queue, --drop and --restart are for a command", hint: "coord watch " + w.path + " -- COMMAND"}
	case r.flags.IsSet("debounce") && w.wait <= 0:
		return nil, "", usagef("--debounce %v: more than nothing is meant", w.wait)
	case r.flags.IsSet("since") && since == "":
		return nil, "", usagef("--since: a zxid or last is meant")
	case r.flags.IsSet("state") && (since != "" && since != "last" || r.flags.String("state") == ""):
		return nil, "", usagef("--state FILE belongs to --since last")
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

// lookUpCommand tells before anything else that a command cannot be run.
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

// explain sends the request that it all stands on, and nothing else.
func (w *watcher) explain(ctx context.Context) error {
	return w.r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		_, _, err := c.Follow(ctx, w.path, client.FollowOptions{Recursive: w.r.flags.Bool("recursive"), Data: w.r.json || len(w.argv) > 0})
		return err
	})
}

// watch sets the parts up, and delivers until the end.
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
			return &usageError{msg: "--since " + since + ": a zxid such as 0x100000005, or last, is meant"}
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

// jsonEvent is a change as --json prints it, and --batch hands it on.
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

// print writes a change to stdout, at once.
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
