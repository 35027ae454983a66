package compare

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"coord/server/zkproto"
)

// null stands for a string or data that is null on the wire.
const null = "\x00null"

// bigData stands for data of n bytes.
func bigData(n int) string { return "\x00big" + strconv.Itoa(n) }

// encoder encodes a request and remembers the offsets of its fields.
type encoder struct {
	b      []byte
	counts []int // offsets of lengths and counts
	bools  []int
}

func (e *encoder) int(n int32)  { e.b = binary.BigEndian.AppendUint32(e.b, uint32(n)) }
func (e *encoder) long(n int64) { e.b = binary.BigEndian.AppendUint64(e.b, uint64(n)) }

func (e *encoder) count(n int) {
	e.counts = append(e.counts, len(e.b))
	e.int(int32(n))
}

func (e *encoder) bool(v bool) {
	e.bools = append(e.bools, len(e.b))
	e.b = append(e.b, 0)
	if v {
		e.b[len(e.b)-1] = 1
	}
}

func (e *encoder) str(s string) {
	if s == null {
		e.count(-1)
		return
	}
	if n, ok := strings.CutPrefix(s, "\x00big"); ok {
		size, _ := strconv.Atoi(n)
		s = strings.Repeat("x", size)
	}
	e.count(len(s))
	e.b = append(e.b, s...)
}

func (e *encoder) strs(list []string) {
	if len(list) == 1 && list[0] == null {
		e.count(-1)
		return
	}
	e.count(len(list))
	for _, s := range list {
		e.str(s)
	}
}

func (e *encoder) acl(name string) {
	entries, there := acls[name]
	if !there {
		panic("compare: no ACL " + name)
	}
	if name == "null" {
		e.count(-1)
		return
	}
	e.count(len(entries))
	for _, a := range entries {
		e.int(a.perms)
		e.str(a.scheme)
		e.str(a.id)
	}
}

// body encodes what follows the header of a request, or the header of its part in a
// multi.
func (e *encoder) body(r *Request, at func(string) string, zxid func(int) int64) {
	switch r.Op {
	case zkproto.OpCreate, zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL:
		e.str(at(r.Path))
		e.str(r.Data)
		e.acl(r.ACL)
		e.int(r.Flags)
		if r.Op == zkproto.OpCreateTTL {
			e.long(r.TTL)
		}
	case zkproto.OpDelete, zkproto.OpCheck:
		e.str(at(r.Path))
		e.int(r.Version)
	case zkproto.OpExists, zkproto.OpGetData, zkproto.OpGetChildren, zkproto.OpGetChildren2:
		e.str(at(r.Path))
		e.bool(r.Watch)
	case zkproto.OpSetData:
		e.str(at(r.Path))
		e.str(r.Data)
		e.int(r.Version)
	case zkproto.OpSetACL:
		e.str(at(r.Path))
		e.acl(r.ACL)
		e.int(r.Version)
	case zkproto.OpGetACL, zkproto.OpSync, zkproto.OpGetEphemerals, zkproto.OpGetAllChildrenNumber:
		e.str(at(r.Path))
	case zkproto.OpCheckWatches, zkproto.OpRemoveWatches, zkproto.OpAddWatch:
		e.str(at(r.Path))
		e.int(r.Flags)
	case zkproto.OpReconfig:
		for _, s := range r.Lists[0] {
			e.str(s)
		}
		e.long(int64(r.Version))
	case zkproto.OpAuth:
		e.int(0)
		e.str(r.ACL)
		e.str(r.Data)
	case zkproto.OpSASL:
		e.str(r.Data)
	case zkproto.OpSetWatches, zkproto.OpSetWatches2:
		e.long(zxid(int(r.Version)))
		for _, list := range r.Lists {
			paths := make([]string, len(list))
			for i := range list {
				paths[i] = at(list[i])
			}
			e.strs(paths)
		}
	case zkproto.OpMulti, zkproto.OpMultiRead:
		for i := range r.Ops {
			e.int(int32(r.Ops[i].Op))
			e.b = append(e.b, 0)
			e.int(-1)
			e.body(&r.Ops[i], at, zxid)
		}
		e.int(-1)
		e.bool(true)
		e.int(-1)
	}
}

// encode encodes a whole request, without the length of its frame.
func (r *Request) encode(xid int32, at func(string) string, zxid func(int) int64) []byte {
	var e encoder
	e.int(xid)
	e.int(int32(r.Op))
	e.body(r, at, zxid)
	return e.spoil(r.Spoil)
}

// spoil describes an error in the bytes of a request.
type spoil struct {
	how   string // "": none
	where int    // index of the field or byte, modulo their number
	value int32
}

func (s spoil) String() string {
	if s.how == "" {
		return ""
	}
	return fmt.Sprintf(" !%s(%d,%d)", s.how, s.where, s.value)
}

