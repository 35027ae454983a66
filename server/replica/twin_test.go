package replica_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"coord/wal"
)

// memLog is package wal's twin in memory. A crash loses what was not synced, except for a prefix of
// it; a test can make a named step fail, for good, and can hold every sync at a gate.
type memLog struct {
	mu      sync.Mutex
	seen    journal  // everything written: what readers see
	synced  journal  // what certainly survives a crash
	tail    []record // what was written since the last sync, in order
	err     error    // final
	faults  map[string]fault
	gate    chan struct{} // each sync takes a token from it; nil: it does not wait
	held    int           // syncs at the gate
	calls   []string      // of the rare steps
	writes  int
	largest int // bytes of entries in one Append
	syncs   int
	lies    bool // a sync does nothing and claims that it has
}

// fault makes a step fail at its n-th call from now on.
type fault struct {
	n   int
	err error
}

// record is one thing written: an entry with its commit hint, or something else instead of an
// entry.
type record struct {
	entry *raftpb.Entry
	hint  uint64
	hard  wal.HardState
	mark  wal.Mark
	base  wal.Position
}

// ofElsewhere is the hint of a base that comes from another node's snapshot. It has no field of its
// own, because benchmarks write many records.
const ofElsewhere = math.MaxUint64

// journal is the result of a sequence of records.
type journal struct {
	base    wal.Position
	entries []*raftpb.Entry // from base.Index+1 on
	hard    wal.HardState
	hint    uint64
	mark    wal.Mark
	archive []*raftpb.Entry // if not nil: the entries from the first one on, compacted or not
}

// newMemLog returns a log that begins after the snapshot of a new node.
func newMemLog() *memLog {
	j := journal{base: wal.Position{Index: 1, Term: 1}, hard: wal.HardState{Term: 1, Commit: 1}}
	return &memLog{seen: j, synced: j, faults: map[string]fault{}}
}

func (j *journal) last() uint64 { return j.base.Index + uint64(len(j.entries)) }

func (j *journal) put(r record) {
	switch {
	case r.entry != nil:
		i := int(r.entry.GetIndex() - j.base.Index - 1)
		if i < len(j.entries) {
			j.entries = j.entries[:i:i] // other slices may hold the rest
		}
		j.entries = append(j.entries, r.entry)
		if j.archive != nil {
			n := r.entry.GetIndex() - 2
			j.archive = append(j.archive[:n:n], r.entry)
		}
		j.hint = max(j.hint, r.hint)
	case r.hard != wal.HardState{}:
		j.hard = r.hard
	case r.mark != wal.Mark{}:
		j.mark = r.mark
	case r.hint == ofElsewhere:
		j.base, j.entries, j.hint = r.base, nil, 0
	default:
		j.entries = slices.Clone(j.entries[r.base.Index-j.base.Index:])
		j.base = r.base
	}
}

// recovered is the hard state that a start finds, by package wal's rules.
func (j *journal) recovered() wal.HardState {
	h := j.hard
	h.Commit = max(h.Commit, j.hint, j.mark.Index)
	term := j.base.Term
	if n := len(j.entries); n > 0 {
		term = j.entries[n-1].GetTerm()
	}
	if term > h.Term {
		h.Term, h.Vote = term, 0
	}
	return h
}

// failAt makes the n-th call of a step from now on fail; the steps are write, sync, mark and
// compact.
func (l *memLog) failAt(step string, n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults[step] = fault{n, err}
}

// fails counts a call of a step.
func (l *memLog) fails(step string) error {
	if l.err != nil {
		panic("twin: a writing call after a final error: " + l.err.Error())
	}
	f, ok := l.faults[step]
	if !ok {
		return nil
	}
	f.n--
	l.faults[step] = f
	if f.n == 0 {
		l.err = f.err
	}
	return l.err
}

func (l *memLog) write(r record) {
	l.seen.put(r)
	l.tail = append(l.tail, r)
}

func (l *memLog) Append(batches ...wal.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.fails("write")
	l.writes++
	sync, size := false, 0
	for _, b := range batches {
		commit := max(l.seen.recovered().Commit, b.HardState.Commit)
		for _, e := range b.Entries {
			switch i := e.GetIndex(); {
			case i <= l.seen.recovered().Commit || i > l.seen.last()+1:
				panic(fmt.Sprintf("twin: entry %d is written, %d is committed and %d the last", i, l.seen.hard.Commit, l.seen.last()))
			case len(e.GetData()) > wal.MaxEntryBytes:
				return wal.ErrTooLarge
			}
			l.write(record{entry: e, hint: min(commit, e.GetIndex()-1)})
			size += len(e.GetData())
		}
		if b.HardState != (wal.HardState{}) {
			if commit > l.seen.last() {
				panic(fmt.Sprintf("twin: %d is committed, %d is the last entry", commit, l.seen.last()))
			}
			b.HardState.Commit = commit
			l.write(record{hard: b.HardState})
		}
		sync = sync || b.Sync
	}
	l.largest = max(l.largest, size)
	if err != nil || !sync {
		return err
	}
	return l.sync()
}

