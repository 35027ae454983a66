package zkproto_test

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"coord/server/zkproto"
	"coord/tree/znode"
)

var (
	stat = znode.Stat{
		Czxid: 2, Mzxid: 0x100000003, Pzxid: 4, CtimeMS: 0x1a1fd3bd360, MtimeMS: 0x1a1fd3bd361,
		Version: 5, Cversion: -2, Aversion: 7, EphemeralOwner: 0x1000154a9d30000, DataLength: 8, NumChildren: 9,
	}
	statHex = "0000000000000002 0000000100000003 000001a1fd3bd360 000001a1fd3bd361 00000005 fffffffe 00000007" +
		"01000154a9d30000 00000008 00000009 0000000000000004"
	identities = []znode.Identity{{Scheme: "ip", ID: "127.0.0.1"}, {Scheme: "digest", ID: "user1"}}
)

// reply appends a whole reply with a body.
func reply(xid int32, zxid znode.Zxid, body func(dst []byte) []byte) []byte {
	dst := body(zkproto.BeginReply(nil, xid, zxid))
	zkproto.EndFrame(dst, 0)
	return dst
}

// goldenReplies are replies and their bytes, by the rules of doc.go. TestCapture compares with the
// bytes that a ZooKeeper 3.8.0 sent.
var goldenReplies = []struct {
	name, wire string
	op         zkproto.Op
	header     zkproto.ReplyHeader
	append     []byte
	read       func(*zkproto.Body) any
	want       any
}{
	{"create", "00000016 00000001 0000000000000002 00000000 00000002 2f61", zkproto.OpCreate,
		zkproto.ReplyHeader{Xid: 1, Zxid: 2},
		reply(1, 2, func(b []byte) []byte { return zkproto.AppendString(b, "/a") }),
		func(b *zkproto.Body) any { return b.Str() }, "/a"},
	{"create2", "0000005a 00000001 0000000000000002 00000000 00000002 2f61" + statHex, zkproto.OpCreate2,
		zkproto.ReplyHeader{Xid: 1, Zxid: 2},
		reply(1, 2, func(b []byte) []byte { return zkproto.AppendStat(zkproto.AppendString(b, "/a"), &stat) }),
		func(b *zkproto.Body) any { return []any{b.Str(), b.Stat()} }, []any{"/a", stat}},
	{"exists", "00000054 00000001 0000000000000002 00000000" + statHex, zkproto.OpExists,
		zkproto.ReplyHeader{Xid: 1, Zxid: 2},
		reply(1, 2, func(b []byte) []byte { return zkproto.AppendStat(b, &stat) }),
		func(b *zkproto.Body) any { return b.Stat() }, stat},
	{"getData", "0000005a 00000002 0000000000000002 00000000 00000002 6869" + statHex, zkproto.OpGetData,
		zkproto.ReplyHeader{Xid: 2, Zxid: 2},
		reply(2, 2, func(b []byte) []byte { return zkproto.AppendStat(zkproto.AppendString(b, []byte("hi")), &stat) }),
		func(b *zkproto.Body) any { return []any{b.Buffer(), b.Stat()} }, []any{[]byte("hi"), stat}},
	{"getData of null", "00000058 00000002 0000000000000002 00000000 ffffffff" + statHex, zkproto.OpGetData,
		zkproto.ReplyHeader{Xid: 2, Zxid: 2},
		reply(2, 2, func(b []byte) []byte { return zkproto.AppendStat(zkproto.AppendNull(b), &stat) }),
		func(b *zkproto.Body) any { return []any{b.Buffer() == nil, b.Stat()} }, []any{true, stat}},
	{"getData of nothing", "00000058 00000002 0000000000000002 00000000 00000000" + statHex, zkproto.OpGetData,
		zkproto.ReplyHeader{Xid: 2, Zxid: 2},
		reply(2, 2, func(b []byte) []byte { return zkproto.AppendStat(zkproto.AppendString(b, ""), &stat) }),
		func(b *zkproto.Body) any { return []any{b.Buffer(), b.Stat()} }, []any{[]byte{}, stat}},
	{"getACL", "00000097 00000002 0000000000000002 00000000 00000003 00000003 00000002 6970 0000000a 31302e302e302e302f38" +
		"0000001f 00000005 776f726c64 00000006 616e796f6e65 00000010 00000004 61757468 00000000" + statHex, zkproto.OpGetACL,
		zkproto.ReplyHeader{Xid: 2, Zxid: 2},
		reply(2, 2, func(b []byte) []byte { return zkproto.AppendStat(zkproto.AppendACL(b, threeACL), &stat) }),
		func(b *zkproto.Body) any { return []any{b.ACL(), b.Stat()} }, []any{threeACL, stat}},
	{"getChildren", "0000001e 00000002 0000000000000002 00000000 00000002 00000001 61 00000001 62", zkproto.OpGetChildren,
		zkproto.ReplyHeader{Xid: 2, Zxid: 2},
		reply(2, 2, func(b []byte) []byte { return zkproto.AppendStrings(b, []string{"a", "b"}) }),
		func(b *zkproto.Body) any { return b.Strings() }, []string{"a", "b"}},
	{"getChildren2 of none", "00000058 00000002 0000000000000002 00000000 00000000" + statHex, zkproto.OpGetChildren2,
		zkproto.ReplyHeader{Xid: 2, Zxid: 2},
		reply(2, 2, func(b []byte) []byte { return zkproto.AppendStat(zkproto.AppendStrings(b, nil), &stat) }),
		func(b *zkproto.Body) any { return []any{b.Strings(), b.Stat()} }, []any{[]string{}, stat}},
	{"sync", "00000016 00000002 0000000000000002 00000000 00000002 2f61", zkproto.OpSync,
		zkproto.ReplyHeader{Xid: 2, Zxid: 2},
		reply(2, 2, func(b []byte) []byte { return zkproto.AppendString(b, "/a") }),
		func(b *zkproto.Body) any { return b.Str() }, "/a"},
	{"ping", "00000010 fffffffe 0000000000000002 00000000", zkproto.OpPing,
		zkproto.ReplyHeader{Xid: zkproto.XidPing, Zxid: 2}, zkproto.AppendReply(nil, zkproto.XidPing, 2, znode.OK), nil, nil},
	{"refused", "00000010 00000005 0000000000000003 ffffff9b", zkproto.OpGetData,
		zkproto.ReplyHeader{Xid: 5, Zxid: 3, Code: znode.ErrNoNode}, zkproto.AppendReply(nil, 5, 3, znode.ErrNoNode), nil, nil},
	{"unknown", "00000010 00000001 ffffffffffffffff fffffffa", 77, // as a ZooKeeper 3.8.0 sent it
		zkproto.ReplyHeader{Xid: 1, Zxid: zkproto.NoZxid, Code: znode.ErrUnimplemented}, zkproto.AppendReply(nil, 1, zkproto.NoZxid, znode.ErrUnimplemented), nil, nil},
	{"multi", "00000022 00000003 0000000000000003 00000000 0000000d 00 00000000 ffffffff 01 ffffffff", zkproto.OpMulti,
		zkproto.ReplyHeader{Xid: 3, Zxid: 3},
		reply(3, 3, func(b []byte) []byte {
			return zkproto.AppendMultiEnd(zkproto.AppendMultiResult(b, zkproto.OpCheck))
		}),
		func(b *zkproto.Body) any { return b.Results() }, []zkproto.Result{{Op: zkproto.OpCheck}}},
	{"multi that failed", "00000026 00000003 0000000000000003 00000000 ffffffff 00 ffffff99 ffffff99 ffffffff 01 ffffffff", zkproto.OpMulti,
		zkproto.ReplyHeader{Xid: 3, Zxid: 3},
		reply(3, 3, func(b []byte) []byte {
			return zkproto.AppendMultiEnd(zkproto.AppendMultiError(b, znode.ErrBadVersion))
		}),
		func(b *zkproto.Body) any { return b.Results() }, []zkproto.Result{{Op: zkproto.OpError, Code: znode.ErrBadVersion}}},
	{"multi of all results", "00000194 00000003 0000000000000003 00000000" +
		"00000001 00 00000000 00000002 2f61" +
		"0000000f 00 00000000 00000002 2f62" + statHex +
		"0000000f 00 00000000 00000002 2f63" + statHex +
		"00000002 00 00000000" +
		"00000005 00 00000000" + statHex +
		"00000004 00 00000000 ffffffff" + statHex +
		"00000008 00 00000000 00000001 00000001 78" +
		"ffffffff 00 00000000 00000000" +
		"ffffffff 01 ffffffff", zkproto.OpMulti,
		zkproto.ReplyHeader{Xid: 3, Zxid: 3},
		reply(3, 3, func(b []byte) []byte {
			b = zkproto.AppendString(zkproto.AppendMultiResult(b, zkproto.OpCreate), "/a")
			b = zkproto.AppendStat(zkproto.AppendString(zkproto.AppendMultiResult(b, zkproto.OpCreateContainer), "/b"), &stat)
			b = zkproto.AppendStat(zkproto.AppendString(zkproto.AppendMultiResult(b, zkproto.OpCreateTTL), "/c"), &stat)
			b = zkproto.AppendMultiResult(b, zkproto.OpDelete)
			b = zkproto.AppendStat(zkproto.AppendMultiResult(b, zkproto.OpSetData), &stat)
			b = zkproto.AppendStat(zkproto.AppendNull(zkproto.AppendMultiResult(b, zkproto.OpGetData)), &stat)
			b = zkproto.AppendStrings(zkproto.AppendMultiResult(b, zkproto.OpGetChildren), []string{"x"})
			return zkproto.AppendMultiEnd(zkproto.AppendMultiError(b, znode.OK))
		}),
		func(b *zkproto.Body) any { return b.Results() },
		[]zkproto.Result{
			{Op: zkproto.OpCreate, Path: "/a"}, {Op: zkproto.OpCreate2, Path: "/b", Stat: stat}, {Op: zkproto.OpCreate2, Path: "/c", Stat: stat},
			{Op: zkproto.OpDelete}, {Op: zkproto.OpSetData, Stat: stat}, {Op: zkproto.OpGetData, Stat: stat},
			{Op: zkproto.OpGetChildren, Children: []string{"x"}}, {Op: zkproto.OpError},
		}},
	{"sasl", "00000017 00000002 0000000000000000 00000000 00000003 746f6b", zkproto.OpSASL,
		zkproto.ReplyHeader{Xid: 2},
		reply(2, 0, func(b []byte) []byte { return zkproto.AppendString(b, "tok") }),
		func(b *zkproto.Body) any { return b.Buffer() }, []byte("tok")},
	{"getAllChildrenNumber", "00000014 00000002 0000000000000002 00000000 00000003", zkproto.OpGetAllChildrenNumber,
		zkproto.ReplyHeader{Xid: 2, Zxid: 2},
		reply(2, 2, func(b []byte) []byte { return zkproto.AppendInt(b, 3) }),
		func(b *zkproto.Body) any { return b.Int() }, int32(3)},
	{"whoAmI", "0000003a 00000025 0000000000000232 00000000 00000002 00000002 6970 00000009 3132372e302e302e31 00000006 646967657374 00000005 7573657231", zkproto.OpWhoAmI,
		zkproto.ReplyHeader{Xid: 0x25, Zxid: 0x232},
		reply(0x25, 0x232, func(b []byte) []byte { return zkproto.AppendIdentities(b, identities) }),
		func(b *zkproto.Body) any { return b.Identities() }, identities},
	{"event", "0000001e ffffffff ffffffffffffffff 00000000 00000003 00000003 00000002 2f61", zkproto.OpNotification,
		zkproto.ReplyHeader{Xid: zkproto.XidEvent, Zxid: zkproto.NoZxid},
		zkproto.AppendEvent(nil, znode.NodeDataChanged, "/a", zkproto.NoZxid),
		func(b *zkproto.Body) any { return b.Event() }, znode.Event{Type: znode.NodeDataChanged, Path: "/a"}},
}

