package zkimport

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
)

// file is a snapshot or a log.
type file struct {
	path     string
	zxid     uint64 // from its name
	size     int64
	modified time.Time
}

// folder is what ZooKeeper has left.
type folder struct {
	dir, logDir     string // the folders that hold the files
	snapshots, logs []file // snapshots newest first, logs oldest first
	epoch           int64  // the last one in the files of an ensemble's member
	member          bool
}

// list lists the files; if logDir is "", logs are in dir.
func list(dir, logDir string) (*folder, error) {
	at, err := version2(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: at, logDir: at}
	if logDir != "" {
		if f.logDir, err = version2(logDir); err != nil {
			return nil, err
		}
	}
	if f.snapshots, err = named(f.dir, "snapshot", ".gz", ".snappy"); err != nil {
		return nil, err
	}
	slices.Reverse(f.snapshots)
	if f.logs, err = named(f.logDir, "log"); err != nil {
		return nil, err
	}
	for _, name := range []string{"currentEpoch", "acceptedEpoch"} {
		path := filepath.Join(f.dir, name)
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || n < 0 {
			return nil, &DamageError{path, -1, "is not a number"}
		}
		f.member, f.epoch = true, max(f.epoch, n)
	}
	return f, nil
}

// version2 returns the folder that holds the files; dir itself may be that.
func version2(dir string) (string, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return "", &ForeignError{dir, "it is not a folder"}
	} else if err != nil {
		return "", err
	}
	sub := filepath.Join(dir, "version-2")
	if info, err := os.Stat(sub); err == nil && info.IsDir() {
		return sub, nil
	}
	if filepath.Base(dir) == "version-2" {
		return dir, nil
	}
	return "", &ForeignError{dir, "it has no folder version-2"}
}

// named lists the files whose name is the prefix, a dot, a zxid, and one of the endings or none.
func named(dir, prefix string, endings ...string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []file
	for _, e := range entries {
		hex, ok := strings.CutPrefix(e.Name(), prefix+".")
		for _, end := range endings {
			hex = strings.TrimSuffix(hex, end)
		}
		zxid, err := strconv.ParseUint(hex, 16, 63)
		if !ok || err != nil {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			all = append(all, file{filepath.Join(dir, e.Name()), zxid, info.Size(), info.ModTime()})
		}
	}
	slices.SortStableFunc(all, func(a, b file) int {
		if a.zxid < b.zxid {
			return -1
		}
		return int(min(a.zxid-b.zxid, 1))
	})
	return all, nil
}

// needed are the logs to replay after a snapshot's zxid: the last one that begins at or before it,
// and all later ones.
func needed(logs []file, zxid uint64) []file {
	first := 0
	for i, l := range logs {
		if l.zxid <= zxid {
			first = i
		}
	}
	return logs[first:]
}

// running returns an error if a ZooKeeper that was started with zkServer.sh runs on the folder: the
// script leaves the process id there.
func running(dir string) error {
	if filepath.Base(dir) == "version-2" {
		dir = filepath.Dir(dir)
	}
	b, err := os.ReadFile(filepath.Join(dir, "zookeeper_server.pid"))
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil && bytes.Contains(line, []byte("zookeeper")) {
		return &InUseError{dir, pid}
	}
	return nil
}

// Idle returns an InUseError if a process has a log of the folder open for writing, as an idle
// ZooKeeper does that was not started with zkServer.sh. Only root sees the processes of other users.
func Idle(o Options) error {
	f, err := list(o.Dir, o.LogDir)
	if err != nil {
		return err
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		// The name is checked first, because a stat of another kind of file might take long.
		if name, err := os.Readlink(fd); err != nil || !strings.HasPrefix(filepath.Base(name), "log.") {
			continue
		}
		info, err := os.Stat(fd)
		if err != nil || !slices.ContainsFunc(f.logs, func(l file) bool { return l.is(info) }) || !isWritable(fd) {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
		return &InUseError{f.dir, pid}
	}
	return nil
}

func (l *file) is(info fs.FileInfo) bool {
	own, err := os.Stat(l.path)
	return err == nil && os.SameFile(own, info)
}

// isWritable says whether an open file, /proc/PID/fd/N, is open for writing.
func isWritable(fd string) bool {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(fd)), "fdinfo", filepath.Base(fd)))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(octal), 8, 64)
			return err == nil && flags&3 != 0 // O_WRONLY, O_RDWR
		}
	}
	return false
}

// same returns an error if the files have changed since list.
func (f *folder) same() error {
	now, err := list(f.dir, f.logDir)
	if err != nil {
		return err
	}
	if !slices.Equal(f.snapshots, now.snapshots) || !slices.Equal(f.logs, now.logs) {
		return &InUseError{f.dir, 0}
	}
	return nil
}

// unpacked returns a reader of a snapshot's unpacked contents.
func unpacked(path string, r io.Reader) (io.Reader, error) {
	switch filepath.Ext(path) {
	case ".gz":
		return gzip.NewReader(r)
	case ".snappy":
		return newXerial(r)
	}
	return r, nil
}

// xerial reads the framing of snappy-java's streams: a head of 16 bytes (magic, version, the oldest
// version that can read it), then blocks, each with its length (4 bytes) and that many bytes of raw
// snappy. The library's own reader for this framing needs the whole file in memory.
type xerial struct {
	r           io.Reader
	packed, raw []byte
	rest        []byte // the part of raw that has not been read yet
}

const (
	xerialMagic = "\x82SNAPPY\x00"
	// maxBlock is the largest block; those of snappy-java have 32 KiB.
	maxBlock = 1 << 20
)

func newXerial(r io.Reader) (*xerial, error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if string(head[:8]) != xerialMagic || binary.BigEndian.Uint32(head[12:]) > 1 {
		return nil, errors.New("is not a snappy-java file")
	}
	return &xerial{r: r}, nil
}

func (x *xerial) Read(b []byte) (int, error) {
	for len(x.rest) == 0 {
		if err := x.block(); err != nil {
			return 0, err
		}
	}
	n := copy(b, x.rest)
	x.rest = x.rest[n:]
	return n, nil
}

func (x *xerial) block() error {
	var head [4]byte
	if _, err := io.ReadFull(x.r, head[:]); err != nil {
		return err // io.EOF: the end
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxBlock {
		return fmt.Errorf("has a block of %d bytes, which is too large", n)
	}
	x.packed = slices.Grow(x.packed[:0], int(n))[:n]
	if _, err := io.ReadFull(x.r, x.packed); err != nil {
		return io.ErrUnexpectedEOF
	}
	size, err := snappy.DecodedLen(x.packed)
	if err == nil && size > maxBlock {
		err = fmt.Errorf("has a block that unpacks to %d bytes, which is too large", size)
	}
	if err == nil {
		x.raw, err = snappy.Decode(x.raw[:cap(x.raw)], x.packed)
	}
	x.rest = x.raw
	return err
}
