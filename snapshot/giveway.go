package snapshot

import "golang.org/x/sys/unix"

// slice is how long, in nanoseconds, a thread that has given way runs at a time when it gets its
// turn beside busy threads. Kernels since Linux 6.12 use it.
const slice = 100_000

// GiveWay gives every other thread precedence over a thread: clients must not notice work on a
// snapshot. It uses the idle class rather than the lowest priority: a thread that wakes up preempts
// an idle-class thread at once, while a low-priority thread would finish its slice, whose end the
// kernel notices only at the next tick. If the kernel refuses, only that advantage is lost.
func GiveWay(thread int) {
	err := unix.SchedSetAttr(thread, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE, Runtime: slice}, 0)
	if err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, thread, 19)
	}
}
