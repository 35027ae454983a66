package testscripts

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"coord/testscripts/ports"
)

var clientsZooKeeper = flag.Bool("clients.zookeeper", false, "run the programs of TestClients against a real ZooKeeper too; so does COORD_TEST_ALL")

// target is a server that clients connect to.
type target struct {
	addr    string
	restart func() // at the same address, with the same data
	// impatient says that clients of this target stop at their first failure.
	impatient bool
}

func coordTarget(t testing.TB) *target {
	t.Helper()
	dir, addr := t.TempDir(), "127.0.0.1:"+ports.Free(t)
	start := func() *process { return launch(t, dir, "--listen", addr, "--4lw-whitelist", "*") }
	p := start()
	return &target{addr: addr, restart: func() {
		p.kill()
		p = start()
	}}
}

// ensembleTarget is a follower of an ensemble of three nodes.
func ensembleTarget(t testing.TB) *target {
	t.Helper()
	c := form(t, append([]string{"--4lw-whitelist", "*"}, patience...)...) // an election would cost the clients their connection
	lead := c.leader()
	n := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n != lead })]
	return &target{addr: n.host + ":2181", restart: func() {
		n.kill()
		n.start()
		n.await()
	}}
}

// zooKeeperTarget forwards connections only while the server serves: a connection
// that ZooKeeper accepts while it starts may get no answer until the client gives
// up, seconds later.
func zooKeeperTarget(t testing.TB) *target {
	t.Helper()
	needZooKeeper(t)
	dir, port, addr := t.TempDir(), ports.Free(t), "127.0.0.1:"+ports.Free(t)
	var door net.Listener
	start := func() *zooKeeper { // with the features that coord has on by default
		z := launchZooKeeper(t, dir, port, "ZooKeeperServerMain", "enforceQuota=true\nextendedTypesEnabled=true\n", "-XX:TieredStopAtLevel=1")
		z.await()
		door = passOn(t, addr, z.addr)
		return z
	}
	z := start()
	return &target{addr: addr, restart: func() {
		_ = door.Close()
		z.kill()
		z = start()
	}}
}

// passOn forwards connections from one address to another.
func passOn(t testing.TB, from, to string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			pipe := func(a, b net.Conn) {
				_, _ = io.Copy(a, b)
				_ = a.Close()
				_ = b.Close()
			}
			go pipe(c, s)
			go pipe(s, c)
		}
	}()
	return l
}

// onServers runs a test against coord and, to check the test itself, against
// ZooKeeper.
func onServers(t *testing.T, f func(*testing.T, *target)) {
	t.Run("coord", func(t *testing.T) {
		t.Parallel()
		f(t, coordTarget(t))
	})
	t.Run("zookeeper", func(t *testing.T) {
		if !*clientsZooKeeper && os.Getenv("COORD_TEST_ALL") == "" {
			t.Skip("SKIPPED: runs with -clients.zookeeper or COORD_TEST_ALL=1")
		}
		t.Parallel()
		f(t, zooKeeperTarget(t))
	})
}

// TestClients runs ZooKeeper's clients.
func TestClients(t *testing.T) {
	t.Parallel()
	for _, c := range transcripts {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
	for _, c := range clientPrograms {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			need(t, c.needs...)
			args := c.command(t)
			try := func(t *testing.T, s *target) {
				lines, err := tryClient(t, c, args, s)
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				for _, line := range lines {
					t.Log(line)
				}
			}
			onServers(t, try)
			t.Run("ensemble", func(t *testing.T) {
				t.Parallel()
				try(t, ensembleTarget(t))
			})
		})
	}
}

// clientProgram is a program that gets an address, prints "ok …" for each thing
// that it has tested, prints RESTART when the server has to be restarted, and ends
// with 0.
type clientProgram struct {
	name  string
	needs []string
	least int // the least number of things tested
	// command makes the command line, to which the address is appended.
	command func(t testing.TB) []string
}

var clientPrograms = []clientProgram{
	{name: "kazoo", needs: []string{"/usr/lib/python3/dist-packages/kazoo/client.py"}, least: 27, command: func(testing.TB) []string {
		return []string{"/usr/bin/python3", "clients/kazoo_client.py"} // the python3 that has Debian's packages
	}},
	{name: "curator", needs: []string{"java", ecj, "/usr/share/java/curator-recipes.jar", "/usr/share/java/curator-x-discovery.jar"}, least: 24, command: compileRecipes},
	{name: "go-zookeeper", least: 18, command: func(testing.TB) []string { return []string{"coord-go-zk"} }},
}

