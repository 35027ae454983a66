package replica_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"coord/server/replica"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

type watchTable = watch.Table

const self = 7 // the node's id

var errCrashed = errors.New("the machine is gone")

// machine is what survives a node: its disk. A test changes the node's configuration before it
// starts.
type machine struct {
	testing.TB
	log    *memLog
	snaps  *memSnaps
	config replica.Config
}

func newMachine(t testing.TB) *machine {
	m := &machine{TB: t, log: newMemLog(), snaps: newMemSnaps()}
	m.config = replica.Config{
		NodeID: self, SnapshotTxns: 100_000, SnapshotBytes: 64 << 20, Settings: tree.DefaultSettings, Logger: zerolog.Nop(),
	}
	return m
}

// node is a running replica.
type node struct {
	*replica.Replica
	t      testing.TB
	log    *memLog
	cancel context.CancelFunc
	ended  chan error
}

// start runs a replica on the contents of the machine's disk.
func (m *machine) start() *node {
	m.Helper()
	cfg := m.config
	if cfg.Log == nil {
		cfg.Log, cfg.HardState = m.log, m.log.seen.recovered()
	}
	if cfg.Snapshots == nil {
		cfg.Snapshots = m.snaps
	}
	cfg.Tree, cfg.Start = m.snaps.load(m)
	r, err := replica.New(cfg)
	if err != nil {
		m.Fatal(err)
	}
	n := &node{Replica: r, t: m, log: m.log, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	m.Cleanup(func() { // so that a failed test leaves no goroutines behind
		cancel()
		n.log.open()
	})
	go func() { n.ended <- r.Run(ctx) }()
	return n
}

// ready runs a replica and waits until it takes requests.
func (m *machine) ready() *node {
	m.Helper()
	n := m.start()
	select {
	case <-n.Ready():
	case err := <-n.ended:
		m.Fatalf("Run ended before it was ready: %v", err)
	}
	return n
}

// stop ends the replica in an orderly way.
func (n *node) stop() {
	n.t.Helper()
	n.cancel()
	if err := <-n.ended; err != nil {
		n.t.Fatalf("Run: %v", err)
	}
}

// answer is the outcome of a submission.
type answer struct {
	mu     sync.Mutex
	done   int // how often
	result tree.Result
}

func (a *answer) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

func (a *answer) code() znode.Code {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.result.Code
}

func (n *node) submit(x *tree.Txn) *answer {
	a := &answer{}
	n.Submit(x, func(r tree.Result, _ *tree.Tree, _ *watchTable) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.done++
		a.result = r
	})
	return a
}

// do submits a txn and waits for its answer.
func (n *node) do(x *tree.Txn) tree.Result {
	n.t.Helper()
	got := make(chan tree.Result, 1)
	n.Submit(x, func(r tree.Result, _ *tree.Tree, _ *watchTable) { got <- r })
	select {
	case r := <-got:
		return r
	case err := <-n.ended:
		n.t.Fatalf("Run ended before the answer: %v", err)
	}
	panic("unreachable")
}

// must submits a txn that must succeed.
func (n *node) must(x *tree.Txn) tree.Result {
	n.t.Helper()
	r := n.do(x)
	if r.Code != znode.OK {
		n.t.Fatalf("%s: %v", x.Path, r.Code)
	}
	return r
}

// barrier waits for a Barrier to be answered.
func (n *node) barrier() znode.Code {
	n.t.Helper()
	got := make(chan znode.Code, 1)
	n.Barrier(func(r tree.Result, _ *tree.Tree, _ *watchTable) { got <- r.Code })
	return <-got
}

func (n *node) digest() (d tree.Digest) {
	n.View(func(t *tree.Tree, _ *watchTable) { d = t.Digest() })
	return d
}

func (n *node) has(path string) (there bool) {
	n.View(func(t *tree.Tree, _ *watchTable) {
		_, code := t.Get(path, nil, 0)
		there = code == znode.OK
	})
	return there
}

// freeze waits for the result of a Freeze.
func (n *node) freeze() (*tree.Frozen, replica.Point) {
	type frozen struct {
		f  *tree.Frozen
		at replica.Point
	}
	got := make(chan frozen, 1)
	n.Freeze(func(f *tree.Frozen, at replica.Point) { got <- frozen{f, at} })
	g := <-got
	return g.f, g.at
}

// Short forms of txns.

func create(path string) *tree.Txn { return createData(path, "d") }

func createData(path, data string) *tree.Txn { return &tree.Txn{Op: createOp(path, data)} }

func createOp(path, data string) tree.Op {
	return tree.Op{Kind: tree.KindCreate, Path: path, Data: []byte(data), ACL: znode.OpenACL}
}

func set(path, data string) *tree.Txn { return &tree.Txn{Op: setOp(path, data)} }

func setOp(path, data string) tree.Op {
	return tree.Op{Kind: tree.KindSetData, Path: path, Data: []byte(data), Version: tree.AnyVersion}
}

func remove(path string) *tree.Txn { return &tree.Txn{Op: removeOp(path)} }

func removeOp(path string) tree.Op {
	return tree.Op{Kind: tree.KindDelete, Path: path, Version: tree.AnyVersion}
}

func multi(ops ...tree.Op) *tree.Txn {
	return &tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Ops: ops}
}

// memSnaps keeps the two newest snapshots.
type memSnaps struct {
	mu    sync.Mutex
	saved []savedState
	fail  error         // of every Save, while it is set
	gate  chan struct{} // each Save takes a token from it; nil: it does not wait
	tries []replica.Point
	busy  int // Saves under way
	most  int // the most at the same time
}

type savedState struct {
	at replica.Point
	f  *tree.Frozen
}

func newMemSnaps() *memSnaps {
	at := replica.Point{Index: 1, Term: 1, Voters: []uint64{self}}
	return &memSnaps{saved: []savedState{{at: at, f: tree.New().Freeze()}}}
}

func (s *memSnaps) Save(ctx context.Context, at replica.Point, f *tree.Frozen) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries = append(s.tries, at)
	s.busy++
	s.most = max(s.most, s.busy)
	defer func() { s.busy-- }()
	if gate := s.gate; gate != nil {
		s.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("half written: %w", ctx.Err())
	case s.fail != nil:
		return 0, s.fail
	}
	s.saved = append(s.saved, savedState{at: at, f: f})
	if len(s.saved) > 2 {
		s.saved = s.saved[1:]
	}
	return s.saved[0].at.Index + 1, nil
}

// load turns the newest one into a tree again.
func (s *memSnaps) load(t testing.TB) (*tree.Tree, replica.Point) {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.saved[len(s.saved)-1]
	return rebuild(t, newest.f), newest.at
}

func (s *memSnaps) count() (tries, busy, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tries), s.busy, s.most
}

func rebuild(t testing.TB, f *tree.Frozen) *tree.Tree {
	t.Helper()
	b := tree.NewBuilder()
	var err error
	f.Nodes(znode.Root, func(n *tree.Node) bool {
		err = b.Add(n)
		return err == nil
	})
	f.Sessions(func(s *tree.Session) bool {
		if err == nil {
			err = b.AddSession(*s)
		}
		return err == nil
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Tree(f.Counters())
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest() != f.Digest() {
		t.Fatalf("the digest of the state is %v, recomputed %v", f.Digest(), again.Digest())
	}
	return again
}

// openWAL opens a log of files that begins after the snapshot of a new node.
func openWAL(t testing.TB, dir string, opts wal.Options) (*wal.Log, *wal.Recovered) {
	t.Helper()
	opts.Meta = wal.Meta{ClusterID: [16]byte{1}, NodeID: self}
	log, found, err := wal.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	if found.New {
		if err := log.Reset(wal.Position{Index: 1, Term: 1}, wal.HardState{Term: 1, Commit: 1}); err != nil {
			t.Fatal(err)
		}
		found.HardState, found.Last = wal.HardState{Term: 1, Commit: 1}, 1
	}
	return log, found
}
