package datadir_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coord/snapshot"
	"coord/snapshot/datadir"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *datadir.Dir {
	t.Helper()
	d, err := datadir.Open(path, true)
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func sample() datadir.Identity {
	id := datadir.NewIdentity(time.UnixMilli(1_700_000_000_123))
	id.State, id.Lineage, id.Generation = datadir.Member, snapshot.NewID(), 7
	return id
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	d := open(t, filepath.Join(t.TempDir(), "data"))
	if _, ok, err := d.Identity(); ok || err != nil {
		t.Fatalf("an empty folder has an identity: %v", err)
	}
	want := sample()
	must(t, d.WriteIdentity(want))
	if got, ok, err := d.Identity(); !reflect.DeepEqual(got, want) || !ok || err != nil {
		t.Errorf("read %+v %v %v, want %+v", got, ok, err, want)
	}
	a, b := datadir.NewIdentity(time.Now()), datadir.NewIdentity(time.Now())
	if a.Node == b.Node || a.Cluster == b.Cluster || a.Lineage != a.Cluster || a.State != datadir.Blank || a.Node == 0 {
		t.Errorf("%+v and %+v", a, b)
	}
	if s := datadir.NodeString(0xab); s != "00000000000000ab" {
		t.Errorf("node %s", s)
	}
}

// A cut, a flipped bit, another text: the result is never another identity. H24 (NATS 2.12.1).
func TestIdentityDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, datadir.WriteIdentity(dir, sample()))
	file := filepath.Join(dir, datadir.IdentityName)
	good, err := os.ReadFile(file)
	must(t, err)
	check := func(b []byte, what string) {
		t.Helper()
		must(t, os.WriteFile(file, b, 0o600))
		_, ok, err := datadir.ReadIdentity(dir)
		var damage *datadir.DamageError
		if ok || !errors.As(err, &damage) && !errors.Is(err, datadir.ErrNewer) {
			t.Errorf("%s: %v %v", what, ok, err)
		}
	}
	for n := range good {
		check(good[:n], "cut")
		for bit := range 8 {
			b := bytes.Clone(good)
			b[n] ^= 1 << bit
			check(b, "flipped")
		}
	}
	check(append(bytes.Clone(good), 'x'), "longer")
	must(t, os.WriteFile(file, []byte("coord identity 3\nwhatever\n"), 0o600))
	if _, _, err := datadir.ReadIdentity(dir); !errors.Is(err, datadir.ErrNewer) {
		t.Errorf("newer: %v", err)
	}
	must(t, os.Remove(file))
	must(t, os.Mkdir(filepath.Join(dir, "wal"), 0o700))
	if _, ok, err := datadir.ReadIdentity(dir); ok || err != nil {
		t.Errorf("an empty log without identity: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "wal", "1"), nil, 0o600))
	var damage *datadir.DamageError
	if _, _, err := datadir.ReadIdentity(dir); !errors.As(err, &damage) {
		t.Errorf("a log without identity: %v", err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	if _, err := datadir.Open(filepath.Join(base, "none"), false); !errors.Is(err, datadir.ErrNoFolder) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := datadir.Lock(filepath.Join(base, "none")); !errors.Is(err, datadir.ErrNoFolder) {
		t.Errorf("lock of no folder: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(base, "file"), nil, 0o600))
	if _, err := datadir.Open(filepath.Join(base, "file"), false); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	must(t, os.MkdirAll(filepath.Join(base, "zk", "version-2"), 0o700))
	if _, err := datadir.Open(filepath.Join(base, "zk"), true); !errors.Is(err, datadir.ErrZooKeeper) {
		t.Errorf("ZooKeeper's: %v", err)
	}
	if files, _ := os.ReadDir(filepath.Join(base, "zk")); len(files) != 1 {
		t.Error("ZooKeeper's folder was changed")
	}
	must(t, os.Mkdir(filepath.Join(base, "tricked"), 0o700))
	must(t, os.Symlink("/etc/passwd", filepath.Join(base, "tricked", "lock")))
	if _, err := datadir.Open(filepath.Join(base, "tricked"), true); !errors.Is(err, datadir.ErrNotMine) {
		t.Errorf("a link as lock file: %v", err)
	}

	d := open(t, filepath.Join(base, "a", "b", "data"))
	info, err := os.Stat(d.Path())
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	for _, path := range []string{d.WAL(), d.Snapshots(), d.Ballast()} {
		if filepath.Dir(path) != d.Path() {
			t.Errorf("%s is not in %s", path, d.Path())
		}
	}
}

// A folder with only coord's files is closed to other users; one with other files is left as it is.
func TestMode(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for name, want := range map[string]fs.FileMode{"identity": 0o700, "restore-1.json": 0o700, "pre-restore-1": 0o700, "letter": 0o755} {
		dir := filepath.Join(base, name)
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		open(t, dir)
		info, err := os.Stat(dir)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("a folder with %s has mode %v", name, info.Mode())
		}
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	d := open(t, dir)
	for name, try := range map[string]func() (*datadir.Dir, error){
		"open":   func() (*datadir.Dir, error) { return datadir.Open(dir, false) },
		"create": func() (*datadir.Dir, error) { return datadir.Open(dir, true) },
		"lock":   func() (*datadir.Dir, error) { return datadir.Lock(dir) },
	} {
		_, err := try()
		var inUse *datadir.InUseError
		if !errors.As(err, &inUse) || inUse.PID != os.Getpid() || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, d.Close())
	if b, err := os.ReadFile(filepath.Join(dir, "lock")); err != nil || len(b) != 0 {
		t.Errorf("the lock file says %q after the end", b)
	}

	// Lock changes nothing, and keeps other processes out all the same.
	must(t, os.WriteFile(filepath.Join(dir, "lock"), []byte("4194305\n"), 0o400))
	d, err := datadir.Lock(dir)
	must(t, err)
	_, err = datadir.Open(dir, false)
	var inUse *datadir.InUseError
	if !errors.As(err, &inUse) || inUse.PID != 0 || !d.Held() { // no such process
		t.Errorf("open: %v", err)
	}
	must(t, d.Close())
	if b, _ := os.ReadFile(filepath.Join(dir, "lock")); string(b) != "4194305\n" {
		t.Errorf("the lock file says %q", b)
	}
	must(t, os.Remove(filepath.Join(dir, "lock")))
	d, err = datadir.Lock(dir)
	must(t, err)
	if files, _ := os.ReadDir(dir); len(files) != 0 || !d.Held() {
		t.Errorf("held %v, and a lock file was made: %v", d.Held(), files)
	}
	must(t, d.Close())
}

// TestLockFileRemoved while a process uses the folder: the folder is still in use, however often
// another process tries and leaves a lock file of its own.
func TestLockFileRemoved(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	d := open(t, dir)
	must(t, os.Remove(filepath.Join(dir, "lock")))
	for range 2 {
		for name, try := range map[string]func() (*datadir.Dir, error){
			"lock": func() (*datadir.Dir, error) { return datadir.Lock(dir) },
			"open": func() (*datadir.Dir, error) { return datadir.Open(dir, true) },
		} {
			if _, err := try(); !is[*datadir.InUseError](err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	must(t, d.Close())
	open(t, dir)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// A restore that is under way or was interrupted keeps every process out, also before a missing folder is created.
func TestRestorePlan(t *testing.T) {
	t.Parallel()
	for i := range datadir.PlanPaths("x") {
		base := t.TempDir()
		dir := filepath.Join(base, "data")
		if i == 1 {
			must(t, os.Mkdir(dir, 0o700))
		}
		plan := datadir.PlanPaths(dir)[i]
		must(t, os.WriteFile(plan, nil, 0o600))
		before, _ := os.ReadDir(base)
		if _, err := datadir.Open(dir, true); !errors.Is(err, datadir.ErrUnfinished) {
			t.Errorf("%s: %v", plan, err)
		}
		f, err := os.Open(plan)
		must(t, err)
		must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
		_, err = datadir.Open(dir, true)
		if _, ok := errors.AsType[*datadir.InUseError](err); !ok {
			t.Errorf("%s, locked: %v", plan, err)
		}
		after, _ := os.ReadDir(base)
		if len(after) != len(before) {
			t.Errorf("%s: made %v", plan, after)
		}
		must(t, f.Close())
		must(t, os.Remove(plan))
		open(t, dir)
	}
}

// A process that opened the lock file before the folder was exchanged for another, and locks it
// after that, has locked the wrong folder: it must notice.
func TestFolderExchanged(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir, other := filepath.Join(base, "data"), filepath.Join(base, "other")
	for _, path := range []string{dir, other} {
		d, err := datadir.Open(path, true)
		must(t, err)
		must(t, d.Close())
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
			}
		}
	}()
	opened := 0
	for range 2000 {
		d, err := datadir.Open(dir, false)
		if err != nil {
			continue
		}
		opened++
		must(t, d.Close())
	}
	close(stop)
	<-done
	if opened == 0 {
		t.Error("never opened")
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(base, "deep", "real"), 0o700))
	must(t, os.Symlink("real", filepath.Join(base, "deep", "near")))
	must(t, os.Symlink("../deep/near", filepath.Join(base, "deep", "far")))
	must(t, os.Symlink("deep", filepath.Join(base, "shallow")))
	must(t, os.Symlink("../none", filepath.Join(base, "deep", "dangling")))
	must(t, os.Symlink("loop", filepath.Join(base, "loop")))
	real, err := filepath.EvalSymlinks(base)
	must(t, err)
	for path, want := range map[string]string{
		"deep/real": "deep/real", "deep/near": "deep/real", "deep/far": "deep/real", "nothing": "nothing",
		"deep/dangling": "none", "shallow/dangling": "none", "shallow/near": "deep/real",
	} {
		got, err := datadir.Resolve(filepath.Join(base, path))
		if got != filepath.Join(real, want) && got != filepath.Join(base, want) || err != nil {
			t.Errorf("%s: %s %v, want %s", path, got, err, want)
		}
	}
	if _, err := datadir.Resolve(filepath.Join(base, "loop")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
	paths := datadir.PlanPaths(base + "/deep/")
	if !slices.Equal(paths[:], []string{base + "/deep.restore-plan", base + "/deep/restore-plan"}) {
		t.Errorf("plans %q", paths)
	}
}
