package text

import (
	"coord/tree/znode"
)

// Verb is what a request asks for.
type Verb uint8

// The verbs. The numbers are internal, the names stay for ever.
const (
	VerbGet Verb = iota + 1
	VerbSet
	VerbExists
	VerbLs
	VerbTree
	VerbCreate
	VerbRm
	VerbTxn
	VerbCheck // only in a TXN
	VerbSync
	VerbCat
	VerbGetACL
	VerbSetACL
	VerbSnapshot
	VerbAuth
	VerbHello
	VerbFormat
	VerbPing
	VerbInfo
	VerbHelp
	VerbQuit
	numVerbs
)

// String is the verb's name.
func (v Verb) String() string {
	if v == 0 || v >= numVerbs {
		return "none"
	}
	return verbs[v].name
}

// Writes says whether the verb changes something, so that its outcome can be
// unknown.
func (v Verb) Writes() bool { return v < numVerbs && verbs[v].write }

// valueRule says what a verb's last argument may be.
type valueRule uint8

const (
	valueNone    valueRule = iota
	valueAny               // a word, a quoted string or a payload
	valuePayload           // a payload: a secret
)

// verb is a row of the table from which requests are parsed, HELP is printed
// and docs/text-protocol.md is checked.
type verb struct {
	name    string
	form    string
	does    string
	replies []string
	errors  []znode.Code // beside those that every verb, and every write, can answer
	example []string
	since   string // coord's version

	write   bool // also the errors of a write
	inTxn   bool
	path    bool      // the first argument is a path
	value   valueRule // the last one
	options []option
	words   int // how many words it needs that are neither
	word    func(r *Request, i int, a *arg) *Error
	finish  func(r *Request) *Error // what its arguments say together
}

// The errors that need no word at each verb.
var (
	anyErrors = []znode.Code{
		znode.ErrSyntax, znode.ErrUnknown, znode.ErrProtocol, znode.ErrTooBig, znode.ErrLimit, znode.ErrSessionExpired,
		znode.ErrThrottledOp, znode.ErrSlowClient, znode.ErrTimeout, znode.ErrShutdown, znode.ErrInternal,
	}
	writeErrors = []znode.Code{
		znode.ErrNoLeader, znode.ErrNoSpace, znode.ErrNotReadOnly, znode.ErrUncertain,
	}
)

const since = "0.1"

var (
	optV         = option{"v", true, setVersion}
	optStat      = setFlag("stat", func(r *Request) *bool { return &r.Stat })
	optLimit     = setCount("limit", func(r *Request) *int32 { return &r.Limit })
	optACL       = option{"acl", true, setACL}
	optFormat    = option{"format", true, setFormat}
	optAfter     = option{"after", true, setAfter}
	optSEQ       = option{"SEQ", false, setSequential}
	optContainer = option{"CONTAINER", false, setContainer}
)

