package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"coord/tree"
)

// Store is the folder in which a node keeps its snapshots. Any goroutine may call its methods. It trusts
// no file name: what a snapshot holds is written in the file. The suffix says how far a file has come:
//
//	snapshot-*.part      being written or removed; deleted by OpenStore
//	snapshot-*.received  complete, from another node, and not yet this node's: see Received
//	snapshot-*.coord     one that a start may use
type Store struct {
	dir  string
	pace Pace
	mu   struct {
		sync.Mutex
		good map[string]fingerprint // files that this process has read back completely
	}
}

// fingerprint tells whether a file is still the one that was read.
type fingerprint struct {
	device, inode uint64
	size          int64
	modified      int64
}

const (
	fileSuffix    = ".coord"
	partSuffix    = ".part"
	waitingSuffix = ".received"
)

// OpenStore opens the folder, creates it (with mode 0700) if it is missing, and removes what a
// killed process has left half written or half removed. Save and Prune keep the pace.
func OpenStore(dir string, pace Pace) (*Store, error) {
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := SyncDir(filepath.Dir(dir)); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("snapshot: %s is not a folder", dir)
	}
	s := &Store{dir: dir, pace: pace}
	s.mu.good = map[string]fingerprint{}
	litter, err := s.glob(partSuffix)
	if err != nil {
		return nil, err
	}
	for _, path := range litter {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
	}
	return s, nil
}

// Dir is the folder's path.
func (s *Store) Dir() string { return s.dir }

// Save writes a snapshot of the state, reads it back from the disk, and only then gives it its
// name. After an error nothing of it is left. If the disk is full, errors.Is(err, syscall.ENOSPC).
// The zxid and index in the name are for people.
func (s *Store) Save(ctx context.Context, m Meta, f *tree.Frozen, o Options) (info Info, err error) {
	pace := s.pace
	if o.Pace != nil {
		pace = *o.Pace
	}
	path, err := s.aside(o.Room, func(w io.Writer) error {
		rest, step := pace.begin(ctx), o.Step
		o.Step = func(p Progress) error {
			if err := rest(); err != nil || step == nil {
				return err
			}
			return step(p)
		}
		_, err := Write(w, m, f, o)
		return err
	}, func(path string) (err error) {
		info, err = verify(ctx, path, Decode, pace)
		return err
	})
	if err != nil {
		return Info{}, err
	}
	if info.Path, err = s.name(path, &info.Meta, fileSuffix); err != nil {
		_ = os.Remove(path) // if the rename has failed
		return Info{}, err
	}
	s.remember(info.Path)
	return info, nil
}

// aside writes a file that no start looks at, and has check read it back from the disk. It reserves
// room bytes beforehand. After an error nothing of the file is left.
func (s *Store) aside(room int64, write func(io.Writer) error, check func(path string) error) (path string, err error) {
	f, err := os.CreateTemp(s.dir, "snapshot-*"+partSuffix) // mode 0600
	if err != nil {
		return "", fmt.Errorf("snapshot: %w", err)
	}
	part := Steady(f)
	if err = part.Reserve(room); err != nil {
		err = fmt.Errorf("snapshot: %w", err)
	}
	if err == nil {
		err = write(part)
	}
	if err == nil {
		if err = part.Sync(); err != nil {
			err = fmt.Errorf("snapshot: %w", err)
		}
	}
	if err == nil {
		err = check(f.Name())
		part.Forget()
	}
	if closed := f.Close(); err == nil && closed != nil {
		err = fmt.Errorf("snapshot: %w", closed)
	}
	if err != nil {
		if left := os.Remove(f.Name()); left != nil {
			err = errors.Join(err, fmt.Errorf("snapshot: %w", left))
		}
		return "", err
	}
	return f.Name(), nil
}

// name renames a complete file after its contents, durably.
func (s *Store) name(from string, m *Meta, suffix string) (path string, err error) {
	path = filepath.Join(s.dir, fmt.Sprintf("snapshot-%016x-%016x%s", uint64(m.EndZxid), m.RaftIndex, suffix))
	if err := os.Rename(from, path); err != nil {
		return "", fmt.Errorf("snapshot: %w", err)
	}
	if err := SyncDir(s.dir); err != nil {
		return "", fmt.Errorf("snapshot: %w", err)
	}
	return path, nil
}

