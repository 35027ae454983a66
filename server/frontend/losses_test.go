package frontend_test

import (
	"testing"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

// H16 (ZOOKEEPER-1277): when the zxid's counter, which is two changes from its end, overflows, no
// session and no connection ends. Events go on in order, and a client that comes back with an
// earlier zxid gets the events that it has missed.
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

// H20 (etcd#15271, 17247): clients that came back got events again that they had seen, or not those
// that they had missed. Here the last zxid that the client has seen is the border, for each kind of
// watch, in both protocols: events at that zxid are not delivered, later ones are delivered once.
func TestWhoComesBackIsToldOnce(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act(`
			z1> create /a x ; create /b x ; setData /a y ; create /b/c x
			z1< 1 #2 ok *
			z1< 2 #3 ok *
			z1< 3 #4 ok *
			z1< 4 #5 ok *
			# It has seen the change of /a, and not the child of /b.
			z2> connect zxid=#4
			z2< session *
			z2> setWatches xid=-8 zxid=#4 data=/a child=/b
			z2< event children /b none
			z2< -8 *
			# It has seen both: nothing is told, and both are watched.
			z3> connect zxid=#5
			z3< session *
			z3> setWatches xid=-8 zxid=#5 data=/a child=/b
			z3< -8 *
			A> FOLLOW /a since=0x100000004
			A< OK *
			B> FOLLOW /a since=0x100000003
			B< OK *
			B< EVENT changed path=/a zxid=0x100000004 *
			z1> setData /a z ; create /b/d x
			z2< event changed /a *
			z3< event changed /a *
			A< EVENT changed path=/a *
			B< EVENT changed path=/a *
			z3< event children /b *
			z1< 5 * ok *
			z1< 6 * ok *
			`)
	})
}

// nearTheEnd returns an empty tree at 2^32-2 of the first epoch.
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
