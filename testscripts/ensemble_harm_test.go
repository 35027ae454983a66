package testscripts

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"coord/snapshot"
	"coord/tree"
	"coord/tree/znode"
)

var ensembleLong = flag.Duration("ensemble.long", 0, "how long TestEnsembleLong makes faults of all kinds")

// harms are the faults that a node may suffer while clients write. When a harm returns,
// the node is well again, or a new one has taken its place. The ensemble continues
// meanwhile.
var harms = map[string]func(x *traffic, n *node){
	"killed":            killed,
	"all killed":        allKilled,
	"paused":            paused,
	"slow disk":         slowDisk,
	"failing disk":      failingDisk,
	"full disk":         fullDisk,
	"damaged log":       damagedLog,
	"damaged snapshots": damagedSnapshots,
	"older log":         olderLog,
	"diverged":          diverged,
	"quorum lost":       quorumLost,
}

func killed(_ *traffic, n *node) {
	n.kill()
	n.others()[0].takes(20)
	n.start()
	n.await()
}

func allKilled(_ *traffic, n *node) {
	for _, n := range n.c.nodes {
		n.signal(syscall.SIGKILL)
	}
	for _, n := range n.c.nodes {
		n.wait()
		n.start()
	}
	for _, n := range n.c.nodes {
		n.await()
	}
}

func paused(_ *traffic, n *node) {
	n.stop()
	n.others()[0].takes(20)
	n.signal(syscall.SIGCONT)
	n.takes(20)
}

// again restarts a node, with something before its command line.
func (n *node) again(under ...string) {
	n.kill()
	n.c.eventually(n.name+" is gone", func() bool { // the child of strace may outlive it
		l, err := net.Listen("tcp", n.host+":2181")
		return err == nil && l.Close() == nil
	})
	n.under = under
	n.start()
	n.await()
}

// slowDisk: each fsync of one node is slow, and the node reports that. The others do not
// wait for a follower; a leader applies only what is on its own disk, and so its writes are
// slow.
func slowDisk(x *traffic, n *node) {
	const delay, writes = 150 * time.Millisecond, 20
	led := x.c.leader() == n
	n.again("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
		"-e", "inject=fsync,fdatasync:delay_enter="+strconv.FormatInt(delay.Microseconds(), 10))
	if led { // no node hands the leadership to a node that lags
		x.end()
		n.lead()
		x.begin()
	}
	n.others()[0].takes(writes)
	if !led {
		x.c.eventually(fmt.Sprintf("%d writes that have not waited for the slow disk of %s", writes, n.name), func() bool {
			if x.c.leader() == n { // by an election: a pause of the machine causes one
				n.others()[0].lead()
			}
			return n.others()[0].takes(writes) < delay*writes*4/5
		})
	}
	n.takes(5)
	out, _, _ := run(x.t, "status", "--server", n.host+":2181")
	p99 := regexp.MustCompile(`fsync .* p99 (\d+)`).FindStringSubmatch(out)
	if p99 == nil {
		x.t.Fatalf("coord status tells no p99 of fsync: %s", out)
	}
	if ms, _ := strconv.Atoi(p99[1]); ms < int(delay.Milliseconds()) {
		x.t.Errorf("coord status calls a p99 of %d ms what took %v each", ms, delay)
	}
	n.again()
}

// failingDisk: an fsync fails, and the process ends with 20.
func failingDisk(x *traffic, n *node) {
	n.again("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
		"-e", "inject=fsync,fdatasync:error=EIO:when=40+")
	n.ends(x.t, 20, "input/output error")
	n.others()[0].takes(20)
	n.under = nil
	n.start()
	n.await()
}

// ends waits for the end of a node, and checks its exit code and its log.
func (n *node) ends(t *testing.T, code int, says string) {
	t.Helper()
	if got := n.wait(); got != code || !strings.Contains(n.stderr(), says) {
		t.Fatalf("%s ended with %d, want %d and %q: %s", n.name, got, code, says, n.stderr())
	}
}

// fullDisk: a node's disk is completely full. The node ends and says why; the others
// continue, and it comes back when there is room.
func fullDisk(x *traffic, n *node) {
	filler := filepath.Join(filepath.Dir(n.dir), "filler")
	began := time.Now()
	for n.lives() && time.Since(began) < hung {
		fill(x.t, filler)
		pause()
	}
	n.ends(x.t, 20, "no space left on device")
	n.others()[0].takes(20)
	began = time.Now()
	n.start() // with the space that its ballast file has freed
	for n.lives() && time.Since(began) < hung {
		fill(x.t, filler)
		pause()
	}
	if code := n.wait(); code != 20 && code != 11 {
		x.t.Fatalf("%s, started on a full disk, ended with %d: %s", n.name, code, n.stderr())
	}
	n.others()[0].takes(20)
	if err := os.Remove(filler); err != nil {
		x.t.Fatal(err)
	}
	n.start()
	n.await()
}

