package snapshot

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// steadyStep is how much may be written before the disk must have it.
	steadyStep = 256 << 10
	// roomStep is how much room is reserved at once.
	roomStep = 16 << 20
)

// SteadyFile writes a new file in such a way that fsyncs of other files, above all of the log, need
// not wait for it. It reserves room beforehand, so that a commit of the file system's journal need
// not write data of this file first (as with data=ordered). And it brings each part to the disk
// before the next one, so that the disk never has a long queue. One goroutine uses it.
type SteadyFile struct {
	f      *os.File
	end    int64 // of what has been written
	asked  int64 // the disk has the file up to here
	room   int64 // room is reserved up to here
	noRoom bool  // room cannot be reserved
}

// SyncDir makes the names in a folder durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Steady returns a SteadyFile that writes to f, which is empty.
func Steady(f *os.File) *SteadyFile { return &SteadyFile{f: f} }

// Reserve reserves room for so many bytes. If there is not enough, errors.Is(err, syscall.ENOSPC);
// a file system that cannot reserve is no error.
func (s *SteadyFile) Reserve(bytes int64) error {
	if bytes <= s.room {
		return nil
	}
	if err := s.take(bytes - s.room); errors.Is(err, syscall.ENOSPC) {
		return &os.PathError{Op: "fallocate", Path: s.f.Name(), Err: err}
	}
	return nil
}

// take reserves room for so many bytes more.
func (s *SteadyFile) take(bytes int64) error {
	err := unix.Fallocate(int(s.f.Fd()), 0, s.room, bytes)
	if err == nil {
		s.room += bytes
	}
	return err
}

// Write appends to the file. It makes nothing durable: see Sync.
func (s *SteadyFile) Write(b []byte) (int, error) {
	for !s.noRoom && s.end+int64(len(b)) > s.room {
		// If room cannot be reserved, or not so much, the file is written like any other.
		s.noRoom = s.take(roomStep) != nil
	}
	n, err := s.f.Write(b)
	s.end += int64(n)
	if err != nil || s.end-s.asked < steadyStep {
		return n, err
	}
	err = unix.SyncFileRange(int(s.f.Fd()), s.asked, s.end-s.asked,
		unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	s.asked = s.end
	if err != nil && !errors.Is(err, syscall.ENOSYS) && !errors.Is(err, syscall.ESPIPE) && !errors.Is(err, syscall.EINVAL) {
		return n, &os.PathError{Op: "sync_file_range", Path: s.f.Name(), Err: err}
	}
	return n, nil
}

// Sync gives back the unused room and makes the file durable. Where the file system follows the
// advice, later reads come from the disk and not from memory.
func (s *SteadyFile) Sync() error {
	if err := s.f.Truncate(s.end); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	s.Forget()
	return nil
}

// Forget drops the file's pages from the page cache: neither writing the file nor reading it back
// should push out what others use.
func (s *SteadyFile) Forget() { _ = unix.Fadvise(int(s.f.Fd()), 0, 0, unix.FADV_DONTNEED) }
