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
// would double the memory of a large tree.)
const (
	minHeadroom  = 16 << 20
	headroomPart = 5 // a fifth of the live heap
	tuneEvery    = time.Second
)

// tuneCollector keeps the collector's percentage at that rule until ctx ends.
// An operator's GOGC is left alone.
func tuneCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := 0
	tick := time.NewTicker(tuneEvery)
	defer tick.Stop()
	for {
		metrics.Read(live)
		heap := max(live[0].Value.Uint64(), 4<<20)
		want := int(max(minHeadroom, heap/headroomPart) * 100 / heap)
		if want < percent*9/10 || want > percent*11/10 {
			percent = want
			debug.SetGCPercent(percent)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
