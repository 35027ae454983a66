package watch

import (
	"fmt"
	"strings"
	"sync"

	"coord/tree/znode"
)

// Table records which watcher waits for which path. The package comment says who may call what.
type Table struct {
	cfg Config

	receivers []Watcher // Trigger's buffer, empty between its calls; owned by the exclusive holder of the state lock
	history   history   // written by Trigger; read with the state lock held

	mu struct { // a leaf lock; only side.watches is also read without it
		sync.Mutex
		data, child side
		owners      map[Watcher]*owner // from a watcher's first Add to its Drop
		sessions    map[int64]Watcher  // the watcher that serves each session
		arrivals    uint64             // owners ever made; gives their order
		round       uint64             // events ever fired; see owner.round
	}
}

// New makes an empty table with limits that Validate accepts. begin is the zxid of the state: no
// event up to it will be triggered.
func New(cfg Config, begin znode.Zxid) *Table {
	t := &Table{cfg: cfg, history: history{begin: begin, limit: cfg.HistoryBytes}}
	t.mu.data, t.mu.child = newSide(0), newSide(1)
	t.mu.owners = make(map[Watcher]*owner)
	t.mu.sessions = make(map[int64]Watcher)
	return t
}

// Add registers a watch. Adding a watch that is registered already changes nothing, not even the
// watcher's place in the order. Add copies the path if it keeps it, so the path may lie in a buffer
// of the caller's. An error is a znode.ErrLimit, and then nothing is registered. A closed watcher
// gets neither a watch nor an error.
func (t *Table) Add(w Watcher, path string, kind Kind) error {
	data, child := kind.tables()
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	if w.Closed() {
		return nil
	}
	o := m.owners[w]
	var inData, inChild *entry
	fresh := 0
	if data != 0 {
		if inData = m.data.find(path, o); inData == nil {
			fresh++
		}
	}
	if child != 0 {
		if inChild = m.child.find(path, o); inChild == nil {
			fresh++
		}
	}
	if fresh > 0 {
		if err := t.admit(o, fresh, len(path)); err != nil {
			return err
		}
		path = t.keep(path)
		if o == nil {
			m.arrivals++
			o = &owner{watcher: w, arrival: m.arrivals}
			m.owners[w] = o
		}
	}
	if data != 0 {
		if inData == nil {
			inData = m.data.add(path, o)
		}
		m.data.set(inData, data)
	}
	if child != 0 {
		if inChild == nil {
			inChild = m.child.add(path, o)
		}
		m.child.set(inChild, child)
	}
	return nil
}

// admit checks the limits for n more entries of o (nil: a new watcher) at a path of size bytes.
func (t *Table) admit(o *owner, n, size int) error {
	bytes := int64(n) * int64(size)
	switch limit := pathBytes(t.cfg.MaxWatches); {
	case t.Len()+n > t.cfg.MaxWatches:
		return fmt.Errorf("watch: this node may have at most %d watches: %w", t.cfg.MaxWatches, znode.ErrLimit)
	case t.mu.data.bytes+t.mu.child.bytes+bytes > limit:
		return fmt.Errorf("watch: the paths of this node's watches may have at most %d bytes: %w", limit, znode.ErrLimit)
	}
	if o != nil {
		n += int(o.count[0] + o.count[1])
		bytes += o.bytes
	}
	switch limit := pathBytes(t.cfg.MaxWatchesPerWatcher); {
	case n > t.cfg.MaxWatchesPerWatcher:
		return fmt.Errorf("watch: a connection may have at most %d watches: %w", t.cfg.MaxWatchesPerWatcher, znode.ErrLimit)
	case bytes > limit:
		return fmt.Errorf("watch: the paths of a connection's watches may have at most %d bytes: %w", limit, znode.ErrLimit)
	}
	return nil
}

// pathBytes is how many bytes the paths of n watches may have together.
func pathBytes(n int) int64 { return int64(n) * MeanPathBytes }

// keep returns the table's own copy of the path, or a new copy.
func (t *Table) keep(path string) string {
	if e := t.mu.data.heads[path]; e != nil {
		return e.path
	}
	if e := t.mu.child.heads[path]; e != nil {
		return e.path
	}
	return strings.Clone(path)
}

// Has says whether the watcher has a watch of the type at exactly this path.
func (t *Table) Has(w Watcher, path string, typ Type) bool {
	data, child := typ.tables()
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	o := m.owners[w]
	return o != nil && (m.data.has(path, o, data) || m.child.has(path, o, child))
}

// Remove removes the watcher's watches of the type at exactly this path, and says whether there
// were any. It notifies nobody.
func (t *Table) Remove(w Watcher, path string, typ Type) bool {
	data, child := typ.tables()
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	o := m.owners[w]
	if o == nil {
		return false
	}
	inData, inChild := m.data.remove(path, o, data), m.child.remove(path, o, child)
	return inData || inChild
}

