package text

import (
	"bytes"
	"math"
	"strconv"

	"coord/tree/znode"
)

// ReplyLimits bound what a Reader accepts from a server.
type ReplyLimits struct {
	Line  int // bytes of one line without its end
	Reply int // bytes of a whole reply, with its data and items
	Items int // in one LIST
}

// DefaultReplyLimits are wider than what a server with default limits sends.
func DefaultReplyLimits() ReplyLimits {
	return ReplyLimits{Line: 64 << 10, Reply: 16 << 20, Items: 100_000}
}

// Reader cuts replies in FormatText out of a connection's bytes, including the parts of a stream
// (CHUNK, END).
type Reader struct {
	lim ReplyLimits
	scanner
	need int // the reply in hand cannot be complete in a buffer shorter than this
	pos  int // LIST: where the next item starts
	left int // LIST: items that are not framed yet; 0 if no list is in hand
}

// NewReader returns a Reader with the given limits.
func NewReader(lim ReplyLimits) *Reader { return &Reader{lim: lim} }

// Next cuts the next reply out of buf, the bytes that were received and not consumed; n of them are
// consumed. A reply without a Kind means that more bytes are needed (n is 0): the buffer of the
// next call must begin with the same bytes. An error is an *Error with Close set: the connection
// cannot be used any more.
//
// The reply belongs to the caller, but its Data and that of its Items alias buf. A caller that
// keeps them longer than the buffer calls Detach.
func (rd *Reader) Next(buf []byte) (rep Reply, n int, err error) {
	if len(buf) < rd.need {
		return Reply{}, 0, nil
	}
	rd.need = 0
	rd.scratch = rd.scratch[:0]
	if rd.left == 0 {
		rep, n, e := rd.one(buf, false)
		switch {
		case e != nil:
			return Reply{}, 0, e
		case rd.left == 0:
			return rep, n, nil
		}
		rd.pos = n
	}
	for rd.left > 0 {
		n, e := rd.frameItem(buf[rd.pos:])
		if e != nil {
			return Reply{}, 0, e
		}
		if n == 0 {
			rd.need += rd.pos
			return Reply{}, 0, nil
		}
		if rd.pos += n; rd.pos > rd.lim.Reply {
			return Reply{}, 0, fatal(znode.ErrTooBig, "a reply is longer than "+strconv.Itoa(rd.lim.Reply)+" bytes")
		}
		rd.left--
	}
	rd.pos = 0
	rep, n, e := rd.list(buf)
	if e != nil {
		return Reply{}, 0, e
	}
	return rep, n, nil
}

// list parses a LIST that is complete in buf.
func (rd *Reader) list(buf []byte) (Reply, int, *Error) {
	rep, pos, err := rd.one(buf, false)
	if err != nil {
		return rep, 0, err
	}
	rep.Items = make([]Reply, 0, rd.left)
	for ; rd.left > 0; rd.left-- {
		item, n, err := rd.one(buf[pos:], true)
		if err != nil {
			return rep, 0, err
		}
		rep.Items = append(rep.Items, item)
		pos += n
	}
	return rep, pos, nil
}

// frameItem returns the length of the item at the start of buf, or 0 if more bytes are needed.
func (rd *Reader) frameItem(buf []byte) (int, *Error) {
	text, end, err := rd.line(buf)
	if err != nil || end == 0 {
		return 0, err
	}
	rest, ok := bytes.CutPrefix(text, []byte("DATA "))
	if !ok {
		return end, nil
	}
	count, _, _ := bytes.Cut(rest, []byte{' '})
	n, ok := parseUint(count)
	if !ok {
		return 0, badReply(text)
	}
	_, n2, err := rd.body(buf, end, n)
	return n2, err
}

// one parses the reply at the start of buf. Of a LIST it parses only the first line and sets left.
// n is 0 if more bytes are needed.
func (rd *Reader) one(buf []byte, item bool) (rep Reply, n int, err *Error) {
	text, end, err := rd.line(buf)
	if err != nil || end == 0 {
		return Reply{}, 0, err
	}
	rep, count, err := rd.head(text, item)
	if err != nil {
		return Reply{}, 0, err
	}
	switch rep.Kind {
	case KindEvent:
		if count == noPayload {
			return rep, end, nil
		}
		fallthrough
	case KindData, KindChunk:
		if rep.Data, n, err = rd.body(buf, end, count); n == 0 {
			return Reply{}, 0, err
		}
		return rep, n, nil
	case KindList:
		if count > uint64(rd.lim.Items) {
			return Reply{}, 0, fatal(znode.ErrTooBig, "a list is longer than "+strconv.Itoa(rd.lim.Items)+" items")
		}
		rd.left = int(count)
	}
	return rep, end, nil
}

