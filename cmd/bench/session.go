package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"coord/server/zkproto"
	"coord/tree/znode"
)

const (
	askedTimeout = 30 * time.Second // of a session; servers have their own limits
	maxReply     = 64 << 20         // bytes of a frame
	smallBuffer  = 512              // bytes, of the receive buffer
)

// session is a session and its connection. Only one goroutine may use it.
type session struct {
	nc      net.Conn
	within  time.Duration
	timeout time.Duration // negotiated: the server expires the session after this much silence
	in      []byte        // received bytes; in[r:w] are not read yet
	r, w    int
	out     []byte
	xid     int32      // the last one that was used
	zxid    znode.Zxid // the last one seen
}

// open dials the server and opens a session.
func open(ctx context.Context, s *Server) (*session, error) {
	if s.Within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Within)
		defer cancel()
	}
	nc, err := s.Dial(ctx)
	if err != nil {
		return nil, err
	}
	ses := &session{nc: nc, within: s.Within, in: make([]byte, smallBuffer)}
	if err := ses.greet(ctx, s.Auth); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return ses, nil
}

// greet opens the session and authenticates.
func (s *session) greet(ctx context.Context, auth []byte) error {
	defer s.until(ctx)()
	s.out = zkproto.AppendConnect(s.out[:0], &zkproto.Connect{
		TimeoutMS: int32(askedTimeout.Milliseconds()), Password: make([]byte, len(zkproto.Password{})), HasReadOnly: true,
	})
	if _, err := s.nc.Write(s.out); err != nil {
		return s.lost(ctx, err)
	}
	frame, err := s.frame()
	if errors.Is(err, io.EOF) {
		err = errors.New("the server closed it when a session of ZooKeeper's protocol was requested")
	}
	if err != nil {
		return s.lost(ctx, err)
	}
	c, err := zkproto.ReadConnected(frame)
	switch {
	case err != nil:
		return wrong("not ZooKeeper's protocol")
	case c.TimeoutMS <= 0:
		return znode.ErrSessionExpired
	}
	s.timeout = time.Duration(c.TimeoutMS) * time.Millisecond
	if auth == nil {
		return nil
	}
	_, err = s.call(ctx, &zkproto.Request{Xid: zkproto.XidAuth, Part: zkproto.Part{Op: zkproto.OpAuth, Data: auth}, Scheme: "digest"})
	return err
}

// until limits the connection's reads and writes: they fail when ctx ends or when
// the longest wait for a reply is over. The limits hold until done is called.
func (s *session) until(ctx context.Context) (done func()) {
	deadline := time.Time{} // none
	if s.within > 0 {
		deadline = time.Now().Add(s.within)
	}
	_ = s.nc.SetDeadline(deadline)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = s.nc.SetDeadline(past)
		close(ended)
	})
	return func() {
		if !stop() {
			<-ended
		}
		_ = s.nc.SetDeadline(time.Time{})
	}
}

// past is a deadline that makes pending reads and writes fail at once.
var past = time.Unix(1, 0)

