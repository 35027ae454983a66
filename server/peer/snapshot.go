package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"sync"
	"time"
)

// SnapshotHeader announces a snapshot. The descriptor must distinguish the snapshot from any other
// of the same index and size, because an interrupted transfer is resumed by it.
type SnapshotHeader struct {
	Index, Term uint64
	Size        int64
	Descriptor  []byte
}

var (
	// ErrBusy says that a snapshot is already on its way to the peer.
	ErrBusy = errors.New("peer: a snapshot is already being sent to that node")
	// ErrUnknown says that SetPeer has named no such peer.
	ErrUnknown = errors.New("peer: no such peer")
)

// offerBytes returns the payload of an OFFER.
func offerBytes(h *SnapshotHeader) []byte {
	b := binary.BigEndian.AppendUint64(nil, h.Index)
	b = binary.BigEndian.AppendUint64(b, h.Term)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Size))
	return append(b, h.Descriptor...)
}

func parseOffer(b []byte) (SnapshotHeader, error) {
	if len(b) < 24 || binary.BigEndian.Uint64(b[16:]) > math.MaxInt64 {
		return SnapshotHeader{}, damaged("malformed OFFER frame")
	}
	return SnapshotHeader{
		Index: binary.BigEndian.Uint64(b), Term: binary.BigEndian.Uint64(b[8:]),
		Size: int64(binary.BigEndian.Uint64(b[16:])), Descriptor: bytes.Clone(b[24:]),
	}, nil
}

// SendSnapshot sends a snapshot, redialling when the connection breaks, until the peer has it, or
// reports an error, or nothing came through for ResumeTime. While another snapshot is being sent to the
// same peer it returns ErrBusy.
func (l *Links) SendSnapshot(ctx context.Context, to uint64, h SnapshotHeader, src io.ReaderAt) error {
	if len(h.Descriptor) > MaxDescriptorBytes || h.Size < 0 {
		return fmt.Errorf("peer: invalid snapshot: descriptor of %d bytes, data of %d bytes", len(h.Descriptor), h.Size)
	}
	p := l.peer(to)
	if p == nil {
		return ErrUnknown
	}
	if !p.sending.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer p.sending.Store(false)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with ctx
		select {
		case <-p.stop:
			cancel(errRemoved)
		case <-ctx.Done():
		}
	}()
	o := outgoing{p: p, h: h, src: src, progress: time.Now()}
	for pause := LeastPause; ; pause = min(2*pause, MostPause) {
		before := o.progress
		err := o.attempt(ctx)
		switch {
		case err == nil || isRemote(err) || o.source:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Since(o.progress) >= ResumeTime:
			return fmt.Errorf("peer: snapshot %d to node %016x: %w", h.Index, to, err)
		}
		if o.progress != before {
			pause = LeastPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(pause)):
		}
	}
}

// outgoing is a snapshot being sent.
type outgoing struct {
	p        *peer
	h        SnapshotHeader
	src      io.ReaderAt
	progress time.Time // when bytes last came through
	source   bool      // the error comes from src
}

// attempt sends the snapshot on one connection.
func (o *outgoing) attempt(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, HandshakeTime)
	w, _, err := o.p.dial(within, purposeSnapshot)
	cancel()
	if r, ok := errors.AsType[*Refusal](err); ok {
		o.p.l.refused(r)
	}
	if err != nil {
		return err
	}
	defer w.cut()
	defer context.AfterFunc(ctx, w.cut)()
	if err := w.send(frameOffer, offerBytes(&o.h)); err != nil {
		return err
	}
	// The other side says from which offset it wants the snapshot, and later, or instead, that it
	// is done.
	type said struct {
		offset int64
		done   bool
		err    error
	}
	heard := make(chan said, 2)
	go func() { // ends when the wire is cut
		defer w.cut()
		for resumed := false; ; {
			t, b, err := w.in.read()
			switch {
			case err != nil:
				heard <- said{done: true, err: err}
				return
			case t == frameDone:
				heard <- said{done: true, err: doneError(b)}
				return
			case t == frameResume && !resumed && len(b) == 8 && binary.BigEndian.Uint64(b) <= uint64(o.h.Size):
				resumed = true
				heard <- said{offset: int64(binary.BigEndian.Uint64(b))}
			case t != frameBeat:
				heard <- said{done: true, err: damaged("RESUME frame without a valid offset")}
				return
			}
		}
	}()
	s := <-heard
	if !s.done {
		err := o.stream(w, s.offset)
		if o.source {
			return err
		}
		if err != nil {
			w.cut()
		}
		s = <-heard // the DONE explains a write that failed
		if err != nil && s.err != nil && !isRemote(s.err) {
			return err
		}
	}
	return s.err
}

func isRemote(err error) bool {
	_, ok := errors.AsType[*RemoteError](err)
	return ok
}

