package frontend

import (
	"strings"
	"unsafe"

	"coord/server/text"
	"coord/tree"
	"coord/tree/znode"
)

// appendRead executes a read and appends its answer. The state lock is held.
func (c *conn) appendRead(b []byte, req *text.Request, ids []znode.Identity, tag string, f text.Format, crlf bool, t *tree.Tree) []byte {
	var fields [12]text.Field
	r := text.Reply{Tag: tag, Fields: fields[:0]}
	switch req.Verb {
	case text.VerbGet:
		c.get(&r, req, ids, t)
	case text.VerbExists:
		z, code := t.Get(req.Path, ids, znode.Read)
		if code != znode.OK {
			fail(&r, code, req.Path)
			break
		}
		r.Kind = text.KindOK
		r.Fields = text.AppendStat(r.Fields, &z.Stat)
		r.Fields = append(r.Fields, text.Zxid(text.KeyZxid, z.Stat.Mzxid))
	case text.VerbCat:
		if z, code := t.Get(req.Path, ids, znode.Read); code == znode.OK {
			b = append(b, z.Data...)
		}
		return b
	case text.VerbLs:
		c.ls(&r, req, ids, t)
	case text.VerbTree:
		c.tree(&r, req, ids, t)
	case text.VerbGetACL:
		c.getACL(&r, req, ids, t)
	case text.VerbSync:
		r.Kind = text.KindOK
		r.Fields = append(r.Fields, text.Zxid(text.KeyZxid, t.Counters().Zxid))
	case text.VerbHello:
		c.hello(&r, req, t)
	}
	return r.Append(b, f, crlf)
}

func fail(r *text.Reply, code znode.Code, path string) {
	r.Kind, r.Code, r.Message = text.KindErr, code, code.Error()
	r.Fields = append(r.Fields[:0], text.Str(text.KeyPath, path))
}

// bytesOf sees a string of the tree as bytes, to be appended and not kept.
func bytesOf(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s)) //nolint:gosec // read only
}

func (c *conn) get(r *text.Reply, req *text.Request, ids []znode.Identity, t *tree.Tree) {
	z, code := t.Get(req.Path, ids, znode.Read)
	if code != znode.OK {
		fail(r, code, req.Path)
		return
	}
	r.Kind, r.Data = text.KindData, bytesOf(z.Data)
	if req.Stat {
		r.Fields = text.AppendStat(r.Fields, &z.Stat)
	} else {
		r.Fields = append(r.Fields, text.Int(text.KeyVersion, int64(z.Stat.Version)))
	}
	r.Fields = append(r.Fields, text.Zxid(text.KeyZxid, z.Stat.Mzxid))
}

func (c *conn) ls(r *text.Reply, req *text.Request, ids []znode.Identity, t *tree.Tree) {
	if _, code := t.Get(req.Path, ids, znode.Read); code != znode.OK {
		fail(r, code, req.Path)
		return
	}
	r.Kind = text.KindList
	r.Fields = append(r.Fields, text.Zxid(text.KeyZxid, t.Counters().Zxid))
	size := 0
	t.Children(req.Path, req.After, func(name string, child func() tree.Znode) bool {
		if len(r.Items) >= int(req.Limit) || size >= MaxListBytes {
			r.Fields = append(r.Fields, text.Int(text.KeyMore, 1))
			return false
		}
		item := text.Reply{Kind: text.KindItem, Arg: name}
		size += len(name) + 8
		if req.Stat {
			z := child()
			item.Fields = text.AppendStat(nil, &z.Stat)
			size += 128
		}
		r.Items = append(r.Items, item)
		return true
	})
}

