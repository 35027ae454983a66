package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// watching is a run of sets of a znode that many sessions watch, each on a
// connection of its own: for a server, a second watch of a session on the same
// znode is the same watch.
//
// In each round all sessions arm their watches, each with a getData, like a client
// that reads the value again. Once all are armed, the znode is set, and the round
// ends when all sessions have received the event.
type watching struct {
	load     *Load
	server   *Server
	base     time.Time
	path     string
	sessions []*session
	toldAt   []atomic.Int64 // when each session received the event, in ns since base
	missing  atomic.Int64   // sessions that are not armed yet, or have not received the event yet
	complete chan struct{}  // receives when missing reaches 0
}

func (w *watching) now() int64 { return int64(time.Since(w.base)) }

func fanOut(ctx context.Context, s *Server, l *Load) (*Result, error) {
	w := &watching{load: l, server: s, path: l.Path + "/watched", complete: make(chan struct{}, 1)}
	part := func(int) zkproto.Part {
		return zkproto.Part{Op: zkproto.OpCreate, Path: w.path, Data: l.value(), ACL: znode.OpenACL}
	}
	return furnish(ctx, s, l, 1, part, func() (*Result, []made, error) {
		res, err := w.measure(ctx)
		return res, nil, err
	})
}

func (w *watching) measure(parent context.Context) (*Result, error) {
	var err error
	w.sessions, _, err = openMany(parent, w.server, w.load.Watchers, min(w.load.Clients, atATime))
	var setter *session
	if err == nil {
		setter, err = open(parent, w.server) // not earlier: it would be silent for as long as the others take
	}
	var res *Result
	if err == nil {
		w.toldAt = make([]atomic.Int64, len(w.sessions))
		ctx, cancel := context.WithCancelCause(parent)
		w.base = time.Now()
		var readers sync.WaitGroup
		for i := range w.sessions {
			readers.Go(func() {
				if err := w.watch(ctx, i); err != nil {
					cancel(err)
				}
			})
		}
		res, err = w.rounds(ctx, setter)
		cancel(nil)
		for _, s := range w.sessions {
			_ = s.nc.SetReadDeadline(past)
		}
		readers.Wait()
		if closed := setter.close(parent); err == nil {
			err = closed
		}
	}
	left := each(len(w.sessions), atATime, func(i int) error { return w.sessions[i].close(parent) })
	if err == nil {
		err = left
	}
	return res, err
}

// watch reads what the server sends to session i: in turn, the reply that arms its
// watch, and the event.
func (w *watching) watch(ctx context.Context, i int) error {
	s := w.sessions[i]
	for armed := false; ; armed = !armed {
		h, body, err := s.next()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return s.lost(ctx, err)
		case h.Xid == zkproto.XidEvent:
			e := body.Event()
			if !armed || body.End() != nil || e.Path != w.path || e.Type != znode.NodeDataChanged {
				return wrong("unexpected event")
			}
			w.toldAt[i].Store(w.now())
		case armed || h.Xid != s.xid:
			return wrong("answer to request %d, expected %d", h.Xid, s.xid)
		case h.Code != znode.OK:
			return h.Code
		}
		if w.missing.Add(-1) == 0 {
			w.complete <- struct{}{}
		}
	}
}

// all waits until no session is missing.
func (w *watching) all(ctx context.Context) error {
	var late <-chan time.Time
	if w.server.Within > 0 {
		timer := time.NewTimer(w.server.Within)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-w.complete:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late:
		return &LostError{context.DeadlineExceeded}
	}
}

// arm arms the watches of all sessions.
func (w *watching) arm(ctx context.Context) error {
	w.missing.Store(int64(len(w.sessions)))
	for _, s := range w.sessions {
		s.xid++ // before sending: the reader compares it with the reply
		s.out = zkproto.AppendRequest(s.out[:0], &zkproto.Request{Xid: s.xid, Part: zkproto.Part{Op: zkproto.OpGetData, Path: w.path, Watch: true}})
		if _, err := s.nc.Write(s.out); err != nil {
			return s.lost(ctx, err)
		}
	}
	return w.all(ctx)
}

// rounds measures how long a set that notifies all sessions takes, how long until
// each session is notified, and how long until the last one is.
func (w *watching) rounds(ctx context.Context, setter *session) (*Result, error) {
	var set, told, last histogram
	used := usage{pid: w.server.PID}
	value := w.load.value()
	telling := int64(0) // ns: sum of the times from a set to the last notification
	measured := false
	begun := time.Now()
	result := func() *Result {
		if set.n == 0 {
			return nil
		}
		used.end()
		seconds := time.Duration(max(telling, 1)).Seconds()
		res := &Result{Ops: []Figure{
			figureOf("set", &set, seconds, nil), figureOf("told", &told, seconds, nil), figureOf("all told", &last, seconds, nil),
		}}
		res.Seconds, res.PerSecond = seconds, res.Ops[1].PerSecond
		res.ServerUS, res.GeneratorUS = used.of(told.n)
		return res
	}
	for n := 0; ; {
		passed := time.Since(begun)
		switch {
		case w.load.Requests > 0 && n == w.load.Requests, w.load.Requests == 0 && n > 0 && passed >= w.load.Warmup+w.load.Duration:
			return result(), nil
		case passed >= w.load.Warmup && !measured:
			measured = true
			used.begin()
		}
		if err := w.arm(ctx); err != nil {
			return result(), err
		}
		w.missing.Store(int64(len(w.sessions)))
		at := w.now()
		if _, err := setter.do(ctx, &zkproto.Request{Part: zkproto.Part{Op: zkproto.OpSetData, Path: w.path, Data: value, Version: zkproto.AnyVersion}}); err != nil {
			return result(), err
		}
		acknowledged := w.now()
		if err := w.all(ctx); err != nil {
			return result(), err
		}
		w.server.Working("%d watchers notified in %v", len(w.sessions), time.Duration(w.now()-at).Round(time.Microsecond))
		if !measured {
			continue
		}
		n++
		set.record(acknowledged - at)
		end := int64(0)
		for i := range w.toldAt {
			t := w.toldAt[i].Load()
			told.record(t - at)
			end = max(end, t)
		}
		last.record(end - at)
		telling += end - at
	}
}
