package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"coord/server"
)

// running is a server in this process.
type running struct {
	addr string
	stop func() error
}

// start runs a server until the test ends or stop is called.
func start(t *testing.T, cfg server.Config) running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan server.Listening, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, cfg, zerolog.New(zerolog.NewTestWriter(t)), func(at server.Listening) { ready <- at })
	}()
	stop := func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case at := <-ready:
		return running{at.Addrs[0], stop}
	case err := <-ended:
		t.Fatalf("the server ended before it was ready: %v", err)
		panic("unreachable")
	}
}

func testConfig(t *testing.T) server.Config {
	cfg := server.DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	cfg.Listen = []string{"127.0.0.1:0"}
	cfg.Name = "test"
	return cfg
}

// ask sends lines on one connection, closes its sending side and returns everything that the server answers.
func ask(t *testing.T, addr string, lines ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	for _, l := range lines {
		if _, err := io.WriteString(c, l+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(bufio.NewReader(c))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWritesOutliveARestart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s := start(t, cfg)
	got := ask(t, s.addr, "CREATE /app hello", "SET /app v=0 world", "GET /app", "QUIT")
	want := "OK path=/app v=0 zxid=0x200000001\nOK v=1 zxid=0x200000002\nDATA 5 v=1 zxid=0x200000002\nworld\nOK bye\n"
	if got != want {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	if err := s.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	s = start(t, cfg)
	if got := ask(t, s.addr, "GET /app"); got != "DATA 5 v=1 zxid=0x200000002\nworld\n" {
		t.Fatalf("after the restart: %q", got)
	}
	if got := ask(t, s.addr, "SET /app again"); got != "OK v=2 zxid=0x300000001\n" {
		t.Fatalf("after the restart: %q", got)
	}
}

func TestASecondServerIsRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s := start(t, cfg)
	err := server.Run(t.Context(), cfg, zerolog.Nop(), func(server.Listening) {})
	if !errors.Is(err, server.ErrInUse) || !strings.Contains(err.Error(), "process ") {
		t.Fatalf("same folder: %v", err)
	}
	other := testConfig(t)
	other.Listen = []string{s.addr}
	err = server.Run(t.Context(), other, zerolog.Nop(), func(server.Listening) {})
	if !errors.Is(err, server.ErrInUse) || !strings.Contains(err.Error(), s.addr) {
		t.Fatalf("same port: %v", err)
	}
}

// TestPipelinedOrder: a read after a write sees that write and no later one.
func TestPipelinedOrder(t *testing.T) {
	t.Parallel()
	s := start(t, testConfig(t))
	var lines []string
	var want strings.Builder
	lines = append(lines, "CREATE /n 0")
	fmt.Fprintf(&want, "OK path=/n v=0 zxid=0x200000001\n")
	for i := 1; i <= 400; i++ {
		lines = append(lines, fmt.Sprintf("@s%d SET /n %d", i, i), fmt.Sprintf("@g%d GET /n", i))
		fmt.Fprintf(&want, "@s%d OK v=%d zxid=0x2%08x\n@g%d DATA %d v=%d zxid=0x2%08x\n%d\n", i, i, i+1, i, len(fmt.Sprint(i)), i, i+1, i)
	}
	if got := ask(t, s.addr, lines...); got != want.String() {
		t.Fatalf("got  %.300q\nwant %.300q", got, want.String())
	}
}

func TestSnapshotsAndLogAreTheState(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.SnapshotTxns = 50
	s := start(t, cfg)
	for round := range 4 {
		lines := []string{}
		for i := range 60 {
			lines = append(lines, fmt.Sprintf("SET /k%d create v%d", i, round))
		}
		ask(t, s.addr, lines...)
	}
	digest := func(addr string) string {
		for l := range strings.SplitSeq(ask(t, addr, "INFO"), "\n") {
			if d, ok := strings.CutPrefix(l, "ITEM coord_digest "); ok {
				return d
			}
		}
		t.Fatal("no digest")
		return ""
	}
	want := digest(s.addr)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	if got := digest(s.addr); got != want {
		t.Fatalf("digest after the restart %s, before %s", got, want)
	}
	// The server may be stopped before the old snapshots are removed: there are few only after a complete snapshot.
	lines := []string{}
	for i := range 60 {
		lines = append(lines, fmt.Sprintf("SET /k%d create again", i))
	}
	ask(t, s.addr, lines...)
	for until := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		files, _ := filepath.Glob(filepath.Join(cfg.DataDir, "snapshot", "*"))
		if made := !strings.Contains(ask(t, s.addr, "INFO"), "ITEM snap_count value=0\n"); made && len(files) > 0 && len(files) <= 3 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("snapshots: %v", files)
		}
	}
}
