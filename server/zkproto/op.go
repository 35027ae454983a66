package zkproto

import (
	"strconv"

	"coord/tree/znode"
)

// Op is ZooKeeper's number of an operation.
type Op int32

// The operations. A client may send all except OpNotification, OpError and OpCreateSession. OpDeleteContainer is
// refused whatever its body is (ErrBadArguments), because only servers use it.
const (
	OpNotification         Op = 0
	OpCreate               Op = 1
	OpDelete               Op = 2
	OpExists               Op = 3
	OpGetData              Op = 4
	OpSetData              Op = 5
	OpGetACL               Op = 6
	OpSetACL               Op = 7
	OpGetChildren          Op = 8
	OpSync                 Op = 9
	OpPing                 Op = 11
	OpGetChildren2         Op = 12
	OpCheck                Op = 13
	OpMulti                Op = 14
	OpCreate2              Op = 15
	OpReconfig             Op = 16
	OpCheckWatches         Op = 17
	OpRemoveWatches        Op = 18
	OpCreateContainer      Op = 19
	OpDeleteContainer      Op = 20
	OpCreateTTL            Op = 21
	OpMultiRead            Op = 22
	OpAuth                 Op = 100
	OpSetWatches           Op = 101
	OpSASL                 Op = 102
	OpGetEphemerals        Op = 103
	OpGetAllChildrenNumber Op = 104
	OpSetWatches2          Op = 105
	OpAddWatch             Op = 106
	OpWhoAmI               Op = 107
	OpError                Op = -1 // in the results of a multi
	OpCreateSession        Op = -10
	OpCloseSession         Op = -11
)

// The xids that are not numbers of requests. A server echoes any xid, but always answers a ping
// with XidPing.
const (
	XidEvent      int32 = -1
	XidPing       int32 = -2
	XidAuth       int32 = -4 // sent by Java, C and kazoo; other clients number it
	XidSetWatches int32 = -8 // sent by C; Java 3.8.0 numbers it
)

// The modes of OpAddWatch, in Request.Kind.
const (
	AddPersistent int32 = 0
	AddRecursive  int32 = 1 // persistent recursive
)

// The types of watches for OpCheckWatches and OpRemoveWatches, in Request.Kind. ZooKeeper knows the
// last two from 3.9 on.
const (
	OfChildren   int32 = 1
	OfData       int32 = 2
	OfAny        int32 = 3
	OfPersistent int32 = 4
	OfRecursive  int32 = 5
)

// AnyVersion is the expected version that matches every version.
const AnyVersion int32 = -1

// place says where an operation is allowed.
type place uint8

const (
	alone   place = 1 << iota // in a frame of its own
	inMulti                   // in a multi
	inReads                   // in a multiRead
)

// field is one field of a request's body, and its place in a Request.
type field uint8

const (
	path     field = iota // Path; null is refused
	anyPath               // Path; null is znode.Null
	prefix                // Path; null is empty
	data                  // Data
	acl                   // ACL
	flags                 // Flags
	ttl                   // TTLMS
	version               // Version
	watch                 // Watch
	addMode               // Kind, one of AddPersistent, AddRecursive
	ofType                // Kind, one of OfChildren … OfRecursive
	authType              // 0; its value is ignored
	scheme                // Scheme
	joining               // Joining
	leaving               // Leaving
	members               // Members
	config                // Config
	zxid                  // Zxid
	lists3                // Watches[:3]
	lists5                // Watches
	parts                 // Ops
)

// shape describes an operation; both directions use it.
type shape struct {
	op    Op
	name  string
	where place // 0: not for clients
	body  []field
}

var (
	createBody = []field{anyPath, data, acl, flags}
	readBody   = []field{path, watch}
	checkBody  = []field{anyPath, version}
)

var shapes = [...]shape{
	{OpCreateSession, "createSession", 0, nil},
	{OpCloseSession, "closeSession", alone, nil},
	{OpError, "error", 0, nil},
	{OpNotification, "notification", 0, nil},
	{OpCreate, "create", alone | inMulti, createBody},
	{OpDelete, "delete", alone | inMulti, checkBody},
	{OpExists, "exists", alone, readBody},
	{OpGetData, "getData", alone | inReads, readBody},
	{OpSetData, "setData", alone | inMulti, []field{anyPath, data, version}},
	{OpGetACL, "getACL", alone, []field{path}},
	{OpSetACL, "setACL", alone, []field{anyPath, acl, version}},
	{OpGetChildren, "getChildren", alone | inReads, readBody},
	{OpSync, "sync", alone, []field{anyPath}},
	{OpPing, "ping", alone, nil},
	{OpGetChildren2, "getChildren2", alone, readBody},
	{OpCheck, "check", alone | inMulti, checkBody},
	{OpMulti, "multi", alone, []field{parts}},
	{OpCreate2, "create2", alone | inMulti, createBody},
	{OpReconfig, "reconfig", alone, []field{joining, leaving, members, config}},
	{OpCheckWatches, "checkWatches", alone, []field{path, ofType}},
	{OpRemoveWatches, "removeWatches", alone, []field{anyPath, ofType}},
	{OpCreateContainer, "createContainer", alone | inMulti, createBody},
	{OpDeleteContainer, "deleteContainer", alone, nil},
	{OpCreateTTL, "createTTL", alone | inMulti, []field{anyPath, data, acl, flags, ttl}},
	{OpMultiRead, "multiRead", alone, []field{parts}},
	{OpAuth, "auth", alone, []field{authType, scheme, data}},
	{OpSetWatches, "setWatches", alone, []field{zxid, lists3}},
	{OpSASL, "sasl", alone, []field{data}},
	{OpGetEphemerals, "getEphemerals", alone, []field{prefix}},
	{OpGetAllChildrenNumber, "getAllChildrenNumber", alone, []field{path}},
	{OpSetWatches2, "setWatches2", alone, []field{zxid, lists5}},
	{OpAddWatch, "addWatch", alone, []field{anyPath, addMode}},
	{OpWhoAmI, "whoAmI", alone, nil},
}

// byNumber holds the shapes by number; a number without an operation has an empty one.
var byNumber = func() (t [OpWhoAmI - OpCloseSession + 1]shape) {
	for _, s := range shapes {
		t[s.op-OpCloseSession] = s
	}
	return t
}()

func (o Op) shape() *shape {
	if o < OpCloseSession || o > OpWhoAmI {
		o = 10 // no operation has this number
	}
	return &byNumber[o-OpCloseSession]
}

// String returns the operation's name.
func (o Op) String() string {
	if s := o.shape(); s.name != "" {
		return s.name
	}
	return "op " + strconv.Itoa(int(o))
}

// Mode returns the create mode that the flags of a create ask for. The flags are the number of the
// mode, whatever the operation, with two exceptions: OpCreateTTL makes only znodes with a TTL, and
// OpCreateContainer makes a container (a persistent sequential znode, if the flags ask for a
// sequence number) unless the flags ask for a TTL. The error is a znode.ErrBadArguments. A TTL mode
// in an operation other than OpCreateTTL is not refused here: the operation has no TTLMS, and which
// error follows depends on whether TTLs are enabled.
func (p *Part) Mode() (znode.Mode, error) {
	mode := znode.Mode(p.Flags)
	switch {
	case !mode.Valid() || p.Op == OpCreateTTL && !mode.TTL():
		return 0, znode.ErrBadArguments
	case p.Op != OpCreateContainer || mode.TTL():
		return mode, nil
	case mode.Sequential(): // the name must get its number; that the znode is never reaped goes unnoticed
		return znode.PersistentSequential, nil
	}
	return znode.Container, nil
}
