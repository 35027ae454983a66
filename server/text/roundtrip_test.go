package text_test

import (
	"bytes"
	"slices"
	"testing"

	"coord/server/text"
	"coord/tree/znode"

	"pgregory.net/rapid"
)

// Generators. Their strings are awkward on purpose.
var (
	anyBytes = rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte("\r\n \":\\=@\x00\xff"))), 0, 100)
	anyText  = rapid.OneOf(
		rapid.SampledFrom([]string{":5", "HTTP/1.1", "@a", "v=1", "-", "stat", "a b", "Host:", "\"", "\\", "\n", "0x5", "07", "\xff\xf4"}),
		rapid.String(),
		rapid.Map(anyBytes, func(b []byte) string { return string(b) }),
	)
	someText = anyText.Filter(func(s string) bool { return s != "" })
	anyTag   = rapid.StringMatching(`[!#-~]{0,64}`)
	anyZxid  = rapid.Map(rapid.Uint64(), func(n uint64) znode.Zxid { return znode.Zxid(n) })
	anyCount = rapid.Int32Range(1, 1<<31-1)
	anyPath  = rapid.OneOf(
		rapid.SampledFrom([]string{"/", "/a", "/stat", "/v=1", "/a b", "/:5", "/\"", "/HTTP/1.1", "/hörby", "/a=\"b"}),
		rapid.StringMatching(`(/[a-z .:="é]{1,8}[a-z]){1,4}`),
	).Filter(func(s string) bool { return znode.CheckPath(s) == nil })
	anyWait    = rapid.Int64Range(0, text.MaxWaitMS)
	anyFlag    = rapid.Bool()
	anyVersion = rapid.OneOf(rapid.Just(text.AnyVersion), rapid.Int32())
	anyValue   = rapid.OneOf(anyBytes, rapid.Map(anyText, func(s string) []byte { return []byte(s) }))
	anyEntry   = rapid.Custom(func(t *rapid.T) znode.ACLEntry {
		return znode.ACLEntry{
			Perms: znode.Perms(rapid.Int32Range(1, 31).Draw(t, "perms")),
			Identity: znode.Identity{
				Scheme: rapid.SampledFrom([]string{"world", "digest", "ip", "auth", "v=1", ""}).Draw(t, "scheme"),
				ID:     rapid.StringMatching(`[ -+\--~é]{0,20}`).Draw(t, "id"),
			},
		}
	})
	anyACL = rapid.Map(rapid.SliceOfN(anyEntry, 1, 4), func(a []znode.ACLEntry) znode.ACL { return a })
)

// anyOp draws an operation of one of the verbs.
func anyOp(t *rapid.T, verbs ...text.Verb) text.Op {
	op := text.Op{Verb: rapid.SampledFrom(verbs).Draw(t, "verb"), Path: anyPath.Draw(t, "path"), Version: text.AnyVersion}
	switch op.Verb {
	case text.VerbCreate:
		op.Value = anyValue.Draw(t, "value")
		op.Parents = rapid.Bool().Draw(t, "parents")
		op.Mode = rapid.SampledFrom([]znode.Mode{
			znode.Persistent, znode.PersistentSequential, znode.Container, znode.PersistentTTL, znode.PersistentSequentialTTL,
			znode.Ephemeral, znode.EphemeralSequential,
		}).Draw(t, "mode")
		if op.Mode.TTL() {
			op.TTLMS = rapid.Int64Range(1, znode.MaxTTLMS).Draw(t, "ttl")
		}
		if rapid.Bool().Draw(t, "has acl") {
			op.ACL = anyACL.Draw(t, "acl")
		}
	case text.VerbSet:
		op.Value = anyValue.Draw(t, "value")
		op.Create = rapid.Bool().Draw(t, "create")
		op.Version = anyVersion.Draw(t, "version")
	case text.VerbRm:
		op.Version = anyVersion.Draw(t, "version")
		if op.Recursive = rapid.Bool().Draw(t, "recursive"); op.Recursive {
			op.Limit = anyCount.Draw(t, "limit")
		}
	case text.VerbCheck:
		op.Version = anyVersion.Draw(t, "version")
	case text.VerbSetACL:
		op.Version = anyVersion.Draw(t, "version")
		op.ACL = anyACL.Draw(t, "acl")
	}
	if op.Value == nil && (op.Verb == text.VerbCreate || op.Verb == text.VerbSet) {
		op.Value = []byte{}
	}
	return op
}

