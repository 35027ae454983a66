package testscripts

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a file system of this size, in memory, for the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("COORD_TEST_ALL") != "" {
			t.Fatalf("no small file system can be mounted (%v), and COORD_TEST_ALL wants every test to run", err)
		}
		t.Skipf("SKIPPED: no small file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill makes a file grow until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		n, err := f.Write(block)
		if err != nil || n < len(block) {
			block = block[:len(block)/2]
		}
	}
}

// pause is the pause between two polls.
func pause() { time.Sleep(20 * time.Millisecond) }
