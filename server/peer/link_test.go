package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

func TestLink(t *testing.T) {
	t.Parallel()
	for tries := 1; ; tries++ {
		began := time.Now()
		if carriesAll(t) {
			break
		}
		if time.Since(began) < SilenceTime || tries == 20 { // otherwise the machine was stalled, which ends links
			t.Fatal("a link ended")
		}
	}
}

// carriesAll sends messages and forwards over two links and checks what arrives, unless a link ends.
func carriesAll(t *testing.T) bool {
	t.Helper()
	a, b := pair(t)
	const n = 5000
	for i := range n {
		a.Links.Raft([]*raftpb.Message{heartbeat(1, 2, uint64(i+1))})
		b.Links.Forward(1, 7, []byte(fmt.Sprint(i)))
		if i%500 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	ended := func() bool { return a.Stats().Peers[0].Links != 1 || b.Stats().Peers[0].Links != 1 }
	eventually(t, func() bool {
		msgs, _ := b.count()
		_, forwards := a.count()
		return msgs+int(a.Stats().Dropped) == n && forwards == n || ended()
	})
	a.stop()
	b.stop()
	if ended() {
		return false
	}
	for i, f := range a.forwards {
		if f != fmt.Sprintf("2 7 %d", i) {
			t.Fatalf("forward %d is %s", i, f)
		}
	}
	if !slices.IsSortedFunc(b.msgs, func(x, y *raftpb.Message) int { return int(x.GetCommit()) - int(y.GetCommit()) }) {
		t.Error("messages out of order")
	}
	if got := a.story(); !strings.HasPrefix(got, "up 2 boot 1 index 20") {
		t.Error(got)
	}
	s := b.Stats()
	if p := s.Peers[0]; p.SentForwards != n || p.SentBytes == 0 || s.Messages == 0 {
		t.Errorf("%+v", s)
	}
	return true
}

// A node that is dialled by a peer that it cannot reach dials that peer at once, however long its
// pause still was.
func TestWhoIsDialledDials(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := n.start(t, 1)
		a.SetPeer(2, []string{"n2"})
		for range 20 {
			time.Sleep(3*time.Second + 137*time.Millisecond)
			b := n.start(t, 2)
			b.SetPeer(1, []string{"n1"})
			time.Sleep(10 * time.Millisecond)
			if got := a.lastTold(); !strings.HasPrefix(got, "up 2") {
				t.Errorf("after 10 ms: %q", got)
			}
			b.stop()
			time.Sleep(time.Second)
		}
		a.stop()
	})
}

func TestDown(t *testing.T) {
	t.Parallel()
	t.Run("certain", func(t *testing.T) {
		t.Parallel()
		inTime(t, func() (d time.Duration, story string) {
			a, b := pair(t)
			began := time.Now()
			b.stop()
			eventually(t, func() bool { return strings.HasPrefix(a.lastTold(), "down") })
			return time.Since(began), a.story()
		})
	})
	t.Run("certain under load", func(t *testing.T) {
		t.Parallel()
		for range 5 {
			inTime(t, func() (d time.Duration, story string) {
				a, b := pair(t)
				over := make(chan struct{})
				go func() {
					for {
						select {
						case <-over:
							return
						default:
							a.Links.Raft([]*raftpb.Message{batch(1, 2, 7)})
							time.Sleep(10 * time.Microsecond)
						}
					}
				}()
				eventually(t, func() bool { n, _ := b.count(); return n > 50 })
				began := time.Now()
				b.stop()
				eventually(t, func() bool { return strings.HasPrefix(a.lastTold(), "down") })
				close(over)
				defer a.stop()
				return time.Since(began), a.story()
			})
		}
	})
	t.Run("certain in memory and up again", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			a, b := n.start(t, 1), n.start(t, 2)
			meet(a, b)
			time.Sleep(time.Second)
			b.stop()
			time.Sleep(VerdictTime)
			if got := a.lastTold(); got != "down 2 true" {
				t.Error(got)
			}
			time.Sleep(time.Minute)
			b = n.start(t, 2, func(c *Config) { c.Self.Boot = 2 })
			meet(a, b)
			time.Sleep(MostPause)
			if got := a.story(); got != "up 2 boot 1 index 20, down 2 true, up 2 boot 2 index 20" {
				t.Error(got)
			}
			if n := a.logs.count("retrying"); n != 1 {
				t.Errorf("%d lines about a peer that cannot be reached", n)
			}
			a.stop()
			b.stop()
		})
	})
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			a, b := n.start(t, 1), n.start(t, 2)
			a.SetPeer(2, []string{"n2"})
			b.SetPeer(1, nil)
			time.Sleep(10 * time.Second)
			if got := a.story(); got != "up 2 boot 1 index 20" {
				t.Error("beats do not keep a link:", got)
			}
			n.first().mute.Store(true)
			time.Sleep(SilenceTime + BeatTime + time.Second)
			// b has received nothing, closes, and answers when it is dialled.
			if got := a.story(); got != "up 2 boot 1 index 20, down 2 false, up 2 boot 1 index 20" {
				t.Error(got)
			}
			a.stop()
			b.stop()
		})
	})
	t.Run("removed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			a, b := n.start(t, 1), n.start(t, 2)
			meet(a, b)
			time.Sleep(time.Second)
			a.RemovePeer(2)
			a.RemovePeer(2)
			time.Sleep(10 * time.Second)
			if got := a.story(); got != "up 2 boot 1 index 20, down 2 false" {
				t.Error(got)
			}
			if r := b.refusal(); r.Code != CodeUnknown || r.Ours || !r.Proven {
				t.Error(r)
			}
			if n := b.logs.count("retrying"); n != 1 {
				t.Errorf("%d lines about a refusal", n)
			}
			a.SetPeer(2, []string{"n2"}) // it is a peer again
			time.Sleep(2 * time.Second)
			if a.lastTold() != "up 2 boot 1 index 20" || b.lastTold() != "up 1 boot 1 index 10" {
				t.Error(a.story(), b.story())
			}
			a.stop()
			b.stop()
		})
	})
}

