package text_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// op and request make an Op and a Request with their default values.
func op(v text.Verb, path string, change ...func(*text.Op)) text.Op {
	o := text.Op{Verb: v, Path: path, Version: text.AnyVersion}
	for _, f := range change {
		f(&o)
	}
	return o
}

func request(v text.Verb, path string, change ...func(*text.Request)) *text.Request {
	r := &text.Request{Op: op(v, path)}
	for _, f := range change {
		f(r)
	}
	return r
}

func value(s string) func(*text.Request) {
	return func(r *text.Request) { r.Value = []byte(s) }
}

func zxid(z znode.Zxid) func(*text.Request) {
	return func(r *text.Request) { r.Zxid, r.HasZxid = z, true }
}

func TestRequests(t *testing.T) {
	t.Parallel()
	crlf := func(r *text.Request) { r.CRLF = true }
	limit := func(n int32) func(*text.Request) { return func(r *text.Request) { r.Limit = n } }
	tests := []struct {
		name, in string
		want     *text.Request
	}{
		{"plain", "GET /app\n", request(text.VerbGet, "/app")},
		{"verb in lower case", "get /app\n", request(text.VerbGet, "/app")},
		{"spaces", "  GET   /app   stat  \n", request(text.VerbGet, "/app", func(r *text.Request) { r.Stat = true })},
		{"options in other cases", "GET /app STAT Lin\n", request(text.VerbGet, "/app", func(r *text.Request) { r.Stat, r.Lin = true, true })},
		{"tag", "@a-1 GET /app\n", request(text.VerbGet, "/app", func(r *text.Request) { r.Tag = "a-1" })},
		{"CR LF", "GET /app\r\n", request(text.VerbGet, "/app", crlf)},
		{"CR NUL", "GET /app\r\x00", request(text.VerbGet, "/app", crlf)},
		{"CR NUL LF", "GET /app\r\x00\n", request(text.VerbGet, "/app", crlf)},
		{"quoted path", `GET "/a b"` + "\n", request(text.VerbGet, "/a b")},
		{"escapes in a path", `GET "/a\x62\"\\"` + "\n", request(text.VerbGet, `/ab"\`)},
		{"path with an equals sign", "GET /a=b\n", request(text.VerbGet, "/a=b")},
		{"path like an option", "GET /stat stat\n", request(text.VerbGet, "/stat", func(r *text.Request) { r.Stat = true })},
		{"path in UTF-8", "GET /hörby\n", request(text.VerbGet, "/hörby")},

		{"word as value", "SET /x hello\n", request(text.VerbSet, "/x", value("hello"))},
		{"quoted value", `SET /x "a b"` + "\n", request(text.VerbSet, "/x", value("a b"))},
		{"all escapes", `SET /x "\n\r\t\\\"\x00\xfF"` + "\n", request(text.VerbSet, "/x", value("\n\r\t\\\"\x00\xff"))},
		{"a tab in quotes", "SET /x \"a\tb\"\n", request(text.VerbSet, "/x", value("a\tb"))},
		{"empty value", `SET /x ""` + "\n", request(text.VerbSet, "/x", value(""))},
		{"payload", "SET /x :5\na\nb\x00c\n", request(text.VerbSet, "/x", value("a\nb\x00c"))},
		{"empty payload", "SET /x :0\n\n", request(text.VerbSet, "/x", value(""))},
		{"payload and CR LF", "SET /x :2\r\nab\r\n", request(text.VerbSet, "/x", value("ab"), crlf)},
		{"payload and CR NUL", "SET /x :2\r\x00ab\r\x00", request(text.VerbSet, "/x", value("ab"), crlf)},
		{"payload and CR NUL LF", "SET /x :2\r\x00\nab\r\x00\n", request(text.VerbSet, "/x", value("ab"), crlf)},
		{"payload like telnet", "SET /x :4\n\xff\xf4\xff\xfd\n", request(text.VerbSet, "/x", value("\xff\xf4\xff\xfd"))},
		{"payload like HTTP", "SET /x :14\nPOST / HTTP/1.\n", request(text.VerbSet, "/x", value("POST / HTTP/1."))},
		{"value like an option", "SET /x v=7\n", request(text.VerbSet, "/x", value("v=7"))},
		{"value like a flag", "CREATE /x SEQ\n", request(text.VerbCreate, "/x", value("SEQ"))},
		{"value like another flag", "CREATE /x EPHEMERAL\n", request(text.VerbCreate, "/x", value("EPHEMERAL"))},
		{"quoted value that begins with a colon", `SET /x ":5"` + "\n", request(text.VerbSet, "/x", value(":5"))},
		{"quoted value that ends in a length", `SET /x "a :5"` + "\n", request(text.VerbSet, "/x", value("a :5"))},
		{"quoted value like HTTP", `SET /x "HTTP/2"` + "\n", request(text.VerbSet, "/x", value("HTTP/2"))},
		{"quoted words like HTTP", `SET /x "a HTTP/2"` + "\n", request(text.VerbSet, "/x", value("a HTTP/2"))},
		{"value like HTTP behind an option", "SET /x v=1 HTTP/2\n", request(text.VerbSet, "/x", value("HTTP/2"), func(r *text.Request) { r.Version = 1 })},
		{"value nearly like HTTP", "SET /x HTTP/next\n", request(text.VerbSet, "/x", value("HTTP/next"))},
		{"value like a header", "SET /x Host:\n", request(text.VerbSet, "/x", value("Host:"))},

		{"SET v create", "SET /x v=3 create y\n", request(text.VerbSet, "/x", value("y"), func(r *text.Request) { r.Version, r.Create = 3, true })},
		{"the lowest version", "SET /x v=-2147483648 y\n", request(text.VerbSet, "/x", value("y"), func(r *text.Request) { r.Version = -1 << 31 })},
		{"quoted option", `SET /x v="3" y` + "\n", request(text.VerbSet, "/x", value("y"), func(r *text.Request) { r.Version = 3 })},
		{"CREATE SEQ", "CREATE /x/ SEQ parents y\n", request(text.VerbCreate, "/x/", value("y"), func(r *text.Request) { r.Mode, r.Parents = znode.PersistentSequential, true })},
		{"CREATE CONTAINER", "CREATE /x container y\n", request(text.VerbCreate, "/x", value("y"), func(r *text.Request) { r.Mode = znode.Container })},
		{"CREATE ttl", "CREATE /x ttl=30s y\n", request(text.VerbCreate, "/x", value("y"), func(r *text.Request) { r.Mode, r.TTLMS = znode.PersistentTTL, 30_000 })},
		{"CREATE ttl SEQ", "CREATE /x ttl=250ms SEQ y\n", request(text.VerbCreate, "/x", value("y"), func(r *text.Request) { r.Mode, r.TTLMS = znode.PersistentSequentialTTL, 250 })},
		{"CREATE acl", "CREATE /x acl=world:anyone:r,digest:u:h/+=:cdrwa y\n", request(text.VerbCreate, "/x", value("y"), func(r *text.Request) {
			r.ACL = znode.ACL{{Perms: znode.Read, Identity: znode.Identity{Scheme: "world", ID: "anyone"}}, {Perms: znode.All, Identity: znode.Identity{Scheme: "digest", ID: "u:h/+="}}}
		})},
		{"LS", "LS /x\n", request(text.VerbLs, "/x", limit(1000))},
		{"LS paging", "LS /x stat limit=5 after=\"a b\"\n", request(text.VerbLs, "/x", limit(5), func(r *text.Request) { r.Stat, r.After = true, "a b" })},
		{"TREE", "TREE /x depth=2 limit=7 after=/x/y stat data\n", request(text.VerbTree, "/x", limit(7), func(r *text.Request) {
			r.Stat, r.Data, r.Depth, r.After = true, true, 2, "/x/y"
		})},
		{"TREE of everything", "TREE / after=/x\n", request(text.VerbTree, "/", limit(1000), func(r *text.Request) { r.After = "/x" })},
		{"RM", "RM /x v=1\n", request(text.VerbRm, "/x", func(r *text.Request) { r.Version = 1 })},
		{"RM recursive", "RM /x recursive\n", request(text.VerbRm, "/x", limit(100), func(r *text.Request) { r.Recursive = true })},
		{"RM recursive limit", "RM /x limit=5 recursive\n", request(text.VerbRm, "/x", limit(5), func(r *text.Request) { r.Recursive = true })},
		{"EXISTS", "EXISTS /\n", request(text.VerbExists, "/")},
		{"SYNC", "SYNC /\n", request(text.VerbSync, "/")},
		{"CAT", "CAT /x\n", request(text.VerbCat, "/x")},
		{"GETACL", "GETACL /x\n", request(text.VerbGetACL, "/x")},
		{"SETACL", "SETACL /x world:anyone:r auth::cdrwa v=2\n", request(text.VerbSetACL, "/x", func(r *text.Request) {
			r.ACL = znode.ACL{{Perms: znode.Read, Identity: znode.Identity{Scheme: "world", ID: "anyone"}}, {Perms: znode.All, Identity: znode.Identity{Scheme: "auth"}}}
			r.Version = 2
		})},
		{"SNAPSHOT", "SNAPSHOT\n", request(text.VerbSnapshot, "")},
		{"SNAPSHOT min", "SNAPSHOT min=0x1ff\n", request(text.VerbSnapshot, "", zxid(0x1ff))},
		{"FORMAT", "FORMAT b64\n", request(text.VerbFormat, "", func(r *text.Request) { r.Format, r.HasFormat = text.FormatB64, true })},
		{"AUTH", "AUTH digest bob :4\na:\x00\n\n", request(text.VerbAuth, "", value("a:\x00\n"), func(r *text.Request) { r.Name = "bob" })},
		{"HELLO", "HELLO\n", request(text.VerbHello, "")},
		{"HELLO all", "HELLO proto=1 format=json client=me zxid=17\n", request(text.VerbHello, "", zxid(17), func(r *text.Request) {
			r.Format, r.HasFormat, r.Name = text.FormatJSON, true, "me"
		})},
		{"HELP", "help get\n", request(text.VerbHelp, "", func(r *text.Request) { r.Name = "get" })},
		{"PING", "PING\n", request(text.VerbPing, "")},
		{"INFO", "INFO\n", request(text.VerbInfo, "")},
		{"QUIT", "quit\r\n", request(text.VerbQuit, "", crlf)},
		{"TXN", "@t TXN 4\r\nCHECK /a v=1\n\nSET /b :5\nTXN 1\nCREATE /c SEQ \"x\"\nRM /d\n", request(text.VerbTxn, "", crlf, func(r *text.Request) {
			r.Tag = "t"
			r.Ops = []text.Op{
				op(text.VerbCheck, "/a", func(o *text.Op) { o.Version = 1 }),
				op(text.VerbSet, "/b", func(o *text.Op) { o.Value = []byte("TXN 1") }),
				op(text.VerbCreate, "/c", func(o *text.Op) { o.Value, o.Mode = []byte("x"), znode.PersistentSequential }),
				op(text.VerbRm, "/d"),
			}
		})},

		{"telnet's negotiation", "\xff\xfb\x1f\xff\xfa\x1f\x00\x50\x00\x0a\xff\xff\xff\xf0GET /a\xff\xf1pp\n", request(text.VerbGet, "/app")},
		{"telnet's negotiation and a payload", "\xff\xfd\x03SET /x :2\r\x00\nab\r\x00", request(text.VerbSet, "/x", value("ab"), crlf)},
		{"blank lines", "\n\r\n \n\r\x00\nPING\n", request(text.VerbPing, "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{len(tt.in), 1} {
				sameOutcomes(t, fmt.Sprintf("fed by %d", step), feed(t, text.DefaultLimits(), []byte(tt.in), step), []outcome{{req: tt.want}})
			}
		})
	}
}

// TestRefusals checks which requests are refused, with which code, and whether the PING after them
// is still understood.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const closes = true
	tests := []struct {
		name, in string
		code     znode.Code
		closes   bool
		msg      string // part of the message
	}{
		{"unknown verb", "FOO bar", znode.ErrUnknown, false, `"FOO"`},
		{"unknown verb with a payload", "FOO :4\nPING", znode.ErrUnknown, false, `"FOO"`},
		{"quoted verb", `"GET" /x`, znode.ErrUnknown, false, "GET"},
		{"tag without a verb", "@a", znode.ErrSyntax, false, "verb is missing"},
		{"empty tag", "@ PING", znode.ErrSyntax, false, "tag is missing"},
		{"long tag", "@" + strings.Repeat("x", 65) + " PING", znode.ErrSyntax, false, "at most 64"},
		{"only a payload", ":4\nPING", znode.ErrSyntax, false, "verb is missing"},
		{"no path", "GET", znode.ErrSyntax, false, "path is missing"},
		{"relative path", "GET app", znode.ErrSyntax, false, "does not start with /"},
		{"path with a slash too many", "GET /a/", znode.ErrSyntax, false, "ends with /"},
		{"empty path", `GET ""`, znode.ErrSyntax, false, "is empty"},
		{"long path", "GET /" + strings.Repeat("x", 4096), znode.ErrSyntax, false, "4096"},
		{"long path of a sequence", "CREATE /" + strings.Repeat("x", 4086) + " SEQ y", znode.ErrSyntax, false, "4096"},
		{"path that is not UTF-8", `GET "/\xff"`, znode.ErrSyntax, false, "UTF-8"},
		{"path with a control byte", `GET "/a\n"`, znode.ErrSyntax, false, "control"},
		{"half a quoted path", `GET /a="b"`, znode.ErrSyntax, false, "whole path"},
		{"unknown option", "GET /a fast", znode.ErrSyntax, false, `"fast"`},
		{"option with a value too many", "GET /a stat=1", znode.ErrSyntax, false, "takes no value"},
		{"option without its value", "SET /a v x", znode.ErrSyntax, false, "takes a value"},
		{"option with an empty value", "SET /a v= x", znode.ErrSyntax, false, "takes a value"},
		{"quoted empty option", `SET /a v="" x`, znode.ErrSyntax, false, "32-bit"},
		{"option twice", "GET /a stat STAT", znode.ErrSyntax, false, "twice"},
		{"two values", "SET /a b c", znode.ErrSyntax, false, "last argument is the value"},
		{"no value", "SET /a", znode.ErrSyntax, false, "value is missing"},
		{"half a quoted value", `SET /a b="c"`, znode.ErrSyntax, false, "whole value"},
		{"value for a reader", "GET /a :4\nPING", znode.ErrSyntax, false, "takes no value"},
		{"value with a colon", "SET /a :x", znode.ErrSyntax, false, "begins with :"},
		{"a lone colon", "SET /a :", znode.ErrSyntax, false, "begins with :"},
		{"version that is none", "SET /a v=x y", znode.ErrSyntax, false, "32-bit"},
		{"version of 33 bits", "SET /a v=2147483648 y", znode.ErrSyntax, false, "32-bit"},
		{"limit of 0", "LS /a limit=0", znode.ErrSyntax, false, "from 1"},
		{"limit without recursive", "RM /a limit=5", znode.ErrSyntax, false, "recursive"},
		{"after outside", "TREE /a after=/b", znode.ErrSyntax, false, "below"},
		{"after that is no path", "TREE /a after=/a/", znode.ErrSyntax, false, "below"},
		{"ttl without a unit", "CREATE /a ttl=30 x", znode.ErrSyntax, false, "30s"},
		{"ttl of 0", "CREATE /a ttl=0s x", znode.ErrSyntax, false, "30s"},
		{"ttl too long", "CREATE /a ttl=99999d x", znode.ErrSyntax, false, "1099511627775ms"},
		{"ttl far too long", "CREATE /a ttl=9999999999999999999d x", znode.ErrSyntax, false, "30s"},
		{"CONTAINER and SEQ", "CREATE /a CONTAINER SEQ x", znode.ErrSyntax, false, "CONTAINER"},
		{"CONTAINER and ttl", "CREATE /a ttl=1s CONTAINER x", znode.ErrSyntax, false, "CONTAINER"},
		{"bad acl", "CREATE /a acl=world x", znode.ErrInvalidACL, false, "scheme:id:perms"},
		{"no acl", "SETACL /a v=1", znode.ErrSyntax, false, "missing"},
		{"bad acl of SETACL", "SETACL /a world:anyone:xyz", znode.ErrInvalidACL, false, "cdrwa"},
		{"bad zxid", "SNAPSHOT min=0xg", znode.ErrSyntax, false, "0x100000005"},
		{"bad format", "FORMAT xml", znode.ErrSyntax, false, "json"},
		{"no format", "FORMAT", znode.ErrSyntax, false, "missing"},
		{"two formats", "FORMAT text json", znode.ErrSyntax, false, "one format"},
		{"other protocol version", "HELLO proto=2", znode.ErrUnimplemented, false, "proto=1"},
		{"PING with an argument", "PING me", znode.ErrSyntax, false, "form is PING"},
		{"AUTH of another scheme", "AUTH token me :4\nPING", znode.ErrSyntax, false, "digest"},
		{"AUTH with a colon", "AUTH digest a:b :4\nPING", znode.ErrSyntax, false, "colon"},
		{"AUTH without a user", "AUTH digest :4\nPING", znode.ErrSyntax, false, "missing"},
		{"AUTH without a payload", "AUTH digest me", znode.ErrSyntax, false, ":len"},
		{"CHECK alone", "CHECK /a", znode.ErrSyntax, false, "TXN"},

		{"open quote", `SET /a "b`, znode.ErrSyntax, false, "not closed"},
		{"open quote behind a backslash", `SET /a "b\`, znode.ErrSyntax, false, "not closed"},
		{"quote in a word", `SET /a b"c"`, znode.ErrSyntax, false, "quote inside a word"},
		{"word behind a quote", `SET /a "b"c`, znode.ErrSyntax, false, "closing quote"},
		{"unknown escape", `SET /a "\q"`, znode.ErrSyntax, false, "escape"},
		{"half an escape", `SET /a "\x4"`, znode.ErrSyntax, false, "hex"},
		{"tab", "GET\t/a", znode.ErrSyntax, false, "tab"},
		{"tabs and a payload", "SET\t/a\t:4\nQUIT", znode.ErrSyntax, false, "tab"},
		{"tab behind a payload's length", "SET /a :4\t\nQUIT", znode.ErrSyntax, false, "tab"},
		{"NUL", "GET /a\x00", znode.ErrSyntax, false, `\x00`},
		{"lone CR", "GET /a\rb", znode.ErrSyntax, false, `\x0d`},
		{"escaped 0xFF", "GET /a\xff\xff", znode.ErrSyntax, false, `\xff`},
		{"bad byte and a payload", "SET /a\x01 :4\nPING", znode.ErrSyntax, false, `\x01`},
		{"open quote and a payload", "SET \"/a :4\nPING", znode.ErrSyntax, closes, "not closed"},
		{"quote in a word and a payload", "SET /a\" :4\nPING", znode.ErrSyntax, closes, "quote inside"},
		{"wrong length", "SET /a :3\nPING", znode.ErrProtocol, closes, "3 bytes"},
		{"wrong length of a refused payload", "FOO :3\nPING", znode.ErrUnknown, false, "FOO"}, // the end of its payload then closes the connection, see below
		{"impossible length", "SET /a :9999999999999999999\nPING", znode.ErrTooBig, closes, "length"},

		{"TXN without a number", "TXN", znode.ErrSyntax, closes, "TXN n"},
		{"TXN of none", "TXN 0", znode.ErrSyntax, closes, "at least 1"},
		{"TXN with a word", "TXN some", znode.ErrSyntax, closes, "TXN n"},
		{"TXN with a payload", "TXN 1 :4\nPING", znode.ErrSyntax, closes, "TXN n"},
		{"TXN too many", "TXN 1001", znode.ErrLimit, closes, "1000"},

		{"TXN with a bad byte", "TXN 1\x01", znode.ErrSyntax, closes, `\x01`},
		{"TXN with a bad tag", "@ TXN 1", znode.ErrSyntax, closes, "tag"},
		{"TXN and a tab", "TXN\t1", znode.ErrSyntax, closes, "tab"},
		{"TXN behind tabs", "\t@a\tTXN 1", znode.ErrSyntax, closes, "tab"},
		{"TXN in quotes", "\"TXN\" 1", znode.ErrUnknown, closes, "TXN"},
		{"TXN with an open quote", "@a txn 1 \"", znode.ErrSyntax, closes, "not closed"},

		{"HTTP GET", "GET /x HTTP/1.1", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP of any verb", "BREW /x HTTP/2", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP in the place of a value", "SET /x HTTP/2", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP with a quote in the path", `GET /x"y HTTP/1.1`, znode.ErrProtocol, closes, "HTTP"},
		{"HTTP with spaces in the path", "POST /a b c HTTP/1.1", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP post in lower case", "post /", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP head alone", "HEAD", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP with a bad byte", "PUT /\x01 HTTP/1.1", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP host", "Host: localhost", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP host without a space", "host:localhost:2181", znode.ErrProtocol, closes, "HTTP"},
		{"HTTP user agent", "User-Agent: \"Mozilla", znode.ErrProtocol, closes, "HTTP"},
		{"telnet's interrupt", "GET /a\xff\xf4\xff\xfd\x06", znode.ErrProtocol, closes, "interrupted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in + "\nPING\n")
			got := feed(t, text.DefaultLimits(), in, len(in))
			sameOutcomes(t, "byte for byte", feed(t, text.DefaultLimits(), in, 1), got)
			if len(got) == 0 || got[0].err == nil {
				t.Fatalf("not refused: %v", got)
			}
			e := got[0].err
			if e.Code != tt.code || e.Close != tt.closes || !strings.Contains(e.Msg, tt.msg) || !errors.Is(e, tt.code) {
				t.Errorf("got %+v", *e)
			}
			if tt.name == "wrong length of a refused payload" {
				if len(got) != 2 || got[1].err == nil || got[1].err.Code != znode.ErrProtocol || !got[1].err.Close {
					t.Errorf("behind it: %v", got[1:])
				}
				return
			}
			if tt.closes {
				return
			}
			sameOutcomes(t, "behind it", got[1:], []outcome{{req: request(text.VerbPing, "")}})
		})
	}
}

// TestHTTPMethods: all methods are recognized, whatever follows them.
func TestHTTPMethods(t *testing.T) {
	t.Parallel()
	for m := range strings.FieldsSeq("POST PUT HEAD OPTIONS CONNECT TRACE PATCH DELETE") {
		smuggled := m + " /x HTTP/1.1\r\nHost: localhost:2181\r\nContent-Length: 20\r\n\r\nCREATE /evil x\r\n"
		got := feed(t, text.DefaultLimits(), []byte(smuggled), 1)
		if len(got) != 1 || got[0].err == nil || !got[0].err.Close || got[0].err.Code != znode.ErrProtocol {
			t.Errorf("%s: %v", m, got)
		}
	}
}

// TestSecretsAreNotRepeated: a password that was typed into the line must not appear in a message,
// which may be logged.
func TestSecretsAreNotRepeated(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"AUTH digest me s3cret\n", "AUTH digest me s3cret :1\nx\n", "AUTH s3cret\n", "AUTH s3cret me :1\nx\n",
		"AUTH digest me pw=s3cret\n", "AUTH digest me:s3cret :1\nx\n", "AUTH digest me pw=\"s3cret\"\n",
		"SESSION s3cret\n", "SESSION s3cret :1\nx\n", "SESSION NEW s3cret\n", "SESSION RESUME s3cret :1\nx\n", "SESSION RESUME s3cret 0x5 :1\nx\n",
		"SESSION RESUME 0x5 s3cret\n", "SESSION RESUME 0x5 s3cret :1\nx\n", "SESSION RESUME 0x5 \"s3cret\" :1\nx\n", "SESSION RESUME 0x5 s3cret=1 :1\nx\n",
		"SESSION RESUME 0x5 pw=s3cret :1\nx\n", "SESSION RESUME 0x5 pw=\"s3cret\"\n", "SESSION RESUME :6\ns3cret\n", "SESSION CLOSE s3cret\n",
		"SESSION CLOSE :6\ns3cret\n", "SESSION INFO s3cret\n",
	} {
		for _, o := range feed(t, text.DefaultLimits(), []byte(in), len(in)) {
			if o.err == nil || strings.Contains(o.err.Msg, "s3cret") {
				t.Errorf("%q: %v", in, o)
			}
		}
	}
}

// TestEmptyValueIsNotNil: nil data has another meaning to the tree.
func TestEmptyValueIsNotNil(t *testing.T) {
	t.Parallel()
	p := text.NewParser(text.DefaultLimits())
	for _, in := range []string{"SET /x \"\"\n", "SET /x :0\n\n", "TXN 1\nCREATE /x :0\n\n", "TXN 1\nCREATE /x \"\"\n"} {
		r, _, err := p.Next([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		val := r.Value
		if r.Verb == text.VerbTxn {
			val = r.Ops[0].Value
		}
		if val == nil || len(val) != 0 {
			t.Errorf("%q: %v", in, val)
		}
	}
}

// TestAppendPanics: an invalid request is a bug of the caller.
func TestAppendPanics(t *testing.T) {
	t.Parallel()
	for _, r := range []*text.Request{{}, {Op: text.Op{Verb: text.VerbTxn}, Ops: []text.Op{{Verb: text.VerbGet, Path: "/"}}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v is written", r)
				}
			}()
			text.AppendRequest(nil, r)
		}()
	}
}
