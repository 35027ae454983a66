package frontend_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// backend is a replica on a lone tree. Its applier takes submissions in bursts and runs dones under
// the state lock. If direct is set, each submission runs the applier itself.
type backend struct {
	front  *frontend.Server
	direct bool
	burst  func() int // the most that is taken at once; nil for no limit

	record bool          // keep the events
	events []znode.Event // of all txns

	disorder bool // barriers and txns keep no order between each other
	views    atomic.Int64

	state   sync.RWMutex
	tree    *tree.Tree
	watches *watch.Table
	stamp   int64

	applying sync.Mutex // held by the running applier, if direct

	mu struct {
		sync.Mutex
		tasks   []task
		held    bool
		allowed int // number of tasks that may run though held
		dead    bool
	}
	more sync.Cond
}

type watchTable = watch.Table

type task struct {
	txn  *tree.Txn // nil for a barrier
	done frontend.Done
	code znode.Code // a refusal in place of the outcome
}

func newBackend() *backend {
	b := &backend{tree: tree.New(), watches: watch.New(watch.DefaultConfig(), 0)}
	b.more.L = &b.mu
	return b
}

func (b *backend) Submit(x *tree.Txn, done frontend.Done) { b.take(task{txn: x, done: done}) }
func (b *backend) Decide(x *tree.Txn, done frontend.Done) { b.Submit(x, done) }
func (b *backend) Barrier(done frontend.Done)             { b.take(task{done: done}) }

func (b *backend) View(read func(*tree.Tree, *watch.Table)) {
	b.views.Add(1)
	b.state.RLock()
	defer b.state.RUnlock()
	read(b.tree, b.watches)
}

// take queues a task. It never runs a done itself.
func (b *backend) take(x task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.tasks = append(b.mu.tasks, x)
	b.more.Signal()
	if b.direct {
		go b.applyAll()
	}
}

// applyAll applies all waiting tasks.
func (b *backend) applyAll() {
	b.applying.Lock()
	defer b.applying.Unlock()
	b.mu.Lock()
	tasks := b.mu.tasks
	b.mu.tasks = nil
	b.mu.Unlock()
	b.apply(tasks)
}

// run is the applier, until ctx ends.
func (b *backend) run(ctx context.Context) {
	context.AfterFunc(ctx, b.die)
	for {
		b.mu.Lock()
		for !b.mu.dead && (len(b.mu.tasks) == 0 || b.mu.held && b.mu.allowed == 0) {
			b.more.Wait()
		}
		if b.mu.dead {
			b.mu.Unlock()
			return
		}
		n := len(b.mu.tasks)
		if b.burst != nil {
			n = min(n, b.burst())
		}
		if b.mu.held {
			n = min(n, b.mu.allowed)
			b.mu.allowed -= n
		}
		if b.disorder {
			first := rand.IntN(2) == 0
			slices.SortStableFunc(b.mu.tasks, func(x, y task) int {
				late := func(x task) int {
					if (x.txn == nil) == first {
						return 0
					}
					return 1
				}
				return late(x) - late(y)
			})
		}
		tasks := slices.Clone(b.mu.tasks[:n])
		b.mu.tasks = slices.Delete(b.mu.tasks, 0, n)
		b.mu.Unlock()
		b.apply(tasks)
	}
}

func (b *backend) apply(tasks []task) {
	b.state.Lock()
	for _, x := range tasks {
		r := tree.Result{Code: x.code}
		if x.txn != nil && x.code == znode.OK {
			b.stamp++
			x.txn.TimeMS = b.stamp
			if x.txn.Kind == tree.KindSession {
				x.txn.Target, x.txn.Password = 1000+b.stamp, bytes.Repeat([]byte{byte(b.stamp)}, 16)
			}
			var events []znode.Event
			r, events = b.tree.Apply(1, x.txn)
			for _, e := range events {
				b.watches.Trigger(e)
			}
			if b.record {
				b.events = append(b.events, events...)
			}
		}
		x.done(r, b.tree, b.watches)
	}
	b.state.Unlock()
	b.front.Flush()
}

