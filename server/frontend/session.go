package frontend

import (
	"crypto/subtle"
	"encoding/hex"
	"math"
	"time"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// Sessions decides which sessions live: session.Keeper. Its methods do not wait.
type Sessions interface {
	// Attach says that a session has a connection, through that attachment: it lives
	// as long as that if it is kept, else each Touch gives it another ttl.
	Attach(id int64, attachment uint32, ttl time.Duration, kept bool)
	Touch(id int64)
	// Vouch is a Touch of which the leader is told at once. Once a Barrier that was asked for behind it is
	// passed, heard says whether the leader has heard that; if not, both are to be repeated.
	Vouch(id int64) (heard func() bool)
	// Detach says that it has none any more, and for how long it may have none.
	Detach(id int64, attachment uint32, hold time.Duration)
}

// clientSession is what a connection knows of its session. The reader owns it;
// the id is 0 for none.
type clientSession struct {
	id        int64
	ttl, hold time.Duration
	live      text.Live
	password  [16]byte

	attachment uint32 // of the connection: tree.Session
}

// isPinged says whether the client must be heard of for the session to live.
func (s *clientSession) isPinged() bool { return s.id != 0 && s.live == text.LivePing }

// sessionEnd waits for the end of a connection's session: a watch.Watcher.
type sessionEnd struct{ c *conn }

func (sessionEnd) Identities() []znode.Identity { return nil }
func (sessionEnd) Closed() bool                 { return false }

// Notify ends the connection. The state lock is held.
func (s sessionEnd) Notify(e znode.Event) {
	s.c.mu.Lock()
	s.c.lose(e.Type, e.Session)
	s.c.mu.Unlock()
	s.c.soil()
}

// lose tells the client that the session is not its any more, and closes. mu is held.
func (c *conn) lose(why znode.EventType, id int64) {
	c.end(&text.Reply{Kind: text.KindEvent, Arg: why.String(), Fields: []text.Field{text.Hex(text.KeySession, uint64(id))}})
}

// txn is one of this connection's: with who asks, and through which attachment of its
// session.
func (c *conn) txn(op tree.Op) tree.Txn {
	return tree.Txn{IDs: c.ids, Session: c.sess.id, Attachment: c.sess.attachment, Op: op}
}

// session acts on a SESSION.
func (c *textConn) session(req *text.Request) {
	if !c.isAlone() {
		return
	}
	if c.sess.id == 0 && (req.Action == text.DetachSession || req.Action == text.SessionInfo || req.Action == text.CloseSession && req.Session == 0) {
		c.replyError(req, znode.ErrSessionExpired, "this connection has no session")
		return
	}
	switch req.Action {
	case text.NewSession:
		c.leaveSession()
		if c.newSession(req, ms(req.TTLMS), ms(req.HoldMS), req.Live) {
			c.replySession(req, true)
		}
	case text.ResumeSession:
		c.resume(req)
	case text.SessionInfo:
		c.replySession(req, false)
	case text.DetachSession:
		id := c.sess.id
		if !c.leave(ms(req.HoldMS)) {
			return
		}
		c.reply(&text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: []text.Field{
			text.Hex(text.KeyID, uint64(id)), text.Duration(text.KeyHold, req.HoldMS)}}, req.CRLF)
	case text.CloseSession:
		c.closeSession(req)
	}
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// openSession makes a session and waits for it. Not ok: the connection has ended
// before it was known what became of it.
func (c *conn) openSession(ttl, hold time.Duration, live text.Live) (code znode.Code, ok bool) {
	x := &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, TimeoutMS: int32(max(ttl, hold).Milliseconds())}
	code, _, ok = c.attach(x, max(ttl, hold))
	if ok && code == znode.OK {
		c.adopt(clientSession{id: x.Target, ttl: ttl, hold: hold, live: live, password: [16]byte(x.Password)})
	}
	return code, ok
}

// attach proposes a txn that gives a session to this connection, and waits for it. Not
// ok: the connection has ended before it was known what became of it, and the
// session may go when it has been silent for so long. It takes mu.
func (c *conn) attach(x *tree.Txn, silence time.Duration) (code znode.Code, attachment uint32, ok bool) {
	came, gone := false, false
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.goesOn() {
		return znode.OK, 0, false
	}
	c.s.cfg.Backend.Submit(x, func(r tree.Result, _ *tree.Tree, w *watch.Table) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case r.Code != znode.OK:
		case gone:
			c.s.cfg.Sessions.Detach(x.Target, r.Attachment, silence)
		default:
			w.Attach(sessionEnd{c}, x.Target)
		}
		came, code, attachment = true, r.Code, r.Attachment
		c.changed.Broadcast()
	})
	c.await(func() bool { return came || c.mu.ending })
	gone = !came
	c.leaving = c.leaving || gone
	return code, attachment, !gone
}

