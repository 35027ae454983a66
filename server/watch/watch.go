// Package watch remembers who waits for which path, and tells them when an
// event comes: one-shot, persistent and persistent recursive watches with the
// semantics of ZooKeeper 3.9, where kinds of one watcher at one path coexist.
//
// It knows no tree, no session and no wire: it asks nobody whether a znode
// exists, makes no catch-up events for a client that reconnects (the frontend
// does, by the rules of Kind.Missed and Kind.Concerns, and then adds only what did
// not fire), and writes no frame. It starts no goroutine and asks no clock.
//
// # Who may call
//
// Add, Has, Remove, Attach, Attached, Detach and Since belong to a read and are
// called inside its View, with the state lock held at least shared. Trigger is the
// applier's, between two entries, with the state lock held alone: hence no watch
// is added between a change and its events, and events of two changes never mix.
// Drop and the counting methods may be called at any time by anyone.
//
// # Lock order
//
// State lock, then the table's own lock, which is a leaf: while it is held the
// table calls nothing but Watcher.Closed, which takes no lock. Trigger collects
// the receivers under the table's lock and calls Identities and Notify after it
// has let go; these may take the connection's own leaf lock.
//
// # Shape
//
//	heads["/a"] ──> entry ──> entry ──> entry     one list a path, oldest first
//	                  |         |         |
//	owner.first ──> entry     entry     entry     one list a watcher, newest first
//
// An entry is one watcher at one path in one of the two tables (data, child),
// with a bit for each kind; 64 bytes. Rejected: a set for each path and a set
// for each watcher, as in ZooKeeper: 375 bytes a watch instead of 147 where each
// path (of 34 bytes) has one watcher, the usual case; and a set has no order.
package watch

import (
	"fmt"
	"math"

	"coord/tree/znode"
)

// Watcher is who waits: a connection, or a part of one that is told separately.
// The table knows it by identity, so it must be a pointer.
type Watcher interface {
	// Notify takes one event. It must not block and must not call the table;
	// an event that comes after the watcher has ended is ignored.
	Notify(e znode.Event)

	// Identities are those the watcher has proved. Trigger asks for them when
	// an event's ACL does not let everyone read; the slice is only read.
	Identities() []znode.Identity

	// Closed says whether the watcher has ended. It is asked under the table's
	// lock, so it must be no more than an atomic load. It must say true before
	// Drop is called: then no Add that comes late can leave a watch behind.
	Closed() bool
}

// Kind is what a request registers.
type Kind uint8

// The kinds of watches. Data and Exist are one and the same entry of the data
// table: a watcher that asks for both at one path is told once.
const (
	Data                Kind = iota + 1 // getData: one-shot, data table
	Exist                               // exists: one-shot, data table
	Children                            // getChildren: one-shot, child table
	Persistent                          // addWatch mode 0: stays, both tables
	PersistentRecursive                 // addWatch mode 1: stays, the znode and all below it, data table
)

// modes are the kinds at one entry of one table.
type modes uint8

const (
	oneShot modes = 1 << iota
	persistent
	recursive
	allModes = oneShot | persistent | recursive
)

// tables says what a kind sets in the data and in the child table.
func (k Kind) tables() (data, child modes) {
	switch k {
	case Data, Exist:
		return oneShot, 0
	case Children:
		return 0, oneShot
	case Persistent:
		return persistent, persistent
	case PersistentRecursive:
		return recursive, 0
	}
	panic(fmt.Sprintf("watch: no kind %d", k))
}

// Concerns says whether a watch of this kind at path is told of an event of that type
// at another path, or the same.
func (k Kind) Concerns(path string, typ znode.EventType, at string) bool {
	switch {
	case at != path:
		return k == PersistentRecursive && typ != znode.NodeChildrenChanged && znode.Below(at, path)
	case typ == znode.NodeChildrenChanged:
		return k == Children || k == Persistent
	}
	return k != Children || typ == znode.NodeDeleted
}

// Missed is the event that a one-shot watch of a client that comes back would have told
// since a zxid, or 0, as the znode is now: ZooKeeper's rule of setWatches, with its
// signed zxids. A persistent one has none.
func (k Kind) Missed(since znode.Zxid, there bool, stat *znode.Stat) znode.EventType {
	switch {
	case k == Exist && there:
		return znode.NodeCreated
	case (k == Data || k == Children) && !there:
		return znode.NodeDeleted
	case k == Data && int64(stat.Mzxid) > int64(since):
		return znode.NodeDataChanged
	case k == Children && int64(stat.Pzxid) > int64(since):
		return znode.NodeChildrenChanged
	}
	return 0
}

// Type is what checkWatches and removeWatches ask about, ZooKeeper's
// WatcherType with its numbers on the wire.
type Type int32

// The types.
const (
	OfChildren            Type = 1 // one-shot in the child table
	OfData                Type = 2 // one-shot in the data table
	OfAny                 Type = 3 // every kind in both tables
	OfPersistent          Type = 4
	OfPersistentRecursive Type = 5
)

// Valid says whether the number is one of the types. A request with another
// number is refused at the edge (ErrMarshalling); here it matches nothing.
func (t Type) Valid() bool { return t >= OfChildren && t <= OfPersistentRecursive }

// tables says what a type matches in the data and in the child table.
func (t Type) tables() (data, child modes) {
	switch t {
	case OfChildren:
		return 0, oneShot
	case OfData:
		return oneShot, 0
	case OfAny:
		return allModes, allModes
	case OfPersistent:
		return persistent, persistent
	case OfPersistentRecursive:
		return recursive, 0
	}
	return 0, 0
}

// Config holds a table's limits. A watch is counted as ZooKeeper's watch_count
// counts it: one watcher at one path in one table, whatever the kinds; so a
// persistent watch is two.
type Config struct {
	MaxWatches           int // in the table
	MaxWatchesPerWatcher int // of one watcher

	HistoryBytes int // of past events that are kept; 0 keeps none
}

// DefaultConfig allows 2^20 watches, some 150 MB with paths of 40 bytes, and a
// quarter of them to one watcher. ZooKeeper has no such limits, and a client
// over one of them is disconnected, so they are far above what clients use. Of
// past events it keeps 8 MiB.
func DefaultConfig() Config {
	return Config{MaxWatches: 1 << 20, MaxWatchesPerWatcher: 1 << 18, HistoryBytes: 8 << 20}
}

// Validate says what is wrong with the limits, or nil.
func (c Config) Validate() error {
	switch {
	case c.MaxWatches < 1 || c.MaxWatches > math.MaxInt32:
		return fmt.Errorf("watch: limit of %d watches is not 1 to %d", c.MaxWatches, math.MaxInt32)
	case c.MaxWatchesPerWatcher < 1 || c.MaxWatchesPerWatcher > c.MaxWatches:
		return fmt.Errorf("watch: limit of %d watches a watcher is not 1 to %d, the limit of all",
			c.MaxWatchesPerWatcher, c.MaxWatches)
	case c.HistoryBytes < 0:
		return fmt.Errorf("watch: a history of %d bytes", c.HistoryBytes)
	}
	return nil
}
