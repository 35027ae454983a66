package testscripts

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coord/testscripts/ports"
)

var ensembleRounds = flag.Int("ensemble.rounds", 6, "how many faults TestEnsembleFaults makes")

// cluster is a few hosts, each with a node of its own: all on this machine, with
// addresses of the loopback network that nobody else has, and the default ports.
type cluster struct {
	t     testing.TB
	bin   string // coord, unless it is measured
	hosts []string
	nodes []*node
}

// node is a host's folder, and the process that uses it, if one does.
type node struct {
	*process
	c     *cluster
	name  string
	host  string
	dir   string
	flags []string
	under []string // what it is started with: strace …
}

// newCluster finds hosts and starts nothing.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux has a whole network of loopback addresses")
	}
	c := &cluster{t: t, bin: "coord"}
	for net16 := fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250)); len(c.hosts) < n; {
		host := fmt.Sprintf("%s.%d", net16, 10+len(c.hosts))
		_, release, err := ports.Reserve(host + ":2888")
		if err != nil { // somebody has it: another network
			net16, c.hosts = fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250)), nil
			continue
		}
		t.Cleanup(release)
		c.hosts = append(c.hosts, host)
	}
	for i, host := range c.hosts {
		c.nodes = append(c.nodes, &node{c: c, name: fmt.Sprintf("n%d", i+1), host: host, dir: filepath.Join(t.TempDir(), "data")})
	}
	return c
}

// initial is the list of --initial.
func (c *cluster) initial() string {
	var list []string
	for _, n := range c.nodes {
		list = append(list, n.name+"="+n.host+":2888")
	}
	return strings.Join(list, ",")
}

// start begins a node and does not wait for it.
func (n *node) start(flags ...string) {
	if len(flags) > 0 {
		n.flags = flags
	}
	n.process = begin(n.c.t, n.c.bin, n.dir, n.under, append([]string{"--name", n.name, "--listen", n.host + ":2181",
		"--peer-listen", n.host + ":2888", "--gossip-listen", n.host + ":2889"}, n.flags...)...)
}

// await waits until a node lets clients in.
func (n *node) await() {
	n.c.t.Helper()
	if _, err := n.ready(); err != nil {
		n.c.t.Fatal(err)
	}
}

// form starts three nodes with --initial and waits for them.
func form(t testing.TB, flags ...string) *cluster {
	t.Helper()
	c := newCluster(t, 3)
	c.form(flags...)
	return c
}

func (c *cluster) form(flags ...string) {
	c.t.Helper()
	for _, n := range c.nodes {
		n.start(append([]string{"--initial", c.initial()}, flags...)...)
	}
	for _, n := range c.nodes {
		n.await()
	}
}

// row is a line of coord members --json.
type row struct {
	ID, Name, Role, Peer, Client, Digest string
	Vote, Up                             int `json:",string"`
}

