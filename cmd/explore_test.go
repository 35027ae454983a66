package cmd

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

// must runs commands that have to succeed.
func must(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if got := coord(t, "", strings.Fields(l)...); got.code != exitOK {
			t.Fatalf("coord %s: %+v", l, got)
		}
	}
}

// TestExplore runs tree, du and find against a real server.
func TestExplore(t *testing.T) {
	serve(t, nil)
	must(t, "create -p /app/hosts/a 10.0.0.7", "create /app/hosts/b bbbbb", "create /app/url http://x",
		"create /app/hidden secret --acl world:anyone:cw", "create /app/hidden/below x",
		"create --container /brief", "create --ttl 90s /brief/t", "create /brief/c", "create --container /brief/c/c")
	const unread = "no permission to read 1 of the znodes"
	for _, tt := range []struct {
		args string
		code int
		out  string // a regular expression
		err  string // a part of stderr; empty: nothing is printed
	}{
		{"tree /app", 0, "/app\n/app/hidden\n/app/hosts\n/app/hosts/a\n/app/hosts/b\n/app/url\n", ""},
		{"tree /app --depth 1 -0", 0, "/app\x00/app/hidden\x00/app/hosts\x00/app/url\x00", ""},
		{"tree -l /app/hosts", 0, ` +0 +2 +0 +- 2.*Z /app/hosts\n +0 +0 +8 +- 2.*Z /app/hosts/a\n +0 +0 +5 +- 2.*Z /app/hosts/b\n`, ""},
		{"tree -l /app --depth 1", 0, `(?s).*\n( +-){5} /app/hidden\n.*`, ""},
		{"tree /app/hidden", 6, "", "not permitted"},
		{"tree --json -0 /", 2, "", "exclude each other"},
		{"find --json -0 /", 2, "", "exclude each other"},
		{"tree /none", 3, "", "no such znode"},
		{"du /app", 0, ` +13 +3 /app/hosts\n +8 +1 /app/url\n +0 +1 /app/hidden\n +21 +6 /app\n`, unread},
		{"du /app -n 1 --human", 0, ` +13 B +3 /app/hosts\n +21 B +6 /app\n`, unread},
		{"du /app/hosts -n 0", 0, ` +13 +3 /app/hosts\n`, ""},
		{"du /app/hidden", 6, "", "not permitted"},
		{"find /app", 0, "/app\n/app/hidden\n/app/hosts\n/app/hosts/a\n/app/hosts/b\n/app/url\n", ""},
		{"find /app --name h[io]*", 0, "/app/hidden\n/app/hosts\n", ""},
		{"find /app --name h* --empty", 0, "", unread},
		{"find /app/hosts --bigger 5", 0, "/app/hosts/a\n", ""},
		{"find /app/hosts --smaller 6 --name b", 0, "/app/hosts/b\n", ""},
		{"find /app/hosts --smaller 1", 0, "/app/hosts\n", ""},
		{"find /app/hosts --bigger 1k", 0, "", ""},
		{"find / --empty", 0, "/brief/c/c\n/brief/t\n/zookeeper/config\n/zookeeper/quota\n", unread},
		{"find /app/hosts --newer 1h", 0, "/app/hosts\n/app/hosts/a\n/app/hosts/b\n", ""},
		{"find /app/hosts --older 1h", 0, "", ""},
		{"find /zookeeper --older 1h -0", 0, "/zookeeper\x00/zookeeper/config\x00/zookeeper/quota\x00", ""},
		{"find /app/hosts --ephemeral", 0, "", ""},
		{"find /brief --container", 0, "/brief\n/brief/c/c\n", ""},
		{"find / --ttl", 0, "/brief/t\n", unread},
		{"find /brief --ttl --container", 0, "", ""},
		{"find /app/hidden --ttl", 6, "", "not permitted"},
		{"tree -l /brief", 0, ` +0 +2 +0 +container 2.*Z /brief\n +0 +1 +0 +- 2.*Z /brief/c\n +0 +0 +0 +container 2.*Z /brief/c/c\n +0 +0 +0 +ttl=1m30s 2.*Z /brief/t\n`, ""},
		{"exists -s /brief", 0, `(?s)version=0\n.*\npzxid=0x\w+\ncontainer=true\n`, ""},
		{"get -s /brief/t", 0, `(?s)version=0\n.*\npzxid=0x\w+\nttl_ms=90000\n`, ""},
		{"get -s /brief/c", 0, `(?s)version=0\n.*\npzxid=0x\w+\n`, ""},
		{"ls -l --json /brief", 0, `.*"/brief/c",.*"pzxid":"0x\w+"}}\n.*"/brief/t",.*"pzxid":"0x\w+","ttl_ms":90000}}\n`, ""},
		{"export /brief - --json", 0, `(?s).*`, `"znodes":4,"bytes":0,"ephemerals":0,"plain":3}`},
		{"export /brief", 0, `(?s).*`, "exported as plain znodes: 3 znodes\n"},
		{"find /app/url -l", 0, ` +0 +0 +8 +- 2.*Z /app/url\n`, ""},
	} {
		got := coord(t, "", strings.Fields(tt.args)...)
		if got.code != tt.code || !regexp.MustCompile("^(?:"+tt.out+")$").MatchString(got.out) {
			t.Errorf("coord %s: code %d, stdout %q, stderr %q", tt.args, got.code, got.out, got.errOut)
		}
		if (tt.err == "") != (got.errOut == "") || !strings.Contains(got.errOut, tt.err) {
			t.Errorf("coord %s: stderr %q, want %q", tt.args, got.errOut, tt.err)
		}
	}
}

