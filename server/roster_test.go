package server

import (
	"reflect"
	"testing"

	"coord/server/founding"
	"coord/tree"
)

// TestRoster: what is written is read again, by ZooKeeper's rules for addresses.
func TestRoster(t *testing.T) {
	t.Parallel()
	want := roster{
		{node: 1, name: "n1", host: "10.0.0.1", peer: 2888, gossip: 2889, client: 2181},
		{node: 1<<63 | 7, name: "n 2", host: "fe80::1", peer: 1, gossip: 2, client: 3, observer: true},
		{node: 3, host: "h.example", peer: 65535},
		{node: 4, name: "n4", host: "a", peer: 1, client: 9, clientHost: "b"},
	}
	const text = `server.1=10.0.0.1:2888:2889:participant;10.0.0.1:2181
server.-9223372036854775801=[fe80::1]:1:2:observer;[fe80::1]:3
server.3=h.example:65535:0:participant
server.4=a:1:0:participant;b:9
name.1=n1
name.-9223372036854775801=n 2
name.3=
name.4=n4
version=1f`
	if got := string(want.encode(31)); got != text {
		t.Errorf("it is written as\n%s", got)
	}
	if got, version := parseRoster(text); !reflect.DeepEqual(got, want) || version != 31 {
		t.Errorf("it is read as %+v, version %d", got, version)
	}
}

// TestRosterOfOthers: whatever else somebody has written there is left out.
func TestRosterOfOthers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "=", "server.=a:1:2:participant", "server.0=a:1:2:participant", "server.1", "server.1=a:1:2", "server.1=a:1:2:participant:x",
		"server.1=a:x:2:participant", "server.1=[a:1:2:participant", "server.1=a:70000:2:participant", "server.99999999999999999999=a:1:2:participant", "name.1=x"} {
		if got, _ := parseRoster(text); len(got) != 0 {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func FuzzRoster(f *testing.F) {
	f.Add("server.1=10.0.0.1:2888:2889:participant;10.0.0.1:2181\nname.1=n1\nversion=1f")
	f.Fuzz(func(t *testing.T, text string) {
		r, version := parseRoster(text)
		if again, v := parseRoster(string(r.encode(version))); len(again) != len(r) || v != version {
			t.Errorf("%+v, written and read again: %+v", r, again)
		}
	})
}

// TestNewborn: all first members begin with the same state, which names them.
func TestNewborn(t *testing.T) {
	t.Parallel()
	plan := &founding.Plan{Members: []founding.Node{{ID: 7, Name: "a", Addr: "h1:2888"}, {ID: 9, Name: "b", Addr: "h2:2888"}}}
	one, err := newborn(plan)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := newborn(plan)
	if one.Digest() != two.Digest() || one.Counters() != two.Counters() {
		t.Error("two states are born of one plan")
	}
	if got, version := rosterOf(one); len(got) != 2 || got[1].peerAddr() != "h2:2888" || version != 1 {
		t.Errorf("the roster is %+v, version %d", got, version)
	}
	if got, _ := rosterOf(tree.New()); got != nil {
		t.Errorf("an empty state has the roster %+v", got)
	}
}

// TestNamed: a word means a node by its id, a long enough beginning of it, or its name. A few
// digits do not: they may be the name of a node that is gone.
func TestNamed(t *testing.T) {
	t.Parallel()
	ids := []uint64{0xb1c2d3e4f5061728, 0xb1c2d30000000000, 0xcafe000000000001}
	book := roster{{node: ids[0], name: "a"}, {node: ids[1], name: "b1c2d3e4"}, {node: ids[2], name: "same"}}
	for word, want := range map[string][]uint64{
		"b1c2d3e4f5061728": {ids[0]}, "B1C2D3E4F": {ids[0]}, "cafe": {ids[2]}, "a": {ids[0]}, "same": {ids[2]},
		"b1c2d3": {ids[0], ids[1]}, "b1c2d3e4": {ids[0], ids[1]},
		"c": nil, "caf": nil, "": nil, "b": nil, "d": nil, "SAME": nil,
	} {
		if got := named(ids, book, word); !reflect.DeepEqual(got, want) {
			t.Errorf("%q means %x", word, got)
		}
	}
}
