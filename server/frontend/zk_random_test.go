package frontend_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// zkCrowd is a group of clients of ZooKeeper's protocol with random requests.
type zkCrowd struct {
	*theatre
	t     *testing.T
	fault string // the first
	open  []*zkMember
	all   []*zkMember
}

// zkMember is one of them, with all its requests.
type zkMember struct {
	member
	z zkClient
}

var zkLiveRequests = rapid.Custom(func(t *rapid.T) string {
	path := rapid.SampledFrom([]string{"/a", "/a", "/a/b", "/a/b/c", "/d"}).Draw(t, "path")
	form := rapid.SampledFrom([]string{
		"create P V", "create P V", "create P V flags=1", "create P- V flags=3", "delete P", "delete P", "setData P V", "setData P V", "setData P V v=1",
		"multi create /a V + create /a/b V + setData /a V", "multi setData P V + delete /a/b", "multi delete P + check /none",
		"getData P", "getData P watch", "getData P watch", "exists P watch", "exists P watch", "getChildren P watch", "getChildren2 P watch",
		"addWatch P kind=0", "addWatch P kind=1", "addWatch / kind=1", "checkWatches P kind=K", "removeWatches P kind=K", "sync P", "ping",
		"setWatches xid=-8 zxid=#Z data=P,/d exist=P child=/a,P", "setWatches2 zxid=#Z data=P persistent=P recursive=/a", "closeSession",
	}).Draw(t, "form")
	value := rapid.SampledFrom([]string{"v1", "v2", "null"}).Draw(t, "value")
	kind, zxid := rapid.IntRange(1, 5).Draw(t, "kind"), rapid.IntRange(0, 20).Draw(t, "zxid")
	return strings.NewReplacer("P", path, "V", value, "K", fmt.Sprint(kind), "Z", fmt.Sprint(zxid)).Replace(form)
})

var zkSteps = rapid.Custom(func(t *rapid.T) step {
	return step{
		rapid.SampledFrom([]string{"say", "say", "say", "say", "say", "say", "burst", "burst", "burst", "set", "set", "break", "resume", "sleep", "hold", "allow", "release", "stall", "go on"}).Draw(t, "fate"),
		rapid.IntRange(0, 2).Draw(t, "client"), rapid.IntRange(0, 9).Draw(t, "choice"), rapid.SliceOfN(zkLiveRequests, 1, 6).Draw(t, "requests"),
	}
})

