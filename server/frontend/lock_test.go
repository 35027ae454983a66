package frontend_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

func TestLock(t *testing.T) {
	playAll(t, []play{
		{"in the order in which they came", `
			A> LOCK /l
			A< OK token=0x100000003 path=/l/lock-0000000000 zxid=0x100000003
			B> LOCK /l timeout=1h
			C> LOCK /l timeout=1h\nPING
			A> UNLOCK /l
			A< OK zxid=*
			B< OK token=0x100000005 path=/l/lock-0000000001 zxid=*
			B!
			C< OK token=0x100000007 path=/l/lock-0000000002 zxid=*
			C< OK pong
			`, "/l /l/lock-0000000002"},
		{"not there, and not left behind", `
			A> LOCK /l
			A< OK *
			B> LOCK /l\nPING
			B< ERR TIMEOUT path=/l - *
			B< OK pong
			B> LOCK /l timeout=5s
			sleep 4999ms
			sleep 1ms
			B< ERR TIMEOUT path=/l - *
			`, "/l /l/lock-0000000000"},
		{"again is the same, another way is not", `
			A> LOCK /l
			A< OK token=0x100000003 path=/l/lock-0000000000 zxid=0x100000003
			B> LOCK /l
			B< ERR TIMEOUT *
			A> LOCK /l\nLOCK /l shared\nLOCK /l slots=2\nUNLOCK /l\nUNLOCK /l
			A< OK token=0x100000003 path=/l/lock-0000000000 zxid=*
			A< ERR EXISTS *
			A< ERR EXISTS *
			A< OK zxid=*
			A< ERR NOTFOUND *
			A> UNLOCK /none
			A< ERR NOTFOUND *
			b> UNLOCK /l
			b< ERR NOTFOUND *
			`, "/l"},
		{"shared", `
			A> LOCK /l shared
			A< OK * path=/l/read-0000000000 *
			B> LOCK /l shared
			B< OK *
			C> LOCK /l timeout=1h
			D> LOCK /l shared timeout=1h
			A!
			B> UNLOCK /l
			B< OK *
			C< OK *
			C> UNLOCK /l
			C< OK *
			D< OK *
			`, "/l /l/read-0000000003"},
		{"slots", `
			A> LOCK /l slots=2
			A< OK * path=/l/slot-0000000000 *
			B> LOCK /l slots=2
			B< OK *
			C> LOCK /l slots=2 timeout=1h
			D> LOCK /l slots=2 timeout=1h
			B!
			C< OK *
			A!
			D< OK *
			`, "/l /l/slot-0000000002 /l/slot-0000000003"},
		{"what somebody puts before one that waits, and takes away, opens it to nobody", `
			A> LOCK /l
			A< OK *
			B> LOCK /l timeout=1h
			C> CREATE /l/x-0000000000 v\nRM /l/x-0000000000
			C< OK *
			C< OK *
			C> CREATE /l/x-0000000000 v
			C< OK *
			A> UNLOCK /l
			A< OK *
			C> RM /l/x-0000000000
			C< OK *
			B< OK token=* path=/l/lock-0000000001 zxid=*
			`, "/l /l/lock-0000000001"},
		{"what is not of the kind is in the way of slots and of shared ones", `
			A> LOCK /l
			A< OK *
			B> LOCK /l slots=3
			B< ERR TIMEOUT *
			B> LOCK /l shared
			B< ERR TIMEOUT *
			A> UNLOCK /l
			A< OK *
			A> CREATE /l/job- SEQ x
			A< OK path=/l/job-0000000003 *
			A> CREATE /l/read-me- SEQ x
			A< OK path=/l/read-me-0000000004 *
			B> LOCK /l shared timeout=1h
			-/l/job-0000000003
			-/l/read-me-0000000004
			B< OK *
			A> CREATE /l/none x
			A< OK *
			A> LOCK /l slots=9
			A< ERR TIMEOUT *
			`, "/l /l/none /l/read-0000000005"},
		{"broken by somebody", `
			A> LOCK /l
			A< OK *
			B> LOCK /l timeout=1h
			-/l/lock-0000000001
			B< ERR NOTFOUND path=/l *
			-/l/lock-0000000000
			A> UNLOCK /l
			A< ERR NOTFOUND *
			`, "/l"},
		{"a client that closes its side gives up the locks that it waits for, and no WAIT", `
			A> LOCK /l
			A< OK *
			B> LOCK /l timeout=1h
			B|
			B< ERR TIMEOUT *
			B.
			C> WAIT /x EXISTS timeout=1h
			C|
			+/x 1
			C< OK zxid=*
			C.
			`, "/l /l/lock-0000000000 /x"},
		{"the folder", `
			A> CREATE /l ""
			A< OK *
			A> LOCK /l
			A< OK *
			A> UNLOCK /l
			A< OK *
			A> LOCK /a/b/c
			A< OK * path=/a/b/c/lock-0000000000 *
			A> LOCK /a/b/c/lock-0000000000
			A< ERR * path=/a/b/c/lock-0000000000 *
			B> CREATE /closed acl=world:anyone:r ""
			B< OK *
			B> LOCK /closed
			B< ERR NOAUTH path=/closed *
			B> LOCK /closed/x
			B< ERR NOAUTH path=/closed/x *
			`, "/a /a/b /a/b/c /a/b/c/lock-0000000000 /closed /l"},
		{"a session that ends takes what it waits for with it", `
			A> LOCK /l
			A< OK *
			B> SESSION NEW ttl=5s live=ping
			B< OK id=* ttl=5s hold=0s live=ping password=* zxid=*
			B> LOCK /l timeout=1h
			sleep 6s
			B< EVENT expired session=*
			B.
			A> UNLOCK /l
			A< OK *
			`, "/l"},
		{"a session that moves keeps its place", `
			A> LOCK /l
			A< OK *
			B> SESSION NEW hold=30s
			B< OK id=0x3ec ttl=10s hold=30s live=tcp password=04040404040404040404040404040404 zxid=*
			B> LOCK /l timeout=1h
			D> SESSION RESUME 0x3ec hold=30s :32\n04040404040404040404040404040404\nLOCK /l timeout=1h
			B< EVENT moved session=0x3ec
			D< OK id=0x3ec *
			B.
			A!
			D< OK token=*
			D> LOCK /l
			D< OK token=*
			D> UNLOCK /l\nSESSION INFO
			D< OK zxid=*
			D< OK id=0x3ec * ephemerals=0 zxid=*
			`, "/l"},
	})
}

