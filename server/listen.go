package server

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxUnsentBytes is how much written data may wait unsent in a client's socket. Without this limit
// the bound is the system's largest send buffer, some 4 MiB: a few hundred clients that read
// nothing would take all the memory that the kernel has for TCP, and stop every other user of TCP.
// Data on its way to a distant client does not count, so no connection becomes slower.
const maxUnsentBytes = 256 << 10

// Keepalive probes of a silent connection, with Go's default values.
const (
	probeAfter = 15 * time.Second
	probes     = 9
)

// listenConfig sets the options on the listening socket, from which clients' connections inherit
// them: Go by itself would make four system calls for each connection. MPTCP, which Go prefers
// where it exists, is switched off because connections inherit only some options from an MPTCP
// socket.
func listenConfig() *net.ListenConfig {
	c := &net.ListenConfig{KeepAlive: -1, Control: inherit}
	c.SetMultipathTCP(false)
	return c
}

// inherit sets the options that a listener's connections inherit.
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
