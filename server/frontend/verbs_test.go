package frontend_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"coord/server/frontend"
	"coord/tree"
	"coord/tree/znode"
)

var message = regexp.MustCompile(`(ERR [^\r\n"]*?) - [^\r\n]*|,"message":"[^"]*"`)

// plain removes the messages for people from errors.
func plain(s string) string { return message.ReplaceAllString(s, "$1") }

func direct(_ *frontend.Config, b *backend) { b.direct = true }

// TestVerbs checks the answers of each verb, in its documented forms. Each case is one conversation
// on a tree of its own.
func TestVerbs(t *testing.T) {
	t.Parallel()
	const stat0 = "cv=0 av=0 children=0 eph=0x0"
	for _, tt := range []struct{ name, in, want string }{
		{"create, set, get", "CREATE /a one\nSET /a v=0 two\nGET /a\n",
			"OK path=/a v=0 zxid=0x100000001\nOK v=1 zxid=0x100000002\nDATA 3 v=1 zxid=0x100000002\ntwo\n"},
		{"zxid of a read is the last change of anything", "CREATE /a x\nCREATE /b x\nGET /a\n",
			"OK path=/a v=0 zxid=0x100000001\nOK path=/b v=0 zxid=0x100000002\nDATA 1 v=0 zxid=0x100000002\nx\n"},
		{"lower case", "create /a x\nget /a\nset /a y\nls /\nrm /a\n",
			"OK path=/a v=0 zxid=0x100000001\nDATA 1 v=0 zxid=0x100000001\nx\nOK v=1 zxid=0x100000002\n" +
				"LIST 2 zxid=0x100000002\nITEM a\nITEM zookeeper\nOK zxid=0x100000003\n"},
		{"tags and CR LF", "@1 CREATE /a x\r\n@2 GET /a\r\n@3 GET /b\r\n@4 PING\r\n",
			"@1 OK path=/a v=0 zxid=0x100000001\r\n@2 DATA 1 v=0 zxid=0x100000001\r\nx\r\n" +
				"@3 ERR NOTFOUND path=/b\r\n@4 OK pong\r\n"},
		{"CR NUL", "PING\r\x00GET /none\r\x00\nPING\n", "OK pong\r\nERR NOTFOUND path=/none\r\nOK pong\n"},
		{"telnet's bytes", "\xff\xfd\x03PING\r\n", "OK pong\r\n"},
		{"blank lines", "\n\n\r\nPING\n", "OK pong\n"},
		{"get stat", "CREATE /a x\nGET /a stat\n", "OK path=/a v=0 zxid=0x100000001\nDATA 1 v=0 " + stat0 +
			" len=1 ctime=1 mtime=1 czxid=0x100000001 mzxid=0x100000001 pzxid=0x100000001 zxid=0x100000001\nx\n"},
		{"get lin", "CREATE /a x\nGET /a lin\n", "OK path=/a v=0 zxid=0x100000001\nDATA 1 v=0 zxid=0x100000001\nx\n"},
		{"get errors", "GET /none\nGET /none lin\n", "ERR NOTFOUND path=/none\nERR NOTFOUND path=/none\n"},
		{"exists", "CREATE /a x\nEXISTS /a\nEXISTS /b\n", "OK path=/a v=0 zxid=0x100000001\nOK v=0 " + stat0 +
			" len=1 ctime=1 mtime=1 czxid=0x100000001 mzxid=0x100000001 pzxid=0x100000001 zxid=0x100000001\n" +
			"ERR NOTFOUND path=/b\n"},
		{"what goes by itself", "CREATE /c CONTAINER \"\"\nCREATE /t ttl=90s \"\"\nEXISTS /c\nGET /t stat\nTREE /c stat\nFORMAT json\nEXISTS /t\n",
			"OK path=/c v=0 zxid=0x100000001\nOK path=/t v=0 zxid=0x100000002\n" +
				"OK v=0 " + stat0 + " len=0 ctime=1 mtime=1 czxid=0x100000001 mzxid=0x100000001 pzxid=0x100000001 container=1 zxid=0x100000002\n" +
				"DATA 0 v=0 " + stat0 + " len=0 ctime=2 mtime=2 czxid=0x100000002 mzxid=0x100000002 pzxid=0x100000002 ttl=90s zxid=0x100000002\n\n" +
				"LIST 1 zxid=0x100000002\nITEM /c v=0 " + stat0 + " len=0 ctime=1 mtime=1 czxid=0x100000001 mzxid=0x100000001 pzxid=0x100000001 container=1\n" +
				`{"t":"OK","format":"json"}` + "\n" + `{"t":"OK","v":0,"cv":0,"av":0,"children":0,"eph":"0x0","len":0,"ctime":2,"mtime":2,` +
				`"czxid":"0x100000002","mzxid":"0x100000002","pzxid":"0x100000002","ttl":"90s","zxid":"0x100000002"}` + "\n"},
		{"payloads", "CREATE /a :5\n\x00\r\n\xff\x01\nGET /a\nSET /a :0\n\nGET /a\n",
			"OK path=/a v=0 zxid=0x100000001\nDATA 5 v=0 zxid=0x100000001\n\x00\r\n\xff\x01\nOK v=1 zxid=0x100000002\nDATA 0 v=1 zxid=0x100000002\n\n"},
		{"set errors", "CREATE /a x\nSET /a v=7 y\nSET /b y\nSET /b create y\n",
			"OK path=/a v=0 zxid=0x100000001\nERR BADVERSION path=/a have=0\n" +
				"ERR NOTFOUND path=/b\nOK v=0 zxid=0x100000004\n"},
		{"create forms", "CREATE /q parents x\nCREATE /q/j- SEQ x\nCREATE /q/c CONTAINER \"\"\nCREATE /q/t ttl=30s x\nCREATE /p/q parents \"\"\n",
			"OK path=/q v=0 zxid=0x100000001\nOK path=/q/j-0000000000 v=0 zxid=0x100000002\nOK path=/q/c v=0 zxid=0x100000003\n" +
				"OK path=/q/t v=0 zxid=0x100000004\nOK path=/p/q v=0 zxid=0x100000005\n"},
		{"create errors", "CREATE / x\nCREATE /no/parent x\nCREATE /a acl=auth::r x\nCREATE /zookeeper/config/x y\n",
			"ERR EXISTS path=/\nERR NOTFOUND path=/no/parent\n" +
				"ERR INVALIDACL path=/a\nERR NOAUTH path=/zookeeper/config/x\n"},
		{"rm", "CREATE /a x\nCREATE /a/b x\nRM /a\nRM /a v=3 recursive\nRM /a recursive limit=1\nRM /a recursive\nRM /a\n",
			"OK path=/a v=0 zxid=0x100000001\nOK path=/a/b v=0 zxid=0x100000002\nERR NOTEMPTY path=/a\n" +
				"ERR BADVERSION path=/a have=0\n" +
				"ERR LIMIT path=/a\nOK zxid=0x100000006\nERR NOTFOUND path=/a\n"},
		{"txn", "@t TXN 4\nCREATE /a x\nSET /a y\nCHECK /a v=1\nRM /a\nGET /a\n",
			"@t LIST 4 zxid=0x100000001\nOK path=/a v=0 zxid=0x100000001\nOK v=1 zxid=0x100000001\nOK\nOK zxid=0x100000001\n" +
				"ERR NOTFOUND path=/a\n"},
		{"txn with payloads", "TXN 2\nCREATE /a :3\nTXN\nCREATE /b :0\n\nGET /a\n",
			"LIST 2 zxid=0x100000001\nOK path=/a v=0 zxid=0x100000001\nOK path=/b v=0 zxid=0x100000001\nDATA 3 v=0 zxid=0x100000001\nTXN\n"},
		{"txn that fails", "TXN 3\nCREATE /a x\nSET /a v=9 y\nRM /none\nEXISTS /a\n",
			"ERR BADVERSION op=1 path=/a have=0\nERR NOTFOUND path=/a\n"},
		{"txn refused", "TXN 2\nCREATE /a x\nGET /a\nPING\n", "ERR SYNTAX op=1\nOK pong\n"},
		{"sync", "CREATE /a x\nSYNC /\n", "OK path=/a v=0 zxid=0x100000001\nOK zxid=0x100000001\n"},
		{"acl", "CREATE /a x\nGETACL /a\nSETACL /a world:anyone:r v=0\nGETACL /a\nSET /a y\nSETACL /a world:anyone:cdrwa\nGETACL /b\nSETACL /b world:anyone:r\n",
			"OK path=/a v=0 zxid=0x100000001\nLIST 1 av=0\nITEM world:anyone:cdrwa\nOK av=1 zxid=0x100000002\nLIST 1 av=1\nITEM world:anyone:r\n" +
				"ERR NOAUTH path=/a\nERR NOAUTH path=/a\n" +
				"ERR NOTFOUND path=/b\nERR NOTFOUND path=/b\n"},
		{"acl version", "CREATE /a x\nSETACL /a v=4 world:anyone:r\n", "OK path=/a v=0 zxid=0x100000001\nERR BADVERSION path=/a have=0\n"},
		{"formats", "FORMAT json\n@a PING\nCREATE /a \"b\\xff\"\nGET /a\nLS /\nRM /b\nFORMAT b64\nGET /a\nSET /a :0\n\nGET /a\nFORMAT text\nPING\n",
			`{"t":"OK","format":"json"}` + "\n" + `{"t":"OK","tag":"a","arg":"pong"}` + "\n" +
				`{"t":"OK","path":"/a","v":0,"zxid":"0x100000001"}` + "\n" + `{"t":"DATA","data64":"Yv8=","v":0,"zxid":"0x100000001"}` + "\n" +
				`{"t":"LIST","zxid":"0x100000001","items":[{"t":"ITEM","arg":"a"},{"t":"ITEM","arg":"zookeeper"}]}` + "\n" +
				`{"t":"ERR","code":"NOTFOUND","path":"/b"}` + "\n" +
				"OK format=b64\nDATA64 Yv8= v=0 zxid=0x100000002\nOK v=1 zxid=0x100000003\nDATA64 \"\" v=1 zxid=0x100000003\nOK format=text\nOK pong\n"},
		{"hello", "HELLO\nHELLO proto=1 format=b64 client=x zxid=0x0\nHELLO zxid=0x999\n",
			"OK proto=1 server=coord version=0.1 node=n1 role=standalone cluster=coord zxid=0x0\n" +
				"OK proto=1 server=coord version=0.1 node=n1 role=standalone cluster=coord zxid=0x0\n" +
				"ERR TIMEOUT zxid=0x0\n"},
		{"cat", "CREATE /a hello\nCAT /a\nPING\n", "OK path=/a v=0 zxid=0x100000001\nhello"},
		{"cat nothing", "CAT /none\n", ""},
		{"quit", "PING\nQUIT\nPING\n", "OK pong\nOK bye\n"},
		{"unknown", "FROB /x\nPING\n", "ERR UNKNOWN\nOK pong\n"},
		{"a cut request is not carried out", "CREATE /a x\nSET /a y", "OK path=/a v=0 zxid=0x100000001\n"},
		{"http", "GET / HTTP/1.1\r\nHost: x\r\n\r\nCREATE /evil x\r\n", "ERR PROTOCOL\r\n"},
		{"http in a value", "CREATE /a \"HTTP/1.1\"\nSET /a \"GET / HTTP/1.1\"\n", "OK path=/a v=0 zxid=0x100000001\nOK v=1 zxid=0x100000002\n"},
		{"telnet's interrupt", "PING\n\xff\xf4\xff\xfdPING\n", "OK pong\nERR PROTOCOL\n"},
		{"a wrong count", "CREATE /a :3\nabcd\nPING\n", "ERR PROTOCOL\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, change := range []func(*frontend.Config, *backend){direct, func(*frontend.Config, *backend) {}} {
				w := newWorld(t, change)
				got := ask(t, w.tcp(), tt.in)
				same(t, plain(got), tt.want)
			}
		})
	}
}

