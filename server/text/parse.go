package text

import (
	"bytes"
	"strconv"

	"coord/tree/znode"
)

// Parser cuts requests out of a connection's bytes. The zero value is not usable; call NewParser.
type Parser struct {
	lim     Limits
	req     Request
	ops     []Op
	args    []arg
	scanner // its scratch belongs to the request in hand

	need   int  // the request in hand cannot be complete in a buffer shorter than this
	closed bool // an error had Close set

	// The TXN in hand. Offsets count from the start of the buffer, which begins with its first line
	// until all of it has arrived.
	lines  int    // number that it has announced; 0 if no TXN is in hand
	left   int    // of these, not framed yet
	body   int    // where its second line starts
	pos    int    // where the next line to frame starts
	failed *Error // why it is refused; its lines are discarded as they arrive

	drop dropping
}

// dropping is the part of a refused request that is still to be discarded from the stream: the rest
// of a line that is too long, or a payload and its end.
type dropping struct {
	line    *Error // the error to return at the end of the line; nil if no line is being dropped
	dropped int    // bytes of the line that are dropped, at most Limits.Skip
	cr      bool   // its last byte was a CR
	ref     uint8  // how much of " :N" its last bytes are, see refTail

	payload int64 // bytes
	end     bool  // a line end must follow the payload
}

// Capacities above which a buffer is not kept for the next request.
const (
	keepOps     = 32
	keepArgs    = 64
	keepScratch = 4 << 10
)

// NewParser returns a Parser with the given limits.
func NewParser(lim Limits) *Parser {
	lim.Skip = max(lim.Skip, lim.Line)
	return &Parser{lim: lim}
}

// Idle says whether no request is in hand and the stream can go on. Such a Parser may be reused for
// another connection.
func (p *Parser) Idle() bool {
	return !p.closed && p.need == 0 && p.lines == 0 && p.drop.line == nil && p.drop.payload == 0 && !p.drop.end
}

// Next cuts the next request out of buf, the bytes that were received and not consumed. n of them
// are consumed, in every case. A nil request with a nil error means that more bytes are needed: the
// buffer of the next call must begin with the bytes that were not consumed. An error is always an
// *Error: one request was refused, and unless its Close is set the stream is still in sync.
//
// The request belongs to the Parser and is valid until the next call.
func (p *Parser) Next(buf []byte) (req *Request, n int, err error) {
	if p.closed {
		return nil, len(buf), nil
	}
	if len(buf) < p.need {
		return nil, 0, nil
	}
	p.need = 0
	for {
		req, m, e := p.step(buf[n:])
		n += m
		switch {
		case e != nil:
			p.closed = e.Close
			e.Tag, e.CRLF = p.req.Tag, p.req.CRLF
			return nil, n, e
		case req != nil:
			return req, n, nil
		case m == 0:
			return nil, n, nil
		}
	}
}

// step makes one step: it discards, frames or parses. If it needs more bytes, it consumes nothing
// and returns no request and no error.
func (p *Parser) step(buf []byte) (*Request, int, *Error) {
	switch {
	case p.drop.line != nil:
		return p.dropLine(buf)
	case p.drop.payload > 0 || p.drop.end:
		return p.dropPayload(buf)
	case p.lines > 0:
		return p.txn(buf)
	case len(buf) == 0:
		return nil, 0, nil
	}
	return p.request(buf)
}

// request parses a request of one line and at most one payload, or the first line of a TXN.
func (p *Parser) request(buf []byte) (*Request, int, *Error) {
	p.reset()
	l, state := p.cutLine(buf)
	if state != lineWhole {
		return p.noLine(buf, state)
	}
	r := &p.req
	r.CRLF = l.crlf
	w, err := p.split(l.text)
	if err != nil {
		return p.refuseLine(l, w, err)
	}
	if len(w.args) == 0 && w.ref < 0 {
		return nil, l.end, nil // a blank line
	}
	if w.isHTTP() {
		return nil, l.end, notOurs()
	}
	args := w.args
	if len(args) > 0 && !args[0].quoted && args[0].val[0] == '@' {
		if r.Tag, err = tagOf(args[0].val); err != nil {
			return p.refuseLine(l, w, err)
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return p.refuse(l, w, syntaxError("a verb is missing"))
	}
	v := verbOf(&args[0])
	if v == 0 {
		return p.refuseLine(l, w, unknownVerb(&args[0]))
	}
	if v == VerbTxn {
		return p.txnHead(buf, l, args[1:], w.ref)
	}
	if v == VerbCheck {
		return p.refuse(l, w, syntaxError("CHECK is allowed only in a TXN"))
	}
	if err = parseArgs(v, r, args[1:], w.ref); err != nil {
		return p.refuse(l, w, err)
	}
	if w.ref < 0 {
		return r, l.end, nil
	}
	if w.ref > int64(p.lim.Payload) {
		return p.refuse(l, w, tooLong(p.lim.Payload, false))
	}
	val, n, err := p.value(buf, l, w.ref)
	if err != nil || n == 0 {
		return nil, 0, err
	}
	r.Value = val
	return r, n, nil
}

// words is a line split into its arguments.
type words struct {
	args []arg
	ref  int64 // the length that a last argument :N announces, which is not in args; otherwise -1
}

// split splits a line into p.args. With an error, ref is still the length of the payload that
// follows, if there is one; if that cannot be known, the error has Close set.
func (p *Parser) split(text []byte) (words, *Error) {
	w := words{args: p.args[:0], ref: -1}
	for i := 0; i < len(text); {
		if text[i] == ' ' {
			i++
			continue
		}
		end := i
		for end < len(text) && class[text[end]] == plain {
			end++
		}
		if end > i && (end == len(text) || text[end] == ' ') { // a word: the usual case
			w.args = append(w.args, arg{val: text[i:end:end]})
			i = end
			continue
		}
		a, n, err := p.arg(text[i:])
		if err != nil {
			return broken(text, err)
		}
		w.args = append(w.args, a)
		i += n
	}
	p.args = w.args
	if n := len(w.args); n > 0 && !w.args[n-1].quoted && w.args[n-1].val[0] == ':' {
		ref, err := parseRef(w.args[n-1].val)
		if err != nil {
			return w, err
		}
		w.args, w.ref = w.args[:n-1], ref
	}
	return w, nil
}

// broken makes the result of split for a line that it cannot split. A payload follows if the last
// word is :N; with quotes in the line this is undecidable.
func broken(text []byte, err *Error) (words, *Error) {
	w := words{ref: -1}
	last := bytes.TrimRight(text, " \t") // the fault may be a tab
	last = last[bytes.LastIndexAny(last, " \t")+1:]
	if len(last) == 0 || last[0] != ':' {
		return w, err
	}
	ref, refErr := parseRef(last)
	switch {
	case refErr != nil && !refErr.Close:
	case refErr != nil || bytes.IndexByte(text, '"') >= 0:
		err.Close = true
	default:
		w.ref = ref
	}
	return w, err
}

// maxRefDigits bounds the N of :N, so that it fits into an int64.
const maxRefDigits = 18

// parseRef parses :N. For an impossibly large number the error has Close set.
func parseRef(b []byte) (int64, *Error) {
	digits := b[1:]
	for _, c := range digits {
		if c < '0' || c > '9' {
			digits = nil
			break
		}
	}
	if len(digits) == 0 {
		return 0, syntaxError("a last argument that begins with : is the length of the bytes that follow; quote a value that begins with :")
	}
	if len(digits) > maxRefDigits {
		return 0, &Error{Code: znode.ErrTooBig, Msg: "the announced length is too large", Op: -1, Close: true}
	}
	n, _ := parseUint(digits)
	return int64(n), nil
}

// value finds what follows a line that announces ref bytes: those bytes and their end. n includes
// the line; it is 0 with an error or if more bytes are needed.
func (p *Parser) value(buf []byte, l line, ref int64) (val []byte, n int, err *Error) {
	if ref < 0 {
		return nil, l.end, nil
	}
	start, ok := payloadStart(buf, l)
	stop := start + int(ref)
	if !ok || len(buf) <= stop {
		p.need = stop + 1
		return nil, 0, nil
	}
	end := endAt(buf[stop:])
	switch {
	case end == 0:
		return nil, 0, nil
	case end < 0:
		return nil, 0, outOfStep(ref)
	}
	return buf[start:stop:stop], stop + end, nil
}

// payloadStart returns where the payload after a line begins. A telnet client that reads from a
// pipe ends a line with CR NUL LF; that LF is not part of the payload.
func payloadStart(buf []byte, l line) (start int, ok bool) {
	if !l.nul {
		return l.end, true
	}
	if len(buf) == l.end {
		return l.end, false
	}
	if buf[l.end] == '\n' {
		return l.end + 1, true
	}
	return l.end, true
}

// refuseLine refuses a line whose verb is not known.
func (p *Parser) refuseLine(l line, w words, err *Error) (*Request, int, *Error) {
	if hostile(l.text, w.args) {
		return nil, l.end, notOurs()
	}
	if findVerb(p.headTag(l.text)) == VerbTxn { // its lines would be taken for requests
		err.Close = true
	}
	return p.refuse(l, w, err)
}

// refuse consumes a line and arranges for its payload to be discarded.
func (p *Parser) refuse(l line, w words, err *Error) (*Request, int, *Error) {
	if w.ref > int64(p.lim.Skip) {
		err.Close = true
	}
	if w.ref >= 0 && !err.Close {
		p.drop.payload, p.drop.end = w.ref, true
		p.drop.cr = l.nul // an LF may still belong to the line
	}
	return nil, l.end, err
}

// noLine handles a line that is not whole.
func (p *Parser) noLine(buf []byte, state lineState) (*Request, int, *Error) {
	switch state {
	case lineInterrupt:
		return nil, len(buf), fatal(znode.ErrProtocol, "interrupted")
	case lineLong:
		err := &Error{Code: znode.ErrTooBig, Op: -1, Msg: "a line is longer than " + strconv.Itoa(p.lim.Line) +
			" bytes: send a long value as :len and the bytes"}
		switch {
		case p.lines > 0:
			err.Op = p.lines - p.left
		case findVerb(p.headTag(buf)) == VerbTxn: // its lines would be taken for requests
			err.Close = true
			return nil, len(buf), err
		}
		p.drop.line, p.drop.dropped, p.drop.cr = err, p.lim.Line, false
		p.drop.ref = refNone
		for _, c := range buf[:p.lim.Line] {
			p.drop.ref = refTail(p.drop.ref, c)
		}
		return nil, p.lim.Line, nil
	}
	return nil, 0, nil
}

// What refTail knows about the end of a line.
const (
	refNone    = iota // no " :N" ends here
	refSpace          // a space
	refColon          // " :"
	refDigits         // " :N"
	refSpaces         // " :N" and spaces, which do not matter
	refUnknown        // the line contains telnet sequences: they may be inside " :N" and may contain line feeds
)

// refTail returns the state after byte c of a line. From refDigits on the line may announce a
// payload.
func refTail(state, c uint8) uint8 {
	switch {
	case state == refUnknown || c == iac:
		return refUnknown
	case c == ' ' && state >= refDigits:
		return refSpaces
	case c == ' ':
		return refSpace
	case c == ':' && (state == refSpace || state == refSpaces):
		return refColon
	case '0' <= c && c <= '9' && (state == refColon || state == refDigits):
		return refDigits
	case c == '\r':
		return state
	}
	return refNone
}

// dropLine discards the rest of a line that is too long.
func (p *Parser) dropLine(buf []byte) (*Request, int, *Error) {
	d := &p.drop
	rest := buf[:min(len(buf), p.lim.Skip-d.dropped)]
	for i, c := range rest {
		if c != '\n' && (c != 0 || !d.cr) {
			d.ref = refTail(d.ref, c)
			d.cr = c == '\r'
			continue
		}
		err := d.line
		d.line = nil
		if p.lines == 0 {
			p.req.CRLF = d.cr
		}
		d.cr = false
		if d.ref >= refDigits { // it may have announced a payload, or only looked like it within quotes
			err.Close = true
		}
		if p.lines == 0 || err.Close {
			return nil, i + 1, err
		}
		p.fail(err)
		p.left--
		return nil, i + 1, nil
	}
	if d.dropped += len(rest); len(rest) < len(buf) {
		d.line.Close = true
		return nil, len(buf), d.line
	}
	return nil, len(rest), nil
}

// dropPayload discards a payload and its end.
func (p *Parser) dropPayload(buf []byte) (*Request, int, *Error) {
	d := &p.drop
	if len(buf) == 0 {
		return nil, 0, nil
	}
	if d.cr {
		d.cr = false
		if buf[0] == '\n' {
			return nil, 1, nil
		}
	}
	if d.payload > 0 {
		n := min(d.payload, int64(len(buf)))
		d.payload -= n
		return nil, int(n), nil
	}
	n := endAt(buf)
	switch {
	case n == 0:
		return nil, 0, nil
	case n < 0:
		return nil, 0, outOfStep(-1)
	}
	d.end = false
	return nil, n, nil
}

// reset forgets the previous request.
func (p *Parser) reset() {
	if cap(p.ops) > keepOps {
		p.ops = nil
	}
	if cap(p.args) > keepArgs {
		p.args = nil
	}
	if cap(p.scratch) > keepScratch {
		p.scratch = nil
	}
	p.scratch = p.scratch[:0]
	p.req = Request{}
}

// headTag records the tag of a line that is refused, if it has a valid one, and returns the next
// word, which should be the verb, even if tabs or quotes surround it.
func (p *Parser) headTag(text []byte) []byte {
	word, rest := headWord(text)
	if len(word) > 0 && word[0] == '@' {
		if tag, err := tagOf(word); err == nil {
			p.req.Tag = tag
		}
		word, _ = headWord(rest)
	}
	return bytes.Trim(word, `"`)
}

func headWord(text []byte) (word, rest []byte) {
	text = bytes.TrimLeft(text, " \t")
	if i := bytes.IndexAny(text, " \t"); i >= 0 {
		return text[:i], text[i:]
	}
	return text, nil
}

func tagOf(word []byte) (string, *Error) {
	for _, c := range word {
		if class[c] != plain {
			return "", syntaxError("a tag must be one word")
		}
	}
	switch {
	case len(word) == 1:
		return "", syntaxError("a tag is missing after the @")
	case len(word)-1 > MaxTagBytes:
		return "", syntaxError("a tag may have at most " + strconv.Itoa(MaxTagBytes) + " bytes")
	}
	return string(word[1:]), nil
}

// isHTTP says whether a line is the first of an HTTP request: three words, the last HTTP/n. A
// quoted string is not a word.
func (w *words) isHTTP() bool {
	return len(w.args) == 3 && w.ref < 0 && !w.args[2].quoted && isHTTPVersion(w.args[2].val)
}

// isHTTPVersion says whether b is HTTP/ and a number.
func isHTTPVersion[S string | []byte](b S) bool {
	const prefix = "HTTP/"
	if len(b) <= len(prefix) || string(b[:len(prefix)]) != prefix {
		return false
	}
	for i := len(prefix); i < len(b); i++ {
		if (b[i] < '0' || b[i] > '9') && b[i] != '.' {
			return false
		}
	}
	return true
}

var httpMethods = [...]string{"POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PATCH", "DELETE"}

// hostile says whether a line that is not one of our requests comes from an HTTP client.
func hostile(text []byte, args []arg) bool {
	text = bytes.TrimLeft(text, " ")
	for _, header := range [...]string{"Host:", "User-Agent:"} {
		if len(text) >= len(header) && bytes.EqualFold(text[:len(header)], []byte(header)) {
			return true
		}
	}
	first, _, _ := bytes.Cut(text, []byte{' '})
	for _, m := range httpMethods {
		if len(first) == len(m) && bytes.EqualFold(first, []byte(m)) {
			return true
		}
	}
	if args != nil {
		return false
	}
	fields := bytes.Fields(text)
	return len(fields) == 3 && isHTTPVersion(fields[2])
}

func notOurs() *Error {
	return fatal(znode.ErrProtocol, "this is an HTTP request; coord speaks a text protocol for nc, bash and telnet: try HELP")
}

func outOfStep(n int64) *Error {
	msg := "the announced bytes are not followed by a line end"
	if n >= 0 {
		msg = "the " + strconv.FormatInt(n, 10) + " bytes of the value are not followed by a line end"
	}
	return fatal(znode.ErrProtocol, msg)
}

func tooLong(limit int, closes bool) *Error {
	return &Error{Code: znode.ErrTooBig, Msg: "the value is longer than " + strconv.Itoa(limit) + " bytes", Op: -1, Close: closes}
}

// errText quotes bytes of a request for an error message, truncated.
func errText(b []byte) string {
	const most = 80
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "…"
	}
	return strconv.Quote(string(b))
}