// hearLeader waits until everything committed before is applied here, and says
// whether that has come about. Not ok: the connection has ended before. It takes mu.
func (c *conn) hearLeader() (code znode.Code, ok bool) {
	came := false
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.goesOn() {
		return znode.OK, false
	}
	c.s.cfg.Backend.Barrier(func(r tree.Result, _ *tree.Tree, _ *watch.Table) {
		c.mu.Lock()
		defer c.mu.Unlock()
		came, code = true, r.Code
		c.changed.Broadcast()
	})
	c.await(func() bool { return came || c.mu.ending })
	c.leaving = c.leaving || !came
	return code, came
}

// adopt makes a session the connection's. The watch table knows it already, and
// knows better: who has it there has it.
func (c *conn) adopt(s clientSession) {
	c.sess = s
	c.s.cfg.Backend.View(func(t *tree.Tree, w *watch.Table) {
		c.mu.Lock() // see leave
		defer c.mu.Unlock()
		c.mu.session, c.mu.sessionTTL, c.mu.attachment = s.id, s.ttl, s.attachment
		switch {
		case w.Attached(s.id) == (sessionEnd{c}):
			c.s.cfg.Sessions.Attach(s.id, s.attachment, s.ttl, s.live == text.LiveTCP)
		case !c.isOver(): // nobody has said that it is lost: the table is another one
			c.uproot(t, w)
		}
	})
	if s.live == text.LiveTCP {
		noticeSilence(c.nc, s.ttl)
	}
}

// needSession makes a session for a request that cannot be without. If it
// cannot be made the request is answered.
func (c *textConn) needSession(req *text.Request) bool {
	return c.sess.id != 0 || c.isAlone() && c.newSession(req, text.DefaultSessionMS*time.Millisecond, 0, text.LiveTCP)
}

// newSession makes a session for a request. If it cannot be made the request is
// answered.
func (c *textConn) newSession(req *text.Request, ttl, hold time.Duration, live text.Live) bool {
	code, ok := c.openSession(ttl, hold, live)
	if ok && code != znode.OK {
		c.replyError(req, code, code.Error())
		c.leaving = c.leaving || code == znode.ErrUncertain
	}
	return ok && code == znode.OK
}

// resume takes a session over.
func (c *textConn) resume(req *text.Request) {
	s := clientSession{id: req.Session, ttl: ms(req.TTLMS), hold: ms(req.HoldMS), live: req.Live}
	n, err := hex.Decode(s.password[:], req.Value[:min(len(req.Value), 2*len(s.password))])
	good := err == nil && n == len(s.password) && len(req.Value) == 2*len(s.password)
	clear(req.Value)
	switch code, ok := c.takeOver(s, good, req.Zxid); {
	case !ok:
	case code != znode.OK:
		c.replyError(req, code, code.Error())
		c.leaving = c.leaving || code == znode.ErrUncertain
	default:
		c.replySession(req, true)
	}
}

// takeOver makes a session that there is the connection's, if the password is its
// and has the right form. A client that has seen more than this node gets
// ErrTimeout. What is refused here is not proposed; but that there is no such
// session is not said before this node knows what the others do: it may be young.
// Not ok: as attach.
func (c *conn) takeOver(s clientSession, good bool, zxid znode.Zxid) (code znode.Code, ok bool) {
	if code = c.mayTake(&s, good, zxid); code == znode.ErrSessionExpired {
		if code, ok = c.hearLeader(); !ok {
			return code, false
		}
		if code == znode.OK {
			code = c.mayTake(&s, good, zxid)
		}
	}
	own := s.id == c.sess.id
	if code == znode.OK && !own {
		x := &tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: s.id, Password: s.password[:]}
		if code, s.attachment, ok = c.attach(x, max(s.ttl, s.hold)); !ok {
			return code, false
		}
	}
	switch code {
	case znode.OK:
		if own {
			s.attachment = c.sess.attachment
		} else {
			c.leaveSession()
		}
		c.adopt(s)
	case znode.ErrAuthFailed:
		c.s.stats.authFailed.Add(1)
	}
	return code, true
}

// mayTake says why a session cannot be taken over, as far as this node knows.
func (c *conn) mayTake(s *clientSession, good bool, zxid znode.Zxid) (code znode.Code) {
	c.s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) {
		is, there := t.Session(s.id)
		switch {
		case zxid > t.Counters().Zxid:
			code = znode.ErrTimeout
		case !there:
			code = znode.ErrSessionExpired
		case !good || subtle.ConstantTimeCompare(is.Password[:], s.password[:]) != 1:
			code = znode.ErrAuthFailed
		}
	})
	return code
}

