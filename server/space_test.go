package server

import (
	"testing"
	"time"
)

// A disk is asked again before the space that is free above the reserve can have been filled.
func TestRoomFor(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[uint64]time.Duration{
		0: 0, 4 << 20: 976562 * time.Nanosecond, 64 << 20: 15625 * time.Microsecond, 1 << 30: askAtLeast, 1 << 50: askAtLeast,
	} {
		if got := roomFor(bytes); got != want {
			t.Errorf("%d bytes: %v instead of %v", bytes, got, want)
		}
	}
}
