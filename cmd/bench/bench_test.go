package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// small is a load that takes very little time.
func small(change func(*Load)) Load {
	l := Default()
	l.Clients, l.Outstanding, l.Keys, l.Warmup, l.Requests = 3, 8, 250, 0, 2000
	if change != nil {
		change(&l)
	}
	return l
}

func mix(t *testing.T, s string) Mix {
	t.Helper()
	m, err := ParseMix(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAllOps: every operation is sent in its share and understood by the server,
// and nothing is left behind: no znode, no session, no connection.
func TestAllOps(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Load){
		"plain":      func(*Load) {},
		"sequential": func(l *Load) { l.Sequential, l.Ephemeral = true, true },
		"one":        func(l *Load) { l.Clients, l.Outstanding, l.Keys = 1, 1, 1 },
		"batches":    func(l *Load) { l.Batch = 8 },
		"one by one": func(l *Load) { l.Batch = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, nil)
			l := small(change)
			l.Mix = mix(t, "get=20,set=20,create=10,delete=5,exists=5,children=5,multi=5,sync=30")
			res, err := Run(t.Context(), f.server(), l)
			if err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			for _, op := range res.Ops {
				sum += op.Count
				if op.Count == 0 || op.Failed() > 0 || op.P50 <= 0 || op.P50 > op.P99 || op.P99 > op.P999 || op.P999 > op.Max || op.PerSecond <= 0 {
					t.Errorf("%+v", op)
				}
			}
			if sum != 2000 || len(res.Ops) != int(numOps) {
				t.Errorf("%d requests of %d kinds", sum, len(res.Ops))
			}
			if get, sync := res.Ops[opGet].Count, res.Ops[opSync].Count; get < 300 || get > 500 || sync < 480 || sync > 720 {
				t.Errorf("%d gets and %d syncs of 2000", get, sync)
			}
			if left := f.left(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if f.opened != f.closed || f.opened != l.Clients+2 {
				t.Errorf("%d sessions opened, %d closed", f.opened, f.closed)
			}
			if res.GeneratorUS <= 0 || res.Seconds <= 0 {
				t.Errorf("%+v", res)
			}
		})
	}
}

// TestRequests: decoded, the requests are what the load says.
func TestRequests(t *testing.T) {
	t.Parallel()
	l := small(func(l *Load) { l.Path, l.Size, l.Keys, l.Multi = "/b", 50, 12345, 3 })
	l.Mix = mix(t, strings.Join(OpNames(), ","))
	for _, sequential := range []bool{false, true} {
		l.Sequential = sequential
		l.Ephemeral = sequential
		c := &client{run: &asking{load: &l}, templates: l.templates(7), random: newRandom(7)}
		names := map[string]bool{}
		for i := range 2000 {
			c.pending = c.pending[:0]
			o := op(i % int(numOps))
			c.encode(o)
			frame, n, err := zkproto.CutFrame(c.pending, maxReply)
			d := zkproto.Decoder{MaxOps: 100}
			var r zkproto.Request
			if err != nil || n != len(c.pending) || d.Decode(frame, &r) != nil || r.Xid != xidOf(uint64(i)) {
				t.Fatalf("%v: %v %+v", o, err, r)
			}
			switch o {
			case opCreate:
				want, flags := l.createdPath(7, i/int(numOps)), int32(0)
				if sequential {
					want, flags = "/b/c00007/s", 3
				}
				if r.Path != want || len(r.Data) != 50 || r.Flags != flags || len(r.ACL) != 1 {
					t.Fatalf("%+v, want %s", r, want)
				}
			case opDelete:
				if r.Path != l.createdPath(7, i/int(numOps)) || r.Version != zkproto.AnyVersion {
					t.Fatalf("%+v", r)
				}
			case opMulti:
				if len(r.Ops) != 3 {
					t.Fatalf("%+v", r)
				}
				for _, p := range r.Ops {
					names[p.Path] = true
					if p.Op != zkproto.OpSetData || len(p.Data) != 50 {
						t.Fatalf("%+v", p)
					}
				}
			case opChildren:
				names[r.Path+"/k00"] = true
			default:
				names[r.Path] = true
			}
		}
		keys := map[string]bool{}
		for i := range l.Keys {
			keys[l.keyPath(i)] = true
		}
		for name := range names {
			if !keys[name] {
				t.Errorf("%s is not one of the keys", name)
			}
		}
		if len(names) < 1000 {
			t.Errorf("%d different keys only", len(names))
		}
	}
}

