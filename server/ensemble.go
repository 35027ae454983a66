package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"coord/gossip"
	"coord/server/admission"
	"coord/server/founding"
	"coord/server/peer"
	"coord/server/replica"
	"coord/server/session"
	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/tree"
)

// ensemble is a node's part among others: it joins the rooms that know one thing
// each. peer carries bytes, gossip shows who seems to be there, founding says how an
// ensemble is born, replica keeps the log; the steward does what takes time.
//
// It lives longer than the replica: a node must be a member before it has a log, and
// founding and joining are talked over the same links. Peers are named to the links
// only when there is a replica that can hear of them.
type ensemble struct {
	n      *node
	cfg    *Ensemble
	log    zerolog.Logger
	links  *peer.Links
	gossip *gossip.Gossip
	self   member // as others are told
	ctx    context.Context

	machine machine
	replica atomic.Pointer[replica.Replica]
	keeper  atomic.Pointer[session.Keeper]
	steward *steward
	admins  atomic.Int32  // wishes of operators under way through this node
	moves   atomic.Uint64 // how often a link to a peer has come or gone

	store   atomic.Pointer[snapshot.Store]
	ended   chan error // of one: why the node must stop
	mu      sync.Mutex // guards what follows
	arrived map[uint64]*snapshot.Received
	taken   uint64                   // index of the last one that raft has asked for
	pauses  map[uint64]time.Duration // behind the last snapshot that did not reach a node
	stopped bool
	tasks   sync.WaitGroup // what run waits for
}

// snapshotRate is how many bytes of a snapshot are sent in a second at most: what is read
// for that comes from the leader's disk, and fsyncs wait for it.
const snapshotRate = 64 << 20

// Kinds of what nodes forward to each other; those below are the replica's.
const (
	forwardSessions byte = 16 // package session
	forwardDigests  byte = 17 // package replica
	forwardPlace    byte = 18 // the roster's line of who sends it
)

// newEnsemble makes a node's part, which ends with ctx; run brings it to life.
func newEnsemble(ctx context.Context, n *node, l net.Listener) (*ensemble, error) {
	e := &ensemble{n: n, ctx: ctx, cfg: n.cfg.Ensemble, log: n.log.With().Str("room", "ensemble").Logger(),
		arrived: map[uint64]*snapshot.Received{}, pauses: map[uint64]time.Duration{}, ended: make(chan error, 1)}
	at, err := net.ResolveTCPAddr("tcp", e.cfg.GossipListen)
	if err != nil {
		return nil, fmt.Errorf("%w: the gossip address: %w", ErrConfig, err)
	}
	bind := netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(at.Port))
	if ip, ok := netip.AddrFromSlice(at.IP); ok {
		bind = netip.AddrPortFrom(ip.Unmap(), uint16(at.Port))
	}
	e.self = member{node: n.identity.Node, name: n.cfg.Name, observer: e.cfg.Observer,
		peer: l.Addr().(*net.TCPAddr).Port, client: max(n.port, 0)}
	if e.self.host, err = gossip.Host(ctx, e.advertised(), bind.Addr()); err != nil {
		return nil, fmt.Errorf("%w: the address to advertise: %w", ErrConfig, err)
	}
	if n.onLoopback && !IsLoopback(e.self.host) {
		e.self.client = 0 // clients elsewhere are not served
	}
	conf := gossip.DefaultConfig()
	conf.Self, conf.Label, conf.Secret = e.said(), n.cfg.Cluster, e.cfg.Secret
	conf.Listen, conf.Advertise, conf.Seeds = bind, e.self.host, e.seeds()
	conf.Known = e.known
	conf.Logger = n.log.With().Str("room", "gossip").Logger()
	if e.gossip, err = gossip.New(conf); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for _, seed := range e.cfg.Join {
		if host, _ := splitSeed(seed); e.cfg.isOtherKind(host) {
			e.log.Warn().Str("join", seed).Str("peer_listen", e.cfg.PeerListen).
				Msg("a host to join cannot be reached from where this node listens for the others: one is IPv4, the other IPv6")
		}
	}
	tls, certified, err := peerTLS(e.cfg, n.cfg.Name, e.log)
	if err != nil {
		return nil, err
	}
	self := peer.Identity{Node: n.identity.Node, Boot: n.identity.Boot, Name: n.cfg.Name}
	if n.identity.State == datadir.Member {
		self.Cluster = n.identity.Cluster
	}
	if e.links, err = peer.New(peer.Config{
		Self: self, ClusterName: n.cfg.Cluster, Secret: e.cfg.Secret, Listen: l, Handler: e, Position: e.position, SnapshotRate: snapshotRate,
		Floor: e.floor, Admit: e.admit, TLS: tls, Certified: certified, Dial: dialFrom(l.Addr()), Logger: n.log.With().Str("room", "peer").Logger(),
	}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	e.machine.init(e)
	e.steward = newSteward(e)
	return e, nil
}

