package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"
)

// forgery is a snapshot taken apart. It can be put together again with every checksum right, so
// that only a reader of the contents can notice a change.
type forgery struct {
	header []byte
	frames []forgedFrame
	keep   struct{ index, end bool } // leave these frames as they are
	trail  func(b []byte)            // changes the trailer before its checksums
}

type forgedFrame struct {
	typ     FrameType
	flags   byte
	payload []byte // uncompressed
	stored  []byte // used instead of payload if not nil
	raw     uint32 // length to claim for stored
}

// takeApart reads a file that Write wrote.
func takeApart(tb testing.TB, file []byte) *forgery {
	tb.Helper()
	f := &forgery{header: slices.Clone(file[:headerBytes])}
	be := binary.BigEndian
	var u unpacker
	defer u.close()
	for b := file[headerBytes : len(file)-trailerBytes]; len(b) > 0; {
		n := frameHeadBytes + int(be.Uint32(b[6:]))
		fr := frame{typ: FrameType(b[0]), flags: b[1], raw: int(be.Uint32(b[10:])), stored: b[frameHeadBytes:n]}
		payload, reason := u.unpack(&fr)
		if reason != "" {
			tb.Fatal(reason)
		}
		f.frames = append(f.frames, forgedFrame{typ: fr.typ, flags: flagCritical, payload: slices.Clone(payload)})
		b = b[n:]
	}
	return f
}

// find returns the number of the first frame of a type.
func (f *forgery) find(typ FrameType) int {
	for i := range f.frames {
		if f.frames[i].typ == typ {
			return i
		}
	}
	panic("no such frame")
}

// bytes puts the file together, with frame numbers, INDEX, END's counts of frames and bytes, and all checksums.
func (f *forgery) bytes() []byte {
	be := binary.BigEndian
	b := slices.Clone(f.header)
	be.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
	seed := be.Uint32(b[len(b)-4:])
	var index []indexEntry
	var indexAt, indexFrame, raw uint64
	var end endRecord
	var d decoder
	var u unpacker
	for i, fr := range f.frames {
		offset := int64(len(b))
		payload := fr.payload
		switch fr.typ {
		case FrameNodes, FrameACLs:
			e := indexEntry{typ: fr.typ, seq: uint32(i), offset: offset}
			if fr.typ == FrameNodes && len(payload) > 0 {
				d.reset(payload)
				d.record(nodeFields)
				d.uint()
				e.path = string(d.bytes())
			}
			index = append(index, e)
		case FrameIndex:
			if indexAt == 0 {
				indexAt, indexFrame = uint64(offset), uint64(i)
			}
			if !f.keep.index {
				p := newPage()
				for i := range index {
					p.indexEntry(&index[i])
				}
				payload, index = p.b[frameHeadBytes:], nil
			}
		case FrameEnd:
			d.reset(payload)
			end = d.end()
			if !f.keep.end {
				end[0], end[5] = uint64(i), raw
				p := newPage()
				p.end(&end)
				payload = p.b[frameHeadBytes:]
			}
		}
		stored, n := payload, uint32(len(payload))
		if fr.stored != nil {
			stored, n = fr.stored, fr.raw
		}
		raw += uint64(n)
		head := append(make([]byte, frameHeadBytes), stored...)
		putFrameHead(head, fr.typ, fr.flags, uint32(i), n, seed)
		b = append(b, head...)
	}
	u.close()
	t := be.AppendUint32(nil, uint32(len(f.frames)))
	t = be.AppendUint32(t, uint32(indexFrame))
	t = be.AppendUint64(t, end[1])
	t = be.AppendUint64(t, raw)
	t = be.AppendUint64(t, indexAt)
	t = be.AppendUint32(t, uint32(end[2]))
	t = be.AppendUint32(t, uint32(end[3]))
	t = be.AppendUint64(t, end[6])
	t = be.AppendUint64(t, end[7])
	t = append(t, make([]byte, 48)...)
	if f.trail != nil {
		f.trail(t)
	}
	sum := sha256.New()
	sum.Write(b)
	sum.Write(t[:trailerHashed])
	copy(t[trailerHashed:], sum.Sum(nil))
	be.PutUint32(t[92:], frameCRC(seed, t[:92], nil))
	copy(t[96:], endMagic)
	return append(b, t...)
}
