package frontend_test

import (
	"strings"
	"testing"

	"coord/server/frontend"
	"coord/tree"
	"coord/tree/znode"
)

// The session that is the first change of all, as its client gets it.
const (
	zkPassword = "01010101010101010101010101010101"
	zkResume   = "connect id=0x3e9 pw=" + zkPassword
)

// TestZooKeeperConnect checks the first frame and its answers.
func TestZooKeeperConnect(t *testing.T) {
	playAll(t, []play{
		{"with and without the byte for readOnly", `
			z1> connect ttl=5000
			z1< session 0x3e9 5000 ` + zkPassword + ` ro=true
			Z1> connect ttl=5000 old
			Z1< session 0x3ea 5000 02020202020202020202020202020202 ro=false
			z2> connect ttl=5000 ro
			z2< session 0x3eb 5000 * ro=true
			z1> ping
			z1< -2 #3 ok
			`, ""},
		{"timeouts", `
			z1> connect ttl=3999
			z1< session 0x3e9 4000 *
			z2> connect ttl=40001
			z2< session 0x3ea 40000 *
			z3> connect ttl=-1
			z3< session 0x3eb 4000 *
			z4> connect ttl=2147483647 old
			z4< session 0x3ec 40000 *
			`, ""},
		{"a session comes back, with another timeout", `
			z1> create /e x flags=1
			z1< 1 #2 ok /e
			z1!
			sleep 9s
			z2> ` + zkResume + ` ttl=4000 zxid=#2
			z2< session 0x3e9 4000 ` + zkPassword + ` ro=true
			z2!
			sleep 3900ms
			z3> ` + zkResume + ` old ttl=20000
			z3< session 0x3e9 20000 ` + zkPassword + ` ro=false
			sleep 19s
			z3> getData /e
			z3< 1 #4 ok "x" [#2 #2 #2 v0 c0 a0 eph=0x3e9 len=1]
			z3!
			sleep 21s
			z4> ` + zkResume + ` ttl=20000
			z4< refused ro=true
			z4.
			`, ""},
		{"refused", `
			z1> connect
			z1< session 0x3e9 *
			z2> ` + strings.Replace(zkResume, "pw=01", "pw=02", 1) + `
			z2< refused ro=true
			z2.
			z3> connect old id=0x3e9 pw=0101
			z3< refused ro=false
			z3.
			z4> connect id=0x3e9 pw=null
			z4< refused ro=true
			z4.
			z5> connect id=0x3e9 pw=
			z5< refused ro=true
			z5.
			z6> ` + zkResume + `00
			z6< refused ro=true
			z6.
			z7> connect id=0x3e9
			z7< refused ro=true
			z7.
			z8> connect id=0x3e8 pw=` + zkPassword + `
			z8< refused ro=true
			z8.
			z9> connect id=-1 pw=` + zkPassword + `
			z9< refused ro=true
			z9.
			z1> ping
			z1< -2 #1 ok
			`, ""},
		{"no id is a new session, whatever the password", `
			z1> connect pw=` + zkPassword + `
			z1< session 0x3e9 10000 ` + zkPassword + ` ro=true
			z2> connect pw=null
			z2< session 0x3ea *
			z3> connect pw=77
			z3< session 0x3eb *
			`, ""},
		{"a client that has seen more is to look elsewhere", `
			z1> connect zxid=#1
			z1.
			z2> connect
			z2< session 0x3e9 *
			z3> ` + zkResume + ` zxid=#2
			z3.
			z4> connect id=0x3e8 zxid=#2
			z4.
			z2> ping
			z2< -2 #1 ok
			z5> ` + zkResume + ` zxid=#1
			z5< session 0x3e9 *
			z2.
			`, ""},
		{"a client that says a negative zxid has seen nothing", `
			z1> connect zxid=-1
			z1< session 0x3e9 *
			z2> ` + zkResume + ` zxid=-9223372036854775808
			z2< session 0x3e9 *
			z1.
			`, ""},
		{"malformed", `
			z1> raw 00000000
			z1.
			z2> raw 0000002b 00000000 0000000000000000 00002710 0000000000000000 00000010 000000000000000000000000000000
			z2.
			z3> raw 0000002c 00000000 0000000000000000 00002710 0000000000000000 fffffffe 00000000000000000000000000000000
			z3.
			z4> raw 00001ffd
			z4.
			z5> raw 00ffffff 00
			z5.
			`, ""},
		{"requests behind it", `
			z1> connect ; auth digest bob:pwd xid=-4 ; create /a x ; getData /a ; create /e x flags=1 ; whoAmI
			z1< session 0x3e9 *
			z1< -4 0x0 ok
			z1< 1 #2 ok /a
			z1< 2 #2 ok "x" [#2 #2 #2 v0 c0 a0 len=1]
			z1< 3 #3 ok /e
			z1< 4 #3 ok ip:10.0.0.122 digest:bob
			z2> ` + strings.Replace(zkResume, "pw=01", "pw=02", 1) + ` ; create /b x
			z2< refused *
			z2.
			`, "/a /e"},
	})
}

