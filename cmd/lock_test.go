package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// TestLockLeavesANodeAlone: the first of two servers is partitioned from its
// ensemble: it accepts connections but serves nothing. The session continues on the
// other one.
func TestLockLeavesANodeAlone(t *testing.T) {
	resumed := filepath.Join(t.TempDir(), "resumed")
	answer := func(r *text.Request) []byte {
		out := text.Reply{Kind: text.KindOK}
		switch r.Verb {
		case text.VerbSession:
			out.Fields = []text.Field{text.Hex(text.KeyID, 0x51), text.Str(text.KeyPassword, strings.Repeat("ab", 16))}
		case text.VerbLock:
			out.Fields = []text.Field{text.Hex(text.KeyToken, 9), text.Str(text.KeyPath, r.Path+"/lock-0000000000")}
		}
		return reply(out)
	}
	confirmed := false // needs no lock: the holder has one connection at a time
	fake(t, func(r *text.Request) []byte {
		switch isSync := r.Verb == text.VerbSync; {
		case confirmed && r.Action == text.ResumeSession:
			return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoLeader})
		case confirmed && isSync:
			return nil
		case isSync:
			confirmed = true
		}
		return answer(r)
	})
	alone := os.Getenv("COORD_SERVER")
	fake(t, func(r *text.Request) []byte {
		if r.Action == text.ResumeSession {
			if err := os.WriteFile(resumed, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
		return answer(r)
	})
	t.Setenv("COORD_SERVER", alone+","+os.Getenv("COORD_SERVER"))
	got := coord(t, "", "lock", "--ttl", "9s", "--grace", "1s", "/l", "--", "sh", "-c", "while [ ! -e "+resumed+" ]; do sleep 0.02; done")
	if got.code != exitOK {
		t.Errorf("%+v", got)
	}
}

// TestElectEndsBeforeItsCommand: a signal during --on-lead ends the candidate, and
// its command is not started.
func TestElectEndsBeforeItsCommand(t *testing.T) {
	serve(t, nil)
	hangsUp(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		dir := t.TempDir()
		led, began := filepath.Join(dir, "led"), filepath.Join(dir, "began")
		cmd := coordProcess(t, "elect", "--on-lead", "touch "+led+"; sleep 60", "/e", "--", "touch", began)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "--on-lead runs", func() bool { _, err := os.Stat(led); return err == nil })
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got, want := cmd.ProcessState.ExitCode(), exitSignal+int(sig); got != want {
			t.Errorf("%v: exit code %d, not %d", sig, got, want)
		}
		if _, err := os.Stat(began); err == nil {
			t.Errorf("%v: the command was begun", sig)
		}
		if got := coord(t, "", "elect", "--who", "/e"); got.code != exitFalse && got.code != exitNotFound {
			t.Errorf("%v: there is a leader still: %+v", sig, got)
		}
	}
}

// TestASignalEndsTheWaiting: each signal that would be passed on to the command ends a
// candidate that waits for its turn, and frees its place at once.
func TestASignalEndsTheWaiting(t *testing.T) {
	serve(t, nil)
	hangsUp(t)
	holder := coordProcess(t, "lock", "/l", "--", "sleep", "1000")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = holder.Process.Kill(), holder.Wait() })
	places := func(path string) int { return strings.Count(coord(t, "", "ls", path).out, "\n") }
	eventually(t, "somebody has the lock", func() bool { return places("/l") == 1 })
	for _, args := range []string{"lock --ttl 1h /l -- true", "elect --ttl 1h /l", "elect --ttl 1h /l -- true", "barrier -n 9 --ttl 1h /b", "barrier -n 9 --ttl 1h /b -- true"} {
		path := "/" + args[strings.IndexByte(args, '/')+1:][:1]
		alone := places(path)
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
			x := begin(t, strings.Fields(args)...)
			eventually(t, args+" waits", func() bool { return places(path) == alone+1 })
			x.signal(sig)
			x.ends(exitSignal + int(sig))
			if got := coord(t, "", "session", "ls"); places(path) != alone || strings.Count(got.out, "\n") != 1 {
				t.Errorf("%s: %v leaves a place: %+v", args, sig, got)
			}
			if said := x.stderr(); strings.Contains(said, "goroutine") {
				t.Errorf("%s: %v: %s", args, sig, said)
			}
		}
	}
}

// TestLockWaitsForAServerToo: --wait also ends when a server accepts the connection
// and answers nothing.
func TestLockWaitsForAServerToo(t *testing.T) {
	fake(t, func(*text.Request) []byte { return nil })
	if got := coord(t, "", "lock", "--timeout", "0", "--wait", "50ms", "/l", "--", "true"); got.code != exitNotBegun {
		t.Errorf("%+v", got)
	}
}
