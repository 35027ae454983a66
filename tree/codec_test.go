package tree_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coord/tree"
	"coord/tree/znode"
)

// decode copies the txns of a batch.
func decode(batch []byte) ([]tree.Txn, error) {
	var out []tree.Txn
	err := tree.Decode(batch, func(x *tree.Txn) {
		c := *x
		c.Data, c.Password = slices.Clone(x.Data), slices.Clone(x.Password)
		c.Ops = append([]tree.Op(nil), x.Ops...)
		for i := range c.Ops {
			c.Ops[i].Data = slices.Clone(c.Ops[i].Data)
		}
		out = append(out, c)
	})
	return out, err
}

// carried is the part of a txn that the log keeps.
func carried(x tree.Txn, timeMS int64) tree.Txn {
	out := tree.Txn{Origin: x.Origin, Seq: x.Seq, TimeMS: timeMS, Session: x.Session, Attachment: x.Attachment, Op: tree.Op{Kind: x.Kind}}
	if len(x.IDs) > 0 {
		out.IDs = x.IDs
	}
	switch x.Kind {
	case tree.KindMulti:
		for _, op := range x.Ops {
			out.Ops = append(out.Ops, carriedOp(op))
		}
	case tree.KindSession, tree.KindAttach:
		out.Target, out.TimeoutMS, out.Password = x.Target, x.TimeoutMS, append([]byte{}, x.Password...)
	case tree.KindClose:
		out.Target = x.Target
	case tree.KindSettings:
		out.Settings = x.Settings
	case tree.KindReap:
		out.Target, out.Op = x.Target, carriedOp(x.Op)
	default:
		out.Op = carriedOp(x.Op)
	}
	return out
}

func carriedOp(op tree.Op) tree.Op {
	out := tree.Op{Kind: op.Kind, Flags: op.Flags, Mode: op.Mode, Version: op.Version, Path: op.Path}
	switch op.Kind {
	case tree.KindCreate:
		out.Data = op.Data
		if op.Mode.TTL() {
			out.TTLMS = op.TTLMS
		}
	case tree.KindSetData:
		out.Data = op.Data
	case tree.KindDelete:
		if op.Flags&tree.Recursive != 0 {
			out.Limit = op.Limit
		}
	}
	if (op.Kind == tree.KindCreate || op.Kind == tree.KindSetACL) && len(op.ACL) > 0 {
		out.ACL = op.ACL
	}
	return out
}

// Generators of arbitrary txns, sensible or not.
var (
	anyIdentity = rapid.Custom(func(t *rapid.T) znode.Identity {
		return znode.Identity{Scheme: rapid.SampledFrom([]string{"ip", "digest", "super", ""}).Draw(t, "scheme"), ID: rapid.SampledFrom([]string{"", "a", "b:c"}).Draw(t, "id")}
	})
	anyIDs = rapid.SliceOfN(anyIdentity, 0, 3)
	anyACL = rapid.Custom(func(t *rapid.T) znode.ACL {
		if rapid.Bool().Draw(t, "open") {
			return znode.OpenACL
		}
		var a znode.ACL
		for _, id := range anyIDs.Draw(t, "ids") {
			a = append(a, znode.ACLEntry{Perms: znode.Perms(rapid.SampledFrom([]int32{0, 1, 31, -1, math.MinInt32}).Draw(t, "perms")), Identity: id})
		}
		return a
	})
	anyData = rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 200))
	opKinds = []tree.Kind{tree.KindCreate, tree.KindDelete, tree.KindSetData, tree.KindSetACL, tree.KindCheck, tree.KindReap}
	anyOp   = opOf(opKinds)
	// The ops that are allowed in a multi.
	anySubOp = opOf(opKinds[:5])
	opOf     = func(kinds []tree.Kind) *rapid.Generator[tree.Op] {
		return rapid.Custom(func(t *rapid.T) tree.Op {
			return tree.Op{
				Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Mode: znode.Mode(rapid.Uint8().Draw(t, "mode")), Version: rapid.Int32().Draw(t, "version"),
				Flags: tree.Flags(rapid.Uint8().Draw(t, "flags")), TTLMS: rapid.Int64().Draw(t, "ttl"), Limit: rapid.Int32().Draw(t, "limit"),
				Path: rapid.String().Draw(t, "path"), Data: anyData.Draw(t, "data"), ACL: anyACL.Draw(t, "acl"),
			}
		})
	}
	anyTxn = rapid.Custom(func(t *rapid.T) tree.Txn {
		x := tree.Txn{
			Origin: rapid.SampledFrom([]uint64{0, 1, math.MaxUint64}).Draw(t, "origin"), Seq: rapid.Uint64().Draw(t, "seq"),
			Session: rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64}).Draw(t, "session"), IDs: anyIDs.Draw(t, "ids"), Op: anyOp.Draw(t, "op"), Ops: rapid.SliceOfN(anySubOp, 0, 5).Draw(t, "ops"),
			Target: rapid.Int64().Draw(t, "target"), TimeoutMS: rapid.Int32().Draw(t, "timeout"), Password: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "password"),
			Settings: tree.Settings{EnforceQuota: rapid.Bool().Draw(t, "quota"), ExtendedTypes: rapid.Bool().Draw(t, "types"), SkipACL: rapid.Bool().Draw(t, "skip")},
		}
		if x.Session != 0 {
			x.Attachment = rapid.Uint32().Draw(t, "attachment")
		}
		if rapid.Bool().Draw(t, "not an op") {
			x.Kind = rapid.SampledFrom([]tree.Kind{tree.KindMulti, tree.KindSession, tree.KindAttach, tree.KindClose, tree.KindSettings}).Draw(t, "txn kind")
		}
		return x
	})
)

