package frontend_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"coord/server/text"
)

// client is a TCP client that sends requests and reads replies.
type client struct {
	net.Conn
	t  testing.TB
	rd *text.Reader
	in []byte
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	lim := text.DefaultReplyLimits()
	return &client{Conn: c, t: t, rd: text.NewReader(lim)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) shut() { _ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// reply reads the next reply.
func (c *client) reply() text.Reply {
	c.t.Helper()
	for {
		r, n, err := c.rd.Next(c.in)
		if err != nil {
			c.t.Fatal(err)
		}
		if r.Kind != 0 {
			r.Detach()
			c.in = c.in[n:]
			return r
		}
		buf := make([]byte, 64<<10)
		n, err = c.Read(buf)
		c.in = append(c.in, buf[:n]...)
		if err != nil {
			c.t.Fatalf("behind %.200q: %v", c.in, err)
		}
	}
}

func (c *client) ask(s string) text.Reply {
	c.t.Helper()
	c.send(s)
	return c.reply()
}

// rest returns everything that arrives until the server closes the connection.
func (c *client) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		c.t.Fatalf("behind %.200q: %v", b, err)
	}
	return string(c.in) + string(b)
}

// isCut says whether the server has closed the connection, with or without a last message.
func (c *client) isCut() bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

// eventually waits for a condition that other goroutines are sure to fulfil.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatal("it does not come about")
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}
