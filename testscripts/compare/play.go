package compare

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// patience is how long a Player waits for a reply, a close, or the end of a session.
// Normal waits are far shorter; a play that reaches it says so in its lines.
const patience = 4 * time.Minute

// normalTimeoutMS is the timeout of sessions that are not meant to expire.
const normalTimeoutMS = 30000

// maxFrame is the largest frame that a Player reads.
const maxFrame = 4 << 20

// Player plays one sequence to one server.
type Player struct {
	addr    string
	number  int64  // of this play
	prefix  string // the sequence's own znode
	marks   string // prefix of the ephemerals that show an expiry
	control *conn  // of the superuser; not compared

	conns    [3]*conn
	sessions map[int]*session // by the step that created it
	byID     map[int64]*session

	lines   []string
	sortACL bool
	code    int32 // of the last reply
	failed  bool  // the last multi had an error

	told  map[*conn]int64 // the zxid of the connection's last event, if events have zxids
	last  int64           // the zxid of the last reply
	hard  []int64
	zxids map[int64]bool // zxids that occur in lines
	times map[int64]int64

	counts Counts
	took   []time.Duration // by each step
}

// Counts says how often something happened: opcodes, error codes, events.
type Counts map[string]map[string]int

func (p *Player) count(kind, key string) { p.counts.add(kind, key, 1) }

func (c Counts) add(kind, key string, n int) {
	if c[kind] == nil {
		c[kind] = map[string]int{}
	}
	c[kind][key] += n
}

// session is a session that the server has created.
type session struct {
	name     string
	id       int64
	password []byte
	ended    bool
}

// conn is a connection to a server, with a session.
type conn struct {
	c       net.Conn
	r       *bufio.Reader
	session *session
	xid     int32
	gone    string // why nothing more can be read: "closed", or the error
}

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, r: bufio.NewReaderSize(c, 4096)}, nil
}

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, len(body)+4), uint32(len(body))), body...)
}

// write sends bytes. Errors show when the reply is read.
func (c *conn) write(b []byte) {
	_ = c.c.SetDeadline(time.Now().Add(patience))
	_, _ = c.c.Write(b)
}

// read reads a frame; nil: there is none, and gone says why.
func (c *conn) read() []byte {
	if c.gone != "" {
		return nil
	}
	_ = c.c.SetDeadline(time.Now().Add(patience))
	var size [4]byte
	_, err := io.ReadFull(c.r, size[:])
	if err == nil {
		n := binary.BigEndian.Uint32(size[:])
		if n > maxFrame {
			c.gone = fmt.Sprintf("a frame of %d bytes", n)
			return nil
		}
		b := make([]byte, n)
		if _, err = io.ReadFull(c.r, b); err == nil {
			return b
		}
	}
	c.gone = "closed"
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.gone = fmt.Sprintf("silent for %v", patience)
	}
	_ = c.c.Close()
	return nil
}

func (p *Player) say(format string, a ...any) { p.lines = append(p.lines, fmt.Sprintf(format, a...)) }

// zxid returns a mark that rank replaces by a rank after the play.
func (p *Player) zxid(z int64) string {
	if z == 0 || z == -1 {
		return strconv.FormatInt(z, 10)
	}
	p.zxids[z] = true
	return "\x01" + strconv.FormatInt(z, 16) + "\x02"
}

// time reports what is wrong with a time: all times of a txn must be equal.
func (p *Player) time(zxid, ms int64) string {
	if zxid == 0 {
		return fmt.Sprintf(" time %d", ms)
	}
	if first, there := p.times[zxid]; there && first != ms {
		return fmt.Sprintf(" TIME of the txn is %d ms off", ms-first)
	}
	p.times[zxid] = ms
	if d := time.Since(time.UnixMilli(ms)); d.Abs() > time.Hour {
		return fmt.Sprintf(" TIME %v away", d)
	}
	return ""
}

func (p *Player) owner(id int64) string {
	if id == 0 {
		return "0"
	}
	if s := p.byID[id]; s != nil {
		return s.name
	}
	return "SOMEBODY"
}

