package zkimport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"io"

	"coord/tree/znode"
)

const (
	// maxBytes is the longest value: ZooKeeper's limit is 1 MiB unless jute.maxbuffer changes it,
	// and a snapshot of coord takes records of 64 MiB.
	maxBytes = 32 << 20
	// atOnce is the longest value for which memory is allocated before it has been read.
	atOnce = 64 << 10
)

var errCut = errors.New("ends in the middle of a record")

// decoder reads ZooKeeper's records. After the first error, which it keeps, everything read is zero.
type decoder struct {
	r   io.Reader
	off int64 // bytes read
	sum hash.Hash32
	err error
	buf [96]byte
}

func newDecoder(r io.Reader) *decoder { return &decoder{r: r, sum: adler32.New()} }

// fail records what is wrong; off says where.
func (d *decoder) fail(format string, a ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, a...)
	}
}

// full fills b.
func (d *decoder) full(b []byte) {
	if d.err != nil {
		return
	}
	n, err := io.ReadFull(d.r, b)
	d.read(b[:n], err)
}

// early is the error of a reader that ended before it should.
func early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

func (d *decoder) read(b []byte, err error) {
	d.off += int64(len(b))
	_, _ = d.sum.Write(b)
	if err != nil {
		d.err = early(err)
	}
}

// fixed reads a few bytes, valid until the next call.
func (d *decoder) fixed(n int) []byte {
	b := d.buf[:n]
	clear(b)
	d.full(b)
	return b
}

func (d *decoder) i32() int32 { return int32(binary.BigEndian.Uint32(d.fixed(4))) }
func (d *decoder) i64() int64 { return int64(binary.BigEndian.Uint64(d.fixed(8))) }
func (d *decoder) bool() bool { return d.fixed(1)[0] != 0 }

// bytes reads a buffer; nil is null.
func (d *decoder) bytes() []byte {
	n := d.i32()
	switch {
	case d.err != nil || n == -1:
		return nil
	case n < 0 || n > maxBytes:
		d.fail("has a value of %d bytes, the limit is %d", n, maxBytes)
		return nil
	case n <= atOnce:
		b := make([]byte, n)
		d.full(b)
		return b
	}
	b, err := io.ReadAll(io.LimitReader(d.r, int64(n)))
	if err == nil && len(b) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	d.read(b, err)
	return b
}

func (d *decoder) string() string { return string(d.bytes()) }

// count reads the number of elements that follow; null means none.
func (d *decoder) count() int {
	n := d.i32()
	if n < -1 {
		d.fail("has a list of %d elements", n)
	}
	if d.err != nil {
		return 0
	}
	return int(max(n, 0))
}

// acl reads an access list. To ZooKeeper an empty list allows everything to everyone.
func (d *decoder) acl() znode.ACL {
	var a znode.ACL
	for range d.count() {
		perms := znode.Perms(d.i32())
		a = append(a, znode.ACLEntry{Perms: perms, Identity: znode.Identity{Scheme: d.string(), ID: d.string()}})
		if d.err != nil {
			return nil
		}
	}
	if len(a) == 0 {
		return znode.OpenACL
	}
	return a
}

// header reads the head of a file.
func (d *decoder) header(magic string) {
	b := d.fixed(16)
	switch have := string(b[:4]); {
	case d.err != nil:
	case have != magic:
		d.err = fmt.Errorf("begins with %q, not with %q", have, magic)
	case binary.BigEndian.Uint32(b[4:]) != 2:
		d.err = fmt.Errorf("has format %d, expected 2", binary.BigEndian.Uint32(b[4:]))
	}
}

// seal compares the checksum of everything read so far with the one that follows.
func (d *decoder) seal() {
	have := int64(d.sum.Sum32())
	want := d.i64()
	end := d.string()
	switch {
	case d.err != nil:
	case have != want:
		d.err = fmt.Errorf("has the checksum %x, but %x was computed", want, have)
	case end != "/":
		d.err = fmt.Errorf(`has %.20q after its checksum, expected "/"`, end)
	}
}
