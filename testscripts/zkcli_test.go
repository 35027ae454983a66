package testscripts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const zkCli = "/usr/share/zookeeper/bin/zkCli.sh"

// TestZkCli holds the transcript of a session of zkCli.sh, every command with its
// options, against that of the same session with a real ZooKeeper.
func TestZkCli(t *testing.T) {
	t.Parallel()
	const file = "clients/zkcli.txt"
	need(t, "java", zkCli)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(b)
	if *update {
		got, err := zkCliTranscript(t, want, zooKeeperTarget(t).addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	onServers(t, func(t *testing.T, s *target) {
		got, err := zkCliTranscript(t, want, s.addr)
		if err != nil {
			t.Error(err)
		}
		if got != want {
			t.Errorf("the transcript differs:\n%s", diffLines(want, got))
		}
	})
}

// zkCliEnd is a command that prints a line and changes nothing: where the output
// of the one before ends.
const zkCliEnd, zkCliEnded = "redo 1000000", "Command index out of range"

// zkCliEvents is the line above what the watches said, in a transcript.
const zkCliEvents = "# What the watches said:\n"

// zkCliTranscript gives the commands of a transcript to a zkCli.sh and returns
// what comes of it. Its watches speak up whenever they like, so what they say
// stands in their order at the end.
func zkCliTranscript(t testing.TB, script, addr string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, zkCli, "-server", addr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // bash has started java
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "JVMFLAGS=-Xmx128m -XX:TieredStopAtLevel=1", "TZ=UTC")
	cmd.Dir = t.TempDir()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said, events strings.Builder
	out := bufio.NewScanner(stdout)
	for line := range strings.Lines(script) {
		if line == zkCliEvents {
			break
		}
		if strings.HasPrefix(line, "#") {
			said.WriteString(line)
		}
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "> ")
		if !ok {
			continue
		}
		said.WriteString(line)
		_, _ = fmt.Fprintf(stdin, "%s\n%s\n", strings.ReplaceAll(command, "ADDR", addr), zkCliEnd)
		for out.Scan() && out.Text() != zkCliEnded {
			switch line := strings.TrimSpace(out.Text()); {
			case line == "", line == "WATCHER::", logLine.MatchString(line):
			case strings.HasPrefix(line, "WatchedEvent") && strings.Contains(line, "type:None"): // of no order
			case strings.HasPrefix(line, "WatchedEvent"):
				events.WriteString(line + "\n")
			default:
				said.WriteString(line + "\n")
			}
		}
	}
	_ = stdin.Close()
	_, _ = io.Copy(io.Discard, stdout)
	_ = cmd.Wait() // its exit code is that of some command
	if ctx.Err() != nil {
		err = errors.New("zkCli.sh is not done in a minute")
	}
	return normaliseZkCli(said.String()+zkCliEvents+events.String(), addr), err
}

// logLine is what a logger writes, if there is one.
var logLine = regexp.MustCompile(`^SLF4J: |^log4j:|^\d{4}-\d\d-\d\d .* \[myid:|- (INFO|WARN) +\[`)

var (
	zkCliZxid  = regexp.MustCompile(`(?m)^([cmp]Zxid = )(0x[0-9a-f]+)$`)
	zkCliOwner = regexp.MustCompile(`(?m)^ephemeralOwner = 0x[1-9a-f].*$`)
	zkCliTime  = regexp.MustCompile(`(?m)^([cm]time = ).* 20\d\d$`)
	zkCliBuild = regexp.MustCompile(`(?m)^(ZooKeeper CLI version: [0-9.]+).*$`)
	zkCliList  = regexp.MustCompile(`(?m)^\[.*\]$`)
)

// normaliseZkCli makes equal what may differ: addresses, times, session ids, the
// order of lists. A zxid becomes its place among those shown.
func normaliseZkCli(s, addr string) string {
	s = strings.ReplaceAll(s, addr, "ADDR")
	var zxids []uint64
	for _, m := range zkCliZxid.FindAllStringSubmatch(s, -1) {
		n, _ := strconv.ParseUint(m[2], 0, 64)
		zxids = append(zxids, n)
	}
	slices.Sort(zxids)
	zxids = slices.Compact(zxids)
	s = zkCliZxid.ReplaceAllStringFunc(s, func(line string) string {
		m := zkCliZxid.FindStringSubmatch(line)
		n, _ := strconv.ParseUint(m[2], 0, 64)
		if n == 0 {
			return line
		}
		at, _ := slices.BinarySearch(zxids, n)
		return fmt.Sprintf("%sZXID-%d", m[1], at)
	})
	s = zkCliOwner.ReplaceAllString(s, "ephemeralOwner = SESSION")
	s = zkCliBuild.ReplaceAllString(s, "$1")
	s = zkCliTime.ReplaceAllString(s, "${1}TIME")
	return zkCliList.ReplaceAllStringFunc(s, func(list string) string {
		names := strings.Split(strings.Trim(list, "[]"), ", ")
		slices.Sort(names)
		return "[" + strings.Join(names, ", ") + "]"
	})
}

// diffLines shows where two texts of about the same lines differ, each place
// behind the command that it belongs to.
func diffLines(want, got string) string {
	var b strings.Builder
	w, g := commandBlocks(want), commandBlocks(got)
	for i := range max(len(w), len(g)) {
		var x, y string
		if i < len(w) {
			x = w[i]
		}
		if i < len(g) {
			y = g[i]
		}
		if x != y {
			fmt.Fprintf(&b, "want %sgot %s\n", x, y)
		}
	}
	return b.String()
}

func commandBlocks(s string) []string {
	return strings.SplitAfter(strings.NewReplacer("\n> ", "\n\x00> ", "\n# What", "\n\x00# What").Replace(s), "\x00")
}
