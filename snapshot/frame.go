package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// Limits of a frame's payload before compression.
const (
	// FrameBytes is the most bytes in a frame of several records.
	FrameBytes = 256 << 10
	// MaxRecordBytes is the most bytes in a frame of one record, and so the largest znode with its
	// path and overhead.
	MaxRecordBytes = 64 << 20
)

// FrameType says what a frame's records are. The numbers never change; reserved are 5 DELTAS, 6 TOMBS, 7 LOG.
type FrameType uint8

// The frame types.
const (
	FrameMeta     FrameType = 1
	FrameACLs     FrameType = 2
	FrameNodes    FrameType = 3
	FrameSessions FrameType = 4
	FrameCounters FrameType = 8
	FrameIndex    FrameType = 9
	FrameEnd      FrameType = 10
)

// String is the type's name in docs/snapshot-format.md.
func (t FrameType) String() string {
	switch t {
	case FrameMeta:
		return "META"
	case FrameACLs:
		return "ACLTAB"
	case FrameNodes:
		return "NODES"
	case FrameSessions:
		return "SESSIONS"
	case FrameCounters:
		return "COUNTERS"
	case FrameIndex:
		return "INDEX"
	case FrameEnd:
		return "END"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Flags of a frame.
const (
	flagCritical   = 1 << 0 // a reader that does not know the type must not read the file
	flagCompressed = 1 << 1 // the stored bytes are one zstd frame
)

const frameHeadBytes = 18

// frame is one frame as stored.
type frame struct {
	typ    FrameType
	flags  byte
	seq    uint32
	raw    int
	offset int64
	stored []byte // valid until the next read
}

func (f *frame) damage(file, reason string) error {
	return &DamageError{File: file, Frame: int(f.seq), Type: f.typ, Offset: f.offset, Reason: reason}
}

// putFrameHead fills in the head of a frame that begins at b[0]; the stored bytes follow the head.
func putFrameHead(b []byte, typ FrameType, flags byte, seq, raw, seed uint32) {
	be := binary.BigEndian
	b[0], b[1] = byte(typ), flags
	be.PutUint32(b[2:], seq)
	be.PutUint32(b[6:], uint32(len(b)-frameHeadBytes))
	be.PutUint32(b[10:], raw)
	be.PutUint32(b[14:], frameCRC(seed, b[:14], b[frameHeadBytes:]))
}

// frameCRC is the checksum of a frame or trailer: over the header's CRC, the
// head and the stored bytes.
func frameCRC(seed uint32, head, stored []byte) uint32 {
	var s [4]byte
	binary.BigEndian.PutUint32(s[:], seed)
	crc := crc32.Update(0, castagnoli, s[:])
	crc = crc32.Update(crc, castagnoli, head)
	return crc32.Update(crc, castagnoli, stored)
}

// input is a file that is being read, from its beginning or from that of a frame.
type input struct {
	r    io.Reader
	file string    // for errors
	off  int64     // of the next byte
	sum  hash.Hash // of all bytes read; nil if it is not needed
	buf  []byte
}

// read returns the next n bytes, valid until the next read. It allocates memory as the bytes
// arrive, not by n. At the end of the file it returns what there was, and io.ErrUnexpectedEOF.
func (in *input) read(n int) ([]byte, error) {
	b, start := in.buf[:0], in.off
	var err error
	for len(b) < n && err == nil {
		step := min(n-len(b), FrameBytes)
		b = slices.Grow(b, step)
		var k int
		k, err = io.ReadFull(in.r, b[len(b):len(b)+step])
		b = b[:len(b)+k]
	}
	in.buf, in.off = b, in.off+int64(len(b))
	if in.sum != nil {
		in.sum.Write(b)
	}
	switch {
	case err == nil, err == io.ErrUnexpectedEOF:
		return b, err
	case err == io.EOF:
		return b, io.ErrUnexpectedEOF
	case errors.Is(err, syscall.EIO):
		return nil, &DamageError{File: in.file, Frame: -1, Offset: start, Reason: "the disk failed to read it", Err: err}
	default:
		return nil, fmt.Errorf("%s: %w", fileLabel(in.file), err)
	}
}

// damage is a DamageError outside any frame.
func (in *input) damage(offset int64, reason string) error {
	return &DamageError{File: in.file, Frame: -1, Offset: offset, Reason: reason}
}

// readFrame reads the frame with the given number and checks everything about it that does not
// depend on its contents. An unknown type is an error only if the frame is critical.
func (in *input) readFrame(seed, seq uint32, codec Codec) (f frame, err error) {
	be := binary.BigEndian
	f = frame{seq: seq, offset: in.off}
	damage := func(reason string) error { return f.damage(in.file, reason) }
	b, err := in.read(frameHeadBytes)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return f, in.damage(f.offset, fmt.Sprintf("the file ends where frame %d should be", seq))
	} else if err != nil {
		return f, err
	}
	var head [frameHeadBytes]byte
	copy(head[:], b)
	f.typ, f.flags = FrameType(head[0]), head[1]
	stored, raw := be.Uint32(head[6:]), be.Uint32(head[10:])
	if raw > MaxRecordBytes || stored > raw || f.flags&flagCompressed == 0 && stored != raw {
		return f, damage("its length is invalid")
	}
	if f.stored, err = in.read(int(stored)); errors.Is(err, io.ErrUnexpectedEOF) {
		return f, damage("the file ends within it")
	} else if err != nil {
		return f, err
	}
	f.raw = int(raw)
	if frameCRC(seed, head[:14], f.stored) != be.Uint32(head[14:]) {
		return f, damage("its checksum is wrong")
	}
	if got := be.Uint32(head[2:]); got != seq {
		return f, damage(fmt.Sprintf("it says that it is frame %d: frames are missing, repeated or out of order", got))
	}
	known := f.typ >= FrameMeta && f.typ <= FrameSessions || f.typ >= FrameCounters && f.typ <= FrameEnd
	switch {
	case !known && f.flags&flagCritical != 0:
		return f, &NewerError{File: in.file, What: fmt.Sprintf("frames of %v", f.typ)}
	case known && f.flags&^(flagCritical|flagCompressed) != 0:
		return f, &NewerError{File: in.file, What: fmt.Sprintf("flags %#x in a frame of type %v", f.flags, f.typ)}
	case known && f.flags&flagCompressed != 0 && (codec != Zstd || f.typ != FrameNodes):
		return f, damage("it is compressed, which is not allowed")
	}
	return f, nil
}

// unpacker returns the payloads of stored frames. Between frames it keeps its memory: a decoder's
// window, and a buffer for the largest payload so far.
type unpacker struct {
	zstd *zstd.Decoder
	buf  []byte
}

// maxWindow is the largest zstd window that a file may require.
const maxWindow = 1 << 20

func (u *unpacker) close() {
	if u.zstd != nil {
		u.zstd.Close()
	}
}

// unpack returns the payload, valid until the next read or unpack. If the frame holds no valid
// payload, reason is not "".
func (u *unpacker) unpack(f *frame) (payload []byte, reason string) {
	if f.flags&flagCompressed == 0 {
		return f.stored, ""
	}
	if u.zstd == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(MaxRecordBytes), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("snapshot: zstd rejected its options: " + err.Error())
		}
		u.zstd = d
	}
	// The buffer grows with the decoder's output, not with the length that the frame's head claims.
	for room := min(f.raw, max(cap(u.buf), FrameBytes)); ; room = min(f.raw, 2*room) {
		if cap(u.buf) < room {
			u.buf = make([]byte, room)
		}
		b, err := u.zstd.DecodeAll(f.stored, u.buf[:0:room])
		switch {
		case errors.Is(err, zstd.ErrDecoderSizeExceeded) && room < f.raw:
			continue
		case err != nil:
			return nil, "decompression failed: " + err.Error()
		case len(b) != f.raw:
			return nil, "its decompressed length does not match the declared one"
		}
		return b, ""
	}
}

// newCompressor makes the encoder for a whole file. Its window is as large as a frame.
func newCompressor() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(FrameBytes), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic("snapshot: zstd rejected its options: " + err.Error())
	}
	return e
}
