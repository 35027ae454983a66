package frontend

import (
	"context"
	"slices"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// handle executes one request of the text protocol. The changes it makes to identities and format
// hold for later requests; earlier ones, answered or not, keep the values that held when they came.
func (c *textConn) handle(ctx context.Context, req *text.Request) {
	c.op = opCodes[req.Verb]
	if req.CRLF != c.eventCRLF {
		c.writeEvents(c.format, req.CRLF)
	}
	switch req.Verb {
	case text.VerbWatch, text.VerbFollow:
		if req.HasZxid {
			c.catchUp(req)
		} else {
			c.read(req)
		}
	case text.VerbUnwatch:
		c.unwatch(req)
	case text.VerbWait:
		c.waitFor(req)
	case text.VerbLock:
		c.lock(req)
	case text.VerbUnlock:
		c.unlock(req)
	case text.VerbSession:
		c.session(req)
	case text.VerbSessions:
		c.listSessions(req)
	case text.VerbGet:
		if req.Lin {
			c.readBehind(req)
		} else {
			c.read(req)
		}
	case text.VerbSync:
		c.sync(req)
	case text.VerbExists, text.VerbLs, text.VerbTree, text.VerbGetACL:
		c.read(req)
	case text.VerbHello:
		if req.HasFormat {
			c.setFormat(req)
		}
		if req.Name != "" {
			c.name = req.Name
		}
		if c.isAhead(req.Zxid) {
			c.readBehind(req)
		} else {
			c.read(req)
		}
	case text.VerbCreate, text.VerbSet, text.VerbRm, text.VerbSetACL, text.VerbTxn:
		c.write(req)
	case text.VerbInfo:
		c.info(req)
	case text.VerbFormat:
		c.setFormat(req)
		c.reply(&text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: []text.Field{text.Str(text.KeyFormat, c.format.String())}}, req.CRLF)
	case text.VerbAuth:
		c.auth(req)
	case text.VerbPing:
		c.reply(&text.Reply{Kind: text.KindOK, Tag: req.Tag, Arg: "pong"}, req.CRLF)
	case text.VerbHelp:
		r := text.Help(req.Name)
		r.Tag = req.Tag
		c.reply(&r, req.CRLF)
	case text.VerbCat:
		c.read(req)
		c.leaving = true
	case text.VerbQuit:
		c.reply(&text.Reply{Kind: text.KindOK, Tag: req.Tag, Arg: "bye"}, req.CRLF)
		c.leaving = true
	case text.VerbSnapshot:
		c.snapshot(ctx, req)
	case text.VerbAdmin:
		c.admin(ctx, req)
	default:
		c.replyError(req, znode.ErrInternal, "the verb "+req.Verb.String()+" has no handler")
	}
}

func (c *textConn) replyError(req *text.Request, code znode.Code, msg string) {
	c.reply(&text.Reply{Kind: text.KindErr, Tag: req.Tag, Code: code, Message: msg}, req.CRLF)
}

// isAhead says whether a client has seen a later state than this node's.
func (c *conn) isAhead(zxid znode.Zxid) (ahead bool) {
	if zxid > 0 {
		c.s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) { ahead = zxid > t.Counters().Zxid })
	}
	return ahead
}

// info lists the facts, once all earlier requests are answered.
func (c *textConn) info(req *text.Request) {
	if !c.isAlone() {
		return
	}
	c.count()
	r := text.Reply{Kind: text.KindList, Tag: req.Tag}
	for _, f := range c.s.facts() {
		r.Items = append(r.Items, infoItem(f))
	}
	c.reply(&r, req.CRLF)
}

func infoItem(f Fact) text.Reply {
	return text.Reply{Kind: text.KindItem, Arg: f.Key, Fields: []text.Field{text.Str(text.KeyValue, f.Value)}}
}

// write turns a request into a txn. Values are copied: the request lives in the
// receive buffer.
func (c *textConn) write(req *text.Request) {
	if needsSession(req) && !c.needSession(req) {
		return
	}
	w := c.newWrite(req)
	w.txn = c.txn(tree.Op{})
	if req.Verb == text.VerbTxn {
		w.txn.Kind = tree.KindMulti
		w.txn.Ops = make([]tree.Op, len(req.Ops))
		for i := range req.Ops {
			makeOp(&w.txn.Ops[i], &req.Ops[i])
		}
		w.size += opBytes * len(req.Ops)
	} else {
		makeOp(&w.txn.Op, &req.Op)
	}
	c.submit(&w.write)
}

func needsSession(req *text.Request) bool {
	return req.Mode.Ephemeral() || slices.ContainsFunc(req.Ops, func(op text.Op) bool { return op.Mode.Ephemeral() })
}

// setFormat waits for its turn: EVENTs before its reply keep the previous format.
func (c *textConn) setFormat(req *text.Request) {
	if req.Format != c.format && c.isNext() {
		c.format = req.Format
		c.writeEvents(c.format, req.CRLF)
	}
}

// writeEvents sets how EVENTs are encoded from here on.
func (c *textConn) writeEvents(f text.Format, crlf bool) {
	c.eventCRLF = crlf
	c.mu.Lock()
	c.events.format, c.events.crlf = f, crlf
	c.mu.Unlock()
}

func makeOp(out *tree.Op, op *text.Op) {
	out.Path, out.Version = op.Path, op.Version
	switch op.Verb {
	case text.VerbCreate:
		out.Kind, out.Mode, out.TTLMS, out.ACL = tree.KindCreate, op.Mode, op.TTLMS, op.ACL
		out.Data = append(make([]byte, 0, len(op.Value)), op.Value...) // never nil: empty is not null
		if op.ACL == nil {
			out.ACL = znode.OpenACL
		}
		if op.Parents {
			out.Flags = tree.Parents
		}
	case text.VerbSet:
		out.Kind = tree.KindSetData
		out.Data = append(make([]byte, 0, len(op.Value)), op.Value...)
		if op.Create {
			out.Flags = tree.OrCreate
		}
	case text.VerbRm:
		out.Kind = tree.KindDelete
		if op.Recursive {
			out.Flags, out.Limit = tree.Recursive, op.Limit
		}
	case text.VerbSetACL:
		out.Kind, out.ACL = tree.KindSetACL, op.ACL
	case text.VerbCheck:
		out.Kind = tree.KindCheck
	}
}
