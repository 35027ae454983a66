package frontend

import (
	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

func (r *textRead) appendAnswer(b []byte, t *tree.Tree, table *watch.Table) []byte {
	c := r.by
	switch {
	case r.code != znode.OK:
		return r.appendRefusal(b, r.code, r.code.Error())
	case !r.last && len(b)+c.mu.sending >= MaxOutboxBytes:
		c.s.stats.limitsReached.Add(1)
		return r.appendRefusal(b, znode.ErrThrottledOp, "too many replies are waiting for the client to read them")
	}
	return c.appendRead(b, &r.req, r.ids, r.format, t, table)
}

// appendRefusal appends the reason why a read is not executed.
func (r *textRead) appendRefusal(b []byte, code znode.Code, msg string) []byte {
	if r.last { // a CAT, which has no form for errors
		return b
	}
	reply := text.Reply{Kind: text.KindErr, Tag: r.tag, Code: code, Message: msg}
	return reply.Append(b, r.format, r.crlf)
}

// maxFields is the largest number of fields in a reply.
const maxFields = 15

func (w *textWrite) appendAnswer(b []byte, _ *tree.Tree, _ *watch.Table) []byte {
	fields := borrowFields()
	defer fields.giveBack()
	r := text.Reply{Tag: w.tag, Fields: fields[:0]}
	switch {
	case w.code != znode.OK:
		w.failed(&r)
	case w.verb == text.VerbTxn:
		r.Kind = text.KindList
		r.Fields = append(r.Fields, text.Zxid(text.KeyZxid, w.result.Zxid))
		l := lists.Get().(*list)
		defer l.release()
		for i := range w.result.Ops {
			item, from := l.item(text.KindOK), len(l.fields)
			l.fields = appendResult(l.fields, w.txn.Ops[i].Kind, &w.result.Ops[i])
			item.Fields = l.since(from)
		}
		r.Items = l.items
	default:
		r.Kind, r.Fields = text.KindOK, appendResult(r.Fields, w.txn.Kind, &w.result)
	}
	return r.Append(b, w.format, w.crlf)
}

func appendResult(dst []text.Field, kind tree.Kind, r *tree.Result) []text.Field {
	switch kind {
	case tree.KindCreate:
		dst = append(dst, text.Str(text.KeyPath, r.Path), text.Int(text.KeyVersion, 0))
	case tree.KindSetData:
		dst = append(dst, text.Int(text.KeyVersion, int64(r.Stat.Version)))
	case tree.KindSetACL:
		dst = append(dst, text.Int(text.KeyAversion, int64(r.Stat.Aversion)))
	case tree.KindCheck:
		return dst
	}
	return append(dst, text.Zxid(text.KeyZxid, r.Zxid))
}

// failed fills in the answer to a write that was not done.
func (w *textWrite) failed(r *text.Reply) {
	r.Kind, r.Code, r.Message = text.KindErr, w.code, w.code.Error()
	path := w.txn.Path
	if w.verb == text.VerbTxn && isVerdict(w.code) && w.result.Op < len(w.txn.Ops) {
		r.Fields = append(r.Fields, text.Int(text.KeyOp, int64(w.result.Op)))
		path = w.txn.Ops[w.result.Op].Path
	}
	if path != "" {
		r.Fields = append(r.Fields, text.Str(text.KeyPath, path))
	}
	if w.code == znode.ErrBadVersion {
		r.Fields = append(r.Fields, text.Int(text.KeyHave, int64(w.result.Have)))
	}
}

// isVerdict says whether a code is the tree's verdict on one op, and not an error that arose before
// the txn reached the tree.
func isVerdict(code znode.Code) bool {
	return code > znode.ErrTooBig && code != znode.ErrThrottledOp || code == znode.ErrLimit
}
