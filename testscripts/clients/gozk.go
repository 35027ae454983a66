// Package clients has the programs that test coord with ZooKeeper's own clients.
// Each gets the server's address, prints a line for each thing that it has tested,
// and ends with 0 if everything was right. All of them pass against ZooKeeper 3.8;
// ../clients_test.go runs them.
package clients

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	// patience is the longest wait for something that must happen.
	patience = time.Minute
	// sessionTimeout is longer than a restart of the server takes on a busy machine.
	sessionTimeout = 30 * time.Second
)

// GoZK tests github.com/go-zookeeper/zk: each call of its API, and its lock.
func GoZK(addr string, in io.Reader, out io.Writer) (code int) {
	g := &goZK{addr: addr, in: bufio.NewScanner(in), out: out}
	for _, part := range []struct {
		name string
		run  func()
	}{
		{"connect: session and states", g.connect},
		{"create: persistent, ephemeral, sequential", g.create},
		{"create: container, TTL, protected", g.createOther},
		{"exists, get, set: values, stats, versions", g.data},
		{"children: names and stat", g.children},
		{"delete: version, children", g.delete},
		{"errors of paths and parents", g.errors},
		{"a value of 1,000,000 bytes; one over the limit", g.large},
		{"watches: exists, get, children", g.watches},
		{"ACLs: digest, world, ip; auth", g.acl},
		{"sync", g.sync},
		{"multi: done", g.multi},
		{"multi: refused whole", g.multiRefused},
		{"reconfig: refused", g.reconfig},
		{"lock: one at a time, in order", g.lock},
		{"four-letter words: ruok, cons", g.words},
		{"restart: session, ephemeral, watches", g.restart},
		{"close: the ephemerals go", g.close},
	} {
		if err := protect(part.run); err != nil {
			code = 1
			_, _ = fmt.Fprintf(out, "FAIL %s: %v\n", part.name, err)
			if g.c == nil {
				return code
			}
			continue
		}
		_, _ = fmt.Fprintf(out, "ok %s\n", part.name)
	}
	return code
}

type goZK struct {
	addr   string
	in     *bufio.Scanner
	out    io.Writer
	c      *zk.Conn
	events <-chan zk.Event
	open   []*zk.Conn
}

var everyone = zk.WorldACL(zk.PermAll)

// failure is the panic value of a part that has found something wrong.
type failure struct{ error }

func protect(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

func fail(format string, args ...any) {
	where := ""
	for depth := 2; ; depth++ { // find the line in the part
		pc, _, line, ok := runtime.Caller(depth)
		if !ok {
			break
		}
		if name := runtime.FuncForPC(pc).Name(); strings.Contains(name, "(*goZK)") {
			where = fmt.Sprintf("line %d: ", line)
			break
		}
	}
	panic(failure{errors.New(where + fmt.Sprintf(format, args...))})
}

func same(what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		fail("%s is %v, want %v", what, got, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		fail("%v", err)
	}
	return v
}

func refused(what string, err, want error) {
	if !errors.Is(err, want) {
		fail("%s: %v, want %v", what, err, want)
	}
}

func within(what string, so func() bool) {
	for deadline := time.Now().Add(patience); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			fail("%s: not in %v", what, patience)
		}
	}
}

func event(what string, ch <-chan zk.Event, kind zk.EventType, path string) {
	select {
	case e := <-ch:
		if e.Type != kind || e.Path != path || e.State != zk.StateSyncConnected && e.Type != zk.EventSession || e.Err != nil {
			fail("%s: the event %+v, want %v of %s", what, e, kind, path)
		}
	case <-time.After(patience):
		fail("%s: no event in %v", what, patience)
	}
}

func silent(what string, ch <-chan zk.Event) {
	select {
	case e := <-ch:
		fail("%s: the event %+v, want none", what, e)
	default:
	}
}

type noLog struct{}

func (noLog) Printf(string, ...any) {}

