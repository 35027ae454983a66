package testscripts

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"coord/server/zkproto"
	"coord/snapshot/zkimport"
	"coord/testscripts/ports"
	"coord/testscripts/words"
	"coord/testscripts/zookeeper"
	"coord/tree"
	"coord/tree/znode"
)

const zooGolden = "../snapshot/zkimport/testdata/zookeeper-3.8.0"

var importTime = flag.Duration("import.time", 2*time.Second, "how long TestImport's clients write")

func needZooKeeper(t testing.TB) {
	t.Helper()
	zookeeper.Classpath(t)
}

// zooKeeper is a real ZooKeeper server.
type zooKeeper struct {
	t     testing.TB
	addr  string
	dir   string // dataDir
	p     *exec.Cmd
	log   strings.Builder // complete once the process has ended
	ended chan struct{}
	// version is the version that the server reports, such as 3, 8, 0. It is known
	// once the server serves.
	version [3]int
}

// since says whether the server has this version or a newer one. What it writes,
// and what it accepts from clients, depends on that.
func (z *zooKeeper) since(version ...int) bool { return slices.Compare(z.version[:], version) >= 0 }

// digests is what an import reports about the digests that the server records with these
// properties.
func (z *zooKeeper) digests(props ...string) string {
	if !z.since(3, 6, 0) || slices.Contains(props, "-Dzookeeper.digest.enabled=false") {
		return "recorded none"
	}
	return "equal"
}

// startZooKeeper starts a server on dir/data and waits for it. props are Java
// properties, except dataLogDir.
func startZooKeeper(t testing.TB, dir string, props ...string) *zooKeeper {
	t.Helper()
	logDir := ""
	props = slices.DeleteFunc(slices.Clone(props), func(p string) bool {
		if strings.HasPrefix(p, "dataLogDir=") {
			logDir = p + "\n"
			must(t, os.MkdirAll(strings.TrimPrefix(p, "dataLogDir="), 0o700)) // older ones do not create it
			return true
		}
		return false
	})
	z := launchZooKeeper(t, dir, ports.Free(t), "ZooKeeperServerMain", logDir, props...)
	z.await()
	return z
}

// launchZooKeeper is startZooKeeper without the waiting, for a server of any class.
func launchZooKeeper(t testing.TB, dir, port, class, more string, props ...string) *zooKeeper {
	t.Helper()
	z := &zooKeeper{t: t, addr: "127.0.0.1:" + port, dir: filepath.Join(dir, "data"), ended: make(chan struct{})}
	must(t, os.MkdirAll(z.dir, 0o700))
	cfg := filepath.Join(dir, "zoo.cfg")
	text := "dataDir=" + z.dir + "\nclientPort=" + port + "\nclientPortAddress=127.0.0.1\n" +
		"maxSessionTimeout=120000\nadmin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n" + more
	must(t, os.WriteFile(cfg, []byte(text), 0o600))
	args := append([]string{"-Xmx128m"}, props...)
	z.p = exec.Command("java", append(args, "-cp", zookeeper.Classpath(t), "org.apache.zookeeper.server."+class, cfg)...)
	z.p.Dir, z.p.Stdout, z.p.Stderr = dir, &z.log, &z.log
	z.p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, z.p.Start())
	go func() {
		defer close(z.ended)
		_ = z.p.Wait() // killed, or its output says why it ended
	}()
	t.Cleanup(z.kill)
	return z
}

// await waits until the server serves, and returns its mode: standalone, leader, follower.
func (z *zooKeeper) await() (mode string) {
	z.t.Helper()
	for deadline := time.Now().Add(hung); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-z.ended:
			z.t.Fatalf("ZooKeeper ended: %s", z.log.String())
		default:
		}
		if answer, err := words.Ask(z.addr, "srvr", 5*time.Second); err == nil && strings.HasPrefix(answer, "Zookeeper version: ") {
			if _, err := fmt.Sscanf(answer, "Zookeeper version: %d.%d.%d", &z.version[0], &z.version[1], &z.version[2]); err != nil {
				z.t.Fatalf("%q: %v", answer, err)
			}
			_, mode, _ = strings.Cut(answer, "Mode: ")
			mode, _, _ = strings.Cut(mode, "\n")
			return mode
		}
	}
	z.t.Fatalf("ZooKeeper does not serve after %v", hung)
	return ""
}

// kill ends the server like a crash.
func (z *zooKeeper) kill() {
	_ = z.p.Process.Kill()
	<-z.ended
}

