package cmd

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

func getCommand() *command {
	return &command{
		name: "get", args: "PATH", does: "print the value of a znode", min: 1, max: 1, connects: true,
		details: `Writes the bytes of the value and nothing else. It adds a line end only on a terminal.
With -s it prints the stat instead, as key=value lines; --json -s gives both.`,
		examples: []string{"coord get /app/url", "coord get /app/logo > logo.png", "coord get --json -s /app/url"},
		flags: []cli.Flag{
			statFlag("print the stat instead of the value"),
			boolFlag("lin", "the read sees every write that was answered before, on any node"),
		},
		run: runGet,
	}
}

func runGet(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	stat := r.flags.Bool("stat")
	return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		v, err := c.Get(ctx, path, client.GetOptions{Stat: stat, Lin: r.flags.Bool("lin")})
		if err != nil {
			return err
		}
		switch {
		case r.json:
			out := jsonValue{V: schema, Path: path, jsonData: dataOf(v.Data), Version: v.Version, Zxid: v.Zxid.String()}
			if stat {
				out.Stat = statOf(&v.Stat)
			}
			r.object(out)
		case stat:
			r.stat(&v.Stat)
		default:
			_, _ = r.out.Write(v.Data)
			if n := len(v.Data); r.outTTY && n > 0 && v.Data[n-1] != '\n' {
				r.printf("\n")
			}
		}
		return nil
	})
}

func existsCommand() *command {
	return &command{
		name: "exists", args: "PATH", does: "check whether a znode exists, by the exit code", min: 1, max: 1, connects: true,
		details:  `Exit code 0: it exists; 1: it does not. Nothing is printed, unless -s or --json asks for it.`,
		examples: []string{"coord exists /app && echo yes", "coord exists -s /app"},
		flags:    []cli.Flag{statFlag("print the stat as key=value lines")},
		run:      runExists,
	}
}

func runExists(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
		s, found, err := c.Exists(ctx, path)
		if err != nil {
			return err
		}
		switch {
		case r.json:
			out := jsonExists{V: schema, Path: path, Exists: found}
			if found {
				out.Stat = statOf(&s)
			}
			r.object(out)
		case found && r.flags.Bool("stat"):
			r.stat(&s)
		}
		if !found {
			return &falseError{}
		}
		return nil
	})
}

// hintMissing adds a hint to a NOTFOUND error.
func hintMissing(err error, hint string) error {
	if errors.Is(err, znode.ErrNoNode) {
		return &hinted{err, hint}
	}
	return err
}
