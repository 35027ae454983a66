package server

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"coord/server/peer"
	"coord/snapshot"
)

// The reason why a node is not taken in is logged once for each address and reason, not twice a
// second while it lasts. A node that is not there yet is no reason: waiting says that.
func TestComplain(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	m := &machine{e: &ensemble{log: zerolog.New(&log).Level(zerolog.InfoLevel)}, complaints: map[string]string{}}
	for range 3 {
		m.complain("a:1", "no", errors.New("one"))
		m.complain("b:1", "no", errors.New("one"))
		m.complain("b:1", "no", &net.OpError{Op: "dial", Err: errors.New("refused")})
		m.complain("b:1", "no", context.DeadlineExceeded)
	}
	m.complain("a:1", "no", errors.New("two"))
	want := `{"level":"warn","error":"one","addr":"a:1","message":"no"}
{"level":"warn","error":"one","addr":"b:1","message":"no"}
{"level":"warn","error":"two","addr":"a:1","message":"no"}
`
	if got := log.String(); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
}

// A node whose data was lost says which cluster it was in. The leader of another cluster, as a recovery
// makes one, does not list it as a member that will never come.
func TestALostNodeIsOfOneCluster(t *testing.T) {
	t.Parallel()
	was, now := snapshot.NewID(), snapshot.NewID()
	for cluster, want := range map[snapshot.ID]string{was: was.String(), {}: ""} {
		e := &ensemble{n: &node{lost: &lost{cluster: cluster}}, cfg: &Ensemble{}}
		if got := e.joinRequest().Cluster; got != want {
			t.Errorf("it asks for %q, not %q", got, want)
		}
	}
	blank := &ensemble{n: &node{}, cfg: &Ensemble{}}
	if got := blank.joinRequest().Cluster; got != "" {
		t.Errorf("a node without data asks for %q", got)
	}
	leads := &ensemble{n: &node{}, cfg: &Ensemble{}, steward: newSteward(nil)}
	leads.n.identity.Cluster = now
	q := &memberRequest{Do: "join", Peer: "127.0.0.1:2888", Cluster: was.String()}
	if a, err := leads.takeIn(t.Context(), nil, peer.Hello{Identity: peer.Identity{Node: 7}}, q); err == nil || len(leads.steward.applicants) > 0 {
		t.Errorf("taken in: %+v, %v", a, err)
	}
}

// Of a list of first members, those are strangers whose name and address are both no member's.
func TestStrangers(t *testing.T) {
	t.Parallel()
	list := []Founder{{Name: "n1", Addr: "h1:1"}, {Name: "n2", Addr: "h2:2"}, {Name: "n3", Addr: "[::3]:3"}}
	for _, tt := range []struct {
		members roster
		want    []string
	}{
		{roster{{name: "n1", host: "h1", peer: 1}, {name: "n2", host: "h2", peer: 2}, {name: "n3", host: "::3", peer: 3}, {name: "n4"}}, nil},
		{roster{{name: "n1"}, {name: "n2", host: "elsewhere", peer: 2}, {name: "renamed", host: "::3", peer: 3}}, nil},
		{roster{{name: "n1", host: "h1", peer: 1}, {name: "n4", host: "h2", peer: 3}}, []string{"n2", "n3"}},
		{nil, []string{"n1", "n2", "n3"}},
	} {
		if got := strangers(list, tt.members); !slices.Equal(got, tt.want) {
			t.Errorf("of %+v: %q, not %q", tt.members, got, tt.want)
		}
	}
}
