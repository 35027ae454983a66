package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The exit codes of commands that run another command, in addition to that
// command's own: those of GNU timeout and env.
const (
	exitLost       = 123 // the lock was lost, and the child was killed
	exitNotInTime  = 124
	exitNotBegun   = 125 // coord failed before it started the child
	exitNotStarted = 126
	exitNoCommand  = 127
)

// codeError gives an error a different exit code. If err is nil, it prints nothing.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}
func (e *codeError) Unwrap() error { return e.err }
func (e *codeError) exitCode() int { return e.code }

// notBegun is the error of a wrapper that could not start its child. Errors that
// have an exit code of their own, such as a signal or a usage error, keep it.
func notBegun(err error) error {
	if err == nil || is[*signalError](err) || is[*usageError](err) || is[*codeError](err) || is[*falseError](err) {
		return err
	}
	return &codeError{exitNotBegun, err}
}

// child is a program that coord runs, in a process group of its own: signals to the
// group also reach the processes that the program has started.
type child struct {
	cmd        *exec.Cmd
	foreground bool // its group is the terminal's foreground group
	done       chan struct{}
	err        error
}

// startChild runs argv directly, without a shell. If coord is killed, the kernel
// kills the child.
func (r *run) startChild(argv, env []string, stdin io.Reader) (*child, error) {
	c := &child{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})} //nolint:gosec,noctx // what the user asked for; it is ended by its group
	c.cmd.Env = append(os.Environ(), env...)
	if stdin == (noStdin{}) {
		stdin = nil // the child gets an empty stdin; os/exec would report an error of Read as the child's own
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = stdin, os.Stdout, os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if f, ok := stdin.(*os.File); ok && r.inTTY {
		c.foreground = true
		c.cmd.SysProcAttr.Foreground, c.cmd.SysProcAttr.Ctty = true, int(f.Fd())
	}
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread that has started the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := c.cmd.Start(); err != nil {
			started <- err
			return
		}
		close(started)
		c.err = c.cmd.Wait()
		c.takeTerminal()
		close(c.done)
	}()
	err := <-started
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return nil, &codeError{exitNoCommand, err}
	}
	return nil, &codeError{exitNotStarted, err}
}

// takeTerminal makes coord's group the terminal's foreground group again.
func (c *child) takeTerminal() {
	if c.foreground {
		signal.Ignore(syscall.SIGTTOU)
		_ = unix.IoctlSetPointerInt(c.cmd.SysProcAttr.Ctty, unix.TIOCSPGRP, unix.Getpgrp())
		signal.Reset(syscall.SIGTTOU)
	}
}

// signal sends a signal to the child's group.
func (c *child) signal(s syscall.Signal) { _ = syscall.Kill(-c.cmd.Process.Pid, s) }

// forward passes a signal on to the group.
func (c *child) forward(s os.Signal) {
	if n, ok := s.(syscall.Signal); ok {
		c.signal(n)
	}
}

// end terminates the whole group: it sends TERM at once, and KILL at the given
// time, which may be past. It returns when no process of the group runs any more.
// It does not wait until zombies are reaped: where process 1 does not reap, as in
// many containers, that never happens. c may be nil.
func (c *child) end(at time.Time) {
	if c == nil {
		return
	}
	c.signal(syscall.SIGTERM)
	c.signal(syscall.SIGCONT) // a stopped process would not handle TERM
	for poll := time.Millisecond; groupLives(c.cmd.Process.Pid); poll = min(2*poll, 20*time.Millisecond) {
		if !time.Now().Before(at) {
			c.signal(syscall.SIGKILL)
		}
		time.Sleep(poll)
	}
	<-c.done
}

// groupLives says whether any process of the group still runs; zombies do not count.
func groupLives(group int) bool {
	if syscall.Kill(-group, 0) != nil {
		return false
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return true
	}
	want := strconv.AppendInt(nil, int64(group), 10)
	for _, entry := range all {
		if name := entry.Name(); name[0] < '0' || name[0] > '9' {
			continue
		}
		b, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // the process has just ended
		}
		// pid (name) state parent group …: the name may contain anything.
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(fields) > 2 && bytes.Equal(fields[2], want) && fields[0][0] != 'Z' && fields[0][0] != 'X' {
			return true
		}
	}
	return false
}

// result is the child's exit as coord's own: its exit code, or 128 plus the signal.
func (c *child) result() error {
	var exit *exec.ExitError
	switch {
	case c.err == nil:
		return nil
	case !errors.As(c.err, &exit):
		return &codeError{exitNotStarted, c.err}
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &codeError{exitSignal + int(status.Signal()), nil}
	}
	return &codeError{exit.ExitCode(), nil}
}

// forwarded receives the signals that a wrapper passes on to its child.
func forwarded() (signals <-chan os.Signal, stop func()) {
	ch := make(chan os.Signal, 8)
	listen(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return ch, func() { signal.Stop(ch) }
}

// untilTold is a context for a wrapper that waits and has no child yet: HUP and QUIT also
// end it, because they would end the child. INT and TERM end every command.
func untilTold(ctx context.Context) (_ context.Context, stop func()) {
	return catchSignals(ctx, syscall.SIGHUP, syscall.SIGQUIT)
}

// told is the error of a wait: the signal, if one has come, or else err.
func told(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// shell runs a line of the user's with sh and waits for it.
func (r *run) shell(ctx context.Context, line string, env []string) error {
	c := exec.CommandContext(ctx, "sh", "-c", line) //nolint:gosec // what the user asked for
	c.Env = append(os.Environ(), env...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}
