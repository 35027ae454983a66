package tree_test

import (
	"fmt"
	"math"
	"strings"

	"pgregory.net/rapid"

	"coord/tree"
	"coord/tree/znode"
)

// Values from which random txns are made.
var (
	user1   = znode.Identity{Scheme: "digest", ID: "u1:hash1="}
	user2   = znode.Identity{Scheme: "digest", ID: "u2:hash2="}
	address = znode.Identity{Scheme: "ip", ID: "10.1.2.3"}

	callers = [][]znode.Identity{
		{znode.Super}, {znode.Super, user1}, {address}, {address, user1}, {address, user1, user2}, nil,
		{{Scheme: "ip", ID: "fd00::1"}}, {{Scheme: "ip", ID: "::ffff:10.1.2.3"}},
	}
	acls = []znode.ACL{
		znode.OpenACL, znode.OpenACL, znode.OpenACL, znode.OpenACL, znode.ReadACL,
		{entry(znode.All, "auth", "")},
		{entry(znode.All, "digest", user1.ID), entry(znode.Read, "world", "anyone")},
		{entry(znode.Read|znode.Create, "digest", user1.ID), entry(znode.Write|znode.Delete, "digest", user2.ID)},
		{entry(znode.All, "ip", "10.0.0.0/8"), entry(znode.All, "ip", "10.0.0.0/8")},
		{entry(znode.All, "ip", "10.1.2.3"), entry(znode.All, "ip", "fd00::/64")},
		{entry(znode.All, "ip", "::ffff:10.1.0.0/112")},
		{entry(0, "world", "anyone"), entry(znode.All&^znode.Read, "world", "anyone")},
		{}, {entry(znode.All, "world", "nobody")}, {entry(znode.All, "digest", "u1")}, {entry(znode.All, "ip", "10.0.0.0/33")},
		{entry(znode.All, "x509", "CN=x")}, {entry(znode.All, "super", "")},
	}
	datas    = [][]byte{nil, {}, []byte("x"), []byte("yy"), []byte(strings.Repeat("long ", 8))}
	limits   = []string{"count=-1,bytes=-1=;byteHardLimit=9;countHardLimit=4", "count=1,bytes=1", "count=2,bytes=-1=;countHardLimit=2", "garbage", "byteHardLimit=3,countHardLimit=x"}
	oddPaths = []string{
		"", "a", "/", "//", "/a/", "/a//b", "/a/./b", "/a/..", "/a\x00b", "/a/\x1f", "/a/\u00e9", "/a/\u0085", "/a/\ue000", "/a/\uffff",
		"/a/\U0001F600", "/a/\xff", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "a/b",
		"/" + strings.Repeat("n", 4095), "/" + strings.Repeat("n", 4096), "/a/" + strings.Repeat("n", 4083), "/a/" + strings.Repeat("n", 4084),
	}
	kinds = []tree.Kind{
		tree.KindCreate, tree.KindCreate, tree.KindCreate, tree.KindCreate, tree.KindCreate, tree.KindCreate,
		tree.KindDelete, tree.KindDelete, tree.KindSetData, tree.KindSetData, tree.KindSetACL, tree.KindCheck,
		tree.KindReap, tree.KindSession, tree.KindSession, tree.KindAttach, tree.KindClose, tree.KindMulti, tree.KindMulti, tree.KindSettings,
	}
)

func (r *random) chance(percent int, label string) bool {
	return rapid.IntRange(0, 99).Draw(r.T, label) >= 100-percent
}

func (r *random) existing() string {
	return rapid.SampledFrom(r.model.paths()).Draw(r.T, "existing")
}

func (r *random) path() string {
	switch n := rapid.IntRange(0, 19).Draw(r.T, "what path"); {
	case n < 9:
		return r.existing()
	case n < 15:
		name := rapid.SampledFrom([]string{"a", "b", "c", "a-", ""}).Draw(r.T, "name")
		return strings.TrimSuffix(r.existing(), "/") + "/" + name
	case n < 17:
		return "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 1, 4).Draw(r.T, "names"), "/")
	case n < 19:
		of := rapid.SampledFrom([]string{"/a", "/b", "/a/a", "/last"}).Draw(r.T, "quota of")
		return "/zookeeper/quota" + of + rapid.SampledFrom([]string{"", "/zookeeper_limits", "/zookeeper_stats"}).Draw(r.T, "quota znode")
	}
	return rapid.SampledFrom(oddPaths).Draw(r.T, "odd path")
}

func (r *random) version(path string) int32 {
	n := r.model.nodes[path]
	return rapid.SampledFrom([]int32{-1, -1, -1, n.Version, n.Aversion, 0, 7, math.MinInt32}).Draw(r.T, "version")
}

