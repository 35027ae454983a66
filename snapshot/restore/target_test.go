package restore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coord/snapshot"
	"coord/snapshot/datadir"
)

// F16, F17: what may be a target and what must never be one. A refused target stays the same to the byte.
func TestTargets(t *testing.T) {
	t.Parallel()
	proto := t.TempDir()
	s := newSample(t, proto)
	type want int
	const (
		done want = iota
		notEmpty
		refused
		usage
		inUse
		unfinished
	)
	for name, c := range map[string]struct {
		o      Options
		target func(t *testing.T, base string, s *sample) string // "": base/data
		want   want
	}{
		"data":          {want: notEmpty},
		"data, replace": {o: Options{Replace: true}},
		"data, dry run": {o: Options{DryRun: true}, want: notEmpty},
		"no name":       {want: usage, target: func(*testing.T, string, *sample) string { return "-" }},
		"root":          {o: Options{Replace: true}, want: refused, target: func(*testing.T, string, *sample) string { return "/" }},
		"root, in disguise": {o: Options{Replace: true}, want: refused, target: func(t *testing.T, base string, _ *sample) string {
			must(t, os.Symlink("/", filepath.Join(base, "link")))
			return filepath.Join(base, "link")
		}},
		"home": {o: Options{Replace: true}, want: refused, target: func(t *testing.T, _ string, _ *sample) string {
			return got(os.UserHomeDir())(t)
		}},
		"foreign files": {o: Options{Replace: true}, want: refused, target: func(t *testing.T, base string, _ *sample) string {
			must(t, os.Mkdir(filepath.Join(base, "mine"), 0o755))
			must(t, os.WriteFile(filepath.Join(base, "mine", "letter"), nil, 0o644))
			return filepath.Join(base, "mine")
		}},
		"foreign folder of a known name": {o: Options{Replace: true}, want: refused, target: func(t *testing.T, base string, _ *sample) string {
			must(t, os.MkdirAll(filepath.Join(base, "mine", "snapshot", "photos"), 0o755))
			return filepath.Join(base, "mine")
		}},
		"somebody's identity": {o: Options{Replace: true}, want: refused, target: func(t *testing.T, base string, _ *sample) string {
			must(t, os.Mkdir(filepath.Join(base, "mine"), 0o755))
			must(t, os.WriteFile(filepath.Join(base, "mine", "identity"), []byte("AGE-SECRET-KEY"), 0o644))
			return filepath.Join(base, "mine")
		}},
		"ZooKeeper's": {o: Options{Replace: true}, want: refused, target: func(t *testing.T, base string, _ *sample) string {
			must(t, os.MkdirAll(filepath.Join(base, "zk", "version-2"), 0o755))
			return filepath.Join(base, "zk")
		}},
		"data with a foreign file": {o: Options{Replace: true}, target: func(t *testing.T, base string, s *sample) string {
			must(t, os.WriteFile(filepath.Join(s.dir, "NOTES"), []byte("mine"), 0o644))
			return ""
		}},
		"empty folders of a start that never was": {target: func(t *testing.T, base string, _ *sample) string {
			must(t, os.MkdirAll(filepath.Join(base, "new", "wal"), 0o700))
			must(t, os.MkdirAll(filepath.Join(base, "new", "snapshot"), 0o700))
			must(t, os.WriteFile(filepath.Join(base, "new", "ballast"), make([]byte, 10), 0o600))
			return filepath.Join(base, "new")
		}},
		"a file": {want: usage, target: func(t *testing.T, base string, s *sample) string { return s.backup }},
		"missing parent": {want: usage, target: func(t *testing.T, base string, s *sample) string {
			return filepath.Join(base, "no", "such", "place")
		}},
		"parent is a file": {want: usage, target: func(t *testing.T, base string, s *sample) string { return filepath.Join(s.backup, "new") }},
		"a name too long": {want: usage, target: func(t *testing.T, base string, s *sample) string {
			return filepath.Join(base, strings.Repeat("n", 250))
		}},
		"a path too long": {want: usage, target: func(t *testing.T, base string, s *sample) string { return base + strings.Repeat("/n", 3000) }},
		"links in a circle": {want: usage, target: func(t *testing.T, base string, s *sample) string {
			must(t, os.Symlink("loop", filepath.Join(base, "loop")))
			return filepath.Join(base, "loop")
		}},
		"a link to data": {o: Options{Replace: true}, target: func(t *testing.T, base string, s *sample) string {
			must(t, os.Symlink("data", filepath.Join(base, "link")))
			return filepath.Join(base, "link")
		}},
		"a link to nothing": {target: func(t *testing.T, base string, s *sample) string {
			must(t, os.Symlink("nothing", filepath.Join(base, "link")))
			return filepath.Join(base, "link")
		}},
		"a long name, there": {target: func(t *testing.T, base string, s *sample) string {
			dir := filepath.Join(base, strings.Repeat("n", 250))
			must(t, os.Mkdir(dir, 0o700))
			return dir
		}},
		"another restore's, dry run": {o: Options{DryRun: true, Replace: true}, want: unfinished, target: func(t *testing.T, base string, s *sample) string {
			must(t, os.WriteFile(s.dir+".restore-plan", nil, 0o600))
			return ""
		}},
		"another restore runs": {o: Options{Replace: true}, want: inUse, target: func(t *testing.T, base string, s *sample) string {
			f := got(os.OpenFile(s.dir+".restore-plan", os.O_RDWR|os.O_CREATE, 0o600))(t)
			must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
			t.Cleanup(func() { _ = f.Close() })
			return ""
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			s := s.in(t, proto, base)
			dir := s.dir
			if c.target != nil {
				dir = c.target(t, base, s)
			}
			switch dir {
			case "":
				dir = s.dir
			case "-":
				dir = ""
			}
			before := hashFolder(t, base)
			o := c.o
			o.File, o.DataDir = s.backup, dir
			r, err := Run(context.Background(), o)
			switch c.want {
			case notEmpty:
				_ = wantAs[*NotEmptyError](t, err)
			case refused:
				_ = wantAs[*RefusedError](t, err)
			case usage:
				_ = wantAs[*TargetError](t, err)
			case inUse:
				_ = wantAs[*datadir.InUseError](t, err)
			case unfinished:
				if !errors.Is(err, datadir.ErrUnfinished) {
					t.Errorf("error %v", err)
				}
			case done:
				must(t, err)
				n := start(t, dir)
				defer n.stop()
				if content(n.tree) != s.content {
					t.Error("the content differs")
				}
				if link, err := os.Lstat(filepath.Join(base, "link")); err == nil && link.Mode()&os.ModeSymlink == 0 {
					t.Error("the link was replaced")
				}
				if name == "data with a foreign file" {
					if b, _ := os.ReadFile(filepath.Join(r.Kept, "NOTES")); string(b) != "mine" {
						t.Error("the foreign file is gone")
					}
				}
				return
			}
			if hashFolder(t, base) != before {
				t.Error("something was changed")
			}
		})
	}
}

