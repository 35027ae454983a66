package server

import (
	"runtime"

	"golang.org/x/sys/unix"

	"coord/snapshot"
)

// inBackground runs f on a thread of its own with the lowest priority, so that threads that serve
// clients get the processor first. It waits for f to return.
func inBackground(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with the goroutine, and its priority with it.
		runtime.LockOSThread()
		snapshot.GiveWay(unix.Gettid())
		done <- f()
	}()
	return <-done
}
