package cmd

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"coord/server/text"
	"coord/tree/znode"
)

// twoMembers is the answer of an ensemble whose second node is down.
var twoMembers = text.Reply{Kind: text.KindList, Items: []text.Reply{
	memberItem("5d20e7a1c99b0342", "name=host1 role=leader vote=1 up=1 peer=h1:2888 client=h1:2181 term=7 applied=1234 lag=0 lag_ms=0 fsync_p99_ms=1.5 digest=same version=0.2 self=1"),
	memberItem("8c1f44d09be7a615", "name=2 role=observer vote=0 up=0 peer=h2:2888 client= term= applied= lag= lag_ms= fsync_p99_ms= digest=unknown version= self=0"),
}}

func memberItem(id, facts string) text.Reply {
	r := text.Reply{Kind: text.KindItem, Arg: id}
	for f := range strings.FieldsSeq(facts) {
		key, value, _ := strings.Cut(f, "=")
		r.Fields = append(r.Fields, text.Str(key, value))
	}
	return r
}

const (
	memberLines = "  ID                NAME   ROLE      VOTE  UP   TERM  LAG  LAG MS  FSYNC P99 MS  DIGEST   PEER     CLIENT   VERSION\n" +
		"* 5d20e7a1c99b0342  host1  leader    yes   yes  7     0    0       1.5           same     h1:2888  h1:2181  0.2\n" +
		"  8c1f44d09be7a615  2      observer  no    no   -     -    -       -             unknown  h2:2888  -        -\n"
	memberObject1 = `"id":"5d20e7a1c99b0342","name":"host1","role":"leader","vote":true,"up":true,"self":true,"peer":"h1:2888","client":"h1:2181",` +
		`"term":7,"applied":1234,"lag":0,"lag_ms":0,"fsync_p99_ms":1.5,"digest":"same","version":"0.2"}`
	memberObject2 = `"id":"8c1f44d09be7a615","name":"2","role":"observer","vote":false,"up":false,"self":false,"peer":"h2:2888","digest":"unknown"}`
)

// ensemble is a fake server that gives the same answer to every ADMIN.
type ensemble struct {
	answer atomic.Value // []byte
	words  chan string  // the words of each ADMIN
}

func fakeEnsemble(t *testing.T, answer []byte) *ensemble {
	e := &ensemble{words: make(chan string, 10)}
	e.answer.Store(answer)
	fake(t, func(r *text.Request) []byte {
		e.words <- strings.Join(r.Words, " ")
		return e.answer.Load().([]byte)
	})
	return e
}

// asked returns the requests since the last call.
func (e *ensemble) asked() (all []string) {
	for len(e.words) > 0 {
		all = append(all, <-e.words)
	}
	return all
}

// TestMembers: what each command sends, and what it prints for the answer.
func TestMembers(t *testing.T) {
	e := fakeEnsemble(t, reply(twoMembers))
	for _, tt := range []struct{ args, asks, out string }{
		{"members", "MEMBERS", memberLines},
		{"members --json", "MEMBERS", `{"v":1,` + memberObject1 + "\n" + `{"v":1,` + memberObject2 + "\n"},
		{"members add h9:2888", "ADD h9:2888", memberLines},
		{"members add h9:2888", "ADD h9:2888", memberLines},
		{"members remove -y host1", "REMOVE host1", memberLines},
		{"members remove --force --yes 5d20", "REMOVE 5d20 FORCE", memberLines},
		{"members promote 2", "PROMOTE 2", memberLines},
		{"members replace -y a b", "REPLACE a b", memberLines},
		{"members transfer", "TRANSFER", memberLines},
		{"members transfer host1", "TRANSFER host1", memberLines},
		{"leave -y", "LEAVE", memberLines},
		// commands that cannot be undone ask first
		{"members remove host1", "", ""}, {"members replace a b", "", ""}, {"leave", "", ""},
	} {
		got := coord(t, "y\n", strings.Fields(tt.args)...)
		asked := e.asked()
		if tt.asks == "" {
			if got.code != exitUsage || len(asked) > 0 || !strings.Contains(got.errOut, "hint: -y confirms it") {
				t.Errorf("coord %s: %+v, asked %q", tt.args, got, asked)
			}
			continue
		}
		if got.code != exitOK || got.out != tt.out || got.errOut != "" || strings.Join(asked, "; ") != tt.asks {
			t.Errorf("coord %s: %d, asked %q, %s\n%swant\n%s", tt.args, got.code, asked, got.errOut, got.out, tt.out)
		}
	}
	e.answer.Store(reply(text.Reply{Kind: text.KindList}))
	if got := coord(t, "", "members", "promote", "x"); got.code != exitOK || got.out+got.errOut != "" {
		t.Errorf("nothing to show: %+v", got)
	}
	for code, want := range map[znode.Code]int{
		znode.ErrNoAuth: exitPermission, znode.ErrNoNode: exitNotFound, znode.ErrNoLeader: exitNoAnswer, znode.ErrBadArguments: exitUsage,
		znode.ErrNewConfigNoQuorum: exitUnsafe, znode.ErrThrottledOp: exitLimit, znode.ErrUncertain: exitUncertain, znode.ErrUnknown: exitVersion,
	} {
		e.asked()
		e.answer.Store(reply(text.Reply{Kind: text.KindErr, Code: code, Message: "the words"}))
		if got := coord(t, "", "members", "promote", "x"); got.code != want || got.out != "" || !strings.HasPrefix(got.errOut, "coord: the words\n") {
			t.Errorf("%s: %+v", code.Word(), got)
		}
	}
	e.answer.Store([]byte(hangUp))
	if got := coord(t, "", "members"); got.code != exitNoAnswer {
		t.Errorf("a connection lost while members are listed: %+v", got)
	}
	if got := coord(t, "", "members", "promote", "x"); got.code != exitUncertain {
		t.Errorf("a connection lost while they are changed: %+v", got)
	}
}

