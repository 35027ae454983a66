// Package testscripts tests the whole binary: with scripts (*.txtar, one behaviour
// each), with kills under load, with failing disks, and with the programs that
// people use to script it.
package testscripts

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"coord/cmd"
	"coord/testscripts/clients"
	"coord/testscripts/ports"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

// atOnce is how many tests run in parallel on machines with fewer processors, unless -parallel
// is given: most of the time the tests wait for processes that themselves wait.
const atOnce = 6

// TestMain lets the test binary be coord: that name is in the PATH of every script
// and every exec.Command here.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", strconv.Itoa(max(atOnce, runtime.GOMAXPROCS(0))))
	testscript.Main(tidy{m}, map[string]func(){
		"coord":      func() { os.Exit(cmd.Run()) },
		"coord-echo": echo,
		// Misbehaving clients: see BenchmarkFigureHostile.
		"coord-hostile": hostile,
		// The command that runs under a lock: see TestMutualExclusion.
		"coord-critical": critical,
		// A client of ZooKeeper's protocol: see TestClients.
		"coord-go-zk": func() { os.Exit(clients.GoZK(os.Args[1], os.Stdin, os.Stdout)) },
	})
}

// shared is the folder of the binaries that tests and benchmarks build, once it exists.
var shared struct {
	sync.Mutex
	dir string
}

// tidy removes the shared folder after the tests.
type tidy struct{ *testing.M }

func (m tidy) Run() int {
	defer func() { _ = os.RemoveAll(shared.dir) }()
	return m.M.Run()
}

// build builds a binary as it is shipped, with these variables in the environment, one at a time.
func build(name string, env ...string) (bin string, err error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.dir == "" {
		if shared.dir, err = os.MkdirTemp("", "coord-shared"); err != nil {
			return "", err
		}
	}
	bin = filepath.Join(shared.dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "coord")
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return bin, nil
}

// hung is how long a test waits for what must happen until it takes it for a fault. A busy machine may take a hundred
// times as long as an idle one.
const hung = 4 * time.Minute

func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 ".",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// Each script has its own port for all its servers.
			a, release, err := ports.Reserve("127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Defer(release)
			addr := a.String()
			env.Setenv("ADDR", addr)
			env.Setenv("PORT", strconv.Itoa(int(a.Port())))
			env.Setenv("COORD_SERVER", addr)
			env.Setenv("COORD_LISTEN", addr)
			env.Setenv("COORD_DATA_DIR", filepath.Join(env.WorkDir, "data"))
			env.Setenv("COORD_NAME", "test")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if tool, ok := strings.CutPrefix(cond, "has:"); ok {
				_, err := exec.LookPath(tool)
				if err != nil && os.Getenv("COORD_TEST_ALL") != "" {
					return false, fmt.Errorf("%s is not installed, and COORD_TEST_ALL wants every test to run", tool)
				}
				return err == nil, nil
			}
			if cond == "utf8" {
				err := exec.Command("bash", "-c", `LC_ALL=C.UTF-8; x=$'\xc3\xa9'; test ${#x} = 1`).Run()
				if err != nil && os.Getenv("COORD_TEST_ALL") != "" {
					return false, fmt.Errorf("there is no locale C.UTF-8 for bash, and COORD_TEST_ALL wants every test to run: %w", err)
				}
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await": cmdAwait,
			"flip":  cmdFlip,
		},
	})
}

// cmdAwait runs a command until it succeeds (with !: until it fails): await coord
// status.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(hung)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q did not come to that in %v: %v", args, hung, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// cmdFlip flips one bit of a file: flip FILE OFFSET. A negative offset counts from
// the end.
func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	var offset int
	_, err := fmt.Sscan(args[1], &offset)
	ts.Check(err)
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) != 1 {
		ts.Fatalf("%s names %d files", args[0], len(files))
	}
	b, err := os.ReadFile(files[0])
	ts.Check(err)
	if offset < 0 {
		offset += len(b)
	}
	b[offset] ^= 1
	ts.Check(os.WriteFile(files[0], b, 0o600))
}

// need skips a test, and says so, if a program or a file of a library is missing;
// with COORD_TEST_ALL the test fails.
func need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		_, err := exec.LookPath(tool)
		if strings.HasPrefix(tool, "/") {
			_, err = os.Stat(tool)
		}
		if err != nil {
			if os.Getenv("COORD_TEST_ALL") != "" {
				t.Fatalf("%s is not installed, and COORD_TEST_ALL wants every test to run", tool)
			}
			t.Skipf("SKIPPED: %s is not installed: this test drives it", tool)
		}
	}
}