var anyFloor = rapid.Custom(func(t *rapid.T) tree.Floor {
	return tree.Floor{Node: rapid.Uint64().Draw(t, "node"), Index: rapid.Uint64().Draw(t, "index")}
})

// TestBatchRoundTrip: what goes in comes out, for several batches of one Encoder.
func TestBatchRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var e tree.Encoder
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			txns := rapid.SliceOfN(anyTxn, 0, 8).Draw(t, "txns")
			now := rapid.Int64().Draw(t, "time")
			var want []tree.Txn
			for i := range txns {
				e.Add(&txns[i])
				want = append(want, carried(txns[i], now))
			}
			most, count := e.Len(), e.Count()
			floors := rapid.SliceOfN(anyFloor, 0, 3).Draw(t, "floors")
			batch := e.AppendBatch(nil, now, floors...)
			if len(batch) > most+18*len(floors) || count != len(txns) || e.Count() != 0 {
				t.Fatalf("%d bytes, at most %d told; count %d of %d, then %d", len(batch), most, count, len(txns), e.Count())
			}
			got, err := decode(batch)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
			}
			if told, err := tree.DecodeFloors(batch); err != nil || !slices.Equal(told, floors) {
				t.Fatalf("floors %v, %v, want %v", told, err, floors)
			}
		}
	})
}

