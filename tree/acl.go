package tree

import (
	"encoding/binary"
	"slices"

	"coord/tree/znode"
)

// aclTable keeps each distinct ACL once. Number 0 is world:anyone:cdrwa and stays; the others have
// a reference count and are freed with their last znode.
type aclTable struct {
	lists  []znode.ACL // a list is never changed; freed numbers are used again
	refs   []int
	number map[string]uint32 // canonical bytes → number
	freed  []uint32
	idle   []uint32 // their last ref went in this txn: freed at its end, because the txn may be undone
}

func newACLTable() aclTable {
	return aclTable{lists: []znode.ACL{znode.OpenACL}, refs: []int{0}, number: map[string]uint32{}}
}

// intern returns the number of a list, or stores a copy of it under a new number; the caller takes the ref.
func (t *aclTable) intern(a znode.ACL) uint32 {
	if len(a) == 1 && a[0] == znode.OpenACL[0] {
		return 0
	}
	key := aclKey(a)
	if n, ok := t.number[string(key)]; ok {
		return n
	}
	a = slices.Clone(a)
	var n uint32
	if k := len(t.freed); k > 0 {
		n, t.freed = t.freed[k-1], t.freed[:k-1]
		t.lists[n] = a
	} else {
		n = uint32(len(t.lists))
		t.lists, t.refs = append(t.lists, a), append(t.refs, 0)
	}
	t.number[string(key)] = n
	return n
}

func (t *aclTable) ref(n uint32) {
	if n != 0 {
		t.refs[n]++
	}
}

func (t *aclTable) unref(n uint32) {
	if n == 0 {
		return
	}
	if t.refs[n]--; t.refs[n] == 0 {
		t.idle = append(t.idle, n)
	}
}

// settle frees the numbers that no znode uses any more.
func (t *aclTable) settle() {
	for _, n := range t.idle {
		if t.refs[n] == 0 && t.lists[n] != nil {
			delete(t.number, string(aclKey(t.lists[n])))
			t.lists[n] = nil
			t.freed = append(t.freed, n)
		}
	}
	t.idle = t.idle[:0]
}

func aclKey(a znode.ACL) []byte {
	var key []byte
	for _, e := range a {
		key = binary.LittleEndian.AppendUint32(key, uint32(e.Perms))
		key = binary.AppendUvarint(key, uint64(len(e.Scheme)))
		key = append(key, e.Scheme...)
		key = binary.AppendUvarint(key, uint64(len(e.ID)))
		key = append(key, e.ID...)
	}
	return key
}
