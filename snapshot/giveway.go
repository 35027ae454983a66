package snapshot

import "golang.org/x/sys/unix"

// slice is how long a thread that has given way runs at a time, in nanoseconds, when
// it has waited for its turn beside busy ones. Kernels since Linux 6.12 take it.
const slice = 100_000

// GiveWay lets everybody else have the processor before a thread: work on a
// snapshot must not be felt by those who are served. The idle class rather than
// the lowest priority: whoever wakes up gets the processor at once, where a thread
// of low priority is let finish its slice, the end of which is seen at the next tick
// only. Where the kernel refuses, nothing is lost but that.
func GiveWay(thread int) {
	err := unix.SchedSetAttr(thread, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE, Runtime: slice}, 0)
	if err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, thread, 19)
	}
}
