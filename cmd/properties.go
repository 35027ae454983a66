package cmd

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// property is a key of a properties file and its value.
type property struct {
	key, value string
	line       int // where it begins, from 1
}

// parseProperties parses a file like Java's Properties, with which ZooKeeper reads
// zoo.cfg: key=value, key:value or key value; # and ! begin a comment; a backslash
// at the end of a line continues the line; before any other character a backslash
// makes it literal, except in \t \n \r \f and \uXXXX. Java accepts some nonsense
// (half a \u, a control character); we refuse it.
func parseProperties(text string) ([]property, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("it is not UTF-8 text")
	}
	text = strings.TrimPrefix(text, "\ufeff")
	var all []property
	number := 0
	for text != "" {
		var line string
		first := number + 1
		line, text, number = logicalLine(text, number)
		if line == "" {
			continue
		}
		p, err := splitProperty(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", first, err)
		}
		p.line = first
		all = append(all, p)
	}
	return all, nil
}

// logicalLine cuts off a line with its continuation lines; comments and blank lines
// are returned as empty lines.
func logicalLine(text string, number int) (line, rest string, last int) {
	for {
		var natural string
		natural, text = naturalLine(text)
		number++
		natural = strings.TrimLeft(natural, " \t\f")
		if line == "" && (natural == "" || natural[0] == '#' || natural[0] == '!') {
			return "", text, number
		}
		slashes := len(natural) - len(strings.TrimRight(natural, `\`))
		if slashes%2 == 0 {
			return line + natural, text, number
		}
		line += natural[:len(natural)-1]
		if text == "" || line == "" {
			return line, text, number
		}
	}
}

func naturalLine(text string) (line, rest string) {
	i := strings.IndexAny(text, "\r\n")
	if i < 0 {
		return text, ""
	}
	if strings.HasPrefix(text[i:], "\r\n") {
		return text[:i], text[i+2:]
	}
	return text[:i], text[i+1:]
}

// splitProperty splits a logical line into key and value.
func splitProperty(line string) (p property, err error) {
	end := 0
	for end < len(line) && !strings.ContainsRune(" \t\f=:", rune(line[end])) {
		if line[end] == '\\' && end+1 < len(line) {
			end++
		}
		end++
	}
	value := strings.TrimLeft(line[end:], " \t\f")
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], " \t\f")
	}
	if p.key, err = unescape(line[:end]); err != nil {
		return p, err
	}
	// ZooKeeper trims values; Java does not.
	if p.value, err = unescape(strings.TrimRight(value, " \t\f")); err != nil {
		return p, err
	}
	if p.key == "" {
		return p, fmt.Errorf("a key is missing")
	}
	return p, nil
}

func unescape(s string) (string, error) {
	var b strings.Builder
	var high rune // the first half of a surrogate pair
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' && c != '\t' && c != '\f' || c == 0x7f {
			return "", fmt.Errorf("control characters are not allowed")
		}
		if c != '\\' {
			if high != 0 {
				return "", errHalf
			}
			b.WriteByte(c)
			continue
		}
		if i++; i == len(s) {
			break
		}
		if high != 0 && s[i] != 'u' {
			return "", errHalf
		}
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			r, ok := hex4(s[i+1:])
			if !ok {
				return "", fmt.Errorf(`\u needs four hex digits`)
			}
			i += 4
			switch {
			case high != 0:
				if r = utf16.DecodeRune(high, r); r == utf8.RuneError {
					return "", errHalf
				}
				high = 0
			case utf16.IsSurrogate(r):
				high = r
				continue
			}
			b.WriteRune(r)
		default:
			b.WriteByte(s[i])
		}
	}
	if high != 0 {
		return "", errHalf
	}
	return b.String(), nil
}

var errHalf = fmt.Errorf(`incomplete surrogate pair in \u`)

func hex4(s string) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for i := range 4 {
		c := rune(s[i])
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | c
	}
	return r, true
}
