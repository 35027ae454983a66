package peer

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// tune makes TCP give up a connection whose data is not acknowledged in time. BEATs detect other
// silence.
func tune(nc net.Conn, within time.Duration) {
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	_ = t.SetKeepAlive(false) // BEATs do that
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(within/time.Millisecond))
	})
}
