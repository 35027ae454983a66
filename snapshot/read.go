package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"coord/tree"
	"coord/tree/znode"
)

// Read reads a snapshot to its end, after which nothing may follow. It returns the state once everything is
// verified: every checksum, every count, and the digest of the resulting state. The error is a *DamageError,
// *NewerError, *ForeignError, or the reader's own.
func Read(r io.Reader) (*tree.Tree, Meta, Summary, error) {
	w := newWalk(r, nameOf(r))
	defer w.close()
	b := tree.NewBuilder()
	var c tree.Counters
	w.visit = visitor{
		header:   func() { b.Expect(int(max(0, min(w.meta.Znodes, bytesIn(r)/usualRecord)))) },
		counters: func(x tree.Counters) { c = x },
		session:  b.AddSession,
		node:     b.Add,
	}
	if err := w.run(); err != nil {
		return nil, w.meta, Summary{}, err
	}
	t, err := b.Tree(c)
	if err != nil {
		return nil, w.meta, Summary{}, w.in.damage(w.in.off, err.Error())
	}
	if got := t.Digest(); got != w.summary.Digest {
		return nil, w.meta, Summary{}, w.in.damage(w.in.off,
			fmt.Sprintf("the state's digest is %v, the file says %v", got, w.summary.Digest))
	}
	return t, w.meta, w.summary, nil
}

// ReadFile is Read of a file.
func ReadFile(path string) (*tree.Tree, Meta, Summary, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, Meta{}, Summary{}, err
	}
	defer f.Close()
	return Read(f)
}

// openFile opens a file that may be a snapshot.
func openFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = &ForeignError{path, "is a folder", "specify one of the files in it"}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// usualRecord is about the size of a small znode in a file. Memory is reserved for no more znodes
// than the file has bytes for, whatever its header says.
const usualRecord = 16

// bytesIn is how many bytes are known to be in a reader, 0 if that is unknown.
func bytesIn(r any) int64 {
	switch r := r.(type) {
	case *os.File:
		if st, err := r.Stat(); err == nil && st.Mode().IsRegular() {
			return st.Size()
		}
	case named:
		return bytesIn(r.Reader)
	case *pacedReader:
		return bytesIn(r.r)
	case interface{ Len() int }:
		return int64(r.Len())
	}
	return 0
}

func nameOf(r any) string {
	if n, ok := r.(interface{ Name() string }); ok {
		return n.Name()
	}
	return ""
}

// visitor holds the functions that a walk calls with what it finds. Their error says that the file
// is damaged. The data of a znode is valid only until node returns.
type visitor struct {
	header   func() // walk.meta is filled in, except for Conf
	counters func(tree.Counters)
	session  func(tree.Session) error
	node     func(*tree.Node) error
}

// walk reads a whole file and checks everything that can be checked without building the state.
type walk struct {
	in     input
	visit  visitor
	sealed bool // check only checksums and the order of frames; of the payloads only END is read

	meta      Meta
	summary   Summary
	dataBytes int64 // of the znodes read so far
	seed      uint32
	stage     FrameType // of the last known frame, 0 before the first

	unpack  unpacker
	records decoder
	place   place
	paths   arena
	node    tree.Node
	acls    []znode.ACL // by number; 0 is the empty list

	index      []indexEntry // the entries that INDEX must have
	indexed    int          // how many of these INDEX has named so far
	indexAt    int64        // where INDEX begins
	indexFrame uint32
}

func newWalk(r io.Reader, file string) *walk {
	return &walk{in: input{r: r, file: file, sum: sha256.New()}, acls: make([]znode.ACL, 1)}
}

func (w *walk) close() { w.unpack.close() }

// run reads the file.
func (w *walk) run() error {
	var err error
	if w.seed, err = w.in.readHeader(&w.meta); err != nil {
		return err
	}
	if w.visit.header != nil {
		w.visit.header()
	}
	for seq := uint32(0); w.stage != FrameEnd; seq++ {
		f, err := w.in.readFrame(w.seed, seq, w.meta.Codec)
		if err != nil {
			return namesWriter(err, &w.meta)
		}
		w.summary.Frames++
		w.summary.RawBytes += int64(f.raw)
		if err := w.take(&f); err != nil {
			return err
		}
	}
	return w.trailer()
}

