package cmd

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
)

const nodeDetails = "NODE is the id that coord members shows, its beginning, or the node's name, if only one has it. It needs the rights of an operator."

func membersCommand() *command {
	return &command{
		name: "members", does: "show or change the nodes of the ensemble", connects: true,
		details: `One line per node; a star marks the node that was asked. Columns: id, name, role, whether it votes, whether it is up, its lag
behind the leader in entries of the log and in time, the 99th percentile of its fsync times, and whether its data is the same.
- means that a value is not known. Needs operator rights.`,
		examples: []string{"coord members", "coord members --json | jq -r 'select(.up | not) | .name'"},
		run:      func(ctx context.Context, r *run) error { return r.admin(ctx, text.AdminMembers) },
	}
}

func membersAddCommand() *command {
	return &command{
		name: "members add", args: "HOST:PEER-PORT", does: "take a node into the ensemble", min: 1, max: 1, connects: true,
		details: `The node runs at this address and waits for others (--expect, --initial), or for members that it cannot find (--join). It
begins without a vote, and gets one when it has caught up and the number of voters is odd afterwards, unless it was started
with --observer. Needs operator rights.`,
		examples: []string{"coord members add 10.0.0.9:2888"},
		run:      func(ctx context.Context, r *run) error { return r.admin(ctx, text.AdminAdd, r.args[0]) },
	}
}

func membersRemoveCommand() *command {
	return &command{
		name: "members remove", args: "NODE", does: "remove a node for ever", min: 1, max: 1, connects: true,
		details: nodeDetails + `
The node must not come back: with an empty data folder it is a new one. It is refused with exit code 13 if too few of the
others would be up. It asks on a terminal; without one it needs -y.`,
		examples: []string{"coord members remove host3", "coord members remove -y 8c1f44"},
		flags:    []cli.Flag{boolFlag("force", "even if the others may be too few to go on"), yesFlag()},
		run: func(ctx context.Context, r *run) error {
			words := []string{text.AdminRemove, r.args[0]}
			if r.flags.Bool("force") {
				words = append(words, text.AdminForce)
			}
			return r.adminForEver(ctx, "Remove "+r.args[0]+" from the ensemble for ever?", words...)
		},
	}
}

func membersPromoteCommand() *command {
	return &command{
		name: "members promote", args: "NODE", does: "give a node a vote", min: 1, max: 1, connects: true,
		details:  nodeDetails + "\nIt must have caught up.",
		examples: []string{"coord members promote host4"},
		run:      func(ctx context.Context, r *run) error { return r.admin(ctx, text.AdminPromote, r.args[0]) },
	}
}

func membersReplaceCommand() *command {
	return &command{
		name: "members replace", args: "OLD NEW", does: "give the vote of one node to another", min: 2, max: 2, connects: true,
		details: `OLD leaves for ever and NEW votes, in one step: for a node whose disk is lost. Both are ids that coord members shows, their
beginnings, or names that only one node has. NEW must have joined and caught up. Needs operator rights. It asks on a
terminal; without one it needs -y.`,
		examples: []string{"coord members replace 8c1f44 5d20e7"},
		flags:    []cli.Flag{yesFlag()},
		run: func(ctx context.Context, r *run) error {
			return r.adminForEver(ctx, "Remove "+r.args[0]+" for ever, and give its vote to "+r.args[1]+"?", text.AdminReplace, r.args[0], r.args[1])
		},
	}
}

func membersTransferCommand() *command {
	return &command{
		name: "members transfer", args: "[NODE]", does: "hand leadership to another node", max: 1, connects: true,
		details:  nodeDetails + "\nWithout NODE it is the one that has come furthest. Writes wait for it.",
		examples: []string{"coord members transfer", "coord members transfer host2"},
		run: func(ctx context.Context, r *run) error {
			return r.admin(ctx, append([]string{text.AdminTransfer}, r.args...)...)
		},
	}
}