// noPayload is the count of an event without a value.
const noPayload = math.MaxUint64

// line finds the line at the start of buf; end is 0 if its end has not arrived.
func (rd *Reader) line(buf []byte) (text []byte, end int, err *Error) {
	if len(buf) > rd.lim.Line+2 {
		buf = buf[:rd.lim.Line+2]
	}
	i := bytes.IndexByte(buf, '\n')
	if i < 0 {
		if len(buf) == rd.lim.Line+2 {
			return nil, 0, fatal(znode.ErrTooBig, "a line of a reply is longer than "+strconv.Itoa(rd.lim.Line)+" bytes")
		}
		rd.need = len(buf) + 1
		return nil, 0, nil
	}
	return bytes.TrimSuffix(buf[:i], []byte{'\r'}), i + 1, nil
}

// body finds the count bytes after a line and their end; n is 0 if they have not arrived.
func (rd *Reader) body(buf []byte, start int, count uint64) (data []byte, n int, err *Error) {
	if count > uint64(rd.lim.Reply) {
		return nil, 0, fatal(znode.ErrTooBig, "a reply is longer than "+strconv.Itoa(rd.lim.Reply)+" bytes")
	}
	stop := start + int(count)
	if len(buf) <= stop {
		rd.need = stop + 1
		return nil, 0, nil
	}
	end := endAt(buf[stop:])
	switch {
	case end == 0:
		rd.need = len(buf) + 1
		return nil, 0, nil
	case end < 0:
		return nil, 0, fatal(znode.ErrProtocol, "the data of a reply is not followed by a line end")
	}
	return buf[start:stop:stop], stop + end, nil
}

// head parses a reply's line. count is the number after DATA, CHUNK and LIST, and at the end of an
// EVENT, or noPayload.
func (rd *Reader) head(text []byte, item bool) (rep Reply, count uint64, err *Error) {
	rest := text
	if len(rest) > 1 && rest[0] == '@' && !item {
		tag, behind, _ := bytes.Cut(rest[1:], []byte{' '})
		rep.Tag, rest = string(tag), behind
	}
	word, rest, _ := bytes.Cut(rest, []byte{' '})
	for k, s := range kindWords {
		if string(word) == s {
			rep.Kind = Kind(k)
		}
	}
	ok := rep.Kind != 0 && len(word) > 0
	switch rep.Kind {
	case KindItem:
		ok = item && len(rest) > 0
	case KindList, KindChunk, KindEnd:
		ok = !item
	case KindEvent:
		ok = !item && rep.Tag == "" // it is not an answer to a request
	}
	if !ok {
		return rep, 0, badReply(text)
	}
	switch rep.Kind {
	case KindData, KindChunk, KindList:
		word, rest, _ = bytes.Cut(rest, []byte{' '})
		if count, ok = parseUint(word); !ok {
			return rep, 0, badReply(text)
		}
	case KindEvent:
		word, rest, _ = bytes.Cut(rest, []byte{' '})
		if !isWord(word) || bytes.IndexByte(word, '=') >= 0 || word[0] == ':' {
			return rep, 0, badReply(text)
		}
		rep.Arg, count = string(word), noPayload
	case KindErr:
		word, rest, _ = bytes.Cut(rest, []byte{' '})
		if rep.Code, ok = znode.CodeOf(string(word)); !ok {
			rep.Message = string(word) // a code of a newer server
		}
	}
	if n := bytes.Count(rest, []byte{'='}); n > 0 {
		rep.Fields = make([]Field, 0, min(n, 16))
	}
	for first := true; len(rest) > 0; first = false {
		if rest[0] == ' ' {
			return rep, 0, badReply(text)
		}
		a, n, err := rd.arg(rest)
		if err != nil {
			return rep, 0, badReply(text)
		}
		rest = rest[n:]
		if len(rest) > 0 {
			rest = rest[1:]
		}
		if first && (rep.Kind == KindItem || rep.Kind == KindOK && a.key == nil && !bytes.Contains(a.val, []byte{'='})) {
			if a.key != nil {
				return rep, 0, badReply(text)
			}
			rep.Arg = string(a.val)
			continue
		}
		if rep.Kind == KindErr && !a.quoted && string(a.val) == "-" {
			if rep.Message != "" {
				rep.Message += ": "
			}
			rep.Message += string(rest)
			break
		}
		if rep.Kind == KindEvent && len(rest) == 0 && !a.quoted && a.val[0] == ':' {
			if count, ok = parseUint(a.val[1:]); !ok {
				return rep, 0, badReply(text)
			}
			break
		}
		f, ok := field(&a)
		if !ok {
			return rep, 0, badReply(text)
		}
		rep.Fields = append(rep.Fields, f)
	}
	return rep, count, nil
}

