package frontend_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"coord/server/frontend"
)

// TestRush: a client that sends without pause counts as rushing until its requests are handled or
// it has to wait.
func TestRush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, err := net.Dial("tcp", w.tcp())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, c)
		answers <- n
	}()
	many := strings.Repeat("EXISTS /none\n", 10_000)
	sent := int64(0)
	deadline := time.Now().Add(time.Minute)
	for frontend.Rushing(w.front) == 0 {
		if _, err := io.WriteString(c, many); err != nil {
			t.Fatal(err)
		}
		if sent += 10_000; time.Now().After(deadline) {
			t.Fatal("nobody rushes")
		}
	}
	eventually(t, func() bool { return frontend.Rushing(w.front) == 0 })
	if _, err := io.WriteString(c, "QUIT\n"); err != nil {
		t.Fatal(err)
	}
	one := int64(len(ask(t, w.tcp(), "EXISTS /none\nQUIT\n")))
	bye := int64(len(ask(t, w.tcp(), "QUIT\n")))
	if got, want := <-answers, sent*(one-bye)+bye; got != want {
		t.Errorf("%d bytes of answers, want %d", got, want)
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
