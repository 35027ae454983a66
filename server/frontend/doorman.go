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

// MaxGuests is how many connections a Doorman talks to at once. Who comes then is
// closed without a word.
const MaxGuests = 256

// Doorman answers at the ports of a node that does not serve yet: it loads its data,
// or waits for its ensemble. So nobody is left hanging: a client of ZooKeeper's
// protocol is closed at once, to look for another server, as are the four-letter words
// but ruok told that nobody serves; one of the text protocol hears NOLEADER and why,
// and may ask PING, INFO, HELP and QUIT.
type Doorman struct {
	// Waiting says in words what the node waits for. Any goroutine calls it.
	Waiting        func() string
	FourLetter     []string // as in Config, as are the others
	Version, Built string
	Logger         zerolog.Logger

	guests atomic.Int32
}

// Serve answers at l until ctx ends. It leaves l open, and whoever has not been
// accepted by then to the next to accept: the Server. Clients who have been are
// answered once more, within StopTime, while Serve has returned already. l must be
// one that can be interrupted, as those of TCP and unix sockets can. Any number of
// calls may run at once.
func (d *Doorman) Serve(ctx context.Context, l net.Listener) error {
	door, ok := l.(interface{ SetDeadline(t time.Time) error })
	if !ok {
		return fmt.Errorf("frontend: a %T cannot be interrupted", l)
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

// doorLimits are those of requests to a doorman: they carry nothing.
var doorLimits = text.Limits{Line: FirstLineBytes, Payload: 0, Txn: FirstLineBytes, Ops: maxOps, Skip: text.DefaultLimits().Skip}

// talk answers a client until one side has enough.
func (d *Doorman) talk(ctx context.Context, nc net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Now().Add(StopTime)) })()
	v := visit{Doorman: d, in: make([]byte, 0, doorLimits.Buffer())}
	for {
		_ = nc.SetReadDeadline(time.Now().Add(FirstLineTime))
		if ctx.Err() != nil { // it has been set, and been set back
			_ = nc.SetReadDeadline(time.Now().Add(StopTime))
		}
		for len(v.out) == 0 && !v.over {
			n, _ := nc.Read(v.in[len(v.in):cap(v.in)])
			if n == 0 { // the client has gone, or has said no whole line in its time
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

// visit is a talk with a client. One goroutine uses it.
type visit struct {
	*Doorman
	in     []byte // received, and not consumed
	parser *text.Parser
	out    []byte // answers
	over   bool   // nothing is answered behind them
}

// answer answers what has come so far.
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

// word answers a four-letter word. There is nobody yet who could answer envi.
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

// refuse answers what cannot be read. What is only too long for a doorman would not
// be served either.
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
	case text.VerbCat: // it has no words
		v.over = true
		return r
	default:
		return v.notYet(req.Tag)
	}
	r.Tag = req.Tag
	return r
}

func (v *visit) notYet(tag string) text.Reply {
	return text.Reply{Kind: text.KindErr, Tag: tag, Code: znode.ErrNoLeader, Message: "the node does not serve yet: " + v.Waiting()}
}
