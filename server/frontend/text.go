package frontend

import (
	"context"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// textConn is a connection that speaks the text protocol.
type textConn struct {
	*conn
	parser    *text.Parser // nil while nothing is received
	format    text.Format
	req       *text.Request // the read that view answers
	view      func(*tree.Tree, *watch.Table)
	name      string // as given by HELLO
	eventCRLF bool   // copy of events.crlf

	events struct { // how EVENTs are encoded; the connection's lock guards it
		format text.Format
		crlf   bool
	}
}

func newTextConn(conn *conn) *textConn {
	c := &textConn{conn: conn}
	c.cxid = noCxid
	c.view = func(t *tree.Tree, table *watch.Table) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.goesOn() {
			c.mu.out = c.appendRead(c.outbox(), c.req, c.ids, c.format, t, table)
			c.noteZxid(t)
			c.answered()
			c.mu.ending = c.req.Verb == text.VerbCat
		}
	}
	return c
}

// handleAll takes every whole request from the bytes received.
func (c *textConn) handleAll(ctx context.Context) {
	if c.parser == nil {
		c.parser = c.s.parsers.Get().(*text.Parser)
	}
	for !c.leaving {
		req, n, err := c.parser.Next(c.in[c.used:])
		c.used += n
		c.bytes += int64(n)
		c.size = n
		switch {
		case err != nil:
			c.received++
			c.op = ""
			c.refuse(err.(*text.Error)) //nolint:errorlint // Next returns nothing else
		case req != nil:
			c.received++
			c.hear()
			c.handle(ctx, req)
		default:
			c.judgeFirstLine()
			c.count()
			return
		}
		if c.crowded && !c.roomy() {
			c.leaving = true
		}
	}
	c.count()
}

// judgeFirstLine checks an unfinished first request: its line must end soon; a payload after it may
// be long and take its time.
func (c *textConn) judgeFirstLine() {
	if c.heard {
		return
	}
	rest := c.in[c.used:]
	for _, b := range rest {
		if b == '\n' || b == '\r' {
			c.hear()
			return
		}
	}
	if len(rest) >= FirstLineBytes {
		c.refuse(&text.Error{Code: znode.ErrTooBig, Msg: "the first line is too long", Op: -1, Close: true})
	}
}

// refuse answers a request that the parser has refused.
func (c *textConn) refuse(e *text.Error) {
	switch e.Code {
	case znode.ErrProtocol:
		c.s.stats.protocolErrors.Add(1)
	case znode.ErrTooBig, znode.ErrLimit:
		c.s.stats.limitsReached.Add(1)
	}
	reply := e.Reply()
	reply.Tag = e.Tag
	c.reply(&reply, e.CRLF)
	c.leaving = c.leaving || e.Close
}

func (c *textConn) rest() {
	if c.parser != nil && c.parser.Idle() {
		c.s.parsers.Put(c.parser)
		c.parser = nil
	}
}

func (c *textConn) drop(table *watch.Table) {
	c.mu.Lock()
	watches := c.mu.watches
	c.mu.watches = nil
	c.mu.Unlock()
	for _, w := range watches {
		w.ended.Store(true)
		table.Drop(w)
	}
}

func (c *textConn) appendLast(b []byte, r *text.Reply) []byte {
	return r.Append(b, c.events.format, c.events.crlf)
}

// isFatal says whether the fate of a write is unknown.
func (c *textConn) isFatal(code znode.Code) bool { return code == znode.ErrUncertain }

// script says how the answer to a request is encoded.
type script struct {
	tag    string
	format text.Format
	crlf   bool
}

func (c *textConn) script(req *text.Request) script { return script{req.Tag, c.format, req.CRLF} }

// textWrite is a write with the form of its answer, in one allocation.
type textWrite struct {
	write
	script
	verb text.Verb
}

// textRead is a read that waits for its turn.
type textRead struct {
	item
	script
	by  *textConn
	req text.Request
	ids []znode.Identity
}

// reply answers the request in hand with r, which does not depend on state.
func (c *textConn) reply(r *text.Reply, crlf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.goesOn():
	case c.waiting():
		it := c.newItem()
		answer := r.Append(nil, c.format, crlf)
		it.size += len(answer)
		it.ready, it.turn = true, said(answer)
		c.enqueue(&it)
	default:
		c.mu.out = r.Append(c.outbox(), c.format, crlf)
		c.answered()
	}
}

// read answers a read at once or in its turn. It takes mu.
func (c *textConn) read(req *text.Request) {
	c.mu.Lock()
	if c.waiting() {
		r := c.newRead(req)
		r.ready = true
		c.enqueue(&r.item)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.req = req
	c.s.cfg.Backend.View(c.view)
}

// readBehind answers a read once everything committed before it is applied here. It takes mu.
func (c *textConn) readBehind(req *text.Request) {
	r := c.newRead(req)
	c.submitBarrier(&r.item, r.passed)
}

// sync is readBehind. If there is a session, the answer also guarantees that the leader has heard
// of its client since the request came; the client relies on that.
func (c *textConn) sync(req *text.Request) {
	id := c.sess.id
	if id == 0 {
		c.readBehind(req)
		return
	}
	r := c.newRead(req)
	heard := c.s.cfg.Sessions.Vouch(id)
	var passed Done
	passed = func(result tree.Result, t *tree.Tree, table *watch.Table) {
		if result.Code == znode.OK && !heard() {
			heard = c.s.cfg.Sessions.Vouch(id)
			c.s.cfg.Backend.Barrier(passed)
			return
		}
		r.passed(result, t, table)
	}
	c.submitBarrier(&r.item, passed)
}

func (c *textConn) newRead(req *text.Request) *textRead {
	r := &textRead{item: c.newItem(), script: c.script(req), by: c, req: *req, ids: c.ids} // req belongs to the parser
	r.req.Value, r.req.Ops = nil, nil
	r.turn, r.last = r, req.Verb == text.VerbCat
	return r
}

func (c *textConn) newWrite(req *text.Request) *textWrite {
	w := &textWrite{write: write{item: c.newItem()}, script: c.script(req), verb: req.Verb}
	w.write.write, w.turn = &w.write, w
	return w
}
