package frontend

import (
	"net"
	"time"
)

// Percentiles returns the percentiles of the given times, as mntr shows them.
func Percentiles(ms []int) (p50, p99, most int64) {
	var l Latencies
	for _, x := range ms {
		l.add(1, time.Duration(x)*time.Millisecond)
	}
	return l.Percentile(500) / 1000, l.Percentile(990) / 1000, l.most.Load() / 1000
}

// FallBehind makes a server's connections fall behind at the first waiting event, and catch up in
// pages of a few events.
func FallBehind(s *Server) { s.pace = pace{waiting: 1, page: 100} }

// Connections counts the connections that the server has not finished.
func Connections(s *Server) int {
	n, _ := s.load()
	return n
}

// Leftovers returns what a server without connections must not have: bytes of events, and locks
// that a client waits for.
func Leftovers(s *Server) (eventBytes int64, locks int) {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	return s.eventBytes.Load(), len(s.locks.waiting)
}

// PeerState returns what the kernel knows of the remote end.
func PeerState(nc net.Conn) string {
	return [...]string{peerThere: "there", peerShut: "shut", peerGone: "gone"}[peerState(nc)]
}

// Rushing counts the connections whose clients rush.
func Rushing(s *Server) int { return int(s.rushing.Load()) }

var RestOf = restOf
