package restore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"coord/snapshot"
	"coord/snapshot/datadir"
)

// plan is an open, locked plan file.
type plan struct {
	places
	intent
	file  *os.File
	begun bool // the plan file says, or may say, that the exchange has begun
	told  func(step string)

	// exchange swaps the names of two folders; tests replace it by one that the file system does not support.
	exchange func(a, b string) error
}

// intent is the first line of a plan file.
type intent struct {
	V      int      `json:"v"` // 1
	ID     string   `json:"id"`
	Node   string   `json:"node"`             // of the new folder: tells it from the old one
	Inside bool     `json:"inside,omitempty"` // as in places
	Target string   `json:"target"`           // missing, empty, data: what was there before
	Old    []string `json:"old,omitempty"`    // if inside: the names that move to kept
}

func (k kind) String() string { return [...]string{"missing", "empty", "data"}[k] }

// line encodes a value as a line of a plan file.
func line(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(b, " %08x\n", crc32.Checksum(b, castagnoli)), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseLine parses what line wrote; ok is false for a torn line.
func parseLine(b []byte, v any) (ok bool) {
	text, sum, ok := bytes.Cut(b, []byte("} "))
	if !ok {
		return false
	}
	text = append(bytes.Clone(text), '}')
	return string(sum) == fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) && json.Unmarshal(text, v) == nil
}

// step is the second line: after it there is no way back.
type step struct {
	Step string `json:"step"`
}

// beginPlan creates the plan file and locks it.
func beginPlan(p places, in intent) (*plan, error) {
	f, err := os.OpenFile(p.plan(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, &datadir.InUseError{Path: p.dir} // another restore was faster
	}
	if err != nil {
		return nil, err
	}
	pl := &plan{places: p, intent: in, file: f, exchange: exchange, told: func(string) {}}
	// A process that has just seen the file may lock it for a moment, to check whether it is locked.
	for range 50 {
		if err = lockFile(f); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		_ = f.Close() // the name is not ours to remove
		return nil, &datadir.InUseError{Path: p.dir}
	}
	if err := pl.append(in); err != nil {
		return nil, errors.Join(err, pl.remove())
	}
	return pl, nil
}

func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// append adds a line, durably.
func (p *plan) append(v any) error {
	b, err := line(v)
	if err == nil {
		_, err = p.file.Write(b)
	}
	if err == nil {
		err = p.file.Sync()
	}
	if err == nil {
		err = snapshot.SyncDir(filepath.Dir(p.file.Name()))
	}
	return err
}

// commit is the point of no return. Even if it fails, the line may be in the file.
func (p *plan) commit() error {
	p.begun = true
	return p.append(step{"swap"})
}

// remove ends the plan: the restore is completed or undone.
func (p *plan) remove() error {
	err := os.Remove(p.file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, snapshot.SyncDir(filepath.Dir(p.file.Name())), p.release())
}

// release releases the plan and leaves it to Recover.
func (p *plan) release() error {
	_ = unix.Flock(int(p.file.Fd()), unix.LOCK_UN) // a child just forked may have the file open
	return p.file.Close()
}

// undo removes what was built. The target has not been changed.
func (p *plan) undo() error {
	if p.begun {
		// The plan goes first: one that says "swap" must not remain without a new folder.
		return errors.Join(p.remove(), os.RemoveAll(p.build()))
	}
	if err := os.RemoveAll(p.build()); err != nil {
		return err
	}
	return p.remove()
}

// Recover ends an interrupted restore of the folder: it completes the exchange if that had begun,
// and otherwise removes what was built. done says in words what it did, and is empty if there was
// nothing to do; then it costs three system calls. A server calls it before it opens its folder. If
// the restore is still running, the error is a *datadir.InUseError.
func Recover(dataDir string) (done string, err error) {
	dir, err := datadir.Resolve(dataDir)
	if err != nil {
		return "", &TargetError{dataDir, err}
	}
	for _, path := range datadir.PlanPaths(dir) {
		if _, err := os.Lstat(path); err != nil {
			continue // Open reports the reason, unless the file is just missing
		}
		did, err := recoverPlan(dir, path)
		if err != nil {
			return done, err
		}
		done = strings.TrimPrefix(done+"; "+did, "; ")
	}
	return done, nil
}

func recoverPlan(dir, path string) (done string, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	p := &plan{places: places{dir: dir, inside: filepath.Dir(path) == dir}, file: f, exchange: exchange, told: func(string) {}}
	defer func() {
		if err != nil {
			_ = p.release()
		}
	}()
	if err := lockFile(f); errors.Is(err, unix.EWOULDBLOCK) {
		return "", &datadir.InUseError{Path: dir}
	} else if err != nil {
		return "", fmt.Errorf("%s: lock: %w", path, err)
	}
	if have, err := f.Stat(); err != nil {
		return "", err
	} else if named, err := os.Lstat(path); err != nil || !os.SameFile(have, named) {
		return "", f.Close() // the restore has just ended
	}
	known, err := p.read()
	if err != nil {
		return "", err
	}
	if !known {
		// The restore was killed before its first line was on the disk, and so before any other change.
		return "an interrupted restore had not changed anything yet: its plan file was removed", p.remove()
	}
	lock, err := datadir.Lock(dir)
	if errors.Is(err, datadir.ErrNoFolder) {
		lock, err = &datadir.Dir{}, nil
	}
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if !p.begun {
		return fmt.Sprintf("the interrupted restore %s was undone: the data folder is as it was", p.ID), p.undo()
	}
	back, err := p.swap()
	switch {
	case err != nil:
		return "", &PartialError{dir, path, err}
	case back:
		return fmt.Sprintf("the interrupted restore %s was undone: what it had built was removed", p.ID), p.remove()
	}
	done = fmt.Sprintf("the interrupted restore %s was completed", p.ID)
	if exists(p.kept()) {
		done += ": the old data is in " + p.kept()
	}
	return done, p.remove()
}

// read reads the plan file; known is false if it has no complete line.
func (p *plan) read() (known bool, err error) {
	b, err := io.ReadAll(p.file)
	if err != nil {
		return false, err
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	path := p.file.Name()
	if !parseLine(bytes.TrimSuffix(lines[0], []byte("\n")), &p.intent) {
		if len(lines) > 1 {
			return false, &datadir.DamageError{File: path, Reason: fmt.Sprintf(
				"the plan of an interrupted restore is damaged: find out which of %s and %s is the data folder, then remove the plan",
				p.dir, strings.TrimSuffix(p.build(), p.id)+"*")}
		}
		return false, nil
	}
	if p.V > 1 {
		return false, fmt.Errorf("%s: %w", path, datadir.ErrNewer)
	}
	if p.ID == "" || strings.ContainsAny(p.ID, "/.") || p.Inside != p.inside {
		return false, &datadir.DamageError{File: path, Reason: "the plan belongs to another folder"}
	}
	p.id = p.ID
	for _, name := range p.Old {
		if name != filepath.Base(name) {
			return false, &datadir.DamageError{File: path, Reason: "the plan names files outside the folder"}
		}
	}
	var s step
	p.begun = len(lines) > 1 && parseLine(bytes.TrimSuffix(lines[1], []byte("\n")), &s) && s.Step == "swap"
	return true, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