// A folder that is a mount point is filled and replaced from within.
func TestMountPoint(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	dir := mount(t, base, "volume", 64<<20)
	r := run1(t, Options{File: s.backup, DataDir: dir})
	if !r.Inside || r.Kept != "" {
		t.Errorf("report %+v", r)
	}
	n := start(t, dir)
	n.ok(set("/a", "changed"))
	n.stop()
	r = run1(t, Options{File: s.backup, DataDir: dir, Replace: true})
	if !r.Inside || filepath.Dir(r.Kept) != dir || !r.Replaced.Known == (r.Replaced.Cluster == s.identity.Cluster.String()) {
		t.Errorf("report %+v of %+v", r, r.Replaced)
	}
	n = start(t, dir)
	if content(n.tree) != s.content {
		t.Error("the content differs")
	}
	n.stop()
	if _, err := readFolder(&ticker{ctx: context.Background()}, r.Kept, onlyCommitted); err != nil {
		t.Errorf("the kept data: %v", err)
	}
}

// mount mounts a small file system in memory.
func mount(t testing.TB, base, name string, size int) string {
	t.Helper()
	dir := filepath.Join(base, name)
	must(t, os.Mkdir(dir, 0o700))
	if err := unix.Mount("coord-test", dir, "tmpfs", 0, "mode=0700,size="+strconv.Itoa(size)); err != nil {
		skip(t, "a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// F12: the disk gets full at any moment of a restore.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	disk := mount(t, base, "disk", 4<<20)
	dir := filepath.Join(disk, "data")
	must(t, os.CopyFS(dir, os.DirFS(s.dir)))
	before := hashFolder(t, disk)
	filler := filepath.Join(base, "disk", "filler")
	failed := 0
	for n := 1; n < 100; n++ {
		steps := 0
		_, err := Run(context.Background(), Options{File: s.backup, DataDir: dir, Replace: true, Progress: func(p Progress) error {
			if p.Step != "" {
				if steps++; steps == n {
					fill(t, filler)
				}
			}
			return nil
		}})
		_ = os.Remove(filler)
		if err == nil {
			// The exchange needs no room; the last report may have been lost.
			if steps < n {
				break
			}
			must(t, os.RemoveAll(dir))
			kept := got(filepath.Glob(dir + ".pre-restore-*"))(t)
			must(t, os.Rename(kept[0], dir))
			continue
		}
		failed++
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("step %d: %v", n, err)
		}
		if hashFolder(t, disk) != before {
			t.Fatalf("step %d: something was left or changed: %v", n, names(t, disk))
		}
	}
	if failed < 5 {
		t.Errorf("only %d restores met the full disk", failed)
	}
}

// fill leaves no byte free.
func fill(t testing.TB, path string) {
	t.Helper()
	f := got(os.Create(path))(t)
	defer f.Close()
	for n := 1 << 20; n > 0; {
		if _, err := f.Write(make([]byte, n)); err != nil {
			n /= 2
		}
	}
}

// F20: too little room is noticed before the first write.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	n := form(t, filepath.Join(base, "data"))
	for i := range 3 {
		n.ok(create("/"+strconv.Itoa(i), strings.Repeat("x", 1<<20)))
	}
	n.backup(filepath.Join(base, "backup.coord"))
	n.stop()
	disk := mount(t, base, "disk", 3<<20)
	for _, file := range []string{filepath.Join(base, "backup.coord"), "-"} {
		in := got(os.Open(filepath.Join(base, "backup.coord")))(t)
		defer in.Close()
		r, err := Run(context.Background(), Options{File: file, In: in, DataDir: filepath.Join(disk, "data"), Progress: func(p Progress) error {
			if p.Step != "" {
				t.Errorf("%s: step %q", file, p.Step)
			}
			return nil
		}})
		e := wantAs[*NoSpaceError](t, err)
		if !errors.Is(err, syscall.ENOSPC) || e.Need < 3<<20 || r.Space.Need != e.Need {
			t.Errorf("error %+v, space %+v", e, r.Space)
		}
		if len(names(t, disk)) != 0 {
			t.Errorf("left: %v", names(t, disk))
		}
	}
}