// at replaces ~ by the sequence's own znode.
func (p *Player) at(path string) string { return strings.ReplaceAll(path, "~", p.prefix) }

// back is the zxid of the nth last txn of this play, or one far ahead, or a
// negative one.
func (p *Player) back(n int) int64 {
	switch {
	case n == negative:
		return -1
	case n < 0:
		return 1 << 60
	case n < len(p.hard):
		return p.hard[len(p.hard)-1-n]
	}
	return 0
}

// event records a notification, if the frame is one.
func (p *Player) event(c *conn, b []byte, lines *[]string) bool {
	d := decoder{b: b}
	if d.int() != zkproto.XidEvent {
		return false
	}
	zxid, code := d.long(), d.int()
	typ, state, path := d.int(), d.int(), d.str()
	p.count("event", znode.EventType(typ).String())
	text := fmt.Sprintf("event %d %d %s", typ, state, path)
	if zxid != -1 { // from 3.9 on it is the zxid of the txn
		if zxid < p.told[c] || zxid < 1 {
			text += fmt.Sprintf(" ZXID %x behind %x", zxid, p.told[c])
		}
		p.told[c] = zxid
	}
	if code != 0 || d.bad || len(d.b) > 0 {
		text += " MALFORMED"
	}
	*lines = append(*lines, text)
	return true
}

// reply reads the reply to a request, and the events before it.
func (p *Player) reply(c *conn, r *Request, xid int32) {
	var before []string
	var text string
	for {
		b := c.read()
		if b == nil {
			text = c.gone
			break
		}
		if p.event(c, b, &before) {
			continue
		}
		text = p.replyText(b, r, xid)
		break
	}
	p.lines = append(p.lines, before...)
	p.lines = append(p.lines, text)
}

func (p *Player) replyText(b []byte, r *Request, xid int32) string {
	d := decoder{b: b}
	got, zxid, code := d.int(), d.long(), d.int()
	text := ""
	if got != xid {
		text += fmt.Sprintf("XID %d for %d ", got, xid)
	}
	p.failed, p.code = false, code
	p.count("error", strconv.Itoa(int(code)))
	body := ""
	if code == 0 {
		body = p.body(&d, r.Op)
		if d.bad || len(d.b) > 0 {
			body += fmt.Sprintf(" UNDECODABLE %x", b)
		}
	}
	switch {
	case d.bad && len(b) < 16:
		return text + "a reply without a header"
	case zxid == 0 || zxid == -1:
		text += fmt.Sprintf("zxid %d ", zxid)
	case code == 0 && writes(r.Op) && !p.failed:
		if zxid <= p.last {
			text += fmt.Sprintf("ZXID %x behind %x ", zxid, p.last)
		}
		p.last = zxid
		p.hard = append(p.hard, zxid)
		text += p.zxid(zxid) + " "
	default:
		if zxid < p.last {
			text += fmt.Sprintf("ZXID %x behind %x ", zxid, p.last)
		}
		p.last = max(zxid, p.last)
	}
	if code != 0 {
		return text + strconv.Itoa(int(code))
	}
	return text + "ok " + body
}

// writes says whether the reply to a successful request has a zxid of its own.
func writes(op zkproto.Op) bool {
	switch op {
	case zkproto.OpCreate, zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL, zkproto.OpDelete, zkproto.OpSetData,
		zkproto.OpSetACL, zkproto.OpMulti, zkproto.OpCloseSession:
		return true
	}
	return false
}

// send sends requests in one write and reads their replies.
func (p *Player) send(c *conn, list []Request) {
	var b []byte
	xids := make([]int32, len(list))
	for i := range list {
		r := &list[i]
		c.xid++
		xids[i] = c.xid
		if r.Xid != 0 {
			xids[i] = r.Xid
		}
		b = append(b, frame(r.encode(xids[i], p.at, p.back))...)
		if r.Op == zkproto.OpPing {
			xids[i] = zkproto.XidPing
		}
		p.count("op", r.Op.String())
		for j := range r.Ops {
			p.count("part", r.Op.String()+" "+r.Ops[j].Op.String())
		}
	}
	c.write(b)
	for i := range list {
		p.reply(c, &list[i], xids[i])
		if c.gone != "" {
			return
		}
	}
}

// gather sends a ping, and returns what came before its reply.
func (p *Player) gather(c *conn) (lines []string) {
	c.write(frame((&Request{Op: zkproto.OpPing}).encode(zkproto.XidPing, p.at, p.back)))
	for {
		b := c.read()
		if b == nil {
			return append(lines, c.gone)
		}
		if p.event(c, b, &lines) {
			continue
		}
		p.count("op", "ping")
		if d := (decoder{b: b}); d.int() != zkproto.XidPing || d.long() <= 0 || d.int() != 0 || len(b) != 16 {
			lines = append(lines, fmt.Sprintf("%x for a ping", b))
		}
		return lines
	}
}

// gatherAll calls gather for all connections; sorted: the events of a connection have no order.
func (p *Player) gatherAll(sorted bool) {
	for i, c := range p.conns {
		if c == nil || c.gone != "" {
			continue
		}
		lines := p.gather(c)
		if sorted {
			sort.Strings(lines)
		}
		for _, l := range lines {
			p.say("c%d %s", i, l)
		}
	}
}

// alive records whether the connection is still open after a request that may have
// closed it. The real server may still answer a ping after such a request, so a
// ping alone does not tell.
func (p *Player) alive(c *conn) {
	switch {
	case c.gone != "":
	case p.code == int32(znode.ErrUnimplemented) || p.code == int32(znode.ErrAuthFailed):
		p.say("then %s", p.ends(c))
	default:
		p.lines = append(p.lines, p.gather(c)...)
	}
}

// ends waits until the server closes the connection.
func (p *Player) ends(c *conn) string {
	var lines []string
	for {
		b := c.read()
		if b == nil {
			return strings.Join(append(lines, c.gone), ", ")
		}
		if !p.event(c, b, &lines) {
			lines = append(lines, fmt.Sprintf("%x", b))
		}
	}
}

// Play plays the steps. Each has its own lines, and one more entry is for what is left behind.
func (p *Player) Play(steps []Step) (out [][]string, err error) {
	if err := p.begin(); err != nil {
		return nil, err
	}
	defer func() {
		for _, c := range p.conns {
			if c != nil {
				_ = c.c.Close()
			}
		}
	}()
	for i := range len(steps) + 2 {
		p.lines = nil
		begin := time.Now()
		var err error
		switch i - len(steps) {
		default:
			err = p.step(&steps[i])
		case 0:
			p.gatherAll(false)
			err = p.endSessions()
		case 1:
			err = p.left()
		}
		if err != nil {
			return nil, err
		}
		out = append(out, p.lines)
		p.took = append(p.took, time.Since(begin))
	}
	p.rank(out)
	return out, nil
}

// rank replaces marks by names: #n is the zxid of the nth reply with one of its
// own, #n+m is the mth zxid after that without a reply.
func (p *Player) rank(out [][]string) {
	all := make([]int64, 0, len(p.zxids))
	for z := range p.zxids {
		all = append(all, z)
	}
	slices.Sort(all)
	names := make(map[int64]string, len(all))
	n, m := 0, 0
	for _, z := range all {
		if n < len(p.hard) && p.hard[n] == z {
			n, m = n+1, 0
			names[z] = fmt.Sprintf("#%d", n)
		} else {
			m++
			names[z] = fmt.Sprintf("#%d+%d", n, m)
		}
	}
	for _, lines := range out {
		for i, l := range lines {
			if strings.IndexByte(l, 1) < 0 {
				continue
			}
			var b strings.Builder
			for {
				before, rest, found := strings.Cut(l, "\x01")
				b.WriteString(before)
				if !found {
					break
				}
				mark, rest, _ := strings.Cut(rest, "\x02")
				z, _ := strconv.ParseInt(mark, 16, 64)
				b.WriteString(names[z])
				l = rest
			}
			lines[i] = b.String()
		}
	}
}

