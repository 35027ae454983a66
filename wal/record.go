package wal

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// Type says what a record holds.
type Type byte

// The record types; their bytes are drawn in the package comment.
const (
	TypeEntry     Type = 'E'
	TypeHardState Type = 'H'
	TypeSnapshot  Type = 'S'
	TypeReset     Type = 'R'
	TypeMeta      Type = 'M'
)

// MaxEntryBytes is the most data that one entry may carry.
const MaxEntryBytes = 4 << 20

const (
	envelopeVersion = 1
	formatVersion   = 1

	headerBytes    = 28
	checksumBytes  = 4
	envelopeBytes  = headerBytes + checksumBytes
	entryBytes     = 25 // an entry's payload without its data
	hardStateBytes = 24
	snapshotBytes  = 24
	resetBytes     = 16
	metaBytes      = 56

	maxRecordBytes = envelopeBytes + entryBytes + MaxEntryBytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one record as it lies in a segment. Scan passes it to its visitor; which fields are set depends
// on the type.
type Record struct {
	File   string // path of the segment
	Offset int64  // of the frame, in File

	Type     Type
	Salt     uint32 // the log's
	Previous uint32 // checksum of the record before
	Checksum uint32 // its own
	Sequence uint64
	Synced   uint64 // last sequence known to be fsynced when this one was written

	Index     uint64           // E: the entry's; S, R: the snapshot's; M: the base's
	Term      uint64           // like Index; H: raft's current term
	Commit    uint64           // E: the hint; H: the commit index
	Vote      uint64           // H
	EntryType raftpb.EntryType // E
	Data      []byte           // E; nil if empty; the visitor must not keep it
	Zxid      uint64           // S

	Meta  Meta   // M
	Head  uint64 // M: sequence of the log's first record
	Chain uint32 // M: Previous of that record
}

// appendRecord appends r without its frame's length. Everything but File, Offset and Checksum must be set; Checksum is
// set on return.
func appendRecord(b []byte, r *Record) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = append(b, byte(r.Type), envelopeVersion, 0, 0)
	b = le.AppendUint32(b, r.Salt)
	b = le.AppendUint32(b, r.Previous)
	b = le.AppendUint64(b, r.Sequence)
	b = le.AppendUint64(b, r.Synced)
	switch r.Type {
	case TypeEntry:
		b = le.AppendUint64(b, r.Index)
		b = le.AppendUint64(b, r.Term)
		b = le.AppendUint64(b, r.Commit)
		b = append(b, byte(r.EntryType))
		b = append(b, r.Data...)
	case TypeHardState:
		b = le.AppendUint64(b, r.Term)
		b = le.AppendUint64(b, r.Vote)
		b = le.AppendUint64(b, r.Commit)
	case TypeSnapshot:
		b = le.AppendUint64(b, r.Index)
		b = le.AppendUint64(b, r.Term)
		b = le.AppendUint64(b, r.Zxid)
	case TypeReset:
		b = le.AppendUint64(b, r.Index)
		b = le.AppendUint64(b, r.Term)
	case TypeMeta:
		b = le.AppendUint32(b, formatVersion)
		b = append(b, r.Meta.ClusterID[:]...)
		b = le.AppendUint64(b, r.Meta.NodeID)
		b = le.AppendUint64(b, r.Head)
		b = le.AppendUint32(b, r.Chain)
		b = le.AppendUint64(b, r.Index)
		b = le.AppendUint64(b, r.Term)
	default:
		panic("wal: unknown record type " + string(rune(r.Type)))
	}
	r.Checksum = crc32.Checksum(b[start:], castagnoli)
	return le.AppendUint32(b, r.Checksum)
}

// flaw says why bytes are not a record.
type flaw struct {
	reason string
	meant  bool // the checksum is right: this is no torn write, it was written on purpose
	newer  bool // meant, but in a version that this program does not know
}

// readFrame reads the frame at the start of b: its record, whose Data points into b, and its length. It ignores
// bytes after the frame. The flaw is nil if the record is intact.
func readFrame(b []byte, r *Record) (n int, f *flaw) {
	body, n, f := cutFrame(b)
	if f != nil {
		return 0, f
	}
	return n, readRecord(body, r)
}

