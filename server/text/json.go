package text

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// appendJSON appends the reply as one JSON object, without a line end.
func (r *Reply) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"t":"`...)
	dst = append(dst, kindWords[r.Kind]...)
	dst = append(dst, '"')
	if r.Tag != "" {
		dst = append(dst, `,"tag":`...)
		dst = appendJSONString(dst, r.Tag)
	}
	switch {
	case r.Kind == KindErr:
		dst = append(dst, `,"code":"`...)
		dst = append(dst, r.Code.Word()...)
		dst = append(dst, '"')
	case r.Kind == KindEvent:
		dst = append(dst, `,"type":"`...)
		dst = append(dst, r.Arg...)
		dst = append(dst, '"')
		if r.Data != nil {
			dst = appendJSONData(dst, r.Data)
		}
	case r.Kind == KindItem || r.Arg != "":
		dst = append(dst, `,"arg":`...)
		dst = appendJSONString(dst, r.Arg)
	case r.Kind == KindData:
		dst = appendJSONData(dst, r.Data)
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		dst = append(dst, ',', '"')
		dst = append(dst, f.Key...)
		dst = append(dst, '"', ':')
		switch f.kind {
		case fieldInt:
			dst = strconv.AppendInt(dst, int64(f.num), 10)
		case fieldHex:
			dst = append(dst, `"0x`...)
			dst = strconv.AppendUint(dst, f.num, 16)
			dst = append(dst, '"')
		default:
			dst = appendJSONString(dst, f.str)
		}
	}
	switch {
	case r.Kind == KindErr && r.Message != "":
		dst = append(dst, `,"message":`...)
		dst = appendJSONString(dst, r.Message)
	case r.Kind == KindList:
		dst = append(dst, `,"items":[`...)
		for i := range r.Items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = r.Items[i].appendJSON(dst)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// appendJSONData appends a value: as a string if it is UTF-8, otherwise as base64.
func appendJSONData(dst, data []byte) []byte {
	if utf8.Valid(data) {
		return appendJSONString(append(dst, `,"data":`...), data)
	}
	dst = append(dst, `,"`+KeyData64+`":"`...)
	return append(base64.StdEncoding.AppendEncode(dst, data), '"')
}

// appendJSONString appends s quoted. It also escapes characters that some programs take for a line
// end, and replaces bytes that are not UTF-8 by U+FFFD.
func appendJSONString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			dst = append(dst, s[done:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			done = i
			continue
		}
		r, n := decodeRune(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, s[done:i]...)
			dst = append(dst, `\ufffd`...)
			done = i + 1
		case r < 0xa0 || r == 0x2028 || r == 0x2029:
			dst = append(dst, s[done:i]...)
			dst = append(dst, '\\', 'u', hexDigits[r>>12], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			done = i + n
		}
		i += n
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}

func decodeRune[S string | []byte](s S) (rune, int) {
	if len(s) > utf8.UTFMax {
		s = s[:utf8.UTFMax]
	}
	return utf8.DecodeRuneInString(string(s))
}
