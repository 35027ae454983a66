package zkproto

import (
	"encoding/binary"

	"coord/tree/znode"
)

// DefaultMaxFrame is the longest frame of ZooKeeper's server and of its clients
// unless they are told otherwise (jute.maxbuffer).
const DefaultMaxFrame = 0xfffff

// frameHead is the length before a frame.
const frameHead = 4

// Error is what was received and not understood. A server answers with Code,
// unless that is OK: then there is nothing that could be answered. A client is
// better off without the connection in any case.
type Error struct {
	Code  znode.Code
	Close bool // what follows is not to be read: answer, if at all, and close the connection
	Msg   string
}

func (e *Error) Error() string { return "zkproto: " + e.Msg }

// Unwrap makes errors.Is(err, znode.ErrMarshalling) work.
func (e *Error) Unwrap() error { return e.Code }

var (
	errLength     = &Error{Close: true, Msg: "the length of a frame is negative or over the limit"}
	errHeader     = &Error{Close: true, Msg: "a frame without a whole header"}
	errConnect    = &Error{Close: true, Msg: "malformed connect request"}
	errAuth       = &Error{Close: true, Msg: "malformed auth packet"}
	errUnknown    = &Error{Code: znode.ErrUnimplemented, Close: true, Msg: "unknown operation"}
	errBody       = &Error{Code: znode.ErrMarshalling, Msg: "malformed request"}
	errTooManyOps = &Error{Code: znode.ErrTooBig, Msg: "a multi of too many operations"}
	errReply      = &Error{Code: znode.ErrMarshalling, Close: true, Msg: "malformed reply"}
)

// CutFrame cuts the frame at the start of buf, the bytes that were received and
// not consumed. It takes n bytes with its length; as long as they are not all
// there, frame is nil (a frame of no bytes is not). frame aliases buf. An error
// says that the length is negative or over maxFrame: the connection is to be
// closed without a word.
func CutFrame(buf []byte, maxFrame int) (frame []byte, n int, err error) {
	if len(buf) < frameHead {
		return nil, frameHead, nil
	}
	length := int32(binary.BigEndian.Uint32(buf))
	if length < 0 || int(length) > maxFrame {
		return nil, 0, errLength
	}
	n = frameHead + int(length)
	if len(buf) < n {
		return nil, n, nil
	}
	return buf[frameHead:n:n], n, nil
}

// begin leaves room for the length of a frame that starts at the end of dst.
func begin(dst []byte) []byte { return append(dst, 0, 0, 0, 0) }

// EndFrame writes the length of the frame that starts at dst[start] and ends
// with dst.
func EndFrame(dst []byte, start int) {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-frameHead))
}
