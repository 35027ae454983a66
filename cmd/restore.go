package cmd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/snapshot/datadir"
	"coord/snapshot/restore"
	"coord/snapshot/zkimport"
)

func restoreCommand() *command {
	return &command{
		name: "restore", args: "FILE|- --data-dir DIR", does: "restore a backup, or import ZooKeeper's data, into a data folder", max: 1,
		details: `DIR is the data folder of a stopped server, or a new one. The command reads and checks the whole backup before it
writes anything; at every moment DIR is the old state or the new one.
A folder with data is replaced only with --replace; the old one is kept beside it. This asks on a terminal;
without one it needs -y. No client sees time go back: zxids, versions and the numbers of sequential znodes only
grow. Sessions and their ephemeral znodes are dropped, and listed in DIR/restore-ID.json.`,
		examples: []string{
			"coord restore backup.coord --data-dir /var/lib/coord", "coord restore --dry-run backup.coord --data-dir /var/lib/coord",
			"coord restore --replace -y backup.coord --data-dir /var/lib/coord", "ssh host cat backup.coord | coord restore - --data-dir /tmp/copy --exact",
			"coord restore --from-zookeeper /var/lib/zookeeper --data-dir /var/lib/coord",
		},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "the data folder `DIR`"},
			boolFlag("dry-run", "check everything, say what would be done, and write nothing"),
			boolFlag("replace", "DIR may hold data; it is kept under another name"),
			boolFlag("exact", "a copy for tests: versions and counters as in the backup"),
			&cli.StringFlag{Name: "from-zookeeper", Usage: "import the data folder `DIR` of a stopped ZooKeeper"},
			&cli.StringFlag{Name: "log-dir", Usage: "its logs are in `DIR`, the dataLogDir of zoo.cfg", DefaultText: "where the data is"},
			boolFlag("yes", "do not ask", "y"),
		},
		run: runRestore,
	}
}

func runRestore(ctx context.Context, r *run) error {
	zooKeeper, logDir, exact := r.flags.String("from-zookeeper"), r.flags.String("log-dir"), r.flags.Bool("exact")
	usage := func(msg string) error { return &usageError{msg: msg, hint: "coord help restore"} }
	file := ""
	if len(r.args) > 0 {
		file = r.file(0)
	}
	switch {
	case file == "" && zooKeeper == "":
		return usage("an argument is missing: the backup FILE, or --from-zookeeper DIR")
	case file != "" && zooKeeper != "":
		return usage("a backup FILE and --from-zookeeper DIR exclude each other")
	case logDir != "" && zooKeeper == "":
		return usage("--log-dir needs --from-zookeeper")
	case exact && zooKeeper != "":
		return usage("--exact and --from-zookeeper exclude each other: an import always leaves versions and counters as they are")
	case r.flags.String("data-dir") == "":
		return usage("--data-dir DIR is missing: the folder to restore into")
	}
	o := restore.Options{File: file, In: r.in, ZooKeeper: zooKeeper, ZooKeeperLog: logDir, Replace: r.flags.Bool("replace"), Exact: exact}
	return r.restore(ctx, o, func(plan *restore.Report) string {
		what := "the ZooKeeper data"
		if plan.Backup != nil {
			what = "a backup"
		}
		return fmt.Sprintf("Replace the data in %s with %s of %s, zxid %s? The old data is kept.",
			plan.Target, what, stamp(restoredTime(plan)), plan.Zxid.Before)
	})
}

// restore carries out o on the folder of --data-dir, and obeys --dry-run and --yes.
// It asks the user before it replaces data.
func (r *run) restore(ctx context.Context, o restore.Options, question func(plan *restore.Report) string) error {
	dry, yes := r.flags.Bool("dry-run"), r.flags.Bool("yes")
	if (o.Replace || o.LostQuorum) && !dry && !yes && !r.asks() {
		return r.confirm(ctx, false, "")
	}
	o.DataDir, o.DryRun, o.Writer = r.flags.String("data-dir"), dry, writer
	o.Progress = func(p restore.Progress) error {
		if p.Total > 0 {
			r.progress("coord: %s: %d %%", p.Stage, 100*p.Done/p.Total)
		} else {
			r.progress("coord: %s", p.Stage)
		}
		return context.Cause(ctx)
	}
	o.Confirm = func(plan *restore.Report) error {
		if plan.Replaced == nil || dry {
			return nil
		}
		r.progressEnd()
		return r.confirm(ctx, yes, question(plan))
	}
	report, err := restore.Run(ctx, o)
	r.progressEnd()
	if err != nil {
		return restoreHint(err)
	}
	r.restored(report)
	return nil
}

