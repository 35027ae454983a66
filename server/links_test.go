package server

import (
	"net"
	"testing"

	"github.com/rs/zerolog"

	"coord/server/peer"
)

// TestLinksAreCounted: whenever a link has come or gone, what this node has told over it may be lost.
func TestLinksAreCounted(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := &node{cfg: Config{Name: "n1", Cluster: "c", Ensemble: &Ensemble{GossipListen: "127.0.0.1:0"}}, log: zerolog.Nop(), onLoopback: true}
	n.identity.Node, n.identity.Boot = 1, 1
	e, err := newEnsemble(t.Context(), n, l)
	if err != nil {
		t.Fatal(err)
	}
	was := e.Links()
	for name, moves := range map[string]func(){
		"up":   func() { e.Up(2, peer.Hello{}) },
		"down": func() { e.Down(2, false) },
		"gone": func() { e.Down(2, true) },
	} {
		moves()
		if now := e.Links(); now == was {
			t.Errorf("%s: nobody notices", name)
		} else {
			was = now
		}
	}
}
