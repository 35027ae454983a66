package cmd

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

func lsCommand() *command {
	return &command{
		name: "ls", args: "PATH", does: "list the children of a znode", min: 1, max: 1, connects: true,
		details: `Prints the names in byte order, one per line; with -R the full paths of all znodes below, each followed by its own children.
Long lists are read in pages of 1,000: concurrent changes may or may not be seen.
` + longHelp,
		examples: []string{"coord ls /", "coord ls -l /app", "coord ls -R -0 /app | xargs -0 -n1 coord get", "coord ls --json -l /app"},
		flags: []cli.Flag{
			boolFlag("long", "with version, children, bytes, owner and time", "l"),
			boolFlag("recursive", "all znodes below, as full paths", "R"),
			&cli.IntFlag{Name: "limit", Usage: "at most `N`", DefaultText: "all"},
			nullFlag("end each entry with a NUL byte instead of a line end"),
		},
		run: runLs,
	}
}

func runLs(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	long, recursive, limit := r.flags.Bool("long"), r.flags.Bool("recursive"), r.flags.Int("limit")
	switch {
	case r.flags.IsSet("limit") && limit < 1:
		return usagef("--limit %d: expected 1 or more", limit)
	case r.json && r.flags.Bool("null"):
		return usagef("--json and -0 exclude each other")
	}
	c, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer r.leave(c)
	ctx, step, cancel := r.long(ctx)
	defer cancel()
	var items iter.Seq2[client.Item, error]
	o := client.ListOptions{Stat: long, Page: page(limit, recursive), Within: step}
	if recursive {
		items = c.Tree(ctx, path, o)
	} else {
		items = c.Ls(ctx, path, o)
	}
	n := 0
	for it, err := range items {
		if err != nil {
			return err
		}
		if recursive && it.Path == path { // the root of the listed tree
			continue
		}
		if n++; limit > 0 && n > limit {
			r.note("coord: there are more than %d", limit)
			break
		}
		r.item(it, long, recursive)
		if err := r.ended(); err != nil {
			return err
		}
	}
	return nil
}

// page is how many entries to request at a time, 0 for the default: a small limit
// needs one reply, which also shows whether there is more.
func page(limit int, recursive bool) int {
	if limit == 0 || limit >= 1000 {
		return 0
	}
	if recursive {
		limit++
	}
	return limit + 1
}

// item prints an entry of a list.
func (r *run) item(it client.Item, long, full bool) {
	name := it.Path[strings.LastIndexByte(it.Path, '/')+1:]
	switch {
	case r.json:
		out := jsonItem{V: schema, Path: it.Path, Name: name}
		if long && it.Err == nil {
			out.Stat = statOf(&it.Stat)
		}
		r.object(out)
		return
	case full:
		name = it.Path
	}
	if long {
		r.columns(it)
	}
	_, _ = r.out.WriteString(name)
	_, _ = r.out.WriteString(r.end())
}

// longHelp explains -l.
const longHelp = `-l adds, before the name: version, number of children, bytes, session of an ephemeral znode (or container, ttl=TIME, -),
time of the last set; all of these are - if the znode may not be read.`

// columns prints the columns that -l adds.
func (r *run) columns(it client.Item) {
	if it.Err != nil {
		r.printf("%5s %5s %7s %18s %24s ", "-", "-", "-", "-", "-")
		return
	}
	owner := "-"
	switch s := &it.Stat; {
	case s.EphemeralOwner != 0:
		owner = znode.Hex(uint64(s.EphemeralOwner))
	case s.Container:
		owner = "container"
	case s.TTLMS != 0:
		owner = "ttl=" + (time.Duration(s.TTLMS) * time.Millisecond).String()
	}
	r.printf("%5d %5d %7d %18s %s ", it.Stat.Version, it.Stat.NumChildren, it.Stat.DataLength, owner, stamp(it.Stat.MtimeMS))
}