// sync waits at the gate without the lock, because readers do not wait for an fsync.
func (l *memLog) sync() error {
	if gate := l.gate; gate != nil {
		l.held++
		l.mu.Unlock()
		<-gate
		l.mu.Lock()
		l.held--
	}
	if err := l.fails("sync"); err != nil {
		return err
	}
	if l.syncs++; l.lies {
		return nil
	}
	l.synced, l.tail = l.seen, l.tail[:0]
	return nil
}

func (l *memLog) Mark(m wal.Mark) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fails("mark"); err != nil {
		return err
	}
	if m.Index > l.seen.last() {
		panic(fmt.Sprintf("twin: a snapshot of entry %d, the last one is %d", m.Index, l.seen.last()))
	}
	l.calls = append(l.calls, fmt.Sprintf("mark %d", m.Index))
	l.write(record{mark: m})
	return nil
}

func (l *memLog) Reset(p wal.Position, state wal.HardState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fails("reset"); err != nil {
		return err
	}
	if commit := l.seen.recovered().Commit; p.Index < commit {
		panic(fmt.Sprintf("twin: reset to entry %d, %d is committed", p.Index, commit))
	}
	if state == (wal.HardState{}) {
		state = l.seen.hard
	}
	state.Commit = p.Index
	if state.Term < p.Term {
		state.Term, state.Vote = p.Term, 0
	}
	l.write(record{base: p, hint: ofElsewhere})
	l.write(record{hard: state})
	return l.sync()
}

func (l *memLog) Sweep(ctx context.Context) error { return ctx.Err() }

func (l *memLog) CompactTo(index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fails("compact"); err != nil {
		return err
	}
	if index > l.seen.mark.Index+1 {
		panic(fmt.Sprintf("twin: entry %d is to be the first, the last mark is at %d", index, l.seen.mark.Index))
	}
	l.calls = append(l.calls, fmt.Sprintf("compact to %d", index))
	if index <= l.seen.base.Index+1 {
		return nil
	}
	term, _ := l.seen.term(index - 1)
	l.write(record{base: wal.Position{Index: index - 1, Term: term}})
	return l.sync()
}

func (j *journal) term(index uint64) (uint64, error) {
	switch {
	case index < j.base.Index:
		return 0, raft.ErrCompacted
	case index > j.last():
		return 0, raft.ErrUnavailable
	case index == j.base.Index:
		return j.base.Term, nil
	}
	return j.entries[index-j.base.Index-1].GetTerm(), nil
}

func (l *memLog) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.base.Index + 1, nil
}

func (l *memLog) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.last(), nil
}

func (l *memLog) Term(index uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.term(index)
}

func (l *memLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.faults["read"].err != nil:
		return nil, l.faults["read"].err
	case lo <= l.seen.base.Index:
		return nil, raft.ErrCompacted
	case hi > l.seen.last()+1:
		return nil, raft.ErrUnavailable
	}
	out := slices.Clone(l.seen.entries[lo-l.seen.base.Index-1 : hi-l.seen.base.Index-1])
	size := uint64(0)
	for i, e := range out {
		if size += uint64(len(e.GetData())) + 16; size > maxSize && i > 0 {
			return out[:i], nil
		}
	}
	return out, nil
}

// hold makes every sync from now on wait until pass or open.
func (l *memLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate == nil {
		l.gate = make(chan struct{})
	}
}

// pass lets one sync through, once there is one.
func (l *memLog) pass() { l.gate <- struct{}{} }

// open lets all syncs through.
func (l *memLog) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate != nil {
		close(l.gate)
		l.gate = nil
	}
}

// crash returns the log that the next start finds. The old log is useless then: every call of a
// node that still runs on it fails.
func (l *memLog) crash(rnd *rand.Rand) *memLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.synced
	for _, r := range l.tail[:rnd.IntN(len(l.tail)+1)] {
		next.put(r)
	}
	for _, step := range []string{"write", "sync", "mark", "compact"} {
		l.faults[step] = fault{1, errCrashed}
	}
	next.entries = slices.Clone(next.entries)
	return &memLog{seen: next, synced: next, faults: map[string]fault{}}
}

func (l *memLog) stats() (writes, syncs, held int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes, l.syncs, l.held
}

// all returns the entries in the log.
func (l *memLog) all() []*raftpb.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.seen.entries)
}
