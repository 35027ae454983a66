package peer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
)

const firstSeq = 77

// frames returns some sealed frames of a link.
func frames(payloads ...string) [][]byte {
	var fs [][]byte
	for i, p := range payloads {
		f := append(beginFrame(nil, frameForward), p...)
		sealFrame(f, firstSeq+uint64(i))
		fs = append(fs, f)
	}
	return fs
}

func readAll(b []byte) (payloads []string, err error) {
	r := frameReader{br: bufio.NewReader(bytes.NewReader(b)), seq: firstSeq, limits: limitsOf(purposeLink, false, 4<<20)}
	for {
		_, p, err := r.read()
		if err != nil {
			return payloads, err
		}
		payloads = append(payloads, string(p))
	}
}

func TestFrameGolden(t *testing.T) {
	f := append(beginFrame(nil, frameForward), "\x05hello"...)
	sealFrame(f, 0x0102030405060708)
	if want := unhex(t, "00000006 03 48dc a00ffb51 05 68656c6c6f"); !bytes.Equal(f, want) {
		t.Errorf("%x, want %x", f, want)
	}
}

func TestFrameDamage(t *testing.T) {
	good := frames("1one", "2two", "3three")
	if got, err := readAll(slices.Concat(good...)); !errors.Is(err, io.EOF) || len(got) != 3 {
		t.Fatal(got, err)
	}
	for name, fs := range map[string][][]byte{
		"swapped":    {good[0], good[2], good[1]},
		"doubled":    {good[0], good[0], good[1]},
		"lost":       {good[0], good[2]},
		"first lost": {good[1], good[2]},
	} {
		got, err := readAll(slices.Concat(fs...))
		if _, ok := errors.AsType[damage](err); !ok || len(got) > 1 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// Every flipped bit is found, and every cut.
	all := slices.Concat(good...)
	for i := range len(all) * 8 {
		b := slices.Clone(all)
		b[i/8] ^= 1 << (i % 8)
		got, err := readAll(b)
		if len(got) > 2 || errors.Is(err, io.EOF) {
			t.Errorf("bit %d: %q, %v", i, got, err)
		}
		for j, p := range got {
			if want := string(good[j][frameHead:]); p != want {
				t.Errorf("bit %d: %q, want %q", i, p, want)
			}
		}
	}
	// A flipped bit in length or type is found before the payload has arrived.
	for i := range 5 * 8 {
		b := slices.Clone(good[0][:frameHead])
		b[i/8] ^= 1 << (i % 8)
		if _, err := readAll(b); !errors.As(err, new(damage)) {
			t.Errorf("bit %d of a head: %v", i, err)
		}
	}
	for i := range all {
		if got, err := readAll(all[:i]); err == nil || len(got) == 3 {
			t.Errorf("cut at %d: %q, %v", i, got, err)
		}
	}
}

func TestFrameLimits(t *testing.T) {
	for p := purposeLink; p <= purposeRequest; p++ {
		for _, dialer := range []bool{false, true} {
			limits := limitsOf(p, dialer, 1000)
			for typ := range 256 {
				for _, over := range []bool{false, true} {
					most := -1
					if typ < len(limits) {
						most = limits[typ]
					}
					n := max(most, 0)
					if over {
						n++
					}
					f := append(beginFrame(nil, frameType(typ)), make([]byte, n)...)
					sealFrame(f, 5)
					r := frameReader{br: bufio.NewReader(bytes.NewReader(f)), seq: 5, limits: limits}
					if _, b, err := r.read(); (err == nil) != (most >= 0 && !over) || err == nil && len(b) != n {
						t.Errorf("purpose %d, dialer %v, type %d, %d bytes: %v", p, dialer, typ, n, err)
					}
				}
			}
		}
	}
}

// A claimed length takes memory only as its bytes arrive.
func TestFrameClaims(t *testing.T) {
	head := beginFrame(nil, frameRaft)
	binary.BigEndian.PutUint32(head, 1<<30)
	binary.BigEndian.PutUint16(head[5:], uint16(checkHead(0, head)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := frameReader{br: bufio.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(make([]byte, 1<<20)))), limits: limitsOf(purposeLink, false, 1<<30)}
	if _, _, err := r.read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes allocated for 1 MiB that came", n)
	}
}

func TestLargeFrames(t *testing.T) {
	for _, n := range []int{keepBytes - frameHead, keepBytes - frameHead + 1, 2*keepBytes + 5, 1 << 20} {
		p := bytes.Repeat([]byte("x"), n)
		got, err := readAll(frames(string(p))[0])
		if len(got) != 1 || got[0] != string(p) {
			t.Error(n, len(got), err)
		}
	}
}
