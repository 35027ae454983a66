package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stuckPipe is a pipe with a small buffer that nobody reads. taken returns the
// number of bytes in it.
func stuckPipe(t *testing.T) (w *os.File, taken func() int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	return w, func() int {
		n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// TestSignalWhileNobodyReads: a signal ends a command promptly, with the exit code
// of the signal, although a write to a full pipe blocks; also if stderr is that
// pipe.
func TestSignalWhileNobodyReads(t *testing.T) {
	serve(t, nil)
	var script strings.Builder
	for i := range 60 {
		value := make([]byte, 450) // which no snapshot compresses
		_, _ = rand.Read(value)
		fmt.Fprintf(&script, "create /%s%02d %x\n", strings.Repeat("x", 900), i, value)
	}
	if got := coord(t, script.String(), "shell"); got.code != exitOK {
		t.Fatal(got)
	}
	lines := opsFile(t, "ls /\n")
	var running []*exec.Cmd
	for i, args := range []string{
		"find /", "tree / --json", "ls -l /", "export /", "export --format tar /", "snapshot -", "shell " + lines, "shell -k " + lines,
		"watch -r --initial --json /", "watch -r --initial --json /", "watch -r --initial --debounce 1ms --json /",
	} {
		w, taken := stuckPipe(t)
		cmd := coordProcess(t, strings.Fields(args)...)
		cmd.Stdout = w
		if i%2 == 0 {
			cmd.Stderr = w
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "coord "+args+" fills the pipe", func() bool { return taken() > 2048 })
		running = append(running, cmd)
	}
	sigOf := func(i int) syscall.Signal { return []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i/2%2] }
	for i, cmd := range running {
		if err := cmd.Process.Signal(sigOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i, cmd := range running {
		endsBy(t, cmd, sigOf(i))
	}
}

// endsBy checks that a process ends by the signal that was sent to it.
func endsBy(t *testing.T, cmd *exec.Cmd, sig syscall.Signal) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if code := exitOf(err); code != exitSignal+int(sig) {
			t.Errorf("%s: %v ended it with %d", cmd.Args, sig, code)
		}
	case <-time.After(2 * time.Minute):
		_ = cmd.Process.Kill()
		t.Errorf("%s: %v does not end it: %v", cmd.Args, sig, <-ended)
	}
}

// TestSignalLeavesNoSession: a command that a signal ends during such a write closes its session.
func TestSignalLeavesNoSession(t *testing.T) {
	serve(t, nil)
	w, taken := stuckPipe(t)
	if _, err := w.Write(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	cmd := coordProcess(t, "elect", "--ttl", "1h", "/e")
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a leader", func() bool { return coord(t, "", "elect", "--who", "/e").code == exitOK })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	endsBy(t, cmd, syscall.SIGTERM)
	eventually(t, "the end of the session", func() bool { // long before its TTL of an hour
		got := coord(t, "", "session", "ls")
		return got.code == exitOK && got.out == ""
	})
	if n := taken(); n != 4096 {
		t.Errorf("%d bytes in the pipe", n)
	}
}

// TestLeaderHangsUp: a leader without a command does not outlive its terminal, and its
// --on-lose runs.
func TestLeaderHangsUp(t *testing.T) {
	serve(t, nil)
	hangsUp(t)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT} {
		x := begin(t, "elect", "--on-lead", "echo up", "--on-lose", "echo down", "/e")
		x.says("up\n")
		x.signal(syscall.SIGUSR1) // has no effect
		endsSoon := time.AfterFunc(2*time.Minute, func() { _ = x.cmd.Process.Kill() })
		x.signal(sig)
		x.ends(exitOK)
		endsSoon.Stop()
		if !strings.HasSuffix(x.stdout(), "up\ndown\n") {
			t.Errorf("%v: %q", sig, x.stdout())
		}
		if got := coord(t, "", "elect", "--who", "/e"); got.code != exitFalse {
			t.Errorf("%v: somebody is the leader: %+v", sig, got)
		}
	}
}

// TestSettle: the error of a command is kept although the rest of its answer could
// be written.
func TestSettle(t *testing.T) {
	c := newConsole(t.Context(), nil, io.Discard, io.Discard)
	failed := fmt.Errorf("a page: %w", errOut)
	if err := c.settle(t.Context(), failed); !errors.Is(err, errOut) {
		t.Errorf("%v", err)
	}
	if err := c.settle(t.Context(), nil); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{sig: syscall.SIGTERM})
	if err := c.settle(ctx, failed); exitCode(err) != 143 {
		t.Errorf("after a signal: %v", err)
	}
	if err := c.settle(ctx, nil); err != nil {
		t.Errorf("done before the signal: %v", err)
	}
}
