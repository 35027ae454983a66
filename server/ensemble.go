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

// ensemble is a node's part in an ensemble. It connects the rooms that know one thing each: peer
// carries bytes, gossip shows which nodes seem to be there, founding says how an ensemble begins,
// replica keeps the log. The steward does what takes time.
//
// It lives longer than the replica: a node must be a member before it has a log, and founding and joining
// use the same links. The links are told of peers only when there is a replica that can hear from them.
type ensemble struct {
	n      *node
	cfg    *Ensemble
	log    zerolog.Logger
	links  *peer.Links
	gossip *gossip.Gossip
	self   member // as other nodes are told
	ctx    context.Context

	machine machine
	replica atomic.Pointer[replica.Replica]
	keeper  atomic.Pointer[session.Keeper]
	steward *steward
	admins  atomic.Int32  // operators' requests under way through this node
	moves   atomic.Uint64 // how often a link to a peer has come or gone

	store   atomic.Pointer[snapshot.Store]
	ended   chan error // of one: why the node must stop
	mu      sync.Mutex // guards the fields below
	arrived map[uint64]*snapshot.Received
	taken   uint64                   // index of the last snapshot that raft has asked for
	pauses  map[uint64]time.Duration // by node: the pause after the last snapshot that did not reach it
	stopped bool
	tasks   sync.WaitGroup // what run waits for
}

// snapshotRate is the most bytes of a snapshot that are sent in a second: they are read from the
// leader's disk, and fsyncs wait for those reads.
const snapshotRate = 64 << 20

// Kinds of messages that nodes forward to each other; smaller numbers are the replica's.
const (
	forwardSessions byte = 16 // package session
	forwardDigests  byte = 17 // package replica
	forwardPlace    byte = 18 // the sender's own line of the roster
)

// newEnsemble makes a node's part, which ends with ctx; run starts it.
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
		e.self.client = 0 // clients on other hosts are not served
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
				Msg("a host to join cannot be reached from this node's peer address: one is IPv4, the other IPv6")
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