// members asks a node who they are.
func (n *node) members() (rows []row, err error) {
	answer, err := askAt(n.host+":2181", "ADMIN MEMBERS")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(answer) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "ITEM" {
			continue
		}
		r := row{ID: fields[1]}
		for _, f := range fields[2:] {
			key, value, _ := strings.Cut(f, "=")
			value = strings.Trim(value, `"`)
			switch key {
			case "name":
				r.Name = value
			case "role":
				r.Role = value
			case "digest":
				r.Digest = value
			case "vote":
				r.Vote = int(value[0] - '0')
			case "up":
				r.Up = int(value[0] - '0')
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// votes counts them.
func votes(rows []row) (n int) {
	for _, r := range rows {
		n += r.Vote
	}
	return n
}

// eventually fails the test unless so says yes in time.
func (c *cluster) eventually(what string, so func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, n := range c.nodes {
				if n.process != nil {
					c.t.Logf("%s:\n%s", n.name, n.stderr())
				}
			}
			c.t.Fatalf("%s: not in time", what)
		}
	}
}

// leader waits until all living nodes name the same one.
func (c *cluster) leader() *node {
	c.t.Helper()
	var lead *node
	c.eventually("one leader", func() bool {
		lead = nil
		for _, n := range c.nodes {
			if !n.lives() {
				continue
			}
			rows, err := n.members()
			i := slices.IndexFunc(rows, func(r row) bool { return r.Role == "leader" && r.Up == 1 })
			if err != nil || i < 0 || lead != nil && lead.name != rows[i].Name {
				return false
			}
			lead = c.named(rows[i].Name)
		}
		return lead != nil && lead.lives()
	})
	return lead
}

func (c *cluster) named(name string) *node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (n *node) lives() bool {
	if n.process == nil {
		return false
	}
	select {
	case code := <-n.ended:
		n.ended <- code
		return false
	default:
		return true
	}
}

func (n *node) pid() string { return strconv.Itoa(n.cmd.Process.Pid) }

// patience is for an ensemble in which no election may come of a pause of the machine:
// one would refuse writes, or give another the leadership.
var patience = []string{"--election-ticks", "50"}

// leaderless says whether this is the answer of an election, which a pause of the machine
// may bring about.
func leaderless(answer string) bool {
	return strings.HasPrefix(answer, "ERR NOLEADER") || strings.HasPrefix(answer, "ERR UNCERTAIN")
}

// does has a write done, over elections.
func (n *node) does(line string) {
	n.c.t.Helper()
	uncertain := false
	n.c.eventually(n.name+": "+line, func() bool {
		switch got := n.ask(line); {
		case leaderless(got):
			uncertain = true
			return false
		case strings.HasPrefix(got, "OK"), uncertain && strings.HasPrefix(got, "ERR EXISTS"):
			return true
		default:
			n.c.t.Fatalf("%s through %s: %s", line, n.name, got)
			return false
		}
	})
}

// synced asks behind everything that was acknowledged anywhere.
func (n *node) synced(lines ...string) (rest string) {
	n.c.t.Helper()
	n.c.eventually(n.name+" syncs", func() bool {
		answer := n.ask(append([]string{"SYNC /"}, lines...)...)
		var first string
		first, rest, _ = strings.Cut(answer, "\n")
		if !strings.HasPrefix(first, "OK") && !leaderless(first) {
			n.c.t.Fatalf("%s does not sync: %s", n.name, answer)
		}
		return strings.HasPrefix(first, "OK")
	})
	return rest
}

// agree waits until all living nodes have the same state.
func (c *cluster) agree() {
	c.t.Helper()
	c.eventually("equal digests", func() bool {
		var digests []string
		for _, n := range c.nodes {
			if n.lives() {
				digests = append(digests, n.fact("coord_zxid")+n.fact("coord_digest"))
			}
		}
		return len(slices.Compact(digests)) == 1
	})
}

// TestEnsembleForms: three empty hosts, one command each, by a list and by a count.
func TestEnsembleForms(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]func(c *cluster, i int) []string{
		"initial": func(c *cluster, _ int) []string { return []string{"--initial", c.initial()} },
		"expect": func(c *cluster, _ int) []string {
			return []string{"--expect", "3", "--join", strings.Join(c.hosts, ",")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			for i, n := range c.nodes {
				n.start(flags(c, i)...)
			}
			for _, n := range c.nodes {
				n.await()
			}
			for i, n := range c.nodes {
				n.does(fmt.Sprintf("CREATE /by%d x", i))
			}
			for _, n := range c.nodes {
				if got := n.synced("LS /"); !strings.Contains(got, "by0") || !strings.Contains(got, "by2") {
					t.Fatalf("%s does not see what was written: %s", n.name, got)
				}
			}
			c.leader()
			c.whole("")
			c.agree()
			// All at once, and nothing but their folders.
			for _, n := range c.nodes {
				n.kill()
			}
			for _, n := range c.nodes {
				n.start()
			}
			for _, n := range c.nodes {
				n.await()
				if got := n.synced("LS /"); !strings.Contains(got, "by1") {
					t.Fatalf("%s has lost a write: %s", n.name, got)
				}
			}
		})
	}
}

