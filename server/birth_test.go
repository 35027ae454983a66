package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// What keeps a node from being taken in is said once for each address and reason, not twice
// a second for as long as it lasts; that somebody is not there yet, waiting says.
func TestComplain(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	m := &machine{e: &ensemble{log: zerolog.New(&log).Level(zerolog.InfoLevel)}, complaints: map[string]string{}}
	for range 3 {
		m.complain("a:1", "no", errors.New("one"))
		m.complain("b:1", "no", errors.New("one"))
		m.complain("b:1", "no", &net.OpError{Op: "dial", Err: errors.New("refused")})
		m.complain("b:1", "no", context.DeadlineExceeded)
	}
	m.complain("a:1", "no", errors.New("two"))
	want := `{"level":"warn","error":"one","addr":"a:1","message":"no"}
{"level":"warn","error":"one","addr":"b:1","message":"no"}
{"level":"warn","error":"two","addr":"a:1","message":"no"}
`
	if got := log.String(); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
}