// TestTemplatesOfTheMix: a client keeps no values that it never writes.
func TestTemplatesOfTheMix(t *testing.T) {
	t.Parallel()
	l := small(func(l *Load) { l.Mix, l.Size = mix(t, "get,create"), 1000 })
	for o, tmpl := range l.templates(0) {
		if asked := op(o) == opGet || op(o) == opCreate; asked != (len(tmpl.frame) > 0) {
			t.Errorf("%v: %d bytes", op(o), len(tmpl.frame))
		}
	}
}

// TestNoAllocation: neither sending nor receiving allocates.
func TestNoAllocation(t *testing.T) {
	l := small(func(l *Load) { l.Batch = 4 })
	a := &asking{load: &l, choices: []op{opGet, opSet, opCreate, opMulti}, until: never, cut: never}
	l.Mix = Mix{opGet: 1, opSet: 1, opCreate: 1, opMulti: 1}
	c := &client{session: &session{in: make([]byte, 64<<10)}, run: a, templates: l.templates(0), under: make([]request, 8), mask: 7, left: -1, random: newRandom(1), figures: newFigures(l.Mix)}
	now := int64(0)
	var replies []byte
	round := func() {
		now += 1000
		c.refill(now, false)
		c.pending = c.pending[:0]
		replies = replies[:0]
		for n := c.answered; n < c.sent; n++ {
			replies = zkproto.AppendReply(replies, xidOf(n), 5, znode.OK)
		}
		c.r, c.w = 0, copy(c.in, replies)
		if err := c.take(now); err != nil {
			t.Fatal(err)
		}
	}
	round()
	if n := testing.AllocsPerRun(1000, round); n > 0 {
		t.Errorf("%v allocations for 8 requests", n)
	}
}

// TestWrongServers: a reply that no server may give ends the run with an error that names it.
func TestWrongServers(t *testing.T) {
	t.Parallel()
	isGet := func(r *zkproto.Request) bool { return r.Op == zkproto.OpGetData }
	for _, tt := range []struct {
		name string
		hook func(c *fakeConn, r *zkproto.Request, n int) bool
		want string
		is   error
	}{
		{"out of order", func(c *fakeConn, r *zkproto.Request, n int) bool {
			return isGet(r) && n == 20 // its reply would come after a later one's
		}, "answer to request 21, expected 20", znode.ErrProtocol},
		{"twice", func(c *fakeConn, r *zkproto.Request, n int) bool {
			if isGet(r) && n == 20 {
				c.appendReply(r, zkproto.NoZxid, znode.OK)
				c.appendReply(r, zkproto.NoZxid, znode.OK)
				return true
			}
			return false
		}, "answer to request 20, expected ", znode.ErrProtocol},
		{"back in time", func(c *fakeConn, r *zkproto.Request, n int) bool {
			if isGet(r) && n == 20 {
				c.appendReply(r, 1, znode.OK)
				return true
			}
			return false
		}, "zxid 0x1 after ", znode.ErrProtocol},
		{"no frame", func(c *fakeConn, r *zkproto.Request, n int) bool {
			if isGet(r) && n == 20 {
				c.out = append(c.out, "HTTP/1.1 400 Bad Request\r\n\r\n"...)
				return true
			}
			return false
		}, "invalid frame length", znode.ErrProtocol},
		{"a short frame", func(c *fakeConn, r *zkproto.Request, n int) bool {
			if isGet(r) && n == 20 {
				c.out = append(c.out, 0, 0, 0, 3, 1, 2, 3)
				return true
			}
			return false
		}, "reply of 3 bytes", znode.ErrProtocol},
		{"hangs up", func(c *fakeConn, r *zkproto.Request, n int) bool {
			if isGet(r) && n == 20 {
				_ = c.nc.Close()
				return true
			}
			return false
		}, "connection lost", nil},
		{"refuses", func(c *fakeConn, r *zkproto.Request, n int) bool {
			if isGet(r) && n%2 == 0 {
				c.out = zkproto.AppendReply(c.out, r.Xid, zkproto.NoZxid, znode.ErrNoAuth)
				return true
			}
			return false
		}, "answers to get: not permitted", znode.ErrNoAuth},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, tt.hook)
			l := small(func(l *Load) { l.Mix = Mix{opGet: 1}; l.Clients = 1 })
			res, err := Run(t.Context(), f.server(), l)
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if left := f.left(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if tt.name == "refuses" {
				if op := res.Ops[0]; op.Count != 2000 || op.Failed() != 1000 || op.Errors["NOAUTH"] != 1000 {
					t.Errorf("%+v", op)
				}
			}
		})
	}
}

