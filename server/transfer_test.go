package server

import (
	"bytes"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"coord/server/peer"
	"coord/server/replica"
	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/tree"
	"coord/tree/znode"
)

// H21 (etcd#18055): snapshots that arrive soon after one another, or twice, are kept until raft
// asks for each, once. A snapshot of a state that this node has passed is removed, and one for
// which there is no place is not kept.
func TestSnapshotsThatComeInARow(t *testing.T) {
	t.Parallel()
	store, err := snapshot.OpenStore(filepath.Join(t.TempDir(), "snapshot"), snapshot.Pace{})
	if err != nil {
		t.Fatal(err)
	}
	e := &ensemble{arrived: map[uint64]*snapshot.Received{}}
	e.store.Store(store)
	comes := func(index, applied uint64) error {
		t.Helper()
		var b bytes.Buffer
		m := snapshot.Meta{RaftIndex: index, RaftTerm: 2, Conf: snapshot.ConfState{Voters: []uint64{1}}}
		if _, err := snapshot.Write(&b, m, tree.New().Freeze(), snapshot.Options{}); err != nil {
			t.Fatal(err)
		}
		got, err := store.Receive(t.Context(), &b, int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		return e.put(got, applied)
	}
	files := func() int {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(store.Dir(), "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for _, index := range []uint64{10, 20, 10, 20} {
		if err := comes(index, 0); err != nil {
			t.Errorf("%d: %v", index, err)
		}
	}
	if n := files(); n != 2 {
		t.Errorf("%d files of two snapshots", n)
	}
	for _, index := range []uint64{10, 20} {
		at := replica.Point{Index: index, Term: 2}
		if tr, err := e.Install(at); err != nil || tr == nil {
			t.Fatalf("%d: %v", index, err)
		}
		if err := e.Installed(at); err != nil {
			t.Error(err)
		}
		if _, err := e.Install(at); err == nil {
			t.Errorf("%d is installed twice", index)
		}
	}
	// Another leader's snapshot of the same state, while the first is being installed and after it was.
	for _, applied := range []uint64{0, 20} {
		if err := comes(20, applied); err != nil {
			t.Error(err)
		}
		if n := files(); n != 2 || len(e.arrived) != 0 {
			t.Errorf("what has come again is kept: %d files, and %d wait", n, len(e.arrived))
		}
	}
	for _, index := range []uint64{30, 40, 50} {
		if err := comes(index, 20); err != nil {
			t.Errorf("%d: %v", index, err)
		}
	}
	if err := comes(60, 20); err == nil {
		t.Error("there is room for any number")
	}
	if err := comes(60, 40); err != nil {
		t.Errorf("those that are of no use any more are in the way: %v", err)
	}
	e.Unwanted(60)
	e.tasks.Wait()
	if err := comes(70, 40); err != nil {
		t.Errorf("one that raft did not want is in the way: %v", err)
	}
	e.Unwanted(80)            // there is none with this index
	if n := files(); n != 4 { // two of this node's own, 50 and 70
		t.Errorf("%d files", n)
	}
}

// A place in the log survives in its snapshot's file, except for Outgoing and Next: no snapshot is made while they are set.
func TestAPointIsInItsSnapshot(t *testing.T) {
	t.Parallel()
	n := &node{}
	at := replica.Point{Index: 9, Term: 2, Voters: []uint64{1, 2}, Others: []uint64{3}, Removed: []uint64{4},
		Floors: []tree.Floor{{Node: 1, Index: 8}, {Node: 3, Index: 5}}}
	var b bytes.Buffer
	if _, err := snapshot.Write(&b, n.meta(at), tree.New().Freeze(), snapshot.Options{}); err != nil {
		t.Fatal(err)
	}
	_, m, _, err := snapshot.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if got := pointOf(&m); !reflect.DeepEqual(got, at) {
		t.Errorf("%+v, want %+v", got, at)
	}
}

// A snapshot for which there is no room, even without this node's older ones, is not begun, and the receiver logs
// that too: it is its disk that is full.
func TestSnapshotWithoutRoom(t *testing.T) {
	t.Parallel()
	dir, err := datadir.Open(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	store, err := snapshot.OpenStore(dir.Snapshots(), snapshot.Pace{})
	if err != nil {
		t.Fatal(err)
	}
	for zxid := range 3 {
		m := snapshot.Meta{EndZxid: znode.Zxid(zxid), RaftIndex: uint64(zxid), Conf: snapshot.ConfState{Voters: []uint64{1}}}
		if _, err := store.Save(t.Context(), m, tree.New().Freeze(), snapshot.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	e := &ensemble{n: &node{space: newSpace(dir, 1, zerolog.Nop(), func() int64 { return 0 })}, log: zerolog.New(&log)}
	e.replica.Store(&replica.Replica{})
	e.store.Store(store)
	m := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(7), Term: proto.Uint64(2)}}}
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	h := peer.SnapshotHeader{Index: 7, Term: 2, Size: 1 << 60, Descriptor: append(make([]byte, idBytes), body...)}
	if err := e.Snapshot(t.Context(), 1, h, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if said := log.String(); !strings.Contains(said, "snapshot not accepted") || !strings.Contains(said, "no space left on device") {
		t.Errorf("said: %q", said)
	}
	if kept, err := store.List(); err != nil || len(kept) != 1 || kept[0].Meta.RaftIndex != 2 {
		t.Errorf("kept for it: %+v, %v", kept, err)
	}
}

// A node that takes no snapshot is asked less and less often, each node for itself, until it takes one.
func TestPauseBehindASnapshot(t *testing.T) {
	t.Parallel()
	e := &ensemble{pauses: map[uint64]time.Duration{}}
	no := errors.New("no")
	var pauses []time.Duration
	for range 10 {
		pauses = append(pauses, e.pauseBehind(1, no))
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !reflect.DeepEqual(pauses, want) {
		t.Errorf("%v, not %v", pauses, want)
	}
	if got := e.pauseBehind(2, no); got != soonestAgain {
		t.Errorf("another node: %v", got)
	}
	if got := e.pauseBehind(1, nil); got != 0 {
		t.Errorf("behind a success: %v", got)
	}
	if got := e.pauseBehind(1, no); got != soonestAgain {
		t.Errorf("behind a success and a failure: %v", got)
	}
}