// hold keeps dones back; allow lets some of them run; refuse replaces the outcome of the waiting
// task at i. die stops the backend with tasks unanswered.
func (b *backend) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.held, b.mu.allowed = true, 0
}

func (b *backend) allow(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.allowed += n
	b.more.Signal()
}

func (b *backend) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.held = false
	b.more.Signal()
}

func (b *backend) refuse(i int, code znode.Code) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.tasks[i].code = code
}

func (b *backend) die() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.dead = true
	b.more.Signal()
}

func (b *backend) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.tasks)
}

// do applies a txn of another client.
func (b *backend) do(op tree.Op) {
	b.state.Lock()
	defer b.state.Unlock()
	b.stamp++
	_, events := b.tree.Apply(1, &tree.Txn{Op: op, TimeMS: b.stamp, IDs: []znode.Identity{znode.Super}})
	for _, e := range events {
		b.watches.Trigger(e)
	}
}

// fakeNode is a frontend.Node whose snapshot is some bytes.
type fakeNode struct {
	snapshot func(ctx context.Context, w io.Writer) error
	zxid     znode.Zxid
	err      error
	resets   atomic.Int32
	admin    func(ctx context.Context, words []string) ([]frontend.AdminItem, error)
	role     string // "" for standalone
	looking  bool   // for a leader
	facts    []frontend.Fact
}

func (n *fakeNode) Admin(ctx context.Context, words []string) ([]frontend.AdminItem, error) {
	if n.admin == nil {
		return nil, nil
	}
	return n.admin(ctx, words)
}

func (n *fakeNode) Hello() (version, node, role, cluster string) {
	return "0.1", "n1", cmp.Or(n.role, "standalone"), "coord"
}

func (n *fakeNode) HasLeader() bool { return !n.looking }

func (n *fakeNode) Facts() []frontend.Fact {
	return append([]frontend.Fact{{Key: "coord_term", Value: "1"}}, n.facts...)
}

func (n *fakeNode) Snapshot(context.Context) (znode.Zxid, func(context.Context, io.Writer) error, error) {
	return n.zxid, n.snapshot, n.err
}

// fakeSessions is a frontend.Sessions that ends no session.
type fakeSessions struct{}

func (fakeSessions) Attach(int64, uint32, time.Duration, bool) {}
func (fakeSessions) Touch(int64)                               {}
func (fakeSessions) Vouch(int64) func() bool                   { return func() bool { return true } }
func (fakeSessions) Detach(int64, uint32, time.Duration)       {}

// world is a server on a backend.
type world struct {
	*backend
	t      testing.TB
	front  *frontend.Server
	node   *fakeNode
	log    *lockedBuffer
	ctx    context.Context
	stop   context.CancelFunc // stops the clients, like the first step of a node's stop
	kill   context.CancelFunc // stops the backend
	served sync.WaitGroup
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newWorld starts a server without listeners. It ends with the test.
func newWorld(t testing.TB, change ...func(*frontend.Config, *backend)) *world {
	w := &world{backend: newBackend(), t: t, node: &fakeNode{snapshot: emptySnapshot}, log: &lockedBuffer{}}
	cfg := frontend.Config{
		Backend: w.backend, Node: w.node, Sessions: fakeSessions{}, FourLetter: []string{"ruok", "srvr", "mntr", "isro"}, MaxFrame: 1 << 20,
		MinSession: 4 * time.Second, MaxSession: 40 * time.Second, Version: "0.1", Built: "02/01/2026 03:04 GMT", Logger: zerolog.New(w.log),
	}
	for _, f := range change {
		f(&cfg, w.backend)
	}
	w.front = frontend.New(cfg)
	w.backend.front = w.front
	w.ctx, w.stop = context.WithCancel(context.Background())
	backendCtx, kill := context.WithCancel(context.Background())
	var applier sync.WaitGroup
	if !w.direct {
		applier.Go(func() { w.run(backendCtx) })
	}
	w.kill = func() {
		kill()
		applier.Wait()
	}
	t.Cleanup(w.end)
	return w
}

// end stops everything, as the end of the test does. A test in a bubble calls it earlier.
func (w *world) end() {
	w.stop()
	w.served.Wait()
	w.kill()
}

func (w *world) serve(l net.Listener) {
	w.served.Go(func() {
		if err := w.front.Serve(w.ctx, l); err != nil {
			w.t.Error(err)
		}
	})
}

// tcp serves on loopback and returns the address.
func (w *world) tcp() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.serve(l)
	return l.Addr().String()
}

