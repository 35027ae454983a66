package zkproto

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"coord/tree/znode"
)

// Everything below appends to dst and allocates nothing but a longer dst.

// AppendInt writes an int: the count of a vector, the answer to
// OpGetAllChildrenNumber.
func AppendInt(dst []byte, n int32) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func appendLong(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n))
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendString writes a ustring or a buffer, which look the same.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	dst = AppendInt(dst, int32(len(s)))
	return append(dst, s...)
}

// ToJava are the bytes that Java writes for a string: see FromJava, and for a
// character outside the Basic Multilingual Plane two surrogates of three bytes each.
func ToJava(s string) string {
	s = FromJava(s)
	i := strings.IndexFunc(s, beyondBMP)
	if i < 0 {
		return s
	}
	b := append(make([]byte, 0, len(s)+8), s[:i]...)
	for _, r := range s[i:] {
		if !beyondBMP(r) {
			b = utf8.AppendRune(b, r)
			continue
		}
		high, low := utf16.EncodeRune(r)
		for _, unit := range [...]rune{high, low} {
			b = append(b, 0xe0|byte(unit>>12), 0x80|byte(unit>>6&0x3f), 0x80|byte(unit&0x3f))
		}
	}
	return string(b)
}

func beyondBMP(r rune) bool { return r > 0xffff }

// FromJava is what Java reads: U+FFFD for what is malformed.
func FromJava(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s)+8)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			n = malformed(s)
		}
		b = utf8.AppendRune(b, r)
		s = s[n:]
	}
	return string(b)
}

// malformed is how many of the bytes that begin no character one U+FFFD stands for:
// as many as could have begun one, and a surrogate whole.
func malformed(s string) int {
	follows := func(i int) bool { return i < len(s) && s[i]&0xc0 == 0x80 }
	switch c := s[0]; {
	case c < 0xe0 || c > 0xf4 || !follows(1),
		c == 0xe0 && s[1] < 0xa0, c == 0xf0 && s[1] < 0x90, c == 0xf4 && s[1] > 0x8f:
		return 1
	case !follows(2):
		return 2
	}
	return 3
}

// AppendNull writes a null buffer: the data of a znode that has none. No other
// null may go to a client: go-zookeeper cannot take it.
func AppendNull(dst []byte) []byte { return AppendInt(dst, -1) }

// appendBuffer writes nil as null.
func appendBuffer(dst, b []byte) []byte {
	if b == nil {
		return AppendNull(dst)
	}
	return AppendString(dst, b)
}

// AppendStrings writes a vector of ustrings. Who has no slice writes the count
// with AppendInt and each with AppendString.
func AppendStrings(dst []byte, list []string) []byte {
	dst = AppendInt(dst, int32(len(list)))
	for _, s := range list {
		dst = AppendString(dst, s)
	}
	return dst
}

// AppendACL writes an access list.
func AppendACL(dst []byte, acl znode.ACL) []byte {
	dst = AppendInt(dst, int32(len(acl)))
	for i := range acl {
		dst = AppendInt(dst, int32(acl[i].Perms))
		dst = AppendString(dst, acl[i].Scheme)
		dst = AppendString(dst, acl[i].ID)
	}
	return dst
}

// AppendIdentities writes the answer to OpWhoAmI: each scheme, and a name that
// is the caller's business (of a digest only the user).
func AppendIdentities(dst []byte, ids []znode.Identity) []byte {
	dst = AppendInt(dst, int32(len(ids)))
	for i := range ids {
		dst = AppendString(dst, ids[i].Scheme)
		dst = AppendString(dst, ids[i].ID)
	}
	return dst
}

// AppendStat writes a Stat, its numbers as they are: znode.Stat has the cversion
// and the owner that ZooKeeper shows.
func AppendStat(dst []byte, s *znode.Stat) []byte {
	dst = appendLong(dst, int64(s.Czxid))
	dst = appendLong(dst, int64(s.Mzxid))
	dst = appendLong(dst, s.CtimeMS)
	dst = appendLong(dst, s.MtimeMS)
	dst = AppendInt(dst, s.Version)
	dst = AppendInt(dst, s.Cversion)
	dst = AppendInt(dst, s.Aversion)
	dst = appendLong(dst, s.EphemeralOwner)
	dst = AppendInt(dst, s.DataLength)
	dst = AppendInt(dst, s.NumChildren)
	return appendLong(dst, int64(s.Pzxid))
}

