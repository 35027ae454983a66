package testscripts

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// traffic is a few clients that write to the nodes of an ensemble in turn. Each connection
// has keys of its own: an unconfirmed write of an earlier connection may take effect
// later, and must not look like the loss of a confirmed one.
type traffic struct {
	t       *testing.T
	c       *cluster
	stop    context.CancelFunc
	clients sync.WaitGroup
	// confirmed is the number of confirmed writes up to the last check, which wants more than 0.
	confirmed int
	mu        struct {
		sync.Mutex
		idle, used []*pair // used: since the last check
	}
}

// pair is two keys that one connection writes, always both with the same number.
type pair struct {
	id, sent, acked int
	news            int // confirmed since the last check
}

const (
	trafficClients = 4
	// trafficPace is the pause between two writes of a client: all nodes of a test are on
	// one machine.
	trafficPace = 2 * time.Millisecond
)

// underTraffic forms an ensemble on small disks and starts clients that write to it.
func underTraffic(t *testing.T, flags ...string) *traffic {
	t.Helper()
	c := newCluster(t, 3)
	for _, n := range c.nodes {
		n.dir = filepath.Join(smallDisk(t, "48m"), "data")
	}
	c.form(flags...)
	x := &traffic{t: t, c: c}
	x.begin()
	t.Cleanup(x.end)
	return x
}

func (x *traffic) begin() {
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	for i := range trafficClients {
		x.clients.Go(func() {
			for at := i; ctx.Err() == nil; at++ {
				x.client(ctx, x.c.hosts[at%len(x.c.hosts)]+":2181")
				rest(ctx, 10*trafficPace)
			}
		})
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// end stops the clients.
func (x *traffic) end() {
	x.stop()
	x.clients.Wait()
}

// take gives a client keys that no client has written since the last check.
func (x *traffic) take() (p *pair) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := len(x.mu.idle); n > 0 {
		p, x.mu.idle = x.mu.idle[n-1], x.mu.idle[:n-1]
	} else {
		p = &pair{id: len(x.mu.used) + 1}
	}
	x.mu.used = append(x.mu.used, p)
	return p
}

// client writes until the connection breaks, a write is refused, or ctx ends.
func (x *traffic) client(ctx context.Context, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	p := x.take()
	in, padding := bufio.NewReader(c), strings.Repeat("x", 200)
	for ctx.Err() == nil {
		p.sent++
		fmt.Fprintf(c, "TXN 2\nSET /left%d create \"%d %s\"\nSET /right%d create %d\n", p.id, p.sent, padding, p.id, p.sent)
		for range 3 { // LIST, and a line for each operation
			if line, err := in.ReadString('\n'); err != nil || strings.HasPrefix(line, "ERR") {
				return
			}
		}
		p.acked = p.sent
		p.news++
		rest(ctx, trafficPace)
	}
}

// check compares the pair on a node with what was confirmed.
func (p *pair) check(t *testing.T, n *node) {
	t.Helper()
	left, right := value(t, n.ask(fmt.Sprintf("GET /left%d", p.id))), value(t, n.ask(fmt.Sprintf("GET /right%d", p.id)))
	if left != right || left < p.acked || left > p.sent {
		t.Fatalf("%s: /left%d holds %d and /right%d %d; %d was confirmed, %d sent", n.name, p.id, left, p.id, right, p.acked, p.sent)
	}
	p.sent, p.acked = left, left
}

// check stops the clients, and checks that everything that was ever confirmed is there.
func (x *traffic) check() {
	x.t.Helper()
	x.end()
	for _, p := range x.mu.used {
		x.confirmed += p.news
		p.news = 0
	}
	if x.confirmed == 0 {
		x.t.Fatal("nothing was confirmed: the test tested nothing")
	}
	x.mu.idle, x.mu.used = append(x.mu.idle, x.mu.used...), nil
	for _, n := range x.c.nodes {
		n.settle()
	}
	for i, n := range x.c.nodes {
		n.synced()
		for j, p := range x.mu.idle {
			if j%len(x.c.nodes) == i { // one node each is enough: agree compares the nodes
				p.check(x.t, n)
			}
		}
	}
	x.c.agree()
}

// others are the other nodes.
func (n *node) others() []*node {
	return slices.DeleteFunc(slices.Clone(n.c.nodes), func(o *node) bool { return o == n })
}

// settle waits until every write is decided that a client sent to the node and then abandoned. The node may begin such
// a write after the client has gone, and a follower sends its writes to the leader in their order.
func (n *node) settle() {
	n.c.t.Helper()
	n.c.eventually("the clients of "+n.name+" are gone", func() bool { return n.fact("num_alive_connections") == "1" })
	n.takes(1)
}

// takes waits until this many writes through the node were confirmed, one after the other.
func (n *node) takes(writes int) (took time.Duration) {
	n.c.t.Helper()
	began, i := time.Now(), 0
	n.c.eventually(fmt.Sprintf("%d writes through %s", writes, n.name), func() bool {
		for ; i < writes; i++ {
			if got, err := askAt(n.host+":2181", fmt.Sprintf("SET /probe create %d", i)); err != nil || !strings.HasPrefix(got, "OK") {
				return false
			}
		}
		return true
	})
	return time.Since(began)
}

// id is the node's id, as another node knows it.
func (n *node) id() (id string) {
	n.c.t.Helper()
	n.c.eventually("the id of "+n.name, func() bool {
		rows, err := n.others()[0].members()
		i := slices.IndexFunc(rows, func(r row) bool { return r.Name == n.name })
		if err == nil && i >= 0 {
			id = rows[i].ID
		}
		return id != ""
	})
	return id
}

// whole waits until three voters are up, none of them with the id gone.
func (c *cluster) whole(gone string) {
	c.t.Helper()
	c.eventually("three voters, and not "+gone, func() bool {
		rows, err := c.nodes[0].members()
		return err == nil && len(rows) == 3 && !slices.ContainsFunc(rows, func(r row) bool { return r.Vote != 1 || r.Up != 1 || r.ID == gone })
	})
}

// follower is a node that does not lead.
func (c *cluster) follower() *node {
	c.t.Helper()
	return c.leader().others()[0]
}

// lead makes the node the leader.
func (n *node) lead() {
	n.c.t.Helper()
	n.c.eventually(n.name+" leads", func() bool {
		if n.c.leader() == n {
			return true
		}
		_, _ = askAt(n.others()[0].host+":2181", "ADMIN TRANSFER "+n.name)
		return false
	})
}
