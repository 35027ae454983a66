package testscripts

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"coord/cmd/bench"
	"coord/server/zkproto"
)

// BenchmarkFigureHostile compares the p99 of a client that does what clients do, 500
// gets and sets a second over ZooKeeper's protocol, with and without others beside it
// that do what none should, in turns.
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
			do    func(addr string, stop <-chan struct{})
		}{
			{"half-open", 2000, silent},
			{"malformed", 8, malformed},
			{"not-reading", 200, notReading},
			{"flooding", 4, flooding},
		} {
			var ratios, with []time.Duration
			for range 5 {
				off := healthy()
				stop := make(chan struct{})
				var others sync.WaitGroup
				for range h.conns {
					others.Go(func() { h.do(p.addr, stop) })
				}
				time.Sleep(500 * time.Millisecond)
				on := healthy()
				close(stop)
				others.Wait()
				with = append(with, time.Duration(on*1e3))
				ratios = append(ratios, time.Duration(on/off*1e6))
			}
			b.ReportMetric(float64(percentile(with, .5).Microseconds())/1000, h.name+"-p99-ms")
			b.ReportMetric(float64(percentile(ratios, .5))/1e6, h.name+"-ratio")
		}
		b.ReportMetric(float64(p.rss())/(1<<20), "RSS-MiB")
	}
}

// silent has a connection and says nothing; when it is closed, it has another one.
func silent(addr string, stop <-chan struct{}) {
	again(addr, stop, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
}

// malformed sends a hundred frames a second that are none, each on a new connection.
func malformed(addr string, stop <-chan struct{}) {
	bad := [][]byte{
		{0x00, 0xff, 0xff, 0xff, 1, 2, 3},
		binary.BigEndian.AppendUint32(nil, 45), // a connect request that never comes whole
		append(binary.BigEndian.AppendUint32(nil, 8), "garbage!"...),
		append(firstFrame(), append(binary.BigEndian.AppendUint32(nil, 12), "no request.."...)...),
	}
	n := 0
	again(addr, stop, func(c net.Conn) {
		_, _ = c.Write(bad[n%len(bad)])
		n++
		time.Sleep(10 * time.Millisecond)
	})
}

// notReading asks for 64 KiB as often as it can, and reads none of it.
func notReading(addr string, stop <-chan struct{}) {
	again(addr, stop, func(c net.Conn) {
		ask := zkproto.AppendRequest(nil, &zkproto.Request{Xid: 1, Part: zkproto.Part{Op: zkproto.OpGetData, Path: "/big"}})
		for out := firstFrame(); ; out = ask {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
}

// flooding asks for small things as fast as it is answered, 1,000 at a time.
func flooding(addr string, stop <-chan struct{}) {
	again(addr, stop, func(c net.Conn) {
		var many []byte
		for range 1000 {
			many = zkproto.AppendRequest(many, &zkproto.Request{Xid: 1, Part: zkproto.Part{Op: zkproto.OpExists, Path: "/big"}})
		}
		go func() { _, _ = io.Copy(io.Discard, c) }()
		for out := firstFrame(); ; out = many {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
}

// again runs f on one connection after another until stop, which closes the last.
func again(addr string, stop <-chan struct{}, f func(net.Conn)) {
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			ended := make(chan struct{})
			go func() {
				select {
				case <-stop:
				case <-ended:
				}
				_ = c.Close()
			}()
			f(c)
			close(ended)
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// firstFrame is the first frame of a client without a session.
func firstFrame() []byte {
	return zkproto.AppendConnect(nil, &zkproto.Connect{TimeoutMS: 30_000, Password: make([]byte, 16)})
}
