package peer

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counts since New, unless a field says otherwise.
type Stats struct {
	Peers       []PeerStats
	Refused     map[Code]uint64 // handshakes refused, by either side
	Strangers   uint64          // connections that never sent a hello, or broke off
	Crowded     uint64          // connections closed unread: too many half open
	Damaged     uint64          // connections ended because of damaged data on them
	Replaced    uint64          // links ended by a newer link of the same node
	Messages    uint64          // raft messages received
	Forwards    uint64          // received
	Dropped     uint64          // raft messages that had no link, or no room
	Unforwarded uint64          // forwards that had no link, or no room
	Oversized   uint64          // raft messages that fit in no frame
	HalfOpen    int             // connections that have no verdict now
}

// PeerStats are the counts for one peer.
type PeerStats struct {
	Node                       uint64
	Addrs                      []string
	Up                         bool // this node can send to it
	Inbound                    bool // it can send to this node
	Boot                       uint64
	Links                      uint64 // links that have been up
	SentMessages, SentForwards uint64
	SentBytes                  uint64
	Dropped                    uint64
	Waiting, WaitingBytes      int // in the queue
}

// Stats returns the counts.
func (l *Links) Stats() Stats {
	c := &l.counts
	s := Stats{
		Refused: map[Code]uint64{}, Strangers: c.strangers.Load(), Crowded: c.crowded.Load(), Damaged: c.damaged.Load(),
		Replaced: c.replaced.Load(), Messages: c.messages.Load(), Forwards: c.forwards.Load(), Dropped: c.dropped.Load(),
		Unforwarded: c.unforwarded.Load(), Oversized: c.oversized.Load(),
	}
	for i := range c.codes {
		if n := c.codes[i].Load(); n > 0 {
			s.Refused[Code(i)] = n
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.HalfOpen = l.mu.halfOpens
	for id, p := range l.mu.peers {
		if p.removed {
			continue
		}
		q := PeerStats{
			Node: id, Addrs: p.addrs, Up: p.isUp.Load(), Inbound: l.mu.inbound[id] != nil, Boot: l.mu.boots[id],
			Links: p.links.Load(), SentMessages: p.sentMessages.Load(), SentForwards: p.sentForwards.Load(),
			SentBytes: p.sentBytes.Load(), Dropped: p.dropped.Load(),
		}
		q.Waiting, q.WaitingBytes = p.queue.waiting()
		s.Peers = append(s.Peers, q)
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int { return cmp.Compare(a.Node, b.Node) })
	return s
}

type counts struct {
	strangers, crowded, damaged, replaced atomic.Uint64
	messages, forwards                    atomic.Uint64
	dropped, unforwarded, oversized       atomic.Uint64
	codes                                 [len(codeNames)]atomic.Uint64 // [0]: codes of a newer version
}

func (c *counts) refused(code Code) {
	if int(code) >= len(c.codes) {
		code = 0
	}
	c.codes[code].Add(1)
}

// crier lets trouble with each address be logged once a minute, and tells only maxCries addresses
// apart.
type crier struct {
	mu    sync.Mutex
	hosts map[string]*cry
}

type cry struct {
	at    time.Time
	since uint64 // times that were not logged
}

const (
	cryTime  = time.Minute
	maxCries = 256 // addresses that are told apart; the others share one entry
)

// may says whether to log now, and how often there was trouble since the last log line.
func (c *crier) may(host string, now time.Time) (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts == nil {
		c.hosts = map[string]*cry{}
	}
	y := c.hosts[host]
	if y == nil && len(c.hosts) >= maxCries {
		for h, y := range c.hosts {
			if now.Sub(y.at) >= cryTime {
				delete(c.hosts, h)
			}
		}
		if len(c.hosts) >= maxCries {
			host = ""
			y = c.hosts[host]
		}
	}
	if y == nil {
		y = &cry{}
		c.hosts[host] = y
	}
	y.since++
	if !y.at.IsZero() && now.Sub(y.at) < cryTime {
		return 0, false
	}
	n := y.since
	y.at, y.since = now, 0
	return n, true
}
