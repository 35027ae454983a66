package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be a fake server in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("COORD_BENCH_FAKE") != "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		serveFake(l, &fake{bare: true})
	}
	os.Exit(m.Run())
}

// BenchmarkGenerator measures the cost of the generator against a server in a
// process of its own that only parses and answers:
//
//	go test ./cmd/bench -run '^$' -bench Generator -benchtime 1x
func BenchmarkGenerator(b *testing.B) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "COORD_BENCH_FAKE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	s := Server{PID: cmd.Process.Pid, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", strings.TrimSpace(addr))
	}}
	for _, name := range []string{"get", "set", "set-1k", "mixed", "set-64x1", "get-1x1", "paced"} {
		b.Run(name, func(b *testing.B) {
			l, _ := Preset(name)
			l.Warmup, l.Duration = 200*time.Millisecond, time.Second
			for range b.N {
				res, err := Run(b.Context(), s, l)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(res.PerSecond, "requests/s")
				b.ReportMetric(res.GeneratorUS, "generator-µs")
				b.ReportMetric(res.ServerUS, "server-µs")
				b.ReportMetric(res.Ops[0].P50, "p50-µs")
				b.ReportMetric(res.Ops[0].P99, "p99-µs")
			}
		})
	}
}
