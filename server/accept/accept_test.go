package accept_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"coord/server/accept"
)

// script is a listener whose Accept returns the scripted answers, one at a time.
type script struct {
	net.Listener
	answers chan any // a net.Conn or an error
}

func (s *script) Accept() (net.Conn, error) {
	switch a := (<-s.answers).(type) {
	case net.Conn:
		return a, nil
	case error:
		return nil, a
	}
	return nil, net.ErrClosed
}

// Transient errors are retried at growing intervals, which a connection resets. Any other error
// ends Loop, and so does the end of its context once the listener fails.
func TestLoop(t *testing.T) {
	t.Parallel()
	full := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	for name, tt := range map[string]struct {
		answers []any
		canceled,
		fails bool
		conns int
		took  time.Duration
	}{
		"closed":               {answers: []any{net.ErrClosed}, fails: true},
		"closed at the end":    {answers: []any{net.ErrClosed}, canceled: true},
		"no socket":            {answers: []any{&net.OpError{Op: "accept", Err: syscall.EINVAL}}, fails: true},
		"connections":          {answers: []any{&net.TCPConn{}, &net.TCPConn{}, net.ErrClosed}, fails: true, conns: 2},
		"full":                 {answers: []any{full, full, full, net.ErrClosed}, fails: true, took: 35 * time.Millisecond},
		"full, and then not":   {answers: []any{full, full, &net.TCPConn{}, full, net.ErrClosed}, fails: true, conns: 1, took: 20 * time.Millisecond},
		"full for long":        {answers: []any{full, full, full, full, full, full, full, full, full, full, net.ErrClosed}, fails: true, took: 3275 * time.Millisecond},
		"full, and at the end": {answers: []any{full, full, net.ErrClosed}, canceled: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &script{answers: make(chan any, len(tt.answers))}
				for _, a := range tt.answers {
					l.answers <- a
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.canceled {
					cancel()
				}
				conns, began, log := 0, time.Now(), zerolog.Nop()
				err := accept.Loop(ctx, l, &log, func(net.Conn) { conns++ })
				if (err != nil) != tt.fails || conns != tt.conns || time.Since(began) != tt.took {
					t.Errorf("%v, %d connections, after %v", err, conns, time.Since(began))
				}
				if last, _ := tt.answers[len(tt.answers)-1].(error); tt.fails && !errors.Is(err, last) {
					t.Errorf("it ends with %v", err)
				}
			})
		})
	}
}
