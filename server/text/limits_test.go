package text_test

import (
	"fmt"
	"strings"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// TestRefusedTxn: whatever is wrong with one of its lines, a TXN is consumed as a whole and gives
// one error that names the line, and the next request is understood.
func TestRefusedTxn(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("v", 1001)
	tests := []struct {
		name, in string // in has three lines
		op       int
		code     znode.Code
		msg      string
	}{
		{"unknown verb", "CHECK /a\nFOO\nRM /c\n", 1, znode.ErrUnknown, "FOO"},
		{"verb that cannot be in a TXN", "CHECK /a\nRM /c\nGET /a\n", 2, znode.ErrSyntax, "GET is not allowed"},
		{"TXN in a TXN", "TXN 2\nRM /c\nRM /d\n", 0, znode.ErrSyntax, "TXN is not allowed"},
		{"tag", "RM /c\n@a RM /d\nRM /e\n", 1, znode.ErrSyntax, "tag"},
		{"relative path", "RM c\nRM /d\nRM /e\n", 0, znode.ErrSyntax, "start with /"},
		{"the first of two faults", "RM /c\nRM d\nRM e\n", 1, znode.ErrSyntax, `"d"`},
		{"unknown option with a payload", "RM /c\nSET /a fast :4\nPING\nRM /e\n", 1, znode.ErrSyntax, "fast"},
		{"payload for a verb without one", "RM /c\nRM /a :4\nPING\nRM /e\n", 1, znode.ErrSyntax, "no value"},
		{"unknown verb with a payload", "RM /c\nFOO :4\nPING\nRM /e\n", 1, znode.ErrUnknown, "FOO"},
		{"only a payload", "RM /c\n:4\nPING\nRM /e\n", 1, znode.ErrSyntax, "verb is missing"},
		{"bad acl", "RM /c\nCREATE /a acl=x y\nRM /e\n", 1, znode.ErrInvalidACL, "scheme"},
		{"open quote", "RM /c\nSET /a \"b\nRM /e\n", 1, znode.ErrSyntax, "not closed"},
		{"payload too long", "RM /c\nSET /a :1001\n" + big + "\nRM /e\n", 1, znode.ErrTooBig, "1000"},
		{"payloads too long together", "SET /c :900\n" + big[:900] + "\nSET /a :900\n" + big[:900] + "\nRM /e\n", 1, znode.ErrTooBig, "1500"},
		{"blank lines beyond its limit", strings.Repeat("\n", 1600) + "RM /c\nRM /d\nRM /e\n", 0, znode.ErrTooBig, "1500"},
		{"line too long", "RM /c\nSET /a " + big + "\nRM /e\n", 1, znode.ErrTooBig, "512"},
		{"a fault behind one that is too long", "SET /a " + big + "\nFOO :4\nPING\nRM e\n", 0, znode.ErrTooBig, "512"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte("@t TXN 3\r\n" + tt.in + "PING\n")
			got := feed(t, smallLimits, in, len(in))
			sameOutcomes(t, "byte for byte", feed(t, smallLimits, in, 1), got)
			if len(got) != 2 || got[0].err == nil {
				t.Fatalf("got %v", got)
			}
			if e := got[0].err; e.Op != tt.op || e.Code != tt.code || e.Close || e.Tag != "t" || !e.CRLF || !strings.Contains(e.Msg, tt.msg) {
				t.Errorf("got %+v", *e)
			}
			sameOutcomes(t, "behind it", got[1:], []outcome{{req: request(text.VerbPing, "")}})
		})
	}
}

