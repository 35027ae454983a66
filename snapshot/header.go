package snapshot

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"coord/tree"
	"coord/tree/znode"
)

// The format version that this package writes. It reads every minor version of its major version,
// and all earlier major versions.
const (
	Major = 1
	Minor = 3 // 0: sessions without attachments; 1: no removed members; 2: no floors
)

const (
	magic    = "\x89COORD\r\n" // not ASCII, and with a line end, so that a transfer in text mode shows at once
	endMagic = "COORDEND"

	headerBytes    = 200
	maxHeaderBytes = 4096 // limit for headers of newer minor versions
	trailerBytes   = 104
	writerBytes    = 32
	hashSHA256     = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kind says what a file holds. The numbers never change.
type Kind uint8

// The kinds. So far only KindFull is written and read.
const (
	KindFull        Kind = 1
	KindIncremental Kind = 2
	KindLog         Kind = 3
	KindSubtree     Kind = 4
)

// Codec says how frames may be stored. The numbers never change.
type Codec uint8

// The codecs. With Zstd, a frame that does not shrink is stored uncompressed.
const (
	Plain Codec = 0
	Zstd  Codec = 1
)

// ID is a random name of a backup, cluster or lineage.
type ID [16]byte

// NewID makes a random ID.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// ParseID parses what String returns.
func ParseID(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(ID{}) {
		return ID{}, fmt.Errorf("id %q is not 32 hexadecimal digits", s)
	}
	return ID(b), nil
}

// String prints 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Meta describes a snapshot. Equal Metas and equal states make equal files.
type Meta struct {
	// The caller of Write fills in these.
	BackupID   ID
	ClusterID  ID
	LineageID  ID
	Generation uint32    // of the lineage: how many restores have led to it
	RaftIndex  uint64    // of the last entry in the state
	RaftTerm   uint64    // of that entry
	Conf       ConfState // raft's configuration at that entry
	Writer     string    // version of the coord that writes the file; cut at 32 bytes
	Codec      Codec

	// Write fills in these from the state.
	Kind         Kind
	Major, Minor uint16
	BaseZxid     znode.Zxid // the state on which the file builds; 0 for KindFull
	EndZxid      znode.Zxid
	BaseDigest   tree.Digest // of the state at BaseZxid; zero for KindFull
	TimeMinMS    int64       // stamp of the first txn in the file; for KindFull that of the last
	TimeMaxMS    int64       // stamp of the last
	EpochOffset  int64
	Znodes       int64
	DataBytes    int64 // of all paths and data
}

// ConfState is raft's configuration, as ids of nodes. The names are raft's, except for two.
// Removed: nodes that were members once, and never will be again. Floors: by node, the index up to
// which each member is known to have the log on its disk.
type ConfState struct {
	Voters         []uint64
	VotersOutgoing []uint64
	Learners       []uint64
	LearnersNext   []uint64
	AutoLeave      bool
	Removed        []uint64
	Floors         []tree.Floor
}

// ofState fills in the fields that follow from the state.
func (m *Meta) ofState(f *tree.Frozen) {
	c := f.Counters()
	m.Kind, m.Major, m.Minor = KindFull, Major, Minor
	m.BaseZxid, m.BaseDigest = 0, tree.Digest{}
	m.EndZxid, m.EpochOffset = c.Zxid, c.EpochOffset
	m.TimeMinMS, m.TimeMaxMS = c.TimeMS, c.TimeMS
	m.Znodes, m.DataBytes = int64(f.Len()), f.DataBytes()
	if len(m.Writer) > writerBytes {
		m.Writer = strings.ToValidUTF8(m.Writer[:writerBytes], "")
	}
}

func (m *Meta) appendHeader(b []byte) []byte {
	be, start := binary.BigEndian, len(b)
	b = append(b, magic...)
	b = be.AppendUint16(b, m.Major)
	b = be.AppendUint16(b, m.Minor)
	b = be.AppendUint32(b, headerBytes)
	b = append(b, byte(m.Kind), byte(m.Codec), 0, hashSHA256)
	b = be.AppendUint32(b, m.Generation)
	b = append(b, m.BackupID[:]...)
	b = append(b, m.ClusterID[:]...)
	b = append(b, m.LineageID[:]...)
	b = be.AppendUint64(b, uint64(m.BaseZxid))
	b = be.AppendUint64(b, uint64(m.EndZxid))
	b = be.AppendUint64(b, m.BaseDigest.Hi)
	b = be.AppendUint64(b, m.BaseDigest.Lo)
	b = be.AppendUint64(b, uint64(m.TimeMinMS))
	b = be.AppendUint64(b, uint64(m.TimeMaxMS))
	b = be.AppendUint64(b, m.RaftIndex)
	b = be.AppendUint64(b, m.RaftTerm)
	b = be.AppendUint64(b, uint64(m.EpochOffset))
	b = append(b, m.Writer...)
	b = append(b, make([]byte, writerBytes-len(m.Writer))...)
	b = be.AppendUint64(b, uint64(m.Znodes))
	b = be.AppendUint64(b, uint64(m.DataBytes))
	b = append(b, make([]byte, headerBytes-4-(len(b)-start))...)
	return be.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseHeader parses what appendHeader wrote; b is complete and its CRC is right.
func (m *Meta) parseHeader(b []byte) {
	be := binary.BigEndian
	m.Major, m.Minor = be.Uint16(b[8:]), be.Uint16(b[10:])
	m.Kind, m.Codec = Kind(b[16]), Codec(b[17])
	m.Generation = be.Uint32(b[20:])
	copy(m.BackupID[:], b[24:])
	copy(m.ClusterID[:], b[40:])
	copy(m.LineageID[:], b[56:])
	m.BaseZxid, m.EndZxid = znode.Zxid(be.Uint64(b[72:])), znode.Zxid(be.Uint64(b[80:]))
	m.BaseDigest = tree.Digest{Hi: be.Uint64(b[88:]), Lo: be.Uint64(b[96:])}
	m.TimeMinMS, m.TimeMaxMS = int64(be.Uint64(b[104:])), int64(be.Uint64(b[112:]))
	m.RaftIndex, m.RaftTerm = be.Uint64(b[120:]), be.Uint64(b[128:])
	m.EpochOffset = int64(be.Uint64(b[136:]))
	m.Writer = string(bytes.TrimRight(b[144:144+writerBytes], "\x00"))
	m.Znodes, m.DataBytes = int64(be.Uint64(b[176:])), int64(be.Uint64(b[184:]))
}

// readHeader reads the header into m. It returns the header's CRC, which every later CRC covers.
func (in *input) readHeader(m *Meta) (crc uint32, err error) {
	be := binary.BigEndian
	b, err := in.read(16)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	if !bytes.HasPrefix(b, []byte(magic)) {
		if len(b) > 0 && strings.HasPrefix(magic, string(b)) {
			return 0, in.damage(0, "the file ends within its header")
		}
		start := bytes.Clone(b)
		if err == nil {
			b, err = in.read(sniffBytes)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				return 0, err
			}
			start = append(start, b...)
		}
		return 0, recognise(in.file, start)
	}
	if err != nil {
		return 0, in.damage(0, "the file ends within its header")
	}
	n := be.Uint32(b[12:])
	if n < headerBytes || n > maxHeaderBytes {
		return 0, in.damage(0, "the header's length is invalid")
	}
	head := bytes.Clone(b)
	if b, err = in.read(int(n) - len(head)); errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, in.damage(0, "the file ends within its header")
	} else if err != nil {
		return 0, err
	}
	head = append(head, b...)
	crc = be.Uint32(head[n-4:])
	if crc32.Checksum(head[:n-4], castagnoli) != crc {
		return 0, in.damage(0, "the header's checksum is wrong")
	}
	// Magic, version, length and the CRC at the end are at these places in every version, so that a
	// newer file can be told from a damaged one.
	newer := func(what string, n any) error {
		return &NewerError{in.file, fmt.Sprint(what, " ", n), m.Writer}
	}
	if major := be.Uint16(head[8:]); major > Major {
		return 0, &NewerError{File: in.file, What: fmt.Sprintf("format %d.%d", major, be.Uint16(head[10:]))}
	} else if major == 0 {
		return 0, in.damage(0, "format version 0 is invalid")
	}
	m.parseHeader(head)
	switch {
	case m.Kind != KindFull:
		return 0, newer("kind", m.Kind)
	case m.Codec > Zstd:
		return 0, newer("codec", m.Codec)
	case head[18] != 0:
		return 0, newer("cipher", head[18])
	case head[19] != hashSHA256:
		return 0, newer("hash", head[19])
	}
	return crc, nil
}
