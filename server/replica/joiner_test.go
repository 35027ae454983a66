package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"coord/server/replica"
	"coord/snapshot"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// joiner is a node that was just admitted, with package wal and a folder of snapshots.
type joiner struct {
	testing.TB
	post
	dir   string
	goes  string // the step after which it goes down
	store *snapshot.Store
	log   *wal.Log
	r     *replica.Replica
	got   *snapshot.Received
}

func (j *joiner) must(err error) {
	j.Helper()
	if err != nil {
		j.Fatal(err)
	}
}

func (j *joiner) down(step string) error {
	if j.goes == step {
		j.goes = ""
		return errCrashed
	}
	return nil
}

func (j *joiner) Save(ctx context.Context, at replica.Point, f *tree.Frozen) (uint64, error) {
	_, err := j.store.Save(ctx, metaOf(at), f, snapshot.Options{})
	return 1, err
}

func (j *joiner) Install(replica.Point) (*tree.Tree, error) {
	j.must(j.got.Keep())
	return j.got.Tree(), j.down("file")
}

func (j *joiner) Installed(at replica.Point) error {
	if err := j.down("log"); err != nil {
		return err
	}
	ok, err := j.store.Adopt(at.Index, at.Term)
	j.must(err)
	if !ok {
		j.Fatalf("what was installed at %d is gone", at.Index)
	}
	return j.down("name")
}

func (*joiner) Unwanted(uint64) {}

func metaOf(at replica.Point) snapshot.Meta {
	return snapshot.Meta{RaftIndex: at.Index, RaftTerm: at.Term,
		Conf: snapshot.ConfState{Voters: at.Voters, Learners: at.Others, Removed: at.Removed, Floors: at.Floors}}
}

// start starts the node as a server does.
func (j *joiner) start() {
	j.Helper()
	var err error
	j.store, err = snapshot.OpenStore(filepath.Join(j.dir, "snapshot"), snapshot.Pace{})
	j.must(err)
	list, err := j.store.List()
	j.must(err)
	first := len(list) == 0
	if first {
		_, err := j.Save(j.Context(), replica.Point{}, tree.New().Freeze())
		j.must(err)
	}
	load := func() (*tree.Tree, snapshot.Meta) {
		t, good, bad, err := j.store.Load()
		j.must(err)
		if len(bad) > 0 {
			j.Fatalf("passed over: %v", bad)
		}
		return t, good.Meta
	}
	t, m := load()
	var found *wal.Recovered
	j.log, found, err = wal.Open(filepath.Join(j.dir, "wal"), wal.Options{
		Meta: wal.Meta{ClusterID: [16]byte{1}, NodeID: self}, MustExist: !first, MustReach: m.RaftIndex})
	j.must(err)
	if found.Base.Index > m.RaftIndex {
		ok, err := j.store.Adopt(found.Base.Index, found.Base.Term)
		j.must(err)
		if !ok {
			j.Fatalf("the log begins behind %+v, and nothing that was received ends there", found.Base)
		}
		t, m = load()
	}
	j.must(j.store.ClearWaiting())
	cfg := newMachine(j.TB).config
	cfg.Tree, cfg.HardState = t, found.HardState
	cfg.Start = replica.Point{Index: m.RaftIndex, Term: m.RaftTerm, Voters: m.Conf.Voters, Others: m.Conf.Learners, Removed: m.Conf.Removed,
		Floors: m.Conf.Floors}
	cfg.Log, cfg.Snapshots, cfg.Peers, cfg.Received = j.log, j, &j.post, j
	j.r, err = replica.New(cfg)
	j.must(err)
	j.turn()
}

// turn lets the node do what it can, until it goes down.
func (j *joiner) turn() (down bool) {
	j.Helper()
	for range 4 {
		for _, turn := range replica.Turns(j.r) {
			_, err := turn()
			if errors.Is(err, errCrashed) {
				return true
			}
			j.must(err)
		}
	}
	return false
}

func (j *joiner) restart() {
	j.Helper()
	j.must(j.log.Close())
	j.start()
}

// snap returns the leader's snapshot of entry 10, and its message.
func (j *joiner) snap() (file []byte, m []*raftpb.Message) {
	t := tree.New()
	t.Apply(2, create("/afar"))
	at := replica.Point{Index: 10, Term: 2, Voters: []uint64{1, 2}, Others: []uint64{self}, Removed: []uint64{99}, Floors: []tree.Floor{{Node: 2, Index: 9}}}
	var b bytes.Buffer
	_, err := snapshot.Write(&b, metaOf(at), t.Freeze(), snapshot.Options{})
	j.must(err)
	m = snapshotOf(10, at.Voters...)
	m[0].Snapshot.Metadata.ConfState.Learners = at.Others
	m[0].Snapshot.Data = replica.Descriptor(at).GetData()
	return b.Bytes(), m
}

