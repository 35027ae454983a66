package tree

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"

	"coord/tree/znode"
)

// Digest is a 128-bit set hash of the whole state: the sum modulo 2^128 of one term for each znode's
// path, stat and counters, one for its path, data and ACL by content, one for each session, and one
// for the epoch offset and settings. The tree updates it in O(1) for each change. It is equal on all
// nodes and architectures at equal zxid. It protects against faults, not forgery. (Incremental
// hashing by addition: Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing", 1997.)
type Digest struct{ Hi, Lo uint64 }

// String prints 32 hexadecimal digits.
func (d Digest) String() string { return fmt.Sprintf("%016x%016x", d.Hi, d.Lo) }

func (d *Digest) add(h xxh3.Uint128) {
	var carry uint64
	d.Lo, carry = bits.Add64(d.Lo, h.Lo, 0)
	d.Hi, _ = bits.Add64(d.Hi, h.Hi, carry)
}

func (d *Digest) sub(h xxh3.Uint128) {
	var borrow uint64
	d.Lo, borrow = bits.Sub64(d.Lo, h.Lo, 0)
	d.Hi, _ = bits.Sub64(d.Hi, h.Hi, borrow)
}

// The first byte of the input of each kind of term.
const (
	termStat     = 1
	termData     = 2
	termSession  = 3
	termCounters = 4
)

// hasher computes terms in a buffer that it reuses.
type hasher struct{ buf []byte }

func (h *hasher) start(kind byte, path string) {
	h.buf = append(h.buf[:0], kind)
	h.buf = binary.AppendUvarint(h.buf, uint64(len(path)))
	h.buf = append(h.buf, path...)
}

func (h *hasher) ints(xs ...uint64) {
	for _, x := range xs {
		h.buf = binary.LittleEndian.AppendUint64(h.buf, x)
	}
}

func (h *hasher) sum() xxh3.Uint128 { return xxh3.Hash128(h.buf) }

// stat is the term of a znode's path, stat and counters.
func (h *hasher) stat(path string, f *fields, created int32, pzxid znode.Zxid) xxh3.Uint128 {
	h.start(termStat, path)
	h.ints(uint64(f.czxid), uint64(f.mzxid), uint64(pzxid), uint64(f.ctime), uint64(f.mtime),
		uint64(uint32(f.version))|uint64(uint32(f.avers))<<32, uint64(uint32(created)), uint64(f.owner))
	return h.sum()
}

// data is the term of a znode's path, data and ACL.
func (h *hasher) data(path string, f *fields, acl znode.ACL) xxh3.Uint128 {
	d := xxh3.HashString128(f.data)
	h.start(termData, path)
	null := uint64(0)
	if f.null {
		null = 1
	}
	h.ints(d.Hi, d.Lo, null)
	for _, e := range acl {
		h.buf = binary.LittleEndian.AppendUint32(h.buf, uint32(e.Perms))
		h.buf = binary.AppendUvarint(h.buf, uint64(len(e.Scheme)))
		h.buf = append(h.buf, e.Scheme...)
		h.buf = binary.AppendUvarint(h.buf, uint64(len(e.ID)))
		h.buf = append(h.buf, e.ID...)
	}
	return h.sum()
}

// session is the term of a session's record.
func (h *hasher) session(s *Session) xxh3.Uint128 {
	h.start(termSession, "")
	h.ints(uint64(s.ID), uint64(s.TimeoutMS))
	h.buf = append(h.buf, s.Password[:]...)
	if s.Attachment != 0 { // left out if 0, as in states older than attachments
		h.ints(uint64(s.Attachment))
	}
	return h.sum()
}

// counters is the term of what belongs to no znode or session. It leaves out the zxid and the
// stamp: digests are compared at equal zxid.
func (h *hasher) counters(offset int64, s Settings) xxh3.Uint128 {
	h.start(termCounters, "")
	h.ints(uint64(offset), uint64(s.bits()))
	return h.sum()
}
