package zkimport

import (
	"fmt"

	"coord/tree/znode"
)

// DamageError means that a file is not as ZooKeeper leaves it, or that one is
// missing.
type DamageError struct {
	File   string
	Offset int64 // in the file, unpacked; -1: it is the whole file or folder
	Reason string
}

func (e *DamageError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s: at offset %d: %s", e.File, e.Offset, e.Reason)
}

// ForeignError means that a folder is none of ZooKeeper's.
type ForeignError struct{ Path, Reason string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is no data folder of ZooKeeper: %s", e.Path, e.Reason)
}

// InUseError means that ZooKeeper writes to the folder.
type InUseError struct {
	Path string
	PID  int // 0 if only the files show it
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("files in %s changed while they were read: ZooKeeper seems to run", e.Path)
	}
	return fmt.Sprintf("%s is in use by ZooKeeper (process %d)", e.Path, e.PID)
}

// UnfitError means that a znode is beyond coord's limits. It is a
// znode.ErrLimit.
type UnfitError struct {
	Err  error // of the first
	More int   // others
}

func (e *UnfitError) Error() string {
	s := fmt.Sprintf("coord cannot hold it: %v", e.Err)
	if e.More > 0 {
		s += fmt.Sprintf(", and %d more", e.More)
	}
	return s
}

// Unwrap makes it a limit.
func (e *UnfitError) Unwrap() error { return znode.ErrLimit }
