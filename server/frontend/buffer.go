package frontend

import (
	"slices"
	"sync"
)

// Sizes of a connection's buffers. Small ones it keeps; a big one it borrows
// while a burst lasts, so that an idle connection holds little.
const (
	smallBuffer = 1 << 10
	bigBuffer   = 64 << 10
)

var buffers = sync.Pool{New: func() any { return new([bigBuffer]byte) }}

func borrow() []byte { return buffers.Get().(*[bigBuffer]byte)[:0] }

// giveBack takes a buffer that nobody uses any more, borrowed or not.
func giveBack(b []byte) {
	if cap(b) == bigBuffer {
		buffers.Put((*[bigBuffer]byte)(b[:bigBuffer]))
	}
}

// grow makes room for an answer of about n bytes.
func grow(b []byte, n int) []byte {
	switch {
	case n <= smallBuffer || cap(b)-len(b) >= n:
		return b
	case len(b)+n <= bigBuffer/4*3 && cap(b) < bigBuffer:
		return append(borrow(), b...)
	}
	return slices.Grow(b, n)
}

// fill reads more bytes behind those that are not consumed. Before the client
// has been heard the buffer stays so small that no longer line fits in.
func (c *conn) fill() bool {
	c.makeRoom()
	n, err := c.nc.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	c.eager = len(c.in) == cap(c.in)
	if err != nil {
		c.noteSilence(err)
	}
	return n > 0 || err == nil
}

func isFull(rest []byte, size int) bool { return len(rest) > size/4*3 }

func (c *conn) makeRoom() {
	rest := c.in[c.used:]
	want := smallBuffer
	switch {
	case !c.heard:
		if want = cap(c.in); len(rest) == want {
			want = FirstLineBytes
		}
	case isFull(rest, bigBuffer): // a long request
		for want = max(cap(c.in), bigBuffer); isFull(rest, want); want *= 2 {
		}
	case c.eager || isFull(rest, smallBuffer):
		want = bigBuffer
	}
	c.used = 0
	if want == cap(c.in) {
		c.in = c.in[:copy(c.in[:want], rest)]
		return
	}
	var in []byte
	switch want {
	case smallBuffer:
		in = c.small
	case bigBuffer:
		in = borrow()
	default:
		in = make([]byte, 0, want)
	}
	in = append(in, rest...)
	giveBack(c.in)
	c.in = in
}
