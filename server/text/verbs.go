package text

import (
	"coord/tree/znode"
)

// Verb is the operation of a request.
type Verb uint8

// The verbs. The numbers are internal; the names never change.
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
	VerbWatch
	VerbUnwatch
	VerbWait
	VerbFollow
	VerbSession
	VerbSessions
	VerbLock
	VerbUnlock
	VerbAdmin
	numVerbs
)

// String returns the verb's name.
func (v Verb) String() string {
	if v == 0 || v >= numVerbs {
		return "none"
	}
	return verbs[v].name
}

// Writes says whether the request changes something, so that its outcome can be uncertain.
func (r *Request) Writes() bool {
	return r.Verb < numVerbs && verbs[r.Verb].write && (r.Verb != VerbAdmin || len(r.Words) == 0 || r.Words[0] != AdminMembers)
}

// valueRule says what form a verb's last argument may have.
type valueRule uint8

const (
	valueNone    valueRule = iota
	valueAny               // a word, a quoted string or a payload
	valuePayload           // a payload: a secret
	valueMaybe             // the same, or none; finish decides
)

// verb is a row of the table that drives parsing and HELP and against which docs/text-protocol.md
// is checked.
type verb struct {
	name    string
	form    string
	does    string
	replies []string
	errors  []znode.Code // in addition to those that every verb, and every write, can return
	example []string
	since   string // coord's version

	write   bool // it can also return the errors of a write
	inTxn   bool
	path    bool      // the first argument is a path
	value   valueRule // of the last argument
	options []option
	words   int // number of required words that are neither
	word    func(r *Request, i int, a *arg) *Error
	finish  func(r *Request) *Error // checks the arguments together
}

// The errors that need not be listed for each verb.
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
	optWatch     = setFlag("watch", func(r *Request) *bool { return &r.Watch })
	optRecursive = setFlag("recursive", func(r *Request) *bool { return &r.Recursive })
	optSince     = setZxid("since")
	optTimeout   = option{"timeout", true, setTimeout}
	optHold      = option{"hold", true, setHold}
	optEphemeral = option{"EPHEMERAL", false, setEphemeral}
	optSEQ       = option{"SEQ", false, setSequential}
	optContainer = option{"CONTAINER", false, setContainer}
)

