package snapshot

import "golang.org/x/sys/unix"

// slice is how long a thread that has given way may run, in nanoseconds, before
// another one that wakes up gets the processor. Kernels since Linux 6.12 take it;
// their own value is some milliseconds, which writes would notice.
const slice = 100_000

// GiveWay lets everybody else have the processor before a thread: work on a
// snapshot must not be felt by those who are served. Where the kernel refuses,
// nothing is lost but that.
func GiveWay(thread int) {
	err := unix.SchedSetAttr(thread, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: 19, Runtime: slice}, 0)
	if err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, thread, 19)
	}
}