func (g *goZK) dial() (*zk.Conn, <-chan zk.Event) {
	c, events, err := zk.Connect([]string{g.addr}, sessionTimeout, zk.WithLogger(noLog{}))
	if err != nil {
		fail("%v", err)
	}
	g.open = append(g.open, c)
	return c, events
}

func (g *goZK) connect() {
	c, events := g.dial()
	for _, want := range []zk.State{zk.StateConnecting, zk.StateConnected, zk.StateHasSession} {
		select {
		case e := <-events:
			same("the state", e.State, want)
			same("the server", e.Server, g.addr)
		case <-time.After(patience):
			fail("no state %v", want)
		}
	}
	if c.SessionID() == 0 {
		fail("the session has the id 0")
	}
	other, _ := g.dial()
	_, _, err := other.Exists("/")
	same("error", err, nil)
	if other.SessionID() == c.SessionID() || other.SessionID() == 0 {
		fail("two sessions %#x, %#x", other.SessionID(), c.SessionID())
	}
	same("the state", c.State(), zk.StateHasSession)
	same("the server", c.Server(), g.addr)
	g.c, g.events = c, events
}

// mkdir creates the part's own znode.
func (g *goZK) mkdir(path string) {
	same("the path", must(g.c.Create(path, nil, 0, everyone)), path)
}

func (g *goZK) stat(path string) *zk.Stat {
	ok, stat, err := g.c.Exists(path)
	if err != nil || !ok {
		fail("exists %s: %v, %v", path, ok, err)
	}
	return stat
}

func (g *goZK) create() {
	g.mkdir("/create")
	before := g.stat("/create")
	same("the path", must(g.c.Create("/create/p", []byte("value"), zk.FlagPersistent, everyone)), "/create/p")
	s := g.stat("/create/p")
	same("stat", *s, zk.Stat{Czxid: s.Czxid, Mzxid: s.Czxid, Pzxid: s.Czxid, Ctime: s.Ctime, Mtime: s.Ctime, DataLength: 5})
	if age := time.Since(time.UnixMilli(s.Ctime)); age < -time.Minute || age > time.Minute || s.Czxid <= before.Czxid {
		fail("created %v ago by zxid %#x behind %#x", age, s.Czxid, before.Czxid)
	}
	parent := g.stat("/create")
	same("the parent's cversion, pzxid, children", []int64{int64(parent.Cversion), parent.Pzxid, int64(parent.NumChildren)}, []int64{1, s.Czxid, 1})

	same("the path", must(g.c.Create("/create/e", nil, zk.FlagEphemeral, everyone)), "/create/e")
	same("the owner", g.stat("/create/e").EphemeralOwner, g.c.SessionID())
	same("the path", must(g.c.Create("/create/s-", nil, zk.FlagSequence, everyone)), "/create/s-0000000002")
	same("the path", must(g.c.Create("/create/t-", nil, zk.FlagEphemeral|zk.FlagSequence, everyone)), "/create/t-0000000003")
	same("the owner", g.stat("/create/t-0000000003").EphemeralOwner, g.c.SessionID())
	same("the owner", g.stat("/create/s-0000000002").EphemeralOwner, int64(0))
	same("the path", must(g.c.Create("/create/", nil, zk.FlagSequence, everyone)), "/create/0000000004")
}

func (g *goZK) createOther() {
	g.mkdir("/other")
	same("the path", must(g.c.CreateContainer("/other/c", []byte("c"), zk.FlagContainer, everyone)), "/other/c")
	same("the owner", g.stat("/other/c").EphemeralOwner, int64(0))
	same("the path", must(g.c.CreateTTL("/other/t", []byte("t"), zk.FlagTTL, everyone, time.Hour)), "/other/t")
	same("the owner", g.stat("/other/t").EphemeralOwner, int64(0))
	same("the path", must(g.c.CreateTTL("/other/u-", nil, zk.FlagPersistentSequentialWithTTL, everyone, time.Hour)), "/other/u-0000000002")
	_, err := g.c.CreateTTL("/other/v", nil, zk.FlagTTL, everyone, 0)
	refused("a TTL of 0", err, zk.ErrBadArguments)
	path := must(g.c.CreateProtectedEphemeralSequential("/other/p-", []byte("p"), everyone))
	if !strings.HasPrefix(path, "/other/_c_") || !strings.HasSuffix(path, "-p-0000000003") {
		fail("a protected znode %s", path)
	}
}

