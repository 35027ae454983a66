package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coord/server/zkproto"
)

// atATime is how many sessions are opened or closed at a time, unless the load says
// otherwise.
const atATime = 64

// each runs f for 0 to n-1 with this many workers, until one call fails.
func each(n, workers int, f func(i int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	var once sync.Once
	var failed error
	for range min(n, workers) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					once.Do(func() { failed = err })
					next.Add(int64(n))
				}
			}
		})
	}
	wg.Wait()
	return failed
}

// timings is a histogram that several goroutines may fill.
type timings struct {
	mu sync.Mutex
	h  histogram
}

func (t *timings) since(begun time.Time) {
	d := time.Since(begun)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.h.record(int64(d))
}

// openMany opens n sessions, and keeps those alive that are open while the others are opened. With an error it returns
// the sessions that it has opened.
func openMany(ctx context.Context, s *Server, n, workers int) ([]*session, *timings, error) {
	all := make([]*session, n)
	took := &timings{}
	first := &waiting{over: make(chan struct{})}
	kept := make(chan error, 1)
	go func() { kept <- first.keep(ctx) }()
	err := each(n, workers, func(i int) (err error) {
		begun := time.Now()
		if all[i], err = open(ctx, s); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		}
		took.since(begun)
		if k := first.add(all[i]); k%100 == 0 {
			s.Working("opening %d sessions: %d", n, k)
		}
		return nil
	})
	close(first.over)
	if lost := <-kept; err == nil {
		err = lost
	}
	if err == nil {
		return all, took, nil
	}
	some := all[:0]
	for _, ses := range all {
		if ses != nil {
			some = append(some, ses)
		}
	}
	return some, took, err
}

// waiting are sessions that are open while others are opened.
type waiting struct {
	mu   sync.Mutex
	all  []*session
	over chan struct{} // is closed when all are open
}

// add adds a session and says how many there are.
func (w *waiting) add(s *session) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, s)
	return len(w.all)
}

// keep keeps the sessions alive until all are open. It finishes each ping that it has begun.
func (w *waiting) keep(ctx context.Context) error {
	const often = 50 * time.Millisecond
	for last := time.Now(); ; {
		select {
		case <-w.over:
			return nil
		case <-time.After(often):
		}
		w.mu.Lock()
		all := slices.Clone(w.all)
		w.mu.Unlock()
		if len(all) == 0 || time.Since(last) < all[0].timeout/4 {
			continue
		}
		last = time.Now()
		err := each(len(all), atATime, func(i int) error {
			select {
			case <-w.over:
				return nil
			default:
				return all[i].ping(ctx)
			}
		})
		if err != nil {
			return err
		}
	}
}

// openSessions is the load that opens sessions, keeps them for a while and closes them.
func openSessions(ctx context.Context, s *Server, l *Load) (*Result, error) {
	res := &Result{}
	used := usage{pid: s.PID}
	if s.PID > 0 {
		res.RSSBefore, _ = rssOf(s.PID) // 0: unknown
	}
	used.begin()
	begun := time.Now()
	all, opening, err := openMany(ctx, s, l.Sessions, l.Clients)
	opened := time.Since(begun).Seconds()
	used.end()
	if len(all) == 0 {
		return nil, err
	}
	if err == nil {
		err = keep(ctx, s, all, l.Hold)
	}
	if s.PID > 0 {
		res.RSSAfter, _ = rssOf(s.PID)
	}
	var closing timings
	begun = time.Now()
	left := each(len(all), l.Clients, func(i int) error {
		begun := time.Now()
		err := all[i].close(ctx)
		closing.since(begun)
		return err
	})
	closed := time.Since(begun).Seconds()
	if err == nil {
		err = left
	}
	res.Ops = []Figure{figureOf("open", &opening.h, opened, nil)}
	res.sumUp(opened, &used)
	res.Ops = append(res.Ops, figureOf("close", &closing.h, closed, nil))
	return res, err
}

// keep keeps idle sessions alive for the given time.
func keep(ctx context.Context, s *Server, all []*session, hold time.Duration) error {
	end := time.Now().Add(hold)
	for {
		wait := time.Until(end)
		if wait <= 0 {
			return nil
		}
		s.Working("keeping %d sessions for %v", len(all), wait.Round(time.Second))
		timer := time.NewTimer(min(wait, all[0].timeout/4))
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		if time.Now().After(end) {
			return nil
		}
		if err := each(len(all), atATime, func(i int) error { return all[i].ping(ctx) }); err != nil {
			return err
		}
	}
}

func (s *session) ping(ctx context.Context) error {
	_, err := s.call(ctx, &zkproto.Request{Xid: zkproto.XidPing, Part: zkproto.Part{Op: zkproto.OpPing}})
	return err
}
