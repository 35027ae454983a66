package compare

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"coord/server/zkproto"
)

// Generate makes the sequence of a seed: this many steps after those that connect.
func Generate(seed uint64, ops int) []Step {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x5eed)), tree: map[string]*guess{"~": {}}}
	g.users = []string{"u1:p1"}
	switch g.IntN(5) {
	case 0:
		g.users = []string{"u2:p2"}
	case 1:
		g.users = []string{"u1:p1", "u2:p2"}
	}
	g.flavour = g.IntN(10)
	g.single = g.chance(25)
	for slot := range 2 + g.IntN(2) {
		if slot == 0 || !g.single {
			g.connect(slot)
		}
	}
	first := len(g.steps)
	if g.flavour == 2 {
		g.request(0, Request{Op: zkproto.OpCreate, Path: quotaTop + "~", ACL: "open"}, Request{Op: zkproto.OpCreate, Path: quotaTop + "~/a", ACL: "open"})
		g.request(0, Request{Op: zkproto.OpCreate, Path: quotaTop + "~/zookeeper_limits", Data: pick(g, limits...), ACL: "open"})
		g.request(0, Request{Op: zkproto.OpCreate, Path: quotaTop + "~/zookeeper_stats", ACL: "open"})
	}
	for len(g.steps) < first+ops {
		g.step()
	}
	return g.steps
}

// guess is what the generator assumes about a znode. It need not be true: all
// requests are chosen before anything is played, and both servers get the same.
type guess struct {
	version, aversion int32
	created           int // children created so far
	ephemeral         bool
}

type generator struct {
	*rand.Rand
	steps   []Step
	tree    map[string]*guess
	users   []string
	slots   [3]slot
	live    []int // sessions, by the step that created them
	dead    []int
	hidden  []string // paths that not all users may read, or not always
	flavour int      // 0, 1: many watches; 2: a quota
	single  bool     // only one connection

	bigs int
}

// slot is what the generator assumes about a connection.
type slot struct {
	session int
	up      bool
	watches map[string]int32 // by path: once, or the mode of an addWatch
}

// once is a watch that addWatch has not set.
const once = -1

func (g *generator) chance(percent float64) bool { return g.Float64()*100 < percent }

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) add(s Step) int {
	s.ID = len(g.steps)
	g.steps = append(g.steps, s)
	return s.ID
}

func (g *generator) request(slot int, r ...Request) {
	for i := range r {
		g.watch(slot, &r[i])
	}
	g.add(Step{Conn: slot, Requests: r})
}

// connect gives a slot a new session.
func (g *generator) connect(slot int) {
	c := Connect{Session: newSession, Password: "right", TimeoutMS: pick[int32](g, normalTimeoutMS, normalTimeoutMS, 20000, 39999, 1<<30, math.MaxInt32),
		ReadOnly: pick(g, 0, 0, 0, 1, -1), LastZxid: pick(g, "none", "none", "seen")}
	if g.chance(10) {
		c.Password = pick(g, "empty", "null", "short", "long")
	}
	id := g.add(Step{Conn: slot, Do: doConnect, Connect: c})
	g.slots[slot].session, g.slots[slot].up, g.slots[slot].watches = id, true, nil
	g.live = append(g.live, id)
}

// again attaches a live session to the slot, usually the slot's own.
func (g *generator) again(slot int) {
	id := g.slots[slot].session
	if !slices.Contains(g.live, id) || g.chance(15) {
		if len(g.live) == 0 || g.chance(30) {
			g.connect(slot)
			return
		}
		id = pick(g, g.live...)
	}
	g.add(Step{Conn: slot, Do: doConnect, Connect: Connect{Session: id, Password: "right", TimeoutMS: normalTimeoutMS,
		ReadOnly: pick(g, 0, 0, 1, -1), LastZxid: pick(g, "none", "seen", "seen")}})
	for i := range g.slots {
		if g.slots[i].session == id {
			g.slots[i].up = false
		}
	}
	g.slots[slot].session, g.slots[slot].up, g.slots[slot].watches = id, true, nil
}

