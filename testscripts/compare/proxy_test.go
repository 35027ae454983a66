package compare_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"coord/testscripts/compare"
)

// faults are changes that a proxy makes to the frames that a server sends on a
// connection, except the first one. A nil send drops the frame; hold is sent after
// the next frame.
var faults = map[string]func(f []byte) (send, hold []byte){
	"another code":          reply(func(f []byte) { be.PutUint32(f[12:], 0xffffff9a) }, func(f []byte) bool { return code(f) == -101 }),
	"ok in place of a code": reply(func(f []byte) { be.PutUint32(f[12:], 0) }, func(f []byte) bool { return code(f) == -121 }),
	"a version":             reply(func(f []byte) { f[16+35]++ }, isStat),
	"an owner":              reply(func(f []byte) { f[16+51]++ }, isStat),
	"a zxid":                reply(func(f []byte) { f[16+7]++ }, isStat),
	"a time":                reply(func(f []byte) { f[16+31]++ }, isStat),
	"a zxid of a header":    reply(func(f []byte) { clear(f[4:12]) }, isStat),
	"a xid":                 reply(func(f []byte) { f[3] ^= 64 }, isStat),
	"empty for null":        reply(func(f []byte) { clear(f[16:20]) }, func(f []byte) bool { return len(f) == 88 && int32(be.Uint32(f[16:])) == -1 && code(f) == 0 }),
	"a byte too many":       func(f []byte) ([]byte, []byte) { return longer(f, isStat(f)), nil },
	"an event of its own":   reply(func(f []byte) { f[19] ^= 1 }, isEvent),
	"an event lost":         func(f []byte) ([]byte, []byte) { return unless(isEvent(f), f), nil },
	"an event late": func(f []byte) ([]byte, []byte) {
		if isEvent(f) {
			return nil, f
		}
		return f, nil
	},
}

var be = binary.BigEndian

func code(f []byte) int32   { return int32(be.Uint32(f[12:])) }
func isEvent(f []byte) bool { return len(f) >= 16 && int32(be.Uint32(f)) == -1 }
func isStat(f []byte) bool  { return len(f) == 16+68 && !isEvent(f) && code(f) == 0 }

func reply(change func([]byte), which func([]byte) bool) func([]byte) ([]byte, []byte) {
	return func(f []byte) ([]byte, []byte) {
		if len(f) >= 16 && which(f) {
			change(f)
		}
		return f, nil
	}
}

func unless(drop bool, f []byte) []byte {
	if drop {
		return nil
	}
	return f
}

func longer(f []byte, more bool) []byte {
	if more {
		return append(f, 0)
	}
	return f
}

// startProxy runs a proxy to a server that applies fault to the server's frames.
func startProxy(t *testing.T, to string, fault func([]byte) ([]byte, []byte)) (addr string) {
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
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() { // forward the client's requests unchanged
				_, _ = io.Copy(s, c)
				_ = s.(*net.TCPConn).CloseWrite()
			}()
			go func() {
				defer c.Close()
				defer s.Close()
				pass(c, s, fault)
			}()
		}
	}()
	return l.Addr().String()
}

func pass(to io.Writer, from io.Reader, fault func([]byte) ([]byte, []byte)) {
	var held [][]byte
	for first := true; ; first = false {
		var size [4]byte
		if _, err := io.ReadFull(from, size[:]); err != nil {
			return
		}
		f := make([]byte, be.Uint32(size[:]))
		if _, err := io.ReadFull(from, f); err != nil {
			return
		}
		if !first {
			var hold []byte
			if f, hold = fault(f); hold != nil {
				held = append(held, hold)
			}
		}
		if f == nil {
			continue
		}
		for _, f := range append([][]byte{f}, held...) {
			if _, err := to.Write(append(be.AppendUint32(nil, uint32(len(f))), f...)); err != nil {
				return
			}
		}
		held = nil
	}
}

// TestDifferencesAreFound: each kind of fault is found, and the sequence that shows
// it is shrunk.
func TestDifferencesAreFound(t *testing.T) {
	t.Parallel()
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, other := startCoord(t), startCoord(t)
			pair := &compare.Pair{Real: good, Other: other}
			controls, err := pair.Controls() // these bypass the proxy
			if err != nil {
				t.Fatal(err)
			}
			defer controls.Close()
			pair.Via = startProxy(t, other, fault)
			for _, seed := range seedsFrom(*first, 200) {
				d, _, err := pair.Play(controls, compare.Generate(seed, *ops))
				if err != nil {
					t.Fatal(err)
				}
				if d == nil {
					continue
				}
				short, again, err := pair.Shrink(controls, d, shrinkTime)
				if err != nil || !again || len(short.Steps) > 12 {
					t.Errorf("not shrunk: %v, %v\n%v", again, err, short)
				}
				return
			}
			t.Error("not found")
		})
	}
}
