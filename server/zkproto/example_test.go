package zkproto_test

import (
	"fmt"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// A server cuts frames, decodes each into the same Request, and appends its reply.
func Example_server() {
	received := zkproto.AppendRequest(nil, &zkproto.Request{Xid: 1, Part: zkproto.Part{Op: zkproto.OpGetData, Path: "/a"}})
	decoder := zkproto.Decoder{MaxOps: 1000}
	var req zkproto.Request
	var out []byte

	frame, n, err := zkproto.CutFrame(received, zkproto.DefaultMaxFrame)
	if err != nil || frame == nil {
		return // close the connection, or read on
	}
	if err := decoder.Decode(frame, &req); err != nil {
		return
	}
	received = received[n:]
	start := len(out)
	out = zkproto.BeginReply(out, req.Xid, 0x100000007)
	out = zkproto.AppendString(out, "hello")
	out = zkproto.AppendStat(out, &znode.Stat{DataLength: 5})
	zkproto.EndFrame(out, start)
	fmt.Println(req.Op, req.Path, len(received), len(out))
	// Output: getData /a 0 97
}

// A client knows its request, and reads just the fields of the answer to it.
func ExampleBody() {
	frame := []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 'a', 0, 0, 0, 1, 'b'}
	header, body, err := zkproto.ReadReply(frame)
	if err != nil || header.Code != znode.OK {
		return
	}
	children := body.Strings()
	fmt.Println(header.Xid, header.Zxid, children, body.End())
	// Output: 1 0x100000007 [a b] <nil>
}
