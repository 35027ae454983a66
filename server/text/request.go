package text

import (
	"coord/tree/znode"
)

// AnyVersion is the expected version that matches every version.
const AnyVersion int32 = -1

// Defaults of what a request leaves out.
const (
	DefaultListLimit   = 1000   // LS and TREE: items
	DefaultRemoveLimit = 100    // RM recursive: znodes
	DefaultSessionMS   = 10_000 // SESSION NEW and requests that need a session: its ttl
	DefaultWaitMS      = 30_000 // WAIT
	DefaultDetachMS    = 60_000 // SESSION DETACH
)

// MaxWaitMS is the longest timeout, hold and ttl of a session.
const MaxWaitMS = 24 * 3600 * 1000

// protoVersion is the version of the protocol, in HELLO.
const protoVersion = 1

// MaxTagBytes is the longest tag, without its @.
const MaxTagBytes = 64

// Limits bound what a Parser accepts, in bytes unless noted otherwise.
type Limits struct {
	Line    int // one line without its end
	Payload int // one value sent as :len
	Txn     int // a whole TXN: its lines and its payloads
	Ops     int // operations in a TXN
	Skip    int // the longest refused line or payload that is discarded; for a longer one the connection must be closed
}

// DefaultLimits returns the documented limits.
func DefaultLimits() Limits {
	return Limits{
		Line:    16 << 10,
		Payload: 1 << 20,
		Txn:     1<<20 + 128<<10,
		Ops:     1000,
		Skip:    16 << 20,
	}
}

// Buffer returns the largest size that a connection's buffer needs until a request is complete.
func (l Limits) Buffer() int { return max(l.Payload, l.Txn) + l.Line + 8 }

// Op is one operation: the part of a Request that can also stand in a TXN.
type Op struct {
	Verb      Verb
	Mode      znode.Mode // CREATE
	Version   int32      // SET, RM, SETACL, CHECK: expected, or AnyVersion
	Limit     int32      // LS, TREE: items; RM recursive: znodes
	Create    bool       // SET: create the znode if it is missing
	Parents   bool       // CREATE: create missing parents too
	Recursive bool       // RM, WATCH, FOLLOW
	TTLMS     int64      // CREATE with a TTL mode: 1 to znode.MaxTTLMS; SESSION NEW, RESUME: 1 to MaxWaitMS
	Path      string     // checked by znode.CheckPath or CheckCreatePath
	Value     []byte     // CREATE, SET, WAIT: the data, never nil; AUTH, SESSION RESUME: the password. May alias the buffer
	ACL       znode.ACL  // CREATE (nil: none given), SETACL
}

// Request is one request. It owns its strings. Value, and the Values of Ops, alias the buffer or
// the Parser and are valid until the next call of Next; a caller that keeps them must copy them.
type Request struct {
	Op
	CRLF      bool       // the line ended in CR LF or CR NUL, and so the reply must end in CR LF
	Stat      bool       // GET, LS, TREE: with the stat
	Data      bool       // TREE, FOLLOW: with the data
	Lin       bool       // GET: linearizable
	HasFormat bool       // HELLO: Format was given
	Format    Format     // FORMAT, HELLO
	Depth     int32      // TREE: levels below the path; 0 is all
	Tag       string     // without its @; empty for none
	After     string     // LS: a child's name, TREE: a path; the list begins after it
	Name      string     // HELLO: client, AUTH: user, HELP: verb
	HasZxid   bool       // Zxid was given: since=0x0 is not the same as none
	Zxid      znode.Zxid // HELLO, SESSION RESUME: the last one seen; SNAPSHOT: at least this one; WATCH, WAIT, FOLLOW: since
	Ops       []Op       // TXN

	Watch      bool    // GET, EXISTS, LS: arm a one-shot watch
	Kind       Watched // WATCH
	Persistent bool    // WATCH
	Condition  Condition
	HasTimeout bool
	TimeoutMS  int64 // WAIT, LOCK
	Action     Action
	HasLive    bool // Live was given; otherwise it is LiveTCP
	Live       Live
	HasHold    bool
	HoldMS     int64 // SESSION NEW, RESUME, DETACH
	Session    int64 // SESSION RESUME, CLOSE (0: the connection's own); SESSIONS: the list begins after it (0: with the first)
	ID         int64 // UNWATCH
	Shared     bool  // LOCK
	Slots      int32 // LOCK: 0 if the lock has no slots

	Words []string // ADMIN: the first, and those that are not nodes or addresses, are in capitals
}

// Watched says which changes a WATCH waits for.
type Watched uint8

// The values of Watched.
const (
	WatchData     Watched = iota // changes of the value, or the deletion; the znode must exist
	WatchChildren                // changes of the children's names; the same
	WatchExists                  // as WatchData, and the creation
)

var watchedNames = [...]string{WatchData: "data", WatchChildren: "children", WatchExists: "exists"}

// String returns the word.
func (w Watched) String() string { return watchedNames[w] }

// Condition is what a WAIT waits for.
type Condition uint8

// The conditions.
const (
	NoCondition Condition = iota
	UntilExists
	UntilGone
	UntilChange
	UntilValue // Op.Value
)

var conditionNames = [...]string{NoCondition: "", UntilExists: "EXISTS", UntilGone: "GONE", UntilChange: "CHANGE", UntilValue: "VALUE"}

// String returns the word.
func (c Condition) String() string { return conditionNames[c] }

// Action is what a SESSION does.
type Action uint8

// The actions.
const (
	NoAction Action = iota
	NewSession
	ResumeSession
	DetachSession
	SessionInfo
	CloseSession
)

var actionNames = [...]string{NoAction: "", NewSession: "NEW", ResumeSession: "RESUME", DetachSession: "DETACH", SessionInfo: "INFO", CloseSession: "CLOSE"}

// String returns the word.
func (a Action) String() string { return actionNames[a] }

// Live says what keeps a session alive.
type Live uint8

// The values of Live.
const (
	LiveTCP  Live = iota // the connection, until TCP ends it
	LivePing             // lines of the client
)

var liveNames = [...]string{LiveTCP: "tcp", LivePing: "ping"}

// String returns the word.
func (l Live) String() string { return liveNames[l] }

// Error is a request that was refused before it was executed, or (from a Reader) an invalid reply.
type Error struct {
	Code  znode.Code
	Msg   string
	Tag   string // of the request
	Op    int    // the line of a TXN that is at fault, from 0; else -1
	CRLF  bool   // as Request.CRLF
	Close bool   // the rest of the stream cannot be trusted: answer, then close the connection

	misuse bool // the form of the verb must be added
}

func (e *Error) Error() string { return "text: " + e.Code.Word() + ": " + e.Msg }

// Unwrap makes errors.Is(err, znode.ErrSyntax) work.
func (e *Error) Unwrap() error { return e.Code }

// Reply returns the answer to the refused request.
func (e *Error) Reply() Reply {
	r := Reply{Kind: KindErr, Tag: e.Tag, Code: e.Code, Message: e.Msg}
	if e.Op >= 0 {
		r.Fields = []Field{Int(KeyOp, int64(e.Op))}
	}
	return r
}

func syntaxError(msg string) *Error {
	return &Error{Code: znode.ErrSyntax, Msg: msg, Op: -1}
}

// fatal returns an error after which the stream cannot be trusted.
func fatal(code znode.Code, msg string) *Error {
	return &Error{Code: code, Msg: msg, Op: -1, Close: true}
}
