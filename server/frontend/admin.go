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

// AdminItem is a member of the ensemble: its id, and what is known of it by the keys
// of the text protocol.
type AdminItem struct {
	Name  string
	Facts []Fact
}

// AdminError is why an operator's wish was not done: a code that a client acts on,
// and the words for people.
type AdminError struct {
	Code znode.Code
	Text string
}

func (e *AdminError) Error() string { return e.Text }

// Unwrap gives the code.
func (e *AdminError) Unwrap() error { return e.Code }

// adminRequest is an ADMIN under way. It stands in the queue as a barrier, as a WAIT
// does: what is behind it waits for it, and no write behind it is begun. So the
// reader goes on meanwhile, and lines of the client are signs of life.
type adminRequest struct {
	item
	script
	reply text.Reply // once it is ready
}

// admin begins an operator's wish, once what is before it is answered.
func (c *textConn) admin(ctx context.Context, req *text.Request) {
	if !c.operator {
		c.replyError(req, znode.ErrNoAuth, "the members of the ensemble are for operators")
		return
	}
	if !c.isNext() {
		return
	}
	if c.s.admins.Add(1) > MaxAdmins {
		c.s.admins.Add(-1)
		c.s.stats.limitsReached.Add(1)
		c.replyError(req, znode.ErrLimit, strconv.Itoa(MaxAdmins)+" of ADMIN are under way already")
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

// adminReply is the answer; changes says that it may have been done though the node
// has not come to its end.
func adminReply(items []AdminItem, err error, changes bool) text.Reply {
	if err != nil {
		code, msg := codeOf(err), err.Error()
		late, stopped := errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled)
		switch {
		case late:
			code, msg = znode.ErrTimeout, "the node has not come to its end with it in "+AdminTime.String()
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

// adminField makes a number of what is always one, so that it is one in JSON too.
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
