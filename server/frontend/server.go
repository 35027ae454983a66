package frontend

import (
	"context"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"coord/server/accept"
	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// Limits of a connection. What goes over one is answered where the client can
// be told, and counted.
const (
	MaxPipelined     = 1000     // requests under way; then reading stops
	MaxInFlightBytes = 1 << 20  // bytes of these; one larger request is allowed
	MaxOutboxBytes   = 4 << 20  // answers that wait for the client; then a read behind a write is refused, and the rest of a multiRead
	MaxListBytes     = 1 << 20  // of one LIST; the rest is for the next page
	MaxChunkBytes    = 64 << 10 // of one CHUNK
	MaxIdentities    = 16       // added by AUTH
	MaxUserBytes     = 1 << 10  // of one of them, with its hash
	MaxSnapshots     = 4        // streamed at once, of all connections
	MaxAdmins        = 16       // of ADMIN under way, of all connections
	MaxWatches       = 10_000   // of one connection
	MaxEventBytes    = 1 << 20  // of events that wait for one client; then it is cut off
	MaxAllEventBytes = 64 << 20 // the same of all clients: then whoever has any waiting, or would have much
	FirstLineBytes   = 4 << 10  // before the first line ends
	FirstLineTime    = 10 * time.Second
	WriteTime        = 30 * time.Second // a client that takes nothing of what is sent in this time is closed
	LingerTime       = 2 * time.Second  // what a client still sends is thrown away, when the connection ends from here
	PeerTime         = 5 * time.Second  // from one look to the next whether a client that cannot be read from is there
	StopTime         = time.Second      // for answers to what is under way when the server stops
	AdminTime        = time.Minute      // for one ADMIN
	WithdrawTime     = time.Second      // until a lock that could not be taken away is tried again

	frameRoom = 128 << 10 // beside the largest value, in a frame of ZooKeeper's protocol
	flushAt   = 48 << 10  // the reader sends what it has before it goes on
	keepQueue = 256       // places of a queue that an idle connection keeps
	opBytes   = 128       // what an op of a TXN weighs beside its bytes
	countStep = 4 << 10   // znodes that a getAllChildrenNumber counts in one View
)

// Done is told the outcome of a submission: see replica.Done.
type Done = func(tree.Result, *tree.Tree, *watch.Table)

// Backend is the replica, as clients need it. Submit and Barrier do not wait and run
// no done themselves: they are called with locks held that a done takes. What is
// submitted over a connection behind a write that is lost must not succeed: see
// package replica on forwarded writes, and conn.submit.
type Backend interface {
	Submit(x *tree.Txn, done Done)
	View(read func(*tree.Tree, *watch.Table))
	Barrier(done Done)
}

// Node tells about the node what clients may ask.
type Node interface {
	// Hello names the node, its role and its cluster. The state lock may be held.
	Hello() (version, node, role, cluster string)
	// HasLeader says whether it knows who leads.
	HasLeader() bool
	// Facts are what mntr and INFO list beside the frontend's own, keys without zk_.
	Facts() []Fact
	// Conf and Environment are the lines of conf and envi, Sizes are those of dirs:
	// the bytes of the snapshots and of the log.
	Conf() []Fact
	Environment() []Fact
	Sizes() (snapshots, log int64)
	// ResetStats forgets what srst is to forget of that which Facts tells.
	ResetStats()
	// Snapshot freezes the state and returns its zxid and what writes it out.
	Snapshot(ctx context.Context) (znode.Zxid, func(ctx context.Context, w io.Writer) error, error)
	// Admin does what an operator asks of the ensemble: words such as MEMBERS, of the
	// forms of the text protocol's ADMIN. It may take seconds, until ctx ends. Errors are
	// znode codes with words (AdminError).
	Admin(ctx context.Context, words []string) ([]AdminItem, error)
}

// Fact is one line of mntr.
type Fact struct{ Key, Value string }

// Config of a Server. All fields are needed but SuperDigest and where 0 or nil has a meaning.
type Config struct {
	Backend        Backend
	Node           Node
	Sessions       Sessions
	MaxClientConns int      // from one address; 0 for no limit
	FourLetter     []string // words that are answered; "*" for all
	MaxFrame       int      // bytes of the largest value or request
	// MinSession and MaxSession bound the timeouts that ZooKeeper's clients ask for.
	MinSession, MaxSession time.Duration
	ZooKeeperFrame         int    // the longest frame of their requests; 0: room for MaxFrame
	ReconfigEnabled        bool   // reconfig is not switched off, but not possible
	SuperDigest            string // user:hash of the operator
	Version, Built         string
	// SessionDeadline says when a session ends unless its client is heard of; nil
	// while nobody counts that here.
	SessionDeadline func(id int64) (at time.Time, ok bool)
	Logger          zerolog.Logger
}

// Server serves clients on any number of listeners.
type Server struct {
	cfg      Config
	log      zerolog.Logger
	limits   text.Limits
	maxFrame int       // of ZooKeeper's protocol
	parsers  sync.Pool // of *text.Parser
	dirty    []*conn   // with something to send; only the caller of dones and Flush touches it
	echo     echo      // of Notify; the same
	pace     pace

	leaderless atomic.Bool // written under mu

	mu struct { // taken before a connection's own lock, behind the state lock
		sync.Mutex
		conns map[*conn]struct{}
		perIP map[netip.Addr]int
		cut   *time.Timer // set when the server stops
	}
	locks      locks
	crier      crier
	wg         sync.WaitGroup
	snapshots  atomic.Int32 // being streamed
	admins     atomic.Int32 // under way
	rushing    atomic.Int32 // connections whose clients rush
	rushed     atomic.Int64 // requests of those who have rushed
	eventBytes atomic.Int64 // of events that wait, of all connections
	stats      stats
	started    time.Time
}

// New makes a server; Serve lets clients in.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, log: cfg.Logger, started: time.Now(), limits: text.DefaultLimits(), pace: usualPace}
	for _, w := range cfg.FourLetter {
		if fourLetterWords[w] == nil && w != "*" {
			s.log.Warn().Str("word", w).Msg("there is no such four-letter word")
		}
	}
	s.limits.Payload = cfg.MaxFrame
	if s.maxFrame = cfg.ZooKeeperFrame; s.maxFrame == 0 {
		s.maxFrame = cfg.MaxFrame + frameRoom
	}
	s.limits.Txn = cfg.MaxFrame + frameRoom
	s.parsers.New = func() any { return text.NewParser(s.limits) }
	s.locks.waiting = map[string]*wait{}
	s.mu.conns = map[*conn]struct{}{}
	s.mu.perIP = map[netip.Addr]int{}
	return s
}

