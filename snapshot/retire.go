package snapshot

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	retireStep  = 4 << 20
	retirePause = 20 * time.Millisecond
)

// retire removes a file of the store. To free a large one at once costs every
// fsync meanwhile (on a disk that is told of what is free, 140 MB cost 25 ms), so
// it loses its name, shrinks bit by bit, and goes. A process that is killed in
// between leaves a file that OpenStore removes.
//
// A file that has another name too, or that somebody has open (a copy that is
// being made of it), keeps its bytes: then only the name goes.
func (s *Store) retire(ctx context.Context, path string) error {
	gone := strings.TrimSuffix(path, fileSuffix) + partSuffix
	if err := os.Rename(path, gone); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if s.pace.Rests > 0 {
		shrink(ctx, gone)
	}
	if err := os.Remove(gone); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// shrink frees a file's bytes bit by bit if they are nobody else's. Whatever
// keeps it from that, removing the file does it too.
func shrink(ctx context.Context, path string) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Nlink != 1 {
		return
	}
	// A lease to write is given only if nobody else has the file open.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return
	}
	for size := info.Size() - retireStep; size > 0 && ctx.Err() == nil; size -= retireStep {
		if err := f.Truncate(size); err != nil {
			return
		}
		time.Sleep(retirePause)
	}
}