// replySession describes the connection's session.
func (c *textConn) replySession(req *text.Request, secret bool) {
	s := &c.sess
	r := text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: []text.Field{
		text.Hex(text.KeyID, uint64(s.id)), text.Duration(text.KeyTTL, s.ttl.Milliseconds()),
		text.Duration(text.KeyHold, s.hold.Milliseconds()), text.Str(text.KeyLive, s.live.String()),
	}}
	if secret {
		r.Fields = append(r.Fields, text.Str(text.KeyPassword, hex.EncodeToString(s.password[:])))
	}
	c.s.cfg.Backend.View(func(t *tree.Tree, _ *watch.Table) {
		if !secret {
			r.Fields = append(r.Fields, text.Int(text.KeyEphemerals, int64(len(t.Ephemerals(s.id)))))
		}
		r.Fields = append(r.Fields, seen(t))
	})
	c.reply(&r, req.CRLF)
}

// closeSession ends the connection's session, or, for an operator, any.
func (c *textConn) closeSession(req *text.Request) {
	id, by := req.Session, clientSession{}
	if id == 0 || id == c.sess.id {
		id, by = c.sess.id, c.sess
		if !c.leave(c.sess.ttl) { // from here on its end is answered, not told
			return
		}
	} else if !c.operator {
		c.replyError(req, znode.ErrNoAuth, "to close another's session needs operator rights")
		return
	}
	w := c.newWrite(req)
	w.txn = tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id, IDs: c.ids, Session: by.id, Attachment: by.attachment}
	c.submit(&w.write)
}

// leave leaves the session without a connection, for hold. It says whether it was
// still the connection's: it has not ended, nor has another one taken it over.
// Who takes it over comes to the table first, then to lose and so to mu, and then
// says Attach: so Detach is not said behind that.
func (c *conn) leave(hold time.Duration) (had bool) {
	id, attachment := c.sess.id, c.sess.attachment
	c.sess = clientSession{}
	c.s.cfg.Backend.View(func(_ *tree.Tree, w *watch.Table) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.session, c.mu.sessionTTL, c.mu.attachment = 0, 0, 0
		if had = w.Attached(id) == (sessionEnd{c}); had {
			c.s.cfg.Sessions.Detach(id, attachment, hold)
			w.Detach(sessionEnd{c}, id)
		}
	})
	return had
}

// leaveSession is what the end of a connection means for its session: without a
// hold it ends too, unless it is the node that ends the connection. It takes mu. The
// session's end is no request of the client's: it may come behind a lost write.
func (c *conn) leaveSession() {
	s := c.sess
	if s.id == 0 {
		return
	}
	c.mu.Lock()
	keeps := c.mu.keeps
	c.mu.Unlock()
	switch {
	case keeps:
		c.leave(max(s.hold, s.ttl))
		return
	case s.hold > 0:
		c.leave(s.hold)
		return
	case !c.leave(s.ttl):
		return
	}
	x := &tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: s.id, Session: s.id, Attachment: s.attachment}
	c.s.cfg.Backend.Submit(x, func(tree.Result, *tree.Tree, *watch.Table) {})
}

// listSessions answers SESSIONS.
func (c *textConn) listSessions(req *text.Request) {
	if !c.operator {
		c.replyError(req, znode.ErrNoAuth, "the list of sessions needs operator rights")
		return
	}
	if !c.isNext() {
		return
	}
	r := text.Reply{Kind: text.KindList, Tag: req.Tag}
	after := req.Session
	if after == 0 {
		after = math.MinInt64 // sessions of an import may have ids below 0
	}
	c.s.cfg.Backend.View(func(t *tree.Tree, w *watch.Table) {
		t.Sessions(after, func(s tree.Session, ephemerals int) bool {
			if len(r.Items) >= int(min(req.Limit, text.DefaultListLimit)) {
				r.Fields = append(r.Fields, text.Int(text.KeyMore, 1))
				return false
			}
			item := text.Reply{Kind: text.KindItem, Arg: znode.Hex(uint64(s.ID)), Fields: []text.Field{
				text.Duration(text.KeyTTL, int64(s.TimeoutMS)), text.Int(text.KeyEphemerals, int64(ephemerals))}}
			if at, ok := w.Attached(s.ID).(sessionEnd); ok {
				item.Fields = append(item.Fields, text.Str(text.KeyAddr, at.c.nc.RemoteAddr().String()))
			}
			r.Items = append(r.Items, item)
			return true
		})
	})
	c.reply(&r, req.CRLF)
}
