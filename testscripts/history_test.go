package testscripts

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// register is one operation of a client on a key.
type register struct {
	key   int
	write bool
	value string // the value written
}

// told is the outcome. A write with an unknown outcome may take effect at any time
// from then on.
type told struct {
	value   string // the value read
	unknown bool
}

// history is all operations with their outcomes, for porcupine to check.
type history struct {
	mu   sync.Mutex
	ops  []porcupine.Operation
	next int // the last value used; each is unique
}

const historyKeys = 4

var registerModel = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, historyKeys)
		for _, op := range ops {
			k := op.Input.(register).key
			parts[k] = append(parts[k], op)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(register); in.write {
			return true, in.value
		}
		return output.(told).value == state.(string), state
	},
	DescribeOperation: func(input, output any) string {
		in, out := input.(register), output.(told)
		if in.write {
			return fmt.Sprintf("set %d %s (unknown: %v)", in.key, in.value, out.unknown)
		}
		return fmt.Sprintf("get %d: %q", in.key, out.value)
	},
}

// client writes and reads (linearizably) until ctx ends, through one of the
// addresses. It goes to the next one when it loses its connection or is refused.
func (h *history) client(ctx context.Context, id int, addrs []string, random *rand.Rand) {
	for at := id; ctx.Err() == nil; at++ {
		d := net.Dialer{Timeout: 500 * time.Millisecond}
		c, err := d.DialContext(ctx, "tcp", addrs[at%len(addrs)])
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		in := bufio.NewReader(c)
		for h.one(c, in, id, random) {
		}
		stop()
		_ = c.Close()
	}
}

// one does one operation. It says whether the connection is still usable.
func (h *history) one(c net.Conn, in *bufio.Reader, id int, random *rand.Rand) bool {
	ask := register{key: random.IntN(historyKeys), write: random.IntN(2) == 0}
	line := fmt.Sprintf("GET /h%d lin\n", ask.key)
	if ask.write {
		h.mu.Lock()
		h.next++
		ask.value = strconv.Itoa(h.next)
		h.mu.Unlock()
		line = fmt.Sprintf("SET /h%d create %s\n", ask.key, ask.value)
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	began := time.Now()
	_, err := c.Write([]byte(line))
	var answer string
	if err == nil {
		answer, err = in.ReadString('\n')
	}
	got := told{unknown: true}
	switch {
	case err != nil:
	case strings.HasPrefix(answer, "OK"):
		got.unknown = false
	case strings.HasPrefix(answer, "DATA"):
		if got.value, err = in.ReadString('\n'); err == nil {
			got = told{value: strings.TrimSpace(got.value)}
		}
	case strings.HasPrefix(answer, "ERR NOTFOUND"):
		got.unknown = false
	case strings.HasPrefix(answer, "ERR UNCERTAIN"), ask.write && !strings.HasPrefix(answer, "ERR NOLEADER"):
	default:
		return false // the operation did not happen
	}
	if !ask.write && got.unknown {
		return false
	}
	op := porcupine.Operation{ClientId: id, Input: ask, Call: began.UnixNano(), Output: got, Return: time.Now().UnixNano()}
	if got.unknown {
		op.Return = 1 << 62 // it may take effect at any time
	}
	h.mu.Lock()
	h.ops = append(h.ops, op)
	h.mu.Unlock()
	return !got.unknown
}

// check checks the whole history.
func (h *history) check(t *testing.T) {
	t.Helper()
	unknown := 0
	for _, op := range h.ops {
		if op.Output.(told).unknown {
			unknown++
		}
	}
	t.Logf("%d operations, %d with an outcome that is not known", len(h.ops), unknown)
	if len(h.ops) < 100 {
		t.Fatal("too few operations to judge anything")
	}
	if got := porcupine.CheckOperationsTimeout(registerModel, h.ops, 3*time.Minute); got != porcupine.Ok {
		t.Fatalf("the history is not linearizable: %s", got)
	}
}

// TestHistoryNotices: porcupine rejects a read of an overwritten value.
func TestHistoryNotices(t *testing.T) {
	t.Parallel()
	op := func(client int, in register, out told, call, ret int64) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: ret}
	}
	stale := []porcupine.Operation{
		op(0, register{write: true, value: "1"}, told{}, 1, 2), op(0, register{write: true, value: "2"}, told{}, 3, 4),
		op(1, register{}, told{value: "1"}, 5, 6),
	}
	if porcupine.CheckOperations(registerModel, stale) {
		t.Fatal("a stale read was not noticed")
	}
	if !porcupine.CheckOperations(registerModel, stale[:2]) {
		t.Fatal("two writes were taken for a fault")
	}
}
