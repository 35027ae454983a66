package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestHistogramError: no quantile is off by more than 0.4 %, over nine decades.
func TestHistogramError(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var h histogram
	values := make([]int64, 100_000)
	for i := range values {
		values[i] = int64(math.Pow(10, 9.5*rng.Float64()))
		h.record(values[i])
	}
	slices.Sort(values)
	for _, q := range []float64{0, .001, .01, .1, .25, .5, .75, .9, .95, .99, .999, .9999, 1} {
		want := float64(values[max(int(math.Ceil(q*float64(len(values))))-1, 0)])
		got := float64(h.quantile(q))
		if math.Abs(got-want) > want*.004+.5 {
			t.Errorf("quantile %v: %v, exact is %v", q, got, want)
		}
	}
	if h.max != values[len(values)-1] || h.n != int64(len(values)) {
		t.Errorf("max %d, n %d", h.max, h.n)
	}
}

func TestHistogramEdges(t *testing.T) {
	t.Parallel()
	for _, ns := range []int64{0, 1, 127, 128, 129, 255, 256, 1 << 20, mostNS - 1, mostNS} {
		b := bucketOf(ns)
		if b < 0 || b >= buckets || math.Abs(float64(middleOf(b)-ns)) > float64(ns)*.004 {
			t.Errorf("%d ns: bucket %d of %d, which stands for %d", ns, b, buckets, middleOf(b))
		}
	}
	for b := range buckets - 1 {
		if middleOf(b) >= middleOf(b+1) || bucketOf(middleOf(b)) != b {
			t.Errorf("bucket %d stands for %d, the next one for %d", b, middleOf(b), middleOf(b+1))
		}
	}
	var h, other histogram
	if h.quantile(.5) != 0 {
		t.Error("an empty one has a median")
	}
	h.record(-5)
	other.record(int64(time.Hour))
	h.add(&other)
	if h.n != 2 || h.quantile(.5) != 0 || h.max != int64(time.Hour) || h.quantile(1) < 36*time.Minute {
		t.Errorf("%d, %v, %v", h.n, h.quantile(.5), h.quantile(1))
	}
}
