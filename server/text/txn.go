package text

import (
	"slices"
	"strconv"

	"coord/tree/znode"
)

// txnHead parses the first line of a TXN. If it is invalid, the connection is closed, because the
// lines after it would be taken for requests of their own.
func (p *Parser) txnHead(buf []byte, l line, args []arg, ref int64) (*Request, int, *Error) {
	var n uint64
	ok := len(args) == 1 && !args[0].quoted && ref < 0
	if ok {
		n, ok = parseUint(args[0].val)
	}
	if !ok || n == 0 {
		return nil, l.end, fatal(znode.ErrSyntax, "the form is "+verbs[VerbTxn].form+", where n is the number of lines that follow, at least 1")
	}
	if n > uint64(p.lim.Ops) {
		return nil, l.end, fatal(znode.ErrLimit, "a TXN may have at most "+strconv.Itoa(p.lim.Ops)+" operations")
	}
	p.req.Verb, p.req.Version = VerbTxn, AnyVersion
	p.lines, p.left, p.body, p.pos = int(n), int(n), l.end, l.end
	return p.txn(buf)
}

// txn frames the lines of the TXN in hand, and parses them once all have arrived. The lines of a
// refused TXN are consumed as they arrive; from then on the buffer starts with the next line.
func (p *Parser) txn(buf []byte) (*Request, int, *Error) {
	for p.left > 0 {
		p.scratch = p.scratch[:0]
		l, state := p.cutLine(buf[p.pos:])
		switch state {
		case linePart:
			return nil, 0, nil
		case lineLong, lineInterrupt:
			pos := p.pos
			p.pos = 0
			r, n, err := p.noLine(buf[pos:], state)
			return r, pos + n, err
		}
		w, err := p.split(l.text)
		if err != nil && err.Close {
			err.Op = p.lines - p.left
			return nil, p.pos + l.end, err
		}
		blank := err == nil && len(w.args) == 0 && w.ref < 0
		switch {
		case w.ref > int64(p.lim.Skip):
			err = tooLong(p.lim.Payload, true)
			err.Op = p.lines - p.left
			return nil, p.pos + l.end, err
		case w.ref > int64(p.lim.Payload):
			p.fail(tooLong(p.lim.Payload, false))
		case p.failed == nil && int64(p.pos+l.end)+w.ref > int64(p.lim.Txn):
			p.fail(&Error{Code: znode.ErrTooBig, Msg: "a TXN may have at most " + strconv.Itoa(p.lim.Txn) + " bytes"})
		}
		if p.failed != nil {
			n := p.pos + l.end
			p.pos = 0
			if !blank {
				p.left--
			}
			if w.ref >= 0 {
				p.drop.payload, p.drop.end, p.drop.cr = w.ref, true, l.nul
			}
			return nil, n, nil
		}
		if blank {
			p.pos += l.end
			continue
		}
		_, n, err := p.value(buf[p.pos:], l, w.ref)
		if err != nil || n == 0 {
			p.need += p.pos
			return nil, 0, err
		}
		p.pos += n
		p.left--
	}
	lines, failed := p.lines, p.failed
	p.lines, p.failed = 0, nil
	if failed != nil {
		return nil, 0, failed
	}
	return p.parseOps(buf[:p.pos], lines)
}

// fail records why the TXN in hand is refused: because of the line that is being framed. The first
// reason is kept.
func (p *Parser) fail(err *Error) {
	if p.failed == nil {
		err.Op = p.lines - p.left
		p.failed = err
	}
}

// parseOps parses the lines of a TXN that is complete in buf.
func (p *Parser) parseOps(buf []byte, lines int) (*Request, int, *Error) {
	var failed *Error
	p.scratch = p.scratch[:0]
	p.ops = slices.Grow(p.ops[:0], lines)
	for pos := p.body; len(p.ops) < lines; {
		l, _ := p.cutLine(buf[pos:])
		w, err := p.split(l.text)
		if err == nil && len(w.args) == 0 && w.ref < 0 {
			pos += l.end
			continue
		}
		val, n, _ := p.value(buf[pos:], l, w.ref)
		pos += n
		var op Op
		if err == nil {
			err = p.parseOp(&op, l.text, w)
		}
		if err != nil && (failed == nil || err.Close) {
			failed = err
			failed.Op = len(p.ops)
		}
		if w.ref >= 0 {
			op.Value = val
		}
		p.ops = append(p.ops, op)
	}
	if failed != nil {
		return nil, len(buf), failed
	}
	p.req.Ops = p.ops
	return &p.req, len(buf), nil
}

// parseOp parses one line of a TXN.
func (p *Parser) parseOp(op *Op, text []byte, w words) *Error {
	if len(w.args) == 0 {
		return syntaxError("a verb is missing")
	}
	if w.isHTTP() || hostile(text, w.args) {
		return notOurs()
	}
	if a := w.args[0]; !a.quoted && a.val[0] == '@' {
		return syntaxError("a TXN may have one tag only, on its first line")
	}
	v := verbOf(&w.args[0])
	switch {
	case v == 0:
		return unknownVerb(&w.args[0])
	case !verbs[v].inTxn:
		return syntaxError(v.String() + " is not allowed in a TXN: only CHECK, CREATE, SET and RM are")
	}
	// The options of these verbs set only fields of Op: the rest of the request in hand does not
	// change.
	p.req.Op = Op{}
	err := parseArgs(v, &p.req, w.args[1:], w.ref)
	*op = p.req.Op
	p.req.Op = Op{Verb: VerbTxn, Version: AnyVersion}
	return err
}
