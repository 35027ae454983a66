package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coord/snapshot/datadir"
)

// scene is a target, and what it must be after a restore, or if there had been none.
type scene struct {
	name    string
	x       task
	prepare func(t testing.TB, base string, s *sample) // makes the target
	inside  bool
}

func scenes() []scene {
	return []scene{
		{name: "replace", x: task{Replace: true}},
		{name: "replace without exchange", x: task{Replace: true, NoExchange: true}},
		{name: "missing", prepare: func(t testing.TB, _ string, s *sample) { must(t, os.RemoveAll(s.dir)) }},
		{name: "empty", prepare: func(t testing.TB, _ string, s *sample) {
			must(t, os.RemoveAll(s.dir))
			must(t, os.Mkdir(s.dir, 0o700))
		}},
		{name: "empty without exchange", x: task{NoExchange: true}, prepare: func(t testing.TB, _ string, s *sample) {
			must(t, os.RemoveAll(s.dir))
			must(t, os.Mkdir(s.dir, 0o700))
			must(t, os.WriteFile(filepath.Join(s.dir, "lock"), nil, 0o600))
		}},
		{name: "lost+found", inside: true, prepare: func(t testing.TB, _ string, s *sample) {
			must(t, os.RemoveAll(s.dir))
			must(t, os.MkdirAll(filepath.Join(s.dir, "lost+found"), 0o700))
		}},
		{name: "replace inside", inside: true, x: task{Replace: true}, prepare: func(t testing.TB, _ string, s *sample) {
			must(t, os.Mkdir(filepath.Join(s.dir, "lost+found"), 0o700))
		}},
		{name: "replace damaged inside", inside: true, x: task{Replace: true}, prepare: func(t testing.TB, _ string, s *sample) {
			must(t, os.Mkdir(filepath.Join(s.dir, "lost+found"), 0o700))
			must(t, os.Remove(filepath.Join(s.dir, "identity")))
		}},
		{name: "lost quorum", x: task{LostQuorum: true, Replace: true}},
		{name: "lost quorum without exchange", x: task{LostQuorum: true, Replace: true, NoExchange: true}},
		{name: "lost quorum inside", inside: true, x: task{LostQuorum: true, Replace: true}, prepare: func(t testing.TB, _ string, s *sample) {
			must(t, os.Mkdir(filepath.Join(s.dir, "lost+found"), 0o700))
		}},
	}
}

// F14: a restore killed before any change of the disk leaves the old folder or, once Recover or the
// same restore has ended it, the new one: never a mix, and nothing is lost.
func TestKill(t *testing.T) {
	t.Parallel()
	proto, lost := t.TempDir(), t.TempDir()
	s, member := newSample(t, proto), newMember(t, lost)
	var points atomic.Int32
	t.Cleanup(func() {
		if n := points.Load(); n < 100 {
			t.Errorf("only %d points were tried", n)
		}
	})
	for _, sc := range scenes() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			base := ramDir(t)
			from, s := proto, s
			if sc.x.LostQuorum {
				from, s = lost, member
			}
			for n := 1; ; n++ {
				again := *s.in(t, from, filepath.Join(base, fmt.Sprint(n)))
				if sc.prepare != nil {
					sc.prepare(t, filepath.Dir(again.dir), &again)
				}
				x := sc.x
				x.File, x.DataDir, x.KillAt = again.backup, again.dir, n
				before := stateOf(t, again.dir)
				killed, steps := x.run(t)
				if !killed {
					sc.ended(t, &again, before)
					break
				}
				points.Add(1)
				at := fmt.Sprintf("killed before %q (%d)", steps[len(steps)-1], n)
				swapping := slices.Contains(steps[:len(steps)-1], "begin the exchange")
				if !swapping && stateOf(t, again.dir) != before {
					t.Errorf("%s: the target has changed", at)
				}
				if plans := existing(datadir.PlanPaths(again.dir)); len(plans) > 0 {
					_, err := datadir.Open(again.dir, true)
					if !errors.Is(err, datadir.ErrUnfinished) {
						t.Errorf("%s: open: %v", at, err)
					}
				}
				if n%3 == 0 { // the same restore again, if it is allowed
					x.Replace = true
					_, err := Run(context.Background(), x.options(nil))
					var refused *RefusedError
					if err != nil && (!x.LostQuorum || !swapping || !errors.As(err, &refused)) { // refused: the first restore was completed
						t.Fatalf("%s: again: %v", at, err)
					}
					start(t, again.dir).stop()
					continue
				}
				if done, err := Recover(again.dir); err != nil {
					t.Fatalf("%s: recover: %v", at, err)
				} else if done == "" && n > 1 && exists(again.dir+".restore-plan") {
					t.Errorf("%s: nothing was recovered", at)
				}
				if stateOf(t, again.dir) == before {
					if swapping && steps[len(steps)-1] != "begin the exchange" {
						// committed, and so completed
						t.Errorf("%s: undone after the point of no return", at)
					}
					onlyData(t, filepath.Dir(again.dir))
					continue
				}
				if !swapping {
					t.Errorf("%s: the target was changed by Recover", at)
				}
				sc.ended(t, &again, before)
			}
		})
	}
}

