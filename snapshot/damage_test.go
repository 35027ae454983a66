package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"coord/tree"
	"coord/tree/znode"
)

// smallFiles returns small files, one for each codec.
func smallFiles(tb testing.TB) map[string][]byte {
	m := testMeta()
	plain := encode(tb, m, smallState(tb))
	m.Codec = Zstd
	return map[string][]byte{"plain": plain, "zstd": encode(tb, m, smallState(tb))}
}

// wantDamage fails unless err is a DamageError that says what to do.
func wantDamage(tb testing.TB, what string, err error) {
	tb.Helper()
	if d, ok := errors.AsType[*DamageError](err); !ok {
		tb.Errorf("%s: %v", what, err)
	} else if d.Reason == "" || !strings.Contains(d.Error(), "use another snapshot") || !strings.Contains(d.Error(), "at byte") {
		tb.Errorf("%s: %v", what, err)
	}
}

func readErr(file []byte) error {
	_, _, _, err := Read(bytes.NewReader(file))
	return err
}

func levelErr(file []byte, l Level) error {
	_, err := verifyReader(bytes.NewReader(file), "", l)
	return err
}

func TestEveryLength(t *testing.T) {
	t.Parallel()
	for name, file := range smallFiles(t) {
		for n := range len(file) {
			err := readErr(file[:n])
			if n == 0 {
				var foreign *ForeignError
				if !errors.As(err, &foreign) || foreign.Seems != "is empty" {
					t.Error(err)
				}
				continue
			}
			wantDamage(t, fmt.Sprint(name, " cut to ", n), err)
			wantDamage(t, fmt.Sprint(name, " cut to ", n), levelErr(file[:n], Checksum))
			if _, err := ReadSubtree(bytes.NewReader(file[:n]), int64(n), "/", nil); err == nil {
				t.Errorf("%s cut to %d: ReadSubtree finds nothing", name, n)
			}
		}
		wantDamage(t, name+" with a byte more", readErr(append(slices.Clone(file), 0)))
		wantDamage(t, name+" twice", readErr(append(slices.Clone(file), file...)))
	}
}

