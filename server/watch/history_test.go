package watch_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"coord/server/watch"
	"coord/tree/znode"
)

// TestHistory compares the kept events with all events.
func TestHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := watch.DefaultConfig()
		cfg.HistoryBytes = rapid.SampledFrom([]int{0, 1, 300, 2000, 1 << 20}).Draw(t, "bytes")
		begin := znode.Zxid(rapid.IntRange(0, 5).Draw(t, "begin"))
		tab := watch.New(cfg, begin)
		var all []znode.Event
		zxid := begin
		since := func(z znode.Zxid) (got []znode.Event, whole bool) {
			whole = tab.Since(z, func(e *znode.Event) bool {
				got = append(got, *e)
				return true
			})
			return got, whole
		}
		for range rapid.IntRange(0, 60).Draw(t, "txns") {
			zxid += znode.Zxid(rapid.IntRange(1, 3).Draw(t, "step"))
			for range rapid.IntRange(1, 4).Draw(t, "events") {
				e := znode.Event{Type: znode.NodeDataChanged, Path: "/p", Zxid: zxid, Data: string(make([]byte, rapid.IntRange(0, 300).Draw(t, "len")))}
				all = append(all, e)
				tab.Trigger(e)
			}
			z := znode.Zxid(rapid.IntRange(0, int(zxid)+1).Draw(t, "since"))
			got, whole := since(z)
			var want []znode.Event
			for _, e := range all {
				if e.Zxid > z {
					want = append(want, e)
				}
			}
			same := slices.EqualFunc(got, want, func(a, b znode.Event) bool { return a.Zxid == b.Zxid && a.Data == b.Data })
			switch {
			case whole && (!same || z < begin):
				t.Fatalf("since %v: %d events of %d", z, len(got), len(want))
			case !whole && (len(got) > 0 || cfg.HistoryBytes == 1<<20 && z >= begin):
				t.Fatalf("since %v: not whole, %d events", z, len(got))
			}
		}
		if got, whole := since(zxid); !whole || len(got) > 0 {
			t.Fatalf("since the last txn: %d events, %v", len(got), whole)
		}
	})
}

// TestAttach: the end of a session reaches the watcher that serves it, once; a watcher that takes
// the session over is notified, and one that has lost it cannot detach it.
func TestAttach(t *testing.T) {
	t.Parallel()
	tab := watch.New(watch.DefaultConfig(), 0)
	a, b := &receiver{}, &receiver{}
	if w := tab.Attach(a, 7); w != nil {
		t.Errorf("before the first: %v", w)
	}
	if w := tab.Attach(b, 7); w != a {
		t.Errorf("before the second: %v", w)
	}
	tab.Detach(a, 7)
	if w := tab.Attached(7); w != b {
		t.Errorf("attached: %v", w)
	}
	end := znode.Event{Type: znode.SessionEnded, Zxid: 5, Session: 7}
	tab.Trigger(end)
	tab.Trigger(end)
	if len(a.events) != 0 || len(b.events) != 1 || b.events[0].Session != 7 {
		t.Errorf("%v, %v", a.events, b.events)
	}
	tab.Attach(a, 8)
	tab.Detach(a, 8)
	if w := tab.Attached(8); w != nil {
		t.Errorf("after detaching: %v", w)
	}
}

type receiver struct{ events []znode.Event }

func (r *receiver) Notify(e znode.Event)         { r.events = append(r.events, e) }
func (r *receiver) Identities() []znode.Identity { return nil }
func (r *receiver) Closed() bool                 { return false }
