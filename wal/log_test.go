package wal_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coord/wal"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Everything that can be written to a log, read back after a new Open.
func TestLife(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "wal")
	o := wal.Options{SegmentBytes: 500, RecentBytes: 300}
	l, r := open(t, dir, o)
	if !r.New || r.Meta != us || r.First != 1 || r.Last != 0 {
		t.Fatalf("a new log: %+v", r)
	}
	m := &model{}
	check := func(step string) {
		t.Helper()
		if why := m.readsOther(l); why != "" {
			t.Fatalf("%s: %s", step, why)
		}
		must(t, l.Close())
		var r *wal.Recovered
		l, r = open(t, dir, o)
		if why := m.differs(l, r); why != "" {
			t.Fatalf("%s, reopened: %s", step, why)
		}
		if r.New || r.Meta != us || r.Repair != (wal.Repair{}) {
			t.Fatalf("%s, reopened: %+v", step, r)
		}
		if size := int64(0); true {
			for _, data := range readFolder(t, dir) {
				size += int64(len(data))
			}
			if l.Size() != size {
				t.Fatalf("%s: size %d, the files have %d", step, l.Size(), size)
			}
		}
	}
	put := func(term, commit uint64, es []*raftpb.Entry) {
		t.Helper()
		must(t, l.Append(wal.Batch{Entries: es, HardState: wal.HardState{Term: term, Vote: 7, Commit: commit}, Sync: true}))
		for _, e := range es {
			m.put(e)
		}
		m.state = wal.HardState{Term: term, Vote: 7, Commit: commit}
	}
	check("new")
	must(t, l.Reset(wal.Position{Index: 1, Term: 1}, wal.HardState{Term: 1}))
	m.base, m.state = wal.Position{Index: 1, Term: 1}, wal.HardState{Term: 1, Commit: 1}
	check("reset to the first snapshot")
	put(2, 1, entries(2, 2, 10))
	check("entries")
	put(3, 5, entries(8, 3, 20))
	check("a conflicting suffix")
	put(4, 27, []*raftpb.Entry{{Index: new(uint64(28)), Term: new(uint64(4))}})
	check("an empty entry")
	m.mark = wal.Mark{Index: 20, Term: 3, Zxid: 3<<32 | 20}
	must(t, l.Mark(m.mark))
	check("a snapshot mark")

	before := len(readFolder(t, dir))
	must(t, l.CompactTo(15))
	must(t, l.Sweep(t.Context()))
	first, _ := l.FirstIndex()
	if first > 15 || first < 8 || len(readFolder(t, dir)) >= before {
		t.Fatalf("compacted to 15: first %d, %d segments of %d", first, len(readFolder(t, dir)), before)
	}
	m.compact(wal.Position{Index: first - 1, Term: m.term(first - 1)})
	check("compacted")
	records := l.Stats().Records
	must(t, l.CompactTo(15))
	if n := l.Stats().Records; n != records {
		t.Fatalf("a compaction that drops nothing wrote %d records", n-records)
	}
	put(5, 28, entries(29, 5, 9))
	check("entries after a compaction")

	must(t, l.Reset(wal.Position{Index: 100, Term: 6}, wal.HardState{Term: 6, Vote: 9, Commit: 100}))
	m.base, m.entries, m.state = wal.Position{Index: 100, Term: 6}, nil, wal.HardState{Term: 6, Vote: 9, Commit: 100}
	check("an installed snapshot")
	must(t, l.CompactTo(101))
	must(t, l.Sweep(t.Context()))
	check("compacted to nothing")
	if n := len(readFolder(t, dir)); n > 2 {
		t.Fatalf("%d segments of an empty log", n)
	}
	put(6, 100, entries(101, 6, 30))
	check("entries after all that")
	must(t, l.Close())
}

