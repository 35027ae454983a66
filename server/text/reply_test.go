package text_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// replies in the three formats.
var replies = []struct {
	name            string
	reply           text.Reply
	text, json, b64 string // b64 empty: the same as text
}{
	{
		"OK", text.Reply{Kind: text.KindOK},
		"OK\n", `{"t":"OK"}`, "",
	},
	{
		"word", text.Reply{Kind: text.KindOK, Arg: "pong", Tag: "a1"},
		"@a1 OK pong\n", `{"t":"OK","tag":"a1","arg":"pong"}`, "",
	},
	{
		"fields", text.Reply{Kind: text.KindOK, Fields: []text.Field{
			text.Str(text.KeyPath, "/a"), text.Int(text.KeyVersion, -3), text.Zxid(text.KeyZxid, 0x1000000ff), text.Hex(text.KeyOwner, 0),
		}},
		"OK path=/a v=-3 zxid=0x1000000ff eph=0x0\n", `{"t":"OK","path":"/a","v":-3,"zxid":"0x1000000ff","eph":"0x0"}`, "",
	},
	{
		"quoted field", text.Reply{Kind: text.KindOK, Fields: []text.Field{
			text.Str(text.KeyPath, "/a b"), text.Str(text.KeyUser, ""), text.Str(text.KeyNode, "\"\\\n\r\t\x00\x7f\xffé"),
		}},
		`OK path="/a b" user="" node="\"\\\n\r\t\x00\x7f\xffé"` + "\n",
		`{"t":"OK","path":"/a b","user":"","node":"\"\\\n\r\t\u0000\u007f\ufffdé"}`, "",
	},
	{
		"DATA", text.Reply{Kind: text.KindData, Tag: "x", Data: []byte("hé\nllo"), Fields: []text.Field{text.Int(text.KeyVersion, 3)}},
		"@x DATA 7 v=3\nhé\nllo\n", `{"t":"DATA","tag":"x","data":"hé\nllo","v":3}`, "@x DATA64 aMOpCmxsbw== v=3\n",
	},
	{
		"DATA of nothing", text.Reply{Kind: text.KindData, Fields: []text.Field{text.Int(text.KeyVersion, 0)}},
		"DATA 0 v=0\n\n", `{"t":"DATA","data":"","v":0}`, `DATA64 "" v=0` + "\n",
	},
	{
		"DATA that is no text", text.Reply{Kind: text.KindData, Data: []byte{0xff, 0}},
		"DATA 2\n\xff\x00\n", `{"t":"DATA","data64":"/wA="}`, "DATA64 /wA=\n",
	},
	{
		"line ends of other programs", text.Reply{Kind: text.KindData, Data: []byte("\u0085\u2028\u2029\u00a0\u2030")},
		"DATA 13\n\u0085\u2028\u2029\u00a0\u2030\n", `{"t":"DATA","data":"\u0085\u2028\u2029` + "\u00a0\u2030" + `"}`, "DATA64 woXigKjigKnCoOKAsA==\n",
	},
	{
		"LIST of none", text.Reply{Kind: text.KindList, Fields: []text.Field{text.Zxid(text.KeyZxid, 5)}},
		"LIST 0 zxid=0x5\n", `{"t":"LIST","zxid":"0x5","items":[]}`, "",
	},
	{
		"LIST", text.Reply{Kind: text.KindList, Tag: "l", Fields: []text.Field{text.Int(text.KeyMore, 1)}, Items: []text.Reply{
			{Kind: text.KindItem, Arg: "a b"},
			{Kind: text.KindItem, Arg: "v=1", Fields: []text.Field{text.Int(text.KeyVersion, 1)}},
			{Kind: text.KindData, Data: []byte("x"), Fields: []text.Field{text.Str(text.KeyPath, "/x")}},
			{Kind: text.KindOK},
			{Kind: text.KindErr, Code: znode.ErrNoAuth, Fields: []text.Field{text.Str(text.KeyPath, "/y")}},
		}},
		"@l LIST 5 more=1\nITEM \"a b\"\nITEM v=1 v=1\nDATA 1 path=/x\nx\nOK\nERR NOAUTH path=/y\n",
		`{"t":"LIST","tag":"l","more":1,"items":[{"t":"ITEM","arg":"a b"},{"t":"ITEM","arg":"v=1","v":1},` +
			`{"t":"DATA","data":"x","path":"/x"},{"t":"OK"},{"t":"ERR","code":"NOAUTH","path":"/y"}]}`,
		"@l LIST 5 more=1\nITEM \"a b\"\nITEM v=1 v=1\nDATA64 eA== path=/x\nOK\nERR NOAUTH path=/y\n",
	},
	{
		"ITEM of nothing", text.Reply{Kind: text.KindList, Items: []text.Reply{{Kind: text.KindItem}}},
		"LIST 1\nITEM \"\"\n", `{"t":"LIST","items":[{"t":"ITEM","arg":""}]}`, "",
	},
	{
		"ERR", text.Reply{Kind: text.KindErr, Tag: "e", Code: znode.ErrBadVersion, Message: "the version is - \"another\"", Fields: []text.Field{
			text.Str(text.KeyPath, "/a - b"), text.Int(text.KeyHave, 7),
		}},
		"@e ERR BADVERSION path=\"/a - b\" have=7 - the version is - \"another\"\n",
		`{"t":"ERR","tag":"e","code":"BADVERSION","path":"/a - b","have":7,"message":"the version is - \"another\""}`, "",
	},
	{
		"CHUNK", text.Reply{Kind: text.KindChunk, Tag: "s", Data: []byte("x\ny")},
		"@s CHUNK 3\nx\ny\n", "@s CHUNK 3\nx\ny", "",
	},
	{
		"END", text.Reply{Kind: text.KindEnd, Fields: []text.Field{text.Str(text.KeySHA256, "e3b0c4"), text.Int(text.KeyBytes, 12)}},
		"END sha256=e3b0c4 bytes=12\n", "END sha256=e3b0c4 bytes=12", "",
	},
	{
		"EVENT", text.Reply{Kind: text.KindEvent, Arg: "changed", Fields: []text.Field{
			text.Str(text.KeyPath, "/a"), text.Zxid(text.KeyZxid, 0x100000005), text.Int(text.KeyVersion, 3), text.Int(text.KeyID, 7),
		}},
		"EVENT changed path=/a zxid=0x100000005 v=3 id=7\n",
		`{"t":"EVENT","type":"changed","path":"/a","zxid":"0x100000005","v":3,"id":7}`, "",
	},
	{
		"EVENT of a session", text.Reply{Kind: text.KindEvent, Arg: "expired", Fields: []text.Field{text.Hex(text.KeySession, 1<<63|5)}},
		"EVENT expired session=0x8000000000000005\n", `{"t":"EVENT","type":"expired","session":"0x8000000000000005"}`, "",
	},
	{
		"EVENT with a value", text.Reply{Kind: text.KindEvent, Arg: "created", Data: []byte("hé\nllo"), Fields: []text.Field{
			text.Str(text.KeyPath, "/a :5"), text.Int(text.KeyID, 1),
		}},
		"EVENT created path=\"/a :5\" id=1 :7\nhé\nllo\n",
		`{"t":"EVENT","type":"created","data":"hé\nllo","path":"/a :5","id":1}`,
		"EVENT created path=\"/a :5\" id=1 data64=aMOpCmxsbw==\n",
	},
	{
		"EVENT with the empty value", text.Reply{Kind: text.KindEvent, Arg: "changed", Data: []byte{}, Fields: []text.Field{text.Int(text.KeyID, 1)}},
		"EVENT changed id=1 :0\n\n", `{"t":"EVENT","type":"changed","data":"","id":1}`, `EVENT changed id=1 data64=""` + "\n",
	},
	{
		"EVENT with a value that is no text", text.Reply{Kind: text.KindEvent, Arg: "changed", Data: []byte{0xff, 0}},
		"EVENT changed :2\n\xff\x00\n", `{"t":"EVENT","type":"changed","data64":"/wA="}`, "EVENT changed data64=/wA=\n",
	},
	{
		"EVENT that ends like a length", text.Reply{Kind: text.KindEvent, Arg: "changed", Fields: []text.Field{text.Str(text.KeyPath, "/a :5")}},
		"EVENT changed path=\"/a :5\"\n", `{"t":"EVENT","type":"changed","path":"/a :5"}`, "",
	},
	{
		"times", text.Reply{Kind: text.KindOK, Fields: []text.Field{text.Duration(text.KeyTTL, 10_000), text.Duration(text.KeyHold, 1)}},
		"OK ttl=10s hold=1ms\n", `{"t":"OK","ttl":"10s","hold":"1ms"}`, "",
	},
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for _, tt := range replies {
		t.Run(tt.name, func(t *testing.T) {
			want := map[text.Format]string{text.FormatText: tt.text, text.FormatJSON: tt.json + "\n", text.FormatB64: tt.b64}
			if tt.b64 == "" {
				want[text.FormatB64] = tt.text
			}
			for f, want := range want {
				if got := string(tt.reply.Append([]byte("> "), f, false)); got != "> "+want {
					t.Errorf("%v:\n got %q\nwant %q", f, got[2:], want)
				}
			}
			b := tt.reply.Append(nil, text.FormatJSON, false)
			stream := tt.reply.Kind == text.KindChunk || tt.reply.Kind == text.KindEnd
			if !stream && (!json.Valid(b) || bytes.Count(b, []byte("\n")) != 1) {
				t.Errorf("%s is not one line of JSON", b)
			}
		})
	}
}

func TestFormatNames(t *testing.T) {
	t.Parallel()
	for _, f := range []text.Format{text.FormatText, text.FormatJSON, text.FormatB64} {
		if got, ok := text.FormatOf(f.String()); !ok || got != f {
			t.Errorf("%v is found as %v", f, got)
		}
	}
	if _, ok := text.FormatOf("xml"); ok {
		t.Error("xml is found")
	}
}

func TestCRLF(t *testing.T) {
	t.Parallel()
	event := text.Reply{Kind: text.KindEvent, Arg: "changed", Data: []byte("b\n")}
	for f, want := range map[text.Format]string{
		text.FormatText: "EVENT changed :2\r\nb\n\r\n", text.FormatB64: "EVENT changed data64=Ygo=\r\n", text.FormatJSON: `{"t":"EVENT","type":"changed","data":"b\n"}` + "\r\n",
	} {
		if got := string(event.Append(nil, f, true)); got != want {
			t.Errorf("%v: got %q", f, got)
		}
	}
	r := text.Reply{Kind: text.KindList, Items: []text.Reply{{Kind: text.KindItem, Arg: "a"}, {Kind: text.KindData, Data: []byte("b\n")}}}
	const want = "LIST 2\r\nITEM a\r\nDATA 2\r\nb\n\r\n"
	if got := string(r.Append(nil, text.FormatText, true)); got != want {
		t.Errorf("got %q", got)
	}
	if got := string(r.Append(nil, text.FormatJSON, true)); !strings.HasSuffix(got, "}\r\n") {
		t.Errorf("got %q", got)
	}
}

