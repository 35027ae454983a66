package replica

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// Limits, each with an answer to the client.
const (
	// MaxBatchBytes is the size of one raft entry's data, unless a single txn is larger.
	MaxBatchBytes = 256 << 10
	// MaxTxnBytes is the size of one txn: the log takes no larger entry. Over it
	// Submit answers ErrTooBig.
	MaxTxnBytes = wal.MaxEntryBytes
	// MaxPendingBytes is what may wait for its answer; over it Submit answers ErrThrottledOp.
	MaxPendingBytes = 64 << 20
	// maxAppendBytes is what is proposed at a time; the rest stays in the queue
	// until that is on the disk. Raft and the log hold copies of no more.
	maxAppendBytes = 4 << 20
	// maxAppends is how many appends may be on their way to the disk before new
	// submissions wait in the queue. It is what makes batches grow under load.
	// Rejected: a second one behind that in its fsync. The disk rests less between
	// two fsyncs, but the second goes out as soon as there is anything to write,
	// so that it is small and everybody behind it waits for one fsync more: a
	// third to a half fewer txns a second with fsyncs of 0.3 to 5 ms.
	maxAppends = 1
	// applyChunk is how many txns are applied before readers get a turn.
	applyChunk = 64
)

// Point is a place in the log, and the members that were in force there.
type Point struct {
	Index, Term    uint64
	Voters, Others []uint64 // node ids; Others are learners
}

// Log is the durable log; package wal has it. One goroutine calls the writing
// methods, another the reading ones, which must not wait for an fsync.
type Log interface {
	Append(...wal.Batch) error
	Mark(wal.Mark) error
	CompactTo(index uint64) error
	Sweep(ctx context.Context) error // the snapshotter's, which has time

	FirstIndex() (uint64, error)
	LastIndex() (uint64, error)
	Term(index uint64) (uint64, error)
	Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error)
}

// Snapshots keeps what a node starts from.
type Snapshots interface {
	// Save makes f durable and returns the log index from which entries are
	// still needed (that of the oldest snapshot kept).
	Save(ctx context.Context, at Point, f *tree.Frozen) (keepFrom uint64, err error)
}

// Config is what a Replica is made of. All fields are needed but
// Full and Burst.
type Config struct {
	NodeID    uint64
	Tree      *tree.Tree // as it was at Start; the Replica owns it from now on
	Start     Point
	HardState wal.HardState // as recovered from the log
	Log       Log
	Snapshots Snapshots
	// A snapshot is made after so many txns or bytes of entries.
	SnapshotTxns  int
	SnapshotBytes int64
	// Settings are proposed by a new leader if the state has others.
	Settings tree.Settings
	// Full says whether the disk is too full for new writes. The log writer asks
	// it after each write, and while it says so a few times a second.
	Full func() bool
	// Burst runs on the applier after each burst of dones, no lock held.
	Burst  func()
	Logger zerolog.Logger
}

// Done is told the outcome of a submission. It runs on the applier, the state
// lock held, before the next txn is applied, and must be brief.
type Done = func(tree.Result, *tree.Tree, *watch.Table)

// Replica is one node's copy of the log and the state.
type Replica struct {
	cfg   Config
	log   zerolog.Logger
	ready chan struct{} // closed when everything acknowledged before the start is applied

	mu struct { // the state lock: View shares it, the applier holds it alone
		sync.RWMutex
		tree    *tree.Tree
		watches *watch.Table
	}

	submitted queue[submission]      // anyone → loop
	barriers  queue[Done]            // anyone → loop
	events    queue[func()]          // log writer and applier → loop
	appends   queue[*raftpb.Message] // loop → log writer
	marks     queue[func() error]    // snapshotter → log writer
	tasks     queue[func()]          // loop, snapshotter and anyone → applier
	saves     chan save              // applier → snapshotter
	pending   atomic.Int64           // bytes submitted and not answered
	full      atomic.Bool            // the disk is too full for new writes
	status    atomic.Pointer[Status]
	txns      atomic.Uint64
	batches   atomic.Uint64
	snapshots atomic.Uint64
	lastSaved atomic.Uint64 // zxid
	core      core          // the loop's
	applier   applier       // the applier's
}

