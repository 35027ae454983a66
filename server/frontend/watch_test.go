package frontend_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/tree"
	"coord/tree/znode"
)

func TestWatch(t *testing.T) {
	playAll(t, []play{
		{"once", `
			+/a 1
			A> WATCH /a\nWATCH /a\nWATCH /a children\nGET /a watch\nLS /a watch\nEXISTS /x watch\nWATCH /x exists\nWATCH /x\nWATCH /x children
			A< OK id=1 zxid=0x100000001
			A< OK id=2 zxid=0x100000001
			A< OK id=3 zxid=0x100000001
			A< DATA 1 v=0 zxid=0x100000001 id=4
			A< 1
			A< LIST 0 zxid=0x100000001 id=5
			A< ERR NOTFOUND path=/x id=6 *
			A< OK id=7 zxid=0x100000001
			A< ERR NOTFOUND path=/x *
			A< ERR NOTFOUND path=/x *
			+/a 2
			A< EVENT changed path=/a zxid=0x100000002 v=1 id=1
			A< EVENT changed path=/a zxid=0x100000002 v=1 id=2
			A< EVENT changed path=/a zxid=0x100000002 v=1 id=4
			+/a/b 2
			A< EVENT children path=/a zxid=0x100000003 id=3
			A< EVENT children path=/a zxid=0x100000003 id=5
			+/x 2
			A< EVENT created path=/x zxid=0x100000004 v=0 id=6
			A< EVENT created path=/x zxid=0x100000004 v=0 id=7
			+/a 3
			-/a/b
			-/x
			`, "/a"},
		{"for ever", `
			A> WATCH /a persistent\nWATCH /a children persistent\nWATCH / recursive\nFOLLOW /a\nFOLLOW /a recursive data
			A< OK id=1 zxid=0x0
			A< OK id=2 zxid=0x0
			A< OK id=3 zxid=0x0
			A< OK id=4 zxid=0x0
			A< OK id=5 zxid=0x0
			+/a 1
			A< EVENT created path=/a zxid=0x100000001 v=0 id=1
			A< EVENT created path=/a zxid=0x100000001 v=0 id=4
			A< EVENT created path=/a zxid=0x100000001 v=0 id=5 :1
			A< 1
			A< EVENT created path=/a zxid=0x100000001 v=0 id=3
			+/a/b
			A< EVENT created path=/a/b zxid=0x100000002 v=0 id=5 :0
			A< 
			A< EVENT created path=/a/b zxid=0x100000002 v=0 id=3
			A< EVENT children path=/a zxid=0x100000002 id=2
			A< EVENT children path=/a zxid=0x100000002 id=4
			A> UNWATCH 3\nUNWATCH 3\nUNWATCH 9
			A< OK
			A< ERR NOTFOUND *
			A< ERR NOTFOUND *
			A> SET /a 2
			A< EVENT changed path=/a zxid=0x100000003 v=1 id=1
			A< EVENT changed path=/a zxid=0x100000003 v=1 id=4
			A< EVENT changed path=/a zxid=0x100000003 v=1 id=5 :1
			A< 2
			A< OK v=1 zxid=0x100000003
			-/a/b
			A< EVENT deleted path=/a/b zxid=0x100000004 id=5
			A< EVENT children path=/a zxid=0x100000004 id=2
			A< EVENT children path=/a zxid=0x100000004 id=4
			-/a
			A< EVENT deleted path=/a zxid=0x100000005 id=1
			A< EVENT deleted path=/a zxid=0x100000005 id=2
			A< EVENT deleted path=/a zxid=0x100000005 id=4
			A< EVENT deleted path=/a zxid=0x100000005 id=5
			`, ""},
		{"who may not read is not told, and what is once is over", `
			A> CREATE /a acl=world:anyone:dcwa x
			A< OK *
			A> WATCH /a\nFOLLOW /a\nFOLLOW / recursive\nWATCH /b exists\nCREATE /b acl=ip:127.0.0.2:r x\nUNWATCH 4
			A< ERR NOAUTH *
			A< ERR NOAUTH *
			A< OK id=1 *
			A< OK id=2 *
			A< OK *
			A< ERR NOTFOUND *
			+/a 2
			+/b 2
			+/c 2
			A< EVENT created path=/c * id=1
			A> UNWATCH 2
			A< ERR NOTFOUND *
			`, "/a /b /c"},
		{"since", `
			+/a 1
			+/a 2
			+/a/b 1
			-/a/b
			+/c 1
			A> FOLLOW /a since=0x100000001\nFOLLOW /a recursive data since=0x100000001\nWATCH /a since=0x100000001\nWATCH /a since=0x100000002
			A< OK id=1 zxid=0x100000005
			A< EVENT changed path=/a zxid=0x100000002 v=1 id=1
			A< EVENT children path=/a zxid=0x100000003 id=1
			A< EVENT children path=/a zxid=0x100000004 id=1
			A< OK id=2 *
			A< EVENT changed path=/a zxid=0x100000002 v=1 id=2 :1
			A< 2
			A< EVENT created path=/a/b zxid=0x100000003 v=0 id=2 :1
			A< 1
			A< EVENT deleted path=/a/b zxid=0x100000004 id=2
			A< OK id=3 *
			A< EVENT changed path=/a zxid=0x100000002 v=1 id=3
			A< OK id=4 *
			+/a 3
			A< EVENT changed path=/a zxid=0x100000006 v=2 id=1
			A< EVENT changed path=/a zxid=0x100000006 v=2 id=2 :1
			A< 3
			A< EVENT changed path=/a zxid=0x100000006 v=2 id=4
			A> WATCH /a since=0x100000007\nWATCH /none since=0x100000001\nWATCH /none exists since=0x100000001\nUNWATCH 3
			A< ERR TIMEOUT *
			A< ERR NOTFOUND *
			A< OK id=* zxid=*
			A< ERR NOTFOUND *
			-/c
			A> WATCH /c since=0x100000006
			A< OK id=* zxid=0x100000007
			A< EVENT deleted path=/c zxid=0x100000007 id=*
			A> WATCH /c since=0x100000007
			A< ERR NOTFOUND *
			`, "/a"},
		{"the format and the line end of a request behind a write are not those of the events before", `
			+/a 1
			A> FOLLOW /a\nSET /a 2\nFORMAT json\nSET /a 3
			A< OK id=1 *
			A< EVENT changed path=/a *
			A< OK *
			A< {"t":"OK","format":"json"}
			A< {"t":"EVENT",*
			A< {"t":"OK",*
			`, "/a"},
	})
}

