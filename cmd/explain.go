package cmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"

	"coord/client"
	"coord/server"
	"coord/server/text"
)

// explain runs the command with an explainer in place of a server: the requests are
// the answer. The command's own output is discarded.
func (r *run) explain(ctx context.Context) error {
	r.explainer = &explainer{out: r.console}
	r.console = newConsole(ctx, r.in, io.Discard, io.Discard)
	r.quiet = true
	err := r.cmd.run(ctx, r)
	return r.explainer.end(err)
}

// explainer prints each request of a command as the server would read it, and
// replies that it succeeded. If the command's requests depend on replies, requests
// that only read also go to a server; writes never do. The explainer prints neither
// the greeting, which no server requires, nor the credentials, which are secret.
type explainer struct {
	out    *console
	server *client.Conn // for requests that read; nil: no server is asked
	stop   context.CancelFunc
	done   chan struct{} // closed when serve has ended; nil: nothing was dialled
	err    error         // of server; set before done is closed
	paged  bool          // the note of explainPages was printed
}

func (e *explainer) dial(ctx context.Context, r *run, servers []string, o client.Options) (*client.Conn, error) {
	if r.cmd.asks != nil && r.cmd.asks(r) {
		var err error
		if e.server, err = client.Dial(ctx, servers, o); err != nil {
			return nil, err
		}
	}
	if o.User != "" {
		e.out.note("coord: AUTH digest %s is sent first, with the password as its payload", o.User)
	}
	near, far := net.Pipe()
	e.done = make(chan struct{})
	ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx)) // ctx may be limited to the time of dialling
	go e.serve(ctx, far)
	return client.NewConn(near), nil
}

// end waits until everything is printed. It returns the command's error, unless the
// server failed: then it returns that error, from which the command's follows.
func (e *explainer) end(err error) error {
	if e.done == nil {
		return err
	}
	e.stop() // the command waits for no more replies
	<-e.done
	if e.server != nil {
		_ = e.server.Close()
	}
	if e.err != nil {
		return e.err
	}
	return err
}

func (e *explainer) serve(ctx context.Context, nc net.Conn) {
	defer close(e.done)
	defer nc.Close()
	p := text.NewParser(explainLimits())
	var in []byte
	buf := make([]byte, 32<<10)
	for {
		req, n, err := p.Next(in)
		var answer []byte
		refused, _ := errors.AsType[*text.Error](err)
		switch {
		case refused != nil:
			reply := refused.Reply()
			answer = reply.Append(nil, text.FormatText, false)
		case req != nil:
			e.out.sent(req, in[:n])
			e.explainPages(req)
			if answer = e.answer(ctx, req); answer == nil {
				return
			}
		case n == 0:
			got, err := nc.Read(buf)
			if err != nil {
				return
			}
			in = append(in, buf[:got]...)
		}
		if in = in[n:]; len(answer) > 0 {
			if _, err := nc.Write(answer); err != nil {
				return
			}
		}
	}
}

// explainLimits are the limits of a server that accepts the largest requests.
func explainLimits() text.Limits {
	l := text.DefaultLimits()
	l.Txn += server.MaxMaxFrame - l.Payload
	l.Payload = server.MaxMaxFrame
	return l
}

// explainPages says once how a list continues after its first page.
func (e *explainer) explainPages(req *text.Request) {
	if list := req.Verb == text.VerbLs || req.Verb == text.VerbTree; list && e.server == nil && !e.paged {
		e.out.note("coord: while an answer says more=1, the request is repeated with after= its last entry")
		e.paged = true
	}
}

// neverAsks is for commands whose requests depend only on replies that the
// explainer can make up.
func neverAsks(*run) bool { return false }

// sent prints a request: its lines, or an object with --json. It does not show a
// session's password.
func (c *console) sent(req *text.Request, lines []byte) {
	if req.Action == text.ResumeSession {
		line, _, _ := bytes.Cut(lines, []byte{'\n'})
		lines = append(bytes.Clone(line), "\n(the password of the session)\n"...)
	}
	if c.json {
		c.object(struct {
			V    int    `json:"v"`
			Verb string `json:"verb"`
			Path string `json:"path,omitempty"`
			jsonData
		}{schema, req.Verb.String(), req.Path, dataOf(lines)})
		return
	}
	_, _ = c.out.Write(lines)
}

// answer is the reply to a request: the server's, if the request only reads and
// there is a server; otherwise a reply that it succeeded. It is nil if the server
// fails.
func (e *explainer) answer(ctx context.Context, req *text.Request) []byte {
	if e.server == nil || req.Writes() {
		return done(req)
	}
	reply, err := e.server.Do(ctx, req)
	if refused, ok := errors.AsType[*client.Error](err); ok {
		reply = &text.Reply{Kind: text.KindErr, Code: refused.Code, Message: refused.Message}
		if refused.Path != "" {
			reply.Fields = append(reply.Fields, text.Str(text.KeyPath, refused.Path))
		}
	} else if err != nil {
		if ctx.Err() == nil {
			e.err = err
		}
		return nil
	}
	return reply.Append(nil, text.FormatText, false)
}

// done is a reply that says only that the request succeeded.
func done(req *text.Request) []byte {
	reply := text.Reply{Kind: text.KindOK}
	switch req.Verb {
	case text.VerbGet:
		reply.Kind = text.KindData
	case text.VerbLs, text.VerbTree, text.VerbGetACL, text.VerbInfo:
		reply.Kind = text.KindList
	case text.VerbSession:
		reply.Fields = []text.Field{
			text.Hex(text.KeyID, 1), text.Duration(text.KeyTTL, max(req.TTLMS, text.DefaultSessionMS)), text.Duration(text.KeyHold, req.HoldMS),
		}
	case text.VerbLock:
		reply.Fields = []text.Field{text.Hex(text.KeyToken, 1), text.Str(text.KeyPath, req.Path+"/lock-0000000000")}
	case text.VerbSessions, text.VerbAdmin:
		reply.Kind = text.KindList
	case text.VerbTxn:
		reply.Kind = text.KindList
		for _, op := range req.Ops {
			reply.Items = append(reply.Items, text.Reply{Kind: text.KindOK, Fields: madePath(&op)})
		}
	case text.VerbSnapshot:
		none := sha256.Sum256(nil)
		end := text.Reply{Kind: text.KindEnd, Fields: []text.Field{
			text.Str(text.KeySHA256, hex.EncodeToString(none[:])), text.Int(text.KeyBytes, 0),
		}}
		return bytes.Join([][]byte{reply.Append(nil, text.FormatText, false), end.Append(nil, text.FormatText, false)}, nil)
	default:
		reply.Fields = madePath(&req.Op)
	}
	return reply.Append(nil, text.FormatText, false)
}

// madePath is the path in the reply to a CREATE of a sequential znode, with the
// first sequence number.
func madePath(op *text.Op) []text.Field {
	if op.Verb != text.VerbCreate || !op.Mode.Sequential() {
		return nil
	}
	return []text.Field{text.Str(text.KeyPath, op.Path+"0000000000")}
}
