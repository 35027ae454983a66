package wal_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"coord/wal"
)

// FuzzScan damages the sample's segments as ops say and appends junk. Nothing may panic, and the result must be the
// beginning of what was written, or damage.
func FuzzScan(f *testing.F) {
	// The salt is random; a fixed one makes a finding reproducible.
	base, records := fixedSample(f)
	f.Add([]byte{}, []byte{})
	f.Add([]byte{0, 3, 0, 20, 1}, []byte{})                           // a flipped bit in the last segment
	f.Add([]byte{1, 3, 0, 100, 0}, []byte("junk"))                    // a cut, and junk after it
	f.Add([]byte{2, 2, 0, 50, 90}, []byte{})                          // zeros
	f.Add([]byte{3, 1, 0, 0, 0}, make([]byte, 64))                    // a missing segment
	f.Add([]byte{4, 1, 0, 0, 2}, []byte{})                            // one segment in place of another
	f.Add([]byte{5, 3, 0, 0, 60}, []byte{0x39, 'H', 1, 0, 0, 0, 'c'}) // inserted bytes
	f.Add([]byte{6, 3, 0, 2, 9}, []byte{})                            // changed, with a right checksum
	f.Fuzz(func(t *testing.T, ops, junk []byte) {
		logs, resealed := base.clone(), false
		names := base.names()
		for ; len(ops) >= 5; ops = ops[5:] {
			name := names[int(ops[1])%len(names)]
			data, ok := logs[name]
			if !ok {
				continue
			}
			at, value := int(binary.BigEndian.Uint16(ops[2:]))%(len(data)+1), ops[4]
			switch ops[0] % 7 {
			case 0:
				if at < len(data) {
					data[at] ^= value
				}
			case 1:
				logs[name] = data[:at]
			case 2:
				clear(data[at:min(len(data), at+int(value))])
			case 3:
				delete(logs, name)
			case 4:
				if other, ok := logs[names[int(value)%len(names)]]; ok {
					logs[name] = append([]byte(nil), other...)
				}
			case 5:
				logs[name] = append(append(append([]byte(nil), data[:at]...), make([]byte, value)...), data[at:]...)
			case 6:
				if n, m := binary.Uvarint(data); m > 0 && n > 40 && int(n)+m <= len(data) {
					resealed = true
					reseal(data, func(record []byte) { record[at%(len(record)-4)] ^= value })
				}
			}
		}
		if tail := names[len(names)-1]; logs[tail] != nil {
			logs[tail] = append(slices.Clip(logs[tail]), junk...)
		}
		dir := ramDir(t)
		for name, data := range logs {
			must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
		var seen []wal.Record
		found, err := wal.Scan(dir, func(r *wal.Record) error {
			seen = append(seen, *r)
			return nil
		})
		var damage *wal.DamageError
		switch {
		case errors.As(err, &damage), errors.Is(err, wal.ErrNewerFormat) && resealed:
			return
		case err != nil:
			t.Fatal(err)
		case resealed:
			return
		}
		for i, r := range seen {
			if i >= len(records) || r.Sequence != records[i].Sequence || r.Checksum != records[i].Checksum {
				t.Fatalf("record %d is not what was written: %+v", i, r)
			}
		}
		if want := modelOf(records[:len(seen)]); found.Last != want.last() || found.HardState != want.state {
			t.Fatalf("found %+v, want %d and %+v", found, want.last(), want.state)
		}
	})
}

// fixedSample returns the sample with a salt, and so with checksums, that do not change from run to
// run.
func fixedSample(f *testing.F) (folder, []scanned) {
	dir := f.TempDir()
	logs, _, _ := sample(f, dir)
	var previous uint32
	for _, name := range logs.names() {
		for data := logs[name]; len(data) > 0; {
			n, m := binary.Uvarint(data)
			reseal(data, func(record []byte) {
				copy(record[4:], "salt")
				binary.LittleEndian.PutUint32(record[8:], previous)
			})
			data = data[m+int(n):]
			previous = binary.LittleEndian.Uint32(logs[name][len(logs[name])-len(data)-4:])
		}
	}
	logs.write(f, dir)
	return logs, scanAll(f, dir)
}
