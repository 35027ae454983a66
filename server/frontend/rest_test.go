package frontend_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"coord/tree"
	"coord/tree/znode"
)

// TestReadersRest: when a reader gives its stack back, nothing is lost: no session, no request that
// arrives meanwhile, no end of the stream.
func TestReadersRest(t *testing.T) {
	w := newWorld(t, direct)
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL})
	addr := w.tcp()
	stop := make(chan struct{})
	var resting sync.WaitGroup
	resting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.front.Rest()
			}
		}
	})
	defer resting.Wait()
	defer close(stop)
	var clients errgroup.Group
	for i := range 8 {
		clients.Go(func() error {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			in := bufio.NewReader(c)
			next := func(want string) error {
				line, err := in.ReadString('\n')
				if err == nil && !strings.HasPrefix(line, want) {
					err = fmt.Errorf("client %d: %q instead of %q", i, line, want)
				}
				return err
			}
			_, _ = io.WriteString(c, "SESSION NEW ttl=1m live=tcp\n")
			if err := next("OK id="); err != nil {
				return err
			}
			for n := range 300 {
				_, _ = fmt.Fprintf(c, "SET /a %d-%d\nPI", i, n)
				runtime.Gosched() // so that some rest in the middle of a line
				_, _ = io.WriteString(c, "NG\n")
				if err := errors.Join(next("OK "), next("OK")); err != nil {
					return err
				}
			}
			_, _ = io.WriteString(c, "SESSION INFO\n")
			if err := next("OK id="); err != nil {
				return err
			}
			_, _ = io.WriteString(c, "PING\n")
			if err := errors.Join(next("OK"), c.(*net.TCPConn).CloseWrite()); err != nil {
				return err
			}
			if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
				return fmt.Errorf("client %d: at the end %q, %w", i, rest, err)
			}
			return nil
		})
	}
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
}

// TestRestGivesBack: the stacks that a burst has grown are released.
func TestRestGivesBack(t *testing.T) {
	w := newWorld(t, direct)
	w.do(tree.Op{Kind: tree.KindCreate, Path: "/a", ACL: znode.OpenACL})
	addr := w.tcp()
	const conns = 500
	stacks := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	var open []net.Conn
	for range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		_, _ = io.WriteString(c, "SET /a x\nGET /a\nPING\n")
		in := bufio.NewReader(c)
		for range 4 {
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := stacks()
	w.front.Rest()
	var after uint64
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if after = stacks(); after+conns<<10 < before {
			break
		}
	}
	if after+conns<<10 >= before {
		t.Errorf("%d connections have %d bytes of stack, and still %d when they rest", conns, before, after)
	}
	for _, c := range open {
		_ = c.Close()
	}
}
