package frontend_test

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"coord/server/zkproto"
	"coord/tree/znode"
)

// zkClient is an actor's state in ZooKeeper's protocol: the requests it has sent, and the
// translation of frames to and from words. In a play z1, z2 and, on loopback, Z1, Z2 are such
// clients:
//
//	z1> connect ttl=5000       the first frame; without it a default one is sent, and accepted
//	z1< session 0x3e9 5000 …   or: refused
//	z1> create /a x ; ping     requests of one packet
//	z1> short setData /a x     without the last byte of the body
//	z1> raw 00000000           any bytes
//	z1< 1 #2 ok /a             xid, zxid (of epoch 1), outcome, body
//	z1< event created /a #2
//
// Every client must get its replies in the order of its requests.
type zkClient struct {
	introduced bool
	xid        int32
	asked      []zkproto.Request // not answered yet
	connected  bool
}

// zkOps maps names to operations.
var zkOps = func() map[string]zkproto.Op {
	ops := map[string]zkproto.Op{}
	for op := zkproto.OpCloseSession; op <= zkproto.OpWhoAmI; op++ {
		ops[op.String()] = op
	}
	return ops
}()

var zkLists = []string{"data=", "exist=", "child=", "persistent=", "recursive="}

// frames returns the bytes of the requests in a line.
func (z *zkClient) frames(t testing.TB, line string) (all []byte) {
	t.Helper()
	for sentence := range strings.SplitSeq(line, " ; ") {
		words := strings.Fields(sentence)
		switch words[0] {
		case "connect":
			z.introduced = true
			all = append(all, zkConnect(t, words[1:])...)
		case "raw":
			b, err := hex.DecodeString(strings.Join(words[1:], ""))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		default:
			short := words[0] == "short"
			if short {
				words = words[1:]
			}
			r := zkRequest(t, words)
			if r.Xid == 0 {
				z.xid++
				r.Xid = z.xid
			}
			z.asked = append(z.asked, r)
			start := len(all)
			all = zkproto.AppendRequest(all, &r)
			if short {
				all = all[:len(all)-1]
				zkproto.EndFrame(all, start)
			}
		}
	}
	return all
}

func zkConnect(t testing.TB, words []string) []byte {
	r := zkproto.Connect{TimeoutMS: 10_000, Password: make([]byte, 16), HasReadOnly: true}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "ttl":
			r.TimeoutMS = int32(number(value))
		case "id":
			r.Session = number(value)
		case "zxid":
			r.LastZxid = zxidOf(value)
		case "old": // no byte for readOnly
			r.HasReadOnly = false
		case "ro":
			r.ReadOnly = true
		case "pw":
			if r.Password = nil; value != "null" {
				b, err := hex.DecodeString(value)
				if err != nil {
					t.Fatal(err)
				}
				r.Password = append([]byte{}, b...)
			}
		default:
			t.Fatalf("connect %q", w)
		}
	}
	return zkproto.AppendConnect(nil, &r)
}

// zxidOf parses #n, the n-th zxid of the first epoch, or a number.
func zxidOf(s string) znode.Zxid {
	if n, ok := strings.CutPrefix(s, "#"); ok {
		return znode.MakeZxid(1, uint32(number(n)))
	}
	return znode.Zxid(number(s))
}

// zkRequest parses a request in words: the operation, then the values without a key in the order of
// its fields.
func zkRequest(t testing.TB, words []string) (r zkproto.Request) {
	t.Helper()
	op, ok := zkOps[words[0]]
	if !ok {
		op = zkproto.Op(number(strings.TrimPrefix(words[0], "op=")))
	}
	r.Part = zkproto.Part{Op: op, Version: zkproto.AnyVersion, ACL: znode.OpenACL}
	switch op {
	case zkproto.OpMulti, zkproto.OpMultiRead:
		for part := range strings.SplitSeq(strings.Join(words[1:], " "), " + ") {
			if part != "" {
				r.Ops = append(r.Ops, zkRequest(t, strings.Fields(part)).Part)
			}
		}
		return r
	case zkproto.OpAuth:
		r.Scheme, r.Data = words[1], zkValue(words[2])
		words = words[2:] // the rest has keys
	}
	free := 0
	for _, w := range words[1:] {
		key, value, keyed := strings.Cut(w, "=")
		switch {
		case w == "watch":
			r.Watch = true
			continue
		case keyed && zkKey(t, &r, key, value):
			continue
		}
		switch free++; free {
		case 1:
			r.Path = strings.ReplaceAll(w, "%00", "\x00")
			if w == `""` {
				r.Path = ""
			}
		case 2:
			r.Data = zkValue(w)
		default:
			t.Fatalf("%q in %q", w, words)
		}
	}
	return r
}

// zkKey parses a value with a key.
func zkKey(t testing.TB, r *zkproto.Request, key, value string) bool {
	t.Helper()
	switch key {
	case "v":
		r.Version = int32(number(value))
	case "flags":
		r.Flags = int32(number(value))
	case "ttl":
		r.TTLMS = number(value)
	case "kind":
		r.Kind = int32(number(value))
	case "xid":
		r.Xid = int32(number(value))
	case "zxid":
		r.Zxid = zxidOf(value)
	case "acl":
		r.ACL = zkACL(value)
	default:
		for i, list := range zkLists {
			if key+"=" == list {
				r.Watches[i] = strings.Split(value, ",")
				return true
			}
		}
		return false
	}
	return true
}

func zkValue(w string) []byte {
	switch w {
	case "null":
		return nil
	case `""`:
		return []byte{}
	}
	return []byte(w)
}