// TestUnwatchBehindAWrite: a watch that is requested after a write can be ended by an UNWATCH that
// also comes after it, and no event is delivered after the reply.
func TestUnwatchBehindAWrite(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.hold()
		x.act(`A> SET / 1\nFOLLOW /\nUNWATCH 1\nSET / 2`)
		x.release()
		synctest.Wait()
		for _, want := range []string{"OK v=1 *", "OK id=1 *", "OK", "OK v=2 *"} {
			x.expect("A", want)
		}
	})
}

// TestForgotten: when the history does not reach back far enough, no events are made up, and the
// client gets an error. H20 (etcd#18089, 19179): events were lost at the end of the history.
func TestForgotten(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 200, 500} {
		stage(t, func(x *theatre) {
			x.act(`
				+/a 1
				+/b 1
				+/a 2
				+/c 1
				A> FOLLOW /a since=0x100000001\nWATCH /a since=0x100000001\nWATCH /a since=0x100000003\nWATCH /gone exists since=0x100000001\nWAIT /a CHANGE since=0x100000001\nWAIT /gone CHANGE since=0x100000001
				A< ERR COMPACTED path=/a *
				A< OK id=*
				A< EVENT changed path=/a zxid=0x100000003 *
				A< OK *
				A< ERR COMPACTED *
				A< OK *
				A< ERR COMPACTED *
				`)
		}, func(_ *frontend.Config, b *backend) {
			b.watches = watch.New(watch.Config{MaxWatches: 100, MaxWatchesPerWatcher: 100, HistoryBytes: size}, 0)
		})
	}
}

