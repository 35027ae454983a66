package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"coord/server/admission"
	"coord/server/frontend"
	"coord/server/replica"
	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/snapshot/restore"
	"coord/tree"
	"coord/tree/znode"
	"coord/wal"
)

// node is what a running server holds.
type node struct {
	cfg        Config
	log        zerolog.Logger
	dir        *datadir.Dir
	identity   datadir.Identity
	store      *snapshot.Store
	wal        *wal.Log
	recovered  *wal.Recovered
	tree       *tree.Tree    // as loaded; handed to the replica
	start      replica.Point // the place in the log where tree was taken
	space      *space
	replica    *replica.Replica
	front      *frontend.Server
	started    time.Time
	port       int  // the first TCP port that clients can reach; -1 for none
	onLoopback bool // whether that port is on loopback
	measured   measured
	collector  collector

	ens        *ensemble // nil: the node is alone
	lost       *lost     // what the node was, if it must come back as another one
	remembered roster    // the roster of the node that it was
}

// openNode takes the data folder and reads its identity. A folder without one becomes a blank
// node's. was says what the node was before its data was lost; nil if nothing was lost.
func openNode(cfg Config, was *lost, log zerolog.Logger) (n *node, err error) {
	n = &node{cfg: cfg, log: log, started: time.Now(), port: -1}
	defer func() {
		if err != nil {
			n.close()
			n, err = nil, explain(err)
		}
	}()
	done, err := restore.Recover(cfg.DataDir)
	if err != nil {
		return n, err
	}
	if done != "" {
		log.Warn().Str("data_dir", cfg.DataDir).Msg(done)
	}
	if n.dir, err = datadir.Open(cfg.DataDir, true); err != nil {
		return n, err
	}
	var known bool
	if n.identity, known, err = n.dir.Identity(); err != nil {
		return n, err
	}
	n.space = newSpace(n.dir, cfg.ReserveBytes, log, n.snapshotBytes)
	several := cfg.Ensemble != nil
	switch state := n.identity.State; {
	case was != nil:
		n.comeBack(was)
	case !known:
		n.identity = datadir.NewIdentity(time.Now())
		n.identity.Boot = 1 // an id lives as long as its disk, so it is durable before any other node hears of it
		err = n.dir.WriteIdentity(n.identity)
	case state == datadir.Member, state == datadir.Blank, state == datadir.Promised && several:
		n.identity, err = n.dir.RaiseBoot(n.identity)
	case state == datadir.Faulty && n.identity.Aside != "" && several:
		n.comeBack(&lost{cluster: n.identity.Cluster, reason: n.identity.Reason})
	default:
		err = notMember(n.identity)
	}
	return n, err
}

// comeBack makes the node a new one in memory; setAside does the same on the disk.
func (n *node) comeBack(was *lost) {
	n.lost = was
	if store, err := snapshot.OpenStore(n.dir.Snapshots(), ownPace); err == nil {
		if t, _, _, err := store.Load(); err == nil {
			n.remembered, _ = rosterOf(t)
		}
	}
	n.identity = datadir.NewIdentity(time.Now())
	n.identity.Boot = 1
}

// open makes the folder a member's, if it is not one yet, and reads it: the newest good snapshot
// and the log after it.
func (n *node) open(ctx context.Context) error {
	switch {
	case n.ens != nil:
		if err := n.belong(ctx); err != nil {
			return err
		}
	case n.identity.State == datadir.Blank: // nothing was acknowledged, so an interrupted first start begins again
		id := n.identity
		if err := n.furnish(ctx, id, replica.Point{Index: 1, Term: 1, Voters: []uint64{id.Node}}, tree.New()); err != nil {
			return explain(err)
		}
	}
	var err error
	if n.store, err = snapshot.OpenStore(n.dir.Snapshots(), ownPace); err != nil {
		return explain(err)
	}
	if err = n.load(); err != nil {
		return n.damaged(explain(err))
	}
	n.space.keepBallast()
	c := n.tree.Counters()
	n.log.Info().Str("cluster", n.identity.Cluster.String()).Str("node", datadir.NodeString(n.identity.Node)).
		Uint64("boot", n.identity.Boot).Str("zxid", c.Zxid.String()).Uint64("index", n.start.Index).Uint64("last_index", n.recovered.Last).
		Int("znodes", n.tree.Counts().Znodes).Dur("took", time.Since(n.started)).Msg("data loaded")
	return nil
}

