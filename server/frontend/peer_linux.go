package frontend

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peerUID asks the kernel for the user who opened the other end of a unix socket.
func peerUID(nc net.Conn) (int, bool) {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return 0, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return 0, false
	}
	return int(cred.Uid), true
}

// noticeSilence makes TCP notice, within the given time, that the remote end no longer answers: by
// probes while nothing is sent, and by sent data that is not acknowledged.
func noticeSilence(nc net.Conn, within time.Duration) {
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	const probes = 3
	within = max(within, time.Second)            // a shorter limit would end the connection at the first lost packet
	every := max(within/(probes+1), time.Second) // the kernel counts in seconds
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: every, Interval: every, Count: probes})
	if raw, err := t.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(within.Milliseconds()))
		})
	}
}

// unread asks the kernel how many received bytes wait to be read.
func unread(nc net.Conn) (n int) {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	if raw, err := s.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) //nolint:gosec // a descriptor
	}
	return n
}

// peerState asks the kernel for the state of the remote end.
func peerState(nc net.Conn) peer {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return peerThere
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return peerGone
	}
	state := peerThere
	if err := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // a descriptor
		n, err := unix.Poll(fds, 0)
		switch {
		case err != nil || n == 0:
		case fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
			state = peerGone
		case fds[0].Revents&unix.POLLRDHUP != 0:
			state = peerShut
		}
	}); err != nil {
		return peerGone
	}
	return state
}
