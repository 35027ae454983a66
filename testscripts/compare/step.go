package compare

import (
	"fmt"
	"strconv"
	"strings"

	"coord/server/zkproto"
)

// Request is a request, or a part of a multi. In its paths ~ stands for the
// sequence's own znode.
type Request struct {
	Op      zkproto.Op
	Xid     int32  // 0: the next number of the connection
	Path    string // the constant null is a null string
	Data    string // the constant null is null. OpAuth: the credential. OpSASL: the token
	ACL     string // name of the list. OpAuth: the scheme
	Flags   int32  // OpAddWatch: the mode. OpCheckWatches, OpRemoveWatches: the type
	Version int32  // OpSetWatches: the zxid of this many txns ago; less than 0: far ahead, or negative
	TTL     int64
	Watch   bool
	Lists   [][]string // of OpSetWatches. OpReconfig: the three strings
	Ops     []Request

	Spoil spoil
}

func (r *Request) String() string {
	var b strings.Builder
	b.WriteString(r.Op.String())
	word := func(format string, a ...any) { fmt.Fprintf(&b, " "+format, a...) }
	if r.Xid != 0 {
		word("xid=%d", r.Xid)
	}
	switch r.Op {
	case zkproto.OpMulti, zkproto.OpMultiRead:
		parts := make([]string, len(r.Ops))
		for i := range r.Ops {
			parts[i] = r.Ops[i].String()
		}
		if n := len(parts); n > 20 {
			parts = append(parts[:10:10], fmt.Sprintf("… %d in all", n))
		}
		word("{%s}", strings.Join(parts, "; "))
	case zkproto.OpAuth:
		word("%s %s", text(r.ACL), text(r.Data))
	case zkproto.OpSASL:
		word("%s", text(r.Data))
	case zkproto.OpPing, zkproto.OpWhoAmI, zkproto.OpCloseSession:
	case zkproto.OpSetWatches, zkproto.OpSetWatches2:
		word("back=%d %q", r.Version, r.Lists)
	case zkproto.OpReconfig:
		word("%q version=%d", r.Lists, r.Version)
	default:
		word("%s", text(r.Path))
	}
	switch r.Op {
	case zkproto.OpCreate, zkproto.OpCreate2, zkproto.OpCreateContainer, zkproto.OpCreateTTL:
		word("%s acl=%s flags=%d", text(r.Data), r.ACL, r.Flags)
		if r.Op == zkproto.OpCreateTTL {
			word("ttl=%d", r.TTL)
		}
	case zkproto.OpDelete, zkproto.OpCheck:
		word("version=%d", r.Version)
	case zkproto.OpSetData:
		word("%s version=%d", text(r.Data), r.Version)
	case zkproto.OpSetACL:
		word("acl=%s version=%d", r.ACL, r.Version)
	case zkproto.OpExists, zkproto.OpGetData, zkproto.OpGetChildren, zkproto.OpGetChildren2:
		if r.Watch {
			word("watch")
		}
	case zkproto.OpAddWatch:
		word("mode=%d", r.Flags)
	case zkproto.OpCheckWatches, zkproto.OpRemoveWatches:
		word("type=%d", r.Flags)
	}
	return b.String() + r.Spoil.String()
}

func text(s string) string {
	switch {
	case s == null || strings.HasPrefix(s, "\x00big"):
		return s[1:]
	case len(s) > 60:
		return fmt.Sprintf("%q×%d", s[:4], len(s)/4)
	}
	return strconv.Quote(s)
}

// negative is the Version of an OpSetWatches that stands for a zxid below all others.
const negative = -2

// What a Step does.
const (
	doRequests = ""       // send them in one write and read their replies
	doConnect  = "attach" // a session, new or not, to the connection; its previous session is detached
	doVisit    = "visit"  // connect in addition, and end the session if it is new
	doDrop     = "drop"   // the connection; its session stays alive
	doExpire   = "expire" // the connection's session
	doRaw      = "raw"    // bytes that are not a request
)

// Step is one operation of a sequence.
type Step struct {
	ID       int // names the session that the step creates; unchanged when other steps are left out
	Conn     int
	Do       string
	Requests []Request // several are sent in one write
	Connect  Connect
	Raw      string
}

// Connect describes a connect request.
type Connect struct {
	Session   int    // the step that created it, newSession or unknownSession
	Password  string // right, wrong, empty, null, short, long
	TimeoutMS int32
	ReadOnly  int    // the byte; -1: none
	LastZxid  string // none, seen, ahead, negative
	Spoil     spoil
}

// Sessions that no step has created.
const (
	newSession     = -1
	unknownSession = -2
)

// unknownID is no session's id: a server makes its ids from its clock. Each play
// adds its number to it, since a server closes other connections that request the
// same session.
const unknownID = 0x0123456700000000

func (c *Connect) String() string {
	who := "s" + strconv.Itoa(c.Session)
	switch c.Session {
	case newSession:
		who = "new"
	case unknownSession:
		who = "unknown"
	}
	return fmt.Sprintf("%s password=%s timeout=%d readonly=%d zxid=%s%s", who, c.Password, c.TimeoutMS, c.ReadOnly, c.LastZxid, c.Spoil)
}

func (s *Step) String() string {
	b := fmt.Sprintf("s%d c%d ", s.ID, s.Conn)
	switch s.Do {
	case doRequests:
		parts := make([]string, len(s.Requests))
		for i := range s.Requests {
			parts[i] = s.Requests[i].String()
		}
		return b + strings.Join(parts, " || ")
	case doConnect, doVisit:
		return b + s.Do + " " + s.Connect.String()
	case doRaw:
		return b + fmt.Sprintf("raw %x", s.Raw)
	}
	return b + s.Do
}

