package cmd

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is by how much the kernel may wake a thread of a server later than the thread has asked for,
// so as to do it together with something else: see prctl(2), PR_SET_TIMERSLACK. The default is 50 µs.
//
// Go's monitor thread (sysmon) sleeps for 20 µs at a time whenever something runs, and for milliseconds behind
// it: at low load that was half of all thread switches and of the server's processor time, and what it cost, every
// write waited for. No timer here is for less than a millisecond, but for the rest of a crier, which may be longer.
const timerSlack = 500 * time.Microsecond

// easedVar in the environment says that the process is the second one, or that there is to be none: a
// debugger would lose its breakpoints.
const easedVar = "COORD_TIMERS_EASED"

// easeTimers gives this process the slack. A thread has it from the one that started it, and the monitor is there
// before any code of ours: so the process begins anew (execve), before it has done anything. Where that cannot be
// done nothing is lost but the processor time.
func easeTimers() {
	if os.Getenv(easedVar) != "" {
		_ = os.Unsetenv(easedVar)
		return
	}
	runtime.LockOSThread() // what is set is the thread's
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || time.Duration(now) >= timerSlack {
		return // an operator has given it more: systemd's TimerSlackNSec
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0); err != nil {
		return
	}
	_ = syscall.Exec(self, os.Args, append(os.Environ(), easedVar+"=1")) // returns only if it fails
}
