package server

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"coord/server/watch"
	"coord/snapshot/datadir"
)

type watchTable = watch.Table

// space prevents the log from filling the disk: while fewer bytes than a reserve are free, new
// writes are refused. A ballast file holds room that is given up when the log has failed for want
// of space, so that the next start can open the log, be elected and serve reads and deletes.
//
// The room for the next snapshot is part of the reserve. Once that snapshot is written the log can
// be cut, so a disk that only the log has filled gets room again by itself.
type space struct {
	dir     *datadir.Dir
	reserve uint64
	ballast int64
	log     zerolog.Logger
	next    func() int64 // bytes of the next snapshot
	gives   atomic.Int64 // bytes of older snapshots, which are removed when the one now being written, in room of its own, is done
	roomy   time.Time    // the disk cannot be full before this time; used by the log writer only
}

// The sizes for disks that are large enough; a smaller disk gives a sixteenth of itself to each.
const (
	ReserveBytes = 64 << 20
	BallastBytes = 8 << 20
)

func newSpace(dir *datadir.Dir, reserve int64, log zerolog.Logger, next func() int64) *space {
	s := &space{dir: dir, reserve: ReserveBytes, ballast: BallastBytes, log: log, next: next}
	if _, total, err := s.free(); err == nil {
		s.reserve = min(s.reserve, total/16)
		s.ballast = min(s.ballast, int64(total/16))
	}
	if reserve > 0 {
		s.reserve = uint64(reserve)
	}
	return s
}

func (s *space) free() (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir.Path(), &st); err != nil {
		return 0, 0, err
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// fillRate is more bytes a second than any disk can take. askAtLeast is how often even a disk with
// much room is asked for its free space.
const (
	fillRate   = 4 << 30
	askAtLeast = 100 * time.Millisecond
)

// full says whether new writes must be refused. If the disk cannot be asked, the answer is no: the
// log will find out. The log writer calls full after each write, so the disk is not asked again
// before the room above the reserve could have been filled.
func (s *space) full() bool {
	now := time.Now()
	if now.Before(s.roomy) {
		return false
	}
	free, _, err := s.free()
	if err != nil {
		return false
	}
	reserve := s.reserve + uint64(max(0, s.next()-s.gives.Load()))
	if free < reserve {
		return true
	}
	s.roomy = now.Add(roomFor(free - reserve))
	return false
}

// fits returns an error if a snapshot of so many bytes would not fit. It leaves half of the reserve
// to the log.
func (s *space) fits(bytes int64) error {
	free, _, err := s.free()
	if err == nil && free < uint64(bytes)+s.reserve/2 {
		err = fmt.Errorf("%d bytes are free, but a snapshot may need %d: %w", free, bytes, syscall.ENOSPC)
	}
	return err
}

// isShort says whether the free space is less than the reserve plus that many more snapshots.
func (s *space) isShort(snapshots uint64) bool {
	free, _, err := s.free()
	return err == nil && free < s.reserve+snapshots*uint64(s.next())
}

// roomFor is a time in which so many bytes cannot be filled.
func roomFor(bytes uint64) time.Duration {
	return time.Duration(min(float64(bytes)/fillRate, askAtLeast.Seconds()) * float64(time.Second))
}

// keepBallast creates the ballast file if it is missing and there is room for it.
func (s *space) keepBallast() {
	if info, err := os.Stat(s.dir.Ballast()); err == nil && info.Size() >= s.ballast {
		return
	}
	if free, _, err := s.free(); err != nil || free < s.reserve+uint64(s.ballast) {
		s.log.Warn().Uint64("free", free).Uint64("reserve", s.reserve).Msg("the disk is nearly full: no ballast file created")
		return
	}
	f, err := os.OpenFile(s.dir.Ballast(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		err = unix.Fallocate(int(f.Fd()), 0, 0, s.ballast)
		if errors.Is(err, syscall.EOPNOTSUPP) {
			_, err = f.Write(make([]byte, s.ballast))
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.log.Warn().Err(err).Msg("ballast file not created")
		_ = os.Remove(s.dir.Ballast())
	}
}

// dropBallast gives up the ballast, just before the process ends.
func (s *space) dropBallast() {
	if err := os.Remove(s.dir.Ballast()); err == nil {
		s.log.Warn().Msg("ballast file removed: the next start has room for its log")
	}
}
