package testscripts

import (
	"cmp"
	"context"
	"encoding/json"
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

// cluster is a few hosts with a node each: all are on this machine, with loopback
// addresses that no other test uses, and the default ports.
type cluster struct {
	t     testing.TB
	bin   string // coord, or the shipped binary for measurements
	hosts []string
	nodes []*node
}

// node is a host's folder, and the process that uses it, if there is one.
type node struct {
	*process
	c     *cluster
	name  string
	host  string
	dir   string
	flags []string
	bin   string   // if it is not the cluster's
	under []string // precedes its command line: strace …
}

// newCluster finds free addresses and starts nothing.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux has a whole network of loopback addresses")
	}
	c := &cluster{t: t, bin: "coord"}
	for net16 := fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250)); len(c.hosts) < n; {
		host := fmt.Sprintf("%s.%d", net16, 10+len(c.hosts))
		_, release, err := ports.Reserve(host + ":2888")
		if err != nil { // the address is in use: try another network
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

// initial is the value of --initial.
func (c *cluster) initial() string {
	var list []string
	for _, n := range c.nodes {
		list = append(list, n.name+"="+n.host+":2888")
	}
	return strings.Join(list, ",")
}

// start starts a node and does not wait for it.
func (n *node) start(flags ...string) {
	if len(flags) > 0 {
		n.flags = flags
	}
	n.process = begin(n.c.t, cmp.Or(n.bin, n.c.bin), n.dir, n.under, append([]string{"--name", n.name, "--listen", n.host + ":2181",
		"--peer-listen", n.host + ":2888", "--gossip-listen", n.host + ":2889"}, n.flags...)...)
}

// await waits until a node accepts clients.
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

// row is a line of ADMIN MEMBERS.
type row struct {
	ID, Name, Role, Peer, Client, Digest string
	Vote, Up                             int `json:",string"`
}

// members asks a node for the members.
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

// votes counts the votes.
func votes(rows []row) (n int) {
	for _, r := range rows {
		n += r.Vote
	}
	return n
}

// restart kills all nodes, and starts them again on their data.
func (c *cluster) restart() {
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range c.nodes {
		n.start()
	}
	for _, n := range c.nodes {
		n.await()
	}
}

// eventually fails the test unless so returns true in time.
func (c *cluster) eventually(what string, so func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(hung); !so(); time.Sleep(20 * time.Millisecond) {
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

// leader waits until all running nodes name the same leader.
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

// patience is for tests in which a pause of the machine must not cause an election:
// that would refuse writes, or move the leadership.
var patience = []string{"--election-ticks", "50"}

// leaderless says whether a reply comes from an election, which a pause of the machine
// may cause.
func leaderless(answer string) bool {
	return strings.HasPrefix(answer, "ERR NOLEADER") || strings.HasPrefix(answer, "ERR UNCERTAIN")
}

// does does a write, and repeats it after elections.
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

// synced sends lines after a SYNC, so that they see everything that was acknowledged by any node.
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

// agree waits until all running nodes have the same state.
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

// TestEnsembleForms: three empty hosts, one command each, form an ensemble, by a
// list and by a count.
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
			// All restart at once, with nothing but their folders.
			c.restart()
			for _, n := range c.nodes {
				if got := n.synced("LS /"); !strings.Contains(got, "by1") {
					t.Fatalf("%s has lost a write: %s", n.name, got)
				}
			}
		})
	}
}

// TestEnsembleGrows: a single node with data becomes three, and a fourth node observes.
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
	go func() { // while the others join
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
	// The first node is no longer needed.
	first.kill()
	if lead := c.leader(); lead == first {
		t.Fatal("the dead node leads")
	}
	c.nodes[1].does("CREATE /without x")
}

// TestEnsembleFaults: under load, one node, the leader or all nodes are killed, or
// stopped and continued; every node has what was acknowledged.
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
				n.stop()
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
		for _, n := range c.nodes {
			n.settle()
		}
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