func (g *goZK) data() {
	g.mkdir("/data")
	ok, _, err := g.c.Exists("/data/nothing")
	same("exists", []any{ok, err}, []any{false, nil})
	_, _, err = g.c.Get("/data/nothing")
	refused("get", err, zk.ErrNoNode)
	_, err = g.c.Set("/data/nothing", nil, -1)
	refused("set", err, zk.ErrNoNode)

	value, s0, err := g.c.Get("/data")
	same("the empty value", []any{len(value), err}, []any{0, nil})
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	s1 := must(g.c.Set("/data", all, 0))
	same("stat", []int64{int64(s1.Version), s1.Czxid, int64(s1.DataLength), s1.Ctime, s1.Pzxid, int64(s1.Cversion)}, []int64{1, s0.Czxid, 256, s0.Ctime, s0.Czxid, 0})
	if s1.Mzxid <= s0.Mzxid || s1.Mtime < s0.Mtime {
		fail("set: mzxid %#x behind %#x, mtime %d behind %d", s1.Mzxid, s0.Mzxid, s1.Mtime, s0.Mtime)
	}
	value, got, err := g.c.Get("/data")
	same("error", err, nil)
	same("stat", *got, *s1)
	if !bytes.Equal(value, all) {
		fail("the value is %q", value)
	}
	_, err = g.c.Set("/data", nil, 0)
	refused("an old version", err, zk.ErrBadVersion)
	same("the version", must(g.c.Set("/data", []byte("x"), -1)).Version, int32(2))
	same("stat of exists", *g.stat("/data"), *must2(g.c.Get("/data")))
}

func must2[T, U any](_ T, v U, err error) U { return must(v, err) }

func (g *goZK) children() {
	g.mkdir("/children")
	names, s, err := g.c.Children("/children")
	same("no children", []any{len(names), s.NumChildren, err}, []any{0, int32(0), nil})
	for _, name := range []string{"b", "a", "ü c"} {
		g.mkdir("/children/" + name)
	}
	g.mkdir("/children/a/deeper")
	same("error", g.c.Delete("/children/b", 0), nil)
	names, s, err = g.c.Children("/children")
	slices.Sort(names)
	same("the names", []any{names, err}, []any{[]string{"a", "ü c"}, error(nil)})
	same("children, cversion, version", []int32{s.NumChildren, s.Cversion, s.Version}, []int32{2, 4, 0})
	if s.Pzxid <= g.stat("/children/ü c").Czxid {
		fail("pzxid %#x, want that of the delete", s.Pzxid)
	}
	_, _, err = g.c.Children("/children/nothing")
	refused("children", err, zk.ErrNoNode)
	names, _, err = g.c.Children("/zookeeper")
	slices.Sort(names)
	same("the children of /zookeeper", []any{names, err}, []any{[]string{"config", "quota"}, error(nil)})
}

func (g *goZK) delete() {
	g.mkdir("/delete")
	g.mkdir("/delete/a")
	refused("with children", g.c.Delete("/delete", -1), zk.ErrNotEmpty)
	refused("another version", g.c.Delete("/delete/a", 7), zk.ErrBadVersion)
	refused("nothing", g.c.Delete("/delete/b", -1), zk.ErrNoNode)
	refused("/zookeeper", g.c.Delete("/zookeeper", -1), zk.ErrBadArguments)
	same("error", g.c.Delete("/delete/a", 0), nil)
	same("error", g.c.Delete("/delete", -1), nil)
	ok, _, err := g.c.Exists("/delete")
	same("exists", []any{ok, err}, []any{false, nil})
}