func restoreHint(err error) error {
	switch {
	case is[*restore.NotEmptyError](err):
		return &hinted{err, "--replace puts the backup in its place and keeps the old data"}
	case is[*datadir.InUseError](err), is[*zkimport.InUseError](err):
		return &hinted{err, "stop that server first"}
	}
	if damage, ok := errors.AsType[*zkimport.DamageError](err); ok && damage.Offset > 0 && strings.HasPrefix(filepath.Base(damage.File), "log.") {
		return &hinted{err, fmt.Sprintf("another member's folder may be intact. To give up everything from the damage on: in a copy of the folder, run truncate -s %d %s, and remove the later logs and snapshots",
			damage.Offset, shellWord(filepath.Base(damage.File)))}
	}
	return err
}

// restoredTime is the time of the last change in the restored data.
func restoredTime(p *restore.Report) int64 {
	switch {
	case p.Backup != nil:
		return p.Backup.TimeMS
	case p.Survivor != nil:
		return p.Survivor.TimeMS
	}
	return p.ZooKeeper.TimeMS
}

// restored prints what was done, or would be done.
func (r *run) restored(p *restore.Report) {
	if r.json {
		r.object(p)
		return
	}
	for _, n := range p.Notices {
		r.note("coord: %s", n)
	}
	var rows []client.Fact
	add := func(name, format string, a ...any) {
		rows = append(rows, client.Fact{Name: name, Value: fmt.Sprintf(format, a...)})
	}
	at := fmt.Sprintf("%s, zxid %s", stamp(restoredTime(p)), p.Zxid.Before)
	switch s := p.Survivor; {
	case p.Backup != nil:
		add("backup", "%s of %s", p.Backup.BackupID, at)
	case s != nil:
		since := ""
		if s.MembersChanged {
			since = ", and changed since"
		}
		add("node", "%s of cluster %s, as of %s", s.Node, s.Cluster, at)
		add("log", "up to entry %d of term %d; up to %d known to be committed, txns after that: %s", s.Index, s.Term, s.Committed, count(int64(s.Txns)))
		add("members", "voters %s; learners %s, as of the newest snapshot%s", list(s.Voters), list(s.Learners), since)
	default:
		add("zookeeper", "%s of %s", p.ZooKeeper.Dir, at)
	}
	for _, c := range p.Checks {
		add("checked", "%s: %s", c.Name, c.Result)
	}
	add("znodes", "%s, %s", count(int64(p.Znodes)), size(p.Bytes))
	add("dropped", "%s ephemeral znodes of %s sessions", count(int64(len(p.Dropped.Ephemerals))), count(int64(len(p.Dropped.Sessions))))
	if p.Advanced.Exact {
		add("clocks", "versions and counters as they were, zxid %s", p.Zxid.After)
	} else {
		add("clocks", "%s versions, %s counters moved forward, zxid %s", count(int64(p.Advanced.Versions+p.Advanced.ACLVersions)),
			count(int64(p.Advanced.Counters)), p.Zxid.After)
	}
	add("identity", "cluster %s, epoch %s after %s", p.Identity.Cluster, p.Epoch.After, p.Epoch.Before)
	if p.Backup != nil {
		add("digest", "%s, as in the backup", p.Digest.Before)
	}
	switch {
	case p.DryRun && p.Replaced != nil:
		add("would replace", "the data in %s, and keep it", p.Target)
	case p.DryRun:
		add("would make", "%s", p.Target)
	default:
		if p.Kept != "" {
			add("kept", "%s: remove it once you are sure", p.Kept)
		}
		if p.File != "" {
			add("report", "%s", p.File)
		}
		add("next", "coord server --data-dir %s", shellWord(p.Target))
	}
	r.table(rows)
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, " ")
}

// shellWord quotes a word if a shell requires it.
func shellWord(s string) string {
	if strings.IndexFunc(s, func(c rune) bool {
		return !strings.ContainsRune("/._-+:@%,", c) && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
