package cmd

import (
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"coord/server/text"
)

// explained are command lines of every command that talks to a server and needs no
// reply for that.
var explained = []string{
	"get /a", "get -s --lin /a", "set /a x", "set -s -v 3 /a x", "set --create /a -", "create --seq -s --ttl 30s /a- x",
	"create -c -p /a/b --acl world:anyone:r,auth::cdrwa", "rm -v 2 /a", "ls /a", "ls -l --limit 5 /a", "ls -R /a", "exists /a", "status",
	"tree --depth 2 -l /a", "du /a", "find / --bigger 10", "snapshot -", "acl /a", "acl get /a", "export /a", "export /a a.yaml", "txn -f ops",
	"acl set -v 3 /a world:anyone:r ip:10.0.0.0/8:rw,auth::a", "lock ls /a", "session ls",
	"members", "members add h:1", "members remove --force a -y", "members promote a", "members replace a b -y", "members transfer", "leave -y",
}

// TestExplainIsWhatIsSent: the lines of --explain are those that a server receives.
func TestExplainIsWhatIsSent(t *testing.T) {
	const stdin = "two\nlines"
	t.Setenv("COORD_SERVER", "127.0.0.1:1")
	t.Chdir(t.TempDir())
	if err := os.WriteFile("ops", []byte("SET /a x\nRM /b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(explained))
	for i, args := range explained {
		got := coord(t, stdin, append(strings.Fields(args), "--explain")...)
		if got.code != exitOK || got.out == "" {
			t.Errorf("coord %s --explain: %+v", args, got)
		}
		if paged := strings.Contains(got.out, "LS ") || strings.Contains(got.out, "TREE "); paged != strings.Contains(got.errOut, "more=1") || !paged && got.errOut != "" {
			t.Errorf("coord %s --explain: stderr %q", args, got.errOut)
		}
		lines[i] = got.out
	}
	var mu sync.Mutex
	var sent []byte
	fake(t, func(r *text.Request) []byte {
		mu.Lock()
		defer mu.Unlock()
		sent = text.AppendRequest(sent, asWritten(r))
		return done(r)
	})
	for i, args := range explained {
		sent = nil
		coord(t, stdin, strings.Fields(args)...)
		want := string(sent)
		if args == "status" { // fake has answered it itself, like the request of Dial
			want = "HELLO proto=1 client=coord\n" + want
		}
		if lines[i] != want {
			t.Errorf("coord %s --explain prints\n%s, and sends\n%s", args, lines[i], want)
		}
	}
	for _, c := range commands() {
		if c.connects && c.asks == nil && !covered(c.name) {
			t.Errorf("coord %s --explain is not tried", c.name)
		}
	}
}

// asWritten removes what the parser adds to a request.
func asWritten(r *text.Request) *text.Request {
	r2 := *r
	if list := r.Verb == text.VerbLs || r.Verb == text.VerbTree || r.Verb == text.VerbSessions; list && r.Limit == text.DefaultListLimit {
		r2.Limit = 0
	}
	return &r2
}

func covered(name string) bool {
	for _, args := range explained {
		l, err := parseLine(commands(), strings.Fields(args))
		if err == nil && (l.command.name == name || l.command.name == "snapshot" && strings.HasPrefix(name, "snapshot ")) {
			return true
		}
	}
	return false
}

// TestExplainChangesNothing: commands that ask a server only read from it.
func TestExplainChangesNothing(t *testing.T) {
	addr := serve(t, nil)
	must(t, "create /a x", "create /a/b x")
	before := coord(t, "", "ls", "-R", "-l", "/").out
	for args, want := range map[string]string{
		"rm -r /a":                          "TREE /a\nRM /a recursive limit=10000\n",
		"rm -r -v 0 /a":                     "TREE /a stat\nRM /a v=0 recursive limit=10000\n",
		"rm -r /none":                       "TREE /none\n",
		"rm -r -v 3 /a/b":                   "TREE /a/b stat\n",
		"acl set -r -v 0 /a world:anyone:r": "TREE /a\nSETACL /a \"world:anyone:r\" v=0\nSETACL /a/b \"world:anyone:r\"\n",
	} {
		got := coord(t, "", append(strings.Fields(args), "--explain")...)
		if got.out != want {
			t.Errorf("coord %s --explain: %+v", args, got)
		}
		if strings.HasPrefix(args, "acl") {
			continue
		}
		real := coord(t, "", append(strings.Fields(args), "--dry-run")...)
		if got.code != real.code {
			t.Errorf("coord %s --explain: %+v, and really %+v", args, got, real)
		}
	}
	got := coord(t, "{\"path\":\"/b\",\"data\":\"y\"}\n{\"path\":\"/c\"}\n{\"v\":1,\"end\":true}\n", "import", "/a", "--explain", "--replace")
	if got.out != "GET /a\nGET /a/b\nGET /a/c\nTREE /a stat\nTXN 2\nSET /a/b v=0 y\nCREATE /a/c \"\"\n" {
		t.Errorf("%+v", got)
	}
	if after := coord(t, "", "ls", "-R", "-l", "/").out; after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	// A server accepts what is printed.
	got = coord(t, "", "set", "/a", "two words", "--explain")
	nc, err := net.Dial("unix", strings.TrimPrefix(addr, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, got.out+"QUIT\n")
	if answer, _ := io.ReadAll(nc); !strings.HasPrefix(string(answer), "OK v=1 ") {
		t.Errorf("%q is answered with %q", got.out, answer)
	}
}

// TestExplainSessions: commands that depend on made-up replies run no program,
// write no file, and do not show a session's password.
func TestExplainSessions(t *testing.T) {
	t.Setenv("COORD_SERVER", "127.0.0.1:1")
	t.Chdir(t.TempDir())
	const password = "abcdefabcdefabcdefabcdefabcdefab"
	if err := os.WriteFile("s", []byte(`{"v":1,"session":"0x51","password":"`+password+`","ttl_ms":60000}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const resume = "SESSION RESUME 0x51 ttl=90s hold=60s live=ping :32\n(the password of the session)\n"
	for args, want := range map[string]string{
		"lock --try /l -- touch wrong":         "SESSION NEW ttl=22500ms hold=15s live=ping\nLOCK /l timeout=0s\nSYNC /\nSESSION CLOSE\n",
		"elect --ttl 6s /l -- touch wrong":     "SESSION NEW ttl=9s hold=6s live=ping\nLOCK /l timeout=86400s\nSYNC /\nSESSION CLOSE\n",
		"barrier -n 3 /b -- touch wrong":       "SESSION NEW ttl=22500ms hold=15s live=ping\nFOLLOW /b recursive\nLS /b\nCREATE /b/enter- EPHEMERAL SEQ parents ",
		"session new --file wrong":             "SESSION NEW ttl=60s hold=60s\nSESSION DETACH hold=60s\n",
		"session renew --session s":            resume + "SESSION DETACH hold=60s\n",
		"lock acquire --shared --session s /l": resume + "LOCK /l timeout=86400s shared\nSYNC /\nSESSION DETACH hold=60s\n",
		"lock release --session s /l":          resume + "UNLOCK /l\nSESSION DETACH hold=60s\n",
		"create -e --session s /e x":           resume + "CREATE /e EPHEMERAL x\nSESSION DETACH hold=60s\n",
		"session close --session s":            "SESSION RESUME 0x51 ttl=60s hold=0s :32\n(the password of the session)\nSESSION CLOSE\n",
		"session close 0x77":                   "SESSION CLOSE 0x77\n",
		"watch -r /a":                          "FOLLOW /a recursive\n",
		"watch --once /a -- touch wrong":       "FOLLOW /a data\n",
	} {
		got := coord(t, "", append([]string{"--explain"}, strings.Fields(args)...)...)
		if got.code != exitOK || !strings.HasPrefix(got.out, want) || strings.Contains(got.out+got.errOut, password) {
			t.Errorf("coord %s --explain: %d\n%s\nwant\n%s%s", args, got.code, got.out, want, got.errOut)
		}
	}
	for name, there := range map[string]bool{"wrong": false, "s": true} {
		if _, err := os.Stat(name); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExplainKeepsSecrets: no stream contains a password.
func TestExplainKeepsSecrets(t *testing.T) {
	t.Setenv("COORD_AUTH", "ann:pass123")
	got := coord(t, "", "get", "/a", "--explain")
	if got.code != exitOK || got.out != "GET /a\n" || !strings.Contains(got.errOut, "AUTH digest ann ") || strings.Contains(got.out+got.errOut, "pass123") {
		t.Errorf("%+v", got)
	}
	js := coord(t, "\xff", "set", "/a", "-", "--explain", "--json", "-q")
	if js.out != `{"v":1,"verb":"SET","path":"/a","data64":"U0VUIC9hIDoxCv8K"}`+"\n" || js.errOut != "" {
		t.Errorf("%+v", js)
	}
	for args, code := range map[string]int{"get a": exitUsage, "set /a @none": exitUsage, "snapshot --data-dir d - ": exitUsage} {
		if got := coord(t, "", append(strings.Fields(args), "--explain")...); got.code != code || got.out != "" {
			t.Errorf("coord %s --explain: %+v", args, got)
		}
	}
	t.Setenv("COORD_AUTH", "")
	fake(t, func(*text.Request) []byte { return nil })
	if got := coord(t, "", "rm", "-r", "/a", "--explain", "--timeout", "700ms"); got.code != exitNoAnswer || got.out != "TREE /a\n" {
		t.Errorf("a server without answers: %+v", got)
	}
	fake(t, func(*text.Request) []byte { return []byte(hangUp) })
	if got := coord(t, "", "rm", "-r", "/a", "--explain"); got.code != exitNoAnswer || !strings.Contains(got.errOut, "closed the connection") {
		t.Errorf("a server that hangs up: %+v", got)
	}
	t.Setenv("COORD_SERVER", "127.0.0.1:1")
	if got := coord(t, "", "rm", "-r", "/a", "--explain"); got.code != exitNoAnswer || got.out != "" {
		t.Errorf("%+v", got)
	}
}