func (p *Player) step(s *Step) error {
	c := p.conns[s.Conn]
	switch s.Do {
	case doConnect:
		return p.attach(s)
	case doVisit:
		return p.visit(s)
	}
	if c == nil || c.gone != "" {
		p.say("not connected")
		return nil
	}
	switch s.Do {
	case doRequests:
		closing := false
		for i := range s.Requests {
			closing = closing || s.Requests[i].Op == zkproto.OpCloseSession
		}
		if closing {
			p.closeSession(c, s.Requests)
			return nil
		}
		closes := slices.ContainsFunc(s.Requests, func(r Request) bool { return r.closes() })
		if closes { // when it closes the connection, the real server drops what it has not sent yet
			p.lines = append(p.lines, p.gather(c)...)
		}
		p.send(c, s.Requests)
		if closes {
			p.alive(c)
		}
	case doDrop:
		p.let(s.Conn)
	case doExpire:
		return p.expire(s)
	case doRaw:
		p.lines = append(p.lines, p.gather(c)...)
		c.write([]byte(s.Raw))
		p.say("raw: %s", p.ends(c))
	}
	return nil
}

// closeSession ends a session: its ephemerals are deleted in an order that the server chooses.
func (p *Player) closeSession(c *conn, requests []Request) {
	p.gatherAll(false)
	p.lines = p.closing(c, requests)
	if c.gone == "" {
		p.say("then %s", p.ends(c))
	}
	c.session.ended = true
	p.gatherAll(true)
}

// closing sends the requests that end a session, and sorts the events before the last reply.
func (p *Player) closing(c *conn, requests []Request) []string {
	before := p.lines
	p.lines = nil
	p.send(c, requests)
	if n := len(p.lines); n > 1 && len(requests) == 1 {
		sort.Strings(p.lines[:n-1])
	}
	return append(before, p.lines...)
}

// let closes a connection after its events have arrived.
func (p *Player) let(slot int) {
	c := p.conns[slot]
	if c == nil {
		return
	}
	if c.gone == "" {
		p.lines = append(p.lines, p.gather(c)...)
		_ = c.c.(*net.TCPConn).CloseWrite()
		p.ends(c) // by then its watches are gone too
		c.gone = "let go"
	}
	_ = c.c.Close()
	p.conns[slot] = nil
}

// connect sends a connect request and records the reply.
func (p *Player) connect(s *Step) (*conn, error) {
	c, err := dial(p.addr)
	if err != nil {
		return nil, err
	}
	r := &s.Connect
	id, password := int64(0), make([]byte, 16)
	switch r.Session {
	case newSession:
	case unknownSession:
		id = unknownID + p.number
	default:
		old := p.sessions[r.Session]
		if old == nil {
			p.say("no such session")
			_ = c.c.Close()
			return nil, nil
		}
		id, password = old.id, slices.Clone(old.password)
	}
	switch r.Password {
	case "wrong":
		password[3] ^= 1
	case "short":
		password = password[:15]
	case "long":
		password = append(password, 0)
	case "empty":
		password = nil
	}
	var e encoder
	e.int(0)
	e.long(map[string]int64{"none": 0, "seen": p.last, "ahead": 1 << 60, "negative": -1}[r.LastZxid])
	e.int(r.TimeoutMS)
	e.long(id)
	if r.Password == "null" {
		e.count(-1)
	} else {
		e.str(string(password))
	}
	if r.ReadOnly >= 0 {
		e.bool(r.ReadOnly != 0)
	}
	p.count("op", "connect")
	c.write(frame(e.spoil(r.Spoil)))
	b := c.read()
	if b == nil {
		p.say("connect: %s", c.gone)
		p.count("connect", c.gone)
		return nil, nil
	}
	d := decoder{b: b}
	version, timeout, id, size := d.int(), d.int(), d.long(), d.int()
	secret := d.take(int(size))
	text := fmt.Sprintf("connect: version %d timeout %d password of %d then %x", version, timeout, size, d.b)
	if timeout == 0 || id == 0 || d.bad {
		p.count("connect", "refused")
		p.say("%s refused: %x then %s", text, b, p.ends(c))
		return nil, nil
	}
	if known := p.byID[id]; known == nil {
		name := "s" + strconv.Itoa(s.ID)
		c.session = &session{name: name, id: id, password: slices.Clone(secret)}
		p.sessions[s.ID], p.byID[id] = c.session, c.session
		text += " new " + name
		p.count("connect", "new session")
	} else {
		text += " again " + known.name
		if string(secret) != string(known.password) {
			text += " OTHER PASSWORD"
		}
		c.session = known
		p.count("connect", "attached")
	}
	p.lines = append(p.lines, text)
	return c, nil
}

