package testscripts

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// three is an ensemble of three nodes of the shipped binary.
func three(b *testing.B, hosts int) *cluster {
	b.Helper()
	bin, err := release()
	if err != nil {
		b.Fatal(err)
	}
	c := newCluster(b, hosts)
	c.bin = bin
	if hosts > 3 {
		c.nodes = c.nodes[:3]
	}
	c.form()
	return c
}

// stamps writes through a node, one write at a time, and reports when each was
// acknowledged, until stop is closed. It reconnects when it loses the connection.
func stamps(b *testing.B, addr string, stop <-chan struct{}, acked chan<- time.Time) {
	defer close(acked)
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		in := bufio.NewReader(c)
		for err == nil {
			select {
			case <-stop:
				_ = c.Close()
				return
			default:
			}
			var answer string
			if _, err = fmt.Fprintln(c, "SET /w create x"); err == nil {
				answer, err = in.ReadString('\n')
			}
			if strings.HasPrefix(answer, "OK") {
				acked <- time.Now()
			} else {
				break
			}
		}
		_ = c.Close()
	}
}

// outage is the longest time without an acknowledged write after a blow to the leader.
func (c *cluster) outage(b *testing.B, blow func(lead *node)) time.Duration {
	lead := c.leader()
	other := c.nodes[(slices.Index(c.nodes, lead)+1)%3]
	stop, acked := make(chan struct{}), make(chan time.Time, 1<<20)
	go stamps(b, other.host+":2181", stop, acked)
	time.Sleep(300 * time.Millisecond)
	at := time.Now()
	blow(lead)
	// Until writes have continued for a while.
	longest, last := time.Duration(0), at
	for t := range acked {
		if t.Before(at) {
			continue
		}
		longest = max(longest, t.Sub(last))
		last = t
		if t.Sub(at) > time.Second && longest < t.Sub(at)-500*time.Millisecond {
			break
		}
	}
	close(stop)
	for range acked {
	}
	return longest
}

// BenchmarkFigureFailover measures how long writes stop when the leader is killed,
// stopped, or restarted in an orderly way.
func BenchmarkFigureFailover(b *testing.B) {
	for name, f := range map[string]struct {
		rounds int
		blow   func(lead *node)
		mend   func(lead *node)
	}{
		"killed":      {50, func(n *node) { n.signal(syscall.SIGKILL) }, func(n *node) { n.wait(); n.start(); n.await() }},
		"stopped":     {10, func(n *node) { n.stop() }, func(n *node) { n.signal(syscall.SIGCONT) }},
		"handed over": {10, func(n *node) { n.signal(syscall.SIGTERM) }, func(n *node) { n.wait(); n.start(); n.await() }},
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				c := three(b, 3)
				var took []time.Duration
				for range f.rounds {
					var hit *node
					took = append(took, c.outage(b, func(lead *node) { hit = lead; f.blow(lead) }))
					f.mend(hit)
					c.agree()
				}
				b.ReportMetric(percentile(took, .5).Seconds()*1000, "median-ms")
				b.ReportMetric(percentile(took, 1).Seconds()*1000, "worst-ms")
			}
		})
	}
}

// BenchmarkFigureJoin measures how long a fourth node needs to receive a million
// znodes while a client writes, and how that affects the client.
func BenchmarkFigureJoin(b *testing.B) {
	for range b.N {
		c := three(b, 4)
		lead := c.leader()
		lead.addr = lead.host + ":2181"
		lead.million(b)
		time.Sleep(10 * time.Second)
		pace := func(d time.Duration, stop <-chan struct{}) []time.Duration { return paced(b, lead.addr, 500, d, stop) }
		alone := pace(10*time.Second, nil)
		stop, beside := make(chan struct{}), make(chan []time.Duration)
		go func() { beside <- pace(time.Minute, stop) }()
		time.Sleep(200 * time.Millisecond)
		fourth := &node{c: c, name: "n4", host: c.hosts[3], dir: b.TempDir()}
		c.nodes = append(c.nodes, fourth)
		start := time.Now()
		fourth.start("--join", strings.Join(c.hosts[:3], ","), "--observer")
		fourth.await()
		fourth.synced()
		b.ReportMetric(time.Since(start).Seconds(), "joined-s")
		close(stop)
		during := <-beside
		b.ReportMetric(percentile(alone, .99).Seconds()*1000, "alone-p99-ms")
		b.ReportMetric(percentile(during, .99).Seconds()*1000, "joining-p99-ms")
		c.agree()
	}
}

// BenchmarkFigureIdleEnsemble measures the resources that three idle nodes with ten
// sessions use.
func BenchmarkFigureIdleEnsemble(b *testing.B) {
	for range b.N {
		c := three(b, 3)
		var conns []net.Conn
		for i := range 10 {
			conns = append(conns, dialAll(b, c.hosts[i%3]+":2181", 1, func(int) string { return "SESSION NEW\n" })...)
		}
		time.Sleep(10 * time.Second)
		used, wrote := make([]time.Duration, 3), make([]int64, 3)
		const during = time.Minute
		for i, n := range c.nodes {
			used[i], wrote[i] = n.cpu(), n.written()
		}
		time.Sleep(during)
		for i, n := range c.nodes {
			used[i], wrote[i] = n.cpu()-used[i], n.written()-wrote[i]
		}
		b.ReportMetric(slices.Max(used).Seconds()/during.Seconds()*100, "cpu-%")
		b.ReportMetric(float64(slices.Max(wrote))/1024, "written-KiB/minute")
		closeAll(conns)
	}
}
