package frontend

import (
	"errors"
	"io"
	"slices"
	"sync"
	"syscall"

	"coord/server/text"
)

// Sizes of a connection's buffers. All are borrowed: small ones while something is received or
// waits to be sent, big ones during a burst. An idle connection holds none.
const (
	smallBuffer = 1 << 10
	bigBuffer   = 64 << 10
)

var (
	buffers      = sync.Pool{New: func() any { return new([bigBuffer]byte) }}
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
)

func borrow() []byte      { return buffers.Get().(*[bigBuffer]byte)[:0] }
func borrowSmall() []byte { return smallBuffers.Get().(*[smallBuffer]byte)[:0] }

// giveBack takes a buffer that is no longer used, borrowed or not.
func giveBack(b []byte) {
	switch cap(b) {
	case bigBuffer:
		buffers.Put((*[bigBuffer]byte)(b[:bigBuffer]))
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
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

// fill reads more bytes after those that are not consumed. Until the first line has ended, the
// buffer stays so small that no longer line fits in.
func (c *conn) fill() bool {
	c.makeRoom()
	n, err := c.receive()
	c.in = c.in[:len(c.in)+n]
	c.eager = len(c.in) == cap(c.in)
	if err != nil {
		c.noteSilence(err)
	}
	return n > 0 || err == nil
}

// receive waits until bytes have arrived and reads them.
func (c *conn) receive() (int, error) {
	if c.raw == nil {
		return c.nc.Read(c.in[len(c.in):cap(c.in)])
	}
	if err := c.raw.Read(c.tryRead); err != nil {
		return 0, err
	}
	return c.got, c.gotErr
}

// readNow reads for receive, which calls it when bytes may have arrived. If there are none, readNow
// returns false, and the connection holds no buffers while it waits.
func (c *conn) readNow(fd uintptr) bool {
	c.makeRoom()
	for {
		c.got, c.gotErr = syscall.Read(int(fd), c.in[len(c.in):cap(c.in)])
		switch {
		case errors.Is(c.gotErr, syscall.EINTR):
			continue
		case errors.Is(c.gotErr, syscall.EAGAIN):
			c.rest()
			return false
		case c.gotErr == nil && c.got == 0:
			c.gotErr = io.EOF
		}
		c.got = max(c.got, 0)
		return true
	}
}

// rest gives back what a connection needs only while something is received.
func (c *conn) rest() {
	if len(c.in) == 0 {
		giveBack(c.in)
		c.in = nil
	}
	if c.talk != nil {
		c.talk.rest()
	}
}

func isFull(rest []byte, size int) bool { return len(rest) > size/4*3 }

func (c *conn) makeRoom() {
	rest := c.in[c.used:]
	want := smallBuffer
	switch {
	case !c.heard:
		if want = max(cap(c.in), smallBuffer); len(rest) == want {
			want = FirstLineBytes
		}
	case isFull(rest, bigBuffer): // a long request
		for want = max(cap(c.in), bigBuffer); isFull(rest, want); want *= 2 {
		}
	case c.eager || isFull(rest, smallBuffer):
		want = bigBuffer
	}
	if want == cap(c.in) {
		if c.used > 0 {
			c.in = c.in[:copy(c.in[:want], rest)]
			c.used = 0
		}
		return
	}
	c.used = 0
	var in []byte
	switch want {
	case smallBuffer:
		in = borrowSmall()
	case bigBuffer:
		in = borrow()
	default:
		in = make([]byte, 0, want)
	}
	in = append(in, rest...)
	giveBack(c.in)
	c.in = in
}

// fieldBuffer holds the fields of one reply. Allocated on the stack they would escape to the heap.
type fieldBuffer [maxFields]text.Field

var fieldBuffers = sync.Pool{New: func() any { return new(fieldBuffer) }}

func borrowFields() *fieldBuffer { return fieldBuffers.Get().(*fieldBuffer) }
func (f *fieldBuffer) giveBack() { fieldBuffers.Put(f) }
