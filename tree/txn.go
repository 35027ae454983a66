package tree

import "coord/tree/znode"

// Kind is what a Txn or one of its ops asks for. The numbers are in the log for ever.
type Kind uint8

// The kinds of ops.
const (
	KindCreate   Kind = 1
	KindDelete   Kind = 2
	KindSetData  Kind = 3
	KindSetACL   Kind = 4
	KindCheck    Kind = 5 // checks only the version and READ
	KindMulti    Kind = 6 // all of Txn.Ops or none
	KindReap     Kind = 7 // the leader's: delete a container or TTL znode if it is still due
	KindSession  Kind = 8 // create a session
	KindClose    Kind = 9 // end a session, with its ephemerals
	KindSettings Kind = 10
	KindAttach   Kind = 11 // give a session to another connection, and set its timeout
)

// AnyVersion is the expected version that matches every version.
const AnyVersion int32 = -1

// Op is one change that a client requests.
type Op struct {
	Kind    Kind
	Mode    znode.Mode // create
	Version int32      // delete, set, set ACL, check: expected, or AnyVersion
	Flags   Flags
	TTLMS   int64  // create with a TTL mode: 1 to znode.MaxTTLMS
	Limit   int32  // delete with Recursive: the most znodes it may remove
	Path    string // checked by the frontend, and again in Apply
	Data    []byte // create, set; nil (null) and empty are different values
	ACL     znode.ACL
}

// Flags widen an op beyond ZooKeeper's.
type Flags uint8

// The flags. Each op stays atomic with them.
const (
	Parents   Flags = 1 << iota // create: missing parents too, with their parent's ACL
	OrCreate                    // set: create the znode if it is missing (persistent)
	Recursive                   // delete: with everything below, at most Limit znodes
)

// Txn is one request, stamped. The leader's replica stamps TimeMS (and a new session's id and
// password); the origin's replica stamps Origin and Seq; the frontend fills in the rest.
type Txn struct {
	Origin     uint64 // node id of the replica that received the request
	Seq        uint64 // its number there, growing by one
	TimeMS     int64  // the leader's clock, never less than the previous stamp
	Session    int64  // the caller's, 0 for none
	Attachment uint32 // the attachment through which the caller uses it; refused if the session has moved since
	IDs        []znode.Identity
	Op              // of kind multi: only Kind is used
	Ops        []Op // of a multi

	// Sessions (KindSession, KindAttach, KindClose).
	Target    int64  // the session to attach or to end; the id of a new one
	TimeoutMS int32  // the session's timeout; for an attach 0 keeps the one that it has
	Password  []byte // 16 bytes
	Settings  Settings
}

// Settings decide, replicated, what node flags would otherwise decide differently on each node.
type Settings struct {
	EnforceQuota  bool // hard quotas are enforced
	ExtendedTypes bool // TTL znodes may be created
	SkipACL       bool // no ACL is checked
}

// DefaultSettings are in force until a settings txn changes them.
var DefaultSettings = Settings{EnforceQuota: true, ExtendedTypes: true}

// Result is the outcome of a txn.
type Result struct {
	Code       znode.Code
	Zxid       znode.Zxid
	Path       string     // create: the final path
	Stat       znode.Stat // create, set, set ACL: after the change
	Attachment uint32     // attach: the only valid one from now on
	Have       int32      // with ErrBadVersion: the version of the znode
	Op         int        // failed multi: the op that failed (from 0)
	Ops        []Result   // multi: one for each op
}
