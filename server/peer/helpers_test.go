package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3/raftpb"
)

const secret = "a-secret-that-no-log-shows"

var testCluster = [16]byte{1, 2, 3}

// network is a network in memory, so that tests can use fake time.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	conns     []*conn // the dialers' ends
}

type listener struct {
	net    *network
	addr   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

type addr string

func (a addr) Network() string { return "mem" }
func (a addr) String() string  { return string(a) }

// conn is one end of a connection.
type conn struct {
	net.Conn
	local, remote addr
	mute          atomic.Bool // what is written is lost
	limit         atomic.Int64
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// Write ends the connection when its limit, if there is one, is used up.
func (c *conn) Write(b []byte) (int, error) {
	if c.mute.Load() {
		return len(b), nil
	}
	if left := c.limit.Load(); left > 0 {
		if left <= int64(len(b)) {
			n, _ := c.Conn.Write(b[:left-1])
			_ = c.Close()
			return n, io.ErrClosedPipe
		}
		c.limit.Add(-int64(len(b)))
	}
	return c.Conn.Write(b)
}

func newNetwork() *network { return &network{listeners: map[string]*listener{}} }

func (n *network) listen(a string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{net: n, addr: a, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[a] = l
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.listeners[l.addr] == l {
			delete(l.net.listeners, l.addr)
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.addr) }

func (n *network) dialer(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		refused := fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
		n.mu.Lock()
		l := n.listeners[to]
		n.mu.Unlock()
		if l == nil {
			return nil, refused
		}
		a, b := net.Pipe()
		c := &conn{Conn: a, local: addr(from + ":1"), remote: addr(to)}
		select {
		case l.conns <- &conn{Conn: b, local: addr(to), remote: addr(from + ":1")}:
		case <-l.closed:
			return nil, refused
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		n.mu.Lock()
		n.conns = append(n.conns, c)
		n.mu.Unlock()
		return c, nil
	}
}

// first returns the connection that was dialled first.
func (n *network) first() *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conns[0]
}

// detour wraps the connections that are dialled after it is set.
type detour struct {
	atomic.Pointer[func(net.Conn) net.Conn]
}

func (d *detour) set(f func(net.Conn) net.Conn) { d.Store(&f) }

func (d *detour) config(c *Config) {
	dial := c.Dial
	c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := dial(ctx, addr)
		if f := d.Load(); f != nil && err == nil {
			nc = (*f)(nc)
		}
		return nc, err
	}
}

// recorder is a handler that records its calls.
type recorder struct {
	mu       sync.Mutex // for all but slow and request
	told     []string   // ups and downs
	msgs     []*raftpb.Message
	forwards []string
	refusals []*Refusal
	slow     chan struct{} // if set, each forward takes a token from it

	snapshot func(ctx context.Context, from uint64, h SnapshotHeader, r io.Reader) error
	request  func(ctx context.Context, theirs Hello, body []byte) ([]byte, error)
}

func (r *recorder) Raft(from uint64, msgs []*raftpb.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range msgs {
		if m.GetFrom() != from {
			panic("a message of somebody else")
		}
	}
	r.msgs = append(r.msgs, msgs...)
}

func (r *recorder) Forward(from uint64, kind byte, b []byte) {
	if r.slow != nil {
		<-r.slow
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forwards = append(r.forwards, fmt.Sprintf("%d %d %s", from, kind, b))
}

func (r *recorder) Up(node uint64, theirs Hello) {
	r.say(fmt.Sprintf("up %d boot %d index %d", node, theirs.Boot, theirs.Index))
}
func (r *recorder) Down(node uint64, certain bool) { r.say(fmt.Sprintf("down %d %v", node, certain)) }

func (r *recorder) say(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, s)
}

func (r *recorder) Refused(f *Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals = append(r.refusals, f)
}

func (r *recorder) Snapshot(ctx context.Context, from uint64, h SnapshotHeader, rd io.Reader) error {
	r.mu.Lock()
	take := r.snapshot
	r.mu.Unlock()
	if take == nil {
		return errors.New("none wanted")
	}
	return take(ctx, from, h, rd)
}

// takes sets what the handler does with snapshots.
func (r *recorder) takes(f func(ctx context.Context, from uint64, h SnapshotHeader, r io.Reader) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshot = f
}

func (r *recorder) Request(ctx context.Context, theirs Hello, body []byte) ([]byte, error) {
	if r.request == nil {
		return nil, errors.New("none wanted")
	}
	return r.request(ctx, theirs, body)
}

// story returns all ups and downs.
func (r *recorder) story() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.told, ", ")
}

// refusal returns the first refusal.
func (r *recorder) refusal() *Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.refusals) == 0 {
		return &Refusal{}
	}
	return r.refusals[0]
}

func (r *recorder) lastTold() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.told) == 0 {
		return ""
	}
	return r.told[len(r.told)-1]
}

func (r *recorder) count() (msgs, forwards int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.msgs), len(r.forwards)
}

type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(s))
}

// node is running Links with their handler.
type node struct {
	*Links
	*recorder
	id   uint64
	addr string
	logs *logs
	stop func() // returns when Run has ended
}

func nameOf(id uint64) string { return fmt.Sprintf("n%d", id) }

// start runs node id at the address n<id>:1.
func (n *network) start(t testing.TB, id uint64, change ...func(*Config)) *node {
	t.Helper()
	name := nameOf(id)
	return run(t, Config{
		Self: Identity{Cluster: testCluster, Node: id, Boot: 1, Name: name}, Listen: n.listen(name), Dial: n.dialer(name),
	}, change...)
}

func run(t testing.TB, cfg Config, change ...func(*Config)) *node {
	t.Helper()
	x := &node{recorder: &recorder{}, logs: &logs{}, id: cfg.Self.Node}
	cfg.ClusterName, cfg.Secret, cfg.Handler = "test", Secret(secret), x.recorder
	cfg.Position = func() (uint64, uint64) { return 10 * cfg.Self.Node, 2 }
	cfg.Logger = zerolog.New(x.logs)
	for _, f := range change {
		f(&cfg)
	}
	x.addr = cfg.Listen.Addr().String()
	var err error
	if x.Links, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if x.logs.count(secret) > 0 {
			t.Error("the log shows the secret")
		}
	})
	t.Cleanup(x.stop)
	return x
}

// meet makes nodes each other's peers.
func meet(nodes ...*node) {
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				a.SetPeer(b.id, []string{b.addr})
			}
		}
	}
}

// pair returns two nodes on loopback whose links are up.
func pair(t testing.TB, change ...func(*Config)) (*node, *node) {
	t.Helper()
	var ns [2]*node
	for i := range ns {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ns[i] = run(t, Config{Self: Identity{Cluster: testCluster, Node: uint64(i + 1), Boot: 1}, Listen: l}, change...)
	}
	meet(ns[0], ns[1])
	eventually(t, func() bool { return ns[0].lastTold() != "" && ns[1].lastTold() != "" })
	return ns[0], ns[1]
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

func heartbeat(from, to, commit uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(from), To: new(to), Term: new(uint64(3)), Commit: new(commit)}
}
