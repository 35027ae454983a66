package testscripts

import (
	"encoding/binary"
	"flag"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var clientsLies = flag.Bool("clients.lies", false, "run TestClientsNotice: minutes")

// lies are changes of a reply. tell changes the reply if it is of a suitable kind,
// and says whether it did. The frame begins with its xid (4 bytes), zxid (8) and
// error (4).
var lies = []struct {
	name  string
	tell  func(op int32, frame []byte) bool
	spare string // clients that do not request what is changed, or do not show it
}{
	{name: "a value", tell: func(op int32, f []byte) bool {
		n := 0
		if op == 4 && ok(f) {
			n = int(int32(binary.BigEndian.Uint32(f[16:])))
		}
		if n < 1 {
			return false
		}
		f[20+n-1] ^= 1
		return true
	}},
	{name: "the version behind set", tell: func(op int32, f []byte) bool { return op == 5 && ok(f) && add(f, 16+32, 1) }},
	{name: "the path of a create", tell: func(op int32, f []byte) bool {
		if !slices.Contains([]int32{1, 15, 19, 21}, op) || !ok(f) {
			return false
		}
		n := int(binary.BigEndian.Uint32(f[16:]))
		f[20+n-1] ^= 1
		return true
	}},
	{name: "a child's name", tell: func(op int32, f []byte) bool {
		if op != 8 && op != 12 || !ok(f) || binary.BigEndian.Uint32(f[16:]) == 0 {
			return false
		}
		n := int(binary.BigEndian.Uint32(f[20:]))
		f[24+n-1] ^= 1
		return true
	}},
	{name: "no version is bad", tell: func(_ int32, f []byte) bool {
		if int32(binary.BigEndian.Uint32(f[12:])) != -103 {
			return false
		}
		return add(f, 12, 2)
	}, spare: "cli_mt"},
	{name: "a znode is not empty: another error", tell: func(_ int32, f []byte) bool {
		return int32(binary.BigEndian.Uint32(f[12:])) == -111 && add(f, 12, 1)
	}},
	{name: "the kind of an event", tell: func(op int32, f []byte) bool {
		return op == 0 && binary.BigEndian.Uint32(f[16:]) == 3 && add(f, 16, -1)
	}},
	{name: "the path of an event", tell: func(op int32, f []byte) bool {
		if op != 0 {
			return false
		}
		f[len(f)-1] ^= 1
		return true
	}},
	{name: "whose an ephemeral is", tell: func(op int32, f []byte) bool {
		// stat: czxid mzxid ctime mtime version cversion aversion, owner
		at := map[int32]int{3: 16 + 44, 4: len(f) - 68 + 44, 15: len(f) - 68 + 44}[op]
		return at > 0 && ok(f) && binary.BigEndian.Uint64(f[at:]) != 0 && add(f, at+4, 1)
	}, spare: "zkCli"},
	{name: "an ACL's permissions", tell: func(op int32, f []byte) bool { return op == 6 && ok(f) && add(f, 20, -1) }, spare: "cli_mt"},
	{name: "what a transaction made", tell: func(op int32, f []byte) bool {
		if op != 14 || !ok(f) || len(f) < 16+9+4+9 {
			return false
		}
		if int32(binary.BigEndian.Uint32(f[16:])) == -1 { // an error of the first part
			return int32(binary.BigEndian.Uint32(f[21:])) <= 0 && add(f, 21, -1) && add(f, 25, -1)
		}
		for i := 16; i+9 < len(f)-9; i++ { // the version in the stat of a set, after the header of its result
			if binary.BigEndian.Uint32(f[i:]) == 5 && f[i+4] == 0 && binary.BigEndian.Uint32(f[i+5:]) == 0 {
				return add(f, i+9+32, 1)
			}
		}
		return false
	}, spare: "cli_mt zkCli"},
	{name: "the session's id", tell: func(op int32, f []byte) bool {
		return op == connecting && len(f) >= 16 && add(f, 12, 1) // version, timeout, id
	}, spare: "zkCli"},
}

// connecting stands for the op of a connect request.
const connecting = -100

func ok(frame []byte) bool { return len(frame) > 16 && binary.BigEndian.Uint32(frame[12:]) == 0 }

func add(frame []byte, at int, n int32) bool {
	binary.BigEndian.PutUint32(frame[at:], uint32(int32(binary.BigEndian.Uint32(frame[at:]))+n))
	return true
}

// TestClientsNotice: the programs of TestClients must fail if a proxy between them
// and coord changes replies.
func TestClientsNotice(t *testing.T) {
	if !*clientsLies {
		t.Skip("SKIPPED: takes minutes, runs with -clients.lies")
	}
	t.Parallel()
	for _, c := range clientPrograms {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			need(t, c.needs...)
			args := c.command(t)
			notice(t, c.name, func(t *testing.T, s *target) bool {
				lines, err := tryClient(t, c, args, s)
				if err != nil && len(lines) > 0 {
					t.Log(lines[len(lines)-1])
				}
				return err != nil
			})
		})
	}
	for _, c := range transcripts {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			need(t, c.command[0])
			want := c.read(t)
			notice(t, c.name, func(t *testing.T, s *target) bool {
				got, err := c.record(t, want, s)
				return err != nil || got != want
			})
		})
	}
}

