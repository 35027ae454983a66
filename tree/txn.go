package tree

import "coord/tree/znode"

// Kind says what a Txn or one of its ops asks for. The numbers stand in the log
// for ever.
type Kind uint8

// The kinds of ops.
const (
	KindCreate   Kind = 1
	KindDelete   Kind = 2
	KindSetData  Kind = 3
	KindSetACL   Kind = 4
	KindCheck    Kind = 5 // only the version and READ are judged
	KindMulti    Kind = 6 // all of Txn.Ops or none
	KindReap     Kind = 7 // the leader's: delete a container or TTL znode if it is still due
	KindSession  Kind = 8 // create a session
	KindClose    Kind = 9 // end a session, with its ephemerals
	KindSettings Kind = 10
	KindAttach   Kind = 11 // give a session to another connection
)

// AnyVersion is the expected version that every version meets.
const AnyVersion int32 = -1

// Op is one change that a client asks for.
type Op struct {
	Kind    Kind
	Mode    znode.Mode // create
	Version int32      // delete, set, set ACL, check: expected, or AnyVersion
	Flags   Flags
	TTLMS   int64  // create with a TTL mode: 1 to znode.MaxTTLMS
	Limit   int32  // delete with Recursive: the most znodes it may remove
	Path    string // judged at the edge, and again in Apply
	Data    []byte // create, set; nil (null) and empty are two values
	ACL     znode.ACL
}

// Flags widen an op beyond ZooKeeper's.
type Flags uint8

// The flags. Each keeps its op atomic.
const (
	Parents   Flags = 1 << iota // create: missing parents too, with their parent's ACL
	OrCreate                    // set: create the znode if it is missing (persistent)
	Recursive                   // delete: with everything below, at most Limit znodes
)

// Txn is what one request asks for, stamped. The leader's replica stamps TimeMS
// (and a new session's id and password); the origin's replica stamps Origin and
// Seq; the frontend fills in the rest.
type Txn struct {
	Origin     uint64 // node id of the replica that took the request
	Seq        uint64 // its number there, growing by one
	TimeMS     int64  // the leader's clock, never less than the stamp before
	Session    int64  // of the caller, 0 for none
	Attachment uint32 // through which the caller has it; refused if the session is elsewhere by now
	IDs        []znode.Identity
	Op              // of kind multi: only Kind is used
	Ops        []Op // of a multi

	// Sessions (KindSession, KindAttach, KindClose).
	Target    int64 // the session to attach or to end; the new one's id
	TimeoutMS int32
	Password  []byte // 16 bytes
	Settings  Settings
}

// Settings are the replicated answers to what a node's flags would otherwise
// decide differently on each node.
type Settings struct {
	EnforceQuota  bool // hard quotas refuse
	ExtendedTypes bool // TTL znodes may be created
	SkipACL       bool // no ACL is checked
}

// DefaultSettings are in force until a settings txn changes them.
var DefaultSettings = Settings{EnforceQuota: true, ExtendedTypes: true}

// Result is a txn's answer.
type Result struct {
	Code       znode.Code
	Zxid       znode.Zxid
	Path       string     // create: the final path
	Stat       znode.Stat // create, set, set ACL: after the change
	Attachment uint32     // attach: the one that counts from now on
	Have       int32      // with ErrBadVersion: the version there is
	Op         int        // failed multi: the op that failed (from 0)
	Ops        []Result   // multi: one an op
}