// TestGoldenBatches pins the bytes in logs: one txn of each kind, then the tables of a batch.
// Batches of all older versions must stay readable.
func TestGoldenBatches(t *testing.T) {
	t.Parallel()
	const now = 1700000000000
	ids := []znode.Identity{address, user1}
	acl := []znode.ACLEntry{entry(znode.All, "digest", "u:h"), entry(znode.Read, "world", "anyone")}
	reap := tree.Txn{Origin: 1, Seq: 2, Op: tree.Op{Kind: tree.KindReap, Path: "/c"}, Target: 1<<32 | 5}
	settings := tree.Txn{Origin: 1, Seq: 2, Op: tree.Op{Kind: tree.KindSettings}, Settings: tree.Settings{EnforceQuota: true, SkipACL: true}}
	open := openTxn(0x100000000000001)
	one := func(op tree.Op) []tree.Txn {
		return []tree.Txn{{Origin: 0x0123456789abcdef, Seq: 300, Session: 5, IDs: ids[:1], Op: op}}
	}
	for _, c := range []struct {
		name string
		txns []tree.Txn
		hex  string
	}{
		{"empty", nil,
			"0180d095ffbc3100"},
		{"create", one(createData("/a", "hi")),
			"0180d095ffbc31010100efcdab8967452301ac020a00010269700831302e312e322e33000000022f6100036869"},
		{"create with an ACL", one(createACL("/a", acl...)),
			"0180d095ffbc31010100efcdab8967452301ac020a00010269700831302e312e322e33000000022f6101023e0664696765737403753a680205776f726c6406616e796f6e650264"},
		{"create of null data", one(tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL, Flags: tree.Parents}),
			"0180d095ffbc31010100efcdab8967452301ac020a00010269700831302e312e322e33010000022f610000"},
		{"create with a TTL", one(createMode("/a", znode.PersistentSequentialTTL)),
			"0180d095ffbc31010100efcdab8967452301ac020a00010269700831302e312e322e33000600022f610002648827"},
		{"delete", one(remove("/a", 3)),
			"0180d095ffbc31010200efcdab8967452301ac020a00010269700831302e312e322e33000006022f61"},
		{"recursive delete", one(removeAll("/a", 1000)),
			"0180d095ffbc31010200efcdab8967452301ac020a00010269700831302e312e322e33040001022f61d00f"},
		{"set", one(flagged(set("/a", "hi", -1), tree.OrCreate)),
			"0180d095ffbc31010300efcdab8967452301ac020a00010269700831302e312e322e33020001022f61036869"},
		{"set ACL", one(setACL("/a", 0, acl...)),
			"0180d095ffbc31010400efcdab8967452301ac020a00010269700831302e312e322e33000000022f6101023e0664696765737403753a680205776f726c6406616e796f6e65"},
		{"check", one(check("/a", math.MaxInt32)),
			"0180d095ffbc31010500efcdab8967452301ac020a00010269700831302e312e322e330000feffffff0f022f61"},
		{"multi", []tree.Txn{{Origin: 1, Seq: 2, Op: tree.Op{Kind: tree.KindMulti}, Ops: []tree.Op{check("/a", 1), remove("/a", 1)}}},
			"0180d095ffbc310106000100000000000000020000000205000002022f6102000002022f61"},
		{"reap", []tree.Txn{reap},
			"0180d095ffbc310107000100000000000000020000008a80808020000000022f63"},
		{"session", []tree.Txn{open},
			"0180d095ffbc31010800000000000000000000000000828080808080808002c03e1030313233343536373839616263646566"},
		{"close", []tree.Txn{{Origin: 1, Seq: 2, Op: tree.Op{Kind: tree.KindClose}, Target: -5}},
			"0180d095ffbc3101090001000000000000000200000009"},
		{"settings", []tree.Txn{settings},
			"0180d095ffbc31010a0001000000000000000200000005"},
		{"tables", []tree.Txn{
			{Origin: 1, Seq: 1, IDs: ids, Op: createACL("/a", acl...)}, {Origin: 2, Seq: 1, IDs: ids[:1], Op: setACL("/a", -1, acl...)},
			{Origin: 1, Seq: 2, IDs: ids, Op: setACL("/a", -1, acl[1])}, {Origin: 2, Seq: 2, Op: setACL("/a", -1, acl[1])}},
			"0180d095ffbc310401000100000000000000010000020269700831302e312e322e33066469676573740975313a68617368313d000000022f6101023e0664696765737403753a680205776f726c6406616e796f6e65026404010200000000000000010001010269700831302e312e322e33000001022f61010400020000000001022f6102010205776f726c6406616e796f6e65040102000200000001022f6102"},
		{"attach", []tree.Txn{{Origin: 1, Seq: 2, Op: tree.Op{Kind: tree.KindAttach}, Target: 5, Password: open.Password}},
			"0280d095ffbc31010b000100000000000000020000000a1030313233343536373839616263646566"},
		{"set through the third attachment", []tree.Txn{{Origin: 1, Seq: 2, Session: 5, Attachment: 2, Op: set("/a", "hi", -1)}},
			"0280d095ffbc310103000100000000000000020a020000000001022f61036869"},
	} {
		t.Run(c.name, func(t *testing.T) {
			second := c.hex
			if c.hex[1] == '1' { // version 2 has an attachment after a session
				second = "02" + strings.Replace(c.hex[2:], "ac020a00", "ac020a0000", 1)
			}
			const head = len("0280d095ffbc31")                                      // version and time
			third := "03" + second[2:head] + "00" + second[head:]                   // version 3 has floors
			body := strings.Replace(second[head:], "0a10303132", "0a0010303132", 1) // version 4 has a timeout in an attach
			current := "04" + second[2:head] + "00" + body
			told := "04" + second[2:head] + "02" + "efcdab8967452301" + "ac02" + "0100000000000000" + "00" + body
			var e tree.Encoder
			var want []tree.Txn
			for i := range c.txns {
				e.Add(&c.txns[i])
				want = append(want, carried(c.txns[i], now))
			}
			batch := e.AppendBatch(nil, now)
			if got := hex.EncodeToString(batch); got != current {
				t.Errorf("bytes\n got %s\nwant %s", got, current)
			}
			floors := []tree.Floor{{Node: 0x0123456789abcdef, Index: 300}, {Node: 1}}
			for i := range c.txns {
				e.Add(&c.txns[i])
			}
			if got := hex.EncodeToString(e.AppendBatch(nil, now, floors...)); got != told {
				t.Errorf("with floors\n got %s\nwant %s", got, told)
			}
			for _, golden := range []string{c.hex, second, third, current, told} {
				b, _ := hex.DecodeString(golden)
				if got, err := decode(b); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
				}
				switch got, err := tree.DecodeFloors(b); {
				case err != nil, golden == told && !slices.Equal(got, floors), golden != told && got != nil:
					t.Errorf("%s: floors %v, %v", golden, got, err)
				}
			}
		})
	}
}

