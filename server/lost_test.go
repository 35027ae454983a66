package server

import (
	"errors"
	"fmt"
	"testing"

	"coord/server/replica"
)

// A node whose leader knows that its log has lost something comes back as another one, as if it had been refused.
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
