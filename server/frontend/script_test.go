package frontend_test

import (
	"context"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/server/session"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// theatre is a world with a keeper of sessions and with named clients.
type theatre struct {
	*world
	*pipes
	clients map[string]*actor
	names   []string
	loose   bool // lines that no act has consumed are not an error
}

// actor is a client and how much of its output has been checked.
type actor struct {
	*caller
	seen int
	zk   *zkClient // nil: it speaks the text protocol
}

// stage runs a play in a bubble, and then checks that nothing is left behind.
func stage(t *testing.T, play func(*theatre), change ...func(*frontend.Config, *backend)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var keeper *session.Keeper
		w := newWorld(t, append(change, func(cfg *frontend.Config, b *backend) {
			keeper = session.New(session.Config{Replica: b, ContainerInterval: time.Minute})
			cfg.Sessions = keeper
		})...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = keeper.Run(ctx) }()
		x := &theatre{world: w, pipes: w.pipes(), clients: map[string]*actor{}}
		play(x)
		synctest.Wait()
		x.nothingUnseen("the end")
		x.leave()
	})
}

// leave ends all clients and demands that nothing is left of them.
func (x *theatre) leave() {
	x.t.Helper()
	for _, name := range x.names {
		_ = x.clients[name].Close()
	}
	time.Sleep(frontend.LingerTime)
	synctest.Wait()
	x.empty()
	x.stop()
	x.served.Wait()
	synctest.Wait()
	x.empty()
}

func (x *theatre) empty() {
	x.t.Helper()
	bytes, locks := frontend.Leftovers(x.front)
	if n := x.watches.Len(); n != 0 || bytes != 0 || locks != 0 {
		x.t.Errorf("left behind: %d watches, %d bytes of events, %d locks", n, bytes, locks)
	}
	x.View(func(t *tree.Tree, table *watch.Table) {
		t.Sessions(0, func(s tree.Session, _ int) bool {
			if who := table.Attached(s.ID); who != nil {
				x.t.Errorf("session %x is served by somebody who has left", s.ID)
			}
			return true
		})
	})
}

// client returns the client of a name, and connects it if necessary: from loopback, and so with
// operator rights, if the name is a capital letter.
func (x *theatre) client(name string) *actor {
	c := x.clients[name]
	if c == nil {
		from := net.Addr(home)
		if name[0] >= 'a' {
			from = &net.TCPAddr{IP: net.IPv4(10, 0, 0, name[0]), Port: 9}
		}
		c = &actor{caller: x.open(from)}
		if name[0]|0x20 == 'z' && len(name) > 1 {
			c.zk = &zkClient{}
		}
		x.clients[name] = c
		x.names = append(x.names, name)
	}
	return c
}

// act runs a play, given in lines:
//
//	A> text    the client A, or z1 for ZooKeeper's protocol (see zkClient), sends the line (\n in it is a line end)
//	A< text    it gets the line, in which * is anything
//	A|         it closes its sending side
//	A!         its connection breaks
//	A.         its connection has been closed by the server
//	sleep 5s
//	+path v    another client sets, or creates, a znode
//	-path      another client deletes it
//	stop       the server stops
//
// Between two acts no client may get a line that is not in the play.
func (x *theatre) act(script string) {
	x.t.Helper()
	synctest.Wait()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, verb, rest := line, byte(' '), ""
		if at := strings.IndexAny(line, "<>|!."); at > 0 && at < 3 {
			name, verb, rest = line[:at], line[at], strings.TrimPrefix(line[at+1:], " ")
		}
		if verb != '<' {
			x.nothingUnseen(line)
		}
		switch {
		case verb == '>' && x.client(name).zk != nil:
			x.zkSay(x.client(name), rest)
		case verb == '>':
			c := x.client(name)
			go c.say(strings.ReplaceAll(rest, `\n`, "\n") + "\n")
		case verb == '|':
			_ = x.client(name).CloseWrite()
		case verb == '!':
			_ = x.client(name).Close()
		case verb == '.':
			if !x.client(name).ended() {
				x.t.Fatalf("%s: the connection is open", line)
			}
		case verb == '<':
			x.expect(name, rest)
		case line == "stop":
			x.stop()
		case line[0] == '-':
			x.must(tree.Op{Kind: tree.KindDelete, Path: line[1:], Version: tree.AnyVersion})
		case line[0] == '+':
			path, value, _ := strings.Cut(line[1:], " ")
			x.must(tree.Op{Kind: tree.KindSetData, Path: path, Data: []byte(value), Version: tree.AnyVersion, Flags: tree.OrCreate, ACL: znode.OpenACL})
		default:
			d, err := time.ParseDuration(strings.TrimPrefix(line, "sleep "))
			if err != nil {
				x.t.Fatal(err)
			}
			time.Sleep(d)
		}
		synctest.Wait()
	}
}

