package frontend_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"coord/server/frontend"
	"coord/tree/znode"
)

// zkBytes returns the bytes of a connect and of the requests after it.
func zkBytes(t testing.TB, sentences ...string) string {
	z := &zkClient{}
	return string(z.frames(t, strings.Join(append([]string{"connect"}, sentences...), " ; ")))
}

// zkSplit describes in words what such a client has got.
func zkSplit(t testing.TB, got string, sentences ...string) (all []string) {
	t.Helper()
	z := &zkClient{}
	z.frames(t, strings.Join(append([]string{"connect"}, sentences...), " ; "))
	for len(got) > 0 {
		said, n, err := z.read([]byte(got))
		if err != nil || n == 0 {
			t.Fatalf("behind %q: %q, %v", all, got, err)
		}
		all, got = append(all, said), got[n:]
	}
	return all
}

var zkRequests = rapid.Custom(func(t *rapid.T) string {
	path := rapid.SampledFrom([]string{"/a", "/b", "/a/x", "/a/y", "/none/x", "/"}).Draw(t, "path")
	value := rapid.SampledFrom([]string{"1", "two", "null", `""`}).Draw(t, "value")
	form := rapid.SampledFrom([]string{
		"getData P", "getData P watch", "exists P watch", "getChildren2 P", "getChildren P watch", "getAllChildrenNumber P", "getEphemerals P", "whoAmI",
		"setData P V", "setData P V v=1", "create P V", "create2 P V flags=1", "create /a/s- V flags=2", "create P V flags=9", "delete P", "delete P v=1",
		"getACL P", "setACL P acl=auth::31,world:anyone:1", "setACL P", "create P V acl=", "multi check P + setData P V + create /a/t V", "multi setData P V + delete /none",
		"multi getData P", "multiRead getData P + getChildren P", "sync P", "sync P", "ping", "auth digest bob:pwd", "auth digest eve:xyz", "addWatch P kind=0", "addWatch P kind=1",
		"checkWatches P kind=3", "removeWatches P kind=2", "setWatches xid=-8 zxid=#2 data=P exist=P child=P", "setWatches2 zxid=#9 data=P persistent=P recursive=P",
		"reconfig", "addWatch P kind=7", "sasl", "auth foo x", "op=10", "closeSession",
	}).Draw(t, "form")
	return strings.NewReplacer("P", path, "V", value).Replace(form)
})

// TestZooKeeperPipelines: requests that are sent together, cut anywhere and answered in bursts of
// any size, get the same bytes as one at a time.
func TestZooKeeperPipelines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		reqs := rapid.SliceOfN(zkRequests, 1, 50).Draw(rt, "requests")
		cuts := rapid.SliceOfN(rapid.IntRange(1, 200), 1, 8).Draw(rt, "cuts")
		turns := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 8).Draw(rt, "turns")
		want := converse(t, nil, func(w *world, c *caller) {
			z := &zkClient{}
			for _, r := range append([]string{"connect"}, reqs...) {
				c.say(string(z.frames(t, r)))
				synctest.Wait()
			}
		}, direct)
		got := converse(t, cuts, func(w *world, c *caller) {
			w.hold()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				in := zkBytes(t, reqs...)
				for i := 0; len(in) > 0; i++ {
					n := min(len(in), cuts[i%len(cuts)])
					c.say(in[:n])
					in = in[n:]
				}
			}()
			for i := range 60 {
				synctest.Wait()
				w.allow(turns[i%len(turns)])
			}
			w.release()
			<-sent
		})
		if got != want {
			rt.Fatalf("together %q\none by one %q", zkSplit(t, got, reqs...), zkSplit(t, want, reqs...))
		}
	})
}

// TestZooKeeperCutAnywhere: it does not matter where the stream is cut, even at every byte.
func TestZooKeeperCutAnywhere(t *testing.T) {
	t.Parallel()
	in := zkBytes(t, "auth digest bob:pwd", "create /a xyz acl=auth::31", "multi check /a + setData /a q", "getData /a watch", "setWatches zxid=#1 data=/a", "whoAmI", "closeSession")
	var want string
	for cut := range len(in) + 1 {
		got := converse(t, nil, func(_ *world, c *caller) {
			switch cut {
			case 0:
				for i := range in {
					c.say(in[i : i+1])
				}
			default:
				c.say(in[:cut])
				synctest.Wait()
				c.say(in[cut:])
			}
		}, direct)
		if want == "" {
			want = got
		}
		if same(t, got, want); t.Failed() {
			t.Fatalf("cut at %d", cut)
		}
	}
}

