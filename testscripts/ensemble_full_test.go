package testscripts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEnsembleNearlyFull: the free space of the leader's disk falls below the reserve. The
// leadership moves to another node before anything is lost; the full node refuses writes,
// and its reads continue.
func TestEnsembleNearlyFull(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	for _, n := range c.nodes {
		n.dir = filepath.Join(smallDisk(t, "48m"), "data")
	}
	c.form(patience...)
	n := c.leader()
	n.takes(20)
	away, gone := n.others()[1], time.Now()
	away.kill()
	c.eventually("the leader has not heard of it for two elections", func() bool { return time.Since(gone) > 11*time.Second })
	filler := filepath.Join(filepath.Dir(n.dir), "filler")
	fill(t, filler)
	info, err := os.Stat(filler)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filler, info.Size()-1<<20); err != nil { // less than the reserve of 3 MiB
		t.Fatal(err)
	}
	c.eventually("it refuses writes, for the others are too few", func() bool {
		got, err := askAt(n.host+":2181", "SET /probe create x")
		return err == nil && strings.HasPrefix(got, "ERR NOSPACE")
	})
	for full := time.Now(); time.Since(full) < 2*time.Second; pause() { // it checks its disk every second
		if c.leader() != n {
			t.Fatal("a node leads that can do nothing without the full one")
		}
	}
	away.start()
	away.await()
	c.eventually("the leadership goes to a node with room", func() bool {
		_, _ = askAt(n.others()[0].host+":2181", "SET /probe create x") // the leader checks its disk when it writes
		return c.leader() != n
	})
	n.others()[0].takes(20)
	n.synced()
	c.eventually("it refuses writes", func() bool { return strings.HasPrefix(n.ask("SET /probe x"), "ERR NOSPACE") })
	if got := n.ask("GET /probe"); !strings.HasPrefix(got, "DATA") {
		t.Errorf("reads do not go on: %s", got)
	}
	if !strings.Contains(n.stderr(), "the disk is nearly full") {
		t.Errorf("it does not say why: %s", n.stderr())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	n.takes(20)
	c.agree()
}
