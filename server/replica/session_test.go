package replica_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"coord/tree"
)

// newSession makes a session and returns its id.
func (n *node) newSession() int64 {
	n.t.Helper()
	x := &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, TimeoutMS: 10_000}
	n.must(x)
	return x.Target
}

// TestNoSessionIDComesTwice, even if no time passes between two starts, or the clock went back: ids
// begin after those of live and ended sessions, and have the node's own byte.
func TestNoSessionIDComesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		seen, back := map[int64]bool{}, time.Duration(0)
		m.config.Now = func() time.Time { return time.Now().Add(-back) }
		for range 3 {
			n := m.ready()
			for i := range 3 {
				id := n.newSession()
				if seen[id] || id>>56 != self {
					t.Errorf("%#x", id)
				}
				seen[id] = true
				if i == 2 { // the highest id, whose session has ended
					n.must(&tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: id})
				}
			}
			n.stop()
			back += time.Minute
		}
	})
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		state, at := m.snaps.load(t)
		later := time.Now().Add(time.Hour).UnixMilli()
		ahead := self<<56 | later<<24>>8&(1<<56-1)
		for _, id := range []int64{5, ahead, ahead + 1, (self + 1) << 56} {
			x := &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id, TimeoutMS: 1000, Password: bytes.Repeat([]byte{1}, 16)}
			if r, _ := state.Apply(1, x); r.Code != 0 {
				t.Fatal(r.Code)
			}
		}
		m.snaps.saved = []savedState{{at: at, f: state.Freeze()}}
		n := m.ready()
		if id := n.newSession(); id != ahead+2 {
			t.Errorf("%#x behind %#x", id, ahead+1)
		}
		n.stop()
	})
}
