package text

import (
	"encoding/base64"
	"strconv"

	"coord/tree/znode"
)

// Format is the encoding of replies.
type Format uint8

// The formats. The numbers are internal; the names never change.
const (
	FormatText Format = iota // words; data as counted bytes
	FormatJSON               // each reply is one line of JSON
	FormatB64                // text, but data is one line of base64
)

var formatNames = [...]string{FormatText: "text", FormatJSON: "json", FormatB64: "b64"}

// String returns the format's name in requests and replies.
func (f Format) String() string { return formatNames[f] }

// FormatOf returns the format of a name.
func FormatOf(name string) (Format, bool) {
	for i, s := range formatNames {
		if s == name {
			return Format(i), true
		}
	}
	return FormatText, false
}

// Kind is a reply's first word.
type Kind uint8

// The kinds of replies. Zero means none: the Reader has no whole reply yet.
const (
	KindOK Kind = iota + 1
	KindData
	KindList
	KindItem // only in a list
	KindErr
	KindChunk // of a stream, always written as text
	KindEnd   // of a stream, always written as text
	KindEvent // between replies, without a tag
)

var kindWords = [...]string{
	KindOK: "OK", KindData: "DATA", KindList: "LIST", KindItem: "ITEM", KindErr: "ERR",
	KindChunk: "CHUNK", KindEnd: "END", KindEvent: "EVENT",
}

// data64 is the word of KindData in FormatB64. Empty data is encoded as an empty quoted string, so
// that there is always a word to read.
const (
	data64   = "DATA64"
	emptyB64 = `""`
)

// String returns the word.
func (k Kind) String() string {
	if int(k) < len(kindWords) && k != 0 {
		return kindWords[k]
	}
	return "none"
}

// fieldKind says which part of a Field holds its value.
type fieldKind uint8

const (
	fieldStr fieldKind = iota
	fieldInt
	fieldHex
)

// Field is one key=value of a reply. Keys are plain words.
type Field struct {
	Key  string
	str  string
	num  uint64
	kind fieldKind
}

// Str makes a field with a string, which is quoted where necessary.
func Str(key, val string) Field { return Field{Key: key, str: val} }

// Int makes a field with a decimal number.
func Int(key string, val int64) Field { return Field{Key: key, num: uint64(val), kind: fieldInt} }

// Hex makes a field with a session id or token: 0x and lower-case digits.
func Hex(key string, val uint64) Field { return Field{Key: key, num: val, kind: fieldHex} }

// Zxid makes a field with a zxid.
func Zxid(key string, val znode.Zxid) Field { return Hex(key, uint64(val)) }

// String returns the value as text, without quotes.
func (f Field) String() string {
	switch f.kind {
	case fieldInt:
		return strconv.FormatInt(int64(f.num), 10)
	case fieldHex:
		return znode.Hex(f.num)
	default:
		return f.str
	}
}

// Reply is an answer, or one part of a stream.
type Reply struct {
	Kind    Kind
	Code    znode.Code // ERR
	Tag     string     // of the request, without its @; empty for none
	Arg     string     // ITEM: what is listed; OK: pong or bye; EVENT: its type
	Message string     // ERR: for people; its text may change
	Fields  []Field
	Data    []byte  // DATA, CHUNK; EVENT: the value, nil for none
	Items   []Reply // LIST: ITEM, DATA, OK or ERR
}