var verbs = [numVerbs]verb{
	VerbGet: {
		name: "GET", form: "GET path [stat] [lin]", since: since, path: true,
		does:    "Reads the value of a znode. lin asks the leader first, so that every write that was answered before is seen.",
		replies: []string{"DATA len v= zxid=", "with stat: DATA len v= cv= av= children= eph= len= ctime= mtime= czxid= mzxid= pzxid= zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth, znode.ErrNoLeader},
		example: []string{"GET /app", "GET /app stat lin"},
		options: []option{optStat, setFlag("lin", func(r *Request) *bool { return &r.Lin })},
	},
	VerbSet: {
		name: "SET", form: "SET path [v=N] [create] value", since: since, path: true, value: valueAny, write: true, inTxn: true,
		does:    "Replaces the value of a znode; with v= only if that is its version; with create a missing znode is created.",
		replies: []string{"OK v= zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrBadVersion, znode.ErrNoAuth, znode.ErrQuotaExceeded},
		example: []string{`SET /app v=7 "new value"`, "SET /app create :5"},
		options: []option{optV, setFlag("create", func(r *Request) *bool { return &r.Create })},
	},
	VerbExists: {
		name: "EXISTS", form: "EXISTS path", since: since, path: true,
		does:    "Shows the stat of a znode.",
		replies: []string{"OK v= cv= av= children= eph= len= ctime= mtime= czxid= mzxid= pzxid= zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"EXISTS /app"},
	},
	VerbLs: {
		name: "LS", form: "LS path [stat] [limit=1000] [after=name]", since: since, path: true,
		does:    "Lists the names of a znode's children in byte order, at most limit of them, beginning behind the name given by after. more=1 says that there are more.",
		replies: []string{"LIST n zxid= [more=1], n times ITEM name", "with stat: ITEM name, and where the child may be read v= cv= av= children= eph= len= ctime= mtime= czxid= mzxid= pzxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"LS /app", "LS /app stat limit=10 after=b"},
		options: []option{optStat, optLimit, optAfter},
		finish: func(r *Request) *Error {
			if r.Limit == 0 {
				r.Limit = DefaultListLimit
			}
			return nil
		},
	},
	VerbTree: {
		name: "TREE", form: "TREE path [depth=N] [limit=1000] [after=path] [stat] [data]", since: since, path: true,
		does:    "Lists a znode and all below it, each followed by its children in byte order: full paths, at most limit of them, depth levels down, beginning behind the path given by after. With data each comes with its value.",
		replies: []string{"LIST n zxid= [more=1], n times ITEM path", "with data: n times DATA len path= v=, or ERR NOAUTH path= where the value may not be read", "with stat: each that may be read with v= cv= av= children= eph= len= ctime= mtime= czxid= mzxid= pzxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"TREE /app depth=2", "TREE / limit=100 after=/app/b stat data"},
		options: []option{
			setCount("depth", func(r *Request) *int32 { return &r.Depth }), optLimit, optAfter, optStat,
			setFlag("data", func(r *Request) *bool { return &r.Data }),
		},
		finish: finishTree,
	},
	VerbCreate: {
		name: "CREATE", form: "CREATE path [SEQ] [CONTAINER] [ttl=30s] [parents] [acl=a,b,…] value", since: since,
		path: true, value: valueAny, write: true, inTxn: true,
		does:    "Creates a znode. SEQ appends the parent's counter to the name. A CONTAINER is deleted some time after its last child; a znode with a ttl once it has no children and was not set for that long. parents creates missing parents too.",
		replies: []string{"OK path= v=0 zxid="},
		errors: []znode.Code{
			znode.ErrNodeExists, znode.ErrNoNode, znode.ErrNoAuth, znode.ErrNoChildrenForEphemerals, znode.ErrInvalidACL, znode.ErrQuotaExceeded,
		},
		example: []string{"CREATE /app hello", `CREATE /queue/job- SEQ parents acl=world:anyone:r,auth::cdrwa ""`},
		options: []option{
			optSEQ, optContainer, {"ttl", true, setTTL}, setFlag("parents", func(r *Request) *bool { return &r.Parents }), optACL,
		},
		finish: finishCreate,
	},
	VerbRm: {
		name: "RM", form: "RM path [v=N] [recursive [limit=100]]", since: since, path: true, write: true, inTxn: true,
		does:    "Deletes a znode; with v= only if that is its version; recursive with all below it, if that is at most limit znodes in all: all of them or none.",
		replies: []string{"OK zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrBadVersion, znode.ErrNotEmpty, znode.ErrNoAuth},
		example: []string{"RM /app v=3", "RM /app recursive limit=500"},
		options: []option{optV, setFlag("recursive", func(r *Request) *bool { return &r.Recursive }), optLimit},
		finish: func(r *Request) *Error {
			switch {
			case r.Limit != 0 && !r.Recursive:
				return syntaxError("limit= belongs to recursive")
			case r.Limit == 0 && r.Recursive:
				r.Limit = DefaultRemoveLimit
			}
			return nil
		},
	},
	VerbTxn: {
		name: "TXN", form: "TXN n", since: since, write: true,
		does:    "The n lines that follow, each a CHECK, CREATE, SET or RM, are done all or none, with nothing in between.",
		replies: []string{"LIST n zxid=, n times the OK of that line", "ERR of the first line that cannot be done, with op= its number from 0"},
		errors: []znode.Code{
			znode.ErrNoNode, znode.ErrNodeExists, znode.ErrBadVersion, znode.ErrNotEmpty, znode.ErrNoAuth,
			znode.ErrNoChildrenForEphemerals, znode.ErrInvalidACL, znode.ErrQuotaExceeded,
		},
		example: []string{"TXN 2", "CHECK /app v=7", "SET /app/x y"},
	},
	VerbCheck: {
		name: "CHECK", form: "CHECK path [v=N]", since: since, path: true, inTxn: true,
		does:    "Only in a TXN: the znode must exist, with v= at that version.",
		replies: []string{"OK"},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrBadVersion, znode.ErrNoAuth},
		example: []string{"TXN 1", "CHECK /app v=7"},
		options: []option{optV},
	},
	VerbSync: {
		name: "SYNC", form: "SYNC path", since: since, path: true,
		does:    "Answers once this node has applied every write that was answered before, anywhere. The path does not matter.",
		replies: []string{"OK zxid="},
		errors:  []znode.Code{znode.ErrNoLeader},
		example: []string{"SYNC /"},
	},
	VerbCat: {
		name: "CAT", form: "CAT path", since: since, path: true,
		does:    "Sends the bytes of the value, nothing else, and closes the connection. A znode that is missing or may not be read gives no bytes: use GET to tell.",
		replies: []string{"the bytes, then the end of the connection"},
		example: []string{"CAT /app"},
	},
	VerbGetACL: {
		name: "GETACL", form: "GETACL path", since: since, path: true,
		does:    "Lists who may do what: scheme:id:permissions, of which there are c(reate) d(elete) r(ead) w(rite) a(dmin). Without ADMIN the hashes of digest entries show as x.",
		replies: []string{"LIST n av=, n times ITEM entry"},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"GETACL /app"},
	},
	VerbSetACL: {
		name: "SETACL", form: "SETACL path acl… [v=N]", since: since, path: true, write: true,
		does:    "Replaces the ACL of a znode, with v= only if that is the version of the ACL (av).",
		replies: []string{"OK av= zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrBadVersion, znode.ErrNoAuth, znode.ErrInvalidACL},
		example: []string{"SETACL /app world:anyone:r auth::cdrwa v=0"},
		options: []option{optV},
		words:   1,
		word:    func(r *Request, _ int, a *arg) *Error { return setACL(r, a.val) },
	},
	VerbSnapshot: {
		name: "SNAPSHOT", form: "SNAPSHOT [min=zxid]", since: since,
		does:    "Streams a snapshot of everything, exact at one zxid, of at least min. Needs operator rights. The framing is the same in every format.",
		replies: []string{"OK zxid=, then CHUNK len blocks, then END sha256= bytes=", "ERR in the place of a CHUNK: the stream is cut, what came is worthless"},
		errors:  []znode.Code{znode.ErrNoAuth},
		example: []string{"SNAPSHOT", "SNAPSHOT min=0x100000005"},
		options: []option{setZxid("min")},
	},
	VerbAuth: {
		name: "AUTH", form: "AUTH digest user :len", since: since, value: valuePayload,
		does:    "Adds the identity of a user to the connection; the password is the payload. Refused on clear-text TCP off loopback.",
		replies: []string{"OK user="},
		errors:  []znode.Code{znode.ErrAuthFailed},
		example: []string{"AUTH digest alice :6"},
		words:   2,
		word:    authWord,
	},
	VerbHello: {
		name: "HELLO", form: "HELLO [proto=1] [format=text|json|b64] [client=name] [zxid=zxid]", since: since,
		does:    "Introduces both sides; nothing requires it. zxid is the last one seen: the node answers once it has come that far, so that a client that moves never sees time go back.",
		replies: []string{"OK proto=1 server=coord version= node= role= cluster= zxid="},
		errors:  []znode.Code{znode.ErrNoLeader},
		example: []string{"HELLO", "HELLO proto=1 format=json client=backup zxid=0x100000005"},
		options: []option{{"proto", true, setProto}, optFormat, {"client", true, setName}, setZxid("zxid")},
	},
	VerbFormat: {
		name: "FORMAT", form: "FORMAT text|json|b64", since: since,
		does:    "Chooses how replies are written from here on, the reply to this request included.",
		replies: []string{"OK format="},
		example: []string{"FORMAT json"},
		words:   1,
		word: func(r *Request, i int, a *arg) *Error {
			if i > 0 {
				return syntaxError("one format is meant")
			}
			return setFormat(r, a.val)
		},
	},
	VerbPing: {
		name: "PING", form: "PING", since: since,
		does:    "Shows that the connection and the node are alive.",
		replies: []string{"OK pong"},
		example: []string{"PING"},
	},
	VerbInfo: {
		name: "INFO", form: "INFO", since: since,
		does:    "Lists what the four-letter word mntr shows.",
		replies: []string{"LIST n, n times ITEM name value="},
		example: []string{"INFO"},
	},
	VerbHelp: {
		name: "HELP", form: "HELP [verb]", since: since,
		does:    "Lists the forms of all verbs, or explains one.",
		replies: []string{"LIST n, n times ITEM line"},
		example: []string{"HELP", "HELP GET"},
		word: func(r *Request, i int, a *arg) *Error {
			if i > 0 {
				return syntaxError("HELP explains one verb")
			}
			r.Name = string(a.val)
			return nil
		},
	},
	VerbQuit: {
		name: "QUIT", form: "QUIT", since: since,
		does:    "Closes the connection once all before it is answered.",
		replies: []string{"OK bye"},
		example: []string{"QUIT"},
	},
}

// verbNames are the verbs' names as numbers, see packVerb.
var verbNames = func() (names [numVerbs]uint64) {
	for v := Verb(1); v < numVerbs; v++ {
		names[v] = packVerb([]byte(verbs[v].name))
	}
	return names
}()

// packVerb makes a number of the up to eight letters of a verb, without regard
// to their case; 0 if it is none.
func packVerb(b []byte) uint64 {
	if len(b) > 8 {
		return 0
	}
	var n uint64
	for _, c := range b {
		c &^= 0x20
		if c < 'A' || c > 'Z' {
			return 0
		}
		n = n<<8 | uint64(c)
	}
	return n
}

// findVerb finds a verb by its name, or returns 0.
func findVerb(b []byte) Verb {
	if n := packVerb(b); n != 0 {
		for v, name := range verbNames {
			if name == n {
				return Verb(v)
			}
		}
	}
	return 0
}