var verbs = [numVerbs]verb{
	VerbGet: {
		name: "GET", form: "GET path [stat] [lin] [watch]", since: since, path: true,
		does:    "Reads the value of a znode. With lin the node asks the leader first, so that the reply shows every write that was answered before. watch arms a one-shot watch, like WATCH path data.",
		replies: []string{"DATA len v= zxid=", "with stat: DATA len v= cv= av= children= eph= len= ctime= mtime= czxid= mzxid= pzxid= [container=1|ttl=] zxid=", "with watch: id= too"},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth, znode.ErrNoLeader},
		example: []string{"GET /app", "GET /app stat lin watch"},
		options: []option{optStat, setFlag("lin", func(r *Request) *bool { return &r.Lin }), optWatch},
	},
	VerbSet: {
		name: "SET", form: "SET path [v=N] [create] value", since: since, path: true, value: valueAny, write: true, inTxn: true,
		does:    "Replaces the value of a znode; with v= only if the znode has that version. With create a missing znode is created.",
		replies: []string{"OK v= zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrBadVersion, znode.ErrNoAuth, znode.ErrQuotaExceeded},
		example: []string{`SET /app v=7 "new value"`, "SET /app create :5"},
		options: []option{optV, setFlag("create", func(r *Request) *bool { return &r.Create })},
	},
	VerbExists: {
		name: "EXISTS", form: "EXISTS path [watch]", since: since, path: true,
		does:    "Shows the stat of a znode. watch arms a one-shot watch, like WATCH path exists, even if the znode is missing.",
		replies: []string{"OK v= cv= av= children= eph= len= ctime= mtime= czxid= mzxid= pzxid= [container=1|ttl=] zxid=", "with watch: id= too, also in ERR NOTFOUND"},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"EXISTS /app", "EXISTS /app watch"},
		options: []option{optWatch},
	},
	VerbLs: {
		name: "LS", form: "LS path [stat] [limit=1000] [after=name] [watch]", since: since, path: true,
		does:    "Lists the names of a znode's children in byte order, at most limit of them, starting after the name given by after. more=1 says that there are more. watch arms a one-shot watch, like WATCH path children.",
		replies: []string{"LIST n zxid= [more=1], n times ITEM name", "with stat: ITEM name, and if the child may be read v= cv= av= children= eph= len= ctime= mtime= czxid= mzxid= pzxid= [container=1|ttl=]", "with watch: id= too"},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"LS /app", "LS /app stat limit=10 after=b"},
		options: []option{optStat, optLimit, optAfter, optWatch},
		finish:  defaultListLimit,
	},
	VerbTree: {
		name: "TREE", form: "TREE path [depth=N] [limit=1000] [after=path] [stat] [data]", since: since, path: true,
		does:    "Lists a znode and all znodes below it by full path, each followed by its children in byte order: at most limit of them, down to depth levels, starting after the path given by after. With data each comes with its value.",
		replies: []string{"LIST n zxid= [more=1], n times ITEM path", "with data: n times DATA len path= v=, or ERR NOAUTH path= where the value may not be read", "with stat: each that may be read with v= cv= av= children= eph= len= ctime= mtime= czxid= mzxid= pzxid= [container=1|ttl=]"},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"TREE /app depth=2", "TREE / limit=100 after=/app/b stat data"},
		options: []option{
			setCount("depth", func(r *Request) *int32 { return &r.Depth }), optLimit, optAfter, optStat,
			setFlag("data", func(r *Request) *bool { return &r.Data }),
		},
		finish: finishTree,
	},
	VerbCreate: {
		name: "CREATE", form: "CREATE path [EPHEMERAL] [SEQ] [CONTAINER] [ttl=30s] [parents] [acl=a,b,…] value", since: since,
		path: true, value: valueAny, write: true, inTxn: true,
		does:    "Creates a znode. EPHEMERAL: it is deleted when the connection's session ends; the session is made if there is none. SEQ appends the parent's counter to the name. CONTAINER: it is deleted some time after its last child. ttl: it is deleted when it has no children and has not been set for that long. parents creates missing parents too.",
		replies: []string{"OK path= v=0 zxid="},
		errors: []znode.Code{
			znode.ErrNodeExists, znode.ErrNoNode, znode.ErrNoAuth, znode.ErrNoChildrenForEphemerals, znode.ErrInvalidACL, znode.ErrQuotaExceeded,
		},
		example: []string{"CREATE /app hello", "CREATE /up/host7 EPHEMERAL parents 10.0.0.7", `CREATE /queue/job- SEQ parents acl=world:anyone:r,auth::cdrwa ""`},
		options: []option{
			optEphemeral, optSEQ, optContainer, {"ttl", true, setTTL}, setFlag("parents", func(r *Request) *bool { return &r.Parents }), optACL,
		},
		finish: finishCreate,
	},
	VerbRm: {
		name: "RM", form: "RM path [v=N] [recursive [limit=100]]", since: since, path: true, write: true, inTxn: true,
		does:    "Deletes a znode; with v= only if the znode has that version. recursive deletes all znodes below it too, all or none, if they are at most limit znodes in all.",
		replies: []string{"OK zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrBadVersion, znode.ErrNotEmpty, znode.ErrNoAuth},
		example: []string{"RM /app v=3", "RM /app recursive limit=500"},
		options: []option{optV, optRecursive, optLimit},
		finish: func(r *Request) *Error {
			switch {
			case r.Limit != 0 && !r.Recursive:
				return syntaxError("limit= is allowed only with recursive")
			case r.Limit == 0 && r.Recursive:
				r.Limit = DefaultRemoveLimit
			}
			return nil
		},
	},
	VerbTxn: {
		name: "TXN", form: "TXN n", since: since, write: true,
		does:    "Carries out the next n lines, each a CHECK, CREATE, SET or RM: all of them or none, with no other change in between.",
		replies: []string{"LIST n zxid=, n times the OK of that line", "ERR of the first line that fails, with op= its number from 0"},
		errors: []znode.Code{
			znode.ErrNoNode, znode.ErrNodeExists, znode.ErrBadVersion, znode.ErrNotEmpty, znode.ErrNoAuth,
			znode.ErrNoChildrenForEphemerals, znode.ErrInvalidACL, znode.ErrQuotaExceeded,
		},
		example: []string{"TXN 2", "CHECK /app v=7", "SET /app/x y"},
	},
	VerbCheck: {
		name: "CHECK", form: "CHECK path [v=N]", since: since, path: true, inTxn: true,
		does:    "Only in a TXN: the znode must exist, and with v= have that version.",
		replies: []string{"OK"},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrBadVersion, znode.ErrNoAuth},
		example: []string{"TXN 1", "CHECK /app v=7"},
		options: []option{optV},
	},
	VerbSync: {
		name: "SYNC", form: "SYNC path", since: since, path: true,
		does:    "Answers once this node has applied every write that was answered before, on any node. The path does not matter. If the connection has a session, the answer says that the leader has heard of it since the request.",
		replies: []string{"OK zxid="},
		errors:  []znode.Code{znode.ErrNoLeader},
		example: []string{"SYNC /"},
	},
	VerbCat: {
		name: "CAT", form: "CAT path", since: since, path: true,
		does:    "Sends the bytes of the value, nothing else, and closes the connection. A znode that is missing or may not be read gives no bytes: use GET to see which.",
		replies: []string{"the bytes, then the end of the connection"},
		example: []string{"CAT /app"},
	},
	VerbGetACL: {
		name: "GETACL", form: "GETACL path", since: since, path: true,
		does:    "Lists the ACL of a znode as scheme:id:permissions; permissions are c(reate) d(elete) r(ead) w(rite) a(dmin). Without ADMIN permission the hashes of digest entries show as x.",
		replies: []string{"LIST n av=, n times ITEM entry"},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"GETACL /app"},
	},
	VerbSetACL: {
		name: "SETACL", form: "SETACL path acl… [v=N]", since: since, path: true, write: true,
		does:    "Replaces the ACL of a znode; with v= only if the ACL has that version (av).",
		replies: []string{"OK av= zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrBadVersion, znode.ErrNoAuth, znode.ErrInvalidACL},
		example: []string{"SETACL /app world:anyone:r auth::cdrwa v=0"},
		options: []option{optV},
		words:   1,
		word:    func(r *Request, _ int, a *arg) *Error { return setACL(r, a.val) },
	},
	VerbSnapshot: {
		name: "SNAPSHOT", form: "SNAPSHOT [min=zxid]", since: since,
		does:    "Streams a snapshot of the whole state, exact at one zxid, which is at least min. Needs operator rights. The framing is the same in every format.",
		replies: []string{"OK zxid=, then CHUNK len blocks, then END sha256= bytes=", "ERR in the place of a CHUNK: the stream is cut off; discard what came"},
		errors:  []znode.Code{znode.ErrNoAuth, znode.ErrTimeout},
		example: []string{"SNAPSHOT", "SNAPSHOT min=0x100000005"},
		options: []option{setZxid("min")},
	},
	VerbAuth: {
		name: "AUTH", form: "AUTH digest user :len", since: since, value: valuePayload,
		does:    "Adds the identity of a user to the connection; the password is the payload. Refused on clear-text TCP, except on loopback.",
		replies: []string{"OK user="},
		errors:  []znode.Code{znode.ErrAuthFailed},
		example: []string{"AUTH digest alice :6"},
		words:   2,
		word:    authWord,
	},
	VerbHello: {
		name: "HELLO", form: "HELLO [proto=1] [format=text|json|b64] [client=name] [zxid=zxid]", since: since,
		does:    "Introduces both sides; it is optional. zxid is the last one that the client has seen: the node answers once it has applied it, so that a client that moves never sees an older state.",
		replies: []string{"OK proto=1 server=coord version= node= role= cluster= zxid="},
		errors:  []znode.Code{znode.ErrNoLeader},
		example: []string{"HELLO", "HELLO proto=1 format=json client=backup zxid=0x100000005"},
		options: []option{{"proto", true, setProto}, optFormat, {"client", true, setName}, setZxid("zxid")},
	},
	VerbFormat: {
		name: "FORMAT", form: "FORMAT text|json|b64", since: since,
		does:    "Chooses how replies are written from now on, including the reply to this request.",
		replies: []string{"OK format="},
		example: []string{"FORMAT json"},
		words:   1,
		word: func(r *Request, i int, a *arg) *Error {
			if i > 0 {
				return syntaxError("expected one format")
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
				return syntaxError("expected at most one verb")
			}
			r.Name = string(a.val)
			return nil
		},
	},
	VerbQuit: {
		name: "QUIT", form: "QUIT", since: since,
		does:    "Closes the connection once all requests before it are answered.",
		replies: []string{"OK bye"},
		example: []string{"QUIT"},
	},
	VerbWatch: {
		name: "WATCH", form: "WATCH path [data|children|exists] [persistent] [recursive] [since=zxid]", since: since, path: true,
		does: "Asks for an EVENT at the next change: data: the value or the deletion; children: the names of the children; exists: the creation too. " +
			"persistent asks for each change from now on, recursive also for the changes of all znodes below, each with its own event. " +
			"With since, changes after that zxid are reported at once.",
		replies: []string{"OK id= zxid=", "later: EVENT created|changed|deleted|children path= zxid= [v=] id="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth, znode.ErrCompacted},
		example: []string{"WATCH /app", "WATCH /app recursive since=0x100000005"},
		options: []option{setFlag("persistent", func(r *Request) *bool { return &r.Persistent }), optRecursive, optSince},
		word:    watchWord,
		finish:  finishWatch,
	},
	VerbUnwatch: {
		name: "UNWATCH", form: "UNWATCH id", since: since,
		does:    "Ends a watch: no EVENT of it comes after the reply.",
		replies: []string{"OK"},
		errors:  []znode.Code{znode.ErrNoWatcher},
		example: []string{"UNWATCH 7"},
		words:   1,
		word:    unwatchWord,
	},
	VerbWait: {
		name: "WAIT", form: "WAIT path EXISTS|GONE|CHANGE|VALUE=x [since=zxid] [timeout=30s]", since: since, path: true,
		does: "Answers once the znode exists, is gone, has changed or has that value, at the latest after the timeout. CHANGE is any creation, set, " +
			"deletion, or change of the names of the children; with since, one after that zxid. Requests after it wait for it.",
		replies: []string{"OK zxid="},
		errors:  []znode.Code{znode.ErrTimeout, znode.ErrNoAuth, znode.ErrCompacted},
		example: []string{"WAIT /deploy/done EXISTS timeout=300s", "WAIT /app VALUE=ready"},
		options: []option{{"VALUE", true, setWaitValue}, optSince, optTimeout},
		word:    waitWord,
		finish:  finishWait,
	},
	VerbFollow: {
		name: "FOLLOW", form: "FOLLOW path [recursive] [since=zxid] [data]", since: since, path: true,
		does: "Sends an EVENT for each change of the znode and of the names of its children, until UNWATCH or the end of the connection. With recursive it " +
			"reports all znodes below instead of the names; with since also the changes after that zxid, as far back as the server remembers; with data " +
			"each created and changed carries the value.",
		replies: []string{"OK id= zxid=", "later: EVENT created|changed|deleted|children path= zxid= [v=] id=", "with data: EVENT … :len, then the bytes of the value"},
		errors:  []znode.Code{znode.ErrNoAuth, znode.ErrCompacted},
		example: []string{"FOLLOW /cfg recursive", "FOLLOW /cfg recursive data since=0x100000005"},
		options: []option{optRecursive, optSince, setFlag("data", func(r *Request) *bool { return &r.Data })},
	},
	VerbSession: {
		name: "SESSION", since: since, value: valueMaybe, write: true,
		form: "SESSION NEW [ttl=10s] [hold=0s] [live=tcp|ping] | RESUME id [ttl=10s] [hold=0s] [live=tcp|ping] [zxid=zxid] :len | DETACH [hold=60s] | INFO | CLOSE [id]",
		does: "A session owns ephemeral znodes and locks; CREATE EPHEMERAL and LOCK make one if there is none. With live=tcp it lives as long as its " +
			"connection; with live=ping it needs a line from the client every ttl. When the connection ends, a session without hold ends at once; with hold it waits " +
			"that long for a RESUME, whose payload is the password that NEW gave. RESUME also takes a session from another connection. DETACH leaves it without a " +
			"connection. CLOSE ends it with all it owns; closing another session by its id needs operator rights.",
		replies: []string{"NEW, RESUME: OK id= ttl= hold= live= password= zxid=", "INFO: OK id= ttl= hold= live= ephemerals= zxid=", "DETACH: OK id= hold=", "CLOSE: OK zxid=",
			"if the session ends otherwise: EVENT expired session= or EVENT moved session=, and the connection is closed"},
		errors:  []znode.Code{znode.ErrNoAuth, znode.ErrAuthFailed},
		example: []string{"SESSION NEW ttl=30s hold=30s live=ping", "SESSION DETACH hold=5m", "SESSION CLOSE"},
		options: []option{{"ttl", true, setSessionTTL}, optHold, {"live", true, setLive}, setZxid("zxid")},
		words:   1,
		word:    sessionWord,
		finish:  finishSession,
	},
	VerbSessions: {
		name: "SESSIONS", form: "SESSIONS [limit=1000] [after=id]", since: since,
		does:    "Lists the sessions in the order of their ids. Needs operator rights.",
		replies: []string{"LIST n [more=1], n times ITEM id ttl= ephemerals= [addr=]"},
		errors:  []znode.Code{znode.ErrNoAuth},
		example: []string{"SESSIONS"},
		options: []option{optLimit, {"after", true, setSession}},
		finish:  defaultListLimit,
	},
	VerbLock: {
		name: "LOCK", form: "LOCK path [timeout=0s] [shared] [slots=N]", since: since, path: true, write: true,
		does: "Takes a lock: creates an ephemeral sequential child of path (and path itself, as a container) and answers when all earlier children that exclude it " +
			"are gone. Locks are granted in the order of the requests; after the timeout the child is deleted again. A shared lock coexists with other shared ones, slots=N with " +
			"N-1 others. token grows with every lock of a path: let the resource refuse a smaller one than it has seen. A session that already has the lock gets the same answer.",
		replies: []string{"OK token= path= zxid="},
		errors:  []znode.Code{znode.ErrTimeout, znode.ErrNodeExists, znode.ErrNoNode, znode.ErrNoAuth, znode.ErrNoChildrenForEphemerals, znode.ErrQuotaExceeded},
		example: []string{"LOCK /locks/backup", "LOCK /locks/backup timeout=60s shared"},
		options: []option{optTimeout, setFlag("shared", func(r *Request) *bool { return &r.Shared }), setCount("slots", func(r *Request) *int32 { return &r.Slots })},
		finish: func(r *Request) *Error {
			if r.Shared && r.Slots != 0 {
				return syntaxError("shared cannot be combined with slots=")
			}
			return nil
		},
	},
	VerbUnlock: {
		name: "UNLOCK", form: "UNLOCK path", since: since, path: true, write: true,
		does:    "Gives back the session's lock at the path.",
		replies: []string{"OK zxid="},
		errors:  []znode.Code{znode.ErrNoNode, znode.ErrNoAuth},
		example: []string{"UNLOCK /locks/backup"},
	},
	VerbAdmin: {
		name: "ADMIN", since: since, write: true,
		form: "ADMIN MEMBERS | ADD host:port | REMOVE node [FORCE] | PROMOTE node | REPLACE old new | TRANSFER [node] | LEAVE",
		does: "Shows or changes the members of the ensemble; needs operator rights. A node is given by its id of 16 hex digits, the beginning of the id (at least 4 digits), or its name, if no other has it. " +
			"ADD takes in the node at that address and peer port. REMOVE removes a member for ever, with FORCE even if the others may then be too few. PROMOTE gives a vote to a member " +
			"that has none. REPLACE takes the vote from old and gives it to new in one step. TRANSFER hands leadership on. LEAVE removes the node that is asked, which then stops. A change may take seconds; " +
			"requests after it wait for it.",
		replies: []string{
			"LIST n, n times ITEM id name= role= vote= up= peer= client= term= applied= lag= lag_ms= fsync_p99_ms= digest= version= self=",
			"of all but MEMBERS: the same, with those members that the request was about and that remain",
		},
		errors:  []znode.Code{znode.ErrNoAuth, znode.ErrNoNode, znode.ErrNodeExists, znode.ErrNewConfigNoQuorum},
		example: []string{"ADMIN MEMBERS", "ADMIN ADD 10.0.0.9:2888", "ADMIN REMOVE 8c1f44"},
		words:   1,
		word:    adminWord,
		finish:  finishAdmin,
	},
}

// verbNames are the verbs' names as numbers, see packVerb.
var verbNames = func() (names [numVerbs]uint64) {
	for v := Verb(1); v < numVerbs; v++ {
		names[v] = packVerb([]byte(verbs[v].name))
	}
	return names
}()

// packVerb packs a word of up to eight letters into a number, without regard to their case; 0 if
// the word cannot be a verb.
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

// findVerb returns the verb of a name, or 0.
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
