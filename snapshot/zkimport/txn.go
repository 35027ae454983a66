package zkimport

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"coord/tree/znode"
)

// The types of txns.
const (
	opError           = -1
	opCreateSession   = -10
	opCloseSession    = -11
	opCreate          = 1
	opDelete          = 2
	opSetData         = 5
	opSetACL          = 7
	opCheck           = 13
	opMulti           = 14
	opCreate2         = 15
	opReconfig        = 16
	opCreateContainer = 19
	opDeleteContainer = 20
	opCreateTTL       = 21
)

// txnHeadBytes is the length of the head of every txn.
const txnHeadBytes = 32

// txnHead is that head.
type txnHead struct {
	session int64
	zxid    uint64
	timeMS  int64
	kind    int32
}

// digest is ZooKeeper's sum of all znodes at a zxid.
type digest struct {
	zxid    uint64
	version int32
	sum     uint64
}

const (
	digestVersion   = 2 // the only one that releases have used
	digestTailBytes = 4 + 8
)

// txn is a txn of the log, or one of a multi.
type txn struct {
	decoder
	rest *bytes.Reader
}

func newTxn(b []byte) *txn {
	rest := bytes.NewReader(b)
	return &txn{decoder: decoder{r: rest, sum: nothing{}}, rest: rest}
}

// nothing is a checksum that is not needed: the records of a log have their own.
type nothing struct{}

func (nothing) Write(b []byte) (int, error) { return len(b), nil }
func (nothing) Sum(b []byte) []byte         { return b }
func (nothing) Sum32() uint32               { return 0 }
func (nothing) Reset()                      {}
func (nothing) Size() int                   { return 4 }
func (nothing) BlockSize() int              { return 1 }

func (t *txn) head() (h txnHead) {
	h.session = t.i64()
	t.i32() // the client's own number
	h.zxid = uint64(t.i64())
	h.timeMS = t.i64()
	h.kind = t.i32()
	return h
}

// apply does what a txn did. It returns the digest at the txn's end, nil if there is none.
//
//	createSession   timeout i32
//	closeSession    since 3.6: vector of paths
//	create, create2 path, data, acl, ephemeral u8, cversion of the parent i32 (not in 3.3)
//	createContainer path, data, acl, cversion i32
//	createTTL       path, data, acl, cversion i32, ttl i64
//	delete, deleteContainer   path
//	setData, reconfig         path, data, version i32
//	setACL          path, acl, version i32
//	check           path, version i32: only in a multi
//	error           code i32
//	multi           vector of (type i32, that type's fields as a buffer)
func (s *state) apply(b []byte) (*digest, error) {
	t := newTxn(b)
	h := t.head()
	var err error
	switch h.kind {
	case opCreateSession:
		s.sessions[h.session] = t.i32()
	case opCloseSession:
		err = s.closeSession(&h, t.closed())
	case opMulti:
		err = s.multi(t, &h)
	default:
		err = s.one(t, &h, h.kind)
	}
	if t.err != nil {
		err = t.err
	}
	if err != nil {
		return nil, err
	}
	s.last = h.zxid
	s.newest(h.zxid, h.timeMS)
	switch n := t.rest.Len(); n {
	case 0:
		return nil, nil
	case digestTailBytes:
		return &digest{h.zxid, t.i32(), uint64(t.i64())}, nil
	default:
		return nil, fmt.Errorf("a txn of type %d has %d bytes too many", h.kind, n)
	}
}

// closed reads the paths of a closeSession. Older versions do not write them, and they may be
// switched off; then at most the digest follows, whose version, 2, is where the number of paths
// would be. Two paths would take more bytes than the digest.
func (t *txn) closed() (paths []string) {
	if t.rest.Len() == 0 {
		return nil
	}
	if t.rest.Len() == digestTailBytes {
		var b [4]byte
		if _, err := t.rest.ReadAt(b[:], t.rest.Size()-digestTailBytes); err == nil && binary.BigEndian.Uint32(b[:]) == digestVersion {
			return nil
		}
	}
	for range t.count() {
		paths = append(paths, t.string())
		if t.err != nil {
			break
		}
	}
	return paths
}

// multi applies all its txns, or none if one was refused.
func (s *state) multi(t *txn, h *txnHead) error {
	type part struct {
		kind int32
		data []byte
	}
	var parts []part
	failed := false
	for range t.count() {
		p := part{t.i32(), t.bytes()}
		if t.err != nil {
			return t.err
		}
		failed = failed || p.kind == opError
		parts = append(parts, p)
	}
	if failed {
		return nil
	}
	for _, p := range parts {
		sub := newTxn(p.data)
		err := s.one(sub, h, p.kind)
		switch {
		case sub.err != nil:
			return sub.err
		case err != nil:
			return err
		case sub.rest.Len() > 0:
			return fmt.Errorf("an operation of type %d has %d bytes too many", p.kind, sub.rest.Len())
		}
	}
	return nil
}

// one applies a single change. It does nothing if the txn cannot be read.
func (s *state) one(t *txn, h *txnHead, kind int32) error {
	switch kind {
	case opCreate, opCreate2, opCreateContainer, opCreateTTL:
		path, data, acl := t.string(), t.bytes(), t.acl()
		owner, cversion := int64(0), int32(-1)
		switch kind {
		case opCreateContainer:
			owner, cversion = znode.ContainerOwner, t.i32()
		case opCreateTTL:
			cversion = t.i32()
			ttl := t.i64()
			if ttl <= 0 && t.err == nil {
				return fmt.Errorf("invalid TTL of %d ms", ttl)
			}
			owner = znode.TTLOwner(min(ttl, znode.MaxTTLMS)) // 3.5.3 allowed more than 34 years
		default:
			if t.bool() {
				owner = h.session
			}
			if kind == opCreate2 || t.rest.Len() > 0 {
				cversion = t.i32()
			}
		}
		if t.err == nil {
			return s.create(h, path, data, acl, owner, cversion)
		}
	case opDelete, opDeleteContainer:
		if path := t.string(); t.err == nil {
			return s.remove(path, h.zxid)
		}
	case opSetData, opReconfig:
		path, data, version := t.string(), t.bytes(), t.i32()
		if t.err == nil {
			s.setData(h, path, data, version)
		}
	case opSetACL:
		path, acl, version := t.string(), t.acl(), t.i32()
		if t.err == nil {
			s.setACL(path, acl, version)
		}
	case opCheck:
		t.string()
		t.i32()
	case opError:
		t.i32()
	default:
		return fmt.Errorf("unknown txn type %d", kind)
	}
	return t.err
}
