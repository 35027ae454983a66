package zkproto_test

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// maxOps is the limit of the tests' Decoders.
const maxOps = 100

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cut returns the contents of the one frame in wire.
func cut(t testing.TB, wire []byte) []byte {
	t.Helper()
	frame, n, err := zkproto.CutFrame(wire, zkproto.DefaultMaxFrame)
	if err != nil || frame == nil || n != len(wire) {
		t.Fatalf("%x is not a frame: %d, %v", wire, n, err)
	}
	return frame
}

// refused expects an *Error with these properties.
func refused(t testing.TB, err error, code znode.Code, closes bool) {
	t.Helper()
	var e *zkproto.Error
	if !errors.As(err, &e) || e.Code != code || e.Close != closes || !strings.HasPrefix(e.Error(), "zkproto: ") {
		t.Errorf("error %#v, want code %d, close %v", err, code, closes)
	}
}

// reappend reads the body of a reply to op, strictly, and appends what it has read. It defines the
// bodies of replies for these tests.
func reappend(dst []byte, op zkproto.Op, b *zkproto.Body) ([]byte, error) {
	switch op {
	case zkproto.OpCreate, zkproto.OpSync:
		dst = zkproto.AppendString(dst, b.Str())
	case zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL:
		dst = zkproto.AppendString(dst, b.Str())
		dst = appendStat(dst, b.Stat())
	case zkproto.OpExists, zkproto.OpSetData, zkproto.OpSetACL:
		dst = appendStat(dst, b.Stat())
	case zkproto.OpGetData, zkproto.OpReconfig:
		dst = appendData(dst, b.Buffer())
		dst = appendStat(dst, b.Stat())
	case zkproto.OpSASL:
		dst = appendData(dst, b.Buffer())
	case zkproto.OpGetACL:
		dst = zkproto.AppendACL(dst, b.ACL())
		dst = appendStat(dst, b.Stat())
	case zkproto.OpGetChildren, zkproto.OpGetEphemerals:
		dst = zkproto.AppendStrings(dst, b.Strings())
	case zkproto.OpGetChildren2:
		dst = zkproto.AppendStrings(dst, b.Strings())
		dst = appendStat(dst, b.Stat())
	case zkproto.OpGetAllChildrenNumber, zkproto.OpAddWatch:
		dst = zkproto.AppendInt(dst, b.Int())
	case zkproto.OpWhoAmI:
		dst = zkproto.AppendIdentities(dst, b.Identities())
	case zkproto.OpMulti, zkproto.OpMultiRead:
		for _, r := range b.Results() {
			dst = appendResult(dst, &r)
		}
		dst = zkproto.AppendMultiEnd(dst)
	}
	return dst, b.End()
}

func appendResult(dst []byte, r *zkproto.Result) []byte {
	if r.Op == zkproto.OpError {
		return zkproto.AppendMultiError(dst, r.Code)
	}
	dst = zkproto.AppendMultiResult(dst, r.Op)
	switch r.Op {
	case zkproto.OpCreate:
		dst = zkproto.AppendString(dst, r.Path)
	case zkproto.OpCreate2:
		dst = zkproto.AppendString(dst, r.Path)
		dst = appendStat(dst, r.Stat)
	case zkproto.OpSetData:
		dst = appendStat(dst, r.Stat)
	case zkproto.OpGetData:
		dst = appendData(dst, r.Data)
		dst = appendStat(dst, r.Stat)
	case zkproto.OpGetChildren:
		dst = zkproto.AppendStrings(dst, r.Children)
	}
	return dst
}

func appendStat(dst []byte, s znode.Stat) []byte { return zkproto.AppendStat(dst, &s) }

func appendData(dst, data []byte) []byte {
	if data == nil {
		return zkproto.AppendNull(dst)
	}
	return zkproto.AppendString(dst, data)
}

// rereply reads a whole reply to op and encodes it again.
func rereply(op zkproto.Op, frame []byte) ([]byte, error) {
	h, body, err := zkproto.ReadReply(frame)
	if err != nil {
		return nil, err
	}
	if h.Xid == zkproto.XidEvent {
		e := body.Event()
		return zkproto.AppendEvent(nil, e.Type, e.Path, h.Zxid), body.End()
	}
	if h.Code != znode.OK {
		return zkproto.AppendReply(nil, h.Xid, h.Zxid, h.Code), body.End()
	}
	dst, err := reappend(zkproto.BeginReply(nil, h.Xid, h.Zxid), op, &body)
	zkproto.EndFrame(dst, 0)
	return dst, err
}

// said is one line of a capture.
type said struct {
	what  string // the comment above it
	first bool   // first frame of its connection
	op    zkproto.Op
	wire  []byte
}

// capture reads testdata/java-3.8.0.txt.
func capture(t testing.TB) (requests, replies []said) {
	t.Helper()
	text, err := os.ReadFile("testdata/java-3.8.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	var what string
	var asked, answered bool // on this connection
	ops := map[int32]zkproto.Op{}
	for line := range strings.Lines(string(text)) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch kind {
		case "#":
			what = rest
		case "~":
			asked, answered = false, false
		case ">":
			s := said{what: what, first: !asked, wire: unhex(t, rest)}
			if asked {
				var r zkproto.Request
				d := zkproto.Decoder{MaxOps: maxOps}
				if err := d.Decode(cut(t, s.wire), &r); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				s.op, ops[r.Xid] = r.Op, r.Op
			}
			asked = true
			requests = append(requests, s)
		case "<":
			s := said{what: what, first: !answered, wire: unhex(t, rest)}
			if answered {
				h, _, err := zkproto.ReadReply(cut(t, s.wire))
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				s.op = ops[h.Xid]
			}
			answered = true
			replies = append(replies, s)
		}
	}
	return requests, replies
}
