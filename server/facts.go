package server

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"coord/server/frontend"
	"coord/snapshot/datadir"
	"coord/tree"
)

// slowSync is the duration from which ZooKeeper calls an fsync slow (fsync.warningthresholdms).
const slowSync = time.Second

// measured holds this node's measurements for mntr. All but slowSyncs and syncs count since the
// start or the last srst.
type measured struct {
	fsync, snapshot             frontend.Summary // µs
	snapLoad, txnsLoad, wholeUp frontend.Summary // µs, of the start
	txnsLoaded                  frontend.Summary
	snapshots                   atomic.Int64
	slowSyncs                   atomic.Int64
	syncs                       frontend.Latencies
}

// synced counts an fsync that a batch waited for.
func (m *measured) synced(took time.Duration) {
	m.fsync.AddTime(took)
	m.syncs.AddTime(took)
	if took > slowSync {
		m.slowSyncs.Add(1)
	}
}

// loaded notes that all data on the disk is in the tree again.
func (m *measured) loaded(start time.Time, txns uint64) {
	whole := time.Since(start)
	m.wholeUp.AddTime(whole)
	m.txnsLoad.Add(1, max(whole.Microseconds()-m.snapLoad.Sum(), 0))
	m.txnsLoaded.Add(1, int64(txns))
}

// ResetStats resets what srst resets: frontend.Node.
func (n *node) ResetStats() {
	m := &n.measured
	for _, s := range []*frontend.Summary{&m.fsync, &m.snapshot, &m.snapLoad, &m.txnsLoad, &m.wholeUp, &m.txnsLoaded} {
		s.Reset()
	}
	m.snapshots.Store(0)
}

// Facts are the server's lines of mntr: frontend.Node.
func (n *node) Facts() []frontend.Fact {
	st, stats, w, m := n.replica.Status(), n.replica.Stats(), n.wal.Stats(), &n.measured
	u := func(x uint64) string { return strconv.FormatUint(x, 10) }
	i := func(x int64) string { return strconv.FormatInt(x, 10) }
	ms := func(d time.Duration) string { return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64) }
	facts := []frontend.Fact{
		{Key: "uptime", Value: i(time.Since(n.started).Milliseconds())},
		{Key: "open_file_descriptor_count", Value: strconv.Itoa(openFiles())},
		{Key: "max_file_descriptor_count", Value: u(maxFiles())},
		{Key: "fsync_threshold_exceed_count", Value: i(m.slowSyncs.Load())},
		{Key: "snap_count", Value: i(m.snapshots.Load())},
		{Key: "coord_cluster", Value: n.identity.Cluster.String()},
		{Key: "coord_node", Value: datadir.NodeString(n.identity.Node)},
		{Key: "coord_term", Value: u(st.Term)},
		{Key: "coord_txns", Value: u(stats.Txns)},
		{Key: "coord_batches", Value: u(stats.Batches)},
		{Key: "coord_fsyncs", Value: u(w.Syncs)},
		{Key: "coord_fsync_last_ms", Value: ms(w.LastSync)},
		{Key: "coord_fsync_p99_ms", Value: ms(time.Duration(m.syncs.Percentile(990)) * time.Microsecond)},
		{Key: "coord_fsync_max_ms", Value: ms(w.MaxSync)},
		{Key: "coord_log_bytes", Value: i(n.wal.Size())},
		{Key: "coord_log_segments", Value: strconv.Itoa(w.Segments)},
		{Key: "coord_last_snapshot", Value: stats.LastSnapshot.String()},
		{Key: "coord_disk_full", Value: strconv.FormatBool(stats.Full)},
	}
	var digest, zxid string
	n.replica.View(func(t *tree.Tree, _ *watchTable) { digest, zxid = t.Digest().String(), t.Counters().Zxid.String() })
	facts = append(facts, frontend.Fact{Key: "coord_zxid", Value: zxid}, frontend.Fact{Key: "coord_digest", Value: digest})
	if n.ens != nil {
		facts = append(facts, n.ens.steward.facts(&st)...)
	}
	const asMS = 1000
	for _, s := range []struct {
		name  string
		of    *frontend.Summary
		parts int64
	}{
		{"fsynctime", &m.fsync, asMS}, {"snapshottime", &m.snapshot, asMS}, {"dbinittime", &m.wholeUp, asMS},
		{"startup_snap_load_time", &m.snapLoad, asMS}, {"startup_txns_load_time", &m.txnsLoad, asMS},
		{"startup_txns_loaded", &m.txnsLoaded, 1},
	} {
		facts = append(facts, s.of.Facts(s.name, s.parts)...)
	}
	return facts
}

