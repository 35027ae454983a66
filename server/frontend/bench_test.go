package frontend_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"coord/tree"
	"coord/tree/znode"
)

// pipeline measures requests, with window of them in flight at any time. Each answer has the given
// number of lines.
func pipeline(b *testing.B, request string, lines, window int) {
	w := newWorld(b)
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/bench", Data: bytes.Repeat([]byte("x"), 100), ACL: znode.OpenACL})
	c, err := net.Dial("tcp", w.tcp())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	burst := window / 2
	out := []byte(strings.Repeat(request, burst))
	b.ReportAllocs()
	b.ResetTimer()
	sent, got := 0, 0
	for got < b.N {
		for sent < b.N && sent-got <= window-burst {
			n := min(burst, b.N-sent)
			if _, err := c.Write(out[:n*len(request)]); err != nil {
				b.Fatal(err)
			}
			sent += n
		}
		for n := min(burst, sent-got) * lines; n > 0; n-- {
			if _, err := r.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
		}
		got += min(burst, sent-got)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

func BenchmarkGet(b *testing.B) { pipeline(b, "GET /bench\n", 2, 400) }
func BenchmarkSet(b *testing.B) { pipeline(b, "SET /bench "+strings.Repeat("y", 100)+"\n", 1, 400) }

func BenchmarkMixed(b *testing.B) {
	pipeline(b, "SET /bench "+strings.Repeat("y", 100)+"\nGET /bench\n", 3, 400)
}

func BenchmarkLs(b *testing.B) {
	for _, stat := range []string{"", " stat"} {
		b.Run("100"+stat, func(b *testing.B) {
			w := newWorld(b)
			w.do(tree.Op{Kind: tree.KindCreate, Path: "/d", ACL: znode.OpenACL})
			for i := range 100 {
				w.do(tree.Op{Kind: tree.KindCreate, Path: fmt.Sprintf("/d/%08d", i), ACL: znode.OpenACL})
			}
			c, err := net.Dial("tcp", w.tcp())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			r := bufio.NewReaderSize(c, 64<<10)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = io.WriteString(c, "LS /d"+stat+"\n")
				for range 101 {
					if _, err := r.ReadSlice('\n'); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkOneGet compares one connection with one request in flight with a bare echo of as many
// bytes.
func BenchmarkOneGet(b *testing.B) {
	w := newWorld(b)
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/bench", Data: bytes.Repeat([]byte("x"), 100), ACL: znode.OpenACL})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	}()
	get, echo := dialFor(b, w.tcp()), dialFor(b, l.Addr().String())
	defer get.Close()
	defer echo.Close()
	answer := roundTrip(b, get, []byte("GET /bench\n"))
	payload := bytes.Repeat([]byte("x"), len(answer))
	var gets, echoes []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		roundTrip(b, get, []byte("GET /bench\n"))
		middle := time.Now()
		roundTrip(b, echo, payload)
		gets, echoes = append(gets, middle.Sub(start)), append(echoes, time.Since(middle))
	}
	slices.Sort(gets)
	slices.Sort(echoes)
	p50, bare := gets[len(gets)/2], echoes[len(echoes)/2]
	b.ReportMetric(float64(p50.Nanoseconds())/1000, "get-p50-µs")
	b.ReportMetric(float64(bare.Nanoseconds())/1000, "echo-p50-µs")
	b.ReportMetric(float64(p50)/float64(bare), "times-echo")
}

func dialFor(b *testing.B, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func roundTrip(b *testing.B, c net.Conn, out []byte) []byte {
	if _, err := c.Write(out); err != nil {
		b.Fatal(err)
	}
	var in [512]byte
	n, err := c.Read(in[:])
	if err != nil {
		b.Fatal(err)
	}
	return in[:n]
}