// TestZooKeeperTurns: requests after a pending write wait for it, with the identities and the
// session of their place, and see the write.
func TestZooKeeperTurns(t *testing.T) {
	t.Parallel()
	bob := znode.DigestOf("bob:pwd").ID
	stage(t, func(x *theatre) {
		x.act("z1> connect\nz1< session *")
		x.hold()
		x.act(`
			z1> create /a x acl=digest:` + bob + `:31 ; getData /a ; auth digest bob:pwd ; getData /a watch ; setData /a y ; getData /a ; create /e x flags=1
			z1> short getData /a ; ping ; getEphemerals / ; multiRead getData /a ; auth foo bar ; getData /a
			`)
		if n := x.waiting(); n != 3 {
			t.Errorf("%d are submitted", n)
		}
		x.allow(1)
		x.act(`
			z1< 1 #2 ok /a
			z1< 2 #2 -102
			z1< 3 0x0 ok
			z1< 4 #2 ok "x" *
			`)
		x.allow(1)
		x.act(`
			z1< event changed /a #3
			z1< 5 #3 ok *
			z1< 6 #3 ok "y" *
			`)
		x.release()
		x.act(`
			z1< 7 #4 ok /e
			z1< 8 #4 -5
			z1< -2 #4 ok
			z1< 10 #4 ok [/e]
			z1< 11 #4 ok getData "y" *
			z1< 12 0x0 -115
			z1.
			`)
	})
}

// TestZooKeeperSyncKeepsItsPlace: a write after a sync waits for it, because a read between them
// must not see the write.
func TestZooKeeperSyncKeepsItsPlace(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act("z1> create /a old\nz1< 1 #2 ok /a")
		x.hold()
		x.act("z1> ping ; sync /a ; getData /a ; setData /a new ; getData /a\nz1< -2 #2 ok")
		if n := x.waiting(); n != 1 {
			t.Errorf("%d are submitted", n)
		}
		x.allow(1)
		x.act(`
			z1< 3 #2 ok /a
			z1< 4 #2 ok "old" *
			`)
		x.release()
		x.act(`
			z1< 5 #3 ok *
			z1< 6 #3 ok "new" *
			`)
	})
}

// TestZooKeeperUncertain: a write whose fate is unknown ends the connection without a reply; no
// later request is answered, and nothing more is proposed.
func TestZooKeeperUncertain(t *testing.T) {
	t.Parallel()
	for _, burst := range []int{2, 3} {
		for _, request := range []string{"setData /a y", "multi setData /a y", "closeSession"} {
			stage(t, func(x *theatre) {
				x.act("z1> ping\nz1< -2 #1 ok")
				x.hold()
				x.act("z1> create /a x ; " + request + " ; setData /a z ; getData /a ; ping ; setData /a w")
				waiting := x.waiting()
				x.refuse(1, znode.ErrUncertain)
				x.allow(burst)
				x.act("z1< 2 #2 ok /a\nz1.")
				x.act("z1> setData /a late")
				if n := x.waiting(); n != max(waiting-burst, 0) {
					t.Errorf("%s: %d are submitted, and there were %d", request, n, waiting)
				}
				x.release()
				x.act("sleep 1ms")
			})
		}
	}
}

// TestZooKeeperRefusedOnTheWay: a multi that the tree has not judged has no results for its
// operations, but a code that ZooKeeper's clients know.
func TestZooKeeperRefusedOnTheWay(t *testing.T) {
	t.Parallel()
	for code, want := range map[znode.Code]string{
		znode.ErrShutdown: "-7", znode.ErrNoSpace: "-1", znode.ErrTooBig: "-8", znode.ErrInternal: "-1", znode.ErrThrottledOp: "-127",
	} {
		stage(t, func(x *theatre) {
			x.act("z1> ping\nz1< -2 #1 ok")
			x.hold()
			x.act("z1> create /a x ; multi create /a x ; getData /a ; setData /none x")
			x.refuse(0, code)
			x.refuse(1, code)
			x.release()
			x.act(`
				z1< 2 #1 ` + want + `
				z1< 3 #1 ` + want + `
				z1< 4 #1 -101
				z1< 5 #2 -101
				z1> sync /
				z1< 6 #2 ok /
				`)
			x.hold()
			x.act("z1> sync / ; ping")
			x.refuse(0, code)
			x.release()
			x.act("z1< 7 #2 " + want + "\nz1< -2 #2 ok")
			x.hold()
			x.act("z2> connect ; ping")
			x.refuse(0, code)
			x.release()
			x.act("sleep 1ms\nz2.")
		})
	}
}

// TestZooKeeperEmptyMultiThatFails: it has no operation that could be at fault.
func TestZooKeeperEmptyMultiThatFails(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act("z1> connect\nz1< session *")
		x.hold()
		x.act("z1> multi ; ping")
		x.refuse(0, znode.ErrSessionExpired)
		x.release()
		x.act("z1< 1 #1 -112\nz1< -2 #1 ok")
	})
}

