package text_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"coord/server/text"
)

// outcome is a Parser's result for one request, copied so that it survives the next call.
type outcome struct {
	req *text.Request
	err *text.Error
}

func (o outcome) String() string {
	if o.err != nil {
		return fmt.Sprintf("%+v", *o.err)
	}
	return fmt.Sprintf("%+v", *o.req)
}

func clone(r *text.Request) *text.Request {
	c := *r
	c.Value = bytes.Clone(r.Value)
	c.Ops = slices.Clone(r.Ops)
	for i := range c.Ops {
		c.Ops[i].Value = bytes.Clone(c.Ops[i].Value)
	}
	return &c
}

// tester is a test, rapid's or the standard library's.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// feed passes in to a Parser, step bytes at a time, and returns the outcomes up to an error with
// Close. It checks what every caller relies on.
func feed(t tester, lim text.Limits, in []byte, step int) (all []outcome) {
	t.Helper()
	p := text.NewParser(lim)
	var buf []byte
	for len(in) > 0 {
		n := min(step, len(in))
		buf, in = append(buf, in[:n]...), in[n:]
		for {
			req, n, err := p.Next(buf)
			if n < 0 || n > len(buf) {
				t.Fatalf("consumed %d of %d bytes", n, len(buf))
			}
			if req != nil && err != nil {
				t.Fatal("a request and an error")
			}
			// Requests alias the buffer, so they are cloned before it changes.
			if req != nil {
				if n == 0 {
					t.Fatal("a request of no bytes")
				}
				all = append(all, outcome{req: clone(req)})
			}
			if e, ok := errors.AsType[*text.Error](err); ok {
				if n == 0 && !e.Close {
					t.Fatal("an error without progress")
				}
				all = append(all, outcome{err: e})
				if e.Close {
					return all
				}
			}
			buf = slices.Clone(buf[n:])
			if req == nil && err == nil {
				break
			}
		}
		if len(buf) > lim.Buffer() {
			t.Fatalf("%d bytes wait in the buffer, Buffer promises %d", len(buf), lim.Buffer())
		}
	}
	return all
}

func sameOutcomes(t tester, what string, got, want []outcome) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i].String()
		}
		if i < len(want) {
			w = want[i].String()
		}
		if g != w {
			t.Fatalf("%s: outcome %d:\n got %s\nwant %s", what, i, g, w)
		}
	}
}

// pipelined is a stream of all kinds of requests, valid and invalid.
var pipelined = strings.Join([]string{
	"HELLO proto=1 format=json client=\"a b\" zxid=0x100000005\n",
	"GET /app\n@t1 get /app stat lin\r\n\n\n  \n",
	"SET /app v=7 \"new \\x00 value\"\r\nSET /app :5\r\nhello\r\nSET /app :0\n\nSET /app :3\na\nb\n",
	"\xff\xfb\x01\xff\xfd\x03GET /t\xff\xf1elnet\r\x00\nSET /x :5\r\x00\nhello\r\x00\nPING\r\x00PING\r\x00",
	"NONSENSE :5\nGET /\nGET /a \"\n@x GET relative\n@y GET /a watch\nFORMAT xml\n",
	"TXN 3\nCHECK /a v=1\n\nSET /b :3\nTXN\nRM /c recursive\n",
	"@tx TXN 2\nCHECK\nSET /b :2\nab\nTXN 1\nGET /a\nTXN 1\r\nSET /x \"y\"\r\n",
	"SET /x :2000\n" + strings.Repeat("v", 2000) + "\nPING\n",
	"GET /" + strings.Repeat("long", 200) + "\nPING\n",
	"TXN 2\nSET /x :2000\n" + strings.Repeat("v", 2000) + "\nSET /y " + strings.Repeat("long", 200) + "\nPING\n",
	"TXN 3\nSET /x :900\n" + strings.Repeat("v", 900) + "\nSET /x :900\n" + strings.Repeat("v", 900) + "\nRM /x\nPING\n",
	"WATCH /a recursive since=0x5\r\nUNWATCH 7\nWAIT /a VALUE=\"b \\x00\" timeout=5s\nWAIT /a\nFOLLOW /a data :4\nPING\n",
	"@s SESSION NEW live=ping\nSESSION RESUME 0x5 hold=1m :4\r\x00\nPING\r\x00\nSESSION DETACH :4\nPING\nSESSION RESUME 0x5 :2000\n" + strings.Repeat("v", 2000) + "\n",
	"LOCK /l shared\nLOCK /l slots=2 shared\nUNLOCK /l\nSESSIONS limit=1\nTXN 2\nCREATE /e EPHEMERAL :3\nTXN\nLOCK /l :4\nPING\n",
	"CREATE /q/job- SEQ ttl=5m acl=world:anyone:r :1\n\n\nAUTH digest u :3\npwd\nQUIT\n",
}, "")

// smallLimits are limits that short tests reach.
var smallLimits = text.Limits{Line: 512, Payload: 1000, Txn: 1500, Ops: 10, Skip: 4000}

func TestFeedingDoesNotMatter(t *testing.T) {
	t.Parallel()
	want := feed(t, smallLimits, []byte(pipelined), len(pipelined))
	if n := len(want); n != 45 {
		t.Errorf("%d outcomes", n)
		for _, o := range want {
			t.Log(o)
		}
	}
	for _, step := range []int{1, 2, 3, 7, 64, 1000} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			sameOutcomes(t, "fed in steps", feed(t, smallLimits, []byte(pipelined), step), want)
		})
	}
}
