package cmd

import (
	"errors"
	"io/fs"
	"syscall"

	"coord/client"
	"coord/server"
	"coord/snapshot"
	"coord/snapshot/datadir"
	"coord/snapshot/restore"
	"coord/snapshot/zkimport"
	"coord/tree/znode"
)

// The exit codes: one table for all commands. docs/commands.md shows it.
const (
	exitOK         = 0
	exitFalse      = 1 // exists: there is no such znode
	exitUsage      = 2
	exitNotFound   = 3
	exitExists     = 4
	exitConflict   = 5 // wrong version, or not empty
	exitPermission = 6
	exitNoAnswer   = 7 // no server, or no leader
	exitTimeout    = 8
	exitExpired    = 9
	exitUncertain  = 10
	exitLimit      = 11 // a limit, a quota, or no space
	exitDamaged    = 12
	exitUnsafe     = 13 // refused without --force
	exitVersion    = 14 // needs another version of coord
	exitForeign    = 15
	exitForgotten  = 16 // too old: the server no longer remembers that moment
	exitInUse      = 17
	exitPart       = 18 // partly done
	exitOther      = 19
	exitFatalIO    = 20
	exitPipe       = 141 // the reader of stdout has left
	exitSignal     = 128 // plus the signal's number
)

// exitCodes describes the exit codes for users.
var exitCodes = []struct {
	code  int
	means string
}{
	{exitOK, "done; true"},
	{exitFalse, "false: coord exists found no znode; a question was answered with no"},
	{exitUsage, "usage error in the command line, the environment or the configuration file"},
	{exitNotFound, "not found: the znode, or a file to read"},
	{exitExists, "exists already"},
	{exitConflict, "another version than expected; not empty"},
	{exitPermission, "not permitted; authentication failed; no permission to read or write a file or folder"},
	{exitNoAnswer, "no answer: no server, no leader, no answer in time"},
	{exitTimeout, "the server waited, but the condition was not met in time"},
	{exitExpired, "the session has expired"},
	{exitUncertain, "outcome unknown: it may or may not have happened. Read again before you repeat it"},
	{exitLimit, "a limit or quota is reached; no space on the disk"},
	{exitDamaged, "damaged: a backup, a data folder, or a stream that was cut off"},
	{exitUnsafe, "unsafe without --force or --replace: the target exists, or holds data; too few nodes would be left"},
	{exitVersion, "needs another version of coord"},
	{exitForeign, "belongs to another cluster"},
	{exitForgotten, "the changes since the given moment are no longer known"},
	{exitInUse, "in use by another process: a data folder, a port, a file being written"},
	{exitPart, "done in part: the message says how far"},
	{exitOther, "anything else"},
	{exitFatalIO, "the server met a fatal I/O error: start it again"},
	{exitLost, "lock, elect: lost while the command ran, which was ended"},
	{exitNotInTime, "lock, barrier: not in time"},
	{exitNotBegun, "coord failed before it started the command"},
	{exitNotStarted, "the command cannot be executed"},
	{exitNoCommand, "the command is not found"},
	{exitSignal + 2, "interrupted (SIGINT)"},
	{exitPipe, "the reader of stdout has closed it"},
	{exitSignal + 15, "terminated (SIGTERM)"},
}

// exitOfCode maps an error code of the text protocol to an exit code.
func exitOfCode(c znode.Code) int {
	switch c {
	case znode.OK:
		return exitOK
	case znode.ErrNoNode, znode.ErrNoWatcher:
		return exitNotFound
	case znode.ErrNodeExists:
		return exitExists
	case znode.ErrBadVersion, znode.ErrNotEmpty, znode.ErrNoChildrenForEphemerals:
		return exitConflict
	case znode.ErrNoAuth, znode.ErrAuthFailed, znode.ErrReconfigDisabled, znode.ErrSessionClosedRequireAuth:
		return exitPermission
	case znode.ErrNoLeader, znode.ErrShutdown, znode.ErrNotReadOnly, znode.ErrEphemeralOnLocalSession:
		return exitNoAnswer
	case znode.ErrTimeout:
		return exitTimeout
	case znode.ErrSessionExpired, znode.ErrSessionMoved:
		return exitExpired
	case znode.ErrUncertain:
		return exitUncertain
	case znode.ErrQuotaExceeded, znode.ErrTooBig, znode.ErrLimit, znode.ErrThrottledOp, znode.ErrNoSpace, znode.ErrSlowClient:
		return exitLimit
	case znode.ErrSyntax, znode.ErrBadArguments, znode.ErrInvalidACL:
		return exitUsage
	case znode.ErrNewConfigNoQuorum:
		return exitUnsafe
	case znode.ErrUnknown, znode.ErrUnimplemented:
		return exitVersion
	case znode.ErrCompacted:
		return exitForgotten
	}
	return exitOther // PROTOCOL, INTERNAL
}

// exitOfServer maps the reasons why a server does not start, or had to stop, to
// exit codes.
var exitOfServer = []struct {
	err  error
	code int
}{
	{server.ErrConfig, exitUsage},
	{server.ErrPermitted, exitPermission},
	{server.ErrDiskFull, exitLimit},
	{server.ErrDamaged, exitDamaged},
	{server.ErrZooKeeper, exitUnsafe},
	{server.ErrNewer, exitVersion},
	{server.ErrForeign, exitForeign},
	{server.ErrInUse, exitInUse},
	{server.ErrUnfinished, exitPart},
	{server.ErrFatalIO, exitFatalIO},
}

// exitCode is the exit code of an error. Exit codes are chosen only here.
func exitCode(err error) int {
	if by, ok := errors.AsType[*signalError](err); ok {
		return exitSignal + int(by.sig)
	}
	var own interface{ exitCode() int }
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return own.exitCode()
	case errors.Is(err, syscall.EPIPE) && errors.Is(err, errOut):
		return exitPipe
	}
	for _, s := range exitOfServer {
		if errors.Is(err, s.err) {
			return s.code
		}
	}
	switch {
	case isUncertain(err):
		return exitUncertain
	case is[*restore.PartialError](err), errors.Is(err, datadir.ErrUnfinished):
		return exitPart
	case is[*restore.RefusedError](err), is[*restore.NotEmptyError](err), errors.Is(err, datadir.ErrZooKeeper):
		return exitUnsafe
	case is[*restore.TargetError](err):
		return exitUsage
	case is[*snapshot.DamageError](err), is[*snapshot.ForeignError](err), is[*datadir.DamageError](err),
		is[*zkimport.DamageError](err), is[*zkimport.ForeignError](err), errors.Is(err, client.ErrCut):
		return exitDamaged
	case is[*snapshot.NewerError](err), errors.Is(err, datadir.ErrNewer):
		return exitVersion
	case is[*datadir.InUseError](err), is[*zkimport.InUseError](err):
		return exitInUse
	}
	if code, ok := errors.AsType[znode.Code](err); ok {
		return exitOfCode(code)
	}
	switch {
	case is[*client.UnreachableError](err):
		return exitNoAnswer
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return exitLimit
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, datadir.ErrNotMine):
		return exitPermission
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		return exitUsage
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, datadir.ErrNoFolder), errors.Is(err, restore.ErrNothing):
		return exitNotFound
	}
	return exitOther
}

// is says whether the chain of err has an error of type T.
func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func isUncertain(err error) bool { return errors.Is(err, znode.ErrUncertain) }