// damaged turns err into a lostError if the data is damaged and the node can come back as another one.
func (n *node) damaged(err error) error {
	if n.ens != nil && errors.Is(err, ErrDamaged) {
		return &lostError{n.identity.Cluster, err}
	}
	return err
}

// aloneTime is how long a node whose data is damaged looks for the others.
const aloneTime = 10 * time.Second

// belong waits until the node is a member of an ensemble. A damaged node that does not find the
// others leaves its data as it is, for an operator.
func (n *node) belong(ctx context.Context) error {
	if n.lost == nil {
		return n.ens.machine.belong(ctx)
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(aloneTime, func() {
		if !n.ens.machine.isJoining() {
			cancel()
		}
	})
	defer late.Stop()
	err := n.ens.machine.belong(within)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s; no other member can be reached to get the data from", ErrDamaged, n.lost.reason)
	}
	return err
}

// close releases everything, in reverse order.
func (n *node) close() {
	if n.wal != nil {
		if err := n.wal.Close(); err != nil {
			n.log.Error().Err(err).Msg("closing the log failed")
		}
	}
	if n.dir != nil {
		_ = n.dir.Close()
	}
}

// notMember explains why a node cannot start from its folder.
func notMember(id datadir.Identity) error {
	switch id.State {
	case datadir.Promised:
		return fmt.Errorf("%w: the data folder is reserved for the founding of cluster %s, which is not complete: start the server with the flags of that founding", ErrConfig, id.Promise.Cluster)
	case datadir.Removed:
		return fmt.Errorf("%w: node %s was removed from its cluster (%s): to start a new node, use another data folder", ErrForeign, datadir.NodeString(id.Node), id.Reason)
	default:
		where := ""
		if id.Aside != "" {
			where = "; its data was moved to " + id.Aside + " in the data folder, perhaps not all of it"
		}
		return fmt.Errorf("%w: node %s must not start again: %s%s", ErrDamaged, datadir.NodeString(id.Node), id.Reason, where)
	}
}

// load reads the newest good snapshot and opens the log after it.
func (n *node) load() error {
	start := time.Now()
	t, info, bad, err := n.store.Load()
	n.measured.snapLoad.AddTime(time.Since(start))
	n.passedOver(bad)
	if err != nil {
		if errors.Is(err, snapshot.ErrNoSnapshot) {
			return &datadir.DamageError{File: n.dir.Snapshots(), Reason: "contains no snapshot, although the data folder belongs to a node"}
		}
		return err
	}
	if info.Meta.ClusterID != n.identity.Cluster {
		return fmt.Errorf("%w: %s belongs to cluster %s, the data folder to %s", ErrForeign, info.Path, info.Meta.ClusterID, n.identity.Cluster)
	}
	n.tree = t
	n.wal, n.recovered, err = wal.Open(n.dir.WAL(), wal.Options{
		Meta:      wal.Meta{ClusterID: n.identity.Cluster, NodeID: n.identity.Node},
		MustExist: true, MustReach: info.Meta.RaftIndex, OnSync: n.measured.synced,
	})
	if err != nil {
		return err
	}
	if r := n.recovered.Repair; r.Bytes > 0 {
		n.log.Warn().Str("segment", r.File).Int64("offset", r.Offset).Int64("bytes", r.Bytes).Str("why", r.Reason).
			Msg("torn write at the end of the log removed: it was never acknowledged")
	}
	if base := n.recovered.Base; base.Index > info.Meta.RaftIndex {
		// If the snapshot of another node was being installed, the log has already been reset to it.
		adopted, err := n.store.Adopt(base.Index, base.Term)
		if err != nil {
			return err
		}
		if adopted {
			n.log.Info().Uint64("index", base.Index).Msg("snapshot from another node installed")
			if n.tree, info, bad, err = n.store.Load(); err != nil {
				return err
			}
			n.passedOver(bad)
		}
	}
	n.start = pointOf(&info.Meta)
	if n.recovered.First > n.start.Index+1 {
		if err := snapshot.NotOpened(bad); err != nil {
			return err
		}
		return &datadir.DamageError{File: info.Path, Reason: fmt.Sprintf(
			"is the newest good snapshot and ends at index %d, but the log begins at %d: the entries in between were lost with the damaged snapshots", n.start.Index, n.recovered.First)}
	}
	return n.store.ClearWaiting() // not earlier: a damaged one may be the snapshot that is missing
}

