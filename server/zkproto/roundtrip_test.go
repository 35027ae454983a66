package zkproto_test

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// anyString draws the bytes of strings: of any encoding, except the value that stands for null.
var anyString = rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), func(b []byte) string { return string(b) }).
	Filter(func(s string) bool { return s != znode.Null })

// anyData draws data: null, empty or anything else.
var anyData = rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 300))

var anyACL = rapid.OneOf(
	rapid.SampledFrom([]znode.ACL{nil, {}, znode.OpenACL, znode.ReadACL}),
	rapid.Custom(func(t *rapid.T) znode.ACL {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) znode.ACLEntry {
			return znode.ACLEntry{Perms: znode.Perms(rapid.Int32().Draw(t, "perms")),
				Identity: znode.Identity{Scheme: anyString.Draw(t, "scheme"), ID: anyString.Draw(t, "id")}}
		}), 0, 5).Draw(t, "entries")
	}))

// drawPart draws an operation with the fields that the table gives it.
func drawPart(t *rapid.T, s zkproto.Shape) zkproto.Part {
	p := zkproto.Part{Op: s.Op}
	for _, f := range s.Body {
		switch f {
		case "path", "prefix":
			p.Path = anyString.Draw(t, f)
		case "data":
			p.Data = anyData.Draw(t, f)
		case "acl":
			p.ACL = anyACL.Draw(t, f)
		case "flags":
			p.Flags = rapid.Int32().Draw(t, f)
		case "ttl":
			p.TTLMS = rapid.Int64().Draw(t, f)
		case "version":
			p.Version = rapid.Int32().Draw(t, f)
		case "watch":
			p.Watch = rapid.Bool().Draw(t, f)
		}
	}
	return p
}

func drawRequest(t *rapid.T) zkproto.Request {
	var alone, inMulti, inReads []zkproto.Shape
	for _, s := range zkproto.Shapes() {
		if s.Alone {
			alone = append(alone, s)
		}
		if s.InMulti {
			inMulti = append(inMulti, s)
		}
		if s.InReads {
			inReads = append(inReads, s)
		}
	}
	s := rapid.SampledFrom(alone).Draw(t, "op")
	r := zkproto.Request{Xid: rapid.Int32().Draw(t, "xid"), Part: drawPart(t, s)}
	lists := func(n int) {
		for i := range n {
			r.Watches[i] = rapid.SliceOfN(anyString, 0, 4).Draw(t, "list")
		}
	}
	for _, f := range s.Body {
		switch f {
		case "mode":
			r.Kind = rapid.Int32Range(0, 1).Draw(t, f)
		case "type":
			r.Kind = rapid.Int32Range(1, 5).Draw(t, f)
		case "scheme":
			r.Scheme = anyString.Draw(t, f)
		case "joining":
			r.Joining = anyString.Draw(t, f)
		case "leaving":
			r.Leaving = anyString.Draw(t, f)
		case "members":
			r.Members = anyString.Draw(t, f)
		case "config":
			r.Config = rapid.Int64().Draw(t, f)
		case "zxid":
			r.Zxid = znode.Zxid(rapid.Uint64().Draw(t, f))
		case "lists3":
			lists(3)
		case "lists5":
			lists(5)
		case "parts":
			from := inMulti
			if s.Op == zkproto.OpMultiRead {
				from = inReads
			}
			for range rapid.IntRange(0, 40).Draw(t, f) {
				r.Ops = append(r.Ops, drawPart(t, rapid.SampledFrom(from).Draw(t, "part")))
			}
		}
	}
	return r
}

// TestRequestRoundTrip: an encoded request decodes to the same request, whatever was decoded before
// and however the bytes are split.
func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(drawRequest), 1, 5).Draw(t, "requests")
		var wire []byte
		for i := range want {
			wire = zkproto.AppendRequest(wire, &want[i])
		}
		d := zkproto.Decoder{MaxOps: maxOps}
		var r zkproto.Request
		var buf []byte
		for i := 0; i < len(want); {
			frame, n, err := zkproto.CutFrame(buf, zkproto.DefaultMaxFrame)
			if err != nil {
				t.Fatal(err)
			}
			if frame == nil {
				more := rapid.IntRange(1, n-len(buf)).Draw(t, "more") // up to the number that it needs, and no more
				buf, wire = append(buf, wire[:more]...), wire[more:]
				continue
			}
			if err := d.Decode(frame, &r); err != nil {
				t.Fatalf("%+v: %v", want[i], err)
			}
			got := r
			if len(got.Ops) == 0 {
				got.Ops = nil
			}
			if !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("\n got %+v\nwant %+v", got, want[i])
			}
			buf = bytes.Clone(buf[n:])
			i++
		}
		if len(buf)+len(wire) > 0 {
			t.Fatalf("%d bytes are left", len(buf)+len(wire))
		}
	})
}

func drawStat(t *rapid.T) znode.Stat {
	long, num := rapid.Int64(), rapid.Int32()
	return znode.Stat{
		Czxid: znode.Zxid(long.Draw(t, "czxid")), Mzxid: znode.Zxid(long.Draw(t, "mzxid")), Pzxid: znode.Zxid(long.Draw(t, "pzxid")),
		CtimeMS: long.Draw(t, "ctime"), MtimeMS: long.Draw(t, "mtime"), EphemeralOwner: long.Draw(t, "owner"),
		Version: num.Draw(t, "version"), Cversion: num.Draw(t, "cversion"), Aversion: num.Draw(t, "aversion"),
		DataLength: num.Draw(t, "length"), NumChildren: num.Draw(t, "children"),
	}
}

// TestResultsRoundTrip: the same for the results of a multi, the most complex of replies.
func TestResultsRoundTrip(t *testing.T) {
	stats, strings := rapid.Custom(drawStat), rapid.SliceOfN(anyString, 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) (r zkproto.Result) {
			switch r.Op = rapid.SampledFrom([]zkproto.Op{zkproto.OpError, zkproto.OpCreate, zkproto.OpCreate2, zkproto.OpSetData,
				zkproto.OpDelete, zkproto.OpCheck, zkproto.OpGetData, zkproto.OpGetChildren}).Draw(t, "op"); r.Op {
			case zkproto.OpError:
				r.Code = rapid.SampledFrom([]znode.Code{znode.OK, znode.ErrNoNode, znode.ErrRuntimeInconsistency}).Draw(t, "code")
			case zkproto.OpCreate:
				r.Path = anyString.Draw(t, "path")
			case zkproto.OpCreate2:
				r.Path, r.Stat = anyString.Draw(t, "path"), stats.Draw(t, "stat")
			case zkproto.OpSetData:
				r.Stat = stats.Draw(t, "stat")
			case zkproto.OpGetData:
				r.Data, r.Stat = anyData.Draw(t, "data"), stats.Draw(t, "stat")
			case zkproto.OpGetChildren:
				r.Children = strings.Draw(t, "children")
			}
			return r
		}), 1, 20).Draw(t, "results")
		wire := reply(7, 8, func(b []byte) []byte {
			for i := range want {
				b = appendResult(b, &want[i])
			}
			return zkproto.AppendMultiEnd(b)
		})
		_, body, err := zkproto.ReadReply(wire[4:])
		if err != nil {
			t.Fatal(err)
		}
		if got := body.Results(); body.End() != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n got %+v\nwant %+v", body.End(), got, want)
		}
	})
}
