package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coord/wal"

	"go.etcd.io/raft/v3/raftpb"
)

// sample makes a log of some segments with every type of record and a few fsynced batches; the last batch has
// three records, all in the last segment. last is the sequence of the first record of that batch.
func sample(t fataler, dir string) (f folder, records []scanned, last uint64) {
	t.Helper()
	l, _ := open(t, dir, wal.Options{SegmentBytes: 340})
	must(t, l.Reset(wal.Position{Index: 1, Term: 1}, wal.HardState{Term: 1}))
	write := func(es []*raftpb.Entry, state wal.HardState) {
		must(t, l.Append(wal.Batch{Entries: es, HardState: state, Sync: true}))
	}
	write(entries(2, 1, 5), wal.HardState{Term: 1, Vote: 7, Commit: 3})
	write(entries(5, 2, 3), wal.HardState{Term: 2, Vote: 8, Commit: 4})
	must(t, l.Mark(wal.Mark{Index: 4, Term: 1, Zxid: 1<<32 | 9}))
	write(entries(8, 2, 3), wal.HardState{})
	write(entries(11, 3, 2), wal.HardState{Term: 3, Vote: 8, Commit: 8})
	must(t, l.Close())
	f, records = readFolder(t, dir), scanAll(t, dir)
	batch := records[len(records)-3:]
	if len(f) != 4 || batch[0].name != batch[2].name {
		t.Fatalf("the sample's last batch is not in one segment of four")
	}
	return f, records, batch[0].Sequence
}

func tailOf(f folder) string {
	names := f.names()
	return names[len(names)-1]
}

// Cut the last segment at every byte: the log has exactly the complete records before the cut, reports the cut,
// and goes on. A snapshot made here that lies beyond the end proves a loss.
func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	dir := ramDir(t)
	f, records, _ := sample(t, dir)
	tail := tailOf(f)
	for cut := range len(f[tail]) {
		f.with(tail, f[tail][:cut]).write(t, dir)
		whole, end := records, int64(0)
		for i, r := range records {
			if r.name == tail && r.end > int64(cut) {
				whole = records[:i]
				break
			}
			if r.name == tail {
				end = r.end
			}
		}
		m := modelOf(whole)
		if m.last() < 12 {
			damage := mustRefuse(t, dir, wal.Options{MustReach: 12})
			if filepath.Base(damage.File) != tail {
				t.Fatalf("cut at %d: %v", cut, damage)
			}
		}
		l, r := open(t, dir, wal.Options{SegmentBytes: 340, MustReach: m.last()})
		if why := m.differs(l, r); why != "" {
			t.Fatalf("cut at %d: %s", cut, why)
		}
		want := wal.Repair{}
		if int64(cut) != end {
			want = wal.Repair{File: filepath.Join(dir, tail), Offset: end, Bytes: int64(cut) - end,
				Sequence: whole[len(whole)-1].Sequence + 1, Reason: r.Repair.Reason}
		}
		if r.Repair != want {
			t.Fatalf("cut at %d: repair %+v, want %+v", cut, r.Repair, want)
		}
		e := entry(m.last()+1, 9, "after the repair")
		must(t, l.Append(wal.Batch{Entries: []*raftpb.Entry{e}, Sync: true}))
		must(t, l.Close())
		m.put(e)
		m.state.Term, m.state.Vote = 9, 0
		l, r = open(t, dir, wal.Options{SegmentBytes: 340})
		if why := m.differs(l, r); why != "" || r.Repair != (wal.Repair{}) {
			t.Fatalf("cut at %d, reopened: %s %+v", cut, why, r.Repair)
		}
		must(t, l.Close())
	}
}

// A segment other than the last one, cut anywhere, is damage.
func TestCutOlderSegment(t *testing.T) {
	t.Parallel()
	dir := ramDir(t)
	f, _, _ := sample(t, dir)
	for _, name := range f.names()[:3] {
		for cut := range len(f[name]) {
			must(t, os.WriteFile(filepath.Join(dir, name), f[name][:cut], 0o600))
			_, err := wal.Scan(dir, nil)
			damage := refused(t, err)
			if filepath.Base(damage.File) != name && cut > 0 || damage.Offset > int64(cut) {
				t.Fatalf("%s cut at %d: %v", name, cut, damage)
			}
		}
		f.with(name, nil).write(t, dir)
		_ = mustRefuse(t, dir, wal.Options{})
	}
}