// Conf is the output of conf: those of ZooKeeper's keys that are settings here: frontend.Node.
func (n *node) Conf() []frontend.Fact {
	snapshots, log := n.Sizes()
	folder := func(path string) string {
		if abs, err := filepath.Abs(path); err == nil {
			return abs
		}
		return path
	}
	i := func(x int64) string { return strconv.FormatInt(x, 10) }
	ms := func(d time.Duration) string { return i(d.Milliseconds()) }
	least, most := n.cfg.sessionBounds()
	return []frontend.Fact{
		{Key: "clientPort", Value: strconv.Itoa(n.port)},
		{Key: "secureClientPort", Value: "-1"}, // clients are not served over TLS
		{Key: "dataDir", Value: folder(n.dir.Snapshots())},
		{Key: "dataDirSize", Value: i(snapshots)},
		{Key: "dataLogDir", Value: folder(n.dir.WAL())},
		{Key: "dataLogSize", Value: i(log)},
		{Key: "tickTime", Value: ms(n.cfg.TickTime)},
		{Key: "maxClientCnxns", Value: strconv.Itoa(n.cfg.MaxClientConns)},
		{Key: "minSessionTimeout", Value: ms(least)},
		{Key: "maxSessionTimeout", Value: ms(most)},
		{Key: "clientPortListenBacklog", Value: "-1"}, // the system's default
		{Key: "serverId", Value: "0"},                 // a node that is alone has no number
	}
}

// Sizes are the bytes of the snapshots and of the log: frontend.Node.
func (n *node) Sizes() (snapshots, log int64) {
	return folderSize(n.dir.Snapshots()), folderSize(n.dir.WAL())
}

// folderSize adds up the sizes of the files. Files that disappear meanwhile do not count.
func folderSize(path string) (sum int64) {
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// Environment is what envi shows after the version: frontend.Node. There is no Java, so there are
// no lines about it. What cannot be found out is left out. The memory is the Go runtime's: free of
// what it holds, the most it may take, and what it holds.
func (n *node) Environment() []frontend.Fact {
	var facts []frontend.Fact
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, frontend.Fact{Key: key, Value: strings.ReplaceAll(value, "\n", " ")})
		}
	}
	host, _ := os.Hostname()
	add("host.name", host)
	add("go.version", runtime.Version())
	add("os.name", strings.ToUpper(runtime.GOOS[:1])+runtime.GOOS[1:])
	add("os.arch", runtime.GOARCH)
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	add("os.version", strings.TrimSpace(string(release)))
	if u, err := user.Current(); err == nil {
		add("user.name", u.Username)
		add("user.home", u.HomeDir)
	}
	wd, _ := os.Getwd()
	add("user.dir", wd)
	free, most, total := memory()
	mb := func(x uint64) string { return strconv.FormatUint(x>>20, 10) + "MB" }
	add("os.memory.free", mb(free))
	if most > 0 {
		add("os.memory.max", mb(most))
	}
	add("os.memory.total", mb(total))
	return facts
}

// memory returns the runtime's figures in bytes: what is free of the memory it holds, the most it
// may hold (its limit or the machine's memory; 0 if unknown), and what it holds.
func memory() (free, most, total uint64) {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/total:bytes"},
	}
	metrics.Read(s)
	free, total = s[0].Value.Uint64()+s[1].Value.Uint64(), s[3].Value.Uint64()-s[2].Value.Uint64()
	most = hostMemory(memlimit.FromSystem)
	if limit := debug.SetMemoryLimit(-1); most == 0 && limit < 1<<62 || uint64(limit) < most {
		most = uint64(limit)
	}
	return free, most, total
}

func openFiles() int {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return -1
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return len(names) - 1 // not counting d itself
}

func maxFiles() uint64 {
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) != nil {
		return 0
	}
	return lim.Cur
}
