package replica_test

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"syscall"
	"testing/synctest"
	"time"

	"coord/server/peer"
	"coord/server/replica"
)

var coveredOverLinks = append(slices.DeleteFunc(slices.Clone(covered), func(what string) bool { return what == "messages twice" }),
	"certain losses", "cuts within a frame", "bits flipped", "damage found", "silent connections", "ends that know nothing of the other",
	"links stalled", "links replaced", "old boots refused", "snapshots resumed", "queues overflowed", "dials refused", "dials without an answer",
	"disks reverted", "disks left as they are", "older disks known by behind", "older disks known by boot", "older disks known by a heartbeat",
	"replacements", "removed members that come back", "removed members told so", "requests", "requests without an answer", "answers lost",
	"joiners that crashed", "members that asked again", "strangers that others told of", "refused: unknown", "refused: cluster")

// floodKind is a forward that replicas ignore.
const floodKind = replica.LastKind

// planFaults plans one fault after another, of the kinds that only connections can have.
func (w *linked) planFaults() {
	w.after(w.between(300*time.Millisecond, 3*time.Second), func() {
		if w.calm {
			return
		}
		w.fault()
		w.planFaults()
	})
}

func (w *linked) fault() {
	switch p := w.rnd.IntN(100); {
	case p < 10:
		w.haunt()
	case p < 15:
		w.flood()
	default:
		c := w.anyConn()
		if c == nil {
			return
		}
		side := w.rnd.IntN(2)
		w.note("connection %d of %d to %d, purpose %d, suffers %d", c.number, c.ends[0].node(), c.ends[1].node(), c.purpose, p)
		switch {
		case p < 30:
			w.seen["bits flipped"]++
			c.ends[side].flip = true
		case p < 50:
			w.seen["links stalled"]++
			c.stalled = w.now + w.between(0, 4*time.Second)
		default:
			c.breakUp()
		}
	}
}

// anyConn returns one of the connections, preferably of a snapshot.
func (w *linked) anyConn() *connection {
	all := w.live()
	if of := slices.DeleteFunc(slices.Clone(all), func(c *connection) bool { return c.purpose != snapshotConn }); len(of) > 0 && w.chance(70) {
		all = of
	}
	if len(all) == 0 {
		return nil
	}
	return all[w.rnd.IntN(len(all))]
}

// sever breaks all connections between two nodes.
func (w *linked) sever(a, b uint64, _ bool) {
	for _, c := range w.live() {
		if c.isBetween(a, b) {
			c.breakUp()
		}
	}
}

// breakUp ends a connection at a random place in what is under way: for both sides, for one of
// them, or so that neither learns of it.
func (c *connection) breakUp() {
	w := c.w
	c.cut(0)
	c.cut(1)
	switch p := w.rnd.IntN(100); {
	case p < 50:
		c.sendEnd(0, syscall.ECONNRESET)
		c.sendEnd(1, syscall.ECONNRESET)
	case p < 80:
		w.seen["ends that know nothing of the other"]++
		c.sendEnd(w.rnd.IntN(2), syscall.ECONNRESET)
	default:
		w.seen["silent connections"]++
		c.mute = true
	}
}

// flipBit changes a bit of what is written, after the checksums were made.
func (w *linked) flipBit(c *connection, b []byte) {
	i, bit := w.rnd.IntN(len(b)), byte(1)<<w.rnd.IntN(8)
	w.note("connection %d: byte %d of %d changes on its way", c.number, i, len(b))
	b[i] ^= bit
	if w.mutant.is(unseenDamage) {
		mendSum(b, i, bit)
	}
}

// mendSum corrects the checksum of the frame whose payload contains the changed byte.
func mendSum(b []byte, i int, change byte) {
	const head, before = 11, 8 + 5 // length of a frame's head; bytes that are summed before the payload
	for len(b) >= head {
		size := binary.BigEndian.Uint32(b)
		if uint64(size) > uint64(len(b)-head) {
			return // no frame, or not a whole one
		}
		n := int(size)
		if at := i - head; at >= 0 && at < n {
			plain := make([]byte, before+n)
			changed := slices.Clone(plain)
			changed[before+at] = change
			table := crc32.MakeTable(crc32.Castagnoli)
			sum := binary.BigEndian.Uint32(b[7:]) ^ crc32.Checksum(plain, table) ^ crc32.Checksum(changed, table)
			binary.BigEndian.PutUint32(b[7:], sum)
			return
		}
		b, i = b[head+n:], i-head-n
	}
}

// haunt makes an old copy of a node dial the others for a while.
func (w *linked) haunt() {
	n := w.anyone()
	if n.r == nil || n.boot < 2 {
		return
	}
	boot := 1 + w.rnd.Uint64N(n.boot-1)
	w.note("%d is there in its boot %d again", n.id, boot)
	st := w.newStation(n, boot, true)
	w.ghosts = append(w.ghosts, st)
	w.after(w.between(100*time.Millisecond, 3*time.Second), func() {
		st.stop()
		for _, c := range w.live() {
			if c.ends[0].st == st {
				c.died(0, false)
			}
		}
	})
}

// flood forwards more over a stalled link than its queue can hold.
func (w *linked) flood() {
	n, to := w.anyone(), w.anyone()
	st := w.stations[n.id-1]
	if n.r == nil || st.up[to.id] == 0 {
		return
	}
	w.note("%d floods its link to %d", n.id, to.id)
	for _, c := range w.live() {
		if c.ends[0].st == st && c.ends[1].node() == to.id {
			w.mu.Lock()
			c.ends[0].window = 0
			w.mu.Unlock()
		}
	}
	st.links.Forward(to.id, floodKind, nil)
	synctest.Wait() // this goroutine would be in the way of the others
	for range peer.MaxQueuedForwards + 1 {
		st.links.Forward(to.id, floodKind, nil)
	}
	synctest.Wait()
}
