package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coord/tree"
	"coord/tree/znode"
)

// Level says how much of a snapshot a check looks at; each level includes those before it.
type Level int

// The levels.
const (
	Header   Level = iota // the two ends: finds a file that is cut off or of another kind
	Checksum              // every byte, by CRC and SHA-256
	Decode                // every record, every count, the order of the znodes
	Restore               // the state is built in memory and its digest compared
)

// String is the level's name on the command line.
func (l Level) String() string {
	switch l {
	case Header:
		return "header"
	case Checksum:
		return "checksum"
	case Decode:
		return "decode"
	case Restore:
		return "restore"
	}
	return fmt.Sprintf("level %d", int(l))
}

// ParseLevel reads a level's name.
func ParseLevel(s string) (Level, error) {
	for l := Header; l <= Restore; l++ {
		if l.String() == s {
			return l, nil
		}
	}
	return 0, fmt.Errorf("level %q is not one of header, checksum, decode, restore", s)
}

// Info is what a file says about itself.
type Info struct {
	Path    string
	Meta    Meta
	Summary Summary
}

// Inspect reads the two ends of a snapshot: its time does not depend on the file's size. It does
// not look at what is between them: see Verify.
func Inspect(path string) (Info, error) {
	f, err := openFile(path)
	if err != nil {
		return Info{Path: path}, err
	}
	defer f.Close()
	return inspect(f)
}

func inspect(f *os.File) (Info, error) {
	info := Info{Path: f.Name()}
	st, err := f.Stat()
	if err != nil {
		return info, fmt.Errorf("snapshot: %w", err)
	}
	s := newSeeker(f, st.Size())
	defer s.unpack.close()
	err = s.open()
	info.Meta, info.Summary = s.meta, s.end.Summary
	return info, err
}

// Verify checks a snapshot at the given level.
func Verify(path string, level Level) (Info, error) {
	if filepath.Ext(path) == partSuffix {
		return Info{Path: path}, &DamageError{File: path, Frame: -1, Reason: "its name says that it was never finished"}
	}
	return verify(context.Background(), path, level, Pace{})
}

func verify(ctx context.Context, path string, level Level, pace Pace) (info Info, err error) {
	info.Path = path
	f, err := openFile(path)
	if err != nil {
		return info, err
	}
	defer f.Close()
	if level == Header {
		return inspect(f)
	}
	return verifyReader(pace.reader(ctx, f), path, level)
}

func verifyReader(r io.Reader, path string, level Level) (info Info, err error) {
	info.Path = path
	if level == Restore {
		_, info.Meta, info.Summary, err = Read(named{r, path})
		return info, err
	}
	w := newWalk(r, path)
	defer w.close()
	w.sealed = level == Checksum
	w.visit.node = new(order).check
	err = w.run()
	info.Meta, info.Summary = w.meta, w.summary
	return info, err
}

// named is a reader with a name for errors.
type named struct {
	io.Reader
	name string
}

func (n named) Name() string { return n.name }

// order checks that znodes come depth-first and in order, each after its parent.
type order struct{ last string }

func (o *order) check(n *tree.Node) error {
	if err := znode.CheckPath(n.Path); err != nil {
		return err
	}
	parent, _ := znode.Split(n.Path)
	switch {
	case o.last == "" && n.Path != znode.Root:
		return fmt.Errorf("%s comes before the root", n.Path)
	case o.last != "" && ComparePaths(o.last, n.Path) >= 0:
		return fmt.Errorf("%s cannot come after %s", n.Path, o.last)
	case o.last != "" && !znode.Below(o.last, parent):
		return fmt.Errorf("%s comes without its parent", n.Path)
	}
	o.last = n.Path
	return nil
}

// SurveyOptions say what a survey lists.
type SurveyOptions struct {
	Depth int // number of names in a prefix: 1 sums up by the root's children
	Top   int // the most prefixes and biggest znodes to list
	Pace  Pace
}

// Survey summarizes what is in a snapshot.
type Survey struct {
	Info
	Prefixes []PrefixUse // largest first
	Others   PrefixUse   // the sum of all prefixes not listed
	Biggest  []ZnodeUse  // largest first
	Sessions []SessionUse
}