// A node that was just admitted has an empty log and an empty tree. Its leader sends it a snapshot.
// Wherever the machine goes down on the way, it starts again by itself, as what it was before the
// snapshot or after it. H6 and H7 (ZOOKEEPER-3642, 2872, 3104): data that had arrived was not kept,
// or was acknowledged before it was kept.
func TestAJoinerStartsWithNothing(t *testing.T) {
	t.Parallel()
	for _, goes := range []string{"", "file", "log", "name"} {
		t.Run("down behind its "+goes, func(t *testing.T) {
			t.Parallel()
			j := &joiner{TB: t, dir: t.TempDir()}
			j.start()
			if st := j.r.Status(); st.Applied != 0 || st.Last != 0 || st.Leader != 0 || st.Ready {
				t.Fatalf("%+v", st)
			}
			j.restart() // nothing has arrived yet
			j.r.StepRaft(1, fromLeader(raftpb.MsgHeartbeat, 0, 0, 0))
			j.turn()
			j.restart() // it has seen a term
			if st := j.r.Status(); st.Term != 2 || st.Last != 0 {
				t.Fatalf("%+v", st)
			}
			file, m := j.snap()
			send := func() (down bool) {
				var err error
				j.got, err = j.store.Receive(t.Context(), bytes.NewReader(file), int64(len(file)))
				j.must(err)
				j.r.StepRaft(1, m)
				return j.turn()
			}
			j.goes = goes
			if down := send(); down != (goes != "") {
				t.Fatalf("down: %t", down)
			}
			if goes != "" {
				j.restart()
			}
			if goes == "file" {
				if st := j.r.Status(); st.Last != 0 || st.Applied != 0 || st.Term != 2 {
					t.Errorf("installed by a start although the log was not: %+v", st)
				}
				send()
			}
			if st := j.r.Status(); st.Applied != 10 || st.Last != 10 || st.Role != "learner" {
				t.Fatalf("%+v", st)
			}
			j.r.StepRaft(1, fromLeader(raftpb.MsgApp, 10, 2, 11, newEntry(11, 2, nil), newEntry(12, 2, nil)))
			j.turn()
			j.restart()
			if st := j.r.Status(); st.Applied != 11 || st.Last != 12 || st.Term != 2 {
				t.Errorf("%+v", st)
			}
			var at replica.Point
			j.r.Freeze(func(_ *tree.Frozen, p replica.Point) { at = p })
			j.turn()
			if got, want := fmt.Sprint(at), "{11 2 [1 2] [7] [] [] [99] [{2 9}]}"; got != want {
				t.Errorf("at %s, want %s", got, want)
			}
			j.r.View(func(t2 *tree.Tree, _ *watchTable) {
				if _, code := t2.Get("/afar", nil, 0); code != znode.OK {
					t.Error("the state is not the leader's")
				}
			})
			list, err := j.store.List()
			j.must(err)
			if len(list) != 2 || list[0].Meta.RaftIndex != 10 {
				t.Errorf("%+v", list)
			}
			j.must(j.log.Close())
		})
	}
}

// A log that has lost its end is not mistaken for one that begins elsewhere: if this node has a
// snapshot of its own beyond the end, it does not start.
func TestALogThatLostItsEndIsNotReset(t *testing.T) {
	t.Parallel()
	j := &joiner{TB: t, dir: t.TempDir()}
	j.start()
	file, m := j.snap()
	var err error
	j.got, err = j.store.Receive(t.Context(), bytes.NewReader(file), int64(len(file)))
	j.must(err)
	j.r.StepRaft(1, m)
	j.turn()
	j.must(j.log.Close())
	log, _, err := wal.Open(filepath.Join(j.dir, "an older one"), wal.Options{Meta: wal.Meta{ClusterID: [16]byte{1}, NodeID: self}})
	j.must(err)
	j.must(log.Close())
	_, good, _, err := j.store.Load()
	j.must(err)
	var damage *wal.DamageError
	if _, _, err := wal.Open(filepath.Join(j.dir, "an older one"), wal.Options{MustExist: true, MustReach: good.Meta.RaftIndex}); !errors.As(err, &damage) {
		t.Errorf("opened behind a snapshot of entry %d: %v", good.Meta.RaftIndex, err)
	}
}