// F18: a folder in use is left alone, whatever its lock file says.
func TestInUse(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	c := task{Hold: s.dir}.command(t)
	in := got(c.StdinPipe())(t)
	out := got(c.StdoutPipe())(t)
	must(t, c.Start())
	if _, err := io.ReadFull(out, make([]byte, len("held\n"))); err != nil {
		t.Fatal(err)
	}
	before := hashFolder(t, base)
	check := func(pid int) {
		t.Helper()
		for name, try := range map[string]func() error{
			"restore": func() error {
				_, err := Run(context.Background(), Options{File: s.backup, DataDir: s.dir, Replace: true})
				return err
			},
			"dry run": func() error {
				_, err := Run(context.Background(), Options{File: s.backup, DataDir: s.dir, Replace: true, DryRun: true})
				return err
			},
			"snapshot": func() error {
				_, err := Snapshot(context.Background(), OfflineOptions{DataDir: s.dir})
				return err
			},
		} {
			if e := wantAs[*datadir.InUseError](t, try()); e.PID != pid {
				t.Errorf("%s: %v, want process %d", name, e, pid)
			}
		}
	}
	check(c.Process.Pid)
	if hashFolder(t, base) != before {
		t.Error("something was changed")
	}
	// Only the lock counts, not the contents of the lock file: a process that is gone, a process
	// that now has the number, nonsense.
	for content, pid := range map[string]int{"": 0, "nonsense\n": 0, "4194305\n": 0, strconv.Itoa(os.Getpid()): os.Getpid()} {
		must(t, os.WriteFile(filepath.Join(s.dir, "lock"), []byte(content), 0o600))
		check(pid)
	}
	must(t, in.Close())
	must(t, c.Wait())
	must(t, os.WriteFile(filepath.Join(s.dir, "lock"), []byte(strconv.Itoa(os.Getpid())), 0o600))
	run1(t, Options{File: s.backup, DataDir: s.dir, Replace: true}) // a pid alone locks nothing
}

