package snapshot

import (
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Pace limits the share of the disk's and of a processor's time that work on snapshots takes from
// clients served meanwhile: after each small step it rests Rests times as long as the step took,
// but no longer than Longest. The zero Pace never rests.
type Pace struct {
	Rests   int
	Longest time.Duration
}

// Step is an Options.Step that keeps the pace and ends with ctx.
func (p Pace) Step(ctx context.Context) func(Progress) error {
	rest := p.begin(ctx)
	return func(Progress) error { return rest() }
}

// begin begins the first step. The function that it returns ends a step, rests and begins the next
// one; its error is the context's.
func (p Pace) begin(ctx context.Context) (rest func() error) {
	began := time.Now()
	return func() error {
		if d := min(time.Duration(p.Rests)*time.Since(began), p.Longest); d > 0 {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
		began = time.Now()
		return ctx.Err()
	}
}

// pieceBytes is how much is read or written between two rests: about what keeps an ordinary disk
// busy for less than a millisecond.
const pieceBytes = 64 << 10

// reader returns a reader that keeps the pace and fails once ctx is done.
func (p Pace) reader(ctx context.Context, r io.Reader) io.Reader {
	most := FrameBytes
	if p.Rests > 0 {
		most = pieceBytes
		if f, ok := r.(*os.File); ok {
			// Ask the kernel not to read ahead: fsyncs would have to wait for megabytes at once. If
			// the kernel ignores the advice, only that benefit is lost.
			_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
		}
	}
	return &pacedReader{r, p.begin(ctx), most}
}

type pacedReader struct {
	r    io.Reader
	rest func() error
	most int
}

func (p *pacedReader) Read(b []byte) (int, error) {
	if err := p.rest(); err != nil {
		return 0, err
	}
	return p.r.Read(b[:min(len(b), p.most)])
}