// The contract of raft.Storage, with entries in memory, on disk, and in both.
func TestStorageContract(t *testing.T) {
	t.Parallel()
	for _, recent := range []int{1, 600, 1 << 20} {
		l, _ := open(t, t.TempDir(), wal.Options{SegmentBytes: 400, RecentBytes: recent})
		must(t, l.Reset(wal.Position{Index: 10, Term: 2}, wal.HardState{Term: 2}))
		twin := raft.NewMemoryStorage()
		must(t, twin.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(10)), Term: new(uint64(2)), ConfState: &raftpb.ConfState{}}}))
		if first, _ := l.FirstIndex(); first != 11 {
			t.Fatalf("first index %d of an empty log", first)
		}
		for _, es := range [][]*raftpb.Entry{entries(11, 2, 12), entries(17, 3, 9), entries(26, 5, 1)} {
			must(t, l.Append(wal.Batch{Entries: es}))
			must(t, twin.Append(es))
		}
		for i := uint64(8); i < 30; i++ {
			got, gotErr := l.Term(i)
			want, wantErr := twin.Term(i)
			if got != want || gotErr != wantErr { //nolint:errorlint // raft compares so too
				t.Errorf("Term(%d) = %d %v, want %d %v", i, got, gotErr, want, wantErr)
			}
		}
		for lo := uint64(9); lo <= 27; lo++ {
			for hi := lo + 1; hi <= 27; hi++ {
				for _, size := range []uint64{0, 1, 40, 100, 350, math.MaxUint64} {
					got, gotErr := l.Entries(lo, hi, size)
					want, wantErr := twin.Entries(lo, hi, size)
					if gotErr != wantErr || len(got) != len(want) { //nolint:errorlint // raft compares so too
						t.Fatalf("Entries(%d, %d, %d) = %d entries %v, want %d %v", lo, hi, size, len(got), gotErr, len(want), wantErr)
					}
					for i := range got {
						if !proto.Equal(got[i], want[i]) {
							t.Fatalf("Entries(%d, %d, %d)[%d] = %v, want %v", lo, hi, size, i, got[i], want[i])
						}
					}
				}
			}
		}
		if _, err := l.Entries(20, 28, 1); !errors.Is(err, raft.ErrUnavailable) {
			t.Errorf("beyond the end: %v", err)
		}
		if got, err := l.Entries(20, 20, 1); got != nil || err != nil {
			t.Errorf("an empty range: %v %v", got, err)
		}
		must(t, l.Close())
	}
}

// Several raft messages in one write: each entry's commit hint is that of its own message, so a torn write leaves no
// overridden entry committed.
func TestMergedBatches(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, wal.Options{})
	must(t, l.Append(
		wal.Batch{Entries: entries(1, 1, 4), HardState: wal.HardState{Term: 1, Vote: 1, Commit: 2}},
		wal.Batch{Entries: entries(3, 2, 3), HardState: wal.HardState{Term: 2, Vote: 2, Commit: 4}, Sync: true},
		wal.Batch{HardState: wal.HardState{Term: 2, Vote: 2, Commit: 5}},
	))
	if s := l.Stats(); s.Syncs != 2 || s.Batches != 2 || s.LastRecords != 8 || s.MaxRecords != 8 {
		t.Errorf("stats %+v: want one write of 8 records and one fsync, after those of the new log", s)
	}
	must(t, l.Close())
	all := scanAll(t, dir)
	var hints []uint64
	for _, r := range all {
		if r.Type == wal.TypeEntry {
			hints = append(hints, r.Commit)
		}
	}
	if got, want := fmt.Sprint(hints), "[0 1 2 2 2 3 4]"; got != want {
		t.Errorf("commit hints %s, want %s", got, want)
	}
	if last := all[len(all)-1]; last.Type != wal.TypeHardState || last.Commit != 5 {
		t.Errorf("the last record is %c with commit %d, want one hard state, the last", last.Type, last.Commit)
	}
}

// There is no fsync that nobody waits for, and none twice.
func TestSyncOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	var told []time.Duration
	l, _ := open(t, t.TempDir(), wal.Options{OnSync: func(took time.Duration) { told = append(told, took) }})
	start := l.Stats()
	told = nil
	steps := []struct {
		batch wal.Batch
		syncs uint64
	}{
		{wal.Batch{Entries: entries(1, 1, 1)}, 0},
		{wal.Batch{Sync: true}, 1},
		{wal.Batch{Sync: true}, 1},
		{wal.Batch{HardState: wal.HardState{Term: 1, Commit: 1}, Sync: true}, 2},
		{wal.Batch{HardState: wal.HardState{Term: 1, Commit: 1}, Sync: true}, 2},
		{wal.Batch{}, 2},
	}
	for i, s := range steps {
		must(t, l.Append(s.batch))
		if got := l.Stats().Syncs - start.Syncs; got != s.syncs || len(told) != int(got) {
			t.Errorf("after step %d: %d fsyncs, %d told, want %d", i, got, len(told), s.syncs)
		}
	}
	if got := told[0] + told[1]; got != l.Stats().SyncTime-start.SyncTime {
		t.Errorf("told %v", told)
	}
	must(t, l.Close())
}

