package zkimport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
)

// logReader reads one log.
type logReader struct {
	file
	in  io.ReaderAt
	r   *bufio.Reader
	off int64 // of the next record
}

const (
	logHeadBytes    = 16
	recordHeadBytes = 8 + 4 // checksum, length
	// maxCandidates bounds the search for records after damage.
	maxCandidates = 1000
)

// errEnd is the end of a log: of the file, or of what has been written to it.
var errEnd = errors.New("end of the log")

func newLogReader(t *ticker, f *file, in io.ReaderAt) *logReader {
	return &logReader{file: *f, in: in, r: bufio.NewReaderSize(t.watch(io.NewSectionReader(in, 0, f.size)), 64<<10)}
}

// header reads the log's head. A file to which nothing has been written yet is blank.
func (l *logReader) header() (blank bool, err error) {
	head, err := l.r.Peek(logHeadBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if len(head) < logHeadBytes || bytes.Count(head, []byte{0}) == logHeadBytes && errors.Is(l.zeros(), errEnd) {
		return true, nil
	}
	d := newDecoder(l.r)
	d.header("ZKLG")
	if d.err != nil {
		return false, l.bad(d.err.Error())
	}
	l.off = logHeadBytes
	return false, nil
}

// next reads a record. The error is errEnd at the end, and a *DamageError for a record that is not
// complete, which may also be the end.
func (l *logReader) next() ([]byte, error) {
	head, err := l.r.Peek(recordHeadBytes)
	switch {
	case len(head) == 0 && errors.Is(err, io.EOF):
		return nil, errEnd
	case len(head) < recordHeadBytes && !errors.Is(err, io.EOF):
		return nil, err
	case len(head) < recordHeadBytes || binary.BigEndian.Uint32(head[8:]) == 0:
		return nil, l.zeros()
	}
	n := binary.BigEndian.Uint32(head[8:])
	sum := binary.BigEndian.Uint64(head)
	if n < txnHeadBytes || n > maxBytes || int64(n) > l.size-l.off-recordHeadBytes-1 {
		return nil, l.bad(fmt.Sprintf("invalid record length of %d bytes", n))
	}
	b := make([]byte, n+1) // the file has that many
	_, _ = l.r.Discard(recordHeadBytes)
	if _, err := io.ReadFull(l.r, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, l.bad("truncated record")
	} else if err != nil {
		return nil, err
	}
	if !valid(sum, b) {
		return nil, l.bad("the checksum of a record is wrong")
	}
	l.off += recordHeadBytes + int64(n) + 1
	return b[:n], nil
}

// valid checks a record: the txn and the byte after it.
func valid(sum uint64, b []byte) bool {
	n := len(b) - 1
	return b[n] == 'B' && sum == uint64(adler32.Checksum(b[:n]))
}

func (l *logReader) bad(reason string) error { return &DamageError{l.path, l.off, reason} }

// zeros returns errEnd if nothing but zeros follows.
func (l *logReader) zeros() error {
	for {
		if _, err := l.r.Peek(1); errors.Is(err, io.EOF) {
			return errEnd
		} else if err != nil {
			return err
		}
		b, _ := l.r.Peek(l.r.Buffered())
		for _, x := range b {
			if x != 0 {
				return l.bad("an empty record is followed by others")
			}
		}
		_, _ = l.r.Discard(len(b))
	}
}

// torn says whether the unreadable record at off may be a write that was never completed: no valid
// record with a higher zxid follows. The length is that of what is cut, without the zeros at the end.
func (l *logReader) torn(last uint64) (length int64, ok bool, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(l.in, l.off, l.size-l.off), 64<<10)
	candidates := 0
	for at := l.off; ; at++ {
		b, err := r.Peek(recordHeadBytes + txnHeadBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		if len(b) == 0 {
			return length, true, nil
		}
		if b[0] != 0 {
			length = at - l.off + 1
		}
		if len(b) == recordHeadBytes+txnHeadBytes && binary.BigEndian.Uint32(b) == 0 {
			n := binary.BigEndian.Uint32(b[8:])
			zxid := binary.BigEndian.Uint64(b[recordHeadBytes+12:])
			if n >= txnHeadBytes && n <= maxBytes && int64(n) < l.size-at-recordHeadBytes && zxid > last && zxid-last < 1<<40 {
				if candidates++; candidates > maxCandidates {
					return 0, false, nil
				}
				rec := make([]byte, n+1)
				if _, err := l.in.ReadAt(rec, at+recordHeadBytes); err != nil {
					return 0, false, err
				}
				if valid(binary.BigEndian.Uint64(b), rec) {
					return 0, false, nil
				}
			}
		}
		_, _ = r.Discard(1)
	}
}
