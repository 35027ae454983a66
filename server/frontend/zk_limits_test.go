package frontend_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/server/zkproto"
	"coord/tree"
	"coord/tree/znode"
)

// TestZooKeeperConnectTime: a client has ten seconds for its first frame, whatever it sends; after
// that, its session's timeout from one sign of life to the next.
func TestZooKeeperConnectTime(t *testing.T) {
	t.Parallel()
	connect := zkBytes(t)
	ping := zkBytes(t, "ping")[len(connect):]
	for _, tt := range []struct {
		name   string
		pieces []string // sent one per second
		closes time.Duration
	}{
		{"a byte", []string{"\x00"}, frontend.FirstLineTime},
		{"half of it", []string{connect[:20]}, frontend.FirstLineTime},
		{"all but a byte, slowly", strings.SplitAfter(strings.ReplaceAll(connect[:48], "\x00", "\x00|"), "|")[:1], frontend.FirstLineTime},
		{"all of it", []string{connect}, 10 * time.Second}, // up to 250 ms more, see session.Keeper
		{"all of it in the end", []string{connect[:1], connect[1:44], connect[44:]}, 12 * time.Second},
		{"with half a frame behind it", []string{connect + "\x00\x00"}, 10 * time.Second},
		{"with a ping", []string{connect, ping}, 11 * time.Second},
		{"with a slow one", append([]string{connect}, strings.Split(ping, "")...), 22 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stage(t, func(x *theatre) {
				x.loose = true
				c := x.client("z1")
				start := time.Now()
				go func() {
					for i, p := range tt.pieces {
						if i > 0 {
							time.Sleep(time.Second)
						}
						c.say(p)
					}
				}()
				<-c.done
				if after := time.Since(start); after < tt.closes || after > tt.closes+300*time.Millisecond {
					t.Errorf("closed after %s, want %s", after, tt.closes)
				}
			})
		})
	}
}

// TestZooKeeperRequestLimits checks the limits of a request, and the outcome of requests that
// exceed them.
func TestZooKeeperRequestLimits(t *testing.T) {
	t.Parallel()
	many := func(n int, part string) string {
		return "multi " + strings.Repeat(part+" + ", n-1) + part
	}
	for _, tt := range []struct {
		name, in string
		want     []string // how the answers begin; if the last is "", the server closes the connection
	}{
		{"a value of 1 MiB", "setData / " + strings.Repeat("x", 1<<20), []string{"1 #2 ok [", "-2 #2 ok"}},
		{"a value over the frame's limit", "setData / " + strings.Repeat("x", 1<<20+128<<10), []string{""}},
		{"a multi of 1,000", many(1000, "check /"), []string{"1 #2 ok check + check", "-2 #2 ok"}},
		{"a multi of more", many(1001, "check /"), []string{"1 #1 -8", "-2 #1 ok"}},
		{"a multiRead of 1,000", strings.Replace(many(1000, "getData /"), "multi", "multiRead", 1), []string{"1 #1 ok getData", "-2 #1 ok"}},
		{"a multiRead of more", strings.Replace(many(1001, "getData /"), "multi", "multiRead", 1), []string{"1 #1 -8", "-2 #1 ok"}},
		{"a path", "create /" + strings.Repeat("x", znode.MaxPathBytes-1), []string{"1 #2 ok /xxx", "-2 #2 ok"}},
		{"a longer path", "create /" + strings.Repeat("x", znode.MaxPathBytes), []string{"1 #2 -8", "-2 #2 ok"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stage(t, func(x *theatre) {
				x.act("Z1> " + tt.in + " ; ping")
				for _, want := range tt.want {
					if want == "" {
						x.act("Z1.")
						return
					}
					x.act("Z1< " + want + "*")
				}
			})
		})
	}
	t.Run("users", func(t *testing.T) {
		t.Parallel()
		stage(t, func(x *theatre) {
			for i := range frontend.MaxIdentities {
				x.act(fmt.Sprintf("z1> auth digest u%d:x\nz1< %d 0x0 ok", i, i+1))
			}
			x.act("z1> auth digest u3:x ; auth digest u99:x ; ping\nz1< 17 0x0 ok\nz1< 18 0x0 -115\nz1.")
		})
	})
	t.Run("tokens", func(t *testing.T) {
		t.Parallel()
		stage(t, func(x *theatre) {
			for i := range frontend.MaxTokens {
				x.act(fmt.Sprintf("z1> sasl / x\nz1< %d 0x0 ok null", i+1))
			}
			x.act("z1> sasl / x ; ping\nz1.")
		})
	})
	t.Run("a user", func(t *testing.T) {
		t.Parallel()
		stage(t, func(x *theatre) {
			user := strings.Repeat("x", frontend.MaxUserBytes-29)
			x.act("Z1> auth digest " + user + ":pw ; auth digest " + user + "x:pw ; ping\nZ1< 1 0x0 ok\nZ1< 2 0x0 -115\nZ1.")
		})
	})
}