// Serve accepts clients from l until ctx ends. Then it closes l, reads nothing
// more from any client, waits up to StopTime for the answers to what is under
// way, and closes the connections. An error says that l is of no use any more;
// the server stops all the same.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	end := func() {
		_ = l.Close()
		s.retireAll()
	}
	stop := context.AfterFunc(ctx, end)
	err := accept.Loop(ctx, l, &s.log, func(nc net.Conn) { s.admit(ctx, nc) })
	stop()
	end() // done already or not, it must be before the waiting
	s.wg.Wait()
	return err
}

// retireAll ends all connections, and is the end of the server.
func (s *Server) retireAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.cut == nil {
		s.mu.cut = time.AfterFunc(StopTime, s.cutAll)
	}
	for c := range s.mu.conns {
		c.retire()
	}
}

func (s *Server) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		c.cut()
	}
}

// admit starts a connection, unless its address has too many: then it is closed
// without a word, as ZooKeeper does, since its protocol is not known yet.
func (s *Server) admit(ctx context.Context, nc net.Conn) {
	who := s.identify(nc)
	c, rejected := s.enter(nc, who)
	if c == nil {
		_ = nc.Close()
		if rejected%1000 == 1 {
			s.log.Warn().Stringer("addr", who.addr).Int("limit", s.cfg.MaxClientConns).Msg("too many connections from one address")
		}
		return
	}
	go c.serve(ctx)
}

// enter takes a connection in, or tells how many have been rejected.
func (s *Server) enter(nc net.Conn, who guest) (c *conn, rejected int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.cut != nil {
		return nil, 0
	}
	if who.addr.IsValid() {
		if limit := s.cfg.MaxClientConns; limit > 0 && s.mu.perIP[who.addr] >= limit {
			return nil, s.stats.rejected.Add(1)
		}
		s.mu.perIP[who.addr]++
	}
	c = newConn(s, nc, who)
	s.mu.conns[c] = struct{}{}
	s.wg.Add(1)
	return c, 0
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.conns, c)
	if c.addr.IsValid() {
		if s.mu.perIP[c.addr]--; s.mu.perIP[c.addr] == 0 {
			delete(s.mu.perIP, c.addr)
		}
	}
	if len(s.mu.conns) == 0 && s.mu.cut != nil {
		s.mu.cut.Stop()
	}
	s.wg.Done()
}

// Rest has readers who wait for their clients give back the stack that the last
// requests have made grow. Who calls it has seen that there is little to do.
func (s *Server) Rest() {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.mu.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.relax()
	}
}

// Flush sends what dones have put into outboxes, events after answers. The
// goroutine that runs the dones calls it after a burst of them, holding no lock.
func (s *Server) Flush() {
	alone := len(s.dirty) == 1
	for i, c := range s.dirty {
		c.dirty = false
		c.mu.Lock()
		due := c.mu.due || c.mu.isBehind && !c.mu.outside
		c.mu.Unlock()
		if due {
			s.cfg.Backend.View(c.advanceView)
		}
		if !c.tellLater() {
			c.kick(alone)
		}
		s.dirty[i] = nil
	}
	s.dirty = s.dirty[:0]
	s.wakeCrier()
}