func (g *generator) ended(id int) {
	g.live = slices.DeleteFunc(g.live, func(s int) bool { return s == id })
	g.dead = append(g.dead, id)
	for i := range g.slots {
		if g.slots[i].session == id {
			g.slots[i].up = false
		}
	}
}

// watch allows a connection only one kind of watch per path: ZooKeeper 3.8 and 3.9
// differ in what a second kind does to the first, and removeWatches and
// checkWatches do not tell two kinds apart.
func (g *generator) watch(slot int, r *Request) {
	s := &g.slots[slot]
	if s.watches == nil {
		s.watches = map[string]int32{}
	}
	fits := func(path string, kind int32) bool {
		have, there := s.watches[path]
		if !there {
			s.watches[path] = kind
		}
		return !there || have == kind
	}
	switch r.Op {
	case zkproto.OpExists, zkproto.OpGetData, zkproto.OpGetChildren, zkproto.OpGetChildren2:
		r.Watch = (r.Watch || r.Spoil.how == "bool" || r.Spoil.how == "count") && fits(r.Path, once)
		if !r.Watch {
			r.Spoil = spoil{}
		}
	case zkproto.OpAddWatch:
		if r.Flags == 0 || r.Flags == 1 {
			if !fits(r.Path, r.Flags) {
				r.Flags = s.watches[r.Path]
			}
		}
	case zkproto.OpSetWatches, zkproto.OpSetWatches2:
		for i := range r.Lists {
			kind := int32(max(once, i-3))
			if i == 3 {
				kind = 0
			} else if i < 3 {
				kind = once
			}
			r.Lists[i] = slices.DeleteFunc(r.Lists[i], func(path string) bool { return path != null && !fits(path, kind) })
		}
	case zkproto.OpCheckWatches, zkproto.OpRemoveWatches:
		if kind, there := s.watches[r.Path]; there && kind != once && r.Flags > 0 && r.Flags < 4 {
			r.Flags = 3
		}
	}
}

// step adds one step, or a few that belong together.
func (g *generator) step() {
	slot := g.IntN(3)
	if g.single {
		slot = 0
	}
	if !g.slots[slot].up {
		up := slices.IndexFunc(g.slots[:], func(s slotState) bool { return s.up })
		if up < 0 || g.chance(15) {
			g.again(slot)
			return
		}
		slot = up
	}
	n := g.IntN(1000)
	switch {
	case n < 60:
		g.burst(slot)
	case n < 100:
		g.spoilt(slot)
	case n < 115:
		g.request(slot, Request{Op: zkproto.OpCloseSession})
		g.ended(g.slots[slot].session)
	case n < 135:
		g.again(slot)
	case n < 145:
		g.add(Step{Conn: slot, Do: doDrop})
		g.slots[slot].up = false
	case n < 148:
		g.add(Step{Conn: slot, Do: doExpire})
		g.ended(g.slots[slot].session)
	case n < 163:
		g.visit(slot)
	case n < 170:
		g.add(Step{Conn: slot, Do: doRaw, Raw: pick(g, "\x00\x00\x00\x00", "\x00\x00\x00\x04abcd", "\x00\x00\x00\x07abcdefg", "\xff\xff\xff\xff", "\x80\x00\x00\x00",
			"\x7f\xff\xff\xff", "\x00\x80\x00\x00", "\xff\xff\xff\xfe\x00\x00\x00\x01")})
		g.slots[slot].up = false
	case n < 178:
		g.request(slot, g.unknown())
		g.slots[slot].up = false
	case n < 179 && g.bigs == 0:
		g.big(slot)
	default:
		r := g.one()
		g.request(slot, r)
		g.believe(&r)
		if r.Op == zkproto.OpAuth && (r.ACL != "digest" || !strings.Contains(r.Data, ":p")) || r.Op == zkproto.OpSASL {
			g.slots[slot].up = false
		}
	}
}

