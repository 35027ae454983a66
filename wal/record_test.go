package wal

import (
	"encoding/hex"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The bytes of every type. A change here changes the format: old logs must still be readable.
var golden = []struct {
	name   string
	record Record
	hex    string
}{
	{"entry", Record{Type: TypeEntry, Salt: 0xa1a2a3a4, Previous: 0xb1b2b3b4, Sequence: 0x0102, Synced: 0x0101,
		Index: 9, Term: 3, Commit: 8, EntryType: raftpb.EntryConfChangeV2, Data: []byte("hello")},
		"45010000a4a3a2a1b4b3b2b102010000000000000101000000000000" +
			"0900000000000000030000000000000008000000000000000268656c6c6f" +
			"96c72026"},
	{"empty entry", Record{Type: TypeEntry, Sequence: 2, Index: 1, Term: 1},
		"45010000000000000000000002000000000000000000000000000000" +
			"01000000000000000100000000000000000000000000000000" +
			"dd461b11"},
	{"hard state", Record{Type: TypeHardState, Salt: 1, Previous: 2, Sequence: 3, Synced: 2, Term: 4, Vote: 5, Commit: 6},
		"48010000010000000200000003000000000000000200000000000000" +
			"040000000000000005000000000000000600000000000000" +
			"7c0e384e"},
	{"snapshot", Record{Type: TypeSnapshot, Salt: 1, Previous: 2, Sequence: 3, Synced: 2, Index: 4, Term: 5, Zxid: 6},
		"53010000010000000200000003000000000000000200000000000000" +
			"040000000000000005000000000000000600000000000000" +
			"dc7d19f4"},
	{"reset", Record{Type: TypeReset, Salt: 1, Previous: 2, Sequence: 3, Synced: 2, Index: 4, Term: 5},
		"52010000010000000200000003000000000000000200000000000000" +
			"04000000000000000500000000000000" +
			"7f4fa065"},
	{"meta", Record{Type: TypeMeta, Salt: 1, Previous: 2, Sequence: 300, Synced: 299, Index: 4, Term: 5,
		Meta: Meta{ClusterID: [16]byte{0x10, 15: 0x1f}, NodeID: 6}, Head: 200, Chain: 0xdeadbeef},
		"4d01000001000000020000002c010000000000002b01000000000000" +
			"010000001000000000000000000000000000001f0600000000000000c8000000" +
			"00000000efbeadde04000000000000000500000000000000" +
			"0b15c878"},
}

func TestRecordBytes(t *testing.T) {
	t.Parallel()
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			r := g.record
			got := appendRecord(nil, &r)
			if hex.EncodeToString(got) != g.hex {
				t.Errorf("bytes %x, want %s", got, g.hex)
			}
			var back Record
			if f := readRecord(got, &back); f != nil {
				t.Fatal(f.reason)
			}
			if !reflect.DeepEqual(back, r) {
				t.Errorf("read back %+v, want %+v", back, r)
			}
		})
	}
}

func TestRecordLimits(t *testing.T) {
	t.Parallel()
	frame := func(n uint64, body int) []byte {
		var b []byte
		for ; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return append(append(b, byte(n)), make([]byte, body)...)
	}
	for name, b := range map[string][]byte{
		"nothing":          {},
		"zero":             {0, 0, 0},
		"half a length":    {0x80},
		"endless length":   {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"too short":        frame(envelopeBytes-1, 100),
		"too long":         frame(maxRecordBytes+1, 100),
		"cut":              frame(100, 99),
		"a wrong checksum": frame(100, 100),
	} {
		var r Record
		if _, f := readFrame(b, &r); f == nil || f.meant {
			t.Errorf("%s: flaw %v", name, f)
		}
	}
}

func TestFrameSizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 70, 71, 127, 128, 16384, MaxEntryBytes} {
		r := Record{Type: TypeEntry, Index: 1 << 40, Term: 300, Data: make([]byte, n)}
		if got, want := entryFrameBytes(n), frameBytes(len(appendRecord(nil, &r))); got != want {
			t.Errorf("%d bytes of data: frame of %d, want %d", n, got, want)
		}
		e := &raftpb.Entry{Index: &r.Index, Term: &r.Term, Type: raftpb.EntryConfChange.Enum(), Data: r.Data}
		if n == 0 {
			e.Data = nil
		}
		if got, want := raftSize(r.Index, r.Term, n), proto.Size(e); got != want {
			t.Errorf("%d bytes of data: raft's size %d, want %d", n, got, want)
		}
	}
}
