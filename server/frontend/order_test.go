package frontend_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"coord/server/frontend"
	"coord/tree"
	"coord/tree/znode"
)

// requests are drawn from few paths and values, so that they conflict.
var requests = rapid.Custom(func(t *rapid.T) string {
	path := rapid.SampledFrom([]string{"/a", "/b", "/a/x", "/a/y", "/none/x"}).Draw(t, "path")
	word := rapid.SampledFrom([]string{"1", "two", `"a b\n"`, ":3\nx\ny", ":0\n"}).Draw(t, "value")
	tag := rapid.SampledFrom([]string{"", "", "@t ", "@7 "}).Draw(t, "tag")
	eol := rapid.SampledFrom([]string{"\n", "\n", "\r\n", "\r\x00"}).Draw(t, "eol")
	form := rapid.SampledFrom([]string{
		"GET P", "GET P", "GET P lin", "GET P stat", "EXISTS P", "LS / stat limit=2", "LS /a after=x", "TREE / data limit=3", "TREE /a stat",
		"SET P V", "SET P V", "SET P v=1 V", "SET P create V", "CREATE P V", "CREATE P V", "CREATE /a/s- SEQ V", "RM P", "RM /a recursive",
		"GETACL P", "SETACL P auth::cdrwa world:anyone:rcd", "SETACL P world:anyone:cdrwa", "CREATE P acl=world:anyone:r V",
		"TXN 3\nCHECK P\nSET P V\nCREATE /a/t V", "TXN 2\nSET P V\nRM /none", "SYNC /", "HELLO zxid=0x5", "HELLO format=text",
		"FORMAT json", "FORMAT b64", "FORMAT text", "PING", "HELP PING", "AUTH digest bob :3\npwd", "AUTH digest eve :3\nxyz",
		"FROB P", "GET", "SET P", `GET "`, "CHECK P", "UNKNOWN :4\nbody", "",
	}).Draw(t, "form")
	return tag + strings.NewReplacer("P", path, "V", word).Replace(form) + eol
})

// TestPipelinesAnswerAsOneByOne: requests that are sent together, cut anywhere and answered in
// bursts of any size, get the same answers as one at a time.
func TestPipelinesAnswerAsOneByOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		reqs := rapid.SliceOfN(requests, 1, 50).Draw(rt, "requests")
		cuts := rapid.SliceOfN(rapid.IntRange(1, 200), 1, 8).Draw(rt, "cuts")
		turns := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 8).Draw(rt, "turns")
		want := converse(t, nil, func(w *world, c *caller) {
			for _, r := range reqs {
				c.say(r)
				synctest.Wait()
			}
		}, direct)
		got := converse(t, cuts, func(w *world, c *caller) {
			w.hold()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				in := strings.Join(reqs, "")
				for i := 0; len(in) > 0; i++ {
					n := min(len(in), cuts[i%len(cuts)])
					c.say(in[:n])
					in = in[n:]
				}
			}()
			for i := range 40 {
				synctest.Wait()
				w.allow(turns[i%len(turns)])
			}
			w.release()
			<-sent
		})
		if got != want {
			rt.Fatalf("together %q\none by one %q", got, want)
		}
	})
}

// converse runs talk and returns what the client gets.
func converse(t *testing.T, bursts []int, talk func(*world, *caller), change ...func(*frontend.Config, *backend)) (got string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change...)
		w.do(tree.Op{Kind: tree.KindCreate, Path: "/b", ACL: znode.OpenACL})
		w.disorder = true
		if turn := 0; bursts != nil {
			w.burst = func() int { turn++; return bursts[turn%len(bursts)] }
		}
		c := w.pipes().open(home)
		talk(w, c)
		_ = c.CloseWrite()
		<-c.done
		got = c.got.String()
	})
	return got
}

