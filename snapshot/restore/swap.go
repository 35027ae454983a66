package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"coord/snapshot"
	"coord/snapshot/datadir"
)

// swap puts the new folder in the place of the old one. It examines the disk to find out how far it
// has come, so it can be called again after a kill at any point. back is true if the new folder is
// gone and the old one is in place (again). The caller holds the plan and the old folder's lock.
func (p *plan) swap() (back bool, err error) {
	if p.inside {
		return p.swapInside()
	}
	return p.swapBeside()
}

// swapBeside renames the folders:
//
//	             D     .restore-ID   .pre-restore-ID
//	1            old   new           -
//	exchange     new   old           -
//	move away    new   -             old
//
// If the file system cannot exchange names:
//
//	move away    -     new           old
//	move in      new   -             old
//
// During that gap the plan file makes datadir.Open keep every process out; a process that checked a
// moment earlier may have created an empty folder.
func (p *plan) swapBeside() (back bool, err error) {
	dir, build, kept := p.dir, p.build(), p.kept()
	if !p.isNew(dir) {
		if !p.isNew(build) {
			return p.swapBack()
		}
		if exists(dir) && p.Target == missing.String() {
			return false, fmt.Errorf("%s was created in the meantime: move it away", dir)
		}
		if exists(dir) && !exists(kept) {
			p.told("exchange the folders")
			err := p.exchange(build, dir)
			if isUnsupported(err) {
				p.told("move the old folder away")
				err = os.Rename(dir, kept)
			}
			if err != nil {
				return false, err
			}
			if err := snapshot.SyncDir(p.around()); err != nil {
				return false, err
			}
		}
	}
	if !p.isNew(dir) {
		p.told("move the new folder in")
		if err := p.moveIn(); err != nil {
			return false, err
		}
		if err := snapshot.SyncDir(p.around()); err != nil {
			return false, err
		}
	}
	if exists(build) {
		p.told("move the old folder away")
		if err := os.Rename(build, kept); err != nil {
			return false, err
		}
	}
	if p.Target == empty.String() {
		p.told("remove the empty old folder")
		// Only if it is really empty; otherwise it is kept like any other.
		if holds(kept, func(name string) bool { return name != datadir.LockName }) || clearLitter(kept) != nil {
			return false, snapshot.SyncDir(p.around())
		}
	}
	return false, snapshot.SyncDir(p.around())
}

// swapBack handles a new folder that is gone, because somebody removed it for example.
func (p *plan) swapBack() (back bool, err error) {
	switch {
	case exists(p.dir) && !exists(p.kept()):
		return true, nil
	case exists(p.dir) || exists(p.build()):
		return false, fmt.Errorf("cannot tell which of %s, %s and %s is the data folder", p.dir, p.build(), p.kept())
	case exists(p.kept()):
		p.told("move the old folder back")
		if err := os.Rename(p.kept(), p.dir); err != nil {
			return false, err
		}
		return true, snapshot.SyncDir(p.around())
	}
	return false, fmt.Errorf("none of %s, %s and %s exists", p.dir, p.build(), p.kept())
}

// moveIn renames the new folder to its place. The place is free, except for what a process that
// came during the gap may have left there.
func (p *plan) moveIn() error {
	const tries = 20
	for range tries {
		err := os.Rename(p.build(), p.dir)
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
		if p.Target != missing.String() {
			if err := clearLitter(p.dir); err != nil {
				return err
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%s is in the way", p.dir)
}

// clearLitter removes a folder that holds nothing but a lock file.
func clearLitter(dir string) error {
	if err := os.Remove(filepath.Join(dir, datadir.LockName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(dir)
}

// swapInside moves the contents of the folders one by one. Each stage is on the disk before the
// next begins, so the contents of kept and build say what each name in the data folder stands for.
func (p *plan) swapInside() (back bool, err error) {
	build, kept := p.build(), p.kept()
	names := []string{datadir.WALName, datadir.SnapshotName, reportName(p.id), datadir.IdentityName}
	if !exists(build) {
		if p.isNew(p.dir) {
			return false, nil
		}
		if !exists(kept) {
			return true, nil
		}
		return false, fmt.Errorf("%s is missing, the old data is in %s", build, kept)
	}
	if len(p.Old) > 0 && !exists(kept) {
		p.told("make the folder for the old data")
		if err := mkdirLike(kept, p.dir); err != nil {
			return false, err
		}
		if err := snapshot.SyncDir(p.dir); err != nil {
			return false, err
		}
	}
	for _, name := range p.Old { // the identity first
		if to := filepath.Join(kept, name); !exists(to) {
			p.told("move the old " + name + " away")
			if err := os.Rename(filepath.Join(p.dir, name), to); err != nil {
				return false, err
			}
		}
	}
	if len(p.Old) > 0 {
		if err := errors.Join(snapshot.SyncDir(kept), snapshot.SyncDir(p.dir)); err != nil {
			return false, err
		}
	}
	for i, name := range names {
		from, to := filepath.Join(build, name), filepath.Join(p.dir, name)
		if !exists(from) {
			continue // moved before the interruption
		}
		if i == len(names)-1 { // everything else is durable before the identity
			if err := errors.Join(snapshot.SyncDir(build), snapshot.SyncDir(p.dir)); err != nil {
				return false, err
			}
		}
		p.told("move the new " + name + " in")
		// Only an empty wal or snapshot folder may be in the way.
		if err := unix.Rmdir(to); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("%s is in the way: %w", to, err)
		}
		if err := os.Rename(from, to); err != nil {
			return false, err
		}
	}
	if err := errors.Join(snapshot.SyncDir(build), snapshot.SyncDir(p.dir)); err != nil {
		return false, err
	}
	p.told("remove the folder it was built in")
	if err := clearLitter(build); err != nil {
		return false, err
	}
	return false, snapshot.SyncDir(p.dir)
}

// untouched says, after a failure, whether the target is still as it was.
func (p *plan) untouched() bool {
	switch {
	case exists(p.kept()):
		return false
	case !p.inside:
		return p.isNew(p.build()) && (exists(p.dir) || p.Target == missing.String())
	}
	for _, name := range []string{datadir.WALName, datadir.SnapshotName, reportName(p.id), datadir.IdentityName} {
		if !exists(filepath.Join(p.build(), name)) {
			return false
		}
	}
	return true
}

// isNew says whether a folder is the one that this restore has built.
func (p *plan) isNew(dir string) bool {
	id, ok, err := datadir.ReadIdentity(dir)
	return err == nil && ok && datadir.NodeString(id.Node) == p.Node
}

// exchange swaps two names in one step.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

func isUnsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EXDEV)
}

// mkdirLike makes a private folder with the owner of another.
func mkdirLike(dir, like string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return chownLike(dir, like)
}

// chownLike gives a folder and everything in it to the owner of another, for a restore by root on
// behalf of a server that runs as another user.
func chownLike(dir, like string) error {
	uid, gid, ok := ownerOf(like)
	if !ok || os.Geteuid() != 0 || uid == 0 && gid == 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

func ownerOf(path string) (uid, gid int, ok bool) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return int(st.Uid), int(st.Gid), err == nil
}
