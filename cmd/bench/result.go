package bench

import (
	"maps"
	"math"
	"slices"
	"time"

	"coord/tree/znode"
)

// Result is the outcome of a run, in the form in which it is printed as JSON. Times are µs.
type Result struct {
	Seconds     float64  `json:"seconds"`       // of the measured time
	PerSecond   float64  `json:"per_second"`    // all requests
	ServerUS    float64  `json:"server_cpu_us"` // processor time of the server per request; 0: unknown
	GeneratorUS float64  `json:"generator_cpu_us"`
	LateUS      float64  `json:"late_p99_us,omitempty"` // with a rate: how late the generator itself was
	Unsent      int64    `json:"unsent,omitempty"`      // with a rate: requests that were due and were given up
	RSSBefore   int64    `json:"rss_before,omitempty"`  // with Sessions: memory of the server in bytes
	RSSAfter    int64    `json:"rss_after,omitempty"`
	Ops         []Figure `json:"ops"`
}

// Figure is the measurement of one operation.
type Figure struct {
	Op        string           `json:"op"`
	Count     int64            `json:"count"`            // replies, of all kinds
	Errors    map[string]int64 `json:"errors,omitempty"` // by the name of the error code
	PerSecond float64          `json:"per_second"`
	P50       float64          `json:"p50_us"`
	P95       float64          `json:"p95_us"`
	P99       float64          `json:"p99_us"`
	P999      float64          `json:"p999_us"`
	Max       float64          `json:"max_us"`

	code znode.Code // the most frequent error
}

// Failed is the number of replies with errors.
func (f *Figure) Failed() (n int64) {
	for _, count := range f.Errors {
		n += count
	}
	return n
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func figureOf(name string, h *histogram, seconds float64, codes map[znode.Code]int64) Figure {
	f := Figure{
		Op: name, Count: h.n, PerSecond: float64(h.n) / seconds,
		P50: micros(h.quantile(.5)), P95: micros(h.quantile(.95)), P99: micros(h.quantile(.99)), P999: micros(h.quantile(.999)),
		Max: micros(time.Duration(h.max)),
	}
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if f.Errors == nil {
			f.Errors = map[string]int64{}
		}
		f.Errors[code.Word()] += codes[code]
		if codes[code] > codes[f.code] {
			f.code = code
		}
	}
	return f
}

// sumUp computes the figures of all operations together.
func (r *Result) sumUp(seconds float64, used *usage) {
	n := int64(0)
	for i := range r.Ops {
		n += r.Ops[i].Count
	}
	r.Seconds, r.PerSecond = seconds, float64(n)/seconds
	r.ServerUS, r.GeneratorUS = used.of(n)
}

// refused returns an error if the server has refused requests.
func (r *Result) refused() error {
	for i := range r.Ops {
		if f := &r.Ops[i]; len(f.Errors) > 0 {
			return &RefusedError{Of: f.Op, Code: f.code, Count: f.Errors[f.code.Word()], All: f.Count}
		}
	}
	return nil
}

// Median combines several results of the same load, figure by figure: medians, sums
// of counts, and the longest latency of all.
func Median(all []*Result) *Result {
	if len(all) == 0 {
		return nil
	}
	m := &Result{
		Seconds:     middle(all, func(r *Result) float64 { return r.Seconds }),
		PerSecond:   middle(all, func(r *Result) float64 { return r.PerSecond }),
		ServerUS:    middle(all, func(r *Result) float64 { return r.ServerUS }),
		GeneratorUS: middle(all, func(r *Result) float64 { return r.GeneratorUS }),
		LateUS:      middle(all, func(r *Result) float64 { return r.LateUS }),
		RSSBefore:   middle(all, func(r *Result) int64 { return r.RSSBefore }),
		RSSAfter:    middle(all, func(r *Result) int64 { return r.RSSAfter }),
	}
	for _, r := range all {
		m.Unsent += r.Unsent
	}
	for i := range all[0].Ops {
		of := func(get func(f *Figure) float64) float64 {
			return middle(all, func(r *Result) float64 { return get(&r.Ops[i]) })
		}
		f := Figure{
			Op:        all[0].Ops[i].Op,
			PerSecond: of(func(f *Figure) float64 { return f.PerSecond }),
			P50:       of(func(f *Figure) float64 { return f.P50 }),
			P95:       of(func(f *Figure) float64 { return f.P95 }),
			P99:       of(func(f *Figure) float64 { return f.P99 }),
			P999:      of(func(f *Figure) float64 { return f.P999 }),
		}
		for _, r := range all {
			one := &r.Ops[i]
			f.Count += one.Count
			f.Max = max(f.Max, one.Max)
			for word, n := range one.Errors {
				if f.Errors == nil {
					f.Errors = map[string]int64{}
				}
				f.Errors[word] += n
			}
		}
		m.Ops = append(m.Ops, f)
	}
	return m
}

func middle[T float64 | int64](all []*Result, get func(*Result) T) T {
	values := make([]T, len(all))
	for i, r := range all {
		values[i] = get(r)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2 // the middle one, or the mean of the two in the middle
}

// usage is the processor time of the server and of this process.
type usage struct {
	pid         int
	server, own time.Duration
	failed      bool
}

func (u *usage) begin() {
	if u.pid > 0 {
		var err error
		u.server, err = cpuOf(u.pid)
		u.failed = err != nil
	}
	u.own = ownCPU()
}

func (u *usage) end() {
	if u.pid > 0 && !u.failed {
		now, err := cpuOf(u.pid)
		u.server, u.failed = now-u.server, err != nil
	}
	u.own = ownCPU() - u.own
}

// of is the time per request, of n requests, in µs; 0: unknown.
func (u *usage) of(n int64) (server, own float64) {
	if n == 0 {
		return 0, 0
	}
	per := func(d time.Duration) float64 { return math.Round(micros(d)/float64(n)*1000) / 1000 }
	if u.pid > 0 && !u.failed {
		server = per(u.server)
	}
	return server, per(u.own)
}
