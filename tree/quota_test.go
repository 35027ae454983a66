package tree_test

import (
	"fmt"
	"strings"
	"testing"

	"coord/tree"
	"coord/tree/znode"
)

const (
	limitsOfA = "/zookeeper/quota/a/zookeeper_limits"
	statsOfA  = "/zookeeper/quota/a/zookeeper_stats"
)

// limited makes /a with the znodes that zkCli's setquota makes, in the same order.
func limited(t *testing.T, limits string) *bench {
	t.Helper()
	b := newBench(t)
	b.must(createData("/a", "12345"))
	b.must(create("/zookeeper/quota/a"))
	b.must(createData(limitsOfA, limits))
	b.must(createData(statsOfA, "count=0,bytes=0"))
	return b
}

func hard(count, bytes string) string {
	return "count=-1,bytes=-1=;byteHardLimit=" + bytes + ";countHardLimit=" + count
}

// TestQuotaUsage: the stats follow every change in the subtree, its top included.
func TestQuotaUsage(t *testing.T) {
	t.Parallel()
	b := limited(t, hard("-1", "-1"))
	b.session(5)
	b.as = 5
	for _, step := range []struct {
		op   tree.Op
		want string
	}{
		{check("/a", -1), "count=1,bytes=5"},
		{createData("/a/b", "123"), "count=2,bytes=8"},
		{createData("/a/b/c", ""), "count=3,bytes=8"},
		{set("/a/b/c", "1234567", -1), "count=3,bytes=15"},
		{set("/a/b/c", "1", -1), "count=3,bytes=9"},
		{set("/a", "", -1), "count=3,bytes=4"},
		{setACL("/a/b", -1, znode.OpenACL...), "count=3,bytes=4"},
		{createMode("/a/e", znode.EphemeralSequential), "count=4,bytes=5"},
		{createData("/ab", "not below"), "count=4,bytes=5"},
		{remove("/a/b/c", -1), "count=3,bytes=4"},
		{flagged(createData("/a/x/y/z", "12"), tree.Parents), "count=6,bytes=6"},
		{removeAll("/a/x", 9), "count=3,bytes=4"},
		{set("/zookeeper/quota/a", "no matter", -1), "count=3,bytes=4"},
	} {
		b.must(step.op)
		if got := b.get(statsOfA).Data; got != step.want {
			t.Errorf("after %s: %s, want %s", opText(step.op), got, step.want)
		}
	}
	b.close(5)
	b.as = 0
	if got := b.get(statsOfA).Data; got != "count=2,bytes=3" {
		t.Errorf("with the session gone: %s", got)
	}
	b.must(remove("/a/b", -1))
	b.must(remove("/a", -1))
	if got := b.get(statsOfA).Data; got != "count=0,bytes=0" {
		t.Errorf("with the znode itself gone: %s", got)
	}
}

// TestQuotaStatsAreQuiet: usage changes no version, zxid or time, and fires no watch.
func TestQuotaStatsAreQuiet(t *testing.T) {
	t.Parallel()
	b := limited(t, hard("-1", "-1"))
	before := b.stat(statsOfA)
	_, events := b.apply(tree.Txn{Op: createData("/a/b", "0123456789")})
	if got := eventPaths(events); got != "created /a/b, children /a" {
		t.Errorf("events %s", got)
	}
	after := b.stat(statsOfA)
	before.DataLength = int32(len("count=2,bytes=15"))
	if after != before || b.get(statsOfA).Data != "count=2,bytes=15" {
		t.Errorf("%+v became %+v", before, after)
	}
}

