package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"coord/server/text"
	"coord/tree/znode"
)

var (
	errClosed  = errors.New("the connection is closed")
	errHungUp  = errors.New("the server closed the connection")
	errUnasked = errors.New("the server sent an unexpected reply")
)

// Error is a request that the server refused, or one whose outcome is unknown.
type Error struct {
	Code    znode.Code
	Path    string // the znode concerned; empty if there is none
	Have    int32  // ErrBadVersion: the current version
	HasHave bool
	Op      int    // the operation of a Txn that failed, from 0; else -1
	Message string // the server's message for people
	Err     error  // why the outcome is unknown
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Op >= 0 {
		b.WriteString("operation " + strconv.Itoa(e.Op) + ": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	if e.Message != "" {
		b.WriteString(e.Message)
	} else {
		b.WriteString(e.Code.Error())
	}
	if e.HasHave {
		fmt.Fprintf(&b, " (it is %d)", e.Have)
	}
	switch {
	case errors.Is(e.Err, context.DeadlineExceeded):
		b.WriteString(": no answer in time")
	case e.Err != nil:
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the code and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// refusal converts an ERR reply to an error.
func refusal(r *text.Reply, path string) *Error {
	e := &Error{Code: r.Code, Path: path, Op: -1, Message: r.Message}
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.Key {
		case text.KeyPath:
			e.Path = f.String()
		case text.KeyHave:
			e.Have, e.HasHave = int32(r.Int(text.KeyHave)), true
		case text.KeyOp:
			e.Op = int(r.Int(text.KeyOp))
		}
	}
	if strings.HasPrefix(e.Message, e.Path+" ") || strings.HasPrefix(e.Message, e.Path+": ") || strings.HasPrefix(e.Message, "path ") {
		e.Path = "" // the message names it already
	}
	return e
}

// UnreachableError says that no answer came and that this leaves no doubt about the state: the
// request was not sent, or it only reads.
type UnreachableError struct {
	Server string // or several, separated by commas
	Err    error
}

func (e *UnreachableError) Error() string {
	if errors.Is(e.Err, context.DeadlineExceeded) {
		return e.Server + ": no answer in time"
	}
	return e.Server + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }
