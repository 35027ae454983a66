package tree_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

func TestOpenSession(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(*tree.Txn)
		want  znode.Code
	}{
		{"good", func(*tree.Txn) {}, znode.OK},
		{"negative id", func(x *tree.Txn) { x.Target = -2 << 56 }, znode.OK},
		{"a second time", func(x *tree.Txn) { x.Target = 1 }, znode.ErrNodeExists},
		{"id 0", func(x *tree.Txn) { x.Target = 0 }, znode.ErrBadArguments},
		{"id that marks containers", func(x *tree.Txn) { x.Target = math.MinInt64 }, znode.ErrBadArguments},
		{"id that marks TTLs", func(x *tree.Txn) { x.Target = -1<<56 | 5 }, znode.ErrBadArguments},
		{"id -1", func(x *tree.Txn) { x.Target = -1 }, znode.ErrBadArguments},
		{"no password", func(x *tree.Txn) { x.Password = nil }, znode.ErrBadArguments},
		{"short password", func(x *tree.Txn) { x.Password = x.Password[:15] }, znode.ErrBadArguments},
		{"long password", func(x *tree.Txn) { x.Password = append(x.Password, 'x') }, znode.ErrBadArguments},
		{"second time with a bad password", func(x *tree.Txn) { x.Target, x.Password = 1, nil }, znode.ErrBadArguments},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.session(1)
			x := openTxn(7)
			c.spoil(&x)
			r, events := b.apply(x)
			if r.Code != c.want || len(events) != 0 {
				t.Fatalf("%v, want %v", r.Code, c.want)
			}
			s, there := b.tree.Session(x.Target)
			if want := c.want == znode.OK || x.Target == 1; there != want {
				t.Errorf("session there: %v", there)
			} else if want && s != (tree.Session{ID: x.Target, TimeoutMS: 4000, Password: [16]byte([]byte("0123456789abcdef"))}) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestCloseSession: its ephemerals are deleted in the order of their paths, with one zxid, and later requests
// of the session are refused. H13 (ZOOKEEPER-1367, 1496, 3471): ephemerals that outlived their session.
func TestCloseSession(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.session(1)
	b.session(2)
	b.must(create("/p"))
	b.must(create("/p/q"))
	for _, path := range []string{"/z", "/p/b", "/a", "/p/q/x", "/p/a"} {
		b.as = 1
		b.must(createMode(path, znode.Ephemeral))
		b.as = 2
		b.must(createMode(path+"-of-2", znode.Ephemeral))
	}
	b.as = 0
	before := b.stat("/p")
	r, events := b.close(1)
	if r.Code != znode.OK || r.Zxid != b.tree.Counters().Zxid {
		t.Fatalf("%+v", r)
	}
	want := "deleted /a, children /, deleted /p/a, children /p, deleted /p/b, children /p, deleted /p/q/x, children /p/q, deleted /z, children /, expired "
	if got := eventPaths(events); got != want {
		t.Errorf("events\n got %s\nwant %s", got, want)
	}
	for _, e := range events {
		if e.Zxid != r.Zxid {
			t.Errorf("%+v", e)
		}
	}
	if got := changes(before, b.stat("/p"), r.Zxid, b.now); got != "pzxid now cversion+2 children-2" {
		t.Errorf("the parent: %s", got)
	}
	if c := b.tree.Counts(); c.Sessions != 1 || c.Ephemerals != 5 {
		t.Errorf("left: %+v", c)
	}
	if r, _ := b.close(1); r.Code != znode.ErrSessionExpired {
		t.Errorf("closed again: %v", r.Code)
	}
	if _, there := b.tree.Session(1); there {
		t.Error("the session is still there")
	}
	b.as = 1
	for _, op := range []tree.Op{
		create("/x"), createMode("/x", znode.Ephemeral), remove("/p", -1), set("/p", "x", -1), setACL("/p", -1, znode.OpenACL...), check("/p", -1),
		flagged(set("/x", "x", -1), tree.OrCreate), removeAll("/p", 9),
	} {
		b.refused(op, znode.ErrSessionExpired)
	}
	if r, _ := b.multi(create("/x")); r.Code != znode.ErrSessionExpired {
		t.Errorf("multi: %v", r.Code)
	}
	b.as = 2
	b.must(create("/x"))
	if r, _ := b.close(0); r.Code != znode.ErrSessionExpired {
		t.Errorf("close of session 0: %v", r.Code)
	}
}

// TestSessionOpensAgain: an id that is used again owns nothing of its earlier session.
func TestSessionOpensAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.session(1)
	b.as = 1
	b.must(createMode("/e", znode.Ephemeral))
	b.close(1)
	b.as = 0
	b.session(1)
	if _, events := b.close(1); len(events) != 1 { // the end of the session only
		t.Errorf("events %s", eventPaths(events))
	}
}

