package frontend

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"coord/server/watch"
	"coord/tree"
)

// stats count since the start.
type stats struct {
	received, sent             atomic.Int64 // requests, answers
	rejected, slow             atomic.Int64
	authFailed, protocolErrors atomic.Int64
	limitsReached              atomic.Int64

	// Of writes. Only dones change these, the state lock held.
	writes                 atomic.Int64
	latencySum, latencyMax atomic.Int64 // µs
	latencyMin             atomic.Int64 // µs + 1; 0 for none yet
}

func (s *stats) wrote(since time.Time) {
	us := time.Since(since).Microseconds()
	s.writes.Store(s.writes.Load() + 1)
	s.latencySum.Store(s.latencySum.Load() + us)
	if us > s.latencyMax.Load() {
		s.latencyMax.Store(us)
	}
	if least := s.latencyMin.Load(); least == 0 || us+1 < least {
		s.latencyMin.Store(us + 1)
	}
}

// latency is in milliseconds, as ZooKeeper shows it.
func (s *stats) latency() (least int64, avg float64, most int64) {
	if n := s.writes.Load(); n > 0 {
		avg = float64(s.latencySum.Load()) / float64(n) / 1000
		least = max(s.latencyMin.Load()-1, 0) / 1000
	}
	return least, avg, s.latencyMax.Load() / 1000
}

// load counts the connections, and the requests that wait in them.
func (s *Server) load() (conns, outstanding int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		c.mu.Lock()
		outstanding += len(c.mu.queue) - c.mu.head
		c.mu.Unlock()
	}
	return len(s.mu.conns), outstanding
}

// mode is the node's role in ZooKeeper's words.
func (s *Server) mode() string {
	_, _, role, _ := s.cfg.Node.Hello()
	return role
}

// facts are all lines of mntr, keys without zk_, values without type.
func (s *Server) facts() []Fact {
	var counts tree.Counts
	var watches int
	s.cfg.Backend.View(func(t *tree.Tree, w *watch.Table) { counts, watches = t.Counts(), w.Len() })
	least, avg, most := s.stats.latency()
	conns, outstanding := s.load()
	n := func(x int64) string { return strconv.FormatInt(x, 10) }
	facts := []Fact{
		{"version", s.zkVersion()},
		{"server_state", s.mode()},
		{"avg_latency", decimal(avg)},
		{"max_latency", n(most)},
		{"min_latency", n(least)},
		{"packets_received", n(s.stats.received.Load())},
		{"packets_sent", n(s.stats.sent.Load())},
		{"num_alive_connections", n(int64(conns))},
		{"outstanding_requests", n(int64(outstanding))},
		{"znode_count", n(int64(counts.Znodes))},
		{"watch_count", n(int64(watches))},
		{"ephemerals_count", n(int64(counts.Ephemerals))},
		{"approximate_data_size", n(counts.DataBytes)},
		{"global_sessions", n(int64(counts.Sessions))},
		{"connection_rejected", n(s.stats.rejected.Load())},
		{"auth_failed_count", n(s.stats.authFailed.Load())},
		{"coord_slow_clients", n(s.stats.slow.Load())},
		{"coord_limits_reached", n(s.stats.limitsReached.Load())},
		{"coord_protocol_errors", n(s.stats.protocolErrors.Load())},
		{"coord_writes", n(s.stats.writes.Load())},
	}
	return append(facts, s.cfg.Node.Facts()...)
}

// decimal prints as ZooKeeper does: up to four places, at least one.
func decimal(x float64) string {
	s := strings.TrimRight(strconv.FormatFloat(x, 'f', 4, 64), "0")
	if strings.HasSuffix(s, ".") {
		s += "0"
	}
	return s
}