// Flip every bit: the log is refused or, only in the last batch, cut and the cut reported. There is never
// another value, never a hole.
func TestFlipEveryBit(t *testing.T) {
	t.Parallel()
	dir := ramDir(t)
	f, records, last := sample(t, dir)
	for name, data := range f {
		for bit := range 8 * len(data) {
			data[bit/8] ^= 1 << (bit % 8)
			must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
			r, err := wal.Scan(dir, nil)
			data[bit/8] ^= 1 << (bit % 8)
			at := hit(records, name, int64(bit/8))
			if at.Sequence < last {
				damage := refused(t, err)
				if filepath.Base(damage.File) != name || damage.Offset != at.Offset {
					t.Fatalf("%s bit %d of byte %d: %v, want offset %d", name, bit%8, bit/8, damage, at.Offset)
				}
				continue
			}
			if err != nil {
				_ = refused(t, err)
				continue
			}
			m := modelOf(records[:at.Sequence-1])
			if r.Repair.Sequence != at.Sequence || r.Last != m.last() || r.HardState != m.state {
				t.Fatalf("%s bit %d of byte %d: %+v", name, bit%8, bit/8, r)
			}
		}
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	// The complete rule for the last batch: its last record is cut; one with an intact record after it is not.
	tail := tailOf(f)
	for i, r := range records[len(records)-3:] {
		broken := f.clone()
		broken[tail][r.Offset+20] ^= 4
		broken.write(t, dir)
		if i < 2 {
			_ = mustRefuse(t, dir, wal.Options{})
			continue
		}
		l, found := open(t, dir, wal.Options{})
		if why := modelOf(records[:len(records)-1]).differs(l, found); why != "" || found.Repair.Bytes != r.end-r.Offset {
			t.Errorf("%s %+v", why, found)
		}
		must(t, l.Close())
	}
}

// hit finds the record that holds the byte.
func hit(records []scanned, name string, at int64) scanned {
	for _, r := range records {
		if r.name == name && r.Offset <= at && at < r.end {
			return r
		}
	}
	panic(fmt.Sprintf("no record at %d of %s", at, name))
}

// Remove, swap, duplicate and rename segments: all of it is refused except the one case that cannot
// be detected.
func TestMisplacedSegments(t *testing.T) {
	t.Parallel()
	dir := ramDir(t)
	f, records, _ := sample(t, dir)
	names := f.names()
	refuse := func(what string, f folder) {
		t.Helper()
		f.write(t, dir)
		before := readFolder(t, dir)
		if _, _, err := wal.Open(dir, wal.Options{Meta: us}); err == nil {
			t.Fatalf("%s: opened", what)
		} else {
			_ = refused(t, err)
		}
		if !readFolder(t, dir).equal(before) {
			t.Fatalf("%s: the refused log was changed", what)
		}
	}
	for i, a := range names {
		if i < len(names)-1 {
			refuse("without "+a, f.without(a))
		}
		for j, b := range names {
			if i < j {
				refuse("swapped "+a+" "+b, f.with(a, f[b]).with(b, f[a]))
			}
			if i != j {
				refuse(a+" in place of "+b, f.with(b, f[a]))
				refuse(a+" renamed "+b, f.without(a).with(b, f[a]))
			}
		}
		next := fmt.Sprintf("%020d", records[len(records)-1].Sequence+1)
		refuse(a+" again as the next one", f.with(next, f[a]))
	}
	refuse("first two missing", f.without(names[0], names[1]))
	refuse("middle two missing", f.without(names[1], names[2]))
	refuse("only the last one left", f.without(names[:3]...))
	refuse("an empty segment in between", f.with("00000000000000000003", nil))
	refuse("a segment far beyond", f.with("00000000000000000999", nil))

	// Only a snapshot shows that there was a last segment.
	f.without(names[3]).write(t, dir)
	_ = mustRefuse(t, dir, wal.Options{MustReach: 12})
	// Only the owner knows that there was a log.
	folder{}.write(t, dir)
	_ = mustRefuse(t, dir, wal.Options{MustExist: true})
	folder{names[0]: nil}.write(t, dir)
	_ = mustRefuse(t, dir, wal.Options{MustExist: true})
}

// A segment of another log with the same sequences, for example from a second node.
func TestForeignSegment(t *testing.T) {
	t.Parallel()
	a, b := t.TempDir(), t.TempDir()
	mine, _, _ := sample(t, a)
	theirs, _, _ := sample(t, b)
	for _, name := range mine.names() {
		mine.with(name, theirs[name]).write(t, a)
		_ = mustRefuse(t, a, wal.Options{})
	}
}

// Zeros at the end, which are room for records or what a power cut left, are cut. Zeros in the middle are damage,
// unless they are a page of the last batch, which was not certain to be on disk.
func TestZeros(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, records, _ := sample(t, dir)
	tail := tailOf(f)
	for _, n := range []int{1, 7, 100, 5000} {
		f.with(tail, append(slices.Clip(f[tail]), make([]byte, n)...)).write(t, dir)
		l, r := open(t, dir, wal.Options{})
		if why := modelOf(records).differs(l, r); why != "" || r.Repair != (wal.Repair{}) {
			t.Fatalf("%d zeros: %s %+v", n, why, r.Repair)
		}
		must(t, l.Close())
		if !readFolder(t, dir).equal(f) {
			t.Fatalf("%d zeros are still there", n)
		}
	}
	f.with(f.names()[1], append(f[f.names()[1]], make([]byte, 10)...)).write(t, dir)
	_ = mustRefuse(t, dir, wal.Options{})

	// Pages, in a log of one segment: the batches of twenty entries are some 20 KiB each.
	dir = t.TempDir()
	l, _ := open(t, dir, wal.Options{})
	batch := func(index uint64) wal.Batch {
		var es []*raftpb.Entry
		for i := range uint64(20) {
			es = append(es, entry(index+i, 1, strings.Repeat("data", 250)))
		}
		return wal.Batch{Entries: es, Sync: true}
	}
	must(t, l.Append(batch(1)))
	must(t, l.Append(batch(21)))
	must(t, l.Close())
	f, records = readFolder(t, dir), scanAll(t, dir)
	tail = tailOf(f)
	unconfirmed := records[21].Offset
	for page := 0; page < len(f[tail]); page += 4096 {
		zeroed := f.clone()
		clear(zeroed[tail][page:min(page+4096, len(f[tail]))])
		zeroed.write(t, dir)
		if int64(page) < unconfirmed {
			_ = mustRefuse(t, dir, wal.Options{})
			continue
		}
		at := hit(records, tail, int64(page))
		l, r := open(t, dir, wal.Options{})
		if why := modelOf(records[:at.Sequence-1]).differs(l, r); why != "" || r.Repair.Offset != at.Offset {
			t.Fatalf("page at %d: %s %+v", page, why, r.Repair)
		}
		must(t, l.Close())
	}
	// A write torn in the sector where the batch before had ended: old bytes, zeros, then the next sectors.
	torn := f.clone()
	clear(torn[tail][unconfirmed : unconfirmed+512-unconfirmed%512])
	torn.write(t, dir)
	l, r := open(t, dir, wal.Options{})
	if r.Last != 20 || r.Repair.Offset != unconfirmed {
		t.Fatalf("a torn sector: %+v", r)
	}
	must(t, l.Close())
}

// TestRoom: an fsync leaves room after the records, the next records fill it, and neither a crash nor Close leaves
// any in the log.
func TestRoom(t *testing.T) {
	t.Parallel()
	dir, copied := t.TempDir(), t.TempDir()
	o := wal.Options{SegmentBytes: 40 << 10}
	l, _ := open(t, dir, o)
	m := &model{state: wal.HardState{Term: 1}}
	sizes := map[int]bool{}
	for i := uint64(1); i < 400; i++ {
		e := entry(i, 1, strings.Repeat("y", int(i*7919%1500)))
		m.put(e)
		must(t, l.Append(wal.Batch{Entries: []*raftpb.Entry{e}, Sync: true}))
		f := readFolder(t, dir)
		sizes[len(f[tailOf(f)])] = true
		if i%20 > 0 {
			continue
		}
		f.write(t, copied) // a crash
		if o := (wal.Options{ReadOnly: true}); i%40 == 0 {
			if l, r := open(t, copied, o); r.Repair != (wal.Repair{}) || r.Last != i || !readFolder(t, copied).equal(f) {
				t.Fatalf("read only, at %d: %+v", i, r)
			} else {
				must(t, l.Close())
			}
		}
		after, r := open(t, copied, o)
		m.state.Commit = r.HardState.Commit
		if why := m.differs(after, r); why != "" || r.Repair != (wal.Repair{}) {
			t.Fatalf("after a crash, at %d: %s %+v", i, why, r.Repair)
		}
		must(t, after.Close())
		if data := readFolder(t, copied); bytes.HasSuffix(data[tailOf(data)], make([]byte, 100)) {
			t.Fatalf("at %d a closed log has room", i)
		}
	}
	if len(sizes) > 40 {
		t.Errorf("the last segment had %d sizes in 400 fsyncs: there is no room in it", len(sizes))
	}
	must(t, l.Close())
}

// What a killed first start can leave, and what only looks like it.
func TestFirstRecord(t *testing.T) {
	t.Parallel()
	dir := ramDir(t)
	l, _ := open(t, dir, wal.Options{})
	must(t, l.Close())
	const name = "00000000000000000001"
	meta := readFolder(t, dir)[name]
	for cut := range len(meta) {
		folder{name: meta[:cut]}.write(t, dir)
		l, r := open(t, dir, wal.Options{})
		if !r.New || r.Last != 0 || r.Repair.Bytes != int64(cut) {
			t.Fatalf("cut at %d: %+v", cut, r)
		}
		must(t, l.Append(wal.Batch{Entries: entries(1, 1, 1), Sync: true}))
		must(t, l.Close())
		if all := scanAll(t, dir); len(all) != 2 {
			t.Fatalf("cut at %d: then %d records", cut, len(all))
		}
	}
	// A log of zeros that is longer than a first record has lost its records.
	folder{name: make([]byte, 4096)}.write(t, dir)
	_ = mustRefuse(t, dir, wal.Options{})
}

// compacted returns a log before and after a compaction that drops some segments.
func compacted(t fataler, dir string, segmentBytes int) (before, after folder, records []scanned) {
	t.Helper()
	l, _ := open(t, dir, wal.Options{SegmentBytes: segmentBytes})
	for i := uint64(1); i < 40; i += 3 {
		state := wal.HardState{Term: 1 + i/10, Vote: 7, Commit: i}
		must(t, l.Append(wal.Batch{Entries: entries(i, state.Term, 3), HardState: state, Sync: true}))
	}
	must(t, l.Mark(wal.Mark{Index: 25, Term: 3, Zxid: 25}))
	before = readFolder(t, dir)
	must(t, l.CompactTo(26))
	must(t, l.Sweep(context.Background()))
	must(t, l.Close())
	return before, readFolder(t, dir), scanAll(t, dir)
}

// Crash anywhere in a compaction: with its records torn the log is as before; with them complete it is as after,
// whichever of the old segments are still there.
func TestCrashInCompaction(t *testing.T) {
	t.Parallel()
	for _, segmentBytes := range []int{300, 360, 420, 450} {
		t.Run(fmt.Sprint(segmentBytes), func(t *testing.T) {
			t.Parallel()
			crashInCompaction(t, ramDir(t), segmentBytes)
		})
	}
}

func crashInCompaction(t *testing.T, dir string, segmentBytes int) {
	before, after, records := compacted(t, dir, segmentBytes)
	var dropped []string
	for _, name := range before.names() {
		if _, ok := after[name]; !ok {
			dropped = append(dropped, name)
		}
	}
	if len(dropped) < 3 {
		t.Fatalf("only %d segments were dropped", len(dropped))
	}
	// The log as it should be, from the records that the old segments and the new ones hold
	// together.
	whole := before.clone()
	maps.Copy(whole, after)
	whole.write(t, dir)
	m := modelOf(scanAll(t, dir))
	if m.base.Index < 10 || m.last() != 39 {
		t.Fatalf("the compacted log has %d to %d", m.base.Index+1, m.last())
	}

	for subset := range 1 << len(dropped) {
		f := after.clone()
		for i, name := range dropped {
			if subset&(1<<i) != 0 {
				f[name] = before[name]
			}
		}
		f.write(t, dir)
		l, r := open(t, dir, wal.Options{ReadOnly: true})
		if why := m.differs(l, r); why != "" {
			t.Fatalf("left %b, read only: %s", subset, why)
		}
		l, r = open(t, dir, wal.Options{SegmentBytes: segmentBytes})
		if why := m.differs(l, r); why != "" {
			t.Fatalf("left %b: %s", subset, why)
		}
		must(t, l.Close())
		if got := readFolder(t, dir); !got.equal(after) {
			t.Fatalf("left %b: segments %v, want %v", subset, got.names(), after.names())
		}
	}

	// The records of the compaction are the last three: S, H, M. Nothing is removed before they are
	// fsynced.
	tail := tailOf(after)
	last := records[len(records)-1]
	if last.Type != wal.TypeMeta || records[len(records)-3].Type != wal.TypeSnapshot {
		t.Fatal("a compaction does not end with S, H, M")
	}
	for cut := range len(whole[tail]) {
		lost := len(records)
		for lost > 0 && records[lost-1].name == tail && records[lost-1].end > int64(cut) {
			lost--
		}
		torn := whole.with(tail, whole[tail][:cut])
		torn.write(t, dir)
		l, r := open(t, dir, wal.Options{ReadOnly: true})
		if lost < len(records) && r.First != 1 || r.Last > 39 {
			t.Fatalf("torn at %d: %+v", cut, r)
		}
		must(t, l.Close())
		// Once the segments are gone, a missing M is no torn write: it is lost.
		if lost < len(records) {
			after.with(tail, after[tail][:cut]).write(t, dir)
			_ = mustRefuse(t, dir, wal.Options{})
		}
	}
	// After a finished compaction no other segment may be missing.
	for _, name := range after.names()[:len(after)-1] {
		after.without(name).write(t, dir)
		_ = mustRefuse(t, dir, wal.Options{})
	}
}

// A crash between the fsync of a full segment and the creation of the next.
func TestFullLastSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, wal.Options{SegmentBytes: 400})
	m := &model{}
	for len(readFolder(t, dir)) < 2 {
		es := entries(m.last()+1, 1, 1)
		must(t, l.Append(wal.Batch{Entries: es, HardState: wal.HardState{Term: 1}, Sync: true}))
		m.put(es[0])
	}
	must(t, l.Close())
	m.state.Term = 1
	f := readFolder(t, dir)
	tail := tailOf(f)
	if len(f[tail]) > 0 {
		t.Fatal("the new segment is not empty")
	}
	for _, f := range []folder{f, f.without(tail)} {
		f.write(t, dir)
		l, r := open(t, dir, wal.Options{SegmentBytes: 400})
		if why := m.differs(l, r); why != "" {
			t.Fatal(why)
		}
		if _, ok := readFolder(t, dir)[tail]; !ok {
			t.Error("the full segment got no successor")
		}
		must(t, l.Append(wal.Batch{Entries: entries(m.last()+1, 1, 1), Sync: true}))
		must(t, l.Close())
		if l, r = open(t, dir, wal.Options{}); r.Last != m.last()+1 || r.Segments != 2 {
			t.Errorf("then %+v", r)
		}
		must(t, l.Close())
	}
	// When the empty successor exists, nothing of the full segment can be torn.
	name := f.names()[0]
	f.with(name, f[name][:len(f[name])-1]).write(t, dir)
	_ = mustRefuse(t, dir, wal.Options{})
}