// TestManySessions are kept in the order of their ids, and can be found.
func TestManySessions(t *testing.T) {
	t.Parallel()
	b := &bench{T: t, tree: tree.New(), term: 1}
	const n = 3 * tree.PieceMax
	for i := range n {
		x := openTxn(int64(i*7919%n) + 1)
		b.tree.Apply(1, &x)
	}
	for i := 1; i <= n; i += 3 {
		b.tree.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindClose}, Target: int64(i)})
	}
	var ids []int64
	b.tree.Freeze().Sessions(func(s *tree.Session) bool { ids = append(ids, s.ID); return true })
	if len(ids) != n*2/3 || !slices.IsSorted(ids) || b.tree.Counts().Sessions != len(ids) {
		t.Errorf("%d sessions, sorted %v", len(ids), slices.IsSorted(ids))
	}
	for i := 1; i <= n; i++ {
		if _, there := b.tree.Session(int64(i)); there != (i%3 != 1) {
			t.Errorf("session %d there: %v", i, there)
		}
	}
	checkDigest(b, b.tree)
}

// TestSettings: a settings txn replaces all settings, and the digest covers them.
func TestSettings(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	seen := map[tree.Digest]tree.Settings{}
	for i := range 8 {
		s := tree.Settings{EnforceQuota: i&1 != 0, ExtendedTypes: i&2 != 0, SkipACL: i&4 != 0}
		b.settings(s)
		if got := b.tree.Counters().Settings; got != s {
			t.Errorf("%+v, want %+v", got, s)
		}
		if other, taken := seen[b.tree.Digest()]; taken {
			t.Errorf("%+v has the digest of %+v", s, other)
		}
		seen[b.tree.Digest()] = s
	}
}

// TestUnknownKind: of a newer coord, perhaps; it takes a zxid and does nothing.
func TestUnknownKind(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, k := range []tree.Kind{0, 12, 255} {
		if r := b.do(tree.Op{Kind: k, Path: "/"}); r.Code != znode.ErrUnimplemented || r.Zxid != b.tree.Counters().Zxid {
			t.Errorf("kind %d: %+v", k, r)
		}
	}
}

// TestZxid: the epoch is offset plus term, and the counter begins again with each epoch.
func TestZxid(t *testing.T) {
	t.Parallel()
	const last = math.MaxUint32
	type step struct {
		term uint64
		want znode.Zxid
	}
	for _, c := range []struct {
		name       string
		start      tree.Counters
		steps      []step
		wantOffset int64
	}{
		{"from nothing", tree.Counters{}, []step{{1, 1<<32 | 1}, {1, 1<<32 | 2}, {4, 4<<32 | 1}, {4, 4<<32 | 2}}, 0},
		{"term 0", tree.Counters{}, []step{{0, 1}, {0, 2}, {1, 1<<32 | 1}}, 0},
		{"an offset", tree.Counters{Zxid: 100<<32 | 7, EpochOffset: 99}, []step{{1, 100<<32 | 8}, {2, 101<<32 | 1}}, 99},
		{"an offset above what was", tree.Counters{Zxid: 100<<32 | 7, EpochOffset: 500}, []step{{1, 501<<32 | 1}, {1, 501<<32 | 2}}, 500},
		{"a negative offset", tree.Counters{Zxid: 2<<32 | 7, EpochOffset: -10}, []step{{12, 2<<32 | 8}, {13, 3<<32 | 1}}, -10},
		{"the counter's end", tree.Counters{Zxid: 1<<32 | last - 1}, []step{{1, 1<<32 | last}, {1, 2<<32 | 1}, {1, 2<<32 | 2}, {2, 3<<32 | 1}}, 1},
		{"the counter's end twice", tree.Counters{Zxid: 6<<32 | last, EpochOffset: 5}, []step{{1, 7<<32 | 1}, {2, 8<<32 | 1}}, 6},
		{"a new term at the counter's end", tree.Counters{Zxid: 1<<32 | last}, []step{{2, 2<<32 | 1}}, 0},
		{"the last epoch", tree.Counters{Zxid: last<<32 | 1, EpochOffset: last - 1}, []step{{1, last<<32 | 2}}, last - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.tree = buildOf(worn(), c.start, ^uint64(0))
			for _, s := range c.steps {
				b.term = s.term
				if r := b.must(check("/", -1)); r.Zxid != s.want || b.tree.Counters().Zxid != s.want {
					t.Errorf("term %d: zxid %v, want %v", s.term, r.Zxid, s.want)
				}
			}
			if got := b.tree.Counters().EpochOffset; got != c.wantOffset {
				t.Errorf("offset %d, want %d", got, c.wantOffset)
			}
		})
	}
}

