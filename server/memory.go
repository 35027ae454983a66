package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
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

	// After so long in which next to nothing was allocated, what a busier time
	// has left behind is given back to the system: the collector alone would come
	// in two minutes, and the memory go much later.
	idleTime  = 3 * time.Second
	idleBytes = 1 << 20 // allocated in a tick
	leftBytes = 4 << 20 // allocated since the last time
)

// tuneCollector keeps the collector's percentage at that rule until ctx ends. rest is
// called when there is little to do: what it lets go is given back to the system a tick
// later. An operator's GOGC is left alone.
func tuneCollector(ctx context.Context, rest func()) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	percent := 0
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
		metrics.Read(live)
		heap := max(live[0].Value.Uint64(), 4<<20)
		want := int(max(minHeadroom, heap/headroomPart) * 100 / heap)
		if want < percent*9/10 || want > percent*11/10 {
			percent = want
			debug.SetGCPercent(percent)
		}
		allocated := live[1].Value.Uint64()
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
			metrics.Read(live)
			before = live[1].Value.Uint64() // what rest has taken does not count
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
