// Package zookeeper finds the real ZooKeeper that tests hold coord against.
package zookeeper

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Variable is that of the environment which names another ZooKeeper: its classpath,
// as java takes it.
const Variable = "COORD_TEST_ZOOKEEPER"

// debian are the files of Debian's package zookeeper. The jar names all that it needs.
var debian = []string{"/usr/share/java/zookeeper.jar", "/usr/share/zookeeper/bin/zkServer.sh"}

// Classpath is that of the real ZooKeeper: what the environment names, or else Debian's.
// A test is skipped, loudly, where java or Debian's files are missing; with
// COORD_TEST_ALL it fails, as it does where the environment names what is not there.
func Classpath(t testing.TB) string {
	t.Helper()
	missing := func(what string) {
		t.Helper()
		if os.Getenv("COORD_TEST_ALL") != "" {
			t.Fatalf("%s is not installed, and COORD_TEST_ALL wants every test to run", what)
		}
		t.Skipf("SKIPPED: %s is not installed: this test drives it", what)
	}
	if _, err := exec.LookPath("java"); err != nil {
		missing("java")
	}
	if path := os.Getenv(Variable); path != "" {
		for _, part := range filepath.SplitList(path) {
			if found, err := filepath.Glob(part); part != "" && (err != nil || len(found) == 0) { // DIR/* is the jars in it
				t.Fatalf("%s names %s, which is not there", Variable, part)
			}
		}
		return path
	}
	for _, file := range debian {
		if _, err := os.Stat(file); err != nil {
			missing(file)
		}
	}
	return debian[0]
}
