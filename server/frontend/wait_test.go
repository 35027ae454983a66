package frontend_test

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWait(t *testing.T) {
	playAll(t, []play{
		{"what is so already", `
			+/a 1
			A> WAIT /a EXISTS\nWAIT /b GONE\nWAIT /a VALUE=1\nWAIT /a EXISTS since=0x100000001
			A< OK zxid=0x100000001
			A< OK zxid=0x100000001
			A< OK zxid=0x100000001
			A< OK zxid=0x100000001
			`, "/a"},
		{"what comes about, with all behind it waiting", `
			A> WAIT /a EXISTS\nGET /a\nSET /b create x\nPING
			sleep 29s
			b> EXISTS /b
			b< ERR NOTFOUND *
			+/a 1
			A< OK zxid=0x100000001
			A< DATA 1 v=0 zxid=0x100000001
			A< 1
			A< OK *
			A< OK pong
			A> WAIT /a GONE\nWAIT /a EXISTS\nWAIT /a VALUE=2\nWAIT /a CHANGE\nWAIT /a CHANGE timeout=1h
			+/a 2
			-/a
			A< OK *
			+/a 1
			A< OK *
			+/a 2
			A< OK *
			+/a 2
			A< OK *
			+/a/b 2
			A< OK *
			`, "/a /a/b /b"},
		{"in time", `
			A> @t WAIT /a EXISTS timeout=2s\n@u WAIT /a EXISTS timeout=0s\n@v WAIT /a EXISTS\nPING
			sleep 1999ms
			sleep 1ms
			A< @t ERR TIMEOUT path=/a *
			A< @u ERR TIMEOUT path=/a *
			sleep 29999ms
			sleep 1ms
			A< @v ERR TIMEOUT path=/a *
			A< OK pong
			`, ""},
		{"since", `
			+/a 1
			+/b 1
			A> WAIT /a CHANGE since=0x100000001 timeout=1s
			sleep 1s
			A< ERR TIMEOUT *
			A> WAIT /a CHANGE since=0x100000001\nWAIT /a CHANGE since=0x100000001
			+/a 2
			A< OK zxid=0x100000003
			A< OK zxid=0x100000003
			A> WAIT /a CHANGE since=0x100000005 timeout=1s
			+/a 3
			+/a 4
			sleep 1s
			A< ERR TIMEOUT *
			A> WAIT /a CHANGE since=0x100000005
			+/a 5
			A< OK zxid=0x100000006
			`, "/a /b"},
		{"who may not read", `
			A> CREATE /a acl=world:anyone:dcw,ip:10.0.0.97:r x
			A< OK *
			A> WAIT /a EXISTS\nWAIT /a CHANGE since=0x100000001\nWAIT /b EXISTS timeout=9s
			A< ERR NOAUTH *
			A< ERR NOAUTH *
			a> WAIT /b EXISTS\nWAIT /a GONE
			b> CREATE /b acl=ip:10.0.0.97:r x
			a< OK *
			b< OK *
			sleep 9s
			A< ERR TIMEOUT *
			-/a
			a< OK *
			A> WAIT /a CHANGE since=0x100000001 timeout=0s
			A< ERR TIMEOUT *
			`, "/b"},
		{"the end of the stream does not end it", `
			A> WAIT /a EXISTS timeout=1h\nGET /a
			A|
			sleep 59m
			+/a 1
			A< OK *
			A< DATA *
			A< 1
			A.
			`, "/a"},
		{"an EVENT comes before the reply that shows what it tells", `
			A> FOLLOW /a\nWAIT /a EXISTS\nGET /a
			A< OK id=1 *
			+/a 1
			A< EVENT created path=/a zxid=0x100000001 v=0 id=1
			A< OK zxid=0x100000001
			A< DATA *
			A< 1
			A> CREATE /b x\nWAIT /a VALUE=2
			A< OK *
			+/a 2
			A< EVENT changed path=/a zxid=0x100000003 v=1 id=1
			A< OK *
			`, "/a /b"},
	})
}

// TestAWaitBehindAWriteOfABrokenConnection: such a WAIT does not begin.
func TestAWaitBehindAWriteOfABrokenConnection(t *testing.T) {
	t.Parallel()
	for _, wait := range []string{"WAIT /x EXISTS timeout=24h", "LOCK /x timeout=24h", "WATCH / persistent", "GET / watch", "FOLLOW /x recursive"} {
		stage(t, func(x *theatre) {
			x.act("A> LOCK /x\nA< OK *")
			x.hold()
			x.act("B> SESSION NEW")
			x.allow(1)
			synctest.Wait()
			x.expect("B", "OK id=*")
			x.act("B> SET / 1\\n" + wait + "\nB!")
			x.release()
			start := time.Now()
			x.leave()
			if d := time.Since(start); d > time.Minute {
				t.Errorf("%s: took %v", wait, d)
			}
		})
	}
}
