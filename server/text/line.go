package text

import "bytes"

// The classes of bytes in a line.
const (
	plain uint8 = iota
	space
	quote
	control // also 0xFF, telnet's escape
)

var class = func() (c [256]uint8) {
	for i := range 0x20 {
		c[i] = control
	}
	c[0x7f], c[0xff] = control, control
	c[' '], c['"'] = space, quote
	return c
}()

// Telnet's bytes (RFC 854).
const (
	iac  = 0xff
	sb   = 0xfa // a subnegotiation begins, up to IAC SE
	se   = 0xf0
	will = 0xfb // WILL, WONT, DO, DONT: one option byte follows
	dont = 0xfe
	ip   = 0xf4 // interrupt: ^C in a telnet client
)

type lineState uint8

const (
	lineWhole     lineState = iota
	linePart                // its end has not arrived yet
	lineLong                // longer than the limit
	lineInterrupt           // it contains telnet's interrupt
)

// line is one line of the buffer.
type line struct {
	text []byte // without its end and without telnet's sequences
	end  int    // bytes of the buffer up to and with its end
	crlf bool   // it ended in CR LF or CR NUL
	nul  bool   // it ended in CR NUL
}

// cutLine finds the line at the start of buf. Whether it is too long does not depend on how much of
// it has arrived: its content and end must fit into limit+2 bytes.
func (p *Parser) cutLine(buf []byte) (line, lineState) {
	limit := p.lim.Line
	if len(buf) > limit+2 {
		buf = buf[:limit+2]
	}
	i := bytes.IndexByte(buf, '\n')
	t, crlf := buf, false
	if i >= 0 {
		t = buf[:i]
		if i > 0 && t[i-1] == '\r' {
			t, crlf = t[:i-1], true
		}
	}
	if bytes.IndexByte(t, '\r') >= 0 || bytes.IndexByte(t, iac) >= 0 {
		return p.cutTelnetLine(buf)
	}
	switch {
	case i < 0 && len(buf) < limit+2:
		return line{}, linePart
	case i < 0 || len(t) > limit:
		return line{}, lineLong
	}
	return line{text: t, end: i + 1, crlf: crlf}, lineWhole
}

// cutTelnetLine is cutLine for a line that contains a CR or a telnet sequence. A line feed within a
// subnegotiation (a window's height, for example) does not end the line.
func (p *Parser) cutTelnetLine(buf []byte) (line, lineState) {
	limit := p.lim.Line
	mark := len(p.scratch)
	from, escaped := 0, false // what precedes from is in scratch[mark:]
	whole := func(i, end int, l line) (line, lineState) {
		if i > limit {
			return line{}, lineLong
		}
		l.text, l.end = buf[:i], end
		if escaped {
			p.scratch = append(p.scratch, buf[from:i]...)
			l.text = p.scratch[mark:len(p.scratch):len(p.scratch)]
		}
		return l, lineWhole
	}
	part := func() (line, lineState) {
		p.scratch = p.scratch[:mark]
		if len(buf) == limit+2 {
			return line{}, lineLong
		}
		return line{}, linePart
	}
	for i := 0; i < len(buf); {
		switch c := buf[i]; {
		case c == '\n':
			return whole(i, i+1, line{})
		case c == '\r' && i+1 == len(buf):
			return part()
		case c == '\r' && buf[i+1] == '\n':
			return whole(i, i+2, line{crlf: true})
		case c == '\r' && buf[i+1] == 0:
			return whole(i, i+2, line{crlf: true, nul: true})
		case c == iac:
			n := telnetLen(buf[i:])
			if n == 0 {
				return part()
			}
			if buf[i+1] == ip {
				return line{}, lineInterrupt
			}
			p.scratch = append(p.scratch, buf[from:i]...)
			if buf[i+1] == iac { // the byte itself
				p.scratch = append(p.scratch, iac)
			}
			escaped = true
			i += n
			from = i
		default:
			i++
		}
	}
	return part()
}

// telnetLen returns the length of the telnet sequence at the start of b, or 0 if its end has not
// arrived yet.
func telnetLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch c := b[1]; {
	case c == sb:
		for i := 2; i+1 < len(b); i++ {
			if b[i] != iac {
				continue
			}
			if b[i+1] == se {
				return i + 2
			}
			i++ // an escaped byte
		}
		return 0
	case c >= will && c <= dont:
		if len(b) < 3 {
			return 0
		}
		return 3
	default:
		return 2
	}
}

// endAt returns the length of the line end at the start of b: 0 if more bytes are needed to tell,
// -1 if there is no line end.
func endAt(b []byte) int {
	switch {
	case len(b) == 0:
		return 0
	case b[0] == '\n':
		return 1
	case b[0] != '\r':
		return -1
	case len(b) == 1:
		return 0
	case b[1] == '\n' || b[1] == 0:
		return 2
	default:
		return -1
	}
}
