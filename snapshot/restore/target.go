package restore

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/tree"
)

// target is the folder that a restore fills.
type target struct {
	places
	kind kind
	info fs.FileInfo  // nil if missing
	lock *datadir.Dir // nil if missing
}

// kind is what a target holds.
type kind int

const (
	missing kind = iota
	empty        // nothing but what coord and the file system leave behind
	ours         // a node's data, perhaps damaged
)

// places are the names that a restore uses. See the package comment.
type places struct {
	dir    string // the data folder, links resolved
	id     string // of the restore
	inside bool
}

func (p places) build() string {
	if p.inside {
		return filepath.Join(p.dir, "restore-"+p.id+".new")
	}
	return p.dir + ".restore-" + p.id
}

func (p places) kept() string {
	if p.inside {
		return filepath.Join(p.dir, keptPrefix+p.id)
	}
	return p.dir + "." + keptPrefix + p.id
}

func (p places) plan() string {
	paths := datadir.PlanPaths(p.dir)
	if p.inside {
		return paths[1]
	}
	return paths[0]
}

// around is the folder that holds the names of build, kept and plan.
func (p places) around() string {
	if p.inside {
		return p.dir
	}
	return filepath.Dir(p.dir)
}

const keptPrefix = "pre-restore-"

// newRestoreID returns an id that sorts by time and is unique on a host.
func newRestoreID(now time.Time) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}

// lookAt examines the target, and locks it if it exists. It changes nothing.
func lookAt(path, id string) (_ *target, err error) {
	if path == "" {
		return nil, &TargetError{path, errors.New("its name is empty")}
	}
	dir, err := datadir.Resolve(path)
	if err != nil {
		return nil, &TargetError{path, err}
	}
	t := &target{places: places{dir: dir, id: id}}
	if err := refuseWrong(dir); err != nil {
		return nil, err
	}
	t.info, err = os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, t.checkAbove()
	case err != nil:
		return nil, &TargetError{dir, err}
	case !t.info.IsDir():
		return nil, &TargetError{dir, syscall.ENOTDIR}
	}
	if t.kind, err = t.classify(); err != nil {
		return nil, err
	}
	if !t.inside {
		t.inside = !movable(dir, id)
	}
	if t.lock, err = datadir.Lock(dir); err != nil {
		return nil, err
	}
	return t, nil
}

// refuseWrong refuses folders that are certainly given by mistake.
func refuseWrong(dir string) error {
	wrong := []string{"/"}
	home, err := os.UserHomeDir()
	if err == nil && filepath.IsAbs(home) {
		for up := filepath.Clean(home); up != "/"; up = filepath.Dir(up) {
			wrong = append(wrong, up)
		}
	}
	info, err := os.Stat(dir)
	for _, w := range wrong {
		same := w == dir
		if other, e := os.Stat(w); err == nil && e == nil {
			same = same || os.SameFile(info, other)
		}
		if !same {
			continue
		}
		if w == "/" {
			return &RefusedError{dir, "it is the root of the file system"}
		}
		return &RefusedError{dir, "it is the home folder, or contains it"}
	}
	return nil
}

// checkAbove checks the place of a target that does not exist yet.
func (t *target) checkAbove() error {
	above := filepath.Dir(t.dir)
	info, err := os.Stat(above)
	switch {
	case err != nil:
		return &TargetError{t.dir, err}
	case !info.IsDir():
		return &TargetError{t.dir, fmt.Errorf("%s: %w", above, syscall.ENOTDIR)}
	case tooLong(t.dir, t.id):
		return &TargetError{t.dir, syscall.ENAMETOOLONG}
	}
	if err := unix.Access(above, unix.W_OK|unix.X_OK); err != nil {
		return &TargetError{t.dir, fmt.Errorf("%s: %w", above, err)}
	}
	return nil
}

// tooLong says whether names beside dir would be too long.
func tooLong(dir, id string) bool {
	return len(filepath.Base(dir))+len("."+keptPrefix)+len(id) > unix.NAME_MAX
}

