package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"coord/client"
	"coord/server/text"
	"coord/tree/znode"
)

// keeper is a server with one session, in a bubble of synctest.
type keeper struct {
	mu     sync.Mutex
	heard  []string // requests, without pings
	pings  int
	down   bool          // no client can connect
	mute   bool          // nothing is answered
	gone   znode.Code    // the answer to RESUME
	held   bool          // LOCK waits
	gate   chan struct{} // so does the whole connection, until this is closed
	blind  bool          // there is no leader: LOCK is refused
	cutOff bool          // the node cannot reach the leader, and answers only PING
	conns  []net.Conn
}

func (k *keeper) dial(context.Context) (*client.Conn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down {
		return nil, &client.UnreachableError{Server: "s", Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	k.conns = append(k.conns, far)
	go fake(k.answer).serve(far)
	return client.NewConn(near), nil
}

// cut ends all connections.
func (k *keeper) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, nc := range k.conns {
		_ = nc.Close()
	}
	k.conns = nil
}

func (k *keeper) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *keeper) answer(r *text.Request) []byte {
	k.mu.Lock()
	gate := k.gate
	k.mu.Unlock()
	if gate != nil && r.Verb == text.VerbLock {
		<-gate
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch r.Verb {
	case text.VerbPing:
		k.pings++
	case text.VerbSync:
	default:
		r.Tag = ""
		k.heard = append(k.heard, strings.ReplaceAll(strings.TrimSpace(string(text.AppendRequest(nil, r))), "\n", "|"))
	}
	switch {
	case k.mute || k.cutOff && r.Verb != text.VerbPing || k.held && (r.Verb == text.VerbLock || r.Verb == text.VerbPing || r.Verb == text.VerbSync):
		return []byte{}
	case k.blind && r.Verb == text.VerbLock:
		return reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoLeader})
	case r.Action == text.ResumeSession && k.gone != znode.OK:
		return reply(text.Reply{Kind: text.KindErr, Code: k.gone})
	case r.Action == text.NewSession, r.Action == text.ResumeSession:
		return ok(text.Hex(text.KeyID, 0x51), text.Duration(text.KeyTTL, r.TTLMS), text.Duration(text.KeyHold, r.HoldMS),
			text.Str(text.KeyPassword, strings.Repeat("ab", 16)))
	case r.Verb == text.VerbLock:
		return ok(text.Hex(text.KeyToken, 9), text.Str(text.KeyPath, r.Path+"/lock-0000000000"))
	}
	return ok()
}

func (k *keeper) all() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.heard, ", ")
}

const (
	newSession    = "SESSION NEW ttl=13500ms hold=9s live=ping"
	resumeSession = "SESSION RESUME 0x51 ttl=13500ms hold=9s live=ping :32|abababababababababababababababab"
)

func holding(t *testing.T, test func(t *testing.T, k *keeper, h *client.Holder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		h, err := client.Hold(t.Context(), k.dial, client.SessionOptions{TTL: 9 * time.Second}, nil)
		if err != nil {
			t.Fatal(err)
		}
		test(t, k, h)
		k.cut()
		synctest.Wait()
	})
}

// TestHoldPromisesNothingOfANodeAlone: a node that is cut off from the others answers pings for
// ever, while the leader ends the session and grants its lock to another client.
func TestHoldPromisesNothingOfANodeAlone(t *testing.T) {
	t.Parallel()
	holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
		until := h.Until()
		k.set(func() { k.cutOff = true })
		time.Sleep(time.Minute)
		if got := h.Until(); !got.Equal(until) {
			t.Errorf("without the leader Until has grown by %v", got.Sub(until))
		}
		k.set(func() { k.cutOff = false })
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestHoldPromises: Until counts from the time when an answered sign of life was sent, and nothing
// else extends it.
func TestHoldPromises(t *testing.T) {
	t.Parallel()
	holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
		start := time.Now()
		time.Sleep(4 * time.Second)
		if got := h.Until().Sub(start); got != 12*time.Second { // the sign of life at 3 s
			t.Errorf("after 4 s: until %v", got)
		}
		k.set(func() { k.mute = true })
		time.Sleep(7 * time.Second)
		if got := h.Until().Sub(start); got != 12*time.Second {
			t.Errorf("without answers: until %v", got)
		}
		k.set(func() { k.mute = false })
		time.Sleep(9 * time.Second)
		if got := time.Until(h.Until()); got < 5*time.Second || h.Err() != nil {
			t.Errorf("with answers again: %v left, %v", got, h.Err())
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := k.all(); !strings.HasPrefix(got, newSession+", "+resumeSession) || !strings.HasSuffix(got, "SESSION CLOSE") {
			t.Errorf("heard %s", got)
		}
	})
}

