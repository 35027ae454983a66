package testscripts

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"coord/cmd/bench"
	"coord/server/zkproto"
)

// BenchmarkFigureHostile compares the p99 of a well-behaved client, with 500 gets and
// sets per second over ZooKeeper's protocol, with and without misbehaving clients, in
// turns.
func BenchmarkFigureHostile(b *testing.B) {
	p := startRelease(b, b.TempDir(), "--max-client-conns", "0")
	load(b, p.addr, 1, 1, 1, 1, func(dst []byte, _, _ int) []byte {
		return append(append(dst, "CREATE /big :65536\n"...), strings.Repeat("x", 65536)+"\n"...)
	})
	healthy := func() float64 {
		l := bench.Default()
		l.Clients, l.Outstanding, l.Rate, l.Warmup, l.Duration, l.Keys = 1, 16, 500, 500*time.Millisecond, 4*time.Second, 100
		s := bench.Server{
			Dial: func(ctx context.Context) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", p.addr)
			},
			Within: 20 * time.Second, Working: func(string, ...any) {},
		}
		r, err := bench.Run(context.Background(), s, l)
		if err != nil {
			b.Fatal(err)
		}
		worst := 0.0
		for _, f := range r.Ops {
			worst = max(worst, f.P99)
		}
		return worst
	}
	healthy()
	for range b.N {
		for _, h := range []struct {
			name  string
			conns int
		}{{"half-open", 2000}, {"malformed", 8}, {"not-reading", 200}, {"flooding", 4}} {
			var ratios, with []time.Duration
			for range 5 {
				off := healthy()
				stop := startHostile(b, p.addr, h.name, h.conns)
				time.Sleep(2 * time.Second) // until its behaviour is steady
				on := healthy()
				stop()
				with = append(with, time.Duration(on*1e3))
				ratios = append(ratios, time.Duration(on/off*1e6))
			}
			b.ReportMetric(float64(percentile(with, .5).Microseconds())/1000, h.name+"-p99-ms")
			b.ReportMetric(float64(percentile(ratios, .5))/1e6, h.name+"-ratio")
		}
		b.ReportMetric(float64(p.rss())/(1<<20), "RSS-MiB")
	}
}

// startHostile starts the program coord-hostile. It is a process of its own, so that
// the measured client does not wait for it within this process.
func startHostile(b *testing.B, addr, name string, conns int) (stop func()) {
	b.Helper()
	cmd := exec.Command("coord-hostile", addr, name, strconv.Itoa(conns))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// hostile is the program coord-hostile: clients that misbehave in one way until the
// program is killed.
func hostile() {
	do := map[string]func(net.Conn){
		"half-open": silent, "malformed": malformed, "not-reading": notReading, "flooding": flooding,
	}[os.Args[2]]
	conns, _ := strconv.Atoi(os.Args[3])
	for range conns {
		go again(os.Args[1], do)
	}
	select {}
}

// silent opens a connection and sends nothing; again reconnects when it is closed.
func silent(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }

// malformed sends a hundred malformed frames per second, each on a new connection.
func malformed(c net.Conn) {
	bad := [][]byte{
		{0x00, 0xff, 0xff, 0xff, 1, 2, 3},
		binary.BigEndian.AppendUint32(nil, 45), // a connect request that is never complete
		append(binary.BigEndian.AppendUint32(nil, 8), "garbage!"...),
		append(firstFrame(), append(binary.BigEndian.AppendUint32(nil, 12), "no request.."...)...),
	}
	_, _ = c.Write(bad[rand.IntN(len(bad))])
	time.Sleep(10 * time.Millisecond)
}

// notReading requests 64 KiB as often as it can, and reads none of it. Its own
// receive buffer is kept small: on one machine it would use the same memory as the
// server's send buffer.
func notReading(c net.Conn) {
	_, _ = c.(*net.TCPConn).SetReadBuffer(64<<10), c.(*net.TCPConn).SetWriteBuffer(64<<10)
	many := requests(zkproto.OpGetData)
	for out := firstFrame(); ; out = many {
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// flooding sends small requests as fast as they are answered, 1,000 at a time.
func flooding(c net.Conn) {
	go func() { _, _ = io.Copy(io.Discard, c) }()
	many := requests(zkproto.OpExists)
	for out := firstFrame(); ; out = many {
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// requests are a thousand encoded requests.
func requests(op zkproto.Op) (b []byte) {
	for range 1000 {
		b = zkproto.AppendRequest(b, &zkproto.Request{Xid: 1, Part: zkproto.Part{Op: op, Path: "/big"}})
	}
	return b
}

// again runs f on one connection after another.
func again(addr string, f func(net.Conn)) {
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			f(c)
			_ = c.Close()
		}
		time.Sleep(time.Millisecond)
	}
}

// firstFrame is the first frame of a client without a session.
func firstFrame() []byte {
	return zkproto.AppendConnect(nil, &zkproto.Connect{TimeoutMS: 30_000, Password: make([]byte, 16)})
}
