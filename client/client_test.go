package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

var stat = text.Stat{TTLMS: 1500, Stat: znode.Stat{
	Czxid: 1, Mzxid: 1<<32 | 5, Pzxid: 3, CtimeMS: 1000, MtimeMS: 2000, Version: 4, Cversion: 5, Aversion: 6,
	EphemeralOwner: 1 << 56, DataLength: 7, NumChildren: 8,
}}

// TestEachMethod checks which line each method sends, and the result that it makes of the answer.
func TestEachMethod(t *testing.T) {
	statFields := text.AppendStat(nil, &stat)
	for _, tt := range []struct {
		name   string
		line   string // as the server reads it
		answer []byte
		call   func(ctx context.Context, c *client.Conn) (any, error)
		want   any
	}{
		{
			"get", "GET /a", reply(text.Reply{Kind: text.KindData, Data: []byte("x\ny"), Fields: []text.Field{text.Int("v", 3), text.Zxid("zxid", 9)}}),
			func(ctx context.Context, c *client.Conn) (any, error) { return c.Get(ctx, "/a", client.GetOptions{}) },
			client.Value{Data: []byte("x\ny"), Version: 3, Zxid: 9},
		},
		{
			"get stat lin", "GET /a stat lin", reply(text.Reply{Kind: text.KindData, Fields: append(slices.Clone(statFields), text.Zxid("zxid", 9))}),
			func(ctx context.Context, c *client.Conn) (any, error) {
				return c.Get(ctx, "/a", client.GetOptions{Stat: true, Lin: true})
			},
			client.Value{Data: []byte{}, Version: 4, Zxid: 9, Stat: stat},
		},
		{
			"create", `CREATE "/a b" SEQ ttl=1500ms parents acl=world:anyone:r v`, ok(text.Str("path", "/a b0000000001"), text.Int("v", 0), text.Zxid("zxid", 9)),
			func(ctx context.Context, c *client.Conn) (any, error) {
				return c.Create(ctx, "/a b", []byte("v"), client.CreateOptions{
					Mode: znode.PersistentSequentialTTL, TTL: 1500 * time.Millisecond, Parents: true, ACL: znode.ReadACL,
				})
			},
			client.Change{Path: "/a b0000000001", Zxid: 9},
		},
		{
			"set", "SET /a v=2 x", ok(text.Int("v", 3), text.Zxid("zxid", 9)),
			func(ctx context.Context, c *client.Conn) (any, error) { return c.Set(ctx, "/a", []byte("x"), 2) },
			client.Change{Path: "/a", Version: 3, Zxid: 9},
		},
		{
			"put", "SET /a create :1", ok(text.Int("v", 0), text.Zxid("zxid", 9)),
			func(ctx context.Context, c *client.Conn) (any, error) {
				return c.Put(ctx, "/a", []byte(" "), client.AnyVersion)
			},
			client.Change{Path: "/a", Zxid: 9},
		},
		{
			"rm", "RM /a v=0", ok(text.Zxid("zxid", 9)),
			func(ctx context.Context, c *client.Conn) (any, error) { return c.Rm(ctx, "/a", 0) },
			client.Change{Path: "/a", Zxid: 9},
		},
		{
			"rm all", "RM /a recursive limit=10", ok(text.Zxid("zxid", 9)),
			func(ctx context.Context, c *client.Conn) (any, error) {
				return c.RmAll(ctx, "/a", client.AnyVersion, 10)
			},
			client.Change{Path: "/a", Zxid: 9},
		},
		{
			"sync", "SYNC /", ok(text.Zxid("zxid", 9)),
			func(ctx context.Context, c *client.Conn) (any, error) { return c.Sync(ctx, "/") },
			znode.Zxid(9),
		},
		{
			"set acl", `SETACL /a "world:anyone:r" v=1`, ok(text.Int("av", 2), text.Zxid("zxid", 9)),
			func(ctx context.Context, c *client.Conn) (any, error) { return c.SetACL(ctx, "/a", znode.ReadACL, 1) },
			client.Change{Path: "/a", Version: 2, Zxid: 9},
		},
		{
			"get acl", "GETACL /a", reply(text.Reply{Kind: text.KindList, Fields: []text.Field{text.Int("av", 2)}, Items: []text.Reply{{Kind: text.KindItem, Arg: "world:anyone:r"}}}),
			func(ctx context.Context, c *client.Conn) (any, error) {
				acl, version, err := c.GetACL(ctx, "/a")
				return fmt.Sprint(acl, version), err
			},
			"world:anyone:r 2",
		},
		{ // ZooKeeper's clients can grant nothing
			"get acl without permissions", "GETACL /a", reply(text.Reply{Kind: text.KindList, Items: []text.Reply{{Kind: text.KindItem, Arg: "world:anyone:"}, {Kind: text.KindItem, Arg: "ip:::1:r"}}}),
			func(ctx context.Context, c *client.Conn) (any, error) {
				acl, _, err := c.GetACL(ctx, "/a")
				return fmt.Sprint(acl), err
			},
			"world:anyone:,ip:::1:r",
		},
		{
			"info", "INFO", reply(text.Reply{Kind: text.KindList, Items: []text.Reply{{Kind: text.KindItem, Arg: "server_state", Fields: []text.Field{text.Str("value", "standalone")}}}}),
			func(ctx context.Context, c *client.Conn) (any, error) {
				facts, err := c.Info(ctx)
				return fmt.Sprint(facts), err
			},
			"[{server_state standalone}]",
		},
		{
			"ping", "PING", reply(text.Reply{Kind: text.KindOK, Arg: "pong"}),
			func(ctx context.Context, c *client.Conn) (any, error) { return nil, c.Ping(ctx) }, nil,
		},
		{
			"auth", "AUTH digest u :2", ok(text.Str("user", "u")),
			func(ctx context.Context, c *client.Conn) (any, error) { return nil, c.Auth(ctx, "u", []byte("pw")) }, nil,
		},
		{
			"exists", "EXISTS /a", reply(text.Reply{Kind: text.KindOK, Fields: statFields}),
			func(ctx context.Context, c *client.Conn) (any, error) {
				s, found, err := c.Exists(ctx, "/a")
				if !found {
					return nil, errors.New("not found")
				}
				return s, err
			},
			stat,
		},
		{
			"not found", "EXISTS /a", reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoNode}),
			func(ctx context.Context, c *client.Conn) (any, error) {
				_, found, err := c.Exists(ctx, "/a")
				return found, err
			},
			false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := pipe(t, func(r *text.Request) []byte {
				line, _, _ := strings.Cut(string(text.AppendRequest(nil, r)), "\n")
				if line != tt.line {
					t.Errorf("sent %q, want %q", line, tt.line)
				}
				return tt.answer
			})
			got, err := tt.call(short(t), c)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", tt.want) {
				t.Errorf("got %#v, want %#v", got, tt.want)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer text.Reply
		want   client.Error
		text   string
	}{
		{
			"version", text.Reply{Kind: text.KindErr, Code: znode.ErrBadVersion, Fields: []text.Field{text.Str("path", "/b"), text.Int("have", 5)}},
			client.Error{Code: znode.ErrBadVersion, Path: "/b", Have: 5, HasHave: true, Op: -1}, "/b: the version does not match (it is 5)",
		},
		{
			"own path", text.Reply{Kind: text.KindErr, Code: znode.ErrNoNode},
			client.Error{Code: znode.ErrNoNode, Path: "/a", Op: -1}, "/a: no such znode",
		},
		{
			"message", text.Reply{Kind: text.KindErr, Code: znode.ErrQuotaExceeded, Message: "count 3 of 2", Fields: []text.Field{text.Int("op", 2)}},
			client.Error{Code: znode.ErrQuotaExceeded, Path: "/a", Message: "count 3 of 2", Op: 2}, "operation 2: /a: count 3 of 2",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := pipe(t, func(*text.Request) []byte { return reply(tt.answer) })
			_, err := c.Set(short(t), "/a", nil, 0)
			var e *client.Error
			if !errors.As(err, &e) || *e != tt.want || !errors.Is(err, tt.want.Code) {
				t.Fatalf("got %#v, want %#v", err, &tt.want)
			}
			if e.Error() != tt.text {
				t.Errorf("text %q, want %q", e, tt.text)
			}
			if err := c.Ping(short(t)); !errors.As(err, &e) {
				t.Errorf("after a refusal the connection is of use, but: %v", err)
			}
		})
	}
}

