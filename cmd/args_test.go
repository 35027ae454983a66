package cmd

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseLine(t *testing.T) {
	all := commands()
	for _, tt := range []struct {
		words string // separated by |
		want  string // command | flags | arguments | index of the first literal argument
	}{
		{"get|/a", "get||/a|1"},
		{"get|/a|-s", "get|--stat|/a|1"},
		{"--json|get|-q|/a|--lin", "get|--json --quiet --lin|/a|1"},
		{"--server|h:1|get|/a", "get|--server=h:1|/a|1"},
		{"--server=h:1|get|/a", "get|--server=h:1|/a|1"},
		{"get|/a|-server|h:1", "get|--server=h:1|/a|1"},
		{"set|/a|-v|-1|x", "set|--v=-1|/a x|2"},
		{"set|/a|--v=3|x", "set|--v=3|/a x|2"},
		{"set|/a|-", "set||/a -|2"},
		{"set|/a|--|-5", "set||/a -5|1"},
		{"set|--|/a|-q", "set||/a -q|0"},
		{"set|/a|", "set||/a |2"},
		{"ls|-lR0|/", "ls|--long --recursive --null|/|1"},
		{"rm|-ry|/a", "rm|--recursive --yes|/a|1"},
		{"get|--lin=true|/a", "get|--lin|/a|1"},
		{"get|--lin=false|/a", "get||/a|1"},
		{"snapshot|x", "snapshot||x|1"},
		{"snapshot|verify|x", "snapshot verify||x|1"},
		{"snapshot|--level|header|verify|x", "snapshot verify|--level=header|x|1"},
		{"snapshot|--|verify", "snapshot||verify|0"},
		{"snapshot|x|verify", "snapshot||x verify|2"},
		{"create|/a|--acl|a|--acl|b", "create|--acl=a --acl=b|/a|1"},
		{"get|get", "get||get|1"},
		{"get|help", "get||help|1"},
		{"--version", "version|||0"},
		{"--version|--json", "version|--json||0"},
		{"", "help"},
		{"help", "help"},
		{"--help", "help"},
		{"-h", "help"},
		{"--json", "help"},
		{"get|--help", "help get"},
		{"--help|get", "help get"},
		{"get|/a|/b|-h", "help get"},
		{"help|get", "help get"},
		{"help|snapshot", "help snapshot"},
		{"help|snapshot|verify", "help snapshot verify"},
		{"snapshot|verify|-h", "help snapshot verify"},
	} {
		words := strings.Split(tt.words, "|")
		if tt.words == "" {
			words = nil
		}
		l, err := parseLine(all, words)
		if err != nil {
			t.Errorf("%s: %v", tt.words, err)
			continue
		}
		got := strings.Join([]string{"", strings.Join(l.flags, " "), strings.Join(l.args, " "), count(int64(l.literal))}, "|")
		switch {
		case l.help && l.command != nil:
			got = "help " + l.command.name
		case l.help:
			got = "help"
		default:
			got = l.command.name + got
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.words, got, tt.want)
		}
	}
}

func TestParseLineRefuses(t *testing.T) {
	all := commands()
	for _, tt := range []struct{ words, message, hint string }{
		{"gett|/a", `no command "gett"`, "did you mean get?"},
		{"stat", `no command "stat"`, "did you mean status?"},
		{"frobnicate", `no command "frobnicate"`, "coord help"},
		{"help|gte", `no command "gte"`, "did you mean get?"},
		{"help|snapshot|verfy", `no command "snapshot verfy"`, "did you mean snapshot verify?"},
		{"get|/a|--sat", "has no flag --sat", "did you mean --stat?"},
		{"get|/a|--frobnicate", "has no flag --frobnicate", "after --"},
		{"set|/a|-5", "has no flag -5", "after --"},
		{"ls|-lx|/", "has no flag -lx", "coord help ls"},
		{"-l|ls|/", "must stand after the command", "coord help"},
		{"--frob|ls", "no flag --frob", "coord help"},
		{"--server|h|version", "coord version has no flag --server", "coord help version"},
		{"snapshot|--level|header|x", "coord snapshot has no flag --level", "coord help snapshot"},
		{"get|--server", "needs a value", "coord help get"},
		{"get|--lin=3|/a", "takes no value", "coord help get"},
		{"--|get", "a command is missing", "coord help"},
		{"get|--version|/a", "has no flag --version", ""},
	} {
		_, err := parseLine(all, strings.Split(tt.words, "|"))
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(usage.msg, tt.message) || !strings.Contains(usage.hint, tt.hint) {
			t.Errorf("%s: %v, want %q and the hint %q", tt.words, err, tt.message, tt.hint)
		}
		if exitCode(err) != exitUsage {
			t.Errorf("%s: exit code %d", tt.words, exitCode(err))
		}
	}
}