// TestEnsembleGrows: a single node that has data becomes three, and a fourth observes.
func TestEnsembleGrows(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	first := c.nodes[0]
	first.start(patience...)
	first.await()
	for i := range 50 {
		if got := first.ask(fmt.Sprintf("CREATE /n%d v%d", i, i)); !strings.HasPrefix(got, "OK") {
			t.Fatal(got)
		}
	}
	stop, wrote := make(chan struct{}), make(chan int)
	go func() { // while the others come
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				wrote <- n
				return
			default:
			}
			if got, err := askAt(first.host+":2181", fmt.Sprintf("CREATE /w%d x", n)); err != nil || !strings.HasPrefix(got, "OK") {
				t.Errorf("a write while the ensemble grows: %s%v", got, err)
				wrote <- n
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	for i, n := range c.nodes[1:] {
		flags := append([]string{"--join", first.host}, patience...)
		if i == 2 {
			flags = append(flags, "--observer")
		}
		n.start(flags...)
	}
	for _, n := range c.nodes[1:] {
		n.await()
	}
	c.eventually("three voters and an observer", func() bool {
		rows, err := first.members()
		return err == nil && len(rows) == 4 && votes(rows) == 3 && slices.ContainsFunc(rows, func(r row) bool { return r.Role == "observer" && r.Name == "n4" })
	})
	if got := c.nodes[3].ask("HELLO"); !strings.Contains(got, "role=observer") {
		t.Errorf("the observer says %s", got)
	}
	close(stop)
	last := <-wrote - 1
	for _, n := range c.nodes {
		if got := n.synced("GET /n49", fmt.Sprintf("GET /w%d", last)); !strings.Contains(got, "v49") || strings.Contains(got, "ERR") {
			t.Fatalf("%s lacks what was written: %s", n.name, got)
		}
	}
	c.agree()
	// The first one is not needed any more.
	first.kill()
	if lead := c.leader(); lead == first {
		t.Fatal("the dead node leads")
	}
	c.nodes[1].does("CREATE /without x")
}

// TestEnsembleFaults: under load nodes are killed, stopped and go on, one, the
// leader or all of them; what was acknowledged is there on every node.
func TestEnsembleFaults(t *testing.T) {
	t.Parallel()
	random := newRand(t)
	c := form(t, "--snapshot-every", "3000")
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{id: i}
	}
	rounds, confirmed := *ensembleRounds, 0
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		var load sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for i, w := range all {
			load.Go(func() { w.write(ctx, c.hosts[(i+round)%3]+":2181") })
		}
		time.Sleep(time.Duration(100+random.IntN(300)) * time.Millisecond)
		hit := []*node{c.leader()}
		switch random.IntN(3) {
		case 0:
			hit = []*node{c.nodes[random.IntN(3)]}
		case 1:
			hit = c.nodes
		}
		paused := random.IntN(3) == 0
		for _, n := range hit {
			if paused {
				n.signal(syscall.SIGSTOP)
			} else {
				n.signal(syscall.SIGKILL)
			}
		}
		time.Sleep(time.Duration(500+random.IntN(1500)) * time.Millisecond)
		for _, n := range hit {
			if paused {
				n.signal(syscall.SIGCONT)
			} else {
				n.wait()
				n.start()
			}
		}
		for _, n := range hit {
			n.await()
		}
		c.leader()
		stop()
		load.Wait()
		for i, w := range all {
			confirmed += w.pairs.acked
			n := c.nodes[(i+1)%3]
			n.synced()
			w.check(t, n.process)
		}
		c.agree()
	}
	if confirmed == 0 {
		t.Fatal("nothing was confirmed in any round: the test tested nothing")
	}
}

// TestEnsembleMoves: a node comes back at another address, without being told of
// anyone, and then all of them do so at once.
func TestEnsembleMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 6)
	later := c.hosts[3:]
	c.hosts, c.nodes = c.hosts[:3], c.nodes[:3]
	c.form()
	c.nodes[0].does("CREATE /here x")
	roster := func(hosts []string) func() bool {
		return func() bool {
			got, err := askAt(c.hosts[0]+":2181", "GET /zookeeper/config")
			for _, h := range hosts {
				if err != nil || !strings.Contains(got, "="+h+":2888:2889") {
					return false
				}
			}
			return true
		}
	}
	c.eventually("the roster", roster(c.hosts))
	first := c.nodes[0]
	first.kill()
	c.hosts[0], first.host = later[0], later[0]
	first.flags = nil
	first.start()
	first.await()
	c.eventually("the roster with the new address", roster(c.hosts))
	first.does("SET /here y")
	c.agree()
	for _, n := range c.nodes {
		n.kill()
	}
	slices.Reverse(later)
	for i, n := range c.nodes { // they are told where to look, and not who is where
		c.hosts[i], n.host = later[i], later[i]
	}
	for _, n := range c.nodes {
		n.start("--join", strings.Join(later, ","))
	}
	for _, n := range c.nodes {
		n.await()
		if got := n.synced("GET /here"); !strings.Contains(got, "y") {
			t.Fatal(got)
		}
	}
	c.eventually("the roster with all new addresses", roster(c.hosts))
	c.agree()
}

