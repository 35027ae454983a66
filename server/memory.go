package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// The headroom that the collector leaves for garbage: a fixed amount for a small state, so that the
// collector does not run all the time, and a fraction of a large one, so that memory stays close to
// the data. (Go's own rule, as much again as is live, would double the memory of a large tree.) A
// smaller fixed amount costs sets of 1 KB a third of their rate: the log's segment grows as a
// buffer in memory, and memory that the collector frees often is given back to the system and taken
// again page by page.
const (
	minHeadroom  = 32 << 20
	headroomPart = 5 // a fifth of the live heap
	tuneEvery    = time.Second

	// While a state is being loaded, nearly all that is allocated stays. Collecting at each fifth
	// more would mark all of it ten times, on all processors.
	growingPercent = 100

	// After this long with next to no allocation, the memory left over from a busier time is given
	// back to the system. The collector alone would run only after two minutes, and the memory
	// would go much later.
	idleTime  = 3 * time.Second
	idleBytes = 1 << 20 // allocated in a tick
	leftBytes = 4 << 20 // allocated since memory was last given back
)

// collector sets the percentage of Go's garbage collector, of which a process has one.
type collector struct {
	mu      sync.Mutex
	percent int // as last set; 0: not set yet
	growing int // states that are being loaded
}

// isOperators says whether the operator has set GOGC, which is then left alone.
func (c *collector) isOperators() bool { return os.Getenv("GOGC") != "" }

// fit applies the rule to a live heap of so many bytes.
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

// whileGrowing runs f, which loads a state, with the percentage meant for that.
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

// liveHeap is how many bytes the last collection left alive.
func liveHeap() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// tune applies the rule each second until ctx ends. When there is little to do it calls rest, and
// gives what rest has freed back to the system one tick later.
func (c *collector) tune(ctx context.Context, rest func()) error {
	if c.isOperators() {
		return nil
	}
	allocs := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var before, returned uint64 // bytes allocated up to the last tick, and up to when memory was given back
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
			before = allocs[0].Value.Uint64() // what rest itself has allocated does not count
			returned = before
		}
		if !wait() {
			return nil
		}
	}
}

// untilNext is the time until the next whole multiple of d. Periodic tasks all run at such times,
// so that an idle node wakes up once for all of them.
func untilNext(d time.Duration) time.Duration {
	now := time.Now() // read once: if the clock were set between two readings, the result could be anything
	return now.Truncate(d).Add(d).Sub(now)
}
