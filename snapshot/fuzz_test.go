package snapshot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"coord/tree"
)

// FuzzRead gives the reader any bytes: it must not panic or allocate by what it has not read, and a
// state that it accepts must be the same after being written and read again.
func FuzzRead(f *testing.F) {
	golden, err := filepath.Glob("testdata/*.coord")
	if err != nil || len(golden) == 0 {
		f.Fatal(err, golden)
	}
	for _, path := range golden {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkRead(t, b) })
}

// FuzzPayload gives the reader any records, with all checksums right.
func FuzzPayload(f *testing.F) {
	good := takeApart(f, encode(f, testMeta(), smallState(f)))
	for i := range good.frames {
		f.Add(i, good.frames[i].payload, false)
		f.Add(i, good.frames[i].payload, true)
	}
	f.Fuzz(func(t *testing.T, i int, payload []byte, compressed bool) {
		m := testMeta()
		m.Codec = Zstd
		file := takeApart(t, encode(t, m, smallState(t)))
		fr := &file.frames[uint(i)%uint(len(file.frames))]
		fr.payload = payload
		if compressed { // the fuzzer's bytes are stored, not compressed ones
			fr.flags, fr.stored, fr.raw = flagCritical|flagCompressed, payload, uint32(len(payload))
		}
		file.keep.index, file.keep.end = true, true
		checkRead(t, file.bytes())
	})
}

func checkRead(t *testing.T, b []byte) {
	got, m, s, err := Read(bytes.NewReader(b))
	for l := Checksum; l <= Restore; l++ {
		if at := levelErr(b, l); at != nil && err == nil {
			t.Errorf("%v: %v", l, at)
		}
	}
	_, _ = ReadSubtree(bytes.NewReader(b), int64(len(b)), "/app", func(*tree.Node) error { return nil })
	if err != nil {
		var damage *DamageError
		var foreign *ForeignError
		var newer *NewerError
		if !errors.As(err, &damage) && !errors.As(err, &foreign) && !errors.As(err, &newer) {
			t.Errorf("%T %v", err, err)
		}
		return
	}
	again, _, s2 := read(t, encode(t, m, got.Freeze()))
	if again.Digest() != got.Digest() || s2.Znodes != s.Znodes || s2.Digest != s.Digest {
		t.Error("another state the second time")
	}
}
