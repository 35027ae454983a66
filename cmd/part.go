package cmd

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"coord/snapshot"
)

// part is a file that is being written: FILE.part, which becomes FILE when it is
// complete. The writer holds a lock on it, which distinguishes the leftover of a
// killed process from a file that another process is writing.
type part struct {
	*bufio.Writer
	f     *os.File
	out   *snapshot.SteadyFile // writes f
	name  string               // FILE.part
	final string
	force bool
	done  bool
}

// createPart refuses what publish would refuse, before the work is done.
func createPart(file string, force bool) (*part, error) {
	switch info, err := os.Stat(file); {
	case file == "": // probably an unset "$FILE" in a script
		return nil, &usageError{msg: "the name of the file is empty", hint: "- writes to stdout"}
	case strings.HasSuffix(file, ".part"):
		return nil, &usageError{msg: file + ": the suffix .part is reserved for unfinished files", hint: "choose another name"}
	case err == nil && info.IsDir():
		return nil, &usageError{msg: file + " is a folder", hint: "name a file in it"}
	case err == nil && !info.Mode().IsRegular():
		return nil, &usageError{msg: file + " is not a regular file", hint: "- writes to stdout"}
	case err == nil && !force:
		return nil, existing(file)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	p := &part{name: file + ".part", final: file, force: force}
	var err error
	if p.f, err = openPart(p.name); err != nil {
		return nil, err
	}
	if err := errors.Join(p.f.Truncate(0), p.f.Chmod(0o600)); err != nil {
		p.remove()
		return nil, err
	}
	p.out = snapshot.Steady(p.f)
	p.Writer = bufio.NewWriterSize(p.out, 256<<10)
	return p, nil
}

// openPart opens and locks FILE.part. The file that it returns is empty, or the leftover
// of a killed process, and has no other name. A file that is also FILE by now, because
// another process has published it or was killed while it did, is never written to
// again.
func openPart(name string) (*os.File, error) {
	const tries = 8 // each one may lose to another process that publishes
	for range tries {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = f.Close()
			return nil, &busyError{name}
		}
		have, err := f.Stat()
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		if named, err := os.Lstat(name); err == nil && os.SameFile(have, named) {
			st, ok := have.Sys().(*syscall.Stat_t)
			if !ok || st.Nlink == 1 {
				return f, nil
			}
			if err := os.Remove(name); err != nil {
				_ = f.Close()
				return nil, err
			}
		}
		_ = f.Close()
	}
	return nil, &busyError{name}
}

func existing(file string) error {
	return &unsafeError{msg: file + " exists already", hint: "--force overwrites it"}
}

type busyError struct{ file string }

func (e *busyError) Error() string { return e.file + " is being written by another process" }
func (e *busyError) exitCode() int { return exitInUse }

// sync writes everything to disk.
func (p *part) sync() error {
	if err := p.Flush(); err != nil {
		return err
	}
	return p.out.Sync()
}

// publish gives the file its final name. Without force it does not replace a file
// that has appeared meanwhile.
func (p *part) publish() error {
	linked := false
	if !p.force {
		switch err := os.Link(p.name, p.final); {
		case errors.Is(err, fs.ErrExist):
			return existing(p.final)
		case err == nil:
			linked = true
		default: // the file system has no hard links
			if _, err := os.Lstat(p.final); err == nil {
				return existing(p.final)
			}
		}
	}
	if !linked {
		if err := os.Rename(p.name, p.final); err != nil {
			return err
		}
		p.done = true
	}
	p.remove()
	return snapshot.SyncDir(filepath.Dir(p.final))
}

// remove removes the unfinished file, if it still exists, and releases the lock.
func (p *part) remove() {
	if p.f == nil {
		return
	}
	if !p.done {
		_ = os.Remove(p.name)
	}
	_ = p.f.Close()
	p.f = nil
}
