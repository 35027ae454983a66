package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"coord/tree/znode"
)

// A batch is the data of one raft entry: txns that are proposed, logged and committed together.
//
//	version  u8       4
//	time     uvarint  ms since 1970: the leader's stamp of all its txns
//	floors   uvarint  how many, each: node 8 bytes, index uvarint (see Floor)
//	count    uvarint
//	txn*
//
//	txn:     kind u8, origin ref, seq uvarint, session varint, attachment uvarint (if
//	         the session is not 0), ids ref, then by kind
//	  multi:    uvarint number of ops, each: kind u8, op
//	  session:  target varint, timeout varint, password bytes
//	  attach:   target varint, timeout varint, password bytes
//	  close:    target varint
//	  settings: u8, a bit each
//	  reap:     target varint, op
//	  else:     op
//	op:      flags u8, mode u8, version varint, path bytes, then by kind
//	  create:   ACL ref, data, TTL uvarint (with a TTL mode)
//	  set:      data
//	  set ACL:  ACL ref
//	  delete:   limit varint (with Recursive)
//	bytes:   uvarint length, bytes;  data: uvarint length + 1 or 0 for null, bytes
//	ref:     uvarint number in a table of the batch; the number after the last one
//	         defines a new row, which follows: origins (8 bytes), id lists and ACLs
//	         (uvarint count, strings). Row 0 of the ACLs is world:anyone:cdrwa. Two
//	         rows may be the same.
//
// Rejected: msgpack. Its decoder allocates what a length claims and would need a
// validator larger than this file; the hand-written form is smaller on disk and
// four times as fast, and the tables share the identities of a whole batch.
//
// Version 1 had no attachments, version 2 no floors, version 3 no timeout in an attach.
const batchVersion = 4

// ErrNewerBatch is a batch of a newer coord.
var ErrNewerBatch = errors.New("tree: the log holds txns of a newer version of coord")

// Floor is an index up to which a node is known to have committed entries on its disk. No txn
// depends on it: it is for later leaders.
type Floor struct{ Node, Index uint64 }

// FloorBytes is the most bytes that a floor takes in a batch.
const FloorBytes = 8 + binary.MaxVarintLen64

// Encoder packs txns into batches. The zero value is ready to use.
type Encoder struct {
	body    []byte
	count   uint64
	origins []uint64
	ids     [][]znode.Identity
	acls    []znode.ACL
}

// Len is the size of the batch so far, in bytes, without floors.
func (e *Encoder) Len() int { return len(e.body) + 2 + 2*binary.MaxVarintLen64 }

// Count is the number of txns in the batch so far.
func (e *Encoder) Count() int { return int(e.count) }

// Add adds a txn. It ignores the txn's TimeMS, because the batch has one for all. A kind that
// Decode would not accept is a fault of the caller and panics: it must not be logged.
func (e *Encoder) Add(x *Txn) {
	e.count++
	b := append(e.body, byte(x.Kind))
	if i := slices.Index(e.origins, x.Origin); i >= 0 {
		b = binary.AppendUvarint(b, uint64(i))
	} else {
		b = binary.AppendUvarint(b, uint64(len(e.origins)))
		b = binary.LittleEndian.AppendUint64(b, x.Origin)
		e.origins = append(e.origins, x.Origin)
	}
	b = binary.AppendUvarint(b, x.Seq)
	if b = binary.AppendVarint(b, x.Session); x.Session != 0 {
		b = binary.AppendUvarint(b, uint64(x.Attachment))
	}
	b = e.appendIDs(b, x.IDs)
	switch x.Kind {
	case KindMulti:
		b = binary.AppendUvarint(b, uint64(len(x.Ops)))
		for i := range x.Ops {
			if k := x.Ops[i].Kind; k < KindCreate || k > KindCheck {
				panic(fmt.Sprintf("tree: encode: invalid op kind %d in a multi", k))
			}
			b = append(b, byte(x.Ops[i].Kind))
			b = e.appendOp(b, &x.Ops[i])
		}
	case KindSession, KindAttach:
		b = binary.AppendVarint(b, x.Target)
		b = binary.AppendVarint(b, int64(x.TimeoutMS))
		b = appendBytes(b, x.Password)
	case KindClose:
		b = binary.AppendVarint(b, x.Target)
	case KindSettings:
		b = append(b, x.Settings.bits())
	case KindReap:
		b = binary.AppendVarint(b, x.Target)
		b = e.appendOp(b, &x.Op)
	case KindCreate, KindDelete, KindSetData, KindSetACL, KindCheck:
		b = e.appendOp(b, &x.Op)
	default:
		panic(fmt.Sprintf("tree: encode: invalid txn kind %d", x.Kind))
	}
	e.body = b
}