func (e *encoder) spoil(s spoil) []byte {
	const head = 8
	switch s.how {
	case "":
	case "cut": // some bytes are missing
		if body := len(e.b) - head; body > 0 {
			return e.b[:head+s.where%body]
		}
	case "more": // more bytes than the server reads
		return append(e.b, make([]byte, s.where)...)
	case "count": // a length or count is wrong
		if len(e.counts) > 0 {
			binary.BigEndian.PutUint32(e.b[e.counts[s.where%len(e.counts)]:], uint32(s.value))
		}
	case "bool": // not 1, which is true
		if len(e.bools) > 0 {
			e.b[e.bools[s.where%len(e.bools)]] = byte(s.value)
		}
	default:
		panic("compare: no way to spoil by " + s.how)
	}
	return e.b
}

// decoder decodes a reply to text.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) int() int32 {
	if b := d.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (d *decoder) long() int64 {
	if b := d.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// str formats a string or data: quoted; null as null; if long, only its size.
func (d *decoder) str() string {
	n := d.int()
	if n == -1 {
		return "null"
	}
	b := d.take(int(n))
	if len(b) > 4096 {
		return fmt.Sprintf("%d bytes of %q", len(b), b[:8])
	}
	return strconv.Quote(string(b))
}

func (d *decoder) list(element func() string) []string {
	n := d.int()
	if n < 0 {
		return []string{fmt.Sprintf("count %d", n)}
	}
	var all []string
	for ; n > 0 && !d.bad; n-- {
		all = append(all, element())
	}
	return all
}

// set is a list in no particular order, so it is sorted.
func (d *decoder) set(element func() string) string {
	all := d.list(element)
	sort.Strings(all)
	return "{" + strings.Join(all, " ") + "}"
}

func (d *decoder) identity() string { return d.str() + ":" + d.str() }

func (d *decoder) aclEntry() string { return fmt.Sprintf("%d:%s", d.int(), d.identity()) }

// op is the body of a successful reply.
func (p *Player) body(d *decoder, op zkproto.Op) string {
	switch op {
	case zkproto.OpCreate, zkproto.OpSync:
		return d.str()
	case zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL:
		return d.str() + " " + p.stat(d)
	case zkproto.OpExists, zkproto.OpSetData, zkproto.OpSetACL:
		return p.stat(d)
	case zkproto.OpGetData, zkproto.OpReconfig:
		return d.str() + " " + p.stat(d)
	case zkproto.OpGetACL:
		list := d.list(d.aclEntry)
		if p.sortACL {
			sort.Strings(list)
		}
		return "[" + strings.Join(list, " ") + "] " + p.stat(d)
	case zkproto.OpGetChildren, zkproto.OpGetEphemerals:
		return d.set(d.str)
	case zkproto.OpGetChildren2:
		return d.set(d.str) + " " + p.stat(d)
	case zkproto.OpGetAllChildrenNumber, zkproto.OpAddWatch:
		return strconv.Itoa(int(d.int()))
	case zkproto.OpWhoAmI:
		return d.set(d.identity)
	case zkproto.OpSASL:
		return d.str()
	case zkproto.OpMulti, zkproto.OpMultiRead:
		return p.results(d)
	}
	return ""
}

// results formats the results of a multi.
func (p *Player) results(d *decoder) string {
	var all []string
	for !d.bad {
		op, done, code := zkproto.Op(d.int()), d.take(1), d.int()
		if len(done) == 1 && done[0] != 0 {
			all = append(all, fmt.Sprintf("end(%d,%d)", op, code))
			break
		}
		if op == zkproto.OpError {
			p.count("part error", strconv.Itoa(int(code)))
			all = append(all, fmt.Sprintf("error(%d,%d)", code, d.int()))
			p.failed = p.failed || code != 0
			continue
		}
		all = append(all, fmt.Sprintf("%v(%d) %s", op, code, p.body(d, op)))
	}
	return strings.Join(all, "; ")
}

// stat formats a Stat. Its zxids become ranks once all are known; its times are
// checked against its zxids.
func (p *Player) stat(d *decoder) string {
	czxid, mzxid, ctime, mtime := d.long(), d.long(), d.long(), d.long()
	version, cversion, aversion, owner := d.int(), d.int(), d.int(), d.long()
	length, children, pzxid := d.int(), d.int(), d.long()
	if d.bad {
		return "no whole stat"
	}
	return fmt.Sprintf("{c%s m%s p%s%s%s v%d cv%d av%d owner %s len %d children %d}",
		p.zxid(czxid), p.zxid(mzxid), p.zxid(pzxid), p.time(czxid, ctime), p.time(mzxid, mtime),
		version, cversion, aversion, p.owner(owner), length, children)
}