// TestUnreadable: a znode that may not be read shows nothing but its name.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, direct)
	secret := znode.ACL{{Perms: znode.All, Identity: znode.Identity{Scheme: znode.SchemeIP, ID: "10.9.9.9"}}}
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/d", ACL: znode.OpenACL})
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/d/a", ACL: secret, Data: []byte("hidden")})
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/d/a/x", ACL: znode.OpenACL})
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/d/b", ACL: znode.OpenACL, Data: []byte("seen")})
	const no = "path=/d/a\n"
	const stat = " v=0 cv=0 av=0 children=0 eph=0x0 len=4 ctime=4 mtime=4 czxid=0x100000004 mzxid=0x100000004 pzxid=0x100000004\n"
	const top = " v=0 cv=2 av=0 children=2 eph=0x0 len=0 ctime=1 mtime=1 czxid=0x100000001 mzxid=0x100000001 pzxid=0x100000004\n"
	const head = " zxid=0x100000004\n"
	for in, want := range map[string]string{
		"GET /d/a\n":            "ERR NOAUTH " + no,
		"GET /d/a lin\n":        "ERR NOAUTH " + no,
		"EXISTS /d/a\n":         "ERR NOAUTH " + no,
		"LS /d/a\n":             "ERR NOAUTH " + no,
		"TREE /d/a\n":           "ERR NOAUTH " + no,
		"GETACL /d/a\n":         "ERR NOAUTH " + no,
		"CAT /d/a\n":            "",
		"LS /d stat\n":          "LIST 2" + head + "ITEM a\nITEM b" + stat,
		"TREE /d\n":             "LIST 3" + head + "ITEM /d\nITEM /d/a\nITEM /d/b\n",
		"TREE /d stat\n":        "LIST 3" + head + "ITEM /d" + top + "ITEM /d/a\nITEM /d/b" + stat,
		"TREE /d data\n":        "LIST 3" + head + "DATA 0 path=/d v=0\n\nERR NOAUTH path=/d/a\nDATA 4 path=/d/b v=0\nseen\n",
		"TREE /d/b data stat\n": "LIST 1" + head + "DATA 4 path=/d/b" + stat + "seen\n",
	} {
		if got := plain(ask(t, w.tcp(), in)); got != want {
			t.Errorf("%q\ngot  %q\nwant %q", in, got, want)
		}
	}
}