// field parses key=value. A value is a number only in the exact spelling in which numbers are sent.
func field(a *arg) (Field, bool) {
	if a.key != nil {
		return Str(keyOf(a.key), string(a.val)), true
	}
	key, val, ok := bytes.Cut(a.val, []byte{'='})
	if !ok || a.quoted || len(key) == 0 || len(val) == 0 {
		return Field{}, false
	}
	f := Field{Key: keyOf(key)}
	if n, ok := parseHex(val); ok && isCanonical(val[2:], 16) && val[1] == 'x' {
		f.num, f.kind = n, fieldHex
		return f, true
	}
	digits, negative := bytes.CutPrefix(val, []byte{'-'})
	if n, ok := parseUint(digits); ok && isCanonical(digits, 10) && (n <= math.MaxInt64 && !negative || n-1 <= math.MaxInt64 && negative) {
		if f.num, f.kind = n, fieldInt; negative {
			f.num = -n
		}
		return f, true
	}
	f.str = string(val)
	return f, true
}

// isCanonical says whether digits are spelled as strconv formats them.
func isCanonical(digits []byte, base int) bool {
	for _, c := range digits {
		if base == 16 && 'A' <= c && c <= 'F' {
			return false
		}
	}
	return len(digits) == 1 || digits[0] != '0'
}

// keyOf returns the shared string of a known key.
func keyOf(b []byte) string {
	if k, ok := keys[string(b)]; ok {
		return k
	}
	return string(b)
}

func badReply(text []byte) *Error {
	return fatal(znode.ErrProtocol, "this is not a reply of the text protocol: "+errText(text))
}

// Field returns the field with the given key.
func (r *Reply) Field(key string) (Field, bool) {
	for i := range r.Fields {
		if r.Fields[i].Key == key {
			return r.Fields[i], true
		}
	}
	return Field{}, false
}

// Int returns the number in a field, decimal or hex; 0 if there is none.
func (r *Reply) Int(key string) int64 {
	if f, ok := r.Field(key); ok && f.kind != fieldStr {
		return int64(f.num)
	}
	return 0
}

// Zxid returns the zxid in a field; 0 if there is none.
func (r *Reply) Zxid(key string) znode.Zxid { return znode.Zxid(r.Int(key)) }

// Str returns the text of a field; empty if there is none.
func (r *Reply) Str(key string) string {
	if f, ok := r.Field(key); ok {
		return f.String()
	}
	return ""
}

// Stat returns the stat from the fields that AppendStat made; missing fields are zero.
func (r *Reply) Stat() Stat {
	return Stat{Container: r.Int(KeyContainer) != 0, TTLMS: r.Duration(KeyTTL), Stat: znode.Stat{
		Version:        int32(r.Int(KeyVersion)),
		Cversion:       int32(r.Int(KeyCversion)),
		Aversion:       int32(r.Int(KeyAversion)),
		NumChildren:    int32(r.Int(KeyChildren)),
		EphemeralOwner: r.Int(KeyOwner),
		DataLength:     int32(r.Int(KeyLen)),
		CtimeMS:        r.Int(KeyCtime),
		MtimeMS:        r.Int(KeyMtime),
		Czxid:          r.Zxid(KeyCzxid),
		Mzxid:          r.Zxid(KeyMzxid),
		Pzxid:          r.Zxid(KeyPzxid),
	}}
}

// Detach replaces all data of the reply by copies.
func (r *Reply) Detach() {
	r.Data = bytes.Clone(r.Data)
	for i := range r.Items {
		r.Items[i].Data = bytes.Clone(r.Items[i].Data)
	}
}