// AppendBatch appends the entry's data, stamped, to b and starts the next batch.
func (e *Encoder) AppendBatch(b []byte, timeMS int64, floors ...Floor) []byte {
	b = slices.Grow(b, e.Len()+len(floors)*FloorBytes)
	b = append(b, batchVersion)
	b = binary.AppendUvarint(b, uint64(timeMS))
	b = binary.AppendUvarint(b, uint64(len(floors)))
	for _, f := range floors {
		b = binary.LittleEndian.AppendUint64(b, f.Node)
		b = binary.AppendUvarint(b, f.Index)
	}
	b = binary.AppendUvarint(b, e.count)
	b = append(b, e.body...)
	e.body, e.count = e.body[:0], 0
	e.origins = e.origins[:0]
	clear(e.ids)
	clear(e.acls)
	e.ids, e.acls = e.ids[:0], e.acls[:0]
	return b
}

// recent is the first row that is searched for an equal one: with thousands of different rows in a batch,
// searching all of them would take most of the encoder's time.
func recent(rows int) int { return max(0, rows-64) }

func (e *Encoder) appendIDs(b []byte, ids []znode.Identity) []byte {
	for i := recent(len(e.ids)); i < len(e.ids); i++ {
		if slices.Equal(e.ids[i], ids) {
			return binary.AppendUvarint(b, uint64(i))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(e.ids)))
	e.ids = append(e.ids, ids)
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = appendString(appendString(b, id.Scheme), id.ID)
	}
	return b
}

func (e *Encoder) appendACL(b []byte, a znode.ACL) []byte {
	if a.Equal(znode.OpenACL) {
		return append(b, 0)
	}
	for i := recent(len(e.acls)); i < len(e.acls); i++ {
		if e.acls[i].Equal(a) {
			return binary.AppendUvarint(b, uint64(i+1))
		}
	}
	e.acls = append(e.acls, a)
	b = binary.AppendUvarint(b, uint64(len(e.acls)))
	b = binary.AppendUvarint(b, uint64(len(a)))
	for _, entry := range a {
		b = binary.AppendVarint(b, int64(entry.Perms))
		b = appendString(appendString(b, entry.Scheme), entry.ID)
	}
	return b
}

func (e *Encoder) appendOp(b []byte, op *Op) []byte {
	b = append(b, byte(op.Flags), byte(op.Mode))
	b = binary.AppendVarint(b, int64(op.Version))
	b = appendString(b, op.Path)
	switch op.Kind {
	case KindCreate:
		b = e.appendACL(b, op.ACL)
		b = appendData(b, op.Data)
		if op.Mode.TTL() {
			b = binary.AppendUvarint(b, uint64(op.TTLMS))
		}
	case KindSetData:
		b = appendData(b, op.Data)
	case KindSetACL:
		b = e.appendACL(b, op.ACL)
	case KindDelete:
		if op.Flags&Recursive != 0 {
			b = binary.AppendVarint(b, int64(op.Limit))
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }

func appendData(b, data []byte) []byte {
	if data == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(data))+1), data...)
}

func (s Settings) bits() (b byte) {
	for i, on := range []bool{s.EnforceQuota, s.ExtendedTypes, s.SkipACL} {
		if on {
			b |= 1 << i
		}
	}
	return b
}

func settingsOf(b byte) Settings { return Settings{b&1 != 0, b&2 != 0, b&4 != 0} }

// Decode yields the txns of a batch in order. The Txn is reused and its Data shares the batch's
// memory: both are valid until yield returns. No allocation trusts a length that the batch claims.
// Since the log has verified the bytes, an error means a fault of coord or a newer coord.
func Decode(batch []byte, yield func(*Txn)) error {
	d, err := newDecoder(batch)
	if err != nil {
		return err
	}
	timeMS := int64(d.uvarint())
	for n := d.floors(); n > 0 && !d.bad; n-- {
		d.floor()
	}
	count := d.uvarint()
	var x Txn
	for range count {
		d.txn(&x)
		if d.bad {
			break
		}
		x.TimeMS = timeMS
		yield(&x)
	}
	if d.bad || len(d.b) != 0 {
		return errMalformed
	}
	return nil
}

// DecodeFloors returns the floors in a batch. Most batches have none, and cost nothing. The errors
// are those of Decode; what follows the floors is not checked.
func DecodeFloors(batch []byte) ([]Floor, error) {
	d, err := newDecoder(batch)
	if err != nil {
		return nil, err
	}
	d.uvarint()
	var floors []Floor
	for n := d.floors(); n > 0 && !d.bad; n-- {
		floors = append(floors, d.floor())
	}
	if d.bad {
		return nil, errMalformed
	}
	return floors, nil
}

var errMalformed = errors.New("tree: malformed batch")

