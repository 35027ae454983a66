// Package watch records which watcher waits for which path, and notifies the watchers of events:
// one-shot, persistent and persistent recursive watches with the semantics of ZooKeeper 3.9, where
// different kinds of one watcher at one path coexist.
//
// The package knows no tree, no session and no wire format. It does not check whether a znode
// exists. It makes no catch-up events for a client that reconnects: the frontend does, by the rules
// of Kind.Missed and Kind.Concerns, and then adds only the watches that have not fired. It starts
// no goroutine and reads no clock.
//
// # Who may call
//
// Add, Has, Remove, Attach, Attached, Detach and Since belong to a read and are called inside its
// View, with the state lock held at least shared. Only the applier calls Trigger, between two
// entries, with the state lock held exclusively. Hence no watch is added between a change and its
// events, and events of two changes never mix. Any goroutine may call Drop and the counting methods
// at any time.
//
// # Lock order
//
// The state lock comes first, then the table's own lock, which is a leaf: while it is held the
// table calls nothing but Watcher.Closed, which takes no lock. Trigger collects the receivers under
// the table's lock, releases it, and then calls Identities and Notify, which may take the
// connection's own leaf lock.
//
// # Shape
//
//	heads["/a"] ──> entry ──> entry ──> entry     one list a path, oldest first
//	                  |         |         |
//	owner.first ──> entry     entry     entry     one list a watcher, newest first
//
// An entry is one watcher at one path in one of the two tables (data, child), with a bit for each
// kind; 64 bytes. Rejected: a set for each path and a set for each watcher, as in ZooKeeper. They
// take 375 bytes per watch instead of 147 where each path (of 34 bytes) has one watcher, the usual
// case; and a set has no order.
package watch

import (
	"fmt"
	"math"

	"coord/tree/znode"
)

// Watcher is a connection, or a part of one that is notified separately. The table compares
// watchers by identity, so a Watcher must be a pointer.
type Watcher interface {
	// Notify receives one event. It must not block and must not call the table. It ignores an event
	// that comes after the watcher has ended.
	Notify(e znode.Event)

	// Identities returns the identities that the watcher has proved. Trigger calls it when an
	// event's ACL does not let everyone read, and only reads the slice.
	Identities() []znode.Identity

	// Closed says whether the watcher has ended. It is called under the table's lock, so it must be
	// no more than an atomic load. It must return true before Drop is called, so that no late Add
	// can leave a watch behind.
	Closed() bool
}

// Kind is the kind of watch that a request registers.
type Kind uint8

// The kinds of watches. Data and Exist are the same entry of the data table: a watcher that
// registers both at one path is notified once.
const (
	Data                Kind = iota + 1 // getData: one-shot, data table
	Exist                               // exists: one-shot, data table
	Children                            // getChildren: one-shot, child table
	Persistent                          // addWatch mode 0: stays, both tables
	PersistentRecursive                 // addWatch mode 1: stays, the znode and all its descendants, data table
)

// modes is the set of kinds of one entry in one table.
type modes uint8

const (
	oneShot modes = 1 << iota
	persistent
	recursive
	allModes = oneShot | persistent | recursive
)

// tables returns the modes that a kind sets in the data and in the child table.
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
	panic(fmt.Sprintf("watch: unknown kind %d", k))
}

// Concerns says whether a watch of this kind at path is notified of an event of that type at the
// path at.
func (k Kind) Concerns(path string, typ znode.EventType, at string) bool {
	switch {
	case at != path:
		return k == PersistentRecursive && typ != znode.NodeChildrenChanged && znode.Below(at, path)
	case typ == znode.NodeChildrenChanged:
		return k == Children || k == Persistent
	}
	return k != Children || typ == znode.NodeDeleted
}

// Missed returns the event that a one-shot watch of a client that comes back would have delivered
// since a zxid, judged by the znode's present state, or 0. This is ZooKeeper's rule for setWatches,
// with its signed zxids. A persistent watch has no such event.
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

// Type is the type of watch that checkWatches and removeWatches ask for: ZooKeeper's WatcherType
// with its numbers on the wire.
type Type int32

// The types.
const (
	OfChildren            Type = 1 // one-shot in the child table
	OfData                Type = 2 // one-shot in the data table
	OfAny                 Type = 3 // every kind in both tables
	OfPersistent          Type = 4
	OfPersistentRecursive Type = 5
)

// Valid says whether the number is one of the types. The decoder refuses a request with another
// number (ErrMarshalling); here such a number matches nothing.
func (t Type) Valid() bool { return t >= OfChildren && t <= OfPersistentRecursive }

// tables returns the modes that a type matches in the data and in the child table.
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

// MeanPathBytes is how long the paths of a watcher's watches, and those of all watches, may be on
// average when there are as many as Config allows; if they are longer, fewer are allowed. The path
// of each watch counts, even if others are at the same path. A client may watch paths without a
// znode, so without this limit the longest paths would take 4 GiB.
const MeanPathBytes = 1 << 10

// Config holds a table's limits. Watches are counted as in ZooKeeper's watch_count: one watcher at
// one path in one table is one watch, whatever its kinds; so a persistent watch counts twice.
type Config struct {
	MaxWatches           int // in the table
	MaxWatchesPerWatcher int // per watcher

	HistoryBytes int // of past events to keep; 0 keeps none
}

// DefaultConfig allows 2^20 watches, some 150 MB with paths of 40 bytes, and a quarter of them per
// watcher. ZooKeeper has no such limits, and a client that exceeds one is disconnected, so they are
// far above what clients use. Their paths have 1 GiB together, and 256 MiB per watcher. It keeps 8 MiB
// of past events.
func DefaultConfig() Config {
	return Config{MaxWatches: 1 << 20, MaxWatchesPerWatcher: 1 << 18, HistoryBytes: 8 << 20}
}

// Validate returns what is wrong with the limits, or nil.
func (c Config) Validate() error {
	switch {
	case c.MaxWatches < 1 || c.MaxWatches > math.MaxInt32:
		return fmt.Errorf("watch: limit of %d watches is not 1 to %d", c.MaxWatches, math.MaxInt32)
	case c.MaxWatchesPerWatcher < 1 || c.MaxWatchesPerWatcher > c.MaxWatches:
		return fmt.Errorf("watch: limit of %d watches a watcher is not 1 to %d, the limit of all",
			c.MaxWatchesPerWatcher, c.MaxWatches)
	case c.HistoryBytes < 0:
		return fmt.Errorf("watch: invalid history size of %d bytes", c.HistoryBytes)
	}
	return nil
}