// A batch torn between its entries and its hard state.
func TestTornHardState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, wal.Options{})
	state := wal.HardState{Term: 1, Vote: 7, Commit: 1}
	must(t, l.Append(wal.Batch{Entries: entries(1, 1, 2), HardState: state, Sync: true}))
	state = wal.HardState{Term: 5, Vote: 8, Commit: 4}
	must(t, l.Append(wal.Batch{Entries: entries(2, 5, 3), HardState: state, Sync: true}))
	must(t, l.Close())
	f := readFolder(t, dir)
	f.with(tailOf(f), f[tailOf(f)][:len(f[tailOf(f)])-1]).write(t, dir)
	l, r := open(t, dir, wal.Options{})
	if want := (wal.HardState{Term: 5, Commit: 3}); r.HardState != want || r.Last != 4 {
		t.Errorf("found %+v, want %+v", r, want)
	}
	must(t, l.Close())
}

// Data that look like records of this log do not make a torn write look like damage: they lack the salt.
func TestDataLikeRecords(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	l, _ := open(t, other, wal.Options{})
	must(t, l.Append(wal.Batch{Entries: entries(1, 1, 40), Sync: true}))
	must(t, l.Close())
	lookalike := readFolder(t, other)["00000000000000000001"]
	l, _ = open(t, dir, wal.Options{})
	must(t, l.Append(wal.Batch{Entries: []*raftpb.Entry{entry(1, 1, string(lookalike)+"the end")}, Sync: true}))
	must(t, l.Close())
	f := readFolder(t, dir)
	f.with(tailOf(f), f[tailOf(f)][:len(f[tailOf(f)])-5]).write(t, dir)
	l, r := open(t, dir, wal.Options{})
	if r.Last != 0 || r.Repair.Bytes == 0 {
		t.Errorf("found %+v", r)
	}
	must(t, l.Close())
}

