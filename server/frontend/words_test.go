package frontend_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/server/watch"
	"coord/testscripts/words"
	"coord/tree"
	"coord/tree/znode"
)

func allowAll(cfg *frontend.Config, _ *backend) { cfg.FourLetter = []string{"*"} }

// word sends a four-letter word on a connection from an address, and returns the whole answer.
func (w *world) word(p *pipes, word string) string {
	c := p.open(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000})
	c.say(word)
	<-c.done
	_ = c.Close()
	synctest.Wait() // until the server has finished the connection
	return c.got.String()
}

// TestShapesAreStrict: an answer that differs slightly is not accepted.
func TestShapesAreStrict(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"ruok": "imok", "dirs": "datadir_size: 1\nlogdir_size: 2\n", "wchs": "1 connections watching 2 paths\nTotal watches:3\n",
		"wchc": "0x1\n\t/a\n\n", "hash": "1f: 77\n", "cons": " /1.2.3.4:5[1](queued=0,recved=1,sent=2)\n\n", "srst": "Server stats reset.\n",
	}
	for word, answer := range good {
		if err := words.Check(word, words.Coord, answer); err != nil {
			t.Error(err)
		}
		for _, bad := range []string{answer + "\n", answer + "x", "x" + answer, answer[:len(answer)-1], strings.ReplaceAll(answer, ":", "="), strings.ReplaceAll(answer, "\t", " ")} {
			if bad != answer && words.Check(word, words.Coord, bad) == nil {
				t.Errorf("%s: %q is taken", word, bad)
			}
		}
	}
	if words.Check("mntr", words.ZooKeeper, "zk_version\t3.8.0, built on 2024-12-29 17:54 UTC\nzk_server_state\tstandalone\n") == nil {
		t.Error("mntr without its metrics is taken")
	}
}

// TestUnknownWordInTheList: the server logs a warning, and the word stays unknown.
func TestUnknownWordInTheList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, direct, func(cfg *frontend.Config, _ *backend) { cfg.FourLetter = []string{"srvx", "ruok"} })
	if log := w.log.String(); !strings.Contains(log, `"srvx"`) || strings.Contains(log, "ruok") {
		t.Errorf("the log: %s", log)
	}
	if got := ask(t, w.tcp(), "srvx\nPING\n"); !strings.HasSuffix(got, "OK pong\n") {
		t.Errorf("srvx: %q", got)
	}
}

// TestDump checks the sessions by the second in which they end, their ephemerals, and the
// connections that end unless they send something.
func TestDump(t *testing.T) {
	t.Parallel()
	for _, counted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			w := newWorld(t, direct, allowAll, func(cfg *frontend.Config, _ *backend) {
				if counted {
					cfg.SessionDeadline = func(id int64) (time.Time, bool) { return start.Add(30 * time.Second), id != 9 }
				}
			})
			p := w.pipes()
			if got := w.word(p, "dump"); !strings.HasPrefix(got, "SessionTracker dump:\nSession Sets (0)/(0):\nephemeral nodes dump:\nSessions with Ephemerals (0):\nConnections dump:\nConnections Sets (1)/(1):\n") {
				t.Errorf("of nothing: %s", got)
			}
			for _, id := range []int64{7, 8, 9, -1 << 60} {
				w.state.Lock()
				r, _ := w.tree.Apply(1, &tree.Txn{Op: tree.Op{Kind: tree.KindSession}, Target: id, TimeoutMS: 4000, Password: make([]byte, 16)})
				w.state.Unlock()
				if r.Code != znode.OK {
					t.Fatal(r.Code)
				}
			}
			for i, session := range []int64{7, 7, -1 << 60} {
				w.state.Lock()
				r, _ := w.tree.Apply(1, &tree.Txn{Session: session, IDs: []znode.Identity{znode.Super},
					Op: tree.Op{Kind: tree.KindCreate, Path: fmt.Sprintf("/e%d", 2-i), Mode: znode.Ephemeral, ACL: znode.OpenACL}})
				w.state.Unlock()
				if r.Code != znode.OK {
					t.Fatal(r.Code)
				}
			}
			silent := p.open(&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 50001})
			client := p.open(home)
			client.say("PING\n")
			synctest.Wait()
			at := func(d time.Duration) string { return start.Add(d).Format("Mon Jan 02 15:04:05 MST 2006") }
			sessions := "Global Sessions(4):\n0xf000000000000000\t4000ms\n0x7\t4000ms\n0x8\t4000ms\n0x9\t4000ms\n"
			if counted {
				sessions = "Session Sets (2)/(4):\n1 expire at " + at(4*time.Second) + ":\n\t0x9\n" +
					"3 expire at " + at(30*time.Second) + ":\n\t0xf000000000000000\n\t0x7\n\t0x8\n"
			}
			want := "SessionTracker dump:\n" + sessions +
				"ephemeral nodes dump:\nSessions with Ephemerals (2):\n0xf000000000000000:\n\t/e0\n0x7:\n\t/e1\n\t/e2\n" +
				"Connections dump:\nConnections Sets (1)/(2):\n2 expire at " + at(10*time.Second) + ":\n"
			got := w.word(p, "dump")
			same(t, strings.ReplaceAll(got, "\tip: /127.0.0.1:40000 sessionId: 0x0\n", ""), want+"\tip: /[fe80:0:0:0:0:0:0:1]:50001 sessionId: 0x0\n")
			if counted {
				if err := words.Check("dump", words.ZooKeeper, got); err != nil {
					t.Error(err)
				}
			}
			_, _ = silent.Close(), client.Close()
		})
	}
}