// TestEnsembleMovesUnseen: a node is somewhere else, and gossip finds nobody, for its ports
// have changed on all nodes: the node finds the others, and tells them on its links where
// it is now.
func TestEnsembleMovesUnseen(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	elsewhere := c.hosts[3]
	c.hosts, c.nodes = c.hosts[:3], c.nodes[:3]
	c.form()
	c.nodes[1].does("CREATE /here x")
	for _, n := range c.nodes {
		n.kill()
	}
	c.hosts[0], c.nodes[0].host = elsewhere, elsewhere
	for _, n := range c.nodes {
		n.start("--gossip-listen", n.host+":2890")
	}
	for _, n := range c.nodes {
		n.await()
	}
	c.nodes[0].does("SET /here y")
	c.agree()
}

// TestEnsembleRolls: a rolling restart hands the leadership over; no write is refused.
func TestEnsembleRolls(t *testing.T) {
	t.Parallel()
	c := form(t, patience...)
	for range 3 {
		lead := c.leader()
		other := c.nodes[(slices.Index(c.nodes, lead)+1)%3]
		stop, ended := make(chan struct{}), make(chan time.Duration)
		go func() {
			longest, last := time.Duration(0), time.Now()
			for i := 0; ; i++ {
				got, err := askAt(other.host+":2181", "SET /rolling create x")
				if err != nil || !strings.HasPrefix(got, "OK") {
					t.Errorf("a write during a hand-over: %s%v", got, err)
				}
				longest, last = max(longest, time.Since(last)), time.Now()
				select {
				case <-stop:
					ended <- longest
					return
				default:
				}
			}
		}()
		time.Sleep(200 * time.Millisecond)
		lead.signal(syscall.SIGTERM)
		if code := lead.wait(); code != 0 {
			t.Fatalf("it ends with %d: %s", code, lead.stderr())
		}
		time.Sleep(300 * time.Millisecond)
		close(stop)
		t.Logf("the longest gap between two writes: %v", <-ended)
		lead.start()
		lead.await()
	}
	c.agree()
}

