package zkproto

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"coord/tree/znode"
)

// All functions below append to dst and allocate only to grow dst.

// AppendInt appends an int: the count of a vector, the answer to OpGetAllChildrenNumber.
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

// AppendString appends a ustring or a buffer, which have the same form.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	dst = AppendInt(dst, int32(len(s)))
	return append(dst, s...)
}

// ToJava returns the bytes that Java writes for a string: those of FromJava, with two surrogates of
// three bytes each for a character outside the Basic Multilingual Plane.
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

// FromJava returns the string that Java reads: malformed bytes become U+FFFD.
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

// malformed returns how many malformed bytes at the start of s Java replaces by one U+FFFD: as many
// as could have begun a character, and a whole surrogate.
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

// AppendNull appends a null buffer: the data of a znode that has none. A server must send no other
// null, because go-zookeeper cannot decode it.
func AppendNull(dst []byte) []byte { return AppendInt(dst, -1) }

// appendBuffer appends a buffer, nil as null.
func appendBuffer(dst, b []byte) []byte {
	if b == nil {
		return AppendNull(dst)
	}
	return AppendString(dst, b)
}

// AppendStrings appends a vector of ustrings. A caller without a slice appends the count with
// AppendInt and each string with AppendString.
func AppendStrings(dst []byte, list []string) []byte {
	dst = AppendInt(dst, int32(len(list)))
	for _, s := range list {
		dst = AppendString(dst, s)
	}
	return dst
}

// AppendACL appends an access list.
func AppendACL(dst []byte, acl znode.ACL) []byte {
	dst = AppendInt(dst, int32(len(acl)))
	for i := range acl {
		dst = AppendInt(dst, int32(acl[i].Perms))
		dst = AppendString(dst, acl[i].Scheme)
		dst = AppendString(dst, acl[i].ID)
	}
	return dst
}

// AppendIdentities appends the answer to OpWhoAmI: each scheme with a name that the caller chooses
// (for a digest only the user).
func AppendIdentities(dst []byte, ids []znode.Identity) []byte {
	dst = AppendInt(dst, int32(len(ids)))
	for i := range ids {
		dst = AppendString(dst, ids[i].Scheme)
		dst = AppendString(dst, ids[i].ID)
	}
	return dst
}

// AppendStat appends a Stat with its numbers unchanged: znode.Stat has the cversion and the owner
// that ZooKeeper shows.
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

// cursor reads a record. If something does not fit, bad is set for good and zero values are
// returned.
type cursor struct {
	rest   []byte
	last   string // the last string read, or one of the previous request
	bad    bool
	strict bool // stricter than ZooKeeper's server: no null except for buffers, no boolean but 0 and 1
}

// take cuts n bytes; if they are not there, it sets bad and returns nil.
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

// buffer reads bytes that alias the frame; nil is null, and an empty buffer is not nil.
func (c *cursor) buffer() []byte {
	n := c.int()
	if n == -1 {
		return nil
	}
	return c.take(int(n))
}

// string reads a string and copies it; null is empty.
func (c *cursor) string() string {
	b := c.buffer()
	c.bad = c.bad || c.strict && b == nil
	return c.own(b)
}

// notNull reads a string that must not be null.
func (c *cursor) notNull() string {
	b := c.buffer()
	c.bad = c.bad || b == nil
	return c.own(b)
}

// nullable reads a string; null is znode.Null.
func (c *cursor) nullable() string {
	b := c.buffer()
	if b == nil {
		c.bad = c.bad || c.strict
		return znode.Null
	}
	return c.own(b)
}

// own makes a string of b. A string that comes twice in a row (the path of a znode that is polled,
// or checked and then set) is allocated once.
func (c *cursor) own(b []byte) string {
	if string(b) != c.last {
		c.last = string(b)
	}
	return c.last
}

// count reads the number of elements of a vector, -1 for null. Each element takes at least size
// bytes, so a count that the rest of the frame cannot hold is bad. Like Java, count reads every
// other negative number as an empty vector.
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

// strings reads a vector of strings; null is nil.
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

// shared holds the access lists of nearly every create, with their encoding. They are handed out
// without copying.
var shared = [...]struct {
	acl  znode.ACL
	wire string
}{
	{znode.OpenACL, string(AppendACL(nil, znode.OpenACL))},
	{znode.ReadACL, string(AppendACL(nil, znode.ReadACL))},
}

// acl reads an access list; null is nil.
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
