package frontend_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"coord/server/frontend"
	"coord/tree/znode"
)

// TestWhoIsWho checks the identities and rights of a connection, by its origin and by what the
// client proves.
func TestWhoIsWho(t *testing.T) {
	t.Parallel()
	boss, _ := znode.Digest("boss:secret")
	bob, _ := znode.Digest("bob:pwd")
	far := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 5}
	far6 := &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}
	mapped := &net.TCPAddr{IP: net.ParseIP("::ffff:10.1.2.3")}
	local6 := &net.TCPAddr{IP: net.ParseIP("::1")}
	const refused, denied = "ERR AUTHFAILED\n", "ERR NOAUTH\n"
	const snap = "OK zxid=0x0\nEND sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 bytes=0\n"
	for _, tt := range []struct {
		name     string
		from     net.Addr
		super    string
		in, want string
	}{
		{"loopback is the operator", home, "", "SNAPSHOT\n", snap},
		{"loopback by IPv6 too", local6, "", "SNAPSHOT\n", snap},
		{"until there is a super digest", home, boss.ID, "SNAPSHOT\n", denied},
		{"others are not", far, "", "@s SNAPSHOT\n", "@s " + denied},
		{"who proves super is", home, boss.ID, "AUTH digest boss :6\nsecret\nSNAPSHOT\n", "OK user=boss\n" + snap},
		{"a wrong password is not told", home, boss.ID, "AUTH digest boss :6\nSecret\nSNAPSHOT\n", "OK user=boss\n" + denied},
		{"another user is not", home, boss.ID, "AUTH digest bob :3\npwd\nSNAPSHOT\n", "OK user=bob\n" + denied},
		{"no password in the clear", far, "", "@a AUTH digest bob :3\npwd\nPING\n", "@a " + refused + "OK pong\n"},
		{"nor the super's", far, boss.ID, "AUTH digest boss :6\nsecret\nSNAPSHOT\n", refused + denied},
		{"nor over a link-local address", far6, "", "AUTH digest bob :3\npwd\n", refused},
		{"a password is no word", home, "", "AUTH digest bob pwd\n", "ERR SYNTAX\n"},
		{"a user has a name", home, "", "AUTH digest \"\" :3\npwd\n", "ERR SYNTAX\n"},
		{"super passes every check", home, boss.ID, "CREATE /a acl=ip:9.9.9.9:r x\nGET /a\nAUTH digest boss :6\nsecret\nGET /a\n",
			"OK path=/a v=0 zxid=0x100000001\nERR NOAUTH path=/a\nOK user=boss\nDATA 1 v=0 zxid=0x100000001\nx\n"},
		{"auth stands for the users", home, "", "AUTH digest bob :3\npwd\nCREATE /a acl=auth::cdrwa x\nGETACL /a\nSET /a y\n",
			"OK user=bob\nOK path=/a v=0 zxid=0x100000001\nLIST 1 av=0\nITEM digest:" + bob.ID + ":cdrwa\nOK v=1 zxid=0x100000002\n"},
		{"hashes are hidden without ADMIN", home, "", "CREATE /a acl=digest:" + bob.ID + ":cdrwa,world:anyone:r x\nGETACL /a\n",
			"OK path=/a v=0 zxid=0x100000001\nLIST 2 av=0\nITEM digest:bob:x:cdrwa\nITEM world:anyone:r\n"},
		{"an address", far, "", "CREATE /a acl=ip:10.1.2.3:r x\nGET /a\nSET /a y\n",
			"OK path=/a v=0 zxid=0x100000001\nDATA 1 v=0 zxid=0x100000001\nx\nERR NOAUTH path=/a\n"},
		{"a mapped address", mapped, "", "CREATE /a acl=ip:10.1.0.0/16:r x\nGET /a\n", "OK path=/a v=0 zxid=0x100000001\nDATA 1 v=0 zxid=0x100000001\nx\n"},
		{"an unknown kind of address is nobody", &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}, "", "SNAPSHOT\nAUTH digest bob :3\npwd\nPING\n", denied + refused + "OK pong\n"},
		{"a unix socket without a known user is no operator", &net.UnixAddr{}, "", "SNAPSHOT\nAUTH digest bob :3\npwd\n", denied + "OK user=bob\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, direct, func(cfg *frontend.Config, _ *backend) { cfg.SuperDigest = tt.super })
				c := w.pipes().open(tt.from)
				c.say(tt.in)
				_ = c.CloseWrite()
				<-c.done
				same(t, plain(c.got.String()), tt.want)
			})
		})
	}
}

// TestUnixSocket: the user of a unix socket is known, and the server's own user is an operator,
// with or without a super digest.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *frontend.Config, _ *backend) {
		cfg.SuperDigest = "boss:x"
		cfg.MaxClientConns = 1
	})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	w.serve(l)
	idle := dial(t, path)
	defer idle.Close()
	in := fmt.Sprintf("CREATE /a acl=unix:%d:r x\nGET /a\nSNAPSHOT\nQUIT\n", os.Geteuid())
	got := plain(ask(t, path, in))
	if strings.HasPrefix(got, "ERR INVALIDACL") { // ACLs may not support the scheme
		_, got, _ = strings.Cut(got, "\n")
		_, got, _ = strings.Cut(got, "\n")
		got = "OK path=/a v=0 zxid=0x100000001\nDATA 1 v=0 zxid=0x100000001\nx\n" + strings.Replace(got, "zxid=0x100000001", "zxid=0x0", 1)
	}
	const snap = "OK zxid=0x0\nEND sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 bytes=0\n"
	same(t, got, "OK path=/a v=0 zxid=0x100000001\nDATA 1 v=0 zxid=0x100000001\nx\n"+snap+"OK bye\n")
}

// TestSecretsAreNotLogged: passwords, values and hashes appear neither in the log nor in an answer
// that is not about them.
func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a"
	id, _ := znode.Digest("boss:" + canary)
	_, hash, _ := strings.Cut(id.ID, ":")
	w := newWorld(t, func(cfg *frontend.Config, _ *backend) { cfg.SuperDigest = id.ID })
	addr := w.tcp()
	for _, in := range []string{
		"AUTH digest boss :11\n" + canary + "\n", "AUTH digest boss " + canary + "\n", "AUTH digest boss :2\n" + canary + "\n", "AUTH " + canary + " boss :2\nab\n",
		"AUTH digest boss:" + canary + "\n", "AUTH digest boss :11\n" + canary, "AUTH digest boss :11 " + canary + "\n",
		"AUTH digest boss :11\n" + canary + "\nSNAPSHOT\nINFO\nHELLO\n", "srvr", "mntr",
	} {
		if got := ask(t, addr, in); strings.Contains(got, canary) || strings.Contains(got, hash) {
			t.Errorf("%q is answered %q", in, got)
		}
	}
	ask(t, addr, "CREATE /a "+canary+"\nSNAPSHOT\nPOST "+canary+" HTTP/1.1\n")
	if got := w.log.String(); strings.Contains(got, canary) || strings.Contains(got, hash) {
		t.Errorf("the log: %s", got)
	}
}
