package frontend

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"coord/server/accept"
	"coord/server/text"
	"coord/tree/znode"
)

// MaxGuests is how many connections a Doorman serves at once. Further ones are closed without a
// word.
const MaxGuests = 256

// Doorman answers on the ports of a node that does not serve yet because it loads its data or waits
// for its ensemble. So no client is left without an answer. A client of ZooKeeper's protocol is
// closed at once, so that it looks for another server. The four-letter words, except ruok, answer
// that the node does not serve. A client of the text protocol gets NOLEADER with the reason, and
// may use PING, INFO, HELP and QUIT.
type Doorman struct {
	// Waiting says in words what the node waits for. Any goroutine may call it.
	Waiting        func() string
	FourLetter     []string // as in Config, and so are the following
	Version, Built string
	Logger         zerolog.Logger

	guests atomic.Int32
}

// Serve answers on l until ctx ends. It leaves l open; connections that it has not accepted by then
// are left to the next acceptor, the Server. Clients that it has accepted get one more answer,
// within StopTime, after Serve has returned. l must have a deadline that interrupts Accept, as
// listeners of TCP and unix sockets have. Any number of calls may run at once.
func (d *Doorman) Serve(ctx context.Context, l net.Listener) error {
	door, ok := l.(interface{ SetDeadline(t time.Time) error })
	if !ok {
		return fmt.Errorf("frontend: listener %T does not support deadlines", l)
	}
	shut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(shut)
		_ = door.SetDeadline(time.Unix(1, 0))
	})
	err := accept.Loop(ctx, l, &d.Logger, func(nc net.Conn) { d.admit(ctx, nc) })
	if !stop() {
		<-shut
		if e := door.SetDeadline(time.Time{}); err == nil && e != nil {
			err = fmt.Errorf("frontend: %w", e)
		}
	}
	return err
}

func (d *Doorman) admit(ctx context.Context, nc net.Conn) {
	if d.guests.Add(1) > MaxGuests {
		d.guests.Add(-1)
		_ = nc.Close()
		return
	}
	go func() {
		defer d.guests.Add(-1)
		defer nc.Close()
		d.talk(ctx, nc)
	}()
}

// doorLimits are the limits of requests to a doorman: they carry no payload.
var doorLimits = text.Limits{Line: FirstLineBytes, Payload: 0, Txn: FirstLineBytes, Ops: maxOps, Skip: text.DefaultLimits().Skip}

// talk answers a client until either side ends the conversation.
func (d *Doorman) talk(ctx context.Context, nc net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Now().Add(StopTime)) })()
	v := visit{Doorman: d, in: make([]byte, 0, doorLimits.Buffer())}
	for {
		_ = nc.SetReadDeadline(time.Now().Add(FirstLineTime))
		if ctx.Err() != nil { // the deadline that AfterFunc has set may have been overwritten
			_ = nc.SetReadDeadline(time.Now().Add(StopTime))
		}
		for len(v.out) == 0 && !v.over {
			n, _ := nc.Read(v.in[len(v.in):cap(v.in)])
			if n == 0 { // the client has gone, or has sent no whole line in time
				return
			}
			v.in = v.in[:len(v.in)+n]
			v.answer()
		}
		_ = nc.SetWriteDeadline(time.Now().Add(FirstLineTime))
		if _, err := nc.Write(v.out); err != nil {
			return
		}
		v.out = v.out[:0]
		if v.over || ctx.Err() != nil {
			break
		}
	}
	if closeSending(nc) {
		_ = nc.SetReadDeadline(time.Now().Add(LingerTime))
		discard(nc)
	}
}

// visit is a conversation with a client. One goroutine uses it.
type visit struct {
	*Doorman
	in     []byte // received, and not consumed
	parser *text.Parser
	out    []byte // answers
	over   bool   // nothing is answered after them
}

// answer answers the requests received so far.
func (v *visit) answer() {
	if v.parser == nil {
		switch protocolOf(v.in) {
		case protocolUnknown:
			return
		case protocolTLS, protocolZooKeeper:
			v.over = true
			return
		case protocolWord:
			v.out, v.over = append(v.out, v.word(string(v.in[:wordBytes]))...), true
			return
		case protocolText:
			v.parser = text.NewParser(doorLimits)
		}
	}
	used := 0
	for !v.over {
		req, n, err := v.parser.Next(v.in[used:])
		used += n
		if req == nil && err == nil {
			break
		}
		var reply text.Reply
		var crlf bool
		if err != nil {
			reply, crlf = v.refuse(err.(*text.Error)) //nolint:errorlint // Next returns nothing else
		} else {
			reply, crlf = v.reply(req), req.CRLF
		}
		if reply.Kind != 0 {
			v.out = reply.Append(v.out, text.FormatText, crlf)
		}
	}
	v.in = v.in[:copy(v.in, v.in[used:])]
}

// word answers a four-letter word. Nothing can answer envi yet.
func (v *visit) word(word string) string {
	answer, refused := refusedWord(v.FourLetter, word, false)
	switch {
	case refused:
		return answer
	case word == "ruok":
		return "imok"
	case word == "envi":
		return notServing + "\n"
	}
	return "0" // gtmk, stmk
}

// refuse answers a request that cannot be parsed. A request that is only too long for a doorman
// gets the answer that the node does not serve yet.
func (v *visit) refuse(e *text.Error) (reply text.Reply, crlf bool) {
	v.over = e.Close
	if e.Code == znode.ErrTooBig && !e.Close {
		return v.notYet(e.Tag), e.CRLF
	}
	return e.Reply(), e.CRLF
}

func (v *visit) reply(req *text.Request) (r text.Reply) {
	switch req.Verb {
	case text.VerbPing:
		r = text.Reply{Kind: text.KindOK, Arg: "pong"}
	case text.VerbQuit:
		r, v.over = text.Reply{Kind: text.KindOK, Arg: "bye"}, true
	case text.VerbHelp:
		r = text.Help(req.Name)
	case text.VerbInfo:
		r.Kind = text.KindList
		for _, f := range []Fact{{"version", zkVersion(v.Version, v.Built)}, {"coord_waiting", v.Waiting()}} {
			r.Items = append(r.Items, infoItem(f))
		}
	case text.VerbCat: // it has no form for errors
		v.over = true
		return r
	default:
		return v.notYet(req.Tag)
	}
	r.Tag = req.Tag
	return r
}

func (v *visit) notYet(tag string) text.Reply {
	return text.Reply{Kind: text.KindErr, Tag: tag, Code: znode.ErrNoLeader, Message: "the node is not serving yet: " + v.Waiting()}
}
