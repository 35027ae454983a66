package zkproto_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"coord/server/zkproto"
	"coord/tree/znode"
)

var (
	threeACL = znode.ACL{
		{Perms: znode.Read | znode.Write, Identity: znode.Identity{Scheme: "ip", ID: "10.0.0.0/8"}},
		{Perms: znode.All, Identity: znode.Identity{Scheme: "world", ID: "anyone"}},
		{Perms: znode.Admin, Identity: znode.Identity{Scheme: "auth"}},
	}
	openHex = "00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65"
)

// goldenRequests are requests and their bytes, by the rules of doc.go. TestCapture has compared the
// bytes of every operation with those of a Java client as well.
var goldenRequests = []struct {
	name, wire string
	req        zkproto.Request
}{
	{"create", "00000033 00000001 00000001 00000002 2f61 00000002 6869 " + openHex + "00000000",
		zkproto.Request{Xid: 1, Part: zkproto.Part{Op: zkproto.OpCreate, Path: "/a", Data: []byte("hi"), ACL: znode.OpenACL}}},
	{"create of null", "0000001a 00000001 00000001 00000002 2f61 ffffffff 00000000 00000003",
		zkproto.Request{Xid: 1, Part: zkproto.Part{Op: zkproto.OpCreate, Path: "/a", Flags: 3, ACL: znode.ACL{}}}},
	{"create of nothing, null ACL", "0000001a 00000001 00000001 00000002 2f61 00000000 ffffffff 00000001",
		zkproto.Request{Xid: 1, Part: zkproto.Part{Op: zkproto.OpCreate, Path: "/a", Flags: 1, Data: []byte{}}}},
	{"create2, unknown flags", "00000031 7fffffff 0000000f 00000002 2f61 00000000 " + openHex + "00000009",
		zkproto.Request{Xid: math.MaxInt32, Part: zkproto.Part{Op: zkproto.OpCreate2, Path: "/a", Flags: 9, Data: []byte{}, ACL: znode.OpenACL}}},
	{"createContainer", "00000031 00000002 00000013 00000002 2f63 00000000 " + openHex + "00000004",
		zkproto.Request{Xid: 2, Part: zkproto.Part{Op: zkproto.OpCreateContainer, Path: "/c", Flags: 4, Data: []byte{}, ACL: znode.OpenACL}}},
	{"createTTL", "00000039 00000002 00000015 00000002 2f74 00000000 " + openHex + "00000006 000000ffffffffff",
		zkproto.Request{Xid: 2, Part: zkproto.Part{Op: zkproto.OpCreateTTL, Path: "/t", Flags: 6, TTLMS: znode.MaxTTLMS, Data: []byte{}, ACL: znode.OpenACL}}},
	{"delete", "00000012 00000003 00000002 00000002 2f61 ffffffff",
		zkproto.Request{Xid: 3, Part: zkproto.Part{Op: zkproto.OpDelete, Path: "/a", Version: zkproto.AnyVersion}}},
	{"exists", "0000000e 00000003 00000003 00000001 2f 01",
		zkproto.Request{Xid: 3, Part: zkproto.Part{Op: zkproto.OpExists, Path: "/", Watch: true}}},
	{"getData", "0000000f 00000002 00000004 00000002 2f61 01",
		zkproto.Request{Xid: 2, Part: zkproto.Part{Op: zkproto.OpGetData, Path: "/a", Watch: true}}},
	{"getData of no path", "0000000d 00000002 00000004 00000000 00",
		zkproto.Request{Xid: 2, Part: zkproto.Part{Op: zkproto.OpGetData}}},
	{"setData", "00000018 00000004 00000005 00000002 2f61 00000002 6869 00000007",
		zkproto.Request{Xid: 4, Part: zkproto.Part{Op: zkproto.OpSetData, Path: "/a", Data: []byte("hi"), Version: 7}}},
	{"setData to null", "00000016 00000004 00000005 00000002 2f61 ffffffff ffffffff",
		zkproto.Request{Xid: 4, Part: zkproto.Part{Op: zkproto.OpSetData, Path: "/a", Version: -1}}},
	{"getACL", "0000000e 00000005 00000006 00000002 2f61",
		zkproto.Request{Xid: 5, Part: zkproto.Part{Op: zkproto.OpGetACL, Path: "/a"}}},
	{"setACL", "00000055 00000005 00000007 00000002 2f61 00000003 00000003 00000002 6970 0000000a 31302e302e302e302f38" +
		"0000001f 00000005 776f726c64 00000006 616e796f6e65 00000010 00000004 61757468 00000000 00000002",
		zkproto.Request{Xid: 5, Part: zkproto.Part{Op: zkproto.OpSetACL, Path: "/a", ACL: threeACL, Version: 2}}},
	{"setACL to read", "0000002c 00000005 00000007 00000001 2f 00000001 00000001 00000005 776f726c64 00000006 616e796f6e65 00000002",
		zkproto.Request{Xid: 5, Part: zkproto.Part{Op: zkproto.OpSetACL, Path: "/", ACL: znode.ReadACL, Version: 2}}},
	{"getChildren", "0000000e 00000006 00000008 00000001 2f 00",
		zkproto.Request{Xid: 6, Part: zkproto.Part{Op: zkproto.OpGetChildren, Path: "/"}}},
	{"sync", "0000000d 00000006 00000009 00000001 2f",
		zkproto.Request{Xid: 6, Part: zkproto.Part{Op: zkproto.OpSync, Path: "/"}}},
	{"ping", "00000008 fffffffe 0000000b",
		zkproto.Request{Xid: zkproto.XidPing, Part: zkproto.Part{Op: zkproto.OpPing}}},
	{"getChildren2", "0000000e 00000006 0000000c 00000001 2f 00",
		zkproto.Request{Xid: 6, Part: zkproto.Part{Op: zkproto.OpGetChildren2, Path: "/"}}},
	{"multi", "00000024 00000003 0000000e 0000000d 00 ffffffff 00000002 2f61 00000000 ffffffff 01 ffffffff",
		zkproto.Request{Xid: 3, Part: zkproto.Part{Op: zkproto.OpMulti}, Ops: []zkproto.Part{{Op: zkproto.OpCheck, Path: "/a"}}}},
	{"multi of all that can stand there", "000000eb 00000003 0000000e" +
		"00000001 00 ffffffff 00000001 61 00000001 78" + openHex + "00000000" +
		"0000000f 00 ffffffff 00000001 62 ffffffff" + openHex + "00000003" +
		"00000013 00 ffffffff 00000001 63 00000000 00000000 00000004" +
		"00000015 00 ffffffff 00000001 64 00000000 ffffffff 00000005 0000000000000400" +
		"00000002 00 ffffffff 00000001 61 ffffffff" +
		"00000005 00 ffffffff 00000001 61 00000001 79 00000001" +
		"0000000d 00 ffffffff 00000001 61 00000002" +
		"ffffffff 01 ffffffff",
		zkproto.Request{Xid: 3, Part: zkproto.Part{Op: zkproto.OpMulti}, Ops: []zkproto.Part{
			{Op: zkproto.OpCreate, Path: "a", Data: []byte("x"), ACL: znode.OpenACL},
			{Op: zkproto.OpCreate2, Path: "b", ACL: znode.OpenACL, Flags: 3},
			{Op: zkproto.OpCreateContainer, Path: "c", Data: []byte{}, ACL: znode.ACL{}, Flags: 4},
			{Op: zkproto.OpCreateTTL, Path: "d", Data: []byte{}, Flags: 5, TTLMS: 1024},
			{Op: zkproto.OpDelete, Path: "a", Version: -1},
			{Op: zkproto.OpSetData, Path: "a", Data: []byte("y"), Version: 1},
			{Op: zkproto.OpCheck, Path: "a", Version: 2},
		}}},
	{"multi of nothing", "00000011 00000003 0000000e ffffffff 01 ffffffff",
		zkproto.Request{Xid: 3, Part: zkproto.Part{Op: zkproto.OpMulti}}},
	{"multiRead", "00000030 00000003 00000016 00000004 00 ffffffff 00000002 2f61 01 00000008 00 ffffffff 00000001 2f 00 ffffffff 01 ffffffff",
		zkproto.Request{Xid: 3, Part: zkproto.Part{Op: zkproto.OpMultiRead}, Ops: []zkproto.Part{
			{Op: zkproto.OpGetData, Path: "/a", Watch: true}, {Op: zkproto.OpGetChildren, Path: "/"}}}},
	{"reconfig", "0000001f 00000007 00000010 00000001 6a 00000001 6c 00000001 6d ffffffffffffffff",
		zkproto.Request{Xid: 7, Part: zkproto.Part{Op: zkproto.OpReconfig}, Joining: "j", Leaving: "l", Members: "m", Config: -1}},
	{"checkWatches", "00000012 00000007 00000011 00000002 2f61 00000005",
		zkproto.Request{Xid: 7, Part: zkproto.Part{Op: zkproto.OpCheckWatches, Path: "/a"}, Kind: zkproto.OfRecursive}},
	{"removeWatches", "00000012 00000007 00000012 00000002 2f61 00000001",
		zkproto.Request{Xid: 7, Part: zkproto.Part{Op: zkproto.OpRemoveWatches, Path: "/a"}, Kind: zkproto.OfChildren}},
	{"auth", "0000001d fffffffc 00000064 00000000 00000006 646967657374 00000003 753a70",
		zkproto.Request{Xid: zkproto.XidAuth, Part: zkproto.Part{Op: zkproto.OpAuth, Data: []byte("u:p")}, Scheme: "digest"}},
	{"setWatches", "0000002d fffffff8 00000065 0000000100000002 00000002 00000002 2f61 00000001 62 00000001 00000002 2f63 00000000",
		zkproto.Request{Xid: zkproto.XidSetWatches, Part: zkproto.Part{Op: zkproto.OpSetWatches}, Zxid: 0x100000002,
			Watches: [5][]string{{"/a", "b"}, {"/c"}, {}}}},
	{"sasl", "0000000f 00000008 00000066 00000003 746f6b",
		zkproto.Request{Xid: 8, Part: zkproto.Part{Op: zkproto.OpSASL, Data: []byte("tok")}}},
	{"getEphemerals", "0000000e 00000008 00000067 00000002 2f61",
		zkproto.Request{Xid: 8, Part: zkproto.Part{Op: zkproto.OpGetEphemerals, Path: "/a"}}},
	{"getAllChildrenNumber", "0000000e 00000008 00000068 00000002 2f61",
		zkproto.Request{Xid: 8, Part: zkproto.Part{Op: zkproto.OpGetAllChildrenNumber, Path: "/a"}}},
	{"setWatches2", "00000033 fffffff8 00000069 0000000000000000 00000000 00000000 00000001 00000001 63 00000001 00000001 70 00000001 00000001 72",
		zkproto.Request{Xid: zkproto.XidSetWatches, Part: zkproto.Part{Op: zkproto.OpSetWatches2},
			Watches: [5][]string{{}, {}, {"c"}, {"p"}, {"r"}}}},
	{"addWatch", "00000012 00000009 0000006a 00000002 2f61 00000001",
		zkproto.Request{Xid: 9, Part: zkproto.Part{Op: zkproto.OpAddWatch, Path: "/a"}, Kind: zkproto.AddRecursive}},
	{"whoAmI", "00000008 00000009 0000006b",
		zkproto.Request{Xid: 9, Part: zkproto.Part{Op: zkproto.OpWhoAmI}}},
	{"deleteContainer", "00000008 00000009 00000014",
		zkproto.Request{Xid: 9, Part: zkproto.Part{Op: zkproto.OpDeleteContainer}}},
	{"closeSession", "00000008 00000004 fffffff5",
		zkproto.Request{Xid: 4, Part: zkproto.Part{Op: zkproto.OpCloseSession}}},
}

