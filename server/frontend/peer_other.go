//go:build !linux

package frontend

import "net"

// peerUID is not asked for here: nobody behind a unix socket is an operator.
func peerUID(net.Conn) (int, bool) { return 0, false }
