package peer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"
)

type frameType uint8

const (
	frameBeat     frameType = 1
	frameRaft     frameType = 2
	frameForward  frameType = 3
	frameOffer    frameType = 4
	frameResume   frameType = 5
	frameChunk    frameType = 6
	frameEnd      frameType = 7
	frameDone     frameType = 8
	frameRequest  frameType = 9
	frameAnswer   frameType = 10
	lastFrameType           = frameAnswer

	frameHead = 11
)

// frameLimits are the largest payloads, by type; -1 for a type that is not allowed.
type frameLimits [lastFrameType + 1]int

// limitsOf returns the limits for a connection of this purpose, on this side of it.
func limitsOf(p Purpose, dialer bool, maxFrame int) *frameLimits {
	var l frameLimits
	for t := range l {
		l[t] = -1
	}
	l[frameBeat] = 0
	switch {
	case p == purposeLink && !dialer:
		l[frameRaft], l[frameForward] = maxFrame, maxFrame
	case p == purposeSnapshot && !dialer:
		l[frameOffer], l[frameChunk], l[frameEnd] = 24+MaxDescriptorBytes, 8+chunkBytes, 32
	case p == purposeSnapshot:
		l[frameResume], l[frameDone] = 8, 2+textBytes
	case p == purposeRequest && !dialer:
		l[frameRequest] = MaxRequestBytes
	case p == purposeRequest:
		l[frameAnswer] = 2 + MaxAnswerBytes
	}
	return &l
}

// damage is an error that ends the connection: nothing after the damaged data can be trusted.
type damage string

func (d damage) Error() string { return "peer: " + string(d) }