// TestZooKeeperPipelineLimits: when more requests, or more bytes of them, are in flight than
// allowed, the server stops reading until some are answered.
func TestZooKeeperPipelineLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, request string
		n, taken      int
	}{
		{"requests", "setData / x", 2500, frontend.MaxPipelined},
		{"bytes", "setData / " + strings.Repeat("x", 100<<10), 30, 11},
		{"one large request", "setData / " + strings.Repeat("x", 1<<20), 3, 1},
		{"operations", "multi " + strings.Repeat("check /none + ", 499) + "check /none", 60, frontend.MaxInFlightBytes/(500*(128+22)) + 1},
		{"syncs", "sync /", 2500, frontend.MaxPipelined},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stage(t, func(x *theatre) {
				x.act("z1> ping\nz1< -2 #1 ok")
				x.hold()
				c := x.client("z1")
				go c.say(strings.Repeat(string(c.zk.frames(t, tt.request)), tt.n))
				synctest.Wait()
				if got := x.waiting(); got != tt.taken {
					t.Errorf("%d are taken, want %d", got, tt.taken)
				}
				x.allow(1)
				synctest.Wait()
				if got := x.waiting(); got != tt.taken {
					t.Errorf("%d are taken when one is answered, want %d", got, tt.taken)
				}
				x.release()
				synctest.Wait()
				if got := countFrames(t, c.got.String()[c.seen:]); got != tt.n {
					t.Errorf("%d answers, want %d", got, tt.n)
				}
				x.loose = true
			})
		})
	}
	t.Run("reads behind a write", func(t *testing.T) {
		t.Parallel()
		stage(t, func(x *theatre) {
			x.act("z1> ping\nz1< -2 #1 ok")
			x.hold()
			c := x.client("z1")
			go c.say(string(c.zk.frames(t, "setData / x")) + strings.Repeat(string(c.zk.frames(t, "ping")), 5000))
			synctest.Wait()
			if n := x.outstanding(); n != frontend.MaxPipelined {
				t.Errorf("outstanding: %d", n)
			}
			x.release()
			synctest.Wait()
			if got := countFrames(t, c.got.String()[c.seen:]); got != 5001 {
				t.Errorf("%d answers", got)
			}
			x.loose = true
		})
	})
}

func countFrames(t testing.TB, in string) (n int) {
	t.Helper()
	for len(in) > 0 {
		frame, size, err := zkproto.CutFrame([]byte(in), 1<<26)
		if err != nil || frame == nil {
			t.Fatalf("behind %d frames: %d bytes, %v", n, len(in), err)
		}
		n, in = n+1, in[size:]
	}
	return n
}

// outstanding returns the number that srvr shows.
func (x *theatre) outstanding() (n int) {
	x.t.Helper()
	_, rest, _ := strings.Cut(x.word(x.pipes, "srvr"), "Outstanding: ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		x.t.Fatal(err)
	}
	return n
}

// TestZooKeeperClientThatDoesNotRead: the server does not read from it, other clients do not wait
// for it, and it is closed when its time is over.
func TestZooKeeperClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	for _, request := range []string{"getData /big", "setData / x", "ping", "multiRead getData /big + getData /big"} {
		stage(t, func(x *theatre) {
			x.must(tree.Op{Kind: tree.KindCreate, Path: "/big", Data: make([]byte, 100<<10), ACL: znode.OpenACL})
			d := x.dial(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)})
			z := &zkClient{}
			var taken int
			go func() {
				_, _ = d.Write(z.frames(t, "connect ttl=40000"))
				one := z.frames(t, request)
				for range 100_000 {
					n, err := d.Write(one)
					if taken += n; err != nil {
						return
					}
				}
				t.Errorf("%s: all is read", request)
			}()
			synctest.Wait()
			if taken > 300<<10 {
				t.Errorf("%s: %d bytes are taken", request, taken)
			}
			x.act("z2> exists /\nz2< 1 *")
			time.Sleep(frontend.WriteTime + time.Second)
			if b, err := io.ReadAll(d); len(b) != 0 || err != nil {
				t.Errorf("%s: %d bytes, %v", request, len(b), err)
			}
			x.loose = true
		})
	}
}

