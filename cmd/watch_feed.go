package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

// position is the point up to which changes are known, or were delivered.
type position struct {
	zxid znode.Zxid
	told int // how many of this txn's changes; 0: all
}

// change is a change that waits to be delivered.
type change struct {
	client.Event
	at position // the position after its delivery; zero: unchanged
	// now is set in a mark that says how PATH is: eventInitial or eventMissing.
	now string
}

// backlogBytes is how much may wait for delivery before the feed stops reading from
// the server. The server then disconnects such a client at some point, and the feed
// resumes where it was.
const backlogBytes = 16 << 20

// backlog passes changes from the feed to the goroutine that delivers them.
type backlog struct {
	ready  chan struct{} // receives when there is a change
	room   chan struct{} // receives when there is room again
	closed chan struct{}

	mu struct {
		sync.Mutex
		items []change
		bytes int
	}
}

func newBacklog() *backlog {
	return &backlog{ready: make(chan struct{}, 1), room: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (b *backlog) close() { close(b.closed) }

func weightOf(c *change) int { return 256 + len(c.Path) + len(c.Data) }

// push waits for room. A mark replaces the mark before it.
func (b *backlog) push(c change) {
	for !b.add(&c) {
		select {
		case <-b.room:
		case <-b.closed:
			return
		}
	}
	wake(b.ready)
}

func (b *backlog) add(c *change) bool {
	m := &b.mu
	m.Lock()
	defer m.Unlock()
	if n := len(m.items); n > 0 && c.Type == eventMark && m.items[n-1].Type == eventMark && m.items[n-1].now == "" {
		m.items[n-1] = *c
		return true
	}
	if m.bytes >= backlogBytes {
		return false
	}
	m.items = append(m.items, *c)
	m.bytes += weightOf(c)
	return true
}

func (b *backlog) take() (c change, ok bool) {
	m := &b.mu
	m.Lock()
	defer m.Unlock()
	if len(m.items) == 0 {
		return change{}, false
	}
	c, m.items[0] = m.items[0], change{}
	if m.items = m.items[1:]; len(m.items) == 0 {
		m.items = nil
	}
	m.bytes -= weightOf(&c)
	wake(b.room)
	return c, true
}

// next returns the zxid of the change that take would return.
func (b *backlog) next() (znode.Zxid, bool) {
	m := &b.mu
	m.Lock()
	defer m.Unlock()
	if len(m.items) == 0 {
		return 0, false
	}
	return m.items[0].at.zxid, true
}

func (b *backlog) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.bytes >= backlogBytes
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

const (
	signOfLife = 10 * time.Second // how often the server is asked for one, and the longest wait for it
	leastPause = 20 * time.Millisecond
	mostPause  = 2 * time.Second // between attempts to connect
)

// feed follows a path across lost connections and restarts of the server, and
// pushes each change once.
type feed struct {
	r                  *run
	path               string
	recursive, initial bool
	data               bool // with values
	current            bool // at the start, read the value of PATH too
	servers            []string
	options            client.Options
	away               time.Duration // the longest time without a server; 0: no limit
	queue              *backlog
	resume             *position // start after it; nil: start now
	missing            bool      // at resume, PATH was known not to exist
	stateFile          string    // where resume comes from

	ended chan struct{} // closed when run has returned err
	err   error

	mu struct {
		sync.Mutex
		seen    position // everything up to it was pushed
		missing bool     // PATH is known not to exist
		told    bool     // an event has told whether PATH exists
		skip    position // the changes that a replay repeats
		heard   time.Time
		shown   map[string]shown // znodes pushed as initial in a state newer than the start of the replay
		up      bool             // connected
	}
}

// shown holds the zxids of a state that was pushed as initial.
type shown struct{ mzxid, pzxid znode.Zxid }

// event handles an event of the server, in the reader goroutine of the connection.
func (f *feed) event(e client.Event) {
	m := &f.mu
	m.Lock()
	m.heard = time.Now()
	switch {
	case f.recursive && e.Type == "children": // not sent live; a replay may contain it
		m.Unlock()
		return
	case e.Zxid == m.skip.zxid && m.skip.told > 0:
		m.skip.told--
		m.Unlock()
		return
	case e.Zxid == m.seen.zxid:
		m.seen.told++
	default:
		m.seen = position{e.Zxid, 1}
	}
	if e.Path == f.path && e.Type != "children" {
		m.missing, m.told = e.Type == "deleted", true
	}
	at := m.seen
	if s, ok := m.shown[e.Path]; ok && (e.Zxid <= s.mzxid || e.Type == "children" && e.Zxid <= s.pzxid) {
		m.Unlock()
		return
	}
	m.Unlock()
	f.queue.push(change{Event: e, at: at})
}

// settle notes that all changes up to a zxid have been pushed.
func (f *feed) settle(zxid znode.Zxid) {
	f.mu.Lock()
	f.mu.heard = time.Now()
	if zxid >= f.mu.seen.zxid {
		f.mu.seen = position{zxid: zxid}
	}
	f.mu.Unlock()
	f.queue.push(change{Event: client.Event{Zxid: zxid}, at: position{zxid: zxid}})
}

// isMissing says whether PATH is known not to exist.
func (f *feed) isMissing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.missing
}

// isUp says whether the feed is connected.
func (f *feed) isUp() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.up
}