// TestFlagsAreOneForAll: a flag has the same kind in all commands that share a
// line; otherwise a word would be ambiguous.
func TestFlagsAreOneForAll(t *testing.T) {
	for _, c := range commands() {
		var seen []string
		for _, f := range c.allFlags() {
			for _, n := range f.Names() {
				if slices.Contains(seen, n) {
					t.Errorf("%s has two flags %s", c.name, n)
				}
				seen = append(seen, n)
			}
		}
		if slices.Contains(seen, "help") || slices.Contains(seen, "h") || slices.Contains(seen, "version") {
			t.Errorf("%s has a flag that belongs to the program", c.name)
		}
	}
}

// TestMeant: an argument that makes no sense may be a mistyped subcommand.
func TestMeant(t *testing.T) {
	for _, tt := range []struct{ words, hint string }{
		{"lock aquire /a", "did you mean coord lock acquire?"}, {"snapshot verfy b", "did you mean coord snapshot verify?"},
		{"session clos 0x1", "did you mean coord session close?"}, {"lock locks/a -- true", "a path begins with /"},
		{"lock /a/ -- true", "leave out the / at the end"}, {"get a", "a path begins with /"}, {"snapshot a b", "quote a value that has spaces"},
	} {
		got := coord(t, "", strings.Fields(tt.words)...)
		if got.code != exitUsage || !strings.Contains(got.errOut, "\nhint: "+tt.hint) {
			t.Errorf("coord %s: %+v, want the hint %q", tt.words, got, tt.hint)
		}
	}
}

func TestUsageErrorsEndWith2(t *testing.T) {
	for _, words := range []string{
		"get", "get /a /b", "get a", "get /a/", "get --timeout 3 /a", "get --timeout -1s /a", "get --server a:b:c /a",
		"set /a", "set /a x -p", "set /a @none", "set -v x /a b", "create /a --ttl never", "create /a --ttl 0s", "create /a -c --seq",
		"create /a -c --ttl 3s", "create /a --acl nobody", "rm /", "rm -r /zookeeper", "rm /a --dry-run", "rm -0 /a", "rm -r /a",
		"ls --limit 0 /", "exists", "status x", "snapshot", "snapshot save", "snapshot save x --to y",
		"snapshot x.part", "snapshot /dev/null", "snapshot .", "snapshot verify --level most x", "snapshot inspect --top -1 x", "snapshot inspect --top 0 x", "snapshot inspect --depth 0 x",
		"snapshot --data-dir d --server s x", "restore x", "restore x --data-dir d --replace", "recover", "recover --data-dir d", "cert", "cert ca", "cert --days 0 n", "server x", "server --peer-tls-key k", "get --auth-file none /a",
		"tree", "tree --depth 0 /", "du -n -1 /", "du -n x /", "find / --name [", "find / --name a/b", "find / --owner me", "find / --owner 0",
		"find / --older soon", "find / --newer -1h", "find / --bigger much", "txn", "txn x", "acl", "acl set /a", "acl set /a r", "acl set /a digest:ann:x:r", "acl get a", "completion", "completion csh", "man x", "export", "export a", "export /a x.doc", "export /a --format xml", "import", "import /a x.doc", "import /a --replace",
		"members x", "members add", "members remove", "members remove a", "members promote", "members replace a", "members replace a b", "members transfer a b", "leave", "leave a",
	} {
		got := coord(t, "", strings.Fields(words)...)
		if got.code != exitUsage || got.out != "" || !strings.HasPrefix(got.errOut, "coord: ") {
			t.Errorf("coord %s: %+v", words, got)
		}
		quiet := coord(t, "", append([]string{"-q"}, strings.Fields(words)...)...)
		if quiet.code != exitUsage || quiet.out+quiet.errOut != "" {
			t.Errorf("coord -q %s: %+v", words, quiet)
		}
		js := coord(t, "", append([]string{"--json"}, strings.Fields(words)...)...)
		if js.code != exitUsage || js.out != "" || !strings.HasPrefix(js.errOut, `{"v":1,"`) || !strings.HasSuffix(js.errOut, `"exit":2}`+"\n") {
			t.Errorf("coord --json %s: %+v", words, js)
		}
	}
}

// TestHelp compares the help of every command with a file, so that reviews see each change.
func TestHelp(t *testing.T) {
	var b strings.Builder
	for _, args := range append([][]string{{}}, helpArgs()...) {
		got := coord(t, "", append(args, "--help")...)
		if got.code != exitOK || got.errOut != "" {
			t.Errorf("coord %v --help: %d %s", args, got.code, got.errOut)
		}
		if other := coord(t, "", append([]string{"help"}, args...)...); other != got {
			t.Errorf("coord help %v is not coord %v --help", args, args)
		}
		b.WriteString("===== coord " + strings.Join(args, " ") + " --help\n" + got.out)
	}
	golden(t, "help.txt", b.String())
	if got := coord(t, ""); got.code != exitOK || !strings.Contains(got.out, "coord COMMAND") {
		t.Errorf("coord alone: %+v", got)
	}
}

func helpArgs() (all [][]string) {
	for _, c := range commands() {
		if c.name != "help" { // its help is that of all commands
			all = append(all, strings.Fields(c.name))
		}
	}
	return all
}
