package peer

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Data of a peer that breaks the protocol ends its link, is counted, and is logged once a minute.
func TestHostilePeer(t *testing.T) {
	t.Parallel()
	frame := func(typ frameType, b ...byte) func(w *wire) {
		return func(w *wire) { _ = w.send(typ, b) }
	}
	damage := func(f func(b []byte)) func(w *wire) {
		return func(w *wire) {
			_ = w.write(func(b []byte, seal func([]byte)) []byte {
				b = append(beginFrame(b, frameForward), "1hello"...)
				seal(b)
				f(b)
				return b
			})
		}
	}
	for name, send := range map[string]func(w *wire){
		"a flipped bit":          damage(func(b []byte) { b[12] ^= 1 }),
		"a wrong checksum":       damage(func(b []byte) { b[5] ^= 1 }),
		"a claimed GiB":          damage(func(b []byte) { b[0] = 0x40 }),
		"an unknown type":        frame(77),
		"a type of none":         frame(0),
		"a chunk on a link":      frame(frameChunk, make([]byte, 20)...),
		"a beat with bytes":      frame(frameBeat, 1),
		"an empty RAFT":          frame(frameRaft),
		"an empty FORWARD":       frame(frameForward),
		"a local message":        frame(frameRaft, 3, byte(raftpb.MsgHup), 0, 0),
		"half a message":         frame(frameRaft, 9, byte(raftpb.MsgHeartbeat), 0, 0),
		"messages, the last bad": frame(frameRaft, 3, byte(raftpb.MsgHeartbeat), 0, 0, 3, byte(raftpb.MsgProp), 0, 0),
		"a lost frame":           func(w *wire) { w.out.seq++; _ = w.send(frameForward, []byte("1x")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				a, b := n.start(t, 1), n.start(t, 2)
				b.SetPeer(1, nil)
				for range 3 {
					w, _, err := a.dial(t.Context(), "n2", purposeLink, 2)
					if err != nil {
						t.Fatal(err)
					}
					go send(w) // the other side stops reading
					if _, _, err := w.in.read(); err == nil {
						t.Error("the link lives")
					}
					w.cut()
				}
				synctest.Wait()
				if s := b.Stats(); s.Damaged != 3 || s.Messages != 0 || s.Forwards != 0 {
					t.Errorf("%+v", s)
				}
				a.stop()
				b.stop()
				if len(b.msgs)+len(b.forwards) > 0 || b.logs.count("peer connection closed") != 1 {
					t.Error(b.msgs, b.forwards, b.logs.b.String())
				}
			})
		})
	}
}