func TestRequests(t *testing.T) {
	d := zkproto.Decoder{MaxOps: maxOps}
	var r zkproto.Request // one for all: nothing of one request may appear in the next
	seen := map[zkproto.Op]bool{zkproto.OpCheck: true}
	for _, tt := range goldenRequests {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			if err := d.Decode(cut(t, wire), &r); err != nil {
				t.Fatal(err)
			}
			got := r
			if len(got.Ops) == 0 {
				got.Ops = nil // it keeps room
			}
			if !reflect.DeepEqual(got, tt.req) {
				t.Errorf("decoded\n got %+v\nwant %+v", got, tt.req)
			}
			if got := zkproto.AppendRequest([]byte("before"), &tt.req); !bytes.Equal(got, append([]byte("before"), wire...)) {
				t.Errorf("appended\n got %x\nwant %x", got, wire)
			}
			seen[r.Op] = true
		})
	}
	for _, s := range zkproto.Shapes() {
		if (s.Alone || s.InMulti) && !seen[s.Op] {
			t.Errorf("no vector of %v", s.Op)
		}
	}
}

// TestLenient checks what a ZooKeeper 3.8.0 was seen to accept, and how.
func TestLenient(t *testing.T) {
	for _, tt := range []struct {
		name, wire string
		check      func(*zkproto.Request) bool
	}{
		{"bytes behind the body", "00000001 00000004 00000002 2f61 01 78797a", func(r *zkproto.Request) bool { return r.Path == "/a" && r.Watch }},
		{"bytes behind a ping", "fffffffe 0000000b 7878", func(r *zkproto.Request) bool { return r.Op == zkproto.OpPing }},
		{"bytes behind closeSession", "00000001 fffffff5 78", func(r *zkproto.Request) bool { return r.Op == zkproto.OpCloseSession }},
		{"bytes behind a multi", "00000001 0000000e ffffffff 01 ffffffff 78", func(r *zkproto.Request) bool { return len(r.Ops) == 0 }},
		{"a boolean of 2", "00000001 00000004 00000002 2f61 02", func(r *zkproto.Request) bool { return r.Watch }},
		{"done of 2, any op and err", "00000001 0000000e 0000000d 02 00000000", func(r *zkproto.Request) bool { return len(r.Ops) == 0 }},
		{"the err of a multi's header", "00000001 0000000e 0000000d 00 00000005 00000002 2f61 00000000 ffffffff 01 ffffffff", func(r *zkproto.Request) bool { return len(r.Ops) == 1 }},
		{"a null id", "00000001 00000001 00000002 2f61 ffffffff 00000001 0000001f 00000004 61757468 ffffffff 00000000",
			func(r *zkproto.Request) bool {
				return r.ACL.Equal(znode.ACL{{Perms: znode.All, Identity: znode.Identity{Scheme: "auth", ID: znode.Null}}})
			}},
		{"check alone", "00000001 0000000d 00000002 2f61 00000000", func(r *zkproto.Request) bool { return r.Op == zkproto.OpCheck && r.Path == "/a" }},
		{"a null path of sync", "00000001 00000009 ffffffff", func(r *zkproto.Request) bool { return r.Path == znode.Null }},
		{"null watches", "00000001 00000065 0000000000000000 ffffffff 00000000 00000000", func(r *zkproto.Request) bool {
			return len(r.Watches[0]) == 1 && r.Watches[0][0] == znode.Null
		}},
		{"watches of a null path", "00000001 00000065 0000000000000000 00000000 00000001 ffffffff 00000000", func(r *zkproto.Request) bool {
			return r.Watches[1][0] == znode.Null
		}},
		{"a null scheme", "00000001 00000007 00000002 2f61 00000001 00000001 ffffffff 00000000 00000000", func(r *zkproto.Request) bool { return r.ACL[0].Scheme == "" }},
		{"a list of -2", "00000001 00000001 00000002 2f61 ffffffff fffffffe 00000000", func(r *zkproto.Request) bool { return r.ACL != nil && len(r.ACL) == 0 }},
		{"watches of -2", "00000001 00000065 0000000000000009 fffffffe 00000001 00000000 80000000",
			func(r *zkproto.Request) bool { return len(r.Watches[0]) == 0 && r.Watches[1][0] == "" && r.Zxid == 9 }},
		{"ephemerals of null", "00000001 00000067 ffffffff", func(r *zkproto.Request) bool { return r.Path == "" }},
		{"reconfig of nulls", "00000001 00000010 ffffffff ffffffff ffffffff 0000000000000000", func(r *zkproto.Request) bool { return r.Joining == "" }},
		{"auth of another type, null scheme and credential", "00000001 00000064 00000007 ffffffff ffffffff", func(r *zkproto.Request) bool { return r.Scheme == "" && r.Data == nil }},
		{"sasl of null", "00000001 00000066 ffffffff", func(r *zkproto.Request) bool { return r.Data == nil }},
		{"bytes that are no UTF-8", "00000001 00000004 00000003 2f78ff 00", func(r *zkproto.Request) bool { return r.Path == "/x\xff" && znode.CheckPath(r.Path) != nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r zkproto.Request
			d := zkproto.Decoder{MaxOps: maxOps}
			if err := d.Decode(unhex(t, tt.wire), &r); err != nil || !tt.check(&r) {
				t.Errorf("%v, %+v", err, r)
			}
		})
	}
}