func (n *node) passedOver(bad []snapshot.Entry) {
	for _, b := range bad {
		n.log.Error().Err(b.Err).Str("path", b.Path).Msg("unreadable snapshot skipped")
	}
}

func pointOf(m *snapshot.Meta) replica.Point {
	return replica.Point{Index: m.RaftIndex, Term: m.RaftTerm, Voters: m.Conf.Voters, Others: m.Conf.Learners, Removed: m.Conf.Removed,
		Floors: m.Conf.Floors}
}

// meta describes a snapshot of this node at a place in its log.
func (n *node) meta(at replica.Point) snapshot.Meta { return n.metaOf(&n.identity, at) }

// metaOf is meta for a folder that is going to belong to id.
func (n *node) metaOf(id *datadir.Identity, at replica.Point) snapshot.Meta {
	return snapshot.Meta{
		BackupID: snapshot.NewID(), ClusterID: id.Cluster, LineageID: id.Lineage, Generation: id.Generation,
		RaftIndex: at.Index, RaftTerm: at.Term, Conf: snapshot.ConfState{Voters: at.Voters, Learners: at.Others, Removed: at.Removed, Floors: at.Floors},
		Writer: "coord " + n.cfg.Version, Codec: snapshot.Plain,
	}
}

// Save makes a snapshot durable and removes the old ones: replica.Snapshots.
func (n *node) Save(ctx context.Context, at replica.Point, f *tree.Frozen) (keepFrom uint64, err error) {
	var removed []string
	start := time.Now()
	err = inBackground(func() (err error) {
		m, options := n.meta(at), snapshot.Options{}
		if n.isAwaited(at) {
			// It is written, read, sent, written and read again: each step is faster with fewer
			// bytes.
			m.Codec, options.Pace = snapshot.Zstd, &hurriedPace
		}
		if err := n.takeRoom(&options); err != nil {
			return err
		}
		_, err = n.store.Save(ctx, m, f, options)
		n.space.gives.Store(0) // the older ones go now, and their room must not count twice
		if err != nil {
			return err
		}
		keep, maxAge := n.cfg.SnapshotKeep, n.cfg.SnapshotMaxAge
		if n.space.isShort(1) {
			keep, maxAge = 1, 0
		}
		removed, err = n.store.Prune(ctx, keep, maxAge, time.Now())
		return err
	})
	if err != nil {
		return 0, err
	}
	n.measured.snapshot.AddTime(time.Since(start))
	n.measured.snapshots.Add(1)
	for _, path := range removed {
		n.log.Info().Str("path", path).Msg("old snapshot removed")
	}
	kept, err := n.store.List()
	if err != nil {
		return 0, err
	}
	keepFrom = at.Index + 1
	for _, e := range kept {
		if e.Err == nil {
			keepFrom = min(keepFrom, e.Meta.RaftIndex+1)
		}
	}
	return keepFrom, nil
}

// takeRoom reserves a snapshot's room beforehand if the disk is not far from full.
func (n *node) takeRoom(o *snapshot.Options) error {
	if !n.space.isShort(plentyOfSnapshots) {
		return nil
	}
	if n.space.isShort(2) {
		o.Pace = &hurriedPace // clients may be waiting for room
	}
	gives := n.olderBytes()
	o.Step = func(snapshot.Progress) error { // the snapshot has its room
		n.space.gives.Store(gives)
		return nil
	}
	o.Room = n.snapshotBytes()
	return n.space.fits(o.Room)
}

// plentyOfSnapshots is how many more snapshots fit on a disk that is far from full.
const plentyOfSnapshots = 4