// damagedLog: bits of its log flip while a node runs. The node continues unharmed, and
// finds the damage at its next start.
func damagedLog(x *traffic, n *node) {
	old := n.id()
	for _, file := range n.segments() {
		flipRecords(x.t, file, 0.3)
	}
	n.takes(20)
	n.again()
	n.replaced(x.t, old)
}

// replaced waits until a new node has taken the place of one whose data was damaged.
func (n *node) replaced(t *testing.T, old string) {
	t.Helper()
	n.c.whole(old)
	aside, _ := filepath.Glob(filepath.Join(n.dir, "damaged-*"))
	if len(aside) == 0 {
		t.Errorf("the damaged data of %s is not kept: %s", n.name, n.stderr())
	}
	for _, dir := range aside { // the disk is small
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}
}

// damagedSnapshots: bits of all its snapshots flip while a node runs. Unless the node
// has made a new snapshot by then, it is replaced by a new node at its next start.
func damagedSnapshots(x *traffic, n *node) {
	old := n.id()
	files := n.snapshots()
	for _, file := range files {
		flip(x.t, file, 0.5)
	}
	n.takes(20)
	n.kill()
	later := slices.DeleteFunc(n.snapshots(), func(file string) bool { return slices.Contains(files, file) })
	n.start()
	n.await()
	if len(later) == 0 {
		n.replaced(x.t, old)
	}
}

func (n *node) snapshots() []string {
	n.c.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "snapshot", "*.coord"))
	if err != nil || len(files) == 0 {
		n.c.t.Fatalf("no snapshots: %v", err)
	}
	return files
}

// olderLog: the newest records of a node's log are missing, cut at a record's end, and with
// them what the node has acknowledged. The leader knows that.
func olderLog(x *traffic, n *node) {
	if x.c.leader() == n {
		n = n.others()[0]
	}
	old := n.id()
	n.kill()
	files := n.segments()
	slices.Sort(files)
	last := files[len(files)-1]
	at, _ := frames(x.t, last)
	if len(at) < 4 { // the segment was just begun
		if err := os.Remove(last); err != nil {
			x.t.Fatal(err)
		}
		last = files[len(files)-2]
		at, _ = frames(x.t, last)
	}
	if err := os.Truncate(last, at[len(at)/2]); err != nil {
		x.t.Fatal(err)
	}
	n.start()
	n.await()
	n.replaced(x.t, old)
}

// frames returns the offsets at which the records of a segment begin, and the end of the
// last one; free space may follow it.
func frames(t testing.TB, file string) (at []int64, end int64) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for rest := b; len(rest) > 0 && rest[0] != 0; {
		at = append(at, end)
		n, k := binary.Uvarint(rest)
		if k <= 0 || n > uint64(len(rest)-k) {
			return at[:len(at)-1], end // the last record is being written, or was when the process was killed
		}
		rest = rest[k+int(n):]
		end = int64(len(b) - len(rest))
	}
	return at, end
}

// diverged: the state of a node is not what its log yields, and all checksums are right.
// The node stops as soon as digests are compared, and never serves that state again.
func diverged(x *traffic, n *node) {
	old := n.id()
	n.kill()
	store, err := snapshot.OpenStore(filepath.Join(n.dir, "snapshot"), snapshot.Pace{})
	if err != nil {
		x.t.Fatal(err)
	}
	state, info, _, err := store.Load()
	if err != nil {
		x.t.Fatal(err)
	}
	change := tree.Txn{IDs: []znode.Identity{znode.Super}, Op: tree.Op{Kind: tree.KindCreate, Path: "/astray", Data: []byte("x"), ACL: znode.OpenACL}}
	if r, _ := state.Apply(info.Meta.RaftTerm, &change); r.Code != znode.OK {
		x.t.Fatal(r.Code)
	}
	for _, file := range n.snapshots() {
		if err := os.Remove(file); err != nil {
			x.t.Fatal(err)
		}
	}
	if _, err := store.Save(context.Background(), info.Meta, state.Freeze(), snapshot.Options{}); err != nil {
		x.t.Fatal(err)
	}
	n.start()
	n.ends(x.t, 12, "the state of this node differs from that of the others")
	n.others()[0].takes(20)
	n.start()
	n.await()
	if got := n.ask("EXISTS /astray"); !strings.HasPrefix(got, "ERR NOTFOUND") {
		x.t.Errorf("%s serves what it must not: %s", n.name, got)
	}
	n.replaced(x.t, old)
}

