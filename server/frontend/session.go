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

// Sessions decides which sessions live; session.Keeper implements it. Its methods do not wait.
type Sessions interface {
	// Attach says that a session has a connection, through the given attachment. If kept, the
	// session lives as long as the connection; otherwise each Touch gives it another ttl.
	Attach(id int64, attachment uint32, ttl time.Duration, kept bool)
	Touch(id int64)
	// Vouch is a Touch that is reported to the leader at once. When a Barrier that was requested after it
	// is passed, heard says whether the leader has received the report; if not, the caller must repeat
	// both.
	Vouch(id int64) (heard func() bool)
	// Detach says that the session has no connection any more, and for how long it may live without
	// one.
	Detach(id int64, attachment uint32, hold time.Duration)
}

// clientSession is what a connection knows of its session. The reader owns it. The id is 0 if there
// is no session.
type clientSession struct {
	id        int64
	ttl, hold time.Duration
	live      text.Live
	password  [16]byte

	attachment uint32 // of the connection: tree.Session
}

// isPinged says whether the session lives only if the client is heard from.
func (s *clientSession) isPinged() bool { return s.id != 0 && s.live == text.LivePing }

// whole is the session's timeout in the log: the time that it has, even without a connection, when
// another node becomes leader or the server restarts.
func (s *clientSession) whole() time.Duration { return max(s.ttl, s.hold) }

// attachTxn returns a txn that attaches the session to its proposer, with the timeout whole.
// The txn has a copy of the password: it may be encoded after the connection has given up the session.
func (s clientSession) attachTxn(whole time.Duration) *tree.Txn {
	return &tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: s.id, Password: s.password[:], TimeoutMS: int32(whole.Milliseconds())}
}

// sessionEnd is the watch.Watcher that waits for the end of a connection's session.
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

// lose tells the client that the session is no longer its own, and ends the connection. mu is held.
func (c *conn) lose(why znode.EventType, id int64) {
	c.end(&text.Reply{Kind: text.KindEvent, Arg: why.String(), Fields: []text.Field{text.Hex(text.KeySession, uint64(id))}})
}

// txn returns a txn of this connection: with its identities, its session and the attachment.
func (c *conn) txn(op tree.Op) tree.Txn {
	return tree.Txn{IDs: c.ids, Session: c.sess.id, Attachment: c.sess.attachment, Op: op}
}

// session executes a SESSION.
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
		c.detachSession(req)
	case text.CloseSession:
		c.closeSession(req)
	}
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// openSession creates a session and waits for the outcome. If ok is false, the connection has ended
// before the outcome was known.
func (c *conn) openSession(ttl, hold time.Duration, live text.Live) (code znode.Code, ok bool) {
	s := clientSession{ttl: ttl, hold: hold, live: live}
	x := &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, TimeoutMS: int32(s.whole().Milliseconds())}
	code, _, ok = c.attach(x, s.whole())
	if ok && code == znode.OK {
		s.id, s.password = x.Target, [16]byte(x.Password)
		c.adopt(s)
	}
	return code, ok
}

// attach proposes a txn that gives a session to this connection, and waits for the outcome. If ok
// is false, the connection has ended before the outcome was known, and the session may end after
// silence. It takes mu.
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

// setTime writes the timeout of the connection's session to the log, if it changes. ok is as for
// attach.
func (c *conn) setTime(whole time.Duration) (code znode.Code, ok bool) {
	s := &c.sess
	if whole == s.whole() {
		return znode.OK, true
	}
	x := s.attachTxn(whole)
	x.Session, x.Attachment = s.id, s.attachment
	code, _, ok = c.attach(x, whole)
	return code, ok
}

// hearLeader waits until everything committed before is applied here, and returns the outcome of
// that barrier. If ok is false, the connection has ended before it was known. It takes mu.
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

// adopt makes s the connection's session. The watch table has recorded the attachment already, and
// its record decides which connection has the session.
func (c *conn) adopt(s clientSession) {
	c.sess = s
	c.s.cfg.Backend.View(func(t *tree.Tree, w *watch.Table) {
		c.mu.Lock() // see leave
		defer c.mu.Unlock()
		c.mu.session, c.mu.sessionTTL, c.mu.attachment = s.id, s.ttl, s.attachment
		switch {
		case w.Attached(s.id) == (sessionEnd{c}):
			c.s.cfg.Sessions.Attach(s.id, s.attachment, s.ttl, s.live == text.LiveTCP)
		case !c.isOver(): // nobody has reported it lost: a new table has replaced the one it was in
			c.uproot(t, w)
		}
	})
	if s.live == text.LiveTCP {
		noticeSilence(c.nc, s.ttl)
	}
}

