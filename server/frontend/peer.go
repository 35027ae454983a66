package frontend

// peer is what the kernel knows of the remote end of a connection.
type peer uint8

const (
	peerThere peer = iota
	peerShut       // it has closed its sending side, or is gone
	peerGone
)
