package frontend

import (
	"context"
	"errors"
	"strconv"

	"coord/server/text"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// AdminItem describes a member of the ensemble: its id, and facts about it under the keys of the
// text protocol.
type AdminItem struct {
	Name  string
	Facts []Fact
}

// AdminError says why an operator's request was not executed: a code for clients to act on, and a
// message for people.
type AdminError struct {
	Code znode.Code
	Text string
}

func (e *AdminError) Error() string { return e.Text }

// Unwrap returns the code.
func (e *AdminError) Unwrap() error { return e.Code }

// adminRequest is an ADMIN in flight. Like a WAIT it stands in the queue as a barrier: later
// requests wait for it, and no write after it is begun. So the reader goes on meanwhile, and lines
// of the client count as signs of life.
type adminRequest struct {
	item
	script
	reply text.Reply // valid once it is ready
}

// admin begins an operator's request, once all earlier requests are answered.
func (c *textConn) admin(ctx context.Context, req *text.Request) {
	if !c.operator {
		c.replyError(req, znode.ErrNoAuth, "ADMIN needs operator rights")
		return
	}
	if !c.isNext() {
		return
	}
	if c.s.admins.Add(1) > MaxAdmins {
		c.s.admins.Add(-1)
		c.s.stats.limitsReached.Add(1)
		c.replyError(req, znode.ErrLimit, strconv.Itoa(MaxAdmins)+" ADMIN requests are already running")
		return
	}
	a := &adminRequest{item: c.newItem(), script: c.script(req)}
	a.barrier, a.turn = true, a
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.goesOn() {
		c.s.admins.Add(-1)
		return
	}
	c.mu.barriers++
	c.enqueue(&a.item)
	words, changes := req.Words, req.Writes()
	c.s.wg.Go(func() {
		defer c.s.admins.Add(-1)
		ctx, cancel := context.WithTimeout(ctx, AdminTime)
		defer cancel()
		items, err := c.s.cfg.Node.Admin(ctx, words)
		reply := adminReply(items, err, changes)
		c.mu.Lock()
		a.reply, a.ready = reply, true
		c.mu.Unlock()
		c.wake()
	})
}

// adminReply makes the answer. changes says that the request changes something: if it did not
// finish in time, it may still have been executed.
func adminReply(items []AdminItem, err error, changes bool) text.Reply {
	if err != nil {
		code, msg := codeOf(err), err.Error()
		late, stopped := errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled)
		switch {
		case late:
			code, msg = znode.ErrTimeout, "the node did not finish the request within "+AdminTime.String()
		case stopped:
			msg = code.Error()
		}
		if changes && (late || stopped) {
			code = znode.ErrUncertain
		}
		return text.Reply{Kind: text.KindErr, Code: code, Message: msg}
	}
	r := text.Reply{Kind: text.KindList}
	for _, it := range items {
		item := text.Reply{Kind: text.KindItem, Arg: it.Name}
		for _, f := range it.Facts {
			item.Fields = append(item.Fields, adminField(f))
		}
		r.Items = append(r.Items, item)
	}
	return r
}

// adminField encodes those facts as numbers that are always numbers, so that they are numbers in
// JSON too.
func adminField(f Fact) text.Field {
	switch f.Key {
	case text.KeyVote, text.KeyUp, text.KeySelf, text.KeyTerm, text.KeyApplied, text.KeyLag, text.KeyLagMS:
		if n, err := strconv.ParseInt(f.Value, 10, 64); err == nil {
			return text.Int(f.Key, n)
		}
	}
	return text.Str(f.Key, f.Value)
}

func (a *adminRequest) appendAnswer(b []byte, _ *tree.Tree, _ *watch.Table) []byte {
	a.reply.Tag = a.tag
	return a.reply.Append(b, a.format, a.crlf)
}
