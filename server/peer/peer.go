package peer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3/raftpb"

	"coord/server/accept"
)

// Links are a node's connections to its peers.
type Links struct {
	cfg                Config
	log                zerolog.Logger
	dialTLS, acceptTLS *tls.Config
	maxFrame           int

	mu struct {
		sync.Mutex
		self      Identity
		run       context.Context // the context of everything that Run has started; nil before Run
		stopped   bool
		peers     map[uint64]*peer
		boots     map[uint64]uint64   // the highest boot seen of each node
		inbound   map[uint64]*inbound // the newest link of each peer
		incoming  map[uint64]*incoming
		halfOpen  map[string]int // by host
		halfOpens int
	}
	conns    set
	wg       sync.WaitGroup
	requests chan struct{} // holds one item for each request being answered
	crier    crier
	counts   counts
}

// New makes the links of a node. They do nothing before Run.
func New(cfg Config) (*Links, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Links{cfg: cfg, log: cfg.Logger, maxFrame: cfg.MaxFrame, requests: make(chan struct{}, MaxRequests)}
	if l.maxFrame == 0 {
		l.maxFrame = MaxFrameBytes
	}
	if l.cfg.Dial == nil {
		l.cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	if cfg.TLS != nil {
		l.acceptTLS, l.dialTLS = acceptTLS(cfg.TLS), dialTLS(cfg.TLS)
	}
	l.mu.self = cfg.Self
	l.mu.peers = map[uint64]*peer{}
	l.mu.boots = map[uint64]uint64{}
	l.mu.inbound = map[uint64]*inbound{}
	l.mu.incoming = map[uint64]*incoming{}
	l.mu.halfOpen = map[string]int{}
	return l, nil
}

func acceptTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion, c.ClientAuth = tls.VersionTLS13, tls.RequireAndVerifyClientCert
	c.SessionTicketsDisabled = true
	if pick := c.GetConfigForClient; pick != nil {
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := pick(h)
			if c == nil || err != nil {
				return nil, err
			}
			return acceptTLS(c), nil // no peer is let in without a certificate
		}
	}
	return c
}

// dialTLS checks the chain and leaves the name to Certified: the dialer expects an id, and
// addresses change.
func dialTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion, c.InsecureSkipVerify = tls.VersionTLS13, true
	c.ClientSessionCache = nil
	roots, also := c.RootCAs, c.VerifyConnection
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if c.Time != nil {
			o.CurrentTime = c.Time()
		}
		for _, cert := range cs.PeerCertificates[1:] {
			o.Intermediates.AddCert(cert)
		}
		if _, err := cs.PeerCertificates[0].Verify(o); err != nil {
			return err
		}
		if also != nil {
			return also(cs)
		}
		return nil
	}
	return c
}

// Run accepts and dials until ctx ends or the listener fails for good. Then it closes the listener
// first, so that peers that lose the connection are refused at once, and waits for the handler's
// calls to end.
func (l *Links) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	l.mu.Lock()
	if l.mu.run != nil || l.mu.stopped {
		panic("peer: Run called twice")
	}
	l.mu.run = inner
	for _, p := range l.mu.peers {
		if !p.removed {
			l.begin(p)
		}
	}
	l.mu.Unlock()

	if len(l.cfg.Secret) == 0 {
		l.log.Warn().Msg("no secret: any host that reaches the peer port can act as a peer")
	}
	var err error
	if l.cfg.Listen != nil {
		stop := context.AfterFunc(ctx, func() { _ = l.cfg.Listen.Close() })
		if err = accept.Loop(ctx, l.cfg.Listen, &l.log, l.admitConn); err != nil {
			err = fmt.Errorf("peer: %w", err)
		}
		stop()
		_ = l.cfg.Listen.Close()
	} else {
		<-ctx.Done()
	}
	cancel() // only now that no connection is accepted any more
	l.mu.Lock()
	l.mu.stopped = true
	l.mu.Unlock()
	l.conns.closeAll()
	l.wg.Wait()
	return err
}

// start runs f in a goroutine that Run waits for. It returns false if it did not start f.
func (l *Links) start(f func(ctx context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.startLocked(f)
}

func (l *Links) startLocked(f func(ctx context.Context)) bool {
	if l.mu.run == nil || l.mu.stopped {
		return false
	}
	ctx := l.mu.run
	l.wg.Go(func() { f(ctx) })
	return true
}

// cluster is the cluster that this node belongs to, zero for none.
func (l *Links) cluster() [16]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.self.Cluster
}

// SetCluster sets the cluster that a node without one now belongs to.
func (l *Links) SetCluster(id [16]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.self.Cluster != id && l.mu.self.Cluster != [16]byte{} {
		panic("peer: the cluster id must not change")
	}
	l.mu.self.Cluster = id
	for _, p := range l.mu.peers {
		p.poke()
	}
}

// SetPeer names a peer and its possible addresses. This node dials it, and it may dial this node. A
// new address is tried when the link is down.
func (l *Links) SetPeer(id uint64, addrs []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == l.mu.self.Node || id == 0 {
		panic(fmt.Sprintf("peer: node %016x cannot be a peer: it is 0 or this node", id))
	}
	p := l.mu.peers[id]
	if p != nil && !p.removed {
		if !slices.Equal(p.addrs, addrs) {
			p.addrs = slices.Clone(addrs)
			p.poke()
		}
		return
	}
	p = &peer{l: l, id: id, addrs: slices.Clone(addrs), before: p, done: make(chan struct{}), stop: make(chan struct{}), poked: make(chan struct{}, 1)}
	p.queue.wake = make(chan struct{}, 1)
	p.log = l.log.With().Str("peer", fmt.Sprintf("%016x", id)).Logger()
	l.mu.peers[id] = p
	l.begin(p)
}

