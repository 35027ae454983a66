package replica

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// Limits. A client that exceeds one gets an answer.
const (
	// MaxBatchBytes is the size of one raft entry's data, unless a single txn is larger.
	MaxBatchBytes = 256 << 10
	// MaxTxnBytes is the size of one txn: the log takes no larger entry. Submit answers a larger
	// one with ErrTooBig.
	MaxTxnBytes = wal.MaxEntryBytes
	// MaxPendingBytes is the size of all unanswered submissions; above it Submit answers
	// ErrThrottledOp.
	MaxPendingBytes = 64 << 20
	// maxAppendBytes is how much is proposed at a time; the rest stays in the queue until that is
	// on the disk. Raft and the log hold copies of no more than this.
	maxAppendBytes = 4 << 20
	// maxAppends is how many appends may be on their way to the disk before new submissions wait in
	// the queue. This limit makes batches grow under load. Rejected: a second append while the
	// first is in its fsync. The disk idles less between two fsyncs, but the second append goes out
	// as soon as there is anything to write, so it is small, and everything after it waits for one
	// more fsync: a third to a half fewer txns a second with fsyncs of 0.3 to 5 ms.
	maxAppends = 1
	// DefaultFullBytes is Config.FullBytes for a disk that is not small.
	DefaultFullBytes = 4 << 20
	// applyChunk is how many txns are applied before readers get a turn.
	applyChunk = 64
)

// Point is a place in the log, with the members in force there.
type Point struct {
	Index, Term    uint64
	Voters, Others []uint64 // node ids; Others are learners
	// While several members change at once: the voters before the change, and those of them who
	// will be learners. No snapshot is made meanwhile.
	Outgoing, Next []uint64
	Removed        []uint64 // ids of former members, which are never used again. The last MaxRemoved, in the order of removal
	// Floors are what Replica.Floor returns for each member, sorted by node. A Point that does not
	// describe a state (Status.Members) has none. The slice is replaced and never changed in place.
	Floors []tree.Floor
}

// Log is the durable log; package wal implements it. One goroutine calls the writing methods,
// another the reading ones, which must not wait for an fsync.
type Log interface {
	Append(...wal.Batch) error
	Mark(wal.Mark) error
	CompactTo(index uint64) error
	Reset(wal.Position, wal.HardState) error
	Sweep(ctx context.Context) error // called by the snapshotter, which may take its time

	FirstIndex() (uint64, error)
	LastIndex() (uint64, error)
	Term(index uint64) (uint64, error)
	Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error)
}

// Snapshots keeps the snapshots that a node starts from.
type Snapshots interface {
	// Save makes f durable and returns the first log index that is still needed (that of the oldest
	// snapshot kept).
	Save(ctx context.Context, at Point, f *tree.Frozen) (keepFrom uint64, err error)
}

// Received keeps the snapshots that come from other nodes: see Peers.Snapshot. One goroutine calls
// it. A received snapshot becomes this node's own in two steps, and the log is reset to it between
// them. So the outcome of a crash is never in doubt: if the log begins after all of the node's own
// snapshots, it belongs to the waiting snapshot at its first index; any other waiting snapshot was
// never installed.
type Received interface {
	// Install makes such a snapshot durable, under a name that a start ignores unless the log
	// begins at its index, and returns its tree.
	Install(at Point) (*tree.Tree, error)
	// Installed gives the snapshot its final name: the log has been reset to it.
	Installed(at Point) error
	// Unwanted says that raft does not take the snapshot of this index. It runs on the loop and
	// must not wait.
	Unwanted(index uint64)
}

// Config is what a Replica is made of. All fields are required except Full, FullBytes, Burst,
// Changed, Replaced, Now and those for several nodes.
type Config struct {
	NodeID    uint64
	Tree      *tree.Tree // as it was at Start; the Replica owns it from now on
	Start     Point
	HardState wal.HardState // as recovered from the log
	Log       Log
	Snapshots Snapshots
	// A snapshot is made after this many txns or this many bytes of entries.
	SnapshotTxns  int
	SnapshotBytes int64
	// A new leader proposes Settings if the state has others.
	Settings tree.Settings
	// Full says whether the disk is too full for new writes. The log writer asks after each write,
	// and a few times a second while the answer is yes.
	Full func() bool
	// FullBytes of entries make a snapshot worthwhile while Full says yes; 0: DefaultFullBytes.
	// They must fit into the space that Full keeps free, because a follower's log goes on growing.
	FullBytes int64
	// Burst runs on the applier after each burst of dones, with no lock held.
	Burst func()
	// Changed runs on the loop when the role, term, leader, members or readiness in Status change.
	// It must not wait.
	Changed func()
	// Replaced runs on the applier when a snapshot of another node has replaced tree and watch
	// table, in the same locked step: watchers have missed events, and must learn of that before
	// anyone can read the new state.
	Replaced func(*tree.Tree, *watch.Table)
	Now      func() time.Time // nil: time.Now
	Logger   zerolog.Logger

	// Peers sends messages to the other nodes. Received keeps the snapshots from them, which are
	// too large for messages. Both are nil for a node that is alone.
	Peers    Peers
	Received Received
	// Tick is raft's unit of time; 0: DefaultTick. A sole member has no ticks.
	Tick                        time.Duration
	HeartbeatTick, ElectionTick int // 0: the defaults
	// SyncTicks is how many ticks a submission or barrier waits for a leader.
	SyncTicks int
}

