package session_test

import (
	"slices"
	"testing"
	"time"

	"coord/server/session"
)

// ask lets the leader answer a question that follows the node's reports over the same links.
func (n *node) ask() {
	const back = time.Millisecond
	n.c.mu.Lock()
	arrives := n.arrives
	n.c.mu.Unlock()
	time.Sleep(max(0, time.Until(arrives)) + back)
}

// sync does what a SYNC on a session's connection does.
func (n *node) sync(id int64) {
	for {
		heard := n.keeper.Vouch(id)
		n.ask()
		if heard() {
			return
		}
	}
}

// TestASyncProvesThatTheLeaderHasHeard: the session has its whole time from when the SYNC was sent, even if the last
// report was lost with a link and the node is cut off right after. The leader's newest report of the session is then
// older than half of the session's time.
func TestASyncProvesThatTheLeaderHasHeard(t *testing.T) {
	const ttl = 15 * time.Second
	for name, isKept := range map[string]bool{"pinged": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			ensemble(t, 2, func(c *cluster) {
				lose := func(all bool) { c.locked(func() { c.lose = func(uint64, []byte) bool { return all } }) }
				// nextReport returns when the node has reported; the client is heard until then.
				nextReport := func() {
					for c.reported(2); len(c.reported(2)) == 0; time.Sleep(expireEvery / 5) {
						c.keeper(2).Touch(1)
					}
				}
				c.open(2, 1, ttl)
				c.keeper(2).Attach(1, 0, ttl, isKept)
				c.alive(time.Second, 1)
				for range 10 {
					nextReport()
				}
				lose(true)
				nextReport()
				c.locked(func() { c.nodes[1].links += 2 }) // down and up again
				lose(false)
				c.keeper(2).Touch(1)
				c.alive(ttl/3-time.Second, 1)
				sent := time.Now()
				c.nodes[1].sync(1)
				lose(true)
				c.alive(time.Until(sent.Add(ttl)), 1)
				c.alive(late)
			})
		})
	}
}

// TestWhatASyncDoesNotProve: a report may be lost with a link or because the leader has changed. The
// leader itself reports to nobody.
func TestWhatASyncDoesNotProve(t *testing.T) {
	const ttl = 15 * time.Second
	for name, tt := range map[string]struct {
		meanwhile func(c *cluster)
		heard     bool
	}{
		"nothing in between":         {func(*cluster) {}, true},
		"a link has gone":            {func(c *cluster) { c.locked(func() { c.nodes[1].links++ }) }, false},
		"another one leads":          {func(c *cluster) { c.elect(3) }, false},
		"the same leads anew":        {func(c *cluster) { c.elect(1) }, false},
		"nobody leads":               {func(c *cluster) { c.elect(0) }, false},
		"the node leads that serves": {func(c *cluster) { c.elect(2) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			ensemble(t, 3, func(c *cluster) {
				c.open(2, 1, ttl)
				c.keeper(2).Attach(1, 0, ttl, false)
				c.alive(ttl/2, 1)
				c.reported(2)
				heard := c.keeper(2).Vouch(1)
				if told := c.reported(2); len(told) != 1 || told[0].to != 1 || len(told[0].b) != 20 {
					t.Errorf("told %v", told)
				}
				tt.meanwhile(c)
				c.nodes[1].ask()
				if got := heard(); got != tt.heard {
					t.Errorf("heard: %t", got)
				}
				if name == "nobody leads" {
					heard = c.keeper(2).Vouch(1)
					c.elect(1)
					if heard() {
						t.Error("nobody led when it was told, and it was heard")
					}
				}
				sent := time.Now()
				c.nodes[1].sync(1)
				c.locked(func() { c.lose = func(uint64, []byte) bool { return true } })
				c.alive(time.Until(sent.Add(ttl)), 1)
			})
		})
	}
}

// TestNobodyVouchesForASessionElsewhere, or for an unknown one; and a node that vouches for a
// session has also heard its client.
func TestNobodyVouchesForASessionElsewhere(t *testing.T) {
	const ttl = 4 * time.Second
	ensemble(t, 2, func(c *cluster) {
		for id := range int64(4) {
			c.open(1, id+1, ttl)
		}
		c.keeper(1).Attach(1, 0, ttl, false)
		c.keeper(2).Attach(2, 0, ttl, false)
		c.keeper(2).Detach(3, 0, ttl)
		c.alive(ttl/2, 1, 2, 3, 4)
		for _, n := range c.nodes {
			c.reported(n.id)
			for id := range int64(5) {
				if heard := n.keeper.Vouch(id + 1); !heard() {
					t.Errorf("node %d, session %d: not heard", n.id, id+1)
				}
			}
		}
		if got := []int{len(c.reported(1)), len(c.reported(2))}; !slices.Equal(got, []int{0, 1}) {
			t.Errorf("told %v times", got)
		}
		c.alive(ttl/2+late, 1, 2)
		c.alive(ttl / 2)
		if known := session.Known(c.keeper(1)); known != 0 {
			t.Errorf("%d are remembered", known)
		}
	})
}
