package zkproto_test

import (
	"bytes"
	"reflect"
	"testing"

	"coord/server/zkproto"
)

// FuzzDecode: no panic, and a decoded request can be encoded and decodes to the same request again.
func FuzzDecode(f *testing.F) {
	requests, _ := capture(f)
	for _, s := range requests {
		if !s.first {
			f.Add(s.wire[4:])
		}
	}
	for _, tt := range goldenRequests {
		f.Add(unhex(f, tt.wire)[4:])
	}
	d := zkproto.Decoder{MaxOps: maxOps}
	var last zkproto.Request // must have no effect
	f.Fuzz(func(t *testing.T, frame []byte) {
		if err := d.Decode(frame, &last); err != nil {
			return
		}
		if len(last.Ops) > maxOps {
			t.Fatalf("%d operations", len(last.Ops))
		}
		wire := zkproto.AppendRequest(nil, &last)
		var again zkproto.Request
		if err := d.Decode(cut(t, wire), &again); err != nil {
			t.Fatal(err)
		}
		if len(last.Ops) == 0 {
			again.Ops = last.Ops
		}
		if !reflect.DeepEqual(again, last) {
			t.Fatalf("said again:\n got %+v\nwant %+v", again, last)
		}
	})
}

// FuzzConnect: the same for the first frames of a client and of a server.
func FuzzConnect(f *testing.F) {
	requests, replies := capture(f)
	for _, s := range append(requests, replies...) {
		if s.first {
			f.Add(s.wire[4:])
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if c, err := zkproto.ReadConnect(frame); err == nil {
			again, err := zkproto.ReadConnect(cut(t, zkproto.AppendConnect(nil, &c)))
			if err != nil || !reflect.DeepEqual(again, c) {
				t.Fatalf("said again:\n got %+v\nwant %+v", again, c)
			}
		}
		if c, err := zkproto.ReadConnected(frame); err == nil {
			if again := cut(t, zkproto.AppendConnected(nil, &c)); !bytes.Equal(again[4:], frame[4:]) { // except for the version
				t.Fatalf("said again:\n got %x\nwant %x", again, frame)
			}
		}
	})
}

// FuzzReadReply: no panic, and a reply that is read can be written in only one way, except for
// codes that no ZooKeeper has.
func FuzzReadReply(f *testing.F) {
	_, replies := capture(f)
	for _, s := range replies {
		if !s.first {
			f.Add(int32(s.op), s.wire[4:])
		}
	}
	for _, tt := range goldenReplies {
		f.Add(int32(tt.op), unhex(f, tt.wire)[4:])
	}
	f.Fuzz(func(t *testing.T, op int32, frame []byte) {
		again, err := rereply(zkproto.Op(op), frame)
		if err != nil {
			return
		}
		if len(again) != 4+len(frame) {
			t.Fatalf("%v said again:\n got %x\nwant %x", zkproto.Op(op), again[4:], frame)
		}
		if third, err := rereply(zkproto.Op(op), cut(t, again)); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("%v said once more: %v\n got %x\nwant %x", zkproto.Op(op), err, third, again)
		}
	})
}
