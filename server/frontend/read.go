package frontend

import (
	"sync"
	"unsafe"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// appendRead executes a read and appends its answer. The state lock and the connection's lock are
// held.
func (c *textConn) appendRead(b []byte, req *text.Request, ids []znode.Identity, f text.Format, t *tree.Tree, table *watch.Table) []byte {
	fields := borrowFields()
	defer fields.giveBack()
	r := text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: fields[:0]}
	var need znode.Perms
	switch req.Verb {
	case text.VerbSync:
		r.Fields = append(r.Fields, seen(t))
		return r.Append(b, f, req.CRLF)
	case text.VerbHello:
		c.hello(&r, req, t)
		return r.Append(b, f, req.CRLF)
	case text.VerbWatch, text.VerbFollow:
		if code := watchable(req, ids, t); code != znode.OK {
			r.Kind, r.Code, r.Message = text.KindErr, code, code.Error()
			r.Fields = append(r.Fields, text.Str(text.KeyPath, req.Path))
		} else if c.watchFor(&r, req, ids, table); r.Kind == text.KindOK {
			r.Fields = append(r.Fields, seen(t))
		}
		return r.Append(b, f, req.CRLF)
	case text.VerbGetACL:
		need = znode.Read | znode.Admin
	default:
		need = znode.Read
	}
	z, code := t.Get(req.Path, ids, need)
	switch {
	case code != znode.OK && req.Verb == text.VerbCat:
		return b
	case code != znode.OK:
		r.Kind, r.Code, r.Message = text.KindErr, code, code.Error()
		r.Fields = append(r.Fields, text.Str(text.KeyPath, req.Path))
		if req.Watch && req.Verb == text.VerbExists && code == znode.ErrNoNode {
			c.watchFor(&r, req, ids, table)
		}
		return r.Append(b, f, req.CRLF)
	}
	switch req.Verb {
	case text.VerbGet:
		b = grow(b, len(z.Data))
		r.Kind, r.Data = text.KindData, bytesOf(z.Data)
		if req.Stat {
			r.Fields = appendStat(r.Fields, &z)
		} else {
			r.Fields = append(r.Fields, text.Int(text.KeyVersion, int64(z.Stat.Version)))
		}
		r.Fields = append(r.Fields, seen(t))
	case text.VerbExists:
		r.Fields = append(appendStat(r.Fields, &z), seen(t))
	case text.VerbCat:
		return append(grow(b, len(z.Data)), z.Data...)
	case text.VerbGetACL:
		r.Kind = text.KindList
		r.Fields = append(r.Fields, text.Int(text.KeyAversion, int64(z.Stat.Aversion)))
		for _, e := range shownACL(t, &z, ids) {
			r.Items = append(r.Items, text.Reply{Kind: text.KindItem, Arg: e.String()})
		}
	case text.VerbLs, text.VerbTree:
		r.Kind = text.KindList
		r.Fields = append(r.Fields, seen(t))
		l := lists.Get().(*list)
		defer l.release()
		l.ids, l.trusting = ids, t.Counters().Settings.SkipACL
		if req.Verb == text.VerbLs {
			l.children(req, t)
		} else {
			l.tree(req, t)
		}
		b = grow(b, l.size)
		r.Items = l.items
		if l.more {
			r.Fields = append(r.Fields, text.Int(text.KeyMore, 1))
		}
	}
	if req.Watch {
		c.watchFor(&r, req, ids, table)
	}
	return r.Append(b, f, req.CRLF)
}

func appendStat(dst []text.Field, z *tree.Znode) []text.Field {
	return text.AppendStat(dst, &text.Stat{Stat: z.Stat, Container: z.Owner.Container, TTLMS: z.Owner.TTLMS})
}

// seen is the field with the zxid of the last change that this node has applied.
func seen(t *tree.Tree) text.Field { return text.Zxid(text.KeyZxid, t.Counters().Zxid) }

// bytesOf returns a string of the tree as bytes, which may be read but not kept.
func bytesOf(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s)) //nolint:gosec // read only
}