// TestRefusedOnTheWay checks outcomes that are not the tree's.
func TestRefusedOnTheWay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		code znode.Code
		want string
	}{
		{"@1 SET /a x\n", znode.ErrNoLeader, "@1 ERR NOLEADER path=/a"},
		{"SET /a x\n", znode.ErrNoSpace, "ERR NOSPACE path=/a"},
		{"SET /a x\n", znode.ErrThrottledOp, "ERR THROTTLED path=/a"},
		{"TXN 2\nRM /a\nRM /b\n", znode.ErrThrottledOp, "ERR THROTTLED"},
		{"TXN 1\nRM /a\n", znode.ErrNoLeader, "ERR NOLEADER"},
		{"TXN 1\nRM /a\n", znode.ErrUncertain, "ERR UNCERTAIN"},
		{"@2 GET / lin\n", znode.ErrNoLeader, "@2 ERR NOLEADER"},
		{"SYNC /\n", znode.ErrNoLeader, "ERR NOLEADER"},
		{"HELLO zxid=0x500000000\n", znode.ErrNoLeader, "ERR NOLEADER"},
	} {
		w := newWorld(t)
		w.hold()
		c := dial(t, w.tcp())
		c.send(tt.in)
		eventually(t, func() bool { return w.waiting() == 1 })
		w.refuse(0, tt.code)
		w.release()
		c.send("PING\n")
		want := tt.want + "\n"
		if tt.code != znode.ErrUncertain {
			want += "OK pong\n"
		}
		c.shut()
		if got := plain(c.rest()); got != want {
			t.Errorf("%q: got %q, want %q", tt.in, got, want)
		}
	}
}