func (x *theatre) must(op tree.Op) {
	x.t.Helper()
	if r := x.submit(op); r.Code != znode.OK {
		x.t.Fatalf("%s: %v", op.Path, r.Code)
	}
}

// submit executes an op with all rights.
func (x *theatre) submit(op tree.Op) tree.Result {
	done := make(chan tree.Result, 1)
	x.Submit(&tree.Txn{Op: op, IDs: []znode.Identity{znode.Super}}, func(r tree.Result, _ *tree.Tree, _ *watch.Table) { done <- r })
	return <-done
}

func (x *theatre) nothingUnseen(before string) {
	x.t.Helper()
	for _, name := range x.names {
		if c := x.clients[name]; !x.loose && c.seen < len(c.got.String()) {
			x.t.Fatalf("before %q %s got %q", before, name, c.got.String()[c.seen:])
		}
	}
}

func (x *theatre) expect(name, want string) {
	x.t.Helper()
	c := x.client(name)
	line, n, whole := c.next(x.t)
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(want), `\*`, ".*") + "$"
	if !whole || !regexp.MustCompile(pattern).MatchString(line) {
		x.t.Fatalf("%s got %q, want %q", name, line, want)
	}
	c.seen += n
}

// next returns the next line that a client has got, or the next frame in words, and its size in
// bytes.
func (c *actor) next(t testing.TB) (line string, n int, whole bool) {
	t.Helper()
	rest := c.got.String()[c.seen:]
	if c.zk == nil {
		line, _, whole = strings.Cut(rest, "\n")
		return line, len(line) + 1, whole
	}
	line, n, err := c.zk.read([]byte(rest))
	if err != nil {
		t.Fatalf("got %q: %v", rest, err)
	}
	return line, n, n > 0
}

// zkSay makes a client of ZooKeeper's protocol send a line, after a default connect if it has sent
// nothing yet.
func (x *theatre) zkSay(c *actor, line string) {
	x.t.Helper()
	if !c.zk.introduced && !strings.HasPrefix(line, "connect") && !strings.HasPrefix(line, "raw") {
		c.say(string(c.zk.frames(x.t, "connect")))
		synctest.Wait()
		answer, n, _ := c.next(x.t)
		if !strings.HasPrefix(answer, "session ") {
			x.t.Fatalf("before %q: %s", line, answer)
		}
		c.seen += n
	}
	go c.say(string(c.zk.frames(x.t, line)))
}

// paths lists all znodes that clients have created.
func (x *theatre) paths() (all []string) {
	x.View(func(t *tree.Tree, _ *watch.Table) {
		t.Walk(znode.Root, "", -1, []znode.Identity{znode.Super}, func(path string, _ func() tree.Znode) bool {
			if path != znode.Root && !strings.HasPrefix(path, znode.SystemPath) {
				all = append(all, path)
			}
			return true
		})
	})
	return all
}

func (x *theatre) have(want ...string) {
	x.t.Helper()
	if got := x.paths(); !slices.Equal(got, want) {
		x.t.Errorf("there are %q, want %q", got, want)
	}
}

type play struct {
	name, script string
	left         string // znodes at the end, before the clients leave
}

func playAll(t *testing.T, plays []play) {
	t.Parallel()
	for _, p := range plays {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			stage(t, func(x *theatre) {
				x.act(p.script)
				x.have(strings.Fields(p.left)...)
			})
		})
	}
}