// namesWriter adds the version that wrote the file to a NewerError.
func namesWriter(err error, m *Meta) error {
	if newer, ok := errors.AsType[*NewerError](err); ok {
		newer.Writer = m.Writer
	}
	return err
}

// mayFollow says after which frames a frame may come, as a set of types; 0 is the beginning of the file.
var mayFollow = map[FrameType]uint16{
	FrameMeta:     1 << 0,
	FrameCounters: 1 << FrameMeta,
	FrameSessions: 1<<FrameCounters | 1<<FrameSessions,
	FrameACLs:     1<<FrameCounters | 1<<FrameSessions | 1<<FrameNodes,
	FrameNodes:    1<<FrameCounters | 1<<FrameSessions | 1<<FrameNodes | 1<<FrameACLs,
	FrameIndex:    1<<FrameNodes | 1<<FrameIndex,
	FrameEnd:      1 << FrameIndex,
}

// take checks a frame and passes its contents to the visitor.
func (w *walk) take(f *frame) error {
	before, known := mayFollow[f.typ]
	switch {
	case w.stage == 0 && f.typ != FrameMeta:
		return f.damage(w.in.file, "the first frame should be META")
	case !known:
		return nil // from a newer coord, which has marked it as not critical
	case before&(1<<w.stage) == 0:
		return f.damage(w.in.file, fmt.Sprintf("it cannot come after %v", w.stage))
	}
	w.stage = f.typ
	switch f.typ {
	case FrameNodes, FrameACLs:
		w.place.reset()
		w.index = append(w.index, indexEntry{typ: f.typ, seq: f.seq, offset: f.offset})
	case FrameIndex:
		if w.indexAt == 0 {
			w.indexAt, w.indexFrame = f.offset, f.seq
		}
	}
	if w.sealed && f.typ != FrameEnd {
		return nil
	}
	return w.records.each(f, &w.unpack, w.in.file, func() error { return w.record(f) })
}

// record reads the next record. If the record cannot be read, the reason is in the decoder.
func (w *walk) record(f *frame) error {
	d := &w.records
	switch f.typ {
	case FrameMeta:
		w.meta.Conf = d.meta()
	case FrameCounters:
		c := d.counters()
		if d.err == nil && (c.Zxid != w.meta.EndZxid || c.EpochOffset != w.meta.EpochOffset || c.TimeMS != w.meta.TimeMaxMS) {
			return errors.New("it does not match the header")
		}
		if w.visit.counters != nil {
			w.visit.counters(c)
		}
	case FrameSessions:
		s := d.session()
		w.summary.Sessions++
		if d.err == nil && w.visit.session != nil {
			return w.visit.session(s)
		}
	case FrameACLs:
		w.acls = append(w.acls, d.acl())
		if int64(len(w.acls)-1) > w.meta.Znodes {
			return errors.New("there are more access lists than znodes")
		}
	case FrameNodes:
		return w.takeNode()
	case FrameIndex:
		e := d.index()
		if d.err == nil && (w.indexed == len(w.index) || w.index[w.indexed] != e) {
			return fmt.Errorf("entry %d names a frame that does not exist", w.indexed)
		}
		w.indexed++
	case FrameEnd:
		return w.takeEnd(f, d.end())
	}
	return nil
}

func (w *walk) takeNode() error {
	d, n := &w.records, &w.node
	first := d.off == 0
	d.node(&w.place, &w.paths, w.acls, n)
	if d.err != nil {
		return nil
	}
	if first {
		w.index[len(w.index)-1].path = n.Path
	}
	w.summary.Znodes++
	w.dataBytes += int64(len(n.Path) + len(n.Data))
	if w.summary.Znodes > w.meta.Znodes || w.dataBytes > w.meta.DataBytes {
		return fmt.Errorf("with %s it holds more than the header declares", n.Path)
	}
	if znode.ExplainOwner(n.Owner).Session != 0 {
		w.summary.Ephemerals++
	}
	if w.visit.node != nil {
		return w.visit.node(n)
	}
	return nil
}

