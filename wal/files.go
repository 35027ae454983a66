package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	dirMode  = 0o700
	fileMode = 0o600

	nameDigits = 20
	// maxSegmentBytes is more than any segment of coord holds: an almost full one, and its last record.
	maxSegmentBytes = maxSegmentOption + maxRecordBytes + 8
	// maxSegmentOption bounds Options.SegmentBytes.
	maxSegmentOption = 64 << 20
)

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%0*d", nameDigits, first))
}

// listSegments returns the first sequence of every segment in dir, ascending: the files that tidwall would take for
// segments. Leftovers of a truncation by tidwall are damage; everything else is ignored.
func listSegments(dir string) ([]uint64, error) {
	files, err := os.ReadDir(dir) // sorted by name, hence by sequence
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("wal: %w", err)
	}
	var firsts []uint64
	for _, file := range files {
		name := file.Name()
		if file.IsDir() || len(name) < nameDigits {
			continue
		}
		first, err := strconv.ParseUint(name[:nameDigits], 10, 64)
		if err != nil || first == 0 {
			continue
		}
		switch suffix := name[nameDigits:]; suffix {
		case "":
			firsts = append(firsts, first)
		case ".START", ".END":
			return nil, &DamageError{File: filepath.Join(dir, name),
				Reason: "left by a kind of truncation that coord never makes: " + strings.ToLower(suffix[1:])}
		}
	}
	return firsts, nil
}

// readSegment reads a whole segment, into buf if that is large enough. Bytes that the disk cannot read are
// damage.
func readSegment(path string, buf []byte) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	size := info.Size()
	if size > maxSegmentBytes {
		return nil, &DamageError{File: path, Offset: maxSegmentBytes, Reason: "the segment is larger than any that coord writes"}
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	n, err := io.ReadFull(f, buf[:size])
	switch {
	case errors.Is(err, unix.EIO):
		return nil, &DamageError{File: path, Offset: int64(n), Reason: err.Error()}
	case err != nil:
		return nil, fmt.Errorf("wal: %w", err)
	}
	return buf[:size], nil
}

// settle makes sure that what will be read from the file is what the disk has: it writes back the dirty pages and
// drops the cached ones. If an fsync failed in an earlier process, the kernel may treat pages as clean that never
// reached the disk.
func settle(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	// This is only advice: where the file system does not support it, the cache is all there is.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	return f.Close()
}

// cutFile shortens the file to size, durably.
func cutFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