// session opens a session, which ends with the test unless it is closed. Its timeout
// is so long that it does not expire during a test, even when its server is gone.
func (z *zooKeeper) session() *zk.Conn {
	z.t.Helper()
	c, events, err := zk.Connect([]string{z.addr}, 2*time.Minute, zk.WithLogger(quiet{}))
	if err != nil {
		z.t.Fatal(err)
	}
	z.t.Cleanup(c.Close)
	must(z.t, c.AddAuth("digest", []byte("ann:secret")))
	go func() {
		for range events { // otherwise the client would block
			continue
		}
	}()
	return c
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seen is a znode as a client of ZooKeeper has seen it.
type seen struct {
	Path string
	Data []byte `json:",omitempty"`
	Null bool   `json:",omitempty"`
	ACL  string
	Stat zk.Stat
}

// look reads all znodes as the superuser, from whom nothing is hidden.
func (z *zooKeeper) look() []seen {
	z.t.Helper()
	c := z.session()
	must(z.t, c.AddAuth("digest", []byte("super:admin")))
	var all []seen
	var walk func(path string)
	walk = func(path string) {
		data, stat, err := c.Get(path)
		if errors.Is(err, zk.ErrNoNode) {
			return
		}
		must(z.t, err)
		acl, _, err := c.GetACL(path)
		must(z.t, err)
		s := seen{Path: path, Data: data, Null: data == nil, Stat: *stat}
		if owner := uint64(stat.EphemeralOwner); z.version == [3]int{3, 5, 3} && owner>>56 == 0x80 && owner<<8 != 0 { // a TTL; later versions encode it differently
			s.Stat.EphemeralOwner = znode.TTLOwner(int64(owner << 8 >> 8))
		}
		for i, e := range acl {
			s.ACL += strings.Repeat(",", min(i, 1)) + znode.ACLEntry{Perms: znode.Perms(e.Perms), Identity: znode.Identity{Scheme: e.Scheme, ID: e.ID}}.String()
		}
		all = append(all, s)
		children, _, err := c.Children(path)
		must(z.t, err)
		slices.Sort(children)
		for _, name := range children {
			walk(znode.Join(path, name))
		}
	}
	walk("/")
	c.Close()
	if !z.since(3, 5, 0) {
		all = upgraded(all)
	}
	return all
}

// upgraded adds to a tree of 3.4 the znode that later versions have, and so an import has too.
func upgraded(all []seen) []seen {
	system := slices.IndexFunc(all, func(s seen) bool { return s.Path == znode.SystemPath })
	all[system].Stat.NumChildren++
	all[system].Stat.Cversion-- // clients see twice the creates minus the children, and system znodes do not count as creates
	return append(all, seen{Path: znode.ConfigPath, ACL: znode.ReadACL.String(), Stat: zk.Stat{Aversion: -1}})
}

// imported returns the znodes of an import in the form of look.
func imported(z *zkimport.Import) []seen {
	tr := z.Tree
	var all []seen
	tr.Freeze().Nodes("/", func(n *tree.Node) bool {
		v, _ := tr.Get(n.Path, nil, 0)
		s := v.Stat
		if theirs, ok := z.Renamed[s.EphemeralOwner]; ok {
			s.EphemeralOwner = theirs
		}
		all = append(all, seen{n.Path, slices.Clone(n.Data), v.Null, v.ACL.String(), zk.Stat{
			Czxid: int64(s.Czxid), Mzxid: int64(s.Mzxid), Pzxid: int64(s.Pzxid), Ctime: s.CtimeMS, Mtime: s.MtimeMS, Version: s.Version,
			Cversion: s.Cversion, Aversion: s.Aversion, EphemeralOwner: s.EphemeralOwner, DataLength: s.DataLength, NumChildren: s.NumChildren,
		}})
		return true
	})
	slices.SortFunc(all, func(a, b seen) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// compareSeen reports where an import differs from what a client saw.
func compareSeen(t testing.TB, got, want []seen) {
	t.Helper()
	want = slices.Clone(want)
	slices.SortFunc(want, func(a, b seen) int { return strings.Compare(a.Path, b.Path) })
	paths := func(all []seen) map[string]seen {
		m := map[string]seen{}
		for _, s := range all {
			if len(s.Data) == 0 {
				s.Data = nil
			}
			m[s.Path] = s
		}
		return m
	}
	g, w := paths(got), paths(want)
	wrong := 0
	for _, path := range slices.Sorted(maps.Keys(w)) {
		if !reflect.DeepEqual(g[path], w[path]) {
			t.Errorf("%s is\n%+v, ZooKeeper's clients saw\n%+v", path, g[path], w[path])
			if wrong++; wrong > 5 {
				t.FailNow()
			}
		}
	}
	for path := range g {
		if _, ok := w[path]; !ok {
			t.Errorf("%s is too many: %+v", path, g[path])
		}
	}
}

func readZooKeeper(t testing.TB, dir, logDir string) *zkimport.Import {
	t.Helper()
	z, err := zkimport.Read(context.Background(), zkimport.Options{Dir: dir, LogDir: logDir})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

var (
	annOnly = zk.DigestACL(zk.PermAll, "ann", "secret")
	opened  = zk.WorldACL(zk.PermAll)
)

// furnish creates something of every kind that the version has. owner's session stays open.
func (z *zooKeeper) furnish(owner *zk.Conn) {
	t, c, brief := z.t, z.session(), z.session()
	t.Helper()
	create := func(path string, data string, flags int32, acl []zk.ACL) string {
		t.Helper()
		got, err := c.Create(path, []byte(data), flags, acl)
		must(t, err)
		return got
	}
	set := func(path, data string) {
		t.Helper()
		_, err := c.Set(path, []byte(data), -1)
		must(t, err)
	}
	create("/app", "one", 0, opened)
	set("/app", "two")
	set("/app", "")
	create("/app/caf\u00e9", "accents", 0, opened)
	_, err := c.Create("/app/null", nil, 0, opened)
	must(t, err)
	create("/app/bytes", "\x00\xff\n", 0, opened)
	create("/queue", "", 0, opened)
	for range 5 {
		create("/queue/job-", "j", zk.FlagSequence, opened)
	}
	must(t, c.Delete("/queue/job-0000000001", -1))
	must(t, c.Delete("/queue/job-0000000004", -1))
	create("/queue/job-", "j", zk.FlagSequence, opened)

	create("/acl", "", 0, opened)
	create("/acl/digest", "secret", 0, annOnly)
	net := "10.0.0.0/8"
	if !z.since(3, 5, 0) {
		net = "10.0.0.1"
	}
	create("/acl/ip", "x", 0, []zk.ACL{{Perms: zk.PermAll, Scheme: "ip", ID: "127.0.0.1"}, {Perms: zk.PermRead, Scheme: "ip", ID: net}})
	create("/acl/read", "x", 0, append(zk.WorldACL(zk.PermRead), annOnly...))
	create("/acl/auth", "x", 0, zk.AuthACL(zk.PermRead|zk.PermAdmin))
	create("/acl/changed", "x", 0, opened)
	for _, acl := range [][]zk.ACL{annOnly, zk.WorldACL(zk.PermRead | zk.PermWrite)} {
		create("/acl/changed/now", "x", 0, acl)
		must(t, c.Delete("/acl/changed/now", -1))
	}
	_, err = c.SetACL("/acl/changed", append(zk.WorldACL(zk.PermRead), annOnly...), -1)
	must(t, err)

	_, err = c.Multi(&zk.CreateRequest{Path: "/multi", Data: []byte("m"), Acl: opened}, &zk.CreateRequest{Path: "/multi/a", Acl: annOnly},
		&zk.CreateRequest{Path: "/multi/b", Acl: opened}, &zk.SetDataRequest{Path: "/multi/a", Data: []byte("set"), Version: 0},
		&zk.CheckVersionRequest{Path: "/multi", Version: 0}, &zk.DeleteRequest{Path: "/multi/b", Version: 0})
	must(t, err)
	if _, err = c.Multi(&zk.CreateRequest{Path: "/multi/c", Acl: opened}, &zk.DeleteRequest{Path: "/none", Version: -1}); err == nil {
		t.Fatal("a multi that should fail")
	}
	if err := c.Delete("/none", -1); err == nil {
		t.Fatal("a delete that should fail")
	}
	if z.since(3, 5, 1) {
		z.furnishContainers(c)
	}
	if z.since(3, 5, 3) {
		z.furnishTTL(c)
	}

	create("/zookeeper/quota/app", "", 0, opened)
	create("/zookeeper/quota/app/zookeeper_limits", "count=100,bytes=-1=;byteHardLimit=5000;countHardLimit=-1", 0, opened)
	create("/zookeeper/quota/app/zookeeper_stats", "count=0,bytes=0", 0, opened)
	create("/app/counted", "12345", 0, opened)

	create("/members", "", 0, opened)
	for _, conn := range []*zk.Conn{owner, brief} {
		for range 2 {
			_, err = conn.Create("/members/m-", []byte("e"), zk.FlagEphemeral|zk.FlagSequence, opened)
			must(t, err)
		}
	}
	brief.Close()
	for deadline := time.Now().Add(hung); ; time.Sleep(10 * time.Millisecond) { // longer than the session lives, if its end was not sent
		_, stat, err := c.Exists("/members")
		must(t, err)
		if stat.NumChildren == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the session does not end")
		}
	}
}

// furnishContainers creates containers, and what only ZooKeeper's own clients can create.
func (z *zooKeeper) furnishContainers(c *zk.Conn) {
	t := z.t
	t.Helper()
	for _, name := range []string{"", "/unused", "/used", "/full"} {
		_, err := c.CreateContainer("/containers"+name, []byte("c"), zk.FlagContainer, opened)
		must(t, err)
	}
	_, err := c.Multi(&zk.CreateRequest{Path: "/containers/used/child", Acl: opened}, &zk.CreateRequest{Path: "/containers/full/child", Acl: opened})
	must(t, err)
	must(t, c.Delete("/containers/used/child", -1))

	raw := dialZooKeeper(t, z.addr, 30000)
	raw.request(zkproto.OpCreate2, rawCreate("/create2", 0), 0)
	raw.request(zkproto.OpCreate2, rawCreate("/create2/s-", zk.FlagSequence), 0)
	raw.request(zkproto.OpMulti, rawMulti(rawPart{zkproto.OpCreate2, rawCreate("/create2/multi", 0)},
		rawPart{zkproto.OpCreateContainer, rawCreate("/create2/container", zk.FlagContainer)}), 0)
	raw.request(zkproto.OpCloseSession, nil, 0)
}

func (z *zooKeeper) furnishTTL(c *zk.Conn) {
	t := z.t
	t.Helper()
	_, err := c.Create("/ttl", nil, 0, opened)
	must(t, err)
	for _, flags := range []int32{zk.FlagTTL, zk.FlagPersistentSequentialWithTTL} {
		_, err = c.CreateTTL("/ttl/hour-", []byte("t"), flags, opened, time.Hour)
		must(t, err)
	}
	hours := binary.BigEndian.AppendUint64(rawCreate("/ttl/multi", zk.FlagTTL), uint64(24*time.Hour/time.Millisecond))
	raw := dialZooKeeper(t, z.addr, 30000)
	raw.request(zkproto.OpMulti, rawMulti(rawPart{zkproto.OpCreateTTL, hours}, rawPart{zkproto.OpCreate, rawCreate("/ttl/multi/child", 0)}), 0)
	raw.request(zkproto.OpCloseSession, nil, 0)
}

// rawCreate is the request that creates an open znode.
func rawCreate(path string, flags uint32) []byte {
	var b []byte
	add := func(s string) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	add(path)
	add("raw")
	b = binary.BigEndian.AppendUint32(b, 1) // entries of the ACL
	b = binary.BigEndian.AppendUint32(b, uint32(zk.PermAll))
	add("world")
	add("anyone")
	return binary.BigEndian.AppendUint32(b, flags)
}

// rawPart is an operation of a multi.
type rawPart struct {
	op   zkproto.Op
	body []byte
}

func rawMulti(parts ...rawPart) []byte {
	var b []byte
	add := func(op zkproto.Op, done byte, body []byte) {
		b = append(binary.BigEndian.AppendUint32(b, uint32(op)), done)
		b = append(binary.BigEndian.AppendUint32(b, math.MaxUint32), body...)
	}
	for _, p := range parts {
		add(p.op, 0, p.body)
	}
	add(-1, 1, nil)
	return b
}

// fill creates values of all sizes; the largest is the largest that a client may send.
func (z *zooKeeper) fill() {
	z.t.Helper()
	c := z.session()
	_, err := c.Create("/sizes", nil, 0, opened)
	must(z.t, err)
	for _, n := range []int{0, 1, 4 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 - 1 - 200} {
		_, err := c.Create(fmt.Sprint("/sizes/", n), bytes.Repeat([]byte{byte(n), 'x'}, n)[:n], 0, opened)
		must(z.t, err)
	}
}

// superDigest is for the user super with the password admin.
const superDigest = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="

var javaProps = []string{
	"-Dzookeeper.extendedTypesEnabled=true", "-Dzookeeper.preAllocSize=4", // KiB
	"-Dzookeeper.DigestAuthenticationProvider.superDigest=" + superDigest,
}

// roomy is more space in a log, in KiB, than clients fill between two allocations. With
// less, ZooKeeper 3.9 and some old versions allocate the next part where data is
// already, which zeroes one byte of it: neither they nor an import can read such a log.
const roomy = "-Dzookeeper.preAllocSize=16384"

// TestImport: a real ZooKeeper with something of every kind takes snapshots while
// its clients write, and is killed and imported. Every znode is as its clients saw
// it, whichever snapshot the import begins with.
func TestImport(t *testing.T) {
	needZooKeeper(t)
	// Each other case lacks something else that newer versions may leave out.
	for _, c := range []struct {
		name, method string
		props        []string
	}{
		{"plain", "", nil},
		{"gz", "gz", []string{"-Dzookeeper.closeSessionTxn.enabled=false", "-Dzookeeper.serializeLastProcessedZxid.enabled=false"}},
		{"snappy", "snappy", []string{"-Dzookeeper.digest.enabled=false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			logDir := filepath.Join(base, "logs")
			props := slices.Concat([]string{"dataLogDir=" + logDir, "-Dzookeeper.snapCount=150"}, c.props, javaProps)
			if c.method != "" {
				props = append(props, "-Dzookeeper.snapshot.compression.method="+c.method)
			}
			found := 0
			named := !slices.Contains(props, "-Dzookeeper.closeSessionTxn.enabled=false")
			// Whether a snapshot is fuzzy depends on timing: usually one of the first round is.
			for round := 0; found == 0; round++ {
				if round == 16 {
					t.Fatal("no snapshot was fuzzy")
				}
				z := startZooKeeper(t, base, props...)
				if c.method != "" && !z.since(3, 6, 0) {
					t.Skip("it packs no snapshots")
				}
				if round == 0 {
					z.furnish(z.session())
					if c.method != "" {
						z.fill()
					}
				}
				z.churn(*importTime * time.Duration(round+1)) // on a slow machine few changes make a short round
				want := z.look()
				z.kill()
				var snapshots int
				found, snapshots = fromEach(t, z.dir, logDir, want, z.digests(props...), named && z.since(3, 6, 0))
				t.Logf("%v: %d znodes, %d snapshots, %d changes were in them already", z.version, len(want), snapshots, found)
			}
			if c.method != "" {
				if left, _ := filepath.Glob(filepath.Join(base, "data", "version-2", "snapshot.*."+c.method)); len(left) == 0 {
					t.Error("the snapshots are not packed")
				}
			}
		})
	}
}

// fromEach imports from each of the snapshots: after each import it removes the
// newest snapshot, until only the oldest is left. Each time the tree must be the
// one that clients saw. named says that the log contains the ephemerals of a closed
// session; otherwise see lostPzxids.
func fromEach(t testing.TB, dir, logDir string, want []seen, digest string, named bool) (found, snapshots int) {
	t.Helper()
	all := wholeSnapshots(t, dir, logDir)
	for i := range all {
		z := readZooKeeper(t, dir, logDir)
		found += z.Found
		got, digest := imported(z), digest
		if !named {
			if lost := lostPzxids(got, want); lost > 0 && digest == "equal" {
				t.Logf("from %s: %d lost pzxids", z.Snapshot, lost)
				digest = "differs"
			}
		}
		compareSeen(t, got, want)
		if !strings.Contains(z.Digest, digest) {
			t.Errorf("from %s: digest %s", z.Snapshot, z.Digest)
		}
		if i < len(all)-1 {
			must(t, os.Remove(filepath.Join(dir, "version-2", z.Snapshot)))
		}
	}
	return found, len(all)
}

// wholeSnapshots are the names of the snapshots after a kill, oldest first. ZooKeeper
// gives a snapshot its name before it is complete; if the kill interrupted the newest
// one, an import skips it, and it is removed here.
func wholeSnapshots(t testing.TB, dir, logDir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "version-2", "snapshot.*"))
	must(t, err)
	zxid := func(path string) uint64 {
		digits, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), "snapshot."), ".")
		n, err := strconv.ParseUint(digits, 16, 64)
		must(t, err)
		return n
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(zxid(a), zxid(b)) })
	newest := all[len(all)-1]
	torn := func(n string) bool {
		return strings.Contains(n, "skipped") && strings.Contains(n, newest) && strings.Contains(n, "ends in the middle")
	}
	if !slices.ContainsFunc(readZooKeeper(t, dir, logDir).Notices, torn) {
		return all
	}
	t.Logf("the kill tore %s", newest)
	must(t, os.Remove(newest))
	return all[:len(all)-1]
}

