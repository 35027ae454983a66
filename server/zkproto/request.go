package zkproto

import "coord/tree/znode"

// Part is one operation: the part of a Request that a multi can also contain.
type Part struct {
	Op      Op
	Flags   int32 // creates: as sent, see Mode
	Version int32 // expected, or AnyVersion
	Watch   bool  // reads: arm a one-shot watch
	TTLMS   int64 // OpCreateTTL: as sent
	Path    string
	Data    []byte    // creates, OpSetData: the data; OpAuth: the credential; OpSASL: the token. nil is null. Aliases the frame
	ACL     znode.ACL // creates, OpSetACL: nil is null. Must not be modified, it may be shared
}

// Request is one request. It owns its strings, which may hold any bytes: see Decoder.
type Request struct {
	Xid int32
	Part
	Ops []Part // OpMulti, OpMultiRead. The array is reused for the next request

	Kind    int32       // OpAddWatch: AddPersistent or AddRecursive; OpCheckWatches, OpRemoveWatches: OfChildren … OfRecursive
	Zxid    znode.Zxid  // OpSetWatches, OpSetWatches2: the last one that the client has seen
	Watches [5][]string // the same: of data, exists, children, persistent, persistent recursive

	Scheme                    string // OpAuth
	Joining, Leaving, Members string // OpReconfig
	Config                    int64  // OpReconfig: the expected version, or -1
}

// Decoder reads requests. It checks the form of the bytes, as leniently as ZooKeeper's server:
// bytes after a body are ignored, any byte but 0 is true, and a negative count other than -1 means
// an empty vector. Where ZooKeeper accepts a null string, it reads as empty, or as znode.Null where
// ZooKeeper distinguishes the two or fails later. A null string that ZooKeeper cannot accept (the
// path of a read, or of any operation in a multi) is malformed.
//
// Strings keep their bytes. ZooKeeper reads malformed UTF-8 as U+FFFD, which no path may contain;
// znode.CheckPath refuses the malformed bytes themselves, and no znode has such a name, so writes
// and reads have the same outcome. ZooKeeper would store an identity in an access list with U+FFFD;
// here the caller decides that.
type Decoder struct {
	MaxOps int // in a multi; more are an ErrTooBig
}

// keepOps is the number of operations for which a Request keeps room.
const keepOps = 32

// Decode reads a request into r, of whose previous contents only the memory is reused. An error is
// an *Error:
//
//   - OK, Close: there is no header, or an OpAuth or OpSASL is malformed. ZooKeeper
//     closes the connection without an answer. r has Xid and Op, or nothing.
//   - ErrUnimplemented, Close: the operation does not exist, or is not for clients. r has
//     Xid and Op. ZooKeeper answers with the zxid NoZxid.
//   - ErrMarshalling, ErrTooBig: the body is at fault. r has Xid and Op. The next
//     request can be read.
func (d *Decoder) Decode(frame []byte, r *Request) error {
	ops, last := r.Ops[:0], r.Path
	clear(r.Ops)
	if cap(ops) > keepOps {
		ops = nil
	}
	*r = Request{Ops: ops}

	c := cursor{rest: frame, last: last}
	xid, op := c.int(), Op(c.int())
	if c.bad {
		return errHeader
	}
	r.Xid, r.Op = xid, op
	s := op.shape()
	if s.where&alone == 0 {
		return errUnknown
	}
	for _, f := range s.body {
		if f == parts {
			if err := d.parts(&c, r); err != nil {
				return err
			}
			continue
		}
		r.read(&c, f)
	}
	switch {
	case !c.bad:
		return nil
	case op == OpAuth || op == OpSASL:
		return errAuth
	}
	return errBody
}

// parts reads the operations of a multi or a multiRead, up to the header with done set. The err of
// a header has no meaning in a request.
func (d *Decoder) parts(c *cursor, r *Request) error {
	where := inMulti
	if r.Op == OpMultiRead {
		where = inReads
	}
	for {
		op, done, _ := Op(c.int()), c.bool(), c.int()
		s := op.shape()
		switch {
		case c.bad || !done && s.where&where == 0:
			return errBody
		case done:
			return nil
		case len(r.Ops) >= d.MaxOps:
			return errTooManyOps
		}
		p := Part{Op: op}
		for _, f := range s.body {
			p.read(c, f)
		}
		if p.Path == znode.Null {
			return errBody
		}
		r.Ops = append(r.Ops, p)
	}
}