// TestEnsembleMoves: a node comes back at another address, without flags that name the
// others, and then all nodes do so at once.
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
	for i, n := range c.nodes { // they know where to look, but not which node is where
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

// TestEnsembleMovesUnseen: a node has a new address, and gossip finds no node, since its
// ports have changed on all nodes. The node finds the others, and tells them its new
// address on the links.
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

// TestEnsembleAdds: an operator adds a node that waits for others, and removes it
// again.
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
		return err == nil && strings.HasPrefix(got, "ERR NOLEADER - the node is not serving yet: waiting for 8 more of 9 nodes")
	})
	for ask, want := range map[string]string{"ruok": "imok", "srvr": "This ZooKeeper instance is not currently serving requests"} {
		if got, err := askAt(fourth.host+":2181", ask); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s, while it waits: %q %v", ask, got, err)
		}
	}
	var added string
	c.eventually("somebody leads", func() bool {
		added = c.nodes[0].ask("ADMIN ADD " + fourth.host + ":2888")
		return !strings.HasPrefix(added, "ERR NOLEADER")
	})
	if !strings.HasPrefix(added, "ERR UNCERTAIN") && (!strings.HasPrefix(added, "LIST 1") || !strings.Contains(added, "name=n4")) {
		t.Fatalf("add: %s", added) // UNCERTAIN: it takes longer than the reply waits
	}
	fourth.await()
	fourth.does("CREATE /fourth x")
	for _, bad := range []string{"ADMIN ADD " + fourth.host + ":2888", "ADMIN REMOVE nobody", "ADMIN PROMOTE", "ADMIN FROB x"} {
		if got := c.nodes[0].ask(bad); !strings.HasPrefix(got, "ERR") {
			t.Errorf("%s: %s", bad, got)
		}
	}
	// Without n3 two votes of two are needed: refused while one of these nodes is down.
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
		return strings.HasPrefix(got, "ERR UNSAFE") // not only that no node leads yet
	})
	c.nodes[1].start()
	c.nodes[1].await()
	c.eventually("n4 is removed", func() bool {
		if !strings.HasPrefix(c.leader().ask("ADMIN REMOVE n4"), "ERR") {
			return true
		}
		rows, err := c.nodes[0].members() // it may be removed although the reply was UNCERTAIN
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

// TestEnsembleWithoutItsLeader: a follower that is asked to remove the leader leads next,
// and removes it.
func TestEnsembleWithoutItsLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.form(patience...)
	lead := c.leader()
	other := lead.others()[0]
	c.eventually("it is removed", func() bool {
		got := other.ask("ADMIN REMOVE " + lead.name)
		if strings.HasPrefix(got, "ERR") && !leaderless(got) && lead.lives() {
			t.Fatalf("remove: %s", got)
		}
		rows, err := other.members() // it may be removed although the reply was UNCERTAIN
		return err == nil && len(rows) == 1
	})
	if code := lead.wait(); code != 15 {
		t.Fatalf("a node that was removed ends with %d: %s", code, lead.stderr())
	}
	other.does("CREATE /alone x")
}

// TestEnsembleLeaves: a node that leaves gets its reply and ends normally, leader or not,
// even if other nodes tell it first that it is no longer a member.
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
			return !leaderless(got) || !last.lives()
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

// TestEnsembleLeaderCannotLeave: a leader whose followers have just ended is refused at once, since too
// few voters would remain.
func TestEnsembleLeaderCannotLeave(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.form(patience...)
	c.eventually("it leads still when it is asked", func() bool {
		lead := c.leader()
		other := lead.others()[0]
		lost := func() int { return strings.Count(lead.stderr(), `"message":"peer lost"`) }
		before := lost()
		other.kill()
		c.eventually("it is known", func() bool { return lost() > before })
		got := lead.ask("ADMIN LEAVE")
		if strings.HasPrefix(got, "ERR NOLEADER") { // it took so long that it leads no more
			other.start()
			other.await()
			return false
		}
		if !strings.HasPrefix(got, "ERR UNSAFE") {
			t.Errorf("it leaves: %s", got)
		}
		return true
	})
}

// TestEnsembleTransfersTwice: while the leadership is being transferred to one node, a transfer to another
// node is requested. The second node gets the leadership from the first.
func TestEnsembleTransfersTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	c.form("--election-ticks", "20")
	c.eventually("two transfers at once", func() bool {
		lead := c.leader()
		others := lead.others()
		others[2].stop() // a hand-over waits for it for half an election timeout
		defer others[2].signal(syscall.SIGCONT)
		first := make(chan string, 1)
		go func() {
			got, err := askAt(lead.host+":2181", "ADMIN TRANSFER "+others[0].name)
			first <- fmt.Sprint(got, err)
		}()
		for lead.takesWrite() {
			select {
			case got := <-first:
				t.Logf("the first was over before the second was asked for: %s", got)
				return false
			case <-time.After(10 * time.Millisecond):
			}
		}
		got, err := askAt(lead.host+":2181", "ADMIN TRANSFER "+others[1].name)
		others[2].signal(syscall.SIGCONT)
		if leaderless(got) || err == nil && c.leader() != others[1] {
			t.Logf("an election came between: %s%s", got, <-first)
			return false
		}
		if err != nil || !strings.Contains(got, "name="+others[1].name+" role=leader") {
			t.Errorf("the second: %s%v", got, err)
		}
		t.Log(<-first)
		return true
	})
}

// takesWrite says whether a write is answered within half a second.
func (n *node) takesWrite() bool {
	nc, err := net.Dial("tcp", n.host+":2181")
	if err != nil {
		n.t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(500 * time.Millisecond))
	_, _ = nc.Write([]byte("SET / x\n"))
	got, _ := nc.Read(make([]byte, 1))
	return got > 0
}

// TestEnsembleIsRecoveredMeanwhile: a node waits to join an ensemble that has lost its quorum, and joins
// its successor after a recovery, which is another cluster.
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
		return err == nil && strings.Contains(got, "waiting to be added to ensemble")
	})
	const refused = "not admitted to the cluster yet"
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
	last := map[string]string{} // by address: why it was not taken in, said when the reason is another one than before
	for line := range strings.Lines(fresh.stderr()) {
		var l struct{ Level, Error, Addr, Message string }
		if json.Unmarshal([]byte(line), &l) != nil || l.Message != refused || l.Level == "debug" {
			continue
		}
		if last[l.Addr] == l.Error {
			t.Errorf("it says again: %s", line)
		}
		last[l.Addr] = l.Error
	}
}

// TestEnsembleOfStrangers: a node comes back to an ensemble whose leader it does not know, and
// gossip does not reach it: its own gossip port and those of the others have changed meanwhile.
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