// dialFrom dials from the address that a node listens on, if that is a specific one. So the other
// nodes, and the rules of a network between them, know this node by one address.
func dialFrom(listen net.Addr) func(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	if a, ok := listen.(*net.TCPAddr); ok && !a.IP.IsUnspecified() {
		d.LocalAddr = &net.TCPAddr{IP: a.IP, Zone: a.Zone}
	}
	return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

// advertised is the host at which others reach this node according to the flags, "" if they do not
// say: the advertised one, or the host of this node's own entry in the list of first members if
// that is a name or an address of this machine.
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

// known are the gossip addresses in the state's roster: a node that starts without flags finds the
// others by them, and tells them where it is now.
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

// said is what this node announces in gossip.
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

// whereabouts is this node's line of the roster.
func (e *ensemble) whereabouts() member {
	m := e.self
	for _, g := range e.gossip.Members() {
		if g.Node == m.node {
			m.gossip = int(g.GossipPort)
		}
	}
	return m
}

// run takes part in the ensemble until its context ends.
func (e *ensemble) run() error {
	g, ctx := errgroup.WithContext(e.ctx)
	g.Go(func() error {
		if err := e.links.Run(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrPermitted, err)
		}
		return nil
	})
	g.Go(func() error {
		err := e.gossip.Run(ctx, func(at netip.AddrPort) { e.log.Info().Stringer("gossip", at).Msg("gossip started") })
		if errors.Is(err, syscall.EADDRINUSE) {
			return failure{ErrInUse, fmt.Errorf("the gossip address %s is in use by another process", e.cfg.GossipListen)}
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

// end stops the node with an error; the first error counts.
func (e *ensemble) end(err error) {
	select {
	case e.ended <- err:
	default:
	}
}

// task runs f in a goroutine of its own, unless the ensemble has ended. f must return soon after ctx ends.
func (e *ensemble) task(f func(ctx context.Context)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stopped {
		e.tasks.Go(func() { f(e.ctx) })
	}
}

// serve makes r and k the replica and the keeper of this node from now on.
func (e *ensemble) serve(r *replica.Replica, k *session.Keeper) {
	e.machine.tell()
	e.links.SetCluster(e.n.identity.Cluster)
	e.keeper.Store(k)
	e.replica.Store(r)
}

// position is the last index of the log and the current term, for the handshake. It must never
// report less than this node has: that would cost the node its id. It reports 0, 0 only before
// there is a replica, and peers are dialled only after that.
func (e *ensemble) position() (index, term uint64) {
	r := e.replica.Load()
	if r == nil {
		return 0, 0
	}
	index, _ = e.n.wal.LastIndex() // it never fails
	return index, r.Status().Term  // the term is at least that of any leader that has cut the log
}

// floor is what leaders have recorded in the log about how far a node's own log must reach: see peer.Config.
func (e *ensemble) floor(node uint64) (index, term uint64) {
	if r := e.replica.Load(); r != nil {
		return r.Floor(node)
	}
	return 0, 0
}

// admit decides whether a node that dials may link with this one: see admission.
func (e *ensemble) admit(theirs peer.Hello) *peer.Refusal {
	return admission.Admit(e.ctx, e.replica.Load(), e.isHeard, theirs)
}

// isHeard says whether there is a link on which a peer can send to this node.
func (e *ensemble) isHeard(node uint64) bool {
	return slices.ContainsFunc(e.links.Stats().Peers, func(p peer.PeerStats) bool { return p.Node == node && p.Inbound })
}

// Raft and the other methods of peer.Handler.

// Raft passes raft's messages to the replica.
func (e *ensemble) Raft(from uint64, msgs []*raftpb.Message) {
	if r := e.replica.Load(); r != nil {
		r.StepRaft(from, msgs)
	}
}

// Forward passes a message of another node to the room that its kind names.
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

// Up says that a peer can be reached. This node tells it where it is: the peer may know only an
// earlier address, and gossip may not reach it.
func (e *ensemble) Up(node uint64, theirs peer.Hello) {
	e.moves.Add(1)
	e.log.Info().Str("peer", datadir.NodeString(node)).Str("name", theirs.Name).Msg("connected to peer")
	e.links.Forward(node, forwardPlace, roster{e.whereabouts()}.encode(e.n.identity.Boot))
	if r := e.replica.Load(); r != nil {
		r.PeerUp(node)
	}
}

// Down says that a peer cannot be reached any more.
func (e *ensemble) Down(node uint64, certain bool) {
	e.moves.Add(1)
	if r := e.replica.Load(); r != nil {
		r.PeerDown(node, certain)
	}
}

// Refused acts on a refusal as far as it concerns this node itself.
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
			return // perhaps the operator asked for this removal and its answer is on its way; a node that dials again is refused again
		}
		e.end(&removedError{reason: "reported by another member"})
	case admission.Lost:
		e.end(&lostError{e.n.identity.Cluster, fmt.Errorf("%w: the data folder is an older copy of this node's data: %s", ErrDamaged, r.Text)})
	default:
	}
}

// carrier sends raft's messages, forwards and snapshots to other nodes: replica.Peers.
type carrier struct{ *ensemble }

// Raft sends raft's messages.
func (c carrier) Raft(msgs []*raftpb.Message) { c.links.Raft(msgs) }

// Forward sends a message of the replica.
func (c carrier) Forward(to uint64, kind byte, b []byte) { c.links.Forward(to, kind, b) }

// Leader returns who leads: session.Ensemble.
func (e *ensemble) Leader() (id, term uint64, self bool) {
	r := e.replica.Load()
	if r == nil {
		return 0, 0, false
	}
	st := r.Status()
	return st.Leader, st.Term, st.Leader == e.n.identity.Node && st.Ready
}

// Tell sends a message of the keeper: session.Ensemble.
func (e *ensemble) Tell(to uint64, b []byte) { e.links.Forward(to, forwardSessions, b) }

// Links counts how often a link has come or gone: session.Ensemble.
func (e *ensemble) Links() uint64 { return e.moves.Load() }

// listenPeers opens the peer port.
func listenPeers(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, failure{ErrInUse, fmt.Errorf("the peer address %s is in use by another process", addr)}
	case err != nil:
		return nil, fmt.Errorf("%w: listen for peers on %s: %w", ErrConfig, addr, err)
	}
	return l, nil
}

// lostError says that this node has lost data that it had acknowledged: it must come back as another one.
type lostError struct {
	cluster snapshot.ID
	err     error
}

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// removedError says that this node is no longer a member of the ensemble, and never will be again.
type removedError struct {
	reason string
	asked  bool // by this node's operator
}

// divergedError says that this node's state differs from that of the others.
type divergedError struct{ index uint64 }

func (e *divergedError) Error() string {
	return fmt.Sprintf("the state of this node differs from that of the others at log entry %d: it must not be served", e.index)
}
func (e *divergedError) Unwrap() error { return ErrDamaged }

func (e *removedError) Error() string { return "this node was removed from its cluster: " + e.reason }
func (e *removedError) Unwrap() error { return ErrForeign }

// retryTime is the pause between two attempts at what needs other nodes.
const retryTime = 500 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func parseNode(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }
