package compare

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"coord/server/zkproto"
)

// The parents of all sequences.
const (
	top      = "/c"
	quotaTop = "/zookeeper/quota"
	markTop  = "/m"
)

// Control is a connection of the superuser, which prepares a server and examines
// what is left behind. It reconnects when necessary.
type Control struct {
	addr string
	c    *conn
}

// NewControl connects to a server.
func NewControl(addr string) (*Control, error) {
	c := &Control{addr: addr}
	return c, c.dial()
}

func (k *Control) dial() error {
	c, err := dial(k.addr)
	if err != nil {
		return err
	}
	var e encoder
	e.int(0)
	e.long(0)
	e.int(10 * normalTimeoutMS)
	e.long(0)
	e.str(string(make([]byte, 16)))
	c.write(frame(e.b))
	if c.read() == nil {
		return fmt.Errorf("compare: control connection to %s: %s", k.addr, c.gone)
	}
	k.c = c
	if code, err := c.ask(&Request{Op: zkproto.OpAuth, ACL: "digest", Data: "super:admin"}); err != nil || code != 0 {
		return fmt.Errorf("compare: %s knows no super:admin: %d, %w", k.addr, code, err)
	}
	for _, path := range []string{top, markTop, quotaTop + top} {
		if code, err := c.ask(&Request{Op: zkproto.OpCreate, Path: path, ACL: "open"}); err != nil || code != 0 && code != -110 {
			return fmt.Errorf("compare: create of %s: %d, %w", path, code, err)
		}
	}
	return nil
}

// Close closes the session and the connection.
func (k *Control) Close() {
	_, _ = k.c.ask(&Request{Op: zkproto.OpCloseSession})
	_ = k.c.c.Close()
}

// ask sends one request and returns the error code of its reply.
func (c *conn) ask(r *Request) (int32, error) {
	replies, err := c.askAll([]Request{*r})
	if err != nil {
		return 0, err
	}
	return replies[0].code, nil
}

type answer struct {
	code int32
	body []byte
}

// askAll sends requests in one write.
func (c *conn) askAll(list []Request) ([]answer, error) {
	var b []byte
	for i := range list {
		c.xid++
		b = append(b, frame(list[i].encode(c.xid, func(s string) string { return s }, func(int) int64 { return 0 }))...)
	}
	c.write(b)
	out := make([]answer, len(list))
	for i := range list {
		b := c.read()
		if b == nil {
			return nil, errors.New("compare: control connection: " + c.gone)
		}
		d := decoder{b: b}
		d.long()
		d.int()
		out[i] = answer{d.int(), d.b}
	}
	return out, nil
}

// begin creates the sequence's own znode.
func (p *Player) begin() error {
	code, err := p.control.ask(&Request{Op: zkproto.OpCreate, Path: p.prefix, Data: "top", ACL: "open"})
	if err == nil && code != 0 {
		err = fmt.Errorf("compare: create of %s: %d", p.prefix, code)
	}
	return err
}

// left shows every znode that the sequence has left behind, and deletes it.
func (p *Player) left() error {
	var all []string
	level := []string{p.prefix, quotaTop + p.prefix}
	for len(level) > 0 {
		var ask []Request
		for _, path := range level {
			ask = append(ask, Request{Op: zkproto.OpGetChildren2, Path: path}, Request{Op: zkproto.OpGetData, Path: path}, Request{Op: zkproto.OpGetACL, Path: path})
		}
		answers, err := p.control.askAll(ask)
		if err != nil {
			return err
		}
		var next []string
		for i, path := range level {
			children, data, acl := answers[3*i], answers[3*i+1], answers[3*i+2]
			if children.code != 0 || data.code != 0 || acl.code != 0 {
				if children.code != -101 || data.code != -101 || acl.code != -101 {
					p.say("left %s: %d %d %d", path, children.code, data.code, acl.code)
				}
				continue
			}
			all = append(all, path)
			list := decoder{b: children.body}
			for range list.int() {
				name := string(list.take(int(list.int())))
				next = append(next, path+"/"+name)
			}
			p.say("left %s: %s, %s, %s", path, p.body(&decoder{b: children.body}, zkproto.OpGetChildren2),
				p.body(&decoder{b: data.body}, zkproto.OpGetData), p.body(&decoder{b: acl.body}, zkproto.OpGetACL))
		}
		slices.Sort(next)
		level = next
	}
	var ask []Request
	for _, path := range slices.Backward(all) {
		ask = append(ask, Request{Op: zkproto.OpDelete, Path: path, Version: -1})
	}
	answers, err := p.control.askAll(ask)
	for i := range answers {
		if answers[i].code != 0 {
			err = errors.Join(err, errors.New("compare: delete of "+ask[i].Path+": "+strconv.Itoa(int(answers[i].code))))
		}
	}
	return err
}