// TestHoldResumes: the session is resumed after a lost connection, and after the server was down
// for a while.
func TestHoldResumes(t *testing.T) {
	t.Parallel()
	holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
		k.set(func() { k.down = true })
		k.cut()
		time.Sleep(5 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := h.Conn(ctx); err == nil {
			t.Error("a connection to a server that is away")
		}
		k.set(func() { k.down = false })
		c, err := h.Conn(t.Context())
		if err != nil || c.Ping(t.Context()) != nil {
			t.Fatal(err)
		}
		if left := time.Until(h.Until()); left < 8*time.Second {
			t.Errorf("resumed, and %v left", left)
		}
		if err := h.Detach(t.Context(), time.Minute); err != nil {
			t.Error(err)
		}
		// Twice, if the holder was stopped during a sign of life, which ends the connection.
		got := strings.Replace(k.all(), resumeSession+", "+resumeSession, resumeSession, 1)
		if want := newSession + ", " + resumeSession + ", SESSION DETACH hold=60s"; got != want {
			t.Errorf("heard %s\nwant %s", got, want)
		}
	})
}

// TestHoldIsLost: the session is lost when the server says so, and not before. H23 (consul#9788):
// the holder of a lock did not learn in time that it had lost it.
func TestHoldIsLost(t *testing.T) {
	t.Parallel()
	for _, code := range []znode.Code{znode.ErrSessionExpired, znode.ErrAuthFailed} {
		holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
			k.set(func() { k.gone = code })
			select {
			case <-h.Lost():
				t.Error("lost")
			default:
			}
			k.cut()
			<-h.Lost()
			if !errors.Is(h.Err(), code) {
				t.Errorf("%v: %v", code, h.Err())
			}
			if _, err := h.Conn(t.Context()); !errors.Is(err, code) {
				t.Errorf("%v: %v", code, err)
			}
			if err := h.Close(t.Context()); !errors.Is(err, code) {
				t.Errorf("%v: %v", code, err)
			}
		})
	}
}

