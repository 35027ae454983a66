package cmd

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

func duCommand() *command {
	return &command{
		name: "du", args: "PATH", does: "sum up the values below a znode", min: 1, max: 1, connects: true,
		details: `Prints a line for each child of PATH, the biggest first: bytes, number of znodes, path, each including all znodes below.
The last line is PATH itself with all znodes below it. Bytes are those of the values; what a server needs to keep a znode is
not counted. Znodes that may not be read are counted without bytes, and znodes below them not at all; stderr says how many.`,
		examples: []string{"coord du /", "coord du -n 3 --human /app", "coord du --json /app | jq .bytes"},
		flags: []cli.Flag{
			&cli.IntFlag{Name: "n", Usage: "the biggest `N` children; 0: only PATH itself", Value: 10},
			boolFlag("human", "sizes such as 1.5 MiB", "H"),
		},
		run: runDu,
	}
}

// usage is the size of a znode with all its descendants.
type usage struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	Znodes int64  `json:"znodes"`
}

func (u *usage) add(it client.Item) {
	u.Znodes++
	u.Bytes += int64(it.Stat.DataLength)
}

// jsonUsage is the answer of du.
type jsonUsage struct {
	V int `json:"v"`
	usage
	Unreadable int64   `json:"unreadable"`
	Children   []usage `json:"children"`
}

func runDu(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	n := r.flags.Int("n")
	if n < 0 {
		return usagef("-n %d: expected 0 or more", n)
	}
	all := jsonUsage{V: schema, usage: usage{Path: path}, Children: []usage{}}
	err = r.walk(ctx, path, client.ListOptions{Stat: true}, func(it client.Item) error {
		all.add(it)
		if it.Err != nil {
			all.Unreadable++
		}
		switch depthBelow(path, it.Path) {
		case 0:
			return nil
		case 1: // the previous one is complete
			if len(all.Children) > 2*n+100 {
				all.Children = biggest(all.Children, n)
			}
			all.Children = append(all.Children, usage{Path: it.Path})
		}
		current := &all.Children[len(all.Children)-1]
		current.add(it)
		r.progress("coord: %s znodes, %s", count(all.Znodes), size(all.Bytes))
		return nil
	})
	if err != nil {
		return err
	}
	all.Children = biggest(all.Children, n)
	if all.Unreadable > 0 {
		r.note("coord: no permission to read %s of the znodes: neither their bytes nor the znodes below them are counted", count(all.Unreadable))
	}
	if r.json {
		r.object(all)
		return nil
	}
	for _, u := range append(all.Children, all.usage) {
		bytes := fmt.Sprint(u.Bytes)
		if r.flags.Bool("human") {
			bytes = size(u.Bytes)
		}
		r.printf("%12s %9d %s\n", bytes, u.Znodes, u.Path)
	}
	return nil
}

// biggest sorts u and keeps the first n.
func biggest(u []usage, n int) []usage {
	slices.SortFunc(u, func(a, b usage) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Znodes, a.Znodes), cmp.Compare(a.Path, b.Path))
	})
	return u[:min(len(u), n)]
}