// TestZooKeeperOperations checks the answers of each operation, and each of its errors.
func TestZooKeeperOperations(t *testing.T) {
	bob := znode.DigestOf("bob:pwd").ID
	playAll(t, []play{
		{"create", `
			z1> create /a x ; create /a x ; create /n null ; create /0 ""
			z1< 1 #2 ok /a
			z1< 2 #3 -110
			z1< 3 #4 ok /n
			z1< 4 #5 ok /0
			z1> create /none/a x ; create a x ; create /a/ x ; create /a//b x ; create / x ; create "" x
			z1< 5 #6 -101
			z1< 6 #7 -8
			z1< 7 #8 -8
			z1< 8 #9 -101
			z1< 9 #10 -110
			z1< 10 #11 -8
			z1> create /b x acl=null ; create /b x acl= ; create /b x acl=foo:bar:31 ; create /b x acl=auth::31 ; create /b x acl=world:all:31
			z1< 11 #12 -114
			z1< 12 #13 -114
			z1< 13 #14 -114
			z1< 14 #15 -114
			z1< 15 #16 -114
			z1> create /e x flags=1 ; create /e/a x ; create /a/s- x flags=2 ; create /a/ x flags=3 ; create /a/c x flags=4
			z1< 16 #17 ok /e
			z1< 17 #18 -108
			z1< 18 #19 ok /a/s-0000000000
			z1< 19 #20 ok /a/0000000001
			z1< 20 #21 ok /a/c
			z1> create /b x flags=5 ; create /b x flags=7 ; create /b x flags=-1 ; create /r x acl=world:anyone:1 ; create /r/a x
			z1< 21 #22 -8
			z1< 22 #22 -8
			z1< 23 #22 -8
			z1< 24 #23 ok /r
			z1< 25 #24 -102
			z1> getData /n ; getData /0 ; getData /a/0000000001 ; getData /a/c
			z1< 26 #24 ok null [#4 #4 #4 v0 c0 a0]
			z1< 27 #24 ok "" [#5 #5 #5 v0 c0 a0]
			z1< 28 #24 ok "x" [#20 #20 #20 v0 c0 a0 eph=0x3e9 len=1]
			z1< 29 #24 ok "x" [#21 #21 #21 v0 c0 a0 len=1]
			`, "/0 /a /a/0000000001 /a/c /a/s-0000000000 /e /n /r"},
		{"create2, createContainer, createTTL", `
			z1> create2 /a xy ; create2 /a x ; createContainer /c null flags=4 ; createTTL /t x flags=5 ttl=1000 ; createTTL /s x flags=6 ttl=1
			z1< 1 #2 ok /a [#2 #2 #2 v0 c0 a0 len=2]
			z1< 2 #3 -110
			z1< 3 #4 ok /c [#4 #4 #4 v0 c0 a0]
			z1< 4 #5 ok /t [#5 #5 #5 v0 c0 a0 len=1]
			z1< 5 #6 ok /s0000000003 [#6 #6 #6 v0 c0 a0 len=1]
			z1> createTTL /b x flags=5 ttl=0 ; createTTL /b x flags=5 ttl=1099511627776 ; createTTL /b x flags=0 ttl=5 ; create2 /b x flags=6 ; createContainer /b x flags=5
			z1< 6 #7 -8
			z1< 7 #8 -8
			z1< 8 #8 -8
			z1< 9 #9 -8
			z1< 10 #10 -8
			z1> create2 /none/b x ; createContainer /none/b x flags=4 ; createTTL /none/b x flags=5 ttl=5 ; create2 /e "" flags=1 ; createTTL /e/x x flags=5 ttl=9
			z1< 11 #11 -101
			z1< 12 #12 -101
			z1< 13 #13 -101
			z1< 14 #14 ok /e [#14 #14 #14 v0 c0 a0 eph=0x3e9]
			z1< 15 #15 -108
			z1> createContainer /k x flags=1 ; createContainer /k/s- x flags=3 ; createContainer /l x flags=0
			z1< 16 #16 ok /k [#16 #16 #16 v0 c0 a0 len=1]
			z1< 17 #17 ok /k/s-0000000000 [#17 #17 #17 v0 c0 a0 len=1]
			z1< 18 #18 ok /l [#18 #18 #18 v0 c0 a0 len=1]
			`, "/a /c /e /k /k/s-0000000000 /l /s0000000003 /t"},
		{"delete", `
			z1> create /a x ; create /a/b x ; delete /a ; delete /a/b v=1 ; delete /a/c ; delete /none/c ; delete /a/b v=0 ; delete /a
			z1< 1 #2 ok /a
			z1< 2 #3 ok /a/b
			z1< 3 #4 -111
			z1< 4 #5 -103
			z1< 5 #6 -101
			z1< 6 #7 -101
			z1< 7 #8 ok
			z1< 8 #9 ok
			z1> delete / ; delete a ; delete /zookeeper ; delete /zookeeper/quota ; delete /zookeeper/config ; delete /%00 ; create /r x acl=world:anyone:4 ; create /r/a x ; delete /r/a
			z1< 9 #10 -8
			z1< 10 #11 -8
			z1< 11 #12 -8
			z1< 12 #13 -8
			z1< 13 #14 -8
			z1< 14 #15 -8
			z1< 15 #16 ok /r
			z1< 16 #17 ok /r/a
			z1< 17 #18 -102
			`, "/r /r/a"},
		{"setData", `
			z1> create /a x ; setData /a yz ; setData /a null v=1 ; setData /a q v=1 ; setData /b x ; setData b x ; setData / x
			z1< 1 #2 ok /a
			z1< 2 #3 ok [#2 #3 #2 v1 c0 a0 len=2]
			z1< 3 #4 ok [#2 #4 #2 v2 c0 a0]
			z1< 4 #5 -103
			z1< 5 #6 -101
			z1< 6 #7 -8
			z1< 7 #8 ok [0x0 #8 #2 v1 c0 a0 len=1 kids=2]
			z1> create /r x acl=world:anyone:1 ; setData /r x ; getData /a
			z1< 8 #9 ok /r
			z1< 9 #10 -102
			z1< 10 #10 ok null [#2 #4 #2 v2 c0 a0]
			`, "/a /r"},
		{"setACL, getACL", `
			z1> auth digest bob:pwd ; create /a x acl=auth::31,world:anyone:1 ; getACL /a ; setACL /a acl=auth::16,world:anyone:1 v=0 ; getACL /a ; setACL /a acl=world:anyone:1 v=0
			z1< 1 0x0 ok
			z1< 2 #2 ok /a
			z1< 3 #2 ok digest:` + bob + `:cdrwa,world:anyone:r [#2 #2 #2 v0 c0 a0 len=1]
			z1< 4 #3 ok [#2 #2 #2 v0 c0 a1 len=1]
			z1< 5 #3 ok digest:` + bob + `:a,world:anyone:r [#2 #2 #2 v0 c0 a1 len=1]
			z1< 6 #4 -103
			z1> setACL /b ; setACL b ; setACL /a acl=null ; setACL /a acl=foo:x:1 ; create /q x acl=auth::16 ; create /w x acl=digest:eve:h:2
			z1< 7 #5 -101
			z1< 8 #6 -8
			z1< 9 #7 -114
			z1< 10 #8 -114
			z1< 11 #9 ok /q
			z1< 12 #10 ok /w
			z1> getACL /q ; getACL /w ; getACL /none ; getACL a
			z1< 13 #10 ok digest:` + bob + `:a [#9 #9 #9 v0 c0 a0 len=1]
			z1< 14 #10 -102
			z1< 15 #10 -101
			z1< 16 #10 -101
			z2> getACL /a ; setACL /a ; getACL /q ; getACL /
			z2< 1 #11 ok digest:bob:x:a,world:anyone:r [#2 #2 #2 v0 c0 a1 len=1]
			z2< 2 #12 -102
			z2< 3 #12 -102
			z2< 4 #12 ok world:anyone:cdrwa *
			`, "/a /q /w"},
		{"reads", `
			z1> create /a x ; create /a/c x ; create /a/b xyz ; create /r x acl=world:anyone:2 ; getData /a/b
			z1< 1 #2 ok /a
			z1< 2 #3 ok /a/c
			z1< 3 #4 ok /a/b
			z1< 4 #5 ok /r
			z1< 5 #5 ok "xyz" [#4 #4 #4 v0 c0 a0 len=3]
			z1> exists /a ; exists /b ; exists /r ; exists /%00 ; exists a ; exists /a/ ; exists "" ; exists /a/b
			z1< 6 #5 ok [#2 #2 #4 v0 c2 a0 len=1 kids=2]
			z1< 7 #5 -101
			z1< 8 #5 -102
			z1< 9 #5 -8
			z1< 10 #5 -101
			z1< 11 #5 -101
			z1< 12 #5 ok [0x0 0x0 #5 v0 c1 a0 kids=3]
			z1< 13 #5 ok [#4 #4 #4 v0 c0 a0 len=3]
			z1> getData /b ; getData /r ; getData /%00 ; getData "" ; getData /zookeeper/config
			z1< 14 #5 -101
			z1< 15 #5 -102
			z1< 16 #5 -101
			z1< 17 #5 ok "" [0x0 0x0 #5 v0 c1 a0 kids=3]
			z1< 18 #5 ok "" [0x0 0x0 0x0 v0 c0 a-1]
			z1> getChildren /a ; getChildren /a/b ; getChildren /b ; getChildren /r ; getChildren / ; getChildren ""
			z1< 19 #5 ok [b c]
			z1< 20 #5 ok []
			z1< 21 #5 -101
			z1< 22 #5 -102
			z1< 23 #5 ok [a r zookeeper]
			z1< 24 #5 ok [a r zookeeper]
			z1> getChildren2 /a ; getChildren2 /b ; getChildren2 /r
			z1< 25 #5 ok [b c] [#2 #2 #4 v0 c2 a0 len=1 kids=2]
			z1< 26 #5 -101
			z1< 27 #5 -102
			z1> getAllChildrenNumber / ; getAllChildrenNumber /a ; getAllChildrenNumber /a/b ; getAllChildrenNumber /b ; getAllChildrenNumber /r ; getAllChildrenNumber ""
			z1< 28 #5 ok 7
			z1< 29 #5 ok 2
			z1< 30 #5 ok 0
			z1< 31 #5 -101
			z1< 32 #5 -102
			z1< 33 #5 ok 8
			`, "/a /a/b /a/c /r"},
		{"getEphemerals, of this session only", `
			z2> create /a/x x flags=1 ; create /a x ; create /ab x flags=1
			z2< 1 #2 -101
			z2< 2 #3 ok /a
			z2< 3 #4 ok /ab
			z1> getEphemerals / ; create /a/c x flags=1 ; create /ac x flags=1 ; create /b x flags=1
			z1< 1 #5 ok []
			z1< 2 #6 ok /a/c
			z1< 3 #7 ok /ac
			z1< 4 #8 ok /b
			z1> getEphemerals / ; getEphemerals "" ; getEphemerals /a ; getEphemerals /a/ ; getEphemerals /none ; getEphemerals /%00 ; getEphemerals %00
			z1< 5 #8 ok [/a/c /ac /b]
			z1< 6 #8 ok [/a/c /ac /b]
			z1< 7 #8 ok [/a/c /ac]
			z1< 8 #8 ok [/a/c]
			z1< 9 #8 ok []
			z1< 10 #8 ok [/a/c /ac /b]
			z1< 11 #8 ok [/a/c /ac /b]
			`, "/a /a/c /ab /ac /b"},
		{"sync, ping, whoAmI, reconfig, sasl", `
			z1> sync /none ; sync "" ; ping ; ping xid=7 ; whoAmI ; reconfig ; reconfig
			z1< 1 #1 ok /none
			z1< 2 #1 ok
			z1< -2 #1 ok
			z1< -2 #1 ok
			z1< 4 #1 ok ip:10.0.0.122
			z1< 5 #1 -123
			z1< 6 #1 -123
			z2> sasl ; ping
			z2.
			`, ""},
		{"multi", `
			z1> multi ; multi create /a x + create2 /a/b y + create /a/s- z flags=2 + createContainer /c null flags=4 + createTTL /t x flags=5 ttl=9
			z1< 1 #2 ok
			z1< 2 #3 ok create /a + create /a/b + create /a/s-0000000001 + create2 /c [#3 #3 #3 v0 c0 a0] + create2 /t [#3 #3 #3 v0 c0 a0 len=1]
			z1> multi check /a v=0 + setData /a yy v=0 + check /a v=1 + delete /a/b + create /e x flags=1
			z1< 3 #4 ok check + setData [#3 #4 #3 v1 c2 a0 len=2 kids=2] + check + delete + create /e
			z1> multi create /f x + setData /a q v=0 + delete /a ; multi check /none ; multi delete /none + create /f x ; multi create /f x + create /g x flags=9 + create /h x
			z1< 4 #5 ok 0 + -103 + -2
			z1< 5 #6 ok -101
			z1< 6 #7 ok -101 + -2
			z1< 7 #8 ok 0 + -8 + -2
			z1> multi setData /a x + getData /a ; multi setACL /a ; multi sync / ; multi setData /a x + create /f x acl=null ; multi create /r x acl=world:anyone:2 + check /r
			z1< 8 #8 -5
			z1< 9 #8 -5
			z1< 10 #8 -5
			z1< 11 #9 ok 0 + -114
			z1< 12 #10 ok 0 + -102
			z1> getData /e
			z1< 13 #10 ok "x" [#4 #4 #4 v0 c0 a0 eph=0x3e9 len=1]
			`, "/a /a/s-0000000001 /c /e /t"},
		{"multiRead", `
			z1> multiRead ; create /a x ; create /a/b x ; create /r x acl=world:anyone:2 ; multiRead getData /a + getChildren /a + getData /none + getChildren /r + getChildren /none watch + getData /a watch
			z1< 1 #1 ok
			z1< 2 #2 ok /a
			z1< 3 #3 ok /a/b
			z1< 4 #4 ok /r
			z1< 5 #4 ok getData "x" [#2 #2 #3 v0 c1 a0 len=1 kids=1] + getChildren [b] + -101 + -102 + -101 + getData "x" [#2 #2 #3 v0 c1 a0 len=1 kids=1]
			z1> multiRead getData /a + setData /a x ; multiRead getChildren2 /a ; checkWatches /a kind=3
			z1< 6 #4 -5
			z1< 7 #4 -5
			z1< 8 #4 -121
			`, "/a /a/b /r"},
		{"what is no operation ends the connection", `
			z1> create /a x ; op=10 ; create /b x
			z1< 1 #2 ok /a
			z1< 2 none -6
			z1.
			z2> check /a v=0 ; check /a v=1 ; check /b v=0
			z2< 1 #* ok
			z2< 2 #* -103
			z2< 3 #* -101
			z3> deleteContainer ; ping
			z3< 1 #* -8
			z3< -2 #* ok
			z4> createSession
			z4< 1 none -6
			z4.
			z5> notification
			z5< 1 none -6
			z5.
			z6> error
			z6< 1 none -6
			z6.
			z7> op=2147483647
			z7< 1 none -6
			z7.
			`, "/a"},
	})
}

