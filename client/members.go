package client

import (
	"context"
	"strconv"

	"coord/server/text"
)

// Member is a node of the ensemble, as the queried node knows it. An unknown number, such as that
// of a node that is down, is -1.
type Member struct {
	ID   string // 16 hex digits
	Name string
	Role string // leader, follower, standby, observer
	Vote bool
	Up   bool
	Self bool // it is the queried node
	// The addresses for other nodes and for clients.
	Peer, Client string
	Term         int64
	Applied      int64 // index of the last log entry that it has applied
	Lag          int64 // log entries that it is behind
	LagMS        int64
	FsyncP99MS   float64
	Digest       string // same, differs, unknown: compared with that of the leader
	Version      string // of coord
}

// Members lists the members of the ensemble. It needs operator rights.
func (c *Conn) Members(ctx context.Context) ([]Member, error) { return c.Admin(ctx, text.AdminMembers) }

// Admin requests a change of the ensemble, in the words of the text protocol's ADMIN, and returns
// the members concerned that still exist. It needs operator rights.
func (c *Conn) Admin(ctx context.Context, words ...string) ([]Member, error) {
	r, err := c.Do(ctx, &text.Request{Op: text.Op{Verb: text.VerbAdmin}, Words: words})
	if err != nil {
		return nil, err
	}
	all := make([]Member, len(r.Items))
	for i := range r.Items {
		it := &r.Items[i]
		number := func(key string) int64 {
			n, err := strconv.ParseInt(it.Str(key), 10, 64)
			if err != nil {
				return -1
			}
			return n
		}
		fsync, err := strconv.ParseFloat(it.Str(text.KeyFsyncP99MS), 64)
		if err != nil {
			fsync = -1
		}
		all[i] = Member{
			ID: it.Arg, Name: it.Str(text.KeyName), Role: it.Str(text.KeyRole),
			Vote: number(text.KeyVote) == 1, Up: number(text.KeyUp) == 1, Self: number(text.KeySelf) == 1,
			Peer: it.Str(text.KeyPeer), Client: it.Str(text.KeyClient),
			Term: number(text.KeyTerm), Applied: number(text.KeyApplied), Lag: number(text.KeyLag), LagMS: number(text.KeyLagMS),
			FsyncP99MS: fsync, Digest: it.Str(text.KeyDigest), Version: it.Str(text.KeyNodeVersion),
		}
	}
	return all, nil
}