// TestClosedTxn: faults in a TXN after which the lines cannot be told apart.
func TestClosedTxn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		op       int
		code     znode.Code
	}{
		{"wrong length", "RM /c\nSET /a :3\nPING\nRM /e\n", -1, znode.ErrProtocol},
		{"wrong length of what is refused", "RM /c\nSET /a :1001\n" + strings.Repeat("v", 1002) + "\nRM /e\n", -1, znode.ErrProtocol},
		{"open quote and a length", "RM /c\nSET /a \"b :4\nPING\nRM /e\n", 1, znode.ErrSyntax},
		{"length beyond skipping", "RM /c\nSET /a :4001\nPING\nRM /e\n", 1, znode.ErrTooBig},
		{"long line and a length", "RM /c\nSET /a" + strings.Repeat("v", 1000) + " :4\nPING\nRM /e\n", 1, znode.ErrTooBig},
		{"HTTP", "RM /c\nGET / HTTP/1.1\nRM /e\n", 1, znode.ErrProtocol},
		{"HTTP behind another fault", "RM c\nPOST / HTTP/1.1\nRM /e\n", 1, znode.ErrProtocol},
		{"HTTP header", "RM /c\nHost: a\nRM /e\n", 1, znode.ErrProtocol},
		{"interrupt", "RM /c\n\xff\xf4\xff\xfd", -1, znode.ErrProtocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte("TXN 3\n" + tt.in + "PING\n")
			got := feed(t, smallLimits, in, len(in))
			sameOutcomes(t, "byte for byte", feed(t, smallLimits, in, 1), got)
			if len(got) != 1 || got[0].err == nil || got[0].err.Op != tt.op || got[0].err.Code != tt.code || !got[0].err.Close {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestTooLong: lines and values at their limits and above.
func TestTooLong(t *testing.T) {
	t.Parallel()
	line := func(n int) string { return "SET /a " + strings.Repeat("x", n-len("SET /a ")) }
	payload := func(n int) string { return fmt.Sprintf("SET /a :%d\n%s", n, strings.Repeat("x", n)) }
	const fine, refused, closed = "fine", "refused", "closed"
	tests := []struct{ name, in, want string }{
		{"line at the limit", line(512) + "\n", fine},
		{"line at the limit with CR LF", line(512) + "\r\n", fine},
		{"line at the limit with CR NUL", line(512) + "\r\x00", fine},
		{"line one beyond", line(513) + "\n", refused},
		{"line one beyond with CR LF", line(513) + "\r\n", refused},
		{"line at the limit of skipping", line(3999) + "\n", refused},
		{"line beyond skipping", line(4000) + "\n", closed},
		{"line far beyond with CR NUL", line(3900) + "\r\x00", refused},
		{"line that does not end", line(6000), closed},
		{"line that ends in a length", line(600) + " :4\nPING\n", closed},
		{"line that ends in a length, CR LF", line(600) + " :4\r\nPING\n", closed},
		{"line that ends in a length and spaces", line(600) + " :4  \nPING\n", closed},
		{"line that ends in a length behind another", line(600) + " :5 :4 \r\nPING\n", closed},
		{"line with a length within", line(600) + " :4 x\n", refused},
		{"line that ends in a number behind a length", line(600) + " :4 4\n", refused},
		{"line that ends in a length and telnet's sequence", line(600) + " :4\xff\xf1\nPING\n", closed},
		{"line with telnet's sequence in its length", line(600) + " :\xff\xf14\nPING\n", closed},
		{"line with a line feed in telnet's subnegotiation", line(600) + "\xff\xfa\x1f\x00\n\x00\n\xff\xf0 :4\nPING\n", closed},
		{"line that ends in a long word with a colon", line(600) + "x:4\n", refused},
		{"line that begins a TXN", "@a txn 1 " + line(600) + "\nPING\n", closed},
		{"telnet's sequences count", strings.Repeat("\xff\xf1", 260) + "\n", closed},
		{"subnegotiation without an end", "\xff\xfa" + strings.Repeat("x", 6000), closed},
		{"spaces count", strings.Repeat(" ", 513) + "\n", refused},
		{"password at the limit", "SESSION RESUME 0x5 :1000\n" + strings.Repeat("x", 1000) + "\n", fine},
		{"password one beyond", "SESSION RESUME 0x5 :1001\n" + strings.Repeat("x", 1001) + "\n", refused},
		{"value that is waited for, at the limit", "WAIT /a VALUE=" + strings.Repeat("x", 498) + "\n", fine},
		{"value that is waited for, one beyond", "WAIT /a VALUE=" + strings.Repeat("x", 499) + "\n", refused},
		{"value at the limit", payload(1000) + "\n", fine},
		{"value one beyond", payload(1001) + "\n", refused},
		{"value far beyond", payload(4000) + "\n", refused},
		{"value beyond skipping", payload(4001) + "\n", closed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in + "PING\n")
			got := feed(t, smallLimits, in, len(in))
			for _, step := range []int{1, 100} {
				sameOutcomes(t, "in steps", feed(t, smallLimits, in, step), got)
			}
			if tt.want == fine {
				if len(got) != 2 || got[0].err != nil || got[1].err != nil {
					t.Errorf("got %v", got)
				}
				return
			}
			if len(got) == 0 || got[0].err == nil || got[0].err.Code != znode.ErrTooBig || got[0].err.Close != (tt.want == closed) {
				t.Fatalf("got %v", got)
			}
			if crlf := strings.Contains(tt.in, "\r"); tt.want == refused && got[0].err.CRLF != crlf {
				t.Error("the reply ends its line otherwise than the request")
			}
			if tt.want == refused && (len(got) != 2 || got[1].err != nil || got[1].req.Verb != text.VerbPing) {
				t.Errorf("behind it: %v", got[1:])
			}
		})
	}
}

// TestTxnAtItsLimit: as many operations as allowed.
func TestTxnAtItsLimit(t *testing.T) {
	t.Parallel()
	in := []byte("TXN 1000\n" + strings.Repeat("SET /a :1\nx\n", 1000) + "PING\n")
	got := feed(t, text.DefaultLimits(), in, 1000)
	if len(got) != 2 || got[0].err != nil || len(got[0].req.Ops) != 1000 || got[1].err != nil {
		t.Errorf("%d outcomes", len(got))
	}
}

// TestClosedParser: after an error with Close all further bytes are discarded.
func TestClosedParser(t *testing.T) {
	t.Parallel()
	p := text.NewParser(text.DefaultLimits())
	in := []byte("POST / HTTP/1.1\nCREATE /evil x\n")
	if _, _, err := p.Next(in); err == nil {
		t.Fatal("not refused")
	}
	if req, n, err := p.Next(in[16:]); req != nil || n != len(in)-16 || err != nil {
		t.Errorf("got %v, %d, %v", req, n, err)
	}
}
