// Package cmd is coord's command line: it turns arguments, environment and a
// configuration file into what the other rooms take, prints what they return,
// and maps their errors to exit codes. A file a command; what all of them share:
//
//	main.go     Main: from the arguments to the exit code
//	timers.go   what a server asks of the system before it is one
//	command.go  what a command is, and the table of all of them
//	args.go     flags before and after the arguments
//	exit.go     the exit codes, and which error gives which
//	report.go   errors and hints on stderr
//	console.go  stdin, stdout and stderr: what is a terminal, JSON, progress
//	complete.go what shells complete
//	dump.go     the formats of export and import; a file each for the larger ones
//	connect.go  the flags of commands that talk to a server
//	explain.go  --explain: what they would send
//	value.go    VALUE arguments: a word, @file, -
//
// docs/commands.md and docs/configuration.md are the users' description; tests
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

// Run is all that the process does: its own command, to the exit code.
func Run() int {
	if slices.Contains(os.Args, "server") { // else it need not be parsed twice
		if line, err := parseLine(commands(), os.Args[1:]); err == nil && !line.help && line.command.name == "server" {
			easeTimers()
		}
	}
	return Main(os.Args, os.Stdin, os.Stdout, os.Stderr)
}

// Main runs one command and returns the exit code of the process.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// A reader that leaves early is an error of the write, not the end of the
	// process: there may be a half-written file to remove.
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

// dispatch finds the command and runs it; in a shell it has its link.
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
		Compiled:       time.Unix(0, 0), // unused; else cli looks for the binary's file
		ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{{
			Name: cmd.name, HideHelp: true, Flags: cmd.allFlags(),
			OnUsageError: func(_ *cli.Context, err error, _ bool) error { return badFlag(cmd, err) },
			Action: func(f *cli.Context) error {
				r := &run{console: c, link: of, cmd: cmd, flags: f, line: line, args: line.args, literal: line.literal}
				if r.flags.Bool("explain") && cmd.name != "shell" { // whose commands each do
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

// run is one command being run.
type run struct {
	*console
	link      *link // of the shell that runs it; nil: there is none
	cmd       *command
	flags     *cli.Context // and the environment's values of them
	line      *line
	args      []string
	literal   int        // arguments from here on stood behind "--"
	explainer *explainer // in the place of a server, with --explain
}

// given says whether a flag stands on the command line itself.
func (r *run) given(flag string) bool {
	return slices.ContainsFunc(r.line.flags, func(f string) bool { return f == "--"+flag || strings.HasPrefix(f, "--"+flag+"=") })
}

// badFlag words the flag package's errors as ours.
func badFlag(cmd *command, err error) error {
	msg, hint := err.Error(), "coord help "+cmd.name
	if rest, ok := strings.CutPrefix(msg, "invalid value "); ok {
		msg = "invalid value " + strings.Replace(strings.TrimSuffix(rest, ": parse error"), " for flag -", " for --", 1)
	}
	if strings.Contains(msg, "timeout") {
		hint = "a time such as 500ms, 10s or 1m is meant"
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

// signalError is why a command was interrupted.
type signalError struct {
	sig   syscall.Signal
	while error // what became of the work
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

// after is the error of a command that the signal has ended. It says more than
// that only if something may have been changed.
func (e *signalError) after(err error) error {
	if u, ok := errors.AsType[*client.Error](err); ok && isUncertain(u) && !is[*partError](err) {
		return &signalError{e.sig, &client.Error{Code: u.Code, Path: u.Path, Op: u.Op}} // the signal is why
	}
	if isUncertain(err) || is[*partError](err) {
		return &signalError{e.sig, err}
	}
	return &signalError{sig: e.sig}
}

// catchSignals makes a context that ends with the first of some signals. The second
// one ends the process.
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

// listen has signals sent to ch. Under nohup HUP is none: to ask for it would end that it is
// ignored, for the processes too that this one starts.
func listen(ch chan<- os.Signal, signals ...os.Signal) {
	for _, s := range signals {
		if s != syscall.SIGHUP || !signal.Ignored(s) {
			signal.Notify(ch, s)
		}
	}
}
