package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Codes of why a snapshot or a request failed on the other side.
const (
	remoteCorrupt = 1 // DONE: the stream is not what was announced
	remoteFailed  = 2 // DONE: the handler's error
	remoteError   = 1 // ANSWER: the handler's error
	remoteBusy    = uint16(CodeBusy)
)

// RemoteError is an error that the other side has reported.
type RemoteError struct{ Text string }

func (e *RemoteError) Error() string { return "peer: error from the other node: " + e.Text }

// ErrUnanswered says that a request was sent and no answer came back: it may have been carried out.
var ErrUnanswered = errors.New("peer: no answer to a request")

// Request asks the node at addr, whichever it is, and returns that node's hello with the answer. The
// node must have the same secret, and the same cluster unless one of the two has none. If the request
// may have been carried out despite an error, the error is an ErrUnanswered.
func (l *Links) Request(ctx context.Context, addr string, body []byte) (Hello, []byte, error) {
	if len(body) > MaxRequestBytes {
		return Hello{}, nil, fmt.Errorf("peer: request of %d bytes is too large", len(body))
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTime)
	defer cancel()
	w, theirs, err := l.dial(ctx, addr, purposeRequest, 0)
	if err != nil {
		if r, ok := errors.AsType[*Refusal](err); ok {
			l.refused(r)
		}
		return Hello{}, nil, err
	}
	defer w.cut()
	defer context.AfterFunc(ctx, w.cut)()
	if err := w.send(frameRequest, body); err != nil {
		return theirs, nil, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	t, b, err := w.in.read()
	for err == nil && t == frameBeat {
		t, b, err = w.in.read()
	}
	switch {
	case ctx.Err() != nil:
		return theirs, nil, fmt.Errorf("%w: %w", ErrUnanswered, ctx.Err())
	case err != nil:
		return theirs, nil, fmt.Errorf("%w: %w", ErrUnanswered, err)
	case len(b) < 2:
		return theirs, nil, fmt.Errorf("%w: %w", ErrUnanswered, damaged("ANSWER frame of %d bytes is too short", len(b)))
	case binary.BigEndian.Uint16(b) != 0:
		return theirs, nil, &RemoteError{string(b[2:])}
	}
	return theirs, b[2:], nil
}

// takeRequest answers one request.
func (l *Links) takeRequest(ctx context.Context, w *wire, theirs Hello) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTime)
	defer cancel()
	defer context.AfterFunc(ctx, w.cut)()
	t, body, err := w.in.read()
	for err == nil && t == frameBeat {
		t, body, err = w.in.read()
	}
	if err != nil {
		return err
	}
	answer := func(code uint16, b []byte) error {
		return w.send(frameAnswer, binary.BigEndian.AppendUint16(nil, code), b)
	}
	select {
	case l.requests <- struct{}{}:
		defer func() { <-l.requests }()
	default:
		return answer(remoteBusy, []byte("too many requests at once"))
	}
	b, err := l.cfg.Handler.Request(ctx, theirs, body)
	switch {
	case err != nil:
		return answer(remoteError, []byte(clip(err.Error())))
	case len(b) > MaxAnswerBytes:
		return answer(remoteError, fmt.Appendf(nil, "answer of %d bytes is too large", len(b)))
	}
	return answer(0, b)
}
