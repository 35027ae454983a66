package server

import (
	"context"
	"strconv"
	"strings"
	"time"

	"coord/server/frontend"
	"coord/snapshot/datadir"
	"coord/tree/znode"
)

// Admin shows the only member that there is: frontend.Node.
func (n *node) Admin(_ context.Context, words []string) ([]frontend.AdminItem, error) {
	if words[0] != "MEMBERS" {
		return nil, &frontend.AdminError{Code: znode.ErrBadArguments, Text: "this node is alone and has no port for others: start it with the flags of an ensemble first"}
	}
	st := n.replica.Status()
	p99 := time.Duration(n.measured.syncs.Percentile(990)) * time.Microsecond
	return []frontend.AdminItem{{Name: datadir.NodeString(n.identity.Node), Facts: []frontend.Fact{
		{Key: "name", Value: n.cfg.Name},
		{Key: "role", Value: st.Role},
		{Key: "vote", Value: "1"},
		{Key: "up", Value: "1"},
		{Key: "peer", Value: ""},
		{Key: "client", Value: strings.Join(n.cfg.Listen, ",")},
		{Key: "term", Value: strconv.FormatUint(st.Term, 10)},
		{Key: "applied", Value: strconv.FormatUint(st.Applied, 10)},
		{Key: "lag", Value: "0"},
		{Key: "lag_ms", Value: "0"},
		{Key: "fsync_p99_ms", Value: strconv.FormatFloat(float64(p99.Microseconds())/1000, 'f', 3, 64)},
		{Key: "digest", Value: "same"},
		{Key: "version", Value: n.cfg.Version},
		{Key: "self", Value: "1"},
	}}}, nil
}
