package snapshot

import (
	"errors"
	"fmt"
	"io"

	"coord/tree"
	"coord/tree/znode"
)

// ReadSubtree yields the znodes at and under top, as Frozen.Nodes would, from a snapshot of size
// bytes. It reads the two ends of the file, the access lists and only those frames that hold some
// of the znodes. It checks what it reads, but no digest and no SHA-256: those need the whole file,
// see Verify. An error of yield ends the reading and is returned unchanged. If there is no znode at
// top, the error is a znode.ErrNoNode.
func ReadSubtree(r io.ReaderAt, size int64, top string, yield func(*tree.Node) error) (Meta, error) {
	if err := znode.CheckPath(top); err != nil {
		return Meta{}, err
	}
	s := newSeeker(r, size)
	defer s.unpack.close()
	if err := s.open(); err != nil {
		return s.meta, err
	}
	index, err := s.readIndex()
	if err != nil {
		return s.meta, err
	}
	first, end := framesOf(index, top)
	found := false
	for i, e := range index[:end] {
		switch {
		case e.typ == FrameACLs:
			err = s.frame(e, func() error {
				s.acls = append(s.acls, s.records.acl())
				return nil
			})
		case e.typ == FrameNodes && i >= first:
			var some bool
			some, err = s.nodes(e, top, yield)
			found = found || some
		}
		if err != nil {
			return s.meta, err
		}
	}
	if !found {
		return s.meta, fmt.Errorf("%s: %s: %w", fileLabel(s.file), top, znode.ErrNoNode)
	}
	return s.meta, nil
}

// framesOf returns the part of the index with the frames that may hold znodes at or under top.
func framesOf(index []indexEntry, top string) (first, end int) {
	end = len(index)
	for i, e := range index {
		switch {
		case e.typ != FrameNodes:
		case ComparePaths(e.path, top) <= 0:
			first = i // the last frame that does not begin after top
		case !znode.Below(e.path, top):
			return first, i
		}
	}
	return first, end
}

// ComparePaths compares two paths in the order of a snapshot: depth-first, children in byte order of their names.
func ComparePaths(a, b string) int {
	if a == znode.Root || b == znode.Root {
		return len(a) - len(b) // only the root has a path of one byte
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			switch {
			case a[i] == '/': // a's component ends here, b's continues
				return -1
			case b[i] == '/':
				return 1
			}
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

// seeker reads parts of a file.
type seeker struct {
	r       io.ReaderAt
	size    int64
	file    string
	meta    Meta
	seed    uint32
	end     trailer
	unpack  unpacker
	records decoder
	acls    []znode.ACL
	place   place
	paths   arena
}

func newSeeker(r io.ReaderAt, size int64) *seeker {
	return &seeker{r: r, size: size, file: nameOf(r), acls: make([]znode.ACL, 1)}
}

// at reads from an offset on.
func (s *seeker) at(offset int64) *input {
	return &input{r: io.NewSectionReader(s.r, offset, s.size-offset), file: s.file, off: offset}
}

// open reads the two ends of the file and META.
func (s *seeker) open() (err error) {
	in := s.at(0)
	if s.seed, err = in.readHeader(&s.meta); err != nil {
		return err
	}
	meta := indexEntry{typ: FrameMeta, offset: in.off}
	trailerAt := s.size - trailerBytes
	if trailerAt < in.off {
		return in.damage(trailerAt, "the file is cut off: it has no trailer")
	}
	in = s.at(trailerAt)
	b, err := in.read(trailerBytes)
	if errors.Is(err, io.ErrUnexpectedEOF) { // the file has shrunk since its size was taken
		return in.damage(trailerAt, "the file is cut off: it has no trailer")
	} else if err != nil {
		return err
	}
	var ok bool
	if s.end, ok = parseTrailer(b, s.seed); !ok {
		return in.damage(trailerAt, "the trailer is damaged: the file was cut off or changed")
	}
	s.end.FileBytes = s.size
	if s.end.indexAt < meta.offset || s.end.indexAt > trailerAt {
		return in.damage(trailerAt, "the index offset is outside the file")
	}
	return s.frame(meta, func() error {
		s.meta.Conf = s.records.meta()
		return nil
	})
}

// readIndex reads the INDEX frames, and END after them.
func (s *seeker) readIndex() ([]indexEntry, error) {
	var index []indexEntry
	in := s.at(s.end.indexAt)
	for seq := s.end.indexFrame; ; seq++ {
		f, err := in.readFrame(s.seed, seq, s.meta.Codec)
		if err != nil {
			return nil, namesWriter(err, &s.meta)
		}
		if f.typ == FrameEnd && len(index) > 0 {
			return index, nil
		}
		if f.typ != FrameIndex {
			if _, known := mayFollow[f.typ]; known {
				return nil, f.damage(s.file, "expected the index here")
			}
			continue
		}
		if err := s.records.each(&f, &s.unpack, s.file, func() error {
			index = append(index, s.records.index())
			return nil
		}); err != nil {
			return nil, err
		}
	}
}

// frame reads the records of the frame that an index entry names.
func (s *seeker) frame(e indexEntry, record func() error) error {
	if e.offset < headerBytes || e.offset > s.size {
		return s.at(0).damage(s.end.indexAt, fmt.Sprintf("the index puts frame %d outside the file", e.seq))
	}
	f, err := s.at(e.offset).readFrame(s.seed, e.seq, s.meta.Codec)
	if err != nil {
		return namesWriter(err, &s.meta)
	}
	if f.typ != e.typ {
		return f.damage(s.file, fmt.Sprintf("the index says that it is %v", e.typ))
	}
	return s.records.each(&f, &s.unpack, s.file, record)
}

// nodes yields the znodes of a frame that are at or under top.
func (s *seeker) nodes(e indexEntry, top string, yield func(*tree.Node) error) (found bool, err error) {
	s.place.reset()
	var n tree.Node
	var stopped error
	err = s.frame(e, func() error {
		s.records.node(&s.place, &s.paths, s.acls, &n)
		if s.records.err == nil && znode.Below(n.Path, top) {
			found = true
			stopped = yield(&n)
		}
		return stopped
	})
	if stopped != nil {
		return found, stopped
	}
	return found, err
}