// lost turns an error of the connection into the error of the run.
func (s *session) lost(ctx context.Context, err error) error {
	switch op := (*net.OpError)(nil); {
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return context.Cause(ctx)
	case is[*WrongError](err):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = context.DeadlineExceeded
	case errors.Is(err, io.EOF):
		err = errors.New("the server closed it")
	case errors.As(err, &op):
		err = op.Err // leave out the addresses
	}
	return &LostError{err}
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// frame reads the next frame. The frame is valid until the next call.
func (s *session) frame() ([]byte, error) {
	for {
		frame, n, err := zkproto.CutFrame(s.in[s.r:s.w], maxReply)
		if err != nil {
			return nil, wrong("invalid frame length")
		}
		if frame != nil {
			s.r += n
			return frame, nil
		}
		if err := s.receive(n); err != nil {
			return nil, err
		}
	}
}

// receive reads what has arrived, and makes room for a frame of n bytes.
func (s *session) receive(n int) error {
	if s.r > 0 { // the rest is part of a frame, or nothing
		s.w = copy(s.in, s.in[s.r:s.w])
		s.r = 0
	}
	if n > len(s.in) {
		s.in = append(make([]byte, 0, n+n/4), s.in[:s.w]...)
		s.in = s.in[:cap(s.in)]
	}
	got, err := s.nc.Read(s.in[s.w:])
	s.w += got
	if got > 0 {
		return nil // an error will come again
	}
	return err
}

// header reads the header of a reply and checks its zxid.
func (s *session) header(frame []byte) (zkproto.ReplyHeader, zkproto.Body, error) {
	h, body, err := zkproto.ReadReply(frame)
	switch {
	case err != nil:
		return h, body, wrong("reply of %d bytes without a complete header", len(frame))
	case h.Zxid == zkproto.NoZxid: // an event, or a reply that belongs to no txn
	case h.Zxid < s.zxid:
		return h, body, wrong("zxid %v after %v in one session", h.Zxid, s.zxid)
	default:
		s.zxid = h.Zxid
	}
	return h, body, nil
}

// next reads the next reply or event.
func (s *session) next() (zkproto.ReplyHeader, zkproto.Body, error) {
	frame, err := s.frame()
	if err != nil {
		return zkproto.ReplyHeader{}, zkproto.Body{}, err
	}
	return s.header(frame)
}

// do is call with the next xid.
func (s *session) do(ctx context.Context, req *zkproto.Request) (zkproto.Body, error) {
	s.xid++
	req.Xid = s.xid
	return s.call(ctx, req)
}

// call sends a request and waits for its reply. A refusal is returned as a znode.Code.
func (s *session) call(ctx context.Context, req *zkproto.Request) (zkproto.Body, error) {
	defer s.until(ctx)()
	s.out = zkproto.AppendRequest(s.out[:0], req)
	if _, err := s.nc.Write(s.out); err != nil {
		return zkproto.Body{}, s.lost(ctx, err)
	}
	return s.answer(ctx, req.Xid)
}

// answer waits for the reply to request xid.
func (s *session) answer(ctx context.Context, xid int32) (zkproto.Body, error) {
	h, body, err := s.next()
	switch {
	case err != nil:
		return body, s.lost(ctx, err)
	case h.Xid != xid:
		return body, wrong("answer to request %d, expected %d", h.Xid, xid)
	case h.Code != znode.OK:
		return body, h.Code
	}
	return body, nil
}

// close closes the session and the connection, also when ctx has ended. Replies to
// earlier requests are ignored.
func (s *session) close(ctx context.Context) error {
	defer s.nc.Close()
	ctx = context.WithoutCancel(ctx)
	defer s.until(ctx)()
	s.xid++
	s.out = zkproto.AppendRequest(s.out[:0], &zkproto.Request{Xid: s.xid, Part: zkproto.Part{Op: zkproto.OpCloseSession}})
	if _, err := s.nc.Write(s.out); err != nil {
		return s.lost(ctx, err)
	}
	for {
		h, _, err := s.next()
		if err != nil {
			return s.lost(ctx, err)
		}
		if h.Xid == s.xid {
			return nil
		}
	}
}

const (
	bulkOps   = 100       // per transaction
	bulkBytes = 256 << 10 // per transaction, not counting its last operation
	bulkAhead = 8         // transactions in flight
)

// bulk does n operations, creates or deletes, in transactions. If the server
// refuses a transaction, bulk does its operations one by one, and each may fail
// with the code in but. It returns how many operations were sent, at most.
func (s *session) bulk(ctx context.Context, n int, part func(i int) zkproto.Part, but znode.Code, working func(string, ...any), what string) (sent int, err error) {
	defer s.until(ctx)()
	type txn struct{ from, to int }
	var ahead []txn
	for done := 0; done < n; {
		s.out = s.out[:0]
		for len(ahead) < bulkAhead && sent < n {
			t := txn{from: sent}
			s.xid++
			req := zkproto.Request{Xid: s.xid, Part: zkproto.Part{Op: zkproto.OpMulti}}
			for size := 0; sent < n && len(req.Ops) < bulkOps && size < bulkBytes; sent++ {
				p := part(sent)
				size += len(p.Data)
				req.Ops = append(req.Ops, p)
			}
			t.to = sent
			ahead = append(ahead, t)
			s.out = zkproto.AppendRequest(s.out, &req)
		}
		if s.within > 0 {
			_ = s.nc.SetDeadline(time.Now().Add(s.within))
		}
		if err := ctx.Err(); err != nil { // the end of ctx set a deadline that SetDeadline has just replaced
			return sent, context.Cause(ctx)
		}
		if _, err := s.nc.Write(s.out); err != nil {
			return sent, s.lost(ctx, err)
		}
		for i, t := range ahead {
			body, err := s.answer(ctx, s.xid-int32(len(ahead)-1-i))
			if err != nil {
				return sent, err
			}
			results := body.Results()
			if body.End() != nil {
				return sent, wrong("malformed answer to a multi")
			}
			if len(results) > 0 && results[0].Op != zkproto.OpError {
				ahead[i].to = t.from // nothing is left to do
			}
		}
		for _, t := range ahead {
			for i := t.from; i < t.to; i++ {
				p := part(i)
				if _, err := s.do(ctx, &zkproto.Request{Part: p}); err != nil && !errors.Is(err, but) {
					return sent, fmt.Errorf("%s: %w", p.Path, err)
				}
			}
		}
		ahead, done = ahead[:0], sent
		working(what+": %d", n, done)
	}
	return sent, nil
}
