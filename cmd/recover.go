package cmd

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"coord/snapshot/restore"
)

func recoverCommand() *command {
	return &command{
		name: "recover", args: "--data-dir DIR", does: "let one node of an ensemble that has lost its quorum go on alone",
		details: `Use this only when a majority of the voters is lost for good: if enough of them can come back, wait for them.
DIR is the data folder of a remaining node that does not run; of several, take the one whose log reaches farthest, as
--dry-run shows. The node becomes a cluster of its own, with one voter. Every write in its log is kept; writes that were
acknowledged and never reached it are lost. Sessions end, and no client sees time go back, as after coord restore.
The old folder is kept beside the new one. The other nodes must not come back with their old folders: move those away,
and let the nodes join.`,
		examples: []string{"coord recover --dry-run --data-dir /var/lib/coord", "coord recover -y --data-dir /var/lib/coord"},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "the data folder `DIR`"},
			boolFlag("dry-run", "check everything, say what would be done, and write nothing"),
			boolFlag("yes", "do not ask", "y"),
		},
		run: runRecover,
	}
}

func runRecover(ctx context.Context, r *run) error {
	if r.flags.String("data-dir") == "" {
		return &usageError{msg: "--data-dir DIR is missing: the data folder of the remaining node", hint: "coord help recover"}
	}
	return r.restore(ctx, restore.Options{LostQuorum: true}, func(plan *restore.Report) string {
		s := plan.Survivor
		return fmt.Sprintf(`Node %s of cluster %s becomes a new cluster of its own, with every change up to zxid %s.
Writes that were acknowledged but never reached this node are lost, and the old cluster must never be started again.
Is a majority of its voters lost for good, and does this node have the longest log?`, s.Node, s.Cluster, plan.Zxid.Before)
	})
}
