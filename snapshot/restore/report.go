package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"coord/snapshot"
	"coord/snapshot/datadir"
)

// Report is what a restore has found and done, or in a dry run would do. Its JSON names never
// change; new ones may be added. It contains paths and ids, but no data, password hashes or ACLs.
// Zxids and session ids are strings such as 0x300000a1.
type Report struct {
	V      int    `json:"v"` // 1
	ID     string `json:"id"`
	State  State  `json:"state"`
	DryRun bool   `json:"dry_run,omitempty"`
	Target string `json:"data_dir"`       // links resolved
	Inside bool   `json:"inside"`         // the folder could not be renamed: everything was done within it
	Kept   string `json:"kept,omitempty"` // where the old data is
	File   string `json:"report,omitempty"`

	Backup    *Backup    `json:"backup,omitempty"`    // one of these three
	ZooKeeper *ZooKeeper `json:"zookeeper,omitempty"` // is present
	Survivor  *Survivor  `json:"survivor,omitempty"`
	Replaced  *Replaced  `json:"replaced,omitempty"` // nil if nothing was replaced
	Identity  Identity   `json:"identity"`           // the new node's
	Epoch     Change     `json:"epoch"`              // highest seen, new
	Zxid      Change     `json:"zxid"`               // of the backup, new
	Digest    Change     `json:"digest"`             // of the backup's state (read and compared), after the adjustments
	Znodes    int        `json:"znodes"`
	Bytes     int64      `json:"bytes"` // of paths and data
	Advanced  Advanced   `json:"advanced"`
	Dropped   Dropped    `json:"dropped"`
	Space     Space      `json:"space"`
	Checks    []Check    `json:"checks"`
	Notices   []string   `json:"notices,omitempty"`
	Took      []Took     `json:"took"`
}

// State says how far a restore has come.
type State string

// The states. A report in a data folder that says Built belongs to a restore whose exchange Recover completed.
const (
	Planned State = "planned"
	Built   State = "built"
	Done    State = "done"
)

// Backup describes the backup file.
type Backup struct {
	File       string `json:"file"`
	Identity          // as of the backup; Node is empty
	BackupID   string `json:"backup_id"`
	Format     string `json:"format"`
	Writer     string `json:"writer"`
	TimeMS     int64  `json:"time_ms"` // stamp of the last txn
	Znodes     int64  `json:"znodes"`
	Sessions   int64  `json:"sessions"`
	Ephemerals int64  `json:"ephemerals"`
	Bytes      int64  `json:"file_bytes"`
}

// Identity is the identity of a node.
type Identity struct {
	Cluster    string `json:"cluster"`
	Lineage    string `json:"lineage"`
	Generation uint32 `json:"generation"`
	Node       string `json:"node,omitempty"`
}

// Replaced describes the data that the restored folder replaces.
type Replaced struct {
	Identity        // empty if it could not be read
	Zxid     string `json:"zxid,omitempty"` // the last one, if the state could be read
	// Known: the clients of the backup's cluster saw nothing later than what this folder holds.
	Known bool   `json:"known"`
	Why   string `json:"why,omitempty"` // why Known is false
}

// Change is a value before and after.
type Change struct {
	Before string `json:"before"`
	After  string `json:"after"`
}

// Advanced counts the znodes whose clocks were moved, and says how far, unless the clients' last state was known.
type Advanced struct {
	Exact        bool  `json:"exact,omitempty"` // no clocks were moved, as requested
	By           By    `json:"by"`              // where the last state is unknown
	Versions     int   `json:"versions"`
	ACLVersions  int   `json:"acl_versions"`
	Counters     int   `json:"counters"` // of created children: sequential names
	Unknown      int   `json:"unknown"`  // znodes whose last state is unknown
	AtTheEnd     int   `json:"at_the_end"`
	EpochAdvance int64 `json:"epoch_advance"`
}

// By is how far clocks advance.
type By struct {
	Versions int32 `json:"versions"`
	Counters int32 `json:"counters"`
}

// Dropped lists what ended with the sessions.
type Dropped struct {
	Sessions   []DroppedSession   `json:"sessions"`
	Ephemerals []DroppedEphemeral `json:"ephemerals"`
}

// DroppedSession is a session of the backup.
type DroppedSession struct {
	ID         string `json:"id"`
	TimeoutMS  int32  `json:"timeout_ms"`
	Ephemerals int    `json:"ephemerals"`
}

// DroppedEphemeral is an ephemeral znode of the backup.
type DroppedEphemeral struct {
	Path    string `json:"path"`
	Session string `json:"session"`
}

// Space is the room that the restore needs on the disk, in bytes.
type Space struct {
	Need int64 `json:"need"`
	Free int64 `json:"free"`
}

// Check is a successful verification.
type Check struct {
	Name   string `json:"name"`
	Result string `json:"result"`
}

// Took is the duration of a stage.
type Took struct {
	Stage Stage `json:"stage"`
	MS    int64 `json:"ms"`
}

func (r *Report) notice(format string, a ...any) {
	r.Notices = append(r.Notices, fmt.Sprintf(format, a...))
}

func (r *Report) check(name, format string, a ...any) {
	r.Checks = append(r.Checks, Check{name, fmt.Sprintf(format, a...)})
}

func (b *Backup) of(m *snapshot.Meta, s *snapshot.Summary) {
	b.Identity = Identity{Cluster: m.ClusterID.String(), Lineage: m.LineageID.String(), Generation: m.Generation}
	b.BackupID, b.Writer, b.TimeMS, b.Znodes = m.BackupID.String(), m.Writer, m.TimeMaxMS, m.Znodes
	b.Format = fmt.Sprintf("%d.%d", m.Major, m.Minor)
	b.Sessions, b.Ephemerals, b.Bytes = s.Sessions, s.Ephemerals, s.FileBytes
}

func identityOf(id datadir.Identity) Identity {
	return Identity{id.Cluster.String(), id.Lineage.String(), id.Generation, datadir.NodeString(id.Node)}
}

// reportName is the report's file name in the data folder.
func reportName(id string) string { return "restore-" + id + ".json" }

// write writes the report into a folder: aside, fsynced, renamed.
func (r *Report) write(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, reportName(r.ID))
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		if err = os.Rename(name+".new", name); err == nil {
			err = snapshot.SyncDir(dir)
		}
	}
	if err != nil {
		_ = os.Remove(name + ".new")
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// stopwatch adds up the times of the stages.
type stopwatch struct {
	stage Stage
	since time.Time
	took  []Took
}

func (w *stopwatch) enter(s Stage) {
	if s == w.stage {
		return
	}
	now := time.Now()
	if w.stage != "" {
		i := slices.IndexFunc(w.took, func(t Took) bool { return t.Stage == w.stage })
		if i < 0 {
			i, w.took = len(w.took), append(w.took, Took{Stage: w.stage})
		}
		w.took[i].MS += now.Sub(w.since).Milliseconds()
	}
	w.stage, w.since = s, now
}
