package peer

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestFloors: a dialer's floor is older than the position that it proves. A dialer that
// acknowledges more during the handshake is let in; one that has less than its floor is not.
func TestFloors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, second uint64 // the dialer's position in its hello and in its proof
		floor, term   uint64
		asked         uint64 // the dialer's position once the acceptor has asked for its floor; 0: unchanged
		acknowledged  uint64 // the floor once the dialer has told its position; 0: unchanged
		in            bool
	}{
		"all that it had":                  {first: 10, second: 10, floor: 10, in: true},
		"more":                             {first: 10, second: 10, floor: 9, in: true},
		"nothing is known":                 {in: true},
		"one entry less":                   {first: 10, second: 10, floor: 11},
		"its log is gone":                  {floor: 1},
		"an old hello, a fresh proof":      {first: 10, second: 30, floor: 20, in: true},
		"a hello of more, a proof of less": {first: 30, second: 10, floor: 20},
		"it takes more before its proof":   {first: 10, second: 10, floor: 20, asked: 20, in: true},
		"it acknowledges more behind it":   {first: 10, second: 10, floor: 10, acknowledged: 30, in: true},
		"it has been in the term":          {first: 10, second: 10, floor: 10, term: 4, in: true},
		"it has not":                       {first: 10, second: 10, floor: 9, term: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				var told, floor, asked, admitted atomic.Uint64
				floor.Store(c.floor)
				a := n.start(t, 1, func(cfg *Config) {
					cfg.Position = func() (uint64, uint64) {
						if told.Add(1) == 1 {
							return c.first, 3
						}
						if c.acknowledged != 0 {
							floor.Store(c.acknowledged)
						}
						return max(c.second, asked.Load()), 4
					}
				})
				b := n.start(t, 2, func(cfg *Config) {
					cfg.Floor = func(node uint64) (uint64, uint64) {
						if node != 1 {
							t.Errorf("asked for node %d", node)
						}
						asked.Store(c.asked)
						return floor.Load(), c.term
					}
					cfg.Admit = func(theirs Hello) *Refusal {
						admitted.Store(theirs.Index)
						if theirs.Term != 4 {
							t.Errorf("it is judged by %+v", theirs)
						}
						return nil
					}
				})
				b.SetPeer(1, nil)
				w, _, err := a.dial(t.Context(), "n2", purposeLink, 2)
				if err == nil {
					w.cut()
				}
				synctest.Wait()
				if got := b.Stats().Refused[CodeBehind]; (err == nil) != c.in || (got == 0) != c.in {
					t.Errorf("%v; %d were refused", err, got)
				}
				if got := admitted.Load(); got != max(c.second, c.asked) {
					t.Errorf("it is judged by index %d", got)
				}
				if r, ok := errors.AsType[*Refusal](err); !c.in && (!ok || r.Ours || r.Code != CodeBehind || !r.Proven) {
					t.Errorf("the dialer hears %v", err)
				}
				a.stop()
				b.stop()
			})
		})
	}
}

// A node that asks to be taken in has no log yet.
func TestARequestNeedsNoLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := n.start(t, 1, func(c *Config) { c.Position = func() (uint64, uint64) { return 0, 0 } })
		b := n.start(t, 2, func(c *Config) {
			c.Floor = func(uint64) (uint64, uint64) {
				t.Error("somebody who requests is asked for its log")
				return 1 << 40, 0
			}
		})
		b.request = func(_ context.Context, _ Hello, body []byte) ([]byte, error) { return body, nil }
		if _, got, err := a.Links.Request(t.Context(), "n2", []byte("hello")); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		a.stop()
		b.stop()
	})
}

// flipper changes a bit of the position in the proof under way.
type flipper struct{ net.Conn }

func (f flipper) Write(b []byte) (int, error) {
	if b[0] == stepProof {
		b = append([]byte(nil), b...)
		b[3+7] ^= 1
	}
	return f.Conn.Write(b)
}

// The proof covers the position.
func TestAPositionIsProven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var d detour
		a, b := n.start(t, 1, d.config), n.start(t, 2)
		d.set(func(nc net.Conn) net.Conn { return flipper{nc} })
		b.SetPeer(1, nil)
		a.SetPeer(2, []string{"n2"})
		time.Sleep(time.Millisecond)
		if r := b.refusal(); r.Code != CodeProof || a.lastTold() != "" {
			t.Errorf("%+v; %s", r, a.story())
		}
		a.stop()
		b.stop()
	})
}
