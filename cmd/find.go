package cmd

import (
	"context"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

func findCommand() *command {
	return &command{
		name: "find", args: "PATH", does: "list the znodes that meet conditions", min: 1, max: 1, connects: true,
		details: `Prints the full paths of those znodes, from PATH down, that meet every condition, one per line.
TIME is a time before now, by this machine's clock, such as 30s, 90m, 1h or 7d; SIZE is such as 100, 10K or 1MiB.
A znode that may not be read meets no condition except --name; znodes below it are not seen. stderr says how many.
` + longHelp,
		examples: []string{
			"coord find / --ephemeral", "coord find /app --older 7d --name 'job-*'", "coord find / --bigger 10K -l",
			"coord find /tmp --empty --older 1h -0 | xargs -0 -n1 coord rm",
		},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "the last part of the path matches `GLOB`, with * ? [a-z]"},
			boolFlag("ephemeral", "it belongs to a session"),
			&cli.StringFlag{Name: "owner", Usage: "it belongs to the session `ID`, such as 0x1000000000001"},
			&cli.StringFlag{Name: "older", Usage: "last set more than `TIME` ago"},
			&cli.StringFlag{Name: "newer", Usage: "last set less than `TIME` ago"},
			&cli.StringFlag{Name: "bigger", Usage: "its value has more bytes than `SIZE`"},
			&cli.StringFlag{Name: "smaller", Usage: "its value has fewer bytes than `SIZE`"},
			boolFlag("container", "it is deleted with its last child"),
			boolFlag("ttl", "it has a ttl"),
			boolFlag("empty", "it has neither bytes nor children"),
			boolFlag("long", "with version, children, bytes, owner and time", "l"),
			nullFlag("end each entry with a NUL byte instead of a line end"),
		},
		run: runFind,
	}
}

// condition is a test that find applies to a znode.
type condition func(name string, s *text.Stat) bool

func runFind(ctx context.Context, r *run) error {
	top, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	conditions, err := r.conditions(time.Now())
	if err != nil {
		return err
	}
	long := r.flags.Bool("long")
	if r.json && r.flags.Bool("null") {
		return usagef("--json and -0 exclude each other")
	}
	needStat := len(conditions) > 1 || len(conditions) == 1 && !r.flags.IsSet("name")
	unread := int64(0)
	err = r.walk(ctx, top, client.ListOptions{Stat: needStat || long}, func(it client.Item) error {
		if it.Err != nil {
			unread++
			if needStat {
				return nil
			}
		}
		_, name := znode.Split(it.Path)
		for _, c := range conditions {
			if !c(name, &it.Stat) {
				return nil
			}
		}
		r.item(it, long, true)
		return nil
	})
	if err == nil && unread > 0 {
		r.note("coord: no permission to read %s of the znodes", count(unread))
	}
	return err
}

// conditions are the conditions that the flags give.
func (r *run) conditions(now time.Time) (all []condition, err error) {
	if glob := r.flags.String("name"); r.flags.IsSet("name") {
		if _, err := path.Match(glob, ""); err != nil || strings.Contains(glob, "/") {
			return nil, &usageError{msg: "--name " + quote(glob) + " is not a valid pattern of a name", hint: "for example 'job-*': * ? and [a-z] are supported, and a name has no /"}
		}
		all = append(all, func(name string, _ *text.Stat) bool { ok, _ := path.Match(glob, name); return ok })
	}
	if r.flags.Bool("ephemeral") {
		all = append(all, func(_ string, s *text.Stat) bool { return s.EphemeralOwner != 0 })
	}
	if id := r.flags.String("owner"); r.flags.IsSet("owner") {
		owner, err := strconv.ParseUint(id, 0, 64)
		if err != nil || owner == 0 {
			return nil, usagef("--owner %s: expected a session id such as 0x1000000000001", quote(id))
		}
		all = append(all, func(_ string, s *text.Stat) bool { return uint64(s.EphemeralOwner) == owner })
	}
	for flag, holds := range map[string]func(mtime, than int64) bool{
		"older": func(mtime, than int64) bool { return mtime < than },
		"newer": func(mtime, than int64) bool { return mtime > than },
	} {
		if v := r.flags.String(flag); r.flags.IsSet(flag) {
			d, err := parseTime(v)
			if err != nil || d < 0 {
				return nil, usagef("--%s %s: expected a time such as 30s, 1h or 7d", flag, quote(v))
			}
			than := now.Add(-d).UnixMilli()
			all = append(all, func(_ string, s *text.Stat) bool { return holds(s.MtimeMS, than) })
		}
	}
	for flag, holds := range map[string]func(n, than int64) bool{
		"bigger":  func(n, than int64) bool { return n > than },
		"smaller": func(n, than int64) bool { return n < than },
	} {
		if v := r.flags.String(flag); r.flags.IsSet(flag) {
			than, err := parseSize(v)
			if err != nil {
				return nil, usagef("--%s: %v", flag, err)
			}
			all = append(all, func(_ string, s *text.Stat) bool { return holds(int64(s.DataLength), than) })
		}
	}
	if r.flags.Bool("container") {
		all = append(all, func(_ string, s *text.Stat) bool { return s.Container })
	}
	if r.flags.Bool("ttl") {
		all = append(all, func(_ string, s *text.Stat) bool { return s.TTLMS != 0 })
	}
	if r.flags.Bool("empty") {
		all = append(all, func(_ string, s *text.Stat) bool { return s.DataLength == 0 && s.NumChildren == 0 })
	}
	return all, nil
}
