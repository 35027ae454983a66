package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"coord/tree"
)

// Received is a snapshot that has come from another node: whole, verified and
// loaded. It is this node's in two steps, between which the log is reset to it, so
// that a start never has to guess what a crash has cut short:
//
//	Keep           it waits: durable, and passed over by List, Load and Prune
//	               the log is reset, and begins behind it
//	Store.Adopt    it has its final name
//
// A start whose log begins behind the newest good snapshot adopts the one at which
// the log begins, and then removes the others (Store.ClearWaiting), unless it was not
// found. One goroutine uses a Received.
type Received struct {
	store *Store
	info  Info
	tree  *tree.Tree
}

// Receive takes a snapshot of so many bytes, for which it takes the room beforehand,
// from a reader that ends with it. It does not rest: who receives one is behind, and
// serves best by catching up. The error is Read's, the reader's or the disk's, and
// leaves nothing behind.
func (s *Store) Receive(ctx context.Context, r io.Reader, size int64) (*Received, error) {
	got := &Received{store: s}
	path, err := s.aside(size, func(w io.Writer) error {
		if _, err := io.CopyBuffer(w, Pace{}.reader(ctx, r), make([]byte, FrameBytes)); err != nil {
			return fmt.Errorf("snapshot: receive: %w", err)
		}
		return nil
	}, func(path string) error {
		f, err := openFile(path)
		if err != nil {
			return err
		}
		defer f.Close()
		got.tree, got.info.Meta, got.info.Summary, err = Read(named{Pace{}.reader(ctx, f), path})
		return err
	})
	if err != nil {
		return nil, err
	}
	got.info.Path = path
	return got, nil
}

// Info says what it is, and where it lies now.
func (r *Received) Info() Info { return r.info }

// Tree is its state. There is one of it.
func (r *Received) Tree() *tree.Tree { return r.tree }

// Keep makes it one that waits, durably. Another of the same zxid and index that
// waits is replaced.
func (r *Received) Keep() error {
	path, err := r.store.name(r.info.Path, &r.info.Meta, waitingSuffix)
	if err != nil {
		return err
	}
	r.info.Path = path
	r.store.remember(path)
	return nil
}

// Discard removes it, unless it was adopted.
func (r *Received) Discard() error { return r.store.discard(r.info.Path) }

func (s *Store) discard(path string) error {
	s.forget(path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Adopt gives the snapshot that waits and ends with the raft entry of this index and
// term its final name. Not ok: none does.
func (s *Store) Adopt(index, term uint64) (ok bool, err error) {
	waiting, err := s.glob(waitingSuffix)
	if err != nil {
		return false, err
	}
	for _, from := range waiting {
		info, err := Inspect(from)
		if err != nil && !IsBad(err) {
			return false, err
		}
		if err != nil || info.Meta.RaftIndex != index || info.Meta.RaftTerm != term {
			continue
		}
		known, err := s.knows(from)
		if err != nil {
			return false, err
		}
		path, err := s.name(from, &info.Meta, fileSuffix)
		if err != nil {
			return false, err
		}
		s.forget(from)
		if known {
			s.remember(path)
		}
		return true, nil
	}
	return false, nil
}

// ClearWaiting removes the snapshots that wait.
func (s *Store) ClearWaiting() error {
	waiting, err := s.glob(waitingSuffix)
	if err != nil {
		return err
	}
	for _, path := range waiting {
		if err := s.discard(path); err != nil {
			return err
		}
	}
	return nil
}
