package frontend_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coord/server/frontend"
	"coord/tree/znode"
)

// echoAdmin returns the words of the request.
func echoAdmin(_ context.Context, words []string) ([]frontend.AdminItem, error) {
	return []frontend.AdminItem{{Name: "8c1f", Facts: []frontend.Fact{
		{Key: "name", Value: "7"}, {Key: "role", Value: strings.Join(words, " ")}, {Key: "up", Value: "1"}, {Key: "lag", Value: ""}, {Key: "fsync_p99_ms", Value: "1.5"},
	}}}, nil
}

// TestAdmin checks who may use ADMIN, and how the node's answer is encoded.
func TestAdmin(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.node.admin = echoAdmin
		x.act(`
			a> @1 ADMIN MEMBERS
			a< @1 ERR NOAUTH - *
			A> @2 admin remove n2 force
			A< @2 LIST 1
			A< ITEM 8c1f name=7 role="REMOVE n2 FORCE" up=1 lag="" fsync_p99_ms=1.5
			A> FORMAT json
			A< *
			A> ADMIN LEAVE
			A< {"t":"LIST","items":[{"t":"ITEM","arg":"8c1f","name":"7","role":"LEAVE","up":1,"lag":"","fsync_p99_ms":"1.5"}]}
		`)
		x.node.admin = func(context.Context, []string) ([]frontend.AdminItem, error) { return nil, nil }
		x.act(`
			B> ADMIN PROMOTE n2
			B< LIST 0
		`)
		for _, tt := range []struct {
			err  error
			want string
		}{
			{&frontend.AdminError{Code: znode.ErrNewConfigNoQuorum, Text: "two of three would be down"}, "ERR UNSAFE - two of three would be down"},
			{&frontend.AdminError{Code: znode.ErrUncertain, Text: "the leader has gone"}, "ERR UNCERTAIN - the leader has gone"}, // the connection stays open
			{znode.ErrNoLeader, "ERR NOLEADER - no leader"},
			{errors.New("what is this?"), "ERR INTERNAL - what is this?"},
		} {
			x.node.admin = func(context.Context, []string) ([]frontend.AdminItem, error) { return nil, tt.err }
			x.act("B> ADMIN TRANSFER\nB< " + tt.want)
		}
	})
}

// TestAdminInOrder: requests before an ADMIN are answered before it begins, and requests after it
// wait.
func TestAdminInOrder(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		begun, end := make(chan string, 9), make(chan bool)
		x.node.admin = func(_ context.Context, words []string) ([]frontend.AdminItem, error) {
			begun <- words[0]
			<-end
			return nil, nil
		}
		x.hold()
		x.act(`A> SET /a create 1\nADMIN LEAVE\nSET /a 2\nGET /a\nPING\nADMIN MEMBERS\nPING`)
		if len(begun) > 0 {
			t.Fatal("it has begun before the SET was answered")
		}
		x.release()
		x.act("A< OK v=0 *")
		if <-begun != "LEAVE" || x.waiting() > 0 {
			t.Fatal("it has not begun, or a write behind it has")
		}
		x.act(`
			+/a 7
			sleep 5s
		`)
		end <- true
		x.act(`
			A< LIST 0
			A< OK v=2 *
			A< DATA 1 v=2 *
			A< 2
			A< OK pong
		`)
		close(end)
		x.act(`
			A< LIST 0
			A< OK pong
		`)
	})
}

// TestAdminKeepsSession: lines after an ADMIN are signs of life while it runs.
func TestAdminKeepsSession(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		x.node.admin = func(context.Context, []string) ([]frontend.AdminItem, error) {
			time.Sleep(10 * time.Second)
			return nil, nil
		}
		x.act(`
			A> SESSION NEW ttl=3s live=ping
			A< OK id=*
			A> ADMIN MEMBERS
			sleep 2s
			A> PING
			sleep 2s
			A> PING
			sleep 2s
			A> PING
			sleep 2s
			A> PING
			sleep 2s
			A< LIST 0
			A< OK pong
			A< OK pong
			A< OK pong
			A< OK pong
			A> SESSION INFO
			A< OK id=*
		`)
	})
}

// TestAdminLimits checks how many ADMINs may run at once, and how long one may take.
func TestAdminLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.node.admin = func(ctx context.Context, _ []string) ([]frontend.AdminItem, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		p := w.pipes()
		var all []*caller
		for i := range frontend.MaxAdmins {
			c := p.open(home)
			c.say([]string{"ADMIN MEMBERS\n", "ADMIN LEAVE\n"}[i%2])
			all = append(all, c)
		}
		synctest.Wait()
		last := p.open(home)
		last.say("ADMIN MEMBERS\n")
		synctest.Wait()
		same(t, plain(last.got.String()), "ERR LIMIT\n")
		time.Sleep(frontend.AdminTime - time.Nanosecond)
		synctest.Wait()
		same(t, all[0].got.String(), "")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		for i, c := range all {
			same(t, plain(c.got.String()), []string{"ERR TIMEOUT\n", "ERR UNCERTAIN\n"}[i%2]) // whether LEAVE has succeeded is unknown
		}
		last.say("ADMIN MEMBERS\n")
		all[0].say("ADMIN LEAVE\n")
		synctest.Wait()
		same(t, plain(last.got.String()), "ERR LIMIT\n") // its second ADMIN waits
		w.stop()
		w.served.Wait()
		<-last.done
		<-all[0].done
		same(t, plain(last.got.String()), "ERR LIMIT\nERR SHUTDOWN\n")
		same(t, plain(all[0].got.String()), "ERR TIMEOUT\nERR UNCERTAIN\n")
	})
}

// TestAdminOfWhoHasLeft: if the client leaves, the node completes the request, and the answer goes
// to nobody.
func TestAdminOfWhoHasLeft(t *testing.T) {
	t.Parallel()
	stage(t, func(x *theatre) {
		done := make(chan bool, 1)
		x.node.admin = func(context.Context, []string) ([]frontend.AdminItem, error) {
			time.Sleep(time.Second)
			done <- true
			return nil, nil
		}
		x.act(`
			A> ADMIN LEAVE
			A!
			sleep 2s
		`)
		<-done
	})
}