func (c *conn) tree(r *text.Reply, req *text.Request, ids []znode.Identity, t *tree.Tree) {
	if _, code := t.Get(req.Path, ids, znode.Read); code != znode.OK {
		fail(r, code, req.Path)
		return
	}
	r.Kind = text.KindList
	r.Fields = append(r.Fields, text.Zxid(text.KeyZxid, t.Counters().Zxid))
	depth := int(req.Depth)
	if depth == 0 {
		depth = -1
	}
	skip := t.Counters().Settings.SkipACL
	size := 0
	t.Walk(req.Path, req.After, depth, ids, func(path string, read func() tree.Znode) bool {
		item := text.Reply{Kind: text.KindItem, Arg: path}
		cost := len(path) + 8
		var z tree.Znode
		if req.Stat || req.Data {
			z = read()
		}
		if req.Data {
			item.Arg, item.Fields = "", []text.Field{text.Str(text.KeyPath, path)}
			cost += len(z.Data) + 16
			if skip || z.ACL.Allows(ids, znode.Read) {
				item.Kind, item.Data = text.KindData, bytesOf(z.Data)
			} else {
				item.Kind, item.Code = text.KindErr, znode.ErrNoAuth
			}
		}
		if req.Stat && item.Kind != text.KindErr {
			item.Fields = text.AppendStat(item.Fields, &z.Stat)
			cost += 128
		}
		if len(r.Items) >= int(req.Limit) || len(r.Items) > 0 && size+cost > MaxListBytes {
			r.Fields = append(r.Fields, text.Int(text.KeyMore, 1))
			return false
		}
		size += cost
		r.Items = append(r.Items, item)
		return true
	})
}

func (c *conn) getACL(r *text.Reply, req *text.Request, ids []znode.Identity, t *tree.Tree) {
	z, code := t.Get(req.Path, ids, znode.Read|znode.Admin)
	if code != znode.OK {
		fail(r, code, req.Path)
		return
	}
	acl := z.ACL
	if !t.Counters().Settings.SkipACL && !acl.Allows(ids, znode.Admin) {
		acl = acl.Redacted()
	}
	r.Kind = text.KindList
	r.Fields = append(r.Fields, text.Int(text.KeyAversion, int64(z.Stat.Aversion)))
	for _, e := range acl {
		r.Items = append(r.Items, text.Reply{Kind: text.KindItem, Arg: e.String()})
	}
}

// hello introduces the node. A client that has seen more than this node must not
// see time go back: it is told to go elsewhere.
func (c *conn) hello(r *text.Reply, req *text.Request, t *tree.Tree) {
	zxid := t.Counters().Zxid
	if req.Zxid > zxid {
		r.Kind, r.Code = text.KindErr, znode.ErrNoLeader
		r.Message = "this node has not seen zxid " + req.Zxid.String() + " yet"
		r.Fields = append(r.Fields, text.Zxid(text.KeyZxid, zxid))
		return
	}
	version, node, role, cluster := c.s.cfg.Node.Hello()
	r.Kind = text.KindOK
	r.Fields = append(r.Fields, text.Int(text.KeyProto, 1), text.Str(text.KeyServer, "coord"), text.Str(text.KeyNodeVersion, version),
		text.Str(text.KeyNode, node), text.Str(text.KeyRole, role), text.Str(text.KeyCluster, cluster), text.Zxid(text.KeyZxid, zxid))
}

// sniff reads the first bytes and tells the protocols apart. It answers
// four-letter words itself and says whether the text protocol is spoken.
func (c *conn) sniff() bool {
	for {
		if len(c.in) > 0 {
			switch first := c.in[0]; {
			case first == 0x00, first == 0x16: // a ZooKeeper frame, TLS: not spoken by this version
				c.s.stats.protocolErrors.Add(1)
				return false
			case first < 'a' || first > 'z':
				return true
			case len(c.in) >= 4:
				word := string(c.in[:4])
				if !fourLetterWords[word] {
					return true
				}
				c.fourLetter(word)
				return false
			case strings.ContainsAny(string(c.in), "\r\n "):
				return true
			}
		}
		if !c.fill() {
			return false
		}
	}
}