func (g *goZK) errors() {
	g.mkdir("/errors")
	must(g.c.Create("/errors/e", nil, zk.FlagEphemeral, everyone))
	for _, c := range []struct {
		path string
		acl  []zk.ACL
		want error
	}{
		{"/errors", everyone, zk.ErrNodeExists},
		{"/errors/no/parent", everyone, zk.ErrNoNode},
		{"/errors/e/child", everyone, zk.ErrNoChildrenForEphemerals},
		{"/errors/acl", nil, zk.ErrInvalidACL},
		{"/errors/acl", []zk.ACL{{Perms: zk.PermAll, Scheme: "nonsense", ID: "x"}}, zk.ErrInvalidACL},
		{"/errors/acl", zk.AuthACL(zk.PermAll), zk.ErrInvalidACL}, // the client has not authenticated
		{"/", everyone, zk.ErrNodeExists},
	} {
		_, err := g.c.Create(c.path, nil, 0, c.acl)
		refused("create "+c.path, err, c.want)
	}
}

func (g *goZK) large() {
	value := bytes.Repeat([]byte("0123456789"), 100_000)
	same("the path", must(g.c.Create("/large", value, 0, everyone)), "/large")
	got, s, err := g.c.Get("/large")
	if err != nil || !bytes.Equal(got, value) || s.DataLength != int32(len(value)) {
		fail("%d bytes come back as %d: %v", len(value), len(got), err)
	}
	over, _ := g.dial()
	must2(over.Exists("/"))
	id := over.SessionID()
	_, err = over.Set("/large", make([]byte, 1_300_000), -1)
	refused("1.3 MB", err, zk.ErrConnectionClosed)
	// With only one server in its list, the client fails requests that come before it is
	// connected again.
	within("connected again", func() bool { return over.State() == zk.StateHasSession })
	same("the version", must2(over.Get("/large")).Version, int32(0)) // connected again
	same("the session", over.SessionID(), id)
}

func (g *goZK) watches() {
	g.mkdir("/watches")
	ok, _, created, err := g.c.ExistsW("/watches/a")
	same("exists", []any{ok, err}, []any{false, nil})
	_, _, child, err := g.c.ChildrenW("/watches")
	same("error", err, nil)
	_, _, _, err = g.c.GetW("/watches/nothing")
	refused("get", err, zk.ErrNoNode)
	g.mkdir("/watches/a")
	event("exists", created, zk.EventNodeCreated, "/watches/a")
	event("children", child, zk.EventNodeChildrenChanged, "/watches")

	_, _, changed, err := g.c.GetW("/watches/a")
	same("error", err, nil)
	_, _, changed2, err := g.c.ExistsW("/watches/a")
	same("error", err, nil)
	must(g.c.Set("/watches/a", []byte("1"), -1))
	event("get", changed, zk.EventNodeDataChanged, "/watches/a")
	event("exists", changed2, zk.EventNodeDataChanged, "/watches/a")
	must(g.c.Set("/watches/a", []byte("2"), -1)) // a watch triggers only once

	_, _, gone, err := g.c.GetW("/watches/a")
	same("error", err, nil)
	_, _, childGone, err := g.c.ChildrenW("/watches/a")
	same("error", err, nil)
	_, _, child, err = g.c.ChildrenW("/watches")
	same("error", err, nil)
	// Changes by another client trigger watches too; setting an ACL does not.
	other, _ := g.dial()
	must(other.SetACL("/watches/a", everyone, -1))
	must(g.c.Sync("/watches"))
	must2(g.c.Get("/watches/a"))
	silent("a new ACL", gone)
	same("error", other.Delete("/watches/a", -1), nil)
	event("get", gone, zk.EventNodeDeleted, "/watches/a")
	event("children of what goes", childGone, zk.EventNodeDeleted, "/watches/a")
	event("children", child, zk.EventNodeChildrenChanged, "/watches")
	for _, ch := range []<-chan zk.Event{created, changed, changed2, gone, childGone, child} {
		if e, open := <-ch; open {
			fail("a second event %+v", e)
		}
	}
}

