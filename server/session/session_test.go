package session_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/session"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// bench is a replica in one goroutine, and a keeper that works on it.
type bench struct {
	*testing.T
	config session.Config
	keeper *session.Keeper
	stop   func()

	mu      sync.Mutex
	tree    *tree.Tree
	step    time.Duration       // of the clock that stamps txns
	reaps   []string            // proposed, with their results
	before  func(path string)   // runs between a keeper's look and its txn
	stalled []func(tree.Result) // while it is not nil, nothing is applied; these are the waiting dones
}

func run(t *testing.T, test func(*bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, tree: tree.New()}
		b.config = session.Config{Replica: b, ContainerInterval: time.Minute}
		b.start()
		test(b)
		b.stop()
	})
}

// start runs a new keeper.
func (b *bench) start() {
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	k := session.New(b.config)
	b.keeper = k
	go func() { ended <- k.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("Run: %v", err)
		}
	}
}

func (b *bench) View(read func(*tree.Tree, *watch.Table)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	read(b.tree, nil)
}

func (b *bench) Decide(x *tree.Txn, done func(tree.Result, *tree.Tree, *watch.Table)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stalled != nil {
		b.reaps = append(b.reaps, x.Path)
		b.stalled = append(b.stalled, func(r tree.Result) { done(r, b.tree, nil) })
		return
	}
	if before := b.before; before != nil {
		b.mu.Unlock()
		before(x.Path)
		b.mu.Lock()
	}
	r := b.apply(*x)
	b.reaps = append(b.reaps, fmt.Sprintf("%s %v", x.Path, r.Code))
	done(r, b.tree, nil)
}

func (b *bench) apply(x tree.Txn) tree.Result {
	x.TimeMS = time.Now().Add(b.step).UnixMilli()
	r, _ := b.tree.Apply(1, &x)
	return r
}

func (b *bench) must(op tree.Op) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.apply(tree.Txn{Op: op}); r.Code != znode.OK {
		b.Fatalf("%s: %v", op.Path, r.Code)
	}
}

func (b *bench) create(path string, mode znode.Mode, ttl time.Duration) {
	b.Helper()
	b.must(tree.Op{Kind: tree.KindCreate, Path: path, Mode: mode, TTLMS: ttl.Milliseconds(), Data: []byte{}, ACL: znode.OpenACL})
}

func (b *bench) remove(path string) {
	b.Helper()
	b.must(tree.Op{Kind: tree.KindDelete, Path: path, Version: tree.AnyVersion})
}

// after lets time pass and then demands that exactly the given paths exist.
func (b *bench) after(d time.Duration, there ...string) {
	b.Helper()
	time.Sleep(d)
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	var have []string
	b.tree.Walk(znode.Root, "", -1, nil, func(path string, _ func() tree.Znode) bool {
		if path != znode.Root && !znode.Reserved(path) && !strings.HasPrefix(path, znode.SystemPath) {
			have = append(have, path)
		}
		return true
	})
	if !slices.Equal(have, there) {
		b.Errorf("%v on: %v are there, want %v; proposed %v", time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), have, there, b.reaps)
	}
}

// The keeper looks once a second, and a znode's time begins at the first look after the change. So
// the znode goes up to two looks late.
const slack = 2 * time.Second

func TestAnEmptiedContainerGoesAfterItsInterval(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/c", znode.Container, 0)
		b.create("/c/a", znode.Persistent, 0)
		b.after(10*time.Minute, "/c", "/c/a")
		b.remove("/c/a")
		b.after(time.Minute-time.Millisecond, "/c")
		b.after(slack)
		if len(b.reaps) != 1 {
			b.Errorf("proposed %v", b.reaps)
		}
	})
}

// With a short container interval, containers and TTL znodes are looked at more often: ZooKeeper's own
// tests, and those of software built on it, wait for less than a second.
func TestAShortIntervalIsKept(t *testing.T) {
	run(t, func(b *bench) {
		b.stop()
		b.config.ContainerInterval = 100 * time.Millisecond
		b.start()
		b.create("/c", znode.Container, 0)
		b.create("/c/a", znode.Persistent, 0)
		b.create("/t", znode.PersistentTTL, time.Millisecond)
		b.remove("/c/a")
		b.after(600 * time.Millisecond)
	})
}

func TestAContainerThatWasNeverUsedStays(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/c", znode.Container, 0)
		b.create("/p", znode.Persistent, 0)
		b.after(24*time.Hour, "/c", "/p")
		if len(b.reaps) != 0 {
			b.Errorf("proposed %v", b.reaps)
		}
	})
}