// The predicted places where tidwall begins a segment, compared with the folder.
func TestSegmentsAreWhereForeseen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, wal.Options{SegmentBytes: 1000, RecentBytes: 1})
	index := uint64(1)
	for i := range 60 {
		var es []*raftpb.Entry
		for range i % 7 {
			es = append(es, entry(index, 1, strings.Repeat("x", int(index*37%400))))
			index++
		}
		must(t, l.Append(wal.Batch{Entries: es, HardState: wal.HardState{Term: uint64(i + 1)}}))
	}
	files := readFolder(t, dir)
	if got := l.Stats().Segments; got != len(files) || got < 10 {
		t.Errorf("%d segments, the folder has %d", got, len(files))
	}
	got, err := l.Entries(1, index, math.MaxUint64)
	must(t, err)
	for i, e := range got {
		if want := uint64(i+1) * 37 % 400; e.GetIndex() != uint64(i+1) || uint64(len(e.GetData())) != want {
			t.Fatalf("entry %d has %d bytes, want %d", e.GetIndex(), len(e.GetData()), want)
		}
	}
	must(t, l.Close())
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, wal.Options{RecentBytes: 1})
	m := &model{}
	big := entry(2, 1, strings.Repeat("x", wal.MaxEntryBytes+1))
	err := l.Append(wal.Batch{Entries: []*raftpb.Entry{entry(1, 1, "x"), big}, Sync: true})
	if !errors.Is(err, wal.ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	if why := m.readsOther(l); why != "" {
		t.Fatal(why)
	}
	big.Data = big.Data[1:]
	es := []*raftpb.Entry{entry(1, 1, "x"), big, entry(3, 1, "y")}
	must(t, l.Append(wal.Batch{Entries: es, Sync: true}))
	m.entries = es
	if why := m.readsOther(l); why != "" {
		t.Fatal("the largest entry is not read back")
	}
	must(t, l.Close())
	l, r := open(t, dir, wal.Options{})
	if r.Last != 3 || r.Segments != 2 {
		t.Fatalf("reopened: %+v", r)
	}
	must(t, l.Close())
}

func TestMistakesPanic(t *testing.T) {
	t.Parallel()
	steps := map[string]func(*wal.Log){
		"hole": func(l *wal.Log) { _ = l.Append(wal.Batch{Entries: entries(7, 2, 1)}) },
		"hole in batch": func(l *wal.Log) {
			_ = l.Append(wal.Batch{Entries: []*raftpb.Entry{entry(6, 2, ""), entry(8, 2, "")}})
		},
		"index 0":      func(l *wal.Log) { _ = l.Append(wal.Batch{Entries: entries(0, 2, 1)}) },
		"committed":    func(l *wal.Log) { _ = l.Append(wal.Batch{Entries: entries(3, 2, 1)}) },
		"falling term": func(l *wal.Log) { _ = l.Append(wal.Batch{Entries: entries(6, 1, 1)}) },
		"term in batch": func(l *wal.Log) {
			_ = l.Append(wal.Batch{Entries: entries(6, 3, 2)}, wal.Batch{Entries: entries(7, 2, 1)})
		},
		"commit beyond":  func(l *wal.Log) { _ = l.Append(wal.Batch{HardState: wal.HardState{Term: 2, Commit: 6}}) },
		"mark beyond":    func(l *wal.Log) { _ = l.Mark(wal.Mark{Index: 6}) },
		"reset below":    func(l *wal.Log) { _ = l.Reset(wal.Position{Index: 2, Term: 2}, wal.HardState{}) },
		"compact beyond": func(l *wal.Log) { _ = l.CompactTo(5) },
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, _ := open(t, t.TempDir(), wal.Options{})
			must(t, l.Append(wal.Batch{Entries: entries(1, 2, 5), HardState: wal.HardState{Term: 2, Commit: 3}}))
			defer func() {
				if why, _ := recover().(string); !strings.HasPrefix(why, "wal: ") {
					t.Errorf("panic %q", why)
				}
			}()
			step(l)
		})
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "wal")
	if _, _, err := wal.Open(dir, wal.Options{}); err == nil {
		t.Error("a new log without a node id was made")
	}
	for _, o := range []wal.Options{{MustExist: true}, {MustReach: 1}, {ReadOnly: true}} {
		o.Meta = us
		_, _, err := wal.Open(dir, o)
		_ = refused(t, err)
	}
	if _, err := wal.Scan(dir, nil); err == nil {
		t.Error("a missing log was scanned")
	}
	l, _ := open(t, dir, wal.Options{})
	must(t, l.Append(wal.Batch{Entries: entries(1, 1, 3)}))
	must(t, l.Close())
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v %v", info, err)
	}
	if _, _, err := wal.Open(dir, wal.Options{Meta: wal.Meta{NodeID: 8}}); !errors.Is(err, wal.ErrForeign) {
		t.Errorf("another node's log: %v", err)
	}
	if _, _, err := wal.Open(dir, wal.Options{SegmentBytes: 1 << 30}); err == nil {
		t.Error("segments of 1 GiB were accepted")
	}
	_ = mustRefuse(t, dir, wal.Options{MustReach: 4})
	l, r := open(t, dir, wal.Options{MustReach: 3, MustExist: true})
	if r.Last != 3 {
		t.Errorf("found %+v", r)
	}
	must(t, l.Close())
	for name, err := range map[string]error{
		"append": l.Append(wal.Batch{}), "mark": l.Mark(wal.Mark{}), "compact": l.CompactTo(1),
		"reset": l.Reset(wal.Position{}, wal.HardState{}),
	} {
		if !errors.Is(err, wal.ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
	must(t, l.Close())
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, wal.Options{SegmentBytes: 300})
	must(t, l.Append(wal.Batch{Entries: entries(1, 1, 12), Sync: true}))
	must(t, l.Close())
	records := scanAll(t, dir)
	files := readFolder(t, dir)
	names := files.names()
	if tail := names[len(names)-1]; len(files[tail]) == 0 {
		t.Fatal("this test wants a last segment with a record")
	} else {
		files[tail] = files[tail][:len(files[tail])-1]
	}
	files.write(t, dir)
	l, r := open(t, dir, wal.Options{ReadOnly: true})
	if r.Repair == (wal.Repair{}) || r.Last != 11 {
		t.Errorf("found %+v", r)
	}
	if why := modelOf(records[:len(records)-1]).differs(l, r); why != "" {
		t.Error(why)
	}
	if err := l.Append(wal.Batch{}); !errors.Is(err, wal.ErrReadOnly) {
		t.Errorf("append: %v", err)
	}
	must(t, l.Close())
	if !readFolder(t, dir).equal(files) {
		t.Error("the folder was changed")
	}
}

