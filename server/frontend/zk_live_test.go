package frontend_test

import (
	"testing"

	"coord/server/frontend"
	"coord/tree/znode"
)

// TestZooKeeperWatches checks which clients get which events, when, and that they get them once.
func TestZooKeeperWatches(t *testing.T) {
	playAll(t, []play{
		{"one-shot, and before the reply to the write that fires it", `
			z1> create /a x ; getData /a watch ; exists /a watch ; getChildren /a watch ; exists /b watch ; getData /none watch ; getChildren /none watch
			z1< 1 #2 ok /a
			z1< 2 #2 ok *
			z1< 3 #2 ok *
			z1< 4 #2 ok []
			z1< 5 #2 -101
			z1< 6 #2 -101
			z1< 7 #2 -101
			z1> setData /a y ; setData /a z ; create /a/c x ; create /a/d x ; create /b x ; setData /b y ; create /none x
			z1< event changed /a #3
			z1< 8 #3 ok *
			z1< 9 #4 ok *
			z1< event children /a #5
			z1< 10 #5 ok /a/c
			z1< 11 #6 ok /a/d
			z1< event created /b #7
			z1< 12 #7 ok /b
			z1< 13 #8 ok *
			z1< 14 #9 ok /none
			`, "/a /a/c /a/d /b /none"},
		{"deleted: told once, whatever is watched", `
			z1> create /a x ; create /a/b x ; getData /a/b watch ; getChildren2 /a/b watch ; getChildren2 /a watch ; delete /a/b ; getChildren /a
			z1< 1 #2 ok /a
			z1< 2 #3 ok /a/b
			z1< 3 #3 ok *
			z1< 4 #3 ok *
			z1< 5 #3 ok *
			z1< event deleted /a/b #4
			z1< event children /a #4
			z1< 6 #4 ok
			z1< 7 #4 ok []
			`, "/a"},
		{"persistent and recursive", `
			z1> addWatch /a kind=0 ; addWatch /r kind=1 ; create /a x ; create /a/b x ; setData /a/b y ; setData /a y ; delete /a/b ; delete /a
			z1< 1 #1 ok 0
			z1< 2 #1 ok 0
			z1< event created /a #2
			z1< 3 #2 ok /a
			z1< event children /a #3
			z1< 4 #3 ok /a/b
			z1< 5 #4 ok *
			z1< event changed /a #5
			z1< 6 #5 ok *
			z1< event children /a #6
			z1< 7 #6 ok
			z1< event deleted /a #7
			z1< 8 #7 ok
			z1> create /r x ; create /r/x x ; create /r/x/y x ; setData /r/x y ; delete /r/x/y ; create /rx x ; delete /rx
			z1< event created /r #8
			z1< 9 #8 ok /r
			z1< event created /r/x #9
			z1< 10 #9 ok /r/x
			z1< event created /r/x/y #10
			z1< 11 #10 ok /r/x/y
			z1< event changed /r/x #11
			z1< 12 #11 ok *
			z1< event deleted /r/x/y #12
			z1< 13 #12 ok
			z1< 14 #13 ok /rx
			z1< 15 #14 ok
			`, "/r /r/x"},
		{"several at once", `
			z1> create /a x ; addWatch /a kind=0 ; addWatch / kind=1 ; getData /a watch ; setData /a y ; setData /a z
			z1< 1 #2 ok /a
			z1< 2 #2 ok 0
			z1< 3 #2 ok 0
			z1< 4 #2 ok *
			z1< event changed /a #3
			z1< 5 #3 ok *
			z1< event changed /a #4
			z1< 6 #4 ok *
			z1> multi create /a/b x + setData /a/b y + delete /a/b ; multi setData /a x + check /none
			z1< event created /a/b #5
			z1< event children /a #5
			z1< event changed /a/b #5
			z1< event deleted /a/b #5
			z1< event children /a #5
			z1< 7 #5 ok *
			z1< 8 #6 ok 0 + -101
			`, "/a"},
		{"of others, in both protocols", `
			z1> create /a x ; getData /a watch ; exists /b watch
			z1< 1 #2 ok /a
			z1< 2 #2 ok *
			z1< 3 #2 -101
			z2> setData /a y
			z1< event changed /a #4
			z2< 1 #4 ok *
			B> FOLLOW / recursive
			B< OK id=1 zxid=*
			B> SET /b create x
			B< EVENT created path=/b zxid=0x100000005 v=0 id=1
			B< OK v=0 zxid=0x100000005
			z1< event created /b #5
			z1> create /c x
			z1< 4 #6 ok /c
			B< EVENT created path=/c *
			`, "/a /b /c"},
		{"who may not read is not told", `
			Z1> auth digest bob:pwd ; create /a x acl=auth::31,world:anyone:2 ; getData /a watch ; exists /a watch
			Z1< 1 0x0 ok
			Z1< 2 #2 ok /a
			Z1< 3 #2 ok *
			Z1< 4 #2 ok *
			z2> exists /a watch ; addWatch /a kind=0
			z2< 1 #3 -102
			z2< 2 #3 ok 0
			z2> setData /a y
			Z1< event changed /a #4
			z2< 3 #4 ok *
			z2> auth digest bob:pwd ; setData /a z
			z2< 4 0x0 ok
			z2< event changed /a #5
			z2< 5 #5 ok *
			`, "/a"},
		{"checkWatches and removeWatches", `
			z1> create /a x ; getData /a watch ; getChildren /a watch ; addWatch /a kind=0 ; addWatch /a kind=1
			z1< 1 #2 ok /a
			z1< 2 #2 ok *
			z1< 3 #2 ok *
			z1< 4 #2 ok 0
			z1< 5 #2 ok 0
			z1> checkWatches /a kind=1 ; checkWatches /a kind=2 ; checkWatches /a kind=3 ; checkWatches /a kind=4 ; checkWatches /a kind=5 ; checkWatches /b kind=3
			z1< 6 #2 ok
			z1< 7 #2 ok
			z1< 8 #2 ok
			z1< 9 #2 ok
			z1< 10 #2 ok
			z1< 11 #2 -121
			z1> removeWatches /a kind=5 ; removeWatches /a kind=5 ; removeWatches /a kind=4 ; removeWatches /a kind=1 ; create /a/b x ; checkWatches /a kind=2 ; removeWatches /a kind=3 ; removeWatches /a kind=3 ; setData /a y
			z1< 12 #2 ok
			z1< 13 #2 -121
			z1< 14 #2 ok
			z1< 15 #2 ok
			z1< 16 #3 ok /a/b
			z1< 17 #3 ok
			z1< 18 #3 ok
			z1< 19 #3 -121
			z1< 20 #4 ok *
			z2> checkWatches /a kind=3
			z2< 1 #5 -121
			`, "/a /a/b"},
		{"setWatches: what has changed, before the reply; the rest is watched", `
			z1> create /a x ; create /b x ; create /b/c x ; create /d x ; setData /d y ; create /e x
			z1< 1 #2 ok *
			z1< 2 #3 ok *
			z1< 3 #4 ok *
			z1< 4 #5 ok *
			z1< 5 #6 ok *
			z1< 6 #7 ok *
			z2> connect zxid=#5
			z2< session *
			z2> setWatches xid=-8 zxid=#5 data=/a,/d,/none exist=/b,/f child=/b,/none,/d,/ ; ping
			z2< event changed /d none
			z2< event deleted /none none
			z2< event created /b none
			z2< event deleted /none none
			z2< event children / none
			z2< -8 #8 ok
			z2< -2 #8 ok
			z1> setData /a y ; setData /d z ; create /none x ; setData /b x ; create /f x ; create /b/x x ; create /d/x x
			z2< event changed /a #9
			z2< event created /f #13
			z2< event children /b #14
			z2< event children /d #15
			z1< 7 #9 ok *
			z1< 8 #10 ok *
			z1< 9 #11 ok *
			z1< 10 #12 ok *
			z1< 11 #13 ok *
			z1< 12 #14 ok *
			z1< 13 #15 ok *
			`, "/a /b /b/c /b/x /d /d/x /e /f /none"},
		{"setWatches: what is no UTF-8 comes back as Java reads it", "z1> setWatches data=/\xff,/ü child=/\xed\xa0\xbd\n" + `
			z1< event deleted /� none
			z1< event deleted /ü none
			z1< event deleted /� none
			z1< 1 #1 ok
			`, ""},
		{"a path that is no UTF-8 is watched as Java reads it", "z1> exists /\xff watch ; checkWatches /\xe2\x82 kind=2 ; removeWatches /\ufffd kind=2 ; removeWatches /\xff kind=2\n" + `
			z1< 1 #1 -101
			z1< 2 #1 ok
			z1< 3 #1 ok
			z1< 4 #1 -121
			`, ""},
		{"setWatches2: persistent ones have nothing to catch up", `
			z1> create /a x ; setWatches2 xid=-8 zxid=#1 data=/a persistent=/a,/p recursive=/r ; setData /a y ; create /p x ; create /r x
			z1< 1 #2 ok /a
			z1< event changed /a none
			z1< -8 #2 ok
			z1< event changed /a #3
			z1< 2 #3 ok *
			z1< event created /p #4
			z1< 3 #4 ok /p
			z1< event created /r #5
			z1< 4 #5 ok /r
			z1> setData /a z ; setData /p z ; create /r/x x
			z1< event changed /a #6
			z1< 5 #6 ok *
			z1< event changed /p #7
			z1< 6 #7 ok *
			z1< event created /r/x #8
			z1< 7 #8 ok /r/x
			`, "/a /p /r /r/x"},
		{"they are the connection's and not the session's", `
			z1> exists /a watch
			z1< 1 #1 -101
			z1!
			z2> ` + zkResume + ` ; checkWatches /a kind=3 ; create /a x
			z2< session 0x3e9 *
			z2< 1 #2 -121
			z2< 2 #3 ok /a
			`, "/a"},
	})
}