var anyRequest = rapid.Custom(func(t *rapid.T) *text.Request {
	verb := rapid.Map(rapid.IntRange(int(text.VerbGet), int(text.VerbAdmin)), func(n int) text.Verb { return text.Verb(n) }).
		Filter(func(v text.Verb) bool { return v != text.VerbCheck }).Draw(t, "verb")
	r := &text.Request{Op: text.Op{Verb: verb, Version: text.AnyVersion}, CRLF: rapid.Bool().Draw(t, "crlf"), Tag: anyTag.Draw(t, "tag")}
	switch verb {
	case text.VerbTxn:
		for range rapid.IntRange(1, 5).Draw(t, "ops") {
			r.Ops = append(r.Ops, anyOp(t, text.VerbCreate, text.VerbSet, text.VerbRm, text.VerbCheck))
		}
	case text.VerbGet, text.VerbLs, text.VerbTree, text.VerbExists:
		r.Path = anyPath.Draw(t, "path")
		r.Watch = verb != text.VerbTree && anyFlag.Draw(t, "watch")
		if verb == text.VerbExists {
			break
		}
		r.Stat = rapid.Bool().Draw(t, "stat")
		if verb == text.VerbGet {
			r.Lin = rapid.Bool().Draw(t, "lin")
			break
		}
		r.Limit = anyCount.Draw(t, "limit")
		if verb == text.VerbLs {
			r.After = anyText.Draw(t, "after")
			break
		}
		r.Data = rapid.Bool().Draw(t, "data")
		r.Depth = rapid.Int32Range(0, 1<<31-1).Draw(t, "depth")
		if rapid.Bool().Draw(t, "paging") {
			r.After = znode.Join(r.Path, "x y")
		}
	case text.VerbSnapshot:
		drawZxid(t, r)
	case text.VerbHello:
		drawZxid(t, r)
		r.Name = anyText.Draw(t, "client")
		if r.HasFormat = rapid.Bool().Draw(t, "has format"); r.HasFormat {
			r.Format = text.Format(rapid.IntRange(0, 2).Draw(t, "format"))
		}
	case text.VerbFormat:
		r.HasFormat, r.Format = true, text.Format(rapid.IntRange(0, 2).Draw(t, "format"))
	case text.VerbAuth:
		r.Name = someText.Filter(func(s string) bool { return !bytes.Contains([]byte(s), []byte(":")) }).Draw(t, "user")
		r.Value = anyBytes.Draw(t, "password")
	case text.VerbHelp:
		r.Name = anyText.Draw(t, "topic")
	case text.VerbAdmin:
		drawAdmin(t, r)
	case text.VerbPing, text.VerbInfo, text.VerbQuit:
	case text.VerbWatch, text.VerbUnwatch, text.VerbWait, text.VerbFollow, text.VerbSession, text.VerbSessions, text.VerbLock, text.VerbUnlock:
		drawLive(t, r)
	default:
		r.Op = anyOp(t, verb)
	}
	return r
})

// drawAdmin draws the words of ADMIN.
func drawAdmin(t *rapid.T, r *text.Request) {
	anyNode := someText.Filter(func(s string) bool { return len(s) <= text.MaxNodeBytes })
	add := func(words ...string) { r.Words = append(r.Words, words...) }
	add(rapid.SampledFrom([]string{
		text.AdminMembers, text.AdminAdd, text.AdminRemove, text.AdminPromote, text.AdminReplace, text.AdminTransfer, text.AdminLeave,
	}).Draw(t, "what"))
	more := anyFlag.Draw(t, "more")
	switch r.Words[0] {
	case text.AdminAdd:
		add(rapid.SampledFrom([]string{"h:1", "[::1]:65535", ":x:2", "a b:3"}).Draw(t, "address"))
	case text.AdminRemove:
		if add(anyNode.Draw(t, "node")); more {
			add(text.AdminForce)
		}
	case text.AdminPromote:
		add(anyNode.Draw(t, "node"))
	case text.AdminReplace:
		add(anyNode.Draw(t, "old"), anyNode.Draw(t, "new"))
	case text.AdminTransfer:
		if more {
			add(anyNode.Draw(t, "node"))
		}
	}
}

