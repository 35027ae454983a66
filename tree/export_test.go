package tree

// HashMask makes the tree that b builds use only these bits of a path's hash, so that paths
// collide. It must be called before the first Add.
func (b *Builder) HashMask(mask uint64) { b.t.mask = mask }

// Collisions is the number of paths whose place in the index was taken.
func (t *Tree) Collisions() int { return len(t.collisions) }

// ACLs is the number of distinct lists in use besides world:anyone:cdrwa.
func (t *Tree) ACLs() int { return len(t.acls.number) }

// PieceMax is the most children in one piece of a list.
const PieceMax = pieceMax

// Kept is the capacity for events and for undo that the last txns have left, and the bytes of data in it.
func (t *Tree) Kept() (events, undo, data int) {
	for _, e := range t.events[:cap(t.events)] {
		data += len(e.Data)
	}
	return cap(t.events), cap(t.undo), data
}
