// Package accept takes connections, of clients and of peers, from a listener for as long as the
// listener works. The receiver of a connection judges it, and must not wait.
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

// Loop passes each connection to l to admit, until Accept fails after ctx has ended (then the error
// is nil) or l does not work any more. It logs transient errors and tries again.
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
			// Out of descriptors or memory, a connection that was gone before it was accepted, a
			// refusal by the firewall: all of these are transient.
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