type slotState = slot

// one is any request that stands alone and leaves the connection open, or almost any.
func (g *generator) one() Request {
	if g.flavour == 2 && g.chance(20) {
		return g.quota()
	}
	n := g.IntN(1000)
	if g.flavour < 2 && g.chance(30) {
		n = 560 + g.IntN(200)
	}
	switch {
	case n < 230:
		return g.create()
	case n < 300:
		return g.delete()
	case n < 390:
		return g.setData()
	case n < 430:
		return g.setACL()
	case n < 510:
		return g.multi()
	case n < 530:
		return g.multiRead()
	case n < 560:
		return Request{Op: zkproto.OpGetACL, Path: g.path(true)}
	case n < 700:
		return g.read()
	case n < 740:
		return g.addWatch()
	case n < 800:
		// For checkWatches the real server reports a watch on a connection if any
		// connection has one.
		op := zkproto.OpRemoveWatches
		if g.single && g.chance(70) {
			op = zkproto.OpCheckWatches
		}
		path := g.path(false)
		for op == zkproto.OpCheckWatches && !strings.HasPrefix(path, "~") {
			path = g.path(false)
		}
		return Request{Op: op, Path: path, Flags: pick[int32](g, 1, 2, 3, 1, 2, 3, 1, 2, 3, 0, 6, -1, 7)}
	case n < 840:
		return g.setWatches()
	case n < 870:
		return g.auth()
	case n < 876:
		return Request{Op: zkproto.OpSASL, Data: pick(g, "", null, "token", "\x00\x01\x02\x03")}
	case n < 900:
		return Request{Op: zkproto.OpSync, Path: pick(g, g.path(true), "/", "", null, "nowhere")}
	case n < 920:
		return Request{Op: zkproto.OpGetEphemerals, Path: pick(g, "", "/", null, " ", "/ ", "\x00\t/", "\u00a0", "~", "~/a", "~/a/", "~/e", g.node())}
	case n < 940:
		return Request{Op: zkproto.OpGetAllChildrenNumber, Path: pick(g, g.node(), g.node(), "~", "~", "~/", "nowhere", null)}
	case n < 960:
		return Request{Op: zkproto.OpWhoAmI}
	case n < 980:
		return Request{Op: zkproto.OpPing, Xid: pick[int32](g, -2, -2, 0, 77)}
	case n < 983:
		return g.check()
	case n < 985:
		return Request{Op: zkproto.OpDeleteContainer}
	case n < 990:
		return Request{Op: zkproto.OpReconfig, Lists: [][]string{{pick(g, "", null, "server.2=127.0.0.1:1:2"), pick(g, "", null, "1"), pick(g, "", null)}}, Version: pick[int32](g, -1, 0, 5)}
	default:
		return Request{Op: zkproto.OpWhoAmI, Xid: pick[int32](g, -4, -8, math.MaxInt32, math.MinInt32, -100)}
	}
}