// attach gives the slot a connection with a session. The server closes other
// connections of the session.
func (p *Player) attach(s *Step) error {
	p.gatherAll(false)
	target := p.sessions[s.Connect.Session]
	if c := p.conns[s.Conn]; c != nil && (c.gone != "" || c.session != target) {
		p.let(s.Conn)
	}
	c, err := p.connect(s)
	if err != nil {
		return err
	}
	for i, other := range p.conns {
		if other == nil || other.gone != "" || target == nil || other.session != target {
			continue
		}
		if c != nil {
			p.say("c%d %s", i, p.ends(other))
		} else { // the real server has closed it, although the password was wrong
			other.gone = "let go"
			_ = other.c.Close()
		}
	}
	if c == nil && (p.conns[s.Conn] == nil || p.conns[s.Conn].gone == "") {
		return nil
	}
	if old := p.conns[s.Conn]; old != nil && c != nil {
		_ = old.c.Close()
	}
	p.conns[s.Conn] = c
	return nil
}

// visit connects, and ends the session if it is new.
func (p *Player) visit(s *Step) error {
	c, err := p.connect(s)
	if err != nil || c == nil {
		return err
	}
	p.closeSession(c, []Request{{Op: zkproto.OpCloseSession}})
	return nil
}

// expire lets a session expire: it attaches it again with the shortest timeout and
// creates an ephemeral. When the ephemeral is gone, the session has expired.
func (p *Player) expire(s *Step) error {
	p.gatherAll(false)
	owner := p.conns[s.Conn].session
	p.let(s.Conn)
	again := *s
	for id, other := range p.sessions {
		if other == owner {
			again.Connect = Connect{Session: id, Password: "right", TimeoutMS: 1, LastZxid: "seen"}
		}
	}
	c, err := p.connect(&again)
	if err != nil || c == nil {
		return err
	}
	mark := fmt.Sprintf("%s-%d", p.marks, s.ID)
	p.send(c, []Request{{Op: zkproto.OpCreate, Path: mark, ACL: "open", Flags: 1}})
	deadline := time.Now().Add(patience)
	for {
		code, err := p.control.ask(&Request{Op: zkproto.OpExists, Path: mark})
		if err != nil {
			return err
		}
		if code != 0 {
			break
		}
		if time.Now().After(deadline) {
			p.say("the session lives on after %v", patience)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	owner.ended = true
	lines := p.ends(c)
	p.say("expired: %s", lines)
	p.gatherAll(true)
	p.count("connect", "expired")
	_, err = p.connect(&again) // is refused
	return err
}

// endSessions ends the remaining sessions in the order in which they were created.
func (p *Player) endSessions() error {
	ids := make([]int, 0, len(p.sessions))
	for id := range p.sessions {
		ids = append(ids, id)
	}
	sort.Ints(ids)
	for _, id := range ids {
		s := p.sessions[id]
		if s.ended {
			continue
		}
		p.say("end of %s", s.name)
		var c *conn
		for _, have := range p.conns {
			if have != nil && have.gone == "" && have.session == s {
				c = have
			}
		}
		if c == nil {
			var err error
			c, err = p.connect(&Step{ID: id, Connect: Connect{Session: id, Password: "right", TimeoutMS: normalTimeoutMS, LastZxid: "seen"}})
			if err != nil {
				return err
			}
			if c == nil {
				continue
			}
		}
		p.closeSession(c, []Request{{Op: zkproto.OpCloseSession}})
	}
	return nil
}

// Merge adds the counts of another play.
func (c Counts) Merge(d Counts) {
	for kind, keys := range d {
		for key, n := range keys {
			c.add(kind, key, n)
		}
	}
}
