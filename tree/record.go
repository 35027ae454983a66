package tree

import (
	"encoding/binary"
	"unsafe"

	"coord/tree/znode"
)

// record is a znode's own part, everything that a create, set or ACL change decides, packed into
// one immutable string:
//
//	flags     u8       see below
//	parent    uvarint  slot number of the parent
//	acl       uvarint  number in the ACL table
//	czxid     uvarint
//	ctime     varint   ms
//	if recChanged: mzxid-czxid uvarint, mtime-ctime varint, version varint, aversion varint
//	if recOwned:   owner, 8 bytes little-endian
//	if recParent:  created varint, pzxid-czxid uvarint: see fields
//	name      uvarint length, bytes
//	data      the rest
type record string

const (
	recChanged = 1 << iota // set or its ACL changed since the creation
	recOwned               // the stored owner is not 0
	recNull                // the data is null, not empty
	recParent              // it had children before the snapshot or restore that it comes from, and none since
)

// fields is an unpacked record. name and data share the record's memory.
type fields struct {
	parent, acl    uint32
	czxid, mzxid   znode.Zxid
	ctime, mtime   int64
	version, avers int32
	owner          int64
	null           bool
	name, data     string
	// What the znode knows about children while its slot has no dir: none created and its own
	// czxid, except for znodes to which a snapshot or a restore gave other values.
	created int32
	pzxid   znode.Zxid
}

// borrow makes a string of b without a copy. It is valid until b changes; pack gives the fields a
// copy in the record.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// appendRecord appends f, packed, to b.
func appendRecord(b []byte, f *fields) []byte {
	var flags byte
	if f.mzxid != f.czxid || f.mtime != f.ctime || f.version != 0 || f.avers != 0 {
		flags |= recChanged
	}
	if f.owner != 0 {
		flags |= recOwned
	}
	if f.null {
		flags |= recNull
	}
	if f.created != 0 || f.pzxid != f.czxid {
		flags |= recParent
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(f.parent))
	b = binary.AppendUvarint(b, uint64(f.acl))
	b = binary.AppendUvarint(b, uint64(f.czxid))
	b = binary.AppendVarint(b, f.ctime)
	if flags&recChanged != 0 {
		b = binary.AppendUvarint(b, uint64(f.mzxid-f.czxid))
		b = binary.AppendVarint(b, f.mtime-f.ctime)
		b = binary.AppendVarint(b, int64(f.version))
		b = binary.AppendVarint(b, int64(f.avers))
	}
	if flags&recOwned != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(f.owner))
	}
	if flags&recParent != 0 {
		b = binary.AppendVarint(b, int64(f.created))
		b = binary.AppendUvarint(b, uint64(f.pzxid-f.czxid))
	}
	b = binary.AppendUvarint(b, uint64(len(f.name)))
	b = append(b, f.name...)
	return append(b, f.data...)
}

// cursor reads integers from a record that appendRecord made.
type cursor string

func (c *cursor) uvarint() uint64 {
	var x uint64
	for i := 0; ; i++ {
		b := (*c)[i]
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			*c = (*c)[i+1:]
			return x
		}
	}
}

func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// unpack returns all fields of a record.
func (r record) unpack() (f fields) {
	flags := r[0]
	c := cursor(r[1:])
	f.parent = uint32(c.uvarint())
	f.acl = uint32(c.uvarint())
	f.czxid = znode.Zxid(c.uvarint())
	f.ctime = c.varint()
	f.mzxid, f.mtime, f.pzxid = f.czxid, f.ctime, f.czxid
	if flags&recChanged != 0 {
		f.mzxid += znode.Zxid(c.uvarint())
		f.mtime += c.varint()
		f.version = int32(c.varint())
		f.avers = int32(c.varint())
	}
	if flags&recOwned != 0 {
		var o uint64
		for i := range 8 {
			o |= uint64(c[i]) << (8 * i)
		}
		f.owner = int64(o)
		c = c[8:]
	}
	if flags&recParent != 0 {
		f.created = int32(c.varint())
		f.pzxid += znode.Zxid(c.uvarint())
	}
	f.null = flags&recNull != 0
	n := c.uvarint()
	f.name, f.data = string(c[:n]), string(c[n:])
	return f
}

// place returns only what finding a znode needs.
func (r record) place() (parent uint32, name string) {
	c := cursor(r[1:])
	parent = uint32(c.uvarint())
	c.uvarint()
	c.uvarint()
	c.uvarint()
	if r[0]&recChanged != 0 {
		for range 4 {
			c.uvarint()
		}
	}
	if r[0]&recOwned != 0 {
		c = c[8:]
	}
	if r[0]&recParent != 0 {
		c.uvarint()
		c.uvarint()
	}
	n := c.uvarint()
	return parent, string(c[:n])
}
