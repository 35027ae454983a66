package watch

import (
	"sort"

	"coord/tree/znode"
)

// history is the newest events, so that who was away can have what it missed. A
// node that starts fills it from the log behind its snapshot.
type history struct {
	begin znode.Zxid // all events of later txns are here
	limit int        // bytes
	bytes int
	ring  []znode.Event // a ring once it does not grow any more
	first int           // of the oldest
	count int
}

// eventBytes is what an event weighs beside its path and value.
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

// forget drops the oldest txn's next event: what is left of that txn is of no
// use.
func (h *history) forget() {
	oldest := &h.ring[h.first]
	h.begin = oldest.Zxid
	h.bytes -= weight(oldest)
	*oldest = znode.Event{}
	h.first = (h.first + 1) % len(h.ring)
	h.count--
}

// Since yields the kept events of the txns after zxid, the oldest first, and says
// whether these are all there were: false if some are forgotten, and then it
// yields none.
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
