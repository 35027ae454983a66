package session_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/session"
	"coord/tree"
	"coord/tree/znode"
)

// late is how much later than its deadline a session may end.
const late = time.Second

func (b *bench) open(id int64, timeout time.Duration) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	x := tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id, TimeoutMS: int32(timeout.Milliseconds()), Password: make([]byte, 16)}
	if r := b.apply(x); r.Code != znode.OK {
		b.Fatalf("session %d: %v", id, r.Code)
	}
}

// sessions lets time pass and then lists the sessions.
func (b *bench) sessions(after time.Duration) (ids []int64) {
	time.Sleep(after)
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tree.Sessions(0, func(s tree.Session, _ int) bool {
		ids = append(ids, s.ID)
		return true
	})
	return ids
}

func (b *bench) alive(after time.Duration, want ...int64) {
	b.Helper()
	if got := b.sessions(after); !slices.Equal(got, want) {
		b.Errorf("%v on: sessions %v, want %v", time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), got, want)
	}
}

// TestASessionEndsInTime: never before its time is over, and soon after, whatever its time is and
// whenever it begins.
func TestASessionEndsInTime(t *testing.T) {
	for _, begin := range []time.Duration{0, time.Millisecond, 249 * time.Millisecond, 250 * time.Millisecond, 999 * time.Millisecond} {
		for _, ttl := range []time.Duration{time.Millisecond, 250 * time.Millisecond, 10 * time.Second, 2 * time.Minute} {
			for how, begins := range map[string]func(b *bench){
				"attached": func(b *bench) { b.keeper.Attach(1, 0, ttl, false) },
				"detached": func(b *bench) { b.keeper.Detach(1, 0, ttl) },
				"touched": func(b *bench) {
					b.keeper.Attach(1, 0, ttl, false)
					for range 5 {
						b.alive(ttl-time.Millisecond/2, 1)
						b.keeper.Touch(1)
					}
				},
				"left": func(b *bench) {
					b.keeper.Attach(1, 0, time.Minute, true)
					b.alive(2*time.Minute, 1)
					b.keeper.Touch(1)
					b.keeper.Detach(1, 0, ttl)
				},
				"resumed": func(b *bench) {
					b.keeper.Detach(1, 0, time.Minute)
					b.alive(59*time.Second, 1)
					b.keeper.Attach(1, 0, time.Hour, true)
					b.alive(2*time.Minute, 1)
					b.keeper.Attach(1, 0, ttl, false)
				},
				"kept": func(b *bench) {
					b.keeper.Attach(1, 0, ttl, false)
					b.keeper.Attach(1, 0, ttl, true)
					b.alive(5*time.Minute, 1)
					b.keeper.Detach(1, 0, ttl)
				},
			} {
				t.Run(fmt.Sprintf("%v from %v %s", ttl, begin, how), func(t *testing.T) {
					run(t, func(b *bench) {
						time.Sleep(begin)
						b.open(1, ttl)
						begins(b)
						b.alive(ttl-time.Millisecond/2, 1)
						b.alive(time.Millisecond/2 + late)
						time.Sleep(late)
						if n := session.Known(b.keeper); n != 0 {
							t.Errorf("%d sessions are remembered", n)
						}
					})
				})
			}
		}
	}
}

// TestARestartGivesSessionsTheirTimeAgain: the time in their record, because a started keeper does
// not know who served them.
func TestARestartGivesSessionsTheirTimeAgain(t *testing.T) {
	run(t, func(b *bench) {
		b.open(1, 5*time.Second)
		b.open(2, 20*time.Second)
		b.keeper.Attach(1, 0, time.Hour, true)
		b.keeper.Detach(2, 0, time.Second)
		for range 3 {
			b.alive(900*time.Millisecond, 1, 2)
			b.stop()
			b.alive(time.Hour, 1, 2) // no keeper runs
			b.start()
		}
		b.alive(4900*time.Millisecond, 1, 2)
		b.keeper.Touch(2) // the session has no connection, so this counts for nothing
		b.alive(late, 2)
		b.alive(14*time.Second, 2)
		b.alive(late)
	})
}

// TestManySessionsEndInTime, and those with a client live on.
func TestManySessionsEndInTime(t *testing.T) {
	run(t, func(b *bench) {
		const count = 10_000
		var stay []int64
		for i := int64(1); i <= count; i++ {
			b.open(i, 5*time.Second)
			if i%1000 == 0 {
				b.keeper.Attach(i, 0, time.Second, true)
				stay = append(stay, i)
			}
		}
		if n := len(b.sessions(5*time.Second - 1)); n != count {
			t.Errorf("%d sessions", n)
		}
		b.alive(late, stay...)
	})
}

// TestAResumptionBetweenTheLookAndTheTxnWins, if it comes before the close of that session is proposed.
func TestAResumptionBetweenTheLookAndTheTxnWins(t *testing.T) {
	run(t, func(b *bench) {
		for id := range int64(4) {
			b.open(id+1, time.Second)
		}
		b.keeper.Attach(3, 0, time.Second+expireEvery, false) // due together with those that have no connection
		b.mu.Lock()
		b.before = func(string) {
			b.keeper.Attach(2, 0, time.Second, true)
			b.keeper.Touch(3)
		}
		b.mu.Unlock()
		b.alive(time.Second+late/2, 2, 3)
		b.alive(400*time.Millisecond, 2, 3)
		b.mu.Lock()
		b.before = nil
		b.mu.Unlock()
		b.alive(late, 2)
	})
}

// TestAClosingThatFailsIsTriedAgain, but not while it is under way.
func TestAClosingThatFailsIsTriedAgain(t *testing.T) {
	run(t, func(b *bench) {
		b.open(1, time.Second)
		b.mu.Lock()
		b.stalled = []func(tree.Result){}
		b.mu.Unlock()
		b.alive(time.Minute, 1)
		b.mu.Lock()
		dones := b.stalled
		b.stalled = nil
		b.mu.Unlock()
		if len(dones) != 1 {
			t.Fatalf("%d closings", len(dones))
		}
		dones[0](tree.Result{Code: znode.ErrThrottledOp})
		b.alive(late)
	})
}

// TestConnectionsComeAndGo at random, all at once; each session ends in its time after the last call about it.
func TestConnectionsComeAndGo(t *testing.T) {
	run(t, func(b *bench) {
		const count = 50
		var all sync.WaitGroup
		ends := make([]time.Time, count+1)
		for id := int64(1); id <= count; id++ {
			b.open(id, time.Minute)
			all.Go(func() {
				for range 30 {
					ttl := time.Duration(1+rand.IntN(5000)) * time.Millisecond
					switch rand.IntN(3) {
					case 0:
						b.keeper.Attach(id, 0, ttl, false)
					case 1:
						b.keeper.Attach(id, 0, ttl, true)
					case 2:
						b.keeper.Detach(id, 0, ttl)
					}
					time.Sleep(rand.N(ttl))
					b.keeper.Touch(id)
				}
				hold := time.Duration(1+rand.IntN(20_000)) * time.Millisecond
				b.keeper.Detach(id, 0, hold)
				ends[id] = time.Now().Add(hold)
			})
		}
		all.Wait()
		for len(b.sessions(0)) > 0 {
			now, ids := time.Now(), b.sessions(0)
			for id := int64(1); id <= count; id++ {
				if is := slices.Contains(ids, id); is && now.Sub(ends[id]) > late || !is && now.Before(ends[id]) {
					t.Fatalf("session %d: there %v, its end is %v away", id, is, ends[id].Sub(now))
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}