// TestLostConnection: the error of a lost connection depends on the request.
func TestLostConnection(t *testing.T) {
	hangUp := func(r *text.Request) []byte { return nil }
	ctx := short(t)
	for name, write := range map[string]func(c *client.Conn) error{
		"set":    func(c *client.Conn) error { _, err := c.Set(ctx, "/a", nil, 0); return err },
		"create": func(c *client.Conn) error { _, err := c.Create(ctx, "/a", nil, client.CreateOptions{}); return err },
		"rm":     func(c *client.Conn) error { _, err := c.Rm(ctx, "/a", 0); return err },
		"setacl": func(c *client.Conn) error { _, err := c.SetACL(ctx, "/a", znode.ReadACL, 0); return err },
		"txn": func(c *client.Conn) error {
			_, _, err := c.Txn(ctx, []text.Op{{Verb: text.VerbRm, Path: "/a", Version: -1}})
			return err
		},
	} {
		if err := write(pipe(t, hangUp)); !errors.Is(err, znode.ErrUncertain) {
			t.Errorf("%s: %v, want uncertain", name, err)
		}
	}
	var lost *client.UnreachableError
	c := pipe(t, hangUp)
	if _, err := c.Get(ctx, "/a", client.GetOptions{}); !errors.As(err, &lost) || errors.Is(err, znode.ErrUncertain) {
		t.Errorf("get: %v, want unreachable", err)
	}
	if _, err := c.Set(ctx, "/a", nil, 0); !errors.As(err, &lost) || errors.Is(err, znode.ErrUncertain) {
		t.Errorf("set on a closed connection: %v, want unreachable", err)
	}
}