// Files that are no segments are left alone; leftovers of tidwall's truncations, because of which it would remove
// segments, are refused.
func TestOtherFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, records, _ := sample(t, dir)
	names := f.names()
	for _, name := range []string{names[1] + ".TEMP", names[1] + ".START.TEMP", names[1] + "~", "LOCK",
		"00000000000000000000", "99999999999999999999", "0000000000000000000x"} {
		with := f.with(name, []byte("something"))
		with.write(t, dir)
		l, r := open(t, dir, wal.Options{})
		if why := modelOf(records).differs(l, r); why != "" {
			t.Errorf("with %s: %s", name, why)
		}
		must(t, l.Close())
		if !readFolder(t, dir).equal(with) {
			t.Errorf("with %s: the folder was changed", name)
		}
	}
	for _, name := range []string{names[1] + ".START", names[3] + ".START", names[0] + ".END",
		"00000000000000000999.START"} {
		f.with(name, f[names[1]]).write(t, dir)
		damage := mustRefuse(t, dir, wal.Options{})
		if filepath.Base(damage.File) != name {
			t.Errorf("with %s: %v", name, damage)
		}
	}
}

func TestNewerFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, _, _ := sample(t, dir)
	for _, at := range []int{0, 1, 2} { // a type, a version, a flag that this program does not know
		newer := f.clone()
		tail := tailOf(newer)
		reseal(newer[tail], func(record []byte) { record[at] = 0x7f })
		newer.write(t, dir)
		if _, _, err := wal.Open(dir, wal.Options{Meta: us}); !errors.Is(err, wal.ErrNewerFormat) {
			t.Errorf("byte %d: %v", at, err)
		}
		if !readFolder(t, dir).equal(newer) {
			t.Error("the newer log was changed")
		}
	}
}

