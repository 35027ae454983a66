package tree

import "slices"

// pieceMax is the most items in one piece of a list: few enough to copy in well under a
// microsecond, enough that a list of a million has few pieces.
const pieceMax = 256

// list is an ordered list of T that can be frozen: a slice of ordered pieces. The owner of the list ensures
// that the slice of pieces belongs to the present generation (by clone); each piece carries its own generation.
type list[T any] struct {
	pieces []piece[T]
}

// piece is a run of items, never empty, made in generation gen.
type piece[T any] struct {
	gen   uint64
	items []T
}

// clone copies the slice of pieces but shares the items.
func (l *list[T]) clone() list[T] { return list[T]{slices.Clone(l.pieces)} }

// seek finds the place of the first item for which cmp is not negative; cmp compares an item with
// the one sought. found says that they are equal.
func (l *list[T]) seek(cmp func(T) int) (p, i int, found bool) {
	p, ok := slices.BinarySearchFunc(l.pieces, 0, func(q piece[T], _ int) int { return cmp(q.items[0]) })
	if ok {
		return p, 0, true
	}
	if p == 0 {
		return 0, 0, false
	}
	p--
	i, found = slices.BinarySearchFunc(l.pieces[p].items, 0, func(x T, _ int) int { return cmp(x) })
	return p, i, found
}

// own makes piece p one of generation gen, by a clone if necessary.
func (l *list[T]) own(gen uint64, p int) *piece[T] {
	q := &l.pieces[p]
	if q.gen != gen {
		// Capacity for one item more: the clone is made to add an item as often as not.
		items := make([]T, len(q.items), len(q.items)+1)
		copy(items, q.items)
		*q = piece[T]{gen, items}
	}
	return q
}

// insert puts x at the place that seek returned.
func (l *list[T]) insert(gen uint64, p, i int, x T) {
	if len(l.pieces) == 0 {
		l.pieces = append(l.pieces, piece[T]{gen, []T{x}})
		return
	}
	if n := len(l.pieces[p].items); n >= pieceMax {
		if p == len(l.pieces)-1 && i == n { // growing at the end: leave the pieces before it full
			l.pieces = append(l.pieces, piece[T]{gen, []T{x}})
			return
		}
		half := n / 2
		upper := piece[T]{gen, slices.Clone(l.pieces[p].items[half:])}
		l.pieces = slices.Insert(l.pieces, p+1, upper)
		q := l.own(gen, p)
		clear(q.items[half:])
		q.items = q.items[:half]
		if i > half {
			p, i = p+1, i-half
		}
	}
	q := l.own(gen, p)
	q.items = slices.Insert(q.items, i, x)
}

// replace replaces the item at p, i by x.
func (l *list[T]) replace(gen uint64, p, i int, x T) { l.own(gen, p).items[i] = x }

// remove removes the item at p, i.
func (l *list[T]) remove(gen uint64, p, i int) {
	if len(l.pieces[p].items) == 1 {
		l.pieces = slices.Delete(l.pieces, p, p+1)
		return
	}
	q := l.own(gen, p)
	q.items = slices.Delete(q.items, i, i+1)
}

// from yields the items from place p, i on.
func (l *list[T]) from(p, i int, yield func(T) bool) bool {
	for ; p < len(l.pieces); p, i = p+1, 0 {
		for _, x := range l.pieces[p].items[i:] {
			if !yield(x) {
				return false
			}
		}
	}
	return true
}

// all yields every item.
func (l *list[T]) all(yield func(T) bool) { l.from(0, 0, yield) }

// len counts the items.
func (l *list[T]) len() int {
	n := 0
	for _, p := range l.pieces {
		n += len(p.items)
	}
	return n
}
