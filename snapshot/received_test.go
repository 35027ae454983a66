package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// fileAt is a snapshot as another node sends it: zxid n, raft index 10n, term 12.
func fileAt(tb testing.TB, n uint32) []byte {
	m := testMeta()
	m.RaftIndex = uint64(n) * 10
	return encode(tb, m, stateAt(tb, n))
}

func receiveAt(tb testing.TB, s *Store, n uint32) *Received {
	tb.Helper()
	file := fileAt(tb, n)
	r, err := s.Receive(tb.Context(), bytes.NewReader(file), int64(len(file)))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestReceive(t *testing.T) {
	t.Parallel()
	s, state := openStore(t), smallState(t)
	file := encode(t, testMeta(), state)
	for n := range len(file) {
		if _, err := s.Receive(t.Context(), bytes.NewReader(file[:n]), int64(len(file))); !IsBad(err) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for at := 0; at < len(file); at += 13 {
		flipped := bytes.Clone(file)
		flipped[at] ^= 0x10
		if _, err := s.Receive(t.Context(), bytes.NewReader(flipped), int64(len(file))); err == nil {
			t.Errorf("taken with byte %d changed", at)
		}
	}
	cut := errors.New("the link is gone")
	if _, err := s.Receive(t.Context(), io.MultiReader(bytes.NewReader(file), iotest.ErrReader(cut)), int64(len(file))); !errors.Is(err, cut) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Receive(ctx, bytes.NewReader(file), int64(len(file))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	r, err := s.Receive(t.Context(), iotest.OneByteReader(bytes.NewReader(file)), int64(len(file)))
	if err != nil || r.Info().Meta.EndZxid != testCounters.Zxid || r.Tree().Digest() != state.Digest() {
		t.Fatalf("%+v, %v", r, err)
	}
	if st, err := os.Stat(r.Info().Path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if err := r.Discard(); err != nil {
		t.Error(err)
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// TestReceivedKilled: a process that is killed after any step leaves files that fit its log. Until
// the last step, a start uses the old snapshot. H6 (ZOOKEEPER-3642, 2872).
func TestReceivedKilled(t *testing.T) {
	t.Parallel()
	const own, waiting, adopted = "snapshot-0000000500000001-000000000000000a.coord",
		"snapshot-0000000500000003-000000000000001e.received", "snapshot-0000000500000003-000000000000001e.coord"
	s := openStore(t)
	saveAt(t, s, 1)
	var r *Received
	adopt := func(index, term uint64, want bool) func(t *testing.T) {
		return func(t *testing.T) {
			if ok, err := s.Adopt(index, term); ok != want || err != nil {
				t.Errorf("adopt %d of term %d: %v, %v", index, term, ok, err)
			}
		}
	}
	for _, step := range []struct {
		name   string
		do     func(*testing.T)
		left   []string // after a crash
		newest uint32   // what a start uses
	}{
		{"received", func(t *testing.T) {
			r = receiveAt(t, s, 3)
		}, []string{own}, 1},
		{"kept", func(t *testing.T) {
			r = receiveAt(t, s, 3)
			if err := r.Keep(); err != nil || filepath.Base(r.Info().Path) != waiting {
				t.Errorf("%+v, %v", r.Info(), err)
			}
		}, []string{own, waiting}, 1},
		{"the log begins elsewhere", adopt(20, 12, false), []string{own, waiting}, 1},
		{"the log begins in another term", adopt(30, 11, false), []string{own, waiting}, 1},
		{"another one waits", func(t *testing.T) {
			if err := receiveAt(t, s, 2).Keep(); err != nil {
				t.Error(err)
			}
		}, []string{own, "snapshot-0000000500000002-0000000000000014.received", waiting}, 1},
		{"adopted", adopt(30, 12, true), []string{own, "snapshot-0000000500000002-0000000000000014.received", adopted}, 3},
		{"the others removed", func(t *testing.T) {
			if err := s.ClearWaiting(); err != nil {
				t.Error(err)
			}
		}, []string{own, adopted}, 3},
		{"adopted once", adopt(30, 12, false), []string{own, adopted}, 3},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.do(t)
			if removed, err := s.Prune(t.Context(), 2, 0, time.Now()); err != nil || len(removed) > 0 {
				t.Errorf("removed %v, %v", removed, err)
			}
			again, err := OpenStore(s.Dir(), Pace{})
			if err != nil {
				t.Fatal(err)
			}
			if got := names(t, again); !slices.Equal(got, step.left) {
				t.Errorf("left %v, want %v", got, step.left)
			}
			tr, good, _, err := again.Load()
			if err != nil || good.Meta.EndZxid.Counter() != step.newest || tr.Digest() != stateAt(t, step.newest).Digest() {
				t.Errorf("a start begins with %+v, %v", good, err)
			}
			list, err := again.List()
			if err != nil || slices.ContainsFunc(list, func(e Entry) bool { return strings.HasSuffix(e.Path, waitingSuffix) }) {
				t.Errorf("listed: %+v, %v", list, err)
			}
			s = again
		})
	}
}

// TestAdoptDamaged: a waiting file that cannot be read is passed over; damage inside one is left to
// the load that follows.
func TestAdoptDamaged(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for n := uint32(2); n < 4; n++ {
		r := receiveAt(t, s, n)
		if err := r.Keep(); err != nil {
			t.Fatal(err)
		}
		spoil(t, r.Info().Path, n == 2)
	}
	if ok, err := s.Adopt(20, 12); ok || err != nil {
		t.Errorf("cut off: %v, %v", ok, err)
	}
	if ok, err := s.Adopt(30, 12); !ok || err != nil {
		t.Errorf("changed within: %v, %v", ok, err)
	}
	_, _, _, err := s.Load()
	wantDamage(t, "changed within", err)
}

// TestKeepAgain: a second copy replaces the first.
func TestKeepAgain(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for range 2 {
		if err := receiveAt(t, s, 1).Keep(); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, s); len(got) != 1 {
		t.Errorf("%v", got)
	}
	r := receiveAt(t, s, 2)
	if err := r.Keep(); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Adopt(20, 12); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := r.Discard(); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Open(20); err != nil {
		t.Errorf("discarded behind its adoption: %v", err)
	}
}

// TestOpenKept: a file that is being sent keeps its bytes when it is pruned.
func TestOpenKept(t *testing.T) {
	t.Parallel()
	s, err := OpenStore(filepath.Join(t.TempDir(), "snapshot"), Pace{Rests: 1, Longest: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(saveAt(t, s, 1).Path)
	if err != nil {
		t.Fatal(err)
	}
	saveAt(t, s, 2)
	if err := receiveAt(t, s, 3).Keep(); err != nil {
		t.Fatal(err)
	}
	for _, index := range []uint64{1, 11, 30} {
		if _, _, err := s.Open(index); !errors.Is(err, ErrNoSnapshot) {
			t.Errorf("index %d: %v", index, err)
		}
	}
	f, info, err := s.Open(10)
	if err != nil || info.Meta.RaftIndex != 10 || info.Summary.FileBytes != int64(len(want)) {
		t.Fatalf("%+v, %v", info, err)
	}
	defer f.Close()
	if removed, err := s.Prune(t.Context(), 1, 0, time.Now()); err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
	}
}
