package zkproto

import "coord/tree/znode"

// Connect is the first frame of a client: it asks for a new session or resumes one.
type Connect struct {
	LastZxid    znode.Zxid // the last one that the client has seen; 0 for none
	TimeoutMS   int32
	Session     int64  // 0 for a new one
	Password    []byte // of the session, any length; nil is null. Aliases the frame
	HasReadOnly bool   // ReadOnly was sent, and so the reply must have it
	ReadOnly    bool   // the client accepts a read-only server
}

// ReadConnect reads a connect request. On an error the connection must be closed without an answer.
func ReadConnect(frame []byte) (Connect, error) {
	c := cursor{rest: frame}
	c.int() // the protocol's version, which ZooKeeper ignores
	r := Connect{LastZxid: znode.Zxid(c.long()), TimeoutMS: c.int(), Session: c.long(), Password: c.buffer()}
	if r.HasReadOnly = len(c.rest) > 0; r.HasReadOnly {
		r.ReadOnly = c.bool()
	}
	if c.bad {
		return Connect{}, errConnect
	}
	return r, nil
}

// AppendConnect appends a connect request as a frame.
func AppendConnect(dst []byte, r *Connect) []byte {
	start := len(dst)
	dst = AppendInt(begin(dst), 0)
	dst = appendLong(dst, int64(r.LastZxid))
	dst = AppendInt(dst, r.TimeoutMS)
	dst = appendLong(dst, r.Session)
	dst = appendBuffer(dst, r.Password)
	if r.HasReadOnly {
		dst = appendBool(dst, r.ReadOnly)
	}
	EndFrame(dst, start)
	return dst
}

// Password is the secret of a session. Clients always expect 16 bytes.
type Password [16]byte

// Connected is the answer to a Connect. If only HasReadOnly is set, it is the refusal: the session
// is unknown or expired, or has another password.
type Connected struct {
	TimeoutMS   int32 // 0: refused
	Session     int64
	Password    Password
	HasReadOnly bool // as in the request
	ReadOnly    bool // this server is read-only
}

// AppendConnected appends the answer to a Connect as a frame.
func AppendConnected(dst []byte, r *Connected) []byte {
	start := len(dst)
	dst = AppendInt(begin(dst), 0)
	dst = AppendInt(dst, r.TimeoutMS)
	dst = appendLong(dst, r.Session)
	dst = AppendString(dst, r.Password[:])
	if r.HasReadOnly {
		dst = appendBool(dst, r.ReadOnly)
	}
	EndFrame(dst, start)
	return dst
}

// ReadConnected reads the answer to a Connect.
func ReadConnected(frame []byte) (r Connected, err error) {
	c := cursor{rest: frame, strict: true}
	c.int()
	r.TimeoutMS, r.Session = c.int(), c.long()
	password := c.buffer()
	c.bad = c.bad || len(password) != len(r.Password)
	copy(r.Password[:], password)
	if r.HasReadOnly = len(c.rest) > 0; r.HasReadOnly {
		r.ReadOnly = c.bool()
	}
	if c.bad || len(c.rest) > 0 {
		return Connected{}, errReply
	}
	return r, nil
}