// TestManyIdentities: a batch of thousands of different identities and ACLs decodes to what was encoded, in
// whatever order they repeat.
func TestManyIdentities(t *testing.T) {
	t.Parallel()
	var e tree.Encoder
	var in []tree.Txn
	for i := range 5000 {
		n := []int{i, i % 3, i % 64, i % 65, i - i%100}[i%5]
		id := znode.Identity{Scheme: "digest", ID: fmt.Sprintf("u%d:x", n)}
		x := tree.Txn{IDs: []znode.Identity{address, id}, Op: setACL("/a", -1, znode.ACLEntry{Perms: znode.All, Identity: id})}
		in = append(in, x)
		e.Add(&x)
	}
	i := 0
	err := tree.Decode(e.AppendBatch(nil, T0), func(x *tree.Txn) {
		if !slices.Equal(x.IDs, in[i].IDs) || !x.ACL.Equal(in[i].ACL) {
			t.Fatalf("txn %d: %v, %v", i, x.IDs, x.ACL)
		}
		i++
	})
	if err != nil || i != len(in) {
		t.Errorf("%d txns, %v", i, err)
	}
}

// sample is a batch with a txn of each kind.
func sample() []byte {
	var e tree.Encoder
	add := func(x tree.Txn) {
		x.IDs = []znode.Identity{address, user1}
		e.Add(&x)
	}
	ttl := createMode("/t", znode.PersistentTTL)
	ttl.ACL = znode.ReadACL
	for _, op := range []tree.Op{ttl, removeAll("/a", 7), set("/a", "data", 1), setACL("/a", 1, acls[7]...), check("/a", 1), {Kind: tree.KindReap, Path: "/t"}} {
		add(tree.Txn{Op: op, Target: 4})
	}
	add(tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Ops: []tree.Op{create("/x"), remove("/x", -1)}})
	add(openTxn(9))
	add(tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: 9, Password: openTxn(9).Password})
	add(tree.Txn{Session: 9, Attachment: 300, Op: set("/a", "data", 1)})
	add(tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: 9, Session: 9, Attachment: 1})
	add(tree.Txn{Op: tree.Op{Kind: tree.KindSettings}})
	return e.AppendBatch(nil, T0, tree.Floor{Node: 3, Index: 1 << 40}, tree.Floor{Node: 4, Index: 7})
}