// Defaults for several nodes.
const (
	DefaultTick          = 100 * time.Millisecond
	DefaultHeartbeatTick = 2
	DefaultElectionTick  = 6
)

// Done receives the outcome of a submission. It runs on the applier, with the state lock held,
// before the next txn is applied. It must be brief and wait for nothing: the goroutine that drives
// the applier may be the log writer, or a peer's receiver.
type Done = func(tree.Result, *tree.Tree, *watch.Table)

// Replica is one node's copy of the log and the state.
type Replica struct {
	cfg   Config
	log   zerolog.Logger
	ready chan struct{} // closed when everything acknowledged before the start is applied
	letIn func()        // closes it

	mu struct { // the state lock: View shares it, the applier holds it alone
		sync.RWMutex
		tree    *tree.Tree
		watches *watch.Table
		index   uint64 // of the last entry in the tree; 0 while one is being applied
	}
	digests digests

	loop      seat                               // of the core
	applying  seat                               // of the applier
	submitted queue[submission]                  // anyone → loop
	barriers  queue[Done]                        // anyone → loop
	events    queue[func()]                      // log writer, applier and peers → loop
	appends   queue[*raftpb.Message]             // loop → log writer
	marks     queue[func() error]                // snapshotter → log writer
	tasks     queue[func()]                      // loop, snapshotter and anyone → applier
	chores    queue[func(context.Context) error] // applier and log writer → snapshotter, one at a time
	pending   atomic.Int64                       // bytes submitted and not answered
	busy      atomic.Bool                        // the loop will look for submissions by itself, and need not be woken for them
	toApply   atomic.Int64                       // bytes of entries on their way to the applier
	full      atomic.Bool                        // the disk is too full for new writes
	status    atomic.Pointer[Status]
	txns      atomic.Uint64
	batches   atomic.Uint64
	snapshots atomic.Uint64
	lastSaved atomic.Uint64                // zxid
	committed atomic.Uint64                // index
	appliedTo atomic.Uint64                // index
	floors    atomic.Pointer[[]tree.Floor] // the applier's, of its point
	core      core                         // the loop's
	logWriter logWriter                    // the log writer's
	applier   applier                      // the applier's
}

// Status is a node's part in its cluster.
type Status struct {
	Role    string // leader, follower, learner, candidate
	Term    uint64
	Leader  uint64 // node id, 0 for none
	Ready   bool   // see Replica.Ready
	Members Point  // in force, as of the entry that made them so; shared, not to be changed
	// Indices of the log: of the last entry applied here, the last one known to be committed, and
	// the last one in the log.
	Applied, Committed, Last uint64
}

// Stats are counts since the start.
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
	lead bool   // refused unless this node leads
	term uint64 // with lead: in this term
}

// New makes a replica; Run starts it.
func New(cfg Config) (*Replica, error) {
	r := &Replica{cfg: cfg, log: cfg.Logger, ready: make(chan struct{})}
	r.letIn = sync.OnceFunc(func() {
		close(r.ready)
		r.events.push(r.changed)
	})
	r.submitted.wake, r.appends.wake, r.tasks.wake, r.chores.wake = newWake(), newWake(), newWake(), newWake()
	r.barriers.wake, r.events.wake, r.marks.wake = r.submitted.wake, r.submitted.wake, r.appends.wake
	r.loop.Lock() // until they run
	r.applying.Lock()
	r.mu.tree, r.mu.watches = cfg.Tree, watch.New(watch.DefaultConfig(), cfg.Tree.Counters().Zxid)
	r.cfg.setDefaults()
	r.applier = applier{index: cfg.Start.Index, point: cfg.Start}
	r.mu.index = cfg.Start.Index
	r.appliedTo.Store(cfg.Start.Index)
	r.publishFloors()
	if err := r.core.init(r); err != nil {
		return nil, err
	}
	r.logWriter.hard = r.cfg.HardState
	r.publish()
	return r, nil
}