// olderBytes is the size of all existing snapshots.
func (n *node) olderBytes() (bytes int64) {
	kept, _ := n.store.List()
	for _, e := range kept {
		if info, err := os.Stat(e.Path); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// snapshotBytes estimates the size of a snapshot of the state, rather too high.
func (n *node) snapshotBytes() (bytes int64) {
	const each, fixed = 96, 1 << 20
	if n.replica == nil {
		return 0
	}
	n.replica.View(func(t *tree.Tree, _ *watchTable) {
		c := t.Counts()
		bytes = c.DataBytes + each*int64(c.Znodes+c.Sessions) + fixed
	})
	return bytes
}

// isAwaited says whether some node waits for a snapshot at this place: a member that the newest
// snapshot does not list cannot be sent an older one.
func (n *node) isAwaited(at replica.Point) bool {
	kept, err := n.store.List()
	if err != nil {
		return false
	}
	for _, e := range kept {
		if e.Err == nil { // the newest
			was := pointOf(&e.Meta)
			return slices.ContainsFunc(admission.Everyone(&at), func(id uint64) bool { return !slices.Contains(admission.Everyone(&was), id) })
		}
	}
	return false
}

// Snapshots are written while clients are served, and must not slow them down. Nobody waits for the
// server's own snapshots except a new member; somebody waits for a backup.
var (
	hurriedPace = snapshot.Pace{} // still in the background, see inBackground
	ownPace     = snapshot.Pace{Rests: 4, Longest: 20 * time.Millisecond}
	backupPace  = snapshot.Pace{Rests: 2, Longest: 5 * time.Millisecond}
)

// Snapshot freezes the state for a backup: frontend.Node.
func (n *node) Snapshot(ctx context.Context) (znode.Zxid, func(context.Context, io.Writer) error, error) {
	type frozen struct {
		f  *tree.Frozen
		at replica.Point
	}
	got := make(chan frozen, 1)
	n.replica.Freeze(func(f *tree.Frozen, at replica.Point) { got <- frozen{f, at} })
	select {
	case <-ctx.Done():
		return 0, nil, znode.ErrShutdown
	case g := <-got:
		return g.f.Counters().Zxid, func(ctx context.Context, w io.Writer) error {
			m := n.meta(g.at)
			m.Codec = snapshot.Zstd
			return inBackground(func() error {
				_, err := snapshot.Write(w, m, g.f, snapshot.Options{Step: backupPace.Step(ctx)})
				return err
			})
		}, nil
	}
}

// Hello names the node: frontend.Node.
func (n *node) Hello() (version, name, role, cluster string) {
	st := n.replica.Status()
	role = st.Role
	switch {
	case role == "leader" && len(admission.Everyone(&st.Members)) == 1:
		role = "standalone"
	case role == "learner" && n.cfg.Ensemble != nil && n.cfg.Ensemble.Observer:
		role = "observer"
	case role == "learner":
		role = "standby" // it will get a vote, or may get one
	}
	return n.cfg.Version, n.cfg.Name, role, n.cfg.Cluster
}

// HasLeader says whether this node knows who leads: frontend.Node.
func (n *node) HasLeader() bool { return n.replica.Status().Leader != 0 }

// explain maps an error to one of this package's errors, which say how to go on.
func explain(err error) error {
	var inUse *datadir.InUseError
	var folder *datadir.DamageError
	var logDamage *wal.DamageError
	var snap *snapshot.DamageError
	var foreign *snapshot.ForeignError
	var newer *snapshot.NewerError
	var write *wal.WriteError
	var partial *restore.PartialError
	var target *restore.TargetError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &inUse):
		return failure{ErrInUse, err}
	case errors.As(err, &partial), errors.Is(err, datadir.ErrUnfinished):
		return failure{ErrUnfinished, err}
	case errors.As(err, &target):
		return failure{ErrConfig, err}
	case errors.As(err, &folder), errors.As(err, &logDamage), errors.As(err, &snap), errors.As(err, &foreign):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case errors.As(err, &newer), errors.Is(err, wal.ErrNewerFormat), errors.Is(err, datadir.ErrNewer), errors.Is(err, tree.ErrNewerBatch):
		return fmt.Errorf("%w: %w", ErrNewer, err)
	case errors.Is(err, datadir.ErrZooKeeper):
		return failure{ErrZooKeeper, err}
	case errors.Is(err, wal.ErrForeign):
		return fmt.Errorf("%w: %w", ErrForeign, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case errors.As(err, &write):
		return fmt.Errorf("%w: %w", ErrFatalIO, err)
	case errors.Is(err, datadir.ErrNotMine), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrPermitted, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: %w", ErrConfig, err)
	case errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w: %w", ErrFatalIO, err)
	}
	return err
}
