package frontend

import (
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"
)

// Summary aggregates numbers as ZooKeeper's mntr shows them: mean, minimum, maximum, count and sum.
// Any goroutine may add; a reader may see a number that is only partly added.
type Summary struct {
	n, sum, most atomic.Int64
	least        atomic.Int64 // the minimum + 1; 0 for none yet
}

// Add adds x, n times.
func (s *Summary) Add(n, x int64) {
	s.n.Add(n)
	s.sum.Add(n * x)
	raise(&s.most, x)
	lower(&s.least, x+1)
}

// AddTime adds a duration, in µs: see Facts.
func (s *Summary) AddTime(d time.Duration) { s.Add(1, d.Microseconds()) }

// Sum is the sum of everything added.
func (s *Summary) Sum() int64 { return s.sum.Load() }

// Reset forgets everything.
func (s *Summary) Reset() {
	s.n.Store(0)
	s.sum.Store(0)
	s.most.Store(0)
	s.least.Store(0)
}

// Facts are the summary's lines in mntr. parts is the number of added units in the unit that is
// shown: 1000 if µs are shown as ms.
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

// roundUp divides rounding up, so that the maximum shown is never below the mean.
func roundUp(x, parts int64) int64 { return (x + parts - 1) / parts }

// Latencies is a Summary of µs with a histogram. It has four buckets for each power of two, so a
// percentile is off by a quarter at most.
type Latencies struct {
	Summary
	buckets [4 * 28]atomic.Int64
}

// AddTime adds a duration.
func (l *Latencies) AddTime(d time.Duration) { l.add(1, d) }

func (l *Latencies) add(n int64, d time.Duration) {
	us := max(d.Microseconds(), 0)
	l.Add(n, us)
	l.buckets[min(bucketOf(us), len(l.buckets)-1)].Add(n)
}

// bucketOf returns the number of the bucket of a value. Buckets 0 to 3 hold one value each.
func bucketOf(us int64) int {
	if us < 4 {
		return int(us)
	}
	e := bits.Len64(uint64(us)) - 3 // us>>e is 4 to 7
	return e*4 + int(us>>e)
}

// bucketEnd is the largest value in a bucket.
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

// Percentile returns a time in µs that permille of a thousand latencies do not exceed.
func (l *Latencies) Percentile(permille int64) int64 {
	var all int64
	for i := range l.buckets {
		all += l.buckets[i].Load()
	}
	rank := (all*permille + 999) / 1000
	for i := range l.buckets {
		if rank -= l.buckets[i].Load(); rank <= 0 && all > 0 {
			if i == len(l.buckets)-1 { // it also holds all larger values
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
