package frontend_test

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coord/server/frontend"
)

// TestRush: a client that sends without pause counts as rushing until its requests are handled or
// it has to wait.
func TestRush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := w.tcp()
	bye := int64(len(ask(t, addr, "QUIT\n")))
	one := int64(len(ask(t, addr, "EXISTS /none\nQUIT\n"))) - bye
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetWriteBuffer(32 << 10) // so that not too much is sent before it is seen to rush
	var got atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 64<<10); ; {
			n, err := c.Read(buf)
			if got.Add(int64(n)); err != nil {
				return
			}
		}
	}()
	many := strings.Repeat("EXISTS /none\n", 10_000)
	want := int64(0)
	deadline := time.Now().Add(time.Minute)
	for frontend.Rushing(w.front) == 0 {
		if _, err := io.WriteString(c, many); err != nil {
			t.Fatal(err)
		}
		if want += 10_000 * one; time.Now().After(deadline) {
			t.Fatal("nobody rushes")
		}
	}
	for before := got.Load(); before < want; before = got.Load() { // however long a slow machine needs
		eventually(t, func() bool { return got.Load() > before })
	}
	eventually(t, func() bool { return frontend.Rushing(w.front) == 0 })
	if _, err := io.WriteString(c, "QUIT\n"); err != nil {
		t.Fatal(err)
	}
	if <-ended; got.Load() != want+bye {
		t.Errorf("%d bytes of answers, want %d", got.Load(), want+bye)
	}
}

func TestRestOf(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		worked              time.Duration
		rushing, processors int
		want                time.Duration
	}{
		{ms, 1, 4, 0}, // a quarter of four processors is one
		{ms, 1, 8, 0},
		{ms, 1, 2, ms}, // half a processor
		{ms, 1, 1, 3 * ms},
		{ms, 4, 2, 7 * ms},
		{ms, 4, 16, 0},
		{ms, 100, 2, 20 * ms}, // the longest rest
		{time.Minute, 2, 2, 20 * ms},
	} {
		if got := frontend.RestOf(tt.worked, tt.rushing, tt.processors); got != tt.want {
			t.Errorf("worked %v for one of %d with %d processors: rest %v, want %v", tt.worked, tt.rushing, tt.processors, got, tt.want)
		}
	}
}
