package zkproto

import (
	"encoding/binary"

	"coord/tree/znode"
)

// DefaultMaxFrame is the default limit for frames of ZooKeeper's server and clients
// (jute.maxbuffer).
const DefaultMaxFrame = 0xfffff

// frameHead is the size of the length before a frame.
const frameHead = 4

// Error is an input that could not be decoded. A server answers with Code, unless that is OK: then
// no answer is possible. A client should close the connection in any case.
type Error struct {
	Code  znode.Code
	Close bool // the rest of the stream must not be read: answer, if at all, and close the connection
	Msg   string
}

func (e *Error) Error() string { return "zkproto: " + e.Msg }

// Unwrap makes errors.Is(err, znode.ErrMarshalling) work.
func (e *Error) Unwrap() error { return e.Code }

var (
	errLength     = &Error{Close: true, Msg: "the length of a frame is negative or over the limit"}
	errHeader     = &Error{Close: true, Msg: "a frame with an incomplete header"}
	errConnect    = &Error{Close: true, Msg: "malformed connect request"}
	errAuth       = &Error{Close: true, Msg: "malformed auth packet"}
	errUnknown    = &Error{Code: znode.ErrUnimplemented, Close: true, Msg: "unknown operation"}
	errBody       = &Error{Code: znode.ErrMarshalling, Msg: "malformed request"}
	errTooManyOps = &Error{Code: znode.ErrTooBig, Msg: "a multi with too many operations"}
	errReply      = &Error{Code: znode.ErrMarshalling, Close: true, Msg: "malformed reply"}
)

// CutFrame cuts the frame at the start of buf, the bytes that were received and not consumed. n is
// the size of the frame with its length. Until all n bytes have arrived, frame is nil (an empty
// frame is not nil). frame aliases buf. An error means that the length is negative or over
// maxFrame: the connection must be closed without an answer.
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

// begin appends room for the length of a frame that starts at the end of dst.
func begin(dst []byte) []byte { return append(dst, 0, 0, 0, 0) }

// EndFrame sets the length of the frame that starts at dst[start] and ends at the end of dst.
func EndFrame(dst []byte, start int) {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-frameHead))
}
