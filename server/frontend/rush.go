package frontend

import (
	"runtime"
	"time"
)

// rush is how a connection is heard whose client sends on and on: each time that its
// reader looks, more is there than a buffer holds, so that it would never wait. A few
// such readers would keep all processors to themselves, since the scheduler asks the
// system who else has something to say only when a processor has nothing to do, or 10
// ms later. So as long as others ask anything, those who rush get, together, a quarter
// of the processors: each rests between its bursts. Who waits for answers to its writes
// does not rush. The reader owns it.
type rush struct {
	requests int           // since the reader has waited for anything
	worked   time.Duration // for them
	counted  bool          // among the server's rushing
	own      int64         // requests that are not in the server's rushed
	others   int64         // requests that are in nobody's, when it looked last
	heard    time.Time     // when it found more of them
}

const (
	rushAt   = MaxPipelined          // requests, without waiting; then the client is one who rushes
	rushRest = 20 * time.Millisecond // the longest rest
	rushNear = time.Second           // since others have asked something
)

// giveWay rests, if the client rushes, before more is read. It is called behind each
// burst.
func (c *conn) giveWay() {
	r := &c.rush
	if !c.eager {
		c.endRush()
		return
	}
	r.worked += time.Since(c.now)
	if r.requests < rushAt {
		return
	}
	if !r.counted {
		r.counted = true
		c.s.rushing.Add(1)
	}
	c.s.rushed.Add(r.own)
	r.own = 0
	if others := c.s.stats.received.Load() - c.s.rushed.Load(); others != r.others {
		r.others, r.heard = others, c.now
	}
	if rest := restOf(r.worked, int(c.s.rushing.Load()), runtime.GOMAXPROCS(0)); rest > 0 && c.now.Sub(r.heard) < rushNear {
		time.Sleep(rest)
	}
	r.requests, r.worked = 0, 0
}

// restOf is how long a client rests that has been worked for, if so many rush.
func restOf(worked time.Duration, rushing, processors int) time.Duration {
	return min(max(worked*time.Duration(4*rushing-processors)/time.Duration(processors), 0), rushRest)
}

// endRush notes that the reader has to wait: its client does not rush.
func (c *conn) endRush() {
	r := &c.rush
	if r.counted {
		c.s.rushing.Add(-1)
	}
	r.requests, r.worked, r.counted = 0, 0, false
}