// cutFrame finds the record inside the frame at the start of b, and the frame's length.
func cutFrame(b []byte) (record []byte, n int, f *flaw) {
	length, n := binary.Uvarint(b)
	switch {
	case n == 0:
		return nil, 0, &flaw{reason: "truncated record length"}
	case n < 0 || length > maxRecordBytes:
		return nil, 0, &flaw{reason: "invalid record length"}
	case length == 0:
		return nil, 0, &flaw{reason: "zeros instead of a record"}
	case length < envelopeBytes:
		return nil, 0, &flaw{reason: "invalid record length"}
	case length > uint64(len(b)-n):
		return nil, 0, &flaw{reason: "truncated record"}
	}
	return b[n : n+int(length)], n + int(length), nil
}

func readRecord(b []byte, r *Record) *flaw {
	le := binary.LittleEndian
	body := b[:len(b)-checksumBytes]
	r.Checksum = le.Uint32(b[len(body):])
	if crc32.Checksum(body, castagnoli) != r.Checksum {
		return &flaw{reason: "wrong checksum"}
	}
	r.Type = Type(b[0])
	if b[1] != envelopeVersion || b[2] != 0 || b[3] != 0 || !r.Type.known() {
		return &flaw{reason: "unknown kind of record", meant: true, newer: true}
	}
	r.Salt = recordSalt(b)
	r.Previous = le.Uint32(b[8:])
	r.Sequence = le.Uint64(b[12:])
	r.Synced = le.Uint64(b[20:])

	p := body[headerBytes:]
	if !r.Type.fits(len(p)) {
		return &flaw{reason: "the record's length does not fit its type", meant: true}
	}
	switch r.Type {
	case TypeEntry:
		r.Index, r.Term, r.Commit = le.Uint64(p), le.Uint64(p[8:]), le.Uint64(p[16:])
		r.EntryType = raftpb.EntryType(p[24])
		r.Data = nil
		if data := p[entryBytes:]; len(data) > 0 {
			r.Data = slices.Clip(data)
		}
	case TypeHardState:
		r.Term, r.Vote, r.Commit = le.Uint64(p), le.Uint64(p[8:]), le.Uint64(p[16:])
	case TypeSnapshot:
		r.Index, r.Term, r.Zxid = le.Uint64(p), le.Uint64(p[8:]), le.Uint64(p[16:])
	case TypeReset:
		r.Index, r.Term = le.Uint64(p), le.Uint64(p[8:])
	case TypeMeta:
		if le.Uint32(p) != formatVersion {
			return &flaw{reason: "unknown log format", meant: true, newer: true}
		}
		copy(r.Meta.ClusterID[:], p[4:])
		r.Meta.NodeID = le.Uint64(p[20:])
		r.Head, r.Chain = le.Uint64(p[28:]), le.Uint32(p[36:])
		r.Index, r.Term = le.Uint64(p[40:]), le.Uint64(p[48:])
	}
	return nil
}

func recordSalt(b []byte) uint32 { return binary.LittleEndian.Uint32(b[4:]) }

func (t Type) known() bool {
	switch t {
	case TypeEntry, TypeHardState, TypeSnapshot, TypeReset, TypeMeta:
		return true
	}
	return false
}

// fits reports whether a payload of n bytes can be of type t.
func (t Type) fits(n int) bool {
	switch t {
	case TypeEntry:
		return n >= entryBytes
	case TypeHardState:
		return n == hardStateBytes
	case TypeSnapshot:
		return n == snapshotBytes
	case TypeReset:
		return n == resetBytes
	case TypeMeta:
		return n == metaBytes
	}
	return false
}

// frameBytes is the length of a frame around a record of n bytes.
func frameBytes(n int) int { return uvarintBytes(uint64(n)) + n }

// entryFrameBytes is the length of the frame of an entry with n bytes of data.
func entryFrameBytes(n int) int { return frameBytes(envelopeBytes + entryBytes + n) }

func uvarintBytes(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}