// TestUnsentIsCertain: of two writes, the one that was never sent is not uncertain.
func TestUnsentIsCertain(t *testing.T) {
	a, b := net.Pipe() // nobody reads b
	defer b.Close()
	c := client.NewConn(a)
	ctx, cancel := context.WithCancel(t.Context())
	first, err := c.Send(&text.Request{Op: text.Op{Verb: text.VerbRm, Path: "/a", Version: -1}})
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	go func() { _, err := first.Wait(ctx); errs <- err }()
	buf := make([]byte, 1)
	if _, err := io.ReadFull(b, buf); err != nil { // the first is being sent
		t.Fatal(err)
	}
	second, err := c.Send(&text.Request{Op: text.Op{Verb: text.VerbRm, Path: "/b", Version: -1}})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-errs; !errors.Is(err, znode.ErrUncertain) || !errors.Is(err, context.Canceled) {
		t.Errorf("sent: %v, want uncertain", err)
	}
	if _, err := second.Wait(t.Context()); err == nil || errors.Is(err, znode.ErrUncertain) {
		t.Errorf("not sent: %v, want a certain error", err)
	}
	_ = c.Close()
}

func TestContextEndsCalls(t *testing.T) {
	silent := listen(t, func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc); _ = nc.Close() })
	t.Run("dial", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		var lost *client.UnreachableError
		if _, err := client.Dial(ctx, []string{silent}, client.Options{}); !errors.As(err, &lost) || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("got %v", err)
		}
	})
	half := func() (server string, asked chan struct{}) {
		asked = make(chan struct{}, 1)
		return listen(t, fake(func(r *text.Request) []byte { asked <- struct{}{}; select {} }).serve), asked
	}
	t.Run("call", func(t *testing.T) {
		for limit := 20 * time.Millisecond; ; limit *= 2 { // until the limit is long enough to send the request
			if limit > time.Minute {
				t.Fatal("nothing is sent")
			}
			server, asked := half() // a new one, which hears nothing of the request before
			c, err := client.Dial(t.Context(), []string{server}, client.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if _, err = c.Set(ctx, "/a", nil, 0); len(asked) == 0 {
				continue
			}
			if !errors.Is(err, znode.ErrUncertain) || !errors.Is(err, context.DeadlineExceeded) || !strings.HasSuffix(err.Error(), ": no answer in time") {
				t.Errorf("got %v", err)
			}
			if err := c.Ping(t.Context()); err == nil {
				t.Error("the connection survives an unanswered request")
			}
			break
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		server, _ := half()
		c, err := client.Dial(t.Context(), []string{server}, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, err := c.Get(ctx, "/a", client.GetOptions{}); !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
	})
}

// TestDialPrefersALeader: Dial leaves a server without a leader for one that has a leader, unless
// none has.
func TestDialPrefersALeader(t *testing.T) {
	t.Parallel()
	candidate := func() string {
		return listen(t, func(nc net.Conn) {
			for lines := bufio.NewScanner(nc); lines.Scan(); {
				if _, err := nc.Write([]byte("OK proto=1 server=coord version=0.1 node=n0 role=candidate cluster=c zxid=0x7\n")); err != nil {
					break
				}
			}
			_ = nc.Close()
		})
	}
	first, second := candidate(), candidate()
	good := listen(t, fake(func(*text.Request) []byte { return ok() }).serve)
	silent := listen(t, func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc); _ = nc.Close() })
	missing := "unix:" + t.TempDir() + "/none"
	for _, x := range []struct {
		servers []string
		want    string
	}{
		{[]string{first}, first},
		{[]string{first, second, missing}, first},
		{[]string{first, silent}, first},
		{[]string{missing, first, missing, second, good}, good},
		{[]string{good, first}, good},
	} {
		got := ""
		for tries := 1; got != x.want; tries++ {
			begun := time.Now()
			c, err := client.Dial(t.Context(), x.servers, client.Options{})
			took := time.Since(begun)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Ping(short(t)); err != nil {
				t.Errorf("of %q: %v", x.servers, err)
			}
			_ = c.Close()
			// A server with a leader is looked for during a second, of which each server has a share: a stalled
			// machine may need longer.
			if got = c.Server(); got != x.want && (took < 100*time.Millisecond || tries == 20) {
				t.Errorf("of %q after %v: %s, want %s", x.servers, took, got, x.want)
				break
			}
		}
	}
}

