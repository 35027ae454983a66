package server

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// inBackground runs f on a thread of its own with the lowest priority, so that
// whoever serves clients gets the processor first, and waits for it.
func inBackground(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and with it its priority.
		runtime.LockOSThread()
		// The least priority; a kernel that refuses leaves f at the usual one.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
		done <- f()
	}()
	return <-done
}
