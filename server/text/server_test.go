package text_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// mapServer is a server of the protocol on a map: just enough to run the examples of the
// documentation.
type mapServer struct {
	mu       sync.Mutex // guards everything, including the connections
	changed  *sync.Cond
	nodes    map[string]*mapNode
	zxid     znode.Zxid
	conns    []*mapConn
	sessions map[int64]*mapSession
	opened   int64 // sessions
}

type mapNode struct {
	data []byte
	stat text.Stat
}

// startMapServer serves on a free port.
func startMapServer(t *testing.T) (port string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mapServer{nodes: map[string]*mapNode{}, zxid: 0x100000000, sessions: map[int64]*mapSession{}}
	s.changed = sync.NewCond(&s.mu)
	for _, path := range []string{znode.Root, znode.SystemPath, znode.QuotaPath, znode.ConfigPath} {
		s.nodes[path] = &mapNode{}
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				s.serve(&mapConn{Conn: c})
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		all.Wait()
	})
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// serve answers the requests of one connection until it must be closed.
func (s *mapServer) serve(c *mapConn) {
	p := text.NewParser(text.DefaultLimits())
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.leave(c)
		s.conns = slices.DeleteFunc(s.conns, func(other *mapConn) bool { return other == c })
	}()
	var in []byte
	chunk := make([]byte, 4096)
	for {
		n, err := c.Read(chunk)
		if err != nil {
			return
		}
		in = append(in, chunk[:n]...)
		s.mu.Lock()
		for closing := false; ; {
			req, n, err := p.Next(in)
			var refused *text.Error
			switch {
			case errors.As(err, &refused):
				rep := refused.Reply()
				c.out = rep.Append(c.out, c.format, refused.CRLF)
				closing = refused.Close
			case req == nil:
			case req.Verb == text.VerbCat:
				if node := s.nodes[req.Path]; node != nil {
					c.out = append(c.out, node.data...)
				}
				closing = true
			default:
				if req.HasFormat {
					c.format = req.Format
				}
				if closing = req.Verb == text.VerbQuit; closing {
					s.leave(c)
				}
				rep := s.answer(c, req)
				rep.Tag = req.Tag
				c.out = rep.Append(c.out, c.format, req.CRLF)
			}
			in = in[n:]
			if closing || req == nil && err == nil {
				s.flush()
				s.mu.Unlock()
				if closing {
					return
				}
				break
			}
		}
	}
}

func (s *mapServer) answer(c *mapConn, r *text.Request) text.Reply {
	switch r.Verb {
	case text.VerbTxn:
		return s.txn(r)
	case text.VerbSession:
		return s.session(c, r)
	case text.VerbLock:
		return s.lock(c, r)
	case text.VerbUnlock:
		return s.unlock(c, r)
	case text.VerbWait:
		return s.wait(r)
	case text.VerbFollow:
		return text.Reply{Kind: text.KindOK, Fields: []text.Field{c.watch(r), text.Zxid(text.KeyZxid, s.zxid)}}
	}
	if r.Mode.Ephemeral() && c.session == 0 {
		s.open(c, 0)
	}
	if r.Verb == text.VerbCreate || r.Verb == text.VerbSet || r.Verb == text.VerbRm {
		s.zxid++
		rep := s.apply(&r.Op)
		if rep.Kind == text.KindErr {
			s.zxid--
		} else if node := s.nodes[rep.Str(text.KeyPath)]; node != nil && r.Mode.Ephemeral() {
			node.stat.EphemeralOwner = c.session
		}
		return rep
	}
	node := s.nodes[r.Path]
	if node == nil && r.Path != "" {
		return failure(znode.ErrNoNode, text.Str(text.KeyPath, r.Path))
	}
	rep := text.Reply{Kind: text.KindOK}
	zxid := text.Zxid(text.KeyZxid, s.zxid)
	switch r.Verb {
	case text.VerbGet:
		rep.Kind, rep.Data = text.KindData, node.data
		rep.Fields = []text.Field{text.Int(text.KeyVersion, int64(node.stat.Version)), zxid}
		if r.Stat {
			rep.Fields = append(text.AppendStat(nil, &node.stat), zxid)
		}
		if r.Watch {
			rep.Fields = append(rep.Fields, c.watch(r))
		}
	case text.VerbExists:
		rep.Fields = append(text.AppendStat(nil, &node.stat), zxid)
	case text.VerbLs, text.VerbTree:
		return s.list(r, zxid)
	case text.VerbHelp:
		return text.Help(r.Name)
	case text.VerbFormat:
		rep.Fields = []text.Field{text.Str(text.KeyFormat, r.Format.String())}
	case text.VerbPing:
		rep.Arg = "pong"
	case text.VerbQuit:
		rep.Arg = "bye"
	}
	return rep
}

