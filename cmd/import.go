package cmd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

func importCommand() *command {
	return &command{
		name: "import", args: "PATH [FILE|-]", does: "write an exported file into the tree", min: 1, max: 2, connects: true,
		details: dumpHelp + `
Without FILE, or with -, it is read from stdin. All of it is read and checked before anything is changed.
Znodes that are missing are created, missing parents too, and those with another value are set; all others stay as they are.
With --replace the znodes below PATH that the file does not have are deleted, but for ephemeral ones, those above them, and the
server's own /zookeeper. For this the file must have its end mark, or what was cut off would be deleted.
Every change is guarded by the version that was read, so that nobody's change is lost. Up to 1,000 changes and 1 MiB are one
transaction: all or none. More are several, one after the other; what ends them early is exit code 18. Then, or when
somebody else has changed a znode meanwhile, import it again: what was done is found unchanged.`,
		examples: []string{"coord import /app app.yaml", "coord import --dry-run /app app.yaml", "coord import --replace -y /app app.json", "tar c -C folder . | coord import --format tar /app"},
		flags: []cli.Flag{
			formatFlag(),
			boolFlag("replace", "delete znodes below PATH that are not in the file"),
			boolFlag("dry-run", "print the changes, and change nothing"),
			boolFlag("yes", "do not ask before something is deleted", "y"),
		},
		choices: map[string][]string{"format": dumpFormatNames()},
		asks:    func(*run) bool { return true }, // the requests depend on the existing znodes
		run:     runImport,
	}
}

// jsonImport is the answer of import.
type jsonImport struct {
	V            int    `json:"v"`
	Path         string `json:"path"`
	Created      int    `json:"created"`
	Updated      int    `json:"updated"`
	Unchanged    int    `json:"unchanged"`
	Deleted      int    `json:"deleted"`
	Transactions int    `json:"transactions"`
	Zxid         string `json:"zxid,omitempty"` // of the last transaction
}

// jsonPlanned is a line of a dry run.
type jsonPlanned struct {
	V      int    `json:"v"`
	Change string `json:"change"` // create, update, delete
	Path   string `json:"path"`
}

func runImport(ctx context.Context, r *run) error {
	top, err := r.path(znode.Persistent)
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
	replace, dry := r.flags.Bool("replace"), r.flags.Bool("dry-run")
	yes := r.flags.Bool("yes") || r.explainer != nil
	if replace && !dry && !yes && !r.asks() {
		return r.confirm(ctx, yes, "")
	}
	name, in, err := r.input(ctx, file)
	if err != nil {
		return err
	}
	wanted, err := readDump(format, name, in, top, replace)
	if err != nil {
		return err
	}
	c, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer r.leave(c)
	p := plan{report: jsonImport{V: schema, Path: top}}
	if err := p.compare(ctx, r, c, wanted); err != nil {
		return err
	}
	if replace {
		if err := p.compareBack(ctx, r, c, top, wanted); err != nil {
			return err
		}
	}
	if dry {
		p.print(r)
		return nil
	}
	if n := p.report.Deleted; n > 0 {
		if err := r.confirm(ctx, yes, fmt.Sprintf("Delete %s below %s (not in %s)?", znodes(int64(n)), top, name)); err != nil {
			return err
		}
	}
	if err := p.apply(ctx, r, c); err != nil {
		return err
	}
	if r.json {
		r.object(p.report)
		return nil
	}
	var rows []client.Fact
	for _, row := range []struct {
		name string
		n    int
	}{{"created", p.report.Created}, {"updated", p.report.Updated}, {"unchanged", p.report.Unchanged}, {"deleted", p.report.Deleted}} {
		rows = append(rows, client.Fact{Name: row.name, Value: count(int64(row.n))})
	}
	r.table(rows)
	return nil
}

// target is a znode that must exist after the import.
type target struct {
	path string
	data []byte
	any  bool // it is only a parent of others: any value will do
}

