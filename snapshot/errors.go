package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// ErrNoSnapshot means that a folder holds no snapshot at all.
var ErrNoSnapshot = errors.New("no snapshot")

// DamageError says that a snapshot is not what was written: cut off, changed, or assembled from
// pieces (exit code 12).
type DamageError struct {
	File   string // "" if the bytes did not come from a file
	Frame  int    // number of the frame, from 0; -1 for header, trailer and what follows it
	Type   FrameType
	Offset int64 // where the header, frame or trailer begins
	Reason string
	Err    error // the disk's error, if that is the reason
}

func (e *DamageError) Error() string {
	var b strings.Builder
	b.WriteString(fileLabel(e.File))
	if e.Frame >= 0 {
		fmt.Fprintf(&b, ": frame %d (%v)", e.Frame, e.Type)
	}
	fmt.Fprintf(&b, " at byte %d: %s", e.Offset, e.Reason)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	b.WriteString("; the file is damaged: copy it again from its source, or use another snapshot")
	return b.String()
}

// Unwrap gives the disk's error, if there was one.
func (e *DamageError) Unwrap() error { return e.Err }

// NewerError says that the file needs a newer coord; it need not be damaged (exit code 14).
type NewerError struct {
	File   string
	What   string // what this coord does not know
	Writer string // the version of coord that wrote the file, "" if unknown
}

func (e *NewerError) Error() string {
	s := fileLabel(e.File) + " needs a newer coord: it has " + e.What
	if e.Writer != "" {
		s += "; it was written by coord " + e.Writer
	}
	return s
}

// ForeignError says that the file is not a coord snapshot (exit code 12).
type ForeignError struct {
	File  string
	Seems string // what it seems to be
	Hint  string // what to do about it, may be ""
}

func (e *ForeignError) Error() string {
	s := fileLabel(e.File) + " is not a coord snapshot: it " + e.Seems
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func fileLabel(file string) string {
	if file == "" {
		return "snapshot"
	}
	return "snapshot " + file
}

// sniffBytes are enough to recognise every format that recognise knows.
const sniffBytes = 512

// foreign lists files that may be given by mistake, by the bytes at an offset.
var foreign = []struct {
	offset      int
	magic       string
	seems, hint string
}{
	{0, "\x89COORD\n", "was one, but its line ends were converted", "copy it again as a binary file"},
	{0, endMagic, "begins with the end of a snapshot", "copy it again from its beginning"},
	{0, "\x1f\x8b", "is gzip data", "unpack it first: gunzip"},
	{0, "\x28\xb5\x2f\xfd", "is a zstd file", "unpack it first: unzstd"},
	{0, "\xfd7zXZ\x00", "is xz data", "unpack it first: unxz"},
	{0, "BZh", "is bzip2 data", "unpack it first: bunzip2"},
	{0, "PK\x03\x04", "is a zip archive", "unpack it first: unzip"},
	{257, "ustar", "is a tar archive", "unpack it first: tar -x"},
	{0, "ZKSN", "is a ZooKeeper snapshot", "use coord restore --from-zookeeper with its folder"},
	{0, "ZKLG", "is a ZooKeeper transaction log", "use coord restore --from-zookeeper with its folder"},
	{16, "\xed\xda\x0c\xed", "is a bolt database, such as an etcd snapshot", ""},
	{0, "SQLite format 3\x00", "is an SQLite database", ""},
}

// recognise says what a file is that does not begin with coord's magic; b is its beginning.
func recognise(file string, b []byte) error {
	e := &ForeignError{File: file, Seems: "does not begin with the magic number of a snapshot"}
	trimmed := bytes.TrimLeft(b, " \t\r\n")
	switch {
	case len(b) == 0:
		e.Seems, e.Hint = "is empty", "it was never written: use another snapshot"
		return e
	case len(bytes.Trim(b, "\x00")) == 0:
		e.Seems, e.Hint = "begins with zeros", "the disk lost its data, or it was never written: use another snapshot"
		return e
	case len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '['):
		e.Seems = "is JSON text"
		return e
	}
	for _, f := range foreign {
		if len(b) > f.offset && strings.HasPrefix(string(b[f.offset:]), f.magic) {
			e.Seems, e.Hint = f.seems, f.hint
			return e
		}
	}
	return e
}
