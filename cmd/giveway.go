package cmd

import (
	"os"
	"runtime"
	"strconv"

	"coord/snapshot"
)

// giveWay makes this process one that takes what others leave, and not of more
// than one processor: a backup beside a server must not be felt by its clients.
// Threads that the runtime starts later inherit it. Where it cannot be done
// nothing is lost but that.
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
