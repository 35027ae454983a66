package server

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// TestHostMemory: the least limit counts, and those that cannot be found out do not.
func TestHostMemory(t *testing.T) {
	t.Parallel()
	unknown := func() (uint64, error) { return 7, memlimit.ErrNoLimit }
	for _, tt := range []struct {
		limits []memlimit.Provider
		want   uint64
	}{
		{nil, 0},
		{[]memlimit.Provider{unknown, memlimit.Limit(0)}, 0},
		{[]memlimit.Provider{memlimit.Limit(512), unknown}, 512},
		{[]memlimit.Provider{memlimit.Limit(512), memlimit.Limit(128)}, 128},
		{[]memlimit.Provider{memlimit.Limit(64), memlimit.Limit(128)}, 64},
	} {
		if got := hostMemory(tt.limits...); got != tt.want {
			t.Errorf("%d, want %d", got, tt.want)
		}
	}
	for host, want := range map[uint64]int64{1 << 20: 16 << 20, 64 << 20: 40 << 20, 512 << 20: 376 << 20, math.MaxUint64: 1<<60*3 - 8<<20} {
		if got := runtimeShare(host); got != want {
			t.Errorf("of %d bytes %d, want %d", host, got, want)
		}
	}
}

// TestLimitMemory: the runtime has a limit, unless the operator has given it one.
func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "1TiB")
	limitMemory()
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("the operator's limit has become %d", got)
	}
	t.Setenv("GOMEMLIMIT", "")
	limitMemory()
	if got := debug.SetMemoryLimit(-1); got == math.MaxInt64 {
		t.Error("there is no limit")
	}
}