func (f *feed) setUp(up bool) {
	f.mu.Lock()
	f.mu.up, f.mu.heard = up, time.Now()
	f.mu.Unlock()
}

// run follows the path until ctx ends or the feed cannot continue.
func (f *feed) run(ctx context.Context) error {
	f.options.Events = f.event
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	if err = f.begin(ctx, c); err != nil {
		_ = c.Close()
		return f.explained(err)
	}
	for {
		f.setUp(true)
		err := f.listen(ctx, c)
		f.setUp(false)
		_ = c.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("the server closed the connection")
		}
		f.r.note("coord: connection lost, reconnecting: %v", oneLine(err.Error()))
		if c, err = f.reconnect(ctx, err); err != nil {
			return f.explained(err)
		}
	}
}

func (f *feed) connect(ctx context.Context) (*client.Conn, error) {
	ctx, cancel := f.r.limit(ctx)
	defer cancel()
	return client.Dial(ctx, f.servers, f.options)
}

// within gives a few replies the time of one step.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, stepWithin)
}

// explained adds advice to errors at the start of a watch.
func (f *feed) explained(err error) error {
	switch {
	case errors.Is(err, znode.ErrCompacted):
		hint := "--initial reports the present state of everything instead"
		if f.stateFile != "" {
			hint += "; remove " + f.stateFile + " to start with the next change"
		}
		return &hinted{err, hint}
	case f.resume != nil && errors.Is(err, znode.ErrTimeout) && f.stateFile != "":
		return &hinted{err, "is it another server, or older data? Remove " + f.stateFile + " to start the watch anew"}
	}
	return err
}

// begin asks the server for changes for the first time.
func (f *feed) begin(ctx context.Context, c *client.Conn) error {
	f.mu.missing = f.missing
	switch {
	case f.resume != nil:
		f.mu.seen = *f.resume
		err := f.goOn(ctx, c)
		if err != nil || !f.current {
			return err
		}
		at, err := f.greet(ctx, c)
		if err != nil {
			return err
		}
		return f.look(ctx, c, at)
	case f.initial:
		return f.tellAll(ctx, c)
	}
	follow, cancel := within(ctx)
	defer cancel()
	_, at, err := c.Follow(follow, f.path, client.FollowOptions{Recursive: f.recursive, Data: f.data})
	if err != nil {
		return err
	}
	f.mu.Lock()
	if at >= f.mu.seen.zxid {
		f.mu.seen = position{zxid: at}
	}
	f.mu.Unlock()
	return f.look(ctx, c, at)
}

// look reads the state of PATH and pushes it as a mark. at is where the watch begins.
func (f *feed) look(ctx context.Context, c *client.Conn, at znode.Zxid) error {
	ctx, cancel := within(ctx)
	defer cancel()
	mark := change{Event: client.Event{Path: f.path, Zxid: at}, at: position{zxid: at}, now: eventInitial}
	v, err := c.Get(ctx, f.path, client.GetOptions{})
	switch {
	case errors.Is(err, znode.ErrNoNode):
		mark.now = eventMissing
	case err != nil:
		return err
	}
	mark.Data = v.Data
	f.mu.Lock()
	if !f.mu.told {
		f.mu.missing = mark.now == eventMissing
	}
	f.mu.Unlock()
	if !f.current {
		mark.Data = nil
	}
	f.queue.push(mark)
	return nil
}