func leaveCommand() *command {
	return &command{
		name: "leave", does: "make a node leave the ensemble for ever and stop", connects: true,
		details: `The node is the one that is asked. If it leads, it hands leadership over; then it is removed, and stops. Its data folder is
then useless: it can come back as a new node with an empty one. To stop it for a while, end its process (SIGTERM) instead.
The command is refused with exit code 13 if too few of the others are up. Needs operator rights. It asks on a terminal;
without one it needs -y.`,
		examples: []string{"coord leave", "coord leave -y --server unix:/run/coord.sock"},
		flags:    []cli.Flag{yesFlag()},
		run: func(ctx context.Context, r *run) error {
			return r.adminForEver(ctx, "Make the node leave the ensemble for ever?", text.AdminLeave)
		},
	}
}

func yesFlag() cli.Flag { return boolFlag("yes", "do not ask", "y") }

// adminForEver is admin for changes that cannot be undone: it asks first.
func (r *run) adminForEver(ctx context.Context, question string, words ...string) error {
	if err := r.confirm(ctx, r.flags.Bool("yes") || r.explainer != nil, question); err != nil {
		return err
	}
	return r.admin(ctx, words...)
}

// admin sends an admin request to the ensemble and prints the members in the reply.
func (r *run) admin(ctx context.Context, words ...string) error {
	return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		all, err := c.Admin(ctx, words...)
		if err != nil {
			return err
		}
		if !r.json {
			return r.memberTable(all)
		}
		for i := range all {
			m := memberOf(&all[i])
			m.V = schema
			r.object(m)
		}
		return nil
	})
}

// jsonMember is a node of the ensemble. Unknown values are left out.
type jsonMember struct {
	V          int      `json:"v,omitempty"`
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Role       string   `json:"role"`
	Vote       bool     `json:"vote"`
	Up         bool     `json:"up"`
	Self       bool     `json:"self"`
	Peer       string   `json:"peer,omitempty"`
	Client     string   `json:"client,omitempty"`
	Term       *int64   `json:"term,omitempty"`
	Applied    *int64   `json:"applied,omitempty"`
	Lag        *int64   `json:"lag,omitempty"`
	LagMS      *int64   `json:"lag_ms,omitempty"`
	FsyncP99MS *float64 `json:"fsync_p99_ms,omitempty"`
	Digest     string   `json:"digest,omitempty"`
	Version    string   `json:"version,omitempty"`
}

func memberOf(m *client.Member) jsonMember {
	return jsonMember{
		ID: m.ID, Name: m.Name, Role: m.Role, Vote: m.Vote, Up: m.Up, Self: m.Self, Peer: m.Peer, Client: m.Client,
		Term: known(m.Term), Applied: known(m.Applied), Lag: known(m.Lag), LagMS: known(m.LagMS), FsyncP99MS: known(m.FsyncP99MS),
		Digest: m.Digest, Version: m.Version,
	}
}

// known returns nil for -1, which means unknown.
func known[N int64 | float64](n N) *N {
	if n < 0 {
		return nil
	}
	return &n
}

// memberTable prints members for people.
func (r *run) memberTable(all []client.Member) error {
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "  ID\tNAME\tROLE\tVOTE\tUP\tTERM\tLAG\tLAG MS\tFSYNC P99 MS\tDIGEST\tPEER\tCLIENT\tVERSION")
	for i := range all {
		m := &all[i]
		star := " "
		if m.Self {
			star = "*"
		}
		fsync := "-"
		if m.FsyncP99MS >= 0 {
			fsync = strconv.FormatFloat(m.FsyncP99MS, 'f', -1, 64)
		}
		_, _ = fmt.Fprintf(w, "%s %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", star, m.ID, m.Name, dash(m.Role), yesOrNo(m.Vote), yesOrNo(m.Up),
			numberOrDash(m.Term), numberOrDash(m.Lag), numberOrDash(m.LagMS), fsync, dash(m.Digest), dash(m.Peer), dash(m.Client), dash(m.Version))
	}
	return w.Flush()
}

func dash(s string) string { return cmp.Or(s, "-") }

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func numberOrDash(n int64) string {
	if n < 0 {
		return "-"
	}
	return count(n)
}
