// Package cmd is coord's command line: it turns arguments, the environment and a
// configuration file into the inputs of the other rooms, prints what they return,
// and maps their errors to exit codes. Each command has a file of its own; these
// files are shared by all commands:
//
//	main.go     Main: from the arguments to the exit code
//	timers.go   settings of the process that a server needs before it starts
//	command.go  what a command is, and the table of all of them
//	args.go     flags before and after the arguments
//	exit.go     the exit codes, and which error gives which
//	report.go   errors and hints on stderr
//	console.go  stdin, stdout and stderr: terminal detection, JSON, progress
//	complete.go shell completion
//	dump.go     the formats of export and import; the larger ones have a file each
//	connect.go  the flags of commands that talk to a server
//	explain.go  --explain: prints the requests instead of sending them
//	value.go    VALUE arguments: a word, @file, -
//
// docs/commands.md and docs/configuration.md describe all this for users; tests
// compare them with the tables here.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
)

// Run runs the command of this process, os.Args, and returns its exit code.
func Run() int {
	if slices.Contains(os.Args, "server") { // cheap test first: only then parse the line a second time
		if line, err := parseLine(commands(), os.Args[1:]); err == nil && !line.help && line.command.name == "server" {
			easeTimers()
		}
	}
	return Main(os.Args, os.Stdin, os.Stdout, os.Stderr)
}

// Main runs one command and returns the exit code of the process.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// If the reader of a pipe leaves early, the write fails, but the process goes
	// on: there may be a half-written file to remove.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)

	ctx, stop := catchSignals(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	c := newConsole(ctx, stdin, stdout, stderr)
	err := c.settle(ctx, dispatch(ctx, c, nil, args))
	if err == nil {
		return exitOK
	}
	c.report(err)
	return exitCode(err)
}

// dispatch finds the command and runs it. In a shell, of is the shell's link; otherwise it is nil.
func dispatch(ctx context.Context, c *console, of *link, args []string) error {
	if len(args) == 0 {
		args = []string{"coord"}
	}
	line, err := parseLine(append(commands(), completeCommand()), args[1:])
	c.quiet, c.json = line.has("quiet"), line.has("json")
	if err != nil {
		return err
	}
	if line.help {
		return c.help(line.command)
	}
	cmd := line.command
	if n := len(line.args); n < cmd.min || cmd.max >= 0 && n > cmd.max {
		return meant(wrongArguments(cmd, line.args), cmd, line.args)
	}
	app := &cli.App{
		Name: "coord", HideHelp: true, HideVersion: true, DisableSliceFlagSeparator: true,
		Writer: io.Discard, ErrWriter: io.Discard,
		Compiled:       time.Unix(0, 0), // unused; without it cli looks for the binary's file
		ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{{
			Name: cmd.name, HideHelp: true, Flags: cmd.allFlags(),
			OnUsageError: func(_ *cli.Context, err error, _ bool) error { return badFlag(cmd, err) },
			Action: func(f *cli.Context) error {
				r := &run{console: c, link: of, cmd: cmd, flags: f, line: line, args: line.args, literal: line.literal}
				if r.flags.Bool("explain") && cmd.name != "shell" { // in a shell, each command explains itself
					return r.explain(ctx)
				}
				return meant(cmd.run(ctx, r), cmd, line.args)
			},
		}},
	}
	full := append([]string{"coord", cmd.name}, line.flags...)
	full = append(append(full, "--"), line.args...)
	return app.RunContext(ctx, full)
}

// run is one execution of a command.
type run struct {
	*console
	link      *link // the connection of the shell that runs the command; nil outside a shell
	cmd       *command
	flags     *cli.Context // with the values from the environment
	line      *line
	args      []string
	literal   int        // index of the first argument that stood after "--"
	explainer *explainer // with --explain: takes the place of the server
}

// given says whether a flag is set on the command line itself, not only in the environment.
func (r *run) given(flag string) bool {
	return slices.ContainsFunc(r.line.flags, func(f string) bool { return f == "--"+flag || strings.HasPrefix(f, "--"+flag+"=") })
}

// badFlag puts the flag package's errors into our words.
func badFlag(cmd *command, err error) error {
	msg, hint := err.Error(), "coord help "+cmd.name
	if rest, ok := strings.CutPrefix(msg, "invalid value "); ok {
		msg = "invalid value " + strings.Replace(strings.TrimSuffix(rest, ": parse error"), " for flag -", " for --", 1)
	}
	if strings.Contains(msg, "timeout") {
		hint = "expected a time such as 500ms, 10s or 1m"
	}
	return &usageError{msg: msg, hint: hint}
}

// wrongArguments says how many arguments a command takes.
func wrongArguments(cmd *command, args []string) error {
	hint := "coord help " + cmd.name
	if len(args) < cmd.min {
		return &usageError{msg: "an argument is missing: coord " + strings.TrimSpace(cmd.name+" "+cmd.args), hint: hint}
	}
	msg := fmt.Sprintf("unexpected argument %q: coord %s", args[cmd.max], strings.TrimSpace(cmd.name+" "+cmd.args))
	if cmd.max > 0 {
		hint = "quote a value that has spaces; coord help " + cmd.name
	}
	return &usageError{msg: msg, hint: hint}
}

// signalError says that a signal interrupted the command.
type signalError struct {
	sig   syscall.Signal
	while error // the state of the work at that moment; nil: nothing to report
}

func (e *signalError) Error() string {
	word := "interrupted"
	if e.sig == syscall.SIGTERM {
		word = "terminated"
	}
	if e.while != nil {
		return word + ": " + e.while.Error()
	}
	return word
}

// after is the error of a command that failed with err because of the signal. It
// reports more than the signal only if something may have been changed.
func (e *signalError) after(err error) error {
	if u, ok := errors.AsType[*client.Error](err); ok && isUncertain(u) && !is[*partError](err) {
		return &signalError{e.sig, &client.Error{Code: u.Code, Path: u.Path, Op: u.Op}} // without its cause, which is the signal
	}
	if isUncertain(err) || is[*partError](err) {
		return &signalError{e.sig, err}
	}
	return &signalError{sig: e.sig}
}

// catchSignals makes a context that ends with the first of the given signals. A
// second signal ends the process.
func catchSignals(ctx context.Context, signals ...os.Signal) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ch := make(chan os.Signal, 1)
	listen(ch, signals...)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-ch:
			signal.Stop(ch)
			sig, _ := s.(syscall.Signal)
			cancel(&signalError{sig: sig})
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		cancel(nil)
	}
}

// listen has signals sent to ch. An ignored SIGHUP (nohup) stays ignored: signal.Notify
// would end that, also for the child processes.
func listen(ch chan<- os.Signal, signals ...os.Signal) {
	for _, s := range signals {
		if s != syscall.SIGHUP || !signal.Ignored(s) {
			signal.Notify(ch, s)
		}
	}
}
