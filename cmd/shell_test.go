package cmd

import (
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"coord/server/text"
)

func TestSplitWords(t *testing.T) {
	for _, test := range []struct {
		line string
		want []string
		open bool
	}{
		{"", nil, false},
		{"  \t\r", nil, false},
		{"get /a", []string{"get", "/a"}, false},
		{`set /a 'x  "y" \n'`, []string{"set", "/a", `x  "y" \n`}, false},
		{`set /a "x \"y\" \\ \n"`, []string{"set", "/a", `x "y" \ \n`}, false},
		{`a\ b c\#d`, []string{"a b", "c#d"}, false},
		{`'' ""`, []string{"", ""}, false},
		{`a'b'"c"d`, []string{"abcd"}, false},
		{"get /a # what follows", []string{"get", "/a"}, false},
		{"# nothing\nget /a", []string{"get", "/a"}, false},
		{"a#b", []string{"a#b"}, false},
		{"'a\nb'", []string{"a\nb"}, false},
		{"a \\\nb", []string{"a", "b"}, false},
		{"'a", []string{"a"}, true},
		{`"a\"`, []string{`a"`}, true},
		{`a\`, []string{"a"}, true},
		{"ж 'ö ü'", []string{"ж", "ö ü"}, false},
	} {
		words, err := splitWords(test.line)
		var got []string
		for _, w := range words {
			got = append(got, w.text)
		}
		if !slices.Equal(got, test.want) || errors.Is(err, errOpenQuote) != test.open {
			t.Errorf("%q: %q %v, not %q", test.line, got, err, test.want)
		}
	}
}

func TestQuoteWord(t *testing.T) {
	for _, s := range []string{"/app", "/a b", `/it's`, `/"q"`, `/back\slash`, "#x", "/a#b", "\t"} {
		words, err := splitWords(quoteWord(s) + " end")
		if err != nil || len(words) != 2 || words[0].text != s {
			t.Errorf("%q becomes %+v", s, words)
		}
	}
}

func TestShellPaths(t *testing.T) {
	s := &shell{cwd: "/app/x"}
	for _, test := range [][2]string{
		{"/a", "/a"}, {"a", "/app/x/a"}, {".", "/app/x"}, {"..", "/app"}, {"../../..", "/"}, {"a/", "/app/x/a"}, {"/", "/"}, {"", ""}, {"../y/./z", "/app/y/z"},
	} {
		if got := s.resolve(test[0], false); got != test[1] {
			t.Errorf("%q is %q, not %q", test[0], got, test[1])
		}
	}
	if got := s.resolve("q/", true); got != "/app/x/q/" {
		t.Errorf("a sequential one: %q", got)
	}
	for _, test := range []struct {
		line string
		want string
	}{
		{"get a", "get /app/x/a"},
		{"get --json -s a", "get --json --stat /app/x/a"},
		{"set a @f", "set /app/x/a @f"},
		{"set a -- -5", "set /app/x/a -- -5"},
		{"ls", "ls /app/x"},
		{"ls -l", "ls --long /app/x"},
		{"snapshot verify f", "snapshot verify f"},
		{"snapshot f", "snapshot f"},
		{"create --seq q/", "create --seq /app/x/q/"},
		{"watch a -- cat a", "watch /app/x/a -- cat a"},
		{"get --help", "get --help"},
		{"--json get a", "get --json /app/x/a"},
	} {
		got, err := s.complete(strings.Fields(test.line))
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q %v", test.line, got, err)
		}
	}
	s.shared = []string{"--timeout=1s", "--json"}
	if got, _ := s.complete([]string{"version"}); strings.Join(got, " ") != "version --json" {
		t.Errorf("flags of all lines: %q", got)
	}
	if got, _ := s.complete([]string{"get", "--timeout", "2s", "a"}); strings.Join(got, " ") != "get --timeout=1s --json --timeout=2s /app/x/a" {
		t.Errorf("flags of all lines: %q", got)
	}
	if _, err := s.complete([]string{"server"}); exitCode(err) != exitUsage {
		t.Error("a server in the shell: ", err)
	}
}