// Entry is one file of the folder.
type Entry struct {
	Info
	Err error // why its ends cannot be read; then only Info.Path is valid
}

// List looks at the two ends of each snapshot. First come files that need a newer coord, or cannot be opened
// or read, then the others by zxid and raft index, the newest first; files with a damaged header come last.
func (s *Store) List() ([]Entry, error) {
	paths, err := s.glob(fileSuffix)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(Look(paths), func(e Entry) bool { return errors.Is(e.Err, fs.ErrNotExist) }), nil // pruned meanwhile
}

// Look looks at the two ends of some files, and returns them in the order of List.
func Look(paths []string) []Entry {
	var list []Entry
	for _, path := range paths {
		info, err := Inspect(path)
		info.Path = path
		list = append(list, Entry{info, err})
	}
	slices.SortStableFunc(list, func(a, b Entry) int {
		return cmp.Or(
			cmp.Compare(a.rank(), b.rank()),
			cmp.Compare(b.Meta.EndZxid, a.Meta.EndZxid),
			cmp.Compare(b.Meta.RaftIndex, a.Meta.RaftIndex),
			strings.Compare(b.Path, a.Path))
	})
	return list
}

// rank is the entry's group in the order of List.
func (e *Entry) rank() int {
	switch {
	case e.Err != nil && !IsBad(e.Err):
		return 0
	case e.Meta.Major == Major: // the header was read
		return 1
	}
	return 2
}

// HeaderDamaged says whether the header is damaged, so that nobody knows how new the snapshot is.
func (e *Entry) HeaderDamaged() bool { return e.rank() == 2 }

// Latest finds the newest good snapshot, checked at the given level. bad are the files passed over,
// and why: with a *DamageError or *ForeignError. Those with a damaged header are among them,
// because one may have been the newest. So are files that cannot be opened; the caller must find
// out whether one of these holds what the others lack, see NotOpened. A file that needs a newer
// coord is not passed over. If there are no files the error is ErrNoSnapshot; if all are bad it is
// that of NotOpened or of the newest.
func (s *Store) Latest(ctx context.Context, level Level) (good Info, bad []Entry, err error) {
	bad, err = s.newestGood(func(path string) (err error) {
		good, err = verify(ctx, path, level, Pace{})
		return err
	})
	return good, bad, err
}

// Load reads the newest good snapshot as Latest finds it, at level Restore.
func (s *Store) Load() (t *tree.Tree, good Info, bad []Entry, err error) {
	bad, err = s.newestGood(func(path string) (err error) {
		good.Path = path
		t, good.Meta, good.Summary, err = ReadFile(path)
		return err
	})
	return t, good, bad, err
}

// newestGood tries the snapshots, beginning with the newest, until one is good.
func (s *Store) newestGood(try func(path string) error) (bad []Entry, err error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	for i, e := range list {
		if e.Err == nil {
			e.Err = try(e.Path)
		}
		switch {
		case e.Err == nil:
			s.remember(e.Path)
			for _, e := range list[i+1:] {
				if e.HeaderDamaged() {
					bad = append(bad, e)
				}
			}
			return bad, nil
		case !IsBad(e.Err) && !e.NotOpened():
			return bad, e.Err
		}
		bad = append(bad, e)
	}
	if err := NotOpened(bad); err != nil {
		return bad, err
	}
	if len(bad) > 0 {
		return bad, fmt.Errorf("no good snapshot in %s: %w", s.dir, bad[0].Err)
	}
	return nil, fmt.Errorf("%s: %w", s.dir, ErrNoSnapshot)
}

// NotOpened is the error of the first file that could not even be opened (its mode, a failing
// disk), nil if there is none. If the other files are not enough, it is the reason: what is missing
// may be in that file, which is not known to be damaged.
func NotOpened(passed []Entry) error {
	for _, e := range passed {
		if e.NotOpened() {
			return e.Err
		}
	}
	return nil
}

