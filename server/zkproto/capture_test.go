package zkproto_test

import (
	"bytes"
	"testing"

	"coord/server/zkproto"
)

// TestCapture: this package decodes what the Java client and the server of ZooKeeper 3.8.0 sent,
// and encodes it again byte for byte. So both directions of this package agree with both of
// ZooKeeper's.
func TestCapture(t *testing.T) {
	requests, replies := capture(t)
	d := zkproto.Decoder{MaxOps: maxOps}
	seen := map[zkproto.Op]bool{}
	for _, s := range requests {
		frame := cut(t, s.wire)
		var again []byte
		if s.first {
			c, err := zkproto.ReadConnect(frame)
			if err != nil {
				t.Fatal(err)
			}
			again = zkproto.AppendConnect(nil, &c)
		} else {
			var r zkproto.Request
			if err := d.Decode(frame, &r); err != nil {
				t.Fatalf("%s: %v", s.what, err)
			}
			again = zkproto.AppendRequest(nil, &r)
			if r.Op == zkproto.OpReconfig { // Java writes null for empty ones
				again = bytes.ReplaceAll(again, make([]byte, 8), bytes.Repeat([]byte{255}, 8))
			}
			seen[r.Op] = true
		}
		if !bytes.Equal(again, s.wire) {
			t.Errorf("%s:\n got %x\nwant %x", s.what, again, s.wire)
		}
	}
	for _, s := range replies {
		frame := cut(t, s.wire)
		var again []byte
		var err error
		if s.first {
			var c zkproto.Connected
			c, err = zkproto.ReadConnected(frame)
			again = zkproto.AppendConnected(nil, &c)
		} else {
			again, err = rereply(s.op, frame)
		}
		if err != nil || !bytes.Equal(again, s.wire) {
			t.Errorf("%s: %v\n got %x\nwant %x", s.what, err, again, s.wire)
		}
	}
	for _, s := range zkproto.Shapes() {
		if s.Alone && !seen[s.Op] && s.Op != zkproto.OpSASL && s.Op != zkproto.OpCheck && s.Op != zkproto.OpDeleteContainer {
			t.Errorf("nobody sent a %v", s.Op)
		}
	}
}

// TestTruncated: no prefix of a frame is taken for a whole frame.
func TestTruncated(t *testing.T) {
	requests, replies := capture(t)
	d := zkproto.Decoder{MaxOps: maxOps}
	var r zkproto.Request
	for _, s := range requests {
		frame := cut(t, s.wire)
		for n := range frame {
			part := frame[:n:n]
			if s.first {
				if _, err := zkproto.ReadConnect(part); (err == nil) != (n == 44) { // without readOnly
					t.Errorf("%d bytes of a connect request: %v", n, err)
				}
				continue
			}
			err := d.Decode(part, &r)
			if err == nil {
				t.Errorf("%s: %d of %d bytes were enough", s.what, n, len(frame))
			}
			if n >= 8 && r.Op != s.op {
				t.Errorf("%s: %d bytes: %v", s.what, n, r.Op)
			}
		}
	}
	for _, s := range replies {
		frame := cut(t, s.wire)
		for n := range frame {
			part := frame[:n:n]
			if s.first {
				if _, err := zkproto.ReadConnected(part); (err == nil) != (n == 36) {
					t.Errorf("%d bytes of a connect reply: %v", n, err)
				}
			} else if _, err := rereply(s.op, part); err == nil {
				t.Errorf("%s: %d of %d bytes were enough", s.what, n, len(frame))
			}
		}
		if _, err := rereply(s.op, append(frame, 0)); !s.first && err == nil {
			t.Errorf("%s: a byte too many was not noticed", s.what)
		}
	}
}
