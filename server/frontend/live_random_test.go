package frontend_test

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// crowd is a group of clients with random requests, and a record of what each of them got.
type crowd struct {
	*theatre
	fault   string // the first
	open    []*member
	all     []*member
	tags    int
	gone    bool // a connection has broken, so an answer may be lost
	holding bool
	stalled bool // a client does not read, and may not know what it holds
}

// member is one client, with its requests by tag.
type member struct {
	*caller
	name  string
	ids   []znode.Identity
	tags  []string
	asked map[string]string
	sent  chan struct{} // closed when the last request has been taken
	left  bool
}

func (m *member) got() string { return m.caller.got.String() }

// liveRequests are drawn from few paths, so that they conflict.
var liveRequests = rapid.Custom(func(t *rapid.T) string {
	path := rapid.SampledFrom([]string{"/", "/a", "/a", "/a/b", "/a/b/c", "/d"}).Draw(t, "path")
	since := rapid.SampledFrom([]string{"", "", " since=0x100000002", " since=0x100000005", " since=0x100000010"}).Draw(t, "since")
	lock := rapid.SampledFrom([]string{"/l", "/l", "/l shared", "/s slots=2"}).Draw(t, "lock")
	timeout := rapid.SampledFrom([]string{" timeout=0s", " timeout=1s", " timeout=4s"}).Draw(t, "timeout")
	form := rapid.SampledFrom([]string{
		"SET $P create $V", "SET $P create $V", "SET $P $V", "RM $P", "RM $P recursive", "CREATE $P $V", "CREATE $P $V", "CREATE $P EPHEMERAL $V",
		"CREATE $P acl=ip:10.0.0.97:cdrwa,world:anyone:cdwa $V", "TXN 3\nSET /a create $V\nCREATE $P/x $V\nRM $P/x", "GET $P", "LS $P", "GET $P lin",
		"FOLLOW $P $S", "FOLLOW $P recursive $S", "FOLLOW $P data $S", "FOLLOW $P recursive data $S", "WATCH $P persistent $S", "WATCH $P children persistent $S",
		"WATCH $P recursive $S", "WATCH $P $S", "WATCH $P children $S", "WATCH $P exists $S", "GET $P watch", "LS $P watch",
		"UNWATCH 1", "UNWATCH 2", "UNWATCH 3", "WAIT $P EXISTS $T", "WAIT $P GONE $T", "WAIT $P CHANGE $S $T", "WAIT $P VALUE=$V $T",
		"LOCK $L $T", "LOCK $L $T", "LOCK $L $T", "UNLOCK /l", "UNLOCK /l", "UNLOCK /s",
		"SESSION NEW", "SESSION NEW hold=2s", "SESSION CLOSE", "SESSION DETACH hold=1s", "SESSION INFO", "SESSIONS", "PING", "SYNC /",
	}).Draw(t, "form")
	value := rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "value")
	return strings.TrimSpace(strings.NewReplacer("$P/x", strings.TrimSuffix(path, "/")+"/x", "$P", path, " $S", since, "$L", lock, " $T", timeout, "$V", value).Replace(form))
})

var fate = rapid.SampledFrom([]string{"say", "say", "say", "say", "say", "say", "say", "burst", "burst", "break", "shut", "sleep", "wait", "hold", "allow", "release", "resume", "expire", "stall", "stall", "go on"})

// step is one random step. The numbers choose among what exists at that time.
type step struct {
	fate           string
	client, choice int
	requests       []string
}

var steps = rapid.Custom(func(t *rapid.T) step {
	return step{
		fate.Draw(t, "fate"), rapid.IntRange(0, 2).Draw(t, "client"), rapid.IntRange(0, 9).Draw(t, "choice"),
		rapid.SliceOfN(liveRequests, 1, 6).Draw(t, "requests"),
	}
})

// TestLiveAtRandom: what several concurrent clients are told about changes, locks and sessions
// agrees with what has happened.
func TestLiveAtRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		todo := rapid.SliceOfN(steps, 5, 60).Draw(rt, "steps")
		early := rapid.Bool().Draw(rt, "early")
		fault := ""
		stage(t, func(x *theatre) {
			x.record = true
			c := &crowd{theatre: x}
			if early {
				frontend.FallBehind(x.front)
			}
			for _, s := range todo {
				c.do(&s)
				synctest.Wait()
				c.judgeLocks()
			}
			x.release()
			for _, m := range c.all {
				m.goOn()
			}
			c.stalled = false
			time.Sleep(2 * time.Minute) // longer than any of them waits
			synctest.Wait()
			c.holding = false
			c.judgeLocks()
			for _, m := range c.all {
				c.judge(m)
			}
			for _, m := range c.all {
				_ = m.Close()
			}
			fault = c.fault
		})
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

