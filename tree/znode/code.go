package znode

import "strconv"

// Code is the outcome of a request as a client sees it: ZooKeeper's error number where ZooKeeper has one,
// and a word of the text protocol. A Code is an error; 0 (OK) is success. Numbers and words never change.
type Code int32

// ZooKeeper's codes (reference: KeeperException.Code).
const (
	OK                          Code = 0
	ErrRuntimeInconsistency     Code = -2 // in a failed multi: an op after the failing one
	ErrMarshalling              Code = -5
	ErrUnimplemented            Code = -6
	ErrBadArguments             Code = -8
	ErrNewConfigNoQuorum        Code = -13 // of a change of members: too few voters would be left, or can be heard
	ErrNoNode                   Code = -101
	ErrNoAuth                   Code = -102
	ErrBadVersion               Code = -103
	ErrNoChildrenForEphemerals  Code = -108
	ErrNodeExists               Code = -110
	ErrNotEmpty                 Code = -111
	ErrSessionExpired           Code = -112
	ErrInvalidACL               Code = -114
	ErrAuthFailed               Code = -115
	ErrSessionMoved             Code = -118
	ErrNotReadOnly              Code = -119
	ErrEphemeralOnLocalSession  Code = -120
	ErrNoWatcher                Code = -121
	ErrReconfigDisabled         Code = -123
	ErrSessionClosedRequireAuth Code = -124
	ErrQuotaExceeded            Code = -125
	ErrThrottledOp              Code = -127
)

// coord's own codes. They are never sent in a ZooKeeper frame: a code of ZooKeeper's is sent
// instead, or the connection is closed (ZooKeeper's connection loss).
const (
	ErrTooBig     Code = -1001 // a line, payload, frame or answer over its limit
	ErrLimit      Code = -1002 // another named limit reached
	ErrNoLeader   Code = -1003 // definitely not done: there is no leader
	ErrNoSpace    Code = -1004 // definitely not done: the disk is nearly full
	ErrTimeout    Code = -1005 // waited, and the condition was not met
	ErrUncertain  Code = -1006 // may or may not have been done: read again
	ErrSlowClient Code = -1007 // the client does not read its answers
	ErrSyntax     Code = -1008 // the line does not have the verb's form
	ErrUnknown    Code = -1009 // no such verb
	ErrProtocol   Code = -1010 // not this protocol (an HTTP request, say)
	ErrShutdown   Code = -1011 // the node is stopping
	ErrInternal   Code = -1012 // a fault of coord
	ErrCompacted  Code = -1013 // the changes since then are no longer remembered
)

// codeInfo is one row of the table behind Code's methods.
type codeInfo struct {
	code Code
	word string // text protocol; several codes may share one
	text string
}

// primary is the code that CodeOf returns for a word that several codes share.
var primary = map[string]Code{
	"SYNTAX": ErrSyntax, "UNKNOWN": ErrUnknown, "PROTOCOL": ErrProtocol, "INTERNAL": ErrInternal,
	"NOTFOUND": ErrNoNode, "NOAUTH": ErrNoAuth, "EXPIRED": ErrSessionExpired, "READONLY": ErrNotReadOnly,
}

// codes is in the order of the constants. Where codes share a word, primary says which of them CodeOf returns.
var codes = []codeInfo{
	{OK, "OK", "ok"},
	{ErrRuntimeInconsistency, "INTERNAL", "not done: another operation of the same transaction failed"},
	{ErrMarshalling, "PROTOCOL", "malformed request"},
	{ErrUnimplemented, "UNKNOWN", "not supported by this server"},
	{ErrBadArguments, "SYNTAX", "bad arguments"},
	{ErrNewConfigNoQuorum, "UNSAFE", "unsafe: too few voters would be left"},
	{ErrNoNode, "NOTFOUND", "no such znode"},
	{ErrNoAuth, "NOAUTH", "not permitted"},
	{ErrBadVersion, "BADVERSION", "the version does not match"},
	{ErrNoChildrenForEphemerals, "NOTEMPTYEPHEMERAL", "an ephemeral znode cannot have children"},
	{ErrNodeExists, "EXISTS", "the znode exists already"},
	{ErrNotEmpty, "NOTEMPTY", "the znode has children"},
	{ErrSessionExpired, "EXPIRED", "the session has expired"},
	{ErrInvalidACL, "INVALIDACL", "invalid ACL"},
	{ErrAuthFailed, "AUTHFAILED", "authentication failed"},
	{ErrSessionMoved, "EXPIRED", "the session is attached elsewhere"},
	{ErrNotReadOnly, "READONLY", "this node is read-only"},
	{ErrEphemeralOnLocalSession, "READONLY", "a local session cannot own ephemeral znodes"},
	{ErrNoWatcher, "NOTFOUND", "no such watch"},
	{ErrReconfigDisabled, "NOAUTH", "reconfiguration is disabled"},
	{ErrSessionClosedRequireAuth, "NOAUTH", "the server requires authentication"},
	{ErrQuotaExceeded, "QUOTA", "quota exceeded"},
	{ErrThrottledOp, "THROTTLED", "too many requests"},
	{ErrTooBig, "TOOBIG", "too big"},
	{ErrLimit, "LIMIT", "limit reached"},
	{ErrNoLeader, "NOLEADER", "no leader"},
	{ErrNoSpace, "NOSPACE", "the disk is nearly full: writes are refused"},
	{ErrTimeout, "TIMEOUT", "timed out"},
	{ErrUncertain, "UNCERTAIN", "outcome unknown: the operation may or may not have been done"},
	{ErrSlowClient, "SLOWCLIENT", "the client does not read its replies"},
	{ErrSyntax, "SYNTAX", "syntax error"},
	{ErrUnknown, "UNKNOWN", "unknown verb"},
	{ErrProtocol, "PROTOCOL", "protocol error"},
	{ErrShutdown, "SHUTDOWN", "the node is stopping"},
	{ErrInternal, "INTERNAL", "internal error"},
	{ErrCompacted, "COMPACTED", "the changes since then are no longer remembered: read everything again"},
}

// Codes lists every code in the order of the documentation.
func Codes() []Code {
	all := make([]Code, len(codes))
	for i, c := range codes {
		all[i] = c.code
	}
	return all
}

func (c Code) info() codeInfo {
	for i := range codes {
		if codes[i].code == c {
			return codes[i]
		}
	}
	return codeInfo{c, "INTERNAL", "code " + strconv.Itoa(int(c))}
}

// Word is the code's name in the text protocol.
func (c Code) Word() string { return c.info().word }

// Error is the code's meaning in words.
func (c Code) Error() string { return c.info().text }

// CodeOf finds the code of a text-protocol word.
func CodeOf(word string) (Code, bool) {
	if c, ok := primary[word]; ok {
		return c, true
	}
	for i := range codes {
		if codes[i].word == word {
			return codes[i].code, true
		}
	}
	return ErrInternal, false
}

// quoteShort quotes a string for an error message, cut at 80 bytes.
func quoteShort(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
