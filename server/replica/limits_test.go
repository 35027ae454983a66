package replica_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/replica"
	"coord/tree"
	"coord/tree/znode"
)

func TestTooMuchPendingIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		n.must(create("/a"))
		n.log.hold()
		data := strings.Repeat("x", 1<<20)
		var all []*answer
		for range 70 {
			all = append(all, n.submit(set("/a", data)))
		}
		synctest.Wait()
		for i, a := range all {
			if refused := i >= 63; (a.times() == 1) != refused || refused && a.code() != znode.ErrThrottledOp {
				t.Fatalf("write %d: %d answers, %v", i, a.times(), a.code())
			}
		}
		if p := n.Stats().PendingBytes; p > replica.MaxPendingBytes || p < replica.MaxPendingBytes-1<<20 {
			t.Errorf("%d bytes pending", p)
		}
		if code := n.barrier(); code != znode.OK {
			t.Errorf("a barrier: %v", code)
		}
		n.log.open()
		synctest.Wait()
		for i, a := range all[:63] {
			if a.times() != 1 || a.code() != znode.OK {
				t.Fatalf("write %d: %d answers, %v", i, a.times(), a.code())
			}
		}
		if p := n.Stats().PendingBytes; p != 0 {
			t.Errorf("%d bytes pending when all is answered", p)
		}
		n.must(set("/a", data))
		n.stop()
	})
}

// The entries of a burst: none is larger than a batch may be unless it is a single txn, and no
// append is much larger than what is proposed at a time.
func TestBatchesHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		n := m.ready()
		n.must(create("/a"))
		n.log.hold()
		first := n.submit(set("/a", ""))
		synctest.Wait()
		sizes := []int{0, 10, 100, 1000, 5000, 200_000, 250_000, 270_000, 3 << 20}
		var all []*answer
		for i := range 400 {
			all = append(all, n.submit(set("/a", strings.Repeat("x", sizes[i*7%len(sizes)]))))
			if sizes[i*7%len(sizes)] > 1<<20 && i > 50 {
				break
			}
		}
		n.log.open()
		synctest.Wait()
		for i, a := range append(all, first) {
			if a.times() != 1 || a.code() != znode.OK {
				t.Fatalf("write %d: %d answers, %v", i, a.times(), a.code())
			}
		}
		single, full := 0, 0
		for _, e := range n.log.all() {
			count, size := 0, len(e.GetData())
			if size > 0 {
				if err := tree.Decode(e.GetData(), func(*tree.Txn) { count++ }); err != nil {
					t.Fatal(err)
				}
			}
			switch {
			case size > replica.MaxBatchBytes && count > 1:
				t.Errorf("entry %d has %d txns in %d bytes", e.GetIndex(), count, size)
			case size > replica.MaxBatchBytes:
				single++
			case size > replica.MaxBatchBytes/2 && count > 1:
				full++
			}
		}
		if single == 0 || full == 0 {
			t.Errorf("%d entries of one large txn, %d full ones: the test does not test", single, full)
		}
		if n.log.largest > 4<<20+3<<20 {
			t.Errorf("an append of %d bytes", n.log.largest)
		}
		n.stop()
	})
}

func TestATxnTheLogCannotHoldIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		n.must(create("/a"))
		id := znode.Identity{Scheme: "digest", ID: strings.Repeat("i", 1<<20)}
		acl := znode.ACL{{Perms: znode.All, Identity: id}, {Perms: znode.All, Identity: id}, {Perms: znode.All, Identity: id}, {Perms: znode.All, Identity: id}}
		large := strings.Repeat("x", 1<<20)
		for name, x := range map[string]*tree.Txn{
			"data":       set("/a", strings.Repeat(large, 4)),
			"path":       create("/" + strings.Repeat(large, 4)),
			"multi":      multi(setOp("/a", large), setOp("/a", large), setOp("/a", large), setOp("/a", large)),
			"acl":        {Op: tree.Op{Kind: tree.KindSetACL, Path: "/a", Version: -1, ACL: acl}},
			"multi acl":  multi(tree.Op{Kind: tree.KindSetACL, Path: "/a", Version: -1, ACL: acl}),
			"identities": {IDs: []znode.Identity{id, id, id, id}, Op: setOp("/a", "")},
			"password":   {Op: tree.Op{Kind: tree.KindSession}, Password: []byte(strings.Repeat(large, 4))},
		} {
			if r := n.do(x); r.Code != znode.ErrTooBig {
				t.Errorf("%s: %v", name, r.Code)
			}
		}
		// A txn just below the limit is taken, whatever it consists of.
		for name, x := range map[string]*tree.Txn{
			"data":  set("/a", strings.Repeat("x", replica.MaxTxnBytes-200)),
			"multi": multi(manyOps(replica.MaxTxnBytes/200, 60)...),
		} {
			if r := n.do(x); r.Code != znode.OK {
				t.Errorf("%s: %v", name, r.Code)
			}
		}
		if p := n.Stats().PendingBytes; p != 0 {
			t.Errorf("%d bytes pending when all is answered", p)
		}
		n.stop()
	})
}

