package testscripts

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var clientsZooKeeper = flag.Bool("clients.zookeeper", false, "run the programs of TestClients against a real ZooKeeper too; so does COORD_TEST_ALL")

// target is a server that clients connect to.
type target struct {
	addr    string
	restart func() // in the same place, with the same data
	// impatient ends a client with its first failure.
	impatient bool
}

func coordTarget(t testing.TB) *target {
	t.Helper()
	dir, addr := t.TempDir(), "127.0.0.1:"+freePort(t)
	start := func() *process { return launch(t, dir, "--listen", addr, "--4lw-whitelist", "*") }
	p := start()
	return &target{addr: addr, restart: func() {
		p.kill()
		p = start()
	}}
}

// zooKeeperTarget passes connections on only when it serves: one that it takes
// while it starts may hear nothing until the client gives up, seconds later.
func zooKeeperTarget(t testing.TB) *target {
	t.Helper()
	needZooKeeper(t)
	dir, port, addr := t.TempDir(), freePort(t), "127.0.0.1:"+freePort(t)
	var door net.Listener
	start := func() *zooKeeper { // with what coord has on unless told otherwise
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

// passOn passes what connects to one address on to another.
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

// onServers runs a test against coord and, to hold the test itself against what
// it speaks of, against ZooKeeper.
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
			onServers(t, func(t *testing.T, s *target) {
				lines, err := tryClient(t, c, args, s)
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				for _, line := range lines {
					t.Log(line)
				}
			})
		})
	}
}

// clientProgram is one that is given an address, prints "ok …" for each thing
// tested, RESTART when it wants the server to be restarted, and ends with 0.
type clientProgram struct {
	name  string
	needs []string
	least int // things tested
	// command makes the command line, to which the address is added.
	command func(t testing.TB) []string
}

var clientPrograms = []clientProgram{
	{name: "kazoo", needs: []string{"/usr/lib/python3/dist-packages/kazoo/client.py"}, least: 27, command: func(testing.TB) []string {
		return []string{"/usr/bin/python3", "clients/kazoo_client.py"} // the one that has Debian's packages
	}},
	{name: "curator", needs: []string{"java", ecj, "/usr/share/java/curator-recipes.jar", "/usr/share/java/curator-x-discovery.jar"}, least: 24, command: compileRecipes},
	{name: "go-zookeeper", least: 18, command: func(testing.TB) []string { return []string{"coord-go-zk"} }},
}

// compileRecipes compiles Recipes.java and makes the command line to run it. The
// compiler is one that Debian's ZooKeeper brings with it: a JDK is 70 MB more.
func compileRecipes(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	jars := []string{dir}
	for jar := range strings.FieldsSeq("curator-recipes curator-x-discovery curator-framework curator-client zookeeper zookeeper-jute slf4j-nop") {
		jars = append(jars, "/usr/share/java/"+jar+".jar") // these name the others that they need
	}
	path := strings.Join(jars, ":")
	javac := exec.Command("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", ecj, "-17", "-proc:none", "-nowarn", "-cp", path, "-d", dir, "clients/Recipes.java")
	if out, err := javac.CombinedOutput(); err != nil {
		t.Fatalf("Recipes.java: %v\n%s", err, out)
	}
	return []string{"java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", path, "Recipes"}
}

const ecj = "/usr/share/java/eclipse-jdt-core.jar"

// tryClient runs a program to its end, and no longer than a minute.
func tryClient(t testing.TB, c clientProgram, args []string, s *target) (lines []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], append(args[1:len(args):len(args)], s.addr)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tested, restarted := 0, false
	for out := bufio.NewScanner(stdout); out.Scan(); {
		line := out.Text()
		lines = append(lines, line)
		switch {
		case line == "RESTART":
			s.restart()
			restarted = true
			_, _ = io.WriteString(stdin, "restarted\n")
		case strings.HasPrefix(line, "ok "):
			tested++
		case strings.HasPrefix(line, "FAIL ") && s.impatient:
			cancel()
		}
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() == context.Canceled:
		err = errors.New("it has failed")
	case ctx.Err() != nil:
		err = fmt.Errorf("not done in a minute: %s", stderr.String())
	case err != nil:
		err = fmt.Errorf("%w: %s", err, stderr.String())
	case tested < c.least || !restarted:
		err = fmt.Errorf("%d things tested, want %d; restarted: %v", tested, c.least, restarted)
	}
	return lines, err
}

// TestClientsAreDocumented: README and its page have each of them.
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