// client returns one of the three connected clients.
func (c *crowd) client(n int) *member {
	for i := len(c.open); i < 3; i++ {
		addr := []*net.TCPAddr{{IP: net.IPv4(10, 0, 0, 97), Port: 9}, {IP: net.IPv4(10, 0, 0, 98), Port: 9}, home}[(len(c.all))%3]
		m := &member{caller: c.theatre.open(addr), name: fmt.Sprint("client ", len(c.all)), asked: map[string]string{}}
		m.ids = []znode.Identity{{Scheme: znode.SchemeIP, ID: addr.IP.String()}}
		c.open, c.all = append(c.open, m), append(c.all, m)
	}
	return c.open[n]
}

func (c *crowd) fail(format string, args ...any) {
	if c.fault == "" {
		c.fault = fmt.Sprintf(format, args...)
	}
}

func (c *crowd) leave(m *member) {
	m.left = true
	c.open = slices.DeleteFunc(c.open, func(o *member) bool { return o == m })
}

// say sends a request with a tag of its own. If the server does not read it yet, it is in transit.
func (c *crowd) say(m *member, req string) string {
	c.tags++
	tag := fmt.Sprintf("@t%d", c.tags)
	m.tags = append(m.tags, tag)
	m.asked[tag] = req
	return tag + " " + req + "\n"
}

func (c *crowd) do(s *step) {
	switch m := c.client(s.client); s.fate {
	case "say":
		m.send(c.say(m, s.requests[0]))
	case "burst":
		in := ""
		for _, req := range s.requests {
			in += c.say(m, req)
		}
		m.send(in)
	case "break":
		c.gone = true
		_ = m.Close()
		c.leave(m)
	case "shut":
		go func() {
			if m.sent != nil {
				<-m.sent
			}
			_ = m.CloseWrite()
		}()
		c.leave(m)
	case "sleep":
		time.Sleep([]time.Duration{time.Millisecond, time.Second, 3 * time.Second}[s.choice%3])
	case "hold":
		c.holding = true
		c.hold()
	case "stall":
		c.stalled = true
		m.stall()
	case "go on":
		m.goOn()
	case "allow":
		c.allow(1)
	case "release":
		c.holding = false
		c.release()
	case "resume":
		var found [][]string
		for _, m := range c.all {
			found = append(found, secrets.FindAllStringSubmatch(m.got(), -1)...)
		}
		if len(found) > 0 {
			f := found[s.choice%len(found)]
			m.send(c.say(m, "SESSION RESUME "+f[1]+" hold=1s :32\n"+f[2]))
		}
	case "expire":
		var ids []int64
		c.View(func(t *tree.Tree, _ *watch.Table) {
			t.Sessions(0, func(s tree.Session, _ int) bool { ids = append(ids, s.ID); return true })
		})
		if len(ids) > 0 {
			c.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: ids[s.choice%len(ids)]}, nobody)
		}
	}
}

// send does not wait until the server reads.
func (m *member) send(in string) {
	before := m.sent
	m.sent = make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		if before != nil {
			<-before
		}
		m.say(in)
	}(m.sent)
}

var (
	secrets = regexp.MustCompile(`id=(0x\w+) .*password=(\w+)`)
	reply   = regexp.MustCompile(`^(@t\d+) (OK|ERR|DATA|LIST)\b`)
	event   = regexp.MustCompile(`^EVENT (\w+) path=(\S+) zxid=(0x\w+)(?: v=\d+)? id=(\d+)( :\d+)?$`)
	hasID   = regexp.MustCompile(` id=(\d+)\b`)
	hasZxid = regexp.MustCompile(` zxid=(0x\w+)`)
	grant   = regexp.MustCompile(`OK token=\w+ path=(\S+)`)
)

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// watched is one watch of a member, according to its request and the reply.
type watched struct {
	req         string
	path        string
	since, from znode.Zxid
	once        bool
	ended       bool // by UNWATCH
	got         []string
}