// duplex is a connection made of two pipes, so that one direction can be closed.
type duplex struct {
	r, w   net.Conn
	remote net.Addr
}

func (d *duplex) Read(p []byte) (int, error)  { return d.r.Read(p) }
func (d *duplex) Write(p []byte) (int, error) { return d.w.Write(p) }
func (d *duplex) Close() error                { return errors.Join(d.r.Close(), d.w.Close()) }
func (d *duplex) CloseWrite() error           { return d.w.Close() }
func (d *duplex) LocalAddr() net.Addr         { return d.remote }
func (d *duplex) RemoteAddr() net.Addr        { return d.remote }
func (d *duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.r.SetDeadline(t), d.w.SetDeadline(t))
}
func (d *duplex) SetReadDeadline(t time.Time) error  { return d.r.SetReadDeadline(t) }
func (d *duplex) SetWriteDeadline(t time.Time) error { return d.w.SetWriteDeadline(t) }

// pipes is a listener without a network.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	errs   chan error // errors that Accept returns in place of connections
}

func (w *world) pipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), errs: make(chan error)}
	w.serve(p)
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case err := <-p.errs:
		return nil, err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

var home = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000}

// dial connects from the given address.
func (p *pipes) dial(from net.Addr) *duplex {
	a, b := net.Pipe()
	x, y := net.Pipe()
	select {
	case p.conns <- &duplex{r: a, w: y, remote: from}:
	case <-p.closed:
		_, _ = a.Close(), y.Close()
	}
	return &duplex{r: x, w: b, remote: from}
}

// open is dial, with a goroutine that reads everything.
func (p *pipes) open(from net.Addr) *caller { return newCaller(p.dial(from)) }

// caller is a client that reads all the time.
type caller struct {
	*duplex
	got  lockedBuffer
	gate chan struct{} // holds one token, which the reading goroutine needs for each read
	done chan struct{} // closed at the end of the stream
}

func newCaller(d *duplex) *caller {
	c := &caller{duplex: d, gate: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		_, _ = io.Copy(&c.got, readerFunc(func(p []byte) (int, error) {
			c.gate <- struct{}{}
			<-c.gate
			return d.Read(p)
		}))
	}()
	return c
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// stall makes the caller read at most once more until it is resumed.
func (c *caller) stall() {
	select {
	case c.gate <- struct{}{}:
	default:
	}
}

func (c *caller) goOn() {
	select {
	case <-c.gate:
	default:
	}
}

// say sends, and ignores errors.
func (c *caller) say(s string) { _, _ = io.WriteString(c.duplex, s) }

func (c *caller) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// ask sends in on one TCP connection, closes its sending side, and returns everything that comes
// back.
func ask(t testing.TB, addr, in string) string {
	t.Helper()
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return exchange(t, c, in)
}

func exchange(t testing.TB, c net.Conn, in string) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, in)
		if err == nil {
			err = c.(interface{ CloseWrite() error }).CloseWrite()
		}
		sent <- err
	}()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("behind %d bytes: %v", len(b), err)
	}
	if err := <-sent; err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
		t.Logf("sending: %v", err)
	}
	return string(b)
}

// same compares two long texts.
func same(t testing.TB, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	from := max(0, at-200)
	t.Errorf("differs at byte %d of %d and %d\ngot  …%.500q\nwant …%.500q", at, len(got), len(want), got[from:], want[from:])
}
