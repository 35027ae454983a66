package text_test

import (
	"strings"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// What is particular to the verbs of live.go and admin.go: how they are parsed, and the messages
// with which they are refused.

func watching(r *text.Request)   { r.Watch = true }
func persistent(r *text.Request) { r.Persistent = true }
func recursive(r *text.Request)  { r.Recursive = true }

func timeout(ms int64) func(*text.Request) {
	return func(r *text.Request) { r.HasTimeout, r.TimeoutMS = true, ms }
}

func hold(ms int64) func(*text.Request) {
	return func(r *text.Request) { r.HasHold, r.HoldMS = true, ms }
}

func live(l text.Live) func(*text.Request) {
	return func(r *text.Request) { r.HasLive, r.Live = true, l }
}

func words(w ...string) func(*text.Request) { return func(r *text.Request) { r.Words = w } }

func mode(m znode.Mode) func(*text.Request) { return func(r *text.Request) { r.Mode = m } }

func TestLiveRequests(t *testing.T) {
	t.Parallel()
	const password = "0123456789abcdef0123456789abcdef"
	kind := func(k text.Watched) func(*text.Request) { return func(r *text.Request) { r.Kind = k } }
	until := func(c text.Condition) func(*text.Request) {
		return func(r *text.Request) { r.Condition, r.TimeoutMS = c, 30_000 }
	}
	session := func(a text.Action, id int64) func(*text.Request) {
		return func(r *text.Request) { r.Action, r.Session = a, id }
	}
	ttl := func(ms int64) func(*text.Request) { return func(r *text.Request) { r.TTLMS = ms } }
	limit := func(n int32) func(*text.Request) { return func(r *text.Request) { r.Limit = n } }
	tests := []struct {
		in   string
		want *text.Request
	}{
		{"GET /a watch", request(text.VerbGet, "/a", watching)},
		{"GET /a lin WATCH stat", request(text.VerbGet, "/a", watching, func(r *text.Request) { r.Lin, r.Stat = true, true })},
		{"GET /watch", request(text.VerbGet, "/watch")},
		{"EXISTS /a watch", request(text.VerbExists, "/a", watching)},
		{"LS /a watch after=watch", request(text.VerbLs, "/a", watching, limit(1000), func(r *text.Request) { r.After = "watch" })},

		{"CREATE /a EPHEMERAL x", request(text.VerbCreate, "/a", value("x"), mode(znode.Ephemeral))},
		{"CREATE /a ephemeral seq x", request(text.VerbCreate, "/a", value("x"), mode(znode.EphemeralSequential))},
		{"CREATE /a/ SEQ EPHEMERAL parents x", request(text.VerbCreate, "/a/", value("x"), mode(znode.EphemeralSequential), func(r *text.Request) { r.Parents = true })},
		{"CREATE /a EPHEMERAL SEQ", request(text.VerbCreate, "/a", value("SEQ"), mode(znode.Ephemeral))},

		{"WATCH /a", request(text.VerbWatch, "/a")},
		{"WATCH /a data", request(text.VerbWatch, "/a")},
		{"WATCH /a CHILDREN", request(text.VerbWatch, "/a", kind(text.WatchChildren))},
		{"WATCH /a exists since=0x5", request(text.VerbWatch, "/a", kind(text.WatchExists), zxid(5))},
		{"WATCH /a since=0", request(text.VerbWatch, "/a", zxid(0))},
		{"WATCH /a since=0xffffffffffffffff", request(text.VerbWatch, "/a", zxid(1<<64-1))},
		{"WATCH /a persistent children", request(text.VerbWatch, "/a", persistent, kind(text.WatchChildren))},
		{"WATCH /a recursive", request(text.VerbWatch, "/a", persistent, recursive)},
		{"WATCH /a exists recursive persistent", request(text.VerbWatch, "/a", persistent, recursive, kind(text.WatchExists))},
		{"WATCH /data data", request(text.VerbWatch, "/data")},

		{"UNWATCH 7", request(text.VerbUnwatch, "", func(r *text.Request) { r.ID = 7 })},
		{"UNWATCH 9223372036854775807", request(text.VerbUnwatch, "", func(r *text.Request) { r.ID = 1<<63 - 1 })},

		{"WAIT /a EXISTS", request(text.VerbWait, "/a", until(text.UntilExists))},
		{"WAIT /a gone timeout=0s", request(text.VerbWait, "/a", until(text.UntilGone), timeout(0))},
		{"WAIT /a CHANGE since=7", request(text.VerbWait, "/a", until(text.UntilChange), zxid(7))},
		{"WAIT /a timeout=24h CHANGE", request(text.VerbWait, "/a", until(text.UntilChange), timeout(86_400_000))},
		{"WAIT /a value=ready", request(text.VerbWait, "/a", until(text.UntilValue), value("ready"))},
		{`WAIT /a VALUE="a b\x00" timeout=250ms`, request(text.VerbWait, "/a", until(text.UntilValue), value("a b\x00"), timeout(250))},
		{`WAIT /a VALUE=""`, request(text.VerbWait, "/a", until(text.UntilValue), value(""))},
		{"WAIT /a VALUE=EXISTS", request(text.VerbWait, "/a", until(text.UntilValue), value("EXISTS"))},
		{"WAIT /a VALUE=a=b", request(text.VerbWait, "/a", until(text.UntilValue), value("a=b"))},

		{"FOLLOW /a", request(text.VerbFollow, "/a")},
		{"FOLLOW /a data recursive since=0x10", request(text.VerbFollow, "/a", recursive, zxid(16), func(r *text.Request) { r.Data = true })},

		{"SESSION NEW", request(text.VerbSession, "", session(text.NewSession, 0), ttl(10_000))},
		{"session new ttl=1ms hold=24h live=PING", request(text.VerbSession, "", session(text.NewSession, 0), ttl(1), hold(86_400_000), live(text.LivePing))},
		{"SESSION NEW live=tcp ttl=24h", request(text.VerbSession, "", session(text.NewSession, 0), ttl(86_400_000), live(text.LiveTCP))},
		{"SESSION RESUME 0x1000000000001 :32\n" + password, request(text.VerbSession, "", session(text.ResumeSession, 0x1000000000001), ttl(10_000), value(password))},
		{"SESSION RESUME 0xffffffffffffff00 ttl=5s hold=0s live=ping zxid=0x5 :0\n",
			request(text.VerbSession, "", session(text.ResumeSession, -256), ttl(5000), hold(0), live(text.LivePing), zxid(5), value(""))},
		{"SESSION DETACH", request(text.VerbSession, "", session(text.DetachSession, 0), func(r *text.Request) { r.HoldMS = 60_000 })},
		{"SESSION DETACH hold=0s", request(text.VerbSession, "", session(text.DetachSession, 0), hold(0))},
		{"SESSION INFO", request(text.VerbSession, "", session(text.SessionInfo, 0))},
		{"SESSION CLOSE", request(text.VerbSession, "", session(text.CloseSession, 0))},
		{"SESSION CLOSE 0x5", request(text.VerbSession, "", session(text.CloseSession, 5))},
		{"SESSIONS", request(text.VerbSessions, "", limit(1000))},
		{"SESSIONS after=0xA limit=3", request(text.VerbSessions, "", limit(3), func(r *text.Request) { r.Session = 10 })},

		{"LOCK /l", request(text.VerbLock, "/l")},
		{"LOCK /l timeout=60s shared", request(text.VerbLock, "/l", timeout(60_000), func(r *text.Request) { r.Shared = true })},
		{"LOCK /l slots=3 timeout=0ms", request(text.VerbLock, "/l", timeout(0), func(r *text.Request) { r.Slots = 3 })},
		{"UNLOCK /l", request(text.VerbUnlock, "/l")},

		{"ADMIN MEMBERS", request(text.VerbAdmin, "", words("MEMBERS"))},
		{"admin add h:2888", request(text.VerbAdmin, "", words("ADD", "h:2888"))},
		{`ADMIN ADD "[::1]:65535"`, request(text.VerbAdmin, "", words("ADD", "[::1]:65535"))},
		{"ADMIN REMOVE force", request(text.VerbAdmin, "", words("REMOVE", "force"))},
		{"ADMIN REMOVE n=1 force", request(text.VerbAdmin, "", words("REMOVE", "n=1", "FORCE"))},
		{"ADMIN PROMOTE 8C1f", request(text.VerbAdmin, "", words("PROMOTE", "8C1f"))},
		{"ADMIN REPLACE a b", request(text.VerbAdmin, "", words("REPLACE", "a", "b"))},
		{"ADMIN TRANSFER", request(text.VerbAdmin, "", words("TRANSFER"))},
		{"ADMIN TRANSFER " + strings.Repeat("n", text.MaxNodeBytes), request(text.VerbAdmin, "", words("TRANSFER", strings.Repeat("n", text.MaxNodeBytes)))},
		{"ADMIN LEAVE", request(text.VerbAdmin, "", words("LEAVE"))},

		{"TXN 1\nCREATE /a EPHEMERAL x", request(text.VerbTxn, "", func(r *text.Request) {
			r.Ops = []text.Op{op(text.VerbCreate, "/a", func(o *text.Op) { o.Mode, o.Value = znode.Ephemeral, []byte("x") })}
		})},
	}
	for _, tt := range tests {
		want := []outcome{{req: tt.want}, {req: request(text.VerbPing, "")}}
		in := []byte(tt.in + "\nPING\n")
		for _, step := range []int{len(in), 1} {
			sameOutcomes(t, tt.in, feed(t, text.DefaultLimits(), in, step), want)
		}
		if (tt.want.Condition == text.UntilValue || tt.want.Action == text.ResumeSession) && feed(t, text.DefaultLimits(), in, len(in))[0].req.Value == nil {
			t.Errorf("%s: the empty value is none", tt.in)
		}
	}
}

// TestLiveRefusals checks the whole message, and that the bytes which a line announces are skipped,
// so that the PING after them is read.
func TestLiveRefusals(t *testing.T) {
	t.Parallel()
	forms := map[string]string{}
	for _, item := range text.Help("").Items {
		forms[strings.Fields(item.Arg)[0]] = item.Arg
	}
	const (
		aNode    = "expected a node's id or name, of at most 255 bytes"
		aTimeout = ": expected a number and ms, s, m, h or d, such as 30s, up to 24h"
		anID     = "expected a session id of 0x and hex digits, such as 0x1000000000001"
		aWatch   = "expected the id that WATCH returned"
		anAction = "an option is not supported by this action"
		password = "RESUME needs the password as :len bytes, the other actions take no value"
		tooMany  = "too many arguments"
		secret   = "too many arguments; the secret follows the line as :len bytes"
		missing  = "an argument is missing"
	)
	tests := []struct {
		in, msg string
		form    bool // is shown after it
	}{
		{"GET /a watch watch", "the option watch is given twice", true},
		{"GET /a watch=1", "the option watch takes no value", true},
		{"TREE /a watch", `unknown option "watch"`, true},
		{"TREE /a watch :4\nPING", "this verb takes no value", true},

		{"CREATE /a EPHEMERAL ephemeral x", "the option EPHEMERAL is given twice", true},
		{"CREATE /a EPHEMERAL=1 x", "the option EPHEMERAL takes no value", true},
		{"CREATE /a EPHEMERAL CONTAINER x", "CONTAINER cannot be combined with SEQ or EPHEMERAL", false},
		{"CREATE /a CONTAINER EPHEMERAL :4\nPING", "CONTAINER cannot be combined with SEQ or EPHEMERAL", false},
		{"CREATE /a SEQ EPHEMERAL CONTAINER x", "CONTAINER cannot be combined with SEQ or EPHEMERAL", false},
		{"CREATE /a EPHEMERAL ttl=5s x", "ttl= cannot be combined with CONTAINER or EPHEMERAL", false},
		{"CREATE /a ttl=5s SEQ EPHEMERAL :4\nPING", "ttl= cannot be combined with CONTAINER or EPHEMERAL", false},

		{"WATCH", "a path is missing", true},
		{"WATCH a", `path "a" does not start with /`, false},
		{"WATCH /a data data", `unexpected argument "data"`, true},
		{"WATCH /a data children", `unexpected argument "children"`, true},
		{`WATCH /a "data"`, `unexpected argument "data"`, true},
		{"WATCH /a value", `unexpected argument "value"`, true},
		{"WATCH /a data=1", `unexpected argument "data=1"`, true},
		{`WATCH /a x="1"`, `unknown option "x"`, true},
		{"WATCH /a children recursive", "children cannot be combined with recursive, which reports each znode below by itself", false},
		{"WATCH /a persistent PERSISTENT", "the option persistent is given twice", true},
		{"WATCH /a since", "the option since takes a value: since=…", true},
		{"WATCH /a since=", "the option since takes a value: since=…", true},
		{"WATCH /a since=-1", `since="-1": expected a zxid, such as 0x100000005`, false},
		{"WATCH /a since=0x10000000000000000", `since="0x10000000000000000": expected a zxid, such as 0x100000005`, false},
		{"WATCH /a since=1 since=1", "the option since is given twice", true},
		{"WATCH /a :4\nPING", "this verb takes no value", true},
		{"WATCH /a timeout=5s", `unexpected argument "timeout=5s"`, true},

		{"UNWATCH", missing, true},
		{"UNWATCH x", aWatch, true},
		{"UNWATCH -1", aWatch, true},
		{"UNWATCH 0x7", aWatch, true},
		{"UNWATCH 9223372036854775808", aWatch, true},
		{"UNWATCH 99999999999999999999", aWatch, true},
		{"UNWATCH 7 8", aWatch, true},
		{"UNWATCH id=\"7\"", `unknown option "id"`, true},
		{"UNWATCH 7 :4\nPING", "this verb takes no value", true},

		{"WAIT /a", "the condition is missing", true},
		{"WAIT /a timeout=5s", "the condition is missing", true},
		{"WAIT EXISTS", "the condition is missing", true},
		{"WAIT /a EXISTS GONE", "expected only one condition", true},
		{"WAIT /a EXISTS exists", "expected only one condition", true},
		{"WAIT /a CHANGE VALUE=x", "expected only one condition", true},
		{"WAIT /a VALUE=x CHANGE", "expected only one condition", true},
		{"WAIT /a VALUE=x VALUE=x", "the option VALUE is given twice", true},
		{"WAIT /a VALUE", "the option VALUE takes a value: VALUE=…", true},
		{"WAIT /a VALUE=", "the option VALUE takes a value: VALUE=…", true},
		{`WAIT /a "EXISTS"`, `unexpected argument "EXISTS"`, true},
		{`WAIT /a "VALUE=x"`, `unexpected argument "VALUE=x"`, true},
		{`WAIT /a EXISTS="x"`, `unknown option "EXISTS"`, true},
		{"WAIT /a THERE", `unexpected argument "THERE"`, true},
		{"WAIT /a EXISTS timeout=30", `timeout="30"` + aTimeout, false},
		{"WAIT /a EXISTS timeout=-1s", `timeout="-1s"` + aTimeout, false},
		{"WAIT /a EXISTS timeout=86400001ms", `timeout="86400001ms"` + aTimeout, false},
		{"WAIT /a EXISTS timeout=2d", `timeout="2d"` + aTimeout, false},
		{"WAIT /a EXISTS timeout=99999999999999999d", `timeout="99999999999999999d"` + aTimeout, false},
		{"WAIT /a EXISTS timeout=5s timeout=5s", "the option timeout is given twice", true},
		{"WAIT /a VALUE :4\nPING", "this verb takes no value", true},

		{"FOLLOW", "a path is missing", true},
		{"FOLLOW /a children", `unknown option "children"`, true},
		{"FOLLOW /a data=1", "the option data takes no value", true},
		{"FOLLOW /a data data", "the option data is given twice", true},
		{"FOLLOW /a since=x", `since="x": expected a zxid, such as 0x100000005`, false},
		{"FOLLOW /a :4\nPING", "this verb takes no value", true},

		{"SESSION", missing, true},
		{"SESSION ttl=5s", missing, true},
		{"SESSION OPEN", "expected NEW, RESUME, DETACH, INFO or CLOSE", true},
		{`SESSION "NEW"`, tooMany, true},
		{"SESSION NEW INFO", tooMany, true},
		{"SESSION NEW 0x5", tooMany, true},
		{"SESSION INFO 0x5", tooMany, true},
		{"SESSION CLOSE 0x5 0x6", tooMany, true},
		{"SESSION CLOSE :4\nPING", password, true},
		{"SESSION NEW :4\nPING", password, true},
		{"SESSION OPEN :4\nPING", "expected NEW, RESUME, DETACH, INFO or CLOSE", true},
		{"SESSION :4\nPING", missing, true},
		{"SESSION RESUME 0x5", password, true},
		{"SESSION RESUME", password, true},
		{"SESSION RESUME :4\nPING", "the id is missing", true},
		{"SESSION RESUME 5 :4\nPING", anID, false},
		{"SESSION RESUME 0x0 :4\nPING", anID, false},
		{"SESSION CLOSE 0x0", anID, false},
		{"SESSION CLOSE 5", anID, false},
		{"SESSION CLOSE 0x10000000000000000", anID, false},
		{"SESSION RESUME 0x5 pw :4\nPING", tooMany, true},
		{"SESSION RESUME 0x5 pw=\"x\" :4\nPING", secret, true},
		{"SESSION DETACH ttl=5s", anAction, true},
		{"SESSION DETACH live=tcp", anAction, true},
		{"SESSION DETACH zxid=0", anAction, true},
		{"SESSION INFO hold=0s", anAction, true},
		{"SESSION INFO live=ping", anAction, true},
		{"SESSION CLOSE hold=5s", anAction, true},
		{"SESSION CLOSE ttl=5s 0x5", anAction, true},
		{"SESSION NEW zxid=5", anAction, true},
		{"SESSION NEW ttl=0s", "a session's ttl must be at least 1ms", false},
		{"SESSION NEW ttl=5", `ttl="5"` + aTimeout, false},
		{"SESSION NEW ttl=86401s", `ttl="86401s"` + aTimeout, false},
		{"SESSION RESUME 0x5 ttl=2d :4\nPING", `ttl="2d"` + aTimeout, false},
		{"SESSION NEW hold=25h", `hold="25h"` + aTimeout, false},
		{"SESSION DETACH hold=86400001ms", `hold="86400001ms"` + aTimeout, false},
		{"SESSION NEW live=udp", `live="udp": expected tcp or ping`, false},
		{"SESSION NEW live", "the option live takes a value: live=…", true},
		{"SESSION NEW live=ping live=ping", "the option live is given twice", true},

		{"SESSIONS 0x5", `unknown option "0x5"`, true},
		{"SESSIONS limit=0", "limit=\"0\": expected a number from 1 to 2147483647", false},
		{"SESSIONS after=5", anID, false},
		{"SESSIONS after=0x0", anID, false},
		{"SESSIONS :4\nPING", "this verb takes no value", true},

		{"LOCK", "a path is missing", true},
		{"LOCK /l/", `path "/l/" ends with /`, false},
		{"LOCK /l shared slots=2", "shared cannot be combined with slots=", false},
		{"LOCK /l slots=0", "slots=\"0\": expected a number from 1 to 2147483647", false},
		{"LOCK /l shared=1", "the option shared takes no value", true},
		{"LOCK /l shared shared", "the option shared is given twice", true},
		{"LOCK /l timeout=25h", `timeout="25h"` + aTimeout, false},
		{"LOCK /l exclusive", `unknown option "exclusive"`, true},
		{"LOCK /l :4\nPING", "this verb takes no value", true},
		{"UNLOCK", "a path is missing", true},
		{"UNLOCK /l shared", `unknown option "shared"`, true},
		{"UNLOCK /l :4\nPING", "this verb takes no value", true},

		{"ADMIN", "an argument is missing", true},
		{"ADMIN EXPLODE", `unexpected argument "EXPLODE"`, true},
		{`ADMIN "MEMBERS"`, `unexpected argument "MEMBERS"`, true},
		{"ADMIN MEMBERS all", `unexpected argument "all"`, true},
		{"ADMIN ADD", "an argument is missing", true},
		{"ADMIN ADD h", `the address "h" is not host:port with the port for peers`, true},
		{`ADMIN ADD ":2888"`, `the address ":2888" is not host:port with the port for peers`, true},
		{"ADMIN ADD h:0", `the address "h:0" is not host:port with the port for peers`, true},
		{"ADMIN ADD h:65536", `the address "h:65536" is not host:port with the port for peers`, true},
		{"ADMIN ADD h:1 voter", `unexpected argument "voter"`, true},
		{`ADMIN REMOVE ""`, aNode, true},
		{"ADMIN REMOVE a b", `unexpected argument "b"`, true},
		{"ADMIN REMOVE a FORCE b", `unexpected argument "b"`, true},
		{"ADMIN PROMOTE " + strings.Repeat("n", text.MaxNodeBytes+1), aNode, true},
		{"ADMIN REPLACE a", "an argument is missing", true},
		{"ADMIN LEAVE a", `unexpected argument "a"`, true},
		{"ADMIN LEAVE :4\nPING", "this verb takes no value", true},
	}
	for _, tt := range tests {
		in := []byte(tt.in + "\nPING\n")
		got := feed(t, text.DefaultLimits(), in, len(in))
		sameOutcomes(t, tt.in+" byte for byte", feed(t, text.DefaultLimits(), in, 1), got)
		want := tt.msg
		if tt.form {
			want += "; the form is " + forms[strings.Fields(tt.in)[0]]
		}
		if len(got) == 0 || got[0].err == nil || got[0].err.Code != znode.ErrSyntax || got[0].err.Msg != want || got[0].err.Close {
			t.Errorf("%q:\n got %v\nwant %s", tt.in, got, want)
			continue
		}
		sameOutcomes(t, "behind "+tt.in, got[1:], []outcome{{req: request(text.VerbPing, "")}})
	}
}

// TestLiveVerbsStandAlone: none of these verbs is allowed in a TXN.
func TestLiveVerbsStandAlone(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"WATCH /a", "UNWATCH 7", "WAIT /a EXISTS", "FOLLOW /a", "SESSION NEW", "SESSION RESUME 0x5 :4\nPING", "SESSIONS", "LOCK /l", "UNLOCK /l", "ADMIN MEMBERS",
	} {
		in := []byte("TXN 2\nRM /a\n" + line + "\nPING\n")
		got := feed(t, text.DefaultLimits(), in, len(in))
		verb := strings.Fields(line)[0]
		if len(got) != 2 || got[0].err == nil || got[0].err.Op != 1 || got[0].err.Close ||
			got[0].err.Msg != verb+" is not allowed in a TXN: only CHECK, CREATE, SET and RM are" {
			t.Errorf("%s: %v", line, got)
			continue
		}
		sameOutcomes(t, "behind it", got[1:], []outcome{{req: request(text.VerbPing, "")}})
	}
}

