// Package gossip shows which nodes seem to be there and at which addresses. It uses memberlist. All
// of this is only hints: whoever has the secret can claim anything, news may be old, and a silent
// node may be alive. So gossip selects which nodes to dial and nothing else. Voters change by a
// committed entry, and a node proves its identity to its peers.
//
// memberlist knows a node by its id and its boot counter, so that a node that comes back at another address
// is a new member and not a conflict; of several boots of a node the highest counts. The cluster's name is
// memberlist's label. If the cluster has a secret, traffic is encrypted with a key derived from it.
package gossip

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// DefaultPort is the port of a seed that names none.
const DefaultPort = 2889

// The values of Member.Role: what a node wants to be once it is a member.
const (
	Participant byte = 1 // a voter, when there is room for one
	Observer    byte = 2
)

// Member is what a node announces about itself.
type Member struct {
	Node, Boot uint64
	Cluster    [16]byte // zero: blank
	Name, Host string   // Name is for people; Host is where peers and clients reach the node, "" for its gossip address
	GossipPort uint16   // gossip sets it
	PeerPort   uint16
	ClientPort uint16
	Role       byte
	State      byte
	Expect     uint8  // how many blank nodes it wants to found an ensemble with
	View       uint64 // a hash of the nodes that it sees
	Proto      uint8
}

// Config of a Gossip.
type Config struct {
	Self      Member // as it is at the start, see Update
	Label     string // the cluster's name
	Secret    []byte // of the cluster; none: traffic is not encrypted
	Listen    netip.AddrPort
	Advertise string   // a host or an address; "" for one of this host's addresses
	Seeds     []string // HOST[:PORT]
	// Known returns more seeds before each round of calls; nil: there are none. Any goroutine may call it.
	Known func() []string
	// Probe is how often a member is asked whether it is alive, and the unit of all other times of
	// memberlist. A silent member counts as gone after some six probes.
	Probe time.Duration
	// Rejoin is how often seeds and members that are gone are called again; the interval varies
	// randomly up to twice that.
	Rejoin time.Duration
	Logger zerolog.Logger
}

// DefaultConfig has intervals for a few nodes that also have links to each other. With a probe each
// second, as usual for many nodes on a local network, probing took a quarter of what an idle node uses.
func DefaultConfig() Config { return Config{Probe: 2 * time.Second, Rejoin: 15 * time.Second} }

const (
	// memory is how long a member that is gone is still called. memberlist forgets it after half a
	// minute; without memory, the two halves of a partitioned cluster would never find each other again.
	memory = 24 * time.Hour
	// maxMembers bounds how many boots, not nodes, are remembered.
	maxMembers = 1024
	// maxJoins bounds the addresses that one round calls.
	maxJoins       = 64
	resolveTimeout = 5 * time.Second
	leaveTimeout   = time.Second
	streamTimeout  = 5 * time.Second
	labelMax       = memberlist.LabelMaxSize
)

// Validate returns what is wrong with a Config.
func (c *Config) Validate() error {
	switch {
	case len(c.Label) > labelMax:
		return fmt.Errorf("gossip: the cluster name has %d bytes, the limit is %d", len(c.Label), labelMax)
	case !c.Listen.IsValid():
		return errors.New("gossip: no address to listen on")
	case c.Probe <= 0 || c.Rejoin <= 0:
		return errors.New("gossip: the probe and rejoin intervals must be positive")
	}
	return c.Self.check()
}

// Gossip is one member. Any goroutine may call its methods, whether Run is running or not.
type Gossip struct {
	cfg     Config
	members members
	updated chan struct{} // holds one
}

// New makes a member that takes part while Run runs.
func New(cfg Config) (*Gossip, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, updated: make(chan struct{}, 1)}
	g.members.init(cfg.Self)
	return g, nil
}

// Members are the nodes that seem to be alive, this node among them: each once, with its newest
// boot, in the order of their ids.
func (g *Gossip) Members() []Member { return g.members.list() }

// Changed has something to receive after Members has changed. A receiver that calls Update in
// response does not wake itself up for ever, because an Update without a change is no news.
func (g *Gossip) Changed() <-chan struct{} { return g.members.changed }

// Update changes what this node announces about itself, except its id and boot, which are its name,
// and its gossip port. An Update without a change is not announced.
func (g *Gossip) Update(m Member) error {
	m.Node, m.Boot = g.cfg.Self.Node, g.cfg.Self.Boot
	if err := m.check(); err != nil {
		return err
	}
	if g.members.setSelf(m) {
		select {
		case g.updated <- struct{}{}:
		default:
		}
	}
	return nil
}