// TestFailedMulti: a failed multi shows its error only in its results.
func TestFailedMulti(t *testing.T) {
	t.Parallel()
	f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
		if r.Op == zkproto.OpMulti && r.Ops[0].Op == zkproto.OpSetData {
			c.appendReply(r, zkproto.NoZxid, znode.ErrBadVersion)
			return true
		}
		return false
	})
	res, err := Run(t.Context(), f.server(), small(func(l *Load) { l.Mix = Mix{opMulti: 1}; l.Requests = 100 }))
	if !errors.Is(err, znode.ErrBadVersion) || res == nil || res.Ops[0].Errors["BADVERSION"] != 100 {
		t.Errorf("%v, %+v", err, res)
	}
}

// TestOpenLoop: at a rate, the latencies include all the time that requests waited
// while the server stalled, also requests that could not be sent meanwhile.
func TestOpenLoop(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
		if r.Op == zkproto.OpGetData && n == 50 {
			time.Sleep(stall) // the server's, not the test's
		}
		return false
	})
	l := small(func(l *Load) {
		l.Mix, l.Clients, l.Outstanding = Mix{opGet: 1}, 1, 4
		l.Requests, l.Rate, l.Duration = 0, 1000, 600*time.Millisecond
	})
	res, err := Run(t.Context(), f.server(), l)
	if err != nil {
		t.Fatal(err)
	}
	op := res.Ops[0]
	if op.Count != 600 || res.Unsent != 0 {
		t.Errorf("%d requests of 600, %d unsent", op.Count, res.Unsent)
	}
	// 300 of the 600 were due during the stall and waited 150 ms on average; a
	// closed loop would report only 4 slow ones.
	if op.Max < 290_000 || op.P95 < 200_000 || op.P99 < 250_000 {
		t.Errorf("latencies leave the stall out: p95 %.0f µs, p99 %.0f µs, max %.0f µs", op.P95, op.P99, op.Max)
	}
}

// TestFewAtARate: the measured time includes the time after the last of few requests.
func TestFewAtARate(t *testing.T) {
	t.Parallel()
	f := startFake(t, nil)
	res, err := Run(t.Context(), f.server(), small(func(l *Load) {
		l.Mix, l.Clients, l.Requests, l.Rate, l.Duration = Mix{opGet: 1}, 1, 0, 10, 300*time.Millisecond
	}))
	if err != nil || res.Ops[0].Count != 3 || res.Seconds < .3 || res.PerSecond > 10 || res.Ops[0].PerSecond > 10 {
		t.Errorf("%v, %+v", err, res)
	}
}

