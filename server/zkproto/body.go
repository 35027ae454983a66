package zkproto

import "coord/tree/znode"

// ReplyHeader is the beginning of every frame from a server, except the answer to a Connect.
type ReplyHeader struct {
	Xid  int32 // of the request; XidEvent for an event
	Zxid znode.Zxid
	Code znode.Code
}

// ReadReply reads the header of a reply. The rest is in the body, which aliases the frame. It
// should be empty if Code is not OK, but ZooKeeper 3.8.0 sends the end of a multi's results even
// then.
func ReadReply(frame []byte) (ReplyHeader, Body, error) {
	c := cursor{rest: frame, strict: true}
	h := ReplyHeader{Xid: c.int(), Zxid: znode.Zxid(c.long()), Code: znode.Code(c.int())}
	if c.bad {
		return ReplyHeader{}, Body{}, errReply
	}
	return h, Body{c}, nil
}

// Body is the body of a reply. The caller, which knows the request, reads it record by record:
//
//	data, stat := body.Buffer(), body.Stat()
//	err := body.End()
//
// Body is strict where a Decoder is lenient: no null except for data, no boolean but 0 and 1,
// nothing missing, nothing left over. The values that it has returned are valid only if End returns
// nil. It allocates nothing for missing bytes.
type Body struct{ c cursor }

// End returns nil if everything was there and nothing is left over, otherwise an *Error.
func (b *Body) End() error {
	if b.c.bad || len(b.c.rest) > 0 {
		return errReply
	}
	return nil
}

// Int reads an int.
func (b *Body) Int() int32 { return b.c.int() }

// Buffer reads data; nil is null. It aliases the frame.
func (b *Body) Buffer() []byte { return b.c.buffer() }

// Str reads a string.
func (b *Body) Str() string { return b.c.string() }

// Strings reads a list of names or paths.
func (b *Body) Strings() []string { return b.c.strings() }

// ACL reads an access list.
func (b *Body) ACL() znode.ACL { return b.c.acl() }

// Stat reads a Stat.
func (b *Body) Stat() znode.Stat { return b.c.stat() }

// Identities reads the answer to OpWhoAmI.
func (b *Body) Identities() []znode.Identity {
	ids := make([]znode.Identity, b.c.count(8))
	for i := range ids {
		ids[i] = znode.Identity{Scheme: b.Str(), ID: b.Str()}
	}
	return ids
}

// Event reads a notification, without its zxid, which is in the header.
func (b *Body) Event() znode.Event {
	typ, state := znode.EventType(b.c.int()), b.c.int()
	b.c.bad = b.c.bad || state != connectedState || typ < znode.NodeCreated || typ > znode.NodeChildrenChanged
	return znode.Event{Type: typ, Path: b.Str()}
}

// Result is the outcome of one operation of a multi or multiRead.
type Result struct {
	Op       Op         // of the result: OpError for an operation that was not done, see AppendMultiResult
	Code     znode.Code // OpError
	Path     string     // OpCreate, OpCreate2
	Data     []byte     // OpGetData; aliases the frame
	Children []string   // OpGetChildren
	Stat     znode.Stat // OpCreate2, OpSetData, OpGetData
}

// Results reads the results of a multi or multiRead.
func (b *Body) Results() []Result {
	var list []Result
	for {
		r := Result{Op: Op(b.c.int())}
		done, code := b.c.bool(), b.c.int()
		if done || b.c.bad {
			b.c.bad = b.c.bad || r.Op != OpError || code != -1
			return list
		}
		switch r.Op {
		case OpError:
			r.Code = znode.Code(code)
			code -= b.c.int() // the same number again, so the difference is 0
		case OpCreate:
			r.Path = b.Str()
		case OpCreate2:
			r.Path, r.Stat = b.Str(), b.Stat()
		case OpSetData:
			r.Stat = b.Stat()
		case OpGetData:
			r.Data, r.Stat = b.Buffer(), b.Stat()
		case OpGetChildren:
			r.Children = b.Strings()
		case OpDelete, OpCheck:
		default:
			b.c.bad = true
		}
		b.c.bad = b.c.bad || code != 0
		list = append(list, r)
	}
}
