package frontend

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"coord/server/text"
	"coord/tree/znode"
)

// snapshot streams the state to an operator, directly to the socket, so that a slow client slows
// only its own snapshot.
func (c *textConn) snapshot(ctx context.Context, req *text.Request) {
	if !c.operator {
		c.replyError(req, znode.ErrNoAuth, "a snapshot needs operator rights")
		return
	}
	if !c.isAlone() {
		return
	}
	defer c.s.snapshots.Add(-1)
	if c.s.snapshots.Add(1) > MaxSnapshots {
		c.s.stats.limitsReached.Add(1)
		c.replyError(req, znode.ErrLimit, fmt.Sprintf("%d snapshots are already being streamed", MaxSnapshots))
		return
	}
	zxid, write, err := c.s.cfg.Node.Snapshot(ctx)
	switch {
	case err != nil:
		c.replyError(req, codeOf(err), err.Error())
		return
	case zxid < req.Zxid:
		c.replyError(req, znode.ErrTimeout, fmt.Sprintf("this node is at zxid %s, before the requested one", zxid))
		return
	}
	if !c.seize() {
		c.leaving = true
		return
	}
	defer c.yield()
	w := &chunkWriter{c: c, req: req, sum: sha256.New()}
	w.send(&text.Reply{Kind: text.KindOK, Tag: req.Tag, Fields: []text.Field{text.Zxid(text.KeyZxid, zxid)}})
	if err := write(ctx, w); err != nil {
		c.s.log.Warn().Err(err).Stringer("addr", c.nc.RemoteAddr()).Msg("snapshot stream cut off")
		w.send(&text.Reply{Kind: text.KindErr, Tag: req.Tag, Code: codeOf(err), Message: "the stream is cut off: " + err.Error()})
		c.leaving = true
		return
	}
	w.send(&text.Reply{Kind: text.KindEnd, Tag: req.Tag, Fields: []text.Field{
		text.Str(text.KeySHA256, fmt.Sprintf("%x", w.sum.Sum(nil))), text.Int(text.KeyBytes, w.bytes)}})
	c.s.stats.sent.Add(1)
}

// seize sends the contents of the outbox, which include all EVENTs of changes that the snapshot
// shows, and holds back everything later until yield.
func (c *conn) seize() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.flushing = c.await(func() bool { return len(c.mu.out) == 0 && !c.mu.flushing })
	return c.mu.flushing
}

func (c *conn) yield() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}

// codeOf returns the code by which a client is told about an error of the node.
func codeOf(err error) znode.Code {
	var code znode.Code
	switch {
	case errors.As(err, &code):
		return code
	case errors.Is(err, context.Canceled):
		return znode.ErrShutdown
	}
	return znode.ErrInternal
}

// chunkWriter sends the bytes written to it as CHUNKs.
type chunkWriter struct {
	c     *textConn
	req   *text.Request
	sum   hash.Hash
	bytes int64
	buf   []byte
	err   error
}

func (w *chunkWriter) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) && w.err == nil {
		chunk := p[n:min(len(p), n+MaxChunkBytes)]
		w.send(&text.Reply{Kind: text.KindChunk, Tag: w.req.Tag, Data: chunk})
		if w.err == nil {
			w.sum.Write(chunk)
			n += len(chunk)
		}
	}
	w.bytes += int64(n)
	return n, w.err
}

func (w *chunkWriter) send(r *text.Reply) {
	if w.err == nil {
		w.buf = r.Append(w.buf[:0], w.c.format, w.req.CRLF)
		if w.err = w.c.send(w.buf); w.err != nil {
			w.c.cut()
		}
	}
}
