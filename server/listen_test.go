package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestStalledReader: the kernel holds some hundred KiB of the answers to a client that reads
// nothing, not as much as its largest buffer.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	s := start(t, testConfig(t))
	const size, gets = 64 << 10, 100
	if got := ask(t, s.addr, fmt.Sprintf("CREATE /big :%d\n%s\n", size, bytes.Repeat([]byte("x"), size))); !strings.HasPrefix(got, "OK") {
		t.Fatal(got)
	}
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(c, strings.Repeat("GET /big\n", gets)); err != nil {
		t.Fatal(err)
	}
	held, before := 0, -1
	for held == 0 || held != before {
		before = held
		time.Sleep(200 * time.Millisecond)
		held = unacknowledged(t, c)
	}
	if held > 1<<20 {
		t.Errorf("the kernel holds %d bytes of answers", held)
	}
	n, err := io.CopyN(io.Discard, c, gets*size)
	if err != nil {
		t.Errorf("%d bytes of answers, then %v", n, err)
	}
}

// unacknowledged is how many bytes the other end of a connection to this machine has written and
// this end has not received.
func unacknowledged(t *testing.T, c net.Conn) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Skip(err)
	}
	ports := fmt.Sprintf("0100007F:%04X 0100007F:%04X", c.RemoteAddr().(*net.TCPAddr).Port, c.LocalAddr().(*net.TCPAddr).Port)
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 4 && f[1]+" "+f[2] == ports {
			if _, err := fmt.Sscanf(f[4], "%x:", &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}