// TestZooKeeperWithoutTTLs: where TTLs are disabled, a request for one gets that error, whatever
// else is wrong with it, and the connection is not closed.
func TestZooKeeperWithoutTTLs(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act(`
			z1> createTTL /t x flags=5 ttl=1000 ; createTTL /t x flags=6 ttl=0 ; create /t x flags=5 ; create2 /t x flags=6 ; createContainer /t x flags=5
			z1< 1 #3 -6
			z1< 2 #4 -6
			z1< 3 #5 -6
			z1< 4 #6 -6
			z1< 5 #7 -6
			z1> createTTL /t x flags=0 ttl=1000 ; create /t x flags=7 ; multi createTTL /t x flags=5 ttl=1 ; multi create /t x flags=5 ; ping
			z1< 6 #7 -8
			z1< 7 #7 -8
			z1< 8 #8 ok -6
			z1< 9 #9 -5
			z1< -2 #9 ok
			`)
	}, func(_ *frontend.Config, b *backend) {
		b.tree.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindSettings}})
	})
}

// TestZooKeeperMalformed: a body that cannot be decoded is refused in its turn, and the next
// request is read; if the frame cannot be decoded at all, the connection ends.
func TestZooKeeperMalformed(t *testing.T) {
	playAll(t, []play{
		{"a short body, or what cannot be in it", `
			z1> create /a x ; short getData /a ; short setData /a x ; short multi setData /a x ; short setWatches zxid=#1 ; getData /a
			z1< 1 #2 ok /a
			z1< 2 #2 -5
			z1< 3 #2 -5
			z1< 4 #2 -5
			z1< 5 #2 -5
			z1< 6 #2 ok "x" *
			z1> addWatch /a kind=2 ; addWatch /a kind=-1 ; checkWatches /a kind=0 ; removeWatches /a kind=6 ; ping
			z1< 7 #2 -5
			z1< 8 #2 -5
			z1< 9 #2 -5
			z1< 10 #2 -5
			z1< -2 #2 ok
			z1> raw 0000000d 00000008 00000004 ffffffff 00
			z1< bad 8 #2 -5
			`, "/a"},
		{"behind a body may be more", `
			z1> connect
			z1< session *
			z1> raw 00000009 fffffffe 0000000b 77
			z1< bad -2 #1 0
			`, ""},
		{"frames", `
			z1> connect ; ping ; raw 00000000
			z1< session *
			z1< -2 #1 ok
			z1.
			z2> connect ; ping ; raw 80000000
			z2< session *
			z2< -2 #2 ok
			z2.
			z3> connect ; ping ; raw 00120001
			z3< session *
			z3< -2 #3 ok
			z3.
			z4> connect ; ping ; raw 00000007 00000001 00000b
			z4< session *
			z4< -2 #4 ok
			z4.
			z5> connect ; raw 00000010 00000001 00000064 00000000 00000009
			z5< session *
			z5.
			z6> connect ; raw 0000000c 00000001 00000066 00000009
			z6< session *
			z6.
			`, ""},
	})
}
