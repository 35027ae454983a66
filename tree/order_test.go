package tree_test

import (
	"maps"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// fault is one or more reasons to refuse an op: the parts of a txn that it spoils, and the code of the first reason.
type fault struct {
	name string
	set  map[string]any
	code znode.Code
}

// faulty makes a txn of an op with the parts that faults spoil.
func faulty(op tree.Op, set map[string]any) tree.Txn {
	x := tree.Txn{Op: op, Session: 5, IDs: []znode.Identity{address}}
	for part, v := range set {
		switch part {
		case "mode":
			x.Mode = v.(znode.Mode)
		case "ttl":
			x.TTLMS = v.(int64)
		case "session":
			x.Session = v.(int64)
		case "path":
			x.Path = v.(string)
		case "acl":
			x.ACL = v.(znode.ACL)
		case "version":
			x.Version = v.(int32)
		case "data":
			x.Data = []byte(v.(string))
		}
	}
	return x
}

// crowd is a state in which every op can fail for some reason.
func crowd(t *testing.T, ttlOff bool) *bench {
	b := newBench(t)
	b.session(5)
	b.ids = []znode.Identity{znode.Super}
	b.as = 5
	closedEphemeral, closedQuota := createMode("/p/eph", znode.Ephemeral), createData("/q/closed", "d")
	closedEphemeral.ACL = znode.ReadACL
	for _, op := range []tree.Op{
		create("/p"), create("/p/n"), create("/p/n/c"), createMode("/eph", znode.Ephemeral), closedEphemeral,
		create("/closed"), create("/closed/n"), create("/closed/n/c"), create("/closed/secret"),
		create("/q"), create("/q/n"), closedQuota, createMode("/q/eph", znode.Ephemeral),
		create("/zookeeper/quota/q"), createData("/zookeeper/quota/q/zookeeper_limits", "count=-1,bytes=-1=;byteHardLimit=4;countHardLimit=4"),
		create("/zookeeper/quota/q/zookeeper_stats"),
		setACL("/closed", -1, znode.ReadACL...), setACL("/closed/n", -1, znode.ReadACL...),
		setACL("/closed/secret", -1, entry(znode.Admin, "world", "anyone")),
		setACL("/q/closed", -1, znode.ReadACL...),
	} {
		b.must(op)
	}
	if ttlOff {
		b.settings(tree.Settings{EnforceQuota: true})
	}
	b.ids, b.as = nil, 0
	return b
}

// TestOrderOfChecks is section 3.1 of the reference: if two things are wrong, the code of the first
// one is the answer. Each op's faults are listed in the order of its checks. Each is tried alone,
// and those that can be wrong together are tried in pairs.
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	type set = map[string]any
	const (
		mode  = znode.PersistentTTL
		none  = znode.Mode(7)
		wrong = int32(99)
	)
	for _, c := range []struct {
		name   string
		op     tree.Op
		ttlOff bool
		faults []fault
	}{
		{name: "create", op: create("/p/new"), faults: []fault{
			{"flags", set{"mode": none}, znode.ErrBadArguments},
			{"TTL value", set{"mode": mode, "ttl": int64(0)}, znode.ErrBadArguments},
			{"session", set{"session": int64(6)}, znode.ErrSessionExpired},
			{"ephemeral without session", set{"session": int64(0), "mode": znode.Ephemeral}, znode.ErrSessionExpired},
			{"no slash", set{"path": "new"}, znode.ErrBadArguments},
			{"empty path", set{"path": ""}, znode.ErrBadArguments},
			{"NUL in the path of a missing parent", set{"path": "/missing/\x00"}, znode.ErrBadArguments},
			{"empty ACL", set{"acl": znode.ACL{}}, znode.ErrInvalidACL},
			{"ACL of an unknown scheme", set{"acl": znode.ACL{entry(1, "x509", "CN=a")}}, znode.ErrInvalidACL},
			{"parent missing", set{"path": "/missing/new"}, znode.ErrNoNode},
			{"parent missing, bad path", set{"path": "/missing//new"}, znode.ErrNoNode},
			{"parent missing, slash at the end", set{"path": "/missing/"}, znode.ErrNoNode},
			{"no CREATE", set{"path": "/closed/new"}, znode.ErrNoAuth},
			{"no CREATE, bad path", set{"path": "/closed/\x01"}, znode.ErrNoAuth},
			{"no CREATE, exists", set{"path": "/closed/n"}, znode.ErrNoAuth},
			{"no CREATE, ephemeral parent", set{"path": "/p/eph/new"}, znode.ErrNoAuth},
			{"no CREATE, over quota", set{"path": "/q/closed/new"}, znode.ErrNoAuth},
			{"bad path", set{"path": "/p/\x01"}, znode.ErrBadArguments},
			{"slash at the end", set{"path": "/p/"}, znode.ErrBadArguments},
			{"bad path, ephemeral parent", set{"path": "/eph/."}, znode.ErrBadArguments},
			{"bad path, over quota", set{"path": "/q/.."}, znode.ErrBadArguments},
			{"exists", set{"path": "/p/n"}, znode.ErrNodeExists},
			{"the root exists", set{"path": "/"}, znode.ErrNodeExists},
			{"exists, over quota", set{"path": "/q/n"}, znode.ErrNodeExists},
			{"ephemeral parent", set{"path": "/eph/new"}, znode.ErrNoChildrenForEphemerals},
			{"ephemeral parent, over quota", set{"path": "/q/eph/new"}, znode.ErrNoChildrenForEphemerals},
			{"over quota", set{"path": "/q/new"}, znode.ErrQuotaExceeded},
		}},
		{name: "create without TTLs", op: create("/p/new"), ttlOff: true, faults: []fault{
			{"TTL mode", set{"mode": mode}, znode.ErrUnimplemented},
			{"TTL value", set{"mode": mode, "ttl": int64(0)}, znode.ErrUnimplemented},
			{"session", set{"session": int64(6)}, znode.ErrSessionExpired},
			{"no slash", set{"path": "new"}, znode.ErrBadArguments},
			{"parent missing", set{"path": "/missing/new"}, znode.ErrNoNode},
		}},
		{name: "delete", op: remove("/p/n/c", -1), faults: []fault{
			{"session", set{"session": int64(6)}, znode.ErrSessionExpired},
			{"no slash", set{"path": "new"}, znode.ErrBadArguments},
			{"NUL", set{"path": "/missing/\x00"}, znode.ErrBadArguments},
			{"root", set{"path": "/"}, znode.ErrBadArguments},
			{"zookeeper", set{"path": "/zookeeper"}, znode.ErrBadArguments},
			{"quota", set{"path": "/zookeeper/quota"}, znode.ErrBadArguments},
			{"config", set{"path": "/zookeeper/config"}, znode.ErrBadArguments},
			{"parent missing", set{"path": "/missing/n"}, znode.ErrNoNode},
			{"no DELETE", set{"path": "/closed/secret"}, znode.ErrNoAuth},
			{"no DELETE, missing", set{"path": "/closed/missing"}, znode.ErrNoAuth},
			{"no DELETE, not empty", set{"path": "/closed/n"}, znode.ErrNoAuth},
			{"missing", set{"path": "/p/missing"}, znode.ErrNoNode},
			{"bad path", set{"path": "/p/\x01"}, znode.ErrNoNode},
			{"slash at the end", set{"path": "/p/"}, znode.ErrNoNode},
			{"version", set{"version": wrong}, znode.ErrBadVersion},
			{"not empty", set{"path": "/p/n"}, znode.ErrNotEmpty},
		}},
		{name: "set", op: set2("/q/n"), faults: []fault{
			{"session", set{"session": int64(6)}, znode.ErrSessionExpired},
			{"empty path", set{"path": ""}, znode.ErrBadArguments},
			{"bad path below a missing one", set{"path": "/missing//n"}, znode.ErrBadArguments},
			{"slash at the end", set{"path": "/p/"}, znode.ErrBadArguments},
			{"missing", set{"path": "/q/missing"}, znode.ErrNoNode},
			{"no WRITE", set{"path": "/q/closed"}, znode.ErrNoAuth},
			{"over quota", set{"data": "more"}, znode.ErrQuotaExceeded},
			{"version", set{"version": wrong}, znode.ErrBadVersion},
		}},
		{name: "set ACL", op: setACL("/p/n", -1, znode.OpenACL...), faults: []fault{
			{"session", set{"session": int64(6)}, znode.ErrSessionExpired},
			{"relative path", set{"path": "p"}, znode.ErrBadArguments},
			{"bad path", set{"path": "/missing/."}, znode.ErrBadArguments},
			{"empty ACL", set{"acl": znode.ACL(nil)}, znode.ErrInvalidACL},
			{"auth of nobody", set{"acl": znode.ACL{entry(1, "auth", "")}}, znode.ErrInvalidACL},
			{"missing", set{"path": "/p/missing"}, znode.ErrNoNode},
			{"no ADMIN", set{"path": "/closed/n"}, znode.ErrNoAuth},
			{"aversion", set{"version": wrong}, znode.ErrBadVersion},
		}},
		{name: "check", op: check("/p/n", -1), faults: []fault{
			{"session", set{"session": int64(6)}, znode.ErrSessionExpired},
			{"bad path", set{"path": "/missing/\x7f"}, znode.ErrBadArguments},
			{"missing", set{"path": "/p/missing"}, znode.ErrNoNode},
			{"no READ", set{"path": "/closed/secret"}, znode.ErrNoAuth},
			{"version", set{"version": wrong}, znode.ErrBadVersion},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := crowd(t, c.ttlOff)
			if r, _ := b.multi(); r.Code != znode.OK {
				t.Fatal(r.Code)
			}
			before := dump(b.tree.Freeze())
			try := func(name string, set map[string]any, want znode.Code) {
				t.Helper()
				x := faulty(c.op, set)
				if r, events := b.apply(x); r.Code != want || len(events) != 0 {
					t.Errorf("%s: code %d and %d events, want %d", name, r.Code, len(events), want)
				}
			}
			pairs := 0
			for i, first := range c.faults {
				try(first.name, first.set, first.code)
				for _, second := range c.faults[i+1:] {
					if both, ok := together(first.set, second.set); ok {
						try(first.name+" and "+second.name, both, first.code)
						pairs++
					}
				}
			}
			if pairs < 6 {
				t.Errorf("only %d pairs of faults go together", pairs)
			}
			if after := dump(b.tree.Freeze()); withoutCounters(after) != withoutCounters(before) {
				t.Errorf("the refusals changed\n%s\nto\n%s", before, after)
			}
			if r, _ := b.apply(faulty(c.op, nil)); r.Code != znode.OK {
				t.Errorf("without a fault: %v", r.Code)
			}
		})
	}
}

// set2 is a set that stays within the quota of crowd.
func set2(path string) tree.Op { return set(path, "d", -1) }

// together merges the parts that two faults spoil, if both can be spoilt at once.
func together(a, b map[string]any) (map[string]any, bool) {
	for part, v := range b {
		if have, taken := a[part]; taken && (part == "acl" || have != v) {
			return nil, false
		}
	}
	both := maps.Clone(a)
	maps.Copy(both, b)
	return both, true
}

// withoutCounters cuts the last line of a dump.
func withoutCounters(dump string) string { return dump[:strings.LastIndex(dump[:len(dump)-1], "\n")] }
