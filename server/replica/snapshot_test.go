package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"
)

// tries is the number of Saves, once everything is idle.
func (n *node) tries(m *machine) int {
	synctest.Wait()
	tries, _, _ := m.snaps.count()
	return tries
}

func TestASnapshotIsMadeAfterSoManyTxns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.config.SnapshotTxns = 10
		n := m.ready()
		for i := range 35 {
			n.must(create("/" + strconv.Itoa(i)))
			if got := n.tries(m); got != (i+1)/10 {
				t.Fatalf("%d snapshots after %d txns", got, i+1)
			}
		}
		st := n.Stats()
		if st.Snapshots != 3 || st.LastSnapshot.Counter() != 30 {
			t.Errorf("stats %+v", st)
		}
		n.stop()
	})
}

func TestASnapshotIsMadeAfterSoManyBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.config.SnapshotBytes = 100_000
		n := m.ready()
		n.must(create("/a"))
		for i := range 25 {
			n.must(set("/a", strings.Repeat("x", 10_000)))
			if got := n.tries(m); got != (i+1)/10 {
				t.Fatalf("%d snapshots after %d times 10,000 bytes", got, i+1)
			}
		}
		n.stop()
	})
}

// The log is shortened to what the oldest snapshot needs, and only after the new snapshot is marked
// in it.
func TestTheLogIsMarkedBeforeItIsCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.config.SnapshotTxns = 10
		n := m.ready()
		for i := range 30 {
			n.must(create("/" + strconv.Itoa(i)))
			synctest.Wait() // for a snapshot that this write made due
		}
		// Index 2 is the entry of the election.
		want := "[mark 12 compact to 2 mark 22 compact to 13 mark 32 compact to 23]"
		if got := fmt.Sprint(n.log.calls); got != want {
			t.Errorf("calls %s, want %s", got, want)
		}
		n.stop()
	})
}

func TestSnapshotsAreMadeOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.config.SnapshotTxns = 10
		m.snaps.gate = make(chan struct{})
		n := m.ready()
		for i := range 45 {
			n.must(create("/" + strconv.Itoa(i))) // writes do not wait for the snapshot
		}
		if got := n.tries(m); got != 1 {
			t.Fatalf("%d snapshots begun while the first is under way", got)
		}
		m.snaps.gate <- struct{}{}
		// The txns that came meanwhile make the next one due, without another write.
		if got := n.tries(m); got != 2 {
			t.Fatalf("%d snapshots begun when the first is done", got)
		}
		m.snaps.gate <- struct{}{}
		if got := n.tries(m); got != 2 {
			t.Fatalf("%d snapshots begun with nothing new", got)
		}
		if _, _, most := m.snaps.count(); most != 1 {
			t.Errorf("%d at a time", most)
		}
		if at := m.snaps.tries[1]; at.Index != 47 {
			t.Errorf("the second is of entry %d, want 47", at.Index)
		}
		n.stop()
	})
}

func TestASnapshotThatFailsIsTriedAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := newMachine(t)
		m.config.SnapshotTxns = 10
		m.config.Logger = zerolog.New(&log)
		m.snaps.fail = errors.New("no space left on device")
		n := m.ready()
		for i := range 19 {
			n.must(create("/" + strconv.Itoa(i)))
		}
		if got := n.tries(m); got != 1 || len(n.log.calls) != 0 {
			t.Fatalf("%d tries, calls %v", got, n.log.calls)
		}
		m.snaps.fail = nil
		n.must(create("/19"))
		if got := n.tries(m); got != 2 || len(n.log.calls) != 2 || n.Stats().Snapshots != 1 {
			t.Fatalf("%d tries, calls %v", got, n.log.calls)
		}
		n.stop()
		if got := strings.Count(log.String(), `"level":"error","error":"no space left on device"`); got != 1 {
			t.Errorf("the failure is logged %d times:\n%s", got, log.String())
		}
	})
}

// What a start replays counts towards the next snapshot: it must not be replayed again and again.
func TestASnapshotIsMadeOfALongReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		n := m.ready()
		for i := range 30 {
			n.must(create("/" + strconv.Itoa(i)))
		}
		n.stop()
		m.config.SnapshotTxns = 10
		n = m.ready()
		if got := n.tries(m); got == 0 {
			t.Error("no snapshot")
		}
		n.stop()
	})
}

func TestTheEndOfRunCutsASnapshotShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := newMachine(t)
		m.config.SnapshotTxns = 1
		m.config.Logger = zerolog.New(&log).Level(zerolog.WarnLevel)
		m.snaps.gate = make(chan struct{})
		n := m.ready()
		n.must(create("/a"))
		synctest.Wait()
		if _, busy, _ := m.snaps.count(); busy != 1 {
			t.Fatal("no snapshot under way")
		}
		n.stop()
		if log.Len() > 0 || len(n.log.calls) > 0 || len(m.snaps.saved) != 1 {
			t.Errorf("logged %q, calls %v, %d snapshots", log.String(), n.log.calls, len(m.snaps.saved))
		}
	})
}
