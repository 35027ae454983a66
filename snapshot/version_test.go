package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// newerRecords adds a field to every record of a file, as a newer minor version may.
func newerRecords(tb testing.TB, file []byte) []byte {
	f := takeApart(tb, file)
	binary.BigEndian.PutUint16(f.header[10:], Minor+1)
	for i := range f.frames {
		fr := &f.frames[i]
		if fr.typ == FrameACLs { // its records are lists, whose entries may grow
			continue
		}
		var d decoder
		var out []byte
		d.reset(fr.payload)
		for d.more() {
			start := d.off
			if err := d.dec.Skip(); err != nil {
				tb.Fatal(err)
			}
			record := d.b[start:d.off]
			out = append(out, record[0]+1) // a short array has its count in its first byte
			out = append(out, record[1:]...)
			out = append(out, 0x92, 0xa1, 'x', 0x81, 0xc0, 0xcb, 1, 2, 3, 4, 5, 6, 7, 8) // ["x", {nil: 0.0…}]
		}
		fr.payload = out
	}
	f.keep.index = false
	return f.bytes()
}

func TestNewerVersions(t *testing.T) {
	t.Parallel()
	file := encode(t, testMeta(), smallState(t))
	want, _, _ := read(t, file)
	ancillary := forgedFrame{typ: 77, payload: []byte{0xc1, 0xff, 0xff}}
	critical := forgedFrame{typ: 77, flags: flagCritical, payload: []byte{1}}
	for name, c := range map[string]struct {
		change func(*forgery)
		newer  string // part of a NewerError, "" if the file must be readable
	}{
		"minor":  {func(f *forgery) { f.header[11] = 9 }, ""},
		"major":  {func(f *forgery) { f.header[9] = 2 }, "format 2.3"},
		"kind":   {func(f *forgery) { f.header[16] = byte(KindIncremental) }, "kind 2"},
		"codec":  {func(f *forgery) { f.header[17] = 2 }, "codec 2"},
		"cipher": {func(f *forgery) { f.header[18] = 1 }, "cipher 1"},
		"hash":   {func(f *forgery) { f.header[19] = 2 }, "hash 2"},
		"longer header": {func(f *forgery) {
			f.header = slices.Insert(f.header, headerBytes-4, bytes.Repeat([]byte{7}, 64)...)
			binary.BigEndian.PutUint32(f.header[12:], headerBytes+64)
		}, ""},
		"ancillary frames": {func(f *forgery) {
			for i := len(f.frames) - 1; i > 0; i-- {
				f.frames = slices.Insert(f.frames, i, ancillary)
			}
		}, ""},
		"critical frame":     {func(f *forgery) { f.frames = slices.Insert(f.frames, 2, critical) }, "frames of type 77"},
		"unknown frame flag": {func(f *forgery) { f.frames[1].flags |= 1 << 5 }, "flags 0x21"},
	} {
		f := takeApart(t, file)
		c.change(f)
		b := f.bytes()
		got, _, _, err := Read(bytes.NewReader(b))
		var newer *NewerError
		switch {
		case c.newer == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.newer == "" && got.Digest() != want.Digest():
			t.Errorf("%s: another state", name)
		case c.newer == "":
			checkSubtree(t, b, want.Freeze(), "/app")
		case !errors.As(err, &newer) || !strings.Contains(err.Error(), "needs a newer coord: it has "+c.newer):
			t.Errorf("%s: %v", name, err)
		case name != "major" && !strings.Contains(err.Error(), "coord-test 1.2.3"):
			t.Errorf("%s: %v does not say who wrote it", name, err)
		}
	}
	got, _, _ := read(t, newerRecords(t, file))
	if got.Digest() != want.Digest() {
		t.Error("longer records: another state")
	}
}

var update = flag.Bool("update", false, "write the golden files of the current version anew")