// lostPzxids repairs what a fuzzy snapshot may lose of a session whose end is logged
// without its ephemerals (zkimport, Fuzzy snapshots): the pzxid of a parent. Only
// sessions of churn that close can cause that; the others, which write the same,
// show that nothing else loses one.
func lostPzxids(got, want []seen) (lost int) {
	saw := map[string]int64{}
	for _, s := range want {
		saw[s.Path] = s.Stat.Pzxid
	}
	for i := range got {
		s := &got[i]
		if closes := strings.HasPrefix(s.Path, "/churn0/d") || strings.HasPrefix(s.Path, "/churn2/d"); closes && s.Stat.Pzxid < saw[s.Path] {
			s.Stat.Pzxid = saw[s.Path]
			lost++
		}
	}
	return lost
}

// TestImportKilled: a real ZooKeeper is killed while clients write. The import has
// everything that was confirmed, and equals what the same ZooKeeper has after a
// restart: when imported before the restart, and afterwards, when the torn log is no
// longer the last one. A kill leaves half a record only by chance, so one case makes
// it.
func TestImportKilled(t *testing.T) {
	needZooKeeper(t)
	for _, torn := range []bool{false, true} {
		t.Run(fmt.Sprint("torn ", torn), func(t *testing.T) {
			t.Parallel()
			base, copied := t.TempDir(), filepath.Join(t.TempDir(), "data")
			props := append(slices.Clone(javaProps), roomy)
			z := startZooKeeper(t, base, props...)
			confirmed := z.killLoaded()
			whole := readZooKeeper(t, z.dir, "")
			for _, path := range confirmed {
				if _, code := whole.Tree.Get(path, nil, 0); code != znode.OK {
					t.Errorf("%s was confirmed: %v", path, code)
				}
			}
			if torn {
				tearLog(t, z.dir)
			}
			must(t, os.CopyFS(copied, os.DirFS(z.dir)))
			again := startZooKeeper(t, base, props...)
			theirs := again.look()
			before := readZooKeeper(t, copied, "")
			compareSeen(t, imported(before), theirs)
			cut := func(n string) bool { return strings.Contains(n, "ends in an unfinished write") }
			if torn && !slices.ContainsFunc(before.Notices, cut) {
				t.Errorf("nothing was cut: %q", before.Notices)
			}
			t.Logf("%v: %d znodes confirmed, %d there, %q", z.version, len(confirmed), len(theirs), before.Notices)

			_, err := again.session().Create("/again", nil, 0, opened)
			must(t, err)
			theirs = again.look()
			again.kill()
			compareSeen(t, imported(readZooKeeper(t, z.dir, "")), theirs)
		})
	}
}