// doneError reads a DONE.
func doneError(b []byte) error {
	if len(b) < 2 {
		return damaged("DONE frame of %d bytes is too short", len(b))
	}
	if binary.BigEndian.Uint16(b) == 0 {
		return nil
	}
	return &RemoteError{string(b[2:])}
}

// stream sends everything from offset on.
func (o *outgoing) stream(w *wire, offset int64) error {
	sum := sha256.New()
	read := func(r io.Reader, b []byte) error {
		_, err := io.ReadFull(r, b)
		if err != nil {
			o.source = true
			return fmt.Errorf("peer: reading snapshot %d: %w", o.h.Index, err)
		}
		sum.Write(b)
		return nil
	}
	buf := make([]byte, min(chunkBytes, o.h.Size))
	r := io.NewSectionReader(o.src, 0, o.h.Size)
	for at := int64(0); at < offset; {
		n := min(offset-at, int64(len(buf)))
		if err := read(r, buf[:n]); err != nil {
			return err
		}
		at += n
	}
	began, rate := time.Now(), o.p.l.cfg.SnapshotRate
	for at := offset; at < o.h.Size; {
		n := min(o.h.Size-at, int64(len(buf)))
		if err := read(r, buf[:n]); err != nil {
			return err
		}
		if err := w.send(frameChunk, binary.BigEndian.AppendUint64(nil, uint64(at)), buf[:n]); err != nil {
			return err
		}
		at += n
		o.progress = time.Now()
		if rate > 0 {
			due := time.Duration(float64(at-offset) / float64(rate) * float64(time.Second))
			select {
			case <-w.end:
				return io.ErrClosedPipe
			case <-time.After(due - time.Since(began)):
			}
		}
	}
	return w.send(frameEnd, sum.Sum(nil))
}

// incoming is a snapshot that arrives, over one connection or several. The goroutine of its current
// connection feeds it; the handler's goroutine reads it.
type incoming struct {
	offer  []byte
	size   int64
	chunks chan []byte   // to the handler, unbuffered
	failed chan struct{} // nothing more comes
	err    error         // valid then
	once   sync.Once
	done   chan struct{} // the handler has returned
	result error         // valid then

	// The fields of the connection that feeds it; the next connection takes over when this one has
	// left.
	turn   chan struct{} // holds a token while no connection feeds
	w      *wire         // under Links.mu: the connection that feeds, or waits to
	offset int64         // bytes taken by the handler
	sum    hash.Hash     // of those bytes
	whole  bool          // everything has arrived, and the hash was right
	expire *time.Timer   // runs while no connection feeds

	rest []byte // the rest of a chunk; owned by the handler's goroutine, like the next field
	read bool   // read to the end
}

var (
	errCut        = errors.New("peer: the snapshot was interrupted and not resumed")
	errSuperseded = errors.New("peer: superseded by another snapshot")
	errUnread     = errors.New("peer: the snapshot was not read to its end and could not be verified")
	errCorrupt    = errors.New("peer: the snapshot does not match its announcement")
)

func (in *incoming) fail(err error) {
	in.once.Do(func() {
		in.err = err
		close(in.failed)
	})
}

// expireLater gives the snapshot up unless a connection feeds it soon. The caller has its turn.
func (in *incoming) expireLater() {
	in.expire = time.AfterFunc(ResumeTime, func() { in.fail(errCut) })
}

