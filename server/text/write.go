package text

import (
	"strconv"

	"coord/tree/znode"
)

// maxInline is the longest value that AppendRequest puts into the line.
const maxInline = 64

// AppendRequest appends the encoding of a request to dst, which a Parser parses to the same
// request. Fields with their zero value are left out if that means the same. The Tag must be one
// word. AppendRequest panics on an invalid verb, or one that is not allowed in a TXN.
func AppendRequest(dst []byte, r *Request) []byte {
	if r.Tag != "" {
		dst = append(dst, '@')
		dst = append(dst, r.Tag...)
		dst = append(dst, ' ')
	}
	switch r.Verb {
	case VerbTxn:
		dst = append(dst, "TXN "...)
		dst = strconv.AppendInt(dst, int64(len(r.Ops)), 10)
		dst = appendEOL(dst, r.CRLF)
		for i := range r.Ops {
			if !verbs[r.Ops[i].Verb].inTxn {
				panic("text: a TXN cannot contain " + r.Ops[i].Verb.String())
			}
			dst = appendOp(dst, &r.Ops[i], r.CRLF)
		}
		return dst
	case VerbSet, VerbCreate, VerbRm, VerbCheck, VerbSetACL, VerbSync, VerbCat, VerbGetACL:
		return appendOp(dst, &r.Op, r.CRLF)
	}
	if r.Verb == 0 || r.Verb >= numVerbs {
		panic("text: a request without a verb")
	}
	dst = append(dst, verbs[r.Verb].name...)
	switch r.Verb {
	case VerbWatch, VerbFollow, VerbUnwatch, VerbWait, VerbLock, VerbUnlock, VerbSession, VerbSessions:
		return appendLive(dst, r)
	case VerbGet, VerbLs, VerbTree, VerbExists:
		dst = appendArg(dst, r.Path)
		dst = appendFlag(dst, "stat", r.Stat)
		dst = appendFlag(dst, "data", r.Data)
		dst = appendFlag(dst, "lin", r.Lin)
		dst = appendCount(dst, "depth", r.Depth)
		dst = appendCount(dst, "limit", r.Limit)
		dst = appendOption(dst, "after", r.After)
		dst = appendFlag(dst, "watch", r.Watch)
	case VerbAdmin:
		for _, w := range r.Words {
			dst = appendArg(dst, w)
		}
	case VerbSnapshot:
		dst = appendZxid(dst, "min", r)
	case VerbHello:
		dst = append(dst, " proto="...)
		dst = strconv.AppendInt(dst, protoVersion, 10)
		if r.HasFormat {
			dst = appendOption(dst, "format", r.Format.String())
		}
		dst = appendOption(dst, "client", r.Name)
		dst = appendZxid(dst, "zxid", r)
	case VerbFormat:
		dst = appendArg(dst, r.Format.String())
	case VerbAuth:
		dst = append(dst, " digest"...)
		dst = appendArg(dst, r.Name)
		return appendPayload(dst, r.Value, r.CRLF)
	case VerbHelp:
		if r.Name != "" {
			dst = appendArg(dst, r.Name)
		}
	}
	return appendEOL(dst, r.CRLF)
}

// appendOp appends a line of a TXN, or the same line as a request of its own.
func appendOp(dst []byte, op *Op, crlf bool) []byte {
	dst = append(dst, verbs[op.Verb].name...)
	dst = appendArg(dst, op.Path)
	switch op.Verb {
	case VerbCreate:
		dst = appendFlag(dst, "EPHEMERAL", op.Mode.Ephemeral())
		dst = appendFlag(dst, "SEQ", op.Mode.Sequential())
		dst = appendFlag(dst, "CONTAINER", op.Mode == znode.Container)
		if op.TTLMS > 0 {
			dst = append(dst, " ttl="...)
			dst = strconv.AppendInt(dst, op.TTLMS, 10)
			dst = append(dst, "ms"...)
		}
		dst = appendFlag(dst, "parents", op.Parents)
		if op.ACL != nil {
			dst = appendOption(dst, "acl", op.ACL.String())
		}
		return appendValue(dst, op.Value, crlf)
	case VerbSet:
		dst = appendVersion(dst, op.Version)
		dst = appendFlag(dst, "create", op.Create)
		return appendValue(dst, op.Value, crlf)
	case VerbRm:
		dst = appendVersion(dst, op.Version)
		if op.Recursive {
			dst = append(dst, " recursive"...)
			dst = appendCount(dst, "limit", op.Limit)
		}
	case VerbCheck:
		dst = appendVersion(dst, op.Version)
	case VerbSetACL:
		for _, e := range op.ACL {
			dst = append(dst, ' ')
			dst = appendQuoted(dst, e.String()) // so that it is not taken for an option
		}
		dst = appendVersion(dst, op.Version)
	}
	return appendEOL(dst, crlf)
}

// appendValue appends a value as the last argument: as a word if it is short and plain, otherwise
// as a payload.
func appendValue(dst, val []byte, crlf bool) []byte {
	switch {
	case len(val) == 0:
		dst = append(dst, ` ""`...)
	case len(val) <= maxInline && val[0] != ':' && isWord(val) && !isHTTPVersion(val):
		dst = append(dst, ' ')
		dst = append(dst, val...)
	default:
		return appendPayload(dst, val, crlf)
	}
	return appendEOL(dst, crlf)
}

func appendPayload(dst, val []byte, crlf bool) []byte {
	dst = append(dst, " :"...)
	dst = strconv.AppendInt(dst, int64(len(val)), 10)
	dst = appendEOL(dst, crlf)
	dst = append(dst, val...)
	return appendEOL(dst, crlf)
}

// appendArg appends a word that cannot be taken for a length or an HTTP version.
func appendArg(dst []byte, s string) []byte {
	dst = append(dst, ' ')
	if len(s) > 0 && s[0] == ':' || isHTTPVersion(s) {
		return appendQuoted(dst, s)
	}
	return appendWord(dst, s)
}

func appendFlag(dst []byte, name string, set bool) []byte {
	if !set {
		return dst
	}
	dst = append(dst, ' ')
	return append(dst, name...)
}

func appendOption(dst []byte, name, val string) []byte {
	if val == "" {
		return dst
	}
	dst = appendFlag(dst, name, true)
	dst = append(dst, '=')
	return appendWord(dst, val)
}

func appendCount(dst []byte, name string, n int32) []byte {
	if n <= 0 {
		return dst
	}
	dst = appendFlag(dst, name, true)
	dst = append(dst, '=')
	return strconv.AppendInt(dst, int64(n), 10)
}

func appendVersion(dst []byte, v int32) []byte {
	if v == AnyVersion {
		return dst
	}
	dst = append(dst, " v="...)
	return strconv.AppendInt(dst, int64(v), 10)
}

func appendZxid(dst []byte, name string, r *Request) []byte {
	if r.Zxid == 0 && !r.HasZxid {
		return dst
	}
	dst = appendFlag(dst, name, true)
	dst = append(dst, "=0x"...)
	return strconv.AppendUint(dst, uint64(r.Zxid), 16)
}