// goOn asks for the changes since the last one seen. If the server has forgotten
// that moment, it continues all the same when nothing has changed since.
func (f *feed) goOn(ctx context.Context, c *client.Conn) error {
	f.mu.Lock()
	seen := f.mu.seen
	f.mu.Unlock()
	err := f.followSince(ctx, c, seen)
	if errors.Is(err, znode.ErrCompacted) && seen.told > 0 {
		err = f.followSince(ctx, c, position{zxid: seen.zxid})
	}
	if errors.Is(err, znode.ErrCompacted) {
		at, same, lookErr := f.unchanged(ctx, c, seen.zxid)
		switch {
		case lookErr != nil:
			return lookErr
		case same:
			if err = f.followSince(ctx, c, position{zxid: at}); err == nil {
				f.settle(at)
			}
		case f.initial:
			f.r.note("coord: the server no longer knows the changes since %s: reporting the present state of everything", seen.zxid)
			return f.tellAll(ctx, c)
		default:
			return &client.Error{Code: znode.ErrCompacted, Op: -1, Message: fmt.Sprintf("changes of %s since %s are lost: the server no longer knows them", f.path, seen.zxid)}
		}
	}
	return err
}

// followSince asks for the changes after a position. event skips those changes of
// its txn that were already pushed.
func (f *feed) followSince(ctx context.Context, c *client.Conn, p position) error {
	since := p.zxid
	f.mu.Lock()
	f.mu.skip = p
	if p.told > 0 {
		since--
	}
	since = max(since, 1) // to the server, 0 means no Since; no zxid is as small as 1
	f.mu.Unlock()
	ctx, cancel := within(ctx)
	defer cancel()
	_, _, err := c.Follow(ctx, f.path, client.FollowOptions{Recursive: f.recursive, Data: f.data, Since: since, HasSince: true})
	return err
}

// greet returns a zxid: all events up to it have arrived.
func (f *feed) greet(ctx context.Context, c *client.Conn) (znode.Zxid, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	hello, err := c.Greet(ctx, "")
	return hello.Zxid, err
}

// unchanged says whether nothing that is followed has changed between since and at.
// Each change leaves its zxid in the znode's stat; a deletion leaves it in the
// parent's.
func (f *feed) unchanged(ctx context.Context, c *client.Conn, since znode.Zxid) (at znode.Zxid, same bool, err error) {
	if at, err = f.greet(ctx, c); err != nil {
		return 0, false, err
	}
	older := func(s *text.Stat) bool { return max(s.Czxid, s.Mzxid, s.Pzxid) <= since }
	missing := f.isMissing()
	if !f.recursive || missing {
		ctx, cancel := within(ctx)
		defer cancel()
		stat, ok, err := c.Exists(ctx, f.path)
		return at, err == nil && ok == !missing && (!ok || older(&stat)), err
	}
	for it, err := range c.Tree(ctx, f.path, client.ListOptions{Stat: true, Within: stepWithin}) {
		switch {
		case errors.Is(err, znode.ErrNoNode):
			return at, false, nil
		case err != nil:
			return at, false, err
		case !older(&it.Stat):
			return at, false, nil
		}
	}
	return at, true, nil
}

// tellAll pushes the current state of everything, and follows the changes from then on.
func (f *feed) tellAll(ctx context.Context, c *client.Conn) error {
	const attempts = 3
	for n := 1; ; n++ {
		at, err := f.greet(ctx, c)
		if err != nil {
			return err
		}
		seen := map[string]shown{}
		if err := f.tellNow(ctx, c, at, seen); err != nil {
			return err
		}
		f.mu.Lock()
		f.mu.seen, f.mu.shown = position{zxid: at}, seen
		f.mu.Unlock()
		f.queue.push(change{Event: client.Event{Zxid: at}, at: position{zxid: at}})
		err = f.followSince(ctx, c, position{zxid: at})
		if err == nil || n == attempts || !errors.Is(err, znode.ErrCompacted) {
			return err
		}
	}
}