// TestRefused checks what a ZooKeeper 3.8.0 was seen to refuse, and how. Where it behaves
// erratically (createSession makes a session, a null path may be -8, or watched), the test follows
// the reference.
func TestRefused(t *testing.T) {
	const (
		malformed = znode.ErrMarshalling
		unknown   = znode.ErrUnimplemented
	)
	for _, tt := range []struct {
		name, wire string
		code       znode.Code
		closes     bool
	}{
		{"nothing", "", znode.OK, true},
		{"half a header", "00000001 000000", znode.OK, true},
		{"op 0", "00000001 00000000", unknown, true},
		{"op 10", "00000001 0000000a", unknown, true},
		{"op 23", "00000001 00000017", unknown, true},
		{"op 99", "00000001 00000063", unknown, true},
		{"op 108", "00000001 0000006c", unknown, true},
		{"op -1", "00000001 ffffffff 00000005", unknown, true},
		{"op -2", "00000001 fffffffe", unknown, true},
		{"op -12", "00000001 fffffff4", unknown, true},
		{"the least op", "00000001 80000000", unknown, true},
		{"the greatest op", "00000001 7fffffff", unknown, true},
		{"createSession", "00000001 fffffff6 00000000 0000000000000000 00000bb8 0000000000000000 ffffffff", unknown, true},
		{"no body", "00000001 00000004", malformed, false},
		{"no watch", "00000001 00000004 00000002 2f61", malformed, false},
		{"a null path", "00000001 00000004 ffffffff 00", malformed, false},
		{"a path of -2 bytes", "00000001 00000004 fffffffe 00", malformed, false},
		{"a path longer than the frame", "00000001 00000004 00000064 2f61 00", malformed, false},
		{"the longest path", "00000001 00000004 7fffffff 2f61 00", malformed, false},
		{"data of -2 bytes", "00000001 00000005 00000002 2f61 fffffffe 00000000", malformed, false},
		{"more entries than bytes", "00000001 00000007 00000002 2f61 7fffffff 00000000", malformed, false},
		{"no ttl", "00000001 00000015 00000002 2f61 ffffffff ffffffff 00000005", malformed, false},
		{"three lists where five are due", "00000001 00000069 0000000000000000 00000000 00000000 00000000", malformed, false},
		{"the greatest number of watches", "00000001 00000065 0000000000000000 7fffffff", malformed, false},
		{"mode 2", "00000001 0000006a 00000002 2f61 00000002", malformed, false},
		{"mode -1", "00000001 0000006a 00000002 2f61 ffffffff", malformed, false},
		{"type 0", "00000001 00000011 00000002 2f61 00000000", malformed, false},
		{"type 6", "00000001 00000012 00000002 2f61 00000006", malformed, false},
		{"multi of nothing at all", "00000001 0000000e", malformed, false},
		{"multi without an end", "00000001 0000000e 0000000d 00 ffffffff 00000002 2f61 00000000", malformed, false},
		{"multi of an unknown op", "00000001 0000000e 0000004d 00 ffffffff ffffffff 01 ffffffff", malformed, false},
		{"multi of a multi", "00000001 0000000e 0000000e 00 ffffffff ffffffff 01 ffffffff", malformed, false},
		{"multi of an exists", "00000001 0000000e 00000003 00 ffffffff 00000002 2f61 00 ffffffff 01 ffffffff", malformed, false},
		{"multi of a setACL", "00000001 0000000e 00000007 00 ffffffff 00000002 2f61 ffffffff 00000000 ffffffff 01 ffffffff", malformed, false},
		{"multi of a read", "00000001 0000000e 00000004 00 ffffffff 00000002 2f61 00 ffffffff 01 ffffffff", malformed, false},
		{"multi of an end that is not done", "00000001 0000000e ffffffff 00 ffffffff ffffffff 01 ffffffff", malformed, false},
		{"multi of a null path", "00000001 0000000e 00000002 00 ffffffff ffffffff 00000000 ffffffff 01 ffffffff", malformed, false},
		{"multiRead of a write", "00000001 00000016 0000000d 00 ffffffff 00000002 2f61 00000000 ffffffff 01 ffffffff", malformed, false},
		{"multi of too many", "00000001 0000000e" + strings.Repeat("0000000d 00 ffffffff 00000002 2f61 00000000", maxOps+1) + "ffffffff 01 ffffffff", znode.ErrTooBig, false},
		{"auth of half a body", "fffffffc 00000064 00000000 00000006 646967657374", znode.OK, true},
		{"sasl of no body", "00000001 00000066", znode.OK, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			r := zkproto.Request{Xid: 77, Part: zkproto.Part{Op: zkproto.OpSync, Path: "/before"}}
			d := zkproto.Decoder{MaxOps: maxOps}
			err := d.Decode(wire, &r)
			refused(t, err, tt.code, tt.closes)
			if !errors.Is(err, tt.code) {
				t.Errorf("%v is not a %v", err, tt.code)
			}
			if want := len(wire) >= 8; (r.Xid != 0) != want || r.Op == zkproto.OpSync && wire[7] != 9 {
				t.Errorf("xid %d of %v", r.Xid, r.Op)
			}
		})
	}
}

