package wal

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestTheBufferIsHandedOn: a log that goes from segment to segment does not make a buffer for each. The buffer of the
// first segment grows as tidwall grows it, and stays the only one.
func TestTheBufferIsHandedOn(t *testing.T) {
	t.Parallel()
	const segmentBytes = 64 << 10
	l, _, err := Open(t.TempDir(), Options{Meta: Meta{NodeID: 1}, SegmentBytes: segmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	index := uint64(0)
	appendOne := func(bytes int) {
		t.Helper()
		index++
		e := &raftpb.Entry{Index: new(index), Term: new(uint64(1)), Data: make([]byte, bytes)}
		if err := l.Append(Batch{Entries: []*raftpb.Entry{e}}); err != nil {
			t.Fatal(err)
		}
	}
	fill := func() *byte { // goes on to the next segment and begins it
		t.Helper()
		for range segmentBytes / 1000 {
			appendOne(1000)
		}
		b := bufferOf(l.file, 0)
		if b == nil || len(*b) == 0 {
			t.Fatal("tidwall's segments have no buffer that this package knows: see handOn")
		}
		return &(*b)[0]
	}
	first := fill()
	for range 3 {
		if fill() != first {
			t.Error("a segment has a buffer of its own")
		}
		if old := bufferOf(l.file, 1); len(*old) > 0 {
			t.Errorf("the segment before keeps %d bytes", len(*old))
		}
	}
	err = l.Append(Batch{HardState: HardState{Term: 1, Commit: index}})
	if err = errors.Join(err, l.CompactTo(index)); err != nil {
		t.Fatal(err)
	}
	if b := bufferOf(l.file, 0); &(*b)[0] != first {
		t.Error("a log that was compacted has another buffer")
	}
	if fill() != first {
		t.Error("a segment behind a compaction has a buffer of its own")
	}
	appendOne(8 * segmentBytes)
	fill()
	if b := bufferOf(l.file, 0); cap(*b) > mostHandedOn*segmentBytes {
		t.Errorf("a buffer of %d bytes is kept", cap(*b))
	}
}
