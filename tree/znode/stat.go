package znode

// Stat is a znode's public record, field for field that of ZooKeeper. Times are milliseconds since
// 1970 as stamped by the leader.
type Stat struct {
	Czxid          Zxid  // the creating txn
	Mzxid          Zxid  // the last set (or the creation)
	Pzxid          Zxid  // the last create or delete of a direct child (or the znode's own creation)
	CtimeMS        int64 // when it was created
	MtimeMS        int64 // when it was last set (or created)
	Version        int32 // number of sets
	Cversion       int32 // grows by one with every create and delete of a direct child
	Aversion       int32 // number of ACL changes
	EphemeralOwner int64 // session id of an ephemeral znode, else 0 (also for container and TTL znodes)
	DataLength     int32 // bytes
	NumChildren    int32
}

// Stored owners of znodes that are neither persistent nor ephemeral. A ZooKeeper data folder holds
// the same values; clients see them as owner 0.
const (
	ContainerOwner int64 = -1 << 63
	ttlOwnerMask   int64 = -1 << 56 // 0xff in the top byte
	// MaxTTLMS is the largest TTL: 40 bits of milliseconds, about 34.8 years.
	MaxTTLMS int64 = 1<<40 - 1
)

// TTLOwner is the stored owner of a TTL znode; ttlMS is 1 to MaxTTLMS.
func TTLOwner(ttlMS int64) int64 { return ttlOwnerMask | ttlMS }

// ValidSession says whether a session may have this id: it is not 0, and as the stored owner of an
// ephemeral it would not be taken for a container or a TTL znode.
func ValidSession(id int64) bool { return id != 0 && ExplainOwner(id).Session == id }

// Owner explains a stored owner.
type Owner struct {
	Session   int64 // of an ephemeral znode, else 0
	Container bool
	TTLMS     int64 // of a TTL znode, else 0
}

// ExplainOwner splits a stored owner into its parts.
func ExplainOwner(stored int64) Owner {
	switch {
	case stored == ContainerOwner:
		return Owner{Container: true}
	case stored&ttlOwnerMask == ttlOwnerMask:
		return Owner{TTLMS: stored & MaxTTLMS}
	default:
		return Owner{Session: stored}
	}
}