func TestReplies(t *testing.T) {
	for _, tt := range goldenReplies {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			if !bytes.Equal(tt.append, wire) {
				t.Errorf("appended\n got %x\nwant %x", tt.append, wire)
			}
			header, body, err := zkproto.ReadReply(cut(t, wire))
			if err != nil || header != tt.header {
				t.Errorf("%+v, %v", header, err)
			}
			if tt.read != nil {
				if got := tt.read(&body); !reflect.DeepEqual(got, tt.want) {
					t.Errorf("read\n got %+v\nwant %+v", got, tt.want)
				}
			}
			if err := body.End(); err != nil {
				t.Error(err)
			}
			if again, err := rereply(tt.op, cut(t, wire)); err != nil || !bytes.Equal(again, wire) {
				t.Errorf("%v\n got %x\nwant %x", err, again, wire)
			}
			for n := range cut(t, wire) {
				if _, err := rereply(tt.op, cut(t, wire)[:n:n]); err == nil {
					t.Errorf("%d bytes were enough", n)
				}
			}
		})
	}
}

// TestStrict: a client accepts nothing that no server has a reason to send.
func TestStrict(t *testing.T) {
	head := "00000001 0000000000000002 00000000"
	for name, tt := range map[string]struct {
		op   zkproto.Op
		wire string
	}{
		"half a header":                {zkproto.OpPing, "00000001 0000000000000002 000000"},
		"a null path":                  {zkproto.OpCreate, head + "ffffffff"},
		"a byte too many":              {zkproto.OpCreate, head + "00000000 00"},
		"a null list":                  {zkproto.OpGetChildren, head + "ffffffff"},
		"a list of -2":                 {zkproto.OpGetChildren, head + "fffffffe"},
		"a null in a list":             {zkproto.OpGetChildren, head + "00000001 ffffffff"},
		"a list longer than the frame": {zkproto.OpGetChildren, head + "7fffffff 00000000"},
		"a null ACL":                   {zkproto.OpGetACL, head + "ffffffff" + statHex},
		"an ACL of a null id":          {zkproto.OpGetACL, head + "00000001 00000001 00000002 6970 ffffffff" + statHex},
		"whoAmI of null":               {zkproto.OpWhoAmI, head + "ffffffff"},
		"whoAmI of too many":           {zkproto.OpWhoAmI, head + "7fffffff"},
		"data of -2":                   {zkproto.OpGetData, head + "fffffffe" + statHex},
		"a body behind an error":       {zkproto.OpMulti, "00000001 0000000000000002 fffffffb ffffffff 01 ffffffff"}, // as a ZooKeeper 3.8.0 sends
		"a result of another op":       {zkproto.OpMulti, head + "00000007 00 00000000 ffffffff 01 ffffffff"},
		"a result with an error":       {zkproto.OpMulti, head + "00000002 00 00000001 ffffffff 01 ffffffff"},
		"two errors":                   {zkproto.OpMulti, head + "ffffffff 00 ffffff99 ffffff98 ffffffff 01 ffffffff"},
		"done of 2":                    {zkproto.OpMulti, head + "ffffffff 02 ffffffff"},
		"an end with an op":            {zkproto.OpMulti, head + "00000001 01 ffffffff"},
		"an end without -1":            {zkproto.OpMulti, head + "ffffffff 01 00000000"},
		"no end":                       {zkproto.OpMulti, head + "00000002 00 00000000"},
		"event 0":                      {zkproto.OpNotification, "ffffffff 0000000000000002 00000000 00000000 00000003 00000002 2f61"},
		"event 5":                      {zkproto.OpNotification, "ffffffff 0000000000000002 00000000 00000005 00000003 00000002 2f61"},
		"event of another state":       {zkproto.OpNotification, "ffffffff 0000000000000002 00000000 00000003 00000000 00000002 2f61"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rereply(tt.op, unhex(t, tt.wire))
			refused(t, err, znode.ErrMarshalling, true)
		})
	}
}

