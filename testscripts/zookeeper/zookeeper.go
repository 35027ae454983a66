// Package zookeeper finds the real ZooKeeper with which tests compare coord.
package zookeeper

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Variable is the environment variable that names another ZooKeeper: its classpath,
// in java's syntax.
const Variable = "COORD_TEST_ZOOKEEPER"

// debian are files of Debian's package zookeeper. The jar refers to all jars that it needs.
var debian = []string{"/usr/share/java/zookeeper.jar", "/usr/share/zookeeper/bin/zkServer.sh"}

// Classpath is the classpath of the real ZooKeeper: the one that the environment names,
// or else Debian's. If java or Debian's files are missing, it skips the test and says
// so. With COORD_TEST_ALL the test fails instead, as it does if the environment names
// files that do not exist.
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
			if found, err := filepath.Glob(part); part != "" && (err != nil || len(found) == 0) { // DIR/* is the jars in DIR
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
