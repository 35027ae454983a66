// Package ports reserves addresses for tests: no other process gets them before the
// server under test listens there, or between two of its runs.
package ports

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

// Reserve reserves an address of this machine until release is called; port 0 means
// any free port. It binds the address without listening: a server that sets
// SO_REUSEADDR (as Go's and ZooKeeper do) can listen there, and the kernel never
// chooses it as a free port for another server or connection.
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
	// Only after bind, which must fail if another process uses the address.
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	is, err2 := syscall.Getsockname(fd)
	if err != nil || err2 != nil {
		_ = syscall.Close(fd)
		return a, nil, fmt.Errorf("%w, %w", err, err2)
	}
	port := is.(*syscall.SockaddrInet4).Port
	return netip.AddrPortFrom(a.Addr(), uint16(port)), func() { _ = syscall.Close(fd) }, nil
}

// Free is a port of 127.0.0.1 that is reserved until the end of the test.
func Free(t testing.TB) string {
	t.Helper()
	a, release, err := Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return fmt.Sprint(a.Port())
}
