package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// stuff returns the bytes of a snapshot.
func stuff(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func header(b []byte) SnapshotHeader {
	sum := sha256.Sum256(b)
	return SnapshotHeader{Index: 7, Term: 3, Size: int64(len(b)), Descriptor: sum[:]}
}

// keep makes a node store snapshots in got, unless that is nil, and counts the calls.
func (x *node) keep(got *[]byte) *atomic.Int32 {
	var calls atomic.Int32
	x.takes(func(_ context.Context, from uint64, h SnapshotHeader, r io.Reader) error {
		calls.Add(1)
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if h.Index != 7 || h.Term != 3 || h.Size != int64(len(b)) || from != 1 {
			return errors.New("another header")
		}
		*got = b
		return nil
	})
	return &calls
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for _, n := range []int{0, 1, chunkBytes, chunkBytes + 1, 5 << 20} {
		want, got := stuff(n), []byte("nothing")
		b.keep(&got)
		if err := a.SendSnapshot(t.Context(), 2, header(want), bytes.NewReader(want)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d came, %v", n, len(got), err)
		}
	}
	// If it is offered again soon, it is not taken again.
	want := stuff(5 << 20)
	var got []byte
	calls := b.keep(&got)
	if err := a.SendSnapshot(t.Context(), 2, header(want), bytes.NewReader(want)); err != nil || calls.Load() != 0 {
		t.Error(calls.Load(), err)
	}
}

func TestSnapshotCut(t *testing.T) {
	t.Parallel()
	want := stuff(3*chunkBytes + 100)
	for _, at := range []int64{1, 200, 600, chunkBytes, 2*chunkBytes + 1000, 3*chunkBytes + 350, int64(len(want)) + 330, int64(len(want)) + 400} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			var d detour
			a, b := n.start(t, 1, d.config), n.start(t, 2)
			a.SetPeer(2, []string{"n2"})
			b.SetPeer(1, nil)
			time.Sleep(time.Second)
			cuts, sent := 3, make([]*meter, 0, 4)
			d.set(func(nc net.Conn) net.Conn {
				if cuts--; cuts >= 0 {
					nc.(*conn).limit.Store(at)
				}
				sent = append(sent, &meter{Conn: nc})
				return sent[len(sent)-1]
			})
			var got []byte
			calls := b.keep(&got)
			err := a.SendSnapshot(t.Context(), 2, header(want), bytes.NewReader(want))
			if err != nil || !bytes.Equal(got, want) || calls.Load() != 1 {
				t.Errorf("cut at %d: %d bytes came in %d calls, %v", at, len(got), calls.Load(), err)
			}
			total := int64(0)
			for _, m := range sent {
				total += m.n
			}
			if most := int64(len(want)) + 4*(chunkBytes+2000); total > most {
				t.Errorf("cut at %d: %d bytes were sent", at, total)
			}
			a.stop()
			b.stop()
		})
	}
}

type meter struct {
	net.Conn
	n int64
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	m.n += int64(n)
	return n, err
}

func TestSnapshotErrors(t *testing.T) {
	t.Parallel()
	want := stuff(2 * chunkBytes)
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := n.start(t, 1), n.start(t, 2)
		meet(a, b)
		time.Sleep(time.Second)
		send := func(h SnapshotHeader, r io.ReaderAt) error { return a.SendSnapshot(t.Context(), 2, h, r) }
		told := func(err error) string {
			if r, ok := errors.AsType[*RemoteError](err); ok {
				return r.Text
			}
			return ""
		}

		b.takes(func(context.Context, uint64, SnapshotHeader, io.Reader) error { return errors.New("no room") })
		if err := send(header(want), bytes.NewReader(want)); told(err) != "no room" {
			t.Error("refused at once:", err)
		}
		// When the handler refuses, the first chunk waits to be read, and the next one after it.
		b.takes(func(context.Context, uint64, SnapshotHeader, io.Reader) error {
			time.Sleep(time.Second)
			return errors.New("no room now")
		})
		for range 20 {
			if err := send(header(want), bytes.NewReader(want)); told(err) != "no room now" {
				t.Fatal("refused before a chunk was read:", err)
			}
		}
		b.takes(func(_ context.Context, _ uint64, _ SnapshotHeader, r io.Reader) error {
			_, _ = io.ReadFull(r, make([]byte, chunkBytes+1))
			return errors.New("no more room")
		})
		if err := send(header(want), bytes.NewReader(want)); told(err) != "no more room" {
			t.Error("refused on the way:", err)
		}
		b.takes(func(_ context.Context, _ uint64, _ SnapshotHeader, r io.Reader) error {
			_, err := io.ReadFull(r, make([]byte, len(want)))
			return err
		})
		if err := send(header(want), bytes.NewReader(want)); told(err) != errUnread.Error() {
			t.Error("not read to the end:", err)
		}
		// The handler is slow, and the connection lives on.
		b.takes(func(_ context.Context, _ uint64, _ SnapshotHeader, r io.Reader) error {
			_, _ = io.ReadFull(r, make([]byte, 1))
			time.Sleep(2 * ResumeTime)
			_, err := io.Copy(io.Discard, r)
			time.Sleep(2 * ResumeTime)
			return err
		})
		if err := send(header(want), bytes.NewReader(want)); err != nil {
			t.Error("a slow one:", err)
		}
		// A snapshot that failed is tried anew.
		var got []byte
		b.keep(&got)
		h := header(want)
		h.Descriptor = []byte("another")
		if err := send(h, bytes.NewReader(want)); err != nil || !bytes.Equal(got, want) {
			t.Error(err)
		}
		// The sender's own file cannot be read.
		h.Descriptor = []byte("a third")
		if err := send(h, bytes.NewReader(want[:100])); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Error("a short file:", err)
		}
		if err := a.SendSnapshot(t.Context(), 5, h, nil); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		// The peer is gone for good.
		h.Descriptor = []byte("a fourth")
		b.stop()
		began := time.Now()
		if err := send(h, bytes.NewReader(want)); err == nil || time.Since(began) < ResumeTime || time.Since(began) > ResumeTime+2*MostPause {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.SendSnapshot(ctx, 2, h, bytes.NewReader(want)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		a.stop()
	})
}