func (g *goZK) acl() {
	g.mkdir("/acl")
	acl, s, err := g.c.GetACL("/acl")
	same("the ACL", []any{acl, s.Aversion, err}, []any{everyone, int32(0), error(nil)})
	alice := zk.DigestACL(zk.PermAll, "alice", "secret")
	mixed := append(slices.Clone(alice), zk.ACL{Perms: zk.PermRead, Scheme: "world", ID: "anyone"}, zk.ACL{Perms: zk.PermCreate, Scheme: "ip", ID: "127.0.0.0/8"})
	_, err = g.c.SetACL("/acl", mixed, 5)
	refused("another version", err, zk.ErrBadVersion)
	before := g.stat("/acl")
	s = must(g.c.SetACL("/acl", mixed, 0))
	same("aversion, version, mzxid", []int64{int64(s.Aversion), int64(s.Version), s.Mzxid}, []int64{1, 0, before.Mzxid})

	_, err = g.c.Set("/acl", nil, -1)
	refused("set", err, zk.ErrNoAuth)
	_, err = g.c.SetACL("/acl", everyone, -1)
	refused("set the ACL", err, zk.ErrNoAuth)
	must2(g.c.Get("/acl"))
	g.mkdir("/acl/by-ip")
	refused("delete", g.c.Delete("/acl/by-ip", -1), zk.ErrNoAuth)
	hidden := slices.Clone(mixed)
	hidden[0].ID = "alice:x"
	acl, _, err = g.c.GetACL("/acl")
	same("the ACL without its digest", []any{acl, err}, []any{hidden, error(nil)})

	a, _ := g.dial()
	same("error", a.AddAuth("digest", []byte("alice:secret")), nil)
	acl, _, err = a.GetACL("/acl")
	same("the ACL", []any{acl, err}, []any{mixed, error(nil)})
	same("the version", must(a.Set("/acl", []byte("a"), 0)).Version, int32(1))
	must(a.Create("/acl/mine", nil, 0, zk.AuthACL(zk.PermAll)))
	acl, _, err = a.GetACL("/acl/mine")
	same("the ACL made of auth", []any{acl, err}, []any{alice, error(nil)})
	_, _, err = g.c.Get("/acl/mine")
	refused("get", err, zk.ErrNoAuth)
	_, _, err = g.c.Children("/acl/mine")
	refused("children", err, zk.ErrNoAuth)
	_, _, err = g.c.GetACL("/acl/mine")
	refused("get the ACL", err, zk.ErrNoAuth)
	same("error", a.Delete("/acl/mine", 0), nil)

	bad, states := g.dial()
	must2(bad.Exists("/"))
	refused("a scheme that there is not", bad.AddAuth("nonsense", []byte("x")), zk.ErrAuthFailed)
	deadline := time.After(patience)
	for closed := false; !closed; {
		select {
		case e := <-states:
			closed = e.State == zk.StateDisconnected
		case <-deadline:
			fail("connected still")
		}
	}
	bad.Close()
}

func (g *goZK) sync() {
	same("the path", must(g.c.Sync("/create")), "/create")
	same("the path", must(g.c.Sync("/nothing")), "/nothing")
	other, _ := g.dial()
	for i := range 20 {
		must(g.c.Set("/create", fmt.Append(nil, i), -1))
		must(other.Sync("/create"))
		value, _, err := other.Get("/create")
		same("the value", []any{string(value), err}, []any{fmt.Sprint(i), error(nil)})
	}
}

