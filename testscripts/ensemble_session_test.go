package testscripts

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// connectZK opens a session with go-zookeeper/zk at any of the nodes.
func connectZK(t *testing.T, timeout time.Duration, hosts ...string) (*zk.Conn, <-chan zk.Event) {
	t.Helper()
	var addrs []string
	for _, h := range hosts {
		addrs = append(addrs, h+":2181")
	}
	conn, events, err := zk.Connect(addrs, timeout, zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	for e := range events {
		if e.State == zk.StateHasSession {
			return conn, events
		}
	}
	t.Fatal("no session")
	return nil, nil
}

// at is the node that a client is connected to.
func (c *cluster) at(conn *zk.Conn) *node {
	host, _, _ := strings.Cut(conn.Server(), ":")
	return c.nodes[slices.Index(c.hosts, host)]
}

// TestEnsembleSessions: a session, its ephemeral and its watches move with their client
// when the client's node is killed, follower or leader; they end on all nodes when the
// client is gone.
func TestEnsembleSessions(t *testing.T) {
	t.Parallel()
	c := form(t)
	const timeout = 30 * time.Second // longer than an election and a client's way to another node take on a busy machine
	conn, events := connectZK(t, timeout, c.hosts...)
	id := conn.SessionID()
	if _, err := conn.Create("/owned", nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		_, _, watch, err := conn.ExistsW(fmt.Sprintf("/awaited%d", round))
		if err != nil {
			t.Fatal(err)
		}
		old := c.at(conn)
		for len(events) > 0 {
			<-events
		}
		old.kill()
		deadline := time.After(hung)
		for back := false; !back; {
			select {
			case e := <-events:
				if e.State == zk.StateExpired {
					t.Fatalf("round %d: the session expired", round)
				}
				back = e.State == zk.StateHasSession
			case <-deadline:
				t.Fatalf("round %d: the client has no node", round)
			}
		}
		if conn.SessionID() != id {
			t.Fatalf("round %d: another session", round)
		}
		lead := c.leader()
		if got := lead.synced("LS /"); !strings.Contains(got, "owned") {
			t.Fatalf("round %d: the ephemeral is gone: %s", round, got)
		}
		// The write goes through a node that the client is not connected to.
		lead.does(fmt.Sprintf("CREATE /awaited%d x", round))
		select {
		case e := <-watch:
			if e.Type != zk.EventNodeCreated {
				t.Fatalf("round %d: the watch says %v", round, e)
			}
		case <-time.After(hung):
			t.Fatalf("round %d: the watch was lost", round)
		}
		old.start()
		old.await()
	}
	// The client disappears silently: the leader expires its session, whichever node served it.
	stopped := c.at(conn)
	stopped.stop() // so that the end of the client's connection goes unnoticed
	conn.Close()
	began := time.Now()
	c.eventually("the ephemeral ends with its session", func() bool {
		for _, n := range c.nodes {
			if n == stopped {
				continue
			}
			if got, err := askAt(n.host+":2181", "SYNC /", "LS /"); err != nil || !strings.HasPrefix(got, "OK") || strings.Contains(got, "owned") {
				return false
			}
		}
		return true
	})
	t.Logf("a session of %v ended %v after its client", timeout, time.Since(began).Round(100*time.Millisecond))
	stopped.signal(syscall.SIGCONT)
	c.agree()
}
