package wal_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"coord/wal"

	"pgregory.net/rapid"
)

// Random operations, with crashes among them, compared with the model. A crash loses any part of what was not fsynced:
// it cuts at any byte, or leaves unwritten sectors, and zeros at the end. The log must open, lose nothing that was
// fsynced, and be exactly some prefix of what was written.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	root := ramDir(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "") //nolint:usetesting // one a check, under a root in memory
		must(t, err)
		defer func() { must(t, os.RemoveAll(dir)) }()
		w := &world{dir: dir, live: &model{}, options: wal.Options{
			SegmentBytes: rapid.SampledFrom([]int{300, 700, 3000, 1 << 20}).Draw(t, "segment bytes"),
			RecentBytes:  rapid.SampledFrom([]int{1, 500, 1 << 20}).Draw(t, "recent bytes"),
		}}
		w.log, _ = open(t, dir, w.options)
		w.wrote(t, true)
		t.Repeat(map[string]func(*rapid.T){
			"append":  w.append,
			"append2": w.append, // twice as often
			"mark":    w.mark,
			"compact": w.compact,
			"reset":   w.reset,
			"reopen":  w.reopen,
			"crash":   w.crash,
			"": func(t *rapid.T) {
				if why := w.live.readsOther(w.log); why != "" {
					t.Fatalf("%s", why)
				}
			},
		})
		must(t, w.log.Close())
	})
}

type world struct {
	dir     string
	options wal.Options
	log     *wal.Log
	live    *model
	history []scanned // every record ever written and not lost, from sequence 1 on
	synced  int       // how many of them are known to be on disk
}

// wrote adds the new records to the history.
func (w *world) wrote(t *rapid.T, synced bool) {
	for _, r := range scanAll(t, w.dir) {
		if r.Sequence > uint64(len(w.history)) {
			w.history = append(w.history, r)
		} else if r.Checksum != w.history[r.Sequence-1].Checksum {
			t.Fatalf("record %d has changed", r.Sequence)
		}
	}
	if synced {
		w.synced = len(w.history)
	}
	// What lies before the last segment was fsynced when its segment was full.
	for tail := tailOf(readFolder(t, w.dir)); w.synced < len(w.history) && w.history[w.synced].name != tail; {
		w.synced++
	}
	m := modelOf(w.history)
	w.live.state, w.live.base, w.live.mark = m.state, m.base, m.mark
}

func (w *world) append(t *rapid.T) {
	var batches []wal.Batch
	sync := false
	state := w.live.state
	for range rapid.IntRange(1, 3).Draw(t, "batches") {
		var b wal.Batch
		first := rapid.Uint64Range(state.Commit+1, w.live.last()+1).Draw(t, "first")
		if rapid.IntRange(0, 3).Draw(t, "conflict") > 0 {
			first = w.live.last() + 1
		}
		if first <= w.live.last() || rapid.IntRange(0, 9).Draw(t, "election") == 0 {
			state.Term, state.Vote = state.Term+1, rapid.Uint64Range(1, 3).Draw(t, "vote")
		}
		for i := range rapid.Uint64Range(0, 5).Draw(t, "entries") {
			e := entry(first+i, max(1, state.Term), string(rapid.SliceOfN(rapid.Byte(), 0, 90).Draw(t, "data")))
			if rapid.IntRange(0, 9).Draw(t, "large") == 0 {
				e.Data = append(e.Data, make([]byte, 1500)...)
			}
			b.Entries = append(b.Entries, e)
			w.live.put(e)
		}
		state.Term = max(1, state.Term)
		if rapid.Bool().Draw(t, "with state") {
			state.Commit = rapid.Uint64Range(state.Commit, w.live.last()).Draw(t, "commit")
			b.HardState = state
		}
		b.Sync = rapid.IntRange(0, 2).Draw(t, "sync") == 0
		sync = sync || b.Sync
		batches = append(batches, b)
	}
	must(t, w.log.Append(batches...))
	w.wrote(t, sync)
}

func (w *world) mark(t *rapid.T) {
	index := rapid.Uint64Range(w.live.base.Index, w.live.last()).Draw(t, "index")
	must(t, w.log.Mark(wal.Mark{Index: index, Term: w.live.term(index), Zxid: index}))
	w.wrote(t, false)
}

func (w *world) compact(t *rapid.T) {
	// The log's commit index may be beyond that of the model, which sees only records.
	index := rapid.Uint64Range(0, w.live.state.Commit+1).Draw(t, "index")
	before := w.log.Stats().Records
	must(t, w.log.CompactTo(index))
	if rapid.Bool().Draw(t, "sweep") {
		must(t, w.log.Sweep(context.Background()))
	}
	first, _ := w.log.FirstIndex()
	if first > index && first > w.live.base.Index+1 {
		t.Fatalf("compacted to %d, the first entry is %d", index, first)
	}
	w.live.compact(wal.Position{Index: first - 1, Term: w.live.term(first - 1)})
	w.wrote(t, w.log.Stats().Records > before)
}

func (w *world) reset(t *rapid.T) {
	index := w.live.last() + rapid.Uint64Range(0, 9).Draw(t, "index")
	term := max(1, w.live.state.Term)
	must(t, w.log.Reset(wal.Position{Index: index, Term: term}, wal.HardState{Term: term, Vote: 2}))
	w.live.entries, w.live.base = nil, wal.Position{Index: index, Term: term}
	w.wrote(t, true)
}

func (w *world) reopen(t *rapid.T) {
	must(t, w.log.Close())
	w.open(t)
}

func (w *world) open(t *rapid.T) {
	var r *wal.Recovered
	w.log, r = open(t, w.dir, w.options)
	if why := w.live.differs(w.log, r); why != "" {
		t.Fatalf("reopened: %s", why)
	}
	w.synced = len(w.history)
}

func (w *world) crash(t *rapid.T) {
	must(t, w.log.Close())
	name := tailOf(readFolder(t, w.dir))
	path := filepath.Join(w.dir, name)
	data, err := os.ReadFile(path)
	must(t, err)
	from := 0 // in what was not fsynced
	if last := w.history[w.synced-1]; last.name == name {
		from = int(last.end)
	}
	cut := rapid.IntRange(from, len(data)).Draw(t, "cut")
	for range rapid.IntRange(0, 2).Draw(t, "lost sectors") {
		sector := rapid.IntRange(from, max(from, cut)).Draw(t, "sector")
		sector -= sector % 512
		clear(data[max(from, sector):min(cut, sector+512)])
	}
	room := make([]byte, rapid.SampledFrom([]int{0, 0, 1, 511, 4096}).Draw(t, "room"))
	must(t, os.WriteFile(path, append(data[:cut], room...), 0o600))

	var r *wal.Recovered
	w.log, r = open(t, w.dir, w.options)
	survivors := w.synced
	for _, s := range scanAll(t, w.dir) {
		if s.Sequence > uint64(w.synced) {
			if survivors++; s.Sequence != uint64(survivors) || s.Checksum != w.history[survivors-1].Checksum {
				t.Fatalf("record %d is none that was written", s.Sequence)
			}
		}
	}
	w.history = w.history[:survivors]
	w.synced = survivors
	w.live = modelOf(w.history)
	if why := w.live.differs(w.log, r); why != "" {
		t.Fatalf("after the crash: %s", why)
	}
}
