package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"coord/server/text"
	"coord/tree/znode"
)

// SnapshotOptions select a snapshot, and how its stream is monitored.
type SnapshotOptions struct {
	Min      znode.Zxid                  // the node refuses with ErrTimeout if it has not applied this much
	Idle     time.Duration               // the longest pause of the stream; 0 is 30 s
	Progress func(z znode.Zxid, n int64) // after each piece; may be nil
}

// Snapshot describes what was received.
type Snapshot struct {
	Zxid   znode.Zxid
	Bytes  int64
	SHA256 [32]byte
}

// ErrCut means that a stream did not reach its verified end: the received bytes are worthless.
var ErrCut = errors.New("the snapshot was not received completely")

const defaultIdle = 30 * time.Second

// Snapshot writes a snapshot of everything, exact at one zxid, to w. Only a nil error means that
// all of it was received and that its checksum is right. w is not written to after Snapshot has
// returned.
func (c *Conn) Snapshot(ctx context.Context, w io.Writer, o SnapshotOptions) (Snapshot, error) {
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := stream{w: w, o: o, sum: sha256.New(), fail: cancel}
	s.idle = time.AfterFunc(o.Idle, func() { cancel(fmt.Errorf("no data for %v: %w", o.Idle, context.DeadlineExceeded)) })
	defer s.idle.Stop()
	call, err := c.send(&text.Request{Op: text.Op{Verb: text.VerbSnapshot}, Zxid: o.Min}, s.take)
	if err != nil {
		return s.got, err
	}
	r, err := call.Wait(ctx)
	if err == nil && s.err != nil { // the last reply came before the error had ended the call
		err = s.err
	}
	if err != nil {
		_ = c.Close() // waits for the reader, which may be writing to w
		switch {
		case s.err != nil:
			return s.got, s.err
		case s.began:
			return s.got, errors.Join(ErrCut, err)
		}
		return s.got, err
	}
	return s.end(r)
}

// stream receives the parts of a snapshot, on the connection's reader goroutine.
type stream struct {
	w     io.Writer
	o     SnapshotOptions
	sum   hash.Hash
	idle  *time.Timer
	fail  context.CancelCauseFunc
	began bool
	got   Snapshot
	err   error
}

// take receives a part and says whether more must come.
func (s *stream) take(r *text.Reply) bool {
	s.idle.Reset(s.o.Idle)
	switch {
	case r.Kind == text.KindOK && !s.began:
		s.began = true
		s.got.Zxid = r.Zxid(text.KeyZxid)
		return true
	case r.Kind != text.KindChunk || !s.began:
		return false
	}
	if s.err != nil {
		return true
	}
	s.sum.Write(r.Data)
	s.got.Bytes += int64(len(r.Data))
	s.idle.Stop() // a slow writer is not a pause of the stream
	if _, err := s.w.Write(r.Data); err != nil {
		s.err = &WriteError{err}
		s.fail(s.err)
		return true
	}
	s.idle.Reset(s.o.Idle)
	if s.o.Progress != nil {
		s.o.Progress(s.got.Zxid, s.got.Bytes)
	}
	return true
}

// end checks the last reply.
func (s *stream) end(r *text.Reply) (Snapshot, error) {
	want, err := hex.DecodeString(r.Str(text.KeySHA256))
	s.sum.Sum(s.got.SHA256[:0])
	switch {
	case r.Kind != text.KindEnd:
		return s.got, fmt.Errorf("%w: the server ended the stream with %v", ErrCut, r.Kind)
	case err != nil || !bytes.Equal(want, s.got.SHA256[:]):
		return s.got, fmt.Errorf("%w: its SHA-256 does not match the one that the server sent", ErrCut)
	case r.Int(text.KeyBytes) != s.got.Bytes:
		return s.got, fmt.Errorf("%w: got %d of %d bytes", ErrCut, s.got.Bytes, r.Int(text.KeyBytes))
	}
	return s.got, nil
}

// WriteError is the error of the writer to which Snapshot writes.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }
