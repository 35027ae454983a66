package frontend

// peer is what is known of the other end of a connection.
type peer uint8

const (
	peerThere peer = iota
	peerShut       // it has closed its sending side, or is gone
	peerGone
)
