package cmd

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// envDump writes assignments that a shell can read. The name of a variable is the
// path without its first /, with __ for every other /. Znodes with children and
// without a value need no line.
type envDump struct{ w io.Writer }

const envEnd = "# end"

var (
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	bareWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]*$`)
)

func pathOfVariable(name string) string { return "/" + strings.ReplaceAll(name, "__", "/") }

// envError is the error of a znode that the format env cannot represent.
type envError struct{ path, why string }

func (e *envError) Error() string {
	return "the format env cannot represent " + quote(e.path) + ": " + e.why
}
func (e *envError) exitCode() int { return exitUsage }

func (d envDump) add(e entry, parent bool) error {
	if len(e.data) == 0 && (parent || e.path == "/") {
		return nil
	}
	name := strings.ReplaceAll(e.path[1:], "/", "__")
	switch {
	case e.path == "/":
		return &envError{e.path, "the value of PATH itself has no variable name"}
	case !variable.MatchString(name) || pathOfVariable(name) != e.path:
		return &envError{e.path, "its path is not a variable name: only letters, digits and single _ are allowed, and no digit at the beginning"}
	case bytes.IndexByte(e.data, 0) >= 0:
		return &envError{e.path, "its value contains a NUL byte"}
	}
	value := string(e.data)
	if !bareWord.MatchString(value) {
		value = "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
	}
	_, err := fmt.Fprintf(d.w, "%s=%s\n", name, value)
	return err
}

func (d envDump) end() error {
	_, err := io.WriteString(d.w, envEnd+"\n")
	return err
}

func readEnvDump(in []byte) (all []entry, whole bool, err error) {
	whole = bytes.HasSuffix(bytes.TrimRight(in, "\r\n"), []byte("\n"+envEnd)) || bytes.Equal(bytes.TrimRight(in, "\r\n"), []byte(envEnd))
	s := shellText{in: in, line: 1}
	for {
		s.skip(" \t\r\n")
		if s.pos == len(s.in) {
			return all, whole, nil
		}
		if s.in[s.pos] == '#' {
			s.comment()
			continue
		}
		at := s.line
		e, err := s.assignment()
		if err != nil {
			return nil, false, &lineError{line: s.line, err: err}
		}
		e.line = at
		all = append(all, e)
	}
}

// shellText parses assignments like a shell, but without expansion: it refuses what
// a shell would expand.
type shellText struct {
	in   []byte
	pos  int
	line int
}

func (s *shellText) skip(what string) {
	for s.pos < len(s.in) && strings.IndexByte(what, s.in[s.pos]) >= 0 {
		s.next()
	}
}

func (s *shellText) next() byte {
	c := s.in[s.pos]
	s.pos++
	if c == '\n' {
		s.line++
	}
	return c
}

func (s *shellText) comment() {
	for s.pos < len(s.in) && s.in[s.pos] != '\n' {
		s.pos++
	}
}

func (s *shellText) assignment() (e entry, err error) {
	rest := s.in[s.pos:]
	if word, after, ok := bytes.Cut(rest, []byte{' '}); ok && string(word) == "export" {
		rest = bytes.TrimLeft(after, " \t")
		s.pos = len(s.in) - len(rest)
	}
	name, _, ok := bytes.Cut(rest, []byte{'='})
	if !ok || !variable.Match(name) {
		return e, usagef("expected NAME=VALUE")
	}
	s.pos += len(name) + 1
	e.path = pathOfVariable(string(name))
	if e.data, err = s.value(); err != nil {
		return e, err
	}
	s.skip(" \t\r")
	switch {
	case s.pos == len(s.in) || s.in[s.pos] == '\n':
	case s.in[s.pos] == '#':
		s.comment()
	default:
		return e, &usageError{msg: "unexpected text after the value of " + string(name), hint: "quote a value that has spaces: '…'"}
	}
	return e, nil
}

func (s *shellText) value() (v []byte, err error) {
	v = []byte{}
	if s.pos < len(s.in) && s.in[s.pos] == '~' {
		return nil, unquoted('~')
	}
	var quote byte // the open quote, else 0
	for s.pos < len(s.in) {
		c := s.in[s.pos]
		switch {
		case quote == '\'' && c != '\'':
			v = append(v, s.next())
			continue
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n' || c == '\r' && bytes.HasPrefix(s.in[s.pos:], []byte("\r\n"))):
			return v, nil
		case c == '$' || c == '`', quote == 0 && strings.IndexByte(";&|<>()", c) >= 0:
			return nil, unquoted(c)
		}
		s.next()
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == '\\' && s.pos == len(s.in):
			return nil, usagef("the file ends with a backslash")
		case c == '\\' && s.in[s.pos] == '\n':
			s.next() // the line continues
		case c == '\\' && (quote == 0 || strings.IndexByte("$`\"\\", s.in[s.pos]) >= 0):
			v = append(v, s.next())
		default:
			v = append(v, c)
		}
	}
	if quote != 0 {
		return nil, usagef("a quote is not closed")
	}
	return v, nil
}

func unquoted(c byte) error {
	return &usageError{msg: fmt.Sprintf("a shell would interpret %c, which is not supported here", c), hint: `put the value in single quotes: '…'`}
}
