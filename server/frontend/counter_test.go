package frontend_test

import (
	"testing"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// H16 (ZOOKEEPER-1277): the end of the zxid's counter, two changes away, ends no session and
// no connection. Events go on in order, and who comes back with a zxid from before is
// told what it has missed.
func TestTheEndOfTheCounterEndsNoSession(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act(`
			A> SESSION NEW
			A< OK id=* zxid=0x1ffffffff
			A> CREATE /e EPHEMERAL x\nFOLLOW /a
			A< OK path=/e v=0 zxid=0x200000001
			A< OK *
			z1> create /a x ; getData /a watch
			z1< 1 * ok *
			A< EVENT created path=/a zxid=0x200000003 *
			z1< 2 * ok *
			A> SET /a 2
			A< EVENT changed path=/a zxid=0x200000004 *
			A< OK v=1 zxid=0x200000004
			z1< event changed /a *
			B> FOLLOW /a since=0x1ffffffff
			B< OK *
			B< EVENT created path=/a zxid=0x200000003 *
			B< EVENT changed path=/a zxid=0x200000004 *
			A> GET /e
			A< DATA *
			A< x
			`)
	}, func(_ *frontend.Config, b *backend) {
		b.tree = nearTheEnd(t)
		b.watches = watch.New(watch.DefaultConfig(), b.tree.Counters().Zxid)
	})
}

// nearTheEnd is an empty tree at 2^32-2 of the first epoch.
func nearTheEnd(t *testing.T) *tree.Tree {
	t.Helper()
	b := tree.NewBuilder()
	tree.New().Freeze().Nodes(znode.Root, func(z *tree.Node) bool {
		if err := b.Add(z); err != nil {
			t.Fatal(err)
		}
		return true
	})
	tr, err := b.Tree(tree.Counters{Zxid: znode.MakeZxid(1, znode.MaxCounter-1), Settings: tree.DefaultSettings})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}