// read reads the fields that occur only outside a multi.
func (r *Request) read(c *cursor, f field) {
	switch f {
	case prefix:
		r.Path = c.string()
	case addMode:
		r.Kind = c.int()
		c.bad = c.bad || r.Kind < AddPersistent || r.Kind > AddRecursive
	case ofType:
		r.Kind = c.int()
		c.bad = c.bad || r.Kind < OfChildren || r.Kind > OfRecursive
	case authType:
		c.int()
	case scheme:
		r.Scheme = c.string()
	case joining:
		r.Joining = c.string()
	case leaving:
		r.Leaving = c.string()
	case members:
		r.Members = c.string()
	case config:
		r.Config = c.long()
	case zxid:
		r.Zxid = znode.Zxid(c.long())
	case lists3, lists5:
		for i := range r.Watches[:listsOf(f)] {
			if r.Watches[i] = c.strings(); r.Watches[i] == nil {
				r.Watches[i] = []string{znode.Null}
			}
		}
	default:
		r.Part.read(c, f)
	}
}

func listsOf(f field) int {
	if f == lists3 {
		return 3
	}
	return 5
}

func (p *Part) read(c *cursor, f field) {
	switch f {
	case path:
		p.Path = c.notNull()
	case anyPath:
		p.Path = c.nullable()
	case data:
		p.Data = c.buffer()
	case acl:
		p.ACL = c.acl()
	case flags:
		p.Flags = c.int()
	case ttl:
		p.TTLMS = c.long()
	case version:
		p.Version = c.int()
	case watch:
		p.Watch = c.bool()
	default:
		panic("zkproto: unknown field to decode")
	}
}

// AppendRequest appends a request as a frame. It encodes even what a Decoder would refuse, but
// operations in Ops may have only the fields of a Part.
func AppendRequest(dst []byte, r *Request) []byte {
	start := len(dst)
	dst = AppendInt(begin(dst), r.Xid)
	dst = AppendInt(dst, int32(r.Op))
	for _, f := range r.Op.shape().body {
		dst = r.append(dst, f)
	}
	EndFrame(dst, start)
	return dst
}

func (r *Request) append(dst []byte, f field) []byte {
	switch f {
	case addMode, ofType:
		return AppendInt(dst, r.Kind)
	case authType:
		return AppendInt(dst, 0)
	case scheme:
		return AppendString(dst, r.Scheme)
	case joining:
		return AppendString(dst, r.Joining)
	case leaving:
		return AppendString(dst, r.Leaving)
	case members:
		return AppendString(dst, r.Members)
	case config:
		return appendLong(dst, r.Config)
	case zxid:
		return appendLong(dst, int64(r.Zxid))
	case lists3, lists5:
		for _, list := range r.Watches[:listsOf(f)] {
			dst = AppendStrings(dst, list)
		}
		return dst
	case parts:
		for i := range r.Ops {
			dst = appendMultiHeader(dst, r.Ops[i].Op, false, -1)
			for _, f := range r.Ops[i].Op.shape().body {
				dst = r.Ops[i].append(dst, f)
			}
		}
		return AppendMultiEnd(dst)
	default:
		return r.Part.append(dst, f)
	}
}

func (p *Part) append(dst []byte, f field) []byte {
	switch f {
	case path, anyPath, prefix:
		return AppendString(dst, p.Path)
	case data:
		return appendBuffer(dst, p.Data)
	case acl:
		if p.ACL == nil {
			return AppendInt(dst, -1)
		}
		return AppendACL(dst, p.ACL)
	case flags:
		return AppendInt(dst, p.Flags)
	case ttl:
		return appendLong(dst, p.TTLMS)
	case version:
		return AppendInt(dst, p.Version)
	case watch:
		return appendBool(dst, p.Watch)
	default:
		panic("zkproto: unknown field to encode")
	}
}
