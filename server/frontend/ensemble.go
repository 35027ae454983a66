package frontend

import (
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// SetLeaderless says that there has been no leader for too long, or that there is
// one again. Without one, clients of ZooKeeper's protocol are disconnected, and
// whoever connects is too: they are to look for another server, and their sessions
// stay. Those of the text protocol remain: they read, and hear NOLEADER where a
// leader is needed. Any goroutine may call it, holding no lock.
func (s *Server) SetLeaderless(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaderless.Store(is) // who comes later to its connection's lock sees it: see letIn
	if !is {
		return
	}
	for c := range s.mu.conns {
		c.mu.Lock()
		if c.mu.zk {
			c.dismiss()
		}
		c.mu.Unlock()
	}
}

// Replaced says that a snapshot of another node has replaced tree and watch table,
// as a restart would. Who waits for events or for the end of a session has missed
// them, and is disconnected: the clients come back and ask for what has happened
// since. The goroutine that runs dones calls it, the state lock held, before anyone
// can read the new state.
func (s *Server) Replaced(t *tree.Tree, table *watch.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.conns {
		c.mu.Lock()
		if o := &c.mu.outbox; o.session != 0 || len(o.watches) > 0 || o.waits > 0 {
			c.uproot(t, table)
		}
		c.mu.Unlock()
	}
}

// uproot ends a connection whose watches and session are in a table that is no more.
// If the session is its own still, the new table learns that: then it leaves it as
// any connection does. The state lock and mu are held.
func (c *conn) uproot(t *tree.Tree, table *watch.Table) {
	o := &c.mu.outbox
	switch s, there := t.Session(o.session); {
	case o.session == 0:
	case !there:
		c.lose(znode.SessionEnded, o.session)
	case s.Attachment != o.attachment:
		c.lose(znode.SessionMoved, o.session)
	default:
		table.Attach(sessionEnd{c}, o.session)
	}
	c.dismiss()
}