// TestMultiLimit: as many operations as MaxOps are accepted, and the room for them is not kept for
// ever.
func TestMultiLimit(t *testing.T) {
	req := zkproto.Request{Part: zkproto.Part{Op: zkproto.OpMulti}}
	for range maxOps {
		req.Ops = append(req.Ops, zkproto.Part{Op: zkproto.OpDelete, Path: "/a"})
	}
	frame := cut(t, zkproto.AppendRequest(nil, &req))
	d := zkproto.Decoder{MaxOps: maxOps}
	var r zkproto.Request
	if err := d.Decode(frame, &r); err != nil || len(r.Ops) != maxOps {
		t.Fatal(len(r.Ops), err)
	}
	if err := (&zkproto.Decoder{MaxOps: maxOps - 1}).Decode(frame, &r); err == nil {
		t.Error("one too many was taken")
	}
	if err := d.Decode(cut(t, zkproto.AppendRequest(nil, &zkproto.Request{Part: zkproto.Part{Op: zkproto.OpPing}})), &r); err != nil || cap(r.Ops) > 32 {
		t.Errorf("room for %d operations is kept: %v", cap(r.Ops), err)
	}
}

// TestRequestOwnsItsStrings: strings outlive the buffer; data aliases it.
func TestRequestOwnsItsStrings(t *testing.T) {
	frame := cut(t, zkproto.AppendRequest(nil, &zkproto.Request{Part: zkproto.Part{Op: zkproto.OpCreate, Path: "/a", Data: []byte("hi"), ACL: threeACL}}))
	var r zkproto.Request
	d := zkproto.Decoder{MaxOps: maxOps}
	if err := d.Decode(frame, &r); err != nil {
		t.Fatal(err)
	}
	for i := range frame {
		frame[i] = 'x'
	}
	if r.Path != "/a" || !r.ACL.Equal(threeACL) || string(r.Data) != "xx" {
		t.Errorf("%+v", r)
	}
	if cap(r.Data) != len(r.Data) {
		t.Error("an append to the data would write into the frame")
	}
}

func TestMode(t *testing.T) {
	for op, want := range map[zkproto.Op]string{ // of flags -1 to 7: the mode, or - for ErrBadArguments
		zkproto.OpCreate:          "-0123456-",
		zkproto.OpCreate2:         "-0123456-",
		zkproto.OpCreateContainer: "-4422456-",
		zkproto.OpCreateTTL:       "------56-",
	} {
		var got []byte
		for flags := int32(-1); flags <= 7; flags++ {
			p := zkproto.Part{Op: op, Flags: flags}
			mode, err := p.Mode()
			switch {
			case err == nil:
				got = append(got, '0'+byte(mode))
			case errors.Is(err, znode.ErrBadArguments):
				got = append(got, '-')
			}
		}
		if string(got) != want {
			t.Errorf("%v: %s, want %s", op, got, want)
		}
	}
	if _, err := (&zkproto.Part{Op: zkproto.OpCreate, Flags: 256}).Mode(); err == nil {
		t.Error("flags of 256 are a mode")
	}
}
