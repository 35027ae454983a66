package zkproto_test

import (
	"bytes"
	"testing"

	"coord/server/zkproto"
	"coord/tree/znode"
)

var data100 = bytes.Repeat([]byte("v"), 100)

// hotRequests are the usual requests of a busy connection.
var hotRequests = []struct {
	name   string
	req    zkproto.Request
	allocs float64 // if the request before it has another path: one for the path
}{
	{"ping", zkproto.Request{Xid: -2, Part: zkproto.Part{Op: zkproto.OpPing}}, 0},
	{"getData", zkproto.Request{Part: zkproto.Part{Op: zkproto.OpGetData, Path: "/app/config/item"}}, 1},
	{"exists", zkproto.Request{Part: zkproto.Part{Op: zkproto.OpExists, Path: "/app/config/item", Watch: true}}, 1},
	{"getChildren", zkproto.Request{Part: zkproto.Part{Op: zkproto.OpGetChildren, Path: "/app/config/item"}}, 1},
	{"setData100", zkproto.Request{Part: zkproto.Part{Op: zkproto.OpSetData, Path: "/app/config/item", Data: data100, Version: 7}}, 1},
	{"create100", zkproto.Request{Part: zkproto.Part{Op: zkproto.OpCreate, Path: "/app/config/item", Data: data100, ACL: znode.OpenACL, Flags: 3}}, 1},
	{"multi", zkproto.Request{Part: zkproto.Part{Op: zkproto.OpMulti}, Ops: []zkproto.Part{
		{Op: zkproto.OpCheck, Path: "/app/config/item", Version: 7},
		{Op: zkproto.OpSetData, Path: "/app/config/item", Data: data100},
	}}, 1},
}

var names = []string{"c-0000000000", "c-0000000001", "c-0000000002", "c-0000000003"}

// hotReplies are its usual replies.
var hotReplies = []struct {
	name   string
	append func(dst []byte) []byte
}{
	{"refused", func(dst []byte) []byte { return zkproto.AppendReply(dst, 7, 8, znode.ErrNoNode) }},
	{"getData100", func(dst []byte) []byte {
		return zkproto.AppendStat(zkproto.AppendString(zkproto.BeginReply(dst, 7, 8), data100), &stat)
	}},
	{"setData", func(dst []byte) []byte { return zkproto.AppendStat(zkproto.BeginReply(dst, 7, 8), &stat) }},
	{"create", func(dst []byte) []byte {
		return zkproto.AppendString(zkproto.BeginReply(dst, 7, 8), "/app/config/item")
	}},
	{"getChildren", func(dst []byte) []byte { return zkproto.AppendStrings(zkproto.BeginReply(dst, 7, 8), names) }},
	{"getACL", func(dst []byte) []byte {
		return zkproto.AppendStat(zkproto.AppendACL(zkproto.BeginReply(dst, 7, 8), threeACL), &stat)
	}},
	{"multi", func(dst []byte) []byte {
		dst = zkproto.AppendMultiResult(zkproto.BeginReply(dst, 7, 8), zkproto.OpSetData)
		return zkproto.AppendMultiEnd(zkproto.AppendMultiError(zkproto.AppendStat(dst, &stat), znode.ErrBadVersion))
	}},
	{"event", func(dst []byte) []byte { return zkproto.AppendEvent(dst, znode.NodeDataChanged, "/app/config/item", 9) }},
	{"connected", func(dst []byte) []byte { return zkproto.AppendConnected(dst, &zkproto.Connected{TimeoutMS: 1}) }},
}

