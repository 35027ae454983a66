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
	}
	return "none"
}

// Event is one change as watches see it.
type Event struct {
	Type EventType
	Path string // the changed znode; for NodeChildrenChanged the parent
	Zxid Zxid
	ACL  ACL // of the znode at Path, as it was for NodeDeleted: who lacks READ is not told
}
