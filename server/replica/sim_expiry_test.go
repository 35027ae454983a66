package replica_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"coord/tree"
	"coord/tree/znode"
)

// What the checker knows of sessions: from the history, which sessions there are and what they own;
// and when a node has heard from their clients, and what it has reported to the leader.

// sessionRecord is a session in the history.
type sessionRecord struct {
	attachment uint32
	since      time.Duration // of the attachment
	ttl        time.Duration
	ended      bool
	znodes     map[string]bool // its ephemerals
}

// signs are a session's last signs of life at a node.
type signs struct {
	node       *simNode
	life       int
	attachment uint32
	since, at  time.Duration
	ttl        time.Duration // the one it was attached with
	kept       bool          // alive as long as the connection is
}

func (s *signs) alive(now time.Duration) bool { return s.kept || now < s.at+s.ttl }

// reported is a report that has reached a leader.
type reported struct {
	to         *simNode
	life       int
	attachment uint32
	at, lives  time.Duration
}

// endedSession is a session that an entry ended, and the ephemerals that ended with it.
type endedSession struct {
	index uint64
	id    int64
	paths []string
}

// eachReported yields the entries of a report: see package session.
func eachReported(b []byte, yield func(id int64, attachment uint32, lives time.Duration)) {
	for ; len(b) >= 20; b = b[20:] {
		yield(int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:]), time.Duration(binary.BigEndian.Uint32(b[16:]))*time.Millisecond)
	}
}

// told checks a node's report: the node must not report a session's time as over while it hears the
// session's client.
func (k *checker) told(n *simNode, b []byte) {
	eachReported(b, func(id int64, attachment uint32, lives time.Duration) {
		rec, s := k.sessions[id], k.signs[id]
		if lives > 0 || rec == nil || s.node != n || s.life != n.life || s.attachment != attachment {
			return
		}
		if s.alive(k.s.now) {
			k.s.fail("node %d says that the time of session %#x is over, %v after it heard its client; it has %v", n.id, id, k.s.now-s.at, s.ttl)
		}
		k.over[id] = k.s.now
	})
}

// took records a report that a leader has received.
func (k *checker) took(n *simNode, b []byte) {
	if n.r.Status().Role != "leader" {
		return
	}
	eachReported(b, func(id int64, attachment uint32, lives time.Duration) {
		k.reports[id] = reported{n, n.life, attachment, k.s.now, lives}
	})
}

// expires checks a leader's decision to end a session.
func (k *checker) expires(l *simNode, x *tree.Txn) {
	s, now := k.s, k.s.now
	rec := k.sessions[x.Target]
	if rec == nil || rec.ended || rec.attachment != x.Attachment {
		return // it will be refused
	}
	early := func(why string, args ...any) {
		s.fail("node %d ends session %#x, attachment %d, early (it has %v): %s", l.id, x.Target, x.Attachment, rec.ttl, fmt.Sprintf(why, args...))
	}
	switch st := l.r.Status(); {
	case now < rec.since+rec.ttl:
		early("it was attached at %v", rec.since)
	case st.Role == "leader" && now < l.leads+rec.ttl:
		early("the node leads since %v", l.leads)
	}
	sign, rep := k.signs[x.Target], k.reports[x.Target]
	n := sign.node
	if n == nil || sign.attachment != x.Attachment || sign.life != n.life || n.r == nil || !sign.alive(now) {
		return
	}
	if n == l {
		early("its client was heard at %v", sign.at)
		return
	}
	if rep.to == l && rep.life == l.life && rep.attachment == x.Attachment && rep.at >= l.leads && now < rep.at+rep.lives {
		early("node %d has said at %v that it lives for %v", n.id, rep.at, rep.lives)
	}
	// If nothing was in the way for that long, a report has arrived.
	free, is := s.net.freeSince(arrow{n.id, l.id})
	st := n.r.Status()
	since := max(n.steady, n.paused, l.steady, l.paused, free, sign.since, k.over[x.Target])
	if is && st.Leader == l.id && now-since > max(rec.ttl, 2*time.Second)/3+time.Second {
		early("node %d has heard its client at %v, and could say so since %v", n.id, sign.at, since)
	}
}

