package wal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"coord/wal"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"
)

// redirect puts another file under the descriptors with which this process has path open: this makes a write or an
// fsync fail inside a library that opens its own files.
func redirect(t *testing.T, path string, to int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	found := false
	for _, fd := range fds {
		if link, _ := os.Readlink("/proc/self/fd/" + fd.Name()); link == path {
			n, err := strconv.Atoi(fd.Name())
			must(t, err)
			must(t, unix.Dup3(to, n, unix.O_CLOEXEC))
			found = true
		}
	}
	if !found {
		t.Fatalf("%s is not open", path)
	}
}

// After the n-th batch a call fails. The error is final, readers go on, and a new Open finds everything that was
// acknowledged.
func TestFailedCalls(t *testing.T) {
	t.Parallel()
	faults := map[string]func(t *testing.T, dir string) (heal func()){
		"write": func(t *testing.T, dir string) func() {
			full, err := unix.Open("/dev/full", unix.O_WRONLY, 0)
			must(t, err)
			redirect(t, filepath.Join(dir, tailOf(readFolder(t, dir))), full)
			must(t, unix.Close(full))
			return func() {}
		},
		"fsync": func(t *testing.T, dir string) func() { // a pipe takes the bytes, and cannot be fsynced
			var pipe [2]int
			must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
			redirect(t, filepath.Join(dir, tailOf(readFolder(t, dir))), pipe[1])
			must(t, unix.Close(pipe[1]))
			return func() { must(t, unix.Close(pipe[0])) }
		},
		"new segment": func(t *testing.T, dir string) func() { // no file can be made where there is a folder
			all := scanAll(t, dir)
			var made []string
			for i := range uint64(12) {
				path := filepath.Join(dir, fmt.Sprintf("%020d", all[len(all)-1].Sequence+1+i))
				if err := os.Mkdir(path, 0o700); err == nil {
					made = append(made, path)
				}
			}
			return func() {
				for _, path := range made {
					must(t, os.Remove(path))
				}
			}
		},
	}
	for name, fault := range faults {
		for n := range 6 {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				o := wal.Options{SegmentBytes: 500}
				l, _ := open(t, dir, o)
				m := &model{}
				batch := func() wal.Batch {
					return wal.Batch{Entries: entries(m.last()+1, 1, 2), HardState: wal.HardState{Term: 1}, Sync: true}
				}
				for range n {
					b := batch()
					must(t, l.Append(b))
					m.state.Term = 1
					m.put(b.Entries[0])
					m.put(b.Entries[1])
				}
				heal := fault(t, dir)
				var final error
				for range 20 {
					b := batch()
					if final = l.Append(b); final != nil {
						break
					}
					m.state.Term = 1
					m.put(b.Entries[0])
					m.put(b.Entries[1])
				}
				if _, ok := errors.AsType[*wal.WriteError](final); !ok {
					t.Fatalf("the fault was not seen: %v", final)
				}
				heal()
				for call, err := range map[string]error{
					"append": l.Append(batch()), "mark": l.Mark(wal.Mark{}), "compact": l.CompactTo(1),
					"reset": l.Reset(wal.Position{Index: 9, Term: 1}, wal.HardState{}), "close": l.Close(),
				} {
					if !errors.Is(err, final) {
						t.Errorf("%s after the failure: %v, want %v", call, err, final)
					}
				}
				if why := m.readsOther(l); why != "" {
					t.Errorf("after the failure: %s", why)
				}
				l, r := open(t, dir, o)
				// The batch that could not get its next segment was written; it may be there, in part or
				// completely.
				for i := m.last() + 1; i <= r.Last && name == "new segment"; i++ {
					m.put(entries(i, 1, 1)[0])
					m.state.Term, m.state.Commit = 1, 0
				}
				if why := m.differs(l, r); why != "" {
					t.Errorf("reopened: %s", why)
				}
				must(t, l.Append(batch()))
				must(t, l.Close())
			})
		}
	}
}

// A segment cannot be removed: the log stays usable.
func TestFailedSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, wal.Options{SegmentBytes: 500})
	must(t, l.Append(wal.Batch{Entries: entries(1, 1, 30), HardState: wal.HardState{Term: 1, Commit: 25}, Sync: true}))
	f := readFolder(t, dir)
	second := filepath.Join(dir, f.names()[1])
	must(t, os.Remove(second))
	must(t, os.MkdirAll(filepath.Join(second, "x"), 0o700))
	must(t, l.CompactTo(25))
	for range 2 {
		if _, ok := errors.AsType[*wal.WriteError](l.Sweep(t.Context())); !ok {
			t.Fatal("a segment that is a folder was removed")
		}
		must(t, l.Append(wal.Batch{HardState: wal.HardState{Term: 1, Commit: 26}, Sync: true}))
	}
	must(t, os.RemoveAll(second))
	must(t, l.Close())
	l, r := open(t, dir, wal.Options{SegmentBytes: 500})
	if r.Last != 30 || r.First > 25 || r.First < 15 {
		t.Errorf("reopened: %+v", r)
	}
	must(t, l.Close())
}

// A disk runs full, on a file system of its own, and has room again later.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, bytes := range []int{90, 700, 5000, 40000} {
		t.Run(fmt.Sprint(bytes), func(t *testing.T) {
			t.Parallel()
			mount := t.TempDir()
			if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=512k"); err != nil {
				t.Skipf("NOT TESTED: a full disk, since this process may not mount a tmpfs: %v", err)
			}
			t.Cleanup(func() { must(t, unix.Unmount(mount, unix.MNT_DETACH)) })
			filler := filepath.Join(mount, "filler")
			must(t, os.WriteFile(filler, make([]byte, 300<<10), 0o600))
			dir := filepath.Join(mount, "wal")
			o := wal.Options{SegmentBytes: 60 << 10}
			l, _ := open(t, dir, o)
			m := &model{}
			next := func() wal.Batch {
				e := entry(m.last()+1, 1, strings.Repeat(string(rune('a'+m.last()%26)), bytes))
				return wal.Batch{Entries: []*raftpb.Entry{e}, Sync: true}
			}
			var final error
			for final == nil {
				b := next()
				if final = l.Append(b); final == nil {
					m.put(b.Entries[0])
				}
			}
			if !errors.Is(final, unix.ENOSPC) {
				t.Fatalf("got %v", final)
			}
			m.state = wal.HardState{Term: 1, Commit: m.last() - 1} // what the entries say
			check := func(when string) {
				t.Helper()
				l, r := open(t, dir, o)
				m.state.Commit = r.HardState.Commit
				if why := m.differs(l, r); why != "" {
					t.Fatalf("%s: %s", when, why)
				}
				must(t, l.Close())
			}
			check("still full")
			must(t, os.Remove(filler))
			if err := l.Append(next()); !errors.Is(err, final) {
				t.Errorf("with room again: %v", err)
			}
			check("with room again")
			l, _ = open(t, dir, o)
			for range 3 {
				b := next()
				must(t, l.Append(b))
				m.put(b.Entries[0])
			}
			must(t, l.Close())
			check("gone on")
		})
	}
}
