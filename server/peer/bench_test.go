package peer

import (
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func batch(from, to, index uint64) *raftpb.Message {
	m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: &from, To: &to, Term: u(3), LogTerm: u(3), Index: &index, Commit: &index}
	for i := range uint64(64) {
		m.Entries = append(m.Entries, ent(raftpb.EntryNormal, index+1+i, 3, strings.Repeat("x", 150)))
	}
	return m
}

func BenchmarkEncode(b *testing.B) {
	for name, m := range map[string]*raftpb.Message{"batch": batch(from, to, 1e9), "heartbeat": heartbeat(from, to, 1e9)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf = appendMessage(buf[:0], m, from)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, m := range map[string]*raftpb.Message{"batch": batch(from, to, 1e9), "heartbeat": heartbeat(from, to, 1e9)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := inFrame(appendMessage(nil, m, from))
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if _, err := parseMessages(buf, from, to); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// counter is a handler that returns a place for each message.
type counter struct {
	*recorder
	places chan struct{}
}

func (c *counter) Raft(_ uint64, msgs []*raftpb.Message) {
	for range msgs {
		<-c.places
	}
}

// BenchmarkLink sends batches of 64 entries of 150 bytes over loopback, with 256 batches under way.
func BenchmarkLink(b *testing.B) {
	var counters []*counter
	x, _ := pair(b, func(c *Config) {
		n := &counter{c.Handler.(*recorder), make(chan struct{}, 256)}
		counters = append(counters, n)
		c.Handler = n
	})
	m := batch(1, 2, 1e9)
	b.ReportAllocs()
	sent := int64(0)
	for b.Loop() {
		counters[1].places <- struct{}{}
		x.Links.Raft([]*raftpb.Message{m})
		sent++
	}
	for range cap(counters[1].places) { // until all have arrived
		counters[1].places <- struct{}{}
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "messages/s")
	if d := x.Stats().Dropped; d > 0 {
		b.Fatal(d, "dropped")
	}
}