// quorumLost: all nodes but one are lost for good. That node goes on alone and the ensemble
// grows again, following docs/recovery.md word by word. The node has everything that was
// confirmed, because at the end there were only two nodes, although its log does not say that
// the newest entries were committed.
func quorumLost(x *traffic, n *node) {
	first, last := n.others()[0], n.others()[1]
	first.kill()
	n.takes(20)
	x.end()
	const writes = 20
	last.takes(writes)
	n.kill()
	last.kill()
	for _, args := range [][]string{{"recover", "--dry-run", "--data-dir", n.dir}, {"recover", "-y", "--data-dir", n.dir}} {
		if out, stderr, code := run(x.t, args...); code != 0 {
			x.t.Fatalf("coord %v: %d: %s%s", args, code, out, stderr)
		}
	}
	n.start()
	n.await()
	if got := value(x.t, n.ask("GET /probe")); got != writes-1 {
		x.t.Errorf("%s holds %d, and %d was confirmed", n.name, got, writes-1)
	}
	for _, p := range slices.Concat(x.mu.idle, x.mu.used) {
		p.check(x.t, n)
	}
	for i, o := range n.others() {
		if err := os.Rename(o.dir, o.dir+".lost"); err != nil {
			x.t.Fatal(err)
		}
		if i == 0 {
			o.flags = []string{"--join", n.host}
		}
		o.start() // the other one with the same flags as before
	}
	for _, o := range x.c.nodes { // the disks are small: remove what was lost, and what the recovery has kept
		o.await()
		kept, _ := filepath.Glob(o.dir + ".*")
		for _, dir := range kept {
			if err := os.RemoveAll(dir); err != nil {
				x.t.Fatal(err)
			}
		}
	}
	x.c.whole("")
	x.begin()
}

// TestEnsembleHarm: each kind of harm, under load, on a follower and then on the leader.
func TestEnsembleHarm(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	for name, where := range map[string][]func(c *cluster) *node{
		"slow disk":         {(*cluster).follower, (*cluster).leader},
		"full disk":         {(*cluster).follower, (*cluster).leader},
		"damaged log":       {(*cluster).follower},
		"damaged snapshots": {(*cluster).follower},
		"older log":         {(*cluster).follower},
		"diverged":          {(*cluster).follower},
		"quorum lost":       {(*cluster).follower},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var flags []string
			if name == "older log" { // a new leader may not know what the log lacks: see TestEnsembleOlderCopy
				flags = patience
			}
			x := underTraffic(t, flags...)
			for i, at := range where {
				if i > 0 {
					x.begin()
				}
				at(x.c).takes(50)
				harms[name](x, at(x.c))
				x.c.leader().takes(20)
				x.check()
			}
		})
	}
}

// TestEnsembleLong causes faults of all kinds on random nodes for the given time: harms,
// and partitions if the test can have a network of its own.
func TestEnsembleLong(t *testing.T) {
	if *ensembleLong == 0 {
		t.Skip("SKIPPED: -ensemble.long says for how long it makes faults")
	}
	need(t, "strace", "ip", "unshare")
	owns, mayOwn := ownsNetwork(t)
	if mayOwn {
		runInNetwork(t, "-ensemble.long", ensembleLong.String(), "-seed", strconv.FormatUint(*seed, 10),
			"-test.timeout", (*ensembleLong + 5*time.Minute).String())
		return
	}
	random := newRand(t)
	names, by := longHarms(t, owns)
	x := underTraffic(t, "--snapshot-every", "3000", "--sync-limit", "3s")
	for began := time.Now(); time.Since(began) < *ensembleLong; x.begin() {
		name, n := names[random.IntN(len(names))], x.c.nodes[random.IntN(3)]
		role := "follower"
		if x.c.leader() == n {
			role = "leader"
		}
		t.Logf("%v: %s, %s: %s", time.Since(began).Round(time.Second), n.name, role, name)
		n.takes(50)
		by[name](x, n)
		x.c.leader().takes(20)
		x.check()
	}
	t.Logf("%d writes were confirmed", x.confirmed)
}