// hello introduces the node. A client that has seen a later state than this node's must not see
// time go back: the reply tells it to go to another node.
func (c *textConn) hello(r *text.Reply, req *text.Request, t *tree.Tree) {
	if zxid := t.Counters().Zxid; req.Zxid > zxid {
		r.Kind, r.Code = text.KindErr, znode.ErrTimeout
		r.Message = "this node is at zxid " + zxid.String() + ", before the requested one"
		r.Fields = append(r.Fields, seen(t))
		return
	}
	version, node, role, cluster := c.s.cfg.Node.Hello()
	r.Fields = append(r.Fields, text.Int(text.KeyProto, 1), text.Str(text.KeyServer, "coord"), text.Str(text.KeyNodeVersion, version),
		text.Str(text.KeyNode, node), text.Str(text.KeyRole, role), text.Str(text.KeyCluster, cluster), seen(t))
}

// list is a page of an LS or a TREE, or the results of a TXN.
type list struct {
	items    []text.Reply
	fields   []text.Field // of all items
	ids      []znode.Identity
	trusting bool // ACLs are not checked
	size     int  // bytes, approximately
	more     bool // there are more than the page holds
}

var lists = sync.Pool{New: func() any { return new(list) }}

// keepItems is the capacity of the longest list that is reused.
const keepItems = 8 << 10

func (l *list) release() {
	if cap(l.items) > keepItems {
		return
	}
	clear(l.items)
	clear(l.fields)
	*l = list{items: l.items[:0], fields: l.fields[:0]}
	lists.Put(l)
}

// since returns the fields from an index on: those of one item.
func (l *list) since(from int) []text.Field { return l.fields[from:len(l.fields):len(l.fields)] }

func (l *list) item(kind text.Kind) *text.Reply {
	l.items = append(l.items, text.Reply{Kind: kind})
	return &l.items[len(l.items)-1]
}

// fits says whether another item fits on the page.
func (l *list) fits(limit int32, size int) bool {
	if len(l.items) >= int(limit) || len(l.items) > 0 && l.size+size > MaxListBytes {
		l.more = true
		return false
	}
	l.size += size
	return true
}

func (l *list) mayRead(z *tree.Znode) bool { return l.trusting || z.ACL.Allows(l.ids, znode.Read) }

// Approximate sizes, for MaxListBytes.
const (
	itemBytes = 8
	statBytes = 160
)

func (l *list) children(req *text.Request, t *tree.Tree) {
	t.Children(req.Path, req.After, func(name string, child func() tree.Znode) bool {
		size := len(name) + itemBytes
		if req.Stat {
			size += statBytes
		}
		if !l.fits(req.Limit, size) {
			return false
		}
		item := l.item(text.KindItem)
		item.Arg = name
		if req.Stat {
			if z := child(); l.mayRead(&z) {
				from := len(l.fields)
				l.fields = appendStat(l.fields, &z)
				item.Fields = l.since(from)
			}
		}
		return true
	})
}

func (l *list) tree(req *text.Request, t *tree.Tree) {
	depth := int(req.Depth)
	if depth == 0 {
		depth = -1
	}
	t.Walk(req.Path, req.After, depth, l.ids, func(path string, read func() tree.Znode) bool {
		size := len(path) + itemBytes
		var z tree.Znode
		readable := false
		if req.Stat || req.Data {
			z = read()
			readable = l.mayRead(&z)
		}
		if req.Data && readable {
			size += len(z.Data)
		}
		if req.Stat {
			size += statBytes
		}
		if !l.fits(req.Limit, size) {
			return false
		}
		item := l.item(text.KindItem)
		from := len(l.fields)
		switch {
		case !req.Data:
			item.Arg = path
		case readable:
			item.Kind, item.Data = text.KindData, bytesOf(z.Data)
			l.fields = append(l.fields, text.Str(text.KeyPath, path))
		default:
			item.Kind, item.Code = text.KindErr, znode.ErrNoAuth
			l.fields = append(l.fields, text.Str(text.KeyPath, path))
		}
		switch {
		case !readable:
		case req.Stat:
			l.fields = appendStat(l.fields, &z)
		case req.Data:
			l.fields = append(l.fields, text.Int(text.KeyVersion, int64(z.Stat.Version)))
		}
		item.Fields = l.since(from)
		return true
	})
}
