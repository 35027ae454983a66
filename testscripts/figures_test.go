package testscripts

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"coord/wal"
)

// The figures of docs/benchmarks.md: the real binary runs in a process of its own,
// so that CPU time and memory are measured separately; the load comes from this
// process.
//
//	go test ./testscripts -run '^$' -bench Figure -benchtime 1x -timeout 30m

// release builds the binary as it is shipped; the test binary differs.
var release = sync.OnceValues(func() (string, error) { return build("release") })

func startRelease(b *testing.B, dir string, flags ...string) *process {
	b.Helper()
	bin, err := release()
	if err != nil {
		b.Fatal(err)
	}
	p, err := startBinary(b, bin, dir, nil, flags...)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	sys, _ := strconv.Atoi(f[12])
	return time.Duration(user+sys) * 10 * time.Millisecond
}

// written is the number of bytes that the process has caused to be written to disk.
func (p *process) written() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	p.t.Fatal("no write_bytes")
	return 0
}

// rss is the resident memory of the process, in bytes.
func (p *process) rss() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for l := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// number is a numeric fact of INFO.
func (p *process) number(key string) float64 {
	x, err := strconv.ParseFloat(p.fact(key), 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return x
}

// load keeps up to outstanding requests in flight on each of conns connections
// until each connection has sent perConn: when half of them are answered, it sends
// as many new ones in one write. request appends the i-th request of a connection;
// lines is the number of lines in a reply. It returns the latencies.
func load(b testing.TB, addr string, conns, outstanding, perConn, lines int, request func(dst []byte, conn, i int) []byte) []time.Duration {
	b.Helper()
	var wg sync.WaitGroup
	all := make([][]time.Duration, conns)
	for n := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			r := bufio.NewReaderSize(c, 64<<10)
			sentAt := make([]time.Time, perConn)
			latencies := make([]time.Duration, 0, perConn)
			var buf []byte
			sent := 0
			for done := 0; done < perConn; {
				if free := min(outstanding-(sent-done), perConn-sent); free >= (outstanding+1)/2 || sent == done {
					buf = buf[:0]
					now := time.Now()
					for range free {
						buf = request(buf, n, sent)
						sentAt[sent] = now
						sent++
					}
					if _, err := c.Write(buf); err != nil {
						b.Error(err)
						return
					}
				}
				// One reply, and all others that have arrived.
				for first := true; done < sent && (first || r.Buffered() > 0); first = false {
					for range lines {
						l, err := r.ReadSlice('\n')
						if err != nil || bytes.HasPrefix(l, []byte("ERR")) {
							b.Errorf("answer %d of connection %d: %q %v", done, n, l, err)
							return
						}
					}
					latencies = append(latencies, time.Since(sentAt[done]))
					done++
				}
			}
			all[n] = latencies
		})
	}
	wg.Wait()
	return slices.Concat(all...)
}

func percentile(d []time.Duration, p float64) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, int(float64(len(d))*p))]
}

func BenchmarkFigureWrites(b *testing.B) {
	p := startRelease(b, b.TempDir())
	value := strings.Repeat("x", 100)
	load(b, p.addr, 16, 64, 1000, 1, func(dst []byte, n, i int) []byte {
		return fmt.Appendf(dst, "SET /c%d-%d create %s\n", n, i, value)
	})
	for range b.N {
		const perConn = 40_000
		cpu, start, syncs := p.cpu(), time.Now(), p.number("coord_fsyncs")
		lat := load(b, p.addr, 16, 64, perConn, 1, func(dst []byte, n, i int) []byte {
			dst = strconv.AppendInt(append(dst, "SET /c"...), int64(n), 10)
			dst = strconv.AppendInt(append(dst, '-'), int64(i%1000), 10)
			return append(append(append(dst, " create "...), value...), '\n')
		})
		took, used := time.Since(start), p.cpu()-cpu
		n := float64(16 * perConn)
		b.ReportMetric(n/took.Seconds(), "writes/s")
		b.ReportMetric(float64(used.Microseconds())/n, "cpu-µs/write")
		batch := n / (p.number("coord_fsyncs") - syncs)
		bare := bareLog(b, int(batch))
		b.ReportMetric(batch, "writes/fsync")
		b.ReportMetric(n/took.Seconds()/bare, "writes/bare-log")
		b.ReportMetric(percentile(lat, .5).Seconds()*1000, "p50-ms")
		b.ReportMetric(percentile(lat, .99).Seconds()*1000, "p99-ms")
	}
}

