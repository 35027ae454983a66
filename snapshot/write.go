package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"coord/tree"
	"coord/tree/znode"
)

// Options say how a snapshot is written, not what is in it.
type Options struct {
	// Step is called after each frame, which is after some 256 KiB of state: the place to let
	// others run, to report progress and to give up. Its error ends the writing. May be nil.
	Step func(Progress) error
	// Pace replaces the Store's own pace in Save; nil keeps that. Write ignores it.
	Pace *Pace
	// Room is how many bytes Save reserves beforehand; if there is less, Save fails before it has
	// used up the disk. 0: none. Write ignores it.
	Room int64
}

// Progress says how far the writing of a snapshot has come.
type Progress struct {
	Znodes, OfZnodes int64
	RawBytes         int64 // before compression
	FileBytes        int64
}

// Summary says what a snapshot holds.
type Summary struct {
	Frames     int64
	Znodes     int64
	Sessions   int64
	Ephemerals int64
	RawBytes   int64 // of all records, before compression
	FileBytes  int64
	Digest     tree.Digest
	SHA256     [32]byte // of all bytes before it, which is not the whole file
}

// Write writes the snapshot of a state. It writes the header at once, and then one frame at a time. It
// needs memory for a few frames and the index (some 100 bytes for each frame). Equal Metas and states
// give equal bytes. A caller that must be sure that the file is good reads it back: see Store.Save.
func Write(w io.Writer, m Meta, f *tree.Frozen, o Options) (Summary, error) {
	c := f.Counters()
	m.ofState(f)
	if m.Codec > Zstd {
		return Summary{}, fmt.Errorf("snapshot: unknown codec %d", m.Codec)
	}
	wr := &writer{w: w, options: o, sum: sha256.New(), main: newPage(), acls: newPage(), table: newACLTable()}
	if m.Codec == Zstd {
		wr.zstd = newCompressor()
	}
	wr.progress.OfZnodes = m.Znodes
	wr.begin(&m)
	wr.main.meta(&m.Conf)
	wr.flush(FrameMeta)
	wr.main.counters(&c)
	wr.flush(FrameCounters)
	f.Sessions(wr.session)
	wr.flush(FrameSessions)
	f.Each(znode.Root, wr.node)
	wr.flushNodes()
	indexAt, indexFrame := wr.progress.FileBytes, wr.seq
	for i := range wr.index {
		wr.reserve(FrameIndex, len(wr.index[i].path)+nodeOverhead)
		wr.main.indexEntry(&wr.index[i])
	}
	wr.flush(FrameIndex)
	return wr.finish(f.Digest(), indexAt, indexFrame)
}

// writer is one call of Write. After a failure it does nothing more; err is the first error.
type writer struct {
	w       io.Writer
	err     error
	options Options
	sum     hash.Hash
	seed    uint32 // the header's CRC
	seq     uint32 // of the next frame

	main     *page // holds sessions, then znodes, then the index
	acls     *page // lists that are used first by znodes in main
	zstd     *zstd.Encoder
	packed   []byte
	table    *aclTable
	place    place
	first    string // path of the first znode in main
	index    []indexEntry
	progress Progress

	sessions, ephemerals int64
}

// begin writes the header.
func (w *writer) begin(m *Meta) {
	b := m.appendHeader(make([]byte, 0, headerBytes))
	w.seed = binary.BigEndian.Uint32(b[headerBytes-4:])
	w.write(b)
}

func (w *writer) write(b []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = fmt.Errorf("snapshot: write: %w", err)
	}
	w.sum.Write(b)
	w.progress.FileBytes += int64(len(b))
}

func (w *writer) session(s *tree.Session) bool {
	w.reserve(FrameSessions, nodeOverhead)
	w.main.session(s)
	w.sessions++
	return w.err == nil
}

func (w *writer) node(n *tree.Node) bool {
	// An upper bound of its size decides whether the record fits: it is not encoded yet, and its
	// encoding depends on whether it is the first of a frame.
	if w.main.size()+w.acls.size() > 0 && w.main.size()+len(n.Path)+len(n.Data)+nodeOverhead > FrameBytes {
		w.flushNodes()
	}
	acl, record := w.table.number(n.ACL)
	if record != nil {
		if w.acls.size()+len(record) > FrameBytes {
			w.flushNodes()
		}
		w.acls.add(record)
	}
	if w.main.records == 0 {
		w.first = strings.Clone(n.Path)
	}
	w.main.node(&w.place, n, acl)
	w.progress.Znodes++
	if znode.ExplainOwner(n.Owner).Session != 0 {
		w.ephemerals++
	}
	if size := max(w.main.size(), w.acls.size()); size > MaxRecordBytes {
		w.fail(fmt.Errorf("snapshot: %s: its record of %d bytes is over the limit of %d: %w", n.Path, size, MaxRecordBytes, znode.ErrTooBig))
	}
	return w.err == nil
}

