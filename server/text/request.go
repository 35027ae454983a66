package text

import (
	"coord/tree/znode"
)

// AnyVersion is the expected version that every version meets.
const AnyVersion int32 = -1

// What a request gets that does not say.
const (
	DefaultListLimit   = 1000   // LS and TREE: items
	DefaultRemoveLimit = 100    // RM recursive: znodes
	DefaultSessionMS   = 10_000 // SESSION NEW and what needs a session: its ttl
	DefaultWaitMS      = 30_000 // WAIT
	DefaultDetachMS    = 60_000 // SESSION DETACH
)

// MaxWaitMS is the longest timeout, hold and ttl of a session.
const MaxWaitMS = 24 * 3600 * 1000

// protoVersion is the version of the protocol, in HELLO.
const protoVersion = 1

// MaxTagBytes is the longest tag, without its @.
const MaxTagBytes = 64

// Limits are what a Parser accepts, in bytes unless said otherwise.
type Limits struct {
	Line    int // one line without its end
	Payload int // one value sent as :len
	Txn     int // a whole TXN: its lines and its payloads
	Ops     int // operations in a TXN
	Skip    int // the longest refused line or payload that is read past; beyond it the connection is to be closed
}

// DefaultLimits are the documented ones.
func DefaultLimits() Limits {
	return Limits{
		Line:    16 << 10,
		Payload: 1 << 20,
		Txn:     1<<20 + 128<<10,
		Ops:     1000,
		Skip:    16 << 20,
	}
}

// Buffer is the most that a request can need of a connection's buffer before it
// is whole.
func (l Limits) Buffer() int { return max(l.Payload, l.Txn) + l.Line + 8 }

// Op is one operation: the part of a Request that can also stand in a TXN.
type Op struct {
	Verb      Verb
	Mode      znode.Mode // CREATE
	Version   int32      // SET, RM, SETACL, CHECK: expected, or AnyVersion
	Limit     int32      // LS, TREE: items; RM recursive: znodes
	Create    bool       // SET: create the znode if it is missing
	Parents   bool       // CREATE: missing parents too
	Recursive bool       // RM, WATCH, FOLLOW
	TTLMS     int64      // CREATE with a TTL mode: 1 to znode.MaxTTLMS; SESSION NEW, RESUME: 1 to MaxWaitMS
	Path      string     // judged by znode.CheckPath or CheckCreatePath
	Value     []byte     // CREATE, SET, WAIT: the data, never nil; AUTH, SESSION RESUME: the password. May alias the buffer
	ACL       znode.ACL  // CREATE (nil: none given), SETACL
}

// Request is one request. Its strings are its own; Value, and the Values of
// Ops, alias the buffer or the Parser and are valid until the next call of
// Next: who keeps them copies them.
type Request struct {
	Op
	CRLF      bool       // the line ended in CR LF or CR NUL, and so is to end the reply
	Stat      bool       // GET, LS, TREE: with the stat
	Data      bool       // TREE, FOLLOW: with the data
	Lin       bool       // GET: linearizable
	HasFormat bool       // HELLO: Format was given
	Format    Format     // FORMAT, HELLO
	Depth     int32      // TREE: levels below the path; 0 is all
	Tag       string     // without its @; empty for none
	After     string     // LS: a child's name, TREE: a path; the list begins behind it
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
	HasLive    bool // Live was given: RESUME may leave it as it was
	Live       Live
	HasHold    bool
	HoldMS     int64 // SESSION NEW, RESUME, DETACH
	Session    int64 // SESSION RESUME, CLOSE (0: the own one); SESSIONS: the list begins behind it (0: at the first)
	ID         int64 // UNWATCH
	Shared     bool  // LOCK
	Slots      int32 // LOCK: 0 for a lock that is none of slots

	Words []string // ADMIN: the first is in capitals, as those that are no node or address
}

// Watched says which changes a WATCH waits for.
type Watched uint8

// What a WATCH waits for.
const (
	WatchData     Watched = iota // of the value, or the deletion; the znode must be there
	WatchChildren                // of the names of the children; the same
	WatchExists                  // creation too
)

var watchedNames = [...]string{WatchData: "data", WatchChildren: "children", WatchExists: "exists"}

// String is the word.
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

// String is the word.
func (c Condition) String() string { return conditionNames[c] }

// Action is what a SESSION asks for.
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

// String is the word.
func (a Action) String() string { return actionNames[a] }

// Live says what keeps a session alive.
type Live uint8

// What keeps a session alive.
const (
	LiveTCP  Live = iota // its connection, as long as TCP has it
	LivePing             // lines of the client
)

var liveNames = [...]string{LiveTCP: "tcp", LivePing: "ping"}

// String is the word.
func (l Live) String() string { return liveNames[l] }

// Error is a request that was refused before anyone acted on it, or (from a
// Reader) a reply that is none.
type Error struct {
	Code  znode.Code
	Msg   string
	Tag   string // of the request
	Op    int    // the line of a TXN that is at fault, from 0; else -1
	CRLF  bool   // as Request.CRLF
	Close bool   // what follows cannot be trusted: answer, then close the connection

	misuse bool // the form of the verb is to be added
}

func (e *Error) Error() string { return "text: " + e.Code.Word() + ": " + e.Msg }

// Unwrap makes errors.Is(err, znode.ErrSyntax) work.
func (e *Error) Unwrap() error { return e.Code }

// Reply is the answer to the refused request.
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

// fatal is an error after which the stream cannot be trusted.
func fatal(code znode.Code, msg string) *Error {
	return &Error{Code: code, Msg: msg, Op: -1, Close: true}
}