// needSession creates a session, if there is none, for a request that needs one. If it cannot, it
// answers the request with the error.
func (c *textConn) needSession(req *text.Request) bool {
	return c.sess.id != 0 || c.isAlone() && c.newSession(req, text.DefaultSessionMS*time.Millisecond, 0, text.LiveTCP)
}

// newSession creates a session for a request. If it cannot, it answers the request with the error.
func (c *textConn) newSession(req *text.Request, ttl, hold time.Duration, live text.Live) bool {
	code, ok := c.openSession(ttl, hold, live)
	return c.succeeded(req, code, ok)
}

// succeeded says whether the txn about a session that a request needed has come about. If it was refused, the request
// is answered; after ErrUncertain the connection ends. Not ok: as attach.
func (c *textConn) succeeded(req *text.Request, code znode.Code, ok bool) bool {
	if ok && code != znode.OK {
		c.replyError(req, code, code.Error())
		c.leaving = c.leaving || code == znode.ErrUncertain
	}
	return ok && code == znode.OK
}

// resume executes a SESSION that resumes an existing session.
func (c *textConn) resume(req *text.Request) {
	s := clientSession{id: req.Session, ttl: ms(req.TTLMS), hold: ms(req.HoldMS), live: req.Live}
	n, err := hex.Decode(s.password[:], req.Value[:min(len(req.Value), 2*len(s.password))])
	good := err == nil && n == len(s.password) && len(req.Value) == 2*len(s.password)
	clear(req.Value)
	if code, ok := c.takeOver(s, good, req.Zxid); c.succeeded(req, code, ok) {
		c.replySession(req, true)
	}
}

// takeOver makes an existing session the connection's, if the client's password matches and is
// well-formed (good). A client that has seen a later state than this node's gets ErrTimeout. An
// attempt that is refused here is not proposed. But that the session does not exist is answered
// only after a barrier, because the session may be so new that this node does not know it yet. ok
// is as for attach.
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
	switch {
	case code != znode.OK:
		ok = true
	case own:
		s.attachment = c.sess.attachment
		code, ok = c.setTime(s.whole())
	default:
		code, s.attachment, ok = c.attach(s.attachTxn(s.whole()), s.whole())
	}
	if !ok {
		return code, false
	}
	switch code {
	case znode.OK:
		if !own {
			c.leaveSession()
		}
		c.adopt(s)
	case znode.ErrAuthFailed:
		c.s.stats.authFailed.Add(1)
	}
	return code, true
}

// mayTake says why a session cannot be taken over, as far as this node knows; OK if it can.
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

// replySession describes the connection's session; secret adds its password.
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

// detachSession leaves the session without a connection. Its hold is written to the log, so that a
// stop of this server does not shorten it.
func (c *textConn) detachSession(req *text.Request) {
	id, hold := c.sess.id, ms(req.HoldMS)
	if hold > 0 {
		code, ok := c.setTime(hold)
		if code == znode.ErrUncertain {
			c.leave(hold) // the session must not end with the connection
		}
		if !c.succeeded(req, code, ok) {
			return
		}
	}
	if c.leave(hold) {
		c.reply(&text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: []text.Field{
			text.Hex(text.KeyID, uint64(id)), text.Duration(text.KeyHold, req.HoldMS)}}, req.CRLF)
	}
}

// closeSession ends the connection's session or, for an operator, any session.
func (c *textConn) closeSession(req *text.Request) {
	id, by := req.Session, clientSession{}
	if id == 0 || id == c.sess.id {
		id, by = c.sess.id, c.sess
		if !c.leave(c.sess.ttl) { // from here on its end is an answer, not an event
			return
		}
	} else if !c.operator {
		c.replyError(req, znode.ErrNoAuth, "closing another client's session needs operator rights")
		return
	}
	w := c.newWrite(req)
	w.txn = tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id, IDs: c.ids, Session: by.id, Attachment: by.attachment}
	c.submit(&w.write)
}

// leave leaves the session without a connection, for hold. It says whether the session was still
// the connection's: it has not ended, and no other connection has taken it over. A connection that
// takes it over goes to the table first, then calls lose, which takes mu, and then calls Attach. So
// Detach is never called after that Attach.
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

// leaveSession leaves the session at the end of a connection. Without a hold the session ends too,
// unless the node ends the connection. It takes mu. The session's end is not a request of the
// client's, so it may come after a lost write.
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
		c.replyError(req, znode.ErrNoAuth, "listing the sessions needs operator rights")
		return
	}
	if !c.isNext() {
		return
	}
	r := text.Reply{Kind: text.KindList, Tag: req.Tag}
	after := req.Session
	if after == 0 {
		after = math.MinInt64 // sessions of an import may have negative ids
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