// compileRecipes compiles Recipes.java and returns the command line to run it. It
// uses the compiler that Debian's ZooKeeper depends on: a JDK would be 70 MB more.
func compileRecipes(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	jars := []string{dir}
	for jar := range strings.FieldsSeq("curator-recipes curator-x-discovery curator-framework curator-client zookeeper zookeeper-jute slf4j-nop") {
		jars = append(jars, "/usr/share/java/"+jar+".jar") // these refer to the others that they need
	}
	path := strings.Join(jars, ":")
	javac := exec.Command("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", ecj, "-17", "-proc:none", "-nowarn", "-cp", path, "-d", dir, "clients/Recipes.java")
	if out, err := javac.CombinedOutput(); err != nil {
		t.Fatalf("Recipes.java: %v\n%s", err, out)
	}
	return []string{"java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", path, "Recipes"}
}

const ecj = "/usr/share/java/eclipse-jdt-core.jar"

// clientSilence is how long a client may print nothing before it counts as stuck.
const clientSilence = hung

// client is a running client, in a process group of its own.
type client struct {
	*bufio.Scanner // its output
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	stdout         io.Reader
	ctx            context.Context
	cancel         context.CancelCauseFunc
	silence        *time.Timer
}

// startClient starts a client. If stderr is nil, the client's stderr goes to its stdout.
func startClient(t testing.TB, args, env []string, stderr io.Writer) *client {
	t.Helper()
	c := &client{}
	c.ctx, c.cancel = context.WithCancelCause(t.Context())
	c.cmd = exec.CommandContext(c.ctx, args[0], args[1:]...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.cmd.Cancel = func() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) } // the client may be the child of a shell
	c.cmd.WaitDelay = clientSilence
	c.cmd.Env = append(os.Environ(), env...)
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if c.cmd.Stderr = stderr; stderr == nil {
		c.cmd.Stderr = c.cmd.Stdout
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.silence = time.AfterFunc(clientSilence, func() { c.cancel(fmt.Errorf("it says nothing for %v", clientSilence)) })
	c.Scanner = bufio.NewScanner(c.stdout)
	return c
}

func (c *client) Scan() bool {
	c.silence.Reset(clientSilence)
	return c.Scanner.Scan()
}

// end closes the client's stdin and waits for its end.
func (c *client) end() error {
	_ = c.stdin.Close()
	_, _ = io.Copy(io.Discard, c.stdout)
	err := c.cmd.Wait()
	c.silence.Stop()
	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	c.cancel(nil)
	return err
}

// tryClient runs a program to its end.
func tryClient(t testing.TB, p clientProgram, args []string, s *target) (lines []string, err error) {
	t.Helper()
	var stderr strings.Builder
	env := []string{"TMPDIR=" + t.TempDir(), "GORACE=exitcode=0"} // go-zookeeper has data races of its own
	c := startClient(t, append(slices.Clip(args), s.addr), env, &stderr)
	tested, restarted := 0, false
	for c.Scan() {
		line := c.Text()
		lines = append(lines, line)
		switch {
		case line == "RESTART":
			s.restart()
			restarted = true
			_, _ = io.WriteString(c.stdin, "restarted\n")
		case strings.HasPrefix(line, "ok "):
			tested++
		case strings.HasPrefix(line, "FAIL ") && s.impatient:
			_ = c.cmd.Cancel()
		}
	}
	if err = c.end(); err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	} else if tested < p.least || !restarted {
		err = fmt.Errorf("%d things tested, want %d; restarted: %v", tested, p.least, restarted)
	}
	return lines, err
}

// TestClientsAreDocumented: README and docs/clients.md name each client.
func TestClientsAreDocumented(t *testing.T) {
	for _, page := range []string{"../README.md", "../docs/clients.md"} {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, c := range clientPrograms {
			names = append(names, c.name)
		}
		for _, c := range transcripts {
			names = append(names, c.name)
		}
		for _, name := range names {
			if !regexp.MustCompile(`(?mi)^\|.*\b` + name + `\b.*\|`).Match(b) {
				t.Errorf("%s has no line for %s", page, name)
			}
		}
	}
}
