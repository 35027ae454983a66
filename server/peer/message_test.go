package peer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

const from, to = 0x1111, 0x2222

func msg(t raftpb.MessageType, f func(m *raftpb.Message)) *raftpb.Message {
	m := &raftpb.Message{Type: t.Enum(), From: new(uint64(from)), To: new(uint64(to))}
	if f != nil {
		f(m)
	}
	return m
}

func ent(t raftpb.EntryType, index, term uint64, data string) *raftpb.Entry {
	e := &raftpb.Entry{Type: t.Enum(), Index: &index, Term: &term}
	if data != "" {
		e.Data = []byte(data)
	}
	return e
}

func u(n int) *uint64 { return new(uint64(n)) }

// golden has a message of each kind with its bytes, which must never change.
var golden = []struct {
	m   *raftpb.Message
	hex string
}{
	{msg(raftpb.MsgApp, func(m *raftpb.Message) {
		m.Term, m.LogTerm, m.Index, m.Commit = u(5), u(4), u(300), u(299)
		m.Entries = []*raftpb.Entry{ent(raftpb.EntryNormal, 301, 4, "ab"), ent(raftpb.EntryNormal, 302, 5, ""), ent(raftpb.EntryConfChangeV2, 303, 5, "c")}
	}), "03 011e 05 04 ac02 ab02 03 04 02 6162 00 ae02 05 00 06 01 63"},
	{msg(raftpb.MsgAppResp, func(m *raftpb.Message) {
		m.Term, m.LogTerm, m.Index, m.RejectHint, m.Reject = u(5), u(4), u(300), u(200), new(true)
	}), "04 006e 05 04 ac02 c801"},
	{msg(raftpb.MsgVote, func(m *raftpb.Message) {
		m.Term, m.LogTerm, m.Index, m.Context = u(6), u(5), u(7), []byte("CampaignTransfer")
	}), "05 008e 06 05 07 10 43616d706169676e5472616e73666572"},
	{msg(raftpb.MsgVoteResp, func(m *raftpb.Message) { m.Term = u(6) }), "06 0002 06"},
	{msg(raftpb.MsgSnap, func(m *raftpb.Message) {
		m.Term = u(7)
		m.Snapshot = &raftpb.Snapshot{Data: []byte("d"), Metadata: &raftpb.SnapshotMetadata{Index: u(9), Term: u(6), ConfState: &raftpb.ConfState{
			Voters: []uint64{1, 2}, Learners: []uint64{3}, VotersOutgoing: []uint64{4}, LearnersNext: []uint64{5}, AutoLeave: new(true)}}}
	}), "07 0202 07 09 06 01 64 01 02 0000000000000001 0000000000000002 01 0000000000000003 01 0000000000000004 01 0000000000000005"},
	{msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Term, m.Commit, m.Context = u(1), u(2), []byte{7} }), "08 0092 01 02 01 07"},
	{msg(raftpb.MsgHeartbeatResp, func(m *raftpb.Message) { m.Term = u(1) }), "09 0002 01"},
	{msg(raftpb.MsgTransferLeader, func(m *raftpb.Message) { m.From = u(0x3333) }), "0d 0001 0000000000003333"},
	{msg(raftpb.MsgTimeoutNow, func(m *raftpb.Message) { m.Term = u(1) }), "0e 0002 01"},
	{msg(raftpb.MsgReadIndex, func(m *raftpb.Message) { m.Entries = []*raftpb.Entry{ent(raftpb.EntryNormal, 0, 0, "r")} }), "0f 0100 01 00 00 00 01 72"},
	{msg(raftpb.MsgReadIndexResp, func(m *raftpb.Message) {
		m.Term, m.Index, m.Entries = u(1), u(8), []*raftpb.Entry{ent(raftpb.EntryNormal, 0, 0, "r")}
	}), "10 010a 01 08 01 00 00 00 01 72"},
	{msg(raftpb.MsgPreVote, func(m *raftpb.Message) { m.Term, m.LogTerm, m.Index = u(6), u(5), u(7) }), "11 000e 06 05 07"},
	{msg(raftpb.MsgPreVoteResp, func(m *raftpb.Message) { m.Term, m.Reject = u(6), new(true) }), "12 0042 06"},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inFrame puts a message after its length.
func inFrame(m []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(m))), m...) }

