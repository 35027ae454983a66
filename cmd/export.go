package cmd

import (
	"context"
	"io"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/tree/znode"
)

// dumpHelp explains the formats.
const dumpHelp = `Paths in the file are below PATH, which itself is /. The format is that of FILE's name, or --format, else json:
  json  an object a line: {"v":1,"path":"/hosts/a","data":"…"}, data64 (base64) if the value is not UTF-8; the last: {"v":1,"end":true}
  yaml  a mapping from paths to values, !!binary if they are not UTF-8; the last line is ...
  tar   files and folders; the value of a znode with children is the file .value in its folder
  env   NAME='value' as a shell reads it; __ in NAME stands for /; the last line is # end`

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "json, yaml, tar or env: the `FORMAT` of FILE", DefaultText: "by the name of FILE"}
}

func exportCommand() *command {
	return &command{
		name: "export", args: "PATH [FILE|-]", does: "write a znode and all znodes below it to a file", min: 1, max: 2, connects: true,
		details: dumpHelp + `
Without FILE, or with -, it goes to stdout. FILE gets its name when it is whole.
What is exported are paths and values. Versions and ACLs are not; containers and znodes with a TTL become plain ones, ephemeral znodes
are left out (stderr says how many), and so is the server's own /zookeeper unless PATH lies there. A znode that may not be read ends it.
It is read in pages: what changes meanwhile may or may not be seen. coord snapshot is exact, and holds everything.`,
		examples: []string{"coord export /app app.yaml", "coord export /app | coord import /copy", "coord export --format tar /app - | tar tv", "coord export /app/env .env"},
		flags:    []cli.Flag{formatFlag(), boolFlag("force", "overwrite FILE")},
		choices:  map[string][]string{"format": dumpFormatNames()},
		run:      runExport,
	}
}

// jsonExport is the answer of export.
type jsonExport struct {
	V          int    `json:"v"`
	Path       string `json:"path"`
	File       string `json:"file"`
	Format     string `json:"format"`
	Znodes     int64  `json:"znodes"`
	Bytes      int64  `json:"bytes"`      // of the values
	Ephemerals int64  `json:"ephemerals"` // ephemeral znodes, which are left out
	Plain      int64  `json:"plain"`      // containers and znodes with a TTL: the file does not say that they are
}

func runExport(ctx context.Context, r *run) error {
	path, err := r.path(znode.Persistent)
	if err != nil {
		return err
	}
	file := "-"
	if len(r.args) > 1 {
		file = r.file(1)
	}
	format, err := r.dumpFormat(file)
	if err != nil {
		return err
	}
	report := jsonExport{V: schema, Path: path, File: file, Format: format.name}
	switch {
	case r.explainer != nil:
		return r.export(ctx, path, format.write(io.Discard), &report)
	case file == "-" && r.outTTY && format.binary:
		return &usageError{msg: "the format " + format.name + " cannot be written to a terminal", hint: "coord export PATH FILE"}
	case file == "-":
		if err := r.export(ctx, path, format.write(r.out), &report); err != nil {
			return err
		}
		if err := r.flush(); err != nil {
			return err
		}
	default:
		part, err := createPart(file, r.flags.Bool("force"))
		if err != nil {
			return err
		}
		defer part.remove()
		if err := r.export(ctx, path, format.write(part), &report); err != nil {
			return err
		}
		if err := part.sync(); err != nil {
			return err
		}
		if err := part.publish(); err != nil {
			return err
		}
	}
	switch {
	case r.json && file == "-": // stdout has the exported data
		r.note("%s", marshal(report))
	case r.json:
		r.object(report)
	default:
		r.note("coord: %s with %s exported", znodes(report.Znodes), size(report.Bytes))
		if report.Ephemerals > 0 {
			r.note("coord: not exported because ephemeral: %s", znodes(report.Ephemerals))
		}
		if report.Plain > 0 {
			r.note("coord: containers and znodes with a TTL, exported as plain znodes: %s", znodes(report.Plain))
		}
	}
	return nil
}

// export writes a tree as it is read, one znode late: only the next znode shows
// whether the last one has children.
func (r *run) export(ctx context.Context, top string, w dumpWriter, report *jsonExport) error {
	var last *entry
	var lastPath string
	add := func(next string) error {
		if last == nil {
			return nil
		}
		return w.add(*last, next != "" && znode.Below(next, lastPath))
	}
	err := r.walk(ctx, top, client.ListOptions{Stat: true, Data: true}, func(it client.Item) error {
		switch {
		case it.Err != nil:
			return it.Err
		case it.Stat.EphemeralOwner != 0:
			report.Ephemerals++
			return nil
		case znode.Below(it.Path, znode.SystemPath) && !znode.Below(top, znode.SystemPath):
			return nil
		}
		if err := add(it.Path); err != nil {
			return err
		}
		last, lastPath = &entry{path: below(top, it.Path), data: it.Data}, it.Path
		if it.Stat.Container || it.Stat.TTLMS != 0 {
			report.Plain++
		}
		report.Znodes++
		report.Bytes += int64(len(it.Data))
		r.progress("coord: %s znodes exported", count(report.Znodes))
		return nil
	})
	if err == nil {
		err = add("")
	}
	if err == nil {
		err = w.end()
	}
	return err
}

// below is a path relative to top, which itself is "/"; above is its inverse.
func below(top, path string) string {
	switch top {
	case path:
		return znode.Root
	case znode.Root:
		return path
	}
	return path[len(top):]
}

func above(top, path string) string {
	switch {
	case path == znode.Root:
		return top
	case top == znode.Root:
		return path
	}
	return top + path
}
