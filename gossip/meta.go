package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What a member announces about itself, in memberlist's meta; integers are in network order:
//
//	version  u8     1
//	node     u64
//	boot     u64
//	cluster  16 bytes, zero: blank
//	ports    3 × u16: gossip, peers, clients; 0 for none
//	role     u8     the user's of this package, as state
//	state    u8
//	expect   u8
//	proto    u8
//	view     u64
//	name     u8 length, bytes
//	host     u8 length, bytes
//
// Bytes after these belong to a later version and are ignored.
const metaVersion = 1

// Limits of a member's texts: the whole meta must stay below memberlist's 512 bytes.
const (
	MaxName = 128
	MaxHost = 253 // of DNS
)

var errMeta = errors.New("malformed metadata")

func (m *Member) encode() []byte {
	b := append(make([]byte, 0, 128), metaVersion)
	b = binary.BigEndian.AppendUint64(b, m.Node)
	b = binary.BigEndian.AppendUint64(b, m.Boot)
	b = append(b, m.Cluster[:]...)
	b = binary.BigEndian.AppendUint16(b, m.GossipPort)
	b = binary.BigEndian.AppendUint16(b, m.PeerPort)
	b = binary.BigEndian.AppendUint16(b, m.ClientPort)
	b = append(b, m.Role, m.State, m.Expect, m.Proto)
	b = binary.BigEndian.AppendUint64(b, m.View)
	b = append(append(b, byte(len(m.Name))), m.Name...)
	return append(append(b, byte(len(m.Host))), m.Host...)
}

func decodeMember(b []byte) (m Member, err error) {
	const fixed = 1 + 8 + 8 + 16 + 6 + 4 + 8
	if len(b) < fixed+2 {
		return m, errMeta
	}
	if b[0] < metaVersion {
		return m, errMeta
	}
	m.Node = binary.BigEndian.Uint64(b[1:])
	m.Boot = binary.BigEndian.Uint64(b[9:])
	copy(m.Cluster[:], b[17:])
	m.GossipPort = binary.BigEndian.Uint16(b[33:])
	m.PeerPort = binary.BigEndian.Uint16(b[35:])
	m.ClientPort = binary.BigEndian.Uint16(b[37:])
	m.Role, m.State, m.Expect, m.Proto = b[39], b[40], b[41], b[42]
	m.View = binary.BigEndian.Uint64(b[43:])
	rest := b[fixed:]
	for _, text := range []*string{&m.Name, &m.Host} {
		if len(rest) == 0 {
			return Member{}, errMeta
		}
		end := 1 + int(rest[0])
		if len(rest) < end {
			return Member{}, errMeta
		}
		*text, rest = string(rest[1:end]), rest[end:]
	}
	if m.check() != nil {
		return Member{}, errMeta
	}
	return m, nil
}

func (m *Member) check() error {
	if m.Node == 0 {
		return errors.New("gossip: the node id is missing")
	}
	if len(m.Name) > MaxName || len(m.Host) > MaxHost {
		return fmt.Errorf("gossip: name of %d bytes (limit %d) or host of %d bytes (limit %d) is too long", len(m.Name), MaxName, len(m.Host), MaxHost)
	}
	return nil
}