// readDump reads and checks a file. It returns the znodes that must exist, parents
// before their children.
func readDump(format dumpFormat, name string, in []byte, top string, whole bool) ([]target, error) {
	if !format.binary {
		in = bytes.TrimPrefix(in, []byte("\ufeff")) // a byte order mark, which editors on Windows write
	}
	entries, marked, err := format.read(in)
	switch at, ok := errors.AsType[*lineError](err); {
	case ok:
		at.file = name
		return nil, at
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case whole && !marked:
		return nil, &hinted{&cutError{name}, "export it again, or add the end mark as described in coord help export"}
	case len(entries) == 0 && !marked:
		return nil, usagef("%s has no znodes", name)
	}
	all := make(map[string]target, len(entries)+1)
	for _, e := range entries {
		err := znode.CheckPath(e.path)
		path := ""
		if err == nil {
			path = above(top, e.path)
			err = znode.CheckPath(path)
		}
		switch _, twice := all[path]; {
		case err != nil:
			err = &usageError{msg: err.Error(), hint: "a path in the file begins with /, and / is PATH itself"}
		case znode.Below(path, znode.SystemPath):
			err = usagef("%s belongs to the server", path)
		case twice:
			err = usagef("duplicate path %s", quote(e.path))
		}
		if err != nil && e.line > 0 {
			return nil, &lineError{name, e.line, err}
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[path] = target{path: path, data: e.data}
	}
	for _, path := range append(paths(all), top+"/") {
		for path, _ = znode.Split(path); path != "" && path != znode.Root; path, _ = znode.Split(path) {
			if _, there := all[path]; there {
				break
			}
			all[path] = target{path: path, any: true}
		}
	}
	wanted := make([]target, 0, len(all))
	for _, t := range all {
		wanted = append(wanted, t)
	}
	slices.SortFunc(wanted, func(a, b target) int { return cmp.Compare(a.path, b.path) })
	return wanted, nil
}

func paths(all map[string]target) (paths []string) {
	for path := range all {
		paths = append(paths, path)
	}
	return paths
}

// cutError is a file without its end mark.
type cutError struct{ file string }

func (e *cutError) Error() string {
	return e.file + " has no end mark: it may be cut off, and znodes that are missing in it would be deleted"
}
func (e *cutError) exitCode() int { return exitDamaged }

// plan is the changes of an import: operations, each guarded by the version that
// was read, in an order in which they can be done.
type plan struct {
	ops    []text.Op
	report jsonImport
}

// readWindow is how many values are read at a time: each may be large.
const readWindow = 50

// compare finds the znodes to create and to set.
func (p *plan) compare(ctx context.Context, r *run, c *client.Conn, wanted []target) error {
	request := func(i int) *text.Request {
		return &text.Request{Op: text.Op{Verb: text.VerbGet, Path: wanted[i].path}}
	}
	return r.pipeline(ctx, c, len(wanted), readWindow, request, func(i int, reply *text.Reply, err error) error {
		t := wanted[i]
		op := text.Op{Verb: text.VerbCreate, Path: t.path, Value: t.data}
		if op.Value == nil {
			op.Value = []byte{}
		}
		switch {
		case errors.Is(err, znode.ErrNoNode):
			p.report.Created++
		case t.any && (err == nil || errors.Is(err, znode.ErrNoAuth)):
			return nil
		case err != nil:
			return err
		case bytes.Equal(reply.Data, t.data):
			p.report.Unchanged++
			return nil
		default:
			op.Verb, op.Version = text.VerbSet, int32(reply.Int(text.KeyVersion))
			p.report.Updated++
		}
		p.ops = append(p.ops, op)
		r.progress("coord: %s of %s znodes compared", count(int64(i+1)), count(int64(len(wanted))))
		return nil
	})
}

// compareBack finds the znodes below top that are not wanted, to be deleted
// children first. Ephemeral znodes stay, and so do their ancestors.
func (p *plan) compareBack(ctx context.Context, r *run, c *client.Conn, top string, wanted []target) error {
	keep := map[string]bool{top: true}
	for _, t := range wanted {
		keep[t.path] = true
	}
	var extra []text.Op
	err := r.walkOn(ctx, c, top, client.ListOptions{Stat: true}, func(it client.Item) error {
		switch {
		case it.Err != nil:
			return it.Err
		case znode.Below(it.Path, znode.SystemPath):
		case it.Stat.EphemeralOwner != 0:
			for path := it.Path; !keep[path] && path != ""; path, _ = znode.Split(path) {
				keep[path] = true
			}
		case !keep[it.Path]:
			extra = append(extra, text.Op{Verb: text.VerbRm, Path: it.Path, Version: it.Stat.Version})
		}
		return nil
	})
	if err != nil && !errors.Is(err, znode.ErrNoNode) {
		return err
	}
	for _, op := range slices.Backward(extra) {
		if !keep[op.Path] {
			p.ops = append(p.ops, op)
			p.report.Deleted++
		}
	}
	return nil
}

// print shows the plan of a dry run.
func (p *plan) print(r *run) {
	words := map[text.Verb]string{text.VerbCreate: "create", text.VerbSet: "update", text.VerbRm: "delete"}
	for _, op := range p.ops {
		if word := words[op.Verb]; r.json {
			r.object(jsonPlanned{schema, word, op.Path})
		} else {
			r.printf("%s %s\n", word, op.Path)
		}
	}
	if r.json {
		return
	}
	r.note("coord: %s to create, %s to update, %s unchanged, %s to delete", count(int64(p.report.Created)),
		count(int64(p.report.Updated)), count(int64(p.report.Unchanged)), count(int64(p.report.Deleted)))
}

// batchBytes is the size limit of a transaction of several changes. Every server
// accepts it, unless it is configured to accept less.
const batchBytes = 1 << 20

// apply sends the plan, in transactions that are as large as allowed.
func (p *plan) apply(ctx context.Context, r *run, c *client.Conn) error {
	ctx, step, cancel := r.long(ctx)
	defer cancel()
	defer r.progressEnd()
	all, most := len(p.ops), batchBytes
	for done := 0; done < all; {
		n, size := 1, bytesOf(&p.ops[done])
		for done+n < all && n < text.DefaultLimits().Ops && size+bytesOf(&p.ops[done+n]) <= most {
			size += bytesOf(&p.ops[done+n])
			n++
		}
		if done == 0 && n < all && most == batchBytes {
			r.note("coord: %s changes are too many for one transaction: they are made in several", count(int64(all)))
		}
		call, err := c.Send(&text.Request{Op: text.Op{Verb: text.VerbTxn, Version: anyVersion}, Ops: p.ops[done : done+n]})
		var reply *text.Reply
		if err == nil {
			reply, err = waitStep(ctx, step, call)
		}
		switch {
		case err == nil:
		case errors.Is(err, znode.ErrTooBig) && n > 1: // this server accepts less
			most = size / 2
			continue
		default:
			return p.stopped(done, err)
		}
		done += n
		p.report.Transactions++
		p.report.Zxid = reply.Zxid(text.KeyZxid).String()
		r.progress("coord: %s of %s changes made", count(int64(done)), count(int64(all)))
	}
	return nil
}

// bytesOf is about the size of an operation in a request.
func bytesOf(op *text.Op) int { return len(op.Path) + len(op.Value) + 32 }

// stopped says which operation was refused, and what was done before it.
func (p *plan) stopped(done int, err error) error {
	if refused, ok := errors.AsType[*client.Error](err); ok && refused.Op >= 0 && done+refused.Op < len(p.ops) {
		at := *refused
		at.Op, at.Path = -1, cmp.Or(at.Path, p.ops[done+refused.Op].Path)
		err = &at
	}
	for _, changed := range []error{znode.ErrBadVersion, znode.ErrNodeExists, znode.ErrNoNode, znode.ErrNotEmpty} {
		if errors.Is(err, changed) {
			err = &hinted{err, "another client has changed it meanwhile: import it again; what was imported already stays as it is"}
			break
		}
	}
	if done > 0 {
		return &partError{fmt.Sprintf("%s of %s changes were made", count(int64(done)), count(int64(len(p.ops)))), err}
	}
	return err
}