// TestEnsembleAdds: an operator takes in a node that waits for others, and does
// without one.
func TestEnsembleAdds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	fourth := c.nodes[3]
	c.nodes = c.nodes[:3]
	c.form(patience...)
	fourth.start(append([]string{"--expect", "9"}, patience...)...)
	c.nodes = append(c.nodes, fourth)
	c.eventually("it waits", func() bool {
		got, err := askAt(fourth.host+":2181", "GET /")
		return err == nil && strings.HasPrefix(got, "ERR NOLEADER - the node does not serve yet: waiting for 8 more of 9 nodes")
	})
	for ask, want := range map[string]string{"ruok": "imok", "srvr": "This ZooKeeper instance is not currently serving requests"} {
		if got, err := askAt(fourth.host+":2181", ask); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s, while it waits: %q %v", ask, got, err)
		}
	}
	if got := c.nodes[0].ask("ADMIN ADD " + fourth.host + ":2888"); !strings.HasPrefix(got, "ERR UNCERTAIN") && (!strings.HasPrefix(got, "LIST 1") || !strings.Contains(got, "name=n4")) {
		t.Fatalf("add: %s", got) // what is uncertain takes longer than the answer waits
	}
	fourth.await()
	fourth.does("CREATE /fourth x")
	for _, bad := range []string{"ADMIN ADD " + fourth.host + ":2888", "ADMIN REMOVE nobody", "ADMIN PROMOTE", "ADMIN FROB x"} {
		if got := c.nodes[0].ask(bad); !strings.HasPrefix(got, "ERR") {
			t.Errorf("%s: %s", bad, got)
		}
	}
	// Without n3 there are two votes of two: refused while one of these is down.
	before := []int{strings.Count(c.nodes[0].stderr(), `"peer lost"`), strings.Count(c.nodes[2].stderr(), `"peer lost"`)}
	c.nodes[1].kill()
	c.eventually("the others have noticed", func() bool {
		return strings.Count(c.nodes[0].stderr(), `"peer lost"`) > before[0] && strings.Count(c.nodes[2].stderr(), `"peer lost"`) > before[1]
	})
	c.eventually("what is not safe is refused", func() bool {
		got := c.leader().ask("ADMIN REMOVE n1")
		if !strings.HasPrefix(got, "ERR") {
			t.Fatalf("a voter that is needed was removed: %s", got)
		}
		return strings.HasPrefix(got, "ERR UNSAFE") // and not that nobody leads yet
	})
	c.nodes[1].start()
	c.nodes[1].await()
	c.eventually("n4 is removed", func() bool {
		if !strings.HasPrefix(c.leader().ask("ADMIN REMOVE n4"), "ERR") {
			return true
		}
		rows, err := c.nodes[0].members() // it may be, behind an answer that it is uncertain
		return err == nil && len(rows) > 0 && !slices.ContainsFunc(rows, func(r row) bool { return r.Name == "n4" })
	})
	if code := fourth.wait(); code != 15 {
		t.Fatalf("a node that was removed ends with %d: %s", code, fourth.stderr())
	}
	fourth.start()
	if code := fourth.wait(); code != 15 {
		t.Fatalf("a node that was removed starts again: %d", code)
	}
	c.agree()
}

// TestEnsembleWithoutItsLeader: the node that is asked to do without the leader is the one
// that leads next, and does it.
func TestEnsembleWithoutItsLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.form(patience...)
	lead := c.leader()
	other := lead.others()[0]
	if got := other.ask("ADMIN REMOVE " + lead.name); strings.HasPrefix(got, "ERR") && !strings.HasPrefix(got, "ERR UNCERTAIN") {
		t.Fatalf("remove: %s", got)
	}
	if code := lead.wait(); code != 15 {
		t.Fatalf("a node that was removed ends with %d: %s", code, lead.stderr())
	}
	other.does("CREATE /alone x")
}

// TestEnsembleLeaves: who leaves is told so, and ends as it was asked to, leader or not, also
// if it hears from others first that it is no member any more.
func TestEnsembleLeaves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 5)
	c.form(patience...)
	for len(c.nodes) > 2 {
		last := c.leader()
		if len(c.nodes)%2 == 1 {
			last = last.others()[0]
		}
		var got string
		c.eventually("somebody leads", func() bool {
			got = last.ask("ADMIN LEAVE")
			return !strings.HasPrefix(got, "ERR NOLEADER")
		})
		if !strings.HasPrefix(got, "LIST 0") {
			t.Errorf("%s leaves: %s", last.name, got)
		}
		if code := last.wait(); code != 0 {
			t.Fatalf("a node that leaves ends with %d: %s", code, last.stderr())
		}
		c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool { return n == last })
		c.leader().does(fmt.Sprintf("CREATE /without%d x", len(c.nodes)))
	}
	c.agree()
}

// TestEnsembleLeaderCannotLeave: of a leader whose followers have just ended too few would be left, and
// it is told that at once.
func TestEnsembleLeaderCannotLeave(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.form(patience...)
	lead := c.leader()
	lead.others()[0].kill()
	c.eventually("it is known", func() bool { return strings.Contains(lead.stderr(), `"message":"peer lost"`) })
	if got := lead.ask("ADMIN LEAVE"); !strings.HasPrefix(got, "ERR UNSAFE") {
		t.Errorf("it leaves: %s", got)
	}
}