func (g *goZK) multi() {
	g.mkdir("/multi")
	g.mkdir("/multi/old")
	got, err := g.c.Multi(
		&zk.CheckVersionRequest{Path: "/multi", Version: 0},
		&zk.CreateRequest{Path: "/multi/a", Data: []byte("a"), Acl: everyone},
		&zk.CreateRequest{Path: "/multi/a/s-", Acl: everyone, Flags: zk.FlagSequence},
		&zk.CreateRequest{Path: "/multi/a/s-", Acl: everyone, Flags: zk.FlagEphemeral | zk.FlagSequence},
		&zk.SetDataRequest{Path: "/multi/a", Data: []byte("abc"), Version: 0},
		&zk.DeleteRequest{Path: "/multi/old", Version: 0},
	)
	same("error", err, nil)
	same("results", len(got), 6)
	for i, want := range []string{"", "/multi/a", "/multi/a/s-0000000000", "/multi/a/s-0000000001", "", ""} {
		same(fmt.Sprintf("result %d", i), []any{got[i].String, got[i].Error, got[i].Stat != nil}, []any{want, error(nil), i == 4})
	}
	s := g.stat("/multi/a")
	same("stat of set", []int32{got[4].Stat.Version, got[4].Stat.DataLength, got[4].Stat.NumChildren}, []int32{1, 3, 2})
	same("one zxid for all", []int64{s.Mzxid, s.Pzxid, g.stat("/multi").Pzxid}, []int64{s.Czxid, s.Czxid, s.Czxid})
	ok, _, err := g.c.Exists("/multi/old")
	same("exists", []any{ok, err}, []any{false, nil})
	got, err = g.c.Multi()
	same("an empty one", []any{len(got), err}, []any{0, nil})
}

func (g *goZK) multiRefused() {
	g.mkdir("/refused")
	before := g.stat("/refused")
	got, err := g.c.Multi(
		&zk.CreateRequest{Path: "/refused/a", Acl: everyone},
		&zk.CheckVersionRequest{Path: "/refused", Version: 3},
		&zk.CreateRequest{Path: "/refused/b", Acl: everyone},
	)
	refused("multi", err, zk.ErrBadVersion)
	same("results", len(got), 3)
	same("before", got[0].Error, nil)
	refused("the wrong one", got[1].Error, zk.ErrBadVersion)
	same("behind", fmt.Sprint(got[2].Error), "unknown error: -2")
	same("stat", *g.stat("/refused"), *before)
	_, err = g.c.Multi(&zk.DeleteRequest{Path: "/refused/nothing", Version: -1})
	refused("multi", err, zk.ErrNoNode)
	_, err = g.c.Multi(&zk.CreateRequest{Path: "/refused", Acl: everyone})
	refused("multi", err, zk.ErrNodeExists)
	_, err = g.c.Multi(&zk.SetDataRequest{Path: "/refused", Version: 9})
	refused("multi", err, zk.ErrBadVersion)
}

func (g *goZK) reconfig() {
	_, err := g.c.IncrementalReconfig([]string{"server.9=127.0.0.1:1:2;3"}, nil, -1)
	if err == nil || errors.Is(err, zk.ErrConnectionClosed) {
		fail("an incremental one: %v", err)
	}
	_, err = g.c.Reconfig([]string{"server.9=127.0.0.1:1:2;3"}, -1)
	if err == nil || errors.Is(err, zk.ErrConnectionClosed) {
		fail("a whole one: %v", err)
	}
	value, s, err := g.c.Get("/zookeeper/config")
	same("the error", err, nil)
	if of := string(value); of != "" && !strings.HasPrefix(of, "server.") { // in an ensemble it lists the servers
		fail("the value is %q", of)
	} else if of == "" {
		same("the version", s.Version, int32(0))
	}
}