func drawZxid(t *rapid.T, r *text.Request) {
	if r.HasZxid = anyFlag.Draw(t, "has zxid"); r.HasZxid {
		r.Zxid = anyZxid.Draw(t, "zxid")
	}
}

func drawHold(t *rapid.T, r *text.Request) {
	if r.HasHold = anyFlag.Draw(t, "has hold"); r.HasHold {
		r.HoldMS = anyWait.Draw(t, "hold")
	}
}

// drawTimeout sets the default if it draws none.
func drawTimeout(t *rapid.T, r *text.Request, without int64) {
	r.TimeoutMS = without
	if r.HasTimeout = anyFlag.Draw(t, "has timeout"); r.HasTimeout {
		r.TimeoutMS = anyWait.Draw(t, "timeout")
	}
}

// drawLive draws the arguments of the verbs of live.go.
func drawLive(t *rapid.T, r *text.Request) {
	if r.Verb != text.VerbUnwatch && r.Verb != text.VerbSession && r.Verb != text.VerbSessions {
		r.Path = anyPath.Draw(t, "path")
	}
	anyID := rapid.Map(rapid.Uint64Min(1), func(n uint64) int64 { return int64(n) })
	switch r.Verb {
	case text.VerbWatch:
		r.Recursive = anyFlag.Draw(t, "recursive")
		r.Persistent = r.Recursive || anyFlag.Draw(t, "persistent")
		r.Kind = rapid.SampledFrom([]text.Watched{text.WatchData, text.WatchExists, text.WatchChildren}).
			Filter(func(k text.Watched) bool { return k != text.WatchChildren || !r.Recursive }).Draw(t, "kind")
		drawZxid(t, r)
	case text.VerbFollow:
		r.Recursive = anyFlag.Draw(t, "recursive")
		r.Data = anyFlag.Draw(t, "data")
		drawZxid(t, r)
	case text.VerbUnwatch:
		r.ID = rapid.Int64Min(0).Draw(t, "id")
	case text.VerbWait:
		r.Condition = text.Condition(rapid.IntRange(int(text.UntilExists), int(text.UntilValue)).Draw(t, "condition"))
		if r.Condition == text.UntilValue {
			r.Value = anyValue.Draw(t, "value")
		}
		drawZxid(t, r)
		drawTimeout(t, r, text.DefaultWaitMS)
	case text.VerbLock:
		drawTimeout(t, r, 0)
		if r.Shared = anyFlag.Draw(t, "shared"); !r.Shared {
			r.Slots = rapid.Int32Range(0, 1<<31-1).Draw(t, "slots")
		}
	case text.VerbSessions:
		r.Limit = anyCount.Draw(t, "limit")
		if anyFlag.Draw(t, "paging") {
			r.Session = anyID.Draw(t, "after")
		}
	case text.VerbSession:
		r.Action = text.Action(rapid.IntRange(int(text.NewSession), int(text.CloseSession)).Draw(t, "action"))
		switch r.Action {
		case text.NewSession:
			r.TTLMS = rapid.Int64Range(1, text.MaxWaitMS).Draw(t, "ttl")
		case text.ResumeSession:
			r.TTLMS = rapid.Int64Range(1, text.MaxWaitMS).Draw(t, "ttl")
			r.Session = anyID.Draw(t, "id")
			r.Value = anyValue.Draw(t, "password")
			drawZxid(t, r)
		case text.DetachSession:
			if drawHold(t, r); !r.HasHold {
				r.HoldMS = text.DefaultDetachMS
			}
		case text.CloseSession:
			if anyFlag.Draw(t, "another's") {
				r.Session = anyID.Draw(t, "id")
			}
		}
		if r.Action == text.NewSession || r.Action == text.ResumeSession {
			drawHold(t, r)
			if r.HasLive = anyFlag.Draw(t, "has live"); r.HasLive {
				r.Live = rapid.SampledFrom([]text.Live{text.LiveTCP, text.LivePing}).Draw(t, "live")
			}
		}
	}
}