// A child, even for less than a second, gives a container its whole time again.
func TestAChildGivesAContainerItsTimeAgain(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/c", znode.Container, 0)
		for range 5 {
			b.create("/c/a", znode.Persistent, 0)
			b.after(300*time.Millisecond, "/c", "/c/a")
			b.remove("/c/a")
			b.after(50*time.Second, "/c")
		}
		b.after(10*time.Second + slack)
	})
}

func TestATTLZnodeGoesAfterItsTime(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/a", znode.PersistentTTL, 10*time.Second)
		b.create("/b", znode.PersistentTTL, 5*time.Minute)
		b.create("/c", znode.PersistentTTL, time.Duration(znode.MaxTTLMS)*time.Millisecond)
		b.after(10*time.Second-time.Millisecond, "/a", "/b", "/c")
		b.after(slack, "/b", "/c")
		b.after(5*time.Minute, "/c")
	})
}

func TestASetGivesATTLZnodeItsTimeAgain(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/a", znode.PersistentTTL, 10*time.Second)
		for range 10 {
			b.after(9*time.Second, "/a")
			b.must(tree.Op{Kind: tree.KindSetData, Path: "/a", Version: tree.AnyVersion})
		}
		b.after(10*time.Second + slack)
	})
}

func TestATTLZnodeWithChildrenStays(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/a", znode.PersistentTTL, 10*time.Second)
		b.create("/a/b", znode.Persistent, 0)
		b.after(time.Hour, "/a", "/a/b")
		b.remove("/a/b")
		b.after(10*time.Second-time.Millisecond, "/a")
		b.after(slack)
	})
}

// A deleted znode leaves no age to a new one of the same name.
func TestANewZnodeHasATimeOfItsOwn(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/a", znode.PersistentTTL, 10*time.Second)
		b.after(9*time.Second, "/a")
		b.remove("/a")
		b.create("/a", znode.PersistentTTL, 10*time.Second)
		b.after(9*time.Second, "/a")
		b.after(time.Second + slack)
	})
}

func TestAChangeBetweenTheLookAndTheTxnWins(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/c", znode.Container, 0)
		b.create("/c/a", znode.Persistent, 0)
		b.remove("/c/a")
		b.create("/t", znode.PersistentTTL, time.Minute)
		once := map[string]bool{}
		b.mu.Lock()
		b.before = func(path string) {
			switch {
			case once[path]:
			case path == "/c":
				b.create("/c/late", znode.Persistent, 0)
			case path == "/t":
				b.must(tree.Op{Kind: tree.KindSetData, Path: "/t", Version: tree.AnyVersion})
			}
			once[path] = true
		}
		b.mu.Unlock()
		b.after(time.Minute+slack, "/c", "/c/late", "/t")
		if len(b.reaps) != 2 {
			b.Errorf("proposed %v", b.reaps)
		}
		// Their time begins anew.
		b.remove("/c/late")
		b.after(time.Minute-slack, "/c", "/t")
		b.after(2 * slack)
	})
}

// A new leader gives every candidate its whole time.
func TestARestartBeginsEveryDeadlineAnew(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/c", znode.Container, 0)
		b.create("/c/a", znode.Persistent, 0)
		b.remove("/c/a")
		b.create("/t", znode.PersistentTTL, time.Minute)
		for range 3 {
			b.after(58*time.Second, "/c", "/t")
			b.stop()
			b.after(time.Hour, "/c", "/t") // no keeper runs
			b.start()
		}
		b.after(time.Minute + slack)
	})
}

func TestARoundProposesOnlySoMany(t *testing.T) {
	run(t, func(b *bench) {
		const count = 2500
		for i := range count {
			b.create(fmt.Sprintf("/%d", i), znode.PersistentTTL, time.Second)
		}
		time.Sleep(500 * time.Millisecond) // between two looks
		for _, want := range []int{0, 0, 1000, 2000, 2500, 2500} {
			b.View(func(*tree.Tree, *watch.Table) {
				if len(b.reaps) != want {
					b.Errorf("%d proposed, want %d", len(b.reaps), want)
				}
			})
			time.Sleep(time.Second)
		}
		b.after(0)
	})
}

// While the replica does not answer, proposals are not repeated.
func TestOneRoundIsUnderWayAtATime(t *testing.T) {
	run(t, func(b *bench) {
		b.create("/a", znode.PersistentTTL, time.Second)
		b.create("/b", znode.PersistentTTL, time.Hour)
		b.mu.Lock()
		b.stalled = []func(tree.Result){}
		b.mu.Unlock()
		b.after(time.Minute, "/a", "/b")
		if len(b.reaps) != 1 {
			b.Fatalf("proposed %v", b.reaps)
		}
		b.mu.Lock()
		dones := b.stalled
		b.stalled = nil
		b.mu.Unlock()
		for _, done := range dones {
			done(tree.Result{Code: znode.ErrThrottledOp})
		}
		b.after(slack, "/b")
	})
}
