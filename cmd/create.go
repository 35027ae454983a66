package cmd

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

func createCommand() *command {
	return &command{
		name: "create", args: "PATH [VALUE]", does: "create a znode and print its path", min: 1, max: 2, connects: true,
		details: valueHelp + "\nWithout VALUE the znode is empty.",
		examples: []string{
			"coord create /app", "coord create -p /app/hosts/a 10.0.0.7", "coord create --seq /queue/job- @job.json",
			"coord create --ttl 30s /seen/host7", "coord create -e --session s /members/host7", "coord create --acl world:anyone:r,digest:ann:HASH=:cdrwa /app/secret",
		},
		flags: []cli.Flag{
			boolFlag("seq", "append the parent's counter to the name: 10 digits"),
			boolFlag("ephemeral", "delete it when the session of --session FILE ends", "e"),
			sessionFlag(),
			boolFlag("container", "delete it once its last child is deleted", "c"),
			&cli.StringFlag{Name: "ttl", Usage: "delete it once it has had no children and no change for `TIME`, such as 30s or 7d"},
			boolFlag("parents", "create missing parents too", "p"),
			&cli.StringSliceFlag{Name: "acl", Usage: "the ACL: `SCHEME:ID:PERMS`, several separated by commas", DefaultText: "world:anyone:cdrwa"},
			statFlag("print the path and the stat as key=value lines"),
		},
		run: runCreate,
	}
}

func runCreate(ctx context.Context, r *run) error {
	op := text.Op{Verb: text.VerbCreate, Parents: r.flags.Bool("parents")}
	seq, container, ephemeral := r.flags.Bool("seq"), r.flags.Bool("container"), r.flags.Bool("ephemeral")
	if ttl := r.flags.String("ttl"); r.flags.IsSet("ttl") {
		d, err := parseTime(ttl)
		if err != nil || d < time.Millisecond || d.Milliseconds() > znode.MaxTTLMS {
			return usagef("--ttl %s: expected a time such as 30s, 5m or 7d, at least 1ms", quote(ttl))
		}
		op.TTLMS = d.Milliseconds()
	}
	switch {
	case container && (seq || ephemeral || op.TTLMS > 0):
		return usagef("--container excludes --seq, --ephemeral and --ttl")
	case ephemeral && op.TTLMS > 0:
		return usagef("--ephemeral and --ttl exclude each other")
	case ephemeral && r.flags.String("session") == "":
		return &usageError{msg: "an ephemeral znode needs a session: --session FILE", hint: "create one with coord session new --file FILE, and use it again before its --ttl is over"}
	case ephemeral && seq:
		op.Mode = znode.EphemeralSequential
	case ephemeral:
		op.Mode = znode.Ephemeral
	case container:
		op.Mode = znode.Container
	case seq && op.TTLMS > 0:
		op.Mode = znode.PersistentSequentialTTL
	case seq:
		op.Mode = znode.PersistentSequential
	case op.TTLMS > 0:
		op.Mode = znode.PersistentTTL
	}
	var err error
	if op.ACL, err = parseACLs("--acl", r.flags.StringSlice("acl")); err != nil {
		return err
	}
	if op.Path, err = r.path(op.Mode); err != nil {
		return err
	}
	if op.Value, err = r.value(ctx, 1); err != nil {
		return err
	}
	create := func(ctx context.Context, c *client.Conn) error {
		change, stat, err := r.write(ctx, c, op)
		switch {
		case errors.Is(err, znode.ErrNodeExists):
			return &hinted{err, "coord set replaces its value"}
		case err != nil:
			return hintMissing(err, "its parent is missing: -p creates it")
		}
		r.changed(change, stat, change.Path)
		return nil
	}
	if ephemeral {
		return r.inSession(ctx, func(ctx context.Context, c *client.Conn, _ *client.Holder) error { return create(ctx, c) })
	}
	return r.with(ctx, create)
}

// parseTime parses a time in Go's units, or in days (d).
func parseTime(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}
