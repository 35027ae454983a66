package server

import (
	"os"
	"runtime"
)

// addProcessor lets Go run one goroutine more at a time than there are processors. A thread in an
// fsync keeps its P until the runtime takes the P away, 20 µs to 10 ms later, and a log writer
// whose fsync returns then waits for a P behind every connection that is ready to run. On a host
// with two processors that is half of the server. The system's own scheduler shares the processors
// well enough. An operator's GOMAXPROCS is left alone. With this call Go no longer follows a
// processor limit (a cgroup's) that changes while the server runs.
func addProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS()
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}
