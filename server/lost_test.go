package server

import (
	"errors"
	"fmt"
	"testing"

	"coord/server/replica"
)

// A node that learns from its leader that its log has lost entries comes back as another node, as after a refusal.
func TestAnOlderLogIsLost(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("replica: %w", replica.ErrOlder)
	ended := (&node{ens: &ensemble{}}).fatal(err)
	if _, ok := errors.AsType[*lostError](ended); !ok || !errors.Is(ended, ErrDamaged) {
		t.Errorf("%v", ended)
	}
	alone := (&node{}).fatal(err)
	if _, ok := errors.AsType[*lostError](alone); ok || !errors.Is(alone, ErrDamaged) {
		t.Errorf("alone: %v", alone)
	}
}