// TestEpochNeverFalls: a term with a lower epoch is a fault of coord.
func TestEpochNeverFalls(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.term = 3
	b.must(create("/a"))
	defer func() {
		if p := fmt.Sprint(recover()); p != "tree: apply: epoch 2 after 3" {
			t.Errorf("panic %q", p)
		}
	}()
	b.tree.Apply(2, &tree.Txn{Op: create("/b")})
}

// TestEveryTxnTakesAZxid, whatever its outcome; a multi takes one.
func TestEveryTxnTakesAZxid(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	txns := []tree.Txn{
		{Op: create("/a")}, {Op: create("/a")}, {Op: check("/a", 7)}, {Op: remove("/x", -1)}, openTxn(1), openTxn(1), openTxn(0),
		{Op: tree.Op{Kind: tree.KindMulti}, Ops: []tree.Op{create("/b"), create("/c")}},
		{Op: tree.Op{Kind: tree.KindMulti}, Ops: []tree.Op{create("/d"), create("/d")}},
		{Op: tree.Op{Kind: tree.KindClose}, Target: 9}, {Op: tree.Op{Kind: tree.KindSettings}}, {Op: tree.Op{Kind: tree.KindReap, Path: "/a"}},
		{Op: flagged(create("/e/f/g"), tree.Parents)}, {Op: removeAll("/e", 1)}, {Op: tree.Op{Kind: 99}},
	}
	for i, x := range txns {
		if r, _ := b.apply(x); r.Zxid != znode.MakeZxid(1, uint32(i+1)) {
			t.Errorf("txn %d: zxid %v (%v)", i, r.Zxid, r.Code)
		}
	}
}

// TestStampsNeverGoBack, even if a leader's clock does.
func TestStampsNeverGoBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i, c := range []struct{ stamp, want int64 }{{T0, T0}, {T0 - 5, T0}, {T0 + 1, T0 + 1}, {1, T0 + 1}, {-7, T0 + 1}} {
		path := fmt.Sprintf("/n%d", i)
		r, _ := b.apply(tree.Txn{Op: create(path), TimeMS: c.stamp})
		if r.Stat.CtimeMS != c.want || b.stat(path).MtimeMS != c.want || b.tree.Counters().TimeMS != c.want {
			t.Errorf("stamp %d: %+v", c.stamp, r.Stat)
		}
	}
	b.apply(tree.Txn{Op: create("/n0"), TimeMS: T0 + 9})
	if got := b.tree.Counters().TimeMS; got != T0+9 {
		t.Errorf("a refused txn's stamp counts too: %d", got)
	}
}

