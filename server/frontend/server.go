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

// Limits of a connection. A request that exceeds a limit gets an answer where the client can be
// told, and is counted.
const (
	MaxPipelined     = 1000     // requests in flight; beyond it the reader stops
	MaxInFlightBytes = 1 << 20  // bytes of these; one larger request is allowed
	MaxOutboxBytes   = 4 << 20  // answers that wait for the client; beyond it a read after a write is refused, and so is the rest of a multiRead
	MaxListBytes     = 1 << 20  // of one LIST; the rest is for the next page
	MaxChunkBytes    = 64 << 10 // of one CHUNK
	MaxIdentities    = 16       // added by AUTH
	MaxUserBytes     = 1 << 10  // of one of them, with its hash
	MaxTokens        = 100      // of a SASL login; then the connection ends
	MaxSnapshots     = 4        // streamed at once, over all connections
	MaxAdmins        = 16       // ADMINs in flight, over all connections
	MaxWatches       = 10_000   // per connection
	MaxEventBytes    = 1 << 20  // of events that wait for one client; beyond it the client is cut off
	MaxAllEventBytes = 64 << 20 // the same over all clients; beyond it a client that has any waiting, or would get a large one, is cut off
	FirstLineBytes   = 8 << 10  // until the first line ends; the longest path fits
	FirstLineTime    = 10 * time.Second
	WriteTime        = 30 * time.Second // a client that takes no bytes for this long is closed
	LingerTime       = 2 * time.Second  // how long the server discards what the client still sends, when it ends the connection itself
	PeerTime         = 5 * time.Second  // interval between checks whether a client that is not being read from is still there
	StopTime         = time.Second      // for the answers to requests in flight when the server stops
	AdminTime        = time.Minute      // for one ADMIN
	WithdrawTime     = time.Second      // until the deletion of a lock's znode that has failed is retried

	frameRoom = 128 << 10 // room beyond the largest value, in a frame of ZooKeeper's protocol
	flushAt   = 48 << 10  // the reader sends when it has this many bytes of answers
	keepQueue = 256       // largest capacity of a queue that an idle connection keeps
	opBytes   = 128       // weight of an op of a TXN, apart from its bytes
	countStep = 4 << 10   // znodes that a getAllChildrenNumber counts in one View
)

// Done receives the outcome of a submission: see replica.Done.
type Done = func(tree.Result, *tree.Tree, *watch.Table)

// Backend is the replica, as the frontend needs it. Submit and Barrier do not wait and run no done
// themselves: their callers hold locks that a done takes. A txn that is submitted over a connection
// after a write that is lost must not succeed: see Forwarded writes in package replica, and
// conn.submit.
type Backend interface {
	Submit(x *tree.Txn, done Done)
	View(read func(*tree.Tree, *watch.Table))
	Barrier(done Done)
}

// Node answers the questions about the node that clients may ask.
type Node interface {
	// Hello returns the node's version and name, its role and its cluster. The state lock may be
	// held.
	Hello() (version, node, role, cluster string)
	// HasLeader says whether the node knows the leader.
	HasLeader() bool
	// Facts are the lines of mntr and INFO beside the frontend's own; keys are without zk_.
	Facts() []Fact
	// Conf and Environment are the lines of conf and envi. Sizes are those of dirs: the bytes of
	// the snapshots and of the log.
	Conf() []Fact
	Environment() []Fact
	Sizes() (snapshots, log int64)
	// ResetStats resets those figures of Facts that srst resets.
	ResetStats()
	// Snapshot freezes the state. It returns the zxid of that state and a function that writes it
	// out.
	Snapshot(ctx context.Context) (znode.Zxid, func(ctx context.Context, w io.Writer) error, error)
	// Admin executes an operator's request to the ensemble. The words, such as MEMBERS, have the
	// forms of the text protocol's ADMIN. It may take seconds, until ctx ends. Errors are znode
	// codes with a message (AdminError).
	Admin(ctx context.Context, words []string) ([]AdminItem, error)
}

// Fact is one line of mntr.
type Fact struct{ Key, Value string }

// Config of a Server. All fields are required, except SuperDigest and those for which 0 or nil has
// a meaning.
type Config struct {
	Backend        Backend
	Node           Node
	Sessions       Sessions
	MaxClientConns int      // from one address; 0 for no limit
	FourLetter     []string // words that are answered; "*" for all
	MaxFrame       int      // bytes of the largest value or request
	// MinSession and MaxSession bound the timeouts that ZooKeeper's clients ask for.
	MinSession, MaxSession time.Duration
	ZooKeeperFrame         int    // the longest frame of their requests; 0 to derive it from MaxFrame
	ReconfigEnabled        bool   // only selects the error: reconfig is not possible in either case
	SuperDigest            string // user:hash of the operator
	Version, Built         string
	// SessionDeadline returns the time when a session expires unless its client is heard from. It
	// is nil while this node does not track deadlines.
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
	dirty    []*conn   // connections with something to send; only the goroutine that runs dones and Flush uses it
	echo     echo      // used by Notify; owned by the same goroutine
	pace     pace

	leaderless atomic.Bool // written under mu

	mu struct { // taken before a connection's own lock, after the state lock
		sync.Mutex
		conns map[*conn]struct{}
		perIP map[netip.Addr]int
		cut   *time.Timer // set when the server stops
	}
	locks      locks
	crier      crier
	wg         sync.WaitGroup
	snapshots  atomic.Int32 // being streamed
	admins     atomic.Int32 // in flight
	rushing    atomic.Int32 // connections whose clients rush
	rushed     atomic.Int64 // requests of connections that have rushed
	eventBytes atomic.Int64 // of events that wait, over all connections
	stats      stats
	started    time.Time
}

// New makes a server; Serve lets clients in.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, log: cfg.Logger, started: time.Now(), limits: text.DefaultLimits(), pace: usualPace}
	for _, w := range cfg.FourLetter {
		if fourLetterWords[w] == nil && w != "*" {
			s.log.Warn().Str("word", w).Msg("unknown four-letter word")
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

// Serve accepts clients from l until ctx ends. Then it closes l, reads nothing more from any
// client, waits up to StopTime for the answers to the requests in flight, and closes the
// connections. An error means that l cannot be used any more; the server stops in that case too.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	end := func() {
		_ = l.Close()
		s.retireAll()
	}
	stop := context.AfterFunc(ctx, end)
	err := accept.Loop(ctx, l, &s.log, func(nc net.Conn) { s.admit(ctx, nc) })
	stop()
	end() // must precede the wait, whether it has run already or not
	s.wg.Wait()
	return err
}

// retireAll ends all connections and begins the end of the server.
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

// admit starts a connection. If the address has too many, admit closes the connection without a
// word, as ZooKeeper does, because its protocol is not known yet.
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

// enter registers a connection. If it rejects the connection, c is nil and rejected is the number
// rejected so far; rejected is 0 if the server is stopping.
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

// Rest makes readers that wait for their clients give back the stack that earlier requests have
// grown. The caller has found that the server has little to do.
func (s *Server) Rest() {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.mu.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.relax()
	}
}

// Flush sends the outboxes that dones have filled; connections with only events come after those
// with answers. The goroutine that runs the dones calls it after a burst of them, holding no lock.
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
