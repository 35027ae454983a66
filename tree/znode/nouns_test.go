package znode_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"coord/tree/znode"
)

// TestCodeNumbers pins the numbers that are in logs and on the wire for ever.
func TestCodeNumbers(t *testing.T) {
	want := "0:OK -2:INTERNAL -5:PROTOCOL -6:UNKNOWN -8:SYNTAX -13:UNSAFE -101:NOTFOUND -102:NOAUTH -103:BADVERSION " +
		"-108:NOTEMPTYEPHEMERAL -110:EXISTS -111:NOTEMPTY -112:EXPIRED -114:INVALIDACL -115:AUTHFAILED -118:EXPIRED " +
		"-119:READONLY -120:READONLY -121:NOTFOUND -123:NOAUTH -124:NOAUTH -125:QUOTA -127:THROTTLED " +
		"-1001:TOOBIG -1002:LIMIT -1003:NOLEADER -1004:NOSPACE -1005:TIMEOUT -1006:UNCERTAIN -1007:SLOWCLIENT " +
		"-1008:SYNTAX -1009:UNKNOWN -1010:PROTOCOL -1011:SHUTDOWN -1012:INTERNAL -1013:COMPACTED "
	var got string
	seen := map[znode.Code]bool{}
	for _, c := range znode.Codes() {
		got += fmt.Sprintf("%d:%s ", c, c.Word())
		if seen[c] || c.Error() == "" {
			t.Errorf("code %d comes twice or has no text", c)
		}
		seen[c] = true
	}
	if got != want {
		t.Errorf("codes\n got %s\nwant %s", got, want)
	}
}

func TestCodeOf(t *testing.T) {
	for _, c := range znode.Codes() {
		back, ok := znode.CodeOf(c.Word())
		if !ok || back.Word() != c.Word() {
			t.Errorf("CodeOf(%s) = %d, %v", c.Word(), back, ok)
		}
	}
	for word, want := range map[string]znode.Code{
		"NOTFOUND": znode.ErrNoNode, "NOAUTH": znode.ErrNoAuth, "EXPIRED": znode.ErrSessionExpired,
		"SYNTAX": znode.ErrSyntax, "READONLY": znode.ErrNotReadOnly, "OK": znode.OK,
	} {
		if got, ok := znode.CodeOf(word); got != want || !ok {
			t.Errorf("CodeOf(%s) = %d", word, got)
		}
	}
	if c, ok := znode.CodeOf("NONSENSE"); ok || c != znode.ErrInternal {
		t.Errorf("an unknown word is %d, %v", c, ok)
	}
	if c := znode.Code(-77); c.Word() != "INTERNAL" || c.Error() != "code -77" {
		t.Errorf("an unknown code is %s %q", c.Word(), c.Error())
	}
	if err := fmt.Errorf("wrapped: %w", znode.ErrNoNode); !errors.Is(err, znode.ErrNoNode) || errors.Is(err, znode.ErrNoAuth) {
		t.Error("a Code is an error that errors.Is finds")
	}
}

func TestModes(t *testing.T) {
	for m := range znode.Mode(8) {
		want := map[znode.Mode][4]bool{ // valid, sequential, ephemeral, TTL
			0: {true, false, false, false}, 1: {true, false, true, false}, 2: {true, true, false, false}, 3: {true, true, true, false},
			4: {true, false, false, false}, 5: {true, false, false, true}, 6: {true, true, false, true},
		}[m]
		if got := [4]bool{m.Valid(), m.Sequential(), m.Ephemeral(), m.TTL()}; got != want {
			t.Errorf("mode %d: valid, sequential, ephemeral, TTL are %v", m, got)
		}
	}
	if znode.Mode(-1).Valid() {
		t.Error("mode -1 is valid")
	}
}

func TestOwners(t *testing.T) {
	for _, c := range []struct {
		name   string
		stored int64
		want   znode.Owner
	}{
		{"persistent", 0, znode.Owner{}},
		{"session", 0x100000000000001, znode.Owner{Session: 0x100000000000001}},
		{"session of the last server", -2<<56 | 5, znode.Owner{Session: -2<<56 | 5}},
		{"container", math.MinInt64, znode.Owner{Container: true}},
		{"shortest TTL", znode.TTLOwner(1), znode.Owner{TTLMS: 1}},
		{"longest TTL", znode.TTLOwner(znode.MaxTTLMS), znode.Owner{TTLMS: 1099511627775}},
		{"reserved bits beside a TTL", -1<<56 | 0xffff<<40 | 7, znode.Owner{TTLMS: 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := znode.ExplainOwner(c.stored); got != c.want {
				t.Errorf("%#x is %+v, want %+v", uint64(c.stored), got, c.want)
			}
			if got, want := znode.ValidSession(c.stored), c.want.Session != 0; got != want {
				t.Errorf("ValidSession(%#x) = %v", uint64(c.stored), got)
			}
		})
	}
	if got := znode.TTLOwner(0x1234567890); uint64(got) != 0xff00001234567890 {
		t.Errorf("a TTL is stored as %#x", uint64(got))
	}
}

func TestZxid(t *testing.T) {
	z := znode.MakeZxid(7, 0xfffffffe)
	if z.Epoch() != 7 || z.Counter() != 0xfffffffe || z.String() != "0x7fffffffe" {
		t.Errorf("%v: epoch %d, counter %d", z, z.Epoch(), z.Counter())
	}
	if s := znode.Zxid(0).String(); s != "0x0" {
		t.Errorf("zero prints as %s", s)
	}
	if s := znode.Hex(1<<64 - 1); s != "0xffffffffffffffff" {
		t.Errorf("-1 prints as %s", s)
	}
}

func TestEventNames(t *testing.T) {
	for e, want := range map[znode.EventType]string{-1: "expired", 0: "none", 1: "created", 2: "deleted", 3: "changed", 4: "children", 5: "none"} {
		if got := e.String(); got != want {
			t.Errorf("event %d is %q", e, got)
		}
	}
}
