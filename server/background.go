package server

import (
	"runtime"

	"golang.org/x/sys/unix"

	"coord/snapshot"
)

// inBackground runs f on a thread of its own with the lowest priority, so that
// whoever serves clients gets the processor first, and waits for it to end.
func inBackground(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and with it its priority.
		runtime.LockOSThread()
		snapshot.GiveWay(unix.Gettid())
		done <- f()
	}()
	return <-done
}