func damaged(format string, args ...any) error { return damage(fmt.Sprintf(format, args...)) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkHead is the checksum of a frame's length and type at its place in the sequence. It is verified before the
// reader waits for the payload, so that a flipped bit in the length never makes the reader wait for bytes that do
// not come. Its lower half is sent; every single flipped bit changes that half.
func checkHead(seq uint64, head []byte) uint32 {
	var b [8 + 5]byte
	binary.BigEndian.PutUint64(b[:], seq)
	copy(b[8:], head[:5])
	return crc32.Update(0, castagnoli, b[:])
}

// checksum is that of the whole frame f, given the checksum of its head.
func checksum(head uint32, f []byte) uint32 { return crc32.Update(head, castagnoli, f[frameHead:]) }

// beginFrame appends a frame's head; sealFrame fills it in once the payload is there.
func beginFrame(b []byte, t frameType) []byte {
	return append(b, 0, 0, 0, 0, byte(t), 0, 0, 0, 0, 0, 0)
}

func sealFrame(f []byte, seq uint64) {
	binary.BigEndian.PutUint32(f, uint32(len(f)-frameHead))
	head := checkHead(seq, f)
	binary.BigEndian.PutUint16(f[5:], uint16(head))
	binary.BigEndian.PutUint32(f[7:], checksum(head, f))
}

// frameReader reads frames. It trusts a length only as far as bytes have arrived.
type frameReader struct {
	br     *bufio.Reader
	seq    uint64
	limits *frameLimits
	small  []byte // buffer of the last frame whose payload the caller does not keep
}

// keepBytes is the most that is allocated on the word of a length. Above that, memory follows the
// bytes that have arrived.
const keepBytes = 2 * burstBytes

// read returns a payload. The payload of a RAFT, FORWARD, REQUEST or ANSWER belongs to the caller;
// any other is valid until the next read.
func (r *frameReader) read() (frameType, []byte, error) {
	head, err := r.br.Peek(frameHead)
	if err != nil {
		if len(head) > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	sum := checkHead(r.seq, head)
	if binary.BigEndian.Uint16(head[5:]) != uint16(sum) {
		return 0, nil, damaged("wrong checksum in the head of frame %d", r.seq)
	}
	n, t := binary.BigEndian.Uint32(head), frameType(head[4])
	if t > lastFrameType || r.limits[t] < 0 {
		return 0, nil, damaged("unexpected frame of type %d", t)
	}
	if uint64(n) > uint64(r.limits[t]) {
		return 0, nil, damaged("frame of type %d is too large: %d bytes", t, n)
	}
	var f []byte
	size := frameHead + int(n)
	switch t {
	case frameRaft, frameForward, frameRequest, frameAnswer:
		f = make([]byte, min(size, keepBytes))
	default:
		if cap(r.small) < size {
			r.small = make([]byte, size) // the limits of these types are small
		}
		f = r.small[:size]
	}
	for at := 0; ; {
		if _, err := io.ReadFull(r.br, f[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
		if len(f) == size {
			break
		}
		at = len(f)
		f = append(make([]byte, 0, min(size, 2*at)), f...)
		f = f[:cap(f)]
		f = f[:min(len(f), size)]
	}
	if got := binary.BigEndian.Uint32(f[7:]); got != checksum(sum, f) {
		return 0, nil, damaged("wrong checksum in frame %d", r.seq)
	}
	r.seq++
	return t, f[frameHead:], nil
}

// wire is a connection after its handshake. One goroutine reads; any goroutine may write.
type wire struct {
	nc  net.Conn // the TLS connection, if there is one
	raw net.Conn
	in  frameReader
	out struct { // owned by the goroutine that has put a token into turn
		turn chan struct{}
		seq  uint64
		at   time.Time // of the last write
		buf  []byte
	}
	end   chan struct{}
	once  sync.Once
	cause error // why it ended; set when end is closed
}

func newWire(nc, raw net.Conn, outKey, inKey []byte) *wire {
	w := &wire{nc: nc, raw: raw, end: make(chan struct{})}
	w.out.turn = make(chan struct{}, 1)
	w.out.seq = binary.BigEndian.Uint64(outKey)
	w.in = frameReader{br: bufio.NewReaderSize(patient{nc}, 64<<10), seq: binary.BigEndian.Uint64(inKey)}
	return w
}

// patient is a connection whose reads fail after SilenceTime without data.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(SilenceTime)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// cut ends the connection, for both sides and without waiting.
func (w *wire) cut() { w.fail(net.ErrClosed) }

// fail does the same and records why. Only the first reason counts: later errors are its consequences.
func (w *wire) fail(err error) {
	w.once.Do(func() {
		w.cause = err
		close(w.end)
		_ = w.raw.Close()
	})
}

// write sends what fill appends: frames begun by beginFrame, each completed by seal.
func (w *wire) write(fill func(b []byte, seal func(f []byte)) []byte) error {
	select {
	case w.out.turn <- struct{}{}:
		defer func() { <-w.out.turn }()
	case <-w.end:
		return net.ErrClosed
	}
	b := fill(w.out.buf[:0], func(f []byte) {
		sealFrame(f, w.out.seq)
		w.out.seq++
	})
	if w.out.buf = b; cap(b) > 1<<20 {
		w.out.buf = nil // one large burst is not kept for ever
	}
	w.out.at = time.Now()
	_, err := w.nc.Write(b)
	return err
}

// send sends one frame.
func (w *wire) send(t frameType, parts ...[]byte) error {
	return w.write(func(b []byte, seal func([]byte)) []byte {
		b = beginFrame(b, t)
		for _, p := range parts {
			b = append(b, p...)
		}
		seal(b)
		return b
	})
}

// beat sends a BEAT whenever this side has been silent, until the connection is cut. All wires check
// at the same instants, together with the other periodic work of an idle node, so that the node wakes
// up once for all of it.
func (w *wire) beat() {
	for {
		now := time.Now()
		select {
		case <-w.end:
			return
		case <-time.After(now.Truncate(BeatTime).Add(BeatTime).Sub(now)):
		}
		select {
		case w.out.turn <- struct{}{}:
		default:
			continue // another goroutine is writing
		}
		idle := time.Since(w.out.at) >= BeatTime/2
		<-w.out.turn
		if !idle {
			continue
		}
		if err := w.send(frameBeat); err != nil {
			w.fail(err)
			return
		}
	}
}
