package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"coord/client"
	"coord/tree/znode"
)

// stopGrace is how long a run has to end before it is killed.
const stopGrace = 5 * time.Second

// errDone says that the watch has reached its end.
var errDone = errors.New("done")

// watchRun is one run of the command.
type watchRun struct {
	*child
	changes []change
	file    string        // COORD_VALUE_FILE; empty: none
	stopped chan struct{} // not nil: coord is ending the run; closed when no process of its group is left
	missing *bool         // whether PATH is missing, by the changes that --drop has left out meanwhile
	dropped int
}

// over is closed when the run has ended.
func (run *watchRun) over() <-chan struct{} {
	if run.stopped != nil {
		return run.stopped
	}
	return run.done
}

// deliver takes the changes that the feed has pushed until the watch ends.
func (w *watcher) deliver(ctx context.Context, end <-chan time.Time) error {
	var signals <-chan os.Signal
	if len(w.argv) > 0 {
		ch, stop := forwarded()
		defer stop()
		signals = ch
	}
	gone, stopGone := w.outputGone()
	defer stopGone()
	fed := w.feed.ended
	for {
		if err := w.step(); err != nil {
			w.stop(syscall.SIGTERM, nil)
			if errors.Is(err, errDone) {
				return nil
			}
			return err
		}
		if fed == nil && w.idle() {
			return w.feed.err
		}
		var ran <-chan struct{}
		if w.run != nil {
			ran = w.run.over()
		}
		select {
		case <-w.queue.ready:
		case <-ran:
			if err := w.ran(); err != nil {
				if errors.Is(err, errDone) {
					return nil
				}
				return err
			}
		case <-w.quiet.C:
			w.flushPending()
		case <-fed: // what the feed has pushed is still delivered
			fed = nil
			if ctx.Err() != nil && signals == nil {
				return context.Cause(ctx)
			}
			wake(w.queue.ready)
		case s := <-signals:
			sig, _ := s.(syscall.Signal)
			if sig == syscall.SIGUSR1 || sig == syscall.SIGUSR2 {
				if w.run != nil {
					w.run.signal(sig)
				}
				continue
			}
			w.stop(sig, signals)
			return &signalError{sig: sig}
		case <-end:
			w.stop(syscall.SIGTERM, signals)
			return w.timedOut()
		case <-gone:
			w.r.printf("\n") // nobody reads it: the write fails and sets the error
			return w.r.flush()
		}
	}
}

// timedOut is the error of --until or --once when the time is over.
func (w *watcher) timedOut() error {
	switch {
	case !w.feed.isUp():
		return &client.UnreachableError{Server: w.feed.named(), Err: fmt.Errorf("no connection after %v", w.limit)}
	case w.until != nil:
		return &client.Error{Code: znode.ErrTimeout, Op: -1, Message: fmt.Sprintf("%s %v after %v", w.path, w.until, w.limit)}
	}
	return &client.Error{Code: znode.ErrTimeout, Op: -1, Message: fmt.Sprintf("%s: no change in %v", w.path, w.limit)}
}

// idle says whether nothing waits to be delivered.
func (w *watcher) idle() bool {
	_, more := w.queue.next()
	return !more && w.run == nil && len(w.due) == 0 && len(w.pending) == 0
}

// step delivers what can be delivered now.
func (w *watcher) step() error {
	for {
		switch {
		case w.run != nil && w.busy == busyQueue:
			return nil
		case w.run == nil && len(w.due) > 0:
			if err := w.next(); err != nil {
				return err
			}
			continue
		}
		c, ok := w.queue.take()
		if !ok {
			if w.run == nil && w.wait == 0 && len(w.pending) > 0 { // a complete batch
				w.flushPending()
				continue
			}
			return w.state.settle()
		}
		if err := w.sort(c); err != nil {
			return err
		}
	}
}

// sort puts a change into the list from which it will be delivered.
func (w *watcher) sort(c change) error {
	switch {
	case c.Type == eventMark:
		return w.mark(&c)
	case w.run != nil && w.busy == busyDrop:
		w.drop(&c)
	case w.run != nil && w.wait == 0: // --restart
		w.hold(c)
		w.restart()
	case w.wait > 0:
		if w.firstAt.IsZero() {
			w.firstAt = time.Now()
		}
		w.hold(c)
		w.quiet.Reset(min(w.wait, time.Until(w.firstAt.Add(debounceMost*w.wait))))
	case w.batch:
		w.hold(c)
	default:
		w.due = append(w.due, c)
	}
	return nil
}

// drop leaves out a change that arrived during a run. It counts as delivered once
// the run has succeeded.
func (w *watcher) drop(c *change) {
	run := w.run
	run.dropped++
	run.changes[len(run.changes)-1].at = c.at
	if c.Path == w.path && c.Type != "children" {
		missing := c.Type == "deleted" || c.Type == eventMissing
		run.missing = &missing
		w.met = w.met || w.until != nil && w.until.met(c.Type, c.Data)
	}
}

