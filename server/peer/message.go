package peer

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
)

// The mask of a message, bit by bit.
const (
	hasFrom = 1 << iota
	hasTerm
	hasLogTerm
	hasIndex
	hasCommit
	hasRejectHint
	hasReject
	hasContext
	hasEntries
	hasSnapshot
	hasEnd
)

const (
	entryTypes = 3 // the bits of an entry's first byte
	entryNext  = 4

	leastEntry = 2 // bytes
)

// travels says which messages go between nodes. Raft's other messages go between the parts of one
// node.
var travels = [...]bool{
	raftpb.MsgApp: true, raftpb.MsgAppResp: true, raftpb.MsgVote: true, raftpb.MsgVoteResp: true,
	raftpb.MsgSnap: true, raftpb.MsgHeartbeat: true, raftpb.MsgHeartbeatResp: true,
	raftpb.MsgTransferLeader: true, raftpb.MsgTimeoutNow: true, raftpb.MsgReadIndex: true,
	raftpb.MsgReadIndexResp: true, raftpb.MsgPreVote: true, raftpb.MsgPreVoteResp: true,
}

func mayTravel(t raftpb.MessageType) bool { return t >= 0 && int(t) < len(travels) && travels[t] }

// weight is about what a message takes in memory, and more than it takes on the wire.
func weight(m *raftpb.Message) int {
	n := 256 + len(m.GetContext())
	for _, e := range m.GetEntries() {
		n += 32 + len(e.GetData())
	}
	if s := m.GetSnapshot(); s != nil {
		c := s.GetMetadata().GetConfState()
		n += len(s.GetData()) + 8*(len(c.GetVoters())+len(c.GetLearners())+len(c.GetVotersOutgoing())+len(c.GetLearnersNext()))
	}
	return n
}

// appendMessage appends a message of node from. The message's To is left out.
func appendMessage(b []byte, m *raftpb.Message, from uint64) []byte {
	head := len(b)
	b = append(b, byte(m.GetType()), 0, 0)
	mask := uint16(0)
	if f := m.GetFrom(); f != from {
		mask |= hasFrom
		b = binary.BigEndian.AppendUint64(b, f)
	}
	for i, n := range [...]uint64{m.GetTerm(), m.GetLogTerm(), m.GetIndex(), m.GetCommit(), m.GetRejectHint()} {
		if n != 0 {
			mask |= hasTerm << i
			b = binary.AppendUvarint(b, n)
		}
	}
	if m.GetReject() {
		mask |= hasReject
	}
	if c := m.GetContext(); len(c) > 0 {
		mask |= hasContext
		b = appendBytes(b, c)
	}
	if es := m.GetEntries(); len(es) > 0 {
		mask |= hasEntries
		b = binary.AppendUvarint(b, uint64(len(es)))
		index, term := m.GetIndex(), m.GetLogTerm()
		for _, e := range es {
			t := byte(e.GetType())
			if e.GetIndex() == index+1 && e.GetTerm() == term {
				b = append(b, t|entryNext)
			} else {
				b = append(b, t)
				b = binary.AppendUvarint(b, e.GetIndex())
				b = binary.AppendUvarint(b, e.GetTerm())
			}
			index, term = e.GetIndex(), e.GetTerm()
			b = appendBytes(b, e.GetData())
		}
	}
	if s := m.GetSnapshot(); s != nil && m.GetType() == raftpb.MsgSnap {
		mask |= hasSnapshot
		b = binary.AppendUvarint(b, s.GetMetadata().GetIndex())
		b = binary.AppendUvarint(b, s.GetMetadata().GetTerm())
		b = appendBytes(b, s.GetData())
		c := s.GetMetadata().GetConfState()
		leave := byte(0)
		if c.GetAutoLeave() {
			leave = 1
		}
		b = append(b, leave)
		for _, ids := range [...][]uint64{c.GetVoters(), c.GetLearners(), c.GetVotersOutgoing(), c.GetLearnersNext()} {
			b = binary.AppendUvarint(b, uint64(len(ids)))
			for _, id := range ids {
				b = binary.BigEndian.AppendUint64(b, id)
			}
		}
	}
	binary.BigEndian.PutUint16(b[head+1:], mask)
	return b
}

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

// message holds a raft message and its numbers in one allocation; entry does the same for an entry.
type message struct {
	raftpb.Message
	typ                          raftpb.MessageType
	to, from                     uint64
	term, log, index, commit, rh uint64
	reject                       bool
}

type entry struct {
	raftpb.Entry
	typ         raftpb.EntryType
	index, term uint64
}

// parseMessages reads the payload of a RAFT frame from node from to node to. The result points into
// b. It allocates in proportion to b, up to the limits of a frame.
func parseMessages(b []byte, from, to uint64) ([]*raftpb.Message, error) {
	c := cursor{b: b}
	room := MaxEntries
	var ms []*raftpb.Message
	for len(c.b) > 0 && !c.bad {
		if len(ms) == MaxMessages {
			return nil, damaged("more than %d messages in a frame", MaxMessages)
		}
		one := cursor{b: c.bytes()}
		m, err := parseMessage(&one, from, to, &room)
		if err != nil {
			return nil, err
		}
		ms = append(ms, m)
	}
	if c.bad || len(ms) == 0 {
		return nil, damaged("truncated RAFT frame")
	}
	return ms, nil
}