// in copies the sample.
func (s *sample) in(t testing.TB, proto, base string) *sample {
	t.Helper()
	must(t, os.CopyFS(base, os.DirFS(proto)))
	must(t, filepath.WalkDir(base, func(path string, d os.DirEntry, err error) error { // CopyFS widens modes
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		} else if err == nil {
			return os.Chmod(path, 0o600)
		}
		return err
	}))
	c := *s
	c.node = &node{tb: t, dir: filepath.Join(base, "data"), identity: s.identity, tree: s.tree}
	c.backup = filepath.Join(base, "backup.coord")
	return &c
}

// stateOf is the relevant contents of a folder: everything but what a restore's plan and half-built
// folder add to it.
func stateOf(t testing.TB, dir string) string {
	t.Helper()
	if !exists(dir) {
		return "missing"
	}
	var rest []string
	for _, name := range names(t, dir) {
		if name == "restore-plan" || strings.HasSuffix(name, ".new") {
			rest = append(rest, name)
		}
	}
	return hashFolder(t, dir, rest...)
}

func existing(paths [2]string) (out []string) {
	for _, p := range paths {
		if exists(p) {
			out = append(out, p)
		}
	}
	return out
}

// ended checks a completed restore.
func (sc *scene) ended(t testing.TB, s *sample, before string) {
	t.Helper()
	n := start(t, s.dir)
	if content(n.tree) != s.content {
		t.Error("the content differs")
	}
	n.stop()
	base := filepath.Dir(s.dir)
	kept := got(filepath.Glob(s.dir + ".pre-restore-*"))(t)
	if sc.inside {
		kept = got(filepath.Glob(filepath.Join(s.dir, "pre-restore-*")))(t)
	}
	if !sc.x.Replace {
		if len(kept) > 0 {
			t.Errorf("an empty folder was kept: %v", kept)
		}
		onlyData(t, base)
		return
	}
	if len(kept) != 1 {
		t.Fatalf("kept %v in %v", kept, names(t, base))
	}
	if !sc.inside && hashFolder(t, kept[0]) != before {
		t.Error("the kept folder is not the old one")
	}
	onlyData(t, base, filepath.Base(kept[0]))
	if _, err := readFolder(&ticker{ctx: context.Background()}, kept[0], onlyCommitted); err != nil && !strings.Contains(sc.name, "damaged") {
		t.Errorf("the kept folder: %v", err)
	}
	if rest := names(t, s.dir); slices.Contains(rest, "restore-plan") || slices.ContainsFunc(rest, func(n string) bool { return strings.HasSuffix(n, ".new") }) {
		t.Errorf("left in the folder: %v", rest)
	}
}