// TestSessionLists: the sessions, and the paths of their ephemerals, in order.
func TestSessionLists(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	lists := func() string {
		var s []string
		b.tree.Sessions(math.MinInt64, func(x tree.Session, n int) bool {
			s = append(s, fmt.Sprint(x.ID, n, b.tree.Ephemerals(x.ID)))
			return true
		})
		return fmt.Sprint(s, len(b.tree.Ephemerals(99)))
	}
	if got := lists(); got != "[] 0" {
		t.Errorf("of nothing: %s", got)
	}
	for _, id := range []int64{7, -1 << 60, 5} {
		b.session(id)
	}
	b.must(create("/p"))
	for i, path := range []string{"/p/b", "/a", "/p/a"} {
		op := createMode(path, znode.Ephemeral)
		if r, _ := b.apply(tree.Txn{Session: []int64{7, -1 << 60, 7}[i], Op: op}); r.Code != znode.OK {
			t.Fatal(r.Code)
		}
	}
	if got, want := lists(), "[-1152921504606846976 1 [/a] 5 0 [] 7 2 [/p/a /p/b]] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	b.must(remove("/a", tree.AnyVersion))
	b.close(5)
	if got, want := lists(), "[-1152921504606846976 0 [] 7 2 [/p/a /p/b]] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAttachSession: a caller that knows the password has the session from then on, and what comes
// through an earlier attachment is refused.
func TestAttachSession(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.session(1)
	by := func(attachment uint32, op tree.Op) znode.Code {
		r, _ := b.apply(tree.Txn{Session: 1, Attachment: attachment, Op: op})
		return r.Code
	}
	attach := tree.Txn{Op: tree.Op{Kind: tree.KindAttach}, Target: 1, Password: openTxn(1).Password}
	for _, c := range []struct {
		spoil func(*tree.Txn)
		want  znode.Code
	}{
		{func(x *tree.Txn) { x.Target = 2 }, znode.ErrSessionExpired},
		{func(x *tree.Txn) { x.Password = nil }, znode.ErrAuthFailed},
		{func(x *tree.Txn) { x.Password = []byte("0123456789abcdeF") }, znode.ErrAuthFailed},
	} {
		x := attach
		c.spoil(&x)
		if r, events := b.apply(x); r.Code != c.want || len(events) != 0 {
			t.Errorf("%+v: %v, want %v", x, r.Code, c.want)
		}
	}
	if code := by(0, create("/first")); code != znode.OK {
		t.Error("before it is attached again: ", code)
	}
	for n := uint32(1); n <= 2; n++ {
		digest := b.tree.Digest()
		r, events := b.apply(attach)
		if r.Code != znode.OK || r.Attachment != n || len(events) != 1 || events[0].Type != znode.SessionMoved || events[0].Session != 1 {
			t.Fatalf("%+v %+v", r, events)
		}
		if b.tree.Digest() == digest {
			t.Error("the digest does not see it")
		}
		for _, op := range []tree.Op{create("/late"), set("/first", "x", -1), remove("/first", -1), check("/first", -1)} {
			if code := by(n-1, op); code != znode.ErrSessionMoved {
				t.Errorf("kind %d through attachment %d: %v", op.Kind, n-1, code)
			}
		}
		if code := by(n, set("/first", "x", -1)); code != znode.OK {
			t.Errorf("through attachment %d: %v", n, code)
		}
	}
	time := func() int32 {
		s, _ := b.tree.Session(1)
		return s.TimeoutMS
	}
	before := time()
	for _, c := range []struct {
		attachment, want uint32
		code             znode.Code
		ms, is           int32
	}{
		{1, 0, znode.ErrSessionMoved, before + 1, before}, // the session has moved
		{2, 2, znode.OK, before + 1, before + 1},
		{2, 2, znode.OK, 0, before + 1},
	} {
		digest, own := b.tree.Digest(), attach
		own.Session, own.Attachment, own.TimeoutMS = 1, c.attachment, c.ms
		r, events := b.apply(own)
		if r.Code != c.code || r.Attachment != c.want || len(events) != 0 || time() != c.is {
			t.Errorf("who has it through %d says %d ms: %+v %v, it has %d ms", c.attachment, c.ms, r, events, time())
		}
		if is := b.tree.Digest(); (is != digest) != (c.code == znode.OK && c.ms != 0) {
			t.Error("its time in the digest: ", c, is != digest)
		}
	}
	attach.TimeoutMS = 7
	if r, events := b.apply(attach); r.Attachment != 3 || len(events) != 1 || time() != 7 {
		t.Errorf("attached with another time: %+v %v, it has %d ms", r, events, time())
	}
	end := tree.Txn{Session: 1, Attachment: 2, Op: tree.Op{Kind: tree.KindClose}, Target: 1}
	if r, _ := b.apply(end); r.Code != znode.ErrSessionMoved {
		t.Error("ended by who has it no more: ", r.Code)
	}
	end.Attachment = 3
	if r, _ := b.apply(end); r.Code != znode.OK {
		t.Error("ended by who has it: ", r.Code)
	}
}