// tearLog zeroes the end of the last record of the newest log, as if it had not
// been written: the log was allocated there as zeros.
func tearLog(t testing.TB, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "version-2", "log.*"))
	must(t, err)
	if len(logs) != 1 {
		t.Fatalf("the logs are %q", logs)
	}
	b, err := os.ReadFile(logs[0])
	must(t, err)
	end := len(bytes.TrimRight(b, "\x00"))
	clear(b[end-100 : end])
	must(t, os.WriteFile(logs[0], b, 0o600))
}

// killLoaded kills the server while clients create znodes, most of them larger than
// the buffer of the log. It returns the paths of those that were confirmed.
func (z *zooKeeper) killLoaded() (confirmed []string) {
	z.t.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	enough := make(chan struct{})
	var conns []*zk.Conn
	for w := range 4 {
		c := z.session()
		conns = append(conns, c)
		_, err := c.Create(fmt.Sprint("/load", w), nil, 0, opened)
		must(z.t, err)
		for i := range 8 {
			group.Go(func() {
				data := bytes.Repeat([]byte{byte(i)}, 4000+7000*i)
				for {
					path, err := c.Create(fmt.Sprintf("/load%d/n-", w), data, zk.FlagSequence, opened)
					if err != nil { // the server is dead
						return
					}
					mu.Lock()
					confirmed = append(confirmed, path)
					if len(confirmed) == 400 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
	}
	select {
	case <-enough:
	case <-time.After(hung):
		z.t.Fatal("clients do not get on")
	}
	z.kill()
	for _, c := range conns {
		c.Close()
	}
	group.Wait()
	return confirmed
}

// churn writes from several sessions at once. Half of the writers close their
// session now and then, while it has an ephemeral, and continue with another
// session.
func (z *zooKeeper) churn(d time.Duration) {
	z.t.Helper()
	deadline := time.Now().Add(d)
	var group sync.WaitGroup
	var closed []*zk.Conn
	for w := range 4 {
		c := z.session()
		if _, err := c.Create(fmt.Sprintf("/churn%d", w), nil, 0, opened); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			z.t.Fatal(err)
		}
		var next []*zk.Conn
		if w%2 == 0 {
			closed = append(closed, c)
			for range 5 {
				next = append(next, z.session())
			}
			closed = append(closed, next...)
		}
		group.Go(func() {
			top := fmt.Sprintf("/churn%d", w)
			for i := 0; time.Now().Before(deadline); i++ {
				if i%9 == 8 && len(next) > 0 {
					c.Close()
					c, next = next[0], next[1:]
				}
				dir := fmt.Sprintf("%s/d%d", top, i%7)
				// Some of these fail, different ones each time, as intended.
				_, _ = c.Create(dir, nil, 0, opened)
				for j := range 12 {
					_, _ = c.Create(fmt.Sprintf("%s/s%d-", dir, j), fmt.Append(nil, i), zk.FlagSequence, opened)
				}
				_, _ = c.Create(dir+"/x", nil, zk.FlagEphemeral, annOnly)
				_, _ = c.Set(dir, fmt.Append(nil, i), -1)
				_, _ = c.SetACL(dir+"/x", opened, -1)
				_, _ = c.Create(fmt.Sprintf("%s/u%d", dir, i), nil, 0, append(zk.WorldACL(zk.PermRead), zk.DigestACL(zk.PermAll, fmt.Sprint("user", i), "x")...))
				_, _ = c.Multi(&zk.CreateRequest{Path: dir + "/m", Acl: opened}, &zk.SetDataRequest{Path: dir, Data: []byte("m"), Version: -1},
					&zk.CreateRequest{Path: dir + "/m/n", Acl: annOnly})
				if z.since(3, 5, 1) {
					_, _ = c.CreateContainer(fmt.Sprintf("%s/c%d", dir, i), nil, zk.FlagContainer, opened)
				}
				if z.since(3, 5, 3) {
					_, _ = c.CreateTTL(fmt.Sprintf("%s/t%d", dir, i), nil, zk.FlagTTL, opened, time.Duration(i+1)*time.Hour)
				}
				if i%3 == 0 {
					_, _ = c.Multi(&zk.DeleteRequest{Path: dir + "/m/n", Version: -1}, &zk.DeleteRequest{Path: dir + "/m", Version: -1})
					_ = c.Delete(dir+"/x", -1)
				}
				if i%5 == 0 { // and everything in another one, which is created again later
					other := fmt.Sprintf("%s/d%d", top, (i+3)%7)
					names, _, _ := c.Children(other)
					for _, n := range names {
						_ = c.Delete(other+"/"+n+"/n", -1)
						_ = c.Delete(other+"/"+n, -1)
					}
					_ = c.Delete(other, -1)
				}
			}
			if w%2 == 0 {
				c.Close()
				for _, c := range next {
					c.Close()
				}
			}
		})
	}
	group.Wait()
	for _, c := range closed {
		// Close does not wait long for the end of the session, and await waits for longer than the session lives.
		id := fmt.Sprintf("0x%x", uint64(c.SessionID()))
		await(z.t, func() bool { return !strings.Contains(askWord(z.t, z.addr, "dump"), id) })
	}
}

// TestImportThrough: the whole migration, from a stopped ZooKeeper to a serving
// coord: what is kept, what is dropped, what comes next.
func TestImportThrough(t *testing.T) {
	needZooKeeper(t)
	t.Parallel()
	base := t.TempDir()
	props := append(slices.Clone(javaProps), roomy)
	z := startZooKeeper(t, base, props...)
	owner := z.session()
	z.furnish(owner)
	z.fill()
	want := z.look()
	z.kill()
	before := hashes(t, z.dir)
	digest := z.digests()

	// A server refuses the folder, and names the command for it.
	data := filepath.Join(base, "coord")
	if _, stderr, code := run(t, "server", "--data-dir", z.dir, "--listen", "127.0.0.1:0"); code != 13 || !strings.Contains(stderr, "coord restore --from-zookeeper") {
		t.Errorf("a server on it: %d %s", code, stderr)
	}
	if _, stderr, code := run(t, "restore", "--from-zookeeper", z.dir, "--data-dir", z.dir); code != 13 {
		t.Errorf("onto itself: %d %s", code, stderr)
	}
	if out, stderr, code := run(t, "restore", "--from-zookeeper", z.dir, "--data-dir", data, "--dry-run"); code != 0 || !strings.Contains(out, "would make") {
		t.Errorf("a dry run: %d %s%s", code, out, stderr)
	}
	out, stderr, code := run(t, "restore", "--from-zookeeper", z.dir, "--data-dir", data, "--json")
	if code != 0 {
		t.Fatalf("%d %s%s", code, out, stderr)
	}
	var report struct {
		State     string
		Backup    *struct{}
		ZooKeeper struct {
			Sessions, Ephemerals, Txns int
			Digest                     string
		}
		Epoch, Zxid struct{ Before, After string }
		Dropped     struct {
			Sessions   []struct{ ID string }
			Ephemerals []struct{ Path, Session string }
		}
		Notices []string
	}
	must(t, json.Unmarshal([]byte(out), &report))
	session := fmt.Sprintf("0x%x", uint64(owner.SessionID()))
	if report.State != "done" || report.Backup != nil || len(report.Dropped.Sessions) != 3 || len(report.Dropped.Ephemerals) != 2 ||
		report.Dropped.Ephemerals[0].Path != "/members/m-0000000000" || report.Dropped.Ephemerals[0].Session != session {
		t.Errorf("the report is %s", out)
	}
	if report.Epoch.Before != "0" || report.Epoch.After != "1" || !strings.Contains(report.ZooKeeper.Digest, digest) {
		t.Errorf("epoch %+v, digest %s", report.Epoch, report.ZooKeeper.Digest)
	}
	if now := hashes(t, z.dir); !maps.Equal(now, before) {
		t.Error("ZooKeeper's folder is not as it was")
	}
	if _, stderr, code := run(t, "restore", "--from-zookeeper", z.dir, "--data-dir", data); code != 13 || !strings.Contains(stderr, "--replace") {
		t.Errorf("a second time: %d %s", code, stderr)
	}

	// Coord's clients see what clients of the same ZooKeeper see after a restart.
	ours := &zooKeeper{t: t, addr: launch(t, data, "--super-digest", superDigest).addr}
	ours.await()
	again := startZooKeeper(t, base, props...)
	theirs := again.look()
	compareSeen(t, theirs, want)
	theirs = slices.DeleteFunc(theirs, func(s seen) bool { return s.Path == znode.ConfigPath || s.Stat.EphemeralOwner == owner.SessionID() })
	for i := range theirs {
		if s := &theirs[i]; s.Path == "/members" { // its two ephemerals are gone
			s.Stat.Cversion, s.Stat.NumChildren = s.Stat.Cversion+2, 0
			s.Stat.Pzxid = 0x1_0000_0001 // with the first change of the next epoch
		}
	}
	compareSeen(t, slices.DeleteFunc(ours.look(), func(s seen) bool { return s.Path == znode.ConfigPath }), theirs)

	// The next sequential name is the one that ZooKeeper would give.
	next := func(z *zooKeeper) map[string]string {
		c, all := z.session(), map[string]string{}
		must(t, c.AddAuth("digest", []byte("super:admin")))
		for _, s := range theirs {
			if strings.HasPrefix(s.Path, znode.SystemPath) {
				continue
			}
			name, err := c.Create(znode.Join(s.Path, "next-"), nil, zk.FlagSequence, opened)
			if err != nil {
				name = err.Error()
			}
			all[s.Path] = name
		}
		return all
	}
	if got, want := next(ours), next(again); !maps.Equal(got, want) {
		t.Errorf("the next names are %v, in ZooKeeper %v", got, want)
	}
}

// TestImportEnsemble: the leader of three servers is killed, and the others
// continue in a new epoch. Their folders have everything; the folder of the first
// leader has the state at the kill. The list of servers is dropped.
func TestImportEnsemble(t *testing.T) {
	needZooKeeper(t)
	t.Parallel()
	base := t.TempDir()
	more := "tickTime=500\ninitLimit=120\nsyncLimit=120\nreconfigEnabled=true\n"
	var servers []string
	for i := 1; i <= 3; i++ {
		servers = append(servers, fmt.Sprintf("server.%d=127.0.0.1:%s:%s", i, ports.Free(t), ports.Free(t)))
		more += servers[i-1] + "\n"
	}
	var all []*zooKeeper
	for i := 1; i <= 3; i++ {
		dir := filepath.Join(base, fmt.Sprint(i))
		must(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "data", "myid"), fmt.Append(nil, i), 0o600))
		all = append(all, launchZooKeeper(t, dir, ports.Free(t), "quorum.QuorumPeerMain", more, javaProps...))
	}
	leader := -1
	for i, z := range all {
		if z.await() == "leader" {
			leader = i
		}
	}
	if leader < 0 {
		t.Fatal("nobody leads")
	}
	first := all[leader]
	first.furnish(first.session())
	if first.since(3, 5, 5) { // earlier ones were betas: 3.5.3 does not restart after it
		other := (leader + 1) % len(all)
		first.reconfigure(servers[other], all[other].addr)
	}
	before := first.look()
	first.kill()
	others := slices.Delete(slices.Clone(all), leader, leader+1)
	for _, z := range others {
		for deadline := time.Now().Add(hung); z.await() != "leader" && z.await() != "follower"; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody leads in place of the first one")
			}
		}
	}
	c := others[0].session()
	eventually := func(path string, flags int32) {
		for deadline := time.Now().Add(hung); ; time.Sleep(50 * time.Millisecond) {
			if _, err := c.Create(path, []byte("x"), flags, opened); err == nil || errors.Is(err, zk.ErrNodeExists) {
				return
			} else if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	eventually("/later", 0)
	eventually("/later/e", zk.FlagEphemeral)
	want := others[0].look()
	for _, z := range others {
		z.kill()
	}
	epochOf := func(all []seen) (epoch int64) { // the epoch of the last change: there may have been several elections
		for _, s := range all {
			epoch = max(epoch, s.Stat.Mzxid>>32)
		}
		return epoch
	}
	if epochOf(want) <= epochOf(before) {
		t.Fatalf("epoch %d behind %d", epochOf(want), epochOf(before))
	}
	digest := first.digests()
	for _, z := range all {
		want := want
		if z == first {
			want = before
		}
		got := readZooKeeper(t, z.dir, "")
		if !got.Member || got.Epoch != epochOf(want) || !strings.Contains(got.Digest, digest) {
			t.Errorf("member %v, epoch %d, digest %s", got.Member, got.Epoch, got.Digest)
		}
		// Each leader writes the configuration, with its own time, into memory only.
		others := func(all []seen) []seen {
			return slices.DeleteFunc(all, func(s seen) bool { return s.Path == znode.ConfigPath })
		}
		compareSeen(t, others(imported(got)), others(slices.Clone(want)))
	}
	data := filepath.Join(base, "coord")
	out, stderr, code := run(t, "restore", "--from-zookeeper", others[0].dir, "--data-dir", data)
	var epoch, old int // there may have been several elections
	if m := regexp.MustCompile(`epoch (\d+) after (\d+)`).FindStringSubmatch(out); m != nil {
		epoch, _ = strconv.Atoi(m[1])
		old, _ = strconv.Atoi(m[2])
	}
	if code != 0 || !strings.Contains(stderr, "one of several servers") || old < 2 || epoch != old+100_001 {
		t.Errorf("%d %s%s", code, out, stderr)
	}
	if got := launch(t, data).ask("GET /zookeeper/config"); !strings.HasPrefix(got, "DATA 0 ") {
		t.Errorf("/zookeeper/config: %s", got)
	}
}

// reconfigure changes the members of the ensemble to what they already are: one
// server gets the client address that it has anyway.
func (z *zooKeeper) reconfigure(server, addr string) {
	z.t.Helper()
	c := z.session()
	must(z.t, c.AddAuth("digest", []byte("super:admin")))
	_, err := c.IncrementalReconfig([]string{server + ":participant;" + addr}, nil, -1)
	must(z.t, err)
	config, stat, err := c.Get(znode.ConfigPath)
	must(z.t, err)
	if !strings.Contains(string(config), addr) || stat.Mzxid == 0 {
		z.t.Errorf("the configuration is %q, %+v", config, stat)
	}
}

func hashes(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

// TestImportGolden writes the folder that the tests of package zkimport read, with
// -update.
func TestImportGolden(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	needZooKeeper(t)
	base := t.TempDir()
	z := startZooKeeper(t, base, javaProps...)
	c := z.session()
	for _, path := range []string{"/before", "/before/a", "/before/b"} {
		_, err := c.Create(path, []byte("before"), 0, annOnly)
		must(t, err)
	}
	z.kill()
	z = startZooKeeper(t, base, javaProps...) // takes a snapshot
	z.furnish(z.session())
	want := z.look()
	z.kill()
	must(t, os.RemoveAll(zooGolden))
	must(t, os.CopyFS(zooGolden, os.DirFS(z.dir)))
	b, err := json.MarshalIndent(want, "", " ")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(zooGolden, "seen.json"), append(b, '\n'), 0o644))
}
