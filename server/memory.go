package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// The room that the collector leaves to garbage: a fixed amount for a small
// state, so that it does not run all the time, and a fraction of a large one, so
// that memory stays close to the data. (Go's own rule, as much again as is live,
// would double the memory of a large tree.) Less than this fixed amount costs sets of
// 1 KB a third of their rate: the log's segment grows as a buffer in memory, and what the
// collector frees often is given back to the system and taken again page by page.
const (
	minHeadroom  = 32 << 20
	headroomPart = 5 // a fifth of the live heap
	tuneEvery    = time.Second

	// While a state is loaded nearly all that is allocated stays, and to come at each
	// fifth more would be to mark all of it ten times, on all processors.
	growingPercent = 100

	// After so long in which next to nothing was allocated, what a busier time
	// has left behind is given back to the system: the collector alone would come
	// in two minutes, and the memory go much later.
	idleTime  = 3 * time.Second
	idleBytes = 1 << 20 // allocated in a tick
	leftBytes = 4 << 20 // allocated since the last time
)

// collector is the percentage of Go's collector, of which a process has one.
type collector struct {
	mu      sync.Mutex
	percent int // as set; 0: not yet
	growing int // states that are being loaded
}

// isOperators says whether GOGC is set, which is then left alone.
func (c *collector) isOperators() bool { return os.Getenv("GOGC") != "" }

// fit keeps to the rule with so much alive.
func (c *collector) fit(live uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	want := growingPercent
	if c.growing == 0 {
		heap := max(live, 4<<20)
		want = int(max(minHeadroom, heap/headroomPart) * 100 / heap)
	}
	if want < c.percent*9/10 || want > c.percent*11/10 {
		c.percent = want
		debug.SetGCPercent(want)
	}
}

// whileGrowing runs f, which loads a state.
func (c *collector) whileGrowing(f func() error) error {
	if c.isOperators() {
		return f()
	}
	grow := func(by int) {
		c.mu.Lock()
		c.growing += by
		c.mu.Unlock()
		c.fit(liveHeap())
	}
	grow(1)
	defer grow(-1)
	return f()
}

// liveHeap is what the last collection has left, in bytes.
func liveHeap() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// tune keeps to the rule until ctx ends. rest is called when there is little to do:
// what it lets go is given back to the system a tick later.
func (c *collector) tune(ctx context.Context, rest func()) error {
	if c.isOperators() {
		return nil
	}
	allocs := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var before, returned uint64 // allocated until the last tick, and until memory was given back
	var idle time.Duration
	wait := func() bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(untilNext(tuneEvery)):
			return true
		}
	}
	for {
		c.fit(liveHeap())
		metrics.Read(allocs)
		allocated := allocs[0].Value.Uint64()
		if idle += tuneEvery; allocated-before > idleBytes {
			idle = 0
		}
		before = allocated
		if idle >= idleTime && allocated-returned > leftBytes {
			rest()
			if !wait() {
				return nil
			}
			debug.FreeOSMemory()
			metrics.Read(allocs)
			before = allocs[0].Value.Uint64() // what rest has taken does not count
			returned = before
		}
		if !wait() {
			return nil
		}
	}
}

// untilNext is how long it is to the next whole multiple of d. What is done now and then
// is done at such times: an idle node wakes up once for all of that.
func untilNext(d time.Duration) time.Duration {
	now := time.Now() // once: a clock that is set meanwhile would make it any time
	return now.Truncate(d).Add(d).Sub(now)
}