// dialFrom dials from the address that a node listens on, if that is a certain one: so
// others, and the rules of a network between them, know it by one address.
func dialFrom(listen net.Addr) func(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	if a, ok := listen.(*net.TCPAddr); ok && !a.IP.IsUnspecified() {
		d.LocalAddr = &net.TCPAddr{IP: a.IP, Zone: a.Zone}
	}
	return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

// advertised is the host at which the flags say that others reach this node, "" if they do
// not: what is asked for, or its own entry in the list of first members while that is
// a name or an address of this machine.
func (e *ensemble) advertised() string {
	if e.cfg.Advertise != "" {
		return e.cfg.Advertise
	}
	for _, f := range e.cfg.Initial {
		host, _, err := splitAddr(f.Addr)
		if f.Name != e.n.cfg.Name || err != nil {
			continue
		}
		ip, err := netip.ParseAddr(host)
		if err != nil || isLocal(ip) {
			return host
		}
	}
	return ""
}

func isLocal(ip netip.Addr) bool {
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip.AsSlice()})
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// seeds are the gossip addresses that the flags name.
func (e *ensemble) seeds() []string {
	seeds := slices.Clone(e.cfg.Join)
	for _, f := range e.cfg.Initial {
		host, _, err := splitAddr(f.Addr)
		if err != nil || f.Name == e.n.cfg.Name {
			continue
		}
		port := f.GossipPort
		if port == 0 {
			port = gossip.DefaultPort
		}
		seeds = append(seeds, hostPort(host, port))
	}
	return seeds
}

// known are the gossip addresses that the state names: a node that starts without
// flags finds the others by them, and tells them where it is now.
func (e *ensemble) known() (seeds []string) {
	r := e.replica.Load()
	if r == nil {
		return nil
	}
	r.View(func(t *tree.Tree, _ *watchTable) {
		known, _ := rosterOf(t)
		for _, m := range known {
			if m.node != e.self.node && m.gossip != 0 {
				seeds = append(seeds, hostPort(m.host, m.gossip))
			}
		}
	})
	return seeds
}

// said is what this node tells in gossip.
func (e *ensemble) said() gossip.Member {
	id := &e.n.identity
	m := gossip.Member{Node: id.Node, Boot: id.Boot, Name: e.n.cfg.Name, Host: e.self.host, PeerPort: uint16(e.self.peer),
		ClientPort: uint16(e.self.client), Role: gossip.Participant, Expect: uint8(e.cfg.Expect), Proto: 1}
	if e.cfg.Observer {
		m.Role = gossip.Observer
	}
	if id.State == datadir.Member {
		m.Cluster, m.State = id.Cluster, byte(founding.Member)
	}
	return m
}

// whereabouts are this node's line of the roster.
func (e *ensemble) whereabouts() member {
	m := e.self
	for _, g := range e.gossip.Members() {
		if g.Node == m.node {
			m.gossip = int(g.GossipPort)
		}
	}
	return m
}

