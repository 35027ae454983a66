package znode_test

import (
	"errors"
	"strings"
	"testing"

	"coord/tree/znode"
)

func entry(p znode.Perms, scheme, id string) znode.ACLEntry {
	return znode.ACLEntry{Perms: p, Identity: znode.Identity{Scheme: scheme, ID: id}}
}

func ip(address string) []znode.Identity { return []znode.Identity{{Scheme: "ip", ID: address}} }

var (
	ann = znode.Identity{Scheme: "digest", ID: "ann:hash="}
	bob = znode.Identity{Scheme: "digest", ID: "bob:hash="}
)

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		name string
		acl  znode.ACL
		ids  []znode.Identity
		need znode.Perms
		want bool
	}{
		{"no list", nil, nil, znode.Admin, true},
		{"empty list", znode.ACL{}, nil, znode.Write, true},
		{"world", znode.OpenACL, nil, znode.Delete, true},
		{"world without the permission", znode.ReadACL, nil, znode.Write, false},
		{"any of two permissions is enough", znode.ReadACL, nil, znode.Read | znode.Admin, true},
		{"world in the second entry", znode.ACL{entry(znode.Write, "digest", "x:y"), entry(znode.Read, "world", "anyone")}, nil, znode.Read, true},
		{"super", znode.ACL{entry(znode.Read, "digest", ann.ID)}, []znode.Identity{znode.Super}, znode.Admin, true},
		{"super beside others", znode.ACL{entry(0, "digest", ann.ID)}, []znode.Identity{bob, znode.Super}, znode.Admin, true},
		{"digest", znode.ACL{entry(znode.Read, "digest", ann.ID)}, []znode.Identity{ann}, znode.Read, true},
		{"another digest", znode.ACL{entry(znode.Read, "digest", ann.ID)}, []znode.Identity{bob}, znode.Read, false},
		{"one of two identities", znode.ACL{entry(znode.Read, "digest", ann.ID)}, []znode.Identity{bob, ann}, znode.Read, true},
		{"permission of another entry", znode.ACL{entry(znode.Read, "digest", ann.ID), entry(znode.Write, "digest", bob.ID)}, []znode.Identity{ann}, znode.Write, false},
		{"same id in another scheme", znode.ACL{entry(znode.Read, "digest", ann.ID)}, []znode.Identity{{Scheme: "ip", ID: ann.ID}}, znode.Read, false},
		{"unknown bits", znode.ACL{entry(32, "world", "anyone")}, nil, 32, true},
		{"no identity", znode.ACL{entry(znode.All, "digest", ann.ID)}, nil, znode.Read, false},

		{"v4 exact", znode.ACL{entry(1, "ip", "10.0.0.1")}, ip("10.0.0.1"), 1, true},
		{"v4 another", znode.ACL{entry(1, "ip", "10.0.0.1")}, ip("10.0.0.2"), 1, false},
		{"v4 block", znode.ACL{entry(1, "ip", "10.0.0.0/8")}, ip("10.255.0.2"), 1, true},
		{"v4 block with host bits", znode.ACL{entry(1, "ip", "10.1.2.3/8")}, ip("10.255.0.2"), 1, true},
		{"outside the v4 block", znode.ACL{entry(1, "ip", "10.0.0.0/8")}, ip("11.0.0.1"), 1, false},
		{"block that cuts a byte", znode.ACL{entry(1, "ip", "10.0.0.0/15")}, ip("10.1.255.255"), 1, true},
		{"outside the block that cuts a byte", znode.ACL{entry(1, "ip", "10.0.0.0/15")}, ip("10.2.0.0"), 1, false},
		{"v4 with zeros in front, which are not octal", znode.ACL{entry(1, "ip", "010.000.00.01")}, ip("10.0.0.1"), 1, true},
		{"v4 all", znode.ACL{entry(1, "ip", "0.0.0.0/0")}, ip("203.0.113.9"), 1, true},
		{"v4 all is not v6", znode.ACL{entry(1, "ip", "0.0.0.0/0")}, ip("2001:db8::1"), 1, false},
		{"v6 exact in another spelling", znode.ACL{entry(1, "ip", "2001:DB8:0::1")}, ip("2001:db8::1"), 1, true},
		{"v6 block", znode.ACL{entry(1, "ip", "2001:db8::/32")}, ip("2001:db8:ffff::1"), 1, true},
		{"outside the v6 block", znode.ACL{entry(1, "ip", "2001:db8::/32")}, ip("2001:db9::1"), 1, false},
		{"mapped caller, plain entry", znode.ACL{entry(1, "ip", "10.0.0.0/8")}, ip("::ffff:10.9.9.9"), 1, true},
		{"plain caller, mapped entry", znode.ACL{entry(1, "ip", "::ffff:10.0.0.1")}, ip("10.0.0.1"), 1, true},
		{"plain caller, mapped block", znode.ACL{entry(1, "ip", "::ffff:10.0.0.0/104")}, ip("10.200.0.1"), 1, true},
		{"caller that is no address", znode.ACL{entry(1, "ip", "0.0.0.0/0")}, ip("unix"), 1, false},
		{"entry that is no address", znode.ACL{entry(1, "ip", "everywhere")}, ip("10.0.0.1"), 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.acl.Allows(c.ids, c.need); got != c.want {
				t.Errorf("%v allows %v to %v: %v", c.acl, c.need, c.ids, got)
			}
		})
	}
}

