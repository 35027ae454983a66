package cmd

import (
	"context"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

func treeCommand() *command {
	return &command{
		name: "tree", args: "PATH", does: "show a znode and all znodes below it", min: 1, max: 1, connects: true,
		details: `On a terminal it draws the tree; elsewhere it prints one full path per line, each znode followed by its children in byte
order. The tree is read in pages of 1,000: concurrent changes may or may not be seen.
` + longHelp,
		examples: []string{"coord tree /", "coord tree --depth 2 -l /app", "coord tree -0 /app | xargs -0 -n1 coord get", "coord tree --json /app"},
		flags: []cli.Flag{
			&cli.IntFlag{Name: "depth", Usage: "at most `N` levels below PATH", DefaultText: "all"},
			boolFlag("long", "with version, children, bytes, owner and time", "l"),
			nullFlag("full paths, each ended by a NUL byte"),
		},
		run: runTree,
	}
}

// jsonBranch is a line of tree.
type jsonBranch struct {
	V     int       `json:"v"`
	Path  string    `json:"path"`
	Depth int       `json:"depth"`
	Stat  *jsonStat `json:"stat,omitempty"`
}

func runTree(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	depth, long, null := r.flags.Int("depth"), r.flags.Bool("long"), r.flags.Bool("null")
	switch {
	case r.flags.IsSet("depth") && depth < 1:
		return usagef("--depth %d: expected 1 or more", depth)
	case r.json && null:
		return usagef("--json and -0 exclude each other")
	}
	draw := r.outTTY && !r.json && !null
	d := drawing{top: path, utf8: speaksUTF8()}
	return r.walk(ctx, path, client.ListOptions{Depth: depth, Stat: long || draw}, func(it client.Item) error {
		switch {
		case r.json:
			out := jsonBranch{V: schema, Path: it.Path, Depth: depthBelow(path, it.Path)}
			if long && it.Err == nil {
				out.Stat = statOf(&it.Stat)
			}
			r.object(out)
		case draw:
			if long {
				r.columns(it)
			}
			r.printf("%s\n", d.line(it))
		default:
			r.item(it, long, true)
		}
		return nil
	})
}

// depthBelow is how many levels path is below top.
func depthBelow(top, path string) int {
	if path == top {
		return 0
	}
	return strings.Count(strings.TrimPrefix(path, strings.TrimSuffix(top, "/")), "/")
}

// drawing draws the branches of a tree as its znodes arrive. The number of children
// in the parent's stat tells whether a znode is the last of its siblings, so
// nothing has to wait for later znodes. If a child is created or deleted meanwhile,
// a branch may end too early or too late.
type drawing struct {
	top  string
	utf8 bool
	left []int32 // by level: children that have not arrived yet
}

func (d *drawing) line(it client.Item) string {
	level := depthBelow(d.top, it.Path)
	d.left = append(d.left[:min(level, len(d.left))], it.Stat.NumChildren)
	if level == 0 || level >= len(d.left) {
		return it.Path
	}
	d.left[level-1]--
	blank, through, fork, last := "    ", "│   ", "├── ", "└── "
	if !d.utf8 {
		through, fork, last = "|   ", "|-- ", "`-- "
	}
	var b strings.Builder
	for i, n := range d.left[:level] {
		switch {
		case i == level-1 && n > 0:
			b.WriteString(fork)
		case i == level-1:
			b.WriteString(last)
		case n > 0:
			b.WriteString(through)
		default:
			b.WriteString(blank)
		}
	}
	_, name := znode.Split(it.Path)
	return b.String() + name
}

// speaksUTF8 says whether, by the locale, the user's terminal can show more than
// ASCII.
func speaksUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
