package wal

import (
	"errors"
	"fmt"
)

var (
	// ErrNewerFormat: intact records of a version this program does not know.
	ErrNewerFormat = errors.New("written by a newer coord")
	// ErrForeign: the log belongs to another cluster or node than Options.Meta says.
	ErrForeign = errors.New("the log belongs to another cluster or node")
	// ErrTooLarge: an entry above MaxEntryBytes. Nothing of the batch was written, the log is as before.
	ErrTooLarge = errors.New("entry too large")
	// ErrReadOnly: a writing call on a log opened with Options.ReadOnly.
	ErrReadOnly = errors.New("the log was opened for reading")
	// ErrClosed: a writing call after Close.
	ErrClosed = errors.New("the log is closed")
)

// DamageError says that the log has lost or changed something that was once safe on disk. Nothing was repaired.
type DamageError struct {
	File   string // path of the segment, or of the folder if it is the segments that are missing
	Offset int64
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("wal: %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

// WriteError is a failed write, fsync, creation or removal. It is final: the Log returns it from every later writing
// call, since nobody knows what the disk has. Only a new Open, in a new process, can tell.
type WriteError struct {
	Op  string // what was done
	Dir string // the log's folder
	Err error
}

func (e *WriteError) Error() string { return fmt.Sprintf("wal: %s: %s: %v", e.Dir, e.Op, e.Err) }
func (e *WriteError) Unwrap() error { return e.Err }
