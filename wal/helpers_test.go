package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"coord/wal"

	"go.etcd.io/raft/v3/raftpb"
)

var us = wal.Meta{ClusterID: [16]byte{0xc0, 15: 0x0d}, NodeID: 7}

func entry(index, term uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: []byte(data)}
}

// entries makes n entries from index on, each with its own data.
func entries(index, term uint64, n int) []*raftpb.Entry {
	var out []*raftpb.Entry
	for i := range uint64(n) {
		out = append(out, entry(index+i, term, fmt.Sprintf("entry %d of term %d", index+i, term)))
	}
	return out
}

// ramDir returns a folder for tests that open a log thousands of times: real files, but in memory where the
// machine offers it.
func ramDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "coord-wal-") //nolint:usetesting // in memory, which TempDir need not be
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// fataler is a *testing.T, *testing.B or *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func open(t fataler, dir string, o wal.Options) (*wal.Log, *wal.Recovered) {
	t.Helper()
	if o.Meta == (wal.Meta{}) {
		o.Meta = us
	}
	l, r, err := wal.Open(dir, o)
	must(t, err)
	return l, r
}

// model is what a log should be, computed the slow and obvious way.
type model struct {
	base    wal.Position
	entries []*raftpb.Entry // from base.Index+1 on
	state   wal.HardState
	mark    wal.Mark
}

func (m *model) last() uint64 { return m.base.Index + uint64(len(m.entries)) }

func (m *model) put(e *raftpb.Entry) {
	m.entries = append(m.entries[:e.GetIndex()-m.base.Index-1], e)
}

func (m *model) term(index uint64) uint64 {
	if index == m.base.Index {
		return m.base.Term
	}
	return m.entries[index-m.base.Index-1].GetTerm()
}

// compact drops the entries up to base.
func (m *model) compact(base wal.Position) {
	m.entries, m.base = m.entries[base.Index-m.base.Index:], base
}

// take replays one record.
func (m *model) take(r *wal.Record) {
	switch r.Type {
	case wal.TypeEntry:
		e := entry(r.Index, r.Term, string(r.Data))
		e.Type = r.EntryType.Enum()
		m.put(e)
		m.state.Commit = max(m.state.Commit, r.Commit)
	case wal.TypeHardState:
		m.state = wal.HardState{Term: r.Term, Vote: r.Vote, Commit: max(m.state.Commit, r.Commit)}
	case wal.TypeSnapshot:
		m.mark = wal.Mark{Index: r.Index, Term: r.Term, Zxid: r.Zxid}
		m.state.Commit = max(m.state.Commit, r.Index)
	case wal.TypeReset:
		m.base, m.entries, m.state.Commit = wal.Position{Index: r.Index, Term: r.Term}, nil, r.Index
	case wal.TypeMeta:
		m.compact(wal.Position{Index: r.Index, Term: r.Term})
	}
	if t := m.term(m.last()); t > m.state.Term {
		m.state.Term, m.state.Vote = t, 0
	}
}

// differs compares what Open found and what the log reads with the model; "" means they are the same.
func (m *model) differs(l *wal.Log, r *wal.Recovered) string {
	if r.Base != m.base || r.First != m.base.Index+1 || r.Last != m.last() {
		return fmt.Sprintf("entries %d to %d after %v, want %d to %d after %v",
			r.First, r.Last, r.Base, m.base.Index+1, m.last(), m.base)
	}
	if r.HardState != m.state || r.Mark != m.mark {
		return fmt.Sprintf("state %v mark %v, want %v %v", r.HardState, r.Mark, m.state, m.mark)
	}
	return m.readsOther(l)
}

// readsOther compares only the raft.Storage methods.
func (m *model) readsOther(l *wal.Log) string {
	first, _ := l.FirstIndex()
	last, _ := l.LastIndex()
	if first != m.base.Index+1 || last != m.last() {
		return fmt.Sprintf("the log has %d to %d, want %d to %d", first, last, m.base.Index+1, m.last())
	}
	for i := m.base.Index; i <= m.last(); i++ {
		if term, err := l.Term(i); err != nil || term != m.term(i) {
			return fmt.Sprintf("term of %d: %d %v, want %d", i, term, err, m.term(i))
		}
	}
	got, err := l.Entries(first, last+1, 1<<40)
	if err != nil || len(got) != len(m.entries) {
		return fmt.Sprintf("%d entries %v, want %d", len(got), err, len(m.entries))
	}
	for i, want := range m.entries {
		if !sameEntry(got[i], want) {
			return fmt.Sprintf("entry %v, want %v", got[i], want)
		}
	}
	return ""
}

func sameEntry(a, b *raftpb.Entry) bool {
	return a.GetIndex() == b.GetIndex() && a.GetTerm() == b.GetTerm() && a.GetType() == b.GetType() &&
		bytes.Equal(a.GetData(), b.GetData())
}

// folder is the content of a log's folder.
type folder map[string][]byte

func readFolder(t fataler, dir string) folder {
	t.Helper()
	f := folder{}
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(dir, file.Name()))
		must(t, err)
		f[file.Name()] = data
	}
	return f
}

func (f folder) write(t fataler, dir string) {
	t.Helper()
	must(t, os.RemoveAll(dir))
	must(t, os.MkdirAll(dir, 0o700))
	for name, data := range f {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
}

func (f folder) names() []string {
	var names []string
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (f folder) clone() folder {
	c := folder{}
	for name, data := range f {
		c[name] = slices.Clone(data)
	}
	return c
}

func (f folder) without(names ...string) folder {
	c := f.clone()
	for _, name := range names {
		delete(c, name)
	}
	return c
}

func (f folder) with(name string, data []byte) folder {
	c := f.clone()
	c[name] = slices.Clone(data)
	return c
}

func (f folder) equal(g folder) bool {
	if len(f) != len(g) {
		return false
	}
	for name, data := range f {
		if other, ok := g[name]; !ok || !bytes.Equal(data, other) {
			return false
		}
	}
	return true
}

// scanned is a record that was kept, with where it ends.
type scanned struct {
	wal.Record
	name string // of the segment
	end  int64
}

func scanAll(t fataler, dir string) []scanned {
	t.Helper()
	var all []scanned
	_, err := wal.Scan(dir, func(r *wal.Record) error {
		c := *r
		c.Data = slices.Clone(r.Data)
		data, err := os.ReadFile(r.File)
		must(t, err)
		n, m := binary.Uvarint(data[r.Offset:])
		all = append(all, scanned{Record: c, name: filepath.Base(r.File), end: r.Offset + int64(m) + int64(n)})
		return nil
	})
	must(t, err)
	return all
}

// modelOf replays records; each of them must begin and end within the log.
func modelOf(records []scanned) *model {
	m := &model{}
	for i := range records {
		m.take(&records[i].Record)
	}
	return m
}

// refused requires a *DamageError in a file of the folder.
func refused(t fataler, err error) *wal.DamageError {
	t.Helper()
	var damage *wal.DamageError
	if !errors.As(err, &damage) {
		t.Fatalf("got %v, want damage", err)
	}
	if damage.File == "" || damage.Reason == "" {
		t.Fatalf("damage without a file or a reason: %v", damage)
	}
	return damage
}

// mustRefuse opens the log in both ways, and requires damage and that nothing was changed.
func mustRefuse(t *testing.T, dir string, o wal.Options) *wal.DamageError {
	t.Helper()
	before := readFolder(t, dir)
	o.Meta = us
	_, _, err := wal.Open(dir, o)
	damage := refused(t, err)
	o.ReadOnly = true
	_, _, err = wal.Open(dir, o)
	_ = refused(t, err)
	if !readFolder(t, dir).equal(before) {
		t.Fatalf("a refused log was changed")
	}
	return damage
}
