package bench

import (
	"cmp"
	"context"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"testing"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// fake is a server of the parts of the protocol that a load needs: it knows which
// znodes exist, and who watches. Its hook can change its behaviour.
type fake struct {
	addr string
	// hook may answer in the server's place; then it returns true. n counts the
	// connection's requests from 1. The hook may append to c.out.
	hook      func(c *fakeConn, r *zkproto.Request, n int) bool
	timeoutMS int32 // of sessions; 0: 30 s
	deaf      int64 // the session that receives no events; 0: none
	bare      bool  // it keeps no state, so that only parsing and answering cost time

	mu       sync.Mutex
	zxid     znode.Zxid
	session  int64
	znodes   map[string]fakeZnode
	watchers map[string][]*fakeConn
	conns    map[*fakeConn]bool
	closed   int // sessions that were closed properly
	opened   int
	wg       sync.WaitGroup
}

type fakeZnode struct {
	children, creates int
	owner             int64
}

type fakeConn struct {
	f   *fake
	nc  net.Conn
	mu  sync.Mutex // guards out, which events are appended to as well
	out []byte
	id  int64
}

func serveFake(l net.Listener, f *fake) {
	f.znodes, f.watchers, f.conns = map[string]fakeZnode{}, map[string][]*fakeConn{}, map[*fakeConn]bool{}
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		c := &fakeConn{f: f, nc: nc}
		f.mu.Lock()
		f.conns[c] = true
		f.mu.Unlock()
		f.wg.Go(c.serve)
	}
}

// startFake runs a fake until the test ends.
func startFake(t *testing.T, hook func(c *fakeConn, r *zkproto.Request, n int) bool) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{hook: hook, addr: l.Addr().String()}
	f.wg.Go(func() { serveFake(l, f) })
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for c := range f.conns {
			_ = c.nc.Close()
		}
		f.mu.Unlock()
		f.wg.Wait()
	})
	return f
}

// server is how a load reaches it.
func (f *fake) server() Server {
	return Server{PID: os.Getpid(), Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", f.addr)
	}}
}

// left are the znodes that still exist.
func (f *fake) left() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.znodes))
}

func (c *fakeConn) serve() {
	defer func() {
		_ = c.nc.Close()
		c.f.mu.Lock()
		delete(c.f.conns, c)
		c.f.mu.Unlock()
	}()
	d := zkproto.Decoder{MaxOps: 1000}
	var req zkproto.Request
	in := make([]byte, 64<<10)
	r, w, n := 0, 0, -1
	for {
		frame, size, err := zkproto.CutFrame(in[r:w], 8<<20)
		switch {
		case err != nil:
			return
		case frame == nil:
			if !c.flush() {
				return
			}
			w, r = copy(in, in[r:w]), 0
			if size > len(in) {
				in = append(in, make([]byte, size)...)
			}
			got, err := c.nc.Read(in[w:])
			if err != nil {
				return
			}
			w += got
			continue
		}
		r += size
		if n++; n == 0 {
			if _, err := zkproto.ReadConnect(frame); err != nil {
				return
			}
			c.f.mu.Lock()
			c.f.opened++
			c.f.session++
			c.id = c.f.session
			c.out = zkproto.AppendConnected(c.out, &zkproto.Connected{TimeoutMS: cmp.Or(c.f.timeoutMS, 30_000), Session: c.id, HasReadOnly: true})
			c.f.mu.Unlock()
			continue
		}
		if d.Decode(frame, &req) != nil {
			return
		}
		if c.f.hook != nil {
			c.mu.Lock()
			done := c.f.hook(c, &req, n)
			c.mu.Unlock()
			if done {
				continue
			}
		}
		if c.answer(&req); req.Op == zkproto.OpCloseSession {
			c.flush()
			return
		}
	}
}

func (c *fakeConn) flush() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) == 0 {
		return true
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err == nil
}

var noStat znode.Stat