// judge checks everything that a client got: one reply to each request, in their order; each event
// of its watches once, in their order, and none after a reply that shows a later state.
func (c *crowd) judge(m *member) {
	fail := func(format string, args ...any) {
		c.fail("%s: %s\nrequests %q\ngot %s", m.name, fmt.Sprintf(format, args...), m.asked, m.got())
	}
	watches := map[int64]*watched{}
	var newest int64
	answered := 0
	ended := m.left || m.ended()
	lines := strings.Split(m.got(), "\n")
	for i, line := range lines {
		if r := reply.FindStringSubmatch(line); r != nil {
			if answered == len(m.tags) || m.tags[answered] != r[1] {
				fail("reply %q is not next", line)
			}
			answered++
			req := m.asked[r[1]]
			if z := hasZxid.FindStringSubmatch(line); z != nil {
				newest = max(newest, number(z[1]))
			}
			words := strings.Fields(req)
			if words[0] == "UNWATCH" && r[2] == "OK" {
				watches[number(words[1])].ended = true
			}
			id := hasID.FindStringSubmatch(line)
			if id == nil || words[0] == "SESSION" {
				continue
			}
			w := &watched{req: req + " ", path: words[1], from: znode.Zxid(newest)}
			if w.since = w.from; strings.Contains(req, "since=") {
				_, s, _ := strings.Cut(req, "since=")
				w.since = znode.Zxid(number(strings.Fields(s)[0]))
			}
			w.once = words[0] != "FOLLOW" && !strings.Contains(req, "persistent") && !strings.Contains(req, "recursive")
			watches[number(id[1])] = w
			continue
		}
		e := event.FindStringSubmatch(line)
		if e == nil {
			if strings.HasPrefix(line, "EVENT") && !strings.Contains(line, "session=") {
				fail("line %q", line)
			}
			continue
		}
		w := watches[number(e[4])]
		z := number(e[3])
		switch {
		case w == nil || w.ended:
			fail("nobody watches: %q", line)
		case z > int64(w.from) && z <= newest:
			fail("%q comes behind a reply that shows %#x", line, newest)
		}
		told := strings.Join(e[1:4], " ")
		if e[5] != "" {
			told += " " + lines[i+1]
		}
		w.got = append(w.got, told)
	}
	if answered != len(m.tags) && !ended {
		fail("%d of %d requests are answered", answered, len(m.tags))
	}
	for id, w := range watches {
		want := c.expected(w, m.ids)
		if w.ended || ended {
			want = want[:min(len(want), len(w.got))]
		}
		if !slices.Equal(w.got, want) {
			fail("watch %d was told\n%q, want\n%q", id, w.got, want)
		}
	}
}

// expected returns the events of a watch, out of all events of the test.
func (c *crowd) expected(w *watched, ids []znode.Identity) (all []string) {
	kinds := "created deleted changed"
	recursive := strings.Contains(w.req, " recursive")
	switch {
	case strings.Contains(w.req, " children") || strings.HasPrefix(w.req, "LS"):
		kinds = "children deleted"
	case strings.HasPrefix(w.req, "FOLLOW") && !recursive:
		kinds += " children"
	}
	for _, e := range c.events {
		if e.Zxid <= w.since || !strings.Contains(kinds, e.Type.String()) || e.Path != w.path && (!recursive || !znode.Below(e.Path, w.path)) {
			continue
		}
		allowed := e.ACL.Allows(ids, znode.Read)
		if allowed {
			line := fmt.Sprintf("%s %s %s", e.Type, e.Path, e.Zxid)
			if strings.Contains(w.req, " data") && strings.Contains("created changed", e.Type.String()) {
				line += " " + e.Data
			}
			all = append(all, line)
		}
		if w.once && (allowed || e.Zxid > w.from) {
			break
		}
	}
	return all
}

// judgeLocks checks that exactly those clients hold locks that were told so.
func (c *crowd) judgeLocks() {
	if c.holding || c.stalled {
		return
	}
	told := map[string]bool{}
	for _, m := range c.all {
		for _, g := range grant.FindAllStringSubmatch(m.got(), -1) {
			told[g[1]] = true
		}
	}
	for path, room := range map[string]int{"/l": 1, "/s": 2} {
		var line []string
		c.View(func(t *tree.Tree, _ *watch.Table) {
			t.Children(path, "", func(name string, _ func() tree.Znode) bool {
				line = append(line, name)
				return true
			})
		})
		slices.SortFunc(line, func(a, b string) int { return strings.Compare(a[len(a)-10:], b[len(b)-10:]) })
		for i, name := range line {
			holds := i < room
			if strings.HasPrefix(name, "read-") {
				holds = !slices.ContainsFunc(line[:i], func(o string) bool { return !strings.HasPrefix(o, "read-") })
			}
			switch is := told[path+"/"+name]; {
			case is && !holds:
				c.fail("%s in %v is held too soon", name, line)
			case holds && !is && !c.gone:
				c.fail("%s in %v: nobody knows\n%s", name, line, c.said())
			}
		}
	}
}

func (c *crowd) said() (all string) {
	for _, m := range c.all {
		all += fmt.Sprintf("%s: %q\n  %q\n", m.name, m.asked, m.got())
	}
	return all
}
