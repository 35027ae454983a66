package text_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"coord/server/text"
	"coord/tree/znode"
)

// The part of mapServer that needs more than a map: events, waits, sessions, locks; only as much of
// it as the examples of the documentation use.

type mapConn struct {
	net.Conn
	out     []byte
	format  text.Format
	session int64
	watches []mapWatch
	ids     int64
}

type mapWatch struct {
	id   int64
	path string
	r    text.Request // GET, or FOLLOW
}

type mapSession struct {
	password string
	holdMS   int64
	conn     *mapConn
}

// watch registers a watch of the connection.
func (c *mapConn) watch(r *text.Request) text.Field {
	c.ids++
	c.watches = append(c.watches, mapWatch{c.ids, r.Path, *r})
	return text.Int(text.KeyID, c.ids)
}

// flush sends the waiting output of all connections.
func (s *mapServer) flush() {
	for _, c := range s.conns {
		_, _ = c.Write(c.out) // its reader notices a broken connection
		c.out = c.out[:0]
	}
}

// fire sends the events of a change, and of the change of the parent's children.
func (s *mapServer) fire(typ znode.EventType, path string) {
	for _, c := range s.conns {
		c.watches = slices.DeleteFunc(c.watches, func(w mapWatch) bool {
			follow := w.r.Verb == text.VerbFollow
			if w.path != path || !follow && typ == znode.NodeChildrenChanged {
				return false
			}
			e := text.Reply{Kind: text.KindEvent, Arg: typ.String(), Fields: []text.Field{text.Str(text.KeyPath, path), text.Zxid(text.KeyZxid, s.zxid)}}
			if typ == znode.NodeCreated || typ == znode.NodeDataChanged {
				e.Fields = append(e.Fields, text.Int(text.KeyVersion, int64(s.nodes[path].stat.Version)))
				if w.r.Data {
					e.Data = s.nodes[path].data
				}
			}
			e.Fields = append(e.Fields, text.Int(text.KeyID, w.id))
			c.out = e.Append(c.out, c.format, false)
			return !follow
		})
	}
	if typ == znode.NodeCreated || typ == znode.NodeDeleted {
		parent, _ := znode.Split(path)
		s.fire(znode.NodeChildrenChanged, parent)
	}
	s.changed.Broadcast()
}

func (s *mapServer) remove(path string) {
	delete(s.nodes, path)
	s.fire(znode.NodeDeleted, path)
}

// until waits for at most ms milliseconds, and says whether the condition has become true.
func (s *mapServer) until(ms int64, there func() bool) bool {
	end := time.Now().Add(time.Duration(ms) * time.Millisecond)
	time.AfterFunc(time.Until(end), func() {
		s.mu.Lock() // otherwise the Broadcast may come before the Wait
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	for !there() {
		if s.flush(); !time.Now().Before(end) {
			return false
		}
		s.changed.Wait()
	}
	return true
}

// unlock releases the session's lock.
func (s *mapServer) unlock(c *mapConn, r *text.Request) text.Reply {
	for path, node := range s.nodes {
		if strings.HasPrefix(path, r.Path+"/lock-") && c.session != 0 && node.stat.EphemeralOwner == c.session {
			s.zxid++
			s.remove(path)
			return text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Zxid(text.KeyZxid, s.zxid)}}
		}
	}
	return failure(znode.ErrNoNode, text.Str(text.KeyPath, r.Path))
}

func (s *mapServer) wait(r *text.Request) text.Reply {
	start := s.zxid
	there := s.until(r.TimeoutMS, func() bool {
		node := s.nodes[r.Path]
		switch r.Condition {
		case text.UntilExists:
			return node != nil
		case text.UntilGone:
			return node == nil
		case text.UntilValue:
			return node != nil && string(node.data) == string(r.Value)
		}
		return s.zxid != start
	})
	if !there {
		return failure(znode.ErrTimeout, text.Str(text.KeyPath, r.Path))
	}
	return text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Zxid(text.KeyZxid, s.zxid)}}
}

