package server

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxUnsentBytes is how much of what was written to a client's socket may wait there
// to be sent. Without a limit that is as much as the system's largest send buffer, some
// 4 MiB: a few hundred clients that read nothing would take all the memory that the
// kernel has for TCP, and stop whoever else uses it. What is on its way to a distant
// client is not counted, so no connection becomes slower.
const maxUnsentBytes = 256 << 10

// The probes of a silent connection, as Go sets them.
const (
	probeAfter = 15 * time.Second
	probes     = 9
)

// listenConfig has clients' connections inherit the options of their listener's
// socket: Go alone would make four system calls for each. Of a socket for MPTCP,
// Go's choice where there is one, they would inherit only some.
func listenConfig() *net.ListenConfig {
	c := &net.ListenConfig{KeepAlive: -1, Control: inherit}
	c.SetMultipathTCP(false)
	return c
}

// inherit sets what the connections of a listener have.
func inherit(network, _ string, raw syscall.RawConn) (err error) {
	if network == "unix" {
		return nil
	}
	if e := raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, name, value int }{
			{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsentBytes},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(probeAfter / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(probeAfter / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, probes},
		} {
			if err == nil {
				err = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
			}
		}
	}); e != nil {
		return e
	}
	return err
}
