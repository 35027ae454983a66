package bench

import (
	"cmp"
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// asking is a run of requests. Its times are ns since base.
type asking struct {
	load        *Load
	server      *Server
	base        time.Time
	choices     []op           // each op as often as its share in the mix
	interval    int64          // between two requests of a client; 0: no rate
	refillAt    uint64         // without a rate: a client sends again when it has at most this many unanswered requests
	from, until int64          // requests sent or due between them are measured
	cut         int64          // from then on, requests that are due and not sent are given up
	interrupted atomic.Bool    // ctx has ended
	senders     sync.WaitGroup // goroutines that send what a socket did not take at once
	clients     []*client
}

var errNothing = errors.New("nothing was sent during the measurement")

// never is a time that never comes.
const never = int64(1) << 62

func (a *asking) now() int64 { return int64(time.Since(a.base)) }

const (
	tick        = 100 * time.Millisecond // of the supervisor
	lastAnswers = 2 * time.Second        // for replies in flight after an interruption
	leastSleep  = 20 * time.Microsecond  // of the pacer
)

// ask creates the znodes, runs the clients, and cleans up.
func ask(ctx context.Context, s *Server, l *Load) (*Result, error) {
	a := &asking{load: l, server: s}
	for o, share := range l.Mix {
		for range share {
			a.choices = append(a.choices, op(o))
		}
	}
	a.refillAt = uint64(l.Outstanding - l.BatchOr())
	if l.Rate > 0 {
		a.interval = int64(time.Second) * int64(l.Clients) / int64(l.Rate)
	}
	parents := 0
	if l.Mix[opCreate] > 0 {
		parents = l.Clients
	}
	value := l.value()
	dirs := l.dirs()
	part := func(i int) zkproto.Part {
		p := zkproto.Part{Op: zkproto.OpCreate, ACL: znode.OpenACL}
		switch {
		case i < dirs:
			p.Path = l.dirPath(i)
		case i < dirs+parents:
			p.Path = l.parentPath(i - dirs)
		default:
			p.Path, p.Data = l.keyPath(i-dirs-parents), value
		}
		return p
	}
	return furnish(ctx, s, l, dirs+parents+l.Keys, part, func() (*Result, []made, error) {
		res, err := a.measure(ctx)
		var created []made
		for _, c := range a.clients {
			if l.Ephemeral { // they are gone with their sessions
				break
			}
			first := int(c.deleted)
			created = append(created, made{int(c.created) - first, func(i int) string { return l.createdPath(c.id, first+i) }})
		}
		return res, created, err
	})
}

// measure opens the clients, runs them, and closes them.
func (a *asking) measure(ctx context.Context) (*Result, error) {
	sessions, _, err := openMany(ctx, a.server, a.load.Clients, atATime)
	if err == nil && a.server.Several {
		err = each(len(sessions), atATime, func(i int) error {
			_, err := sessions[i].do(ctx, &zkproto.Request{Part: zkproto.Part{Op: zkproto.OpSync, Path: "/"}})
			return err
		})
	}
	for i, s := range sessions {
		c, err := newClient(s, a, i)
		if err != nil {
			return nil, err
		}
		a.clients = append(a.clients, c)
	}
	var res *Result
	if err == nil {
		res, err = a.runAll(ctx)
	}
	left := each(len(a.clients), atATime, func(i int) error { return a.clients[i].leave(ctx) })
	if err == nil {
		err = left
	}
	return res, err
}

// runAll runs all clients and sums up their figures.
func (a *asking) runAll(parent context.Context) (*Result, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	a.base = time.Now()
	a.from, a.until, a.cut = int64(a.load.Warmup), never, never
	if a.load.Requests == 0 {
		a.until = a.from + int64(a.load.Duration)
	}
	if a.interval > 0 && a.server.Within > 0 {
		a.cut = a.until + int64(a.server.Within)
	}
	used := usage{pid: a.server.PID}
	warm := make(chan struct{})
	warming := time.AfterFunc(a.load.Warmup, func() {
		used.begin()
		close(warm)
	})

	var others, readers sync.WaitGroup
	for _, c := range a.clients {
		readers.Go(func() {
			if err := c.ask(ctx); err != nil {
				cancel(err)
			}
		})
	}
	if a.interval > 0 {
		others.Go(func() {
			if err := a.pace(); err != nil {
				cancel(err)
			}
		})
	}
	over := make(chan struct{})
	others.Go(func() { a.supervise(ctx, over) })
	readers.Wait()
	if !warming.Stop() {
		<-warm
		used.end()
	} // otherwise the run ended before the timer fired: the processor time of so short a run is unknown
	close(over)
	others.Wait()

	err := context.Cause(ctx)
	all := newFigures(a.load.Mix)
	res := &Result{}
	for _, c := range a.clients {
		all.add(c.figures)
		res.Unsent += c.unsent
	}
	if all.last == 0 {
		return nil, cmp.Or(err, errNothing)
	}
	end := all.last
	if a.interval > 0 && err == nil { // the time after the last request that was due also counts
		end = max(end, a.until)
	}
	seconds := time.Duration(max(end-a.from, 1)).Seconds()
	for o, h := range all.latency {
		if h != nil {
			res.Ops = append(res.Ops, figureOf(op(o).String(), h, seconds, all.codes[o]))
		}
	}
	res.sumUp(seconds, &used)
	if a.interval > 0 {
		res.LateUS = micros(all.late.quantile(.99))
	}
	if err == nil {
		err = res.refused()
	}
	return res, err
}

// pace is the pacer: it sends what is due, for all clients.
func (a *asking) pace() error {
	clock, err := newAlarm()
	if err != nil {
		for _, c := range a.clients {
			c.stop(nil)
		}
		return err
	}
	defer clock.close()
	for {
		next := never
		for _, c := range a.clients {
			next = min(next, c.send(true))
		}
		if next == never {
			return nil
		}
		// Not too often, and not so long that the pacer could not be stopped.
		if err := clock.sleep(min(max(time.Duration(next-a.now()), leastSleep), tick)); err != nil {
			return err
		}
	}
}

// supervise watches the clients until all have ended, and stops them when ctx ends.
func (a *asking) supervise(ctx context.Context, over <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	type view struct{ answers, since int64 }
	seen := make([]view, len(a.clients))
	done := ctx.Done()
	var last, shown int64
	var late <-chan time.Time
	for {
		select {
		case <-over:
			return
		case <-done:
			done = nil
			a.interrupted.Store(true)
			for _, c := range a.clients {
				c.stop(nil)
			}
			late = time.After(lastAnswers)
		case <-late:
			for _, c := range a.clients {
				c.stop(os.ErrDeadlineExceeded)
			}
		case <-ticker.C:
			now, sum := a.now(), int64(0)
			for i, c := range a.clients {
				c.tend(now, &seen[i].answers, &seen[i].since)
				sum += c.answers.Load()
			}
			if passed := now - shown; passed >= int64(time.Second) {
				a.show(now, float64(sum-last)/time.Duration(passed).Seconds())
				last, shown = sum, now
			}
		}
	}
}

// show reports the progress of the run.
func (a *asking) show(now int64, perSecond float64) {
	what := ""
	if now < a.from {
		what = "warming up, "
	}
	at := time.Duration(now).Truncate(time.Second)
	if a.until == never {
		a.server.Working("%s%v, %.0f/s", what, at, perSecond)
		return
	}
	a.server.Working("%s%v of %v, %.0f/s", what, at, time.Duration(a.until), perSecond)
}
