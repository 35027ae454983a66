package testscripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEnsembleSendsNoDamage: a leader reads its log again for a node that was away, and finds
// it damaged. It sends none of it, and comes back as a new node.
func TestEnsembleSendsNoDamage(t *testing.T) {
	t.Parallel()
	c := form(t, patience...)
	lead := c.leader()
	away := lead.others()[0]
	old := lead.id()
	away.kill()
	big := filepath.Join(t.TempDir(), "big")
	for i := range 20 { // more than is kept in memory
		if err := os.WriteFile(big, fmt.Appendf(nil, "%s%d", strings.Repeat("x", 700_000), i), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := run(t, "create", "--timeout", "1m", "--server", lead.host+":2181", fmt.Sprintf("/big%d", i), "@"+big); code != 0 {
			t.Fatalf("%d: %s", code, stderr)
		}
	}
	for _, file := range lead.segments() {
		flipRecords(t, file, 0.5)
	}
	away.start()
	away.await()
	c.whole(old)
	for _, n := range c.nodes {
		n.synced()
		for i := range 20 {
			if got := n.ask(fmt.Sprintf("GET /big%d", i)); !strings.HasSuffix(strings.TrimSpace(got), fmt.Sprintf("x%d", i)) {
				t.Errorf("%s lacks /big%d", n.name, i)
			}
		}
	}
	c.agree()
}