// begin starts a peer if Run has begun. The caller holds l.mu.
func (l *Links) begin(p *peer) { p.started = l.startLocked(p.run) }

// RemovePeer ends the connections with a peer, and has it refused until SetPeer names it again (CodeUnknown:
// whether a node was removed for good is for Admit to say). Its Down may come later.
func (l *Links) RemovePeer(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.mu.peers[id]
	if p == nil || p.removed {
		return
	}
	p.removed = true
	close(p.stop)
	if !p.started {
		close(p.done)
	}
	if in := l.mu.inbound[id]; in != nil {
		in.w.cut()
	}
	if in := l.mu.incoming[id]; in != nil {
		in.fail(errRemoved)
		delete(l.mu.incoming, id)
	}
}

// peer returns a peer that SetPeer has named and RemovePeer has not removed; otherwise nil.
func (l *Links) peer(id uint64) *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.mu.peers[id]; p != nil && !p.removed {
		return p
	}
	return nil
}

// Raft sends raft's messages to their addressees. A message that cannot be sent is dropped and
// counted: raft sends it again. The caller must not change the messages afterwards.
func (l *Links) Raft(msgs []*raftpb.Message) {
	for _, m := range msgs {
		mustTravel(m, l.cfg.Self.Node)
		if p := l.peer(m.GetTo()); p == nil || !p.queue.putRaft(m) {
			l.counts.dropped.Add(1)
			if p != nil {
				p.dropped.Add(1)
			}
		}
	}
}

// Forward sends b, which the caller must not change afterwards, in the order of calls. It is lost if
// there is no link, or with the link; if the queue is full, the link ends.
func (l *Links) Forward(to uint64, kind byte, b []byte) {
	p := l.peer(to)
	if p == nil {
		return
	}
	if 1+len(b) > l.maxFrame {
		panic(fmt.Sprintf("peer: forward of %d bytes is too large", len(b)))
	}
	if !p.queue.putForward(kind, b) {
		l.counts.unforwarded.Add(1)
	}
}

// peer is a node that this node dials. Its goroutine owns it, except where a field says otherwise.
type peer struct {
	l       *Links
	id      uint64
	log     zerolog.Logger
	before  *peer         // the removed peer of the same id, whose last Down must come first
	done    chan struct{} // run has returned
	stop    chan struct{} // it was removed
	poked   chan struct{} // there is a reason to dial at once
	queue   queue
	addrs   []string // under l.mu, like the next two fields
	removed bool
	started bool
	sending atomic.Bool // a snapshot is being sent
	told    string      // the last trouble that was logged
	began   time.Time   // when run began

	isUp                       atomic.Bool
	links, dropped             atomic.Uint64
	sentMessages, sentForwards atomic.Uint64
	sentBytes                  atomic.Uint64
}

func (p *peer) poke() {
	select {
	case p.poked <- struct{}{}:
	default:
	}
}

// run keeps a link to the peer.
func (p *peer) run(ctx context.Context) {
	defer close(p.done)
	if p.before != nil {
		<-p.before.done
		p.before = nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-p.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	p.began = time.Now()
	pause := LeastPause
	var next *link
	for ctx.Err() == nil {
		k := next
		next = nil
		if k == nil {
			var err error
			if k, err = p.connect(ctx, HandshakeTime); err != nil {
				p.tell(ctx, err)
				pause = p.wait(ctx, pause)
				continue
			}
		}
		began := time.Now()
		cause := p.carry(ctx, k)
		certain := false
		if ctx.Err() == nil && isEnd(cause) {
			next, certain = p.redial(ctx)
		}
		if ctx.Err() == nil {
			p.log.Warn().AnErr("err", cause).Bool("certain", certain).Msg("peer lost")
		}
		p.l.cfg.Handler.Down(p.id, certain)
		if time.Since(began) >= MostPause {
			pause = LeastPause
			continue
		}
		// The peer can be reached, but its links do not last: avoid a storm of redials.
		if next != nil {
			next.w.cut()
			next = nil
		}
		pause = p.wait(ctx, pause)
	}
	if next != nil {
		next.w.cut()
	}
}

// wait pauses before the next dial and returns the pause after it.
func (p *peer) wait(ctx context.Context, pause time.Duration) time.Duration {
	t := time.NewTimer(jitter(pause))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-p.poked:
		return LeastPause
	}
	return min(2*pause, MostPause)
}

// jitter returns a random duration from half of d to d.
func jitter(d time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(d/2)+1))
	if err != nil {
		return d
	}
	return d/2 + time.Duration(n.Int64())
}

// earlyTime is how long a node may take to become a member before a missing link to it is logged as
// a warning.
const earlyTime = 5 * time.Second

// tell logs a trouble unless it was the last one logged, and tells the handler of a refusal.
func (p *peer) tell(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	text, level := "unreachable", zerolog.WarnLevel
	if r, ok := errors.AsType[*Refusal](err); ok {
		p.l.refused(r)
		text = r.Code.String()
		if r.isEarly(p.l.cluster()) && p.links.Load() == 0 && time.Since(p.began) < earlyTime {
			text, level = "early "+text, zerolog.DebugLevel
		}
	}
	if text == p.told {
		return
	}
	p.told = text
	p.log.WithLevel(level).Err(err).Msg("no link to a peer; retrying")
}