// TestPasswordOutOfStep: a password of another length than announced closes the connection, and is
// not read as a request.
func TestPasswordOutOfStep(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"SESSION RESUME 0x5 :3\nPING\nPING\n", "SESSION RESUME 0x5 :5\nPING\nPING\n"} {
		got := feed(t, text.DefaultLimits(), []byte(in), 1)
		if len(got) != 1 || got[0].err == nil || !got[0].err.Close || got[0].err.Code != znode.ErrProtocol {
			t.Errorf("%q: %v", in, got)
		}
	}
}

// TestNames checks the words of the protocol for the numbers in a request.
func TestNames(t *testing.T) {
	t.Parallel()
	var got []string
	for _, w := range []text.Watched{text.WatchData, text.WatchChildren, text.WatchExists} {
		got = append(got, w.String())
	}
	for _, c := range []text.Condition{text.NoCondition, text.UntilExists, text.UntilGone, text.UntilChange, text.UntilValue} {
		got = append(got, c.String())
	}
	for _, a := range []text.Action{text.NoAction, text.NewSession, text.ResumeSession, text.DetachSession, text.SessionInfo, text.CloseSession} {
		got = append(got, a.String())
	}
	got = append(got, text.LiveTCP.String(), text.LivePing.String())
	const want = "data children exists  EXISTS GONE CHANGE VALUE  NEW RESUME DETACH INFO CLOSE tcp ping"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got %s", s)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for ms, want := range map[int64]string{0: "0s", 1: "1ms", 999: "999ms", 1000: "1s", 1500: "1500ms", 60_000: "60s", 86_400_000: "86400s"} {
		f := text.Duration(text.KeyHold, ms)
		if f.String() != want {
			t.Errorf("%d ms are %s", ms, f)
		}
		r := text.Reply{Kind: text.KindOK, Fields: []text.Field{f}}
		line := r.Append(nil, text.FormatText, false)
		got, err := readAll(t, line, len(line))
		if err != nil || got[0].Duration(text.KeyHold) != ms || got[0].Duration(text.KeyTTL) != 0 {
			t.Errorf("%s is read as %v, %v", line, got, err)
		}
	}
}