func TestAllocations(t *testing.T) {
	d := zkproto.Decoder{MaxOps: maxOps}
	other := cut(t, zkproto.AppendRequest(nil, &zkproto.Request{Part: zkproto.Part{Op: zkproto.OpGetData, Path: "/other"}}))
	dst := make([]byte, 0, 1024)
	for _, tt := range hotRequests {
		frame := cut(t, zkproto.AppendRequest(nil, &tt.req))
		var r zkproto.Request
		decode := func(frame []byte) {
			if err := d.Decode(frame, &r); err != nil {
				t.Fatal(err)
			}
		}
		decode(frame) // makes room for the operations
		if got := testing.AllocsPerRun(100, func() { decode(frame) }); len(r.Ops) == 0 && got > 0 {
			t.Errorf("%s of the same path: %v allocations", tt.name, got)
		}
		if got := testing.AllocsPerRun(100, func() { decode(other); decode(frame) }); got > tt.allocs+1 {
			t.Errorf("%s: %v allocations", tt.name, got-1)
		}
		if got := testing.AllocsPerRun(100, func() { zkproto.AppendRequest(dst, &tt.req) }); got > 0 {
			t.Errorf("append of %s: %v allocations", tt.name, got)
		}
	}
	for _, tt := range hotReplies {
		if got := testing.AllocsPerRun(100, func() { zkproto.EndFrame(tt.append(dst), 0) }); got > 0 {
			t.Errorf("append of %s: %v allocations", tt.name, got)
		}
	}
	connect := cut(t, zkproto.AppendConnect(nil, &zkproto.Connect{Password: make([]byte, 16), HasReadOnly: true}))
	if got := testing.AllocsPerRun(100, func() { _, _ = zkproto.ReadConnect(connect) }); got > 0 {
		t.Errorf("ReadConnect: %v allocations", got)
	}
}

// TestDeclaredLengthsAllocateNothing: an announced length allocates no memory.
func TestDeclaredLengthsAllocateNothing(t *testing.T) {
	d := zkproto.Decoder{MaxOps: maxOps}
	var r zkproto.Request
	for _, wire := range []string{
		"00000001 00000005 7fffffff 2f61",                  // a path
		"00000001 00000005 00000000 7fffffff 2f61",         // data
		"00000001 00000007 00000000 7fffffff 2f61",         // an ACL
		"00000001 00000065 0000000000000000 7fffffff 2f61", // watches
		"00000001 00000064 00000000 7fffffff",              // a scheme
	} {
		frame := unhex(t, wire)
		if got := testing.AllocsPerRun(100, func() { _ = d.Decode(frame, &r) }); got > 0 {
			t.Errorf("%s: %v allocations", wire, got)
		}
	}
	reply := unhex(t, "00000001 0000000000000002 00000000 7fffffff 2f61")
	for name, read := range map[string]func(*zkproto.Body){
		"Str":        func(b *zkproto.Body) { b.Str() },
		"Strings":    func(b *zkproto.Body) { b.Strings() },
		"ACL":        func(b *zkproto.Body) { b.ACL() },
		"Identities": func(b *zkproto.Body) { b.Identities() },
		"Results":    func(b *zkproto.Body) { b.Results() },
	} {
		if got := testing.AllocsPerRun(100, func() {
			_, b, _ := zkproto.ReadReply(reply)
			if read(&b); b.End() == nil {
				t.Error(name)
			}
		}); got > 1 { // the body, which escapes
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	d := zkproto.Decoder{MaxOps: maxOps}
	for _, bb := range hotRequests {
		same := cut(b, zkproto.AppendRequest(nil, &bb.req))
		other := bytes.ReplaceAll(same, []byte("item"), []byte("atom"))
		run := func(name string, frame, next []byte) {
			b.Run(bb.name+name, func(b *testing.B) {
				var r zkproto.Request
				b.ReportAllocs()
				for b.Loop() {
					_ = d.Decode(frame, &r)
					frame, next = next, frame
				}
			})
		}
		run("", same, other)
		run("/same", same, same)
	}
}

func BenchmarkAppendReply(b *testing.B) {
	for _, bb := range hotReplies {
		b.Run(bb.name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				zkproto.EndFrame(bb.append(dst), 0)
			}
		})
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	for _, bb := range hotRequests {
		b.Run(bb.name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst = zkproto.AppendRequest(dst[:0], &bb.req)
			}
		})
	}
}
