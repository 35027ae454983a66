// Package datadir is the data folder of a node: its layout, who may open it, and which node it
// belongs to. It opens no log and reads no snapshot.
//
//	coord-data/     mode 0700, files 0600
//	  identity      text, a key and a value a line, its own checksum last:
//	                written aside, fsynced, renamed; never changed in place
//	  lock          held with flock while a process uses the folder, as the folder
//	                itself is; its pid inside
//	  wal/          package wal
//	  snapshot/     package snapshot
//	  ballast       room kept free for the way out of a full disk
//	  restore-ID.json   what a restore did (package restore)
//	  damaged-TIME/ data that was found damaged and moved out of the way, see aside.go
//
// The identity is what makes a folder a node's. A first start writes it in state Blank before
// anything else, and in state Member once the rest is complete; a restore writes it last. So a
// folder without an identity has never acknowledged anything, and other files in such a folder are
// there by mistake and not ours to remove.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The names of what is in the folder.
const (
	IdentityName = "identity"
	LockName     = "lock"
	WALName      = "wal"
	SnapshotName = "snapshot"
	BallastName  = "ballast"
)

// The reasons why a folder is not opened.
var (
	ErrZooKeeper  = errors.New("the folder is a ZooKeeper data folder: it holds version-2")
	ErrNotMine    = errors.New("the folder belongs to another user or is a symbolic link")
	ErrNewer      = errors.New("the folder was written by a newer coord")
	ErrNoFolder   = errors.New("no such data folder")
	ErrUnfinished = errors.New("a restore of the folder was interrupted: start the server or run coord restore again to complete or undo it")
)

// InUseError means that another process has the folder open.
type InUseError struct {
	Path string
	PID  int // 0 if the lock file names none, or none that still runs
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("the data folder %s is in use by another process", e.Path)
	}
	return fmt.Sprintf("the data folder %s is in use by process %d", e.Path, e.PID)
}

// DamageError means that the folder is not as coord left it.
type DamageError struct{ File, Reason string }

func (e *DamageError) Error() string { return e.File + ": " + e.Reason }

// Dir is an open data folder: the caller holds its lock.
type Dir struct {
	path   string
	lock   *os.File // nil if there is no lock file, see Lock
	named  bool     // our pid is in the lock file
	folder *os.File // also locked, see lockFolder; nil where folders cannot be locked
}

// Open opens and locks the folder; with create it creates a missing one. It changes nothing but the
// lock file and, if the folder holds nothing but coord's files, a mode that lets other users in.
func Open(path string, create bool) (*Dir, error) {
	path = filepath.Clean(path)
	for try := 0; ; try++ {
		d, err := open(path, create)
		// What has just been created or found is gone: a restore is exchanging the folder.
		gone := create && (errors.Is(err, ErrNoFolder) || errors.Is(err, fs.ErrNotExist))
		if !gone || try == lockTries {
			return d, err
		}
	}
}