// process is a server in a process of its own.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	addr  string
	dir   string
	log   string   // the file with its stderr
	ended chan int // its exit code, once
}

// launch starts a server on a free port and waits until it is ready.
func launch(t testing.TB, dir string, flags ...string) *process {
	t.Helper()
	p, err := tryLaunch(t, dir, nil, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tryLaunch is launch for a server that may end before it is ready. wrapper
// precedes it on the command line (strace …).
func tryLaunch(t testing.TB, dir string, wrapper []string, flags ...string) (*process, error) {
	t.Helper()
	return startBinary(t, "coord", dir, wrapper, flags...)
}

func startBinary(t testing.TB, bin, dir string, wrapper []string, flags ...string) (*process, error) {
	t.Helper()
	return begin(t, bin, dir, wrapper, append([]string{"--listen", "127.0.0.1:0"}, flags...)...).ready()
}

// begin starts a server and does not wait for it.
func begin(t testing.TB, bin, dir string, wrapper []string, flags ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := append(append([]string{}, wrapper...), bin, "server", "--data-dir", dir,
		"--log-format", "json", "--max-client-conns", "0")
	args = append(args, flags...)
	p := &process{t: t, cmd: exec.Command(args[0], args[1:]...), dir: dir, log: log.Name(), ended: make(chan int, 1)}
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		code := p.cmd.ProcessState.ExitCode()
		if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
		p.ended <- code
	}()
	t.Cleanup(func() { p.kill() })
	return p
}

// ready waits until the server accepts clients, or has ended.
func (p *process) ready() (*process, error) {
	p.t.Helper()
	began := time.Now()
	for time.Since(began) < hung {
		if addr := p.listening(); addr != "" {
			p.addr = addr
			return p, nil
		}
		select {
		case code := <-p.ended:
			p.ended <- code
			return p, fmt.Errorf("the server ended with %d: %s", code, p.stderr())
		// Polls often at first, to be exact, and rarely later, so as not to disturb
		// a measurement of seconds.
		case <-time.After(max(time.Millisecond, time.Since(began)/50)):
		}
	}
	p.t.Fatalf("the server is not ready after %v: %s", hung, p.stderr())
	return nil, nil
}

// listening returns the address in the log line "ready", or "".
func (p *process) listening() string {
	for line := range strings.Lines(p.stderr()) {
		var l struct {
			Message string
			Listen  []string
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Message == "ready" && len(l.Listen) > 0 {
			return l.Listen[0]
		}
	}
	return ""
}

func (p *process) stderr() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// signal sends a signal to the whole process group: strace and the server.
func (p *process) signal(sig syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, sig) }

// stop stops the server with SIGSTOP and returns once none of its threads runs: on a busy machine the
// signal takes a while, in which the server still answers. SIGCONT continues it.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		switch {
		case err == nil:
			return
		case !errors.Is(err, unix.EINTR):
			p.t.Fatalf("the server does not stop: %v: %s", err, p.stderr())
		}
	}
}

// wait returns the exit code, or 128+n for signal n.
func (p *process) wait() int {
	select {
	case code := <-p.ended:
		p.ended <- code
		return code
	case <-time.After(hung):
		p.t.Fatalf("the server does not end: %s", p.stderr())
		return 0
	}
}

// kill ends the server like a power cut, except that the page cache survives.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.wait()
}

// ask sends lines on one connection and returns the replies.
func (p *process) ask(lines ...string) string {
	p.t.Helper()
	answer, err := askWithin(hung, p.addr, lines...)
	if err != nil {
		p.t.Fatalf("ask %q: %v", lines, err)
	}
	return answer
}

// askAt is ask for a server that may be dead, stopped or cut off: it does not wait for long.
func askAt(addr string, lines ...string) (string, error) {
	return askWithin(30*time.Second, addr, lines...)
}

func askWithin(d time.Duration, addr string, lines ...string) (string, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(d))
	if _, err := io.WriteString(c, strings.Join(lines, "\n")+"\n"); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(bufio.NewReader(c))
	return string(b), err
}

// fact returns one of the facts that INFO lists.
func (p *process) fact(key string) string {
	p.t.Helper()
	for l := range strings.Lines(p.ask("INFO")) {
		if v, ok := strings.CutPrefix(l, "ITEM "+key+" value="); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	p.t.Fatalf("no fact %s", key)
	return ""
}

// run runs coord and returns its output and its exit code.
func run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.Command("coord", args...)
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}
