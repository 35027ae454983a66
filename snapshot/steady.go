package snapshot

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// steadyStep is how much is written between two requests to bring it to the
// disk.
const steadyStep = 1 << 20

// Steady writes to a file that grows and has the disk begin with each part at
// once: one fsync at the end of a large file would keep everybody else's fsyncs
// waiting for all of it, the log's among them. It makes nothing durable; that
// fsync is still the caller's.
func Steady(f *os.File) io.Writer { return &steadyFile{f: f} }

type steadyFile struct {
	f     *os.File
	end   int64 // of what was written
	asked int64 // up to here the disk was asked
}

func (s *steadyFile) Write(b []byte) (int, error) {
	n, err := s.f.Write(b)
	s.end += int64(n)
	if err != nil || s.end-s.asked < steadyStep {
		return n, err
	}
	err = unix.SyncFileRange(int(s.f.Fd()), s.asked, s.end-s.asked, unix.SYNC_FILE_RANGE_WRITE)
	s.asked = s.end
	if err != nil && !errors.Is(err, syscall.ENOSYS) && !errors.Is(err, syscall.ESPIPE) && !errors.Is(err, syscall.EINVAL) {
		return n, &fs.PathError{Op: "sync_file_range", Path: s.f.Name(), Err: err}
	}
	return n, nil
}
