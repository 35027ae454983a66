package frontend

import (
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// SetLeaderless says that there has been no leader for too long, or that there is one again.
// Without a leader the server disconnects clients of ZooKeeper's protocol, both those that are
// connected and those that connect: they must look for another server, and their sessions stay.
// Clients of the text protocol remain: they can read, and get NOLEADER where a leader is needed.
// Any goroutine may call it, holding no lock.
func (s *Server) SetLeaderless(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaderless.Store(is) // a connection that takes its lock later sees it: see letIn
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

// Replaced says that a snapshot of another node has replaced the tree and the watch table, as a
// restart would. Clients that wait for events or for the end of a session have missed them, and are
// disconnected: they come back and ask for what has happened since. The goroutine that runs dones
// calls it, holding the state lock, before anyone can read the new state.
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

// uproot ends a connection whose watches and session are in a table that no longer exists. If the
// session still belongs to the connection, uproot attaches it to the new table, so that the
// connection leaves the session in the normal way. The state lock and mu are held.
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
