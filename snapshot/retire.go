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

// retire removes a file of the store. Freeing a large file at once delays every fsync meanwhile (on a disk
// that is told about freed blocks, 140 MB cost 25 ms). So the file first loses its name, then shrinks bit
// by bit, and is then removed. If the process is killed in between, OpenStore removes the rest.
//
// A file with another name, or one that is open elsewhere (because it is being copied), keeps its
// bytes: only the name is removed.
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

// shrink frees a file's bytes bit by bit, if nothing else uses them. If it cannot, removing the
// file frees them at once.
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
	// A write lease is granted only if the file is open nowhere else.
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