// TestPaging: the pages of a list together hold every item exactly once, in order, whatever the
// page size.
func TestPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t, direct, func(cfg *frontend.Config, _ *backend) { cfg.MaxFrame = 4 << 20 })
	var names, paths []string
	add := func(path string, size int) {
		w.do(tree.Op{Kind: tree.KindCreate, Path: path, ACL: znode.OpenACL, Data: []byte(strings.Repeat("v", size))})
		paths = append(paths, path)
	}
	add("/d", 0)
	for i := range 60 {
		name := fmt.Sprintf("%02d", i)
		names = append(names, name)
		size := 100 << 10
		switch i {
		case 20, 21: // one alone is more than a page
			size = frontend.MaxListBytes + 1<<10
		case 30, 59:
			size = frontend.MaxListBytes - 40
		}
		add("/d/"+name, size)
		for j := range i % 3 {
			add(fmt.Sprintf("/d/%s/%d", name, j), 10)
			add(fmt.Sprintf("/d/%s/%d/x", name, j), 0)
		}
	}
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/d0", ACL: znode.OpenACL}) // sorts after /d/… and is not below /d
	addr := w.tcp()
	for _, options := range []string{"limit=1", "limit=7", "limit=60", "stat limit=13", ""} {
		after, got, pages := "", []string(nil), 0
		for more := true; more; pages++ {
			c := dial(t, addr)
			r := c.ask("LS /d " + options + after + "\n")
			for i := range r.Items {
				got = append(got, r.Items[i].Arg)
			}
			after, more = " after="+got[len(got)-1], r.Int("more") == 1
			if size, ok := strings.CutPrefix(options, "limit="); ok && more && size != fmt.Sprint(len(r.Items)) {
				t.Errorf("LS %s: a page of %d", options, len(r.Items))
			}
		}
		same(t, strings.Join(got, " "), strings.Join(names, " "))
	}
	for _, options := range []string{"limit=1", "limit=9 stat", "data", "data stat", "data limit=50", ""} {
		after, got := "", []string(nil)
		for more := true; more; {
			c := dial(t, addr)
			r := c.ask("TREE /d " + options + after + "\n")
			size := 0
			for i := range r.Items {
				it := &r.Items[i]
				path := it.Arg
				if path == "" {
					path = it.Str("path")
				}
				got = append(got, path)
				size += len(it.Data)
			}
			if size > frontend.MaxListBytes && len(r.Items) != 1 {
				t.Errorf("TREE %s: a page of %d bytes", options, size)
			}
			after, more = " after="+got[len(got)-1], r.Int("more") == 1
		}
		same(t, strings.Join(got, " "), strings.Join(paths, " "))
	}
}
