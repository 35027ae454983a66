package testscripts

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// transcript is a session of a client that reads commands from stdin. Its file has
// the commands, after "> ", each with the output of the client with a real
// ZooKeeper; -update writes the file.
type transcript struct {
	name, file string
	command    []string // the address is appended
	env        []string
	// end is a command that changes nothing; ended is the beginning of a line of its
	// output, which marks the end of the previous command's output.
	end, ended string
	connected  string // the line that says that the client is connected again
	// drop are lines without meaning. aside are lines that come at any time: they
	// are moved to the end, in their own order.
	drop, aside *regexp.Regexp
	normalise   func(string) string
}

// logged matches lines of a logger.
const logged = `^SLF4J: |^log4j:|^\d{4}-\d\d-\d\d [0-9:,]+|- (INFO|WARN) +\[|^$`

var transcripts = []transcript{
	{
		name: "zkCli", file: "clients/zkcli.txt",
		command: []string{"/usr/share/zookeeper/bin/zkCli.sh", "-server"},
		env:     []string{"JVMFLAGS=-Xmx128m -XX:TieredStopAtLevel=1", "TZ=UTC"},
		end:     "redo 1000000", ended: "Command index out of range",
		drop:      regexp.MustCompile(logged + `|^WATCHER::$|^WatchedEvent .* type:None`),
		aside:     regexp.MustCompile(`^WatchedEvent`),
		normalise: normaliseZkCli,
	},
	{
		name: "cli_mt", file: "clients/cli_mt.txt",
		command: []string{"/usr/lib/zookeeper/bin/cli_mt", "-h"},
		env:     []string{"TZ=UTC"},
		end:     "sync /-", ended: "[/-]: rc = ", connected: "Watcher SESSION_EVENT state = CONNECTED_STATE",
		drop:      regexp.MustCompile(logged + `|^time = \d+ msec$|CONNECTING_STATE|ASSOCIATING_STATE|^\tname = /-$|^Quitting|^Error -8 for /-$`),
		normalise: normaliseCliMT,
	},
}

// asides precedes the lines that were moved to the end.
const asides = "# What the watches said:\n"

// run compares a client's transcript with the file.
func (c transcript) run(t *testing.T) {
	need(t, c.command[0])
	want := c.read(t)
	if *update {
		got, err := c.record(t, want, zooKeeperTarget(t))
		if err != nil {
			t.Fatalf("%v\n%s", err, got)
		}
		if err := os.WriteFile(c.file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	onServers(t, func(t *testing.T, s *target) {
		got, err := c.record(t, want, s)
		if err != nil {
			t.Error(err)
		}
		if got != want {
			t.Errorf("the transcript differs:\n%s", diffCommands(want, got))
		}
	})
}

func (c transcript) read(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// record feeds the commands of a transcript to the client and returns the new
// transcript. The command RESTART restarts the server.
func (c transcript) record(t testing.TB, script string, s *target) (string, error) {
	t.Helper()
	run := startClient(t, append(slices.Clip(c.command), s.addr), c.env, nil)
	var said, aside strings.Builder
	until := func(last string) {
		for run.Scan() && !strings.HasPrefix(run.Text(), last) {
			switch line := strings.TrimRight(run.Text(), " "); {
			case c.drop.MatchString(line):
			case c.aside != nil && c.aside.MatchString(line):
				aside.WriteString(line + "\n")
			default:
				said.WriteString(line + "\n")
			}
		}
	}
	for line := range strings.Lines(script) {
		if line == asides {
			break
		}
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "> ")
		if ok || strings.HasPrefix(line, "#") {
			said.WriteString(line)
		}
		switch {
		case !ok:
		case command == "RESTART":
			s.restart()
			until(c.connected)
		default:
			_, _ = fmt.Fprintf(run.stdin, "%s\n%s\n", strings.ReplaceAll(command, "ADDR", s.addr), c.end)
			until(c.ended)
		}
	}
	err := run.end()
	if run.cmd.ProcessState.Exited() {
		err = nil // the exit code of a shell is that of one of its commands
	}
	if c.aside != nil {
		said.WriteString(asides + aside.String())
	}
	return c.normalise(strings.ReplaceAll(said.String(), s.addr, "ADDR")), err
}

var (
	zkCliZxid  = regexp.MustCompile(`(?m)^([cmp]Zxid = )0x([0-9a-f]+)$`)
	zkCliOwner = regexp.MustCompile(`(?m)^(ephemeralOwner = )0x([0-9a-f]+)$`)
	zkCliTime  = regexp.MustCompile(`(?m)^([cm]time = ).* 20\d\d$`)
	zkCliBuild = regexp.MustCompile(`(?m)^(ZooKeeper CLI version: [0-9.]+).*$`)
	zkCliList  = regexp.MustCompile(`(?m)^\[.*\]$`)
	zkCliUsers = regexp.MustCompile(`(?m)^Auth scheme: User\n(\w+: .*\n)*`)

	cliMTZxid  = regexp.MustCompile(`(?m)^(\t[cm]zxid=)([0-9a-f]+)$`)
	cliMTOwner = regexp.MustCompile(`(?m)^(\tephemeralOwner = |Got a new session id: 0x)([0-9a-f]+)$`)
	cliMTTime  = regexp.MustCompile(`(?m)^(\t[cm]time ?=).* 20\d\d$`)
	cliMTNames = regexp.MustCompile(`(?m)(^\t[^\s=]+\n)+`)
)

func normaliseZkCli(s string) string {
	s = numbered(s, zkCliZxid, "ZXID-")
	s = numbered(s, zkCliOwner, "SESSION-")
	s = zkCliBuild.ReplaceAllString(s, "$1")
	s = zkCliTime.ReplaceAllString(s, "${1}TIME")
	s = zkCliUsers.ReplaceAllStringFunc(s, sortLines)
	return zkCliList.ReplaceAllStringFunc(s, func(list string) string {
		names := strings.Split(strings.Trim(list, "[]"), ", ")
		slices.Sort(names)
		return "[" + strings.Join(names, ", ") + "]"
	})
}

func normaliseCliMT(s string) string {
	s = numbered(s, cliMTZxid, "ZXID-")
	s = numbered(s, cliMTOwner, "SESSION-")
	s = cliMTTime.ReplaceAllString(s, "${1}TIME")
	return cliMTNames.ReplaceAllStringFunc(s, sortLines)
}

func sortLines(s string) string {
	lines := slices.Collect(strings.Lines(s))
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// numbered replaces numbers except 0 by their rank: their values may differ between
// servers, but not which are equal or larger.
func numbered(s string, re *regexp.Regexp, prefix string) string {
	var all []uint64
	for _, m := range re.FindAllStringSubmatch(s, -1) {
		if n, _ := strconv.ParseUint(m[2], 16, 64); n > 0 {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return re.ReplaceAllStringFunc(s, func(line string) string {
		m := re.FindStringSubmatch(line)
		n, _ := strconv.ParseUint(m[2], 16, 64)
		if n == 0 {
			return line
		}
		at, _ := slices.BinarySearch(all, n)
		return fmt.Sprintf("%s%s%d", m[1], prefix, at+1)
	})
}

// diffCommands shows the commands whose output differs.
func diffCommands(want, got string) string {
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
			fmt.Fprintf(&b, "want %s\ngot  %s\n", x, y)
		}
	}
	return b.String()
}

func commandBlocks(s string) []string {
	return strings.Split(strings.NewReplacer("\n> ", "\n\x00> ", "\n# What", "\n\x00# What").Replace(s), "\x00")
}
