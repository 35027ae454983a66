package server

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"

	"coord/server/replica"
	"coord/snapshot"
	"coord/tree"
)

// H21 (etcd#18055): snapshots that come one soon behind the other, or twice, are kept until
// raft asks for each, once. One of a state that this node has by now goes, and so
// does what there is no room for.
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
		got, err := store.Receive(t.Context(), &b)
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
	e.Unwanted(80)            // there is none
	if n := files(); n != 4 { // two of this node's, 50 and 70
		t.Errorf("%d files", n)
	}
}

// A place in the log outlives its snapshot's file, but for what no snapshot is made in.
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
