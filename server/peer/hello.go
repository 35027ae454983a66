package peer

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// Purpose is what a connection is for.
type Purpose uint8

const (
	purposeLink     Purpose = 1
	purposeSnapshot Purpose = 2
	purposeRequest  Purpose = 3
)

const (
	magic    = "\x89COORDP\n"
	version  = 1
	maxStep  = 1024
	nonceLen = 32
	macLen   = 32
	proofLen = 16 + macLen

	flagSecret = 1

	stepHello   = 1
	stepProof   = 2
	stepVerdict = 3
)

// Hello is what a node says of itself.
type Hello struct {
	Identity
	ClusterName     string
	Expects         uint64 // the node id that it takes the other side to be; 0: any
	Index, Term     uint64 // of the last entry in its log, and the term that it is in; of a dialer as stated in its proof
	Purpose         Purpose
	HasSecret       bool
	Lowest, Highest uint16 // versions

	nonce [nonceLen]byte
}

// Lacks says whether the node's log ends before an entry that it has had, or the node has never been in the term
// of that entry (0: not known), although it must have been in that term to get the entry. Either means that its
// disk is an older copy.
func (h *Hello) Lacks(index, term uint64) bool { return h.Index < index || h.Term < term }

// helloBody is the body of a hello.
func helloBody(h *Hello) []byte {
	var flags byte
	if h.HasSecret {
		flags = flagSecret
	}
	b := []byte{byte(h.Purpose), flags}
	b = binary.BigEndian.AppendUint16(b, h.Lowest)
	b = binary.BigEndian.AppendUint16(b, h.Highest)
	b = append(b, h.Cluster[:]...)
	for _, n := range [...]uint64{h.Node, h.Expects, h.Boot, h.Index, h.Term} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(b, h.nonce[:]...)
	b = append(append(b, byte(len(h.ClusterName))), h.ClusterName...)
	return append(append(b, byte(len(h.Name))), h.Name...)
}

// parseHello reads the body of a hello and refuses one in which a field is missing or impossible.
func parseHello(b []byte) (Hello, *Refusal) {
	var h Hello
	const fixed = 94
	if len(b) < fixed {
		return h, refuse(CodeMalformed, "hello of %d bytes is too short", len(b))
	}
	h.Purpose, h.HasSecret = Purpose(b[0]), b[1] == flagSecret
	h.Lowest, h.Highest = binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
	copy(h.Cluster[:], b[6:])
	for i, n := range [...]*uint64{&h.Node, &h.Expects, &h.Boot, &h.Index, &h.Term} {
		*n = binary.BigEndian.Uint64(b[22+8*i:])
	}
	copy(h.nonce[:], b[62:])
	flags, rest := b[1], b[fixed:]
	ok := true
	text := func() string {
		if !ok || len(rest) == 0 || len(rest) <= int(rest[0]) {
			ok = false
			return ""
		}
		end := 1 + int(rest[0])
		s := string(rest[1:end])
		rest = rest[end:]
		ok = utf8.ValidString(s)
		return s
	}
	h.ClusterName, h.Name = text(), text()
	switch {
	case !ok:
		return h, refuse(CodeMalformed, "a name is missing, truncated or not UTF-8")
	case h.Purpose < purposeLink || h.Purpose > purposeRequest:
		return h, refuse(CodeMalformed, "unknown purpose %d", h.Purpose)
	case h.Lowest == 0 || h.Lowest > h.Highest:
		return h, refuse(CodeMalformed, "invalid versions %d to %d", h.Lowest, h.Highest)
	case h.Lowest > version:
		// In that version, what follows may mean something else.
		return h, refuse(CodeVersion, "it supports versions %d to %d, this node supports version %d", h.Lowest, h.Highest, version)
	case flags&^flagSecret != 0:
		return h, refuse(CodeMalformed, "unknown flags %#x", flags)
	case h.Node == 0:
		return h, refuse(CodeMalformed, "its node id is 0")
	case h.Expects == 0 && h.Purpose != purposeRequest:
		return h, refuse(CodeMalformed, "it does not say which node it expects")
	case h.ClusterName == "":
		return h, refuse(CodeMalformed, "it sent no cluster name")
	case h.nonce == [nonceLen]byte{}:
		return h, refuse(CodeMalformed, "it sent no nonce")
	}
	return h, nil
}

// atOnce judges what needs no proof: it compares only with what this node tells anybody.
func (h *Hello) atOnce(ours *Hello) *Refusal {
	switch {
	case h.ClusterName != ours.ClusterName:
		return refuse(CodeName, "its cluster is named %q, this node's is named %q", h.ClusterName, ours.ClusterName)
	case h.HasSecret && !ours.HasSecret:
		return refuse(CodeSecret, "it has a secret, this node has none")
	case !h.HasSecret && ours.HasSecret:
		return refuse(CodeSecret, "it has no secret, this node has one")
	}
	return nil
}

// proven judges a node that has proved the secret, on either side.
func (h *Hello) proven(ours *Hello) *Refusal {
	var blank [16]byte
	switch {
	case h.Node == ours.Node:
		return refuse(CodeSelf, "it has this node's own id %016x", h.Node)
	case h.Expects != 0 && h.Expects != ours.Node:
		return refuse(CodeID, "it expects node %016x, this is %016x", h.Expects, ours.Node)
	case ours.Expects != 0 && h.Node != ours.Expects:
		return refuse(CodeID, "it is node %016x, expected %016x", h.Node, ours.Expects)
	case h.Cluster == ours.Cluster && h.Cluster != blank:
	case ours.Purpose == purposeRequest && (h.Cluster == blank || ours.Cluster == blank):
	default:
		return refuse(CodeCluster, "its cluster is %x, this node's is %x", h.Cluster, ours.Cluster)
	}
	return nil
}

// positionBytes returns the beginning of a proof: the index of the last entry in the log, and the term that the
// node is in.
func positionBytes(index, term uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, proofLen), index)
	return binary.BigEndian.AppendUint64(b, term)
}

// refusalOf reads the body of a verdict. It returns nil, true for a welcome, and false if the body
// is no verdict.
func refusalOf(body []byte) (*Refusal, bool) {
	if len(body) < 2+macLen || len(body) > 2+textBytes+macLen {
		return nil, false
	}
	r := &Refusal{Code: Code(binary.BigEndian.Uint16(body)), Text: string(bytes.ToValidUTF8(body[2:len(body)-macLen], []byte("?")))}
	if r.Code == 0 {
		return nil, r.Text == ""
	}
	return r, true
}