// TestOverload: a rate that is too high for the server is reported, and the run ends.
func TestOverload(t *testing.T) {
	t.Parallel()
	f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
		if r.Op == zkproto.OpGetData {
			time.Sleep(10 * time.Millisecond)
		}
		return false
	})
	s := f.server()
	s.Within = 5 * time.Second
	res, err := Run(t.Context(), s, small(func(l *Load) {
		l.Mix, l.Clients, l.Outstanding = Mix{opGet: 1}, 2, 2
		l.Requests, l.Rate, l.Duration = 0, 20_000, 100*time.Millisecond
	}))
	if err != nil || res.Unsent < 500 || res.Unsent+res.Ops[0].Count != 2000 {
		t.Errorf("%v, %+v", err, res)
	}
}

// TestWarmup: only requests after the warm-up count.
func TestWarmup(t *testing.T) {
	t.Parallel()
	const warmup = 2 * time.Second
	for tries := 1; ; tries++ {
		var fifth atomic.Int64
		begun := time.Now()
		f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
			if r.Op == zkproto.OpGetData && n <= 5 {
				fifth.Store(int64(time.Since(begun)))
				c.out = zkproto.AppendReply(c.out, r.Xid, zkproto.NoZxid, znode.ErrNoAuth)
				return true
			}
			return false
		})
		res, err := Run(t.Context(), f.server(), small(func(l *Load) {
			l.Mix, l.Clients, l.Outstanding, l.Warmup, l.Requests = Mix{opGet: 1}, 1, 1, warmup, 500
		}))
		if took := time.Duration(fifth.Load()); took > warmup && tries < 20 {
			continue // the machine was stalled
		}
		if err != nil || res.Ops[0].Count != 500 || res.Ops[0].Failed() != 0 {
			t.Errorf("%v, %+v", err, res)
		}
		break
	}
}

// TestInterrupted: when ctx ends, in any phase, the znodes of the run are removed
// and the measurements so far are returned.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	why := errors.New("enough")
	for name, at := range map[string]zkproto.Op{"making": zkproto.OpMulti, "asking": zkproto.OpCreate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
				if r.Op == at && (at == zkproto.OpCreate && n > 50 || len(r.Ops) > 0 && r.Ops[0].Op == zkproto.OpCreate) {
					cancel(why)
				}
				return false
			})
			res, err := Run(ctx, f.server(), small(func(l *Load) {
				l.Mix, l.Requests, l.Duration, l.Keys = Mix{opCreate: 1}, 0, time.Hour, 3000
			}))
			if !errors.Is(err, why) {
				t.Errorf("error %v", err)
			}
			if at == zkproto.OpCreate && (res == nil || res.Ops[0].Count < 50) {
				t.Errorf("%+v", res)
			}
			if left := f.left(); len(left) > 0 {
				t.Errorf("left behind: %d znodes, %v …", len(left), left[:min(len(left), 5)])
			}
		})
	}
}

// TestSilentServer: the run does not wait for a server that no longer answers.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool { return r.Op == zkproto.OpGetData && n > 10 })
	s := f.server()
	s.Within = 10 * time.Second // also for what is answered, on a stalled machine
	_, err := Run(t.Context(), s, small(func(l *Load) { l.Mix = Mix{opGet: 1} }))
	var lost *LostError
	if !errors.As(err, &lost) || !errors.Is(err, context.DeadlineExceeded) || len(f.left()) > 0 {
		t.Errorf("%v; left: %v", err, f.left())
	}
}