// TestGolden reads a file of each released version of the format, for ever, and checks that the
// writer makes the same bytes as before for the current version.
func TestGolden(t *testing.T) {
	t.Parallel()
	f := smallState(t)
	for _, c := range []struct {
		name  string
		minor uint16
		codec Codec
	}{{"v1.0-plain.coord", 0, Plain}, {"v1.0-zstd.coord", 0, Zstd}, {"v1.1-plain.coord", 1, Plain}, {"v1.1-zstd.coord", 1, Zstd},
		{"v1.2-plain.coord", 2, Plain}, {"v1.2-zstd.coord", 2, Zstd}, {"v1.3-plain.coord", 3, Plain}, {"v1.3-zstd.coord", 3, Zstd}} {
		name, codec := c.name, c.codec
		path := filepath.Join("testdata", name)
		m := testMeta()
		m.Codec = codec
		now := encode(t, m, f)
		if *update && c.minor == Minor {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, now, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, meta, _, err := ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(listOf(got.Freeze()), listOf(f)) {
			t.Errorf("%s holds another state than it did", name)
		}
		m.ofState(f)
		if c.minor < 2 {
			m.Conf.Removed = nil
		}
		if c.minor < 3 {
			m.Conf.Floors = nil
		}
		if m.Minor = c.minor; !reflect.DeepEqual(meta, m) {
			t.Errorf("%s: meta %+v\nwant %+v", name, meta, m)
		}
		// The output of zstd may change with its version.
		if codec == Plain && c.minor == Minor && !bytes.Equal(golden, now) {
			t.Errorf("%s: the writer gives other bytes now: that needs a new version number", name)
		}
	}
}

func TestForeignFiles(t *testing.T) {
	t.Parallel()
	tar := make([]byte, 1024)
	copy(tar[257:], "ustar\x0000")
	bolt := append(make([]byte, 16), 0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0)
	file := encode(t, testMeta(), smallState(t))
	random := make([]byte, 4096)
	for i := range random {
		random[i] = byte(i*i*i>>7) ^ 0xa5
	}
	for content, want := range map[string]string{
		"":                                 "is empty",
		string(make([]byte, 5000)):         "begins with zeros",
		"\x00":                             "begins with zeros",
		string(random):                     "does not begin with the magic number",
		"x":                                "does not begin with the magic number",
		"\x1f\x8b\x08\x00garbage":          "is gzip data; unpack it first",
		"\x28\xb5\x2f\xfdgarbage":          "is a zstd file",
		"{\"nodes\": []}":                  "is JSON text",
		" \n[1, 2]":                        "is JSON text",
		"ZKSN\x00\x00\x00\x02":             "is a ZooKeeper snapshot; use coord restore --from-zookeeper",
		"ZKLG\x00\x00\x00\x02":             "is a ZooKeeper transaction log",
		string(bolt):                       "bolt database, such as an etcd snapshot",
		string(tar):                        "is a tar archive",
		string(file[len(file)-8:]) + "abc": "begins with the end of a snapshot",
		strings.ReplaceAll(string(file), "\r\n", "\n"): "line ends were converted",
		string(file[1:]): "does not begin with the magic number",
	} {
		path := filepath.Join(t.TempDir(), "given.coord")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, _, err := ReadFile(path)
		var foreign *ForeignError
		if !errors.As(err, &foreign) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.20q: %v", content, err)
		}
		if _, err := Inspect(path); !errors.As(err, &foreign) {
			t.Errorf("%.20q: inspect: %v", content, err)
		}
	}
	if _, _, _, err := ReadFile(t.TempDir()); !strings.Contains(err.Error(), "is a folder") {
		t.Error(err)
	}
	if _, _, _, err := ReadFile("testdata/none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	part := filepath.Join(t.TempDir(), "snapshot-1.part")
	if err := os.WriteFile(part, file, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Verify(part, Checksum)
	wantDamage(t, "unfinished file", err)
}
