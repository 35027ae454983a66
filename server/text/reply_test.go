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

// replies are shown in the three formats.
var replies = []struct {
	name            string
	reply           text.Reply
	text, json, b64 string // b64 empty: as text
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
	r := text.Reply{Kind: text.KindList, Items: []text.Reply{{Kind: text.KindItem, Arg: "a"}, {Kind: text.KindData, Data: []byte("b\n")}}}
	const want = "LIST 2\r\nITEM a\r\nDATA 2\r\nb\n\r\n"
	if got := string(r.Append(nil, text.FormatText, true)); got != want {
		t.Errorf("got %q", got)
	}
	if got := string(r.Append(nil, text.FormatJSON, true)); !strings.HasSuffix(got, "}\r\n") {
		t.Errorf("got %q", got)
	}
}

// TestMessageStaysOnItsLine: what a message quotes cannot make a line of it.
func TestMessageStaysOnItsLine(t *testing.T) {
	t.Parallel()
	r := text.Reply{Kind: text.KindErr, Code: znode.ErrInternal, Message: "a\nOK\xffb"}
	if got := string(r.Append(nil, text.FormatText, false)); got != "ERR INTERNAL - a?OK?b\n" {
		t.Errorf("got %q", got)
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

// TestReadReplies reads what TestFormats shows.
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
	want := znode.Stat{
		Czxid: 1, Mzxid: 2, Pzxid: 3, CtimeMS: 4, MtimeMS: 5, Version: -6, Cversion: 7, Aversion: 8,
		EphemeralOwner: -1 << 63, DataLength: 10, NumChildren: 11,
	}
	r := text.Reply{Kind: text.KindOK, Fields: text.AppendStat(nil, &want)}
	line := r.Append(nil, text.FormatText, false)
	got, err := readAll(t, line, len(line))
	if err != nil {
		t.Fatal(err)
	}
	if s := got[0].Stat(); !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v from %s", s, line)
	}
}

// TestBadReplies: what is no reply ends the connection.
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

// TestNewerServer: codes and keys that this client does not know are no fault.
func TestNewerServer(t *testing.T) {
	t.Parallel()
	in := []byte("ERR TEAPOT heat=9 - short and stout\n")
	got, err := readAll(t, in, len(in))
	if err != nil || got[0].Code != znode.ErrInternal || got[0].Int("heat") != 9 || got[0].Message != "TEAPOT: short and stout" {
		t.Errorf("got %+v, %v", got, err)
	}
}
