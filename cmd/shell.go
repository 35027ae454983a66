package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

func shellCommand() *command {
	return &command{
		name: "shell", args: "[FILE]", does: "run commands from the keyboard, stdin or a file", max: 1, connects: true, asks: neverAsks,
		details: `Each line is a command of coord, without the word coord. Words are quoted as in a shell: 'as it is', "with spaces", \ before
one character; # begins a comment; a quote may span lines. There are no variables, pipes or redirections.

Paths may be relative: cd PATH goes to a znode, cd to /, cd - back, pwd prints the current one. ls, tree, du and find without
a path mean the current znode. help [COMMAND] explains, exit [CODE] ends, as does the end of the input. The flags of coord
shell that commands share (--server, --timeout, --auth-file, --json, -q) apply to every line that does not have its own. All
lines use one connection; commands that are tied to a connection (lock, elect, barrier, watch, those with a session) have
their own.

On a terminal: Tab completes commands, flags, and paths from the live tree; the history is in ~/.local/state/coord (or
$XDG_STATE_HOME/coord), except lines that begin with a space; Ctrl-C ends the running command; errors are red, unless
NO_COLOR is set.

Otherwise it is a script: it stops at the first line that fails, with its exit code and number. An exists that says no is a
line that fails. With --keep-going all lines run, and the exit code is that of the first line that failed. In a script from
stdin a VALUE cannot be -, because stdin is the script.`,
		examples: []string{"coord shell", "coord shell setup.coord", "printf 'cd /app\\nset url http://10.0.0.7/\\nls\\n' | coord shell", "coord shell --keep-going --json < checks.coord"},
		flags:    []cli.Flag{boolFlag("keep-going", "in a script: report a line that fails, and continue", "k")},
		run:      runShell,
	}
}

// shellOwn are the commands of the shell itself, as help shows them.
var shellOwn = []helpRow{
	{"cd [PATH]", "go to a znode; without PATH to /; - goes back"},
	{"pwd", "say where you are"},
	{"exit [CODE]", "end the shell, as quit or the end of the input do"},
}

// notInShell are the commands that make no sense in the shell.
var notInShell = []string{"shell", "server"}

// atCwd are the commands whose PATH defaults to the current znode.
var atCwd = []string{"ls", "tree", "du", "find"}

// shell runs lines. Only one goroutine may use it.
type shell struct {
	r        *run
	cwd, old string
	shared   []string  // added to every line
	stdin    io.Reader // of the commands
	source   string    // of the lines, for messages; empty: the keyboard
	tty      bool      // lines come from the keyboard
	first    int       // exit code of the first line that failed
	nFailed  int
	nRun     int
}

// exitRequest ends the shell.
type exitRequest struct{ code int }

func (e *exitRequest) Error() string { return "exit " + strconv.Itoa(e.code) }

// ended is the error of the shell after exit: it prints nothing and has the
// requested exit code, also when a signal came before.
func (e *exitRequest) ended() error {
	if e.code == exitOK {
		return nil
	}
	return &codeError{code: e.code}
}

// scriptError is the error of a line.
type scriptError struct {
	source string
	line   int
	what   string // the command
	err    error
}

func (e *scriptError) Error() string {
	msg := e.err.Error()
	if msg == "" {
		msg = fmt.Sprintf("%s ended with exit code %d", e.what, exitCode(e.err))
	}
	return fmt.Sprintf("%s, line %d: %s", e.source, e.line, msg)
}
func (e *scriptError) Unwrap() error { return e.err }

// noStdin is the stdin of the commands of a script that is itself read from stdin.
type noStdin struct{}

func (noStdin) Read([]byte) (int, error) {
	return 0, usagef("stdin is the script itself: use a file")
}

