package cmd

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/snapshot"
	"coord/tree/znode"
)

func snapshotInspectCommand() *command {
	return &command{
		name: "snapshot inspect", args: "FILE", does: "show what a backup says about itself", min: 1, max: 1,
		details: `Reads only the two ends of the file; verify checks the rest.
With --depth or --top it reads the whole file, and shows where the data is.`,
		examples: []string{"coord snapshot inspect backup.coord", "coord snapshot inspect --depth 2 --top 10 backup.coord"},
		flags: []cli.Flag{
			&cli.IntFlag{Name: "depth", Usage: "sum up by the first `N` names of the paths", DefaultText: "1 with --top"},
			&cli.IntFlag{Name: "top", Usage: "the `N` largest of each kind", DefaultText: "10 with --depth"},
		},
		run: runInspect,
	}
}

// inspected is the answer of snapshot inspect and verify.
type inspected struct {
	V          int    `json:"v"`
	File       string `json:"file"`
	Level      string `json:"level,omitempty"` // verify: what was checked
	Format     string `json:"format"`
	Writer     string `json:"writer"`
	Backup     string `json:"backup"`
	Cluster    string `json:"cluster"`
	Lineage    string `json:"lineage"`
	Generation uint32 `json:"generation"`
	Zxid       string `json:"zxid"`
	Time       string `json:"time"` // of the last change
	Znodes     int64  `json:"znodes"`
	Sessions   int64  `json:"sessions"`
	Ephemerals int64  `json:"ephemerals"`
	Bytes      int64  `json:"bytes"`
	RawBytes   int64  `json:"raw_bytes"` // before compression
	Digest     string `json:"digest"`

	Prefixes []prefixUse  `json:"prefixes,omitempty"`
	Biggest  []znodeUse   `json:"biggest,omitempty"`
	Owners   []sessionUse `json:"owners,omitempty"` // sessions with ephemeral znodes
}

type prefixUse struct {
	Path       string `json:"path"`
	Znodes     int64  `json:"znodes"`
	Ephemerals int64  `json:"ephemerals"`
	Bytes      int64  `json:"bytes"`
}

type znodeUse struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

type sessionUse struct {
	Session    string `json:"session"`
	TimeoutMS  int32  `json:"timeout_ms"`
	Ephemerals int64  `json:"ephemerals"`
}

func describe(file string, i snapshot.Info) inspected {
	m, s := i.Meta, i.Summary
	return inspected{
		V: schema, File: file, Format: fmt.Sprintf("%d.%d", m.Major, m.Minor), Writer: m.Writer, Backup: m.BackupID.String(),
		Cluster: m.ClusterID.String(), Lineage: m.LineageID.String(), Generation: m.Generation, Zxid: m.EndZxid.String(),
		Time: stamp(m.TimeMaxMS), Znodes: s.Znodes, Sessions: s.Sessions, Ephemerals: s.Ephemerals,
		Bytes: s.FileBytes, RawBytes: s.RawBytes, Digest: s.Digest.String(),
	}
}

func runInspect(ctx context.Context, r *run) error {
	file := r.args[0]
	depth, top := r.flags.Int("depth"), r.flags.Int("top")
	if r.flags.IsSet("depth") && depth < 1 || r.flags.IsSet("top") && top < 1 {
		return usagef("--depth and --top: expected 1 or more")
	}
	if depth == 0 && top == 0 {
		info, err := snapshot.Inspect(file)
		if err != nil {
			return err
		}
		r.inspected(describe(file, info))
		return nil
	}
	if depth == 0 {
		depth = 1
	}
	if top == 0 {
		top = 10
	}
	s, err := abandonable(ctx, func() (snapshot.Survey, error) {
		return snapshot.TakeSurvey(file, snapshot.SurveyOptions{Depth: depth, Top: top})
	})
	if err != nil {
		return err
	}
	out := describe(file, s.Info)
	for _, p := range s.Prefixes {
		out.Prefixes = append(out.Prefixes, prefixUse(p))
	}
	for _, z := range s.Biggest {
		out.Biggest = append(out.Biggest, znodeUse(z))
	}
	for _, o := range s.Sessions {
		if o.Ephemerals > 0 && len(out.Owners) < top {
			out.Owners = append(out.Owners, sessionUse{znode.Hex(uint64(o.ID)), o.TimeoutMS, o.Ephemerals})
		}
	}
	r.inspected(out)
	if n := s.Others.Znodes; n > 0 && !r.json {
		r.printf("%10s %12s  (all others)\n", count(n), size(s.Others.Bytes))
	}
	return nil
}

func (r *run) inspected(i inspected) {
	if r.json {
		r.object(i)
		return
	}
	rows := []client.Fact{{Name: "file", Value: i.File}}
	if i.Level != "" {
		rows = append(rows, client.Fact{Name: "good", Value: levelMeans[i.Level]})
	}
	r.table(append(rows,
		client.Fact{Name: "format", Value: i.Format + ", written by " + i.Writer},
		client.Fact{Name: "backup", Value: i.Backup},
		client.Fact{Name: "cluster", Value: i.Cluster},
		client.Fact{Name: "lineage", Value: fmt.Sprintf("%s, generation %d", i.Lineage, i.Generation)},
		client.Fact{Name: "zxid", Value: i.Zxid},
		client.Fact{Name: "time", Value: i.Time},
		client.Fact{Name: "znodes", Value: count(i.Znodes)},
		client.Fact{Name: "sessions", Value: count(i.Sessions)},
		client.Fact{Name: "ephemerals", Value: count(i.Ephemerals)},
		client.Fact{Name: "size", Value: size(i.Bytes) + ", before compression " + size(i.RawBytes)},
		client.Fact{Name: "digest", Value: i.Digest},
	))
	if len(i.Biggest) > 0 {
		r.printf("\nbiggest znodes\n")
	}
	for _, z := range i.Biggest {
		r.printf("%23s  %s\n", size(z.Bytes), z.Path)
	}
	if len(i.Owners) > 0 {
		r.printf("\nephemerals of sessions\n")
	}
	for _, o := range i.Owners {
		r.printf("%23s  %s, timeout %v\n", count(o.Ephemerals), o.Session, time.Duration(o.TimeoutMS)*time.Millisecond)
	}
	if len(i.Prefixes) > 0 {
		r.printf("\n%10s %12s  at and below\n", "znodes", "bytes")
	}
	for _, p := range i.Prefixes {
		r.printf("%10s %12s  %s\n", count(p.Znodes), size(p.Bytes), p.Path)
	}
}

// levelMeans describes what each level of verification has checked.
var levelMeans = map[string]string{
	snapshot.Header.String():   "the two ends of the file match; the data between them was not read",
	snapshot.Checksum.String(): "every byte is as it was written",
	snapshot.Decode.String():   "every byte is as it was written, every record is valid",
	snapshot.Restore.String():  "the state was built from it, and matches the one that was backed up",
}

func snapshotVerifyCommand() *command {
	return &command{
		name: "snapshot verify", args: "FILE", does: "check a backup", min: 1, max: 1,
		details: `Exit code 0: good; 12: damaged, or not a backup; 14: it needs a newer coord. Levels, each including those before:
  header    the two ends of the file
  checksum  every byte
  decode    every record, every count, the order of the znodes
  restore   the state is built in memory, and its digest compared`,
		examples: []string{"coord snapshot verify backup.coord", "coord snapshot verify --level restore backup.coord"},
		choices:  map[string][]string{"level": {"header", "checksum", "decode", "restore"}},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "level", Usage: "`LEVEL`: header, checksum, decode or restore", Value: snapshot.Decode.String(), DefaultText: snapshot.Decode.String()},
		},
		run: runVerify,
	}
}

func runVerify(ctx context.Context, r *run) error {
	level, err := snapshot.ParseLevel(r.flags.String("level"))
	if err != nil {
		return usagef("--level: %v", err)
	}
	file := r.args[0]
	info, err := abandonable(ctx, func() (snapshot.Info, error) { return snapshot.Verify(file, level) })
	if err != nil {
		return err
	}
	out := describe(file, info)
	out.Level = level.String()
	r.inspected(out)
	return nil
}