func TestDialTriesEach(t *testing.T) {
	good := listen(t, fake(func(r *text.Request) []byte { return ok() }).serve)
	web := listen(t, func(nc net.Conn) {
		_, _ = nc.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		_ = nc.Close()
	})
	silent := listen(t, func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc); _ = nc.Close() })
	missing := "unix:" + t.TempDir() + "/none"
	var c *client.Conn
	err := errors.New("not dialled")
	for limit := 500 * time.Millisecond; err != nil && limit < time.Minute; limit *= 4 { // a busy machine needs longer
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		c, err = client.Dial(ctx, []string{missing, web, silent, good}, client.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.Server() != good || c.Hello().Node != "n1" || c.Hello().Zxid != 7 {
		t.Errorf("connected to %s, %+v", c.Server(), c.Hello())
	}
	_ = c.Close()
	if _, err := client.Dial(t.Context(), []string{web}, client.Options{}); !errors.Is(err, znode.ErrProtocol) {
		t.Errorf("a web server: %v", err)
	}
	var lost *client.UnreachableError
	if _, err := client.Dial(t.Context(), []string{missing, missing}, client.Options{}); !errors.As(err, &lost) {
		t.Errorf("no server: %v", err)
	}
	locked := listen(t, fake(func(r *text.Request) []byte {
		return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrAuthFailed})
	}).serve)
	_, err = client.Dial(t.Context(), []string{locked, good}, client.Options{User: "u", Password: []byte("p")})
	if !errors.Is(err, znode.ErrAuthFailed) {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestSplitServer(t *testing.T) {
	for in, want := range map[string]string{
		"a:1": "tcp a:1", "a": "tcp a:2181", "10.0.0.1": "tcp 10.0.0.1:2181", "[::1]:7": "tcp [::1]:7",
		"::1": "tcp [::1]:2181", "[::1]": "tcp [::1]:2181", "unix:/x y": "unix /x y", "unix:rel": "unix rel",
		"": "", "unix:": "", "http://a:1": "", "a b:1": "", "a:b:1": "", "/run/coord": "",
	} {
		network, addr, err := client.SplitServer(in)
		if got := strings.TrimSpace(network + " " + addr); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
		if err != nil && !errors.Is(err, znode.ErrBadArguments) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestPipelining: answers reach their calls, whichever call is waited for first.
func TestPipelining(t *testing.T) {
	n := 0
	c := pipe(t, func(r *text.Request) []byte { n++; return ok(text.Int("v", int64(n))) })
	calls := make([]*client.Call, 5000)
	for i := range calls {
		var err error
		if calls[i], err = c.Send(&text.Request{Op: text.Op{Verb: text.VerbSet, Path: "/a", Version: -1}}); err != nil {
			t.Fatal(err)
		}
	}
	for i, call := range slices.Backward(calls) {
		r, err := call.Wait(short(t))
		if err != nil || r.Int("v") != int64(i+1) {
			t.Fatalf("call %d: %v %v", i, r, err)
		}
	}
}

func TestManyGoroutines(t *testing.T) {
	c := pipe(t, func(r *text.Request) []byte { return reply(text.Reply{Kind: text.KindData, Data: []byte(r.Path)}) })
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				path := fmt.Sprintf("/%d-%d", g, i)
				if v, err := c.Get(t.Context(), path, client.GetOptions{}); err != nil || string(v.Data) != path {
					t.Errorf("%s: %q %v", path, v.Data, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestPages(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	c := pipe(t, func(r *text.Request) []byte {
		l := text.Reply{Kind: text.KindList}
		for _, n := range names {
			item := text.Reply{Kind: text.KindItem, Arg: n}
			if r.Verb == text.VerbTree {
				item.Arg = "/t/" + n
			}
			switch {
			case item.Arg <= r.After:
			case len(l.Items) == int(r.Limit):
				l.Fields = []text.Field{text.Int("more", 1)}
			default:
				if r.Stat {
					item.Fields = text.AppendStat(nil, &stat)
				}
				l.Items = append(l.Items, item)
			}
		}
		return reply(l)
	})
	for _, page := range []int{1, 2, 5, 9} {
		var got []string
		for it, err := range c.Ls(short(t), "/t", client.ListOptions{Page: page, Stat: true}) {
			if err != nil || it.Stat != stat {
				t.Fatal(it, err)
			}
			got = append(got, it.Path)
		}
		want := "/t/a /t/b /t/c /t/d /t/e"
		if strings.Join(got, " ") != want {
			t.Errorf("ls by %d: %q", page, got)
		}
		got = nil
		for it, err := range c.Tree(short(t), "/t", client.ListOptions{Page: page}) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, it.Path); len(got) == 4 {
				break
			}
		}
		if strings.Join(got, " ") != "/t/a /t/b /t/c /t/d" {
			t.Errorf("tree by %d: %q", page, got)
		}
	}
	stuck := pipe(t, func(*text.Request) []byte {
		return reply(text.Reply{Kind: text.KindList, Fields: []text.Field{text.Int("more", 1)}})
	})
	for _, err := range stuck.Ls(short(t), "/", client.ListOptions{}) {
		if err == nil {
			t.Error("an endless list")
		}
	}
}

func snapshotAnswer(data []byte, end ...text.Reply) []byte {
	out := ok(text.Zxid("zxid", 9))
	for chunk := range slices.Chunk(data, 999) {
		out = append(out, reply(text.Reply{Kind: text.KindChunk, Data: chunk})...)
	}
	for _, r := range end {
		out = append(out, reply(r)...)
	}
	return out
}

type failing struct{ left int }

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestSnapshot(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 1000)
	sum := sha256.Sum256(data)
	end := func(sum [32]byte, n int) text.Reply {
		return text.Reply{Kind: text.KindEnd, Fields: []text.Field{text.Str("sha256", fmt.Sprintf("%x", sum)), text.Int("bytes", int64(n))}}
	}
	for _, tt := range []struct {
		name   string
		answer []byte
		w      io.Writer
		want   error // nil if the snapshot is good
	}{
		{"good", snapshotAnswer(data, end(sum, len(data))), &bytes.Buffer{}, nil},
		{"refused", reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoAuth}), &bytes.Buffer{}, znode.ErrNoAuth},
		{"wrong sum", snapshotAnswer(data, end([32]byte{}, len(data))), &bytes.Buffer{}, client.ErrCut},
		{"wrong length", snapshotAnswer(data, end(sum, 5)), &bytes.Buffer{}, client.ErrCut},
		{"error inside", snapshotAnswer(data, text.Reply{Kind: text.KindErr, Code: znode.ErrShutdown}), &bytes.Buffer{}, client.ErrCut},
		{"another reply inside", snapshotAnswer(data, text.Reply{Kind: text.KindOK}), &bytes.Buffer{}, client.ErrCut},
		{"cut", snapshotAnswer(data)[:5000], &bytes.Buffer{}, client.ErrCut},
		{"full disk", snapshotAnswer(data, end(sum, len(data))), &failing{4000}, io.ErrShortWrite},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			c := pipe(t, func(r *text.Request) []byte {
				if n++; n > 1 || r.Verb != text.VerbSnapshot {
					return nil
				}
				return tt.answer
			})
			ctx := short(t)
			if tt.name == "cut" {
				c = cutShort(t, tt.answer)
			}
			got, err := c.Snapshot(ctx, tt.w, client.SnapshotOptions{})
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if tt.want != nil {
				return
			}
			if w := tt.w.(*bytes.Buffer); !bytes.Equal(w.Bytes(), data) || got.Zxid != 9 || got.SHA256 != sum || got.Bytes != int64(len(data)) {
				t.Errorf("got %+v and %d bytes", got, w.Len())
			}
		})
	}
}

// cutShort is a client of a server that sends some bytes and closes the connection.
func cutShort(t *testing.T, answer []byte) *client.Conn {
	a, b := net.Pipe()
	go func() {
		_, _ = b.Read(make([]byte, 1<<10))
		_, _ = b.Write(answer)
		_ = b.Close()
	}()
	c := client.NewConn(a)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestSnapshotIdle(t *testing.T) {
	var err error
	for idle := 20 * time.Millisecond; !errors.Is(err, client.ErrCut) && idle < time.Minute; idle *= 4 { // until the limit is long enough for the beginning
		a, b := net.Pipe()
		defer b.Close()
		go func() {
			_, _ = b.Read(make([]byte, 1<<10))
			_, _ = b.Write(ok(text.Zxid("zxid", 9))) // and nothing more
		}()
		c := client.NewConn(a)
		defer c.Close()
		_, err = c.Snapshot(t.Context(), io.Discard, client.SnapshotOptions{Idle: idle})
	}
	if !errors.Is(err, client.ErrCut) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