// A link, written by hand from docs/sync-protocol.md.
func TestByHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		b := n.start(t, 2)
		b.SetPeer(1, nil)
		nc := n.raw(t)
		read := func(n int) []byte {
			p := make([]byte, n)
			if _, err := io.ReadFull(nc, p); err != nil {
				t.Fatal(err)
			}
			return p
		}
		write := func(p []byte) {
			if _, err := nc.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		nonce := strings.Repeat("n", 32)
		id := string(testCluster[:])
		u64 := func(n byte) string { return "\x00\x00\x00\x00\x00\x00\x00" + string([]byte{n}) }
		body := "\x01\x01" + "\x00\x01\x00\x01" + id + u64(1) + u64(2) + u64(5) + u64(100) + u64(4) + nonce + "\x04test" + "\x02me"
		hello := "\x89COORDP\n" + "\x01" + "\x00" + string([]byte{byte(len(body))}) + body
		write([]byte(hello))
		head := read(8 + 3)
		theirs := append(head, read(int(binary.BigEndian.Uint16(head[9:])))...)
		if string(theirs[:9]) != "\x89COORDP\n\x01" || string(theirs[11+22:11+38]) != u64(2)+u64(1) {
			t.Fatalf("%q", theirs)
		}
		t1 := sha256.Sum256(append([]byte(hello), theirs...))
		mac := func(parts ...string) string {
			m := hmac.New(sha256.New, []byte(secret))
			for _, p := range parts {
				m.Write([]byte(p))
			}
			return string(m.Sum(nil))
		}
		position := u64(101) + u64(4)
		proof := position + mac("coord peer 1 dialer", string(t1[:]), position)
		write([]byte("\x02\x00\x30" + proof))
		verdict := read(3 + 2 + 32)
		if want := "\x03\x00\x22\x00\x00" + mac("coord peer 1 acceptor", string(t1[:]), proof, "\x00\x00", ""); string(verdict) != want {
			t.Fatalf("%q, want %q", verdict, want)
		}
		seq := binary.BigEndian.Uint64(verdict[5:])
		frame := func(typ byte, payload string) []byte {
			f := append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), typ)
			crc := func(b string) uint32 { return crc32.Checksum([]byte(b), crc32.MakeTable(crc32.Castagnoli)) }
			covered := string(binary.BigEndian.AppendUint64(nil, seq)) + string(f)
			seq++
			f = binary.BigEndian.AppendUint16(f, uint16(crc(covered)))
			return append(binary.BigEndian.AppendUint32(f, crc(covered+payload)), payload...)
		}
		write(frame(1, ""))
		write(frame(2, "\x04\x09\x00\x02\x07"+"\x04\x08\x00\x10\x03"))
		write(frame(3, "\x09item"))
		// A BEAT arrives, numbered from the other half of the verdict's MAC.
		beat := read(11)
		seq = binary.BigEndian.Uint64(verdict[13:])
		if !bytes.Equal(beat, frame(1, "")) {
			t.Errorf("%x", beat)
		}
		_ = nc.Close()
		b.stop()
		if len(b.msgs) != 2 || b.msgs[0].GetType() != raftpb.MsgHeartbeatResp || b.msgs[0].GetTerm() != 7 || b.msgs[1].GetCommit() != 3 || b.msgs[1].GetFrom() != 1 {
			t.Error(b.msgs)
		}
		if fmt.Sprint(b.forwards) != "[1 9 item]" {
			t.Error(b.forwards)
		}
	})
}

// The documentation page and the code have the same tables.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/sync-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{frameBeat: "BEAT", frameRaft: "RAFT", frameForward: "FORWARD", frameOffer: "OFFER", frameResume: "RESUME",
		frameChunk: "CHUNK", frameEnd: "END", frameDone: "DONE", frameRequest: "REQUEST", frameAnswer: "ANSWER"} {
		if i > 0 && !strings.Contains(string(page), fmt.Sprintf("\n| %d | %s |", i, name)) {
			t.Errorf("frame %d %s is not there", i, name)
		}
	}
	for i := 1; i < len(codeNames); i++ {
		if !strings.Contains(string(page), fmt.Sprintf("\n| %d | the ", i)) && !strings.Contains(string(page), fmt.Sprintf("\n| %d | no ", i)) &&
			!strings.Contains(string(page), fmt.Sprintf("\n| %d | one ", i)) && !strings.Contains(string(page), fmt.Sprintf("\n| %d | too ", i)) {
			t.Errorf("code %d %s is not there", i, Code(i))
		}
	}
	for _, label := range []string{labelDialer, labelAcceptor, labelBinding, "`89 43 4F 4F 52 44 50 0A`"} {
		if !strings.Contains(string(page), label) {
			t.Errorf("%s is not there", label)
		}
	}
}

func TestCrier(t *testing.T) {
	var c crier
	now := time.Now()
	if n, ok := c.may("a", now); n != 1 || !ok {
		t.Error("the first is not told", n)
	}
	for range 5 {
		if _, ok := c.may("a", now.Add(59*time.Second)); ok {
			t.Error("told again within a minute")
		}
	}
	if n, ok := c.may("a", now.Add(time.Minute)); n != 6 || !ok {
		t.Error("after a minute:", n, ok)
	}
	told := 0
	for i := range 10_000 {
		if _, ok := c.may(fmt.Sprint(i), now); ok {
			told++
		}
	}
	if told > maxCries+1 || len(c.hosts) > maxCries+1 {
		t.Errorf("%d addresses told, %d kept", told, len(c.hosts))
	}
	if _, ok := c.may("late", now.Add(2*time.Minute)); !ok || len(c.hosts) > 2 {
		t.Errorf("old ones are kept: %d", len(c.hosts))
	}
}