func runShell(ctx context.Context, r *run) error {
	s := &shell{r: r, cwd: "/", old: "/"}
	r.link = &link{}
	defer r.link.close()
	for _, f := range r.line.flags {
		name, _, _ := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		if findFlag((&command{connects: true}).commonFlags(), name) != nil {
			s.shared = append(s.shared, f)
		}
	}
	switch {
	case len(r.args) == 1 && r.args[0] != "-":
		f, err := os.Open(r.args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		s.source, s.stdin = r.args[0], r.in
		return s.script(ctx, f)
	case r.inTTY && r.outTTY && len(r.args) == 0:
		s.stdin, s.tty = r.in, true
		return s.interact(ctx)
	}
	s.source, s.stdin = "stdin", noStdin{}
	return s.script(ctx, r.in)
}

// script runs lines until one fails.
func (s *shell) script(ctx context.Context, from io.Reader) error {
	lines := bufio.NewReader(from)
	for n := 1; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		text, words, used, err := readLines(ctx, lines)
		at := n
		n += used
		if err == io.EOF { //nolint:errorlint // ours
			break
		}
		if err == nil {
			err = s.line(ctx, words)
		} else if ctx.Err() == nil {
			err = usagef("%v", err)
		}
		if stop, ok := errors.AsType[*exitRequest](err); ok {
			if stop.code != exitOK {
				return stop.ended()
			}
			break
		}
		if err == nil {
			continue
		}
		if errors.Is(err, errOut) || is[*signalError](err) || ctx.Err() != nil {
			return err
		}
		failed := &scriptError{s.source, at, firstWord(words, text), err}
		if !s.r.flags.Bool("keep-going") {
			return failed
		}
		s.r.report(failed)
		if s.nFailed++; s.first == 0 {
			s.first = exitCode(failed)
		}
	}
	if s.nFailed > 0 {
		return &codeError{s.first, fmt.Errorf("%s: %d of %d commands failed", s.source, s.nFailed, s.nRun)}
	}
	return nil
}

func firstWord(words []lineWord, text string) string {
	if len(words) == 0 {
		return strings.TrimSpace(text)
	}
	return words[0].text
}

// mostLine is the longest line: the longest value that a server can accept, with
// every byte quoted.
const mostLine = 64 << 20

// readLines reads a line, and the lines after it while a quote is open.
func readLines(ctx context.Context, from *bufio.Reader) (text string, words []lineWord, used int, err error) {
	type got struct {
		line string
		err  error
	}
	for {
		next := make(chan got, 1)
		go func() { // abandoned after a signal: then the process ends too
			line, err := from.ReadString('\n')
			next <- got{line, err}
		}()
		var g got
		select {
		case g = <-next:
		case <-ctx.Done():
			return text, nil, used, context.Cause(ctx)
		}
		text += g.line
		if g.line != "" {
			used++
		}
		if used == 0 {
			if g.err == io.EOF { //nolint:errorlint // bare
				return "", nil, 0, io.EOF
			}
			return "", nil, 0, g.err
		}
		words, err = splitWords(strings.TrimSuffix(text, "\n"))
		switch {
		case err == nil:
			return text, words, used, nil
		case g.err != nil, len(text) > mostLine:
			return text, words, used, err
		}
	}
}

// line runs one line.
func (s *shell) line(ctx context.Context, words []lineWord) error {
	if len(words) > 0 && words[0].text == "coord" { // typed out of habit
		words = words[1:]
	}
	if len(words) == 0 {
		return nil
	}
	s.nRun++
	for _, w := range words[1:] {
		if !w.quoted && slices.Contains([]string{"|", ">", ">>", "<", ";", "&", "&&", "||"}, w.text) {
			return &usageError{msg: "the shell does not support " + w.text, hint: "a line is one command; quote it if it is a value: '" + w.text + "'"}
		}
	}
	args := make([]string, len(words))
	for i, w := range words {
		args[i] = w.text
	}
	switch args[0] {
	case "cd":
		return s.cd(ctx, args[1:])
	case "pwd":
		if len(args) > 1 {
			return usagef("pwd takes no arguments")
		}
		if s.r.json {
			s.r.object(struct {
				V    int    `json:"v"`
				Path string `json:"path"`
			}{schema, s.cwd})
		} else {
			s.r.printf("%s\n", s.cwd)
		}
		return s.r.flush()
	case "exit", "quit":
		return exitShell(args)
	case "help":
		if len(args) == 1 {
			return s.help(ctx)
		}
		for _, row := range shellOwn {
			if name, _, _ := strings.Cut(row.Name, " "); len(args) == 2 && name == args[1] {
				s.r.printf("%s\n\n%s.\n", row.Name, strings.ToUpper(row.Does[:1])+row.Does[1:])
				return s.r.flush()
			}
		}
	}
	return s.command(ctx, args)
}

