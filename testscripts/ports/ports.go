// Package ports gives tests addresses that nobody else takes before the server that
// they are for listens there, nor between two of its lives.
package ports

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

// Reserve takes an address of this machine until release, with port 0 any port. It
// binds it and does not listen: a server that allows others its address
// (SO_REUSEADDR: Go's do, and ZooKeeper's) can listen there, and whoever asks the
// kernel for any port, for a server or for a connection of its own, gets another one.
func Reserve(addr string) (reserved netip.AddrPort, release func(), err error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return a, nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return a, nil, os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}); err != nil {
		_ = syscall.Close(fd)
		return a, nil, os.NewSyscallError("bind", err)
	}
	// Only now: it was to be nobody's before.
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	is, err2 := syscall.Getsockname(fd)
	if err != nil || err2 != nil {
		_ = syscall.Close(fd)
		return a, nil, fmt.Errorf("%w, %w", err, err2)
	}
	port := is.(*syscall.SockaddrInet4).Port
	return netip.AddrPortFrom(a.Addr(), uint16(port)), func() { _ = syscall.Close(fd) }, nil
}

// Free is a port of 127.0.0.1 that is the test's until its end.
func Free(t testing.TB) string {
	t.Helper()
	a, release, err := Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return fmt.Sprint(a.Port())
}
