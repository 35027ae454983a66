package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		blank := n.start(t, 1, func(c *Config) { c.Self.Cluster = [16]byte{} })
		b := n.start(t, 2)
		foreign := n.start(t, 3, func(c *Config) { c.Self.Cluster = [16]byte{7} })
		b.request = func(_ context.Context, h Hello, body []byte) ([]byte, error) {
			if string(body) == "fail" {
				return nil, errors.New("it fails")
			}
			if h.Node == 1 && h.Cluster != [16]byte{} {
				return nil, errors.New("not blank")
			}
			return bytes.ToUpper(body), nil
		}
		h, got, err := blank.Links.Request(t.Context(), "n2", []byte("join me"))
		if string(got) != "JOIN ME" || err != nil || h.Node != 2 || h.Cluster != testCluster {
			t.Error(h, got, err)
		}
		if _, got, err = blank.Links.Request(t.Context(), "n2", nil); len(got) > 0 || err != nil {
			t.Error(got, err)
		}
		large := bytes.Repeat([]byte("a"), MaxRequestBytes)
		if _, got, err = blank.Links.Request(t.Context(), "n2", large); !bytes.Equal(got, bytes.ToUpper(large)) || err != nil {
			t.Error(len(got), err)
		}
		if _, _, err = blank.Links.Request(t.Context(), "n2", append(large, 'a')); err == nil {
			t.Error("a request that is too large is sent")
		}
		_, _, err = blank.Links.Request(t.Context(), "n2", []byte("fail"))
		if r, ok := errors.AsType[*RemoteError](err); !ok || r.Text != "it fails" {
			t.Error(err)
		}
		_, _, err = foreign.Links.Request(t.Context(), "n2", nil)
		if r, ok := errors.AsType[*Refusal](err); !ok || r.Code != CodeCluster || !r.Proven {
			t.Error(err)
		}
		_, _, err = b.Links.Request(t.Context(), "n2", nil)
		if r, ok := errors.AsType[*Refusal](err); !ok || r.Code != CodeSelf {
			t.Error(err)
		}
		// It joins the cluster, and can be a peer.
		blank.SetCluster(testCluster)
		meet(blank, b)
		time.Sleep(time.Second)
		if !strings.HasPrefix(blank.lastTold(), "up") || !strings.HasPrefix(b.lastTold(), "up") {
			t.Error(blank.story(), b.story())
		}
		blank.stop()
		b.stop()
		foreign.stop()
	})
}

// severed is a connection that ends after a number of bytes in a direction.
type severed struct {
	net.Conn
	reads, writes int
}

func (s *severed) Read(b []byte) (int, error) {
	if s.reads == 0 {
		_ = s.Close()
		return 0, io.EOF
	}
	n, err := s.Conn.Read(b[:min(len(b), s.reads)])
	s.reads -= n
	return n, err
}

func (s *severed) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b[:min(len(b), s.writes)])
	if s.writes -= n; n < len(b) && err == nil {
		_ = s.Close()
		err = io.ErrClosedPipe
	}
	return n, err
}

// TestRequestCut cuts the connection after each byte of either side. If the request was handled and no answer
// came, the requester knows that it may have been handled; if the connection ended before the request was
// sent, it knows that it was not.
func TestRequestCut(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(nc net.Conn, bytes int) *severed{
		"answers": func(nc net.Conn, bytes int) *severed { return &severed{nc, bytes, math.MaxInt} },
		"asks":    func(nc net.Conn, bytes int) *severed { return &severed{nc, math.MaxInt, bytes} },
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			var way detour
			a, b := n.start(t, 1, way.config), n.start(t, 2)
			var handled atomic.Bool
			b.request = func(context.Context, Hello, []byte) ([]byte, error) {
				handled.Store(true)
				return []byte("done"), nil
			}
			unanswered, unasked := 0, 0
			for bytes := 0; ; bytes++ {
				handled.Store(false)
				way.set(func(nc net.Conn) net.Conn { return cut(nc, bytes) })
				_, _, err := a.Links.Request(t.Context(), "n2", []byte("do it"))
				synctest.Wait()
				if err == nil {
					break
				}
				switch {
				case errors.Is(err, ErrUnanswered):
					unanswered++
				case handled.Load():
					t.Errorf("%s, cut behind %d bytes: it was done, and %v", name, bytes, err)
				default:
					unasked++
				}
			}
			const handshake = 100 // each side sends more bytes than this
			if unanswered == 0 || unasked < handshake {
				t.Errorf("%s: %d times without an answer, %d times not asked", name, unanswered, unasked)
			}
			a.stop()
			b.stop()
		})
	}
}

func TestRequestsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := n.start(t, 1), n.start(t, 2)
		b.request = func(ctx context.Context, _ Hello, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		errs := make(chan error)
		for range MaxRequests + 3 {
			go func() {
				_, _, err := a.Links.Request(t.Context(), "n2", nil)
				errs <- err
			}()
			synctest.Wait()
		}
		began := time.Now()
		for i := range MaxRequests + 3 {
			err := <-errs
			_, told := errors.AsType[*RemoteError](err)
			if told == errors.Is(err, ErrUnanswered) {
				t.Errorf("%d: whether it may have been done: %v", i, err)
			}
			if busy := told && time.Since(began) == 0; busy != (i < 3) {
				t.Errorf("%d: after %s", i, time.Since(began))
			}
		}
		if d := time.Since(began); d != RequestTime {
			t.Errorf("they waited %s", d)
		}
		if _, _, err := a.Links.Request(t.Context(), "nobody", nil); err == nil || errors.Is(err, ErrUnanswered) {
			t.Errorf("asked nobody: %v", err)
		}
		a.stop()
		b.stop()
	})
}