// TestMessageStaysOnItsLine: text that a message quotes cannot start a new line.
func TestMessageStaysOnItsLine(t *testing.T) {
	t.Parallel()
	r := text.Reply{Kind: text.KindErr, Code: znode.ErrInternal, Message: "a\nOK\xffb"}
	if got := string(r.Append(nil, text.FormatText, false)); got != "ERR INTERNAL - a?OK?b\n" {
		t.Errorf("got %q", got)
	}
}

// TestDetachEvent: the empty value of an event stays an empty value.
func TestDetachEvent(t *testing.T) {
	t.Parallel()
	buf := []byte("EVENT changed :2\nab\nEVENT changed :0\n\nEVENT deleted\n")
	got, err := readAll(t, buf, len(buf))
	if err != nil || len(got) != 3 || string(got[0].Data) != "ab" || got[1].Data == nil || got[2].Data != nil {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestErrorReply(t *testing.T) {
	t.Parallel()
	out := feed(t, text.DefaultLimits(), []byte("@a GET x\n@b TXN 2\nRM /a\nRM b\n"), 100)
	var got []byte
	for _, o := range out {
		r := o.err.Reply()
		got = r.Append(got, text.FormatText, false)
	}
	const want = "@a ERR SYNTAX - path \"x\" does not start with /\n@b ERR SYNTAX op=1 - path \"b\" does not start with /\n"
	if string(got) != want {
		t.Errorf("got %q", got)
	}
}

// readAll reads replies, step bytes at a time.
func readAll(t tester, in []byte, step int) (all []text.Reply, err error) {
	t.Helper()
	rd := text.NewReader(text.DefaultReplyLimits())
	var buf []byte
	for len(in) > 0 {
		n := min(step, len(in))
		buf, in = append(buf, in[:n]...), in[n:]
		for {
			r, n, err := rd.Next(buf)
			if n < 0 || n > len(buf) || (n == 0) != (r.Kind == 0) {
				t.Fatalf("consumed %d of %d bytes for %v", n, len(buf), r)
			}
			if err != nil {
				return all, err
			}
			if n == 0 {
				break
			}
			r.Detach()
			all = append(all, r)
			buf = slices.Clone(buf[n:])
		}
	}
	if len(buf) > 0 {
		t.Fatalf("%q is left", buf)
	}
	return all, nil
}

// TestReadReplies reads the replies of TestFormats.
func TestReadReplies(t *testing.T) {
	t.Parallel()
	for _, crlf := range []bool{false, true} {
		var in []byte
		for i := range replies {
			in = replies[i].reply.Append(in, text.FormatText, crlf)
		}
		for _, step := range []int{len(in), 1, 7} {
			got, err := readAll(t, in, step)
			if err != nil || len(got) != len(replies) {
				t.Fatalf("%d replies, %v", len(got), err)
			}
			for i := range got {
				if (got[i].Data == nil) != (replies[i].reply.Data == nil) && got[i].Kind == text.KindEvent || got[i].Arg != replies[i].reply.Arg {
					t.Errorf("%s: got %+v", replies[i].name, got[i])
				}
				want := replies[i].reply.Append(nil, text.FormatText, false)
				if again := got[i].Append(nil, text.FormatText, false); !bytes.Equal(again, want) {
					t.Errorf("%s:\n got %q\nwant %q", replies[i].name, again, want)
				}
				if got[i].Kind != replies[i].reply.Kind || got[i].Tag != replies[i].reply.Tag || got[i].Code != replies[i].reply.Code {
					t.Errorf("%s: got %+v", replies[i].name, got[i])
				}
			}
		}
	}
}

func TestReplyFields(t *testing.T) {
	t.Parallel()
	const in = "OK v=3 zxid=0x100000005 path=/a node=\"7\" user=0X5 version=007 cluster=0x05 newer=1\n"
	rd := text.NewReader(text.DefaultReplyLimits())
	r, _, err := rd.Next([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if r.Int("v") != 3 || r.Zxid("zxid") != 0x100000005 || r.Str("path") != "/a" || r.Int("newer") != 1 {
		t.Errorf("got %+v", r)
	}
	for key, want := range map[string]string{"node": "7", "user": "0X5", "version": "007", "cluster": "0x05", "v": "3", "zxid": "0x100000005", "none": ""} {
		if got := r.Str(key); got != want {
			t.Errorf("%s is %q", key, got)
		}
	}
	if _, ok := r.Field("none"); ok || r.Int("none") != 0 || r.Int("node") != 0 {
		t.Error("a number where there is none")
	}
}

func TestStat(t *testing.T) {
	t.Parallel()
	plain := znode.Stat{
		Czxid: 1, Mzxid: 2, Pzxid: 3, CtimeMS: 4, MtimeMS: 5, Version: -6, Cversion: 7, Aversion: 8,
		EphemeralOwner: -1 << 63, DataLength: 10, NumChildren: 11,
	}
	for end, want := range map[string]text.Stat{
		"pzxid=0x3\n":             {Stat: plain},
		"pzxid=0x3 container=1\n": {Stat: plain, Container: true},
		"pzxid=0x3 ttl=90s\n":     {Stat: plain, TTLMS: 90_000},
		"pzxid=0x3 ttl=1ms\n":     {Stat: plain, TTLMS: 1},
	} {
		r := text.Reply{Kind: text.KindOK, Fields: text.AppendStat(nil, &want)}
		line := r.Append(nil, text.FormatText, false)
		got, err := readAll(t, line, len(line))
		if err != nil {
			t.Fatal(err)
		}
		if s := got[0].Stat(); !reflect.DeepEqual(s, want) || !strings.HasSuffix(string(line), end) {
			t.Errorf("got %+v from %s", s, line)
		}
	}
}

// TestBadReplies: an invalid reply ends the connection.
func TestBadReplies(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in string }{
		{"blank", "\n"}, {"nonsense", "HTTP/1.1 400 Bad Request\n"}, {"lower case", "ok\n"}, {"only a tag", "@a\n"},
		{"ITEM alone", "ITEM a\n"}, {"DATA without a length", "DATA\n"}, {"DATA with a bad length", "DATA -1\n"},
		{"wrong length", "DATA 3\nabcd\n"}, {"LIST in a LIST", "LIST 1\nLIST 0\n"}, {"CHUNK in a LIST", "LIST 1\nCHUNK 0\n\n"},
		{"nonsense in a LIST", "LIST 1\nGET\n"}, {"tag in a LIST", "LIST 1\n@a ITEM b\n"}, {"ITEM of nothing", "LIST 1\nITEM\n"},
		{"field without a key", "OK =1\n"}, {"field without a value", "OK v=\n"}, {"two words", "OK a b\n"}, {"bad quote", "OK v=\"1\n"},
		{"data beyond the limit", "DATA 99999999999\n"}, {"chunk beyond the limit", "CHUNK 99999999999\n"}, {"list beyond the limit", "LIST 100001\n"},
		{"data beyond the limit in a list", "LIST 1\nDATA 99999999999\n"},
		{"EVENT without a type", "EVENT\n"}, {"EVENT with only a value", "EVENT :1\nx\n"}, {"EVENT with only a field", "EVENT path=/a\n"},
		{"EVENT with a quoted type", "EVENT \"changed\"\n"}, {"EVENT in a LIST", "LIST 1\nEVENT changed\n"}, {"EVENT with a bad length", "EVENT changed :x\n"},
		{"EVENT without its length", "EVENT changed :\n"}, {"EVENT with a negative length", "EVENT changed :-1\n"}, {"EVENT with a wrong length", "EVENT changed :1\nxy\n"},
		{"EVENT with a length too early", "EVENT changed :1 id=7\nx\n"}, {"EVENT with a second word", "EVENT changed much\n"},
		{"EVENT beyond the limit", "EVENT changed :99999999999\n"}, {"EVENT far beyond the limit", "EVENT changed :18446744073709551615\n"},
		{"EVENT with a tag", "@a EVENT changed\n"},
		{"line beyond the limit", "OK v=" + strings.Repeat("1", 1<<17)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readAll(t, []byte(tt.in), len(tt.in))
			if e, ok := err.(*text.Error); !ok || !e.Close || len(got) != 0 { //nolint:errorlint // it must be that very type
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// TestNewerServer: codes and keys that this client does not know are not errors.
func TestNewerServer(t *testing.T) {
	t.Parallel()
	in := []byte("ERR TEAPOT heat=9 - short and stout\n")
	got, err := readAll(t, in, len(in))
	if err != nil || got[0].Code != znode.ErrInternal || got[0].Int("heat") != 9 || got[0].Message != "TEAPOT: short and stout" {
		t.Errorf("got %+v, %v", got, err)
	}
	in = []byte("EVENT resharded path=/a weight=\"7 :3\" :2\nab\nPING\n")
	rd := text.NewReader(text.DefaultReplyLimits())
	e, n, err := rd.Next(in)
	if err != nil || e.Kind != text.KindEvent || e.Arg != "resharded" || e.Str("weight") != "7 :3" || string(e.Data) != "ab" || string(in[n:]) != "PING\n" {
		t.Errorf("got %+v, %d, %v", e, n, err)
	}
}
