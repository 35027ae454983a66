package zkimport

import (
	"fmt"

	"coord/tree/znode"
)

// DamageError means that a file is not as ZooKeeper leaves it, or that a file is missing.
type DamageError struct {
	File   string
	Offset int64 // in the file, unpacked; -1: the whole file or folder is meant
	Reason string
}

func (e *DamageError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s: at offset %d: %s", e.File, e.Offset, e.Reason)
}

// ForeignError means that a folder is not ZooKeeper's.
type ForeignError struct{ Path, Reason string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is not a ZooKeeper data folder: %s", e.Path, e.Reason)
}

// InUseError means that ZooKeeper is using the folder.
type InUseError struct {
	Path string
	PID  int // 0 if only changed files show it
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("files in %s changed while they were read: ZooKeeper seems to be running", e.Path)
	}
	return fmt.Sprintf("%s is in use by ZooKeeper (process %d)", e.Path, e.PID)
}

// UnfitError means that znodes exceed coord's limits. It is a znode.ErrLimit.
type UnfitError struct {
	Err  error // of the first znode
	More int   // number of other znodes
}

func (e *UnfitError) Error() string {
	s := fmt.Sprintf("coord cannot store it: %v", e.Err)
	if e.More > 0 {
		s += fmt.Sprintf(", and %d more", e.More)
	}
	return s
}

// Unwrap makes the error a znode.ErrLimit.
func (e *UnfitError) Unwrap() error { return znode.ErrLimit }
