package snapshot

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"

	"coord/tree"
	"coord/tree/znode"
)

// How many values each record's array has in this version. A reader accepts longer arrays, from
// newer minor versions, and skips the fields that it does not know.
const (
	metaFields     = 7
	floorFields    = 2
	countersFields = 6
	sessionFields  = 4
	aclEntryFields = 3
	nodeFields     = 13
	indexFields    = 4
	endFields      = 8

	// nodeOverhead is an upper bound for the size of a znode's record without its path and data.
	nodeOverhead = 96
)

// page collects the records of one frame. Space for the frame's head comes before them, so that a
// frame is one write.
type page struct {
	b       []byte
	records int
	enc     *msgpack.Encoder
}

func newPage() *page {
	p := &page{}
	p.enc = msgpack.NewEncoder(p)
	p.reset()
	return p
}

func (p *page) reset() {
	p.b, p.records = append(p.b[:0], make([]byte, frameHeadBytes)...), 0
}

// size is the number of payload bytes.
func (p *page) size() int { return len(p.b) - frameHeadBytes }

// add adds a record that is already encoded.
func (p *page) add(record []byte) {
	p.b = append(p.b, record...)
	p.records++
}

// Write and WriteByte are for the encoder. They never fail, so the encoder never does.
func (p *page) Write(b []byte) (int, error) {
	p.b = append(p.b, b...)
	return len(b), nil
}

func (p *page) WriteByte(c byte) error {
	p.b = append(p.b, c)
	return nil
}

func must(err error) {
	if err != nil {
		panic("snapshot: encoding to memory: " + err.Error())
	}
}

func (p *page) int(n int64) {
	if n >= 0 && n < 0x80 { // most numbers are small, and are encoded as themselves
		p.b = append(p.b, byte(n))
		return
	}
	must(p.enc.EncodeInt(n))
}

func (p *page) uint(n uint64)  { must(p.enc.EncodeUint(n)) }
func (p *page) array(n int)    { must(p.enc.EncodeArrayLen(n)) }
func (p *page) bool(v bool)    { must(p.enc.EncodeBool(v)) }
func (p *page) bytes(b []byte) { must(p.enc.EncodeBytes(b)) }
func (p *page) str(s string)   { must(p.enc.EncodeString(s)) }

func (p *page) ids(ids []uint64) {
	p.array(len(ids))
	for _, id := range ids {
		p.uint(id)
	}
}

func (p *page) meta(c *ConfState) {
	p.records++
	p.array(metaFields)
	p.ids(c.Voters)
	p.ids(c.VotersOutgoing)
	p.ids(c.Learners)
	p.ids(c.LearnersNext)
	p.bool(c.AutoLeave)
	p.ids(c.Removed)
	p.array(len(c.Floors))
	for _, f := range c.Floors {
		p.array(floorFields)
		p.uint(f.Node)
		p.uint(f.Index)
	}
}

func (p *page) counters(c *tree.Counters) {
	p.records++
	p.array(countersFields)
	p.uint(uint64(c.Zxid))
	p.int(c.EpochOffset)
	p.int(c.TimeMS)
	p.bool(c.Settings.EnforceQuota)
	p.bool(c.Settings.ExtendedTypes)
	p.bool(c.Settings.SkipACL)
}

func (p *page) session(s *tree.Session) {
	p.records++
	p.array(sessionFields)
	p.int(s.ID)
	p.int(int64(s.TimeoutMS))
	p.bytes(s.Password[:])
	p.uint(uint64(s.Attachment))
}

func (p *page) acl(a znode.ACL) {
	p.records++
	p.array(len(a))
	for i := range a {
		p.array(aclEntryFields)
		p.int(int64(a[i].Perms))
		p.str(a[i].Scheme)
		p.str(a[i].ID)
	}
}

// node adds a znode. prev is the previous record in the same page, and empty for the first, so that
// a page can be read without the ones before it.
//
// Neighbours share long beginnings of their paths, were created in nearby txns, and most were never
// changed. Written as differences, a path and five 8-byte numbers take a handful of bytes.
func (p *page) node(prev *place, n *tree.Node, acl uint64) {
	p.records++
	shared := commonPrefix(prev.path, n.Path)
	p.array(nodeFields)
	p.uint(uint64(shared))
	p.str(n.Path[shared:])
	p.bytes(n.Data)
	p.uint(acl)
	p.int(int64(n.Czxid - prev.czxid))
	p.int(int64(n.Mzxid - n.Czxid))
	p.int(int64(n.Pzxid - n.Czxid))
	p.int(n.CtimeMS - prev.ctimeMS)
	p.int(n.MtimeMS - n.CtimeMS)
	p.int(int64(n.Version))
	p.int(int64(n.Aversion))
	p.int(int64(n.Created))
	p.int(n.Owner)
	prev.path = append(prev.path[:shared], n.Path[shared:]...)
	prev.czxid, prev.ctimeMS = n.Czxid, n.CtimeMS
}

// place is what a znode's record refers to: the values of the previous one.
type place struct {
	path    []byte
	czxid   znode.Zxid
	ctimeMS int64
}

func (l *place) reset() { l.path, l.czxid, l.ctimeMS = l.path[:0], 0, 0 }

// commonPrefix is the number of bytes with which both begin. It never ends within a character, so
// that the rest is valid UTF-8 too.
func commonPrefix(a []byte, b string) int {
	n := min(len(a), len(b))
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	for i > 0 && i < len(b) && !utf8.RuneStart(b[i]) {
		i--
	}
	return i
}

func (p *page) indexEntry(e *indexEntry) {
	p.records++
	p.array(indexFields)
	p.uint(uint64(e.typ))
	p.uint(uint64(e.seq))
	p.uint(uint64(e.offset))
	p.str(e.path)
}

func (p *page) end(e *endRecord) {
	p.records++
	p.array(endFields)
	for _, n := range e {
		p.uint(n)
	}
}

// indexEntry says where a frame is.
type indexEntry struct {
	typ    FrameType // FrameNodes or FrameACLs
	seq    uint32
	offset int64
	path   string // of the first znode in it, "" for FrameACLs
}

// endRecord is the END frame: the number of frames before it, of znodes, sessions, ephemerals and
// access lists, the bytes of all payloads before it, and the digest's two halves.
type endRecord [endFields]uint64

// decoder reads the records of payloads. After a failure it yields zeros, and err keeps the first reason.
//
// checkStructure has accepted decoder.b before anything is read from it.
type decoder struct {
	b   []byte
	off int
	err error
	dec *msgpack.Decoder
}

var errNotMsgpack = errors.New("a record ends too early")

// reset begins a payload.
func (d *decoder) reset(payload []byte) {
	d.b, d.off = payload, 0
	d.err = checkStructure(payload)
	if d.dec == nil {
		d.dec = msgpack.NewDecoder(d)
	}
}

// each reads all records of a frame by calling record, whose error says what is wrong with one. If
// a record cannot be read at all, the reason is in d.err.
func (d *decoder) each(f *frame, u *unpacker, file string, record func() error) error {
	payload, reason := u.unpack(f)
	if reason != "" {
		return f.damage(file, reason)
	}
	d.reset(payload)
	n := 0
	for ; d.more(); n++ {
		if err := record(); err != nil {
			d.fail(err)
		}
	}
	single := f.typ == FrameMeta || f.typ == FrameCounters || f.typ == FrameEnd
	switch {
	case d.err != nil:
		return f.damage(file, d.err.Error())
	case n == 0:
		return f.damage(file, "it is empty")
	case n > 1 && (single || f.raw > FrameBytes):
		return f.damage(file, "it holds too many records")
	}
	return nil
}

