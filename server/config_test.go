package server_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"coord/gossip"
	"coord/server"
)

// TestValidateEnsemble: each mistake that an operator can make has its own error text.
func TestValidateEnsemble(t *testing.T) {
	t.Parallel()
	three := []server.Founder{{Name: "n1", Addr: "h1:2888"}, {Name: "n2", Addr: "10.0.0.2:2888", GossipPort: 7}, {Name: "n3", Addr: "[fe80::3]:2888"}}
	founders := func(n int) (all []server.Founder) {
		for i := range n {
			all = append(all, server.Founder{Name: fmt.Sprintf("n%d", i), Addr: fmt.Sprintf("h%d:1", i)})
		}
		return all
	}
	type ensemble = server.Ensemble
	for _, tt := range []struct {
		change func(e *ensemble)
		want   string // part of the error; empty: none
	}{
		{func(*ensemble) {}, ""},
		{func(e *ensemble) { e.Secret = nil }, ":2888 and :2889 would be open to other hosts, and the cluster has no secret"},
		{func(e *ensemble) { e.Secret, e.PeerListen, e.GossipListen = nil, "127.0.0.1:1", "[::1]:2" }, ""},
		{func(e *ensemble) { e.Secret, e.PeerListen, e.GossipListen = nil, "localhost:1", "127.1.2.3:0" }, ""},
		{func(e *ensemble) { e.Secret, e.PeerListen = nil, "127.0.0.1:1" }, ":2889 would be open"},
		{func(e *ensemble) { e.Secret, e.GossipListen = nil, "127.0.0.1:1" }, ":2888 would be open"},
		{func(e *ensemble) { e.Secret, e.PeerListen, e.GossipListen = nil, "0.0.0.0:1", "[::]:1" }, "0.0.0.0:1 and [::]:1 would be open"},
		{func(e *ensemble) { e.Secret, e.PeerListen, e.GossipListen = nil, "host:1", "127.0.0.1:1" }, "host:1 would be open"},
		{func(e *ensemble) { e.PeerListen = "2888" }, `the address for other nodes "2888" is not ADDR:PORT`},
		{func(e *ensemble) { e.GossipListen = ":65536" }, `the address for other nodes ":65536" is not ADDR:PORT`},
		{func(e *ensemble) { e.PeerListen = "" }, `"" is not ADDR:PORT`},

		{func(e *ensemble) { e.Advertise = "host1" }, ""},
		{func(e *ensemble) { e.Advertise = "fe80::1" }, ""},
		{func(e *ensemble) { e.Advertise = "0.0.0.0" }, `"0.0.0.0" is not a host at which other nodes can reach this node`},
		{func(e *ensemble) { e.Advertise = "host1:2888" }, "is not a host"},
		{func(e *ensemble) { e.Advertise = strings.Repeat("h", gossip.MaxHost+1) }, "is not a host"},

		{func(e *ensemble) { e.Join = []string{"a", "b:1", "[::1]:2", "::1", "[::1]"} }, ""},
		{func(e *ensemble) { e.Join = []string{"a", ""} }, `join: "" is not HOST or HOST:PORT`},
		{func(e *ensemble) { e.Join = []string{"a:0"} }, `join: "a:0" is not HOST or HOST:PORT`},
		{func(e *ensemble) { e.Join = []string{"a:b"} }, "is not HOST or HOST:PORT"},
		{func(e *ensemble) { e.Join = []string{"0.0.0.0:5"} }, "is not HOST or HOST:PORT"},
		{func(e *ensemble) { e.Join = strings.Split(strings.Repeat("a,", server.MaxSeeds)+"a", ",") }, "65 hosts to join: at most 64 are allowed"},

		{func(e *ensemble) { e.Expect, e.Join = 3, []string{"a"} }, ""},
		{func(e *ensemble) { e.Expect = server.MaxFounders }, ""},
		{func(e *ensemble) { e.Expect = 1 }, "founded by 2 to 32 nodes, not by 1"},
		{func(e *ensemble) { e.Expect = server.MaxFounders + 1 }, "founded by 2 to 32 nodes, not by 33"},
		{func(e *ensemble) { e.Expect, e.Initial = 3, three }, "expect and initial exclude each other"},

		{func(e *ensemble) { e.Initial = three }, ""},
		{func(e *ensemble) { e.Initial = founders(server.MaxFounders) }, ""},
		{func(e *ensemble) { e.Initial = founders(server.MaxFounders + 1) }, "but initial lists 33"},
		{func(e *ensemble) { e.Initial = three[:1] }, "but initial lists 1"},
		{func(e *ensemble) { e.Initial = three[1:] }, "initial does not list this node, whose name is n1"},
		{func(e *ensemble) { e.Initial, e.Join = three, []string{"a"} }, "initial and join exclude each other"},
		{func(e *ensemble) { e.Initial = []server.Founder{three[0], {Name: "n1", Addr: "h:1"}} }, "the name n1 or the address h:1 is listed twice"},
		{func(e *ensemble) { e.Initial = []server.Founder{three[0], {Name: "n2", Addr: "h1:2888"}} }, "is listed twice"},
		{func(e *ensemble) { e.Initial = []server.Founder{three[0], {Name: "n 2", Addr: "h:1"}} }, `initial: "n 2" is not a valid name of a node`},
		{func(e *ensemble) { e.Initial = []server.Founder{three[0], {Name: "n2", Addr: "h"}} }, `initial: n2: "h" is not ADDR:PORT`},
		{func(e *ensemble) { e.Initial = []server.Founder{{"n1", "h:1", 9}, {"n2", "h:2", 9}} }, "initial: n2: the address h:9 is listed twice"},
		{func(e *ensemble) { e.Initial = []server.Founder{{"n1", "h:1", 1}, {"n2", "h:2", 9}} }, "initial: n1: the address h:1 is listed twice"},
		{func(e *ensemble) { e.Initial = []server.Founder{three[0], {Name: "n2", Addr: "h:0"}} }, `initial: n2: "h:0" is not a host and port at which other nodes can reach it`},
		{func(e *ensemble) { e.Initial = []server.Founder{three[0], {Name: "n2", Addr: "0.0.0.0:5"}} }, "at which other nodes can reach it"},
		{func(e *ensemble) {
			e.Initial = []server.Founder{three[0], {Name: "n2", Addr: "h:1", GossipPort: math.MaxUint16 + 1}}
		}, "at which other nodes can reach it"},

		{func(e *ensemble) { e.Initial, e.PeerListen = three, "10.0.0.1:2888" }, "initial: n3: this node listens for other nodes on 10.0.0.1:2888 and cannot reach [fe80::3]:2888"},
		{func(e *ensemble) { e.Initial, e.PeerListen = three, "[fe80::1]:2888" }, "initial: n2: this node listens for other nodes on [fe80::1]:2888"},
		{func(e *ensemble) { e.Initial, e.PeerListen = three[:2], "[::ffff:10.0.0.1]:2888" }, ""},
		{func(e *ensemble) { e.Initial, e.PeerListen = three, "0.0.0.0:2888" }, ""},
		{func(e *ensemble) { e.Initial, e.PeerListen = three, "host:2888" }, ""},

		{func(e *ensemble) { e.Observer, e.Join = true, []string{"a"} }, ""},
		{func(e *ensemble) { e.Observer = true }, "an observer needs join"},
		{func(e *ensemble) { e.Observer, e.Initial = true, three }, "an observer cannot found an ensemble"},
		{func(e *ensemble) { e.Observer, e.Expect, e.Join = true, 3, []string{"a"} }, "an observer cannot found an ensemble"},

		{func(e *ensemble) { e.Tick = server.MinTick }, ""},
		{func(e *ensemble) { e.Tick = server.MinTick - 1 }, "raft-tick is 999.999µs: expected 1ms to 10s"},
		{func(e *ensemble) { e.Tick, e.SyncLimit = server.MaxTick, time.Hour }, ""},
		{func(e *ensemble) { e.Tick, e.SyncLimit = server.MaxTick+1, time.Hour }, "raft-tick is 10.000000001s"},
		{func(e *ensemble) { e.HeartbeatTicks = 0 }, "heartbeat-ticks is 0 and election-ticks is 6"},
		{func(e *ensemble) { e.HeartbeatTicks = 10 }, "election-ticks above heartbeat-ticks"},
		{func(e *ensemble) { e.ElectionTicks, e.SyncLimit = server.MaxTicks, time.Hour }, ""},
		{func(e *ensemble) { e.ElectionTicks, e.SyncLimit = server.MaxTicks+1, time.Hour }, "election-ticks is 1001"},
		{func(e *ensemble) { e.SyncLimit = 600 * time.Millisecond }, ""},
		{func(e *ensemble) { e.SyncLimit = 599 * time.Millisecond }, "sync-limit is 599ms: expected 600ms (the time of an election) to 24h0m0s"},
		{func(e *ensemble) { e.SyncLimit = server.MaxSyncLimit + 1 }, "sync-limit is"},
	} {
		cfg, e := server.DefaultConfig(), server.DefaultEnsemble()
		cfg.Name, e.Secret = "n1", []byte("the secret of the test")
		tt.change(&e)
		cfg.Ensemble = &e
		err := cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v:\n got %v\nwant %s", e, err, tt.want)
		}
		if s := fmt.Sprintf("%v %+v", e, err); strings.Contains(s, "the secret of the test") {
			t.Errorf("the secret is shown: %s", s)
		}
	}
	cfg, e := server.DefaultConfig(), server.DefaultEnsemble()
	cfg.Name, e.Secret = strings.Repeat("n", gossip.MaxName+1), []byte("x")
	if err := cfg.Validate(); err != nil {
		t.Errorf("a long name of a node that is alone: %v", err)
	}
	cfg.Ensemble = &e
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "is limited to 128 bytes") {
		t.Errorf("a long name: %v", err)
	}
}