// sessionTxn follows the txns of the history that concern sessions.
func (k *checker) sessionTxn(x *tree.Txn, r tree.Result) {
	s := k.s
	if rec := k.sessions[x.Session]; x.Session != 0 && r.Code == znode.OK && (rec == nil || rec.ended || rec.attachment != x.Attachment) {
		s.fail("a txn through attachment %d of session %#x is done: %+v", x.Attachment, x.Session, rec)
	}
	if r.Code != znode.OK {
		return
	}
	switch rec := k.sessions[x.Target]; x.Kind {
	case tree.KindSession:
		if rec != nil {
			s.fail("session %#x is made twice", x.Target)
		}
		k.sessions[x.Target] = &sessionRecord{since: s.now, ttl: time.Duration(x.TimeoutMS) * time.Millisecond, znodes: map[string]bool{}}
		s.note("session %#x", x.Target)
	case tree.KindAttach:
		if rec == nil || rec.ended || rec.attachment+1 != r.Attachment {
			s.fail("session %#x is attached with %d: %+v", x.Target, r.Attachment, rec)
			return
		}
		rec.attachment, rec.since, rec.ttl = r.Attachment, s.now, time.Duration(x.TimeoutMS)*time.Millisecond
	case tree.KindClose:
		if rec == nil || rec.ended || rec.attachment != x.Attachment {
			s.fail("session %#x ends, as attachment %d was judged: %+v", x.Target, x.Attachment, rec)
			return
		}
		s.note("session %#x ends with %d ephemerals", x.Target, len(rec.znodes))
		rec.ended = true
		gone := endedSession{index: uint64(len(k.entries)) + 1, id: x.Target}
		for path := range rec.znodes {
			gone.paths = append(gone.paths, path)
			delete(k.ephemerals, path)
		}
		slices.Sort(gone.paths)
		for _, path := range gone.paths {
			k.model.remove(path, r.Zxid, s.now)
		}
		k.gone = append(k.gone, gone)
		if x.Origin != 0 && len(gone.paths) > 0 {
			s.seen["ephemerals removed with their session"] += len(gone.paths)
		}
	}
}

// lookAtSessions checks a node's sessions and ephemerals against the history up to an entry, for
// the sessions that have ended.
func (k *checker) lookAtSessions(n *simNode, t *tree.Tree, to uint64) {
	ended := false
	for ; k.goneAt[n] < len(k.gone) && k.gone[k.goneAt[n]].index <= to; k.goneAt[n]++ {
		ended = true
		gone := k.gone[k.goneAt[n]]
		if _, there := t.Session(gone.id); there {
			k.s.fail("session %#x ended with entry %d, and node %d has it at %d", gone.id, gone.index, n.id, to)
		}
	}
	if !ended || to != k.last() {
		return
	}
	for i := range ephemeralNames {
		path := fmt.Sprintf("/e/x%d", i)
		z, code := t.Get(path, nil, 0)
		holder := k.ephemerals[path]
		if there := code == znode.OK; there != (holder != 0) || there && z.Stat.EphemeralOwner != holder {
			k.s.fail("node %d has at %d %s: %t, of session %#x; it should be of %#x", n.id, to, path, there, z.Stat.EphemeralOwner, holder)
		}
	}
}

// endOfSessions: a session that was kept alive lives, a silent one does not.
func (k *checker) endOfSessions() {
	alive := map[int64]bool{}
	for _, o := range k.s.clients.owners {
		if !o.quiet {
			alive[o.id] = true
			if o.conn == nil || o.conn.session == 0 {
				k.s.fail("%v has no connection at the end", o)
			}
		}
		k.endOfWatches(o)
	}
	k.tree.Sessions(-1<<63, func(s tree.Session, _ int) bool {
		if !alive[s.ID] {
			k.s.fail("session %#x, attachment %d, of which nobody is a client, lives at the end: %+v", s.ID, s.Attachment, k.sessions[s.ID])
		}
		return true
	})
}
