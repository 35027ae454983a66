package znode

// EventType is ZooKeeper's number of a watch event.
type EventType int32

// The events that a server sends.
const (
	NodeCreated         EventType = 1
	NodeDeleted         EventType = 2
	NodeDataChanged     EventType = 3
	NodeChildrenChanged EventType = 4
)

// SessionEnded is not sent as such: the connection that serves the session is closed. ZooKeeper's
// clients know -1 as "none", with the state expired.
const SessionEnded EventType = -1

// SessionMoved is not sent as such either: another connection has the session now.
const SessionMoved EventType = -2

// String is the type's name in the text protocol.
func (t EventType) String() string {
	switch t {
	case NodeCreated:
		return "created"
	case NodeDeleted:
		return "deleted"
	case NodeDataChanged:
		return "changed"
	case NodeChildrenChanged:
		return "children"
	case SessionEnded:
		return "expired"
	case SessionMoved:
		return "moved"
	}
	return "none"
}

// Event is one change as watches see it.
type Event struct {
	Type EventType
	Path string // the changed znode; for NodeChildrenChanged the parent
	Zxid Zxid
	ACL  ACL // of the znode at Path; for NodeDeleted, as it was: clients without READ do not get the event

	Version int32  // for NodeCreated, NodeDataChanged: of the data
	Data    string // for the same types: the new value, in the tree's memory
	Session int64  // SessionEnded, SessionMoved
}
