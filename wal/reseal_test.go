package wal_test

import (
	"encoding/binary"
	"hash/crc32"
)

// reseal changes the record in the frame at the start of b, and corrects its checksum.
func reseal(b []byte, change func(record []byte)) {
	n, at := binary.Uvarint(b)
	record := b[at : at+int(n)]
	change(record)
	body := record[:len(record)-4]
	binary.LittleEndian.PutUint32(record[len(body):], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}
