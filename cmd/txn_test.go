package cmd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coord/server"
	"coord/server/text"
	"coord/tree/znode"
)

func TestTxn(t *testing.T) {
	serve(t, nil)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("blob", []byte("\x00\xff\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ops  string
		code int
		out  string
		err  string // a part of stderr; empty: nothing is printed
	}{
		{"# comment\n\nCREATE /a \"two words\"\ncreate /a/blob @blob\nCREATE /a/s- SEQ :3\n1\n2\nSET /a v=0 \"@blob\"", 0, "/a\n/a/blob\n/a/s-0000000001\n", ""},
		{"CHECK /a v=1\nSET /a x\nCHECK /a v=1\n", 5, "", "stdin, line 3: /a: the version does not match (it is 2)\n"},
		{"SET /a :4\n\n#\n\n\n\n# the fifth\nRM /none\n", 3, "", "stdin, line 8: /none: no such znode\n"},
		{"RM /a\n", 5, "", "stdin, line 1: /a: the znode has children\nhint: coord rm -r"},
		{"\n\nGET /a\n", 2, "", "stdin, line 3: GET is not allowed in a TXN"},
		{"TXN 1\nRM /a\n", 2, "", "stdin, line 1: TXN is not allowed in a TXN"},
		{"SET /a x y\n", 2, "", "stdin, line 1: unknown option \"x\""},
		{"FROB /a\n", 14, "", "stdin, line 1: unknown verb \"FROB\""},
		{"SET a x", 2, "", `stdin, line 1: path "a" does not start with /`},
		{"SET /a :10\nshort\n", 2, "", "stdin, line 1: the value is cut"},
		{"SET /a :2\nlong\n", 19, "", "stdin, line 1: "},
		{"SET /a @none\n", 2, "", "stdin, line 1: @none: no such file or directory\nhint: quote a value that begins with @: \"@none\"\n"},
		{"# nothing\n", 2, "", "stdin has no operations\n"},
		{strings.Repeat("CHECK /a\n", 1001), 11, "", "stdin, line 1001: a transaction has at most 1,000 operations"},
		{strings.Repeat("CHECK /a\n", 1000), 0, "", ""},
		{"SET /a last\r\nCREATE /a/crlf @blob\r\n", 0, "/a/crlf\n", ""},
	} {
		got := coord(t, tt.ops, "txn", "-f", "-")
		if got.code != tt.code || got.out != tt.out || (tt.err == "") != (got.errOut == "") || !strings.Contains(got.errOut, tt.err) {
			t.Errorf("%.60q: %+v, want %d %q %q", tt.ops, got, tt.code, tt.out, tt.err)
		}
	}
	for path, want := range map[string]string{"/a": "last", "/a/blob": "\x00\xff\n", "/a/s-0000000001": "1\n2", "/a/crlf": "\x00\xff\n"} {
		if got := coord(t, "", "get", path); got.out != want {
			t.Errorf("%s is %q, want %q", path, got.out, want)
		}
	}
	if got := coord(t, "SET /a x\nCREATE /a/s- SEQ y", "txn", "-f", "-", "--dry-run"); got.out != "TXN 2\nSET /a x\nCREATE /a/s- SEQ y\n" || got.code != exitOK {
		t.Errorf("%+v", got)
	}
	if got := coord(t, "", "get", "/a"); got.out != "last" {
		t.Error("a dry run sets ", got.out)
	}
	if got := coord(t, "", "txn", "-f", "none"); got.code != exitNotFound {
		t.Errorf("%+v", got)
	}
}

// FuzzParseOps: operations that were parsed from a file can be sent, and are parsed
// to the same operations again.
func FuzzParseOps(f *testing.F) {
	f.Add([]byte("SET /a :3\na\nb\nRM /b\n"))
	f.Add([]byte("# x\nCREATE \"/a b\" SEQ acl=world:anyone:r \"v\"\r\nCHECK /a v=-1"))
	f.Fuzz(func(t *testing.T, in []byte) {
		ops, lines, err := parseOps("ops", in)
		if err != nil {
			var at *lineError
			if errors.As(err, &at) && (at.line < 1 || at.line > 1+strings.Count(string(in), "\n")) {
				t.Fatalf("%q: line %d", in, at.line)
			}
			return
		}
		for i, line := range lines {
			if rows := strings.Split(string(in), "\n"); strings.TrimSpace(rows[line-1]) == "" {
				t.Fatalf("%q: operation %d is said to stand on line %d", in, i, line)
			}
		}
		again := text.AppendRequest(nil, &text.Request{Op: text.Op{Verb: text.VerbTxn}, Ops: ops})
		req, n, err := text.NewParser(explainLimits()).Next(again)
		if err != nil || n != len(again) || len(req.Ops) != len(ops) {
			t.Fatalf("%q is sent as %q: %v", in, again, err)
		}
		for i := range ops {
			if req.Ops[i].Path != ops[i].Path || string(req.Ops[i].Value) != string(ops[i].Value) || req.Ops[i].Version != ops[i].Version {
				t.Fatalf("%q: %+v is sent as %+v", in, ops[i], req.Ops[i])
			}
		}
	})
}

func TestACL(t *testing.T) {
	id, err := znode.Digest("ann:pw")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, func(cfg *server.Config) { cfg.Listen = []string{"127.0.0.1:0"} }) // not a unix socket, which has an identity of its own
	must(t, "create -p /a/b x", "create /a/c x")
	t.Setenv("COORD_AUTH_FILE", secretFile(t, "ann:pw"))
	open := "world:anyone:r"
	for _, tt := range []struct {
		args string
		code int
		out  string
		err  string
	}{
		{"acl get /a", 0, "world:anyone:cdrwa\n", ""},
		{"acl set /a " + open + " auth::cdrwa -v 0", 0, "", ""},
		{"acl set /a world:anyone:r auth::cdrwa -v 0", 5, "", "(it is 1)"},
		{"acl /a", 0, "world:anyone:r\ndigest:" + id.ID + ":cdrwa\n", ""},
		{"acl set -r -v 0 /a auth::cdrwa", 5, "", "(it is 1)"},
		{"acl get /a/b", 0, "world:anyone:cdrwa\n", ""},
		{"acl set -r -v 1 /a auth::cdrwa", 0, "", ""},
		{"acl get /a/b", 0, "digest:" + id.ID + ":cdrwa\n", ""},
		{"acl get /a/c --json", 0, `{"v":1,"path":"/a/c","acl":["digest:` + id.ID + `:cdrwa"],"aversion":1}` + "\n", ""},
		{"acl set --json -r /a world:anyone:r,auth::cdrwa", 0, "", ""},
		{"acl get /none", 3, "", "no such znode"},
		{"acl set /a world:somebody:r", 2, "", "invalid ACL"},
	} {
		got := coord(t, "", strings.Fields(tt.args)...)
		if got.code != tt.code || got.out != tt.out && !strings.HasPrefix(got.out, `{"v":1,"path":"/a","aversion":3,"changed":3,"zxid":"0x`) ||
			(tt.err == "") != (got.errOut == "") || !strings.Contains(got.errOut, tt.err) {
			t.Errorf("coord %s: %+v, want %d %q %q", tt.args, got, tt.code, tt.out, tt.err)
		}
	}
	t.Setenv("COORD_AUTH_FILE", "")
	if got := coord(t, "", "acl", "/a"); got.out != "world:anyone:r\ndigest:ann:x:cdrwa\n" {
		t.Errorf("the hash is not hidden: %+v", got)
	}
	if got := coord(t, "", "acl", "set", "/a", "world:anyone:cdrwa"); got.code != exitPermission {
		t.Errorf("%+v", got)
	}
}

func secretFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestACLInPart: the refusal of one znode ends the command; a znode that is gone does not.
func TestACLInPart(t *testing.T) {
	refused := znode.ErrNoNode
	fake(t, func(r *text.Request) []byte {
		switch {
		case r.Verb == text.VerbTree:
			l := text.Reply{Kind: text.KindList}
			for _, p := range []string{"/a", "/a/b", "/a/c", "/a/d"} {
				l.Items = append(l.Items, text.Reply{Kind: text.KindItem, Arg: p})
			}
			return reply(l)
		case r.Path == "/a/c":
			return reply(text.Reply{Kind: text.KindErr, Code: refused})
		}
		return reply(text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Int("av", 7), text.Zxid("zxid", 9)}})
	})
	args := []string{"acl", "set", "-r", "/a", "world:anyone:r", "--json"}
	if got := coord(t, "", args...); got.code != exitOK || got.out != `{"v":1,"path":"/a","aversion":7,"changed":3,"zxid":"0x9"}`+"\n" {
		t.Errorf("%+v", got)
	}
	refused = znode.ErrNoAuth
	if got := coord(t, "", args...); got.code != exitPart || !strings.Contains(got.errOut, "the ACLs of 2 of 4 znodes were changed; then /a/c: not permitted") {
		t.Errorf("%+v", got)
	}
}
