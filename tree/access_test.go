package tree_test

import (
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

// TestPermissions is section 7.3: which permission on which znode each op needs.
func TestPermissions(t *testing.T) {
	t.Parallel()
	type grants map[string]znode.Perms // path → permissions of user1 there
	for _, c := range []struct {
		name         string
		op           tree.Op
		enough, less grants
	}{
		{"create", create("/p/n/new"), grants{"/p/n": znode.Create}, grants{"/": znode.All, "/p": znode.All, "/p/n": znode.All &^ znode.Create}},
		{"delete", remove("/p/n", -1), grants{"/p": znode.Delete}, grants{"/": znode.All, "/p": znode.All &^ znode.Delete, "/p/n": znode.All}},
		{"set", set("/p/n", "x", -1), grants{"/p/n": znode.Write}, grants{"/p": znode.All, "/p/n": znode.All &^ znode.Write}},
		{"set ACL", setACL("/p/n", -1, znode.ReadACL...), grants{"/p/n": znode.Admin}, grants{"/p": znode.All, "/p/n": znode.All &^ znode.Admin}},
		{"check", check("/p/n", -1), grants{"/p/n": znode.Read}, grants{"/p": znode.All, "/p/n": znode.All &^ znode.Read}},
		{"create with parents", flagged(create("/p/n/x/y"), tree.Parents), grants{"/p/n": znode.Create}, grants{"/p": znode.All, "/p/n": znode.All &^ znode.Create}},
		{"set or create", flagged(set("/p/n/x", "x", -1), tree.OrCreate), grants{"/p/n": znode.Create}, grants{"/p": znode.All, "/p/n": znode.All &^ znode.Create}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, caller := range []struct {
				name   string
				ids    []znode.Identity
				skip   bool // ACLs are off
				grants grants
				want   znode.Code
			}{
				{"with the permission", []znode.Identity{address, user1}, false, c.enough, znode.OK},
				{"with all others", []znode.Identity{address, user1}, false, c.less, znode.ErrNoAuth},
				{"as somebody else", []znode.Identity{address, user2}, false, c.enough, znode.ErrNoAuth},
				{"as nobody", nil, false, c.enough, znode.ErrNoAuth},
				{"as super", []znode.Identity{znode.Super}, false, c.less, znode.OK},
				{"with ACLs off", nil, true, c.less, znode.OK},
			} {
				b := newBench(t)
				b.must(create("/p"))
				b.must(create("/p/n"))
				for _, path := range []string{"/p/n", "/p", "/"} {
					b.must(setACL(path, -1, entry(caller.grants[path], "digest", user1.ID)))
				}
				if caller.skip {
					b.settings(tree.Settings{SkipACL: true})
				}
				b.ids = caller.ids
				if r := b.do(c.op); r.Code != caller.want {
					t.Errorf("%s: %v, want %v", caller.name, r.Code, caller.want)
				}
			}
		})
	}
}

// TestReadPermissions: any one of the permissions that Get needs is enough.
func TestReadPermissions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.must(createACL("/r", entry(znode.Read, "digest", user1.ID), entry(znode.Admin, "ip", "10.0.0.0/8")))
	for _, c := range []struct {
		name string
		ids  []znode.Identity
		need znode.Perms
		want znode.Code
	}{
		{"READ", []znode.Identity{user1}, znode.Read, znode.OK},
		{"READ for getACL", []znode.Identity{user1}, znode.Read | znode.Admin, znode.OK},
		{"ADMIN for getACL", []znode.Identity{address}, znode.Read | znode.Admin, znode.OK},
		{"ADMIN is not READ", []znode.Identity{address}, znode.Read, znode.ErrNoAuth},
		{"READ is not ADMIN", []znode.Identity{user1}, znode.Admin, znode.ErrNoAuth},
		{"nobody", nil, znode.Read, znode.ErrNoAuth},
		{"nobody who needs nothing", nil, 0, znode.OK},
		{"super", []znode.Identity{znode.Super}, znode.Write, znode.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			if z, code := b.tree.Get("/r", c.ids, c.need); code != c.want || code != znode.OK && z.ACL != nil {
				t.Errorf("%v %+v, want %v", code, z, c.want)
			}
		})
	}
	if _, code := b.tree.Get("/missing", nil, znode.Read); code != znode.ErrNoNode {
		t.Errorf("missing: %v", code)
	}
	b.settings(tree.Settings{SkipACL: true})
	if _, code := b.tree.Get("/r", nil, znode.Read); code != znode.OK {
		t.Errorf("with ACLs off: %v", code)
	}
}

