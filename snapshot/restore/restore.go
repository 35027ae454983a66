package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/snapshot/zkimport"
	"coord/tree"
)

// Options say what is restored, and where. The zero value of a field means its default.
type Options struct {
	File    string // the backup; "-" means In
	In      io.Reader
	DataDir string
	DryRun  bool // do everything that writes nothing
	Replace bool // the target may hold a node's data, which is kept under another name
	Exact   bool // leave versions and counters as they are in the backup: for a test copy

	// ZooKeeper is the data folder of a stopped ZooKeeper: it is imported, and there is no backup.
	// Versions and counters stay as they are in the folder.
	ZooKeeper    string
	ZooKeeperLog string // its dataLogDir; "": the logs are in ZooKeeper too

	// LostQuorum restores the target's own state: there is no backup, and the node is to continue
	// without the others of its ensemble. It replaces the folder that it reads.
	LostQuorum bool

	// How far clocks advance where the clients' last state is unknown.
	SequenceAdvance int32 // default SequenceAdvance
	VersionAdvance  int32 // default VersionAdvance

	Writer string // the version of coord that restores, for the new snapshot's header
	Now    func() time.Time
	// Confirm gets the plan before the first write. Its error ends the restore, and Run returns it unchanged.
	Confirm func(*Report) error
	// Progress is called before each change of the disk (Step says which one), and now and then
	// while something is read or made. Its error ends the restore; once the exchange of the folders
	// has begun the error has no effect.
	Progress func(Progress) error

	exchange func(a, b string) error // for tests: a file system that cannot exchange
}

// Stage is what a restore is doing.
type Stage string

// The stages.
const (
	Read    Stage = "read"    // counts bytes of the backup or of a snapshot
	Replay  Stage = "replay"  // counts entries of the replaced folder's log
	Rebuild Stage = "rebuild" // counts znodes
	Write   Stage = "write"   // counts znodes
	Verify  Stage = "verify"  // counts bytes of the new folder
	Swap    Stage = "swap"
)

// Progress says how far a restore has come. Total is 0 if it is unknown.
type Progress struct {
	Stage       Stage
	Step        string // the next change of the disk, in words; may be ""
	Done, Total int64
}

// The place of a restored state in its own log, as after a first start.
const (
	startIndex = 1
	startTerm  = 1
)

