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

// errOut marks errors of writing to stdout.
var errOut = errors.New("stdout")

// console is the standard streams of a command. stdout carries only the answer.
type console struct {
	in                 io.Reader
	out                *bufio.Writer // to stdout
	err                io.Writer
	stdout, stderr     *stream
	inTTY, outTTY, tty bool // tty: stderr
	quiet              bool // nothing goes to stderr
	json               bool
	mu                 sync.Mutex // guards the fields below, and stderr
	bar                bool       // a progress line is shown on stderr
	barAt              time.Time
}

// newConsole makes a console. ctx ends with a signal; see stream.
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

// stream is stdout or stderr. A write to a full pipe that nobody reads never
// returns. So after a signal a blocked write is abandoned, and all later writes
// fail, so that the command can end normally. Any goroutine may write.
type stream struct {
	w      io.Writer
	ctx    context.Context //nolint:containedctx // ends with a signal
	behind atomic.Bool     // a write was abandoned
}

// lastWrite is how long a write may take after a signal.
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
	own := bytes.Clone(b) // an abandoned write may still read it
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

// flush writes the rest of the answer.
func (c *console) flush() error { return c.out.Flush() }

// settle completes a command that has returned err: it writes the rest of the
// answer. If the command failed after a signal, the signal is the error.
func (c *console) settle(ctx context.Context, err error) error {
	if flushErr := c.flush(); flushErr != nil && (err == nil || errors.Is(err, errOut)) {
		err = flushErr
	}
	if by, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && err != nil && !is[*codeError](err) {
		err = by.after(err)
	}
	return err
}

// printf writes to stdout. An error stays in the writer until flush.
func (c *console) printf(format string, a ...any) { _, _ = fmt.Fprintf(c.out, format, a...) }

// ended returns the error of writing to stdout so far, so that a long list can stop
// when nobody reads it.
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

// progress shows a line that the next call replaces, on a terminal only.
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

// wipe clears the progress line. mu is held.
func (c *console) wipe() {
	if c.bar {
		_, _ = io.WriteString(c.err, "\r\x1b[K")
		c.bar = false
	}
}

// asks says whether there is a terminal on which to ask the user.
func (c *console) asks() bool { return c.inTTY && c.tty }

// confirm asks the user to confirm something destructive. Without a terminal it
// refuses, unless -y was given.
func (c *console) confirm(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	if !c.asks() {
		return &usageError{msg: "this needs a confirmation, but there is no terminal to ask on", hint: "-y confirms it"}
	}
	c.progressEnd()
	_, _ = fmt.Fprintf(c.err, "%s [y/N] ", question)
	answers := make(chan string, 1)
	go func() { // abandoned if a signal ends the wait: then the process ends too
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

// size formats a number of bytes.
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

// count formats a number with commas.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// znodes formats a number of znodes.
func znodes(n int64) string {
	if n == 1 {
		return "1 znode"
	}
	return count(n) + " znodes"
}