// more says whether there is another record.
func (d *decoder) more() bool { return d.err == nil && d.off < len(d.b) }

// msgpack's Decoder reads through Read, ReadByte and UnreadByte; with these it keeps no buffer of its own.
func (d *decoder) Read(b []byte) (int, error) {
	if d.off == len(d.b) {
		return 0, io.EOF
	}
	n := copy(b, d.b[d.off:])
	d.off += n
	return n, nil
}

func (d *decoder) ReadByte() (byte, error) {
	if d.off == len(d.b) {
		return 0, io.EOF
	}
	d.off++
	return d.b[d.off-1], nil
}

func (d *decoder) UnreadByte() error {
	d.off--
	return nil
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// record begins a record with at least least fields. It returns the number of further fields, for skip.
func (d *decoder) record(least int) (extra int) {
	n := d.count()
	if n < least {
		d.fail(errNotMsgpack)
	}
	return n - least
}

func (d *decoder) skip(extra int) {
	for ; extra > 0 && d.err == nil; extra-- {
		if err := d.dec.Skip(); err != nil {
			d.fail(err)
		}
	}
}

func (d *decoder) count() int {
	if d.err != nil {
		return 0
	}
	n, err := d.dec.DecodeArrayLen()
	if err != nil {
		d.fail(err)
	}
	return max(n, 0)
}

func (d *decoder) int() int64 {
	if d.err != nil {
		return 0
	}
	if c := d.b[d.off:]; len(c) > 0 && c[0] < 0x80 { // most numbers are small
		d.off++
		return int64(c[0])
	}
	n, err := d.dec.DecodeInt64()
	if err != nil {
		d.fail(err)
	}
	return n
}

func (d *decoder) uint() uint64 { return uint64(d.int()) }

func (d *decoder) uint32() uint32 {
	n := d.int()
	if n != int64(uint32(n)) {
		d.fail(fmt.Errorf("the number %d is too large", n))
	}
	return uint32(n)
}

func (d *decoder) int32() int32 {
	n := d.int()
	if n != int64(int32(n)) {
		d.fail(fmt.Errorf("the number %d is too large", n))
	}
	return int32(n)
}

func (d *decoder) bool() bool {
	if d.err != nil {
		return false
	}
	v, err := d.dec.DecodeBool()
	if err != nil {
		d.fail(err)
	}
	return v
}

// bytes returns the part of the payload that holds a string or byte string, or nil if the value is nil.
func (d *decoder) bytes() []byte {
	if d.err != nil {
		return nil
	}
	n, err := d.dec.DecodeBytesLen()
	switch {
	case err != nil:
		d.fail(err)
		return nil
	case n < 0:
		return nil
	case n > len(d.b)-d.off:
		d.fail(errNotMsgpack)
		return nil
	}
	d.off += n
	return d.b[d.off-n : d.off : d.off]
}

func (d *decoder) ids() []uint64 {
	var ids []uint64
	for n := d.count(); n > 0 && d.err == nil; n-- {
		ids = append(ids, d.uint())
	}
	return ids
}

func (d *decoder) meta() (c ConfState) {
	extra := d.record(metaFields - 2)
	c.Voters = d.ids()
	c.VotersOutgoing = d.ids()
	c.Learners = d.ids()
	c.LearnersNext = d.ids()
	c.AutoLeave = d.bool()
	if extra > 0 { // missing before version 1.2
		c.Removed = d.ids()
		extra--
	}
	if extra > 0 { // missing before version 1.3
		c.Floors = d.floors()
		extra--
	}
	d.skip(extra)
	return c
}

func (d *decoder) floors() (floors []tree.Floor) {
	for n := d.count(); n > 0 && d.err == nil; n-- {
		extra := d.record(floorFields)
		floors = append(floors, tree.Floor{Node: d.uint(), Index: d.uint()})
		d.skip(extra)
	}
	return floors
}

func (d *decoder) counters() (c tree.Counters) {
	extra := d.record(countersFields)
	c.Zxid = znode.Zxid(d.uint())
	c.EpochOffset = d.int()
	c.TimeMS = d.int()
	c.Settings.EnforceQuota = d.bool()
	c.Settings.ExtendedTypes = d.bool()
	c.Settings.SkipACL = d.bool()
	d.skip(extra)
	return c
}

func (d *decoder) session() (s tree.Session) {
	extra := d.record(sessionFields - 1)
	s.ID = d.int()
	s.TimeoutMS = d.int32()
	if b := d.bytes(); len(b) != len(s.Password) {
		d.fail(errors.New("a session's password is not 16 bytes long"))
	} else {
		copy(s.Password[:], b)
	}
	if extra > 0 { // missing in files older than attachments
		s.Attachment = d.uint32()
		extra--
	}
	d.skip(extra)
	return s
}

func (d *decoder) acl() (a znode.ACL) {
	for n := d.count(); n > 0 && d.err == nil; n-- {
		extra := d.record(aclEntryFields)
		perms := d.int32()
		scheme, id := string(d.bytes()), string(d.bytes())
		d.skip(extra)
		a = append(a, znode.ACLEntry{Perms: znode.Perms(perms), Identity: znode.Identity{Scheme: scheme, ID: id}})
	}
	return a
}

func (d *decoder) index() (e indexEntry) {
	extra := d.record(indexFields)
	typ, seq, offset := d.uint(), d.uint(), d.uint()
	if typ > math.MaxUint8 || seq > math.MaxUint32 || offset > math.MaxInt64 {
		d.fail(errors.New("an index entry is out of range"))
	}
	e = indexEntry{FrameType(typ), uint32(seq), int64(offset), string(d.bytes())}
	d.skip(extra)
	return e
}

func (d *decoder) end() (e endRecord) {
	extra := d.record(endFields)
	for i := range e {
		e[i] = d.uint()
	}
	d.skip(extra)
	return e
}

// node reads the next znode into n. Its path stays valid, its data as long as the payload. acls is
// the table so far; list 0 is the empty one.
func (d *decoder) node(prev *place, paths *arena, acls []znode.ACL, n *tree.Node) {
	extra := d.record(nodeFields)
	shared := d.uint()
	suffix := d.bytes()
	if shared > uint64(len(prev.path)) || int(shared)+len(suffix) > znode.MaxPathBytes {
		d.fail(errors.New("a path is too long or shares more bytes with the previous path than that has"))
		return
	}
	prev.path = append(prev.path[:shared], suffix...)
	n.Path = paths.add(prev.path)
	n.Data = d.bytes()
	acl := d.uint()
	if acl >= uint64(len(acls)) {
		d.fail(fmt.Errorf("%s refers to access list %d of %d", n.Path, acl, len(acls)))
		return
	}
	n.ACL = acls[acl]
	n.Czxid = prev.czxid + znode.Zxid(d.uint())
	n.Mzxid = n.Czxid + znode.Zxid(d.uint())
	n.Pzxid = n.Czxid + znode.Zxid(d.uint())
	n.CtimeMS = prev.ctimeMS + d.int()
	n.MtimeMS = n.CtimeMS + d.int()
	n.Version = d.int32()
	n.Aversion = d.int32()
	n.Created = d.int32()
	n.Owner = d.int()
	d.skip(extra)
	prev.czxid, prev.ctimeMS = n.Czxid, n.CtimeMS
}

// arena makes strings from bytes, many of them in one allocation.
type arena struct{ b strings.Builder }

const arenaBytes = 32 << 10

func (a *arena) add(b []byte) string {
	if a.b.Cap()-a.b.Len() < len(b) {
		a.b.Reset() // the strings made so far keep the old block
		a.b.Grow(max(arenaBytes, len(b)))
	}
	start := a.b.Len()
	a.b.Write(b)
	return a.b.String()[start:]
}