// list answers LS and TREE. A path sorts before all longer ones that begin with the same
// components, as if the slash were the lowest byte.
func (s *mapServer) list(r *text.Request, zxid text.Field) text.Reply {
	rep := text.Reply{Kind: text.KindList, Fields: []text.Field{zxid}}
	order := func(a, b string) int {
		return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
	}
	for _, path := range slices.SortedFunc(maps.Keys(s.nodes), order) {
		item := text.Reply{Kind: text.KindItem, Arg: path}
		after := order(path, r.After) > 0
		level := strings.Count(strings.TrimPrefix(path, strings.TrimSuffix(r.Path, "/")), "/")
		if path == r.Path {
			level = 0
		}
		if r.Verb == text.VerbLs {
			_, item.Arg = znode.Split(path)
			after = item.Arg > r.After
		}
		switch {
		case !znode.Below(path, r.Path) || !after:
			continue
		case r.Verb == text.VerbLs && level != 1, r.Depth > 0 && level > int(r.Depth):
			continue
		case len(rep.Items) == int(r.Limit):
			rep.Fields = append(rep.Fields, text.Int(text.KeyMore, 1))
			return rep
		}
		if r.Data {
			node := s.nodes[path]
			item = text.Reply{Kind: text.KindData, Data: node.data}
			item.Fields = []text.Field{text.Str(text.KeyPath, path), text.Int(text.KeyVersion, int64(node.stat.Version))}
		}
		rep.Items = append(rep.Items, item)
	}
	return rep
}

func (s *mapServer) txn(r *text.Request) text.Reply {
	before := make(map[string]*mapNode)
	for path, node := range s.nodes {
		clone := *node
		before[path] = &clone
	}
	s.zxid++
	rep := text.Reply{Kind: text.KindList, Fields: []text.Field{text.Zxid(text.KeyZxid, s.zxid)}}
	for i := range r.Ops {
		item := s.apply(&r.Ops[i])
		if item.Kind == text.KindErr {
			s.nodes = before
			s.zxid--
			item.Fields = append([]text.Field{text.Int(text.KeyOp, int64(i))}, item.Fields...)
			return item
		}
		rep.Items = append(rep.Items, item)
	}
	return rep
}

func (s *mapServer) apply(op *text.Op) text.Reply {
	path := op.Path
	node := s.nodes[path]
	at, zxid := text.Str(text.KeyPath, path), text.Zxid(text.KeyZxid, s.zxid)
	if op.Verb == text.VerbCreate {
		parent, _ := znode.Split(path)
		above := s.nodes[parent]
		switch {
		case above == nil:
			return failure(znode.ErrNoNode, at)
		case op.Mode.Sequential():
			path += fmt.Sprintf("%010d", above.stat.Cversion)
		case node != nil:
			return failure(znode.ErrNodeExists, at)
		}
		above.stat.Cversion++
		s.nodes[path] = &mapNode{data: bytes.Clone(op.Value)}
		s.nodes[path].stat.Czxid = s.zxid
		s.fire(znode.NodeCreated, path)
		return text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Str(text.KeyPath, path), text.Int(text.KeyVersion, 0), zxid}}
	}
	switch {
	case node == nil:
		return failure(znode.ErrNoNode, at)
	case op.Version != text.AnyVersion && op.Version != node.stat.Version:
		return failure(znode.ErrBadVersion, at, text.Int(text.KeyHave, int64(node.stat.Version)))
	}
	rep := text.Reply{Kind: text.KindOK}
	switch op.Verb {
	case text.VerbSet:
		node.stat.Version++
		node.data = bytes.Clone(op.Value)
		s.fire(znode.NodeDataChanged, path)
		rep.Fields = []text.Field{text.Int(text.KeyVersion, int64(node.stat.Version)), zxid}
	case text.VerbRm:
		s.remove(path)
		rep.Fields = []text.Field{zxid}
	}
	return rep
}

func failure(code znode.Code, fields ...text.Field) text.Reply {
	return text.Reply{Kind: text.KindErr, Code: code, Fields: fields, Message: code.Error()}
}
