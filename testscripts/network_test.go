package testscripts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A test with partitions needs a network of its own. So it runs itself again in a
// network namespace, in which packets from one address of the loopback network to
// another can be dropped, for each direction separately. inNamespace is set in that
// second run.
const inNamespace = "COORD_TEST_NAMESPACE"

// ownsNetwork says whether the test has a network of its own. If not, mayOwn says
// whether it could run itself again in one.
func ownsNetwork(t *testing.T) (owns, mayOwn bool) {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		return false, exec.Command("unshare", "--net", "true").Run() == nil
	}
	ip(t, "link", "set", "lo", "up")
	ip(t, "rule", "add", "pref", "100", "lookup", "local")
	ip(t, "rule", "del", "pref", "0")
	return true, false
}

// runInNetwork runs a test again in a network namespace.
func runInNetwork(t *testing.T, flags ...string) {
	t.Helper()
	c := exec.Command("unshare", slices.Concat([]string{"--net", os.Args[0], "-test.run", "^" + t.Name() + "$", "-test.v"}, flags)...)
	c.Env = append(os.Environ(), inNamespace+"=1")
	c.Stdout, c.Stderr = t.Output(), t.Output()
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
}

// apart drops all packets from one node to another.
func apart(t *testing.T, from, to *node) {
	t.Helper()
	ip(t, "rule", "add", "pref", "10", "from", from.host, "to", to.host, "blackhole")
}

// heal stops dropping packets.
func heal(t *testing.T) {
	t.Helper()
	for exec.Command("ip", "rule", "del", "pref", "10").Run() == nil {
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// TestEnsembleNetwork cuts links while clients write and read, and checks that
// their history is linearizable.
func TestEnsembleNetwork(t *testing.T) {
	t.Parallel()
	need(t, "ip", "unshare")
	switch owns, mayOwn := ownsNetwork(t); {
	case owns:
	case !mayOwn:
		t.Skip("SKIPPED: a network namespace needs rights that this user does not have")
	default:
		runInNetwork(t, "-test.timeout", "20m")
		return
	}

	c := form(t, "--sync-limit", "3s")
	h := &history{}
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			h.client(ctx, i, []string{c.hosts[i%3] + ":2181", c.hosts[(i+1)%3] + ":2181"}, rand.New(rand.NewPCG(uint64(i), 1)))
		})
	}
	both := func(a, b *node) { apart(t, a, b); apart(t, b, a) }
	others := func(n *node) (list []*node) {
		for _, o := range c.nodes {
			if o != n {
				list = append(list, o)
			}
		}
		return list
	}
	writes := func(n *node) bool {
		got, err := askAt(n.host+":2181", "SET /probe create x")
		return err == nil && strings.HasPrefix(got, "OK")
	}
	for name, cut := range map[string]func(lead *node) (majority *node){
		"the leader is cut off": func(lead *node) *node {
			for _, o := range others(lead) {
				both(lead, o)
			}
			return others(lead)[0]
		},
		"a follower is cut off": func(lead *node) *node {
			f := others(lead)[0]
			for _, o := range others(f) {
				both(f, o)
			}
			return lead
		},
		"nothing from the leader arrives": func(lead *node) *node {
			for _, o := range others(lead) {
				apart(t, lead, o)
			}
			return others(lead)[0]
		},
		"nothing arrives at the leader": func(lead *node) *node {
			for _, o := range others(lead) {
				apart(t, o, lead)
			}
			return others(lead)[0]
		},
		"two of three links": func(lead *node) *node { // a line of nodes with the leader at one end
			both(lead, others(lead)[0])
			return others(lead)[1]
		},
	} {
		lead := c.leader()
		majority := cut(lead)
		began := time.Now()
		c.eventually(name+": the majority writes", func() bool { return writes(majority) })
		t.Logf("%s: writes go on after %v", name, time.Since(began).Round(10*time.Millisecond))
		time.Sleep(time.Second)
		heal(t)
		began = time.Now()
		for _, n := range c.nodes {
			c.eventually(fmt.Sprintf("%s, healed: %s writes", name, n.name), func() bool { return writes(n) })
		}
		t.Logf("%s, healed: all write after %v", name, time.Since(began).Round(10*time.Millisecond))
	}
	// A minority refuses writes with an error and disconnects ZooKeeper's clients.
	lead := c.leader()
	for _, o := range others(lead) {
		both(lead, o)
	}
	c.eventually("the minority says NOLEADER", func() bool {
		got, err := askAt(lead.host+":2181", "SET /probe create x")
		return err == nil && strings.HasPrefix(got, "ERR NOLEADER")
	})
	heal(t)
	c.leader()
	stop()
	clients.Wait()
	h.check(t)
	aTransferIsKnown(c)
	lead = c.leader()
	aHolderIsCutOff(c, lead)
	aHolderIsCutOff(c, others(lead)[0])
	c.agree()
}

// aTransferIsKnown: a node is asked for a transfer between the two others, and hears of the new leader late. It
// answers when it knows, unless that takes very long, as it may on a busy machine.
func aTransferIsKnown(c *cluster) {
	t := c.t.(*testing.T)
	c.eventually("the reply to a transfer shows the new leader", func() bool {
		lead := c.leader()
		asked, to := lead.others()[0], lead.others()[1]
		apart(t, to, asked)
		healed := make(chan struct{})
		go func() {
			defer close(healed)
			time.Sleep(50 * time.Millisecond) // and then until TCP sends again what was lost
			heal(t)
		}()
		got := asked.ask("ADMIN TRANSFER " + to.name)
		<-healed
		if !strings.Contains(got, "name="+to.name+" role=leader") {
			t.Logf("a transfer to %s: %s", to.name, got)
			return false
		}
		return true
	})
}

// aHolderIsCutOff partitions the node of a client that holds a lock from the others. The next
// client gets the lock, at another node, and by then the command of the first client is dead.
func aHolderIsCutOff(c *cluster, at *node) {
	t := c.t.(*testing.T)
	dir := t.TempDir()
	fenced, plain := filepath.Join(dir, "fenced"), filepath.Join(dir, "plain")
	next := at.others()[0]
	lock := func(n *node, writes string) *exec.Cmd {
		cmd := exec.Command("coord", "lock", "-q", "--server", n.host+":2181", "--ttl", "8s", "--grace", "3s", "/lock-at-"+at.name,
			"--", "coord-critical", fenced, plain, writes)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	first := lock(at, "100000") // more than it gets to
	c.eventually("somebody has the lock", func() bool { _, err := os.Stat(plain); return err == nil })
	second := lock(next, "5")
	c.eventually("somebody waits for it", func() bool {
		out, _, _ := run(t, "lock", "ls", "--server", next.host+":2181", "/lock-at-"+at.name)
		return strings.Count(out, "\n") == 2
	})
	for _, o := range at.others() {
		bothWays(t, at, o)
	}
	began := time.Now()
	if err := second.Wait(); err != nil {
		t.Errorf("the one who waited ended with %v", err)
	}
	t.Logf("the lock was taken over, and given back, after %v", time.Since(began).Round(10*time.Millisecond))
	if err := first.Wait(); first.ProcessState.ExitCode() != 123 {
		t.Errorf("the holder at the node that is cut off ended with %v", err)
	}
	heal(t)
	checkFenced(t, fenced)
	if n := overlaps(t, plain); n > 0 {
		t.Errorf("%d overlaps", n)
	}
	c.leader()
}