func TestGolden(t *testing.T) {
	seen := map[raftpb.MessageType]bool{}
	for _, g := range golden {
		want := unhex(t, g.hex)
		if got := appendMessage(nil, g.m, from); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", g.m.GetType(), got, want)
		}
		ms, err := parseMessages(inFrame(want), from, to)
		if err != nil {
			t.Errorf("%s: %v", g.m.GetType(), err)
			continue
		}
		same(t, ms[0], g.m)
		seen[g.m.GetType()] = true
	}
	for i := range raftpb.MessageType_name {
		if mayTravel(raftpb.MessageType(i)) != seen[raftpb.MessageType(i)] {
			t.Errorf("%s: golden bytes are missing, or too many", raftpb.MessageType(i))
		}
	}
}

// same compares like raft: absent, zero and empty are the same.
func same(t interface {
	Helper()
	Fatalf(string, ...any)
}, got, want *raftpb.Message) {
	t.Helper()
	if a, b := plain(got), plain(want); !proto.Equal(a, b) {
		t.Fatalf("got %v\nwant %v", a, b)
	}
}

func plain(m *raftpb.Message) *raftpb.Message {
	m = proto.Clone(m).(*raftpb.Message)
	for _, p := range []**uint64{&m.Term, &m.LogTerm, &m.Index, &m.Commit, &m.RejectHint} {
		if *p != nil && **p == 0 {
			*p = nil
		}
	}
	if !m.GetReject() {
		m.Reject = nil
	}
	if len(m.Context) == 0 {
		m.Context = nil
	}
	for _, e := range m.Entries {
		e.Type, e.Index, e.Term = e.GetType().Enum(), new(e.GetIndex()), new(e.GetTerm())
		if len(e.Data) == 0 {
			e.Data = nil
		}
	}
	if s := m.Snapshot; s != nil {
		s.Metadata = raftpb.EnsureSnapshotMetadata(s.Metadata)
		if len(s.Data) == 0 {
			s.Data = nil
		}
	}
	return m
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 3))
		var b []byte
		var want []*raftpb.Message
		for range rapid.IntRange(1, 5).Draw(t, "messages") {
			g := rapid.SampledFrom(golden).Draw(t, "kind")
			m := msg(g.m.GetType(), nil)
			for _, p := range []**uint64{&m.Term, &m.LogTerm, &m.Index, &m.Commit, &m.RejectHint} {
				if n := number.Draw(t, "number"); rapid.Bool().Draw(t, "there") {
					*p = &n
				}
			}
			m.Reject = new(rapid.Bool().Draw(t, "reject"))
			m.Context = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "context")
			index, term := m.GetIndex(), m.GetLogTerm()
			for range rapid.IntRange(0, 8).Draw(t, "entries") {
				index++
				if rapid.IntRange(0, 3).Draw(t, "jump") == 0 {
					index, term = number.Draw(t, "index"), number.Draw(t, "term")
				}
				typ := raftpb.EntryType(rapid.IntRange(0, 2).Draw(t, "type"))
				m.Entries = append(m.Entries, ent(typ, index, term, string(rapid.SliceOf(rapid.Byte()).Draw(t, "data"))))
			}
			switch m.GetType() {
			case raftpb.MsgTransferLeader:
				m.From = new(number.Draw(t, "from"))
			case raftpb.MsgSnap:
				ids := rapid.SliceOfN(number, 0, 5)
				m.Snapshot = &raftpb.Snapshot{Data: rapid.SliceOf(rapid.Byte()).Draw(t, "descriptor")}
				if rapid.Bool().Draw(t, "metadata") {
					m.Snapshot.Metadata = &raftpb.SnapshotMetadata{Index: new(number.Draw(t, "index")), Term: new(number.Draw(t, "term")),
						ConfState: &raftpb.ConfState{
							Voters: ids.Draw(t, "voters"), Learners: ids.Draw(t, "learners"), VotersOutgoing: ids.Draw(t, "outgoing"),
							LearnersNext: ids.Draw(t, "next"), AutoLeave: new(rapid.Bool().Draw(t, "leave")),
						}}
				}
			}
			if m.GetFrom() == from && m.GetType() == raftpb.MsgTransferLeader {
				m.From = u(from)
			}
			b = append(b, inFrame(appendMessage(nil, m, from))...)
			want = append(want, m)
		}
		got, err := parseMessages(b, from, to)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d of %d messages: %v", len(got), len(want), err)
		}
		for i := range got {
			same(t, got[i], want[i])
		}
	})
}

