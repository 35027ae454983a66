package zkimport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"coord/tree/znode"
)

// statBytes is the length of a znode's access list number and stat.
const statBytes = 8 + 5*8 + 3*4 + 8

// load reads a whole snapshot. The error is a *DamageError if the file is damaged.
func load(t *ticker, f *file) (*state, *digest, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	s := newState()
	s.last = f.zxid
	var sum *digest
	d := &decoder{}
	r, err := unpacked(f.path, bufio.NewReaderSize(t.watch(in), 64<<10))
	if err != nil {
		err = early(err)
	} else {
		d = newDecoder(bufio.NewReaderSize(r, 64<<10))
		s.read(d)
		sum = s.tail(d)
		err = d.err
	}
	switch {
	case t.err != nil:
		return nil, nil, t.err
	case err != nil:
		return nil, nil, &DamageError{f.path, d.off, err.Error()}
	}
	return s, sum, nil
}

// read reads up to the first seal.
func (s *state) read(d *decoder) {
	d.header("ZKSN")
	for range d.count() {
		id := d.i64()
		s.sessions[id] = d.i32()
		if d.err != nil {
			return
		}
	}
	acls := map[int64]znode.ACL{-1: znode.OpenACL}
	for range d.count() {
		n := d.i64()
		acls[n] = d.acl()
		if d.err != nil {
			return
		}
	}
	for first := true; ; first = false {
		path := d.string()
		if path == znode.Root || d.err != nil {
			break
		}
		n := &node{data: d.bytes()}
		b := d.fixed(statBytes)
		if d.err != nil {
			return
		}
		i64 := func(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
		i32 := func(at int) int32 { return int32(binary.BigEndian.Uint32(b[at:])) }
		n.acl = acls[i64(0)]
		n.stat = stat{
			czxid: uint64(i64(8)), mzxid: uint64(i64(16)), ctime: i64(24), mtime: i64(32),
			version: i32(40), cversion: i32(44), aversion: i32(48), owner: i64(52), pzxid: uint64(i64(60)),
		}
		if path != znode.ConfigPath { // its mzxid is the version of the configuration
			s.seen = max(s.seen, n.czxid, n.mzxid, n.pzxid)
			s.newest(n.czxid, n.ctime)
			s.newest(n.mzxid, n.mtime)
		}
		if first {
			if path != "" {
				d.fail("begins with the znode %.80q, not with the root", path)
				return
			}
			s.root = n
			s.term(n, +1)
			continue
		}
		parent, name, ok := split(path)
		if ok {
			n.name, n.parent = name, s.find(parent)
		}
		if n.parent == nil {
			d.fail("has the znode %.80q without its parent", path)
			return
		}
		if n.parent.children[name] != nil {
			d.fail("has the znode %.80q twice", path)
			return
		}
		s.link(n)
	}
	d.seal()
}

// The lengths of what may follow the first seal.
const (
	sealBytes   = 8 + 4 + 1
	digestBytes = 8 + 4 + 8 + sealBytes
	lastBytes   = 8 + sealBytes
)

// tail reads what newer versions have added.
func (s *state) tail(d *decoder) (sum *digest) {
	if d.err != nil {
		return nil
	}
	r := d.r.(*bufio.Reader)
	rest, err := r.Peek(digestBytes + lastBytes + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		d.read(nil, err)
		return nil
	}
	n := len(rest)
	switch n {
	case 0, digestBytes, lastBytes, digestBytes + lastBytes:
	default:
		d.fail("has unknown bytes after its end")
		return nil
	}
	if n >= digestBytes {
		sum = &digest{uint64(d.i64()), d.i32(), uint64(d.i64())}
		if d.seal(); sum.zxid < s.last { // of an earlier epoch, or none
			sum = nil
		}
	}
	if n == lastBytes || n > digestBytes {
		if last := uint64(d.i64()); last < s.last && d.err == nil {
			d.err = fmt.Errorf("ends with zxid %#x, its name says %#x", last, s.last)
		}
		d.seal()
	}
	return sum
}
