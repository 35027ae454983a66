// Package wal is the durable log of one coord node: raft's entries and hard state in checksummed, chained records, on
// the segment files of github.com/tidwall/wal.
//
// It is a journal. A record's sequence number is one more than that of the record written before it, and is not the
// raft index. So a conflicting suffix is never cut off but overridden by the records that follow, and hard state,
// snapshot marks and entries share one file and one fsync.
//
// The package does not judge what may be acknowledged (the replica's log writer does). It does not know what entries
// mean, takes no lock against a second process (the server locks the data folder), and writes no log messages: Open
// returns what it found and what it cut.
//
// One goroutine, the owner, calls Append, Mark, Reset, CompactTo and Close. Any goroutine may call FirstIndex,
// LastIndex, Term, Entries, Stats and Size at any time; they never wait for a write or an fsync. Sweep takes its time
// and belongs to a goroutine that can wait.
//
// # Bytes
//
// A segment is a file whose name is the sequence of its first record in 20 decimal digits. It is full when it reaches 4
// MiB; then it is fsynced and the next one is made at once, empty. A segment is a sequence of frames:
//
//	uvarint n | record of n bytes
//
// The last segment of an open log may have room after its records: up to 256 KiB of zeros, which the next records
// overwrite, never beyond the length at which the segment is full. An fsync of data that overwrites zeros already on
// disk changes neither the file's size nor its blocks, so it need not wait for the file system's journal: it takes a
// third to a half less time. Close cuts the room off; after a crash, Open does.
//
// A record, all numbers little endian:
//
//	 0  1  type: E H S R M
//	 1  1  version of this envelope, 1
//	 2  2  zero
//	 4  4  salt: drawn at random when the log was made, the same in all its records
//	 8  4  the checksum of the record before; 0 in record 1
//	12  8  sequence
//	20  8  synced: the last sequence known to be fsynced when this record was written
//	28  …  payload
//	 …  4  CRC-32C of everything above, from type to the end of the payload
//
// The payloads:
//
//	E  raft entry       index 8 | term 8 | commit 8 | entry type 1 | data
//	                    commit: min(what raft had committed, index-1)
//	H  hard state       term 8 | vote 8 | commit 8
//	S  snapshot made    index 8 | term 8 | zxid 8
//	R  reset            index 8 | term 8
//	                    a snapshot from elsewhere was installed: forget every earlier E, go on at index+1
//	M  meta             format 4 | cluster id 16 | node id 8 | head 8 | chain 4 | base index 8 | base term 8
//	                    head: the sequence of the first record of the log, the first of a segment
//	                    chain: the checksum of the record before head; 0 for head 1
//	                    base: the entry before the first one kept
//
// Record 1 is an M with head 1. Compaction appends S, H and an M that names the new head, and fsyncs. After that the
// segments before the head can be removed at any time, oldest first. So the records at the front do not change, and yet
// the loss of the first segments is always noticed: the last M says where the log begins and what its first record is
// chained to. tidwall's TruncateFront is not used: it rewrites the segment that stays, and removes the original before
// the copy has its name, without an fsync of the folder in between.
//
// # Recovery
//
// Open reads every byte of every segment before tidwall sees the folder:
//
//  1. The last segment is fsynced and dropped from the page cache: after a failed fsync the kernel may show bytes that
//     the disk does not have.
//  2. Each segment's name must be the sequence of its first record. Each record must follow its predecessor in sequence
//     and chain, and have the log's salt and a right checksum. A record with a right checksum in a wrong place is
//     damage, wherever it is.
//  3. The last M's head must not lie before the first record found, and the record at the head must be chained to what
//     M says. Segments before the head are the rest of an unfinished compaction: they may have gaps, and are removed.
//  4. A record that cannot be read is a torn write, and is cut, if all of this holds: it is in the last segment; no
//     intact record, before or after it, says that its sequence was synced; and it is followed either by no intact
//     record, or by one only after a whole disk sector of zeros (pages of one write reach the disk in any order; a
//     flipped bit leaves no such hole). Otherwise it is damage. If only zeros follow up to the end of the last
//     segment, they are room, unless the log would have no record.
//  5. Entries are replayed by raft's rules: there is no hole, nothing committed is overridden, and nothing beyond the
//     last entry is committed.
//  6. The log must reach Options.MustReach, and exist if Options.MustExist is set.
//  7. Only now is anything changed: the torn tail is cut and reported, room is cut, segments before the head are
//     removed, a full last segment gets its successor, and file and folder are fsynced. What remains is known to be on
//     disk.
//
// Damage is a *DamageError that names file and offset; it changes nothing. A log written by a newer coord is
// ErrNewerFormat. Files named .START and .END (left by a truncation of tidwall, which this package never asks for) are
// refused, because tidwall would remove segments because of them; other names are ignored.
//
// A killed process or the loss of unsynced writes can leave any of these, and Open accepts them all: no segment or an
// empty one; a torn record 1; a torn or zeroed end of the last segment; a full last segment without successor; an empty
// last segment; segments before the head; an M that names a head while nothing is removed yet.
//
// # What cannot be detected
//
// Whole records may be missing from the very end (the file cut exactly between two records of the last segment, or the
// last segments removed), or turned to zeros. They look like records never written, unless a snapshot made here lies
// beyond them (MustReach). Damage within the last batch looks like a torn write even if that batch was acknowledged,
// because only the next batch says that it was synced: it is cut, and reported. An older copy of the whole folder is a
// valid log. Peers must notice these cases.
package wal
