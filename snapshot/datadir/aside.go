package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coord/snapshot"
)

// Damaged data is moved to a folder within the folder, and the folder becomes a new node's. Each
// completed step stays valid, so that after a kill anywhere SetAside can be called again:
//
//  1. damaged-TIME is made
//  2. an identity that cannot be read is moved into it
//  3. the identity says Faulty, and where the data goes: from here on no process
//     starts as the old node, whatever is where
//  4. log and snapshots are moved
//  5. the same Faulty identity is written into damaged-TIME, so that a process that
//     opens that folder does not start as the old node either
//  6. the new node's identity is written over the old one's
//
// The old identity is in one place or in two, and Faulty in both; the data is in one place.
// Everything stays on one file system, which may be mounted on the folder itself.
const asidePrefix = "damaged-"

func isAside(name string) bool {
	return strings.HasPrefix(name, asidePrefix) && name == filepath.Base(name)
}

// SetAside moves the data of a damaged folder out of the way and makes the folder next's. next must
// be Blank; it replaces the old node if that is known. SetAside returns the folder in which the
// data is now. After a failure or a kill it must be called again, with any next: a folder whose
// identity is Faulty and has an Aside was being moved.
func (d *Dir) SetAside(now time.Time, reason string, next Identity) (string, error) {
	m, err := d.moving(now, reason, next)
	if err != nil {
		return "", err
	}
	for _, step := range m.steps() {
		if err := step(); err != nil {
			return "", fmt.Errorf("move the damaged data to %s: %w", m.to, err)
		}
	}
	return m.to, nil
}

// Condemn does the first three of these steps: the next start is that of a node whose data is
// damaged, whatever the data looks like.
func (d *Dir) Condemn(now time.Time, reason string) error {
	m, err := d.moving(now, reason, NewIdentity(now))
	if err != nil {
		return err
	}
	for _, step := range m.condemn() {
		if err := step(); err != nil {
			return fmt.Errorf("mark the data as damaged: %w", err)
		}
	}
	return nil
}

// moving is one call of SetAside.
type moving struct {
	path, to   string
	unreadable bool     // the identity is unreadable
	begun      bool     // the identity already says Faulty
	old, next  Identity // old as Faulty
}

func (d *Dir) moving(now time.Time, reason string, next Identity) (*moving, error) {
	if d.lock == nil {
		panic("datadir: set data aside without the folder's lock")
	}
	if next.State != Blank {
		panic("datadir: set data aside for an identity in state " + string(next.State))
	}
	m := &moving{path: d.path, next: next}
	old, _, err := d.Identity()
	var damage *DamageError
	switch {
	case errors.As(err, &damage):
		m.unreadable = true
	case err != nil:
		return nil, err
	}
	if m.begun = old.State == Faulty && old.Aside != ""; !m.begun {
		name := asidePrefix + now.UTC().Format("20060102T150405Z")
		for n := 2; exists(filepath.Join(d.path, name)); n++ {
			name = fmt.Sprintf("%s%s-%d", asidePrefix, now.UTC().Format("20060102T150405Z"), n)
		}
		old.State, old.Reason, old.Aside = Faulty, reason, name
		old.Promise, old.Voted = nil, false
	}
	m.old = old
	m.to = filepath.Join(d.path, old.Aside)
	if old.Node != 0 {
		// The old node may have been a replacement itself and not have completed it.
		m.next.Replaces = append([]uint64{old.Node}, old.Replaces[:min(len(old.Replaces), MaxReplaces-1)]...)
	}
	return m, nil
}

// condemn returns the steps up to the one after which no process starts as the old node.
func (m *moving) condemn() []func() error {
	steps := []func() error{
		func() error { return os.MkdirAll(m.to, 0o700) },
		func() error { return snapshot.SyncDir(m.path) },
	}
	if m.unreadable {
		steps = append(steps,
			func() error { return m.move(IdentityName, "identity.unreadable") },
			m.sync)
	}
	if !m.begun {
		steps = append(steps, func() error { return WriteIdentity(m.path, m.old) })
	}
	return steps
}

func (m *moving) steps() []func() error {
	return append(m.condemn(),
		func() error { return m.move(WALName, WALName) },
		func() error { return m.move(SnapshotName, SnapshotName) },
		m.sync,
		func() error { return WriteIdentity(m.to, m.old) },
		func() error { return WriteIdentity(m.path, m.next) })
}

// move moves what is still there. If the name exists in both places, somebody else has made it again.
func (m *moving) move(from, to string) error {
	from, to = filepath.Join(m.path, from), filepath.Join(m.to, to)
	switch {
	case !exists(from):
		return nil
	case exists(to):
		return fmt.Errorf("%s: %w", to, fs.ErrExist)
	}
	return os.Rename(from, to)
}

// sync makes moves durable, the new place before the old one.
func (m *moving) sync() error {
	return errors.Join(snapshot.SyncDir(m.to), snapshot.SyncDir(m.path))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