func TestConnect(t *testing.T) {
	password := zkproto.Password{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	for _, tt := range []struct {
		name, wire string
		want       zkproto.Connect
	}{
		{"new", "0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010 00000000000000000000000000000000 00",
			zkproto.Connect{TimeoutMS: 10_000, Password: make([]byte, 16), HasReadOnly: true}},
		{"again, read-only", "0000002d 00000000 0000000100000002 00002710 1000000000000001 00000010 000102030405060708090a0b0c0d0e0f 01",
			zkproto.Connect{LastZxid: 0x100000002, TimeoutMS: 10_000, Session: 0x1000000000000001, Password: password[:], HasReadOnly: true, ReadOnly: true}},
		{"without readOnly", "0000002c 00000000 0000000000000000 00002710 0000000000000000 00000010 00000000000000000000000000000000",
			zkproto.Connect{TimeoutMS: 10_000, Password: make([]byte, 16)}},
		{"null password", "0000001c 00000000 0000000000000000 ffffffff 0000000000000000 ffffffff", zkproto.Connect{TimeoutMS: -1}},
		{"empty password", "0000001d 00000000 0000000000000000 00002710 0000000000000000 00000000 00",
			zkproto.Connect{TimeoutMS: 10_000, Password: []byte{}, HasReadOnly: true}},
		{"short password", "0000001f 00000000 0000000000000000 00002710 0000000000000000 00000003 616263",
			zkproto.Connect{TimeoutMS: 10_000, Password: []byte("abc")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			got, err := zkproto.ReadConnect(cut(t, wire))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v, %+v", err, got)
			}
			if again := zkproto.AppendConnect(nil, &tt.want); !bytes.Equal(again, wire) {
				t.Errorf("appended\n got %x\nwant %x", again, wire)
			}
		})
	}
	// A ZooKeeper 3.8.0 accepts these: another version, more bytes, a boolean of 2.
	got, err := zkproto.ReadConnect(unhex(t, "fffffff9 0000000000000000 00002710 0000000000000000 00000000 02 616263"))
	if err != nil || !got.ReadOnly {
		t.Errorf("%v, %+v", err, got)
	}
	for name, wire := range map[string]string{ // answered by closing the connection
		"no password": "00000000 0000000000000000 00002710 0000000000000000",
		"-2 bytes":    "00000000 0000000000000000 00002710 0000000000000000 fffffffe",
		"nothing":     "",
	} {
		_, err := zkproto.ReadConnect(unhex(t, wire))
		t.Log(name)
		refused(t, err, znode.OK, true)
	}

	for _, tt := range []struct {
		name, wire string
		want       zkproto.Connected
	}{
		{"connected", "00000025 00000000 00002710 1000000000000001 00000010 000102030405060708090a0b0c0d0e0f 00",
			zkproto.Connected{TimeoutMS: 10_000, Session: 0x1000000000000001, Password: password, HasReadOnly: true}},
		{"read-only", "00000025 00000000 00002710 1000000000000001 00000010 000102030405060708090a0b0c0d0e0f 01",
			zkproto.Connected{TimeoutMS: 10_000, Session: 0x1000000000000001, Password: password, HasReadOnly: true, ReadOnly: true}},
		{"without readOnly", "00000024 00000000 00002710 1000000000000001 00000010 000102030405060708090a0b0c0d0e0f",
			zkproto.Connected{TimeoutMS: 10_000, Session: 0x1000000000000001, Password: password}},
		{"refused", "00000025 00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000 00",
			zkproto.Connected{HasReadOnly: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			if got, err := zkproto.ReadConnected(cut(t, wire)); err != nil || got != tt.want {
				t.Errorf("%v, %+v", err, got)
			}
			if again := zkproto.AppendConnected(nil, &tt.want); !bytes.Equal(again, wire) {
				t.Errorf("appended\n got %x\nwant %x", again, wire)
			}
		})
	}
	for _, wire := range []string{
		"00000000 00000000 0000000000000000 0000000f 000000000000000000000000000000",
		"00000000 00000000 0000000000000000 00000011 0000000000000000000000000000000000 00",
		"00000000 00000000 0000000000000000 ffffffff 00",
		"00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000 02",
		"00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000 00 00",
	} {
		_, err := zkproto.ReadConnected(unhex(t, wire))
		refused(t, err, znode.ErrMarshalling, true)
	}
}

func TestCutFrame(t *testing.T) {
	const limit = 10
	for _, tt := range []struct {
		name, wire, frame string
		n                 int // consumed, or needed
		whole             bool
	}{
		{"nothing", "", "", 4, false},
		{"half a length", "000000", "", 4, false},
		{"only a length", "00000002", "", 6, false},
		{"half", "00000002 61", "", 6, false},
		{"whole", "00000002 6162", "6162", 6, true},
		{"more", "00000002 6162 63", "6162", 6, true},
		{"empty", "00000000", "", 4, true},
		{"the longest", "0000000a 61616161616161616161", "61616161616161616161", 14, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frame, n, err := zkproto.CutFrame(unhex(t, tt.wire), limit)
			if err != nil || n != tt.n || (frame != nil) != tt.whole || !bytes.Equal(frame, unhex(t, tt.frame)) || cap(frame) != len(frame) {
				t.Errorf("%x, %d, %v", frame, n, err)
			}
		})
	}
	for _, wire := range []string{"0000000b", "ffffffff", "7fffffff", "80000000", "72756f6b"} {
		_, n, err := zkproto.CutFrame(unhex(t, wire), limit)
		if refused(t, err, znode.OK, true); n != 0 {
			t.Error(n)
		}
	}
}

// TestWireCode: no client gets a number that it does not know.
func TestWireCode(t *testing.T) {
	// Numbers for which both kazoo 2.2 and the Java client 3.4 have exceptions.
	known := []int32{-1, -2, -3, -4, -5, -6, -7, -8, -100, -101, -102, -103, -108, -110, -111, -112, -113, -114, -115, -118, -119}
	for _, code := range znode.Codes() {
		switch wire := zkproto.WireCode(code); {
		case code > znode.ErrTooBig && wire != int32(code):
			t.Errorf("ZooKeeper's own %d (%v) became %d", code, code, wire)
		case code <= znode.ErrTooBig && !slices.Contains(known, wire):
			t.Errorf("%s is %d on the wire", code.Word(), wire)
		}
	}
	for code, want := range map[znode.Code]int32{
		znode.ErrNoLeader: -7, znode.ErrUncertain: -4, znode.ErrTooBig: -8, znode.ErrNoSpace: -1, znode.ErrCompacted: -1, -9999: -1,
	} {
		if got := zkproto.WireCode(code); got != want {
			t.Errorf("%s is %d, want %d", code.Word(), got, want)
		}
	}
	if wire := zkproto.AppendMultiError(nil, znode.ErrNoSpace); !bytes.Equal(wire, unhex(t, "ffffffff 00 ffffffff ffffffff")) {
		t.Errorf("%x", wire)
	}
}

func TestOpString(t *testing.T) {
	for op, want := range map[zkproto.Op]string{zkproto.OpGetData: "getData", zkproto.OpCloseSession: "closeSession", 0: "notification", 10: "op 10", -99: "op -99", 108: "op 108"} {
		if got := op.String(); got != want {
			t.Errorf("%d is %q", op, got)
		}
	}
}