// dropBatch is how many entries Drop removes before it releases the lock for others: the applier
// may be waiting for it.
const dropBatch = 1024

// Drop forgets a watcher that has ended, with all its watches. Its cost depends on the number of
// those watches only, not on how many others wait for the same paths.
func (t *Table) Drop(w Watcher) {
	for t.dropSome(w) {
	}
}

// dropSome removes the next entries and says whether there may be more.
func (t *Table) dropSome(w Watcher) bool {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	o := m.owners[w]
	if o == nil {
		return false
	}
	n := 0
	for _, s := range []*side{&m.data, &m.child} {
		for ; o.first[s.index] != nil; n++ {
			if n == dropBatch {
				return true
			}
			s.unlink(o.first[s.index])
		}
	}
	delete(m.owners, w)
	return false
}

// Trigger delivers an event to all watchers that wait for it, and consumes their one-shot watches.
// An operation on the znode N with the parent P has these events:
//
//	operation   event                      reaches
//	create      NodeCreated at N           data table at N; recursive watches above
//	            NodeChildrenChanged at P   child table at P
//	delete      NodeDeleted at N           data table at N; recursive watches above;
//	                                       then the child table at N, but for those
//	                                       whom the data table has served
//	            NodeChildrenChanged at P   child table at P
//	set         NodeDataChanged at N       data table at N; recursive watches above
//
// A watcher gets one notification for an event, however many of its watches match. Watchers are
// notified in the order in which they came to the path: first those at the path itself, then, for
// recursive watches, those at its parent and so on up to "/". A watcher without READ in the event's
// ACL is not notified, but its one-shot watches are consumed all the same; an empty ACL lets
// everyone read. A closed watcher without any watches left is forgotten.
//
// The end of a session (SessionEnded), and its move to another connection (SessionMoved), reach the
// watcher that is attached to the session, and detach it.
func (t *Table) Trigger(e znode.Event) {
	var none bool
	switch e.Type {
	case znode.SessionEnded, znode.SessionMoved:
		if w := t.detach(e.Session, nil); w != nil {
			w.Notify(e)
		}
		return
	case znode.NodeCreated, znode.NodeDataChanged:
		none = t.mu.data.watches.Load() == 0
	case znode.NodeDeleted:
		none = t.mu.data.watches.Load() == 0 && t.mu.child.watches.Load() == 0
	case znode.NodeChildrenChanged:
		none = t.mu.child.watches.Load() == 0
	default:
		panic(fmt.Sprintf("watch: invalid event type %d", e.Type))
	}
	t.history.add(&e)
	if !none {
		t.deliver(&e)
	}
}

// Attach makes w the watcher that serves a session and is notified of its end. It returns the
// previous one, or nil. It belongs to a View.
func (t *Table) Attach(w Watcher, session int64) (before Watcher) {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	before = m.sessions[session]
	m.sessions[session] = w
	return before
}

// Detach says that w no longer serves the session. If another watcher has taken the session over,
// Detach does nothing.
func (t *Table) Detach(w Watcher, session int64) { t.detach(session, w) }

// Attached returns the watcher that serves a session, or nil.
func (t *Table) Attached(session int64) Watcher {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	return m.sessions[session]
}

// detach removes the watcher that serves a session, if it is w or w is nil, and returns it.
func (t *Table) detach(session int64, w Watcher) Watcher {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	is := m.sessions[session]
	if is == nil || w != nil && is != w {
		return nil
	}
	delete(m.sessions, session)
	return is
}

// keepReceivers is the capacity of the longest list that is kept for the next event.
const keepReceivers = 1 << 14

// deliver is the part of Trigger that runs if there are any watches.
func (t *Table) deliver(e *znode.Event) {
	receivers := t.fire(e.Type, e.Path, t.receivers[:0])
	if len(receivers) == 0 {
		return
	}
	t.receivers = nil
	open := e.ACL.Allows(nil, znode.Read)
	for _, w := range receivers {
		if open || e.ACL.Allows(w.Identities(), znode.Read) {
			w.Notify(*e)
		}
		if w.Closed() {
			t.forget(w)
		}
	}
	if cap(receivers) <= keepReceivers {
		clear(receivers)
		t.receivers = receivers
	}
}

// forget removes a watcher that has no watches any more.
func (t *Table) forget(w Watcher) {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	if o := m.owners[w]; o != nil && o.count == [2]int32{} {
		delete(m.owners, w)
	}
}

// fire appends the watchers that wait for the event to to, and consumes their one-shot watches.
func (t *Table) fire(typ znode.EventType, path string, to []Watcher) []Watcher {
	m := &t.mu
	m.Lock()
	defer m.Unlock()
	m.round++
	if typ != znode.NodeChildrenChanged {
		to = m.data.fire(path, m.round, to)
		to = m.data.fireAbove(path, m.round, to)
	}
	if typ == znode.NodeChildrenChanged || typ == znode.NodeDeleted {
		to = m.child.fire(path, m.round, to)
	}
	return to
}
