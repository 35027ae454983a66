package frontend

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"coord/server/watch"
	"coord/tree"
)

// stats count since the start, or since the last srst.
type stats struct {
	received, sent           atomic.Int64 // requests, answers
	bytesReceived, bytesSent atomic.Int64
	rejected, unheard        atomic.Int64 // connections: too many from an address; without a first line in time
	reads                    Latencies    // of requests that are answered from the state
	updates                  Latencies    // of writes
	sizes                    sharedSizes  // of answers

	// srst does not reset these.
	slow, authFailed, protocolErrors atomic.Int64
	limitsReached, writes            atomic.Int64
}

// reset resets what srst resets.
func (s *stats) reset() {
	for _, x := range []*atomic.Int64{&s.received, &s.sent, &s.bytesReceived, &s.bytesSent, &s.rejected, &s.unheard} {
		x.Store(0)
	}
	s.reads.reset()
	s.updates.reset()
	s.sizes.reset()
}

func (s *stats) wrote(took time.Duration) {
	s.writes.Add(1)
	s.updates.AddTime(took)
}

// latency returns the latencies of reads and writes together, in milliseconds, as ZooKeeper shows
// them.
func (s *stats) latency() (least int64, avg float64, most int64) {
	reads, updates := s.reads.n.Load(), s.updates.n.Load()
	if n := reads + updates; n > 0 {
		avg = float64(s.reads.sum.Load()+s.updates.sum.Load()) / float64(n) / 1000
	}
	for _, l := range []*Latencies{&s.reads, &s.updates} {
		if x := l.least.Load(); x > 0 && (least == 0 || x < least) {
			least = x
		}
	}
	return max(least-1, 0) / 1000, avg, roundUp(max(s.reads.most.Load(), s.updates.most.Load()), 1000)
}

// load counts the connections and the requests that wait in their queues.
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

// mode is the node's role in ZooKeeper's words. A candidate still serves reads like the follower
// that it was; SetLeaderless handles a leader that has been missing for too long.
func (s *Server) mode() string {
	switch _, _, role, _ := s.cfg.Node.Hello(); role {
	case "standby":
		return modeObserver
	case "candidate":
		return modeFollower
	default:
		return role
	}
}

// The modes that are used here.
const (
	modeLeader     = "leader"
	modeFollower   = "follower"
	modeObserver   = "observer"
	modeStandalone = "standalone"
)

// peerStates are the values of mntr's peer_state, by mode, while there is a leader.
var peerStates = map[string]string{
	modeLeader: "leading - broadcast", modeFollower: "following - broadcast", modeObserver: "observing - broadcast",
}

// peerLooking is the value without a leader.
const peerLooking = "looking"

// facts are all lines of mntr: keys without zk_, values without type.
func (s *Server) facts() []Fact {
	var counts tree.Counts
	var watches int
	s.cfg.Backend.View(func(t *tree.Tree, w *watch.Table) { counts, watches = t.Counts(), w.Len() })
	st := &s.stats
	least, avg, most := st.latency()
	conns, outstanding := s.load()
	n := func(x int64) string { return strconv.FormatInt(x, 10) }
	size := func(x *atomic.Int64) string { // -1 is ZooKeeper's value for none yet
		if have := x.Load(); have > 0 {
			return n(have)
		}
		return "-1"
	}
	mode := s.mode()
	facts := []Fact{
		{"version", s.zkVersion()},
		{"server_state", mode},
		{"avg_latency", decimal(avg)},
		{"max_latency", n(most)},
		{"min_latency", n(least)},
		{"packets_received", n(st.received.Load())},
		{"packets_sent", n(st.sent.Load())},
		{"num_alive_connections", n(int64(conns))},
		{"outstanding_requests", n(int64(outstanding))},
		{"znode_count", n(int64(counts.Znodes))},
		{"watch_count", n(int64(watches))},
		{"ephemerals_count", n(int64(counts.Ephemerals))},
		{"approximate_data_size", n(counts.DataBytes)},
		{"global_sessions", n(int64(counts.Sessions))},
		{"local_sessions", "0"}, // every session is part of the replicated state
		{"connection_rejected", n(st.rejected.Load())},
		{"connection_drop_probability", "0.0"}, // nothing is dropped at random
		{"sessionless_connections_expired", n(st.unheard.Load())},
		{"auth_failed_count", n(st.authFailed.Load())},
		{"last_client_response_size", size(&st.sizes.last)},
		{"max_client_response_size", size(&st.sizes.most)},
		{"min_client_response_size", size(&st.sizes.least)},
		{"bytes_received_count", n(st.bytesReceived.Load())},
		{"response_bytes", n(st.bytesSent.Load())},
		{"coord_slow_clients", n(st.slow.Load())},
		{"coord_limits_reached", n(st.limitsReached.Load())},
		{"coord_protocol_errors", n(st.protocolErrors.Load())},
		{"coord_writes", n(st.writes.Load())},
	}
	if state := peerStates[mode]; state != "" {
		if !s.cfg.Node.HasLeader() {
			state = peerLooking
		}
		facts = slices.Insert(facts, 2, Fact{"peer_state", state})
	}
	facts = append(facts, s.cfg.Node.Facts()...)
	facts = append(facts, st.reads.facts("readlatency")...)
	return append(facts, st.updates.facts("updatelatency")...)
}

// decimal formats as ZooKeeper does: with one to four decimal places.
func decimal(x float64) string {
	s := strings.TrimRight(strconv.FormatFloat(x, 'f', 4, 64), "0")
	if strings.HasSuffix(s, ".") {
		s += "0"
	}
	return s
}
