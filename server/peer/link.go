package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// link is a connection that this node has dialled in order to send on it.
type link struct {
	w      *wire
	theirs Hello
}

// connect dials the addresses of the peer, one after another, until a handshake succeeds.
func (p *peer) connect(ctx context.Context, within time.Duration) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	w, theirs, err := p.dial(ctx, purposeLink)
	if err != nil {
		return nil, err
	}
	return &link{w, theirs}, nil
}

var errNoAddress = errors.New("peer: no address is known")

func (p *peer) dial(ctx context.Context, purpose Purpose) (*wire, Hello, error) {
	p.l.mu.Lock()
	addrs := p.addrs // the slice is replaced, never changed
	p.l.mu.Unlock()
	err := errNoAddress
	for i, addr := range addrs {
		// Each address has its share of the time that is left.
		share, cancel := ctx, func() {}
		if end, ok := ctx.Deadline(); ok {
			share, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(len(addrs)-i))
		}
		w, theirs, e := p.l.dial(share, addr, purpose, p.id)
		cancel()
		if e == nil {
			return w, theirs, nil
		}
		// Report ECONNREFUSED only if all addresses refuse; otherwise the first more telling error.
		if i == 0 || errors.Is(err, syscall.ECONNREFUSED) {
			err = e
		}
	}
	return nil, Hello{}, err
}

// dial connects and completes the handshake within ctx.
func (l *Links) dial(ctx context.Context, addr string, purpose Purpose, expects uint64) (*wire, Hello, error) {
	dialling, cancel := context.WithTimeout(ctx, DialTime)
	nc, err := l.cfg.Dial(dialling, addr)
	cancel()
	if err != nil {
		return nil, Hello{}, err
	}
	patience := SilenceTime
	if purpose == purposeSnapshot {
		patience = ResumeTime // a node that installs a snapshot may not read for a while
	}
	tune(nc, patience)
	if !l.conns.add(nc) {
		return nil, Hello{}, context.Canceled
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	w, theirs, err := l.greet(nc, purpose, expects)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		l.conns.remove(nc)
		return nil, Hello{}, err
	}
	w.in.limits = limitsOf(purpose, true, l.maxFrame)
	go func() { // ends when the wire is cut, which closes nc
		w.beat()
		l.conns.remove(nc)
	}()
	return w, theirs, nil
}

// carry sends what the queue gets until the link ends, and returns the reason. By then the link is
// cut and the queue closed.
func (p *peer) carry(ctx context.Context, k *link) error {
	defer context.AfterFunc(ctx, k.w.cut)()
	p.told = ""
	p.log.Info().Str("addr", k.w.raw.RemoteAddr().String()).Uint64("index", k.theirs.Index).Msg("peer up")
	p.links.Add(1)
	p.isUp.Store(true)
	p.queue.open(func() { k.w.fail(errOverflow) })
	p.l.cfg.Handler.Up(p.id, k.theirs)

	heard := make(chan struct{})
	go func() { // ends when the wire is cut
		defer close(heard)
		_, _, err := k.w.in.read()
		for err == nil { // only BEATs may arrive here
			_, _, err = k.w.in.read()
		}
		k.w.fail(err)
	}()
	p.pump(k.w)
	p.isUp.Store(false)
	p.queue.close()
	<-heard
	return k.w.cause
}

var errOverflow = errors.New("peer: the send queue is full")

// pump writes the items in the queue until the wire is cut.
func (p *peer) pump(w *wire) {
	var items []item
	for {
		select {
		case <-w.end:
			return
		case <-p.queue.wake:
		}
		items = p.queue.take(items)
		for rest := items; len(rest) > 0; {
			n, size := 0, 0
			err := w.write(func(b []byte, seal func([]byte)) []byte {
				b, n = p.encode(b, seal, rest)
				size = len(b)
				return b
			})
			if err != nil {
				w.fail(err)
				return
			}
			p.sentBytes.Add(uint64(size))
			rest = rest[n:]
		}
	}
}

// encode appends frames for the first items, up to about two bursts, and returns how many items it
// took.
func (p *peer) encode(b []byte, seal func([]byte), items []item) ([]byte, int) {
	n := 0
	for n < len(items) && len(b) < 2*burstBytes {
		start := len(b)
		if items[n].m == nil {
			b = append(append(beginFrame(b, frameForward), items[n].kind), items[n].b...)
			seal(b[start:])
			p.sentForwards.Add(1)
			n++
			continue
		}
		b = beginFrame(b, frameRaft)
		room := MaxEntries
		for count := 0; n < len(items) && items[n].m != nil && count < MaxMessages && len(b)-start < burstBytes; n++ {
			m, before := items[n].m, len(b)
			entries := len(m.GetEntries())
			if entries > room && count > 0 {
				break
			}
			b = p.l.appendSized(b, m)
			if len(b)-start-frameHead > p.l.maxFrame || entries > room {
				size := len(b) - before
				b = b[:before]
				if count > 0 && size+frameHead <= p.l.maxFrame {
					break // it fits into a frame of its own
				}
				p.l.counts.oversized.Add(1)
				p.log.Error().Str("type", m.GetType().String()).Int("bytes", size).Int("entries", entries).Msg("raft message too large to send")
				continue
			}
			room -= entries
			count++
			p.sentMessages.Add(1)
		}
		if len(b) == start+frameHead {
			b = b[:start] // no message was left in it
			continue
		}
		seal(b[start:])
	}
	return b, n
}

// appendSized appends a message after its length. The length usually takes two bytes: that much is
// left free for it, and the message is moved if it takes more or fewer.
func (l *Links) appendSized(b []byte, m *raftpb.Message) []byte {
	const guess = 2
	at := len(b)
	b = appendMessage(append(b, make([]byte, guess)...), m, l.cfg.Self.Node)
	var size [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(size[:], uint64(len(b)-at-guess))
	switch {
	case n < guess:
		copy(b[at+n:], b[at+guess:])
		b = b[:len(b)-(guess-n)]
	case n > guess:
		b = append(b, size[:n-guess]...)
		copy(b[at+n:], b[at+guess:])
	}
	copy(b[at:], size[:n])
	return b
}

// redial finds out, within VerdictTime, whether the peer is down for certain; if it can be reached,
// redial returns the new link.
func (p *peer) redial(ctx context.Context) (*link, bool) {
	ctx, cancel := context.WithTimeout(ctx, VerdictTime)
	defer cancel()
	// A process that ends may take a moment to stop listening.
	for range 3 {
		k, err := p.connect(ctx, VerdictTime)
		switch {
		case err == nil:
			return k, false
		case errors.Is(err, syscall.ECONNREFUSED):
			return nil, true
		case !isEnd(err):
			p.tell(ctx, err)
			return nil, false
		}
		select {
		case <-ctx.Done():
			return nil, false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil, false
}

// isEnd says whether the other side has ended the connection.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
