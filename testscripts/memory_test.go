package testscripts

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// littleMemory makes a cgroup with this memory limit and returns a wrapper that starts a process in it. Where that is
// not possible, it skips the test.
func littleMemory(t *testing.T, bytes int) (wrapper []string) {
	t.Helper()
	for _, at := range []struct{ dir, limit string }{
		{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, // version 2, version 1
	} {
		dir, err := os.MkdirTemp(at.dir, "coord-test") //nolint:usetesting // in the file system of cgroups
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			for range 100 { // the killed process leaves the cgroup after a moment
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		limit := filepath.Join(dir, at.limit)
		if _, err := os.Stat(limit); err == nil && os.WriteFile(limit, []byte(strconv.Itoa(bytes)), 0) == nil {
			_ = os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0)
			return []string{"sh", "-c", `echo $$ > ` + filepath.Join(dir, "cgroup.procs") + ` && exec "$@"`, "sh"}
		}
	}
	t.Skip("SKIPPED: no cgroup with a limit of memory can be made here (root, and the memory controller)")
	return nil
}

// TestLittleMemory: a burst of writes does not end a server that has 128 MiB. The live data fits easily; only the garbage
// could exceed the limit. Without its own limit (GOMEMLIMIT=off) the server is killed.
func TestLittleMemory(t *testing.T) {
	t.Parallel()
	wrapper := littleMemory(t, 128<<20)
	bin, err := release()
	if err != nil {
		t.Fatal(err)
	}
	p, err := startBinary(t, bin, filepath.Join(t.TempDir(), "data"), wrapper)
	if err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := run(t, "bench", "--server", p.addr, "--mix", "set=1", "--size", "1k", "--clients", "64", "--warmup", "0s", "--requests", "100000"); code != 0 {
		t.Fatalf("coord bench: %d: %s", code, stderr)
	}
	p.ask("GET /")
}