func (r *random) data(path string) []byte {
	if strings.HasSuffix(path, "/zookeeper_limits") || r.chance(2, "limits as data") {
		return []byte(rapid.SampledFrom(limits).Draw(r.T, "limits"))
	}
	return rapid.SampledFrom(datas).Draw(r.T, "data")
}

func (r *random) op(kind tree.Kind) tree.Op {
	op := tree.Op{Kind: kind, Path: r.path()}
	switch kind {
	case tree.KindCreate:
		op.Mode = znode.Mode(rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7}).Draw(r.T, "mode"))
		if op.Mode.TTL() {
			op.TTLMS = rapid.SampledFrom([]int64{1, 5000, znode.MaxTTLMS, 0, -1, znode.MaxTTLMS + 1}).Draw(r.T, "ttl")
		}
		op.Data, op.ACL = r.data(op.Path), rapid.SampledFrom(acls).Draw(r.T, "acl")
		if r.chance(30, "parents") {
			op.Flags |= tree.Parents
		}
	case tree.KindDelete:
		op.Version = r.version(op.Path)
		if r.chance(30, "recursive") {
			op.Flags |= tree.Recursive
			op.Limit = int32(rapid.IntRange(0, 8).Draw(r.T, "limit"))
		}
	case tree.KindSetData:
		op.Version, op.Data = r.version(op.Path), r.data(op.Path)
		op.Flags = rapid.SampledFrom([]tree.Flags{0, 0, 0, tree.OrCreate, tree.OrCreate | tree.Parents}).Draw(r.T, "flags")
	case tree.KindSetACL:
		op.Version, op.ACL = r.version(op.Path), rapid.SampledFrom(acls).Draw(r.T, "acl")
	case tree.KindCheck:
		op.Version = r.version(op.Path)
	}
	return op
}

func (r *random) txn() *tree.Txn {
	x := &tree.Txn{Origin: uint64(rapid.IntRange(1, 2).Draw(r.T, "origin")), IDs: rapid.SampledFrom(callers).Draw(r.T, "caller")}
	if r.chance(60, "in a session") {
		x.Session = int64(rapid.IntRange(1, 3).Draw(r.T, "session"))
		x.Attachment = r.model.sessions[x.Session].Attachment
		if r.chance(10, "through another attachment") {
			x.Attachment++
		}
	}
	switch kind := rapid.SampledFrom(kinds).Draw(r.T, "kind"); kind {
	case tree.KindMulti:
		x.Kind = kind
		for range rapid.IntRange(0, 6).Draw(r.T, "ops") {
			x.Ops = append(x.Ops, r.op(rapid.SampledFrom(kinds[:12]).Draw(r.T, "op")))
		}
	case tree.KindReap:
		x.Op = tree.Op{Kind: kind, Path: r.existing()}
		n := r.model.nodes[x.Path]
		x.Target = int64(rapid.SampledFrom([]znode.Zxid{n.Pzxid, n.Mzxid, n.Pzxid + 1}).Draw(r.T, "seen"))
	case tree.KindSession:
		x.Kind, x.Session = kind, 0
		x.Target = rapid.SampledFrom([]int64{1, 2, 3, 3, 0, math.MinInt64, -1, -2 << 56}).Draw(r.T, "new session")
		x.TimeoutMS = int32(rapid.IntRange(0, 10000).Draw(r.T, "timeout"))
		x.Password = []byte("0123456789abcdef")[:rapid.SampledFrom([]int{16, 16, 16, 15}).Draw(r.T, "password")]
	case tree.KindAttach:
		x.Kind = kind
		x.Target = int64(rapid.IntRange(0, 3).Draw(r.T, "attach"))
		x.TimeoutMS = int32(rapid.SampledFrom([]int{0, 0, 1, 9000}).Draw(r.T, "its time"))
		if r.chance(50, "not its own") {
			x.Session = 0
		}
		x.Password = []byte(rapid.SampledFrom([]string{"0123456789abcdef", "0123456789abcdef", "0123456789abcdeF", ""}).Draw(r.T, "its password"))
	case tree.KindClose:
		x.Kind, x.Target = kind, int64(rapid.IntRange(0, 3).Draw(r.T, "close"))
	case tree.KindSettings:
		x.Kind, x.Settings = kind, tree.DefaultSettings
		if r.chance(40, "unusual settings") {
			x.Settings = rapid.SampledFrom([]tree.Settings{{}, {EnforceQuota: true, ExtendedTypes: true, SkipACL: true}, {ExtendedTypes: true}}).Draw(r.T, "settings")
		}
	default:
		x.Op = r.op(kind)
	}
	return x
}

func txnText(x *tree.Txn) string {
	s := fmt.Sprintf("%s at %d session %d as %v target %d", opText(x.Op), x.TimeMS, x.Session, x.IDs, x.Target)
	for _, op := range x.Ops {
		s += "\n    " + opText(op)
	}
	return s
}
