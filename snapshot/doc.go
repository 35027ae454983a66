// Package snapshot is coord's file of a whole state at one zxid, and the folder
// in which a node keeps such files. Backups and the copies that peers hand each
// other are the same file.
//
// It knows nothing of raft, the network or the log: who calls says which index
// and term the state belongs to. A Store belongs to one data folder and may be
// used by any goroutine; everything else is a function without state.
//
// # The file
//
// Numbers are big-endian, as in msgpack. docs/snapshot-format.md says what each
// field means and what may change in which version.
//
//	header   200 bytes, or as many as it says
//	frame    META      the raft configuration
//	frame    COUNTERS  zxid, epoch offset, time, settings
//	frame*   SESSIONS
//	(
//	  frame? ACLTAB    the access lists that the next NODES is the first to use
//	  frame  NODES     znodes, depth-first, children in byte order of their names
//	)*
//	frame*   INDEX     where each ACLTAB and NODES is, and its first path
//	frame    END       counts, digest of the state
//	trailer  104 bytes
//
//	header   0        8  10 12       16   17    18     19   20           24
//	         +--------+--+--+--------+----+-----+------+----+------------+
//	         | magic  |ma|mi| length |kind|codec|cipher|hash| generation |
//	         +--------+--+--+--------+----+-----+------+----+------------+
//	         24          40           56           72          80
//	         +-----------+------------+------------+-----------+----------+
//	         | backup id | cluster id | lineage id | base zxid | end zxid |
//	         +-----------+------------+------------+-----------+----------+
//	         88            104        112        120          128
//	         +-------------+----------+----------+------------+-----------+
//	         | base digest | time min | time max | raft index | raft term |
//	         +-------------+----------+----------+------------+-----------+
//	         136            144              176      184          192        196      200
//	         +--------------+----------------+--------+------------+----------+--------+
//	         | epoch offset | writer version | znodes | data bytes | reserved | CRC32C |
//	         +--------------+----------------+--------+------------+----------+--------+
//
//	frame    0      1       2     6            10        14       18
//	         +------+-------+-----+------------+---------+--------+--------+
//	         | type | flags | seq | stored len | raw len | CRC32C | stored |
//	         +------+-------+-----+------------+---------+--------+--------+
//
//	trailer  0        4             8        16          24
//	         +--------+-------------+--------+-----------+--------------+
//	         | frames | index frame | znodes | raw bytes | index offset |
//	         +--------+-------------+--------+-----------+--------------+
//	         32         36           40           56        88         92       96
//	         +----------+------------+------------+---------+----------+--------+------------+
//	         | sessions | ephemerals | end digest | SHA-256 | reserved | CRC32C | "COORDEND" |
//	         +----------+------------+------------+---------+----------+--------+------------+
//
// The CRC of a frame or trailer also covers the header's CRC, so that no part
// of one file passes in another. The SHA-256 covers every byte before it.
//
// # Trust
//
// A file is untrusted until its end: no length in it is allocated before the
// bytes are there, no msgpack is decoded before the frame's CRC and structure
// have been checked, nothing unpacks to more than its head or the file's header
// declares (only NODES may be compressed, and the header says how many znodes
// and bytes they hold), and a state counts only when its digest, computed anew,
// is the one that the END frame names.
//
// None of this is against forgery: who can write files can make a whole one.
package snapshot