func TestNormalize(t *testing.T) {
	super := []znode.Identity{znode.Super}
	both := append(ip("10.0.0.1"), ann, bob)
	for _, c := range []struct {
		name string
		in   string // as zkCli writes it
		ids  []znode.Identity
		want string // "" means that in is refused
	}{
		{"world", "world:anyone:cdrwa", nil, "world:anyone:cdrwa"},
		{"duplicates go, the first place stays", "world:anyone:r,ip:10.0.0.1:r,world:anyone:r", nil, "world:anyone:r,ip:10.0.0.1:r"},
		{"same id, other permissions", "world:anyone:r,world:anyone:w", nil, "world:anyone:r,world:anyone:w"},
		{"world:somebody", "world:somebody:r", nil, ""},
		{"auth", "auth::rw", both, "digest:ann:hash=:rw,digest:bob:hash=:rw"},
		{"auth with an id, which is ignored", "auth:whoever:r", both, "digest:ann:hash=:r,digest:bob:hash=:r"},
		{"auth twice", "auth::r,auth::r", both, "digest:ann:hash=:r,digest:bob:hash=:r"},
		{"auth and the same digest", "digest:ann:hash=:r,auth::r", []znode.Identity{ann}, "digest:ann:hash=:r"},
		{"auth of an address", "auth::r", ip("10.0.0.1"), ""},
		{"auth of super alone", "auth::r", super, ""},
		{"auth of nobody", "auth::r", nil, ""},
		{"digest", "digest:u:h:r", nil, "digest:u:h:r"},
		{"digest without a user", "digest::h:r", nil, "digest::h:r"},
		{"digest without a hash", "digest:u::r", nil, ""},
		{"digest of one part", "digest:u:r", nil, ""},
		{"digest of three parts", "digest:u:h:x:r", nil, ""},
		{"digest with colons at the end", "digest:u:h:::r", nil, "digest:u:h:::r"},
		{"digest of colons", "digest::::r", nil, ""},
		{"digest with an empty part in the middle", "digest:u::h:r", nil, ""},
		{"ip", "ip:10.0.0.1:r", nil, "ip:10.0.0.1:r"},
		{"ip block", "ip:10.0.0.0/8:r", nil, "ip:10.0.0.0/8:r"},
		{"ip all", "ip:0.0.0.0/0:r", nil, "ip:0.0.0.0/0:r"},
		{"ip one", "ip:10.0.0.1/32:r", nil, "ip:10.0.0.1/32:r"},
		{"ip v6", "ip:::1:r", nil, "ip:::1:r"},
		{"ip v6 block", "ip:2001:db8::/128:r", nil, "ip:2001:db8::/128:r"},
		{"ip too many bits", "ip:10.0.0.0/33:r", nil, ""},
		{"ip v6 too many bits", "ip:2001:db8::/129:r", nil, ""},
		{"ip negative bits", "ip:10.0.0.0/-1:r", nil, ""},
		{"ip no bits behind the slash", "ip:10.0.0.0/:r", nil, ""},
		{"ip of three bytes", "ip:10.0.0:r", nil, ""},
		{"ip with zeros in front", "ip:010.000.00.001/08:r", nil, "ip:010.000.00.001/08:r"},
		{"ip with too large a number behind a zero", "ip:10.0.0.0256:r", nil, ""},
		{"ip with an empty number", "ip:10..0.1:r", nil, ""},
		{"ip host name", "ip:localhost:r", nil, ""},
		{"ip with a zone", "ip:fe80::1%eth0:r", nil, ""},
		{"super", "super::r", super, ""},
		{"unknown scheme", "sasl:me:r", nil, ""},
		{"one bad entry among good ones", "world:anyone:r,digest:u:r", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := znode.ParseACL(c.in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := in.Normalize(c.ids)
			if c.want == "" {
				if !errors.Is(err, znode.ErrInvalidACL) {
					t.Errorf("%v, %v: want that it is refused", got, err)
				}
			} else if err != nil || got.String() != c.want {
				t.Errorf("%v, %v, want %s", got, err, c.want)
			}
			if in.String() != c.in {
				t.Errorf("the request's list became %v", in)
			}
		})
	}
	for _, empty := range []znode.ACL{nil, {}} {
		if _, err := empty.Normalize(both); !errors.Is(err, znode.ErrInvalidACL) {
			t.Errorf("empty list: %v", err)
		}
	}
}