func TestShellScript(t *testing.T) {
	serve(t, nil)
	script := "create /app 'a b'  # comment\ncd app\ncoord create x \"1\n2\"\npwd\nls\nget x\n"
	if got := coord(t, script, "shell"); got != (outcome{0, "/app\n/app/x\n/app\nx\n1\n2", ""}) {
		t.Errorf("%+v", got)
	}
	for _, test := range []struct {
		name, script string
		flags        string
		want         outcome
	}{
		{"stops", "get /nope\nget /app\n", "", outcome{3, "", "coord: stdin, line 1: /nope: no such znode\n"}},
		{"number behind a long quote", "set /app 'x\ny\nz'\n\nget /nope\n", "", outcome{3, "", "coord: stdin, line 5: /nope: no such znode\n"}},
		{"goes on", "get /nope\nexists /nope\nexists /app\nget /app", "--keep-going", outcome{3, "x\ny\nz",
			"coord: stdin, line 1: /nope: no such znode\ncoord: stdin, line 2: exists ended with exit code 1\ncoord: stdin: 2 of 4 commands failed\n"}},
		{"quiet", "get /nope", "-q", outcome{3, "", ""}},
		{"exit", "exit 9\nget /nope", "", outcome{9, "", ""}},
		{"quit", "quit\nget /nope", "", outcome{0, "", ""}},
		{"exit what", "exit x", "", outcome{2, "", "coord: stdin, line 1: exit x: expected a number from 0 to 255\n"}},
		{"open quote", "get '/app", "", outcome{2, "", "coord: stdin, line 1: a quote is not closed\n"}},
		{"pipe", "get /app | wc", "", outcome{2, "", "coord: stdin, line 1: the shell does not support |\nhint: a line is one command; quote it if it is a value: '|'\n"}},
		{"stdin is the script", "set /app -\nget /nope", "", outcome{2, "", "coord: stdin, line 1: read the value from stdin: stdin is the script itself: use a file\n"}},
		{"stdin is the script, not a file", "txn -f -", "", outcome{2, "", "coord: stdin, line 1: stdin is the script itself: use a file\n"}},
		{"a program's stdin is empty", "lock /l -- sh -c 'read x; test $? -eq 1'\npwd", "", outcome{0, "/\n", ""}},
		{"unknown", "gte /app", "", outcome{2, "", "coord: stdin, line 1: there is no command \"gte\"\nhint: did you mean get?\n"}},
		{"cd nowhere", "cd /nope", "", outcome{3, "", "coord: stdin, line 1: /nope: no such znode\n"}},
		{"cd back", "cd /app\ncd\ncd -\npwd", "", outcome{0, "/app\n", ""}},
		{"json", "cd app\npwd\nexists x", "--json", outcome{0, "{\"v\":1,\"path\":\"/app\"}\n", "?"}},
		{"json error", "get /nope", "--json", outcome{3, "", `{"v":1,"error":"NOTFOUND","message":"stdin, line 1: /nope: no such znode","path":"/nope","exit":3}` + "\n"}},
		{"help", "help cd", "", outcome{0, "cd [PATH]\n\nGo to a znode; without PATH to /; - goes back.\n", ""}},
	} {
		got := coord(t, test.script, append([]string{"shell"}, strings.Fields(test.flags)...)...)
		if test.want.errOut == "?" {
			got.errOut = "?"
			got.out, _, _ = strings.Cut(got.out, `{"v":1,"path":"/app/x"`)
		}
		if got != test.want {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("set /app -\nget /app\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := coord(t, "from stdin", "shell", file); got != (outcome{0, "from stdin", ""}) {
		t.Errorf("a file: %+v", got)
	}
	if got := coord(t, "", "shell", file+"x"); got.code != exitNotFound {
		t.Errorf("no file: %+v", got)
	}
	if got := coord(t, "help\n", "shell"); !strings.Contains(got.out, "Only in the shell\n  cd [PATH]") || !strings.Contains(got.out, "get PATH") {
		t.Errorf("help: %+v", got)
	}
}

func TestShellCompletions(t *testing.T) {
	serve(t, nil)
	setup := "create /app\ncreate /app/url\ncreate /app/users\ncreate '/app/with space'\ncreate /app/users/ann\n"
	if got := coord(t, setup, "shell"); got.code != exitOK {
		t.Fatal(got)
	}
	s := &shell{cwd: "/app"}
	s.r = runOf(t, "shell")
	s.r.link = &link{}
	defer s.r.link.close()
	complete := s.completer(t.Context())
	for _, test := range []struct {
		line string
		want string // the resulting command line; several are separated by |
	}{
		{"ge", "get "},
		{"pw", "pwd "},
		{"get /a", "get /app/"},
		{"get u", "get url |get users/"},
		{"get users/", "get users/ann "},
		{"get w", `get with\ space `},
		{"get 'wi", `get with\ space `},
		{"cd ../a", "cd ../app/"},
		{"set url u", ""},
		{"rm --rec", "rm --recursive "},
		{"snapshot ver", "snapshot verify "},
		{"help snapshot ver", "help snapshot verify "},
		{"help ge", "help get "},
		{"get /a # u", ""},
		{"nonsense u", ""},
		{"coord get ur", "coord get url "},
	} {
		head, all, tail := complete(test.line+" x", len([]rune(test.line)))
		var got []string
		for _, c := range all {
			got = append(got, head+c)
		}
		if strings.Join(got, "|") != test.want || tail != " x" {
			t.Errorf("%q: %q %q", test.line, got, tail)
		}
	}
}

// see waits until the terminal shows this text after what was seen before.
func (x *terminal) see(t *testing.T, what string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		x.mu.Lock()
		_, after, ok := strings.Cut(x.seen.String(), what)
		if ok {
			x.seen.Reset()
			x.seen.WriteString(after)
		}
		x.mu.Unlock()
		switch {
		case ok:
			return
		case time.Now().After(deadline):
			t.Fatalf("the terminal has not shown %q but %q", what, x.text())
		}
	}
}

// listens waits until the terminal reads Ctrl-C as a key. For a short time after the
// prompt Ctrl-C is still a signal, with which the terminal discards the typed text.
func (x *terminal) listens(t *testing.T) {
	t.Helper()
	eventually(t, "Ctrl-C is a key", func() bool {
		mode, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS)
		return err == nil && mode.Lflag&unix.ISIG == 0
	})
}