// inTime checks that a link goes up, and down for certain. If that takes longer than a verdict may, the
// machine was suspended and any verdict is possible: then it tries again.
func inTime(t *testing.T, try func() (d time.Duration, story string)) {
	t.Helper()
	var d time.Duration
	for range 20 {
		var story string
		if d, story = try(); d <= VerdictTime {
			if story != "up 2 boot 1 index 20, down 2 true" {
				t.Error(story)
			}
			return
		}
	}
	t.Errorf("it took %s", d)
}

// A peer that is dialled again and again is dialled at longer and longer intervals.
func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := n.start(t, 1)
		b := n.start(t, 2)
		a.SetPeer(2, []string{"n2"}) // b does not know a
		time.Sleep(20 * time.Second)
		if k := b.Stats().Refused[CodeUnknown]; k < 20 || k > 50 {
			t.Errorf("%d times in 20 s", k)
		}
		b.SetPeer(1, nil)
		a.SetPeer(2, []string{"nowhere", "n2"})
		synctest.Wait()
		time.Sleep(time.Millisecond)
		if a.lastTold() == "" {
			t.Error("a new address is not dialled at once")
		}
		a.stop()
		b.stop()
	})
}

// The newest link of a node replaces the one before.
func TestReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		b := n.start(t, 2)
		b.SetPeer(1, nil)
		one := n.start(t, 1)
		one.SetPeer(2, []string{"n2"})
		time.Sleep(time.Second)
		two := n.start(t, 1, func(c *Config) { c.Self.Boot = 2 })
		two.SetPeer(2, []string{"n2"})
		time.Sleep(10 * time.Second)
		if b.Stats().Replaced != 1 || !strings.HasPrefix(one.lastTold(), "down") || !strings.HasPrefix(two.lastTold(), "up") {
			t.Errorf("%+v, %v, %v", b.Stats(), one.story(), two.story())
		}
		if r := one.refusal(); r.Code != CodeBoot || !r.Proven {
			t.Error(r)
		}
		one.stop()
		two.stop()
		b.stop()
	})
}

func TestQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		slow := make(chan struct{})
		a, b := n.start(t, 1), n.start(t, 2)
		b.slow = slow
		meet(a, b)
		time.Sleep(time.Second)
		// The reader is stopped; the pipe holds what it has taken.
		a.Links.Forward(2, 1, []byte("first"))
		time.Sleep(time.Second)
		big := make([]byte, 1<<20)
		for range 3 {
			a.Links.Forward(2, 1, big)
			synctest.Wait()
		}
		for i := range 2 * MaxQueuedMessages {
			a.Links.Raft([]*raftpb.Message{heartbeat(1, 2, uint64(i))})
		}
		if d := a.Stats().Dropped; d < MaxQueuedMessages || d > MaxQueuedMessages+2 {
			t.Errorf("%d messages dropped", d)
		}
		if s := a.Stats().Peers[0]; !s.Up || s.Waiting > MaxQueuedMessages+3 {
			t.Errorf("%+v", s)
		}
		for range 20 {
			a.Links.Forward(2, 1, big)
		}
		synctest.Wait()
		if s := a.Stats(); s.Unforwarded == 0 || s.Peers[0].Links != 2 || s.Peers[0].Waiting > 0 {
			t.Errorf("%+v", s)
		}
		close(slow)
		time.Sleep(10 * time.Second)
		if got := a.story(); !strings.HasPrefix(got, "up 2 boot 1 index 20, down 2 false, up 2 boot 1 index 20") {
			t.Error(got)
		}
		a.stop()
		b.stop()
	})
}

