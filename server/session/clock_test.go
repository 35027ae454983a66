package session_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"coord/server/session"
	"coord/tree"
	"coord/tree/znode"
)

// H22 (etcd#6700, #12291, logcabin#90): deadlines were counted on the host's clock, and a step of that
// clock ended leases early or never. Here each deadline is on the monotonic clock, whatever has set it.
func TestDeadlinesAreOnTheMonotonicClock(t *testing.T) {
	t.Parallel()
	b := &bench{T: t, tree: tree.New()}
	for id := int64(1); id <= 5; id++ {
		b.open(id, time.Minute)
	}
	k := session.New(session.Config{Replica: b, ContainerInterval: time.Minute})
	session.Round(k) // it leads, and finds all sessions in the tree
	k.Attach(1, 0, time.Minute, false)
	k.Attach(2, 0, time.Minute, false)
	k.Touch(2)
	k.Detach(3, 0, time.Hour)
	report := binary.BigEndian.AppendUint64(nil, 4)
	for _, n := range []uint32{0, 60_000, 3_600_000} { // attachment, its time, how long it lives
		report = binary.BigEndian.AppendUint32(report, n)
	}
	k.Told(9, report)
	for id, how := range map[int64]string{1: "attached", 2: "touched", 3: "detached", 4: "told by another node", 5: "found"} {
		told, _ := k.Deadline(id)
		for _, at := range []time.Time{session.End(k, id), told} {
			if !strings.Contains(at.String(), " m=") {
				t.Errorf("%s: the deadline is %v", how, at)
			}
		}
	}
}

// H22 too: the time that the leader stamps into txns may step; nothing ends earlier or later because of that.
func TestAStepOfTheStampsEndsNothing(t *testing.T) {
	const years = 10 * 365 * 24 * time.Hour
	for _, step := range []time.Duration{-years, -time.Hour, 0, time.Hour, years} {
		t.Run(step.String(), func(t *testing.T) {
			run(t, func(b *bench) {
				b.open(1, 10*time.Second)
				b.keeper.Attach(1, 0, 10*time.Second, false)
				b.create("/ttl", znode.PersistentTTL, time.Minute)
				b.create("/container", znode.Container, 0)
				b.create("/container/child", znode.Persistent, 0)
				b.remove("/container/child")
				time.Sleep(2 * time.Second) // the keeper has seen them by now
				b.mu.Lock()
				b.step = step
				b.mu.Unlock()
				b.create("/later", znode.Persistent, 0)
				b.alive(7900*time.Millisecond, 1)
				b.alive(100*time.Millisecond + late)
				b.after(47*time.Second, "/container", "/later", "/ttl")
				b.after(5*time.Second, "/later")
			})
		})
	}
}