// answer handles a request.
func (c *fakeConn) answer(r *zkproto.Request) {
	f := c.f
	if f.bare {
		f.zxid = 1
		c.appendReply(r, 1, znode.OK)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zxid++
	code := znode.OK
	switch r.Op {
	case zkproto.OpMulti:
		before := maps.Clone(f.znodes)
		for i := 0; i < len(r.Ops) && code == znode.OK; i++ {
			if code = f.check(&r.Ops[i]); code == znode.OK {
				f.change(&r.Ops[i], c.id)
			}
		}
		if code != znode.OK {
			f.znodes = before
		}
	case zkproto.OpCloseSession:
		f.closed++
		for path, z := range f.znodes {
			if z.owner == c.id {
				f.change(&zkproto.Part{Op: zkproto.OpDelete, Path: path}, 0)
			}
		}
	default:
		if code = f.check(&r.Part); code == znode.OK {
			f.change(&r.Part, c.id)
		}
	}
	if r.Watch && code == znode.OK {
		f.watchers[r.Path] = append(f.watchers[r.Path], c)
	}
	c.mu.Lock()
	c.appendReply(r, f.zxid, code)
	c.mu.Unlock()
	if r.Op == zkproto.OpSetData {
		for _, w := range f.watchers[r.Path] {
			if w.id == f.deaf {
				continue
			}
			w.mu.Lock()
			w.out = zkproto.AppendEvent(w.out, znode.NodeDataChanged, r.Path, zkproto.NoZxid)
			w.mu.Unlock()
			if w != c {
				w.flush()
			}
		}
		delete(f.watchers, r.Path)
	}
}

func (f *fake) check(p *zkproto.Part) znode.Code {
	z, there := f.znodes[p.Path]
	switch {
	case p.Path == "":
		return znode.OK
	case p.Op == zkproto.OpCreate && there:
		return znode.ErrNodeExists
	case p.Op == zkproto.OpCreate:
		if parent, _ := znode.Split(p.Path); parent != "/" {
			if _, ok := f.znodes[parent]; !ok {
				return znode.ErrNoNode
			}
		}
	case !there:
		return znode.ErrNoNode
	case p.Op == zkproto.OpDelete && z.children > 0:
		return znode.ErrNotEmpty
	}
	return znode.OK
}

func (f *fake) change(p *zkproto.Part, session int64) {
	path := p.Path
	parent, _ := znode.Split(path)
	above := f.znodes[parent]
	switch p.Op {
	case zkproto.OpCreate:
		var z fakeZnode
		if p.Flags&1 != 0 {
			z.owner = session
		}
		if p.Flags&2 != 0 {
			path += digits10(above.creates)
		}
		above.creates++
		above.children++
		f.znodes[path] = z
	case zkproto.OpDelete:
		above.children--
		delete(f.znodes, path)
	default:
		return
	}
	if parent != znode.Root {
		f.znodes[parent] = above
	}
}

func digits10(n int) string {
	b := make([]byte, 10)
	putDigits(b, uint32(n))
	return string(b)
}

func (c *fakeConn) appendReply(r *zkproto.Request, zxid znode.Zxid, code znode.Code) {
	xid := r.Xid
	if code != znode.OK && r.Op != zkproto.OpMulti {
		c.out = zkproto.AppendReply(c.out, xid, zxid, code)
		return
	}
	start := len(c.out)
	c.out = zkproto.BeginReply(c.out, xid, zxid)
	switch r.Op {
	case zkproto.OpCreate, zkproto.OpSync:
		c.out = zkproto.AppendString(c.out, r.Path)
	case zkproto.OpExists, zkproto.OpSetData:
		c.out = zkproto.AppendStat(c.out, &noStat)
	case zkproto.OpGetData:
		c.out = zkproto.AppendString(c.out, value100)
		c.out = zkproto.AppendStat(c.out, &noStat)
	case zkproto.OpGetChildren2:
		c.out = zkproto.AppendStrings(c.out, []string{"k00", "k01"})
		c.out = zkproto.AppendStat(c.out, &noStat)
	case zkproto.OpMulti:
		for i := range r.Ops {
			if code != znode.OK {
				c.out = zkproto.AppendMultiError(c.out, code)
				continue
			}
			c.out = zkproto.AppendMultiResult(c.out, r.Ops[i].Op)
			switch r.Ops[i].Op {
			case zkproto.OpCreate:
				c.out = zkproto.AppendString(c.out, r.Ops[i].Path)
			case zkproto.OpSetData:
				c.out = zkproto.AppendStat(c.out, &noStat)
			}
		}
		c.out = zkproto.AppendMultiEnd(c.out)
	}
	zkproto.EndFrame(c.out, start)
}

var value100 = make([]byte, 100)
