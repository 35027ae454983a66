package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// members is what is known about all nodes, and memberlist's delegate. memberlist calls it with its
// own lock held, so it copies what it needs, takes only a leaf lock and calls nothing.
type members struct {
	changed chan struct{} // holds one

	mu struct {
		sync.Mutex
		self  Member
		known map[string]*known // by the name in memberlist
	}
}

// known is one boot of a node.
type known struct {
	Member
	addr netip.AddrPort
	gone time.Time // zero: it seems to be alive
}

func (s *members) init(self Member) {
	s.changed = make(chan struct{}, 1)
	s.mu.self = self
	s.mu.known = map[string]*known{}
}

func (s *members) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// setSelf says whether m changes what this node announces.
func (s *members) setSelf(m Member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.GossipPort = s.mu.self.GossipPort
	if m == s.mu.self {
		return false
	}
	s.mu.self = m
	s.tell()
	return true
}

func (s *members) setPort(port uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.self.GossipPort = port
}

// foreign says whether a member belongs to another ensemble than this node. A blank node belongs to
// none. mu is held.
func (s *members) foreign(m *Member) bool {
	ours := s.mu.self.Cluster
	return ours != [16]byte{} && m.Cluster != [16]byte{} && ours != m.Cluster
}

// newest is the last known boot of each node, alive or not. mu is held.
func (s *members) newest() map[uint64]*known {
	last := map[uint64]*known{}
	for _, k := range s.mu.known {
		if l := last[k.Node]; l == nil || l.Boot < k.Boot {
			last[k.Node] = k
		}
	}
	return last
}

func (s *members) list() []Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Member{s.mu.self}
	for node, k := range s.newest() {
		if node != s.mu.self.Node && k.gone.IsZero() && !s.foreign(&k.Member) {
			m := k.Member
			if m.Host == "" {
				m.Host = k.addr.Addr().String()
			}
			if m.GossipPort == 0 {
				m.GossipPort = k.addr.Port()
			}
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// addresses returns those of living members, and those of members that are gone and worth a call.
// It forgets what is too old.
func (s *members) addresses(now time.Time) (alive, gone []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.newest()
	for name, k := range s.mu.known {
		switch {
		case k.gone.IsZero():
			alive = append(alive, k.addr)
		case newest[k.Node] != k || now.Sub(k.gone) > memory:
			delete(s.mu.known, name)
		case k.Node != s.mu.self.Node && !s.foreign(&k.Member):
			gone = append(gone, k.addr)
		}
	}
	return alive, gone
}

// NotifyAlive refuses members that are not ours: memberlist.AliveDelegate.
func (s *members) NotifyAlive(n *memberlist.Node) error {
	m, err := decodeMember(n.Meta)
	if err != nil {
		return err
	}
	if n.Name != gossipName(m.Node, m.Boot) {
		return errors.New("its name does not match its node id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.known[n.Name]
	if s.foreign(&m) {
		if k != nil && k.Cluster != m.Cluster { // it was blank; memberlist keeps the old entry
			k.Member = m
			s.tell()
		}
		return fmt.Errorf("it belongs to ensemble %x", m.Cluster)
	}
	if k == nil && len(s.mu.known) >= maxMembers {
		return fmt.Errorf("more than %d members", maxMembers)
	}
	return nil
}

// NotifyJoin, NotifyUpdate and NotifyLeave are memberlist.EventDelegate.
func (s *members) NotifyJoin(n *memberlist.Node) { s.note(n) }

// NotifyUpdate does what NotifyJoin does, for a known member.
func (s *members) NotifyUpdate(n *memberlist.Node) { s.note(n) }

func (s *members) note(n *memberlist.Node) {
	m, err := decodeMember(n.Meta)
	ip, ok := netip.AddrFromSlice(n.Addr)
	if err != nil || !ok {
		return // NotifyAlive has refused it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := known{Member: m, addr: netip.AddrPortFrom(ip.Unmap(), n.Port)}
	if k := s.mu.known[n.Name]; k == nil || *k != now {
		s.mu.known[n.Name] = &now
		s.tell()
	}
}

// NotifyLeave is called for members that left and for members that fell silent.
func (s *members) NotifyLeave(n *memberlist.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.mu.known[n.Name]; k != nil && k.gone.IsZero() {
		k.gone = time.Now()
		s.tell()
	}
}

// NodeMeta is what this node announces about itself: memberlist.Delegate.
func (s *members) NodeMeta(limit int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.mu.self.encode()
	if len(b) > limit {
		panic(fmt.Sprintf("gossip: metadata of %d bytes is over the limit", len(b)))
	}
	return b
}

// We send no data of our own along.

// NotifyMsg is not used.
func (s *members) NotifyMsg([]byte) {}

// GetBroadcasts is not used.
func (s *members) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is not used.
func (s *members) LocalState(bool) []byte { return nil }

// MergeRemoteState is not used.
func (s *members) MergeRemoteState([]byte, bool) {}