// TestBackPressure: a server that stops reading while its replies are not read
// causes no deadlock: 64 requests and replies of 1 MiB each fit into no socket
// buffer.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	big := make([]byte, 1<<20)
	f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
		if r.Op != zkproto.OpGetData {
			return false
		}
		start := len(c.out)
		c.out = zkproto.AppendStat(zkproto.AppendString(zkproto.BeginReply(c.out, r.Xid, zkproto.NoZxid), big), &noStat)
		zkproto.EndFrame(c.out, start)
		_, err := c.nc.Write(c.out) // at once, and it blocks
		c.out = c.out[:0]
		return err == nil
	})
	s := f.server()
	s.Within = 2 * time.Minute
	res, err := Run(t.Context(), s, small(func(l *Load) {
		l.Mix, l.Clients, l.Outstanding, l.Batch, l.Size, l.Requests, l.Keys = Mix{opGet: 1, opSet: 1}, 1, 64, 1, len(big), 200, 2
	}))
	if err != nil || res.Ops[0].Count+res.Ops[1].Count != 200 {
		t.Errorf("%v, %+v", err, res)
	}
}

// TestIdleSessionsLive: a client that sends no requests pings.
func TestIdleSessionsLive(t *testing.T) {
	t.Parallel()
	for tries := 1; ; tries++ {
		pinged := make(chan struct{}, 100)
		f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
			if r.Op == zkproto.OpPing {
				pinged <- struct{}{}
			}
			return false
		})
		f.timeoutMS = 300
		res, err := Run(t.Context(), f.server(), small(func(l *Load) {
			l.Mix, l.Clients, l.Rate, l.Requests, l.Duration = Mix{opGet: 1}, 2, 1, 0, 2*time.Second
		}))
		if err != nil || res.Ops[0].Count != 2 {
			t.Fatalf("%v, %+v", err, res)
		}
		if len(pinged) >= 2 {
			break
		}
		if tries == 5 { // a machine that is stalled for two seconds leaves no time for pings
			t.Fatalf("%+v, %d pings", res, len(pinged))
		}
	}
}

// TestFirstSessionsLive: sessions are pinged while others are opened.
func TestFirstSessionsLive(t *testing.T) {
	t.Parallel()
	pinged := make(chan struct{}, 1000)
	f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
		if r.Op == zkproto.OpPing {
			pinged <- struct{}{}
		}
		return false
	})
	f.timeoutMS = 300
	server, dialled := f.server(), atomic.Int64{}
	dial := server.Dial
	server.Dial = func(ctx context.Context) (net.Conn, error) {
		if dialled.Add(1) == 10 { // the others are open, and this one takes long
			for range 20 {
				select {
				case <-pinged:
				case <-time.After(time.Minute):
					return nil, errors.New("nobody is pinged")
				}
			}
		}
		return dial(ctx)
	}
	res, err := Run(t.Context(), server, small(func(l *Load) { l.Sessions, l.Clients, l.Hold = 10, 1, 0 }))
	if err != nil || res.Ops[0].Count != 10 || f.closed != 10 {
		t.Errorf("%v, %+v, %d closed", err, res, f.closed)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	f := startFake(t, nil)
	f.timeoutMS = 200
	l := small(func(l *Load) { l.Sessions, l.Hold = 50, 250*time.Millisecond })
	res, err := Run(t.Context(), f.server(), l)
	if err != nil || len(res.Ops) != 2 || res.Ops[0].Count != 50 || res.Ops[1].Count != 50 || res.RSSAfter == 0 {
		t.Errorf("%v, %+v", err, res)
	}
	if f.opened != 50 || f.closed != 50 {
		t.Errorf("%d opened, %d closed", f.opened, f.closed)
	}
}

func TestFanOut(t *testing.T) {
	t.Parallel()
	f := startFake(t, nil)
	res, err := Run(t.Context(), f.server(), small(func(l *Load) { l.Watchers, l.Requests = 40, 5 }))
	if err != nil || len(res.Ops) != 3 || res.Ops[0].Count != 5 || res.Ops[1].Count != 200 || res.Ops[2].Count != 5 {
		t.Fatalf("%v, %+v", err, res)
	}
	if res.Ops[1].Max != res.Ops[2].Max || len(f.left()) > 0 || f.opened != f.closed {
		t.Errorf("%+v; left: %v; %d opened, %d closed", res, f.left(), f.opened, f.closed)
	}
	// a session that receives no event
	f = startFake(t, nil)
	s := f.server()
	s.Within = 10 * time.Second // also for what is answered, on a stalled machine
	f.deaf = 7
	if _, err := Run(t.Context(), s, small(func(l *Load) { l.Watchers, l.Requests = 10, 5 })); !errors.Is(err, context.DeadlineExceeded) || len(f.left()) > 0 {
		t.Errorf("%v; left: %v", err, f.left())
	}
}