// The paths of znodes in requests, and invalid paths.
var (
	nodes   = []string{"~/a", "~/a/b", "~/a/b/c", "~/a/d", "~/e", "~/e/f", "~/g"}
	odd     = []string{"~/ünï", "~/a b", "~/a..b", "~/.x", "~/...", "~/\u4e2d\u6587"}
	systems = []string{"/", "", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"}
	bad     = []string{"a", "~/", "~/a/", "~//a", "~/a//b", "~/./a", "~/.", "~/..", "~/../x", "~/a/..", "~/n\x00l", "~/\x01", "~/t\tb", "~/x\u007f", "~/x\u0080", "~/x\u009f",
		"~/\ue000", "~/\uf8ff", "~/\ufff0", "~/\uffff", "~/\U0001f600", "~/\xff", "~/\xc3", "~/\xed\xa0\x80", "~/\xe2\x82", "~/\xf0\x9f\x98/", "~/\xc0\x80", "~/a\u2028b", "~/\ufeff", "~/\ufffd", "~/\u00a0", null, " ", "//", "\x00"}
)

// node is the path of a znode that may exist.
func (g *generator) node() string {
	if len(g.tree) > 1 && g.chance(60) {
		all := make([]string, 0, len(g.tree))
		for path := range g.tree {
			all = append(all, path)
		}
		slices.Sort(all)
		return pick(g, all...)
	}
	if g.chance(3) {
		return pick(g, odd...)
	}
	return pick(g, nodes...)
}

// path is any path: of a znode, of a system znode if allowed, or an invalid one.
func (g *generator) path(system bool) string {
	switch n := g.IntN(100); {
	case n < 5:
		return pick(g, bad...)
	case n < 8 && system:
		return pick(g, systems...)
	case n < 10:
		return "~"
	}
	return g.node()
}

// data is a value of a znode.
func (g *generator) data() string {
	return pick(g, null, "", "x", "y", "data", "\x00\xff", strings.Repeat("long", 50))
}

// version is the assumed version, or any version, or another one.
func (g *generator) version(have int32) int32 {
	switch n := g.IntN(10); {
	case n < 5:
		return -1
	case n < 8:
		return have
	}
	return pick[int32](g, 0, 1, 2, have+1, 12345, -2, math.MinInt32, math.MaxInt32)
}

func (g *generator) acl() string {
	if g.chance(70) {
		return "open"
	}
	if g.chance(50) {
		return pick(g, "read", "noread", "nocreate", "nodelete", "admin", "auth", "auth+read", "u1", "u1-write", "u2", "u1u2", "u1+admin", "u1+read", "ip", "ip-net")
	}
	names := make([]string, 0, len(acls))
	for name := range acls {
		names = append(names, name)
	}
	slices.Sort(names)
	return pick(g, names...)
}

func (g *generator) create() Request {
	r := Request{Op: pick(g, zkproto.OpCreate, zkproto.OpCreate, zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL), Data: g.data(), ACL: g.acl()}
	switch n := g.IntN(100); {
	case n < 4:
		r.Path = pick(g, bad...)
	case n < 5:
		r.Path = pick(g, systems...)
	case n < 60:
		r.Path = pick(g, nodes...)
	case n < 80: // below an existing znode
		r.Path = g.node() + "/" + pick(g, "x", "y", "z")
	default:
		r.Path = pick(g, nodes[:4]...) + "/" + pick(g, "s-", "")
		r.Flags = 2
	}
	switch r.Op {
	case zkproto.OpCreateContainer:
		r.Flags = pick[int32](g, 4, 4, 4, 4, 4, r.Flags)
	case zkproto.OpCreateTTL:
		r.Flags = pick[int32](g, 5, 5, 6, 6) // only with its own paths: 5 needs a name
		r.TTL = pick[int64](g, 3_600_000, 86_400_000, 1<<40-1)
		if g.chance(15) {
			r.TTL = pick[int64](g, 0, 1<<40, 1<<62)
		}
	default:
		if g.chance(35) {
			r.Flags |= 1
		}
	}
	switch {
	case slices.Contains(systems, r.Path): // no sequential znode beside them
		r.Flags = pick[int32](g, 0, 0, 1, 4, 5)
	case g.chance(4):
		r.Flags = pick[int32](g, 0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 100, -1, math.MinInt32)
	}
	return r
}

func (g *generator) delete() Request {
	r := Request{Op: zkproto.OpDelete, Path: g.path(true), Version: -1}
	if z := g.tree[r.Path]; z != nil {
		r.Version = g.version(z.version)
	}
	return r
}

// known is the guess for a path, or an empty one.
func (g *generator) known(path string) guess {
	if z := g.tree[path]; z != nil {
		return *z
	}
	return guess{}
}

// impossible is a version that no system znode has: all sequences share the system znodes.
const impossible = 12345

func (g *generator) setData() Request {
	r := Request{Op: zkproto.OpSetData, Path: g.path(true), Data: g.data()}
	r.Version = g.version(g.known(r.Path).version)
	if slices.Contains(systems, r.Path) {
		r.Version = impossible
	}
	return r
}

func (g *generator) setACL() Request {
	r := Request{Op: zkproto.OpSetACL, Path: g.path(true), ACL: g.acl()}
	r.Version = g.version(g.known(r.Path).aversion)
	if slices.Contains(systems, r.Path) {
		r.Version = impossible
	}
	return r
}

func (g *generator) read() Request {
	r := Request{Op: pick(g, zkproto.OpExists, zkproto.OpGetData, zkproto.OpGetChildren, zkproto.OpGetChildren2), Path: g.path(true), Watch: g.chance(50)}
	if r.Op == zkproto.OpExists && slices.ContainsFunc(g.hidden, func(path string) bool { return strings.HasPrefix(r.Path, path) }) {
		r.Op = zkproto.OpGetData // exists checks READ only from 3.8.4 on
	}
	return r
}

// addWatch never watches the whole tree, which all sequences share. Its path is
// never null either: the real server accepts that, and then never closes the
// connection.
func (g *generator) addWatch() Request {
	r := Request{Op: zkproto.OpAddWatch, Path: g.path(false), Flags: pick[int32](g, 0, 1)}
	if r.Path == null {
		r.Path = "nowhere"
	}
	if g.chance(5) {
		r.Flags = pick[int32](g, 2, -1, 100)
	}
	return r
}

func (g *generator) setWatches() Request {
	r := Request{Op: pick(g, zkproto.OpSetWatches, zkproto.OpSetWatches2), Version: pick[int32](g, 0, 0, 1, 2, 5, 100, -1, negative)}
	n := 3
	if r.Op == zkproto.OpSetWatches2 {
		n = 5
	}
	for i := range n {
		var list []string
		for range pick(g, 0, 1, 1, 2, 3) {
			list = append(list, g.node())
		}
		if g.chance(2) && i < 3 {
			list = []string{pick(g, null, "", "nowhere", "~/n\x00l", "~/\U0001f600", "~/\xff", "~/\xed\xa0\x80")}
		}
		if g.chance(1) && i < 3 { // in later lists, the real server accepts it, and then never closes the connection
			list = append(list, null, "~")
		}
		r.Lists = append(r.Lists, list)
	}
	return r
}

// limits are soft and hard limits of few bytes and few znodes.
var limits = []string{
	"count=3,bytes=10", "count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=-1", "count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=4",
	"count=1,bytes=1=;byteHardLimit=300;countHardLimit=3", "count=-1,bytes=-1;byteHardLimit=0;countHardLimit=0",
}

// quota is a request about the limits of a znode, or about its usage.
func (g *generator) quota() Request {
	path := quotaTop + pick(g, "~", "~/a", "~/a") + pick(g, "/zookeeper_limits", "/zookeeper_limits", "/zookeeper_stats")
	limits := pick(g, limits...)
	switch n := g.IntN(10); {
	case n < 5:
		return Request{Op: zkproto.OpCreate, Path: path, Data: limits, ACL: "open"}
	case n < 6:
		return Request{Op: zkproto.OpSetData, Path: path, Data: limits, Version: -1}
	case n < 7:
		return Request{Op: zkproto.OpDelete, Path: path, Version: -1}
	}
	return Request{Op: zkproto.OpGetData, Path: path}
}

func (g *generator) auth() Request {
	r := Request{Op: zkproto.OpAuth, Xid: pick[int32](g, -4, -4, 0), ACL: "digest", Data: pick(g, g.users...)}
	switch n := g.IntN(100); {
	case n < 2:
		r.Data = "super:admin"
	case n < 4:
		r.Data = pick(g, "\xff\xfe:p", "\xed\xa0\x80:p", "\U0001f600:p", "\xe2\x82:p", "\xf0\x9f\x98", "a:\xf5", "ü:ü")
	case n < 16:
		r.ACL = pick(g, "digest", "digest", "ip", "world", "auth", "super", "x509", "sasl", "nosuch", "", null, "Digest")
		r.Data = pick(g, null, "", "nocolon", ":", "u1:", ":p", "a:b:c", "127.0.0.1", "\xff\xfe:p", "u1:p1")
	}
	return r
}

// check stands alone and must fail: the real server never replies if it succeeds.
func (g *generator) check() Request {
	return Request{Op: zkproto.OpCheck, Path: pick(g, "~/nosuch", "nowhere", "~/a", "~/e", "~/a/", null, "/"), Version: impossible}
}

// unknown is a number that is no operation, or no operation for clients. -10 is
// left out: the real server would create a session.
func (g *generator) unknown() Request {
	return Request{Op: zkproto.Op(pick[int32](g, 0, 10, 23, 24, 99, 108, 1000, -1, -2, -12, math.MaxInt32, math.MinInt32))}
}

// part is an operation in a multi.
func (g *generator) part() Request {
	if g.flavour == 2 && g.chance(25) {
		if r := g.quota(); r.Op != zkproto.OpGetData {
			return r
		}
	}
	switch n := g.IntN(100); {
	case n < 45:
		r := g.create()
		if slices.Contains(systems, r.Path) {
			r.Path = "~/g"
		}
		return r
	case n < 60:
		return g.delete()
	case n < 78:
		return g.setData()
	case n < 92:
		r := Request{Op: zkproto.OpCheck, Path: g.path(true)}
		r.Version = g.version(g.known(r.Path).version)
		return r
	default:
		return pick(g, Request{Op: zkproto.OpSetACL, Path: "~/a", ACL: "open", Version: -1}, Request{Op: zkproto.OpExists, Path: "~/a"}, Request{Op: zkproto.OpSync, Path: "~"},
			Request{Op: zkproto.OpGetData, Path: "~"}, Request{Op: 99}, Request{Op: zkproto.OpError})
	}
}

func (g *generator) multi() Request {
	r := Request{Op: zkproto.OpMulti}
	if g.chance(0.3) { // coord's limit
		for range pick(g, 1000, 999) {
			r.Ops = append(r.Ops, Request{Op: zkproto.OpSetData, Path: "~/a", Data: "m", Version: -1})
		}
		return r
	}
	for range pick(g, 0, 1, 1, 2, 2, 3, 4, 6) {
		p := g.part()
		if g.chance(70) { // most parts must be able to succeed, or no multi would
			p = g.sensible()
		}
		r.Ops = append(r.Ops, p)
	}
	return r
}

// sensible is a part that can succeed.
func (g *generator) sensible() Request {
	path := g.node()
	switch g.IntN(6) {
	case 0:
		return Request{Op: zkproto.OpSetData, Path: path, Data: g.data(), Version: -1}
	case 1:
		return Request{Op: zkproto.OpCheck, Path: path, Version: -1}
	case 2:
		return Request{Op: zkproto.OpDelete, Path: path, Version: -1}
	case 3:
		return Request{Op: pick(g, zkproto.OpCreate, zkproto.OpCreate2), Path: "~/s-", Data: g.data(), ACL: "open", Flags: pick[int32](g, 2, 3)}
	default:
		r := Request{Op: pick(g, zkproto.OpCreate, zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL), Path: pick(g, nodes...), Data: g.data(), ACL: "open"}
		switch r.Op {
		case zkproto.OpCreateContainer:
			r.Flags = 4
		case zkproto.OpCreateTTL:
			r.Flags, r.TTL = 5, 3_600_000
		default:
			r.Flags = pick[int32](g, 0, 0, 1)
		}
		return r
	}
}

func (g *generator) multiRead() Request {
	r := Request{Op: zkproto.OpMultiRead}
	for range pick(g, 0, 1, 2, 3, 5) {
		r.Ops = append(r.Ops, Request{Op: pick(g, zkproto.OpGetData, zkproto.OpGetChildren), Path: g.path(true), Watch: g.chance(30)})
	}
	if g.chance(10) {
		r.Ops = append(r.Ops, pick(g, Request{Op: zkproto.OpExists, Path: "~"}, Request{Op: zkproto.OpSetData, Path: "~/a", Version: -1}, Request{Op: zkproto.OpGetChildren2, Path: "~"}))
	}
	return r
}

// burst is several requests in one write. It avoids requests that the real server
// answers out of turn or after which it closes the connection. It also avoids
// requests that the real server judges by another state than the one after the
// previous request: a write after a setACL, which takes effect for other requests
// only when it is applied; all writes under a quota; and all requests after one
// that confuses the server.
func (g *generator) burst(slot int) {
	var list []Request
	for range 2 + g.IntN(7) {
		r := g.one()
		for r.closes() || g.flavour == 2 && writes(r.Op) || r.confuses() {
			r = g.one()
		}
		list = append(list, r)
		g.believe(&r)
		if r.Op == zkproto.OpSetACL {
			break
		}
	}
	g.request(slot, list...)
}

// confuses says whether the real server continues for a while with a wrong state
// after the request: with half of it done, or without the znode's final owner.
func (r *Request) confuses() bool {
	for i := range r.Ops {
		if p := &r.Ops[i]; r.Op == zkproto.OpMulti && (strings.Contains(p.ACL, "null") || p.Flags > 4 && p.Op != zkproto.OpCreateTTL) {
			return true
		}
	}
	return r.Op == zkproto.OpCreateContainer && r.Flags&1 != 0
}

// spoilt is a request with an error in its bytes.
func (g *generator) spoilt(slot int) {
	r := g.one()
	for r.Op == zkproto.OpPing || r.Op == zkproto.OpWhoAmI {
		r = g.one()
	}
	if r.Op == zkproto.OpCreateTTL && r.TTL > math.MaxInt32 {
		r.TTL = 3_600_000
	}
	r.Spoil = spoil{how: pick(g, "cut", "cut", "more", "count", "count", "bool"), where: g.IntN(200), value: pick[int32](g, -1, -2, math.MinInt32, 0, 3, 1<<20, 1<<30, math.MaxInt32)}
	switch {
	case r.Spoil.how == "more":
		r.Spoil.where %= 20
	case r.Spoil.how == "bool":
		r.Spoil.value = pick[int32](g, 2, 255, 128)
	case r.Op == zkproto.OpMulti && len(r.Ops) > 100:
		r.Spoil = spoil{}
	case r.Spoil.how == "count" && (r.Op == zkproto.OpAddWatch || r.Op == zkproto.OpSetWatches2 || r.Op == zkproto.OpGetAllChildrenNumber ||
		strings.HasPrefix(r.Path, "/")): // a truncated path might be one that all sequences share
		r.Spoil.how, r.Spoil.value = "cut", 0
	}
	g.hide(&r)
	g.request(slot, r)
	if r.Op == zkproto.OpAuth || r.Op == zkproto.OpSASL || r.Op == zkproto.OpCheck || r.Op == zkproto.OpReconfig {
		g.slots[slot].up = false
	}
}

// visit is an extra connect.
func (g *generator) visit(slot int) {
	c := Connect{Session: newSession, Password: "right", TimeoutMS: pick[int32](g, 0, 1, -1, math.MinInt32, 2999, 3000, 3001, 40000, 40001, math.MaxInt32),
		ReadOnly: pick(g, -1, 0, 1), LastZxid: pick(g, "none", "none", "none", "seen", "ahead", "negative")}
	switch n := g.IntN(10); {
	case n < 3:
		c.Session, c.Password = unknownSession, pick(g, "right", "empty", "null")
	case n < 4 && len(g.dead) > 0:
		c.Session = pick(g, g.dead...)
	case n < 6:
		c.Spoil = spoil{how: pick(g, "cut", "more", "count"), where: g.IntN(60), value: pick[int32](g, -1, -2, 0, 15, 17, 100, 1<<30)}
	case n < 8 && len(g.live) > 0: // the session's connection is closed all the same
		c.Session, c.Password, c.TimeoutMS = pick(g, g.live...), pick(g, "wrong", "wrong", "short", "long", "empty", "null"), normalTimeoutMS
		g.add(Step{Conn: slot, Do: doConnect, Connect: c})
		for i := range g.slots {
			if g.slots[i].session == c.Session || i == slot {
				g.slots[i].up = false
			}
		}
		return
	}
	g.add(Step{Conn: slot, Do: doVisit, Connect: c})
}

// big is a znode of the largest size that a frame can hold, or larger.
func (g *generator) big(slot int) {
	g.bigs++
	// A create of ~/big: 8 bytes of header, 4+len(path), 4 of data, acl 4+4+9+10, 4 of flags.
	const most = 0xfffff - 8 - (4 + 1 + 1 + 7 + 4) - 4 - 31
	size := pick(g, most-1000, most-20, 2<<20)
	g.request(slot, Request{Op: zkproto.OpCreate, Path: "~/big", Data: bigData(size), ACL: "open"})
	if size > most {
		g.slots[slot].up = false
		return
	}
	g.request(slot, Request{Op: zkproto.OpGetData, Path: "~/big"})
	g.request(slot, Request{Op: zkproto.OpDelete, Path: "~/big", Version: -1})
}

// hide notes paths that not all users may read from here on.
func (g *generator) hide(r *Request) {
	if entries := acls[r.ACL]; len(entries) > 0 && r.Op != zkproto.OpAuth && (entries[0].perms&1 == 0 || entries[0].scheme != "world") {
		g.hidden = append(g.hidden, r.Path)
	}
	for i := range r.Ops {
		g.hide(&r.Ops[i])
	}
}

// believe notes the assumed effect of a request.
func (g *generator) believe(r *Request) {
	g.hide(r)
	switch r.Op {
	case zkproto.OpMulti:
		for i := range r.Ops {
			g.believe(&r.Ops[i])
		}
	case zkproto.OpCreate, zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL:
		i := strings.LastIndexByte(r.Path, '/')
		if i < 0 || r.Path == null || !strings.HasPrefix(r.Path, "~/") || r.Flags < 0 || r.Flags > 6 || slices.Contains(bad, r.Path) {
			return
		}
		parent := g.tree[r.Path[:i]]
		if parent == nil || parent.ephemeral {
			return
		}
		path := r.Path
		switch r.Flags {
		case 2, 3, 6:
			path = fmt.Sprintf("%s%010d", path, parent.created)
		}
		if g.tree[path] != nil || strings.HasSuffix(path, "/") {
			return
		}
		parent.created++
		g.tree[path] = &guess{ephemeral: r.Flags == 1 || r.Flags == 3}
	case zkproto.OpDelete:
		for path := range g.tree {
			if strings.HasPrefix(path, r.Path+"/") {
				return
			}
		}
		if r.Path != "~" {
			delete(g.tree, r.Path)
		}
	case zkproto.OpSetData:
		if z := g.tree[r.Path]; z != nil && (r.Version == -1 || r.Version == z.version) {
			z.version++
		}
	case zkproto.OpSetACL:
		if z := g.tree[r.Path]; z != nil && (r.Version == -1 || r.Version == z.aversion) {
			z.aversion++
		}
	}
}
