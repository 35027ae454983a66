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

// Received is a snapshot that has arrived from another node: complete, verified and loaded. It
// becomes this node's in two steps, between which the log is reset to it, so that a start never has
// to guess what a crash has interrupted:
//
//	Keep           the snapshot waits: durable, but ignored by List, Load and Prune
//	               the log is reset, and begins after the snapshot
//	Store.Adopt    the snapshot gets its final name
//
// A start whose log begins after the newest good snapshot adopts the waiting snapshot at which the
// log begins. Then it removes the others (Store.ClearWaiting), unless the one it needed was not
// found. One goroutine uses a Received.
type Received struct {
	store *Store
	info  Info
	tree  *tree.Tree
}

// Receive takes a snapshot of size bytes from a reader that ends with it, and reserves room for it
// beforehand. It never rests: a node that receives a snapshot is behind, and must catch up. The
// error is that of Read, the reader or the disk; after an error nothing is left.
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

// Info describes the snapshot, and says where its file is now.
func (r *Received) Info() Info { return r.info }

// Tree is its state, always the same tree.
func (r *Received) Tree() *tree.Tree { return r.tree }

// Keep makes the snapshot wait, durably. It replaces a waiting one of the same zxid and index.
func (r *Received) Keep() error {
	path, err := r.store.name(r.info.Path, &r.info.Meta, waitingSuffix)
	if err != nil {
		return err
	}
	r.info.Path = path
	r.store.remember(path)
	return nil
}

// Discard removes the file, unless it was adopted.
func (r *Received) Discard() error { return r.store.discard(r.info.Path) }

func (s *Store) discard(path string) error {
	s.forget(path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Adopt gives its final name to the waiting snapshot that ends with the raft entry of this index
// and term. ok is false if there is none.
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

// ClearWaiting removes all waiting snapshots.
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