// cursor reads a record. What does not fit sets bad, once and for all, and reads
// as zero.
type cursor struct {
	rest   []byte
	last   string // the string read last, or of the request before
	bad    bool
	strict bool // not as lenient as ZooKeeper's server: no null but buffers, no boolean but 0 and 1
}

// take cuts n bytes, or none that count.
func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.rest) {
		c.bad = true
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) int() int32 {
	if b := c.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (c *cursor) long() int64 {
	if b := c.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// bool is true for any byte but 0.
func (c *cursor) bool() bool {
	b := c.take(1)
	if b == nil || c.strict && b[0] > 1 {
		c.bad = true
		return false
	}
	return b[0] != 0
}

// buffer aliases the frame; nil is null, and what is empty is not nil.
func (c *cursor) buffer() []byte {
	n := c.int()
	if n == -1 {
		return nil
	}
	return c.take(int(n))
}

// string is an own string; null is empty.
func (c *cursor) string() string {
	b := c.buffer()
	c.bad = c.bad || c.strict && b == nil
	return c.own(b)
}

// notNull is a string that must be there.
func (c *cursor) notNull() string {
	b := c.buffer()
	c.bad = c.bad || b == nil
	return c.own(b)
}

// nullable is a string, or znode.Null.
func (c *cursor) nullable() string {
	b := c.buffer()
	if b == nil {
		c.bad = c.bad || c.strict
		return znode.Null
	}
	return c.own(b)
}

// own makes a string of b. One that comes twice in a row (the path of a znode
// that is polled, or set where it was checked) is made once.
func (c *cursor) own(b []byte) string {
	if string(b) != c.last {
		c.last = string(b)
	}
	return c.last
}

// count reads the number of elements of a vector, -1 for null. Each takes size
// bytes or more: what cannot be there is not waited for. To Java every other
// negative count is that of an empty vector.
func (c *cursor) count(size int) int {
	n := int(c.int())
	if n > len(c.rest)/size || c.strict && n < 0 {
		c.bad = true
	}
	if c.bad || n < -1 {
		return 0
	}
	return n
}

// strings reads a vector of strings, null as nil.
func (c *cursor) strings() []string {
	n := c.count(4)
	if n < 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = c.nullable()
	}
	return list
}

// shared are the access lists of almost every create, handed out as they are,
// with their bytes.
var shared = [...]struct {
	acl  znode.ACL
	wire string
}{
	{znode.OpenACL, string(AppendACL(nil, znode.OpenACL))},
	{znode.ReadACL, string(AppendACL(nil, znode.ReadACL))},
}

// acl reads an access list, null as nil.
func (c *cursor) acl() znode.ACL {
	for i := range shared {
		if wire := shared[i].wire; len(c.rest) >= len(wire) && string(c.rest[:len(wire)]) == wire {
			c.rest = c.rest[len(wire):]
			return shared[i].acl
		}
	}
	n := c.count(12)
	if n < 0 {
		return nil
	}
	list := make(znode.ACL, n)
	for i := range list {
		list[i].Perms = znode.Perms(c.int())
		list[i].Scheme = c.string()
		list[i].ID = c.nullable()
	}
	return list
}

func (c *cursor) stat() (s znode.Stat) {
	s.Czxid = znode.Zxid(c.long())
	s.Mzxid = znode.Zxid(c.long())
	s.CtimeMS = c.long()
	s.MtimeMS = c.long()
	s.Version = c.int()
	s.Cversion = c.int()
	s.Aversion = c.int()
	s.EphemeralOwner = c.long()
	s.DataLength = c.int()
	s.NumChildren = c.int()
	s.Pzxid = znode.Zxid(c.long())
	return s
}