// Records with right checksums that raft's rules forbid: no tear or flipped bit makes them, but a program can.
func TestImpossibleRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, _ := open(t, dir, wal.Options{})
	must(t, l.Append(wal.Batch{Entries: entries(1, 4, 3), HardState: wal.HardState{Term: 4, Commit: 2}, Sync: true}))
	must(t, l.Append(wal.Batch{Entries: entries(4, 5, 1), Sync: true}))
	must(t, l.Close())
	f, records := readFolder(t, dir), scanAll(t, dir)
	tail := tailOf(f)
	last := records[len(records)-1]
	const header = 28
	for what, change := range map[string]func(record []byte){
		"sequence":     func(r []byte) { r[12]++ },
		"synced":       func(r []byte) { r[20] = 200 },
		"chain":        func(r []byte) { r[8]++ },
		"salt":         func(r []byte) { r[4]++ },
		"a hole":       func(r []byte) { r[header]++ },
		"committed":    func(r []byte) { r[header] = 2 },
		"index 0":      func(r []byte) { r[header] = 0 },
		"falling term": func(r []byte) { r[header+8] = 3 },
		"commit hint":  func(r []byte) { r[header+16] = 4 },
	} {
		broken := f.clone()
		reseal(broken[tail][last.Offset:], change)
		broken.write(t, dir)
		damage := mustRefuse(t, dir, wal.Options{})
		if damage.Offset != last.Offset {
			t.Errorf("%s: %v, want offset %d", what, damage, last.Offset)
		}
	}
}