// TestLeaveAsks: on a terminal the user is asked.
func TestLeaveAsks(t *testing.T) {
	e := fakeEnsemble(t, reply(text.Reply{Kind: text.KindList}))
	for answer, want := range map[string]string{"n\n": "", "y\n": "LEAVE"} {
		x := onTerminal(t, "leave")
		eventually(t, "the question", func() bool { return strings.Contains(x.text(), "Make the node leave the ensemble for ever? [y/N] ") })
		_, _ = io.WriteString(x.master, answer)
		code, _ := x.wait()
		if got := strings.Join(e.asked(), " "); got != want || (code == exitOK) != (want != "") {
			t.Errorf("%q: asked %q, exit code %d", answer, got, code)
		}
	}
}

// TestStatusOfEnsemble: status also has a line for each member, if there are several
// and the client may know them.
func TestStatusOfEnsemble(t *testing.T) {
	one := text.Reply{Kind: text.KindList, Items: twoMembers.Items[:1]}
	var members atomic.Value
	members.Store(reply(twoMembers))
	fake(t, func(r *text.Request) []byte {
		if r.Verb == text.VerbAdmin {
			return members.Load().([]byte)
		}
		return reply(text.Reply{Kind: text.KindList, Items: []text.Reply{{Kind: text.KindItem, Arg: "znode_count", Fields: []text.Field{text.Str("value", "4")}}}})
	})
	got := coord(t, "", "status")
	if want := "znodes   4\n\n" + memberLines; got.code != exitOK || !strings.HasSuffix(got.out, want) {
		t.Errorf("%+v, want the end\n%s", got, want)
	}
	if all := coord(t, "", "status", "--all"); !strings.HasSuffix(all.out, "znode_count  4\n\n"+memberLines) {
		t.Errorf("--all: %+v", all)
	}
	got = coord(t, "", "status", "--json")
	if want := `"facts":{"znode_count":"4"},"members":[{` + memberObject1 + ",{" + memberObject2 + "]}\n"; !strings.HasSuffix(got.out, want) {
		t.Errorf("%s\nwant the end\n%s", got.out, want)
	}
	for what, answer := range map[string]text.Reply{
		"alone": one, "not for us": {Kind: text.KindErr, Code: znode.ErrNoAuth}, "an old server": {Kind: text.KindErr, Code: znode.ErrUnknown},
	} {
		members.Store(reply(answer))
		if got := coord(t, "", "status"); got.code != exitOK || !strings.HasSuffix(got.out, "\nznodes   4\n") || got.errOut != "" {
			t.Errorf("%s: %+v", what, got)
		}
		if got := coord(t, "", "status", "--json"); got.code != exitOK || strings.Contains(got.out, "members") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	members.Store(reply(text.Reply{Kind: text.KindErr, Code: znode.ErrTimeout, Message: "too busy"}))
	if got := coord(t, "", "status"); got.code != exitOK || !strings.HasSuffix(got.out, "\nmembers  not known: too busy\n") {
		t.Errorf("an error: %+v", got)
	}
}

// TestSingleNodeMembers: a real server that is alone shows itself to operators, and
// refuses changes.
func TestSingleNodeMembers(t *testing.T) {
	serve(t, nil)
	got := coord(t, "", "members")
	lines := strings.Split(got.out, "\n")
	if got.code != exitOK || len(lines) != 3 {
		t.Fatalf("%+v", got)
	}
	fields := strings.Fields(lines[1])
	if len(fields) != 14 || fields[0] != "*" || len(fields[1]) != 16 || fmt.Sprint(fields[2:6]) != "[node1 leader yes yes]" || fmt.Sprint(fields[7:9]) != "[0 0]" {
		t.Errorf("%q", lines[1])
	}
	for _, args := range []string{"members add h:1", "members remove -y x", "members promote x", "members replace -y a b", "members transfer", "leave -y"} {
		if got := coord(t, "", strings.Fields(args)...); got.code != exitUsage || !strings.Contains(got.errOut, "this node is standalone") {
			t.Errorf("coord %s: %+v", args, got)
		}
	}
}

// TestCompleteNodes: names first, then ids.
func TestCompleteNodes(t *testing.T) {
	fake(t, func(*text.Request) []byte { return reply(twoMembers) })
	for words, want := range map[string]string{
		"members|promote|":         "words|host1|2|5d20e7a1c99b0342|8c1f44d09be7a615",
		"members|remove|ho":        "words|host1",
		"members|replace|host1|8c": "words|8c1f44d09be7a615",
		"members|transfer|5":       "words|5d20e7a1c99b0342",
		"members|":                 "words|add|remove|promote|replace|transfer",
		"members|add|":             "words",
		"server|--secret-file|":    "files",
	} {
		if got := complete(t, strings.Split(words, "|")...); got != want {
			t.Errorf("%s: %s, want %s", words, got, want)
		}
	}
	fake(t, func(*text.Request) []byte { return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoAuth}) })
	if got := complete(t, "members", "promote", ""); got != "words" {
		t.Errorf("without rights: %s", got)
	}
}
