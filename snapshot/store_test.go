package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coord/tree"
	"coord/tree/znode"
)

// stateAt is a state with zxid n, stamped a minute after that of n-1.
func stateAt(tb testing.TB, n uint32) *tree.Frozen {
	b := tree.NewBuilder()
	tree.New().Freeze().Nodes(znode.Root, func(n *tree.Node) bool {
		if err := b.Add(n); err != nil {
			tb.Fatal(err)
		}
		return true
	})
	c := testCounters
	c.Zxid, c.TimeMS = znode.MakeZxid(5, n), testCounters.TimeMS+int64(n)*60_000
	t, err := b.Tree(c)
	if err != nil {
		tb.Fatal(err)
	}
	return t.Freeze()
}

func openStore(tb testing.TB) *Store {
	tb.Helper()
	s, err := OpenStore(filepath.Join(tb.TempDir(), "snapshot"), Pace{})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func saveAt(tb testing.TB, s *Store, n uint32) Info {
	tb.Helper()
	m := testMeta()
	m.RaftIndex = uint64(n) * 10
	info, err := s.Save(tb.Context(), m, stateAt(tb, n), Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return info
}

// names lists the files in a store's folder.
func names(tb testing.TB, s *Store) []string {
	tb.Helper()
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		tb.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// spoil changes a byte in the middle of a file, or cuts the file off.
func spoil(tb testing.TB, path string, cut bool) {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if cut {
		b = b[:len(b)-trailerBytes-5]
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	if _, _, err := s.Latest(t.Context(), Restore); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("an empty folder: %v", err)
	}
	for n := range uint32(4) {
		saveAt(t, s, n+1)
	}
	for path, want := range map[string]fs.FileMode{s.Dir(): 0o700 | fs.ModeDir, filepath.Join(s.Dir(), names(t, s)[0]): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode() != want {
			t.Errorf("%s has mode %v, want %v; %v", path, st.Mode(), want, err)
		}
	}
	want := []string{"snapshot-0000000500000001-000000000000000a.coord", "snapshot-0000000500000002-0000000000000014.coord",
		"snapshot-0000000500000003-000000000000001e.coord", "snapshot-0000000500000004-0000000000000028.coord"}
	if got := names(t, s); !slices.Equal(got, want) {
		t.Errorf("files %v", got)
	}
	path := func(n int) string { return filepath.Join(s.Dir(), want[n-1]) }
	wantLatest := func(zxid int, bad ...int) {
		t.Helper()
		tr, good, skipped, err := s.Load()
		if err != nil || good.Meta.EndZxid.Counter() != uint32(zxid) || tr.Digest() != good.Summary.Digest || good.Path != path(zxid) {
			t.Errorf("loaded %+v, %v; want %d", good, err, zxid)
		}
		info, skipped2, err := s.Latest(t.Context(), Decode)
		if err != nil || info.Meta.EndZxid != good.Meta.EndZxid {
			t.Errorf("latest %+v, %v; want %d", info, err, zxid)
		}
		if len(skipped) != len(bad) || len(skipped2) != len(bad) {
			t.Errorf("skipped %v and %v, want %v", skipped, skipped2, bad)
			return
		}
		for i, n := range bad {
			if skipped[i].Path != path(n) || !strings.Contains(skipped[i].Err.Error(), path(n)) {
				t.Errorf("skipped %+v, want %d", skipped[i], n)
			}
			wantDamage(t, "skipped", skipped[i].Err)
		}
	}
	wantLatest(4)
	spoil(t, path(4), false)
	wantLatest(3, 4)
	spoil(t, path(3), true)
	wantLatest(2, 4, 3)
	// The name says nothing: the oldest file gets the highest name.
	if err := os.Rename(path(1), filepath.Join(s.Dir(), "snapshot-ffffffffffffffff-0.coord")); err != nil {
		t.Fatal(err)
	}
	wantLatest(2, 4, 3)
	list, err := s.List()
	if err != nil || len(list) != 4 || list[3].Meta.EndZxid.Counter() != 1 || list[0].Err != nil || list[1].Err == nil {
		t.Errorf("list %+v, %v", list, err)
	}
	spoil(t, path(2), false)
	spoil(t, filepath.Join(s.Dir(), "snapshot-ffffffffffffffff-0.coord"), false)
	_, _, bad, err := s.Load()
	wantDamage(t, "only bad ones", err)
	if len(bad) != 4 || !strings.Contains(err.Error(), path(4)) {
		t.Errorf("%v, %v", bad, err)
	}
}

// TestStoreHeader: a file with a damaged header may be the newest. It is reported together with the
// older one that is loaded.
func TestStoreHeader(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	older, newest := saveAt(t, s, 1), saveAt(t, s, 2)
	if err := os.Truncate(newest.Path, 0); err != nil {
		t.Fatal(err)
	}
	_, good, bad, err := s.Load()
	if err != nil || good.Path != older.Path || len(bad) != 1 || bad[0].Path != newest.Path {
		t.Errorf("loaded %s, passed over %+v, %v", good.Path, bad, err)
	}
}

// TestStoreNotOpened: a file that cannot be opened is reported together with the one that is
// loaded, and Prune still removes others. If there is no other file, it is the error.
func TestStoreNotOpened(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	oldest, newest := saveAt(t, s, 1), saveAt(t, s, 2)
	closed := filepath.Join(s.Dir(), "snapshot-x.coord")
	if err := os.Symlink(closed, closed); err != nil {
		t.Fatal(err)
	}
	_, good, bad, err := s.Load()
	if err != nil || good.Path != newest.Path || len(bad) != 1 || bad[0].Path != closed || !errors.Is(NotOpened(bad), syscall.ELOOP) {
		t.Errorf("loaded %s, passed over %+v, %v", good.Path, bad, err)
	}
	if removed, err := s.Prune(t.Context(), 1, 0, time.Now()); err != nil || !slices.Equal(removed, []string{oldest.Path}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if err := os.Truncate(newest.Path, 0); err != nil {
		t.Fatal(err)
	}
	if _, good, _, err := s.Load(); !errors.Is(err, syscall.ELOOP) || IsBad(err) {
		t.Errorf("loaded %s, %v", good.Path, err)
	}
}

func TestStoreNewer(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	info := saveAt(t, s, 2)
	file, err := os.ReadFile(info.Path)
	if err != nil {
		t.Fatal(err)
	}
	f := takeApart(t, file)
	f.header[9] = 2
	future := filepath.Join(s.Dir(), "snapshot-0.coord")
	if err := os.WriteFile(future, f.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var newer *NewerError
	if _, _, _, err := s.Load(); !errors.As(err, &newer) || newer.File != future {
		t.Errorf("a file of a newer coord is passed over: %v", err)
	}
	saveAt(t, s, 3)
	if removed, err := s.Prune(t.Context(), 1, 0, time.Now()); err != nil || len(removed) != 1 || removed[0] != info.Path {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func TestLitter(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	saveAt(t, s, 1)
	for _, name := range []string{"snapshot-123.part", "notes.txt", "other.part"} {
		if err := os.WriteFile(filepath.Join(s.Dir(), name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("a part file is listed: %+v, %v", list, err)
	}
	if _, err := OpenStore(s.Dir(), Pace{}); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); !slices.Equal(got, []string{"notes.txt", "other.part", "snapshot-0000000500000001-000000000000000a.coord"}) {
		t.Errorf("after opening: %v", got)
	}
}

func TestOpenStoreElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, filepath.Join(dir, "no", "parent"), filepath.Join(dir, strings.Repeat("x", 300))} {
		if _, err := OpenStore(path, Pace{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	s := openStore(t)
	if err := os.RemoveAll(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), testMeta(), stateAt(t, 1), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestSaveGivenUp(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	f := smallState(t)
	stop := errors.New("enough")
	for n := range 7 { // fails after each frame
		_, err := s.Save(t.Context(), testMeta(), f, Options{Step: func(Progress) error {
			if n--; n < 0 {
				return stop
			}
			return nil
		}})
		if !errors.Is(err, stop) {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Save(ctx, testMeta(), f, Options{Step: func(p Progress) error {
		if p.Znodes == p.OfZnodes { // all znodes are written
			cancel()
		}
		return nil
	}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// TestSaveLarge saves a file that is brought to the disk in more than one step.
func TestSaveLarge(t *testing.T) {
	t.Parallel()
	s, f := openStore(t), million(t, 40_000)
	info, err := s.Save(t.Context(), testMeta(), f, Options{Room: 3 * roomStep}) // much more than it needs
	if err != nil || info.Summary.FileBytes <= 2*steadyStep {
		t.Fatalf("%+v, %v", info.Summary, err)
	}
	if st, err := os.Stat(info.Path); err != nil || st.Size() != info.Summary.FileBytes {
		t.Errorf("the file has %d bytes, written were %d; %v", st.Size(), info.Summary.FileBytes, err)
	}
	if tr, good, _, err := s.Load(); err != nil || tr.Digest() != f.Digest() || good.Path != info.Path || good.Summary != info.Summary {
		t.Errorf("%+v, %v", good, err)
	}
}

// TestSaveReadsBack damages the file between writing it and reading it back.
func TestSaveReadsBack(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	_, err := s.Save(t.Context(), testMeta(), smallState(t), Options{Step: func(p Progress) error {
		if p.Znodes == p.OfZnodes {
			f, err := os.OpenFile(filepath.Join(s.Dir(), names(t, s)[0]), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{0xee}, headerBytes+30)
			return err
		}
		return nil
	}})
	wantDamage(t, "spoiled", err)
	if got := names(t, s); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// H11 (ZOOKEEPER-2325): the purge removed the only files that could be read.
func TestPrune(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(testCounters.TimeMS).Add(10 * time.Minute)
	for _, c := range []struct {
		name   string
		spoil  []int // by zxid, of 6 files
		cut    []int
		keep   int
		maxAge time.Duration
		want   []int // the files that stay
	}{
		{"the newest three", nil, nil, 3, 0, []int{4, 5, 6}},
		{"never none", nil, nil, 0, 0, []int{6}},
		{"fewer than asked for", nil, nil, 10, 0, []int{1, 2, 3, 4, 5, 6}},
		{"young ones too", nil, nil, 1, 8*time.Minute + time.Second, []int{2, 3, 4, 5, 6}},
		{"damaged ones do not count", []int{6, 4}, nil, 2, 0, []int{3, 4, 5, 6}},
		{"nor do cut ones", nil, []int{6, 5}, 2, 0, []int{3, 4, 5, 6}},
		{"old ones seen to be damaged go, however young", []int{2}, []int{1}, 2, time.Hour, []int{2, 3, 4, 5, 6}},
		{"nothing good, nothing goes", []int{1, 2, 3}, []int{4, 5, 6}, 1, 0, []int{1, 2, 3, 4, 5, 6}},
		{"the only good one is the oldest", []int{2, 3}, []int{4, 5, 6}, 1, 0, []int{1, 2, 3, 4, 5, 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			path := map[int]string{}
			for n := 1; n <= 6; n++ {
				path[n] = saveAt(t, s, uint32(n)).Path
			}
			for _, n := range c.spoil {
				spoil(t, path[n], false)
			}
			for _, n := range c.cut {
				spoil(t, path[n], true)
			}
			removed, err := s.Prune(t.Context(), c.keep, c.maxAge, now)
			if err != nil {
				t.Fatal(err)
			}
			for n := 1; n <= 6; n++ {
				_, err := os.Stat(path[n])
				if stays := slices.Contains(c.want, n); stays != (err == nil) || stays == slices.Contains(removed, path[n]) {
					t.Errorf("%d: %v, removed %v", n, err, removed)
				}
			}
		})
	}
}

func TestStoreTogether(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	saveAt(t, s, 1)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 5 {
				if _, err := s.Save(t.Context(), testMeta(), stateAt(t, uint32(2+i*5+j)), Options{}); err != nil {
					t.Error(err)
				}
				if _, err := s.Prune(t.Context(), 30, 0, time.Now()); err != nil {
					t.Error(err)
				}
				if _, _, _, err := s.Load(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if list, err := s.List(); err != nil || len(list) != 21 {
		t.Errorf("%d entries, %v", len(list), err)
	}
}

// TestFullDisk saves on disks of every size up to one that is large enough.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: what a full disk does to Save. That needs root, to mount a tmpfs of a few KiB.")
	}
	f := million(t, 3_000) // some 350 KiB
	pageKiB := os.Getpagesize() >> 10
	full := 0
	for kib := pageKiB; ; kib += 6 * pageKiB {
		done := func() bool {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
				t.Skipf("NOT TESTED: what a full disk does to Save. No tmpfs can be mounted: %v", err)
			}
			defer func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			}()
			s, err := OpenStore(filepath.Join(dir, "snapshot"), Pace{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Save(t.Context(), testMeta(), f, Options{})
			if err == nil {
				return true
			}
			full++
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%d KiB: %v", kib, err)
			}
			if got := names(t, s); len(got) != 0 {
				t.Errorf("%d KiB: left behind: %v", kib, got)
			}
			begun := func(Progress) error {
				t.Errorf("%d KiB: it is begun without the room that it wants", kib)
				return nil
			}
			if _, err := s.Save(t.Context(), testMeta(), f, Options{Room: 2 << 20, Step: begun}); !errors.Is(err, syscall.ENOSPC) || len(names(t, s)) > 0 {
				t.Errorf("%d KiB, with 2 MiB of room: %v; left behind: %v", kib, err, names(t, s))
			}
			// Once there is room again, the next Save succeeds.
			if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=2m"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Save(t.Context(), testMeta(), f, Options{}); err != nil {
				t.Errorf("%d KiB, then 2 MiB: %v", kib, err)
			}
			return false
		}()
		if done {
			break
		}
	}
	if full < 5 {
		t.Errorf("only %d disks were too small", full)
	}
}

// TestRetire removes large files at a pace: those that nothing else uses shrink first; those with
// another name or being read keep their bytes.
func TestRetire(t *testing.T) {
	t.Parallel()
	s, err := OpenStore(filepath.Join(t.TempDir(), "snapshot"), Pace{Rests: 1, Longest: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	const size = 3 * retireStep
	create := func(name string) string {
		path := filepath.Join(s.Dir(), name)
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	retire := func(path string) {
		t.Helper()
		start := time.Now()
		if err := s.retire(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); filepath.Base(path) == "snapshot-1.coord" && took < 2*retirePause {
			t.Errorf("removed in %v, with no pause", took)
		}
		if got := names(t, s); slices.Contains(got, filepath.Base(path)) || slices.ContainsFunc(got, func(n string) bool { return strings.HasSuffix(n, partSuffix) }) {
			t.Errorf("left: %v", got)
		}
	}
	retire(create("snapshot-1.coord"))

	linked, other := create("snapshot-2.coord"), filepath.Join(s.Dir(), "a copy")
	if err := os.Link(linked, other); err != nil {
		t.Fatal(err)
	}
	retire(linked)
	if info, err := os.Stat(other); err != nil || info.Size() != size {
		t.Errorf("the other name of a removed file: %v, %v", info, err)
	}

	read := create("snapshot-3.coord")
	f, err := os.Open(read)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	retire(read)
	if n, err := io.Copy(io.Discard, f); err != nil || n != size {
		t.Errorf("who was reading a removed file got %d bytes, %v", n, err)
	}
}