func (s *mapServer) open(c *mapConn, holdMS int64) {
	s.zxid++
	s.opened++
	c.session = 1<<48 + s.opened
	sum := sha256.Sum256(fmt.Append(nil, c.session))
	s.sessions[c.session] = &mapSession{password: hex.EncodeToString(sum[:16]), holdMS: holdMS, conn: c}
}

// leave detaches the connection from its session, which ends if it has no hold.
func (s *mapServer) leave(c *mapConn) {
	if own := s.sessions[c.session]; own != nil && own.conn == c {
		if own.conn = nil; own.holdMS == 0 {
			s.end(c.session)
		}
	}
	c.session, c.watches = 0, nil
}

func (s *mapServer) end(session int64) {
	s.zxid++
	delete(s.sessions, session)
	for path, node := range s.nodes {
		if node.stat.EphemeralOwner == session {
			s.remove(path)
		}
	}
}

func (s *mapServer) session(c *mapConn, r *text.Request) text.Reply {
	id := c.session
	switch r.Action {
	case text.NewSession:
		s.open(c, r.HoldMS)
		id = c.session
	case text.ResumeSession:
		id = r.Session
	}
	own := s.sessions[id]
	switch {
	case own == nil:
		return failure(znode.ErrSessionExpired, text.Hex(text.KeySession, uint64(id)))
	case r.Action == text.ResumeSession && own.password != string(r.Value):
		return failure(znode.ErrAuthFailed, text.Hex(text.KeySession, uint64(id)))
	}
	if r.Action == text.ResumeSession {
		own.holdMS = r.HoldMS
	}
	fields := []text.Field{text.Hex(text.KeyID, uint64(id))}
	switch r.Action {
	case text.CloseSession:
		s.end(id)
		c.session, fields = 0, nil
	case text.DetachSession:
		own.conn, own.holdMS, c.session = nil, r.HoldMS, 0
		return text.Reply{Kind: text.KindOK, Fields: append(fields, text.Duration(text.KeyHold, r.HoldMS))}
	default:
		own.conn, c.session = c, id
		fields = append(fields, text.Duration(text.KeyTTL, text.DefaultSessionMS), text.Duration(text.KeyHold, own.holdMS),
			text.Str(text.KeyLive, text.LiveTCP.String()), text.Str(text.KeyPassword, own.password))
	}
	return text.Reply{Kind: text.KindOK, Fields: append(fields, text.Zxid(text.KeyZxid, s.zxid))}
}

// lock supports exclusive locks only.
func (s *mapServer) lock(c *mapConn, r *text.Request) text.Reply {
	if parent, _ := znode.Split(r.Path); s.nodes[parent] == nil {
		return failure(znode.ErrNoNode, text.Str(text.KeyPath, r.Path))
	}
	if c.session == 0 {
		s.open(c, 0)
	}
	if s.nodes[r.Path] == nil {
		s.zxid++
		s.apply(&text.Op{Verb: text.VerbCreate, Path: r.Path, Mode: znode.Container})
	}
	s.zxid++
	rep := s.apply(&text.Op{Verb: text.VerbCreate, Path: r.Path + "/lock-", Mode: znode.EphemeralSequential})
	path := rep.Str(text.KeyPath)
	own := s.nodes[path]
	own.stat.EphemeralOwner = c.session
	first := s.until(r.TimeoutMS, func() bool {
		for other := range s.nodes {
			if strings.HasPrefix(other, r.Path+"/") && other < path {
				return false
			}
		}
		return true
	})
	if !first {
		s.zxid++
		s.remove(path)
		return failure(znode.ErrTimeout, text.Str(text.KeyPath, r.Path))
	}
	return text.Reply{Kind: text.KindOK, Fields: []text.Field{
		text.Zxid(text.KeyToken, own.stat.Czxid), text.Str(text.KeyPath, path), text.Zxid(text.KeyZxid, s.zxid),
	}}
}