// A message too large for a frame is left out and counted, and does not affect other messages.
func TestOversized(t *testing.T) {
	t.Parallel()
	a, b := pair(t, func(c *Config) { c.MaxFrame = 64 << 10 })
	app := func(index uint64, n int) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: u(1), To: u(2), Index: &index, Entries: []*raftpb.Entry{ent(raftpb.EntryNormal, index+1, 1, strings.Repeat("x", n))}}
	}
	a.Links.Raft([]*raftpb.Message{app(1, 40<<10), app(2, 40<<10), app(3, 64<<10), app(4, 10), app(5, 60<<10)})
	eventually(t, func() bool { n, _ := b.count(); return n == 4 })
	var got []uint64
	for _, m := range b.msgs {
		got = append(got, m.GetIndex())
	}
	if !slices.Equal(got, []uint64{1, 2, 4, 5}) || a.Stats().Oversized != 1 {
		t.Error(got, a.Stats())
	}
	many := app(9, 1)
	for i := range MaxEntries {
		many.Entries = append(many.Entries, ent(raftpb.EntryNormal, uint64(11+i), 1, ""))
	}
	a.Links.Raft([]*raftpb.Message{many, heartbeat(1, 2, 1)})
	eventually(t, func() bool { n, _ := b.count(); return n == 5 && a.Stats().Oversized == 2 })
}

// An address that swallows everything does not prevent the dialling of another.
func TestAddresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := n.start(t, 1), n.start(t, 2)
		b.SetPeer(1, nil)
		hole := n.listen("hole") // accepts nothing
		mute := n.listen("mute") // says nothing
		go func() {
			for {
				nc, err := mute.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, nc) }()
			}
		}()
		a.SetPeer(2, []string{"nowhere", "hole", "mute", "n2"})
		time.Sleep(HandshakeTime)
		if got := a.story(); got != "up 2 boot 1 index 20" {
			t.Error(got, a.logs.b.String())
		}
		_, _ = hole.Close(), mute.Close()
		a.stop()
		b.stop()
	})
}

func TestSecret(t *testing.T) {
	c := Config{Secret: Secret(secret)}
	j, err := json.Marshal(c.Secret)
	if s := fmt.Sprintf("%v %+v %#v %s %x %q", c, &c, c, c.Secret, c.Secret, c.Secret) + string(j); err != nil || strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", secret)) {
		t.Error(s, err)
	}
}

// Without a listener a node can still dial; if the listener breaks, Run ends with an error.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		b := n.start(t, 2)
		b.SetPeer(1, nil)
		l := n.listen("n1")
		h := &recorder{}
		cfg := Config{Self: Identity{Cluster: testCluster, Node: 1, Boot: 1}, ClusterName: "test", Secret: Secret(secret), Handler: h,
			Position: func() (uint64, uint64) { return 0, 0 }, Dial: n.dialer("n1")}
		deaf, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		deaf.SetPeer(2, []string{"n2"})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- deaf.Run(ctx) }()
		time.Sleep(time.Second)
		cancel()
		if err := <-ended; err != nil || h.story() != "up 2 boot 1 index 20, down 2 false" {
			t.Error(err, h.story())
		}
		cfg.Listen = l
		broken, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		broken.SetPeer(2, []string{"n2"})
		go func() { ended <- broken.Run(t.Context()) }()
		time.Sleep(time.Second)
		_ = l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if s := broken.Stats(); s.Peers[0].Up || s.Peers[0].Links != 1 {
			t.Errorf("%+v", s)
		}
		if err := broken.SendSnapshot(t.Context(), 2, SnapshotHeader{}, nil); !errors.Is(err, context.Canceled) {
			t.Error("after the end:", err)
		}
		b.stop()
	})
}
