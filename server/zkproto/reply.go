package zkproto

import "coord/tree/znode"

// NoZxid is -1 on the wire: "none" in an event that no txn has just caused, and in the answer to an
// unknown operation.
const NoZxid = ^znode.Zxid(0)

// connectedState is the state in every event that a server sends: SyncConnected. Client libraries
// report the other states to their users themselves.
const connectedState = 3

// BeginReply begins a reply with code OK and a body. The caller appends the body and then calls
// EndFrame with the length that dst had before.
func BeginReply(dst []byte, xid int32, zxid znode.Zxid) []byte {
	return appendHeader(begin(dst), xid, zxid, znode.OK)
}

func appendHeader(dst []byte, xid int32, zxid znode.Zxid, code znode.Code) []byte {
	dst = AppendInt(dst, xid)
	dst = appendLong(dst, int64(zxid))
	return AppendInt(dst, WireCode(code))
}

// AppendReply appends a whole reply without a body: a refusal, or the success of an operation whose
// reply has none (OpDelete, OpPing, OpAuth, OpSetWatches, OpCheckWatches, OpCloseSession and
// similar ones).
func AppendReply(dst []byte, xid int32, zxid znode.Zxid, code znode.Code) []byte {
	start := len(dst)
	dst = appendHeader(begin(dst), xid, zxid, code)
	EndFrame(dst, start)
	return dst
}

// AppendEvent appends a whole notification. From ZooKeeper 3.9 on its zxid is that of the txn,
// before it is NoZxid; clients accept both.
func AppendEvent(dst []byte, typ znode.EventType, path string, zxid znode.Zxid) []byte {
	start := len(dst)
	dst = appendHeader(begin(dst), XidEvent, zxid, znode.OK)
	dst = AppendInt(dst, int32(typ))
	dst = AppendInt(dst, connectedState)
	dst = AppendString(dst, path)
	EndFrame(dst, start)
	return dst
}

// AppendMultiResult begins the result of a successful operation in a multi. The caller then appends
// the body that the operation has on its own. OpCreate2, OpCreateContainer and OpCreateTTL all have
// results of OpCreate2, path and Stat. (ZooKeeper 3.8.0 treats an OpCreate2 in a multi as an
// OpCreate.)
func AppendMultiResult(dst []byte, op Op) []byte {
	if op == OpCreateContainer || op == OpCreateTTL {
		op = OpCreate2
	}
	return appendMultiHeader(dst, op, false, 0)
}

// AppendMultiError appends the result of an operation in a multi that was not done: OK for those
// before the one at fault, ErrRuntimeInconsistency for those after it. The reply's own code is OK
// all the same.
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

// systemError is ZooKeeper's SystemError: every client knows it, and none retries by itself.
const systemError = -1

// WireCode returns the number of a code in a reply: ZooKeeper's own codes unchanged, and for
// coord's codes the number that makes clients do the right thing. Every client knows these numbers;
// on others some clients fail in odd ways (kazoo and old Java clients).
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
