package cmd

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// endGroup ends all of a child's process group: TERM, and KILL at a time, which
// may be past. It returns when nobody of it runs any more. It does not wait until
// others have fetched their dead: where process 1 does not, as in many containers,
// that never happens.
func endGroup(c *child, at time.Time) {
	c.signal(syscall.SIGTERM)
	c.signal(syscall.SIGCONT) // a stopped one does not hear it
	for poll := time.Millisecond; groupLives(c.cmd.Process.Pid); poll = min(2*poll, 20*time.Millisecond) {
		if !time.Now().Before(at) {
			c.signal(syscall.SIGKILL)
		}
		time.Sleep(poll)
	}
	<-c.done
}

// groupLives says whether a process of the group still runs.
func groupLives(group int) bool {
	if syscall.Kill(-group, 0) != nil {
		return false
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return true
	}
	want := strconv.AppendInt(nil, int64(group), 10)
	for _, entry := range all {
		if name := entry.Name(); name[0] < '0' || name[0] > '9' {
			continue
		}
		b, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // it has just ended
		}
		// pid (name) state parent group …: the name may hold anything.
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(fields) > 2 && bytes.Equal(fields[2], want) && fields[0][0] != 'Z' && fields[0][0] != 'X' {
			return true
		}
	}
	return false
}
