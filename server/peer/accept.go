package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// inbound is a link that a peer has dialled.
type inbound struct {
	w      *wire
	theirs Hello
	done   chan struct{} // after this nothing from it comes to the handler
}

// admitConn gives a connection a place among the half-open ones, or closes it.
func (l *Links) admitConn(nc net.Conn) {
	host := hostOf(nc)
	l.mu.Lock()
	room := l.mu.halfOpens < MaxHalfOpen && l.mu.halfOpen[host] < MaxHalfOpenAddr && !l.mu.stopped
	if room {
		l.mu.halfOpens++
		l.mu.halfOpen[host]++
	}
	l.mu.Unlock()
	leave := sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mu.halfOpens--
		if l.mu.halfOpen[host]--; l.mu.halfOpen[host] == 0 {
			delete(l.mu.halfOpen, host)
		}
	})
	switch {
	case !room:
		_ = nc.Close()
		l.counts.crowded.Add(1)
		if n, ok := l.crier.may("", time.Now()); ok {
			l.log.Warn().Str("addr", host).Uint64("times", n).Msg("connection closed: too many connections without a handshake")
		}
	case !l.conns.add(nc):
		leave()
	default:
		if !l.start(func(ctx context.Context) { l.welcome(ctx, nc, leave) }) {
			leave()
			_ = nc.Close()
		}
	}
}

// welcome serves an accepted connection.
func (l *Links) welcome(ctx context.Context, nc net.Conn, settled func()) {
	defer l.conns.remove(nc)
	defer func() { _ = nc.Close() }()
	defer settled()
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	tune(nc, SilenceTime)
	w, theirs, err := l.answer(nc)
	if err != nil {
		if r, ok := errors.AsType[*Refusal](err); ok {
			l.refused(r)
		} else if ctx.Err() == nil {
			l.counts.strangers.Add(1)
			l.complain(nc, err, "peer handshake failed")
		}
		return
	}
	settled()
	w.in.limits = limitsOf(theirs.Purpose, false, l.maxFrame)
	l.wg.Go(w.beat) // this goroutine is counted in wg, so the count is not zero
	defer w.cut()
	switch theirs.Purpose {
	case purposeLink:
		err = l.receive(w, theirs)
	case purposeSnapshot:
		err = l.takeSnapshot(ctx, w, theirs.Node)
	case purposeRequest:
		err = l.takeRequest(ctx, w, theirs)
	}
	if _, ok := errors.AsType[damage](err); ok || errors.Is(err, errCorrupt) {
		l.counts.damaged.Add(1)
		l.complain(nc, err, "peer connection closed")
	}
}

// floor is what the log of a dialer must have, whatever position the dialer will state; 0, 0 for a
// request.
func (l *Links) floor(theirs *Hello) (index, term uint64) {
	if l.cfg.Floor == nil || theirs.Purpose == purposeRequest {
		return 0, 0
	}
	return l.cfg.Floor(theirs.Node)
}

// admit judges a dialer that has proved the secret and wants more than a request. index and term
// are its floor.
func (l *Links) admit(theirs Hello, index, term uint64) *Refusal {
	var r *Refusal
	if l.cfg.Admit != nil {
		r = l.cfg.Admit(theirs)
	}
	if r == nil {
		r = l.known(theirs)
	}
	if r == nil && theirs.Lacks(index, term) {
		r = refuse(CodeBehind, "the log of node %016x ends at entry %d of term %d, but the node already had entry %d of term %d", theirs.Node, theirs.Index, theirs.Term, index, term)
	}
	if r != nil {
		r.Ours, r.Proven = true, true
	}
	return r
}

func (l *Links) known(theirs Hello) *Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, boot := l.mu.peers[theirs.Node], l.mu.boots[theirs.Node]
	switch {
	case p == nil, p.removed:
		// Not CodeRemoved, which is final and for Admit to say: this node may have been told of the other
		// one before its own state has it.
		return refuse(CodeUnknown, "node %016x is not a member that this node knows", theirs.Node)
	case theirs.Boot < boot:
		return refuse(CodeBoot, "boot %d of node %016x is older than boot %d, which was already seen", theirs.Boot, theirs.Node, boot)
	}
	return nil
}

var errRemoved = errors.New("peer: the node was removed from the cluster")

// receive takes what a peer sends on its link. The newest link of a node ends the one before, and
// nothing from the new link comes to the handler before the last call for the old one.
func (l *Links) receive(w *wire, theirs Hello) error {
	in := &inbound{w: w, theirs: theirs, done: make(chan struct{})}
	defer close(in.done)
	node := theirs.Node
	l.mu.Lock()
	p := l.mu.peers[node]
	if p == nil || p.removed || theirs.Boot < l.mu.boots[node] {
		l.mu.Unlock() // this changed after it was admitted
		return errRemoved
	}
	if !p.isUp.Load() {
		p.poke() // a node that dials can be dialled: it may just have started, and may become the leader in a moment
	}
	l.mu.boots[node] = theirs.Boot
	old := l.mu.inbound[node]
	l.mu.inbound[node] = in
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.mu.inbound[node] == in {
			delete(l.mu.inbound, node)
		}
	}()
	if old != nil {
		l.counts.replaced.Add(1)
		old.w.cut()
		<-old.done
	}
	for {
		t, b, err := w.in.read()
		if err != nil {
			return err
		}
		select {
		case <-w.end: // a newer link may be waiting
			return nil
		default:
		}
		switch t {
		case frameRaft:
			ms, err := parseMessages(b, node, l.cfg.Self.Node)
			if err != nil {
				return err
			}
			l.counts.messages.Add(uint64(len(ms)))
			l.cfg.Handler.Raft(node, ms)
		case frameForward:
			if len(b) == 0 {
				return damaged("FORWARD frame without a kind")
			}
			l.counts.forwards.Add(1)
			l.cfg.Handler.Forward(node, b[0], b[1:])
		}
	}
}

// refused counts and logs a refusal by either side, and tells the handler.
func (l *Links) refused(r *Refusal) {
	l.counts.refused(r.Code)
	if r.Ours {
		host, _, err := net.SplitHostPort(r.Addr)
		if err != nil {
			host = r.Addr
		}
		level := zerolog.WarnLevel
		if r.isEarly(l.cluster()) { // if it stays so, the dialer logs it
			level, host = zerolog.DebugLevel, host+" early"
		}
		if n, ok := l.crier.may(host, time.Now()); ok {
			l.log.WithLevel(level).Str("addr", r.Addr).Stringer("code", r.Code).Str("why", r.Text).Bool("proven", r.Proven).
				Str("peer", fmt.Sprintf("%016x", r.Theirs.Node)).Str("name", r.Theirs.Name).Uint64("times", n).Msg("refused a peer")
		}
	}
	l.cfg.Handler.Refused(r)
}

// complain logs trouble with an address, once a minute.
func (l *Links) complain(nc net.Conn, err error, text string) {
	if n, ok := l.crier.may(hostOf(nc), time.Now()); ok {
		l.log.Warn().Err(err).Str("addr", nc.RemoteAddr().String()).Uint64("times", n).Msg(text)
	}
}

func hostOf(nc net.Conn) string {
	addr := nc.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// set holds the open connections, to be closed at the end.
type set struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	over  bool
}

// add closes nc and returns false if the end has come.
func (s *set) add(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		_ = nc.Close()
		return false
	}
	if s.conns == nil {
		s.conns = map[net.Conn]struct{}{}
	}
	s.conns[nc] = struct{}{}
	return true
}

func (s *set) remove(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, nc)
}

func (s *set) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for nc := range s.conns {
		_ = nc.Close()
	}
}
