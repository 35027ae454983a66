package founding

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

func sampleMessage() *Message {
	return &Message{
		Kind: Propose, Label: "edge", From: Node{7, "n1", "10.0.0.1:2888"}, State: Promised, Cluster: ID{1, 2}, By: 7, Want: 2, View: 9, About: ID{1, 2}, Stand: Bound,
		Plan: &Plan{ID{1, 2}, []Node{{7, "n1", "10.0.0.1:2888"}, {8, "n2", "10.0.0.2:2888"}}},
	}
}

// TestMessageBytes: these bytes are a promise to other versions.
func TestMessageBytes(t *testing.T) {
	t.Parallel()
	node := func(id, name, addr string) string {
		return "00000000000000" + id + "02" + hex.EncodeToString([]byte(name)) + "0d" + hex.EncodeToString([]byte(addr))
	}
	id := "0102" + strings.Repeat("00", 14)
	want := "01" + "02" + "01" + "01" + "02" + "0000000000000009" + "0000000000000007" + id + id + "0465646765" +
		node("07", "n1", "10.0.0.1:2888") + "02" + node("07", "n1", "10.0.0.1:2888") + node("08", "n2", "10.0.0.2:2888")
	b := sampleMessage().Append(nil)
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for n := range b {
		if _, err := Decode(b[:n]); !errors.Is(err, ErrMessage) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, err := Decode(append(b, 0)); !errors.Is(err, ErrMessage) {
		t.Errorf("longer: %v", err)
	}
	b[0] = 2
	if _, err := Decode(b); !errors.Is(err, ErrVersion) {
		t.Errorf("another version: %v", err)
	}
	large := sampleMessage()
	text := strings.Repeat("x", MaxText)
	large.Label, large.Plan.Members = text, nil
	for i := range MaxMembers {
		large.Plan.Members = append(large.Plan.Members, Node{uint64(i + 1), text, text})
	}
	large.From = large.Plan.Members[0]
	if b := large.Append(nil); len(b) > MaxMessage {
		t.Errorf("%d bytes", len(b))
	} else if _, err := Decode(b); err != nil {
		t.Error(err)
	}
	large.Plan.Members = append(large.Plan.Members, Node{99, "", ""})
	if _, err := Decode(large.Append(nil)); !errors.Is(err, ErrMessage) {
		t.Errorf("%d members: %v", len(large.Plan.Members), err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sampleMessage().Append(nil))
	hello := sampleMessage()
	hello.Kind, hello.Plan = Hello, nil
	f.Add(hello.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
		// No message makes a machine panic or send something that cannot be encoded.
		for _, r := range []Record{{}, {State: Promised, Plan: sampleMessage().Plan}, {State: Member, Cluster: ID{3}}} {
			for _, self := range []uint64{7, 8} {
				x := New(Config{Self: Node{self, "n1", "10.0.0.1:2888"}, How: Expect, N: 2, Label: "edge", NewID: func() ID { return ID{5} }}, r)
				for _, e := range append(append(x.Request(m), x.Answer(m.From, m)...), x.Tick()...) {
					if s, ok := e.(Send); ok {
						s.Message.Append(nil)
					}
				}
				_ = x.Waiting()
			}
		}
	})
}

func TestAlone(t *testing.T) {
	t.Parallel()
	cfg := Config{Self: Node{1, "n1", "a:1"}, Quiet: 6, NewID: func() ID { return ID{9} }}
	m := New(cfg, Record{})
	for range 6 {
		if got := m.Tick(); got != nil || m.Waiting() == "" {
			t.Fatalf("founds while it should listen: %v", got)
		}
	}
	got := m.Tick()
	if w, ok := got[0].(Write); len(got) != 1 || !ok || w.Record.State != Member || w.Record.Cluster != w.Born.Cluster || !slices.Equal(w.Born.Members, []Node{cfg.Self}) {
		t.Errorf("%v", got)
	}
	if m.Waiting() != "" || m.Tick() != nil {
		t.Error("goes on waiting")
	}

	m = New(cfg, Record{})
	m.Tick()
	m.Contact(ID{4}, 77)
	for range 20 {
		if got := m.Tick(); got != nil {
			t.Fatalf("founds although an ensemble expects another node: %v", got)
		}
	}
	if !strings.Contains(m.Waiting(), "000000000000004d") || !strings.Contains(m.Waiting(), "--join") {
		t.Error(m.Waiting())
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	self := Node{1, "n1", "a:1"}
	for want, c := range map[string]Config{
		"no node to join":     {Self: self, How: Seeded},
		"expected 2 to 32":    {Self: self, How: Initial, Peers: []Node{self}},
		"1 nodes":             {Self: self, How: Expect, N: 1},
		"33 nodes":            {Self: self, How: Expect, N: 33},
		"not in the list":     {Self: self, How: Initial, Peers: []Node{{0, "n2", "b:1"}, {0, "n3", "c:1"}}},
		"is listed twice":     {Self: self, How: Initial, Peers: []Node{self, {0, "n2", "a:1"}}},
		"missing or too long": {Self: self, How: Seeded, Peers: []Node{{}}},
		"longer than 255":     {Self: self, Label: strings.Repeat("x", 256)},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, c := range []Config{{Self: self}, {Self: self, How: Expect, N: 3}, {Self: self, How: Initial, Peers: []Node{self, {0, "n2", "b:1"}}}, {Self: self, How: Seeded, Peers: []Node{{Addr: "b:1"}}}} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// TestAVoteOutlivesARestart: of two nodes, the one that is not the proposer can give a plan up
// alone, and a crash between its vote and its release does not keep it bound.
func TestAVoteOutlivesARestart(t *testing.T) {
	t.Parallel()
	plan := &Plan{ID{1}, []Node{{7, "n1", "a:1"}, {8, "n2", "b:1"}}}
	cfg := Config{Self: plan.Members[1], How: Expect, N: 2}
	m := New(cfg, Record{State: Promised, Plan: plan})
	got := m.Answer(plan.Members[0], &Message{Kind: Answer, From: Node{9, "n1", "a:1"}})
	vote, ok := got[0].(Write)
	if !ok || !vote.Record.Voted || vote.Record.State != Promised {
		t.Fatalf("%v", got)
	}
	for _, got := range [][]Effect{got[1:], New(cfg, vote.Record).Tick()} {
		if w, ok := got[0].(Write); !ok || w.Record.State != Blank || !slices.Equal(w.Record.Released, []ID{plan.Cluster}) {
			t.Errorf("%v", got)
		}
	}
}

// TestReleasedTooOften: a node that was released too often takes no part in foundings any more, and
// says so.
func TestReleasedTooOften(t *testing.T) {
	t.Parallel()
	r := Record{}
	for i := range MaxReleased {
		r.Released = append(r.Released, ID{1, byte(i), byte(i >> 8)})
	}
	plan := &Plan{ID{9}, []Node{{7, "n1", "a:1"}, {8, "n2", "b:1"}}}
	for i, self := range plan.Members {
		other := plan.Members[1-i]
		m := New(Config{Self: self, How: Expect, N: 2}, r)
		m.Seen([]Candidate{{Node: other, N: 2, View: m.View()}})
		got := append(m.Tick(), m.Request(&Message{Kind: Propose, From: plan.Members[0], About: plan.Cluster, Plan: plan})...)
		got = append(got, m.Request(&Message{Kind: Poll, From: other, About: plan.Cluster, Stand: Voted})...)
		for _, e := range got {
			if reply, ok := e.(Reply); !ok || reply.Message.Stand != Open {
				t.Errorf("%v", e)
			}
		}
		if !strings.Contains(m.Waiting(), "gave up founding") {
			t.Error(m.Waiting())
		}
	}
	// The last place is kept for the plan that the node is promised to.
	m := New(Config{Self: plan.Members[1], How: Expect, N: 2}, Record{State: Promised, Plan: plan, Released: r.Released[1:]})
	if got := m.Request(&Message{Kind: Poll, From: Node{ID: 5}, About: ID{8}, Stand: Voted}); len(got) != 1 {
		t.Errorf("%v", got)
	}
	m.Request(&Message{Kind: Poll, From: plan.Members[0], About: plan.Cluster, Stand: Never})
	if r := m.Record(); r.State != Blank || len(r.Released) != MaxReleased {
		t.Errorf("%v, released %d times", r.State, len(r.Released))
	}
}

// TestWords: removed and faulty nodes say why they do nothing.
func TestWords(t *testing.T) {
	t.Parallel()
	for state, want := range map[State]string{Removed: "was removed from its ensemble", Faulty: "has lost data"} {
		m := New(Config{Self: Node{1, "n1", "a:1"}}, Record{State: state, Cluster: ID{1}, Reason: "the reason"})
		if words := m.Waiting(); !strings.Contains(words, want) || !strings.Contains(words, "(the reason)") {
			t.Error(words)
		}
		if m.Tick() != nil || m.Joined(ID{2}) != nil {
			t.Errorf("%v does something", state)
		}
	}
}

// TestWordsOfOtherNumbers: a waiting node names the nodes that expect another number.
func TestWordsOfOtherNumbers(t *testing.T) {
	t.Parallel()
	m := New(Config{Self: Node{1, "n1", "a:1"}, How: Expect, N: 3}, Record{})
	m.Seen([]Candidate{
		{Node: Node{2, "n2", "b:1"}, N: 3}, {Node: Node{3, "n3", "c:1"}, N: 2}, {Node: Node{4, "n4", "d:1"}}, {Node: Node{5, "n5", "e:1"}, N: 9, State: Promised},
	})
	if got, want := m.Waiting(), "waiting for 1 more of 3 nodes (seen: n1, n2; n3 expects 2 nodes): the first start needs all nodes"; got != want {
		t.Error(got)
	}
}
