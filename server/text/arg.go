package text

// arg is one argument of a line.
type arg struct {
	key    []byte // of key="quoted", else nil
	val    []byte // the word as written, or the quoted string unescaped
	quoted bool
}

// scanner splits lines into arguments.
type scanner struct {
	scratch []byte // unescaped strings, and lines without telnet's sequences
}

// arg reads the argument at the start of text, which must not be a space. n is its length; a space
// or the end of text follows it.
func (s *scanner) arg(text []byte) (a arg, n int, err *Error) {
	if text[0] == '"' {
		a.quoted = true
		a.val, n, err = s.unquote(text)
	} else {
		for n < len(text) && class[text[n]] == plain {
			n++
		}
		a.val = text[:n:n]
		if n > 1 && n < len(text) && text[n] == '"' && text[n-1] == '=' {
			var m int
			a.key, a.quoted = text[:n-1:n-1], true
			a.val, m, err = s.unquote(text[n:])
			n += m
		}
	}
	switch {
	case err != nil || n == len(text) || text[n] == ' ':
	case class[text[n]] == plain:
		err = syntaxError("unexpected text after the closing quote of an argument")
	default:
		err = badByte(text[n])
	}
	return a, n, err
}

func badByte(c byte) *Error {
	switch c {
	case '"':
		return syntaxError(`unexpected quote inside a word: quote the whole argument and write \" inside`)
	case '\t':
		return syntaxError(`unexpected tab: arguments are separated by spaces, and a tab is written "\t"`)
	default:
		return syntaxError(`the byte \x` + string([]byte{hexDigits[c>>4], hexDigits[c&15]}) +
			` is not allowed in a line: write it as \xHH inside quotes, or send the value as :len and the bytes`)
	}
}

// unquote reads the quoted string at the start of b. The value aliases b, or s.scratch if there are
// escapes; n includes the quotes.
func (s *scanner) unquote(b []byte) (val []byte, n int, err *Error) {
	i := 1
	for i < len(b) && b[i] != '"' && b[i] != '\\' && (class[b[i]] != control || b[i] == '\t') {
		i++
	}
	if i < len(b) && b[i] == '"' {
		return b[1:i:i], i + 1, nil
	}
	start := len(s.scratch)
	s.scratch = append(s.scratch, b[1:i]...)
	for i < len(b) {
		c := b[i]
		switch {
		case c == '"':
			return s.scratch[start:len(s.scratch):len(s.scratch)], i + 1, nil
		case class[c] == control && c != '\t':
			return nil, 0, badByte(c)
		case c != '\\':
			s.scratch = append(s.scratch, c)
			i++
			continue
		}
		if i+1 == len(b) {
			break
		}
		switch b[i+1] {
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case '\\', '"':
			c = b[i+1]
		case 'x':
			if i+3 >= len(b) || unhex(b[i+2]) < 0 || unhex(b[i+3]) < 0 {
				return nil, 0, syntaxError(`\x in a quoted string takes two hex digits`)
			}
			c = byte(unhex(b[i+2])<<4 | unhex(b[i+3]))
			i += 2
		default:
			return nil, 0, syntaxError(`unknown escape in a quoted string: known are \n \r \t \\ \" \xHH`)
		}
		s.scratch = append(s.scratch, c)
		i += 2
	}
	return nil, 0, syntaxError("a quote is not closed")
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