// waiter is a watcher with a session or an address, like a connection.
type waiter struct {
	session int64
	addr    string
}

func (*waiter) Notify(znode.Event)           {}
func (*waiter) Identities() []znode.Identity { return nil }
func (*waiter) Closed() bool                 { return false }
func (x *waiter) Session() int64             { return x.session }
func (x *waiter) Client() string             { return x.addr }

// TestWatchWords checks wchs, wchc and wchp with watchers that have a session and one that has
// none.
func TestWatchWords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, direct, allowAll)
		p := w.pipes()
		for word, want := range map[string]string{"wchs": "0 connections watching 0 paths\nTotal watches:0\n", "wchc": "\n", "wchp": "\n"} {
			if got := w.word(p, word); got != want {
				t.Errorf("%s of nothing: %q", word, got)
			}
		}
		a, b := &waiter{session: 0x100000000000001}, &waiter{addr: "/127.0.0.1:50000"}
		for _, x := range []struct {
			w    watch.Watcher
			path string
			kind watch.Kind
		}{{a, "/p", watch.Data}, {b, "/p", watch.Exist}, {a, "/o", watch.Exist}, {a, "/p", watch.Children}, {b, "/c", watch.Children}} {
			if err := w.watches.Add(x.w, x.path, x.kind); err != nil {
				t.Fatal(err)
			}
		}
		for word, want := range map[string]string{
			"wchs": "2 connections watching 2 paths\nTotal watches:3\n",
			"wchc": "0x100000000000001\n\t/o\n\t/p\n/127.0.0.1:50000\n\t/p\n\n",
			"wchp": "/o\n\t0x100000000000001\n/p\n\t0x100000000000001\n\t/127.0.0.1:50000\n\n",
		} {
			got := w.word(p, word)
			if got != want {
				t.Errorf("%s: %q, want %q", word, got, want)
			}
			if err := words.Check(word, words.Coord, got); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestConnectionStatistics checks the figures of clients in cons and stat, and that crst and srst
// reset them.
func TestConnectionStatistics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, allowAll) // with an applier that can be held
		p := w.pipes()
		client := p.open(home)
		client.say("CREATE /a x\nGET /a\nSYNC /\nFORMAT text\n")
		synctest.Wait()
		est := time.Now().UnixMilli()
		time.Sleep(time.Second)
		asker := " /127.0.0.1:40000[0](queued=0,recved=1,sent=0)\n\n"
		cons := func(numbers, lop, zxid, rest string) string {
			return fmt.Sprintf(" /127.0.0.1:50000[1](%s,sid=0x0,lop=%s,est=%d,to=0,lzxid=%s,%s)\n", numbers, lop, est, zxid, rest) + asker
		}
		same(t, w.word(p, "cons"), cons("queued=0,recved=4,sent=4", "SYNC", "0x100000001", "lresp=0,llat=0,minlat=0,avglat=0,maxlat=0"))
		if got := w.word(p, "stat"); !strings.Contains(got, "\nClients:\n /127.0.0.1:50000[1](queued=0,recved=4,sent=4)\n /127.0.0.1:40000[0](queued=0,recved=1,sent=0)\n\nLatency min/avg/max: 0/0.0/0\nReceived: 6\nSent: 5\nConnections: 2\n") {
			t.Errorf("stat: %s", got)
		}

		// A write that takes 250 ms, and a read that waits after it.
		w.hold()
		client.say("SET /a y\nGET /a\n")
		synctest.Wait()
		time.Sleep(250 * time.Millisecond)
		if got := w.word(p, "cons"); !strings.HasPrefix(got, " /127.0.0.1:50000[1](queued=2,recved=6,sent=4,") {
			t.Errorf("cons: %s", got)
		}
		w.release()
		synctest.Wait()
		same(t, w.word(p, "cons"), cons("queued=0,recved=6,sent=6", "GETD", "0x100000002", "lresp=1250,llat=250,minlat=0,avglat=100,maxlat=250"))
		if got := w.word(p, "srvr"); !strings.Contains(got, "\nLatency min/avg/max: 0/100.0/250\n") {
			t.Errorf("srvr: %s", got)
		}
		mntr := w.word(p, "mntr")
		for _, want := range []string{
			"min_latency\t0", "avg_latency\t100.0", "max_latency\t250", "cnt_updatelatency\t2", "sum_updatelatency\t250", "p50_updatelatency\t0",
			"p999_updatelatency\t250", "cnt_readlatency\t3", "avg_readlatency\t83.3333", "coord_writes\t2", "bytes_received_count\t78",
			"last_client_response_size\t30", "max_client_response_size\t32", "min_client_response_size\t15",
		} {
			if !strings.Contains(mntr, "\nzk_"+want+"\n") {
				t.Errorf("no %s in %s", want, mntr)
			}
		}

		if got := w.word(p, "crst"); got != "Connection stats reset.\n" {
			t.Errorf("crst: %q", got)
		}
		same(t, w.word(p, "cons"), cons("queued=0,recved=0,sent=0", "NA", "0xffffffffffffffff", "lresp=0,llat=0,minlat=0,avglat=0,maxlat=0"))
		if got := w.word(p, "srvr"); !strings.Contains(got, "/250\n") {
			t.Errorf("crst has reset the server's: %s", got)
		}
		if got := w.word(p, "srst"); got != "Server stats reset.\n" || w.node.resets.Load() != 1 {
			t.Errorf("srst: %q", got)
		}
		if got := w.word(p, "srvr"); !strings.Contains(got, "\nLatency min/avg/max: 0/0.0/0\nReceived: 1\nSent: 1\n") {
			t.Errorf("behind srst: %s", got)
		}
		mntr = w.word(p, "mntr")
		for _, want := range []string{"cnt_readlatency\t0", "p999_updatelatency\t0", "last_client_response_size\t-1", "bytes_received_count\t8", "coord_writes\t2"} {
			if !strings.Contains(mntr, "\nzk_"+want+"\n") {
				t.Errorf("behind srst no %s in %s", want, mntr)
			}
		}
		_ = client.Close()
	})
}

