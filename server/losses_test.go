package server_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"coord/server"
)

// H14 (ZOOKEEPER-4203, 4712): the thread that accepted connections died, and its process went on
// leading. Here a listener that has become useless ends the server with an error: the one for
// clients and the one for peers. (Gossip's listener is not among them: gossip carries hints, and
// memberlist tries again for ever.)
func TestADeadListenerEndsTheServer(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"clients", "peers"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			ensemble := server.DefaultEnsemble()
			ensemble.PeerListen, ensemble.GossipListen, ensemble.Advertise = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"
			cfg.Ensemble = &ensemble
			ready := make(chan server.Listening, 1)
			ended := make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() {
				ended <- server.Run(ctx, cfg, zerolog.Nop(), func(at server.Listening) { ready <- at })
			}()
			var addr string
			select {
			case at := <-ready:
				addr = at.Addrs[0]
			case err := <-ended:
				t.Fatal(err)
			}
			if which == "peers" {
				addr = peerAddr(t, addr)
			}
			breakListener(t, addr)
			select {
			case err := <-ended:
				if !errors.Is(err, syscall.EINVAL) {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(time.Minute):
				stop()
				t.Errorf("it goes on until it is stopped: %v", <-ended)
			}
		})
	}
}

// peerAddr is where the server listens for peers, as its roster says.
func peerAddr(t *testing.T, addr string) string {
	t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		_, rest, ok := strings.Cut(ask(t, addr, "GET /zookeeper/config"), "=127.0.0.1:")
		if port, _, _ := strings.Cut(rest, ":"); ok && port != "0" {
			return net.JoinHostPort("127.0.0.1", port)
		}
	}
	t.Fatal("the roster does not say where the peers' port is")
	return ""
}

// breakListener makes this process's socket that listens on addr one that can accept no connection.
func breakListener(t *testing.T, addr string) {
	t.Helper()
	_, want, _ := net.SplitHostPort(addr)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fds {
		fd, _ := strconv.Atoi(f.Name())
		if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
			continue
		}
		at, err := unix.Getsockname(fd)
		if in, ok := at.(*unix.SockaddrInet4); err != nil || !ok || strconv.Itoa(in.Port) != want {
			continue
		}
		if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("nobody listens at %s", addr)
}

// H11 (ZOOKEEPER-2325, 3056, 3644): a missing or empty snapshot was taken for an empty tree, and the log
// after it for the whole state. Here the server does not start, and touches nothing, until the file is back.
func TestWithoutItsSnapshotNothingStarts(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"half":    func(path string) error { return os.Truncate(path, 200) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			s := start(t, cfg)
			ask(t, s.addr, "CREATE /a 1")
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(cfg.DataDir, "snapshot", "*.coord"))
			if err != nil || len(files) != 1 {
				t.Fatalf("%v, %v", files, err)
			}
			whole, err := os.ReadFile(files[0])
			if err := errors.Join(err, harm(files[0])); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				ctx, stop := context.WithCancel(t.Context())
				if err := server.Run(ctx, cfg, zerolog.Nop(), func(server.Listening) { stop() }); !errors.Is(err, server.ErrDamaged) {
					t.Errorf("started: %v", err)
				}
				stop()
			}
			if err := os.WriteFile(files[0], whole, 0o600); err != nil {
				t.Fatal(err)
			}
			s = start(t, cfg)
			if got := ask(t, s.addr, "GET /a"); !strings.HasSuffix(got, "\n1\n") {
				t.Errorf("with the file again: %q", got)
			}
		})
	}
}
