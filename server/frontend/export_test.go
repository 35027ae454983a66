package frontend

import "net"

// Leftovers is what a server without connections must not have: bytes of events,
// locks that somebody waits for.
func Leftovers(s *Server) (eventBytes int64, locks int) {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	return s.eventBytes.Load(), len(s.locks.waiting)
}

// PeerState is what the kernel knows of the other end.
func PeerState(nc net.Conn) string {
	return [...]string{peerThere: "there", peerShut: "shut", peerGone: "gone"}[peerState(nc)]
}
