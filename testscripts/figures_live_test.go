package testscripts

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// dialAll opens n connections; each sends what say returns and reads the reply.
func dialAll(b testing.TB, addr string, n int, say func(i int) string) []net.Conn {
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		conns[i] = c
		if _, err := io.WriteString(c, say(i)); err != nil {
			b.Fatal(err)
		}
	}
	for i, c := range conns {
		if l, err := bufio.NewReaderSize(c, 256).ReadString('\n'); err != nil || !strings.HasPrefix(l, "OK") {
			b.Fatalf("connection %d: %q, %v", i, l, err)
		}
	}
	return conns
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// BenchmarkFigureSessions: 10,000 idle text sessions.
func BenchmarkFigureSessions(b *testing.B) {
	for range b.N {
		p := startRelease(b, b.TempDir())
		conns := dialAll(b, p.addr, 10_000, func(int) string { return "SESSION NEW ttl=1m live=tcp\n" })
		time.Sleep(8 * time.Second) // by then the memory that opening them has used is returned
		b.ReportMetric(float64(p.rss())/(1<<20), "RSS-MiB")
		cpu := p.cpu()
		time.Sleep(10 * time.Second)
		b.ReportMetric((p.cpu()-cpu).Seconds()/10*100, "cpu-%")
		closeAll(conns)
	}
}

// BenchmarkFigureStalled compares the p99 of a client that writes, with and without
// 1,000 clients that follow the writes and never read, in turns: first while all of
// them fall behind, then afterwards.
func BenchmarkFigureStalled(b *testing.B) {
	p := startRelease(b, b.TempDir())
	load(b, p.addr, 1, 1, 1, 1, func(dst []byte, _, _ int) []byte { return append(dst, "CREATE /app \"\"\n"...) })
	value := strings.Repeat("x", 100)
	healthy := func() time.Duration {
		return percentile(load(b, p.addr, 1, 4, 8000, 1, func(dst []byte, _, i int) []byte {
			return fmt.Appendf(dst, "SET /app/k%d create %s\n", i%100, value)
		}), .99)
	}
	healthy()
	for range b.N {
		var firsts, ratios, with, without []time.Duration
		for range 5 {
			off := healthy()
			conns := dialAll(b, p.addr, 1000, func(int) string { return "FOLLOW /app recursive data\n" })
			first, on := healthy(), healthy()
			closeAll(conns)
			time.Sleep(500 * time.Millisecond)
			ratio := func(x time.Duration) time.Duration { return time.Duration(float64(x) / float64(off) * 1e6) }
			with, without = append(with, on), append(without, off)
			firsts, ratios = append(firsts, ratio(first)), append(ratios, ratio(on))
		}
		b.ReportMetric(float64(percentile(with, .5).Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(percentile(without, .5).Microseconds())/1000, "without-p99-ms")
		b.ReportMetric(float64(percentile(firsts, .5))/1e6, "first-ratio")
		b.ReportMetric(float64(percentile(ratios, .5))/1e6, "ratio")
		b.ReportMetric(float64(p.rss())/(1<<20), "RSS-MiB")
		b.ReportMetric(p.number("coord_slow_clients"), "cut-off")
	}
}

// BenchmarkFigureHandover measures how long it takes until the next client has the
// lock when the holder's connection dies, when the holder falls silent (ttl 1 s),
// and when the holder releases it while 1,000 clients wait.
func BenchmarkFigureHandover(b *testing.B) {
	p := startRelease(b, b.TempDir())
	for range b.N {
		var died, silent, released []time.Duration
		for range 5 {
			holder := dialAll(b, p.addr, 1, func(int) string { return "LOCK /l\n" })
			died = append(died, handover(b, p.addr, func() { closeAll(holder) }))
			holder = dialAll(b, p.addr, 1, func(int) string { return "SESSION NEW ttl=1s live=ping\n" })
			r := bufio.NewReader(holder[0])
			_, _ = io.WriteString(holder[0], "LOCK /l\n")
			if l, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(l, "OK") {
				b.Fatal(l, err)
			}
			silent = append(silent, handover(b, p.addr, func() {}))
			closeAll(holder)
		}
		const waiters = 1000
		conns := dialAll(b, p.addr, 1, func(int) string { return "LOCK /many\n" })
		queue := make([]*bufio.Reader, waiters)
		for i := range queue {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				b.Fatal(err)
			}
			conns = append(conns, c)
			queue[i] = bufio.NewReaderSize(c, 256)
			if _, err := io.WriteString(c, "LOCK /many timeout=5m\n"); err != nil {
				b.Fatal(err)
			}
			for strings.Count(p.ask("LS /many limit=2000"), "ITEM") < i+2 { // so that they queue in this order
				time.Sleep(100 * time.Microsecond)
			}
		}
		cpu := p.cpu()
		for i, r := range queue {
			start := time.Now()
			if _, err := io.WriteString(conns[i], "UNLOCK /many\n"); err != nil {
				b.Fatal(err)
			}
			if l, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(l, "OK token=") {
				b.Fatalf("waiter %d: %q, %v", i, l, err)
			}
			released = append(released, time.Since(start))
		}
		b.ReportMetric(float64((p.cpu()-cpu).Microseconds())/waiters, "cpu-µs/release")
		b.ReportMetric(percentile(died, 1).Seconds()*1000, "died-max-ms")
		b.ReportMetric(percentile(silent, 1).Seconds()*1000, "silent-max-ms")
		b.ReportMetric(percentile(released, .5).Seconds()*1000, "released-p50-ms")
		b.ReportMetric(percentile(released, .99).Seconds()*1000, "released-p99-ms")
		closeAll(conns)
	}
}

// handover measures how long a client waits for the lock after lose was called.
func handover(b *testing.B, addr string, lose func()) time.Duration {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "LOCK /l timeout=1m\n"); err != nil {
		b.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	lose()
	if l, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(l, "OK") {
		b.Fatal(l, err)
	}
	return time.Since(start)
}

// BenchmarkFigureGet measures one whole coord get.
func BenchmarkFigureGet(b *testing.B) {
	p := startRelease(b, b.TempDir())
	bin, err := release()
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for range b.N {
		for range 200 {
			start := time.Now()
			if err := exec.Command(bin, "get", "--server", p.addr, "/").Run(); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		b.ReportMetric(percentile(took, .5).Seconds()*1000, "p50-ms")
		b.ReportMetric(percentile(took, .99).Seconds()*1000, "p99-ms")
	}
}
