package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"coord/tree/znode"
)

func fenceCommand() *command {
	return &command{
		name: "fence", does: "keep former holders of a lock away from a resource", min: 0, max: 0,
		details: `A lock cannot stop a holder that was paused and does not know that it has lost the lock. The resource can: it remembers the
highest token that it has seen (COORD_FENCE), and refuses a smaller one.`,
		examples: []string{`coord fence check /var/lib/backup.fence "$COORD_FENCE" && write_backup`},
		run: func(context.Context, *run) error {
			return &usageError{msg: "a subcommand is missing: coord fence check", hint: "coord help fence check"}
		},
	}
}

func fenceCheckCommand() *command {
	return &command{
		name: "fence check", args: "FILE TOKEN", does: "refuse a token that is older than one seen before", min: 2, max: 2,
		details: `FILE keeps the highest token seen; it is created if it is missing. A token that is as high or higher is kept durably, and
the exit code is 0; a lower one is refused with 1. Two checks of one file never overlap.`,
		examples: []string{`coord fence check /var/lib/backup.fence "$COORD_FENCE" && write_backup`},
		run:      runFenceCheck,
	}
}

func runFenceCheck(_ context.Context, r *run) (err error) {
	token, err := strconv.ParseUint(r.args[1], 0, 64)
	if err != nil {
		return usagef("%s: expected a token such as 0x100000005", quote(r.args[1]))
	}
	f, err := os.OpenFile(r.args[0], os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("%s: %w", r.args[0], err)
	}
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return err
	}
	highest := uint64(0)
	if s := strings.TrimSpace(string(b)); s != "" {
		if highest, err = strconv.ParseUint(s, 0, 64); err != nil {
			return &codeError{exitDamaged, fmt.Errorf("%s is not a fence file", r.args[0])}
		}
	}
	if token < highest {
		return &falseError{fmt.Sprintf("the token %s is older than %s", znode.Hex(token), znode.Hex(highest))}
	}
	if token == highest {
		return nil
	}
	// The length is always the same, so that a crash cannot leave a shorter number.
	if _, err := f.WriteAt(fmt.Appendf(nil, "0x%016x\n", token), 0); err != nil {
		return err
	}
	return f.Sync()
}