// TestStoredACL: create and set ACL store the normalised list.
func TestStoredACL(t *testing.T) {
	t.Parallel()
	in := []znode.ACLEntry{entry(znode.Read, "world", "anyone"), entry(znode.All, "auth", "x"), entry(znode.Read, "world", "anyone")}
	const want = "world:anyone:r,digest:u1:hash1=:cdrwa,digest:u2:hash2=:cdrwa"
	b := newBench(t)
	b.ids = []znode.Identity{address, user1, user2}
	_, events := b.apply(tree.Txn{Op: createACL("/n", in...)})
	if got := b.get("/n").ACL.String(); got != want || events[0].ACL.String() != want {
		t.Errorf("created with %s, told %v", got, events[0].ACL)
	}
	b.must(create("/m"))
	b.must(setACL("/m", -1, in...))
	if got := b.get("/m").ACL.String(); got != want {
		t.Errorf("set to %s", got)
	}
	if n := b.tree.ACLs(); n != 2 { // this one and that of /zookeeper/config
		t.Errorf("%d lists kept for equal ACLs", n)
	}
	b.must(remove("/n", -1))
	b.must(setACL("/m", -1, znode.OpenACL...))
	if n := b.tree.ACLs(); n != 1 {
		t.Errorf("%d lists kept with their znodes gone", n)
	}
}

// TestACLTableSurvivesFailedMulti: lists that were added or removed only temporarily.
func TestACLTableSurvivesFailedMulti(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	mine := entry(znode.All, "digest", user1.ID)
	b.ids = []znode.Identity{user1}
	b.must(createACL("/n", mine))
	kept := b.tree.ACLs()
	fail := remove("/nowhere", -1)
	for name, ops := range map[string][]tree.Op{
		"last use deleted":         {remove("/n", -1), fail},
		"last use changed":         {setACL("/n", -1, znode.ReadACL...), fail},
		"deleted and made again":   {remove("/n", -1), createACL("/n", mine), fail},
		"new list":                 {createACL("/m", entry(1, "digest", "new:list")), fail},
		"new list, twice changed":  {createACL("/m", entry(1, "digest", "new:list"), mine), setACL("/m", 0, mine), setACL("/m", 1, znode.OpenACL...), fail},
		"last use deleted, others": {remove("/n", -1), createACL("/m", entry(2, "digest", "new:list")), fail},
	} {
		if r, _ := b.multi(ops...); r.Code == znode.OK {
			t.Fatalf("%s: succeeded", name)
		}
		if n := b.tree.ACLs(); n != kept || !b.get("/n").ACL.Equal(znode.ACL{mine}) {
			t.Errorf("%s: %d lists kept, want %d; %v", name, n, kept, b.get("/n").ACL)
		}
	}
	if r, _ := b.multi(remove("/n", -1), createACL("/m", mine)); r.Code != znode.OK || !b.get("/m").ACL.Equal(znode.ACL{mine}) || b.tree.ACLs() != kept {
		t.Errorf("%+v, %d lists", r, b.tree.ACLs())
	}
}

// TestACLTableGivesNumbersOnce: a list whose last ref is dropped twice in a txn frees one number, not two.
func TestACLTableGivesNumbersOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	mine := entry(znode.All, "ip", "0.0.0.0/0")
	b.ids = []znode.Identity{address}
	b.must(createACL("/n", mine))
	if r, _ := b.multi(setACL("/n", 0, znode.OpenACL...), setACL("/n", 1, mine), setACL("/n", 2, znode.OpenACL...)); r.Code != znode.OK {
		t.Fatal(r.Code)
	}
	for _, path := range []string{"/one", "/two", "/three"} {
		b.must(createACL(path, entry(znode.Read, "digest", path+":hash")))
	}
	for _, path := range []string{"/one", "/two", "/three"} {
		if got, want := b.get(path).ACL.String(), "digest:"+path+":hash:r"; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestConfigIsSupers: only the super identity has ADMIN on /zookeeper/config.
func TestConfigIsSupers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.refused(setACL(znode.ConfigPath, -1, znode.OpenACL...), znode.ErrNoAuth)
	b.refused(set(znode.ConfigPath, "x", -1), znode.ErrNoAuth)
	b.refused(create(znode.ConfigPath+"/x"), znode.ErrNoAuth)
	b.ids = []znode.Identity{znode.Super}
	if r := b.must(setACL(znode.ConfigPath, -1, znode.OpenACL...)); r.Stat.Aversion != 0 {
		t.Errorf("%+v", r.Stat)
	}
	b.ids = nil
	b.must(create(znode.ConfigPath + "/x"))
}