// classify classifies the target by the names in it.
func (t *target) classify() (kind, error) {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return 0, &TargetError{t.dir, err}
	}
	var foreign []string
	k := empty
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(t.dir, name)
		switch {
		case name == "lost+found":
			t.inside = true // it cannot be moved
		case name == "version-2":
			return 0, &RefusedError{t.dir, "it is a data folder of ZooKeeper"}
		case name == datadir.LockName, name == datadir.BallastName, isRest(name):
		case name == datadir.IdentityName && isIdentity(path),
			name == datadir.WALName && holds(path, isSegment),
			name == datadir.SnapshotName && holds(path, isSnapshot):
			k = ours
		case name == datadir.IdentityName, name == datadir.WALName, name == datadir.SnapshotName:
			if !e.IsDir() || !holds(path, nil) {
				foreign = append(foreign, name)
			}
		default:
			foreign = append(foreign, name)
		}
	}
	if k == empty && len(foreign) > 0 {
		most := min(len(foreign), 3)
		return 0, &RefusedError{t.dir, fmt.Sprintf("it holds files that are not coord's, such as %s", strings.Join(foreign[:most], ", "))}
	}
	return k, nil
}

// isRest recognises what restores leave in a folder.
func isRest(name string) bool {
	return strings.HasPrefix(name, keptPrefix) || name == filepath.Base(datadir.PlanPaths("/")[1]) ||
		strings.HasPrefix(name, "restore-") && (strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".new"))
}

func isIdentity(path string) bool {
	b, err := os.ReadFile(path)
	return err == nil && bytes.HasPrefix(b, []byte("coord identity "))
}

func isSegment(name string) bool {
	return len(name) >= 20 && strings.Trim(name[:20], "0123456789") == ""
}

// holds says whether a folder has a file whose name fits; with a nil fits, whether the folder is empty.
func holds(path string, fits func(string) bool) bool {
	entries, err := os.ReadDir(path)
	if fits == nil {
		return err == nil && len(entries) == 0
	}
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return fits(e.Name()) })
}

// movable says whether the folder can be renamed, and names can be created beside it.
func movable(dir, id string) bool {
	above := filepath.Dir(dir)
	if tooLong(dir, id) || unix.Access(above, unix.W_OK|unix.X_OK) != nil {
		return false
	}
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0
	}
	// With an older kernel a bind mount of the same file system is not noticed here, and the rename will report it.
	var in, out unix.Stat_t
	return unix.Stat(dir, &in) == nil && unix.Stat(above, &out) == nil && in.Dev == out.Dev
}

// again examines the target once more, after the plan file has closed it to others: it must not have changed.
func (t *target) again() error {
	now, err := lookAt(t.dir, t.id)
	var inUse *datadir.InUseError
	if errors.As(err, &inUse) && t.lock != nil && t.lock.Held() {
		return t.same() // the lock is ours
	}
	if err != nil {
		return err
	}
	if t.lock != nil {
		_ = t.lock.Close()
	}
	was := t.info
	t.lock = now.lock // the lock of a lock file made meanwhile, if there is one
	if now.kind != t.kind || (was == nil) != (now.info == nil) || was != nil && !os.SameFile(was, now.info) {
		return &datadir.InUseError{Path: t.dir}
	}
	return nil
}

// same returns an error if the folder no longer has its name.
func (t *target) same() error {
	info, err := os.Lstat(t.dir)
	if err != nil || !os.SameFile(info, t.info) {
		return &datadir.InUseError{Path: t.dir}
	}
	return nil
}

// old lists the names of the old data that move if the folder cannot move as a whole.
func (t *target) old() []string {
	var names []string
	for _, name := range []string{datadir.IdentityName, datadir.WALName, datadir.SnapshotName} {
		if _, err := os.Lstat(filepath.Join(t.dir, name)); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// roomFor is room for a state that was not read from a snapshot file.
func (t *target) roomFor(c tree.Counts) (Space, error) {
	// The most bytes of a record in the snapshot besides path and data.
	const recordBytes = 128
	return t.room(&snapshot.Summary{RawBytes: c.DataBytes + recordBytes*int64(c.Znodes), Znodes: int64(c.Znodes)})
}

// walReserve is the room that a start needs besides its snapshot: less on a small disk.
const walReserve = 16 << 20

// room says how much room the restored folder needs, and how much there is. znodeGrowth is more
// than the adjustments add to a znode's record.
func (t *target) room(s *snapshot.Summary) (Space, error) {
	const znodeGrowth = 32
	var st unix.Statfs_t
	at := t.dir
	if t.info == nil {
		at = filepath.Dir(at)
	}
	if err := unix.Statfs(at, &st); err != nil {
		return Space{}, fmt.Errorf("%s: %w", at, err)
	}
	block := uint64(st.Bsize)
	total, free := int64(st.Blocks*block), int64(st.Bavail*block)
	space := Space{Need: s.RawBytes + znodeGrowth*s.Znodes + 64<<10 + min(walReserve, total/16), Free: free}
	if space.Free < space.Need {
		return space, &NoSpaceError{at, space.Need, space.Free}
	}
	return space, nil
}
