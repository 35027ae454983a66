package server

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The count is the number of open files, without the folder that is read to count them.
func TestOpenFiles(t *testing.T) { // not in parallel with tests that open files
	open := func() (n int) {
		for fd := range 1 << 12 {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				n++
			}
		}
		return n
	}
	var want, got int
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if want, got = open(), openFiles(); got == want {
			return
		}
	}
	t.Errorf("%d, not %d", got, want)
}