func TestRedacted(t *testing.T) {
	a := znode.ACL{entry(1, "digest", "u:h"), entry(2, "digest", "v:h:i"), entry(3, "world", "anyone"), entry(4, "ip", "10.0.0.1")}
	if got, want := a.Redacted().String(), "digest:u:x:r,digest:v:x:w,world:anyone:rw,ip:10.0.0.1:c"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if a[0].ID != "u:h" {
		t.Error("the list itself was redacted")
	}
}

func TestPerms(t *testing.T) {
	for _, c := range []struct {
		in, out string
		want    znode.Perms
	}{
		{"cdrwa", "cdrwa", znode.All}, {"awrdc", "cdrwa", znode.All}, {"r", "r", znode.Read}, {"w", "w", znode.Write},
		{"c", "c", znode.Create}, {"d", "d", znode.Delete}, {"a", "a", znode.Admin}, {"rr", "r", znode.Read}, {"ra", "ra", 17},
	} {
		if got, err := znode.ParsePerms(c.in); got != c.want || err != nil || got.String() != c.out {
			t.Errorf("ParsePerms(%q) = %d (%v), %v", c.in, got, got, err)
		}
	}
	for _, bad := range []string{"", "x", "rx", "R", " r"} {
		if _, err := znode.ParsePerms(bad); !errors.Is(err, znode.ErrInvalidACL) {
			t.Errorf("ParsePerms(%q): %v", bad, err)
		}
	}
}

func TestParseACL(t *testing.T) {
	for _, bad := range []string{"", "world", "world:anyone", "world:anyone:", "world:anyone:x", "world:anyone:r,", ",world:anyone:r", strings.Repeat("x", 500)} {
		if a, err := znode.ParseACL(bad); !errors.Is(err, znode.ErrInvalidACL) || len(err.Error()) > 200 {
			t.Errorf("ParseACL(%q) = %v, %v", bad, a, err)
		}
	}
}

func TestEqual(t *testing.T) {
	a := znode.ACL{entry(1, "ip", "::1"), entry(2, "ip", "::1")}
	if !a.Equal(znode.ACL{a[0], a[1]}) || a.Equal(znode.ACL{a[1], a[0]}) || a.Equal(a[:1]) || !znode.ACL(nil).Equal(znode.ACL{}) {
		t.Error("Equal means the same entries in the same order")
	}
}

func TestDigestVectors(t *testing.T) {
	for credential, want := range map[string]string{
		"user1:12345": "user1:+owfoSBn/am19roBPzR1/MfCblE=",
		"super:admin": "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=",
	} {
		if got, err := znode.Digest(credential); err != nil || got != (znode.Identity{Scheme: "digest", ID: want}) {
			t.Errorf("Digest(%q) = %v, %v", credential, got, err)
		}
	}
	for _, bad := range []string{"", "user", ":password"} {
		if _, err := znode.Digest(bad); !errors.Is(err, znode.ErrAuthFailed) {
			t.Errorf("Digest(%q): %v", bad, err)
		}
	}
}

// TestNormalizeLong: duplicates are removed from a long list as from a short one, in time linear in its
// length. The state lock is held meanwhile, and a frame has room for 50,000 entries; with a linear
// search for each entry this test takes minutes.
func TestNormalizeLong(t *testing.T) {
	t.Parallel()
	for _, n := range []int{64, 65, 300_000} {
		long := make(znode.ACL, n+2)
		for i := range long {
			long[i] = entry(znode.Perms(i%n+1), "world", "anyone")
		}
		if got, err := long.Normalize(nil); err != nil || !got.Equal(long[:n]) {
			t.Errorf("%d entries with two duplicates: %d, %v", n, len(got), err)
		}
	}
}
