package testscripts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEnsembleSecret: nodes with a secret and certificates of coord cert form an
// ensemble. A node with another secret, or with a certificate of another authority, is
// not let in. No node shows the secret in its log or its command line.
func TestEnsembleSecret(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 5)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const secret = "correct-horse-battery-staple"
	right, wrong := write("secret", secret+"\n"), write("wrong", "another-horse-battery-staple\n")
	for _, authority := range []string{"ours", "theirs"} {
		args := []string{"cert", "--dir", filepath.Join(dir, authority)}
		for _, n := range c.nodes {
			args = append(args, n.name)
		}
		if _, stderr, code := run(t, args...); code != 0 {
			t.Fatal(stderr)
		}
	}
	flags := func(n *node, authority, secret string, more ...string) []string {
		pem := func(name string) string { return filepath.Join(dir, authority, name) }
		return append(more, "--secret-file", secret, "--peer-tls-cert", pem(n.name+".crt"), "--peer-tls-key", pem(n.name+".key"),
			"--peer-tls-ca", pem("ca.crt"))
	}
	members, strangers := c.nodes[:3], c.nodes[3:]
	c.nodes = members
	for _, n := range members {
		n.start(flags(n, "ours", right, "--initial", c.initial())...)
	}
	for _, n := range members {
		n.await()
	}
	strangers[0].start(flags(strangers[0], "ours", wrong, "--join", c.hosts[0])...)
	strangers[1].start(flags(strangers[1], "theirs", right, "--join", c.hosts[0])...)
	c.eventually("both strangers are refused", func() bool {
		return strings.Contains(members[0].stderr(), `"code":"proof"`) && strings.Contains(strangers[0].stderr(), "check that both nodes have the same secret") &&
			strings.Contains(members[0].stderr(), "bad certificate") && strings.Contains(strangers[1].stderr(), "unknown authority")
	})
	members[1].does("CREATE /among-us x")
	rows, err := members[2].members()
	if err != nil || len(rows) != 3 {
		t.Fatalf("the members: %+v, %v", rows, err)
	}
	c.agree()
	for _, n := range append(members, strangers...) {
		line, err := os.ReadFile("/proc/" + n.pid() + "/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(n.stderr(), secret) || strings.Contains(string(line), secret) {
			t.Errorf("%s writes the secret down", n.name)
		}
	}
}