// TestZooKeeperOutboxLimit: reads after a write are refused while too much waits for the client;
// requests that are not reads, or are refused anyway, are answered as usual.
func TestZooKeeperOutboxLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", Data: bytes.Repeat([]byte("v"), 1<<20), ACL: znode.OpenACL})
		d := w.pipes().dial(home) // the client reads nothing
		in := []string{"setData / x"}
		for range 6 {
			in = append(in, "getData /a")
		}
		in = append(in, "ping", "exists /b watch", "auth digest bob:pwd", "short exists /", "setData / y", "getData /", "auth foo bar")
		connect := zkBytes(t)
		go func() { _, _ = io.WriteString(d, connect) }()
		_, _ = io.ReadFull(d, make([]byte, 41))
		w.hold()
		go func() { _, _ = io.WriteString(d, zkBytes(t, in...)[len(connect):]) }()
		synctest.Wait()
		w.release()
		synctest.Wait()
		c := newCaller(d)
		<-c.done
		z := &zkClient{connected: true}
		z.frames(t, strings.Join(in, " ; "))
		var got []string
		for rest := []byte(c.got.String()); len(rest) > 0; {
			said, n, err := z.read(rest)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			words := strings.Fields(said)
			got, rest = append(got, strings.Join(words[:3], " ")), rest[n:]
		}
		want := "1 #3 ok|2 #3 ok|3 #3 ok|4 #3 ok|5 #3 ok|6 #3 -127|7 #3 -127|-2 #3 ok|9 #3 -127|10 0x0 ok|11 #3 -5|12 #4 ok|13 #4 -127|14 0x0 -115"
		same(t, strings.Join(got, "|"), want)
	})
}

// TestZooKeeperMultiReadLimit: one answer is not longer than what may wait for a client, except for
// the part that reaches the limit.
func TestZooKeeperMultiReadLimit(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "setData / x ; "} { // at once, and in its turn
		stage(t, func(x *theatre) {
			x.must(tree.Op{Kind: tree.KindCreate, Path: "/a", Data: make([]byte, 1<<20), ACL: znode.OpenACL})
			x.act("z1> connect\nz1< session *")
			c := x.client("z1")
			x.loose = true
			x.act("z1> " + first + "multiRead " + strings.Repeat("getData /a + ", 20) + "getData / ; ping")
			if n := len(c.got.String()); n > frontend.MaxOutboxBytes+1<<20 {
				t.Errorf("%d bytes", n)
			}
			if first != "" {
				x.act("z1< 1 *")
			}
			x.act("z1< * ok getData*" + strings.Repeat(" + -8", 17) + "\nz1< -2 *")
		})
	}
}

// TestZooKeeperCountsInSteps: counting a large subtree holds up no other client for long, not even
// when it comes after a write.
func TestZooKeeperCountsInSteps(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act("z1> create /a x ; create /ab x\nz1< 1 *\nz1< 2 *")
		for i := range 100 {
			dir := fmt.Sprintf("/a/%d", i)
			x.do(tree.Op{Kind: tree.KindCreate, Path: dir, ACL: znode.OpenACL})
			for j := range 199 {
				x.do(tree.Op{Kind: tree.KindCreate, Path: fmt.Sprintf("%s/%d", dir, j), ACL: znode.ReadACL})
			}
		}
		before := x.views.Load()
		x.act("z1> getAllChildrenNumber /a ; getAllChildrenNumber /a/7 ; getAllChildrenNumber /a/7/7 ; getAllChildrenNumber /\nz1< 3 * ok 20000\nz1< 4 * ok 199\nz1< 5 * ok 0\nz1< 6 * ok 20005")
		if n := x.views.Load() - before; n < 5+4 {
			t.Errorf("%d Views", n)
		}
		x.hold()
		x.act("z1> create /a/x x ; getAllChildrenNumber /a ; getAllChildrenNumber /a/x ; delete /a/x ; getAllChildrenNumber /a")
		before = x.views.Load()
		x.release()
		x.act("z1< 7 *\nz1< 8 * ok 20001\nz1< 9 * ok 0\nz1< 10 * ok\nz1< 11 * ok 20000")
		if n := x.views.Load() - before; n < 5+5 {
			t.Errorf("%d Views behind a write", n)
		}
	})
}

