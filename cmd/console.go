package cmd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// errOut marks what writing to stdout failed with.
var errOut = errors.New("stdout")

// console is the three streams of a command. stdout carries the answer and
// nothing else.
type console struct {
	in                 io.Reader
	out                *bufio.Writer // to stdout
	err                io.Writer
	stdout, stderr     *stream
	inTTY, outTTY, tty bool // tty: stderr
	quiet              bool // nothing to stderr
	json               bool
	mu                 sync.Mutex // of what follows, and of stderr
	bar                bool       // a progress line stands on stderr
	barAt              time.Time
}

// newConsole makes one for as long as no signal ends ctx; see stream.
func newConsole(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) *console {
	c := &console{
		in: stdin, stdout: &stream{w: stdout, ctx: ctx}, stderr: &stream{w: stderr, ctx: ctx},
		inTTY: isTerminal(stdin), outTTY: isTerminal(stdout), tty: isTerminal(stderr),
	}
	c.out, c.err = bufio.NewWriterSize(outWriter{c.stdout}, 32<<10), c.stderr
	return c
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}

// outWriter marks the errors of stdout.
type outWriter struct{ w io.Writer }

func (o outWriter) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		err = fmt.Errorf("%w: %w", errOut, err)
	}
	return n, err
}

// stream is stdout or stderr. Where nobody reads a pipe that is full, a write to it
// never ends: once a signal has come it is left behind, and all that follow, so
// that the command can end as it would else. Any goroutine may write.
type stream struct {
	w      io.Writer
	ctx    context.Context //nolint:containedctx // of the signals
	behind atomic.Bool     // a write was left behind
}

// lastWrite is how long a write may take when a signal has come.
const lastWrite = 500 * time.Millisecond

func (s *stream) Write(b []byte) (int, error) {
	if s.behind.Load() {
		return 0, context.Cause(s.ctx)
	}
	type outcome struct {
		n   int
		err error
	}
	done := make(chan outcome, 1)
	own := bytes.Clone(b) // who is left behind may read it still
	go func() {
		n, err := s.w.Write(own)
		done <- outcome{n, err}
	}()
	var late <-chan time.Time
	for ended := s.ctx.Done(); ; {
		select {
		case o := <-done:
			return o.n, o.err
		case <-ended:
			ended, late = nil, time.After(lastWrite)
		case <-late:
			s.behind.Store(true)
			return 0, context.Cause(s.ctx)
		}
	}
}

// flush sends what is left of the answer.
func (c *console) flush() error { return c.out.Flush() }

// settle is the end of a command that has returned err: what is left of its
// answer is sent, and if a signal has come that is why it failed.
func (c *console) settle(ctx context.Context, err error) error {
	if flushErr := c.flush(); flushErr != nil && (err == nil || errors.Is(err, errOut)) {
		err = flushErr
	}
	if by, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && err != nil && !is[*codeError](err) {
		err = by.after(err)
	}
	return err
}

// printf writes to stdout. Its error stays in the writer until flush.
func (c *console) printf(format string, a ...any) { _, _ = fmt.Fprintf(c.out, format, a...) }

// ended gives back what writing to stdout has failed with so far, so that a
// long list ends when nobody reads it.
func (c *console) ended() error {
	_, err := c.out.Write(nil)
	return err
}

// note writes a line to stderr.
func (c *console) note(format string, a ...any) {
	if c.quiet {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wipe()
	_, _ = fmt.Fprintf(c.err, format+"\n", a...)
}

// progress shows a line that the next one replaces, on a terminal only.
func (c *console) progress(format string, a ...any) {
	if c.quiet || !c.tty || c.json {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.barAt) >= 100*time.Millisecond {
		c.wipe()
		_, _ = fmt.Fprintf(c.err, format, a...)
		c.bar, c.barAt = true, now
	}
}

// progressEnd removes the progress line.
func (c *console) progressEnd() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wipe()
}

// wipe makes room on the progress line. mu is held.
func (c *console) wipe() {
	if c.bar {
		_, _ = io.WriteString(c.err, "\r\x1b[K")
		c.bar = false
	}
}

// asks says whether there is someone to ask.
func (c *console) asks() bool { return c.inTTY && c.tty }

// confirm has the user agree to something that destroys. Without a terminal
// nobody is asked: then -y must have been given.
func (c *console) confirm(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	if !c.asks() {
		return &usageError{msg: "you would be asked first, and there is no terminal to ask on", hint: "-y says yes"}
	}
	c.progressEnd()
	_, _ = fmt.Fprintf(c.err, "%s [y/N] ", question)
	answers := make(chan string, 1)
	go func() { // left behind if a signal ends the wait: the process ends too
		answer, _ := bufio.NewReader(c.in).ReadString('\n')
		answers <- strings.ToLower(strings.TrimSpace(answer))
	}()
	select {
	case answer := <-answers:
		if answer == "y" || answer == "yes" {
			return nil
		}
		return &falseError{"not done"}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// size prints a number of bytes.
func size(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// count prints a number with commas.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// znodes prints a number of them.
func znodes(n int64) string {
	if n == 1 {
		return "1 znode"
	}
	return count(n) + " znodes"
}