// TestRequestsRoundTrip: a Parser reads what AppendRequest writes, however the bytes are split.
func TestRequestsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		reqs := rapid.SliceOfN(anyRequest, 1, 4).Draw(t, "requests")
		var in []byte
		var want []outcome
		for _, r := range reqs {
			in = text.AppendRequest(in, r)
			want = append(want, outcome{req: clone(r)})
		}
		step := rapid.IntRange(1, len(in)).Draw(t, "step")
		got := feed(t, text.DefaultLimits(), in, step)
		for i := range min(len(got), len(want)) {
			if got[i].err != nil {
				t.Fatalf("%q is refused: %v", in, got[i].err)
			}
		}
		sameOutcomes(t, string(in), got, want)
	})
}

var anyFields = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) text.Field {
	key := rapid.SampledFrom([]string{text.KeyVersion, text.KeyPath, text.KeyZxid, "newer"}).Draw(t, "key")
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		return text.Int(key, rapid.Int64().Draw(t, "int"))
	case 1:
		return text.Hex(key, rapid.Uint64().Draw(t, "hex"))
	default:
		return text.Str(key, anyText.Draw(t, "str"))
	}
}), 0, 4)

func anyReply(t *rapid.T, kinds ...text.Kind) text.Reply {
	r := text.Reply{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Fields: anyFields.Draw(t, "fields")}
	switch r.Kind {
	case text.KindOK:
		r.Arg = rapid.SampledFrom([]string{"", "pong", "bye"}).Draw(t, "arg")
	case text.KindItem:
		r.Arg = anyText.Draw(t, "arg")
	case text.KindData, text.KindChunk:
		r.Data = anyBytes.Draw(t, "data")
	case text.KindEvent:
		r.Arg = rapid.SampledFrom([]string{"created", "changed", "deleted", "children", "expired", "moved"}).Draw(t, "type")
		if anyFlag.Draw(t, "has data") {
			r.Data = append([]byte{}, anyBytes.Draw(t, "data")...)
		}
	case text.KindErr:
		r.Code = rapid.SampledFrom(znode.Codes()[1:]).Draw(t, "code")
		r.Message = anyText.Draw(t, "message")
	case text.KindList:
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			r.Items = append(r.Items, anyReply(t, text.KindItem, text.KindData, text.KindOK, text.KindErr))
		}
	}
	return r
}

// TestRepliesRoundTrip: a Reader reads what Append writes as text, however the bytes are split.
func TestRepliesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var in []byte
		var want []text.Reply
		crlf := rapid.Bool().Draw(t, "crlf")
		for range rapid.IntRange(1, 4).Draw(t, "replies") {
			r := anyReply(t, text.KindOK, text.KindData, text.KindList, text.KindErr, text.KindChunk, text.KindEnd, text.KindEvent)
			if r.Kind != text.KindEvent {
				r.Tag = anyTag.Draw(t, "tag")
			}
			in = r.Append(in, text.FormatText, crlf)
			want = append(want, r)
		}
		got, err := readAll(t, in, rapid.IntRange(1, len(in)).Draw(t, "step"))
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d replies of %d, %v: %q", len(got), len(want), err, in)
		}
		for i := range got {
			a, b := got[i].Append(nil, text.FormatText, false), want[i].Append(nil, text.FormatText, false)
			if !bytes.Equal(a, b) || !bytes.Equal(got[i].Data, want[i].Data) || got[i].Arg != want[i].Arg {
				t.Fatalf("got %q\nwant %q", a, b)
			}
			if want[i].Kind == text.KindEvent && (got[i].Data == nil) != (want[i].Data == nil) {
				t.Fatalf("%q: no value and the empty one are mixed up", b)
			}
			for j, f := range want[i].Fields {
				if got[i].Fields[j].String() != f.String() {
					t.Fatalf("field %v is read as %v", f, got[i].Fields[j])
				}
			}
			if !slices.EqualFunc(got[i].Items, want[i].Items, func(a, b text.Reply) bool { return a.Kind == b.Kind && a.Arg == b.Arg }) {
				t.Fatalf("items %v are read as %v", want[i].Items, got[i].Items)
			}
		}
	})
}