// NotOpened says whether the file could not even be opened.
func (e *Entry) NotOpened() bool {
	var errno syscall.Errno
	return !IsBad(e.Err) && errors.As(e.Err, &errno)
}

// IsBad says whether an error is about the file's contents.
func IsBad(err error) bool {
	var damage *DamageError
	var foreign *ForeignError
	return errors.As(err, &damage) || errors.As(err, &foreign)
}

// Open opens the snapshot that is kept for a raft index, at its beginning, for a copy. Its bytes
// stay until the file is closed, whatever Prune does meanwhile. Open ignores files whose ends
// cannot be read. If it finds none, the error is ErrNoSnapshot.
func (s *Store) Open(index uint64) (*os.File, Info, error) {
	list, err := s.List()
	if err != nil {
		return nil, Info{}, err
	}
	for _, e := range list {
		if e.Err != nil || e.Meta.RaftIndex != index {
			continue
		}
		f, err := openFile(e.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned meanwhile
		}
		return f, e.Info, err
	}
	return nil, Info{}, fmt.Errorf("raft index %d in %s: %w", index, s.dir, ErrNoSnapshot)
}

// Prune removes snapshots that are neither among the keep newest good ones nor younger (by the
// stamp of their last txn) than maxAge. A snapshot counts as good only if this process has read it
// completely, so Prune never removes a file in favour of one that it has not read. A keep below 1
// means 1. Damaged files newer than the last one kept stay as evidence; files that need a newer
// coord or cannot be read always stay.
func (s *Store) Prune(ctx context.Context, keep int, maxAge time.Duration, now time.Time) (removed []string, err error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	good := 0
	for _, e := range list {
		if good < max(keep, 1) {
			if e.Err != nil {
				continue
			}
			var needsNewer *NewerError
			if err := s.check(ctx, e.Path); err == nil {
				good++
			} else if !IsBad(err) && !errors.As(err, &needsNewer) {
				return removed, err
			}
			continue
		}
		if e.Err != nil && !IsBad(e.Err) {
			continue
		}
		if e.Err == nil && maxAge > 0 && now.Sub(time.UnixMilli(e.Meta.TimeMaxMS)) < maxAge {
			continue
		}
		if err := s.retire(ctx, e.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
		s.forget(e.Path)
		removed = append(removed, e.Path)
	}
	if len(removed) > 0 {
		if err := SyncDir(s.dir); err != nil {
			return removed, fmt.Errorf("snapshot: %w", err)
		}
	}
	return removed, nil
}

// check verifies a file, unless this process has verified it and it is unchanged.
func (s *Store) check(ctx context.Context, path string) error {
	if known, err := s.knows(path); known || err != nil {
		return err
	}
	if _, err := verify(ctx, path, Decode, s.pace); err != nil {
		return err
	}
	s.remember(path)
	return nil
}

// knows says whether this process has read a file completely, and the file is unchanged.
func (s *Store) knows(path string) (bool, error) {
	is, err := fingerprintOf(path)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.mu.good[path]
	return known && was == is, nil
}

func (s *Store) remember(path string) {
	if is, err := fingerprintOf(path); err == nil {
		s.mu.Lock()
		s.mu.good[path] = is
		s.mu.Unlock()
	}
}

func (s *Store) forget(path string) {
	s.mu.Lock()
	delete(s.mu.good, path)
	s.mu.Unlock()
}

func fingerprintOf(path string) (fingerprint, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fingerprint{}, fmt.Errorf("snapshot: %w", err)
	}
	is := fingerprint{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		is.device, is.inode = uint64(st.Dev), uint64(st.Ino) //nolint:unconvert // narrower on other architectures
	}
	return is, nil
}

// glob lists the folder's files with a suffix, in the order of their names.
func (s *Store) glob(suffix string) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "snapshot-") && strings.HasSuffix(e.Name(), suffix) && !e.IsDir() {
			paths = append(paths, filepath.Join(s.dir, e.Name()))
		}
	}
	return paths, nil
}
