package cmd

import (
	"os"
	"strconv"

	"coord/snapshot"
)

// giveWay lowers the priority of this process: a backup beside a server must not
// take the processor from its clients. Threads that the runtime starts later
// inherit it. Where it cannot be done nothing is lost but that.
func giveWay() {
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