func TestMessagesRefused(t *testing.T) {
	entries := func(n int) string {
		return hex.EncodeToString(binary.AppendUvarint(nil, uint64(n))) + strings.Repeat("0400", n)
	}
	for name, in := range map[string]string{
		"nothing":                       "",
		"a length of nothing":           "00",
		"a length without a message":    "05",
		"no mask":                       "02 0800",
		"a claimed length":              "ffffffff0f 080000",
		"a local message":               "03 000000",
		"a proposal":                    "03 020000",
		"a storage message":             "03 130000",
		"forget leader":                 "03 170000",
		"an unknown type":               "03 630000",
		"an unknown bit":                "03 080400",
		"from in a heartbeat":           "0b 080001 0000000000003333",
		"from the dialer, said":         "0b 0d0001 0000000000001111",
		"half a from":                   "07 0d0001 00000000",
		"a term of 0":                   "04 080002 00",
		"a long uvarint":                "05 080002 8100",
		"an endless uvarint":            "0e 080002 ffffffffffffffffffffff",
		"a missing term":                "03 080002",
		"an empty context":              "04 080080 00",
		"a context beyond the message":  "05 080080 09 01",
		"bytes behind":                  "04 080000 00",
		"no entries, counted":           "04 030100 00",
		"more entries than bytes":       "05 030100 05 0400",
		"a huge count":                  "0d 030100 ffffffffffffffffff01",
		"an entry of type 3":            "06 030100 01 07 00",
		"an entry with an unknown bit":  "06 030100 01 0c 00",
		"an entry that could be short":  "08 030100 01 00 01 00 00",
		"data beyond the entry":         "06 030100 01 04 05",
		"a snapshot in an append":       "03 030200",
		"a snapshot message without":    "03 070000",
		"half a snapshot":               "05 070200 0101",
		"a snapshot that leaves doubly": "0b 070200 01 01 00 02 00000000",
		"voters beyond the message":     "0b 070200 01 01 00 00 ff000000",
	} {
		ms, err := parseMessages(unhex(t, in), from, to)
		if d := damage(""); err == nil || !errors.As(err, &d) {
			t.Errorf("%s: %v, %v", name, ms, err)
		}
	}
	// The limits of a frame, and one beyond each.
	one := unhex(t, "030100"+entries(MaxEntries))
	if _, err := parseMessages(inFrame(one), from, to); err != nil {
		t.Errorf("%d entries: %v", MaxEntries, err)
	}
	half := inFrame(unhex(t, "030100"+entries(MaxEntries/2+1)))
	if _, err := parseMessages(append(half, half...), from, to); err == nil {
		t.Errorf("more than %d entries in two messages pass", MaxEntries)
	}
	many := bytes.Repeat([]byte{3, 8, 0, 0}, MaxMessages)
	if _, err := parseMessages(many, from, to); err != nil {
		t.Errorf("%d messages: %v", MaxMessages, err)
	}
	if _, err := parseMessages(append(many, 3, 8, 0, 0), from, to); err == nil {
		t.Errorf("more than %d messages pass", MaxMessages)
	}
}

// A claimed length allocates nothing for bytes that have not arrived.
func TestClaims(t *testing.T) {
	claim := append(binary.AppendUvarint(nil, 12), 3, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := parseMessages(claim, from, to); err == nil {
			t.Fatal("it passes")
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes allocated", n)
	}
}

func TestOwnMistakesPanic(t *testing.T) {
	for name, m := range map[string]*raftpb.Message{
		"local":               msg(raftpb.MsgHup, nil),
		"storage":             msg(raftpb.MsgStorageAppend, nil),
		"with responses":      msg(raftpb.MsgApp, func(m *raftpb.Message) { m.Responses = []*raftpb.Message{m} }),
		"with a vote":         msg(raftpb.MsgApp, func(m *raftpb.Message) { m.Vote = u(1) }),
		"of another":          msg(raftpb.MsgApp, func(m *raftpb.Message) { m.From = u(9) }),
		"a snapshot, without": msg(raftpb.MsgSnap, nil),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: it is sent", name)
				}
			}()
			mustTravel(m, from)
		}()
	}
}
