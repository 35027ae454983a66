package restore

import (
	"fmt"
	"path/filepath"

	"coord/snapshot/zkimport"
	"coord/tree"
	"coord/tree/znode"
)

// ZooKeeper describes the imported folder.
type ZooKeeper struct {
	Dir          string   `json:"dir"`
	LogDir       string   `json:"log_dir,omitempty"`
	Snapshot     string   `json:"snapshot,omitempty"`
	SnapshotZxid string   `json:"snapshot_zxid,omitempty"`
	Logs         []string `json:"logs"`
	Txns         int      `json:"txns"` // read after the snapshot
	Member       bool     `json:"member,omitempty"`
	TimeMS       int64    `json:"time_ms"` // of the last change
	Znodes       int      `json:"znodes"`
	Sessions     int      `json:"sessions"`
	Ephemerals   int      `json:"ephemerals"`
	Digest       string   `json:"digest"` // the result of the comparison with ZooKeeper's own
}

// readZooKeeper is steps 3 to 5 of an import.
func (r *run) readZooKeeper() (*tree.Tree, error) {
	dir, err := filepath.Abs(r.o.ZooKeeper)
	if err != nil {
		return nil, err
	}
	logDir := r.o.ZooKeeperLog
	if logDir != "" {
		if logDir, err = filepath.Abs(logDir); err != nil {
			return nil, err
		}
	}
	o := zkimport.Options{Dir: dir, LogDir: logDir, Progress: func(done, total int64) error {
		return r.tell(Progress{Stage: Read, Done: done, Total: total})
	}}
	if err := zkimport.Idle(o); err != nil {
		return nil, err
	}
	z, err := zkimport.Read(r.ctx, o)
	if err != nil {
		return nil, err
	}
	r.imported = z
	counts := z.Tree.Counts()
	rep := &r.report
	rep.ZooKeeper = &ZooKeeper{
		Dir: dir, LogDir: logDir, Snapshot: z.Snapshot, SnapshotZxid: z.SnapshotZxid.String(), Logs: z.Logs, Txns: z.Txns, Member: z.Member,
		TimeMS: z.TimeMS, Znodes: counts.Znodes, Sessions: counts.Sessions, Ephemerals: counts.Ephemerals, Digest: z.Digest,
	}
	rep.Notices = append(rep.Notices, z.Notices...)
	if z.Member {
		rep.notice("this is the folder of one of several servers: the others may have newer writes. Its epoch %d becomes at least %d", z.Epoch, z.Epoch+EpochAdvance+1)
	}
	rep.check("snapshot", "%s: checksum and records are correct", orNone(z.Snapshot))
	rep.check("log", "%d txns in %d files, none missing; the snapshot already had %d of their changes", z.Txns, len(z.Logs), z.Found)
	rep.check("digest", "%s", z.Digest)
	rep.Space, err = r.target.roomFor(counts)
	return z.Tree, err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// settle completes an import: it empties what names the old servers, and gives the report the
// session ids that ZooKeeper had.
func (r *run) settle() error {
	rep, z := &r.report, r.imported
	if config, _ := r.state.Get(znode.ConfigPath, nil, 0); config.Data != "" {
		got, _ := r.state.Apply(startTerm, &tree.Txn{TimeMS: r.state.Counters().TimeMS, IDs: []znode.Identity{znode.Super},
			Op: tree.Op{Kind: tree.KindSetData, Path: znode.ConfigPath, Data: []byte{}, Version: tree.AnyVersion}})
		if got.Code != znode.OK {
			return fmt.Errorf("empty %s: %w", znode.ConfigPath, got.Code)
		}
		rep.notice("%s listed the servers of the old ensemble and is now empty", znode.ConfigPath)
	}
	names := map[string]string{}
	for is, was := range z.Renamed {
		names[znode.Hex(uint64(is))] = znode.Hex(uint64(was))
	}
	for i := range rep.Dropped.Sessions {
		if s := &rep.Dropped.Sessions[i]; names[s.ID] != "" {
			s.ID = names[s.ID]
		}
	}
	for i := range rep.Dropped.Ephemerals {
		if e := &rep.Dropped.Ephemerals[i]; names[e.Session] != "" {
			e.Session = names[e.Session]
		}
	}
	return nil
}