// Only one snapshot at a time goes to a peer; another one from the same sender ends the first; the rest of an
// interrupted one is waited for, but not for ever.
func TestSnapshotTurns(t *testing.T) {
	t.Parallel()
	want := stuff(2 * chunkBytes)
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := n.start(t, 1), n.start(t, 2)
		meet(a, b)
		time.Sleep(time.Second)
		ended := make(chan error, 10)
		b.takes(func(_ context.Context, _ uint64, _ SnapshotHeader, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			ended <- err
			return err
		})
		// A source that never ends.
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		stuck := make(chan struct{})
		go func() { first <- a.SendSnapshot(ctx, 2, header(want), &hesitant{bytes.NewReader(want), stuck}) }()
		time.Sleep(time.Second)
		if err := a.SendSnapshot(t.Context(), 2, header(want), bytes.NewReader(want)); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		cancel()
		synctest.Wait() // the connection is cut before the source goes on
		close(stuck)
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if len(ended) > 0 {
			t.Error("the rest is not waited for")
		}
		h := header(want)
		h.Index = 8
		if err := a.SendSnapshot(t.Context(), 2, h, bytes.NewReader(want)); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, errSuperseded) {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		// The connection is cut, and nothing more arrives.
		stuck = make(chan struct{})
		ctx, cancel = context.WithCancel(t.Context())
		h.Index = 9
		go func() { first <- a.SendSnapshot(ctx, 2, h, &hesitant{bytes.NewReader(want), stuck}) }()
		time.Sleep(time.Second)
		cancel()
		synctest.Wait() // the connection is cut before the source goes on
		close(stuck)
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		began := time.Now()
		if err := <-ended; !errors.Is(err, errCut) || time.Since(began) != ResumeTime {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		// The sender is removed.
		stuck = make(chan struct{})
		h.Index = 10
		go func() { first <- a.SendSnapshot(t.Context(), 2, h, &hesitant{bytes.NewReader(want), stuck}) }()
		time.Sleep(time.Second)
		b.RemovePeer(1)
		if err := <-ended; !errors.Is(err, errRemoved) {
			t.Error(err)
		}
		close(stuck)
		if err := <-first; !isRemote(err) {
			t.Error(err)
		}
		go func() { first <- a.SendSnapshot(t.Context(), 2, h, bytes.NewReader(want)) }()
		time.Sleep(time.Second)
		a.RemovePeer(2)
		if err := <-first; !errors.Is(err, errRemoved) {
			t.Error(err)
		}
		a.stop()
		b.stop()
	})
}

// hesitant returns its second chunk once stuck is closed.
type hesitant struct {
	r     *bytes.Reader
	stuck chan struct{}
}

func (h *hesitant) ReadAt(b []byte, at int64) (int, error) {
	if at >= chunkBytes {
		<-h.stuck
	}
	return h.r.ReadAt(b, at)
}

func TestSnapshotRate(t *testing.T) {
	t.Parallel()
	want := stuff(4 * chunkBytes)
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := n.start(t, 1, func(c *Config) { c.SnapshotRate = chunkBytes / 10 }), n.start(t, 2)
		meet(a, b)
		var got []byte
		b.keep(&got)
		began := time.Now()
		err := a.SendSnapshot(t.Context(), 2, header(want), bytes.NewReader(want))
		if d := time.Since(began); err != nil || d < 39*time.Second || d > 41*time.Second {
			t.Errorf("it took %s: %v", d, err)
		}
		if s := a.Stats().Peers[0]; !s.Up || s.Links != 1 {
			t.Errorf("the link suffered: %+v", s)
		}
		a.stop()
		b.stop()
	})
}

