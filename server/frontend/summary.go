package frontend

import (
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"
)

// Summary sums numbers up as ZooKeeper's mntr shows them: mean, least, most,
// count and sum. Any goroutine may add; a reader may see a number that is only
// half added.
type Summary struct {
	n, sum, most atomic.Int64
	least        atomic.Int64 // + 1; 0 for none yet
}

// Add takes x in, n times.
func (s *Summary) Add(n, x int64) {
	s.n.Add(n)
	s.sum.Add(n * x)
	raise(&s.most, x)
	lower(&s.least, x+1)
}

// AddTime takes a time in, in µs: see Facts.
func (s *Summary) AddTime(d time.Duration) { s.Add(1, d.Microseconds()) }

// Sum is all that was added.
func (s *Summary) Sum() int64 { return s.sum.Load() }

// Reset forgets all.
func (s *Summary) Reset() {
	s.n.Store(0)
	s.sum.Store(0)
	s.most.Store(0)
	s.least.Store(0)
}

// Facts are the lines of mntr about it. What was added is in parts of the unit
// that is shown: 1000 for µs that are shown as ms.
func (s *Summary) Facts(name string, parts int64) []Fact {
	n, sum := s.n.Load(), s.sum.Load()
	i := func(x int64) string { return strconv.FormatInt(x, 10) }
	return []Fact{
		{"avg_" + name, decimal(float64(sum) / float64(max(n, 1)) / float64(parts))},
		{"min_" + name, i(max(s.least.Load()-1, 0) / parts)},
		{"max_" + name, i(roundUp(s.most.Load(), parts))},
		{"cnt_" + name, i(n)},
		{"sum_" + name, i(sum / parts)},
	}
}

// roundUp divides so that what is shown as the most is never below the mean.
func roundUp(x, parts int64) int64 { return (x + parts - 1) / parts }

// Latencies are a Summary of µs with a histogram: four buckets for each power of
// two, so that a percentile is off by a quarter at most.
type Latencies struct {
	Summary
	buckets [4 * 28]atomic.Int64
}

// AddTime takes a time in.
func (l *Latencies) AddTime(d time.Duration) { l.add(1, d) }

func (l *Latencies) add(n int64, d time.Duration) {
	us := max(d.Microseconds(), 0)
	l.Add(n, us)
	l.buckets[min(bucketOf(us), len(l.buckets)-1)].Add(n)
}

// bucketOf numbers the buckets: 0 to 3 hold one number each.
func bucketOf(us int64) int {
	if us < 4 {
		return int(us)
	}
	e := bits.Len64(uint64(us)) - 3 // us>>e is 4 to 7
	return e*4 + int(us>>e)
}

// bucketEnd is the largest number in a bucket.
func bucketEnd(i int) int64 {
	if i < 4 {
		return int64(i)
	}
	e := i/4 - 1
	return int64(i%4+5)<<e - 1
}

func (l *Latencies) reset() {
	l.Reset()
	for i := range l.buckets {
		l.buckets[i].Store(0)
	}
}

// Percentile is the µs that so many of a thousand do not exceed.
func (l *Latencies) Percentile(permille int64) int64 {
	var all int64
	for i := range l.buckets {
		all += l.buckets[i].Load()
	}
	rank := (all*permille + 999) / 1000
	for i := range l.buckets {
		if rank -= l.buckets[i].Load(); rank <= 0 && all > 0 {
			if i == len(l.buckets)-1 { // it holds all that is larger, too
				break
			}
			return min(bucketEnd(i), l.most.Load())
		}
	}
	return l.most.Load()
}

func (l *Latencies) facts(name string) []Fact {
	facts := l.Facts(name, 1000)
	for _, p := range []struct {
		name     string
		permille int64
	}{{"p50_", 500}, {"p95_", 950}, {"p99_", 990}, {"p999_", 999}} {
		facts = append(facts, Fact{p.name + name, strconv.FormatInt(l.Percentile(p.permille)/1000, 10)})
	}
	return facts
}