// TestReplayMeetsLive: a client that follows from a past zxid gets each event once and in order,
// however the history is cut into pages, while other clients write. H20 (etcd#17529): a slow stream
// lost some events.
func TestReplayMeetsLive(t *testing.T) {
	t.Parallel()
	for _, recursive := range []string{"", " recursive"} {
		stage(t, func(x *theatre) {
			x.loose = true
			value := strings.Repeat("v", 20<<10)
			write := func(i int) {
				ops := []tree.Op{}
				for range 1 + i%3 {
					ops = append(ops, tree.Op{Kind: tree.KindSetData, Path: "/a", Data: []byte(value), Version: tree.AnyVersion, Flags: tree.OrCreate, ACL: znode.OpenACL})
				}
				x.Submit(&tree.Txn{Op: tree.Op{Kind: tree.KindMulti}, Ops: ops, IDs: []znode.Identity{znode.Super}}, nobody)
			}
			n := 0
			for range 100 { // 4 MiB
				write(n)
				n++
			}
			synctest.Wait()
			x.act("A> FOLLOW /a" + recursive + " data since=0x100000005")
			for range 300 {
				write(n)
				n++
				if n%10 == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
			var want, got strings.Builder
			version := 0
			for i := range n {
				for range 1 + i%3 {
					if i >= 5 {
						fmt.Fprintf(&want, "%#x v=%d\n", 0x100000001+int64(i), version)
					}
					version++
				}
			}
			for line := range strings.Lines(x.clients["A"].got.String()) {
				if rest, ok := strings.CutPrefix(line, "EVENT changed path=/a zxid="); ok {
					fmt.Fprintln(&got, strings.Join(strings.Fields(rest)[:2], " "))
				}
			}
			same(t, got.String(), want.String())
		})
	}
}

// TestTheReplayOfASlowReader: the replay goes on page by page; the client is cut off if the history
// forgets its next event.
func TestTheReplayOfASlowReader(t *testing.T) {
	t.Parallel()
	for _, forgotten := range []bool{false, true} {
		stage(t, func(x *theatre) {
			x.loose = true
			write := func() {
				x.must(tree.Op{Kind: tree.KindSetData, Path: "/", Data: make([]byte, 100<<10), Version: tree.AnyVersion})
			}
			for range 20 {
				write()
			}
			d := x.dial(home)
			_, _ = io.WriteString(d, "FOLLOW / data since=0x100000001\n")
			synctest.Wait()
			if forgotten {
				for range 100 {
					write()
				}
			}
			c := newCaller(d)
			synctest.Wait()
			time.Sleep(frontend.LingerTime)
			synctest.Wait()
			if n := strings.Count(c.got.String(), "EVENT"); c.ended() != forgotten || n != 19 && !forgotten || strings.Contains(c.got.String(), "\nERR SLOWCLIENT - ") != forgotten {
				t.Errorf("%v: ended %v, %d events", forgotten, c.ended(), n)
			}
			_ = c.Close()
		})
	}
}

// TestSlowClient: a client that does not take its events falls behind. Meanwhile few of them wait
// for it, and it gets each of them when it reads again, before any answer. A client with too many
// watches for that, or one too far behind, is cut off after its waiting events. Other clients are
// not affected.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	const size, many = 10 << 10, 18
	type test struct {
		name    string
		follows int
		events  int
		cutOff  bool
		most    int64 // bytes that wait
	}
	for _, c := range []test{
		{"behind", 1, 200, false, 30 << 10},
		{"forgotten", 1, 9 << 20 / size, true, 30 << 10},
		{"many watches", many, 200, true, frontend.MaxEventBytes + many*2*size},
	} {
		stage(t, func(x *theatre) {
			x.loose = true
			x.act(`A> FOLLOW / data`)
			slow, broken := x.dial(home), x.dial(home)
			for _, d := range []*duplex{slow, broken} {
				for range c.follows {
					_, _ = io.WriteString(d, "FOLLOW / data\n")
					for b := make([]byte, 1); b[0] != '\n'; {
						_, _ = d.Read(b)
					}
				}
			}
			for range c.events {
				x.must(tree.Op{Kind: tree.KindSetData, Path: "/", Data: make([]byte, size), Version: tree.AnyVersion})
				synctest.Wait() // A takes each, however busy the machine is
			}
			if bytes, _ := frontend.Leftovers(x.front); bytes < size || bytes > 2*c.most {
				t.Errorf("%s: %d bytes wait", c.name, bytes)
			}
			_ = broken.Close()
			synctest.Wait()
			s := newCaller(slow)
			s.say("PING\n")
			synctest.Wait()
			got := s.got.String()
			n := strings.Count(got, "EVENT")
			switch last := got[strings.LastIndexByte(strings.TrimSuffix(got, "\n"), '\n')+1:]; {
			case c.cutOff && (last != "ERR SLOWCLIENT - too many events are waiting for the client to read them\n" || !s.ended() || n == 0 || n >= c.events*c.follows):
				t.Errorf("%s: ended %v with %d events and %q", c.name, s.ended(), n, last)
			case !c.cutOff && (last != "OK pong\n" || s.ended() || n != c.events):
				t.Errorf("%s: ended %v with %d events and %q", c.name, s.ended(), n, last)
			}
			if n := strings.Count(x.clients["A"].got.String(), "EVENT"); n != c.events {
				t.Errorf("%s: the other got %d events", c.name, n)
			}
			_ = s.Close()
		})
	}
}