func zkACL(s string) znode.ACL {
	switch s {
	case "null":
		return nil
	case "":
		return znode.ACL{}
	}
	var acl znode.ACL
	for e := range strings.SplitSeq(s, ",") {
		scheme, rest, _ := strings.Cut(e, ":")
		at := strings.LastIndex(rest, ":")
		acl = append(acl, znode.ACLEntry{Perms: znode.Perms(number(rest[at+1:])), Identity: znode.Identity{Scheme: scheme, ID: rest[:at]}})
	}
	return acl
}

// read takes the next frame and describes it in words.
func (z *zkClient) read(in []byte) (said string, n int, err error) {
	frame, n, err := zkproto.CutFrame(in, 1<<26)
	if err != nil || frame == nil {
		return "", 0, err
	}
	if !z.connected {
		r, err := zkproto.ReadConnected(frame)
		if err != nil {
			return "", 0, err
		}
		z.connected = true
		return zkSaid(&r), n, nil
	}
	h, body, err := zkproto.ReadReply(frame)
	if err != nil {
		return "", 0, err
	}
	if h.Xid == zkproto.XidEvent {
		e := body.Event()
		return fmt.Sprintf("event %s %s %s", e.Type, e.Path, zkZxid(h.Zxid)), n, body.End()
	}
	if len(z.asked) == 0 { // the request was raw
		return fmt.Sprintf("bad %d %s %d", h.Xid, zkZxid(h.Zxid), h.Code), n, body.End()
	}
	r := z.asked[0]
	z.asked = z.asked[1:]
	want := r.Xid
	if r.Op == zkproto.OpPing {
		want = zkproto.XidPing
	}
	if h.Xid != want {
		return "", 0, fmt.Errorf("xid %d, want %d", h.Xid, want)
	}
	said = fmt.Sprintf("%d %s", h.Xid, zkZxid(h.Zxid))
	if h.Code != znode.OK {
		return fmt.Sprintf("%s %d", said, h.Code), n, body.End()
	}
	return strings.TrimSpace(said + " ok " + zkBody(r.Op, &body)), n, body.End()
}

func zkSaid(r *zkproto.Connected) string {
	if r.TimeoutMS == 0 && r.Session == 0 && r.Password == (zkproto.Password{}) {
		return fmt.Sprintf("refused ro=%v", r.HasReadOnly)
	}
	return fmt.Sprintf("session %#x %d %x ro=%v", r.Session, r.TimeoutMS, r.Password, r.HasReadOnly)
}

func zkZxid(z znode.Zxid) string {
	switch {
	case z == zkproto.NoZxid:
		return "none"
	case z.Epoch() == 1:
		return "#" + strconv.Itoa(int(z.Counter()))
	}
	return z.String()
}

// zkBody describes a body in words.
func zkBody(op zkproto.Op, b *zkproto.Body) string {
	switch op {
	case zkproto.OpCreate, zkproto.OpSync:
		return b.Str()
	case zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL:
		return b.Str() + " " + zkStat(b.Stat())
	case zkproto.OpExists, zkproto.OpSetData, zkproto.OpSetACL:
		return zkStat(b.Stat())
	case zkproto.OpGetData:
		return zkData(b.Buffer()) + " " + zkStat(b.Stat())
	case zkproto.OpSASL:
		return zkData(b.Buffer())
	case zkproto.OpGetACL:
		acl := b.ACL()
		return acl.String() + " " + zkStat(b.Stat())
	case zkproto.OpGetChildren, zkproto.OpGetEphemerals:
		return fmt.Sprint(b.Strings())
	case zkproto.OpGetChildren2:
		return fmt.Sprint(b.Strings()) + " " + zkStat(b.Stat())
	case zkproto.OpGetAllChildrenNumber, zkproto.OpAddWatch:
		return fmt.Sprint(b.Int())
	case zkproto.OpWhoAmI:
		var names []string
		for _, id := range b.Identities() {
			names = append(names, id.Scheme+":"+id.ID)
		}
		return strings.Join(names, " ")
	case zkproto.OpMulti, zkproto.OpMultiRead:
		var all []string
		for _, r := range b.Results() {
			all = append(all, zkResult(&r))
		}
		return strings.Join(all, " + ")
	}
	return ""
}

func zkResult(r *zkproto.Result) string {
	switch r.Op {
	case zkproto.OpError:
		return strconv.Itoa(int(r.Code))
	case zkproto.OpCreate:
		return "create " + r.Path
	case zkproto.OpCreate2:
		return "create2 " + r.Path + " " + zkStat(r.Stat)
	case zkproto.OpSetData:
		return "setData " + zkStat(r.Stat)
	case zkproto.OpGetData:
		return "getData " + zkData(r.Data) + " " + zkStat(r.Stat)
	case zkproto.OpGetChildren:
		return "getChildren " + fmt.Sprint(r.Children)
	}
	return r.Op.String()
}

func zkData(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) > 1000:
		return fmt.Sprintf("(%d bytes)", len(b))
	}
	return strconv.Quote(string(b))
}

// zkStat describes the counters of a Stat, and those of its other numbers that are not zero.
func zkStat(s znode.Stat) string {
	said := fmt.Sprintf("[%s %s %s v%d c%d a%d", zkZxid(s.Czxid), zkZxid(s.Mzxid), zkZxid(s.Pzxid), s.Version, s.Cversion, s.Aversion)
	if s.EphemeralOwner != 0 {
		said += fmt.Sprintf(" eph=%#x", s.EphemeralOwner)
	}
	if s.DataLength != 0 {
		said += fmt.Sprintf(" len=%d", s.DataLength)
	}
	if s.NumChildren != 0 {
		said += fmt.Sprintf(" kids=%d", s.NumChildren)
	}
	return said + "]"
}