// bareLog appends batches of this many entries of 150 bytes, each batch with an
// fsync, for two seconds, and returns the entries per second.
func bareLog(b *testing.B, batch int) float64 {
	l, _, err := wal.Open(filepath.Join(b.TempDir(), "wal"), wal.Options{Meta: wal.Meta{NodeID: 1}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	data := make([]byte, 150)
	start := time.Now()
	index := uint64(0)
	for time.Since(start) < 2*time.Second {
		entries := make([]*raftpb.Entry, batch)
		for i := range entries {
			index++
			entries[i] = &raftpb.Entry{Index: new(index), Term: new(uint64(1)), Data: data}
		}
		if err := l.Append(wal.Batch{Entries: entries, HardState: wal.HardState{Term: 1}, Sync: true}); err != nil {
			b.Fatal(err)
		}
	}
	return float64(index) / time.Since(start).Seconds()
}

func BenchmarkFigureReads(b *testing.B) {
	p := startRelease(b, b.TempDir())
	value := strings.Repeat("x", 100)
	load(b, p.addr, 1, 64, 1000, 1, func(dst []byte, _, i int) []byte {
		return fmt.Appendf(dst, "CREATE /k%d %s\n", i, value)
	})
	for range b.N {
		const perConn = 100_000
		cpu, start := p.cpu(), time.Now()
		lat := load(b, p.addr, 16, 64, perConn, 2, func(dst []byte, _, i int) []byte {
			return append(strconv.AppendInt(append(dst, "GET /k"...), int64(i%1000), 10), 10)
		})
		_ = lat
		took, used := time.Since(start), p.cpu()-cpu
		n := float64(16 * perConn)
		b.ReportMetric(n/took.Seconds(), "reads/s")
		b.ReportMetric(float64(used.Microseconds())/n, "cpu-µs/read")
	}
}

// million fills the server with a million znodes of 100 bytes, with names of 8
// bytes, 1,000 in a folder. No two values are equal: they are hexadecimal digits,
// which compress to half their size.
func (p *process) million(b testing.TB) {
	digits := make([]byte, 1<<20)
	for i := range digits {
		digits[i] = "0123456789abcdef"[rand.N(16)]
	}
	value := func(i int) []byte { return digits[i*7919%(len(digits)-100):][:100] }
	const folders = 1000
	load(b, p.addr, 1, 64, folders, 1, func(dst []byte, _, i int) []byte {
		return fmt.Appendf(dst, "CREATE /dir%05d \"\"\n", i)
	})
	load(b, p.addr, 10, 500, folders*100, 1, func(dst []byte, conn, i int) []byte {
		return fmt.Appendf(dst, "CREATE /dir%05d/n%07d %s\n", conn*100+i/1000, i%1000, value(conn*folders*100+i))
	})
}

func BenchmarkFigureMillion(b *testing.B) {
	for range b.N {
		dir := b.TempDir()
		p := startRelease(b, dir)
		start := time.Now()
		p.million(b)
		b.ReportMetric(1_001_000/time.Since(start).Seconds(), "creates/s")
		time.Sleep(5 * time.Second)
		b.ReportMetric(float64(p.rss())/(1<<20), "RSS-MiB")
		p.kill()
		start = time.Now()
		p = startRelease(b, dir)
		b.ReportMetric(time.Since(start).Seconds(), "restart-s")
		b.ReportMetric(float64(p.rss())/(1<<20), "restart-RSS-MiB")
	}
}

func BenchmarkFigureIdle(b *testing.B) {
	for range b.N {
		dir := b.TempDir()
		startRelease(b, dir).kill()
		start := time.Now()
		p := startRelease(b, dir)
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ready-ms")
		time.Sleep(2 * time.Second)
		cpu := p.cpu()
		time.Sleep(30 * time.Second)
		b.ReportMetric((p.cpu()-cpu).Seconds()/30*100, "cpu-%")
		b.ReportMetric(float64(p.rss())/(1<<20), "RSS-MiB")
	}
}

// echo is the program coord-echo: a bare server that sends back what it receives.
// It prints its address as its first line.
func echo() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err := c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func startEcho(b *testing.B) (addr string) {
	c := exec.Command("coord-echo")
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	addr, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// BenchmarkFigureOneByOne compares one connection with one request in flight with a
// bare echo server in Go, in turns.
func BenchmarkFigureOneByOne(b *testing.B) {
	p := startRelease(b, b.TempDir())
	load(b, p.addr, 1, 1, 1, 1, func(dst []byte, _, _ int) []byte {
		return fmt.Appendf(dst, "CREATE /k %s\n", strings.Repeat("x", 100))
	})
	echo := startEcho(b)
	for range b.N {
		var ours, bare []time.Duration
		for range 5 {
			ours = append(ours, load(b, p.addr, 1, 1, 10_000, 2, func(dst []byte, _, _ int) []byte {
				return append(dst, "GET /k\n"...)
			})...)
			bare = append(bare, load(b, echo, 1, 1, 10_000, 1, func(dst []byte, _, _ int) []byte {
				return append(dst, "GET /k\n"...)
			})...)
		}
		b.ReportMetric(float64(percentile(ours, .5).Nanoseconds())/1000, "GET-p50-µs")
		b.ReportMetric(float64(percentile(bare, .5).Nanoseconds())/1000, "echo-p50-µs")
		b.ReportMetric(float64(percentile(ours, .5))/float64(percentile(bare, .5)), "GET/echo")
	}
}

// paced sends writes at a fixed rate for some time and returns the latencies,
// counted from the moment when each write was due.
func paced(b testing.TB, addr string, perSecond int, d time.Duration, stop <-chan struct{}) []time.Duration {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	n := int(d.Seconds() * float64(perSecond))
	start := time.Now()
	due := func(i int) time.Time { return start.Add(time.Duration(i) * time.Second / time.Duration(perSecond)) }
	sent := make(chan int, n)
	go func() {
		defer close(sent)
		for i := range n {
			time.Sleep(time.Until(due(i)))
			select {
			case <-stop:
				return
			default:
			}
			if _, err := fmt.Fprintf(c, "SET /paced%d create %d\n", i%100, i); err != nil {
				return
			}
			sent <- i
		}
	}()
	r := bufio.NewReader(c)
	var lat []time.Duration
	for i := range sent {
		if l, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(l, "OK") {
			b.Fatalf("write %d: %q %v", i, l, err)
		}
		lat = append(lat, time.Since(due(i)))
	}
	return lat
}

// BenchmarkFigureSnapshot compares the latency of writes, paced at 2,000 per
// second, with and without a concurrent snapshot of a million znodes, in turns.
func BenchmarkFigureSnapshot(b *testing.B) {
	dir := b.TempDir()
	p := startRelease(b, dir, "--snapshot-every", "1000000000")
	p.million(b)
	time.Sleep(5 * time.Second)
	backup := func(done chan<- struct{}) {
		defer close(done)
		if out, err := exec.Command("coord", "snapshot", "--force", "--timeout", "1m", "--server", p.addr,
			filepath.Join(dir, "figure.coord")).CombinedOutput(); err != nil {
			b.Errorf("snapshot: %v: %s", err, out)
		}
	}
	// The backup stream alone, as if another host received it.
	stream := func(done chan<- struct{}) {
		defer close(done)
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "SNAPSHOT\nQUIT\n")
		_, _ = io.Copy(io.Discard, c)
	}
	// The server's own snapshots, one after the other.
	for range b.N {
		var lat [2][]time.Duration
		for round := range 6 {
			p.kill()
			p = startRelease(b, dir, "--snapshot-every", []string{"1000000000", "5000"}[round%2])
			load(b, p.addr, 1, 64, 5000, 1, func(dst []byte, _, i int) []byte { return fmt.Appendf(dst, "SET /paced create %d\n", i) })
			lat[round%2] = append(lat[round%2], paced(b, p.addr, 2000, 15*time.Second, nil)...)
			if made := p.number("snap_count"); round%2 == 1 && made == 0 {
				b.Fatal("no snapshot was made")
			}
		}
		b.ReportMetric(percentile(lat[0], .99).Seconds()*1000, "own-without-p99-ms")
		b.ReportMetric(percentile(lat[1], .99).Seconds()*1000, "own-p99-ms")
		b.ReportMetric(float64(percentile(lat[1], .99))/float64(percentile(lat[0], .99)), "own-ratio")
	}
	p.kill()
	p = startRelease(b, dir, "--snapshot-every", "1000000000")
	const rounds = 10 // short rounds in turns: the speed of a shared machine's disk varies
	for range b.N {
		for _, kind := range []struct {
			name     string
			snapshot func(chan<- struct{})
		}{{"backup", backup}, {"stream", stream}} {
			var with, without []time.Duration
			for range rounds {
				without = append(without, paced(b, p.addr, 2000, 2*time.Second, nil)...)
				done := make(chan struct{})
				go kind.snapshot(done)
				with = append(with, paced(b, p.addr, 2000, time.Minute, done)...)
			}
			b.ReportMetric(percentile(without, .99).Seconds()*1000, kind.name+"-without-p99-ms")
			b.ReportMetric(percentile(with, .99).Seconds()*1000, kind.name+"-p99-ms")
			b.ReportMetric(float64(percentile(with, .99))/float64(percentile(without, .99)), kind.name+"-ratio")
			b.ReportMetric(float64(len(with))/2000/rounds, "s/"+kind.name)
		}
	}
}

// BenchmarkFigureStart starts from a snapshot of a million znodes and a log of
// 100,000 entries after it, with one write each.
func BenchmarkFigureStart(b *testing.B) {
	dir := b.TempDir()
	p := startRelease(b, dir, "--snapshot-every", "1000000")
	p.million(b)
	for p.fact("snap_count") == "0" {
		time.Sleep(100 * time.Millisecond)
	}
	p.kill()
	p = startRelease(b, dir, "--snapshot-every", "100000000")
	batches := p.number("coord_batches")
	for round := range 50 { // two connections with one request each: few writes share an entry
		if p.number("coord_batches")-batches >= 100_000 {
			break
		}
		load(b, p.addr, 2, 1, 2000, 1, func(dst []byte, n, i int) []byte {
			return fmt.Appendf(dst, "SET /dir%05d/n%07d %d\n", n, i%1000, round)
		})
	}
	b.ReportMetric(p.number("coord_batches")-batches, "entries")
	p.kill()
	b.ResetTimer()
	for range b.N {
		var took []time.Duration
		for range 5 {
			start := time.Now()
			p := startRelease(b, dir, "--snapshot-every", "100000000")
			took = append(took, time.Since(start))
			b.ReportMetric(float64(p.rss())/(1<<20), "RSS-MiB")
			p.kill()
		}
		b.ReportMetric(percentile(took, .5).Seconds(), "start-s")
	}
}