// TestDecodeRefuses bytes that no Encoder wrote.
func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good := sample()
	if _, err := decode(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := decode(good[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are a batch", n, len(good))
		}
	}
	if _, err := decode(append(slices.Clone(good), 0)); err == nil {
		t.Error("a byte too many is no matter")
	}
	for _, version := range []byte{0, 5, 255} {
		b := append([]byte{version}, good[1:]...)
		_, err := decode(b)
		if _, err2 := tree.DecodeFloors(b); !errors.Is(err, tree.ErrNewerBatch) || !errors.Is(err2, tree.ErrNewerBatch) {
			t.Errorf("version %d: %v, %v", version, err, err2)
		}
	}
	for name, b := range map[string][]byte{
		"a floor that is cut short":          {3, 0, 1, 1, 0, 0, 0, 0, 0, 0},
		"a floor without an index":           {3, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0},
		"more floors than bytes":             append([]byte{3, 0, 200, 1}, make([]byte, 9*199)...),
		"a number of floors that never ends": append([]byte{3, 0}, bytes.Repeat([]byte{0xff}, 11)...),
		"nothing":                            {},
		"an index that is more than 64 bits": append([]byte{3, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0}, append(bytes.Repeat([]byte{0xff}, 10), 0)...),
	} {
		_, err := decode(b)
		if got, err2 := tree.DecodeFloors(b); err == nil || err2 == nil {
			t.Errorf("%s: %v, %v, %v", name, got, err, err2)
		}
	}
	head := func(rest ...byte) []byte { // a txn of origin 0, seq 0, session 0, without ids; kind and body are arguments
		return append([]byte{1, 0, 1, rest[0], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, rest[1:]...)
	}
	for _, c := range []struct {
		name  string
		batch []byte
	}{
		{"kind 0", head(0)},
		{"unknown kind", head(12)},
		{"unknown kind in a multi", head(6, 1, 9, 0, 0, 0, 0)},
		{"multi in a multi", head(6, 1, 6, 0)},
		{"more ops than bytes", head(6, 200, 1)},
		{"origin out of its table", append([]byte{1, 0, 1, 9, 1}, make([]byte, 20)...)},
		{"ids out of their table", append(append([]byte{1, 0, 1, 9}, make([]byte, 11)...), 2, 0, 0)},
		{"ACL out of its table", head(4, 0, 0, 0, 1, '/', 2)},
		{"version beyond 32 bits", head(5, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x20, 1, '/')},
		{"number that never ends", head(9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{"path longer than the batch", head(5, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, '/')},
		{"data longer than the batch", head(3, 0, 0, 0, 1, '/', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)},
	} {
		if got, err := decode(c.batch); err == nil || errors.Is(err, tree.ErrNewerBatch) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	if got, err := decode(head(5, 0, 0, 0, 1, '/')); err != nil || len(got) != 1 {
		t.Errorf("the test's own header: %+v, %v", got, err)
	}
}

// TestDecodeAllocatesWhatIsThere, not what a number in the batch claims.
func TestDecodeAllocatesWhatIsThere(t *testing.T) { // not parallel: it measures allocated bytes
	claim := func(kind byte, prefix ...byte) []byte {
		b := append([]byte{1, 0, 1, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, prefix...)
		b = binary.AppendUvarint(b, 1<<19)
		return append(b, bytes.Repeat([]byte{0xff}, 1<<20)...)
	}
	for name, batch := range map[string][]byte{
		"floors": append(append([]byte{3, 0}, binary.AppendUvarint(nil, 1<<19)...), make([]byte, 1<<20)...),
		"txns":   append(binary.AppendUvarint([]byte{1, 0}, math.MaxUint64), 9),
		"ids":    claim(5, 0),
		"ops":    claim(6, 0, 0),
		"acl":    claim(4, 0, 0, 0, 0, 0, 1, '/', 1),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decode(batch)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: decoded", name)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s: %d bytes allocated for a batch of %d", name, n, len(batch))
		}
	}
}

// FuzzDecode: any bytes are refused, or are txns that decode to the same after being encoded again.
// A tree accepts them without a panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(sample())
	f.Add(sample()[:40])
	f.Fuzz(func(t *testing.T, batch []byte) {
		first, err := decode(batch)
		if err != nil {
			return
		}
		var e tree.Encoder
		live := tree.New()
		var now int64
		for i := range first {
			e.Add(&first[i])
			now = first[i].TimeMS
			live.Apply(1, &first[i])
		}
		checkDigest(t, live)
		floors, err := tree.DecodeFloors(batch)
		if err != nil {
			t.Fatal(err)
		}
		b := e.AppendBatch(nil, now, floors...)
		again, err := decode(b)
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Fatalf("%v\nfirst %+v\nagain %+v", err, first, again)
		}
		if again, err := tree.DecodeFloors(b); err != nil || !slices.Equal(floors, again) {
			t.Fatalf("%v\nfloors %+v\nagain %+v", err, floors, again)
		}
	})
}