// hold keeps a change back. With --debounce the newest change of a znode replaces
// the older ones; changes of its children are counted separately. When too much is
// held back, all of it is delivered at once.
func (w *watcher) hold(c change) {
	if w.wait > 0 {
		key := heldKey{c.Path, c.Type == "children"}
		if i, ok := w.held[key]; ok {
			w.heldBytes -= weightOf(&w.pending[i])
			w.pending[i] = change{} // becomes a mark: flushPending leaves it out
		}
		if w.held == nil {
			w.held = map[heldKey]int{}
		}
		w.held[key] = len(w.pending)
	}
	w.pending = append(w.pending, c)
	if w.heldBytes += weightOf(&c); w.heldBytes >= backlogBytes {
		w.flushPending()
	}
}

// heldKey is the subject of a change.
type heldKey struct {
	path     string
	children bool
}

// flushPending moves the changes that were held back to due.
func (w *watcher) flushPending() {
	if len(w.pending) == 0 {
		return
	}
	if w.run != nil && w.busy == busyRestart {
		w.restart()
		return
	}
	for i := range w.pending {
		if w.pending[i].Type != eventMark {
			w.due = append(w.due, w.pending[i])
		}
	}
	w.pending, w.held, w.heldBytes, w.firstAt = nil, nil, 0, time.Time{}
}

// restart ends the run. The changes for the next run wait in pending until ran.
func (w *watcher) restart() {
	run := w.run
	if run.stopped != nil {
		return
	}
	run.stopped = make(chan struct{})
	go func() {
		run.end(time.Now().Add(stopGrace))
		close(run.stopped)
	}()
}

// mark moves the position past changes that are not reported. Changes that wait are
// delivered first: the last of them takes the position along.
func (w *watcher) mark(c *change) error {
	if c.now != "" {
		w.met = w.met || w.until != nil && w.until.met(c.now, c.Data)
	}
	before := w.pending
	if len(before) == 0 && w.run != nil {
		before = w.run.changes
	}
	switch n := len(before); {
	case n > 0:
		if last := &before[n-1]; last.at.zxid <= c.at.zxid {
			last.at = c.at
		}
		return nil
	case w.met:
		return errDone
	case w.failed || w.state == nil:
		return nil
	case w.state.at != nil && w.state.at.zxid > c.at.zxid:
		return nil
	}
	if c.now != "" {
		w.missing = c.now == eventMissing
	}
	return w.state.reached(c.at, w.missing, inAWhile)
}

// next delivers the first change of due, or all of them with --batch.
func (w *watcher) next() error {
	if len(w.argv) == 0 {
		c := w.due[0]
		w.due = w.due[1:]
		if err := w.print(&c.Event); err != nil {
			return err
		}
		return w.delivered([]change{c})
	}
	n := 1
	if w.batch {
		n = len(w.due)
	}
	changes := slices.Clone(w.due[:n])
	w.due = w.due[n:]
	if len(w.due) == 0 {
		w.due = nil
	}
	return w.start(changes)
}

// delivered notes that changes were delivered; errDone says that the watch has reached its end.
func (w *watcher) delivered(changes []change) error {
	when := atOnce
	if len(w.argv) == 0 {
		when = soon // while lines follow each other, not every one waits for the disk
	}
	for i := range changes {
		if c := &changes[i]; c.Path == w.path && c.Type != "children" {
			w.missing = c.Type == "deleted" || c.Type == eventMissing
		}
	}
	if err := w.advance(changes[len(changes)-1].at, when); err != nil {
		return err
	}
	return w.over(changes)
}

// advance moves the position past what was delivered.
func (w *watcher) advance(at position, when urgency) error {
	if w.state == nil || at == (position{}) {
		return nil
	}
	following, more := w.queue.next()
	if len(w.due) > 0 {
		following, more = w.due[0].at.zxid, true
	}
	if more && following > at.zxid {
		at.told = 0
	}
	return w.state.reached(at, w.missing, when)
}

// over returns errDone if these changes end the watch.
func (w *watcher) over(changes []change) error {
	done := w.once || w.met
	for i := range changes {
		c := &changes[i]
		done = done || w.until != nil && c.Path == w.path && w.until.met(c.Type, c.Data)
	}
	if done {
		return errDone
	}
	return nil
}