// tellNow pushes the current state of everything. States newer than at go into
// seen, so that the changes that led to them are not reported again.
func (f *feed) tellNow(ctx context.Context, c *client.Conn, at znode.Zxid, seen map[string]shown) error {
	tell := func(path string, data []byte, stat *text.Stat) {
		if max(stat.Mzxid, stat.Pzxid) > at {
			seen[path] = shown{stat.Mzxid, stat.Pzxid}
		}
		e := client.Event{Type: eventInitial, Path: path, Zxid: stat.Mzxid, Version: stat.Version}
		if f.data {
			e.Data, e.HasData = data, true
		}
		f.queue.push(change{Event: e})
	}
	err := f.readNow(ctx, c, tell)
	missing := errors.Is(err, znode.ErrNoNode)
	if err != nil && !missing {
		return err
	}
	f.mu.Lock()
	f.mu.missing = missing
	f.mu.Unlock()
	if missing {
		f.queue.push(change{Event: client.Event{Type: eventMissing, Path: f.path, Zxid: at}})
	}
	return nil
}

// readNow reads the current state of everything.
func (f *feed) readNow(ctx context.Context, c *client.Conn, tell func(path string, data []byte, stat *text.Stat)) error {
	if !f.recursive {
		ctx, cancel := within(ctx)
		defer cancel()
		v, err := c.Get(ctx, f.path, client.GetOptions{Stat: true})
		if err == nil {
			tell(f.path, v.Data, &v.Stat)
		}
		return err
	}
	for it, err := range c.Tree(ctx, f.path, client.ListOptions{Stat: true, Data: f.data, Within: stepWithin}) {
		if err != nil {
			return err
		}
		if it.Err == nil { // otherwise it may not be read, and its changes are not reported either
			tell(it.Path, it.Data, &it.Stat)
		}
	}
	return nil
}

// listen waits until the connection ends. From time to time it asks the server for
// a sign of life, whose reply also says up to which zxid nothing has happened.
func (f *feed) listen(ctx context.Context, c *client.Conn) error {
	ask := time.NewTimer(0)
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.Done():
			return c.Err()
		case <-ask.C:
		}
		ask.Reset(signOfLife)
		f.mu.Lock()
		quiet := time.Since(f.mu.heard)
		f.mu.Unlock()
		if f.queue.full() || quiet < signOfLife/2 && f.seenWhole() {
			continue // the server cannot answer, or need not
		}
		zxid, err := f.greet(ctx, c)
		if err != nil {
			return err
		}
		f.settle(zxid)
	}
}

func (f *feed) seenWhole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.seen.told == 0
}

// reconnect tries again until the feed can continue, or until it has tried for too long.
func (f *feed) reconnect(ctx context.Context, lost error) (*client.Conn, error) {
	since := time.Now()
	for pause := leastPause; ; pause = min(2*pause, mostPause) {
		left := time.Duration(-1)
		if f.away > 0 {
			if left = f.away - time.Since(since); left <= 0 {
				if u, ok := errors.AsType[*client.UnreachableError](lost); ok {
					lost = u.Err
				}
				return nil, &client.UnreachableError{Server: f.named(), Err: fmt.Errorf("no connection for %v: %w", f.away, lost)}
			}
		}
		c, err := f.again(ctx, left)
		switch {
		case err == nil:
			f.r.note("coord: reconnected to %s after %v", c.Server(), time.Since(since).Round(time.Millisecond))
			return c, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !passes(err):
			return nil, err
		}
		lost = err
		wait := pause/2 + rand.N(pause/2) // so that not all watches reconnect at once
		if left > 0 {
			wait = min(wait, left)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (f *feed) named() string {
	if len(f.servers) == 0 {
		return client.DefaultServer
	}
	return f.r.flags.String("server")
}

// again makes one attempt.
func (f *feed) again(ctx context.Context, left time.Duration) (*client.Conn, error) {
	most := stepWithin
	if left > 0 {
		most = min(most, left)
	}
	dial, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	c, err := client.Dial(dial, f.servers, f.options)
	if err != nil {
		return nil, err
	}
	if err := f.goOn(ctx, c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// passes says whether the next attempt may succeed after this error.
func passes(err error) bool {
	if code, ok := errors.AsType[znode.Code](err); ok {
		switch code {
		case znode.ErrShutdown, znode.ErrNoLeader, znode.ErrTimeout, znode.ErrSlowClient, znode.ErrThrottledOp, znode.ErrLimit:
			return true
		}
		return false
	}
	return is[*client.UnreachableError](err)
}
