package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

// atomicRm is how many znodes rm -r deletes in one transaction at most.
const atomicRm = 10_000

func rmCommand() *command {
	return &command{
		name: "rm", args: "PATH", does: "delete a znode", min: 1, max: 1, connects: true,
		details: `With -r all znodes below are deleted too. Up to 10,000 znodes are one transaction: all of them or none.
More are deleted one by one, deepest first; stderr says so, and --timeout then limits this only if it is given.
-r asks on a terminal; without one it needs -y.`,
		examples: []string{"coord rm /app/old", "coord rm -v 3 /app/url", "coord rm -r --dry-run /app", "coord rm -r -y /app"},
		flags: []cli.Flag{
			boolFlag("recursive", "delete all znodes below it too", "r"),
			versionFlag("only if the version is `N`"),
			boolFlag("dry-run", "with -r: print what would be deleted, and delete nothing"),
			boolFlag("yes", "do not ask", "y"),
			nullFlag("with --dry-run: end each path with a NUL byte"),
		},
		asks: func(r *run) bool { return r.flags.Bool("recursive") }, // then the requests depend on the znodes below
		run:  runRm,
	}
}

func runRm(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	recursive, dry := r.flags.Bool("recursive"), r.flags.Bool("dry-run")
	yes := r.flags.Bool("yes") || r.explainer != nil
	switch {
	case dry && !recursive:
		return usagef("--dry-run needs -r")
	case r.flags.Bool("null") && (!dry || r.json):
		return usagef("-0 needs --dry-run, without --json")
	case znode.Reserved(path):
		return usagef("%s cannot be deleted", path)
	case !recursive:
		return r.with(ctx, func(ctx context.Context, c *client.Conn) error {
			change, err := c.Rm(ctx, path, r.version())
			if err != nil {
				return err
			}
			r.removed(path, 1, nil, change.Zxid)
			return nil
		})
	case !dry && !yes && !r.asks():
		return r.confirm(ctx, yes, "")
	}
	return r.removeTree(ctx, path, dry, yes)
}

// removed prints the result of rm.
func (r *run) removed(path string, n int64, atomic *bool, zxid znode.Zxid) {
	if !r.json {
		return
	}
	out := jsonChange{V: schema, Path: path, Removed: &n, Atomic: atomic}
	if zxid != 0 {
		out.Zxid = zxid.String()
	}
	r.object(out)
}

func (r *run) removeTree(ctx context.Context, path string, dry, yes bool) error {
	c, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer r.leave(c)
	paths, err := r.survey(ctx, c, path, dry)
	if err != nil || dry {
		return err
	}
	question := "Delete " + path + "?"
	switch len(paths) {
	case 1:
	case 2:
		question = "Delete " + path + " and the znode below it?"
	default:
		question = fmt.Sprintf("Delete %s and the %s znodes below it?", path, count(int64(len(paths)-1)))
	}
	if err := r.confirm(ctx, yes, question); err != nil {
		return err
	}
	if len(paths) <= atomicRm {
		ctx, cancel := r.limit(ctx)
		defer cancel()
		change, err := c.RmAll(ctx, path, r.version(), atomicRm)
		if err == nil {
			atomic := true
			r.removed(path, int64(len(paths)), &atomic, change.Zxid)
		}
		return err
	}
	r.note("coord: %s znodes are too many for one transaction: they are deleted one by one, deepest first", count(int64(len(paths))))
	return r.removeEach(ctx, c, paths)
}

// survey lists the znodes that rm -r deletes, parents first. In a dry run it prints
// them instead of returning them.
func (r *run) survey(ctx context.Context, c *client.Conn, path string, dry bool) (paths []string, err error) {
	ctx, step, cancel := r.long(ctx)
	defer cancel()
	n := 0
	defer r.progressEnd()
	for it, err := range c.Tree(ctx, path, client.ListOptions{Stat: r.flags.IsSet("v"), Within: step}) {
		if err != nil {
			return nil, err
		}
		if v := r.version(); n == 0 && v != anyVersion && it.Stat.Version != v {
			return nil, &client.Error{Code: znode.ErrBadVersion, Path: path, Have: it.Stat.Version, HasHave: true, Op: -1}
		}
		n++
		switch {
		case !dry:
			paths = append(paths, it.Path)
			r.progress("coord: %s znodes found", count(int64(n)))
		case r.json:
			r.object(jsonItem{V: schema, Path: it.Path})
		default:
			r.printf("%s%s", it.Path, r.end())
		}
		if err := r.ended(); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// removeEach deletes the znodes of a tree in reverse order, so children before
// their parents. It skips znodes that are gone.
func (r *run) removeEach(ctx context.Context, c *client.Conn, paths []string) error {
	var deleted int
	var last znode.Zxid
	requests := func(i int) *text.Request {
		i = len(paths) - 1 - i
		op := text.Op{Verb: text.VerbRm, Path: paths[i], Version: anyVersion}
		if i == 0 {
			op.Version = r.version()
		}
		return &text.Request{Op: op}
	}
	err := r.pipeline(ctx, c, len(paths), writeWindow, requests, func(_ int, reply *text.Reply, err error) error {
		switch {
		case err == nil:
			deleted++
			last = reply.Zxid(text.KeyZxid)
		case !errors.Is(err, znode.ErrNoNode):
			return err
		}
		r.progress("coord: %s of %s deleted", count(int64(deleted)), count(int64(len(paths))))
		return nil
	})
	if err != nil {
		return &partError{fmt.Sprintf("%s of %s znodes were deleted", count(int64(deleted)), count(int64(len(paths)))), err}
	}
	atomic := false
	r.removed(paths[0], int64(deleted), &atomic, last)
	return nil
}
