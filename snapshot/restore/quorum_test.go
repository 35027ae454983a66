package restore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coord/snapshot/datadir"
	"coord/tree/znode"
	"coord/wal"
)

// A node that continues alone has everything that is in its log, committed or not. It is another
// node of a new cluster of the same lineage, and none of its clocks shows less than the lost
// members' clients may have seen.
func TestLostQuorum(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newMember(t, base)
	before := hashFolder(t, s.dir)
	r := run1(t, Options{DataDir: s.dir, LostQuorum: true})
	v := r.Survivor
	if v == nil || r.State != Done || v.Index != s.at.Index || v.Term != s.at.Term || v.Committed != s.at.Index-3 || v.Txns != 2 || !v.MembersChanged ||
		!slices.Equal(v.Voters, []string{datadir.NodeString(s.identity.Node), datadir.NodeString(7), datadir.NodeString(8)}) || len(v.Learners) > 0 {
		t.Errorf("state %s, survivor %+v", r.State, v)
	}
	if len(r.Dropped.Sessions) != 1 || len(r.Dropped.Ephemerals) != 1 || r.Dropped.Ephemerals[0].Path != "/a/eph" {
		t.Errorf("dropped %+v", r.Dropped)
	}
	if hashFolder(t, r.Kept) != before {
		t.Error("the kept folder is not the old one")
	}
	n := start(t, s.dir)
	defer n.stop()
	if content(n.tree) != s.content {
		t.Errorf("the content differs:\n%s\nwant\n%s", content(n.tree), s.content)
	}
	id, was := n.identity, s.identity
	if id.Node == was.Node || id.Cluster == was.Cluster || id.Lineage != was.Lineage || id.Generation != was.Generation+1 {
		t.Errorf("identity %+v, was %+v", id, was)
	}
	zxid := n.ok(create("/new", "")).Zxid
	if last := s.tree.Counters().Zxid; int64(zxid.Epoch()) <= int64(last.Epoch())+EpochAdvance {
		t.Errorf("zxid %v after %v", zxid, last)
	}
	for _, path := range []string{"/a", "/locks", "/tail"} {
		is, created := stat(t, n.tree, path)
		old, oldCreated := stat(t, s.tree, path)
		if is.Version != old.Version+VersionAdvance || is.Aversion != old.Aversion+VersionAdvance || created < oldCreated+SequenceAdvance ||
			is.Mzxid <= s.tree.Counters().Zxid || is.Pzxid <= s.tree.Counters().Zxid || is.Czxid != old.Czxid {
			t.Errorf("%s: %+v (%d), was %+v (%d)", path, is, created, old, oldCreated)
		}
	}
}

// The remaining node may be one that never had a vote.
func TestLostQuorumOfALearner(t *testing.T) {
	t.Parallel()
	n := form(t, filepath.Join(t.TempDir(), "data"))
	n.ok(create("/a", ""))
	m := n.meta()
	m.Conf.Voters, m.Conf.Learners = []uint64{7}, m.Conf.Voters
	n.saveAs(m)
	n.stop()
	r := run1(t, Options{DataDir: n.dir, LostQuorum: true})
	if !slices.Equal(r.Survivor.Learners, []string{datadir.NodeString(n.identity.Node)}) || r.Survivor.Txns != 0 {
		t.Errorf("survivor %+v", r.Survivor)
	}
	start(t, n.dir).stop()
}

// A dry run says what would be done and writes nothing; neither does a plan that is not confirmed.
func TestLostQuorumNotDone(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s := newMember(t, base)
	before := hashFolder(t, base)
	if r := run1(t, Options{DataDir: s.dir, LostQuorum: true, DryRun: true}); r.State != Planned || r.Survivor == nil || r.Replaced == nil || r.Replaced.Known {
		t.Errorf("report %+v", r)
	}
	no := errors.New("no")
	r, err := Run(t.Context(), Options{DataDir: s.dir, LostQuorum: true, Confirm: func(*Report) error { return no }})
	if !errors.Is(err, no) || r.State != Planned {
		t.Errorf("not agreed: %v, %+v", err, r)
	}
	if hashFolder(t, base) != before {
		t.Errorf("something has changed: %v", names(t, base))
	}
}