// PrefixUse is the size of everything at and under a path.
type PrefixUse struct {
	Path       string
	Znodes     int64
	Ephemerals int64
	Bytes      int64 // of paths and data
}

// ZnodeUse is the size of one znode.
type ZnodeUse struct {
	Path  string
	Bytes int64 // of data
}

// SessionUse is one session of the state.
type SessionUse struct {
	ID         int64
	TimeoutMS  int32
	Ephemerals int64
}

// TakeSurvey reads a whole snapshot, checks it at level Decode and summarizes its contents.
func TakeSurvey(path string, o SurveyOptions) (Survey, error) {
	f, err := openFile(path)
	if err != nil {
		return Survey{Info: Info{Path: path}}, err
	}
	defer f.Close()
	w := newWalk(o.Pace.reader(context.Background(), f), path)
	defer w.close()
	c := surveyor{o: o, sessions: map[int64]int{}}
	w.visit = visitor{session: c.session, node: c.node}
	err = w.run()
	c.closePrefix()
	c.s.Info = Info{path, w.meta, w.summary}
	return c.s, err
}

// surveyor makes a survey of the znodes as they are read.
type surveyor struct {
	o        SurveyOptions
	s        Survey
	order    order
	prefix   PrefixUse     // of the znodes being read now
	sessions map[int64]int // index in s.Sessions
}

func (c *surveyor) session(s tree.Session) error {
	c.sessions[s.ID] = len(c.s.Sessions)
	c.s.Sessions = append(c.s.Sessions, SessionUse{ID: s.ID, TimeoutMS: s.TimeoutMS})
	return nil
}

func (c *surveyor) node(n *tree.Node) error {
	if err := c.order.check(n); err != nil {
		return err
	}
	if p := prefixOf(n.Path, c.o.Depth); p != c.prefix.Path {
		c.closePrefix()
		c.prefix = PrefixUse{Path: strings.Clone(p)}
	}
	c.prefix.Znodes++
	c.prefix.Bytes += int64(len(n.Path) + len(n.Data))
	if session := znode.ExplainOwner(n.Owner).Session; session != 0 {
		c.prefix.Ephemerals++
		if i, ok := c.sessions[session]; ok {
			c.s.Sessions[i].Ephemerals++
		}
	}
	u := ZnodeUse{n.Path, int64(len(n.Data))}
	c.s.Biggest, _, _ = keepLargest(c.s.Biggest, u, c.o.Top, func(u ZnodeUse) int64 { return u.Bytes })
	return nil
}

// closePrefix ends the sum of the current prefix. All its znodes have been read, because they are
// next to each other.
func (c *surveyor) closePrefix() {
	if c.prefix.Path == "" {
		return
	}
	var out PrefixUse
	var full bool
	c.s.Prefixes, out, full = keepLargest(c.s.Prefixes, c.prefix, c.o.Top, func(u PrefixUse) int64 { return u.Bytes })
	if full {
		c.s.Others.Znodes += out.Znodes
		c.s.Others.Ephemerals += out.Ephemerals
		c.s.Others.Bytes += out.Bytes
	}
}

// prefixOf cuts a path to its first depth names.
func prefixOf(path string, depth int) string {
	end := 0
	for range depth {
		next := strings.IndexByte(path[min(end+1, len(path)):], '/')
		if next < 0 {
			return path
		}
		end += 1 + next
	}
	if end == 0 {
		return znode.Root
	}
	return path[:end]
}

// keepLargest inserts x into a list of at most n items, largest first. If there is no room, full is
// true and out is the item that is left out.
func keepLargest[T any](list []T, x T, n int, size func(T) int64) (_ []T, out T, full bool) {
	if len(list) >= n && (n == 0 || size(list[n-1]) >= size(x)) {
		return list, x, true
	}
	i, _ := slices.BinarySearchFunc(list, x, func(a, b T) int {
		if size(a) >= size(b) { // equal items stay in the order of the file
			return -1
		}
		return 1
	})
	list = slices.Insert(list, i, x)
	if len(list) > n {
		return list[:n], list[n], true
	}
	return list, out, false
}