// TestZooKeeperDeafToEvents: a client that does not take its events is closed, at no cost for
// others.
func TestZooKeeperDeafToEvents(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		d := x.dial(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)})
		go func() { _, _ = io.WriteString(d, zkBytes(t, "addWatch / kind=1")) }()
		_, _ = io.ReadFull(d, make([]byte, 41+24))
		x.act("A> FOLLOW / recursive\nA< OK *")
		start := time.Now()
		path := "/" + strings.Repeat("x", 1000)
		x.must(tree.Op{Kind: tree.KindCreate, Path: path, ACL: znode.OpenACL})
		x.loose = true
		for range 1500 {
			x.must(tree.Op{Kind: tree.KindSetData, Path: path, Version: tree.AnyVersion})
		}
		synctest.Wait()
		if bytes, _ := frontend.Leftovers(x.front); bytes < frontend.MaxEventBytes || bytes > frontend.MaxEventBytes+10_000 {
			t.Errorf("%d bytes of events wait", bytes)
		}
		if got := x.word(x.pipes, "mntr"); !strings.Contains(got, "zk_coord_slow_clients\t1\n") {
			t.Error(got)
		}
		time.Sleep(frontend.WriteTime + time.Second)
		if b, err := io.ReadAll(d); len(b) != 0 || err != nil || time.Since(start) > frontend.WriteTime+2*time.Second {
			t.Errorf("%d bytes, %v after %s", len(b), err, time.Since(start))
		}
		if n := strings.Count(x.client("A").got.String(), "EVENT "); n != 1501 {
			t.Errorf("another client has %d events", n)
		}
	})
}

// TestZooKeeperTooManyWatches: a client that reaches the limit gets an error and is disconnected,
// in its turn or at once; no later request is answered.
func TestZooKeeperTooManyWatches(t *testing.T) {
	t.Parallel()
	few := func(_ *frontend.Config, b *backend) {
		b.watches = watch.New(watch.Config{MaxWatches: 10, MaxWatchesPerWatcher: 2}, 0)
	}
	for _, request := range []string{"addWatch /b kind=0", "exists /b watch", "getData / watch", "getChildren / watch", "setWatches xid=4 child=/ exist=/b"} {
		stage(t, func(x *theatre) {
			x.act("z1> exists /a watch ; addWatch /r kind=1 ; exists /a watch ; " + request + " ; ping ; create /x x")
			x.act("z1< 1 #1 -101\nz1< 2 #1 ok 0\nz1< 3 #1 -101\nz1< 4 #1 -1\nz1.")
			x.have()
		}, few)
		stage(t, func(x *theatre) {
			x.act("z1> exists /a watch ; addWatch /r kind=1\nz1< 1 #1 -101\nz1< 2 #1 ok 0")
			x.hold()
			x.act("z1> create /x x ; " + strings.Replace(request, "xid=4", "xid=9", 1) + " ; ping ; getData / ; create /y x ; ping")
			x.release()
			x.act("z1< 3 #2 ok /x\nz1< * #2 -1\nz1.")
		}, few)
	}
}

// TestZooKeeperWatchesOfLongPaths: at a path where no znode can exist no watch is kept, and all
// requests are answered as if it were; such paths may be as long as a frame.
func TestZooKeeperWatchesOfLongPaths(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		long := "/" + strings.Repeat("x", znode.MaxPathBytes)
		longest := long[:znode.MaxPathBytes]
		watches := func(want string) {
			t.Helper()
			if got := x.word(x.pipes, "mntr"); !strings.Contains(got, "zk_watch_count\t"+want+"\n") {
				t.Errorf("want %s watches: %s", want, got)
			}
		}
		x.act("z1> exists " + long + " watch ; addWatch " + long + " kind=0 ; addWatch " + long + " kind=1 ; setWatches2 exist=" + long + " recursive=" + long)
		x.act("z1< 1 #1 -101\nz1< 2 #1 ok 0\nz1< 3 #1 ok 0\nz1< 4 #1 ok")
		watches("0")
		x.act("z1> exists " + longest + " watch\nz1< 5 #1 -101")
		watches("1")
	})
}