// Append appends the encoded reply to dst. It keeps no reference, and allocates only to grow dst.
func (r *Reply) Append(dst []byte, f Format, crlf bool) []byte {
	if f == FormatJSON && r.Kind != KindChunk && r.Kind != KindEnd {
		return appendEOL(r.appendJSON(dst), crlf)
	}
	if r.Tag != "" {
		dst = append(dst, '@')
		dst = append(dst, r.Tag...)
		dst = append(dst, ' ')
	}
	switch r.Kind {
	case KindOK:
		dst = append(dst, "OK"...)
		if r.Arg != "" {
			dst = append(dst, ' ')
			dst = appendWord(dst, r.Arg)
		}
	case KindData, KindChunk:
		return r.appendData(dst, f, crlf)
	case KindEvent:
		return r.appendEvent(dst, f, crlf)
	case KindList:
		dst = append(dst, "LIST "...)
		dst = strconv.AppendInt(dst, int64(len(r.Items)), 10)
	case KindItem:
		dst = append(dst, "ITEM "...)
		dst = appendWord(dst, r.Arg)
	case KindErr:
		dst = append(dst, "ERR "...)
		dst = append(dst, r.Code.Word()...)
	case KindEnd:
		dst = append(dst, "END"...)
	default:
		panic("text: a reply without a kind")
	}
	dst = appendFields(dst, r.Fields)
	if r.Kind == KindErr && r.Message != "" {
		dst = append(dst, " - "...)
		dst = appendMessage(dst, r.Message)
	}
	dst = appendEOL(dst, crlf)
	for i := range r.Items {
		dst = r.Items[i].Append(dst, f, crlf)
	}
	return dst
}

func (r *Reply) appendData(dst []byte, f Format, crlf bool) []byte {
	if f == FormatB64 && r.Kind == KindData {
		dst = append(dst, data64+" "...)
		if len(r.Data) == 0 {
			dst = append(dst, emptyB64...)
		} else {
			dst = base64.StdEncoding.AppendEncode(dst, r.Data)
		}
		dst = appendFields(dst, r.Fields)
		return appendEOL(dst, crlf)
	}
	dst = append(dst, kindWords[r.Kind]...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(len(r.Data)), 10)
	dst = appendFields(dst, r.Fields)
	dst = appendEOL(dst, crlf)
	dst = append(dst, r.Data...)
	return appendEOL(dst, crlf)
}

// appendEvent appends an event. Its value, if it has one, is a payload as in a request.
func (r *Reply) appendEvent(dst []byte, f Format, crlf bool) []byte {
	dst = append(dst, "EVENT "...)
	dst = append(dst, r.Arg...)
	dst = appendFields(dst, r.Fields)
	switch {
	case r.Data == nil:
		return appendEOL(dst, crlf)
	case f == FormatB64:
		dst = append(dst, " "+KeyData64+"="...)
		if len(r.Data) == 0 {
			dst = append(dst, emptyB64...)
		} else {
			dst = base64.StdEncoding.AppendEncode(dst, r.Data)
		}
		return appendEOL(dst, crlf)
	}
	return appendPayload(dst, r.Data, crlf)
}

func appendEOL(dst []byte, crlf bool) []byte {
	if crlf {
		return append(dst, '\r', '\n')
	}
	return append(dst, '\n')
}

func appendFields(dst []byte, fields []Field) []byte {
	for i := range fields {
		f := &fields[i]
		dst = append(dst, ' ')
		dst = append(dst, f.Key...)
		dst = append(dst, '=')
		switch f.kind {
		case fieldInt:
			dst = strconv.AppendInt(dst, int64(f.num), 10)
		case fieldHex:
			dst = append(dst, "0x"...)
			dst = strconv.AppendUint(dst, f.num, 16)
		default:
			dst = appendWord(dst, f.str)
		}
	}
	return dst
}

// appendWord appends s as a word, or quoted if a word cannot hold it.
func appendWord[S string | []byte](dst []byte, s S) []byte {
	if isWord(s) {
		return append(dst, s...)
	}
	return appendQuoted(dst, s)
}

// isWord says whether s needs no quotes.
func isWord[S string | []byte](s S) bool {
	for i := range len(s) {
		if class[s[i]] != plain {
			return false
		}
	}
	return len(s) > 0
}

const hexDigits = "0123456789abcdef"

func appendQuoted[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '"', '\\':
			dst = append(dst, '\\', c)
		default:
			if class[c] == control {
				dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			} else {
				dst = append(dst, c)
			}
		}
	}
	return append(dst, '"')
}

// appendMessage appends an error's message, on one line.
func appendMessage(dst []byte, s string) []byte {
	for i := range len(s) {
		if class[s[i]] == control {
			dst = append(dst, '?')
		} else {
			dst = append(dst, s[i])
		}
	}
	return dst
}