// TestFanOutInterrupted: the measurements so far are returned.
// TestSetterIsLast: the session that sets the watched znode is opened last, since nobody keeps it alive meanwhile.
func TestSetterIsLast(t *testing.T) {
	t.Parallel()
	setter := atomic.Int64{}
	f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
		if r.Op == zkproto.OpSetData {
			setter.Store(c.id)
		}
		return false
	})
	_, err := Run(t.Context(), f.server(), small(func(l *Load) { l.Watchers, l.Requests = 10, 2 }))
	if id := setter.Load(); err != nil || id != 12 { // one has made the znode, ten watch it
		t.Errorf("%v, session %d", err, id)
	}
}

func TestFanOutInterrupted(t *testing.T) {
	t.Parallel()
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f := startFake(t, func(_ *fakeConn, r *zkproto.Request, n int) bool {
		if r.Op == zkproto.OpSetData && n == 4 {
			cancel(why)
			return true
		}
		return false
	})
	res, err := Run(ctx, f.server(), small(func(l *Load) { l.Watchers, l.Requests, l.Duration = 10, 0, time.Hour }))
	if !errors.Is(err, why) || res == nil || res.Ops[0].Count != 3 || res.Ops[1].Count != 30 || res.Ops[0].PerSecond <= 0 || res.GeneratorUS <= 0 {
		t.Errorf("%v, %+v", err, res)
	}
	if left := f.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestRemovedByAnotherNode: if some of several nodes are gone, the znodes of the run are
// removed through another node.
func TestRemovedByAnotherNode(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	var dead atomic.Bool
	var failed atomic.Int64
	f := startFake(t, func(c *fakeConn, r *zkproto.Request, n int) bool {
		if r.Op == zkproto.OpGetData && n == 20 {
			dead.Store(true)
			_ = c.nc.Close()
		}
		if r.Op == zkproto.OpSync {
			c.appendReply(r, zkproto.NoZxid, znode.OK)
		}
		return dead.Load() && r.Op == zkproto.OpGetData || r.Op == zkproto.OpSync
	})
	s := f.server()
	dial := s.Dial
	s.Several = true
	s.Dial = func(ctx context.Context) (net.Conn, error) {
		if dead.Load() && failed.Add(1) <= 2 {
			return nil, gone
		}
		return dial(ctx)
	}
	_, err := Run(t.Context(), s, small(func(l *Load) { l.Mix, l.Clients = Mix{opGet: 1}, 1 }))
	if !is[*LostError](err) || errors.Is(err, gone) || len(f.left()) > 0 {
		t.Errorf("%v; %d znodes left", err, len(f.left()))
	}
}

func TestExistingPath(t *testing.T) {
	t.Parallel()
	f := startFake(t, nil)
	l := small(func(l *Load) { l.Path, l.Keep = "/mine", true })
	if _, err := Run(t.Context(), f.server(), l); err != nil {
		t.Fatal(err)
	}
	before := f.left()
	l.Keep = false
	if _, err := Run(t.Context(), f.server(), l); !errors.Is(err, znode.ErrNodeExists) || !slices.Equal(f.left(), before) || len(before) != 1+3+250 {
		t.Errorf("%v: %d znodes before, %d now", err, len(before), len(f.left()))
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	s := Server{Dial: func(context.Context) (net.Conn, error) { return nil, no }}
	if _, err := Run(t.Context(), s, small(nil)); !errors.Is(err, no) {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, answer := range map[string]string{"says nothing": "", "another protocol": "ERR PROTOCOL what is that?\n", "refuses": string(zkproto.AppendConnected(nil, &zkproto.Connected{}))} {
		go func() {
			nc, err := l.Accept()
			if err == nil {
				_, _ = nc.Read(make([]byte, 100))
				_, _ = nc.Write([]byte(answer))
				_ = nc.Close()
			}
		}()
		s.Dial = func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}
		_, err := Run(t.Context(), s, small(nil))
		if want := map[string]bool{"says nothing": is[*LostError](err), "another protocol": is[*WrongError](err), "refuses": errors.Is(err, znode.ErrSessionExpired)}; !want[name] {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseMix(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"get": "get=1", "set=30,get=70": "get=70,set=30", " create=2, delete": "create=2,delete=1", "get=1,get=2": "get=3",
		"": "", "get=": "", "put=1": "", "get=-1": "", "get=0": "", "delete=1": "", "get=10001": "", "get=x": "",
	} {
		m, err := ParseMix(in)
		if (err == nil) != (want != "") || err == nil && m.String() != want {
			t.Errorf("%q: %v, %v", in, m, err)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, p := range Presets() {
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	for name, change := range map[string]func(*Load){
		"clients": func(l *Load) { l.Clients = 0 }, "outstanding": func(l *Load) { l.Outstanding = MaxOutstanding + 1 },
		"keys": func(l *Load) { l.Keys = MaxKeys + 1 }, "batch": func(l *Load) { l.Batch = l.Outstanding + 1 }, "size": func(l *Load) { l.Size = -1 },
		"exclude each other": func(l *Load) { l.Sessions, l.Watchers = 1, 1 }, "duration": func(l *Load) { l.Requests, l.Duration = 0, 0 },
		"negative": func(l *Load) { l.Warmup = -1 }, "rate": func(l *Load) { l.Rate = -1 }, "rate and requests": func(l *Load) { l.Rate = 1 },
		"path": func(l *Load) { l.Path = "/" }, "mix": func(l *Load) { l.Mix = Mix{} }, "multi": func(l *Load) { l.Multi = 0 },
	} {
		l := small(change)
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLoadInWords: the description names a rate only if the load uses it.
func TestLoadInWords(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Load){
		"3 clients x 8 under way, get=70,set=30, 100 B, 250 keys, 7/s, 5s": func(l *Load) { l.Requests, l.Rate = 0, 7 },
		"sets of 100 B, watched by 9 sessions, 5s":                         func(l *Load) { l.Requests, l.Rate, l.Watchers = 0, 7, 9 },
		"2 sessions, opened by 2 at a time":                                func(l *Load) { l.Sessions = 2 },
	} {
		l := small(change)
		if got := l.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	var all []*Result
	for _, x := range []float64{5, 1, 3} {
		all = append(all, &Result{PerSecond: x, Unsent: 1, Ops: []Figure{{Op: "get", Count: 10, P50: x, P99: 10 - x, Max: x, Errors: map[string]int64{"NOTFOUND": 1}}}})
	}
	m := Median(all)
	if got := fmt.Sprintf("%v %v %+v", m.PerSecond, m.Unsent, m.Ops); got != "3 3 [{Op:get Count:30 Errors:map[NOTFOUND:3] PerSecond:0 P50:3 P95:0 P99:7 P999:0 Max:5 code:0}]" {
		t.Error(got)
	}
	m = Median([]*Result{{PerSecond: 4, RSSAfter: 7}, {PerSecond: 1, RSSAfter: 2}, {PerSecond: 2, RSSAfter: 5}, {PerSecond: 100, RSSAfter: 9}})
	if m.PerSecond != 3 || m.RSSAfter != 6 {
		t.Errorf("of an even number: %+v", m)
	}
	if Median(nil) != nil {
		t.Error("nothing has a median")
	}
}