// A peer whose stream differs from what it announced.
func TestSnapshotCorrupt(t *testing.T) {
	t.Parallel()
	want := stuff(100)
	sum := sha256.Sum256(want)
	place := func(at uint64) []byte { return binary.BigEndian.AppendUint64(nil, at) }
	for name, c := range map[string]struct {
		send func(w *wire)
		told int32
	}{
		"a wrong hash":   {func(w *wire) { _ = w.send(frameChunk, place(0), want); _ = w.send(frameEnd, make([]byte, 32)) }, remoteCorrupt},
		"too short":      {func(w *wire) { _ = w.send(frameChunk, place(0), want[:99]); _ = w.send(frameEnd, sum[:]) }, remoteCorrupt},
		"too long":       {func(w *wire) { _ = w.send(frameChunk, place(0), want, want) }, remoteCorrupt},
		"a gap":          {func(w *wire) { _ = w.send(frameChunk, place(1), want[:9]) }, remoteCorrupt},
		"twice":          {func(w *wire) { _ = w.send(frameChunk, place(0), want[:9]); _ = w.send(frameChunk, place(0), want[:9]) }, remoteCorrupt},
		"an empty chunk": {func(w *wire) { _ = w.send(frameChunk, place(0)) }, remoteCorrupt},
		"no place":       {func(w *wire) { _ = w.send(frameChunk, want[:3]) }, remoteCorrupt},
		"more than all": {func(w *wire) {
			_ = w.send(frameChunk, place(0), want)
			_ = w.send(frameEnd, sum[:])
			_ = w.send(frameChunk, place(100), want)
		}, remoteCorrupt},
		"an offer within":   {func(w *wire) { _ = w.send(frameOffer, offerBytes(&SnapshotHeader{})) }, 0},
		"messages within":   {func(w *wire) { _ = w.send(frameRaft, []byte{3, 8, 0, 0}) }, 0},
		"a negative length": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				a, b := n.start(t, 1), n.start(t, 2)
				b.SetPeer(1, nil)
				var whole atomic.Bool
				b.takes(func(ctx context.Context, _ uint64, _ SnapshotHeader, r io.Reader) error {
					_, err := io.ReadAll(iotest.OneByteReader(r))
					whole.Store(err == nil)
					<-ctx.Done() // the installation takes long
					return err
				})
				w, _, err := a.dial(t.Context(), "n2", purposeSnapshot, 2)
				if err != nil {
					t.Fatal(err)
				}
				h := SnapshotHeader{Index: 1, Size: 100}
				if c.send == nil {
					h.Size = -1
				}
				var told atomic.Int32
				go func() {
					for {
						f, b, err := w.in.read()
						if err != nil {
							return
						}
						if f == frameDone {
							told.Store(int32(binary.BigEndian.Uint16(b)))
						}
					}
				}()
				_ = w.send(frameOffer, offerBytes(&h))
				if c.send != nil {
					c.send(w)
				}
				time.Sleep(SilenceTime + time.Second)
				if want := c.told; told.Load() != want {
					t.Errorf("told %d, want %d", told.Load(), want)
				}
				if b.Stats().Damaged != 1 || whole.Load() && name != "more than all" {
					t.Errorf("%+v, whole: %v", b.Stats(), whole.Load())
				}
				w.cut()
				a.stop()
				b.stop()
				if b.logs.count("peer connection closed") != 1 {
					t.Error(b.logs.b.String())
				}
			})
		})
	}
}

// TestSnapshotOfferedInVain: if a connection ends before it can feed the snapshot that it has offered, nothing is
// left of the snapshot once its rest has not come in time.
func TestSnapshotOfferedInVain(t *testing.T) {
	t.Parallel()
	_, b := pair(t)
	b.takes(func(_ context.Context, _ uint64, _ SnapshotHeader, r io.Reader) error {
		_, err := io.ReadAll(r)
		return err
	})
	here, there := net.Pipe()
	defer there.Close()
	w := newWire(here, here, make([]byte, 8), make([]byte, 8))
	w.cut()
	for index := uint64(1); ; index++ { // it may get its turn all the same
		in, err := b.attach(t.Context(), w, 1, offerBytes(&SnapshotHeader{Index: index, Size: 9}))
		if err != nil {
			break
		}
		in.turn <- struct{}{}
	}
	incoming := func() *incoming {
		b.Links.mu.Lock()
		defer b.Links.mu.Unlock()
		return b.Links.mu.incoming[1]
	}
	in := incoming()
	if in.expire == nil {
		t.Fatal("a snapshot that nobody feeds is waited for without an end")
	}
	in.expire.Reset(0)
	eventually(t, func() bool { return incoming() == nil })
}
