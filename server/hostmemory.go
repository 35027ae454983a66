package server

import (
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// limitMemory keeps the memory that Go's runtime uses within what the host has. With the garbage collector's
// percentage alone, the garbage of a burst may grow to eight times the live heap before the next
// tick of tune: to hundreds of MiB, for which the kernel ends a process that has 128 MiB. On a host with much memory
// the limit has no effect.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return // the operator's limit, which the runtime has applied
	}
	if host := hostMemory(memlimit.FromSystem, memlimit.FromCgroup); host > 0 {
		debug.SetMemoryLimit(runtimeShare(host))
	}
}

// runtimeShare is how many of the host's bytes the runtime may use. The rest is for the program's own pages, without
// which nothing runs, for the kernel's buffers, and for other processes.
func runtimeShare(host uint64) int64 {
	const least, aside = 16 << 20, 8 << 20
	return max(least, int64(min(host, 1<<62)/4*3)-aside)
}

// hostMemory is the least of the limits in bytes that can be found out; 0: none can.
func hostMemory(limits ...memlimit.Provider) (least uint64) {
	for _, limit := range limits {
		if n, err := limit(); err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}