// Run restores. The report is nil if the options are wrong. With any other error it says how far the restore came.
func Run(ctx context.Context, o Options) (*Report, error) {
	r, err := newRun(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.release()
	err = r.prepare()
	if err == nil && !o.DryRun {
		err = r.apply()
	}
	r.watch.enter("")
	r.report.Took = r.watch.took
	return &r.report, err
}

// run is one restore.
type run struct {
	ticker
	o        Options
	report   Report
	target   *target
	meta     snapshot.Meta // of the backup
	summary  snapshot.Summary
	identity datadir.Identity // of the new node
	imported *zkimport.Import // nil unless ZooKeeper's folder is imported
	survivor *folder          // nil unless the quorum is lost
	state    *tree.Tree       // the new state
	built    *datadir.Dir     // the new folder, nil until it is made
}

// release releases the locks of both folders.
func (r *run) release() {
	if r.built != nil {
		_ = r.built.Close()
	}
	if r.target != nil && r.target.lock != nil {
		_ = r.target.lock.Close()
	}
}

// newRun checks the options (step 1).
func newRun(ctx context.Context, o Options) (*run, error) {
	sources := 0
	for _, given := range []bool{o.File != "", o.ZooKeeper != "", o.LostQuorum} {
		if given {
			sources++
		}
	}
	switch {
	case sources != 1:
		return nil, errors.New("restore: expected exactly one of a backup, a ZooKeeper folder and a lost quorum")
	case o.SequenceAdvance < 0 || o.VersionAdvance < 0:
		return nil, errors.New("restore: the sequence and version advances must not be negative")
	}
	if o.SequenceAdvance == 0 {
		o.SequenceAdvance = SequenceAdvance
	}
	if o.VersionAdvance == 0 {
		o.VersionAdvance = VersionAdvance
	}
	o.Replace = o.Replace || o.LostQuorum
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.In == nil {
		o.In = os.Stdin
	}
	if o.exchange == nil {
		o.exchange = exchange
	}
	r := &run{ticker: ticker{ctx: ctx, progress: o.Progress}, o: o}
	r.report = Report{V: 1, ID: newRestoreID(o.Now()), State: Planned, DryRun: o.DryRun,
		Dropped: Dropped{Sessions: []DroppedSession{}, Ephemerals: []DroppedEphemeral{}}}
	if o.File != "" {
		r.report.Backup = &Backup{File: o.File}
	}
	return r, nil
}

// prepare does everything before the first write.
func (r *run) prepare() error {
	if err := r.takeTarget(); err != nil {
		return err
	}
	source := r.readBackup
	switch {
	case r.o.ZooKeeper != "":
		source = r.readZooKeeper
	case r.o.LostQuorum:
		source = r.readSurvivor
	}
	backup, err := source()
	if err != nil {
		return err
	}
	c := clock{exact: r.o.Exact || r.imported != nil, by: By{r.o.VersionAdvance, r.o.SequenceAdvance}}
	c.member = r.imported != nil && r.imported.Member
	ofBackup, ofLive := r.lookAtLive(backup.Counters(), &c)
	var advance int64
	if c.epoch, advance, err = c.epochAfter(ofBackup, ofLive); err != nil {
		return err
	}
	rep := &r.report
	var dropped Dropped
	if r.state, rep.Advanced, dropped, err = c.rebuild(&r.ticker, backup); err != nil {
		return err
	}
	rep.Advanced.EpochAdvance = advance
	rep.Dropped.Sessions = append(rep.Dropped.Sessions, dropped.Sessions...)
	rep.Dropped.Ephemerals = append(rep.Dropped.Ephemerals, dropped.Ephemerals...)
	r.identity = datadir.NewIdentity(r.o.Now())
	r.identity.State = datadir.Member
	r.identity.Lineage = r.meta.LineageID
	if r.meta.LineageID == (snapshot.ID{}) {
		r.identity.Lineage = r.identity.Cluster
	}
	if r.imported == nil {
		r.identity.Generation = r.meta.Generation + 1
	} else if err := r.settle(); err != nil {
		return err
	}
	rep.Identity = identityOf(r.identity)
	rep.Epoch = Change{fmt.Sprint(max(ofBackup, ofLive)), fmt.Sprint(c.epoch)}
	rep.Zxid = Change{backup.Counters().Zxid.String(), r.state.Counters().Zxid.String()}
	rep.Digest = Change{backup.Digest().String(), r.state.Digest().String()}
	counts := r.state.Counts()
	rep.Znodes, rep.Bytes = counts.Znodes, counts.DataBytes
	if n := rep.Advanced.AtTheEnd; n > 0 {
		rep.notice("%d clocks are at their largest value: versions wrap around from there, sequential names repeat", n)
	}
	if r.o.Confirm != nil {
		return r.o.Confirm(rep)
	}
	return nil
}

// takeTarget is step 2.
func (r *run) takeTarget() (err error) {
	rep := &r.report
	if r.o.DataDir != "" && !r.o.DryRun {
		done, err := Recover(r.o.DataDir)
		if err != nil {
			return err
		}
		if done != "" {
			rep.notice("%s", done)
		}
	}
	if r.target, err = lookAt(r.o.DataDir, rep.ID); err != nil {
		return err
	}
	t := r.target
	rep.Target, rep.Inside = t.dir, t.inside
	if r.o.DryRun {
		for _, plan := range datadir.PlanPaths(t.dir) {
			if exists(plan) {
				return fmt.Errorf("%s: %w", t.dir, datadir.ErrUnfinished)
			}
		}
	}
	if t.kind == ours && !r.o.Replace {
		found := "a node's data"
		if id, ok, err := datadir.ReadIdentity(t.dir); err != nil {
			found += ", damaged"
		} else if ok {
			found += " of cluster " + id.Cluster.String()
		}
		return &NotEmptyError{t.dir, found, rep.Notices}
	}
	if t.kind == ours {
		rep.Kept = t.kept()
	}
	return nil
}

// readBackup is steps 3 to 5. A backup that is not a regular file can be read only once, so step 5 comes first.
func (r *run) readBackup() (*tree.Tree, error) {
	rep, name := &r.report, r.o.File
	var in io.Reader
	seekable := false
	if name == "-" {
		in = r.o.In
	} else {
		if filepath.Ext(name) == ".part" {
			return nil, &snapshot.DamageError{File: name, Frame: -1, Reason: "its name says that it was never finished"}
		}
		info, err := os.Stat(name)
		seekable = err == nil && info.Mode().IsRegular()
	}
	room := func() (err error) {
		rep.Backup.of(&r.meta, &r.summary)
		rep.Space, err = r.target.room(&r.summary)
		return err
	}
	if seekable {
		info, err := snapshot.Inspect(name)
		if err != nil {
			return nil, err
		}
		r.meta, r.summary = info.Meta, info.Summary
		rep.check("header and trailer", "format %d.%d, kind full", r.meta.Major, r.meta.Minor)
		if err := room(); err != nil {
			return nil, err
		}
	}
	backup, meta, summary, err := readFile(&r.ticker, name, in)
	if err != nil {
		return nil, err
	}
	r.meta, r.summary = meta, summary
	rep.check("backup", "%d frames, %d znodes: checksums, records and digest %v are correct", summary.Frames, summary.Znodes, summary.Digest)
	return backup, room()
}

// lookAtLive is step 6. It returns the highest epochs that the backup and the replaced folder
// mention, 0 if there is none.
func (r *run) lookAtLive(backup tree.Counters, c *clock) (ofBackup, ofLive int64) {
	ofBackup = max(int64(backup.Zxid.Epoch()), addTerm(backup.EpochOffset, r.meta.RaftTerm))
	rep := &r.report
	switch {
	case r.survivor != nil:
		return r.survivor.epoch(), 0 // the folder has been read already, and what the other members knew is gone
	case r.imported != nil:
		ofBackup = max(ofBackup, r.imported.Epoch)
	}
	if r.target.kind != ours {
		if r.imported == nil {
			rep.notice("the clients' last state is unknown: there is no folder of the backup's cluster to compare with")
		}
		return ofBackup, 0
	}
	live, err := readFolder(&r.ticker, r.target.dir, onlyCommitted)
	rep.Replaced = &Replaced{}
	if live != nil {
		rep.Replaced.Identity = identityOf(live.identity)
		rep.Notices = append(rep.Notices, live.notices...)
		if live.tree != nil {
			c.live = live.tree
			rep.Replaced.Zxid = live.tree.Counters().Zxid.String()
		}
	}
	why := ""
	if err == nil {
		c.whole = live.sole()
		c.same = live.identity.Cluster == r.meta.ClusterID && live.tree.Counters().Zxid >= backup.Zxid
		ofLive = live.epoch()
	} else {
		ofLive = glimpse(r.target.dir)
	}
	switch {
	case err != nil:
		why = "it is damaged or incomplete: " + err.Error()
	case r.imported != nil:
		rep.Replaced.Why = "it is not a ZooKeeper folder"
	case live.identity.Cluster != r.meta.ClusterID:
		why = fmt.Sprintf("it belongs to cluster %s, the backup to %s", live.identity.Cluster, r.meta.ClusterID)
	case !c.whole:
		why = "it is one of several members' folders: others may have newer writes"
	case !c.same:
		why = fmt.Sprintf("it is older than the backup: it ends with zxid %v", live.tree.Counters().Zxid)
	default:
		rep.Replaced.Known = true
		rep.check("replaced folder", "read up to zxid %s", rep.Replaced.Zxid)
	}
	if why != "" {
		rep.Replaced.Why = why
		rep.notice("the clients' last state is unknown, though there is a folder: %s", why)
	}
	return ofBackup, ofLive
}

// readFile reads a whole snapshot; if in is nil it opens the file.
func readFile(t *ticker, name string, in io.Reader) (*tree.Tree, snapshot.Meta, snapshot.Summary, error) {
	m := &meter{r: in, name: name, t: t}
	if in == nil {
		f, err := os.Open(name)
		if err != nil {
			return nil, snapshot.Meta{}, snapshot.Summary{}, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err == nil && info.IsDir() {
			err = &snapshot.ForeignError{File: name, Seems: "is a folder", Hint: "specify one of the files in it"}
		}
		if err != nil {
			return nil, snapshot.Meta{}, snapshot.Summary{}, err
		}
		m.r = f
		if info.Mode().IsRegular() {
			m.total = info.Size()
		}
	}
	return snapshot.Read(m)
}

// meter reports how much has been read.
type meter struct {
	r           io.Reader
	name        string
	t           *ticker
	done, total int64
	next        int64 // when to report next
}

// meterStep is how many bytes are read between two reports.
const meterStep = 1 << 20

// Name is for the errors of package snapshot.
func (m *meter) Name() string {
	if m.name == "-" {
		return "standard input"
	}
	return m.name
}

func (m *meter) Read(b []byte) (int, error) {
	if m.done >= m.next {
		m.next = m.done + meterStep
		if err := m.t.tell(Progress{Stage: cmp.Or(m.t.reads, Read), Done: m.done, Total: m.total}); err != nil {
			return 0, err
		}
	}
	n, err := m.r.Read(b)
	m.done += int64(n)
	return n, err
}

// ticker passes on progress, and says when to stop.
type ticker struct {
	ctx      context.Context
	progress func(Progress) error
	watch    stopwatch
	reads    Stage // the stage of reading, if not Read
}

func (t *ticker) tell(p Progress) error {
	if err := context.Cause(t.ctx); err != nil {
		return err
	}
	t.watch.enter(p.Stage)
	if t.progress == nil {
		return nil
	}
	return t.progress(p)
}

// step is tell before a change of the disk.
func (t *ticker) step(s Stage, what string) error { return t.tell(Progress{Stage: s, Step: what}) }

// snapshotMeta describes the restored state.
func (r *run) snapshotMeta() snapshot.Meta {
	return snapshot.Meta{
		BackupID: snapshot.NewID(), ClusterID: r.identity.Cluster, LineageID: r.identity.Lineage, Generation: r.identity.Generation,
		RaftIndex: startIndex, RaftTerm: startTerm, Conf: snapshot.ConfState{Voters: []uint64{r.identity.Node}},
		Writer: r.o.Writer, Codec: snapshot.Plain,
	}
}