// TestEnsembleTransfersTwice: a node that is to lead while the leadership is on its way to another one has it
// from that one.
func TestEnsembleTransfersTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	c.form("--election-ticks", "20")
	lead := c.leader()
	others := lead.others()
	others[2].signal(syscall.SIGSTOP) // a hand-over waits for it, half an election's time
	first := make(chan string)
	go func() {
		got, err := askAt(lead.host+":2181", "ADMIN TRANSFER "+others[0].name)
		first <- fmt.Sprint(got, err)
	}()
	c.eventually("writes wait", func() bool {
		nc, err := net.Dial("tcp", lead.host+":2181")
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, _ = nc.Write([]byte("SET / x\n"))
		n, _ := nc.Read(make([]byte, 1))
		return n == 0
	})
	if got, err := askAt(lead.host+":2181", "ADMIN TRANSFER "+others[1].name); err != nil || !strings.Contains(got, "name="+others[1].name+" role=leader") {
		t.Errorf("%s%v", got, err)
	}
	others[2].signal(syscall.SIGCONT)
	t.Log(<-first)
}

// TestEnsembleIsRecoveredMeanwhile: a node waits for an ensemble that has lost its quorum, and joins what
// becomes of that: another cluster.
func TestEnsembleIsRecoveredMeanwhile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	left, gone, fresh := c.nodes[0], c.nodes[1], c.nodes[2]
	c.nodes = c.nodes[:2]
	c.form()
	left.does("CREATE /kept x")
	gone.kill()
	c.eventually("no leader", func() bool { return strings.HasPrefix(left.ask("ADMIN TRANSFER"), "ERR NOLEADER") })
	c.nodes = []*node{left, fresh}
	fresh.start("--join", left.host, "--log-level", "debug")
	c.eventually("it waits for the ensemble", func() bool {
		got, err := askAt(fresh.host+":2181", "GET /")
		return err == nil && strings.Contains(got, "waiting to be taken into ensemble")
	})
	const refused = "not taken into the cluster yet"
	c.eventually("it has asked again", func() bool { return strings.Count(fresh.stderr(), refused) > 2 })
	left.kill()
	if out, stderr, code := run(t, "recover", "-y", "--data-dir", left.dir); code != 0 {
		t.Fatalf("recover: %d: %s%s", code, out, stderr)
	}
	left.start()
	left.await()
	fresh.await()
	if got := fresh.synced("GET /kept"); strings.Contains(got, "ERR") {
		t.Errorf("it lacks what was kept: %s", got)
	}
	said := map[string]bool{} // why it was not taken in, once each
	for line := range strings.Lines(fresh.stderr()) {
		if why, _, _ := strings.Cut(line, `,"time":`); strings.Contains(line, refused) && !strings.Contains(line, `"level":"debug"`) {
			if said[why] {
				t.Errorf("it says again: %s", why)
			}
			said[why] = true
		}
	}
}

// TestEnsembleOfStrangers: a node comes back to an ensemble whose leader it has never heard of,
// and gossip does not reach it: the others have moved theirs meanwhile, and it has too.
func TestEnsembleOfStrangers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	third, fourth := c.nodes[2], c.nodes[3]
	c.nodes = c.nodes[:3]
	c.form(patience...)
	third.kill()
	for _, n := range c.nodes[:2] {
		n.kill()
		n.start(append([]string{"--gossip-listen", n.host + ":2890"}, patience...)...)
	}
	for _, n := range c.nodes[:2] {
		n.await()
	}
	fourth.start(append([]string{"--join", c.nodes[0].host + "," + c.nodes[1].host}, patience...)...)
	fourth.await()
	c.nodes = append(c.nodes, fourth)
	c.eventually("n4 votes", func() bool { return !strings.HasPrefix(c.leader().ask("ADMIN PROMOTE n4"), "ERR") })
	c.eventually("n4 leads", func() bool {
		lead := c.leader()
		if lead != fourth {
			lead.ask("ADMIN TRANSFER n4")
		}
		return lead == fourth
	})
	third.start("--gossip-listen", third.host+":2891")
	c.eventually("n3 serves", func() bool {
		got, err := askAt(third.host+":2181", "SYNC /")
		return err == nil && strings.HasPrefix(got, "OK")
	})
	third.await()
	third.does("CREATE /back x")
	c.agree()
}
