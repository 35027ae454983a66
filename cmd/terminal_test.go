package cmd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal in which a command runs.
type terminal struct {
	master *os.File
	cmd    *exec.Cmd
	mu     sync.Mutex
	seen   bytes.Buffer
	ended  chan struct{}
}

// onTerminal starts a command with a terminal as its stdin, stdout and stderr.
func onTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: what is said on a terminal is not tried: ", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: what is said on a terminal is not tried: ", err)
	}
	defer slave.Close()
	term := &terminal{master: master, cmd: coordProcess(t, args...), ended: make(chan struct{})}
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.Env = append(term.cmd.Env, "NO_COLOR=1", "TERM=xterm")
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(term.ended)
		buf := make([]byte, 1<<10)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen.Write(buf[:n])
			term.mu.Unlock()
			if err != nil { // EIO: the command has ended
				return
			}
		}
	}()
	t.Cleanup(func() { _ = master.Close() })
	return term
}

// text is everything that the terminal has shown.
func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return strings.ReplaceAll(x.seen.String(), "\r\n", "\n")
}

func (x *terminal) wait() (code int, text string) {
	code = exitOf(x.cmd.Wait())
	<-x.ended
	return code, x.text()
}

func TestAskOnTerminal(t *testing.T) {
	serve(t, nil)
	for _, args := range []string{"create /app", "create /app/x"} {
		if got := coord(t, "", strings.Fields(args)...); got.code != exitOK {
			t.Fatal(got)
		}
	}
	x := onTerminal(t, "rm", "-r", "/app")
	eventually(t, "the question", func() bool { return strings.Contains(x.text(), "Delete /app and the znode below it? [y/N] ") })
	_, _ = io.WriteString(x.master, "\n")
	if code, text := x.wait(); code != exitFalse || !strings.Contains(text, "coord: not done\n") {
		t.Errorf("no answer: %d %q", code, text)
	}
	x = onTerminal(t, "rm", "-r", "/app")
	eventually(t, "the question", func() bool { return strings.Contains(x.text(), "[y/N]") })
	_ = x.cmd.Process.Signal(syscall.SIGINT)
	if code, text := x.wait(); code != 130 {
		t.Errorf("interrupted: %d %q", code, text)
	}
	if got := coord(t, "", "exists", "/app/x"); got.code != exitOK {
		t.Fatal("it is gone without a yes")
	}
	x = onTerminal(t, "rm", "-r", "/app")
	eventually(t, "the question", func() bool { return strings.Contains(x.text(), "[y/N]") })
	_, _ = io.WriteString(x.master, "y\n")
	if code, text := x.wait(); code != exitOK {
		t.Errorf("yes: %d %q", code, text)
	}
	if got := coord(t, "", "exists", "/app"); got.code != exitFalse {
		t.Error("it is still there")
	}
}

// TestTerminalOutput: what differs on a terminal, and that nothing else does.
func TestTerminalOutput(t *testing.T) {
	serve(t, nil)
	if got := coord(t, "", "create", "/app", "v"); got.code != exitOK {
		t.Fatal(got)
	}
	if code, text := onTerminal(t, "get", "/app").wait(); code != exitOK || text != "v\n" {
		t.Errorf("get: %d %q", code, text)
	}
	if code, text := onTerminal(t, "ls", "/").wait(); code != exitOK || text != "app\nzookeeper\n" {
		t.Errorf("ls: %d %q", code, text)
	}
	if code, text := onTerminal(t, "snapshot", "-").wait(); code != exitUsage || !strings.Contains(text, "not written to a terminal") {
		t.Errorf("snapshot -: %d %q", code, text)
	}
	file := filepath.Join(t.TempDir(), "b")
	if code, text := onTerminal(t, "snapshot", file).wait(); code != exitOK || !strings.Contains(text, "\r\x1b[K") || !strings.Contains(text, "verified") {
		t.Errorf("snapshot: %d %q", code, text)
	}
}

func TestServerOnTerminal(t *testing.T) {
	dir := t.TempDir()
	x := onTerminal(t, "server", "--data-dir", dir+"/d", "--listen", "127.0.0.1:0")
	eventually(t, "the welcome", func() bool { return strings.Contains(x.text(), "coord status --server 127.0.0.1:") })
	_ = x.cmd.Process.Signal(syscall.SIGINT)
	code, text := x.wait()
	if code != exitOK || !strings.HasPrefix(text, "coord "+release+" is ready after ") || strings.Count(text, "\n") != 1 || !strings.Contains(text, dir+"/d") {
		t.Errorf("%d %q", code, text)
	}
}
