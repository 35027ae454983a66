package cmd

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

// valueHelp explains VALUE.
const valueHelp = `VALUE is the argument itself, @FILE for the bytes of a file, or - for those of stdin.
Behind -- it is the argument itself, whatever it begins with.`

func setCommand() *command {
	return &command{
		name: "set", args: "PATH VALUE", does: "replace the value of a znode", min: 2, max: 2, connects: true,
		details: valueHelp,
		examples: []string{
			"coord set /app/url http://10.0.0.7/", "coord set /app/logo @logo.png", "date | coord set --create /app/seen -",
			"coord set -v 7 /app/url new", "coord set /app/offset -- -5",
		},
		flags: []cli.Flag{
			versionFlag("only if the version is `N`"),
			boolFlag("create", "create the znode if it is missing"),
			boolFlag("parents", "with --create: create missing parents too", "p"),
			statFlag("print the new stat as key=value lines"),
		},
		run: runSet,
	}
}

func runSet(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	create, parents := r.flags.Bool("create"), r.flags.Bool("parents")
	if parents && !create {
		return &usageError{msg: "-p needs --create"}
	}
	data, err := r.value(ctx, 1)
	if err != nil {
		return err
	}
	op := text.Op{Verb: text.VerbSet, Path: path, Value: data, Version: r.version(), Create: create}
	return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		change, stat, err := r.write(ctx, c, op)
		if parents && op.Version == anyVersion && errors.Is(err, znode.ErrNoNode) {
			change, stat, err = r.setWithParents(ctx, c, op)
		}
		switch {
		case err == nil:
		case create && op.Version != anyVersion:
			return hintMissing(err, "--create makes a znode without -v only: a missing one has no version")
		case create:
			return hintMissing(err, "its parent is missing: -p creates it")
		default:
			return hintMissing(err, "--create creates it")
		}
		r.changed(change, stat, "")
		return nil
	})
}

// setWithParents creates a znode and its parents; if another client has just
// created the znode, it sets it.
func (r *run) setWithParents(ctx context.Context, c *client.Conn, set text.Op) (client.Change, *text.Stat, error) {
	create := text.Op{Verb: text.VerbCreate, Path: set.Path, Value: set.Value, Parents: true}
	for {
		change, stat, err := r.write(ctx, c, create)
		if !errors.Is(err, znode.ErrNodeExists) {
			return change, stat, err
		}
		if change, stat, err = r.write(ctx, c, set); !errors.Is(err, znode.ErrNoNode) {
			return change, stat, err
		}
	}
}

// write does one write. With -s it sends the read of the stat right after the
// write, so that nothing can come between them, except for a sequential znode,
// whose name is not known before the reply.
func (r *run) write(ctx context.Context, c *client.Conn, op text.Op) (client.Change, *text.Stat, error) {
	call, err := c.Send(&text.Request{Op: op})
	if err != nil {
		return client.Change{}, nil, err
	}
	var statCall *client.Call
	wanted, atOnce := r.flags.Bool("stat"), !op.Mode.Sequential()
	if wanted && atOnce {
		if statCall, err = c.Send(&text.Request{Op: text.Op{Verb: text.VerbExists, Path: op.Path}}); err != nil {
			statCall = nil
		}
	}
	reply, err := call.Wait(ctx)
	if err != nil {
		return client.Change{}, nil, err
	}
	change := client.ChangeOf(reply, op.Path)
	if wanted && !atOnce {
		statCall, _ = c.Send(&text.Request{Op: text.Op{Verb: text.VerbExists, Path: change.Path}})
	}
	if statCall == nil {
		return change, nil, nil
	}
	reply, err = statCall.Wait(ctx)
	if err != nil {
		return change, nil, &partError{change.Path + " was written", err}
	}
	stat := reply.Stat()
	return change, &stat, nil
}

// changed prints the result of a set or create.
func (r *run) changed(change client.Change, stat *text.Stat, answer string) {
	switch {
	case r.json:
		out := jsonChange{V: schema, Path: change.Path, Version: &change.Version, Zxid: change.Zxid.String()}
		if stat != nil {
			out.Stat = statOf(stat)
		}
		r.object(out)
	case stat != nil:
		if answer != "" {
			r.printf("path=%s\n", answer)
		}
		r.stat(stat)
	case answer != "":
		r.printf("%s\n", answer)
	}
}
