package cmd

import (
	"errors"
	"strings"
)

// lineWord is a word of a line, and whether any of it was quoted.
type lineWord struct {
	text   string
	quoted bool
	start  int // offset of its first byte in the line
}

// errOpenQuote says that a line continues in the next one.
var errOpenQuote = errors.New("a quote is not closed")

// splitWords splits a line like a shell: at spaces; 'literal'; "with \" and \\"; \
// before any other byte; # at the beginning of a word comments out the rest of the
// line. There is no expansion of variables or patterns.
func splitWords(line string) (words []lineWord, err error) {
	var word strings.Builder
	w := lineWord{start: -1}
	end := func() {
		if w.start >= 0 {
			w.text = word.String()
			words = append(words, w)
		}
		word.Reset()
		w = lineWord{start: -1}
	}
	begin := func(i int) {
		if w.start < 0 {
			w.start = i
		}
	}
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'':
			if c == '\'' {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case quote == '"':
			switch {
			case c == '"':
				quote = 0
			case c == '\\' && i+1 < len(line) && strings.IndexByte("\"\\\n$`", line[i+1]) >= 0:
				if i++; line[i] != '\n' {
					word.WriteByte(line[i])
				}
			default:
				word.WriteByte(c)
			}
		case c == '\'' || c == '"':
			begin(i)
			quote, w.quoted = c, true
		case c == '\\':
			if i+1 == len(line) {
				end()
				return words, errOpenQuote
			}
			if i++; line[i] != '\n' {
				begin(i - 1)
				w.quoted = true
				word.WriteByte(line[i])
			}
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			end()
		case c == '#' && w.start < 0:
			next := strings.IndexByte(line[i:], '\n')
			if next < 0 {
				return words, nil
			}
			i += next
		default:
			begin(i)
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		w.text = word.String()
		return append(words, w), errOpenQuote
	}
	end()
	return words, nil
}

// quoteWord quotes a word so that splitWords returns it unchanged.
func quoteWord(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n\r'\"\\") && s[0] != '#' {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(" \t'\"\\#", s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
