package snapshot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// testMeta is a Meta with a value in every field that a caller fills in.
func testMeta() Meta {
	m := Meta{
		Generation: 3, RaftIndex: 4711, RaftTerm: 12, Writer: "coord-test 1.2.3",
		Conf: ConfState{Voters: []uint64{1, 2, 1 << 63}, VotersOutgoing: []uint64{7}, Learners: []uint64{4}, LearnersNext: []uint64{5}, AutoLeave: true,
			Removed: []uint64{8, 1 << 40}, Floors: []tree.Floor{{Node: 1, Index: 4000}, {Node: 1 << 63, Index: 1<<63 + 5}}},
	}
	for i := range 16 {
		m.BackupID[i], m.ClusterID[i], m.LineageID[i] = byte(i), byte(0x40+i), byte(0x80+i)
	}
	return m
}

var testCounters = tree.Counters{Zxid: znode.MakeZxid(5, 1234), EpochOffset: 3, TimeMS: 1_740_823_200_000, Settings: tree.DefaultSettings}

// tester is a testing.TB or a *rapid.T.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// freeze builds a state from the system's znodes and the given ones, in any order.
func freeze(tb tester, nodes []tree.Node, sessions ...tree.Session) *tree.Frozen {
	tb.Helper()
	b := tree.NewBuilder()
	for _, s := range sessions {
		if err := b.AddSession(s); err != nil {
			tb.Fatal(err)
		}
	}
	tree.New().Freeze().Nodes(znode.Root, func(n *tree.Node) bool {
		if !slices.ContainsFunc(nodes, func(have tree.Node) bool { return have.Path == n.Path }) {
			c := *n
			c.Data = bytes.Clone(n.Data)
			nodes = append(nodes, c)
		}
		return true
	})
	slices.SortFunc(nodes, func(a, b tree.Node) int { return ComparePaths(a.Path, b.Path) })
	for i := range nodes {
		if nodes[i].ACL == nil {
			nodes[i].ACL = znode.OpenACL
		}
		if err := b.Add(&nodes[i]); err != nil {
			tb.Fatal(err)
		}
	}
	t, err := b.Tree(testCounters)
	if err != nil {
		tb.Fatal(err)
	}
	return t.Freeze()
}

// smallState has something of every kind.
func smallState(tb testing.TB) *tree.Frozen {
	acl := znode.ACL{{Perms: znode.All, Identity: znode.Identity{Scheme: znode.SchemeDigest, ID: "ann:h4sh="}}, {Perms: znode.Read, Identity: znode.Identity{Scheme: znode.SchemeIP, ID: "10.0.0.0/8"}}}
	const session = 0x1000000000000a1
	z := func(n uint32) znode.Zxid { return znode.MakeZxid(5, n) }
	return freeze(tb, []tree.Node{
		{Path: "/app", Data: []byte("hello"), ACL: acl, Czxid: z(1), Mzxid: z(9), Pzxid: z(8), CtimeMS: 1_740_000_000_000, MtimeMS: 1_740_000_000_900, Version: 7, Aversion: 2, Created: 12},
		{Path: "/app/lock-0000000011", Data: nil, ACL: znode.OpenACL, Czxid: z(8), Mzxid: z(8), Pzxid: z(8), CtimeMS: 1_740_000_000_800, MtimeMS: 1_740_000_000_800, Owner: session},
		{Path: "/app/nœud", Data: []byte{}, ACL: acl, Czxid: z(3), Mzxid: z(3), Pzxid: z(3), CtimeMS: 1_740_000_000_100, MtimeMS: 1_740_000_000_100, Version: -1, Owner: znode.ContainerOwner},
		{Path: "/app/nød", Data: []byte{0, 1, 2, 0xff}, ACL: znode.OpenACL, Czxid: z(2), Mzxid: z(4), Pzxid: z(2), CtimeMS: 1_740_000_000_050, MtimeMS: 1_740_000_000_000, Owner: znode.TTLOwner(1000)},
		{Path: "/b", Data: bytes.Repeat([]byte("abc"), 20), ACL: znode.ReadACL, Czxid: z(5), Mzxid: z(5), Pzxid: z(5)},
	}, tree.Session{ID: session, TimeoutMS: 30_000, Password: [16]byte{1, 2, 3, 15: 16}}, tree.Session{ID: 5, TimeoutMS: 4000})
}

// million is like the state in the project's goals: 8-byte names, 1,000 znodes in each folder, 100 bytes of data.
func million(tb testing.TB, n int) *tree.Frozen {
	nodes := make([]tree.Node, 0, n+n/1000+1)
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, n*100)
	for i := 0; i < len(data); i += 4 { // hexadecimal digits: they compress to half, unlike random bytes
		binary.BigEndian.PutUint32(data[i:], 0x61616161+random.Uint32()&0x0f0f0f0f)
	}
	zxid := znode.MakeZxid(5, 1)
	for i := range n {
		if i%1000 == 0 {
			zxid++
			nodes = append(nodes, tree.Node{Path: fmt.Sprintf("/d%07d", i/1000), Data: []byte{}, Czxid: zxid, Mzxid: zxid, Pzxid: zxid + 1000, CtimeMS: testCounters.TimeMS - 1<<20 + int64(i), MtimeMS: testCounters.TimeMS - 1<<20 + int64(i), Created: 1000})
		}
		zxid++
		t := testCounters.TimeMS - 1<<20 + int64(i)
		nodes = append(nodes, tree.Node{Path: fmt.Sprintf("/d%07d/n%07d", i/1000, i%1000), Data: data[i*100 : i*100+100], Czxid: zxid, Mzxid: zxid, Pzxid: zxid, CtimeMS: t, MtimeMS: t})
	}
	return freeze(tb, nodes)
}

// encode writes a snapshot to memory.
func encode(tb tester, m Meta, f *tree.Frozen) []byte {
	tb.Helper()
	var b bytes.Buffer
	if _, err := Write(&b, m, f, Options{}); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}
