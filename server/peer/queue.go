package peer

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// item is a raft message or a forward.
type item struct {
	m    *raftpb.Message
	kind byte
	b    []byte
}

// queue holds what waits for one link. It takes nothing while there is no link, never makes a
// caller wait, keeps the order, and never leaves out a forward: it ends the link instead.
type queue struct {
	mu     sync.Mutex
	items  []item
	raft   load
	fwd    load
	cut    func() // ends the link; nil while there is none
	broken bool
	wake   chan struct{} // holds a token while something waits
}

type load struct{ count, bytes int }

func (l load) takes(n, most int) bool {
	// An item that exceeds the whole limit is taken if it is alone.
	return l.count == 0 || l.count < most && l.bytes+n <= MaxQueuedBytes
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// open begins a link; cut ends that link at once.
func (q *queue) open(cut func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cut = cut
}

// close ends the link. What waits is lost with it.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cut, q.broken, q.items, q.raft, q.fwd = nil, false, nil, load{}, load{}
	select {
	case <-q.wake:
	default:
	}
}

// putRaft says whether it took m. If not, raft sends it again.
func (q *queue) putRaft(m *raftpb.Message) bool {
	n := weight(m)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cut == nil || q.broken || !q.raft.takes(n, MaxQueuedMessages) {
		return false
	}
	q.raft.count++
	q.raft.bytes += n
	q.items = append(q.items, item{m: m})
	q.ring()
	return true
}

// putForward says whether it took b. If there was no room, it ends the link.
func (q *queue) putForward(kind byte, b []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cut == nil || q.broken {
		return false
	}
	if n := len(b) + 32; q.fwd.takes(n, MaxQueuedForwards) {
		q.fwd.count++
		q.fwd.bytes += n
		q.items = append(q.items, item{kind: kind, b: b})
		q.ring()
		return true
	}
	q.broken = true
	q.cut()
	return false
}

// take returns the waiting items and leaves the used slice in their place.
func (q *queue) take(used []item) (items []item) {
	clear(used)
	q.mu.Lock()
	defer q.mu.Unlock()
	items, q.items = q.items, used[:0]
	q.raft, q.fwd = load{}, load{}
	return items
}

func (q *queue) waiting() (count, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.raft.count + q.fwd.count, q.raft.bytes + q.fwd.bytes
}