// TestHoldResumesWhenItIsLate: if a LOCK has waited until after the promised time, the leader may have decided to end
// the session, and an answered SYNC does not disprove that. A resume over another connection does.
func TestHoldResumesWhenItIsLate(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{time.Minute, 20 * time.Second} { // the LOCK has time left, or none
		holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
			gate := make(chan struct{})
			k.set(func() { k.gate = gate })
			locked := make(chan error)
			go func() {
				_, err := h.Lock(t.Context(), "/l", client.LockOptions{Timeout: wait})
				locked <- err
			}()
			time.Sleep(20 * time.Second)
			k.set(func() { k.gate = nil })
			close(gate)
			if err := <-locked; err != nil {
				t.Error(err)
			}
			heard := k.all()
			if lock, anew := strings.Index(heard, "LOCK "), strings.Index(heard, resumeSession); anew < lock {
				t.Errorf("heard %s", heard)
			}
			if left := time.Until(h.Until()); left < 8*time.Second {
				t.Errorf("locked, and %v left", left)
			}
			if err := h.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHoldLock: while a LOCK waits, the signs of life go on, though their answers come after its
// own. After a lost connection the LOCK is repeated with the remaining time. Until counts from
// after the LOCK.
func TestHoldLock(t *testing.T) {
	t.Parallel()
	holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
		k.set(func() { k.held = true })
		var l client.Lock
		locked := make(chan error)
		go func() {
			var err error
			l, err = h.Lock(t.Context(), "/l", client.LockOptions{Timeout: time.Minute})
			locked <- err
		}()
		time.Sleep(10 * time.Second)
		k.mu.Lock()
		pings := k.pings
		k.mu.Unlock()
		if pings != 3 {
			t.Errorf("%d pings in 10 s", pings)
		}
		k.set(func() { k.held = false })
		k.cut()
		if err := <-locked; err != nil || l.Token != 9 || l.Child != "/l/lock-0000000000" {
			t.Errorf("%+v, %v", l, err)
		}
		if left := time.Until(h.Until()); left < 8*time.Second {
			t.Errorf("locked, and %v left", left)
		}
		if got := k.all(); !strings.Contains(got, newSession+", LOCK /l timeout=60s, "+resumeSession+", LOCK /l timeout=") || strings.Count(got, "timeout=60s") != 1 {
			t.Errorf("heard %s", got)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestHoldLockWithoutLeader: a refusal because there is no leader is not final. The LOCK is
// repeated, with pauses, until there is one.
func TestHoldLockWithoutLeader(t *testing.T) {
	t.Parallel()
	holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
		k.set(func() { k.blind = true })
		time.AfterFunc(2450*time.Millisecond, func() { k.set(func() { k.blind = false }) })
		start := time.Now()
		if l, err := h.Lock(t.Context(), "/l", client.LockOptions{Timeout: time.Minute}); err != nil || l.Token != 9 {
			t.Errorf("%+v, %v", l, err)
		}
		if took := time.Since(start); took < 2450*time.Millisecond || took > 3*time.Second {
			t.Errorf("locked after %v", took)
		}
		if got := k.all(); strings.Count(got, "LOCK ") > 30 || !strings.HasSuffix(got, resumeSession+", LOCK /l timeout=57500ms") {
			t.Errorf("heard %s", got)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestHoldLockInTime: the timeout of a LOCK ends it even if there is no leader, no server, or none
// that answers, and the error says which.
func TestHoldLockInTime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(k *keeper)
		took   time.Duration
		is     func(error) bool
	}{
		{"no leader", func(k *keeper) { k.blind = true }, 20 * time.Second, func(err error) bool { return errors.Is(err, znode.ErrNoLeader) }},
		{"no server", func(k *keeper) { k.down = true }, 23 * time.Second, func(err error) bool {
			_, ok := errors.AsType[*client.UnreachableError](err)
			return ok
		}},
		{"no answer", func(k *keeper) { k.mute = true }, 23 * time.Second, func(err error) bool { return errors.Is(err, znode.ErrUncertain) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
				k.set(func() { test.change(k) })
				if test.name == "no server" {
					k.cut()
				}
				start := time.Now()
				_, err := h.Lock(t.Context(), "/l", client.LockOptions{Timeout: 20 * time.Second})
				if took := time.Since(start); !test.is(err) || took < test.took || took > test.took+time.Second {
					t.Errorf("%v after %v", err, took)
				}
				k.set(func() { k.down, k.mute, k.blind = false, false, false })
				if err := h.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestHoldCloseAfterCancel: a context that ends while a LOCK waits closes the connection; Close
// still ends the session.
func TestHoldCloseAfterCancel(t *testing.T) {
	t.Parallel()
	holding(t, func(t *testing.T, k *keeper, h *client.Holder) {
		k.set(func() { k.held = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h.Lock(ctx, "/l", client.LockOptions{Timeout: time.Minute}); err == nil {
			t.Error("locked")
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := k.all(); !strings.HasSuffix(got, "SESSION CLOSE") {
			t.Errorf("heard %s", got)
		}
	})
}

// inTurn dials the servers in turn.
func inTurn(servers []string) func(context.Context) (*client.Conn, error) {
	turn := 0
	return func(ctx context.Context) (*client.Conn, error) {
		turn++
		return client.Dial(ctx, servers[(turn-1)%len(servers):][:1], client.Options{})
	}
}

// TestHoldLockGoesOnElsewhere: while a LOCK waits, no later request on its connection is answered.
// The holder leaves a server that hangs or is cut off from the leader all the same.
func TestHoldLockGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string][]byte{"hangs": {}, "cut off": reply(text.Reply{Kind: text.KindErr, Code: znode.ErrNoLeader})} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The place in the queue moves with the session only if the session was resumed before the end of the
			// connection. The holder has a second for that; a stalled machine may need longer.
			for tries := 1; ; tries++ {
				heard, took := lockElsewhere(t, silence)
				if end := strings.Index(heard, "the end"); end < 0 || end > strings.Index(heard, "SESSION RESUME") {
					break
				}
				if took < time.Second || tries == 20 {
					t.Fatalf("after %v: heard %s", took, heard)
				}
			}
		})
	}
}

// lockElsewhere locks at the second of two servers, because the first one answers nothing but silence after
// it got the LOCK. It returns what the servers have heard, with "the end" for the end of the connection to
// the first, and how long that took.
func lockElsewhere(t *testing.T, silence []byte) (heard string, took time.Duration) {
	t.Helper()
	k := &keeper{}
	var waits atomic.Bool
	servers := []string{
		listen(t, func(nc net.Conn) {
			barrier := false
			fake(func(r *text.Request) []byte {
				switch {
				case barrier || r.Verb == text.VerbLock:
					barrier = true
					waits.Store(true)
					return []byte{}
				case waits.Load():
					return silence
				}
				return k.answer(r)
			}).serve(nc)
			if barrier {
				k.set(func() { k.heard = append(k.heard, "the end") })
			}
		}),
		listen(t, fake(k.answer).serve),
	}
	h, err := client.Hold(t.Context(), inTurn(servers), client.SessionOptions{TTL: 300 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if l, err := h.Lock(short(t), "/l", client.LockOptions{Timeout: time.Hour}); err != nil || l.Token != 9 || !waits.Load() {
		t.Errorf("%+v, %v", l, err)
	}
	took, heard = time.Since(begun), k.all()
	waits.Store(false) // on a busy machine the holder may have come back to this server
	if err := h.Close(short(t)); err != nil {
		t.Error(err)
	}
	return heard, took
}

// TestHoldLockComesWhileTheSessionMoves: a session that its own holder has moved is not lost.
func TestHoldLockComesWhileTheSessionMoves(t *testing.T) {
	t.Parallel()
	// The holder notices after two seconds that the first server hangs, and has one to move the session: a stalled
	// machine may need longer.
	for tries := 1; ; tries++ {
		told, took := lockWhileItMoves(t)
		if told {
			break
		}
		if took < 3*time.Second || tries == 20 {
			t.Fatalf("after %v: the LOCK's connection ended before its answer came", took)
		}
	}
}

// lockWhileItMoves locks at the first of two servers, which answers the LOCK while the second one answers that the
// session is resumed there, and says then that the session has moved. It returns whether the holder was told so,
// and how long that took.
func lockWhileItMoves(t *testing.T) (told bool, took time.Duration) {
	t.Helper()
	k := &keeper{}
	comes, moved, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	// Each may happen again if the machine is stalled.
	come, move, end := sync.OnceFunc(func() { close(comes) }), sync.OnceFunc(func() { close(moved) }), sync.OnceFunc(func() { close(ended) })
	var waits atomic.Bool
	servers := []string{
		listen(t, func(nc net.Conn) {
			barrier := false
			fake(func(r *text.Request) []byte {
				switch {
				case r.Verb == text.VerbLock:
					barrier = true
					waits.Store(true)
					answer := k.answer(r)
					go func() {
						<-comes
						_, _ = nc.Write(answer)
					}()
					return []byte{}
				case barrier && r.Verb == text.VerbPing: // its answer would come after that of the LOCK
					return []byte{}
				case barrier && r.Verb == text.VerbSync:
					_, _ = nc.Write(reply(text.Reply{Kind: text.KindEvent, Arg: "moved", Fields: []text.Field{text.Hex(text.KeySession, 0x51)}}))
					move()
					return []byte{}
				case waits.Load() && !barrier:
					return []byte{} // the server hangs, except for that LOCK
				}
				return k.answer(r)
			}).serve(nc)
			if barrier {
				end()
			}
		}),
		listen(t, fake(func(r *text.Request) []byte {
			if r.Action == text.ResumeSession {
				come()
				select {
				case <-moved:
					time.Sleep(50 * time.Millisecond) // so that the holder is told before its connection is replaced
				case <-ended:
				}
			}
			return k.answer(r)
		}).serve),
	}
	h, err := client.Hold(t.Context(), inTurn(servers), client.SessionOptions{TTL: 3 * time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if l, err := h.Lock(short(t), "/l", client.LockOptions{Timeout: time.Hour}); err != nil || l.Token != 9 || h.Err() != nil {
		t.Errorf("%+v, %v, %v", l, err, h.Err())
	}
	took = time.Since(begun)
	waits.Store(false)
	if err := h.Close(short(t)); err != nil {
		t.Error(err)
	}
	select {
	case <-moved:
		told = true
	default:
	}
	return told, took
}

// TestHoldCloseWhileLockWaits: the session ends at once, though a LOCK of another goroutine is the
// first unanswered request on its connection, and that LOCK returns an error.
func TestHoldCloseWhileLockWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		dial := func(context.Context) (*client.Conn, error) {
			near, far := net.Pipe()
			barrier := false
			go fake(func(r *text.Request) []byte {
				if barrier = barrier || r.Verb == text.VerbLock; barrier {
					return []byte{}
				}
				return k.answer(r)
			}).serve(far)
			return client.NewConn(near), nil
		}
		h, err := client.Hold(t.Context(), dial, client.SessionOptions{TTL: 9 * time.Second}, nil)
		if err != nil {
			t.Fatal(err)
		}
		locked := make(chan error, 1)
		go func() {
			_, err := h.Lock(t.Context(), "/l", client.LockOptions{Timeout: time.Hour})
			locked <- err
		}()
		synctest.Wait()
		begun := time.Now()
		if err := h.Close(short(t)); err != nil {
			t.Error(err)
		}
		if err := <-locked; err == nil {
			t.Error("locked")
		}
		if took := time.Since(begun); took > time.Second || !strings.HasSuffix(k.all(), "SESSION CLOSE") {
			t.Errorf("%v; heard %s", took, k.all())
		}
		synctest.Wait()
	})
}

// TestHoldNeedsATTL: without a TTL nothing could be promised.
func TestHoldNeedsATTL(t *testing.T) {
	t.Parallel()
	k := &keeper{}
	for _, ttl := range []time.Duration{0, -time.Second, time.Microsecond} {
		if _, err := client.Hold(t.Context(), k.dial, client.SessionOptions{TTL: ttl}, nil); !errors.Is(err, znode.ErrBadArguments) {
			t.Errorf("%v: %v", ttl, err)
		}
	}
}