func parseMessage(c *cursor, from, to uint64, room *int) (*raftpb.Message, error) {
	head := c.take(3)
	if c.bad {
		return nil, damaged("truncated message of %d bytes", len(c.b))
	}
	m := &message{typ: raftpb.MessageType(head[0]), to: to, from: from}
	mask := binary.BigEndian.Uint16(head[1:])
	if !mayTravel(m.typ) {
		return nil, damaged("message type %d is not allowed between nodes", m.typ)
	}
	if mask >= hasEnd || mask&hasFrom != 0 && m.typ != raftpb.MsgTransferLeader || (mask&hasSnapshot != 0) != (m.typ == raftpb.MsgSnap) {
		return nil, damaged("%s with invalid mask %#x", m.typ, mask)
	}
	m.Type, m.To, m.From = &m.typ, &m.to, &m.from
	if mask&hasFrom != 0 {
		m.from = c.uint64()
		c.bad = c.bad || m.from == from
	}
	for i, f := range [...]struct {
		n *uint64
		p **uint64
	}{{&m.term, &m.Term}, {&m.log, &m.LogTerm}, {&m.index, &m.Index}, {&m.commit, &m.Commit}, {&m.rh, &m.RejectHint}} {
		if mask&(hasTerm<<i) != 0 {
			*f.n, *f.p = c.uvarint(), f.n
			c.bad = c.bad || *f.n == 0
		}
	}
	if mask&hasReject != 0 {
		m.reject, m.Reject = true, &m.reject
	}
	if mask&hasContext != 0 {
		m.Context = c.bytes()
		c.bad = c.bad || len(m.Context) == 0
	}
	if mask&hasEntries != 0 {
		n := c.count(leastEntry)
		if *room -= n; *room < 0 {
			return nil, damaged("more than %d entries in a frame", MaxEntries)
		}
		c.bad = c.bad || n == 0
		m.Entries = parseEntries(c, n, m.index, m.log)
	}
	if mask&hasSnapshot != 0 {
		m.Snapshot = parseSnapshot(c)
	}
	if c.bad || len(c.b) > 0 {
		return nil, damaged("malformed %s", m.typ)
	}
	return &m.Message, nil
}

func parseEntries(c *cursor, n int, index, term uint64) []*raftpb.Entry {
	all, es := make([]entry, n), make([]*raftpb.Entry, n)
	for i := range all {
		if c.bad {
			return nil
		}
		e, head := &all[i], c.byte()
		if e.typ = raftpb.EntryType(head & entryTypes); head&entryNext != 0 {
			e.index, e.term = index+1, term
		} else {
			e.index, e.term = c.uvarint(), c.uvarint()
			c.bad = c.bad || e.index == index+1 && e.term == term
		}
		c.bad = c.bad || head > entryNext|entryTypes || e.typ > raftpb.EntryConfChangeV2
		index, term = e.index, e.term
		e.Data = c.bytes()
		e.Type, e.Index, e.Term = &e.typ, &e.index, &e.term
		es[i] = &e.Entry
	}
	return es
}

func parseSnapshot(c *cursor) *raftpb.Snapshot {
	index, term := c.uvarint(), c.uvarint()
	data, leave := c.bytes(), c.byte()
	c.bad = c.bad || leave > 1
	s := &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		Index: &index, Term: &term, ConfState: &raftpb.ConfState{AutoLeave: new(leave == 1)},
	}}
	conf := s.Metadata.ConfState
	for _, ids := range [...]*[]uint64{&conf.Voters, &conf.Learners, &conf.VotersOutgoing, &conf.LearnersNext} {
		n := c.count(8)
		if n == 0 {
			continue
		}
		*ids = make([]uint64, n)
		for i := range *ids {
			(*ids)[i] = c.uint64()
		}
	}
	return s
}

// cursor cuts values off the front of b. bad says that a value was missing or malformed; from then
// on all values are zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n > len(c.b) {
		c.bad = true
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) byte() byte {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if p := c.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// uvarint takes a varint, which must have its shortest form.
func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if c.bad || n <= 0 || n != max(1, (bits.Len64(v)+6)/7) {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return v
}

// bytes takes a length and that many bytes; nil if the length is 0.
func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad = true
	}
	if c.bad || n == 0 {
		return nil
	}
	return c.take(int(n))
}

// count takes a number of items that have at least least bytes each; more than can fit into b are
// refused.
func (c *cursor) count(least int) int {
	n := c.uvarint()
	if c.bad || n > uint64(len(c.b)/least) {
		c.bad = true
		return 0
	}
	return int(n)
}

// mustTravel panics if m is a message that node from must not send.
func mustTravel(m *raftpb.Message, from uint64) {
	t := m.GetType()
	switch {
	case !mayTravel(t), len(m.GetResponses()) > 0, m.GetVote() != 0,
		m.GetFrom() != from && t != raftpb.MsgTransferLeader,
		m.Snapshot == nil && t == raftpb.MsgSnap:
		panic(fmt.Sprintf("peer: cannot send a message that is local to a node: %s", m.GetType()))
	}
}
