package frontend

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"time"

	"coord/server/text"
	"coord/tree"
	"coord/tree/znode"
)

// handle acts on one request of the text protocol.
func (c *conn) handle(ctx context.Context, req *text.Request) {
	switch req.Verb {
	case text.VerbGet:
		if req.Lin {
			c.readBehind(req)
		} else {
			c.read(req)
		}
	case text.VerbSync:
		c.readBehind(req)
	case text.VerbExists, text.VerbLs, text.VerbTree, text.VerbGetACL:
		c.read(req)
	case text.VerbHello:
		if req.HasFormat {
			c.format = req.Format
		}
		c.read(req)
	case text.VerbCreate, text.VerbSet, text.VerbRm, text.VerbSetACL, text.VerbTxn:
		c.write(req)
	case text.VerbInfo:
		c.info(req)
	case text.VerbFormat:
		c.format = req.Format
		c.reply(req.Tag, req.CRLF, &text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Str(text.KeyFormat, c.format.String())}})
	case text.VerbAuth:
		c.auth(req)
	case text.VerbPing:
		c.reply(req.Tag, req.CRLF, &text.Reply{Kind: text.KindOK, Arg: "pong"})
	case text.VerbHelp:
		r := text.Help(req.Name)
		c.reply(req.Tag, req.CRLF, &r)
	case text.VerbCat:
		c.read(req)
		c.leaving = true
	case text.VerbQuit:
		c.reply(req.Tag, req.CRLF, &text.Reply{Kind: text.KindOK, Arg: "bye"})
		c.leaving = true
	case text.VerbSnapshot:
		c.snapshot(ctx, req)
	default:
		c.replyError(req, znode.ErrInternal, "the verb "+req.Verb.String()+" has no handler")
	}
}

func (c *conn) replyError(req *text.Request, code znode.Code, msg string) {
	c.reply(req.Tag, req.CRLF, &text.Reply{Kind: text.KindErr, Code: code, Message: msg})
}

// write turns a request into a txn. Values are copied: the request lives in the
// receive buffer.
func (c *conn) write(req *text.Request) {
	it := &item{tag: req.Tag, crlf: req.CRLF, verb: req.Verb, size: len(req.Value)}
	if req.Verb == text.VerbTxn {
		it.txn.Kind = tree.KindMulti
		it.txn.Ops = make([]tree.Op, len(req.Ops))
		for i := range req.Ops {
			it.txn.Ops[i] = makeOp(&req.Ops[i])
			it.size += len(req.Ops[i].Value)
		}
	} else {
		it.txn.Op = makeOp(&req.Op)
	}
	c.submit(it)
}

func makeOp(op *text.Op) tree.Op {
	out := tree.Op{Path: op.Path, Version: op.Version}
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
	return out
}

// appendAnswer writes the answer to a request whose turn has come.
func (c *conn) appendAnswer(b []byte, it *item, t *tree.Tree) []byte {
	switch {
	case it.fixed != nil:
		return it.fixed.Append(b, it.format, it.crlf)
	case it.write:
		r := writeReply(it)
		r.Tag = it.tag
		return r.Append(b, it.format, it.crlf)
	case it.result.Code != znode.OK:
		r := text.Reply{Kind: text.KindErr, Tag: it.tag, Code: it.result.Code, Message: it.result.Code.Error()}
		return r.Append(b, it.format, it.crlf)
	}
	return c.appendRead(b, &it.req, it.ids, it.tag, it.format, it.crlf, t)
}

func writeReply(it *item) text.Reply {
	r := &it.result
	if it.verb == text.VerbTxn {
		if r.Code != znode.OK {
			var op tree.Op
			if r.Op < len(it.txn.Ops) {
				op = it.txn.Ops[r.Op]
			}
			reply := errorReply(r, op.Path)
			if judged(r.Code) {
				reply.Fields = append(reply.Fields, text.Int(text.KeyOp, int64(r.Op)))
			}
			return reply
		}
		reply := text.Reply{Kind: text.KindList, Fields: []text.Field{text.Zxid(text.KeyZxid, r.Zxid)}}
		for i := range r.Ops {
			reply.Items = append(reply.Items, okReply(&r.Ops[i], it.txn.Ops[i].Kind))
		}
		return reply
	}
	if r.Code != znode.OK {
		return errorReply(r, it.txn.Path)
	}
	return okReply(r, it.txn.Kind)
}

// judged says whether a code is the tree's verdict on one op.
func judged(code znode.Code) bool { return code > znode.ErrTooBig || code == znode.ErrLimit }

