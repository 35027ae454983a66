package restore

import (
	"fmt"
	"strings"
	"syscall"
)

// Errors of other packages that Run returns unchanged: snapshot.DamageError, snapshot.ForeignError
// and datadir.DamageError (exit code 12), snapshot.NewerError and datadir.ErrNewer (14),
// datadir.InUseError (17), datadir.ErrUnfinished (18), ENOSPC and EDQUOT (11). An import has the
// errors of package zkimport instead of a snapshot's. If the context ends, the error is its cause.

// TargetError means that the path cannot be that of a data folder (exit code 2).
type TargetError struct {
	Path string
	Err  error
}

func (e *TargetError) Error() string { return fmt.Sprintf("data folder %s: %v", e.Path, e.Err) }

// Unwrap returns the reason.
func (e *TargetError) Unwrap() error { return e.Err }

// RefusedError means that a restore into this folder is never right, whatever the options (exit code 13).
type RefusedError struct{ Path, Reason string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s was not replaced: %s", e.Path, e.Reason)
}

// NotEmptyError means that the target holds a node's data and Options.Replace is
// not set (exit code 13).
type NotEmptyError struct {
	Path  string
	Found string   // whose data it is, in words
	After []string // what was done before this was noticed: an earlier restore was ended
}

func (e *NotEmptyError) Error() string {
	s := fmt.Sprintf("%s is not empty: it holds %s", e.Path, e.Found)
	if len(e.After) > 0 {
		s += " (" + strings.Join(e.After, "; ") + ")"
	}
	return s
}

// NoSpaceError means that the disk has no room for the restore (exit code 11).
type NoSpaceError struct {
	Path       string
	Need, Free int64
}

func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("%s: the restore needs %d bytes, the disk has %d free", e.Path, e.Need, e.Free)
}

// Is makes the error an ENOSPC.
func (e *NoSpaceError) Is(target error) bool { return target == syscall.ENOSPC }

// PartialError means that the exchange of the folders has begun and could not be completed. Nothing
// is lost: the next restore or server start continues it (exit code 18).
type PartialError struct {
	Path string // the data folder
	Plan string // the plan file
	Err  error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("the restore into %s is incomplete: %v; the next server start or coord restore continues it (plan: %s)", e.Path, e.Err, e.Plan)
}

// Unwrap returns the reason.
func (e *PartialError) Unwrap() error { return e.Err }