// run takes part until its context ends.
func (e *ensemble) run() error {
	g, ctx := errgroup.WithContext(e.ctx)
	g.Go(func() error {
		if err := e.links.Run(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrPermitted, err)
		}
		return nil
	})
	g.Go(func() error {
		err := e.gossip.Run(ctx, func(at netip.AddrPort) { e.log.Info().Stringer("gossip", at).Msg("gossip begins") })
		if errors.Is(err, syscall.EADDRINUSE) {
			return failure{ErrInUse, fmt.Errorf("the gossip address %s is taken by another process", e.cfg.GossipListen)}
		}
		return err
	})
	g.Go(func() error {
		select {
		case err := <-e.ended:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	err := g.Wait()
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.tasks.Wait()
	return err
}

// end stops the node with an error; the first one counts.
func (e *ensemble) end(err error) {
	select {
	case e.ended <- err:
	default:
	}
}

// task runs f in a goroutine of its own, which must end soon after ctx, unless the
// ensemble has ended.
func (e *ensemble) task(f func(ctx context.Context)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stopped {
		e.tasks.Go(func() { f(e.ctx) })
	}
}

// serve names a replica that from now on is this node's.
func (e *ensemble) serve(r *replica.Replica, k *session.Keeper) {
	e.machine.tell()
	e.links.SetCluster(e.n.identity.Cluster)
	e.keeper.Store(k)
	e.replica.Store(r)
}

// position is where the log ends and the term that this node is in, for the handshake. Peers
// are dialled only once there is a replica, and less than there is must never be said: it
// would cost the node its id.
func (e *ensemble) position() (index, term uint64) {
	r := e.replica.Load()
	if r == nil {
		return 0, 0
	}
	index, _ = e.n.wal.LastIndex() // it has no error
	return index, r.Status().Term  // whoever cuts the log has brought the term before
}

// floor is what the log of a node must have, by what leaders have told in the log: see peer.Config.
func (e *ensemble) floor(node uint64) (index, term uint64) {
	if r := e.replica.Load(); r != nil {
		return r.Floor(node)
	}
	return 0, 0
}

// admit judges who dials: see admission.
func (e *ensemble) admit(theirs peer.Hello) *peer.Refusal {
	return admission.Admit(e.ctx, e.replica.Load(), e.isHeard, theirs)
}

// isHeard says whether there is a link on which a peer can send to this node.
func (e *ensemble) isHeard(node uint64) bool {
	return slices.ContainsFunc(e.links.Stats().Peers, func(p peer.PeerStats) bool { return p.Node == node && p.Inbound })
}

// Raft and the rest of peer.Handler.

// Raft hands raft's messages on.
func (e *ensemble) Raft(from uint64, msgs []*raftpb.Message) {
	if r := e.replica.Load(); r != nil {
		r.StepRaft(from, msgs)
	}
}

// Forward hands on what nodes of coord say to each other.
func (e *ensemble) Forward(from uint64, kind byte, b []byte) {
	r, k := e.replica.Load(), e.keeper.Load()
	switch {
	case r == nil:
	case kind == forwardSessions:
		k.Told(from, bytes.Clone(b))
	case kind == forwardDigests:
		e.steward.compare(from, b)
	case kind == forwardPlace:
		e.steward.place(from, b)
	default:
		r.StepForward(from, kind, b)
	}
}

// Up says that a peer can be reached. It is told where this node is: it may know only
// where that was before, and gossip may not reach it.
func (e *ensemble) Up(node uint64, theirs peer.Hello) {
	e.moves.Add(1)
	e.log.Info().Str("peer", datadir.NodeString(node)).Str("name", theirs.Name).Msg("link to a peer")
	e.links.Forward(node, forwardPlace, roster{e.whereabouts()}.encode(e.n.identity.Boot))
	if r := e.replica.Load(); r != nil {
		r.PeerUp(node)
	}
}

// Down says that it cannot any more.
func (e *ensemble) Down(node uint64, certain bool) {
	e.moves.Add(1)
	if r := e.replica.Load(); r != nil {
		r.PeerDown(node, certain)
	}
}

// Refused learns from refusals what concerns this node itself.
func (e *ensemble) Refused(r *peer.Refusal) {
	if !r.Proven {
		return
	}
	if r.Theirs.Cluster != ([16]byte{}) {
		e.machine.contact(r.Theirs.Cluster, r.Theirs.Expects)
	}
	if e.replica.Load() == nil {
		return
	}
	switch admission.FateOf(r, e.n.identity.Cluster) {
	case admission.Removed:
		if e.admins.Load() > 0 {
			return // the wish may have been this, and its answer is on its way: who dials again is refused again
		}
		e.end(&removedError{reason: "another member says so"})
	case admission.Lost:
		e.end(&lostError{e.n.identity.Cluster, fmt.Errorf("%w: the disk is an older copy of this node's: %s", ErrDamaged, r.Text)})
	default:
	}
}

// Raft's messages, forwards and snapshots to others: replica.Peers.
type carrier struct{ *ensemble }

// Raft carries raft's messages.
func (c carrier) Raft(msgs []*raftpb.Message) { c.links.Raft(msgs) }

// Forward carries a message of the replica.
func (c carrier) Forward(to uint64, kind byte, b []byte) { c.links.Forward(to, kind, b) }

// Leader tells who leads: session.Ensemble.
func (e *ensemble) Leader() (id, term uint64, self bool) {
	r := e.replica.Load()
	if r == nil {
		return 0, 0, false
	}
	st := r.Status()
	return st.Leader, st.Term, st.Leader == e.n.identity.Node && st.Ready
}

// Tell carries a keeper's words: session.Ensemble.
func (e *ensemble) Tell(to uint64, b []byte) { e.links.Forward(to, forwardSessions, b) }

// Links tells whether a link has come or gone: session.Ensemble.
func (e *ensemble) Links() uint64 { return e.moves.Load() }

// listenPeers opens the peer port.
func listenPeers(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, failure{ErrInUse, fmt.Errorf("the peer address %s is taken by another process", addr)}
	case err != nil:
		return nil, fmt.Errorf("%w: listen for peers on %s: %w", ErrConfig, addr, err)
	}
	return l, nil
}

// lostError says that this node has lost what it had acknowledged: it must come back
// as another one.
type lostError struct {
	cluster snapshot.ID
	err     error
}

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// removedError says that the ensemble does without this node, for ever.
type removedError struct {
	reason string
	asked  bool // by this node's operator
}

// divergedError says that this node's state is not what the others' is.
type divergedError struct{ index uint64 }

func (e *divergedError) Error() string {
	return fmt.Sprintf("the state of this node differs from the others' at entry %d of the log: it must not serve it", e.index)
}
func (e *divergedError) Unwrap() error { return ErrDamaged }

func (e *removedError) Error() string { return "this node was removed from its cluster: " + e.reason }
func (e *removedError) Unwrap() error { return ErrForeign }

// retryTime is between two tries of what needs others.
const retryTime = 500 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func parseNode(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }
