package cmd

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"coord/server"
	"coord/server/text"
	"coord/tree/znode"
)

// TestDataCommands runs the data commands against a real server, in order.
func TestDataCommands(t *testing.T) {
	serve(t, nil)
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("a\x00b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args  string
		stdin string
		code  int
		out   string // a regular expression
		err   string // a part of stderr; empty: nothing is printed
	}{
		{"create /app hello", "", 0, "/app\n", ""},
		{"create /app again", "", 4, "", "coord: /app: the znode exists already\nhint: coord set"},
		{"create /no/parent x", "", 3, "", "hint: its parent is missing: -p creates it"},
		{"create /made/parent x -p", "", 0, "/made/parent\n", ""},
		{"create --seq /made/s-", "", 0, "/made/s-[0-9]{10}\n", ""},
		{"create --seq -s /made/s-", "", 0, "path=/made/s-[0-9]{10}\nversion=0\n(?s).*", ""},
		{"create -c /made/container", "", 0, "/made/container\n", ""},
		{"create --ttl 7d /made/ttl", "", 0, "/made/ttl\n", ""},
		{"create --ttl 90s --seq /made/ttl-", "", 0, "/made/ttl-[0-9]{10}\n", ""},
		{"create /made/read --acl world:anyone:r", "", 0, "/made/read\n", ""},
		{"set /made/read x", "", 6, "", "hint: authenticate"},
		{"get /app", "", 0, "hello", ""},
		{"get /nope", "", 3, "", "coord: /nope: no such znode\n"},
		{"get /app -s", "", 0, `version=0\ncversion=0\naversion=0\nchildren=0\nlength=5\nephemeral_owner=0x0\nctime=2.*Z\nmtime=2.*Z\nczxid=0x.*\nmzxid=0x.*\npzxid=0x.*\n`, ""},
		{"get --lin /app", "", 0, "hello", ""},
		{"set /app @" + file, "", 0, "", ""},
		{"get /app", "", 0, "a\x00b\n", ""},
		{"set /app - -s", "from stdin", 0, "version=2\n(?s).*length=10\n.*", ""},
		{"set /app -v 7 x", "", 5, "", "(it is 2)"},
		{"set /app -v 4294967298 x", "", 2, "", "coord: -v 4294967298: too large for a version\n"},
		{"set /app -v 4294967295 x", "", 2, "", "too large for a version"},
		{"set /app --v=2 x", "", 0, "", ""},
		{"set /app -- -5", "", 0, "", ""},
		{"get /app", "", 0, "-5", ""},
		{"set /app -- @x", "", 0, "", ""},
		{"get /app", "", 0, "@x", ""},
		{"set /new x", "", 3, "", "hint: --create creates it"},
		{"txn -f " + filepath.Dir(file), "", 2, "", "is a directory"},
		{"txn -f " + file + "/none", "", 2, "", "not a directory"},
		{"import --format json /app " + filepath.Dir(file), "", 2, "", "is a directory"},
		{"session renew --session " + filepath.Dir(file), "", 2, "", "is a directory"},
		{"fence check " + filepath.Dir(file) + " 5", "", 2, "", "is a directory"},
		{"set --create /new/deep x", "", 3, "", "hint: its parent is missing: -p creates it"},
		{"set --create -v 3 /new x", "", 3, "", "hint: --create makes a znode without -v only"},
		{"set --create -p -v 3 /new x", "", 3, "", "hint: --create makes a znode without -v only"},
		{"set --create -p -v 0 /new/deep x", "", 3, "", "hint: --create makes a znode without -v only"},
		{"set --create -p /new/deep x", "", 0, "", ""},
		{"set --create -p /new/deep y", "", 0, "", ""},
		{"get /new/deep", "", 0, "y", ""},
		{"exists /new", "", 0, "", ""},
		{"exists /new/other", "", 1, "", ""},
		{"exists -s /new", "", 0, "version=0\n(?s).*", ""},
		{"ls /", "", 0, "app\nmade\nnew\nzookeeper\n", ""},
		{"ls / --limit 2", "", 0, "app\nmade\n", "coord: there are more than 2\n"},
		{"ls / --limit 4", "", 0, "app\nmade\nnew\nzookeeper\n", ""},
		{"ls -R /new", "", 0, "/new/deep\n", ""},
		{"ls -R / --limit 2", "", 0, "/app\n/made\n", "more than 2"},
		{"ls -R -0 /new", "", 0, "/new/deep\x00", ""},
		{"ls -l /new", "", 0, ` +1 +0 +1 +- 2.*Z deep\n`, ""},
		{"ls /nope", "", 3, "", "no such znode"},
		{"rm /new", "", 5, "", "hint: coord rm -r"},
		{"rm /new/deep -v 9", "", 5, "", "(it is 1)"},
		{"rm -r --dry-run /new", "", 0, "/new\n/new/deep\n", ""},
		{"rm -r --dry-run -0 /new", "", 0, "/new\x00/new/deep\x00", ""},
		{"rm -r -y -v 3 /new", "", 5, "", "(it is 0)"},
		{"rm -r /new", "y\n", 2, "", "hint: -y confirms it"},
		{"rm -r -y /new", "", 0, "", ""},
		{"rm -r -y /new", "", 3, "", "no such znode"},
		{"rm /app", "", 0, "", ""},
		{"rm -r -y -v 0 /made", "", 0, "", ""},
		{"ls /", "", 0, "zookeeper\n", ""},
		{"status", "", 0, "server +unix:.*\nversion +.*\nnode +node1\nrole +standalone\ncluster +coord\nzxid +0x.*\nuptime +\\d+s\nznodes +4\ndata +[1-9]\\d* B\n" +
			"ephemerals +0\nsessions +0\nconnections +[1-9]\nwatches +0\nslow clients +0\nreads +[\\d.]+ ms, p99 .*, most \\d+ ms\nwrites +[\\d.]+ ms, p99 .*, most \\d+ ms\n" +
			"fsync +[\\d.]+ ms, p99 [\\d.]+ ms, most [\\d.]+ ms\nlog +[1-9]\\d* B\nlast snapshot +none since the start\n", ""},
		{"status --all", "", 0, `(?s)server +unix:.*\nnode +node1\n.*znode_count +4\n.*coord_fsync_p99_ms +\d.*`, ""},
		{"rm /zookeeper/quota", "", 2, "", "cannot be deleted"},
	} {
		got := coord(t, tt.stdin, strings.Fields(tt.args)...)
		if got.code != tt.code || !regexp.MustCompile("^(?:"+tt.out+")$").MatchString(got.out) {
			t.Errorf("coord %s: code %d, stdout %q, stderr %q", tt.args, got.code, got.out, got.errOut)
		}
		if (tt.err == "") != (got.errOut == "") || !strings.Contains(got.errOut, tt.err) {
			t.Errorf("coord %s: stderr %q, want %q", tt.args, got.errOut, tt.err)
		}
	}
}

// TestJSON compares the JSON of every command with a file: scripts rely on the
// names in it.
func TestJSON(t *testing.T) {
	serve(t, nil)
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("binary", []byte("\xff\xfe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("ops", []byte("CHECK /c\nSET /c v=0 y\nCREATE /c/s- SEQ x\nCREATE /d x\nRM /d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, args := range []string{
		"create /a hello", "create /a", "create -s --seq /a/s- x", "set /a @binary", "set -s /a <b>", "set -v 9 /a x", "get /a", "get -s /a",
		"set /a @binary", "get /a", "get /none", "exists /a", "exists /none", "ls /a", "ls -l /a", "ls -R /a", "rm -r --dry-run /a", "rm -r -y /a", "create /b",
		"create /c x", "tree /c", "tree -l /c", "du /", "find /c -l", "acl get /c", "acl set /c world:anyone:cdrwa", "acl set -r /c world:anyone:cdrwa",
		"txn -f ops", "txn -f ops", "txn -f ops --dry-run", "get /c --explain", "export /c c.yaml", "export /c", "import /d c.yaml", "import /d c.yaml --dry-run", "import /d/x c.yaml --dry-run", "rm -r -y /c",
		"rm /b", "rm /b", "status", "snapshot b.coord", "snapshot b.coord", "snapshot -", "snapshot inspect b.coord", "snapshot inspect --top 1 b.coord",
		"snapshot verify b.coord", "snapshot verify binary", "restore b.coord --data-dir new --dry-run", "restore b.coord --data-dir new",
		"restore b.coord --data-dir new", "version", "get --server 127.0.0.1:1 /a", "frobnicate",
	} {
		got := coord(t, "", append([]string{"--json"}, strings.Fields(args)...)...)
		b.WriteString("$ coord --json " + args + "\n")
		switch {
		case strings.HasPrefix(args, "restore ") && got.code == exitOK: // the report is tested in that room
			var report map[string]any
			if err := json.Unmarshal([]byte(got.out), &report); err != nil {
				t.Error(args, err)
			}
			b.WriteString(strings.Join(slices.Sorted(maps.Keys(report)), " ") + "\n")
		case args != "snapshot -":
			b.WriteString(got.out)
		}
		for line := range strings.Lines(got.out + got.errOut) {
			if line[0] == '{' && !json.Valid([]byte(line)) || line[0] != '{' && args != "snapshot -" {
				t.Errorf("%s: no JSON: %s", args, line)
			}
		}
		if got.errOut != "" {
			b.WriteString("stderr: " + got.errOut)
		}
		b.WriteString("exit " + count(int64(got.code)) + "\n\n")
	}
	text := b.String()
	for _, r := range []struct{ what, by string }{
		{`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ`, "TIME"},
		{`0x[0-9a-f]+`, "0xN"},
		{`"(sha256|digest|backup|cluster|lineage)":"[0-9a-f]{16,64}"`, `"$1":"HEX"`},
		{`cluster [0-9a-f]{32}`, "cluster HEX"},
		{`"(bytes|raw_bytes)":\d{3,}`, `"$1":0`},
		{`"server":"[^"]*"`, `"server":"ADDR"`},
		{`"facts":\{[^}]*\}`, `"facts":{}`},
		{`"go":.*`, `"go":…}`},
		{`it holds [^"]*`, "it holds …"},
		{regexp.QuoteMeta(dir), "DIR"},
	} {
		text = regexp.MustCompile(r.what).ReplaceAllString(text, r.by)
	}
	golden(t, "json.txt", text)
}

func TestAuth(t *testing.T) {
	id, err := znode.Digest("ann:pw:x")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, func(cfg *server.Config) { cfg.SuperDigest = id.ID })
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("ann:pw:x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := coord(t, "", "create", "/mine", "v", "--acl", "digest:"+id.ID+":cdrwa", "--auth-file", file); got.code != exitOK {
		t.Fatal(got)
	}
	if got := coord(t, "", "get", "/mine"); got.code != exitPermission || !strings.Contains(got.errOut, "--auth-file") {
		t.Error(got)
	}
	t.Setenv("COORD_AUTH", "ann:pw:x")
	if got := coord(t, "", "get", "/mine"); got.code != exitOK || got.out != "v" {
		t.Error(got)
	}
	t.Setenv("COORD_AUTH", "wrong")
	if got := coord(t, "", "get", "/mine"); got.code != exitUsage || strings.Contains(got.errOut, "wrong") {
		t.Error(got)
	}
	if got := coord(t, "", "get", "/mine", "--auth-file", file); got.code != exitOK {
		t.Error("--auth-file wins over COORD_AUTH: ", got)
	}
}

// TestBigTree: if a tree has more znodes than fit into one transaction, they are
// deleted one by one.
func TestBigTree(t *testing.T) {
	paths := []string{"/t"}
	for range atomicRm {
		paths = append(paths, "/t/"+strings.Repeat("n", 5)+count(int64(len(paths))))
	}
	tree := func(r *text.Request) []byte {
		l := text.Reply{Kind: text.KindList}
		for i, p := range paths {
			switch {
			case p == r.After:
				l.Items = nil
			case len(l.Items) < int(r.Limit):
				l.Items = append(l.Items, text.Reply{Kind: text.KindItem, Arg: p, Fields: []text.Field{text.Int("v", 4)}})
			}
			if i == len(paths)-1 && len(l.Items) > 0 && l.Items[len(l.Items)-1].Arg != p {
				l.Fields = []text.Field{text.Int("more", 1)}
			}
		}
		return reply(l)
	}
	var removed int
	failAt := -1
	fake(t, func(r *text.Request) []byte {
		if r.Verb == text.VerbTree {
			return tree(r)
		}
		removed++
		if want := paths[len(paths)-removed]; r.Path != want || r.Recursive {
			t.Errorf("the request %d deletes %s, want %s", removed, r.Path, want)
		}
		switch {
		case removed == 10: // another client has deleted it
			return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoNode})
		case removed == failAt:
			return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoAuth})
		case r.Path == "/t" && r.Version != 4:
			t.Error("the top is deleted without its version")
		}
		return reply(text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Zxid("zxid", 9)}})
	})
	got := coord(t, "", "rm", "-r", "-y", "-v", "4", "/t", "--json")
	if got.code != exitOK || got.out != `{"v":1,"path":"/t","removed":10000,"atomic":false,"zxid":"0x9"}`+"\n" || !strings.Contains(got.errOut, "one by one") {
		t.Errorf("%+v", got)
	}
	removed, failAt = 0, 100
	got = coord(t, "", "rm", "-r", "-y", "-v", "4", "/t")
	if got.code != exitPart || !strings.Contains(got.errOut, "98 of 10,001 znodes were deleted; then ") {
		t.Errorf("%+v", got)
	}
	if got := coord(t, "", "rm", "-r", "-y", "-v", "5", "/t"); got.code != exitConflict {
		t.Errorf("%+v", got)
	}
}

// TestLostAnswers: what a command reports when no reply comes.
func TestLostAnswers(t *testing.T) {
	fake(t, func(*text.Request) []byte { return []byte(hangUp) })
	for args, code := range map[string]int{
		"get /a": exitNoAnswer, "ls /": exitNoAnswer, "set /a x": exitUncertain, "create /a": exitUncertain, "rm /a": exitUncertain,
		"set -s /a x": exitUncertain, "status": exitNoAnswer,
	} {
		got := coord(t, "", strings.Fields(args)...)
		if got.code != code || got.out != "" {
			t.Errorf("coord %s: %+v, want %d", args, got, code)
		}
		if code == exitUncertain && !strings.Contains(got.errOut, "read it again before you repeat it") {
			t.Errorf("coord %s: %s", args, got.errOut)
		}
	}
	fake(t, func(*text.Request) []byte { return nil })
	for args, code := range map[string]int{"get /a": exitNoAnswer, "set /a x": exitUncertain} {
		if got := coord(t, "", append(strings.Fields(args), "--timeout", "300ms")...); got.code != code || !strings.Contains(got.errOut, "deadline") && !strings.Contains(got.errOut, "in time") {
			t.Errorf("coord %s: %+v, want %d", args, got, code)
		}
	}
}

func TestValueTooBig(t *testing.T) {
	got := coord(t, strings.Repeat("x", server.MaxMaxFrame+1), "set", "/a", "-")
	if got.code != exitLimit || !strings.Contains(got.errOut, "stdin is too big for a value") {
		t.Errorf("%+v", got)
	}
}
