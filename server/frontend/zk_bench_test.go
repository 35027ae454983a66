package frontend_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"coord/server/zkproto"
	"coord/tree"
	"coord/tree/znode"
)

// zkPipeline is pipeline with ZooKeeper's protocol.
func zkPipeline(b *testing.B, window int, requests ...zkproto.Request) {
	w := newWorld(b)
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/bench", Data: bytes.Repeat([]byte("x"), 100), ACL: znode.OpenACL})
	c, err := net.Dial("tcp", w.tcp())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	skip := func() {
		head, err := r.Peek(4)
		if err == nil {
			_, err = r.Discard(4 + int(binary.BigEndian.Uint32(head)))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	_, _ = c.Write(zkproto.AppendConnect(nil, &zkproto.Connect{TimeoutMS: 30_000, Password: make([]byte, 16)}))
	skip()
	burst := window / 2
	var out []byte
	for i := range burst {
		out = zkproto.AppendRequest(out, &requests[i%len(requests)])
	}
	one := len(out) / burst
	if len(out)%burst != 0 {
		one = -1 // answers of different sizes: count whole bursts only
	}
	b.ReportAllocs()
	b.ResetTimer()
	for sent, got := 0, 0; got < b.N; {
		for sent < b.N && sent-got <= window-burst {
			n := burst
			if one > 0 {
				n = min(n, b.N-sent)
			}
			size := len(out)
			if one > 0 {
				size = n * one
			}
			if _, err := c.Write(out[:size]); err != nil {
				b.Fatal(err)
			}
			sent += n
		}
		n := min(burst, sent-got)
		for range n {
			skip()
		}
		got += n
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

var (
	zkGet = zkproto.Request{Xid: 1, Part: zkproto.Part{Op: zkproto.OpGetData, Path: "/bench"}}
	zkSet = zkproto.Request{Xid: 2, Part: zkproto.Part{Op: zkproto.OpSetData, Path: "/bench", Data: bytes.Repeat([]byte("y"), 100), Version: -1}}
)

func BenchmarkZooKeeperGet(b *testing.B)   { zkPipeline(b, 400, zkGet) }
func BenchmarkZooKeeperSet(b *testing.B)   { zkPipeline(b, 400, zkSet) }
func BenchmarkZooKeeperMixed(b *testing.B) { zkPipeline(b, 400, zkSet, zkGet) }