// TestZooKeeperAtRandom: what several clients get, one of them of the text protocol, agrees with
// what has happened: every reply comes in its turn, and every event of a watch once, before the
// first reply that shows its change and after the last one that does not.
func TestZooKeeperAtRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		todo := rapid.SliceOfN(zkSteps, 5, 60).Draw(rt, "steps")
		fault := ""
		stage(t, func(x *theatre) {
			x.record, x.loose = true, true
			c := &zkCrowd{theatre: x, t: t}
			x.act("A> FOLLOW / recursive\nA< OK id=1 *")
			for _, s := range todo {
				c.do(&s)
				synctest.Wait()
			}
			x.release()
			for _, m := range c.all {
				m.goOn()
			}
			synctest.Wait()
			for _, m := range c.all {
				c.judge(m)
			}
			c.judgeText()
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

func (c *zkCrowd) fail(format string, args ...any) {
	if c.fault == "" {
		c.fault = fmt.Sprintf(format, args...)
	}
}

// come connects another client.
func (c *zkCrowd) come(connect string) {
	m := &zkMember{}
	m.caller = c.theatre.open(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9})
	m.name = fmt.Sprint("client ", len(c.all))
	m.send(string(m.z.frames(c.t, connect)))
	c.open, c.all = append(c.open, m), append(c.all, m)
}

func (c *zkCrowd) do(s *step) {
	for len(c.open) < 3 {
		c.come("connect")
	}
	switch m := c.open[s.client]; s.fate {
	case "say":
		m.send(string(m.z.frames(c.t, s.requests[0])))
	case "burst":
		m.send(string(m.z.frames(c.t, strings.Join(s.requests, " ; "))))
	case "set":
		go c.client("A").say("SET /a create t\nRM /a/b\n")
	case "break":
		m.left = true
		_ = m.Close()
		c.open = slices.Delete(c.open, s.client, s.client+1)
	case "resume":
		if from := c.all[s.choice%len(c.all)]; len(from.got()) >= 41 {
			r, _ := zkproto.ReadConnected([]byte(from.got()[4:41]))
			c.open = slices.Delete(c.open, s.client, s.client+1)
			c.come(fmt.Sprintf("connect id=%#x pw=%x", r.Session, r.Password))
		}
	case "sleep":
		time.Sleep([]time.Duration{time.Millisecond, time.Second, 3 * time.Second}[s.choice%3])
	case "hold":
		c.hold()
	case "allow":
		c.allow(1)
	case "release":
		c.release()
	case "stall":
		m.stall()
	case "go on":
		m.goOn()
	}
}

// zkWatch holds the kinds of a client's watches at a path.
type zkWatch struct{ data, child, persistent, recursive bool }

// zkTold is what a client knows, according to the model.
type zkTold struct {
	watches map[string]*zkWatch
	until   znode.Zxid
}

func (k *zkTold) at(path string) *zkWatch {
	if k.watches[path] == nil {
		k.watches[path] = &zkWatch{}
	}
	return k.watches[path]
}

// fires says whether the client gets an event, and consumes its one-shot watches.
func (k *zkTold) fires(e *znode.Event) bool {
	w := k.at(e.Path)
	if e.Type == znode.NodeChildrenChanged {
		fires := w.child || w.persistent
		w.child = false
		return fires
	}
	fires := w.data || w.persistent
	w.data = false
	if e.Type == znode.NodeDeleted {
		fires = fires || w.child
		w.child = false
	}
	for path, w := range k.watches {
		fires = fires || w.recursive && (path == e.Path || znode.Below(e.Path, path))
	}
	return fires
}

// has says whether there is a watch of the type, and removes it if remove is set.
func (k *zkTold) has(path string, kind int32, remove bool) bool {
	w := k.at(path)
	found := false
	for i, is := range []*bool{&w.child, &w.data, nil, &w.persistent, &w.recursive} {
		if is != nil && (kind == int32(i)+1 || kind == zkproto.OfAny) {
			found = found || *is
			*is = *is && !remove
		}
	}
	return found
}

// due returns the events that the client gets up to zxid.
func (c *zkCrowd) due(k *zkTold, zxid znode.Zxid) (all []string) {
	for i := range c.events {
		if e := &c.events[i]; e.Type > 0 && e.Zxid > k.until && e.Zxid <= zxid && k.fires(e) {
			all = append(all, fmt.Sprintf("%s %s %s", e.Type, e.Path, e.Zxid))
		}
	}
	k.until = max(k.until, zxid)
	return all
}

// state returns a znode as it was at a zxid: its value, and when it and its children had changed.
func (c *zkCrowd) state(path string, at znode.Zxid) (there bool, value string, mzxid, pzxid znode.Zxid) {
	for _, e := range c.events {
		if e.Path != path || e.Zxid > at {
			continue
		}
		switch e.Type {
		case znode.NodeDeleted:
			there = false
		case znode.NodeChildrenChanged:
			pzxid = e.Zxid
		case znode.NodeCreated:
			there, value, mzxid, pzxid = true, e.Data, e.Zxid, e.Zxid
		case znode.NodeDataChanged:
			value, mzxid = e.Data, e.Zxid
		}
	}
	return there, value, mzxid, pzxid
}

// judge checks everything that a client got.
func (c *zkCrowd) judge(m *zkMember) {
	fail := func(format string, args ...any) {
		asked := make([]string, len(m.z.asked))
		for i, r := range m.z.asked {
			asked[i] = fmt.Sprintf("%d %s %s", r.Xid, r.Op, r.Path)
		}
		c.fail("%s: %s\nasked %q\nevents %v", m.name, fmt.Sprintf(format, args...), asked, c.events)
	}
	asked := m.z.asked
	k := &zkTold{watches: map[string]*zkWatch{}}
	var told, missed []string
	in := []byte(m.got())
	if len(in) >= 41 {
		in = in[41:]
	}
	for len(in) > 0 {
		frame, n, err := zkproto.CutFrame(in, 1<<20)
		if err != nil || frame == nil {
			fail("half a frame: %x", in)
			return
		}
		in = in[n:]
		h, body, err := zkproto.ReadReply(frame)
		if err != nil {
			fail("%v", err)
			return
		}
		if h.Xid == zkproto.XidEvent {
			e := body.Event()
			if h.Zxid == zkproto.NoZxid {
				missed = append(missed, fmt.Sprintf("%s %s", e.Type, e.Path))
			} else {
				told = append(told, fmt.Sprintf("%s %s %s", e.Type, e.Path, h.Zxid))
			}
			continue
		}
		if len(asked) == 0 || h.Xid != asked[0].Xid && asked[0].Op != zkproto.OpPing || h.Zxid < k.until {
			fail("reply %+v behind %s is not next", h, k.until)
			return
		}
		if want := c.due(k, h.Zxid); !slices.Equal(told, want) {
			fail("before the reply %+v: told %q, want %q", h, told, want)
			return
		}
		told = nil
		if wrong := c.learn(k, &asked[0], &h, &body, missed); wrong != "" {
			fail("reply %+v to %v: %s", h, asked[0], wrong)
			return
		}
		missed, asked = nil, asked[1:]
	}
	want := c.due(k, zkproto.NoZxid-1)
	if m.left || m.ended() {
		want = want[:min(len(want), len(told))]
	} else if len(asked) > 0 {
		fail("%d requests are not answered", len(asked))
	}
	if !slices.Equal(told, want) {
		fail("at the end told %q, want %q", told, want)
	}
}

// learn returns what is wrong with a reply, and records what the client watches from here on.
func (c *zkCrowd) learn(k *zkTold, r *zkproto.Request, h *zkproto.ReplyHeader, body *zkproto.Body, missed []string) string {
	ok := h.Code == znode.OK
	switch r.Op {
	case zkproto.OpExists:
		k.at(r.Path).data = k.at(r.Path).data || r.Watch
	case zkproto.OpGetData:
		k.at(r.Path).data = k.at(r.Path).data || r.Watch && ok
		if there, value, _, _ := c.state(r.Path, h.Zxid); there != ok || ok && string(body.Buffer()) != value {
			return fmt.Sprintf("the value was %v %q", there, value)
		}
	case zkproto.OpGetChildren, zkproto.OpGetChildren2:
		k.at(r.Path).child = k.at(r.Path).child || r.Watch && ok
	case zkproto.OpAddWatch:
		if r.Kind == zkproto.AddRecursive {
			k.at(r.Path).recursive = true
		} else {
			k.at(r.Path).persistent = true
		}
	case zkproto.OpCheckWatches, zkproto.OpRemoveWatches:
		if has := k.has(r.Path, r.Kind, r.Op == zkproto.OpRemoveWatches); has != ok {
			return fmt.Sprintf("there was one: %v", has)
		}
	case zkproto.OpSetWatches, zkproto.OpSetWatches2:
		want := c.missed(k, r, h.Zxid)
		if !slices.Equal(missed, want) {
			return fmt.Sprintf("told %q, want %q", missed, want)
		}
		return ""
	}
	if len(missed) > 0 {
		return fmt.Sprintf("told %q", missed)
	}
	return ""
}

// missed returns the events of a setWatches; watches without one are armed.
func (c *zkCrowd) missed(k *zkTold, r *zkproto.Request, at znode.Zxid) (all []string) {
	for i, list := range r.Watches {
		for _, path := range list {
			there, _, mzxid, pzxid := c.state(path, at)
			w := k.at(path)
			switch typ := ""; {
			case i == 3:
				w.persistent = true
			case i == 4:
				w.recursive = true
			case i == 1 && !there:
				w.data = true
			default:
				switch {
				case i == 1:
					typ = "created"
				case !there:
					typ = "deleted"
				case i == 0 && mzxid > r.Zxid:
					typ = "changed"
				case i == 2 && pzxid > r.Zxid:
					typ = "children"
				case i == 0:
					w.data = true
				case i == 2:
					w.child = true
				}
				if typ != "" {
					all = append(all, typ+" "+path)
				}
			}
		}
	}
	return all
}

// judgeText checks that the client of the text protocol has all events in order.
func (c *zkCrowd) judgeText() {
	var got, want []string
	for line := range strings.Lines(c.client("A").got.String()) {
		if e := event.FindStringSubmatch(strings.TrimSpace(line)); e != nil {
			got = append(got, strings.Join(e[1:4], " "))
		}
	}
	for _, e := range c.events {
		if e.Type > 0 && e.Type != znode.NodeChildrenChanged {
			want = append(want, fmt.Sprintf("%s %s %s", e.Type, e.Path, e.Zxid))
		}
	}
	if !slices.Equal(got, want) {
		c.fail("the text client was told %q, want %q", got, want)
	}
}