// TestQuotaLifecycle: limits switch counting on and off; a new stats znode gets the present usage.
func TestQuotaLifecycle(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.must(createData("/a", "12345"))
	b.must(createData("/a/b", "123"))
	b.must(create("/zookeeper/quota/a"))
	b.must(createData(statsOfA, "anything"))
	is := func(when, want string) {
		t.Helper()
		if got := b.get(statsOfA).Data; got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	is("stats before limits", "count=2,bytes=8")
	b.must(create("/a/c"))
	is("no limits, nothing counted", "count=2,bytes=8")
	b.must(createData(limitsOfA, hard("4", "-1")))
	b.must(remove("/a/c", -1))
	is("limits count from now on", "count=1,bytes=7")
	b.must(remove(statsOfA, -1))
	for range 6 {
		b.must(createMode("/a/s", znode.PersistentSequential)) // neither counted nor refused
	}
	b.must(createData(statsOfA, ""))
	is("stats made anew", "count=8,bytes=14")
	b.refused(create("/a/x"), znode.ErrQuotaExceeded)
	b.must(set(limitsOfA, hard("9", "-1"), -1))
	b.must(create("/a/x"))
	b.refused(create("/a/y"), znode.ErrQuotaExceeded)
	b.must(remove(limitsOfA, -1))
	b.must(create("/a/y"))
	is("limits gone", "count=9,bytes=15")
	b.must(createData(limitsOfA, hard("9", "-1")))
	b.refused(create("/a/z"), znode.ErrQuotaExceeded)
	b.must(removeAll("/zookeeper/quota/a", 3))
	b.must(create("/a/z"))

	// For a path that does not exist yet.
	b.must(flagged(createData("/zookeeper/quota/later/zookeeper_limits", hard("1", "-1")), tree.Parents))
	b.must(createData("/zookeeper/quota/later/zookeeper_stats", ""))
	b.must(create("/later"))
	b.refused(create("/later/child"), znode.ErrQuotaExceeded)
}

func TestQuotaLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, limits string
		op           tree.Op // on /a (5 bytes) and /a/b (3 bytes)
		want         znode.Code
	}{
		{"room for one", hard("3", "-1"), create("/a/c"), znode.OK},
		{"no room for one", hard("2", "-1"), create("/a/c"), znode.ErrQuotaExceeded},
		{"no room for an empty one", hard("2", "-1"), createData("/a/c", ""), znode.ErrQuotaExceeded},
		{"over the limit before", hard("0", "-1"), create("/a/c"), znode.ErrQuotaExceeded},
		{"room for the bytes", hard("-1", "10"), createData("/a/c", "12"), znode.OK},
		{"no room for the bytes", hard("-1", "10"), createData("/a/c", "123"), znode.ErrQuotaExceeded},
		{"no bytes, no room needed", hard("-1", "3"), createData("/a/c", ""), znode.OK},
		{"set within", hard("-1", "10"), set("/a/b", "12345", -1), znode.OK},
		{"set beyond", hard("-1", "10"), set("/a/b", "123456", -1), znode.ErrQuotaExceeded},
		{"set of fewer bytes, still over", hard("-1", "4"), set("/a/b", "12", -1), znode.ErrQuotaExceeded},
		{"set of fewer bytes, then within", hard("-1", "6"), set("/a/b", "1", -1), znode.OK},
		{"set of as many bytes while over", hard("-1", "4"), set("/a/b", "abc", -1), znode.OK},
		{"set while over the count", hard("0", "-1"), set("/a/b", "1234", -1), znode.OK},
		{"set or create beyond", hard("2", "-1"), flagged(set("/a/c", "", -1), tree.OrCreate), znode.ErrQuotaExceeded},
		{"parents within", hard("4", "-1"), flagged(create("/a/c/d"), tree.Parents), znode.OK},
		{"parents beyond", hard("3", "-1"), flagged(create("/a/c/d"), tree.Parents), znode.ErrQuotaExceeded},
		{"delete while over", hard("0", "0"), remove("/a/b", -1), znode.OK},
		{"elsewhere", hard("0", "0"), create("/ab"), znode.OK},
		{"soft limits", "count=1,bytes=1", createData("/a/c", "123"), znode.OK},
		{"soft below hard", "count=1,bytes=1;countHardLimit=3;byteHardLimit=11", createData("/a/c", "123"), znode.OK},
		{"commas between", "count=1,bytes=1,countHardLimit=2,byteHardLimit=99", create("/a/c"), znode.ErrQuotaExceeded},
		{"garbage", "as much as you like", createData("/a/c", "123"), znode.OK},
		{"a number that is none", "countHardLimit=two,byteHardLimit=", createData("/a/c", "123"), znode.OK},
		{"empty", "", createData("/a/c", "123"), znode.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := limited(t, "")
			b.must(createData("/a/b", "123"))
			b.must(set(limitsOfA, c.limits, -1))
			before, stats := b.stat("/a"), b.get(statsOfA).Data
			r := b.do(c.op)
			if r.Code != c.want {
				t.Errorf("%v, want %v", r.Code, c.want)
			}
			if r.Code != znode.OK && (b.stat("/a") != before || b.get(statsOfA).Data != stats) {
				t.Errorf("refused, but /a is %+v and uses %s", b.stat("/a"), b.get(statsOfA).Data)
			}
			b2 := limited(t, c.limits)
			b2.settings(tree.Settings{})
			b2.must(createData("/a/b", "123"))
			if r := b2.do(c.op); r.Code != znode.OK {
				t.Errorf("not enforced, but %v", r.Code)
			}
		})
	}
}