// No process gets into the folder from the plan on until the restore is done, not even in the gap
// between two renames; and an empty folder that a process created in that gap does not stop the restore.
func TestNobodyGetsIn(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"data", "empty", "missing"} {
		for _, can := range []bool{true, false} {
			t.Run(kind+" "+strconv.FormatBool(can), func(t *testing.T) {
				t.Parallel()
				base := t.TempDir()
				s := newSample(t, base)
				if kind != "data" {
					must(t, os.RemoveAll(s.dir))
				}
				if kind == "empty" {
					must(t, os.Mkdir(s.dir, 0o700))
				}
				o := (&task{File: s.backup, DataDir: s.dir, Replace: true, NoExchange: !can}).options(func(p Progress) error {
					if p.Step == "" || p.Step == "make the plan file" {
						return nil
					}
					_, err := datadir.Open(s.dir, true)
					var inUse *datadir.InUseError
					if !errors.As(err, &inUse) {
						t.Errorf("before %q: open: %v", p.Step, err)
					}
					if _, err := Recover(s.dir); !errors.As(err, &inUse) {
						t.Errorf("before %q: recover: %v", p.Step, err)
					}
					if p.Step == "move the new folder in" && kind != "missing" {
						must(t, os.Mkdir(s.dir, 0o700))
						must(t, os.WriteFile(filepath.Join(s.dir, "lock"), nil, 0o600))
					}
					return nil
				})
				run1(t, o)
				start(t, s.dir).stop()
			})
		}
	}
}

// A folder that appears where there was none is not replaced.
func TestMadeMeanwhile(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"make the plan file", "look at the target again", "begin the exchange", "move the new folder in"} {
		base := t.TempDir()
		s := newSample(t, base)
		dir := filepath.Join(base, "new")
		_, err := Run(context.Background(), Options{File: s.backup, DataDir: dir, Progress: func(p Progress) error {
			if p.Step == at {
				must(t, os.Mkdir(dir, 0o700))
				must(t, os.WriteFile(filepath.Join(dir, "precious"), []byte("data"), 0o600))
			}
			return nil
		}})
		if err == nil {
			t.Errorf("%s: restored over it", at)
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "precious")); string(b) != "data" {
			t.Errorf("%s: it is gone", at)
		}
		onlyData(t, base, "new")
	}
}

// After a restore by root the files belong to the folder's owner.
func TestOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		skip(t, "only root can give files away")
	}
	for _, inside := range []bool{false, true} {
		base := t.TempDir()
		s := newSample(t, base)
		if inside {
			must(t, os.Mkdir(filepath.Join(s.dir, "lost+found"), 0o700))
		}
		must(t, filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, 1234, 4321))
		}))
		r := run1(t, Options{File: s.backup, DataDir: s.dir, Replace: true})
		must(t, filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
			if uid, gid, _ := ownerOf(path); uid != 1234 || gid != 4321 {
				t.Errorf("%s belongs to %d:%d", path, uid, gid)
			}
			return err
		}))
		if !strings.Contains(strings.Join(r.Notices, "\n"), "belong to user 1234") {
			t.Errorf("notices %q", r.Notices)
		}
	}
}