// TestZooKeeperStatistics checks the figures of a connection.
func TestZooKeeperStatistics(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.act(`
			z1> connect ; create /a x ; getData /a watch ; setData /a y ; exists /none ; ping ; whoAmI
			z1< session *
			z1< 1 #2 ok *
			z1< 2 #2 ok *
			z1< event changed /a #3
			z1< 3 #3 ok *
			z1< 4 #3 -101
			z1< -2 #3 ok
			z1< 6 #3 ok *
			`)
		cons := func(want string) {
			t.Helper()
			if got := x.word(x.pipes, "cons"); !strings.Contains(got, want) {
				t.Errorf("%q is not in %q", want, got)
			}
		}
		cons("(queued=0,recved=7,sent=7,sid=0x3e9,lop=HOMI,est=")
		cons(",to=10000,lcxid=0x6,lzxid=0x100000003,")
		x.act("z1> ping xid=-2 ; setWatches xid=-8\nz1< -2 *\nz1< -8 *") // xids that are not numbers of requests
		cons("lop=SETW,")
		cons(",lcxid=0x6,")
		x.act("z1> getAllChildrenNumber /\nz1< 7 *")
		cons("lop=GETACN,")
		cons(",lcxid=0x7,")
		x.hold()
		x.act("z1> setData /a x ; ping ; ping")
		if n := x.outstanding(); n != 3 {
			t.Errorf("outstanding: %d", n)
		}
		x.release()
		x.act("z1< 8 *\nz1< -2 *\nz1< -2 *\nz1> auth foo bar\nz1< 11 0x0 -115\nz1.")
		mntr := x.word(x.pipes, "mntr")
		for _, want := range []string{"zk_packets_sent\t21\n", "zk_auth_failed_count\t1\n", "zk_outstanding_requests\t0\n", "zk_cnt_updatelatency\t3\n", "zk_coord_writes\t3\n"} {
			if !strings.Contains(mntr, want) {
				t.Errorf("%q is not in %s", want, mntr)
			}
		}
	}, func(cfg *frontend.Config, _ *backend) { cfg.FourLetter = []string{"*"} })
}

// TestZooKeeperDamagedBytes: whatever follows a connect, every answer is a whole frame, and the
// server works normally afterwards.
func TestZooKeeperDamagedBytes(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	whole := zkBytes(t, "create /a x acl=digest:bob:h:31,world:anyone:31", "multi check /a + setData /a y + create /b z", "setWatches2 zxid=#1 data=/a exist=/b child=/ persistent=/p recursive=/r",
		"getChildren2 / watch", "addWatch /a kind=1", "removeWatches /a kind=3", "multiRead getData /a + getChildren /", "createTTL /t x flags=5 ttl=9", "reconfig", "auth digest a:b")
	for range 300 {
		in := []byte(whole)
		for range 1 + r.IntN(4) {
			switch at := r.IntN(len(in)); r.IntN(4) {
			case 0:
				in[at] = byte(r.Uint32())
			case 1:
				in[at] ^= 1 << r.IntN(8)
			case 2:
				in = slices.Delete(in, at, min(at+1+r.IntN(4), len(in)))
			case 3:
				in = slices.Insert(in, at, in[at:min(at+1+r.IntN(30), len(in))]...)
			}
		}
		stage(t, func(x *theatre) {
			x.loose = true
			c := x.open(home)
			go func() {
				c.say(string(in))
				_ = c.CloseWrite()
			}()
			<-c.done
			if in[0] == 0 { // otherwise it may be another protocol
				countFrames(t, c.got.String())
			}
			x.act("z1> exists /\nz1< 1 *")
			if t.Failed() {
				t.Fatalf("seed %d: %x", seed, in)
			}
		})
	}
}

// TestZooKeeperSecretsAreNotLogged: not at any log level.
func TestZooKeeperSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a"
	boss := znode.DigestOf("boss:" + canary)
	_, hash, _ := strings.Cut(boss.ID, ":")
	secret := "pw=" + strings.Repeat("ab", 16)
	stage(t, func(x *theatre) {
		x.loose = true
		for i, in := range []string{
			"auth digest boss:" + canary, "auth " + canary + " x", "auth foo " + canary, "auth digest x:" + canary + " ; short auth digest boss:" + canary,
			"connect id=0x3e9 " + secret, "connect id=0x3e9 pw=", "create /" + canary + " " + canary + " ; op=10",
		} {
			x.act(fmt.Sprintf("z%d> %s", i, in))
		}
		time.Sleep(time.Minute)
		log := x.log.String()
		for _, s := range []string{canary, hash, "abab", "\xab\xab", "0101"} {
			if strings.Contains(log, s) {
				t.Errorf("%q is in the log: %s", s, log)
			}
		}
	}, func(cfg *frontend.Config, _ *backend) {
		cfg.SuperDigest = boss.ID
		cfg.Logger = cfg.Logger.Level(zerolog.TraceLevel)
	})
}