// takeEnd checks END against everything before it.
func (w *walk) takeEnd(f *frame, e endRecord) error {
	if w.records.err != nil {
		return nil
	}
	s := &w.summary
	s.Digest = tree.Digest{Hi: e[6], Lo: e[7]}
	if w.sealed { // the counts cannot be checked
		s.Znodes, s.Sessions, s.Ephemerals = int64(e[1]), int64(e[2]), int64(e[3])
	}
	have := endRecord{
		uint64(f.seq), uint64(s.Znodes), uint64(s.Sessions), uint64(s.Ephemerals),
		uint64(len(w.acls) - 1), uint64(s.RawBytes) - uint64(f.raw), e[6], e[7],
	}
	if w.sealed {
		have[4] = e[4]
	}
	if have != e || s.Znodes != w.meta.Znodes {
		return fmt.Errorf("its counts %v do not match those of the file, %v", e[:6], have[:6])
	}
	if !w.sealed && w.dataBytes != w.meta.DataBytes {
		return fmt.Errorf("the file holds %d bytes of data, its header says %d", w.dataBytes, w.meta.DataBytes)
	}
	if !w.sealed && w.indexed != len(w.index) {
		return fmt.Errorf("INDEX names %d of %d frames", w.indexed, len(w.index))
	}
	return nil
}

// trailer checks the trailer against what was read, and that nothing follows it.
func (w *walk) trailer() error {
	offset, sum := w.in.off, w.in.sum
	w.in.sum = nil // the SHA-256 does not cover what follows
	b, err := w.in.read(trailerBytes)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return w.in.damage(offset, "the file ends within its trailer")
	} else if err != nil {
		return err
	}
	sum.Write(b[:trailerHashed])
	t, ok := parseTrailer(b, w.seed)
	w.summary.SHA256, w.summary.FileBytes = t.SHA256, w.in.off
	t.FileBytes = w.in.off
	switch {
	case !ok:
		return w.in.damage(offset, "the trailer's checksum is wrong")
	case !bytes.Equal(sum.Sum(nil), t.SHA256[:]):
		return w.in.damage(offset, "the file's SHA-256 does not match")
	case t.Summary != w.summary || t.indexAt != w.indexAt || t.indexFrame != w.indexFrame:
		return w.in.damage(offset, "the trailer does not match the frames")
	}
	if _, err = w.in.read(1); err == nil {
		return w.in.damage(w.in.off-1, "there is data after the trailer")
	} else if !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return nil
}

// trailer is what the end of a file says about the file.
type trailer struct {
	Summary    // without FileBytes
	indexAt    int64
	indexFrame uint32
}

// parseTrailer parses the trailer of a file whose header has the given CRC.
func parseTrailer(b []byte, seed uint32) (t trailer, ok bool) {
	be := binary.BigEndian
	const crcAt = trailerBytes - 12
	if string(b[crcAt+4:]) != endMagic || be.Uint32(b[crcAt:]) != frameCRC(seed, b[:crcAt], nil) {
		return t, false
	}
	t.Frames, t.indexFrame = int64(be.Uint32(b)), be.Uint32(b[4:])
	t.Znodes, t.RawBytes = int64(be.Uint64(b[8:])), int64(be.Uint64(b[16:]))
	t.indexAt = int64(be.Uint64(b[24:]))
	t.Sessions, t.Ephemerals = int64(be.Uint32(b[32:])), int64(be.Uint32(b[36:]))
	t.Digest = tree.Digest{Hi: be.Uint64(b[40:]), Lo: be.Uint64(b[48:])}
	copy(t.SHA256[:], b[56:])
	return t, true
}