// TestZooKeeperEventsComeFirst: when writes are answered in bursts, an event precedes every answer
// that shows its change, on its own connection and on others.
func TestZooKeeperEventsComeFirst(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act(`
			z1> create /a 0 ; getData /a watch
			z1< 1 #2 ok /a
			z1< 2 #2 ok *
			z2> getData /a watch
			z2< 1 #3 ok *
			`)
		x.hold()
		x.act("z1> setData /a 1 ; getData /a watch ; setData /a 2 ; getData /a\nz2> setData /b x ; getData /a")
		x.release()
		x.act(`
			z1< event changed /a #4
			z1< 3 #4 ok *
			z1< 4 #4 ok "1" *
			z1< event changed /a #5
			z1< 5 #5 ok *
			z1< 6 #5 ok "2" *
			z2< event changed /a #4
			z2< 2 #6 -101
			z2< 3 #6 ok "2" *
			`)
	})
}

// TestZooKeeperNothingBehindTheEnd: nothing follows the reply to closeSession, not even an event.
func TestZooKeeperNothingBehindTheEnd(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act("z1> addWatch /a kind=0\nz1< 1 *\nz2> connect\nz2< session *")
		x.hold()
		x.act("z2> create /a x\nz1> closeSession\nz2> setData /a y")
		x.release()
		x.act("z1< event created /a #3\nz1< 2 #4 ok\nz2< 1 #3 *\nz2< 2 #5 *\nz1.")
	})
}

// TestZooKeeperStops: requests in flight are still answered for a while, nothing more is taken, and
// the session outlives the server.
func TestZooKeeperStops(t *testing.T) {
	t.Parallel()
	for _, in := range []time.Duration{frontend.StopTime / 2, 2 * frontend.StopTime} {
		stage(t, func(x *theatre) {
			x.act("z1> create /e x flags=1\nz1< 1 #2 ok /e\nz2> connect\nz2< session 0x3eb *")
			x.hold()
			x.act("z1> setData /e y ; getData /e ; ping")
			x.act("stop\nz2.")
			x.act("z1> setData /e z")
			time.Sleep(in)
			x.release()
			if in < frontend.StopTime {
				x.act("z1< 2 #4 ok *\nz1< 3 #4 ok \"y\" *\nz1< -2 #4 ok")
			}
			x.act("sleep 1ms\nz1.")
			x.have("/e")
		})
	}
}

// TestZooKeeperBytes compares some exchanges byte for byte.
func TestZooKeeperBytes(t *testing.T) {
	t.Parallel()
	const when = "0000000000000002"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, direct)
		c := w.pipes().open(home)
		at := 0
		for _, tt := range []struct{ in, want string }{
			{"0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010 00000000000000000000000000000000 00",
				"00000025 00000000 00002710 00000000000003e9 00000010 01010101010101010101010101010101 00"},
			{"00000033 00000001 00000001 00000002 2f61 00000002 6869 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000", // create
				"00000016 00000001 0000000100000002 00000000 00000002 2f61"},
			{"0000000f 00000002 00000004 00000002 2f61 01", // getData
				"0000005a 00000002 0000000100000002 00000000 00000002 6869 0000000100000002 0000000100000002" + when + when +
					"00000000 00000000 00000000 0000000000000000 00000002 00000000 0000000100000002"},
			{"00000008 fffffffe 0000000b", "00000010 fffffffe 0000000100000002 00000000"},
			{"00000024 00000003 0000000e 0000000d 00 ffffffff 00000002 2f61 00000000 ffffffff 01 ffffffff", // multi of a check
				"00000022 00000003 0000000100000003 00000000 0000000d 00 00000000 ffffffff 01 ffffffff"},
			{"00000018 00000009 00000005 00000002 2f61 00000002 6869 ffffffff", // setData
				"0000001e ffffffff 0000000100000004 00000000 00000003 00000003 00000002 2f61" +
					"00000054 00000009 0000000100000004 00000000 0000000100000002 0000000100000004" + when + "0000000000000004" +
					"00000001 00000000 00000000 0000000000000000 00000002 00000000 0000000100000002"},
			{"00000024 00000003 0000000e 0000000d 00 ffffffff 00000002 2f61 00000000 ffffffff 01 ffffffff", // the multi again, which fails
				"00000026 00000003 0000000100000005 00000000 ffffffff 00 ffffff99 ffffff99 ffffffff 01 ffffffff"},
			{"0000000f 00000005 00000003 00000002 2f62 00", "00000010 00000005 0000000100000005 ffffff9b"}, // exists
			{"00000008 00000004 fffffff5", "00000010 00000004 0000000100000006 00000000"},                  // closeSession
		} {
			in, _ := hex.DecodeString(strings.ReplaceAll(tt.in, " ", ""))
			c.say(string(in))
			synctest.Wait()
			got := c.got.String()[at:]
			at += len(got)
			if want := strings.ReplaceAll(tt.want, " ", ""); hex.EncodeToString([]byte(got)) != want {
				t.Fatalf("%s is answered\n%x, want\n%s", tt.in, got, want)
			}
		}
		if !c.ended() {
			t.Error("the connection is open")
		}
	})
}