func newDecoder(batch []byte) (decoder, error) {
	if len(batch) == 0 {
		return decoder{}, errors.New("tree: empty batch")
	}
	if batch[0] == 0 || batch[0] > batchVersion {
		return decoder{}, fmt.Errorf("%w (batch version %d)", ErrNewerBatch, batch[0])
	}
	return decoder{b: batch[1:], version: batch[0]}, nil
}

// decoder cuts values from b. After the first value that does not fit, bad is set and every value is zero.
type decoder struct {
	b       []byte
	version byte
	bad     bool
	origins []uint64
	ids     [][]znode.Identity
	acls    []znode.ACL
	ops     []Op
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *decoder) varint() int64 {
	x, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *decoder) uint32() uint32 {
	x := d.uvarint()
	if x > math.MaxUint32 {
		d.fail()
		return 0
	}
	return uint32(x)
}

func (d *decoder) int32() int32 {
	x := d.varint()
	if x < math.MinInt32 || x > math.MaxInt32 {
		d.fail()
		return 0
	}
	return int32(x)
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) data() []byte {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	if s := d.take(n - 1); s != nil {
		return s
	}
	return []byte{}
}

// count reads a number of items that take at least one byte each.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

// floors reads the number of floors.
func (d *decoder) floors() int {
	if d.version < 3 {
		return 0
	}
	return d.count()
}

func (d *decoder) floor() (f Floor) {
	if b := d.take(8); b != nil {
		f.Node = binary.LittleEndian.Uint64(b)
	}
	f.Index = d.uvarint()
	return f
}

func (d *decoder) identity() znode.Identity {
	scheme := string(d.bytes())
	return znode.Identity{Scheme: scheme, ID: string(d.bytes())}
}

func (d *decoder) txn(x *Txn) {
	*x = Txn{Op: Op{Kind: Kind(d.byte())}}
	switch i := d.uvarint(); {
	case i < uint64(len(d.origins)):
		x.Origin = d.origins[i]
	case i == uint64(len(d.origins)) && len(d.b) >= 8:
		x.Origin = binary.LittleEndian.Uint64(d.b)
		d.b = d.b[8:]
		d.origins = append(d.origins, x.Origin)
	default:
		d.fail()
		return
	}
	x.Seq = d.uvarint()
	if x.Session = d.varint(); x.Session != 0 && d.version > 1 {
		x.Attachment = d.uint32()
	}
	switch i := d.uvarint(); {
	case i < uint64(len(d.ids)):
		x.IDs = d.ids[i]
	case i == uint64(len(d.ids)):
		for n := d.count(); n > 0 && !d.bad; n-- {
			x.IDs = append(x.IDs, d.identity())
		}
		d.ids = append(d.ids, x.IDs)
	default:
		d.fail()
		return
	}
	switch x.Kind {
	case KindMulti:
		d.ops = d.ops[:0]
		for n := d.count(); n > 0 && !d.bad; n-- {
			op := Op{Kind: Kind(d.byte())}
			if op.Kind == KindReap {
				d.fail()
			}
			d.op(&op)
			d.ops = append(d.ops, op)
		}
		x.Ops = d.ops
	case KindSession, KindAttach:
		x.Target = d.varint()
		if x.Kind == KindSession || d.version > 3 {
			x.TimeoutMS = d.int32()
		}
		x.Password = d.bytes()
	case KindClose:
		x.Target = d.varint()
	case KindSettings:
		x.Settings = settingsOf(d.byte())
	case KindReap:
		x.Target = d.varint()
		d.op(&x.Op)
	case KindCreate, KindDelete, KindSetData, KindSetACL, KindCheck:
		d.op(&x.Op)
	default:
		d.fail()
	}
}

func (d *decoder) op(op *Op) {
	op.Flags = Flags(d.byte())
	op.Mode = znode.Mode(d.byte())
	op.Version = d.int32()
	op.Path = string(d.bytes())
	switch op.Kind {
	case KindCreate:
		op.ACL = d.acl()
		op.Data = d.data()
		if op.Mode.TTL() {
			op.TTLMS = int64(d.uvarint())
		}
	case KindSetData:
		op.Data = d.data()
	case KindSetACL:
		op.ACL = d.acl()
	case KindDelete:
		if op.Flags&Recursive != 0 {
			op.Limit = d.int32()
		}
	case KindCheck, KindReap:
	default:
		d.fail()
	}
}

func (d *decoder) acl() znode.ACL {
	i := d.uvarint()
	switch {
	case i == 0:
		return znode.OpenACL
	case i <= uint64(len(d.acls)):
		return d.acls[i-1]
	case i > uint64(len(d.acls))+1:
		d.fail()
		return nil
	}
	var a znode.ACL
	for n := d.count(); n > 0 && !d.bad; n-- {
		perms := znode.Perms(d.int32())
		a = append(a, znode.ACLEntry{Perms: perms, Identity: d.identity()})
	}
	d.acls = append(d.acls, a)
	return a
}
