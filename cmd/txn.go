package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

func txnCommand() *command {
	return &command{
		name: "txn", args: "-f FILE|-", does: "make several changes, all or none", connects: true,
		details: `FILE has one operation per line, in the form of the text protocol:
  CHECK PATH [v=N]
  CREATE PATH [SEQ] [CONTAINER] [ttl=30s] [parents] [acl=a,b] VALUE
  SET PATH [v=N] [create] VALUE
  RM PATH [v=N] [recursive [limit=N]]
Blank lines and lines that begin with # are ignored. The value is always the last argument: a word, "quoted", or :N and
then N bytes after the line. @FILE stands for the bytes of a file; quoted it is the value itself.
The command prints the created paths, one per line. A transaction has at most 1,000 operations.`,
		examples: []string{"coord txn -f ops.txt", "coord txn -f ops.txt --dry-run", `printf 'CHECK /app v=3\nSET /app/url "a b"\n' | coord txn -f -`},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the operations: a `FILE`, or - for stdin"},
			boolFlag("dry-run", "print what would be sent, and send nothing"),
		},
		run: runTxn,
	}
}

// jsonTxn is the answer of txn.
type jsonTxn struct {
	V    int      `json:"v"`
	Zxid string   `json:"zxid"`
	Ops  []jsonOp `json:"ops"`
}

type jsonOp struct {
	Op      string `json:"op"`
	Path    string `json:"path"`
	Version *int32 `json:"version,omitempty"` // CREATE, SET
}

func runTxn(ctx context.Context, r *run) error {
	if !r.flags.IsSet("file") {
		return &usageError{msg: "-f FILE is missing", hint: "coord help txn; -f - reads stdin"}
	}
	name, in, err := r.input(ctx, r.flags.String("file"))
	if err != nil {
		return err
	}
	ops, lines, err := parseOps(name, in)
	if err != nil {
		return err
	}
	if r.flags.Bool("dry-run") {
		req := &text.Request{Op: text.Op{Verb: text.VerbTxn, Version: anyVersion}, Ops: ops}
		r.sent(req, text.AppendRequest(nil, req))
		return nil
	}
	with := r.with
	if slices.ContainsFunc(ops, func(op text.Op) bool { return op.Mode.Ephemeral() }) {
		with = r.alone // a session ends with its connection
	}
	return with(ctx, func(ctx context.Context, c *client.Conn) error {
		changes, zxid, err := c.Txn(ctx, ops)
		if refused, ok := errors.AsType[*client.Error](err); ok && refused.Op >= 0 && refused.Op < len(lines) {
			at := *refused
			at.Op = -1
			return &lineError{name, lines[refused.Op], &at}
		} else if err != nil {
			return err
		}
		out := jsonTxn{schema, zxid.String(), []jsonOp{}}
		for i, op := range ops {
			did := jsonOp{Op: op.Verb.String(), Path: changes[i].Path}
			if op.Verb == text.VerbCreate || op.Verb == text.VerbSet {
				did.Version = &changes[i].Version
			}
			out.Ops = append(out.Ops, did)
			if op.Verb == text.VerbCreate && !r.json {
				r.printf("%s\n", did.Path)
			}
		}
		if r.json {
			r.object(out)
		}
		return nil
	})
}

// maxInput is the size limit of a file of operations or of znodes: it is read
// completely before anything is sent.
const maxInput = 1 << 30

// input reads a file, or stdin for -, and returns its name for messages.
func (r *run) input(ctx context.Context, file string) (name string, b []byte, err error) {
	in, name := r.in, "stdin"
	switch {
	case file == "-" && r.inTTY:
		r.note("coord: reading from the terminal; Ctrl-D ends it")
	case file != "-":
		f, err := os.Open(file)
		if err != nil {
			return file, nil, err
		}
		defer f.Close()
		in, name = f, file
	}
	b, err = abandonable(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(in, maxInput+1)) })
	if err == nil && len(b) > maxInput {
		err = &hinted{fmt.Errorf("%s is larger than 1 GiB: %w", name, znode.ErrTooBig), "split it"}
	}
	return name, b, err
}

// parseOps parses operations in the syntax of the text protocol, with comments and
// @FILE. lines has the line of each operation in the file, from 1.
func parseOps(name string, in []byte) (ops []text.Op, lines []int, err error) {
	if len(in) > 0 && in[len(in)-1] != '\n' {
		in = append(slices.Clip(in), '\n')
	}
	for number := 1; len(in) > 0; {
		line, _, _ := bytes.Cut(in, []byte{'\n'})
		if word := bytes.TrimSpace(line); len(word) == 0 || word[0] == '#' {
			in = in[len(line)+1:]
			number++
			continue
		}
		op, n, err := parseOp(in)
		if err == nil {
			err = readAt(&op, line)
		}
		if err != nil {
			return nil, nil, &lineError{name, number, err}
		}
		ops, lines = append(ops, op), append(lines, number)
		if len(ops) > text.DefaultLimits().Ops {
			return nil, nil, &lineError{name, number, &hinted{
				fmt.Errorf("a transaction has at most 1,000 operations: %w", znode.ErrLimit), "split the file: each part is then a transaction of its own, all or none"}}
		}
		number += bytes.Count(in[:n], []byte{'\n'})
		in = in[n:]
	}
	if len(ops) == 0 {
		return nil, nil, usagef("%s has no operations", name)
	}
	return ops, lines, nil
}

// parseOp parses the operation at the start of in, including a value that follows
// its line; n is its length. in must end with a line end.
func parseOp(in []byte) (op text.Op, n int, err error) {
	const head = "TXN 1\n"
	for size := bytes.IndexByte(in, '\n') + 1; ; size = min(2*size+256, len(in)) {
		req, n, err := text.NewParser(explainLimits()).Next(append([]byte(head), in[:size]...))
		switch {
		case err != nil:
			refused, _ := errors.AsType[*text.Error](err)
			return op, 0, &opError{refused}
		case req != nil:
			op = req.Ops[0]
			op.Value = bytes.Clone(op.Value)
			return op, n - len(head), nil
		case size == len(in):
			return op, 0, usagef("the value is cut off: fewer bytes follow the line than it announces")
		}
	}
}

// opError is an operation that the protocol refuses, in the protocol's words.
type opError struct{ err *text.Error }

func (e *opError) Error() string { return e.err.Msg }
func (e *opError) Unwrap() error { return e.err.Code }

// readAt replaces the value @FILE by the content of FILE, if the line ends with one.
func readAt(op *text.Op, line []byte) error {
	line = bytes.TrimRight(line, "\r ")
	word := line[bytes.LastIndexByte(line, ' ')+1:]
	if op.Verb != text.VerbSet && op.Verb != text.VerbCreate || len(word) == 0 || word[0] != '@' || bytes.IndexByte(word, '"') >= 0 {
		return nil
	}
	b, err := readFile(string(word[1:]))
	if err != nil {
		return &hinted{err, `quote a value that begins with @: "` + string(word) + `"`}
	}
	op.Value = b
	return nil
}
