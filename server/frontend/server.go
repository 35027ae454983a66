package frontend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// Limits of a connection. What goes over one is answered where the client can
// be told, and counted.
const (
	MaxPipelined     = 1000    // requests under way; then reading stops
	MaxInFlightBytes = 1 << 20 // bytes of these; one larger request is allowed
	MaxOutboxBytes   = 4 << 20 // answers that the client has not taken; then the connection is closed
	MaxListBytes     = 1 << 20 // of one LIST; the rest is for the next page
	MaxIdentities    = 16      // added by AUTH
	FirstLineBytes   = 4 << 10 // before the first line ends
	FirstLineTime    = 10 * time.Second
	WriteTime        = 30 * time.Second // a client that takes nothing for so long is closed
	flushAt          = 64 << 10         // the reader sends what it has before it goes on
)

// Done is told the outcome of a submission: see replica.Done.
type Done = func(tree.Result, *tree.Tree, *watch.Table)

// Backend is the replica, as clients need it.
type Backend interface {
	Submit(x *tree.Txn, done Done)
	View(read func(*tree.Tree, *watch.Table))
	Barrier(done Done)
}

// Node tells about the node what clients may ask.
type Node interface {
	// Hello names the node, its role and its cluster.
	Hello() (version, node, role, cluster string)
	// Facts are what mntr and INFO list beside the frontend's own, keys without zk_.
	Facts() []Fact
	// Snapshot freezes the state and returns its zxid and what writes it out.
	Snapshot(ctx context.Context) (znode.Zxid, func(ctx context.Context, w io.Writer) error, error)
}

// Fact is one line of mntr.
type Fact struct{ Key, Value string }

// Config of a Server. All fields are needed but SuperDigest.
type Config struct {
	Backend        Backend
	Node           Node
	MaxClientConns int      // from one address; 0 for no limit
	FourLetter     []string // words that are answered; "*" for all
	MaxFrame       int      // bytes of the largest value or request
	SuperDigest    string   // user:hash of the operator
	Version, Built string
	Logger         zerolog.Logger
}

// Server serves clients on any number of listeners.
type Server struct {
	cfg    Config
	log    zerolog.Logger
	words  map[string]bool
	limits text.Limits
	dirty  []*conn // with answers to send; only the caller of dones and Flush touches it

	mu struct {
		sync.Mutex
		conns  map[*conn]struct{}
		perIP  map[netip.Addr]int
		closed bool
	}
	wg    sync.WaitGroup
	stats stats
}

// stats count since the start.
type stats struct {
	received, sent, outstanding atomic.Int64
	rejected, slow, writes      atomic.Int64
	latencySum, latencyMax      atomic.Int64 // µs, of writes
	latencyMin                  atomic.Int64 // µs + 1; 0 for none yet
	authFailed, protocolErrors  atomic.Int64
	limitsReached               atomic.Int64
}

// New makes a server; Serve lets clients in.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, log: cfg.Logger, words: map[string]bool{}, limits: text.DefaultLimits()}
	for _, w := range cfg.FourLetter {
		s.words[w] = true
	}
	s.limits.Payload = cfg.MaxFrame
	s.limits.Txn = cfg.MaxFrame + 128<<10
	s.mu.conns = map[*conn]struct{}{}
	s.mu.perIP = map[netip.Addr]int{}
	return s
}

// Serve accepts clients from l until ctx ends, then closes l and every
// connection, and waits for them.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		s.closeAll()
	})
	defer stop()
	defer s.wg.Wait()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			s.admit(ctx, nc)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED):
			s.log.Warn().Err(err).Msg("accept failed; trying again")
			time.Sleep(50 * time.Millisecond)
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	for c := range s.mu.conns {
		c.stop()
	}
}

// admit starts a connection, unless its address has too many: then it is closed
// without a word, as ZooKeeper does, since its protocol is not known yet.
func (s *Server) admit(ctx context.Context, nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.cfg.MaxClientConns
	if s.mu.closed || c.addr.IsValid() && limit > 0 && s.mu.perIP[c.addr] >= limit {
		_ = nc.Close()
		if s.stats.rejected.Add(1)%1000 == 1 && !s.mu.closed {
			s.log.Warn().Stringer("addr", c.addr).Int("limit", limit).Msg("too many connections from one address")
		}
		return
	}
	s.mu.conns[c] = struct{}{}
	if c.addr.IsValid() {
		s.mu.perIP[c.addr]++
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		c.serve(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.mu.conns, c)
		if c.addr.IsValid() {
			if s.mu.perIP[c.addr]--; s.mu.perIP[c.addr] == 0 {
				delete(s.mu.perIP, c.addr)
			}
		}
	}()
}

// Flush sends what dones have put into outboxes. The goroutine that runs the
// dones calls it after a burst of them, holding no lock.
func (s *Server) Flush() {
	for i, c := range s.dirty {
		c.dirty = false
		c.kick()
		s.dirty[i] = nil
	}
	s.dirty = s.dirty[:0]
}

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.conns)
}

// identify says who is at the other end: an address, or the user behind a unix
// socket; and whether that alone makes an operator.
func (s *Server) identify(nc net.Conn) (ids []znode.Identity, addr netip.Addr, operator, private bool) {
	switch a := nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		addr = a.AddrPort().Addr().Unmap().WithZone("")
		loopback := addr.IsLoopback()
		return []znode.Identity{{Scheme: znode.SchemeIP, ID: addr.String()}}, addr, loopback && s.cfg.SuperDigest == "", loopback
	default:
		uid, ok := peerUID(nc)
		if !ok {
			return nil, addr, false, true
		}
		id := znode.Identity{Scheme: "unix", ID: fmt.Sprint(uid)}
		return []znode.Identity{id}, addr, uid == 0 || uid == os.Getuid(), true
	}
}