// start runs the command for some changes.
func (w *watcher) start(changes []change) error {
	last := &changes[len(changes)-1].Event
	began := &watchRun{changes: changes}
	env, err := began.environment(last)
	if err != nil {
		return err
	}
	stdin := last.Data
	if w.batch {
		stdin = nil
		for i := range changes {
			stdin = append(append(stdin, marshal(eventOf(&changes[i].Event))...), '\n')
		}
		env = append(env, "COORD_EVENTS="+strconv.Itoa(len(changes)))
	}
	if server := w.r.flags.String("server"); server != "" {
		env = append(env, "COORD_SERVER="+server) // for coord commands that it may call
	}
	in, closeIn := valueReader(stdin)
	defer closeIn()
	// The value is the command's stdin: the terminal stays coord's.
	noTerminal := &run{console: &console{}}
	if began.child, err = noTerminal.startChild(w.argv, env, in); err != nil {
		began.clean()
		if w.once {
			return err
		}
		w.failed = true
		w.r.note("coord: %s: %v", about(last), oneLine(err.Error()))
		return w.over(changes)
	}
	w.run = began
	return nil
}

// valueReader provides a value as stdin: a file in memory, so that nobody has to
// wait until it is read. Where such files are not supported, it is a pipe.
func valueReader(value []byte) (in io.Reader, done func()) {
	fd, err := unix.MemfdCreate("value", unix.MFD_CLOEXEC)
	if err != nil {
		return bytes.NewReader(value), func() {}
	}
	f := os.NewFile(uintptr(fd), "value")
	_, err = f.Write(value)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return bytes.NewReader(value), func() {}
	}
	return f, func() { _ = f.Close() }
}

// about names a change in messages.
func about(e *client.Event) string { return e.Type + " " + e.Path + " at " + e.Zxid.String() }

// environment returns the variables that describe a change. It sets all of them, so
// that none is inherited from an outer watch.
func (run *watchRun) environment(e *client.Event) ([]string, error) {
	version, value := "", ""
	if hasVersion(e) {
		version = strconv.Itoa(int(e.Version))
	}
	if len(e.Data) <= maxEnvValue && bytes.IndexByte(e.Data, 0) < 0 {
		value = string(e.Data)
	} else {
		f, err := os.CreateTemp("", "coord-value-")
		if err != nil {
			return nil, err
		}
		run.file = f.Name()
		_, err = f.Write(e.Data)
		if err = errors.Join(err, f.Close()); err != nil {
			run.clean()
			return nil, err
		}
	}
	return []string{
		"COORD_EVENT=" + e.Type, "COORD_PATH=" + e.Path, "COORD_ZXID=" + e.Zxid.String(),
		"COORD_VERSION=" + version, "COORD_VALUE=" + value, "COORD_VALUE_FILE=" + run.file,
	}, nil
}

// clean removes the file with the value.
func (run *watchRun) clean() {
	if run.file != "" {
		_ = os.Remove(run.file)
		run.file = ""
	}
}

// ran handles the end of a run.
func (w *watcher) ran() error {
	run := w.run
	w.run = nil
	run.clean()
	if run.stopped != nil { // by --restart
		if w.batch {
			w.pending = append(run.changes, w.pending...)
		} else if n := len(w.pending); n > 0 {
			w.pending = w.pending[n-1:]
		}
		w.flushPending()
		return nil
	}
	if run.dropped > 0 {
		w.r.note("coord: changes left out during the run: %d", run.dropped)
	}
	err := run.result()
	w.failed = err != nil
	switch {
	case err != nil && w.once:
		return err
	case err != nil:
		w.r.note("coord: %s: %s ended with exit code %d", about(&run.changes[len(run.changes)-1].Event), w.argv[0], exitCode(err))
		return w.over(run.changes)
	}
	err = w.delivered(run.changes)
	if run.missing != nil {
		w.missing = *run.missing
	}
	return err
}

// stop ends the current run, if any, with a signal; after stopGrace, or at the
// second signal, it sends KILL. No process of the group is left.
func (w *watcher) stop(sig syscall.Signal, again <-chan os.Signal) {
	run := w.run
	if run == nil {
		return
	}
	w.run = nil
	run.signal(sig)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
wait:
	for {
		select {
		case <-run.done:
			break wait
		case s := <-again:
			if s != syscall.SIGUSR1 && s != syscall.SIGUSR2 {
				break wait
			}
		case <-grace.C:
			break wait
		}
	}
	run.end(time.Now())
	run.clean()
}

// outputGone is closed when the reader of stdout has left. Otherwise coord would
// notice that only at the next change.
func (w *watcher) outputGone() (gone <-chan struct{}, stop func()) {
	f, real := w.r.stdout.w.(*os.File)
	if !real || len(w.argv) > 0 {
		return nil, func() {}
	}
	fd := int(f.Fd())
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, func() {}
	}
	left := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		for {
			n, err := unix.Poll(fds, 500)
			select {
			case <-stopped:
				return
			default:
			}
			switch {
			case err != nil && !errors.Is(err, unix.EINTR):
				return
			case n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
				close(left)
				return
			}
		}
	}()
	return left, func() { close(stopped) }
}