// A host that can never be joined is named in a warning only, because another one may be reachable.
func TestAHostOfTheOtherKindToJoin(t *testing.T) {
	t.Parallel()
	cfg, e := testConfig(t), server.DefaultEnsemble()
	e.PeerListen, e.GossipListen, e.Expect, e.Join = "127.0.0.1:0", "127.0.0.1:0", 2, []string{"127.0.0.1:9", "[::1]:9"}
	cfg.Ensemble = &e
	ctx, cancel := context.WithCancel(t.Context())
	lines := make(lines, 100)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, cfg, zerolog.New(lines), func(server.Listening) {}) }()
	said := lines.until(t, "waiting for 1 more of 2 nodes")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if strings.Count(said, "cannot be reached") != 1 || !strings.Contains(said, `"join":"[::1]:9"`) {
		t.Error(said)
	}
}

// A list of first members has no effect on a node that is a member already; the node warns if the list names others.
func TestAListForAnotherFolder(t *testing.T) {
	t.Parallel()
	cfg, e := testConfig(t), server.DefaultEnsemble()
	e.PeerListen, e.GossipListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Ensemble = &e
	for _, list := range [][]server.Founder{nil, nil, {{Name: "test", Addr: "127.0.0.1:1"}, {Name: "n2", Addr: "127.0.0.1:2"}}} {
		e.Initial = list
		ctx, cancel := context.WithCancel(t.Context())
		lines := make(lines, 100)
		if err := server.Run(ctx, cfg, zerolog.New(lines), func(server.Listening) { cancel() }); err != nil {
			t.Fatal(err)
		}
		if said := lines.until(t, "stopped"); strings.Contains(said, `"not_members":["n2"],"members":["test"]`) != (list != nil) {
			t.Error(said)
		}
	}
}

// lines are the lines of a log.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// until returns the lines up to the first that contains what.
func (l lines) until(t *testing.T, what string) (all string) {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case line := <-l:
			if all += line; strings.Contains(line, what) {
				return all
			}
		case <-timeout:
			t.Fatalf("%q is not in %s", what, all)
		}
	}
}