// TestLockInterleavings applies two disturbances to a waiting LOCK, at any moment of its life.
// Afterwards no client believes that it holds a lock that does not exist, or holds one without
// having been told, and everything ends with the connections.
func TestLockInterleavings(t *testing.T) {
	t.Parallel()
	type fate struct {
		name string
		do   func(*theatre)
	}
	refuse := func(code znode.Code) func(*theatre) {
		return func(x *theatre) {
			if x.waiting() > 0 {
				x.refuse(0, code)
			}
		}
	}
	closed, broken := tree.Op{Kind: tree.KindClose}, tree.Op{Kind: tree.KindDelete, Path: "/l/lock-0000000001", Version: tree.AnyVersion}
	fates := []fate{
		{"break", func(x *theatre) { x.act("B!") }},
		{"shut", func(x *theatre) { x.act("B|") }},
		{"release", func(x *theatre) { x.act("A> UNLOCK /l") }},
		{"expire", func(x *theatre) { x.Submit(&tree.Txn{Op: closed, Target: 1004}, nobody) }},
		{"time", func(*theatre) { time.Sleep(5 * time.Second) }},
		{"deleted", func(x *theatre) { x.Submit(&tree.Txn{Op: broken, IDs: []znode.Identity{znode.Super}}, nobody) }},
		{"throttle", refuse(znode.ErrThrottledOp)},
		{"unknown", refuse(znode.ErrUncertain)},
		{"moved", func(x *theatre) {
			x.act(`D> SESSION RESUME 0x3ec hold=20s :32\n04040404040404040404040404040404\nLOCK /l timeout=5s`)
		}},
	}
	for _, session := range []string{"SESSION NEW", "SESSION NEW hold=20s"} {
		for _, timeout := range []string{"0s", "5s", "1h"} {
			for _, first := range fates {
				for _, second := range fates {
					for step := range 3 {
						name := fmt.Sprintf("%s, timeout %s, %s and %s after %d", session, timeout, first.name, second.name, step)
						one := func(is string) bool { return first.name == is || second.name == is }
						stage(t, func(x *theatre) {
							x.loose = true
							x.act("A> LOCK /l\nB> " + session)
							x.hold()
							x.act("B> LOCK /l timeout=" + timeout)
							allow := func(n int) {
								for range n {
									x.allow(1)
									synctest.Wait()
								}
							}
							allow(step)
							first.do(x)
							allow(1)
							second.do(x)
							x.release()
							time.Sleep(10 * time.Second)
							synctest.Wait()
							said := ""
							for _, name := range x.names {
								said += fmt.Sprintf("\n%s: %q ended %v", name, x.clients[name].got.String(), x.clients[name].ended())
							}
							for _, path := range x.paths() {
								if path != "/l" && !strings.Contains(said, "path="+path+" ") && timeout != "1h" && !one("break") {
									t.Errorf("%s: nobody knows of %s:%s", name, path, said)
								}
							}
							for _, name := range x.names {
								c := x.clients[name]
								_, path, has := strings.Cut(c.got.String(), "token=")
								path, _, _ = strings.Cut(path[strings.Index(path, "path=")+1:], " ")
								path = strings.TrimPrefix(path, "ath=")
								if has && name != "A" && !c.ended() && !one("deleted") && !slices.Contains(x.paths(), path) {
									t.Errorf("%s: %s has no %s:%s", name, name, path, said)
								}
							}
							for _, c := range x.clients {
								_ = c.Close()
							}
							time.Sleep(31 * time.Second)
							synctest.Wait()
							x.have("/l")
							if t.Failed() {
								t.Fatalf("%s:%s", name, said)
							}
						})
						if t.Failed() {
							return
						}
					}
				}
			}
		}
	}
}