func TestLostQuorumRefused(t *testing.T) {
	t.Parallel()
	lost := func(dir string) error {
		_, err := Run(t.Context(), Options{DataDir: dir, LostQuorum: true})
		return err
	}
	base := t.TempDir()
	alone := form(t, filepath.Join(base, "alone")).stop()
	states := form(t, filepath.Join(base, "states")).stop()
	damaged := newMember(t, filepath.Join(base, "damaged"))
	flip(t, glob1(t, damaged.dir, "wal/*"), 400)
	running := newMember(t, filepath.Join(base, "running"))
	lock := got(datadir.Open(running.dir, false))(t)
	defer lock.Close()
	empty := filepath.Join(base, "empty")
	must(t, os.Mkdir(empty, 0o700))
	is := func(state datadir.State) {
		id := states.identity
		id.State, id.Reason = state, "for a reason"
		if state == datadir.Promised {
			id.Promise = &datadir.Promise{Cluster: id.Cluster, Proposer: id.Node, Members: []datadir.Founder{{Node: id.Node}}}
			id.Reason = ""
		}
		must(t, datadir.WriteIdentity(states.dir, id))
	}
	var refused *RefusedError
	var damage *datadir.DamageError
	var inUse *datadir.InUseError
	for _, c := range []struct {
		name, dir string
		prepare   func()
		is        func(error) bool
		text      string
	}{
		{"sole voter", alone.dir, nil, func(err error) bool { return errors.As(err, &refused) }, "only voter"},
		{"removed", states.dir, func() { is(datadir.Removed) }, func(err error) bool { return errors.As(err, &refused) }, "was removed from the ensemble (for a reason)"},
		{"faulty", states.dir, func() { is(datadir.Faulty) }, func(err error) bool { return errors.As(err, &damage) }, "for a reason"},
		{"blank", states.dir, func() { is(datadir.Blank) }, func(err error) bool { return errors.Is(err, ErrNothing) }, ""},
		{"promised", states.dir, func() { is(datadir.Promised) }, func(err error) bool { return errors.Is(err, ErrNothing) }, ""},
		{"damaged", damaged.dir, nil, func(err error) bool { return errors.As(err, &damage) }, "offset"},
		{"in use", running.dir, nil, func(err error) bool { return errors.As(err, &inUse) }, "in use by process"},
		{"empty", empty, nil, func(err error) bool { return errors.Is(err, ErrNothing) }, ""},
		{"missing", filepath.Join(base, "none"), nil, func(err error) bool { return errors.Is(err, datadir.ErrNoFolder) }, ""},
	} {
		if c.prepare != nil {
			c.prepare()
		}
		before := hashFolder(t, base)
		if err := lost(c.dir); err == nil || !c.is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
		if hashFolder(t, base) != before {
			t.Errorf("%s: something has changed", c.name)
		}
	}
	for _, o := range []Options{{File: "x"}, {ZooKeeper: "x"}} {
		o.DataDir, o.LostQuorum = alone.dir, true
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "exactly one") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// The node's highest term counts even if no entry has it: a vote may have made another node a leader.
func TestLostQuorumAfterAVote(t *testing.T) {
	t.Parallel()
	s := newMember(t, t.TempDir())
	l, _, err := wal.Open(filepath.Join(s.dir, "wal"), wal.Options{Meta: s.logMeta()})
	must(t, err)
	const term = 1_000_000
	must(t, l.Append(wal.Batch{HardState: wal.HardState{Term: term, Vote: 7}, Sync: true}))
	must(t, l.Close())
	run1(t, Options{DataDir: s.dir, LostQuorum: true})
	n := start(t, s.dir)
	defer n.stop()
	if zxid := n.ok(create("/new", "")).Zxid; zxid <= znode.MakeZxid(term+EpochAdvance, 0) {
		t.Errorf("zxid %v after term %d", zxid, term)
	}
}
