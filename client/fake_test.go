package client_test

import (
	"context"
	"net"
	"testing"
	"time"

	"coord/client"
	"coord/server/text"
)

// fake is a server: it answers each request with the bytes that its handler returns. A nil answer
// closes the connection.
type fake func(r *text.Request) []byte

func reply(r text.Reply) []byte { return r.Append(nil, text.FormatText, false) }

func ok(fields ...text.Field) []byte { return reply(text.Reply{Kind: text.KindOK, Fields: fields}) }

// serve answers one connection until either side closes it.
func (f fake) serve(nc net.Conn) {
	defer nc.Close()
	p := text.NewParser(text.DefaultLimits())
	var in []byte
	buf := make([]byte, 64<<10)
	for {
		for {
			req, n, err := p.Next(in)
			in = in[n:]
			if err != nil {
				e := err.(*text.Error).Reply() //nolint:errorlint // Next returns nothing else
				if _, err := nc.Write(reply(e)); err != nil {
					return
				}
				continue
			}
			if req == nil {
				break
			}
			var out []byte
			if req.Verb == text.VerbHello {
				out = ok(text.Str("server", "coord"), text.Str("version", "0.1"), text.Str("node", "n1"),
					text.Str("role", "leader"), text.Str("cluster", "c"), text.Zxid("zxid", 7))
			} else {
				out = f(req)
			}
			if out == nil {
				return
			}
			if _, err := nc.Write(out); err != nil {
				return
			}
		}
		n, err := nc.Read(buf)
		if err != nil {
			return
		}
		in = append(in, buf[:n]...)
	}
}

// pipe is a client of a fake server, without a network.
func pipe(t *testing.T, f fake) *client.Conn {
	t.Helper()
	a, b := net.Pipe()
	served := make(chan struct{})
	go func() { f.serve(b); close(served) }()
	c := client.NewConn(a)
	t.Cleanup(func() {
		_ = c.Close()
		<-served
	})
	return c
}

// listen serves on a unix socket and returns its address for Dial.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serve(nc)
		}
	}()
	return "unix:" + path
}

// short is for calls that end soon: a hang shows before the test program's own limit.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