func (c *Config) setDefaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Tick == 0 {
		c.Tick = DefaultTick
	}
	if c.HeartbeatTick == 0 {
		c.HeartbeatTick = DefaultHeartbeatTick
	}
	if c.ElectionTick == 0 {
		c.ElectionTick = DefaultElectionTick
	}
	if c.FullBytes == 0 {
		c.FullBytes = DefaultFullBytes
	}
	if c.Peers == nil {
		c.SyncTicks = 0 // there is no other leader to wait for
	}
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

// takeTurns takes turns until ctx ends or one fails. After a turn that had nothing to do it sleeps
// until wake has a token.
func takeTurns(ctx context.Context, wake <-chan struct{}, turn func() (worked bool, err error)) error {
	for {
		switch worked, err := turn(); {
		case err != nil:
			return err
		case worked:
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
	}
}

// Ready is closed when every write that was acknowledged before the start is applied, so that
// clients may be let in: on a leader when an entry of its own term is applied, on other nodes when
// everything is applied that the leader said it had committed.
func (r *Replica) Ready() <-chan struct{} { return r.ready }

// View reads the state, shared with other readers. A watch that is added to the watch table in the
// same View belongs to exactly the state that was read.
func (r *Replica) View(read func(*tree.Tree, *watch.Table)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	read(r.mu.tree, r.mu.watches)
}

// Submit proposes a txn. It does not wait. done runs exactly once, unless Run ends first: then the
// outcome is unknown. The submissions of one goroutine reach the log in the order of the calls.
// Submit takes ownership of the Txn.
func (r *Replica) Submit(x *tree.Txn, done Done) { r.submit(submission{txn: x, done: done}) }

// Decide is Submit for what only the leader decides, such as that a session has been silent for too
// long. The txn is never forwarded. If the leadership under which it was submitted has ended by the
// time it is taken, it is refused with ErrNoLeader; a later leadership of this same node does not
// count.
func (r *Replica) Decide(x *tree.Txn, done Done) {
	r.submit(submission{txn: x, done: done, lead: true, term: r.status.Load().Term})
}

func (r *Replica) submit(s submission) {
	s.size = sizeOf(s.txn)
	switch pending := r.pending.Add(s.size); {
	case s.size > MaxTxnBytes:
		r.refuse(s, znode.ErrTooBig)
	case pending > MaxPendingBytes:
		r.refuse(s, znode.ErrThrottledOp)
	default:
		r.submitted.add(s)
		if !r.busy.Load() { // otherwise the loop takes it when it is no longer busy
			r.submitted.wake.up()
		}
	}
}

// sizeOf is the size that a txn counts as: at least what it will take in the log.
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

// Barrier runs done on the applier once everything that was committed anywhere before the call is
// applied here: what done, or anyone after it, reads is linearizable. The Result carries
// ErrNoLeader if that cannot be established.
func (r *Replica) Barrier(done Done) { r.barriers.push(done) }

// Freeze passes f the state between two txns, with its place in the log. f runs on the applier,
// unless Run ends first, and must be brief; it must leave the work on the Frozen to another
// goroutine.
func (r *Replica) Freeze(f func(*tree.Frozen, Point)) {
	r.tasks.push(func() { f(r.freeze()) })
}

func (r *Replica) freeze() (*tree.Frozen, Point) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.tree.Freeze(), r.applier.point.clone()
}

// Status returns the node's part in its cluster.
func (r *Replica) Status() Status {
	s := *r.status.Load()
	s.Applied, s.Committed = r.appliedTo.Load(), r.committed.Load()
	s.Last, _ = r.cfg.Log.LastIndex()
	select {
	case <-r.ready:
		s.Ready = true
	default:
	}
	return s
}

// Stats returns the counts.
func (r *Replica) Stats() Stats {
	return Stats{
		Txns: r.txns.Load(), Batches: r.batches.Load(), Snapshots: r.snapshots.Load(),
		LastSnapshot: znode.Zxid(r.lastSaved.Load()), PendingBytes: r.pending.Load(), Full: r.full.Load(),
	}
}

// queue hands items from any goroutine to one. It never makes the sender wait; the place that
// creates a queue says what bounds it.
type queue[T any] struct {
	wake wake // may be shared by several queues
	mu   struct {
		sync.Mutex
		items []T
	}
}

func (q *queue[T]) push(x T) {
	q.add(x)
	q.wake.up()
}

// add wakes nobody: the caller does that, or the item can wait for a later one.
func (q *queue[T]) add(x T) {
	q.mu.Lock()
	q.mu.items = append(q.mu.items, x)
	q.mu.Unlock()
}

// wake holds a token when the goroutine that takes from a queue should look.
type wake chan struct{}

func newWake() wake { return make(wake, 1) }

func (w wake) up() {
	select {
	case w <- struct{}{}:
	default:
	}
}

func (q *queue[T]) isEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.mu.items) == 0
}

// take returns all items and leaves the emptied spare in their place, unless a burst has made the
// spare large.
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