func nobody(tree.Result, *tree.Tree, *watch.Table) {}

// TestLockOfAThousand: each release answers exactly one LOCK, the next in the line.
func TestLockOfAThousand(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		const count = 1000
		var all []*caller
		for i := range count {
			c := x.open(&net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i))})
			all = append(all, c)
			c.say("LOCK /l timeout=1h\n")
			synctest.Wait()
		}
		for i, c := range all {
			for j := i; j < min(i+3, count); j++ {
				want := 0
				if j == i {
					want = 1
				}
				if n := strings.Count(all[j].got.String(), "\n"); n != want {
					t.Fatalf("after %d releases number %d has %d replies", i, j, n)
				}
			}
			if want := fmt.Sprintf("path=/l/lock-%010d ", i); !strings.Contains(c.got.String(), want) {
				t.Fatalf("%d got %q", i, c.got.String())
			}
			switch i % 3 {
			case 0:
				c.say("UNLOCK /l\n")
			case 1:
				_ = c.Close()
			default:
				_ = c.CloseWrite()
			}
			synctest.Wait()
		}
		for i, c := range all {
			if n := strings.Count(c.got.String(), "OK token="); n != 1 {
				t.Errorf("%d got %d answers", i, n)
			}
			_ = c.Close()
		}
		synctest.Wait()
		x.have("/l")
	}, func(cfg *frontend.Config, _ *backend) { cfg.MaxClientConns = 0 })
}