// Files that are not a backup of this version are refused by what they are, before anything is written.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newSample(t, base)
	good := got(os.ReadFile(s.backup))(t)
	file := filepath.Join(base, "x")
	dir := filepath.Join(base, "new")
	try := func(b []byte) error {
		must(t, os.WriteFile(file, b, 0o600))
		_, err := Run(context.Background(), Options{File: file, DataDir: dir})
		return err
	}
	for n := 0; n < len(good); n += 97 {
		var damage *snapshot.DamageError
		var foreign *snapshot.ForeignError
		if err := try(good[:n]); !errors.As(err, &damage) && !errors.As(err, &foreign) {
			t.Errorf("cut at %d: %v", n, err)
		}
		flipped := bytes.Clone(good)
		flipped[n] ^= 0x10
		var newer *snapshot.NewerError
		if err := try(flipped); !errors.As(err, &damage) && !errors.As(err, &foreign) && !errors.As(err, &newer) {
			t.Errorf("flipped at %d: %v", n, err)
		}
	}
	_ = wantAs[*snapshot.ForeignError](t, try([]byte("\x1f\x8b gzip")))
	_ = wantAs[*snapshot.ForeignError](t, try(nil))
	must(t, os.WriteFile(file+".part", good, 0o600))
	_, err := Run(context.Background(), Options{File: file + ".part", DataDir: dir})
	_ = wantAs[*snapshot.DamageError](t, err)
	_, err = Run(context.Background(), Options{File: base, DataDir: dir})
	_ = wantAs[*snapshot.ForeignError](t, err)
	_, err = Run(context.Background(), Options{File: file + ".none", DataDir: dir})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, o := range []Options{{DataDir: dir}, {File: file, DataDir: dir, SequenceAdvance: -1}} {
		if r, err := Run(context.Background(), o); r != nil || err == nil {
			t.Errorf("%+v: %v %v", o, r, err)
		}
	}
	onlyData(t, base, "x", "x.part")
}

// Servers start all the time while restores run: each finds a complete folder or is kept out.
func TestStartsMeetRestores(t *testing.T) {
	t.Parallel()
	base := ramDir(t)
	s := newSample(t, base)
	done := make(chan struct{})
	ended := make(chan struct{})
	var starts atomic.Int64
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			d, err := datadir.Open(s.dir, true)
			if err != nil {
				var inUse *datadir.InUseError
				if !errors.As(err, &inUse) && !errors.Is(err, datadir.ErrUnfinished) {
					t.Errorf("open: %v", err)
				}
				continue
			}
			if _, err := readFolder(&ticker{ctx: context.Background()}, d.Path(), onlyCommitted); err != nil {
				t.Errorf("an opened folder is not whole: %v", err)
			}
			_ = d.Close()
			starts.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
	restored := 0
	until := time.Now().Add(2 * time.Minute) // enough for each side to get its turn, even if the other hangs while it holds the lock
	for n := 0; n < 60 || (restored == 0 || starts.Load() == 0) && time.Now().Before(until); n++ {
		x := task{File: s.backup, DataDir: s.dir, Replace: true, NoExchange: n%2 == 0}
		r, err := Run(context.Background(), x.options(nil))
		var inUse *datadir.InUseError
		switch {
		case err == nil:
			restored++
			must(t, os.RemoveAll(r.Kept))
		case !errors.As(err, &inUse):
			t.Errorf("restore: %v", err)
		}
	}
	close(done)
	<-ended
	if n := starts.Load(); n == 0 || restored == 0 {
		t.Errorf("%d starts, %d restores", n, restored)
	}
	start(t, s.dir).stop()
	onlyData(t, base)
}