func manyOps(count, size int) []tree.Op {
	ops := make([]tree.Op, count)
	for i := range ops {
		ops[i] = setOp("/a", strings.Repeat("x", size))
	}
	return ops
}

func TestAFullDiskTakesOnlyWhatMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		m := newMachine(t)
		m.config.Full = full.Load
		n := m.ready()
		for i := range 6 {
			n.must(create("/" + strconv.Itoa(i)))
		}
		session := &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, TimeoutMS: 1000}
		n.must(session)
		synctest.Wait() // until the log writer has asked after its last write
		full.Store(true)
		n.must(set("/0", "the write that finds out"))
		synctest.Wait()
		for name, x := range map[string]*tree.Txn{
			"create":  create("/new"),
			"set":     set("/1", "new"),
			"acl":     {Op: tree.Op{Kind: tree.KindSetACL, Path: "/1", Version: -1, ACL: znode.ReadACL}},
			"multi":   multi(removeOp("/1"), createOp("/new", "")),
			"session": {Op: tree.Op{Kind: tree.KindSession}},
		} {
			if r := n.do(x); r.Code != znode.ErrNoSpace {
				t.Errorf("%s: %v", name, r.Code)
			}
		}
		if !n.Stats().Full || n.Stats().PendingBytes != 0 {
			t.Errorf("stats %+v", n.Stats())
		}
		// A client whose connection breaks keeps its session.
		n.must(&tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: session.Target, Password: session.Password})
		// A refused submission does not affect its neighbours in the batch.
		n.log.hold()
		busy := n.submit(remove("/0"))
		synctest.Wait()
		mixed := []*answer{n.submit(remove("/1")), n.submit(create("/new")), n.submit(multi(removeOp("/2"), removeOp("/3"))),
			n.submit(&tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: session.Target})}
		n.log.open()
		synctest.Wait()
		for i, want := range []znode.Code{znode.OK, znode.ErrNoSpace, znode.OK, znode.OK} {
			if mixed[i].times() != 1 || mixed[i].code() != want {
				t.Errorf("write %d: %d answers, %v", i, mixed[i].times(), mixed[i].code())
			}
		}
		if busy.code() != znode.OK {
			t.Errorf("delete: %v", busy.code())
		}
		// The space is noticed without a write.
		full.Store(false)
		time.Sleep(time.Second)
		n.must(create("/new"))
		n.stop()
	})
}

// TestAFullDiskIsCleared: a snapshot is made when the disk gets full, and again only when there is something
// to gain.
func TestAFullDiskIsCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		m := newMachine(t)
		m.config.Full = full.Load
		n := m.ready()
		fills := func() {
			full.Store(true)
			n.must(remove("/a"))
			synctest.Wait()
			full.Store(false)
			time.Sleep(time.Second)
		}
		for range 3 { // a second one would gain nothing
			n.must(create("/a"))
			fills()
			if got := n.tries(m); got != 1 {
				t.Fatalf("%d snapshots", got)
			}
		}
		n.must(create("/a"))
		for range 5 {
			n.must(set("/a", strings.Repeat("x", 1<<20)))
		}
		fills()
		if got := n.tries(m); got != 2 {
			t.Fatalf("%d snapshots behind 5 MiB of log", got)
		}
		n.stop()
	})
}

// A disk may stay nearly full because other programs write to it, or because a follower does not
// refuse what its leader tells it. Then it is cleared again before the space that is kept free is
// used up.
func TestASmallFullDiskIsClearedMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		m := newMachine(t)
		m.config.Full, m.config.FullBytes = full.Load, 100_000
		n := m.ready()
		full.Store(true)
		for range 10_000 { // deletes are taken, and logged
			n.do(remove("/missing"))
		}
		synctest.Wait()
		if got := n.tries(m); got < 3 || got > 20 {
			t.Errorf("%d snapshots", got)
		}
		full.Store(false)
		n.stop()
	})
}

// The queues keep nothing of a burst.
func TestQueuesGiveBackWhatABurstTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMachine(t).ready()
		n.must(create("/a"))
		n.log.hold()
		for range 20_000 {
			n.submit(set("/a", ""))
		}
		for range 20_000 {
			n.Barrier(func(tree.Result, *tree.Tree, *watchTable) {})
		}
		n.log.open()
		n.must(set("/a", ""))
		synctest.Wait()
		if kept := replica.Retained(n.Replica); kept > 0 {
			t.Errorf("%d items are still held", kept)
		}
		n.stop()
	})
}