// TestSlowClientsTogether: when too much waits for all clients together, those that have any
// waiting are cut off.
func TestSlowClientsTogether(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.loose = true
		x.act(`A> FOLLOW /`)
		const size = frontend.MaxEventBytes / 4
		var all []*duplex
		for range 2 * frontend.MaxAllEventBytes / frontend.MaxEventBytes {
			d := x.dial(home)
			_, _ = io.WriteString(d, "FOLLOW / data\n")
			_, _ = io.ReadFull(d, make([]byte, len("OK id=1 zxid=0x0\n")))
			all = append(all, d)
		}
		for range 5 {
			x.must(tree.Op{Kind: tree.KindSetData, Path: "/", Data: make([]byte, size), Version: tree.AnyVersion})
			synctest.Wait()
			if bytes, _ := frontend.Leftovers(x.front); bytes > frontend.MaxAllEventBytes+2*size {
				t.Fatalf("%d bytes wait", bytes)
			}
		}
		if n := strings.Count(x.clients["A"].got.String(), "EVENT"); n != 5 {
			t.Errorf("who takes them got %d events", n)
		}
		for _, d := range all {
			_ = d.Close()
		}
	})
}

func TestWatchLimit(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.loose = true
		c := x.client("A")
		c.say(strings.Repeat("WATCH /x exists\n", frontend.MaxWatches) + "WATCH /x exists\nGET / watch\nLS / watch\nEXISTS /y watch\nFOLLOW / since=0x1\nPING\n")
		synctest.Wait()
		got := c.got.String()
		if n := strings.Count(got, "\nERR LIMIT "); n != 5 || !strings.HasSuffix(got, "\nOK pong\n") {
			t.Errorf("%d refused: %.300q", n, got[len(got)-300:])
		}
		before := len(got)
		x.act("+/x 1\nA> WATCH /x")
		if got := c.got.String()[before:]; strings.Count(got, "EVENT") != frontend.MaxWatches || !strings.Contains(got, "\nOK id=10001 ") {
			t.Errorf("%d events", strings.Count(got, "EVENT"))
		}
	})
}

// TestNoEventWithinAnAnswer: no event comes within the stream of a snapshot or after the bytes of a
// CAT.
func TestNoEventWithinAnAnswer(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.loose = true
		x.node.snapshot = func(_ context.Context, w io.Writer) error {
			for range 3 {
				x.must(tree.Op{Kind: tree.KindSetData, Path: "/", Data: []byte("v"), Version: tree.AnyVersion})
				time.Sleep(time.Second)
				_, _ = io.WriteString(w, "snap\n")
			}
			return nil
		}
		x.act(`A> FOLLOW /\nSET / x\nSNAPSHOT`)
		x.act("sleep 4s")
		kinds := ""
		for line := range strings.Lines(x.clients["A"].got.String()) {
			kinds += strings.Fields(line + "-")[0] + " "
		}
		if want := "OK EVENT OK OK CHUNK snap - CHUNK snap - CHUNK snap - END EVENT EVENT EVENT "; kinds != want {
			t.Errorf("got  %q\nwant %q", kinds, want)
		}
		d := x.dial(home)
		_, _ = io.WriteString(d, "FOLLOW /\nCAT /\nPING\n")
		synctest.Wait()
		for range 5 {
			x.must(tree.Op{Kind: tree.KindSetData, Path: "/", Data: []byte("w"), Version: tree.AnyVersion})
		}
		c := newCaller(d)
		synctest.Wait()
		if _, got, _ := strings.Cut(c.got.String(), "\n"); got != "v" {
			t.Errorf("got %q", got)
		}
		_ = c.Close()
	})
}
