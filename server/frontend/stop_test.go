package frontend_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/tree"
	"coord/tree/znode"
)

func emptySnapshot(context.Context, io.Writer) error { return nil }

// TestStopAnswersWhatIsUnderWay: when the server stops, it answers the requests it has taken and
// takes no more, and clients without requests in flight leave at once.
func TestStopAnswersWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.pipes()
		idle, busy := p.open(home), p.open(home)
		idle.say("PING\n")
		w.hold()
		busy.say("SET / 1\nGET /\nSET / 2\n")
		synctest.Wait()
		start := time.Now()
		w.stop()
		synctest.Wait()
		if !idle.ended() || busy.ended() {
			t.Errorf("idle %v, busy %v", idle.ended(), busy.ended())
		}
		go busy.say("SET / 3\n")
		time.Sleep(frontend.StopTime / 2)
		w.release()
		w.served.Wait()
		if d := time.Since(start); d != frontend.StopTime/2 {
			t.Errorf("stopped after %s", d)
		}
		<-busy.done
		same(t, busy.got.String(), "OK v=1 zxid=0x100000001\nDATA 1 v=1 zxid=0x100000001\n1\nOK v=2 zxid=0x100000002\n")
		if c := p.open(home); true {
			<-c.done
		}
	})
}

// TestStopDoesNotWaitForEver: the stop does not wait for a dead backend, for a client that does not
// read, or for a stream.
func TestStopDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node.snapshot = func(ctx context.Context, out io.Writer) error {
			for ctx.Err() == nil {
				if _, err := out.Write(make([]byte, 1000)); err != nil {
					return err
				}
			}
			return ctx.Err()
		}
		w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL})
		p := w.pipes()
		stuck := p.open(home)
		deaf, streaming := p.dial(home), p.dial(home)
		full := p.open(home)
		w.hold()
		stuck.say("SET /a 1\nGET /a\nINFO\n")
		go full.say(strings.Repeat("SET /a 1\n", 3000))
		go func() { _, _ = io.WriteString(deaf, strings.Repeat("GET /a\n", 100)) }()
		go func() { _, _ = io.WriteString(streaming, "SNAPSHOT\n") }()
		barrier := p.open(home)
		go barrier.say("GET /a lin\nSET /a 2\n")
		synctest.Wait()
		w.die()
		start := time.Now()
		w.stop()
		w.served.Wait()
		if d := time.Since(start); d != frontend.StopTime {
			t.Errorf("stopped after %s", d)
		}
		<-stuck.done
		<-full.done
		<-barrier.done
		if got := stuck.got.String() + full.got.String() + barrier.got.String(); got != "" {
			t.Errorf("got %q", got)
		}
	})
}

// TestDonesOutliveTheirConnections: outcomes that arrive after the end of their connection are
// dropped.
func TestDonesOutliveTheirConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.pipes()
		c := p.open(home)
		w.hold()
		c.say("CREATE /a x\nGET /a\nSET /a y\nSYNC /\n")
		synctest.Wait()
		_ = c.Close()
		w.stop()
		w.served.Wait()
		w.release()
		synctest.Wait()
		w.View(func(tr *tree.Tree, _ *watchTable) {
			if z, _ := tr.Get("/a", nil, 0); z.Data != "y" {
				t.Errorf("the writes are not done: %+v", z)
			}
		})
	})
}

// TestSeveralListeners: the server stops as a whole.
func TestSeveralListeners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.serve(l)
	c, d := dial(t, l.Addr().String()), dial(t, w.tcp())
	if c.ask("CREATE /a x\n"); string(d.ask("GET /a\n").Data) != "x" {
		t.Error("two listeners, two trees")
	}
	w.stop()
	if !c.isCut() || !d.isCut() {
		t.Error("not closed")
	}
	w.served.Wait()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) { // another process may have the port by now
		t.Errorf("still listening: %v", err)
	}
}
