package frontend

import "time"

// Percentiles are those of some times, as mntr shows them.
func Percentiles(ms []int) (p50, p99, most int64) {
	var l latencies
	for _, x := range ms {
		l.add(1, time.Duration(x)*time.Millisecond)
	}
	return l.percentile(500) / 1000, l.percentile(990) / 1000, l.most.Load() / 1000
}