func (x *terminal) typeIn(s string) { _, _ = io.WriteString(x.master, s) }

func TestShellOnTerminal(t *testing.T) {
	addr := serve(t, nil)
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	x := onTerminal(t, "shell")
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100}); err != nil {
		t.Fatal(err)
	}
	x.see(t, addr+": node node1")
	x.see(t, "coord:/> ")
	x.typeIn("create /app value\r")
	x.see(t, "/app\r\n")
	x.see(t, "coord:/> ")
	x.typeIn("cd /a\t\r") // Tab completes: app
	x.see(t, "coord:/app> ")
	x.typeIn("get .\r")
	x.see(t, "value\r\n") // on a terminal, with a line end
	x.see(t, "coord:/app> ")
	x.typeIn("get nope\r")
	x.see(t, "coord: /app/nope: no such znode")
	x.see(t, "coord:/app> ")
	x.typeIn("create 'two\r")
	x.see(t, "> ")
	x.typeIn("lines'\r")
	x.see(t, "control character")
	x.see(t, "coord:/app> ")
	x.typeIn("rm -r /app\r") // asks, like on any terminal
	x.see(t, "[y/N] ")
	x.typeIn("n\n")
	x.see(t, "not done")
	x.see(t, "coord:/app> ")
	x.typeIn("watch --initial .\r")
	x.see(t, "initial 0x")
	_ = x.cmd.Process.Signal(syscall.SIGINT) // like Ctrl-C: ends the command
	x.see(t, "interrupted")
	x.see(t, "coord:/app> ")
	x.listens(t)
	x.typeIn("get wrong\x03") // at the prompt Ctrl-C discards the line
	x.see(t, "coord:/app> ")
	x.typeIn(" get secret\r") // begins with a space: not kept in the history
	x.see(t, "coord:/app> ")
	x.typeIn("\x1b[A\x1b[A\r") // two lines up: the rm before watch
	x.see(t, "[y/N] ")
	x.typeIn("n\n")
	x.see(t, "coord:/app> ")
	x.typeIn("exit 3\r")
	if code, text := x.wait(); code != 3 {
		t.Errorf("%d %q", code, text)
	}
	b, err := os.ReadFile(filepath.Join(state, "coord", "history"))
	if err != nil || !strings.HasPrefix(string(b), "create /app value\ncd /app \nget .\n") || strings.Contains(string(b), "secret") {
		t.Errorf("history: %q %v", b, err)
	}
	if info, err := os.Stat(filepath.Join(state, "coord", "history")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error("the history may be read by others: ", info.Mode(), err)
	}

	x = onTerminal(t, "shell")
	x.see(t, "coord:/> ")
	x.typeIn("\x04") // Ctrl-D
	if code, text := x.wait(); code != exitOK {
		t.Errorf("Ctrl-D: %d %q", code, text)
	}
	x = onTerminal(t, "shell")
	x.see(t, "coord:/> ")
	_ = x.cmd.Process.Signal(syscall.SIGTERM)
	if code, text := x.wait(); code != 143 {
		t.Errorf("TERM: %d %q", code, text)
	}
}