// If Recover is killed too, at each rename and removal that strace can hit, the next Recover completes it.
func TestKillRecover(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		skip(t, "strace is missing; Recover is not killed half-way")
	}
	proto := t.TempDir()
	s := newSample(t, proto)
	for _, sc := range scenes() {
		if sc.name == "missing" || strings.HasPrefix(sc.name, "empty") || sc.x.LostQuorum {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			base := ramDir(t)
			for n := 1; ; n++ {
				again := s.in(t, proto, filepath.Join(base, fmt.Sprint(n)))
				if sc.prepare != nil {
					sc.prepare(t, filepath.Dir(again.dir), again)
				}
				before := stateOf(t, again.dir)
				x := sc.x
				x.File, x.DataDir, x.KillAfter = again.backup, again.dir, "begin the exchange"
				killed, steps := x.run(t)
				if !killed {
					t.Fatalf("not killed: %q", steps)
				}
				c := task{Recover: again.dir}.command(t)
				c.Args = append([]string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=/rename.*,/unlink.*,rmdir,/mkdir.*",
					"-e", fmt.Sprintf("inject=/rename.*,/unlink.*,rmdir,/mkdir.*:signal=KILL:when=%d", n)}, c.Args[0])
				c.Path, _ = exec.LookPath("strace")
				out, err := c.CombinedOutput()
				if strings.Contains(string(out), "ptrace") || strings.Contains(string(out), "invalid") {
					skip(t, "strace does not work here: %s", out)
				}
				done, left := Recover(again.dir)
				for inUse := new(*datadir.InUseError); errors.As(left, inUse); done, left = Recover(again.dir) {
					time.Sleep(time.Millisecond) // its last thread is still ending
				}
				if left != nil {
					t.Fatalf("killed at %d after %q: %q %v", n, steps, done, left)
				}
				sc.ended(t, again, before)
				if err == nil { // it was not killed any more
					if n < 2 { // strace counts in each thread separately
						t.Errorf("Recover made only %d changes: %s", n, out)
					}
					break
				}
			}
		})
	}
}

// An error at any step, or the end of the context, leaves everything as it was until the exchange
// begins, and has no effect after that.
func TestStopAtEachStep(t *testing.T) {
	t.Parallel()
	proto := t.TempDir()
	s := newSample(t, proto)
	stop := errors.New("stop")
	for n := 1; ; n++ {
		again := s.in(t, proto, filepath.Join(ramDir(t), "x"))
		base := filepath.Dir(again.dir)
		before := hashFolder(t, base)
		steps := 0
		ctx, cancel := context.WithCancel(context.Background())
		r, err := Run(ctx, Options{File: again.backup, DataDir: again.dir, Replace: true, Progress: func(p Progress) error {
			if p.Step == "" {
				return nil
			}
			if steps++; steps == n && n%2 == 0 {
				cancel()
			} else if steps == n {
				return stop
			}
			return nil
		}})
		cancel()
		if err == nil {
			if r.State != Done {
				t.Errorf("step %d: %v", n, r.State)
			}
			start(t, again.dir).stop()
			if steps < n {
				return
			}
			continue
		}
		if !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
			t.Errorf("step %d: %v", n, err)
		}
		if hashFolder(t, base) != before {
			t.Errorf("step %d: something was left or changed: %v", n, names(t, base))
		}
	}
}

// F13: a failed fsync, wherever it happens, never counts as done: the restore reports it, and
// either the old folder stays or the exchange is partial and Recover completes it.
func TestFsyncFails(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		skip(t, "strace is missing; no fsync is made to fail")
	}
	proto := t.TempDir()
	s := newSample(t, proto)
	base := ramDir(t)
	failed := 0
	for n := 1; n <= 24; n++ {
		again := s.in(t, proto, filepath.Join(base, fmt.Sprint(n)))
		before := stateOf(t, again.dir)
		c := task{File: again.backup, DataDir: again.dir, Replace: true}.command(t)
		c.Args = []string{strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
			"-e", fmt.Sprintf("inject=fsync,fdatasync:error=EIO:when=%d", n), c.Path}
		c.Path = strace
		out, err := c.CombinedOutput()
		if strings.Contains(string(out), "ptrace") || strings.Contains(string(out), "invalid") {
			skip(t, "strace does not work here: %s", out)
		}
		swapped := strings.Contains(string(out), "exchange the folders")
		if err != nil {
			failed++
			if !strings.Contains(string(out), "input/output error") {
				t.Errorf("fsync %d: %s", n, out)
			}
		}
		if _, err := Recover(again.dir); err != nil {
			t.Fatalf("fsync %d: recover: %v after %s", n, err, out)
		}
		if stateOf(t, again.dir) == before {
			if swapped || err == nil {
				t.Errorf("fsync %d: the old folder is there after %v: %s", n, err, out)
			}
			onlyData(t, filepath.Dir(again.dir))
			continue
		}
		if !swapped {
			t.Errorf("fsync %d: the new folder is there after %v: %s", n, err, out)
		}
		(&scene{name: "fsync", x: task{Replace: true}}).ended(t, again, before)
	}
	if failed < 5 {
		t.Errorf("only %d restores failed", failed)
	}
}