// TestReadsSeeTheWritesBeforeThem: a read sees all earlier writes of its connection and no later
// ones, whatever other clients do at the same time.
func TestReadsSeeTheWritesBeforeThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(_ *frontend.Config, b *backend) {
			b.burst, b.disorder = func() int { return 1 + rand.IntN(20) }, true
		})
		w.do(tree.Op{Kind: tree.KindCreate, Path: "/n", ACL: znode.OpenACL})
		p := w.pipes()
		callers := []*caller{p.open(home), p.open(home), p.open(home)}
		const rounds = 300
		for i, c := range callers {
			go func() {
				for n := range rounds {
					c.say(fmt.Sprintf("SET /n c%d-%d\nGET /n\nGET /n lin\nSET /own create %d\n", i, n, n))
				}
				_ = c.CloseWrite()
			}()
		}
		for i, c := range callers {
			<-c.done
			lines := strings.Split(strings.TrimSuffix(c.got.String(), "\n"), "\n")
			if len(lines) != 6*rounds {
				t.Fatalf("%d lines", len(lines))
			}
			last := 0
			for n := range rounds {
				l := lines[6*n : 6*n+6]
				own := fmt.Sprintf("c%d-%d", i, n)
				for k, at := range []int{0, 1, 3} { // v= only grows, and the client's own value is its latest one
					_, rest, _ := strings.Cut(l[at], " v=")
					var v int
					if _, err := fmt.Sscan(rest, &v); err != nil || v < last {
						t.Fatalf("client %d, round %d: %q", i, n, l)
					}
					last = v
					if value := l[max(2*k, 1)]; k > 0 && strings.HasPrefix(value, own[:3]) && value != own {
						t.Fatalf("client %d, round %d: %q", i, n, l)
					}
				}
			}
		}
	})
}

// TestTurns: requests after a pending write wait for it, and keep the format and the identities
// that held at their place.
func TestTurns(t *testing.T) {
	t.Parallel()
	id, _ := znode.Digest("bob:pwd")
	bob := id.Scheme + ":" + id.ID
	for _, tt := range []struct{ name, in, want string }{
		{"format", "SET /a 1\nPING\nFORMAT json\nGET /a\nSET /a 2\nFORMAT b64\nGET /a\n",
			"OK v=1 zxid=0x100000002\nOK pong\n{\"t\":\"OK\",\"format\":\"json\"}\n" +
				"{\"t\":\"DATA\",\"data\":\"1\",\"v\":1,\"zxid\":\"0x100000002\"}\n{\"t\":\"OK\",\"v\":2,\"zxid\":\"0x100000003\"}\n" +
				"OK format=b64\nDATA64 Mg== v=2 zxid=0x100000003\n"},
		{"hello", "SET /a 1\nHELLO format=json\n",
			"OK v=1 zxid=0x100000002\n{\"t\":\"OK\",\"proto\":1,\"server\":\"coord\",\"version\":\"0.1\",\"node\":\"n1\",\"role\":\"standalone\"," +
				"\"cluster\":\"coord\",\"zxid\":\"0x100000002\"}\n"},
		{"identities", "CREATE /s acl=" + bob + ":r x\nGET /s\nAUTH digest bob :3\npwd\nGET /s\n",
			"OK path=/s v=0 zxid=0x100000002\nERR NOAUTH path=/s\nOK user=bob\nDATA 1 v=0 zxid=0x100000002\nx\n"},
		{"errors", "SET /a 1\n@e FROB\nGET\nPING\n", "OK v=1 zxid=0x100000002\n@e ERR UNKNOWN\nERR SYNTAX\nOK pong\n"},
		{"quit", "SET /a 1\n@q QUIT\nSET /a 2\n", "OK v=1 zxid=0x100000002\n@q OK bye\n"},
		{"cat", "SET /a 1\nGET /a\nCAT /a\nSET /a 2\n", "OK v=1 zxid=0x100000002\nDATA 1 v=1 zxid=0x100000002\n1\n1"},
		{"an error that closes", "SET /a 1\nPOST / HTTP/1.1\nSET /a 2\n", "OK v=1 zxid=0x100000002\nERR PROTOCOL\n"},
		{"lin", "SET /a 1\nGET /a lin\nSET /a 2\nSYNC /\nSET /a 3\nGET /a lin\n",
			"OK v=1 zxid=0x100000002\nDATA 1 v=1 zxid=0x100000002\n1\nOK v=2 zxid=0x100000003\nOK zxid=0x100000003\n" +
				"OK v=3 zxid=0x100000004\nDATA 1 v=3 zxid=0x100000004\n3\n"},
		{"snapshot", "SET /a 1\n@s SNAPSHOT\nPING\n", "OK v=1 zxid=0x100000002\n@s OK zxid=0x7\n@s CHUNK 3\nabc\n" +
			"@s END sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad bytes=3\nOK pong\n"},
		{"snapshot in another format", "FORMAT json\nSNAPSHOT\n", "{\"t\":\"OK\",\"format\":\"json\"}\n{\"t\":\"OK\",\"zxid\":\"0x7\"}\nCHUNK 3\nabc\n" +
			"END sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad bytes=3\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.node.zxid = 7
				w.node.snapshot = func(_ context.Context, out io.Writer) error { _, err := io.WriteString(out, "abc"); return err }
				w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL})
				c := w.pipes().open(home)
				w.hold()
				go func() {
					c.say(tt.in)
					_ = c.CloseWrite()
				}()
				synctest.Wait()
				if !strings.HasPrefix(tt.in, "FORMAT") && c.got.String() != "" {
					t.Errorf("before the write is done: %q", c.got.String())
				}
				w.release()
				<-c.done
				same(t, plain(c.got.String()), tt.want)
			})
		})
	}
}

