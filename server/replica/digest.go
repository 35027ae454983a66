package replica

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"coord/tree"
)

// DigestAt is the digest of the state after the entry at Index: equal on all nodes.
type DigestAt struct {
	Index  uint64
	Digest tree.Digest
}

const (
	// digestEvery is the distance in entries between kept digests: nodes that are at different
	// entries have some digests in common.
	digestEvery = 1024
	// keptDigests is how many digests are kept. A node that is further behind than they reach is
	// compared when it has caught up.
	keptDigests = 64
	// MaxDigests is the most that Digests returns and ParseDigests takes.
	MaxDigests = keptDigests + 1

	digestAtBytes = 24
)

// digests are the digests kept, in the order of their indices.
type digests struct {
	sync.Mutex
	kept []DigestAt
}

// note keeps a digest and drops the oldest if there are too many.
func (d *digests) note(at DigestAt) {
	d.Lock()
	defer d.Unlock()
	if len(d.kept) == keptDigests {
		d.kept = slices.Delete(d.kept, 0, 1)
	}
	d.kept = append(d.kept, at)
}

// Digests returns digests of this node's state, ascending by index: the kept ones, and the present
// one unless an entry is being applied. Any goroutine may call it.
func (r *Replica) Digests() []DigestAt {
	r.mu.RLock()
	now := DigestAt{r.mu.index, r.mu.tree.Digest()}
	r.mu.RUnlock()
	r.digests.Lock()
	all := append(make([]DigestAt, 0, MaxDigests), r.digests.kept...)
	r.digests.Unlock()
	i, found := slices.BinarySearchFunc(all, now.Index, func(x DigestAt, index uint64) int { return cmp.Compare(x.Index, index) })
	if now.Index == 0 || found || i < len(all) { // newer digests were kept meanwhile
		return all
	}
	return append(all, now)
}

// Differs finds the first index at which the digests of two nodes differ: then one of the nodes is
// wrong. Both lists ascend.
func Differs(ours, theirs []DigestAt) (our, their DigestAt, differs bool) {
	for len(ours) > 0 && len(theirs) > 0 {
		switch a, b := ours[0], theirs[0]; {
		case a.Index < b.Index:
			ours = ours[1:]
		case a.Index > b.Index:
			theirs = theirs[1:]
		case a.Digest != b.Digest:
			return a, b, true
		default:
			ours, theirs = ours[1:], theirs[1:]
		}
	}
	return DigestAt{}, DigestAt{}, false
}

// AppendDigests appends a list for another node: for each entry the index and the digest, high half
// first, 8 bytes a number, little endian.
func AppendDigests(b []byte, list []DigestAt) []byte {
	for _, x := range list {
		for _, n := range []uint64{x.Index, x.Digest.Hi, x.Digest.Lo} {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
	}
	return b
}

// ParseDigests reads what AppendDigests has written. It accepts no more than MaxDigests, and only
// ascending indices.
func ParseDigests(b []byte) ([]DigestAt, error) {
	if len(b)%digestAtBytes != 0 || len(b) > MaxDigests*digestAtBytes {
		return nil, fmt.Errorf("replica: malformed list of digests of %d bytes", len(b))
	}
	var list []DigestAt
	for ; len(b) > 0; b = b[digestAtBytes:] {
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
		x := DigestAt{word(0), tree.Digest{Hi: word(1), Lo: word(2)}}
		if n := len(list); n > 0 && x.Index <= list[n-1].Index {
			return nil, fmt.Errorf("replica: digest at entry %d follows one at entry %d", x.Index, list[n-1].Index)
		}
		list = append(list, x)
	}
	return list, nil
}