// reserve writes the frame if a record of up to size bytes might not fit.
func (w *writer) reserve(typ FrameType, size int) {
	if w.main.size()+size > FrameBytes {
		w.flush(typ)
	}
}

// flushNodes writes the znodes gathered so far, after their new access lists.
func (w *writer) flushNodes() {
	if w.acls.records > 0 {
		w.index = append(w.index, indexEntry{FrameACLs, w.seq, w.progress.FileBytes, ""})
		w.frame(FrameACLs, w.acls)
	}
	if w.main.records > 0 {
		w.index = append(w.index, indexEntry{FrameNodes, w.seq, w.progress.FileBytes, w.first})
		w.frame(FrameNodes, w.main)
	}
	w.place.reset()
}

// flush writes the contents of main, if there are any.
func (w *writer) flush(typ FrameType) {
	if w.main.records > 0 {
		w.frame(typ, w.main)
	}
}

// frame writes a page and empties it.
func (w *writer) frame(typ FrameType, p *page) {
	defer p.reset()
	if w.err != nil {
		return
	}
	raw, b, flags := p.size(), p.b, byte(flagCritical)
	if w.zstd != nil && typ == FrameNodes {
		w.packed = w.zstd.EncodeAll(p.b[frameHeadBytes:], append(w.packed[:0], p.b[:frameHeadBytes]...))
		if len(w.packed) < len(b) {
			b, flags = w.packed, flags|flagCompressed
		}
	}
	putFrameHead(b, typ, flags, w.seq, uint32(raw), w.seed)
	w.write(b)
	w.seq++
	w.progress.RawBytes += int64(raw)
	if w.err == nil && w.options.Step != nil {
		w.fail(w.options.Step(w.progress))
	}
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// finish writes END and the trailer.
func (w *writer) finish(d tree.Digest, indexAt int64, indexFrame uint32) (Summary, error) {
	s := Summary{
		Frames: int64(w.seq) + 1, Znodes: w.progress.Znodes, Sessions: w.sessions, Ephemerals: w.ephemerals,
		RawBytes: w.progress.RawBytes, Digest: d,
	}
	w.main.end(&endRecord{
		uint64(w.seq), uint64(s.Znodes), uint64(s.Sessions), uint64(s.Ephemerals),
		w.table.n, uint64(s.RawBytes), d.Hi, d.Lo,
	})
	w.flush(FrameEnd)
	s.RawBytes = w.progress.RawBytes

	be := binary.BigEndian
	b := be.AppendUint32(make([]byte, 0, trailerBytes), uint32(s.Frames))
	b = be.AppendUint32(b, indexFrame)
	b = be.AppendUint64(b, uint64(s.Znodes))
	b = be.AppendUint64(b, uint64(s.RawBytes))
	b = be.AppendUint64(b, uint64(indexAt))
	b = be.AppendUint32(b, uint32(s.Sessions))
	b = be.AppendUint32(b, uint32(s.Ephemerals))
	b = be.AppendUint64(b, d.Hi)
	b = be.AppendUint64(b, d.Lo)
	w.sum.Write(b)
	b = w.sum.Sum(b)
	copy(s.SHA256[:], b[trailerHashed:])
	b = append(b, 0, 0, 0, 0)
	b = be.AppendUint32(b, frameCRC(w.seed, b, nil))
	b = append(b, endMagic...)
	w.write(b)
	s.FileBytes = w.progress.FileBytes
	if w.err != nil {
		return Summary{}, w.err
	}
	return s, nil
}

// trailerHashed is how many bytes of the trailer the SHA-256 covers.
const trailerHashed = 56

// aclTable numbers the access lists of a file from 1, in the order in which znodes use them; 0 is the empty list.
type aclTable struct {
	n       uint64
	last    aclSlice
	lastNo  uint64
	bySlice map[aclSlice]uint64 // a Frozen shares equal lists, so this map nearly always has the answer
	byBytes map[string]uint64   // by record: equal lists at two addresses are one list
	scratch *page
}

// aclSlice is where a list is in memory.
type aclSlice struct {
	first *znode.ACLEntry
	n     int
}

func newACLTable() *aclTable {
	return &aclTable{bySlice: map[aclSlice]uint64{}, byBytes: map[string]uint64{}, scratch: newPage()}
}

// number returns the list's number, and its record if it is new.
func (t *aclTable) number(a znode.ACL) (no uint64, record []byte) {
	if len(a) == 0 {
		return 0, nil
	}
	at := aclSlice{&a[0], len(a)}
	if at == t.last {
		return t.lastNo, nil
	}
	no, ok := t.bySlice[at]
	if !ok {
		t.scratch.reset()
		t.scratch.acl(a)
		b := t.scratch.b[frameHeadBytes:]
		if no, ok = t.byBytes[string(b)]; !ok {
			t.n++
			no, record = t.n, b
			t.byBytes[string(b)] = no
		}
		t.bySlice[at] = no
	}
	t.last, t.lastNo = at, no
	return no, record
}