// TestInfoWaitsItsTurn: INFO shows the state at its place in the order.
func TestInfoWaitsItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.pipes().open(home)
		w.hold()
		go c.say("CREATE /a x\nCREATE /b x\n@i INFO\nQUIT\n")
		synctest.Wait()
		w.allow(1)
		synctest.Wait()
		if got := c.got.String(); got != "OK path=/a v=0 zxid=0x100000001\n" {
			t.Fatalf("got %q", got)
		}
		w.release()
		<-c.done
		got := c.got.String()
		for _, want := range []string{
			"@i LIST ", "\nITEM znode_count value=6\n", "\nITEM packets_received value=3\n", "\nITEM packets_sent value=2\n",
			"\nITEM outstanding_requests value=0\n", "\nITEM coord_writes value=2\n", "\nITEM coord_term value=1\n", "\nOK bye\n",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in %s", want, got)
			}
		}
	})
}

// TestLinearizableReadKeepsItsPlace: a write after the read waits for the read's barrier, so that
// the read cannot see it. The same holds for SYNC.
func TestLinearizableReadKeepsItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", Data: []byte("old"), ACL: znode.OpenACL})
		c := w.pipes().open(home)
		w.hold()
		go c.say("PING\nGET /a lin\nGET /a\nSET /a new\nGET /a\n")
		synctest.Wait()
		if n := w.waiting(); n != 1 {
			t.Fatalf("%d are submitted", n)
		}
		if got := c.got.String(); got != "OK pong\n" {
			t.Fatalf("before the barrier: %q", got)
		}
		w.allow(1)
		synctest.Wait()
		if got := c.got.String(); got != "OK pong\nDATA 3 v=0 zxid=0x100000001\nold\nDATA 3 v=0 zxid=0x100000001\nold\n" {
			t.Fatalf("behind the barrier: %q", got)
		}
		w.release()
		synctest.Wait()
		if got := c.got.String(); !strings.HasSuffix(got, "OK v=1 zxid=0x100000002\nDATA 3 v=1 zxid=0x100000002\nnew\n") {
			t.Fatalf("at the end: %q", got)
		}
	})
}

// TestHelloSeesWhatIsCommitted: a client that has seen a later state than this node's is answered
// once the node has caught up.
func TestHelloSeesWhatIsCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.pipes()
		writer, c := p.open(home), p.open(home)
		w.hold()
		writer.say("CREATE /a x\n")
		synctest.Wait()
		c.say("HELLO zxid=0x100000001\n")
		synctest.Wait()
		if got := c.got.String(); got != "" {
			t.Fatalf("too early: %q", got)
		}
		w.release()
		synctest.Wait()
		if got := c.got.String(); !strings.HasPrefix(got, "OK proto=1 ") || !strings.HasSuffix(got, " zxid=0x100000001\n") {
			t.Fatalf("got %q", got)
		}
	})
}

// TestUncertainEndsTheConnection: after it no request is answered, and nothing more is proposed.
func TestUncertainEndsTheConnection(t *testing.T) {
	t.Parallel()
	for _, burst := range []int{2, 3} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			c := w.pipes().open(home)
			w.hold()
			c.say("CREATE /a x\nSET /a y\nSET /a z\nGET /a\nPING\nSET /a w\n")
			synctest.Wait()
			w.refuse(1, znode.ErrUncertain)
			w.allow(burst)
			synctest.Wait()
			const want = "OK path=/a v=0 zxid=0x100000001\nERR UNCERTAIN path=/a\n"
			if got := plain(c.got.String()); got != want || !c.ended() {
				t.Fatalf("got %q, ended: %v", got, c.ended())
			}
			go c.say("SET /a late\n")
			synctest.Wait()
			if n := w.waiting(); n != 4-burst {
				t.Errorf("%d are submitted", n)
			}
			w.release()
			synctest.Wait()
			if got := plain(c.got.String()); got != want {
				t.Errorf("at the end: %q", got)
			}
		})
	}
}
