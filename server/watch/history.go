package watch

import (
	"sort"

	"coord/tree/znode"
)

// history holds the newest events, so that a client that was away can get those that it has missed.
// A starting node fills it from the log after its snapshot.
type history struct {
	begin znode.Zxid // all events of later txns are here
	limit int        // bytes
	bytes int
	ring  []znode.Event // used as a ring once it no longer grows
	first int           // index of the oldest
	count int
}

// eventBytes is the weight of an event, apart from its path and value.
const eventBytes = 128

func weight(e *znode.Event) int { return eventBytes + len(e.Path) + len(e.Data) }

func (h *history) add(e *znode.Event) {
	if h.limit == 0 {
		h.begin = e.Zxid
		return
	}
	if h.count == len(h.ring) {
		larger := make([]znode.Event, max(64, 2*h.count))
		n := copy(larger, h.ring[h.first:])
		copy(larger[n:], h.ring[:h.first])
		h.ring, h.first = larger, 0
	}
	h.ring[(h.first+h.count)%len(h.ring)] = *e
	h.count++
	for h.bytes += weight(e); h.bytes > h.limit; {
		h.forget()
	}
}

// forget drops one event of the oldest txn. The rest of that txn cannot be used any more.
func (h *history) forget() {
	oldest := &h.ring[h.first]
	h.begin = oldest.Zxid
	h.bytes -= weight(oldest)
	*oldest = znode.Event{}
	h.first = (h.first + 1) % len(h.ring)
	h.count--
}

// Since yields the kept events of the txns after zxid, oldest first, and returns true. If some of
// them are forgotten, it yields none and returns false.
func (t *Table) Since(zxid znode.Zxid, yield func(e *znode.Event) bool) bool {
	h := &t.history
	if zxid < h.begin {
		return false
	}
	for n := sort.Search(h.count, func(i int) bool { return h.at(i).Zxid > zxid }); n < h.count; n++ {
		if !yield(h.at(n)) {
			break
		}
	}
	return true
}

func (h *history) at(i int) *znode.Event { return &h.ring[(h.first+i)%len(h.ring)] }
