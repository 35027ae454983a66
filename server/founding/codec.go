package founding

import (
	"encoding/binary"
	"errors"
)

// A message on the wire, integers in network order:
//
//	version  u8     1
//	kind     u8     1 hello, 2 propose, 3 poll, 4 answer
//	state    u8     0 blank, 1 promised, 2 member, 3 removed, 4 faulty
//	stand    u8     0 open, 1 bound, 2 voted, 3 never, 4 belongs
//	want     u8
//	view     u64
//	by       u64
//	cluster  16 bytes
//	about    16 bytes
//	label    text
//	from     node
//	plan     of a propose only: u8 number of members, node*; its id is about
//
//	node:    u64 id, name text, address text
//	text:    u8 length, bytes
//
// Nothing follows. So a message has less than 18 KiB, and decoding needs no memory beyond the size
// of its input.
const version = 1

// ErrMessage is returned for a malformed message.
var ErrMessage = errors.New("founding: malformed message")

// ErrVersion is returned for a message of another version.
var ErrVersion = errors.New("founding: message from another version of coord")

// MaxMessage is more bytes than the largest message has.
const MaxMessage = 18 << 10

// Append appends a message's bytes. A text longer than MaxText is a bug of the caller and panics.
func (m *Message) Append(b []byte) []byte {
	b = append(b, version, byte(m.Kind), byte(m.State), byte(m.Stand), m.Want)
	b = binary.BigEndian.AppendUint64(b, m.View)
	b = binary.BigEndian.AppendUint64(b, m.By)
	b = append(b, m.Cluster[:]...)
	b = append(b, m.About[:]...)
	b = appendText(b, m.Label)
	b = appendNode(b, m.From)
	if m.Kind == Propose {
		b = append(b, byte(len(m.Plan.Members)))
		for _, p := range m.Plan.Members {
			b = appendNode(b, p)
		}
	}
	return b
}

func appendNode(b []byte, n Node) []byte {
	return appendText(appendText(binary.BigEndian.AppendUint64(b, n.ID), n.Name), n.Addr)
}

func appendText(b []byte, s string) []byte {
	if len(s) > MaxText {
		panic("founding: text longer than 255 bytes")
	}
	return append(append(b, byte(len(s))), s...)
}

// Decode reads a message, which must take all of b.
func Decode(b []byte) (*Message, error) {
	if len(b) > 0 && b[0] != version {
		return nil, ErrVersion
	}
	r := reader{rest: b}
	r.u8()
	m := &Message{Kind: Kind(r.u8()), State: State(r.u8()), Stand: Stand(r.u8()), Want: r.u8(), View: r.u64(), By: r.u64()}
	copy(m.Cluster[:], r.take(16))
	copy(m.About[:], r.take(16))
	m.Label, m.From = r.text(), r.node()
	if m.Kind == Propose {
		m.Plan = &Plan{Cluster: m.About}
		for range min(r.u8(), MaxMembers+1) {
			m.Plan.Members = append(m.Plan.Members, r.node())
		}
		r.bad = r.bad || !m.Plan.valid()
	}
	if r.bad || len(r.rest) > 0 || m.Kind < Hello || m.Kind > Answer || m.State > Faulty || m.Stand > Belongs || m.From.ID == 0 {
		return nil, ErrMessage
	}
	return m, nil
}

// reader cuts values off the front; after the end all values are zero.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.rest, r.bad = nil, true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) text() string { return string(r.take(int(r.u8()))) }

func (r *reader) node() Node { return Node{r.u64(), r.text(), r.text()} }
