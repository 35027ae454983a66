package cmd

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how much later than requested the kernel may wake a thread of a server, so as to combine wake-ups:
// see prctl(2), PR_SET_TIMERSLACK. The default is 50 µs.
//
// Go's monitor thread (sysmon) sleeps for 20 µs at a time while anything runs, and for some milliseconds after
// that. At low load it caused half of all thread switches and used half of the server's processor time, and every
// write waited for that time. All timers of coord are for at least a millisecond, except the crier's rest, which
// may be longer.
const timerSlack = 500 * time.Microsecond

// easedVar in the environment says that the process has restarted itself already, or that it must
// not: a debugger would lose its breakpoints.
const easedVar = "COORD_TIMERS_EASED"

// easeTimers sets timerSlack for this process. A thread inherits the value from its creator, and the monitor
// thread starts before any code of ours: so the process replaces itself (execve) before it does anything else.
// Where that fails, the only loss is processor time.
func easeTimers() {
	if os.Getenv(easedVar) != "" {
		_ = os.Unsetenv(easedVar)
		return
	}
	runtime.LockOSThread() // the slack is set per thread
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || time.Duration(now) >= timerSlack {
		return // an operator has set more, for example with systemd's TimerSlackNSec
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0); err != nil {
		return
	}
	_ = syscall.Exec(self, os.Args, append(os.Environ(), easedVar+"=1")) // returns only on failure
}