// runOf is a run of a command without flags.
func runOf(t *testing.T, name string) *run {
	t.Helper()
	cmd := find(commands(), name)
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	for _, f := range cmd.allFlags() {
		if err := f.Apply(set); err != nil {
			t.Fatal(err)
		}
	}
	return &run{
		console: newConsole(t.Context(), strings.NewReader(""), io.Discard, io.Discard), cmd: cmd, line: &line{command: cmd},
		flags: cli.NewContext(&cli.App{}, set, nil),
	}
}

// gate is a proxy for a server that counts its connections.
type gate struct {
	mu   sync.Mutex
	made int
	open []net.Conn
}

func gateTo(t *testing.T, server string) (*gate, string) {
	t.Helper()
	addr := filepath.Join(t.TempDir(), "gate")
	l, err := net.Listen("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	g := &gate{}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", strings.TrimPrefix(server, "unix:"))
			if err != nil {
				_ = near.Close()
				continue
			}
			g.mu.Lock()
			g.made++
			g.open = append(g.open, near, far)
			g.mu.Unlock()
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				}()
			}
		}
	}()
	return g, "unix:" + addr
}

// cut closes all connections.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, nc := range g.open {
		_ = nc.Close()
	}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.made
}

// TestShellHasOneConnection: all lines share one connection, except those that need
// their own, and those with another address or identity.
func TestShellHasOneConnection(t *testing.T) {
	server := serve(t, nil)
	g, addr := gateTo(t, server)
	t.Setenv("COORD_SERVER", addr)
	file, auth := filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, []byte("ann:secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, script string
		made         int
		code         int
	}{
		{"one", "create /app v\ncd /app\nget .\nls -R /\nget /nope\nexists /nope\nset . w\nacl .\ntree .\nrm -r -y /app\nget --explain /app\nversion -q", 1, exitNotFound},
		{"none is needed", "pwd\nhelp cd", 0, exitOK},
		{"sessions", "pwd\nls /\nsession new --file " + file + "\nsession close --session " + file + "\nls /", 3, exitOK},
		{"an ephemeral goes with its command", "create /x\ntxn -f " + opsFile(t, "CREATE /x/e EPHEMERAL v\n") + "\nwatch -q --until gone --timeout 5s /x/e\nls /x\nrm /x", 3, exitOK},
		{"another address", "create /x\nls --server " + server + " /x\nls /x\nls /x\nrm /x", 2, exitOK},
		{"another identity", "create /x\nls --auth-file " + auth + " /x\nls --auth-file " + auth + " /x\nls /x\nrm /x", 3, exitOK},
	} {
		before := g.count()
		got := coord(t, test.script, "shell", "--keep-going")
		if made := g.count() - before; made != test.made || got.code != test.code {
			t.Errorf("%s: %d connections, not %d: %+v", test.name, made, test.made, got)
		}
	}
}

func opsFile(t *testing.T, ops string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ops")
	if err := os.WriteFile(file, []byte(ops), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// lineOf runs a line of a shell and returns its output.
func lineOf(t *testing.T, s *shell, line string) (string, error) {
	t.Helper()
	var out strings.Builder
	s.r.console = newConsole(t.Context(), strings.NewReader(""), &out, io.Discard)
	words, err := splitWords(line)
	if err == nil {
		err = s.line(t.Context(), words)
	}
	return out.String(), err
}

// TestShellDialsAgain: a connection that has ended does not make the next line
// fail, and a connection on which a reply is outstanding is not reused.
func TestShellDialsAgain(t *testing.T) {
	g, addr := gateTo(t, serve(t, nil))
	t.Setenv("COORD_SERVER", addr)
	s := &shell{cwd: "/", r: runOf(t, "shell")}
	s.r.link = &link{}
	defer s.r.link.close()
	if _, err := lineOf(t, s, "create /app v"); err != nil {
		t.Fatal(err)
	}
	g.cut()
	<-s.r.link.conn.Done()
	if out, err := lineOf(t, s, "get /app"); out != "v" || err != nil || g.count() != 2 {
		t.Errorf("%q %v, %d connections", out, err, g.count())
	}

	fake(t, func(r *text.Request) []byte {
		if r.Path == "/slow" {
			return nil
		}
		return reply(text.Reply{Kind: text.KindData, Data: []byte(r.Path)})
	})
	for range 2 {
		if out, err := lineOf(t, s, "get /a"); out != "/a" || err != nil {
			t.Errorf("%q %v", out, err)
		}
		if _, err := lineOf(t, s, "get --timeout 20ms /slow"); exitCode(err) != exitNoAnswer {
			t.Error(err)
		}
	}
}