// TestFindConditions: the conditions on owners, ages and sizes, with made-up stats.
func TestFindConditions(t *testing.T) {
	now := time.Now()
	item := func(path string, s znode.Stat) text.Reply {
		return text.Reply{Kind: text.KindItem, Arg: path, Fields: text.AppendStat(nil, &text.Stat{Stat: s})}
	}
	fake(t, func(*text.Request) []byte {
		return reply(text.Reply{Kind: text.KindList, Items: []text.Reply{
			item("/a", znode.Stat{MtimeMS: now.UnixMilli(), NumChildren: 3}),
			item("/a/mine", znode.Stat{EphemeralOwner: 0x100000000000001, MtimeMS: now.Add(-2 * time.Hour).UnixMilli(), DataLength: 10 << 10}),
			item("/a/other", znode.Stat{EphemeralOwner: 0x100000000000002, MtimeMS: now.Add(-30 * time.Minute).UnixMilli(), DataLength: 10<<10 + 1}),
			item("/a/plain", znode.Stat{MtimeMS: now.Add(-8 * 24 * time.Hour).UnixMilli()}),
		}})
	})
	for args, want := range map[string]string{
		"--ephemeral":                          "/a/mine /a/other",
		"--owner 0x100000000000002":            "/a/other",
		"--owner 72057594037927937":            "/a/mine",
		"--older 1h":                           "/a/mine /a/plain",
		"--newer 1h":                           "/a /a/other",
		"--older 7d --empty":                   "/a/plain",
		"--bigger 10k":                         "/a/other",
		"--bigger 10239 --smaller 10241":       "/a/mine",
		"--name ?[^l]* --ephemeral --newer 1h": "/a/other",
	} {
		got := coord(t, "", append([]string{"find", "/a"}, strings.Fields(args)...)...)
		if got.code != exitOK || got.errOut != "" || strings.Join(strings.Fields(got.out), " ") != want {
			t.Errorf("find /a %s: %+v, want %s", args, got, want)
		}
	}
}

// TestDuKeepsTheBiggest: also of more children than du keeps at a time.
func TestDuKeepsTheBiggest(t *testing.T) {
	var items []text.Reply
	add := func(path string, n int32) {
		items = append(items, text.Reply{Kind: text.KindItem, Arg: path, Fields: text.AppendStat(nil, &text.Stat{Stat: znode.Stat{DataLength: n}})})
	}
	add("/", 1)
	for i := range 400 {
		add(fmt.Sprintf("/%03d", i), int32(i*7919%401))
		add(fmt.Sprintf("/%03d/x", i), 1000)
	}
	fake(t, func(*text.Request) []byte { return reply(text.Reply{Kind: text.KindList, Items: items}) })
	type child struct {
		bytes int
		path  string
	}
	var all []child
	sum := 1
	for i := range 400 {
		all = append(all, child{i*7919%401 + 1000, fmt.Sprintf("/%03d", i)})
		sum += all[i].bytes
	}
	slices.SortFunc(all, func(a, b child) int { return b.bytes - a.bytes })
	var want strings.Builder
	for _, c := range all[:25] {
		fmt.Fprintf(&want, "%12d %9d %s\n", c.bytes, 2, c.path)
	}
	fmt.Fprintf(&want, "%12d %9d %s\n", sum, 801, "/")
	if got := coord(t, "", "du", "-n", "25", "/"); got.out != want.String() {
		t.Errorf("got\n%swant\n%s", got.out, want.String())
	}
}

// TestDrawnTree: what a terminal shows, page by page.
func TestDrawnTree(t *testing.T) {
	serve(t, nil)
	must(t, "create -p /app/hosts/a x", "create /app/hosts/b x", "create -p /app/old/deep x", "create /app/url x")
	x := onTerminal(t, "tree", "/app")
	code, got := x.wait()
	want := "/app\n|-- hosts\n|   |-- a\n|   `-- b\n|-- old\n|   `-- deep\n`-- url\n"
	if strings.Contains(got, "─") {
		want = strings.NewReplacer("|--", "├──", "`--", "└──", "|  ", "│  ").Replace(want)
	}
	if code != exitOK || got != want {
		t.Errorf("%d\n%s\nwant\n%s", code, got, want)
	}
	d := drawing{top: "/", utf8: true}
	var lines []string
	for _, b := range []struct {
		path     string
		children int32
	}{{"/", 2}, {"/a", 1}, {"/a/b", 1}, {"/a/b/c", 0}, {"/d", 0}, {"/meanwhile", 0}} {
		lines = append(lines, d.line(client.Item{Path: b.path, Stat: text.Stat{Stat: znode.Stat{NumChildren: b.children}}}))
	}
	if got, want := strings.Join(lines, "\n"), "/\n├── a\n│   └── b\n│       └── c\n└── d\n└── meanwhile"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
