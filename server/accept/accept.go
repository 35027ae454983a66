// Package accept takes connections from a listener for as long as it is of use: of
// clients and of peers. Whom it hands them to judges them, and must not wait.
package accept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// Loop hands to admit who connects to l, until ctx has ended and l says so (nil), or l
// is of no use any more. What passes it logs, and tries again.
func Loop(ctx context.Context, l net.Listener, log *zerolog.Logger, admit func(net.Conn)) error {
	const leastPause, mostPause = 5 * time.Millisecond, time.Second
	pause := leastPause
	for {
		nc, err := l.Accept()
		var number syscall.Errno
		switch {
		case err == nil:
			admit(nc)
			pause = leastPause
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &number) && number != syscall.EBADF && number != syscall.EINVAL && number != syscall.ENOTSOCK:
			// Out of descriptors or memory, a connection that was gone before it
			// was accepted, a firewall's no: all of it passes.
			log.Warn().Err(err).Dur("pause", pause).Msg("accept failed; trying again")
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, mostPause)
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}