// Status is a node's part in its cluster.
type Status struct {
	Role   string // leader, follower, candidate
	Term   uint64
	Leader uint64 // node id, 0 for none
	Voters int
}

// Stats counts since the start.
type Stats struct {
	Txns, Batches, Snapshots uint64
	LastSnapshot             znode.Zxid // 0 for none since the start
	PendingBytes             int64
	Full                     bool
}

type submission struct {
	txn  *tree.Txn
	done Done
	size int64
}

// New makes a replica; Run starts it.
func New(cfg Config) (*Replica, error) {
	r := &Replica{cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), saves: make(chan save, 1)}
	for _, wake := range []*chan struct{}{
		&r.submitted.wake, &r.barriers.wake, &r.events.wake, &r.appends.wake, &r.marks.wake, &r.tasks.wake,
	} {
		*wake = make(chan struct{}, 1)
	}
	r.mu.tree, r.mu.watches = cfg.Tree, watch.New(watch.DefaultConfig(), cfg.Tree.Counters().Zxid)
	r.applier = applier{index: cfg.Start.Index, point: cfg.Start}
	if err := r.core.init(r); err != nil {
		return nil, err
	}
	r.publish()
	return r, nil
}

// Run drives the replica until ctx ends or something essential fails. The error
// of a failed write or fsync is the log's own.
func (r *Replica) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.runLoop(ctx) })
	g.Go(func() error { return r.runLogWriter(ctx) })
	g.Go(func() error { return r.runApplier(ctx) })
	g.Go(func() error { return r.runSnapshotter(ctx) })
	return g.Wait()
}

// Ready is closed when every write that was ever acknowledged is applied, so
// that clients may be let in.
func (r *Replica) Ready() <-chan struct{} { return r.ready }

// View reads the state, shared with other readers. What is added to the watch
// table in the same View belongs to what was read.
func (r *Replica) View(read func(*tree.Tree, *watch.Table)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	read(r.mu.tree, r.mu.watches)
}

// Submit proposes a txn. It does not wait. done runs exactly once, unless Run
// ends before: then the outcome is unknown. Submissions of one goroutine reach
// the log in the order of the calls. The Txn belongs to the replica from now on.
func (r *Replica) Submit(x *tree.Txn, done Done) {
	s := submission{x, done, sizeOf(x)}
	switch pending := r.pending.Add(s.size); {
	case s.size > MaxTxnBytes:
		r.refuse(s, znode.ErrTooBig)
	case pending > MaxPendingBytes:
		r.refuse(s, znode.ErrThrottledOp)
	default:
		r.submitted.push(s)
	}
}

// sizeOf is what a txn counts as: at least what it will take in the log.
func sizeOf(x *tree.Txn) int64 {
	n := sizeOfOp(&x.Op) + len(x.Password)
	for _, id := range x.IDs {
		n += sizeOfIdentity(id)
	}
	for i := range x.Ops {
		n += sizeOfOp(&x.Ops[i])
	}
	return int64(n)
}

func sizeOfOp(op *tree.Op) int {
	n := 128 + len(op.Path) + len(op.Data)
	for _, e := range op.ACL {
		n += sizeOfIdentity(e.Identity)
	}
	return n
}

func sizeOfIdentity(id znode.Identity) int { return 32 + len(id.Scheme) + len(id.ID) }

// refuse answers a submission that never reaches the log.
func (r *Replica) refuse(s submission, code znode.Code) {
	r.tasks.push(func() { r.answer(s, tree.Result{Code: code}) })
}

// answer runs a submission's done. Only the applier calls it.
func (r *Replica) answer(s submission, result tree.Result) {
	r.mu.Lock()
	r.pending.Add(-s.size)
	s.done(result, r.mu.tree, r.mu.watches)
	r.mu.Unlock()
}

// Barrier runs done on the applier once everything that was committed anywhere
// before the call is applied here: what done or anyone after it reads is
// linearizable. The Result carries ErrNoLeader if that cannot be known.
func (r *Replica) Barrier(done Done) { r.barriers.push(done) }

// Freeze hands the state between two txns to f, with its place in the log. f
// runs on the applier, unless Run ends before, and must be brief; what it does
// with the Frozen it does elsewhere.
func (r *Replica) Freeze(f func(*tree.Frozen, Point)) {
	r.tasks.push(func() { f(r.freeze()) })
}