// TestQuotaIsShort: only a kilobyte of what a client has put into limits or stats counts, and no
// more is written at each change below: with a megabyte of keys each change took a minute.
func TestQuotaIsShort(t *testing.T) {
	t.Parallel()
	keys := ""
	for i := 0; len(keys) < 100_000; i++ {
		keys += fmt.Sprintf(";k%05d=1", i)
	}
	b := limited(t, "count=-1,bytes=-1=;countHardLimit=3"+keys+";byteHardLimit=3")
	b.must(set(statsOfA, "count=1,bytes=3="+keys, -1))
	b.must(createData("/a/b", "12345"))
	if got := b.get(statsOfA).Data; !strings.HasPrefix(got, "count=2,bytes=8=;k00000=1;") || !strings.HasSuffix(got, "=1") || len(got) > 1024 || len(got) < 1000 {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	b.must(create("/a/c"))
	b.refused(create("/a/d"), znode.ErrQuotaExceeded)
}

// TestQuotaNeedsStats: without a count there is nothing to compare with the limits.
func TestQuotaNeedsStats(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.must(create("/a"))
	b.must(flagged(createData(limitsOfA, hard("0", "2")), tree.Parents))
	b.must(createData("/a/b", "12345"))
	b.must(set("/a/b", "1234567", -1))
}

// TestQuotaClosest: a znode counts only for its closest ancestor with limits.
func TestQuotaClosest(t *testing.T) {
	t.Parallel()
	b := limited(t, hard("3", "-1"))
	b.must(create("/a/b"))
	b.must(flagged(createData("/zookeeper/quota/a/b/zookeeper_limits", hard("2", "-1")), tree.Parents))
	b.must(createData("/zookeeper/quota/a/b/zookeeper_stats", ""))
	b.must(create("/a/b/c"))
	b.refused(create("/a/b/d"), znode.ErrQuotaExceeded)
	b.must(create("/a/c"))
	b.refused(create("/a/d"), znode.ErrQuotaExceeded)
	if outer, inner := b.get(statsOfA).Data, b.get("/zookeeper/quota/a/b/zookeeper_stats").Data; outer != "count=3,bytes=7" || inner != "count=2,bytes=2" {
		t.Errorf("outer %s, inner %s", outer, inner)
	}
	b.must(remove("/zookeeper/quota/a/b/zookeeper_limits", -1))
	b.refused(create("/a/b/d"), znode.ErrQuotaExceeded) // now by the outer one
}

// TestQuotaInMulti: a multi is judged by the limits and the usage before it, as ZooKeeper 3.8.0 was
// seen to do; what it has counted is undone if it fails.
func TestQuotaInMulti(t *testing.T) {
	t.Parallel()
	b := limited(t, hard("3", "-1"))
	before := dump(b.tree.Freeze())
	bad := set("/a", "x", 77)
	for name, ops := range map[string][]tree.Op{
		"more than there is room for": {create("/a/b"), create("/a/c"), create("/a/d"), bad},
		"limits come and go":          {remove(limitsOfA, -1), create("/a/b"), createData(limitsOfA, hard("2", "-1")), create("/a/c"), create("/a/d"), remove(limitsOfA, 1)},
		"stats come and go":           {create("/a/b"), remove(statsOfA, -1), create("/a/c"), create(statsOfA), remove("/a", 7)},
		"limits for the first":        {create("/zookeeper/quota/b"), createData("/zookeeper/quota/b/zookeeper_limits", hard("1", "1")), create("/b"), bad},
	} {
		r, _ := b.multi(ops...)
		if r.Code == znode.OK || r.Code == znode.ErrQuotaExceeded {
			t.Errorf("%s: %v", name, r.Code)
		}
		if after := dump(b.tree.Freeze()); withoutCounters(after) != withoutCounters(before) {
			t.Errorf("%s: changed to\n%s", name, after)
		}
	}
	// Limits that a failed multi set for an inner path do not hide the outer ones.
	inner := flagged(createData("/zookeeper/quota/a/b/zookeeper_limits", hard("9", "-1")), tree.Parents)
	if r, _ := b.multi(inner, create("/a"), create("/a/b")); r.Code != znode.ErrNodeExists {
		t.Errorf("%+v", r)
	}
	if r, _ := b.multi(create("/a/b"), create("/a/c"), create("/a/d")); r.Code != znode.OK {
		t.Errorf("room for each alone: op %d %v", r.Op, r.Code)
	}
	for name, ops := range map[string][]tree.Op{
		"room made by the same multi":   {remove("/a/b", -1), remove("/a/c", -1), create("/a/e")},
		"limits raised by the same one": {set(limitsOfA, hard("9", "-1"), -1), create("/a/e")},
		"limits taken away by it":       {remove(limitsOfA, -1), create("/a/e")},
		"hidden by it":                  {inner, create("/a/e")},
	} {
		if r, _ := b.multi(ops...); r.Code != znode.ErrQuotaExceeded {
			t.Errorf("%s: %v", name, r.Code)
		}
	}
	b.refused(create("/a/e"), znode.ErrQuotaExceeded)
	b.must(create("/b"))
	b.must(create("/b/c"))
}

// TestQuotaSurvivesSnapshot: a rebuilt tree has the limits.
func TestQuotaSurvivesSnapshot(t *testing.T) {
	t.Parallel()
	b := limited(t, hard("2", "-1"))
	again, err := rebuild(b.tree.Freeze(), ^uint64(0))
	if err != nil {
		t.Fatal(err)
	}
	b.tree = again
	b.must(create("/a/b"))
	b.refused(create("/a/c"), znode.ErrQuotaExceeded)
}