func open(path string, create bool) (*Dir, error) {
	if _, err := os.Lstat(filepath.Join(path, "version-2")); err == nil {
		return nil, fmt.Errorf("%s: %w", path, ErrZooKeeper)
	}
	if err := checkRestore(path); err != nil {
		return nil, err
	}
	if create {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
	}
	info, err := checkFolder(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 && create && isOurs(path) {
		if err := os.Chmod(path, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := lock(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, lock: f}
	if d.folder, err = lockFolder(path); err == nil {
		err = checkRestore(path)
	}
	if err != nil {
		_ = d.Close()
		return nil, err
	}
	// The pid is for people. Only the lock counts, so a failure here is ignored.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	d.named = true
	return d, nil
}

// Lock locks an existing folder without changing anything in it, to restore it, or to read it where
// nothing can be written. It does not check for a restore.
func Lock(path string) (*Dir, error) {
	path = filepath.Clean(path)
	if _, err := checkFolder(path); err != nil {
		return nil, err
	}
	f, err := lock(path, os.O_RDONLY)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	d := &Dir{path: path, lock: f}
	if d.folder, err = lockFolder(path); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// lockFolder locks the folder itself, for a process that holds its lock file or finds none: the
// lock file may have been removed while another process uses the folder. Not every file system can
// lock folders (NFS cannot); there only the file's lock counts.
func lockFolder(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // the folder may be one that cannot be listed
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		_ = f.Close()
		return nil, &InUseError{Path: path}
	}
	_ = f.Close()
	return nil, nil //nolint:nilnil // as above
}

// checkFolder says why a path is not a folder of ours.
func checkFolder(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", path, ErrNoFolder)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s: %w", path, syscall.ENOTDIR)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() && os.Geteuid() != 0 {
		return nil, fmt.Errorf("%s: %w", path, ErrNotMine)
	}
	return info, nil
}

// lockTries bounds how often a lock file is opened again because the folder was exchanged between
// opening and locking: each time takes one restore.
const lockTries = 8

// lock opens and locks the folder's lock file.
func lock(path string, flags int) (*os.File, error) {
	name := filepath.Join(path, LockName)
	for range lockTries {
		f, err := os.OpenFile(name, flags|syscall.O_NOFOLLOW, 0o600)
		if errors.Is(err, syscall.ELOOP) {
			return nil, fmt.Errorf("%s: the lock file: %w", path, ErrNotMine)
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EBADF) { // NFS locks only files that are open for writing
			_ = f.Close()
			if flags&os.O_RDWR != 0 {
				return nil, fmt.Errorf("%s: lock: %w", path, err)
			}
			flags |= os.O_RDWR
			continue
		}
		if err != nil {
			pid := readPID(f)
			_ = f.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%s: lock: %w", path, err)
			}
			return nil, &InUseError{path, pid}
		}
		have, err := f.Stat()
		if err == nil {
			var named fs.FileInfo
			if named, err = os.Lstat(name); err == nil && os.SameFile(have, named) {
				return f, nil
			}
		}
		_ = unlock(f)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, &InUseError{Path: path}
}

// unlock closes a lock file. It unlocks explicitly, because a child that another goroutine has just
// forked may have the file open for a moment longer.
func unlock(f *os.File) error {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	return f.Close()
}

// readPID reads which process holds a lock, 0 if that process does not run.
func readPID(f *os.File) int {
	var b [32]byte
	n, _ := f.ReadAt(b[:], 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if pid <= 0 || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return 0
	}
	return pid
}

// PlanPaths are the two possible places of the plan file, in which a restore of the folder records
// how far it has come: beside the folder, or in it. The restore holds a lock on that file.
func PlanPaths(path string) [2]string {
	path = filepath.Clean(path)
	return [2]string{path + ".restore-plan", filepath.Join(path, "restore-plan")}
}

// checkRestore returns an error if a restore is under way or was interrupted.
func checkRestore(path string) error {
	path, err := Resolve(path)
	if err != nil {
		return err
	}
	for _, plan := range PlanPaths(path) {
		if _, err := os.Lstat(plan); err != nil {
			continue
		}
		f, err := os.Open(plan)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the restore has just ended
		} else if err != nil {
			return err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		_ = unlock(f)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return &InUseError{Path: path}
		}
		if _, err := os.Lstat(plan); err != nil {
			continue
		}
		return fmt.Errorf("%s: %w", path, ErrUnfinished)
	}
	return nil
}

// Resolve returns the absolute path of the folder itself if path is a symbolic link to it. The
// folder may be missing. Links above it are left alone.
func Resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	const most = 40 // as in the kernel
	for range most {
		to, err := os.Readlink(path)
		if err != nil { // not a link, or missing
			return path, nil
		}
		if !filepath.IsAbs(to) {
			above, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", err
			}
			to = filepath.Join(above, to)
		}
		path = filepath.Clean(to)
	}
	return "", fmt.Errorf("%s: %w", path, syscall.ELOOP)
}

// isOurs says whether a folder is empty or holds only coord's files: only then may we narrow its permissions.
func isOurs(path string) bool {
	entries, err := os.ReadDir(path)
	if err != nil {
		return false
	}
	for _, e := range entries {
		switch name := e.Name(); name {
		case IdentityName, LockName, WALName, SnapshotName, BallastName:
		default:
			if !strings.HasPrefix(name, "restore-") && !strings.HasPrefix(name, "pre-restore-") && !strings.HasPrefix(name, asidePrefix) {
				return false
			}
		}
	}
	return true
}

// Close unlocks the folder.
func (d *Dir) Close() error {
	if d.folder != nil {
		_ = unlock(d.folder)
	}
	if d.lock == nil {
		return nil
	}
	if d.named {
		_ = d.lock.Truncate(0) // so that nobody is told about a process that is gone
	}
	return unlock(d.lock)
}

// Held says whether a lock is held. It is not after a Lock of a folder without a lock file where
// folders cannot be locked.
func (d *Dir) Held() bool { return d.lock != nil || d.folder != nil }

// Path is the path of the folder.
func (d *Dir) Path() string { return d.path }

// WAL is the folder of the log.
func (d *Dir) WAL() string { return filepath.Join(d.path, WALName) }

// Snapshots is the folder of the snapshots.
func (d *Dir) Snapshots() string { return filepath.Join(d.path, SnapshotName) }

// Ballast is the file that keeps room free.
func (d *Dir) Ballast() string { return filepath.Join(d.path, BallastName) }
