package frontend

import (
	"runtime"
	"time"
)

// rush is the state of a connection whose client may send without pause: each time its reader
// looks, more than a buffer holds has arrived, so the reader never waits. A few such readers would
// occupy all processors, because Go's scheduler polls the network only when a processor has nothing
// to do, or after 10 ms. So while other clients ask anything, the rushing connections together get
// a quarter of the processors: each rests between its bursts. A client that waits for the answers
// to its writes does not rush. The reader owns this state.
type rush struct {
	requests int           // since the reader last waited
	worked   time.Duration // on these requests
	counted  bool          // it is included in the server's rushing
	own      int64         // requests not yet added to the server's rushed
	others   int64         // requests of connections that have not rushed, at the last look
	heard    time.Time     // when that number was last seen to have grown
}

const (
	rushAt   = MaxPipelined          // requests without waiting, from which on the client rushes
	rushRest = 20 * time.Millisecond // the longest rest
	rushNear = time.Second           // since other clients last asked something
)

// giveWay rests before more is read, if the client rushes. The reader calls it after each burst.
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

// restOf returns how long a client rests after the given work for it, while that many connections rush.
func restOf(worked time.Duration, rushing, processors int) time.Duration {
	return min(max(worked*time.Duration(4*rushing-processors)/time.Duration(processors), 0), rushRest)
}

// endRush notes that the reader has to wait, so its client does not rush.
func (c *conn) endRush() {
	r := &c.rush
	if r.counted {
		c.s.rushing.Add(-1)
	}
	r.requests, r.worked, r.counted = 0, 0, false
}