// Run takes part until ctx ends, and then tells the others that it leaves. It calls ready with the
// address on which it listens.
func (g *Gossip) Run(ctx context.Context, ready func(netip.AddrPort)) error {
	logger := newLogger(g.cfg.Logger)
	dial, hangUp := context.WithCancel(context.Background())
	defer hangUp()
	t, port, err := listen(dial, g.cfg.Listen, logger)
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	ip, err := advertised(ctx, g.cfg.Advertise, g.cfg.Listen.Addr(), net.InterfaceAddrs)
	if err != nil {
		return fmt.Errorf("gossip: the address to advertise: %w", errors.Join(err, t.Shutdown()))
	}
	self := netip.AddrPortFrom(ip, port)
	g.members.setPort(port)
	conf, err := g.config(t, self, logger)
	if err != nil {
		return errors.Join(err, t.Shutdown())
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		return fmt.Errorf("gossip: %w", errors.Join(err, t.Shutdown()))
	}
	ready(netip.AddrPortFrom(g.cfg.Listen.Addr(), port))

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.announce(ctx, list) })
	group.Go(func() error { return g.rejoin(ctx, list, self) })
	group.Go(func() error { <-ctx.Done(); hangUp(); return nil })
	err = group.Wait()
	// Leave waits for its broadcast; it would panic after Shutdown.
	if err := list.Leave(leaveTimeout); err != nil {
		g.cfg.Logger.Debug().Err(err).Msg("other nodes may not have received the leave message")
	}
	return errors.Join(err, list.Shutdown())
}

// config makes memberlist's configuration. It always sets the name, the advertised address and the logger
// itself: memberlist would choose the host's name, no address on a host that is offline, and stderr.
func (g *Gossip) config(t transport, self netip.AddrPort, logger *log.Logger) (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.Name = gossipName(g.cfg.Self.Node, g.cfg.Self.Boot)
	c.Label = g.cfg.Label
	c.Transport = t
	c.BindAddr, c.BindPort = g.cfg.Listen.Addr().String(), int(self.Port())
	c.AdvertiseAddr, c.AdvertisePort = self.Addr().String(), int(self.Port())
	c.Logger = logger
	c.EnableCompression = false
	c.Delegate, c.Events, c.Alive = &g.members, &g.members, &g.members
	c.TCPTimeout = streamTimeout
	c.ProbeInterval, c.ProbeTimeout = g.cfg.Probe, g.cfg.Probe/2
	c.GossipInterval = g.cfg.Probe / 2
	c.PushPullInterval, c.GossipToTheDeadTime = 30*g.cfg.Probe, 30*g.cfg.Probe
	if len(g.cfg.Secret) > 0 {
		key, err := hkdf.Key(sha256.New, g.cfg.Secret, nil, "coord gossip 1", 32)
		if err != nil {
			return nil, fmt.Errorf("gossip: %w", err)
		}
		c.SecretKey = key
	}
	return c, nil
}

// gossipName is a node's name in memberlist, another one for each boot.
func gossipName(node, boot uint64) string { return fmt.Sprintf("%016x.%d", node, boot) }

// announce tells the others what Update has changed.
func (g *Gossip) announce(ctx context.Context, list *memberlist.Memberlist) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.updated:
			if err := list.UpdateNode(leaveTimeout); err != nil {
				g.cfg.Logger.Debug().Err(err).Msg("other nodes may not have received the update yet")
			}
		}
	}
}

// rejoin calls the seeds and the members that are gone, again and again: more often while no other member is there.
func (g *Gossip) rejoin(ctx context.Context, list *memberlist.Memberlist, self netip.AddrPort) error {
	for soon := g.cfg.Rejoin / 16; ; soon = min(2*soon, g.cfg.Rejoin) {
		for _, addr := range g.absent(ctx, self) {
			if ctx.Err() != nil {
				return nil
			}
			// The events show whether it was one of ours; the count that Join returns includes this node itself.
			if _, err := list.Join([]string{addr.String()}); err != nil {
				g.cfg.Logger.Debug().Err(err).Str("addr", addr.String()).Msg("no node answered")
			}
		}
		wait := g.cfg.Rejoin
		if len(g.Members()) < 2 {
			wait = soon
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait + rand.N(wait)):
		}
	}
}

// absent returns the addresses of seeds and remembered members at which no living member is known.
func (g *Gossip) absent(ctx context.Context, self netip.AddrPort) (addrs []netip.AddrPort) {
	alive, gone := g.members.addresses(time.Now())
	seeds := g.cfg.Seeds
	if g.cfg.Known != nil {
		seeds = slices.Concat(seeds, g.cfg.Known())
	}
	for _, seed := range seeds {
		at, err := resolveSeed(ctx, seed)
		if err != nil {
			g.cfg.Logger.Debug().Err(err).Str("seed", seed).Msg("cannot resolve a seed address")
			continue
		}
		addrs = append(addrs, at...)
	}
	addrs = append(addrs, gone...)
	slices.SortFunc(addrs, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	addrs = slices.DeleteFunc(slices.Compact(addrs), func(a netip.AddrPort) bool { return a == self || slices.Contains(alive, a) })
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs[:min(len(addrs), maxJoins)]
}