func okReply(r *tree.Result, kind tree.Kind) text.Reply {
	reply := text.Reply{Kind: text.KindOK}
	switch kind {
	case tree.KindCreate:
		reply.Fields = []text.Field{text.Str(text.KeyPath, r.Path), text.Int(text.KeyVersion, 0), text.Zxid(text.KeyZxid, r.Zxid)}
	case tree.KindSetData:
		reply.Fields = []text.Field{text.Int(text.KeyVersion, int64(r.Stat.Version)), text.Zxid(text.KeyZxid, r.Zxid)}
	case tree.KindSetACL:
		reply.Fields = []text.Field{text.Int(text.KeyAversion, int64(r.Stat.Aversion)), text.Zxid(text.KeyZxid, r.Zxid)}
	case tree.KindDelete:
		reply.Fields = []text.Field{text.Zxid(text.KeyZxid, r.Zxid)}
	}
	return reply
}

func errorReply(r *tree.Result, path string) text.Reply {
	reply := text.Reply{Kind: text.KindErr, Code: r.Code, Message: r.Code.Error()}
	if path != "" {
		reply.Fields = append(reply.Fields, text.Str(text.KeyPath, path))
	}
	if r.Code == znode.ErrBadVersion {
		reply.Fields = append(reply.Fields, text.Int(text.KeyHave, int64(r.Have)))
	}
	return reply
}

// auth adds an identity to the connection, for the requests from here on.
func (c *conn) auth(req *text.Request) {
	switch {
	case !c.private:
		c.replyError(req, znode.ErrAuthFailed, "a password is not taken over a clear connection from another host")
		return
	case len(c.ids) > MaxIdentities:
		c.replyError(req, znode.ErrLimit, "too many identities on one connection")
		return
	}
	id, err := znode.Digest(req.Name + ":" + string(req.Value))
	if err != nil {
		c.s.stats.authFailed.Add(1)
		c.replyError(req, znode.ErrAuthFailed, err.Error())
		return
	}
	ids := append(c.ids[:len(c.ids):len(c.ids)], id)
	if c.s.cfg.SuperDigest != "" && id.ID == c.s.cfg.SuperDigest {
		ids = append(ids, znode.Super)
		c.operator = true
	}
	c.ids = ids
	c.reply(req.Tag, req.CRLF, &text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Str(text.KeyUser, req.Name)}})
}

// snapshot streams the state to an operator, straight to the socket: a slow
// client slows its own snapshot and nothing else.
func (c *conn) snapshot(ctx context.Context, req *text.Request) {
	if !c.operator {
		c.replyError(req, znode.ErrNoAuth, "a snapshot needs operator rights")
		return
	}
	if !c.drain() {
		c.leaving = true
		return
	}
	zxid, write, err := c.s.cfg.Node.Snapshot(ctx)
	switch {
	case err != nil:
		c.replyError(req, znode.ErrInternal, err.Error())
		return
	case zxid < req.Zxid:
		c.replyError(req, znode.ErrTimeout, fmt.Sprintf("this node has come to zxid %s only", zxid))
		return
	}
	w := &chunkWriter{c: c, req: req, sum: sha256.New()}
	w.send(&text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: []text.Field{text.Zxid(text.KeyZxid, zxid)}})
	if err := write(ctx, w); err != nil {
		c.s.log.Warn().Err(err).Stringer("addr", c.nc.RemoteAddr()).Msg("snapshot stream cut")
		w.send(&text.Reply{Kind: text.KindErr, Tag: req.Tag, Code: znode.ErrInternal, Message: "the stream is cut: " + err.Error()})
		c.leaving = true
		return
	}
	w.send(&text.Reply{Kind: text.KindEnd, Tag: req.Tag, Fields: []text.Field{
		text.Str(text.KeySHA256, fmt.Sprintf("%x", w.sum.Sum(nil))), text.Int(text.KeyBytes, w.bytes)}})
	if w.err != nil {
		c.leaving = true
	}
}

// chunkWriter sends what is written to it as CHUNKs.
type chunkWriter struct {
	c     *conn
	req   *text.Request
	sum   hash.Hash
	bytes int64
	buf   []byte
	err   error
}

func (w *chunkWriter) Write(p []byte) (int, error) {
	w.sum.Write(p)
	w.bytes += int64(len(p))
	w.send(&text.Reply{Kind: text.KindChunk, Tag: w.req.Tag, Data: p})
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

func (w *chunkWriter) send(r *text.Reply) {
	if w.err != nil {
		return
	}
	w.buf = r.Append(w.buf[:0], w.c.format, w.req.CRLF)
	_ = w.c.nc.SetWriteDeadline(time.Now().Add(WriteTime))
	_, w.err = w.c.nc.Write(w.buf)
}

// info lists the facts.
func (c *conn) info(req *text.Request) {
	r := text.Reply{Kind: text.KindList}
	for _, f := range c.s.facts() {
		r.Items = append(r.Items, text.Reply{Kind: text.KindItem, Arg: f.Key, Fields: []text.Field{text.Str(text.KeyValue, f.Value)}})
	}
	c.reply(req.Tag, req.CRLF, &r)
}