// Read returns to the handler what has arrived.
func (in *incoming) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(in.rest) == 0 {
		var ok bool
		select {
		case in.rest, ok = <-in.chunks:
			if !ok {
				in.read = true
				return 0, io.EOF
			}
		case <-in.failed:
			return 0, in.err
		}
	}
	n := copy(b, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// attach returns the snapshot that an OFFER continues, or begins a new one.
func (l *Links) attach(ctx context.Context, w *wire, from uint64, offer []byte) (*incoming, error) {
	h, err := parseOffer(offer)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	if p := l.mu.peers[from]; p == nil || p.removed {
		l.mu.Unlock()
		return nil, errRemoved
	}
	in := l.mu.incoming[from]
	if in != nil && in.w != nil {
		in.w.cut() // the dialer has given up that connection
	}
	if in == nil || !bytes.Equal(in.offer, offer) || in.isOver() {
		old := in
		in = &incoming{
			offer: bytes.Clone(offer), size: h.Size, chunks: make(chan []byte), failed: make(chan struct{}),
			done: make(chan struct{}), turn: make(chan struct{}, 1), sum: sha256.New(),
		}
		in.expireLater() // in case this connection ends before it can feed it
		in.turn <- struct{}{}
		l.mu.incoming[from] = in
		if old != nil {
			old.fail(errSuperseded)
		}
		if !l.startLocked(func(ctx context.Context) { l.install(ctx, from, h, in, old) }) {
			in.fail(context.Canceled)
			close(in.done)
		}
	}
	in.w = w
	l.mu.Unlock()
	select {
	case <-in.turn:
	case <-w.end:
		return nil, io.ErrClosedPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	in.expire.Stop()
	return in, nil
}

// isOver says whether a new OFFER of it begins anew: a snapshot that failed is tried again, one
// that the handler took is not.
func (in *incoming) isOver() bool {
	select {
	case <-in.failed:
		return true
	case <-in.done:
		return in.result != nil
	default:
		return false
	}
}

// install gives the snapshot to the handler once the one before is over.
func (l *Links) install(ctx context.Context, from uint64, h SnapshotHeader, in, old *incoming) {
	if old != nil {
		<-old.done
	}
	defer context.AfterFunc(ctx, func() { in.fail(ctx.Err()) })()
	if in.result = l.cfg.Handler.Snapshot(ctx, from, h, in); in.result == nil && !in.read {
		in.result = errUnread
	}
	close(in.done)
	// A dialer that has missed the DONE offers the snapshot again.
	forget := time.NewTimer(ResumeTime)
	defer forget.Stop()
	select {
	case <-forget.C:
	case <-ctx.Done():
	case <-in.failed:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.incoming[from] == in {
		delete(l.mu.incoming, from)
	}
}

// takeSnapshot feeds a snapshot from one connection.
func (l *Links) takeSnapshot(ctx context.Context, w *wire, from uint64) error {
	late := time.AfterFunc(HandshakeTime, w.cut)
	t, offer, err := w.in.read()
	for err == nil && t == frameBeat {
		t, offer, err = w.in.read()
	}
	late.Stop()
	if err != nil {
		return err
	}
	if t != frameOffer {
		return damaged("snapshot without an OFFER")
	}
	in, err := l.attach(ctx, w, from, offer)
	if err != nil {
		return err
	}
	err = in.feed(w)
	if !errors.Is(err, errCorrupt) {
		in.expireLater()
	}
	in.turn <- struct{}{}
	return err
}

// feed hands on what arrives until the snapshot is complete and the handler has returned, or the
// connection ends.
func (in *incoming) feed(w *wire) error {
	if err := w.send(frameResume, binary.BigEndian.AppendUint64(nil, uint64(in.offset))); err != nil {
		return err
	}
	type frame struct {
		t   frameType
		b   []byte
		err error
	}
	frames := make(chan frame)
	go func() { // ends when the wire is cut
		for {
			t, b, err := w.in.read()
			select {
			case frames <- frame{t, bytes.Clone(b), err}: // cloned because the handler may keep it
			case <-w.end:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	// tell sends the DONE and waits until the other side closes: if the connection closed while the
	// other side still sends, TCP could discard the DONE.
	tell := func(code byte, text string) {
		if w.send(frameDone, []byte{0, code}, []byte(clip(text))) != nil {
			return
		}
		linger := time.NewTimer(SilenceTime)
		defer linger.Stop()
		for {
			select {
			case f := <-frames:
				if f.err != nil {
					return
				}
			case <-w.end:
				return
			case <-linger.C:
				return
			}
		}
	}
	for {
		select {
		case <-in.done:
			if in.result != nil {
				tell(remoteFailed, in.result.Error())
			} else {
				tell(0, "")
			}
			return nil
		case <-w.end:
			return io.ErrClosedPipe
		case f := <-frames:
			err := f.err
			switch {
			case err != nil:
			case in.unwanted(): // the DONE says why
				continue
			case f.t == frameChunk:
				err = in.take(w, f.b)
			case f.t == frameEnd:
				err = in.finish(f.b)
			case f.t != frameBeat:
				err = damaged("OFFER within a snapshot")
			}
			switch {
			case errors.Is(err, errCorrupt):
				in.fail(errCorrupt)
				tell(remoteCorrupt, err.Error())
				return err
			case err != nil:
				return err
			}
		}
	}
}

// unwanted says whether the handler takes no more. Some received bytes may not have been handed on then, so that
// what still arrives is out of place and must be ignored.
func (in *incoming) unwanted() bool {
	select {
	case <-in.done:
		return true
	case <-in.failed:
		return true
	default:
		return false
	}
}

// take hands a CHUNK to the handler.
func (in *incoming) take(w *wire, b []byte) error {
	if len(b) <= 8 || in.whole || binary.BigEndian.Uint64(b) != uint64(in.offset) || in.size-in.offset < int64(len(b)-8) {
		return fmt.Errorf("%w: CHUNK frame out of place", errCorrupt)
	}
	b = b[8:]
	select {
	case in.chunks <- b:
		in.offset += int64(len(b))
		in.sum.Write(b)
	case <-in.done: // the handler wants no more
	case <-in.failed:
	case <-w.end:
	}
	return nil
}

// finish verifies an END.
func (in *incoming) finish(sum []byte) error {
	if in.offset != in.size || !bytes.Equal(sum, in.sum.Sum(nil)) {
		return fmt.Errorf("%w: got %d of %d bytes, or the hash differs", errCorrupt, in.offset, in.size)
	}
	if !in.whole {
		in.whole = true
		close(in.chunks)
	}
	return nil
}
