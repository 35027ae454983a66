package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"coord/client"
	"coord/server"
	"coord/tree/znode"
)

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ msg, hint string }

func (e *usageError) Error() string { return e.msg }
func (e *usageError) exitCode() int { return exitUsage }

// usagef makes a usageError without a hint.
func usagef(format string, a ...any) error { return &usageError{msg: fmt.Sprintf(format, a...)} }

// falseError is a negative answer, not a failure: exit code 1. Usually there is
// nothing to report.
type falseError struct{ msg string }

func (e *falseError) Error() string { return e.msg }
func (e *falseError) exitCode() int { return exitFalse }

// unsafeError is the refusal to do something without --force or the like: exit code 13.
type unsafeError struct{ msg, hint string }

func (e *unsafeError) Error() string { return e.msg }
func (e *unsafeError) exitCode() int { return exitUnsafe }

// partError is work that was begun and not finished: exit code 18, unless the code
// of the cause says more.
type partError struct {
	done string
	err  error
}

func (e *partError) Error() string { return e.done + "; then " + e.err.Error() }
func (e *partError) Unwrap() error { return e.err }
func (e *partError) exitCode() int {
	if isUncertain(e.err) {
		return exitUncertain
	}
	return exitPart
}

// lineError is an error in a line of a file that was read.
type lineError struct {
	file string
	line int // from 1
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("%s, line %d: %v", e.file, e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// hinted adds a hint to an error.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// report tells the user what went wrong: one line, and a hint if there is one. With
// --json it prints an object.
func (c *console) report(err error) {
	code := exitCode(err)
	if err.Error() == "" || code == exitPipe || c.quiet {
		return
	}
	hint := hintOf(err)
	if !c.json {
		c.note("coord: %s", oneLine(err.Error()))
		if hint != "" {
			c.note("hint: %s", hint)
		}
		return
	}
	out := jsonError{V: schema, Exit: code, Message: oneLine(err.Error()), Hint: hint}
	if word, ok := errors.AsType[znode.Code](err); ok {
		out.Error = word.Word()
	}
	if at, ok := errors.AsType[*lineError](err); ok {
		out.Line = at.line
	}
	if refused, ok := errors.AsType[*client.Error](err); ok {
		out.Path = refused.Path
		if refused.HasHave {
			out.Have = &refused.Have
		}
	}
	c.note("%s", marshal(out))
}

// hintOf is the hint for an error; empty if there is none worth a line.
func hintOf(err error) string {
	if e, ok := errors.AsType[*hinted](err); ok {
		return e.hint
	}
	if e, ok := errors.AsType[*usageError](err); ok {
		return e.hint
	}
	if e, ok := errors.AsType[*unsafeError](err); ok {
		return e.hint
	}
	switch {
	case is[*signalError](err) && !isUncertain(err):
		return ""
	case isUncertain(err):
		return "read it again before you repeat it"
	case errors.Is(err, syscall.ECONNREFUSED), is[*client.UnreachableError](err) && errors.Is(err, syscall.ENOENT):
		return "is a server running there? coord server starts one; --server or COORD_SERVER names another"
	case is[*client.UnreachableError](err) && errors.Is(err, fs.ErrPermission):
		return "only the owner and group of the socket may use it (mode 0660); --server or COORD_SERVER names another server"
	case is[*client.UnreachableError](err):
		return "--server or COORD_SERVER names another server, --timeout waits longer"
	case errors.Is(err, znode.ErrNotEmpty):
		return "coord rm -r removes it with all below it"
	case errors.Is(err, znode.ErrNewConfigNoQuorum):
		return "coord members shows which nodes are up; coord members remove has --force"
	case errors.Is(err, znode.ErrNoAuth):
		return "authenticate with --auth-file FILE or COORD_AUTH=user:password"
	case errors.Is(err, znode.ErrNoLeader):
		return "an election takes a second or two: try again; coord members shows which nodes are up: a majority of the voters must be"
	case errors.Is(err, server.ErrZooKeeper):
		return "coord restore --from-zookeeper DIR --data-dir NEW imports its data into a new folder: docs/migrating-from-zookeeper.md"
	case errors.Is(err, server.ErrFatalIO):
		return "start it again: the start determines what has reached the disk"
	case errors.Is(err, server.ErrDamaged):
		return "coord restore --replace restores a backup, and keeps this folder"
	}
	return ""
}

// oneLine puts a message on one line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func quote(s string) string { return strconv.Quote(s) }
