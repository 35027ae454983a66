package frontend_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"coord/server/watch"
	"coord/server/zkproto"
	"coord/tree"
	"coord/tree/znode"
)

// zkDial connects over TCP and sends a connect.
func zkDial(t testing.TB, addr string) (net.Conn, *zkClient) {
	t.Helper()
	d, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	_ = d.SetDeadline(time.Now().Add(2 * time.Minute))
	z := &zkClient{}
	_, _ = d.Write(z.frames(t, "connect ttl=40000"))
	if said := z.next(t, d); !strings.HasPrefix(said, "session ") {
		t.Fatal(said)
	}
	return d, z
}

// next waits for the next frame and describes it in words.
func (z *zkClient) next(t testing.TB, d net.Conn) string {
	head := make([]byte, 4)
	_, err := io.ReadFull(d, head)
	if err != nil {
		t.Error(err)
		return ""
	}
	_, n, _ := zkproto.CutFrame(head, 1<<26)
	frame := append(head, make([]byte, n-len(head))...)
	if _, err := io.ReadFull(d, frame[4:]); err != nil {
		t.Error(err)
		return ""
	}
	said, _, err := z.read(frame)
	if err != nil {
		t.Error(err)
	}
	return said
}

// TestZooKeeperManyAtOnce: no client gets another client's answers, though buffers and requests are
// reused between connections.
func TestZooKeeperManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := w.tcp()
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/w", ACL: znode.OpenACL})
	var all sync.WaitGroup
	const clients, rounds = 8, 40
	for i := range clients {
		d, z := zkDial(t, addr)
		all.Go(func() {
			own := fmt.Sprintf("/own-%d", i)
			value := strings.Repeat(fmt.Sprintf("<%d>", i), 30+i*300)
			_, _ = d.Write(z.frames(t, "create "+own+" x acl=world:anyone:31,digest:u"+own[1:]+":h:1 ; getData /w watch"))
			told, answered := 0, 0
			for n := range rounds {
				_, _ = d.Write(z.frames(t, fmt.Sprintf("setData %s %d%s ; multiRead getData %s + getChildren %s ; getACL %s ; setData /w %d ; getData /w watch ; "+
					"setWatches xid=-8 zxid=0x7fffffffffffffff data=%s,/w", own, n, value, own, own, own, n, own)))
				want := []string{"ok [", fmt.Sprintf("getData %q", fmt.Sprint(n)+value), "digest:u" + own[1:] + ":h:r", "ok [", "ok ", "ok"}
				if len(value) > 990 {
					want[1] = fmt.Sprintf("getData (%d bytes)", len(fmt.Sprint(n)+value))
				}
				if n == 0 {
					want = append([]string{"ok " + own, "ok "}, want...)
				}
				for _, want := range want {
					said := z.next(t, d)
					for ; strings.HasPrefix(said, "event "); said = z.next(t, d) {
						told++
						if path := strings.Fields(said)[2]; path != "/w" && path != own {
							t.Errorf("%s is told %q", own, said)
						}
					}
					if answered++; !strings.Contains(said, want) {
						t.Errorf("%s got %.100q, want %.100q", own, said, want)
						return
					}
				}
			}
			if told < rounds {
				t.Errorf("%s was told %d times", own, told)
			}
		})
	}
	all.Wait()
}

// TestIdleZooKeeperClientsHoldLittle: the memory that a burst needed is released after it, while
// the session and the connection remain.
func TestIdleZooKeeperClientsHoldLittle(t *testing.T) {
	w := newWorld(t, direct)
	w.watches = watch.New(watch.Config{MaxWatches: 100, MaxWatchesPerWatcher: 10}, 0) // no history
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL})
	addr := w.tcp()
	heap := func() uint64 {
		for range 3 { // sync.Pool needs two
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	const clients = 50
	big := zkproto.Request{Xid: 1, Part: zkproto.Part{Op: zkproto.OpSetData, Path: "/a", Data: bytes.Repeat([]byte("v"), 1<<20), Version: zkproto.AnyVersion}}
	burst := append(zkproto.AppendRequest(nil, &big), bytes.Repeat(zkproto.AppendRequest(nil, &zkproto.Request{Part: zkproto.Part{Op: zkproto.OpPing}}), 1000)...)
	small := big
	small.Data = []byte("x")
	burst = zkproto.AppendRequest(burst, &small)
	answers := 2*(4+16+68) + 1000*20
	before := heap()
	for range clients {
		d, _ := zkDial(t, addr)
		go func() { _, _ = d.Write(burst) }()
		if n, err := io.CopyN(io.Discard, d, int64(answers)); err != nil {
			t.Fatal(n, err)
		}
	}
	each := int64(0)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // the last answer may arrive before its buffers are given back
		if each = (int64(heap()) - int64(before)) / clients; each <= 16<<10 || time.Now().After(end) {
			break
		}
	}
	if each > 16<<10 {
		t.Errorf("an idle connection holds %d bytes", each)
	} else {
		t.Logf("an idle connection holds %d bytes", each)
	}
	runtime.KeepAlive(burst)
	runtime.KeepAlive(big)
}