// TestSilentConnectionsCount: clients that send nothing are counted, those that leave are not.
func TestSilentConnectionsCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, direct, allowAll)
		p := w.pipes()
		silent, leaves := p.open(home), p.open(home)
		_ = leaves.Close()
		time.Sleep(frontend.FirstLineTime + time.Second)
		<-silent.done
		if got := w.word(p, "mntr"); !strings.Contains(got, "\nzk_sessionless_connections_expired\t1\n") {
			t.Errorf("mntr: %s", got)
		}
	})
}

// TestSlowReaderInCons: cons shows a client that does not take its answers as waiting to be written
// to.
func TestSlowReaderInCons(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, direct, allowAll)
		p := w.pipes()
		client := p.dial(home)
		_, _ = io.WriteString(client, "PING\n")
		synctest.Wait()
		if got := w.word(p, "stat"); !strings.Contains(got, " /127.0.0.1:50000[5](queued=0,recved=1,sent=1)\n") {
			t.Errorf("stat: %s", got)
		}
		_ = client.Close()
	})
}

// TestPercentiles: a percentile is exact to a quarter, and never above the maximum.
func TestPercentiles(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		ms             []int
		p50, p99, most int64
	}{{nil, 0, 0, 0}, {[]int{0}, 0, 0, 0}, {[]int{7}, 7, 7, 7}, {[]int{10, 20, 1000, 20000}, 20, 20000, 20000}, {[]int{1 << 30}, 1 << 30, 1 << 30, 1 << 30}} {
		p50, p99, most := frontend.Percentiles(x.ms)
		for _, y := range [][2]int64{{p50, x.p50}, {p99, x.p99}, {most, x.most}} {
			if y[0] < y[1] || float64(y[0]) > 1.25*float64(y[1]) || y[0] > x.most {
				t.Errorf("%v: %d %d %d", x.ms, p50, p99, most)
			}
		}
	}
}
