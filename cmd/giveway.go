package cmd

import (
	"os"
	"runtime"
	"strconv"

	"coord/snapshot"
)

// giveWay makes this process use at most one processor, and only what other
// processes leave of it: the clients of a server on this host must not notice a
// backup. Threads that the runtime starts later inherit that. Where it fails,
// nothing else is lost.
func giveWay() {
	runtime.GOMAXPROCS(1)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			snapshot.GiveWay(tid)
		}
	}
}