// One goroutine reads, as raft's loop does, while the owner appends, overrides and compacts.
func TestReadsDuringAppends(t *testing.T) {
	t.Parallel()
	l, _ := open(t, t.TempDir(), wal.Options{SegmentBytes: 8 << 10, RecentBytes: 4 << 10})
	const total = 3000
	var wg sync.WaitGroup
	wg.Go(func() {
		for at, n := uint64(1), 0; ; n++ {
			last, _ := l.LastIndex()
			if last == total {
				return
			}
			if at > last { // all are read; begin again somewhere, because there is an override now and then
				first, _ := l.FirstIndex()
				if at = max(first, last/2); at > last {
					continue
				}
			}
			es, err := l.Entries(at, last+1, 2000)
			if errors.Is(err, raft.ErrCompacted) {
				at, _ = l.FirstIndex()
				continue
			}
			if errors.Is(err, raft.ErrUnavailable) {
				continue // an override made the log shorter meanwhile
			}
			if err != nil || len(es) == 0 {
				t.Errorf("read from %d: %d entries, %v", at, len(es), err)
				return
			}
			for _, e := range es {
				if e.GetIndex() != at || string(e.GetData()) != fmt.Sprintf("entry %d of term %d", at, e.GetTerm()) {
					t.Errorf("entry %v where %d belongs", e, at)
					return
				}
				at++
			}
			if _, err := l.Term(at - 1); err != nil && !errors.Is(err, raft.ErrCompacted) && !errors.Is(err, raft.ErrUnavailable) {
				t.Errorf("term of %d: %v", at-1, err)
			}
			_, _ = l.Stats(), l.Size()
		}
	})
	term := uint64(1)
	for next := uint64(1); next <= total; {
		n := min(int(next%40)+1, total-int(next)+1)
		must(t, l.Append(wal.Batch{Entries: entries(next, term, n), HardState: wal.HardState{Term: term, Commit: next - 1}}))
		next += uint64(n)
		if next%7 == 0 && next < total {
			term, next = term+1, next-uint64(n)/2
		}
		if next%5 == 0 && next > 200 {
			must(t, l.CompactTo(next-200))
			if next%10 == 0 {
				must(t, l.Sweep(t.Context()))
			}
		}
	}
	wg.Wait()
	must(t, l.Close())
}