// TestZooKeeperSessions checks how sessions end and move, also to the other protocol.
func TestZooKeeperSessions(t *testing.T) {
	playAll(t, []play{
		{"closeSession: the ephemerals, the reply, the end; nothing behind it", `
			z1> create /e x flags=1 ; exists /e watch ; getEphemerals / ; closeSession ; create /a x ; ping
			z1< 1 #2 ok /e
			z1< 2 #2 ok *
			z1< 3 #2 ok [/e]
			z1< event deleted /e #3
			z1< 4 #3 ok
			z1.
			z2> ` + zkResume + `
			z2< refused *
			z2.
			`, ""},
		{"silence, and no message", `
			z1> connect ttl=4000 ; create /e x flags=1 ; addWatch / kind=1
			z1< session *
			z1< 1 #2 ok /e
			z1< 2 #2 ok 0
			sleep 3900ms
			z1> ping
			z1< -2 #2 ok
			sleep 3900ms
			z1> raw 00
			sleep 3999ms
			z2> exists /e watch
			z2< 1 #3 ok *
			sleep 1s
			z1< event deleted /e #4
			z2< event deleted /e #4
			z1.
			`, ""},
		{"the end of the connection is not that of the session", `
			z1> connect ttl=4000 ; create /e x flags=1
			z1< session *
			z1< 1 #2 ok /e
			z1|
			z1.
			sleep 3900ms
			Z2> exists /e
			Z2< 1 #3 ok *
			sleep 1s
			Z2> exists /e
			Z2< 2 #4 -101
			`, ""},
		{"another connection takes it over", `
			z1> create /e x flags=1
			z1< 1 #2 ok /e
			z2> ` + zkResume + ` ; getEphemerals / ; create /f x flags=1
			z2< session 0x3e9 10000 ` + zkPassword + ` ro=true
			z2< 1 #3 ok [/e]
			z2< 2 #4 ok /f
			z1.
			sleep 9s
			z2> ping
			z2< -2 #4 ok
			sleep 9s
			z2> getEphemerals /
			z2< 4 #4 ok [/e /f]
			z2> closeSession
			z2< 5 #5 ok
			z2.
			`, ""},
		{"what the text protocol made", `
			A> SESSION NEW ttl=6s hold=6s\nCREATE /e EPHEMERAL x
			A< OK id=0x3e9 * password=` + zkPassword + ` *
			A< OK *
			z1> ` + zkResume + ` ttl=5000 ; getData /e ; create /f x flags=1
			A< EVENT moved session=0x3e9
			z1< session 0x3e9 5000 ` + zkPassword + ` ro=true
			z1< 1 #3 ok "x" [#2 #2 #2 v0 c0 a0 eph=0x3e9 len=1]
			z1< 2 #4 ok /f
			A.
			sleep 4s
			z1> getEphemerals /
			z1< 3 #4 ok [/e /f]
			sleep 6s
			z1.
			`, ""},
		{"what ZooKeeper's protocol made", `
			z1> create /e x flags=1
			z1< 1 #2 ok /e
			A> ` + resume + `
			A< OK id=0x3e9 ttl=10s hold=0s live=tcp *
			z1.
			sleep 1h
			A> EXISTS /e\nCREATE /f EPHEMERAL x\nQUIT
			A< OK * eph=0x3e9 *
			A< OK *
			A< OK bye
			A.
			`, ""},
		{"closed by an operator", `
			z1> create /e x flags=1 ; exists /e watch
			z1< 1 #2 ok /e
			z1< 2 #2 ok *
			A> SESSION CLOSE 0x3e9
			z1< event deleted /e #3
			A< OK zxid=*
			z1.
			`, ""},
	})
}