func notice(t *testing.T, client string, fails func(*testing.T, *target) bool) {
	for _, lie := range lies {
		if slices.Contains(strings.Fields(lie.spare), client) {
			continue
		}
		t.Run(lie.name, func(t *testing.T) {
			s := coordTarget(t)
			s.impatient = true
			var told atomic.Int64
			s.addr = liar(t, s.addr, func(op int32, frame []byte) {
				if lie.tell(op, frame) {
					told.Add(1)
				}
			})
			noticed := fails(t, s)
			if told.Load() == 0 {
				t.Fatal("there was nothing to lie about")
			}
			if !noticed {
				t.Errorf("%d lies, and it passes", told.Load())
			}
		})
	}
}

// liar forwards connections to addr, and passes the replies through tell.
func liar(t testing.TB, addr string, tell func(op int32, frame []byte)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", addr)
				if err != nil {
					return
				}
				defer s.Close()
				lie(c, s, tell)
			}()
		}
	}()
	return l.Addr().String()
}

func lie(client, server net.Conn, tell func(op int32, frame []byte)) {
	var mu sync.Mutex
	ops := map[int32]int32{-2: 11} // by xid
	word := make(chan bool, 1)
	go func() {
		defer server.Close()
		for first := true; ; first = false {
			frame, raw, err := readFrame(client)
			if first {
				word <- raw
			}
			if err != nil {
				return
			}
			if !first && !raw && len(frame) >= 12 {
				mu.Lock()
				ops[int32(binary.BigEndian.Uint32(frame[4:]))] = int32(binary.BigEndian.Uint32(frame[8:]))
				mu.Unlock()
			}
			if _, err := server.Write(frame); err != nil {
				return
			}
		}
	}()
	defer client.Close()
	if <-word {
		_, _ = io.Copy(client, server)
		return
	}
	for first := true; ; first = false {
		frame, _, err := readFrame(server)
		if err != nil {
			return
		}
		if first {
			tell(connecting, frame[4:])
		} else if len(frame) >= 20 {
			xid := int32(binary.BigEndian.Uint32(frame[4:]))
			mu.Lock()
			op := ops[xid]
			mu.Unlock()
			if xid == -1 {
				op = 0
			}
			tell(op, frame[4:])
		}
		if _, err := client.Write(frame); err != nil {
			return
		}
	}
}

// readFrame reads a frame, including its length, or a four-letter word.
func readFrame(c net.Conn) (frame []byte, word bool, err error) {
	frame = make([]byte, 4)
	if _, err := io.ReadFull(c, frame); err != nil {
		return nil, false, err
	}
	n := binary.BigEndian.Uint32(frame)
	if n > 16<<20 {
		return frame, true, nil
	}
	frame = append(frame, make([]byte, n)...)
	_, err = io.ReadFull(c, frame[4:])
	return frame, false, err
}
