package zkproto

import "coord/tree/znode"

// NoZxid is -1 on the wire: "none" in an event that no txn caused just now, and
// in the answer to an operation that is none.
const NoZxid = ^znode.Zxid(0)

// connectedState is the state in every event that a server sends: SyncConnected.
// The other states are what client libraries tell their users.
const connectedState = 3

// BeginReply begins a reply with a body, whose code is OK: the body is appended
// next, and EndFrame with the length of dst as it was ends it.
func BeginReply(dst []byte, xid int32, zxid znode.Zxid) []byte {
	return appendHeader(begin(dst), xid, zxid, znode.OK)
}

func appendHeader(dst []byte, xid int32, zxid znode.Zxid, code znode.Code) []byte {
	dst = AppendInt(dst, xid)
	dst = appendLong(dst, int64(zxid))
	return AppendInt(dst, WireCode(code))
}

// AppendReply writes a whole reply without a body: a refusal, or the success of
// what has none (OpDelete, OpPing, OpAuth, OpSetWatches, OpCheckWatches,
// OpCloseSession and their like).
func AppendReply(dst []byte, xid int32, zxid znode.Zxid, code znode.Code) []byte {
	start := len(dst)
	dst = appendHeader(begin(dst), xid, zxid, code)
	EndFrame(dst, start)
	return dst
}

// AppendEvent writes a whole notification. Its zxid is that of the txn from
// ZooKeeper 3.9 on and NoZxid before; clients take both.
func AppendEvent(dst []byte, typ znode.EventType, path string, zxid znode.Zxid) []byte {
	start := len(dst)
	dst = appendHeader(begin(dst), XidEvent, zxid, znode.OK)
	dst = AppendInt(dst, int32(typ))
	dst = AppendInt(dst, connectedState)
	dst = AppendString(dst, path)
	EndFrame(dst, start)
	return dst
}

// AppendMultiResult begins the result of an operation in a multi that was done:
// what the operation alone has for a body is appended next. OpCreate2,
// OpCreateContainer and OpCreateTTL all have results of OpCreate2, path and
// Stat. (ZooKeeper 3.8.0 takes an OpCreate2 in a multi for an OpCreate.)
func AppendMultiResult(dst []byte, op Op) []byte {
	if op == OpCreateContainer || op == OpCreateTTL {
		op = OpCreate2
	}
	return appendMultiHeader(dst, op, false, 0)
}

// AppendMultiError writes the result of an operation in a multi that was not
// done: OK of those before the one at fault, ErrRuntimeInconsistency of those
// behind it. The reply's own code is OK all the same.
func AppendMultiError(dst []byte, code znode.Code) []byte {
	dst = appendMultiHeader(dst, OpError, false, WireCode(code))
	return AppendInt(dst, WireCode(code))
}

// AppendMultiEnd ends the results of a multi or multiRead.
func AppendMultiEnd(dst []byte) []byte { return appendMultiHeader(dst, OpError, true, -1) }

func appendMultiHeader(dst []byte, op Op, done bool, code int32) []byte {
	dst = AppendInt(dst, int32(op))
	dst = appendBool(dst, done)
	return AppendInt(dst, code)
}

// systemError is ZooKeeper's SystemError: every client knows it, and none tries
// again by itself.
const systemError = -1

// WireCode is the number of a code in a reply: ZooKeeper's own as they are, and
// for coord's the number that lets clients do the right thing. All those are
// known to every client: some fail in odd ways on others (kazoo and old Java).
//
//	-7 OperationTimeout  NOLEADER, SHUTDOWN, TIMEOUT: kazoo and Curator try again
//	-4 ConnectionLoss    UNCERTAIN: the outcome is not known
//	-8 BadArguments      TOOBIG, SYNTAX: to try again is of no use
//	-6 Unimplemented     UNKNOWN
//	-5 MarshallingError  PROTOCOL
//	-1 SystemError       all others: LIMIT, NOSPACE, INTERNAL, COMPACTED …
func WireCode(code znode.Code) int32 {
	if code > znode.ErrTooBig {
		return int32(code)
	}
	switch code {
	case znode.ErrNoLeader, znode.ErrShutdown, znode.ErrTimeout:
		return -7
	case znode.ErrUncertain:
		return -4
	case znode.ErrTooBig, znode.ErrSyntax:
		return int32(znode.ErrBadArguments)
	case znode.ErrUnknown:
		return int32(znode.ErrUnimplemented)
	case znode.ErrProtocol:
		return int32(znode.ErrMarshalling)
	}
	return systemError
}
