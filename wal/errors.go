package wal

import (
	"errors"
	"fmt"
)

var (
	// ErrNewerFormat: there are intact records of a version that this program does not know.
	ErrNewerFormat = errors.New("written by a newer coord")
	// ErrForeign: the log does not belong to the cluster and node in Options.Meta.
	ErrForeign = errors.New("the log belongs to another cluster or node")
	// ErrTooLarge: an entry exceeds MaxEntryBytes. Nothing of the batch was written; the log is
	// unchanged.
	ErrTooLarge = errors.New("entry too large")
	// ErrReadOnly: a writing call was made on a log opened with Options.ReadOnly.
	ErrReadOnly = errors.New("the log was opened read-only")
	// ErrClosed: a writing call was made after Close.
	ErrClosed = errors.New("the log is closed")
)

// DamageError says that the log has lost or changed something that was once safe on disk. Nothing was repaired.
type DamageError struct {
	File   string // path of the segment, or of the folder if segments are missing
	Offset int64
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("wal: %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

// WriteError is a failed write, fsync, creation or removal. It is final: the Log returns it from every later writing
// call, because nobody knows what is on the disk. Only a new Open, in a new process, can find out. The exception is
// a *WriteError of Sweep.
type WriteError struct {
	Op  string // what was done
	Dir string // the log's folder
	Err error
}

func (e *WriteError) Error() string { return fmt.Sprintf("wal: %s: %s: %v", e.Dir, e.Op, e.Err) }
func (e *WriteError) Unwrap() error { return e.Err }