func (r *Replica) freeze() (*tree.Frozen, Point) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.applier.point
	at.Voters, at.Others = slices.Clone(at.Voters), slices.Clone(at.Others)
	return r.mu.tree.Freeze(), at
}

// Status tells the node's part in its cluster.
func (r *Replica) Status() Status { return *r.status.Load() }

// Stats returns the counts.
func (r *Replica) Stats() Stats {
	return Stats{
		Txns: r.txns.Load(), Batches: r.batches.Load(), Snapshots: r.snapshots.Load(),
		LastSnapshot: znode.Zxid(r.lastSaved.Load()), PendingBytes: r.pending.Load(), Full: r.full.Load(),
	}
}

// queue hands items from any goroutine to one. It never makes the sender wait;
// what bounds it is said where it is made.
type queue[T any] struct {
	wake chan struct{} // holds a token when items may be waiting
	mu   struct {
		sync.Mutex
		items []T
	}
}

func (q *queue[T]) push(x T) {
	q.mu.Lock()
	q.mu.items = append(q.mu.items, x)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns all items and leaves the emptied spare in their place, unless a
// burst has made that one large.
func (q *queue[T]) take(spare []T) []T {
	const keep = 4096
	if cap(spare) > keep {
		spare = nil
	}
	clear(spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.mu.items
	q.mu.items = spare[:0]
	return items
}

// storage is the log as raft reads it.
type storage struct {
	Log
	start Point
	hard  wal.HardState
}

func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return &raftpb.HardState{Term: &s.hard.Term, Vote: &s.hard.Vote, Commit: &s.hard.Commit}, s.start.confState(), nil
}

func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable // nobody to send one to
}

func (p Point) confState() *raftpb.ConfState {
	return &raftpb.ConfState{Voters: p.Voters, Learners: p.Others, AutoLeave: new(false)}
}

// fits says what is wrong with a log for a state as of p.
func (s *storage) fits(p Point) error {
	first, err := s.FirstIndex()
	if err != nil {
		return fmt.Errorf("replica: first index: %w", err)
	}
	last, err := s.LastIndex()
	switch {
	case err != nil:
		return fmt.Errorf("replica: last index: %w", err)
	case first > p.Index+1:
		return fmt.Errorf("replica: the log begins at index %d, behind the snapshot's %d", first, p.Index)
	case last < p.Index:
		return fmt.Errorf("replica: the log ends at index %d, before the snapshot's %d", last, p.Index)
	case last < s.hard.Commit:
		return fmt.Errorf("replica: the log ends at index %d, before the committed %d", last, s.hard.Commit)
	}
	if term, err := s.Term(p.Index); err != nil || term != p.Term {
		return errors.Join(fmt.Errorf("replica: entry %d is of term %d in the log, of %d in the snapshot", p.Index, term, p.Term), err)
	}
	return nil
}

func (c *core) init(r *Replica) (err error) {
	defer recovered(&err)
	if r.cfg.NodeID == 0 || r.cfg.NodeID >= math.MaxUint64-1 {
		return errors.New("replica: a node id is neither 0 nor one of raft's two own")
	}
	st := &storage{Log: r.cfg.Log, start: r.cfg.Start, hard: r.cfg.HardState}
	st.hard.Commit = max(st.hard.Commit, r.cfg.Start.Index)
	if st.hard.Term < r.cfg.Start.Term {
		st.hard.Term, st.hard.Vote = r.cfg.Start.Term, 0
	}
	if err := st.fits(r.cfg.Start); err != nil {
		return err
	}
	r.cfg.HardState = st.hard
	c.rn, err = raft.NewRawNode(&raft.Config{
		ID: r.cfg.NodeID, ElectionTick: 10, HeartbeatTick: 2, Storage: st, Applied: r.cfg.Start.Index,
		AsyncStorageWrites: true, MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: 4 << 20,
		MaxUncommittedEntriesSize: 2 * MaxPendingBytes, MaxInflightMsgs: 128, MaxInflightBytes: 8 << 20,
		CheckQuorum: true, PreVote: true, ReadOnlyOption: raft.ReadOnlySafe, DisableProposalForwarding: true,
		StepDownOnRemoval: true, Logger: raftLogger{r.log},
	})
	if err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	return nil
}