// TestZooKeeperAuth checks which identities a client can prove.
func TestZooKeeperAuth(t *testing.T) {
	boss := znode.DigestOf("boss:secret")
	for _, p := range []play{
		{"a digest, and the super's", `
			z1> auth digest bob:pwd xid=-4 ; auth digest bob:pwd xid=-4 ; whoAmI ; create /s x acl=digest:eve:h:31 ; getData /s ; auth digest boss:secret ; getData /s ; whoAmI ; auth ip x
			z1< -4 0x0 ok
			z1< -4 0x0 ok
			z1< 1 #1 ok ip:10.0.0.122 digest:bob
			z1< 2 #2 ok /s
			z1< 3 #2 -102
			z1< 4 0x0 ok
			z1< 5 #2 ok *
			z1< 6 #2 ok ip:10.0.0.122 digest:bob digest:boss super:
			z1< 7 0x0 ok
			z2> auth digest boss:Secret ; getData /s ; auth digest nobody ; whoAmI
			z2< 1 0x0 ok
			z2< 2 #3 -102
			z2< 3 0x0 ok
			z2< 4 #3 ok ip:10.0.0.122 digest:boss digest:nobody
			`, "/s"},
		{"an unknown scheme, in its turn, and the end", `
			z1> create /a x ; auth foo bar xid=-4 ; create /b x
			z1< 1 #2 ok /a
			z1< -4 0x0 -115
			z1.
			z2> auth digest null ; create /b x
			z2< 1 0x0 -115
			z2.
			z3> auth sasl x
			z3< 1 0x0 -115
			z3.
			`, "/a"},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			stage(t, func(x *theatre) {
				x.act(p.script)
				x.have(p.left)
			}, func(cfg *frontend.Config, _ *backend) { cfg.SuperDigest = boss.ID })
		})
	}
}
