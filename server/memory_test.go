package server

import (
	"errors"
	"runtime/debug"
	"testing"
)

// TestCollector: a large state has a fifth of itself as headroom for garbage, a small one a fixed
// amount, and one that is being loaded as much again.
func TestCollector(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	var c collector
	is := func(want int) {
		t.Helper()
		got := debug.SetGCPercent(100)
		debug.SetGCPercent(got)
		if c.percent != want || got != want {
			t.Errorf("%d percent, and the collector has %d: not %d", c.percent, got, want)
		}
	}
	c.fit(0)
	is(800) // 32 MiB of headroom for 4
	c.fit(64 << 20)
	is(50)
	c.fit(5 << 28)
	is(20)
	broken := errors.New("broken")
	err := c.whileGrowing(func() error {
		is(growingPercent)
		c.fit(5 << 28) // the tick
		is(growingPercent)
		if err := c.whileGrowing(func() error { return nil }); err != nil {
			t.Error(err)
		}
		is(growingPercent)
		return broken
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	c.fit(5 << 28)
	is(20)

	t.Setenv("GOGC", "70")
	debug.SetGCPercent(70)
	c.percent = 70
	if err := c.whileGrowing(func() error { is(70); return nil }); err != nil {
		t.Error(err)
	}
}