func exitShell(args []string) error {
	code := exitOK
	if len(args) > 1 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 0 || n > 255 || len(args) > 2 {
			return usagef("%s: expected a number from 0 to 255", strings.Join(args, " "))
		}
		code = n
	}
	return &exitRequest{code}
}

func (s *shell) help(ctx context.Context) error {
	if err := s.command(ctx, []string{"help"}); err != nil {
		return err
	}
	s.r.printf("\nOnly in the shell\n")
	for _, row := range shellOwn {
		s.r.printf("  %-14s %s\n", row.Name, row.Does)
	}
	return s.r.flush()
}

// command runs a command of coord as a process of its own would.
func (s *shell) command(ctx context.Context, args []string) error {
	words, err := s.complete(args)
	if err != nil {
		return err
	}
	c := &console{in: s.stdin, out: s.r.out, err: s.r.err, stdout: s.r.stdout, stderr: s.r.stderr, inTTY: s.r.inTTY && s.tty, outTTY: s.r.outTTY, tty: s.r.tty}
	return c.settle(ctx, dispatch(ctx, c, s.r.link, append([]string{"coord"}, words...)))
}

// complete turns a line into the arguments of dispatch: it adds the flags of every
// line and makes paths absolute.
func (s *shell) complete(args []string) ([]string, error) {
	l, err := parseLine(commands(), args)
	if err != nil {
		return nil, err
	}
	if l.help || l.command == nil {
		return args, nil
	}
	if slices.Contains(notInShell, l.command.name) {
		return nil, &usageError{msg: "coord " + l.command.name + " is not available in the shell", hint: "exit ends the shell"}
	}
	words := strings.Fields(l.command.name)
	for _, f := range s.shared {
		name, _, _ := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		if findFlag(l.command.commonFlags(), name) != nil {
			words = append(words, f)
		}
	}
	words = append(words, l.flags...)
	if len(l.args) == 0 && slices.Contains(atCwd, l.command.name) {
		return append(words, s.cwd), nil
	}
	for i, arg := range l.args {
		if i == l.literal {
			words = append(words, "--")
		}
		if isPath(l.command, i) && i <= l.literal {
			arg = s.resolve(arg, l.has("seq"))
		}
		words = append(words, arg)
	}
	return words, nil
}

// isPath says whether argument i of a command is the path of a znode.
func isPath(c *command, i int) bool {
	names := strings.Fields(c.args)
	if i >= len(names) {
		if n := len(names); n == 0 || !strings.HasSuffix(strings.TrimSuffix(names[n-1], "]"), "…") {
			return false
		}
		i = len(names) - 1
	}
	if slices.Contains(names[:i], "--") {
		return false
	}
	switch strings.Trim(names[i], "[]….") {
	case "PATH", "SRC", "DST":
		return true
	}
	return false
}

// resolve makes a path absolute, relative to the current znode. With seq it may end
// with /.
func (s *shell) resolve(p string, seq bool) string {
	if p == "" {
		return p
	}
	abs := p
	if p[0] != '/' {
		abs = s.cwd + "/" + p
	}
	clean := path.Clean(abs)
	if seq && strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// cd changes to a znode that exists.
func (s *shell) cd(ctx context.Context, args []string) error {
	to := "/"
	switch {
	case len(args) > 1:
		return &usageError{msg: "cd takes one path", hint: "quote a path that has spaces"}
	case len(args) == 1 && args[0] == "-":
		to = s.old
	case len(args) == 1:
		to = s.resolve(args[0], false)
	}
	if err := znode.CheckPath(to); err != nil {
		return usagef("cd: %v", err)
	}
	ctx, cancel := s.r.limit(ctx)
	defer cancel()
	c, err := s.r.reach(ctx)
	if err != nil {
		return err
	}
	_, ok, err := c.Exists(ctx, to)
	switch {
	case err != nil:
		return err
	case !ok:
		return &client.Error{Code: znode.ErrNoNode, Path: to, Op: -1}
	}
	s.cwd, s.old = to, s.cwd
	return nil
}

// interruptible is a context for one command from the keyboard: Ctrl-C ends the
// command, but not the shell.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGINT)
	go func() {
		select {
		case <-ch:
			cancel(&signalError{sig: syscall.SIGINT})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		signal.Stop(ch)
	}
}
