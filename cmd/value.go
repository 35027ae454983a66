package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"coord/server"
	"coord/tree/znode"
)

// value is the VALUE at an index of the arguments: the argument itself, the content
// of @FILE, or stdin for -. After "--" it is always the argument itself. A missing
// argument is an empty value.
func (r *run) value(ctx context.Context, i int) ([]byte, error) {
	if i >= len(r.args) {
		return []byte{}, nil
	}
	arg := r.args[i]
	switch {
	case i >= r.literal || arg == "" || arg[0] != '@' && arg != "-":
		return []byte(arg), nil
	case arg == "-":
		return readStdin(ctx, r.in)
	}
	b, err := readFile(arg[1:])
	if is[*usageError](err) {
		return nil, &hinted{err, "put a value that begins with @ after --"}
	}
	return b, err
}

// readFile reads the value @FILE.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("@%s: %v", name, bare(err))
	}
	defer f.Close()
	return readValue(name, f)
}

// bare removes the file's name from an error, since our messages have it already.
func bare(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// file is the FILE at an index of the arguments; - is stdin or stdout, but after
// "--" a file of that name.
func (r *run) file(i int) string {
	if i >= r.literal && r.args[i] == "-" {
		return "./-"
	}
	return r.args[i]
}

// readStdin reads stdin, until a signal comes.
func readStdin(ctx context.Context, in io.Reader) (b []byte, err error) {
	done := make(chan struct{})
	go func() { // abandoned after a signal: then the process ends too
		defer close(done)
		b, err = readValue("stdin", in)
	}()
	select {
	case <-done:
		return b, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// readValue reads a value, and no more than any server would accept.
func readValue(name string, r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, server.MaxMaxFrame+1))
	switch {
	case err != nil:
		return nil, usagef("read the value from %s: %v", name, err)
	case n > server.MaxMaxFrame:
		return nil, &hinted{&sizeError{name}, "the limit is 1 MiB, unless the server was started with another --max-frame"}
	}
	if b.Len() == 0 {
		return []byte{}, nil
	}
	return b.Bytes(), nil
}

type sizeError struct{ name string }

func (e *sizeError) Error() string { return e.name + " is too big for a value" }
func (e *sizeError) Unwrap() error { return znode.ErrTooBig }

// path checks the PATH, the first argument, before any request is sent.
func (r *run) path(mode znode.Mode) (string, error) {
	p := r.args[0]
	if err := znode.CheckCreatePath(p, mode); err != nil {
		hint := ""
		if p != "" && p[0] != '/' {
			hint = "a path begins with /"
		} else if len(p) > 1 && p[len(p)-1] == '/' {
			hint = "leave out the / at the end"
		}
		return "", &usageError{msg: err.Error(), hint: hint}
	}
	return p, nil
}