func TestEveryBit(t *testing.T) { // not parallel: it measures what is allocated
	for name, file := range smallFiles(t) {
		t.Run(name, func(t *testing.T) {
			b := slices.Clone(file)
			for bit := range 8 * len(b) {
				b[bit/8] ^= 1 << (bit % 8)
				var errs [2]error
				// A zstd decoder takes some memory; what matters is that no reader allocates
				// megabytes by a length that it has read.
				if n := allocated(func() { errs = [2]error{readErr(b), levelErr(b, Checksum)} }); n > 8<<20 {
					t.Errorf("bit %d: %d bytes allocated", bit, n)
				}
				for _, err := range errs {
					if bit/8 < len(magic) {
						if _, ok := errors.AsType[*ForeignError](err); !ok {
							t.Errorf("bit %d: %v", bit, err)
						}
					} else {
						wantDamage(t, fmt.Sprint("bit ", bit), err)
					}
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
			if err := readErr(b); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMisplacedFrames moves frames without changing them.
func TestMisplacedFrames(t *testing.T) {
	t.Parallel()
	f := million(t, 5_000)
	file := encode(t, testMeta(), f)
	m := testMeta()
	m.BackupID = NewID()
	other := encode(t, m, f)
	at := frameOffsets(file)
	if !slices.Equal(at, frameOffsets(other)) || len(at) < 8 {
		t.Fatal(at)
	}
	cut := func(b []byte, i int) []byte { return b[at[i]:at[i+1]] }
	for i := range len(at) - 1 {
		removed := slices.Concat(file[:at[i]], file[at[i+1]:])
		repeated := slices.Concat(file[:at[i+1]], cut(file, i), file[at[i+1]:])
		foreign := slices.Concat(file[:at[i]], cut(other, i), file[at[i+1]:])
		changed := map[string][]byte{"removed": removed, "repeated": repeated, "of another file": foreign}
		if i > 0 {
			changed["swapped"] = slices.Concat(file[:at[i-1]], cut(file, i), cut(file, i-1), file[at[i+1]:])
		}
		for how, b := range changed {
			wantDamage(t, fmt.Sprintf("frame %d %s", i, how), readErr(b))
			wantDamage(t, fmt.Sprintf("frame %d %s", i, how), levelErr(b, Checksum))
		}
	}
	end := at[len(at)-1]
	wantDamage(t, "trailer of another file", readErr(slices.Concat(file[:end], other[end:])))
	wantDamage(t, "header of another file", readErr(slices.Concat(other[:headerBytes], file[headerBytes:])))
	wantDamage(t, "two files in one", readErr(slices.Concat(file[:end], file)))
}

// frameOffsets lists where the frames of a file and its trailer begin.
func frameOffsets(file []byte) []int {
	at := []int{headerBytes}
	for end := len(file) - trailerBytes; at[len(at)-1] < end; {
		i := at[len(at)-1]
		at = append(at, i+frameHeadBytes+int(binary.BigEndian.Uint32(file[i+6:])))
	}
	return at
}

// TestForgedOrder puts frames into another order and corrects all checksums.
func TestForgedOrder(t *testing.T) {
	t.Parallel()
	file := encode(t, testMeta(), million(t, 5_000))
	want, _, _ := read(t, file)
	n := len(takeApart(t, file).frames)
	if err := readErr(takeApart(t, file).bytes()); err != nil {
		t.Fatalf("the forger itself: %v", err)
	}
	for i := range n {
		for how, change := range map[string]func([]forgedFrame) []forgedFrame{
			"removed":  func(f []forgedFrame) []forgedFrame { return slices.Delete(f, i, i+1) },
			"repeated": func(f []forgedFrame) []forgedFrame { return slices.Insert(f, i, f[i]) },
			"swapped": func(f []forgedFrame) []forgedFrame {
				f[i], f[(i+1)%n] = f[(i+1)%n], f[i]
				return f
			},
			"emptied": func(f []forgedFrame) []forgedFrame {
				f[i].payload = nil
				return f
			},
		} {
			f := takeApart(t, file)
			if how == "removed" && f.frames[i].typ == FrameEnd {
				continue
			}
			f.frames = change(f.frames)
			for len(f.frames) > 0 && f.frames[len(f.frames)-1].typ != FrameEnd {
				f.frames = f.frames[:len(f.frames)-1] // otherwise the reader stops at END and reports that more follows
			}
			b := f.bytes()
			if got, _, _, err := Read(bytes.NewReader(b)); err == nil {
				// An access list may come earlier than necessary, and the forger fills in INDEX;
				// but the state must never differ.
				if typ := f.frames[i].typ; got.Digest() != want.Digest() || typ != FrameACLs && typ != FrameIndex {
					t.Errorf("frame %d %s: nothing found", i, how)
				}
				continue
			}
			wantDamage(t, fmt.Sprintf("frame %d %s", i, how), levelErr(b, Decode))
			wantDamage(t, fmt.Sprintf("frame %d %s", i, how), readErr(b))
		}
	}
}

// TestForgedContent changes the records and corrects all checksums: only the state's own digest, or
// a rule of the state, can show the change.
func TestForgedContent(t *testing.T) {
	t.Parallel()
	file := encode(t, testMeta(), smallState(t))
	swap := func(typ FrameType, old, new string) func(*forgery) {
		return func(f *forgery) {
			p := &f.frames[f.find(typ)].payload
			if bytes.Count(*p, []byte(old)) != 1 {
				t.Fatalf("%q is not once in %v", old, typ)
			}
			*p = bytes.Replace(*p, []byte(old), []byte(new), 1)
		}
	}
	header := func(at int, b byte) func(*forgery) { return func(f *forgery) { f.header[at] ^= b } }
	for name, c := range map[string]struct {
		change func(*forgery)
		least  Level // the lowest level that finds it
	}{
		"data":              {swap(FrameNodes, "hello", "hallo"), Restore},
		"data that is null": {swap(FrameNodes, "0000000011\xc0", "0000000011\xc4\x00"), Restore},
		"path":              {swap(FrameNodes, "app", "apq"), Restore},
		"order":             {swap(FrameNodes, "app", "zzz"), Decode},
		"nothing":           {func(*forgery) {}, Restore + 1},
		"control character": {swap(FrameNodes, "app", "a\x01p"), Decode},
		"ACL":               {swap(FrameACLs, "ann", "bob"), Restore},
		"password":          {swap(FrameSessions, "\x01\x02\x03", "\x01\x02\x04"), Restore},
		"owner's session":   {swap(FrameSessions, "\x00\x00\x00\xa1", "\x00\x00\x00\xa2"), Restore},
		"settings":          {swap(FrameCounters, "\xc3\xc3\xc2", "\xc3\xc2\xc2"), Restore},
		"zxid":              {header(87, 1), Decode},
		"epoch offset":      {header(143, 1), Decode},
		"time":              {header(119, 1), Decode},
		"more znodes":       {header(183, 1<<7), Checksum},
		"fewer znodes":      {func(f *forgery) { f.header[183]-- }, Checksum},
		"more data":         {header(191, 1<<7), Decode},
		"less data":         {func(f *forgery) { f.header[191]-- }, Decode},
		"trailer's digest":  {func(f *forgery) { f.trail = func(b []byte) { b[40] ^= 1 } }, Checksum},
		"trailer's znodes":  {func(f *forgery) { f.trail = func(b []byte) { b[15] ^= 1 } }, Checksum},
		"trailer's index":   {func(f *forgery) { f.trail = func(b []byte) { b[31] ^= 1 } }, Checksum},
		"trailer's frames":  {func(f *forgery) { f.trail = func(b []byte) { b[3] ^= 1 } }, Checksum},
		"END's digest":      {func(f *forgery) { f.frames[f.find(FrameEnd)].payload[20] ^= 1 }, Restore},
		"END's counts": {func(f *forgery) {
			f.keep.end = true
			f.frames[f.find(FrameEnd)].payload[1]++
		}, Checksum},
		"INDEX": {func(f *forgery) {
			f.keep.index = true
			p := f.frames[f.find(FrameIndex)].payload
			p[len(p)-1] = 'x'
		}, Decode},
		"INDEX with less": {func(f *forgery) {
			f.keep.index = true
			p := newPage()
			p.indexEntry(&indexEntry{typ: FrameACLs, seq: 3, offset: 0})
			f.frames[f.find(FrameIndex)].payload = p.b[frameHeadBytes:]
		}, Decode},
		"two METAs in one": {func(f *forgery) {
			p := &f.frames[f.find(FrameMeta)].payload
			*p = append(*p, *p...)
		}, Decode},
		"ACL out of the table": {func(f *forgery) { f.frames = slices.Delete(f.frames, 3, 4) }, Decode},
	} {
		f := takeApart(t, file)
		c.change(f)
		b := f.bytes()
		for l := Checksum; l <= Restore; l++ {
			if err := levelErr(b, l); l < c.least {
				if err != nil {
					t.Errorf("%s at %v: %v", name, l, err)
				}
			} else {
				wantDamage(t, fmt.Sprint(name, " at ", l), err)
			}
		}
	}
}

// forgeNodes makes a file whose first NODES frame holds the given bytes.
func forgeNodes(tb testing.TB, payload []byte) []byte {
	f := takeApart(tb, encode(tb, testMeta(), smallState(tb)))
	f.frames[f.find(FrameNodes)].payload = payload
	return f.bytes()
}

// allocated is how many bytes a reading allocates.
func allocated(read func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	read()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestBombs(t *testing.T) { // not parallel: it measures what is allocated
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(FrameBytes))
	if err != nil {
		t.Fatal(err)
	}
	wide, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 200<<20)
	bomb := enc.EncodeAll(zeros, nil)
	far := wide.EncodeAll(append(zeros[:48<<20:48<<20], 1), nil)
	zeros = nil
	compressed := func(stored []byte, raw uint32) []byte {
		m := testMeta()
		m.Codec = Zstd
		f := takeApart(t, encode(t, m, smallState(t)))
		fr := &f.frames[f.find(FrameNodes)]
		fr.flags, fr.stored, fr.raw = flagCritical|flagCompressed, stored, raw
		return f.bytes()
	}
	node := newPage()
	node.node(&place{}, &tree.Node{Path: "/"}, 0)
	valid := node.b[frameHeadBytes:]
	withField := func(field ...byte) []byte { // a 14th field, which a reader skips
		b := append([]byte{0x90 | nodeFields + 1}, valid[1:]...)
		return append(b, field...)
	}
	const small = 4 << 20
	for name, c := range map[string]struct {
		file []byte
		most uint64
	}{
		"zstd of 200 MiB that says 256 KiB":   {compressed(bomb, FrameBytes), small},
		"zstd of 200 MiB that says the most":  {compressed(bomb, MaxRecordBytes), 3 * MaxRecordBytes},
		"zstd with a window of 48 MiB":        {compressed(far, 48<<20+1), small},
		"zstd of nothing that says the most":  {compressed(enc.EncodeAll([]byte("abc"), nil), MaxRecordBytes), small},
		"not zstd":                            {compressed([]byte("abcabcabc"), 100), small},
		"bytes of 4 GiB":                      {forgeNodes(t, append(slices.Clone(valid[:4]), 0xc6, 0xff, 0xff, 0xff, 0xff)), small},
		"string of 4 GiB":                     {forgeNodes(t, []byte{0x9d, 0, 0xdb, 0xff, 0xff, 0xff, 0xff}), small},
		"array of 4 G":                        {forgeNodes(t, []byte{0xdd, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}), small},
		"array of 16 M":                       {forgeNodes(t, append([]byte{0xdd, 1, 0, 0, 0}, make([]byte, 1000)...)), small},
		"map of 4 G":                          {forgeNodes(t, []byte{0xdf, 0xff, 0xff, 0xff, 0xff}), small},
		"extension of 4 GiB":                  {forgeNodes(t, withField(0xc9, 0xff, 0xff, 0xff, 0xff, 1)), small},
		"arrays nested 200,000 deep":          {forgeNodes(t, withField(bytes.Repeat([]byte{0x91}, 200_000)...)), small},
		"arrays nested 17 deep":               {forgeNodes(t, withField(append(bytes.Repeat([]byte{0x91}, maxNesting), 1)...)), small},
		"a length that is cut":                {forgeNodes(t, []byte{0xdd, 0xff}), small},
		"no msgpack":                          {forgeNodes(t, []byte{0xc1, 0xc1}), small},
		"not a record":                        {forgeNodes(t, []byte("abc")), small},
		"a record too short":                  {forgeNodes(t, []byte{0x92, 0, 0xa1, '/'}), small},
		"a path that builds on nothing":       {forgeNodes(t, append([]byte{0x9d, 5}, valid[2:]...)), small},
		"a path that builds on less than 0":   {forgeNodes(t, append([]byte{0x9d, 0xff}, valid[2:]...)), small},
		"text where a number should be":       {forgeNodes(t, append([]byte{0x9d, 0xa0}, valid[2:]...)), small},
		"a number where a path should be":     {forgeNodes(t, append([]byte{0x9d, 0, 7}, valid[4:]...)), small},
		"a number too large for its field":    {forgeNodes(t, bytes.Join([][]byte{valid[:len(valid)-4], {0xcf, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}, nil)), small},
		"more records than a frame may have":  {forgeNodes(t, bytes.Repeat(valid, FrameBytes/len(valid)+1)), 64 << 20},
		"a path longer than a path may be":    {forgeNodes(t, longPath()), small},
		"an access list that is not there":    {forgeNodes(t, bytes.Replace(valid, []byte{0xc0, 0}, []byte{0xc0, 77}, 1)), small},
		"ACLTAB with a list of 4 G":           {forgeACLs(t, []byte{0xdd, 0xff, 0xff, 0xff, 0xff}), small},
		"SESSIONS with a password of 3 bytes": {forgeSessions(t, []byte{0x93, 5, 6, 0xc4, 3, 1, 2, 3}), small},
	} {
		var err error
		if n := allocated(func() { err = readErr(c.file) }); n > c.most {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
		wantDamage(t, name, err)
		wantDamage(t, name, levelErr(c.file, Decode))
	}
}

func longPath() []byte {
	p := newPage()
	p.node(&place{}, &tree.Node{Path: "/" + strings.Repeat("x", znode.MaxPathBytes)}, 0)
	return p.b[frameHeadBytes:]
}

func forgeACLs(tb testing.TB, payload []byte) []byte {
	f := takeApart(tb, encode(tb, testMeta(), smallState(tb)))
	f.frames[f.find(FrameACLs)].payload = payload
	return f.bytes()
}

func forgeSessions(tb testing.TB, payload []byte) []byte {
	f := takeApart(tb, encode(tb, testMeta(), smallState(tb)))
	f.frames[f.find(FrameSessions)].payload = payload
	return f.bytes()
}

// TestImpossibleLengths sets each length field of each frame head to the most harmful values; no
// reading may allocate by them.
func TestImpossibleLengths(t *testing.T) { // not parallel: it measures what is allocated
	file := encode(t, testMeta(), smallState(t))
	at := frameOffsets(file)
	for _, v := range []uint32{0, 1, 1 << 20, MaxRecordBytes, MaxRecordBytes + 1, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		for _, i := range at[:len(at)-1] {
			for _, fields := range [][]int{{6}, {10}, {6, 10}} {
				b := slices.Clone(file)
				for _, field := range fields {
					binary.BigEndian.PutUint32(b[i+field:], v)
				}
				var err error
				if n := allocated(func() { err = readErr(b) }); n > 4<<20 {
					t.Errorf("length %d at %d: %d bytes allocated", v, i, n)
				}
				wantDamage(t, fmt.Sprintf("length %d at %d", v, i), err)
			}
		}
		b := slices.Clone(file)
		binary.BigEndian.PutUint32(b[12:], v)
		wantDamage(t, fmt.Sprintf("header length %d", v), readErr(b))
	}
}
