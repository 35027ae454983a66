package testscripts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	crashRounds = flag.Int("crash.rounds", 100, "how often TestCrash kills the server")
	seed        = flag.Uint64("seed", 0, "seed of the random choices; 0 draws one")
)

func newRand(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// writer is one connection that writes numbers to keys of its own and remembers
// which were confirmed.
type writer struct {
	id    int
	sent  [writerKeys]int // the last number sent to each key
	acked [writerKeys]int // the last one confirmed
	pairs struct{ sent, acked int }
}

const (
	writers    = 8
	writerKeys = 20
)

// write keeps up to 64 requests in flight until the connection breaks or ctx ends.
// Every tenth request is a transaction that writes the same number to two keys.
func (w *writer) write(ctx context.Context, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	type request struct{ key, n int } // key -1: the pair
	pending := make(chan request, 64)
	go func() {
		defer close(pending)
		out := bufio.NewWriter(c)
		padding := strings.Repeat("x", 200)
		for i := 0; ; i++ {
			r := request{key: i % writerKeys}
			if i%10 == 9 {
				w.pairs.sent++
				r = request{-1, w.pairs.sent}
				fmt.Fprintf(out, "TXN 2\nSET /left%d create %d\nSET /right%d create %d\n", w.id, r.n, w.id, r.n)
			} else {
				w.sent[r.key]++
				r.n = w.sent[r.key]
				fmt.Fprintf(out, "SET /k%d-%d create \"%d %s\"\n", w.id, r.key, r.n, padding)
			}
			select {
			case pending <- r:
			default:
				if out.Flush() != nil {
					return
				}
				pending <- r
			}
		}
	}()
	in := bufio.NewReader(c)
	broken := false
	for r := range pending {
		if broken {
			continue // the sender notices at its next flush
		}
		line, err := in.ReadString('\n')
		if strings.HasPrefix(line, "LIST") {
			for range 2 {
				_, err = in.ReadString('\n')
			}
		}
		if err != nil || strings.HasPrefix(line, "ERR") {
			broken = true
			_ = c.Close()
			continue
		}
		if r.key < 0 {
			w.pairs.acked = r.n
		} else {
			w.acked[r.key] = r.n
		}
	}
}

// value is the number in the reply to a GET, 0 if the key is missing.
func value(t *testing.T, answer string) int {
	t.Helper()
	if strings.HasPrefix(answer, "ERR NOTFOUND") {
		return 0
	}
	_, rest, _ := strings.Cut(answer, "\n")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatalf("not a value that anybody wrote: %q", answer)
	}
	return n
}

// check compares what the server has with what was confirmed.
func (w *writer) check(t *testing.T, p *process) {
	t.Helper()
	for key := range writerKeys {
		got := value(t, p.ask(fmt.Sprintf("GET /k%d-%d", w.id, key)))
		if got < w.acked[key] || got > w.sent[key] {
			t.Fatalf("/k%d-%d holds %d; %d was confirmed, %d sent", w.id, key, got, w.acked[key], w.sent[key])
		}
		w.acked[key] = got // an unconfirmed write that took effect is final: no number is sent twice
	}
	read := func(key string) int { return value(t, p.ask(fmt.Sprintf("GET /%s%d", key, w.id))) }
	left, right := read("left"), read("right")
	for again := read("left"); left != again; again = read("left") { // an abandoned request took effect in between
		left, right = again, read("right")
	}
	if left != right {
		t.Fatalf("half a transaction: /left%d holds %d, /right%d %d", w.id, left, w.id, right)
	}
	if left < w.pairs.acked || left > w.pairs.sent {
		t.Fatalf("/left%d holds %d; %d was confirmed, %d sent", w.id, left, w.pairs.acked, w.pairs.sent)
	}
	w.pairs.acked = left
}

// TestCrash kills the server under load again and again. After each restart every
// confirmed write is there, no transaction is half done, and the state in the files
// is that of the server.
func TestCrash(t *testing.T) {
	t.Parallel()
	rounds := *crashRounds
	if testing.Short() {
		rounds = 5
	}
	random := newRand(t)
	dir := filepath.Join(t.TempDir(), "data")
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{id: i}
	}
	flags := []string{"--snapshot-every", "3000"} // so often that kills interrupt snapshots too
	confirmed := 0
	window := 60 // ms; grows while nothing was confirmed, since the disk may be slow
	for round := range rounds {
		p := launch(t, dir, flags...)
		for _, w := range all {
			w.check(t, p)
		}
		if round%5 == 4 { // the files alone give the same state as the server
			digest, zxid := p.fact("coord_digest"), p.fact("coord_zxid")
			p.kill()
			if d, z := offline(t, dir); d != digest || z != zxid {
				t.Fatalf("round %d: the files give digest %s at %s, the server had %s at %s", round, d, z, digest, zxid)
			}
			continue
		}
		var wg sync.WaitGroup
		for _, w := range all {
			wg.Go(func() { w.write(t.Context(), p.addr) })
		}
		time.Sleep(time.Duration(random.IntN(window)) * time.Millisecond)
		p.signal(syscall.SIGKILL)
		p.wait()
		wg.Wait()
		for _, w := range all {
			confirmed += w.pairs.acked
			for _, n := range w.acked {
				confirmed += n
			}
		}
		if confirmed == 0 {
			window = min(2*window, 10_000)
		}
	}
	if confirmed == 0 {
		t.Fatal("nothing was confirmed in any round: the test tested nothing")
	}
}

// offline takes a snapshot of the folder of a stopped server and returns its digest and zxid.
func offline(t *testing.T, dir string) (digest, zxid string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "offline.coord")
	if _, stderr, code := run(t, "snapshot", "--data-dir", dir, file); code != 0 {
		t.Fatalf("snapshot of the stopped folder: %d: %s", code, stderr)
	}
	out, stderr, code := run(t, "snapshot", "inspect", "--json", file)
	if code != 0 {
		t.Fatalf("inspect: %d: %s", code, stderr)
	}
	var info struct{ Digest, Zxid string }
	if err := json.NewDecoder(bytes.NewReader([]byte(out))).Decode(&info); err != nil {
		t.Fatal(err)
	}
	return info.Digest, info.Zxid
}
