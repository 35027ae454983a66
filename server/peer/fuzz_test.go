package peer

import (
	"bufio"
	"bytes"
	"testing"
)

// FuzzDecode: no panic, and a message that is understood has one form: encoded again, it gives the
// same bytes.
func FuzzDecode(f *testing.F) {
	var all []byte
	for _, g := range golden {
		m := inFrame(unhex(f, g.hex))
		f.Add(m)
		all = append(all, m...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, in []byte) {
		ms, err := parseMessages(in, from, to)
		if err != nil {
			return
		}
		var again []byte
		for _, m := range ms {
			mustTravel(m, from)
			if m.GetTo() != to {
				t.Fatal("a message for another node")
			}
			again = append(again, inFrame(appendMessage(nil, m, from))...)
		}
		if !bytes.Equal(in, again) {
			t.Fatalf("%x\nagain %x", in, again)
		}
	})
}

// FuzzFrames: no panic, and only frames that were sealed pass.
func FuzzFrames(f *testing.F) {
	f.Add(bytes.Join(frames("1one", "2two"), nil))
	f.Add(frames("1one")[0][:7])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, byte(frameRaft), 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := frameReader{br: bufio.NewReader(bytes.NewReader(in)), seq: firstSeq, limits: limitsOf(purposeLink, false, 1<<16)}
		var again []byte
		for {
			typ, b, err := r.read()
			if err != nil {
				break
			}
			seq, at := r.seq-1, len(again)
			again = append(beginFrame(again, typ), b...)
			sealFrame(again[at:], seq)
		}
		if !bytes.HasPrefix(in, again) {
			t.Fatalf("%x\nagain %x", in, again)
		}
	})
}

// FuzzHello: no panic, and a hello that is understood begins with the bytes of its own encoding.
func FuzzHello(f *testing.F) {
	f.Add(helloBody(new(goodHello())))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, r := parseHello(in)
		if r != nil {
			return
		}
		if again := helloBody(&h); !bytes.HasPrefix(in, again) {
			t.Fatalf("%x\nagain %x", in, again)
		}
	})
}

// FuzzVerdict: no panic, and a welcome has no text.
func FuzzVerdict(f *testing.F) {
	f.Add(verdict(nil, nil))
	f.Add(verdict(refuse(CodeProof, "wrong"), nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, ok := refusalOf(in); ok && r == nil && len(in) != 2+macLen {
			t.Fatalf("%x is a welcome", in)
		}
	})
}
