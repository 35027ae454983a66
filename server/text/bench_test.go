package text_test

import (
	"bytes"
	"fmt"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// hotRequests are the usual requests of a busy connection.
var hotRequests = []struct {
	name, in string
	allocs   float64 // for the path
}{
	{"GET", "GET /app/config/item\n", 1},
	{"SET100", "SET /app/config/item :100\n" + string(bytes.Repeat([]byte("v"), 100)) + "\n", 1},
	{"SETword", "SET /app/config/item v=12 hello\n", 1},
	{"SETquoted", "SET /app/config/item \"hello \\\"world\\\"\"\n", 1},
	{"PING", "PING\r\n", 0},
}

// hotReplies are its usual replies.
var hotReplies = []struct {
	name   string
	append func(dst []byte, f text.Format) []byte
}{
	{"OK", func(dst []byte, f text.Format) []byte {
		r := text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Int(text.KeyVersion, 17), text.Zxid(text.KeyZxid, 0x100000005)}}
		return r.Append(dst, f, false)
	}},
	{"DATA100", func(dst []byte, f text.Format) []byte {
		r := text.Reply{Kind: text.KindData, Data: data100[:], Fields: []text.Field{text.Int(text.KeyVersion, 17), text.Zxid(text.KeyZxid, 0x100000005)}}
		return r.Append(dst, f, false)
	}},
	{"ERR", func(dst []byte, f text.Format) []byte {
		r := text.Reply{Kind: text.KindErr, Code: znode.ErrNoNode, Message: znode.ErrNoNode.Error(), Fields: []text.Field{text.Str(text.KeyPath, "/app/a b")}}
		return r.Append(dst, f, false)
	}},
}

var data100 = [100]byte(bytes.Repeat([]byte("v"), 100))

func TestAllocations(t *testing.T) {
	for _, tt := range hotRequests {
		p, in := text.NewParser(text.DefaultLimits()), []byte(tt.in)
		got := testing.AllocsPerRun(100, func() {
			if r, n, err := p.Next(in); r == nil || n != len(in) || err != nil {
				t.Fatalf("%s: %v, %d, %v", tt.name, r, n, err)
			}
		})
		if got > tt.allocs {
			t.Errorf("%s: %v allocations", tt.name, got)
		}
	}
	dst := make([]byte, 0, 1024)
	for _, tt := range hotReplies {
		for _, f := range []text.Format{text.FormatText, text.FormatJSON, text.FormatB64} {
			if got := testing.AllocsPerRun(100, func() { tt.append(dst, f) }); got > 0 {
				t.Errorf("%s as %v: %v allocations", tt.name, f, got)
			}
		}
	}
	req := text.Request{Op: text.Op{Verb: text.VerbSet, Path: "/app/config/item", Value: data100[:], Version: text.AnyVersion}}
	if got := testing.AllocsPerRun(100, func() { text.AppendRequest(dst, &req) }); got > 0 {
		t.Errorf("AppendRequest: %v allocations", got)
	}
	// A TXN costs one allocation for each path, once there is room for its operations.
	p, in := text.NewParser(text.DefaultLimits()), []byte("TXN 2\nSET /a :1\nx\nSET /b y\n")
	if got := testing.AllocsPerRun(100, func() { _, _, _ = p.Next(in) }); got > 2 {
		t.Errorf("TXN: %v allocations", got)
	}
}

// TestDeclaredLengthsAllocateNothing: a length that a server announces allocates no memory.
func TestDeclaredLengthsAllocateNothing(t *testing.T) {
	rd := text.NewReader(text.DefaultReplyLimits())
	list, data := []byte("LIST 100000\n"), []byte("DATA 16000000\n")
	for _, in := range [][]byte{list, data} {
		if got := testing.AllocsPerRun(100, func() {
			rd = text.NewReader(text.DefaultReplyLimits())
			if _, n, err := rd.Next(in); n != 0 || err != nil {
				t.Fatal(n, err)
			}
		}); got > 2 {
			t.Errorf("%s: %v allocations", in, got)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, bb := range hotRequests {
		b.Run(bb.name, func(b *testing.B) {
			p, in := text.NewParser(text.DefaultLimits()), []byte(bb.in)
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = p.Next(in)
			}
		})
	}
	for _, ops := range []int{10, 1000} {
		b.Run(fmt.Sprint("TXN", ops), func(b *testing.B) {
			p := text.NewParser(text.DefaultLimits())
			in := fmt.Appendf(nil, "TXN %d\n%s", ops, bytes.Repeat([]byte("SET /app/config/item :5\nhello\n"), ops))
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = p.Next(in)
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, f := range []text.Format{text.FormatText, text.FormatJSON, text.FormatB64} {
		for _, bb := range hotReplies {
			b.Run(f.String()+"/"+bb.name, func(b *testing.B) {
				dst := make([]byte, 0, 1024)
				b.ReportAllocs()
				for b.Loop() {
					dst = bb.append(dst[:0], f)
				}
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, bb := range hotReplies {
		b.Run(bb.name, func(b *testing.B) {
			rd, in := text.NewReader(text.DefaultReplyLimits()), bb.append(nil, text.FormatText)
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = rd.Next(in)
			}
		})
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	req := text.Request{Op: text.Op{Verb: text.VerbSet, Path: "/app/config/item", Value: data100[:], Version: text.AnyVersion}}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = text.AppendRequest(dst[:0], &req)
	}
}
