package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"coord/snapshot/datadir"
)

// task is what a child process does: the test binary, started again.
type task struct {
	File, DataDir string // for a restore
	Replace       bool
	LostQuorum    bool   // of DataDir; File is ignored
	NoExchange    bool   // the file system cannot exchange
	KillAt        int    // the child kills itself before the n-th change of the disk, counting from 1 …
	KillAfter     string // … or before the change after this step
	Recover       string // a data folder to recover
	Hold          string // a data folder to hold open until stdin ends
}

// child performs the task in the environment, as a process that can be killed.
func child() {
	var x task
	if err := json.Unmarshal([]byte(os.Getenv("COORD_RESTORE_CHILD")), &x); err != nil {
		panic(err)
	}
	steps, last := 0, ""
	kill := func(p Progress) error {
		if p.Step == "" {
			return nil
		}
		steps++
		fmt.Println(p.Step)
		if steps == x.KillAt || last != "" && last == x.KillAfter {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		last = p.Step
		return nil
	}
	var err error
	switch {
	case x.DataDir != "":
		_, err = Run(context.Background(), x.options(kill))
	case x.Recover != "":
		_, err = Recover(x.Recover)
	case x.Hold != "":
		var d *datadir.Dir
		if d, err = datadir.Open(x.Hold, false); err == nil {
			fmt.Println("held")
			_, _ = os.Stdin.Read(make([]byte, 1))
			err = d.Close()
		}
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

func (x *task) options(progress func(Progress) error) Options {
	o := Options{File: x.File, DataDir: x.DataDir, Replace: x.Replace, Progress: progress}
	if x.LostQuorum {
		o.File, o.LostQuorum = "", true
	}
	if x.NoExchange {
		o.exchange = noExchange
	}
	return o
}

func noExchange(string, string) error { return syscall.EINVAL }

func (x task) command(t testing.TB) *exec.Cmd {
	t.Helper()
	env, err := json.Marshal(x)
	must(t, err)
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "COORD_RESTORE_CHILD="+string(env))
	return c
}

// run runs the child until it ends, and says whether it was killed.
func (x task) run(t testing.TB) (killed bool, steps []string) {
	t.Helper()
	out, err := x.command(t).CombinedOutput()
	steps = strings.Split(strings.TrimSpace(string(out)), "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true, steps
	}
	if err != nil {
		t.Fatalf("child: %v: %s", err, out)
	}
	return false, steps[:len(steps)-1]
}