// closes says whether the server may close the connection after a request.
func (r *Request) closes() bool {
	switch r.Op {
	case zkproto.OpAuth, zkproto.OpSASL, zkproto.OpCheck, zkproto.OpReconfig, zkproto.OpNotification, zkproto.OpDeleteContainer,
		zkproto.OpError, zkproto.OpCreateSession:
		return true
	}
	return r.Spoil.how != "" || strings.HasPrefix(r.Op.String(), "op ") || strings.HasPrefix(r.Data, "\x00big")
}

// acls are the ACLs that requests name.
var acls = map[string][]struct {
	perms      int32
	scheme, id string
}{
	"open":         {{31, "world", "anyone"}},
	"read":         {{1, "world", "anyone"}},
	"noread":       {{30, "world", "anyone"}},
	"nocreate":     {{27, "world", "anyone"}},
	"nodelete":     {{23, "world", "anyone"}},
	"admin":        {{16, "world", "anyone"}},
	"nobody":       {{0, "world", "anyone"}},
	"auth":         {{31, "auth", ""}},
	"auth-id":      {{3, "auth", "whatever"}},
	"auth+read":    {{31, "auth", ""}, {1, "world", "anyone"}},
	"u1":           {{31, "digest", "u1:" + u1Hash}},
	"u1-write":     {{2, "digest", "u1:" + u1Hash}, {1, "world", "anyone"}},
	"u2":           {{31, "digest", "u2:" + u2Hash}},
	"u1u2":         {{1, "digest", "u1:" + u1Hash}, {30, "digest", "u2:" + u2Hash}},
	"u1+admin":     {{31, "digest", "u1:" + u1Hash}, {16, "world", "anyone"}},
	"u1+read":      {{31, "digest", "u1:" + u1Hash}, {1, "world", "anyone"}},
	"hash":         {{31, "digest", "somebody:nohash"}, {1, "world", "anyone"}},
	"ip":           {{31, "ip", "127.0.0.1"}},
	"ip-net":       {{31, "ip", "127.0.0.0/8"}, {1, "ip", "10.1.2.3/32"}},
	"ip-all":       {{31, "ip", "1.2.3.4/0"}},
	"ip-other":     {{31, "ip", "10.0.0.1"}, {17, "world", "anyone"}},
	"twice":        {{31, "world", "anyone"}, {1, "world", "anyone"}, {31, "world", "anyone"}},
	"bits":         {{63, "world", "anyone"}},
	"allbits":      {{-1, "world", "anyone"}},
	"null":         nil,
	"empty":        {},
	"world-other":  {{31, "world", "someone"}},
	"world-empty":  {{31, "world", ""}},
	"world-null":   {{31, "world", null}},
	"none":         {{31, "", ""}},
	"null-null":    {{31, null, null}},
	"null-id":      {{31, "digest", null}},
	"ip-null":      {{31, "ip", null}},
	"auth-null":    {{31, "auth", null}},
	"null-scheme":  {{31, null, "anyone"}},
	"unknown":      {{31, "nosuch", "x"}},
	"World":        {{31, "World", "anyone"}},
	"x509":         {{31, "x509", "CN=a,O=b"}},
	"sasl":         {{31, "sasl", "a@B"}},
	"super":        {{31, "super", "super:" + superHash}},
	"digest-plain": {{31, "digest", "u1"}},
	"digest-empty": {{31, "digest", ""}},
	"digest-three": {{31, "digest", "a:b:c"}},
	"digest-tail":  {{31, "digest", "u1:" + u1Hash + "::"}, {1, "world", "anyone"}},
	"digest-hole":  {{31, "digest", "u1::" + u1Hash}},
	"digest-colon": {{31, "digest", ":"}},
	"digest-open":  {{31, "digest", "u1:"}},
	"digest-anon":  {{31, "digest", ":hash"}},
	"ip-zeros":     {{31, "ip", "127.000.0.001"}},
	"ip-0256":      {{31, "ip", "10.0.0.0256"}},
	"ip-name":      {{31, "ip", "localhost"}},
	"ip-bits":      {{31, "ip", "10.0.0.0/33"}},
	"ip-minus":     {{31, "ip", "10.0.0.0/-1"}},
	"ip-text":      {{31, "ip", "10.0.0.0/x"}},
	"ip-slash":     {{31, "ip", "10.0.0.0/"}},
	"ip-slashes":   {{31, "ip", "10.0.0.0/8/8"}},
	"ip-short":     {{31, "ip", "10.0.0"}},
	"ip-300":       {{31, "ip", "300.0.0.1"}},
	"ip-empty":     {{31, "ip", ""}},
	"good+bad":     {{31, "world", "anyone"}, {31, "nosuch", "x"}},
	"emoji":        {{31, "digest", "\U0001f600:hash"}, {31, "world", "anyone"}},
	"bytes":        {{31, "digest", "\xff\xe2\x82:hash"}, {31, "world", "anyone"}},
	"umlaut":       {{31, "digest", "ü:hash"}, {31, "world", "anyone"}},
}

// The users of the digest scheme, and the superuser of both servers.
const (
	u1Hash    = "fpT/y03U+EjItKZOSLGvjnJlyng="
	u2Hash    = "o9NxcCGDPOlcV7JVhmKHOf5ctVE="
	superHash = "xQJmxLMiHGwaqBvst5y6rkB6HQs="
	// SuperDigest configures the superuser of the servers: super:admin.
	SuperDigest = "super:" + superHash
)
