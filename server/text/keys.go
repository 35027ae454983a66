package text

import "coord/tree/znode"

// The keys of replies. They never change.
const (
	KeyVersion     = "v"
	KeyCversion    = "cv"
	KeyAversion    = "av"
	KeyChildren    = "children"
	KeyOwner       = "eph"
	KeyLen         = "len"
	KeyCtime       = "ctime"
	KeyMtime       = "mtime"
	KeyCzxid       = "czxid"
	KeyMzxid       = "mzxid"
	KeyPzxid       = "pzxid"
	KeyContainer   = "container"
	KeyZxid        = "zxid"
	KeyPath        = "path"
	KeyMore        = "more"
	KeyOp          = "op"
	KeyHave        = "have"
	KeyUser        = "user"
	KeyFormat      = "format"
	KeyProto       = "proto"
	KeyServer      = "server"
	KeyNodeVersion = "version"
	KeyNode        = "node"
	KeyRole        = "role"
	KeyCluster     = "cluster"
	KeyValue       = "value"
	KeySHA256      = "sha256"
	KeyBytes       = "bytes"
	KeyID          = "id"
	KeyTTL         = "ttl"
	KeyHold        = "hold"
	KeyLive        = "live"
	KeyPassword    = "password"
	KeyEphemerals  = "ephemerals"
	KeyToken       = "token"
	KeyAddr        = "addr"
	KeySession     = "session"
	KeyData64      = "data64"
	KeyName        = "name"
	KeyVote        = "vote"
	KeyUp          = "up"
	KeyPeer        = "peer"
	KeyClient      = "client"
	KeyTerm        = "term"
	KeyApplied     = "applied"
	KeyLag         = "lag"
	KeyLagMS       = "lag_ms"
	KeyFsyncP99MS  = "fsync_p99_ms"
	KeyDigest      = "digest"
	KeySelf        = "self"
)

// keys holds all keys, so that a Reader shares their strings and a test can check the
// documentation.
var keys = func() map[string]string {
	m := make(map[string]string)
	for _, k := range []string{
		KeyVersion, KeyCversion, KeyAversion, KeyChildren, KeyOwner, KeyLen, KeyCtime, KeyMtime, KeyCzxid, KeyMzxid,
		KeyPzxid, KeyContainer, KeyZxid, KeyPath, KeyMore, KeyOp, KeyHave, KeyUser, KeyFormat, KeyProto, KeyServer, KeyNodeVersion,
		KeyNode, KeyRole, KeyCluster, KeyValue, KeySHA256, KeyBytes, KeyID, KeyTTL, KeyHold, KeyLive, KeyPassword, KeyEphemerals, KeyToken, KeyAddr,
		KeySession, KeyData64,
		KeyName, KeyVote, KeyUp, KeyPeer, KeyClient, KeyTerm, KeyApplied, KeyLag, KeyLagMS, KeyFsyncP99MS, KeyDigest, KeySelf,
	} {
		m[k] = k
	}
	return m
}()

// Stat is a znode's stat together with the rule by which the znode is deleted automatically, which
// is not part of ZooKeeper's stat.
type Stat struct {
	znode.Stat
	Container bool
	TTLMS     int64 // of a TTL znode, else 0
}

// AppendStat appends the fields of a stat, in the order of the documentation.
func AppendStat(dst []Field, s *Stat) []Field {
	dst = append(dst,
		Int(KeyVersion, int64(s.Version)),
		Int(KeyCversion, int64(s.Cversion)),
		Int(KeyAversion, int64(s.Aversion)),
		Int(KeyChildren, int64(s.NumChildren)),
		Hex(KeyOwner, uint64(s.EphemeralOwner)),
		Int(KeyLen, int64(s.DataLength)),
		Int(KeyCtime, s.CtimeMS),
		Int(KeyMtime, s.MtimeMS),
		Zxid(KeyCzxid, s.Czxid),
		Zxid(KeyMzxid, s.Mzxid),
		Zxid(KeyPzxid, s.Pzxid),
	)
	if s.Container {
		dst = append(dst, Int(KeyContainer, 1))
	}
	if s.TTLMS != 0 {
		dst = append(dst, Duration(KeyTTL, s.TTLMS))
	}
	return dst
}