func (g *goZK) lock() {
	a := zk.NewLock(g.c, "/locks/deep/l", everyone)
	refused("unlock", a.Unlock(), zk.ErrNotLocked)
	same("error", a.LockWithData([]byte("mine")), nil)
	refused("again", a.Lock(), zk.ErrDeadlock)
	names, _, err := g.c.Children("/locks/deep/l")
	same("children", []any{len(names), err}, []any{1, nil})
	value, s, err := g.c.Get("/locks/deep/l/" + names[0])
	same("what it holds", []any{string(value), s.EphemeralOwner, err}, []any{"mine", g.c.SessionID(), error(nil)})

	const rivals = 5
	order, errs := make(chan int, rivals), make(chan error, rivals)
	var locks []*zk.Lock
	for i := range rivals {
		c, _ := g.dial()
		l := zk.NewLock(c, "/locks/deep/l", everyone)
		locks = append(locks, l)
		go func() {
			errs <- l.Lock()
			order <- i
		}()
		within("one more waits", func() bool { return int(g.stat("/locks/deep/l").NumChildren) == i+2 })
	}
	if len(order) > 0 {
		fail("two have the lock")
	}
	same("error", a.Unlock(), nil)
	for i := range rivals {
		select {
		case err := <-errs:
			same("error", err, nil)
			same("the next", <-order, i)
		case <-time.After(patience):
			fail("nobody has the lock")
		}
		if len(errs) > 0 {
			fail("two have the lock")
		}
		same("error", locks[i].Unlock(), nil)
	}
	same("children", g.stat("/locks/deep/l").NumChildren, int32(0))
}

func (g *goZK) words() {
	same("ruok", zk.FLWRuok([]string{g.addr}, patience), []bool{true})
	// The client takes a connection without a session, its own, for an error.
	cons, _ := zk.FLWCons([]string{g.addr}, patience)
	if len(cons) != 1 {
		fail("%d servers", len(cons))
	}
	for _, c := range cons[0].Clients {
		if c.SessionID == g.c.SessionID() && c.Timeout == int32(sessionTimeout.Milliseconds()) && c.LastOperation != "" && c.Received > 10 {
			return
		}
	}
	fail("no session %#x in %v", g.c.SessionID(), cons[0])
}

func (g *goZK) restart() {
	g.mkdir("/restart")
	must(g.c.Create("/restart/mine", []byte("e"), zk.FlagEphemeral, everyone))
	id, mine := g.c.SessionID(), g.stat("/restart/mine")
	_, _, created, err := g.c.ExistsW("/restart/new")
	same("error", err, nil)
	_, _, changed, err := g.c.GetW("/restart")
	same("error", err, nil)
	_, _, child, err := g.c.ChildrenW("/restart/mine")
	same("error", err, nil)
	for len(g.events) > 0 {
		<-g.events
	}
	_, _ = fmt.Fprintln(g.out, "RESTART")
	if !g.in.Scan() {
		fail("nobody restarts the server: %v", g.in.Err())
	}
	deadline := time.After(sessionTimeout)
	for states := []zk.State{zk.StateDisconnected, zk.StateHasSession}; len(states) > 0; {
		select {
		case e := <-g.events:
			if e.State == states[0] {
				states = states[1:]
			}
			if e.State == zk.StateExpired {
				fail("the session is expired")
			}
		case <-deadline:
			fail("no state %v in %v", states[0], sessionTimeout)
		}
	}
	same("the session", g.c.SessionID(), id)
	same("stat of the ephemeral", *g.stat("/restart/mine"), *mine)
	silent("exists", created)
	silent("get", changed)
	other, _ := g.dial()
	must(other.Create("/restart/new", nil, 0, everyone))
	event("exists", created, zk.EventNodeCreated, "/restart/new")
	must(other.Set("/restart", []byte("x"), 0))
	event("get", changed, zk.EventNodeDataChanged, "/restart")
	must(other.Set("/restart/mine", nil, 0))
	silent("children", child)
	same("error", other.Delete("/restart/mine", 1), nil)
	event("children", child, zk.EventNodeDeleted, "/restart/mine")
}

func (g *goZK) close() {
	other, _ := g.dial()
	g.mkdir("/close")
	must(g.c.Create("/close/e", nil, zk.FlagEphemeral, everyone))
	_, _, gone, err := other.GetW("/close/e")
	same("error", err, nil)
	g.c.Close()
	event("get", gone, zk.EventNodeDeleted, "/close/e") // long before sessionTimeout
	ok, _, err := other.Exists("/close/e")
	same("exists", []any{ok, err}, []any{false, nil})
	_, _, err = g.c.Get("/close")
	refused("get", err, zk.ErrConnectionClosed)
	for _, c := range g.open {
		if c != g.c {
			c.Close()
		}
	}
}
